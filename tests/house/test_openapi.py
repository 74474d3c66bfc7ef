"""The published document is the one the code makes."""

import base64
import importlib
import json
from typing import Any

import pytest

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
