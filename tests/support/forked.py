"""The command `koc` in processes that begin at once: forked from one that has imported the service already.

Importing takes two seconds, and a run of the tests needs many processes. That the program starts by its name too is
seen where it is started with `KOC`: in the tests of the command line, of the pages and of the telemetry.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

from service import start

FORKED: ForkServerContext = multiprocessing.get_context("forkserver")
"""Makes processes that have imported the service."""
ENDS_S = 30
"""Seconds a process may take to end when it is asked to."""
# Not the commands themselves: they look at the environment when they are imported.
FORKED.set_forkserver_preload(["service.main", "service.worker", "service.rebuild.books", "service.reports.export"])


class Process:
    """A running `koc` of its own, told like `subprocess.Popen`."""

    def __init__(
        self, arguments: tuple[str, ...], *, env: Mapping[str, str], stdout: Path, stderr: Path, cwd: Path | None = None
    ) -> None:
        told = (arguments, dict(env), stdout, stderr, cwd or Path.cwd())
        self._process = FORKED.Process(target=_become, args=told)
        self._process.start()

    def poll(self) -> int | None:
        """How it ended, with the number of the signal below zero; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> int:
        """Return how it ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("koc", timeout_s)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def end(self, *, patience_s: float) -> int:
        """Ask it to end, kill it if it does not; return how it ended."""
        self.terminate()
        self._process.join(patience_s)
        self._process.kill()
        return self.wait(patience_s)


def koc(*arguments: str, env: Mapping[str, str], patience_s: float) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="koc-said-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = Process(arguments, env=env, stdout=out, stderr=err)
        try:
            code = process.wait(patience_s)
        finally:
            process.end(patience_s=ENDS_S)
        return subprocess.CompletedProcess(["koc", *arguments], code, out.read_text(), err.read_text())


def _become(arguments: tuple[str, ...], env: dict[str, str], stdout: Path, stderr: Path, cwd: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(said, descriptor)
        os.close(said)
    # What its maker holds back for itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["koc", *arguments]
    start.koc()
