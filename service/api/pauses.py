"""Pauses: a programme stops, or has a person look at each order, and runs again; each from a moment on."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from fastapi import APIRouter
from sqlmodel import Session, col, select

from service.api.dated import check_follows, start_of
from service.api.deps import Admin, Caller, WriteSession
from service.api.traceable import program_of
from service.api.views import Body, Moment, ProgramId, ReasonCode, View
from service.domain.dated import PauseEffect, as_of
from service.domain.errors import Conflict
from service.tables.programs import ProgramPauseRow

router = APIRouter(tags=["programs"])


class PauseUnchanged(Conflict):
    """The programme runs like that already, or will by what was said last."""

    code = "pause-unchanged"
    title = "The programme runs like this already"


class PauseCreate(Body):
    effect: Literal[PauseEffect.STOP, PauseEffect.REVIEW]
    """stop: orders placed meanwhile earn nothing. review: they earn, and wait for a person's approval."""
    reason_code: ReasonCode
    valid_from: Moment | None = None
    """At least five minutes ahead; null: five minutes ahead."""


class PauseEnd(Body):
    reason_code: ReasonCode | None = None
    valid_from: Moment | None = None
    """As with a pause."""


class PauseView(View):
    """How a programme runs, for orders placed from a moment on."""

    effect: PauseEffect
    reason_code: str | None
    valid_from: Moment
    recorded_at: Moment

    @classmethod
    def of(cls, row: ProgramPauseRow) -> Self:
        return cls(
            effect=PauseEffect(row.effect),
            reason_code=row.reason_code,
            valid_from=row.valid_from,
            recorded_at=row.recorded_at,
        )


class RunningView(View):
    """How a programme runs now, and how it will."""

    program_id: ProgramId
    effect: PauseEffect
    """Of this moment; none: it runs."""
    now: PauseView | None
    """Null: it was never paused."""
    coming: list[PauseView]
    """What was said for later, the next first."""

    @classmethod
    def of(cls, program_id: UUID, rows: Iterable[ProgramPauseRow], at: datetime) -> Self:
        """rows: of the programme, oldest first."""
        states = list(rows)
        now = as_of(states, at)
        return cls(
            program_id=program_id,
            effect=PauseEffect.NONE if now is None else PauseEffect(now.effect),
            now=None if now is None else PauseView.of(now),
            coming=[PauseView.of(row) for row in states if row.valid_from > at],
        )


@router.post("/v1/programs/{program_id}/pause", status_code=201)
def pause_program(program_id: ProgramId, asked: PauseCreate, caller: Admin, session: WriteSession) -> RunningView:
    """Pause a programme for orders placed from a moment on. Orders placed before are untouched, whenever they arrive."""
    return _record(session, caller, program_id, PauseEffect(asked.effect), asked.reason_code, asked.valid_from)


@router.post("/v1/programs/{program_id}/resume", status_code=201)
def resume_program(program_id: ProgramId, asked: PauseEnd, caller: Admin, session: WriteSession) -> RunningView:
    """Let a paused programme run again, for orders placed from a moment on."""
    return _record(session, caller, program_id, PauseEffect.NONE, asked.reason_code, asked.valid_from)


def pauses_of(
    session: Session, merchant_id: UUID, program_ids: Iterable[UUID]
) -> defaultdict[UUID, list[ProgramPauseRow]]:
    """Maps programme to how it ran and will run, oldest first; empty for those never paused."""
    pauses = defaultdict[UUID, list[ProgramPauseRow]](list)
    for row in session.exec(
        select(ProgramPauseRow)
        .where(col(ProgramPauseRow.merchant_id) == merchant_id, col(ProgramPauseRow.program_id).in_(set(program_ids)))
        .order_by(col(ProgramPauseRow.valid_from))
    ):
        pauses[row.program_id].append(row)
    return pauses


def _record(
    session: Session,
    caller: Caller,
    program_id: UUID,
    effect: PauseEffect,
    reason_code: str | None,
    asked: datetime | None,
) -> RunningView:
    program_of(session, caller.merchant_id, program_id)
    # Also keeps two that say how the programme runs from doing so at one time.
    valid_from = start_of(session, caller.merchant_id, asked=asked, recorded_at=caller.now, is_first=False)
    known = pauses_of(session, caller.merchant_id, [program_id])[program_id]
    newest = known[-1] if known else None
    if effect == (PauseEffect.NONE if newest is None else newest.effect):
        raise PauseUnchanged("Read the programme: what was said last, be it for later, says so already.")
    check_follows(valid_from, newest.valid_from if newest else None)
    row = ProgramPauseRow(
        merchant_id=caller.merchant_id,
        program_id=program_id,
        valid_from=valid_from,
        effect=effect,
        reason_code=reason_code,
        recorded_at=caller.now,
    )
    session.add(row)
    session.flush()
    return RunningView.of(program_id, [*known, row], caller.now)
