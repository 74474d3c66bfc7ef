"""A small HTTP/1.1 client for load: requests are bytes made before the clock starts, answers are read to their length."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

GIVE_UP_S = 120.0
"""Seconds without any answer on any connection after which a run is over."""

FAILURES_KEPT = 5
"""How many wrong answers are kept to be shown; all are counted."""


class Stalled(RuntimeError):
    """The server has answered nothing for a long time."""


@dataclass(slots=True)
class Load:
    """What came of a run. latencies_s: sorted. failed: (status, beginning of the body) of the first wrong answers."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    """(place of the request, body), in the order they came; only where bodies were asked for."""

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that so many percent of the answers did not exceed, in milliseconds."""
        last = len(self.latencies_s) - 1
        return 1000 * self.latencies_s[min(last, round(last * percent / 100))]


def request(method: str, path: str, *, host: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """Return a whole request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if body or method != "GET":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def run(
    host: str,
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    expect: int,
    keep_answers: bool = False,
    on_answers: Callable[[int], None] = lambda _: None,
) -> Load:
    """Send all requests over so many kept-alive connections, each with one request in flight. Returns what came of it.

    The clock starts when all connections are open. Anything but the expected status counts as a failure. on_answers:
    told now and then how many answers have come. Raises Stalled, ConnectionError.
    """
    return uvloop.run(_run(host, port, requests, connections, expect, keep_answers, on_answers))


async def _run(
    host: str,
    port: int,
    requests: Sequence[bytes],
    connections: int,
    expect: int,
    keep_answers: bool,
    on_answers: Callable[[int], None],
) -> Load:
    loop = asyncio.get_running_loop()
    work = _Work(requests, expect, keep_answers, loop.create_future())
    opened = [await loop.create_connection(lambda: _Connection(work), host, port) for _ in range(connections)]
    started = time.perf_counter()
    for _, connection in opened:
        connection.send()
    answered = -1
    quiet_since = started
    while not work.done.done():
        await asyncio.wait([work.done], timeout=0.25)
        if work.answered != answered:
            answered, quiet_since = work.answered, time.perf_counter()
            on_answers(answered)
        elif time.perf_counter() - quiet_since > GIVE_UP_S:
            raise Stalled(f"No answer for {GIVE_UP_S:.0f} s; {answered} of {len(requests)} had come.")
    for transport, _ in opened:
        transport.close()
    work.done.result()
    on_answers(work.answered)
    work.load.seconds = work.ended - started
    work.load.latencies_s.sort()
    return work.load


class _Work:
    """What the connections of a run share."""

    def __init__(
        self, requests: Sequence[bytes], expect: int, keep_answers: bool, done: "asyncio.Future[None]"
    ) -> None:
        self.waiting = deque(enumerate(requests))
        self.left = len(requests)
        self.expect = b"HTTP/1.1 %d " % expect
        self.keep_answers = keep_answers
        self.done = done
        self.answered = 0
        self.ended = 0.0
        self.load = Load()
        if not requests:
            done.set_result(None)

    def answer(self, place: int, latency_s: float, head: bytes, body: bytes) -> None:
        self.load.latencies_s.append(latency_s)
        if not head.startswith(self.expect):
            self.load.failures += 1
            if len(self.load.failed) < FAILURES_KEPT:
                self.load.failed.append((int(head[9:12]), body[:300].decode("utf-8", "replace")))
        if self.keep_answers:
            self.load.answers.append((place, body))
        self.answered += 1
        if self.answered == self.left:
            self.ended = time.perf_counter()
            if not self.done.done():
                self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Connection(asyncio.Protocol):
    """One kept-alive connection: sends, reads the answer to its Content-Length, sends the next."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._place = -1
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Send the next request if there is one."""
        assert self._transport is not None
        if not self._work.waiting:
            self._place = -1
            return
        self._place, wire = self._work.waiting.popleft()
        self._sent_at = time.perf_counter()
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        # Head and body may come in two pieces, so that counting reads would invent errors.
        self._received = self._received + data if self._received else data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._received[:head_end]
        end = head_end + 4 + _length(head)
        if len(self._received) < end:
            return
        latency_s = time.perf_counter() - self._sent_at
        body = self._received[head_end + 4 : end]
        self._received = self._received[end:]
        self._work.answer(self._place, latency_s, head, body)
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._place >= 0:
            self._work.fail(error or ConnectionResetError("The server closed a connection that waited for an answer."))


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    end = lower.find(b"\r\n", at + 2)
    return int(lower[at + 17 : end if end >= 0 else None])
