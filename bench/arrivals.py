"""An open loop: requests leave by a schedule, whether or not those before have been answered.

Who waits for an answer before asking again cannot overload anybody. Latency counts from the moment a request was due,
so that nothing is hidden when sender or server fall behind.
"""

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

PATIENCE_S = 10.0
"""An answer that takes longer is a time-out."""
NOTICE_S = 0.1
"""Time from opening the connections to the first arrival."""
CONNECTIONS_MAX = 8000
"""More at once would meet the limits of this machine, not of the server."""

NO_ANSWER = 0
"""Status of a request whose connection could not be made, or broke."""
TIMED_OUT = -1


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of one request. due_s: since the first. status: of HTTP, NO_ANSWER or TIMED_OUT.

    hint: whether the answer said when to come back (Retry-After).
    """

    place: int
    due_s: float
    status: int
    latency_s: float
    hint: bool


def schedule(count: int, *, per_second: float, seed: int) -> list[float]:
    """Return when so many independent callers arrive, in seconds from now: at random, so many per second on average."""
    draw = random.Random(seed)
    at, due = 0.0, []
    for _ in range(count):
        at += draw.expovariate(per_second)
        due.append(at)
    return due


def run(host: str, port: int, requests: Sequence[bytes], due: Sequence[float], *, connections: int) -> list[Arrival]:
    """Send each request when it is due and return what became of it, in any order.

    connections: kept-alive ones open from the start; when all of them wait for an answer, more are opened.
    """
    # A pause of the collector here would look like one of the server.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return uvloop.run(_run(host, port, requests, due, connections))
    finally:
        gc.enable()


@dataclass(slots=True)
class _Line:
    """What the connections of a run share."""

    idle: list["_Connection"] = field(default_factory=list)
    waiting: dict[int, float] = field(default_factory=dict)
    """By place, when the request was due; those not answered yet."""
    arrivals: list[Arrival] = field(default_factory=list)
    open: int = 0
    started: float = 0.0
    all_sent: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all was sent and nothing waits."""
    opening: set["asyncio.Task[None]"] = field(default_factory=set)

    def done(self, place: int, status: int, *, hint: bool = False) -> None:
        due = self.waiting.pop(place, None)
        if due is not None:
            latency_s = time.perf_counter() - due
            if latency_s > PATIENCE_S:
                status = TIMED_OUT
            self.arrivals.append(Arrival(place, due - self.started, status, latency_s, hint))
        if self.all_sent and not self.waiting:
            self.answered.set()


async def _run(
    host: str, port: int, requests: Sequence[bytes], due: Sequence[float], connections: int
) -> list[Arrival]:
    loop = asyncio.get_running_loop()
    line = _Line()

    async def connect() -> "_Connection":
        _, connection = await loop.create_connection(lambda: _Connection(line), host, port)
        return connection

    async def send_on_new(place: int) -> None:
        try:
            connection = await connect()
        except OSError:
            line.done(place, NO_ANSWER)
        else:
            connection.send(place, requests[place])

    line.idle = [await connect() for _ in range(connections)]
    opened = list(line.idle)
    line.started = time.perf_counter() + NOTICE_S
    place = 0
    while place < len(requests):
        now = time.perf_counter()
        while place < len(requests) and line.started + due[place] <= now:
            line.waiting[place] = line.started + due[place]
            if line.idle:
                line.idle.pop().send(place, requests[place])
            elif line.open < CONNECTIONS_MAX:
                task = loop.create_task(send_on_new(place))
                line.opening.add(task)
                task.add_done_callback(line.opening.discard)
            else:
                line.done(place, NO_ANSWER)
            place += 1
        if place < len(requests):
            await asyncio.sleep(max(0.0005, line.started + due[place] - time.perf_counter()))
    line.all_sent = True
    if line.waiting:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(line.answered.wait(), PATIENCE_S)
    for late in list(line.waiting):
        line.done(late, TIMED_OUT)
    for connection in {*opened, *line.idle}:
        connection.close()
    return line.arrivals


class _Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request in flight."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._place = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._line.open += 1

    def send(self, place: int, wire: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            self._line.done(place, NO_ANSWER)
            return
        self._place = place
        self._transport.write(wire)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._received[:head_end].lower()
        at = head.find(b"content-length:") + 15
        line_end = head.find(b"\r\n", at)
        length = int(head[at : line_end if line_end >= 0 else None])
        if len(self._received) < head_end + 4 + length:
            return
        self._received = self._received[head_end + 4 + length :]
        place, self._place = self._place, -1
        self._line.done(place, int(head[9:12]), hint=b"\r\nretry-after:" in head)
        self._line.idle.append(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._line.open -= 1
        if self._place >= 0:
            self._line.done(self._place, NO_ANSWER)
        if self in self._line.idle:
            self._line.idle.remove(self)
