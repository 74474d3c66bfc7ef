"""Corrections through the API: a debt is given up by two persons, and its KOC sees that."""

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Json, Shop


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


@pytest.fixture
def indebted(shop: Shop, client: TestClient) -> str:
    """Return a KOC who was paid 10.00 USD for an order that came back afterwards."""
    ann = str(shop.an_affiliate("Ann")["id"])
    order = shop.order(coupon_codes=[shop.a_coupon({"id": ann})["code"]])
    shop.deliver(order)
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle").json()["settled"] == 1
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    shop.let_out(run)
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)
    shop.deliver(shop.refund(order, "100.00"))
    assert shop.post("/v1/jobs/settle").is_success
    return ann


def earnings(shop: Shop, affiliate: str) -> dict[str, int]:
    [found] = shop.get("/v1/me/earnings", by=affiliate).json()["data"]
    return {name: found[name]["amount_minor"] for name in ("lifetime", "payable", "paid", "written_off")}


def a_write_off(affiliate: str, amount_minor: int) -> Json:
    return {
        "kind": "write_off",
        "affiliate_id": affiliate,
        "amount": usd(amount_minor),
        "reason": "left the programme",
    }


def test_a_debt_is_written_off_by_two_persons_and_its_koc_sees_it(shop: Shop, indebted: str) -> None:
    before = earnings(shop, indebted)
    correction = shop.post("/v1/corrections", a_write_off(indebted, 1_000), by="finance-maker").json()
    assert earnings(shop, indebted) == before

    own = shop.post(f"/v1/corrections/{correction['id']}/book", by="finance-maker")
    booked = shop.post(f"/v1/corrections/{correction['id']}/book", by="finance-checker")

    assert (own.status_code, booked.status_code) == (403, 200)
    assert before == {"lifetime": 0, "payable": -1_000, "paid": 1_000, "written_off": 0}
    assert earnings(shop, indebted) == {"lifetime": 0, "payable": 0, "paid": 1_000, "written_off": -1_000}


def test_who_holds_both_scopes_books_no_correction_of_their_own(shop: Shop, indebted: str) -> None:
    both = shop.post("/v1/api-keys", {"name": "Both", "scopes": ["finance-maker", "finance-checker"]}).json()["key"]
    headers = {"Authorization": f"Bearer {both}"}
    correction = shop.client.post("/v1/corrections", json=a_write_off(indebted, 400), headers=headers).json()

    answer = shop.client.post(f"/v1/corrections/{correction['id']}/book", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "correction-self-decision")
    assert earnings(shop, indebted)["payable"] == -1_000


def test_no_more_is_written_off_than_is_owed_and_none_of_it_twice(shop: Shop, indebted: str) -> None:
    more = shop.post("/v1/corrections", a_write_off(indebted, 1_001), by="finance-maker")
    assert (more.status_code, more.json()["code"]) == (409, "correction-too-large")
    first, second = (
        shop.post("/v1/corrections", a_write_off(indebted, 700), by="finance-maker").json()["id"] for _ in range(2)
    )
    assert shop.post(f"/v1/corrections/{first}/book", by="finance-checker").is_success

    late = shop.post(f"/v1/corrections/{second}/book", by="finance-checker")

    assert (late.status_code, late.json()["code"]) == (409, "correction-too-large")
    assert earnings(shop, indebted)["written_off"] == -700
