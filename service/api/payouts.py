"""Money sent to one affiliate: its state, its attempts, and the statement that explains every cent of it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from sqlmodel import Session, col, select

from service.api import trail
from service.api.deps import Caller, FinanceMaker, Reader, ReadSession, WriteSession
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import (
    AffiliateId,
    CommissionId,
    Currency,
    KeyId,
    Moment,
    MoneyView,
    OrderId,
    PayoutId,
    PayoutMethodId,
    RunId,
    View,
)
from service.domain.ledger import MerchantTime
from service.domain.payout import FactKind, ItemState, Outcome
from service.domain.withholding.model import Caution
from service.infra.clock import utc_now
from service.infra.ids import encode
from service.payouts.find import Known, PayoutMissing, known_of, state_of
from service.payouts.release import release
from service.payouts.retry import confirm_resend, retry
from service.payouts.statement import LINES_MAX, Movement, movements
from service.payouts.withhold import decided
from service.tables.payouts import PayoutAttemptRow, PayoutItemRow, PayoutRunRow, ProviderFactRow

router = APIRouter(tags=["payouts"])


class PayoutView(View):
    """One affiliate's money in a payout run. gross + carried = net + tax + fee + remainder."""

    id: PayoutId
    run_id: RunId
    affiliate_id: AffiliateId
    status: ItemState
    """Computed from attempts and from what the provider told. `unknown` means just that: the money may have arrived, so
    it is neither sent again nor given back until that is certain."""
    rail: str
    payout_method_id: PayoutMethodId
    gross: MoneyView
    """All that was payable."""
    carried: MoneyView
    """From earlier payouts, its deductions done: remainders, and money a rail gave back."""
    net: MoneyView
    """What the rail sends."""
    tax: MoneyView
    fee: MoneyView
    remainder: MoneyView
    """Below the smallest amount the rail pays; carried to the next payout."""
    came_back: MoneyView
    """Of the net amount, what the provider reversed or returned; it is carried to the next payout."""
    tax_rule: str
    tax_borne: MoneyView
    """Tax at your cost, beside the split above: grossed up, or only warned of."""
    tax_cautions: list[Caution]
    """What a person should look at about its tax; GET …/tax explains it."""
    frozen_code: str | None
    """Set when nothing will be sent until a person has looked."""
    retry_requested: bool
    created_at: Moment
    handed_over_at: Moment | None
    released_at: Moment | None
    release_reason: str | None
    """Why it gave its money back."""

    @classmethod
    def of(cls, item: PayoutItemRow, run: PayoutRunRow, known: Known) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=item.currency)

        return cls(
            id=item.id,
            run_id=item.run_id,
            affiliate_id=item.payee_id,
            status=state_of(item, run_status=run.status, known=known),
            rail=run.rail,
            payout_method_id=item.payout_method_id,
            gross=money(item.gross_minor),
            carried=money(item.carried_minor),
            net=money(item.net_minor),
            tax=money(item.tax_minor),
            fee=money(item.fee_minor),
            remainder=money(item.remainder_minor),
            came_back=money(known.came_back_minor(item.net_minor)),
            tax_rule=item.tax_rule,
            tax_borne=money(item.tax_borne_minor),
            tax_cautions=list(decided(item).cautions),
            frozen_code=item.frozen_code,
            retry_requested=item.retry_by is not None,
            created_at=item.created_at,
            handed_over_at=item.handed_over_at,
            released_at=item.released_at,
            release_reason=item.release_reason,
        )


class AttemptView(View):
    """One try to send it."""

    number: int
    outcome: Outcome
    reference: str | None
    """The provider's id of the transfer."""
    code: str
    """The provider's word on a refusal or silence."""
    sends: int
    """How often the same request went out, always under one idempotency key."""
    idempotency_key: str
    first_sent_at: Moment | None
    next_look_at: Moment | None
    asked_by: KeyId | None
    """Who asked for this attempt after an earlier one did nothing."""
    created_at: Moment


class ProviderFactView(View):
    """Something the provider told of a transfer."""

    kind: FactKind
    reference: str
    amount: MoneyView
    told_at: Moment


class PayoutDetailView(PayoutView):
    """A payout with all that is known of its sending."""

    attempts: list[AttemptView]
    facts: list[ProviderFactView]


class StatementLineView(View):
    """One movement of what was payable."""

    kind: str
    """As in the commission's entries; `given_back` is an earlier payout that gave its money back."""
    amount: MoneyView
    """Below zero where it took something away."""
    at: Moment
    commission_id: CommissionId | None
    order_id: OrderId | None
    order_number: str | None
    payout_id: PayoutId | None
    """The earlier payout, of a `given_back` line."""


class StatementView(View):
    """Why a payout is what it is: opening + lines = gross + closing."""

    payout: PayoutView
    opening: MoneyView
    """Always 0: every payout takes all that is payable."""
    lines: list[StatementLineView]
    lines_complete: bool
    """False when there are more lines than one statement shows; the sums are right all the same."""
    gross: MoneyView
    closing: MoneyView
    place: str
    """Where the money stands: reserved, in_transit, paid, or payable when it was given back."""


_PLACES = {
    ItemState.RESERVED: "reserved",
    ItemState.APPROVED: "reserved",
    ItemState.REFUSED: "reserved",
    ItemState.SENDING: "in_transit",
    ItemState.UNKNOWN: "in_transit",
    ItemState.SENT: "paid",
    ItemState.SETTLED: "paid",
    ItemState.PART_REVERSED: "paid",
    ItemState.REVERSED: "taxed_carry",
    ItemState.RETURNED: "taxed_carry",
    ItemState.RELEASED: "payable",
}


@router.get("/v1/payouts")
def list_payouts(
    *,
    caller: Reader,
    session: ReadSession,
    asked: Paging,
    created: Created,
    run_id: Annotated[RunId | None, Query(description="Only payouts of this run.")] = None,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only payouts of this affiliate.")] = None,
    currency: Annotated[Currency | None, Query(description="Only payouts in this currency.")] = None,
) -> Page[PayoutView]:
    """List payouts, newest first."""
    chosen = select(PayoutItemRow).where(col(PayoutItemRow.merchant_id) == caller.merchant_id)
    if run_id is not None:
        chosen = chosen.where(col(PayoutItemRow.run_id) == run_id)
    if affiliate_id is not None:
        chosen = chosen.where(col(PayoutItemRow.payee_id) == affiliate_id)
    if currency is not None:
        chosen = chosen.where(col(PayoutItemRow.currency) == currency)
    chosen = created.narrow(chosen, col(PayoutItemRow.created_at))
    items = session.exec(newest_first(chosen, asked, col(PayoutItemRow.id))).all()
    views = views_of(session, caller.merchant_id, items)
    return page(items, asked, key=lambda item: (item.id,), view=lambda item: views[item.id])


@router.get("/v1/payouts/{payout_id}")
def get_payout(payout_id: PayoutId, caller: Reader, session: ReadSession) -> PayoutDetailView:
    """Return a payout with its attempts and with what the provider told of it."""
    return _detail(session, caller, payout_id)


@router.get("/v1/payouts/{payout_id}/statement")
def get_payout_statement(payout_id: PayoutId, caller: Reader, session: ReadSession) -> StatementView:
    """Explain a payout: every commission that it pays, and every deduction, adding up to its gross amount."""
    item = _item(session, caller.merchant_id, payout_id)
    return statement_of(session, item)


@router.post("/v1/payouts/{payout_id}/release")
def release_payout(payout_id: PayoutId, caller: FinanceMaker, session: WriteSession) -> PayoutDetailView:
    """Take a payout out of its run and give the money back to the affiliate's balance.

    Possible while nothing was sent, and after a refusal or a proof that nothing arrived. Safe to repeat.
    """
    with _noted(session, caller, payout_id):
        release(
            session, merchant_id=caller.merchant_id, item_id=payout_id, when=merchant_time_of(caller), now=utc_now()
        )
    return _detail(session, caller, payout_id)


@router.post("/v1/payouts/{payout_id}/retry", status_code=202)
def retry_payout(payout_id: PayoutId, caller: FinanceMaker, session: WriteSession) -> PayoutDetailView:
    """Ask for another attempt after the provider refused the last one. It is checked again like the first."""
    with _noted(session, caller, payout_id):
        retry(session, merchant_id=caller.merchant_id, item_id=payout_id, by=caller.key_id, now=utc_now())
    return _detail(session, caller, payout_id)


@router.post("/v1/payouts/{payout_id}/confirm-resend", status_code=202)
def confirm_payout_resend(payout_id: PayoutId, caller: FinanceMaker, session: WriteSession) -> PayoutDetailView:
    """Confirm that a payout whose last attempt provably never arrived is to be sent again, under a new key."""
    with _noted(session, caller, payout_id):
        confirm_resend(session, merchant_id=caller.merchant_id, item_id=payout_id, by=caller.key_id, now=utc_now())
    return _detail(session, caller, payout_id)


@contextlib.contextmanager
def _noted(session: Session, caller: Caller, payout_id: UUID) -> Iterator[None]:
    """Note in the audit trail what the block does to a payout."""

    def told() -> dict[str, object]:
        session.flush()
        item = _item(session, caller.merchant_id, payout_id)
        known = known_of(session, caller.merchant_id, [payout_id])[payout_id]
        run = session.get_one(PayoutRunRow, (caller.merchant_id, item.run_id))
        return {
            "status": state_of(item, run_status=run.status, known=known).value,
            "released": item.released_at is not None,
            "asked_for_another_attempt": item.retry_by is not None,
        }

    before = told()
    yield
    trail.note(
        session,
        merchant_id=caller.merchant_id,
        kind="payout_item",
        subject=encode("pay", payout_id),
        before=before,
        after=told(),
    )


def merchant_time_of(caller: Caller) -> MerchantTime:
    return MerchantTime(caller.now, caller.merchant.time_zone)


def views_of(session: Session, merchant_id: UUID, items: Sequence[PayoutItemRow]) -> Mapping[UUID, PayoutView]:
    """Maps id to view, in a fixed number of statements."""
    known = known_of(session, merchant_id, [item.id for item in items])
    runs = {
        run.id: run
        for run in session.exec(
            select(PayoutRunRow).where(
                col(PayoutRunRow.merchant_id) == merchant_id,
                col(PayoutRunRow.id).in_(sorted({item.run_id for item in items})),
            )
        ).all()
    }
    return {item.id: PayoutView.of(item, runs[item.run_id], known[item.id]) for item in items}


def statement_of(session: Session, item: PayoutItemRow) -> StatementView:
    """Return the statement of an item; a KOC's own view shows the same."""

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount_minor=amount_minor, currency=item.currency)

    view = views_of(session, item.merchant_id, [item])[item.id]
    found = movements(session, item, limit=LINES_MAX + 1)
    return StatementView(
        payout=view,
        opening=money(0),
        lines=[_line(each, item.currency) for each in found[:LINES_MAX]],
        lines_complete=len(found) <= LINES_MAX,
        gross=money(item.gross_minor),
        closing=money(0),
        place=_PLACES[view.status],
    )


def _line(movement: Movement, currency: str) -> StatementLineView:
    return StatementLineView(
        kind=movement.kind,
        amount=MoneyView(amount_minor=movement.amount_minor, currency=currency),
        at=movement.at,
        commission_id=movement.commission_id,
        order_id=movement.order_id,
        order_number=movement.order_number,
        payout_id=movement.payout_id,
    )


def _item(session: Session, merchant_id: UUID, payout_id: UUID) -> PayoutItemRow:
    item = session.get(PayoutItemRow, (merchant_id, payout_id), populate_existing=True)
    if item is None:
        raise PayoutMissing(f"No payout {encode('pay', payout_id)} here.")
    return item


def _detail(session: Session, caller: Caller, payout_id: UUID) -> PayoutDetailView:
    session.flush()
    item = _item(session, caller.merchant_id, payout_id)
    view = views_of(session, caller.merchant_id, [item])[item.id]
    attempts = session.exec(
        select(PayoutAttemptRow)
        .where(col(PayoutAttemptRow.merchant_id) == caller.merchant_id, col(PayoutAttemptRow.item_id) == payout_id)
        .order_by(col(PayoutAttemptRow.number))
    ).all()
    facts = session.exec(
        select(ProviderFactRow)
        .where(col(ProviderFactRow.merchant_id) == caller.merchant_id, col(ProviderFactRow.item_id) == payout_id)
        .order_by(col(ProviderFactRow.told_at), col(ProviderFactRow.kind), col(ProviderFactRow.version))
    ).all()
    return PayoutDetailView(
        **dict(view),
        attempts=[_attempt(each) for each in attempts],
        facts=[
            ProviderFactView(
                kind=FactKind(fact.kind),
                reference=fact.object_id,
                amount=MoneyView(amount_minor=fact.amount_minor, currency=item.currency),
                told_at=fact.told_at,
            )
            for fact in facts
        ],
    )


def _attempt(row: PayoutAttemptRow) -> AttemptView:
    still_open = row.outcome in {Outcome.PLANNED, Outcome.IN_FLIGHT, Outcome.UNKNOWN}
    next_look_at: datetime | None = row.next_at if still_open else None
    return AttemptView(
        number=row.number,
        outcome=Outcome(row.outcome),
        reference=row.reference,
        code=row.code,
        sends=row.sends,
        idempotency_key=row.idempotency_key,
        first_sent_at=row.first_sent_at,
        next_look_at=next_look_at,
        asked_by=row.asked_by,
        created_at=row.created_at,
    )
