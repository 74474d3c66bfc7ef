"""Limits and fees of payouts, and rails that can be stopped."""

from datetime import date, datetime
from functools import cache
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import Row
from sqlmodel import Session, col, select

from service.api.deps import (
    Admin,
    Caller,
    FinanceChecker,
    FinanceMaker,
    Operator,
    Reader,
    ReadSession,
    Services,
    WriteSession,
)
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.problems import taken
from service.api.trail import NOBODYS, note
from service.api.views import (
    Body,
    Currency,
    Day,
    KeyId,
    Moment,
    MoneyBody,
    MoneyView,
    PayoutFeeId,
    PayoutLimitId,
    View,
    Why,
)
from service.domain.errors import Conflict, Invalid, Missing
from service.domain.payout_control import LimitKind
from service.infra.clock import utc_now
from service.infra.db import fetch
from service.infra.ids import new_id
from service.infra.settings import Settings
from service.payouts.control import resume_sending, stop_sending
from service.payouts.providers import Rails, make_rails
from service.tables.control import EVERYBODY, PayoutFeeRow, PayoutLimitRow
from service.tables.parties import ApiKeyRow

router = APIRouter(tags=["payout control"])

RailPath = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{1,40}$", examples=["sandbox"])]


class LimitExists(Conflict):
    code = "payout-limit-exists"
    title = "There is such a limit already"


class FeeBackDated(Invalid):
    code = "payout-fee-back-dated"
    title = "A fee cannot begin before today"


class RailNotStopped(Conflict):
    code = "payout-rail-not-stopped"
    title = "The rail is not stopped"


class PayoutLimitCreate(Body):
    kind: LimitKind
    """payout: the largest single payout; whoever is owed more is left out. run: what a run may send. approval: what a
    run may send that one key approves. day, month: what is handed to rails in that time; the rest waits."""
    limit: MoneyBody
    """Above 0."""
    key_id: KeyId | None = None
    """For approval: whose; null: every key that has no limit of its own."""
    replaces: PayoutLimitId | None = None
    """The limit of the same kind, currency and key that ends as this one begins, so that there is no moment without."""


class PayoutLimitView(View):
    id: PayoutLimitId
    kind: LimitKind
    limit: MoneyView
    key_id: KeyId | None
    set_by: KeyId
    created_at: Moment
    ended_at: Moment | None

    @classmethod
    def of(cls, row: PayoutLimitRow) -> Self:
        return cls(
            id=row.id,
            kind=LimitKind(row.kind),
            limit=MoneyView(amount_minor=row.amount_minor, currency=row.currency),
            key_id=None if row.key_id == EVERYBODY else row.key_id,
            set_by=row.set_by,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )


class PayoutFeeCreate(Body):
    rail: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{1,40}$", examples=["vn_bank_file"])]
    fee: MoneyBody
    """What each payout costs its payee; 0 ends a fee."""
    valid_from: Day | None = None
    """The first pay day it counts for; today if not given."""


class PayoutFeeView(View):
    id: PayoutFeeId
    rail: str
    fee: MoneyView
    valid_from: date
    set_by: KeyId
    created_at: Moment

    @classmethod
    def of(cls, row: PayoutFeeRow) -> Self:
        return cls(
            id=row.id,
            rail=row.rail,
            fee=MoneyView(amount_minor=row.amount_minor, currency=row.currency),
            valid_from=row.valid_from,
            set_by=row.set_by,
            created_at=row.created_at,
        )


class RailStop(Body):
    reason: Why
    """Why; shown to everybody who waits."""


class RailView(View):
    """A rail of this service, and whether it sends."""

    name: str
    pays_here: bool
    """Whether it pays for a merchant of this kind, as it is set up."""
    sends: bool
    """False: it was stopped, or the gate is closed. What is under way is looked up all the same."""
    stopped_at: Moment | None
    reason: str | None
    stopped_for_all: bool
    """Stopped by the operator, for every merchant."""


class RailList(View):
    data: list[RailView]
    gate_closed: bool
    """The database was restored: nothing is sent until it was compared with the rails."""


@router.post("/v1/payout-limits", status_code=201)
def create_payout_limit(asked: PayoutLimitCreate, caller: Admin, session: WriteSession) -> PayoutLimitView:
    """Set a limit, in the place of another or where there is none.

    It holds at once: also for approvals that are still to come, and for payouts of runs under way that were not handed to
    a rail yet. One of these that no limit will ever let pass is released.
    """
    if asked.limit.amount_minor <= 0:
        raise Invalid("A limit is above 0; to send nothing, stop the rail.")
    if asked.key_id is not None:
        _check_approver(session, caller.merchant_id, asked.kind, asked.key_id)
    if asked.replaces is not None:
        _end(session, caller, asked.replaces, instead=asked)
    row = PayoutLimitRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        kind=asked.kind,
        currency=asked.limit.currency,
        key_id=asked.key_id or EVERYBODY,
        amount_minor=asked.limit.amount_minor,
        set_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    with taken("payout_limit_active_ix", LimitExists("Say with `replaces` which limit ends as this one begins.")):
        session.flush()
    return PayoutLimitView.of(row)


@router.get("/v1/payout-limits")
def list_payout_limits(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    kind: Annotated[LimitKind | None, Query(description="Only limits of this kind.")] = None,
    currency: Annotated[Currency | None, Query(description="Only limits in this currency.")] = None,
) -> Page[PayoutLimitView]:
    """List limits, those that were ended too, newest first."""
    chosen = select(PayoutLimitRow).where(col(PayoutLimitRow.merchant_id) == caller.merchant_id)
    if kind is not None:
        chosen = chosen.where(col(PayoutLimitRow.kind) == kind)
    if currency is not None:
        chosen = chosen.where(col(PayoutLimitRow.currency) == currency)
    rows = session.exec(newest_first(chosen, paging, PayoutLimitRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=PayoutLimitView.of)


@router.post("/v1/payout-limits/{limit_id}/end")
def end_payout_limit(limit_id: PayoutLimitId, caller: Admin, session: WriteSession) -> PayoutLimitView:
    """End a limit. Ending one that is ended changes nothing."""
    return PayoutLimitView.of(_end(session, caller, limit_id))


@router.post("/v1/payout-fees", status_code=201)
def create_payout_fee(asked: PayoutFeeCreate, caller: Admin, session: WriteSession) -> PayoutFeeView:
    """Say what each payout on a rail costs its payee, from a pay day on. It is taken after tax, and shown as `fee`."""
    today = merchant_time_of(caller).day
    valid_from = asked.valid_from or today
    if valid_from < today:
        raise FeeBackDated(f"valid_from is today ({today}, by your calendar) or later.")
    if asked.fee.amount_minor < 0:
        raise Invalid("A fee is 0 or more.")
    row = PayoutFeeRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        rail=asked.rail,
        currency=asked.fee.currency,
        amount_minor=asked.fee.amount_minor,
        valid_from=valid_from,
        set_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    return PayoutFeeView.of(row)


@router.get("/v1/payout-fees")
def list_payout_fees(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    rail: Annotated[str | None, Query(description="Only fees of this rail.", max_length=40)] = None,
) -> Page[PayoutFeeView]:
    """List fees, newest first."""
    chosen = select(PayoutFeeRow).where(col(PayoutFeeRow.merchant_id) == caller.merchant_id)
    if rail is not None:
        chosen = chosen.where(col(PayoutFeeRow.rail) == rail)
    rows = session.exec(newest_first(chosen, paging, PayoutFeeRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=PayoutFeeView.of)


@router.get("/v1/rails")
def list_rails(caller: Reader, session: ReadSession, service: Services) -> RailList:
    """List the rails of this service and whether they send."""
    rows = fetch(
        session,
        """
        SELECT rail, merchant_id = :everybody AS for_all, reason, stopped_at FROM rail_switch
        WHERE merchant_id IN (:merchant_id, :everybody)
        ORDER BY rail, for_all
        """,
        {"merchant_id": caller.merchant_id, "everybody": EVERYBODY},
    )
    # Of the two, the operator's counts: it is the one that the merchant cannot lift.
    stopped: dict[str, Row[tuple[str, bool, str, datetime]]] = {row.rail: row for row in rows}
    closed = bool(fetch(session, "SELECT EXISTS (SELECT FROM payout_gate WHERE opened_at IS NULL) AS closed")[0].closed)
    return RailList(
        data=[
            RailView(
                name=name,
                pays_here=rail.serves(is_test=caller.merchant.is_test),
                sends=not closed and name not in stopped,
                stopped_at=stopped[name].stopped_at if name in stopped else None,
                reason=stopped[name].reason if name in stopped else None,
                stopped_for_all=name in stopped and stopped[name].for_all,
            )
            for name, rail in sorted(_rails(service.settings).items())
        ],
        gate_closed=closed,
    )


@router.post("/v1/rails/{rail}/stop")
def stop_rail(
    rail: RailPath, asked: RailStop, caller: FinanceMaker, session: WriteSession, service: Services
) -> RailList:
    """Let a rail send nothing more for you, at once. Runs on it wait; nobody is refused, nothing is released."""
    _stop(session, service.settings, rail, merchant_id=caller.merchant_id, reason=asked.reason, by=caller.key_id)
    return list_rails(caller, session, service)


@router.post("/v1/rails/{rail}/resume")
def resume_rail(rail: RailPath, caller: FinanceChecker, session: WriteSession, service: Services) -> RailList:
    """Let a rail send again. What the operator stopped for all merchants stays stopped."""
    if not resume_sending(session, rail, merchant_id=caller.merchant_id, at=utc_now()):
        raise RailNotStopped(f"You have not stopped {rail}.")
    note(session, merchant_id=caller.merchant_id, kind="rail_switch", subject=rail, before={"sends": False})
    return list_rails(caller, session, service)


@router.post("/v1/operator/rails/{rail}/stop", status_code=204)
def stop_rail_for_all(
    rail: RailPath, asked: RailStop, caller: Operator, session: WriteSession, service: Services
) -> None:
    """Let a rail send nothing more for any merchant, at once."""
    _stop(session, service.settings, rail, merchant_id=EVERYBODY, reason=asked.reason, by=caller.key_id)


@router.post("/v1/operator/rails/{rail}/resume", status_code=204)
def resume_rail_for_all(rail: RailPath, caller: Operator, session: WriteSession) -> None:  # noqa: ARG001 - who asks is told by the trail
    """Let a rail send again for all merchants that have not stopped it themselves."""
    if not resume_sending(session, rail, merchant_id=EVERYBODY, at=utc_now()):
        raise RailNotStopped(f"{rail} is not stopped for all merchants.")
    note(session, merchant_id=NOBODYS, kind="rail_switch", subject=rail, before={"sends": False})


def _stop(session: Session, settings: Settings, rail: str, *, merchant_id: UUID, reason: str, by: UUID) -> None:
    if rail not in _rails(settings):
        raise Missing(f"This service has no rail {rail}; it has {', '.join(sorted(_rails(settings)))}.")
    stop_sending(session, rail, merchant_id=merchant_id, reason=reason, by=by, at=utc_now())
    note(session, merchant_id=merchant_id, kind="rail_switch", subject=rail, after={"sends": False, "reason": reason})


def _end(
    session: Session, caller: Caller, limit_id: UUID, *, instead: PayoutLimitCreate | None = None
) -> PayoutLimitRow:
    """End a limit. instead: what takes its place, which must be of the same kind, currency and key."""
    row = session.exec(
        select(PayoutLimitRow)
        .where(col(PayoutLimitRow.merchant_id) == caller.merchant_id, col(PayoutLimitRow.id) == limit_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such limit.")
    if instead is not None and (row.kind, row.currency, row.key_id) != (
        instead.kind,
        instead.limit.currency,
        instead.key_id or EVERYBODY,
    ):
        raise Invalid("A limit replaces one of the same kind, currency and key_id; end the other by itself.")
    if row.ended_at is None:
        row.ended_at, row.ended_by = caller.now, caller.key_id
        session.flush()
    return row


def _check_approver(session: Session, merchant_id: UUID, kind: LimitKind, key_id: UUID) -> None:
    if kind is not LimitKind.APPROVAL:
        raise Invalid("Only a limit of kind approval is of one key.")
    key = session.get(ApiKeyRow, key_id)
    if key is None or key.merchant_id != merchant_id:
        raise Missing("This merchant has no such key.")


@cache
def _rails(settings: Settings) -> Rails:
    """The rails of these settings; here they only say whom they can pay, so they are never closed."""
    return make_rails(settings)
