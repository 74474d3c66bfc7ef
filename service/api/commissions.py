"""Commissions: what affiliates earn and where it stands, with receipts, and what people decide about them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, SkipValidation, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row
from sqlmodel import Session

from service.api import trail
from service.api.bulk import ITEMS_MAX, Batch, BulkView
from service.api.deps import Admin, Caller, Reader, ReadSession, WriteSession
from service.api.filters import Created
from service.api.language import AskedLanguage
from service.api.paging import Page, PageQuery, Paging, page
from service.api.reasons import Because, one_of_reasons
from service.api.receipts import shown
from service.api.terms import TermsDocument
from service.api.views import (
    AffiliateId,
    Body,
    CommissionId,
    Day,
    ExternalId,
    Moment,
    MoneyBody,
    MoneyView,
    OrderId,
    PayoutId,
    PostingId,
    ProgramId,
    SignedMoneyBody,
    View,
)
from service.api.waiting import StatementDaysView, Waiting, WaitView
from service.commissions.assess import load_intervals
from service.domain.commission import CommissionReason, CommissionStatus, EntryKind, Place
from service.domain.errors import Invalid, ServiceError
from service.domain.payout import holder
from service.domain.review import (
    ADJUST_REASONS,
    APPROVE_REASONS,
    HOLD_REASONS,
    REJECT_REASONS,
    RELEASE_REASONS,
    ReviewReason,
)
from service.domain.wording import reasons, receipts
from service.domain.wording.figures import Speech
from service.infra import ids
from service.infra.db import fetch
from service.intake import desk
from service.intake.desk import REASONS, Adjustment, Decision, Person, UnknownCommission, Verb
from service.reports.places import PAYABLE_MINOR, STANDING, STATUS

router = APIRouter(tags=["commissions"])


class PlacesView(View):
    """Where the parts of a commission stand; they add up to its target."""

    pending: MoneyView
    """Earned, not settled."""
    held: MoneyView
    """Earned, frozen."""
    payable: MoneyView
    """Settled, in no payout yet. Below zero: taken back after it was paid, to be set against later earnings."""
    in_payout: MoneyView
    """In a payout that the rail has not accepted yet."""
    paid: MoneyView
    """In a payout that the rail accepted."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            pending=money(row.pending_minor),
            held=money(row.held_minor),
            payable=money(row.payable_minor),
            in_payout=money(row.in_payout_minor),
            paid=money(row.paid_minor),
        )


class PeriodView(View):
    """The period of a rule that a commission is for, in the merchant's time zone."""

    rule: str
    """The rule's key in the terms."""
    begins_on: Day
    ends_on: Day | None
    """Null: it has no end."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self | None:
        """row: of select_commissions; None where its commission is for an order."""
        if row.period_id is None:
            return None
        return cls(rule=row.period_rule, begins_on=row.begins_on, ends_on=row.ends_on)


class CommissionView(View):
    id: CommissionId
    order_id: OrderId | None
    """Null where it is for a period: a ladder, a mark, a cap."""
    order_external_id: str
    """The shop's own id of the order; empty where it is for a period."""
    order_number: str
    """As the shop shows it to its customer; may be empty."""
    period: PeriodView | None
    """What it is for, where that is no order. It stands where the period's orders stand."""
    placed_at: Moment | None
    """When the order was placed, or the period began."""
    """When the order was placed; null of a bonus, which has none."""
    affiliate_id: AffiliateId
    program_id: ProgramId | None
    program_version: int | None
    """The version of the programme's terms that counts."""
    status: CommissionStatus
    """The place of the part that has come least far."""
    reason_code: CommissionReason
    """Why it stands where it stands."""
    target: MoneyView
    """What the affiliate should have earned from all that is known; equals what is posted."""
    places: PlacesView
    approved: MoneyView | None
    """The most that may be settled; null where no approval is demanded."""
    settles_at: Moment | None
    """The order's clock: when nothing is missing any more by it. Null while something is: reason_code says what."""
    expected_at: Moment | None
    """When what is pending becomes payable if nothing changes; null where that is not known, or nothing is pending."""
    statement: StatementDaysView | None
    """The statement it is on; null without one, or before it is known which."""
    waits_for: list[WaitView]
    """All that its parts wait for, in the order in which they move on."""
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Row[Any], waiting: Waiting) -> Self:
        return cls(
            id=row.id,
            order_id=row.order_id,
            order_external_id=row.external_id,
            order_number=row.number,
            period=PeriodView.of(row),
            placed_at=row.placed_at,
            affiliate_id=row.payee_id,
            program_id=row.program_id,
            program_version=row.program_version,
            status=CommissionStatus(row.status),
            reason_code=CommissionReason(row.reason_code),
            target=MoneyView(amount_minor=row.target_minor, currency=row.currency),
            places=PlacesView.of(row),
            approved=None
            if row.approved_minor is None
            else MoneyView(amount_minor=row.approved_minor, currency=row.currency),
            settles_at=row.settles_at,
            expected_at=waiting.expected_at(row),
            statement=waiting.statement(row),
            waits_for=waiting.waits(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class EntryView(View):
    """One dated difference to a commission; never changed."""

    seq: int
    kind: EntryKind
    source: Place
    destination: Place
    amount: MoneyView
    at: Moment
    posting_id: PostingId
    payable_version: int | None
    """The version of the affiliate's payable balance it made; null where payable did not move."""
    payout_id: PayoutId | None
    """The payout this movement of payable stands in now; null while it stands in payable."""


class ReceiptView(View):
    """How a commission came about, so that it can be recomputed by hand."""

    commission: CommissionView
    receipt: dict[str, Any]
    """Version, what rules could ask of the order, lines with each component's rule, rate and exact share and the rules it
    beat, rounding, cap, who bears it, and the versions considered. What people added stands in `adjustments`, beside what the
    rules give (`rules_minor`). Empty where nothing is earned. With `terms` it can be computed again:
    `POST /v1/receipts/verify`."""
    terms: TermsDocument | None
    """The programme's terms of that version."""
    words: list[str]
    """The way from what was ordered to the amount, line by line, in the language asked for; where nothing is earned, why."""
    entries: list[EntryView]
    """Every difference booked, oldest first."""


class CommissionApprove(Because):
    amount: MoneyBody | None = None
    """The most that may be settled, in the commission's currency; left out, what it comes to now. More than that waits."""
    reason_code: one_of_reasons(APPROVE_REASONS) = ReviewReason.APPROVED  # type: ignore[valid-type] # made of our list


class CommissionReject(Because):
    reason_code: one_of_reasons(REJECT_REASONS)  # type: ignore[valid-type] # made of our list


class CommissionHold(Because):
    reason_code: one_of_reasons(HOLD_REASONS)  # type: ignore[valid-type] # made of our list


class CommissionRelease(Because):
    reason_code: one_of_reasons(RELEASE_REASONS) = ReviewReason.CHECKED  # type: ignore[valid-type] # made of our list


class CommissionCreate(Because):
    affiliate_id: AffiliateId
    amount: SignedMoneyBody
    """What is added. Below zero: what is taken, only with an order_id; a commission stops at zero."""
    order_id: OrderId | None = None
    """Whose commission is set right; left out, the amount is a bonus, which stands alone."""
    reason_code: one_of_reasons(ADJUST_REASONS)  # type: ignore[valid-type] # made of our list
    external_id: ExternalId | None = None
    """Your own id of it: sent again, nothing is added a second time. Unique on its order, and among bonuses."""

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.amount.amount_minor == 0 or (self.amount.amount_minor < 0 and self.order_id is None):
            raise PydanticCustomError("amount", "Must be above zero; with an order_id it may lie below zero")
        return self


class BulkDecision(Because):
    commission_id: CommissionId
    decision: Verb
    reason_code: ReviewReason
    """One of those that the decision takes in a request of its own."""
    amount: SignedMoneyBody | None = None
    """In the commission's currency. Of an approval: the most that may be settled; left out, what it comes to now. Of an
    adjustment: what is added, or below zero taken."""

    @model_validator(mode="after")
    def _fits_its_decision(self) -> Self:
        if self.reason_code not in REASONS[self.decision]:
            listed = ", ".join(REASONS[self.decision])
            raise PydanticCustomError("reason", "The reason must be one of {listed}", {"listed": listed})
        given = None if self.amount is None else self.amount.amount_minor
        if self.decision is Verb.ADJUST:
            if not given:
                raise PydanticCustomError("amount", "An adjustment needs an amount that is not zero")
        elif given is not None and self.decision is not Verb.APPROVE:
            raise PydanticCustomError("amount", "Only an approval or an adjustment has an amount")
        elif given is not None and given < 0:
            raise PydanticCustomError("amount", "An approval is of zero or more")
        return self


class CommissionBulk(Body):
    items: Annotated[list[SkipValidation[BulkDecision]], Field(min_length=1, max_length=ITEMS_MAX)]


def select_commissions(
    session: Session, conditions: Sequence[str], parameters: Mapping[str, object], *, limit: int | None = None
) -> Sequence[Row[Any]]:
    """Commissions with their places and status, newest first. conditions: our own SQL on `commission` and `assessment`."""
    return fetch(
        session,
        f"""
        SELECT commission.id, commission.order_id, commission.payee_id, commission.program_id,
               commission.program_version, commission.currency, commission.target_minor, commission.pending_minor,
               commission.held_minor, commission.settled_minor, commission.approved_minor, commission.settles_at,
               commission.reason_code, commission.outlook, commission.created_at, commission.updated_at,
               coalesce(orders.external_id, '') AS external_id, coalesce(assessment.number, '') AS number,
               coalesce(assessment.placed_at, commission.placed_at) AS placed_at, commission.period_id,
               rule_period.rule AS period_rule, rule_period.begins_on, rule_period.ends_on,
               {PAYABLE_MINOR} AS payable_minor, placed.in_payout_minor, placed.paid_minor, {STATUS} AS status
        FROM commission
        LEFT JOIN rule_period
          ON rule_period.merchant_id = commission.merchant_id AND rule_period.id = commission.period_id
        LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        LEFT JOIN assessment
          ON assessment.merchant_id = commission.merchant_id AND assessment.order_id = commission.order_id
        {STANDING}
        WHERE {" AND ".join(conditions)}
        ORDER BY commission.id DESC
        LIMIT :limit
        """,  # noqa: S608 # conditions are our own constants; values are parameters
        {**parameters, "limit": limit},
    )


def commission_page(
    session: Session, paging: PageQuery, conditions: list[str], parameters: dict[str, object]
) -> Sequence[Row[Any]]:
    """One row more than the page, newest first."""
    after = paging.after_id()
    if after is not None:
        conditions = [*conditions, "commission.id < :after"]
        parameters = {**parameters, "after": after}
    return select_commissions(session, conditions, parameters, limit=paging.limit + 1)


_SETTLED = "commission.target_minor <> 0 AND commission.held_minor = 0 AND commission.pending_minor = 0"
_AT_FIRST_SIGHT = {
    CommissionStatus.REJECTED: "commission.target_minor = 0",
    CommissionStatus.REVERSED: "commission.target_minor = 0",
    CommissionStatus.HELD: "commission.held_minor <> 0",
    CommissionStatus.PENDING: "commission.pending_minor <> 0",
    CommissionStatus.APPROVED: "commission.pending_minor <> 0",
    CommissionStatus.PAYABLE: _SETTLED,
    CommissionStatus.IN_PAYOUT: f"""
    {_SETTLED}
    AND EXISTS (SELECT FROM payout_item AS item
                WHERE item.merchant_id = commission.merchant_id AND item.payee_id = commission.payee_id
                  AND item.currency = commission.currency AND item.live)
    """,
    CommissionStatus.PAID: _SETTLED,
}
"""What every commission of a status fulfils and costs little to ask, so that few are looked up among the payouts."""


@router.get("/v1/commissions")
def list_commissions(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Commissions of this affiliate.")] = None,
    order_id: Annotated[OrderId | None, Query(description="Commissions on this order.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Commissions of this programme.")] = None,
    status: Annotated[CommissionStatus | None, Query(description="Commissions that stand here.")] = None,
    reason_code: Annotated[CommissionReason | None, Query(description="Commissions that stand so for this.")] = None,
    placed_from: Annotated[Moment | None, Query(description="Orders placed then or later.")] = None,
    placed_before: Annotated[Moment | None, Query(description="Orders placed before then.")] = None,
) -> Page[CommissionView]:
    """List commissions, newest first, with where each part of them stands."""
    asked: dict[str, tuple[str, object]] = {
        "affiliate_id": ("commission.payee_id = :affiliate_id", affiliate_id),
        "order_id": ("commission.order_id = :order_id", order_id),
        "program_id": ("commission.program_id = :program_id", program_id),
        "status": (f"{STATUS} = :status", status),
        "reason_code": ("commission.reason_code = :reason_code", reason_code),
        "placed_from": ("commission.placed_at >= :placed_from", placed_from),
        "placed_before": ("commission.placed_at < :placed_before", placed_before),
    }
    asked |= {name: (condition, value) for name, condition, value in created.conditions("commission.created_at")}
    given = {name: each for name, each in asked.items() if each[1] is not None}
    conditions = ["commission.merchant_id = :merchant_id", *(condition for condition, _ in given.values())]
    if status is not None:
        conditions.append(_AT_FIRST_SIGHT[status])
    parameters = {"merchant_id": caller.merchant_id, **{name: value for name, (_, value) in given.items()}}
    rows = commission_page(session, paging, conditions, parameters)
    waiting = Waiting(session, caller.merchant_id, rows, now=caller.now)
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: CommissionView.of(row, waiting))


@router.get("/v1/commissions/{commission_id}")
def get_commission(commission_id: CommissionId, caller: Reader, session: ReadSession) -> CommissionView:
    """Return one commission."""
    return _view(session, caller, commission_id)


@router.get("/v1/commissions/{commission_id}/receipt")
def get_commission_receipt(
    commission_id: CommissionId, caller: Reader, session: ReadSession, language: AskedLanguage
) -> ReceiptView:
    """Explain a commission to the last minor unit: terms, lines, rounding, and every difference booked."""
    row = find_commission(session, caller.merchant_id, commission_id)
    return receipt_of(session, caller.merchant_id, row, Speech(language), now=caller.now)


@router.post("/v1/commissions", status_code=201)
def create_commission(asked: CommissionCreate, caller: Admin, session: WriteSession) -> CommissionView:
    """Add to what an affiliate earns on an order, take from it, or give a bonus without an order.

    On an order it is payable when the order's commission is; a bonus at once. A later rejection takes it back. Sent again
    under the same external_id it changes nothing; with another affiliate or amount it is refused (409).
    """
    person = Person(caller.merchant_id, caller.key_id, caller.now)
    adjusted = desk.adjust(
        session,
        person,
        Adjustment(
            asked.affiliate_id,
            asked.amount.amount_minor,
            asked.amount.currency,
            asked.reason_code,
            order_id=asked.order_id,
            external_id=asked.external_id,
            note=asked.note,
            evidence=tuple(asked.evidence),
        ),
    )
    row = find_commission(session, caller.merchant_id, adjusted.commission_id)
    after = CommissionView.of(row, Waiting(session, caller.merchant_id, [row], now=caller.now))
    if not adjusted.repeated:
        given = asked.model_dump(mode="json", include={"amount", "reason_code", "order_id"})
        shown = after.model_dump(mode="json", include=_SHOWN)
        trail.note(
            session,
            merchant_id=caller.merchant_id,
            kind="commission",
            subject=ids.encode("com", after.id),
            after={**shown, "adjustment": {"id": adjusted.adjustment_id, **given}},
        )
    return after


@router.post("/v1/commissions/bulk")
def decide_commissions(asked: CommissionBulk, caller: Admin, session: WriteSession) -> BulkView:
    """Decide about up to 500 commissions. Each gets a result of its own; those that cannot be decided spoil no other."""
    batch = Batch(asked.items, BulkDecision)
    given = list(batch.open.items())
    decisions = [
        Decision(
            item.commission_id,
            item.decision,
            item.reason_code,
            amount_minor=None if item.amount is None else item.amount.amount_minor,
            currency=None if item.amount is None else item.amount.currency,
            note=item.note,
            evidence=tuple(item.evidence),
        )
        for _, item in given
    ]
    before = _views(session, caller, decisions)
    answers = desk.decide(session, Person(caller.merchant_id, caller.key_id, caller.now), decisions)
    after = _views(session, caller, decisions)
    for (place, item), answer in zip(given, answers, strict=True):
        if isinstance(answer, ServiceError):
            batch.refuse(place, answer)
        else:
            batch.done(place, status=200, public_id=ids.encode("com", item.commission_id))
            _note(session, caller, before[item.commission_id], after[item.commission_id])
    return batch.view()


@router.post("/v1/commissions/{commission_id}/approve")
def approve_commission(
    commission_id: CommissionId, asked: CommissionApprove, caller: Admin, session: WriteSession
) -> CommissionView:
    """Let up to an amount be settled. A later decision replaces an earlier one."""
    amount_minor = None
    if asked.amount is not None:
        row = find_commission(session, caller.merchant_id, commission_id)
        if asked.amount.currency != row.currency:
            raise Invalid(f"This commission is in {row.currency}; approve an amount in that currency.")
        amount_minor = asked.amount.amount_minor

    return _decided(session, caller, _decision(commission_id, Verb.APPROVE, asked, amount_minor=amount_minor))


@router.post("/v1/commissions/{commission_id}/reject")
def reject_commission(
    commission_id: CommissionId, asked: CommissionReject, caller: Admin, session: WriteSession
) -> CommissionView:
    """Pay nothing for it, whatever the shop still says of the order. A later approval takes it back."""
    return _decided(session, caller, _decision(commission_id, Verb.REJECT, asked))


@router.post("/v1/commissions/{commission_id}/hold")
def hold_commission(
    commission_id: CommissionId, asked: CommissionHold, caller: Admin, session: WriteSession
) -> CommissionView:
    """Freeze the commission's order, money in a payout that was not handed to a rail included, until it is released."""
    return _decided(session, caller, _decision(commission_id, Verb.HOLD, asked))


@router.post("/v1/commissions/{commission_id}/release")
def release_commission(
    commission_id: CommissionId, asked: CommissionRelease, caller: Admin, session: WriteSession
) -> CommissionView:
    """End every hold on the commission's order. Disputes stay: the shop closes those."""
    return _decided(session, caller, _decision(commission_id, Verb.RELEASE, asked))


def find_commission(
    session: Session, merchant_id: UUID, commission_id: UUID, *, affiliate_id: UUID | None = None
) -> Row[Any]:
    """Return a commission with its places; with affiliate_id, only one of that affiliate. Raises UnknownCommission."""
    conditions = ["commission.merchant_id = :merchant_id", "commission.id = :id"]
    parameters: dict[str, object] = {"merchant_id": merchant_id, "id": commission_id}
    if affiliate_id is not None:
        conditions.append("commission.payee_id = :affiliate_id")
        parameters["affiliate_id"] = affiliate_id
    rows = select_commissions(session, conditions, parameters)
    if not rows:
        raise UnknownCommission(f"There is no commission {ids.encode('com', commission_id)} here.")
    return rows[0]


def receipt_of(session: Session, merchant_id: UUID, row: Row[Any], speech: Speech, *, now: datetime) -> ReceiptView:
    """row: of select_commissions. now: by the merchant's clock."""
    [told] = fetch(
        session,
        """
        SELECT commission.receipt, version.terms
        FROM commission
        LEFT JOIN program_version AS version
          ON version.merchant_id = commission.merchant_id AND version.program_id = commission.program_id
         AND version.number = commission.program_version
        WHERE commission.merchant_id = :merchant_id AND commission.id = :id
        """,
        {"merchant_id": merchant_id, "id": row.id},
    )
    return ReceiptView(
        commission=CommissionView.of(row, Waiting(session, merchant_id, [row], now=now)),
        receipt=shown(told.receipt),
        terms=None if told.terms is None else TermsDocument.of(told.terms),
        words=receipts.sentences(told.receipt, speech)
        or [reasons.commission(CommissionReason(row.reason_code), speech)],
        entries=_entries(session, merchant_id, row),
    )


def _entries(session: Session, merchant_id: UUID, row: Row[Any]) -> list[EntryView]:
    payee = (merchant_id, row.payee_id, row.currency)
    intervals = load_intervals(session, {payee}).get(payee, [])

    def payout_of(version: int | None) -> UUID | None:
        item = None if version is None else holder(version, intervals)
        return None if item is None else item.item_id

    entries = fetch(
        session,
        """
        SELECT seq, kind, source, destination, amount_minor, posting_id, payable_version, created_at
        FROM commission_entry WHERE merchant_id = :merchant_id AND commission_id = :id
        ORDER BY seq
        """,
        {"merchant_id": merchant_id, "id": row.id},
    )
    return [
        EntryView(
            seq=entry.seq,
            kind=EntryKind(entry.kind),
            source=Place(entry.source),
            destination=Place(entry.destination),
            amount=MoneyView(amount_minor=entry.amount_minor, currency=row.currency),
            at=entry.created_at,
            posting_id=entry.posting_id,
            payable_version=entry.payable_version,
            payout_id=payout_of(entry.payable_version),
        )
        for entry in entries
    ]


def _decision(
    commission_id: UUID,
    verb: Verb,
    asked: CommissionApprove | CommissionReject | CommissionHold | CommissionRelease,
    *,
    amount_minor: int | None = None,
) -> Decision:
    return Decision(
        commission_id, verb, asked.reason_code, amount_minor, note=asked.note, evidence=tuple(asked.evidence)
    )


def _decided(session: Session, caller: Caller, decision: Decision) -> CommissionView:
    """Return the commission as it is after a decision, which has been booked in this unit of work."""
    before = _view(session, caller, decision.commission_id)
    desk.decide_one(session, Person(caller.merchant_id, caller.key_id, caller.now), decision)
    after = _view(session, caller, decision.commission_id)
    _note(session, caller, before, after)
    return after


def _view(session: Session, caller: Caller, commission_id: UUID) -> CommissionView:
    row = find_commission(session, caller.merchant_id, commission_id)
    return CommissionView.of(row, Waiting(session, caller.merchant_id, [row], now=caller.now))


def _views(session: Session, caller: Caller, decisions: Sequence[Decision]) -> dict[UUID, CommissionView]:
    """Maps id to how the commission stands that a decision is about; what the merchant does not have is absent."""
    conditions = ["commission.merchant_id = :merchant_id", "commission.id = ANY(CAST(:ids AS uuid[]))"]
    parameters = {"merchant_id": caller.merchant_id, "ids": [each.commission_id for each in decisions]}
    rows = select_commissions(session, conditions, parameters)
    waiting = Waiting(session, caller.merchant_id, rows, now=caller.now)
    return {row.id: CommissionView.of(row, waiting) for row in rows}


_SHOWN = {"status", "reason_code", "target", "places", "approved", "settles_at"}
"""Of a commission in the audit trail."""


def _note(session: Session, caller: Caller, before: CommissionView, after: CommissionView) -> None:
    trail.note(
        session,
        merchant_id=caller.merchant_id,
        kind="commission",
        subject=ids.encode("com", after.id),
        before=before.model_dump(mode="json", include=_SHOWN),
        after=after.model_dump(mode="json", include=_SHOWN),
    )
