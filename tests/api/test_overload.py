"""More than can be served: refused at once or soon, with the time to come back, and never at the visitor's cost."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import fetch, read_session
from tests.support.races import together
from tests.support.shop import Shop


def service_of(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application


def number_of(client: TestClient, table: str) -> int:
    with read_session(service_of(client).engine) as session:
        return int(fetch(session, f"SELECT count(*) AS number FROM {table}")[0].number)


class Gate:
    """Stands before a batcher's work and lets nothing through until it is opened."""

    def __init__(self, batcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._batcher = batcher
        self._opened = threading.Event()
        self._entered = threading.Event()
        work: Callable[[Sequence[Any]], Sequence[Any]] = batcher._work

        def held(items: Sequence[Any]) -> Sequence[Any]:
            self._entered.set()
            assert self._opened.wait(60)
            return work(items)

        monkeypatch.setattr(batcher, "_work", held)

    def wait_until_full(self) -> None:
        assert self._entered.wait(60)
        full = threading.Event()
        while not self._batcher.full:
            full.wait(0.005)

    def open(self) -> None:
        self._opened.set()


def test_webhooks_beyond_what_may_wait_are_refused_before_anything_is_read_of_them(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver(shop.order("first"))
    orders = service_of(client).orders
    monkeypatch.setattr(orders, "_queue_max", 8)
    gate = Gate(orders, monkeypatch)
    events = [shop.order(f"order-{number}") for number in range(8)]

    def refused_meanwhile() -> list[Any]:
        gate.wait_until_full()
        # Not even the signature is looked at.
        refused = [shop.deliver(shop.order("late"), signed=signed) for signed in (True, False, True)]
        gate.open()
        return refused

    *accepted, refused = together(*[partial(shop.deliver, event) for event in events], refused_meanwhile)

    assert [answer.status_code for answer in accepted] == [200] * 8
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "queue-full")] * 3
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert number_of(client, "orders") == 1 + 8
    assert 'koc_http_requests_total{operation="receive_webhook",status="5xx"}' in client.get("/metrics").text
    assert shop.deliver(shop.order("late")).json()["state"] == "applied"


def test_requests_that_find_no_place_at_the_door_are_told_when_to_come_back(shop: Shop, client: TestClient) -> None:
    headers = shop.key_of("admin")
    places = service_of(client).admission._places
    taken = threading.Event()
    let_go = threading.Event()

    async def hold_all() -> None:
        for _ in range(4):
            await places.acquire()
        taken.set()
        while not let_go.is_set():  # noqa: ASYNC110 - set by another thread, which knows no event of this loop
            await asyncio.sleep(0.01)
        for _ in range(4):
            places.release()

    assert client.portal is not None
    holding = client.portal.start_task_soon(hold_all)
    assert taken.wait(30)
    try:
        refused = together(
            *[partial(client.get, "/v1/merchant", headers=headers)] * 12,
            *[partial(client.post, "/v1/affiliates", json={"name": "Lan"}, headers=headers)] * 4,
        )
        # Webhooks and visitors have a way of their own.
        assert client.get("/healthz").status_code == 200
    finally:
        let_go.set()
        holding.result(30)

    assert Counter(answer.status_code for answer in refused) == {503: 16}
    assert {answer.json()["code"] for answer in refused} == {"database-busy"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert number_of(client, "affiliate") == 0
    assert client.get("/v1/merchant", headers=headers).status_code == 200


def test_visitors_beyond_the_clicks_that_may_wait_are_sent_on_with_good_click_ids(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = shop.a_link(shop.an_affiliate())
    assert shop.click(link)
    clicks = service_of(client).clicks
    monkeypatch.setattr(clicks, "_queue_max", 1)
    gate = Gate(clicks, monkeypatch)

    def sent_on_meanwhile() -> list[str]:
        gate.wait_until_full()
        sent_on = [shop.click(link) for _ in range(20)]
        gate.open()
        return sent_on

    waited, sent_on = together(partial(shop.click, link), sent_on_meanwhile)

    assert len({waited, *sent_on}) == 21
    order = shop.order("by-click", click_ids=[sent_on[-1]])
    assert shop.deliver(order).json()["state"] == "applied"
    assert number_of(client, "commission") == 1
