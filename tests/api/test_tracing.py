"""Traces by the framework's own switch: off unless somebody takes them, joined to request ids, and no place for secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from starlette.testclient import TestClient

from service.infra import logs
from service.infra.settings import Settings
from service.main import TELEMETRY, create_app
from tests.support.shop import Shop

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(settings: Settings, exporter: InMemorySpanExporter) -> Iterator[TestClient]:
    """Yield a client of a service whose spans are kept in memory."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(settings, telemetry={"tracer_provider": provider})
    with TestClient(app) as client:
        yield client
    provider.shutdown()


@pytest.fixture
def json_lines() -> Iterator[io.StringIO]:
    """Write log lines as a server does, into what is yielded, and as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    logs.configure("json")
    [handler] = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    said = io.StringIO()
    handler.setStream(said)
    yield said
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def spans(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return list(exporter.get_finished_spans())


def test_a_request_goes_on_with_its_callers_trace_and_is_found_by_its_id(
    traced: TestClient, exporter: InMemorySpanExporter
) -> None:
    answer = traced.get("/problems/unknown-key", headers={"traceparent": TRACEPARENT})

    [span] = spans(exporter)
    assert span.context is not None
    assert span.parent is not None
    assert span.attributes is not None
    assert (format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)) == (TRACE, PARENT)
    assert span.name == "GET /problems/{code}"
    assert span.attributes["koc.request_id"] == answer.headers["x-request-id"]


def test_many_and_dull_requests_have_no_span_and_no_request_more_than_one(
    traced: TestClient, exporter: InMemorySpanExporter
) -> None:
    shop = Shop(traced)
    link = shop.a_link(shop.an_affiliate("Lan"))
    exporter.clear()

    for path in ("/healthz", "/readyz", "/metrics", "/t.js", f"/r/{link['code']}"):
        traced.get(path, follow_redirects=False)
    assert spans(exporter) == []
    shop.get("/v1/merchant")

    assert [span.name for span in spans(exporter)] == ["GET /v1/merchant"]


def test_filters_are_no_part_of_a_span(traced: TestClient, exporter: InMemorySpanExporter) -> None:
    traced.get("/v1/affiliates", params={"email": "buyer@secret.example"})

    [span] = spans(exporter)
    assert span.attributes is not None
    assert span.attributes["url.query"] == "[masked]"
    assert "secret.example" not in span.to_json()


def test_without_anybody_who_takes_them_there_are_no_spans(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    made: list[object] = []
    monkeypatch.setattr("fastapi.telemetry._asgi._RequestTelemetry", lambda *_args, **_named: made.append(1))

    assert client.get("/healthz").status_code == 200
    assert client.get("/problems").status_code == 200
    assert made == []
    assert (TELEMETRY["metrics"], TELEMETRY["logs"], TELEMETRY["auto_configure"]) == (False, False, True)


def test_log_lines_bear_the_request_and_the_callers_trace(
    settings: Settings, json_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.front.SLOW_S", 0)

    with TestClient(create_app(settings)) as client:
        client.get("/problems", headers={"traceparent": TRACEPARENT, "x-request-id": "mine-7"})
        client.get("/problems", headers={"traceparent": f"00-{'0' * 32}-{PARENT}-01"})

    lines = [json.loads(line) for line in json_lines.getvalue().splitlines()]
    slow = [line for line in lines if line["event"] == "A request was slow"]
    # The second is within a second of the first.
    assert len(slow) == 1
    assert (slow[0]["request_id"], slow[0]["trace_id"], slow[0]["operation"]) == ("mine-7", TRACE, "list_problem_kinds")
    assert slow[0]["status"] == 200
