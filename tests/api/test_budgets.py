"""Budgets reserve what is earned, and really stop a programme once they are taken."""

from typing import Any

import pytest

from tests.support.shop import Shop

Json = dict[str, Any]

HUNDRED: Json = {"amount_minor": 10_000, "currency": "USD"}


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


@pytest.fixture
def program(shop: Shop) -> Json:
    """Return a programme that pays Lan half of each order, with a coupon."""
    made = shop.a_program(rules=[{"kind": "percent", "rate": "50"}])
    lan = shop.an_affiliate("Lan", program=made)
    shop.a_coupon(lan, "LAN", program=made)
    return made


def a_budget(shop: Shop, program: Json, limit: int = 10_000, **more: Any) -> Json:
    answer = shop.post(f"/v1/programs/{program['id']}/budgets", {"limit": usd(limit), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def watched(shop: Shop, budget: Json) -> Json:
    assert shop.post("/v1/jobs/settle", by="finance-maker").status_code == 200
    return dict(shop.get(f"/v1/budgets/{budget['id']}").json())


def sold(shop: Shop, name: str, net: str) -> Json:
    """An order placed now that Lan brought; returns its commission."""
    order = shop.order(name, placed_at=shop.time(), coupon_codes=["LAN"], lines=[{"id": "1", "net": net}])
    shop.deliver(order)
    [commission] = [each for each in shop.get("/v1/commissions").json()["data"] if each["order_external_id"] == name]
    return dict(commission)


def events(shop: Shop, kind: str) -> list[Json]:
    return [each["data"] for each in shop.get("/v1/events", type=kind).json()["data"]]


def test_what_is_earned_is_taken_at_once_and_given_back_by_refunds(shop: Shop, program: Json) -> None:
    budget = a_budget(shop, program, starts_at=shop.time(days=1))
    order = shop.order("a", placed_at=shop.time(), coupon_codes=["LAN"], lines=[{"id": "1", "net": "60.00"}])
    shop.deliver(order)

    assert watched(shop, budget)["used"] == usd(3_000)
    shop.deliver(shop.refund(order, "20.00", lines=[{"line_id": "1", "net": "20.00"}]))
    after = watched(shop, budget)

    assert (after["used"], after["left"], after["reached_at"]) == (usd(2_000), usd(8_000), None)


def test_a_programme_whose_budget_is_taken_stops_for_orders_to_come(shop: Shop, program: Json) -> None:
    budget = a_budget(shop, program, starts_at=shop.time(days=1))
    sold(shop, "a", "180.00")
    assert watched(shop, budget)["reached_at"] is None
    sold(shop, "b", "40.00")

    reached = watched(shop, budget)
    still = sold(shop, "c", "10.00")
    shop.advance(minutes=6)
    stopped = sold(shop, "d", "10.00")

    assert (reached["left"], reached["at_limit"]) == (usd(-1_000), "stop")
    assert reached["reached_at"] is not None
    # Whoever had placed an order by then is paid for it.
    assert (still["target"], still["status"]) == (usd(500), "approved")
    assert (stopped["target"], stopped["reason_code"]) == (usd(0), "program_paused")
    assert [each["used_minor"] for each in events(shop, "budget.near")] == [9_000]
    assert [each["used_minor"] for each in events(shop, "budget.reached")] == [11_000]


def test_a_budget_that_is_raised_lets_it_run_again(shop: Shop, program: Json) -> None:
    budget = a_budget(shop, program, starts_at=shop.time(days=1))
    sold(shop, "a", "200.00")
    watched(shop, budget)
    shop.advance(minutes=6)
    shop.post(f"/v1/budgets/{budget['id']}/limit", {"limit": usd(50_000)})

    raised = watched(shop, budget)
    shop.advance(minutes=6)

    assert raised["reached_at"] is None
    assert sold(shop, "b", "10.00")["target"] == usd(500)
    assert [each["runs_from"] is None for each in events(shop, "budget.reopened")] == [False]


def test_a_stop_that_is_raised_leaves_the_review_of_another_budget(shop: Shop, program: Json) -> None:
    stops = a_budget(shop, program, limit=1_000, starts_at=shop.time(days=1))
    looks = a_budget(shop, program, limit=2_000, starts_at=shop.time(days=1), at_limit="review")
    sold(shop, "a", "60.00")
    watched(shop, looks)
    shop.advance(minutes=6)
    stopped = sold(shop, "b", "10.00")
    shop.post(f"/v1/budgets/{stops['id']}/limit", {"limit": usd(50_000)})
    watched(shop, stops)
    shop.advance(minutes=6)

    waits = sold(shop, "c", "10.00")

    assert (stopped["target"], stopped["reason_code"]) == (usd(0), "program_paused")
    assert (waits["target"], waits["reason_code"]) == (usd(500), "awaiting_approval")


def test_review_has_a_person_look_and_tell_only_tells(shop: Shop, program: Json) -> None:
    tells = a_budget(shop, program, limit=1_000, starts_at=shop.time(days=1), at_limit="tell")
    looks = a_budget(shop, program, limit=2_000, starts_at=shop.time(days=1), at_limit="review")
    sold(shop, "a", "30.00")
    watched(shop, tells)
    shop.advance(minutes=6)
    told = sold(shop, "b", "30.00")
    watched(shop, looks)
    shop.advance(minutes=6)
    waits = sold(shop, "c", "10.00")

    assert (told["status"], told["target"]) == ("approved", usd(1_500))
    assert (waits["status"], waits["reason_code"], waits["target"]) == ("pending", "awaiting_approval", usd(500))


def test_a_person_who_lets_it_run_is_not_overruled(shop: Shop, program: Json) -> None:
    budget = a_budget(shop, program, limit=1_000, starts_at=shop.time(days=1))
    sold(shop, "a", "30.00")
    watched(shop, budget)
    shop.advance(minutes=6)
    shop.post(f"/v1/programs/{program['id']}/resume", {"reason_code": "we_pay_more"})
    shop.advance(minutes=6)
    watched(shop, budget)
    shop.advance(minutes=6)

    assert sold(shop, "b", "10.00")["target"] == usd(500)


def test_only_orders_of_its_time_count(shop: Shop, program: Json) -> None:
    sold(shop, "a", "30.00")
    budget = a_budget(shop, program, limit=1_000, starts_at=shop.time(days=-1), ends_at=shop.time(days=-2))

    assert watched(shop, budget)["used"] == usd(0)


def test_a_closed_budget_is_watched_no_more(shop: Shop, program: Json) -> None:
    budget = a_budget(shop, program, limit=1_000, starts_at=shop.time(days=1))
    assert shop.post(f"/v1/budgets/{budget['id']}/close").status_code == 200
    sold(shop, "a", "30.00")

    assert watched(shop, budget)["reached_at"] is None
    answer = shop.post(f"/v1/budgets/{budget['id']}/limit", {"limit": usd(5_000)})
    assert (answer.status_code, answer.json()["code"]) == (409, "budget-closed")


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": usd(0)},
        {"limit": {"amount_minor": 5, "currency": "XXX"}},
        {"limit": HUNDRED, "starts_at": "2026-11-02T00:00:00Z", "ends_at": "2026-11-02T00:00:00Z"},
    ],
    ids=str,
)
def test_a_budget_that_cannot_be_is_refused(shop: Shop, program: Json, asked: Json) -> None:
    assert shop.post(f"/v1/programs/{program['id']}/budgets", asked).status_code == 422
    assert shop.get("/v1/budgets").json()["data"] == []
