"""A receipt against its own arithmetic: computed again from its lines, its order and its terms, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from service.domain.adjustment import receipt_without_rules, with_adjustments
from service.domain.attribution import Credit
from service.domain.conditions import Situation
from service.domain.dated import Membership
from service.domain.order import Line, NetLine
from service.domain.periods import Sum, Sums, period_receipt, period_rule_of
from service.domain.program import ProgramVersion, Terms
from service.domain.quote import quote
from service.domain.shares import Claim, Division, divided_alone
from service.domain.written import rate_of

JsonObject = dict[str, Any]

_NOBODY = UUID(int=0)
_ONCE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a receipt says at a place, and what its own figures come to. pointer: JSON pointer into the receipt."""

    pointer: str
    said: Any
    computed: Any


def differences(receipt: JsonObject, terms: Terms | None) -> list[Difference]:
    """Where a receipt does not say what follows from its lines, its order and the terms; nothing where it holds.

    receipt: complete and of the right types, as `Division.receipt` or `period_receipt` makes it. terms: of the version
    it names; a period's receipt holds its own rules. Other versions' totals cannot be computed from it; that the version
    that counts gives most is checked.
    """
    if "sums" in receipt:
        return list(_compared(receipt, _period_again(receipt)))
    if "lines" not in receipt:
        # A bonus, or a correction on an order that is somebody else's.
        alone = with_adjustments(receipt_without_rules(receipt["currency"]), receipt["adjustments"])
        return list(_compared(receipt, alone))
    assert terms is not None
    division = _divided(receipt, terms)
    payee_id = UUID(receipt["payee_id"]) if "payee_id" in receipt else division.claim.credit.affiliate_id
    if payee_id not in division.by_payee():
        return [Difference("/payee_id", receipt["payee_id"], str(division.claim.credit.affiliate_id))]
    again = division.receipt(payee_id, voided=receipt["voided"])
    if receipt.get("adjustments") is not None:
        again = with_adjustments(again, receipt["adjustments"])
    computed = again | {"versions_considered": receipt["versions_considered"]}
    return [*_compared(receipt, computed), *_chosen(receipt, division.claim.best.worth_minor)]


def _period_again(receipt: JsonObject) -> JsonObject:
    sums = {
        place: Sum(told["commission_minor"], told["sales_minor"], told["orders"])
        for place, told in receipt["sums"].items()
    }
    again = period_receipt([period_rule_of(rule) for rule in receipt["rules"]], Sums(**sums), receipt["currency"])
    return receipt | {name: again[name] for name in ("gives", "target_minor")}


def _divided(receipt: JsonObject, terms: Terms) -> Division:
    """The division that a receipt is of; what other credits have of a line is taken from it as it is."""
    lines = [
        NetLine(
            Line(line["line_id"], line["sku"], line["ordered_minor"], line["quantity"], line["category"]),
            line["refunded_minor"],
            line.get("virtual_minor", 0),
        )
        for line in receipt["lines"]
    ]
    # What rules ask about the order is what is left of it, whatever paid for that.
    order = Situation.of_json(receipt["order"], [replace(line, virtual_minor=0) for line in lines], receipt["currency"])
    skus = receipt.get("only_skus")
    if skus is not None or receipt.get("some_lines"):
        # The other lines of the order are in other receipts: what they come to is told, not summed.
        told = receipt["order"]
        order = replace(order, ordered_minor=told["ordered_minor"], left_minor=told["left_minor"])
    version = ProgramVersion(_NOBODY, receipt["program_version"], order.placed_at, terms)
    agency = receipt.get("agency")
    claim = Claim(
        Credit(
            order.affiliate_id or _NOBODY,
            None,
            weight=Fraction(receipt.get("weight", "1")),
            skus=None if skus is None else frozenset(skus),
        ),
        (quote(version, lines, order),),
        None
        if agency is None
        else Membership(_ONCE, UUID(agency["payee_id"]), rate_of(agency["share"]), rate_of(agency["fee"])),
        some_lines=bool(receipt.get("some_lines")),
    )
    others = [
        (
            tuple(Fraction(each) for each in line.get("others_before", ())),
            tuple(Fraction(each) for each in line.get("others_after", ())),
        )
        for line in receipt["lines"]
    ]
    return divided_alone(claim, others)


def _chosen(receipt: JsonObject, total_minor: int) -> Iterator[Difference]:
    """The version that counts is among those considered, with this total, and none gives more."""
    considered: Sequence[JsonObject] = receipt["versions_considered"]
    for place, each in enumerate(considered):
        own = each["version"] == receipt["program_version"]
        if own and each["total_minor"] != total_minor:
            yield Difference(f"/versions_considered/{place}/total_minor", each["total_minor"], total_minor)
        if not own and each["total_minor"] > total_minor:
            yield Difference("/program_version", receipt["program_version"], each["version"])
    if all(each["version"] != receipt["program_version"] for each in considered):
        yield Difference("/versions_considered", None, receipt["program_version"])


def _compared(said: Any, computed: Any, pointer: str = "") -> Iterator[Difference]:
    match said, computed:
        case dict(), dict():
            for name in dict.fromkeys((*said, *computed)):
                yield from _compared(said.get(name), computed.get(name), f"{pointer}/{name}")
        case list(), list() if len(said) == len(computed):
            for place, (one, other) in enumerate(zip(said, computed, strict=True)):
                yield from _compared(one, other, f"{pointer}/{place}")
        case _:
            if said != computed:
                yield Difference(pointer or "/", said, computed)
