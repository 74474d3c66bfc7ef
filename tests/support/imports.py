"""Files to import, and what came of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from service.infra.db import read_session
from service.intake.cells import Event, Item, Refused
from service.intake.find_source import find_source
from service.intake.import_file import Importer, Result
from service.intake.import_rows import items_of, measure
from service.intake.mapping import ImportMapping, load_mapping, read_mapping
from tests.support.house import ROOT
from tests.support.webhooks import READING

PRESETS = ROOT / "docs" / "imports"
FILES = ROOT / "tests" / "fixtures" / "imports"

Json = dict[str, Any]

ORDER: Json = {
    "id": "id",
    "updated_at": "at",
    "placed_at": "at",
    "currency": {"value": "USD"},
    "coupon_codes": {"value": ["ANN"]},
}


def a_mapping(**changes: Any) -> ImportMapping:
    """Orders of one line each, from the columns id, at and net; a change of None takes the key out."""
    document = {"order": ORDER, "line": {"net": "net"}} | changes
    return read_mapping({key: value for key, value in document.items() if value is not None})


def preset(name: str) -> ImportMapping:
    return load_mapping(PRESETS / f"{name}.toml")


def written(folder: Path, content: str | bytes, name: str = "orders.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def told(items: Iterable[Item]) -> list[Any]:
    """Events as objects; what was refused as its reason."""
    return [
        json.loads(item.body)
        if isinstance(item, Event)
        else item.reason_code
        if isinstance(item, Refused)
        else "skipped"
        for item in items
    ]


def read(path: Path, mapping: ImportMapping) -> list[Any]:
    """What a file tells, after the look through it that each import begins with."""
    measure(path, mapping)
    return told(items_of(path, mapping))


def imported(
    engine: Engine, source_id: UUID, path: Path, mapping: ImportMapping, *, dry: bool = False, at_once: int = 500
) -> list[Result]:
    """Import a file and return all results."""
    measure(path, mapping)
    with read_session(engine) as session:
        source = find_source(session, source_id)
    results: list[Result] = []
    Importer(engine, source, READING, dry=dry).run(items_of(path, mapping), results.extend, at_once=at_once)
    return results
