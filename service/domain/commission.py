"""What every payee should have earned from one order, from all facts known so far, with the receipt that explains it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any, assert_never
from uuid import UUID

from service.domain.adjustment import (
    adjustments,
    counts,
    is_rejected,
    line_of,
    receipt_without_rules,
    with_adjustments,
)
from service.domain.attribution import Attribution, Identities, attribute
from service.domain.dated import DatedInputs
from service.domain.errors import InvariantBroken
from service.domain.money import round_half_away
from service.domain.order import DecisionFact, DecisionKind, NetLine, OrderFacts, Touch, TouchKind, net_lines
from service.domain.program import ProgramVersion, versions_for
from service.domain.rules import Flat, Part, Percent, Rule, Situation, by_funder, exact_shares, percent_of, total_of
from service.domain.settlement import Approval, FrozenReason, StatementSettlement, frozen_reason, settles_at

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
    NO_TERMS = "no_terms_in_force"
    """A person credited somebody who was in no programme with terms in force when the order was placed."""
    DISPUTE = "dispute_open"
    HOLD = "hold_open"
    REFUND_CURRENCY = "refund_currency"
    CONFLICTING_VERSION = "conflicting_version"
    AWAITING_MILESTONE = "awaiting_milestone"
    AWAITING_APPROVAL = "awaiting_approval"
    ABOVE_APPROVAL = "above_approved_amount"
    IN_HOLD_PERIOD = "in_hold_period"
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
    receipt: how target_minor came about; recomputes exactly.
    """

    payee_id: UUID
    currency: str
    target_minor: int
    reason: CommissionReason
    program_id: UUID | None = None
    program_version: int | None = None
    approved_minor: int | None = None
    settles_at: datetime | None = None
    receipt: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The whole answer for one order. targets: one per payee and currency, every known commission included."""

    attribution: Attribution
    targets: tuple[Target, ...]
    frozen: FrozenReason | None
    net_minor: int

    @property
    def trace(self) -> list[JsonObject]:
        return [candidate.as_json() for candidate in self.attribution.candidates]


def assess(
    facts: OrderFacts,
    inputs: DatedInputs,
    *,
    identities: Identities,
    known: Iterable[tuple[UUID, str]] = (),
) -> Assessment:
    """Compute an order's targets from everything known about it.

    facts: may lack the snapshot; then nothing is earned yet. identities: matches stored with the order before.
    known: (payee, currency) of commissions that exist; those no longer earned come back with target 0.
    Pure: the order in which facts arrived, and when, is not an argument.
    """
    attribution = attribute(facts, inputs, identities)
    frozen = frozen_reason(facts)
    lines = net_lines(facts.snapshot, facts.all_refunds()) if facts.snapshot else []
    earned: dict[tuple[UUID, str], Target] = {}
    if attribution.affiliate_id and attribution.program_id:
        target = _target(
            facts,
            inputs,
            lines,
            payee_id=attribution.affiliate_id,
            program_id=attribution.program_id,
            touch=attribution.touch,
            frozen=frozen,
        )
        if target is not None:
            earned[(target.payee_id, target.currency)] = target
    earned |= adjusted(facts, inputs, earned, frozen)
    for payee_id, currency in known:
        if (payee_id, currency) not in earned:
            reason = _why_nothing(facts, attribution, payee_id=payee_id, currency=currency)
            earned[(payee_id, currency)] = Target(payee_id, currency, 0, reason)
    targets = tuple(sorted(earned.values(), key=lambda target: (target.payee_id.int, target.currency)))
    return Assessment(attribution, targets, frozen, sum(line.net_minor for line in lines))


_Earned = Mapping[tuple[UUID, str], Target]


def adjusted(
    facts: OrderFacts, inputs: DatedInputs, earned: _Earned, frozen: FrozenReason | None
) -> dict[tuple[UUID, str], Target]:
    """The targets that people's adjustments change or make. earned: what the rules give.

    On an order the clock and a demanded approval stay the order's. What the rules give nothing for, because there is no
    order (a bonus), or it is cancelled, or the payee was rejected before, waits for neither: a person decided it.
    """
    found = {}
    for (payee_id, currency), given in adjustments(facts).items():
        rule = earned.get((payee_id, currency))
        standing = [each for each in given if counts(facts, each)]
        nothing = CommissionReason.REJECTED if is_rejected(facts, payee_id) else CommissionReason.ADJUSTED
        target = rule or Target(payee_id, currency, 0, nothing)
        # Of adjustments that all fell to a rejection nothing is left but their place in the receipt.
        if standing:
            target = _adjusted(facts, inputs, earned, target, standing, frozen)
        before = receipt_without_rules(currency) if rule is None else rule.receipt
        lines = [line_of(each, counting=each in standing) for each in given]
        found[payee_id, currency] = replace(target, receipt=with_adjustments(before, lines))
    return found


def _adjusted(
    facts: OrderFacts,
    inputs: DatedInputs,
    earned: _Earned,
    target: Target,
    standing: Sequence[DecisionFact],
    frozen: FrozenReason | None,
) -> Target:
    """A target with the adjustments that count added. It stops at 0: what was earned can be taken, no debt be made."""
    change = sum(each.amount_minor for each in standing if each.amount_minor is not None)
    amount_minor = max(0, target.target_minor + change)
    approved_minor, payable_from = target.approved_minor, target.settles_at
    alone = facts.snapshot is None or facts.snapshot.cancelled or is_rejected(facts, target.payee_id)
    if alone or (target.payee_id, target.currency) not in earned:
        verdict = facts.decisions.get(f"verdict:{target.payee_id}")
        approves = verdict is not None and verdict.kind is DecisionKind.APPROVE and verdict.currency == target.currency
        approved_minor = verdict.amount_minor if verdict is not None and approves else None
        # Where nobody's terms speak there is no clock to keep to.
        decided_at = max(each.decided_at for each in standing)
        payable_from = decided_at if alone or not earned else _clock(facts, inputs, earned)
    reason = _adjusted_reason(
        target.reason,
        rules_minor=target.target_minor,
        target_minor=amount_minor,
        frozen=frozen,
        approved_minor=approved_minor,
        payable_from=payable_from,
    )
    return replace(
        target, target_minor=amount_minor, approved_minor=approved_minor, settles_at=payable_from, reason=reason
    )


def _clock(facts: OrderFacts, inputs: DatedInputs, earned: _Earned) -> datetime | None:
    """When what others earn on the order may become payable, approved or not: the latest of them; None if one waits."""
    clocks = [
        settles_at(facts, version.terms.settlement, approved=True, time_zone=inputs.time_zone)
        for target in earned.values()
        if target.program_id is not None
        for version in inputs.versions.get(target.program_id, ())
        if version.number == target.program_version
    ]
    reached = [each for each in clocks if each is not None]
    return max(reached) if len(reached) == len(clocks) else None


_CLOCK_REASONS = frozenset({CommissionReason.IN_HOLD_PERIOD, CommissionReason.AWAITING_STATEMENT})


def _adjusted_reason(
    before: CommissionReason,
    *,
    rules_minor: int,
    target_minor: int,
    frozen: FrozenReason | None,
    approved_minor: int | None,
    payable_from: datetime | None,
) -> CommissionReason:
    """As `_reason`, of an adjusted target. before: why it stood where the rules put it."""
    if target_minor == 0:
        return before if rules_minor == 0 else CommissionReason.ADJUSTED
    if frozen is not None:
        return CommissionReason(frozen.value)
    if approved_minor == 0:
        return CommissionReason.AWAITING_APPROVAL
    if payable_from is None:
        return CommissionReason.AWAITING_MILESTONE
    if approved_minor is not None and approved_minor < target_minor:
        return CommissionReason.ABOVE_APPROVAL
    return before if before in _CLOCK_REASONS else CommissionReason.ADJUSTED


def _why_nothing(facts: OrderFacts, attribution: Attribution, *, payee_id: UUID, currency: str) -> CommissionReason:
    if facts.snapshot is None or attribution.affiliate_id != payee_id:
        return CommissionReason.NOT_ATTRIBUTED
    return CommissionReason.NO_TERMS if facts.snapshot.currency == currency else CommissionReason.CURRENCY_CHANGED


def _target(
    facts: OrderFacts,
    inputs: DatedInputs,
    lines: list[NetLine],
    *,
    payee_id: UUID,
    program_id: UUID,
    touch: Touch | None,
    frozen: FrozenReason | None,
) -> Target | None:
    snapshot = facts.snapshot
    assert snapshot is not None
    enrolled_at = inputs.enrolled_since(program_id, payee_id, snapshot.placed_at) or snapshot.placed_at
    versions = versions_for(inputs.versions.get(program_id, ()), placed_at=snapshot.placed_at, enrolled_at=enrolled_at)
    if not versions:
        return None
    order = Situation.of(
        lines,
        placed_at=snapshot.placed_at,
        currency=snapshot.currency,
        touch=None if touch is None else touch.kind,
        coupon=touch.ref if touch is not None and touch.kind is TouchKind.COUPON else "",
    )
    quotes = [quote(version, lines, order) for version in versions]
    # max keeps the first of equals: the version in force, then the protected one superseded last.
    best = max(quotes, key=lambda quoted: quoted.total_minor)
    verdict = facts.decisions.get(f"verdict:{payee_id}")
    settlement = best.version.terms.settlement
    # An approval names an amount of one currency, and says nothing about another.
    approved = verdict is not None and verdict.kind is DecisionKind.APPROVE and verdict.currency == snapshot.currency
    demanded = settlement.approval is Approval.MANUAL
    approved_minor = verdict.amount_minor if verdict is not None and approved else (0 if demanded else None)
    payable_from = settles_at(facts, settlement, approved=approved, time_zone=inputs.time_zone)
    voided = snapshot.cancelled or (verdict is not None and verdict.kind is DecisionKind.REJECT)
    target_minor = 0 if voided else best.total_minor
    return Target(
        payee_id=payee_id,
        currency=snapshot.currency,
        target_minor=target_minor,
        reason=_reason(
            facts,
            verdict,
            best,
            target_minor=target_minor,
            frozen=frozen,
            approved_minor=approved_minor,
            payable_from=payable_from,
        ),
        program_id=program_id,
        program_version=best.version.number,
        approved_minor=approved_minor,
        settles_at=payable_from,
        receipt=best.receipt(considered=quotes, voided=voided, payable=target_minor),
    )


def _reason(
    facts: OrderFacts,
    verdict: DecisionFact | None,
    best: "Quote",
    *,
    target_minor: int,
    frozen: FrozenReason | None,
    approved_minor: int | None,
    payable_from: datetime | None,
) -> CommissionReason:
    """The first reason that is true, in the order a reader would ask."""
    assert facts.snapshot is not None
    if verdict is not None and verdict.kind is DecisionKind.REJECT:
        return CommissionReason.REJECTED
    if facts.snapshot.cancelled:
        return CommissionReason.CANCELLED
    if target_minor == 0:
        refunded = any(share.parts and share.line.refunded_minor for share in best.shares)
        return CommissionReason.REFUNDED if refunded else CommissionReason.NO_RULE
    if frozen is not None:
        return CommissionReason(frozen.value)
    if approved_minor == 0:
        return CommissionReason.AWAITING_APPROVAL
    if payable_from is None:
        return CommissionReason.AWAITING_MILESTONE
    if approved_minor is not None and approved_minor < target_minor:
        return CommissionReason.ABOVE_APPROVAL
    if isinstance(best.version.terms.settlement, StatementSettlement):
        return CommissionReason.AWAITING_STATEMENT
    return CommissionReason.IN_HOLD_PERIOD


@dataclass(frozen=True, slots=True)
class LineShare:
    """What one line earns. parts: by component; none where no rule speaks for it, or it is excluded.

    exact: in minor units before rounding, between 0 and what is left of the line.
    """

    line: NetLine
    parts: tuple[Part, ...]
    exact: Fraction
    commission_minor: int
    excluded: bool = False

    @classmethod
    def of(cls, line: NetLine, parts: tuple[Part, ...], *, excluded: bool = False) -> "LineShare":
        exact = total_of(parts)
        return cls(line, parts, exact, round_half_away(exact), excluded)


@dataclass(frozen=True, slots=True)
class Quote:
    """What one version of the terms gives for one order."""

    version: ProgramVersion
    order: Situation
    shares: list[LineShare]

    @property
    def cap_minor(self) -> int | None:
        return self.version.terms.cap_minor(self.order.currency)

    @property
    def uncapped_minor(self) -> int:
        return sum(share.commission_minor for share in self.shares)

    @property
    def total_minor(self) -> int:
        return self.uncapped_minor if self.cap_minor is None else min(self.uncapped_minor, self.cap_minor)

    def receipt(self, *, considered: "list[Quote]", voided: bool, payable: int) -> JsonObject:
        """Everything needed to recompute the amount by hand."""
        return {
            "program_version": self.version.number,
            "versions_considered": [
                {
                    "version": quoted.version.number,
                    "standing": "in_force" if index == 0 else "protected",
                    "total_minor": quoted.total_minor,
                }
                for index, quoted in enumerate(considered)
            ],
            "currency": self.order.currency,
            "order": self.order.as_json(),
            "base": self.version.terms.base.value,
            "rounding": "line_half_away_from_zero",
            "lines": [self._line_receipt(share) for share in self.shares],
            "sum_of_lines_minor": self.uncapped_minor,
            "cap_minor": self.cap_minor,
            "voided": voided,
            "target_minor": payable,
            "borne_by": self._borne_by(payable),
        }

    def _borne_by(self, payable: int) -> JsonObject:
        shares = [(share.parts, share.commission_minor) for share in self.shares]
        return by_funder(self.version.terms.rules, shares, payable)

    def _line_receipt(self, share: LineShare) -> JsonObject:
        line = share.line.line
        return {
            "line_id": line.id,
            "sku": line.sku,
            "category": line.category,
            "quantity": line.quantity,
            "ordered_minor": line.net_minor,
            "refunded_minor": share.line.refunded_minor,
            "base_minor": share.line.net_minor,
            "excluded": share.excluded,
            "parts": [self._part_receipt(part) for part in share.parts],
            "exact_minor": str(share.exact),
            "commission_minor": share.commission_minor,
        }

    def _part_receipt(self, part: Part) -> JsonObject:
        rules = self.version.terms.rules
        return {
            "component": part.component,
            "funder": rules[part.index].funder,
            "rule": part.index,
            **_pays(rules[part.index], self.order.currency),
            "exact_minor": str(part.exact),
            "candidates": [
                {
                    "rule": candidate.index,
                    "plan": rules[candidate.index].plan.value,
                    "priority": -rules[candidate.index].rank(candidate.index)[1],
                    "exact_minor": str(candidate.exact),
                    "standing": candidate.standing.value,
                }
                for candidate in part.candidates
            ],
        }


def _pays(rule: Rule, currency: str) -> JsonObject:
    match rule.pays:
        case Percent(rate):
            return {"rate": percent_of(rate), "flat_minor": None, "per": None}
        case Flat(per=per):
            return {"rate": None, "flat_minor": rule.pays.amount_minor(currency), "per": per.value}
        case _:
            assert_never(rule.pays)


def quote(version: ProgramVersion, lines: list[NetLine], order: Situation) -> Quote:
    """Apply one version's rules to net goods lines: each line is rounded once, then the order is capped."""
    terms = version.terms
    excluded = [terms.excludes(line, order) for line in lines]
    earning = [line for line, out in zip(lines, excluded, strict=True) if not out]
    parts = iter(exact_shares(terms.rules, earning, order))
    shares = [
        LineShare.of(line, () if out else next(parts), excluded=out) for line, out in zip(lines, excluded, strict=True)
    ]
    return Quote(version, order, shares)


class EntryKind(StrEnum):
    """What a commission entry did; each has one debit and one credit place."""

    ACCRUE = "accrue"
    REDUCE = "reduce"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    SETTLE = "settle"


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
        amount = {Place.PENDING: self.pending_minor, Place.HELD: self.held_minor, Place.PAYABLE: self.settled_minor}
        for move in moves:
            if move.source in amount:
                amount[move.source] -= move.amount_minor
            if move.destination in amount:
                amount[move.destination] += move.amount_minor
        result = Places(amount[Place.PENDING], amount[Place.HELD], amount[Place.PAYABLE])
        if min(amount.values()) < 0:
            raise InvariantBroken(f"a commission's place fell below zero: {result}")
        return result


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
        waiting = approved_minor is not None and approved_minor <= places.settled_minor
        return CommissionStatus.PENDING if waiting else CommissionStatus.APPROVED
    if places.settled_minor - in_item_minor - paid_minor:
        return CommissionStatus.PAYABLE
    return CommissionStatus.IN_PAYOUT if in_item_minor else CommissionStatus.PAID
