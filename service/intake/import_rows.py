"""From a file to the events it tells, in bounded memory: decoded, cut into rows, rows of one order brought together."""

import codecs
import contextlib
import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from service.domain.errors import Invalid
from service.domain.order import JsonObject
from service.intake.adapters.model import NotUnderstood
from service.intake.adapters.parse import LINES_MAX, load
from service.intake.cells import Event, Item, Refused, Row, Skipped, clean, events_of, is_skipped
from service.intake.mapping import ImportMapping, InvalidMapping, Layout

ROW_MAX = 2 * 1024 * 1024
"""Characters of one row; as many as a webhook may have bytes."""
_CHUNK = 1024 * 1024
_SHOWN_MAX = 30

_UTF_8 = {"utf-8", "utf-8-sig"}
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class InvalidImportFile(Invalid):
    """The file as a whole cannot be read: its encoding, its header. Nothing of it was imported."""

    code = "invalid-import-file"
    title = "The file cannot be read"


@dataclass(frozen=True, slots=True)
class Measured:
    """A file that was looked through once. digest: SHA-256 of its bytes; rows: how many it has, without the header."""

    digest: str
    rows: int


def measure(path: Path, mapping: ImportMapping) -> Measured:
    """Read a file to its end, to see that all of it is in the encoding told and that the mapping's columns are there.

    Raises InvalidImportFile, InvalidMapping: before anything of it is imported, not in the middle.
    """
    digest = _check_encoding(path, mapping.layout.encoding)
    seen: set[str] = set()
    rows = 0
    for row in read_rows(path, mapping):
        rows += 1
        if isinstance(row, Row) and mapping.layout.format == "ndjson":
            seen.update(column for column, cell in row.cells.items() if cell)
    missing = set(mapping.columns) - seen
    if rows and mapping.layout.format == "ndjson" and not mapping.is_events and missing:
        column = min(missing)
        where = mapping.columns[column]
        raise InvalidMapping(
            f"{where}: no line of the file has {column!r}. Check how it is spelt.{_or_constant(where, column)}"
        )
    return Measured(digest, rows)


def _or_constant(where: str, column: str) -> str:
    """Return how to write what may have been meant; a group and rows to skip are told by columns only."""
    if where == "group" or where.startswith("[skip]"):
        return ""
    return f" A constant is written {{ value = {json.dumps(column, ensure_ascii=False)} }}."


def items_of(path: Path, mapping: ImportMapping, *, pause: Callable[[], None] = lambda: None) -> Iterator[Item]:
    """Yields what a file tells, in the order of the rows it begins in; the same each time it is read.

    Rows of one order may stand anywhere in the file: they are brought together on disk first. pause: is called at each
    of them meanwhile, for whoever wants to leave; what it raises ends the work.
    """
    rows = read_rows(path, mapping)
    if mapping.group:
        with contextlib.closing(_Spool(mapping)) as spool:
            spool.take(rows, pause)
            yield from spool.items()
        return
    for row in rows:
        if isinstance(row, Row):
            yield from [Skipped(row.number)] if is_skipped(mapping, row) else events_of(mapping, [row])
        else:
            yield row


def read_rows(path: Path, mapping: ImportMapping) -> Iterator[Row | Refused | Event]:
    """Yields each row of a file with the columns that are used; what is no row, refused."""
    layout = mapping.layout
    encoding = "utf-8-sig" if layout.encoding in _UTF_8 else layout.encoding
    with path.open(encoding=encoding, newline="") as file:
        if layout.format == "ndjson":
            yield from _json_lines(file, mapping)
        else:
            yield from _csv_rows(file, mapping)


class _RowTooLong(Exception):
    pass


class _Lines:
    """The lines of a file, of which no row may take more than ROW_MAX characters."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.room = ROW_MAX

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(self.room + 1)
        if not line:
            raise StopIteration
        if len(line) > self.room:
            while line and not line.endswith(("\n", "\r")):
                line = self._file.readline(_CHUNK)
            raise _RowTooLong
        self.room -= len(line)
        return line


def _csv_rows(file: TextIO, mapping: ImportMapping) -> Iterator[Row | Refused]:
    layout = mapping.layout
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=layout.delimiter, quotechar=layout.quote, strict=True)
    places, width = _header(reader, mapping)
    number = 1
    while True:
        number += 1
        lines.room = ROW_MAX
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RowTooLong:
            yield Refused(number, 1, "row_too_long", f"Row {number} has more than {ROW_MAX} characters.")
            continue
        except csv.Error as error:
            yield Refused(number, 1, "unreadable_row", f"Row {number} is not CSV: {error}.")
            continue
        if number <= 1 + layout.skip_after_header or not any(cells):
            continue
        if len(cells) != width:
            told = cells[places[mapping.group]] if mapping.group and places[mapping.group] < len(cells) else ""
            detail = f"Row {number} has {len(cells)} cells, the header {width}: a delimiter inside a cell needs quotes."
            yield Refused(number, 1, "row_shape", detail, order_id=clean(told))
        elif any("\0" in cell for cell in cells):
            yield Refused(number, 1, "unreadable_row", f"Row {number} holds the character NUL.")
        else:
            yield Row(number, {column: clean(cells[place]) for column, place in places.items()})


def _header(reader: Iterator[list[str]], mapping: ImportMapping) -> tuple[dict[str, int], int]:
    """The place of each column that is used, and how many cells a row has. Raises InvalidImportFile, InvalidMapping."""
    try:
        header = [clean(cell) for cell in next(reader)]
    except StopIteration:
        raise InvalidImportFile("The file is empty: its first row has to name the columns.") from None
    except (_RowTooLong, csv.Error) as error:
        raise InvalidImportFile(f"The first row, which names the columns, is not CSV: {error}.") from None
    shown = ", ".join(repr(name[:60]) for name in header[:_SHOWN_MAX])
    hint = " It is only one: is the delimiter right?" if len(header) == 1 else ""
    for column, where in mapping.columns.items():
        if column not in header:
            raise InvalidMapping(
                f"{where}: the file has no column {column!r}. Its columns: {shown}.{hint}{_or_constant(where, column)}"
            )
        if header.count(column) > 1:
            raise InvalidMapping(
                f"{where}: the file has {header.count(column)} columns {column!r}; rename all but one."
            )
    return {column: header.index(column) for column in mapping.columns}, len(header)


def _json_lines(file: TextIO, mapping: ImportMapping) -> Iterator[Row | Refused | Event]:
    lines = _Lines(file)
    number = 0
    while True:
        number += 1
        lines.room = ROW_MAX
        try:
            line = next(lines).strip("\ufeff \t\r\n")
        except StopIteration:
            return
        except _RowTooLong:
            yield Refused(number, 1, "row_too_long", f"Line {number} has more than {ROW_MAX} characters.")
            continue
        if not line:
            continue
        if mapping.is_events:
            yield Event(number, 1, line.encode())
            continue
        try:
            record = load(line.encode())
            cells = {column: _json_cell(record, column, mapping.layout) for column in mapping.columns}
        except NotUnderstood as error:
            yield Refused(number, 1, error.reason_code, f"Line {number}: {error.detail}")
            continue
        yield Row(number, cells)


def _json_cell(record: JsonObject, column: str, layout: Layout) -> str:
    """The value under a key, or under keys with points between, as a cell would hold it."""
    value: object = record.get(column)
    if column not in record:
        value = record
        for key in column.split("."):
            value = value.get(key) if isinstance(value, dict) else None
    match value:
        case None:
            return ""
        case str():
            return clean(value)
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return str(value).replace(".", layout.decimal)
        case _:
            raise NotUnderstood("invalid_field", f"{column}: expected a text or a number, got a list or an object.")


class _Spool:
    """Rows brought together by order, in a nameless database of their own on disk that nobody else sees."""

    def __init__(self, mapping: ImportMapping) -> None:
        self._mapping = mapping
        self._disk = sqlite3.connect("")
        self._disk.execute("PRAGMA synchronous = OFF")
        self._disk.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, first INTEGER, broken TEXT) WITHOUT ROWID")
        self._disk.execute(
            "CREATE TABLE rows (first INTEGER, number INTEGER, kind TEXT, told TEXT, PRIMARY KEY (first, number))"
            " WITHOUT ROWID"
        )

    def close(self) -> None:
        self._disk.close()

    def take(self, rows: Iterator[Row | Refused | Event], pause: Callable[[], None]) -> None:
        """Keep all rows.

        An order that lacks a row would earn too little and look right. So an order is refused with each of its rows that
        cannot be read; and where not even its order can, with the rows before and after it, whose order it may be of.
        """
        before, doubtful = "", ""
        for row in rows:
            pause()
            if isinstance(row, Row):
                key = row.cells[self._mapping.group]
                if not key:
                    detail = (
                        f"Row {row.number}, {self._mapping.group!r}: is empty, so it is not known whose line it is."
                    )
                    row = Refused(row.number, 1, "missing_cell", detail)  # noqa: PLW2901 - it turned out to be none
                elif is_skipped(self._mapping, row):
                    self._put(row.number, row.number, "skipped", "")
                    continue
                else:
                    self._put(self._first(key, row.number), row.number, "row", json.dumps(row.cells))
                    if doubtful:
                        self._break(key, doubtful)
                    before, doubtful = key, ""
                    continue
            assert isinstance(row, Refused)
            self._put(row.row, row.row, "refused", json.dumps([row.reason_code, row.detail]))
            if row.order_id:
                self._first(row.order_id, row.row)
                self._break(row.order_id, row.detail)
            else:
                if before:
                    self._break(before, row.detail)
                doubtful = row.detail

    def items(self) -> Iterator[Item]:
        """Yields what the rows tell, each order where its first row stands."""
        rows: list[Row] = []
        begun, number_of_rows = -1, 0
        for first, number, kind, told in self._disk.execute("SELECT * FROM rows ORDER BY first, number"):
            if rows and (first != begun or kind != "row"):
                yield from self._order(rows, number_of_rows)
                rows, number_of_rows = [], 0
            if kind == "row":
                begun = first
                number_of_rows += 1
                # Of a column that is the same in the whole file, memory would hold the whole file.
                if number_of_rows <= LINES_MAX:
                    rows.append(Row(number, json.loads(told)))
            elif kind == "skipped":
                yield Skipped(number)
            else:
                reason_code, detail = json.loads(told)
                yield Refused(number, 1, reason_code, detail)
        if rows:
            yield from self._order(rows, number_of_rows)

    def _order(self, rows: Sequence[Row], number: int) -> list[Item]:
        """rows: those that are kept of so many."""
        key = rows[0].cells[self._mapping.group]
        if number > LINES_MAX:
            detail = f"{number} rows have {key[:60]!r} in {self._mapping.group!r}; at most {LINES_MAX} are one order."
            return [Refused(rows[0].number, number, "too_many", detail, key)]
        [(broken,)] = self._disk.execute("SELECT broken FROM keys WHERE key = ?", (key,))
        if broken is None:
            return events_of(self._mapping, rows)
        detail = f"A row of this order, or that may be, cannot be read. {broken}"
        return [Refused(rows[0].number, len(rows), "incomplete_order", detail, key)]

    def _first(self, key: str, number: int) -> int:
        """The number of the first row of an order."""
        self._disk.execute("INSERT INTO keys VALUES (?, ?, NULL) ON CONFLICT DO NOTHING", (key, number))
        [(first,)] = self._disk.execute("SELECT first FROM keys WHERE key = ?", (key,))
        return int(first)

    def _break(self, key: str, detail: str) -> None:
        self._disk.execute("UPDATE keys SET broken = ? WHERE key = ? AND broken IS NULL", (detail, key))

    def _put(self, first: int, number: int, kind: str, told: str) -> None:
        self._disk.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (first, number, kind, told))


def _check_encoding(path: Path, encoding: str) -> str:
    """Return the SHA-256 of a file that is wholly in the encoding told. Raises InvalidImportFile."""
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder(encoding)()
    done, lines, begun = 0, 1, False
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            if not begun:
                _check_mark(chunk, encoding)
                begun = True
            digest.update(chunk)
            waiting = len(decoder.getstate()[0])
            try:
                lines += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                at = done - waiting + error.start
                line = lines + bytes(error.object[: error.start]).count(b"\n")
                raise InvalidImportFile(
                    f"encoding: the file is not {encoding}: byte {at} (near line {line}) cannot be read. "
                    "Set encoding to what the shop's export is written in, for example gb18030 or windows-1258."
                ) from None
            done += len(chunk)
            if not chunk:
                return digest.hexdigest()


def _check_mark(begins: bytes, encoding: str) -> None:
    """Compare the byte-order mark with the encoding told: most mistakes show here, in words that help."""
    if begins.startswith(codecs.BOM_UTF8) and encoding not in _UTF_8:
        raise InvalidImportFile(f'encoding: the file begins with the mark of UTF-8, not {encoding}; set "utf-8".')
    marked = begins.startswith(_UTF_16_MARKS)
    if marked and not encoding.startswith("utf-16"):
        raise InvalidImportFile(f'encoding: the file begins with the mark of UTF-16, not {encoding}; set "utf-16".')
    if begins and not marked and encoding == "utf-16":
        raise InvalidImportFile(
            'encoding: "utf-16" needs a byte-order mark, and the file has none; set "utf-16-le" or "utf-16-be".'
        )
