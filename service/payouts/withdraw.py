"""End attempts that were planned and never leased: nothing of them can be on its way."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.ledger import MerchantTime
from service.domain.payout import Outcome, RunState
from service.infra.db import execute, fetch, run_unit
from service.ledger.post import post
from service.payouts import book
from service.payouts.find import items_of, lock_run, merchant_time
from service.tables.payouts import PayoutRunRow

WAITS_AT_MOST = timedelta(minutes=5)
"""What was planned longer ago, or on another day, is planned anew before it is sent: payees, taxes and limits are as they are then."""


def end_planned(session: Session, run: PayoutRunRow, *, file_id: UUID | None = None) -> dict[UUID, int]:
    """End those of a locked run, or of one of its files. Maps item id to the attempt's number.

    The worker leases by the same condition on the same rows, so only one of the two gets each.
    """
    in_file = """
        EXISTS (SELECT FROM payout_file_line AS line
                WHERE line.merchant_id = attempt.merchant_id AND line.file_id = :file_id AND line.attempt_id = attempt.id)
    """
    return _end(session, run, "true" if file_id is None else in_file, {"file_id": file_id})


def plan_anew(
    session: Session, merchant_id: UUID, numbers: Mapping[UUID, int], *, by: UUID | None, when: MerchantTime
) -> None:
    """Take the money of ended attempts out of transit and let their items be planned again.

    numbers: what was ended. by: the key that asks for the next attempts; None where a person has to.
    """
    if not numbers:
        return
    items = items_of(session, merchant_id, list(numbers))
    not_sent = [posting for item in items for posting in book.not_sent(item, number=numbers[item.id])]
    post(session, not_sent, when={merchant_id: when})
    execute(
        session,
        """
        UPDATE payout_item SET handed_over_at = NULL, retry_by = :by
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "by": by, "ids": list(numbers)},
    )


def plan_waiting_anew(
    engine: Engine, *, merchant_id: UUID, run_id: UUID, now: datetime, waits_at_most: timedelta | None = WAITS_AT_MOST
) -> int:
    """Withdraw what a run planned and did not send for a while: its rail was stopped, or the worker died. now: our clock.

    waits_at_most: None where only another day counts. Returns how many there were; those in files are their hand-over's
    to look at.
    """
    before = None if waits_at_most is None else now - waits_at_most
    return run_unit(engine, partial(_plan_waiting_anew, merchant_id=merchant_id, run_id=run_id, now=now, before=before))


def _plan_waiting_anew(
    session: Session, *, merchant_id: UUID, run_id: UUID, now: datetime, before: datetime | None
) -> int:
    run = lock_run(session, merchant_id, run_id)
    if run.status != RunState.EXECUTING:
        return 0
    _, when = merchant_time(session, merchant_id, now=now)
    # Limits of days and months gave it room on the day it was planned.
    alone = """
        (attempt.created_at < CAST(:before AS timestamptz) OR CAST(item.handed_over_at AT TIME ZONE :time_zone AS date) < :today)
        AND NOT EXISTS (SELECT FROM payout_file_line AS line
                        WHERE line.merchant_id = attempt.merchant_id AND line.attempt_id = attempt.id)
    """
    given = {"before": before, "time_zone": when.time_zone, "today": when.day}
    numbers = _end(session, run, alone, given)
    plan_anew(session, merchant_id, numbers, by=run.approved_by, when=when)
    return len(numbers)


def _end(session: Session, run: PayoutRunRow, which: str, given: Mapping[str, Any]) -> dict[UUID, int]:
    rows = fetch(
        session,
        f"""
        UPDATE payout_attempt AS attempt
        SET outcome = :absent, code = 'withdrawn', next_at = NULL, proof = CAST('{{"never_sent": true}}' AS jsonb)
        FROM payout_item AS item
        WHERE attempt.merchant_id = :merchant_id AND attempt.outcome = :planned AND attempt.sends = 0
          AND item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id AND item.run_id = :run_id
          AND {which}
        RETURNING attempt.item_id, attempt.number
        """,  # noqa: S608 - the conditions are ours
        {
            **given,
            "merchant_id": run.merchant_id,
            "run_id": run.id,
            "absent": Outcome.ABSENT.value,
            "planned": Outcome.PLANNED.value,
        },
    )
    return {row.item_id: row.number for row in rows}
