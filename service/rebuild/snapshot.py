"""Read one moment of a database for as long as it takes, in bounded memory, while the service goes on writing."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, Row, text
from sqlmodel import Session

from service.infra.db import execute, read_session
from service.ledger.audit import take_snapshot

ROWS_AT_ONCE = 500
"""Rows fetched in one go, unless they are large; all that is ever kept of a list."""


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Session]:
    """Yield a session all of whose statements see one moment, and that may be silent between them."""
    with read_session(engine) as session:
        take_snapshot(session)
        # While the other database is written to, nothing is asked of this one.
        execute(session, "SET LOCAL idle_in_transaction_session_timeout = 0")
        yield session


def stream(
    session: Session, statement: str, parameters: Mapping[str, object], *, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[Row[Any]]:
    """Yields the rows of a statement as they are asked for. Other statements may run on the session meanwhile."""
    few_at_once = text(statement).execution_options(yield_per=rows_at_once)
    yield from session.connection().execute(few_at_once, dict(parameters))
