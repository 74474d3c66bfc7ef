"""The same thing asked for by sixteen at once, over HTTP: one gets it, the others are told why not."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import fetch, read_session
from tests.support.races import together
from tests.support.shop import Json, Shop

CALLERS = 16
PATIENCE = 60
"""Times somebody who is told that the service is busy comes back; the tests give it four places at the door."""


def at_once(*calls: Callable[[], Response]) -> list[Response]:
    """Send all at one moment; who is told 503 comes back, as a caller would."""

    def persistent(call: Callable[[], Response]) -> Response:
        for _ in range(PATIENCE):
            answer = call()
            if answer.status_code != 503:
                return answer
            assert int(answer.headers["retry-after"]) >= 1
        raise AssertionError("the service stayed busy")

    answers: list[Response] = together(*[partial(persistent, call) for call in calls])
    return answers


def refusals(answers: Sequence[Response]) -> Counter[str]:
    """Codes of the problems, after checking that each is one."""
    refused = [answer for answer in answers if answer.is_error]
    assert {answer.headers["content-type"] for answer in refused} <= {"application/problem+json"}
    return Counter(f"{answer.status_code} {answer.json()['code']}" for answer in refused)


def statuses(answers: Sequence[Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def rows(client: TestClient, statement: str) -> Any:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        return fetch(session, statement)


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan")


def test_one_coupon_code_however_written_becomes_one_coupon(shop: Shop, client: TestClient, lan: Json) -> None:
    place = {"affiliate_id": lan["id"], "program_id": shop.program["id"]}
    codes = ["LAN10", "lan10", "Lan10", " lAn10 "]

    answers = at_once(*[partial(shop.post, "/v1/coupons", {**place, "code": codes[n % 4]}) for n in range(CALLERS)])

    assert statuses(answers) == {201: 1, 409: 15}
    assert refusals(answers) == {"409 coupon-code-taken": 15}
    assert [row.folded for row in rows(client, "SELECT folded FROM coupon")] == ["lan10"]
    assert len(rows(client, "SELECT 1 FROM coupon_owner")) == 1


def test_one_link_code_becomes_one_link_though_two_merchants_ask(client: TestClient) -> None:
    shops = [Shop(client), Shop(client)]
    asked = []
    for each in shops:
        affiliate = each.an_affiliate()
        asked.append(
            {
                "affiliate_id": affiliate["id"],
                "program_id": each.program["id"],
                "url": "https://shop.example/p/1",
                "code": "the-one",
            }
        )

    answers = at_once(*[partial(shops[n % 2].post, "/v1/links", asked[n % 2]) for n in range(CALLERS)])

    assert statuses(answers) == {201: 1, 409: 15}
    assert refusals(answers) == {"409 link-code-taken": 15}
    for table in ("link", "link_code", "link_owner"):
        assert len(rows(client, f"SELECT 1 FROM {table}")) == 1


def test_one_external_id_becomes_one_thing_of_each_kind(shop: Shop, client: TestClient, lan: Json) -> None:
    place = {"affiliate_id": lan["id"], "program_id": shop.program["id"], "external_id": "same"}
    terms = {"rules": [{"kind": "percent", "rate": "10"}]}
    program = {
        "name": "P",
        "terms": terms,
        "allowed_domains": ["shop.example"],
        "fallback_url": "https://shop.example/",
    }
    asked: dict[str, tuple[str, Callable[[int], Json], str]] = {
        "merchant": ("/v1/merchants", lambda _: {"name": "M", "time_zone": "UTC", "external_id": "same"}, "operator"),
        "program": ("/v1/programs", lambda _: {**program, "external_id": "same"}, "admin"),
        "affiliate": ("/v1/affiliates", lambda number: {"name": f"A{number}", "external_id": "same"}, "admin"),
        "coupon": ("/v1/coupons", lambda number: {**place, "code": f"C{number}"}, "admin"),
        "link": ("/v1/links", lambda number: {**place, "url": f"https://shop.example/{number}"}, "admin"),
    }

    for table, (path, body, by) in asked.items():
        shop.key_of(by)
        answers = at_once(*[partial(shop.post, path, body(number), by=by) for number in range(CALLERS)])

        assert statuses(answers) == {201: 1, 409: 15}, table
        assert refusals(answers) == {"409 external-id-taken": 15}
        assert len(rows(client, f"SELECT 1 FROM {table} WHERE external_id = 'same'")) == 1
        # Nothing is left of what the others had begun.
        children = {"merchant": ("source", 2), "program": ("program_version", 2), "coupon": ("coupon_owner", 1)}
        if table in children:
            child, number = children[table]
            assert len(rows(client, f"SELECT 1 FROM {child}")) == number, child


def test_an_affiliate_put_under_one_external_id_by_many_is_registered_once(shop: Shop, client: TestClient) -> None:
    path = "/v1/affiliates/by-external-id/anna"

    answers = at_once(*[partial(shop.put, path, {"name": f"Anna {number}"}) for number in range(CALLERS)])

    counted = statuses(answers)
    assert counted[201] == 1
    assert counted[200] + counted[409] == 15
    assert set(refusals(answers)) <= {"409 external-id-taken"}
    [row] = rows(client, "SELECT name FROM affiliate")
    assert row.name in {answer.json()["name"] for answer in answers if answer.is_success}


def test_keys_made_at_once_are_all_made_and_all_different(shop: Shop) -> None:
    answers = at_once(
        *[partial(shop.post, "/v1/api-keys", {"name": "reader", "scopes": ["read"]}) for _ in range(CALLERS)]
    )

    assert statuses(answers) == {201: 16}
    made = {answer.json()["key"] for answer in answers}
    assert len(made) == 16
    allowed = [shop.client.get("/v1/merchant", headers={"Authorization": f"Bearer {key}"}) for key in made]
    assert statuses(allowed) == {200: 16}


def test_versions_published_at_once_get_dense_numbers_and_one_beginning_each(shop: Shop, client: TestClient) -> None:
    path = f"/v1/programs/{shop.program['id']}/versions"
    starts = [(shop.now() + timedelta(days=1 + number // 2)).replace(microsecond=0) for number in range(CALLERS)]
    starts = [start.replace(hour=0, minute=0, second=0) for start in starts]
    terms = {"rules": [{"kind": "percent", "rate": "5"}]}

    answers = at_once(
        *[partial(shop.post, path, {"terms": terms, "valid_from": start.isoformat()}) for start in starts]
    )

    # Two ask for each of eight days.
    assert statuses(answers) == {201: 8, 409: 8}
    assert refusals(answers) == {"409 version-taken": 8}
    assert sorted(answer.json()["number"] for answer in answers if answer.is_success) == list(range(2, 10))
    assert len(rows(client, "SELECT DISTINCT valid_from FROM program_version")) == 9


def test_one_external_id_of_a_payout_run_makes_one_run_and_reserves_nothing_for_the_others(
    shop: Shop, client: TestClient
) -> None:
    people = payable(shop, CALLERS)
    asked = [
        {"rail": "sandbox", "currency": "USD", "external_id": "november", "affiliate_ids": [each["id"]]}
        for each in people
    ]
    shop.key_of("finance-maker")

    answers = at_once(*[partial(shop.post, "/v1/payout-runs", body, by="finance-maker") for body in asked])

    assert statuses(answers) == {201: 1, 409: 15}
    assert refusals(answers) == {"409 external-id-taken": 15}
    assert len(rows(client, "SELECT 1 FROM payout_run")) == len(rows(client, "SELECT 1 FROM payout_item")) == 1
    assert places(client) == {"payable": 15_000, "reserved": 1_000}


def test_a_run_asked_for_by_sixteen_at_once_takes_everybody_once(shop: Shop, client: TestClient) -> None:
    payable(shop, 5)
    shop.key_of("finance-maker")
    asked = {"rail": "sandbox", "currency": "USD"}

    answers = at_once(*[partial(shop.post, "/v1/payout-runs", asked, by="finance-maker") for _ in range(CALLERS)])

    made = statuses(answers)[201]
    assert made >= 1
    assert refusals(answers) == Counter({"409 payout-run-empty": CALLERS - made})
    paid = Counter(
        payout["affiliate_id"] for answer in answers if answer.is_success for payout in answer.json()["payouts"]
    )
    assert sorted(paid.values()) == [1] * 5
    assert places(client) == {"reserved": 5_000}


@pytest.mark.parametrize(
    ("verb", "before", "by"),
    [
        ("submit", (), "finance-maker"),
        ("approve", ("submit",), "finance-checker"),
        ("cancel", ("submit", "approve"), "finance-maker"),
    ],
)
def test_one_step_of_a_run_asked_for_by_sixteen_at_once_is_taken_once(
    shop: Shop, client: TestClient, verb: str, before: tuple[str, ...], by: str
) -> None:
    payable(shop, 2)
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    for earlier in before:
        who = "finance-checker" if earlier == "approve" else "finance-maker"
        assert shop.post(f"/v1/payout-runs/{run['id']}/{earlier}", by=who).is_success
    keys = [f"{by} {name}" for name in "abcd"]
    for key in keys:
        shop.key_of(key)

    answers = at_once(
        *[partial(shop.post, f"/v1/payout-runs/{run['id']}/{verb}", by=keys[n % 4]) for n in range(CALLERS)]
    )

    assert statuses(answers) == {200: 1, 409: 15}
    assert refusals(answers) == {"409 payout-run-state": 15}
    [winner] = [answer.json() for answer in answers if answer.is_success]
    # What the winner was told is what holds: nobody after it changed anything.
    assert shop.get(f"/v1/payout-runs/{run['id']}").json() == winner
    told = {"submit": "submitted", "approve": "approved", "cancel": "cancelled"}[verb]
    assert len(rows(client, f"SELECT 1 FROM outbox WHERE type = 'payout_run.{told}'")) == 1
    assert places(client) == ({"payable": 2_000} if verb == "cancel" else {"reserved": 2_000})


def test_one_webhook_delivered_by_sixteen_connections_at_once_is_booked_once(shop: Shop, client: TestClient) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    order = shop.order("1001", coupon_codes=["LAN"])
    assert shop.source

    def deliver_often() -> list[Response]:
        return [shop.deliver(order, delivery_id="one") for _ in range(8)]

    answers = [answer for each in together(*[deliver_often] * CALLERS) for answer in each]

    assert statuses(answers) == {200: 128}
    assert sum(not answer.json()["repeated"] for answer in answers) == 1
    assert len({answer.json()["inbox_id"] for answer in answers}) == 1
    assert len(rows(client, "SELECT 1 FROM inbox")) == len(rows(client, "SELECT 1 FROM posting")) == 1


def payable(shop: Shop, count: int) -> list[Json]:
    """Affiliates with 10.00 USD payable each."""
    people = [shop.an_affiliate(f"KOC {number}") for number in range(count)]
    coupons = [shop.a_coupon(each) for each in people]
    for coupon in coupons:
        shop.an_order(f"order-{coupon['code']}", coupon_codes=[coupon["code"]])
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle").json()["settled"] == count
    return people


def places(client: TestClient) -> dict[str, int]:
    """Sums of all balances by place, those of 0 left out."""
    sums = rows(client, "SELECT kind, sum(amount_minor) AS minor FROM balance GROUP BY kind")
    return {row.kind: int(row.minor) for row in sums if row.minor}
