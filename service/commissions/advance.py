"""Lend payees a part of what only waits for the merchant's approval on its pay day, and net it when they settle.

An advance is a loan on an account of its own: given, it moves advance → payable, so that the account stands below zero
by what is owed; settling moves it back. Whatever becomes of the order, the loan stands until it is netted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.domain.advance import AdvanceKind, advance_minor, repayment_minor
from service.domain.commission import CommissionReason
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.settlement import Outlook
from service.infra.db import execute, fetch, run_unit
from service.infra.ids import encode, new_id
from service.ledger.balance import Kept, lock_accounts
from service.ledger.post import post
from service.ledger.times import merchant_times

_SETTLED = (AccountKind.PENDING, AccountKind.PAYABLE)


@dataclass(frozen=True, slots=True)
class _Moved:
    """An advance given or repaid. commission_id, cut_off_on: of one given."""

    kind: AdvanceKind
    posting: Posting
    payable: Account
    commission_id: UUID | None = None
    cut_off_on: date | None = None


def give_due(engine: Engine, *, merchant_id: UUID, limit: int = 500) -> int:
    """Give every advance of a merchant that is due. Returns how many were given.

    limit: most orders per unit of work. Safe to run twice at once and to repeat: each commission gets one advance for
    each statement it is late on, which its key in the table and the event of its posting see to.
    """
    given = 0
    found = limit
    while found == limit:
        lent, found = run_unit(engine, partial(_give_batch, merchant_id=merchant_id, limit=limit))
        given += lent
    return given


def post_settled(
    session: Session, postings: Sequence[Posting], *, when: Mapping[UUID, MerchantTime]
) -> dict[Account, Kept]:
    """Post settlements, each move pending → payable with what its payee gives back of advances. Returns as `post` does.

    postings: of one merchant; whatever else moves with the settlements is posted as it is.
    """
    moved = _repayments(session, postings)
    kept = post(session, [*postings, *(each.posting for each in moved)], when=when)
    _store(session, moved, kept, when)
    return kept


def _give_batch(session: Session, *, merchant_id: UUID, limit: int) -> tuple[int, int]:
    """Returns (advances given, due commissions found)."""
    when = merchant_times(session, [merchant_id])
    now = when[merchant_id].now
    # The orders are locked as `settle` locks them: what is pending and unapproved stays so until the advance is booked.
    locked = fetch(
        session,
        """
        WITH found AS MATERIALIZED (
            SELECT order_id FROM commission
            WHERE merchant_id = :merchant_id AND pending_minor > 0 AND advance_at IS NOT NULL AND advance_at <= :now
            ORDER BY advance_at, order_id LIMIT :limit)
        SELECT id, (SELECT count(*) FROM found) AS found FROM orders
        WHERE merchant_id = :merchant_id AND id IN (SELECT order_id FROM found)
        ORDER BY merchant_id, source_id, external_id COLLATE "C"
        FOR UPDATE OF orders
        """,
        {"merchant_id": merchant_id, "now": now, "limit": limit},
    )
    if not locked:
        return 0, 0
    # A new statement sees what the last holder of each lock committed: is it still late?
    due = fetch(
        session,
        """
        SELECT commission.id, payee_id, currency, pending_minor, reason_code, outlook, lent.amount_minor AS given_minor, lent.cut_offs
        FROM commission
        CROSS JOIN LATERAL (
            SELECT CAST(coalesce(sum(advance.amount_minor), 0) AS bigint) AS amount_minor,
                   array_agg(advance.cut_off_on) AS cut_offs
            FROM advance
            WHERE advance.merchant_id = commission.merchant_id AND advance.commission_id = commission.id
        ) AS lent
        WHERE commission.merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
          AND pending_minor > 0 AND advance_at <= :now
        ORDER BY commission.id
        """,
        {"merchant_id": merchant_id, "order_ids": [row.id for row in locked], "now": now},
    )
    moved = [each for each in (_advance(merchant_id, row) for row in due) if each is not None]
    kept = post(session, [each.posting for each in moved], when=when)
    _store(session, moved, kept, when)
    # Looked at: whatever is told of the order next says anew whether an advance is due.
    execute(
        session,
        """
        UPDATE commission SET advance_at = NULL
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "ids": [row.id for row in due]},
    )
    return len(moved), locked[0].found


def _advance(merchant_id: UUID, row: Row[Any]) -> _Moved | None:
    """The advance on a commission, None when it had that of its statement already or there is nothing more to lend."""
    if row.reason_code != CommissionReason.AWAITING_APPROVAL:
        # A process of the release before 0014, which knows no outlooks, has booked an approval.
        return None
    outlook = Outlook.of_json(row.outlook)
    assert outlook.statement is not None
    assert outlook.advance is not None
    cut_off_on = outlook.statement.cut_off_on
    amount_minor = advance_minor(outlook.advance, pending_minor=row.pending_minor, given_minor=row.given_minor)
    if not amount_minor or cut_off_on in (row.cut_offs or ()):
        return None
    advance, payable = (
        Account(merchant_id, row.payee_id, kind, row.currency) for kind in (AccountKind.ADVANCE, AccountKind.PAYABLE)
    )
    event = f"advance/{encode('com', row.id)}/{cut_off_on.isoformat()}"
    posting = Posting(new_id(), event, seq=0, debit=advance, credit=payable, amount_minor=amount_minor)
    return _Moved(AdvanceKind.GIVEN, posting, payable, row.id, cut_off_on)


def _repayments(session: Session, postings: Sequence[Posting]) -> list[_Moved]:
    """What the payees of settlements give back, with all balances locked that it depends on or that are moved with it."""
    settled = [each for each in postings if (each.debit.kind, each.credit.kind) == _SETTLED]
    if not settled:
        return []
    owing = fetch(
        session,
        """
        SELECT owner_id, currency FROM balance
        WHERE merchant_id = :merchant_id AND owner_id = ANY(CAST(:owner_ids AS uuid[])) AND kind = 'advance'
          AND amount_minor < 0
        """,
        {
            "merchant_id": postings[0].merchant_id,
            "owner_ids": [each.credit.owner_id for each in settled],
        },
    )
    if not {(row.owner_id, row.currency) for row in owing} & {
        (each.credit.owner_id, each.credit.currency) for each in settled
    }:
        return []
    # All that `post` is going to move, in its own order, so that nobody waits for us in a circle. An advance that is
    # being given at this moment is netted by the next settlement.
    loans = {_loan(each) for each in settled}
    moved_with = {account for each in postings for account in (each.debit, each.credit)}
    kept = lock_accounts(session, loans | moved_with)
    owed_minor = {loan: -kept[loan].amount_minor if loan in kept else 0 for loan in loans}
    moved = []
    for each in settled:
        loan = _loan(each)
        amount_minor = repayment_minor(owed_minor=owed_minor[loan], settled_minor=each.amount_minor)
        if amount_minor:
            owed_minor[loan] -= amount_minor
            event = f"{each.event}/repay"
            posting = Posting(new_id(), event, each.seq, debit=each.credit, credit=loan, amount_minor=amount_minor)
            moved.append(_Moved(AdvanceKind.REPAID, posting, each.credit))
    return moved


def _loan(settled: Posting) -> Account:
    payable = settled.credit
    return Account(payable.merchant_id, payable.owner_id, AccountKind.ADVANCE, payable.currency)


def _store(
    session: Session, moved: Sequence[_Moved], kept: Mapping[Account, Kept], when: Mapping[UUID, MerchantTime]
) -> None:
    if not moved:
        return
    columns: dict[str, list[object]] = defaultdict(list)
    for each in moved:
        at: datetime = when[each.payable.merchant_id].now
        row = (
            each.payable.merchant_id,
            new_id(),
            each.kind.value,
            each.payable.owner_id,
            each.payable.currency,
            each.posting.amount_minor,
            each.commission_id,
            each.cut_off_on,
            each.posting.id,
            kept[each.payable].version,
            at,
        )
        for name, value in zip(_COLUMNS, row, strict=True):
            columns[name].append(value)
    execute(
        session,
        """
        INSERT INTO advance (merchant_id, id, kind, payee_id, currency, amount_minor, commission_id, cut_off_on, posting_id,
                             payable_version, created_at)
        SELECT * FROM unnest(CAST(:merchant_id AS uuid[]), CAST(:id AS uuid[]), CAST(:kind AS text[]),
                             CAST(:payee_id AS uuid[]), CAST(:currency AS text[]), CAST(:amount_minor AS bigint[]),
                             CAST(:commission_id AS uuid[]), CAST(:cut_off_on AS date[]), CAST(:posting_id AS uuid[]),
                             CAST(:payable_version AS bigint[]), CAST(:created_at AS timestamptz[]))
        """,
        columns,
    )


_COLUMNS = (
    "merchant_id",
    "id",
    "kind",
    "payee_id",
    "currency",
    "amount_minor",
    "commission_id",
    "cut_off_on",
    "posting_id",
    "payable_version",
    "created_at",
)
