"""A report as Parquet: row groups made of what PostgreSQL sends, one after the other. Needs pyarrow, which is an extra."""

import io
from collections.abc import Generator

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv, parquet

from service.reports.counted import Counted
from service.reports.define import Column, Kind, Report
from service.reports.query import amount, copy_statement, public_id, source

ROWS_IN_A_GROUP = 8_192
AMOUNT = pa.decimal128(24, 4)
"""Any 64-bit number of minor units of any currency, none of which has more than four decimals."""

_TYPES: dict[Kind, tuple[pa.DataType, ...]] = {
    Kind.TEXT: (pa.string(),),
    Kind.ID: (pa.string(),),
    Kind.MONEY: (pa.int64(), AMOUNT),
    Kind.COUNT: (pa.int64(),),
    Kind.DAY: (pa.date32(),),
    Kind.MOMENT: (pa.timestamp("us", "UTC"),),
}


def statement(report: Report) -> sql.Composed:
    """COPY of a report without a header, nulls told from empty words."""
    return copy_statement(report, _cells, sql.SQL("FORMAT csv, ENCODING 'UTF8'"))


def schema(report: Report) -> pa.Schema:
    """Columns as in CSV, each with its unit and meaning."""
    fields = [
        pa.field(name, type_, metadata={"unit": unit, "description": column.description})
        for column in report.columns
        for name, unit, type_ in zip(column.cells, column.units, _TYPES[column.kind], strict=True)
    ]
    return pa.schema(fields, metadata={"title": report.title, "description": report.description})


def blocks(
    copy: psycopg.Copy, report: Report, counted: Counted, *, rows_in_a_group: int = ROWS_IN_A_GROUP
) -> Generator[bytes]:
    """Yields a row group at a time, then the footer."""
    of_report, sink = schema(report), _Sink()
    with parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), of_report, compression="zstd") as writer:
        group, rows = bytearray(), 0
        for row in copy:
            group += row
            rows += 1
            if rows == rows_in_a_group:
                writer.write_table(_table(group, of_report))
                counted.rows += rows
                group, rows = bytearray(), 0
                yield sink.taken()
        if rows:
            writer.write_table(_table(group, of_report))
            counted.rows += rows
    yield sink.taken()


class _Sink(io.RawIOBase):
    """What was written and not taken yet; the writer asks how far it is."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()
        self._before = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._before + len(self._written)

    def write(self, given: bytes) -> int:  # type: ignore[override] # the writer hands over bytes and nothing else
        self._written += given
        return len(given)

    def taken(self) -> bytes:
        taken = bytes(self._written)
        self._before += len(taken)
        self._written = bytearray()
        return taken


def _table(rows: bytearray, of_report: pa.Schema) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(pa.py_buffer(rows)),
        # One thread: the columns of a few thousand rows are not worth more.
        read_options=csv.ReadOptions(column_names=of_report.names, use_threads=False, block_size=len(rows) + 1),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=of_report,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ).cast(of_report)


def _cells(column: Column) -> list[sql.Composed]:
    match column.kind:
        case Kind.MONEY:
            return [source(column), amount(column)]
        case Kind.ID:
            return [public_id(column)]
        case Kind.MOMENT:
            return [
                sql.SQL("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").format(source(column))
            ]
        case Kind.TEXT | Kind.COUNT | Kind.DAY:
            return [source(column)]
