"""From the click to the bank line, as a colleague from finance would follow it."""

import csv
import io
from typing import Any, cast

from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra import ids
from service.infra.db import read_session
from service.ledger.audit import check
from service.reports.recheck import recheck
from service.worker import run_once
from tests.support.shop import Shop

Json = dict[str, Any]


def the_service(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application


def pay_out(shop: Shop, client: TestClient) -> Json:
    """Two persons make a run, a worker sends it. Returns the run."""
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    shop.let_out(run)
    service = the_service(client)
    run_once(service.engine, service.settings, service.security)
    return dict(shop.get(f"/v1/payout-runs/{run['id']}", by="read").json())


def earnings(shop: Shop, affiliate: Json) -> dict[str, int]:
    """Where an affiliate's dollars stand, by place, as their own key sees it; empty places left out."""
    [found] = shop.get("/v1/me/earnings", by=affiliate["id"]).json()["data"]
    places = ("pending", "held", "payable", "in_payout", "paid")
    return {place: found[place]["amount_minor"] for place in places if found[place]["amount_minor"]}


def the_books_agree(shop: Shop, client: TestClient) -> bool:
    service = the_service(client)
    with read_session(service.engine) as session:
        found = check(session, None)
    with read_session(service.engine) as session:
        found += recheck(session, ids.decode("mer", shop.id), sample=None)
    return not found


def test_a_click_becomes_a_paid_and_explained_commission(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan")
    click_id = shop.click(shop.a_link(lan))
    order = shop.order("1001", click_ids=[click_id])

    shop.deliver(order)
    assert earnings(shop, lan) == {"pending": 1000}
    shop.deliver(shop.refund(order, "25.00"))
    assert earnings(shop, lan) == {"pending": 750}

    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    assert earnings(shop, lan) == {"payable": 750}
    run = pay_out(shop, client)

    assert run["status"] == "closed"
    assert earnings(shop, lan) == {"paid": 750}
    [payout] = shop.get("/v1/me/payouts", by=lan["id"]).json()["data"]
    statement = shop.get(f"/v1/me/payouts/{payout['id']}/statement", by=lan["id"]).json()
    assert [(each["order_number"], each["amount"]["amount_minor"]) for each in statement["lines"]] == [("1001", 750)]
    report = shop.get("/v1/reports/payouts.csv", by="read", run_id=run["id"]).text
    [line] = csv.DictReader(io.StringIO(report))
    assert (line["affiliate_name"], line["net"], line["state"]) == ("Lan", "7.50", "sent")
    assert the_books_agree(shop, client)


def test_a_return_after_the_payout_is_taken_from_the_next_one(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    paid = shop.order("1001", coupon_codes=["LAN"])
    shop.deliver(paid)
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    pay_out(shop, client)

    shop.deliver(shop.refund(paid, "40.00"))
    owes = shop.get("/v1/balances", by="read").json()["data"][0]
    shop.an_order("1002", coupon_codes=["LAN"])
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    run = pay_out(shop, client)

    assert owes["payable"]["amount_minor"] == -400
    assert run["totals"]["net"]["amount_minor"] == 600
    assert earnings(shop, lan) == {"paid": 1600}
    assert the_books_agree(shop, client)


def test_money_in_dispute_leaves_the_run_that_was_about_to_pay_it(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    order = shop.order("1001", coupon_codes=["LAN"])
    shop.deliver(order)
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    for step, who in (("submit", "finance-maker"), ("approve", "finance-checker")):
        shop.post(f"/v1/payout-runs/{run['id']}/{step}", by=who)

    at = shop.time()
    dispute = {"type": "dispute", "id": "d-1", "order_id": "1001", "currency": "USD", "amount": "100.00"}
    shop.deliver({**dispute, "opened_at": at, "updated_at": at})
    shop.post(f"/v1/payout-runs/{run['id']}/execute", by="finance-maker")
    service = the_service(client)
    run_once(service.engine, service.settings, service.security)

    assert earnings(shop, lan) == {"held": 1000}
    [payout] = shop.get("/v1/payouts", by="read", run_id=run["id"]).json()["data"]
    assert (payout["status"], payout["release_reason"]) == ("released", "in_debt")

    shop.advance(days=1)
    closed = {**dispute, "opened_at": at, "closed_at": shop.time(), "outcome": "won", "updated_at": shop.time()}
    shop.deliver(closed)
    shop.advance(days=2)
    shop.post("/v1/jobs/settle", by="finance-maker")
    pay_out(shop, client)

    assert earnings(shop, lan) == {"paid": 1000}
    assert the_books_agree(shop, client)
