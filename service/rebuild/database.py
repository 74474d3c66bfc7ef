"""The empty database that books are made again in: one of our own that goes when we go, or one that somebody names."""

import contextlib
import secrets
from collections.abc import Iterator

import psycopg
from psycopg import errors, sql
from sqlalchemy import URL, make_url

from service.domain.errors import Conflict, Forbidden
from service.infra import migrate

PREFIX = "koc_rebuild_"
"""What the names of our own begin with; one that a killed process left behind may be dropped by hand."""


class MayNotCreate(Forbidden):
    code = "rebuild-may-not-create"
    title = "The role may not create databases"


class NotEmpty(Conflict):
    code = "rebuild-not-empty"
    title = "The books are made again only in an empty database"


@contextlib.contextmanager
def beside(live_url: str) -> Iterator[str]:
    """Make a database with our tables on the same server, yield its address, drop it however the block ends.

    Raises MayNotCreate.
    """
    live = make_url(live_url)
    name = PREFIX + secrets.token_hex(6)
    quoted = sql.Identifier(name)
    with _connected(live) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
        except errors.InsufficientPrivilege:
            raise MayNotCreate(
                f"{live.username or 'The role'} may not create a database beside {live.database}. Make an empty one and "
                "name it with --into, or let the role: ALTER ROLE … CREATEDB."
            ) from None
    try:
        with _connected(live) as connection:
            # Nobody misses it after a power cut.
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(quoted))
        url = live.set(database=name).render_as_string(hide_password=False)
        migrate.upgrade(url)
        yield url
    finally:
        with _connected(live) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


def prepare(live_url: str, into_url: str) -> None:
    """Make our tables in an empty database that somebody named. Raises NotEmpty; then nothing was written."""
    live, into = make_url(live_url), make_url(into_url)
    with _connected(live) as one, _connected(into) as other:
        if _who(one) == _who(other):
            raise NotEmpty(f"--into names {into.database}, the database that is to be checked. Name an empty one.")
        tables = other.execute(
            """
            SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
            """
        ).fetchone()
        if tables != (0,):
            raise NotEmpty(f"--into names {into.database}, which has tables already. Name an empty database.")
    migrate.upgrade(into_url)


def _connected(url: URL) -> psycopg.Connection:
    """Open a connection whose statements are each a unit of work: databases are made and dropped outside of any."""
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


def _who(connection: psycopg.Connection) -> object:
    """What tells one database from every other: its name, and when its server came up, to the microsecond."""
    return connection.execute("SELECT current_database(), pg_postmaster_start_time()").fetchone()
