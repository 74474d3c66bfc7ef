"""Balances: what each affiliate earned and where all of it is at this moment."""

from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import Row

from service.api.deps import Reader, ReadSession
from service.api.paging import InvalidCursor, Page, PageQuery, Paging, page
from service.api.views import AffiliateId, Currency, MoneyView, View
from service.infra.db import fetch
from service.reports.define_balances import GROUPED, STANDS

router = APIRouter(tags=["balances"])


class BalanceView(View):
    """The places add up to what was earned."""

    affiliate_id: AffiliateId
    currency: str
    earned: MoneyView
    """All that was ever earned, less what was taken back."""
    pending: MoneyView
    held: MoneyView
    """Earned, frozen."""
    payable: MoneyView
    """Settled, in no payout. Below zero: the affiliate owes it."""
    reserved: MoneyView
    """In a payout run, not handed to a rail."""
    in_transit: MoneyView
    """Handed to a rail, answer unknown."""
    paid: MoneyView
    carried: MoneyView
    """Deductions done, still to be sent: remainders, and what a rail gave back."""
    advance: MoneyView
    """Lent before an approval came: below zero by what is still to be netted from what is settled next."""
    withheld: MoneyView
    """Tax and fees taken from accepted payouts."""
    written_off: MoneyView
    """Debts that were given up: below zero by all of them."""
    payable_version: int
    """One more with each change of payable; payouts own intervals of these versions."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=int(amount_minor), currency=row.currency)

        places = {name: money(getattr(row, f"{name}_minor")) for name in PLACES}
        return cls(
            affiliate_id=row.owner_id,
            currency=row.currency,
            earned=money(sum(place.amount_minor for place in places.values())),
            payable_version=row.payable_version,
            **places,
        )


PLACES = (
    "pending",
    "held",
    "payable",
    "reserved",
    "in_transit",
    "paid",
    "carried",
    "advance",
    "withheld",
    "written_off",
)


@router.get("/v1/balances")
def list_balances(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Balances of this affiliate.")] = None,
    currency: Annotated[Currency | None, Query(description="Balances in this currency.")] = None,
) -> Page[BalanceView]:
    """List balances by affiliate and currency."""
    conditions, parameters = ["balance.merchant_id = :merchant_id"], {"merchant_id": caller.merchant_id}
    asked: dict[str, object] = {**parameters, "limit": paging.limit + 1}
    if affiliate_id is not None:
        conditions.append("balance.owner_id = :affiliate_id")
        asked["affiliate_id"] = affiliate_id
    if currency is not None:
        conditions.append("balance.currency = :currency")
        asked["currency"] = currency
    after = _after(paging)
    if after is not None:
        conditions.append("(balance.owner_id, balance.currency) > (:after_id, :after_currency)")
        asked["after_id"], asked["after_currency"] = after
    rows = fetch(
        session,
        f"""
        {STANDS}
        WHERE {" AND ".join(conditions)}
        {GROUPED}
        ORDER BY balance.owner_id, balance.currency
        LIMIT :limit
        """,
        asked,
    )
    return page(rows, paging, key=lambda row: (row.owner_id, row.currency), view=BalanceView.of)


def _after(paging: PageQuery) -> tuple[UUID, str] | None:
    """Affiliate and currency of the last row seen. Raises InvalidCursor."""
    match paging.after:
        case ():
            return None
        case (owner, currency):
            try:
                return UUID(hex=owner), currency
            except ValueError:
                pass
    raise InvalidCursor("Use next_cursor of a page of the same list.")
