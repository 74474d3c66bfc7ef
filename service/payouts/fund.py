"""Ask a rail what it has before a run hands anything over, and write down whether that is enough."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.payout import Answer, RunState
from service.domain.payout_control import funding_of
from service.infra.db import fetch, read_session, run_unit
from service.payouts.find import lock_run
from service.payouts.providers.model import Rail


def fund(engine: Engine, rail: Rail, *, merchant_id: UUID, run_id: UUID, now: datetime) -> None:
    """Look whether the rail can pay what a run has not handed over yet. Nothing is open while it is asked.

    A run that waited for money and has nothing left to send waits no more. now: by our clock.
    """
    with read_session(engine) as session:
        currency, needed_minor, has_waited = _needed(session, merchant_id, run_id)
    if not needed_minor:
        if has_waited:
            run_unit(engine, partial(_store, merchant_id=merchant_id, run_id=run_id, funding=None))
        return
    told = rail.available_minor(currency)
    is_known = not isinstance(told, Answer)
    available_minor = None if isinstance(told, Answer) else told
    funding = {
        "state": funding_of(needed_minor=needed_minor, available_minor=available_minor, is_known=is_known).value,
        "needed_minor": needed_minor,
        "available_minor": available_minor,
        "code": told.code if isinstance(told, Answer) else "",
        "checked_at": now.isoformat(),
    }
    run_unit(engine, partial(_store, merchant_id=merchant_id, run_id=run_id, funding=funding))


def _store(session: Session, *, merchant_id: UUID, run_id: UUID, funding: dict[str, Any] | None) -> None:
    run = lock_run(session, merchant_id, run_id)
    if run.status == RunState.EXECUTING:
        run.funding = funding
        session.add(run)


def _needed(session: Session, merchant_id: UUID, run_id: UUID) -> tuple[str, int, bool]:
    """The run's currency, what the payouts come to that are to be planned, and whether it waited for money when last asked.

    0 where it hands over nothing.
    """
    rows = fetch(
        session,
        """
        SELECT run.currency, CAST(coalesce(sum(item.net_minor), 0) AS bigint) AS needed_minor,
               coalesce(run.funding ->> 'state' IN ('short', 'unknown'), false) AS has_waited
        FROM payout_run AS run
        LEFT JOIN payout_item AS item ON item.merchant_id = run.merchant_id AND item.run_id = run.id
             AND item.live AND item.handed_over_at IS NULL AND item.frozen_code IS NULL
             AND (item.retry_by IS NOT NULL
                  OR NOT EXISTS (SELECT FROM payout_attempt AS attempt
                                 WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id))
        WHERE run.merchant_id = :merchant_id AND run.id = :run_id AND run.status = 'executing'
          AND run.stopped_at IS NULL
        GROUP BY run.currency, run.funding
        """,
        {"merchant_id": merchant_id, "run_id": run_id},
    )
    return (rows[0].currency, rows[0].needed_minor, rows[0].has_waited) if rows else ("", 0, False)
