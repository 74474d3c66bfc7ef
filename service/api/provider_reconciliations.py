"""Days of our books beside the same days of a provider's."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from sqlalchemy import tuple_
from sqlmodel import col, select

from service.api.deps import Reader, ReadSession
from service.api.paging import Page, Paging, page
from service.api.views import WRITTEN_FLAG, Currency, Day, Moment, MoneyView, PayoutId, View
from service.domain.provider import ProviderDifferenceKind
from service.tables.providers import ProviderReconciliationRow

router = APIRouter(tags=["provider reconciliations"])


class ProviderDifferenceView(View):
    """A transfer that is not the same on both sides of the day."""

    kind: ProviderDifferenceKind
    """`timing` and `pending` go away by themselves; all others are for people."""
    reference: str
    """The provider's id of the transfer."""
    payout_id: PayoutId
    provider: MoneyView
    """What left at the provider that day for this transfer, less what came back."""
    ledger: MoneyView
    """What we booked as paid that day for it, less what we booked as given back."""


class ProviderReconciliationView(View):
    """A day, in UTC, of one rail and currency. provider - ledger = the sum of provider - ledger of its differences."""

    rail: str
    day: Day
    provider: MoneyView
    ledger: MoneyView
    matched: int
    """Transfers that are the same on both sides."""
    unexplained: int
    """Differences for no known reason."""
    differences: list[ProviderDifferenceView]
    """A hundred at most, unexplained ones first."""
    differences_total: int
    compared_at: Moment
    """When it was compared last: each day is, three times, on the three days after it."""

    @classmethod
    def of(cls, row: ProviderReconciliationRow) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            rail=row.rail,
            day=row.day,
            provider=money(row.provider_minor),
            ledger=money(row.ledger_minor),
            matched=row.matched,
            unexplained=row.unexplained,
            differences=[
                ProviderDifferenceView(
                    kind=ProviderDifferenceKind(each["kind"]),
                    reference=each["reference"],
                    payout_id=each["payout_id"],
                    provider=money(each["provider_minor"]),
                    ledger=money(each["ledger_minor"]),
                )
                for each in row.differences
            ],
            differences_total=row.differences_total,
            compared_at=row.compared_at,
        )


@router.get("/v1/provider-reconciliations")
def list_provider_reconciliations(
    caller: Reader,
    session: ReadSession,
    asked: Paging,
    rail: Annotated[str | None, Query(max_length=60, description="Only days of this rail.")] = None,
    currency: Annotated[Currency | None, Query(description="Only days in this currency.")] = None,
    unexplained: Annotated[
        bool | None, WRITTEN_FLAG, Query(description="Only days with unexplained differences, or only those without.")
    ] = None,
) -> Page[ProviderReconciliationView]:
    """List how days of your payouts compare with the provider's own books, newest first."""
    key = (
        col(ProviderReconciliationRow.day),
        col(ProviderReconciliationRow.rail),
        col(ProviderReconciliationRow.currency),
    )
    chosen = select(ProviderReconciliationRow).where(col(ProviderReconciliationRow.merchant_id) == caller.merchant_id)
    if rail is not None:
        chosen = chosen.where(key[1] == rail)
    if currency is not None:
        chosen = chosen.where(key[2] == currency)
    if unexplained is not None:
        chosen = chosen.where((col(ProviderReconciliationRow.unexplained) > 0).is_(unexplained))
    after = asked.after_day_and_texts()
    if after is not None:
        chosen = chosen.where(tuple_(*key) < tuple_(*after))
    rows = session.exec(chosen.order_by(*(each.desc() for each in key)).limit(asked.limit + 1)).all()
    return page(
        rows,
        asked,
        key=lambda row: (row.day.isoformat(), row.rail, row.currency),
        view=ProviderReconciliationView.of,
    )
