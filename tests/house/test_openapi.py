"""The published document is the one the code makes."""

import base64
import importlib
import json
import re
from typing import Any

import pytest

from service.api.problems import KIND
from service.infra.settings import Settings
from tests.support.house import ROOT


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings(
        secret_key=base64.b64encode(bytes(32)).decode(), database_url="postgresql://koc@127.0.0.1:1/koc"
    )
    app = importlib.import_module("service.main").create_app(settings)
    found: dict[str, Any] = app.openapi()
    return found


def test_the_committed_document_is_current(document: dict[str, Any]) -> None:
    committed = (ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8")

    assert json.loads(committed) == document, "write it anew: .venv/bin/koc openapi > openapi/openapi.json"


def test_every_operation_can_be_called_by_name(document: dict[str, Any]) -> None:
    names = [
        (method, path, operation.get("operationId"), operation.get("tags"))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in {"get", "post", "put", "patch", "delete"}
    ]

    assert names
    assert [one for one in names if not one[2] or not one[3]] == []
    assert len({one[2] for one in names}) == len(names)


def test_every_tag_says_what_stands_under_it(document: dict[str, Any]) -> None:
    used = {tag for item in document["paths"].values() for operation in item.values() for tag in operation["tags"]}

    assert used == {tag["name"] for tag in document["tags"]}


def test_no_operation_demands_a_body_of_which_nothing_is_needed(document: dict[str, Any]) -> None:
    bodies = {
        operation["operationId"]: operation["requestBody"]
        for item in document["paths"].values()
        for operation in item.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    schemas = {
        name: document["components"]["schemas"].get(
            body["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
        )
        for name, body in bodies.items()
    }

    demanded = {name: bodies[name].get("required", False) for name, schema in schemas.items() if schema}
    needed = {name: bool(schema.get("required")) for name, schema in schemas.items() if schema}
    assert demanded == needed
    assert (demanded["approve_affiliate"], demanded["create_affiliate"]) == (False, True)


def test_what_has_kinds_names_them_in_one_field(document: dict[str, Any]) -> None:
    """By it pointers are told from the library's, which has a step more there."""
    fields = re.findall(r'"propertyName": "([^"]*)"', json.dumps(document))

    assert set(fields) == {KIND}
