"""Simulations over HTTP: asked for, watched, read, sent a file, deleted."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api import simulations
from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Shop

Json = dict[str, Any]

FIVE: Json = {"rules": [{"kind": "percent", "rate": "5"}]}
BY_CATEGORY: Json = {
    "rules": [{"kind": "percent", "rate": "20", "match": {"categories": ["tea"]}}, {"kind": "percent", "rate": "5"}]
}
MAPPING: Json = {
    "order": {
        "id": "id",
        "updated_at": "at",
        "placed_at": "at",
        "currency": {"value": "USD"},
        "coupon_codes": "code",
    },
    "line": {"net": "net"},
}
FILE = "id,at,code,net\nf-1,{at},LAN,30.00\nf-2,{at},MAI,50.00\nf-3,{at},,70.00\n"


@pytest.fixture
def shop(client: TestClient) -> Shop:
    """Two KOCs with a coupon each: Lan sold tea, Mai cups."""
    shop = Shop(client)
    for name in ("Lan", "Mai"):
        shop.a_coupon(shop.an_affiliate(name), name.upper())
    for number, (code, category) in enumerate((("LAN", "tea"), ("LAN", "tea"), ("MAI", "cups")), start=1):
        line = {"id": "1", "sku": "s", "quantity": 1, "net": "100.00", "category": category}
        shop.an_order(f"o-{number}", coupon_codes=[code], lines=[line], placed_at=shop.time(days=number))
    return shop


def worked(shop: Shop) -> None:
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def asked(shop: Shop, terms: Json = FIVE, *, by: str = "admin", **more: Any) -> Any:
    return shop.post(f"/v1/programs/{shop.program['id']}/simulate", {"terms": terms, **more}, by=by)


def done(shop: Shop, terms: Json = FIVE, **more: Any) -> Json:
    """A simulation that the worker has done."""
    made = asked(shop, terms, **more)
    assert made.status_code == 202, made.text
    worked(shop)
    found: Json = shop.get(f"/v1/simulations/{made.json()['id']}").json()
    assert found["state"] == "done", found
    return found


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


def results(shop: Shop, simulation: Json, **query: Any) -> list[Json]:
    answer = shop.get(f"/v1/simulations/{simulation['id']}/results", **query)
    assert answer.status_code == 200, answer.text
    data: list[Json] = answer.json()["data"]
    return data


def test_a_draft_is_tried_on_the_last_ninety_days(shop: Shop) -> None:
    made = asked(shop).json()

    assert (made["state"], made["totals"], made["file"]) == ("queued", [], None)
    assert made["progress"] == {"stage": "orders", "orders_done": 0, "orders_total": None}
    span = datetime.fromisoformat(made["placed_before"]) - datetime.fromisoformat(made["placed_from"])
    assert span == timedelta(days=90)
    worked(shop)
    found = shop.get(f"/v1/simulations/{made['id']}").json()
    assert found["state"] == "done"
    assert found["progress"] == {"stage": "periods", "orders_done": 3, "orders_total": 3}
    assert found["totals"] == [
        {"now": usd(3_000), "then": usd(1_500), "difference": usd(-1_500), "now_orders": 3, "then_orders": 3}
    ]
    assert found["started_at"] <= found["finished_at"]
    assert found["terms"]["rules"][0]["rate"] == "5"


def test_winners_and_losers_by_affiliate_category_and_day(shop: Shop) -> None:
    simulation = done(shop, BY_CATEGORY)

    [winner] = results(shop, simulation, order="winners")
    [loser] = results(shop, simulation, order="losers")
    tea = {each["key"]: each for each in results(shop, simulation, dimension="category")}["tea"]
    days = results(shop, simulation, dimension="day")

    assert (winner["name"], winner["kind"], winner["difference"]) == ("Lan", "koc", usd(2_000))
    assert winner["key"].startswith("aff_")
    assert (loser["name"], loser["now"], loser["then"]) == ("Mai", usd(1_000), usd(500))
    assert (tea["difference"], tea["then_orders"], tea["name"]) == (usd(2_000), 2, None)
    assert [each["key"] for each in days] == [shop.time(days=number)[:10] for number in (3, 2, 1)]


def test_results_come_in_pages_and_of_one_currency(shop: Shop) -> None:
    simulation = done(shop)
    path = f"/v1/simulations/{simulation['id']}/results"

    first = shop.get(path, limit=1).json()
    second = shop.get(path, limit=1, cursor=first["next_cursor"]).json()

    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert {first["data"][0]["name"], second["data"][0]["name"]} == {"Lan", "Mai"}
    assert results(shop, simulation, currency="EUR") == []


def test_results_are_shown_once_they_are_whole(shop: Shop) -> None:
    made = asked(shop).json()

    answer = shop.get(f"/v1/simulations/{made['id']}/results")

    assert (answer.status_code, answer.json()["code"]) == (409, "simulation-unfinished")


def test_a_simulation_changes_nothing_that_is_earned(shop: Shop) -> None:
    paths = ("/v1/commissions", "/v1/balances", "/v1/events", "/v1/ledger/postings", "/v1/orders", "/v1/inbox")
    before = [shop.get(path).json() for path in paths]

    done(shop, BY_CATEGORY)

    assert [shop.get(path).json() for path in paths] == before


@pytest.mark.parametrize(
    ("more", "orders"),
    [
        pytest.param({"days": 2}, 1, id="so many days"),
        pytest.param({"currency": "EUR"}, 0, id="another currency"),
    ],
)
def test_only_some_orders_are_tried(shop: Shop, more: Json, orders: int) -> None:
    assert done(shop, **more)["progress"]["orders_total"] == orders


def test_only_orders_of_some_days_are_tried(shop: Shop) -> None:
    found = done(shop, placed_from=shop.time(days=2, hours=1), placed_before=shop.time(days=1, hours=1))

    assert found["progress"]["orders_total"] == 1


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"days": 401}, "invalid-request", id="too many days"),
        pytest.param({"days": 1, "placed_from": "2026-01-01T00:00:00Z"}, "invalid-request", id="days and a start"),
        pytest.param(
            {"placed_from": "2026-02-01T00:00:00Z", "placed_before": "2026-01-01T00:00:00Z"},
            "invalid-request",
            id="an end before the start",
        ),
        pytest.param({"placed_from": "2020-01-01T00:00:00Z"}, "invalid-request", id="years"),
        pytest.param({"file": {"mapping": MAPPING}, "days": 3}, "invalid-request", id="days of a file"),
        pytest.param({"file": {"mapping": {"order": {}}}}, "invalid-mapping", id="a mapping that is none"),
        pytest.param({"terms": {"rules": []}}, "invalid-request", id="no rules"),
        pytest.param(
            {"terms": {"rules": [{"kind": "percent", "rate": "150"}]}}, "invalid-terms", id="terms that are none"
        ),
        pytest.param({"currency": "XXQ"}, "invalid-request", id="no currency"),
    ],
)
def test_what_makes_no_sense_is_refused(shop: Shop, more: Json, code: str) -> None:
    answer = asked(shop, **more)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert shop.get("/v1/simulations").json()["data"] == []


def test_only_so_many_are_under_way_at_once(shop: Shop) -> None:
    made = [asked(shop).json() for _ in range(simulations.OPEN_MAX)]

    refused = asked(shop)
    deleted = shop.client.delete(f"/v1/simulations/{made[0]['id']}", headers=shop.key_of("admin"))
    again = asked(shop)

    assert (refused.status_code, refused.json()["code"]) == (409, "too-many-simulations")
    assert (deleted.status_code, again.status_code) == (204, 202)


def test_a_simulation_can_be_deleted_before_and_after_it_is_done(shop: Shop) -> None:
    waiting, finished = asked(shop).json(), done(shop)
    headers = shop.key_of("admin")

    gone = [shop.client.delete(f"/v1/simulations/{each['id']}", headers=headers) for each in (waiting, finished)]
    worked(shop)

    assert [each.status_code for each in gone] == [204, 204]
    assert [shop.get(f"/v1/simulations/{each['id']}").status_code for each in (waiting, finished)] == [404, 404]
    assert shop.get("/v1/simulations").json()["data"] == []
    [noted, _] = shop.get("/v1/audit", operation="delete_simulation").json()["data"]
    assert noted["subject"] == finished["id"]


def test_simulations_are_listed_newest_first(shop: Shop) -> None:
    first, second = done(shop), asked(shop).json()

    def listed(**query: Any) -> list[str]:
        return [each["id"] for each in shop.get("/v1/simulations", **query).json()["data"]]

    assert listed() == [second["id"], first["id"]]
    assert listed(state="done") == [first["id"]]
    assert listed(program_id=shop.a_program(valid_from=shop.now() + timedelta(days=1))["id"]) == []
    assert shop.get("/v1/simulations").json()["data"][1]["totals"] == first["totals"]


def test_finance_may_try_terms_and_a_reader_may_only_look(shop: Shop) -> None:
    by_finance, by_reader = asked(shop, by="finance-maker"), asked(shop, by="read")

    assert (by_finance.status_code, by_reader.status_code) == (202, 403)
    assert shop.get(f"/v1/simulations/{by_finance.json()['id']}", by="read").status_code == 200


# Of a file.


def sent(shop: Shop, simulation: Json, content: str, *, by: str = "admin", **query: Any) -> Any:
    return shop.client.post(
        f"/v1/simulations/{simulation['id']}/file",
        content=content.encode(),
        params=query,
        headers={**shop.key_of(by), "content-type": "text/csv"},
    )


def a_file(shop: Shop) -> str:
    return FILE.format(at=shop.time(days=4))


def test_orders_of_a_file_are_tried_and_kept_nowhere(shop: Shop) -> None:
    made = asked(shop, file={"mapping": MAPPING}).json()
    orders, inbox = shop.get("/v1/orders").json(), shop.get("/v1/inbox").json()

    answer = sent(shop, made, a_file(shop))
    worked(shop)

    found = shop.get(f"/v1/simulations/{made['id']}").json()
    assert (made["state"], answer.status_code, answer.json()["state"], found["state"]) == (
        "awaiting_file",
        202,
        "queued",
        "done",
    )
    assert found["file"] == {"rows_refused": 0, "refusals": []}
    assert (found["placed_from"], found["progress"]["orders_total"]) == (None, 3)
    assert [(each["name"], each["then"]) for each in results(shop, found, order="losers")] == [
        ("Mai", usd(250)),
        ("Lan", usd(150)),
    ]
    assert (shop.get("/v1/orders").json(), shop.get("/v1/inbox").json()) == (orders, inbox)


def test_a_file_may_come_in_parts_of_any_size(shop: Shop) -> None:
    made = asked(shop, file={"mapping": MAPPING}).json()
    content = a_file(shop)

    sent(shop, made, "not this", part=1, last="false")
    sent(shop, made, content[:37], part=1, last="false")
    gap = sent(shop, made, content[37:], part=3)
    sent(shop, made, content[37:60], part=2, last="false")
    whole = sent(shop, made, content[60:], part=3)
    worked(shop)

    assert (gap.status_code, gap.json()["code"]) == (422, "invalid-request")
    assert whole.status_code == 202
    assert shop.get(f"/v1/simulations/{made['id']}").json()["progress"]["orders_total"] == 3


def test_a_file_is_sent_only_where_one_is_awaited_and_once(shop: Shop) -> None:
    stored, of_file = asked(shop).json(), asked(shop, file={"mapping": MAPPING}).json()
    sent(shop, of_file, a_file(shop))

    answers = [sent(shop, each, a_file(shop)) for each in (stored, of_file)]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(409, "simulation-awaits-no-file")] * 2


def test_a_file_has_an_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulations, "FILE_BYTES_MAX", 100)
    made = asked(shop, file={"mapping": MAPPING}).json()

    sent(shop, made, "x" * 60, last="false")
    answer = sent(shop, made, "x" * 60, part=2)

    assert (answer.status_code, answer.json()["code"]) == (413, "simulation-file-too-large")


def test_what_is_wrong_with_a_file_is_told(shop: Shop) -> None:
    strange, partly = (asked(shop, file={"mapping": MAPPING}).json() for _ in range(2))

    sent(shop, strange, "number\n1\n")
    sent(shop, partly, a_file(shop) + "f-4,yesterday,LAN,1.00\n")
    worked(shop)

    failed, done_ = (shop.get(f"/v1/simulations/{each['id']}").json() for each in (strange, partly))
    assert (failed["state"], failed["error_code"]) == ("failed", "invalid-mapping")
    assert "has no column" in failed["error_detail"]
    assert (done_["state"], done_["file"]["rows_refused"]) == ("done", 1)
    [refusal] = done_["file"]["refusals"]
    assert (refusal["row"], refusal["reason_code"]) == (5, "invalid_date")


def test_a_file_sent_twice_under_one_key_counts_once(shop: Shop) -> None:
    made = asked(shop, file={"mapping": MAPPING}).json()
    headers = {**shop.key_of("admin"), "content-type": "text/csv", "idempotency-key": "once"}
    content = a_file(shop).encode()

    answers = [
        shop.client.post(f"/v1/simulations/{made['id']}/file", content=content, headers=headers) for _ in range(2)
    ]

    assert [each.status_code for each in answers] == [202, 202]
    assert answers[1].headers["idempotency-replayed"] == "true"
