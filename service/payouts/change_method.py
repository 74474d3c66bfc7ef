"""Change where a payee's money goes: a change waits, can be taken back while it does, and is told at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.destination import Destination, email_hint
from service.domain.errors import Conflict, Missing
from service.domain.events import EventType
from service.domain.rails import RailName, check_fits
from service.infra import ids
from service.infra.db import fetch
from service.infra.security import Security
from service.outbox.emit import Event, emit
from service.payouts.account import fingerprint, sealed
from service.payouts.methods import bank_country_of
from service.payouts.providers.sandbox import STAND_INS
from service.tables.parties import AffiliateRow, MerchantRow, PayoutMethodRow

STAND_IN = "stand_in"
"""Why accounts of the sandbox that many share are in order from the beginning."""


class MethodMissing(Missing):
    code = "unknown-payout-method"
    title = "There is no such payout method"


class MethodDoesNotWait(Conflict):
    """Only a change that waits can be taken back; afterwards the account before is set again, and waits in turn."""

    code = "payout-method-does-not-wait"
    title = "The payout method is not waiting"


class AccountNotShared(Conflict):
    """What nobody else uses needs no confirmation, and one given beforehand would hide who comes to use it."""

    code = "payout-account-not-shared"
    title = "No other affiliate has this account"


@dataclass(frozen=True, slots=True)
class Changer:
    """Who changes methods of which payee. is_payee: by the payee's own key. now: by the merchant's clock."""

    merchant_id: UUID
    affiliate_id: UUID
    key_id: UUID
    is_payee: bool
    now: datetime


def add(
    session: Session, security: Security, by: Changer, *, rail: RailName, destination: Destination
) -> PayoutMethodRow:
    """Let a payee's money on a rail go to an account, instead of the one before; that one is not paid meanwhile either.

    The first method of a payee counts at once, and so does an account that is in use already. All others wait.
    Raises RailNotForPayee, Missing.
    """
    payee = _lock(session, by)
    check_fits(rail, destination.type, account_in=bank_country_of(destination), payee_in=payee.country)
    mark = fingerprint(security, by.merchant_id, rail, destination)
    known = _methods(session, by)
    active = next((each for each in known if each.rail == rail and each.replaced_at is None), None)
    row = PayoutMethodRow(
        merchant_id=by.merchant_id,
        id=ids.new_id(),
        affiliate_id=by.affiliate_id,
        rail=rail,
        destination=sealed(security, destination),
        destination_hint=destination.hint,
        fingerprint=mark,
        created_at=by.now,
        account_type=destination.type,
        usable_from=_usable_from(session, by, known, mark),
        replaces=None if active is None else active.id,
        created_by=by.key_id,
        by_affiliate=by.is_payee,
    )
    if rail is RailName.SANDBOX and destination.account in STAND_INS:
        row.sharing_confirmed_at, row.sharing_reason = by.now, STAND_IN
    if active is not None:
        active.replaced_at = by.now
        session.flush()
    session.add(row)
    session.flush()
    what = EventType.PAYOUT_METHOD_ADDED if active is None else EventType.PAYOUT_METHOD_CHANGED
    told = [_event(what, by, row, payee, previous=active, usable_from=row.usable_from)]
    others = shared_with(session, by.merchant_id, [row])[row.id]
    if others and row.sharing_confirmed_at is None:
        told.append(_shared(by, row, others))
    emit(session, told)
    return row


def cancel(session: Session, by: Changer, method_id: UUID) -> PayoutMethodRow:
    """Take back a change that waits; the account it took the place of is active again. Raises MethodDoesNotWait, Missing."""
    payee = _lock(session, by)
    row = _method(session, by, method_id)
    if row.replaced_at is not None or row.usable_from is None or row.usable_from <= by.now:
        raise MethodDoesNotWait(
            "Only a change that waits and was not replaced can be taken back. Set the account anew."
        )
    row.replaced_at = row.cancelled_at = by.now
    session.flush()
    before = None if row.replaces is None else _method(session, by, row.replaces)
    if before is not None:
        before.replaced_at = None
        if before.usable_from is not None and before.usable_from > row.created_at:
            # It was waiting itself, and has waited no more since: two changes one after the other hide nothing.
            before.usable_from += by.now - row.created_at
        session.flush()
    emit(session, [_event(EventType.PAYOUT_METHOD_CANCELLED, by, row, payee, previous=before, usable_from=None)])
    return row


def confirm_sharing(session: Session, by: Changer, method_id: UUID, *, reason_code: str) -> PayoutMethodRow:
    """Vouch for a payee's account being that of others too, so that it is paid. Raises AccountNotShared, Missing.

    It counts for this payee alone: each of the others is looked at too. What was confirmed stays as it was.
    """
    _lock(session, by)
    row = _method(session, by, method_id)
    if row.replaced_at is not None or not shared_with(session, by.merchant_id, [row])[row.id]:
        raise AccountNotShared("There is nothing to confirm: no other affiliate has this account now.")
    if row.sharing_confirmed_at is None:
        row.sharing_confirmed_at, row.sharing_confirmed_by, row.sharing_reason = by.now, by.key_id, reason_code
        session.flush()
    return row


def shared_with(session: Session, merchant_id: UUID, rows: Sequence[PayoutMethodRow]) -> Mapping[UUID, int]:
    """Map method id to how many other payees have its account active on any rail, in one statement."""
    found = fetch(
        session,
        """
        SELECT mine.id, count(DISTINCT other.affiliate_id) AS others
        FROM unnest(CAST(:ids AS uuid[]), CAST(:affiliate_ids AS uuid[]), CAST(:fingerprints AS text[]))
             AS mine (id, affiliate_id, fingerprint)
        JOIN payout_method AS other ON other.merchant_id = :merchant_id AND other.fingerprint = mine.fingerprint
             AND other.affiliate_id <> mine.affiliate_id AND other.replaced_at IS NULL
        GROUP BY mine.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": [row.id for row in rows],
            "affiliate_ids": [row.affiliate_id for row in rows],
            "fingerprints": [row.fingerprint for row in rows],
        },
    )
    return {row.id: 0 for row in rows} | {row.id: row.others for row in found}


def _lock(session: Session, by: Changer) -> AffiliateRow:
    """The payee, locked: two changes at once would both leave theirs active."""
    row = session.exec(
        select(AffiliateRow)
        .where(col(AffiliateRow.merchant_id) == by.merchant_id, col(AffiliateRow.id) == by.affiliate_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such affiliate.")
    return row


def _methods(session: Session, by: Changer) -> Sequence[PayoutMethodRow]:
    """The payee's active methods, or the last one that was, if none is."""
    return session.exec(
        select(PayoutMethodRow)
        .where(col(PayoutMethodRow.merchant_id) == by.merchant_id, col(PayoutMethodRow.affiliate_id) == by.affiliate_id)
        # At most one is active on each rail, so all that are active are among the first.
        .order_by(col(PayoutMethodRow.replaced_at).desc().nulls_first(), col(PayoutMethodRow.id))
        .limit(len(RailName) + 1)
    ).all()


def _method(session: Session, by: Changer, method_id: UUID) -> PayoutMethodRow:
    row = session.get(PayoutMethodRow, (by.merchant_id, method_id), populate_existing=True)
    if row is None or row.affiliate_id != by.affiliate_id:
        raise MethodMissing(f"This affiliate has no payout method {ids.encode('pmt', method_id)}.")
    return row


def _usable_from(session: Session, by: Changer, known: Sequence[PayoutMethodRow], mark: str) -> datetime | None:
    """When a new method may be paid to; None: at once."""
    if not known:
        return None
    # The account of an active method is as good, or as doubtful, as it is there. One that was replaced or cancelled may
    # have been a stranger's.
    twins = [each.usable_from for each in known if each.replaced_at is None and each.fingerprint == mark]
    if twins:
        return min(twins, key=lambda usable_from: usable_from or by.now)
    merchant = session.get_one(MerchantRow, by.merchant_id)
    return by.now + timedelta(hours=merchant.method_wait_h)


def _event(
    what: EventType,
    by: Changer,
    row: PayoutMethodRow,
    payee: AffiliateRow,
    *,
    previous: PayoutMethodRow | None,
    usable_from: datetime | None,
) -> Event:
    payload = {
        "payout_method_id": ids.encode("pmt", row.id),
        "affiliate_id": ids.encode("aff", row.affiliate_id),
        "rail": row.rail,
        "kind": row.account_type,
        "destination_hint": row.destination_hint,
        "previous_hint": None if previous is None else previous.destination_hint,
        "usable_from": None if usable_from is None else usable_from.isoformat(),
        "by_affiliate": by.is_payee,
        "email_hint": None if payee.email is None else email_hint(payee.email),
    }
    return Event(by.merchant_id, what, row.id, payload, by.now)


def _shared(by: Changer, row: PayoutMethodRow, others: int) -> Event:
    payload = {
        "payout_method_id": ids.encode("pmt", row.id),
        "affiliate_id": ids.encode("aff", row.affiliate_id),
        "rail": row.rail,
        "destination_hint": row.destination_hint,
        "shared_with": others,
    }
    return Event(by.merchant_id, EventType.PAYOUT_METHOD_SHARED, row.id, payload, by.now)
