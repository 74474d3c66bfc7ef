"""A receipt against its own arithmetic: computed again from its lines, its order and its terms, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from service.domain.adjustment import receipt_without_rules, with_adjustments
from service.domain.commission import quote
from service.domain.order import Line, NetLine, TouchKind
from service.domain.program import ProgramVersion, Terms
from service.domain.rules import Situation

JsonObject = dict[str, Any]

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a receipt says at a place, and what its own figures come to. pointer: JSON pointer into the receipt."""

    pointer: str
    said: Any
    computed: Any


def differences(receipt: JsonObject, terms: Terms) -> list[Difference]:
    """Where a receipt does not say what follows from its lines, its order and the terms; nothing where it holds.

    receipt: complete and of the right types, as `Quote.receipt` makes it. Other versions' totals cannot be computed
    from it; that the version that counts gives most is checked.
    """
    lines = [
        NetLine(
            Line(line["line_id"], line["sku"], line["ordered_minor"], line["quantity"], line["category"]),
            line["refunded_minor"],
        )
        for line in receipt["lines"]
    ]
    order = receipt["order"]
    situation = Situation.of(
        lines,
        placed_at=datetime.fromisoformat(order["placed_at"]),
        currency=receipt["currency"],
        touch=None if order["touch"] is None else TouchKind(order["touch"]),
        coupon=order["coupon"],
    )
    version = ProgramVersion(_NOBODY, receipt["program_version"], situation.placed_at, terms)
    quoted = quote(version, lines, situation)
    again = quoted.receipt(
        considered=[quoted], voided=receipt["voided"], payable=0 if receipt["voided"] else quoted.total_minor
    )
    if receipt.get("adjustments") is not None:
        again = with_adjustments(again, receipt["adjustments"])
    computed = again | {"versions_considered": receipt["versions_considered"]}
    return [*_compared(receipt, computed), *_chosen(receipt, quoted.total_minor)]


def differences_without_rules(receipt: JsonObject) -> list[Difference]:
    """As `differences`, of a receipt that holds adjustments alone: of a bonus, or of an order that is somebody else's."""
    computed = with_adjustments(receipt_without_rules(receipt["currency"]), receipt["adjustments"])
    return list(_compared(receipt, computed))


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
