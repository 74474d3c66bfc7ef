"""Statements of payees: the numbered documents, what people said to them, and what issues many of them."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    blob_or_none,
    count,
    count_or_none,
    day,
    document,
    document_or_none,
    key,
    listing,
    minor,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class StatementSettingsRow(SQLModel, table=True):
    """What a merchant's statements say of the merchant. Statements that are issued keep what they say."""

    __tablename__ = "statement_settings"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        CheckConstraint("answer_days >= 0", name="answer_days"),
    )

    merchant_id: UUID = key()
    legal_name: str = words()
    """Empty: the merchant's name is shown."""
    address: str = words()
    vat_id: str = words()
    self_billing: bool = Field(nullable=False)
    """Whether statements are self-billed invoices of those who agreed to it."""
    vat_note: str = words()
    """What self-billed invoices say about VAT, in the merchant's own words."""
    answer_days: int = Field(sa_type=Integer, nullable=False)
    """How long a payee may object, in days after the day of issue."""
    updated_at: datetime = moment()


class SelfBillingAgreementRow(SQLModel, table=True):
    """That an affiliate agreed to be invoiced by the merchant, or agrees no more; append-only, the newest counts."""

    __tablename__ = "self_billing_agreement"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        Index("self_billing_agreement_affiliate_ix", "merchant_id", "affiliate_id", "id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    agreed: bool = Field(nullable=False)
    agreed_on: date = day()
    """The day of the agreement, or of its end."""
    reference: str = words()
    """Where it can be found."""
    recorded_by: UUID = ref()
    recorded_at: datetime = moment()


class StatementCounterRow(SQLModel, table=True):
    """The last number given out. Whoever issues holds this row, so numbers have no gaps and nobody is billed twice."""

    __tablename__ = "statement_counter"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),)

    merchant_id: UUID = key()
    year: int = Field(sa_type=Integer, nullable=False)
    last: int = count()


class StatementRunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class StatementRunRow(SQLModel, table=True):
    """Statements of one period asked for together."""

    __tablename__ = "statement_run"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        one_of("state", StatementRunState),
        CheckConstraint("ends_on >= begins_on", name="days"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    state: str = words()
    begins_on: date = day()
    ends_on: date = day()
    """Included."""
    currency: str | None = words_or_none()
    """Only in this one."""
    affiliate_ids: Json | None = document_or_none()
    """Only of these, under `ids`; None: of all with movements."""
    after: Json = document()
    """The last payee and currency that was seen to."""
    accounts_total: int | None = count_or_none()
    """Payees times currencies to be looked at; None until they are counted."""
    accounts_done: int = count()
    issued: int = count()
    kept: int = count()
    """There was one already, and nothing was to be added."""
    left_out: list[Json] = listing()
    """Of whom none was issued though there was something to tell, each with a reason code; the first of them."""
    left_out_total: int = count()
    error_detail: str = words()
    asked_by: UUID = ref()
    created_at: datetime = moment()
    finished_at: datetime | None = moment_or_none()


class StatementRow(SQLModel, table=True):
    """One statement; never updated or deleted."""

    __tablename__ = "statement"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("statement_run", "run_id"),
        belongs_to("statement", "replaces_id"),
        UniqueConstraint("merchant_id", "year", "number"),
        UniqueConstraint(
            "merchant_id",
            "affiliate_id",
            "currency",
            "begins_on",
            "ends_on",
            "revision",
            name="statement_period_key",
        ),
        UniqueConstraint("merchant_id", "replaces_id"),
        Index("statement_affiliate_ix", "merchant_id", "affiliate_id", "id"),
        Index("statement_run_ix", "merchant_id", "run_id", "id"),
        CheckConstraint("ends_on >= begins_on", name="days"),
        CheckConstraint("number > 0 AND revision > 0", name="number"),
        CheckConstraint("(revision = 1) = (replaces_id IS NULL)", name="revision"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    currency: str = words()
    begins_on: date = day()
    ends_on: date = day()
    """Included."""
    revision: int = Field(sa_type=Integer, nullable=False)
    """Above 1 where something was booked on its days after the one before was issued."""
    replaces_id: UUID | None = ref(nullable=True)
    year: int = Field(sa_type=Integer, nullable=False)
    number: int = count()
    """Within the merchant and year, from 1 without gaps."""
    run_id: UUID = ref()
    provisional: bool = Field(nullable=False)
    """Issued before its days were sealed."""
    legs: int = count()
    """How often the payee's accounts had been moved by its last day: one more shows that something was booked since."""
    opening_minor: int = minor()
    closing_minor: int = minor()
    self_billed: bool = Field(nullable=False)
    document: Json = document()
    """All it says, but for the supplier of a self-billed one."""
    supplier: bytes | None = blob_or_none()
    """Name, address and VAT id of the supplier of a self-billed one, encrypted."""
    digest: bytes = blob()
    """SHA-256 of the whole document, as domain.statement.digest_of makes it."""
    answer_by: date = day()
    """Last day to object."""
    issued_by: UUID = ref()
    issued_at: datetime = moment()


class StatementMark(StrEnum):
    """What became of a statement."""

    CONFIRMED = "confirmed"
    """Issued before its days were sealed, compared with the books when they were: it is the same."""
    ACCEPTED = "accepted"
    OBJECTED = "objected"


class StatementMarkRow(SQLModel, table=True):
    """What became of a statement, each once; append-only."""

    __tablename__ = "statement_mark"
    __table_args__ = (belongs_to("statement", "statement_id"), one_of("kind", StatementMark))

    merchant_id: UUID = key()
    statement_id: UUID = key()
    kind: str = words(primary_key=True)
    note: str = words()
    """The payee's own words."""
    marked_by: UUID = ref()
    marked_at: datetime = moment()
