"""Where HTTP comes in: as the server library speaks it, but webhooks beyond what may wait are refused unparsed."""

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.front import new_request_id
from service.api.problems import HeadTooLarge, MalformedHttp, problem_response
from service.domain.errors import ServiceError, Unavailable
from service.infra import metrics

CHECK_ORDERS = "check_orders"
"""Under this name the application's lifespan leaves a function that raises Unavailable when an order would be refused."""

_WEBHOOK = b"POST /intake/"
_FIRST_LINE = re.compile(rb"POST (/intake/[a-z0-9_]{1,64}) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})(?=\r\n|\Z)")
_UNUSUAL = tuple(b"\r\n" + name for name in (b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b" ", b"\t"))
"""What changes how a request is read or answered: then it is read by the book. A line that begins blank goes on."""
_CONNECTION, _STAYS = b"\r\nconnection:", b" keep-alive"
_ID = b"req_" + 16 * b"0"
"""Stands in prepared answers for the id of a request."""
HEAD_BYTES_MAX = 65_536
"""Bytes of a request's first line and headers; the parser itself would go on for as long as they come."""
PATHS_MAX = 4096
"""Prepared answers that are kept: one for each source that is refused."""


class Door(HttpToolsProtocol):
    """The server's own protocol, with a quick way out for the flood.

    When three times as many webhooks come as can be done, two of three are refused. A task and an answer through the
    whole application for each would take from the third what it needs; so a webhook that lies before us whole, and
    nothing else, is refused as it is. Whatever is unusual goes the usual way, and is refused there.
    """

    _reading = False
    """Whether a request has begun that is not read to its end."""
    _in_head = False
    """Whether its headers are not read to their end."""
    _head_bytes = 0

    def on_message_begin(self) -> None:
        self._reading = self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # Not before: an address that cannot be read is an error of the head.
        self._in_head = False
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading = False

    def data_received(self, data: bytes) -> None:
        refusal = self._refusal(data) if data.startswith(_WEBHOOK) else None
        if refusal is None:
            super().data_received(data)
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                    self._close_with(HeadTooLarge(f"A request's headers may have at most {HEAD_BYTES_MAX} bytes."))
            return
        self._unset_keepalive_if_required()
        self.transport.write(refusal)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the library's own words are plain text
        """Answer bytes that are no HTTP; called by the library."""
        self._close_with(MalformedHttp("Send requests as RFC 9112 describes them."))

    def _close_with(self, error: ServiceError) -> None:
        """End the connection, saying why where the answer cannot be taken for that of an earlier request."""
        cycle: RequestResponseCycle | None = self.cycle
        is_its_own = self._reading and not self._in_head and not self.pipeline
        if cycle is None or cycle.response_complete or (is_its_own and not cycle.response_started):
            request_id = new_request_id()
            path = "" if self._in_head or not self._reading else self.scope["path"]
            scope = {"type": "http", "path": path, "state": {"request_id": request_id.decode()}}
            response = problem_response(scope, error)
            own = [*self.server_state.default_headers, *response.raw_headers]
            headers = [*own, (b"x-request-id", request_id), (b"connection", b"close")]
            self.transport.write(_written(response.status_code, headers, bytes(response.body)))
        self.transport.close()

    def _refusal(self, data: bytes) -> bytes | None:
        """The answer to a webhook that is to be refused; None for all that goes the usual way."""
        # Before the first request there is no cycle, whatever the library's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        at_rest = not self._reading and (cycle is None or cycle.response_complete)
        check = self.app_state.get(CHECK_ORDERS)
        if check is None or not at_rest or self.transport.is_closing():
            return None
        try:
            check()
        except Unavailable as error:
            path = _path_of_whole_webhook(data)
            return None if path is None else self._answer(path, error)
        return None

    def _answer(self, path: str, error: Unavailable) -> bytes:
        # As the operation it would have been; no time was spent on it that is worth a measure.
        metrics.request_answered("receive_webhook", status=503, seconds=0.0)
        first, rest = _prepared(path, type(error), str(error))  # type: ignore[arg-type] # classes can be hashed
        own = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        return first + own + rest.replace(_ID, new_request_id())


@lru_cache(maxsize=PATHS_MAX)
def _prepared(path: str, kind: type[Unavailable], detail: str) -> tuple[bytes, bytes]:
    """(status line, all else but the server's own headers) of a refusal, made once for each path."""
    response = problem_response({"type": "http", "path": path, "state": {"request_id": _ID.decode()}}, kind(detail))
    written = _written(response.status_code, [*response.raw_headers, (b"x-request-id", _ID)], bytes(response.body))
    first, line_end, rest = written.partition(b"\r\n")
    return first + line_end, rest


def _written(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A whole answer as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), lines, body)


def _path_of_whole_webhook(data: bytes) -> str | None:
    """The path of a plain webhook that is all there, to the byte; None for anything else."""
    first = _FIRST_LINE.match(data)
    head_end = data.find(b"\r\n\r\n")
    if first is None or head_end < 0:
        return None
    head = data[:head_end].lower()
    lengths = _LENGTH.findall(head)
    if len(lengths) != 1 or head.count(b"\r\ncontent-length") != 1 or len(data) != head_end + 4 + int(lengths[0]):
        return None
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines or any(each in head for each in _UNUSUAL):
        return None
    at = head.find(_CONNECTION)
    if at >= 0 and head[at + len(_CONNECTION) :].partition(b"\r\n")[0] != _STAYS:
        return None
    return first[1].decode()
