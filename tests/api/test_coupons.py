"""Coupons over HTTP: one code one coupon, owners that follow one another, nothing back-dated once orders came."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra import ids
from service.infra.db import fetch, read_session
from tests.support.shop import Json, Shop


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan")


def asked(shop: Shop, affiliate: Json, code: str, **parts: Any) -> Json:
    return {"affiliate_id": affiliate["id"], "program_id": shop.program["id"], "code": code, **parts}


def test_a_coupon_says_whose_it_is_and_what_to_disclose(shop: Shop, lan: Json) -> None:
    answer = shop.post("/v1/coupons", asked(shop, lan, " Lan-10 ", external_id="c-1"))

    assert answer.status_code == 201
    coupon = answer.json()
    assert (coupon["code"], coupon["external_id"], coupon["affiliate_id"]) == ("Lan-10", "c-1", lan["id"])
    assert coupon["disclosure"] == "I earn from this."
    assert shop.get(f"/v1/coupons/{coupon['id']}").json() == coupon


@pytest.mark.parametrize("again", ["LAN10", "lan10", " Lan10 ", "lAN10"])
def test_a_code_means_one_coupon_of_a_merchant_however_it_is_written(
    client: TestClient, shop: Shop, lan: Json, again: str
) -> None:
    shop.a_coupon(lan, "Lan10")
    other = Shop(client)

    same = shop.post("/v1/coupons", asked(shop, shop.an_affiliate("Minh"), again))
    elsewhere = other.post("/v1/coupons", asked(other, other.an_affiliate(), again))

    assert (same.status_code, same.json()["code"]) == (409, "coupon-code-taken")
    assert elsewhere.status_code == 201


def test_an_external_id_is_one_per_merchant(shop: Shop, lan: Json) -> None:
    shop.a_coupon(lan, "A1", external_id="c-1")

    again = shop.post("/v1/coupons", asked(shop, lan, "A2", external_id="c-1"))

    assert (again.status_code, again.json()["code"]) == (409, "external-id-taken")


@pytest.mark.parametrize("code", ["", "   ", "a\nb", "a\x00b", "x" * 65, "a\u202eb"])
def test_a_code_nobody_can_type_is_refused(shop: Shop, lan: Json, code: str) -> None:
    assert shop.post("/v1/coupons", asked(shop, lan, code)).status_code == 422


def test_before_the_first_order_a_coupon_may_have_begun_long_ago(shop: Shop, lan: Json) -> None:
    long_ago = "2026-01-01T00:00:00Z"

    coupon = shop.post("/v1/coupons", asked(shop, lan, "LAN10", valid_from=long_ago)).json()

    assert coupon["owners"][0]["valid_from"] == long_ago


def test_after_the_first_order_a_coupon_begins_five_minutes_ahead_at_the_earliest(shop: Shop, lan: Json) -> None:
    shop.an_order("order-1")
    before = shop.now()

    back_dated = shop.post("/v1/coupons", asked(shop, lan, "A", valid_from=before.isoformat()))
    too_soon = shop.post("/v1/coupons", asked(shop, lan, "B", valid_from=(before + timedelta(minutes=4)).isoformat()))
    left_out = shop.post("/v1/coupons", asked(shop, lan, "C"))

    assert (back_dated.status_code, back_dated.json()["code"]) == (409, "back-dated")
    assert (too_soon.status_code, too_soon.json()["code"]) == (409, "back-dated")
    begins = datetime.fromisoformat(left_out.json()["owners"][0]["valid_from"])
    assert timedelta(minutes=5) <= begins - before < timedelta(minutes=6)
    assert shop.get("/v1/coupons", code="A").json()["data"] == []


def test_an_order_with_the_code_in_any_spelling_is_the_owners(client: TestClient, shop: Shop, lan: Json) -> None:
    shop.a_coupon(lan, "Lan10")

    shop.an_order("order-1", coupon_codes=["lAN10 "])

    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        (row,) = fetch(session, "SELECT payee_id FROM commission")
    assert row.payee_id == ids.decode("aff", lan["id"])


def test_a_coupon_is_handed_over_from_a_time_on(shop: Shop, lan: Json) -> None:
    minh, coupon = shop.an_affiliate("Minh"), shop.a_coupon(lan, "LAN10")
    path = f"/v1/coupons/{coupon['id']}/owners"

    past = shop.post(path, {"affiliate_id": minh["id"], "valid_from": (shop.now() - timedelta(days=1)).isoformat()})
    handed = shop.post(path, {"affiliate_id": minh["id"]})

    assert (past.status_code, past.json()["code"]) == (409, "back-dated")
    assert handed.status_code == 201
    assert handed.json()["affiliate_id"] == lan["id"]
    shop.advance(minutes=6)
    assert shop.get(f"/v1/coupons/{coupon['id']}").json()["affiliate_id"] == minh["id"]
    assert [row["id"] for row in shop.get("/v1/coupons", by=minh["id"]).json()["data"]] == [coupon["id"]]
    assert shop.get("/v1/coupons", by=lan["id"]).json()["data"] == []


def test_coupons_are_listed_newest_first_by_code_and_by_owner(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh")
    made = [shop.a_coupon(lan, f"LAN{number}")["id"] for number in range(3)]
    other = shop.a_coupon(minh, "MINH")["id"]

    page = shop.get("/v1/coupons", limit=2).json()
    rest = shop.get("/v1/coupons", limit=2, cursor=page["next_cursor"]).json()

    assert [row["id"] for row in page["data"] + rest["data"]] == [other, *reversed(made)]
    assert not rest["has_more"]
    assert [row["id"] for row in shop.get("/v1/coupons", code="lan1").json()["data"]] == [made[1]]
    assert [row["id"] for row in shop.get("/v1/coupons", affiliate_id=minh["id"]).json()["data"]] == [other]


def test_what_is_missing_or_somebody_elses_is_not_found(client: TestClient, shop: Shop, lan: Json) -> None:
    other, coupon = Shop(client), shop.a_coupon(lan)
    minh = shop.an_affiliate("Minh")

    answers = [
        shop.post("/v1/coupons", asked(shop, other.an_affiliate(), "A")),
        shop.post("/v1/coupons", asked(shop, lan, "B", program_id=other.program["id"])),
        other.get(f"/v1/coupons/{coupon['id']}"),
        other.post(f"/v1/coupons/{coupon['id']}/owners", {"affiliate_id": other.an_affiliate()["id"]}),
        shop.get(f"/v1/coupons/{coupon['id']}", by=minh["id"]),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)


@pytest.mark.parametrize("role", ["ingest", "read", "finance-maker", "finance-checker"])
def test_only_admins_make_coupons(shop: Shop, lan: Json, role: str) -> None:
    assert shop.post("/v1/coupons", asked(shop, lan, "A"), by=role).status_code == 403
    assert shop.post("/v1/coupons", asked(shop, lan, "A"), by=lan["id"]).status_code == 403
