"""GET /t.js: what a shop puts on its pages so that the click id reaches its orders."""

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.api.owners import PUBLIC

router = APIRouter(tags=["browser"])

_SCRIPT = (Path(__file__).parent / "static" / "t.js").read_bytes()
_HEADERS = {
    # A day late is soon enough for a new release; asking again costs no more than a 304.
    "cache-control": "public, max-age=3600, stale-while-revalidate=86400",
    "etag": f'"{hashlib.sha256(_SCRIPT).hexdigest()[:32]}"',
    # Pages of any shop load it, also those that demand that what they load says so.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
}


@router.get(
    "/t.js",
    openapi_extra=PUBLIC,
    response_class=Response,
    responses={
        200: {"content": {"text/javascript": {"schema": {"type": "string"}}}},
        304: {"description": "The script with this ETag is still the newest."},
    },
)
async def get_browser_script(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The script for a shop's pages: under 2 kB, from no other place, and nothing is sent anywhere by it.

    It keeps the click id that a short link appends to the shop's address and hands it to forms, carts and payment links.
    """
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    if given & {_HEADERS["etag"], "*"}:
        return Response(status_code=304, headers=_HEADERS)
    return Response(_SCRIPT, headers=_HEADERS, media_type="text/javascript")
