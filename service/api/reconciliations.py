"""Reconciliations: a merchant's orders and a bank's lines laid beside our books, and what differs."""

from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from fastapi import Body as RawBody
from pydantic import Strict
from sqlalchemy import Row
from sqlmodel import Session, col, func, select

from service.api.deps import Caller, FinanceMaker, Reader, ReadSession, WriteSession, lock_merchant
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import (
    WRITTEN_FLAG,
    WRITTEN_INTEGER,
    Body,
    Currency,
    Day,
    DifferenceId,
    KeyId,
    Moment,
    MoneyView,
    OrderId,
    PayoutId,
    ReconciliationId,
    SourceId,
    Text,
    View,
)
from service.commissions import reconciliations
from service.domain.errors import Conflict, Invalid, Missing, TooLarge
from service.domain.rails import RailName
from service.domain.reconciliation import About, DifferenceKind, Explanation
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch
from service.intake.bank_lines import BankFormat
from service.intake.reconcile_file import add_part, check_mapping
from service.intake.try_file import FILE_BYTES_MAX, PARTS_MAX, check_last
from service.tables.parties import SourceRow
from service.tables.reconciliations import (
    FileKind,
    ReconciliationDifferenceRow,
    ReconciliationPartRow,
    ReconciliationRow,
    ReconciliationStage,
    ReconciliationState,
)

router = APIRouter(tags=["reconciliations"])

DAYS_MAX = 400
OPEN_MAX = 5
"""Reconciliations of a merchant that may be under way at once."""


class TooManyReconciliations(Conflict):
    """Only so many are under way at once."""

    code = "too-many-reconciliations"
    title = "Too many reconciliations are under way"


class ReconciliationMissing(Missing):
    code = "unknown-reconciliation"
    title = "There is no such reconciliation"


class DifferenceMissing(Missing):
    code = "unknown-difference"
    title = "There is no such difference"


class FileNotAwaited(Conflict):
    """The reconciliation has this file already, or was made without one."""

    code = "reconciliation-awaits-no-file"
    title = "The reconciliation awaits no such file"


class ReconciliationFileTooLarge(TooLarge):
    """The parts of one file together are longer than we take here."""

    code = "reconciliation-file-too-large"
    title = "The file is larger than a reconciliation takes"


class ReconciliationKept(Conflict):
    """What a reconciliation found stays on record."""

    code = "reconciliation-kept"
    title = "A reconciliation that is done is kept"


class ReconciliationOrdersFile(Body):
    """That a file of orders follows."""

    source_id: SourceId
    """Whose orders they are: the source that they came by."""
    mapping: dict[str, Any]
    """Which column is which field: a mapping of `koc import` as JSON, see docs/imports.md. It needs a table `order`."""


class ReconciliationBankFile(Body):
    """That a file of a bank's or provider's lines follows."""

    format: BankFormat
    only_payouts: Annotated[bool, Strict()] = True
    """Every line should be a payout of ours. False: the account pays other things too, and lines that name no payout
    are left out."""
    rail: RailName | None = None
    """The rail that the file is of: payouts of others need no line in it. Null: the file has those of all rails."""
    currency: Currency | None = None
    """The currency of the account: payouts in others need no line in the file. Null: the file has those of all currencies."""


class ReconciliationCreate(Body):
    begins_on: Day
    until: Day
    """The last day, included. Days are the merchant's: orders by when they were placed, payouts by when they were booked."""
    orders: ReconciliationOrdersFile | None = None
    bank: ReconciliationBankFile | None = None
    """One of the two at least."""


class ReconciliationProgressView(View):
    stage: ReconciliationStage
    read: int
    """Orders and lines read from files so far."""
    compared: int
    """Orders and payouts compared so far."""
    left_out: int
    """Lines that name no payout, where the account pays other things too."""
    rows_refused: int
    """Rows that could not be read; they are on no side."""


class ReconciliationRefusalView(View):
    file: FileKind
    row: int
    """The first row, as a spreadsheet counts: the header is 1. Of a statement: which of its payments."""
    rows: int
    reason_code: str
    detail: str


class ReconciliationCountView(View):
    about: About
    kind: DifferenceKind
    differences: int
    unexplained: int
    """Those of them that neither we nor a person has explained."""


class ReconciliationView(View):
    id: ReconciliationId
    begins_on: date
    until: date
    source_id: SourceId | None
    bank_format: BankFormat | None
    only_payouts: bool
    rail: str | None
    """Payouts of other rails need no line of the bank's. Null: those of all rails do."""
    currency: str | None
    """Payouts in other currencies need no line of the bank's. Null: those of all currencies do."""
    state: ReconciliationState
    awaits: list[FileKind]
    """Files that were not sent to their end."""
    progress: ReconciliationProgressView
    refusals: list[ReconciliationRefusalView]
    """The first rows that could not be read."""
    differences: list[ReconciliationCountView]
    """How many there are so far, by what they are about and kind."""
    error_code: str | None
    """Why it failed."""
    error_detail: str
    created_by: KeyId
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None

    @classmethod
    def of(cls, row: ReconciliationRow, counts: list[ReconciliationCountView]) -> Self:
        return cls(
            id=row.id,
            begins_on=row.begins_on,
            until=row.until,
            source_id=row.source_id,
            bank_format=None if row.bank_format is None else BankFormat(row.bank_format),
            only_payouts=row.only_payouts,
            rail=row.rail,
            currency=row.currency,
            state=ReconciliationState(row.state),
            awaits=_awaited(row),
            progress=ReconciliationProgressView(
                stage=ReconciliationStage(row.stage),
                read=row.read,
                compared=row.compared,
                left_out=row.left_out,
                rows_refused=row.rows_refused,
            ),
            refusals=[ReconciliationRefusalView(**each) for each in row.refusals],
            differences=counts,
            error_code=row.error_code,
            error_detail=row.error_detail,
            created_by=row.created_by,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


class ReconciliationDifferenceView(View):
    id: DifferenceId
    reconciliation_id: ReconciliationId
    about: About
    kind: DifferenceKind
    external_id: str
    """The shop's id of the order, or what the bank calls the payment."""
    order_id: OrderId | None
    payout_id: PayoutId | None
    theirs: MoneyView | None
    """What the file says; null: it has nothing of the period."""
    ours: MoneyView | None
    """What is here; null: nothing of the period."""
    theirs_figures: dict[str, Any] | None
    """All that was compared of the file's side."""
    ours_figures: dict[str, Any] | None
    """All that was compared of ours, with what its commissions come to."""
    rows: list[int]
    """Rows of the file it stands in, at most ten."""
    explained_by: Explanation | None
    """What we know that explains it. Null: nothing."""
    explained_ref: str
    """Of what explains it: an id of the API, or the shop's own; may be empty."""
    note: str
    """A person's explanation; may be empty."""
    note_by: KeyId | None
    note_at: Moment | None

    @classmethod
    def of(cls, row: ReconciliationDifferenceRow) -> Self:
        def money(amount_minor: int | None) -> MoneyView | None:
            return None if amount_minor is None else MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            id=row.id,
            reconciliation_id=row.reconciliation_id,
            about=About(row.about),
            kind=DifferenceKind(row.kind),
            external_id=row.external_id,
            order_id=row.order_id,
            payout_id=row.item_id,
            theirs=money(row.theirs_minor),
            ours=money(row.ours_minor),
            theirs_figures=row.theirs,
            ours_figures=row.ours,
            rows=row.rows,
            explained_by=None if row.explained_by is None else Explanation(row.explained_by),
            explained_ref=row.explained_ref,
            note=row.note,
            note_by=row.note_by,
            note_at=row.note_at,
        )


class ReconciliationDifferenceExplain(Body):
    note: Text
    """What it is, in your words; empty takes back what was noted."""


@router.post("/v1/reconciliations", status_code=201)
def create_reconciliation(
    asked: ReconciliationCreate, caller: FinanceMaker, session: WriteSession
) -> ReconciliationView:
    """Begin to lay files of some days beside the books; then send them by `…/files/{file}`.

    Orders of a file are compared with the orders that commissions are computed from, the commission that the file tells of
    an order, if it does, with what was computed, and the lines of a bank or provider with the payouts that were booked as
    paid. Nothing is booked by it. A worker does it once all files are here.
    """
    if asked.orders is None and asked.bank is None:
        raise Invalid("Name orders, bank or both: what is to be compared.")
    if not 0 <= (asked.until - asked.begins_on).days < DAYS_MAX:
        raise Invalid(f"until lies on begins_on or after it, by less than {DAYS_MAX} days.")
    if asked.orders is not None:
        check_mapping(asked.orders.mapping)
        source = session.get(SourceRow, asked.orders.source_id)
        if source is None or source.merchant_id != caller.merchant_id:
            raise Missing("This merchant has no such source.")
    lock_merchant(session, caller)
    _check_room(session, caller)
    row = ReconciliationRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        begins_on=asked.begins_on,
        until=asked.until,
        source_id=asked.orders.source_id if asked.orders else None,
        mapping=asked.orders.mapping if asked.orders else None,
        bank_format=asked.bank.format if asked.bank else None,
        only_payouts=asked.bank.only_payouts if asked.bank else True,
        rail=asked.bank.rail if asked.bank else None,
        currency=asked.bank.currency if asked.bank else None,
        state=ReconciliationState.AWAITING_FILES,
        stage=ReconciliationStage.ORDERS_FILE if asked.orders else ReconciliationStage.BANK_FILE,
        created_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    return ReconciliationView.of(row, [])


@router.post("/v1/reconciliations/{reconciliation_id}/files/{file}", status_code=202)
def send_reconciliation_file(
    reconciliation_id: ReconciliationId,
    file: Annotated[FileKind, Path(description="Which file: of orders, or the bank's.")],
    content: Annotated[
        bytes,
        RawBody(
            media_type="text/csv",
            description="The file, or a part of it, byte for byte: CSV, NDJSON where the mapping says so, or camt XML.",
        ),
    ],
    caller: FinanceMaker,
    session: WriteSession,
    part: Annotated[
        int,
        WRITTEN_INTEGER,
        Query(ge=1, le=PARTS_MAX, description="Which part of the file, from 1; sent again it is replaced."),
    ] = 1,
    last: Annotated[bool, WRITTEN_FLAG, Query(description="False: another part follows.")] = True,
) -> ReconciliationView:
    """Send a file that a reconciliation waits for; with the last part of the last file it begins.

    A file longer than a body may be (`KOC_BODY_BYTES_MAX`) is cut anywhere and sent in parts, at most 64 MiB in all.
    """
    row = _locked(session, caller, reconciliation_id)
    if row.state != ReconciliationState.AWAITING_FILES or file not in _awaited(row):
        raise FileNotAwaited(f"It is {row.state} and awaits {', '.join(_awaited(row)) or 'no file'}.")
    add_part(session, caller.merchant_id, reconciliation_id, file=file, number=part, body=content)
    parts, size = session.exec(
        select(func.count(), func.sum(ReconciliationPartRow.size_bytes)).where(
            col(ReconciliationPartRow.merchant_id) == caller.merchant_id,
            col(ReconciliationPartRow.reconciliation_id) == reconciliation_id,
            col(ReconciliationPartRow.file) == file,
        )
    ).one()
    if size > FILE_BYTES_MAX:
        raise ReconciliationFileTooLarge(f"It takes {FILE_BYTES_MAX} bytes; reconcile fewer days at once.")
    if last:
        check_last(part, parts=parts)
        row.files = row.files | {file.value: True}
        if not _awaited(row):
            row.state = ReconciliationState.QUEUED
            reconciliations.ask_worker(session, caller.merchant_id, reconciliation_id, at=utc_now())
    session.flush()
    return ReconciliationView.of(row, [])


@router.get("/v1/reconciliations")
def list_reconciliations(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    state: Annotated[ReconciliationState | None, Query(description="Only those in this state.")] = None,
) -> Page[ReconciliationView]:
    """List the merchant's reconciliations, newest first. Those that are done are kept for ever."""
    found = select(ReconciliationRow).where(col(ReconciliationRow.merchant_id) == caller.merchant_id)
    if state is not None:
        found = found.where(col(ReconciliationRow.state) == state)
    found = created.narrow(found, col(ReconciliationRow.created_at))
    rows = session.exec(newest_first(found, paging, col(ReconciliationRow.id))).all()
    counts = _counts(session, caller.merchant_id, [row.id for row in rows])
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: ReconciliationView.of(row, counts[row.id]))


@router.get("/v1/reconciliations/{reconciliation_id}")
def get_reconciliation(reconciliation_id: ReconciliationId, caller: Reader, session: ReadSession) -> ReconciliationView:
    """Return how far a reconciliation is, and how many differences it found."""
    row = session.get(ReconciliationRow, (caller.merchant_id, reconciliation_id))
    if row is None:
        raise ReconciliationMissing(_NONE_SUCH)
    return ReconciliationView.of(row, _counts(session, caller.merchant_id, [row.id])[row.id])


@router.get("/v1/reconciliations/{reconciliation_id}/differences")
def list_reconciliation_differences(
    reconciliation_id: ReconciliationId,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    about: Annotated[
        About | None, Query(description="Only differences of orders, of commissions on them, or of payouts.")
    ] = None,
    kind: Annotated[DifferenceKind | None, Query(description="Only differences of this kind.")] = None,
    explained: Annotated[
        bool | None,
        WRITTEN_FLAG,
        Query(description="True: those that we or a person explained. False: those that nobody has explained."),
    ] = None,
) -> Page[ReconciliationDifferenceView]:
    """List what differs, in the order it was found."""
    if session.get(ReconciliationRow, (caller.merchant_id, reconciliation_id)) is None:
        raise ReconciliationMissing(_NONE_SUCH)
    row = ReconciliationDifferenceRow
    found = select(row).where(
        col(row.merchant_id) == caller.merchant_id, col(row.reconciliation_id) == reconciliation_id
    )
    if about is not None:
        found = found.where(col(row.about) == about)
    if kind is not None:
        found = found.where(col(row.kind) == kind)
    if explained is not None:
        is_open = col(row.explained_by).is_(None) & col(row.note_at).is_(None)
        found = found.where(~is_open if explained else is_open)
    after = paging.after_id()
    if after is not None:
        found = found.where(col(row.id) > after)
    rows = session.exec(found.order_by(col(row.id)).limit(paging.limit + 1)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=ReconciliationDifferenceView.of)


@router.get("/v1/reconciliations/{reconciliation_id}/differences/{difference_id}")
def get_reconciliation_difference(
    reconciliation_id: ReconciliationId, difference_id: DifferenceId, caller: Reader, session: ReadSession
) -> ReconciliationDifferenceView:
    """Return one difference with both sides' figures."""
    row = session.get(ReconciliationDifferenceRow, (caller.merchant_id, difference_id))
    if row is None or row.reconciliation_id != reconciliation_id:
        raise DifferenceMissing(_NO_DIFFERENCE)
    return ReconciliationDifferenceView.of(row)


@router.post("/v1/reconciliations/{reconciliation_id}/differences/{difference_id}/explain")
def explain_difference(
    reconciliation_id: ReconciliationId,
    difference_id: DifferenceId,
    asked: ReconciliationDifferenceExplain,
    caller: FinanceMaker,
    session: WriteSession,
) -> ReconciliationDifferenceView:
    """Say what a difference is; your key and the time are kept with it. The newest note counts."""
    row = session.get(ReconciliationDifferenceRow, (caller.merchant_id, difference_id), with_for_update=True)
    if row is None or row.reconciliation_id != reconciliation_id:
        raise DifferenceMissing(_NO_DIFFERENCE)
    is_note = bool(asked.note.strip())
    row.note = asked.note if is_note else ""
    row.note_by = caller.key_id if is_note else None
    row.note_at = caller.now if is_note else None
    session.add(row)
    session.flush()
    return ReconciliationDifferenceView.of(row)


@router.delete("/v1/reconciliations/{reconciliation_id}", status_code=204)
def delete_reconciliation(reconciliation_id: ReconciliationId, caller: FinanceMaker, session: WriteSession) -> None:
    """Stop a reconciliation that is under way, or forget one that failed. One that is done is kept."""
    row = _locked(session, caller, reconciliation_id)
    if row.state == ReconciliationState.DONE:
        raise ReconciliationKept("It is done; explain its differences instead.")
    reconciliations.delete_all_of(session, caller.merchant_id, reconciliation_id)
    session.delete(row)
    session.flush()


_NONE_SUCH = "This merchant has no such reconciliation."
_NO_DIFFERENCE = "This reconciliation has no such difference."


def _awaited(row: ReconciliationRow) -> list[FileKind]:
    wanted = ((FileKind.ORDERS, row.mapping is not None), (FileKind.BANK, row.bank_format is not None))
    return [file for file, is_wanted in wanted if is_wanted and not row.files.get(file.value)]


def _locked(session: Session, caller: Caller, reconciliation_id: UUID) -> ReconciliationRow:
    """The row under its lock, before all that hangs on it: so a worker that adds a page waits, and finds it changed."""
    row = session.get(ReconciliationRow, (caller.merchant_id, reconciliation_id), with_for_update=True)
    if row is None:
        raise ReconciliationMissing(_NONE_SUCH)
    return row


def _check_room(session: Session, caller: Caller) -> None:
    under_way = session.exec(
        select(func.count()).where(
            col(ReconciliationRow.merchant_id) == caller.merchant_id,
            col(ReconciliationRow.state).not_in([ReconciliationState.DONE, ReconciliationState.FAILED]),
        )
    ).one()
    if under_way >= OPEN_MAX:
        raise TooManyReconciliations(f"{under_way} are under way: wait for one to end, or delete one.")


def _counts(
    session: Session, merchant_id: UUID, reconciliation_ids: list[UUID]
) -> dict[UUID, list[ReconciliationCountView]]:
    counts: dict[UUID, list[ReconciliationCountView]] = {each: [] for each in reconciliation_ids}
    rows: list[Row[Any]] = list(
        fetch(
            session,
            """
            SELECT reconciliation_id, about, kind, count(*) AS differences,
                   count(*) FILTER (WHERE explained_by IS NULL AND note_at IS NULL) AS unexplained
            FROM reconciliation_difference
            WHERE merchant_id = :merchant_id AND reconciliation_id = ANY(CAST(:ids AS uuid[]))
            GROUP BY reconciliation_id, about, kind ORDER BY reconciliation_id, about, kind
            """,
            {"merchant_id": merchant_id, "ids": reconciliation_ids},
        )
    )
    for row in rows:
        counts[row.reconciliation_id].append(
            ReconciliationCountView(
                about=About(row.about),
                kind=DifferenceKind(row.kind),
                differences=row.differences,
                unexplained=row.unexplained,
            )
        )
    return counts
