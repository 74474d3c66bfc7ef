"""Idempotency-Key: one request, one effect, one answer, however often it is sent."""

from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import execute, fetch, read_session, unit_of_work
from tests.support.races import together
from tests.support.shop import Json, Shop

CALLERS = 16
PATIENCE = 200


def send(shop: Shop, path: str, body: Json | None = None, *, key: str = "key-1", by: str = "admin") -> Response:
    headers = {**shop.key_of(by), "Idempotency-Key": key}
    return shop.client.post(path, json={} if body is None else body, headers=headers)


def rows(client: TestClient, statement: str) -> Any:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        return fetch(session, statement)


def change(client: TestClient, statement: str) -> None:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # as above
    with unit_of_work(service.engine) as session:
        execute(session, statement)


def test_a_repeated_request_gets_the_answer_of_the_first_and_has_no_effect(shop: Shop, client: TestClient) -> None:
    first = send(shop, "/v1/affiliates", {"name": "Lan"})

    again = send(shop, "/v1/affiliates", {"name": "Lan"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(rows(client, "SELECT 1 FROM affiliate")) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/affiliates", {"name": "Minh"}),
        ("/v1/affiliates/bulk", {"name": "Lan"}),
        ("/v1/affiliates?x=1", {"name": "Lan"}),
    ],
    ids=["body", "path", "query"],
)
def test_another_request_under_the_key_is_refused(shop: Shop, client: TestClient, path: str, body: Json) -> None:
    send(shop, "/v1/affiliates", {"name": "Lan"})

    answer = send(shop, path, body if "bulk" not in path else {"items": [body]})

    expected = "unknown-parameter" if "?" in path else "idempotency-key-reused"
    assert (answer.status_code, answer.json()["code"]) == (422, expected)
    assert len(rows(client, "SELECT 1 FROM affiliate")) == 1


def test_a_refusal_the_service_decided_is_kept_though_what_led_to_it_is_undone(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan", external_id="lan")
    asked = {"name": "Another Lan", "external_id": "lan"}
    first = send(shop, "/v1/affiliates", asked)
    change(client, "UPDATE affiliate SET external_id = 'other'")

    again = send(shop, "/v1/affiliates", asked)

    assert first.json()["code"] == "external-id-taken"
    assert (again.status_code, again.content) == (409, first.content)
    assert again.headers["content-type"] == "application/problem+json"
    # With a key of its own it is decided anew.
    assert send(shop, "/v1/affiliates", asked, key="key-2").status_code == 201
    assert [row.name for row in rows(client, "SELECT name FROM affiliate ORDER BY id")] == [lan["name"], asked["name"]]


def test_what_could_not_be_read_or_let_in_is_not_kept(shop: Shop, client: TestClient) -> None:
    for refused in (send(shop, "/v1/affiliates", {"nome": "Lan"}), send(shop, "/v1/affiliates", {}, by="read")):
        assert refused.status_code in {403, 422}

    assert send(shop, "/v1/affiliates", {"name": "Lan"}).status_code == 201
    assert send(shop, "/v1/affiliates", {"name": "Lan"}, by="read").status_code == 403
    assert len(rows(client, "SELECT 1 FROM kept_answer")) == 1


@pytest.mark.parametrize("key", ["", " ", "with blank", "x" * 256, "caf\u00e9"])
def test_a_key_that_cannot_be_one_is_refused(shop: Shop, client: TestClient, key: str) -> None:
    headers = {**shop.key_of("admin"), "Idempotency-Key": key.encode("latin-1")}

    answer = client.post("/v1/affiliates", json={"name": "Lan"}, headers=cast("dict[str, str]", headers))

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-idempotency-key")
    assert rows(client, "SELECT 1 FROM affiliate") == []


def test_a_key_means_nothing_to_another_caller(shop: Shop, client: TestClient) -> None:
    other = Shop(client)

    answers = [
        send(shop, "/v1/affiliates", {"name": "Lan"}),
        send(other, "/v1/affiliates", {"name": "Minh"}),
        send(shop, "/v1/affiliates", {"name": "Hoa"}, by="admin second"),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len(rows(client, "SELECT DISTINCT merchant_id, key_id FROM kept_answer")) == 3


def test_what_is_shown_once_is_kept_encrypted_and_told_again(shop: Shop, client: TestClient) -> None:
    asked = {"name": "reader", "scopes": ["read"]}
    made = send(shop, "/v1/api-keys", asked).json()
    merchant = {"name": "Second", "time_zone": "UTC"}
    by_operator = send(shop, "/v1/merchants", merchant, by="operator").json()

    assert send(shop, "/v1/api-keys", asked).json() == made
    assert send(shop, "/v1/merchants", merchant, by="operator").json() == by_operator

    kept = rows(client, "SELECT body, CAST(headers AS text) AS headers FROM kept_answer")
    assert len(kept) == 2
    for row in kept:
        assert b"koc_" not in bytes(row.body)
        assert "koc_" not in row.headers


def test_a_kept_answer_says_nothing_after_a_day(shop: Shop, client: TestClient) -> None:
    send(shop, "/v1/affiliates", {"name": "Lan"})
    change(client, "UPDATE kept_answer SET claimed_at = claimed_at - interval '24 h'")

    later = send(shop, "/v1/affiliates", {"name": "Minh"})

    assert later.json()["name"] == "Minh"
    assert "idempotency-replayed" not in later.headers
    assert send(shop, "/v1/affiliates", {"name": "Minh"}).headers["idempotency-replayed"] == "true"


def test_a_test_clock_that_is_moved_does_not_make_keys_older(shop: Shop) -> None:
    moved = send(shop, "/v1/test-clock", {"advance_s": int(timedelta(days=2).total_seconds())})

    again = send(shop, "/v1/test-clock", {"advance_s": int(timedelta(days=2).total_seconds())})

    assert again.json() == moved.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_who_comes_while_the_first_is_being_worked_on_is_told_so_at_once(shop: Shop, client: TestClient) -> None:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    send(shop, "/v1/affiliates", {"name": "Lan"})
    with unit_of_work(service.engine) as session:
        # As a process holds it that is in the middle of the request.
        execute(session, "UPDATE kept_answer SET claimed_at = claimed_at")

        answer = send(shop, "/v1/affiliates", {"name": "Lan"})

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-key-in-flight")
    assert answer.headers["retry-after"] == "1"


def test_work_in_units_of_its_own_is_claimed_before_and_answered_after(shop: Shop, client: TestClient) -> None:
    first = send(shop, "/v1/jobs/settle", by="finance-maker")
    assert send(shop, "/v1/jobs/settle", by="finance-maker").headers["idempotency-replayed"] == "true"

    # As its process leaves it when it dies on the way.
    change(client, "UPDATE kept_answer SET status = NULL, body = NULL")
    claimed = send(shop, "/v1/jobs/settle", by="finance-maker")
    change(client, "UPDATE kept_answer SET lease_until = now() - interval '1 s'")
    after_lease = send(shop, "/v1/jobs/settle", by="finance-maker")

    assert (claimed.status_code, claimed.json()["code"]) == (409, "idempotency-key-in-flight")
    assert (after_lease.status_code, after_lease.json()) == (200, first.json())
    assert "idempotency-replayed" not in after_lease.headers


def test_one_key_sent_by_sixteen_at_once_has_one_effect_and_one_answer(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    shop.an_order(coupon_codes=["LAN"])
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    asked: list[tuple[str, Json, str, str]] = [
        ("/v1/affiliates", {"name": "Minh"}, "admin", "affiliate WHERE name = 'Minh'"),
        ("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, "finance-maker", "payout_run"),
        ("/v1/api-keys", {"name": "once", "scopes": ["read"]}, "admin", "api_key WHERE name = 'once'"),
    ]

    for path, body, by, made in asked:
        shop.key_of(by)

        def until_answered(path: str = path, body: Json = body, by: str = by) -> tuple[Response, Counter[str]]:
            told: Counter[str] = Counter()
            for _ in range(PATIENCE):
                answer = send(shop, path, body, key=path, by=by)
                if answer.status_code not in {409, 503}:
                    return answer, told
                assert int(answer.headers["retry-after"]) >= 1
                told[answer.json()["code"]] += 1
            raise AssertionError("nobody was ever answered")

        answers = together(*[partial(until_answered)] * CALLERS)

        assert {answer.status_code for answer, _ in answers} == {201}
        assert len({answer.content for answer, _ in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer, _ in answers) == 1
        assert {code for _, told in answers for code in told} <= {"idempotency-key-in-flight", "database-busy"}
        assert len(rows(client, f"SELECT 1 FROM {made}")) == 1, path


def test_the_constraint_makes_the_effect_unique_and_not_the_key(shop: Shop, client: TestClient) -> None:
    asked = {"name": "Lan", "external_id": "lan"}
    send(shop, "/v1/affiliates", asked)
    change(client, "DELETE FROM kept_answer")

    assert send(shop, "/v1/affiliates", asked).json()["code"] == "external-id-taken"
    assert len(rows(client, "SELECT 1 FROM affiliate")) == 1
