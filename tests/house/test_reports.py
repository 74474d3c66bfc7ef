"""Each report is defined well, and told as it is defined."""

import re

import pytest

from service.reports.define import CURRENCY, Format, Kind, Report
from service.reports.registry import REPORTS
from service.reports.render_csv import statement
from tests.support.house import ROOT
from tests.support.reports_page import PAGE, tables, written


def test_the_page_about_reports_has_the_columns_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert tables() in page, "write it anew: .venv/bin/python -m tests.support.reports_page"
    assert written(page) == page


def test_every_file_that_defines_reports_is_in_the_registry() -> None:
    defined = {
        name
        for path in (ROOT / "service" / "reports").glob("define_*.py")
        for name in re.findall(r'^ {4}name="([a-z-]+)",$', path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert defined == set(REPORTS)


@pytest.mark.parametrize("report", REPORTS.values(), ids=lambda report: report.name)
def test_a_definition_agrees_with_itself(report: Report) -> None:
    cells = [cell for column in report.columns for cell in column.cells]
    columns = {column.name: column for column in report.columns}
    sources = {column.source for column in report.columns}

    assert len(cells) == len(set(cells))
    assert re.fullmatch(r"[a-z][a-z-]{0,25}", report.name)
    assert all(column.description.endswith(".") for column in report.columns)
    assert report.description.endswith(".")
    # Rows may come in an order that has no column, such as that of bookings.
    assert all(name.strip() in sources or name.strip() in report.query for name in report.order.split(","))
    # Amounts are nothing without their currency, and an id is nothing without its kind.
    assert CURRENCY.name in columns or not any(column.kind is Kind.MONEY for column in report.columns)
    assert all((column.kind is Kind.ID) == bool(column.prefix) for column in report.columns)
    for name in re.findall(r"%\((\w+)\)s", report.query):
        assert name in {"merchant_id", "time_zone"} | {each.value for each in report.filters}, name
    for each in report.filters:
        assert f"%({each.value})s" in report.query


def test_a_report_stands_once_in_the_statement_of_every_format() -> None:
    for report in REPORTS.values():
        assert statement(report).as_string().count('ORDER BY "report"') == 1


def test_every_format_is_told() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert all(f"`.{form.value}`" in page for form in Format)
