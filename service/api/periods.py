"""Periods: how far an affiliate has come in a ladder, towards a mark, or under a cap."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from sqlmodel import Session, col, select

from service.api.deps import AffiliateCaller, Reader, ReadSession
from service.api.paging import Page, Paging, newest_first, page
from service.api.terms import PeriodRuleDocument
from service.api.views import AffiliateId, CommissionId, Day, Moment, MoneyView, ProgramId, View
from service.tables.scopes import RulePeriodRow

router = APIRouter(tags=["commissions"])


class SumView(View):
    """What of a period's orders stands at one place."""

    commission: MoneyView
    """Their commissions' parts there."""
    sales: MoneyView
    """Net goods of the orders that as a whole have come no further."""
    orders: int


class RulePeriodView(View):
    commission_id: CommissionId
    """The period's commission; there is none as long as the rule gave nothing."""
    affiliate_id: AffiliateId
    program_id: ProgramId
    rule: str
    """The rule's key in the terms."""
    rules: list[PeriodRuleDocument]
    """What it goes by, fixed when it began; of several the one that gives most counts."""
    begins_on: Day
    ends_on: Day | None
    pending: SumView
    held: SumView
    settled: SumView
    updated_at: Moment

    @classmethod
    def of(cls, row: RulePeriodRow) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls.model_validate(
            {
                "commission_id": row.id,
                "affiliate_id": row.payee_id,
                "program_id": row.program_id,
                "rule": row.rule,
                "rules": row.rules,
                "begins_on": row.begins_on,
                "ends_on": row.ends_on,
                "pending": SumView(
                    commission=money(row.pending_commission_minor),
                    sales=money(row.pending_sales_minor),
                    orders=row.pending_orders,
                ),
                "held": SumView(
                    commission=money(row.held_commission_minor),
                    sales=money(row.held_sales_minor),
                    orders=row.held_orders,
                ),
                "settled": SumView(
                    commission=money(row.settled_commission_minor),
                    sales=money(row.settled_sales_minor),
                    orders=row.settled_orders,
                ),
                "updated_at": row.updated_at,
            }
        )


@router.get("/v1/periods")
def list_periods(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Periods of this affiliate.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Periods of this programme.")] = None,
) -> Page[RulePeriodView]:
    """List the periods of rules that orders count in, the newest first: sums, and the rules they go by."""
    return _listed(session, paging, caller.merchant_id, affiliate_id, program_id)


@router.get("/v1/me/periods")
def list_my_periods(caller: AffiliateCaller, session: ReadSession, paging: Paging) -> Page[RulePeriodView]:
    """List your periods, newest first: how far you have come, and what the next step gives."""
    return _listed(session, paging, caller.merchant_id, caller.affiliate_id, None)


def _listed(
    session: Session, paging: Paging, merchant_id: UUID, affiliate_id: UUID | None, program_id: UUID | None
) -> Page[RulePeriodView]:
    statement = select(RulePeriodRow).where(col(RulePeriodRow.merchant_id) == merchant_id)
    if affiliate_id is not None:
        statement = statement.where(col(RulePeriodRow.payee_id) == affiliate_id)
    if program_id is not None:
        statement = statement.where(col(RulePeriodRow.program_id) == program_id)
    rows = session.exec(newest_first(statement, paging, RulePeriodRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=RulePeriodView.of)
