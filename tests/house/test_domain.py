"""The domain is pure: same arguments, same answer. No clock, randomness, environment, files or network."""

import ast

import pytest

from tests.support.house import nodes, place, python_files

ALLOWED_MODULES = {
    "calendar",
    "collections",
    "collections.abc",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "hmac",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "struct",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "zoneinfo",
}
"""All of them compute. What of them asks the outside is banned by name below."""

BANNED_ATTRIBUTES = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "uuid": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
    "zoneinfo": {"available_timezones", "reset_tzpath"},
    "json": {"load", "dump"},
    "hashlib": {"file_digest"},
}
BANNED_CALLS = {"open", "input", "print", "eval", "exec", "compile", "__import__", "id", "hash", "breakpoint"}
"""hash() and id() differ from process to process."""
BANNED_IMPORTS = {name for names in BANNED_ATTRIBUTES.values() for name in names}


def impurities(tree: list[ast.AST]) -> list[tuple[ast.AST, str]]:
    """Return each node that reaches outside, with what it uses."""
    found: list[tuple[ast.AST, str]] = []
    for node in tree:
        match node:
            case ast.Import(names=names):
                found += [(node, name.name) for name in names if name.name not in ALLOWED_MODULES]
            case ast.ImportFrom(module=module, level=level, names=names):
                inside = level > 0 or module == "service" or str(module).startswith("service.")
                at_home = level == 1 or str(module).startswith("service.domain")
                if (inside and not at_home) or (not inside and module not in ALLOWED_MODULES):
                    found.append((node, str(module)))
                found += [(node, name.name) for name in names if not inside and name.name in BANNED_IMPORTS]
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=attribute):
                if attribute in BANNED_ATTRIBUTES.get(owner, ()):
                    found.append((node, f"{owner}.{attribute}"))
            case ast.Call(func=ast.Name(id=name)) if name in BANNED_CALLS:
                found.append((node, f"{name}()"))
            case ast.Global() | ast.Nonlocal():
                found.append((node, "state that outlives a call"))
            case ast.AsyncFunctionDef() | ast.Await():
                found.append((node, "async"))
    return found


def test_the_domain_reaches_for_nothing_outside() -> None:
    found = [
        f"{place(path, node)} {what}"
        for path in python_files("service/domain")
        for node, what in impurities(list(nodes(path)))
    ]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import os", id="environment"),
        pytest.param("from pathlib import Path", id="files"),
        pytest.param("import time", id="clock"),
        pytest.param("import random", id="randomness"),
        pytest.param("from service.infra import db", id="infra"),
        pytest.param("from ..infra import db", id="infra, relatively"),
        pytest.param("import sqlmodel", id="framework"),
        pytest.param("from datetime import datetime\ndatetime.now()", id="now"),
        pytest.param("import datetime\ndatetime.datetime.now()", id="now, by module"),
        pytest.param("import datetime\ndatetime.date.today()", id="today"),
        pytest.param("import uuid\nuuid.uuid4()", id="random id"),
        pytest.param("from uuid import uuid4", id="random id, by name"),
        pytest.param("open('x')", id="open"),
        pytest.param("hash('x')", id="hash"),
        pytest.param("def f():\n    global x\n    x = 1", id="global"),
    ],
)
def test_this_test_would_see_it(source: str) -> None:
    assert impurities(list(ast.walk(ast.parse(source))))


def test_pure_code_passes() -> None:
    source = (
        "from datetime import datetime\nfrom service.domain.money import Money\ndef f(at: datetime): return at.date()"
    )

    assert impurities(list(ast.walk(ast.parse(source)))) == []
