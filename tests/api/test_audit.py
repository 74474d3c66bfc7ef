"""Who changed what, before and after; beside the change or not at all."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra import ids
from service.infra.db import fetch, read_session
from tests.support.shop import Json, Shop

SECRET = "whsec_" + "Y2FuYXJ5" * 5


def audit(shop: Shop, **query: Any) -> list[Json]:
    answer = shop.get("/v1/audit", **query)
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["data"]
    return found


def test_a_change_says_who_did_it_what_it_was_before_and_what_it_became(shop: Shop) -> None:
    lan = shop.an_affiliate(approved=False, enrolled=False, paid_to=None, tax=None)
    admin = next(one["id"] for one in shop.get("/v1/api-keys").json()["data"] if one["name"] == "First admin key")

    answer = shop.put(f"/v1/affiliates/{lan['id']}/tax-profile", {"rule": "off"})

    [row] = audit(shop, operation="put_tax_profile")
    assert row["key_id"] == admin
    assert (row["subject"], row["kind"], row["by_operator"]) == (lan["id"], "affiliate", False)
    assert (row["before"]["tax_rule"], row["after"]["tax_rule"]) == (None, "off")
    assert row["before"].keys() == row["after"].keys() == {"tax_rule", "updated_at"}
    assert row["request_id"] == answer.headers["x-request-id"]


def test_what_is_new_has_nothing_before(shop: Shop) -> None:
    program = shop.program

    rows = audit(shop, subject=program["id"])

    assert [row["kind"] for row in rows] == ["program_version", "program"]
    assert {row["operation"] for row in rows} == {"create_program"}
    assert [row["before"] for row in rows] == [None, None]
    assert rows[1]["after"]["name"] == program["name"]
    assert rows[1]["after"]["id"] == program["id"]


def test_a_change_that_was_refused_leaves_nothing(shop: Shop) -> None:
    lan = shop.an_affiliate()
    before = audit(shop)

    refused = shop.post(f"/v1/affiliates/{lan['id']}/reject", {"reason_code": "late"})
    invalid = shop.post("/v1/affiliates", {"name": ""})

    assert (refused.status_code, invalid.status_code) == (409, 422)
    assert audit(shop) == before


def test_a_repeated_change_says_that_it_was_asked_for(shop: Shop) -> None:
    path = f"/v1/sources/{shop.source['source']['id']}/disable"
    shop.post(path)

    shop.post(path)

    again, first = audit(shop, operation="disable_source")
    assert first["after"]["disabled_at"] is not None
    assert (again["kind"], again["subject"]) == ("request", shop.source["source"]["id"])
    assert (again["before"], again["after"]) == (None, None)


def test_reading_leaves_no_trace(shop: Shop) -> None:
    before = audit(shop)

    shop.get("/v1/affiliates")
    shop.get("/v1/merchant", by="admin")

    assert audit(shop) == before


def test_decisions_about_commissions_show_where_the_money_stood(shop: Shop) -> None:
    lan = shop.an_affiliate()
    shop.a_coupon(lan, "LAN")
    order = shop.an_order(coupon_codes=["LAN"])
    [commission] = shop.get("/v1/commissions").json()["data"]

    shop.post(f"/v1/commissions/{commission['id']}/hold", {"reason_code": "quality_check"})
    shop.post(f"/v1/orders/{order['order_id']}/attribution", {"affiliate_id": None, "reason_code": "missing_touch"})

    [held] = audit(shop, subject=commission["id"])
    [attributed] = audit(shop, subject=order["order_id"])
    assert (held["before"]["status"], held["after"]["status"]) == ("approved", "held")
    assert held["after"]["places"]["held"] == {"amount_minor": 1000, "currency": "USD"}
    assert (attributed["before"]["affiliate_id"], attributed["after"]["affiliate_id"]) == (lan["id"], None)
    assert attributed["after"]["decided"]["reason_code"] == "missing_touch"


def test_what_is_made_or_decided_with_many_others_is_found_by_its_own_id(shop: Shop) -> None:
    lan, terms = shop.an_affiliate(), {"program_id": shop.program["id"]}
    shop.a_coupon(lan, "LAN")
    shop.an_order(coupon_codes=["LAN"])
    [commission] = shop.get("/v1/commissions").json()["data"]
    asked: dict[str, Json] = {
        "affiliates": {"name": "Bao"},
        "links": {"affiliate_id": lan["id"], "url": "https://shop.example/p/1", **terms},
        "coupons": {"affiliate_id": lan["id"], "code": "BULK", **terms},
        "commissions": {"commission_id": commission["id"], "decision": "hold", "reason_code": "quality_check"},
    }

    made = {noun: shop.post(f"/v1/{noun}/bulk", {"items": [item]}).json()["results"][0] for noun, item in asked.items()}

    kinds = {noun: [row["kind"] for row in audit(shop, subject=made[noun]["id"])] for noun in asked}
    assert kinds == {
        "affiliates": ["affiliate"],
        "links": ["link_owner", "link"],
        "coupons": ["coupon_owner", "coupon"],
        "commissions": ["commission"],
    }
    [held] = audit(shop, subject=commission["id"])
    assert (held["before"]["status"], held["after"]["status"]) == ("approved", "held")
    assert audit(shop, subject=made["affiliates"]["id"])[0]["after"]["name"] == "•••"


def test_how_a_source_is_read_is_changed_by_somebody_too(shop: Shop) -> None:
    source = shop.post("/v1/sources", {"name": "Woo", "platform": "woocommerce"}).json()["source"]

    shop.put(f"/v1/sources/{source['id']}/settings", {"settings": {"statuses": {"shipped": "paid"}}})

    [row] = audit(shop, operation="set_source_settings")
    assert (row["kind"], row["subject"]) == ("source_settings", source["id"])
    assert (row["after"]["version"], row["after"]["settings"]) == (1, "•••")


def test_the_steps_of_a_payout_run_name_each_person(shop: Shop) -> None:
    lan = shop.an_affiliate()
    shop.a_coupon(lan, "LAN")
    shop.an_order(coupon_codes=["LAN"])
    shop.advance(days=15)
    shop.post("/v1/jobs/settle")
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    for verb, role in (("submit", "finance-maker"), ("approve", "finance-checker")):
        assert shop.post(f"/v1/payout-runs/{run['id']}/{verb}", by=role).status_code == 200
    shop.post(f"/v1/payouts/{run['payouts'][0]['id']}/release", by="finance-maker")

    keys = {one["name"]: one["id"] for one in shop.get("/v1/api-keys").json()["data"]}
    steps = [(row["operation"], row["key_id"]) for row in audit(shop, subject=run["id"])]
    [released] = audit(shop, subject=run["payouts"][0]["id"])
    assert steps == [
        ("approve_payout_run", keys["finance-checker"]),
        ("submit_payout_run", keys["finance-maker"]),
        ("create_payout_run", keys["finance-maker"]),
    ]
    assert (released["before"]["released"], released["after"]["released"]) == (False, True)
    assert [row["kind"] for row in audit(shop, operation="settle_now")] == ["request"]


def test_what_the_operator_does_at_a_merchant_is_the_merchants_to_read(shop: Shop) -> None:
    shop.post(f"/v1/merchants/{shop.id}/admin-keys", by="operator")

    rows = audit(shop, operation="create_admin_key")
    founded = audit(shop, operation="create_merchant")
    theirs = shop.get("/v1/operator/audit", by="operator", merchant_id=shop.id).json()["data"]

    assert [(row["kind"], row["by_operator"]) for row in rows] == [("api_key", True)]
    assert [row["kind"] for row in founded] == ["api_key", "source", "merchant"]
    assert [row["id"] for row in theirs] == [row["id"] for row in rows + founded]


def test_changes_are_found_by_key_operation_and_time_page_by_page(shop: Shop) -> None:
    lan = shop.an_affiliate()
    shop.a_link(lan)
    shop.post("/v1/links", {"program_id": shop.program["id"], "url": "https://shop.example/own"}, by=lan["id"])
    own_key = next(one["id"] for one in shop.get("/v1/api-keys").json()["data"] if one["name"] == lan["id"])

    by_affiliate = audit(shop, key_id=own_key)
    newest = audit(shop)[0]
    first = shop.get("/v1/audit", limit=2).json()
    second = shop.get("/v1/audit", limit=2, cursor=first["next_cursor"]).json()

    assert {row["operation"] for row in by_affiliate} == {"create_link"}
    assert audit(shop, since=newest["at"])[0] == newest
    assert newest not in audit(shop, until=newest["at"])
    assert len({row["id"] for row in first["data"] + second["data"]}) == 4


def test_only_admins_read_the_trail(shop: Shop) -> None:
    for role in ("read", "finance-maker", "operator"):
        assert shop.get("/v1/audit", by=role).status_code == 403
    assert shop.get("/v1/operator/audit").status_code == 403


def test_no_secret_and_nothing_that_tells_who_a_person_is_stands_in_trail_or_log(
    shop: Shop, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canaries = ["canary-name", "canary-mail@example.com", "canary-profile", "+84123456789", "canary-sub", SECRET]
    lan = shop.an_affiliate(
        "canary-name",
        email="canary-mail@example.com",
        profile={"about": "canary-profile"},
        identities={"phone": "+84123456789"},
        paid_to="sandbox_ok",
    )
    shop.patch(f"/v1/affiliates/{lan['id']}", {"name": "canary-name two", "email": "canary-mail@example.com"})
    shop.a_link(lan, sub1="canary-sub")
    source = shop.post("/v1/sources", {"name": "Given", "platform": "generic", "secret": SECRET}).json()["source"]
    keys = [shop.post("/v1/api-keys", {"name": "Read", "scopes": ["read"]}).json()]
    keys.append(shop.post(f"/v1/api-keys/{keys[0]['api_key']['id']}/rotate").json())
    made = shop.post(f"/v1/sources/{source['id']}/rotate-secret").json()
    canaries += [key["key"] for key in keys] + [made["secret"]]

    with read_session(engine) as session:
        kept = [row.text for row in fetch(session, "SELECT CAST(to_jsonb(audit) AS text) AS text FROM audit")]
        secrets = fetch(
            session,
            """
            SELECT encode(hash, 'hex') FROM api_key UNION ALL SELECT encode(secret, 'hex') FROM source WHERE secret IS NOT NULL
            UNION ALL SELECT encode(destination, 'hex') FROM payout_method UNION ALL SELECT fingerprint FROM payout_method
            UNION ALL SELECT value FROM affiliate, jsonb_each_text(identities)
            """,
        )
    trail = "\n".join(kept)
    assert "•••" in trail
    assert [one for one in [*canaries, *(secret for (secret,) in secrets)] if one in trail] == []
    assert [one for one in canaries if one in caplog.text] == []


def test_the_trail_is_committed_with_the_change_or_neither_is(
    client: TestClient, shop: Shop, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.key_of("read")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("service.api.trail.execute", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        shop.post("/v1/affiliates", {"name": "Lost"})

    with read_session(engine) as session:
        assert fetch(session, "SELECT count(*) FROM affiliate")[0][0] == 0


def test_ids_in_the_trail_are_the_public_ones(shop: Shop, engine: Engine) -> None:
    lan = shop.an_affiliate()
    shop.a_link(lan)

    text = json.dumps(audit(shop, limit=200))

    assert lan["id"] in text
    assert str(UUID(int=ids.decode("aff", lan["id"]).int)) not in text
    assert str(ids.decode("mer", shop.id)) not in text
