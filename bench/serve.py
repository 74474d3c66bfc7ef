"""Servers to talk to: an embedded PostgreSQL, processes of ours in front of it, and what they cost in CPU time."""

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import requests
from psycopg import sql
from sqlalchemy import make_url

from service.infra import embedded_postgres, migrate

HOST = "127.0.0.1"
START_S = 60.0
"""How long a server may take until it answers."""
STOP_S = 30.0
LOG_SHOWN = 1500
"""Characters of a log that are shown when its server fails."""

POSTGRES_SETTINGS: Mapping[str, str] = {"fsync": "on", "synchronous_commit": "on", "max_connections": "150"}
"""As in production: a commit is on disk before it is answered. Everything else is PostgreSQL's default."""


class NotServing(RuntimeError):
    """A server ended or did not answer in time; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Database:
    """One PostgreSQL for a run, gone afterwards."""

    server: embedded_postgres.EmbeddedPostgres
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url

    def clone(self, name: str) -> str:
        """Copy the database, to which nobody may be connected, and return the copy's address."""
        original = make_url(self.url).database
        assert original is not None
        with self.connect("postgres") as connection:
            statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"
            connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(original)))
        return self.address(name)

    def address(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def connect(self, name: str) -> "psycopg.Connection[tuple[object, ...]]":
        """Open a plain autocommit connection to one of the databases."""
        url = self.address(name).replace("postgresql+psycopg://", "postgresql://", 1)
        return psycopg.connect(url, autocommit=True)

    def cpu_seconds(self) -> float:
        """CPU time of all processes of the server so far, those that have ended included."""
        listed = (self.server.home / "cluster" / "postmaster.pid").read_text().splitlines()
        return cpu_seconds(int(listed[0]))


@contextlib.contextmanager
def database(settings: Mapping[str, str] = POSTGRES_SETTINGS) -> Iterator[Database]:
    """Start a PostgreSQL with the service's tables in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="koc-bench-"))
    # Passable: root starts the server as another account.
    folder.chmod(0o711)
    try:
        with embedded_postgres.start(folder / "data", settings=settings, say=lambda _: None) as server:
            migrate.upgrade(server.url)
            yield Database(server, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Server:
    """A process of ours that answers HTTP."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far."""
        return cpu_seconds(self.process.pid)


_UNLIMITED = "1000000"


def environment(database_url: str, *, secret_key: str, port: int, **more: str) -> dict[str, str]:
    """Return the variables a process of the service is started with."""
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "KOC_SECRET_KEY": secret_key,
        "KOC_HOST": HOST,
        "KOC_PORT": str(port),
        "KOC_PUBLIC_URL": f"http://{HOST}:{port}",
        "KOC_LOG_FORMAT": "json",
        # What is measured is the service, not how fast it lets one shop or person ask.
        "KOC_KEY_RATE": _UNLIMITED,
        "KOC_KEY_BURST": _UNLIMITED,
        "KOC_SOURCE_RATE": _UNLIMITED,
        "KOC_SOURCE_BURST": _UNLIMITED,
        **more,
    }


def new_secret_key() -> str:
    """Return a value for KOC_SECRET_KEY."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    port: int,
    log: Path,
    ready: str = "/readyz",
    own_group: bool = False,
) -> Iterator[Server]:
    """Run a command and wait until it answers at the path `ready`; it is ended with the block.

    own_group: signals of the terminal do not reach it. Raises NotServing.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0 if own_group else None,
        )
    try:
        server = Server(process, port)
        _wait(server, ready, log)
        yield server
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and insist if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def service(url: str, *, secret_key: str, log: Path, port: int | None = None, **more: str) -> Iterator[Server]:
    """Start one process of the service in front of a database. more: variables of its environment."""
    chosen = port or free_port()
    env = environment(url, secret_key=secret_key, port=chosen, **more)
    with running(koc("serve", "--without-worker"), env=env, port=chosen, log=log) as server:
        yield server


def operator(url: str, *, secret_key: str) -> str:
    """Make an operator's key, as whoever installs the service does."""
    env = environment(url, secret_key=secret_key, port=1)
    answer = subprocess.run(koc("operator-key", "--name", "bench"), env=env, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def koc(*arguments: str) -> list[str]:
    """Return the command line of the service's own CLI."""
    return [sys.executable, "-m", "service.cli", *arguments]


def _wait(server: Server, path: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise NotServing(f"The server ended with {server.process.returncode}:\n{_end_of(log)}")
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(server.url + path, timeout=5, allow_redirects=False).status_code < 500:
                return
        time.sleep(0.05)
    raise NotServing(f"The server did not answer within {START_S:.0f} s:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_SHOWN:]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all below it so far; of those that have ended, as their parents have gathered it."""
    parent = psutil.Process(pid)
    total = 0.0
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            if process is parent:
                total += times.children_user + times.children_system
    return total
