"""What every answer says of itself: version, test or live, deprecation. And that test and live never meet."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.testclient import TestClient

from service.api import conventions, problems
from service.api.deps import Service
from service.api.versions import VERSION, Deprecated
from service.domain.errors import Conflict
from service.infra.db import execute, unit_of_work
from service.infra.ids import decode
from tests.support.shop import Shop

LEAVING = Deprecated(
    since=datetime(2026, 12, 1, tzinfo=UTC), sunset=datetime(2027, 6, 1, tzinfo=UTC), link="/docs/moving"
)


@pytest.fixture
def old_routes() -> Iterator[TestClient]:
    """Yield a client of an application whose one route is going away."""
    router = APIRouter()

    @router.get("/v1/old", dependencies=[Depends(LEAVING)])
    async def old(fail: bool = False) -> dict[str, str]:
        if fail:
            raise Conflict("No.")
        return {"still": "here"}

    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    problems.install(app)
    conventions.honour([router])
    # As every further application of one process does.
    conventions.honour([router])
    app.include_router(router)
    with TestClient(app) as client:
        yield client


def test_every_answer_tells_its_version_and_a_caller_may_ask_for_it(shop: Shop) -> None:
    headers = shop.key_of("read")

    plain = shop.client.get("/v1/merchant", headers=headers)
    pinned = shop.client.get("/v1/merchant", headers={**headers, "KOC-Version": VERSION})
    refused = shop.client.get("/v1/merchant", headers={**headers, "KOC-Version": "2999-01-01"})
    unknown = shop.client.get("/v1/merchant")

    assert [each.status_code for each in (plain, pinned, refused, unknown)] == [200, 200, 422, 401]
    assert [each.headers.get_list("koc-version") for each in (plain, pinned, refused, unknown)] == [[VERSION]] * 4
    assert refused.json()["code"] == "unknown-version"


def test_an_answer_tells_whether_it_is_about_a_test_merchant(shop: Shop, client: TestClient) -> None:
    live = Shop(client, is_test=False)

    assert shop.get("/v1/merchant").headers.get_list("koc-mode") == ["test"]
    assert live.get("/v1/merchant").headers.get_list("koc-mode") == ["live"]
    assert live.get("/v1/affiliates/aff_01h455vb4pex5vsknk084sn02q").headers.get_list("koc-mode") == ["live"]
    assert "koc-mode" not in shop.get("/v1/merchants", by="operator").headers
    assert [each["id"] for each in shop.get("/v1/merchants", by="operator", is_test=False).json()["data"]] == [live.id]


def test_keys_say_which_they_are_for_and_never_open_the_other(shop: Shop, client: TestClient) -> None:
    live = Shop(client, is_test=False)
    test_key, live_key = shop.key_of("read")["Authorization"], live.key_of("read")["Authorization"]
    assert test_key.startswith("Bearer koc_test_")
    assert live_key.startswith("Bearer koc_live_")
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application

    # Whatever made a test merchant live, its test keys do not follow; nor the other way round.
    with unit_of_work(service.engine) as session:
        for merchant, is_test in ((shop, False), (live, True)):
            asked = {"is_test": is_test, "id": decode("mer", merchant.id)}
            execute(session, "UPDATE merchant SET is_test = :is_test, clock_offset_s = 0 WHERE id = :id", asked)

    for key in (test_key, live_key):
        answer = client.get("/v1/merchant", headers={"Authorization": key})
        assert (answer.status_code, answer.json()["code"]) == (401, "unknown-key")


def test_neither_a_test_merchant_nor_a_live_one_uses_the_rails_of_the_other(shop: Shop, client: TestClient) -> None:
    live = Shop(client, is_test=False)
    answers = []
    for each, rail, account in ((live, "sandbox", "sandbox_ok"), (shop, "stripe_connect", "acct_12345678")):
        affiliate = each.post("/v1/affiliates", {"name": "Lan"}).json()
        path = f"/v1/affiliates/{affiliate['id']}/payout-methods"
        answers.append(each.post(path, {"rail": rail, "destination": account}))
        answers.append(each.post("/v1/payout-runs", {"rail": rail, "currency": "USD"}, by="finance-maker"))

    assert [answer.is_error for answer in answers] == [True] * 4
    assert {answer.json()["code"] for answer in answers} == {"payout-rail-not-available"}


def test_a_merchant_sees_nothing_of_another_whatever_the_kind(shop: Shop, client: TestClient) -> None:
    live = Shop(client, is_test=False)
    affiliate = live.post("/v1/affiliates", {"name": "Lan"}).json()

    assert shop.get(f"/v1/affiliates/{affiliate['id']}").status_code == 404
    assert shop.get("/v1/affiliates").json()["data"] == []


@pytest.mark.parametrize("fail", [False, True])
def test_an_operation_that_goes_away_says_so_in_every_answer(old_routes: TestClient, fail: bool) -> None:
    answer = old_routes.get("/v1/old", params={"fail": fail})

    assert answer.status_code == (409 if fail else 200)
    assert answer.headers.get_list("deprecation") == ["@1796083200"]
    assert answer.headers.get_list("sunset") == ["Tue, 01 Jun 2027 00:00:00 GMT"]
    assert answer.headers.get_list("link") == ['</docs/moving>; rel="deprecation"']


def test_the_description_of_the_api_says_so_too(old_routes: TestClient) -> None:
    assert old_routes.get("/openapi.json").json()["paths"]["/v1/old"]["get"]["deprecated"] is True
