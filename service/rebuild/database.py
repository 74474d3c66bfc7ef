"""The empty database that books are made again in: one of our own that goes when we go, or one that somebody names."""

import contextlib
import logging
import secrets
from collections.abc import Iterator

import psycopg
from psycopg import errors, sql
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from service.domain.errors import Conflict, Forbidden, Unavailable
from service.infra import migrate
from service.infra.db import DatabaseAway

PREFIX = "koc_rebuild_"
"""What the names of our own begin with; one that a killed process left behind may be dropped by hand."""


class MayNotCreate(Forbidden):
    code = "rebuild-may-not-create"
    title = "The role may not create databases"


class NotUsable(Conflict):
    code = "rebuild-not-usable"
    title = "The books are made again only in an empty database"


class NotDropped(Unavailable):
    code = "rebuild-not-dropped"
    title = "The database that books were made again in is still there"


@contextlib.contextmanager
def beside(live_url: str) -> Iterator[str]:
    """Make a database with our tables on the same server, yield its address, drop it however the block ends.

    Raises MayNotCreate; DatabaseAway when the server cannot be reached, NotDropped when it is gone at the end.
    """
    live = make_url(live_url)
    # The name says whose it is; PostgreSQL cuts names at 63 bytes.
    name = f"{PREFIX}{(live.database or '')[:20]}_{secrets.token_hex(6)}"
    quoted = sql.Identifier(name)
    making = _connected(live)
    try:
        with making as connection:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
            except errors.InsufficientPrivilege:
                raise MayNotCreate(
                    f"{live.username or 'The role'} may not create a database beside {live.database}. Make an empty one "
                    "and name it with --into, or let the role: ALTER ROLE … CREATEDB."
                ) from None
            # Nobody misses it after a power cut.
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(quoted))
        # A name among the address's parameters would win over the new one, and lead back to the live database.
        url = live.difference_update_query(["dbname"]).set(database=name).render_as_string(hide_password=False)
        _make_tables(url)
        yield url
    finally:
        # It may be there although its making was interrupted before we heard of it.
        try:
            with _connected(live) as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
        except (DatabaseAway, psycopg.Error) as error:
            raise NotDropped(
                f"The database {name} could not be dropped: {str(error).splitlines()[0]} Drop it by hand."
            ) from error


def elsewhere(live_url: str, into_url: str) -> str:
    """Make our tables in an empty database that somebody named; return its address with our driver.

    Raises NotUsable or DatabaseAway; then nothing was written.
    """
    live, into = make_url(live_url), _named(into_url)
    try:
        other = _connected(into)
    except DatabaseAway as error:
        raise NotUsable(f"--into: {error}") from None
    with _connected(live) as one, other:
        if _who(one) == _who(other):
            raise NotUsable(f"--into names {into.database}, the database that is to be checked. Name an empty one.")
        tables = other.execute(
            """
            SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
            """
        ).fetchone()
        if tables != (0,):
            raise NotUsable(f"--into names {into.database}, which has tables already. Name an empty database.")
    url = into.render_as_string(hide_password=False)
    _make_tables(url)
    return url


def _make_tables(url: str) -> None:
    # Whoever checks their books must not read that tables are being changed.
    alembic = logging.getLogger("alembic")
    level = alembic.level
    alembic.setLevel(logging.WARNING)
    try:
        migrate.upgrade(url)
    finally:
        alembic.setLevel(level)


def _named(into_url: str) -> URL:
    try:
        into = make_url(into_url)
    except ArgumentError:
        into = None
    if into is None or into.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise NotUsable("--into takes the address of a database: postgresql://…")
    return into.set(drivername="postgresql+psycopg")


def _connected(url: URL) -> psycopg.Connection:
    """Open a connection whose statements are each a unit of work: databases are made and dropped outside of any.

    Raises DatabaseAway.
    """
    try:
        return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)
    except psycopg.OperationalError as error:
        reason = str(error).splitlines()[0]
        raise DatabaseAway(f"The database {url.database} cannot be reached: {reason}") from error


def _who(connection: psycopg.Connection) -> object:
    """What tells one database from every other: its name, and when its server came up, to the microsecond."""
    return connection.execute("SELECT current_database(), pg_postmaster_start_time()").fetchone()
