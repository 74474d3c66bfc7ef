"""Things under the merchant's own ids: made once, set as often as one likes, found again."""

from collections.abc import Callable
from functools import partial

import pytest
from httpx2 import Response

from tests.api.test_races import at_once, rows, statuses
from tests.support.shop import Json, Shop

TERMS = {"rules": [{"kind": "percent", "rate": "10"}]}
PROGRAM = {"name": "P", "allowed_domains": ["shop.example"], "fallback_url": "https://shop.example/"}


def program(shop: Shop) -> tuple[str, Json, str]:
    del shop
    return "programs", {**PROGRAM, "terms": TERMS}, "admin"


def affiliate(shop: Shop) -> tuple[str, Json, str]:
    del shop
    return "affiliates", {"name": "A"}, "admin"


def link(shop: Shop) -> tuple[str, Json, str]:
    place = {"affiliate_id": shop.an_affiliate()["id"], "program_id": shop.program["id"]}
    return "links", {**place, "url": "https://shop.example/1", "sub1": "blog"}, "admin"


def coupon(shop: Shop) -> tuple[str, Json, str]:
    place = {"affiliate_id": shop.an_affiliate()["id"], "program_id": shop.program["id"]}
    return "coupons", {**place, "code": "LAN10"}, "admin"


def merchant(shop: Shop) -> tuple[str, Json, str]:
    del shop
    return "merchants", {"name": "M", "time_zone": "UTC", "is_test": True}, "operator"


KINDS = [program, affiliate, link, coupon, merchant]
Kind = Callable[[Shop], tuple[str, Json, str]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_thing_is_made_once_and_found_by_its_id_and_by_the_filter(shop: Shop, kind: Kind) -> None:
    noun, body, by = kind(shop)
    path = f"/v1/{noun}/by-external-id/own/id 1"

    missing = shop.get(path, by=by)
    made = shop.put(path, body, by=by)
    again = shop.put(path, body, by=by)

    assert missing.status_code == 404
    assert (made.status_code, again.status_code) == (201, 200), again.text
    assert made.json()["external_id"] == "own/id 1"
    assert made.json()["id"] == again.json()["id"]
    assert shop.get(path, by=by).json() == again.json()
    assert shop.get(f"/v1/{noun}/{made.json()['id']}", by=by).json()["id"] == made.json()["id"]
    found = shop.get(f"/v1/{noun}", by=by, external_id="own/id 1").json()["data"]
    assert [each["id"] for each in found] == [made.json()["id"]]
    assert shop.get(f"/v1/{noun}", by=by, external_id="other").json()["data"] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_put_by_many_at_once_it_is_made_once(shop: Shop, kind: Kind) -> None:
    noun, body, by = kind(shop)
    shop.key_of(by)

    answers: list[Response] = at_once(*[partial(shop.put, f"/v1/{noun}/by-external-id/x", body, by=by)] * 8)

    counted = statuses(answers)
    assert counted[201] == 1
    assert counted[200] + counted[409] == 7
    assert len({answer.json()["id"] for answer in answers if answer.is_success}) == 1
    assert len(rows(shop.client, f"SELECT 1 FROM {noun[:-1]} WHERE external_id = 'x'")) == 1


def test_what_can_change_of_a_programme_is_set_and_its_terms_stay(shop: Shop) -> None:
    path = "/v1/programs/by-external-id/p"
    shop.put(path, {**PROGRAM, "terms": TERMS, "disclosure": "Ad"})

    renamed = shop.put(path, {**PROGRAM, "name": "Q", "terms": TERMS})
    other_terms = shop.put(path, {**PROGRAM, "terms": {"rules": [{"kind": "percent", "rate": "20"}]}})

    assert (renamed.json()["name"], renamed.json()["disclosure"]) == ("Q", "")
    assert (other_terms.status_code, other_terms.json()["code"]) == (409, "program-terms-differ")
    assert len(shop.get(f"/v1/programs/{renamed.json()['id']}/versions").json()["data"]) == 1
    assert shop.put("/v1/programs/by-external-id/new", PROGRAM).json()["code"] == "invalid-terms"


def test_a_link_is_pointed_and_paused_but_keeps_its_code_programme_and_owner(shop: Shop) -> None:
    _, body, _ = link(shop)
    path = "/v1/links/by-external-id/l"
    made = shop.put(path, body).json()

    paused = shop.put(path, {**body, "url": "https://shop.example/2", "sub1": "video", "paused": True}).json()

    assert (paused["code"], paused["url"], paused["sub1"]) == (made["code"], "https://shop.example/2", "video")
    assert paused["paused_at"] is not None
    assert shop.put(path, body).json()["paused_at"] is None
    minh, other = shop.an_affiliate("Minh"), shop.a_program()
    for part in ({"affiliate_id": minh["id"]}, {"program_id": other["id"]}, {"code": "mine1234"}):
        assert shop.put(path, {**body, **part}).json()["code"] == "fixed-once-made", part
    assert shop.put(path, {**body, "url": "https://elsewhere.example/"}).status_code == 422


def test_a_coupon_and_a_merchant_keep_what_was_recorded_under_them(shop: Shop) -> None:
    _, body, _ = coupon(shop)
    path = "/v1/coupons/by-external-id/c"
    shop.put(path, body)
    merchant_path, merchant_body = "/v1/merchants/by-external-id/m", {"name": "M", "time_zone": "UTC"}
    shop.put(merchant_path, merchant_body, by="operator")

    assert shop.put(path, {**body, "code": "lan10"}).status_code == 200
    for part in ({"code": "LAN20"}, {"affiliate_id": shop.an_affiliate("Minh")["id"]}):
        assert shop.put(path, {**body, **part}).json()["code"] == "fixed-once-made", part
    for part in ({"time_zone": "Asia/Tokyo"}, {"is_test": True}):
        changed = shop.put(merchant_path, {**merchant_body, **part}, by="operator")
        assert changed.json()["code"] == "fixed-once-made", part
    assert shop.put(merchant_path, {**merchant_body, "name": "N"}, by="operator").json()["name"] == "N"
