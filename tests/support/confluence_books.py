"""The confluence of `tests.support.confluence`, asked of the whole service on PostgreSQL below HTTP.

Every set is the facts of one order. Many are told to one merchant in one order of facts by one process, and to others
shuffled, some deliveries again, in batches of one to 64, by two processes at once, with settle runs of a third and a change
of the shop's terms in between. Compared are the merchants with each other, and each order with the pure domain.
"""

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.synchronize import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from service.commissions.reassess import reassess_due
from service.domain.assessment import Assessment
from service.domain.dated import DatedInputs
from service.domain.errors import InvariantBroken, ServiceError
from service.domain.order import Fact, FactKind
from service.infra.db import make_engine, read_session, run_unit
from service.intake.record import Received, record
from service.ledger import audit
from service.reports.recheck import recheck
from tests.domain.books import Books as BooksInMemory
from tests.support.books import Books
from tests.support.confluence import LEFT_OVER
from tests.support.fact_sets import LONGEST_WAIT, SHOP, SHOP_BEFORE
from tests.support.forked import FORKED
from tests.support.shop_tables import store_inputs

SHUFFLED = 2
"""How many merchants are told each set in another order."""
START_S = 120.0
"""How long the two processes may take to begin."""
SETTLE_EVERY = 3
"""How many batches lie between two settle runs."""
ASSESS_AGAIN_EVERY = 5
"""How many between two turns of what has to be assessed again."""

AGAIN = 0.3
"""What part of the deliveries comes again under its id."""
RENAMED = 0.1
"""What part comes again under another id, as from a shop that lost count."""
_RENAMED_BY = "~again"


@dataclass(frozen=True, slots=True)
class Written:
    """A batch that was recorded, by which process; or what it was refused for."""

    process_id: int
    trouble: str = ""


Write = Callable[[Sequence[Sequence[Received]]], Iterable[Written]]
"""Records batches, in any order, and yields as each is done."""


@dataclass(slots=True)
class Differences:
    """What does not agree. orders: by name, the first difference in words. others: what no order explains."""

    orders: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    deliveries: int = 0
    settled: int = 0
    """Commissions that settle runs moved before the last delivery."""
    by_process: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Batches of the shuffled merchants by process id."""
    again: int = 0
    """Orders assessed again because of another."""
    periods: int = 0
    """Of payees, rules and currencies, compared with each other."""
    loose: int = 0
    """Commissions whose place may differ, as something is still waited for."""

    def add(self, other: "Differences") -> None:
        self.orders |= other.orders
        self.others += other.others
        self.deliveries += other.deliveries
        self.settled += other.settled
        self.loose += other.loose
        self.again += other.again
        self.periods += other.periods
        for process_id, batches in other.by_process.items():
            self.by_process[process_id] += batches

    def note(self, order: str, difference: str) -> None:
        self.orders.setdefault(order, difference)


# Writing


@contextmanager
def two_processes(database_url: str) -> Iterator[Write]:
    """Yield a way to record batches by two processes at once, each with its own connections; they end with the block."""
    both = (database_url, FORKED.Barrier(2))
    with ProcessPoolExecutor(2, mp_context=FORKED, initializer=_connect, initargs=both) as pool:
        # Neither may have written everything before the other has begun.
        for begun in [pool.submit(os.getpid) for _ in range(2)]:
            begun.result()
        yield lambda batches: _side_by_side(pool, batches)


def one_process(engine: Engine) -> Write:
    """A way to record batches one after the other, here."""
    return lambda batches: (_written(engine, batch) for batch in batches)


def _side_by_side(pool: Executor, batches: Sequence[Sequence[Received]]) -> Iterator[Written]:
    return (done.result() for done in as_completed([pool.submit(_write, batch) for batch in batches]))


_engines: list[Engine] = []
"""The engine of a writing process; empty elsewhere."""


def _connect(database_url: str, both_are_here: Barrier) -> None:
    # A loaded machine may keep a lock for long; nothing here is about how long.
    _engines.append(make_engine(database_url, pool_size=1, lock_timeout_ms=120_000, statement_timeout_ms=120_000))
    both_are_here.wait(START_S)


def _write(batch: Sequence[Received]) -> Written:
    return _written(_engines[0], batch)


def _written(engine: Engine, batch: Sequence[Received]) -> Written:
    try:
        run_unit(engine, lambda session: record(session, batch))
    except (InvariantBroken, ServiceError, SQLAlchemyError) as error:
        return Written(os.getpid(), f"a batch was refused: {type(error).__name__}: {str(error).splitlines()[0]}")
    return Written(os.getpid())


# Telling


def deliveries_of(books: Books, order: str, facts: Sequence[Fact]) -> list[Received]:
    """The deliveries that tell an order's facts, the same for every merchant: people's decisions from the desk.

    A few bring two facts, and a few come under the delivery id of the one before, with another body.
    """
    dice = random.Random(order)
    told: list[Received] = []
    rest = list(facts)
    while rest:
        fact, *rest = rest
        desk = fact.kind is FactKind.DECISION
        brings = [fact]
        if rest and not desk and rest[0].kind is not FactKind.DECISION and dice.random() < 0.2:
            brings.append(rest.pop(0))
        number = len(told) - (bool(told) and dice.random() < 0.05)
        delivery = books.delivery(order, *brings, delivery_id=f"{order}/{number}")
        told.append(replace(delivery, source_id=books.desk_id) if desk else delivery)
    return told


@dataclass(frozen=True, slots=True)
class Stage:
    """A shop, the same before its last changes, and what the pure domain says of sets told to it.

    batch_max: deliveries of a batch. Large ones wait for each other's orders, small ones meet at what orders share.
    """

    shop: DatedInputs
    before: DatedInputs
    by_domain: Callable[[Mapping[str, Sequence[Fact]]], "_Rows"]
    batch_max: int = 64


def differences(
    engine: Engine,
    write: Write,
    sets: Mapping[str, Sequence[Fact]],
    *,
    seed: int,
    shuffled: int = SHUFFLED,
    stage: Stage | None = None,
) -> Differences:
    """Tell sets, by order name, to a merchant straight and to `shuffled` others in other orders, and compare.

    seed: of those orders. What two processes do at the same time is not in it. stage: None for that of single orders.
    """
    dice = random.Random(seed)
    found = Differences()
    stage = SINGLE if stage is None else stage
    straight = Books.founded(engine, time_zone=stage.shop.time_zone)
    store_inputs(straight, stage.shop)
    others = [Books.founded(engine, time_zone=stage.shop.time_zone) for _ in range(shuffled)]
    _tell_straight(straight, sets, found)
    _assess_again(straight, found)
    for books in others:
        store_inputs(books, stage.before)
        _tell_shuffled(books, write, sets, dice, found, stage)
        _assess_again(books, found)
    expected = _earned(straight)
    _compare_orders("told straight, by the pure domain", stage.by_domain(sets), expected, found)
    for books in others:
        _compare_orders("at once", expected, _earned(books), found)
    for books in (straight, *others):
        books.advance(seconds=LONGEST_WAIT.total_seconds())
        _settle(books, found)
    end = _Dump.of(straight)
    for books in others:
        _compare_dumps(end, _Dump.of(books), found)
    for books in (straight, *others):
        with read_session(engine) as session:
            found.others += [f"check-books: {finding}" for finding in audit.check(session, books.merchant_id)]
            found.others += [f"recheck: {finding}" for finding in recheck(session, books.merchant_id, sample=None)]
    found.loose += len(end.loose)
    return found


def _tell_straight(books: Books, sets: Mapping[str, Sequence[Fact]], found: Differences) -> None:
    batch: list[Received] = []
    names = list(sets)
    for name in names:
        batch += deliveries_of(books, name, sets[name])
        # Whole orders only: each is told at once.
        if len(batch) >= 64 or name == names[-1]:
            found.deliveries += len(batch)
            books.receive(*batch)
            batch = []


def _tell_shuffled(
    books: Books,
    write: Write,
    sets: Mapping[str, Sequence[Fact]],
    dice: random.Random,
    found: Differences,
    stage: Stage,
) -> None:
    told = [delivery for name, facts in sets.items() for delivery in deliveries_of(books, name, facts)]
    again = dice.sample(told, int(len(told) * AGAIN))
    renamed = [
        replace(delivery, delivery_id=delivery.delivery_id + _RENAMED_BY)
        for delivery in dice.sample(told, int(len(told) * RENAMED))
    ]
    told += again + renamed
    dice.shuffle(told)
    batches = []
    start = 0
    while start < len(told):
        size = dice.randint(1, stage.batch_max) if len(sets) > 1 else dice.randint(1, 4)
        batches.append(told[start : start + size])
        start += size
    change = dice.randrange(len(batches))
    found.deliveries += len(told)
    for number, written in enumerate(write(batches)):
        found.by_process[written.process_id] += 1
        if written.trouble:
            found.others.append(written.trouble)
        if number == change:
            store_inputs(books, stage.shop, known=stage.before)
        if number % SETTLE_EVERY == SETTLE_EVERY - 1 or len(sets) == 1:
            found.settled += _settle(books, found)
        if number % ASSESS_AGAIN_EVERY == ASSESS_AGAIN_EVERY - 1:
            _assess_again(books, found)


def _assess_again(books: Books, found: Differences) -> None:
    """Assess again whose answer another order changed; a settle run before that has to leave those alone."""
    try:
        found.again += reassess_due(books.engine, books.merchant_id)
    except (InvariantBroken, ServiceError, SQLAlchemyError) as error:
        found.others.append(f"assessing again failed: {type(error).__name__}: {str(error).splitlines()[0]}")


def _settle(books: Books, found: Differences) -> int:
    """Settle what is due. Returns how many commissions moved; books that cannot be settled are a difference."""
    try:
        return books.settle()
    except (InvariantBroken, ServiceError, SQLAlchemyError) as error:
        found.others.append(f"a settle run failed: {type(error).__name__}: {str(error).splitlines()[0]}")
        return 0


# Comparing

_Rows = dict[str, list[tuple[Any, ...]]]
"""Rows by order name, sorted."""

_EARNED = """
SELECT coalesce(external_id, concat_ws(' ', 'period', rule_period.program_id, rule, begins_on)) AS name,
       commission.payee_id, commission.currency, target_minor, commission.held_minor,
       coalesce(posted_minor, 0) AS posted_minor
FROM commission
LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
LEFT JOIN rule_period ON rule_period.merchant_id = commission.merchant_id AND rule_period.id = commission.id
LEFT JOIN (
    SELECT commission_id,
           CAST(sum(CASE WHEN source = 'commission_expense' THEN amount_minor
                         WHEN destination = 'commission_expense' THEN -amount_minor ELSE 0 END) AS bigint) AS posted_minor
    FROM commission_entry WHERE merchant_id = :merchant_id GROUP BY commission_id
) AS told ON told.commission_id = commission.id
WHERE commission.merchant_id = :merchant_id
  AND (target_minor <> 0 OR commission.held_minor <> 0 OR posted_minor <> 0)
"""

# The sums of a period's orders by place, and what it gives there.
_PERIODS = """
SELECT rule_period.payee_id, rule_period.program_id, rule, CAST(begins_on AS text), rule_period.currency,
       CAST(rules AS text) AS rules, pending_commission_minor, pending_sales_minor, pending_orders,
       held_commission_minor, held_sales_minor, held_orders, settled_commission_minor, settled_sales_minor,
       settled_orders, coalesce(commission.pending_minor, 0), coalesce(commission.held_minor, 0),
       coalesce(commission.settled_minor, 0)
FROM rule_period
LEFT JOIN commission ON commission.merchant_id = rule_period.merchant_id AND commission.id = rule_period.id
WHERE rule_period.merchant_id = :merchant_id
"""

_COMMISSIONS = """
SELECT external_id, payee_id, currency, target_minor, pending_minor, held_minor, settled_minor, reason_code,
       approved_minor, settles_at, commission.program_id, program_version, CAST(receipt AS text) AS receipt
FROM commission
JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
WHERE commission.merchant_id = :merchant_id AND (target_minor <> 0 OR reason_code <> ALL(CAST(:left_over AS text[])))
"""

_FACTS = """
SELECT external_id, kind, key, version_at, version_amount, body_hash, conflicting, provisional,
       CAST(payload AS text) AS payload
FROM fact JOIN orders ON orders.merchant_id = fact.merchant_id AND orders.id = fact.order_id
WHERE fact.merchant_id = :merchant_id
"""

_ASSESSMENTS = """
SELECT external_id, placed_at, currency, number, goods_minor, net_minor, cancelled, affiliate_id, program_id,
       attribution_reason, CAST(candidates AS text) AS candidates, frozen_reason
FROM assessment JOIN orders ON orders.merchant_id = assessment.merchant_id AND orders.id = assessment.order_id
WHERE assessment.merchant_id = :merchant_id
"""

# A delivery that came again under another name must have fared as the first.
_INBOX = """
SELECT DISTINCT order_external_id AS external_id, replace(delivery_id, :renamed_by, '') AS delivery, body_hash, state,
       reason_code
FROM inbox WHERE merchant_id = :merchant_id
"""

_BALANCES = """
SELECT owner_id, kind, currency, amount_minor FROM balance WHERE merchant_id = :merchant_id AND amount_minor <> 0
"""

_DAYS = """
SELECT kind, currency, CAST(sum(credit_minor - debit_minor) AS bigint) AS amount_minor
FROM day_sum WHERE merchant_id = :merchant_id
GROUP BY kind, currency HAVING sum(credit_minor - debit_minor) <> 0
"""


def _earned(books: Books) -> _Rows:
    """What is earned, posted and held at this moment, by order."""
    return _by_order(books, _EARNED)


def _by_order(books: Books, statement: str, **parameters: Any) -> _Rows:
    rows: _Rows = defaultdict(list)
    for name, *rest in books.rows(statement, **parameters):
        rows[name].append(tuple(rest))
    return {name: sorted(each, key=repr) for name, each in rows.items()}


def _compare_orders(what: str, expected: _Rows, found: _Rows, differences: Differences) -> None:
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            differences.note(name, f"{what}: {found.get(name)} instead of {expected.get(name)}")


def _by_domain(sets: Mapping[str, Sequence[Fact]]) -> _Rows:
    expected: _Rows = {}
    for name, facts in sets.items():
        rows = rows_of(BooksInMemory(SHOP).receive(facts))
        if rows:
            expected[name] = rows
    return expected


def rows_of(outcome: Assessment) -> list[tuple[Any, ...]]:
    """What `_earned` reads of an order told straight."""
    rows = [
        (each.payee_id, each.currency, each.target_minor, each.target_minor if outcome.frozen else 0, each.target_minor)
        for each in outcome.targets
        if each.target_minor
    ]
    return sorted(rows, key=repr)


SINGLE = Stage(SHOP, SHOP_BEFORE, _by_domain)


_PeriodKey = tuple[UUID, UUID, str, str, str]


@dataclass(slots=True)
class _Dump:
    """A merchant's books without ids and times of arrival. loose: where part is still waiting for something."""

    places: dict[tuple[str, UUID, str], tuple[int, int, int]] = field(default_factory=dict)
    commissions: dict[tuple[str, UUID, str], tuple[Any, ...]] = field(default_factory=dict)
    reasons: dict[tuple[str, UUID, str], str] = field(default_factory=dict)
    orders: dict[str, _Rows] = field(default_factory=dict)
    balances: dict[tuple[UUID, str, str], int] = field(default_factory=dict)
    days: dict[tuple[str, str], int] = field(default_factory=dict)
    periods: dict[_PeriodKey, tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Of each period the rules, its orders' sums by place, and what it gives by place."""

    @classmethod
    def of(cls, books: Books) -> "_Dump":
        dump = cls()
        left_over = [reason.value for reason in LEFT_OVER]
        for row in books.rows(_COMMISSIONS, left_over=left_over):
            name, payee_id, currency, target, pending, held, settled, reason, *rest = row
            key = (name, payee_id, currency)
            dump.places[key] = (pending, held, settled)
            dump.reasons[key] = reason
            dump.commissions[key] = (target, *rest)
        dump.orders = {
            "facts": _by_order(books, _FACTS),
            "assessment": _by_order(books, _ASSESSMENTS),
            "inbox": _by_order(books, _INBOX, renamed_by=_RENAMED_BY),
        }
        dump.balances = {tuple(key): amount for *key, amount in books.rows(_BALANCES)}
        for row in books.rows(_PERIODS):
            name, (rules, *numbers) = tuple(row[:5]), row[5:]
            if any(numbers):
                dump.periods[name] = (rules, tuple(numbers[:9]), tuple(numbers[9:]))
        dump.days = {tuple(key): amount for *key, amount in books.rows(_DAYS)}
        return dump

    @property
    def loose(self) -> set[tuple[str, UUID, str]]:
        """Told at once and settled, something is still pending: only here may the way there show in the places."""
        return {key for key, (pending, _, _) in self.places.items() if pending}

    def without(self, loose: set[tuple[str, UUID, str]]) -> tuple[dict[Any, int], dict[Any, int]]:
        """Balances, and sums of booking days, less what commissions that may differ have in pending and payable."""
        balances, days = defaultdict(int, self.balances), defaultdict(int, self.days)
        may_differ: list[tuple[tuple[UUID, str], tuple[int, ...]]] = [
            (key[1:], self.places[key]) for key in loose & self.places.keys()
        ]
        # A period stands as its orders do.
        may_differ += [((name[0], name[-1]), gives) for name, (_, _, gives) in self.periods.items()]
        for (payee_id, currency), (pending, _, settled) in may_differ:
            for kind, amount in (("pending", pending), ("payable", settled)):
                balances[payee_id, kind, currency] -= amount
                days[kind, currency] -= amount
        return (
            {key: amount for key, amount in balances.items() if amount},
            {key: amount for key, amount in days.items() if amount},
        )


def _compare_dumps(expected: _Dump, found: _Dump, differences: Differences) -> None:
    for what, rows in expected.orders.items():
        _compare_orders(what, rows, found.orders[what], differences)
    loose = expected.loose
    for key in expected.commissions.keys() | found.commissions.keys():
        if expected.commissions.get(key) != found.commissions.get(key):
            told = f"{found.commissions.get(key)} instead of {expected.commissions.get(key)}"
            differences.note(key[0], f"commission: {told}")
        elif key in loose:
            (_, _, base), (_, held, settled) = expected.places[key], found.places[key]
            if held or settled < base:
                differences.note(key[0], f"places: {found.places[key]}, where told at once {base} are settled")
        elif (expected.places[key], expected.reasons[key]) != (found.places[key], found.reasons[key]):
            told = f"{found.places[key]} {found.reasons[key]}"
            differences.note(key[0], f"places: {told} instead of {expected.places[key]} {expected.reasons[key]}")
    _compare_periods(expected, found, differences)
    for what, must, now in zip(
        ("balances", "booking days"), expected.without(loose), found.without(loose), strict=True
    ):
        if must != now and not differences.orders:
            differing = {
                key: (now.get(key), must.get(key)) for key in must.keys() | now.keys() if must.get(key) != now.get(key)
            }
            differences.others.append(f"{what}: {differing}")


def _compare_periods(expected: _Dump, found: _Dump, differences: Differences) -> None:
    """The same rules and the same sums; by place where nothing of its orders is pending for good."""
    differences.periods += len(expected.periods)
    for name in expected.periods.keys() | found.periods.keys():
        must, now = expected.periods.get(name), found.periods.get(name)
        if must is None or now is None or must[0] != now[0]:
            differences.others.append(f"period {name}: {now} instead of {must}")
            continue
        told, wanted = ([sum(sums[part::3]) for part in range(3)] + [sum(gives)] for _, sums, gives in (now, must))
        loose = any(must[1][:3])
        if told != wanted or (not loose and now != must):
            differences.others.append(f"period {name}: {now[1:]} instead of {must[1:]}")
