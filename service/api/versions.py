"""What every answer of /v1 says of itself: the version of the API, test or live, and whether an operation will go away."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from service.domain.errors import Invalid

VERSION_HEADER = "KOC-Version"
MODE_HEADER = "KOC-Mode"
VERSION = "2026-11-28"
"""The version of today. A change that breaks a client adds a date here, and the dates before it stay understood."""
VERSIONS = (VERSION,)
"""All that a caller may ask for, newest first."""

_STATE = "answer_headers"


class UnknownVersion(Invalid):
    """The API never had this version, or has it no longer; leave the header out for the newest."""

    code = "unknown-version"
    title = "The API has no such version"


class Deprecated:
    """A dependency that marks an operation as one that will go away: `dependencies=[Depends(Deprecated(…))]`.

    Its answers carry Deprecation (RFC 9745), Sunset (RFC 8594) and a link, and the API's description says so.
    """

    def __init__(self, *, since: datetime, link: str, sunset: datetime | None = None) -> None:
        """since: from when on nobody should begin to use it. sunset: from when on it may be gone. link: what to do."""
        self._headers = [("deprecation", f"@{int(since.timestamp())}"), ("link", f'<{link}>; rel="deprecation"')]
        if sunset is not None:
            self._headers.append(("sunset", format_datetime(sunset.astimezone(UTC), usegmt=True)))

    async def __call__(self, request: Request) -> None:
        for name, value in self._headers:
            say(request.scope, name, value)


def choose(request: Request) -> None:
    """Read which version the caller asks for. Raises UnknownVersion."""
    say(request.scope, VERSION_HEADER, VERSION)
    asked = request.headers.get(VERSION_HEADER)
    if asked is not None and asked not in VERSIONS:
        raise UnknownVersion(f"{VERSION_HEADER} may be {' or '.join(VERSIONS)}.")


def say_mode(request: Request, *, is_test: bool) -> None:
    """Let the answer tell whether it speaks of a test merchant or a live one."""
    say(request.scope, MODE_HEADER, "test" if is_test else "live")


def say(scope: Scope, name: str, value: str) -> None:
    """Let the answer to a request carry a header, whatever the answer will be."""
    state: dict[str, Any] = scope.setdefault("state", {})
    state.setdefault(_STATE, []).append((name.lower(), value))


def said(scope: Scope) -> list[tuple[str, str]]:
    """The headers that the answer to a request is to carry."""
    headers: list[tuple[str, str]] = scope.get("state", {}).get(_STATE, [])
    return headers


def marked(response: Response, scope: Scope) -> Response:
    """Return the response with what its answer is to carry; what it has already is not added again."""
    there = set(response.headers.items())
    for name, value in said(scope):
        if (name, value) not in there:
            response.headers.append(name, value)
    return response
