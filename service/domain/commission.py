"""Commissions: what one comes to and why, where its parts stand, and how they move there."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Any
from uuid import UUID

from service.domain.errors import InvariantBroken
from service.domain.settlement import Outlook

JsonObject = dict[str, Any]


class CommissionStatus(StrEnum):
    REJECTED = "rejected"
    REVERSED = "reversed"
    HELD = "held"
    PENDING = "pending"
    """Earned; a demanded approval is missing."""
    APPROVED = "approved"
    """Earned; only the clock is waited for."""
    PAYABLE = "payable"
    IN_PAYOUT = "in_payout"
    PAID = "paid"


class CommissionReason(StrEnum):
    """Why a commission stands where it stands. A closed list; codes are never renamed."""

    EARNED = "earned"
    REJECTED = "rejected_by_merchant"
    CANCELLED = "order_cancelled"
    REFUNDED = "fully_refunded"
    NOT_ATTRIBUTED = "attributed_elsewhere"
    CURRENCY_CHANGED = "order_currency_changed"
    NO_RULE = "no_rule_matches"
    PAUSED = "program_paused"
    """The programme was stopped when the order was placed."""
    NO_TERMS = "no_terms_in_force"
    """A person credited somebody who was in no programme with terms in force when the order was placed."""
    DISPUTE = "dispute_open"
    HOLD = "hold_open"
    SELF_PURCHASE = "self_purchase_suspected"
    """The buyer may be the affiliate; a person has to approve."""
    REFUND_CURRENCY = "refund_currency"
    CONFLICTING_VERSION = "conflicting_version"
    AWAITING_MILESTONE = "awaiting_milestone"
    AWAITING_APPROVAL = "awaiting_approval"
    ABOVE_APPROVAL = "above_approved_amount"
    IN_HOLD_PERIOD = "in_hold_period"
    PERIOD_BONUS = "period_bonus"
    """What a ladder or a mark gives for the orders of a period; it stands where they stand."""
    PERIOD_CAP = "period_cap"
    """What a cap takes back of the orders of a period."""
    AWAITING_STATEMENT = "awaiting_statement"
    """The pay day of its statement is waited for."""
    ADJUSTED = "adjusted_by_merchant"
    """The rules give nothing: a person's adjustment, such as a bonus, is all there is. Or one took all the rules give."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one payee should have earned on one order in one currency.

    target_minor: zero or more. approved_minor: the most that may be settled; None while nobody has approved and nobody
    has to.
    settles_at: when it may become payable; None while a milestone or a demanded approval is missing.
    outlook: what it waits for until then; None where nothing is earned.
    receipt: how target_minor came about; recomputes exactly.
    volume_minor: net goods that it pays the affiliate for; 0 for other payees, and where nothing is earned.
    is_affiliate: whether the payee brought the order, so that it counts in the affiliate's periods.
    """

    payee_id: UUID
    currency: str
    target_minor: int
    reason: CommissionReason
    program_id: UUID | None = None
    program_version: int | None = None
    approved_minor: int | None = None
    settles_at: datetime | None = None
    outlook: Outlook | None = None
    receipt: JsonObject = field(default_factory=dict)
    volume_minor: int = 0
    is_affiliate: bool = False


class EntryKind(StrEnum):
    """What a commission entry did; each has one debit and one credit place."""

    ACCRUE = "accrue"
    REDUCE = "reduce"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    SETTLE = "settle"
    PERIOD = "period"
    """A rule over a period follows what its orders did; from any place to any other."""


class Place(StrEnum):
    """Where a part of a commission stands. EXPENSE is outside: not earned (any more)."""

    EXPENSE = "commission_expense"
    PENDING = "pending"
    HELD = "held"
    PAYABLE = "payable"


@dataclass(frozen=True, slots=True)
class Move:
    """An amount above zero that goes from one place to another."""

    kind: EntryKind
    source: Place
    destination: Place
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where a commission's posted amount stands; the three add up to what is posted.

    settled_minor counts everything that reached payable and was not taken back, wherever it went from there. None of
    the three is ever below zero; what a payee owes shows in its payable balance, not here.
    """

    pending_minor: int = 0
    held_minor: int = 0
    settled_minor: int = 0

    @property
    def posted_minor(self) -> int:
        return self.pending_minor + self.held_minor + self.settled_minor

    def after(self, moves: Iterable[Move]) -> "Places":
        """Raises InvariantBroken where a place would fall below zero, as no order's ever does."""
        result = self.shifted(moves)
        if min(result.pending_minor, result.held_minor, result.settled_minor) < 0:
            raise InvariantBroken(f"a commission's place fell below zero: {result}")
        return result

    def shifted(self, moves: Iterable[Move]) -> "Places":
        """The same, also below zero: what a cap takes back of a period's orders."""
        amount = {Place.PENDING: self.pending_minor, Place.HELD: self.held_minor, Place.PAYABLE: self.settled_minor}
        for move in moves:
            if move.source in amount:
                amount[move.source] -= move.amount_minor
            if move.destination in amount:
                amount[move.destination] += move.amount_minor
        return Places(amount[Place.PENDING], amount[Place.HELD], amount[Place.PAYABLE])


def difference(now: Places, *, target_minor: int, frozen: bool, freezable_minor: int) -> list[Move]:
    """The moves from what is posted to what should be, each amount and where it stands.

    freezable_minor: settled money not yet handed to a rail; it goes to held while frozen. Payable may fall below zero
    by it; the reserved payout item is then dropped when it is planned. Zero or more.
    Less earned is taken from pending, then held, then settled, so money still here goes before money that is gone.
    """
    moves: list[Move] = []

    def move(kind: EntryKind, source: Place, destination: Place, amount_minor: int) -> None:
        if amount_minor > 0:
            moves.append(Move(kind, source, destination, amount_minor))

    change = target_minor - now.posted_minor
    if change > 0:
        move(EntryKind.ACCRUE, Place.EXPENSE, Place.HELD if frozen else Place.PENDING, change)
    else:
        rest = -change
        for place, available in (
            (Place.PENDING, now.pending_minor),
            (Place.HELD, now.held_minor),
            (Place.PAYABLE, now.settled_minor),
        ):
            taken = min(rest, available)
            move(EntryKind.REDUCE, place, Place.EXPENSE, taken)
            rest -= taken
        if rest:
            raise InvariantBroken(f"posted {now} cannot fall to {target_minor}")
    after = now.after(moves)
    if frozen:
        left = max(0, freezable_minor - (now.settled_minor - after.settled_minor))
        move(EntryKind.FREEZE, Place.PENDING, Place.HELD, after.pending_minor)
        move(EntryKind.FREEZE, Place.PAYABLE, Place.HELD, min(left, after.settled_minor))
    else:
        move(EntryKind.UNFREEZE, Place.HELD, Place.PENDING, after.held_minor)
    return moves


def shift(now: Places, want: Places) -> list[Move]:
    """The fewest moves from one standing of a period's commission to another, each from what loses to what gains."""
    gains = {
        Place.PENDING: want.pending_minor - now.pending_minor,
        Place.HELD: want.held_minor - now.held_minor,
        Place.PAYABLE: want.settled_minor - now.settled_minor,
    }
    gains[Place.EXPENSE] = -sum(gains.values())
    # First what one loses and another gains to the unit: two such pairs take two moves, mixed up they would take three.
    even = [pair for pair in product(gains, repeat=2) if gains[pair[0]] + gains[pair[1]] == 0]
    moves: list[Move] = []
    for source, destination in (*even, *product(gains, repeat=2)):
        amount = min(-gains[source], gains[destination])
        if amount > 0:
            moves.append(Move(EntryKind.PERIOD, source, destination, amount))
            gains[source] += amount
            gains[destination] -= amount
    return moves


def standing_reason(target: Target, places: Places) -> CommissionReason:
    """The reason to show: once all of it is settled, nothing is waited for any more."""
    settled = target.target_minor > 0 and places.settled_minor == target.target_minor
    return CommissionReason.EARNED if settled else target.reason


def settleable(now: Places, *, approved_minor: int | None) -> int:
    """How much of pending a due settlement moves: all of it, as far as settled stays within the approved amount."""
    if approved_minor is None:
        return now.pending_minor
    return max(0, min(now.pending_minor, approved_minor - now.settled_minor))


def settle_move(amount_minor: int) -> Move:
    return Move(EntryKind.SETTLE, Place.PENDING, Place.PAYABLE, amount_minor)


def status_of(
    *,
    target_minor: int,
    places: Places,
    reason: CommissionReason,
    approved_minor: int | None,
    in_item_minor: int,
    paid_minor: int,
) -> CommissionStatus:
    """The status shown for a commission: the first line of the table in docs/money.md that is true.

    in_item_minor, paid_minor: how much of the settled amount stands in payout items not yet accepted, and accepted.
    """
    if target_minor == 0:
        rejected = reason is CommissionReason.REJECTED
        return CommissionStatus.REJECTED if rejected else CommissionStatus.REVERSED
    if places.held_minor:
        return CommissionStatus.HELD
    if places.pending_minor:
        # Before silence counts as approval nothing limits what may be settled, and yet a person is waited for.
        waiting = reason is CommissionReason.AWAITING_APPROVAL or (
            approved_minor is not None and approved_minor <= places.settled_minor
        )
        return CommissionStatus.PENDING if waiting else CommissionStatus.APPROVED
    if places.settled_minor - in_item_minor - paid_minor:
        return CommissionStatus.PAYABLE
    return CommissionStatus.IN_PAYOUT if in_item_minor else CommissionStatus.PAID
