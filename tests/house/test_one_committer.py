"""Only infra/db.py ends a unit of work."""

import ast
import re

import pytest

from tests.support.house import ROOT, nodes, place, python_files

COMMITTER = ROOT / "service" / "infra" / "db.py"
ENDS = {"commit", "begin", "begin_nested", "begin_twophase", "sessionmaker", "prepare", "transaction"}
STATEMENT = re.compile(r"\s*(COMMIT|BEGIN|ROLLBACK)(\s+\w+)?\s*;?\s*", re.IGNORECASE)
"""A string that is nothing but such a statement; prose that begins with the word is longer."""
MAKES = {"Session", "sessionmaker", "create_engine", "create_async_engine", "scoped_session"}


def endings(tree: list[ast.AST]) -> list[tuple[ast.AST, str]]:
    """Return each call that could end a unit of work, or make a session that could."""
    found: list[tuple[ast.AST, str]] = []
    for node in tree:
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in ENDS:
                found.append((node, f".{name}()"))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in MAKES:
                found.append((node, f"{name}()"))
            case ast.Constant(value=str(text)) if STATEMENT.fullmatch(text):
                found.append((node, text.strip()))
    return found


def test_nothing_else_commits() -> None:
    found = [
        f"{place(path, node)} {what}"
        for path in python_files("service")
        if path != COMMITTER
        for node, what in endings(list(nodes(path)))
    ]

    assert found == []


def test_the_committer_commits() -> None:
    assert ".commit()" in {what for _, what in endings(list(nodes(COMMITTER)))}


@pytest.mark.parametrize(
    "source",
    ["session.commit()", "with engine.begin() as c: pass", "Session(engine)", "run('COMMIT')", "c.transaction()"],
)
def test_this_test_would_see_it(source: str) -> None:
    assert endings(list(ast.walk(ast.parse(source))))
