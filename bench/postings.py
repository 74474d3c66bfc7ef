"""What a posting costs among a million and among ten thousand: to book, to chain, to verify."""

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import psutil
from sqlalchemy import Engine

from bench import show
from bench.serve import Database, database
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.infra.db import fetch, make_engine, read_session, run_unit
from service.infra.ids import new_id
from service.ledger.audit import take_snapshot
from service.ledger.chain import chain
from service.ledger.post import post
from service.ledger.verify import verify

POSTINGS = 1_000_000
"""Unless N= says otherwise."""
LEAST = 40_000
SMALL = 10_000
SIZES = (100_000,)
"""Where costs are compared with those of SMALL, besides at the end."""
RATIO_CEILING = 1.5
"""How much more a posting may cost than in the small ledger. It is the same work; the rest is noise."""

PER_UNIT = 128
"""Postings booked in one unit of work, as many as a busy intake brings together."""
PER_CHUNK = 10 * PER_UNIT
CHUNKS = 12
"""Chunks measured of each ledger at each size. Short and many: whatever else the machine does meets both alike."""
VERIFIED = 4
"""How many times the whole chain of each ledger is verified at each size."""
TURNS = 5
"""How many times booking is measured alone, and beside one who chains."""
PER_DAY = 20_000
PAYEES = 2_000
BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds for each posting."""

    python: float
    postgres: float

    @property
    def together(self) -> float:
        return self.python + self.postgres


@dataclass
class Ledger:
    """One merchant's ledger that grows. It books what can happen: payees earn, and a part of it is settled."""

    postgres: Database
    engine: Engine
    draw: random.Random
    merchant_id: UUID = field(default_factory=new_id)
    payees: list[UUID] = field(default_factory=lambda: [new_id() for _ in range(PAYEES)])
    pending: dict[UUID, int] = field(default_factory=dict)
    booked: int = 0

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(days=self.booked // PER_DAY)

    def book(self, number: int) -> None:
        """Book so many postings, PER_UNIT in each unit of work."""
        for begin in range(0, number, PER_UNIT):
            postings = [self._posting() for _ in range(min(PER_UNIT, number - begin))]
            when = {self.merchant_id: MerchantTime(self.now, "UTC")}
            run_unit(self.engine, partial(post, postings=postings, when=when))
            self.booked += len(postings)

    def chain(self) -> None:
        """Cover all that was booked."""
        while run_unit(self.engine, partial(chain, merchant_id=self.merchant_id, now=self.now)).blocks:
            pass

    def verify(self) -> None:
        """Compute the whole chain anew. Raises AssertionError when it is not right."""
        with read_session(self.engine) as session:
            take_snapshot(session)
            findings = verify(session, self.merchant_id)
        assert not findings, findings[:3]

    def measured(self, work: Callable[[], None], postings: int) -> Cost:
        """Do the work and return what it cost for each of so many postings."""
        before = time.process_time(), self.postgres.cpu_seconds()
        work()
        after = time.process_time(), self.postgres.cpu_seconds()
        python, postgres = (1e6 * (end - begin) / postings for begin, end in zip(before, after, strict=True))
        return Cost(python, postgres)

    def _posting(self) -> Posting:
        payee = self.draw.choice(self.payees)
        pending = Account(self.merchant_id, payee, AccountKind.PENDING, "USD")
        earned = self.pending.get(payee, 0)
        if earned and self.draw.random() < 0.3:
            self.pending[payee] = 0
            payable = Account(self.merchant_id, payee, AccountKind.PAYABLE, "USD")
            return Posting(new_id(), f"settle/{new_id()}", 0, pending, payable, earned)
        amount = self.draw.randint(1, 10_000)
        self.pending[payee] = earned + amount
        expense = Account(self.merchant_id, self.merchant_id, AccountKind.COMMISSION_EXPENSE, "USD")
        return Posting(new_id(), f"order/{new_id()}/assessment/1", 0, expense, pending, amount)


def bench(n: int | None, ceiling: float | None) -> bool:
    """Grow a ledger to n postings, measure on the way, print it. Returns whether the costs stayed flat."""
    total, most = max(n or POSTINGS, LEAST), RATIO_CEILING if ceiling is None else ceiling
    costs: dict[int, dict[str, tuple[Cost, Cost]]] = {}
    began = time.monotonic()
    with database() as postgres, contextlib.ExitStack() as stack:
        # Never touched again: each comparison copies it, so that the small ledger is as small each time.
        with _engine(postgres.url) as engine:
            seed = Ledger(postgres, engine, random.Random(1))
            _grow(seed, SMALL, lambda _: None)
        large = replace(seed, engine=stack.enter_context(_engine(postgres.clone("large"))), pending={**seed.pending})
        with show.progress("Postings", total) as tell:
            for size in (*(size for size in SIZES if size < total), total):
                _grow(large, size - CHUNKS * PER_CHUNK, tell)
                with _engine(postgres.clone(f"small_{size}")) as engine:
                    costs[size] = _compare(large, replace(seed, engine=engine, pending={**seed.pending}))
                tell(large.booked)
        with read_session(large.engine) as session:
            [found] = fetch(session, "SELECT count(*) AS number FROM posting")
        beside = _beside(large)
    assert found.number == total
    ratios = {f"{step}_ratio": cost.together / small.together for step, (small, cost) in costs[total].items()}
    ratios["beside_ratio"] = beside
    _table(costs)
    show.say(f"Booking while somebody chains without a pause costs {beside:.2f} times as much CPU as booking alone.")
    show.result(
        "postings",
        n=total,
        **{name: f"{ratio:.2f}" for name, ratio in ratios.items()},
        **{f"{step}_us": f"{cost.together:.1f}" for step, (_, cost) in costs[total].items()},
        seconds=round(time.monotonic() - began),
    )
    if max(ratios.values()) > most:
        show.say(f"A posting costs more than {most:g} times what it costs in a small ledger.")
    return max(ratios.values()) <= most


@contextlib.contextmanager
def _engine(url: str) -> Iterator[Engine]:
    # One connection, so that its server process is the one that books.
    engine = make_engine(url, pool_size=1, application_name="koc bench")
    try:
        yield engine
    finally:
        engine.dispose()


def _grow(ledger: Ledger, size: int, tell: Callable[[int], None]) -> None:
    """Book and chain, as intake and the worker do all day, until the ledger has this size."""
    while ledger.booked < size:
        ledger.book(min(PER_CHUNK, size - ledger.booked))
        ledger.chain()
        tell(ledger.booked)


def _compare(large: Ledger, small: Ledger) -> dict[str, tuple[Cost, Cost]]:
    """Measure both by turns, so that both meet the machine as it is. Returns by step what the small and the large cost."""
    chunks: dict[str, tuple[list[Cost], list[Cost]]] = {step: ([], []) for step in ("post", "chain", "verify")}
    for _ in range(CHUNKS):
        for side, ledger in enumerate((small, large)):
            chunks["post"][side].append(ledger.measured(partial(ledger.book, PER_CHUNK), PER_CHUNK))
            chunks["chain"][side].append(ledger.measured(ledger.chain, PER_CHUNK))
    for _ in range(VERIFIED):
        for side, ledger in enumerate((small, large)):
            chunks["verify"][side].append(ledger.measured(ledger.verify, ledger.booked))
    return {step: (_mean(small_costs), _mean(large_costs)) for step, (small_costs, large_costs) in chunks.items()}


def _mean(costs: list[Cost]) -> Cost:
    # No chunk may be left out: one takes less than the smallest step of the server's clock, only the sum is right.
    return Cost(statistics.fmean(each.python for each in costs), statistics.fmean(each.postgres for each in costs))


def _beside(ledger: Ledger) -> float:
    """How many times the CPU of booking alone it takes to book while another chains all the time, by turns."""
    with read_session(ledger.engine) as session:
        server = psutil.Process(fetch(session, "SELECT pg_backend_pid() AS pid")[0].pid)
    alone: list[float] = []
    together: list[float] = []
    for _ in range(TURNS):
        alone.append(_booking_cpu(ledger, server))
        with _chaining(ledger):
            together.append(_booking_cpu(ledger, server))
    return statistics.median(together) / statistics.median(alone)


def _booking_cpu(ledger: Ledger, server: psutil.Process) -> float:
    """CPU seconds that this thread and its server process, and nobody else, take to book a few chunks."""
    before = time.thread_time(), sum(server.cpu_times()[:2])
    ledger.book(4 * PER_CHUNK)
    after = time.thread_time(), sum(server.cpu_times()[:2])
    return after[0] - before[0] + after[1] - before[1]


@contextlib.contextmanager
def _chaining(ledger: Ledger) -> Iterator[None]:
    """Chain in another thread, over a connection of its own, for as long as the block lasts."""
    stop = threading.Event()
    engine = make_engine(ledger.postgres.url, pool_size=1, application_name="koc bench chain")

    def work() -> None:
        while not stop.wait(0.01):
            run_unit(engine, partial(chain, merchant_id=ledger.merchant_id, now=ledger.now))

    with ThreadPoolExecutor(1) as thread:
        chaining = thread.submit(work)
        try:
            yield
        finally:
            stop.set()
            wait([chaining])
            engine.dispose()
    # Raises what it failed with.
    chaining.result()


def _table(costs: dict[int, dict[str, tuple[Cost, Cost]]]) -> None:
    rows = [
        (
            step,
            f"{size:,}",
            f"{cost.python:.1f}",
            f"{cost.postgres:.1f}",
            f"{cost.together:.1f}",
            f"{small.together:.1f}",
            f"{cost.together / small.together:.2f}",
        )
        for step in next(iter(costs.values()))
        for size, (small, cost) in ((size, by_step[step]) for size, by_step in costs.items())
    ]
    columns = ("step", "postings", "Python", "PostgreSQL", "together", f"of {SMALL:,}", "ratio")
    show.table("CPU µs for each posting, and in a small ledger measured by turns with it", columns, rows)
