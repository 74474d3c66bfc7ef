"""Merchants, their desk and first key, and the clock of test merchants."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.clock import utc_now
from service.infra.db import fetch, unit_of_work
from tests.support.shop import Shop


def test_the_operator_makes_a_merchant_with_a_desk_and_an_admin_key(shop: Shop, engine: Engine) -> None:
    made = shop.post(
        "/v1/merchants",
        {"name": "Hoa Mai", "time_zone": "Asia/Ho_Chi_Minh", "external_id": "hm"},
        by="operator",
    )

    merchant, key = made.json()["merchant"], made.json()["admin_key"]
    own = shop.client.get("/v1/merchant", headers={"Authorization": f"Bearer {key['key']}"})
    sources = shop.client.get("/v1/sources", headers={"Authorization": f"Bearer {key['key']}"}).json()["data"]
    assert made.status_code == 201
    assert key["key"].startswith("koc_live_")
    assert own.json()["id"] == merchant["id"]
    assert merchant["time_zone"] == "Asia/Ho_Chi_Minh"
    assert merchant["first_order_at"] is None
    assert [(one["platform"], one["webhook_url"]) for one in sources] == [("desk", None)]
    with unit_of_work(engine) as session:
        assert fetch(session, "SELECT secret FROM source WHERE platform = 'desk' AND secret IS NOT NULL") == []


@pytest.mark.parametrize("time_zone", ["", "Mars/Olympus", "GMT+25", "../etc/passwd", "asia/ho_chi_minh", 7])
def test_a_merchants_time_zone_has_to_exist(shop: Shop, time_zone: object) -> None:
    answer = shop.post("/v1/merchants", {"name": "Shop", "time_zone": time_zone}, by="operator")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/time_zone"


def test_an_external_id_names_one_merchant(shop: Shop) -> None:
    asked = {"name": "Shop", "time_zone": "UTC", "external_id": "one"}
    shop.post("/v1/merchants", asked, by="operator")

    answer = shop.post("/v1/merchants", asked, by="operator")

    assert (answer.status_code, answer.json()["code"]) == (409, "external-id-taken")


def test_the_operator_lists_merchants_in_pages_and_replaces_a_lost_admin_key(shop: Shop) -> None:
    for number in range(4):
        shop.post("/v1/merchants", {"name": f"Shop {number}", "time_zone": "UTC"}, by="operator")

    first = shop.get("/v1/merchants", by="operator", limit=3).json()
    second = shop.get("/v1/merchants", by="operator", limit=3, cursor=first["next_cursor"]).json()
    key = shop.post(f"/v1/merchants/{shop.id}/admin-keys", by="operator").json()["key"]

    assert [one["name"] for one in first["data"] + second["data"]] == ["Shop 3", "Shop 2", "Shop 1", "Shop 0", "Shop"]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert shop.get(f"/v1/merchants/{shop.id}", by="operator").json()["id"] == shop.id
    assert shop.client.get("/v1/merchant", headers={"Authorization": f"Bearer {key}"}).json()["id"] == shop.id


def test_a_test_clock_moves_forward_by_seconds_or_to_a_time(shop: Shop) -> None:
    before = shop.now()

    by_seconds = shop.advance(days=15)
    target = by_seconds + timedelta(days=30, microseconds=1)
    to_a_time = shop.post("/v1/test-clock", {"to": target.isoformat()}).json()["now"]

    assert timedelta(days=15) <= by_seconds - before < timedelta(days=15, seconds=30)
    assert target <= datetime.fromisoformat(to_a_time) <= shop.now()
    assert shop.get("/v1/merchant").json()["now"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid-request"),
        ({"advance_s": 1, "to": "2030-01-01T00:00:00Z"}, 422, "invalid-request"),
        ({"advance_s": -1}, 422, "invalid-request"),
        ({"advance_s": "60"}, 422, "invalid-request"),
        ({"to": "2020-01-01T00:00:00Z"}, 409, "clock-backwards"),
        ({"to": "2199-01-01T00:00:00Z"}, 409, "clock-backwards"),
        ({"to": "9999-01-01T00:00:00Z"}, 422, "invalid-request"),
    ],
)
def test_a_test_clock_moves_no_other_way(shop: Shop, body: dict[str, object], status: int, code: str) -> None:
    answer = shop.post("/v1/test-clock", body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_live_merchants_clock_stands_by_ours(client: TestClient) -> None:
    live = Shop(client, is_test=False)

    answer = live.post("/v1/test-clock", {"advance_s": 1})

    assert (answer.status_code, answer.json()["code"]) == (403, "live-clock")
    assert abs(live.now() - utc_now()) < timedelta(seconds=30)


def test_what_is_made_after_the_clock_moved_bears_its_time(shop: Shop) -> None:
    present = shop.advance(days=100)

    affiliate = shop.post("/v1/affiliates", {"name": "Lan"}).json()

    assert datetime.fromisoformat(affiliate["created_at"]) >= present
