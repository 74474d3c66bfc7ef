"""What every request meets first: its id, the limit on its body, and the clock that measures it."""

import logging
import random
import re
import time
from collections.abc import Callable

import structlog
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import LEFT, problem_response
from service.domain.errors import ServiceError, TooLarge
from service.infra import metrics

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""What we take over as a request id: safe to write into logs and headers."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, section 3.2."""
SLOW_S = 2.0
"""Seconds after which a request has its line in the log."""
SLOW_APART_S = 1.0
"""Seconds between two such lines: when all are slow, one of them says as much as a thousand."""
_BUSY = 503

_log = logging.getLogger(__name__)


class Front:
    """Plain ASGI, outermost: a middleware of the framework's own kind would cost each request a task and two queues."""

    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, refusal: Callable[[Scope], ServiceError | None] = lambda _: None
    ) -> None:
        """refusal: why a request is not even to be begun, from its scope alone; None lets it in."""
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._refusal = refusal
        self._told_at = -SLOW_APART_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # Until something is answered, as where the client left before the end of its body.
        status = LEFT
        given = length = parent = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"content-length":
                length = value
            elif name == b"traceparent":
                parent = value
        request_id = given if _GIVEN_ID.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        self._mark(scope, request_id.decode(), parent)

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = scope["state"].get("pace_headers", ())
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), *more]
            await send(message)

        try:
            if length.isdigit() and int(length) > self._body_bytes_max:
                # Refused here because the framework's own answer to a known length is no problem document.
                await problem_response(scope, _too_large(self._body_bytes_max))(scope, receive, send_marked)
            elif (refused := self._refusal(scope)) is not None:
                await problem_response(scope, refused)(scope, receive, send_marked)
            else:
                await self._app(scope, receive, send_marked)
        except BaseException:
            status = 500
            raise
        finally:
            route = scope.get("route")
            operation = getattr(route, "name", None) or "none"
            seconds = time.perf_counter() - started
            metrics.request_answered(operation, status=status, seconds=seconds)
            if seconds >= SLOW_S or (status >= 500 and status != _BUSY):
                self._tell(operation, status, seconds)

    @staticmethod
    def _mark(scope: Scope, request_id: str, parent: bytes) -> None:
        """Let log lines of this request, and its trace where there is one, be found by each other."""
        span = trace.get_current_span()
        found = _TRACEPARENT.fullmatch(parent)
        if span.is_recording():
            structlog.contextvars.bind_contextvars(
                request_id=request_id, trace_id=trace.format_trace_id(span.get_span_context().trace_id)
            )
            span.set_attribute("koc.request_id", request_id)
            if scope.get("query_string"):
                # Filters name people.
                span.set_attribute("url.query", "[masked]")
        elif found:
            structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=found[1].decode())
        else:
            structlog.contextvars.bind_contextvars(request_id=request_id)

    def _tell(self, operation: str, status: int, seconds: float) -> None:
        facts = {"operation": operation, "status": status, "milliseconds": int(seconds * 1000)}
        now = time.monotonic()
        if status >= 500 and status != _BUSY:
            _log.error("A request failed", extra=facts)
        elif now - self._told_at >= SLOW_APART_S:
            self._told_at = now
            _log.warning("A request was slow", extra=facts)


def new_request_id() -> bytes:
    """Return an id to find a request again by. It keeps no secret: asking the system for one lets other threads go first."""
    return b"req_%016x" % random.getrandbits(64)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"A body may have at most {limit} bytes.")
