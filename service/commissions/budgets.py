"""Watch what programmes cost, and pause those whose budget is taken."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.budget import AtLimit, effect_of, is_near
from service.domain.dated import PauseEffect
from service.domain.events import EventType
from service.domain.program import CLOCK_TOLERANCE
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, run_unit
from service.infra.ids import encode
from service.outbox.emit import Event, emit

REASON = "budget_reached"
"""Why a programme was paused, and why it runs again, where a budget did it."""
RAISED = "budget_raised"


def watch_budgets(engine: Engine, merchant_id: UUID) -> int:
    """Pause a merchant's programmes whose budget is taken, and let run again those whose budget was raised.

    Returns how many budgets changed. What orders earn counts from when it is pending, so a budget reserves it. A pause
    begins five minutes after it is recorded, as every dated input does: what is placed until then still earns.
    """
    return run_unit(engine, partial(_watch, merchant_id=merchant_id))


def used(session: Session, merchant_id: UUID, budgets: Sequence[UUID]) -> dict[UUID, int]:
    """What each budget's orders and periods come to, in minor units."""
    rows = fetch(
        session,
        """
        SELECT budget.id, CAST(coalesce(sum(commission.target_minor), 0) AS bigint) AS used_minor
        FROM budget
        LEFT JOIN commission
          ON commission.merchant_id = budget.merchant_id AND commission.program_id = budget.program_id
         AND commission.currency = budget.currency AND commission.placed_at >= budget.starts_at
         AND (budget.ends_at IS NULL OR commission.placed_at < budget.ends_at)
        WHERE budget.merchant_id = :merchant_id AND budget.id = ANY(CAST(:ids AS uuid[]))
        GROUP BY budget.id
        """,
        {"merchant_id": merchant_id, "ids": list(budgets)},
    )
    return {row.id: row.used_minor for row in rows}


def _watch(session: Session, *, merchant_id: UUID) -> int:
    budgets = fetch(
        session,
        "SELECT * FROM budget WHERE merchant_id = :merchant_id AND closed_at IS NULL ORDER BY id FOR UPDATE",
        {"merchant_id": merchant_id},
    )
    if not budgets:
        return 0
    # Whoever else says how a programme runs holds the merchant's row too.
    [merchant] = fetch(
        session, "SELECT clock_offset_s FROM merchant WHERE id = :id FOR NO KEY UPDATE", {"id": merchant_id}
    )
    now = utc_now() + timedelta(seconds=merchant.clock_offset_s)
    taken = used(session, merchant_id, [budget.id for budget in budgets])
    events: list[Event] = []
    for budget in budgets:
        events += _judged(session, budget, taken[budget.id], now)
    emit(session, events)
    return len(events)


def _judged(session: Session, budget: Any, used_minor: int, now: datetime) -> list[Event]:
    """What became of one budget. Few programmes have one, so each is written for itself."""
    told: Mapping[str, Any] = {
        "budget_id": encode("bud", budget.id),
        "program_id": encode("prg", budget.program_id),
        "currency": budget.currency,
        "limit_minor": budget.limit_minor,
        "used_minor": used_minor,
        "at_limit": budget.at_limit,
    }
    effect = effect_of(AtLimit(budget.at_limit))
    if budget.reached_at is None and used_minor >= budget.limit_minor:
        begins = _run(session, budget, effect, REASON, now) if effect is not PauseEffect.NONE else None
        _mark(session, budget, now, reached=budget.limit_minor)
        payload = {**told, "paused_from": None if begins is None else begins.isoformat()}
        return [Event(budget.merchant_id, EventType.BUDGET_REACHED, budget.id, payload, now)]
    raised = budget.reached_at is not None and budget.limit_minor > budget.reached_limit_minor
    if raised and used_minor < budget.limit_minor:
        begins = _run_again(session, budget, now)
        _mark(session, budget, now, reached=None)
        payload = {**told, "runs_from": None if begins is None else begins.isoformat()}
        return [Event(budget.merchant_id, EventType.BUDGET_REOPENED, budget.id, payload, now)]
    if budget.warned_at is None and budget.reached_at is None and is_near(used_minor, budget.limit_minor):
        execute(
            session,
            "UPDATE budget SET warned_at = :now WHERE merchant_id = :merchant_id AND id = :id",
            {"now": now, "merchant_id": budget.merchant_id, "id": budget.id},
        )
        return [Event(budget.merchant_id, EventType.BUDGET_NEAR, budget.id, dict(told), now)]
    return []


def _mark(session: Session, budget: Any, now: datetime, *, reached: int | None) -> None:
    execute(
        session,
        """
        UPDATE budget SET reached_limit_minor = CAST(:reached AS bigint),
                          reached_at = CASE WHEN CAST(:reached AS bigint) IS NULL THEN NULL ELSE :now END,
                          warned_at = CASE WHEN CAST(:reached AS bigint) IS NULL THEN NULL ELSE coalesce(warned_at, :now) END
        WHERE merchant_id = :merchant_id AND id = :id
        """,
        {"reached": reached, "now": now, "merchant_id": budget.merchant_id, "id": budget.id},
    )


def _newest(session: Session, budget: Any) -> Any:
    rows = fetch(
        session,
        """
        SELECT valid_from, effect, reason_code FROM program_pause
        WHERE merchant_id = :merchant_id AND program_id = :program_id ORDER BY valid_from DESC LIMIT 1
        """,
        {"merchant_id": budget.merchant_id, "program_id": budget.program_id},
    )
    return rows[0] if rows else None


def _run(session: Session, budget: Any, effect: PauseEffect, reason: str, now: datetime) -> datetime | None:
    """Say how the programme runs, unless it runs so already or is stopped altogether. Returns from when on."""
    newest = _newest(session, budget)
    present = PauseEffect.NONE if newest is None else PauseEffect(newest.effect)
    if present is effect or (present is PauseEffect.STOP and effect is PauseEffect.REVIEW):
        return None
    begins = now + CLOCK_TOLERANCE
    if newest is not None and newest.valid_from >= begins:
        begins = newest.valid_from + timedelta(microseconds=1)
    execute(
        session,
        """
        INSERT INTO program_pause (merchant_id, program_id, valid_from, effect, reason_code, recorded_at)
        VALUES (:merchant_id, :program_id, :begins, :effect, :reason, :now)
        """,
        {
            "merchant_id": budget.merchant_id,
            "program_id": budget.program_id,
            "begins": begins,
            "effect": effect.value,
            "reason": reason,
            "now": now,
        },
    )
    return begins


def _run_again(session: Session, budget: Any, now: datetime) -> datetime | None:
    """Undo a pause that a budget made, unless another one of the programme is taken too."""
    newest = _newest(session, budget)
    if newest is None or newest.reason_code != REASON:
        return None
    others = fetch(
        session,
        """
        SELECT at_limit FROM budget
        WHERE merchant_id = :merchant_id AND program_id = :program_id AND id <> :id AND reached_at IS NOT NULL
          AND closed_at IS NULL AND at_limit <> 'tell'
        ORDER BY CASE at_limit WHEN 'stop' THEN 0 ELSE 1 END
        """,
        {"merchant_id": budget.merchant_id, "program_id": budget.program_id, "id": budget.id},
    )
    if others:
        effect = effect_of(AtLimit(others[0].at_limit))
        return _run(session, budget, effect, REASON, now) if effect is not PauseEffect(newest.effect) else None
    return _run(session, budget, PauseEffect.NONE, RAISED, now)
