"""A report as a workbook: typed cells under a frozen header, as many sheets as its rows need, memory flat."""

import tempfile
from collections.abc import Generator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg import sql
from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from service.domain.money import EXPONENTS
from service.reports.counted import Counted
from service.reports.define import CURRENCY, Column, Kind, Report
from service.reports.query import amount, copy_statement, public_id, source

BLOCK_BYTES = 64 * 1024
ROWS_IN_A_SHEET = 1_048_575
"""Below the header. Source: Microsoft, "Excel specifications and limits", read 2026-11: 1,048,576 rows."""
ROWS_IN_A_TURN = 1000
DIGITS_MAX = 15
"""Of a number a spreadsheet keeps so many digits; a longer one is written as text. Source: the same page."""

_DAY_ZERO = "1899-12-30"
"""From which a spreadsheet counts days, so that those after February 1900 come out right."""
_EPOCH_DAY = 25569
"""The first of January 1970, counted like that."""
_WIDTHS = {Kind.TEXT: 18, Kind.ID: 32, Kind.MONEY: 16, Kind.COUNT: 12, Kind.DAY: 12, Kind.MOMENT: 20}
"""Of columns, in characters."""
_FORMULA = frozenset("-=+@\t\r\n＝＋－＠")
"""How a cell begins that would become a formula if somebody edited it; it gets the mark that keeps it a text."""


def statement(report: Report) -> sql.Composed:
    """COPY of a report in which days and times are the numbers that a spreadsheet has for them."""
    return copy_statement(report, _cells, sql.SQL("ENCODING 'UTF8'"))


def blocks(
    copy: psycopg.Copy, report: Report, counted: Counted, *, at: datetime, rows_in_a_sheet: int = ROWS_IN_A_SHEET
) -> Generator[bytes]:
    """Yields an empty block now and then while rows come, then the workbook in blocks of 64 KiB.

    It is written to the folder for temporary files first: the library keeps its sheets there, not yet packed.
    at: told in the workbook's properties.
    """
    with tempfile.TemporaryDirectory(prefix="koc-report-") as folder:
        path = Path(folder) / "report.xlsx"
        book = _Book(path, report, at, rows_in_a_sheet)
        try:
            copy.set_types(["text"] * book.width)
            for row in copy.rows():
                book.add(row)
                counted.rows += 1
                if counted.rows % ROWS_IN_A_TURN == 0:
                    yield b""
            book.close()
        finally:
            book.end()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block


class _Book:
    """A workbook that is written row by row."""

    def __init__(self, path: Path, report: Report, at: datetime, rows_in_a_sheet: int) -> None:
        self._report = report
        self._rows_in_a_sheet = rows_in_a_sheet
        self._book = Workbook(
            path,
            {
                "constant_memory": True,
                "tmpdir": str(path.parent),
                "use_zip64": True,
                "strings_to_formulas": False,
                "strings_to_numbers": False,
                "strings_to_urls": False,
            },
        )
        # Of the moment that it shows, not of when it was written: the same report is the same bytes.
        self._book.set_properties({"title": report.title, "comments": report.description, "created": at})
        self._head = self._book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        self._guarded = self._book.add_format({"quote_prefix": True})
        self._whole = self._book.add_format({"num_format": "0"})
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._moment = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        by_exponent = {exponent: self._book.add_format({"num_format": _places(exponent)}) for exponent in range(5)}
        self._amounts = {code: by_exponent[exponent] for code, exponent in EXPONENTS.items()}
        kinds = [(column.kind, place) for column in report.columns for place, _ in enumerate(column.cells)]
        self.width = len(kinds)
        self._texts = [number for number, (kind, _) in enumerate(kinds) if kind in {Kind.TEXT, Kind.ID}]
        # The second cell of money is the amount, whose decimals hang on the row's currency.
        self._of_currency = [number for number, (_, place) in enumerate(kinds) if place]
        plain = {Kind.MONEY: self._whole, Kind.COUNT: self._whole, Kind.DAY: self._day, Kind.MOMENT: self._moment}
        self._numbers = [
            (number, plain[kind]) for number, (kind, place) in enumerate(kinds) if kind in plain and not place
        ]
        names = [name for column in report.columns for name in column.cells]
        self._currency = names.index(CURRENCY.name) if CURRENCY.name in names else None
        self._sheets: list[Worksheet] = []
        self._row = 0
        self._begin()

    def add(self, row: tuple[str | None, ...]) -> None:
        """Write the next row."""
        if self._row > self._rows_in_a_sheet:
            self._begin()
        sheet, line = self._sheets[-1], self._row
        for number in self._texts:
            text = row[number]
            if text:
                _text(sheet, line, number, text, self._guarded if text[0] in _FORMULA else None)
        for number, written in self._numbers:
            text = row[number]
            if text is not None:
                _number(sheet, line, number, text, written)
        if self._of_currency and self._currency is not None:
            written = self._amounts.get(row[self._currency] or "", self._whole)
            for number in self._of_currency:
                text = row[number]
                if text is not None:
                    _number(sheet, line, number, text, written)
        self._row += 1

    def close(self) -> None:
        """Write the file."""
        for sheet in self._sheets:
            last = self._row - 1 if sheet is self._sheets[-1] else self._rows_in_a_sheet
            sheet.autofilter(0, 0, max(1, last), self.width - 1)
        self._book.close()

    def end(self) -> None:
        """Let go of the files it works with, also where it was not closed."""
        for sheet in self._sheets:
            if sheet.row_data_fh is not None:
                sheet.row_data_fh.close()

    def _begin(self) -> None:
        number = len(self._sheets) + 1
        sheet = self._book.add_worksheet(self._report.name if number == 1 else f"{self._report.name} {number}")
        sheet.freeze_panes(1, 0)
        self._sheets.append(sheet)
        place = 0
        for column in self._report.columns:
            for name, unit in zip(column.cells, column.units, strict=True):
                sheet.set_column(place, place, max(_WIDTHS[column.kind], len(name) + 2))
                sheet.write_string(0, place, f"{name} ({unit})", self._head)
                place += 1
        self._row = 1


def _text(sheet: Worksheet, row: int, number: int, text: str, written: Format | None) -> None:
    # What looks like a rich text of its own the library would write as it stands, tags and all.
    safe = text + " " if text.startswith("<r>") and text.endswith("</r>") else text
    sheet.write_string(row, number, safe, written)


def _number(sheet: Worksheet, row: int, number: int, text: str, written: Format) -> None:
    if len(text) > DIGITS_MAX and sum(map(str.isdigit, text)) > DIGITS_MAX:
        sheet.write_string(row, number, text)
    else:
        sheet.write_number(row, number, Decimal(text), written)


def _places(exponent: int) -> str:
    return "#,##0" + ("." + "0" * exponent if exponent else "")


def _cells(column: Column) -> list[sql.Composed]:
    match column.kind:
        case Kind.MONEY:
            return [source(column), amount(column)]
        case Kind.ID:
            return [public_id(column)]
        case Kind.DAY:
            return [sql.SQL("{} - CAST({} AS date)").format(source(column), sql.Literal(_DAY_ZERO))]
        case Kind.MOMENT:
            # To the millisecond, which is what a spreadsheet keeps.
            days = sql.SQL("round(extract(epoch FROM {}) / 86400 + {}, 9)")
            return [days.format(source(column), sql.Literal(_EPOCH_DAY))]
        case Kind.TEXT | Kind.COUNT:
            return [source(column)]
