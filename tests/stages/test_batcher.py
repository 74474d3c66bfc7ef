"""Group commit with threads that can be held: each test decides what arrives while a batch runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.errors import InvariantBroken, Unavailable
from service.infra.batcher import Batcher, NotRunning, QueueFull
from service.infra.db import DatabaseAway, execute, fetch, make_engine, read_session, run_unit, unit_of_work


class Desk:
    """Work that doubles numbers, refuses the poison, and can be held at the gate while more callers arrive."""

    def __init__(self, *, poison: frozenset[int] = frozenset(), error: type[BaseException] = ValueError) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.parked: list[int] = []
        self._poison = poison
        self._error = error

    def work(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.release()
        assert self.gate.wait(10)
        if self._poison & set(items):
            raise self._error("poison")
        return [item * 2 for item in items]

    def park(self, item: int, error: Exception) -> int:
        self.parked.append(item)
        return -item


class Tally:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.refusals = 0
        self.parkings = 0
        self.restarts = 0

    def batch(self, name: str, *, size: int, seconds: float, waiting: int) -> None:
        assert seconds >= 0
        self.sizes.append(size)

    def refused(self, name: str) -> None:
        self.refusals += 1

    def parked(self, name: str, error: Exception) -> None:
        self.parkings += 1

    def restarted(self, name: str) -> None:
        self.restarts += 1


@asynccontextmanager
async def running(batcher: Batcher[int, int]) -> AsyncIterator[Batcher[int, int]]:
    batcher.start()
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.stop)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is awaited happens in another thread, which knows no event
            await asyncio.sleep(0.001)


async def hold_one(desk: Desk, batcher: Batcher[int, int], item: int = 0) -> asyncio.Task[int]:
    """Submit an item and return once its batch stands at the closed gate."""
    desk.gate.clear()
    first = asyncio.create_task(batcher.submit(item))
    await asyncio.to_thread(desk.entered.acquire)
    return first


def test_what_arrives_while_a_batch_runs_is_the_next_batch_in_the_order_it_came() -> None:
    desk = Desk()

    async def scene() -> list[int]:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            first = await hold_one(desk, batcher)
            rest = [asyncio.create_task(batcher.submit(item)) for item in range(1, 101)]
            await until(lambda: batcher.waiting == 100)
            desk.gate.set()
            return await asyncio.gather(first, *rest)

    answers = asyncio.run(scene())

    assert answers == [item * 2 for item in range(101)]
    assert desk.batches == [[0], list(range(1, 101))]


def test_a_lone_item_is_a_batch_of_its_own() -> None:
    desk = Desk()

    async def scene() -> None:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            for item in range(50):
                await batcher.submit(item)

    asyncio.run(scene())

    assert desk.batches == [[item] for item in range(50)]


def test_a_batch_is_never_larger_than_its_limit() -> None:
    desk = Desk()

    async def scene() -> None:
        async with running(Batcher("numbers", desk.work, desk.park, batch_max=4)) as batcher:
            first = await hold_one(desk, batcher)
            rest = [asyncio.create_task(batcher.submit(item)) for item in range(10)]
            await until(lambda: batcher.waiting == 10)
            desk.gate.set()
            await asyncio.gather(first, *rest)

    asyncio.run(scene())

    assert [len(batch) for batch in desk.batches] == [1, 4, 4, 2]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    desk, tally = Desk(), Tally()

    async def scene() -> tuple[QueueFull, list[int]]:
        async with running(Batcher("numbers", desk.work, desk.park, queue_max=4, observer=tally)) as batcher:
            first = await hold_one(desk, batcher)
            rest = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
            await until(lambda: batcher.waiting == 3)
            with pytest.raises(QueueFull) as refusal:
                await batcher.submit(4)
            desk.gate.set()
            return refusal.value, await asyncio.gather(first, *rest)

    refusal, answers = asyncio.run(scene())

    assert refusal.retry_after_s >= 1
    assert answers == [0, 2, 4, 6]
    assert tally.refusals == 1


def test_who_would_be_refused_can_know_before_doing_anything() -> None:
    desk, tally = Desk(), Tally()
    batcher = Batcher("numbers", desk.work, desk.park, queue_max=2, observer=tally)

    async def scene() -> None:
        with pytest.raises(NotRunning):
            batcher.check()
        async with running(batcher):
            batcher.check()
            first = await hold_one(desk, batcher)
            batcher.check()
            second = asyncio.create_task(batcher.submit(1))
            await until(lambda: batcher.waiting == 1)
            with pytest.raises(QueueFull):
                batcher.check()
            desk.gate.set()
            await asyncio.gather(first, second)
            batcher.check()

    asyncio.run(scene())

    assert desk.batches == [[0], [1]]
    assert tally.refusals == 1


def test_as_many_callers_as_are_let_in_are_never_refused_when_each_waits_for_its_answer() -> None:
    tally = Tally()
    batcher: Batcher[int, int] = Batcher("numbers", list, lambda item, _: item, queue_max=32, observer=tally)

    async def caller(number: int) -> int:
        return sum([await batcher.submit(number) for _ in range(200)])

    async def scene() -> list[int]:
        async with running(batcher):
            return await asyncio.gather(*[caller(number) for number in range(32)])

    assert asyncio.run(scene()) == [200 * number for number in range(32)]
    assert tally.refusals == 0


@pytest.mark.parametrize(("queue_max", "batch_max"), [(8, 256), (8, 3), (1, 1)])
def test_however_many_are_refused_who_is_let_in_waits_for_no_more_than_the_others_let_in(
    queue_max: int, batch_max: int
) -> None:
    # The clock is the number of items done: so it says the same on every machine.
    tally, done, refusals = Tally(), 0, 0
    waits: list[int] = []

    def work(arrivals: Sequence[int]) -> list[int]:
        nonlocal done
        done += len(arrivals)
        waits.extend(done - came for came in arrivals)
        return list(arrivals)

    batcher: Batcher[int, int] = Batcher(
        "numbers", work, lambda item, _: item, batch_max=batch_max, queue_max=queue_max, observer=tally
    )

    async def caller() -> None:
        nonlocal refusals
        try:
            await batcher.submit(done)
        except QueueFull:
            refusals += 1

    async def scene() -> None:
        async with running(batcher):
            for _ in range(50):
                await asyncio.gather(*[caller() for _ in range(3 * queue_max + 5)])

    asyncio.run(scene())

    assert len(waits) + refusals == 50 * (3 * queue_max + 5)
    assert tally.refusals == refusals > 0
    # What was let in before it, and its own unit of work.
    assert max(waits) <= queue_max + min(batch_max, queue_max)


@pytest.mark.parametrize("poison", [{0}, {7}, {3, 4}, {0, 15}, set(range(16))])
def test_a_poisonous_item_parks_alone_and_the_others_are_done_in_order(poison: set[int]) -> None:
    desk, tally = Desk(poison=frozenset(poison)), Tally()

    async def scene() -> list[int]:
        async with running(Batcher("numbers", desk.work, desk.park, observer=tally)) as batcher:
            first = await hold_one(desk, batcher, item=100)
            rest = [asyncio.create_task(batcher.submit(item)) for item in range(16)]
            await until(lambda: batcher.waiting == 16)
            desk.gate.set()
            await first
            return await asyncio.gather(*rest)

    answers = asyncio.run(scene())

    assert answers == [-item if item in poison else item * 2 for item in range(16)]
    assert desk.parked == sorted(poison)
    assert tally.parkings == len(poison)
    done = [item for batch in desk.batches[1:] if not poison & set(batch) for item in batch]
    assert done == sorted(set(range(16)) - poison)


def test_broken_books_park_like_any_poison() -> None:
    desk = Desk(poison=frozenset({1}), error=InvariantBroken)

    async def scene() -> int:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            return await batcher.submit(1)

    assert asyncio.run(scene()) == -1


def test_work_that_loses_results_is_a_broken_invariant_not_a_shifted_answer() -> None:
    desk = Desk()

    async def scene() -> int:
        async with running(Batcher("numbers", lambda _: [], desk.park)) as batcher:
            return await batcher.submit(1)

    assert asyncio.run(scene()) == -1


def test_with_the_database_away_everybody_is_told_and_nothing_is_parked_or_halved() -> None:
    desk = Desk(poison=frozenset({1, 2, 3}), error=DatabaseAway)

    async def scene() -> list[int | BaseException]:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            first = await hold_one(desk, batcher)
            rest = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
            await until(lambda: batcher.waiting == 3)
            desk.gate.set()
            return await asyncio.gather(first, *rest, return_exceptions=True)

    answers = asyncio.run(scene())

    assert answers[0] == 0
    assert all(isinstance(answer, DatabaseAway) for answer in answers[1:])
    assert desk.parked == []
    assert desk.batches == [[0], [1, 2, 3]]


@pytest.mark.parametrize(("error", "kind"), [(DatabaseAway, Unavailable), (KeyError, KeyError)])
def test_an_item_that_cannot_even_be_parked_fails_alone(error: type[Exception], kind: type[Exception]) -> None:
    desk = Desk(poison=frozenset({1}))

    def park(item: int, _: Exception) -> int:
        raise error(str(item))

    async def scene() -> list[int | BaseException]:
        async with running(Batcher("numbers", desk.work, park)) as batcher:
            return list(await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True))

    first, second = asyncio.run(scene())

    assert isinstance(first, kind)
    assert second == 4


def test_a_crash_of_the_thread_is_survived_counted_and_told_to_whom_it_hit() -> None:
    desk, tally = Desk(poison=frozenset({13}), error=SystemExit), Tally()

    async def scene() -> int:
        async with running(Batcher("numbers", desk.work, desk.park, observer=tally)) as batcher:
            with pytest.raises(NotRunning):
                await batcher.submit(13)
            assert batcher.running
            return await batcher.submit(21)

    assert asyncio.run(scene()) == 42
    assert tally.restarts == 1
    assert desk.parked == []


def test_stopping_refuses_new_items_and_does_those_that_were_accepted() -> None:
    desk = Desk()

    async def scene() -> list[int]:
        batcher = Batcher("numbers", desk.work, desk.park, batch_max=2)
        batcher.start()
        first = await hold_one(desk, batcher)
        rest = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await until(lambda: batcher.waiting == 3)
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await until(lambda: not batcher.running)
        with pytest.raises(NotRunning):
            await batcher.submit(4)
        desk.gate.set()
        await stopping
        return await asyncio.gather(first, *rest)

    assert asyncio.run(scene()) == [0, 2, 4, 6]


def test_stopping_has_an_end_even_when_the_work_has_none() -> None:
    desk = Desk()

    async def scene() -> int:
        batcher = Batcher("numbers", desk.work, desk.park)
        batcher.start()
        first = await hold_one(desk, batcher)
        late = asyncio.create_task(batcher.submit(1))
        await until(lambda: batcher.waiting == 1)
        await asyncio.to_thread(batcher.stop, patience_s=0.05)
        with pytest.raises(NotRunning):
            await late
        desk.gate.set()
        return await first

    assert asyncio.run(scene()) == 0


def test_before_its_start_and_after_its_stop_a_batcher_takes_nothing() -> None:
    desk = Desk()
    batcher = Batcher("numbers", desk.work, desk.park)

    async def scene() -> None:
        with pytest.raises(NotRunning):
            await batcher.submit(1)
        batcher.start()
        await asyncio.to_thread(batcher.stop)
        with pytest.raises(NotRunning):
            await batcher.submit(2)

    asyncio.run(scene())

    assert desk.batches == []


def test_a_caller_who_leaves_harms_nobody_and_its_item_is_done() -> None:
    desk = Desk()

    async def scene() -> int:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            first = await hold_one(desk, batcher)
            leaver, stayer = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
            await until(lambda: batcher.waiting == 2)
            leaver.cancel()
            first.cancel()
            desk.gate.set()
            return await stayer

    assert asyncio.run(scene()) == 4
    assert desk.batches == [[0], [1, 2]]


def test_a_batch_wakes_the_event_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    wakings: list[object] = []

    async def scene() -> int:
        async with running(Batcher("numbers", desk.work, desk.park)) as batcher:
            first = await hold_one(desk, batcher)
            rest = [asyncio.create_task(batcher.submit(item)) for item in range(200)]
            await until(lambda: batcher.waiting == 200)
            loop = asyncio.get_running_loop()
            wake = loop.call_soon_threadsafe

            def counted(callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
                wakings.append(callback)
                return wake(callback, *args, context=context)

            monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
            desk.gate.set()
            await asyncio.gather(first, *rest)
            return len(wakings)

    assert asyncio.run(scene()) == 2


def test_ten_thousand_callers_at_once_each_get_their_own_answer() -> None:
    batcher: Batcher[int, int] = Batcher("numbers", list, lambda item, _: item, queue_max=20_000)

    async def scene() -> list[int]:
        async with running(batcher):
            return await asyncio.gather(*[batcher.submit(item) for item in range(10_000)])

    assert asyncio.run(scene()) == list(range(10_000))


def test_each_answer_comes_after_its_commit(engine: Engine) -> None:
    def write(session: Session, numbers: Sequence[int]) -> list[int]:
        execute(session, "INSERT INTO noted SELECT unnest(CAST(:numbers AS bigint[]))", {"numbers": list(numbers)})
        return list(numbers)

    def work(numbers: Sequence[int]) -> list[int]:
        return run_unit(engine, lambda session: write(session, numbers))

    def seen(number: int) -> int:
        with read_session(engine) as session:
            return len(fetch(session, "SELECT 1 FROM noted WHERE n = :n", {"n": number}))

    async def one(batcher: Batcher[int, int], number: int) -> int:
        await batcher.submit(number)
        return await asyncio.to_thread(seen, number)

    async def scene() -> list[int]:
        async with running(Batcher("numbers", work, lambda number, _: -number)) as batcher:
            return await asyncio.gather(*[one(batcher, number) for number in range(64)])

    with unit_of_work(engine) as session:
        execute(session, "CREATE TABLE noted (n bigint PRIMARY KEY)")
    try:
        assert asyncio.run(scene()) == [1] * 64
    finally:
        with unit_of_work(engine) as session:
            execute(session, "DROP TABLE noted")


def test_a_server_that_is_not_there_makes_everybody_unavailable() -> None:
    engine = make_engine("postgresql+psycopg://koc:x@127.0.0.1:1/koc")
    parked: list[int] = []

    def park(item: int, _: Exception) -> int:
        parked.append(item)
        return item

    def work(items: Sequence[int]) -> list[int]:
        return run_unit(
            engine, lambda session: [row.n for row in fetch(session, "SELECT 1 AS n")] * len(items), tries=2
        )

    async def scene() -> list[int | BaseException]:
        async with running(Batcher("numbers", work, park)) as batcher:
            return await asyncio.gather(*[batcher.submit(item) for item in range(3)], return_exceptions=True)

    answers = asyncio.run(scene())

    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert parked == []
