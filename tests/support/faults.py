"""What a test hurts a database with, and who must not notice: a shop that sends on, visitors that click on."""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import Engine, make_url
from starlette.testclient import TestClient

from service.infra import embedded_postgres, ids, migrate
from service.infra.db import fetch, make_engine, read_session
from service.infra.settings import Settings
from service.ledger.audit import check
from service.main import create_app
from service.reports.recheck import recheck
from tests.support import databases, running
from tests.support.shop import Shop, sign

Json = dict[str, Any]

LIMIT_S = 60.0
"""Seconds within which every request must have an answer, whatever the database does; far above what it takes."""
PATIENCE_S = 120.0
"""Seconds a test waits for something to come about before it says that it never did."""
RECOVERY_S = 10.0
"""Seconds that a PostgreSQL gets to come back by itself after it gave up."""
PAUSE_S = 0.1
"""Seconds a sender waits before it repeats what was refused; shorter than it is asked to, so that the load stays."""
CODES = ("ANN", "BEA", "CAT", "DAN")
"""Coupons that orders carry in turn; each belongs to a KOC of its own who gets ten percent."""
SERVERS_SETTINGS: Mapping[str, str] = {
    # A crash of the server, unlike one of the machine, loses nothing that was written, synced or not.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "autovacuum": "off",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
}


def wait_for(what: str, is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as it is so. Raises AssertionError, which says what never came about."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"never came about: {what}"
        time.sleep(0.05)


def in_use(engine: Engine) -> int:
    """Return how many connections the pool has lent out."""
    return int(engine.pool.checkedout())  # type: ignore[attr-defined] # of the kind of pool that we use


class Postgres:
    """A PostgreSQL of a test's own, at an address that stays the same however often it ends and comes back.

    To be used from the main thread. programs: the folder of its programs; by default those of this run of the tests.
    """

    def __init__(
        self, folder: Path, *, programs: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        chosen = os.environ.get(databases.BINARIES, "wheel")
        self._programs = programs or (None if chosen == "wheel" else Path(chosen))
        self._folder = folder
        self._settings = {**SERVERS_SETTINGS, **(settings or {})}
        self.port = running.free_port()
        self._server: embedded_postgres.EmbeddedPostgres | None = None

    def start(self) -> None:
        """Start it, or start it again on what the last one left; returns when it answers."""
        self._server = embedded_postgres.start(
            self._folder / "data",
            port=self.port,
            binaries=self._programs,
            settings=self._settings,
            say=lambda _: None,
        )

    def stop(self) -> None:
        """Shut it down as an operator would: every connection is cut, what is open is rolled back."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def crash(self) -> None:
        """End it at once, as a crash would: nothing is rolled back or written, the next start recovers."""
        os.kill(self.pid, signal.SIGQUIT)
        self.stop()

    def come_back(self) -> None:
        """Return when it takes connections, started again by us if it does not come back by itself."""
        deadline = time.monotonic() + RECOVERY_S
        while not self.is_there():
            if time.monotonic() > deadline:
                self.stop()
                self.start()
            time.sleep(0.1)

    def use_up_the_log(self) -> None:
        """On a full disk, begin new files of the write-ahead log until there is no place for one.

        It says so or, where it cannot go on without, ends all it does at once and recovers, or ends itself.
        """
        with contextlib.closing(self.connect()) as connection:
            for _ in range(64):
                try:
                    connection.execute(
                        "SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000)), pg_switch_wal()"
                    )
                except psycopg.OperationalError:
                    return
        raise AssertionError("the log found place on a full disk")

    @property
    def pid(self) -> int:
        """The process that all others of the server descend from."""
        assert self._server is not None
        return int((self._server.home / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])

    def is_there(self) -> bool:
        """Whether it takes connections."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, *, port: int | None = None) -> str:
        """Return its address over TCP. port: of a proxy in front of it."""
        assert self._server is not None
        own = make_url(self._server.url)
        address = own.set(host="127.0.0.1", port=port or self.port, query={})
        return address.render_as_string(hide_password=False)

    def connect(self) -> psycopg.Connection:
        """Open a connection of the test's own."""
        return psycopg.connect(databases.conninfo(self.url()), autocommit=True, application_name="the test")

    def cut_connections(self) -> int:
        """End every connection but our own. Returns how many there were."""
        with contextlib.closing(self.connect()) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND application_name <> 'the test'"
            ).fetchall()
        return len(rows)

    def connections(self, name: str = "koc serve") -> Counter[str]:
        """Count the connections of one kind of process by what they are doing."""
        with contextlib.closing(self.connect()) as connection:
            rows = connection.execute(
                "SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = %s",
                [name],
            ).fetchall()
        return Counter(state for (state,) in rows)


@contextlib.contextmanager
def postgres(folder: Path, **settings: str) -> Iterator[Postgres]:
    """Yield a running, migrated PostgreSQL in a folder, and end it with the block, however the block left it."""
    # Passable: root starts the server as another account.
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.getuid() and each.stat().st_mode & 0o711 != 0o711:
            each.chmod(each.stat().st_mode | 0o711)
    server = Postgres(folder, settings=settings)
    try:
        server.start()
        migrate.upgrade(server.url())
        yield server
    finally:
        server.stop()


class CannotMount(RuntimeError):
    """This machine does not let us mount a file system; the message says why."""


class SmallDisk:
    """A file system that is soon full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Write a file until nothing, or so much, is left."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while self.free_bytes > leave_bytes:
                ballast.write(bytes(max(1, min(1 << 20, self.free_bytes - leave_bytes))))

    def clear(self) -> None:
        """Take the file away, as an operator who makes room."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, *, size_mb: int) -> Iterator[SmallDisk]:
    """Yield a file system of a given size in memory, gone with the block. Raises CannotMount."""
    folder.mkdir()
    size = f"size={size_mb}m,mode=0711"
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise CannotMount(answer.stderr.strip() or f"mount ended with {answer.returncode}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: whatever still has a file open there must not keep it mounted for ever.
        subprocess.run(["umount", "--lazy", folder], check=True)


class CutAt(Enum):
    """Which side of a commit a connection is cut on."""

    BEFORE = auto()
    """The server never hears of it."""
    AFTER = auto()
    """The server has committed; its answer is lost."""


def socket_of(url: str) -> str:
    """Return the path of the socket on which the server of a database address listens."""
    query = make_url(url).query
    return f"{query['host']}/.s.PGSQL.{query['port']}"


class Proxy:
    """A network between a service and its PostgreSQL that can be hurt; what it hands on, it hands on unchanged."""

    def __init__(self, target: int | str) -> None:
        """target: where PostgreSQL listens, a port of this machine or the path of a socket."""
        self._target = target
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._lines: list[_Line] = []
        self._threads: list[threading.Thread] = []
        self._cuts: deque[CutAt | None] = deque()
        self._takes = True
        self._open = True
        self._spawn(self._accept)

    def address(self, url: str) -> str:
        """Return the address of a database through this proxy."""
        return make_url(url).set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)

    def cut_next_commit(self, where: CutAt, *, after: int = 0) -> None:
        """Cut the connection of the next unit of work that commits. after: so many commits are let through first."""
        with self._lock:
            self._cuts.extend([None] * after)
            self._cuts.append(where)

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    def fall_silent(self) -> None:
        """Hold everything in both directions; connections stay open, and new ones are taken and held too."""
        self._flows.clear()

    def speak(self) -> None:
        """Hand on again, first what was held."""
        self._flows.set()

    def go_away(self) -> None:
        """Cut every connection and take no new one."""
        self._takes = False
        self.cut()

    def come_back(self) -> None:
        """Take connections again."""
        self._takes = True

    def cut(self) -> int:
        """Cut every connection. Returns how many there were."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            line.cut()
        return len(lines)

    def close(self) -> None:
        self._open = False
        _shut(self._door)
        self._flows.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            if self._takes:
                self._spawn(self._serve, near)
            else:
                near.close()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._reached()
            except OSError:
                return
            with far:
                line = _Line(near, far, self._flows, self._cut_now)
                with self._lock:
                    self._lines.append(line)
                line.run()
                with self._lock, contextlib.suppress(ValueError):
                    self._lines.remove(line)

    def _reached(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self._target)
        except OSError:
            far.close()
            raise
        return far

    def _cut_now(self) -> CutAt | None:
        with self._lock:
            return self._cuts.popleft() if self._cuts else None


class _Line:
    """One connection through the proxy."""

    def __init__(
        self, near: socket.socket, far: socket.socket, flows: threading.Event, cut_now: Callable[[], CutAt | None]
    ) -> None:
        self._near = near
        self._far = far
        self._flows = flows
        self._cut_now = cut_now
        self._unheard = False
        """Whether what the server says next is an answer that gets lost."""

    def run(self) -> None:
        """Hand on until one side ends."""
        back = threading.Thread(target=self._back, name="proxy", daemon=True)
        back.start()
        self._forth()
        back.join()

    def cut(self) -> None:
        _shut(self._near, self._far)

    def _forth(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._near.recv(1 << 16):
                self._flows.wait()
                # The driver sends COMMIT as a simple query, in a packet of its own.
                where = self._cut_now() if data == _COMMIT else None
                if where is CutAt.BEFORE:
                    break
                if where is CutAt.AFTER:
                    self._unheard = True
                self._far.sendall(data)
                if where is CutAt.AFTER:
                    # The other direction cuts the line, once the server has answered.
                    return
        self.cut()

    def _back(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._far.recv(1 << 16):
                self._flows.wait()
                if self._unheard:
                    break
                self._near.sendall(data)
        self.cut()


_COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: object = None
) -> Answer:
    """Send one request over a connection of its own. Raises OSError or HTTPException when there is no answer in time."""
    with contextlib.closing(_connected(url)) as connection:
        return _asked(connection, method, path, headers or {}, None if body is None else json.dumps(body).encode())


def _connected(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=LIMIT_S)


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    connection.request(method, path, body=body, headers=dict(headers))
    answer = connection.getresponse()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@dataclass(frozen=True, slots=True)
class Market:
    """A merchant with four KOCs, whose programme pays at once: what it is reached by."""

    merchant_id: str
    source_id: str
    secret: str
    link_code: str
    affiliates: Mapping[str, str]
    """Coupon code → affiliate."""
    keys: Mapping[str, Mapping[str, str]]
    """Role → headers."""

    @classmethod
    def opened(cls, url: str) -> "Market":
        """Set one up over the API of a service that lives as long as that takes. url: of the database."""
        settings = Settings(database_url=url, secret_key=running.SECRET_KEY, db_pool_size=7, db_admission=4)
        with TestClient(create_app(settings)) as client:
            shop = Shop(client)
            program = shop.a_program(settlement={"kind": "rolling", "start": "paid", "hold_days": 0})
            affiliates = {}
            for code in CODES:
                affiliate = shop.an_affiliate(code.title(), program=program)
                shop.a_coupon(affiliate, code, program=program)
                affiliates[code] = affiliate["id"]
            link = shop.a_link({"id": affiliates[CODES[0]]}, program=program)
            roles = ("admin", "finance-maker", "finance-checker", "read")
            return cls(
                merchant_id=shop.id,
                source_id=shop.source["source"]["id"],
                secret=shop.source["secret"],
                link_code=link["code"],
                affiliates=affiliates,
                keys={role: shop.key_of(role) for role in roles},
            )


def amount_of(number: int) -> int:
    """What an order is over, in minor units: no two neighbours are over the same."""
    return 1_000 + 7 * number


def commission_of(number: int) -> int:
    """Ten percent, half a cent rounded up."""
    return (amount_of(number) + 5) // 10


class Stream:
    """A shop that sends signed orders over a few connections, and repeats what was not acknowledged until it is.

    Every answer must be 200, or 503 with Retry-After, and must come in time; whatever else came is in `wrong`.
    """

    def __init__(self, url: str, market: Market, *, connections: int = 4, name: str = "order") -> None:
        self._url = url
        self._market = market
        self._name = name
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: dict[int, Json] = {}
        """Order number → what was understood."""
        self.refused: Counter[str] = Counter()
        """Codes of the problems in answers that were 503."""
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._send, name=f"sender-{number}", daemon=True) for number in range(connections)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no further order, and return when all that were begun are acknowledged, or never will be."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int = 20) -> None:
        """Return when so many more orders than now are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_for(f"{count} more orders acknowledged; refused {self.refused}", lambda: len(self.acknowledged) >= wanted)

    def wait_for_refusal(self) -> None:
        """Return when one more order than now was refused."""
        refused = self.refused.total()
        wait_for("an order refused", lambda: self.refused.total() > refused)

    def delivery_id(self, number: int) -> str:
        return f"{self._name}-delivery-{number}"

    def order_id(self, number: int) -> str:
        return f"{self._name}-{number}"

    def deliver(self, connection: http.client.HTTPConnection, number: int) -> Answer:
        """Send one order, signed now, under the delivery id it always has."""
        body = json.dumps(self._order(number)).encode()
        headers = sign(self._market.secret, body, delivery_id=self.delivery_id(number), at=time.time())
        return _asked(connection, "POST", f"/intake/{self._market.source_id}", headers, body)

    def _order(self, number: int) -> Json:
        amount = amount_of(number)
        at = "2026-11-01T10:00:00Z"
        return {
            "type": "order",
            "id": self.order_id(number),
            "updated_at": at,
            "placed_at": at,
            "currency": "USD",
            "lines": [{"id": "1", "sku": "sku-1", "quantity": 1, "net": f"{amount // 100}.{amount % 100:02d}"}],
            "milestones": {"paid_at": at},
            "coupon_codes": [CODES[number % len(CODES)]],
        }

    def _send(self) -> None:
        with contextlib.closing(_connected(self._url)) as connection:
            while not self._stopping.is_set():
                number = next(self._numbers)
                deadline = time.monotonic() + 2 * PATIENCE_S
                while not self._acknowledged(connection, number):
                    if time.monotonic() > deadline:
                        self.wrong.append(f"order {number} was never acknowledged")
                        return
                    time.sleep(PAUSE_S)

    def _acknowledged(self, connection: http.client.HTTPConnection, number: int) -> bool:
        try:
            answer = self.deliver(connection, number)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.wrong.append(f"order {number}: {type(error).__name__}: {error}")
            return False
        if answer.status == 200:
            with self._lock:
                self.acknowledged[number] = answer.json()
            return True
        if answer.status == 503 and int(answer.headers.get("retry-after", "0")) > 0:
            with self._lock:
                self.refused[answer.json()["code"]] += 1
        else:
            self.wrong.append(f"order {number}: {answer.status} {answer.body[:300]!r}")
        return False


class Visitors:
    """Somebody who looks all the time whether the service lives, is ready, and sends visitors on."""

    def __init__(self, url: str, market: Market) -> None:
        self._url = url
        self._paths = {"live": "/healthz", "ready": "/readyz", "redirect": f"/r/{market.link_code}"}
        self._stopping = threading.Event()
        self.seen: dict[str, Counter[int | str]] = {what: Counter() for what in self._paths}
        """What was asked for → how often each status, or error, came."""
        self._threads = [
            threading.Thread(target=self._look, args=(what,), name=f"visitor-{what}", daemon=True)
            for what in self._paths
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, what: str, status: int) -> None:
        """Return when one more answer than now had this status."""
        before = self.seen[what][status]
        wait_for(f"{what} answered {status}; seen {self.seen}", lambda: self.seen[what][status] > before)

    def _look(self, what: str) -> None:
        while not self._stopping.is_set():
            try:
                self.seen[what][ask(self._url, self._paths[what]).status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[what][type(error).__name__] += 1
            self._stopping.wait(PAUSE_S)


@dataclass(frozen=True)
class Business:
    """A service under load. url: where it listens."""

    url: str
    market: Market
    stream: Stream
    visitors: Visitors

    def is_well(self) -> None:
        """Return when orders are acknowledged again, the service is ready, and visitors are sent on."""
        self.stream.wait_for_more(20)
        self.visitors.wait_for("ready", 200)
        self.visitors.wait_for("redirect", 302)


@contextlib.contextmanager
def business(server: Postgres, log: Path, *, url: str | None = None) -> Iterator[Business]:
    """Yield a service under load; when the block ends all orders that were begun are acknowledged, or `wrong` says why.

    url: of the database as the service is to reach it.
    """
    market = Market.opened(server.url())
    with (
        running.service(url or server.url(), log=log, arguments=("--without-worker",)) as service,
        Visitors(service.url, market) as visitors,
        Stream(service.url, market) as stream,
    ):
        stream.wait_for_more(20)
        yield Business(service.url, market, stream, visitors)


@dataclass(frozen=True, slots=True)
class Verdict:
    """lost: acknowledged orders that are not there. doubled: orders booked otherwise than once. findings: of the audit."""

    orders: int
    lost: int
    doubled: int
    findings: int

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.findings)


def judge(url: str, market: Market, stream: Stream) -> Verdict:
    """Compare what a shop was told with what the database holds. url: of the database."""
    merchant_id = ids.decode("mer", market.merchant_id)
    engine = make_engine(url, application_name="the test")
    try:
        # Each takes a snapshot of its own.
        with read_session(engine) as session:
            findings = check(session, merchant_id)
        with read_session(engine) as session:
            findings += recheck(session, merchant_id, sample=None)
        with read_session(engine) as session:
            deliveries = Counter(
                row.delivery_id
                for row in fetch(
                    session,
                    "SELECT delivery_id FROM inbox WHERE merchant_id = :merchant_id",
                    {"merchant_id": merchant_id},
                )
            )
            rows = fetch(
                session,
                """
                SELECT orders.external_id, commission.payee_id, commission.target_minor,
                       commission.pending_minor + commission.held_minor + commission.settled_minor AS posted_minor
                FROM orders LEFT JOIN commission
                  ON commission.merchant_id = orders.merchant_id AND commission.order_id = orders.id
                WHERE orders.merchant_id = :merchant_id
                """,
                {"merchant_id": merchant_id},
            )
    finally:
        engine.dispose()
    booked = Counter((row.external_id, row.payee_id, row.target_minor, row.posted_minor) for row in rows)
    orders = Counter(row.external_id for row in rows)
    payees = {code: ids.decode("aff", affiliate) for code, affiliate in market.affiliates.items()}
    lost = doubled = 0
    for number in stream.acknowledged:
        name, due = stream.order_id(number), commission_of(number)
        lost += name not in orders or stream.delivery_id(number) not in deliveries
        right = booked[name, payees[CODES[number % len(CODES)]], due, due] == orders[name] == 1
        doubled += name in orders and not (right and deliveries[stream.delivery_id(number)] == 1)
    return Verdict(orders.total(), lost, doubled, len(findings))
