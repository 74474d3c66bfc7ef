"""A request that the database cannot serve is answered 503 with Retry-After, and leaves nothing behind in the pool."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from starlette.testclient import TestClient

from service.api import intake
from service.api.deps import Service
from service.infra.db import DatabaseBusy, unit_of_work
from service.infra.settings import Settings
from service.main import create_app
from tests.support import databases
from tests.support.faults import Proxy, in_use, socket_of, wait_for
from tests.support.shop import Shop


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(socket_of(database_url)) as proxy:
        yield proxy


def test_a_shop_is_not_kept_waiting_by_a_silent_database(
    settings: Settings, database_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PATIENCE_S", 0.5)
    behind = settings.model_copy(update={"database_url": proxy.address(database_url)})
    with TestClient(create_app(behind)) as client:
        shop = Shop(client)
        order = shop.order("1001")
        shop.deliver(shop.order("1000"))
        proxy.fall_silent()

        refused = shop.deliver(order, delivery_id="d-1")
        proxy.speak()
        answer = shop.deliver(order, delivery_id="d-1")

        assert_refused(refused, "database-away")
        assert answer.status_code == 200
        assert [each["external_id"] for each in shop.get("/v1/orders").json()["data"]] == ["1001", "1000"]


def engine_of(client: TestClient) -> Engine:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    return service.engine


def assert_refused(answer: Any, code: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == code
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_request_that_meets_a_time_limit_is_refused_and_the_next_is_served(
    client: TestClient, shop: Shop, database_url: str, limit: str
) -> None:
    order = shop.order("1001")
    shop.deliver(shop.order("1000"))
    engine = engine_of(client)

    def hurry(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL {limit} = '100ms'")

    event.listen(engine, "begin", hurry)
    with contextlib.closing(databases.connect(database_url)) as other, other.transaction():
        other.execute("LOCK TABLE affiliate, inbox")
        refused = [
            shop.get("/v1/affiliates"),
            shop.post("/v1/affiliates", {"name": "Lan"}),
            shop.deliver(order, delivery_id="d-1"),
        ]
    event.remove(engine, "begin", hurry)

    for answer in refused:
        assert_refused(answer, "database-busy")
    assert shop.get("/v1/affiliates").json()["data"] == []
    assert shop.deliver(order, delivery_id="d-1").json()["repeated"] is False
    # The look at the links, once a second, borrows one for a moment.
    wait_for("every connection is given back", lambda: in_use(engine) == 0)


def test_with_all_connections_lent_out_requests_are_refused_and_later_served(
    client: TestClient, shop: Shop, settings: Settings
) -> None:
    order = shop.order("1001")
    shop.deliver(shop.order("1000"))
    engine = engine_of(client)

    def held() -> Any:
        """Take one connection; the look at the links, once a second, may have to give its own back first."""
        while True:
            with contextlib.suppress(DatabaseBusy):
                return lent.enter_context(unit_of_work(engine)).connection()

    with contextlib.ExitStack() as lent:
        for _ in range(settings.db_pool_size):
            held()
        refused = [shop.get("/v1/affiliates"), shop.deliver(order, delivery_id="d-1")]

    for answer in refused:
        assert_refused(answer, "database-busy")
    assert shop.get("/v1/affiliates").status_code == 200
    assert shop.deliver(order, delivery_id="d-1").json()["repeated"] is False
