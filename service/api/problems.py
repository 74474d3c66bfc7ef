"""How failures look over HTTP: RFC 9457 problems. The one place that knows which status a kind of error has."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from inspect import cleandoc
from typing import Any

import psycopg
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope

from service.api import versions
from service.api.owners import PUBLIC
from service.api.views import View
from service.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Missing,
    PreconditionFailed,
    RateLimited,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)


class MalformedJson(Invalid):
    """The body is not one strict JSON value in UTF-8; the detail says where it breaks."""

    code = "malformed-json"
    title = "The body is not strict JSON"


class MalformedHttp(Invalid):
    """The bytes are no HTTP/1.1 request. The connection is closed."""

    code = "malformed-http"
    title = "The request is not HTTP"


class HeadTooLarge(Invalid):
    """The request line and headers together are longer than 64 KiB. The connection is closed."""

    code = "head-too-large"
    title = "The headers are longer than allowed"


class UnsupportedMediaType(Invalid):
    """The body is not of the media type, character set or encoding that the endpoint reads."""

    code = "unsupported-media-type"
    title = "The endpoint does not read bodies of this type"


class UnknownPath(Missing):
    """No endpoint has this path."""

    code = "unknown-path"
    title = "There is no such endpoint"


class MethodNotAllowed(Invalid):
    """The endpoint exists, for other methods; the header Allow names them."""

    code = "method-not-allowed"
    title = "The endpoint does not take this method"


_STATUS: Mapping[type[ServiceError], int] = {
    MalformedJson: 400,
    MalformedHttp: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    Missing: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    PreconditionFailed: 412,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    HeadTooLarge: 431,
    Invalid: 422,
    RateLimited: 429,
    Unavailable: 503,
}
_UNEXPECTED = 500
LEFT = 499
"""In the numbers only: the client left before it could be answered."""

KIND = "kind"
"""The field that says which of its kinds an object of a request is, wherever there are several."""

_POINTER_MAX = 200
"""Characters of a pointer that are told: names of fields that nobody asked for are the sender's own words."""


class ProblemPart(View):
    """One thing that is wrong with a request."""

    pointer: str
    """Where: a JSON pointer into the body ("#/lines/0/sku"), or "query/limit", "path/order_id", "header/…"."""
    code: str
    detail: str


class Problem(View):
    """Why a request failed, as RFC 9457 shapes it."""

    type: str
    """Identifies the kind of problem; a path of this service that explains it."""
    title: str
    status: int
    detail: str
    instance: str
    """The path that was asked for."""
    code: str
    """Never changes once published: decide by this."""
    request_id: str
    """Name it when you ask for help; it is in our logs."""
    errors: list[ProblemPart]


def status_of(kind: type[ServiceError]) -> int:
    """Return the HTTP status of a kind of error."""
    return next((_STATUS[one] for one in kind.__mro__ if one in _STATUS), _UNEXPECTED)


def problem_response(asked: HTTPConnection | Scope, error: ServiceError) -> Response:
    """Return the answer to a request that failed. Raw routes use it themselves, all others get it by raising."""
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="koc"'
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return _response(
        asked,
        status=status_of(type(error)),
        code=error.code,
        title=error.title,
        detail=error.detail,
        errors=[
            {"pointer": _pointer(fault.place), "code": fault.code, "detail": fault.detail} for fault in error.faults
        ],
        headers=headers,
    )


def invalid_response(asked: HTTPConnection | Scope, parts: Sequence[Mapping[str, str]]) -> Response:
    """Return the answer to a request of which parts are wrong. parts: as ProblemPart has them."""
    return _response(
        asked,
        status=_STATUS[Invalid],
        code=Invalid.code,
        title=Invalid.title,
        detail=f"{len(parts)} part(s) of the request are not as described; see errors.",
        errors=[{**part, "pointer": part["pointer"][:_POINTER_MAX]} for part in parts],
    )


def request_id_of(asked: HTTPConnection | Scope) -> str:
    """Return the id of a request, given by the caller or by us."""
    scope = asked.scope if isinstance(asked, HTTPConnection) else asked
    state: Mapping[str, str] = scope.get("state", {})
    return state.get("request_id", "")


class ProblemKind(View):
    """A kind of failure that the service can answer with."""

    code: str
    status: int
    title: str
    description: str


INTERNAL_ERROR = ProblemKind(
    code="internal-error",
    status=_UNEXPECTED,
    title="We made a mistake",
    description="Something we did not expect. The log has it under the request_id.",
)

router = APIRouter(tags=["problems"])


@router.get("/problems", openapi_extra=PUBLIC)
async def list_problem_kinds() -> list[ProblemKind]:
    """List every code a problem of this service may have, and what it means."""
    return [kinds()[code] for code in sorted(kinds())]


@router.get("/problems/{code}", openapi_extra=PUBLIC)
async def get_problem_kind(code: str) -> ProblemKind:
    """Explain one code; the `type` of each problem leads here."""
    if code not in kinds():
        raise Missing("No problem has this code.")
    return kinds()[code]


@cache
def kinds() -> dict[str, ProblemKind]:
    """Map each code to what it means; all modules are loaded when it is first asked for."""
    found = {INTERNAL_ERROR.code: INTERNAL_ERROR}
    waiting: list[type[ServiceError]] = [ServiceError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind is not ServiceError and "code" in vars(kind):
            found[kind.code] = ProblemKind(
                code=kind.code, status=status_of(kind), title=kind.title, description=cleandoc(kind.__doc__ or "")
            )
    return found


@contextlib.contextmanager
def taken(constraint: str, refusal: ServiceError) -> Iterator[None]:
    """Raise the refusal where the block breaks a unique constraint of this name; the block has to flush.

    The unit of work is lost then: it ends with the refusal.
    """
    try:
        yield
    except IntegrityError as error:
        cause = error.orig
        if isinstance(cause, psycopg.errors.UniqueViolation) and cause.diag.constraint_name == constraint:
            raise refusal from None
        raise


def install(app: FastAPI) -> None:
    """Make every failure of the application a problem."""
    app.add_exception_handler(ServiceError, _expected)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unexpected)


def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=LEFT)


def _response(
    asked: HTTPConnection | Scope,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    scope = asked.scope if isinstance(asked, HTTPConnection) else asked
    body = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": scope["path"],
        "code": code,
        "request_id": request_id_of(scope),
        "errors": list(errors),
    }
    # ASCII only: a path may hold what is no Unicode text.
    content = json.dumps(body, separators=(",", ":")).encode()
    return versions.marked(Response(content, status_code=status, headers=headers, media_type=MEDIA_TYPE), scope)


async def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return problem_response(request, error)


async def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = error.errors()
    if any(part["type"] == "json_invalid" for part in parts):
        return problem_response(request, MalformedJson("The body could not be read as JSON in UTF-8."))
    # The framework hands over the bytes of a body that is not declared to be JSON; no endpoint's types take them.
    if error.body and isinstance(error.body, bytes) and any(tuple(part["loc"]) == ("body",) for part in parts):
        return problem_response(request, UnsupportedMediaType("Send the body as `Content-Type: application/json`."))
    return invalid_response(
        request, [_part({**part, "loc": _as_sent(part["loc"], {"body": error.body})}) for part in parts]
    )


def parts_of(errors: Sequence[Any], sent: object, *place: str | int) -> list[ProblemPart]:
    """What the library found wrong with a part of a body. sent: that part. place: where it is, in steps."""
    return [ProblemPart(**_part({**each, "loc": ("body", *place, *_as_sent(each["loc"], sent))})) for each in errors]


def _as_sent(steps: Sequence[str | int], sent: Any) -> list[str | int]:
    """The steps to a place in what was sent. The library puts one more where an object has kinds: which of them it is."""
    kept: list[str | int] = []
    is_new = True
    for place, step in enumerate(steps, start=1):
        # Or a kind that is not said but told by its shape: what lies inside something that was not sent is no place.
        unsaid = place < len(steps) and isinstance(sent, dict) and step not in sent
        if unsaid or (is_new and isinstance(sent, dict) and sent.get(KIND) == step):
            is_new = False
            continue
        kept.append(step)
        is_new = True
        if isinstance(sent, dict):
            sent = sent.get(step)
        else:
            sent = sent[step] if isinstance(sent, list) and isinstance(step, int) and step < len(sent) else None
    return kept


def _pointer(steps: Sequence[str | int], root: str = "#") -> str:
    return root + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _part(part: Mapping[str, Any]) -> dict[str, str]:
    """Say where and why, never what was sent: it may be a secret in the wrong field."""
    place, *steps = part["loc"]
    match part["type"]:
        # Two messages of the library quote the sender.
        case "union_tag_invalid":
            detail = f"Must be one of {part['ctx']['expected_tags']}"
        case "json_type" | "extra_forbidden":
            detail = "Not a field of this request"
        case "model_attributes_type":
            detail = "Must be a JSON object"
        case "string_type" if type(part.get("input")) in {int, float}:
            detail = 'Write it as text, such as "8"'
        case _:
            detail = part["msg"].removeprefix("Value error, ")
    pointer = _pointer(steps, "#" if place == "body" else place)
    return {"pointer": pointer, "code": part["type"].replace("_", "-"), "detail": detail}


async def _framework(request: Request, error: Exception) -> Response:
    """Turn what the framework raises before or instead of an endpoint into ours."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return problem_response(request, UnknownPath("No endpoint has this path; /docs lists them all."))
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            answer = problem_response(request, MethodNotAllowed(f"This path takes {allowed or 'other methods'}."))
            answer.headers["Allow"] = allowed
            return answer
        case 413:
            return problem_response(request, TooLarge("The body has more bytes than this service accepts."))
        case 400:
            return problem_response(request, MalformedJson("The body could not be read as JSON in UTF-8."))
        case status if status < _UNEXPECTED:
            # Whatever else the framework may come to refuse: under a code of ours, each of which is explained.
            return problem_response(request, Invalid(str(error.detail)))
        case _:
            return await _unexpected(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the trace; this line ties it to what the caller was told.
    _log.error("request failed", request_id=request_id_of(request), method=request.method, error=type(error).__name__)
    return _response(
        request,
        status=INTERNAL_ERROR.status,
        code=INTERNAL_ERROR.code,
        title=INTERNAL_ERROR.title,
        detail="The request could not be completed. It was logged with this request_id.",
    )
