"""The review of a payout run, over HTTP and on the command line."""

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.infra import ids
from tests.api.test_cli import environment, koc
from tests.api.test_payout_runs import a_run, settled, shop, verb, work
from tests.api.test_tax import declared, profiled, vnd
from tests.support.shop import Json, Shop

__all__ = ["shop"]


@pytest.fixture
def run(shop: Shop, client: TestClient) -> Json:
    """Lan and Mai were paid 20.00 each; now Lan earned 60.00 more, and Chi 20.00 for the first time."""
    people = {name: shop.an_affiliate(name) for name in ("Lan", "Mai", "Chi")}
    codes = {name: shop.a_coupon(each)["code"] for name, each in people.items()}

    def sell(name: str, times: int, days: int = 0) -> None:
        for number in range(times):
            shop.an_order(f"{name}-{days}-{number}", coupon_codes=[codes[name]])

    for name in people:
        sell(name, 2)
    settled(shop)
    before = a_run(shop, affiliate_ids=[people["Lan"]["id"], people["Mai"]["id"]])
    verb(shop, before, "submit", by="finance-maker ann")
    verb(shop, before, "approve", by="finance-checker bob")
    verb(shop, before, "execute", by="finance-maker ann")
    work(client)
    sell("Lan", 6, days=15)
    settled(shop)
    made = a_run(shop)
    assert len(made["payouts"]) == 2
    return made


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


def test_a_checker_sees_what_to_look_at(shop: Shop, run: Json) -> None:
    submitted = verb(shop, run, "submit", by="finance-maker ann")

    told = shop.get(f"/v1/payout-runs/{run['id']}/review", by="finance-checker bob").json()

    assert (told["status"], told["content_hash"]) == ("submitted", submitted["content_hash"])
    assert (told["totals"]["payees"], told["totals"]["net"]) == (2, usd(8000))
    assert [(each["affiliate_name"], each["net"], each["share_percent"]) for each in told["top"]] == [
        ("Lan", usd(6000), "75.0"),
        ("Chi", usd(2000), "25.0"),
    ]
    [unusual] = told["unusual"]["payouts"]
    assert (unusual["affiliate_name"], unusual["reason_code"], unusual["earlier_median"]) == (
        "Lan",
        "above_earlier",
        usd(2000),
    )
    assert told["unusual"]["rule"] == {"times": 3, "earlier_max": 12, "first_times": 5}
    changes = told["changes"]
    assert (changes["earlier"]["net"], changes["earlier"]["change_percent"]) == (usd(4000), "+100.0")
    assert [each["affiliate_name"] for each in changes["new"]["payouts"]] == ["Chi"]
    assert [each["affiliate_name"] for each in changes["gone"]["payouts"]] == ["Mai"]
    assert {"unusual_amounts", "first_payouts", "sum_jumped"} <= set(told["cautions"])
    for series in told["chart"]:
        assert len(series["labels"]) == len(series["values"])
    [runs] = [series for series in told["chart"] if series["name"] == "runs"]
    assert (runs["unit"], runs["values"]) == ("minor", [4000, 8000])


def test_a_checker_sees_whose_tax_the_shop_owes_and_who_waits_for_somebody(shop: Shop) -> None:
    declared(shop, mode="warn")
    lan, mai = shop.an_affiliate("Lan"), shop.an_affiliate("Mai")
    profiled(shop, lan["id"])
    profiled(shop, mai["id"], details={})
    for code in [shop.a_coupon(each)["code"] for each in (lan, mai)]:
        lines = [{"id": "1", "sku": "sku-1", "quantity": 1, "net": "60000000"}]
        shop.an_order(f"of {code}", currency="VND", coupon_codes=[code], lines=lines)
    settled(shop)
    run = a_run(shop, currency="VND")

    told = shop.get(f"/v1/payout-runs/{run['id']}/review", by="finance-checker bob").json()

    for totals in (told["totals"], run["totals"]):
        assert (totals["tax"], totals["tax_borne"], totals["net"]) == (vnd(0), vnd(600_000), vnd(6_000_000))
    owed = told["tax_cautions"]["owed_by_merchant"]
    [payout] = owed["payouts"]
    assert (owed["payees"], owed["net"], payout["affiliate_name"]) == (1, vnd(6_000_000), "Lan")
    shown = shop.get(f"/v1/payouts/{payout['payout_id']}").json()
    assert (shown["tax_cautions"], shown["tax_borne"]) == (["owed_by_merchant"], vnd(600_000))
    assert told["tax_cautions"]["possible_splitting"]["payouts"] == []
    assert [(each["reason_code"], each["needs_somebody"]) for each in told["excluded"]] == [
        ("tax_details_missing", True)
    ]
    assert {"owed_by_merchant", "left_out"} <= set(told["cautions"])


def test_another_merchants_run_is_as_good_as_missing(shop: Shop, client: TestClient, run: Json) -> None:
    answer = Shop(client).get(f"/v1/payout-runs/{run['id']}/review")

    assert (answer.status_code, answer.json()["code"]) == (404, "payout-run-not-found")


def test_the_command_prints_it_with_bars(shop: Shop, run: Json, database_url: str) -> None:
    answer = koc("review", run["id"], "--top", "1", env=environment(database_url) | {"COLUMNS": "140"})

    assert answer.returncode == 0, answer.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in answer.stdout.splitlines()]
    assert f"Payout run {run['id']}: draft, sandbox, USD, to leave on {run['pay_on']}" in lines
    assert "2 80.00 0.00 0.00 0.00 80.00 0.00 20.00 20.00 60.00" in lines
    assert any(line.startswith("Lan 60.00 █") for line in lines)
    assert not any(line.startswith("Chi 20.00 █") for line in lines)
    assert "Lan 60.00 20.00 above_earlier" in lines
    assert any(line.startswith("last run") and "+100.0 % since" in line for line in lines)
    assert lines[-1].startswith("Worth a look: unusual_amounts")


@pytest.mark.parametrize(
    ("run_id", "told"),
    [
        pytest.param("run_x", "RUN_ID is the id of a payout run", id="no id"),
        pytest.param(ids.encode("run", ids.new_id()), "There is no payout run", id="nobody's"),
    ],
)
def test_a_run_that_is_not_there_is_told(engine: Engine, database_url: str, run_id: str, told: str) -> None:
    answer = koc("review", run_id, env=environment(database_url))

    assert (answer.returncode, answer.stdout) == (2, "")
    assert told in answer.stderr
