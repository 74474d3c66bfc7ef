"""Group commit: many callers, one unit of work. Whatever arrived while the last batch ran is the next one; no timer."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.domain.errors import InvariantBroken, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

_REST_S = 0.1
"""Seconds between a crash of the thread's loop and its restart, so that a fault without end does not use up a core."""

_log = logging.getLogger(__name__)


class QueueFull(Unavailable):
    """More callers wait than one unit of work after the other can serve in good time; nothing was written."""

    code = "queue-full"
    title = "Too many requests wait at this moment, try again"


class NotRunning(Unavailable):
    """The process is stopping, has not started, or its writer has died. Whether an item in its hands was written is unknown."""

    code = "not-running"
    title = "This process takes no work at this moment, try again"


class Observer(Protocol):
    """Who counts. Called from the batcher's thread and from callers' threads; must be quick and must not raise."""

    def batch(self, name: str, *, size: int, seconds: float, waiting: int) -> None:
        """A batch of `size` items was answered after `seconds` of work; `waiting` more wait for theirs."""

    def refused(self, name: str) -> None:
        """A caller was refused because the queue was full."""

    def parked(self, name: str, error: Exception) -> None:
        """One item failed alone, with this error, and was parked."""

    def restarted(self, name: str) -> None:
        """The thread's loop crashed and goes on; what it held was answered NotRunning."""


class Nobody:
    """An observer that counts nothing."""

    def batch(self, name: str, *, size: int, seconds: float, waiting: int) -> None:
        pass

    def refused(self, name: str) -> None:
        pass

    def parked(self, name: str, error: Exception) -> None:
        pass

    def restarted(self, name: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Failed:
    """What an item's caller gets instead of a result."""

    error: Exception


class Batcher(Generic[Item, Result]):
    """One thread that does the items of many callers in one unit of work after another, in the order they came."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        park: Callable[[Item, Exception], Result],
        *,
        batch_max: int = 256,
        queue_max: int = 4096,
        observer: Observer | None = None,
    ) -> None:
        """work: one whole unit of work, commit included; returns one result per item, in their order. Safe to repeat.

        A batch whose work raises is halved down to the poisonous item; park(item, error) puts that one away, in a unit
        of work of its own, and makes its result. Unavailable is nobody's poison: it is every caller's answer.
        batch_max: most items in one unit of work. queue_max: most items not answered yet, those in the unit of work
        included: whoever is let in is answered after at most so many items, however many others are refused.
        """
        self.name = name
        self._work = work
        self._park = park
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._observer: Observer = observer or Nobody()
        self._condition = threading.Condition()
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._open = False
        self._held: list[tuple[Item, asyncio.Future[Result]]] = []
        """What the thread has taken and not answered yet."""
        self._in_hand = 0
        """How many of those are still to be answered."""
        self._thread = threading.Thread(target=self._run, name=f"batcher-{name}", daemon=True)

    @property
    def waiting(self) -> int:
        """How many items wait for their unit of work."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether an item submitted now would be refused for the number of others."""
        return self._in_hand + len(self._queue) >= self._queue_max

    @property
    def running(self) -> bool:
        """Whether an item submitted now would be taken."""
        return self._open and self._thread.is_alive()

    def start(self) -> None:
        """Take items from now on. Once in the life of a batcher."""
        self._open = True
        self._thread.start()

    def stop(self, *, patience_s: float = 30) -> None:
        """Refuse new items, do what was accepted, end the thread. Blocks: call it outside the event loop.

        patience_s: what is still waiting after so many seconds is answered NotRunning.
        """
        with self._condition:
            self._open = False
            self._condition.notify()
        if self._thread.ident is None:
            return
        self._thread.join(patience_s)
        with self._condition:
            late = list(self._queue)
            self._queue.clear()
        if late:
            _log.error("Batcher %s stopped with %d items undone.", self.name, len(late))
            _answer(late, [_Failed(NotRunning("The process stopped before this was done."))] * len(late))

    def check(self) -> None:
        """Raise what `submit` would raise at this moment, so that who is refused costs no more than this."""
        if not self.running:
            raise self._not_running()
        if self.full:
            raise self._queue_full()

    async def submit(self, item: Item) -> Result:
        """Return the item's result once its unit of work is committed.

        A caller who is cancelled meanwhile leaves the item in the queue: what was accepted is done.
        Raises QueueFull, NotRunning, or what the work or the parking of this item raised.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._condition:
            if not self.running:
                raise self._not_running()
            full = self.full
            if not full:
                self._queue.append((item, future))
                self._condition.notify()
        if full:
            raise self._queue_full()
        return await future

    def _not_running(self) -> NotRunning:
        return NotRunning(f"The {self.name} writer of this process is not running.")

    def _queue_full(self) -> QueueFull:
        self._observer.refused(self.name)
        return QueueFull(f"{self._queue_max} {self.name} wait for their answers already.")

    def _run(self) -> None:
        while True:
            try:
                self._serve()
                return
            # Even SystemExit: a writer that died unseen would leave every later caller waiting for ever.
            except BaseException:  # noqa: BLE001 - the batcher is one of the two places that may
                _log.exception("The loop of batcher %s crashed and starts again.", self.name)
                lost, self._held, self._in_hand = self._held, [], 0
                _answer(lost, [_Failed(NotRunning("The writer crashed; the outcome is unknown."))] * len(lost))
                self._observer.restarted(self.name)
                time.sleep(_REST_S)

    def _serve(self) -> None:
        while self._take():
            started = time.perf_counter()
            outcomes = self._outcomes([item for item, _ in self._held])
            # Before the answers leave: one who comes back with its next item must find its own place free.
            self._in_hand = 0
            _answer(self._held, outcomes)
            seconds = time.perf_counter() - started
            self._observer.batch(self.name, size=len(self._held), seconds=seconds, waiting=len(self._queue))
            self._held = []

    def _take(self) -> bool:
        """Wait for items and hold up to a batch of them; False when stopped and all is done."""
        with self._condition:
            while self._open and not self._queue:
                self._condition.wait()
            self._held = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
            self._in_hand = len(self._held)
        return bool(self._held)

    def _outcomes(self, items: list[Item]) -> list[Result | _Failed]:
        try:
            results = self._work(items)
            if len(results) != len(items):
                raise InvariantBroken(f"{len(items)} items of {self.name} were answered by {len(results)} results.")
            return list(results)
        except Unavailable as error:
            return [_Failed(error)] * len(items)
        except Exception as error:  # noqa: BLE001 - the batcher is one of the two places that may
            if len(items) == 1:
                return [self._parked(items[0], error)]
            middle = len(items) // 2
            return [*self._outcomes(items[:middle]), *self._outcomes(items[middle:])]

    def _parked(self, item: Item, error: Exception) -> Result | _Failed:
        _log.error("An item of batcher %s failed alone and is parked.", self.name, exc_info=error)
        self._observer.parked(self.name, error)
        try:
            return self._park(item, error)
        except Unavailable as unavailable:
            return _Failed(unavailable)
        except Exception as second:  # noqa: BLE001 - the batcher is one of the two places that may
            _log.exception("An item of batcher %s could not even be parked.", self.name)
            return _Failed(second)


def _answer(waiting: Sequence[tuple[Item, asyncio.Future[Result]]], outcomes: Sequence[Result | _Failed]) -> None:
    """Give each caller its outcome, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Result], Result | _Failed]]] = {}
    for (_, future), outcome in zip(waiting, outcomes, strict=True):
        by_loop.setdefault(future.get_loop(), []).append((future, outcome))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, answers)
        except RuntimeError:
            # The loop was closed, so those callers are gone. What they asked for is done.
            _log.warning("%d callers left before they were answered.", len(answers))


def _set(answers: Sequence[tuple[asyncio.Future[Result], Result | _Failed]]) -> None:
    for future, outcome in answers:
        # A caller who left has cancelled its future.
        if future.done():
            continue
        if isinstance(outcome, _Failed):
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome)
