"""When an order's commission may become payable, and what keeps it from moving."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.order import Milestone, OrderFacts


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    """Nobody needs to look: the clock alone decides."""
    MANUAL = "manual"
    """A person approves an amount first; more than that waits."""


@dataclass(frozen=True, slots=True)
class RollingSettlement:
    """Payable `hold_days` after a milestone; time in dispute does not count."""

    start: Milestone
    hold_days: int
    approval: Approval = Approval.AUTOMATIC


class FrozenReason(StrEnum):
    DISPUTE = "dispute_open"
    HOLD = "hold_open"
    REFUND_CURRENCY = "refund_currency"
    """A refund came in another currency than the order's newest snapshot; we never convert by guess."""
    CONFLICTING_VERSION = "conflicting_version"
    """The shop sent two different bodies under one version; the next version resolves it."""


def frozen_reason(facts: OrderFacts) -> FrozenReason | None:
    """Why the order's money must not move on now, or None."""
    if any(dispute.closed_at is None for dispute in facts.disputes.values()):
        return FrozenReason.DISPUTE
    if facts.open_holds:
        return FrozenReason.HOLD
    if facts.snapshot is not None:
        currency = facts.snapshot.currency
        # A refund taken back, or of carriage alone, takes nothing from goods and so leaves nothing to convert.
        if any(refund.given_back_minor and refund.currency != currency for refund in facts.all_refunds().values()):
            return FrozenReason.REFUND_CURRENCY
    return FrozenReason.CONFLICTING_VERSION if facts.conflicting else None


def settles_at(facts: OrderFacts, terms: RollingSettlement, *, approved: bool) -> datetime | None:
    """Start milestone + hold + the time closed disputes took after the start; None while something is missing.

    approved: a demanded approval is there.
    """
    start = facts.milestones.get(terms.start)
    if start is None or (terms.approval is Approval.MANUAL and not approved):
        return None
    disputed = (
        (dispute.opened_at, dispute.closed_at) for dispute in facts.disputes.values() if dispute.closed_at is not None
    )
    return start + timedelta(days=terms.hold_days) + time_covered(disputed, since=start)


def time_covered(spans: Iterable[tuple[datetime, datetime]], *, since: datetime) -> timedelta:
    """Length of the union of spans after `since`; overlaps count once, a span that ends before it starts not at all."""
    covered = timedelta()
    reached = since
    for begin, end in sorted(spans):
        # A shop may tell a closing before the opening; such a span covers nothing.
        if end > max(begin, reached):
            covered += end - max(begin, reached)
            reached = end
    return covered
