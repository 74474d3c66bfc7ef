"""What a page of the shop may ask, with a key that everybody can read in its source."""

from typing import Annotated, Self

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import col, select

from service.api.deps import Browser, ReadSession
from service.api.owners import PUBLIC
from service.api.views import ProgramId, View
from service.domain.errors import Forbidden, Missing
from service.domain.program import Terms
from service.tables.programs import ProgramRow, ProgramVersionRow
from service.tracking.redirect import PARAMETER, DomainNotAllowed, InvalidUrl, allowed_url

router = APIRouter(tags=["browser"])

_PATH = "/v1/browser-config"
_FRESH_S = 300
"""Seconds a browser may go by what it was told."""


class OriginNotAllowed(Forbidden):
    """The page that asks is of a domain the programme's links may not lead to."""

    code = "origin-not-allowed"
    title = "The programme does not allow this origin"


class BrowserConfigView(View):
    """What a script in the shop's pages needs to keep the click id that a short link brought."""

    program_id: ProgramId
    allowed_domains: list[str]
    """Host names that links may lead to; a leading "*." stands for all below one."""
    cookie_days: int
    """How long a click still counts by the terms of this moment: no use keeping its id longer."""
    click_parameter: str
    """The query parameter in which a landing page finds the click id."""

    @classmethod
    def of(cls, row: ProgramRow, window_days: int) -> Self:
        return cls(
            program_id=row.id,
            allowed_domains=row.allowed_domains,
            cookie_days=window_days,
            click_parameter=PARAMETER,
        )


@router.get(_PATH)
def get_browser_config(
    program_id: Annotated[ProgramId, Query(description="The programme whose links lead to the page.")],
    caller: Browser,
    session: ReadSession,
    request: Request,
    response: Response,
) -> BrowserConfigView:
    """Return what the script in a shop's page needs. The one operation for publishable keys.

    Browsers may read the answer in pages of the programme's allowed domains; others are told 403.
    """
    row = session.get(ProgramRow, (caller.merchant_id, program_id))
    if row is None:
        raise Missing("This merchant has no such programme.")
    origin = request.headers.get("origin")
    if origin is not None:
        _check(origin, row.allowed_domains)
        response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Vary"] = "Origin"
    response.headers["Cache-Control"] = f"private, max-age={_FRESH_S}"
    terms = session.exec(
        select(ProgramVersionRow.terms)
        .where(
            col(ProgramVersionRow.merchant_id) == caller.merchant_id,
            col(ProgramVersionRow.program_id) == program_id,
            col(ProgramVersionRow.valid_from) <= caller.now,
        )
        .order_by(col(ProgramVersionRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    # Before its first terms begin no click of the programme can count.
    return BrowserConfigView.of(row, 0 if terms is None else Terms.of_json(dict(terms)).attribution.window_days)


@router.options(_PATH, openapi_extra=PUBLIC, include_in_schema=False)
async def allow_browser_config(request: Request) -> Response:
    """Answer what browsers ask before they send a key to another host.

    They ask without the key, so every origin is let ask; which may read the answer is said in the answer.
    """
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": request.headers.get("origin", "*"),
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "Authorization",
            "Access-Control-Max-Age": "86400",
            "Vary": "Origin",
        },
    )


def _check(origin: str, allowed_domains: list[str]) -> None:
    """Raise OriginNotAllowed unless the origin is an https one of the allowed domains."""
    try:
        allowed_url(origin, allowed_domains)
    except DomainNotAllowed:
        raise OriginNotAllowed("Add the page's domain to the programme's allowed_domains.") from None
    except InvalidUrl:
        raise OriginNotAllowed("The header Origin is not an https origin of a named host.") from None
