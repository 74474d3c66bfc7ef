"""Files of payouts: built by the worker, handed over by people, answered by banks line by line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi import Body as RawBody
from fastapi.responses import Response
from sqlmodel import Session, col, select

from service.api import trail
from service.api.deps import Caller, FinanceChecker, FinanceMaker, Reader, ReadSession, Services, WriteSession
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.views import AffiliateId, Day, KeyId, Moment, MoneyView, PayoutFileId, PayoutId, RunId, View
from service.domain.payout import Outcome
from service.domain.payout_file import FileState, Said
from service.domain.rails import RailName
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch
from service.payouts.file_lines import FileMissing
from service.payouts.files import void
from service.payouts.hand_over import hand_over
from service.payouts.results import Imported, LineResult, import_results
from service.payouts.tell import day_of
from service.tables.parties import MerchantRow
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutRunRow

router = APIRouter(tags=["payout files"])

_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "text/csv": _BYTES,
            "application/xml": _BYTES,
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _BYTES,
        },
    }
}


class LineCountsView(View):
    """What became of a file's lines."""

    open: int
    """Of which nobody can say whether they were paid."""
    refused: int
    """That were rejected, or provably not sent: their money is here again."""
    accepted: int
    """That were booked."""
    returned: int
    """Of the accepted ones: from which money came back."""


class PayoutFileView(View):
    """A file of payouts of one run."""

    id: PayoutFileId
    run_id: RunId
    number: int
    """Of the run's files, from 1."""
    rail: str
    status: FileState
    message_id: str
    """What the bank knows it by."""
    template_version: int
    """Of your own column map; 0 for the one that the rail comes with."""
    payer_version: int | None
    """Of the account it is paid from, where the file names one."""
    control_sum: MoneyView
    lines: int
    line_counts: LineCountsView
    file_name: str
    media_type: str
    sha256: str
    """Of its bytes, in hexadecimal digits."""
    built_at: Moment
    pays_on: Day
    """The day it is for, by the merchant's calendar: its payments are dated by it, and it is handed over on no later day."""
    handed_over_at: Moment | None
    """Since when all in it may be paid."""
    handed_over_by: KeyId | None
    downloads: int
    """How often its bytes were given out; each time is in the audit trail."""
    voided_at: Moment | None

    @classmethod
    def of(cls, row: PayoutFileRow, counts: LineCountsView, *, pays_on: date) -> Self:
        return cls(
            id=row.id,
            run_id=row.run_id,
            number=row.number,
            rail=row.rail,
            status=FileState(row.state),
            message_id=row.message_id,
            template_version=row.template_version,
            payer_version=row.payer_version,
            control_sum=MoneyView(amount_minor=row.control_sum_minor, currency=row.currency),
            lines=row.lines,
            line_counts=counts,
            file_name=row.file_name,
            media_type=row.media_type,
            sha256=row.sha256,
            built_at=row.built_at,
            pays_on=pays_on,
            handed_over_at=row.handed_over_at,
            handed_over_by=row.handed_over_by,
            downloads=row.downloads,
            voided_at=row.voided_at,
        )


class SaidView(View):
    """What a bank said of a line."""

    said: Said
    amount: MoneyView
    reason: str
    booked_on: date | None
    told_at: Moment


class PayoutFileLineView(View):
    """One payment of a file. Its account is not shown."""

    line: int
    payout_id: PayoutId
    affiliate_id: AffiliateId
    attempt: int
    end_to_end_id: str
    """What the bank knows it by."""
    amount: MoneyView
    outcome: Outcome
    """Of the attempt; `unknown` from the hand-over on, until the bank or two persons say more."""
    code: str
    said: list[SaidView]


class ResultLineView(View):
    """One line of a result, and what became of it."""

    end_to_end_id: str
    said: Said
    result: LineResult
    payout_id: PayoutId | None


class ResultCountView(View):
    result: LineResult
    lines: int


class ResultImportView(View):
    """What a bank's answer came to."""

    payout_file: PayoutFileView
    format: str
    """pain.002, camt.052, camt.053, camt.054, csv, or sheet where it was read by the rail's column map."""
    was_known: bool
    """Whether the same bytes were sent before."""
    stop_code: str | None
    """Set where the run stops until people have looked."""
    counts: list[ResultCountView]
    lines: list[ResultLineView]

    @classmethod
    def of(cls, imported: Imported, file: PayoutFileView) -> Self:
        counted = Counter(line.result for line in imported.lines)
        return cls(
            payout_file=file,
            format=imported.format,
            was_known=imported.was_known,
            stop_code=imported.stop_code,
            counts=[ResultCountView(result=result, lines=counted[result]) for result in LineResult],
            lines=[
                ResultLineView(
                    end_to_end_id=line.end_to_end_id,
                    said=line.told.said,
                    result=line.result,
                    payout_id=line.item_id,
                )
                for line in imported.lines
            ],
        )


@router.get("/v1/payout-files")
def list_payout_files(
    caller: Reader,
    session: ReadSession,
    asked: Paging,
    created: Created,
    run_id: Annotated[RunId | None, Query(description="Only files of this run.")] = None,
    status: Annotated[FileState | None, Query(description="Only files of this status.")] = None,
    rail: Annotated[RailName | None, Query(description="Only files of this rail.")] = None,
) -> Page[PayoutFileView]:
    """List files of payouts, newest first."""
    chosen = select(PayoutFileRow).where(col(PayoutFileRow.merchant_id) == caller.merchant_id)
    if run_id is not None:
        chosen = chosen.where(col(PayoutFileRow.run_id) == run_id)
    if status is not None:
        chosen = chosen.where(col(PayoutFileRow.state) == status)
    if rail is not None:
        chosen = chosen.where(col(PayoutFileRow.rail) == rail)
    chosen = created.narrow(chosen, col(PayoutFileRow.built_at))
    rows = session.exec(newest_first(chosen, asked, col(PayoutFileRow.id))).all()
    views = _views(session, caller.merchant_id, rows)
    return page(rows, asked, key=lambda row: (row.id,), view=lambda row: views[row.id])


@router.get("/v1/payout-files/{payout_file_id}")
def get_payout_file(payout_file_id: PayoutFileId, caller: Reader, session: ReadSession) -> PayoutFileView:
    """Return a file of payouts and what became of its lines. Its bytes are given out by hand-over alone."""
    return _view(session, caller, payout_file_id)


@router.get("/v1/payout-files/{payout_file_id}/lines")
def list_payout_file_lines(
    payout_file_id: PayoutFileId, caller: Reader, session: ReadSession, asked: Paging
) -> Page[PayoutFileLineView]:
    """List the payments of a file in their order, each with what the bank said of it."""
    file = _found(session, caller, payout_file_id)
    rows = fetch(
        session,
        """
        SELECT line.line, line.item_id, item.payee_id, attempt.number, line.end_to_end_id, line.amount_minor,
               attempt.outcome, attempt.code
        FROM payout_file_line AS line
        JOIN payout_item AS item ON item.merchant_id = line.merchant_id AND item.id = line.item_id
        JOIN payout_attempt AS attempt ON attempt.merchant_id = line.merchant_id AND attempt.id = line.attempt_id
        WHERE line.merchant_id = :merchant_id AND line.file_id = :file_id AND line.line > :after
        ORDER BY line.line
        LIMIT :limit
        """,
        {
            "merchant_id": caller.merchant_id,
            "file_id": payout_file_id,
            "after": asked.after_number() or 0,
            "limit": asked.limit + 1,
        },
    )
    said = _said(session, file, [row.line for row in rows])
    return page(
        rows,
        asked,
        key=lambda row: (str(row.line),),
        view=lambda row: PayoutFileLineView(
            line=row.line,
            payout_id=row.item_id,
            affiliate_id=row.payee_id,
            attempt=row.number,
            end_to_end_id=row.end_to_end_id,
            amount=MoneyView(amount_minor=row.amount_minor, currency=file.currency),
            outcome=Outcome(row.outcome),
            code=row.code,
            said=said.get(row.line, []),
        ),
    )


@router.post("/v1/payout-files/{payout_file_id}/hand-over", response_class=Response, responses=_FILE)
def hand_over_payout_file(
    payout_file_id: PayoutFileId, caller: FinanceChecker, session: WriteSession, service: Services
) -> Response:
    """Return the file's bytes, the same each time. The first time everything in it counts as handed to the bank.

    From then on its payouts are `unknown`: they enter no other file or rail until the bank, or two persons, say what became
    of them. Each download is in the audit trail. The first time is on the day the file is for, `pays_on`; later it is
    refused, and withdrawing the file has another built.
    """
    handed = hand_over(
        session,
        service.security,
        merchant_id=caller.merchant_id,
        file_id=payout_file_id,
        by=caller.key_id,
        when=merchant_time_of(caller),
        now=utc_now(),
    )
    return Response(
        handed.content,
        media_type=handed.file.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{handed.file.file_name}"',
            "Cache-Control": "no-store",
        },
    )


@router.post("/v1/payout-files/{payout_file_id}/void", status_code=202)
def void_payout_file(payout_file_id: PayoutFileId, caller: FinanceMaker, session: WriteSession) -> PayoutFileView:
    """Withdraw a file that nobody has had, and have another built of those of its payouts that may be paid now.

    Each is checked again like the first time, and counts in the limits of today. A file that was handed over is never
    withdrawn.
    """
    void(
        session,
        merchant_id=caller.merchant_id,
        file_id=payout_file_id,
        by=caller.key_id,
        when=merchant_time_of(caller),
        now=utc_now(),
    )
    _note(session, caller, payout_file_id, {"state": FileState.VOID.value})
    return _view(session, caller, payout_file_id)


@router.post("/v1/payout-files/{payout_file_id}/results")
def import_payout_results(
    payout_file_id: PayoutFileId,
    content: Annotated[
        bytes,
        RawBody(
            media_type="text/csv",
            description=(
                "What the bank answered, byte for byte: XML (pain.002, camt.052, camt.053, camt.054), a CSV with the "
                "columns end_to_end_id, status, amount, currency, reason and booked_on, or the sheet that the rail's "
                "column map reads."
            ),
        ),
    ],
    caller: FinanceMaker,
    session: WriteSession,
    service: Services,
) -> ResultImportView:
    """Take in what the bank answered to a file, line by line; in any order, and as often as it comes.

    A rejected line is refused and its money reserved again, a booked one is sent, money that came back is carried. Where
    amount, currency or account are not what was asked for nothing is booked and the run stops; so it does where the bank
    rejects what it calls a duplicate, for that says nothing of the payment it is a duplicate of.
    """
    imported = import_results(
        session,
        service.security,
        merchant_id=caller.merchant_id,
        file_id=payout_file_id,
        content=content,
        by=caller.key_id,
        when=merchant_time_of(caller),
        now=utc_now(),
    )
    counted = Counter(line.result.value for line in imported.lines)
    _note(
        session,
        caller,
        payout_file_id,
        {"result_format": imported.format, "result_lines": dict(sorted(counted.items()))},
    )
    return ResultImportView.of(imported, _view(session, caller, payout_file_id))


def files_of(session: Session, run: PayoutRunRow, *, limit: int) -> list[PayoutFileView]:
    """Return the first files of a run."""
    rows = session.exec(
        select(PayoutFileRow)
        .where(col(PayoutFileRow.merchant_id) == run.merchant_id, col(PayoutFileRow.run_id) == run.id)
        .order_by(col(PayoutFileRow.number))
        .limit(limit)
        .execution_options(populate_existing=True)
    ).all()
    return list(_views(session, run.merchant_id, rows).values())


def _note(session: Session, caller: Caller, payout_file_id: UUID, after: Mapping[str, Any]) -> None:
    """Note in the audit trail what statements did with a file."""
    trail.note(
        session,
        merchant_id=caller.merchant_id,
        kind="payout_file",
        subject=ids.encode("pfl", payout_file_id),
        before={},
        after=after,
    )


def _found(session: Session, caller: Caller, payout_file_id: UUID) -> PayoutFileRow:
    row = session.get(PayoutFileRow, (caller.merchant_id, payout_file_id), populate_existing=True)
    if row is None:
        raise FileMissing(f"No file of payouts {ids.encode('pfl', payout_file_id)} here.")
    return row


def _view(session: Session, caller: Caller, payout_file_id: UUID) -> PayoutFileView:
    row = _found(session, caller, payout_file_id)
    return _views(session, caller.merchant_id, [row])[row.id]


def _views(session: Session, merchant_id: UUID, rows: Sequence[PayoutFileRow]) -> Mapping[UUID, PayoutFileView]:
    """Maps id to view, in the order of the rows."""
    counts = _counts(session, merchant_id, rows)
    time_zone = session.get_one(MerchantRow, merchant_id).time_zone
    return {row.id: PayoutFileView.of(row, counts[row.id], pays_on=day_of(row, time_zone)) for row in rows}


def _counts(session: Session, merchant_id: UUID, files: Sequence[PayoutFileRow]) -> Mapping[UUID, LineCountsView]:
    rows = fetch(
        session,
        """
        SELECT line.file_id,
               count(*) FILTER (WHERE attempt.outcome IN ('planned', 'unknown')) AS open,
               count(*) FILTER (WHERE attempt.outcome IN ('refused', 'absent')) AS refused,
               count(*) FILTER (WHERE attempt.outcome = 'accepted') AS accepted,
               count(*) FILTER (WHERE EXISTS (
                   SELECT FROM provider_fact AS fact
                   WHERE fact.merchant_id = line.merchant_id AND fact.item_id = line.item_id AND fact.kind = 'returned'
                     AND fact.object_id = line.end_to_end_id)) AS returned
        FROM payout_file_line AS line
        JOIN payout_attempt AS attempt ON attempt.merchant_id = line.merchant_id AND attempt.id = line.attempt_id
        WHERE line.merchant_id = :merchant_id AND line.file_id = ANY(CAST(:file_ids AS uuid[]))
        GROUP BY line.file_id
        """,
        {"merchant_id": merchant_id, "file_ids": [file.id for file in files]},
    )
    return {
        row.file_id: LineCountsView(open=row.open, refused=row.refused, accepted=row.accepted, returned=row.returned)
        for row in rows
    }


def _said(session: Session, file: PayoutFileRow, lines: Sequence[int]) -> Mapping[int, list[SaidView]]:
    rows = fetch(
        session,
        """
        SELECT line, said, amount_minor, reason, booked_on, told_at FROM payout_line_fact
        WHERE merchant_id = :merchant_id AND file_id = :file_id AND line = ANY(CAST(:lines AS integer[]))
        ORDER BY line, told_at, said, amount_minor
        """,
        {"merchant_id": file.merchant_id, "file_id": file.id, "lines": list(lines)},
    )
    found: dict[int, list[SaidView]] = {}
    for row in rows:
        found.setdefault(row.line, []).append(
            SaidView(
                said=Said(row.said),
                amount=MoneyView(amount_minor=row.amount_minor, currency=file.currency),
                reason=row.reason,
                booked_on=row.booked_on,
                told_at=row.told_at,
            )
        )
    return found
