"""What every payee should have earned from one order, from all facts known so far, with the receipt that explains it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from uuid import UUID

from service.domain.adjusted import adjusted
from service.domain.attribution import Attribution, Credit, Identities, attribute
from service.domain.commission import CommissionReason, Target
from service.domain.conditions import Customer, Situation
from service.domain.customer import NO_HISTORY, History
from service.domain.dated import DatedInputs, PauseEffect, as_of
from service.domain.money import round_half_away
from service.domain.order import DecisionKind, NetLine, OrderFacts, OrderSnapshot, TouchKind, cash_lines, net_lines
from service.domain.program import Base, versions_for
from service.domain.quote import quote
from service.domain.settlement import FrozenReason, Outlook, StatementSettlement, frozen_reason, outlook, together
from service.domain.shares import Claim, Division, divide

JsonObject = dict[str, Any]


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
    history: History | None = None,
) -> Assessment:
    """Compute an order's targets from everything known about it.

    facts: may lack the snapshot; then nothing is earned yet. identities: matches stored with the order before.
    known: (payee, currency) of commissions that exist; those no longer earned come back with target 0.
    history: what the customer's other orders say; None where the order names no customer, or no terms ask.
    Pure: the order in which facts arrived, and when, is not an argument.
    """
    attribution = attribute(facts, inputs, identities, history or NO_HISTORY)
    frozen = frozen_reason(facts) or _suspected(facts, attribution)
    lines = net_lines(facts.snapshot, facts.all_refunds()) if facts.snapshot else []
    earned: dict[tuple[UUID, str], Target] = {}
    if facts.snapshot is not None:
        claims = _claims(facts.snapshot, inputs, lines, attribution.credits, history)
        for target in _targets(facts, inputs, divide(claims), frozen):
            earned[target.payee_id, target.currency] = target
    earned |= adjusted(facts, earned, frozen)
    sharing = {payee_id for payee_id, _ in earned} | {credit.affiliate_id for credit in attribution.credits}
    for payee_id, currency in known:
        if (payee_id, currency) not in earned:
            reason = _why_nothing(facts, sharing, payee_id=payee_id, currency=currency)
            earned[(payee_id, currency)] = Target(payee_id, currency, 0, reason)
    targets = tuple(sorted(earned.values(), key=lambda target: (target.payee_id.int, target.currency)))
    return Assessment(attribution, targets, frozen, sum(line.net_minor for line in lines))


def _suspected(facts: OrderFacts, attribution: Attribution) -> FrozenReason | None:
    """A buyer who may be the affiliate: held until a person says something of that affiliate."""
    suspects = {credit.affiliate_id for credit in attribution.credits if credit.is_own}
    unseen = [payee_id for payee_id in suspects if f"verdict:{payee_id}" not in facts.decisions]
    return FrozenReason.SELF_PURCHASE if unseen else None


def _why_nothing(facts: OrderFacts, sharing: Collection[UUID], *, payee_id: UUID, currency: str) -> CommissionReason:
    """sharing: whom the order is credited to, and who has a part of that."""
    if facts.snapshot is None or payee_id not in sharing:
        return CommissionReason.NOT_ATTRIBUTED
    return CommissionReason.NO_TERMS if facts.snapshot.currency == currency else CommissionReason.CURRENCY_CHANGED


def _claims(
    snapshot: OrderSnapshot,
    inputs: DatedInputs,
    lines: Sequence[NetLine],
    credited: Sequence[Credit],
    history: History | None,
) -> list[Claim]:
    """What each credit asks of the order by the versions of its programme that speak for it; those without terms drop out."""
    taken = frozenset[str]().union(*(credit.skus or frozenset() for credit in credited))
    at = snapshot.placed_at
    buyer = Customer(
        country=snapshot.country,
        lists=inputs.lists_of(snapshot.customer, at),
        first_order_at=None if history is None else history.first_at,
        is_known=history is not None,
    )
    claims = []
    for credit in credited:
        if credit.program_id is None:
            continue
        enrolled_at = inputs.enrolled_since(credit.program_id, credit.affiliate_id, at) or at
        versions = versions_for(inputs.versions.get(credit.program_id, ()), placed_at=at, enrolled_at=enrolled_at)
        if not versions:
            continue
        covered = [
            line
            for line in lines
            if (line.line.sku in credit.skus if credit.skus is not None else line.line.sku not in taken)
        ]
        touch = credit.touch
        order = Situation.of(
            lines,
            placed_at=at,
            currency=snapshot.currency,
            touch=None if touch is None else touch.kind,
            coupon=touch.ref if touch is not None and touch.kind is TouchKind.COUPON else "",
            affiliate_id=credit.affiliate_id,
            label=credit.label,
            grade=as_of(inputs.grades.get(credit.affiliate_id, ()), at),
            customer=buyer,
            time_zone=inputs.time_zone,
        )
        paid = {Base.NET: covered, Base.CASH: cash_lines(snapshot, covered) if snapshot.virtual_minor else covered}
        quotes = tuple(quote(version, paid[version.terms.base], order) for version in versions)
        membership = as_of(inputs.roster.get(credit.affiliate_id, ()), at)
        claims.append(Claim(credit, quotes, membership, some_lines=len(covered) < len(lines)))
    return claims


def _targets(
    facts: OrderFacts, inputs: DatedInputs, divisions: Sequence[Division], frozen: FrozenReason | None
) -> list[Target]:
    """One target for each payee: of one who has parts of several credits, all together."""
    by_payee: dict[UUID, list[tuple[Division, _Standing]]] = {}
    for division in divisions:
        standing = _standing(facts, inputs, division, frozen)
        for payee_id in division.by_payee():
            by_payee.setdefault(payee_id, []).append((division, standing))
    return [_target(facts, payee_id, found, frozen) for payee_id, found in by_payee.items()]


@dataclass(frozen=True, slots=True)
class _Standing:
    """How a credit stands as a whole. voided: by what it earns nothing, if anything.

    approved: the part of the affiliate's commission that may be settled, of each payee's too; None: all of it.
    """

    voided: CommissionReason | None
    approved: Fraction | None
    ahead: Outlook
    is_statement: bool


def _standing(facts: OrderFacts, inputs: DatedInputs, division: Division, frozen: FrozenReason | None) -> _Standing:
    snapshot, credit = facts.snapshot, division.claim.credit
    assert snapshot is not None
    verdict = facts.decisions.get(f"verdict:{credit.affiliate_id}")
    settlement = division.claim.best.version.terms.settlement
    pause = None if credit.program_id is None else as_of(inputs.pauses.get(credit.program_id, ()), snapshot.placed_at)
    effect = PauseEffect.NONE if pause is None else pause.effect
    # An approval names an amount of one currency, and says nothing about another.
    given = verdict is not None and verdict.kind is DecisionKind.APPROVE and verdict.currency == snapshot.currency
    ahead = outlook(
        facts,
        settlement,
        approved=given,
        reviewed=effect is PauseEffect.REVIEW,
        suspected=frozen is FrozenReason.SELF_PURCHASE,
        time_zone=inputs.time_zone,
    )
    voided = None
    if verdict is not None and verdict.kind is DecisionKind.REJECT:
        voided = CommissionReason.REJECTED
    elif snapshot.cancelled:
        voided = CommissionReason.CANCELLED
    elif effect is PauseEffect.STOP:
        voided = CommissionReason.PAUSED
    approved: Fraction | None = None
    if given and verdict is not None and verdict.amount_minor is not None:
        own = division.by_payee()[credit.affiliate_id]
        approved = Fraction(verdict.amount_minor, own) if own else None
    elif ahead.unapproved and ahead.auto_approves_at is None:
        # Silence that is going to count as approval sets no limit; until then it is settles_at that keeps the money back.
        approved = Fraction(0)
    return _Standing(voided, approved, ahead, isinstance(settlement, StatementSettlement))


def _target(
    facts: OrderFacts,
    payee_id: UUID,
    found: Sequence[tuple[Division, _Standing]],
    frozen: FrozenReason | None,
) -> Target:
    assert facts.snapshot is not None
    own = [division for division, _ in found if division.claim.credit.affiliate_id == payee_id]
    verdict = facts.decisions.get(f"verdict:{payee_id}")
    rejected = verdict is not None and verdict.kind is DecisionKind.REJECT
    receipts = [
        division.receipt(payee_id, voided=rejected or standing.voided is not None) for division, standing in found
    ]
    amounts: list[int] = [receipt["target_minor"] for receipt in receipts]
    target_minor = sum(amounts)
    limits = [_limit(standing, amount) for (_, standing), amount in zip(found, amounts, strict=True)]
    approved_minor = None
    if any(limit is not None for limit in limits):
        approved_minor = sum(amount if limit is None else limit for limit, amount in zip(limits, amounts, strict=True))
    if verdict is not None and verdict.kind is DecisionKind.APPROVE and verdict.currency == facts.snapshot.currency:
        approved_minor = verdict.amount_minor
    ahead = together([standing.ahead for _, standing in found])
    paying = [
        division
        for division, standing in found
        if division.claim.credit.affiliate_id == payee_id and standing.voided is None
    ]
    lead = [*paying, *own, found[0][0]][0]
    return Target(
        payee_id=payee_id,
        currency=facts.snapshot.currency,
        target_minor=target_minor,
        reason=_reason(
            found,
            rejected=rejected,
            target_minor=target_minor,
            frozen=frozen,
            approved_minor=approved_minor,
            ahead=ahead,
        ),
        program_id=lead.claim.credit.program_id,
        program_version=lead.claim.best.version.number,
        approved_minor=approved_minor,
        settles_at=ahead.settles_at,
        outlook=ahead,
        receipt=receipts[0] if len(receipts) == 1 else _together(receipts),
        volume_minor=_volume(paying) if target_minor else 0,
        is_affiliate=bool(own),
    )


def _together(receipts: Sequence[JsonObject]) -> JsonObject:
    """The receipt of a payee who has parts of several credits."""
    borne: dict[str, int] = {}
    for receipt in receipts:
        for funder, amount in receipt["borne_by"].items():
            borne[funder] = borne.get(funder, 0) + amount
    return {
        "currency": receipts[0]["currency"],
        "credits": list(receipts),
        "target_minor": sum(receipt["target_minor"] for receipt in receipts),
        "borne_by": borne,
    }


def _limit(standing: _Standing, amount_minor: int) -> int | None:
    """How much of a payee's amount may be settled; None: all of it, whatever it comes to."""
    if standing.approved is None:
        return None
    return min(amount_minor, round_half_away(amount_minor * standing.approved)) if standing.approved < 1 else None


def _volume(own: Sequence[Division]) -> int:
    """Net goods that an affiliate's credits are paid for, by their weights, in minor units."""
    exact = sum(
        (
            division.claim.credit.weight * max(line.share.line.net_minor, 0)
            for division in own
            for line in division.lines
            if line.share.parts
        ),
        Fraction(0),
    )
    return round_half_away(exact)


def _reason(
    found: Sequence[tuple[Division, _Standing]],
    *,
    rejected: bool,
    target_minor: int,
    frozen: FrozenReason | None,
    approved_minor: int | None,
    ahead: Outlook,
) -> CommissionReason:
    """The first reason that is true, in the order a reader would ask."""
    if rejected:
        return CommissionReason.REJECTED
    voided = [standing.voided for _, standing in found if standing.voided is not None]
    if len(voided) == len(found):
        return voided[0]
    if target_minor == 0:
        refunded = any(
            line.share.parts and line.share.line.refunded_minor for division, _ in found for line in division.lines
        )
        return CommissionReason.REFUNDED if refunded else CommissionReason.NO_RULE
    if frozen is not None:
        return CommissionReason(frozen.value)
    if approved_minor == 0 or ahead.unapproved:
        return CommissionReason.AWAITING_APPROVAL
    if ahead.missing is not None:
        return CommissionReason.AWAITING_MILESTONE
    if approved_minor is not None and approved_minor < target_minor:
        return CommissionReason.ABOVE_APPROVAL
    if any(standing.is_statement for _, standing in found):
        return CommissionReason.AWAITING_STATEMENT
    return CommissionReason.IN_HOLD_PERIOD
