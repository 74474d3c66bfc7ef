"""Keys and secrets change hands while the shop goes on delivering."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, unit_of_work
from tests.support.shop import Json, Shop, sign

GIVEN = "whsec_" + base64.b64encode(bytes(range(40))).decode()


@pytest.fixture
def _reads_sources_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of sources is a second old at most; these tests do not wait for that second."""
    monkeypatch.setattr("service.api.intake.SOURCE_FRESH_S", 0.0)


def key_id(shop: Shop, name: str) -> str:
    found: str = next(one["id"] for one in shop.get("/v1/api-keys").json()["data"] if one["name"] == name)
    return found


def asked(shop: Shop, key: str) -> Response:
    return shop.client.get("/v1/merchant", headers={"Authorization": f"Bearer {key}"})


def delivered(shop: Shop, secret: str, number: str) -> int:
    body = json.dumps(shop.order(number, placed_at="2026-11-20T12:00:00Z")).encode()
    headers = sign(secret, body, delivery_id=f"msg-{number}", at=time.time())
    return shop.client.post(f"/intake/{shop.source['source']['id']}", content=body, headers=headers).status_code


def rotated(shop: Shop, **given: Any) -> Json:
    answer = shop.post(f"/v1/sources/{shop.source['source']['id']}/rotate-secret", given)
    assert answer.status_code == 200, answer.text
    made: Json = answer.json()
    return made


# Keys.


def test_a_rotated_key_and_its_follower_both_let_in_until_the_overlap_is_over(shop: Shop, engine: Engine) -> None:
    limit = {"per_second": 1000, "burst": 2000}
    old = shop.post("/v1/api-keys", {"name": "Reports", "scopes": ["read"], "rate_limit": limit}).json()

    made = shop.post(f"/v1/api-keys/{old['api_key']['id']}/rotate", {"overlap_s": 3600}).json()
    both = [asked(shop, key).status_code for key in (old["key"], made["key"])]
    with unit_of_work(engine) as session:
        execute(
            session,
            "UPDATE api_key SET expires_at = now() WHERE hint = :hint",
            {"hint": made["replaced"]["hint"]},
        )

    assert both == [200, 200]
    assert asked(shop, old["key"]).json()["code"] == "expired-key"
    assert asked(shop, made["key"]).status_code == 200
    same = ("name", "scopes", "affiliate_id", "rate_limit")
    assert {name: made["api_key"][name] for name in same} == {name: old["api_key"][name] for name in same}
    assert made["api_key"]["expires_at"] is None
    assert made["replaced"]["expires_at"] is not None


def test_without_overlap_the_old_key_is_revoked_at_once(shop: Shop) -> None:
    old = shop.post("/v1/api-keys", {"name": "Leaked", "scopes": ["read"]}).json()

    made = shop.post(f"/v1/api-keys/{old['api_key']['id']}/rotate", {"overlap_s": 0}).json()

    assert asked(shop, old["key"]).json()["code"] == "revoked-key"
    assert asked(shop, made["key"]).status_code == 200


def test_a_key_that_was_to_live_for_a_month_is_followed_by_one_that_does(shop: Shop) -> None:
    until = (utc_now() + timedelta(days=30)).isoformat()
    old = shop.post("/v1/api-keys", {"name": "Monthly", "scopes": ["read"], "expires_at": until}).json()["api_key"]

    made = shop.post(f"/v1/api-keys/{old['id']}/rotate", {}).json()

    assert made["api_key"]["expires_at"][:10] >= old["expires_at"][:10]
    assert made["replaced"]["expires_at"] < old["expires_at"]


def test_a_key_is_rotated_once_and_whoever_lost_the_answer_rotates_its_follower(shop: Shop) -> None:
    old = shop.post("/v1/api-keys", {"name": "For good", "scopes": ["read"]}).json()["api_key"]
    lost = shop.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_s": 60}).json()["api_key"]

    again = shop.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_s": 60})
    made = shop.post(f"/v1/api-keys/{lost['id']}/rotate", {"overlap_s": 0}).json()

    assert (again.status_code, again.json()["code"]) == (409, "key-not-rotatable")
    assert lost["id"] in again.json()["detail"]
    assert made["api_key"]["expires_at"] is None
    assert asked(shop, made["key"]).status_code == 200


def test_an_overlap_does_not_lengthen_the_life_of_a_key(shop: Shop) -> None:
    until = (utc_now() + timedelta(minutes=5)).isoformat()
    old = shop.post("/v1/api-keys", {"name": "Short", "scopes": ["read"], "expires_at": until}).json()["api_key"]

    made = shop.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_s": 86_400}).json()

    assert made["replaced"]["expires_at"] == old["expires_at"]


def test_a_key_that_is_over_is_not_rotated(shop: Shop) -> None:
    shop.key_of("read")
    chosen = key_id(shop, "read")
    shop.post(f"/v1/api-keys/{chosen}/revoke")

    answer = shop.post(f"/v1/api-keys/{chosen}/rotate")

    assert (answer.status_code, answer.json()["code"]) == (409, "key-not-rotatable")


def test_a_revocation_counts_for_the_very_next_request_whatever_runs_meanwhile(shop: Shop) -> None:
    key = shop.post("/v1/api-keys", {"name": "Busy", "scopes": ["read"]}).json()
    headers = {"Authorization": f"Bearer {key['key']}"}
    with ThreadPoolExecutor(3) as threads:
        before = [threads.submit(shop.client.get, "/v1/merchant", headers=headers) for _ in range(12)]

        assert shop.post(f"/v1/api-keys/{key['api_key']['id']}/revoke").status_code == 200
        after = [threads.submit(shop.client.get, "/v1/merchant", headers=headers) for _ in range(6)]

    assert {each.result().status_code for each in before} <= {200, 401}
    assert [each.result().json()["code"] for each in after] == ["revoked-key"] * 6


def test_two_who_rotate_one_key_without_overlap_make_one_follower(shop: Shop) -> None:
    old = shop.post("/v1/api-keys", {"name": "Wanted", "scopes": ["read"]}).json()["api_key"]
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: shop.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_s": 0}), range(2)))

    assert sorted(answer.status_code for answer in answers) == [201, 409]


def test_keys_are_found_by_scope_affiliate_and_whether_they_let_in(shop: Shop) -> None:
    lan = shop.an_affiliate()
    for role in ("read", "ingest", lan["id"]):
        shop.key_of(role)
    shop.post(f"/v1/api-keys/{key_id(shop, 'ingest')}/revoke")

    def names(**query: Any) -> list[str]:
        return sorted(one["name"] for one in shop.get("/v1/api-keys", **query).json()["data"])

    assert names(scope="read") == ["read"]
    assert names(affiliate_id=lan["id"]) == [lan["id"]]
    assert names(active=False) == ["ingest"]
    assert names(active=True) == sorted(["First admin key", "read", lan["id"]])


def test_name_and_limit_of_a_key_can_be_changed_and_what_it_may_do_cannot(shop: Shop) -> None:
    shop.key_of("read")
    path = f"/v1/api-keys/{key_id(shop, 'read')}"

    named = shop.patch(path, {"name": "Dashboard", "rate_limit": {"per_second": 5, "burst": 9}}).json()
    reset = shop.patch(path, {"rate_limit": None}).json()
    refused = shop.patch(path, {"scopes": ["admin"]})

    assert (named["name"], named["rate_limit"]) == ("Dashboard", {"per_second": 5, "burst": 9})
    assert (reset["name"], reset["rate_limit"]) == ("Dashboard", None)
    assert refused.status_code == 422


# Secrets of sources.


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_two_secrets_verify_until_the_older_ones_time_is_over(shop: Shop, engine: Engine) -> None:
    old = shop.source["secret"]

    made = rotated(shop, overlap_s=3600)
    both = [delivered(shop, secret, name) for secret, name in ((old, "1"), (made["secret"], "2"))]
    with unit_of_work(engine) as session:
        execute(session, "UPDATE source SET previous_secret_expires_at = now() WHERE previous_secret IS NOT NULL")
    after = [delivered(shop, secret, name) for secret, name in ((old, "3"), (made["secret"], "4"))]

    assert both == [200, 200]
    assert after == [401, 200]
    assert made["source"]["previous_secret_expires_at"] is not None


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_deliveries_go_on_while_the_secret_is_rotated(shop: Shop) -> None:
    old = shop.source["secret"]
    with ThreadPoolExecutor(3) as threads:
        sent = [threads.submit(delivered, shop, old, f"during-{number}") for number in range(20)]

        made = rotated(shop, overlap_s=3600)
        sent += [threads.submit(delivered, shop, made["secret"], f"after-{number}") for number in range(10)]

    assert {each.result() for each in sent} == {200}


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_without_overlap_only_the_new_secret_verifies(shop: Shop) -> None:
    first = shop.source["secret"]
    second = rotated(shop, overlap_s=3600)["secret"]

    third = rotated(shop, overlap_s=0)["secret"]

    assert [delivered(shop, secret, str(n)) for n, secret in enumerate((first, second, third))] == [401, 401, 200]


def test_a_third_secret_waits_for_the_first_to_end(shop: Shop) -> None:
    rotated(shop, overlap_s=3600)

    answer = shop.post(f"/v1/sources/{shop.source['source']['id']}/rotate-secret", {"overlap_s": 60})

    assert (answer.status_code, answer.json()["code"]) == (409, "secret-rotation-under-way")


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_a_secret_of_the_platforms_own_is_taken_and_not_shown(shop: Shop) -> None:
    made = rotated(shop, secret=GIVEN, overlap_s=0)
    refused = shop.post(f"/v1/sources/{shop.source['source']['id']}/rotate-secret", {"secret": "whsec_" + "!" * 30})

    assert made["secret"] is None
    assert GIVEN not in json.dumps(made)
    assert delivered(shop, GIVEN, "1") == 200
    assert (refused.status_code, refused.json()["code"]) == (422, "unusable-secret")


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_a_secret_may_have_an_end_of_its_own(shop: Shop, engine: Engine) -> None:
    made = rotated(shop, expires_at=(utc_now() + timedelta(hours=1)).isoformat(), overlap_s=0)
    before = delivered(shop, made["secret"], "1")
    with unit_of_work(engine) as session:
        execute(session, "UPDATE source SET secret_expires_at = now() WHERE secret_expires_at IS NOT NULL")

    assert (before, delivered(shop, made["secret"], "2")) == (200, 401)
    late = shop.post(f"/v1/sources/{shop.source['source']['id']}/rotate-secret", {"expires_at": "2020-01-01T00:00:00Z"})
    assert (late.status_code, late.json()["code"]) == (422, "invalid-expiry")


@pytest.mark.usefixtures("_reads_sources_each_time")
def test_an_enabled_source_takes_deliveries_again_at_the_same_address(shop: Shop) -> None:
    path = f"/v1/sources/{shop.source['source']['id']}"
    shop.post(f"{path}/disable")
    while_disabled = delivered(shop, shop.source["secret"], "1")

    enabled = shop.post(f"{path}/enable").json()

    assert while_disabled == 404
    assert enabled["disabled_at"] is None
    assert delivered(shop, shop.source["secret"], "1") == 200


def test_no_secret_stands_readable_in_the_database_or_in_an_answer(shop: Shop, engine: Engine) -> None:
    old = shop.source["secret"]
    new = rotated(shop)["secret"]

    with read_session(engine) as session:
        stored = [
            bytes(secret)
            for row in fetch(session, "SELECT secret, previous_secret FROM source")
            for secret in row
            if secret
        ]
    listed = shop.get("/v1/sources").text

    assert len(stored) == 2
    for secret in (old, new):
        assert secret not in listed
        assert not any(secret.encode() in one for one in stored)


def test_when_a_key_and_a_source_were_last_used_is_told(shop: Shop, client: TestClient) -> None:
    shop.an_order()
    shop.get("/v1/merchant", by="read")

    client.app.state.service.usage.write()  # type: ignore[attr-defined] # typed as any ASGI application

    used = {one["name"]: one["last_used_at"] for one in shop.get("/v1/api-keys").json()["data"]}
    sources = {one["platform"]: one["last_delivery_at"] for one in shop.get("/v1/sources").json()["data"]}
    assert used["read"] is not None
    assert sources["generic"] is not None
    assert sources["desk"] is None
