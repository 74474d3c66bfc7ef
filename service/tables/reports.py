"""Reports that a worker writes: what was asked for, how far it is, and the file in pieces. No money hangs on any of it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import SQLModel

from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    count,
    document,
    key,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class ReportJobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ReportJobRow(SQLModel, table=True):
    """One report to be written in one format. Times are the merchant's."""

    __tablename__ = "report_job"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]), one_of("status", ReportJobStatus))

    merchant_id: UUID = key()
    id: UUID = key()
    report: str = words()
    format: str = words()
    filters: Json = document()
    """As reports.define.filters_json writes them."""
    status: str = words()
    attempt: int = count()
    """One more each time it is begun: whoever began it before may add nothing any more."""
    rows: int = count()
    """Written so far; all of them once it is done."""
    size_bytes: int = count()
    """Stored so far."""
    sha256: str | None = words_or_none()
    """Of the whole file, once it is done."""
    snapshot_at: datetime | None = moment_or_none()
    """What was committed then is in it, and nothing later."""
    error_code: str | None = words_or_none()
    error_detail: str = words()
    created_by: UUID = ref()
    created_at: datetime = moment()
    started_at: datetime | None = moment_or_none()
    finished_at: datetime | None = moment_or_none()
    expires_at: datetime | None = moment_or_none()
    """When the file is forgotten; null until it has ended."""


class ReportChunkRow(SQLModel, table=True):
    """A piece of a report's file."""

    __tablename__ = "report_chunk"
    __table_args__ = (belongs_to("report_job", "report_job_id"),)

    merchant_id: UUID = key()
    report_job_id: UUID = key()
    number: int = count(primary_key=True)
    """From 0 without gaps; the file is its pieces one behind the other."""
    body: bytes = blob()
