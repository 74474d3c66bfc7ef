"""Many orders' books in memory, with what orders have to do with each other: customers' histories, and periods.

What must hold however a set of `tests.support.crowd` is told, with settle runs and changes of the shop in between and
orders assessed again sooner or later: once nothing waits to be assessed again, the same answers as told at once, and the
same sums and rules of each period. Once every clock has run out and settle has run, also the same places, but for orders
of which something waits for a person or a milestone, and the periods they are in (see `tests.support.confluence`).
Meanwhile nobody's pending or held is ever below nothing.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from service.domain.assessment import Assessment
from service.domain.attribution import Reason, attribute
from service.domain.commission import CommissionReason
from service.domain.customer import History, PlacedOrder, customer_key, histories
from service.domain.dated import DatedInputs
from service.domain.errors import InvariantBroken
from service.domain.order import Fact, TouchKind
from service.domain.periods import (
    Cap,
    Gives,
    Ladder,
    Milestones,
    PeriodKey,
    PeriodRule,
    Sum,
    Sums,
    contribution,
    gives,
    periods_of,
)
from service.domain.program import period_rules
from service.domain.settlement import FrozenReason
from tests.domain.books import Books
from tests.support.confluence import Answer
from tests.support.crowd import CROWDED, CROWDED_BEFORE, PLATFORM, STAR, Crowd, Orders, by_order, pairs

TELLINGS = 3

PeriodName = tuple[UUID, UUID, str, str, str]
"""Payee, programme, rule, first day, currency."""


@dataclass(frozen=True, slots=True)
class Period:
    rules: tuple[PeriodRule, ...]
    sums: Sums
    given: Gives

    @property
    def total(self) -> Sum:
        return self.sums.settled + self.sums.pending + self.sums.held


@dataclass(slots=True)
class CrowdSeen:
    """What a proof has met. again: orders assessed again because of another; settled: settle runs in between."""

    sets: Counter[Crowd] = field(default_factory=Counter)
    reasons: Counter[CommissionReason] = field(default_factory=Counter)
    deliveries: int = 0
    again: int = 0
    settled: int = 0

    def add(self, other: "CrowdSeen") -> None:
        self.sets.update(other.sets)
        self.reasons.update(other.reasons)
        self.deliveries += other.deliveries
        self.again += other.again
        self.settled += other.settled


@dataclass
class CrowdBooks:
    """All orders of one shop, which has one source. waiting: what has to be assessed again."""

    inputs: DatedInputs
    orders: dict[str, Books] = field(default_factory=dict)
    outcomes: dict[str, Assessment] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    rules: dict[tuple[object, ...], Mapping[PeriodKey, tuple[PeriodRule, ...]]] = field(default_factory=dict)
    """Of periods, by whose they are and when an order was placed."""

    def receive(self, told: Iterable[tuple[str, Fact]]) -> None:
        """One unit of work: what is told of some orders."""
        before = self.histories()
        batch = by_order(told)
        for name, facts in batch.items():
            self.orders.setdefault(name, Books(self.inputs)).merge(facts)
        now = self.histories()
        for name in batch:
            self._assess(name, now.get(name))
        self.waiting |= {name for name, history in now.items() if name not in batch and before.get(name) != history}

    def assess_again(self) -> int:
        waiting, now = sorted(self.waiting), self.histories()
        for name in waiting:
            self._assess(name, now.get(name))
        self.waiting.clear()
        return len(waiting)

    def _assess(self, name: str, history: History | None) -> None:
        self.orders[name].inputs = self.inputs
        self.outcomes[name] = self.orders[name].assess(history)
        self._check()

    def settle(self) -> None:
        for name, outcome in self.outcomes.items():
            if name not in self.waiting:
                self.orders[name].settle(outcome)
        self._check()

    def histories(self) -> dict[str, History]:
        placed: dict[str, list[PlacedOrder]] = defaultdict(list)
        names: dict[UUID, str] = {}
        for number, (name, order) in enumerate(self.orders.items()):
            snapshot = order.facts.snapshot
            customer = customer_key(snapshot.customer) if snapshot else None
            if snapshot is None or customer is None:
                continue
            names[UUID(int=number)] = name
            gone = attribute(order.facts, self.inputs, order.identities) if snapshot.cancelled else None
            placed[customer].append(
                PlacedOrder(
                    UUID(int=number),
                    ("shop", name),
                    snapshot.placed_at,
                    snapshot.cancelled,
                    frozenset(line.sku for line in snapshot.lines if line.goods and line.sku) if gone else frozenset(),
                    gone.affiliate_id if gone else None,
                    gone.program_id if gone else None,
                )
            )
        return {names[order]: each for group in placed.values() for order, each in histories(group).items()}

    def periods(self) -> dict[PeriodName, Period]:
        """All periods as their orders stand now."""
        sums: dict[PeriodName, Sums] = defaultdict(Sums)
        rules: dict[PeriodName, tuple[PeriodRule, ...]] = {}
        for name, outcome in self.outcomes.items():
            snapshot = self.orders[name].facts.snapshot
            for target in outcome.targets:
                if not target.is_affiliate or target.program_id is None or snapshot is None:
                    continue
                program_id, payee_id = target.program_id, target.payee_id
                places = self.orders[name].places[payee_id, target.currency]
                for key, goes_by in self._rules(payee_id, program_id, snapshot.placed_at).items():
                    period = (payee_id, program_id, key.rule, key.begins_on.isoformat(), target.currency)
                    assert rules.setdefault(period, goes_by) == goes_by, "orders of one period have one set of rules"
                    sums[period] += contribution(
                        pending_minor=places.pending_minor,
                        held_minor=places.held_minor,
                        settled_minor=places.settled_minor,
                        sales_minor=target.volume_minor,
                    )
        return {name: Period(rules[name], each, gives(rules[name], each, name[-1])) for name, each in sums.items()}

    def _rules(
        self, payee_id: UUID, program_id: UUID, placed_at: datetime
    ) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
        asked = (id(self.inputs), payee_id, program_id, placed_at)
        if asked not in self.rules:
            self.rules[asked] = periods_of(
                period_rules(self.inputs.versions[program_id]),
                placed_at=placed_at,
                enrolled_since=lambda at: self.inputs.enrolled_since(program_id, payee_id, at),
                time_zone=self.inputs.time_zone,
            )
        return self.rules[asked]

    def _check(self) -> None:
        """Nobody has less than nothing pending or held."""
        pending, held = Counter[tuple[UUID, str]](), Counter[tuple[UUID, str]]()
        for order in self.orders.values():
            for key, places in order.places.items():
                pending[key] += places.pending_minor
                held[key] += places.held_minor
        for (payee_id, _, _, _, currency), period in self.periods().items():
            pending[payee_id, currency] += period.given.pending_minor
            held[payee_id, currency] += period.given.held_minor
        assert min((*pending.values(), *held.values()), default=0) >= 0, "pending or held is below nothing"


def difference_in_crowd(orders: Orders, seed: int, seen: CrowdSeen | None = None) -> str:
    """Tell a set at once and then TELLINGS times in other orders. Returns the first difference in words; empty for none."""
    try:
        return _difference(orders, random.Random(seed), CrowdSeen() if seen is None else seen)
    except (AssertionError, InvariantBroken) as broken:
        return f"{type(broken).__name__}: {broken}"


def told_at_once(orders: Orders) -> CrowdBooks:
    books = CrowdBooks(CROWDED)
    books.receive(pairs(orders))
    assert not books.waiting, "who is told of all at once waits for nobody"
    return books


def _difference(orders: Orders, dice: random.Random, seen: CrowdSeen) -> str:
    at_once = told_at_once(orders)
    answers = {name: Answer.of(outcome) for name, outcome in at_once.outcomes.items()}
    periods = at_once.periods()
    seen.sets.update(crowd_of(at_once))
    seen.reasons.update(target.reason for outcome in at_once.outcomes.values() for target in outcome.targets)
    at_once.settle()
    settled = at_once.periods()
    for number in range(TELLINGS):
        books = _told(orders, dice, seen, settles=number > 0)
        for name, answer in answers.items():
            if Answer.of(books.outcomes[name]) != answer:
                return f"telling {number + 1}, {name}: {Answer.of(books.outcomes[name]).difference_to(answer)}"
        if difference := _of_periods(books.periods(), periods):
            return f"telling {number + 1}: {difference}"
        books.settle()
        for name, order in at_once.orders.items():
            for key, places in order.places.items():
                found = books.orders[name].places[key]
                if found != places if not places.pending_minor else found.settled_minor < places.settled_minor:
                    return f"telling {number + 1}, {name}: places of {key}: {found} instead of {places}"
        if difference := _of_places(books.periods(), settled):
            return f"telling {number + 1}: {difference}"
    return ""


def _told(orders: Orders, dice: random.Random, seen: CrowdSeen, *, settles: bool) -> CrowdBooks:
    told = pairs(orders)
    told += dice.choices(told, k=dice.randrange(len(told) // 2 + 2))
    dice.shuffle(told)
    seen.deliveries += len(told)
    books = CrowdBooks(CROWDED_BEFORE)
    change = dice.randrange(len(told))
    start = 0
    while start < len(told):
        size = dice.choice((1, 1, 2, 4, 8))
        if start <= change < start + size:
            books.inputs = CROWDED
        books.receive(told[start : start + size])
        start += size
        if dice.random() < 0.4:
            seen.again += books.assess_again()
        if settles and dice.random() < 0.3:
            books.settle()
            seen.settled += 1
    seen.again += books.assess_again()
    return books


def _of_periods(found: dict[PeriodName, Period], expected: dict[PeriodName, Period]) -> str:
    """The first period that does not come to the same, by the same rules; none counts where nothing is in it."""
    for name in expected.keys() | found.keys():
        must, now = expected.get(name), found.get(name)
        told, wanted = ((each.rules, each.total) if each and each.total != Sum() else None for each in (now, must))
        if told != wanted:
            return f"period {name}: {told} instead of {wanted}"
    return ""


def _of_places(found: dict[PeriodName, Period], settled: dict[PeriodName, Period]) -> str:
    for name, period in settled.items():
        now = found.get(name)
        loose = period.sums.pending != Sum()
        if (
            period.total != Sum()
            and not loose
            and (now is None or (now.sums, now.given) != (period.sums, period.given))
        ):
            return f"places of period {name}: {now} instead of {period}"
    return ""


def crowd_of(books: CrowdBooks) -> set[Crowd]:
    """What a set that was told at once has come to."""
    found = set[Crowd]()
    known = books.histories()
    for name, outcome in books.outcomes.items():
        facts = books.orders[name].facts
        history, snapshot = known.get(name), facts.snapshot
        if snapshot is None:
            continue
        if history is not None:
            found.add(Crowd.RETURNING if history.first_at else Crowd.NEW)
            if history.abandoned and history.first_at is None:
                found.add(Crowd.FIRST_CANCELLED)
            if history.first_at == snapshot.placed_at:
                found.add(Crowd.AT_ONE_MOMENT)
        credited = outcome.attribution.credits
        kinds = {credit.touch.kind for credit in credited if credit.touch}
        if outcome.attribution.reason is Reason.WON:
            found |= {Crowd.PLACED_AGAIN} if TouchKind.REORDER in kinds else set()
            found |= {Crowd.BOUND} if TouchKind.CUSTOMER in kinds else set()
        if len(credited) > 1:
            found.add(Crowd.SEVERAL)
        if outcome.frozen is FrozenReason.SELF_PURCHASE:
            found.add(Crowd.SUSPECTED)
        for target in outcome.targets:
            if target.target_minor and not target.is_affiliate:
                found.add(Crowd.FEE if target.payee_id == PLATFORM else Crowd.SHARED)
                found |= {Crowd.SHARED_BY_TWO} if "credits" in target.receipt else set()
            found |= {Crowd.PAUSED} if target.reason is CommissionReason.PAUSED else set()
        if any(each.payee_id == STAR for each in facts.decisions.values()):
            found.add(Crowd.OWN_DECISION)
    for period in books.periods().values():
        if len(period.rules) > 1:
            found.add(Crowd.TWO_RULES)
        if period.given.target_minor:
            kinds_of = {Cap: Crowd.CAPPED, Ladder: Crowd.CLIMBED, Milestones: Crowd.MARKED}
            found.add(kinds_of[type(period.rules[0])])
    return found


def diverges_in_crowd(told: Sequence[tuple[str, Fact]]) -> bool:
    return any(difference_in_crowd(by_order(told), seed) for seed in range(20))
