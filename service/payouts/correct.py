"""Money put right by people: one asks with a reason, another books it. A withholding undone, a debt set off or given up."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.correction import MOVES, CorrectionKind, CorrectionState, most_minor
from service.domain.errors import Conflict, Forbidden, Invalid, Missing
from service.domain.events import EventType
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.withholding.model import Duty, Key
from service.infra import ids
from service.infra.db import execute, fetch
from service.ledger.balance import Kept, lock
from service.ledger.post import post
from service.outbox.emit import Event, emit
from service.payouts.persons import is_same_person
from service.payouts.remit import owed_by_payee
from service.payouts.withhold import lock_bases, raise_bases
from service.tables.taxes import CorrectionRow, TaxEntryKind


class CorrectionMissing(Missing):
    code = "correction-not-found"
    title = "There is no such correction"


class CorrectionDecided(Conflict):
    code = "correction-decided"
    title = "The correction was decided already"


class CorrectionTooLarge(Conflict):
    code = "correction-too-large"
    title = "There is not so much to put right"


class SelfDecision(Forbidden):
    code = "correction-self-decision"
    title = "A correction needs a second person"


class WithholdingUnnamed(Invalid):
    code = "correction-withholding"
    title = "The withholding that is undone is not named rightly"


@dataclass(frozen=True, slots=True)
class Asked:
    """A correction somebody asks for. amount_minor: above zero.

    key, base_minor: of a withholding that is undone, and the income that is no longer counted with it; None and 0 for
    all others. evidence: number of a corrected return, a receipt, a ticket.
    """

    merchant_id: UUID
    kind: CorrectionKind
    payee_id: UUID
    currency: str
    amount_minor: int
    reason: str
    by: UUID
    evidence: str | None = None
    external_id: str | None = None
    key: Key | None = None
    base_minor: int = 0


def ask(session: Session, asked: Asked, *, when: MerchantTime) -> CorrectionRow:
    """Write down what is to be put right; nothing moves before a second person books it.

    Raises CorrectionTooLarge, WithholdingUnnamed.
    """
    if (asked.kind is CorrectionKind.UNTAX) is not (asked.key is not None):
        raise WithholdingUnnamed("untax names rule, duty and period of what was withheld; nothing else does.")
    row = CorrectionRow(
        merchant_id=asked.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        kind=asked.kind,
        state=CorrectionState.ASKED,
        payee_id=asked.payee_id,
        currency=asked.currency,
        amount_minor=asked.amount_minor,
        rule=None if asked.key is None else asked.key.rule,
        duty=None if asked.key is None else asked.key.duty,
        period=None if asked.key is None else asked.key.period,
        base_minor=asked.base_minor,
        reason=asked.reason,
        evidence=asked.evidence,
        asked_by=asked.by,
        created_at=when.now,
    )
    _check(session, row, _balances(session, row))
    session.add(row)
    session.flush()
    emit(session, [_told(row, EventType.CORRECTION_ASKED, when)])
    return row


def book(session: Session, *, merchant_id: UUID, correction_id: UUID, by: UUID, when: MerchantTime) -> CorrectionRow:
    """Move the money of a correction that another person asked for.

    Raises CorrectionMissing, CorrectionDecided, SelfDecision, CorrectionTooLarge when there is less by now.
    """
    row = _open(session, merchant_id, correction_id)
    if is_same_person(session, merchant_id, by, row.asked_by):
        raise SelfDecision(f"Key {ids.encode('key', by)} asked for correction {ids.encode('cor', row.id)}.")
    if row.rule is not None:
        lock_bases(session, merchant_id, [(row.payee_id, row.rule)])
    _check(session, row, _balances(session, row))
    source, destination = (_account(row, kind) for kind in MOVES[CorrectionKind(row.kind)])
    posting = Posting(
        ids.new_id(),
        event=f"correction/{row.id}",
        seq=0,
        debit=source,
        credit=destination,
        amount_minor=row.amount_minor,
    )
    kept = post(session, [posting], when={merchant_id: when})
    row.state, row.decided_by, row.decided_at = CorrectionState.BOOKED, by, when.now
    row.posting_id, row.payable_version = posting.id, kept[_account(row, AccountKind.PAYABLE)].version
    session.add(row)
    session.flush()
    if row.rule is not None:
        _undo(session, row, when)
    emit(session, [_told(row, EventType.CORRECTION_BOOKED, when)])
    return row


def withdraw(
    session: Session, *, merchant_id: UUID, correction_id: UUID, by: UUID, when: MerchantTime
) -> CorrectionRow:
    """Take back, or turn down, a correction that nobody has booked."""
    row = _open(session, merchant_id, correction_id)
    row.state, row.decided_by, row.decided_at = CorrectionState.WITHDRAWN, by, when.now
    session.add(row)
    emit(session, [_told(row, EventType.CORRECTION_WITHDRAWN, when)])
    return row


def _open(session: Session, merchant_id: UUID, correction_id: UUID) -> CorrectionRow:
    row = session.exec(
        select(CorrectionRow)
        .where(col(CorrectionRow.merchant_id) == merchant_id, col(CorrectionRow.id) == correction_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise CorrectionMissing(f"No correction {ids.encode('cor', correction_id)} here.")
    if row.state != CorrectionState.ASKED:
        raise CorrectionDecided(f"Correction {ids.encode('cor', correction_id)} is {row.state}; ask for another.")
    return row


def _account(row: CorrectionRow, kind: AccountKind) -> Account:
    return Account(row.merchant_id, row.payee_id, kind, row.currency)


def _balances(session: Session, row: CorrectionRow) -> Mapping[Account, Kept]:
    """The payee's balances that count, held until the unit of work ends."""
    kinds = {*MOVES[CorrectionKind(row.kind)], AccountKind.PAYABLE}
    return lock(session, row.merchant_id, owner_ids=[row.payee_id], kinds=sorted(kinds), currency=row.currency)


def _check(session: Session, row: CorrectionRow, kept: Mapping[Account, Kept]) -> None:
    kind = CorrectionKind(row.kind)
    source = kept.get(_account(row, MOVES[kind][0]))
    payable = kept.get(_account(row, AccountKind.PAYABLE))
    most = most_minor(
        kind,
        source_minor=source.amount_minor if source else 0,
        payable_minor=payable.amount_minor if payable else 0,
    )
    if kind is CorrectionKind.UNTAX:
        withheld_minor, base_minor = _withheld(session, row)
        most = min(most, withheld_minor)
        if row.base_minor > base_minor:
            raise CorrectionTooLarge(f"Of {row.rule} {row.period}, {base_minor} minor units of income are counted.")
    if row.amount_minor > most:
        what = {
            CorrectionKind.UNTAX: "withheld there and not passed on yet",
            CorrectionKind.RECOVER: "carried and owed at once",
            CorrectionKind.WRITE_OFF: "owed",
            CorrectionKind.PAID_OUTSIDE: "what a correction may move",
        }[kind]
        raise CorrectionTooLarge(f"{most} minor units of {row.currency} are {what}; {row.amount_minor} were asked for.")


def _withheld(session: Session, row: CorrectionRow) -> tuple[int, int]:
    """What may be given back to the payee of the named rule, duty and period, and the income counted there.

    Taken from what was earned, and not passed on: what another period withheld is not this one's, and an opening is
    money that never was here.
    """
    assert row.rule is not None
    assert row.duty is not None
    assert row.period is not None
    key = Key(row.rule, Duty(row.duty), row.period)
    owed = owed_by_payee(session, row.merchant_id, key, row.currency, payee_id=row.payee_id)
    [counted] = fetch(
        session,
        """
        SELECT CAST(coalesce(sum(tax_minor - borne_minor) FILTER (WHERE kind <> 'opening'), 0) AS bigint) AS taken_minor,
               CAST(coalesce(sum(base_minor), 0) AS bigint) AS base_minor
        FROM tax_entry
        WHERE merchant_id = :merchant_id AND payee_id = :payee_id AND rule = :rule AND duty = :duty
          AND period = :period AND currency = :currency
        """,
        {
            "merchant_id": row.merchant_id,
            "payee_id": row.payee_id,
            "rule": row.rule,
            "duty": row.duty,
            "period": row.period,
            "currency": row.currency,
        },
    )
    return min(counted.taken_minor, sum(each.owed_minor for each in owed)), counted.base_minor


def _undo(session: Session, row: CorrectionRow, when: MerchantTime) -> None:
    """Count what was undone no more: later decisions and registers go by the sums."""
    execute(
        session,
        """
        INSERT INTO tax_entry (merchant_id, id, kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
                               borne_minor, booked_on, correction_id, note, recorded_by, created_at)
        VALUES (:merchant_id, :id, :kind, :payee_id, :rule, :duty, :period, :currency, :base_minor, :tax_minor, 0,
                :booked_on, :correction_id, :note, :by, :now)
        """,
        {
            "merchant_id": row.merchant_id,
            "id": ids.new_id(),
            "kind": TaxEntryKind.CORRECTED.value,
            "payee_id": row.payee_id,
            "rule": row.rule,
            "duty": row.duty,
            "period": row.period,
            "currency": row.currency,
            "base_minor": -row.base_minor,
            "tax_minor": -row.amount_minor,
            "booked_on": when.day,
            "correction_id": row.id,
            "note": row.reason,
            "by": row.decided_by,
            "now": when.now,
        },
    )
    assert row.rule is not None
    raise_bases(session, row.merchant_id, [(row.payee_id, row.rule)])


def _told(row: CorrectionRow, what: EventType, when: MerchantTime) -> Event:
    payload = {
        "correction_id": ids.encode("cor", row.id),
        "affiliate_id": ids.encode("aff", row.payee_id),
        "kind": row.kind,
        "currency": row.currency,
        "amount_minor": row.amount_minor,
        "reason": row.reason,
    }
    return Event(row.merchant_id, what, row.id, payload, when.now)
