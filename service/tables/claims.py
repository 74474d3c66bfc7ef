"""What KOCs claim, and what became of it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import SQLModel

from service.domain.claim import ClaimKind, ClaimState
from service.tables.columns import (
    belongs_to,
    key,
    listing,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class ClaimRow(SQLModel, table=True):
    """One claim of one KOC about one order. Times by the merchant's clock."""

    __tablename__ = "claim"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("orders", "order_id"),
        belongs_to("commission", "commission_id"),
        # One open claim per KOC and order, also where two requests come at once.
        Index(
            "claim_open_key",
            "merchant_id",
            "affiliate_id",
            "subject",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        Index("claim_affiliate_ix", "merchant_id", "affiliate_id", "id"),
        Index("claim_due_ix", "merchant_id", "decide_by", postgresql_where=text("state = 'open'")),
        one_of("kind", ClaimKind),
        one_of("state", ClaimState),
        CheckConstraint("(claimed_minor IS NULL) = (claimed_currency IS NULL)", name="claimed"),
        CheckConstraint("(state = 'open') = (closed_at IS NULL)", name="closed"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    kind: str = words()
    state: str = words()
    subject: str = words()
    """What it is about: the order's public id, or `number:` and the number where no such order has come."""
    order_id: UUID | None = ref(nullable=True)
    """Once it is known which order is meant."""
    order_number: str = words()
    """As the KOC told it; empty where the order was named by its id."""
    note: str = words()
    evidence: list[str] = listing()
    """Addresses, as told."""
    click_id: str | None = words_or_none()
    coupon: str | None = words_or_none()
    claimed_minor: int | None = minor_or_none()
    """What the KOC says it should earn."""
    claimed_currency: str | None = words_or_none()
    opened_at: datetime = moment()
    decide_by: datetime = moment()
    overdue_told_at: datetime | None = moment_or_none()
    """When it was told that nobody decided in time."""
    closed_at: datetime | None = moment_or_none()
    decided_by: UUID | None = ref(nullable=True)
    """The key that decided."""
    reason_code: str | None = words_or_none()
    decision_note: str = words()
    """What the merchant tells the KOC."""
    decision_evidence: list[str] = listing()
    commission_id: UUID | None = ref(nullable=True)
    """What the accepted claim earns."""
