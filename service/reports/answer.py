"""What a payee says to a statement: accept it, or object. Nothing moves by it; the merchant is told."""

from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.events import EventType
from service.domain.ledger import MerchantTime
from service.domain.statement import number_text
from service.infra import ids
from service.infra.db import fetch
from service.outbox.emit import Event, emit
from service.tables.statements import StatementMark, StatementMarkRow, StatementRow


class StatementReplaced(Conflict):
    code = "statement-replaced"
    title = "Another statement took its place"


class StatementAccepted(Conflict):
    code = "statement-accepted"
    title = "The statement was accepted already"


class ObjectionLate(Conflict):
    code = "statement-objection-late"
    title = "It is too late to object"


_EVENTS = {
    StatementMark.ACCEPTED: EventType.STATEMENT_ACCEPTED,
    StatementMark.OBJECTED: EventType.STATEMENT_OBJECTED,
}


def answer(
    session: Session, row: StatementRow, kind: StatementMark, *, note: str, by: UUID, when: MerchantTime
) -> None:
    """Record what a payee says, once. Raises StatementReplaced, StatementAccepted, ObjectionLate."""
    name = number_text(row.year, row.number)
    # The statement's own row is the lock: of two answers at once the second finds the first.
    session.get_one(
        StatementRow, (row.merchant_id, row.id), with_for_update={"key_share": True}, populate_existing=True
    )
    known = {
        mark
        for (mark,) in fetch(
            session,
            "SELECT kind FROM statement_mark WHERE merchant_id = :merchant_id AND statement_id = :id",
            {"merchant_id": row.merchant_id, "id": row.id},
        )
    }
    if kind in known:
        return
    newer = fetch(
        session,
        "SELECT year, number FROM statement WHERE merchant_id = :merchant_id AND replaces_id = :id",
        {"merchant_id": row.merchant_id, "id": row.id},
    )
    if newer:
        raise StatementReplaced(
            f"Statement {number_text(newer[0].year, newer[0].number)} took the place of {name}: answer that one."
        )
    if kind is StatementMark.OBJECTED:
        if StatementMark.ACCEPTED in known:
            raise StatementAccepted(f"Statement {name} was accepted; write to the shop.")
        if when.day > row.answer_by:
            raise ObjectionLate(f"Statement {name} could be objected to until {row.answer_by}; write to the shop.")
    mark = StatementMarkRow(
        merchant_id=row.merchant_id, statement_id=row.id, kind=kind, note=note, marked_by=by, marked_at=when.now
    )
    session.add(mark)
    session.flush()
    payload = {
        "statement_id": ids.encode("stm", row.id),
        "number": name,
        "affiliate_id": ids.encode("aff", row.affiliate_id),
        "currency": row.currency,
        "begins_on": row.begins_on.isoformat(),
        "ends_on": row.ends_on.isoformat(),
    }
    emit(session, [Event(row.merchant_id, _EVENTS[kind], row.id, payload, when.now)])
