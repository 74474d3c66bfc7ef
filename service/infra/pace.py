"""How fast somebody may ask: the generic cell rate algorithm, in the memory of one process."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Pace:
    """rate_per_s: requests per second for long; burst: at once. Both 1 or more."""

    rate_per_s: int
    burst: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of one request. remaining: more that may come at once; reset_s: until all of the burst is there again."""

    allowed: bool
    remaining: int
    reset_s: int
    retry_after_s: int
    """Whole seconds until the next may come; 0 when this one may."""


class Pacer:
    """Keeps for each asker one time: when all it has asked will be paid off at its rate. Safe among threads.

    Each process counts for itself, so behind n processes somebody gets up to n times the rate.
    """

    def __init__(self, *, kept_max: int = 100_000) -> None:
        """kept_max: askers remembered; beyond it those that owe nothing are forgotten, which changes no answer."""
        self._paid_off: dict[Hashable, float] = {}
        self._kept_max = kept_max
        self._lock = threading.Lock()

    def take(self, asker: Hashable, pace: Pace, *, now_s: float) -> Turn:
        """Count one request, unless it comes too soon. now_s: of a clock that never goes back."""
        step_s = 1 / pace.rate_per_s
        whole_s = pace.burst * step_s
        with self._lock:
            # A pace that was narrowed meanwhile must not leave a debt of the wide one's size.
            owed_s = min(max(self._paid_off.get(asker, 0.0) - now_s, 0.0), whole_s)
            # A millionth of a step: sums of fractions are never quite even.
            wait_s = owed_s + step_s - whole_s - step_s * 1e-6
            if wait_s <= 0:
                owed_s += step_s
            self._paid_off[asker] = now_s + owed_s
            if len(self._paid_off) > self._kept_max:
                self._forget(now_s)
        remaining = int((whole_s - owed_s) * pace.rate_per_s + 1e-6)
        return Turn(wait_s <= 0, remaining, ceil(owed_s), ceil(max(wait_s, 0.0)))

    def _forget(self, now_s: float) -> None:
        self._paid_off = {asker: at for asker, at in self._paid_off.items() if at > now_s}
        while len(self._paid_off) > self._kept_max:
            # The oldest of those who asked first.
            del self._paid_off[next(iter(self._paid_off))]
