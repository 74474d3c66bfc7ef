"""Files of others laid beside our books: what was sent, how far it is, and what differs. No money hangs on any of it."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Boolean, ForeignKeyConstraint, Index, text
from sqlmodel import Field, SQLModel

from service.domain.reconciliation import About, DifferenceKind, Explanation, LineKind
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    count,
    day,
    document,
    document_or_none,
    key,
    listing,
    minor,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class ReconciliationState(StrEnum):
    AWAITING_FILES = "awaiting_files"
    """Not all of its files have been sent to their end."""
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ReconciliationStage(StrEnum):
    """What a reconciliation does next."""

    ORDERS_FILE = "orders_file"
    """Read the file of orders."""
    BANK_FILE = "bank_file"
    """Read the bank's lines."""
    ORDERS = "orders"
    """Compare each order of the file with ours."""
    EXTRA_ORDERS = "extra_orders"
    """Look for orders of ours that the file does not have."""
    PAYOUTS = "payouts"
    """Compare each payout that lines name with ours."""
    LINES = "lines"
    """Look at lines that name no payout."""
    EXTRA_PAYOUTS = "extra_payouts"
    """Look for payouts of ours that no line names."""


class FileKind(StrEnum):
    ORDERS = "orders"
    BANK = "bank"


class ReconciliationRow(SQLModel, table=True):
    """Files of some days laid beside our books."""

    __tablename__ = "reconciliation"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        one_of("state", ReconciliationState),
        one_of("stage", ReconciliationStage),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    begins_on: date = day()
    until: date = day()
    """The last day, included."""
    source_id: UUID | None = ref(nullable=True)
    """Whose orders the file of orders has; null where there is none."""
    mapping: Json | None = document_or_none()
    """How that file is read."""
    bank_format: str | None = words_or_none()
    """How the bank's file is written; null where there is none."""
    only_payouts: bool = Field(sa_type=Boolean, nullable=False)
    """Every line of the bank's file should be a payout of ours."""
    rail: str | None = words_or_none()
    """Whose payouts the bank's file has; null: of all rails."""
    currency: str | None = words_or_none()
    """Of the account that the bank's file is of; null: all currencies."""
    files: Json = document()
    """Kind of file → true, once it was sent to its end."""
    state: str = words()
    stage: str = words()
    page: int = count()
    """One more with each unit of work that added something, so that none is added twice."""
    cursor: Json = document()
    """Where the next page of its stage begins."""
    read: int = count()
    """Orders and lines that were read so far."""
    compared: int = count()
    """Orders and payouts that were compared so far."""
    left_out: int = count()
    """Lines that name no payout, of an account that pays other things too."""
    rows_refused: int = count()
    refusals: list[Json] = listing()
    """The first rows that could not be read, with why."""
    error_code: str | None = words_or_none()
    error_detail: str = words()
    created_by: UUID = ref()
    created_at: datetime = moment()
    started_at: datetime | None = moment_or_none()
    finished_at: datetime | None = moment_or_none()


class ReconciliationDifferenceRow(SQLModel, table=True):
    """One thing that differs; kept for ever."""

    __tablename__ = "reconciliation_difference"
    __table_args__ = (
        belongs_to("reconciliation", "reconciliation_id"),
        one_of("about", About),
        one_of("kind", DifferenceKind),
        one_of("explained_by", Explanation),
        Index("reconciliation_difference_of_ix", "merchant_id", "reconciliation_id", "id"),
        Index(
            "reconciliation_difference_open_ix",
            "merchant_id",
            "about",
            "external_id",
            postgresql_where=text("explained_by IS NULL AND note_at IS NULL"),
        ),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    reconciliation_id: UUID = ref()
    about: str = words()
    kind: str = words()
    external_id: str = words()
    """The shop's id of the order, or what the bank calls the payment."""
    order_id: UUID | None = ref(nullable=True)
    item_id: UUID | None = ref(nullable=True)
    """The payout."""
    currency: str = words()
    theirs_minor: int | None = minor_or_none()
    ours_minor: int | None = minor_or_none()
    theirs: Json | None = document_or_none()
    """What the file says."""
    ours: Json | None = document_or_none()
    """What is here, with the commissions that hang on it."""
    rows: list[int] = listing()
    """Rows of the file it stands in, the first few."""
    explained_by: str | None = words_or_none()
    explained_ref: str = words()
    note: str = words()
    """A person's explanation."""
    note_by: UUID | None = ref(nullable=True)
    """The key that gave it."""
    note_at: datetime | None = moment_or_none()


class ReconciliationPartRow(SQLModel, table=True):
    """A part of a file, compressed; gone when the reconciliation ends."""

    __tablename__ = "reconciliation_part"
    __table_args__ = (belongs_to("reconciliation", "reconciliation_id"), one_of("file", FileKind))

    merchant_id: UUID = key()
    reconciliation_id: UUID = key()
    file: str = words(primary_key=True)
    number: int = count(primary_key=True)
    """From 1; the file is its parts one behind the other."""
    size_bytes: int = count()
    """Before compression."""
    body: bytes = blob()


class ReconciliationOrderRow(SQLModel, table=True):
    """An order of the file with all that the file tells of it; gone when the reconciliation ends."""

    __tablename__ = "reconciliation_order"
    __table_args__ = (belongs_to("reconciliation", "reconciliation_id"),)

    merchant_id: UUID = key()
    reconciliation_id: UUID = key()
    name: str = words(primary_key=True)
    """The shop's id of the order."""
    facts: bytes = blob()
    """JSON, compressed."""
    times: int = count()
    """How often the order itself was told."""
    is_same: bool = Field(sa_type=Boolean, nullable=False)
    """It was told the same each time."""
    commission_minor: int | None = minor_or_none()
    """What its newest version says that commissions come to, in the order's currency; null where the file does not tell."""
    rows: list[int] = listing()
    """Rows it stands in, the first few."""


class ReconciliationLineRow(SQLModel, table=True):
    """A line of the bank's file; gone when the reconciliation ends."""

    __tablename__ = "reconciliation_line"
    __table_args__ = (
        belongs_to("reconciliation", "reconciliation_id"),
        one_of("kind", LineKind),
        Index("reconciliation_line_item_ix", "merchant_id", "reconciliation_id", "item_id"),
    )

    merchant_id: UUID = key()
    reconciliation_id: UUID = key()
    number: int = count(primary_key=True)
    """Its row, or its place among a statement's entries."""
    booked_on: date = day()
    kind: str = words()
    reference: str = words()
    end_to_end_id: str = words()
    currency: str = words()
    amount_minor: int = minor()
    item_id: UUID | None = ref(nullable=True)
    """The payout it names; null where it names none that is here."""
