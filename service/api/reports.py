"""Reports: what there are, and each as CSV streamed from the database."""

import contextlib
from collections.abc import Generator, Iterator
from datetime import date
from itertools import chain
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse

from service.api.deps import Reader, ReadSession
from service.api.views import Currency, Day, RunId, Text, View
from service.reports.define import Column, Filter, Kind, Report
from service.reports.registry import REPORTS, find
from service.reports.stream import stream_csv

router = APIRouter(tags=["reports"])


class ReportColumnView(View):
    name: str
    kind: Kind
    description: str
    cells: list[str]
    """The header cells it fills: two for money, minor units and the decimal amount."""

    @classmethod
    def of(cls, column: Column) -> Self:
        return cls(name=column.name, kind=column.kind, description=column.description, cells=list(column.cells))


class ReportView(View):
    name: str
    title: str
    description: str
    filters: list[Filter]
    columns: list[ReportColumnView]
    csv_url: str

    @classmethod
    def of(cls, report: Report) -> Self:
        return cls(
            name=report.name,
            title=report.title,
            description=report.description,
            filters=[each for each in Filter if each in report.filters],
            columns=[ReportColumnView.of(column) for column in report.columns],
            csv_url=f"/v1/reports/{report.name}.csv",
        )


class ReportList(View):
    data: list[ReportView]


def _ending(session: ReadSession) -> Iterator[contextlib.ExitStack]:
    """What has to be closed before the session is, also when the reader has left in the middle."""
    del session
    with contextlib.ExitStack() as ending:
        yield ending


Ending = Annotated[contextlib.ExitStack, Depends(_ending)]


@router.get("/v1/reports")
def list_reports(caller: Reader) -> ReportList:
    """List the reports with their columns, units and filters."""
    del caller
    return ReportList(data=[ReportView.of(report) for report in REPORTS.values()])


@router.get(
    "/v1/reports/{name}.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_report_csv(
    *,
    name: Annotated[Text, Path(examples=["payouts"])],
    caller: Reader,
    session: ReadSession,
    ending: Ending,
    day_from: Annotated[Day | None, Query(alias="from", description="First day, in the merchant's time zone.")] = None,
    day_to: Annotated[Day | None, Query(alias="to", description="Last day, included.")] = None,
    currency: Annotated[Currency | None, Query(description="Only rows in this currency.")] = None,
    run_id: Annotated[RunId | None, Query(description="Only what this payout run paid.")] = None,
) -> StreamingResponse:
    """Return a report as CSV in UTF-8: a header row, amounts in minor units and as decimals, ids as in the API.

    Text cells that a spreadsheet would run as a formula begin with a quote.
    """
    report = find(name)
    asked: dict[Filter, date | str | UUID | None] = {
        Filter.FROM: day_from,
        Filter.TO: day_to,
        Filter.CURRENCY: currency,
        Filter.RUN_ID: run_id,
    }
    blocks: Generator[bytes] = stream_csv(
        session,
        report,
        merchant_id=caller.merchant_id,
        time_zone=caller.merchant.time_zone,
        filters={each: value for each, value in asked.items() if value is not None},
    )
    ending.callback(blocks.close)
    # The first block before the answer begins, so that what goes wrong with the query is still told as a problem.
    first = next(blocks)
    file_name = f"{report.name}-{caller.now:%Y-%m-%d}.csv"
    return StreamingResponse(
        chain([first], blocks),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="{file_name}"', "Cache-Control": "no-store"},
    )
