"""GET /r/{code}: a visitor is sent on with a signed click id. A raw route, since every visitor of every KOC comes here."""

import asyncio
import re
from functools import lru_cache, partial

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.deps import Service, service_of
from service.api.problems import problem_response
from service.domain.errors import Missing, ServiceError, Unavailable
from service.infra import metrics
from service.infra.batcher import Batcher, Observer
from service.infra.clock import utc_now
from service.infra.db import DatabaseBusy
from service.infra.security import Security
from service.tracking import record
from service.tracking.find import ClickSigner
from service.tracking.record import Click
from service.tracking.redirect import Link, destination, ready

PATIENCE_S = 1.0
"""Seconds a visitor waits for the click's commit, or for a link that memory does not have; never longer."""

_HEADERS = {"cache-control": "no-store", "x-robots-tag": "noindex, nofollow"}
_COUNTRY = re.compile(r"[A-Z]{2}")


class UnknownLink(Missing):
    """No link has this code."""

    code = "unknown-link"
    title = "This short link leads nowhere"


def clicks_batcher(
    engine: Engine, *, batch_max: int = 256, queue_max: int = 4096, observer: Observer | None = None
) -> Batcher[Click, None]:
    """Return the writer of clicks. A click that cannot be stored is logged and given up: its id is good all the same."""
    return Batcher(
        "clicks",
        partial(record.write, engine),
        lambda _click, _error: None,
        batch_max=batch_max,
        queue_max=queue_max,
        observer=observer,
    )


async def follow_link(request: Request) -> Response:
    """Send a visitor to where the link leads. 302; 404 for a code nobody has; a paused link leads to its fallback."""
    service = service_of(request)
    try:
        link = await _link(service, request.path_params["code"])
        if link.paused:
            return _sent_to(ready(service.links.fallback_url(link)))
        click = _click(request, service, link)
        location = destination(link.url, click.id)
    except ServiceError as error:
        return problem_response(request, error)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await service.clicks.submit(click)
    except (Unavailable, TimeoutError):
        # The visitor goes on whatever happens to us: the id alone is enough to attribute the order.
        metrics.click_unrecorded()
    return _sent_to(location)


routes = [Route("/r/{code}", follow_link, methods=["GET"])]
"""GET and, as with every such route, HEAD."""


async def _link(service: Service, code: str) -> Link:
    link: Link | None = service.links.get(code)
    if link is None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                link = await service.links.find(code)
        except TimeoutError:
            raise DatabaseBusy("The link is not in memory and could not be looked up in time.") from None
    if link is None:
        raise UnknownLink("No link has this code.")
    return link


def _click(request: Request, service: Service, link: Link) -> Click:
    at = service.links.now(link.merchant_id, utc_now())
    return Click(
        merchant_id=link.merchant_id,
        id=_signer(service.security).make(link.id, at),
        link_id=link.id,
        affiliate_id=link.owner_at(at),
        at=at,
        ip_hash=service.security.ip_hash(request.client.host if request.client else ""),
        user_agent=_header(request, "user-agent", record.USER_AGENT_MAX),
        # Without its query: what another site keeps there is none of our business.
        referrer=_header(request, "referer", record.REFERRER_MAX).partition("?")[0],
        country=_country(request),
        only_looked=request.method == "HEAD",
        sub_ids=link.sub_ids,
    )


@lru_cache(maxsize=8)
def _signer(security: Security) -> ClickSigner:
    """The process's one signer: its nonce and sequence are what makes ids unique."""
    return ClickSigner(security)


def _header(request: Request, name: str, most: int) -> str:
    return request.headers.get(name, "").replace("\x00", "")[:most]


def _country(request: Request) -> str:
    """Where the visitor is, as a content delivery network in front says; empty where there is none."""
    country = request.headers.get("cf-ipcountry") or request.headers.get("cloudfront-viewer-country") or ""
    return country if _COUNTRY.fullmatch(country) else ""


def _sent_to(location: str) -> Response:
    return Response(status_code=302, headers=_HEADERS | {"location": location})
