"""Codes, terms, receipts and attributions in words, in the language somebody asks for; of others nobody reads anything."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.domain.attribution import Reason
from service.domain.commission import CommissionReason, CommissionStatus
from tests.support.shop import Shop

Json = dict[str, Any]
RULES: Json = {"rules": [{"kind": "percent", "rate": "12.5", "match": {"categories": ["tea"]}}]}


@pytest.fixture
def lan(shop: Shop) -> Json:
    """Return a KOC with the coupon LAN, who takes part in the shop's programme."""
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    return lan


def _asked(shop: Shop, path: str, *, by: str, accept: str, **query: str) -> Response:
    return shop.client.get(path, params=query, headers={**shop.key_of(by), "Accept-Language": accept})


def _version(shop: Shop, rate: str, **terms: Any) -> Json:
    path = f"/v1/programs/{shop.program['id']}/versions"
    made: Json = shop.post(path, {"terms": {"rules": [{"kind": "percent", "rate": rate}], **terms}}).json()
    return made


@pytest.mark.parametrize("role", ["admin", "read", "ingest", "finance-maker", "finance-checker", "affiliate"])
def test_every_key_reads_what_statuses_and_reasons_mean(shop: Shop, lan: Json, role: str) -> None:
    by = lan["id"] if role == "affiliate" else role

    statuses = shop.get("/v1/commission-statuses", by=by).json()["data"]
    reasons = shop.get("/v1/reasons", by=by).json()

    assert [each["code"] for each in statuses] == [
        "pending",
        "approved",
        "payable",
        "in_payout",
        "paid",
        "held",
        "reversed",
        "rejected",
    ]
    assert {each["code"] for each in statuses} == set(CommissionStatus)
    payable = statuses[2]
    assert payable["label"] == {"en": "Settled", "vi": "Đã đối soát", "zh": "已结算"}
    assert payable["called"] == {
        "taobao": ["3"],
        "pdd": ["5"],
        "jd": ["payMonth set"],
        "tiktok": ["Settled"],
        "lazada": ["APPROVED, invoiced"],
        "accesstrade": ["APPROVED, invoiced"],
    }
    assert {each["code"] for each in reasons["attribution"]} == set(Reason)
    assert {each["code"] for each in reasons["commission"]} == set(CommissionReason)
    assert all(set(each["words"]) == {"en", "vi", "zh"} for each in reasons["commission"])


def test_words_are_for_those_with_a_key(client: TestClient, shop: Shop) -> None:
    assert client.get("/v1/reasons").status_code == 401
    assert shop.get("/v1/reasons", by="operator").status_code == 403


@pytest.mark.parametrize(
    ("query", "accept", "language"),
    [
        pytest.param({}, "", "en", id="nothing asked"),
        pytest.param({}, "vi-VN,vi;q=0.9,en;q=0.5", "vi", id="by the browser"),
        pytest.param({"language": "zh"}, "vi", "zh", id="by the query"),
        pytest.param({}, "fr", "en", id="one that we do not have"),
    ],
)
def test_terms_are_read_in_the_language_asked_for(
    shop: Shop, query: dict[str, str], accept: str, language: str
) -> None:
    program = shop.a_program(**RULES)
    path = f"/v1/programs/{program['id']}/versions/1/words"

    answer = _asked(shop, path, by="read", accept=accept, **query)

    told = answer.json()
    assert (told["program_id"], told["number"], told["language"]) == (program["id"], 1, language)
    assert (answer.headers["content-language"], answer.headers["vary"]) == (language, "Accept-Language")
    rule = {
        "en": "Rule 1: 12.5% of the value of goods of category “tea”.",
        "vi": "Quy tắc 1: 12,5% giá trị của sản phẩm thuộc danh mục “tea”.",
        "zh": "规则1：类目为“tea”的商品金额的12.5%。",
    }
    assert rule[language] in told["sections"][0]["sentences"]


def test_a_language_that_does_not_exist_is_refused(shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}/versions/1/words"

    answer = shop.get(path, language="fr")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert shop.get(path.replace("/1/", "/2/")).status_code == 404


def test_a_koc_reads_terms_only_of_programmes_it_takes_part_in(shop: Shop, lan: Json) -> None:
    other = shop.a_program()
    mine = f"/v1/programs/{shop.program['id']}/versions/1/words"
    stranger = shop.an_affiliate("Hoa", enrolled=False)

    assert shop.get(mine, by=lan["id"]).status_code == 200
    for who, program in ((stranger, shop.program), (lan, other)):
        assert shop.get(f"/v1/programs/{program['id']}/versions/1/words", by=who["id"]).status_code == 404
        assert shop.get(f"/v1/me/programs/{program['id']}/terms", by=who["id"]).status_code == 404
    enrollments = f"/v1/affiliates/{lan['id']}/enrollments"
    [enrolled] = shop.get(enrollments).json()["data"]
    assert shop.post(f"{enrollments}/{enrolled['id']}/end").is_success
    shop.advance(minutes=10)
    assert shop.get(mine, by=lan["id"]).status_code == 404


def test_a_koc_reads_what_counts_now_and_when_a_cut_reaches_it(shop: Shop, lan: Json) -> None:
    path = f"/v1/me/programs/{shop.program['id']}/terms"
    before = shop.get(path, by=lan["id"]).json()
    second = _version(shop, "8", notice_days=5)
    announced = shop.get(path, by=lan["id"]).json()
    shop.advance(days=1)
    third = _version(shop, "6")
    waiting = shop.get(path, by=lan["id"], language="vi").json()

    assert [(each["number"], each["standing"], each["until"]) for each in before["counting"]] == [(1, "in_force", None)]
    assert before["upcoming"] is None
    assert before["words"] == ["Orders placed now count by version 1."]
    begins = datetime.fromisoformat(second["valid_from"])
    cut = begins + timedelta(days=30)
    upcoming = announced["upcoming"]
    assert (upcoming["number"], datetime.fromisoformat(upcoming["valid_from"])) == (2, begins)
    assert datetime.fromisoformat(upcoming["worse_from"]) == cut
    assert "Rule 1: 8% of the value of all goods." in upcoming["sections"][0]["sentences"]
    counting = [
        (each["number"], each["standing"], datetime.fromisoformat(each["until"])) for each in waiting["counting"]
    ]
    next_begins = datetime.fromisoformat(third["valid_from"])
    assert counting == [(2, "in_force", next_begins + timedelta(days=5)), (1, "protected", cut)]
    # The notice of the first version outlasts that of the second.
    assert datetime.fromisoformat(waiting["upcoming"]["worse_from"]) == cut
    assert waiting["words"][0] == "Mỗi đơn đặt bây giờ được tính theo phiên bản có lợi nhất cho bạn trong số: 2 hoặc 1."


def test_what_is_told_about_a_cut_is_what_an_order_earns(shop: Shop, lan: Json) -> None:
    _version(shop, "8")
    path = f"/v1/me/programs/{shop.program['id']}/terms"
    cut = datetime.fromisoformat(shop.get(path, by=lan["id"]).json()["upcoming"]["worse_from"])
    shop.advance(days=40)
    for number, placed_at in (("before", cut - timedelta(seconds=1)), ("after", cut)):
        shop.an_order(number, coupon_codes=["LAN"], placed_at=placed_at.isoformat())

    after, before = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    assert (before["order_number"], before["target"]["amount_minor"]) == ("before", 1000)
    assert (after["order_number"], after["target"]["amount_minor"]) == ("after", 800)


def test_a_newcomer_gets_the_new_terms_alone(shop: Shop, lan: Json) -> None:
    _version(shop, "8")
    shop.advance(days=1)
    shop.an_order(coupon_codes=["LAN"])
    new = shop.an_affiliate("New")
    shop.advance(minutes=10)
    path = f"/v1/me/programs/{shop.program['id']}/terms"

    counting = [each["number"] for each in shop.get(path, by=new["id"]).json()["counting"]]
    kept = [each["number"] for each in shop.get(path, by=lan["id"]).json()["counting"]]

    assert (counting, kept) == ([2], [2, 1])


def test_terms_show_a_date_of_the_shop_s_own_calendar(client: TestClient) -> None:
    shop = Shop(client, time_zone="Asia/Ho_Chi_Minh")
    lan = shop.an_affiliate("Lan")

    told = shop.get(f"/v1/me/programs/{shop.program['id']}/terms", by=lan["id"]).json()

    [settlement] = [each for each in told["counting"][0]["sections"] if each["part"] == "settlement"]
    there = shop.now() + timedelta(hours=7)
    pays = there + timedelta(days=14)
    assert f"is paid on {there.day} {there:%b} {there.year}," in settlement["sentences"][2]
    assert settlement["sentences"][2].endswith(f"payable on {pays.day} {pays:%b} {pays.year}.")


def test_before_the_first_terms_begin_nothing_counts(shop: Shop) -> None:
    later = (shop.now() + timedelta(days=3)).replace(microsecond=0)
    program = shop.a_program(valid_from=later)
    lan = shop.an_affiliate("Lan", program=program)

    told = shop.get(f"/v1/me/programs/{program['id']}/terms", by=lan["id"]).json()

    assert told["counting"] == []
    assert told["upcoming"]["worse_from"] == told["upcoming"]["valid_from"]
    assert told["words"][0] == "No terms are in force now."


def test_a_commission_says_in_words_where_it_stands_and_why(shop: Shop, lan: Json) -> None:
    shop.an_order("paid", coupon_codes=["LAN"])
    shop.an_order("unpaid", coupon_codes=["LAN"], milestones={})

    unpaid, paid = shop.get("/v1/me/commissions", by=lan["id"], language="zh").json()["data"]

    assert (paid["status_words"], paid["reason_words"]) == ("待结算", "等待退货期结束后结算。")
    assert unpaid["reason_words"] == "等待订单按推广计划条款完成付款、发货、签收或交易完成。"


def test_a_receipt_is_read_line_by_line_by_koc_and_merchant(shop: Shop, lan: Json) -> None:
    order = shop.order("first", coupon_codes=["LAN"], lines=[{"id": "1", "sku": "TEA", "net": "33.33"}])
    shop.deliver(order)
    shop.deliver(shop.refund(order, "0.08"))
    [mine] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    told = _asked(shop, mine["receipt_url"], by=lan["id"], accept="vi").json()["words"]

    assert told == [
        "Tính theo phiên bản 1 của điều khoản, có hiệu lực khi đặt đơn.",
        "Dòng hàng 1 (mã SKU TEA): đặt 33,33 USD, hoàn 0,08 USD; cơ sở tính là 33,25 USD.",
        "Quy tắc 1: 10% của 33,25 USD là đúng 3,325 USD.",
        "Dòng hàng 1 (mã SKU TEA) cộng lại đúng 3,325 USD, làm tròn thành 3,33 USD.",
        "Tổng tất cả dòng hàng: 3,33 USD.",
        "Hoa hồng là 3,33 USD.",
    ]
    receipt = f"/v1/commissions/{mine['id']}/receipt"
    assert shop.get(receipt, language="vi").json()["words"] == told
    assert shop.get(receipt).json()["words"][-1] == "The commission is 3.33 USD."


def test_a_commission_without_a_receipt_says_why_it_is_nothing(shop: Shop, lan: Json) -> None:
    hoa = shop.an_affiliate("Hoa")
    order = shop.an_order("first", coupon_codes=["LAN"])
    path = f"/v1/orders/{order['order_id']}/attribution"
    assert shop.post(path, {"affiliate_id": hoa["id"], "reason_code": "wrong_affiliate"}).is_success
    [mine] = shop.get("/v1/me/commissions", by=lan["id"]).json()["data"]

    told = shop.get(mine["receipt_url"], by=lan["id"]).json()

    assert told["receipt"] == {}
    assert told["words"] == [
        "The order does not count for you any more: by what is known now somebody else brought it, or nobody did."
    ]


def test_an_attribution_says_why_in_words_and_to_a_koc_nothing_of_others(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh")
    shop.a_coupon(minh, "MINH")
    order = shop.an_order("both", coupon_codes=["LAN", "MINH", "NOBODYS"])
    path = f"/v1/orders/{order['order_id']}/attribution"
    winner = shop.get(path).json()["affiliate_id"]
    [loser] = {lan["id"], minh["id"]} - {winner}

    shown = shop.get(path).json()
    won = shop.get(path, by=winner).json()
    lost = shop.get(path, by=loser, language="vi").json()

    by_owner = {each["affiliate_id"]: each["words"] for each in shown["candidates"]}
    assert shown["words"] == by_owner[winner] == "This brought the order, so the commission counts for it."
    assert by_owner[None] == "The order carried a code that belongs to no KOC."
    assert won["words"] == "This order counts for you."
    assert lost["words"].startswith("Đơn này được tính cho KOC khác;")
    [own] = lost["candidates"]
    assert own["words"] == "Một lượt bấm hoặc mã sau đó được tính: lần cuối cùng trước khi đặt đơn sẽ thắng."
    secret = {winner, "lan" if loser == minh["id"] else "minh"}
    assert not any(f'"{word}"' in str(lost).replace("'", '"') for word in secret)


def test_a_decision_is_told_from_each_side(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh")
    order = shop.an_order("first", coupon_codes=["LAN"])
    path = f"/v1/orders/{order['order_id']}/attribution"

    decided = shop.client.post(
        path,
        json={"affiliate_id": minh["id"], "reason_code": "wrong_affiliate"},
        headers={**shop.key_of("admin"), "Accept-Language": "zh"},
    )

    assert decided.json()["words"] == "该订单的归属由商家人工决定。"
    assert shop.get(path, by=minh["id"]).json()["words"] == (
        "A person at the shop decided that this order counts for you."
    )
    assert shop.get(path, by=lan["id"]).json()["words"] == (
        "A person at the shop decided that this order does not count for you."
    )


def test_a_touch_that_came_too_early_says_from_when_on_it_would_count(shop: Shop) -> None:
    start = (shop.now() + timedelta(hours=1)).replace(second=0, microsecond=0)
    late = shop.an_affiliate("Late", enrolled=False)
    asked = {"program_id": shop.program["id"], "valid_from": start.isoformat()}
    shop.post(f"/v1/affiliates/{late['id']}/enrollments", asked)
    shop.a_coupon(late, "LATE")
    order = shop.an_order("early", coupon_codes=["LATE"])

    [candidate] = shop.get(f"/v1/orders/{order['order_id']}/attribution").json()["candidates"]

    assert candidate["words"] == (
        "The KOC did not take part in the programme when the order was placed. "
        f"For orders placed from {start.day} {start:%b} {start.year}, {start:%H:%M} on it is different."
    )


def test_a_shared_order_shows_a_koc_its_own_part_and_nothing_of_others(shop: Shop) -> None:
    linear = shop.a_program(attribution={"model": "linear"})
    kocs = [shop.an_affiliate(name, program=linear) for name in ("LAN77", "MINH77", "HOA77")]
    for koc in kocs:
        shop.a_coupon(koc, koc["name"], program=linear)
    order = shop.an_order("shared", coupon_codes=["LAN77", "MINH77", "HOA77"])
    path = f"/v1/orders/{order['order_id']}/attribution"

    shown = shop.get(path).json()
    mine = {koc["id"]: shop.get(path, by=koc["id"]).json() for koc in kocs}
    coupons = {koc["id"]: shop.get("/v1/me/coupons", by=koc["id"]).json()["data"][0]["orders"] for koc in kocs}

    assert shown["words"] == "Several share this order: below is what part each has."
    assert [(each["chosen"], each["weight"]) for each in shown["candidates"]] == [(True, "1/3")] * 3
    for koc in kocs:
        told = mine[koc["id"]]
        assert (told["affiliate_id"], told["program_id"], told["program_version"]) == (koc["id"], linear["id"], 1)
        assert told["words"] == "A part of this order counts for you."
        [own] = told["candidates"]
        assert (own["affiliate_id"], own["chosen"], own["weight"]) == (koc["id"], True, "1/3")
        assert own["words"] == "This brought the order, so the commission counts for it. Its part is 1/3."
        secrets = {each[name] for each in kocs if each is not koc for name in ("id", "name")}
        receipt = shop.get(shop.get("/v1/me/commissions", by=koc["id"]).json()["data"][0]["receipt_url"], by=koc["id"])
        assert not any(secret.lower() in f"{told} {receipt.json()}".lower() for secret in secrets)
        assert "Of the commission on this order 1/3 counts here." in receipt.json()["words"]
    assert coupons == {koc["id"]: 1 for koc in kocs}


def test_a_touch_that_lost_has_no_part(shop: Shop, lan: Json) -> None:
    order = shop.an_order("lost", coupon_codes=["LAN", "NOBODYS"])

    told = shop.get(f"/v1/orders/{order['order_id']}/attribution", by=lan["id"]).json()
    both = shop.get(f"/v1/orders/{order['order_id']}/attribution").json()

    assert told["words"] == "This order counts for you."
    assert [each["weight"] for each in both["candidates"]] == ["1", None]


def test_terms_name_agencies_to_everybody_and_kocs_to_the_merchant_alone(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh")
    star = shop.post("/v1/affiliates", {"name": "Star MCN", "kind": "agency"}).json()
    rule = {"kind": "percent", "rate": "12", "when": {"all": [{"kind": "affiliate", "in": [minh["id"]]}]}}
    agent = {"payee_id": star["id"], "fee": "5", "approved_at": "2026-01-01T00:00:00Z"}
    program = shop.a_program(rules=[rule | {"plan": "exclusive", "priority": 1, "agent": agent}])
    for koc in (lan, minh):
        shop.post(
            f"/v1/affiliates/{koc['id']}/enrollments", {"program_id": program["id"], "valid_from": shop.time(days=1)}
        )
    path = f"/v1/programs/{program['id']}/versions/1/words"

    def told(by: str) -> str:
        return str(shop.get(path, by=by).json()["sections"])

    own = str(shop.get(f"/v1/me/programs/{program['id']}/terms", by=lan["id"]).json())
    assert "the KOC is “Minh”" in told("admin")
    assert "Star MCN" in told("admin")
    assert "whom the shop names for it (you are)" in told(minh["id"])
    for seen in (told(lan["id"]), own):
        assert "whom the shop names for it (you are not)" in seen
        assert "Star MCN" in seen
        assert "Minh" not in seen
        assert minh["id"] not in seen


def test_a_period_is_explained_by_its_sums(shop: Shop) -> None:
    ladder = {
        "kind": "ladder",
        "key": "climb",
        "period": "year",
        "steps": [{"from": [{"amount_minor": 5000, "currency": "USD"}], "rate": "10"}],
    }
    program = shop.a_program(periods=[ladder, {"kind": "cap", "key": "most", "period": "day", "amounts": [_usd(400)]}])
    hoa = shop.an_affiliate("Hoa", program=program)
    shop.a_coupon(hoa, "HOA", program=program)
    shop.an_order("first", coupon_codes=["HOA"])

    mine = shop.get("/v1/me/commissions", by=hoa["id"]).json()["data"]
    by_rule = {each["period"]["rule"]: each for each in mine if each["period"]}
    words = {rule: shop.get(each["receipt_url"], by=hoa["id"]).json()["words"] for rule, each in by_rule.items()}

    assert by_rule["climb"]["reason_words"] == "A bonus for the orders of a period; it is settled as they are."
    assert words["climb"][1:] == [
        "Waiting: 1 order, sales 100.00 USD, commissions 10.00 USD.",
        "What is settled gives 0.00 USD, with what waits 5.00 USD more, with what is on hold 0.00 USD more.",
        "The bonus is 5.00 USD.",
    ]
    assert words["most"][0] == "Period rule “most”: within one day your commissions come to at most 4.00 USD."
    assert words["most"][-1] == "Above the cap 6.00 USD is taken back."


def _usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}
