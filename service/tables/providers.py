"""What providers of payments tell of their own accord, and how our books compare with theirs."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.provider import BankPayoutStatus, EventState, EventSubject, ServiceAgreement
from service.tables.columns import (
    Json,
    belongs_to,
    count,
    day,
    document,
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


class StripeAccountRow(SQLModel, table=True):
    """An affiliate's connected account at Stripe, as Stripe told it last. One per affiliate."""

    __tablename__ = "stripe_account"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        UniqueConstraint("merchant_id", "account_id"),
        # Events name the account and nothing else.
        Index("stripe_account_account_ix", "account_id"),
        Index("stripe_account_listed_ix", "events_until"),
        one_of("agreement", ServiceAgreement),
    )

    merchant_id: UUID = key()
    affiliate_id: UUID = key()
    number: int = count()
    """Of the request that makes the account; one more after each that Stripe refused, so that its key is a new one."""
    claimed_at: datetime | None = moment_or_none()
    """Since when the account is being asked for, under one key; None when nothing is on its way."""
    country: str | None = words_or_none()
    agreement: str = words()
    account_id: str | None = words_or_none()
    """None until Stripe has said it."""
    fingerprint: str | None = words_or_none()
    """As of a payout method that names this account."""
    ready: bool = Field(default=False, nullable=False)
    """Whether a transfer to it would be taken and go on to the payee's bank."""
    charges_enabled: bool = Field(default=False, nullable=False)
    payouts_enabled: bool = Field(default=False, nullable=False)
    details_submitted: bool = Field(default=False, nullable=False)
    capabilities: Json = document()
    requirements: Json = document()
    told_at: datetime | None = moment_or_none()
    """When we asked for what we know, by our clock; what was asked for earlier does not take its place."""
    events_until: datetime | None = moment_or_none()
    """Up to when the account's own events were listed."""
    events_tried_at: datetime | None = moment_or_none()
    """When they were last asked for, with or without an answer."""
    created_at: datetime = moment()


class BankPayoutRow(SQLModel, table=True):
    """Money on its way from an affiliate's account at Stripe to its own bank. Not ours any more; told when it fails."""

    __tablename__ = "bank_payout"
    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"], ["stripe_account.merchant_id", "stripe_account.affiliate_id"]
        ),
        Index("bank_payout_newest_ix", "merchant_id", "affiliate_id", "made_at", "id"),
        one_of("status", BankPayoutStatus),
    )

    merchant_id: UUID = key()
    id: str = words(primary_key=True)
    """Stripe's, po_…."""
    affiliate_id: UUID = ref()
    status: str = words()
    amount_minor: int = minor()
    currency: str = words()
    failure_code: str | None = words_or_none()
    made_at: datetime = moment()
    """By Stripe's clock."""


class ProviderEventRow(SQLModel, table=True):
    """Something a provider told, once. A reference table: it comes before the merchant is known, if there is one at all."""

    __tablename__ = "provider_event"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        Index("provider_event_due_ix", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("provider_event_account_ix", "account", postgresql_where=text("state = 'foreign'")),
        Index("provider_event_merchant_ix", "merchant_id", "happened_at"),
        one_of("subject", EventSubject),
        one_of("state", EventState),
    )

    id: str = words(primary_key=True)
    """The provider's; ids of two providers do not meet, for each begins in its own way."""
    provider: str = words()
    type: str = words()
    subject: str = words()
    object_id: str = words()
    account: str = words()
    """The connected account it happened on, empty for the platform's own."""
    merchant_id: UUID | None = ref(nullable=True)
    state: str = words()
    reason_code: str | None = words_or_none()
    payload: Json = document()
    """Of the object only what is used, and nothing about persons."""
    happened_at: datetime = moment()
    received_at: datetime = moment()
    due_at: datetime | None = moment_or_none()
    """When it is tried (again), while it waits."""
    tries: int = count()


class ServiceJobRow(SQLModel, table=True):
    """Work of the service itself, for no merchant, claimed like jobs. A reference table of a few rows."""

    __tablename__ = "service_job"

    kind: str = words(primary_key=True)
    due_at: datetime = moment()
    lease_until: datetime | None = moment_or_none()
    owner: str | None = words_or_none()
    tries: int = count()
    last_error: str | None = words_or_none()
    payload: Json = document()
    """Up to where it has come."""


class ProviderReconciliationRow(SQLModel, table=True):
    """One day of a merchant's payouts in our books beside the same day in a provider's."""

    __tablename__ = "provider_reconciliation"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),)

    merchant_id: UUID = key()
    rail: str = words(primary_key=True)
    day: date = day(primary_key=True)
    """In UTC, as providers keep their days."""
    currency: str = words(primary_key=True)
    provider_minor: int = minor()
    """What left by the provider's account less what came back."""
    ledger_minor: int = minor()
    """What we booked as paid less what we booked as given back."""
    matched: int = count()
    """Transfers that are the same on both sides."""
    unexplained: int = count()
    """Transfers whose sides differ for no reason that goes away by itself."""
    differences: list[Json] = listing()
    """Each with its kind, reference, payout and both amounts; the unexplained ones first, a hundred at most."""
    differences_total: int = count()
    compared_at: datetime = moment()
