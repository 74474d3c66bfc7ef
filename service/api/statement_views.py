"""Statements as the API shows them, to the merchant and to the affiliate alike."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Self
from uuid import UUID

from fastapi import Response
from sqlalchemy import Row
from sqlmodel import Session

from service.api.filters import CreatedQuery
from service.api.paging import Page, PageQuery, page
from service.api.views import AffiliateId, Moment, MoneyView, StatementId, StatementRunId, View
from service.domain.errors import Missing
from service.domain.statement import number_text
from service.domain.wording.languages import Language
from service.infra.db import fetch
from service.infra.ids import encode
from service.infra.security import Security
from service.reports.issue import document_of
from service.reports.render_statement import PAGE_POLICY, render_csv, render_html
from service.tables.statements import StatementMark, StatementRow


class StatementMissing(Missing):
    code = "statement-not-found"
    title = "There is no such statement"


class StatementAnswerView(View):
    """What the affiliate said to a statement, or that it was compared with the closed books and is the same."""

    kind: StatementMark
    note: str
    at: Moment


class PeriodStatementView(View):
    id: StatementId
    number: str
    """Within the merchant, without gaps in each year."""
    affiliate_id: AffiliateId
    begins_on: date
    ends_on: date
    opening: MoneyView
    """Owed to the affiliate before the first day, wherever it stood."""
    closing: MoneyView
    """Owed after the last day."""
    provisional: bool
    """Issued before the books of its days were closed, and not compared with them since."""
    self_billed: bool
    revision: int
    replaces_id: StatementId | None
    """The provisional one whose place it took."""
    replaced_by: StatementId | None
    """The one that took its place; null: it is the newest of its days."""
    answers: list[StatementAnswerView]
    answer_by: date
    """Last day to object."""
    digest: str
    """SHA-256 of `document`, as JSON in UTF-8 with sorted keys and no blanks; hexadecimal."""
    run_id: StatementRunId
    issued_at: Moment

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """row: of select_statements."""
        return cls(**_told(row))


def _told(row: Row[Any]) -> dict[str, Any]:
    answers = [
        StatementAnswerView(kind=StatementMark(kind), note=note, at=at)
        for kind, note, at in zip(row.mark_kinds, row.mark_notes, row.marked_at, strict=True)
    ]
    return {
        "id": row.id,
        "number": number_text(row.year, row.number),
        "affiliate_id": row.affiliate_id,
        "begins_on": row.begins_on,
        "ends_on": row.ends_on,
        "opening": MoneyView(amount_minor=row.opening_minor, currency=row.currency),
        "closing": MoneyView(amount_minor=row.closing_minor, currency=row.currency),
        "provisional": row.provisional and StatementMark.CONFIRMED not in {each.kind for each in answers},
        "self_billed": row.self_billed,
        "revision": row.revision,
        "replaces_id": row.replaces_id,
        "replaced_by": row.replaced_by,
        "answers": answers,
        "answer_by": row.answer_by,
        "digest": row.digest.hex(),
        "run_id": row.run_id,
        "issued_at": row.issued_at,
    }


class PeriodStatementDetailView(PeriodStatementView):
    document: dict[str, Any]
    """All that the statement says, as it was issued: docs/statements.md tells of each field."""


_SELECT = """
    SELECT statement.id, statement.year, statement.number, statement.affiliate_id, statement.currency,
           statement.begins_on, statement.ends_on, statement.opening_minor, statement.closing_minor,
           statement.provisional, statement.self_billed, statement.revision, statement.replaces_id,
           newer.id AS replaced_by, statement.answer_by, statement.digest, statement.run_id, statement.issued_at,
           marks.kinds AS mark_kinds, marks.notes AS mark_notes, marks.at AS marked_at
    FROM statement
    LEFT JOIN statement AS newer
      ON newer.merchant_id = statement.merchant_id AND newer.replaces_id = statement.id
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(kind ORDER BY marked_at, kind), '{}') AS kinds,
               coalesce(array_agg(note ORDER BY marked_at, kind), '{}') AS notes,
               coalesce(array_agg(marked_at ORDER BY marked_at, kind), '{}') AS at
        FROM statement_mark AS mark
        WHERE mark.merchant_id = statement.merchant_id AND mark.statement_id = statement.id
    ) AS marks
    """
MARKED = """
    EXISTS (SELECT FROM statement_mark AS mark
            WHERE mark.merchant_id = statement.merchant_id AND mark.statement_id = statement.id AND mark.kind = :answer)
    """
"""Condition of `statement_page`: those that were accepted, objected to, or confirmed."""


def statement_page(
    session: Session,
    merchant_id: UUID,
    asked: Mapping[str, object],
    paging: PageQuery,
    created: CreatedQuery,
) -> Page[PeriodStatementView]:
    """One page of a merchant's statements, newest first.

    asked: condition → value of its parameter, which is called as what stands after its colon; None: not asked for.
    """
    conditions = ["statement.merchant_id = :merchant_id"]
    parameters: dict[str, object] = {"merchant_id": merchant_id, "limit": paging.limit + 1}
    for condition, value in asked.items():
        if value is not None:
            conditions.append(condition)
            parameters[condition.rpartition(":")[2].strip(" )\n")] = value
    for name, condition, moment in created.conditions("statement.issued_at"):
        conditions.append(condition)
        parameters[name] = moment
    after = paging.after_id()
    if after is not None:
        conditions.append("statement.id < :after")
        parameters["after"] = after
    rows = fetch(
        session,
        f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY statement.id DESC LIMIT :limit",
        parameters,
    )
    return page(rows, paging, key=lambda row: (row.id,), view=PeriodStatementView.of)


def find_statement(
    session: Session, merchant_id: UUID, statement_id: UUID, *, affiliate_id: UUID | None = None
) -> StatementRow:
    """affiliate_id: only one of that affiliate. Raises StatementMissing."""
    row = session.get(StatementRow, (merchant_id, statement_id))
    if row is None or (affiliate_id is not None and row.affiliate_id != affiliate_id):
        raise StatementMissing(f"There is no statement {encode('stm', statement_id)} here.")
    return row


def detail_of(session: Session, row: StatementRow, security: Security) -> PeriodStatementDetailView:
    [told] = fetch(
        session,
        f"{_SELECT} WHERE statement.merchant_id = :merchant_id AND statement.id = :id",
        {"merchant_id": row.merchant_id, "id": row.id},
    )
    return PeriodStatementDetailView(**_told(told), document=document_of(row, security))


def csv_of(row: StatementRow, security: Security) -> Response:
    name = number_text(row.year, row.number)
    return Response(
        render_csv(document_of(row, security)),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="statement-{name}.csv"', "Cache-Control": "no-store"},
    )


def html_of(session: Session, row: StatementRow, security: Security, language: Language) -> Response:
    """The page, which may load nothing and be shown in no frame."""
    [since] = fetch(
        session,
        """
        SELECT (SELECT marked_at FROM statement_mark
                WHERE merchant_id = :merchant_id AND statement_id = :id AND kind = 'confirmed') AS confirmed_at,
               newer.year, newer.number
        FROM statement
        LEFT JOIN statement AS newer
          ON newer.merchant_id = statement.merchant_id AND newer.replaces_id = statement.id
        WHERE statement.merchant_id = :merchant_id AND statement.id = :id
        """,
        {"merchant_id": row.merchant_id, "id": row.id},
    )
    return Response(
        render_html(
            document_of(row, security),
            digest=row.digest,
            language=language,
            confirmed_at=since.confirmed_at,
            replaced_by=None if since.number is None else number_text(since.year, since.number),
        ),
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Language": language.value,
            "Content-Security-Policy": PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )
