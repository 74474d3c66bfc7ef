"""`python -m bench.reports_child URL WAY FORMAT MERCHANT`: write one report, and print rows, bytes and seconds."""

import csv
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import col, select

from service.domain.money import text_of
from service.infra.db import execute, fetch, let_statements_take, make_engine, read_session, unit_of_work
from service.infra.ids import encode, new_id
from service.reports import jobs
from service.reports.counted import Counted
from service.reports.define import Format
from service.reports.registry import find
from service.reports.stream import Asked, stream
from service.tables.money import CommissionRow
from service.tables.orders import OrderRow
from service.tables.parties import AffiliateRow
from service.tables.reports import ReportJobRow

TIMEOUT_MS = 60 * 60 * 1000


def main() -> int:
    url, way, form, merchant = sys.argv[1:]
    engine = make_engine(url, pool_size=4, application_name="koc bench")
    ways: dict[str, Callable[[Engine, UUID, Format], tuple[int, int]]] = {"stream": _stream, "job": _job, "orm": _orm}
    began = time.monotonic()
    rows, size_bytes = ways[way](engine, UUID(merchant), Format(form))
    print(rows, size_bytes, time.monotonic() - began)
    engine.dispose()
    return 0


def _stream(engine: Engine, merchant_id: UUID, form: Format) -> tuple[int, int]:
    """As `GET /v1/reports/commissions.…` sends it."""
    counted, size_bytes = Counted(), 0
    with read_session(engine) as session:
        asked = Asked(merchant_id, "Asia/Ho_Chi_Minh", datetime.now(UTC), {})
        for block in stream(session, find("commissions"), form, asked, counted, timeout_ms=TIMEOUT_MS):
            size_bytes += len(block)
    return counted.rows, size_bytes


def _job(engine: Engine, merchant_id: UUID, form: Format) -> tuple[int, int]:
    """As a worker writes it; then the pieces are gone again, which does not count."""
    row = ReportJobRow(
        merchant_id=merchant_id,
        id=new_id(),
        report="commissions",
        format=form,
        filters={},
        status="queued",
        created_by=new_id(),
        created_at=datetime.now(UTC),
    )
    with unit_of_work(engine) as session:
        session.add(row)
    jobs.make(engine, merchant_id, row.id, lambda _session: True)
    with read_session(engine) as session:
        [done] = fetch(
            session,
            """
            SELECT rows, size_bytes,
                   (SELECT sum(length(body)) FROM report_chunk
                    WHERE merchant_id = :merchant_id AND report_job_id = :id) AS stored
            FROM report_job WHERE merchant_id = :merchant_id AND id = :id AND status = 'done'
            """,
            {"merchant_id": merchant_id, "id": row.id},
        )
    assert done.stored == done.size_bytes
    return done.rows, done.size_bytes


def _orm(engine: Engine, merchant_id: UUID, _form: Format) -> tuple[int, int]:
    """The baseline: all rows as objects of the ORM with their order and affiliate, written by Python's csv.

    It is spared most of the report: no places in payouts, no period, no assessment.
    """

    class Sink:
        size_bytes = 0

        def write(self, text: str) -> None:
            self.size_bytes += len(text.encode())

    sink, rows = Sink(), 0
    out = csv.writer(sink)
    with read_session(engine) as session:
        let_statements_take(session, TIMEOUT_MS)
        # A million objects are written for longer than the service lets a session say nothing.
        execute(session, "SET LOCAL idle_in_transaction_session_timeout = 0")
        found = session.exec(
            select(CommissionRow, OrderRow, AffiliateRow)
            .join(
                OrderRow,
                (col(OrderRow.merchant_id) == col(CommissionRow.merchant_id))
                & (col(OrderRow.id) == col(CommissionRow.order_id)),
            )
            .join(
                AffiliateRow,
                (col(AffiliateRow.merchant_id) == col(CommissionRow.merchant_id))
                & (col(AffiliateRow.id) == col(CommissionRow.payee_id)),
            )
            .where(col(CommissionRow.merchant_id) == merchant_id)
            .order_by(col(CommissionRow.placed_at), col(CommissionRow.id))
        ).all()
        for commission, order, affiliate in found:
            out.writerow(
                (
                    encode("com", commission.id),
                    encode("ord", order.id),
                    order.external_id,
                    commission.placed_at,
                    encode("aff", affiliate.id),
                    affiliate.name,
                    commission.currency,
                    commission.target_minor,
                    text_of(commission.target_minor, commission.currency),
                    commission.pending_minor,
                    commission.held_minor,
                    commission.settled_minor,
                )
            )
            rows += 1
    return rows, sink.size_bytes


if __name__ == "__main__":
    sys.exit(main())
