"""A token bucket: how fast a rail may be asked."""

import threading
import time

_SECOND_NS = 1_000_000_000


class Pace:
    """At most so many calls each second, evenly; callers wait their turn. Shared by threads of one process."""

    def __init__(self, per_second: int) -> None:
        self._step_ns = _SECOND_NS // per_second
        self._lock = threading.Lock()
        self._next_ns = 0

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            now = time.monotonic_ns()
            turn = max(now, self._next_ns)
            self._next_ns = turn + self._step_ns
        if turn > now:
            time.sleep((turn - now) / _SECOND_NS)
