"""Every operation says whose its objects are, asks for keys by the one mechanism, and leaves its trace."""

import ast
import re
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlmodel import SQLModel
from starlette.routing import Mount, Route

import service.tables
from service.api import deps, trail
from service.api.deps import Allowed
from service.api.described import allowed_of
from service.api.owners import Owner
from service.infra.settings import Settings
from service.main import ROUTERS, create_app
from tests.support.asking import operations
from tests.support.house import ROOT, nodes, place, python_files
from tests.support.scopes_page import PAGE, table, written
from tests.support.shop import SECRET_KEY

HAND_MADE = {"/intake/{source}", "/providers/stripe/events", "/r/{code}"}
"""Raw routes that the description tells of."""
NOT_DESCRIBED = {"/openapi.json", "/docs", "/static"}
"""What serves the description itself."""
ASKS_FOR_SCOPES = {
    "deps.py": "where it is done",
    "api_keys.py": "gives them out",
    "merchants.py": "gives out admin keys",
}
NO_TRACE: dict[str, str] = {}
"""Operations that change something and leave no row in the audit trail, and why."""


def routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def calls(route: APIRoute) -> list[Any]:
    """Return all that a route depends on, however deep."""
    found, waiting = [], [route.dependant]
    while waiting:
        one = waiting.pop()
        found.append(one.call)
        waiting += one.dependencies
    return found


def owners_of(route: APIRoute) -> list[str]:
    """What a route declares: by the key it asks for, or in words. There must be one, and only one."""
    by_key = [call.owner.value for call in calls(route) if isinstance(call, Allowed)]
    in_words = [(route.openapi_extra or {}).get("x-owner")]
    return by_key + [one for one in in_words if one is not None]


def test_every_route_declares_one_owner() -> None:
    undeclared = [
        f"{route.methods} {route.path}: {owners_of(route)}" for route in routes() if len(owners_of(route)) != 1
    ]

    assert undeclared == [], "name a caller of deps.py, or say openapi_extra=PUBLIC"


def test_a_route_without_a_key_is_public_and_one_with_a_key_is_not() -> None:
    wrong = [
        route.path
        for route in routes()
        if (allowed_of(route) is None) is not (owners_of(route) == [Owner.PUBLIC.value])
    ]

    assert wrong == []


def test_the_description_shows_the_owner_of_every_operation() -> None:
    document = create_app(Settings(secret_key=SECRET_KEY)).openapi()
    known = {owner.value for owner in Owner}

    assert [one.id for one in operations(document) if one.owner not in known] == []


def test_there_are_no_other_routes() -> None:
    app = create_app(Settings(secret_key=SECRET_KEY))
    raw = {
        route.path
        for route in app.router.routes
        if isinstance(route, Route | Mount) and not isinstance(route, APIRoute)
    }

    assert raw <= HAND_MADE | NOT_DESCRIBED
    assert set(app.openapi()["paths"]) >= HAND_MADE


@pytest.mark.parametrize("path", sorted((ROOT / "service" / "api").glob("*.py")), ids=lambda path: path.name)
def test_scopes_are_checked_in_one_place(path: Any) -> None:
    if path.name in ASKS_FOR_SCOPES:
        return
    found = [
        place(path, node)
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and (
            (node.attr == "scopes" and not isinstance(node.ctx, ast.Store) and path.name != "described.py")
            or (isinstance(node.value, ast.Name) and node.value.id == "Scope")
        )
    ]

    assert found == []


def test_whatever_changes_something_leaves_its_trace() -> None:
    """Both sessions of an endpoint that writes store the trail before they commit: tests/api/test_audit.py."""
    traced = {deps._write_session, deps._own_units}
    silent = [
        route.name
        for route in routes()
        if not (route.methods or set()) <= {"GET", "HEAD", "OPTIONS"} and traced.isdisjoint(calls(route))
    ]

    assert silent == list(NO_TRACE)


def test_the_trail_knows_every_table() -> None:
    assert service.tables.__all__
    tables = {mapper.class_ for mapper in SQLModel._sa_registry.mappers}

    assert {table.__name__ for table in tables} == {table.__name__ for table in (*trail.SHOWN, *trail.NOT_SHOWN)}
    assert trail.SHOWN.keys().isdisjoint(trail.NOT_SHOWN)


def test_columns_the_trail_masks_or_leaves_out_exist() -> None:
    wrong = [
        f"{table.__name__}.{name}"
        for table, shown in trail.SHOWN.items()
        for name in (*shown.masked, *shown.left_out, shown.column)
        if name not in table.model_fields
    ]

    assert wrong == []


def test_the_trail_is_only_ever_added_to() -> None:
    changed = [
        place(path, node)
        for path in python_files("service")
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"\b(UPDATE|DELETE FROM|TRUNCATE)\s+audit\b", node.value)
    ]

    assert changed == []


def test_the_page_about_keys_has_the_scopes_of_the_code() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "write it anew: .venv/bin/python -m tests.support.scopes_page"
    assert written(PAGE.read_text(encoding="utf-8")) == PAGE.read_text(encoding="utf-8")
