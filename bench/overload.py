"""Three times what the service can take, by a schedule that waits for nobody: who is let in must not notice much."""

import contextlib
import itertools
import multiprocessing
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import psutil
from sqlalchemy import make_url

from bench import arrivals, client, show
from bench.arrivals import NO_ANSWER, TIMED_OUT
from bench.orders import a_shop, an_order
from bench.serve import HOST, Database, Server, database, new_secret_key, operator, service
from bench.shop import Api, Shop
from service.infra.settings import Settings

SECONDS = 36
"""Seconds of overload in all, unless N= says otherwise."""
ROUNDS = 6
"""Parts the overload is sent in, each with its own measure of capacity and of half of it: so that what else the
machine does meets all of them."""
TIMES = 3.0
HALF = 0.5
CAPACITY_AT_ONCE = 128
"""Connections of the closed loop that measures capacity."""
CONNECTIONS = 1000
"""Connections the open loop begins with; it opens more when it needs them."""
SLICE_S = 3.0
"""Percentiles are taken over so many seconds each, and the median of those is told: one hiccup is not the rule."""

P99_RATIO_MAX = 5.0
GOODPUT_MIN = 0.85
RSS_GROWTH_MAX = 0.10
QUIET = 0.7
"""What part of their core server and database have to get at capacity; the disk takes the rest, or others do."""

ACCEPTED = 200
REFUSALS = (429, 503)

NAMES = ("capacity", "half", "triple", "after")


@dataclass(slots=True)
class Phase:
    """All parts of one kind: rates, what came, and the memory of the server before and after each."""

    name: str
    offered: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    slices: list[list[float]] = field(default_factory=list)
    """Latencies of accepted requests in seconds, slice by slice."""
    refused: list[float] = field(default_factory=list)
    """Latencies of refusals in seconds."""
    statuses: Counter[int] = field(default_factory=Counter)
    without_hint: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)
    cpu_s: float = 0.0
    """CPU time of server and database together."""
    wall_s: float = 0.0

    def p_ms(self, percent: float) -> float:
        """The median over slices of a percentile of what was accepted."""
        return statistics.median(_percentile_ms(each, percent) for each in self.slices) if self.slices else 0.0


@dataclass(slots=True)
class Bench:
    """A running service with everything that is sent to it."""

    shop: Shop
    postgres: Database
    server: Server
    sender: ProcessPoolExecutor
    draw: random.Random
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    accepted: set[int] = field(default_factory=set)
    """Orders that were answered 200."""
    refused: set[int] = field(default_factory=set)

    @contextlib.contextmanager
    def watched(self, phase: Phase) -> Iterator[None]:
        """Note what the block costs the server and its database."""
        server = psutil.Process(self.server.process.pid)
        rss, cpu_s, began = server.memory_info().rss, self._cpu_s(), time.perf_counter()
        yield
        phase.wall_s += time.perf_counter() - began
        phase.memory.append((rss, server.memory_info().rss))
        phase.cpu_s += self._cpu_s() - cpu_s

    def _cpu_s(self) -> float:
        return self.server.cpu_seconds() + self.postgres.cpu_seconds()

    def orders(self, count: int) -> tuple[list[int], list[bytes]]:
        numbers = list(itertools.islice(self.numbers, count))
        return numbers, self.shop.signed([an_order(self.shop, number, self.draw) for number in numbers])

    def closed(self, phase: Phase, *, seconds: float, guess: float) -> float:
        """Measure what is answered in a closed loop. guess: orders a second, to choose how many. Returns the rate."""
        numbers, requests = self.orders(round(seconds * guess))
        with self.watched(phase):
            load = self.sender.submit(
                client.run, HOST, self.server.port, requests, connections=CAPACITY_AT_ONCE, expect=ACCEPTED
            ).result()
        phase.offered.append(load.per_second)
        phase.accepted.append((len(load.latencies_s) - load.failures) / load.seconds)
        phase.slices.append(load.latencies_s)
        phase.statuses.update({ACCEPTED: len(load.latencies_s) - load.failures})
        if load.failures:
            # Which of them were refused is not told; none may be, so the run is lost anyway.
            phase.statuses.update({load.failed[0][0]: load.failures})
        else:
            self.accepted.update(numbers)
        return load.per_second

    def opened(self, phase: Phase, *, seconds: float, per_second: float) -> None:
        """Offer so many orders a second, whatever becomes of them."""
        count = round(seconds * per_second)
        numbers, requests = self.orders(count)
        due = arrivals.schedule(count, per_second=per_second, seed=self.draw.randrange(2**32))
        with self.watched(phase):
            came = self.sender.submit(
                arrivals.run, HOST, self.server.port, requests, due, connections=CONNECTIONS
            ).result()
        good = [each for each in came if each.status == ACCEPTED]
        bad = [each for each in came if each.status in REFUSALS]
        phase.offered.append(count / due[-1])
        phase.accepted.append(len(good) / due[-1])
        by_slice: dict[int, list[float]] = {}
        for each in good:
            by_slice.setdefault(int(each.due_s // SLICE_S), []).append(each.latency_s)
        # The last slice may hold too little to say anything.
        phase.slices += [sorted(found) for found in by_slice.values() if len(found) >= 100]
        phase.refused += [each.latency_s for each in bad]
        phase.without_hint += sum(not each.hint for each in bad)
        phase.statuses.update(each.status for each in came)
        self.accepted.update(numbers[each.place] for each in good)
        self.refused.update(numbers[each.place] for each in bad)


def bench(n: int | None, floor: float | None) -> bool:
    """Measure capacity, offer half of it, three times it, half again, and print all. Returns whether it held."""
    least = GOODPUT_MIN if floor is None else floor
    part_s = max(1.0, (n or SECONDS) / ROUNDS)
    seed = random.SystemRandom().randrange(2**32)
    bound = os.environ.get("KOC_ORDERS_AT_ONCE") or Settings.model_fields["orders_at_once"].default
    show.say(f"Seed {seed}. {_pinning()} At most {bound} orders wait for their answer (KOC_ORDERS_AT_ONCE).")
    phases = {name: Phase(name) for name in NAMES}
    with _running(seed) as run:
        guess = run.closed(Phase("warm"), seconds=2, guess=500)
        guess = run.closed(Phase("warm"), seconds=4, guess=guess)
        run.opened(Phase("warm"), seconds=4, per_second=TIMES * guess)
        with show.progress("Rounds", ROUNDS) as tell:
            for turn in range(ROUNDS):
                guess = run.closed(phases["capacity"], seconds=part_s / 2, guess=guess)
                capacity = statistics.median(phases["capacity"].accepted)
                run.opened(phases["half"], seconds=part_s, per_second=HALF * capacity)
                run.opened(phases["triple"], seconds=part_s, per_second=TIMES * capacity)
                # What was let in at the end is answered by now: the open loop waits for it.
                run.opened(phases["after"], seconds=part_s / 2, per_second=HALF * capacity)
                tell(turn + 1)
        lost, kept_though_refused = _compare(run)
    _table(phases)
    _costs(phases)
    return _verdict(phases, lost=lost, kept_though_refused=kept_though_refused, least=least)


@contextlib.contextmanager
def _running(seed: int) -> Iterator[Bench]:
    """Start PostgreSQL and one service on the first core, and the sender on the others."""
    ours, theirs = _cores()
    spawn = multiprocessing.get_context("spawn")
    secret_key = new_secret_key()
    with contextlib.ExitStack() as stack:
        with _on(theirs):
            postgres = stack.enter_context(database())
            server = stack.enter_context(
                service(postgres.url, secret_key=secret_key, log=postgres.folder / "server.log")
            )
        shop = a_shop(Api(server.url, operator(postgres.url, secret_key=secret_key)))
        with _on(ours):
            sender = stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn))
            sender.submit(os.getpid).result()
        yield Bench(shop, postgres, server, sender, random.Random(seed))


def _cores() -> tuple[set[int], set[int]]:
    """(cores of the sender, core of the service and its database); the same where there is but one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return set(others) or {first}, {first}


def _pinning() -> str:
    ours, theirs = _cores()
    if ours == theirs:
        return "One core only: the sender shares it with the service, which spoils the ratios."
    return (
        f"Service and database have core {min(theirs)}, the sender what is left ({', '.join(map(str, sorted(ours)))})."
    )


@contextlib.contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Start processes within the block on these cores; they and their children stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _compare(run: Bench) -> tuple[int, int]:
    """(orders answered 200 that are not in the database, orders refused that are)."""
    with run.postgres.connect(make_url(run.postgres.url).database or "") as connection:
        stored = {
            int(str(name).removeprefix("order-"))
            for (name,) in connection.execute(
                "SELECT external_id FROM orders JOIN assessment USING (merchant_id) WHERE order_id = orders.id"
            )
        }
    return len(run.accepted - stored), len(run.refused & stored)


def _percentile_ms(sorted_s: Sequence[float], percent: float) -> float:
    last = len(sorted_s) - 1
    return 1000 * sorted_s[min(last, round(last * percent / 100))] if sorted_s else 0.0


def _table(phases: dict[str, Phase]) -> None:
    rows = []
    for phase in phases.values():
        refused = sorted(phase.refused)
        rows.append(
            (
                phase.name,
                f"{statistics.median(phase.offered):,.0f}",
                f"{statistics.median(phase.accepted):,.0f}",
                f"{phase.p_ms(50):.0f}",
                f"{phase.p_ms(99):.0f}",
                f"{len(refused):,}",
                f"{_percentile_ms(refused, 99):.0f}",
                str(phase.statuses[NO_ANSWER] + phase.statuses[TIMED_OUT]),
                f"{phase.memory[0][0] / 2**20:.0f}–{phase.memory[-1][1] / 2**20:.0f}",
            )
        )
    columns = ("phase", "offer/s", "taken/s", "p50", "p99", "refused", "p99", "lost", "MB")
    show.table("Signed orders to one process; latencies in ms from when each was due", columns, rows)


def _costs(phases: dict[str, Phase]) -> None:
    """Say what CPU time an order and a refusal take; unlike rates that hardly depends on what else the machine does."""
    capacity, over = phases["capacity"], phases["triple"]
    order_s = capacity.cpu_s / max(1, capacity.statuses[ACCEPTED])
    refusal_s = (over.cpu_s - order_s * over.statuses[ACCEPTED]) / max(1, len(over.refused))
    show.say(f"CPU of server and database: {1e6 * order_s:,.0f} µs an order, {1e6 * refusal_s:,.0f} µs a refusal.")
    got = capacity.cpu_s / capacity.wall_s
    others = "" if got > QUIET else " The machine did other things too, so the figures say little."
    show.say(f"They got {got:.0%} of their core while capacity was measured.{others}")


def _verdict(phases: dict[str, Phase], *, lost: int, kept_though_refused: int, least: float) -> bool:
    capacity, half, over, after = (phases[name] for name in NAMES)
    capacity_s = statistics.median(capacity.accepted)
    # Each round against its own measure, for what the machine gives may change meanwhile.
    goodput = statistics.median(taken / could for taken, could in zip(over.accepted, capacity.accepted, strict=True))
    ratio = over.p_ms(99) / half.p_ms(99)
    begin, end = over.memory[0][0], over.memory[-1][1]
    growth = (end - begin) / begin
    statuses = sum((phase.statuses for phase in phases.values()), Counter())
    without_hint = sum(phase.without_hint for phase in phases.values())
    wrong = {
        f"p99 is {ratio:.1f} times that at half capacity": ratio > P99_RATIO_MAX,
        f"goodput is {goodput:.2f} of capacity": goodput < least,
        f"{without_hint} refusals without Retry-After": without_hint > 0,
        f"{statuses[TIMED_OUT]} time-outs": statuses[TIMED_OUT] > 0,
        f"{statuses[NO_ANSWER]} connections failed": statuses[NO_ANSWER] > 0,
        f"answers that are neither 200 nor a refusal: {dict(statuses)}": not set(statuses)
        <= {ACCEPTED, TIMED_OUT, NO_ANSWER, *REFUSALS},
        f"memory grew by {growth:.0%}": growth > RSS_GROWTH_MAX,
        f"{lost} accepted orders are not in the database": lost > 0,
        f"{kept_though_refused} refused orders are in the database": kept_though_refused > 0,
        "a closed loop was refused": set(capacity.statuses) != {ACCEPTED},
        "nothing was refused: this was no overload": not over.refused,
        f"afterwards p99 was {after.p_ms(99):.0f} ms": after.p_ms(99) > P99_RATIO_MAX * half.p_ms(99),
    }
    for sentence in (sentence for sentence, is_so in wrong.items() if is_so):
        show.say(f"Wrong: {sentence}.")
    show.result(
        "overload",
        capacity_s=round(capacity_s),
        goodput=f"{goodput:.2f}",
        p99_ratio=f"{ratio:.1f}",
        p99_half_ms=f"{half.p_ms(99):.0f}",
        p99_ms=f"{over.p_ms(99):.0f}",
        refused=len(over.refused),
        no_retry_after=without_hint,
        timeouts=statuses[TIMED_OUT],
        errors=statuses[NO_ANSWER],
        rss_growth=f"{growth:.3f}",
        lost=lost,
    )
    return not any(wrong.values())
