"""What merchants are told: the closed list of event types, and the patterns with which an endpoint chooses among them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self


class EventType(StrEnum):
    """Noun and verb in the past, with what it tells. Never renamed once published; payloads only gain fields."""

    meaning: str
    """One sentence for the merchant's developer."""

    def __new__(cls, value: str, meaning: str = "") -> Self:
        each = str.__new__(cls, value)
        each._value_ = value
        each.meaning = meaning
        return each

    ORDER_ATTRIBUTED = "order.attributed", "An order is credited to an affiliate, or to another one than before."
    ORDER_UNATTRIBUTED = (
        "order.unattributed",
        "An order that carried clicks or coupons, or was credited to somebody, is credited to nobody.",
    )

    COMMISSION_ACCRUED = "commission.accrued", "An affiliate earns on an order for the first time."
    COMMISSION_ADJUSTED = "commission.adjusted", "What an affiliate earns on an order became more or less."
    COMMISSION_REVERSED = "commission.reversed", "An affiliate earns nothing on an order any more."
    COMMISSION_HELD = "commission.held", "Some of a commission is frozen, because a dispute or a hold is open."
    COMMISSION_RELEASED = "commission.released", "What was frozen of a commission is free again."
    COMMISSION_APPROVED = "commission.approved", "A person approved a commission, up to approved_minor."
    COMMISSION_REJECTED = "commission.rejected", "A person rejected a commission."
    COMMISSION_PAYABLE = "commission.payable", "Some of a commission can be paid out."
    COMMISSION_PAID = (
        "commission.paid",
        "A payout was accepted by its rail, and with it all commissions it covers. One event per payout.",
    )

    CLAIM_OPENED = "claim.opened", "An affiliate claims something about an order, and somebody has to decide."
    CLAIM_DECIDED = "claim.decided", "A person accepted or rejected a claim."
    CLAIM_OVERDUE = "claim.overdue", "Nobody decided about a claim in time. Told once; the claim stays open."

    PAYOUT_RUN_CREATED = "payout_run.created", "A draft of a payout run was made and holds what its payees are owed."
    PAYOUT_RUN_SUBMITTED = "payout_run.submitted", "A payout run is frozen and waits for a second person."
    PAYOUT_RUN_APPROVED = "payout_run.approved", "A second person approved a payout run."
    PAYOUT_RUN_EXECUTING = "payout_run.executing", "A payout run is being sent."
    PAYOUT_RUN_STOPPED = "payout_run.stopped", "A payout run sends nothing more until a person has looked."
    PAYOUT_RUN_CLOSED = "payout_run.closed", "Every payout of a run is sent or released."
    PAYOUT_RUN_CANCELLED = "payout_run.cancelled", "A payout run was cancelled before anything was sent."

    PAYOUT_FILE_BUILT = "payout_file.built", "A file of payouts waits for a person to hand it over on the day pays_on."
    PAYOUT_FILE_HANDED_OVER = (
        "payout_file.handed_over",
        "Somebody has had a file of payouts for the first time: all in it may be paid.",
    )
    PAYOUT_FILE_VOIDED = "payout_file.voided", "A file of payouts that nobody had was withdrawn."

    PAYOUT_SENT = "payout.sent", "The rail has accepted a payout."
    PAYOUT_SETTLED = "payout.settled", "The rail says that a payout arrived."
    PAYOUT_REFUSED = "payout.refused", "The rail refused a payout; its money is still here."
    PAYOUT_ABSENT = "payout.absent", "A payout is proven never to have reached the rail; its money is still here."
    PAYOUT_RELEASED = (
        "payout.released",
        "A payout was taken out of its run and gave its money back to the affiliate's balance.",
    )
    PAYOUT_REVERSED = "payout.reversed", "Some or all of a payout was taken back."
    PAYOUT_RETURNED = "payout.returned", "A payout came back from the affiliate's bank."
    PAYOUT_FAILED = "payout.failed", "The rail says that a payout failed after it was accepted."

    CORRECTION_ASKED = "correction.asked", "Somebody asks for money to be put right; another person has to book it."
    CORRECTION_BOOKED = "correction.booked", "Money was put right: a withholding undone, a debt set off or given up."
    CORRECTION_WITHDRAWN = "correction.withdrawn", "A correction was taken back or turned down."

    STATEMENT_ISSUED = "statement.issued", "An affiliate's statement of some days was issued; it never changes again."
    STATEMENT_ACCEPTED = "statement.accepted", "An affiliate accepted a statement."
    STATEMENT_OBJECTED = "statement.objected", "An affiliate objected to a statement: somebody has to look."

    AFFILIATE_APPLIED = "affiliate.applied", "An affiliate was registered."
    AFFILIATE_APPROVED = "affiliate.approved", "An affiliate may earn, from valid_from on."
    AFFILIATE_REJECTED = "affiliate.rejected", "An affiliate's application was turned down."
    AFFILIATE_SUSPENDED = "affiliate.suspended", "An affiliate may not earn, from valid_from on."
    AFFILIATE_ENROLLED = "affiliate.enrolled", "An affiliate joins a programme, from valid_from on."
    AFFILIATE_UNENROLLED = "affiliate.unenrolled", "An affiliate leaves a programme, from valid_from on."

    PAYOUT_METHOD_ADDED = (
        "payout_method.added",
        "An affiliate has an account on a rail where it had none. Paid to from usable_from on.",
    )
    PAYOUT_METHOD_CHANGED = (
        "payout_method.changed",
        "An affiliate's account on a rail takes the place of another. Tell the affiliate by its old address.",
    )
    PAYOUT_METHOD_CANCELLED = (
        "payout_method.cancelled",
        "A change of an affiliate's account was taken back before it counted; the account before is active again.",
    )
    PAYOUT_METHOD_SHARED = (
        "payout_method.shared",
        "An affiliate's account is that of others too. Unless that is allowed, none of them is paid until confirmed.",
    )
    STRIPE_ACCOUNT_READY = "stripe_account.ready", "An affiliate's account at Stripe can be paid."
    STRIPE_ACCOUNT_NOT_READY = (
        "stripe_account.not_ready",
        "An affiliate's account at Stripe cannot be paid any more; its requirements say why.",
    )
    STRIPE_ACCOUNT_PAYOUT_FAILED = (
        "stripe_account.payout_failed",
        "A payout from an affiliate's account at Stripe to its own bank failed. No new ones are made until one succeeds.",
    )

    PROGRAM_VERSION_PUBLISHED = (
        "program.version_published",
        "A programme has new terms, from valid_from on; what is other than before is told.",
    )

    BUDGET_NEAR = "budget.near", "Most of a budget is taken."
    BUDGET_REACHED = "budget.reached", "All of a budget is taken; its programme is paused from paused_from on."
    BUDGET_REOPENED = "budget.reopened", "A budget that was taken was raised; its programme runs from runs_from on."

    INBOX_PARKED = "inbox.parked", "A delivery of a shop was kept and not understood: somebody has to look."

    WEBHOOK_ENDPOINT_DISABLED = (
        "webhook_endpoint.disabled",
        "One of the endpoints gets nothing any more; told to the others.",
    )
    WEBHOOK_ENDPOINT_PING = "webhook_endpoint.ping", "Somebody asked for a try of this endpoint."


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
