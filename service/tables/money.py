"""Commissions, their entries, postings, kept balances and booking days."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, Index, Integer, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from service.domain.advance import AdvanceKind
from service.domain.commission import EntryKind, Place
from service.domain.ledger import AccountKind
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    count,
    day,
    document,
    document_or_none,
    key,
    minor,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
)


class CommissionRow(SQLModel, table=True):
    """What one payee earns on one subject in one currency: the target and where the posted amount stands.

    The subject is an order, or a period of a rule, whose id is then the commission's own.
    """

    __tablename__ = "commission"
    __table_args__ = (
        belongs_to("orders", "order_id"),
        belongs_to("affiliate", "payee_id"),
        belongs_to("rule_period", "period_id"),
        UniqueConstraint("merchant_id", "order_id", "payee_id", "currency"),
        Index(
            "commission_due_ix",
            "merchant_id",
            "settles_at",
            postgresql_where=text(
                "pending_minor > 0 AND settles_at IS NOT NULL"
                " AND (approved_minor IS NULL OR settled_minor < approved_minor)"
            ),
        ),
        Index("commission_payee_ix", "merchant_id", "payee_id", "id"),
        Index(
            "commission_advance_ix",
            "merchant_id",
            "advance_at",
            postgresql_where=text("pending_minor > 0 AND advance_at IS NOT NULL"),
        ),
        CheckConstraint("pending_minor + held_minor + settled_minor = target_minor", name="posted"),
        CheckConstraint(
            "(order_id IS NULL) <> (period_id IS NULL) AND (period_id IS NULL OR period_id = id)", name="subject"
        ),
        Index("commission_program_ix", "merchant_id", "program_id", "placed_at"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    order_id: UUID | None = ref(nullable=True)
    payee_id: UUID = ref()
    currency: str = words()
    program_id: UUID | None = ref(nullable=True)
    program_version: int | None = Field(default=None, sa_type=Integer, nullable=True)
    target_minor: int = minor()
    pending_minor: int = minor()
    held_minor: int = minor()
    settled_minor: int = minor()
    approved_minor: int | None = minor_or_none()
    """The most that may be settled; None while nobody has approved and nobody has to."""
    settles_at: datetime | None = moment_or_none()
    reason_code: str = words()
    entry_seq: int = count()
    """Number of its newest entry."""
    receipt: Json = document()
    outlook: Json | None = document_or_none()
    """As domain.settlement.Outlook: what it waits for; None where nothing is earned, or it was assessed before 0014."""
    advance_at: datetime | None = moment_or_none()
    """When to see whether an advance is to be given; None where there is none, or it was seen to."""
    created_at: datetime = moment()
    updated_at: datetime = moment()
    period_id: UUID | None = ref(nullable=True)
    placed_at: datetime | None = moment_or_none()
    """When its order was placed, as it was last assessed; the beginning of its period."""
    volume_minor: int = Field(
        default=0, sa_type=BigInteger, nullable=False, sa_column_kwargs={"server_default": text("0")}
    )
    """Net goods it pays its affiliate for; what its periods count as sales."""
    periods: list[Json] = Field(
        default_factory=list, sa_type=JSONB, nullable=False, sa_column_kwargs={"server_default": text("'[]'")}
    )
    """The periods it counts in, as [programme, rule, first day]."""


class CommissionEntryRow(SQLModel, table=True):
    """One dated difference; append-only. A posting's amount is the sum of its entries."""

    __tablename__ = "commission_entry"
    __table_args__ = (
        belongs_to("commission", "commission_id"),
        belongs_to("posting", "posting_id"),
        Index("commission_entry_posting_ix", "merchant_id", "posting_id"),
        one_of("kind", EntryKind),
        one_of("source", Place),
        one_of("destination", Place),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    merchant_id: UUID = key()
    commission_id: UUID = key()
    seq: int = Field(sa_type=Integer, primary_key=True)
    kind: str = words()
    source: str = words()
    destination: str = words()
    amount_minor: int = minor()
    posting_id: UUID = ref()
    payable_version: int | None = minor_or_none()
    """Version of the payee's payable account after it; None where payable did not move."""
    created_at: datetime = moment()


class PostingRow(SQLModel, table=True):
    """One amount from one debit account to one credit account; never updated or deleted."""

    __tablename__ = "posting"
    __table_args__ = (
        UniqueConstraint("merchant_id", "event", "seq"),
        # Every posting that earns somebody something debits the merchant, whose postings nobody looks up by owner.
        Index(
            "posting_debit_ix",
            "merchant_id",
            "debit_owner_id",
            "id",
            postgresql_where=text("debit_owner_id <> merchant_id"),
        ),
        Index("posting_credit_ix", "merchant_id", "credit_owner_id", "id"),
        Index("posting_booking_ix", "merchant_id", "day", "slot", "booking"),
        one_of("debit_kind", AccountKind),
        one_of("credit_kind", AccountKind),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("booking > 0", name="booking"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    event: str = words()
    """What happened, such as order/<id>/assessment/<seq>."""
    seq: int = Field(sa_type=Integer, nullable=False)
    debit_kind: str = words()
    debit_owner_id: UUID = ref()
    credit_kind: str = words()
    credit_owner_id: UUID = ref()
    currency: str = words()
    amount_minor: int = minor()
    day: date = day()
    """Booking day: the slot it was added to, also where the day before was sealed already."""
    slot: int = Field(sa_type=SmallInteger, nullable=False)
    booking: int = Field(sa_type=Integer, nullable=False)
    """Number of the unit of work that booked it within its day and slot, from 1 without gaps, in the order of commits."""
    created_at: datetime = moment()


class BalanceRow(SQLModel, table=True):
    """A payee's kept balance. Narrow and with room to spare, so an update stays on its page."""

    __tablename__ = "balance"
    __table_args__ = (one_of("kind", AccountKind), {"postgresql_with": {"fillfactor": 50}})

    merchant_id: UUID = key()
    owner_id: UUID = key()
    kind: str = words(primary_key=True)
    currency: str = words(primary_key=True)
    amount_minor: int = minor()
    version: int = count()
    """One more with each unit of work that moves it; payable's also with each reserve, release and giving back."""


class AdvanceRow(SQLModel, table=True):
    """An advance given on a commission, or a part of a payee's advances netted by a settlement; append-only."""

    __tablename__ = "advance"
    __table_args__ = (
        belongs_to("affiliate", "payee_id"),
        belongs_to("commission", "commission_id"),
        belongs_to("posting", "posting_id"),
        UniqueConstraint("merchant_id", "posting_id"),
        # Of repayments both are NULL, which equals nothing: only what is given is given once.
        UniqueConstraint("merchant_id", "commission_id", "cut_off_on"),
        Index("advance_payee_ix", "merchant_id", "payee_id", "currency", "payable_version"),
        one_of("kind", AdvanceKind),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint(
            "(kind = 'given') = (commission_id IS NOT NULL) AND (kind = 'given') = (cut_off_on IS NOT NULL)",
            name="given",
        ),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    kind: str = words()
    payee_id: UUID = ref()
    currency: str = words()
    amount_minor: int = minor()
    commission_id: UUID | None = ref(nullable=True)
    cut_off_on: date | None = Field(default=None, sa_type=Date, nullable=True)
    """Date of the statement that the approval was late for."""
    posting_id: UUID = ref()
    payable_version: int = count()
    """Version of the payee's payable account after it."""
    created_at: datetime = moment()


class DaySlotRow(SQLModel, table=True):
    """A booking row of one day; sealed, nothing is booked on it any more."""

    __tablename__ = "day_slot"

    merchant_id: UUID = key()
    day: date = day(primary_key=True)
    slot: int = Field(sa_type=SmallInteger, primary_key=True)
    touched: int = count()
    """How many units of work have booked on it: number of the newest booking."""
    sealed_at: datetime | None = moment_or_none()


class DaySumRow(SQLModel, table=True):
    """Sums of one slot by account and currency: the trial balance without reading postings."""

    __tablename__ = "day_sum"
    __table_args__ = (one_of("kind", AccountKind),)

    merchant_id: UUID = key()
    day: date = day(primary_key=True)
    slot: int = Field(sa_type=SmallInteger, primary_key=True)
    kind: str = words(primary_key=True)
    currency: str = words(primary_key=True)
    debit_minor: int = minor()
    credit_minor: int = minor()


class ChainBlockRow(SQLModel, table=True):
    """A run of bookings of one slot, bound by its digest to the block before it; never updated or deleted."""

    __tablename__ = "chain_block"
    __table_args__ = (
        UniqueConstraint("merchant_id", "day", "slot", "first_booking"),
        CheckConstraint("number > 0 AND first_booking > 0 AND last_booking >= first_booking", name="bookings"),
    )

    merchant_id: UUID = key()
    number: int = Field(sa_type=BigInteger, primary_key=True)
    """Place in the merchant's one chain, from 1 without gaps."""
    day: date = day()
    slot: int = Field(sa_type=SmallInteger, nullable=False)
    first_booking: int = Field(sa_type=Integer, nullable=False)
    last_booking: int = Field(sa_type=Integer, nullable=False)
    postings: int = count()
    previous_digest: bytes = blob()
    digest: bytes = blob()
    """As domain.chain.block_digest: over the digest before, this row and every field of its postings."""
    chained_at: datetime = moment()


class ChainHeadRow(SQLModel, table=True):
    """The newest block of a merchant's chain. Whoever chains holds this row, so a chain cannot fork."""

    __tablename__ = "chain_head"

    merchant_id: UUID = key()
    number: int = count()
    """0 while there is no block."""
    digest: bytes = blob()


class OutboxRow(SQLModel, table=True):
    """What happened, told once: written with the change, delivered later."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_subject_ix", "merchant_id", "subject_id"),)

    merchant_id: UUID = key()
    id: UUID = key()
    type: str = words()
    subject_id: UUID = ref()
    payload: Json = document()
    created_at: datetime = moment()
