"""KOCs: registration, approval from a day on, enrolment, payout methods and taxes."""

from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.api.deps import Service
from service.domain.identity import Address, identified
from service.infra import ids
from service.infra.db import execute, fetch, unit_of_work
from tests.support.shop import Json, Shop


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def plain(shop: Shop, **profile: Any) -> Json:
    """Register an affiliate and nothing more."""
    return shop.an_affiliate(approved=False, enrolled=False, paid_to=None, tax=None, **profile)


def test_a_new_affiliate_has_applied_and_has_chosen_nothing(shop: Shop) -> None:
    made = shop.post(
        "/v1/affiliates",
        {
            "name": "Nguyễn Thị Lan",
            "email": "lan@example.com",
            "country": "VN",
            "profile": {"tiktok": "@lan"},
            "external_id": "c-1",
            "identities": {"phone": "+84 90 123 45 67", "customer_id": "cus_1"},
        },
    )

    body = made.json()
    assert made.status_code == 201
    assert (body["status"], body["status_from"], body["tax_rule"]) == ("applied", None, None)
    assert body["identity_kinds"] == ["email", "id", "phone"]
    assert body["profile"] == {"tiktok": "@lan"}
    assert shop.get(f"/v1/affiliates/{body['id']}").json() == body
    assert shop.get("/v1/affiliates/by-external-id/c-1").json() == body


def test_identities_are_kept_as_hashes_only(shop: Shop, engine: Engine) -> None:
    plain(shop, identities={"email": "Private@Example.com", "phone": "0901234567", "customer_id": "customer-77"})

    with unit_of_work(engine) as session:
        (row,) = fetch(session, "SELECT CAST(row_to_json(affiliate) AS text) AS whole, identities FROM affiliate")
    assert all(word not in row.whole.lower() for word in ("private", "901234567", "customer-77"))
    assert all(len(hash_) == 32 for hash_ in row.identities.values())


LE_LOI = {"line1": "12 Lê Lợi", "postal_code": "700000"}


def pairs_of(engine: Engine, affiliate: Json) -> list[tuple[str, str]]:
    """Kinds and hashes as the attribution reads them."""
    with unit_of_work(engine) as session:
        rows = fetch(
            session, "SELECT identities FROM affiliate WHERE id = :id", {"id": ids.decode("aff", affiliate["id"])}
        )
    return list(identified(rows[0].identities))


def hashed(client: TestClient, shop: Shop, kind: str, value: str) -> tuple[str, str]:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    return (kind, service.security.identity(ids.decode("mer", shop.id), kind, value))


def test_an_affiliate_has_several_identities_of_a_kind_and_shows_the_kinds_only(
    shop: Shop, engine: Engine, client: TestClient
) -> None:
    lan = plain(
        shop,
        email="lan@example.com",
        country="VN",
        identities={
            "emails": ["lan@work.example", "LAN@example.com"],
            "phone": "0912 345 678",
            "phones": ["+65 9123 4567"],
            "customer_ids": ["c-1", "c-2"],
            "addresses": [LE_LOI, {"line1": "Office Road", "house": "9", "city": "Singapore", "country": "SG"}],
            "payment_fingerprints": ["Xt5EWLLDS7FJjR1c"],
        },
    )

    assert lan["identity_kinds"] == ["address", "email", "id", "payment", "phone"]
    assert sorted(pairs_of(engine, lan)) == sorted(
        hashed(client, shop, kind, value)
        for kind, value in [
            ("email", "lan@example.com"),
            ("email", "lan@work.example"),
            ("phone", "+84912345678"),
            ("phone", "+6591234567"),
            ("id", "c-1"),
            ("id", "c-2"),
            ("address", Address("12 LE LOI", postal_code="700 000", country="VN").text),
            ("address", Address("9 Office Road", city="SINGAPORE", country="SG").text),
            ("payment", "Xt5EWLLDS7FJjR1c"),
        ]
    )


def test_what_is_given_of_a_kind_replaces_that_kind_and_an_empty_list_forgets_it(shop: Shop, engine: Engine) -> None:
    lan = plain(shop, email="lan@example.com", identities={"phones": ["+84912345678", "+84912345679"]})
    path = f"/v1/affiliates/{lan['id']}"

    with_card = shop.patch(path, {"identities": {"payment_fingerprints": ["fp_1"]}}).json()
    one_phone = shop.patch(path, {"identities": {"phone": "+84912345678"}}).json()
    phones = [pair for pair in pairs_of(engine, lan) if pair[0] == "phone"]
    without = shop.patch(path, {"identities": {"phones": [], "emails": [], "customer_id": None}}).json()

    assert with_card["identity_kinds"] == ["email", "payment", "phone"]
    assert one_phone["identity_kinds"] == ["email", "payment", "phone"]
    assert len(phones) == 1
    assert without["identity_kinds"] == ["email", "payment"]


def test_a_new_address_of_the_profile_takes_the_place_of_the_old_one_and_leaves_others(
    shop: Shop, engine: Engine
) -> None:
    lan = plain(shop, email="lan@example.com", identities={"emails": ["lan@work.example"]})
    before = pairs_of(engine, lan)

    shop.patch(f"/v1/affiliates/{lan['id']}", {"email": "lan@new.example"})
    changed = pairs_of(engine, lan)
    shop.patch(f"/v1/affiliates/{lan['id']}", {"email": None})

    assert len(before) == len(changed) == 2
    assert len(set(before) & set(changed)) == 1
    assert pairs_of(engine, lan) == changed


def test_identities_of_an_earlier_release_stay_beside_new_ones(shop: Shop, engine: Engine) -> None:
    lan = plain(shop)
    with unit_of_work(engine) as session:
        execute(session, """UPDATE affiliate SET identities = '{"email": "a", "phone": "b"}'""", {})

    kinds = shop.patch(f"/v1/affiliates/{lan['id']}", {"identities": {"customer_ids": ["c-1", "c-2"]}}).json()

    assert kinds["identity_kinds"] == ["email", "id", "phone"]
    assert {("email", "a"), ("phone", "b")} < set(pairs_of(engine, lan))
    assert len(pairs_of(engine, lan)) == 4


@pytest.mark.parametrize(
    "identities",
    [
        pytest.param({"addresses": [{"line1": "12 Lê Lợi"}]}, id="an address that would fit many houses"),
        pytest.param({"payment_fingerprints": ["**** 4242"]}, id="a masked card"),
        pytest.param({"phones": ["n/a"]}, id="no digits"),
    ],
)
def test_what_would_fit_many_people_is_no_identity(shop: Shop, identities: Json) -> None:
    assert plain(shop, country="VN", identities=identities)["identity_kinds"] == []


@pytest.mark.parametrize(
    "identities",
    [
        pytest.param({"emails": ["a@x.example"] * 21}, id="too many"),
        pytest.param({"addresses": [{"street": "Lê Lợi"}]}, id="an unknown part"),
        pytest.param({"addresses": [{"country": "Vietnam"}]}, id="a country's name"),
        pytest.param({"payment_fingerprints": [""]}, id="an empty one"),
    ],
)
def test_identities_are_a_closed_form(shop: Shop, identities: Json) -> None:
    assert shop.post("/v1/affiliates", {"name": "Lan", "identities": identities}).status_code == 422


def test_a_phone_number_without_digits_is_no_identity(shop: Shop) -> None:
    assert plain(shop, identities={"phone": "n/a"})["identity_kinds"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "a\u0000b"},
        {"name": "x" * 201},
        {"email": "nonsense"},
        {"country": "vn"},
        {"profile": {"a": 1}},
        {"status": "approved"},
        {"external_id": ""},
    ],
    ids=str,
)
def test_a_profile_is_a_closed_form(shop: Shop, change: Json) -> None:
    assert shop.post("/v1/affiliates", {"name": "Lan"} | change).status_code == 422


def test_registering_under_ones_own_id_makes_one_and_then_replaces_it(shop: Shop) -> None:
    path = "/v1/affiliates/by-external-id/c-1"

    first = shop.put(path, {"name": "Lan", "email": "lan@example.com", "country": "VN"})
    second = shop.put(path, {"name": "Lan Nguyễn"})

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert (second.json()["name"], second.json()["email"], second.json()["country"]) == ("Lan Nguyễn", None, None)
    assert len(shop.get("/v1/affiliates").json()["data"]) == 1


def test_a_patch_changes_what_it_names(shop: Shop) -> None:
    affiliate = plain(shop, email="lan@example.com", country="VN")
    path = f"/v1/affiliates/{affiliate['id']}"

    changed = shop.patch(path, {"country": None, "profile": {"a": "b"}}).json()
    with_phone = shop.patch(path, {"identities": {"phone": "+84901234567"}}).json()

    assert (changed["name"], changed["email"], changed["country"]) == ("Lan", "lan@example.com", None)
    assert with_phone["identity_kinds"] == ["email", "phone"]


def test_affiliates_are_listed_by_status_in_pages(shop: Shop) -> None:
    ids = [plain(shop, external_id=str(number))["id"] for number in range(5)]
    for affiliate_id in ids[:3]:
        shop.post(f"/v1/affiliates/{affiliate_id}/approve")

    first = shop.get("/v1/affiliates", status="approved", limit=2).json()
    second = shop.get("/v1/affiliates", status="approved", limit=2, cursor=first["next_cursor"]).json()

    assert [one["id"] for one in first["data"] + second["data"]] == ids[2::-1]
    assert [one["id"] for one in shop.get("/v1/affiliates", status="applied").json()["data"]] == ids[:2:-1]
    assert shop.get("/v1/affiliates", status="unheard-of").status_code == 422


def test_the_first_decision_may_reach_back_until_the_first_order(shop: Shop) -> None:
    early, late = plain(shop), plain(shop)

    before = shop.post(f"/v1/affiliates/{early['id']}/approve", {"valid_from": "2020-01-01T00:00:00Z"})
    shop.an_order()
    after = shop.post(f"/v1/affiliates/{late['id']}/approve", {"valid_from": "2020-01-01T00:00:00Z"})
    by_default = shop.post(f"/v1/affiliates/{late['id']}/approve")

    assert before.json()["status_from"] == "2020-01-01T00:00:00Z"
    assert (after.status_code, after.json()["code"]) == (409, "back-dated")
    assert shop.now() < moment(by_default.json()["status_from"]) <= shop.now() + timedelta(minutes=5)


def test_a_second_decision_lies_ahead_even_without_orders(shop: Shop) -> None:
    affiliate = shop.an_affiliate()

    suspended = shop.post(f"/v1/affiliates/{affiliate['id']}/suspend", {"reason_code": "fake_reviews"}).json()

    assert (suspended["status"], suspended["reason_code"]) == ("suspended", "fake_reviews")
    assert moment(suspended["status_from"]) > shop.now()


@pytest.mark.parametrize(
    ("steps", "statuses"),
    [
        (["approve", "suspend", "approve"], [200, 200, 200]),
        (["reject", "approve"], [200, 200]),
        (["approve", "approve"], [200, 409]),
        (["approve", "reject"], [200, 409]),
        (["suspend"], [409]),
        (["reject", "suspend"], [200, 409]),
    ],
    ids=str,
)
def test_statuses_follow_one_another(shop: Shop, steps: list[str], statuses: list[int]) -> None:
    path = f"/v1/affiliates/{plain(shop)['id']}"

    answers = []
    for step in steps:
        answers.append(shop.post(f"{path}/{step}", {"reason_code": "checked"}))
        shop.advance(minutes=6)

    assert [answer.status_code for answer in answers] == statuses


def test_a_change_before_the_last_one_is_refused(shop: Shop) -> None:
    path = f"/v1/affiliates/{plain(shop)['id']}"
    shop.post(f"{path}/approve", {"valid_from": (shop.now() + timedelta(days=9)).isoformat()})

    answer = shop.post(f"{path}/suspend", {"reason_code": "fraud"})

    assert (answer.status_code, answer.json()["code"]) == (409, "start-before-last-change")


def test_a_refusal_needs_its_reason(shop: Shop) -> None:
    path = f"/v1/affiliates/{plain(shop)['id']}"

    assert shop.post(f"{path}/reject").status_code == 422
    assert shop.post(f"{path}/reject", {"reason_code": "Because of him!"}).status_code == 422


def test_decisions_are_told(shop: Shop, engine: Engine) -> None:
    affiliate = shop.an_affiliate()
    shop.post(f"/v1/affiliates/{affiliate['id']}/suspend", {"reason_code": "fraud"})

    with unit_of_work(engine) as session:
        rows = fetch(session, "SELECT type, payload FROM outbox ORDER BY id")
    assert [(row.type, row.payload.get("reason_code")) for row in rows] == [
        ("affiliate.applied", None),
        ("affiliate.approved", None),
        ("affiliate.enrolled", None),
        ("payout_method.added", None),
        ("affiliate.suspended", "fraud"),
    ]


def test_an_affiliate_joins_leaves_and_joins_again(shop: Shop) -> None:
    affiliate = plain(shop)
    path = f"/v1/affiliates/{affiliate['id']}/enrollments"
    program = {"program_id": shop.program["id"]}

    joined = shop.post(path, program)
    twice = shop.post(path, program)
    left = shop.post(f"{path}/{joined.json()['id']}/end")
    left_twice = shop.post(f"{path}/{joined.json()['id']}/end")
    shop.advance(minutes=6)
    again = shop.post(path, program)

    assert moment(joined.json()["valid_from"]) == moment(shop.get("/v1/merchant").json()["created_at"]).replace(
        microsecond=0
    )
    assert (twice.status_code, twice.json()["code"]) == (409, "enrollment-unchanged")
    assert (left.status_code, left.json()["enrolled"]) == (201, False)
    assert left_twice.status_code == 409
    assert moment(again.json()["valid_from"]) > moment(left.json()["valid_from"])
    assert [one["enrolled"] for one in shop.get(path).json()["data"]] == [True, False, True]


def test_after_the_first_order_an_enrolment_does_not_reach_back(shop: Shop) -> None:
    affiliate = plain(shop)
    asked = {"program_id": shop.program["id"], "valid_from": shop.time(days=1)}
    shop.an_order()

    answer = shop.post(f"/v1/affiliates/{affiliate['id']}/enrollments", asked)

    assert (answer.status_code, answer.json()["code"]) == (409, "back-dated")


def test_nobody_joins_another_merchants_programme(client: TestClient) -> None:
    ours, theirs = Shop(client), Shop(client)
    affiliate = plain(ours)

    answer = ours.post(f"/v1/affiliates/{affiliate['id']}/enrollments", {"program_id": theirs.program["id"]})

    assert answer.status_code == 404


def test_an_enrolment_of_another_affiliate_cannot_be_ended_here(shop: Shop) -> None:
    first, second = shop.an_affiliate(), shop.an_affiliate()
    enrollment = shop.get(f"/v1/affiliates/{first['id']}/enrollments").json()["data"][0]

    answer = shop.post(f"/v1/affiliates/{second['id']}/enrollments/{enrollment['id']}/end")

    assert answer.status_code == 404


def test_an_account_is_encrypted_masked_and_recognised(shop: Shop, engine: Engine) -> None:
    first, second = plain(shop), plain(shop)
    asked = {"rail": "sandbox", "destination": "sandbox_account_4711"}

    made = shop.post(f"/v1/affiliates/{first['id']}/payout-methods", asked)
    shop.post(f"/v1/affiliates/{second['id']}/payout-methods", asked)

    with unit_of_work(engine) as session:
        rows = fetch(session, "SELECT destination, fingerprint FROM payout_method ORDER BY id")
    assert made.json()["destination_hint"] == "•••4711"
    assert "account" not in made.text
    assert "sandbox_account" not in shop.get(f"/v1/affiliates/{first['id']}/payout-methods").text
    assert b"4711" not in bytes(rows[0].destination)
    assert rows[0].fingerprint == rows[1].fingerprint
    assert bytes(rows[0].destination) != bytes(rows[1].destination)


def test_of_a_short_account_less_is_shown(shop: Shop) -> None:
    affiliate = plain(shop)

    made = shop.post(f"/v1/affiliates/{affiliate['id']}/payout-methods", {"rail": "sandbox", "destination": "ab12"})

    assert made.json()["destination_hint"] == "•••2"


def test_a_new_account_takes_the_place_of_the_one_before(shop: Shop) -> None:
    affiliate = shop.an_affiliate()
    path = f"/v1/affiliates/{affiliate['id']}/payout-methods"

    shop.post(path, {"rail": "sandbox", "destination": "sandbox_other"})

    newest, oldest = shop.get(path).json()["data"]
    assert newest["replaced_at"] is None
    assert oldest["replaced_at"] is not None


@pytest.mark.parametrize(
    ("is_test", "asked", "status", "code"),
    [
        (False, {"rail": "sandbox", "destination": "sandbox_ok"}, 409, "payout-rail-not-available"),
        (True, {"rail": "stripe_connect", "destination": "acct_1234567890"}, 409, "payout-rail-not-available"),
        (True, {"rail": "sandbox", "destination": "no spaces"}, 422, "invalid-destination"),
        (True, {"rail": "paypal", "destination": "x"}, 422, "invalid-request"),
    ],
)
def test_a_rail_has_to_serve_the_merchant_and_know_the_account(
    client: TestClient, asked: Json, status: int, code: str, *, is_test: bool
) -> None:
    shop = Shop(client, is_test=is_test)
    affiliate = plain(shop)

    answer = shop.post(f"/v1/affiliates/{affiliate['id']}/payout-methods", asked)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert asked["destination"] not in answer.json()["detail"]


def test_a_tax_rule_is_chosen_openly(shop: Shop) -> None:
    affiliate = plain(shop)
    path = f"/v1/affiliates/{affiliate['id']}"

    chosen = shop.put(f"{path}/tax-profile", {"rule": "none_company"})

    assert (chosen.json()["affiliate_id"], chosen.json()["rule"]) == (affiliate["id"], "none_company")
    assert shop.get(path).json()["tax_rule"] == "none_company"
    assert shop.put(f"{path}/tax-profile", {"rule": "none"}).status_code == 422


def test_an_affiliates_key_opens_nothing_here(shop: Shop) -> None:
    affiliate = shop.an_affiliate()

    answer = shop.get(f"/v1/affiliates/{affiliate['id']}", by=affiliate["id"])

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")
