"""A report as CSV, which PostgreSQL writes itself: nothing of it is looked at here."""

from collections.abc import Generator

import psycopg
from psycopg import sql

from service.reports.counted import Counted
from service.reports.define import Column, Kind, Report
from service.reports.query import amount, copy_statement, public_id, source

BLOCK_BYTES = 64 * 1024

FORMULA = "^[-=+@\t\r\n＝＋－＠]"
"""How a cell begins that a spreadsheet would run instead of show, wide signs included; a quote before it makes it text.
NUL, which some skip, cannot be stored. Source: OWASP, CSV Injection; ASVS 5.0, 1.2.10."""


def statement(report: Report) -> sql.Composed:
    """COPY of a report with its header, in UTF-8."""
    return copy_statement(report, _cells, sql.SQL("FORMAT csv, HEADER true, ENCODING 'UTF8'"))


def blocks(copy: psycopg.Copy, counted: Counted) -> Generator[bytes]:
    """Yields what comes in blocks of about 64 KiB."""
    block = bytearray()
    # The header is no row. The server sends each row by itself.
    counted.rows = -1
    for row in copy:
        counted.rows += 1
        block += row
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _cells(column: Column) -> list[sql.Composed]:
    match column.kind:
        case Kind.MONEY:
            return [source(column), amount(column)]
        case Kind.ID:
            return [public_id(column)]
        case Kind.TEXT:
            guarded = sql.SQL("CASE WHEN {0} ~ {1} THEN '''' || {0} ELSE {0} END")
            return [guarded.format(source(column), sql.Literal(FORMULA))]
        case Kind.MOMENT:
            return [
                sql.SQL("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").format(source(column))
            ]
        case Kind.COUNT | Kind.DAY:
            return [source(column)]
