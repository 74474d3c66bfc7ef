"""The oracle is worth something only while it can be read at once and shares nothing with what it judges."""

import ast

from tests.support.house import ROOT

LINES_MAX = 300
MODEL = ROOT / "tests/support/oracle.py"
READS = ROOT / "tests/support/oracle_reads.py"
"""What the model reads in bodies and terms."""


def test_the_oracle_can_be_read_at_once() -> None:
    assert len(MODEL.read_text().splitlines()) <= LINES_MAX


def test_the_oracle_knows_nothing_of_the_service() -> None:
    imported = [
        name
        for path in (MODEL, READS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]

    assert {name for name in imported if name.partition(".")[0] in {"service", "tests", "bench"}} == {
        "tests.support.oracle_reads"
    }
