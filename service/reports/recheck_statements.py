"""Hold issued statements against their digests and numbers: the part of check-books that needs the key of documents."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.statement import digest_of, number_text
from service.infra import ids
from service.infra.db import fetch
from service.infra.security import CannotDecrypt, Security
from service.ledger.findings import FINDINGS_MAX, Finding, word
from service.reports.issue import document_of
from service.tables.statements import StatementRow

_AT_ONCE = 200


class StatementCode(StrEnum):
    """What can be wrong with statements that were issued. Codes are never renamed."""

    DIGEST = "statement-digest"
    """A statement is not what it was when it was issued."""
    NUMBER = "statement-number"
    """A year's statements are not numbered from one without gaps, or, in the last year, not up to the last number given."""


def recheck_statements(session: Session, security: Security, merchant_id: UUID) -> list[Finding]:
    """Whatever of a merchant's statements was changed or is gone since it was issued; empty when nothing was."""
    findings = _missing(session, merchant_id)
    for row in _issued(session, merchant_id):
        if len(findings) >= FINDINGS_MAX:
            break
        findings += _compare(row, security)
    return findings


def _compare(row: StatementRow, security: Security) -> list[Finding]:
    subject, number = ids.encode("stm", row.id), number_text(row.year, row.number)
    try:
        document = document_of(row, security)
        found = digest_of(document).hex()
    except (CannotDecrypt, KeyError, TypeError, ValueError) as error:
        return [_changed(row, subject, number, row.digest.hex(), f"nothing that can be read: {type(error).__name__}")]
    if found != row.digest.hex():
        return [_changed(row, subject, number, row.digest.hex(), found)]
    closing_minor = document["waterfall"][-1]["amount_minor"]
    if closing_minor != row.closing_minor:
        return [_changed(row, subject, f"{number} closes with", word(closing_minor), word(row.closing_minor))]
    return []


def _changed(row: StatementRow, subject: str, detail: str, expected: str, found: str) -> Finding:
    return Finding(StatementCode.DIGEST, row.merchant_id, subject, detail, expected, found)


def _missing(session: Session, merchant_id: UUID) -> list[Finding]:
    rows = fetch(
        session,
        """
        SELECT year, max(last) AS last, sum(issued) AS issued
        FROM (
            SELECT year, max(number) AS last, count(*) AS issued FROM statement
            WHERE merchant_id = :merchant_id GROUP BY year
            UNION ALL
            SELECT year, last, 0 FROM statement_counter WHERE merchant_id = :merchant_id
        ) AS told
        GROUP BY year HAVING sum(issued) <> max(last) ORDER BY year
        """,
        {"merchant_id": merchant_id},
    )
    subject = ids.encode("mer", merchant_id)
    return [
        Finding(StatementCode.NUMBER, merchant_id, subject, f"statements of {row.year}", str(row.last), str(row.issued))
        for row in rows
    ]


def _issued(session: Session, merchant_id: UUID) -> Iterator[StatementRow]:
    after = UUID(int=0)
    while True:
        rows: Sequence[StatementRow] = session.exec(
            select(StatementRow)
            .where(col(StatementRow.merchant_id) == merchant_id, col(StatementRow.id) > after)
            .order_by(col(StatementRow.id))
            .limit(_AT_ONCE)
        ).all()
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1].id
        session.expunge_all()
