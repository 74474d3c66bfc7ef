"""Rules: what a line of an order earns, when a rule speaks for a line, and which of several counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from math import lcm
from re import compile as pattern
from typing import Any, Self, assert_never

from service.domain.errors import InvalidTerms
from service.domain.money import AMOUNT_MAX_MINOR, exponent, spread
from service.domain.order import Line, NetLine, TouchKind, folded

JsonObject = dict[str, Any]
Amounts = tuple[tuple[str, int], ...]
"""Minor units by currency, each currency once."""

BASE = "base"
MERCHANT = "merchant"


@dataclass(frozen=True, slots=True)
class Situation:
    """What rules may ask about an order as a whole.

    ordered_minor, left_minor: goods as ordered, and after refunds. touch, coupon: what made the affiliate win; None and
    empty where a person decided without one.
    """

    placed_at: datetime
    currency: str
    ordered_minor: int
    left_minor: int
    touch: TouchKind | None = None
    coupon: str = ""

    @classmethod
    def of(
        cls,
        lines: Sequence[NetLine],
        *,
        placed_at: datetime,
        currency: str,
        touch: TouchKind | None = None,
        coupon: str = "",
    ) -> Self:
        """The situation of an order with these goods lines."""
        ordered, left = sum([each.line.net_minor for each in lines]), sum([each.net_minor for each in lines])
        return cls(placed_at, currency, ordered, left, touch, coupon)

    def as_json(self) -> JsonObject:
        return {
            "placed_at": self.placed_at.astimezone(UTC).isoformat(),
            "ordered_minor": self.ordered_minor,
            "left_minor": self.left_minor,
            "touch": None if self.touch is None else self.touch.value,
            "coupon": self.coupon,
        }


# Conditions: each is true or false of one line of one order.


@dataclass(frozen=True, slots=True)
class SkuIn:
    skus: frozenset[str]


@dataclass(frozen=True, slots=True)
class CategoryIn:
    categories: frozenset[str]


class Measure(StrEnum):
    LEFT = "left"
    """What is left after refunds."""
    ORDERED = "ordered"
    """As ordered, whatever came back."""


@dataclass(frozen=True, slots=True)
class Between:
    """An amount from at_least on, and below another; either may be left out. False in a currency that neither names."""

    at_least_minor: Amounts = ()
    below_minor: Amounts = ()
    measure: Measure = Measure.LEFT

    def holds(self, amount_minor: int, currency: str) -> bool:
        least, below = dict(self.at_least_minor).get(currency), dict(self.below_minor).get(currency)
        if least is None and below is None:
            return False
        return (least is None or amount_minor >= least) and (below is None or amount_minor < below)


@dataclass(frozen=True, slots=True)
class LineAmount:
    between: Between


@dataclass(frozen=True, slots=True)
class OrderAmount:
    """Of all goods of the order."""

    between: Between


@dataclass(frozen=True, slots=True)
class Placed:
    """The order was placed at `since` or later, and before `until`; either may be None."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TouchIn:
    kinds: frozenset[TouchKind]


@dataclass(frozen=True, slots=True)
class CouponIn:
    """The affiliate won by one of these codes, compared without case."""

    codes: frozenset[str]


Condition = SkuIn | CategoryIn | LineAmount | OrderAmount | Placed | TouchIn | CouponIn


def holds(condition: Condition, line: NetLine, order: Situation) -> bool:
    """Whether a condition is true of a line."""
    match condition:
        case SkuIn(skus):
            return line.line.sku in skus
        case CategoryIn(categories):
            return line.line.category in categories
        case LineAmount(between):
            amount = line.net_minor if between.measure is Measure.LEFT else line.line.net_minor
            return between.holds(amount, order.currency)
        case OrderAmount(between):
            amount = order.left_minor if between.measure is Measure.LEFT else order.ordered_minor
            return between.holds(amount, order.currency)
        case Placed(since, until):
            return (since is None or order.placed_at >= since) and (until is None or order.placed_at < until)
        case TouchIn(kinds):
            return order.touch in kinds
        case CouponIn(codes):
            return order.coupon in codes
        case _:
            assert_never(condition)


@dataclass(frozen=True, slots=True)
class When:
    """True where all of `every` are, at least one of `some` (if there are any), and none of `none`."""

    every: tuple[Condition, ...] = ()
    some: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    def objection(self, line: NetLine, order: Situation) -> str | None:
        """What keeps it from being true, such as "all/1"; None where it is."""
        for place, condition in enumerate(self.every):
            if not holds(condition, line, order):
                return f"all/{place}"
        if self.some and not any(holds(condition, line, order) for condition in self.some):
            return "any"
        for place, condition in enumerate(self.none):
            if holds(condition, line, order):
                return f"not/{place}"
        return None


@dataclass(frozen=True, slots=True)
class Match:
    """Which goods lines a rule speaks for: any of the SKUs or any of the categories; with neither, all."""

    skus: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()

    def holds(self, line: Line) -> bool:
        if not self.skus and not self.categories:
            return True
        return line.sku in self.skus or line.category in self.categories


# Rules.


@dataclass(frozen=True, slots=True)
class Percent:
    """A share of what is left of a line. rate: Fraction(1, 8) for "12.5" percent."""

    rate: Fraction


class Per(StrEnum):
    LINE = "line"
    UNIT = "unit"
    """For each piece that is left: pieces ordered, times the part of the line's value that was not given back."""
    ORDER = "order"
    """Once, spread over the lines it counts for by what is left of them."""


@dataclass(frozen=True, slots=True)
class Flat:
    """A fixed amount, never more than what is left of what it is paid for. A currency not named earns nothing."""

    amounts_minor: Amounts
    per: Per = Per.LINE

    def amount_minor(self, currency: str) -> int:
        return dict(self.amounts_minor).get(currency, 0)


class Plan(StrEnum):
    """Of which plan a rule is. Of several rules for one line that of the first plan here counts."""

    EXCLUSIVE = "exclusive"
    TARGET = "target"
    OPEN = "open"


_RANK = {plan: rank for rank, plan in enumerate(Plan)}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is paid, and when.

    component: rules of one component exclude each other; what different components give adds up. funder: who bears it.
    priority: of rules of one plan the highest counts, of equal ones that which gives most. None: minus the rule's place
    in the terms, so that the first of a list counts.
    caps_per_line_minor: the most it gives for one line, by currency; not with Per.ORDER.
    """

    pays: Percent | Flat
    match: Match = Match()
    when: When = When()
    plan: Plan = Plan.OPEN
    priority: int | None = None
    component: str = BASE
    funder: str = MERCHANT
    caps_per_line_minor: Amounts = ()
    name: str = ""

    def rank(self, index: int) -> tuple[int, int]:
        """(place of its plan, priority turned round) of the rule at a place in the terms: the lowest counts."""
        return (_RANK[self.plan], index if self.priority is None else -self.priority)

    def objection(self, line: NetLine, order: Situation) -> str | None:
        """What keeps the rule from speaking for a line, as a pointer into its written form; None where it does."""
        if not self.match.holds(line.line):
            return "match"
        objection = self.when.objection(line, order)
        return None if objection is None else f"when/{objection}"


class Standing(StrEnum):
    """How a rule that speaks for a line fared."""

    COUNTS = "counts"
    LOWER_PLAN = "lower_plan"
    LOWER_PRIORITY = "lower_priority"
    GIVES_LESS = "gives_less"
    LATER_IN_LIST = "later_in_list"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule that speaks for a line, by its place in the terms, and what it would give on it alone."""

    index: int
    exact: Fraction
    standing: Standing


@dataclass(frozen=True, slots=True)
class Part:
    """What one component gives for one line. candidates: the rule that counts first, then the others as they rank."""

    component: str
    exact: Fraction
    candidates: tuple[Candidate, ...]

    @property
    def index(self) -> int:
        """Place of the rule that counts."""
        return self.candidates[0].index


def exact_shares(rules: Sequence[Rule], lines: Sequence[NetLine], order: Situation) -> list[tuple[Part, ...]]:
    """What each line earns by each component, in minor units before rounding.

    For each line and component the rule of the highest plan counts, then of the highest priority, then that which gives
    most for this line: amount against amount, never rate against rate. A fixed amount per order is then spread over the
    lines it counts for. A line never earns more than what is left of it.
    """
    speaking = [[index for index, rule in enumerate(rules) if rule.objection(line, order) is None] for line in lines]
    # What is left of all lines that each amount per order speaks for.
    over = {index: 0 for index, rule in enumerate(rules) if _once(rule)}
    if over:
        for line, indexes in zip(lines, speaking, strict=True):
            for index in over.keys() & indexes:
                over[index] += max(line.net_minor, 0)
    by_line = [_parts(rules, line, order, indexes, over) for line, indexes in zip(lines, speaking, strict=True)]
    for index in over:
        _spread_once(rules[index], index, by_line, lines, order)
    return [_within(parts, line) for parts, line in zip(by_line, lines, strict=True)]


def _once(rule: Rule) -> bool:
    return isinstance(rule.pays, Flat) and rule.pays.per is Per.ORDER


def _parts(
    rules: Sequence[Rule], line: NetLine, order: Situation, indexes: Sequence[int], over: Mapping[int, int]
) -> tuple[Part, ...]:
    speaking: dict[str, list[tuple[int, Rule, Fraction]]] = {}
    for index in indexes:
        exact = _alone(rules[index], line, order, over.get(index, 0))
        speaking.setdefault(rules[index].component, []).append((index, rules[index], exact))
    return tuple(_chosen(component, found) for component, found in speaking.items())


def _chosen(component: str, found: list[tuple[int, Rule, Fraction]]) -> Part:
    if len(found) == 1:
        [(index, _, exact)] = found
        return Part(component, exact, (Candidate(index, exact, Standing.COUNTS),))
    found.sort(key=lambda each: (*each[1].rank(each[0]), -each[2], each[0]))
    first, best, most = found[0]
    candidates = []
    for place, (index, rule, exact) in enumerate(found):
        if place == 0:
            standing = Standing.COUNTS
        elif rule.plan is not best.plan:
            standing = Standing.LOWER_PLAN
        elif rule.rank(index) != best.rank(first):
            standing = Standing.LOWER_PRIORITY
        else:
            standing = Standing.GIVES_LESS if exact < most else Standing.LATER_IN_LIST
        candidates.append(Candidate(index, exact, standing))
    return Part(component, most, tuple(candidates))


def _alone(rule: Rule, line: NetLine, order: Situation, over: int) -> Fraction:
    """What a rule would give for a line if it counted for every line it speaks for.

    over: what is left of all these lines, where it is an amount per order.
    """
    left = line.net_minor
    if left <= 0:
        return Fraction(0)
    match rule.pays:
        case Percent(rate):
            exact = left * rate
        case Flat():
            amount = rule.pays.amount_minor(order.currency)
            match rule.pays.per:
                case Per.LINE:
                    exact = Fraction(min(amount, left))
                case Per.UNIT:
                    pieces = Fraction(line.line.quantity) * left / line.line.net_minor
                    exact = min(amount * pieces, Fraction(left))
                case Per.ORDER:
                    exact = Fraction(min(amount, over) * left, over)
                case _:
                    assert_never(rule.pays.per)
        case _:
            assert_never(rule.pays)
    cap = dict(rule.caps_per_line_minor).get(order.currency)
    return exact if cap is None else min(exact, Fraction(cap))


def _spread_once(
    rule: Rule, index: int, by_line: list[tuple[Part, ...]], lines: Sequence[NetLine], order: Situation
) -> None:
    """Give a fixed amount per order once over the lines for which its rule counts; whole minor units for each."""
    assert isinstance(rule.pays, Flat)
    counts = [place for place, parts in enumerate(by_line) if any(part.index == index for part in parts)]
    left = [max(lines[place].net_minor, 0) for place in counts]
    shares = spread(min(rule.pays.amount_minor(order.currency), sum(left)), left)
    for place, share in zip(counts, shares, strict=True):
        by_line[place] = tuple(
            Part(part.component, Fraction(share), part.candidates) if part.index == index else part
            for part in by_line[place]
        )


def _within(parts: tuple[Part, ...], line: NetLine) -> tuple[Part, ...]:
    """Parts scaled down together where they would give more than what is left of the line."""
    if len(parts) <= 1:
        # No single rule gives more than what is left.
        return parts
    whole, left = total_of(parts), max(line.net_minor, 0)
    if whole <= left:
        return parts
    return tuple(Part(part.component, part.exact * left / whole, part.candidates) for part in parts)


def total_of(parts: Sequence[Part]) -> Fraction:
    """What the parts of a line come to."""
    if len(parts) == 1:
        return parts[0].exact
    return sum((part.exact for part in parts), Fraction(0))


def by_funder(rules: Sequence[Rule], shares: Sequence[tuple[Sequence[Part], int]], total_minor: int) -> dict[str, int]:
    """Who bears how much of what an order earns; the amounts add up to total_minor.

    shares: for each line its parts and what they came to when rounded. A line's amount, and then what a cap left of the
    order's, is divided by largest remainder, ties to the funder that the terms name first.
    """
    amounts = dict.fromkeys((rule.funder for rule in rules), 0)
    if len(amounts) == 1:
        return dict.fromkeys(amounts, total_minor)
    for parts, rounded_minor in shares:
        for part, amount in zip(parts, spread(rounded_minor, _weights([part.exact for part in parts])), strict=True):
            amounts[rules[part.index].funder] += amount
    funders = list(amounts)
    return dict(zip(funders, spread(total_minor, [amounts[name] for name in funders]), strict=True))


def _weights(exact: Sequence[Fraction]) -> list[int]:
    whole = lcm(*(each.denominator for each in exact))
    return [int(each * whole) for each in exact]


# The written form, as the API shows it and the database keeps it. What was left out is not written.

_RATE = pattern(r"(100|[0-9]{1,2})(\.[0-9]{1,6})?")


def rate_of(percent: str) -> Fraction:
    """Fraction from percent in decimal notation: rate_of("12.5") is 1/8. Raises InvalidTerms outside 0 to 100."""
    if not _RATE.fullmatch(percent) or Decimal(percent) > 100:
        raise InvalidTerms(
            f"{percent[:20]!r} is not a rate: percent from 0 to 100, at most six decimals, such as 12.5."
        )
    return Fraction(percent) / Fraction(100)


@lru_cache(maxsize=4096)
def percent_of(rate: Fraction) -> str:
    """The shortest decimal notation of a rate in percent."""
    percent = rate * Fraction(100)
    written = format(Decimal(percent.numerator) / Decimal(percent.denominator), "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def amounts_json(amounts: Amounts) -> list[JsonObject]:
    return [{"amount_minor": amount, "currency": currency} for currency, amount in amounts]


def amounts_of(stored: Sequence[JsonObject]) -> Amounts:
    """Amounts by currency. Raises InvalidTerms, UnknownCurrency."""
    amounts: dict[str, int] = {}
    for entry in stored:
        currency, amount = entry["currency"], entry["amount_minor"]
        exponent(currency)
        if currency in amounts:
            raise InvalidTerms(f"{currency} is named twice in one list of amounts.")
        if not 0 <= amount <= AMOUNT_MAX_MINOR:
            raise InvalidTerms(f"{amount} is not an amount between 0 and the largest accepted.")
        amounts[currency] = amount
    return tuple(sorted(amounts.items()))


def rule_json(rule: Rule) -> JsonObject:
    """A rule as it is written in terms."""
    written: JsonObject
    match rule.pays:
        case Percent(rate):
            written = {"kind": "percent", "rate": percent_of(rate)}
        case Flat(amounts, per):
            written = {"kind": "flat", "amounts": amounts_json(amounts)}
            if per is not Per.LINE:
                written["per"] = per.value
        case _:
            assert_never(rule.pays)
    written["match"] = {"skus": sorted(rule.match.skus), "categories": sorted(rule.match.categories)}
    if rule.when != When():
        written["when"] = {
            "all": [condition_json(each) for each in rule.when.every],
            "any": [condition_json(each) for each in rule.when.some],
            "not": [condition_json(each) for each in rule.when.none],
        }
    other: dict[str, tuple[Any, Any]] = {
        "plan": (rule.plan.value, Plan.OPEN.value),
        "priority": (rule.priority, None),
        "component": (rule.component, BASE),
        "funder": (rule.funder, MERCHANT),
        "cap_per_line": (amounts_json(rule.caps_per_line_minor), []),
        "name": (rule.name, ""),
    }
    return written | {name: value for name, (value, default) in other.items() if value != default}


def rule_of(stored: JsonObject) -> Rule:
    """A rule from its written form. Raises InvalidTerms, UnknownCurrency."""
    pays = _pays_of(stored)
    caps = amounts_of(stored.get("cap_per_line", ()))
    if caps and isinstance(pays, Flat) and pays.per is Per.ORDER:
        raise InvalidTerms("A flat amount per order has no cap per line; use cap_per_order.")
    when = stored.get("when") or {}
    return Rule(
        pays=pays,
        match=Match(frozenset(stored["match"]["skus"]), frozenset(stored["match"]["categories"])),
        when=When(*(tuple(condition_of(each) for each in when.get(name, ())) for name in ("all", "any", "not"))),
        plan=Plan(stored.get("plan", Plan.OPEN)),
        priority=stored.get("priority"),
        component=stored.get("component", BASE),
        funder=stored.get("funder", MERCHANT),
        caps_per_line_minor=caps,
        name=stored.get("name", ""),
    )


def _pays_of(stored: JsonObject) -> Percent | Flat:
    match stored["kind"]:
        case "percent":
            return Percent(rate_of(stored["rate"]))
        case "flat":
            amounts = amounts_of(stored["amounts"])
            if not amounts:
                raise InvalidTerms("A flat rule needs an amount in at least one currency.")
            return Flat(amounts, Per(stored.get("per", Per.LINE)))
        case other:
            raise InvalidTerms(f"{other!r} is not a rule kind; use percent or flat.")


def condition_json(condition: Condition) -> JsonObject:
    """A condition as it is written in terms."""
    match condition:
        case SkuIn(skus):
            return {"kind": "sku", "in": sorted(skus)}
        case CategoryIn(categories):
            return {"kind": "category", "in": sorted(categories)}
        case LineAmount(between):
            return {"kind": "line_amount", **_between_json(between)}
        case OrderAmount(between):
            return {"kind": "order_amount", **_between_json(between)}
        case Placed(since, until):
            return {
                "kind": "placed",
                "from": None if since is None else since.isoformat(),
                "until": None if until is None else until.isoformat(),
            }
        case TouchIn(kinds):
            return {"kind": "touch", "in": sorted(kind.value for kind in kinds)}
        case CouponIn(codes):
            return {"kind": "coupon", "in": sorted(codes)}
        case _:
            assert_never(condition)


def _between_json(between: Between) -> JsonObject:
    return {
        "at_least": amounts_json(between.at_least_minor),
        "below": amounts_json(between.below_minor),
        "of": between.measure.value,
    }


def condition_of(stored: JsonObject) -> Condition:
    """A condition from its written form. Raises InvalidTerms, UnknownCurrency."""
    match stored["kind"]:
        case "sku":
            return SkuIn(frozenset(stored["in"]))
        case "category":
            return CategoryIn(frozenset(stored["in"]))
        case "line_amount":
            return LineAmount(_between_of(stored))
        case "order_amount":
            return OrderAmount(_between_of(stored))
        case "placed":
            since, until = (
                datetime.fromisoformat(stored[end]) if stored.get(end) else None for end in ("from", "until")
            )
            if since is None and until is None:
                raise InvalidTerms("A condition on placed needs from or until.")
            return Placed(since, until)
        case "touch":
            return TouchIn(frozenset(TouchKind(kind) for kind in stored["in"]))
        case "coupon":
            return CouponIn(frozenset(folded(code) for code in stored["in"]))
        case other:
            raise InvalidTerms(f"{other!r} is nothing a condition can ask about.")


def _between_of(stored: JsonObject) -> Between:
    least, below = amounts_of(stored.get("at_least", ())), amounts_of(stored.get("below", ()))
    if not least and not below:
        raise InvalidTerms(f"A condition on {stored['kind']} needs at_least or below.")
    return Between(least, below, Measure(stored.get("of", Measure.LEFT)))
