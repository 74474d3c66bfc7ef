"""Files of payouts over HTTP: set up, built, handed over by a checker, answered by the bank, attested by two persons."""

from datetime import date, timedelta

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.worker import run_once
from tests.support.payout_files import an_iban, give_account, neutral
from tests.support.shop import Json, Shop

PAYER = {"account": "DE89 3704 0044 0532 0130 00", "holder": "Teehaus GmbH", "town": "Köln", "country": "DE"}


@pytest.fixture
def shop(client: TestClient) -> Shop:
    return Shop(client)


def work(shop: Shop) -> None:
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def payees(shop: Shop, count: int = 1) -> list[Json]:
    """Affiliates with 10.00 EUR payable and an IBAN."""
    affiliates = [shop.an_affiliate(f"Lan {number}", paid_to=None) for number in range(count)]
    coupons = [shop.a_coupon(each) for each in affiliates]
    for number, affiliate in enumerate(affiliates):
        give_account(shop, affiliate["id"], number=number + 1)
    for coupon in coupons:
        shop.an_order(coupon_codes=[coupon["code"]], currency="EUR")
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle").json()["settled"] == count
    return affiliates


def a_run(shop: Shop) -> Json:
    run: Json = shop.post("/v1/payout-runs", {"rail": "sepa_file", "currency": "EUR"}, by="finance-maker ann").json()
    for verb, by in (
        ("submit", "finance-maker ann"),
        ("approve", "finance-checker bob"),
        ("execute", "finance-maker ann"),
    ):
        answer = shop.post(f"/v1/payout-runs/{run['id']}/{verb}", by=by)
        assert answer.is_success, answer.text
    work(shop)
    now: Json = shop.get(f"/v1/payout-runs/{run['id']}").json()
    return now


def built(shop: Shop, count: int = 1) -> tuple[Json, Json]:
    """A run and its file that waits."""
    assert shop.put("/v1/payer-accounts/sepa_file", PAYER, by="finance-maker ann").status_code == 200
    payees(shop, count)
    run = a_run(shop)
    [file] = run["files"]
    return run, file


def hand_over(shop: Shop, file: Json, *, by: str = "finance-checker bob", **headers: str) -> bytes:
    answer = shop.client.post(
        f"/v1/payout-files/{file['id']}/hand-over", json={}, headers={**shop.key_of(by), **headers}
    )
    assert answer.status_code == 200, answer.text
    return answer.content


def answered(shop: Shop, file: Json, content: str | bytes, *, by: str = "finance-maker ann") -> Json:
    answer = shop.client.post(
        f"/v1/payout-files/{file['id']}/results",
        content=content,
        headers={**shop.key_of(by), "content-type": "text/csv"},
    )
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def lines(shop: Shop, file: Json) -> list[Json]:
    data: list[Json] = shop.get(f"/v1/payout-files/{file['id']}/lines").json()["data"]
    return data


def test_a_run_by_file_from_the_paying_account_to_the_bank_statement(shop: Shop) -> None:
    run, file = built(shop, 2)
    assert (run["status"], [each["status"] for each in run["states"]]) == ("executing", ["sending"])
    assert (file["status"], file["lines"], file["control_sum"]) == (
        "built",
        2,
        {"amount_minor": 2000, "currency": "EUR"},
    )
    assert file["line_counts"] == {"open": 2, "refused": 0, "accepted": 0, "returned": 0}

    answer = shop.post(f"/v1/payout-files/{file['id']}/hand-over", by="finance-checker bob")

    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["content-disposition"] == f'attachment; filename="{file["file_name"]}"'
    assert answer.headers["cache-control"] == "no-store"
    assert an_iban(1).encode() in answer.content
    assert file["message_id"].encode() in answer.content
    handed = shop.get(f"/v1/payout-files/{file['id']}").json()
    assert (handed["status"], handed["downloads"]) == ("handed_over", 1)
    first, second = lines(shop, file)
    assert (first["outcome"], first["code"], first["said"]) == ("unknown", "handed_over", [])
    payout = shop.get(f"/v1/payouts/{first['payout_id']}").json()
    assert (payout["status"], payout["attempts"][0]["payout_file_id"]) == ("unknown", file["id"])
    assert payout["attempts"][0]["end_to_end_id"] == first["end_to_end_id"]
    assert payout["attempts"][0]["next_look_at"] is None

    told = answered(
        shop,
        file,
        neutral(
            (first["end_to_end_id"], "booked", "10.00", "EUR", "", "2026-11-22"),
            (second["end_to_end_id"], "rejected", "", "", "AC04"),
            ("NOTPROVIDED", "booked"),
        ),
    )

    assert [each["result"] for each in told["lines"]] == ["applied", "applied", "unknown_id"]
    assert {each["result"]: each["lines"] for each in told["counts"]}["applied"] == 2
    assert told["payout_file"]["line_counts"] == {"open": 0, "refused": 1, "accepted": 1, "returned": 0}
    assert shop.get(f"/v1/payouts/{first['payout_id']}").json()["status"] == "settled"
    refused = shop.get(f"/v1/payouts/{second['payout_id']}").json()
    assert (refused["status"], refused["attempts"][0]["code"]) == ("refused", "AC04")
    assert lines(shop, file)[0]["said"][0]["booked_on"] == "2026-11-22"
    assert shop.post(f"/v1/payouts/{second['payout_id']}/release", by="finance-maker ann").is_success
    work(shop)
    assert shop.get(f"/v1/payout-runs/{run['id']}").json()["status"] == "closed"


def test_each_download_is_the_same_and_in_the_audit_trail(shop: Shop) -> None:
    _, file = built(shop)

    contents = {
        hand_over(shop, file),
        hand_over(shop, file, by="finance-checker eve"),
        hand_over(shop, file, **{"Idempotency-Key": "once"}),
        hand_over(shop, file, **{"Idempotency-Key": "once"}),
    }

    assert len(contents) == 1
    assert shop.get(f"/v1/payout-files/{file['id']}").json()["downloads"] == 3
    trail = shop.get("/v1/audit", subject=file["id"]).json()["data"]
    downloads = [each["after"]["downloads"] for each in trail if each["operation"] == "hand_over_payout_file"]
    assert downloads == [3, 2, 1]
    assert len({each["key_id"] for each in trail}) == 2
    assert file["message_id"] not in str([each["after"] for each in trail if each["before"]])


def test_a_file_whose_day_is_over_is_refused_and_another_built_with_the_new_date(shop: Shop) -> None:
    run, file = built(shop)
    shop.advance(days=1)

    late = shop.post(f"/v1/payout-files/{file['id']}/hand-over", by="finance-checker bob")

    assert (late.status_code, late.json()["code"]) == (409, "payout-file-outdated")
    assert f"built for {file['pays_on']}" in late.json()["detail"]
    assert f"/v1/payout-files/{file['id']}/void" in late.json()["detail"]
    assert shop.post(f"/v1/payout-files/{file['id']}/void", by="finance-maker ann").status_code == 202
    work(shop)
    old, new = shop.get(f"/v1/payout-runs/{run['id']}").json()["files"]
    assert (old["status"], old["pays_on"]) == ("void", file["pays_on"])
    assert date.fromisoformat(new["pays_on"]) == date.fromisoformat(file["pays_on"]) + timedelta(days=1)
    content = hand_over(shop, new)
    assert new["pays_on"].encode() in content
    shop.advance(days=40)
    assert hand_over(shop, new) == content


@pytest.mark.parametrize("begins", [b"PK\x03\x04\x14\x00\x06\x00", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00\x00"])
def test_a_workbook_that_a_bank_answers_with_is_to_be_saved_as_csv(shop: Shop, begins: bytes) -> None:
    _, file = built(shop)
    hand_over(shop, file)

    answer = shop.client.post(
        f"/v1/payout-files/{file['id']}/results",
        content=begins + bytes(range(256)),
        headers={**shop.key_of("finance-maker ann"), "content-type": "text/csv"},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable-payout-result")
    assert "save it as CSV in UTF-8" in answer.json()["detail"]


def test_only_a_checker_hands_over_and_nobody_reads_the_bytes_otherwise(shop: Shop) -> None:
    _, file = built(shop)

    for role in ("admin", "finance-maker ann", "read", "ingest"):
        assert shop.post(f"/v1/payout-files/{file['id']}/hand-over", by=role).status_code == 403
    told = str(shop.get(f"/v1/payout-files/{file['id']}").json()) + str(lines(shop, file))

    assert an_iban(1) not in told
    assert shop.get(f"/v1/payout-files/{file['id']}").json()["status"] == "built"
    assert an_iban(1) not in shop.get("/v1/export.ndjson").text


def test_a_run_without_a_paying_account_is_not_made(shop: Shop) -> None:
    payees(shop)

    answer = shop.post("/v1/payout-runs", {"rail": "sepa_file", "currency": "EUR"}, by="finance-maker")

    assert (answer.status_code, answer.json()["code"]) == (409, "payer-account-missing")


def test_a_paying_account_is_checked_versioned_and_masked(shop: Shop) -> None:
    assert shop.get("/v1/payer-accounts/sepa_file").status_code == 404
    wrong = shop.put("/v1/payer-accounts/sepa_file", PAYER | {"account": "DE00 1"}, by="finance-maker")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "unusable-payer-account")

    first = shop.put("/v1/payer-accounts/sepa_file", PAYER, by="finance-maker")
    same = shop.put("/v1/payer-accounts/sepa_file", PAYER, by="finance-maker")
    second = shop.put("/v1/payer-accounts/sepa_file", PAYER | {"holder": "Other GmbH"}, by="finance-maker")

    assert [each.json()["version"] for each in (first, same, second)] == [1, 1, 2]
    assert first.json()["account_hint"] == "•••3000"
    assert shop.get("/v1/payer-accounts/sepa_file").headers["etag"] == second.headers["etag"]
    stale = shop.client.put(
        "/v1/payer-accounts/sepa_file",
        json=PAYER,
        headers={**shop.key_of("finance-maker"), "If-Match": first.headers["etag"]},
    )
    assert stale.status_code == 412
    trail = shop.get("/v1/audit", subject=shop.id).json()["data"]
    assert "532013000" not in str(trail)
    assert any(each["kind"] == "payer_account" for each in trail)


def test_a_column_map_is_shown_tried_and_set(shop: Shop) -> None:
    preset = shop.get("/v1/payout-templates/vn_bank_file").json()
    assert (preset["version"], preset["template"]["format"]) == (0, "xlsx")
    seen = shop.post("/v1/payout-templates/vn_bank_file/preview").json()
    assert seen["rows"][0]["cells"][0] == "STT"
    assert seen["rows"][1]["cells"][4] == "NGUYEN THI DAO"
    assert seen["unfit"] == []
    own = preset["template"] | {"format": "csv", "columns": preset["template"]["columns"][1:]}
    tried = shop.post("/v1/payout-templates/vn_bank_file/preview", {"template": own}).json()
    assert (tried["media_type"], tried["rows"][0]["cells"][0]) == ("text/csv", "Số tài khoản")
    assert shop.get("/v1/payout-templates/vn_bank_file").json() == preset

    first = shop.put("/v1/payout-templates/vn_bank_file", {"template": own})
    same = shop.put("/v1/payout-templates/vn_bank_file", {"template": own})
    back = shop.put("/v1/payout-templates/vn_bank_file", {"template": preset["template"]})

    assert [each.json()["version"] for each in (first, same, back)] == [1, 1, 2]
    assert first.json()["template"] == own
    wrong = shop.put("/v1/payout-templates/vn_bank_file", {"template": own | {"columns": own["columns"][1:]}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "unusable-payout-template")
    assert shop.put("/v1/payout-templates/vn_bank_file", {"template": own}, by="finance-maker").status_code == 403


def test_a_column_map_whose_letters_its_encoding_has_not_is_neither_shown_nor_set(shop: Shop) -> None:
    preset = shop.get("/v1/payout-templates/vn_bank_file").json()["template"]
    own = preset | {"format": "csv", "encoding": "windows-1252"}

    tried = shop.post("/v1/payout-templates/vn_bank_file/preview", {"template": own})
    put = shop.put("/v1/payout-templates/vn_bank_file", {"template": own})

    assert [(each.status_code, each.json()["code"]) for each in (tried, put)] == [(422, "unusable-payout-template")] * 2
    assert "Column 'Số tài khoản': windows-1252 has no 'ố'" in put.json()["detail"]
    assert shop.get("/v1/payout-templates/vn_bank_file").json()["version"] == 0


def test_a_preview_says_that_the_merchants_name_cannot_be_written(shop: Shop) -> None:
    own = {
        "format": "csv",
        "encoding": "windows-1252",
        "rows_max": 5,
        "preamble": [["{merchant}"]],
        "columns": [{"value": "{account}"}, {"value": "{amount}"}, {"value": "{reference}"}],
    }
    with unit_of_work(shop.engine) as session:
        execute(session, "UPDATE merchant SET name = 'Trà Việt'", {})

    tried = shop.post("/v1/payout-templates/wise_file/preview", {"template": own})
    seen = shop.post("/v1/payout-templates/wise_file/preview", {"template": own | {"encoding": "utf-8"}})

    assert (tried.status_code, tried.json()["code"]) == (422, "unusable-payout-template")
    assert "windows-1252 has no 'ệ'. Choose another encoding" in tried.json()["detail"]
    assert seen.json()["rows"][0]["cells"] == ["Trà Việt"]


@pytest.mark.parametrize("name", ["alipay_file", "wechat_file", "vn_bank_file", "paypal_file", "wise_file"])
def test_every_preset_can_be_shown_and_set_as_ones_own(shop: Shop, name: str) -> None:
    preset = shop.get(f"/v1/payout-templates/{name}").json()["template"]

    own = shop.put(f"/v1/payout-templates/{name}", {"template": preset})

    assert own.status_code == 200, own.text
    assert own.json()["template"] == preset
    preview = shop.post(f"/v1/payout-templates/{name}/preview")
    assert (preview.status_code, preview.json()["unfit"]) == (200, [])


def test_a_map_that_can_write_none_of_the_made_up_payments_says_why(shop: Shop) -> None:
    template = {
        "format": "csv",
        "rows_max": 5,
        "amount_min_minor": 10**12,
        "columns": [{"value": "{account}"}, {"value": "{amount}"}, {"value": "{reference}"}],
    }

    preview = shop.post("/v1/payout-templates/wise_file/preview", {"template": template}).json()

    assert (preview["rows"], preview["unfit"]) == ([], ["amount_too_small"] * 3)


def test_two_persons_attest_what_a_bank_does_not_say(shop: Shop) -> None:
    _, file = built(shop)
    hand_over(shop, file)
    [line] = lines(shop, file)
    path = f"/v1/payouts/{line['payout_id']}"
    both = shop.post("/v1/api-keys", {"name": "Both", "scopes": ["finance-maker", "finance-checker"]}).json()["key"]
    headers = {"Authorization": f"Bearer {both}"}
    told = {"outcome": "paid", "evidence": "statement 12"}

    first = shop.client.post(f"{path}/attest", json=told, headers=headers)
    alone = shop.client.post(f"{path}/attest/confirm", json={"outcome": "paid"}, headers=headers)
    other = shop.post(f"{path}/attest/confirm", {"outcome": "not_sent"}, by="finance-checker bob")

    assert (first.status_code, first.json()["status"]) == (200, "unknown")
    assert (alone.status_code, alone.json()["code"]) == (403, "payout-self-attestation")
    assert (other.status_code, other.json()["code"]) == (409, "payout-attestation-missing")
    assert shop.post(f"{path}/attest/confirm", {"outcome": "paid"}, by="finance-maker ann").status_code == 403
    done = shop.post(f"{path}/attest/confirm", {"outcome": "paid", "note": "seen"}, by="finance-checker bob").json()
    assert done["status"] == "sent"
    [attestation] = done["attestations"]
    assert (attestation["evidence"], attestation["note"]) == ("statement 12", "seen")
    assert attestation["attested_by"] != attestation["confirmed_by"]
    again = shop.post(f"{path}/attest", told, by="finance-maker ann")
    assert (again.status_code, again.json()["code"]) == (409, "payout-not-attestable")
    trail = shop.get("/v1/audit", subject=line["payout_id"]).json()["data"]
    assert [each["after"]["status"] for each in trail] == ["sent", "unknown"]
    assert "statement 12" not in str(trail)


def test_a_file_that_waits_is_withdrawn_and_built_anew(shop: Shop) -> None:
    run, file = built(shop)

    answer = shop.post(f"/v1/payout-files/{file['id']}/void", by="finance-maker ann")

    assert (answer.status_code, answer.json()["status"]) == (202, "void")
    work(shop)
    first, second = shop.get("/v1/payout-files", run_id=run["id"], by="read").json()["data"][::-1]
    assert (first["id"], first["status"], second["status"], second["number"]) == (file["id"], "void", "built", 2)
    assert shop.get("/v1/payout-files", status="void").json()["data"] == [first]
    assert shop.get("/v1/payout-files", rail="alipay_file").json()["data"] == []
    gone = shop.post(f"/v1/payout-files/{file['id']}/hand-over", by="finance-checker bob")
    assert (gone.status_code, gone.json()["code"]) == (409, "payout-file-void")
    assert hand_over(shop, second)
    late = shop.post(f"/v1/payout-files/{second['id']}/void", by="finance-maker ann")
    assert (late.status_code, late.json()["code"]) == (409, "payout-file-state")


def test_an_answer_that_differs_stops_the_run_and_is_kept(shop: Shop) -> None:
    run, file = built(shop)
    hand_over(shop, file)
    [line] = lines(shop, file)
    content = neutral((line["end_to_end_id"], "booked", "9.00", "EUR"))

    told = answered(shop, file, content)

    assert (told["stop_code"], told["lines"][0]["result"]) == ("answer_differs", "differs")
    now = shop.get(f"/v1/payout-runs/{run['id']}").json()
    assert (now["stop_code"], now["states"][0]["status"]) == ("answer_differs", "unknown")
    assert answered(shop, file, content)["was_known"] is True
    with read_session(shop.engine) as session:
        [kept] = fetch(session, "SELECT format, lines, content FROM payout_result")
    assert (kept.format, kept.lines) == ("csv", 1)
    assert line["end_to_end_id"].encode() not in kept.content
    trail = shop.get("/v1/audit", subject=file["id"]).json()["data"]
    assert trail[0]["after"] == {"result_format": "csv", "result_lines": {"differs": 1}}


def test_a_bank_that_calls_a_file_a_copy_refuses_nothing_and_stops_the_run(shop: Shop) -> None:
    run, file = built(shop)
    hand_over(shop, file)
    [line] = lines(shop, file)

    told = answered(shop, file, neutral((line["end_to_end_id"], "rejected", "", "", "DU01")))

    assert (told["stop_code"], told["lines"][0]["result"]) == ("result_duplicate", "duplicate")
    assert told["payout_file"]["line_counts"] == {"open": 1, "refused": 0, "accepted": 0, "returned": 0}
    now = shop.get(f"/v1/payout-runs/{run['id']}").json()
    assert (now["stop_code"], now["states"][0]["status"]) == ("result_duplicate", "unknown")
    assert shop.post(f"/v1/payouts/{line['payout_id']}/release", by="finance-maker ann").status_code == 409
    trail = shop.get("/v1/audit", subject=file["id"]).json()["data"]
    assert trail[0]["after"] == {"result_format": "csv", "result_lines": {"duplicate": 1}}


def test_an_answer_that_cannot_be_read_changes_nothing(shop: Shop) -> None:
    _, file = built(shop)
    early = shop.client.post(
        f"/v1/payout-files/{file['id']}/results",
        content=b"x",
        headers={**shop.key_of("admin"), "content-type": "text/csv"},
    )
    assert (early.status_code, early.json()["code"]) == (409, "payout-file-state")
    hand_over(shop, file)

    answer = shop.client.post(
        f"/v1/payout-files/{file['id']}/results",
        content=b'<!DOCTYPE x [<!ENTITY a "b">]><Document>&a;</Document>',
        headers={**shop.key_of("admin"), "content-type": "application/xml"},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable-payout-result")


def test_lines_come_in_pages(shop: Shop) -> None:
    _, file = built(shop, 3)

    first = shop.get(f"/v1/payout-files/{file['id']}/lines", limit=2).json()
    rest = shop.get(f"/v1/payout-files/{file['id']}/lines", limit=2, cursor=first["next_cursor"]).json()

    assert [each["line"] for each in (*first["data"], *rest["data"])] == [1, 2, 3]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_a_rail_of_files_has_no_account_of_one_word(shop: Shop) -> None:
    lan = shop.an_affiliate(paid_to=None)

    answer = shop.post(f"/v1/affiliates/{lan['id']}/payout-methods", {"rail": "sepa_file", "destination": "acct_1"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-destination")
