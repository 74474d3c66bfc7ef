"""Grades, bindings, lists of customers, labels of links and pauses over HTTP: dated, never back-dated, nobody's name kept."""

import base64
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.commissions import inputs as stored_inputs
from service.domain.dated import Binding, Listing, Pause, PauseEffect
from service.domain.marks import ContentType, Label
from service.domain.order import Line, OrderFacts, OrderSnapshot, Touch, TouchKind, order_fact
from service.infra import ids
from service.infra.db import fetch, read_session
from service.infra.security import Security
from tests.support.shop import SECRET_KEY, Json, Shop

FIVE_MINUTES = timedelta(minutes=5)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def later(shop: Shop, **ahead: float) -> str:
    return (shop.now() + timedelta(**ahead)).isoformat()


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan")


def bound(shop: Shop, koc: Json, **parts: Any) -> Json:
    return {"affiliate_id": koc["id"], "program_id": shop.program["id"], **parts}


def hash_of(shop: Shop, kind: str, value: str) -> str:
    return Security(base64.b64decode(SECRET_KEY)).identity(ids.decode("mer", shop.id), kind, value)


# Grades.


def test_grades_follow_one_another(shop: Shop, lan: Json) -> None:
    path = f"/v1/affiliates/{lan['id']}/grades"
    first = shop.post(path, {"tier": "gold", "groups": ["tea", "beauty", "tea"], "valid_from": shop.time(days=30)})
    shop.an_order()

    early = shop.post(path, {"tier": "silver", "valid_from": shop.time()})
    second = shop.post(path, {"groups": []})

    assert first.status_code == second.status_code == 201
    assert first.json()["groups"] == ["beauty", "tea"]
    assert (early.status_code, early.json()["code"]) == (409, "back-dated")
    assert (second.json()["tier"], second.json()["groups"]) == (None, [])
    assert shop.get(path).json()["data"] == [second.json(), first.json()]


def test_a_grade_does_not_begin_before_the_one_recorded_before(shop: Shop, lan: Json) -> None:
    path = f"/v1/affiliates/{lan['id']}/grades"
    shop.post(path, {"tier": "gold", "valid_from": later(shop, days=2)})

    refused = shop.post(path, {"tier": "silver", "valid_from": later(shop, days=1)})

    assert (refused.status_code, refused.json()["code"]) == (409, "start-before-last-change")


def test_many_are_graded_at_once_each_with_its_result(shop: Shop, lan: Json) -> None:
    ben = shop.an_affiliate("Ben")
    items = [
        {"affiliate_id": lan["id"], "tier": "gold"},
        {"affiliate_id": "aff_01h455vb4pex5vsknk084sn02q", "tier": "gold"},
        {"affiliate_id": lan["id"], "tier": "silver"},
        {"affiliate_id": ben["id"], "tier": "No word"},
        {"affiliate_id": ben["id"], "groups": ["tea"], "valid_from": later(shop, minutes=10)},
    ]

    answer = shop.post("/v1/affiliates/grades", {"items": items}).json()

    assert [one["status"] for one in answer["results"]] == [201, 404, 409, 422, 201]
    assert (answer["succeeded"], answer["results"][0]["id"]) == (2, lan["id"])
    assert [one["tier"] for one in shop.get(f"/v1/affiliates/{lan['id']}/grades").json()["data"]] == ["gold"]
    assert [row["kind"] for row in shop.get("/v1/audit", operation="create_grades").json()["data"]] == [
        "affiliate_grade"
    ] * 2


# Bindings.


def test_a_customer_is_bound_by_a_keyed_hash_and_named_nowhere(
    shop: Shop, lan: Json, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    made = shop.post("/v1/customer-bindings", bound(shop, lan, customer={"email": "Mai.Private@Example.com"}))

    assert made.status_code == 201
    binding = made.json()
    assert binding["customer_kind"] == "email"
    assert binding["customer_hash"] == hash_of(shop, "email", "mai.private@example.com")
    with read_session(engine) as session:
        tables = [
            row.table_name
            for row in fetch(session, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        ]
        kept = " ".join(
            str(row.whole)
            for table in tables
            for row in fetch(session, f'SELECT to_jsonb(one) AS whole FROM "{table}" AS one')
        )
    assert "private" not in kept.lower()
    assert "private" not in caplog.text.lower()


@pytest.mark.parametrize(
    "customer",
    [{}, {"email": "a@example.com", "phone": "+84901234567"}, {"email": None}, {"name": "Mai"}, {"phone": "n/a"}, None],
    ids=str,
)
def test_a_customer_is_named_by_one_thing_that_tells_it_from_others(shop: Shop, lan: Json, customer: Any) -> None:
    assert shop.post("/v1/customer-bindings", bound(shop, lan, customer=customer)).status_code == 422


@pytest.mark.parametrize(
    ("path", "what"), [("customer-bindings", {"customer": {"id": "cus_1"}}), ("product-bindings", {"sku": "TEA-1"})]
)
def test_bindings_follow_one_another_and_end(shop: Shop, lan: Json, path: str, what: Json) -> None:
    ben = shop.an_affiliate("Ben")
    address = f"/v1/{path}"
    first = shop.post(address, bound(shop, lan, **what, valid_from=shop.time(days=9))).json()
    shop.an_order()

    reaching_back = shop.post(address, bound(shop, ben, **what, valid_from=shop.time(days=1)))
    second = shop.post(address, bound(shop, ben, **what, until=later(shop, days=30))).json()
    shop.advance(minutes=1)
    ended = shop.post(address, {"affiliate_id": None, **what}).json()
    again = shop.post(address, {"affiliate_id": None, **what})

    assert reaching_back.json()["code"] == "back-dated"
    assert (ended["affiliate_id"], ended["program_id"]) == (None, None)
    assert (again.status_code, again.json()["code"]) == (409, "binding-unchanged")
    assert shop.get(address).json()["data"] == [ended, second, first]
    assert shop.get(address, affiliate_id=ben["id"]).json()["data"] == [second]
    assert shop.get(address, program_id=shop.program["id"]).json()["data"] == [second, first]
    one = shop.get(address, limit=1).json()
    assert shop.get(address, limit=1, cursor=one["next_cursor"]).json()["data"] == [second]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"program_id": None}, 422),
        ({"program_id": "prg_01h455vb4pex5vsknk084sn02q"}, 404),
        ({"affiliate_id": "aff_01h455vb4pex5vsknk084sn02q"}, 404),
        ({"until": "2026-01-02T00:00:00Z"}, 422),
        ({"sku": " "}, 422),
        ({"affiliate_id": None}, 409),
    ],
    ids=str,
)
def test_what_cannot_be_bound_is_refused(shop: Shop, lan: Json, change: Json, status: int) -> None:
    assert shop.post("/v1/product-bindings", {**bound(shop, lan, sku="TEA-1"), **change}).status_code == status
    assert shop.get("/v1/product-bindings").json()["data"] == []


def test_an_order_finds_what_its_customer_and_products_are_bound_to(shop: Shop, lan: Json, engine: Engine) -> None:
    """Customers of orders and of bindings are hashed by one rule, however they are written."""
    since = moment(shop.time(days=5))
    shop.post(
        "/v1/customer-bindings", bound(shop, lan, customer={"phone": "+84 90 123 45 67"}, valid_from=since.isoformat())
    )
    shop.post("/v1/product-bindings", bound(shop, lan, sku="TEA-1", valid_from=since.isoformat()))
    shop.post(
        "/v1/customer-lists/staff/entries",
        {"customers": [{"email": "STAFF@shop.example"}], "listed": True, "valid_from": since.isoformat()},
    )
    shop.an_order(
        customer={"phone": "0084901234567", "email": "staff@shop.example"},
        lines=[{"id": "1", "sku": "TEA-1", "quantity": 1, "net": "10.00"}],
    )

    with read_session(engine) as session:
        [row] = fetch(session, "SELECT merchant_id, order_id, payload FROM fact WHERE kind = 'order'")
        snapshot = OrderSnapshot.of_json(row.payload)
        facts = OrderFacts.of([order_fact(snapshot, version_at=since)])
        found = stored_inputs.load(session, {(row.merchant_id, row.order_id): facts})[row.merchant_id]

    binding = Binding(since, ids.decode("aff", lan["id"]), ids.decode("prg", shop.program["id"]))
    assert list(found.customer_bindings.values()) == [(binding,)]
    assert found.product_bindings == {"TEA-1": (binding,)}
    assert list(found.listings.values()) == [(Listing(since, "staff", listed=True),)]
    assert found.is_approved(binding.affiliate_id or UUID(int=0), snapshot.placed_at)


# Lists of customers.


def entries(shop: Shop, customers: list[Json], *, name: str = "staff", listed: bool = True, **more: Any) -> Any:
    return shop.post(f"/v1/customer-lists/{name}/entries", {"customers": customers, "listed": listed, **more})


def test_lists_are_counted_and_name_nobody(shop: Shop) -> None:
    entries(shop, [{"email": f"staff-{number}@shop.example"} for number in range(1000)], valid_from=shop.time(days=1))
    entries(shop, [{"id": "tester"}], name="testers")
    taken_off = entries(shop, [{"email": "Staff-7@shop.example"}], listed=False)

    lists = shop.get("/v1/customer-lists").json()

    assert taken_off.json()["succeeded"] == 1
    # A first entry reaches back to the merchant's making; what follows it begins in five minutes.
    assert lists["data"] == [
        {"name": "staff", "listed": 1000, "listed_later": 999},
        {"name": "testers", "listed": 1, "listed_later": 1},
    ]
    first = shop.get("/v1/customer-lists", limit=1).json()
    second = shop.get("/v1/customer-lists", limit=1, cursor=first["next_cursor"]).json()
    assert [one["name"] for one in first["data"] + second["data"]] == ["staff", "testers"]
    shop.advance(minutes=6)
    assert shop.get("/v1/customer-lists").json()["data"][0]["listed"] == 999


def test_each_customer_of_a_list_gets_its_result(shop: Shop) -> None:
    entries(shop, [{"email": "a@shop.example"}])

    answer = entries(
        shop,
        [{"email": "A@shop.example"}, {"phone": "n/a"}, {}, {"email": "b@shop.example"}, {"email": "b@shop.example"}],
    ).json()

    assert [one["status"] for one in answer["results"]] == [200, 422, 422, 201, 200]
    assert answer["results"][2]["problem"]["errors"][0]["pointer"].startswith("#/customers/2")
    [row, _] = shop.get("/v1/audit", operation="put_customer_list_entries").json()["data"]
    assert (row["subject"], row["after"]) == ("staff", {"listed": True, "entries": 1})


def test_a_list_takes_a_thousand_at_once_and_is_called_by_a_word(shop: Shop) -> None:
    too_many = entries(shop, [{"id": str(number)} for number in range(1001)])

    assert too_many.status_code == 422
    assert entries(shop, [], name="staff").status_code == 422
    assert entries(shop, [{"id": "1"}], name="Our%20staff").status_code == 422
    assert shop.get("/v1/customer-lists").json()["data"] == []


def test_after_the_first_order_a_list_begins_in_five_minutes_at_the_earliest(shop: Shop) -> None:
    shop.an_order()

    reaching_back = entries(shop, [{"id": "1"}], valid_from=shop.time()).json()
    left_out = entries(shop, [{"id": "1"}]).json()

    assert reaching_back["results"][0]["problem"]["code"] == "back-dated"
    assert left_out["succeeded"] == 1
    assert shop.get("/v1/customer-lists").json()["data"] == [{"name": "staff", "listed": 0, "listed_later": 1}]


# Labels of links.


def labels(engine: Engine, link: Json) -> tuple[Label, ...]:
    """The labels of a link, as an order with a click reads them."""
    link_id = ids.decode("lnk", link["id"])
    with read_session(engine) as session:
        [row] = fetch(session, "SELECT merchant_id FROM link WHERE id = :id", {"id": link_id})
        at = moment(link["created_at"])
        snapshot = OrderSnapshot(at, "USD", (Line("1", "", 1),), touches=(Touch(TouchKind.CLICK, "c", link_id, at),))
        facts = OrderFacts.of([order_fact(snapshot, version_at=at)])
        found = stored_inputs.load(session, {(row.merchant_id, link_id): facts})[row.merchant_id]
    return found.links[link_id].labels


def test_a_link_is_marked_from_its_making_and_anew_with_each_change(shop: Shop, lan: Json, engine: Engine) -> None:
    link = shop.a_link(lan, content_type="video", channel="tiktok", sub1="spring")
    made_at = moment(link["created_at"])
    path = f"/v1/links/{link['id']}"
    shop.advance(minutes=1)
    before = shop.now()

    live = shop.patch(path, {"content_type": "live"}).json()
    unchanged = shop.patch(path, {"content_type": "live", "paused": True}).json()
    emptied = shop.patch(path, {"content_type": None, "channel": None}).json()

    assert (link["content_type"], link["channel"], link["sub1"]) == ("video", "tiktok", "spring")
    assert (
        (live["content_type"], live["channel"])
        == (unchanged["content_type"], unchanged["channel"])
        == ("live", "tiktok")
    )
    assert (emptied["content_type"], emptied["channel"]) == (None, None)
    first, second, third = labels(engine, link)
    spring = (("sub1", "spring"),)
    assert first == Label(made_at, ContentType.VIDEO, "tiktok", spring)
    assert (second.content_type, second.channel, second.sub_ids) == (ContentType.LIVE, "tiktok", spring)
    assert (third.content_type, third.channel, third.sub_ids) == (None, "", spring)
    assert before <= second.valid_from < third.valid_from


def test_setting_a_link_marks_it_anew_where_its_sub_ids_differ(shop: Shop, lan: Json, engine: Engine) -> None:
    path = "/v1/links/by-external-id/l-1"
    asked = bound(shop, lan, url="https://shop.example/p/1", channel="zalo", sub1="a")
    link = shop.put(path, asked).json()

    shop.put(path, {**asked, "url": "https://shop.example/p/2"})
    shop.put(path, {**asked, "sub1": "b", "sub2": "c"})
    shop.put(path, {**asked, "sub1": "b", "sub2": "c", "content_type": "post"})

    marked = [(one.content_type, one.channel, dict(one.sub_ids)) for one in labels(engine, link)]
    assert marked == [
        (None, "zalo", {"sub1": "a"}),
        (None, "zalo", {"sub1": "b", "sub2": "c"}),
        (ContentType.POST, "zalo", {"sub1": "b", "sub2": "c"}),
    ]


def test_links_made_together_are_marked_too(shop: Shop, lan: Json, engine: Engine) -> None:
    items = [bound(shop, lan, url="https://shop.example/p/1", channel=word) for word in ("web", "No word", "zalo")]

    results = shop.post("/v1/links/bulk", {"items": items}).json()["results"]

    assert [one["status"] for one in results] == [201, 422, 201]
    link = shop.get(f"/v1/links/{results[2]['id']}").json()
    assert labels(engine, link) == (Label(moment(link["created_at"]), None, "zalo"),)


def test_a_koc_marks_its_own_links_when_it_makes_them(shop: Shop, lan: Json, engine: Engine) -> None:
    asked = {"program_id": shop.program["id"], "url": "https://shop.example/p/1", "content_type": "live"}

    link = shop.post("/v1/links", asked, by=lan["id"]).json()

    assert [one.content_type for one in labels(engine, link)] == [ContentType.LIVE]


# Pauses.


def test_a_programme_pauses_and_runs_again(shop: Shop, lan: Json, engine: Engine) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    never = shop.get(path).json()["running"]
    stop_at, run_at = later(shop, hours=1), later(shop, hours=2)

    stopped = shop.post(f"{path}/pause", {"effect": "stop", "reason_code": "budget_spent", "valid_from": stop_at})
    resumed = shop.post(f"{path}/resume", {"valid_from": run_at})

    assert (never["effect"], never["now"], never["coming"]) == ("none", None, [])
    assert stopped.status_code == resumed.status_code == 201
    running = shop.get(path).json()["running"]
    assert running == resumed.json()
    assert (running["effect"], [one["effect"] for one in running["coming"]]) == ("none", ["stop", "none"])
    shop.advance(minutes=90)
    running = shop.get("/v1/programs").json()["data"][0]["running"]
    assert (running["effect"], running["now"]["reason_code"]) == ("stop", "budget_spent")
    assert [one["effect"] for one in running["coming"]] == ["none"]
    shop.a_coupon(lan, "LAN")
    with read_session(engine) as session:
        [row] = fetch(session, "SELECT merchant_id FROM coupon")
        touch = Touch(TouchKind.COUPON, "lan")
        facts = OrderFacts.of(
            [order_fact(OrderSnapshot(shop.now(), "USD", (), touches=(touch,)), version_at=shop.now())]
        )
        found = stored_inputs.load(session, {(row.merchant_id, UUID(int=1)): facts})[row.merchant_id]
    assert found.pauses == {
        ids.decode("prg", shop.program["id"]): (
            Pause(moment(stop_at), PauseEffect.STOP),
            Pause(moment(run_at), PauseEffect.NONE),
        )
    }


def test_a_pause_is_five_minutes_ahead_at_least_even_before_the_first_order(shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    asked = {"effect": "review", "reason_code": "odd_orders"}

    early = shop.post(f"{path}/pause", {**asked, "valid_from": later(shop, minutes=4)})
    before = shop.now()
    left_out = shop.post(f"{path}/pause", asked)

    assert (early.status_code, early.json()["code"]) == (409, "back-dated")
    [coming] = left_out.json()["coming"]
    assert FIVE_MINUTES <= moment(coming["valid_from"]) - before < 2 * FIVE_MINUTES


def test_a_pause_that_says_nothing_new_or_comes_too_early_is_refused(client: TestClient, shop: Shop) -> None:
    path = f"/v1/programs/{shop.program['id']}"
    asked = {"effect": "stop", "reason_code": "budget_spent"}

    running = shop.post(f"{path}/resume")
    shop.post(f"{path}/pause", {**asked, "valid_from": later(shop, days=2)})
    twice = shop.post(f"{path}/pause", {**asked, "valid_from": later(shop, days=3)})
    between = shop.post(f"{path}/resume", {"valid_from": later(shop, days=1)})
    running_again = shop.post(f"{path}/pause", {**asked, "effect": "none"})
    elsewhere = Shop(client).post(f"{path}/pause", asked)

    assert [one.json()["code"] for one in (running, twice)] == ["pause-unchanged"] * 2
    assert between.json()["code"] == "start-before-last-change"
    assert running_again.status_code == 422
    assert elsewhere.status_code == 404
