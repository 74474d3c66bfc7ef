"""Closed books over HTTP: who may close, what is kept, and what a late posting says of itself."""

from datetime import timedelta

from tests.support.shop import Json, Shop


def closed(shop: Shop, **asked: str) -> Json:
    answer = shop.post("/v1/book-closes", asked, by="finance-checker")
    assert answer.is_success, answer.text
    body: Json = answer.json()
    return body


def today(shop: Shop) -> str:
    return shop.now().date().isoformat()


def test_a_checker_closes_the_days_that_are_over(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order(coupon_codes=["ANN10"])
    day = today(shop)
    shop.advance(days=1)

    answer = shop.post("/v1/book-closes", {"until": day}, by="finance-checker")

    assert answer.status_code == 201
    body = answer.json()
    assert (body["until"], body["previous_digest"]) == (day, None)
    assert {(line["account"], line["closing"]["amount_minor"]) for line in body["lines"]} == {
        ("commission_expense", 1000),
        ("pending", -1000),
    }
    assert shop.get(f"/v1/book-closes/{body['id']}").json() == body
    assert shop.get("/v1/book-closes").json()["data"] == [body]


def test_a_month_outside_of_what_can_be_named_is_refused(shop: Shop) -> None:
    for month in ("0000-10", "0001-01", "9999-12"):
        close = shop.post("/v1/book-closes", {"month": month}, by="finance-checker")
        statements = shop.post("/v1/statements", {"month": month}, by="finance-maker")

        assert (close.status_code, close.json()["errors"][0]["pointer"]) == (422, "#/month")
        assert (statements.status_code, statements.json()["errors"][0]["pointer"]) == (422, "#/month")
    early = shop.post("/v1/book-closes", {"month": "1970-01"}, by="finance-checker")
    assert early.json()["code"] == "before-the-books"


def test_only_a_checker_closes_and_everybody_who_reads_sees_it(shop: Shop) -> None:
    day = today(shop)
    shop.advance(days=1)

    refused = [shop.post("/v1/book-closes", {"until": day}, by=role).status_code for role in ("admin", "finance-maker")]

    assert refused == [403, 403]
    assert closed(shop, until=day)["until"] == day
    assert [shop.get("/v1/book-closes", by=role).status_code for role in ("read", "finance-maker")] == [200, 200]


def test_a_day_that_is_not_over_is_refused(shop: Shop) -> None:
    answer = shop.post("/v1/book-closes", {"until": today(shop)}, by="finance-checker")

    assert (answer.status_code, answer.json()["code"]) == (409, "day-not-over")


def test_a_month_is_closed_by_its_name(shop: Shop) -> None:
    month = shop.now().strftime("%Y-%m")
    shop.advance(days=32)

    body = closed(shop, month=month)

    assert body["until"][:7] == month
    assert closed(shop, until=body["until"])["id"] == body["id"]


def test_one_of_until_and_month_is_given(shop: Shop) -> None:
    for asked in ({}, {"until": "2026-10-31", "month": "2026-10"}, {"month": "2026-13"}):
        assert shop.post("/v1/book-closes", asked, by="finance-checker").status_code == 422


def test_closing_what_is_closed_answers_200_with_the_same_close(shop: Shop) -> None:
    day = today(shop)
    shop.advance(days=3)
    first = closed(shop, until=day)

    again = shop.post("/v1/book-closes", {"until": day}, by="finance-checker")

    assert (again.status_code, again.json()) == (200, first)


def test_the_next_close_follows_the_last_one(shop: Shop) -> None:
    day = shop.now().date()
    shop.advance(days=9)
    first, second = closed(shop, until=day.isoformat()), closed(shop, until=(day + timedelta(days=4)).isoformat())

    assert second["begins_on"] == (day + timedelta(days=1)).isoformat()
    assert second["previous_digest"] == first["digest"]
    assert [one["id"] for one in shop.get("/v1/book-closes").json()["data"]] == [second["id"], first["id"]]


def test_a_posting_that_is_not_late_was_meant_for_its_own_day(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order(coupon_codes=["ANN10"])

    [posting] = shop.get("/v1/ledger/postings").json()["data"]

    assert (posting["day"], posting["meant_for"]) == (today(shop), None)


def test_the_trial_balance_tells_how_far_the_books_are_closed(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order(coupon_codes=["ANN10"])
    day = today(shop)
    shop.advance(days=1)
    closed(shop, until=day)
    shop.an_order(coupon_codes=["ANN10"])
    tomorrow = today(shop)

    body = shop.get("/v1/ledger/trial-balance", **{"from": tomorrow, "to": tomorrow}).json()

    assert (body["begins_on"], body["until"], body["closed_until"]) == (tomorrow, tomorrow, day)
    assert [
        [line["account"], *(line[name]["amount_minor"] for name in ("opening", "debits", "credits", "closing"))]
        for line in body["lines"]
    ] == [["commission_expense", 1000, 1000, 0, 2000], ["pending", -1000, 0, 1000, -2000]]
    assert shop.get("/v1/ledger/trial-balance", currency="VND").json()["lines"] == []
    assert shop.get("/v1/ledger/trial-balance", **{"from": tomorrow, "to": day}).status_code == 422


def test_a_close_is_in_the_audit_trail(shop: Shop) -> None:
    day = today(shop)
    shop.advance(days=1)
    body = closed(shop, until=day)

    [row] = shop.get("/v1/audit", operation="close_books").json()["data"]

    assert (row["kind"], row["subject"], row["before"]) == ("book_close", body["id"], None)
    assert (row["after"]["until"], row["after"]["digest"]) == (day, body["digest"])
    assert row["after"]["closed_by"] == body["closed_by"] == row["key_id"]


def test_a_close_that_is_not_there_is_404(shop: Shop) -> None:
    answer = shop.get("/v1/book-closes/bcl_01h455vb4pex5vsknk084sn02q")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-book-close")
