"""Whoever asks too often is told to wait, by a clock that the test holds still."""

import json
import time

import pytest
from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.db import fetch, read_session
from tests.support.shop import Shop, sign


class Clock:
    """Seconds of a clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.api.deps.monotonic", clock)
    return clock


def a_slow_key(shop: Shop, *, name: str = "Slow", per_second: int = 1, burst: int = 2) -> dict[str, str]:
    asked = {"name": name, "scopes": ["read"], "rate_limit": {"per_second": per_second, "burst": burst}}
    return {"Authorization": f"Bearer {shop.post('/v1/api-keys', asked).json()['key']}"}


def test_a_key_that_asks_too_often_is_told_when_to_come_again(shop: Shop, clock: Clock) -> None:
    headers = a_slow_key(shop)

    answers = [shop.client.get("/v1/merchant", headers=headers) for _ in range(3)]
    clock.now_s += 1
    later = shop.client.get("/v1/merchant", headers=headers)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate-limited"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"key";q=2;w=2'
    assert [answer.headers["ratelimit"] for answer in answers] == ['"key";r=1;t=1', '"key";r=0;t=2', '"key";r=0;t=2']
    assert later.status_code == 200


def test_a_key_is_refused_without_asking_the_database(
    shop: Shop, clock: Clock, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = a_slow_key(shop, burst=1)
    shop.client.get("/v1/merchant", headers=headers)

    def no_session(*_: object) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr("service.api.deps.read_session", no_session)

    assert client.get("/v1/merchant", headers=headers).status_code == 429


def test_one_key_does_not_count_for_another(shop: Shop, clock: Clock) -> None:
    slow = a_slow_key(shop, burst=1)
    for _ in range(2):
        shop.client.get("/v1/merchant", headers=slow)

    assert shop.get("/v1/merchant", by="read").status_code == 200


def test_a_limit_that_is_raised_is_known_with_the_next_request(shop: Shop, clock: Clock) -> None:
    headers = a_slow_key(shop, burst=1)
    shop.client.get("/v1/merchant", headers=headers)
    chosen = next(one for one in shop.get("/v1/api-keys").json()["data"] if one["name"] == "Slow")
    shop.patch(f"/v1/api-keys/{chosen['id']}", {"rate_limit": {"per_second": 100, "burst": 50}})
    # By the old limit one more may come; with it the new one is known, by which the debt is paid off soon.
    clock.now_s += 1
    shop.client.get("/v1/merchant", headers=headers)
    clock.now_s += 1

    answers = [shop.client.get("/v1/merchant", headers=headers).status_code for _ in range(10)]

    assert answers == [200] * 10


def test_the_answers_of_public_operations_bear_no_limits(client: TestClient) -> None:
    assert "ratelimit" not in client.get("/healthz").headers


def deliver(shop: Shop, number: str, *, secret: str | None = None) -> Response:
    body = json.dumps(shop.order(number, placed_at="2026-11-20T12:00:00Z")).encode()
    headers = sign(secret or shop.source["secret"], body, delivery_id=number, at=time.time())
    return shop.client.post(f"/intake/{shop.source['source']['id']}", content=body, headers=headers)


def limited(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop's source deliver two at once."""
    monkeypatch.setattr("service.api.intake.SOURCE_FRESH_S", 0.0)
    shop.patch(f"/v1/sources/{shop.source['source']['id']}", {"rate_limit": {"per_second": 1, "burst": 2}})


def test_a_source_that_delivers_too_often_is_refused_and_nothing_is_kept(
    shop: Shop, clock: Clock, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(shop, monkeypatch)

    answers = [deliver(shop, str(number)) for number in range(3)]
    with read_session(engine) as session:
        kept = fetch(session, "SELECT count(*) FROM inbox")[0][0]
    clock.now_s += 1
    again = deliver(shop, "2")

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["code"] == "rate-limited"
    assert answers[-1].headers["retry-after"] == "1"
    assert answers[-1].headers["ratelimit-policy"] == '"source";q=2;w=2'
    assert kept == 2
    assert again.status_code == 200


def test_what_others_send_to_the_address_uses_nothing_up(
    shop: Shop, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(shop, monkeypatch)

    forged = [deliver(shop, str(number), secret="whsec_" + "A" * 32).status_code for number in range(5)]

    assert forged == [401] * 5
    assert deliver(shop, "1").status_code == 200
