"""Watch what programmes cost, and pause those whose budget is taken."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_never
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.budget import AtLimit, Running, Turn, effect_once_raised, effect_once_taken, turn
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
    running = _running(session, merchant_id, {budget.program_id for budget in budgets})
    reached = {budget.id: budget.reached_limit_minor for budget in budgets}
    turns: list[tuple[Any, Turn]] = []
    words: list[_Word] = []
    events: list[Event] = []
    for budget in budgets:
        became = turn(
            used_minor=taken[budget.id],
            limit_minor=budget.limit_minor,
            reached_limit_minor=reached[budget.id],
            warned=budget.warned_at is not None,
        )
        if became is None:
            continue
        present = running.get(budget.program_id, Running())
        effect = None
        if became is Turn.REACHED:
            reached[budget.id] = budget.limit_minor
            effect = effect_once_taken(AtLimit(budget.at_limit), present)
        elif became is Turn.REOPENED:
            reached[budget.id] = None
            others = [
                AtLimit(other.at_limit)
                for other in budgets
                if other.program_id == budget.program_id and reached[other.id] is not None
            ]
            effect = effect_once_raised(others, present)
        begins = None
        if effect is not None:
            begins = _after(present, now + CLOCK_TOLERANCE)
            words.append(_Word(budget.program_id, begins, effect))
            running[budget.program_id] = Running(begins, effect, by_budget=effect is not PauseEffect.NONE)
        turns.append((budget, became))
        events.append(_event(budget, became, taken[budget.id], begins, now))
    _mark(session, merchant_id, turns, now)
    _say(session, merchant_id, words, now)
    emit(session, events)
    return len(events)


@dataclass(frozen=True, slots=True)
class _Word:
    """How a programme runs from a moment on."""

    program_id: UUID
    begins: datetime
    effect: PauseEffect


def _running(session: Session, merchant_id: UUID, program_ids: Iterable[UUID]) -> dict[UUID, Running]:
    rows = fetch(
        session,
        """
        SELECT DISTINCT ON (program_id) program_id, valid_from, effect, reason_code FROM program_pause
        WHERE merchant_id = :merchant_id AND program_id = ANY(CAST(:ids AS uuid[]))
        ORDER BY program_id, valid_from DESC
        """,
        {"merchant_id": merchant_id, "ids": list(program_ids)},
    )
    return {
        row.program_id: Running(row.valid_from, PauseEffect(row.effect), by_budget=row.reason_code == REASON)
        for row in rows
    }


def _after(present: Running, begins: datetime) -> datetime:
    """A moment at which a new word on a programme may begin: after the newest."""
    return begins if present.since is None or present.since < begins else present.since + timedelta(microseconds=1)


def _event(budget: Any, became: Turn, used_minor: int, begins: datetime | None, now: datetime) -> Event:
    payload: dict[str, Any] = {
        "budget_id": encode("bud", budget.id),
        "program_id": encode("prg", budget.program_id),
        "currency": budget.currency,
        "limit_minor": budget.limit_minor,
        "used_minor": used_minor,
        "at_limit": budget.at_limit,
    }
    from_when = None if begins is None else begins.isoformat()
    match became:
        case Turn.NEAR:
            return Event(budget.merchant_id, EventType.BUDGET_NEAR, budget.id, payload, now)
        case Turn.REACHED:
            payload["paused_from"] = from_when
            return Event(budget.merchant_id, EventType.BUDGET_REACHED, budget.id, payload, now)
        case Turn.REOPENED:
            payload["runs_from"] = from_when
            return Event(budget.merchant_id, EventType.BUDGET_REOPENED, budget.id, payload, now)
        case _:
            assert_never(became)


def _mark(session: Session, merchant_id: UUID, turns: Sequence[tuple[Any, Turn]], now: datetime) -> None:
    if not turns:
        return
    execute(
        session,
        """
        UPDATE budget
        SET reached_limit_minor = CASE WHEN turn = 'reached' THEN limit_minor END,
            reached_at = CASE WHEN turn = 'reached' THEN CAST(:now AS timestamptz) END,
            warned_at = CASE WHEN turn <> 'reopened' THEN coalesce(warned_at, :now) END
        FROM unnest(CAST(:ids AS uuid[]), CAST(:turns AS text[])) AS became (id, turn)
        WHERE budget.merchant_id = :merchant_id AND budget.id = became.id
        """,
        {
            "now": now,
            "merchant_id": merchant_id,
            "ids": [budget.id for budget, _ in turns],
            "turns": [became.value for _, became in turns],
        },
    )


def _say(session: Session, merchant_id: UUID, words: Sequence[_Word], now: datetime) -> None:
    if not words:
        return
    execute(
        session,
        """
        INSERT INTO program_pause (merchant_id, program_id, valid_from, effect, reason_code, recorded_at)
        SELECT :merchant_id, program_id, begins, effect, reason_code, :now
        FROM unnest(CAST(:program_ids AS uuid[]), CAST(:begins AS timestamptz[]), CAST(:effects AS text[]),
                    CAST(:reasons AS text[])) AS said (program_id, begins, effect, reason_code)
        """,
        {
            "merchant_id": merchant_id,
            "program_ids": [word.program_id for word in words],
            "begins": [word.begins for word in words],
            "effects": [word.effect.value for word in words],
            "reasons": [RAISED if word.effect is PauseEffect.NONE else REASON for word in words],
            "now": now,
        },
    )
