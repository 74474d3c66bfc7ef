"""Pass a report from the database on as it comes, in blocks: memory stays flat however long it is."""

from collections.abc import Generator
from datetime import date
from typing import cast
from uuid import UUID

import psycopg
from sqlmodel import Session

from service.domain.errors import Invalid
from service.infra.db import let_statements_take
from service.reports.define import Filter, Report
from service.reports.render_csv import copy_statement

BLOCK_BYTES = 64 * 1024

REPORT_TIMEOUT_MS = 15 * 60 * 1000
"""Longest a report may take, however slowly it is read."""


class FilterUnknown(Invalid):
    code = "report-filter"
    title = "The report cannot be narrowed like this"


def stream_csv(
    session: Session,
    report: Report,
    *,
    merchant_id: UUID,
    time_zone: str,
    filters: dict[Filter, date | str | UUID],
) -> Generator[bytes]:
    """Yields a report as CSV in UTF-8 with a header row, in blocks of about 64 KiB. Raises FilterUnknown.

    filters: those asked for. from and to are days in the merchant's time zone, both included. Close the generator
    before the session when it is left before its end.
    """
    unknown = sorted(set(filters) - report.filters)
    if unknown:
        raise FilterUnknown(f"The report {report.name} does not know {', '.join(unknown)}.")
    parameters: dict[str, object] = {name.value: filters.get(name) for name in Filter}
    parameters |= {"merchant_id": merchant_id, "time_zone": time_zone}
    return _blocks(session, report, parameters)


def _blocks(session: Session, report: Report, parameters: dict[str, object]) -> Generator[bytes]:
    let_statements_take(session, REPORT_TIMEOUT_MS)
    connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
    block = bytearray()
    # COPY takes no parameters of the server's own; the driver writes them into the statement as literals.
    with connection.cursor() as cursor, cursor.copy(copy_statement(report), parameters) as copy:
        for row in copy:
            block += row
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)
