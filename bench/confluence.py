"""Facts of orders in every order, again and again, from two processes: the same targets at once, in the end the same books.

What exactly must be the same, and the one case in which places may differ, stands in `tests/support/confluence.py`; for
orders of one customer, and of one affiliate in a month, in `tests/support/crowd_books.py`.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine

from bench import show
from bench.serve import database
from service.domain.commission import CommissionReason
from service.domain.order import Fact
from service.infra.db import make_engine
from tests.support.confluence import TELLINGS, Seen, Telling, difference_in_memory
from tests.support.confluence_books import SHUFFLED, Differences, differences, one_process, two_processes
from tests.support.confluence_crowd import CROWD
from tests.support.crowd import SIZE, Crowd, by_order, orders_of, pairs, written
from tests.support.crowd_books import CrowdSeen, difference_in_crowd, diverges_in_crowd
from tests.support.fact_sets import Feature, facts_of, in_code, smallest

N = 100_000
SEED = 1
CHUNK = 500
"""Sets a process takes at once."""
IN_DATABASE_MIN = 200
IN_DATABASE_PART = 30
"""One set of so many is also told to PostgreSQL."""
PER_MERCHANT = 100
"""Orders of one merchant there: few enough that two processes always meet on the same ones."""
COVERED_FROM = 2_000
"""From so many sets on, each feature and reason must have been there."""
SHOWN_MAX, SHOWN_MAX_IN_DATABASE = 5, 2
"""How many diverging sets are made small and printed; all are counted."""
DIFFERENCE_SHOWN = 600
"""Characters of a difference that are printed."""
CROWDS_MIN, CROWDS_PART = 200, 50
"""One set of several orders for so many of single orders."""
CROWDS_IN_DATABASE_MIN, CROWDS_IN_DATABASE_PART = 40, 20
"""Likewise of those told to PostgreSQL."""
CROWDS_PER_MERCHANT = 10
SHRINK_TELLINGS, SHRINK_TELLINGS_IN_DATABASE = 20, 5
"""In how many orders a smaller set is told before it is taken for one that does not diverge."""

# Nobody misses the data of a proof after a power cut.
POSTGRES_SETTINGS: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_connections": "50"}

NOT_MADE = frozenset({
    CommissionReason.EARNED,
    CommissionReason.NO_TERMS,
    CommissionReason.PERIOD_BONUS,
    CommissionReason.PERIOD_CAP,
})  # fmt: skip
"""Reasons these sets' orders do not come to: nothing is settled when they are counted, the shop always has terms, and the
commissions of periods are counted by what they are."""


def prove(n: int | None, seed: int | None) -> bool:
    """Tell n sets (100,000) in memory and a part of them to PostgreSQL. Returns whether none diverges.

    seed: of the first set; the others follow. N=1 with the seed of a set that diverges in memory repeats it.
    """
    count, first = N if n is None else n, SEED if seed is None else seed
    in_database = max(IN_DATABASE_MIN, count // IN_DATABASE_PART)
    show.say(
        f"{count} sets from seed {first}, each told at once and in {TELLINGS} other orders; "
        f"{in_database} of them to PostgreSQL by two processes."
    )
    pure = _in_memory(first, count)
    found = _in_database(first, in_database)
    _tables(pure.seen, found, count)
    crowds, crowds_in_database = (
        max(CROWDS_MIN, count // CROWDS_PART),
        max(CROWDS_IN_DATABASE_MIN, in_database // CROWDS_IN_DATABASE_PART),
    )
    show.say(f"{crowds} sets of {SIZE} orders that matter to each other; {crowds_in_database} of them to PostgreSQL.")
    crowd = _crowds_in_memory(first, crowds)
    crowd_found = _crowds_in_database(first, crowds_in_database)
    _crowd_tables(crowd.seen, crowd_found, crowds)
    missing = _missing(pure.seen, crowd.seen) if count >= COVERED_FROM else []
    missing += [each.value for each in Crowd if not crowd.seen.sets[each]]
    if missing:
        show.say(f"Never met, so nothing is proved about: {', '.join(missing)}.")
    if len(found.by_process) < 2:
        show.say("Only one process wrote to PostgreSQL.")
    diverging = len(pure.diverging) + len(crowd.diverging)
    diverging += sum(len(each.orders) + len(each.others) for each in (found, crowd_found))
    show.result(
        "confluence",
        n=count,
        diverging=diverging,
        pure=count,
        postgres=in_database,
        crowds=crowds,
        crowds_postgres=crowds_in_database,
        periods=crowd_found.periods,
        assessed_again=crowd.seen.again + crowd_found.again,
        deliveries=pure.seen.deliveries + found.deliveries + crowd.seen.deliveries + crowd_found.deliveries,
        settled_between=pure.seen.tellings[Telling.SETTLED] + found.settled,
        missing=len(missing),
        seed=first,
    )
    return diverging == 0 and not missing and len(found.by_process) == 2


@dataclass(slots=True)
class _Pure:
    """diverging: the first difference by seed."""

    seen: Seen = field(default_factory=Seen)
    diverging: dict[int, str] = field(default_factory=dict)


def _in_memory(first: int, count: int) -> _Pure:
    pure = _Pure()
    spawn = multiprocessing.get_context("spawn")
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with (
        ProcessPoolExecutor(os.cpu_count() or 1, mp_context=spawn, initializer=_quiet) as pool,
        show.progress("In memory", count) as tell,
    ):
        done = 0
        try:
            for chunk in as_completed([pool.submit(_tell_all, seeds) for seeds in chunks]):
                part = chunk.result()
                pure.seen.add(part.seen)
                pure.diverging |= part.diverging
                done += CHUNK
                tell(min(done, count))
        finally:
            # Whoever ends us must not wait for the chunks that have not begun.
            pool.shutdown(wait=False, cancel_futures=True)
    for seed, difference in sorted(pure.diverging.items())[:SHOWN_MAX]:
        _show(seed, difference, smallest(facts_of(seed), _diverges_in_memory), where="in memory")
    return pure


@dataclass(slots=True)
class _Crowds:
    seen: CrowdSeen = field(default_factory=CrowdSeen)
    diverging: dict[int, str] = field(default_factory=dict)


def _crowds_in_memory(first: int, count: int) -> _Crowds:
    crowds = _Crowds()
    spawn = multiprocessing.get_context("spawn")
    chunks = [range(start, min(start + 20, first + count)) for start in range(first, first + count, 20)]
    with (
        ProcessPoolExecutor(os.cpu_count() or 1, mp_context=spawn, initializer=_quiet) as pool,
        show.progress("Crowds in memory", count) as tell,
    ):
        done = 0
        try:
            for chunk in as_completed([pool.submit(_tell_crowds, seeds) for seeds in chunks]):
                part = chunk.result()
                crowds.seen.add(part.seen)
                crowds.diverging |= part.diverging
                done += 20
                tell(min(done, count))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    for seed, difference in sorted(crowds.diverging.items())[:SHOWN_MAX]:
        told = smallest(pairs(orders_of(seed)), diverges_in_crowd)
        show.say(f"\nDiverging in memory, the crowd of seed {seed}: {difference[:DIFFERENCE_SHOWN]}")
        show.say(f"The smallest part of it that diverges:\n{written(by_order(told))}")
    return crowds


def _tell_crowds(seeds: range) -> _Crowds:
    part = _Crowds()
    for seed in seeds:
        difference = difference_in_crowd(orders_of(seed), seed, part.seen)
        if difference:
            part.diverging[seed] = difference
    return part


def _crowds_in_database(first: int, count: int) -> Differences:
    found = Differences()
    with database(POSTGRES_SETTINGS) as postgres:
        engine = make_engine(postgres.url, lock_timeout_ms=120_000, statement_timeout_ms=120_000)
        try:
            with two_processes(postgres.url) as write, show.progress("Crowds on PostgreSQL", count) as tell:
                for start in range(first, first + count, CROWDS_PER_MERCHANT):
                    seeds = range(start, min(start + CROWDS_PER_MERCHANT, first + count))
                    sets = {name: facts for seed in seeds for name, facts in orders_of(seed).items()}
                    found.add(differences(engine, write, sets, seed=start, stage=CROWD))
                    tell(seeds.stop - first)
        finally:
            engine.dispose()
    for name, difference in [*sorted(found.orders.items()), *(("", each) for each in found.others)][:SHOWN_MAX]:
        show.say(f"\nDiverging on PostgreSQL, {name or 'of no order'}: {difference[:DIFFERENCE_SHOWN]}")
    return found


def _crowd_tables(seen: CrowdSeen, found: Differences, count: int) -> None:
    rows = [(each.value, f"{number:,}") for each, number in sorted(seen.sets.items(), key=lambda pair: -pair[1])]
    show.table(f"Sets of several orders that had ({count:,} sets)", ("what", "how many"), rows)
    rows = [
        ("deliveries, the straight ones too", f"{found.deliveries:,}"),
        ("orders assessed again because of another", f"{found.again:,}"),
        ("periods compared", f"{found.periods:,}"),
        ("commissions settled on the way", f"{found.settled:,}"),
    ]
    show.table("Of them on PostgreSQL", ("what", "how many"), rows)


def _quiet() -> None:
    # Ctrl-C is for the one who waits for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _tell_all(seeds: range) -> _Pure:
    part = _Pure()
    for seed in seeds:
        difference = difference_in_memory(facts_of(seed), seed, part.seen)
        if difference:
            part.diverging[seed] = difference
    return part


def _diverges_in_memory(facts: Sequence[Fact]) -> bool:
    return any(difference_in_memory(facts, seed) for seed in range(SHRINK_TELLINGS))


def _in_database(first: int, count: int) -> Differences:
    found = Differences()
    with database(POSTGRES_SETTINGS) as postgres:
        engine = make_engine(postgres.url, lock_timeout_ms=120_000, statement_timeout_ms=120_000)
        try:
            with two_processes(postgres.url) as write, show.progress("On PostgreSQL, two processes", count) as tell:
                for start in range(first, first + count, PER_MERCHANT):
                    seeds = range(start, min(start + PER_MERCHANT, first + count))
                    sets = {_order(seed): facts_of(seed) for seed in seeds}
                    found.add(differences(engine, write, sets, seed=start))
                    tell(seeds.stop - first)
            for order, difference in sorted(found.orders.items())[:SHOWN_MAX_IN_DATABASE]:
                facts = _smallest_in_database(engine, facts_of(_seed(order)))
                _show(_seed(order), difference, facts, where="on PostgreSQL")
        finally:
            engine.dispose()
    for other in found.others[:SHOWN_MAX]:
        show.say(f"Diverging on PostgreSQL: {other[:DIFFERENCE_SHOWN]}")
    return found


def _order(seed: int) -> str:
    return f"order-{seed}"


def _seed(order: str) -> int:
    return int(order.removeprefix("order-"))


def _smallest_in_database(engine: Engine, facts: Sequence[Fact]) -> Sequence[Fact]:
    """The smallest part that diverges also alone and told by one process; all of it where it takes others or a race."""

    def diverges(some: Sequence[Fact]) -> bool:
        answer = differences(engine, one_process(engine), {"alone": some}, seed=0, shuffled=SHRINK_TELLINGS_IN_DATABASE)
        return bool(answer.orders or answer.others)

    if not diverges(facts):
        show.say("The next one does not diverge when one process tells it alone.")
        return facts
    return smallest(facts, diverges)


def _show(seed: int, difference: str, facts: Sequence[Fact], *, where: str) -> None:
    show.say(f"\nDiverging {where}, the set of seed {seed}: {difference[:DIFFERENCE_SHOWN]}")
    show.say(f"The smallest part of it that diverges, {len(facts)} of {len(facts_of(seed))} facts:\n{in_code(facts)}")


def _missing(seen: Seen, crowds: CrowdSeen) -> list[str]:
    """What a run of this size has to have met and has not."""
    wanted: list[tuple[type[StrEnum], Mapping[Any, int]]] = [
        (Feature, seen.sets),
        (CommissionReason, seen.reasons + crowds.reasons),
        (Telling, seen.tellings),
    ]
    return [each.value for kind, counted in wanted for each in kind if not counted[each] and each not in NOT_MADE]


def _tables(seen: Seen, found: Differences, count: int) -> None:
    shown: list[tuple[str, Mapping[Any, int]]] = [
        ("Sets that had", seen.sets),
        ("Commissions, before settling", seen.reasons),
        ("On the way, in memory", seen.tellings),
    ]
    for title, counted in shown:
        rows = [(each.value, f"{number:,}") for each, number in sorted(counted.items(), key=lambda pair: -pair[1])]
        show.table(f"{title} ({count:,} sets)", ("what", "how many"), rows)
    rows = [
        ("deliveries, the straight ones too", f"{found.deliveries:,}"),
        *(
            (f"batches of writing process {number}", f"{batches:,}")
            for number, batches in enumerate(found.by_process.values(), start=1)
        ),
        ("commissions settled on the way", f"{found.settled:,}"),
        ("commissions whose place may differ", f"{found.loose:,}"),
        ("merchants told each set in another order", str(SHUFFLED)),
    ]
    show.table("On PostgreSQL", ("what", "how many"), rows)
