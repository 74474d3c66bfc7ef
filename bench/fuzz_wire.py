"""Bytes over a socket: whole requests or none, what came back, and the smallest bytes that still do it."""

import contextlib
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import httptools

from bench.fuzz_contract import Answer

HANGS_S = 20.0
"""Seconds without an answer after which a connection hangs; the service itself gives up sooner."""
TRIES_MAX = 80
"""Sends that are spent on making one failure smaller."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. A length is added unless the headers say something of it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def wire(self) -> bytes:
        """The request as it goes over the wire."""
        names = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        if "host" not in names:
            lines.append("host: 127.0.0.1")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not names & {"content-length", "transfer-encoding"} and (self.body or self.method not in {"GET", "HEAD"}):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + self.body

    def curl(self, url: str) -> str:
        """The request as a line for a shell. The key is left out: it is gone with the run."""
        words = ["curl", "-X", self.method]
        for name, value in self.headers:
            told = "Bearer $KEY" if name.lower() == "authorization" else value
            words += ["-H", f"{name}: {told}"]
        if self.body:
            words += ["--data-binary", self.body.decode("utf-8", "backslashreplace")]
        return shlex.join([*words, url + self.target]).replace(
            "'authorization: Bearer $KEY'", '"authorization: Bearer $KEY"'
        )


@dataclass(slots=True)
class Told:
    """What a parser of HTTP, the very one the service uses, finds in bytes."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method, target) of each request whose headers are whole."""
    expected: int = 0
    """Answers that must come: one for each whole request up to the first that ends the connection."""
    malformed: bool = False


@dataclass(slots=True)
class Outcome:
    """What came back on one connection. silent: nothing came for a long time, and it was not closed either."""

    told: Told
    answers: list[Answer] = field(default_factory=list)
    silent: bool = False

    @property
    def lost(self) -> bool:
        """Whether a whole request got no answer. After bytes that are no HTTP an earlier one may go without."""
        return len(self.answers) < self.told.expected and not self.told.malformed


class _Listener:
    def __init__(self) -> None:
        self.told = Told()
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._url = b""
        self._ended = False
        self._stays = True

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        self.told.requests.append((self.parser.get_method().decode("ascii"), self._url.decode("utf-8", "replace")))
        self._stays = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"

    def on_message_complete(self) -> None:
        if not self._ended:
            self.told.expected += 1
        self._ended = self._ended or not self._stays


def told(data: bytes) -> Told:
    """Return what the bytes say."""
    listener = _Listener()
    try:
        listener.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except (httptools.HttpParserError, httptools.HttpParserInvalidURLError):
        listener.told.malformed = True
    return listener.told


def exchange(host: str, port: int, data: bytes, *, patience_s: float = HANGS_S) -> Outcome:
    """Send bytes over a connection of their own and read what comes back, until all is answered or it is closed."""
    outcome = Outcome(told(data))
    with socket.create_connection((host, port), timeout=patience_s) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Whoever refuses early need not read on: what was answered until then counts.
        with contextlib.suppress(ConnectionError):
            line.sendall(data)
            if not outcome.told.expected:
                # The service may have closed it by now.
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_WR)
        methods = (method for method, _ in outcome.told.requests)
        try:
            for answer in _answers(line, methods):
                outcome.answers.append(answer)
                if outcome.told.expected and len(outcome.answers) >= outcome.told.expected:
                    break
        except TimeoutError:
            outcome.silent = True
        except ConnectionError:
            pass
    return outcome


def _answers(line: socket.socket, methods: Iterator[str]) -> Iterator[Answer]:
    """Yield answers until the line is closed; one that is cut short is none."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            data = line.recv(65536)
            if not data:
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        if status < 200:
            continue
        headers = tuple((name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines))
        found = dict(headers)
        if next(methods, "") == "HEAD" or status in {204, 304}:
            body = b""
        elif found.get("transfer-encoding") == "chunked":
            body, buffer = _chunked(line, buffer)
        else:
            length = int(found.get("content-length", "0"))
            buffer = _filled(line, buffer, length)
            body, buffer = buffer[:length], buffer[length:]
        yield Answer(status, headers, body)


def _filled(line: socket.socket, buffer: bytes, length: int) -> bytes:
    parts, size = [buffer], len(buffer)
    while size < length:
        data = line.recv(65536)
        if not data:
            raise ConnectionResetError("cut short")
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def _chunked(line: socket.socket, buffer: bytes) -> tuple[bytes, bytes]:
    parts: list[bytes] = []
    while True:
        while b"\r\n" not in buffer:
            buffer = _filled(line, buffer, len(buffer) + 1)
        size, _, buffer = buffer.partition(b"\r\n")
        length = int(size, 16)
        buffer = _filled(line, buffer, length + 2)
        parts.append(buffer[:length])
        buffer = buffer[length + 2 :]
        if not length:
            return b"".join(parts), buffer


def smallest_request(request: Request, still: Callable[[Request], bool]) -> Request:
    """Return a smaller request of which the same still holds."""
    tries = iter(range(TRIES_MAX))

    def holds(one: Request) -> bool:
        return next(tries, None) is not None and still(one)

    path, _, query = request.target.partition("?")
    for part in query.split("&") if query else []:
        kept = [each for each in request.target.partition("?")[2].split("&") if each != part]
        one = replace(request, target=f"{path}?{'&'.join(kept)}" if kept else path)
        request = one if holds(one) else request
    for header in request.headers:
        one = replace(request, headers=tuple(each for each in request.headers if each != header))
        request = one if holds(one) else request
    body = smallest(request.body, lambda smaller: holds(replace(request, body=smaller)), tries_max=TRIES_MAX)
    return replace(request, body=body)


def smallest(data: bytes, still: Callable[[bytes], bool], *, tries_max: int = TRIES_MAX) -> bytes:
    """Return fewer bytes of which the same still holds: ever smaller pieces are left out."""
    tries, size = 0, len(data) // 2
    while size and tries < tries_max:
        at = 0
        while at < len(data) and tries < tries_max:
            one = data[:at] + data[at + size :]
            tries += 1
            if still(one):
                data = one
            else:
                at += size
        size //= 2
    return data


def printf(data: bytes, host: str, port: int) -> str:
    """The bytes as a line for a shell."""
    written = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"\\%'" else f"\\{byte:03o}" for byte in data)
    return f"printf '{written}' | nc {host} {port}"
