"""Nothing at the edge is looser than it looks: no library takes "1_0" for ten, and every code has its line."""

import importlib
import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from service.api import problems
from service.api.views import Body
from service.domain.errors import ServiceError
from tests.support.house import ROOT

LOOSE = {
    "int": "integers",
    "float": "numbers",
    "bool": "flags",
    "date": "days",
    "datetime": "times",
    "decimal": "amounts",
}


def routes() -> Iterator[APIRoute]:
    for router in importlib.import_module("service.main").ROUTERS:
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def schema_of(kind: Any, *more: Any) -> Any:
    annotated: Any = Annotated[kind, None, *more]
    return TypeAdapter(annotated).core_schema


def loose(schema: Any) -> Iterator[str]:
    """Kinds of values that the library would convert: neither strict nor looked at before by a check of ours."""
    if isinstance(schema, list | tuple):
        for one in schema:
            yield from loose(one)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "function-before":
        return
    if schema.get("type") in LOOSE and not schema.get("strict"):
        yield LOOSE[schema["type"]]
    for name, inner in schema.items():
        if name not in {"serialization", "metadata", "default"}:
            yield from loose(inner)


def written(dependant: Any) -> Iterator[tuple[str, Any]]:
    for field in (*dependant.path_params, *dependant.query_params, *dependant.header_params):
        yield field.alias, field.field_info
    for inner in dependant.dependencies:
        yield from written(inner)


def test_what_stands_in_an_address_is_read_in_one_way_only() -> None:
    found = [
        (route.name, name, kind)
        for route in routes()
        for name, info in written(route.dependant)
        for kind in loose(schema_of(info.annotation, *info.metadata))
    ]

    assert found == [], "use WRITTEN_INTEGER, WRITTEN_FLAG, Day or Moment of service/api/views.py"


def test_what_stands_in_a_body_is_read_in_one_way_only() -> None:
    bodies, waiting = [], [Body]
    while waiting:
        waiting += (kinds := waiting.pop().__subclasses__())
        bodies += [kind for kind in kinds if kind.__module__.startswith("service.")]

    found = [
        (body.__name__, name, kind)
        for body in bodies
        for name, info in body.model_fields.items()
        if not (isinstance(info.annotation, type) and issubclass(info.annotation, Body))
        for kind in loose(schema_of(info.annotation, *info.metadata))
    ]

    assert bodies
    assert found == [], "write Annotated[int, Strict(), …], Annotated[bool, Strict()], Day or Moment"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (int, ["integers"]),
        (Annotated[bool | None, None], ["flags"]),
        (list[float], ["numbers"]),
        (dict[str, Annotated[int, {"strict": True}]], ["integers"]),
        (str, []),
    ],
)
def test_a_loose_type_is_noticed(kind: Any, names: list[str]) -> None:
    assert list(loose(schema_of(kind))) == names


def test_each_code_has_one_line_in_the_docs_and_no_other_has() -> None:
    # The command line has codes of its own.
    importlib.import_module("service.cli")
    # Another test may have asked for them before that was loaded.
    problems.kinds.cache_clear()
    page = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")

    lines = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)

    told = {code: (int(status), title) for code, status, title, _ in lines}
    known = {code: (kind.status, kind.title) for code, kind in problems.kinds().items() if in_the_service(code)}
    assert told == known
    assert [code for code, *_, next_step in lines if not next_step.strip()] == []
    assert [code for code, *_ in lines] == sorted(told)


def in_the_service(code: str) -> bool:
    """Whether a code is the service's own: tests make errors too."""
    waiting = [ServiceError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if vars(kind).get("code") == code:
            # What makes books again is a command of its own, and answers nobody over HTTP.
            return kind.__module__.startswith("service.") and not kind.__module__.startswith("service.rebuild")
    return code == problems.INTERNAL_ERROR.code
