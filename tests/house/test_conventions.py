"""Every operation of /v1 keeps to the conventions of docs/api.md, also those that nobody has written yet."""

import base64
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service import main
from service.api import conventions, deps, etags, paging
from service.infra.settings import Settings
from tests.support.house import ROOT

STREAMED = {"make_tax_register": "names people, and changes nothing but the trail: repeated, it is made anew"}
"""POSTs whose answer is not kept, and why a repetition does no harm."""
LISTS_IN_ONE = {
    "list_reports": "as many as there are reports",
    "list_settlement_presets": "as many as there are presets",
    "list_rails": "as many as there are rails",
    "list_tax_registers": "as many as there are definitions",
    "list_tax_tables": "as many as there are rule tables",
    "list_tax_due": "one for each rule, duty, period and currency that was withheld for, at most a thousand",
    "get_my_calendar": "one for each currency, of so many days as were asked for",
    "list_commission_statuses": "as many as there are statuses",
    "get_my_earnings": "one for each currency",
    "get_my_series": "one for each currency, of so many days as were asked for",
}
"""Operations that return all of a short list, with what keeps it short."""

OPERATIONS = [
    route
    for router in main.ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.path.startswith(conventions.PREFIX)
]


def of(*methods: str) -> list[APIRoute]:
    return [route for route in OPERATIONS if not conventions.methods_of(route).isdisjoint(methods)]


def calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """What is called before the endpoint, and the endpoint."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from calls(each)


def address(route: APIRoute) -> str:
    return re.sub(r"\{[^}]*\}", "x", route.path)


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Return a client of an application that was not started: what it answers, it answers without a database."""
    key = base64.b64encode(bytes(32)).decode()
    return TestClient(main.create_app(Settings(secret_key=key, database_url="postgresql://koc@127.0.0.1:1/koc")))


def test_there_are_operations_of_every_method(client: TestClient) -> None:
    del client

    assert all(of(method) for method in ("GET", "POST", "PUT", "PATCH"))
    assert [route.name for route in OPERATIONS if not isinstance(route, conventions.Operation)] == []


@pytest.mark.parametrize("route", of("POST"), ids=lambda route: route.name)
def test_every_post_takes_an_idempotency_key_and_keeps_its_answer(client: TestClient, route: APIRoute) -> None:
    answer = client.post(address(route), headers={"Idempotency-Key": "not one"})
    declared = client.app.openapi()["paths"][route.path_format]["post"]["parameters"]  # type: ignore[attr-defined] # typed as any ASGI application

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed-idempotency-key")
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in declared
    # Where the answer is claimed: in the unit of work of the effect, or before several.
    before = list(calls(route.dependant))
    assert deps._write_session in before or deps._own_units in before
    assert deps._known in before
    is_stream = isinstance(route.response_class, type) and issubclass(route.response_class, StreamingResponse)
    assert is_stream == (route.name in STREAMED)


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: route.name)
def test_every_operation_refuses_a_parameter_it_does_not_have_and_tells_its_version(
    client: TestClient, route: APIRoute
) -> None:
    [method] = conventions.methods_of(route)

    answer = client.request(method, address(route), params={"no-such-parameter": "1"})

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-parameter")
    assert answer.headers["koc-version"]


@pytest.mark.parametrize("route", of("GET"), ids=lambda route: route.name)
def test_every_list_comes_in_pages(route: APIRoute) -> None:
    model = route.response_model
    fields = getattr(model, "model_fields", {})
    is_list = "data" in fields and "list" in str(fields["data"].annotation)

    assert is_list == (conventions.is_page(route) or route.name in LISTS_IN_ONE)
    assert conventions.is_page(route) == (paging.page_query in set(calls(route.dependant)))
    if conventions.is_page(route):
        assert {"limit", "cursor"} <= set(conventions.parameters_of(route.dependant))


def test_the_filters_of_every_list_are_told_to_people() -> None:
    told = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").replace("⧗", "`created_from` `created_before`")

    for route in filter(conventions.is_page, of("GET")):
        filters = set(conventions.parameters_of(route.dependant)) - {"limit", "cursor"}
        rows = re.findall(rf"^\| `{re.escape(route.path)}` \| (.+) \|$", told, re.MULTILINE)
        assert {name for row in rows for name in re.findall("`([a-z_]+)`", row)} == filters, route.path


@pytest.mark.parametrize("route", of("PUT", "PATCH"), ids=lambda route: route.name)
def test_every_change_can_be_made_to_hang_on_what_was_seen(client: TestClient, route: APIRoute) -> None:
    del client

    assert etags._precondition in set(calls(route.dependant))
    assert "expected.check(" in inspect.getsource(route.endpoint)
    assert isinstance(route, conventions.Operation)
    assert route.has_tag
    assert [each.name for each in of("GET") if each.response_model is route.response_model], "nothing shows its ETag"


def test_what_is_declared_for_all_operations_is_told_to_people_too() -> None:
    told = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

    for header in ("Idempotency-Key", "Idempotency-Replayed", "If-Match", "If-None-Match", "ETag", "KOC-Version",
                   "KOC-Mode", "X-Request-Id", "Deprecation", "Sunset", "Link", "Retry-After"):  # fmt: skip
        assert f"`{header}" in told, header
    for code in (
        "idempotency-key-reused",
        "idempotency-key-in-flight",
        "malformed-idempotency-key",
        "precondition-failed",
        "malformed-precondition",
        "unknown-parameter",
        "repeated-parameter",
        "unknown-version",
        "invalid-cursor",
        "external-id-taken",
        "fixed-once-made",
        "decided-twice",
    ):
        assert f"`{code}`" in told, code
