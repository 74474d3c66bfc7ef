"""A simulation's row: read, moved on page by page so that nothing is added twice, and ended. Its file's orders, packed."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.commissions.work import ask_for, forget_all_of
from service.domain.order import Fact
from service.domain.program import Terms
from service.infra.db import execute, fetch
from service.tables.simulations import SimulationState, Stage

JsonObject = dict[str, Any]

SIMULATE = "simulate"
"""Kind of the job; its subject is the simulation."""
REFUSALS_KEPT = 20
"""Rows of a file that are shown with why no order could be made of them; all are counted."""
KEPT_FOR = timedelta(days=90)
"""How long a simulation that has ended can be read."""

_OPEN = (SimulationState.QUEUED, SimulationState.RUNNING)
_WORKING_TABLES = ("simulation_period", "simulation_order", "simulation_part")
_TABLES = (*_WORKING_TABLES, "simulation_sum")


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulation that is under way. page: how many units of work have added something to it.

    orders_total: None until its orders were counted. clock_offset: how far the merchant's clock is ahead of ours.
    """

    merchant_id: UUID
    id: UUID
    program_id: UUID
    terms: Terms
    stage: Stage
    page: int
    cursor: JsonObject
    currency: str | None
    placed_from: datetime | None
    placed_before: datetime | None
    mapping: JsonObject | None
    orders_total: int | None
    orders_done: int
    refusals_kept: int
    time_zone: str
    clock_offset: timedelta
    is_test: bool


def load(session: Session, merchant_id: UUID, simulation_id: UUID) -> Simulation | None:
    """A simulation that has something to do; None where it is over, gone, or waits for its file."""
    rows = fetch(
        session,
        """
        SELECT simulation.*, time_zone, clock_offset_s, is_test
        FROM simulation JOIN merchant ON merchant.id = simulation.merchant_id
        WHERE simulation.merchant_id = :merchant_id AND simulation.id = :id AND state = ANY(CAST(:open AS text[]))
        """,
        {"merchant_id": merchant_id, "id": simulation_id, "open": list(_OPEN)},
    )
    if not rows:
        return None
    [row] = rows
    return Simulation(
        merchant_id,
        simulation_id,
        row.program_id,
        Terms.of_json(row.terms),
        Stage(row.stage),
        row.page,
        row.cursor,
        row.currency,
        row.placed_from,
        row.placed_before,
        row.mapping,
        row.orders_total,
        row.orders_done,
        len(row.refusals),
        row.time_zone,
        timedelta(seconds=row.clock_offset_s),
        row.is_test,
    )


def move_on(
    session: Session,
    known: Simulation,
    *,
    stage: Stage,
    cursor: Mapping[str, Any],
    now: datetime,
    orders_total: int | None = None,
    orders: int = 0,
    refused: Sequence[JsonObject] = (),
) -> bool:
    """Take a simulation one page further, first in the unit of work that adds what the page came to.

    Returns False where the page was added already, or the simulation is gone: then nothing may be added. now: by our
    clock. orders: that were looked at. refused: rows of the file.
    """
    shown = refused[: max(0, REFUSALS_KEPT - known.refusals_kept)]
    touched = execute(
        session,
        """
        UPDATE simulation
        SET page = page + 1, state = 'running', stage = :stage, cursor = CAST(:cursor AS jsonb),
            orders_total = coalesce(:orders_total, orders_total), orders_done = orders_done + :orders,
            rows_refused = rows_refused + :refused, refusals = refusals || CAST(:refusals AS jsonb),
            started_at = coalesce(started_at, :now)
        WHERE merchant_id = :merchant_id AND id = :id AND page = :page AND state = ANY(CAST(:open AS text[]))
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "page": known.page,
            "open": list(_OPEN),
            "stage": stage,
            "cursor": json.dumps(dict(cursor)),
            "orders_total": orders_total,
            "orders": orders,
            "refused": len(refused),
            "refusals": json.dumps(list(shown)),
            "now": now + known.clock_offset,
        },
    )
    return touched == 1


def finish(session: Session, known: Simulation, *, now: datetime) -> None:
    """End a simulation well: its sums are whole. What it worked with goes."""
    touched = execute(
        session,
        """
        UPDATE simulation SET state = 'done', finished_at = :now, page = page + 1
        WHERE merchant_id = :merchant_id AND id = :id AND page = :page AND state = 'running'
        """,
        {"merchant_id": known.merchant_id, "id": known.id, "page": known.page, "now": now + known.clock_offset},
    )
    if touched:
        _delete(session, known.merchant_id, [known.id], _WORKING_TABLES)


def fail(session: Session, merchant_id: UUID, simulation_id: UUID, *, code: str, detail: str, now: datetime) -> None:
    """End a simulation that cannot go on, with the reason."""
    touched = execute(
        session,
        """
        UPDATE simulation
        SET state = 'failed', error_code = :code, error_detail = :detail, page = page + 1,
            finished_at = :now + (SELECT clock_offset_s FROM merchant WHERE id = :merchant_id) * interval '1 second'
        WHERE merchant_id = :merchant_id AND id = :id AND state = ANY(CAST(:open AS text[]))
        """,
        {
            "merchant_id": merchant_id,
            "id": simulation_id,
            "code": code,
            "detail": detail,
            "now": now,
            "open": list(_OPEN),
        },
    )
    if touched:
        _delete(session, merchant_id, [simulation_id], _TABLES)


def ask_worker(session: Session, merchant_id: UUID, simulation_id: UUID, *, at: datetime) -> None:
    """Let a worker take a simulation up from a moment on, by our clock."""
    ask_for(session, merchant_id, SIMULATE, simulation_id, at=at)


def delete_all_of(session: Session, merchant_id: UUID, simulation_ids: Sequence[UUID]) -> None:
    """Delete everything that hangs on simulations, whose rows the caller has locked and deletes then."""
    _delete(session, merchant_id, simulation_ids, _TABLES)
    forget_all_of(session, merchant_id, SIMULATE, simulation_ids)


def forget(session: Session, *, merchant_id: UUID, now: datetime) -> int:
    """Delete a few simulations that were asked for long ago. Returns how many. now: by our clock."""
    rows = fetch(
        session,
        """
        SELECT id FROM simulation
        WHERE merchant_id = :merchant_id
          AND created_at < :now + (SELECT clock_offset_s FROM merchant WHERE id = :merchant_id) * interval '1 second'
        ORDER BY id LIMIT 10 FOR UPDATE
        """,
        {"merchant_id": merchant_id, "now": now - KEPT_FOR},
    )
    if not rows:
        return 0
    old = [row.id for row in rows]
    delete_all_of(session, merchant_id, old)
    return execute(
        session,
        "DELETE FROM simulation WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))",
        {"merchant_id": merchant_id, "ids": old},
    )


def _delete(session: Session, merchant_id: UUID, simulation_ids: Sequence[UUID], tables: Iterable[str]) -> None:
    for table in tables:
        execute(
            session,
            f"DELETE FROM {table} WHERE merchant_id = :merchant_id AND simulation_id = ANY(CAST(:ids AS uuid[]))",  # noqa: S608 - put together from our own constants
            {"merchant_id": merchant_id, "ids": list(simulation_ids)},
        )


def pack(facts: Iterable[Fact]) -> bytes:
    """Facts of one order of a file, as they are kept."""
    told = [
        [
            fact.kind,
            fact.key,
            fact.version_at.isoformat(),
            fact.version_amount,
            fact.body.as_json(),
            fact.body_hash.hex(),
            fact.conflicting,
            fact.provisional,
        ]
        for fact in facts
    ]
    return zlib.compress(json.dumps(told, separators=(",", ":")).encode())


def unpack(packed: bytes) -> list[Fact]:
    """What `pack` was given."""
    return [
        Fact.stored(
            kind=kind,
            key=key,
            version_at=datetime.fromisoformat(version_at),
            version_amount=version_amount,
            payload=payload,
            body_hash=bytes.fromhex(body_hash),
            conflicting=conflicting,
            provisional=provisional,
        )
        for kind, key, version_at, version_amount, payload, body_hash, conflicting, provisional in json.loads(
            zlib.decompress(packed)
        )
    ]
