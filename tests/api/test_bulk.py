"""Many in one request: each item has its own result, and a bad one spoils no other."""

from functools import partial

import pytest
from starlette.testclient import TestClient

from tests.api.test_races import at_once, rows
from tests.support.shop import Json, Shop


def told(answer: Json) -> list[tuple[int, int, str | None]]:
    """Place, status and code of the problem of each result."""
    return [(each["index"], each["status"], each["problem"] and each["problem"]["code"]) for each in answer["results"]]


def place_of(shop: Shop) -> Json:
    return {"affiliate_id": shop.an_affiliate()["id"], "program_id": shop.program["id"]}


def test_affiliates_are_registered_each_for_itself(shop: Shop) -> None:
    shop.an_affiliate(external_id="known")
    items = [
        {"name": "Minh", "external_id": "minh", "email": "minh@example.com"},
        {"name": "", "country": "Vietnam"},
        {"name": "Known", "external_id": "known"},
        {"name": "Minh again", "external_id": "minh"},
        "no object",
        {"name": "Hoa"},
    ]

    answer = shop.post("/v1/affiliates/bulk", {"items": items})

    body = answer.json()
    assert (answer.status_code, body["succeeded"], body["failed"]) == (200, 2, 4)
    taken = (409, "external-id-taken")
    wrong = (422, "invalid-request")
    assert told(body) == [(0, 201, None), (1, *wrong), (2, *taken), (3, *taken), (4, *wrong), (5, 201, None)]
    assert [part["pointer"] for part in body["results"][1]["problem"]["errors"]] == [
        "#/items/1/name",
        "#/items/1/country",
    ]
    minh = shop.get(f"/v1/affiliates/{body['results'][0]['id']}").json()
    assert (minh["name"], minh["status"], minh["identity_kinds"]) == ("Minh", "applied", ["email"])
    events = shop.get("/v1/events", type="affiliate.applied").json()["data"]
    registered = {event["data"]["affiliate_id"] for event in events}
    assert registered >= {result["id"] for result in body["results"] if result["id"]}


def test_coupons_are_made_each_for_itself(shop: Shop) -> None:
    place = place_of(shop)
    shop.a_coupon({"id": place["affiliate_id"]}, "KNOWN", external_id="known")
    none = "aff_01h455vb4pex5vsknk084sn02q"
    items = [
        {**place, "code": "NEW1", "external_id": "1"},
        {**place, "code": "known"},
        {**place, "code": "NEW2", "external_id": "known"},
        {**place, "code": "new1"},
        {**place, "code": "NEW3", "affiliate_id": none},
        {**place, "code": "NEW4", "program_id": none.replace("aff", "prg")},
        {**place, "code": "NEW5", "valid_from": "2020-01-01T00:00:00Z"},
        {**place, "code": "NEW6", "valid_from": "2099-01-01T00:00:00Z"},
    ]
    shop.an_order()

    body = shop.post("/v1/coupons/bulk", {"items": items}).json()

    assert told(body) == [
        (0, 201, None),
        (1, 409, "coupon-code-taken"),
        (2, 409, "external-id-taken"),
        (3, 409, "coupon-code-taken"),
        (4, 404, "not-found"),
        (5, 404, "not-found"),
        (6, 409, "back-dated"),
        (7, 201, None),
    ]
    made = shop.get(f"/v1/coupons/{body['results'][0]['id']}").json()
    single = shop.post("/v1/coupons", {**place, "code": "SINGLE", "external_id": "2"}).json()
    ids = {"id", "code", "external_id", "created_at", "owners"}
    assert {key: made[key] for key in made if key not in ids} == {key: single[key] for key in single if key not in ids}
    assert len(made["owners"]) == 1


def test_links_are_made_each_for_itself_and_lead_on(shop: Shop, client: TestClient) -> None:
    place = {**place_of(shop), "url": "https://shop.example/1"}
    known = shop.a_link({"id": place["affiliate_id"]}, code="known123", external_id="known")
    items = [
        {**place, "sub1": "blog"},
        {**place, "code": known["code"]},
        {**place, "external_id": "known"},
        {**place, "url": "https://elsewhere.example/"},
        {**place, "code": "mine1234", "external_id": "mine"},
        {**place, "code": "mine1234"},
        {**place, "affiliate_id": None},
        {**place, "program_id": "prg_01h455vb4pex5vsknk084sn02q"},
    ]

    body = shop.post("/v1/links/bulk", {"items": items}).json()

    assert [status for _, status, _ in told(body)] == [201, 409, 409, 422, 201, 409, 422, 404]
    assert [code for _, _, code in told(body)][1:3] == ["link-code-taken", "external-id-taken"]
    made = shop.get(f"/v1/links/{body['results'][0]['id']}").json()
    assert (made["sub1"], made["affiliate_id"], len(made["owners"])) == ("blog", place["affiliate_id"], 1)
    assert shop.click(made)
    assert len(rows(client, "SELECT 1 FROM link JOIN link_code ON link_code.link_id = link.id")) == 3


def test_a_code_that_two_batches_want_is_given_to_one_and_the_rest_of_both_is_made(client: TestClient) -> None:
    shops = [Shop(client), Shop(client)]
    batches = []
    for each in shops:
        place = {**place_of(each), "url": "https://shop.example/1"}
        batches.append({"items": [{**place, "code": f"same{number:04}"} for number in range(5)] + [place] * 5})

    answers = at_once(*[partial(shops[n].post, "/v1/links/bulk", batches[n]) for n in (0, 1)])

    results = [told(answer.json()) for answer in answers]
    for number in range(5):
        assert sorted(result[number][1] for result in results) == [201, 409]
    assert {result[number][1] for result in results for number in range(5, 10)} == {201}
    for table in ("link", "link_code", "link_owner"):
        assert len(rows(client, f"SELECT 1 FROM {table}")) == 15


def test_commissions_are_decided_each_for_itself_as_if_one_by_one(shop: Shop) -> None:
    shop.a_coupon(shop.an_affiliate(), "LAN")
    for number in range(5):
        shop.an_order(f"order-{number}", coupon_codes=["LAN"])
    commissions = [each["id"] for each in shop.get("/v1/commissions").json()["data"]]
    told_why = {"reason_code": "other", "note": "looked at"}
    items: list[Json] = [
        {"commission_id": commissions[0], "decision": "reject", **told_why},
        {"commission_id": commissions[1], "decision": "hold", **told_why},
        {"commission_id": commissions[2], "decision": "approve", **told_why},
        {"commission_id": commissions[2], "decision": "reject", **told_why},
        {"commission_id": commissions[3], "decision": "release", **told_why},
        {
            "commission_id": commissions[4],
            "decision": "approve",
            "amount": {"amount_minor": 1, "currency": "VND"},
            **told_why,
        },
        {"commission_id": "com_01h455vb4pex5vsknk084sn02q", "decision": "reject", **told_why},
        {"commission_id": commissions[4], "decision": "pay", **told_why},
        {
            "commission_id": commissions[4],
            "decision": "hold",
            "amount": {"amount_minor": 1, "currency": "USD"},
            **told_why,
        },
    ]

    body = shop.post("/v1/commissions/bulk", {"items": items}).json()

    assert told(body) == [
        (0, 200, None),
        (1, 200, None),
        (2, 200, None),
        (3, 409, "decided-twice"),
        (4, 409, "commission-not-held"),
        (5, 422, "invalid-request"),
        (6, 404, "unknown-commission"),
        (7, 422, "invalid-request"),
        (8, 422, "invalid-request"),
    ]
    stands = [shop.get(f"/v1/commissions/{each}").json() for each in commissions]
    assert [each["status"] for each in stands] == ["rejected", "held", "approved", "approved", "approved"]
    assert [each["approved"] and each["approved"]["amount_minor"] for each in stands] == [None, None, 1000, None, None]
    released = {"items": [{"commission_id": commissions[1], "decision": "release", **told_why}]}
    assert shop.post("/v1/commissions/bulk", released).json()["succeeded"] == 1
    assert shop.get(f"/v1/commissions/{commissions[1]}").json()["status"] == "approved"


@pytest.mark.parametrize("noun", ["affiliates", "coupons", "links", "commissions"])
def test_a_request_has_at_least_one_item_and_at_most_five_hundred(shop: Shop, noun: str) -> None:
    for number in (0, 501):
        answer = shop.post(f"/v1/{noun}/bulk", {"items": [{}] * number})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    full = shop.post(f"/v1/{noun}/bulk", {"items": [{}] * 500})
    assert (full.status_code, full.json()["failed"]) == (200, 500)


def test_a_whole_request_is_repeated_by_its_key(shop: Shop, client: TestClient) -> None:
    headers = {**shop.key_of("admin"), "Idempotency-Key": "import-1"}
    body = {"items": [{"name": f"KOC {number}"} for number in range(500)]}

    first, again = [client.post("/v1/affiliates/bulk", json=body, headers=headers) for _ in range(2)]

    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert len(rows(client, "SELECT 1 FROM affiliate")) == 500
