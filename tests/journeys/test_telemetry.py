"""What a running server tells of itself: right with several processes, one of them killed, and never a secret."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from starlette.testclient import TestClient

from tests.support import databases, running
from tests.support.shop import Shop

EMAIL, PHONE = "canary.buyer@secret.example", "+84912000111"
ACCOUNT = "acct_canary0071000"
SIGNATURE = "v1,Y2FuYXJ5LW9mLXRoZS1zaWduYXR1cmU="
BAD_KEY = "koc_live_canaryOfAKeyThatWasNeverGivenOut000"
PATIENCE_S = 60
TAKES_NOTICE_S = 40
"""Less than the 60 s in which a living process may give its sign of life."""


def operator_key(service: running.Running) -> str:
    asked = [str(running.KOC), "operator-key", "--name", "telemetry"]
    return subprocess.run(asked, env=service.environment, capture_output=True, text=True, check=True).stdout.strip()


def value(text: str, sample: str) -> float:
    """The value of one sample, named with its labels as it is written; -1 where it is absent."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else -1


def until(client: httpx2.Client, sample: str, least: float) -> str:
    """Ask for the numbers until a sample is at least so much."""
    deadline, text = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < deadline:
        text = client.get("/metrics").text
        if value(text, sample) >= least:
            return text
        time.sleep(0.1)
    raise AssertionError(f"{sample} stayed below {least}:\n{text}")


def processes(service: running.Running) -> tuple[psutil.Process, list[psutil.Process]]:
    """The server that was started, and the processes it answers with."""
    port = service.url.rpartition(":")[2]
    [server] = [each for each in psutil.Process().children() if port in each.cmdline()]
    return server, [each for each in server.children() if "spawn_main" in " ".join(each.cmdline())]


def test_what_a_killed_process_counted_stays_and_what_it_had_waiting_goes(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    nobody = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"counter_{nobody}.db").write_bytes(b"of an earlier server")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    arguments = ("--workers", "2", "--with-worker")
    asked = 'koc_http_requests_total{operation="get_health",status="2xx"}'

    with (
        running.service(database_url, log=tmp_path / "serve.log", arguments=arguments, by_name=True) as service,
        httpx2.Client(base_url=service.url) as client,
    ):
        shop = Shop(cast("TestClient", client), operator_key=operator_key(service))
        shop.a_coupon(shop.an_affiliate("Lan"), "LAN")
        shop.an_order("1001", coupon_codes=["LAN"])
        for _ in range(20):
            httpx2.get(f"{service.url}/healthz")
        # The job loop runs in the server's own process, which answers no requests.
        before = until(client, 'koc_jobs_total{kind="settle",result="done"}', 1)
        server, workers = processes(service)
        victim = next(each for each in workers if (folder / f"gauge_livesum_{each.pid}.db").exists())

        # Stopped first, so that the server waits for its sign of life when it dies: it has to hear of that nevertheless.
        victim.suspend()
        time.sleep(2)
        victim.kill()
        # As a child of the server, not of ours, it is gone when the server has taken notice.
        gone, _ = psutil.wait_procs([victim], timeout=TAKES_NOTICE_S)
        after = until(client, asked, value(before, asked))

    assert gone == [victim]
    assert value(before, asked) == 20
    assert value(after, asked) >= 20
    assert not (folder / f"counter_{nobody}.db").exists()
    assert not (folder / f"gauge_livesum_{victim.pid}.db").exists()
    assert (folder / f"counter_{victim.pid}.db").exists()
    assert (folder / f"counter_{server.pid}.db").exists()
    assert value(after, "koc_database_gauges_read") == 1


def test_no_secret_is_told_on_any_way_out(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    password = urlsplit(database_url).password
    assert password, "the tests' database has one"
    told: list[str] = []

    with (
        running.service(database_url, log=log, arguments=("--without-worker",)) as service,
        # One connection for each request: the server ends one on which a request crashed.
        httpx2.Client(base_url=service.url, limits=httpx2.Limits(max_keepalive_connections=0)) as client,
    ):
        shop = Shop(cast("TestClient", client), operator_key=operator_key(service))
        keys = [str(shop.key_of(role)["Authorization"].partition(" ")[2]) for role in ("operator", "admin", "read")]
        secret = shop.source["secret"]
        lan = shop.an_affiliate("Lan", email=EMAIL)
        told += [answer.text for answer in refusals(shop, lan, client)]
        with broken(database_url):
            failures = list(crashes(shop, client))
        told += [answer.text for answer in failures]
        told.append(client.get("/metrics").text)
    lines = log.read_text()

    assert [answer.status_code for answer in failures] == [500, 500]
    written = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    for answer in failures:
        problem = answer.json()
        [line] = [
            each
            for each in written
            if each["event"] == "A request failed" and each.get("request_id") == problem["request_id"]
        ]
        assert line["status"] == 500
    assert "DETAIL: [masked]" in lines
    canaries = [*keys, secret, EMAIL, PHONE, ACCOUNT, SIGNATURE, BAD_KEY, running.SECRET_KEY, password]
    for canary in canaries:
        assert canary not in lines
        assert [text for text in told if canary in text] == []


def refusals(shop: Shop, affiliate: dict[str, Any], client: httpx2.Client) -> Iterator[httpx2.Response]:
    """Secrets at every door that refuses them."""
    order = json.dumps(shop.order("1001", customer={"email": EMAIL, "phone": PHONE}))
    path = f"/intake/{shop.source['source']['id']}"
    yield client.get("/v1/merchant", headers={"Authorization": f"Bearer {BAD_KEY}"})
    yield client.get("/v1/merchant", params={"key": BAD_KEY, "email": EMAIL})
    yield client.post(
        path, content=order, headers={"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": SIGNATURE}
    )
    yield client.post("/v1/affiliates", content=f'{{"email": "{EMAIL}", ', headers=shop.key_of("admin"))
    yield shop.post("/v1/affiliates", {"name": 7, "email": EMAIL, "note": ACCOUNT, "external_id": [BAD_KEY]})
    yield shop.post(f"/v1/affiliates/{affiliate['id']}/payout-methods", {"rail": "none", "destination": ACCOUNT})
    yield shop.post(f"/v1/affiliates/{affiliate['id']}/payout-methods", {"rail": "sandbox", "destination": [ACCOUNT]})
    yield shop.deliver({"type": "order", "id": "1002", "customer": {"email": EMAIL, "phone": PHONE}})
    yield shop.get("/v1/affiliates", email=EMAIL, cursor=ACCOUNT)


@contextlib.contextmanager
def broken(database_url: str) -> Iterator[None]:
    """Let the database refuse rows, with all they hold in its message, for the length of the block."""
    with databases.connect(database_url) as connection:
        connection.execute("ALTER TABLE affiliate ADD CONSTRAINT canary CHECK (name <> 'Canary')")
        connection.execute("ALTER TABLE inbox ADD CONSTRAINT canary CHECK (delivery_id <> 'canary')")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE affiliate DROP CONSTRAINT canary")
            connection.execute("ALTER TABLE inbox DROP CONSTRAINT canary")


def crashes(shop: Shop, client: httpx2.Client) -> Iterator[httpx2.Response]:
    """Requests that end in an error nobody expected, with secrets in hand."""
    yield shop.post("/v1/affiliates", {"name": "Canary", "email": EMAIL})
    yield shop.deliver(shop.order("1003", customer={"email": EMAIL, "phone": PHONE}), delivery_id="canary")
