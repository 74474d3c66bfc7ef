"""Reconciliations over HTTP: asked for, sent their files, watched, read and explained."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from service.api import reconciliations
from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Json, Shop

MAPPING: Json = {
    "order": {"id": "id", "updated_at": "at", "placed_at": "at", "currency": {"value": "USD"}},
    "line": {"net": "net"},
}


def worked(shop: Shop) -> None:
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def days(shop: Shop) -> Json:
    today = shop.now().date()
    return {"begins_on": (today - timedelta(days=9)).isoformat(), "until": today.isoformat()}


def orders(shop: Shop) -> Json:
    return {"orders": {"source_id": shop.source["source"]["id"], "mapping": MAPPING}}


def asked(shop: Shop, *, by: str = "finance-maker", **more: Any) -> Any:
    return shop.post("/v1/reconciliations", days(shop) | more, by=by)


def sent(shop: Shop, made: Json, file: str, content: str | bytes, **query: Any) -> Any:
    path = f"/v1/reconciliations/{made['id']}/files/{file}"
    return shop.client.post(path, content=content, params=query, headers=shop.key_of("finance-maker"))


def done(shop: Shop, content: str) -> Json:
    """A reconciliation of a file of orders that the worker has done."""
    made = asked(shop, **orders(shop))
    assert made.status_code == 201, made.text
    assert sent(shop, made.json(), "orders", content).status_code == 202
    worked(shop)
    found: Json = shop.get(f"/v1/reconciliations/{made.json()['id']}").json()
    assert found["state"] == "done", found
    return found


def a_file(shop: Shop, *names: str) -> str:
    at = shop.time(days=2)
    return "id,at,net\n" + "".join(f"{name},{at},100.00\n" for name in names)


def differences(shop: Shop, found: Json, **query: Any) -> list[Json]:
    answer = shop.get(f"/v1/reconciliations/{found['id']}/differences", **query)
    assert answer.status_code == 200, answer.text
    listed: list[Json] = answer.json()["data"]
    return listed


def test_a_file_of_orders_is_compared_with_what_came(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order("same", placed_at=shop.time(days=2))
    shop.an_order("extra", placed_at=shop.time(days=3), coupon_codes=["ANN10"])

    found = done(shop, a_file(shop, "same", "missing"))

    assert found["differences"] == [
        {"about": "order", "kind": "extra", "differences": 1, "unexplained": 1},
        {"about": "order", "kind": "missing", "differences": 1, "unexplained": 1},
    ]
    assert (found["progress"]["read"], found["progress"]["compared"], found["awaits"]) == (2, 4, [])
    missing, extra = differences(shop, found)
    assert (missing["external_id"], missing["theirs"], missing["ours"]) == (
        "missing",
        {"amount_minor": 10_000, "currency": "USD"},
        None,
    )
    assert extra["order_id"] == shop.get("/v1/orders", external_id="extra").json()["data"][0]["id"]
    assert extra["ours_figures"]["commissions"] == {"USD": 1000}
    path = f"/v1/reconciliations/{found['id']}/differences/{extra['id']}"
    assert shop.get(path).json() == extra


def test_payouts_are_compared_with_a_bank_s_lines(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order(coupon_codes=["ANN10"])
    shop.advance(days=20)
    worked(shop)
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    shop.let_out(run)
    worked(shop)
    [payout] = shop.get("/v1/payouts").json()["data"]
    made = asked(shop, bank={"format": "csv"}).json()
    rows = f"{shop.now().date()},{payout['id']},9.99,USD\n{shop.now().date()},other,1.00,USD\n"

    answer = sent(shop, made, "bank", "date,end_to_end_id,amount,currency\n" + rows)
    worked(shop)

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    amount, missing = differences(shop, made)
    assert (amount["kind"], amount["payout_id"], amount["theirs"]["amount_minor"], amount["ours"]["amount_minor"]) == (
        "amount",
        payout["id"],
        999,
        1000,
    )
    assert (missing["kind"], missing["external_id"], missing["payout_id"]) == ("missing", "other", None)


def test_a_banks_file_of_one_rail_and_currency_seeks_no_other_payouts_in_it(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "ANN10")
    shop.an_order(coupon_codes=["ANN10"])
    shop.advance(days=20)
    worked(shop)
    shop.let_out(shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json())
    worked(shop)

    def counted(**narrowed: str) -> tuple[Json, int]:
        made = asked(shop, bank={"format": "csv"} | narrowed).json()
        sent(shop, made, "bank", "date,reference,amount,currency\n")
        worked(shop)
        found = shop.get(f"/v1/reconciliations/{made['id']}").json()
        return {"rail": found["rail"], "currency": found["currency"]}, sum(
            each["differences"] for each in found["differences"]
        )

    assert counted() == ({"rail": None, "currency": None}, 1)
    assert counted(rail="sandbox", currency="USD") == ({"rail": "sandbox", "currency": "USD"}, 1)
    assert counted(rail="sepa_file") == ({"rail": "sepa_file", "currency": None}, 0)
    assert counted(currency="EUR") == ({"rail": None, "currency": "EUR"}, 0)


def test_both_files_are_awaited_and_each_may_come_in_parts(shop: Shop) -> None:
    shop.an_order("same", placed_at=shop.time(days=2))
    made = asked(shop, **orders(shop), bank={"format": "csv"}).json()
    content = a_file(shop, "same")

    first = sent(shop, made, "orders", content[:20], part=1, last=False).json()
    second = sent(shop, made, "orders", content[20:], part=2).json()
    third = sent(shop, made, "bank", "date,reference,amount,currency\n").json()
    worked(shop)

    assert [each["awaits"] for each in (made, first, second, third)] == [
        ["orders", "bank"],
        ["orders", "bank"],
        ["bank"],
        [],
    ]
    assert (first["state"], third["state"]) == ("awaiting_files", "queued")
    assert shop.get(f"/v1/reconciliations/{made['id']}").json()["differences"] == []
    again = sent(shop, made, "orders", content)
    assert (again.status_code, again.json()["code"]) == (409, "reconciliation-awaits-no-file")


def test_a_file_that_is_not_awaited_and_a_gap_are_refused(shop: Shop) -> None:
    made = asked(shop, **orders(shop)).json()

    assert sent(shop, made, "bank", "x").status_code == 409
    assert sent(shop, made, "cash", "x").status_code == 422
    assert sent(shop, made, "orders", "x", part=2).status_code == 422


def test_a_file_that_is_too_large_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliations, "FILE_BYTES_MAX", 10)
    made = asked(shop, **orders(shop)).json()

    answer = sent(shop, made, "orders", "x" * 11)

    assert (answer.status_code, answer.json()["code"]) == (413, "reconciliation-file-too-large")


def test_what_is_asked_for_has_to_make_sense(shop: Shop) -> None:
    source = orders(shop)["orders"]
    backwards = {"begins_on": "2026-11-02", "until": "2026-11-01"}
    wrong: list[Json] = [
        {},
        orders(shop) | backwards,
        orders(shop) | {"begins_on": "2020-01-01"},
        {"orders": source | {"mapping": {}}},
        {"orders": source | {"mapping": {"format": "ndjson", "refund": {}}}},
        {"bank": {"format": "pdf"}},
        {"bank": {"format": "csv", "rail": "pigeon"}},
        {"bank": {"format": "csv", "currency": "EURO"}},
    ]

    assert [asked(shop, **each).status_code for each in wrong] == [422] * len(wrong)
    unknown = {"orders": source | {"source_id": "src_01h455vb4pex5vsknk084sn02q"}}
    assert asked(shop, **unknown).status_code == 404
    assert asked(shop, by="read", **orders(shop)).status_code == 403


def test_a_file_that_cannot_be_read_fails_with_the_reason(shop: Shop) -> None:
    made = asked(shop, **orders(shop)).json()
    sent(shop, made, "orders", "id;at;net\n1;2;3\n")

    worked(shop)

    found = shop.get(f"/v1/reconciliations/{made['id']}").json()
    assert (found["state"], found["error_code"]) == ("failed", "invalid-mapping")
    assert "delimiter" in found["error_detail"]


def test_a_person_explains_a_difference_with_key_and_time(shop: Shop) -> None:
    found = done(shop, a_file(shop, "missing"))
    [difference] = differences(shop, found)
    path = f"/v1/reconciliations/{found['id']}/differences/{difference['id']}/explain"

    noted = shop.post(path, {"note": "Placed by phone."}, by="finance-maker ann").json()

    [key] = [one["id"] for one in shop.get("/v1/api-keys").json()["data"] if one["name"] == "finance-maker ann"]
    assert (noted["note"], noted["note_by"], bool(noted["note_at"])) == ("Placed by phone.", key, True)
    assert differences(shop, found, explained="true") == [noted]
    assert differences(shop, found, explained="false") == []
    [count] = shop.get(f"/v1/reconciliations/{found['id']}").json()["differences"]
    assert (count["differences"], count["unexplained"]) == (1, 0)
    [trail] = shop.get("/v1/audit", operation="explain_difference").json()["data"]
    assert (trail["subject"], trail["key_id"], trail["after"]["note_by"]) == (difference["id"], key, key)
    assert "phone" not in str(trail)
    taken_back = shop.post(path, {"note": " "}, by="finance-maker").json()
    assert (taken_back["note"], taken_back["note_by"], taken_back["note_at"]) == ("", None, None)
    assert shop.post(path, {"note": "x"}, by="read").status_code == 403


def test_differences_come_in_pages_and_are_narrowed(shop: Shop) -> None:
    shop.an_order("extra", placed_at=shop.time(days=2))
    found = done(shop, a_file(shop, "a", "b", "c"))
    path = f"/v1/reconciliations/{found['id']}/differences"

    first = shop.get(path, limit=3).json()
    second = shop.get(path, limit=3, cursor=first["next_cursor"]).json()

    assert [each["external_id"] for each in first["data"] + second["data"]] == ["a", "b", "c", "extra"]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [each["external_id"] for each in differences(shop, found, kind="extra")] == ["extra"]
    assert differences(shop, found, about="payout") == []


def test_the_report_has_them_all(shop: Shop) -> None:
    found = done(shop, a_file(shop, "=missing"))

    text = shop.get("/v1/reports/reconciliation-differences.csv").text

    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["reconciliation_id"], row["kind"], row["theirs"], row["ours"]) == (found["id"], "missing", "100.00", "")
    assert row["external_id"] == "'=missing"
    later = shop.get("/v1/reports/reconciliation-differences.csv", **{"from": "2100-01-01"}).text
    assert len(later.splitlines()) == 1


def test_one_that_is_under_way_can_be_deleted_and_one_that_is_done_is_kept(shop: Shop) -> None:
    open_one = asked(shop, **orders(shop)).json()
    found = done(shop, a_file(shop))
    headers = shop.key_of("finance-maker")

    gone = shop.client.delete(f"/v1/reconciliations/{open_one['id']}", headers=headers)
    kept = shop.client.delete(f"/v1/reconciliations/{found['id']}", headers=headers)

    assert (gone.status_code, kept.status_code, kept.json()["code"]) == (204, 409, "reconciliation-kept")
    assert shop.get(f"/v1/reconciliations/{open_one['id']}").status_code == 404
    assert [each["id"] for each in shop.get("/v1/reconciliations", state="done").json()["data"]] == [found["id"]]


def test_only_so_many_are_under_way_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliations, "OPEN_MAX", 1)
    asked(shop, **orders(shop))

    answer = asked(shop, **orders(shop))

    assert (answer.status_code, answer.json()["code"]) == (409, "too-many-reconciliations")


def test_what_is_not_there_is_404(shop: Shop) -> None:
    found = done(shop, a_file(shop, "missing"))
    [difference] = differences(shop, found)
    nobody = "rec_01h455vb4pex5vsknk084sn02q"

    codes = [
        shop.get(path).json()["code"]
        for path in (
            f"/v1/reconciliations/{nobody}",
            f"/v1/reconciliations/{nobody}/differences",
            f"/v1/reconciliations/{nobody}/differences/{difference['id']}",
            f"/v1/reconciliations/{found['id']}/differences/rdf_01h455vb4pex5vsknk084sn02q",
        )
    ]

    assert codes == ["unknown-reconciliation", "unknown-reconciliation", "unknown-difference", "unknown-difference"]
