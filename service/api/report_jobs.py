"""Reports written by a worker: asked for, watched, fetched; the file stays the same until it is forgotten."""

import base64
from collections.abc import Generator
from datetime import date
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy import Engine
from sqlmodel import Session, col, func, select
from starlette.requests import Request
from starlette.responses import Response

from service.api.deps import Caller, OwnUnits, Reader, ReadSession, WriteSession, lock_merchant
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.reports import MEDIA_TYPES, ReportName
from service.api.views import Body, Currency, Day, KeyId, Moment, ReportJobId, RunId, View
from service.domain.errors import Conflict, Missing
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session
from service.payouts.find import RunMissing
from service.reports import jobs
from service.reports.define import Filter, Filters, Format, filters_json, filters_of
from service.reports.registry import find
from service.reports.stream import check
from service.tables.payouts import PayoutRunRow
from service.tables.reports import ReportJobRow, ReportJobStatus

router = APIRouter(tags=["reports"])

OPEN_MAX = 5
"""Report jobs of a merchant that may be under way at once."""


class TooManyReportJobs(Conflict):
    """Only so many are under way at once."""

    code = "too-many-report-jobs"
    title = "Too many report jobs are under way"


class ReportUnfinished(Conflict):
    """A file is handed out once it is whole."""

    code = "report-unfinished"
    title = "The report is not written"


class ReportFiltersBody(Body):
    """What the report is narrowed by; which it takes, `GET /v1/reports` tells."""

    day_from: Annotated[Day | None, Field(alias="from")] = None
    """First day, in the merchant's time zone."""
    day_to: Annotated[Day | None, Field(alias="to")] = None
    """Last day, included."""
    currency: Currency | None = None
    """Only rows in this currency."""
    run_id: RunId | None = None
    """Only what this payout run paid."""

    def asked(self) -> Filters:
        """Those that are given."""
        given = {
            Filter.FROM: self.day_from,
            Filter.TO: self.day_to,
            Filter.CURRENCY: self.currency,
            Filter.RUN_ID: self.run_id,
        }
        return {name: value for name, value in given.items() if value is not None}


class ReportJobCreate(Body):
    name: ReportName
    """Which report: one of `GET /v1/reports`."""
    format: Format
    filters: ReportFiltersBody = ReportFiltersBody()


class ReportFiltersView(View):
    day_from: Annotated[date | None, Field(alias="from")]
    day_to: Annotated[date | None, Field(alias="to")]
    currency: str | None
    run_id: RunId | None


class ReportJobView(View):
    id: ReportJobId
    name: str
    format: Format
    filters: ReportFiltersView
    status: ReportJobStatus
    rows: int
    """Written so far; all of them once it is done."""
    size_bytes: int | None
    """Of the file; null until it is done."""
    sha256: str | None
    """Of the file, as hexadecimal digits; null until it is done."""
    snapshot_at: Moment | None
    """What was committed then is in the file, and nothing later; null until it is begun."""
    file_url: str | None
    """Where the file is; null until it is done."""
    error_code: str | None
    """Why it failed."""
    error_detail: str
    created_by: KeyId
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    expires_at: Moment | None
    """When the file is forgotten; null until the job has ended."""

    @classmethod
    def of(cls, row: ReportJobRow) -> Self:
        filters = filters_of(row.filters)
        is_done = row.status == ReportJobStatus.DONE
        return cls(
            id=row.id,
            name=row.report,
            format=Format(row.format),
            filters=ReportFiltersView.model_validate({name.value: filters.get(name) for name in Filter}),
            status=ReportJobStatus(row.status),
            rows=row.rows,
            size_bytes=row.size_bytes if is_done else None,
            sha256=row.sha256,
            snapshot_at=row.snapshot_at,
            file_url=f"/v1/report-jobs/{ids.encode('job', row.id)}/file" if is_done else None,
            error_code=row.error_code,
            error_detail=row.error_detail,
            created_by=row.created_by,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            expires_at=row.expires_at,
        )


@router.post("/v1/report-jobs", status_code=202)
def create_report_job(asked: ReportJobCreate, caller: Reader, session: WriteSession) -> ReportJobView:
    """Have a report written by a worker, all of it as of one moment: for those that are long.

    Answers at once; `GET /v1/report-jobs/{report_job_id}` says how far it is, and where the file is once it is done.
    """
    filters = asked.filters.asked()
    check(find(asked.name), asked.format, filters)
    run_id = filters.get(Filter.RUN_ID)
    if run_id is not None and session.get(PayoutRunRow, (caller.merchant_id, run_id)) is None:
        raise RunMissing("This merchant has no such payout run.")
    lock_merchant(session, caller)
    _check_room(session, caller)
    row = ReportJobRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        report=asked.name,
        format=asked.format,
        filters=filters_json(filters),
        status=ReportJobStatus.QUEUED,
        created_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    jobs.ask_worker(session, caller.merchant_id, row.id, at=utc_now())
    return ReportJobView.of(row)


@router.get("/v1/report-jobs")
def list_report_jobs(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    name: Annotated[ReportName | None, Query(description="Only of this report.")] = None,
    form: Annotated[Format | None, Query(alias="format", description="Only in this format.")] = None,
    status: Annotated[ReportJobStatus | None, Query(description="Only of this status.")] = None,
) -> Page[ReportJobView]:
    """List the merchant's report jobs, newest first. They are kept for 7 days after they ended."""
    found = select(ReportJobRow).where(col(ReportJobRow.merchant_id) == caller.merchant_id)
    if name is not None:
        found = found.where(col(ReportJobRow.report) == name)
    if form is not None:
        found = found.where(col(ReportJobRow.format) == form)
    if status is not None:
        found = found.where(col(ReportJobRow.status) == status)
    found = created.narrow(found, col(ReportJobRow.created_at))
    rows = session.exec(newest_first(found, paging, ReportJobRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=ReportJobView.of)


@router.get("/v1/report-jobs/{report_job_id}")
def get_report_job(report_job_id: ReportJobId, caller: Reader, session: ReadSession) -> ReportJobView:
    """Return how far a report job is."""
    return ReportJobView.of(_found(session, caller, report_job_id))


@router.get(
    "/v1/report-jobs/{report_job_id}/file",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "It is the file whose ETag was sent as `If-None-Match`."},
    },
)
def get_report_file(report_job_id: ReportJobId, caller: Reader, engine: OwnUnits, request: Request) -> Response:
    """Return the file of a report job that is done: the same bytes each time, with their length, digest and ETag.

    409 until it is done. The type is that of its format: text/csv, a workbook, or Parquet.
    """
    with read_session(engine) as session:
        row = _found(session, caller, report_job_id)
    if row.status != ReportJobStatus.DONE or row.sha256 is None:
        raise ReportUnfinished(f"It is {row.status}; ask again when it is done, or for another if it has failed.")
    tag = f'"{row.sha256}"'
    headers = {
        "ETag": tag,
        # RFC 9530; the digest is of the whole file.
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(row.sha256)).decode()}:",
        "Cache-Control": "private, no-transform",
    }
    if request.headers.get("If-None-Match") in {tag, f"W/{tag}", "*"}:
        return Response(status_code=304, headers=headers)
    file_name = f"{row.report}-{row.snapshot_at:%Y-%m-%d}.{row.format}"
    return StreamingResponse(
        _pieces(engine, row),
        media_type=MEDIA_TYPES[Format(row.format)],
        headers={
            **headers,
            "Content-Length": str(row.size_bytes),
            "Content-Disposition": f'attachment; filename="{file_name}"',
        },
    )


@router.delete("/v1/report-jobs/{report_job_id}", status_code=204)
def delete_report_job(report_job_id: ReportJobId, caller: Reader, session: WriteSession) -> None:
    """Stop a report job if it is under way, and forget it with its file."""
    row = session.get(ReportJobRow, (caller.merchant_id, report_job_id), with_for_update=True)
    if row is None:
        raise Missing(_NONE_SUCH)
    jobs.delete_all_of(session, caller.merchant_id, [report_job_id])
    session.delete(row)
    session.flush()


_NONE_SUCH = "This merchant has no such report job; they are forgotten 7 days after they ended."


def _found(session: Session, caller: Caller, report_job_id: UUID) -> ReportJobRow:
    row = session.get(ReportJobRow, (caller.merchant_id, report_job_id))
    if row is None or (row.expires_at is not None and row.expires_at <= caller.now):
        raise Missing(_NONE_SUCH)
    return row


def _pieces(engine: Engine, row: ReportJobRow) -> Generator[bytes]:
    """The file, piece by piece, each in a session of its own: whoever reads slowly holds nothing of the database."""
    number = size = 0
    while size < row.size_bytes:
        with read_session(engine) as session:
            found = fetch(
                session,
                """
                SELECT body FROM report_chunk
                WHERE merchant_id = :merchant_id AND report_job_id = :id AND number = :number
                """,
                {"merchant_id": row.merchant_id, "id": row.id, "number": number},
            )
        if not found:
            # Forgotten or deleted meanwhile: the reader sees that less came than was announced.
            raise Missing(_NONE_SUCH)
        number += 1
        size += len(found[0].body)
        yield bytes(found[0].body)


def _check_room(session: Session, caller: Caller) -> None:
    under_way = session.exec(
        select(func.count()).where(
            col(ReportJobRow.merchant_id) == caller.merchant_id,
            col(ReportJobRow.status).in_([ReportJobStatus.QUEUED, ReportJobStatus.RUNNING]),
        )
    ).one()
    if under_way >= OPEN_MAX:
        raise TooManyReportJobs(f"{under_way} are under way: wait for one to end, or delete one.")
