"""Programmes: typed terms in numbered, immutable versions, and which versions speak for an order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Any, Self, assert_never
from uuid import UUID

from service.domain.conditions import (
    LOOKS_AT_OTHER_ORDERS,
    Condition,
    Situation,
    condition_json,
    condition_of,
    holds,
)
from service.domain.errors import BackDated, InvalidTerms
from service.domain.marks import ContentType, Label
from service.domain.order import Milestone, NetLine
from service.domain.periods import DatedRules, PeriodRule, check_follows, period_rule_json, period_rule_of
from service.domain.rules import Rule, rule_json, rule_of
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement, Weekday
from service.domain.written import Amounts, amounts_json, amounts_of, percent_of, rate_of

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a shop's clock may run ahead of ours. Dated inputs begin at least this much after they are recorded, so that
the version in force when an order was placed is known before any webhook about it can arrive."""

JsonObject = dict[str, Any]


class Base(StrEnum):
    NET = "net"
    """Goods after discounts, without tax and shipping, less what was refunded."""
    CASH = "cash"
    """The same, less the part of it that was paid with gift cards, points or store credit."""


class Model(StrEnum):
    """Which of several touches counts."""

    LAST = "last"
    FIRST = "first"
    LINEAR = "linear"
    """All of them, equally."""
    POSITION = "position"
    """The first and the last have a fixed part each; those between share the rest equally."""


class Precedence(StrEnum):
    COUPON = "coupon"
    """A coupon beats every click."""
    CLICK = "click"
    """A click beats every coupon."""
    LATEST = "time"
    """Only time decides; a coupon counts as used when the order was placed."""


class BindingRank(StrEnum):
    """How a bound customer or product stands to what the order carries."""

    BEFORE = "before"
    """It beats every touch."""
    AFTER = "after"
    """It counts where no touch does."""
    IGNORED = "ignored"


class SelfPurchase(StrEnum):
    REJECT = "reject"
    ALLOW = "allow"
    REVIEW = "review"
    """It earns, and is held until a person approves it."""


IDENTITY_KINDS = frozenset({"id", "email", "phone", "address", "payment"})
"""By what a buyer may be recognised."""


@dataclass(frozen=True, slots=True)
class Window:
    """Days from click to order that still count, for links shown in one of these contents or channels."""

    days: int
    content_types: frozenset[ContentType] = frozenset()
    channels: frozenset[str] = frozenset()

    def speaks_for(self, label: Label | None) -> bool:
        return label is not None and (label.content_type in self.content_types or label.channel in self.channels)


@dataclass(frozen=True, slots=True)
class AttributionTerms:
    """Who may have brought an order.

    window_days: longest time from click to order that still counts, where none of `windows` speaks for the link; of those
    the first that does. position_first, position_last: parts that the first and the last touch have; together at most 1.
    self_purchase_by: by what a buyer who is the affiliate is recognised. reorder_days: how long after an order was placed
    that was cancelled, the same buyer's order of one of the same products is still brought by whoever brought that; 0: never.
    """

    window_days: int = 30
    windows: tuple[Window, ...] = ()
    model: Model = Model.LAST
    position_first: Fraction = Fraction(2, 5)
    position_last: Fraction = Fraction(2, 5)
    precedence: Precedence = Precedence.COUPON
    customer_binding: BindingRank = BindingRank.AFTER
    product_binding: BindingRank = BindingRank.AFTER
    self_purchase: SelfPurchase = SelfPurchase.REJECT
    self_purchase_by: frozenset[str] = IDENTITY_KINDS
    reorder_days: int = 0

    def window_for(self, label: Label | None) -> timedelta:
        days = next((window.days for window in self.windows if window.speaks_for(label)), self.window_days)
        return timedelta(days=days)


@dataclass(frozen=True, slots=True)
class TechnicalFee:
    """A part of every commission and fee, taken out of it, for who runs the programme."""

    payee_id: UUID
    rate: Fraction


@dataclass(frozen=True, slots=True)
class Terms:
    """What a programme promises.

    rules: see `exact_shares`. exclude: lines of which any of these is true earn nothing. caps_minor: the most one order
    earns, by currency. payout_minimums_minor: smallest balance that is paid out, by currency. notice_days: how long an enrolled
    affiliate keeps these terms after worse ones replace them. periods: what counts over many orders, each by a key of
    its own.
    """

    rules: tuple[Rule, ...]
    base: Base = Base.NET
    exclude: tuple[Condition, ...] = ()
    caps_minor: Amounts = ()
    attribution: AttributionTerms = field(default_factory=AttributionTerms)
    settlement: Settlement = field(default_factory=lambda: RollingSettlement(Milestone.PAID, 14))
    payout_minimums_minor: Amounts = ()
    notice_days: int = 30
    technical_fee: TechnicalFee | None = None
    periods: tuple[PeriodRule, ...] = ()

    def cap_minor(self, currency: str) -> int | None:
        return dict(self.caps_minor).get(currency)

    def excludes(self, line: NetLine, order: Situation) -> bool:
        return any(holds(condition, line, order) for condition in self.exclude)

    @property
    def payees(self) -> frozenset[UUID]:
        """Whom they name to be paid beside the affiliates: agents, and who takes the technical fee."""
        agents = {rule.agent.payee_id for rule in self.rules if rule.agent is not None}
        return frozenset(agents | ({self.technical_fee.payee_id} if self.technical_fee else set()))

    @property
    def asks_about_customers(self) -> bool:
        """Whether what an order earns may depend on other orders of the same customer."""
        conditions = [each for rule in self.rules for each in rule.when.conditions()]
        return self.attribution.reorder_days > 0 or any(
            isinstance(each, LOOKS_AT_OTHER_ORDERS) for each in (*conditions, *self.exclude)
        )

    def as_json(self) -> JsonObject:
        """The terms as the API shows them and the database keeps them."""
        return {
            "rules": [rule_json(rule) for rule in self.rules],
            "base": self.base.value,
            **({"exclude": [condition_json(each) for each in self.exclude]} if self.exclude else {}),
            "cap_per_order": amounts_json(self.caps_minor),
            "attribution": _attribution_json(self.attribution),
            "settlement": _settlement_json(self.settlement),
            "payout_minimums": amounts_json(self.payout_minimums_minor),
            "notice_days": self.notice_days,
            **({"technical_fee": _fee_json(self.technical_fee)} if self.technical_fee else {}),
            **({"periods": [period_rule_json(each) for each in self.periods]} if self.periods else {}),
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        """Terms from `as_json`. Raises InvalidTerms, UnknownCurrency when a person wrote something else."""
        terms = cls(
            rules=tuple(rule_of(rule) for rule in stored["rules"]),
            base=Base(stored["base"]),
            exclude=tuple(condition_of(each) for each in stored.get("exclude", ())),
            caps_minor=amounts_of(stored["cap_per_order"]),
            attribution=_attribution_of(stored["attribution"]),
            settlement=_settlement_of(stored["settlement"]),
            payout_minimums_minor=amounts_of(stored["payout_minimums"]),
            notice_days=stored["notice_days"],
            technical_fee=_fee_of(stored.get("technical_fee")),
            periods=tuple(period_rule_of(each) for each in stored.get("periods", ())),
        )
        keys = [each.key for each in terms.periods]
        if len(set(keys)) < len(keys):
            raise InvalidTerms("Each period rule has a key of its own.")
        check_follows((), terms.periods)
        if not terms.rules:
            raise InvalidTerms("A programme needs at least one rule; a rule without match speaks for every line.")
        return terms


def _fee_json(fee: TechnicalFee) -> JsonObject:
    return {"payee_id": str(fee.payee_id), "rate": percent_of(fee.rate)}


def _fee_of(stored: JsonObject | None) -> TechnicalFee | None:
    return None if stored is None else TechnicalFee(UUID(stored["payee_id"]), rate_of(stored["rate"]))


def _attribution_json(terms: AttributionTerms) -> JsonObject:
    written: JsonObject = {
        "window_days": terms.window_days,
        "model": terms.model.value,
        "precedence": terms.precedence.value,
        "self_purchase": terms.self_purchase.value,
    }
    if terms.windows:
        written["windows"] = [
            {
                "days": window.days,
                "content_types": sorted(each.value for each in window.content_types),
                "channels": sorted(window.channels),
            }
            for window in terms.windows
        ]
    if terms.model is Model.POSITION:
        written["position"] = {"first": percent_of(terms.position_first), "last": percent_of(terms.position_last)}
    default = AttributionTerms()
    other: dict[str, tuple[Any, Any]] = {
        "customer_binding": (terms.customer_binding.value, default.customer_binding.value),
        "product_binding": (terms.product_binding.value, default.product_binding.value),
        "self_purchase_by": (sorted(terms.self_purchase_by), sorted(default.self_purchase_by)),
        "reorder_days": (terms.reorder_days, default.reorder_days),
    }
    return written | {name: value for name, (value, usual) in other.items() if value != usual}


def _attribution_of(stored: JsonObject) -> AttributionTerms:
    default = AttributionTerms()
    position = stored.get("position")
    first = rate_of(position["first"]) if position else default.position_first
    last = rate_of(position["last"]) if position else default.position_last
    if first + last > 1 or first + last == 0:
        raise InvalidTerms("The parts of the first and the last touch are together above 0 and at most 100 percent.")
    return AttributionTerms(
        window_days=stored["window_days"],
        windows=tuple(
            Window(
                each["days"],
                frozenset(ContentType(name) for name in each.get("content_types", ())),
                frozenset(each.get("channels", ())),
            )
            for each in stored.get("windows", ())
        ),
        model=Model(stored["model"]),
        position_first=first,
        position_last=last,
        precedence=Precedence(stored["precedence"]),
        customer_binding=BindingRank(stored.get("customer_binding", default.customer_binding)),
        product_binding=BindingRank(stored.get("product_binding", default.product_binding)),
        self_purchase=SelfPurchase(stored["self_purchase"]),
        self_purchase_by=frozenset(stored.get("self_purchase_by", default.self_purchase_by)),
        reorder_days=stored.get("reorder_days", 0),
    )


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A version an affiliate may claim. until: orders placed before then still may; None: no later version is known."""

    version: ProgramVersion
    until: datetime | None


def claims(versions: Sequence[ProgramVersion], *, at: datetime, enrolled_at: datetime) -> list[Claim]:
    """What `versions_for` gives for an order placed at a moment, each with how long it goes on.

    enrolled_at: since when the affiliate takes part; not after `at`.
    """
    ends = {
        version.number: successor.valid_from + timedelta(days=version.terms.notice_days)
        for version, successor in pairwise(versions)
    }
    found = versions_for(versions, placed_at=at, enrolled_at=enrolled_at)
    return [Claim(version, ends.get(version.number)) for version in found]


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


def period_rules(versions: Sequence[ProgramVersion]) -> list[DatedRules]:
    """What a programme's versions, oldest first, say of periods; nothing where none says anything."""
    if not any(version.terms.periods for version in versions):
        return []
    ends: list[datetime | None] = [version.valid_from for version in versions[1:]]
    return [
        DatedRules(version.valid_from, version.terms.periods, timedelta(days=version.terms.notice_days), ends_at)
        for version, ends_at in zip(versions, [*ends, None], strict=True)
    ]
