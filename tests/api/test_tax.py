"""Withholding through the API: what is declared, who payees are, what is shown, passed on and put right."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Shop

Json = dict[str, Any]


def vnd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "VND"}


@pytest.fixture
def lan(shop: Shop) -> str:
    """Return an individual in Vietnam; nothing is declared yet."""
    affiliate = str(shop.an_affiliate("Lan")["id"])
    profiled(shop, affiliate)
    return affiliate


def profiled(shop: Shop, affiliate: str, **changes: Any) -> Json:
    body = {"rule": "regime", "kind": "individual", "country": "VN", "details": {"resident": True}, **changes}
    answer = shop.put(f"/v1/affiliates/{affiliate}/tax-profile", body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def declared(shop: Shop, **changes: Any) -> Json:
    answer = shop.post("/v1/tax-regimes", {"country": "VN", "regime": "vn", **changes})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def preview(shop: Shop, affiliate: str, amount: int, **more: Any) -> Any:
    asked = {"affiliate_id": affiliate, "gross": vnd(amount), "pay_on": "2026-11-20", **more}
    return shop.post("/v1/tax-previews", asked, by="finance-maker")


def test_a_preview_shows_every_figure(shop: Shop, lan: str) -> None:
    today = declared(shop)["valid_from"]

    shown = preview(shop, lan, 12_345_678, pay_on=today).json()

    assert (shown["rule"], shown["withheld"]) == ("vn_2026_07", vnd(1_234_568))
    [part] = shown["parts"]
    assert (part["duty"], part["base"], part["tax"]) == ("income_tax", vnd(12_345_678), vnd(1_234_568))
    assert part["steps"]["rate"] == "10"
    assert "1,234,568 VND" in " ".join(shown["words"])


def test_without_a_declaration_nothing_can_be_decided(shop: Shop, lan: str) -> None:
    refused = preview(shop, lan, 5_000_000)

    assert (refused.status_code, refused.json()["code"]) == (409, "tax-undecided")
    assert "no_tax_regime" in refused.json()["detail"]


def test_what_is_declared_is_never_back_dated(shop: Shop) -> None:
    answer = shop.post("/v1/tax-regimes", {"country": "VN", "regime": "vn", "valid_from": "2020-01-01"})

    assert (answer.status_code, answer.json()["code"]) == (422, "tax-regime-back-dated")


def test_of_two_declarations_for_one_day_the_later_counts(shop: Shop, lan: str) -> None:
    today = declared(shop)["valid_from"]
    declared(shop, mode="off")

    assert preview(shop, lan, 5_000_000, pay_on=today).json()["rule"] == "off"
    assert [each["mode"] for each in shop.get("/v1/tax-regimes", country="VN").json()["data"]] == ["off", "withhold"]


def test_a_regime_needs_to_know_who_is_paid(shop: Shop) -> None:
    affiliate = shop.an_affiliate("Lan")["id"]

    answer = shop.put(f"/v1/affiliates/{affiliate}/tax-profile", {"rule": "regime"})

    assert (answer.status_code, answer.json()["code"]) == (422, "tax-profile-incomplete")


def test_a_detail_nobody_asks_for_is_refused(shop: Shop, lan: str) -> None:
    answer = shop.put(
        f"/v1/affiliates/{lan}/tax-profile",
        {"rule": "regime", "kind": "individual", "country": "VN", "details": {"favourite_colour": "red"}},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-tax-detail")


def test_a_person_is_kept_but_never_shown(shop: Shop, lan: str) -> None:
    person = {"legal_name": "NGUYEN THI LAN", "tax_code": "8012345678", "born_on": "1999-01-02", "town": "Hanoi"}

    shown = profiled(shop, lan, person=person)

    assert (shown["tax_code_hint"], shown["has_person"]) == ("…678", True)
    trail = shop.get("/v1/audit", subject=lan).text
    for text in (str(shown), trail, shop.get(f"/v1/affiliates/{lan}/tax-profile").text):
        assert not any(word in text for word in ("NGUYEN", "8012345678", "1999-01-02", "Hanoi"))
    # A later version that says nothing of the person keeps what is known.
    assert profiled(shop, lan)["tax_code_hint"] == "…678"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"period": "2026"}, "cn_labour_61_2018 sums income_tax by month; 2026 is none."),
        ({"period": "2026-13"}, "2026-13 is no year, month or day of the calendar."),
        ({"duty": "vat"}, "cn_labour_61_2018 has no vat; it has income_tax."),
        ({"currency": "USD"}, "cn_labour_61_2018 counts CNY, not USD."),
    ],
    ids=["year", "month", "duty", "currency"],
)
def test_an_opening_that_no_decision_would_count_is_refused(shop: Shop, changed: dict[str, str], why: str) -> None:
    li = str(shop.an_affiliate("Li")["id"])
    opening = {
        "rule": "cn_labour_61_2018",
        "duty": "income_tax",
        "period": "2026-05",
        "currency": "CNY",
        "base_minor": 500_000,
        "tax_minor": 0,
        "note": "payslips",
    }

    answer = shop.post(f"/v1/affiliates/{li}/tax-openings", opening | changed, by="finance-maker")

    assert (answer.status_code, answer.json()["code"]) == (422, "tax-opening-not-counted")
    assert answer.json()["detail"] == why


def test_openings_count_in_their_period(shop: Shop) -> None:
    li = str(shop.an_affiliate("Li")["id"])
    profiled(shop, li, country="CN")
    today = declared(shop, country="CN", regime="cn_labour")["valid_from"]
    opening = {
        "rule": "cn_labour_61_2018",
        "duty": "income_tax",
        "period": today[:7],
        "currency": "CNY",
        "base_minor": 300_000,
        "tax_minor": 44_000,
        "note": "payslips of the old system",
    }
    assert shop.post(f"/v1/affiliates/{li}/tax-openings", opening, by="finance-maker").status_code == 201

    asked = {"affiliate_id": li, "gross": {"amount_minor": 300_000, "currency": "CNY"}, "pay_on": today}
    shown = shop.post("/v1/tax-previews", asked, by="finance-maker").json()

    assert shown["withheld"]["amount_minor"] == 52_000
    [entry] = shop.get(f"/v1/affiliates/{li}/tax-entries").json()["data"]
    assert (entry["kind"], entry["note"]) == ("opening", "payslips of the old system")
    # It was passed on elsewhere.
    assert shop.get("/v1/tax-due").json()["data"] == []


def test_every_table_names_its_source_and_that_nobody_has_confirmed_it(shop: Shop) -> None:
    tables = shop.get("/v1/tax-tables").json()["data"]

    assert {"vn_2013", "vn_2026_07", "cn_labour_61_2018", "cn_platform_16_2025", "us_nec_2026", "eu_none"} <= {
        table["name"] for table in tables
    }
    assert all(table["source"] and table["note"] and table["approved_by"] is None for table in tables)


def test_a_payout_is_withheld_from_passed_on_and_put_right(shop: Shop, client: TestClient) -> None:
    lan = str(shop.an_affiliate("Lan")["id"])
    profiled(shop, lan)
    declared(shop)
    shop.an_order(
        currency="VND",
        coupon_codes=[shop.a_coupon({"id": lan})["code"]],
        lines=[{"id": "1", "sku": "sku-1", "quantity": 1, "net": "100000000"}],
    )
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle").json()["settled"] == 1
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "VND"}, by="finance-maker").json()
    shop.let_out(run)
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)

    [payout] = shop.get("/v1/payouts", run_id=run["id"]).json()["data"]
    assert (payout["tax"], payout["net"], payout["tax_rule"]) == (vnd(1_000_000), vnd(9_000_000), "vn_2026_07")
    explained = shop.get(f"/v1/payouts/{payout['id']}/tax", language="zh").json()
    assert (explained["withheld"], explained["rule"]) == (vnd(1_000_000), "vn_2026_07")
    assert explained["words"][0].startswith("越南")
    assert shop.get(f"/v1/me/payouts/{payout['id']}/tax", by=lan).json()["parts"] == explained["parts"]
    [due] = shop.get("/v1/tax-due").json()["data"]
    assert (due["payees"], due["base"], due["due"]) == (1, vnd(10_000_000), vnd(1_000_000))
    correction = {
        "kind": "untax",
        "affiliate_id": lan,
        "amount": vnd(400_000),
        "reason": "withheld by mistake",
        "evidence": "return 7",
        "withholding": {"rule": due["rule"], "duty": due["duty"], "period": due["period"]},
    }
    assert shop.post("/v1/corrections", correction | {"reason": " "}, by="finance-maker").status_code == 422
    asked = shop.post("/v1/corrections", correction, by="finance-maker").json()
    assert shop.post(f"/v1/corrections/{asked['id']}/book", by="finance-maker").status_code == 403
    booked = shop.post(f"/v1/corrections/{asked['id']}/book", by="finance-checker").json()
    assert (booked["status"], booked["amount"]) == ("booked", vnd(400_000))
    # It is income again when it is paid, and counts once.
    assert booked["base"] == vnd(400_000)
    told = {"rule": due["rule"], "duty": due["duty"], "period": due["period"], "currency": "VND"}
    passed_on = shop.post(
        "/v1/tax-remittances", {**told, "reference": "KB-1", "paid_on": shop.time()[:10]}, by="finance-maker"
    ).json()

    assert passed_on["amount"] == vnd(600_000)
    assert shop.get("/v1/tax-due").json()["data"] == []
    [balance] = shop.get("/v1/balances", affiliate_id=lan).json()["data"]
    assert {name: balance[name]["amount_minor"] for name in ("earned", "payable", "paid", "withheld")} == {
        "earned": 10_000_000,
        "payable": 400_000,
        "paid": 9_000_000,
        "withheld": 600_000,
    }


def test_a_correction_can_be_turned_down(shop: Shop, lan: str) -> None:
    refused = shop.post(
        "/v1/corrections",
        {"kind": "write_off", "affiliate_id": lan, "amount": vnd(1), "reason": "nothing is owed"},
        by="finance-maker",
    )

    assert (refused.status_code, refused.json()["code"]) == (409, "correction-too-large")
