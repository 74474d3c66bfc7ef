"""The door for shops over HTTP: what is kept, what is refused, and what the sender is told."""

import base64
import hashlib
import hmac
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.api import intake
from service.api.deps import Service
from service.api.intake import SourceMemory
from service.infra.db import fetch, read_session
from service.intake.record import record
from tests.support.shop import Shop

Json = dict[str, Any]

SHOPIFY = Path(__file__).parents[1] / "fixtures" / "shopify"
SHOPIFY_SECRET = "shpss_0123456789abcdef"


def the_service(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application


def deliveries(client: TestClient) -> int:
    with read_session(the_service(client).engine) as session:
        return int(fetch(session, "SELECT count(*) AS number FROM inbox")[0].number)


def post_shopify(client: TestClient, address: str, name: str, topic: str, *, secret: str = SHOPIFY_SECRET) -> Response:
    body = (SHOPIFY / name).read_bytes()
    mac = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    headers = {
        "content-type": "application/json",
        "x-shopify-hmac-sha256": mac,
        "x-shopify-topic": topic,
        "x-shopify-webhook-id": f"{topic}/{name}",
        "x-shopify-shop-domain": "tea.myshopify.com",
    }
    return client.post(address, content=body, headers=headers)


@pytest.fixture
def shopify(shop: Shop) -> str:
    """Return the address of a Shopify source."""
    asked = {
        "name": "Tea",
        "platform": "shopify",
        "secret": SHOPIFY_SECRET,
        "shop_domain": "tea.myshopify.com",
    }
    return f"/intake/{shop.post('/v1/sources', asked).json()['source']['id']}"


def test_what_is_understood_is_told_and_told_again_to_a_repeated_delivery(shop: Shop) -> None:
    order = shop.order("1001")

    first = shop.deliver(order, delivery_id="d-1")
    again = shop.deliver(order, delivery_id="d-1")

    assert first.status_code == again.status_code == 200
    assert first.json()["understood"]["goods_minor"] == 10000
    assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
    assert {**first.json(), "repeated": True} == again.json()


def test_a_wrong_signature_keeps_nothing_but_a_count(shop: Shop, client: TestClient) -> None:
    shop.deliver(shop.order("1001"))

    answer = shop.deliver(shop.order("1002"), signed=False)

    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")
    assert deliveries(client) == 1
    assert 'koc_intake_bad_signatures_total{platform="generic"}' in client.get("/metrics").text


@pytest.mark.parametrize("address", ["/intake/src_01h455vb4pex5vsknk084sn02q", "/intake/nonsense"])
def test_an_address_nobody_listens_at_is_a_404(client: TestClient, address: str) -> None:
    answer = client.post(address, content=b"{}")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-source")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_too_large_is_a_413(shop: Shop) -> None:
    answer = shop.deliver(b" " * (2 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_signed_and_not_understood_parks_and_counts_after_a_replay(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")

    def broken(*_: object) -> object:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr("service.intake.record.assess_orders", broken)
        parked = shop.deliver(shop.order("1001", coupon_codes=["LAN"]))
    replayed = shop.post(f"/v1/inbox/{parked.json()['inbox_id']}/replay")

    assert (parked.status_code, parked.json()["reason_code"]) == (202, "internal_error")
    assert "a fault of ours" not in parked.text
    assert replayed.json()["state"] == "applied"
    [earned] = shop.get("/v1/me/earnings", by=lan["id"]).json()["data"]
    assert earned["pending"]["amount_minor"] == 1000


def test_one_poisonous_delivery_parks_alone(shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.deliver(shop.order("first"))
    held = threading.Event()

    def poisoned(session: Any, received: Any) -> Any:
        held.wait(10)
        if any(each.order and each.order[1] == "poison" and each.state != "parked" for each in received):
            raise RuntimeError("a fault of ours")
        return record(session, received)

    monkeypatch.setattr(intake, "record", poisoned)
    names = [f"order-{number}" for number in range(7)] + ["poison"]
    events = [shop.order(name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(shop.deliver, event) for event in events]
        held.set()
        states = {name: answer.result().json()["state"] for name, answer in zip(names, answers, strict=True)}

    assert states.pop("poison") == "parked"
    assert set(states.values()) == {"applied"}


def test_a_source_is_read_once_however_many_deliveries_come_at_once(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [shop.order(f"order-{number}") for number in range(8)]
    assert shop.source
    reads = []
    look_up = SourceMemory.look_up

    def counted(self: SourceMemory, source_id: Any) -> Any:
        reads.append(source_id)
        return look_up(self, source_id)

    monkeypatch.setattr(SourceMemory, "look_up", counted)
    monkeypatch.setattr(intake, "SOURCE_FRESH_S", 60.0)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(shop.deliver, events))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(reads) == 1


def test_a_full_queue_is_a_503_that_says_when_to_come_back(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver(shop.order("first"))
    monkeypatch.setattr(the_service(client).orders, "_queue_max", 0)

    answer = shop.deliver(shop.order("1001"))

    assert (answer.status_code, answer.json()["code"]) == (503, "queue-full")
    assert int(answer.headers["retry-after"]) >= 1
    assert deliveries(client) == 1


def test_shopifys_orders_refunds_and_cancellations_are_one_story(shop: Shop, client: TestClient, shopify: str) -> None:
    answers = {
        name: post_shopify(client, shopify, name, topic)
        for name, topic in (
            ("orders_create_tax_on_top.json", "orders/create"),
            ("orders_edited.json", "orders/edited"),
            ("orders_delete.json", "orders/delete"),
            ("refunds_create_lines_and_fee.json", "refunds/create"),
        )
    }

    states = {name: answer.json()["state"] for name, answer in answers.items()}
    assert states["orders_create_tax_on_top.json"] == "applied"
    assert states["orders_edited.json"] == states["orders_delete.json"] == "ignored"
    assert states["refunds_create_lines_and_fee.json"] in {"applied", "waiting"}


def test_a_wrongly_signed_shopify_body_is_a_401(client: TestClient, shopify: str) -> None:
    answer = post_shopify(client, shopify, "orders_edited.json", "orders/edited", secret="shpss_of_somebody_else")

    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")


def test_what_another_shop_sends_to_a_source_parks(shop: Shop, client: TestClient) -> None:
    asked = {"name": "Other", "platform": "shopify", "secret": SHOPIFY_SECRET, "shop_domain": "other.myshopify.com"}
    address = f"/intake/{shop.post('/v1/sources', asked).json()['source']['id']}"

    answer = post_shopify(client, address, "orders_create_tax_on_top.json", "orders/create")

    assert (answer.status_code, answer.json()["reason_code"]) == (202, "other_shop_domain")
    assert json.loads(answer.text)["state"] == "parked"
