"""Move what is due from pending to payable, one merchant at a time."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.advance import post_settled
from service.commissions.periods import Booked, Changes, book_periods
from service.commissions.rows import Commission, Entry, store_entries
from service.domain.commission import Place, Places, settle_move, settleable
from service.domain.events import EventType
from service.domain.ledger import MerchantTime, Posting
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, run_unit
from service.infra.ids import encode, new_id
from service.ledger.times import merchant_times
from service.outbox.emit import Event, emit


def settle_due(engine: Engine, *, merchant_id: UUID, at: datetime | None = None, limit: int = 500) -> int:
    """Settle everything of a merchant that is due. Returns how many commissions moved.

    at: by the merchant's clock, as books that are made again do; its present when None, read anew by each unit of work.
    limit: most orders per unit of work. Safe to run twice at once and to repeat: a unit of work reads again, under the
    orders' locks, what is still due.
    """
    moved = 0
    while True:
        crash_point(CrashPoint.SETTLE_BEGUN)
        settled, found = run_unit(engine, partial(_settle_batch, merchant_id=merchant_id, at=at, limit=limit))
        crash_point(CrashPoint.SETTLE_COMMITTED)
        moved += settled
        # When there may be more, another turn finds less: whoever held the locks settled what this one did not.
        if found < limit:
            return moved


def _settle_batch(session: Session, *, merchant_id: UUID, at: datetime | None, limit: int) -> tuple[int, int]:
    """Settle the orders of up to `limit` due commissions. Returns (commissions moved, due commissions found).

    An order may have several due commissions, so fewer orders than `limit` do not mean that nothing is left.
    """
    when = merchant_times(session, [merchant_id], at=at)
    now = when[merchant_id].now
    asked = {"merchant_id": merchant_id, "now": now, "limit": limit}
    # The order is the lock shared with intake: whoever holds it is the only one to move the order's commissions. Taken in
    # the order in which intake takes it, sorted by name: two with the same orders would else wait for each other.
    locked = fetch(
        session,
        """
        WITH found AS MATERIALIZED (
            SELECT order_id FROM commission
            WHERE merchant_id = :merchant_id AND pending_minor > 0 AND settles_at IS NOT NULL
              AND (approved_minor IS NULL OR settled_minor < approved_minor) AND settles_at <= :now
              AND NOT EXISTS (SELECT FROM reassess WHERE reassess.merchant_id = commission.merchant_id
                                                     AND reassess.order_id = commission.order_id)
            ORDER BY settles_at, order_id LIMIT :limit)
        SELECT id, (SELECT count(*) FROM found) AS found FROM orders
        WHERE merchant_id = :merchant_id AND id IN (SELECT order_id FROM found)
        ORDER BY merchant_id, source_id, external_id COLLATE "C"
        FOR UPDATE OF orders
        """,
        asked,
    )
    if not locked:
        return 0, 0
    crash_point(CrashPoint.SETTLE_LOCKED)
    # A new statement sees what the last holder of each lock committed: is it still due?
    rows = fetch(
        session,
        """
        SELECT id, order_id, payee_id, currency, pending_minor, held_minor, settled_minor, approved_minor, entry_seq,
               volume_minor, periods
        FROM commission
        WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
          AND pending_minor > 0 AND settles_at <= :now
          -- What it should be may have changed: it is assessed again first.
          AND NOT EXISTS (SELECT FROM reassess WHERE reassess.merchant_id = commission.merchant_id
                                                 AND reassess.order_id = commission.order_id)
        ORDER BY id
        """,
        {"merchant_id": merchant_id, "order_ids": [row.id for row in locked], "now": now},
    )
    due, periods = [], Changes()
    for row in rows:
        places = Places(row.pending_minor, row.held_minor, row.settled_minor)
        amount_minor = settleable(places, approved_minor=row.approved_minor)
        if amount_minor:
            commission = Commission(
                row.id,
                merchant_id,
                row.order_id,
                row.payee_id,
                row.currency,
                places,
                row.entry_seq,
                is_new=False,
                volume_minor=row.volume_minor,
                periods=row.periods,
            )
            periods.leave(commission)
            commission.moves = [settle_move(amount_minor)]
            commission.places = places.after(commission.moves)
            commission.entry_seq += 1
            periods.move(commission)
            due.append(commission)
    if due:
        of_periods = book_periods(session, periods, when)
        _store_settled(session, due, when[merchant_id])
        crash_point(CrashPoint.SETTLE_STORED)
        _book_settled(session, due, of_periods, when)
    crash_point(CrashPoint.SETTLE_BEFORE_COMMIT)
    return len(due), locked[0].found


def _store_settled(session: Session, due: Sequence[Commission], when: MerchantTime) -> None:
    execute(
        session,
        """
        UPDATE commission
        SET pending_minor = made.pending_minor, settled_minor = made.settled_minor, entry_seq = made.entry_seq,
            reason_code = CASE WHEN made.pending_minor = 0 THEN 'earned' ELSE 'above_approved_amount' END,
            updated_at = :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:pending AS bigint[]), CAST(:settled AS bigint[]),
                    CAST(:entry_seqs AS bigint[])) AS made (id, pending_minor, settled_minor, entry_seq)
        WHERE commission.merchant_id = :merchant_id AND commission.id = made.id
        """,
        {
            "merchant_id": due[0].merchant_id,
            "ids": [commission.id for commission in due],
            "pending": [commission.places.pending_minor for commission in due],
            "settled": [commission.places.settled_minor for commission in due],
            "entry_seqs": [commission.entry_seq for commission in due],
            "now": when.now,
        },
    )


def _book_settled(
    session: Session, due: Sequence[Commission], of_periods: Booked, when: dict[UUID, MerchantTime]
) -> None:
    """One posting per payee and currency, however many commissions it gathers; one entry per commission."""
    run_id = new_id()
    by_payee: dict[tuple[UUID, str], list[Commission]] = defaultdict(list)
    for commission in due:
        by_payee[commission.payee_id, commission.currency].append(commission)
    postings, entries = [], []
    for seq, (_, gathered) in enumerate(sorted(by_payee.items(), key=lambda each: (each[0][0].int, each[0][1]))):
        posting = Posting(
            new_id(),
            event=f"settle/{run_id}",
            seq=seq,
            debit=gathered[0].account(Place.PENDING),
            credit=gathered[0].account(Place.PAYABLE),
            amount_minor=sum(commission.moves[0].amount_minor for commission in gathered),
        )
        postings.append(posting)
        entries += [Entry(each, each.entry_seq, each.moves[0], posting.id) for each in gathered]
    kept = post_settled(session, [*postings, *of_periods.postings], when=when)
    store_entries(session, [*entries, *of_periods.entries], kept, when)
    emit(session, [*(_event(commission, when[commission.merchant_id]) for commission in due), *of_periods.events])


def _event(commission: Commission, when: MerchantTime) -> Event:
    assert commission.order_id is not None
    payload = {
        "commission_id": encode("com", commission.id),
        "order_id": encode("ord", commission.order_id),
        "affiliate_id": encode("aff", commission.payee_id),
        "currency": commission.currency,
        "settled_minor": commission.places.settled_minor,
        "pending_minor": commission.places.pending_minor,
    }
    return Event(commission.merchant_id, EventType.COMMISSION_PAYABLE, commission.id, payload, when.now)
