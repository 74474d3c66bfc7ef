"""Liveness, readiness, counting, and the pages that describe the API."""

from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import execute, unit_of_work
from service.infra.security import new_api_key
from service.infra.settings import Settings, SettingsError
from service.main import create_app
from tests.support.shop import SECRET_KEY, Shop

STATIC = Path(__file__).parents[2] / "service" / "api" / "static"


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    return service


def test_a_started_service_is_alive_and_ready(client: TestClient) -> None:
    alive, ready = client.get("/healthz"), client.get("/readyz")

    assert alive.json() == {"status": "ok"}
    assert ready.json()["status"] == "ready"


def test_it_is_not_ready_before_the_tables_are_those_of_the_release(client: TestClient, engine: Engine) -> None:
    newest = client.get("/readyz").json()["revision"]
    with unit_of_work(engine) as session:
        execute(session, "UPDATE alembic_version SET version_num = 'older'")
    try:
        answer = client.get("/readyz")
    finally:
        with unit_of_work(engine) as session:
            execute(session, "UPDATE alembic_version SET version_num = :newest", {"newest": newest})

    assert answer.status_code == 503
    assert answer.json()["code"] == "not-ready"
    assert answer.headers["retry-after"] == "5"


def test_it_is_not_ready_with_a_writer_that_stopped(client: TestClient) -> None:
    service_of(client).orders.stop()

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "orders" in answer.json()["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_service_without_a_database_address_does_not_start() -> None:
    client = TestClient(create_app(Settings(secret_key=SECRET_KEY)))

    with pytest.raises(SettingsError, match="DATABASE_URL"), client:
        pass


def test_with_the_database_away_it_lives_and_says_when_to_come_back() -> None:
    nowhere = Settings(secret_key=SECRET_KEY, database_url="postgresql://koc@127.0.0.1:1/koc")
    headers = {"Authorization": f"Bearer {new_api_key(is_test=True)}"}

    with TestClient(create_app(nowhere)) as client:
        alive, ready, asked = client.get("/healthz"), client.get("/readyz"), client.get("/v1/merchant", headers=headers)

    assert alive.status_code == 200
    assert (ready.status_code, asked.status_code) == (503, 503)
    assert asked.json()["code"] == "database-away"
    assert asked.headers["retry-after"] == "1"


def test_requests_are_counted_by_operation_and_never_by_path(shop: Shop) -> None:
    shop.get(f"/v1/affiliates/{'aff_' + '0' * 26}")
    shop.client.get("/no/such/path")

    text = shop.client.get("/metrics").text

    assert 'koc_http_requests_total{operation="get_affiliate",status="4xx"}' in text
    assert 'koc_http_requests_total{operation="none",status="4xx"}' in text
    assert "aff_0" not in text
    assert "no/such" not in text


def test_the_documentation_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text

    assert "https://" not in page
    assert "http://" not in page
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
        assert f"/static/swagger-ui/{file}" in page
        assert client.get(f"/static/swagger-ui/{file}").content == (STATIC / "swagger-ui" / file).read_bytes()
    assert (STATIC / "swagger-ui" / "LICENSE").exists()


def test_every_operation_says_whether_it_needs_a_key(client: TestClient) -> None:
    described = client.get("/openapi.json").json()

    open_to_all = {
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
        if operation["security"] == []
    }
    assert open_to_all == {
        "get_health",
        "get_readiness",
        "get_metrics",
        "list_problem_kinds",
        "get_problem_kind",
        "receive_webhook",
        "receive_stripe_event",
        "answer_challenge",
        "follow_link",
        "get_browser_script",
        "get_llms_txt",
    }
    assert described["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert all(
        one["get"]["responses"]["4XX"] == {"$ref": "#/components/responses/Refused"}
        for one in described["paths"].values()
        if "get" in one
    )
    assert "application/problem+json" in described["components"]["responses"]["Refused"]["content"]
