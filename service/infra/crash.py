"""Crash points: places where a test lets this process die, to show that nothing hangs on its living on.

Each point is reached at one place in the code and does nothing there, unless the process was started with KOC_CRASH_AT,
or a test in the same process asked for it. `KOC_CRASH_AT=intake-before-commit:3` kills the process the third time it
comes by; without a number, the first time.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

VARIABLE = "KOC_CRASH_AT"

_log = logging.getLogger(__name__)


class CrashPoint(StrEnum):
    """Every place where a process can be told to die. In the order in which an order, then its money, comes by."""

    INTAKE_VERIFIED = "intake-verified"
    """A delivery is verified and read, and not in the queue yet."""
    INTAKE_BATCH_TAKEN = "intake-batch-taken"
    """A batch is in the writer's hands; its unit of work has not begun."""
    INTAKE_FILED = "intake-filed"
    """The inbox rows are inserted."""
    INTAKE_LOCKED = "intake-locked"
    """The orders are locked."""
    INTAKE_FACTS = "intake-facts"
    """The facts are merged and stored."""
    INTAKE_POSTED = "intake-posted"
    """The postings are inserted and the balances moved; entries and events are not there yet."""
    INTAKE_BEFORE_COMMIT = "intake-before-commit"
    """All is written, nothing committed."""
    INTAKE_COMMITTED = "intake-committed"
    """Committed, and nobody has been answered."""

    SETTLE_BEGUN = "settle-begun"
    """Something is due; nothing is locked."""
    SETTLE_LOCKED = "settle-locked"
    """The orders of what is due are locked."""
    SETTLE_STORED = "settle-stored"
    """The commissions are moved; nothing is posted."""
    SETTLE_BEFORE_COMMIT = "settle-before-commit"
    """All is posted, nothing committed."""
    SETTLE_COMMITTED = "settle-committed"
    """Committed, and the job is not finished."""

    RESERVE_BEFORE_COMMIT = "reserve-before-commit"
    """The items of a new run hold their money, nothing committed."""
    REQUEST_COMMITTED = "request-committed"
    """What a request of the API wrote is committed (a run made, submitted, approved, executed), and nobody was answered."""
    SUBMIT_BEFORE_COMMIT = "submit-before-commit"
    """A run is frozen, nothing committed."""
    APPROVE_BEFORE_COMMIT = "approve-before-commit"
    """A run is approved, nothing committed."""
    EXECUTE_BEFORE_COMMIT = "execute-before-commit"
    """A run is handed to the worker, nothing committed."""
    PLAN_BEFORE_COMMIT = "plan-before-commit"
    """Attempts are made and their money is in transit, nothing committed."""
    PLANNED = "payout-planned"
    """Attempts are committed, none is leased."""
    LEASED = "payout-leased"
    """Attempts are committed as in flight; not a byte has left."""
    ASKED = "payout-asked"
    """The rail has done what one attempt asked for; its answer was not looked at."""
    ANSWERED = "payout-answered"
    """All answers of a wave are here; recording them has not begun."""
    RECORD_STORED = "payout-record-stored"
    """The outcomes of attempts are written; nothing is posted."""
    RECORD_BEFORE_COMMIT = "payout-record-before-commit"
    """Outcomes, postings, facts and events are written, nothing committed."""
    RECORDED = "payout-recorded"
    """Recorded and committed; the run is not closed."""
    LOOKED_UP = "payout-looked-up"
    """The rail was asked about attempts whose outcome is unknown; what that proves is not recorded."""
    CLOSE_BEFORE_COMMIT = "payout-close-before-commit"
    """The run is closed, nothing committed."""
    ADVANCED = "payout-advanced"
    """The run is as far as it can go now, closed if nothing is left of it; the job is not finished."""
    RELEASE_BEFORE_COMMIT = "release-before-commit"
    """Items gave back what they held, nothing committed."""
    RECONCILE_BEFORE_COMMIT = "reconcile-before-commit"
    """What came back is stored and booked, nothing committed."""

    ACCOUNT_CLAIMED = "account-claimed"
    """It is committed that an account is asked for at Stripe; not a byte has left."""
    ACCOUNT_MADE = "account-made"
    """Stripe has made an account; what it said is not recorded."""
    PROVIDER_EVENT_BEFORE_COMMIT = "provider-event-before-commit"
    """An event of a provider is kept, nothing committed."""
    PROVIDER_EVENTS_READ = "provider-events-read"
    """What events are about was asked for; nothing of it is applied."""
    PROVIDER_EVENTS_BEFORE_COMMIT = "provider-events-before-commit"
    """Events of one merchant are applied, nothing committed."""

    WEBHOOK_FANNED_OUT = "webhook-fanned-out"
    """Events left the queue and became deliveries, nothing committed."""
    WEBHOOK_CLAIMED = "webhook-claimed"
    """Deliveries are committed as being sent; not a byte has left."""
    WEBHOOK_ANSWERED = "webhook-answered"
    """Receivers have answered; recording it has not begun."""
    WEBHOOK_RECORD_BEFORE_COMMIT = "webhook-record-before-commit"
    """What came of the tries is written, nothing committed."""
    ANSWER_CLAIMED = "answer-claimed"
    """A request with an Idempotency-Key has claimed its answer in a unit of work of its own; nothing is done yet."""
    ANSWER_KEPT = "answer-kept"
    """The answer to such a request is written, in the unit of work of what it tells, nothing committed."""


class Crashed(BaseException):
    """Stands for the death of the process in a test that goes on. Not an Exception: no error handling may survive it."""


class CrashPointUnknown(ValueError):
    """What the process was told names no crash point."""


class _Plan:
    """Where to die, after how many comings-by, and how."""

    def __init__(self, point: CrashPoint, times: int, die: Callable[[CrashPoint], None]) -> None:
        self._point = point
        self._left = times
        self._die = die
        # A point may be reached by several threads; only one of them is the n-th.
        self._lock = threading.Lock()

    def reach(self, point: CrashPoint) -> None:
        if point is not self._point:
            return
        with self._lock:
            self._left -= 1
            is_now = self._left == 0
        if is_now:
            self._die(point)


_plan: _Plan | None = None


def crash_point(point: CrashPoint) -> None:
    """Do nothing; die if this is where this process was told to."""
    if _plan is not None:
        _plan.reach(point)


def arm(environment: Mapping[str, str]) -> None:
    """Read once, when a process starts, where it is to die. Raises CrashPointUnknown."""
    global _plan  # noqa: PLW0603 - what is one per process; each look at it must cost next to nothing
    told = environment.get(VARIABLE)
    if not told or _plan is not None:
        return
    name, _, number = told.partition(":")
    times = number or "1"
    if name not in set(CrashPoint) or not times.isdecimal() or int(times) < 1:
        raise CrashPointUnknown(f"{VARIABLE} must name a crash point and a number from 1 up, such as payout-leased:2.")
    _log.critical("This process will KILL ITSELF at %s, the time number %s, because %s is set.", name, times, VARIABLE)
    _plan = _Plan(CrashPoint(name), int(times), _kill_ourselves)


@contextlib.contextmanager
def crashing_at(point: CrashPoint, *, times: int = 1) -> Iterator[None]:
    """Raise Crashed at a point of this process while the block runs, the time number `times` it is reached. For tests."""
    global _plan  # noqa: PLW0603 - as above
    before, _plan = _plan, _Plan(point, times, _raise)
    try:
        yield
    finally:
        _plan = before


def _kill_ourselves(point: CrashPoint) -> None:
    _log.critical("Killing ourselves at %s.", point.value)
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(point: CrashPoint) -> None:
    raise Crashed(point.value)
