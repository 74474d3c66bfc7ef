"""POST /v1/orders: one event or a list, each with its own result."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.shop import Shop

Json = dict[str, Any]


def post(shop: Shop, body: Any, *, by: str = "ingest", source: str | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    source = source or shop.source["source"]["id"]
    headers = shop.key_of(by) | {"content-type": "application/json"}
    return shop.client.post(f"/v1/orders?source_id={source}", content=content, headers=headers)


def test_each_event_of_a_list_has_its_own_result(shop: Shop) -> None:
    order = shop.order("1001", coupon_codes=[shop.a_coupon(shop.an_affiliate())["code"]])
    events = [order, shop.refund(order, "10.00"), {"type": "order", "id": "1002"}, {"type": "gift"}, 7]

    answer = post(shop, events)

    results = answer.json()["data"]
    assert answer.status_code == 200, answer.text
    assert [(each["index"], each["state"], each["reason_code"]) for each in results] == [
        (0, "applied", None),
        (1, "applied", None),
        (2, "parked", "missing_field"),
        (3, "parked", "unknown_event"),
        (4, "parked", "invalid_json"),
    ]
    assert results[0]["understood"]["goods_minor"] == 10000
    assert results[0]["order_id"] == results[1]["order_id"]
    [commission] = shop.get("/v1/commissions").json()["data"]
    assert commission["target"]["amount_minor"] == 900


def test_the_same_bytes_count_once_and_get_their_first_answer(shop: Shop) -> None:
    order = shop.order("1001")

    first = post(shop, order).json()["data"][0]
    again = post(shop, [order]).json()["data"][0]

    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first | {"repeated": True} == again
    assert first["delivery_id"].startswith("sha256:")


def test_a_caller_may_name_an_event_and_finds_it_by_that_in_the_inbox(shop: Shop) -> None:
    answer = post(shop, shop.order("1001") | {"delivery_id": "erp-7"})

    [kept] = shop.get("/v1/inbox").json()["data"]
    assert answer.json()["data"][0]["delivery_id"] == kept["delivery_id"] == "erp-7"


def test_what_is_kept_is_what_was_sent_to_the_byte(shop: Shop) -> None:
    event = (
        b'{"type" :"status", "order_id": 9007199254740993,"milestone":"paid","at":"2026-01-01T00:00:00Z", "x": 1.50}'
    )

    answer = post(shop, b" [ " + event + b" ]\n")

    kept = shop.get(f"/v1/inbox/{answer.json()['data'][0]['inbox_id']}").json()
    assert kept["body"].encode() == event
    assert kept["delivery"]["order_external_id"] == "9007199254740993"


def test_a_source_of_another_platform_takes_our_events_too(shop: Shop) -> None:
    made = shop.post("/v1/sources", {"name": "Tea", "platform": "shopify"}).json()

    answer = post(shop, shop.order("1001"), source=made["source"]["id"])

    assert answer.json()["data"][0]["state"] == "applied"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"", 400, "malformed-json", id="nothing"),
        pytest.param(b"[{}", 400, "malformed-json", id="cut"),
        pytest.param(b"[{},]", 400, "malformed-json", id="a comma too many"),
        pytest.param(b"[{} {}]", 400, "malformed-json", id="no comma"),
        pytest.param(b"{}{}", 400, "malformed-json", id="two events and no list"),
        pytest.param(b"\xff", 400, "malformed-json", id="not utf-8"),
        pytest.param(b"[" * 100_000, 400, "malformed-json", id="levels without end"),
        pytest.param(b"[]", 422, "no-events", id="an empty list"),
        pytest.param(b"[" + b"{}," * 500 + b"{}]", 413, "too-many-events", id="501 events"),
        pytest.param(b'{"delivery_id": "\\n"}', 422, "invalid-request", id="a delivery id that is none"),
    ],
)
def test_a_body_that_is_no_list_of_events_keeps_nothing(shop: Shop, body: bytes, status: int, code: str) -> None:
    answer = post(shop, body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert shop.get("/v1/inbox").json()["data"] == []


def test_only_keys_of_the_sources_merchant_that_may_ingest_are_let_in(shop: Shop, client: TestClient) -> None:
    other = Shop(client)
    desk = next(each for each in shop.get("/v1/sources").json()["data"] if each["platform"] == "desk")

    answers = [
        post(shop, {}, by="read"),
        post(other, {}, source=shop.source["source"]["id"]),
        post(shop, {}, source=desk["id"]),
    ]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [
        (403, "missing-scope"),
        (404, "no-such-source"),
        (409, "source-closed"),
    ]
