"""Reports as workbooks and as Parquet: the same rows as in CSV, typed."""

import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import psycopg
import pytest
from psycopg import sql
from pyarrow import parquet
from sqlalchemy import Engine, text

from service.infra.db import read_session, unit_of_work
from service.reports import render_parquet, render_xlsx
from service.reports.counted import Counted
from service.reports.define import Filter, Filters, Format, Kind, Report
from service.reports.registry import REPORTS, find
from service.reports.stream import Asked, FormatNotInstalled, installed, stream
from tests.stages.test_reports import lay_a_file_beside
from tests.support.full_books import Books, full_books
from tests.support.workbooks import Cell, properties_of, sheets_of


def written(books: Books, name: str, form: Format, filters: Filters | None = None) -> bytes:
    with read_session(books.engine) as session:
        asked = Asked(books.merchant_id, books.time_zone, books.now, filters or {})
        return b"".join(stream(session, find(name), form, asked))


def csv_rows(books: Books, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written(books, name, Format.CSV).decode(), newline="")))


def parquet_rows(books: Books, name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = parquet.read_table(io.BytesIO(written(books, name, Format.PARQUET))).to_pylist()
    return rows


def rename(engine: Engine, name: str) -> None:
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE affiliate SET name = :name WHERE external_id = 'ann'"), {"name": name})


def unguarded(cell: str) -> str:
    """A cell of CSV without the quote that keeps a spreadsheet from computing it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in set("=+-@") else cell


def kinds(report: Report) -> dict[str, Kind]:
    return {name: column.kind for column in report.columns for name in column.cells}


def shown(cell: Cell | None, kind: Kind) -> str:
    """A cell of a workbook as CSV has it."""
    if cell is None:
        return ""
    if kind is Kind.DAY:
        return (date(1899, 12, 30) + timedelta(days=int(cell.value))).isoformat()
    if kind is Kind.MOMENT:
        at = datetime(1899, 12, 30) + timedelta(days=float(cell.value))  # noqa: DTZ001 # a spreadsheet knows no zones
        return at.isoformat(timespec="seconds")
    return cell.value


@pytest.mark.parametrize("name", REPORTS)
def test_a_workbook_says_what_csv_says(engine: Engine, name: str) -> None:
    books, of_column = full_books(engine), kinds(find(name))
    lay_a_file_beside(books)

    [sheet] = sheets_of(written(books, name, Format.XLSX))

    expected = csv_rows(books, name)
    assert len(sheet.records()) == len(expected) > 0
    for row, told in zip(sheet.records(), expected, strict=True):
        for cell, value in told.items():
            found = shown(row.get(cell), of_column[cell])
            match of_column[cell]:
                case Kind.MONEY | Kind.COUNT:
                    assert (Decimal(found) if found else None) == (Decimal(value) if value else None), cell
                case Kind.MOMENT:
                    assert abs(_moment(found) - _moment(value)) < timedelta(seconds=2) if value else not found, cell
                case _:
                    assert found == unguarded(value), cell


def _moment(written: str) -> datetime:
    return datetime.fromisoformat(written.removesuffix("Z")).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", REPORTS)
def test_parquet_says_what_csv_says(engine: Engine, name: str) -> None:
    books, of_column = full_books(engine), kinds(find(name))
    lay_a_file_beside(books)

    rows = parquet_rows(books, name)

    expected = csv_rows(books, name)
    assert len(rows) == len(expected) > 0
    for row, told in zip(rows, expected, strict=True):
        assert list(row) == list(told)
        for cell, value in told.items():
            found = row[cell]
            match of_column[cell]:
                case Kind.MONEY | Kind.COUNT:
                    assert found == (Decimal(value) if value else None), cell
                case Kind.MOMENT:
                    assert found == (datetime.fromisoformat(value) if value else None), cell
                case Kind.DAY:
                    assert found == (date.fromisoformat(value) if value else None), cell
                case _:
                    assert (found or "") == unguarded(value), cell


def test_columns_of_parquet_have_types_units_and_meanings(engine: Engine) -> None:
    books = full_books(engine)

    file = parquet.ParquetFile(io.BytesIO(written(books, "commissions", Format.PARQUET)))

    told = {field.name: field for field in file.schema_arrow}
    assert str(told["target_minor"].type) == "int64"
    assert str(told["target"].type) == "decimal128(24, 4)"
    assert str(told["placed_at"].type) == "timestamp[us, tz=UTC]"
    assert str(told["period_begins_on"].type) == "date32[day]"
    assert told["target_minor"].metadata[b"unit"] == b"minor units"
    assert told["target"].metadata[b"description"].startswith(b"What the affiliate should have earned")
    assert file.schema_arrow.metadata[b"title"] == b"Commissions"


def test_nothing_and_an_empty_word_are_two_things_in_parquet(engine: Engine) -> None:
    books = full_books(engine)
    rename(engine, "")
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE affiliate SET external_id = NULL WHERE external_id = 'ann'"))

    rows = parquet_rows(books, "balances")

    assert {(row["affiliate_name"], row["affiliate_external_id"]) for row in rows} == {("", None), ("Ben", "ben")}


@pytest.mark.parametrize("form", [Format.XLSX, Format.PARQUET])
def test_a_report_without_rows_still_has_its_columns(engine: Engine, form: Format) -> None:
    content = written(Books(engine).open(), "payouts", form)

    names = [name for column in find("payouts").columns for name in column.cells]
    if form is Format.XLSX:
        [sheet] = sheets_of(content)
        assert [name.partition(" (")[0] for name in sheet.header] == names
    else:
        table = parquet.read_table(io.BytesIO(content))
        assert (table.column_names, table.num_rows) == (names, 0)


def test_parquet_comes_in_row_groups(engine: Engine) -> None:
    books, report, counted = full_books(engine), find("commissions"), Counted()

    with copied(books, render_parquet.statement(report)) as copy:
        content = b"".join(render_parquet.blocks(copy, report, counted, rows_in_a_group=3))

    file = parquet.ParquetFile(io.BytesIO(content))
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [3, 3, 2]
    assert counted.rows == 8
    assert [row["commission_id"] for row in file.read().to_pylist()] == [
        row["commission_id"] for row in csv_rows(books, "commissions")
    ]


def test_a_sheet_that_is_full_is_followed_by_another(engine: Engine) -> None:
    books, report, counted = full_books(engine), find("commissions"), Counted()

    with copied(books, render_xlsx.statement(report)) as copy:
        sheets = sheets_of(b"".join(render_xlsx.blocks(copy, report, counted, at=books.now, rows_in_a_sheet=3)))

    assert [(sheet.name, len(sheet.records())) for sheet in sheets] == [
        ("commissions", 3),
        ("commissions 2", 3),
        ("commissions 3", 2),
    ]
    assert len({tuple(sheet.header) for sheet in sheets}) == 1
    assert all(sheet.frozen == 1 for sheet in sheets)
    assert counted.rows == 8
    told = [row["commission_id"].value for sheet in sheets for row in sheet.records()]
    assert told == [row["commission_id"] for row in csv_rows(books, "commissions")]


@contextlib.contextmanager
def copied(books: Books, statement: sql.Composed) -> Iterator[psycopg.Copy]:
    """The rows of a report as its format asks for them."""
    parameters = {name.value: None for name in Filter} | {"merchant_id": books.merchant_id, "time_zone": "UTC"}
    with read_session(books.engine) as session:
        connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
        with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
            yield copy


def test_the_header_names_units(engine: Engine) -> None:
    [sheet] = sheets_of(written(full_books(engine), "commissions", Format.XLSX))

    assert {
        "target_minor (minor units)",
        "target (amount)",
        "placed_at (time, UTC)",
        "program_version (number)",
    } <= set(sheet.header)
    assert sheet.frozen == 1


@pytest.mark.parametrize(
    ("currency", "value", "code"),
    [
        ("USD", "123.45", "#,##0.00"),
        ("VND", "12345", "#,##0"),
        ("KWD", "12.345", "#,##0.000"),
        ("CLF", "1.2345", "#,##0.0000"),
    ],
)
def test_amounts_are_numbers_with_the_decimals_of_their_currency(
    engine: Engine, currency: str, value: str, code: str
) -> None:
    books = Books(engine).open()
    books.order("1", brought_by="ann", goods_minor=123_450, currency=currency)

    [sheet] = sheets_of(written(books, "commissions", Format.XLSX))
    [row] = parquet_rows(books, "commissions")

    [told] = sheet.records()
    assert told["target"] == Cell(value, is_text=False, code=code, quoted=False)
    assert told["target_minor"] == Cell("12345", is_text=False, code="0", quoted=False)
    assert (row["target_minor"], row["target"]) == (12345, Decimal(value))


def test_days_and_times_are_dates(engine: Engine) -> None:
    [sheet] = sheets_of(written(full_books(engine), "payouts", Format.XLSX))

    told = sheet.records()[0]
    assert (told["pay_on"].code, told["pay_on"].is_text) == ("yyyy-mm-dd", False)
    assert told["pay_on"].value == str((date(2026, 11, 30) - date(1899, 12, 30)).days)
    assert (told["created_at"].code, told["created_at"].is_text) == ("yyyy-mm-dd hh:mm:ss", False)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1+1", '=HYPERLINK("http://x")'])
def test_a_text_never_becomes_a_formula(engine: Engine, name: str) -> None:
    books = full_books(engine)
    rename(engine, name)

    [sheet] = sheets_of(written(books, "balances", Format.XLSX))

    told = {row["affiliate_name"].value: row["affiliate_name"] for row in sheet.records()}
    assert sheet.formulas == 0
    assert told[name].is_text
    assert told[name].quoted
    assert not told["Ben"].quoted


@pytest.mark.parametrize(
    "name", ['Ann, "the" <KOC> & co\nof 深圳', "_x0041_", " spaces ", "https://example.com", "0012", "1" * 4000]
)
def test_a_text_comes_back_whole(engine: Engine, name: str) -> None:
    books = full_books(engine)
    rename(engine, name)

    [sheet] = sheets_of(written(books, "balances", Format.XLSX))

    # A spreadsheet reads _x005F_ as the underscore that begins what is no sign.
    assert name in {row["affiliate_name"].value.replace("_x005F_", "_") for row in sheet.records()}
    assert name in {row["affiliate_name"] for row in parquet_rows(books, "balances")}


def test_a_name_cannot_write_parts_of_the_sheet(engine: Engine) -> None:
    books = full_books(engine)
    name = '<r></is></c><c r="A9"><f>1+1</f></c><c t="inlineStr"><is></r>'
    rename(engine, name)

    [sheet] = sheets_of(written(books, "balances", Format.XLSX))

    assert name in {row["affiliate_name"].value.rstrip() for row in sheet.records()}
    assert sheet.formulas == 0


def test_a_number_that_a_spreadsheet_would_round_is_a_text(engine: Engine) -> None:
    books = full_books(engine)
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE balance SET amount_minor = 9007199254740993 WHERE kind = 'paid'"))

    [sheet] = sheets_of(written(books, "balances", Format.XLSX))
    rows = parquet_rows(books, "balances")

    told = [row["paid_minor"] for row in sheet.records()]
    assert ("9007199254740993", True) in {(cell.value, cell.is_text) for cell in told}
    assert Decimal("90071992547409.93") in {row["paid"] for row in rows}


def test_a_workbook_says_of_when_it_is_and_is_the_same_each_time(engine: Engine) -> None:
    books = full_books(engine)

    once, again = (written(books, "payouts", Format.XLSX) for _ in range(2))

    assert once == again
    assert f"{books.now:%Y-%m-%dT%H:%M:%S}" in properties_of(once)


def test_a_workbook_that_nobody_waits_for_leaves_nothing_behind(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = full_books(engine)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(render_xlsx, "ROWS_IN_A_TURN", 1)

    with read_session(engine) as session:
        asked = Asked(books.merchant_id, books.time_zone, books.now, {})
        blocks = stream(session, find("commissions"), Format.XLSX, asked)
        assert next(blocks) == b""
        assert list(tmp_path.iterdir())
        blocks.close()

    assert list(tmp_path.iterdir()) == []


def test_without_its_library_parquet_is_refused_with_its_name(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    books = full_books(engine)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert installed() == (Format.CSV, Format.XLSX)
    with pytest.raises(FormatNotInstalled, match=r"pyarrow.*\[parquet\]"):
        written(books, "payouts", Format.PARQUET)
