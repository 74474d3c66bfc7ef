"""Rules: what a line of an order earns, when a rule speaks for a line, and which of several counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Any, assert_never
from uuid import UUID

from service.domain.conditions import Condition, Situation, condition_json, condition_of, holds
from service.domain.errors import InvalidTerms
from service.domain.money import spread
from service.domain.order import Line, NetLine
from service.domain.written import Amounts, amounts_json, amounts_of, percent_of, rate_of

JsonObject = dict[str, Any]

BASE = "base"
MERCHANT = "merchant"


@dataclass(frozen=True, slots=True)
class When:
    """True where all of `every` are, at least one of `some` (if there are any), and none of `none`."""

    every: tuple[Condition, ...] = ()
    some: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    def conditions(self) -> tuple[Condition, ...]:
        return (*self.every, *self.some, *self.none)

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
class Agent:
    """Who arranged a rule's offer and has a service fee for it, on top. fee: a part of what is left of the goods."""

    payee_id: UUID
    fee: Fraction
    approved_at: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """What is paid, and when.

    component: rules of one component exclude each other; what different components give adds up. funder: who bears it.
    priority: of rules of one plan the highest counts, of equal ones that which gives most. None: minus the rule's place
    in the terms, so that the first of a list counts.
    caps_per_line_minor: the most it gives for one line, by currency; not with Per.ORDER.
    agent: see `service_fee`; of agents whose rules give a line equally much the first approved counts.
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
    agent: Agent | None = None

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
    found.sort(key=lambda each: (*each[1].rank(each[0]), -each[2], _approved(each[1]), each[0]))
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


_NEVER = datetime.max.replace(tzinfo=UTC)


def _approved(rule: Rule) -> datetime:
    return _NEVER if rule.agent is None else rule.agent.approved_at


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


@dataclass(frozen=True, slots=True)
class LineFee:
    """An agent's fee for a line, in minor units before rounding. index: place of the rule that names the agent."""

    index: int
    payee_id: UUID
    exact: Fraction


def service_fee(rules: Sequence[Rule], parts: Sequence[Part], line: NetLine) -> LineFee | None:
    """The service fee for a line, which one agent has whole.

    Where an exclusive rule counts, its own agent; else the agent of the open rule that ranks first among those that name
    one, also where a target rule is what the affiliate is paid by.
    """
    for part in parts:
        counting = rules[part.index]
        named = [each.index for each in part.candidates if rules[each.index].agent is not None]
        if counting.plan is Plan.EXCLUSIVE:
            named = [index for index in named if index == part.index]
        else:
            named = [index for index in named if rules[index].plan is Plan.OPEN]
        if named:
            agent = rules[named[0]].agent
            assert agent is not None
            # An agent that asks for nothing keeps the others from a fee all the same.
            if not agent.fee:
                return None
            return LineFee(named[0], agent.payee_id, max(line.net_minor, 0) * agent.fee)
    return None


def by_funder(rules: Sequence[Rule], shares: Sequence[tuple[Sequence[Part], int]], total_minor: int) -> dict[str, int]:
    """Who bears how much of what an order earns; the amounts add up to total_minor.

    shares: for each line its parts and what they came to when rounded. A line's amount, and then what a cap left of the
    order's, is divided by largest remainder, ties to the funder that the terms name first.
    """
    amounts = dict.fromkeys((rule.funder for rule in rules), 0)
    if len(amounts) == 1:
        return dict.fromkeys(amounts, total_minor)
    for parts, rounded_minor in shares:
        for part, amount in zip(parts, spread(rounded_minor, weights_of([part.exact for part in parts])), strict=True):
            amounts[rules[part.index].funder] += amount
    funders = list(amounts)
    return dict(zip(funders, spread(total_minor, [amounts[name] for name in funders]), strict=True))


def weights_of(exact: Sequence[Fraction]) -> list[int]:
    """Integers in the same proportion."""
    whole = lcm(*(each.denominator for each in exact))
    return [int(each * whole) for each in exact]


# The written form, as the API shows it and the database keeps it. What was left out is not written.


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
        "agent": (_agent_json(rule.agent), None),
    }
    return written | {name: value for name, (value, default) in other.items() if value != default}


def rule_of(stored: JsonObject) -> Rule:
    """A rule from its written form. Raises InvalidTerms, UnknownCurrency."""
    pays = _pays_of(stored)
    caps = amounts_of(stored.get("cap_per_line", ()))
    if caps and isinstance(pays, Flat) and pays.per is Per.ORDER:
        raise InvalidTerms("A flat amount per order has no cap per line; use cap_per_order.")
    when = stored.get("when") or {}
    agent, plan, priority = _agent_of(stored.get("agent")), Plan(stored.get("plan", Plan.OPEN)), stored.get("priority")
    if agent is not None and (plan is Plan.TARGET or priority is None):
        raise InvalidTerms(
            "A rule with an agent is of the open or the exclusive plan and has a priority: agents of open rules compete, "
            "and a target rule leaves the service fee to them."
        )
    return Rule(
        pays=pays,
        match=Match(frozenset(stored["match"]["skus"]), frozenset(stored["match"]["categories"])),
        when=When(*(tuple(condition_of(each) for each in when.get(name, ())) for name in ("all", "any", "not"))),
        plan=plan,
        priority=priority,
        component=stored.get("component", BASE),
        funder=stored.get("funder", MERCHANT),
        caps_per_line_minor=caps,
        name=stored.get("name", ""),
        agent=agent,
    )


def _agent_json(agent: Agent | None) -> JsonObject | None:
    if agent is None:
        return None
    return {
        "payee_id": str(agent.payee_id),
        "fee": percent_of(agent.fee),
        "approved_at": agent.approved_at.isoformat(),
    }


def _agent_of(stored: JsonObject | None) -> Agent | None:
    if stored is None:
        return None
    return Agent(UUID(stored["payee_id"]), rate_of(stored["fee"]), datetime.fromisoformat(stored["approved_at"]))


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
