"""A database that gets in the way: what it refuses is done over or answered 503, and the books are the same as without."""

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session

from service.domain.errors import Unavailable
from service.infra import db
from service.infra.db import (
    DatabaseAway,
    DatabaseBusy,
    execute,
    fetch,
    let_statements_take,
    make_engine,
    run_unit,
    unit_of_work,
)
from service.infra.security import Security
from service.infra.settings import Settings
from service.intake.record import Recorded, record
from service.worker import Worker, run_pass, run_worker
from tests.support import conflicts, databases
from tests.support.books import Books, paid, refund, snapshot
from tests.support.faults import CutAt, Proxy, in_use, socket_of, wait_for
from tests.support.shop import SECRET_KEY

UNITS = 600
"""Units of work of the small share; `make prove WHAT=faults` does ten thousand and more."""


def answers(engine: Engine) -> bool:
    """Whether a unit of work goes well now."""
    with unit_of_work(engine) as session:
        return bool(fetch(session, "SELECT 1 AS one")[0].one)


def two_statements(engine: Engine, *, meanwhile: Callable[[], None]) -> None:
    with unit_of_work(engine) as session:
        fetch(session, "SELECT 1")
        meanwhile()
        fetch(session, "SELECT 2")


@contextlib.contextmanager
def an_engine(url: str, **settings: Any) -> Iterator[Engine]:
    engine = make_engine(url, **settings)
    try:
        yield engine
        assert in_use(engine) == 0
    finally:
        engine.dispose()


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(socket_of(database_url)) as proxy:
        yield proxy


def test_a_server_that_falls_silent_is_given_up(database_url: str, proxy: Proxy) -> None:
    with an_engine(proxy.address(database_url), statement_timeout_ms=100) as engine:
        with pytest.raises(DatabaseAway):
            two_statements(engine, meanwhile=proxy.fall_silent)
        proxy.speak()

        assert answers(engine)


def test_a_pooled_connection_that_fell_silent_is_replaced(database_url: str, proxy: Proxy) -> None:
    with an_engine(proxy.address(database_url)) as engine:
        assert answers(engine)
        proxy.fall_silent()
        # The connection is asked for a sign of life; the next one is made when the network speaks again.
        threading.Timer(6, proxy.speak).start()

        assert answers(engine)


def test_a_server_that_falls_silent_before_its_first_statement_is_given_up(database_url: str, proxy: Proxy) -> None:
    with an_engine(proxy.address(database_url)) as engine:
        # Before the driver asks the server what it is, as it does once for each engine.
        event.listen(engine, "connect", lambda *_: proxy.fall_silent(), insert=True)
        # If it waits without end, so that the test ends.
        speaking = threading.Timer(60, proxy.speak)
        speaking.start()

        with pytest.raises(DatabaseAway):
            answers(engine)

        speaking.cancel()
        proxy.speak()


def test_a_unit_that_sat_idle_too_long_is_away_and_the_next_one_works(database_url: str) -> None:
    with an_engine(database_url, idle_in_unit_timeout_ms=100) as engine:
        with pytest.raises(DatabaseAway):
            two_statements(engine, meanwhile=lambda: time.sleep(0.5))

        assert answers(engine)


def test_a_statement_that_takes_too_long_is_busy_and_the_next_one_works(database_url: str) -> None:
    with an_engine(database_url, statement_timeout_ms=100) as engine:
        with pytest.raises(DatabaseBusy), unit_of_work(engine) as session:
            fetch(session, "SELECT pg_sleep(5)")

        assert answers(engine)


def test_a_unit_that_may_take_long_is_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_SILENCE_AFTER_S", 0)
    with an_engine(database_url, statement_timeout_ms=100, pool_size=1) as engine:
        with unit_of_work(engine) as session:
            let_statements_take(session, 60_000)
            fetch(session, "SELECT pg_sleep(0.5)")

        # The next who is lent the connection has no such leave.
        with pytest.raises(Unavailable), unit_of_work(engine) as session:
            fetch(session, "SELECT pg_sleep(5)")


@pytest.mark.parametrize("state", ["53100", "53200", "53300", "58030"])
def test_a_server_without_means_is_busy(database_url: str, state: str) -> None:
    with an_engine(database_url) as engine:
        with pytest.raises(DatabaseBusy), unit_of_work(engine) as session:
            execute(session, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")

        assert answers(engine)


@pytest.mark.parametrize("where", CutAt)
def test_a_commit_whose_answer_is_lost_is_looked_up_and_has_one_effect(
    engine: Engine, database_url: str, proxy: Proxy, where: CutAt
) -> None:
    books = Books.opened(engine)
    with an_engine(proxy.address(database_url)) as cut:
        delivery = books.delivery("1001", snapshot(10_000), paid())
        proxy.cut_next_commit(where)

        [told] = run_unit(cut, lambda session: record(session, [delivery]))

    assert proxy.cuts_left == 0
    assert told.repeated is (where is CutAt.AFTER)
    assert books.places() == (1000, 0, 0)


def held_jobs(books: Books) -> list[str]:
    """Kinds of jobs that a worker holds."""
    return [
        row.kind for row in books.rows("SELECT kind FROM job WHERE merchant_id = :merchant_id AND owner IS NOT NULL")
    ]


def security() -> Security:
    return Security(base64.b64decode(SECRET_KEY))


def test_a_job_whose_claim_was_committed_unheard_is_done_all_the_same(
    engine: Engine, database_url: str, proxy: Proxy
) -> None:
    books = Books.opened(engine)
    books.tell("1001", snapshot(10_000), paid())
    with an_engine(proxy.address(database_url)) as cut, ThreadPoolExecutor(1) as calls:
        # The first unit of a pass makes the job, the second claims it.
        proxy.cut_next_commit(CutAt.AFTER, after=1)

        run_pass(Worker(cut, security(), {}, calls, "me"))

    assert proxy.cuts_left == 0
    assert held_jobs(books) == []
    assert books.places() == (0, 0, 1000)


def test_a_job_that_could_not_be_given_back_is_done_again_when_the_database_is_back(
    engine: Engine, database_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books.opened(engine)
    books.tell("1001", snapshot(10_000), paid())
    stop = threading.Event()
    went: list[int] = []

    def leave_at_the_end(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "SET due_at = CASE" in statement and not went:
            went.append(1)
            proxy.go_away()

    with an_engine(proxy.address(database_url)) as hurt:
        event.listen(hurt, "before_cursor_execute", leave_at_the_end)
        settings = Settings(database_url=database_url, secret_key=SECRET_KEY)
        worker = threading.Thread(
            target=run_worker, args=(hurt, settings, security(), stop), kwargs={"poll_s": 0.05}, daemon=True
        )
        worker.start()
        wait_for("the worker gives up its pass", lambda: "The worker waits" in caplog.text)
        held = held_jobs(books)
        proxy.come_back()

        wait_for("all jobs are done and given back", lambda: books.places() == (0, 0, 1000) and not held_jobs(books))
        stop.set()
        worker.join()

    assert len(held) == 1


# Forced conflicts.


def test_forced_conflicts_change_nothing_in_the_books(database_url: str) -> None:
    outcome = conflicts.disturb(database_url, units=UNITS, seed=11)

    assert outcome.forced.total() > UNITS / 5
    assert len(outcome.forced) == 4
    assert outcome.refused.keys() <= {"database-contended"}
    assert outcome.kept == UNITS
    assert outcome.same
    assert outcome.findings == 0
    assert outcome.leaked == 0


def test_a_real_deadlock_starts_the_unit_over(engine: Engine, database_url: str) -> None:
    books = Books.opened(engine)
    for order in ("1001", "1002"):
        books.tell(order, snapshot(10_000), paid())
    tries: list[int] = []
    answered: list[Recorded] = []

    def work(session: Session) -> list[Recorded]:
        tries.append(int(fetch(session, "SELECT pg_backend_pid() AS pid")[0].pid))
        return record(
            session, [books.delivery(order, refund("r", 5_000), delivery_id=order) for order in ("1001", "1002")]
        )

    unit = threading.Thread(target=lambda: answered.extend(run_unit(engine, work)))
    lock = "SELECT FROM orders WHERE external_id = %s FOR UPDATE"
    with contextlib.closing(databases.connect(database_url)) as other:
        # The unit is the one that looks for a deadlock first, and so the one that has to give way.
        other.execute("SET deadlock_timeout = '1h'")
        with other.transaction():
            other.execute(lock, ["1002"])
            unit.start()
            wait_for(
                "the unit holds the first order and waits for the second",
                lambda: bool(tries) and waits(other, tries[0]),
            )
            other.execute(lock, ["1001"])
        unit.join()

    assert len(tries) == 2
    assert [each.repeated for each in answered] == [False, False]
    assert books.places() == (1000, 0, 0)
    assert conflicts.findings(books) == []


def waits(connection: psycopg.Connection, pid: int) -> bool:
    """Whether a process of the server waits for a lock."""
    row = connection.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]).fetchone()
    return row is not None and bool(row[0])
