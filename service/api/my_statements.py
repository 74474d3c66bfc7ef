"""A KOC's own statements, and what the KOC says to them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, Strict
from sqlmodel import Session

from service.api.deps import AffiliateCaller, AffiliateKey, ReadSession, Services, WriteSession
from service.api.filters import Created
from service.api.language import AskedLanguage
from service.api.paging import Page, Paging
from service.api.statement_views import (
    PeriodStatementDetailView,
    PeriodStatementView,
    csv_of,
    detail_of,
    find_statement,
    html_of,
    statement_page,
)
from service.api.views import Body, Currency, StatementId
from service.domain.ledger import MerchantTime
from service.infra.security import Security
from service.reports.answer import answer
from service.tables.statements import StatementMark, StatementRow

router = APIRouter(tags=["me"])


class StatementObjection(Body):
    note: Annotated[str, Strict(), Field(min_length=1, max_length=4000, examples=["Order 1001 is missing."])]
    """What is wrong."""


@router.get("/v1/me/statements")
def list_my_statements(
    caller: AffiliateCaller,
    session: ReadSession,
    paging: Paging,
    created: Created,
    currency: Annotated[Currency | None, Query(description="Only in this currency.")] = None,
) -> Page[PeriodStatementView]:
    """List your statements, newest first."""
    asked = {"statement.affiliate_id = :affiliate_id": caller.affiliate_id, "statement.currency = :currency": currency}
    return statement_page(session, caller.merchant_id, asked, paging, created)


# Before the path without an ending, which would take these for ids.
@router.get(
    "/v1/me/statements/{statement_id}.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_my_statement_csv(
    statement_id: StatementId, caller: AffiliateCaller, session: ReadSession, services: Services
) -> Response:
    """Return one of your statements as CSV."""
    return csv_of(_mine(session, caller, statement_id), services.security)


@router.get(
    "/v1/me/statements/{statement_id}.html",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def get_my_statement_html(
    statement_id: StatementId,
    caller: AffiliateCaller,
    session: ReadSession,
    services: Services,
    language: AskedLanguage,
) -> Response:
    """Return one of your statements as a page that any browser prints."""
    return html_of(session, _mine(session, caller, statement_id), services.security, language)


@router.get("/v1/me/statements/{statement_id}")
def get_my_statement(
    statement_id: StatementId, caller: AffiliateCaller, session: ReadSession, services: Services
) -> PeriodStatementDetailView:
    """Return one of your statements with all that it says."""
    return detail_of(session, _mine(session, caller, statement_id), services.security)


@router.post("/v1/me/statements/{statement_id}/accept")
def accept_my_statement(
    statement_id: StatementId, caller: AffiliateCaller, session: WriteSession, services: Services
) -> PeriodStatementDetailView:
    """Accept one of your statements; also one you objected to. Again, the first time stands."""
    return _answered(session, caller, services.security, statement_id, StatementMark.ACCEPTED)


@router.post("/v1/me/statements/{statement_id}/object")
def object_to_my_statement(
    statement_id: StatementId,
    asked: StatementObjection,
    caller: AffiliateCaller,
    session: WriteSession,
    services: Services,
) -> PeriodStatementDetailView:
    """Say what is wrong with one of your statements, until its `answer_by`. The shop is told; again, the first time stands.

    The statement itself never changes: what is corrected stands in a later one.
    """
    return _answered(session, caller, services.security, statement_id, StatementMark.OBJECTED, note=asked.note)


def _answered(
    session: Session,
    caller: AffiliateKey,
    security: Security,
    statement_id: UUID,
    kind: StatementMark,
    *,
    note: str = "",
) -> PeriodStatementDetailView:
    row = _mine(session, caller, statement_id)
    when = MerchantTime(caller.now, caller.merchant.time_zone)
    answer(session, row, kind, note=note, by=caller.key_id, when=when)
    return detail_of(session, row, security)


def _mine(session: Session, caller: AffiliateKey, statement_id: UUID) -> StatementRow:
    return find_statement(session, caller.merchant_id, statement_id, affiliate_id=caller.affiliate_id)
