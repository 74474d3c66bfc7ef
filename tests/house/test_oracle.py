"""The oracle is worth something only while it can be read at once and shares nothing with what it judges."""

import ast

from tests.support.house import ROOT

LINES_MAX = 300
ORACLE = ROOT / "tests/support/oracle.py"


def lines_of_code(source: str) -> int:
    """Count lines that hold code: neither blank, nor comment, nor docstring."""
    words = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        number not in words and bool(line.strip()) and not line.lstrip().startswith("#")
        for number, line in enumerate(source.splitlines(), start=1)
    )


def test_the_oracle_can_be_read_at_once() -> None:
    assert lines_of_code(ORACLE.read_text()) <= LINES_MAX


def test_the_oracle_knows_nothing_of_the_service() -> None:
    imported = [
        name
        for node in ast.walk(ast.parse(ORACLE.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]

    assert imported
    assert [name for name in imported if name.partition(".")[0] in {"service", "tests", "bench"}] == []


def test_only_lines_that_hold_code_are_counted() -> None:
    assert lines_of_code('"""Words.\n\nMore."""\n\n# why\nx = 1\n\ndef f():\n    """It."""\n    return x\n') == 3
