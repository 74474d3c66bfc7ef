"""The threads that call endpoints. They hold no connection to the database, and what they bring back is recorded elsewhere."""

import contextlib
import json
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from service.domain.delivery import Result, result_of
from service.infra.clock import utc_now
from service.infra.ids import encode
from service.infra.outgoing import AddressRefused, Caller, NoHttp, OutOfTime, TlsFailed, Unreachable, retry_after
from service.infra.standard_webhooks import signature

PER_ENDPOINT = 4
"""Calls of one endpoint at once; one that failed last gets one. So a slow receiver holds few threads."""
PER_MERCHANT = 12
"""Calls for one merchant at once, however many endpoints it has."""
THREADS = 32
DETAIL_CHARACTERS = 500
"""How much of an answer is kept; it is there for people, and may hold what only the receiver's log should."""
USER_AGENT = "koc-webhooks/1"

_RESULTS: dict[type[Exception], Result] = {
    AddressRefused: Result.ADDRESS_REFUSED,
    OutOfTime: Result.TIMEOUT,
    Unreachable: Result.UNREACHABLE,
    TlsFailed: Result.TLS,
    NoHttp: Result.PROTOCOL,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to try. secrets: in the clear, never logged, the newest first. tries: recorded before."""

    merchant_id: UUID
    id: UUID
    endpoint_id: UUID
    fence: int
    tries: int
    url: str
    secrets: tuple[bytes, ...]
    message_id: str
    body: bytes
    claimed_at: datetime

    def __repr__(self) -> str:
        return f"Claimed({encode('whd', self.id)}, fence {self.fence})"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a try. http_status: None where there was no answer. detail: for people."""

    claimed: Claimed
    result: Result
    http_status: int | None
    detail: str
    retry_after: timedelta | None
    took_ms: int


class Poster:
    """Sends claimed deliveries, a bounded number at once, and keeps what came of them until it is asked.

    clock: the time that is signed; receivers compare it with theirs.
    """

    def __init__(self, caller: Caller | None = None, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._caller = caller or Caller()
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="koc-webhook")
        self._arrived: queue.SimpleQueue[Future[Tried]] = queue.SimpleQueue()
        # Only the thread that claims, sends and records touches these.
        self._under_way: dict[Future[Tried], Claimed] = {}
        self._of_endpoint: Counter[tuple[UUID, UUID]] = Counter()
        self._of_merchant: Counter[UUID] = Counter()

    @property
    def under_way(self) -> int:
        """Calls that were begun and whose outcome nobody has fetched."""
        return len(self._under_way)

    def under_way_of(self, merchant_id: UUID) -> int:
        return self._of_merchant[merchant_id]

    def places(self, merchant_id: UUID) -> int:
        """How many more deliveries of a merchant may be sent now."""
        return max(0, min(PER_MERCHANT - self._of_merchant[merchant_id], THREADS - len(self._under_way)))

    def places_at(self, merchant_id: UUID, endpoint_id: UUID, *, is_failing: bool) -> int:
        """How many more one of its endpoints may be sent."""
        return max(0, (1 if is_failing else PER_ENDPOINT) - self._of_endpoint[merchant_id, endpoint_id])

    def send(self, claimed: Claimed) -> None:
        """Begin a call, and do not wait for it."""
        future = self._threads.submit(partial(try_once, self._caller, claimed, self._clock))
        self._under_way[future] = claimed
        self._of_endpoint[claimed.merchant_id, claimed.endpoint_id] += 1
        self._of_merchant[claimed.merchant_id] += 1
        future.add_done_callback(self._arrived.put)

    def arrived(self, *, wait_s: float) -> list[Tried]:
        """Return what came of calls since it was last asked, waiting so long for a first one if some are under way."""
        tried: list[Tried] = []
        with contextlib.suppress(queue.Empty):
            if self._under_way and wait_s > 0:
                tried += self._take(self._arrived.get(timeout=wait_s))
            while True:
                tried += self._take(self._arrived.get_nowait())
        return tried

    def close(self) -> None:
        """Begin nothing more. Calls under way end by themselves, at the latest when their time is over."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self, future: "Future[Tried]") -> list[Tried]:
        claimed = self._under_way.pop(future)
        self._of_endpoint[claimed.merchant_id, claimed.endpoint_id] -= 1
        self._of_merchant[claimed.merchant_id] -= 1
        if future.cancelled():
            return []
        error = future.exception()
        if error is not None:
            # Our own mistake. Nothing is recorded, so somebody tries again when the lease ends.
            _log.error("%s could not be sent", claimed, exc_info=error)
            return []
        return [future.result()]


def body_of(*, message_id: str, type_: str, told_at: datetime, payload: dict[str, Any]) -> bytes:
    """The message, as Standard Webhooks recommends it; the same bytes at every try and for every endpoint."""
    message = {
        "id": message_id,
        "type": type_,
        "timestamp": told_at.isoformat().replace("+00:00", "Z"),
        "data": payload,
    }
    return json.dumps(message, separators=(",", ":")).encode()


def try_once(caller: Caller, claimed: Claimed, clock: Callable[[], datetime]) -> Tried:
    """Send a delivery and say what came of it."""
    now = clock()
    timestamp = str(int(now.timestamp()))
    signatures = [
        "v1," + signature(secret, claimed.message_id, timestamp, claimed.body).decode() for secret in claimed.secrets
    ]
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": claimed.message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }
    began = time.monotonic()
    try:
        answer = caller.post(claimed.url, headers=headers, body=claimed.body)
    except tuple(_RESULTS) as error:
        return Tried(claimed, _RESULTS[type(error)], None, _readable(str(error)), None, _since(began))
    pause = retry_after(answer.headers.get("retry-after"), now=now) if answer.status in {429, 503} else None
    detail = _readable(answer.body.decode(errors="replace"))
    return Tried(claimed, result_of(answer.status), answer.status, detail, pause, _since(began))


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _readable(text: str) -> str:
    """The beginning of a stranger's text without what a terminal, a page or the database would stumble over."""
    shown = text[:DETAIL_CHARACTERS]
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in shown)
