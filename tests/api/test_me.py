"""What a KOC sees with a key of its own: earnings, commissions, payouts, links, coupons; and nobody else's."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.shop import Shop

Json = dict[str, Any]


@pytest.fixture
def lan(shop: Shop) -> Json:
    """Return a KOC with the coupon LAN, who brought one order of 100.00 USD at ten percent."""
    lan = shop.an_affiliate("Lan", email="lan@example.com", country="VN")
    shop.a_coupon(lan, "LAN")
    shop.deliver(shop.order("first", coupon_codes=["LAN"]))
    return lan


def _settled(shop: Shop) -> None:
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle", by="finance-maker").json()["settled"] > 0


def _earnings(shop: Shop, who: Json) -> Json:
    [earned] = shop.get("/v1/me/earnings", by=who["id"]).json()["data"]
    return dict(earned)


def test_a_koc_reads_who_it_is_and_what_it_takes_part_in(shop: Shop, lan: Json) -> None:
    me = shop.get("/v1/me", by=lan["id"]).json()

    assert (me["id"], me["name"], me["email"], me["status"]) == (lan["id"], "Lan", "lan@example.com", "approved")
    assert (me["merchant_name"], me["time_zone"]) == ("Shop", "UTC")
    assert me["identity_kinds"] == ["email"]
    [program] = me["programs"]
    assert program["id"] == shop.program["id"]
    assert program["allowed_domains"] == shop.program["allowed_domains"]
    assert program["terms"] == shop.program["version_in_force"]["terms"]


def test_earnings_follow_the_money_through_its_places(shop: Shop, lan: Json) -> None:
    def places() -> Json:
        earned = _earnings(shop, lan)
        return {
            name: part["amount_minor"]
            for name, part in earned.items()
            if name not in {"currency", "next_settlement", "left_out"} and part["amount_minor"]
        }

    pending = places()
    expected = _earnings(shop, lan)["next_settlement"]
    _settled(shop)
    payable = places()
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")
    in_payout = places()

    assert pending == {"pending": 1000, "lifetime": 1000}
    assert expected["amount"] == {"amount_minor": 1000, "currency": "USD"}
    assert payable == {"payable": 1000, "lifetime": 1000}
    assert in_payout == {"in_payout": 1000, "lifetime": 1000}
    assert _earnings(shop, lan)["next_settlement"] is None


def test_the_next_settlement_gathers_its_whole_day(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    midnight = shop.now().replace(hour=0, minute=0)
    for placed_at in (midnight - timedelta(days=1), midnight - timedelta(minutes=2), midnight):
        shop.deliver(shop.order(coupon_codes=["LAN"], placed_at=placed_at.isoformat()))

    upcoming = _earnings(shop, lan)["next_settlement"]

    assert upcoming["amount"]["amount_minor"] == 2000
    assert datetime.fromisoformat(upcoming["at"]).date() == (midnight + timedelta(days=13)).date()


def test_the_series_has_every_day_and_what_was_taken_back(shop: Shop, lan: Json) -> None:
    order = {"id": "first", "currency": "USD"}
    shop.advance(days=2)
    shop.deliver(shop.refund(order, "30.00"))

    [series] = shop.get("/v1/me/series", by=lan["id"], days=4).json()["data"]

    assert series["currency"] == "USD"
    assert [day["earned"]["amount_minor"] for day in series["days"]] == [0, 1000, 0, -300]
    assert series["days"][-1]["day"] == shop.now().date().isoformat()


def test_days_of_the_series_are_those_of_the_merchant(client: TestClient) -> None:
    shop = Shop(client, time_zone="Pacific/Kiritimati")
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    shop.deliver(shop.order(coupon_codes=["LAN"]))

    series = shop.get("/v1/me/series", by=lan["id"], days=1).json()

    assert series["time_zone"] == "Pacific/Kiritimati"
    assert series["data"][0]["days"][0]["day"] == (shop.now() + timedelta(hours=14)).date().isoformat()


@pytest.mark.parametrize("days", [0, 367])
def test_a_series_has_a_bounded_length(shop: Shop, lan: Json, days: int) -> None:
    assert shop.get("/v1/me/series", by=lan["id"], days=days).status_code == 422


def test_a_commission_says_why_it_waits_and_until_when(shop: Shop, lan: Json) -> None:
    shop.deliver(shop.order("unpaid", coupon_codes=["LAN"], milestones={}))

    unpaid, paid = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    assert (unpaid["reason_code"], unpaid["expected_at"]) == ("awaiting_milestone", None)
    assert (paid["reason_code"], paid["order_number"]) == ("in_hold_period", "first")
    assert datetime.fromisoformat(paid["expected_at"]) > shop.now() + timedelta(days=13)


def _written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _codes(shop: Shop, who: Json) -> list[str]:
    [commission] = shop.get("/v1/me/commissions", by=who["id"]).json()["data"]
    return [wait["code"] for wait in commission["waits_for"]]


def test_a_commission_says_what_it_waits_for_on_its_whole_way(shop: Shop, lan: Json) -> None:
    [mine] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]
    [theirs] = shop.get("/v1/commissions").json()["data"]
    way = [_codes(shop, lan)]
    shop.post(f"/v1/commissions/{theirs['id']}/hold", {"reason_code": "fraud_suspected"})
    way.append(_codes(shop, lan))
    shop.post(f"/v1/commissions/{theirs['id']}/release")
    _settled(shop)
    way.append(_codes(shop, lan))
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")
    way.append(_codes(shop, lan))

    assert mine["waits_for"] == theirs["waits_for"]
    assert mine["waits_for"][0]["until"] == mine["expected_at"] == theirs["expected_at"] == theirs["settles_at"]
    assert way == [["hold_period"], ["hold_open", "hold_period"], ["payout_run"], ["payout"]]


def test_a_missing_milestone_is_named_and_no_day_is_guessed(shop: Shop, lan: Json) -> None:
    shop.deliver(shop.order("unpaid", coupon_codes=["LAN"], milestones={"delivered_at": shop.time()}))

    unpaid, _ = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    assert unpaid["expected_at"] is None
    assert unpaid["waits_for"] == [
        {"code": "milestone", "until": None, "milestone": "paid", "short": None, "reason_code": None, "on": None}
    ]


def test_a_commission_on_a_statement_shows_its_days(shop: Shop) -> None:
    program = shop.a_program(
        settlement={
            "kind": "statement",
            "start": "paid",
            "pay_day": 20,
            "approval": "manual",
            "auto_approve_days": 90,
            "audit_days": 10,
            "objection_days": 15,
        }
    )
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)
    placed_at = shop.now() - timedelta(hours=1)
    shop.deliver(shop.order(coupon_codes=["LAN"], placed_at=placed_at.isoformat()))

    [commission] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    first_of_next = (placed_at.date().replace(day=1) + timedelta(days=32)).replace(day=1)
    silence = _written(placed_at + timedelta(days=90))
    assert commission["statement"] == {
        "cut_off_on": (first_of_next - timedelta(days=1)).isoformat(),
        "audit_by": first_of_next.replace(day=10).isoformat(),
        "objection_until": first_of_next.replace(day=15).isoformat(),
        "pays_on": first_of_next.replace(day=20).isoformat(),
    }
    assert (commission["status"], commission["reason_code"]) == ("pending", "awaiting_approval")
    assert [(wait["code"], wait["until"]) for wait in commission["waits_for"]] == [
        ("approval", silence),
        ("statement", f"{first_of_next.replace(day=20)}T00:00:00Z"),
    ]
    assert commission["expected_at"] == silence


def test_golden_schedule_less_than_the_minimum_is_carried_to_the_next_month(client: TestClient) -> None:
    """domain.md, 7: minimum 200,000 VND; 150,000 in the first month, 90,000 in the second: 240,000 are paid."""
    shop = Shop(client, time_zone="Asia/Ho_Chi_Minh")
    program = shop.a_program(payout_minimums=[{"amount_minor": 200_000, "currency": "VND"}])
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)

    def a_month(net: str) -> Json:
        shop.deliver(shop.order(coupon_codes=["LAN"], currency="VND", lines=[{"id": "1", "net": net}]))
        shop.advance(days=30)
        shop.post("/v1/jobs/settle", by="finance-maker")
        return dict(shop.get("/v1/me/commissions", by=lan["id"]).json()["data"][0]["waits_for"][0])

    asked = {"rail": "sandbox", "currency": "VND"}
    first = a_month("1500000")
    nobody = shop.post("/v1/payout-runs", asked, by="finance-maker")
    second = a_month("900000")
    run = shop.post("/v1/payout-runs", asked, by="finance-maker")

    assert (first["code"], first["short"]) == ("minimum_payout", {"amount_minor": 50_000, "currency": "VND"})
    assert (nobody.status_code, nobody.json()["code"]) == (409, "payout-run-empty")
    assert (second["code"], second["short"]) == ("payout_run", None)
    assert run.status_code == 201
    [payout] = shop.get("/v1/me/payouts", by=lan["id"]).json()["data"]
    assert payout["net"] == {"amount_minor": 240_000, "currency": "VND"}


def test_an_advance_is_shown_as_what_it_is_owed(shop: Shop) -> None:
    late = {
        "kind": "statement",
        "start": "paid",
        "pay_day": 1,
        "approval": "manual",
        "advance": {"rate": "62.5"},
    }
    program = shop.a_program(settlement=late)
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)
    shop.deliver(shop.order(coupon_codes=["LAN"]))
    early = shop.post("/v1/jobs/settle", by="finance-maker").json()
    shop.advance(days=32)

    done = shop.post("/v1/jobs/settle", by="finance-maker").json()

    earned = _earnings(shop, lan)
    [balance] = shop.get("/v1/balances").json()["data"]
    [posting] = shop.get("/v1/ledger/postings", account="advance").json()["data"]
    shown = ("pending", "payable", "advance")
    assert program["version_in_force"]["terms"]["settlement"]["advance"] == {"rate": "62.5"}
    assert (early, done) == ({"settled": 0, "advanced": 0}, {"settled": 0, "advanced": 1})
    assert [earned[name]["amount_minor"] for name in (*shown, "lifetime")] == [1000, 625, -625, 1000]
    assert [balance[name]["amount_minor"] for name in (*shown, "earned")] == [1000, 625, -625, 1000]
    assert (posting["debit"]["kind"], posting["credit"]["kind"]) == ("advance", "payable")


def test_the_calendar_has_the_day_of_all_that_has_one(shop: Shop, lan: Json) -> None:
    shop.deliver(shop.order("second", coupon_codes=["LAN"], placed_at=shop.time(days=2)))
    shop.deliver(shop.order("unpaid", coupon_codes=["LAN"], milestones={}))
    held = shop.order("disputed", coupon_codes=["LAN"])
    shop.deliver(held)
    commission = shop.get("/v1/commissions").json()["data"][0]
    shop.post(f"/v1/commissions/{commission['id']}/hold", {"reason_code": "fraud_suspected"})
    [first] = shop.get("/v1/me/commissions", by=lan["id"], order_id=_order_id(shop, lan, "first")).json()["data"]

    [usd] = shop.get("/v1/me/calendar", by=lan["id"]).json()["data"]
    [soon] = shop.get("/v1/me/calendar", by=lan["id"], days=13).json()["data"]

    def amounts(days: list[Json]) -> list[int]:
        return [each["amount"]["amount_minor"] for each in days]

    assert amounts(usd["days"]) == [1000, 1000]
    assert usd["days"][1]["day"] == datetime.fromisoformat(first["expected_at"]).date().isoformat()
    assert usd["later"]["amount_minor"] == 0
    assert [(each["reason_code"], each["amount"]["amount_minor"]) for each in usd["unknown"]] == [
        ("awaiting_milestone", 1000),
        ("hold_open", 1000),
    ]
    assert (amounts(soon["days"]), soon["later"]["amount_minor"]) == ([1000], 1000)


def test_what_is_overdue_is_expected_today(shop: Shop, lan: Json) -> None:
    shop.advance(days=20)

    [usd] = shop.get("/v1/me/calendar", by=lan["id"]).json()["data"]

    assert usd["days"] == [{"day": shop.now().date().isoformat(), "amount": {"amount_minor": 1000, "currency": "USD"}}]


def test_the_calendar_knows_no_day_for_what_is_above_an_approval(shop: Shop, lan: Json) -> None:
    [commission] = shop.get("/v1/commissions").json()["data"]
    shop.post(f"/v1/commissions/{commission['id']}/approve", {"amount": {"amount_minor": 400, "currency": "USD"}})

    [usd] = shop.get("/v1/me/calendar", by=lan["id"]).json()["data"]

    assert [each["amount"]["amount_minor"] for each in usd["days"]] == [400]
    assert [(each["reason_code"], each["amount"]["amount_minor"]) for each in usd["unknown"]] == [
        ("above_approved_amount", 600)
    ]


def _order_id(shop: Shop, who: Json, number: str) -> str:
    mine = shop.get("/v1/me/commissions", by=who["id"]).json()["data"]
    return next(str(each["order_id"]) for each in mine if each["order_number"] == number)


def test_the_links_of_a_commission_lead_to_its_explanation(shop: Shop, lan: Json) -> None:
    [commission] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    receipt = shop.get(commission["receipt_url"], by=lan["id"])
    attribution = shop.get(commission["attribution_url"], by=lan["id"])

    assert receipt.json()["receipt"]["target_minor"] == 1000
    assert attribution.json()["candidates"][0]["reason_code"] == "won"


def test_commissions_come_in_pages_newest_first(shop: Shop, lan: Json) -> None:
    for number in range(3):
        shop.deliver(shop.order(f"order {number}", coupon_codes=["LAN"]))

    first = shop.get("/v1/me/commissions", by=lan["id"], limit=3).json()
    second = shop.get("/v1/me/commissions", by=lan["id"], limit=3, cursor=first["next_cursor"]).json()

    names = [each["order_number"] for each in first["data"] + second["data"]]
    assert names == ["order 2", "order 1", "order 0", "first"]


def test_a_payout_comes_with_a_statement_that_adds_up(shop: Shop, lan: Json) -> None:
    shop.deliver(shop.order("second", coupon_codes=["LAN"]))
    _settled(shop)
    shop.deliver(shop.refund({"id": "first", "currency": "USD"}, "30.00"))
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")

    [payout] = shop.get("/v1/me/payouts", by=lan["id"]).json()["data"]
    statement = shop.get(payout["statement_url"], by=lan["id"]).json()

    assert (payout["state"], payout["net"]["amount_minor"]) == ("reserved", 1700)
    assert sorted(line["amount"]["amount_minor"] for line in statement["lines"]) == [-300, 1000, 1000]
    assert sum(line["amount"]["amount_minor"] for line in statement["lines"]) == payout["gross"]["amount_minor"]
    assert {line["order_number"] for line in statement["lines"]} == {"first", "second"}


def test_links_count_people_bots_and_orders_apart(shop: Shop, lan: Json) -> None:
    link = shop.a_link(lan)
    click = shop.click(link)
    shop.client.get(f"/r/{link['code']}", headers={"user-agent": "Googlebot/2.1"}, follow_redirects=False)
    shop.deliver(shop.order("by link", click_ids=[click]))

    [found] = shop.get("/v1/me/links", by=lan["id"]).json()["data"]

    assert found["short_url"] == link["short_url"]
    assert found["orders"] == 1
    assert found["bot_clicks"] == 1
    assert found["clicks"] + found["bot_clicks"] == 2


def test_coupons_count_the_orders_they_brought(shop: Shop, lan: Json) -> None:
    shop.a_coupon(lan, "UNUSED")
    shop.deliver(shop.order(coupon_codes=["lan"]))

    coupons = shop.get("/v1/me/coupons", by=lan["id"]).json()["data"]

    assert {coupon["code"]: coupon["orders"] for coupon in coupons} == {"LAN": 2, "UNUSED": 0}


def test_a_koc_sees_nothing_of_another(shop: Shop, lan: Json) -> None:
    shop.a_link(lan)
    _settled(shop)
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")
    [commission] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]
    [payout] = shop.get("/v1/me/payouts", by=lan["id"]).json()["data"]
    other = shop.an_affiliate("Minh")["id"]

    for name in ("commissions", "payouts", "links", "coupons"):
        assert shop.get(f"/v1/me/{name}", by=other).json()["data"] == []
    assert shop.get("/v1/me/earnings", by=other).json()["data"] == []
    assert shop.get("/v1/me/series", by=other).json()["data"] == []
    assert shop.get(commission["receipt_url"], by=other).status_code == 404
    assert shop.get(commission["attribution_url"], by=other).status_code == 404
    assert shop.get(payout["statement_url"], by=other).status_code == 404


@pytest.mark.parametrize("path", ["", "/earnings", "/series", "/commissions", "/payouts", "/links", "/coupons"])
def test_only_a_koc_s_own_key_opens_it(shop: Shop, path: str) -> None:
    assert shop.get(f"/v1/me{path}", by="admin").status_code == 403
    assert shop.client.get(f"/v1/me{path}").status_code == 401
