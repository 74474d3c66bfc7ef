"""Claims: a KOC says that an order is missing, earns too little or went to somebody else; the merchant decides."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.commissions import select_commissions
from service.api.deps import Admin, AffiliateCaller, AffiliateKey, Reader, ReadSession, Service, Services, WriteSession
from service.api.language import AskedLanguage
from service.api.orders import CandidateView, candidate_views
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.reasons import Because, Evidence, Note, one_of_reasons
from service.api.views import (
    WRITTEN_FLAG,
    AffiliateId,
    Body,
    ClaimId,
    CommissionId,
    Moment,
    MoneyBody,
    MoneyView,
    Name,
    OrderId,
    View,
)
from service.domain.claim import AnswerCode, ClaimKind, ClaimOutcome, ClaimState
from service.domain.commission import CommissionReason, CommissionStatus
from service.domain.order import TouchKind
from service.domain.review import ADJUST_REASONS, ATTRIBUTE_REASONS, CLAIM_REJECT_REASONS, ReviewReason
from service.domain.wording.figures import Names, Speech
from service.domain.wording.languages import Language
from service.intake import claims
from service.intake.claims import Answer, Claimed, ClaimIsOpen, Ruling, UnknownClaim
from service.intake.desk import Person
from service.tables.claims import ClaimRow
from service.tracking.find import ClickSigner

router = APIRouter(tags=["claims"])

_DECIDE_REASONS = tuple(dict.fromkeys((*ADJUST_REASONS, *ATTRIBUTE_REASONS, *CLAIM_REJECT_REASONS)))


class ClaimCreate(Body):
    kind: ClaimKind
    order_number: Name | None = None
    """As the shop shows it to its customer, with or without `#`, or the shop's own id of the order."""
    order_id: OrderId | None = None
    """In place of the number, of an order among your commissions."""
    note: Note = ""
    """What happened, for the merchant's people."""
    evidence: Evidence = Field(default_factory=list)
    """Addresses (https) of pictures or chats, ten at most."""
    click_id: Name | None = None
    """The click that brought the order, if you have its id; or the coupon."""
    coupon: Name | None = None
    """The code that was used."""
    claimed_amount: MoneyBody | None = None
    """What you should have earned."""

    @model_validator(mode="after")
    def _names_one_order(self) -> Self:
        if (self.order_number is None) is (self.order_id is None):
            raise PydanticCustomError("order", "Name the order by order_number or by order_id: one of the two")
        if self.click_id is not None and self.coupon is not None:
            raise PydanticCustomError("touch", "Name a click_id or a coupon, not both")
        return self


class ClaimCommissionView(View):
    """What the claimant earns on the order."""

    commission_id: CommissionId
    status: CommissionStatus
    reason_code: CommissionReason
    target: MoneyView
    """What it comes to now."""


class ClaimTouchView(View):
    """The click or coupon that the claim names."""

    kind: TouchKind
    yours: bool
    """It was yours when it counted. False too of a click id that we did not make."""
    carried: bool | None
    """The order carried it; null where it is not yours, or no such order has come."""


class ClaimAnswerView(View):
    """What the books say of the order now. Not a word about other KOCs."""

    code: AnswerCode
    order_id: OrderId | None
    """Null where no such order has come, or you have nothing to do with it."""
    commissions: list[ClaimCommissionView]
    """What you earn on it; one for each currency."""
    candidates: list[CandidateView]
    """Your own clicks and coupons on it, with why each counted or did not."""
    touch: ClaimTouchView | None


class ClaimDecisionView(View):
    outcome: ClaimOutcome
    reason_code: ReviewReason
    note: str
    """What the merchant says to it."""
    evidence: list[str]
    commission_id: CommissionId | None
    """What the accepted claim earns."""
    at: Moment

    @classmethod
    def of(cls, row: ClaimRow) -> Self | None:
        if row.reason_code is None or row.closed_at is None:
            return None
        return cls(
            outcome=ClaimOutcome.ACCEPT if row.state == ClaimState.ACCEPTED else ClaimOutcome.REJECT,
            reason_code=ReviewReason(row.reason_code),
            note=row.decision_note,
            evidence=row.decision_evidence,
            commission_id=row.commission_id,
            at=row.closed_at,
        )


class MyClaimView(View):
    id: ClaimId
    kind: ClaimKind
    state: ClaimState
    order_number: str
    """As it was told; empty where the order was named by its id."""
    note: str
    evidence: list[str]
    click_id: str | None
    coupon: str | None
    claimed_amount: MoneyView | None
    opened_at: Moment
    decide_by: Moment
    """By when the merchant should decide. After that the claim is overdue, and still open: silence decides nothing."""
    closed_at: Moment | None
    decision: ClaimDecisionView | None
    """Null while nobody decided."""


class MyClaimDetail(MyClaimView):
    answer: ClaimAnswerView


class ClaimView(MyClaimView):
    affiliate_id: AffiliateId
    """Who claims."""
    order_id: OrderId | None
    """Null where no such order has come."""


class ClaimDetail(ClaimView):
    answer: ClaimAnswerView
    """What the claimant is shown."""


class ClaimDecide(Because):
    outcome: ClaimOutcome
    reason_code: one_of_reasons(_DECIDE_REASONS)  # type: ignore[valid-type] # made of our lists
    """Of an amount: one of those of adjustments. Of a credit: one of those of attribution. Else one of those for which a
    claim is rejected."""
    note: Note = ""
    """What you tell the KOC. Needed with the reason `other`."""
    evidence: Evidence = Field(default_factory=list)
    """Addresses (https) of what it rests on, ten at most; shown to the KOC."""
    attribute: Annotated[bool, Strict()] = False
    """Accepting: credit the claimant with the order, by the terms of the time it was placed."""
    amount: MoneyBody | None = None
    """Accepting: add this to what the claimant earns on the order; a bonus where no such order has come."""

    @model_validator(mode="after")
    def _fits_its_outcome(self) -> Self:
        ways = self.attribute + (self.amount is not None)
        if ways != (1 if self.outcome is ClaimOutcome.ACCEPT else 0):
            raise PydanticCustomError(
                "outcome", "Accepting takes one of `attribute` and `amount`; rejecting takes neither"
            )
        if self.amount is not None and self.amount.amount_minor == 0:
            raise PydanticCustomError("amount", "Must be above zero")
        reasons: tuple[ReviewReason, ...]
        if self.outcome is ClaimOutcome.REJECT:
            reasons = CLAIM_REJECT_REASONS
        else:
            reasons = ADJUST_REASONS if self.amount is not None else ATTRIBUTE_REASONS
        if self.reason_code not in reasons:
            listed = ", ".join(reasons)
            raise PydanticCustomError("reason", "The reason must be one of {listed}", {"listed": listed})
        return self


@router.post("/v1/me/claims", status_code=201)
def create_my_claim(
    asked: ClaimCreate, caller: AffiliateCaller, session: WriteSession, service: Services, language: AskedLanguage
) -> MyClaimDetail:
    """Claim that an order is missing, earns another amount, or went to somebody else. The answer says what is known now.

    Where the order turns out to be yours already, a claim that it is missing is `answered` and nobody has to decide.
    """
    claimed = Claimed(
        caller.affiliate_id,
        asked.kind,
        asked.order_id,
        (asked.order_number or "").strip(),
        note=asked.note,
        evidence=tuple(asked.evidence),
        click_id=asked.click_id,
        coupon=asked.coupon,
        claimed=(asked.claimed_amount.amount_minor, asked.claimed_amount.currency) if asked.claimed_amount else None,
    )
    with taken("claim_open_key", ClaimIsOpen("Wait until it is decided, or take it back.")):
        row = claims.open_claim(session, caller.merchant_id, claimed, now=caller.now, days=service.settings.claim_days)
    return _my_detail(session, caller, row, service, language)


@router.get("/v1/me/claims")
def list_my_claims(
    caller: AffiliateCaller,
    session: ReadSession,
    paging: Paging,
    state: Annotated[ClaimState | None, Query(description="Claims that stand so.")] = None,
) -> Page[MyClaimView]:
    """List your claims, newest first."""
    rows = select(ClaimRow).where(
        col(ClaimRow.merchant_id) == caller.merchant_id, col(ClaimRow.affiliate_id) == caller.affiliate_id
    )
    if state is not None:
        rows = rows.where(col(ClaimRow.state) == state)
    found = session.exec(newest_first(rows, paging, col(ClaimRow.id))).all()
    return page(found, paging, key=lambda row: (row.id,), view=lambda row: MyClaimView.model_validate(_shown(row)))


@router.get("/v1/me/claims/{claim_id}")
def get_my_claim(
    claim_id: ClaimId, caller: AffiliateCaller, session: ReadSession, service: Services, language: AskedLanguage
) -> MyClaimDetail:
    """Return one of your claims, with what is known of its order now."""
    row = _row(session, caller.merchant_id, claim_id)
    if row.affiliate_id != caller.affiliate_id:
        raise _missing()
    return _my_detail(session, caller, row, service, language)


@router.post("/v1/me/claims/{claim_id}/withdraw")
def withdraw_my_claim(claim_id: ClaimId, caller: AffiliateCaller, session: WriteSession) -> MyClaimView:
    """Take an open claim back."""
    row = claims.withdraw(session, caller.merchant_id, caller.affiliate_id, claim_id, now=caller.now)
    return MyClaimView.model_validate(_shown(row))


@router.get("/v1/claims")
def list_claims(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    state: Annotated[ClaimState | None, Query(description="Claims that stand so.")] = None,
    kind: Annotated[ClaimKind | None, Query(description="Claims of this kind.")] = None,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Claims of this affiliate.")] = None,
    overdue: Annotated[
        Annotated[bool, WRITTEN_FLAG] | None,
        Query(description="True: only open ones whose time to be decided is over; false: all others."),
    ] = None,
) -> Page[ClaimView]:
    """List claims, newest first."""
    rows = select(ClaimRow).where(col(ClaimRow.merchant_id) == caller.merchant_id)
    if state is not None:
        rows = rows.where(col(ClaimRow.state) == state)
    if kind is not None:
        rows = rows.where(col(ClaimRow.kind) == kind)
    if affiliate_id is not None:
        rows = rows.where(col(ClaimRow.affiliate_id) == affiliate_id)
    if overdue is not None:
        late = (col(ClaimRow.state) == ClaimState.OPEN) & (col(ClaimRow.decide_by) <= caller.now)
        rows = rows.where(late if overdue else ~late)
    found = session.exec(newest_first(rows, paging, col(ClaimRow.id))).all()
    return page(found, paging, key=lambda row: (row.id,), view=_view)


@router.get("/v1/claims/{claim_id}")
def get_claim(
    claim_id: ClaimId, caller: Reader, session: ReadSession, service: Services, language: AskedLanguage
) -> ClaimDetail:
    """Return one claim, with what its claimant is told of the order now."""
    row = _row(session, caller.merchant_id, claim_id)
    found = claims.answer(session, row, ClickSigner(service.security), now=caller.now)
    answer = _answer(session, caller.merchant_id, found, Speech(language, Names(caller.merchant.time_zone)))
    return ClaimDetail.model_validate({**_shown(row), **_of_merchant(row), "answer": answer})


@router.post("/v1/claims/{claim_id}/decide")
def decide_claim(claim_id: ClaimId, asked: ClaimDecide, caller: Admin, session: WriteSession) -> ClaimView:
    """Accept or reject a claim. What accepting books is a decision like any other: it stays through every later event.

    An order that has not come cannot be credited yet: give an amount, or leave the claim open until it comes.
    """
    ruling = Ruling(
        asked.outcome,
        asked.reason_code,
        note=asked.note,
        evidence=tuple(asked.evidence),
        amount=(asked.amount.amount_minor, asked.amount.currency) if asked.amount else None,
    )
    return _view(claims.decide(session, Person(caller.merchant_id, caller.key_id, caller.now), claim_id, ruling))


def _row(session: Session, merchant_id: UUID, claim_id: UUID) -> ClaimRow:
    row = session.get(ClaimRow, (merchant_id, claim_id))
    if row is None:
        raise _missing()
    return row


def _missing() -> UnknownClaim:
    return UnknownClaim("There is no such claim here.")


def _shown(row: ClaimRow) -> dict[str, object]:
    """The fields that both sides see."""
    amount = row.claimed_minor, row.claimed_currency
    return {
        "id": row.id,
        "kind": ClaimKind(row.kind),
        "state": ClaimState(row.state),
        "order_number": row.order_number,
        "note": row.note,
        "evidence": row.evidence,
        "click_id": row.click_id,
        "coupon": row.coupon,
        "claimed_amount": None
        if amount[0] is None or amount[1] is None
        else MoneyView(amount_minor=amount[0], currency=amount[1]),
        "opened_at": row.opened_at,
        "decide_by": row.decide_by,
        "closed_at": row.closed_at,
        "decision": ClaimDecisionView.of(row),
    }


def _of_merchant(row: ClaimRow) -> dict[str, object]:
    """The fields that the merchant sees beside them."""
    return {"affiliate_id": row.affiliate_id, "order_id": row.order_id}


def _view(row: ClaimRow) -> ClaimView:
    return ClaimView.model_validate({**_shown(row), **_of_merchant(row)})


def _my_detail(
    session: Session, caller: AffiliateKey, row: ClaimRow, service: Service, language: Language
) -> MyClaimDetail:
    found = claims.answer(session, row, ClickSigner(service.security), now=caller.now)
    answer = _answer(session, caller.merchant_id, found, Speech(language, Names(caller.merchant.time_zone)))
    return MyClaimDetail.model_validate({**_shown(row), "answer": answer})


def _answer(session: Session, merchant_id: UUID, found: Answer, speech: Speech) -> ClaimAnswerView:
    rows = (
        select_commissions(
            session,
            ["commission.merchant_id = :merchant_id", "commission.id = ANY(CAST(:ids AS uuid[]))"],
            {"merchant_id": merchant_id, "ids": list(found.commission_ids)},
        )
        if found.commission_ids
        else []
    )
    return ClaimAnswerView(
        code=found.code,
        order_id=found.order_id,
        commissions=[
            ClaimCommissionView(
                commission_id=row.id,
                status=CommissionStatus(row.status),
                reason_code=CommissionReason(row.reason_code),
                target=MoneyView(amount_minor=row.target_minor, currency=row.currency),
            )
            for row in rows
        ],
        candidates=candidate_views(session, merchant_id, found.candidates, found.placed_at, speech),
        touch=None
        if found.touch is None
        else ClaimTouchView(kind=found.touch.kind, yours=found.touch.yours, carried=found.touch.carried),
    )
