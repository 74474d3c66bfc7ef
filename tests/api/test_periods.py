"""Rules over periods, as a merchant and a KOC see them."""

from typing import Any

from tests.support.shop import Shop

Json = dict[str, Any]


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


PERIODS: list[Json] = [
    {
        "kind": "ladder",
        "key": "volume",
        "period": "year",
        "steps": [{"from": [usd(10_000)], "rate": "2"}, {"from": [usd(20_000)], "rate": "5"}],
    },
    {"kind": "milestones", "key": "third", "period": "year", "marks": [{"orders": 3, "pays": [usd(700)]}]},
]


def sold(shop: Shop, name: str, net: str, **parts: Any) -> Json:
    order = shop.order(name, coupon_codes=["LAN"], lines=[{"id": "1", "net": net}], **parts)
    shop.deliver(order)
    return order


def of_rule(shop: Shop, rule: str, *, by: str = "admin") -> Json:
    path = "/v1/commissions" if by == "admin" else "/v1/me/commissions"
    [found] = [
        each for each in shop.get(path, by=by).json()["data"] if each["period"] and each["period"]["rule"] == rule
    ]
    return dict(found)


def test_a_ladder_and_a_mark_follow_their_orders_to_the_payout(shop: Shop) -> None:
    program = shop.a_program(periods=PERIODS)
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)

    sold(shop, "a", "90.00")
    assert [each for each in shop.get("/v1/commissions").json()["data"] if each["period"]] == []
    second = sold(shop, "b", "160.00")
    volume = of_rule(shop, "volume")
    # 2 % from 100 to 200, 5 % above: 2.00 and 2.50.
    assert (volume["target"], volume["status"], volume["order_id"]) == (usd(450), "approved", None)
    assert volume["places"]["pending"] == usd(450)
    assert (volume["reason_code"], volume["program_id"]) == ("period_bonus", program["id"])
    sold(shop, "c", "10.00")
    assert of_rule(shop, "third")["target"] == usd(700)
    shop.deliver(shop.refund(second, "110.00", lines=[{"line_id": "1", "net": "110.00"}]))
    assert of_rule(shop, "volume")["target"] == usd(100)
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")

    assert {rule: of_rule(shop, rule)["status"] for rule in ("volume", "third")} == {
        "volume": "payable",
        "third": "payable",
    }
    [balance] = [each for each in shop.get("/v1/balances").json()["data"] if each["currency"] == "USD"]
    assert balance["payable"] == usd(1_500 + 100 + 700)


def test_a_period_shows_its_sums_its_rules_and_its_receipt_holds(shop: Shop) -> None:
    program = shop.a_program(periods=PERIODS)
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)
    sold(shop, "a", "120.00")

    periods = {each["rule"]: each for each in shop.get("/v1/me/periods", by=lan["id"]).json()["data"]}
    mine = of_rule(shop, "volume", by=lan["id"])
    told = shop.get(f"/v1/me/commissions/{mine['id']}/receipt", by=lan["id"]).json()

    assert periods["volume"]["pending"] == {"commission": usd(1_200), "sales": usd(12_000), "orders": 1}
    assert periods["third"]["rules"][0]["marks"][0]["orders"] == 3
    assert shop.get("/v1/periods", affiliate_id=lan["id"]).json()["data"] == list(periods.values())
    assert told["receipt"]["kind"] == "period"
    assert told["receipt"]["gives"] == {"pending_minor": 40, "held_minor": 0, "settled_minor": 0}
    said = {"receipt": told["receipt"], "terms": None}
    assert shop.post("/v1/receipts/verify", said).json() == {"holds": True, "differences": []}
    forged = {**said, "receipt": {**told["receipt"], "target_minor": 41}}
    [difference] = shop.post("/v1/receipts/verify", forged).json()["differences"]
    assert (difference["pointer"], difference["said"], difference["computed"]) == ("/target_minor", 41, 40)


def test_a_cap_takes_back_and_nobody_decides_about_it(shop: Shop) -> None:
    cap = {"kind": "cap", "key": "most", "period": "day", "amounts": [usd(1_000)]}
    program = shop.a_program(periods=[cap])
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)
    at = shop.time(hours=1)
    sold(shop, "a", "80.00", placed_at=at)
    sold(shop, "b", "70.00", placed_at=at)

    taken = of_rule(shop, "most")
    decided = shop.post(f"/v1/commissions/{taken['id']}/hold", {"reason_code": "fraud_suspected"})

    assert (taken["target"], taken["reason_code"]) == (usd(-500), "period_cap")
    assert (decided.status_code, decided.json()["code"]) == (409, "commission-of-period")
    [balance] = [each for each in shop.get("/v1/balances").json()["data"] if each["currency"] == "USD"]
    assert balance["pending"] == usd(1_000)
