"""Hold issued statements against their digests and numbers: the part of check-books that needs the key of documents."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.statement import digest_of, number_text
from service.infra import ids
from service.infra.db import fetch
from service.infra.security import Security
from service.ledger.findings import FINDINGS_MAX, Finding
from service.reports.issue import document_of
from service.tables.statements import StatementRow

_AT_ONCE = 200


class StatementCode(StrEnum):
    """What can be wrong with statements that were issued. Codes are never renamed."""

    DIGEST = "statement-digest"
    """A statement is not what it was when it was issued."""
    NUMBER = "statement-number"
    """A year's statements are not numbered from one without gaps: one is gone."""


def recheck_statements(session: Session, security: Security, merchant_id: UUID) -> list[Finding]:
    """Whatever of a merchant's statements was changed or is gone since it was issued; empty when nothing was."""
    findings = _missing(session, merchant_id)
    for row in _issued(session, merchant_id):
        if len(findings) >= FINDINGS_MAX:
            break
        document = document_of(row, security)
        now, told = digest_of(document), document["waterfall"][-1]["amount_minor"]
        subject = ids.encode("stm", row.id)
        if now != row.digest:
            code, kept, found = StatementCode.DIGEST, row.digest.hex(), now.hex()
            findings.append(Finding(code, merchant_id, subject, number_text(row.year, row.number), kept, found))
        elif told != row.closing_minor:
            detail = f"{number_text(row.year, row.number)} closes with"
            findings.append(
                Finding(StatementCode.DIGEST, merchant_id, subject, detail, str(told), str(row.closing_minor))
            )
    return findings


def _missing(session: Session, merchant_id: UUID) -> list[Finding]:
    rows = fetch(
        session,
        """
        SELECT year, max(number) AS last, count(*) AS issued FROM statement WHERE merchant_id = :merchant_id
        GROUP BY year HAVING count(*) <> max(number) ORDER BY year
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
