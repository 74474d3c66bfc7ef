"""Give back what an item holds: one item by a person's wish, or all unsent ones of a cancelled run."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.events import EventType
from service.domain.ledger import Account, MerchantTime, Posting
from service.domain.payout import UNEXPECTED_TRANSFER, Excluded, Released, RunState
from service.domain.payout_file import FileState
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.ledger.balance import Kept
from service.ledger.post import post
from service.outbox.emit import Event, emit
from service.payouts import book, tell
from service.payouts.find import demand, known_of, live_items, lock_run, lock_run_of
from service.payouts.wake import wake
from service.payouts.withdraw import end_planned, plan_anew
from service.tables.payouts import PayoutItemRow, PayoutRunRow


class MayHaveBeenSent(Conflict):
    code = "payout-may-have-been-sent"
    title = "The payout may have been sent"


def release(session: Session, *, merchant_id: UUID, item_id: UUID, when: MerchantTime, now: datetime) -> PayoutItemRow:
    """Take one item out of its run and give its money back to the payee's balances. now: by our clock.

    Raises MayHaveBeenSent unless it is certain that no attempt paid it.
    """
    run, item = lock_run_of(session, merchant_id, item_id)
    if item.released_at is not None:
        return item
    if not item.live or known_of(session, merchant_id, [item_id])[item_id].has_open_attempt:
        raise MayHaveBeenSent(f"Payout {ids.encode('pay', item_id)} was handed to the rail.")
    kept = post(
        session,
        book.released(item),
        when={merchant_id: when},
        touched=[book.payable(item)],
    )
    emit(session, store_released(session, {item.id: Released.BY_PERSON}, [item], kept, at=when.now))
    if run.status == RunState.EXECUTING:
        wake(session, merchant_id=merchant_id, run_id=run.id, at=now)
    return item


def cancel(session: Session, *, merchant_id: UUID, run_id: UUID, when: MerchantTime, now: datetime) -> PayoutRunRow:
    """Release every item that was not sent. A run with items that were, or may have been, goes on with those alone.

    Also with those whose rail lists a transfer that we do not know of: a person releases each, knowing that it is out.
    """
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.DRAFT, RunState.SUBMITTED, RunState.APPROVED, RunState.EXECUTING)
    items = live_items(session, run)
    withdrawn = end_planned(session, run)
    void_built(session, run, when=when)
    known = known_of(session, merchant_id, [item.id for item in items])
    kept_back = {item.id for item in items if item.frozen_code == UNEXPECTED_TRANSFER}
    unsent = [item for item in items if not known[item.id].has_open_attempt and item.id not in kept_back]
    ended = {item_id: number for item_id, number in withdrawn.items() if item_id in kept_back}
    plan_anew(session, merchant_id, ended, by=None, when=when)
    postings: list[Posting] = []
    for item in unsent:
        if item.id in withdrawn:
            postings += book.not_sent(item, number=withdrawn[item.id])
        postings += book.released(item)
    kept = post(session, postings, when={merchant_id: when}, touched=[book.payable(item) for item in unsent])
    reasons = {item.id: Released.RUN_CANCELLED for item in unsent}
    events = store_released(session, reasons, unsent, kept, at=when.now)
    if not kept_back and (run.executed_at is None or not _sent_any(session, run)):
        run.status = RunState.CANCELLED
        run.closed_at = when.now
        session.add(run)
        events.append(tell.of_run(run, "cancelled", at=when.now, released=len(unsent)))
    else:
        wake(session, merchant_id=merchant_id, run_id=run_id, at=now)
    emit(session, events)
    return run


def store_released(
    session: Session,
    reasons: Mapping[UUID, Excluded | Released],
    items: Sequence[PayoutItemRow],
    kept: Mapping[Account, Kept],
    *,
    at: datetime,
) -> list[Event]:
    """Mark items released, whose postings are booked already. Returns what to tell. kept: balances after booking.

    at: by the merchant's clock.
    """
    if not items:
        return []
    versions = [kept[book.payable(item)].version for item in items]
    execute(
        session,
        """
        UPDATE payout_item SET live = false, released_at = :at, release_reason = made.reason,
               gave_back_version = made.gave_back_version, handed_over_at = NULL, retry_by = NULL
        FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[]), CAST(:versions AS bigint[]))
             AS made (id, reason, gave_back_version)
        WHERE payout_item.merchant_id = :merchant_id AND payout_item.id = made.id
        """,
        {
            "merchant_id": items[0].merchant_id,
            "at": at,
            "ids": [item.id for item in items],
            "reasons": [reasons[item.id].value for item in items],
            "versions": versions,
        },
    )
    crash_point(CrashPoint.RELEASE_BEFORE_COMMIT)
    for item in items:
        if item in session:
            session.expire(item)
    return [tell.of_item(item, "released", at=at, reason_code=reasons[item.id].value) for item in items]


def _sent_any(session: Session, run: PayoutRunRow) -> bool:
    rows = fetch(
        session,
        """
        SELECT EXISTS (SELECT FROM payout_item
                       WHERE merchant_id = :merchant_id AND run_id = :run_id AND released_at IS NULL) AS sent
        """,
        {"merchant_id": run.merchant_id, "run_id": run.id},
    )
    return bool(rows[0].sent)


def void_built(session: Session, run: PayoutRunRow, *, when: MerchantTime, file_id: UUID | None = None) -> None:
    """Withdraw a locked run's files that nobody has had. Their attempts have to be ended beside it.

    file_id: only this one, if given.
    """
    files = fetch(
        session,
        """
        UPDATE payout_file SET state = :void, voided_at = :at
        WHERE merchant_id = :merchant_id AND run_id = :run_id AND state = :built
          AND (CAST(:file_id AS uuid) IS NULL OR id = CAST(:file_id AS uuid))
        RETURNING merchant_id, id, run_id, number, rail, currency, state, lines, control_sum_minor, built_at
        """,
        {
            "merchant_id": run.merchant_id,
            "run_id": run.id,
            "void": FileState.VOID.value,
            "built": FileState.BUILT.value,
            "at": when.now,
            "file_id": file_id,
        },
    )
    emit(session, [tell.of_file(file, EventType.PAYOUT_FILE_VOIDED, when=when) for file in files])
