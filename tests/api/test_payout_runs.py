"""Payout runs over HTTP: two persons, one worker, and a statement in which every cent has its order."""

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Json, Shop


@pytest.fixture
def shop(client: TestClient) -> Shop:
    return Shop(client)


def work(client: TestClient) -> None:
    """Let a worker do what is due."""
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def all_earned(shop: Shop, *people: Json, count: int = 1) -> list[Json]:
    """Affiliates with 10.00 USD payable, once settled, for each order. All join before the first order."""
    affiliates = [shop.an_affiliate(**each) for each in people]
    coupons = [shop.a_coupon(each) for each in affiliates]
    for coupon in coupons:
        for number in range(count):
            shop.an_order(f"{coupon['code']}-{number}", coupon_codes=[coupon["code"]])
    return affiliates


def earned(shop: Shop, *, count: int = 1, **affiliate: object) -> Json:
    return all_earned(shop, affiliate, count=count)[0]


def settled(shop: Shop) -> int:
    shop.advance(days=15)
    answer = shop.post("/v1/jobs/settle")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["settled"])


def a_run(shop: Shop, **parts: object) -> Json:
    answer = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD", **parts}, by="finance-maker ann")
    assert answer.status_code == 201, answer.text
    run: Json = answer.json()
    return run


def verb(shop: Shop, run: Json, name: str, *, by: str) -> Json:
    answer = shop.post(f"/v1/payout-runs/{run['id']}/{name}", by=by)
    assert answer.is_success, answer.text
    body: Json = answer.json()
    return body


def an_executed_run(shop: Shop, client: TestClient) -> Json:
    run = a_run(shop)
    verb(shop, run, "submit", by="finance-maker ann")
    verb(shop, run, "approve", by="finance-checker bob")
    verb(shop, run, "execute", by="finance-maker ann")
    work(client)
    now: Json = shop.get(f"/v1/payout-runs/{run['id']}").json()
    return now


def test_a_run_is_made_approved_executed_and_explained(shop: Shop, client: TestClient) -> None:
    lan = earned(shop, count=3)
    assert settled(shop) == 3

    run = a_run(shop, external_id="november")
    assert run["status"] == "draft"
    assert run["totals"]["payouts"] == 1
    assert run["totals"]["net"] == {"amount_minor": 3000, "currency": "USD"}
    assert verb(shop, run, "submit", by="finance-maker ann")["content_hash"]
    assert verb(shop, run, "approve", by="finance-checker bob")["status"] == "approved"
    executing = shop.post(f"/v1/payout-runs/{run['id']}/execute", by="finance-maker ann")
    assert (executing.status_code, executing.json()["status"]) == (202, "executing")
    work(client)

    closed = shop.get(f"/v1/payout-runs/{run['id']}").json()
    assert closed["status"] == "closed"
    assert [each["status"] for each in closed["states"]] == ["sent"]
    payout = shop.get(f"/v1/payouts/{closed['payouts'][0]['id']}").json()
    assert (payout["affiliate_id"], payout["status"]) == (lan["id"], "sent")
    assert [(each["outcome"], each["sends"]) for each in payout["attempts"]] == [("accepted", 1)]
    assert [each["kind"] for each in payout["facts"]] == ["accepted"]


def test_a_statement_names_every_order_and_adds_up(shop: Shop, client: TestClient) -> None:
    earned(shop, count=2)
    settled(shop)
    run = an_executed_run(shop, client)

    statement = shop.get(f"/v1/payouts/{run['payouts'][0]['id']}/statement").json()

    lines = statement["lines"]
    assert sum(line["amount"]["amount_minor"] for line in lines) == statement["gross"]["amount_minor"] == 2000
    assert statement["opening"]["amount_minor"] == statement["closing"]["amount_minor"] == 0
    assert [line["order_number"][-2:] for line in lines] == ["-0", "-1"]
    assert all(line["commission_id"].startswith("com_") for line in lines)
    assert statement["lines_complete"] is True
    assert statement["place"] == "paid"


def test_a_refund_after_the_payout_is_in_the_next_statement(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate()
    coupon = shop.a_coupon(lan)
    order = shop.order(coupon_codes=[coupon["code"]])
    shop.deliver(order)
    settled(shop)
    an_executed_run(shop, client)
    shop.deliver(shop.refund(order, "40.00"))
    shop.an_order(coupon_codes=[coupon["code"]])
    settled(shop)

    second = an_executed_run(shop, client)

    statement = shop.get(f"/v1/payouts/{second['payouts'][0]['id']}/statement").json()
    assert sorted(line["amount"]["amount_minor"] for line in statement["lines"]) == [-400, 1000]
    assert statement["gross"]["amount_minor"] == 600


def test_a_released_payout_shows_in_the_next_statement_as_given_back(shop: Shop) -> None:
    earned(shop)
    settled(shop)
    first = a_run(shop)
    released = shop.post(f"/v1/payouts/{first['payouts'][0]['id']}/release", by="finance-maker ann")
    assert (released.json()["status"], released.json()["release_reason"]) == ("released", "released_by_person")

    second = a_run(shop)

    statement = shop.get(f"/v1/payouts/{second['payouts'][0]['id']}/statement").json()
    assert [(line["kind"], line["amount"]["amount_minor"]) for line in statement["lines"]] == [("given_back", 1000)]
    assert statement["lines"][0]["payout_id"] == first["payouts"][0]["id"]
    assert statement["place"] == "reserved"


def test_the_submitter_cannot_approve_their_own_run(shop: Shop) -> None:
    earned(shop)
    settled(shop)
    both = shop.post("/v1/api-keys", {"name": "Both", "scopes": ["finance-maker", "finance-checker"]}).json()["key"]
    headers = {"Authorization": f"Bearer {both}"}
    run = a_run(shop)
    shop.client.post(f"/v1/payout-runs/{run['id']}/submit", headers=headers)

    answer = shop.client.post(f"/v1/payout-runs/{run['id']}/approve", headers=headers)

    assert answer.status_code == 403
    assert answer.json()["code"] == "payout-run-self-approval"
    assert shop.get(f"/v1/payout-runs/{run['id']}").json()["status"] == "submitted"


@pytest.mark.parametrize("by", ["admin", "finance-maker ann", "read"])
def test_only_a_checker_approves(shop: Shop, by: str) -> None:
    earned(shop)
    settled(shop)
    run = a_run(shop)
    verb(shop, run, "submit", by="finance-maker ann")

    answer = shop.post(f"/v1/payout-runs/{run['id']}/approve", by=by)

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


@pytest.mark.parametrize(
    ("name", "by"),
    [("approve", "finance-checker bob"), ("execute", "finance-maker ann")],
)
def test_a_draft_can_neither_be_approved_nor_executed(shop: Shop, name: str, by: str) -> None:
    earned(shop)
    settled(shop)
    run = a_run(shop)

    answer = shop.post(f"/v1/payout-runs/{run['id']}/{name}", by=by)

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-run-state")


def test_who_is_left_out_is_told_with_the_reason(shop: Shop) -> None:
    _, poor = all_earned(shop, {}, {"paid_to": None})
    settled(shop)

    run = a_run(shop)

    assert run["excluded_total"] == 1
    assert [(each["affiliate_id"], each["reason_code"]) for each in run["excluded"]] == [
        (poor["id"], "no_payout_method")
    ]
    assert run["excluded"][0]["payable"] == {"amount_minor": 1000, "currency": "USD"}


def test_a_run_for_nobody_is_refused_with_the_reasons(shop: Shop) -> None:
    earned(shop, tax=None)
    settled(shop)

    answer = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"})

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-run-empty")
    assert "1 no_tax_rule" in answer.json()["detail"]


def test_one_external_id_makes_one_run(shop: Shop) -> None:
    payees = [each["id"] for each in all_earned(shop, {"name": "Lan"}, {"name": "Minh"})]
    settled(shop)
    a_run(shop, external_id="x", affiliate_ids=payees[:1])

    answer = shop.post(
        "/v1/payout-runs",
        {"rail": "sandbox", "currency": "USD", "external_id": "x", "affiliate_ids": payees[1:]},
    )

    assert answer.status_code == 409
    assert len(shop.get("/v1/payout-runs").json()["data"]) == 1


def test_a_rail_that_is_not_set_up_is_refused(shop: Shop) -> None:
    answer = shop.post("/v1/payout-runs", {"rail": "stripe_connect", "currency": "USD"})

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-rail-not-available")


def test_a_live_merchant_cannot_use_the_sandbox(client: TestClient) -> None:
    answer = Shop(client, is_test=False).post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"})

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-rail-not-available")


def test_a_refused_payout_is_retried_by_a_person_once_the_account_is_right(shop: Shop, client: TestClient) -> None:
    lan = earned(shop, paid_to="sandbox_refuse")
    settled(shop)
    run = an_executed_run(shop, client)
    [payout] = run["payouts"]
    assert (run["status"], payout["status"]) == ("executing", "refused")
    assert shop.post(f"/v1/payouts/{payout['id']}/confirm-resend").json()["code"] == "payout-not-retryable"

    answer = shop.post(f"/v1/payouts/{payout['id']}/retry", by="finance-maker ann")
    assert (answer.status_code, answer.json()["retry_requested"]) == (202, True)
    work(client)
    after = shop.get(f"/v1/payouts/{payout['id']}").json()
    assert [each["outcome"] for each in after["attempts"]] == ["refused", "refused"]
    assert after["attempts"][1]["asked_by"].startswith("key_")

    destination = {"rail": "sandbox", "destination": "sandbox_ok"}
    shop.post(f"/v1/affiliates/{lan['id']}/payout-methods", destination)
    shop.post(f"/v1/payouts/{payout['id']}/retry", by="finance-maker ann")
    work(client)
    dropped = shop.get(f"/v1/payouts/{payout['id']}").json()
    assert (dropped["status"], dropped["release_reason"]) == ("released", "method_changed")
    assert shop.get(f"/v1/payout-runs/{run['id']}").json()["status"] == "closed"
    shop.advance(hours=72)
    assert an_executed_run(shop, client)["states"][0]["status"] == "sent"


def test_silence_of_the_rail_is_shown_as_unknown(shop: Shop, client: TestClient) -> None:
    earned(shop, paid_to="sandbox_unknown_once")
    settled(shop)

    run = an_executed_run(shop, client)

    [payout] = run["payouts"]
    assert (run["status"], payout["status"]) == ("executing", "unknown")
    answer = shop.post(f"/v1/payouts/{payout['id']}/release", by="finance-maker ann")
    assert (answer.status_code, answer.json()["code"]) == (409, "payout-may-have-been-sent")
    assert shop.get(f"/v1/payouts/{payout['id']}/statement").json()["place"] == "in_transit"


def test_a_cancelled_run_gives_its_money_back(shop: Shop) -> None:
    earned(shop)
    settled(shop)
    run = a_run(shop)

    cancelled = verb(shop, run, "cancel", by="finance-maker ann")

    assert (cancelled["status"], cancelled["totals"]["released"]) == ("cancelled", 1)
    assert a_run(shop)["totals"]["gross"]["amount_minor"] == 1000


def test_lists_come_in_pages_and_by_run_and_affiliate(shop: Shop) -> None:
    people = all_earned(shop, {"name": "Lan"}, {"name": "Minh"}, {"name": "Hoa"})
    settled(shop)
    runs = [a_run(shop, affiliate_ids=[each["id"]]) for each in people]

    first = shop.get("/v1/payout-runs", limit=2).json()
    rest = shop.get("/v1/payout-runs", limit=2, cursor=first["next_cursor"]).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == [each["id"] for each in reversed(runs)]
    assert len(shop.get("/v1/payouts").json()["data"]) == 3
    assert len(shop.get("/v1/payouts", run_id=runs[0]["id"]).json()["data"]) == 1
    assert shop.get("/v1/payouts", affiliate_id=people[1]["id"]).json()["data"][0]["run_id"] == runs[1]["id"]
    assert shop.get("/v1/payout-runs", status="closed").json()["data"] == []


def test_another_merchants_run_is_as_good_as_missing(shop: Shop, client: TestClient) -> None:
    earned(shop)
    settled(shop)
    run = a_run(shop)
    other = Shop(client)

    for path in (f"/v1/payout-runs/{run['id']}", f"/v1/payouts/{run['payouts'][0]['id']}"):
        assert other.get(path).status_code == 404
    for name in ("submit", "cancel", "execute"):
        assert other.post(f"/v1/payout-runs/{run['id']}/{name}").json()["code"] == "payout-run-not-found"
    for name in ("release", "retry", "confirm-resend"):
        assert other.post(f"/v1/payouts/{run['payouts'][0]['id']}/{name}").json()["code"] == "payout-not-found"
    assert shop.get(f"/v1/payout-runs/{run['id']}").json()["status"] == "draft"
