"""Write a report as it comes from the database: memory stays flat however long it is, whatever it is written as."""

import contextlib
import importlib.util
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import psycopg
from psycopg import sql
from sqlmodel import Session

from service.domain.errors import Invalid
from service.infra.db import execute, let_statements_take
from service.reports import render_csv, render_xlsx
from service.reports.counted import Counted
from service.reports.define import Filter, Filters, Format, Report

REPORT_TIMEOUT_MS = 15 * 60 * 1000
"""Longest a report may take, however slowly it is read."""


class FormatNotInstalled(Invalid):
    code = "report-format-not-installed"
    title = "This service cannot write reports like this"


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose report, narrowed by what. at: now by the merchant's clock; told where a format has a place for it."""

    merchant_id: UUID
    time_zone: str
    at: datetime
    filters: Filters


def installed() -> tuple[Format, ...]:
    """The formats that this process can write."""
    return tuple(form for form in Format if form is not Format.PARQUET or _knows_parquet())


def check(report: Report, form: Format, filters: Filters) -> None:
    """Raise FilterUnknown, or FormatNotInstalled where the library for a format is not there."""
    report.check(filters)
    if form not in installed():
        raise FormatNotInstalled(
            f"Writing {form.value} needs pyarrow: install koc-commission-service[parquet] where servers and workers run."
        )


def stream(
    session: Session,
    report: Report,
    form: Format,
    asked: Asked,
    counted: Counted | None = None,
    *,
    timeout_ms: int = REPORT_TIMEOUT_MS,
) -> Generator[bytes]:
    """Yields a report in blocks, of which some may be empty: then nothing is ready yet. Raises as `check` does.

    counted: is told how far it is. Close the generator before the session when it is left before its end.
    """
    check(report, form, asked.filters)
    return _blocks(session, report, form, asked, counted or Counted(), timeout_ms)


def _blocks(
    session: Session, report: Report, form: Format, asked: Asked, counted: Counted, timeout_ms: int
) -> Generator[bytes]:
    let_statements_take(session, timeout_ms)
    # A workbook is put together after its last row, and whoever reads it may take its time.
    execute(session, f"SET LOCAL idle_in_transaction_session_timeout = {timeout_ms}")
    # Compiling hundreds of small expressions would take longer than most reports.
    execute(session, "SET LOCAL jit = off")
    match form:
        case Format.CSV:
            with _copy(session, render_csv.statement(report), asked) as copy:
                yield from render_csv.blocks(copy, counted)
        case Format.XLSX:
            with _copy(session, render_xlsx.statement(report), asked) as copy:
                yield from render_xlsx.blocks(copy, report, counted, at=asked.at)
        case Format.PARQUET:
            from service.reports import render_parquet  # noqa: PLC0415 # its library is an extra that may be missing

            with _copy(session, render_parquet.statement(report), asked) as copy:
                yield from render_parquet.blocks(copy, report, counted)


def _knows_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


@contextlib.contextmanager
def _copy(session: Session, statement: sql.Composed, asked: Asked) -> Iterator[psycopg.Copy]:
    connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
    parameters: dict[str, object] = {name.value: asked.filters.get(name) for name in Filter}
    parameters |= {"merchant_id": asked.merchant_id, "time_zone": asked.time_zone}
    # COPY takes no parameters of the server's own; the driver writes them into the statement as literals.
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        yield copy
