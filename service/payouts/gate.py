"""The gate: after a database was restored nothing is sent until it was compared with the rails and two persons agree.

A restored database does not know what was sent after the moment it was restored to, and would send it again. Where we are is
noted in the database itself: a point-in-time recovery and a failover begin a new timeline of the server, and a dump that is
read back, into whatever server, makes tables with new numbers. A copy of the files, put back, shows neither: close it by hand.
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.errors import Conflict, Forbidden
from service.infra import ids, metrics
from service.infra.db import execute, fetch, read_session, run_unit
from service.payouts.apply import Provider
from service.payouts.control import wake_runs
from service.payouts.sweep import sweep
from service.tables.control import EVERYBODY, DatabaseMarkRow, PayoutGateRow

CHECK_EVERY = timedelta(minutes=5)
LOOK_BACK = timedelta(days=35)
"""How far back a gate that closed by itself compares: as long as any rail lists and remembers."""

_log = logging.getLogger(__name__)


class GateOpen(Conflict):
    code = "payout-gate-open"
    title = "The payout gate is open"


class GateUnchecked(Conflict):
    code = "payout-gate-unchecked"
    title = "The database was not compared with every rail yet"


class GateSecondPerson(Forbidden):
    code = "payout-gate-second-person"
    title = "Opening the payout gate needs a second person"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a database is; the numbers are PostgreSQL's."""

    system_identifier: str
    timeline: int
    database_oid: int | None
    table_oid: int | None

    def __str__(self) -> str:
        return (
            f"server {self.system_identifier} timeline {self.timeline} database {self.database_oid} "
            f"table {self.table_oid}"
        )


def notice(session: Session, *, now: datetime) -> PayoutGateRow | None:
    """Close the gate if this is not the server, the history or the table we last knew to be on. Returns a new gate."""
    [row] = fetch(
        session,
        """
        SELECT CAST(server.system_identifier AS text), history.timeline_id,
               CAST((SELECT oid FROM pg_database WHERE datname = current_database()) AS bigint),
               CAST(CAST('database_mark' AS regclass) AS bigint)
        FROM pg_control_system() AS server, pg_control_checkpoint() AS history
        """,
    )
    here = _Place(*tuple(row))
    mark = session.exec(
        select(DatabaseMarkRow).where(col(DatabaseMarkRow.id) == EVERYBODY).with_for_update()
    ).one_or_none()
    if mark is None:
        execute(
            session,
            """
            INSERT INTO database_mark (id, system_identifier, timeline, database_oid, table_oid, seen_at)
            VALUES (:id, :system_identifier, :timeline, :database_oid, :table_oid, :now) ON CONFLICT (id) DO NOTHING
            """,
            {"id": EVERYBODY, "now": now, **dataclasses.asdict(here)},
        )
        return None
    if mark.table_oid is None:
        # Noted by a server of the release before.
        mark.database_oid, mark.table_oid = here.database_oid, here.table_oid
    before = _Place(mark.system_identifier, mark.timeline, mark.database_oid, mark.table_oid)
    if before == here:
        return None
    for name, value in dataclasses.asdict(here).items():
        setattr(mark, name, value)
    mark.seen_at = now
    session.add(mark)
    detail = f"{before} before, {here} now"
    return close(session, reason="restored", detail=detail, since=now - LOOK_BACK, now=now)


def close(session: Session, *, reason: str, detail: str, since: datetime, now: datetime) -> PayoutGateRow:
    """Let nobody send anything. since: from when on the rails' lists are to be compared. now: by our clock."""
    gate = PayoutGateRow(id=ids.new_id(), reason=reason, detail=detail, since=since, closed_at=now)
    session.add(gate)
    session.flush()
    _log.critical("The payout gate is closed (%s): %s", reason, detail)
    metrics.payout_gate_closed(reason)
    return gate


def closed_gate(session: Session, *, hold: bool = False) -> PayoutGateRow | None:
    """Return the oldest gate that is closed, if one is. hold: until the unit of work ends."""
    closed = (
        select(PayoutGateRow).where(col(PayoutGateRow.opened_at).is_(None)).order_by(col(PayoutGateRow.id)).limit(1)
    )
    return session.exec(closed.with_for_update() if hold else closed).one_or_none()


def check(engine: Engine, provider: Provider | None, *, now: datetime) -> PayoutGateRow | None:
    """Compare every rail that keeps a list with ours, if the gate is closed and it is time. Returns the gate, as checked.

    What is open is looked up, and what we do not know of freezes its payout. provider: None where no rail keeps a list.
    now: by our clock.
    """
    with read_session(engine) as session:
        gate = closed_gate(session)
    if gate is None or (gate.checked_at is not None and now < gate.checked_at + CHECK_EVERY):
        return None
    report = (
        {}
        if provider is None
        else {
            name: dataclasses.asdict(sweep(provider, rail, since=gate.since, now=now))
            for name, rail in sorted(provider.rails.items())
        }
    )
    return run_unit(engine, partial(_note, gate_id=gate.id, report=report, now=now))


def _note(session: Session, *, gate_id: UUID, report: Mapping[str, Any], now: datetime) -> PayoutGateRow:
    gate = session.exec(select(PayoutGateRow).where(col(PayoutGateRow.id) == gate_id).with_for_update()).one()
    gate.report, gate.checked_at = dict(report), now
    session.add(gate)
    return gate


def open_gate(session: Session, *, by: UUID, note: str, now: datetime) -> PayoutGateRow:
    """Ask for the closed gate to be opened or, where another person asked, open it. by: an operator's key.

    Raises GateOpen, GateUnchecked while a rail was not compared wholly since it closed, GateSecondPerson.
    """
    gate = closed_gate(session, hold=True)
    if gate is None:
        raise GateOpen("Nothing is closed; payouts are sent.")
    if gate.checked_at is None or any(not each["complete"] or each["open"] for each in gate.report.values()):
        raise GateUnchecked(
            "Wait until the worker has compared every rail and looked up what is open there; "
            "GET /v1/operator/payout-gate shows how far it is."
        )
    if gate.asked_by is None:
        gate.asked_by, gate.asked_at, gate.note = by, now, note
    elif gate.asked_by == by:
        raise GateSecondPerson(f"Key {ids.encode('key', by)} asked for it; another operator's key has to agree.")
    else:
        gate.opened_by, gate.opened_at = by, now
        wake_runs(session, at=now)
        _log.warning("The payout gate %s was opened by two persons", ids.encode("gat", gate.id))
    session.add(gate)
    session.flush()
    return gate
