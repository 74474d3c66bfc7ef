"""Advances, booked again as they were given and netted: when that was depends on the days somebody was late, as history.

How much was owed at each moment is not computed again: `audit` holds each row against its posting and what was settled
with it, and here every account has to come out to the last unit.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.advance import AdvanceKind
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.infra import ids
from service.infra.db import unit_of_work
from service.ledger.post import post
from service.rebuild.differences import Differences, RebuiltCode, apply_all
from service.rebuild.snapshot import ROWS_AT_ONCE
from service.tables.money import AdvanceRow


def replay_advances(
    live: Session, into: Engine, differences: Differences, *, time_zone: str, tell: Callable[[int], None]
) -> None:
    """Move a merchant's advances again, in the order in which they moved payable. tell: called for each block."""
    rows = (
        select(AdvanceRow)
        .where(col(AdvanceRow.merchant_id) == differences.merchant_id)
        # Of each payee in order, so that no more is netted than was given.
        .order_by(
            col(AdvanceRow.payee_id), col(AdvanceRow.currency), col(AdvanceRow.payable_version), col(AdvanceRow.id)
        )
        .execution_options(yield_per=ROWS_AT_ONCE)
    )

    def book(some: Sequence[AdvanceRow]) -> None:
        last = some[-1]
        with unit_of_work(into) as session:
            post(
                session,
                [_posting(row) for row in some],
                when={last.merchant_id: MerchantTime(last.created_at, time_zone)},
            )

    def refused(row: AdvanceRow, error: Exception) -> None:
        differences.add(
            RebuiltCode.ADVANCE,
            ids.encode("aff", row.payee_id),
            f"{row.kind}, {row.amount_minor} {row.currency}",
            expected=f"refused by the books; {str(error).splitlines()[0][:200]}",
            found="booked",
        )

    for some in live.exec(rows).partitions():
        tell(0)
        apply_all(some, book, refused)


def _posting(row: AdvanceRow) -> Posting:
    advance, payable = _account(row, AccountKind.ADVANCE), _account(row, AccountKind.PAYABLE)
    is_given = row.kind == AdvanceKind.GIVEN
    return Posting(
        ids.new_id(),
        f"advance/{row.id}",
        seq=0,
        debit=advance if is_given else payable,
        credit=payable if is_given else advance,
        amount_minor=row.amount_minor,
    )


def _account(row: AdvanceRow, kind: AccountKind) -> Account:
    return Account(row.merchant_id, row.payee_id, kind, row.currency)
