"""Statements: numbered documents of what an affiliate was owed, what moved, and what it is owed after."""

from datetime import date
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.affiliates import NONE_SUCH, locked
from service.api.deps import Admin, Caller, FinanceMaker, Reader, ReadSession, Services, WriteSession
from service.api.etags import IfMatch
from service.api.filters import Created
from service.api.language import AskedLanguage
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.statement_views import (
    MARKED,
    PeriodStatementDetailView,
    PeriodStatementView,
    csv_of,
    detail_of,
    find_statement,
    html_of,
    statement_page,
)
from service.api.views import (
    AffiliateId,
    Body,
    Currency,
    Day,
    KeyId,
    Moment,
    Month,
    SelfBillingAgreementId,
    StatementId,
    StatementRunId,
    View,
)
from service.domain.errors import Invalid, Missing
from service.domain.statement import month
from service.infra.ids import encode, new_id
from service.reports.issue import ANSWER_DAYS, Asked, ask
from service.reports.statement_books import Days
from service.tables.parties import AffiliateRow
from service.tables.statements import (
    SelfBillingAgreementRow,
    StatementMark,
    StatementRunRow,
    StatementRunState,
    StatementSettingsRow,
)

router = APIRouter(tags=["statements"])

AFFILIATES_MAX = 1000
ANSWER_DAYS_MAX = 366
_Flag = Annotated[bool, Strict()]
_Line = Annotated[str, Strict(), Field(max_length=200)]


class StatementsCreate(Body):
    """Which days: a calendar month, or the first and the last day."""

    month: Month | None = None
    """In your time zone."""
    begins_on: Day | None = None
    ends_on: Day | None = None
    """Included."""
    currency: Currency | None = None
    """Only in this one."""
    affiliate_ids: Annotated[list[AffiliateId], Field(min_length=1, max_length=AFFILIATES_MAX)] | None = None
    """Only of these, also where nothing moved; left out: of all with movements."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        has_days = self.begins_on is not None and self.ends_on is not None
        has_some = self.begins_on is not None or self.ends_on is not None
        if (self.month is not None) is has_some or has_some is not has_days:
            raise PydanticCustomError("period", "Name a month, or both begins_on and ends_on")
        return self

    def days(self) -> Days:
        """Raises Invalid."""
        if self.month is not None:
            return Days(*month(self.month))
        assert self.begins_on is not None
        assert self.ends_on is not None
        return Days(self.begins_on, self.ends_on)


class LeftOutView(View):
    affiliate_id: AffiliateId
    currency: str
    reason_code: str
    """billed_already: a self-billed statement of other days holds some of these."""


class StatementRunView(View):
    """Statements of some days asked for together."""

    id: StatementRunId
    state: StatementRunState
    begins_on: date
    ends_on: date
    currency: str | None
    affiliate_ids: list[AffiliateId] | None
    accounts_total: int | None
    """Affiliates times currencies to be looked at."""
    accounts_done: int
    issued: int
    kept: int
    """There was one already that says the same."""
    left_out: list[LeftOutView]
    """The first hundred."""
    left_out_total: int
    error_detail: str
    asked_by: KeyId
    created_at: Moment
    finished_at: Moment | None

    @classmethod
    def of(cls, row: StatementRunRow) -> Self:
        return cls(
            id=row.id,
            state=StatementRunState(row.state),
            begins_on=row.begins_on,
            ends_on=row.ends_on,
            currency=row.currency,
            affiliate_ids=None if row.affiliate_ids is None else [UUID(each) for each in row.affiliate_ids["ids"]],
            accounts_total=row.accounts_total,
            accounts_done=row.accounts_done,
            issued=row.issued,
            kept=row.kept,
            left_out=[LeftOutView(**each) for each in row.left_out],
            left_out_total=row.left_out_total,
            error_detail=row.error_detail,
            asked_by=row.asked_by,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


class StatementSettingsUpdate(Body):
    legal_name: _Line = ""
    """Empty: your name as it is shown elsewhere."""
    address: Annotated[str, Strict(), Field(max_length=1000)] = ""
    """A line break begins another line."""
    vat_id: _Line = ""
    self_billing: _Flag = False
    """Statements of affiliates who agreed to it are self-billed invoices."""
    vat_note: Annotated[str, Strict(), Field(max_length=1000)] = ""
    """What self-billed invoices say about VAT, such as "Reverse charge"; no VAT is computed here."""
    answer_days: Annotated[int, Strict(), Field(ge=0, le=ANSWER_DAYS_MAX)] = ANSWER_DAYS
    """How long an affiliate may object, in days after the day of issue."""


class StatementSettingsView(View):
    legal_name: str
    address: str
    vat_id: str
    self_billing: bool
    vat_note: str
    answer_days: int
    updated_at: Moment | None
    """Null while nothing was set."""

    @classmethod
    def of(cls, row: StatementSettingsRow | None) -> Self:
        known = StatementSettingsUpdate() if row is None else row
        return cls(
            legal_name=known.legal_name,
            address=known.address,
            vat_id=known.vat_id,
            self_billing=known.self_billing,
            vat_note=known.vat_note,
            answer_days=known.answer_days,
            updated_at=None if row is None else row.updated_at,
        )


class SelfBillingAgreementCreate(Body):
    agreed: _Flag = True
    """False: the affiliate agrees no more."""
    agreed_on: Day
    """When, by your calendar; not after today."""
    reference: _Line = ""
    """Where the agreement can be found."""


class SelfBillingAgreementView(View):
    id: SelfBillingAgreementId
    affiliate_id: AffiliateId
    agreed: bool
    agreed_on: date
    reference: str
    recorded_by: KeyId
    recorded_at: Moment

    @classmethod
    def of(cls, row: SelfBillingAgreementRow) -> Self:
        return cls(
            id=row.id,
            affiliate_id=row.affiliate_id,
            agreed=row.agreed,
            agreed_on=row.agreed_on,
            reference=row.reference,
            recorded_by=row.recorded_by,
            recorded_at=row.recorded_at,
        )


@router.post("/v1/statements", status_code=202)
def issue_statements(
    asked: StatementsCreate, caller: FinanceMaker, session: WriteSession, services: Services
) -> StatementRunView:
    """Issue statements of days that are over: of one month, or of any whole days.

    A few are there when this answers; of many a worker issues one after the other, and
    `GET /v1/statement-runs/{statement_run_id}` says how far it is. Who has one of the same days keeps it. Close the books
    of the days first: until then statements are provisional.
    """
    _check_affiliates(session, caller, asked.affiliate_ids)
    wanted = Asked(
        merchant_id=caller.merchant_id,
        days=asked.days(),
        by=caller.key_id,
        currency=asked.currency,
        affiliate_ids=asked.affiliate_ids,
    )
    return StatementRunView.of(ask(session, services.security, wanted, when=merchant_time_of(caller)))


def _check_affiliates(session: Session, caller: Caller, affiliate_ids: list[UUID] | None) -> None:
    asked = set(affiliate_ids or ())
    known = session.exec(
        select(AffiliateRow.id).where(
            col(AffiliateRow.merchant_id) == caller.merchant_id, col(AffiliateRow.id).in_(sorted(asked))
        )
    ).all()
    missing = sorted(asked - set(known))
    if missing:
        raise Missing(f"{NONE_SUCH[:-1]}: {encode('aff', missing[0])}.")


@router.get("/v1/statement-runs")
def list_statement_runs(
    caller: Reader, session: ReadSession, paging: Paging, created: Created
) -> Page[StatementRunView]:
    """List what was asked for, newest first."""
    chosen = select(StatementRunRow).where(col(StatementRunRow.merchant_id) == caller.merchant_id)
    chosen = created.narrow(chosen, col(StatementRunRow.created_at))
    rows = session.exec(newest_first(chosen, paging, StatementRunRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=StatementRunView.of)


@router.get("/v1/statement-runs/{statement_run_id}")
def get_statement_run(statement_run_id: StatementRunId, caller: Reader, session: ReadSession) -> StatementRunView:
    """Return how far the issuing is, and what came of it."""
    row = session.get(StatementRunRow, (caller.merchant_id, statement_run_id))
    if row is None:
        raise Missing("This merchant has asked for no such statements.")
    return StatementRunView.of(row)


@router.get("/v1/statements")
def list_statements(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only of this affiliate.")] = None,
    currency: Annotated[Currency | None, Query(description="Only in this currency.")] = None,
    begins_on: Annotated[Day | None, Query(description="Only of days that begin with this one.")] = None,
    run_id: Annotated[StatementRunId | None, Query(description="Only those issued together.")] = None,
    answer: Annotated[
        StatementMark | None, Query(description="Only those that were accepted, objected to, or confirmed.")
    ] = None,
) -> Page[PeriodStatementView]:
    """List statements, newest first."""
    asked: dict[str, object] = {
        "statement.affiliate_id = :affiliate_id": affiliate_id,
        "statement.currency = :currency": currency,
        "statement.begins_on = :begins_on": begins_on,
        "statement.run_id = :run_id": run_id,
        MARKED: answer,
    }
    return statement_page(session, caller.merchant_id, asked, paging, created)


# Before the path without an ending, which would take these for ids.
@router.get(
    "/v1/statements/{statement_id}.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_statement_csv(statement_id: StatementId, caller: Reader, session: ReadSession, services: Services) -> Response:
    """Return a statement as CSV: what was owed by place, every movement and order line, what is owed by place."""
    return csv_of(find_statement(session, caller.merchant_id, statement_id), services.security)


@router.get(
    "/v1/statements/{statement_id}.html",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def get_statement_html(
    statement_id: StatementId, caller: Reader, session: ReadSession, services: Services, language: AskedLanguage
) -> Response:
    """Return a statement as a page that any browser prints on A4, without anything from elsewhere."""
    return html_of(session, find_statement(session, caller.merchant_id, statement_id), services.security, language)


@router.get("/v1/statements/{statement_id}")
def get_statement(
    statement_id: StatementId, caller: Reader, session: ReadSession, services: Services
) -> PeriodStatementDetailView:
    """Return a statement with all that it says."""
    return detail_of(session, find_statement(session, caller.merchant_id, statement_id), services.security)


@router.get("/v1/statement-settings")
def get_statement_settings(caller: Reader, session: ReadSession) -> StatementSettingsView:
    """Return what your statements say of you, and whether they are self-billed invoices where that is agreed."""
    return StatementSettingsView.of(session.get(StatementSettingsRow, caller.merchant_id))


@router.put("/v1/statement-settings")
def update_statement_settings(
    asked: StatementSettingsUpdate, caller: Admin, session: WriteSession, expected: IfMatch
) -> StatementSettingsView:
    """Set what statements issued from now on say of you. Those that were issued keep what they say."""
    row = session.get(StatementSettingsRow, caller.merchant_id, with_for_update=True)
    expected.check(StatementSettingsView.of(row))
    if row is None:
        row = StatementSettingsRow(merchant_id=caller.merchant_id, **dict(asked), updated_at=caller.now)
    for name, value in dict(asked).items():
        setattr(row, name, value)
    row.updated_at = caller.now
    session.add(row)
    session.flush()
    return StatementSettingsView.of(row)


@router.post("/v1/affiliates/{affiliate_id}/self-billing-agreements", status_code=201)
def record_self_billing_agreement(
    affiliate_id: AffiliateId, asked: SelfBillingAgreementCreate, caller: Admin, session: WriteSession
) -> SelfBillingAgreementView:
    """Record that an affiliate agreed to be invoiced by you, or agrees no more. The newest counts."""
    locked(session, caller.merchant_id, affiliate_id)
    today = merchant_time_of(caller).day
    if asked.agreed_on > today:
        raise Invalid(f"agreed_on is today ({today}, by your calendar) or earlier.")
    row = SelfBillingAgreementRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        affiliate_id=affiliate_id,
        agreed=asked.agreed,
        agreed_on=asked.agreed_on,
        reference=asked.reference,
        recorded_by=caller.key_id,
        recorded_at=caller.now,
    )
    session.add(row)
    session.flush()
    return SelfBillingAgreementView.of(row)


@router.get("/v1/affiliates/{affiliate_id}/self-billing-agreements")
def list_self_billing_agreements(
    affiliate_id: AffiliateId, caller: Reader, session: ReadSession, paging: Paging
) -> Page[SelfBillingAgreementView]:
    """List what an affiliate agreed to about self-billing, newest first."""
    if session.get(AffiliateRow, (caller.merchant_id, affiliate_id)) is None:
        raise Missing(NONE_SUCH)
    chosen = select(SelfBillingAgreementRow).where(
        col(SelfBillingAgreementRow.merchant_id) == caller.merchant_id,
        col(SelfBillingAgreementRow.affiliate_id) == affiliate_id,
    )
    rows = session.exec(newest_first(chosen, paging, SelfBillingAgreementRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=SelfBillingAgreementView.of)
