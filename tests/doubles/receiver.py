"""A merchant's webhook receiver on this machine that speaks real HTTP, and misbehaves when it is told to.

    with Receiver() as receiver:          # receiver.url, receiver.does("500", "reset"), receiver.messages

What it was told to do is done in turn, one per request; afterwards, and by default, it answers 200. Each request is kept
before it is answered, as a real receiver may have acted on what the sender then counts as lost.
"""

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

HUGE = 1 << 20
_PATIENCE_S = 30
"""How long a slow answer is held back at most, should the test forget to release it."""


@dataclass(frozen=True)
class Message:
    """A request as it came. headers: names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """One that does what it is told to.

    ok         200                                 500, 400, 302, 503 …  that status; `429 7` with Retry-After: 7
    slow       no answer until `release`           trickle    a head that never ends, byte by byte
    huge       200 and a body of a mebibyte        302 <url>  a redirect there
    reset      the line breaks                     silent     closed without a word
    garbage    what is no HTTP                     half       200, then the line breaks in the body
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.released = threading.Event()
        self._does: deque[str] = deque()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def does(self, *what: str) -> None:
        """Say what it does with the next requests."""
        self._does.extend(what)

    def release(self) -> None:
        """Let all slow answers go."""
        self.released.set()

    def taken(self, message: Message) -> str:
        """Keep a request; return what to do with it."""
        with self._lock:
            self.messages.append(message)
            return self._does.popleft() if self._does else "ok"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            what, _, more = receiver.taken(Message(urlsplit(self.path).path, headers, body)).partition(" ")
            self.close_connection = True
            # The sender may have had enough of it.
            with contextlib.suppress(OSError):
                self._do(what, more)

        def _do(self, what: str, more: str) -> None:
            match what:
                case "slow":
                    receiver.released.wait(_PATIENCE_S)
                    self._answer(200, b"late")
                case "trickle":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not receiver.released.wait(0.02):
                        self.wfile.write(b"x")
                case "huge":
                    self._answer(200, b"x" * HUGE)
                case "half":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                case "garbage":
                    self.wfile.write(b"220 mail.example ESMTP\r\n")
                case "silent":
                    pass
                case "reset":
                    # With this set, closing sends a reset instead of an orderly end.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                case "ok":
                    self._answer(200, b"thanks")
                case status if status.startswith("3"):
                    self._answer(int(status), b"", {"Location": more})
                case status:
                    self._answer(int(status), b"no \x00\x1b[31m", {"Retry-After": more} if more else {})

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
            """Say nothing: the test tells what matters."""

    return Handler
