"""Explain what a provider did by our attempts: book what came back, look up what is open, stop where nothing explains it."""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.ledger import MerchantTime
from service.domain.payout import MAY_HAVE_PAID, UNEXPECTED_TRANSFER, Outcome, RunState
from service.domain.provider import EventState
from service.infra import ids, metrics
from service.infra.db import execute, fetch
from service.infra.security import Security
from service.outbox.emit import emit
from service.payouts.adopt import adopt_forgotten
from service.payouts.find import lock_run
from service.payouts.providers.model import Transfer
from service.payouts.reconcile import reconcile, told_of
from service.payouts.record import stop
from service.payouts.wake import wake
from service.tables.payouts import PayoutRunRow

NO_SUCH_PAYOUT = "no_such_payout"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Explained:
    """What became of transfers, by their reference. changed: how many facts were new."""

    matched: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    """Of attempts whose outcome is not known yet; their look-up was asked for."""
    unexplained: dict[str, str] = field(default_factory=dict)
    """With the reason."""
    changed: int = 0

    def state_of(self, reference: str) -> tuple[EventState, str | None]:
        """What that means for an event about a transfer."""
        if reference in self.open:
            return EventState.WAITING, None
        reason = self.unexplained.get(reference)
        return (EventState.APPLIED, None) if reason is None else (EventState.PARKED, reason)


def explain(
    session: Session,
    transfers: Sequence[Transfer],
    *,
    merchant_id: UUID,
    rail: str,
    when: MerchantTime,
    now: datetime,
    security: Security | None = None,
) -> Explained:
    """Take what a provider tells of transfers of one merchant, in any order and any number of times. now: by our clock.

    A transfer is accepted by its attempt's own answer or look-up; one that is open is looked up now. Of a list, which
    `security` stands for, forgotten ones are adopted. What no attempt explains, and what has not come back, stops its
    run: money is out that nobody here asked for.
    """
    attempts = _attempts(session, merchant_id, transfers)
    known, awaited, stray = _sorted(transfers, attempts)
    runs = _lock_runs(session, merchant_id, stray, attempts)
    if runs:
        # Again, of those held: what a worker has planned or recorded meanwhile counts.
        attempts = {**attempts, **_attempts(session, merchant_id, stray)}
        known, awaited, stray = _sorted(transfers, attempts)
    explained = Explained()
    if security is not None and stray:
        found = adopt_forgotten(
            session, security, stray, attempts, runs, merchant_id=merchant_id, rail=rail, when=when, now=now
        )
        known += [each for each in stray if each.reference in found]
        stray = [each for each in stray if each.reference not in found]
        explained.changed += len(found)
    explained.matched = {each.reference for each in known}
    explained.open = {each.reference for each in awaited}
    explained.unexplained = {
        each.reference: UNEXPECTED_TRANSFER if each.item_id in attempts else NO_SUCH_PAYOUT for each in stray
    }
    _stop(session, stray, attempts, runs, merchant_id=merchant_id, rail=rail, when=when)
    told = [each for transfer in known for each in told_of(transfer)]
    explained.changed += reconcile(session, told, merchant_id=merchant_id, rail=rail, when=when, now=now)
    _look_up(session, awaited, attempts, merchant_id, now)
    return explained


def _sorted(
    transfers: Sequence[Transfer], attempts: Mapping[UUID, Sequence[Row[Any]]]
) -> tuple[list[Transfer], list[Transfer], list[Transfer]]:
    """Those that an attempt was accepted by, those of open attempts, and those that are out and nothing explains."""
    known: list[Transfer] = []
    awaited: list[Transfer] = []
    stray: list[Transfer] = []
    for transfer in transfers:
        theirs = attempts.get(transfer.item_id, [])
        if any(each.outcome == Outcome.ACCEPTED and each.reference == transfer.reference for each in theirs):
            known.append(transfer)
        elif any(each.outcome in MAY_HAVE_PAID and each.outcome != Outcome.ACCEPTED for each in theirs):
            awaited.append(transfer)
        elif transfer.out_minor > 0:
            stray.append(transfer)
    return known, awaited, stray


def _lock_runs(
    session: Session, merchant_id: UUID, stray: Sequence[Transfer], attempts: Mapping[UUID, Sequence[Row[Any]]]
) -> Mapping[UUID, PayoutRunRow]:
    """The runs of payouts that nothing explains, all at once and before any item, as everybody locks them."""
    run_ids = {attempts[each.item_id][0].run_id for each in stray if each.item_id in attempts}
    return {run_id: lock_run(session, merchant_id, run_id) for run_id in sorted(run_ids)}


def _attempts(session: Session, merchant_id: UUID, transfers: Sequence[Transfer]) -> Mapping[UUID, Sequence[Row[Any]]]:
    """Maps payout to its attempts; one without any has a row that says so, one that is not known has none."""
    rows = fetch(
        session,
        """
        SELECT item.id, item.run_id, attempt.id AS attempt_id, attempt.number, attempt.fence, attempt.outcome,
               attempt.reference
        FROM payout_item AS item
        LEFT JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        WHERE item.merchant_id = :merchant_id AND item.id = ANY(CAST(:item_ids AS uuid[]))
        ORDER BY item.id, attempt.number
        """,
        {"merchant_id": merchant_id, "item_ids": sorted({each.item_id for each in transfers})},
    )
    found: dict[UUID, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row)
    return found


def _stop(
    session: Session,
    stray: Sequence[Transfer],
    attempts: Mapping[UUID, Sequence[Row[Any]]],
    runs: Mapping[UUID, PayoutRunRow],
    *,
    merchant_id: UUID,
    rail: str,
    when: MerchantTime,
) -> None:
    for transfer in stray:
        _log.error(
            "Transfer %s of payout %s at %s is explained by no attempt of ours",
            transfer.reference,
            ids.encode("pay", transfer.item_id),
            rail,
        )
    metrics.transfers_unexplained(rail, number=len(stray))
    _freeze(session, merchant_id, {transfer.item_id for transfer in stray})
    for run_id in sorted({attempts[each.item_id][0].run_id for each in stray if each.item_id in attempts}):
        run = runs[run_id]
        if run.status == RunState.EXECUTING:
            emit(session, stop(session, run, UNEXPECTED_TRANSFER, when=when))


def _freeze(session: Session, merchant_id: UUID, item_ids: Set[UUID]) -> None:
    """Keep payouts from being sent for which money is out already: a database that was restored may have forgotten it."""
    if not item_ids:
        return
    execute(
        session,
        """
        UPDATE payout_item SET frozen_code = :code
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[])) AND live AND frozen_code IS NULL
        """,
        {"merchant_id": merchant_id, "ids": sorted(item_ids), "code": UNEXPECTED_TRANSFER},
    )


def _look_up(
    session: Session,
    transfers: Sequence[Transfer],
    attempts: Mapping[UUID, Sequence[Row[Any]]],
    merchant_id: UUID,
    now: datetime,
) -> None:
    """Let the worker look up open attempts of these now, and not when their next turn would be."""
    if not transfers:
        return
    execute(
        session,
        """
        UPDATE payout_attempt SET next_at = :now
        WHERE merchant_id = :merchant_id AND item_id = ANY(CAST(:item_ids AS uuid[])) AND outcome = 'unknown'
          AND next_at > :now
        """,
        {"merchant_id": merchant_id, "now": now, "item_ids": sorted({each.item_id for each in transfers})},
    )
    for run_id in sorted({attempts[each.item_id][0].run_id for each in transfers}):
        wake(session, merchant_id=merchant_id, run_id=run_id, at=now)
