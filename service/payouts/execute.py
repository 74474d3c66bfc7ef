"""Take an executing run as far as it can go now: plan, send, look up what is unknown, close. Safe to repeat anywhere."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.payout import (
    UNEXPECTED_TRANSFER,
    Answer,
    AnswerKind,
    Outcome,
    RunState,
    may_send,
    outcome_of,
    proves_absence,
)
from service.domain.payout_control import WaitsFor
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import fetch, run_unit
from service.infra.security import Security
from service.outbox.emit import emit
from service.payouts import tell
from service.payouts.find import lock_run, merchant_time
from service.payouts.fund import fund
from service.payouts.plan import plan
from service.payouts.providers.model import Listing, Rail
from service.payouts.record import Verdict, record, stop_rail
from service.payouts.send import Leased, ask, expire, lease_again, lease_planned, lease_unknown
from service.payouts.wake import RECONCILE, wake
from service.payouts.withdraw import plan_waiting_anew
from service.tables.payouts import PayoutRunRow

PLAN_AT_ONCE = 500
LOOK_AGAIN = timedelta(hours=1)
"""How often a run that waits for people is looked at all the same."""
ASK_AGAIN = timedelta(minutes=5)
"""How soon a rail that did not say what it has is asked again."""
RECONCILE_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sender:
    """What one worker sends with. clock: ours, in UTC. calls: threads that ask the rail."""

    engine: Engine
    security: Security
    rail: Rail
    owner: str
    calls: Executor
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. next_at: when there is something to do again, None when it is over."""

    sent: int
    next_at: datetime | None


def advance(sender: Sender, *, merchant_id: UUID, run_id: UUID, until: datetime) -> Progress:
    """Do all that is due of a run. until: begin nothing new after that, by our clock."""
    recorded = 0
    run_unit(sender.engine, partial(expire, merchant_id=merchant_id, run_id=run_id, now=sender.clock()))
    plan_waiting_anew(sender.engine, merchant_id=merchant_id, run_id=run_id, now=sender.clock())
    fund(sender.engine, sender.rail, merchant_id=merchant_id, run_id=run_id, now=sender.clock())
    while sender.clock() < until:
        planned = run_unit(
            sender.engine,
            partial(
                plan,
                rail=sender.rail,
                security=sender.security,
                merchant_id=merchant_id,
                run_id=run_id,
                limit=PLAN_AT_ONCE,
                now=sender.clock(),
            ),
        )
        crash_point(CrashPoint.PLANNED)
        asked = _send_planned(sender, merchant_id=merchant_id, run_id=run_id, until=until)
        recorded += asked
        if not asked and not planned.attempts and not planned.dropped:
            break
    while sender.clock() < until and (looked := _look_up(sender, merchant_id=merchant_id, run_id=run_id)):
        recorded += looked
    next_at = run_unit(sender.engine, partial(close, merchant_id=merchant_id, run_id=run_id, now=sender.clock()))
    crash_point(CrashPoint.ADVANCED)
    return Progress(recorded, next_at)


def _send_planned(sender: Sender, *, merchant_id: UUID, run_id: UUID, until: datetime) -> int:
    sent = 0
    while sender.clock() < until:
        held = run_unit(
            sender.engine,
            partial(
                lease_planned,
                security=sender.security,
                merchant_id=merchant_id,
                run_id=run_id,
                owner=sender.owner,
                limit=sender.rail.at_once,
                now=sender.clock(),
            ),
        )
        if not held:
            break
        sent += len(held)
        _send(sender, held, merchant_id=merchant_id, run_id=run_id)
    return sent


def _send(sender: Sender, held: list[Leased], *, merchant_id: UUID, run_id: UUID) -> None:
    crash_point(CrashPoint.LEASED)
    # No unit of work is open here: a slow provider must not hold rows or connections.
    answers = list(sender.calls.map(lambda attempt: ask(sender.rail, attempt, sender.clock), held))
    crash_point(CrashPoint.ANSWERED)
    verdicts = [verdict_of_answer(attempt, answer) for attempt, answer in zip(held, answers, strict=True)]
    _record(sender, verdicts, merchant_id=merchant_id, run_id=run_id)


def _look_up(sender: Sender, *, merchant_id: UUID, run_id: UUID) -> int:
    """Look up what is unknown and due, and send again, with the same key, what was not found. Returns how many."""
    held = run_unit(
        sender.engine,
        partial(
            lease_unknown,
            security=sender.security,
            merchant_id=merchant_id,
            run_id=run_id,
            owner=sender.owner,
            limit=sender.rail.at_once,
            now=sender.clock(),
        ),
    )
    if not held:
        return 0
    # A listing shows what was there when it was asked for, however long this process sleeps until it reads it.
    asked_at = sender.clock()
    listings = list(sender.calls.map(lambda attempt: sender.rail.find(attempt.request), held))
    crash_point(CrashPoint.LOOKED_UP)
    now = sender.clock()
    verdicts: list[Verdict] = []
    not_found: list[Leased] = []
    for attempt, listing in zip(held, listings, strict=True):
        if listing.is_empty_for(attempt.number) and may_send(now=now, first_sent_at=attempt.first_sent_at):
            not_found.append(attempt)
        else:
            verdicts.append(verdict_of_listing(attempt, listing, at=asked_at))
    # First: what they say may stop the run, and then nothing is sent again.
    _record(sender, verdicts, merchant_id=merchant_id, run_id=run_id)
    again = run_unit(
        sender.engine,
        partial(lease_again, security=sender.security, held=not_found, owner=sender.owner, now=sender.clock()),
    )
    kept = {attempt.id for attempt in again}
    # Frozen ones are only looked up; they come round again like all others.
    missed = [
        Verdict(attempt, Outcome.UNKNOWN, Answer(AnswerKind.UNKNOWN, code="not_found"))
        for attempt in not_found
        if attempt.id not in kept
    ]
    _record(sender, missed, merchant_id=merchant_id, run_id=run_id)
    if again:
        _send(sender, again, merchant_id=merchant_id, run_id=run_id)
    return len(held)


def verdict_of_answer(attempt: Leased, answer: Answer) -> Verdict:
    """What the answer to a sending proves."""
    stop_code = answer.code if answer.kind is AnswerKind.STOPPED else None
    outcome = outcome_of(answer, sends=attempt.sends, found_elsewhere=False)
    return Verdict(attempt, outcome, answer, listed_empty=attempt.listed_empty, stop_code=stop_code)


def verdict_of_listing(attempt: Leased, listing: Listing, *, at: datetime) -> Verdict:
    """What a look-up proves. A transfer of another attempt of the item must not be there: then people have to look.

    at: when it was asked for.
    """
    if listing.why_unknown is not None:
        return verdict_of_answer(attempt, listing.why_unknown)
    made, strange = listing.made_by(attempt.number), listing.is_strange_for(attempt.number)
    stop_code = UNEXPECTED_TRANSFER if strange else None
    if made is not None:
        told = made.as_answer()
        # What the provider has under this key and says never left is refused for good, however often it was sent.
        refused = Outcome.UNKNOWN if strange else Outcome.REFUSED
        outcome = refused if told.kind is AnswerKind.REFUSED else Outcome.ACCEPTED
        return Verdict(attempt, outcome, told, stop_code=stop_code)
    answer = Answer(AnswerKind.UNKNOWN, code=UNEXPECTED_TRANSFER if strange else "not_found")
    if strange or attempt.first_sent_at is None:
        return Verdict(attempt, Outcome.UNKNOWN, answer, listed_empty=attempt.listed_empty, stop_code=stop_code)
    listed = (*attempt.listed_empty, at)
    absent = proves_absence(listed, first_sent_at=attempt.first_sent_at, last_lease_until=attempt.lease_until, now=at)
    return Verdict(attempt, Outcome.ABSENT if absent else Outcome.UNKNOWN, answer, listed_empty=listed)


def _record(sender: Sender, verdicts: list[Verdict], *, merchant_id: UUID, run_id: UUID) -> None:
    if not verdicts:
        return

    def store(session: Session) -> None:
        now = sender.clock()
        _, when = merchant_time(session, merchant_id, now=now)
        record(session, sender.security, verdicts, run_id=run_id, when=when, now=now)

    run_unit(sender.engine, store)
    crash_point(CrashPoint.RECORDED)
    refused = [verdict for verdict in verdicts if verdict.answer.kind is AnswerKind.STOPPED]
    if refused:
        run_unit(
            sender.engine,
            partial(stop_rail, rail=sender.rail.name, code=refused[0].answer.code, at=sender.clock()),
        )


def close(
    session: Session, *, merchant_id: UUID, run_id: UUID, now: datetime, is_compared: bool = True
) -> datetime | None:
    """Close the run when none of its items holds money any more; else say when to look again.

    is_compared: whether its rail has a list of transfers to compare it with afterwards.
    """
    run = lock_run(session, merchant_id, run_id)
    if run.status != RunState.EXECUTING:
        return None
    rows = fetch(
        session,
        """
        SELECT count(DISTINCT item.id) AS live, min(attempt.next_at) AS next_at,
               bool_or(item.frozen_code IS NULL AND (attempt.id IS NULL OR item.retry_by IS NOT NULL)) AS unplanned
        FROM payout_item AS item
        LEFT JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id AND item.live
        """,
        {"merchant_id": merchant_id, "run_id": run_id},
    )
    _, when = merchant_time(session, merchant_id, now=now)
    waiting = rows[0]
    if waiting.live:
        again: datetime = now + LOOK_AGAIN
        if run.stopped_at is not None:
            return again
        if run.waits_for == WaitsFor.FUNDS_UNKNOWN:
            return now + ASK_AGAIN
        if run.waits_for is not None:
            return again if waiting.next_at is None else min(waiting.next_at, again)
        if waiting.unplanned and when.day >= run.pay_on:
            return now
        return again if waiting.next_at is None else min(waiting.next_at, again)
    run.status, run.closed_at = RunState.CLOSED, when.now
    session.add(run)
    emit(session, [tell.of_run(run, "closed", at=when.now)])
    if is_compared:
        wake(
            session,
            merchant_id=merchant_id,
            run_id=run_id,
            at=now + RECONCILE_AFTER,
            kind=RECONCILE,
            payload={"since": _began(session, run, now=now).isoformat()},
        )
    crash_point(CrashPoint.CLOSE_BEFORE_COMMIT)
    return None


def _began(session: Session, run: PayoutRunRow, *, now: datetime) -> datetime:
    """When the first attempt of a run was made. By our clock, as the rail's: a test merchant's own may be years ahead."""
    rows = fetch(
        session,
        """
        SELECT min(attempt.created_at) AS began
        FROM payout_item AS item
        JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id
        """,
        {"merchant_id": run.merchant_id, "run_id": run.id},
    )
    return rows[0].began or now
