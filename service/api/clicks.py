"""Clicks as they were counted. What an order earns does not hang on them."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from sqlalchemy import tuple_
from sqlmodel import col, select

from service.api.deps import Reader, ReadSession
from service.api.filters import Created
from service.api.paging import Page, Paging, page
from service.api.views import AffiliateId, LinkId, Moment, View
from service.domain.errors import Invalid
from service.tables.programs import ClickRow, LinkOwnerRow

router = APIRouter(tags=["clicks"])


class ClickView(View):
    id: str
    """The signed click id, as the landing page got it in `koc_click`."""
    link_id: LinkId
    affiliate_id: AffiliateId
    """Whose link it was at that time."""
    at: Moment
    is_bot: bool
    """Whether the visitor says of itself that it is no person; such clicks are marked, never dropped."""
    user_agent: str
    referrer: str
    country: str
    """ISO 3166-1 alpha-2 as a content delivery network in front told it; empty where there is none."""
    sub1: str | None
    sub2: str | None
    sub3: str | None
    sub4: str | None
    sub5: str | None

    @classmethod
    def of(cls, row: ClickRow) -> Self:
        return cls(
            id=row.id,
            link_id=row.link_id,
            affiliate_id=row.affiliate_id,
            at=row.at,
            is_bot=row.is_bot,
            user_agent=row.user_agent,
            referrer=row.referrer,
            country=row.country,
            sub1=row.sub_ids.get("sub1"),
            sub2=row.sub_ids.get("sub2"),
            sub3=row.sub_ids.get("sub3"),
            sub4=row.sub_ids.get("sub4"),
            sub5=row.sub_ids.get("sub5"),
        )


@router.get("/v1/clicks")
def list_clicks(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    link_id: Annotated[LinkId | None, Query(description="Clicks of this link.")] = None,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Clicks that were this affiliate's.")] = None,
) -> Page[ClickView]:
    """List the clicks of a link or an affiliate, newest first. One of the two must be named."""
    statement = select(ClickRow).where(col(ClickRow.merchant_id) == caller.merchant_id)
    if link_id is not None:
        statement = statement.where(col(ClickRow.link_id) == link_id)
    elif affiliate_id is not None:
        # By way of the links, for clicks are kept in the order of links, not of affiliates.
        owned = select(LinkOwnerRow.link_id).where(
            col(LinkOwnerRow.merchant_id) == caller.merchant_id, col(LinkOwnerRow.affiliate_id) == affiliate_id
        )
        statement = statement.where(col(ClickRow.link_id).in_(owned))
    else:
        raise Invalid("Name a link_id or an affiliate_id.")
    if affiliate_id is not None:
        statement = statement.where(col(ClickRow.affiliate_id) == affiliate_id)
    statement = created.narrow(statement, col(ClickRow.at))
    after = paging.after_moment_text()
    if after is not None:
        statement = statement.where(tuple_(col(ClickRow.at), col(ClickRow.id)) < tuple_(*after))
    statement = statement.order_by(col(ClickRow.at).desc(), col(ClickRow.id).desc()).limit(paging.limit + 1)
    return page(session.exec(statement).all(), paging, key=lambda row: (row.at, row.id), view=ClickView.of)
