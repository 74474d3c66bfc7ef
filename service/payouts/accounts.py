"""Payees' accounts at Stripe: have them made once, keep what Stripe says of them, tell who cannot be paid there now."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session, col, select

from service.domain.errors import Conflict, InvariantBroken, Missing
from service.domain.events import EventType
from service.domain.payout import SEND_WINDOW
from service.domain.provider import AccountState, BankPayoutStatus, ServiceAgreement
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, run_unit
from service.infra.security import Security
from service.outbox.emit import Event, emit
from service.payouts.find import merchant_time
from service.payouts.hear import adopt
from service.payouts.providers.stripe_accounts import (
    KeyMismatched,
    KeyRefused,
    StripeAccounts,
    StripeAway,
    StripeRefused,
    Wanted,
)
from service.payouts.providers.stripe_connect import NAME
from service.tables.parties import AffiliateRow
from service.tables.providers import StripeAccountRow


class AccountMissing(Missing):
    code = "stripe-account-not-found"
    title = "The affiliate has no account at Stripe"


class AccountNotMade(Conflict):
    code = "stripe-account-not-made"
    title = "The affiliate's account at Stripe is not made yet"


class AccountFixed(Conflict):
    code = "stripe-account-fixed"
    title = "The account was asked for otherwise"


@dataclass(frozen=True, slots=True)
class _Claimed:
    """An account to be made, or one that is there. since: when it was first asked for under its key."""

    wanted: Wanted
    account_id: str | None
    since: datetime
    again: bool


def open_account(
    engine: Engine,
    accounts: StripeAccounts,
    security: Security,
    *,
    merchant_id: UUID,
    affiliate_id: UUID,
    country: str,
    agreement: ServiceAgreement,
    clock: Callable[[], datetime],
) -> None:
    """Have an account made at Stripe for an affiliate, once. Safe to repeat after a crash on any line.

    A refused request leaves no claim, so that a corrected one can follow; one whose fate is not known does.
    Raises AccountFixed, StripeAway, StripeRefused, and Missing for an affiliate that is not the merchant's.
    """
    asking = partial(
        _claim, merchant_id=merchant_id, affiliate_id=affiliate_id, country=country, agreement=agreement, now=clock()
    )
    claimed = run_unit(engine, asking)
    if claimed.account_id is not None:
        return
    crash_point(CrashPoint.ACCOUNT_CLAIMED)
    asked_at = clock()
    # No unit of work is open here: a slow provider must not hold rows or connections.
    try:
        state = _made(accounts, claimed, now=asked_at)
    except StripeRefused as refusal:
        earlier = _made_before(accounts, claimed, refusal) if claimed.again else None
        if earlier is None:
            run_unit(engine, partial(_withdraw, wanted=claimed.wanted))
            raise
        state = earlier
    crash_point(CrashPoint.ACCOUNT_MADE)
    run_unit(engine, partial(_record, security=security, wanted=claimed.wanted, state=state, asked_at=asked_at))


def _claim(
    session: Session,
    *,
    merchant_id: UUID,
    affiliate_id: UUID,
    country: str,
    agreement: ServiceAgreement,
    now: datetime,
) -> _Claimed:
    """Write down that an account is being asked for, before it is: whoever comes after a crash asks under the same key."""
    if session.get(AffiliateRow, (merchant_id, affiliate_id)) is None:
        raise Missing("This merchant has no such affiliate.")
    execute(
        session,
        """
        INSERT INTO stripe_account (merchant_id, affiliate_id, number, agreement, ready, charges_enabled,
                                    payouts_enabled, details_submitted, capabilities, requirements, created_at)
        VALUES (:merchant_id, :affiliate_id, 1, :agreement, false, false, false, false, '{}', '{}', :now)
        ON CONFLICT DO NOTHING
        """,
        {"merchant_id": merchant_id, "affiliate_id": affiliate_id, "agreement": agreement.value, "now": now},
    )
    row = _locked(session, merchant_id, affiliate_id)
    again = row.claimed_at is not None
    if again and (row.country, row.agreement) != (country, agreement):
        raise AccountFixed(f"It was asked for in {row.country} with the agreement {row.agreement}; neither can change.")
    if not again:
        row.claimed_at, row.country, row.agreement = now, country, agreement.value
        session.add(row)
    wanted = Wanted(merchant_id, affiliate_id, row.number, country, agreement)
    return _Claimed(wanted, row.account_id, row.claimed_at or now, again)


def _made(accounts: StripeAccounts, claimed: _Claimed, *, now: datetime) -> AccountState:
    """The account that Stripe has under the claim, made now if there is none."""
    if claimed.again and now >= claimed.since + SEND_WINDOW:
        # Stripe may have forgotten the key by now, and would make another account under it.
        found = accounts.find(claimed.wanted, claimed.since)
        if found is not None:
            return found
    try:
        return accounts.create(claimed.wanted)
    except KeyMismatched:
        # A release of ours in between asks otherwise; what was asked first counts.
        found = accounts.find(claimed.wanted, claimed.since)
        if found is None:
            raise StripeAway("Stripe still works on an earlier request. Ask again.") from None
        return found


def _made_before(accounts: StripeAccounts, claimed: _Claimed, refusal: StripeRefused) -> AccountState | None:
    """The account that an earlier request under the claim made after all; None where it certainly made none.

    An earlier one that still travels bears the same parameters, and is refused as this one was. Raises StripeAway where
    Stripe does not say, and the refusal where it is our key's: then the claim stays, and asking again tells.
    """
    if isinstance(refusal, KeyRefused):
        raise refusal
    return accounts.find(claimed.wanted, claimed.since)


def _withdraw(session: Session, *, wanted: Wanted) -> None:
    """Let the account be asked for anew, under another key: Stripe keeps its refusal under this one."""
    execute(
        session,
        """
        UPDATE stripe_account SET number = number + 1, claimed_at = NULL
        WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id AND number = :number AND account_id IS NULL
        """,
        {"merchant_id": wanted.merchant_id, "affiliate_id": wanted.affiliate_id, "number": wanted.number},
    )


def _record(session: Session, *, security: Security, wanted: Wanted, state: AccountState, asked_at: datetime) -> None:
    execute(
        session,
        """
        UPDATE stripe_account SET account_id = :account_id, fingerprint = :fingerprint, events_until = :asked_at
        WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id AND account_id IS NULL
        """,
        {
            "merchant_id": wanted.merchant_id,
            "affiliate_id": wanted.affiliate_id,
            "account_id": state.account_id,
            "fingerprint": security.fingerprint(wanted.merchant_id, NAME, state.account_id),
            "asked_at": asked_at,
        },
    )
    store_states(session, [state], merchant_id=wanted.merchant_id, asked_at=asked_at, now=asked_at)
    # What was told of it before we knew whose it is counts from now on.
    adopt(session, now=asked_at)


def find_account(session: Session, merchant_id: UUID, affiliate_id: UUID) -> StripeAccountRow:
    """Return an affiliate's account, as told last. Raises Missing, AccountMissing."""
    row = session.get(StripeAccountRow, (merchant_id, affiliate_id), populate_existing=True)
    if row is None:
        if session.get(AffiliateRow, (merchant_id, affiliate_id)) is None:
            raise Missing("This merchant has no such affiliate.")
        raise AccountMissing(f"Affiliate {ids.encode('aff', affiliate_id)} has none yet; make it first.")
    return row


def store_states(
    session: Session, states: Sequence[AccountState], *, merchant_id: UUID, asked_at: datetime, now: datetime
) -> int:
    """Keep what Stripe says of accounts, where nothing that was asked for later is known. Returns how many changed.

    asked_at: when we began to ask, by our clock. Whatever changes afterwards is told by another event, so what was
    asked for last is right in the end, in whatever order the answers come.
    """
    by_id = {state.account_id: state for state in states}
    if not by_id:
        return 0
    before = {
        row.account_id: row.ready
        for row in fetch(
            session,
            """
            SELECT account_id, ready FROM stripe_account
            WHERE merchant_id = :merchant_id AND account_id = ANY(CAST(:ids AS text[]))
            ORDER BY affiliate_id FOR UPDATE
            """,
            {"merchant_id": merchant_id, "ids": list(by_id)},
        )
    }
    rows = fetch(
        session,
        """
        UPDATE stripe_account AS account
        SET ready = told.ready, charges_enabled = told.charges_enabled, payouts_enabled = told.payouts_enabled,
            details_submitted = told.details_submitted, capabilities = CAST(told.capabilities AS jsonb),
            requirements = CAST(told.requirements AS jsonb), told_at = :asked_at
        FROM unnest(CAST(:ids AS text[]), CAST(:ready AS boolean[]), CAST(:charges AS boolean[]),
                    CAST(:payouts AS boolean[]), CAST(:submitted AS boolean[]), CAST(:capabilities AS text[]),
                    CAST(:requirements AS text[]))
             AS told (account_id, ready, charges_enabled, payouts_enabled, details_submitted, capabilities,
                      requirements)
        WHERE account.merchant_id = :merchant_id AND account.account_id = told.account_id
          AND (account.told_at IS NULL OR account.told_at < :asked_at)
        RETURNING account.affiliate_id, account.account_id, account.ready
        """,
        {
            "merchant_id": merchant_id,
            "asked_at": asked_at,
            "ids": list(by_id),
            "ready": [state.can_be_paid for state in by_id.values()],
            "charges": [state.charges_enabled for state in by_id.values()],
            "payouts": [state.payouts_enabled for state in by_id.values()],
            "submitted": [state.details_submitted for state in by_id.values()],
            "capabilities": [json.dumps(dict(state.capabilities)) for state in by_id.values()],
            "requirements": [json.dumps(dict(state.requirements)) for state in by_id.values()],
        },
    )
    changed = sorted((row for row in rows if row.ready is not before[row.account_id]), key=lambda row: row.affiliate_id)
    if changed:
        _, when = merchant_time(session, merchant_id, now=now)
        emit(
            session,
            [
                Event(
                    merchant_id,
                    EventType.STRIPE_ACCOUNT_READY if row.ready else EventType.STRIPE_ACCOUNT_NOT_READY,
                    row.affiliate_id,
                    {"affiliate_id": ids.encode("aff", row.affiliate_id), "account_id": row.account_id},
                    when.now,
                )
                for row in changed
            ],
        )
    return len(changed)


@dataclass(frozen=True, slots=True)
class BankPayout:
    """A payout of Stripe to a payee's own bank. amount_minor: in ISO minor units. made_at: by Stripe's clock."""

    id: str
    account_id: str
    status: BankPayoutStatus
    amount_minor: int
    currency: str
    failure_code: str | None
    made_at: datetime


def store_bank_payouts(session: Session, told: Sequence[BankPayout], *, merchant_id: UUID, now: datetime) -> int:
    """Keep what became of payouts to payees' banks; tell those that failed, once each. Returns how many failed now.

    A failure stands for good: Stripe tells `paid` first and `failed` afterwards, and they may come in any order.
    """
    merged: dict[str, BankPayout] = {}
    for each in told:
        if each.id not in merged or each.status is BankPayoutStatus.FAILED:
            merged[each.id] = each
    if not merged:
        return 0
    asked = {
        "merchant_id": merchant_id,
        "ids": list(merged),
        "accounts": [each.account_id for each in merged.values()],
        "statuses": [each.status.value for each in merged.values()],
        "amounts": [each.amount_minor for each in merged.values()],
        "currencies": [each.currency for each in merged.values()],
        "codes": [each.failure_code for each in merged.values()],
        "made": [each.made_at for each in merged.values()],
    }
    known = {
        row.id: row.status
        for row in fetch(
            session,
            "SELECT id, status FROM bank_payout WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS text[]))"
            " ORDER BY id FOR UPDATE",
            asked,
        )
    }
    rows = fetch(
        session,
        """
        INSERT INTO bank_payout AS known (merchant_id, id, affiliate_id, status, amount_minor, currency, failure_code,
                                          made_at)
        SELECT :merchant_id, told.id, account.affiliate_id, told.status, told.amount_minor, told.currency,
               told.failure_code, told.made_at
        FROM unnest(CAST(:ids AS text[]), CAST(:accounts AS text[]), CAST(:statuses AS text[]),
                    CAST(:amounts AS bigint[]), CAST(:currencies AS text[]), CAST(:codes AS text[]),
                    CAST(:made AS timestamptz[]))
             AS told (id, account_id, status, amount_minor, currency, failure_code, made_at)
        JOIN stripe_account AS account ON account.merchant_id = :merchant_id AND account.account_id = told.account_id
        ORDER BY told.id
        ON CONFLICT (merchant_id, id) DO UPDATE
        SET status = excluded.status, failure_code = excluded.failure_code
        WHERE known.status = 'paid' AND excluded.status = 'failed'
        RETURNING id, affiliate_id, status
        """,
        asked,
    )
    failed = [row for row in rows if row.status == BankPayoutStatus.FAILED and known.get(row.id) != row.status]
    if failed:
        _, when = merchant_time(session, merchant_id, now=now)
        emit(
            session,
            [
                Event(
                    merchant_id,
                    EventType.STRIPE_ACCOUNT_PAYOUT_FAILED,
                    row.affiliate_id,
                    {
                        "affiliate_id": ids.encode("aff", row.affiliate_id),
                        "account_id": merged[row.id].account_id,
                        "amount_minor": merged[row.id].amount_minor,
                        "currency": merged[row.id].currency,
                        "reason_code": merged[row.id].failure_code or "unknown",
                    },
                    when.now,
                )
                for row in sorted(failed, key=lambda row: row.id)
            ],
        )
    return len(failed)


NEWEST_FAILED = """
    coalesce((SELECT bank_payout.status = 'failed' FROM bank_payout
              WHERE bank_payout.merchant_id = account.merchant_id AND bank_payout.affiliate_id = account.affiliate_id
              ORDER BY bank_payout.made_at DESC, bank_payout.id DESC LIMIT 1), false)
"""
"""Whether the newest payout to the payee's bank failed: its money is still at Stripe, and more would only join it."""


def not_ready(session: Session, *, rail: str, merchant_id: UUID, payee_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Return those of the payees whose active payout method is an account that cannot be paid now, as far as we were told.

    An account that was not made here is not known here: what it can take, the transfer itself will tell.
    """
    if rail != NAME:
        return frozenset()
    rows = fetch(
        session,
        f"""
        SELECT account.affiliate_id
        FROM stripe_account AS account
        JOIN payout_method ON payout_method.merchant_id = account.merchant_id
             AND payout_method.affiliate_id = account.affiliate_id AND payout_method.rail = :rail
             AND payout_method.replaced_at IS NULL AND payout_method.fingerprint = account.fingerprint
        WHERE account.merchant_id = :merchant_id AND account.affiliate_id = ANY(CAST(:payee_ids AS uuid[]))
          AND (NOT account.ready OR {NEWEST_FAILED})
        """,  # noqa: S608 - a constant of ours
        {"merchant_id": merchant_id, "payee_ids": list(payee_ids), "rail": NAME},
    )
    return frozenset(row.affiliate_id for row in rows)


def newest_bank_payout(session: Session, account: StripeAccountRow) -> BankPayout | None:
    """Return the newest payout to the payee's bank that was told."""
    rows = fetch(
        session,
        """
        SELECT id, status, amount_minor, currency, failure_code, made_at FROM bank_payout
        WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id
        ORDER BY made_at DESC, id DESC LIMIT 1
        """,
        {"merchant_id": account.merchant_id, "affiliate_id": account.affiliate_id},
    )
    return next((_bank_payout(row, account.account_id or "") for row in rows), None)


def _bank_payout(row: Row[Any], account_id: str) -> BankPayout:
    return BankPayout(
        row.id,
        account_id,
        BankPayoutStatus(row.status),
        row.amount_minor,
        row.currency,
        row.failure_code,
        row.made_at,
    )


def refresh(
    engine: Engine, accounts: StripeAccounts, *, merchant_id: UUID, account_id: str, clock: Callable[[], datetime]
) -> None:
    """Ask Stripe what an account is now, and keep it. Raises StripeAway, StripeRefused."""
    asked_at = clock()
    state = accounts.read(account_id)
    run_unit(engine, partial(store_states, states=[state], merchant_id=merchant_id, asked_at=asked_at, now=asked_at))


def id_of_account(session: Session, merchant_id: UUID, affiliate_id: UUID) -> str:
    """Return the id of an affiliate's account at Stripe. Raises AccountNotMade."""
    row = session.get(StripeAccountRow, (merchant_id, affiliate_id))
    if row is None or row.account_id is None:
        # Where Stripe's answer got lost, asking again brings it.
        raise AccountNotMade(f"Ask for one for {ids.encode('aff', affiliate_id)} first; it is made once.")
    return row.account_id


def _locked(session: Session, merchant_id: UUID, affiliate_id: UUID) -> StripeAccountRow:
    row = session.exec(
        select(StripeAccountRow)
        .where(col(StripeAccountRow.merchant_id) == merchant_id, col(StripeAccountRow.affiliate_id) == affiliate_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise InvariantBroken(f"the account of {affiliate_id} went away")
    return row
