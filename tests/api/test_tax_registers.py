"""Registers for filing through the API: who may make them, what the trail says, and that no answer of them is kept."""

import csv
import io
from typing import Any

import pytest

from service.infra.db import fetch, read_session
from service.infra.ids import decode
from tests.support.shop import Shop

Json = dict[str, Any]


@pytest.fixture
def ann(shop: Shop) -> str:
    """Return somebody with form W-9 who was paid 3,000.00 dollars this year, before this service."""
    affiliate = str(shop.an_affiliate("Ann")["id"])
    person = {
        "legal_name": "Ann Other",
        "tax_code": "123-45-6789",
        "street": "1 Main St",
        "town": "Springfield",
        "country": "US",
    }
    body = {"rule": "regime", "kind": "individual", "country": "US", "details": {"form": "w9"}, "person": person}
    assert shop.put(f"/v1/affiliates/{affiliate}/tax-profile", body).status_code == 200
    opening = {
        "rule": "us_nec_2026",
        "duty": "backup",
        "period": "2026",
        "currency": "USD",
        "base_minor": 300_000,
        "tax_minor": 0,
        "note": "ledger of the old system",
    }
    assert shop.post(f"/v1/affiliates/{affiliate}/tax-openings", opening).status_code == 201
    return affiliate


def make(shop: Shop, name: str = "us_1099_nec", *, by: str = "finance-maker", **asked: Any) -> Any:
    return shop.post(f"/v1/tax-registers/{name}", {"year": 2026, **asked}, by=by)


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize("by", ["finance-maker", "admin"])
def test_a_register_names_who_is_filed_and_is_kept_nowhere(shop: Shop, ann: str, by: str) -> None:
    answer = make(shop, by=by)

    [row] = rows(answer)
    assert (row["affiliate_id"], row["legal_name"], row["tax_code"]) == (ann, "Ann Other", "123-45-6789")
    assert (row["paid_minor"], row["paid"], row["missing"]) == ("300000", "3000.00", "")
    assert row["notice"] == "To be confirmed by a tax professional before it is filed."
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"] == 'attachment; filename="us_1099_nec-2026.csv"'


@pytest.mark.parametrize("by", ["read", "finance-checker"])
def test_whoever_may_only_read_gets_no_register(shop: Shop, ann: str, by: str) -> None:
    answer = make(shop, by=by)

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")
    assert "Ann" not in answer.text
    assert ann not in answer.text


def test_the_trail_says_who_made_which_register_and_names_nobody(shop: Shop, ann: str) -> None:
    make(shop)
    make(shop, "cn_quarterly", quarter=1)
    make(shop, year=2050)

    trail = shop.get("/v1/audit", limit=100)
    made = [each for each in trail.json()["data"] if each["operation"] == "make_tax_register"]
    assert [(each["kind"], each["subject"], each["after"]) for each in made] == [
        ("tax_register", "cn_quarterly", {"period": "2026-Q1"}),
        ("tax_register", "us_1099_nec", {"period": "2026"}),
    ]
    assert "123-45-6789" not in trail.text
    assert ann in trail.text


def test_the_notice_is_in_the_language_asked_for(shop: Shop, ann: str) -> None:
    del ann
    in_chinese = "申报前须经税务专业人员确认。"

    [by_body] = rows(make(shop, language="zh"))
    [by_query] = rows(shop.post("/v1/tax-registers/us_1099_nec?language=zh", {"year": 2026}, by="finance-maker"))

    assert by_body["notice"] == by_query["notice"] == in_chinese
    assert {each["notice"] for each in shop.get("/v1/tax-registers", language="zh").json()["data"]} == {in_chinese}


def test_a_repeated_request_makes_the_register_anew(shop: Shop, ann: str) -> None:
    headers = shop.key_of("finance-maker") | {"Idempotency-Key": "register-1"}

    def asked() -> Any:
        return shop.client.post("/v1/tax-registers/us_1099_nec", json={"year": 2026}, headers=headers)

    first = asked()
    shop.patch(f"/v1/affiliates/{ann}", {"name": "Ann of later"})
    second = asked()

    assert [row["affiliate_name"] for row in rows(first) + rows(second)] == ["Ann", "Ann of later"]
    assert "idempotency-replayed" not in second.headers
    with read_session(shop.engine) as session:
        kept = fetch(
            session,
            "SELECT FROM kept_answer WHERE merchant_id = :id AND idempotency_key = 'register-1'",
            {"id": decode("mer", shop.id)},
        )
    assert kept == []


@pytest.mark.parametrize(
    ("name", "asked", "status", "code"),
    [
        ("w2", {}, 404, "unknown-tax-register"),
        ("dac7", {"year": 2099}, 422, "tax-register-period"),
        ("dac7", {"quarter": 1}, 422, "tax-register-period"),
        ("cn_quarterly", {}, 422, "tax-register-period"),
        ("cn_quarterly", {"quarter": 5}, 422, "invalid-request"),
        ("dac7", {"year": 1999}, 422, "invalid-request"),
    ],
)
def test_what_cannot_be_made_is_refused(shop: Shop, name: str, asked: Json, status: int, code: str) -> None:
    answer = make(shop, name, **asked)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_registers_are_listed_with_their_columns(shop: Shop) -> None:
    told = {each["name"]: each for each in shop.get("/v1/tax-registers", by="read").json()["data"]}

    assert {name: each["every"] for name, each in told.items()} == {
        "vn_yearly": "year",
        "cn_quarterly": "quarter",
        "us_1099_nec": "year",
        "us_1042_s": "year",
        "dac7": "year",
    }
    for name, each in told.items():
        cells = [cell for column in each["columns"] for cell in column["cells"]]
        quarter: Json = {"quarter": 1} if each["every"] == "quarter" else {}
        assert make(shop, name, **quarter).text == ",".join(cells) + "\r\n"


def test_another_merchant_s_payees_are_not_there(shop: Shop, ann: str) -> None:
    other = Shop(shop.client)

    assert rows(make(other)) == []
    assert [row["affiliate_id"] for row in rows(make(shop))] == [ann]
