"""Delivering an event: what an answer means, when the next try is, when an endpoint rests, and when it is given up."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=20),
    timedelta(hours=43),
)
"""Waits after the first, second, … try that failed: 71 h 35 min in all, before jitter."""
TRIES_MAX = len(WAITS) + 1
JITTER = 20
"""Each wait is longer by up to one part in so many, never shorter: after an outage not all come back in one second."""
RETRY_AFTER_MAX = timedelta(hours=1)
"""A receiver may ask for more time than the next wait, but for no more than this."""
REST_MIN, REST_MAX = timedelta(seconds=5), timedelta(minutes=10)
"""How long an endpoint that cannot be reached is left alone altogether; doubled with each failure in a row."""
GIVE_UP_AFTER = timedelta(days=5)
"""An endpoint at which every try has failed for this long is disabled."""


class Result(StrEnum):
    """What came of one try. A closed list; codes are never renamed."""

    DELIVERED = "delivered"
    """Answered with 2xx."""
    REFUSED = "refused"
    """Answered with another status."""
    GONE = "gone"
    """Answered with 410: the receiver wants nothing more, ever."""
    BUSY = "busy"
    """Answered with 429 or 503: later."""
    REDIRECTED = "redirected"
    """Answered with 3xx, which is not followed: the address has to be changed here."""
    TIMEOUT = "timeout"
    """No whole answer in time."""
    UNREACHABLE = "unreachable"
    """No connection, a broken one, or a name that is not known."""
    TLS = "tls"
    """Its certificate was not accepted, or TLS failed in another way."""
    ADDRESS_REFUSED = "address_refused"
    """Its name leads to an address that is not called: private, loopback, link-local and the like."""
    PROTOCOL = "protocol"
    """What came was no HTTP."""


class DeliveryState(StrEnum):
    PENDING = "pending"
    """It waits for its first or next try."""
    SENDING = "sending"
    """A worker tries just now; if that one has died, another takes over when its lease ends."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up. It can be replayed."""


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing."""

    BY_PERSON = "by_person"
    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """Every try failed for five days."""


_SLOW = frozenset({Result.TIMEOUT, Result.UNREACHABLE, Result.TLS, Result.ADDRESS_REFUSED, Result.PROTOCOL})
"""Failures of the endpoint itself, not of one event: other events would fail the same way and hold a place meanwhile."""


def result_of(status: int) -> Result:
    """What an HTTP status says."""
    match status:
        case 410:
            return Result.GONE
        case 429 | 503:
            return Result.BUSY
        case _ if 200 <= status < 300:
            return Result.DELIVERED
        case _ if 300 <= status < 400:
            return Result.REDIRECTED
        case _:
            return Result.REFUSED


@dataclass(frozen=True, slots=True)
class Next:
    """What becomes of a delivery after a try. next_at: of the next one, None when there is none."""

    state: DeliveryState
    next_at: datetime | None


def after_try(
    result: Result, *, tries: int, now: datetime, retry_after: timedelta | None = None, jitter_permille: int = 0
) -> Next:
    """Decide about a delivery.

    tries: with this one, since it was made or replayed. jitter_permille: 0 to 1000, drawn by the caller.
    """
    if result is Result.DELIVERED:
        return Next(DeliveryState.DELIVERED, None)
    if result is Result.GONE or tries >= TRIES_MAX:
        return Next(DeliveryState.FAILED, None)
    wait = WAITS[tries - 1] + WAITS[tries - 1] * jitter_permille // (JITTER * 1000)
    if retry_after is not None:
        wait = max(wait, min(retry_after, RETRY_AFTER_MAX))
    return Next(DeliveryState.PENDING, now + wait)


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint has fared. failures: tries that failed since the last success. failing_since: the first of them."""

    failures: int = 0
    failing_since: datetime | None = None
    rests_until: datetime | None = None
    disable: DisabledReason | None = None


def health_after(health: Health, result: Result, *, now: datetime, retry_after: timedelta | None = None) -> Health:
    """How an endpoint fares after a try, which may be the one that disables it."""
    if result is Result.DELIVERED:
        return Health()
    failures = health.failures + 1
    since = health.failing_since or now
    if result is Result.GONE:
        return Health(failures, since, None, DisabledReason.GONE)
    if now - since >= GIVE_UP_AFTER:
        return Health(failures, since, None, DisabledReason.FAILING)
    rests_until = health.rests_until
    if result in _SLOW:
        rests_until = now + min(REST_MAX, REST_MIN * 2 ** min(failures - 1, 10))
    elif result is Result.BUSY:
        rests_until = now + min(max(retry_after or REST_MIN, REST_MIN), RETRY_AFTER_MAX)
    return Health(failures, since, rests_until)
