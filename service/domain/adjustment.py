"""What people add to a payee's earnings or take from them, on one order or as a bonus without an order."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.domain.money import spread
from service.domain.order import DecisionFact, DecisionKind, OrderFacts
from service.domain.rules import MERCHANT

JsonObject = dict[str, Any]


def adjustments(facts: OrderFacts) -> dict[tuple[UUID, str], list[DecisionFact]]:
    """Adjustments by payee and currency, oldest first; those that count no more included."""
    found: dict[tuple[UUID, str], list[DecisionFact]] = defaultdict(list)
    for decision in facts.decisions.values():
        if decision.kind is DecisionKind.ADJUST and decision.payee_id and decision.amount_minor is not None:
            found[decision.payee_id, decision.currency].append(decision)
    return {key: sorted(given, key=lambda each: (each.decided_at, each.id)) for key, given in found.items()}


def is_rejected(facts: OrderFacts, payee_id: UUID) -> bool:
    """Whether the verdict that stands is that the payee gets nothing."""
    verdict = facts.decisions.get(f"verdict:{payee_id}")
    return verdict is not None and verdict.kind is DecisionKind.REJECT


def counts(facts: OrderFacts, adjustment: DecisionFact) -> bool:
    """Whether an adjustment stands: a rejection takes what was added until then, not what a person adds after it."""
    verdict = facts.decisions.get(f"verdict:{adjustment.payee_id}")
    return verdict is None or verdict.kind is not DecisionKind.REJECT or adjustment.decided_at > verdict.decided_at


def line_of(adjustment: DecisionFact, *, counting: bool) -> JsonObject:
    """An adjustment as receipts show it. Without the note: that is the merchant's own."""
    return {
        "id": adjustment.id,
        "amount_minor": adjustment.amount_minor,
        "reason_code": adjustment.reason_code,
        "decided_at": adjustment.as_json()["decided_at"],
        "counts": counting,
    }


def with_adjustments(receipt: JsonObject, lines: Sequence[JsonObject]) -> JsonObject:
    """A receipt of what the rules give, with adjustments (as `line_of` makes them) added; the target stops at 0.

    What is added is borne by the merchant; what is taken is taken from all funders in proportion, by largest remainder.
    """
    rules_minor: int = receipt["target_minor"]
    target_minor = max(0, rules_minor + sum(line["amount_minor"] for line in lines if line["counts"]))
    borne: dict[str, int] = dict(receipt["borne_by"])
    if target_minor < rules_minor:
        borne = dict(zip(borne, spread(target_minor, list(borne.values())), strict=True))
    else:
        borne[MERCHANT] = borne.get(MERCHANT, 0) + target_minor - rules_minor
    return {
        **receipt,
        "rules_minor": rules_minor,
        "adjustments": list(lines),
        "target_minor": target_minor,
        "borne_by": borne,
    }


def receipt_without_rules(currency: str) -> JsonObject:
    """The receipt of a payee to whom the rules give nothing: a bonus, or an order that is somebody else's."""
    return {"currency": currency, "target_minor": 0, "borne_by": {}}
