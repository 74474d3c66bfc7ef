"""Files and their lines, locked and read for those who decide on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.destination import Destination
from service.domain.errors import Missing
from service.domain.payout import Answer, AnswerKind, Outcome
from service.domain.payout_file import Said
from service.infra import ids
from service.infra.db import fetch
from service.infra.security import Security
from service.payouts.find import lock_run
from service.payouts.plan import REQUEST
from service.payouts.providers.file_model import row_of
from service.payouts.record import Verdict
from service.payouts.send import Leased
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutRunRow

CONTENT = "payout-file"
"""What files and the answers to them are encrypted for: they name accounts."""

HANDED_OVER = "handed_over"
"""Code of an attempt whose file somebody has had: nobody can say what became of it until the bank or two persons do."""
TAKEN = "accepted_by_bank"
"""Code of one that the bank has taken, and not booked."""


class FileMissing(Missing):
    code = "payout-file-not-found"
    title = "There is no such file of payouts"


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its attempt as it is now. request: encrypted. said: all that a bank said so far, with amounts."""

    number: int
    item_id: UUID
    end_to_end_id: str
    amount_minor: int
    attempt: Leased
    outcome: Outcome
    code: str
    said: frozenset[tuple[Said, int]]

    def destination(self, security: Security) -> Destination:
        """Return the account it pays to, in the clear."""
        request = security.decrypt(self.attempt.request, purpose=REQUEST)
        return row_of(request, reference_chars_max=len(self.end_to_end_id)).destination

    def accepted(self, security: Security, currency: str) -> Verdict:
        """What a booking, or two persons who saw one, prove of its attempt."""
        answer = Answer(
            AnswerKind.ACCEPTED,
            reference=self.end_to_end_id,
            amount_minor=self.amount_minor,
            currency=currency,
            destination=self.destination(security).to_text(),
        )
        return Verdict(self.attempt, Outcome.ACCEPTED, answer)

    def not_done(self, outcome: Outcome, code: str) -> Verdict:
        """What a rejection, or two persons who saw that nothing was sent, prove of its attempt."""
        return Verdict(self.attempt, outcome, Answer(AnswerKind.REFUSED, code=code))


def lock_file(session: Session, merchant_id: UUID, file_id: UUID) -> tuple[PayoutRunRow, PayoutFileRow]:
    """Lock a file's run, then read the file. Raises FileMissing.

    The run's lock is the one that plans, cancels and hands over: two of them never decide on the same file at once.
    """
    run_id = session.exec(
        select(PayoutFileRow.run_id).where(
            col(PayoutFileRow.merchant_id) == merchant_id, col(PayoutFileRow.id) == file_id
        )
    ).one_or_none()
    if run_id is None:
        raise FileMissing(f"No file of payouts {ids.encode('pfl', file_id)} here.")
    run = lock_run(session, merchant_id, run_id)
    return run, session.get_one(PayoutFileRow, (merchant_id, file_id), populate_existing=True)


def lines_of(
    session: Session, merchant_id: UUID, file_id: UUID, *, attempt_ids: Sequence[UUID] | None = None
) -> Mapping[str, Line]:
    """Return the lines of a file by end-to-end id, as they are now. attempt_ids: only those, if given."""
    rows = fetch(
        session,
        """
        SELECT line.line, line.item_id, line.end_to_end_id, line.amount_minor, attempt.id AS attempt_id, attempt.number,
               attempt.idempotency_key, attempt.request, attempt.outcome, attempt.code, attempt.fence, attempt.sends,
               attempt.first_sent_at, attempt.created_at, told.said
        FROM payout_file_line AS line
        JOIN payout_attempt AS attempt ON attempt.merchant_id = line.merchant_id AND attempt.id = line.attempt_id
        LEFT JOIN (
            SELECT line, array_agg(concat(said, ' ', amount_minor)) AS said
            FROM payout_line_fact
            WHERE merchant_id = :merchant_id AND file_id = :file_id
            GROUP BY line
        ) AS told ON told.line = line.line
        WHERE line.merchant_id = :merchant_id AND line.file_id = :file_id
          AND (CAST(:everything AS boolean) OR line.attempt_id = ANY(CAST(:attempt_ids AS uuid[])))
        ORDER BY line.line
        """,
        {
            "merchant_id": merchant_id,
            "file_id": file_id,
            "everything": attempt_ids is None,
            "attempt_ids": list(attempt_ids or ()),
        },
    )
    return {
        row.end_to_end_id: Line(
            number=row.line,
            item_id=row.item_id,
            end_to_end_id=row.end_to_end_id,
            amount_minor=row.amount_minor,
            attempt=Leased(
                merchant_id=merchant_id,
                id=row.attempt_id,
                item_id=row.item_id,
                number=row.number,
                key=row.idempotency_key,
                request=row.request,
                fence=row.fence,
                sends=row.sends,
                first_sent_at=row.first_sent_at,
                # Nobody leases what leaves in a file.
                lease_until=row.created_at,
            ),
            outcome=Outcome(row.outcome),
            code=row.code,
            said=frozenset(
                (Said(said), int(amount)) for said, _, amount in (each.partition(" ") for each in row.said or ())
            ),
        )
        for row in rows
    }
