"""What people's adjustments make of what the rules give."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from service.domain.adjustment import (
    adjustments,
    counts,
    is_rejected,
    line_of,
    receipt_without_rules,
    with_adjustments,
)
from service.domain.commission import CommissionReason, Target
from service.domain.order import DecisionFact, DecisionKind, OrderFacts
from service.domain.settlement import FrozenReason, Outlook

_Earned = Mapping[tuple[UUID, str], Target]


def adjusted(facts: OrderFacts, earned: _Earned, frozen: FrozenReason | None) -> dict[tuple[UUID, str], Target]:
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
            target = _adjusted(facts, earned, target, standing, frozen)
        before = receipt_without_rules(currency) if rule is None else rule.receipt
        lines = [line_of(each, counting=each in standing) for each in given]
        found[payee_id, currency] = replace(target, receipt=with_adjustments(before, lines))
    return found


def _adjusted(
    facts: OrderFacts,
    earned: _Earned,
    target: Target,
    standing: Sequence[DecisionFact],
    frozen: FrozenReason | None,
) -> Target:
    """A target with the adjustments that count added. It stops at 0: what was earned can be taken, no debt be made."""
    change = sum(each.amount_minor for each in standing if each.amount_minor is not None)
    amount_minor = max(0, target.target_minor + change)
    approved_minor, ahead = target.approved_minor, target.outlook
    alone = facts.snapshot is None or facts.snapshot.cancelled or is_rejected(facts, target.payee_id)
    if alone or (target.payee_id, target.currency) not in earned:
        verdict = facts.decisions.get(f"verdict:{target.payee_id}")
        approves = verdict is not None and verdict.kind is DecisionKind.APPROVE and verdict.currency == target.currency
        approved_minor = verdict.amount_minor if verdict is not None and approves else None
        # Where nobody's terms speak there is no clock to keep to.
        decided_at = max(each.decided_at for each in standing)
        ahead = _from(decided_at if alone or not earned else _clock(earned), frozen)
    payable_from = None if ahead is None else ahead.settles_at
    reason = _adjusted_reason(
        target.reason,
        rules_minor=target.target_minor,
        target_minor=amount_minor,
        frozen=frozen,
        approved_minor=approved_minor,
        payable_from=payable_from,
    )
    return replace(
        target,
        target_minor=amount_minor,
        approved_minor=approved_minor,
        settles_at=payable_from,
        outlook=ahead,
        reason=reason,
    )


def _clock(earned: _Earned) -> datetime | None:
    """When what others earn on the order may become payable, approved or not: the latest of them; None if one waits."""
    clocks = [target.outlook.pays_at for target in earned.values() if target.outlook is not None]
    reached = [each for each in clocks if each is not None]
    return max(reached) if reached and len(reached) == len(clocks) else None


def _from(at: datetime | None, frozen: FrozenReason | None) -> Outlook:
    """Payable from a moment on, and waiting for nobody's approval."""
    return Outlook(
        missing=None,
        final_at=at,
        statement=None,
        pays_at=at,
        unapproved=False,
        auto_approves_at=None,
        frozen=() if frozen is None else (frozen,),
    )


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
