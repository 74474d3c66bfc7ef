"""Engines and units of work. Nothing else in the project commits."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import CursorResult, Engine, Row, TextClause, create_engine, event, text
from sqlalchemy import exc as sqlalchemy_errors
from sqlmodel import Session

from service.domain.errors import Unavailable

T = TypeVar("T")

_SERIALIZATION_FAILURE, _DEADLOCK = "40001", "40P01"
_LOCK_TIMEOUT, _CANCELLED = "55P03", "57014"
_RESOURCES = ("53", "58030")
"""Conditions such as a full disk, no free connection, or a disk that fails."""
_AWAY = ("08", "57P", "25P03")
"""Connection lost, a server that is shutting down or starting up, or one that lost patience with a unit of work."""

_SIGN_OF_LIFE_S = 5
"""Seconds in which a server must take a connection, and answer on one that has rested, before it counts as lost."""
_SILENCE_AFTER_S = 5
"""Seconds that a statement's answer may come after the time at which the server itself would have ended it."""


class DatabaseBusy(Unavailable):
    """The database or our share of it is used up at the moment; nothing was written."""

    code = "database-busy"
    title = "The database is busy, try again"


class DatabaseContended(DatabaseBusy):
    """Another unit of work was in the way (serialization failure or deadlock); nothing was written."""

    code = "database-contended"
    title = "Somebody else changed the same thing, try again"


class DatabaseAway(Unavailable):
    """The connection could not be had or was lost. Whether a unit of work that had begun was committed is unknown."""

    code = "database-away"
    title = "The database is away, try again"


def make_engine(
    url: str,
    *,
    pool_size: int = 16,
    pool_wait_s: float = 1,
    statement_timeout_ms: int = 30_000,
    lock_timeout_ms: int = 10_000,
    idle_in_unit_timeout_ms: int = 60_000,
    application_name: str = "koc",
) -> Engine:
    """Return an engine whose sessions read committed rows, speak UTC and never wait without end.

    pool_size: most connections it holds. pool_wait_s: seconds to wait for one before DatabaseBusy.
    The timeouts end a statement, a wait for a lock, and a unit of work whose owner has gone silent. A server that itself
    is silent for longer than a statement may take is given up: DatabaseAway.
    """
    # The locking of the books relies on each new statement seeing what the last lock holder committed.
    session_settings = {
        "timezone": "UTC",
        "default_transaction_isolation": r"read\ committed",
        "statement_timeout": statement_timeout_ms,
        "lock_timeout": lock_timeout_ms,
        "idle_in_transaction_session_timeout": idle_in_unit_timeout_ms,
    }
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_wait_s,
        pool_pre_ping=True,
        # The last released connection first, so that a quiet service uses few and those stay warm.
        pool_use_lifo=True,
        # An error's text is logged, and what a statement was given may be anybody's name or account.
        hide_parameters=True,
        connect_args={
            "application_name": application_name,
            "connect_timeout": _SIGN_OF_LIFE_S,
            # A server that vanished without a word is noticed within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "options": " ".join(f"-c {name}={value}" for name, value in session_settings.items()),
        },
    )

    def connect(_dialect: object, _record: object, arguments: Sequence[Any], named: Mapping[str, Any]) -> _Connection:
        return _Connection.connect(*arguments, **named)

    def lend(connection: _Connection, _record: object, _lent: object) -> None:
        connection.expect_answers_within(statement_timeout_ms)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _send_lists_in_binary)
    event.listen(engine, "checkout", lend)
    return engine


class _Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever.

    The server's own time-outs do not help when nothing of it arrives any more, nor does TCP when something in between,
    such as a pooler, or a server that hangs, still acknowledges packets.
    """

    silence_max_s: float | None = _SIGN_OF_LIFE_S
    """Seconds to wait for an answer; None for ever. Before it is lent for the first time, the driver asks who is there."""

    def expect_answers_within(self, statement_timeout_ms: int) -> None:
        """Wait a little longer than the server lets a statement take; 0 is no limit, as for the server."""
        self.silence_max_s = statement_timeout_ms / 1000 + _SILENCE_AFTER_S if statement_timeout_ms else None

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Return what the exchange with the server brings. Raises OperationalError, closed, when it is silent too long."""
        # Every unit of work is a transaction. What runs outside of one is the question whether a pooled connection lives.
        silence_max_s = _SIGN_OF_LIFE_S if self.autocommit else self.silence_max_s
        try:
            return super().wait(gen, interval, timeout=silence_max_s if timeout is None else timeout)
        except psycopg.OperationalError:
            # Only a wait that was given up leaves a statement running; whatever it still brings must reach nobody.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise


def _send_lists_in_binary(connection: psycopg.Connection[Any], _record: object) -> None:
    """Batches travel as arrays; as text, each quote of a JSON document in them would be escaped by a regular expression."""
    connection.adapters.register_dumper(list, ListBinaryDumper)


@contextlib.contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """Yield a session whose changes are committed when the block ends, and rolled back when it raises.

    Raises DatabaseBusy, DatabaseContended or DatabaseAway for the database's own troubles; other errors pass unchanged.
    """
    with _named_troubles(), Session(engine, expire_on_commit=False) as session:
        yield session
        session.commit()


@contextlib.contextmanager
def read_session(engine: Engine) -> Iterator[Session]:
    """Yield a session that the database refuses writes on. All its statements are for reading; nothing is committed."""
    with _named_troubles(), Session(engine.execution_options(postgresql_readonly=True)) as session:
        yield session


def run_unit(engine: Engine, work: Callable[[Session], T], *, tries: int = 5) -> T:
    """Do the work in a unit of work and return its answer, starting over when another was in the way or the line broke.

    work: must be safe to repeat even after a commit that we did not hear of; its answer then is what a re-read tells.
    Raises what the last try raised: DatabaseContended or DatabaseAway.
    """
    for attempt in range(1, tries):
        try:
            with unit_of_work(engine) as session:
                return work(session)
        except DatabaseContended:
            pause_s = 0.01 * 2**attempt
        except DatabaseAway:
            pause_s = 0.1 * 2**attempt
        # Between half and all of the pause: those who collided must not meet again.
        time.sleep(pause_s * random.uniform(0.5, 1))
    with unit_of_work(engine) as session:
        return work(session)


def fetch(session: Session, statement: str, parameters: Mapping[str, object] | None = None) -> Sequence[Row[Any]]:
    """Return all rows of a set-based statement written as SQL with `:name` parameters. Lists become arrays: CAST them."""
    return _execute(session, statement, parameters).all()


def execute(session: Session, statement: str, parameters: Mapping[str, object] | None = None) -> int:
    """Run a set-based statement that returns no rows. Returns how many rows it touched."""
    return _execute(session, statement, parameters).rowcount


def let_statements_take(session: Session, limit_ms: int) -> None:
    """Set how long each statement of this unit of work may take from now on; 0 is no limit."""
    execute(session, f"SET LOCAL statement_timeout = {limit_ms}")
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, _Connection)
    connection.expect_answers_within(limit_ms)


class LockNotHad(Exception):
    """A lock was not to be had in the time that `waiting_at_most` gives. The unit of work is lost: it has to be ended."""


@contextlib.contextmanager
def waiting_at_most(session: Session, limit_ms: int) -> Iterator[None]:
    """Let the statements of the block wait for locks no longer than this. Raises LockNotHad."""
    execute(session, f"SET LOCAL lock_timeout = {limit_ms}")
    try:
        yield
    except sqlalchemy_errors.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise LockNotHad from error
        raise
    # As it is for all units of work on this engine.
    execute(session, "SET LOCAL lock_timeout TO DEFAULT")


class Savepoint:
    """A place in a unit of work to which what was written after it can be undone; what was before is kept."""

    def __init__(self, session: Session) -> None:
        self._part = session.begin_nested()

    def undo(self) -> None:
        """Undo all since."""
        self._part.rollback()


class Admission:
    """A door that lets so many requests to the database at once.

    Without it every request would wait in the pool with a thread in hand, and most would be answered by a time-out.
    Waiting at the door takes no thread either: those inside need the threads to get out again.
    """

    def __init__(self, size: int, *, wait_s: float = 1) -> None:
        """size: requests inside at once. wait_s: seconds one waits at the door."""
        self._places = asyncio.Semaphore(size)
        self._wait_s = wait_s

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises DatabaseBusy when none gets free in time."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise DatabaseBusy("Too many requests use the database at this moment.") from None
        try:
            yield
        finally:
            self._places.release()


@lru_cache(maxsize=512)
def _parsed(statement: str) -> TextClause:
    return text(statement)


def _execute(session: Session, statement: str, parameters: Mapping[str, object] | None) -> CursorResult[Any]:
    return session.connection().execute(_parsed(statement), dict(parameters or {}))


@contextlib.contextmanager
def _named_troubles() -> Iterator[None]:
    """Turn the driver's errors that a caller can only wait out into the three that say so."""
    try:
        yield
    except sqlalchemy_errors.TimeoutError as error:
        raise DatabaseBusy("All connections of this process are in use.") from error
    except (sqlalchemy_errors.DBAPIError, psycopg.Error) as error:
        trouble = _trouble(error)
        if trouble is None:
            raise
        raise trouble from error


def _trouble(error: sqlalchemy_errors.DBAPIError | psycopg.Error) -> Unavailable | None:
    """Say which of the database's own troubles an error is; None for an error of the statement."""
    cause = error if isinstance(error, psycopg.Error) else error.orig
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if state is None:
        lost = isinstance(cause, psycopg.OperationalError) or getattr(error, "connection_invalidated", False)
        return DatabaseAway("The connection to the database was lost or could not be made.") if lost else None
    if state in {_SERIALIZATION_FAILURE, _DEADLOCK}:
        return DatabaseContended(f"The database asked to start over ({state}).")
    if state in {_LOCK_TIMEOUT, _CANCELLED} or state.startswith(_RESOURCES):
        return DatabaseBusy(f"The database could not finish in time ({state}).")
    if state.startswith(_AWAY):
        return DatabaseAway(f"The database is not available ({state}).")
    return None
