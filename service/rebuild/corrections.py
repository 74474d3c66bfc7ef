"""What people put right, and tax passed on, booked again as it was decided: why is between people, as history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.correction import MOVES, CorrectionKind, CorrectionState
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.infra import ids
from service.infra.db import unit_of_work
from service.ledger.post import post
from service.rebuild.differences import Differences, RebuiltCode, apply_all
from service.rebuild.snapshot import ROWS_AT_ONCE
from service.tables.taxes import CorrectionRow, TaxRemittanceLineRow, TaxRemittanceRow


@dataclass(frozen=True, slots=True)
class _Move:
    """One amount that a person moved between two accounts of a payee. event: of its posting."""

    event: str
    payee_id: UUID
    source: AccountKind
    destination: AccountKind
    amount_minor: int
    currency: str
    at: datetime


def replay_corrections(
    live: Session, into: Engine, differences: Differences, *, time_zone: str, tell: Callable[[int], None]
) -> None:
    """Book a merchant's corrections and remittances again, after its payouts: they move what those left.

    tell: called for each block.
    """
    merchant_id = differences.merchant_id

    def book(some: Sequence[_Move]) -> None:
        with unit_of_work(into) as session:
            postings = [_posting(move, merchant_id) for move in some]
            post(session, postings, when={merchant_id: MerchantTime(some[-1].at, time_zone)})

    def refused(move: _Move, error: Exception) -> None:
        differences.add(
            RebuiltCode.CORRECTION,
            ids.encode("aff", move.payee_id),
            f"{move.source} to {move.destination}, {move.amount_minor} {move.currency}",
            expected=f"refused by the books; {str(error).splitlines()[0][:200]}",
            found="booked",
        )

    corrections = (
        select(CorrectionRow)
        .where(col(CorrectionRow.merchant_id) == merchant_id, col(CorrectionRow.state) == CorrectionState.BOOKED)
        .order_by(col(CorrectionRow.id))
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    for some in live.exec(corrections).partitions():
        tell(0)
        apply_all([_put_right(row) for row in some], book, refused)
    remittances = (
        select(TaxRemittanceLineRow, TaxRemittanceRow)
        .where(
            col(TaxRemittanceLineRow.merchant_id) == merchant_id,
            col(TaxRemittanceRow.merchant_id) == merchant_id,
            col(TaxRemittanceRow.id) == col(TaxRemittanceLineRow.remittance_id),
        )
        .order_by(col(TaxRemittanceLineRow.remittance_id), col(TaxRemittanceLineRow.payee_id))
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    for lines in live.exec(remittances).partitions():
        tell(0)
        apply_all([_passed_on(line, remittance) for line, remittance in lines], book, refused)


def _put_right(row: CorrectionRow) -> _Move:
    source, destination = MOVES[CorrectionKind(row.kind)]
    at = row.decided_at or row.created_at
    return _Move(f"correction/{row.id}", row.payee_id, source, destination, row.amount_minor, row.currency, at)


def _passed_on(line: TaxRemittanceLineRow, remittance: TaxRemittanceRow) -> _Move:
    return _Move(
        f"remittance/{remittance.id}/{line.payee_id}",
        line.payee_id,
        AccountKind.TAX_WITHHELD,
        AccountKind.REMITTED,
        line.amount_minor,
        remittance.currency,
        remittance.created_at,
    )


def _posting(move: _Move, merchant_id: UUID) -> Posting:
    def account(kind: AccountKind) -> Account:
        return Account(merchant_id, move.payee_id, kind, move.currency)

    return Posting(
        ids.new_id(),
        move.event,
        seq=0,
        debit=account(move.source),
        credit=account(move.destination),
        amount_minor=move.amount_minor,
    )
