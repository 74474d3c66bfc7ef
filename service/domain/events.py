"""What merchants are told: the closed list of event types, and the patterns with which an endpoint chooses among them."""

from collections.abc import Iterable
from enum import StrEnum


class EventType(StrEnum):
    """Noun and verb in the past. Once published a type is never renamed, and its payload only gains fields."""

    ORDER_ATTRIBUTED = "order.attributed"
    """An order is now credited to an affiliate, or to another one than before."""
    ORDER_UNATTRIBUTED = "order.unattributed"
    """An order carried touches, or was credited to somebody, and is credited to nobody now; reason_code says why."""

    COMMISSION_ACCRUED = "commission.accrued"
    """An affiliate earns on an order for the first time."""
    COMMISSION_ADJUSTED = "commission.adjusted"
    """What it earns on the order became more or less, and is not zero."""
    COMMISSION_REVERSED = "commission.reversed"
    """It earns nothing on the order any more: returned, cancelled, rejected, credited elsewhere."""
    COMMISSION_HELD = "commission.held"
    """Some of it is frozen: a dispute or a hold is open."""
    COMMISSION_RELEASED = "commission.released"
    """What was frozen is free again."""
    COMMISSION_APPROVED = "commission.approved"
    """A person approved it, up to approved_minor."""
    COMMISSION_REJECTED = "commission.rejected"
    """A person rejected it."""
    COMMISSION_PAYABLE = "commission.payable"
    """The hold period is over: some of it can be paid out."""
    COMMISSION_PAID = "commission.paid"
    """A payout was accepted by its rail, and with it every commission it covers. One event per payout, however many
    commissions that are: the payout's statement lists them."""

    PAYOUT_RUN_CREATED = "payout_run.created"
    """A draft was made, and holds what its payees are owed."""
    PAYOUT_RUN_SUBMITTED = "payout_run.submitted"
    PAYOUT_RUN_APPROVED = "payout_run.approved"
    PAYOUT_RUN_EXECUTING = "payout_run.executing"
    PAYOUT_RUN_STOPPED = "payout_run.stopped"
    """It sends nothing more until a person has looked; reason_code says why."""
    PAYOUT_RUN_CLOSED = "payout_run.closed"
    PAYOUT_RUN_CANCELLED = "payout_run.cancelled"

    PAYOUT_SENT = "payout.sent"
    """The rail has accepted it."""
    PAYOUT_SETTLED = "payout.settled"
    """The rail says the money arrived."""
    PAYOUT_REFUSED = "payout.refused"
    """The rail refused it for good; its money is still here."""
    PAYOUT_ABSENT = "payout.absent"
    """Proven never to have reached the rail; its money is still here."""
    PAYOUT_RELEASED = "payout.released"
    """It was taken out of its run, and gave its money back to the payee's balance."""
    PAYOUT_REVERSED = "payout.reversed"
    """Some of it, amount_minor in all so far, was taken back."""
    PAYOUT_RETURNED = "payout.returned"
    """It came back from the payee's bank."""
    PAYOUT_FAILED = "payout.failed"
    """The rail says it failed after it was accepted."""

    AFFILIATE_APPLIED = "affiliate.applied"
    AFFILIATE_APPROVED = "affiliate.approved"
    AFFILIATE_REJECTED = "affiliate.rejected"
    AFFILIATE_SUSPENDED = "affiliate.suspended"
    AFFILIATE_ENROLLED = "affiliate.enrolled"
    """It joins a programme, from valid_from on."""
    AFFILIATE_UNENROLLED = "affiliate.unenrolled"
    """It leaves a programme, from valid_from on."""

    INBOX_PARKED = "inbox.parked"
    """A delivery of a shop was kept and not understood: somebody has to look."""

    WEBHOOK_ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    """An endpoint gets nothing any more. It is told to the merchant's other endpoints."""
    WEBHOOK_ENDPOINT_PING = "webhook_endpoint.ping"
    """Somebody asked for a try of an endpoint. It is sent to that endpoint only, whatever that listens to."""


EVERYTHING = "*"


def chosen(pattern: str) -> frozenset[EventType]:
    """The types a pattern names: `*`, all of one noun (`payout.*`), or one type. Empty for a pattern that names none."""
    if pattern == EVERYTHING:
        return frozenset(EventType)
    noun, _, verb = pattern.partition(".")
    if verb == EVERYTHING:
        return frozenset(each for each in EventType if each.partition(".")[0] == noun)
    return frozenset(each for each in EventType if each == pattern)


def listens(patterns: Iterable[str], type_: str) -> bool:
    """Whether one of an endpoint's patterns names the type; also a pattern or a type of another release of ours."""
    noun = type_.partition(".")[0]
    return not {EVERYTHING, f"{noun}.{EVERYTHING}", type_}.isdisjoint(patterns)
