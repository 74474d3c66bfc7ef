"""Units of work against the real engine."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from service.infra.db import (
    Admission,
    DatabaseAway,
    DatabaseBusy,
    DatabaseContended,
    execute,
    fetch,
    make_engine,
    read_session,
    run_unit,
    unit_of_work,
)
from service.infra.migrate import require
from service.infra.settings import SettingsError

pytestmark = pytest.mark.usefixtures("table")


@pytest.fixture
def table(engine: Engine) -> Iterator[None]:
    with unit_of_work(engine) as session:
        execute(session, "CREATE TABLE counter (id bigint PRIMARY KEY, n bigint NOT NULL)")
        execute(session, "INSERT INTO counter VALUES (1, 0), (2, 0)")
    yield
    with unit_of_work(engine) as session:
        execute(session, "DROP TABLE counter")


def total(engine: Engine) -> int:
    with read_session(engine) as session:
        return int(fetch(session, "SELECT sum(n) AS total FROM counter")[0].total)


def add(session: Session, counter: int) -> None:
    execute(session, "UPDATE counter SET n = n + 1 WHERE id = :id", {"id": counter})


def test_a_unit_of_work_is_whole_or_absent(engine: Engine) -> None:
    def fails_half_way() -> None:
        with unit_of_work(engine) as session:
            add(session, 2)
            raise ZeroDivisionError

    with unit_of_work(engine) as session:
        add(session, 1)
    with pytest.raises(ZeroDivisionError):
        fails_half_way()

    assert total(engine) == 1


def test_a_read_session_cannot_write(engine: Engine) -> None:
    with pytest.raises(Exception, match="read-only"), read_session(engine) as session:
        add(session, 1)

    with unit_of_work(engine) as session:
        add(session, 1)
    assert total(engine) == 1


def test_a_broken_constraint_stays_the_callers_error(engine: Engine) -> None:
    with pytest.raises(IntegrityError), unit_of_work(engine) as session:
        execute(session, "INSERT INTO counter VALUES (1, 0)")


def test_sessions_read_committed_rows_and_speak_utc(engine: Engine) -> None:
    with read_session(engine) as session:
        row = fetch(session, "SELECT current_setting('transaction_isolation') AS level, now() AS at")[0]

    assert row.level == "read committed"
    assert row.at.utcoffset().total_seconds() == 0


def test_of_two_that_deadlock_both_are_done_in_the_end(engine: Engine) -> None:
    met = threading.Barrier(2, timeout=10)
    tries: list[int] = []

    def cross(first: int, second: int) -> None:
        def work(session: Session) -> None:
            tries.append(first)
            add(session, first)
            if len(tries) <= 2:
                met.wait()
            add(session, second)

        run_unit(engine, work)

    threads = [threading.Thread(target=cross, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert total(engine) == 4
    assert len(tries) == 3


def test_a_lost_connection_starts_the_unit_over(engine: Engine) -> None:
    tries = []

    def work(session: Session) -> int:
        tries.append(1)
        add(session, 1)
        if len(tries) == 1:
            pid = fetch(session, "SELECT pg_backend_pid() AS pid")[0].pid
            with unit_of_work(engine) as other:
                fetch(other, "SELECT pg_terminate_backend(:pid)", {"pid": pid})
        return int(fetch(session, "SELECT n FROM counter WHERE id = 1")[0].n)

    assert run_unit(engine, work) == 1
    assert len(tries) == 2


def test_after_the_last_try_the_caller_learns_why(engine: Engine) -> None:
    tries = []

    def work(session: Session) -> None:
        tries.append(1)
        execute(session, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    with pytest.raises(DatabaseContended):
        run_unit(engine, work, tries=3)

    assert len(tries) == 3


def test_a_server_that_is_not_there_is_away() -> None:
    engine = make_engine("postgresql+psycopg://koc:x@127.0.0.1:1/koc")

    with pytest.raises(DatabaseAway), unit_of_work(engine) as session:
        add(session, 1)


def test_an_empty_pool_is_busy_not_a_time_out_pile_up(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, pool_wait_s=0.05)

    with unit_of_work(engine) as session:
        add(session, 1)
        with pytest.raises(DatabaseBusy), unit_of_work(engine) as second:
            add(second, 1)
    engine.dispose()


def test_a_lock_held_too_long_is_busy(engine: Engine, database_url: str) -> None:
    hasty = make_engine(database_url, lock_timeout_ms=50)

    with unit_of_work(engine) as session:
        add(session, 1)
        with pytest.raises(DatabaseBusy), unit_of_work(hasty) as second:
            add(second, 1)
    hasty.dispose()


def test_the_door_refuses_when_full_and_opens_again() -> None:
    async def knock() -> None:
        door = Admission(1, wait_s=0.01)

        async with door.enter():
            with pytest.raises(DatabaseBusy):
                async with door.enter():
                    pass
        async with door.enter():
            pass

    asyncio.run(knock())


@pytest.mark.parametrize("version", [(14, 22), (9, 6, 24)])
def test_an_old_postgresql_is_refused_by_the_variables_name(version: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=f"DATABASE_URL names a PostgreSQL {version[0]};"):
        require(version)


@pytest.mark.parametrize("version", [(15, 0), (18, 6)])
def test_the_postgresql_we_promise_and_newer_ones_are_taken(version: tuple[int, ...]) -> None:
    require(version)
