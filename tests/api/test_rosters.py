"""Agencies over HTTP: payees that bring nothing themselves, and rosters that a KOC is on by its own consent only."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra import ids
from service.infra.db import fetch, read_session
from tests.support.shop import Json, Shop

FIVE_MINUTES = timedelta(minutes=5)


def an_agency(shop: Shop, name: str = "Star MCN", kind: str = "agency") -> Json:
    return shop.an_affiliate(name, kind=kind, enrolled=False)


def offered(shop: Shop, agency: Json, koc: Json, share: str = "30", fee: str = "0") -> Json:
    answer = shop.post(f"/v1/affiliates/{agency['id']}/roster", {"affiliate_id": koc["id"], "share": share, "fee": fee})
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


def answered(shop: Shop, offer: Json, verb: str = "accept") -> Any:
    return shop.post(f"/v1/me/roster-offers/{offer['id']}/{verb}", by=offer["affiliate_id"])


def members(shop: Shop, of: Json, **query: Any) -> list[Json]:
    found: list[Json] = shop.get(f"/v1/affiliates/{of['id']}/roster", **query).json()["data"]
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan")


@pytest.fixture
def star(shop: Shop) -> Json:
    return an_agency(shop)


# Agencies and the operator.


def test_an_affiliate_is_a_koc_unless_it_is_said_otherwise(shop: Shop, lan: Json, star: Json) -> None:
    operator = an_agency(shop, "Platform", kind="operator")

    kinds = {
        kind: [one["name"] for one in shop.get("/v1/affiliates", kind=kind).json()["data"]]
        for kind in ("koc", "agency", "operator")
    }

    assert (lan["kind"], star["kind"], operator["kind"]) == ("koc", "agency", "operator")
    assert kinds == {"koc": ["Lan"], "agency": ["Star MCN"], "operator": ["Platform"]}
    assert shop.get("/v1/me", by=star["id"]).json()["kind"] == "agency"


def test_many_may_be_registered_of_several_kinds(shop: Shop) -> None:
    items = [{"name": "A", "kind": "agency"}, {"name": "B"}, {"name": "C", "kind": "middleman"}]

    results = shop.post("/v1/affiliates/bulk", {"items": items}).json()["results"]

    assert [one["status"] for one in results] == [201, 201, 422]
    kinds = [shop.get(f"/v1/affiliates/{one['id']}").json()["kind"] for one in results[:2]]
    assert kinds == ["agency", "koc"]


def test_a_kind_is_for_good(shop: Shop) -> None:
    path = "/v1/affiliates/by-external-id/star"
    made = shop.put(path, {"name": "Star", "kind": "agency"})

    same, left_out = shop.put(path, {"name": "Star!", "kind": "agency"}), shop.put(path, {"name": "Star?"})
    other = shop.put(path, {"name": "Star", "kind": "koc"})
    patched = shop.patch(f"/v1/affiliates/{made.json()['id']}", {"kind": "koc"})

    assert (made.status_code, same.status_code, left_out.status_code) == (201, 200, 200)
    assert left_out.json()["kind"] == "agency"
    assert (other.status_code, other.json()["code"]) == (409, "fixed-once-made")
    assert patched.status_code == 422


@pytest.mark.parametrize("kind", ["agency", "operator"])
def test_whoever_is_no_koc_can_bring_nothing(shop: Shop, lan: Json, kind: str) -> None:
    payee = an_agency(shop, kind=kind)
    program, who = {"program_id": shop.program["id"]}, {"affiliate_id": payee["id"]}
    link, coupon = shop.a_link(lan), shop.a_coupon(lan, "LAN")
    order = shop.an_order(coupon_codes=["LAN"])
    shop_url = {"url": "https://shop.example/p/1"}

    refused = {
        "enrolment": shop.post(f"/v1/affiliates/{payee['id']}/enrollments", program),
        "link": shop.post("/v1/links", {**who, **program, **shop_url}),
        "own link": shop.post("/v1/links", {**program, **shop_url}, by=payee["id"]),
        "put link": shop.put("/v1/links/by-external-id/l", {**who, **program, **shop_url}),
        "taken link": shop.post(f"/v1/links/{link['id']}/owners", who),
        "coupon": shop.post("/v1/coupons", {**who, **program, "code": "A"}),
        "put coupon": shop.put("/v1/coupons/by-external-id/c", {**who, **program, "code": "B"}),
        "taken coupon": shop.post(f"/v1/coupons/{coupon['id']}/owners", who),
        "customer": shop.post("/v1/customer-bindings", {**who, **program, "customer": {"id": "1"}}),
        "product": shop.post("/v1/product-bindings", {**who, **program, "sku": "tea"}),
        "grade": shop.post(f"/v1/affiliates/{payee['id']}/grades", {"tier": "gold"}),
        "order": shop.post(f"/v1/orders/{order['order_id']}/attribution", {**who, "reason_code": "missing_order"}),
    }
    many = {
        "links": shop.post("/v1/links/bulk", {"items": [{**who, **program, **shop_url}]}),
        "coupons": shop.post("/v1/coupons/bulk", {"items": [{**who, **program, "code": "C"}]}),
        "grades": shop.post("/v1/affiliates/grades", {"items": [{**who, "tier": "gold"}]}),
    }

    codes = {name: (answer.status_code, answer.json()["code"]) for name, answer in refused.items()}
    assert codes == dict.fromkeys(refused, (409, "not-a-koc"))
    results = {name: answer.json()["results"][0] for name, answer in many.items()}
    assert {name: each["problem"]["code"] for name, each in results.items()} == dict.fromkeys(many, "not-a-koc")


def test_an_agency_is_paid_like_anybody(shop: Shop, star: Json) -> None:
    [method] = shop.get(f"/v1/affiliates/{star['id']}/payout-methods").json()["data"]

    assert method["rail"] == "sandbox"
    for what in ("earnings", "commissions", "payouts", "links", "coupons", "series"):
        assert shop.get(f"/v1/me/{what}", by=star["id"]).json()["data"] == [], what


# Offers.


def test_an_offer_changes_nothing_until_the_koc_accepts(shop: Shop, lan: Json, star: Json) -> None:
    offer = offered(shop, star, lan, share="12.50", fee="3")

    assert (offer["state"], offer["share"], offer["fee"], offer["decided_at"]) == ("offered", "12.5", "3", None)
    assert (offer["affiliate_name"], offer["agency_name"]) == ("Lan", "Star MCN")
    assert members(shop, star) == members(shop, lan) == []
    assert shop.get("/v1/me/roster-offers", by=lan["id"]).json()["data"] == [offer]
    assert shop.get("/v1/me/roster-offers", by=star["id"]).json()["data"] == [offer]
    assert shop.get(f"/v1/affiliates/{star['id']}/roster-offers", state="offered").json()["data"] == [offer]


def test_accepting_counts_from_five_minutes_on(shop: Shop, lan: Json, star: Json) -> None:
    before = shop.now()

    accepted = answered(shop, offered(shop, star, lan, share="30", fee="5"))

    assert (accepted.status_code, accepted.json()["state"]) == (200, "accepted")
    [member] = members(shop, star)
    assert FIVE_MINUTES <= moment(member["valid_from"]) - before < 2 * FIVE_MINUTES
    assert (member["affiliate_id"], member["share"], member["fee"], member["until"]) == (lan["id"], "30", "5", None)
    assert members(shop, lan) == [member]
    for who in (star, lan):
        assert shop.get("/v1/me/roster", by=who["id"]).json()["data"] == [member]


def test_before_the_first_order_too_nobody_shares_what_was_sold_before(shop: Shop, lan: Json, star: Json) -> None:
    """Other dated inputs may reach back until the first order; a consent never does."""
    now = shop.now()

    answered(shop, offered(shop, star, lan))

    assert moment(members(shop, lan)[0]["valid_from"]) > now


def test_an_offer_is_answered_once(shop: Shop, lan: Json, star: Json) -> None:
    declined, withdrawn = offered(shop, star, lan), offered(shop, an_agency(shop, "Moon"), lan)

    assert answered(shop, declined, "decline").json()["state"] == "declined"
    taken_back = shop.post(f"/v1/affiliates/{withdrawn['agency_id']}/roster-offers/{withdrawn['id']}/withdraw")
    assert (taken_back.status_code, taken_back.json()["state"]) == (200, "withdrawn")

    for offer in (declined, withdrawn):
        for verb in ("accept", "decline"):
            again = answered(shop, offer, verb)
            assert (again.status_code, again.json()["code"]) == (409, "roster-offer-decided")
    assert members(shop, lan) == []


def test_a_new_offer_of_an_agency_takes_the_place_of_the_open_one(shop: Shop, lan: Json, star: Json) -> None:
    first = offered(shop, star, lan, share="10")
    second = offered(shop, star, lan, share="20")

    states = {one["id"]: one["state"] for one in shop.get("/v1/me/roster-offers", by=lan["id"]).json()["data"]}

    assert states == {second["id"]: "offered", first["id"]: "withdrawn"}
    assert answered(shop, first).json()["code"] == "roster-offer-decided"


def test_a_koc_is_of_one_agency_at_a_time(shop: Shop, lan: Json, star: Json) -> None:
    moon = an_agency(shop, "Moon")
    first, second = offered(shop, star, lan, share="30"), offered(shop, moon, lan, share="10")
    answered(shop, first)
    shop.advance(minutes=1)

    answered(shop, second)

    [at_moon], [at_star] = members(shop, moon), members(shop, star)
    assert at_star["until"] == at_moon["valid_from"]
    assert members(shop, lan) == [at_moon, at_star]
    assert members(shop, lan, current=True) == [at_moon]
    assert members(shop, lan, current=False) == [at_star]
    states = {one["id"]: one["state"] for one in shop.get("/v1/me/roster-offers", by=lan["id"]).json()["data"]}
    assert states == {second["id"]: "accepted", first["id"]: "ended"}


def test_a_koc_may_take_up_an_older_offer_in_place_of_a_newer(shop: Shop, lan: Json, star: Json) -> None:
    older, newer = offered(shop, an_agency(shop, "Moon"), lan), offered(shop, star, lan)
    answered(shop, newer)
    shop.advance(minutes=1)

    assert answered(shop, older).status_code == 200

    [member] = members(shop, lan, current=True)
    assert member["agency_name"] == "Moon"


@pytest.mark.parametrize("by_whom", ["the KOC", "the merchant"])
def test_leaving_counts_from_five_minutes_on_and_happens_once(shop: Shop, lan: Json, star: Json, by_whom: str) -> None:
    offer = offered(shop, star, lan)
    answered(shop, offer)
    shop.advance(minutes=20)
    before = shop.now()

    def leave() -> Any:
        if by_whom == "the KOC":
            return shop.post("/v1/me/roster/leave", by=lan["id"])
        return shop.post(f"/v1/affiliates/{lan['id']}/roster/leave")

    left, again = leave(), leave()

    assert left.status_code == 200
    assert FIVE_MINUTES <= moment(left.json()["valid_from"]) - before < 2 * FIVE_MINUTES
    assert [one["until"] for one in members(shop, star)] == [left.json()["valid_from"]]
    assert shop.get("/v1/me/roster-offers", by=lan["id"]).json()["data"][0]["state"] == "ended"
    assert (again.status_code, again.json()["code"]) == (409, "on-no-roster")


def test_nobody_stands_behind_an_agency(shop: Shop, lan: Json, star: Json) -> None:
    moon = an_agency(shop, "Moon")

    behind = shop.post(f"/v1/affiliates/{star['id']}/roster", {"affiliate_id": moon["id"], "share": "10"})
    itself = shop.post(f"/v1/affiliates/{star['id']}/roster", {"affiliate_id": star["id"], "share": "10"})
    recruiter = shop.post(f"/v1/affiliates/{lan['id']}/roster", {"affiliate_id": lan["id"], "share": "10"})
    operator = an_agency(shop, "Platform", kind="operator")
    platform = shop.post(f"/v1/affiliates/{operator['id']}/roster", {"affiliate_id": lan["id"], "share": "10"})

    assert [one.json()["code"] for one in (behind, itself)] == ["not-a-koc"] * 2
    assert [one.json()["code"] for one in (recruiter, platform)] == ["not-an-agency"] * 2


@pytest.mark.parametrize("percent", ["101", "100.5", "-1", "1e1", "0.0000001", "", "ten", " 5", 5, None])
def test_a_share_is_a_percentage_in_plain_decimals(shop: Shop, lan: Json, star: Json, percent: Any) -> None:
    path = f"/v1/affiliates/{star['id']}/roster"

    share = shop.post(path, {"affiliate_id": lan["id"], "share": percent})
    fee = shop.post(path, {"affiliate_id": lan["id"], "share": "1", "fee": percent})

    assert (share.status_code, fee.status_code) == (422, 422)


def test_only_the_koc_itself_answers(client: TestClient, shop: Shop, lan: Json, star: Json) -> None:
    offer = offered(shop, star, lan)
    ben, other = shop.an_affiliate("Ben"), Shop(client)
    path = f"/v1/me/roster-offers/{offer['id']}"

    by_others = [shop.post(f"{path}/accept", by=who) for who in (ben["id"], star["id"])] + [
        other.post(f"{path}/accept", by=other.an_affiliate()["id"])
    ]
    by_the_merchant = shop.post(f"{path}/accept")

    assert [one.status_code for one in by_others] == [404] * 3
    assert by_the_merchant.status_code == 403
    assert shop.get("/v1/me/roster-offers", by=ben["id"]).json()["data"] == []
    assert shop.get("/v1/me/roster-offers", by=lan["id"]).json()["data"] == [offer]


def test_offers_and_members_come_in_pages(shop: Shop, star: Json) -> None:
    kocs = [shop.an_affiliate(f"KOC {number}") for number in range(3)]
    offers = [offered(shop, star, koc) for koc in kocs]
    for offer in offers:
        answered(shop, offer)

    for path in (f"/v1/affiliates/{star['id']}/roster", f"/v1/affiliates/{star['id']}/roster-offers"):
        first = shop.get(path, limit=2).json()
        second = shop.get(path, limit=2, cursor=first["next_cursor"]).json()
        seen = [one["affiliate_id"] for one in first["data"] + second["data"]]
        assert seen == [koc["id"] for koc in reversed(kocs)], path
        assert not second["has_more"]


def test_who_offered_and_who_accepted_can_be_read_for_ever(shop: Shop, lan: Json, star: Json, engine: Engine) -> None:
    offer = offered(shop, star, lan)
    answered(shop, offer)

    trail = shop.get("/v1/audit", subject=offer["id"]).json()["data"]
    assert [(one["operation"], one["after"]["state"]) for one in trail] == [
        ("accept_roster_offer", "accepted"),
        ("create_roster_offer", "offered"),
    ]
    assert trail[0]["key_id"] != trail[1]["key_id"]
    written = [one["kind"] for one in shop.get("/v1/audit", subject=lan["id"]).json()["data"]]
    assert "roster" in written
    with read_session(engine) as session:
        [row] = fetch(session, "SELECT share, fee, agency_id FROM roster")
    assert (row.share, row.fee, row.agency_id) == ("30", "0", ids.decode("aff", star["id"]))
