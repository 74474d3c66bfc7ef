"""When keys and sources were last used: remembered in memory, written aside by a thread, one statement for all."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine

from service.domain.errors import Unavailable
from service.infra.clock import utc_now
from service.infra.db import execute, unit_of_work

EVERY_S = 15.0
"""Seconds between two looks for what is to be written."""
AGAIN_AFTER = timedelta(minutes=1)
"""The least time between two writes about one key or source, by one process."""
KEPT_MAX = 100_000
"""Keys, and sources, that are remembered; those beyond it are not written about until the others have been."""

_KEYS = """
    UPDATE api_key SET last_used_at = used.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS used (id, at)
    WHERE api_key.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at)
      AND api_key.id IN (SELECT id FROM api_key WHERE id = ANY(CAST(:ids AS uuid[])) FOR NO KEY UPDATE SKIP LOCKED)
"""
_SOURCES = """
    UPDATE source SET last_delivery_at = used.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS used (id, at)
    WHERE source.id = used.id AND (last_delivery_at IS NULL OR last_delivery_at < used.at)
      AND source.id IN (SELECT id FROM source WHERE id = ANY(CAST(:ids AS uuid[])) FOR NO KEY UPDATE SKIP LOCKED)
"""
# Rows that somebody holds are passed over until the next use, not waited for: two processes that write about the same keys in another
# order would stop each other, and a revocation would wait for a mere note.

_log = logging.getLogger(__name__)


class Usage:
    """What was used lately. Telling it is one assignment; nothing a request does waits for what becomes of it."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._clock = clock
        self._keys = _Seen(_KEYS)
        self._sources = _Seen(_SOURCES)
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def key_used(self, key_id: UUID) -> None:
        self._keys.note(key_id, self._clock())

    def delivered(self, source_id: UUID) -> None:
        self._sources.note(source_id, self._clock())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="koc-usage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End. What was used since the last write stays unwritten: a stop must not wait for a note."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def write(self) -> None:
        """Write down what is due now. Raises Unavailable; nothing is lost then."""
        now = self._clock()
        for seen in (self._keys, self._sources):
            seen.write(self._engine, now)

    def _run(self) -> None:
        while not self._ends.wait(EVERY_S):
            try:
                self.write()
            except Unavailable as error:
                _log.warning("When keys were last used waits to be written: %s", error)
            except Exception:  # noqa: BLE001 - the loop of a thread that nobody else looks after
                _log.exception("When keys were last used could not be written")


class _Seen:
    """The last use of each id, and when it was last written."""

    def __init__(self, statement: str) -> None:
        self._statement = statement
        self._lock = threading.Lock()
        self._used: dict[UUID, datetime] = {}
        self._written: dict[UUID, datetime] = {}

    def note(self, used_id: UUID, at: datetime) -> None:
        with self._lock:
            if used_id in self._used or len(self._used) < KEPT_MAX:
                self._used[used_id] = at

    def write(self, engine: Engine, now: datetime) -> None:
        """Write uses of which nothing was written for a while; the others wait their minute."""
        with self._lock:
            self._written = {used_id: at for used_id, at in self._written.items() if now - at < AGAIN_AFTER}
            due = {used_id: at for used_id, at in self._used.items() if used_id not in self._written}
        if not due:
            return
        with unit_of_work(engine) as session:
            execute(session, self._statement, {"ids": list(due), "ats": list(due.values())})
        with self._lock:
            for used_id, at in due.items():
                self._written[used_id] = now
                # Used again meanwhile: that waits for the next time.
                if self._used.get(used_id) == at:
                    del self._used[used_id]
