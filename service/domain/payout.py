"""Payouts: what an item drains, what its state is, where a settled amount stands, and how to read a rail's answer."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from service.domain.errors import InvariantBroken
from service.domain.withholding.model import Decision, Refusal
from service.domain.withholding.stored import same

SEND_WINDOW = timedelta(hours=20)
"""A key may be sent again this long after its first sending; Stripe may forget a key after 24 h (its documentation, "Idempotent requests")."""

ABSENCE_AFTER = timedelta(hours=25)
"""Only after this long may complete, empty listings prove that a sending did nothing."""

LISTINGS_APART = timedelta(minutes=15)
"""Least time between the two empty listings of a proof of absence."""

OWNER_DEAD_AFTER = timedelta(hours=1)
"""A lease must have ended this long ago before its owner counts as gone."""

UNEXPECTED_TRANSFER = "unexpected_transfer"
"""Code of a payout that is frozen, or a run that stopped, because its rail lists a transfer that no attempt explains."""


class RunState(StrEnum):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    """Frozen: the list of item hashes is fixed."""
    APPROVED = "approved"
    EXECUTING = "executing"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """What is known of one attempt to send an item."""

    PLANNED = "planned"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ABSENT = "absent"
    """Proven by complete listings that the provider never did it."""


MAY_HAVE_PAID = frozenset({Outcome.PLANNED, Outcome.IN_FLIGHT, Outcome.UNKNOWN, Outcome.ACCEPTED})
"""Outcomes under which no second attempt may exist."""


def may_adopt(number: int, known: Mapping[int, Outcome], *, run: RunState) -> bool:
    """Whether a transfer that a rail lists can be an attempt that is not known, or was thought to have done nothing.

    number: of the attempt, as the transfer says. known: attempts of the item. Their run must have been approved: only
    then it is certain what was to be sent.
    """
    return (
        run in {RunState.APPROVED, RunState.EXECUTING}
        and number >= max([1, *known])
        and not MAY_HAVE_PAID & set(known.values())
    )


class ItemState(StrEnum):
    RESERVED = "reserved"
    APPROVED = "approved"
    SENDING = "sending"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    SENT = "sent"
    SETTLED = "settled"
    PART_REVERSED = "part_reversed"
    REVERSED = "reversed"
    RETURNED = "returned"
    RELEASED = "released"


class FactKind(StrEnum):
    """What a provider told us of a transfer; never deleted."""

    ACCEPTED = "accepted"
    REVERSED = "reversed"
    """amount: all that came back so far."""
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class ProviderSays:
    """Facts of one item folded: the most that was reversed, and whether it was booked or came back."""

    sent_minor: int
    reversed_minor: int = 0
    booked: bool = False
    returned: bool = False


def item_state(*, released: bool, run: RunState, outcomes: Sequence[Outcome], says: ProviderSays) -> ItemState:
    """The state of an item: the first line of the table in docs/payouts.md that is true. outcomes: by attempt, oldest first."""
    last = outcomes[-1] if outcomes else None
    if released:
        return ItemState.RELEASED
    if last is None:
        return ItemState.RESERVED if run in {RunState.DRAFT, RunState.SUBMITTED} else ItemState.APPROVED
    match last:
        case Outcome.PLANNED | Outcome.IN_FLIGHT:
            return ItemState.SENDING
        case Outcome.UNKNOWN:
            return ItemState.UNKNOWN
        case Outcome.REFUSED | Outcome.ABSENT:
            return ItemState.REFUSED
        case Outcome.ACCEPTED:
            if says.returned:
                return ItemState.RETURNED
            if says.reversed_minor >= says.sent_minor:
                return ItemState.REVERSED
            if says.reversed_minor:
                return ItemState.PART_REVERSED
            return ItemState.SETTLED if says.booked else ItemState.SENT


@dataclass(frozen=True, slots=True)
class Interval:
    """The versions (from, to] of a payee's payable account that an item owns.

    gave_back_version: the payable version of the release that gave everything back, None while the item has kept
    the money. handed_over: it was given to a rail, so a freeze cannot take it.
    """

    item_id: UUID
    from_version: int
    to_version: int
    handed_over: bool
    gave_back_version: int | None = None


def holder(version: int, intervals: Sequence[Interval]) -> Interval | None:
    """The item in which an amount settled at a payable version stands now; None: it stands with us.

    An item that gave its money back hands its versions on to the item that covers the giving-back posting.
    """
    held_by = list(_through(version, intervals))
    return held_by[-1] if held_by and held_by[-1].gave_back_version is None else None


def freezable(entries: Iterable[tuple[int, int]], intervals: Sequence[Interval]) -> int:
    """How much of a commission's settled amount has never been handed to a rail; zero or more.

    entries: (payable version, signed change of payable) of the commission's entries that touched payable. What a rail
    gave back does not count: it is carried with its deductions done, and is not in payable any more.
    """
    here = sum(
        change for version, change in entries if not any(item.handed_over for item in _through(version, intervals))
    )
    return max(0, here)


def _through(version: int, intervals: Sequence[Interval]) -> Iterator[Interval]:
    """The items an amount settled at a payable version went through, oldest first."""
    seen: set[UUID] = set()
    while True:
        item = next((item for item in intervals if item.from_version < version <= item.to_version), None)
        if item is None:
            return
        if item.item_id in seen:
            raise InvariantBroken(f"payout item {item.item_id} hands its versions on to itself")
        yield item
        if item.gave_back_version is None:
            return
        seen.add(item.item_id)
        version = item.gave_back_version


def split_for_rail(amount_minor: int, *, step_minor: int) -> tuple[int, int]:
    """(what a rail can pay now, what is carried forward); the first is a multiple of step_minor, both add up.

    step_minor: the smallest amount the rail pays, in minor units; 100 for TWD and HUF at Stripe.
    """
    carry = amount_minor % step_minor
    return amount_minor - carry, carry


class Excluded(StrEnum):
    """Why a payee with something to be paid is not in a run, or was dropped from it before sending."""

    IN_DEBT = "in_debt"
    """Payable is below zero: later commissions pay the debt off first."""
    BELOW_MINIMUM = "below_minimum"
    BELOW_RAIL_STEP = "below_rail_step"
    """The rail pays only whole steps, and this is less than one."""
    OTHER_RAIL = "other_rail"
    """The payee's account is one of another rail that pays the currency; its runs pay."""
    NO_PAYOUT_METHOD = "no_payout_method"
    NO_TAX_RULE = "no_tax_rule"
    """Nobody chose what is withheld from this payee."""
    NO_TAX_REGIME = "no_tax_regime"
    """The merchant has declared nothing for the payee's country."""
    NO_TAX_RULE_IN_FORCE = "no_tax_rule_in_force"
    """What the merchant declared has no rule for the day the run pays on."""
    TAX_CURRENCY = "tax_currency"
    """The rule counts in another currency, and nothing is converted by guess."""
    TAX_DETAILS_MISSING = "tax_details_missing"
    """The rule asks for something the payee's tax profile does not say."""
    LIVE_ITEM = "live_item"
    """Another run holds this payee's money in this currency."""
    OVER_LIMIT = "over_limit"
    """More than one payout may be, or a day or a month may hand over; an admin sets these limits."""
    AFFILIATE_SUSPENDED = "affiliate_suspended"
    AFFILIATE_NOT_APPROVED = "affiliate_not_approved"
    METHOD_COOLING = "method_cooling"
    """The payout method is new and waits, so that its owner can still stop a change that is none of his."""
    SHARED_ACCOUNT = "shared_account"
    """Others are paid to the same account, and nobody has confirmed that this is right."""
    METHOD_CHANGED = "method_changed"
    """The payout method is not the one that was approved."""
    TAX_RULE_CHANGED = "tax_rule_changed"
    """Another rule, or another period of it, than the one that was approved."""
    TAX_CHANGED = "tax_changed"
    """By the same rule another amount would be withheld than was approved."""
    CONTENT_CHANGED = "content_changed"
    """The item is not, to the last field, what was approved."""
    ACCOUNT_NOT_READY = "account_not_ready"
    """The provider says that the payee's account there cannot take transfers, or that its last bank payout failed."""


class Released(StrEnum):
    """Why an item gave its money back, besides the reasons of `Excluded`."""

    BY_PERSON = "released_by_person"
    RUN_CANCELLED = "run_cancelled"


@dataclass(frozen=True, slots=True)
class Payee:
    """What decides whether somebody is paid on a rail, as it is now.

    payable_minor: may be below zero. carried_minor: deductions done, zero or more. fingerprint: of the active payout
    method on the rail. method_waits: it may not be paid to yet. account_shared: others are paid to it, unconfirmed.
    has_live_elsewhere: in another currency, by a rule that sums. tax_rule: what was chosen for it. tax_refusal: why its
    tax cannot be decided. deducted_minor: tax and fees that would be taken.
    """

    id: UUID
    status: str
    tax_rule: str | None
    payout_method_id: UUID | None
    fingerprint: str | None
    payable_minor: int
    carried_minor: int
    has_live_item: bool = False
    has_live_elsewhere: bool = False
    tax_refusal: Refusal | None = None
    deducted_minor: int = 0
    method_waits: bool = False
    account_shared: bool = False
    account_ready: bool = True
    """Whether nothing is known that keeps the account from taking money; a rail that tells nothing leaves it so."""
    paid_elsewhere: bool = False
    """Whether there is an account of another rail that pays the currency."""


def why_excluded(
    payee: Payee, *, minimum_minor: int, step_minor: int, limit_minor: int | None = None
) -> Excluded | None:
    """The first reason not to pay somebody now, or None.

    step_minor: smallest amount the rail pays. limit_minor: the largest payout there may be.
    """
    total_minor = payee.payable_minor + payee.carried_minor
    if payee.has_live_item:
        return Excluded.LIVE_ITEM
    if (standing := _standing(payee.status)) is not None:
        return standing
    if payee.payable_minor < 0:
        return Excluded.IN_DEBT
    if total_minor < max(1, minimum_minor):
        return Excluded.BELOW_MINIMUM
    if payee.payout_method_id is None and payee.paid_elsewhere:
        return Excluded.OTHER_RAIL
    if total_minor - payee.deducted_minor < step_minor:
        return Excluded.BELOW_RAIL_STEP
    if limit_minor is not None and total_minor - payee.deducted_minor > limit_minor:
        return Excluded.OVER_LIMIT
    if payee.payout_method_id is None:
        return Excluded.NO_PAYOUT_METHOD
    if payee.method_waits:
        return Excluded.METHOD_COOLING
    if payee.account_shared:
        return Excluded.SHARED_ACCOUNT
    if not payee.account_ready:
        return Excluded.ACCOUNT_NOT_READY
    return no_tax(payee)


def no_tax(payee: Payee) -> Excluded | None:
    """Why nothing can be withheld from somebody, and so nothing paid; None where it can."""
    if payee.tax_rule is None:
        return Excluded.NO_TAX_RULE
    return None if payee.tax_refusal is None else Excluded(payee.tax_refusal)


def why_dropped(
    payee: Payee,
    *,
    net_minor: int,
    limit_minor: int | None,
    fingerprint: str,
    tax: Decision,
    tax_now: Decision | None,
    approved_hash: str,
    content: str,
) -> Excluded | None:
    """The first reason to take an approved item out of its run just before it is handed to the rail, or None.

    net_minor, fingerprint, tax, approved_hash: as approved. limit_minor: the largest payout there may be now. tax_now: as
    it would be decided today, None where it cannot. content: the item's hash as recomputed now.
    """
    if content != approved_hash:
        return Excluded.CONTENT_CHANGED
    if (standing := _standing(payee.status)) is not None:
        return standing
    if payee.payable_minor < 0:
        return Excluded.IN_DEBT
    if payee.fingerprint != fingerprint:
        return Excluded.METHOD_CHANGED
    # Changed and changed back: the account is as approved, and the change back may be as little its owner's.
    if payee.method_waits:
        return Excluded.METHOD_COOLING
    if not payee.account_ready:
        return Excluded.ACCOUNT_NOT_READY
    if limit_minor is not None and net_minor > limit_minor:
        return Excluded.OVER_LIMIT
    if tax_now is None:
        # A rule set between the two reads: nothing was compared, and what was not compared is not sent.
        return no_tax(payee) or Excluded.TAX_CHANGED
    if (tax.rule, [part.key for part in tax.parts]) != (tax_now.rule, [part.key for part in tax_now.parts]):
        return Excluded.TAX_RULE_CHANGED
    return None if same(tax, tax_now) else Excluded.TAX_CHANGED


def _standing(status: str) -> Excluded | None:
    if status == "approved":
        return None
    return Excluded.AFFILIATE_SUSPENDED if status == "suspended" else Excluded.AFFILIATE_NOT_APPROVED


def item_hash(
    *,
    item_id: UUID,
    payee_id: UUID,
    currency: str,
    gross_minor: int,
    carried_minor: int,
    net_minor: int,
    tax_minor: int,
    tax_borne_minor: int,
    fee_minor: int,
    tax: Decision,
    rail: str,
    destination_fingerprint: str,
    pay_on: date,
    from_version: int,
    to_version: int,
) -> str:
    """SHA-256 of all that a second person approves about an item; recomputed before anything is sent."""
    content = {
        "item": str(item_id),
        "payee": str(payee_id),
        "currency": currency,
        "gross": gross_minor,
        "carried": carried_minor,
        "net": net_minor,
        "tax": tax_minor,
        "tax_rule": tax.rule,
        "rail": rail,
        "destination": destination_fingerprint,
        "pay_on": pay_on.isoformat(),
        "versions": [from_version, to_version],
    }
    # Absent where there is nothing, so that what was approved before these were known keeps its hash.
    later = {
        "tax_borne": tax_borne_minor,
        "fee": fee_minor,
        "tax_parts": [
            [part.key.rule, part.key.duty, part.key.period, part.base_minor, part.tax_minor] for part in tax.parts
        ],
    }
    content |= {name: value for name, value in later.items() if value}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_hash(item_hashes: Iterable[str]) -> str:
    """SHA-256 over the sorted item hashes: what an approval approves."""
    return hashlib.sha256("\n".join(sorted(item_hashes)).encode()).hexdigest()


class AnswerKind(StrEnum):
    """A rail's answer, as its adapter read it; what it means for the attempt is decided by `outcome_of`."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """A code from the rail's closed list of definite refusals."""
    MISMATCHED_KEY = "mismatched_key"
    """The same key with other parameters: our bug; the item is frozen."""
    STOPPED = "stopped"
    """Our credentials were refused: the whole rail stops, nothing is known of the attempt."""
    UNKNOWN = "unknown"
    """Time-out, reset, 5xx, 409, 429, anything unreadable."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rail said. reference: the provider's id when accepted. code: the provider's word, for people.

    amount_minor, currency, destination: of the transfer as the provider has it, once accepted; in ISO minor units.
    """

    kind: AnswerKind
    reference: str = ""
    code: str = ""
    amount_minor: int | None = None
    currency: str = ""
    destination: str = ""


def outcome_of(answer: Answer, *, sends: int, found_elsewhere: bool) -> Outcome:
    """What one answer proves (docs/payouts.md, "Sending one payout").

    sends: how often this attempt has been sent, this one included. A refusal of a second sending proves nothing while
    the first may still be travelling. found_elsewhere: a look-up after the refusal found the transfer all the same.
    """
    match answer.kind:
        case AnswerKind.ACCEPTED:
            return Outcome.ACCEPTED
        case AnswerKind.REFUSED if sends == 1 and not found_elsewhere:
            return Outcome.REFUSED
        case _:
            return Outcome.UNKNOWN


def may_send(*, now: datetime, first_sent_at: datetime | None) -> bool:
    """Whether a key is young enough to be sent (again)."""
    return first_sent_at is None or now < first_sent_at + SEND_WINDOW


RESEND_AFTER = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=12),
)
"""Waits before an unknown attempt is looked up and sent again with the same key, by number of sendings."""

LOOK_EVERY = timedelta(hours=1)
"""Wait between look-ups once a key is too old to be sent again."""


def next_look(*, now: datetime, first_sent_at: datetime, sends: int) -> datetime:
    """When an unknown attempt is looked up next. sends: one or more."""
    if now < first_sent_at + SEND_WINDOW:
        # Not past the window: from its end on the attempt is looked up every now and then, and never sent.
        return min(now + RESEND_AFTER[min(sends, len(RESEND_AFTER)) - 1], first_sent_at + SEND_WINDOW)
    if now < first_sent_at + ABSENCE_AFTER:
        return min(now + LOOK_EVERY, first_sent_at + ABSENCE_AFTER)
    return now + LISTINGS_APART


def proves_absence(
    listings: Sequence[datetime], *, first_sent_at: datetime, last_lease_until: datetime, now: datetime
) -> bool:
    """Whether complete listings without a transfer prove that no sending did anything (docs/payouts.md).

    listings: when each complete, empty listing was made. last_lease_until: end of the last lease under which the
    attempt was sent; its owner must be long gone.
    """
    late = sorted(at for at in listings if at >= first_sent_at + ABSENCE_AFTER)
    apart = bool(late) and late[-1] - late[0] >= LISTINGS_APART
    return apart and now >= last_lease_until + OWNER_DEAD_AFTER


def lowest_minimum(minimums: Iterable[Mapping[str, int]], currency: str) -> int:
    """Smallest balance paid out to somebody in several programmes: the lowest any of them promises, else 1."""
    promised = [minimum[currency] for minimum in minimums if currency in minimum]
    return max(1, min(promised, default=1))
