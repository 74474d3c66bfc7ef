"""Reports as jobs: a worker writes one from one moment's figures into the database, in pieces, and the file stays the same.

It takes no disk and no bucket, and a worker that dies leaves nothing that counts: whoever takes the job up begins anew.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.work import ask_for, forget_all_of
from service.domain.errors import ServiceError, Unavailable
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit
from service.ledger.audit import take_snapshot
from service.reports.counted import Counted
from service.reports.define import Format, filters_of
from service.reports.registry import find
from service.reports.stream import Asked, stream

REPORT = "report"
"""Kind of the job; its subject is the report job."""
KEPT_FOR = timedelta(days=7)
"""How long a file can be fetched."""
CHUNK_BYTES = 1024 * 1024
TELL_EVERY_S = 1
"""Seconds after which it is told how far it is, where no piece was stored meanwhile."""
TIMEOUT_MS = 2 * 60 * 60 * 1000
"""Longest that one may take."""

Keep = Callable[[Session], bool]
"""Holds on to the job for longer; says whether it is still ours and may go on."""


class _BrokenOff(Exception):
    """It is not ours any more, or has to wait."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """One attempt at a report job, as its row was when it was begun. clock_offset: of the merchant's clock from ours."""

    merchant_id: UUID
    id: UUID
    attempt: int
    report: str
    format: Format
    filters: dict[str, str]
    time_zone: str
    clock_offset: timedelta


def ask_worker(session: Session, merchant_id: UUID, report_job_id: UUID, *, at: datetime) -> None:
    """Let a worker take a report job up from a moment on, by our clock."""
    ask_for(session, merchant_id, REPORT, report_job_id, at=at)


def make(
    engine: Engine,
    merchant_id: UUID,
    report_job_id: UUID,
    keep: Keep,
    *,
    clock: Callable[[], datetime] = utc_now,
    chunk_bytes: int = CHUNK_BYTES,
) -> bool:
    """Write the file of a report job from its beginning. Returns whether it is over; False where `keep` said to stop.

    Safe to repeat after a crash on any line, and beside another that does the same: the one that began last counts.
    """
    begun = run_unit(engine, partial(_begin, merchant_id=merchant_id, report_job_id=report_job_id, now=clock()))
    if begun is None:
        return True
    try:
        _write(engine, begun, keep, clock, chunk_bytes)
    except _BrokenOff:
        return False
    except Unavailable:
        raise
    except ServiceError as error:
        # What was asked for cannot be done here, however often it is tried.
        give_up = partial(fail, merchant_id=merchant_id, report_job_id=report_job_id, now=clock())
        run_unit(engine, partial(give_up, code=error.code, detail=error.detail))
    return True


def fail(session: Session, merchant_id: UUID, report_job_id: UUID, *, code: str, detail: str, now: datetime) -> None:
    """End a report job that cannot be done, with the reason. now: by our clock."""
    touched = execute(
        session,
        f"""
        UPDATE report_job
        SET status = 'failed', error_code = :code, error_detail = :detail, attempt = attempt + 1, size_bytes = 0,
            finished_at = {_MERCHANTS_NOW}, expires_at = {_MERCHANTS_NOW} + :kept_for
        WHERE merchant_id = :merchant_id AND id = :id AND status IN ('queued', 'running')
        """,  # noqa: S608 - put together from our own constants
        {
            "merchant_id": merchant_id,
            "id": report_job_id,
            "code": code,
            "detail": detail,
            "now": now,
            "kept_for": KEPT_FOR,
        },
    )
    if touched:
        _delete_chunks(session, merchant_id, [report_job_id])


def delete_all_of(session: Session, merchant_id: UUID, report_job_ids: Sequence[UUID]) -> None:
    """Delete everything that hangs on report jobs, whose rows the caller has locked and deletes then."""
    _delete_chunks(session, merchant_id, report_job_ids)
    forget_all_of(session, merchant_id, REPORT, report_job_ids)


def forget(session: Session, *, merchant_id: UUID, now: datetime) -> int:
    """Delete a few report jobs that have been kept long enough. Returns how many. now: by our clock."""
    rows = fetch(
        session,
        f"""
        SELECT id FROM report_job
        WHERE merchant_id = :merchant_id AND expires_at <= {_MERCHANTS_NOW}
        ORDER BY id LIMIT 5 FOR UPDATE
        """,  # noqa: S608 - put together from our own constants
        {"merchant_id": merchant_id, "now": now},
    )
    if not rows:
        return 0
    old = [row.id for row in rows]
    delete_all_of(session, merchant_id, old)
    return execute(
        session,
        "DELETE FROM report_job WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))",
        {"merchant_id": merchant_id, "ids": old},
    )


_MERCHANTS_NOW = "(:now + (SELECT clock_offset_s FROM merchant WHERE id = :merchant_id) * interval '1 second')"


def _begin(session: Session, merchant_id: UUID, report_job_id: UUID, now: datetime) -> _Begun | None:
    """Begin anew: what an earlier attempt left goes. None where it is over or gone."""
    rows = fetch(
        session,
        """
        UPDATE report_job
        SET status = 'running', attempt = attempt + 1, rows = 0, size_bytes = 0, snapshot_at = NULL,
            started_at = :now + clock_offset_s * interval '1 second'
        FROM merchant
        WHERE merchant.id = report_job.merchant_id AND merchant_id = :merchant_id AND report_job.id = :id
          AND status IN ('queued', 'running')
        RETURNING attempt, report, format, filters, time_zone, clock_offset_s
        """,
        {"merchant_id": merchant_id, "id": report_job_id, "now": now},
    )
    if not rows:
        return None
    _delete_chunks(session, merchant_id, [report_job_id])
    [row] = rows
    offset = timedelta(seconds=row.clock_offset_s)
    return _Begun(
        merchant_id,
        report_job_id,
        row.attempt,
        row.report,
        Format(row.format),
        row.filters,
        row.time_zone,
        offset,
    )


def _write(engine: Engine, begun: _Begun, keep: Keep, clock: Callable[[], datetime], chunk_bytes: int) -> None:
    """Raises _BrokenOff, and what writing raises."""
    counted, digest, waiting = Counted(), hashlib.sha256(), bytearray()
    number = size = 0
    told_at = time.monotonic()

    def store(chunk: bytes, **ends: Any) -> None:
        nonlocal number, size, told_at
        digest.update(chunk)
        size += len(chunk)
        told = {"rows": counted.rows, "size_bytes": size, "snapshot_at": snapshot_at, **ends}
        if ends:
            told["sha256"] = digest.hexdigest()
        run_unit(engine, partial(_store, begun=begun, number=number, chunk=chunk, told=told, keep=keep))
        number += 1 if chunk else 0
        told_at = time.monotonic()

    with read_session(engine) as session:
        take_snapshot(session)
        snapshot_at = fetch(session, "SELECT statement_timestamp() AS at")[0].at + begun.clock_offset
        asked = Asked(begun.merchant_id, begun.time_zone, snapshot_at, filters_of(begun.filters))
        blocks = stream(session, find(begun.report), begun.format, asked, counted, timeout_ms=TIMEOUT_MS)
        try:
            for block in blocks:
                waiting += block
                while len(waiting) >= chunk_bytes:
                    store(bytes(waiting[:chunk_bytes]))
                    del waiting[:chunk_bytes]
                if time.monotonic() > told_at + TELL_EVERY_S:
                    store(b"")
        finally:
            blocks.close()
    now = clock() + begun.clock_offset
    store(bytes(waiting), status="done", finished_at=now, expires_at=now + KEPT_FOR)


def _store(session: Session, begun: _Begun, number: int, chunk: bytes, told: dict[str, Any], keep: Keep) -> None:
    """Add a piece, and say how far it is. Raises _BrokenOff where another attempt has begun, or nobody wants it any more."""
    told_of = ", ".join(f"{name} = :{name}" for name in told)
    # First of all, under the lock of its row: whoever begins anew waits, and then deletes this piece too.
    touched = execute(
        session,
        f"UPDATE report_job SET {told_of} WHERE merchant_id = :merchant_id AND id = :id AND attempt = :attempt"  # noqa: S608 - put together from our own names
        " AND status IN ('running', 'done')",
        {"merchant_id": begun.merchant_id, "id": begun.id, "attempt": begun.attempt, **told},
    )
    if not touched or not keep(session):
        raise _BrokenOff
    if chunk:
        execute(
            session,
            """
            INSERT INTO report_chunk (merchant_id, report_job_id, number, body) VALUES (:merchant_id, :id, :number, :body)
            ON CONFLICT DO NOTHING
            """,
            {"merchant_id": begun.merchant_id, "id": begun.id, "number": number, "body": chunk},
        )


def _delete_chunks(session: Session, merchant_id: UUID, report_job_ids: Sequence[UUID]) -> None:
    execute(
        session,
        "DELETE FROM report_chunk WHERE merchant_id = :merchant_id AND report_job_id = ANY(CAST(:ids AS uuid[]))",
        {"merchant_id": merchant_id, "ids": list(report_job_ids)},
    )
