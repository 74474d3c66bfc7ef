"""A database that restarts, crashes, loses connections, falls silent or runs full, under a shop that goes on sending.

Each test looks at the same things: every answer is 200, or 503 with Retry-After; what was acknowledged is there exactly
once; the process lives, visitors are sent on, and all is as before soon after the database is.
"""

import contextlib
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import faults, running
from tests.support.faults import (
    CODES,
    Business,
    CannotMount,
    CutAt,
    Postgres,
    Proxy,
    ask,
    business,
    commission_of,
    judge,
    postgres,
    small_disk,
    wait_for,
)
from tests.support.shop import sign

POOL = 16
"""Connections a server process may hold, by default."""
CUTS = 6
"""How often connections are cut in each way."""
DROPPED = 150
"""Requests whose sender leaves before the answer."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def assert_nobody_was_harmed(server: Postgres, business: Business) -> None:
    """Every answer was in order, every order is there once, and the process and the redirects never faltered."""
    verdict = judge(server.url(), business.market, business.stream)
    assert business.stream.wrong == []
    assert verdict.holds, verdict
    assert verdict.orders == len(business.stream.acknowledged)
    assert set(business.visitors.seen["live"]) == {200}
    assert set(business.visitors.seen["redirect"]) == {302}
    assert set(business.visitors.seen["ready"]) <= {200, 503}


def test_orders_and_payouts_survive_restarts_and_crashes_of_the_database(server: Postgres, tmp_path: Path) -> None:
    with (
        business(server, tmp_path / "serve.log") as shop,
        running.mortal_worker(server.url(), log=tmp_path / "worker.log") as worker,
    ):
        for end in (server.stop, server.crash, server.stop, server.crash):
            end()
            shop.stream.wait_for_refusal()
            shop.visitors.wait_for("ready", 503)
            shop.visitors.wait_for("redirect", 302)
            server.start()
            shop.is_well()
        shop.stream.stop()

        due = sum(map(commission_of, shop.stream.acknowledged))
        settle_now(server)
        wait_for("the worker settles by itself", lambda: standing(shop, "payable") == due)
        run = an_executed_run(shop)
        server.crash()
        server.start()
        wait_for("the worker pays by itself", lambda: the_run(shop, run)["status"] == "closed")

        assert standing(shop, "paid") == due
        assert worker.process.poll() is None
    assert shop.stream.refused.keys() <= {"database-away"}
    assert_nobody_was_harmed(server, shop)


def test_orders_survive_connections_that_are_cut_anywhere(server: Postgres, tmp_path: Path) -> None:
    with (
        Proxy(server.port) as network,
        business(server, tmp_path / "serve.log", url=server.url(port=network.port)) as shop,
    ):
        for _ in range(CUTS):
            assert server.cut_connections() > 0
            shop.stream.wait_for_more(5)
        for _ in range(CUTS):
            assert network.cut() > 0
            shop.stream.wait_for_more(5)
        for where in (CutAt.BEFORE, CutAt.AFTER) * CUTS:
            network.cut_next_commit(where)
            shop.stream.wait_for_more(5)
            wait_for("a commit is cut", lambda: network.cuts_left == 0)
        shop.is_well()
        shop.stream.stop()

        assert repeated(shop)
    assert_nobody_was_harmed(server, shop)


def test_a_network_that_falls_silent_keeps_nobody_waiting_for_ever(server: Postgres, tmp_path: Path) -> None:
    with (
        Proxy(server.port) as network,
        business(server, tmp_path / "serve.log", url=server.url(port=network.port)) as shop,
    ):
        network.fall_silent()
        shop.stream.wait_for_refusal()
        shop.visitors.wait_for("ready", 503)
        shop.visitors.wait_for("redirect", 302)
        network.speak()
        shop.is_well()
        # The second time the network has forgotten its connections when it comes back.
        network.fall_silent()
        shop.stream.wait_for_refusal()
        network.cut()
        network.speak()
        shop.is_well()

    assert_nobody_was_harmed(server, shop)


def test_orders_survive_a_full_disk(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        try:
            disk = held.enter_context(small_disk(tmp_path / "disk", size_mb=192))
        except CannotMount as error:
            pytest.skip(f"no small file system can be mounted here: {error}")
        full = held.enter_context(postgres(disk.folder))
        with business(full, tmp_path / "serve.log") as shop:
            disk.fill()
            shop.stream.wait_for_refusal()
            shop.visitors.wait_for("redirect", 302)
            disk.clear()
            shop.is_well()
            # And when not even the log can be written, which ends the server at once.
            disk.fill()
            shop.stream.wait_for_refusal()
            full.use_up_the_log()
            shop.stream.wait_for_refusal()
            shop.visitors.wait_for("redirect", 302)
            disk.clear()
            full.come_back()
            shop.is_well()

        assert shop.stream.refused["database-busy"] > 0
        assert_nobody_was_harmed(full, shop)


def test_senders_who_hang_up_leave_nothing_behind(server: Postgres, tmp_path: Path) -> None:
    with business(server, tmp_path / "serve.log") as shop:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: hang_up(shop, number), range(DROPPED)))
        shop.is_well()
        shop.stream.stop()

        wait_for("no connection is left at work", lambda: set(server.connections()) == {"idle"})
        assert server.connections().total() <= POOL
        with ThreadPoolExecutor(2 * POOL) as threads:
            asked = list(threads.map(lambda _: read(shop, "/v1/orders"), range(4 * POOL)))
        assert {answer.status for answer in asked} == {200}
        # A session is given back just after its answer has left, and the links are looked at each second.
        wait_for("no connection is left at work", lambda: set(server.connections()) == {"idle"})
        again = [send_dropped(shop, number) for number in range(0, DROPPED, 3)]
        assert {answer.status for answer in again} == {200}

    verdict = judge(server.url(), shop.market, shop.stream)
    assert shop.stream.wrong == []
    assert verdict.holds, verdict
    assert verdict.orders == len(shop.stream.acknowledged) + len(again)


def settle_now(server: Postgres) -> None:
    """Let the time pass after which a worker looks again for what is due."""
    with contextlib.closing(server.connect()) as connection:
        connection.execute("UPDATE job SET due_at = now() WHERE kind = 'settle' AND owner IS NULL")


def read(shop: Business, path: str) -> faults.Answer:
    return ask(shop.url, path, headers=shop.market.keys["read"])


def standing(shop: Business, place: str) -> int:
    """What all affiliates together have in one place."""
    return sum(each[place]["amount_minor"] for each in read(shop, "/v1/balances").json()["data"])


def an_executed_run(shop: Business) -> str:
    """Let two persons release a run of everything payable; return its id."""
    maker, checker = shop.market.keys["finance-maker"], shop.market.keys["finance-checker"]
    asked = {"rail": "sandbox", "currency": "USD"}
    made = ask(shop.url, "/v1/payout-runs", method="POST", headers=as_json(maker), body=asked)
    run: str = made.json()["id"]
    for step, who in (("submit", maker), ("approve", checker), ("execute", maker)):
        answer = ask(shop.url, f"/v1/payout-runs/{run}/{step}", method="POST", headers=as_json(who), body={})
        assert answer.status in {200, 202}, answer.body
    return run


def as_json(headers: Any) -> dict[str, str]:
    return {**headers, "content-type": "application/json"}


def the_run(shop: Business, run: str) -> Any:
    answer = read(shop, f"/v1/payout-runs/{run}")
    # Nobody waits for the database to answer in the middle of its crash.
    return answer.json() if answer.status == 200 else {"status": "unknown"}


def repeated(shop: Business) -> bool:
    """Whether every order that is sent again is answered as one that is known."""
    parts = urlsplit(shop.url)
    assert parts.hostname is not None
    with contextlib.closing(
        http.client.HTTPConnection(parts.hostname, parts.port, timeout=faults.LIMIT_S)
    ) as connection:
        return all(
            told["inbox_id"] == again["inbox_id"] and again["repeated"]
            for told, again in (
                (told, shop.stream.deliver(connection, number).json())
                for number, told in shop.stream.acknowledged.items()
            )
        )


def dropped(shop: Business, number: int) -> tuple[dict[str, str], bytes]:
    """One order of those whose sender hangs up, signed now."""
    at = "2026-11-01T10:00:00Z"
    event = {
        "type": "order",
        "id": f"dropped-{number}",
        "updated_at": at,
        "placed_at": at,
        "currency": "USD",
        "lines": [{"id": "1", "sku": "sku-1", "quantity": 1, "net": "10.00"}],
        "coupon_codes": [CODES[0]],
    }
    body = json.dumps(event).encode()
    return sign(shop.market.secret, body, delivery_id=f"dropped-{number}", at=time.time()), body


def send_dropped(shop: Business, number: int) -> faults.Answer:
    headers, body = dropped(shop, number)
    return ask(shop.url, f"/intake/{shop.market.source_id}", method="POST", headers=headers, body=json.loads(body))


def hang_up(shop: Business, number: int) -> None:
    """Send a request, whole or half, and end the connection rudely, now or a moment later."""
    parts = urlsplit(shop.url)
    assert parts.hostname is not None
    assert parts.port is not None
    whole = b""
    match number % 3:
        case 0:
            headers, body = dropped(shop, number)
            whole = wire("POST", f"/intake/{shop.market.source_id}", headers, body)
        case 1:
            whole = wire("GET", "/v1/reports/commissions.csv", shop.market.keys["read"])
        case _:
            whole = wire("POST", "/v1/affiliates", as_json(shop.market.keys["admin"]), b'{"name": "Gone"}')
    with socket.create_connection((parts.hostname, parts.port), timeout=faults.LIMIT_S) as connection:
        connection.sendall(whole if number % 5 else whole[: len(whole) - 4])
        time.sleep(0.002 * (number % 10))
        # An end without a farewell: what is under way in either direction is lost.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def wire(method: str, path: str, headers: Any, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: test", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
