"""Corrections: money that one person asks to be put right, with a reason, and another books."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import col, select

from service.api.affiliates import NONE_SUCH
from service.api.deps import FinanceChecker, FinanceMaker, Reader, ReadSession, WriteSession
from service.api.filters import ExternalIdFilter
from service.api.merchants import ExternalIdTaken
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.problems import taken
from service.api.views import (
    AffiliateId,
    Body,
    CorrectionId,
    ExternalId,
    KeyId,
    Moment,
    MoneyBody,
    MoneyView,
    PostingId,
    Text,
    View,
    Why,
)
from service.domain.correction import CorrectionKind, CorrectionState
from service.domain.errors import Invalid, Missing
from service.domain.withholding.model import Duty, Key
from service.infra.ids import encode
from service.payouts.correct import Asked, CorrectionMissing, ask, book, withdraw
from service.tables.parties import AffiliateRow
from service.tables.taxes import CorrectionRow

router = APIRouter(tags=["corrections"])


class WithholdingBody(Body):
    """A withholding that is undone, as GET /v1/tax-due names it."""

    rule: Text
    duty: Duty
    period: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$", examples=["2026-07"])]
    base_minor: Annotated[int, Field(ge=0, le=10**15, strict=True)] | None = None
    """Income that is no longer counted there. Left out: what is given back, for it is counted again when it is paid."""

    def counted_no_more(self, given_back_minor: int) -> int:
        return given_back_minor if self.base_minor is None else self.base_minor


class CorrectionCreate(Body):
    kind: CorrectionKind
    """untax: gives a withholding back. recover: sets money a rail gave back against a debt. write_off: gives a debt up.
    paid_outside: books that the affiliate was paid without us."""
    affiliate_id: AffiliateId
    amount: MoneyBody
    """Above 0."""
    reason: Why
    evidence: Text | None = None
    """Number of a corrected return, a receipt, a ticket."""
    withholding: WithholdingBody | None = None
    """For untax only."""
    external_id: ExternalId | None = None


class CorrectionView(View):
    id: CorrectionId
    external_id: str | None
    kind: CorrectionKind
    status: CorrectionState
    affiliate_id: AffiliateId
    amount: MoneyView
    reason: str
    evidence: str | None
    rule: str | None
    duty: Duty | None
    period: str | None
    base: MoneyView
    """Income no longer counted in that period."""
    asked_by: KeyId
    decided_by: KeyId | None
    posting_id: PostingId | None
    created_at: Moment
    decided_at: Moment | None

    @classmethod
    def of(cls, row: CorrectionRow) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            kind=CorrectionKind(row.kind),
            status=CorrectionState(row.state),
            affiliate_id=row.payee_id,
            amount=MoneyView(amount_minor=row.amount_minor, currency=row.currency),
            reason=row.reason,
            evidence=row.evidence,
            rule=row.rule,
            duty=None if row.duty is None else Duty(row.duty),
            period=row.period,
            base=MoneyView(amount_minor=row.base_minor, currency=row.currency),
            asked_by=row.asked_by,
            decided_by=row.decided_by,
            posting_id=row.posting_id,
            created_at=row.created_at,
            decided_at=row.decided_at,
        )


@router.post("/v1/corrections", status_code=201)
def create_correction(asked: CorrectionCreate, caller: FinanceMaker, session: WriteSession) -> CorrectionView:
    """Ask for money to be put right. It moves when another person books it."""
    if asked.amount.amount_minor <= 0:
        raise Invalid("A correction moves more than 0.")
    if session.get(AffiliateRow, (caller.merchant_id, asked.affiliate_id)) is None:
        raise Missing(NONE_SUCH)
    told = asked.withholding
    wanted = Asked(
        merchant_id=caller.merchant_id,
        kind=asked.kind,
        payee_id=asked.affiliate_id,
        currency=asked.amount.currency,
        amount_minor=asked.amount.amount_minor,
        reason=asked.reason,
        by=caller.key_id,
        evidence=asked.evidence,
        external_id=asked.external_id,
        key=None if told is None else Key(told.rule, told.duty, told.period),
        base_minor=0 if told is None else told.counted_no_more(asked.amount.amount_minor),
    )
    refusal = ExternalIdTaken(f"Another correction has the external_id {asked.external_id!r}.")
    with taken("correction_merchant_id_external_id_key", refusal):
        row = ask(session, wanted, when=merchant_time_of(caller))
    return CorrectionView.of(row)


@router.get("/v1/corrections")
def list_corrections(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only of this affiliate.")] = None,
    status: Annotated[CorrectionState | None, Query(description="Only corrections of this status.")] = None,
    kind: Annotated[CorrectionKind | None, Query(description="Only corrections of this kind.")] = None,
    external_id: ExternalIdFilter = None,
) -> Page[CorrectionView]:
    """List corrections, newest first."""
    chosen = select(CorrectionRow).where(col(CorrectionRow.merchant_id) == caller.merchant_id)
    if affiliate_id is not None:
        chosen = chosen.where(col(CorrectionRow.payee_id) == affiliate_id)
    if status is not None:
        chosen = chosen.where(col(CorrectionRow.state) == status)
    if kind is not None:
        chosen = chosen.where(col(CorrectionRow.kind) == kind)
    if external_id is not None:
        chosen = chosen.where(col(CorrectionRow.external_id) == external_id)
    rows = session.exec(newest_first(chosen, paging, CorrectionRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=CorrectionView.of)


@router.get("/v1/corrections/{correction_id}")
def get_correction(correction_id: CorrectionId, caller: Reader, session: ReadSession) -> CorrectionView:
    """Return one correction."""
    row = session.get(CorrectionRow, (caller.merchant_id, correction_id))
    if row is None:
        raise CorrectionMissing(f"No correction {encode('cor', correction_id)} here.")
    return CorrectionView.of(row)


@router.post("/v1/corrections/{correction_id}/book")
def book_correction(correction_id: CorrectionId, caller: FinanceChecker, session: WriteSession) -> CorrectionView:
    """Move the money, if there is still as much to put right. Whoever asked for it cannot book it."""
    row = book(
        session,
        merchant_id=caller.merchant_id,
        correction_id=correction_id,
        by=caller.key_id,
        when=merchant_time_of(caller),
    )
    return CorrectionView.of(row)


@router.post("/v1/corrections/{correction_id}/withdraw")
def withdraw_correction(correction_id: CorrectionId, caller: FinanceMaker, session: WriteSession) -> CorrectionView:
    """Take a correction back, or turn it down, before it is booked."""
    row = withdraw(
        session,
        merchant_id=caller.merchant_id,
        correction_id=correction_id,
        by=caller.key_id,
        when=merchant_time_of(caller),
    )
    return CorrectionView.of(row)
