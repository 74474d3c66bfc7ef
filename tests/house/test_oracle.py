"""The oracle is worth something only while it can be read at once and shares nothing with what it judges."""

import ast
from pathlib import Path

import pytest

from tests.support.house import ROOT

LINES_MAX = 300
"""Of each of its files: one for what was told and where money is, one each for terms, inputs, bodies, and what is due."""
FILES = sorted((ROOT / "tests/support").glob("oracle*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_oracle_can_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_the_oracle_knows_nothing_of_the_service() -> None:
    imported = [
        name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]

    shared = {name for name in imported if name.partition(".")[0] in {"service", "tests", "bench"}}
    assert shared == {f"tests.support.{path.stem}" for path in FILES if path.stem != "oracle"}
