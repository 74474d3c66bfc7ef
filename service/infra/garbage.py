"""The garbage collector, kept away from what start-up makes: it lives as long as the process."""

import contextlib
import gc
from collections.abc import Iterator
from functools import cache


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """Let the collector rest while modules are imported: it would look through all of them a thousand times.

    That is a fifth of the time until a command begins or a server answers.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@cache
def settle() -> None:
    """Take what start-up made out of the collector's rounds, once for a process.

    Looking through all of it again and again costs each hundredth request tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
