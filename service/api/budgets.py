"""Budgets: the most a programme is to cost for the orders of a time, and what happens when it does."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import Session, col, select

from service.api.deps import Admin, Caller, Reader, ReadSession, WriteSession
from service.api.etags import IfMatch
from service.api.merchants import ExternalIdTaken
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.traceable import program_of
from service.api.views import Body, BudgetId, ExternalId, Moment, MoneyBody, MoneyView, Name, ProgramId, View
from service.commissions.budgets import used
from service.domain.budget import AtLimit
from service.domain.errors import Conflict, Invalid, Missing
from service.domain.money import exponent
from service.infra.ids import encode, new_id
from service.tables.programs import BudgetRow

router = APIRouter(tags=["programs"])


class BudgetClosed(Conflict):
    code = "budget-closed"
    title = "The budget was ended"


class BudgetCreate(Body):
    limit: MoneyBody
    """The most that commissions, fees and bonuses of the programme are to come to, in one currency. Above 0."""
    starts_at: Moment | None = None
    """Orders placed then or later count, whenever they arrive; null: from now on."""
    ends_at: Moment | None = None
    """Orders placed before count; null: no end."""
    at_limit: AtLimit = AtLimit.STOP
    """stop: orders placed from then on earn nothing. review: they wait for a person's approval. tell: only the event."""
    name: Annotated[Name | None, Field()] = None
    external_id: ExternalId | None = None


class BudgetChange(Body):
    limit: MoneyBody
    """In the budget's currency. Above what is taken, a programme that the budget paused runs again, five minutes later."""


class BudgetView(View):
    id: BudgetId
    external_id: str | None
    program_id: ProgramId
    name: str
    limit: MoneyView
    used: MoneyView
    """What its orders and periods come to now, pending and held included: it is reserved as soon as it is earned."""
    left: MoneyView
    """Below zero where orders placed before the pause took more."""
    starts_at: Moment
    ends_at: Moment | None
    at_limit: AtLimit
    reached_at: Moment | None
    """When all of it was taken; null: it is not, or it was raised since."""
    closed_at: Moment | None
    created_at: Moment

    @classmethod
    def of(cls, row: BudgetRow, used_minor: int) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            id=row.id,
            external_id=row.external_id,
            program_id=row.program_id,
            name=row.name,
            limit=money(row.limit_minor),
            used=money(used_minor),
            left=money(row.limit_minor - used_minor),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            at_limit=AtLimit(row.at_limit),
            reached_at=row.reached_at,
            closed_at=row.closed_at,
            created_at=row.created_at,
        )


@router.post("/v1/programs/{program_id}/budgets", status_code=201)
def create_budget(program_id: ProgramId, asked: BudgetCreate, caller: Admin, session: WriteSession) -> BudgetView:
    """Set the most that a programme is to cost.

    Twice a minute the worker adds up what its orders come to. Once that reaches the limit, the programme is paused for
    orders placed five minutes later and after: whoever has placed one by then is paid for it.
    """
    program_of(session, caller.merchant_id, program_id)
    exponent(asked.limit.currency)
    starts_at: datetime = asked.starts_at or caller.now
    if asked.limit.amount_minor <= 0:
        raise Invalid("A budget is above 0.")
    if asked.ends_at is not None and asked.ends_at <= starts_at:
        raise Invalid("A budget ends after it starts.")
    row = BudgetRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        external_id=asked.external_id,
        program_id=program_id,
        name=asked.name or "",
        currency=asked.limit.currency,
        limit_minor=asked.limit.amount_minor,
        starts_at=starts_at,
        ends_at=asked.ends_at,
        at_limit=asked.at_limit,
        created_at=caller.now,
        updated_at=caller.now,
    )
    session.add(row)
    with taken("budget_merchant_id_external_id_key", ExternalIdTaken("A budget with this external_id exists.")):
        session.flush()
    return _view(session, row)


@router.get("/v1/budgets")
def list_budgets(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    program_id: Annotated[ProgramId | None, Query(description="Budgets of this programme.")] = None,
) -> Page[BudgetView]:
    """List budgets, newest first, with what of each is taken."""
    statement = select(BudgetRow).where(col(BudgetRow.merchant_id) == caller.merchant_id)
    if program_id is not None:
        statement = statement.where(col(BudgetRow.program_id) == program_id)
    rows = session.exec(newest_first(statement, paging, BudgetRow.id)).all()
    taken_of = used(session, caller.merchant_id, [row.id for row in rows])
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: BudgetView.of(row, taken_of[row.id]))


@router.get("/v1/budgets/{budget_id}")
def get_budget(budget_id: BudgetId, caller: Reader, session: ReadSession) -> BudgetView:
    """Return one budget, with what of it is taken."""
    return _view(session, _found(session, caller, budget_id))


@router.post("/v1/budgets/{budget_id}/limit")
def set_budget_limit(
    budget_id: BudgetId, asked: BudgetChange, caller: Admin, session: WriteSession, expected: IfMatch
) -> BudgetView:
    """Raise or lower a budget's limit. No order that is placed is paid otherwise for it."""
    row = _found(session, caller, budget_id, for_update=True)
    expected.check(_view(session, row))
    if asked.limit.currency != row.currency:
        raise Invalid(f"This budget is in {row.currency}.")
    if asked.limit.amount_minor <= 0:
        raise Invalid("A budget is above 0; end it by POST /v1/budgets/{budget_id}/close.")
    if row.closed_at is not None:
        raise BudgetClosed("Make another one.")
    row.limit_minor = asked.limit.amount_minor
    row.updated_at = caller.now
    session.flush()
    return _view(session, row)


@router.post("/v1/budgets/{budget_id}/close")
def close_budget(budget_id: BudgetId, caller: Admin, session: WriteSession) -> BudgetView:
    """End a budget: it is watched no more. A programme it has paused stays so until somebody lets it run again."""
    row = _found(session, caller, budget_id, for_update=True)
    if row.closed_at is None:
        row.closed_at = row.updated_at = caller.now
        session.flush()
    return _view(session, row)


def _found(session: Session, caller: Caller, budget_id: UUID, *, for_update: bool = False) -> BudgetRow:
    statement = select(BudgetRow).where(
        col(BudgetRow.merchant_id) == caller.merchant_id, col(BudgetRow.id) == budget_id
    )
    row = session.exec(statement.with_for_update() if for_update else statement).one_or_none()
    if row is None:
        raise Missing(f"There is no budget {encode('bud', budget_id)} at this merchant.")
    return row


def _view(session: Session, row: BudgetRow) -> BudgetView:
    return BudgetView.of(row, used(session, row.merchant_id, [row.id])[row.id])
