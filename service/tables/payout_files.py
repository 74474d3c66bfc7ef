"""Files of payouts: who pays, by which column map, the frozen bytes, their lines, and what banks and people say of those."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKeyConstraint, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.payout_file import Attested, FileRailName, FileState, Said
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    count,
    count_or_none,
    document,
    key,
    minor,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class PayerAccountRow(SQLModel, table=True):
    """The merchant's own account, from which files of a rail are paid. Append-only: the newest version counts."""

    __tablename__ = "payer_account"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        one_of("rail", FileRailName),
        CheckConstraint("version > 0", name="version"),
    )

    merchant_id: UUID = key()
    rail: str = words(primary_key=True)
    version: int = count(primary_key=True)
    account: bytes = blob()
    """A destination as text, encrypted."""
    hint: str = words()
    """The last characters, for people."""
    created_by: UUID = ref()
    created_at: datetime = moment()


class PayoutTemplateRow(SQLModel, table=True):
    """A merchant's own column map for a rail of sheets. Append-only: the newest version counts."""

    __tablename__ = "payout_template"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        one_of("rail", FileRailName),
        CheckConstraint("version > 0", name="version"),
    )

    merchant_id: UUID = key()
    rail: str = words(primary_key=True)
    version: int = count(primary_key=True)
    template: Json = document()
    created_by: UUID = ref()
    created_at: datetime = moment()


class PayoutFileRow(SQLModel, table=True):
    """A file of payouts of one run: frozen when it is built."""

    __tablename__ = "payout_file"
    __table_args__ = (
        belongs_to("payout_run", "run_id"),
        UniqueConstraint("merchant_id", "run_id", "number"),
        UniqueConstraint("merchant_id", "message_id"),
        one_of("state", FileState),
        CheckConstraint(
            "(state = 'handed_over') = (handed_over_at IS NOT NULL) AND (state = 'handed_over') = (downloads > 0)"
            " AND (handed_over_at IS NULL) = (handed_over_by IS NULL)",
            name="handed_over",
        ),
        CheckConstraint("(state = 'void') = (voided_at IS NOT NULL)", name="voided"),
        CheckConstraint("lines > 0 AND control_sum_minor > 0", name="lines"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    run_id: UUID = ref()
    number: int = Field(sa_type=Integer, nullable=False)
    """Of the run's files, from 1."""
    rail: str = words()
    state: str = words()
    message_id: str = words()
    """What the bank knows it by; never used again."""
    template_version: int = count()
    """Of the merchant's column map; 0 for what the rail comes with."""
    payer_version: int | None = count_or_none()
    currency: str = words()
    control_sum_minor: int = minor()
    lines: int = count()
    file_name: str = words()
    media_type: str = words()
    content: bytes = blob()
    """The bytes, encrypted: they name accounts."""
    sha256: str = words()
    """Of the bytes."""
    built_at: datetime = moment()
    handed_over_at: datetime | None = moment_or_none()
    handed_over_by: UUID | None = ref(nullable=True)
    downloads: int = count()
    voided_at: datetime | None = moment_or_none()


class PayoutFileLineRow(SQLModel, table=True):
    """One payment of a file."""

    __tablename__ = "payout_file_line"
    __table_args__ = (
        belongs_to("payout_file", "file_id"),
        belongs_to("payout_item", "item_id"),
        belongs_to("payout_attempt", "attempt_id"),
        UniqueConstraint("merchant_id", "end_to_end_id"),
        # An attempt stands in one file for ever: another file takes another attempt.
        UniqueConstraint("merchant_id", "attempt_id"),
    )

    merchant_id: UUID = key()
    file_id: UUID = key()
    line: int = Field(sa_type=Integer, primary_key=True)
    item_id: UUID = ref()
    attempt_id: UUID = ref()
    end_to_end_id: str = words()
    amount_minor: int = minor()


class PayoutResultRow(SQLModel, table=True):
    """What a bank answered to a file, byte for byte."""

    __tablename__ = "payout_result"
    __table_args__ = (
        belongs_to("payout_file", "file_id"),
        UniqueConstraint("merchant_id", "file_id", "sha256"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    file_id: UUID = ref()
    sha256: str = words()
    format: str = words()
    content: bytes = blob()
    """The bytes, encrypted: they name accounts."""
    lines: int = count()
    imported_by: UUID = ref()
    imported_at: datetime = moment()


class PayoutLineFactRow(SQLModel, table=True):
    """What a bank said of a line; never deleted. Told again it changes nothing."""

    __tablename__ = "payout_line_fact"
    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "file_id", "line"],
            ["payout_file_line.merchant_id", "payout_file_line.file_id", "payout_file_line.line"],
        ),
        belongs_to("payout_result", "result_id"),
        one_of("said", Said),
    )

    merchant_id: UUID = key()
    file_id: UUID = key()
    line: int = Field(sa_type=Integer, primary_key=True)
    said: str = words(primary_key=True)
    amount_minor: int = minor(primary_key=True)
    """The line's, or all that came back so far."""
    reason: str = words()
    booked_on: date | None = Field(default=None, sa_type=Date, nullable=True)
    result_id: UUID = ref()
    told_at: datetime = moment()


class PayoutAttestationRow(SQLModel, table=True):
    """What a person says of a line by evidence; it counts once another has confirmed it."""

    __tablename__ = "payout_attestation"
    __table_args__ = (
        belongs_to("payout_attempt", "attempt_id"),
        Index(
            "payout_attestation_open_ix",
            "merchant_id",
            "attempt_id",
            unique=True,
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
        one_of("outcome", Attested),
        CheckConstraint("confirmed_by IS NULL OR confirmed_by <> attested_by", name="two_persons"),
        CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint("confirmed_at IS NULL OR withdrawn_at IS NULL", name="withdrawn"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    attempt_id: UUID = ref()
    outcome: str = words()
    evidence: str = words()
    """Where it can be seen, such as the number of a bank statement."""
    attested_by: UUID = ref()
    attested_at: datetime = moment()
    confirmed_by: UUID | None = ref(nullable=True)
    confirmed_at: datetime | None = moment_or_none()
    withdrawn_at: datetime | None = moment_or_none()
    """Since when another attestation of the line has taken its place."""
    note: str | None = words_or_none()
    """What the one who confirmed it looked at."""
