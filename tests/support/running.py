"""A service in a process of its own, as an operator starts it, on a test's database."""

import base64
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.forked import ENDS_S, Process

KOC = Path(sys.executable).with_name("koc")
Ends = TypeVar("Ends", Process, "subprocess.Popen[bytes]")
SECRET_KEY = base64.b64encode(b"secret-of-tests-" * 2).decode()
START_S = 240
"""Seconds a service may take until it is ready; far longer than it needs, for a machine that is busy with other tests."""
DIES_S = 180
"""Seconds a process that was told to die may take to come to its crash point; far longer than it needs."""


@dataclass(frozen=True)
class Running:
    """url: where it listens. environment: from which further `koc` commands reach the same database."""

    url: str
    environment: dict[str, str]


@contextlib.contextmanager
def service(
    database_url: str, *, log: Path, arguments: tuple[str, ...] = ("--with-worker",), by_name: bool = False
) -> Iterator[Running]:
    """Yield a running `koc serve`; what it says is in the file `log`.

    by_name: start the program as it is installed, which a server of several processes needs.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    given = {"DATABASE_URL": database_url, "KOC_SECRET_KEY": SECRET_KEY, "KOC_PUBLIC_URL": url}
    environment = {**os.environ, **given}
    asked = ("serve", "--port", str(port), *arguments)
    with (_program if by_name else _koc)(asked, environment, log) as process:
        _wait_until_ready(url, process, log)
        yield Running(url, environment)


@dataclass(frozen=True)
class Mortal:
    """A process of the service that may die before the test is over. url: where it listens, empty for a worker."""

    process: Process
    log: Path
    url: str = ""

    def death(self) -> int:
        """Wait until it has died by itself; return its return code, -9 for SIGKILL."""
        try:
            return self.process.wait(DIES_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process lives on:\n{self.log.read_text()[-4000:]}") from None


@contextlib.contextmanager
def mortal_web(database_url: str, *, log: Path, **variables: str) -> Iterator[Mortal]:
    """Yield a `koc serve` without a worker that answers already. variables: more of its environment."""
    port = free_port()
    arguments = ("serve", "--without-worker", "--port", str(port))
    with _koc(arguments, _environment(database_url, variables), log) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, log)
        yield Mortal(process, log, url)


@contextlib.contextmanager
def mortal_worker(database_url: str, *, log: Path, **variables: str) -> Iterator[Mortal]:
    """Yield a `koc worker` that was just started. variables: more of its environment."""
    with _koc(("worker",), _environment(database_url, variables), log) as process:
        yield Mortal(process, log)


def _environment(database_url: str, variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "KOC_SECRET_KEY": SECRET_KEY, **variables}


@contextlib.contextmanager
def _koc(arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Iterator[Process]:
    log.touch()
    with _ended(Process(arguments, env=environment, stdout=log, stderr=log)) as process:
        yield process


@contextlib.contextmanager
def _program(
    arguments: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as said:
        process = subprocess.Popen([KOC, *arguments], env=environment, stdout=said, stderr=subprocess.STDOUT)
    with _ended(process):
        yield process


@contextlib.contextmanager
def _ended(process: Ends) -> Iterator[Ends]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(ENDS_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: "Process | subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    said = "nothing"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2)
        except urllib.error.HTTPError as error:
            with error:
                said = f"{error.code} {error.read().decode()}"
        except (urllib.error.URLError, ConnectionError) as error:
            said = str(error)
        else:
            return
        time.sleep(0.05)
    raise AssertionError(f"the service did not start; /readyz last said {said}:\n{log.read_text()[-4000:]}")
