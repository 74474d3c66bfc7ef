"""What a merchant reads: orders, commissions, balances, postings, deliveries, events, reports."""

import csv
import io
import re
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.clock import utc_now
from service.infra.db import run_unit
from service.infra.ids import decode
from service.ledger.chain import chain
from tests.support.shop import Shop
from tests.support.workbooks import sheets_of

Json = dict[str, Any]


@pytest.fixture
def told(shop: Shop) -> Json:
    """Return a shop's story: Lan earned 10.00, half of it given back, settled and paid; a refund came before its order."""
    lan, minh = shop.an_affiliate("Lan"), shop.an_affiliate("Minh")
    shop.a_coupon(lan, "LAN")
    shop.a_coupon(minh, "MINH")
    order = shop.order("first", coupon_codes=["LAN", "NOBODY"])
    shop.deliver(order)
    shop.deliver(shop.refund(order, "50.00", "back"))
    shop.deliver(shop.refund({"id": "never seen", "currency": "USD"}, "5.00"))
    shop.deliver(shop.order("second", coupon_codes=["MINH"]))
    shop.deliver(shop.order("third"))
    return {"lan": lan, "minh": minh}


def _one(shop: Shop, path: str, **query: Any) -> Json:
    [found] = shop.get(path, **query).json()["data"]
    return dict(found)


def _chained(engine: Engine, shop: Shop) -> None:
    """Chain what was booked, in the smallest blocks."""
    merchant_id = decode("mer", shop.id)
    while run_unit(engine, lambda session: chain(session, merchant_id, now=utc_now(), postings_max=1)).blocks:
        pass


def _settled(shop: Shop) -> None:
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle", by="finance-maker").json()["settled"] > 0


def test_orders_say_who_brought_them_and_what_they_wait_for(shop: Shop, told: Json) -> None:
    orders = {order["external_id"]: order for order in shop.get("/v1/orders", by="read").json()["data"]}

    assert {name: order["status"] for name, order in orders.items()} == {
        "first": "attributed",
        "second": "attributed",
        "third": "unattributed",
        "never seen": "waiting",
    }
    assert orders["first"]["net"] == {"amount_minor": 5000, "currency": "USD"}
    assert orders["first"]["goods"] == {"amount_minor": 10000, "currency": "USD"}
    assert orders["first"]["affiliate_id"] == told["lan"]["id"]
    assert orders["third"]["attribution_reason"] == "no_touch"
    assert orders["never seen"]["net"] is None


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"status": "waiting"}, ["never seen"]),
        ({"waiting": "true"}, ["never seen"]),
        ({"waiting": "false"}, ["third", "second", "first"]),
        ({"status": "attributed"}, ["second", "first"]),
        ({"external_id": "second"}, ["second"]),
        ({"placed_before": "2020-01-01T00:00:00Z"}, []),
    ],
)
def test_orders_are_narrowed(shop: Shop, told: Json, query: Json, names: list[str]) -> None:
    assert [order["external_id"] for order in shop.get("/v1/orders", **query).json()["data"]] == names


def test_orders_of_one_affiliate_come_in_pages(shop: Shop, told: Json) -> None:
    shop.deliver(shop.order("fourth", coupon_codes=["LAN"]))

    first = shop.get("/v1/orders", affiliate_id=told["lan"]["id"], limit=1).json()
    second = shop.get("/v1/orders", affiliate_id=told["lan"]["id"], limit=1, cursor=first["next_cursor"]).json()

    assert [order["external_id"] for order in first["data"] + second["data"]] == ["fourth", "first"]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)


def test_an_order_is_found_by_the_shop_s_own_id(shop: Shop, told: Json) -> None:
    shop.deliver(shop.order("with/a slash?", coupon_codes=["LAN"]))

    found = shop.get("/v1/orders/by-external-id/with/a slash%3F").json()

    assert found["external_id"] == "with/a slash?"
    assert shop.get(f"/v1/orders/{found['id']}").json() == found
    assert shop.get("/v1/orders/by-external-id/unheard of").json()["code"] == "unknown-order"


def test_a_person_says_who_brought_an_order_or_that_nobody_did(shop: Shop, told: Json) -> None:
    path = f"/v1/orders/{_one(shop, '/v1/orders', external_id='third')['id']}/attribution"

    credited = shop.post(path, {"affiliate_id": told["minh"]["id"], "reason_code": "missing_touch"})
    nobody = shop.post(path, {"affiliate_id": None, "reason_code": "decided_by_mistake"})
    stranger = shop.post(path, {"affiliate_id": "aff_01h455vb4pex5vsknk084sn02q", "reason_code": "decided_by_mistake"})

    assert (credited.json()["affiliate_id"], credited.json()["reason_code"]) == (told["minh"]["id"], "decided")
    assert (nobody.json()["affiliate_id"], nobody.json()["reason_code"]) == (None, "decided")
    assert (stranger.status_code, stranger.json()["code"]) == (404, "unknown-order")
    assert shop.post(path, {"affiliate_id": None, "reason_code": "decided_by_mistake"}, by="read").status_code == 403


def test_the_attribution_names_every_touch_and_why_it_won_or_lost(shop: Shop, told: Json) -> None:
    order = _one(shop, "/v1/orders", external_id="first")

    found = shop.get(f"/v1/orders/{order['id']}/attribution").json()

    assert found["affiliate_id"] == told["lan"]["id"]
    assert found["program_version"] == 1
    assert [(each["kind"], each["ref"], each["chosen"], each["reason_code"]) for each in found["candidates"]] == [
        ("coupon", "lan", True, "won"),
        ("coupon", "nobody", False, "unknown_coupon"),
    ]


def test_a_touch_that_lost_by_a_start_after_the_order_says_when_that_is(shop: Shop) -> None:
    later = (utc_now() + timedelta(hours=1)).replace(microsecond=0)
    start: Json = {"valid_from": later.isoformat()}
    lan, hoa = shop.an_affiliate("Lan"), shop.an_affiliate("Hoa", approved=False)
    bao, new = shop.an_affiliate("Bao", enrolled=False), shop.a_program(valid_from=later)
    shop.post(f"/v1/affiliates/{hoa['id']}/approve", start)
    shop.post(f"/v1/affiliates/{bao['id']}/enrollments", {"program_id": shop.program["id"], **start})
    shop.post(f"/v1/affiliates/{lan['id']}/enrollments", {"program_id": new["id"]})
    for affiliate, code in ((lan, "LAN"), (hoa, "HOA"), (bao, "BAO")):
        shop.a_coupon(affiliate, code)
    shop.a_coupon(lan, "NEW", program=new)
    shop.a_coupon(lan, "LATE", **start)
    shop.an_order("early", coupon_codes=["LAN", "HOA", "BAO", "NEW", "LATE", "NOBODYS"])
    order = _one(shop, "/v1/orders", external_id="early")

    found = shop.get(f"/v1/orders/{order['id']}/attribution").json()

    starts = {each["ref"]: (each["reason_code"], each["holds_from"]) for each in found["candidates"]}
    at = found["candidates"][1]["holds_from"]
    assert datetime.fromisoformat(at) == later
    assert starts == {
        "lan": ("won", None),
        "hoa": ("affiliate_not_approved", at),
        "bao": ("affiliate_not_enrolled", at),
        "new": ("no_terms_in_force", at),
        "late": ("no_owner", at),
        "nobodys": ("unknown_coupon", None),
    }


def test_an_affiliate_reads_why_it_lost_but_nothing_of_others(shop: Shop, told: Json) -> None:
    shop.deliver(shop.order("both", coupon_codes=["MINH", "LAN"]))
    order = _one(shop, "/v1/orders", external_id="both")
    path = f"/v1/orders/{order['id']}/attribution"
    winner = shop.get(path).json()["affiliate_id"]
    loser = next(each["id"] for each in told.values() if each["id"] != winner)
    stranger = shop.an_affiliate("Hoa", enrolled=False, approved=False)

    found = shop.get(path, by=loser).json()

    assert found["affiliate_id"] is None
    assert [(each["affiliate_id"], each["chosen"]) for each in found["candidates"]] == [(loser, False)]
    assert shop.get(path, by=stranger["id"]).status_code == 404


def test_the_timeline_tells_the_whole_story_in_order(shop: Shop, told: Json) -> None:
    _settled(shop)
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    order = _one(shop, "/v1/orders", external_id="first")

    timeline = shop.get(f"/v1/orders/{order['id']}/timeline").json()

    assert run["status"] == "draft"
    assert timeline["complete"] is True
    assert [entry["at"] for entry in timeline["entries"]] == sorted(entry["at"] for entry in timeline["entries"])
    texts = [entry["text"] for entry in timeline["entries"]]
    assert [entry["kind"] for entry in timeline["entries"] if entry["kind"] != "fact"] == [
        "delivery",
        "entry",
        "delivery",
        "entry",
        "entry",
        "payout",
    ]
    assert "Lan earned 10.00 USD, pending." in texts
    assert "5.00 USD of Lan was taken back from pending." in texts
    assert "5.00 USD of Lan was settled: pending to payable." in texts
    assert "Refund back: goods of 50.00 USD given back." in texts
    assert any(text.startswith("5.00 USD of payable was put into payout pay_") for text in texts)


def test_the_timeline_of_an_order_that_never_came_tells_of_its_refund(shop: Shop, told: Json) -> None:
    order = _one(shop, "/v1/orders", external_id="never seen")

    entries = shop.get(f"/v1/orders/{order['id']}/timeline").json()["entries"]

    assert {entry["kind"] for entry in entries} == {"delivery", "fact"}
    assert any("its order has not come yet" in entry["text"] for entry in entries)


def test_a_decision_is_told_with_who_made_it(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])
    shop.post(f"/v1/commissions/{commission['id']}/reject", {"reason_code": "terms_breach"})

    texts = [entry["text"] for entry in shop.get(f"/v1/orders/{commission['order_id']}/timeline").json()["entries"]]

    assert any(text.startswith("key_") and text.endswith("decided: reject (terms_breach).") for text in texts)


def test_a_commission_says_where_each_part_stands(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])

    assert commission["status"] == "approved"
    assert commission["reason_code"] == "in_hold_period"
    assert commission["target"] == {"amount_minor": 500, "currency": "USD"}
    assert {name: place["amount_minor"] for name, place in commission["places"].items()} == {
        "pending": 500,
        "held": 0,
        "payable": 0,
        "in_payout": 0,
        "paid": 0,
    }
    assert commission["settles_at"] is not None
    assert shop.get(f"/v1/commissions/{commission['id']}").json() == commission


def test_a_commission_s_status_follows_its_money(shop: Shop, told: Json) -> None:
    def statuses() -> set[str]:
        return {each["status"] for each in shop.get("/v1/commissions").json()["data"]}

    before = statuses()
    _settled(shop)
    settled = statuses()
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")
    reserved = statuses()

    assert (before, settled, reserved) == ({"approved"}, {"payable"}, {"in_payout"})


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"status": "approved"}, 2),
        ({"status": "paid"}, 0),
        ({"reason_code": "in_hold_period"}, 2),
        ({"reason_code": "hold_open"}, 0),
        ({"placed_from": "2020-01-01T00:00:00Z"}, 2),
        ({"placed_before": "2020-01-01T00:00:00Z"}, 0),
    ],
)
def test_commissions_are_narrowed(shop: Shop, told: Json, query: Json, number: int) -> None:
    assert len(shop.get("/v1/commissions", **query).json()["data"]) == number


def test_every_status_lists_those_and_only_those_that_show_it(shop: Shop, told: Json) -> None:
    def listed(status: str) -> set[str]:
        return {each["id"] for each in shop.get("/v1/commissions", status=status).json()["data"]}

    shop.deliver(shop.order("cancelled", coupon_codes=["LAN"]))
    shop.deliver(shop.order("cancelled", coupon_codes=["LAN"], cancelled=True, updated_at=shop.time()))
    rejected = _one(shop, "/v1/commissions", affiliate_id=told["minh"]["id"])
    shop.post(f"/v1/commissions/{rejected['id']}/reject", {"reason_code": "terms_breach"})
    _settled(shop)
    shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker")
    shop.deliver(shop.order("held", coupon_codes=["LAN"]))
    held = shop.get("/v1/commissions").json()["data"][0]
    shop.post(f"/v1/commissions/{held['id']}/hold", {"reason_code": "quality_check"})
    shop.deliver(shop.order("fresh", coupon_codes=["LAN"]))
    shown: dict[str, set[str]] = {}
    for each in shop.get("/v1/commissions").json()["data"]:
        shown.setdefault(each["status"], set()).add(each["id"])

    statuses = ("rejected", "reversed", "held", "pending", "approved", "payable", "in_payout", "paid")
    assert set(shown) == {"rejected", "reversed", "held", "approved", "in_payout"}
    assert {status: listed(status) for status in statuses} == {status: shown.get(status, set()) for status in statuses}


def test_a_receipt_recomputes_by_hand(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])

    found = shop.get(f"/v1/commissions/{commission['id']}/receipt").json()

    [line] = found["receipt"]["lines"]
    assert (line["ordered_minor"], line["refunded_minor"], line["parts"][0]["rate"]) == (10000, 5000, "10")
    assert line["commission_minor"] == found["receipt"]["target_minor"] == 500
    assert found["terms"]["rules"][0]["rate"] == "10"
    assert [(entry["kind"], entry["amount"]["amount_minor"]) for entry in found["entries"]] == [
        ("accrue", 1000),
        ("reduce", 500),
    ]


def test_a_rejected_commission_is_taken_back_and_an_approval_brings_it_again(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])
    path = f"/v1/commissions/{commission['id']}"

    rejected = shop.post(f"{path}/reject", {"reason_code": "terms_breach"}).json()
    approved = shop.post(f"{path}/approve", {"amount": {"amount_minor": 200, "currency": "USD"}}).json()

    assert (rejected["status"], rejected["reason_code"]) == ("rejected", "rejected_by_merchant")
    assert rejected["places"]["pending"]["amount_minor"] == 0
    assert (approved["target"]["amount_minor"], approved["approved"]["amount_minor"]) == (500, 200)
    assert approved["reason_code"] == "above_approved_amount"


def test_a_held_commission_waits_until_it_is_released(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])
    path = f"/v1/commissions/{commission['id']}"

    held = shop.post(f"{path}/hold", {"reason_code": "quality_check"}).json()
    again = shop.post(f"{path}/release").json()
    refused = shop.post(f"{path}/release")

    assert (held["status"], held["places"]["held"]["amount_minor"]) == ("held", 500)
    assert (again["status"], again["places"]["held"]["amount_minor"]) == ("approved", 0)
    assert (refused.status_code, refused.json()["code"]) == (409, "commission-not-held")


def test_an_amount_in_another_currency_is_no_approval(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])

    answer = shop.post(
        f"/v1/commissions/{commission['id']}/approve", {"amount": {"amount_minor": 200, "currency": "VND"}}
    )

    assert answer.status_code == 422


@pytest.mark.parametrize("verb", ["approve", "reject", "hold", "release"])
def test_only_an_admin_decides(shop: Shop, told: Json, verb: str) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])

    answer = shop.post(f"/v1/commissions/{commission['id']}/{verb}", {"reason_code": "x"}, by="finance-maker")

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


def test_balances_add_up_to_what_was_earned(shop: Shop, told: Json) -> None:
    shop.deliver(shop.order("dong", coupon_codes=["LAN"], currency="VND", lines=[{"id": "1", "net": "50000"}]))

    balances = shop.get("/v1/balances", by="read").json()["data"]
    first = shop.get("/v1/balances", limit=1).json()
    rest = shop.get("/v1/balances", limit=5, cursor=first["next_cursor"]).json()["data"]

    assert {(each["affiliate_id"], each["currency"]): each["earned"]["amount_minor"] for each in balances} == {
        (told["lan"]["id"], "USD"): 500,
        (told["lan"]["id"], "VND"): 5000,
        (told["minh"]["id"], "USD"): 1000,
    }
    assert first["data"] + rest == balances
    assert _one(shop, "/v1/balances", currency="VND")["pending"]["amount_minor"] == 5000
    assert len(shop.get("/v1/balances", affiliate_id=told["minh"]["id"]).json()["data"]) == 1


def test_postings_name_both_accounts_and_what_they_are_made_of(shop: Shop, told: Json) -> None:
    postings = shop.get("/v1/ledger/postings", affiliate_id=told["lan"]["id"]).json()["data"]

    assert [(each["debit"]["kind"], each["credit"]["kind"], each["amount"]["amount_minor"]) for each in postings] == [
        ("pending", "commission_expense", 500),
        ("commission_expense", "pending", 1000),
    ]
    assert postings[1]["debit"]["affiliate_id"] is None
    assert postings[1]["credit"]["affiliate_id"] == told["lan"]["id"]
    detail = shop.get(f"/v1/ledger/postings/{postings[0]['id']}").json()
    assert [(entry["kind"], entry["amount"]["amount_minor"]) for entry in detail["entries"]] == [("reduce", 500)]


def test_the_chain_over_postings_comes_in_pages_from_its_head_down(shop: Shop, engine: Engine, told: Json) -> None:
    assert shop.get("/v1/ledger/chain").json()["data"] == []
    _chained(engine, shop)

    everything = shop.get("/v1/ledger/chain", by="read").json()["data"]
    page = shop.get("/v1/ledger/chain", limit=1).json()
    rest = shop.get("/v1/ledger/chain", cursor=page["next_cursor"]).json()["data"]

    assert page["data"] + rest == everything
    assert [block["number"] for block in everything] == list(range(len(everything), 0, -1))
    assert sum(block["postings"] for block in everything) == len(shop.get("/v1/ledger/postings").json()["data"])
    assert [block["previous_digest"] for block in everything] == [
        *(block["digest"] for block in everything[1:]),
        "00" * 32,
    ]


def test_postings_are_narrowed_and_come_in_pages(shop: Shop, told: Json) -> None:
    everything = shop.get("/v1/ledger/postings").json()["data"]
    page = shop.get("/v1/ledger/postings", limit=2).json()
    rest = shop.get("/v1/ledger/postings", cursor=page["next_cursor"]).json()["data"]

    assert len(everything) == 3
    assert page["data"] + rest == everything
    assert shop.get("/v1/ledger/postings", account="payable").json()["data"] == []
    assert len(shop.get("/v1/ledger/postings", event=everything[0]["event"]).json()["data"]) == 1
    assert shop.get("/v1/ledger/postings", day_to="2020-01-01").json()["data"] == []
    assert len(shop.get("/v1/ledger/postings", affiliate_id=told["lan"]["id"], currency="USD").json()["data"]) == 2


def test_the_inbox_lists_what_waits_and_shows_the_body_to_an_admin(shop: Shop, told: Json) -> None:
    waiting = _one(shop, "/v1/inbox", state="waiting")

    found = shop.get(f"/v1/inbox/{waiting['id']}").json()
    refused = shop.get(f"/v1/inbox/{waiting['id']}", by="read")

    assert waiting["reason_code"] == "order_not_here_yet"
    assert waiting["order_external_id"] == "never seen"
    assert '"never seen"' in found["body"]
    assert refused.status_code == 403


def test_a_parked_delivery_is_replayed(shop: Shop, told: Json) -> None:
    parked = shop.deliver({"type": "unheard_of", "id": "1"})
    assert parked.status_code == 202
    [listed] = shop.get("/v1/inbox", state="parked").json()["data"]

    again = shop.post(f"/v1/inbox/{listed['id']}/replay")

    assert (again.status_code, again.json()["state"]) == (200, "parked")
    assert listed["reason_code"]


def test_a_parked_delivery_is_dismissed_and_may_be_replayed_all_the_same(shop: Shop, told: Json) -> None:
    shop.deliver({"type": "unheard_of", "id": "1"})
    [parked] = shop.get("/v1/inbox", state="parked").json()["data"]

    dismissed = [shop.post(f"/v1/inbox/{parked['id']}/dismiss") for _ in range(2)]

    assert [answer.status_code for answer in dismissed] == [200, 200]
    assert [answer.json() for answer in dismissed] == [parked | {"state": "ignored", "reason_code": "dismissed"}] * 2
    assert shop.get("/v1/inbox", state="parked").json()["data"] == []
    again, change = shop.get("/v1/audit", subject=parked["id"]).json()["data"]
    assert (again["before"], again["after"]) == (None, None)
    assert change["before"] == {"state": "parked", "reason_code": parked["reason_code"]}
    assert change["after"] == {"state": "ignored", "reason_code": "dismissed"}
    assert shop.post(f"/v1/inbox/{parked['id']}/replay").json()["state"] == "parked"


def test_what_counts_is_not_dismissed(shop: Shop, told: Json) -> None:
    applied = shop.get("/v1/inbox", state="applied").json()["data"][0]

    answer = shop.post(f"/v1/inbox/{applied['id']}/dismiss")

    assert (answer.status_code, answer.json()["code"]) == (409, "delivery-not-parked")
    assert shop.get("/v1/inbox", state="applied").json()["data"][0] == applied


def test_what_counts_already_is_not_replayed(shop: Shop, told: Json) -> None:
    applied = shop.get("/v1/inbox", state="applied").json()["data"][0]

    answer = shop.post(f"/v1/inbox/{applied['id']}/replay")

    assert (answer.status_code, answer.json()["code"]) == (409, "delivery-not-parked")


def test_deliveries_of_an_order_are_listed(shop: Shop, told: Json) -> None:
    order = _one(shop, "/v1/orders", external_id="first")

    assert len(shop.get("/v1/inbox", order_id=order["id"]).json()["data"]) == 2


def test_events_tell_what_happened(shop: Shop, told: Json) -> None:
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])

    events = shop.get("/v1/events", subject=commission["id"]).json()["data"]

    assert [event["type"] for event in events] == ["commission.adjusted", "commission.accrued"]
    assert events[0]["data"]["target_minor"] == 500
    assert len(shop.get("/v1/events", type="commission.accrued").json()["data"]) == 2
    assert shop.get(f"/v1/events/{events[0]['id']}").json() == events[0]
    assert shop.get("/v1/events", subject="xyz_1").status_code == 422


def test_reports_say_what_their_columns_mean(shop: Shop) -> None:
    reports = {report["name"]: report for report in shop.get("/v1/reports", by="read").json()["data"]}

    assert list(reports)[:4] == ["commissions", "payouts", "balances", "funders"]
    assert {"trial-balance", "journal", "liability-ageing", "tax"} <= set(reports)
    target = next(column for column in reports["commissions"]["columns"] if column["name"] == "target")
    assert target["kind"] == "money"
    assert target["cells"] == ["target_minor", "target"]
    assert target["units"] == ["minor units", "amount"]
    assert [file["format"] for file in reports["payouts"]["files"]] == ["csv", "xlsx", "parquet"]
    assert reports["balances"]["filters"] == ["currency"]


def test_a_report_is_csv_with_the_api_s_ids(shop: Shop, told: Json) -> None:
    commissions = {each["id"]: each for each in shop.get("/v1/commissions").json()["data"]}

    answer = shop.get("/v1/reports/commissions.csv", by="read")

    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert re.fullmatch(
        r'attachment; filename="commissions-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
    )
    assert {row["commission_id"]: row["target_minor"] for row in rows} == {
        name: str(each["target"]["amount_minor"]) for name, each in commissions.items()
    }
    assert {row["placed_at"][:19] for row in rows} == {each["placed_at"][:19] for each in commissions.values()}


def test_a_report_comes_in_every_format_it_is_listed_with(shop: Shop, told: Json) -> None:
    [report] = [each for each in shop.get("/v1/reports").json()["data"] if each["name"] == "commissions"]

    files = {file["format"]: shop.get(file["url"], by="read") for file in report["files"]}

    rows = list(csv.DictReader(io.StringIO(files["csv"].text, newline="")))
    [sheet] = sheets_of(files["xlsx"].content)
    table = parquet.read_table(io.BytesIO(files["parquet"].content))
    ids = [row["commission_id"] for row in rows]
    assert [row["commission_id"].value for row in sheet.records()] == table["commission_id"].to_pylist() == ids != []
    assert files["xlsx"].headers["content-type"].endswith("spreadsheetml.sheet")
    assert files["parquet"].headers["content-type"] == "application/vnd.apache.parquet"
    for form, answer in files.items():
        assert re.search(rf'"commissions-\d{{4}}-\d\d-\d\d\.{form}"', answer.headers["content-disposition"])


def test_a_report_is_narrowed_by_days_and_run(shop: Shop, told: Json) -> None:
    _settled(shop)
    run = shop.post(
        "/v1/payout-runs",
        {"rail": "sandbox", "currency": "USD", "affiliate_ids": [told["lan"]["id"]]},
        by="finance-maker",
    ).json()

    def rows(name: str, **query: Any) -> int:
        return len(list(csv.DictReader(io.StringIO(shop.get(f"/v1/reports/{name}.csv", **query).text))))

    assert rows("commissions") == 2
    assert rows("commissions", run_id=run["id"]) == 1
    assert rows("payouts", run_id=run["id"]) == 1
    assert rows("commissions", to="2020-01-01") == 0
    assert rows("commissions", **{"from": "2020-01-01"}) == 2


@pytest.mark.parametrize(
    ("name", "query", "status", "code"),
    [
        ("profits", {}, 404, "unknown-report"),
        ("balances", {"from": "2026-01-01"}, 422, "report-filter"),
        ("balances", {"currency": "XXX"}, 422, "invalid-request"),
        ("commissions", {"from": "yesterday"}, 422, "invalid-request"),
    ],
)
def test_a_report_that_cannot_be_is_refused(shop: Shop, name: str, query: Json, status: int, code: str) -> None:
    answer = shop.get(f"/v1/reports/{name}.csv", **query)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_format_that_is_not_installed_is_refused_by_name(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    answer = shop.get("/v1/reports/payouts.parquet")

    assert (answer.status_code, answer.json()["code"]) == (422, "report-format-not-installed")
    assert "parquet" not in {file["format"] for file in shop.get("/v1/reports").json()["data"][0]["files"]}


def test_another_merchant_sees_nothing_of_it(client: TestClient, shop: Shop, engine: Engine, told: Json) -> None:
    other = Shop(client)
    order = _one(shop, "/v1/orders", external_id="first")
    commission = _one(shop, "/v1/commissions", affiliate_id=told["lan"]["id"])
    posting = shop.get("/v1/ledger/postings").json()["data"][0]
    delivery = shop.get("/v1/inbox").json()["data"][0]
    event = shop.get("/v1/events").json()["data"][0]
    own = [
        f"/v1/orders/{order['id']}",
        f"/v1/orders/{order['id']}/timeline",
        f"/v1/orders/{order['id']}/attribution",
        "/v1/orders/by-external-id/first",
        f"/v1/commissions/{commission['id']}",
        f"/v1/commissions/{commission['id']}/receipt",
        f"/v1/ledger/postings/{posting['id']}",
        f"/v1/inbox/{delivery['id']}",
        f"/v1/events/{event['id']}",
    ]
    _chained(engine, shop)
    lists = ["orders", "commissions", "balances", "ledger/postings", "ledger/chain", "inbox", "events"]

    assert shop.get("/v1/ledger/chain").json()["data"] != []
    assert {other.get(path).status_code for path in own} == {404}
    assert all(other.get(f"/v1/{name}").json()["data"] == [] for name in lists)
    for verb in ("approve", "reject", "hold", "release"):
        answer = other.post(f"/v1/commissions/{commission['id']}/{verb}", {"reason_code": "other", "note": "x"})
        assert answer.status_code == 404
    assert other.post(f"/v1/inbox/{delivery['id']}/replay").status_code == 404


@pytest.mark.parametrize(
    "path", ["orders", "commissions", "balances", "ledger/postings", "ledger/chain", "inbox", "events"]
)
def test_an_affiliate_s_key_opens_no_list_of_the_merchant(shop: Shop, told: Json, path: str) -> None:
    assert shop.get(f"/v1/{path}", by=told["lan"]["id"]).status_code == 403


@pytest.mark.parametrize(
    "path", ["orders", "commissions", "balances", "ledger/postings", "ledger/chain", "inbox", "events"]
)
def test_a_cursor_of_another_list_is_refused(shop: Shop, path: str) -> None:
    answer = shop.get(f"/v1/{path}", cursor="WyJ4IiwieSIsInoiXQ")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor")
