"""Where payees' money goes: set by an admin or the payee, waiting, stopped in time, and never shown."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest
from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.db import fetch, read_session
from service.infra.ids import decode
from service.reports.export import export
from tests.support.races import together
from tests.support.shop import Json, Shop

IBAN, HOLDER = "DE89370400440532013000", "Canary Holder"
SEPA: Json = {"rail": "sepa_file", "account": {"kind": "iban", "account": IBAN, "holder": HOLDER}}
OTHER = {"rail": "sepa_file", "account": {"kind": "iban", "account": "GB29NWBK60161331926819", "holder": HOLDER}}
OK = {"rail": "sandbox", "destination": "sandbox_ok"}
NEW = {"rail": "sandbox", "destination": "sandbox_new_1"}


def sandbox(account: str) -> Json:
    return {"rail": "sandbox", "destination": account}


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan", email="lan.nguyen@example.com", country="VN", paid_to=None)


def path(affiliate: Json, rest: str = "") -> str:
    return f"/v1/affiliates/{affiliate['id']}/payout-methods{rest}"


def given(shop: Shop, affiliate: Json, asked: Json, *, by: str = "admin") -> Json:
    where = path(affiliate) if by == "admin" else "/v1/me/payout-methods"
    answer = shop.post(where, asked, by=by)
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


def methods(shop: Shop, affiliate: Json, *, by: str = "admin") -> list[Json]:
    listed: list[Json] = shop.get(path(affiliate), by=by).json()["data"]
    return listed


def told(shop: Shop, noun: str = "payout_method") -> list[tuple[str, Json]]:
    """Events about methods, oldest first."""
    events = shop.get("/v1/events", limit=200).json()["data"]
    return [(each["type"], each["data"]) for each in reversed(events) if each["type"].startswith(f"{noun}.")]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("country", "asked", "hint", "bank"),
    [
        pytest.param("VN", SEPA, "•••3000", "Commerzbank", id="an IBAN"),
        pytest.param(
            "VN",
            {
                "rail": "vn_bank_file",
                "account": {
                    "kind": "bank",
                    "bank_country": "VN",
                    "account": "0011 0012 34567",
                    "bank_code": "970436",
                    "branch": "Hà Nội",
                    "holder": HOLDER,
                    "address": {"country": "VN", "town": "Hà Nội", "street": "1 Tràng Tiền", "postcode": "11000"},
                },
            },
            "•••4567",
            "970436",
            id="a bank in Vietnam",
        ),
        pytest.param(
            "CN",
            {
                "rail": "wise_file",
                "account": {
                    "kind": "bank",
                    "bank_country": "CN",
                    "account": "6222021234567890128",
                    "bank_name": "ICBC",
                    "holder": HOLDER,
                },
            },
            "•••0128",
            "ICBC",
            id="a card in China",
        ),
        pytest.param(
            "CN",
            {"rail": "alipay_file", "account": {"kind": "alipay", "account": "13812345678", "holder": HOLDER}},
            "•••678",
            None,
            id="Alipay",
        ),
        pytest.param(
            "CN",
            {
                "rail": "wechat_file",
                "account": {"kind": "wechat", "account": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "holder": HOLDER},
            },
            "•••eS6o",
            None,
            id="WeChat",
        ),
        pytest.param(
            None,
            {"rail": "paypal_file", "account": {"kind": "paypal", "account": "lan@example.com"}},
            "l•••@example.com",
            None,
            id="PayPal",
        ),
        pytest.param(
            None,
            {"rail": "wise_file", "account": {"kind": "wise", "account": "lan@example.com", "holder": HOLDER}},
            "l•••@example.com",
            None,
            id="Wise",
        ),
    ],
)
def test_each_kind_of_account_is_kept_and_masked(
    shop: Shop, country: str | None, asked: Json, hint: str, bank: str | None
) -> None:
    lan = shop.an_affiliate("Lan", country=country, paid_to=None)

    made = given(shop, lan, asked)

    kind = asked["account"]["kind"]
    assert (made["kind"], made["destination_hint"], made["bank"]) == (kind, hint, bank)
    assert made["holder"] == asked["account"].get("holder")
    assert made["usable_from"] == made["created_at"]
    assert methods(shop, lan) == [made]
    assert asked["account"]["account"] not in shop.get(path(lan)).text


@pytest.mark.parametrize(
    ("asked", "code", "pointers"),
    [
        pytest.param({"rail": "sandbox"}, "invalid-request", ["#"], id="neither"),
        pytest.param({**SEPA, "destination": IBAN}, "invalid-request", ["#"], id="both"),
        pytest.param({"rail": "sepa_file", "destination": IBAN}, "invalid-destination", [], id="no provider's rail"),
        pytest.param(
            {"rail": "sepa_file", "account": {"kind": "iban", "account": IBAN[:-1] + "1", "bank_code": "x"}},
            "invalid-destination",
            ["#/account/account", "#/account/bank_code", "#/account/holder"],
            id="all that is wrong",
        ),
        pytest.param(
            {"rail": "sepa_file", "account": {"kind": "iban", "account": IBAN, "holder": HOLDER, "bin": "970436"}},
            "invalid-request",
            ["#/account/bin"],
            id="a field of another kind",
        ),
        pytest.param(
            {"rail": "sepa_file", "account": {"kind": "cash", "account": IBAN}},
            "invalid-request",
            ["#/account"],
            id="no such kind",
        ),
        pytest.param(
            {
                "rail": "sepa_file",
                "account": {
                    "kind": "iban",
                    "account": IBAN,
                    "holder": HOLDER,
                    "address": {"country": "DE", "town": "x" * 80},
                },
            },
            "invalid-destination",
            ["#/account/address/town"],
            id="a part of the address",
        ),
        pytest.param(
            {"rail": "alipay_file", "account": {"kind": "alipay", "account": "13812345678", "holder": HOLDER}},
            "rail-not-for-payee",
            [],
            id="a rail of another country",
        ),
        pytest.param({**SEPA, "rail": "vn_bank_file"}, "rail-not-for-payee", [], id="a rail of another kind"),
    ],
)
def test_what_cannot_be_paid_to_is_refused_by_its_place(
    shop: Shop, lan: Json, asked: Json, code: str, pointers: list[str]
) -> None:
    answer = shop.post(path(lan), asked)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code)
    assert [each["pointer"] for each in problem["errors"]] == pointers
    assert IBAN[:-1] not in answer.text
    assert HOLDER not in answer.text
    assert methods(shop, lan) == []


def test_the_holder_is_shown_to_those_who_pay_and_to_the_payee(shop: Shop, lan: Json) -> None:
    given(shop, lan, SEPA)

    for role in ("admin", "finance-maker", "finance-checker"):
        assert methods(shop, lan, by=role)[0]["holder"] == HOLDER, role
    assert methods(shop, lan, by="read")[0]["holder"] == "C••• H•••"
    assert shop.get("/v1/me/payout-methods", by=lan["id"]).json()["data"][0]["holder"] == HOLDER


def test_the_first_method_counts_at_once_and_the_next_waits(shop: Shop, lan: Json) -> None:
    first = given(shop, lan, OK)
    second = given(shop, lan, NEW)

    assert first["usable_from"] == first["created_at"]
    assert at(second["usable_from"]) - at(second["created_at"]) == timedelta(hours=72)
    assert second["replaces"] == first["id"]
    [newest, oldest] = methods(shop, lan)
    assert (newest["replaced_at"], oldest["replaced_at"]) == (None, newest["created_at"])


def test_a_method_on_another_rail_waits_too_unless_its_account_is_in_use(shop: Shop, lan: Json) -> None:
    given(shop, lan, OK)
    sepa = given(shop, lan, SEPA)
    again = given(shop, lan, {**SEPA, "rail": "wise_file"})
    renamed = given(shop, lan, {"rail": "sepa_file", "account": {**SEPA["account"], "holder": "C. Holder"}})
    shop.advance(hours=72)
    later = given(shop, lan, {"rail": "sepa_file", "account": {**SEPA["account"], "holder": "Canary H."}})

    assert sepa["replaces"] is None
    assert at(sepa["usable_from"]) - at(sepa["created_at"]) == timedelta(hours=72)
    # As long as the account has to wait where it was told first, and no longer.
    assert again["usable_from"] == renamed["usable_from"] == later["usable_from"] == sepa["usable_from"]


def test_an_account_that_was_cancelled_is_no_more_trusted_than_a_new_one(shop: Shop, lan: Json) -> None:
    given(shop, lan, OK)
    stranger = given(shop, lan, NEW)
    shop.post(path(lan, f"/{stranger['id']}/cancel"), by="finance-maker")
    shop.advance(hours=100)

    again = given(shop, lan, NEW)

    assert at(again["usable_from"]) - at(again["created_at"]) == timedelta(hours=72)


def test_a_change_is_told_to_the_merchant_with_both_hints(shop: Shop, lan: Json) -> None:
    given(shop, lan, sandbox("sandbox_first_1111"))
    changed = given(shop, lan, sandbox("sandbox_second_2222"), by=lan["id"])
    shop.post(f"/v1/me/payout-methods/{changed['id']}/cancel", by=lan["id"])

    added, change, cancelled = told(shop)
    assert [added[0], change[0], cancelled[0]] == [
        "payout_method.added",
        "payout_method.changed",
        "payout_method.cancelled",
    ]
    assert added[1]["previous_hint"] is None
    assert added[1]["by_affiliate"] is False
    assert added[1]["usable_from"] is None
    assert change[1] == {
        "payout_method_id": changed["id"],
        "affiliate_id": lan["id"],
        "rail": "sandbox",
        "kind": "provider",
        "destination_hint": "•••2222",
        "previous_hint": "•••1111",
        "usable_from": change[1]["usable_from"],
        "by_affiliate": True,
        "email_hint": "l•••@example.com",
    }
    assert at(change[1]["usable_from"]) == at(changed["usable_from"])
    assert (cancelled[1]["destination_hint"], cancelled[1]["previous_hint"]) == ("•••2222", "•••1111")


def test_the_koc_sees_a_change_and_stops_it(shop: Shop, lan: Json) -> None:
    first = given(shop, lan, sandbox("sandbox_first_1111"))
    assert shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"] == []
    change = given(shop, lan, sandbox("sandbox_second_2222"))

    [shown] = shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"]
    assert shown == {
        "id": change["id"],
        "rail": "sandbox",
        "destination_hint": "•••2222",
        "previous_hint": "•••1111",
        "by_you": False,
        "created_at": change["created_at"],
        "usable_from": change["usable_from"],
        "cancel_url": f"/v1/me/payout-methods/{change['id']}/cancel",
    }
    cancelled = shop.post(shown["cancel_url"], by=lan["id"]).json()

    assert cancelled["cancelled_at"] == cancelled["replaced_at"] != None  # noqa: E711 - both, and not null
    assert shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"] == []
    active = [each for each in methods(shop, lan) if each["replaced_at"] is None]
    assert [each["id"] for each in active] == [first["id"]]


def test_only_a_change_that_waits_can_be_cancelled(shop: Shop, lan: Json) -> None:
    first = given(shop, lan, OK)
    second = given(shop, lan, NEW)
    third = given(shop, lan, sandbox("sandbox_new_2"))
    cancel = {each["id"]: path(lan, f"/{each['id']}/cancel") for each in (first, second, third)}

    codes = [shop.post(cancel[each["id"]]).json()["code"] for each in (first, second)]
    shop.advance(hours=72)
    codes.append(shop.post(cancel[third["id"]]).json()["code"])

    assert codes == ["payout-method-does-not-wait"] * 3


def test_two_changes_one_after_the_other_hide_nothing(shop: Shop, lan: Json) -> None:
    first = given(shop, lan, OK)
    second = given(shop, lan, NEW)
    shop.advance(hours=48)
    third = given(shop, lan, sandbox("sandbox_new_2"))
    shop.advance(hours=60)

    shop.post(path(lan, f"/{third['id']}/cancel"))

    # It had waited 48 hours when it was replaced; a day is still to go.
    [shown] = shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"]
    left = at(shown["usable_from"]) - shop.now()
    assert shown["id"] == second["id"]
    assert timedelta(hours=23, minutes=50) < left <= timedelta(hours=24)
    assert shop.post(shown["cancel_url"], by=lan["id"]).status_code == 200
    assert [each["id"] for each in methods(shop, lan) if each["replaced_at"] is None] == [first["id"]]


def test_nobody_reaches_anothers_methods(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh", paid_to="sandbox_minh")
    change = given(shop, minh, NEW)

    answers = [
        shop.post(f"/v1/me/payout-methods/{change['id']}/cancel", by=lan["id"]),
        shop.post(path(lan, f"/{change['id']}/cancel")),
        shop.post(path(lan, f"/{change['id']}/confirm-sharing"), {"reason_code": "agency"}, by="finance-checker"),
    ]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(404, "unknown-payout-method")] * 3


def test_the_trail_has_who_did_it(shop: Shop, lan: Json) -> None:
    given(shop, lan, OK)
    given(shop, lan, NEW, by=lan["id"])

    rows = shop.get("/v1/audit", subject=lan["id"], operation="create_my_payout_method").json()["data"]

    own = next(each for each in shop.get("/v1/api-keys").json()["data"] if each["affiliate_id"] == lan["id"])
    [made] = [each for each in rows if each["before"] is None]
    assert made["key_id"] == own["id"] == made["after"]["created_by"]
    assert (made["after"]["destination"], made["after"]["fingerprint"]) == ("•••", "•••")


def test_an_account_of_several_is_shown_told_and_confirmed_one_by_one(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh", paid_to=None)
    first, second = given(shop, lan, SEPA), given(shop, minh, {**SEPA, "rail": "wise_file"})
    assert (first["shared_with"], second["shared_with"]) == (0, 1)
    assert methods(shop, lan)[0]["shared_with"] == 1
    [(_, shared)] = [each for each in told(shop) if each[0] == "payout_method.shared"]
    assert (shared["affiliate_id"], shared["shared_with"]) == (minh["id"], 1)

    confirm = path(minh, f"/{second['id']}/confirm-sharing")
    refused = shop.post(confirm, {"reason_code": "agency"})
    confirmed = shop.post(confirm, {"reason_code": "agency"}, by="finance-checker")
    again = shop.post(confirm, {"reason_code": "family"}, by="finance-checker finn")

    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    assert confirmed.json()["sharing_confirmed_at"] is not None
    assert again.json() == confirmed.json()
    assert methods(shop, lan)[0]["sharing_confirmed_at"] is None
    [noted] = [
        each
        for each in shop.get("/v1/audit", subject=minh["id"]).json()["data"]
        if each["operation"] == "confirm_payout_method_sharing" and each["kind"] == "payout_method"
    ]
    assert noted["after"]["sharing_reason"] == "agency"


def test_what_nobody_shares_needs_no_confirmation(shop: Shop, lan: Json) -> None:
    method = given(shop, lan, SEPA)

    answer = shop.post(path(lan, f"/{method['id']}/confirm-sharing"), {"reason_code": "agency"}, by="finance-checker")

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-account-not-shared")


def test_bare_words_of_the_sandbox_are_nobodys_account(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh", paid_to="sandbox_ok")

    method = given(shop, lan, OK)

    assert (method["shared_with"], method["sharing_confirmed_at"]) == (1, method["created_at"])
    assert [each for each in told(shop) if each[0] == "payout_method.shared"] == []
    assert methods(shop, minh)[0]["sharing_confirmed_at"] is not None


def test_the_wait_is_chosen_and_counts_for_later_changes(shop: Shop, lan: Json) -> None:
    given(shop, lan, OK)
    before = shop.get("/v1/payout-settings")
    given(shop, lan, NEW)

    chosen = shop.put("/v1/payout-settings", {"method_wait_h": 0, "shared_accounts": "allow"})
    changed = given(shop, lan, sandbox("sandbox_new_2"))

    assert before.json() == {"method_wait_h": 72, "shared_accounts": "hold"}
    assert chosen.json() == {"method_wait_h": 0, "shared_accounts": "allow"}
    assert changed["usable_from"] == changed["created_at"]
    assert shop.get("/v1/me", by=lan["id"]).json()["payout_method_changes"] == []


@pytest.mark.parametrize(("hours", "status"), [(0, 422), (23, 422), (24, 200), (720, 200), (721, 422)])
def test_a_live_merchant_cannot_give_the_wait_away(client: TestClient, hours: int, status: int) -> None:
    live = Shop(client, is_test=False)

    answer = live.put("/v1/payout-settings", {"method_wait_h": hours, "shared_accounts": "hold"})

    assert answer.status_code == status, answer.text


def test_stripes_rails_need_stripe(shop: Shop, lan: Json) -> None:
    answer = shop.post(path(lan), {"rail": "stripe_global_payouts", "destination": "acct_1234567890"})

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-rail-not-available")


# Many at once.


def test_two_changes_at_once_leave_one_active_and_both_in_the_chain(shop: Shop, lan: Json) -> None:
    first = given(shop, lan, OK)

    answers: list[Response] = together(
        *[partial(shop.post, path(lan), sandbox(f"sandbox_at_once_{n}")) for n in range(4)]
    )

    assert [answer.status_code for answer in answers] == [201] * 4
    listed = {each["id"]: each for each in methods(shop, lan)}
    [active] = [each for each in listed.values() if each["replaced_at"] is None]
    chain = [active["id"]]
    while (before := listed[chain[-1]]["replaces"]) is not None:
        chain.append(before)
    assert len(chain) == 5
    assert chain[-1] == first["id"]


def test_a_change_and_its_cancelling_at_once_leave_one_active(shop: Shop, lan: Json) -> None:
    given(shop, lan, OK)
    change = given(shop, lan, NEW)
    cancel = partial(shop.post, path(lan, f"/{change['id']}/cancel"))

    answers: list[Response] = together(cancel, cancel, partial(shop.post, path(lan), sandbox("sandbox_new_2")))

    assert answers[2].status_code == 201
    assert {answer.status_code for answer in answers[:2]} <= {200, 409}
    assert [each["replaced_at"] for each in methods(shop, lan)].count(None) == 1


# What is told to nobody.


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_account_and_holder_appear_nowhere(
    shop: Shop,
    lan: Json,
    engine: Engine,
    lines: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Not the one that problems give as an example.
    iban = "BE68539007547034"
    sepa: Json = {"rail": "sepa_file", "account": {**SEPA["account"], "account": iban}}
    kept = {**shop.key_of("admin"), "Idempotency-Key": "first"}
    assert shop.client.post(path(lan), json=sepa, headers=kept).status_code == 201
    change = given(shop, lan, OTHER, by=lan["id"])
    minh = shop.an_affiliate("Minh", paid_to=None)
    shared = given(shop, minh, sepa)
    assert shop.post(path(lan, f"/{change['id']}/cancel")).status_code == 200
    confirm = path(minh, f"/{shared['id']}/confirm-sharing")
    assert shop.post(confirm, {"reason_code": "agency"}, by="finance-checker").status_code == 200
    refusals = [
        shop.post(path(lan), {**sepa, "rail": rail}) for rail in ("vn_bank_file", "alipay_file", "sandbox", "nowhere")
    ]
    refusals.append(shop.post(path(lan), {"rail": "sepa_file", "account": {**sepa["account"], "account": iban + "0"}}))
    refusals.append(shop.post(path(lan), {"rail": "sepa_file", "account": [iban, HOLDER]}))
    assert {answer.is_error for answer in refusals} == {True}

    with read_session(engine) as session:
        tables = [
            row.name for row in fetch(session, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
        ]
        stored = {table: "".join(str(row) for row in fetch(session, f"SELECT * FROM {table}")) for table in tables}
    exported = b"".join(export(engine, decode("mer", shop.id), at=shop.now()))
    said = capsys.readouterr()

    assert "•••7034" in stored["payout_method"]
    assert b"destination_hint" in exported
    for canary in (iban, HOLDER, "GB29NWBK60161331926819"):
        assert [table for table, text in stored.items() if canary in text] == []
        assert canary.encode() not in exported
        assert canary not in lines.text + said.out + said.err
        assert [answer.text for answer in refusals if canary in answer.text] == []
        assert canary not in shop.get("/v1/events", limit=200).text + shop.get("/v1/audit", limit=200).text
