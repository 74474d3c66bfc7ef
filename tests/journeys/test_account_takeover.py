"""A stranger sets an account of his own: what the KOC sees, what finance sees, and that nothing leaves in time."""

from datetime import datetime, timedelta
from typing import Any

from starlette.testclient import TestClient

from service.worker import run_once
from tests.journeys.test_click_to_payout import earnings, pay_out, the_books_agree, the_service
from tests.support.shop import Shop

Json = dict[str, Any]
RUN = {"rail": "sandbox", "currency": "USD"}


def lan_who_earned(shop: Shop) -> Json:
    lan = shop.an_affiliate("Lan", email="lan@example.com", paid_to="sandbox_lan_1111")
    shop.an_affiliate("Minh", paid_to="sandbox_minh_3333")
    shop.an_order("1001", coupon_codes=[shop.a_coupon(lan)["code"]])
    shop.advance(days=15)
    shop.post("/v1/jobs/settle")
    assert earnings(shop, lan) == {"payable": 1000}
    return lan


def change(shop: Shop, by: str, account: str) -> Json:
    answer = shop.post("/v1/me/payout-methods", {"rail": "sandbox", "destination": account}, by=by)
    assert answer.status_code == 201
    return dict(answer.json())


def test_a_stranger_with_the_kocs_key_gets_nothing(shop: Shop, client: TestClient) -> None:
    lan = lan_who_earned(shop)
    approved = shop.post("/v1/payout-runs", RUN, by="finance-maker").json()
    for step, who in (("submit", "finance-maker"), ("approve", "finance-checker")):
        assert shop.post(f"/v1/payout-runs/{approved['id']}/{step}", by=who).is_success

    # The stranger has Lan's key. A run that was approved before pays him nothing, and one made now has nobody to pay.
    change(shop, lan["id"], "sandbox_stranger_6666")
    shop.post(f"/v1/payout-runs/{approved['id']}/execute", by="finance-maker")
    service = the_service(client)
    run_once(service.engine, service.settings, service.security)
    run = shop.get(f"/v1/payout-runs/{approved['id']}").json()
    assert [(each["status"], each["release_reason"]) for each in run["payouts"]] == [("released", "method_changed")]
    refused = shop.post("/v1/payout-runs", RUN, by="finance-maker")
    assert (refused.json()["code"], refused.json()["detail"]) == ("payout-run-empty", "Left out: 1 method_cooling.")

    # The shop is told by a webhook and writes to the address it knew; Lan looks, and stops it with her page's key.
    events = shop.get("/v1/events", limit=200).json()["data"]
    [told] = [each["data"] for each in events if each["type"] == "payout_method.changed"]
    assert (told["previous_hint"], told["destination_hint"]) == ("•••1111", "•••6666")
    assert (told["by_affiliate"], told["email_hint"]) == (True, "l•••@example.com")
    shop.advance(hours=71)
    [waiting] = shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"]
    assert shop.post(waiting["cancel_url"], by=lan["id"]).is_success

    # Her own account is back at once, and the next run pays to it.
    paid = pay_out(shop, client)
    assert [(each["status"], each["net"]["amount_minor"]) for each in paid["payouts"]] == [("sent", 1000)]
    assert earnings(shop, lan) == {"paid": 1000}
    assert the_books_agree(shop, client)


def test_a_change_of_her_own_is_paid_after_three_days(shop: Shop, client: TestClient) -> None:
    lan = lan_who_earned(shop)
    changed = change(shop, lan["id"], "sandbox_lan_2222")
    usable_from = datetime.fromisoformat(changed["usable_from"])
    assert usable_from - datetime.fromisoformat(changed["created_at"]) == timedelta(hours=72)

    shop.post("/v1/test-clock", {"to": (usable_from - timedelta(minutes=5)).isoformat()})
    early = shop.post("/v1/payout-runs", RUN, by="finance-maker")
    shop.post("/v1/test-clock", {"to": usable_from.isoformat()})
    paid = pay_out(shop, client)

    assert early.json()["detail"] == "Left out: 1 method_cooling."
    assert [each["status"] for each in paid["payouts"]] == ["sent"]
    assert paid["payouts"][0]["payout_method_id"] == changed["id"]
    assert earnings(shop, lan) == {"paid": 1000}
    assert the_books_agree(shop, client)


def test_kocs_of_one_agency_are_paid_to_its_account_once_somebody_has_looked(shop: Shop, client: TestClient) -> None:
    kocs = [shop.an_affiliate(name, paid_to="sandbox_agency_9999") for name in ("Lan", "Minh")]
    # Coupons made after the first order would not count for an order placed before.
    for coupon in [shop.a_coupon(koc) for koc in kocs]:
        shop.an_order(f"by {coupon['code']}", coupon_codes=[coupon["code"]])
    shop.advance(days=15)
    shop.post("/v1/jobs/settle")

    held = shop.post("/v1/payout-runs", RUN, by="finance-maker")
    for koc in kocs:
        path = f"/v1/affiliates/{koc['id']}/payout-methods"
        [method] = shop.get(path, by="read").json()["data"]
        assert method["shared_with"] == 1
        confirm = f"{path}/{method['id']}/confirm-sharing"
        assert shop.post(confirm, {"reason_code": "agency"}, by="finance-checker").is_success
    paid = pay_out(shop, client)

    assert held.json()["detail"] == "Left out: 2 shared_account."
    assert [each["status"] for each in paid["payouts"]] == ["sent", "sent"]
    assert the_books_agree(shop, client)
