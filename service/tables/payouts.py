"""Payout runs, items, attempts, what providers said, and jobs."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.payout import Excluded, FactKind, Outcome, RunState
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


class PayoutRunRow(SQLModel, table=True):
    """Payouts approved together."""

    __tablename__ = "payout_run"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "external_id"),
        one_of("status", RunState),
        CheckConstraint("approved_by IS NULL OR approved_by <> submitted_by", name="two_persons"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    status: str = words()
    rail: str = words()
    currency: str = words()
    pay_on: date = day()
    """The day the money is meant to leave; decides the tax period."""
    content_hash: str | None = words_or_none()
    """Over all item hashes, fixed at submit."""
    excluded: list[Json] = listing()
    """Empty since payees who are left out have rows of their own; servers of the release before 0027 write here."""
    created_by: UUID = ref()
    submitted_by: UUID | None = ref(nullable=True)
    approved_by: UUID | None = ref(nullable=True)
    created_at: datetime = moment()
    submitted_at: datetime | None = moment_or_none()
    approved_at: datetime | None = moment_or_none()
    executed_at: datetime | None = moment_or_none()
    closed_at: datetime | None = moment_or_none()
    stopped_at: datetime | None = moment_or_none()
    """Nothing is sent from then on, until a person executes the run again."""
    stop_code: str | None = words_or_none()
    """Why: the rail refused our credentials, or answered something that must not be."""
    waits_for: str | None = words_or_none()
    """Why nothing is handed over now, though nothing is wrong with the run."""
    funding: Json | None = document_or_none()
    """What the rail had when it was last asked: state, needed_minor, available_minor, checked_at."""


class PayoutLeftOutRow(SQLModel, table=True):
    """Somebody with a balance whom a run left out when it was made; never changed."""

    __tablename__ = "payout_left_out"
    __table_args__ = (
        belongs_to("payout_run", "run_id"),
        belongs_to("affiliate", "payee_id"),
        one_of("reason_code", Excluded),
        Index("payout_left_out_payee_ix", "merchant_id", "payee_id", "run_id"),
    )

    merchant_id: UUID = key()
    run_id: UUID = key()
    payee_id: UUID = key()
    reason_code: str = words()
    payable_minor: int = minor()
    carried_minor: int = minor()


class PayoutItemRow(SQLModel, table=True):
    """One payee's money in a run: drains payable and taxed_carry, owns the payable versions (from, to]."""

    __tablename__ = "payout_item"
    __table_args__ = (
        belongs_to("payout_run", "run_id"),
        belongs_to("affiliate", "payee_id"),
        belongs_to("payout_method", "payout_method_id"),
        UniqueConstraint("merchant_id", "payee_id", "currency", "from_version"),
        Index(
            "payout_item_live_ix",
            "merchant_id",
            "payee_id",
            "currency",
            unique=True,
            postgresql_where=text("live"),
        ),
        Index("payout_item_run_ix", "merchant_id", "run_id", "id"),
        CheckConstraint("gross_minor + carried_minor > 0 AND gross_minor >= 0 AND carried_minor >= 0", name="amount"),
        CheckConstraint(
            "net_minor + tax_minor + fee_minor + remainder_minor = gross_minor + carried_minor", name="split"
        ),
        CheckConstraint("to_version >= from_version", name="interval"),
        Index(
            "payout_item_live_tax_ix",
            "merchant_id",
            "payee_id",
            unique=True,
            postgresql_where=text("live AND tax_accumulates"),
        ),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    run_id: UUID = ref()
    payee_id: UUID = ref()
    currency: str = words()
    payout_method_id: UUID = ref()
    fingerprint: str = words()
    """Of the destination, pinned when the item was made."""
    tax_rule: str = words()
    gross_minor: int = minor()
    """G: all of payable."""
    carried_minor: int = minor()
    """C: all of taxed_carry."""
    net_minor: int = minor()
    """N: what the rail is told to send."""
    tax_minor: int = minor()
    fee_minor: int = minor()
    remainder_minor: int = minor()
    """R: below one step of the rail; carried forward."""
    from_version: int = count()
    to_version: int = count()
    reserve_version: int = count()
    """Payable's version made by this item's own reserve; the next item's interval begins there."""
    gave_back_version: int | None = minor_or_none()
    """Payable's version made by its release; None while it keeps the money."""
    live: bool = Field(nullable=False)
    """Reserved, approved, sending, unknown, refused: at most one such per payee and currency."""
    handed_over_at: datetime | None = moment_or_none()
    """Set when an attempt is planned, cleared when the rail refused: then the money is here again."""
    frozen_code: str | None = words_or_none()
    """Set when a rail found one key used for two requests: our mistake; nothing is sent, only looked up."""
    retry_by: UUID | None = ref(nullable=True)
    """Who asked for another attempt after a refusal or a proof of absence; cleared when it is planned."""
    released_at: datetime | None = moment_or_none()
    release_reason: str | None = words_or_none()
    content_hash: str | None = words_or_none()
    """Fixed at submit, compared before anything is sent."""
    created_at: datetime = moment()
    tax_borne_minor: int = Field(
        default=0, sa_type=BigInteger, nullable=False, sa_column_kwargs={"server_default": text("0")}
    )
    """Tax at the merchant's cost: not part of the split above."""
    tax_accumulates: bool = Field(default=False, nullable=False, sa_column_kwargs={"server_default": text("false")})
    """Whether later decisions hang on this one: then it is the payee's only live item, whatever the currency."""
    tax_decision: Json | None = document_or_none()
    """As payouts.withhold writes it: by which figures tax was decided; None where no rule had anything to decide."""


class PayoutAttemptRow(SQLModel, table=True):
    """One try to send an item: exact bytes, key, and what is known of the outcome."""

    __tablename__ = "payout_attempt"
    __table_args__ = (
        belongs_to("payout_item", "item_id"),
        UniqueConstraint("merchant_id", "item_id", "number"),
        UniqueConstraint("merchant_id", "rail", "reference"),
        Index(
            "payout_attempt_one_open_ix",
            "merchant_id",
            "item_id",
            unique=True,
            postgresql_where=text("outcome NOT IN ('refused', 'absent')"),
        ),
        Index(
            "payout_attempt_due_ix",
            "next_at",
            postgresql_where=text("outcome IN ('planned', 'in_flight', 'unknown')"),
        ),
        one_of("outcome", Outcome),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    item_id: UUID = ref()
    number: int = Field(sa_type=Integer, nullable=False)
    rail: str = words()
    idempotency_key: str = words()
    request: bytes = blob()
    """The exact parameters sent, never rebuilt, encrypted: they name the destination."""
    outcome: str = words()
    reference: str | None = words_or_none()
    """The provider's id once accepted."""
    code: str = words()
    """The provider's word on a refusal or silence, for people."""
    owner: str | None = words_or_none()
    fence: int = count()
    """One more with each lease; an answer under an old fence is not recorded."""
    lease_until: datetime | None = moment_or_none()
    """Our clock, like all times here: test merchants' clocks do not move the rail's."""
    sends: int = count()
    first_sent_at: datetime | None = moment_or_none()
    next_at: datetime | None = moment_or_none()
    """When it is sent, or looked up, next."""
    proof: Json = document()
    """Times of the complete listings without this transfer, once the key may have been forgotten."""
    asked_by: UUID | None = ref(nullable=True)
    """The person behind a second or later attempt."""
    created_at: datetime = moment()


class ProviderFactRow(SQLModel, table=True):
    """What a provider told us; never deleted."""

    __tablename__ = "provider_fact"
    __table_args__ = (
        belongs_to("payout_item", "item_id"),
        one_of("kind", FactKind),
        Index("provider_fact_item_ix", "merchant_id", "item_id"),
        # A day of all merchants, beside the provider's own.
        Index("provider_fact_told_ix", "rail", "told_at"),
    )

    merchant_id: UUID = key()
    rail: str = words(primary_key=True)
    object_id: str = words(primary_key=True)
    kind: str = words(primary_key=True)
    version: str = words(primary_key=True)
    """The provider's version of the object, or the amount where it gives none."""
    item_id: UUID = ref()
    amount_minor: int = minor()
    told_at: datetime = moment()
    payload: Json = document()


class JobRow(SQLModel, table=True):
    """Work that waits, claimed by conditional UPDATE with a lease."""

    __tablename__ = "job"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "kind", "subject"),
        Index("job_due_ix", "due_at"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    kind: str = words()
    subject: str = words()
    """What it is about; one job of a kind per subject."""
    due_at: datetime = moment()
    lease_until: datetime | None = moment_or_none()
    owner: str | None = words_or_none()
    tries: int = count()
    last_error: str | None = words_or_none()
    payload: Json = document()
