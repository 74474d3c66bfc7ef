"""Statements through the API: asked for, read in three forms by finance and by the KOC, and answered."""

import csv
import io
import json
import re
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.reports import issue
from service.worker import run_once
from tests.support.shop import Shop

Json = dict[str, Any]
HOSTILE = '<script>alert("x")</script>\'&"'


@pytest.fixture
def lan(shop: Shop) -> str:
    """Return a KOC whose order of 100.00 was paid, and part of it came back."""
    affiliate = shop.an_affiliate("Lan")
    shop.a_coupon(affiliate, "LAN")
    shop.an_order("1001", coupon_codes=["LAN"], placed_at=shop.time(days=20))
    shop.deliver(shop.refund({"id": "1001", "currency": "USD"}, "25.00"))
    shop.post("/v1/jobs/settle", by="finance-maker")
    return str(affiliate["id"])


def issued(shop: Shop, **asked: Any) -> Json:
    """Issue statements of today, tomorrow. Returns the run."""
    today = shop.now().date().isoformat()
    shop.advance(days=1)
    answer = shop.post("/v1/statements", {"begins_on": today, "ends_on": today, **asked}, by="finance-maker")
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def only(shop: Shop, *, by: str = "read") -> Json:
    [found] = shop.get("/v1/statements", by=by).json()["data"]
    return dict(found)


def html(shop: Shop, statement: Json, **query: Any) -> Response:
    return shop.get(f"/v1/statements/{statement['id']}.html", by="read", **query)


def test_a_statement_is_issued_listed_and_told_with_a_digest_anybody_can_compute(shop: Shop, lan: str) -> None:
    run = issued(shop)

    statement = only(shop)
    detail = shop.get(f"/v1/statements/{statement['id']}", by="read").json()
    assert (run["state"], run["issued"], run["accounts_done"]) == ("done", 1, 1)
    assert re.fullmatch(r"20\d\d-000001", statement["number"])
    assert (statement["affiliate_id"], statement["closing"]["amount_minor"]) == (lan, 750)
    assert statement["provisional"]
    document = detail.pop("document")
    assert detail == statement
    written = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(written.encode()).hexdigest() == statement["digest"]
    assert [step["step"] for step in document["waterfall"]] == ["opening", "earned", "taken_back", "closing"]
    assert [line["refunded_minor"] for line in document["commissions"][0]["receipt"]["lines"]] == [2_500]


def test_a_month_that_is_not_over_is_refused(shop: Shop, lan: str) -> None:
    del lan
    now = shop.now()

    refused = shop.post("/v1/statements", {"month": f"{now:%Y-%m}"}, by="finance-maker")
    both = shop.post("/v1/statements", {"month": "2026-01", "begins_on": "2026-01-01"}, by="finance-maker")
    half = shop.post("/v1/statements", {"begins_on": "2026-01-01"}, by="finance-maker")
    strange = shop.post("/v1/statements", {"month": "0000-01"}, by="finance-maker")

    assert (refused.status_code, refused.json()["code"]) == (409, "statement-period-not-over")
    assert [each.status_code for each in (both, half, strange)] == [422, 422, 422]


def test_a_calendar_month_is_issued_when_it_is_over(shop: Shop, lan: str) -> None:
    month = f"{shop.now():%Y-%m}"
    shop.advance(days=32)

    run = shop.post("/v1/statements", {"month": month, "affiliate_ids": [lan]}, by="finance-maker").json()

    assert (run["issued"], run["affiliate_ids"], run["begins_on"]) == (1, [lan], f"{month}-01")
    assert shop.get("/v1/statement-runs", by="read").json()["data"] == [run]
    assert shop.get(f"/v1/statement-runs/{run['id']}", by="read").json() == run


def test_an_affiliate_of_somebody_else_is_not_found(client: TestClient, shop: Shop, lan: str) -> None:
    del lan
    stranger = Shop(client).an_affiliate("Stranger")["id"]
    asked = {"month": "2026-01", "affiliate_ids": [stranger]}

    refused = shop.post("/v1/statements", asked, by="finance-maker")

    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")


def test_lists_are_narrowed(shop: Shop, lan: str) -> None:
    run = issued(shop)
    day = run["begins_on"]

    def count(**query: Any) -> int:
        return len(shop.get("/v1/statements", by="read", **query).json()["data"])

    assert count(affiliate_id=lan, currency="USD", begins_on=day, run_id=run["id"]) == 1
    assert count(currency="EUR") == count(begins_on="2026-01-01") == count(answer="accepted") == 0
    shop.post(f"/v1/me/statements/{only(shop)['id']}/accept", by=lan)
    assert count(answer="accepted") == 1


def test_many_are_the_workers(shop: Shop, lan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del lan
    monkeypatch.setattr(issue, "AT_ONCE_MAX", 0)
    run = issued(shop)
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    assert (run["state"], run["issued"], run["accounts_total"]) == ("queued", 0, 1)

    run_once(service.engine, service.settings, service.security)

    after = shop.get(f"/v1/statement-runs/{run['id']}", by="read").json()
    assert (after["state"], after["issued"]) == ("done", 1)
    with read_session(service.engine) as session:
        assert fetch(session, "SELECT FROM job WHERE kind = 'statements'") == []


def test_a_statement_of_closed_books_is_final_and_a_late_return_stands_in_the_next(shop: Shop, lan: str) -> None:
    today = shop.now().date().isoformat()
    shop.advance(days=1)
    assert shop.post("/v1/book-closes", {"until": today}, by="finance-checker").status_code == 201
    asked = {"begins_on": today, "ends_on": today}
    shop.post("/v1/statements", asked, by="finance-maker")
    first = only(shop)

    shop.deliver(shop.refund({"id": "1001", "currency": "USD"}, "75.00", "r-2"))
    again = shop.post("/v1/statements", asked, by="finance-maker").json()
    tomorrow = issued(shop)

    assert (again["issued"], again["kept"], tomorrow["issued"]) == (0, 1, 1)
    second, kept = shop.get("/v1/statements", by="read").json()["data"]
    assert (first["provisional"], kept) == (False, first)
    assert (second["affiliate_id"], second["opening"], second["closing"]["amount_minor"]) == (lan, first["closing"], 0)


# What the KOC sees and says.


def test_a_koc_reads_only_its_own(shop: Shop, lan: str) -> None:
    other = shop.an_affiliate("Other")
    issued(shop)
    statement = only(shop)

    mine = shop.get("/v1/me/statements", by=lan).json()["data"]
    theirs = shop.get("/v1/me/statements", by=other["id"]).json()["data"]
    assert (mine, theirs) == ([statement], [])
    for end in ("", ".csv", ".html"):
        path = f"/v1/me/statements/{statement['id']}{end}"
        assert shop.get(path, by=lan).status_code == 200
        refused = shop.get(path, by=other["id"])
        assert (refused.status_code, refused.json()["code"]) == (404, "statement-not-found")
        same = shop.get(path.replace("/me", ""), by="read")
        assert shop.get(path, by=lan).content == same.content
    for verb, body in (("accept", {}), ("object", {"note": "mine"})):
        refused = shop.post(f"/v1/me/statements/{statement['id']}/{verb}", body, by=other["id"])
        assert refused.status_code == 404


def test_a_koc_objects_and_accepts_and_the_shop_is_told(shop: Shop, lan: str) -> None:
    issued(shop)
    path = f"/v1/me/statements/{only(shop)['id']}"

    objected = shop.post(f"{path}/object", {"note": "Order 1002 is missing."}, by=lan).json()
    accepted = shop.post(f"{path}/accept", by=lan).json()

    assert [(each["kind"], each["note"]) for each in objected["answers"]] == [("objected", "Order 1002 is missing.")]
    assert [each["kind"] for each in accepted["answers"]] == ["objected", "accepted"]
    events = shop.get("/v1/events", by="read").json()["data"]
    assert [each["type"] for each in events if each["type"].startswith("statement.")] == [
        "statement.accepted",
        "statement.objected",
        "statement.issued",
    ]


def test_an_objection_is_refused_when_the_days_for_it_are_over(shop: Shop, lan: str) -> None:
    shop.put("/v1/statement-settings", {"answer_days": 3})
    issued(shop)
    statement = only(shop)
    shop.advance(days=4)

    refused = shop.post(f"/v1/me/statements/{statement['id']}/object", {"note": "late"}, by=lan)

    assert (refused.status_code, refused.json()["code"]) == (409, "statement-objection-late")


# Forms.


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.headless: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "th" and "scope" not in dict(attrs):
            self.headless.append(str(self.getpos()))
        if tag not in {"meta", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("language", "title", "step"),
    [
        ("en", "Commission statement", "Earned on orders"),
        ("vi", "Bảng kê hoa hồng", "Hoa hồng từ đơn hàng"),
        ("zh", "佣金对账单", "订单佣金"),
    ],
)
def test_the_page_is_in_the_readers_language_and_loads_nothing(
    shop: Shop, lan: str, language: str, title: str, step: str
) -> None:
    del lan
    issued(shop)
    statement = only(shop)

    page = html(shop, statement, language=language)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-language"] == language
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert f'<html lang="{language}">' in page.text
    assert f"<h1>{title}</h1>" in page.text
    assert step in page.text
    assert statement["number"] in page.text
    assert statement["digest"] in page.text
    made = Elements(page.text)
    assert made.open == made.headless == []
    assert not {"script", "link", "img", "iframe", "form"} & set(made.tags)
    assert not {"style", "src", "href", "onload", "onclick"} & {name for name, _ in made.attributes}
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_the_policy_names_the_very_styles_of_the_page(shop: Shop, lan: str) -> None:
    from base64 import b64encode

    del lan
    issued(shop)
    page = html(shop, only(shop))

    [styles] = re.findall(r"<style>(.*)</style>", page.text, re.DOTALL)

    assert b64encode(sha256(styles.encode()).digest()).decode() in page.headers["content-security-policy"]


def test_the_page_of_a_replaced_one_names_what_took_its_place(shop: Shop, lan: str) -> None:
    run = issued(shop, affiliate_ids=[lan])
    first = only(shop)
    with unit_of_work(shop.engine) as session:
        # As by a process whose clock is behind: booked on the day before, which is not closed.
        execute(session, "UPDATE statement SET legs = legs - 1")
    again = {name: run[name] for name in ("begins_on", "ends_on", "affiliate_ids")}

    assert shop.post("/v1/statements", again, by="finance-maker").json()["issued"] == 1

    second, old = shop.get("/v1/statements", by="read").json()["data"]
    assert (old["replaced_by"], second["replaces_id"], old["id"]) == (second["id"], first["id"], first["id"])
    assert f"Replaced: {second['number']}" in html(shop, old, language="en").text
    assert f"In place of {first['number']}" in html(shop, second, language="en").text
    refused = shop.post(f"/v1/me/statements/{old['id']}/accept", by=lan)
    assert (refused.status_code, refused.json()["code"]) == (409, "statement-replaced")


def test_hostile_names_stay_text(shop: Shop) -> None:
    affiliate = shop.an_affiliate(HOSTILE)
    shop.a_coupon(affiliate, "EVIL")
    shop.an_order(f"=1+1 {HOSTILE}", coupon_codes=["EVIL"], placed_at=shop.time(days=20))
    shop.put("/v1/statement-settings", {"legal_name": HOSTILE, "address": f"{HOSTILE}\n{HOSTILE}"})
    issued(shop)
    statement = only(shop)

    page = html(shop, statement)
    rows = list(csv.DictReader(io.StringIO(shop.get(f"/v1/statements/{statement['id']}.csv", by="read").text)))

    assert "<script" not in page.text
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page.text
    numbers = {row["order_number"] for row in rows if row["order_number"]}
    assert numbers == {f"'=1+1 {HOSTILE}"}


def test_the_csv_adds_up(shop: Shop, lan: str) -> None:
    issued(shop)
    statement = only(shop)

    answer = shop.get(f"/v1/statements/{statement['id']}.csv", by="read")

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert f'filename="statement-{statement["number"]}.csv"' in answer.headers["content-disposition"]
    owed = {
        kind: sum(int(row["owed_minor"] or 0) for row in rows if row["row"] == kind)
        for kind in ("opening", "movement", "closing")
    }
    assert owed == {"opening": 0, "movement": 750, "closing": 750}
    [line] = [row for row in rows if row["row"] == "line"]
    assert (line["order_number"], line["base_minor"], line["rate"], line["commission_minor"]) == (
        "1001",
        "7500",
        "10%",
        "750",
    )
    assert {row["affiliate_id"] for row in rows} == {lan}
    assert [(row["amount"], row["owed"]) for row in rows if row["kind"] == "taken_back"] == [("2.50", "-2.50")]


# Self-billing.


def test_an_invoice_has_what_an_invoice_needs(shop: Shop, lan: str) -> None:
    person = {
        "legal_name": "Nguyễn Thị Lan",
        "vat_id": "DE123456789",
        "street": "Hauptstr. 1",
        "postcode": "10115",
        "town": "Berlin",
    }
    profile = {"rule": "regime", "kind": "individual", "country": "DE", "person": person}
    assert shop.put(f"/v1/affiliates/{lan}/tax-profile", profile).status_code == 200
    settings = {"legal_name": "Shop GmbH", "vat_id": "DE999", "self_billing": True, "vat_note": "Reverse charge"}
    shop.put("/v1/statement-settings", settings)
    agreed = {"agreed_on": "2026-01-31", "reference": "contract 7"}
    agreement = shop.post(f"/v1/affiliates/{lan}/self-billing-agreements", agreed)
    assert agreement.status_code == 201
    issued(shop)
    statement = only(shop)

    page = html(shop, statement, language="en").text
    document = shop.get(f"/v1/statements/{statement['id']}", by="read").json()["document"]

    assert statement["self_billed"]
    assert document["self_billing"]["amount_minor"] == 750
    for said in (
        "Self-billing",
        "Nguyễn Thị Lan",
        "DE123456789",
        "Hauptstr. 1",
        "10115 Berlin",
        "Shop GmbH",
        "DE999",
        "Reverse charge",
        "contract 7",
    ):
        assert said in page
    for language, said in (("vi", "Self-billing (bên mua lập hóa đơn)"), ("zh", "Self-billing（由买方开具）")):
        assert said in html(shop, statement, language=language).text
    listed = shop.get(f"/v1/affiliates/{lan}/self-billing-agreements", by="read").json()["data"]
    assert listed == [agreement.json()]
    with read_session(shop.engine) as session:
        [stored] = fetch(session, "SELECT CAST(document AS text) AS text, digest FROM statement")
    assert "DE123456789" not in stored.text
    written = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(written.encode()).digest() == bytes(stored.digest)


def test_an_agreement_is_of_today_or_before_and_of_a_known_affiliate(shop: Shop, lan: str) -> None:
    tomorrow = (shop.now() + timedelta(days=1)).date().isoformat()
    unknown = lan[:-4] + "0000"

    late = shop.post(f"/v1/affiliates/{lan}/self-billing-agreements", {"agreed_on": tomorrow})
    missing = shop.post(f"/v1/affiliates/{unknown}/self-billing-agreements", {"agreed_on": "2026-01-31"})
    unread = shop.get(f"/v1/affiliates/{unknown}/self-billing-agreements", by="read")

    assert (late.status_code, missing.status_code, unread.status_code) == (422, 404, 404)


def test_settings_are_kept_and_guarded_by_their_tag(shop: Shop) -> None:
    before = shop.get("/v1/statement-settings")
    asked = {"legal_name": "Shop GmbH", "address": "Weg 2\n20095 Hamburg", "answer_days": 30}

    put = shop.put("/v1/statement-settings", asked)
    stale = shop.client.put(
        "/v1/statement-settings", json=asked, headers={**shop.key_of("admin"), "If-Match": before.headers["etag"]}
    )

    assert (before.json()["answer_days"], before.json()["updated_at"]) == (14, None)
    assert {name: put.json()[name] for name in asked} == asked
    assert stale.status_code == 412
    assert shop.get("/v1/statement-settings").json() == put.json()
