"""A lost order from the KOC's first question to the bank line, as both sides would follow it."""

from starlette.testclient import TestClient

from service.infra import ids
from service.infra.db import make_engine
from service.rebuild.books import rebuild
from tests.journeys.test_click_to_payout import earnings, pay_out, the_books_agree, the_service
from tests.support import databases
from tests.support.shop import Shop


def test_a_lost_order_is_claimed_decided_and_paid_and_stays_so(shop: Shop, client: TestClient) -> None:
    lan, minh = shop.an_affiliate("Lan"), shop.an_affiliate("Minh")
    click_id = shop.click(shop.a_link(lan))
    shop.a_coupon(minh, "MINH")
    order = shop.order("1001", click_ids=[click_id], coupon_codes=["MINH"])
    shop.deliver(order)
    # Lan's friend bought by her link, with a code that the shop had put on its own page.
    claimed = shop.post(
        "/v1/me/claims", {"kind": "wrong_koc", "order_number": "1001", "click_id": click_id}, by=lan["id"]
    ).json()
    assert claimed["answer"]["code"] == "credited_to_another"
    assert claimed["answer"]["touch"]["carried"] is True

    [open_claim] = shop.get("/v1/claims", state="open", by="read").json()["data"]
    shop.post(
        f"/v1/claims/{open_claim['id']}/decide",
        {"outcome": "accept", "attribute": True, "reason_code": "wrong_affiliate", "note": "The code was public."},
    )
    # And Minh, who had counted on it, is given something for the trouble.
    shop.post(
        "/v1/commissions",
        {
            "affiliate_id": minh["id"],
            "amount": {"amount_minor": 200, "currency": "USD"},
            "reason_code": "goodwill",
            "external_id": "minh-1001",
        },
    )
    shop.deliver(shop.refund(order, "25.00"))
    assert (earnings(shop, lan), earnings(shop, minh)) == ({"pending": 750}, {"pending": 200})

    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    pay_out(shop, client)

    assert (earnings(shop, lan), earnings(shop, minh)) == ({"paid": 750}, {"paid": 200})
    mine = shop.get(f"/v1/me/claims/{claimed['id']}", by=lan["id"]).json()
    assert (mine["state"], mine["decision"]["note"]) == ("accepted", "The code was public.")
    assert [each["status"] for each in mine["answer"]["commissions"]] == ["paid"]
    assert the_books_agree(shop, client)
    service = the_service(client)
    with databases.new_database(migrated=True) as url:
        into = make_engine(url, pool_size=2)
        rebuilt = rebuild(service.engine, into, ids.decode("mer", shop.id), service.security, tell=lambda *_: None)
        into.dispose()
    assert rebuilt.findings == []
