"""Programmes: typed terms in numbered, immutable versions, and which versions speak for an order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, Self, assert_never
from uuid import UUID

from service.domain.errors import BackDated, InvalidTerms
from service.domain.order import Milestone, NetLine
from service.domain.rules import (
    Amounts,
    Condition,
    Rule,
    Situation,
    amounts_json,
    amounts_of,
    condition_json,
    condition_of,
    holds,
    percent_of,
    rate_of,
    rule_json,
    rule_of,
)
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement, Weekday

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a shop's clock may run ahead of ours. Dated inputs begin at least this much after they are recorded, so that
the version in force when an order was placed is known before any webhook about it can arrive."""

JsonObject = dict[str, Any]


class Base(StrEnum):
    NET = "net"
    """Goods after discounts, without tax and shipping, less what was refunded."""


class Model(StrEnum):
    LAST = "last"
    FIRST = "first"


class Precedence(StrEnum):
    COUPON = "coupon"
    """A coupon beats every click."""
    CLICK = "click"
    """A click beats every coupon."""
    LATEST = "time"
    """Only time decides; a coupon counts as used when the order was placed."""


class SelfPurchase(StrEnum):
    REJECT = "reject"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class AttributionTerms:
    """Who may have brought an order. window_days: longest time from click to order that still counts."""

    window_days: int = 30
    model: Model = Model.LAST
    precedence: Precedence = Precedence.COUPON
    self_purchase: SelfPurchase = SelfPurchase.REJECT


@dataclass(frozen=True, slots=True)
class Terms:
    """What a programme promises.

    rules: see `exact_shares`. exclude: lines of which any of these is true earn nothing. caps_minor: the most one order
    earns, by currency. payout_minimums_minor: smallest balance that is paid out, by currency. notice_days: how long an enrolled
    affiliate keeps these terms after worse ones replace them.
    """

    rules: tuple[Rule, ...]
    base: Base = Base.NET
    exclude: tuple[Condition, ...] = ()
    caps_minor: Amounts = ()
    attribution: AttributionTerms = field(default_factory=AttributionTerms)
    settlement: Settlement = field(default_factory=lambda: RollingSettlement(Milestone.PAID, 14))
    payout_minimums_minor: Amounts = ()
    notice_days: int = 30

    def cap_minor(self, currency: str) -> int | None:
        return dict(self.caps_minor).get(currency)

    def excludes(self, line: NetLine, order: Situation) -> bool:
        return any(holds(condition, line, order) for condition in self.exclude)

    def as_json(self) -> JsonObject:
        """The terms as the API shows them and the database keeps them."""
        return {
            "rules": [rule_json(rule) for rule in self.rules],
            "base": self.base.value,
            **({"exclude": [condition_json(each) for each in self.exclude]} if self.exclude else {}),
            "cap_per_order": amounts_json(self.caps_minor),
            "attribution": {
                "window_days": self.attribution.window_days,
                "model": self.attribution.model.value,
                "precedence": self.attribution.precedence.value,
                "self_purchase": self.attribution.self_purchase.value,
            },
            "settlement": _settlement_json(self.settlement),
            "payout_minimums": amounts_json(self.payout_minimums_minor),
            "notice_days": self.notice_days,
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        """Terms from `as_json`. Raises InvalidTerms, UnknownCurrency when a person wrote something else."""
        attribution = stored["attribution"]
        terms = cls(
            rules=tuple(rule_of(rule) for rule in stored["rules"]),
            base=Base(stored["base"]),
            exclude=tuple(condition_of(each) for each in stored.get("exclude", ())),
            caps_minor=amounts_of(stored["cap_per_order"]),
            attribution=AttributionTerms(
                window_days=attribution["window_days"],
                model=Model(attribution["model"]),
                precedence=Precedence(attribution["precedence"]),
                self_purchase=SelfPurchase(attribution["self_purchase"]),
            ),
            settlement=_settlement_of(stored["settlement"]),
            payout_minimums_minor=amounts_of(stored["payout_minimums"]),
            notice_days=stored["notice_days"],
        )
        if not terms.rules:
            raise InvalidTerms("A programme needs at least one rule; a rule without match speaks for every line.")
        return terms


def _settlement_json(settlement: Settlement) -> JsonObject:
    common = {
        "start": settlement.start.value,
        "hold_days": settlement.hold_days,
        "approval": settlement.approval.value,
        **_if_any("auto_approve_days", settlement.auto_approve_days),
    }
    match settlement:
        case RollingSettlement():
            return {"kind": "rolling", **common}
        case StatementSettlement():
            return {
                "kind": "statement",
                **common,
                "cut_off_day": settlement.cut_off_day,
                "months_after": settlement.months_after,
                "pay_day": settlement.pay_day,
                "roll": settlement.roll.value,
                "off_days": [day.name.lower() for day in sorted(settlement.off_days)],
                "holidays": [day.isoformat() for day in sorted(settlement.holidays)],
                **_if_any("audit_days", settlement.audit_days),
                **_if_any("objection_days", settlement.objection_days),
                **_if_any("advance", settlement.advance and {"rate": percent_of(settlement.advance)}),
            }
        case _:
            assert_never(settlement)


def _if_any(name: str, value: object) -> JsonObject:
    """Terms that do not use a part that came later read as they did before it came."""
    return {} if value is None else {name: value}


def _settlement_of(stored: JsonObject) -> Settlement:
    start, hold_days, approval = Milestone(stored["start"]), stored["hold_days"], Approval(stored["approval"])
    auto_approve_days, advance = stored.get("auto_approve_days"), stored.get("advance")
    match stored["kind"]:
        case "rolling":
            return RollingSettlement(start, hold_days, approval, auto_approve_days)
        case "statement":
            return StatementSettlement(
                start,
                hold_days,
                cut_off_day=stored["cut_off_day"],
                months_after=stored["months_after"],
                pay_day=stored["pay_day"],
                roll=Roll(stored["roll"]),
                off_days=frozenset(Weekday[day.upper()] for day in stored["off_days"]),
                holidays=frozenset(date.fromisoformat(day) for day in stored["holidays"]),
                approval=approval,
                auto_approve_days=auto_approve_days,
                audit_days=stored.get("audit_days"),
                objection_days=stored.get("objection_days"),
                advance=rate_of(advance["rate"]) if advance else None,
            )
        case other:
            raise InvalidTerms(f"{other!r} is not a kind of settlement; use rolling or statement.")


@dataclass(frozen=True, slots=True)
class ProgramVersion:
    """Terms in force from `valid_from` until the next version of the same programme begins."""

    program_id: UUID
    number: int
    valid_from: datetime
    terms: Terms


def in_force(versions: Sequence[ProgramVersion], at: datetime) -> ProgramVersion | None:
    """The version in force at a moment, of versions sorted by valid_from; None before the first."""
    begun = [version for version in versions if version.valid_from <= at]
    return begun[-1] if begun else None


def versions_for(
    versions: Sequence[ProgramVersion], *, placed_at: datetime, enrolled_at: datetime
) -> list[ProgramVersion]:
    """Versions of which the affiliate may claim the best for an order: the one in force, then the protected ones.

    Protected is each version that was in force after the affiliate enrolled and was superseded less than its own
    notice period before the order was placed. So a cut waits, a rise does not, and a newcomer gets the new terms.
    """
    current = in_force(versions, placed_at)
    if current is None:
        return []
    protected = [
        version
        for version, successor in pairwise(versions)
        if successor.valid_from <= placed_at
        and successor.valid_from > enrolled_at
        and placed_at - successor.valid_from < timedelta(days=version.terms.notice_days)
    ]
    return [current, *reversed(protected)]


def check_start(valid_from: datetime, *, recorded_at: datetime, may_reach_back: bool) -> None:
    """Refuse a dated input that could change what an order already received has earned.

    may_reach_back: it is the first of its kind and the merchant has no order yet. Raises BackDated.
    """
    if not may_reach_back and valid_from < recorded_at + CLOCK_TOLERANCE:
        raise BackDated(
            f"valid_from must be at least {CLOCK_TOLERANCE.seconds // 60} minutes ahead, "
            f"at or after {(recorded_at + CLOCK_TOLERANCE).isoformat()}: orders may already have used the terms before. "
            "Only what is the first of its kind and made before the merchant's first order may begin in the past."
        )
