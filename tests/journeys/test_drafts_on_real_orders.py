"""A share of `make prove WHAT=simulate`: the first of a real shop's orders, a draft with a ladder, sums made by another way."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from bench import books, retail
from bench.drafts import LADDER, LOWER, STEPS, bonus
from service.api.deps import Service
from service.worker import run_once
from tests.support.served import client, settings
from tests.support.shop import Shop

__all__ = ["client", "settings"]

EVENTS = 180
"""Fewer than a page holds."""

Json = dict[str, Any]


@pytest.fixture
def shop(client: TestClient) -> Shop:
    story = retail.story(now=datetime.now(UTC))
    shop = Shop(client, opened=datetime.now(UTC) - story.begins_at + timedelta(days=1))
    program = shop.a_program(**books.TERMS)
    for number in range(retail.KOCS):
        shop.a_coupon(shop.an_affiliate(f"KOC {number}", program=program), retail.code_of(number), program=program)
    for happening in story.happenings[:EVENTS]:
        assert shop.deliver(happening.event.body, delivery_id=happening.event.id).status_code == 200
    return shop


def tried(shop: Shop, *drafts: Json) -> list[dict[str, tuple[int, int]]]:
    """Now and then by KOC, of each draft."""
    program = shop.get("/v1/programs").json()["data"][0]["id"]
    asked = [shop.post(f"/v1/programs/{program}/simulate", {"terms": draft, "days": 400}).json() for draft in drafts]
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)
    found = []
    for each in asked:
        results = shop.get(f"/v1/simulations/{each['id']}/results", limit=200).json()["data"]
        found.append({row["key"]: (row["now"]["amount_minor"], row["then"]["amount_minor"]) for row in results})
    return found


def test_drafts_cost_what_another_calculation_says(shop: Shop) -> None:
    present, lower, ladder = tried(shop, books.TERMS, LOWER, LADDER)

    earned: dict[str, int] = defaultdict(int)
    for commission in shop.get("/v1/commissions", limit=200).json()["data"]:
        earned[commission["affiliate_id"]] += commission["target"]["amount_minor"]
    sales: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for order in shop.get("/v1/orders", limit=200).json()["data"]:
        if order["affiliate_id"] is not None:
            sales[order["affiliate_id"]][order["placed_at"][:7]] += order["net"]["amount_minor"]
    assert present == {koc: (minor, minor) for koc, minor in earned.items() if minor}
    added = {koc: ladder[koc][1] - lower[koc][1] for koc in ladder}
    assert added == {koc: sum(map(bonus, sales[koc].values())) for koc in ladder}
    assert sum(minor > 0 for minor in added.values()) > 3


@pytest.mark.parametrize(
    ("sales", "expected"),
    [(0, 0), (50_000, 0), (50_025, 1), (250_000, 4_000), (260_000, 4_600)],
    ids=["nothing", "at the first step", "a half goes up", "at the second step", "above it"],
)
def test_the_other_calculation_is_right(sales: int, expected: int) -> None:
    assert STEPS == ((50_000, 2), (250_000, 6))
    assert bonus(sales) == expected
