"""Bonuses and corrections through the API: once each, shown everywhere, and gone with a rejection."""

from typing import Any

import pytest

from tests.support.shop import Shop

Json = dict[str, Any]


@pytest.fixture
def lan(shop: Shop) -> Json:
    """Return Lan, who earns 10.00 USD on the order 1001."""
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    shop.an_order("1001", coupon_codes=["LAN"])
    return lan


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


def the_commission(shop: Shop, **query: Any) -> Json:
    [found] = shop.get("/v1/commissions", **query).json()["data"]
    return dict(found)


def test_a_bonus_is_a_commission_of_its_own_and_payable_at_once(shop: Shop, lan: Json) -> None:
    asked = {"affiliate_id": lan["id"], "amount": usd(2_500), "reason_code": "campaign_bonus", "note": "Tet"}

    answer = shop.post("/v1/commissions", asked)

    bonus = answer.json()
    assert answer.status_code == 201
    assert (bonus["target"], bonus["reason_code"], bonus["status"]) == (usd(2_500), "adjusted_by_merchant", "approved")
    assert (bonus["placed_at"], bonus["program_id"]) == (None, None)
    shop.post("/v1/jobs/settle", by="finance-maker")
    settled = shop.get(f"/v1/commissions/{bonus['id']}").json()
    assert (settled["status"], settled["reason_code"]) == ("payable", "earned")
    mine = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]
    assert [each["target"]["amount_minor"] for each in mine] == [2_500, 1_000]
    receipt = shop.get(f"/v1/me/commissions/{bonus['id']}/receipt", by=lan["id"])
    [line] = receipt.json()["receipt"]["adjustments"]
    assert (line["amount_minor"], line["reason_code"], line["counts"]) == (2_500, "campaign_bonus", True)
    assert "Tet" not in receipt.text


def test_a_bonus_is_no_order_and_nothing_waits_for_one(shop: Shop, lan: Json) -> None:
    bonus = shop.post(
        "/v1/commissions", {"affiliate_id": lan["id"], "amount": usd(1), "reason_code": "goodwill"}
    ).json()
    held = shop.post(f"/v1/commissions/{bonus['id']}/hold", {"reason_code": "quality_check"}).json()

    assert held["status"] == "held"
    assert [each["external_id"] for each in shop.get("/v1/orders").json()["data"]] == ["1001"]
    assert shop.get("/v1/orders", waiting="true").json()["data"] == []
    [row] = shop.get("/v1/orders", status="bonus").json()["data"]
    assert (row["id"], row["status"]) == (bonus["order_id"], "bonus")
    assert row["external_id"].startswith("adj_")
    assert shop.get("/v1/inbox", state="waiting").json()["data"] == []
    timeline = shop.get(f"/v1/orders/{bonus['order_id']}/timeline").json()["entries"]
    assert any("decided: adjust by 0.01 USD (goodwill)." in entry["text"] for entry in timeline)


def test_a_first_bonus_does_not_end_the_time_in_which_history_may_be_given(shop: Shop) -> None:
    lan = shop.an_affiliate("Lan")

    shop.post("/v1/commissions", {"affiliate_id": lan["id"], "amount": usd(1), "reason_code": "fixed_fee"})

    assert shop.get("/v1/merchant").json()["first_order_at"] is None


def test_a_correction_changes_the_orders_commission_and_a_later_refund_does_not_undo_it(shop: Shop, lan: Json) -> None:
    order = the_commission(shop)["order_id"]
    asked = {"affiliate_id": lan["id"], "order_id": order, "reason_code": "wrong_amount"}

    more = shop.post("/v1/commissions", {**asked, "amount": usd(300)}).json()
    less = shop.post("/v1/commissions", {**asked, "amount": usd(-500)}).json()
    shop.deliver(shop.refund({"id": "1001", "currency": "USD"}, "50.00"))

    assert (more["id"], more["target"], more["reason_code"]) == (
        the_commission(shop)["id"],
        usd(1_300),
        "in_hold_period",
    )
    assert less["target"] == usd(800)
    assert the_commission(shop)["target"] == usd(300)


def test_an_external_id_is_told_once(shop: Shop, lan: Json) -> None:
    order = the_commission(shop)["order_id"]
    bonus = {"affiliate_id": lan["id"], "amount": usd(700), "reason_code": "goodwill", "external_id": "tet"}

    made = [shop.post("/v1/commissions", body).json() for body in (bonus, bonus)]
    added = [shop.post("/v1/commissions", {**bonus, "order_id": order}).json() for _ in (1, 2)]
    otherwise = shop.post("/v1/commissions", {**bonus, "amount": usd(701)})

    assert made[0] == made[1]
    assert [each["target"] for each in added] == [usd(1_700), usd(1_700)]
    assert (otherwise.status_code, otherwise.json()["code"]) == (409, "adjusted-otherwise")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"amount": usd(0)}, id="nothing"),
        pytest.param({"amount": usd(-1)}, id="taken from nothing"),
        pytest.param({"reason_code": "fraud"}, id="no such reason"),
        pytest.param({"reason_code": "cancelled"}, id="a reason of rejections"),
        pytest.param({"reason_code": "other"}, id="other without a note"),
        pytest.param({"evidence": ["http://files.example/1"]}, id="evidence without TLS"),
        pytest.param({"evidence": ["https://ann:secret@files.example/1"]}, id="evidence with a password"),
        pytest.param({"evidence": [f"https://files.example/{number}" for number in range(11)]}, id="too much evidence"),
    ],
)
def test_what_is_no_bonus_is_refused(shop: Shop, lan: Json, wrong: Json) -> None:
    asked = {"affiliate_id": lan["id"], "amount": usd(5), "reason_code": "goodwill"}

    answer = shop.post("/v1/commissions", {**asked, **wrong})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


def test_only_what_is_here_is_adjusted(shop: Shop, lan: Json) -> None:
    shop.deliver(shop.refund({"id": "9999", "currency": "USD"}, "5.00"))
    [waiting] = shop.get("/v1/orders", waiting="true").json()["data"]
    asked = {"affiliate_id": lan["id"], "amount": usd(5), "reason_code": "goodwill"}

    answers = [
        shop.post("/v1/commissions", {**asked, "order_id": waiting["id"]}),
        shop.post("/v1/commissions", {**asked, "order_id": "ord_01h455vb4pex5vsknk084sn02q"}),
        shop.post("/v1/commissions", {**asked, "affiliate_id": "aff_01h455vb4pex5vsknk084sn02q"}),
        shop.post("/v1/commissions", asked, by="finance-maker"),
    ]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [
        (409, "order-not-here"),
        (404, "unknown-order"),
        (404, "not-found"),
        (403, "missing-scope"),
    ]


def test_a_batch_adjusts_and_keeps_notes_and_evidence(shop: Shop, lan: Json) -> None:
    commission = the_commission(shop)
    item = {"commission_id": commission["id"], "decision": "adjust", "reason_code": "goodwill"}
    said = {"note": "as agreed by phone", "evidence": ["https://files.example/1"]}

    body = shop.post(
        "/v1/commissions/bulk",
        {
            "items": [
                {**item, "amount": usd(-200), **said},
                {**item},
                {**item, "amount": {"amount_minor": 1, "currency": "VND"}},
                {**item, "decision": "reject", "reason_code": "goodwill"},
                {**item, "decision": "approve", "reason_code": "checked", "amount": usd(-1)},
            ]
        },
    ).json()

    assert [each["status"] for each in body["results"]] == [200, 422, 409, 422, 422]
    assert the_commission(shop)["target"] == usd(800)
    entries = shop.get(f"/v1/orders/{commission['order_id']}/timeline").json()["entries"]
    [decision] = [each["data"]["payload"] for each in entries if each["data"].get("fact") == "decision"]
    assert {name: decision[name] for name in said} == said
    assert lan["id"] == commission["affiliate_id"]


def test_what_people_say_of_a_hold_stays_with_it(shop: Shop, lan: Json) -> None:
    commission = the_commission(shop, affiliate_id=lan["id"])
    path = f"/v1/commissions/{commission['id']}"

    shop.post(f"{path}/hold", {"reason_code": "other", "note": "odd hours", "evidence": ["https://files.example/1"]})
    shop.post(f"{path}/release", {"note": "he works nights", "evidence": ["https://files.example/2"]})

    entries = shop.get(f"/v1/orders/{commission['order_id']}/timeline").json()["entries"]
    [hold] = [each["data"]["payload"] for each in entries if each["data"].get("fact") == "hold"]
    assert (hold["note"], hold["release_note"]) == ("odd hours", "he works nights")
    assert hold["evidence"] == ["https://files.example/1", "https://files.example/2"]


def test_receipts_of_adjusted_orders_and_of_bonuses_are_computed_again(shop: Shop, lan: Json) -> None:
    commission = the_commission(shop)
    asked = {"affiliate_id": lan["id"], "amount": usd(300), "reason_code": "goodwill"}
    shop.post("/v1/commissions", {**asked, "order_id": commission["order_id"]})
    bonus = shop.post("/v1/commissions", asked).json()

    for one in (commission, bonus):
        told = shop.get(f"/v1/commissions/{one['id']}/receipt").json()
        said = {"receipt": told["receipt"], "terms": told["terms"]}
        forged = {**said, "receipt": {**told["receipt"], "target_minor": 1}}
        assert shop.post("/v1/receipts/verify", said).json() == {"holds": True, "differences": []}
        [difference] = shop.post("/v1/receipts/verify", forged).json()["differences"]
        assert difference["pointer"] == "/target_minor"
    rules = shop.get(f"/v1/commissions/{commission['id']}/receipt").json()["receipt"]
    assert shop.post("/v1/receipts/verify", {"receipt": rules, "terms": None}).json()["code"] == "invalid-receipt"
    broken = shop.post(
        "/v1/receipts/verify", {"receipt": {"kind": "adjustments", "currency": "USD", "adjustments": []}}
    )
    assert broken.json()["errors"][0]["pointer"].startswith("#/receipt/")


def test_a_bonus_leaves_its_trace_without_the_note(shop: Shop, lan: Json) -> None:
    asked = {"affiliate_id": lan["id"], "amount": usd(5), "reason_code": "other", "note": "for Mrs Nguyen"}

    bonus = shop.post("/v1/commissions", asked).json()

    answer = shop.get("/v1/audit", subject=bonus["id"])
    [change] = answer.json()["data"]
    assert change["operation"] == "create_commission"
    assert change["after"]["adjustment"]["amount"] == usd(5)
    assert "Nguyen" not in answer.text
