"""Many at once: threads behind one barrier, or processes of their own behind another."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier as ProcessBarrier
from threading import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from service.infra.db import make_engine, read_session
from service.ledger.audit import check
from service.reports.recheck import recheck
from tests.support.forked import FORKED

START_S = 120
"""Seconds in which all who race must have come to the start; a busy machine is slow to make processes."""


def together(*calls: Callable[[], Any], refused: type[Exception] | tuple[type[Exception], ...] = ()) -> list[Any]:
    """Begin all calls at one moment, each in a thread of its own; return their answers in order.

    refused: errors that are an answer too, and are returned. All others are raised.
    """
    start = Barrier(len(calls), timeout=START_S)

    def one(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except refused as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(one, calls))


def won(answers: Sequence[Any]) -> list[Any]:
    """The answers that are no refusals."""
    return [answer for answer in answers if not isinstance(answer, Exception)]


def wrong_with(engine: Engine, merchant_id: UUID) -> list[Any]:
    """Everything check-books finds, with every order computed anew; empty when the books are right."""
    with read_session(engine) as session:
        findings: list[Any] = [*check(session, merchant_id)]
    with read_session(engine) as session:
        return [*findings, *recheck(session, merchant_id, sample=None)]


Task = Callable[[Engine, Any], Any]
"""What one process does on an engine of its own, with its share of the work. Found by its name, so it is no closure."""


class Processes:
    """Processes of our own, kept from race to race because each takes its time to start."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self.count = count
        self._pool = pool

    def race(self, database_url: str, task: Task, shares: Sequence[Any]) -> list[Any]:
        """Let each process do the task with its share, all beginning at one moment; return their answers in order."""
        assert len(shares) == self.count
        # As many as there are processes: each waits at the start with one of them in hand.
        return list(self._pool.map(_run, [(database_url, task, share) for share in shares]))


@contextmanager
def processes(count: int) -> Iterator[Processes]:
    """Yield so many processes; they end with the block."""
    with ProcessPoolExecutor(
        count, mp_context=FORKED, initializer=_come_to_start, initargs=(FORKED.Barrier(count),)
    ) as pool:
        yield Processes(pool, count)


_start: ProcessBarrier | None = None
"""In a process that races: where it waits for the others."""


def _come_to_start(barrier: ProcessBarrier) -> None:
    global _start  # noqa: PLW0603 - a barrier reaches a process only when it is made
    _start = barrier


def _run(asked: tuple[str, Task, Any]) -> Any:
    database_url, task, share = asked
    assert _start is not None
    engine = make_engine(database_url, pool_size=4, application_name="koc race")
    try:
        with read_session(engine) as session:
            session.connection()
        _start.wait(START_S)
        return task(engine, share)
    finally:
        engine.dispose()
