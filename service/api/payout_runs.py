"""Payout runs: made by one person, approved by another, executed by the worker."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import Session, col, select

from service.api.deps import FinanceChecker, FinanceMaker, Reader, ReadSession, Services, WriteSession
from service.api.filters import Created, ExternalIdFilter
from service.api.merchants import ExternalIdTaken
from service.api.paging import LIMIT_MAX, Page, Paging, newest_first, page
from service.api.payout_files import PayoutFileView, files_of
from service.api.payouts import PayoutView, merchant_time_of, views_of
from service.api.problems import taken
from service.api.views import AffiliateId, Body, Currency, Day, ExternalId, KeyId, Moment, MoneyView, RunId, View
from service.domain.payout import Excluded, ItemState, RunState
from service.domain.payout_control import FundingState, WaitsFor
from service.domain.rails import RailName
from service.infra.clock import utc_now
from service.infra.db import fetch
from service.infra.ids import encode
from service.infra.settings import Settings
from service.payouts.approve import approve, execute_run, submit
from service.payouts.file_settings import demand_payer
from service.payouts.find import RunMissing, states_in
from service.payouts.providers import RailNotAvailable, Rails, make_rails, other_rails, rail_for
from service.payouts.release import cancel
from service.payouts.reserve import Asked, reserve
from service.tables.payouts import PayoutItemRow, PayoutLeftOutRow, PayoutRunRow

router = APIRouter(tags=["payout runs"])

_SHOWN_MAX = LIMIT_MAX


class PayoutRunCreate(Body):
    """What to pay."""

    rail: RailName
    currency: Currency
    pay_on: Day | None = None
    """The day the money is to leave, by the merchant's calendar; today if not given. Nothing is sent before it."""
    external_id: ExternalId | None = None
    affiliate_ids: Annotated[tuple[AffiliateId, ...], Field(max_length=1000)] = ()
    """Only these affiliates; everybody who can be paid when the list is empty."""


class RunTotalsView(View):
    """Sums over a run's payouts, released ones apart."""

    payouts: int
    gross: MoneyView
    carried: MoneyView
    net: MoneyView
    tax: MoneyView
    """Withheld from the payees."""
    tax_borne: MoneyView
    """At your cost, beside the net."""
    fee: MoneyView
    remainder: MoneyView
    released: int
    """Payouts that gave their money back."""


class FundingView(View):
    """Whether a rail has what a run still has to send."""

    state: FundingState
    needed: MoneyView
    available: MoneyView | None
    checked_at: Moment

    @classmethod
    def of(cls, run: PayoutRunRow) -> Self | None:
        if run.funding is None:
            return None
        available = run.funding["available_minor"]
        return cls(
            state=FundingState(run.funding["state"]),
            needed=MoneyView(amount_minor=run.funding["needed_minor"], currency=run.currency),
            available=None if available is None else MoneyView(amount_minor=available, currency=run.currency),
            checked_at=datetime.fromisoformat(run.funding["checked_at"]),
        )


class PayoutRunView(View):
    """Payouts approved together."""

    id: RunId
    external_id: str | None
    status: RunState
    rail: str
    currency: str
    pay_on: date
    content_hash: str | None
    """Over everything that is approved; fixed when the run is submitted."""
    totals: RunTotalsView
    excluded_total: int
    """How many affiliates with a balance were left out."""
    created_by: KeyId
    submitted_by: KeyId | None
    approved_by: KeyId | None
    created_at: Moment
    submitted_at: Moment | None
    approved_at: Moment | None
    executed_at: Moment | None
    closed_at: Moment | None
    stopped_at: Moment | None
    """Since when nothing is sent; execute the run again when the cause is gone."""
    stop_code: str | None
    waits_for: WaitsFor | None
    """Why nothing is handed over now, though nothing is wrong with the run: it goes on by itself."""
    funding: FundingView | None
    """What the rail had when it was last asked; null before."""

    @classmethod
    def of(cls, run: PayoutRunRow, totals: RunTotalsView, *, excluded_total: int) -> Self:
        return cls(**_fields(run, totals, excluded_total=excluded_total))


class ExcludedView(View):
    """An affiliate that was left out when the run was made."""

    affiliate_id: AffiliateId
    reason_code: Excluded
    payable: MoneyView
    carried: MoneyView


class StateCountView(View):
    """How many payouts are in one state."""

    status: ItemState
    payouts: int
    net: MoneyView


class PayoutRunDetailView(PayoutRunView):
    """A run with its payouts and those left out, the first 200 of each; /v1/payouts?run_id= lists all."""

    states: list[StateCountView]
    files: list[PayoutFileView]
    """Of a rail whose payouts leave in files: those that were built, the first 200."""
    payouts: list[PayoutView]
    excluded: list[ExcludedView]


@router.post("/v1/payout-runs", status_code=201)
def create_payout_run(
    asked: PayoutRunCreate, caller: FinanceMaker, session: WriteSession, service: Services
) -> PayoutRunDetailView:
    """Make a draft run of everybody who can be paid now, and reserve their money.

    Whoever has a balance but cannot be paid is listed under `excluded` with a reason.
    """
    when = merchant_time_of(caller)
    wanted = Asked(
        merchant_id=caller.merchant_id,
        currency=asked.currency,
        pay_on=asked.pay_on or when.day,
        by=caller.key_id,
        external_id=asked.external_id,
        payee_ids=asked.affiliate_ids,
    )
    rail = rail_for(_rails(service.settings), asked.rail, is_test=caller.merchant.is_test)
    demand_payer(session, caller.merchant_id, rail)
    elsewhere = other_rails(_rails(service.settings), rail, asked.currency, is_test=caller.merchant.is_test)
    refusal = ExternalIdTaken(f"Another payout run has the external_id {asked.external_id!r}.")
    with taken("payout_run_merchant_id_external_id_key", refusal):
        run = reserve(session, wanted, rail=rail, when=when, elsewhere=elsewhere)
    return _detail(session, run)


@router.get("/v1/payout-runs")
def list_payout_runs(
    *,
    caller: Reader,
    session: ReadSession,
    asked: Paging,
    created: Created,
    status: Annotated[RunState | None, Query(description="Only runs of this status.")] = None,
    external_id: ExternalIdFilter = None,
    rail: Annotated[RailName | None, Query(description="Only runs on this rail.")] = None,
    currency: Annotated[Currency | None, Query(description="Only runs in this currency.")] = None,
) -> Page[PayoutRunView]:
    """List payout runs, newest first."""
    chosen = select(PayoutRunRow).where(col(PayoutRunRow.merchant_id) == caller.merchant_id)
    if status is not None:
        chosen = chosen.where(col(PayoutRunRow.status) == status)
    if external_id is not None:
        chosen = chosen.where(col(PayoutRunRow.external_id) == external_id)
    if rail is not None:
        chosen = chosen.where(col(PayoutRunRow.rail) == rail)
    if currency is not None:
        chosen = chosen.where(col(PayoutRunRow.currency) == currency)
    chosen = created.narrow(chosen, col(PayoutRunRow.created_at))
    runs = session.exec(newest_first(chosen, asked, col(PayoutRunRow.id))).all()
    totals = _totals(session, caller.merchant_id, {run.id: run.currency for run in runs})
    excluded = _excluded(session, caller.merchant_id, [run.id for run in runs])
    return page(
        runs,
        asked,
        key=lambda run: (run.id,),
        view=lambda run: PayoutRunView.of(run, totals[run.id], excluded_total=excluded.get(run.id, 0)),
    )


@router.get("/v1/payout-runs/{run_id}")
def get_payout_run(run_id: RunId, caller: Reader, session: ReadSession) -> PayoutRunDetailView:
    """Return a run with its payouts, sums, and who was left out and why."""
    return _detail(session, _run(session, caller.merchant_id, run_id))


@router.post("/v1/payout-runs/{run_id}/submit")
def submit_payout_run(
    run_id: RunId, caller: FinanceMaker, session: WriteSession, service: Services
) -> PayoutRunDetailView:
    """Freeze a draft and ask for approval. From now on payouts can only be taken out.

    What is withheld is decided now, for the day the run pays on. Payouts for which it cannot be are taken out.
    """
    draft = _run(session, caller.merchant_id, run_id)
    rail = rail_for(_rails(service.settings), draft.rail, is_test=caller.merchant.is_test)
    step_minor = rail.step_minor(draft.currency)
    if step_minor is None:
        raise RailNotAvailable(f"The rail {rail.name} does not pay in {draft.currency} any more; cancel the run.")
    run = submit(
        session,
        merchant_id=caller.merchant_id,
        run_id=run_id,
        step_minor=step_minor,
        by=caller.key_id,
        when=merchant_time_of(caller),
    )
    return _detail(session, run)


@router.post("/v1/payout-runs/{run_id}/approve")
def approve_payout_run(run_id: RunId, caller: FinanceChecker, session: WriteSession) -> PayoutRunDetailView:
    """Approve a submitted run, exactly as it was submitted. The approver must not be its submitter."""
    run = approve(
        session, merchant_id=caller.merchant_id, run_id=run_id, approver=caller.key_id, when=merchant_time_of(caller)
    )
    return _detail(session, run)


@router.post("/v1/payout-runs/{run_id}/execute", status_code=202)
def execute_payout_run(run_id: RunId, caller: FinanceMaker, session: WriteSession) -> PayoutRunDetailView:
    """Let the worker send an approved run, or go on with one that had stopped. Watch its status.

    Before each payout is sent it is checked once more; one that is not as approved gives its money back instead.
    """
    run = execute_run(
        session, merchant_id=caller.merchant_id, run_id=run_id, when=merchant_time_of(caller), now=utc_now()
    )
    return _detail(session, run)


@router.post("/v1/payout-runs/{run_id}/cancel")
def cancel_payout_run(run_id: RunId, caller: FinanceMaker, session: WriteSession) -> PayoutRunDetailView:
    """Give the money of all unsent payouts back. Payouts that were, or may have been, sent are seen to their end."""
    run = cancel(session, merchant_id=caller.merchant_id, run_id=run_id, when=merchant_time_of(caller), now=utc_now())
    return _detail(session, run)


def _run(session: Session, merchant_id: UUID, run_id: UUID) -> PayoutRunRow:
    run = session.get(PayoutRunRow, (merchant_id, run_id))
    if run is None:
        raise RunMissing(f"No payout run {encode('run', run_id)} here.")
    return run


@cache
def _rails(settings: Settings) -> Rails:
    """The rails of these settings; here they only say whom they can pay, so they are never closed."""
    return make_rails(settings)


def _fields(run: PayoutRunRow, totals: RunTotalsView, *, excluded_total: int) -> dict[str, Any]:
    return {
        "id": run.id,
        "external_id": run.external_id,
        "status": RunState(run.status),
        "rail": run.rail,
        "currency": run.currency,
        "pay_on": run.pay_on,
        "content_hash": run.content_hash,
        "totals": totals,
        "excluded_total": excluded_total,
        "created_by": run.created_by,
        "submitted_by": run.submitted_by,
        "approved_by": run.approved_by,
        "created_at": run.created_at,
        "submitted_at": run.submitted_at,
        "approved_at": run.approved_at,
        "executed_at": run.executed_at,
        "closed_at": run.closed_at,
        "stopped_at": run.stopped_at,
        "stop_code": run.stop_code,
        "waits_for": None if run.waits_for is None else WaitsFor(run.waits_for),
        "funding": FundingView.of(run),
    }


def _totals(session: Session, merchant_id: UUID, currencies: dict[UUID, str]) -> dict[UUID, RunTotalsView]:
    rows = fetch(
        session,
        """
        SELECT run_id, count(*) FILTER (WHERE kept) AS payouts, count(*) FILTER (WHERE NOT kept) AS released,
               CAST(coalesce(sum(gross_minor) FILTER (WHERE kept), 0) AS bigint) AS gross,
               CAST(coalesce(sum(carried_minor) FILTER (WHERE kept), 0) AS bigint) AS carried,
               CAST(coalesce(sum(net_minor) FILTER (WHERE kept), 0) AS bigint) AS net,
               CAST(coalesce(sum(tax_minor) FILTER (WHERE kept), 0) AS bigint) AS tax,
               CAST(coalesce(sum(tax_borne_minor) FILTER (WHERE kept), 0) AS bigint) AS tax_borne,
               CAST(coalesce(sum(fee_minor) FILTER (WHERE kept), 0) AS bigint) AS fee,
               CAST(coalesce(sum(remainder_minor) FILTER (WHERE kept), 0) AS bigint) AS remainder
        FROM (SELECT *, released_at IS NULL AS kept FROM payout_item
              WHERE merchant_id = :merchant_id AND run_id = ANY(CAST(:run_ids AS uuid[]))) AS item
        GROUP BY run_id
        """,
        {"merchant_id": merchant_id, "run_ids": list(currencies)},
    )
    found = {row.run_id: row for row in rows}
    return {
        run_id: RunTotalsView(
            payouts=found[run_id].payouts,
            released=found[run_id].released,
            **{
                name: MoneyView(amount_minor=getattr(found[run_id], name), currency=currency)
                for name in ("gross", "carried", "net", "tax", "tax_borne", "fee", "remainder")
            },
        )
        for run_id, currency in currencies.items()
    }


def _excluded(session: Session, merchant_id: UUID, run_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """How many each run left out; only runs that left out somebody."""
    rows = fetch(
        session,
        """
        SELECT run_id, count(*) AS payees FROM payout_left_out
        WHERE merchant_id = :merchant_id AND run_id = ANY(CAST(:run_ids AS uuid[]))
        GROUP BY run_id
        """,
        {"merchant_id": merchant_id, "run_ids": list(run_ids)},
    )
    return {row.run_id: row.payees for row in rows}


def _detail(session: Session, run: PayoutRunRow) -> PayoutRunDetailView:
    session.flush()
    items = session.exec(
        select(PayoutItemRow)
        .where(col(PayoutItemRow.merchant_id) == run.merchant_id, col(PayoutItemRow.run_id) == run.id)
        .order_by(col(PayoutItemRow.id))
        .limit(_SHOWN_MAX)
        .execution_options(populate_existing=True)
    ).all()
    views = views_of(session, run.merchant_id, items)
    totals = _totals(session, run.merchant_id, {run.id: run.currency})[run.id]
    left_out = session.exec(
        select(PayoutLeftOutRow)
        .where(col(PayoutLeftOutRow.merchant_id) == run.merchant_id, col(PayoutLeftOutRow.run_id) == run.id)
        .order_by(col(PayoutLeftOutRow.payee_id))
        .limit(_SHOWN_MAX)
    ).all()

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount_minor=amount_minor, currency=run.currency)

    return PayoutRunDetailView(
        **_fields(run, totals, excluded_total=_excluded(session, run.merchant_id, [run.id]).get(run.id, 0)),
        states=[
            StateCountView(status=each.state, payouts=each.items, net=money(each.net_minor))
            for each in states_in(session, run)
        ],
        files=files_of(session, run, limit=_SHOWN_MAX),
        payouts=[views[item.id] for item in items],
        excluded=[
            ExcludedView(
                affiliate_id=each.payee_id,
                reason_code=Excluded(each.reason_code),
                payable=money(each.payable_minor),
                carried=money(each.carried_minor),
            )
            for each in left_out
        ],
    )
