"""Ask a rail what it has before a run hands anything over, and write down whether that is enough."""

from datetime import datetime
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

    now: by our clock.
    """
    with read_session(engine) as session:
        currency, needed_minor = _needed(session, merchant_id, run_id)
    if not needed_minor:
        return
    told = rail.available_minor(currency)
    is_known = not isinstance(told, Answer)
    available_minor = None if isinstance(told, Answer) else told
    state = funding_of(needed_minor=needed_minor, available_minor=available_minor, is_known=is_known)

    def store(session: Session) -> None:
        run = lock_run(session, merchant_id, run_id)
        if run.status != RunState.EXECUTING:
            return
        run.funding = {
            "state": state.value,
            "needed_minor": needed_minor,
            "available_minor": available_minor,
            "code": told.code if isinstance(told, Answer) else "",
            "checked_at": now.isoformat(),
        }
        session.add(run)

    run_unit(engine, store)


def _needed(session: Session, merchant_id: UUID, run_id: UUID) -> tuple[str, int]:
    """The run's currency, and what the payouts come to that are to be planned; 0 where it hands over nothing."""
    rows = fetch(
        session,
        """
        SELECT run.currency, CAST(coalesce(sum(item.net_minor), 0) AS bigint) AS needed_minor
        FROM payout_run AS run
        LEFT JOIN payout_item AS item ON item.merchant_id = run.merchant_id AND item.run_id = run.id
             AND item.live AND item.handed_over_at IS NULL AND item.frozen_code IS NULL
             AND (item.retry_by IS NOT NULL
                  OR NOT EXISTS (SELECT FROM payout_attempt AS attempt
                                 WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id))
        WHERE run.merchant_id = :merchant_id AND run.id = :run_id AND run.status = 'executing'
          AND run.stopped_at IS NULL
        GROUP BY run.currency
        """,
        {"merchant_id": merchant_id, "run_id": run_id},
    )
    return (rows[0].currency, rows[0].needed_minor) if rows else ("", 0)
