"""Reports: what there are, and each as CSV, as a workbook or as Parquet, streamed from the database."""

import contextlib
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse

from service.api.deps import Caller, Download, Reader, ReadSession
from service.api.views import Currency, Day, RunId, Text, View
from service.reports.define import Column, Filter, Filters, Format, Kind, Report
from service.reports.registry import REPORTS, find
from service.reports.stream import Asked, installed, stream

router = APIRouter(tags=["reports"])

MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}


class ReportColumnView(View):
    name: str
    kind: Kind
    description: str
    cells: list[str]
    """The header cells it fills: two for money, minor units and the decimal amount."""
    units: list[str]
    """In what each of these is counted."""

    @classmethod
    def of(cls, column: Column) -> Self:
        return cls(
            name=column.name,
            kind=column.kind,
            description=column.description,
            cells=list(column.cells),
            units=list(column.units),
        )


class ReportFileView(View):
    """A report in one format."""

    format: Format
    url: str


class ReportView(View):
    name: str
    title: str
    description: str
    filters: list[Filter]
    columns: list[ReportColumnView]
    csv_url: str
    files: list[ReportFileView]
    """In the formats that this service can write."""

    @classmethod
    def of(cls, report: Report) -> Self:
        return cls(
            name=report.name,
            title=report.title,
            description=report.description,
            filters=[each for each in Filter if each in report.filters],
            columns=[ReportColumnView.of(column) for column in report.columns],
            csv_url=_url(report, Format.CSV),
            files=[ReportFileView(format=form, url=_url(report, form)) for form in installed()],
        )


class ReportList(View):
    data: list[ReportView]


def _url(report: Report, form: Format) -> str:
    return f"/v1/reports/{report.name}.{form.value}"


def _ending(session: ReadSession, place: Download) -> Iterator[contextlib.ExitStack]:
    """What has to be closed before the session is, also when the reader has left in the middle."""
    del session, place
    with contextlib.ExitStack() as ending:
        yield ending


Ending = Annotated[contextlib.ExitStack, Depends(_ending)]


async def _filters(
    day_from: Annotated[Day | None, Query(alias="from", description="First day, in the merchant's time zone.")] = None,
    day_to: Annotated[Day | None, Query(alias="to", description="Last day, included.")] = None,
    currency: Annotated[Currency | None, Query(description="Only rows in this currency.")] = None,
    run_id: Annotated[RunId | None, Query(description="Only what this payout run paid.")] = None,
) -> Filters:
    asked = {Filter.FROM: day_from, Filter.TO: day_to, Filter.CURRENCY: currency, Filter.RUN_ID: run_id}
    return {each: value for each, value in asked.items() if value is not None}


Narrowed = Annotated[Filters, Depends(_filters)]
ReportName = Annotated[Text, Path(examples=["payouts"])]


@router.get("/v1/reports")
def list_reports(caller: Reader) -> ReportList:
    """List the reports with their columns, units and filters, and the formats they come in."""
    del caller
    return ReportList(data=[ReportView.of(report) for report in REPORTS.values()])


def _answers(form: Format, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {MEDIA_TYPES[form].partition(";")[0]: content}}}


@router.get(
    "/v1/reports/{name}.csv",
    response_class=StreamingResponse,
    responses=_answers(Format.CSV, {"schema": {"type": "string"}}),
)
def get_report_csv(
    name: ReportName, caller: Reader, session: ReadSession, ending: Ending, filters: Narrowed
) -> StreamingResponse:
    """Return a report as CSV in UTF-8: a header row, amounts in minor units and as decimals, ids as in the API.

    Text cells that a spreadsheet would run as a formula begin with a quote.
    """
    return _streamed(find(name), Format.CSV, caller, session, ending, filters)


@router.get("/v1/reports/{name}.xlsx", response_class=StreamingResponse, responses=_answers(Format.XLSX, _BYTES))
def get_report_xlsx(
    name: ReportName, caller: Reader, session: ReadSession, ending: Ending, filters: Narrowed
) -> StreamingResponse:
    """Return a report as a workbook: amounts and days are numbers and dates, text is never a formula.

    After 1,048,575 rows another sheet begins. Nothing is sent before the last row is written: let a report job make a long one.
    """
    return _streamed(find(name), Format.XLSX, caller, session, ending, filters)


@router.get("/v1/reports/{name}.parquet", response_class=StreamingResponse, responses=_answers(Format.PARQUET, _BYTES))
def get_report_parquet(
    name: ReportName, caller: Reader, session: ReadSession, ending: Ending, filters: Narrowed
) -> StreamingResponse:
    """Return a report as Parquet: minor units as 64-bit integers, amounts as decimals, each column with its unit and meaning.

    422 `report-format-not-installed` where the service runs without the library for it.
    """
    return _streamed(find(name), Format.PARQUET, caller, session, ending, filters)


def _streamed(
    report: Report,
    form: Format,
    caller: Caller,
    session: ReadSession,
    ending: contextlib.ExitStack,
    filters: Filters,
) -> StreamingResponse:
    asked = Asked(caller.merchant_id, caller.merchant.time_zone, caller.now, filters)
    blocks: Generator[bytes] = stream(session, report, form, asked)
    ending.callback(blocks.close)
    # An empty block would end the answer.
    told = filter(None, blocks)
    # The first block before the answer begins, so that what goes wrong with the query is still told as a problem.
    first = next(told)
    file_name = f"{report.name}-{caller.now:%Y-%m-%d}.{form.value}"
    return StreamingResponse(
        chain([first], told),
        media_type=MEDIA_TYPES[form],
        headers={"Content-Disposition": f'attachment; filename="{file_name}"', "Cache-Control": "no-store"},
    )
