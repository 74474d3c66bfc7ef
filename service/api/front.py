"""What every request meets first: its id, the limit on its body, and the clock that measures it."""

import random
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.domain.errors import ServiceError, TooLarge
from service.infra import metrics

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""What we take over as a request id: safe to write into logs and headers."""


class Front:
    """Plain ASGI, outermost: a middleware of the framework's own kind would cost each request a task and two queues."""

    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, refusal: Callable[[Scope], ServiceError | None] = lambda _: None
    ) -> None:
        """refusal: why a request is not even to be begun, from its scope alone; None lets it in."""
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        headers = scope["headers"]
        given = next((value for name, value in headers if name == b"x-request-id"), b"")
        request_id = given if _GIVEN_ID.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = scope["state"].get("pace_headers", ())
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), *more]
            await send(message)

        try:
            length = next((value for name, value in headers if name == b"content-length"), b"")
            if length.isdigit() and int(length) > self._body_bytes_max:
                # Refused here because the framework's own answer to a known length is no problem document.
                await problem_response(scope, _too_large(self._body_bytes_max))(scope, receive, send_marked)
            elif (refused := self._refusal(scope)) is not None:
                await problem_response(scope, refused)(scope, receive, send_marked)
            else:
                await self._app(scope, receive, send_marked)
        finally:
            route = scope.get("route")
            operation = getattr(route, "name", None) or "none"
            metrics.request_answered(operation, status=status, seconds=time.perf_counter() - started)


def new_request_id() -> bytes:
    """Return an id to find a request again by. It keeps no secret: asking the system for one lets other threads go first."""
    return b"req_%016x" % random.getrandbits(64)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"A body may have at most {limit} bytes.")
