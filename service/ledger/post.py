"""Book postings: balances first, then the booking day, then the postings themselves, in this order of locks."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import InvariantBroken
from service.domain.ledger import (
    MAY_BE_NEGATIVE,
    MERCHANT_ACCOUNTS,
    NEVER_POSITIVE,
    SLOTS,
    Account,
    MerchantTime,
    Posting,
    next_day,
)
from service.infra.db import execute, fetch
from service.ledger.balance import Kept

DAYS_AHEAD_MAX = 400
"""How many sealed days a booking may step over before something is plainly wrong."""


@dataclass(frozen=True, slots=True)
class _Booking:
    """Where a unit of work books one merchant's postings, and how many units of work have booked there up to it."""

    day: date
    number: int


def post(
    session: Session,
    postings: Sequence[Posting],
    *,
    when: Mapping[UUID, MerchantTime],
    touched: Collection[Account] = (),
) -> dict[Account, Kept]:
    """Book postings of any number of merchants. Returns the kept balances they moved, as they are afterwards.

    when: the moment and time zone of each merchant. touched: accounts whose version has to rise though their amount
    may not move; payable at each reserve, release and giving back. Each version rises by one per call, so call once
    in a unit of work.
    Raises InvariantBroken when an account that may not would fall below zero, or one that may not rises above.
    """
    kept = _raise_balances(session, postings, touched)
    if postings:
        bookings = _open_days(session, postings, when)
        _add_to_days(session, postings, bookings)
        _insert(session, postings, bookings, when)
    return kept


def _raise_balances(session: Session, postings: Sequence[Posting], touched: Collection[Account]) -> dict[Account, Kept]:
    changes: dict[Account, int] = defaultdict(int, dict.fromkeys(touched, 0))
    for posting in postings:
        if posting.debit.kind not in MERCHANT_ACCOUNTS:
            changes[posting.debit] -= posting.amount_minor
        if posting.credit.kind not in MERCHANT_ACCOUNTS:
            changes[posting.credit] += posting.amount_minor
    if not changes:
        return {}
    accounts = sorted(changes, key=lambda each: (each.merchant_id, each.owner_id, each.kind, each.currency))
    # The upsert itself is the lock: rows are met in key order, so two batches never wait for each other in a circle.
    rows = fetch(
        session,
        """
        INSERT INTO balance AS kept (merchant_id, owner_id, kind, currency, amount_minor, version)
        SELECT merchant_id, owner_id, kind, currency, amount_minor, 1
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:owner_ids AS uuid[]), CAST(:kinds AS text[]),
                    CAST(:currencies AS text[]), CAST(:amounts AS bigint[]))
             AS change (merchant_id, owner_id, kind, currency, amount_minor)
        ORDER BY merchant_id, owner_id, kind COLLATE "C", currency COLLATE "C"
        ON CONFLICT (merchant_id, owner_id, kind, currency) DO UPDATE
        SET amount_minor = kept.amount_minor + excluded.amount_minor, version = kept.version + 1
        RETURNING merchant_id, owner_id, kind, currency, amount_minor, version
        """,
        {
            "merchant_ids": [account.merchant_id for account in accounts],
            "owner_ids": [account.owner_id for account in accounts],
            "kinds": [account.kind.value for account in accounts],
            "currencies": [account.currency for account in accounts],
            "amounts": [changes[account] for account in accounts],
        },
    )
    found = {
        (row.merchant_id, row.owner_id, row.kind, row.currency): Kept(row.amount_minor, row.version) for row in rows
    }
    kept = {
        account: found[account.merchant_id, account.owner_id, account.kind.value, account.currency]
        for account in accounts
    }
    for account, balance in kept.items():
        if balance.amount_minor < 0 and account.kind not in MAY_BE_NEGATIVE:
            raise InvariantBroken(f"{account} would fall to {balance.amount_minor}")
        if balance.amount_minor > 0 and account.kind in NEVER_POSITIVE:
            raise InvariantBroken(f"{account} would rise to {balance.amount_minor}")
    return kept


def _slot() -> int:
    """The row of a day that this process books on."""
    return os.getpid() % SLOTS


def _open_days(
    session: Session, postings: Sequence[Posting], when: Mapping[UUID, MerchantTime]
) -> dict[UUID, _Booking]:
    """The day each merchant books on: today, or the next day whose slot is not sealed.

    The slot's row stays locked until the commit, so bookings are numbered without gaps in the order of commits: what the
    chain has covered, nobody can slip in below.
    """
    slot = _slot()
    wanted = {merchant_id: when[merchant_id].day for merchant_id in {posting.merchant_id for posting in postings}}
    open_days: dict[UUID, _Booking] = {}
    for _ in range(DAYS_AHEAD_MAX):
        asked = sorted(wanted.items())
        rows = fetch(
            session,
            """
            INSERT INTO day_slot AS known (merchant_id, day, slot, touched)
            SELECT merchant_id, day, :slot, 1
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:days AS date[])) AS asked (merchant_id, day)
            ORDER BY merchant_id, day
            ON CONFLICT (merchant_id, day, slot) DO UPDATE SET touched = known.touched + 1
            WHERE known.sealed_at IS NULL
            RETURNING merchant_id, day, touched
            """,
            {"slot": slot, "merchant_ids": [each for each, _ in asked], "days": [day for _, day in asked]},
        )
        open_days.update((row.merchant_id, _Booking(row.day, row.touched)) for row in rows)
        wanted = {merchant_id: next_day(day) for merchant_id, day in asked if merchant_id not in open_days}
        if not wanted:
            return open_days
    raise InvariantBroken(f"no open booking day within {DAYS_AHEAD_MAX} days for {sorted(wanted)}")


def _add_to_days(session: Session, postings: Sequence[Posting], bookings: Mapping[UUID, _Booking]) -> None:
    sums: dict[tuple[UUID, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for posting in postings:
        sums[posting.merchant_id, posting.debit.kind.value, posting.debit.currency][0] += posting.amount_minor
        sums[posting.merchant_id, posting.credit.kind.value, posting.credit.currency][1] += posting.amount_minor
    keys = sorted(sums)
    execute(
        session,
        """
        INSERT INTO day_sum AS known (merchant_id, day, slot, kind, currency, debit_minor, credit_minor)
        SELECT merchant_id, day, :slot, kind, currency, debit_minor, credit_minor
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:days AS date[]), CAST(:kinds AS text[]),
                    CAST(:currencies AS text[]), CAST(:debits AS bigint[]), CAST(:credits AS bigint[]))
             AS added (merchant_id, day, kind, currency, debit_minor, credit_minor)
        ON CONFLICT (merchant_id, day, slot, kind, currency) DO UPDATE
        SET debit_minor = known.debit_minor + excluded.debit_minor,
            credit_minor = known.credit_minor + excluded.credit_minor
        """,
        {
            "slot": _slot(),
            "merchant_ids": [merchant_id for merchant_id, _, _ in keys],
            "days": [bookings[merchant_id].day for merchant_id, _, _ in keys],
            "kinds": [kind for _, kind, _ in keys],
            "currencies": [currency for _, _, currency in keys],
            "debits": [sums[each][0] for each in keys],
            "credits": [sums[each][1] for each in keys],
        },
    )


def _insert(
    session: Session, postings: Sequence[Posting], bookings: Mapping[UUID, _Booking], when: Mapping[UUID, MerchantTime]
) -> None:
    execute(
        session,
        """
        INSERT INTO posting (merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind, credit_owner_id,
                             currency, amount_minor, day, slot, booking, created_at)
        SELECT merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind, credit_owner_id,
               currency, amount_minor, day, :slot, booking, created_at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:events AS text[]),
                    CAST(:seqs AS integer[]), CAST(:debit_kinds AS text[]), CAST(:debit_owners AS uuid[]),
                    CAST(:credit_kinds AS text[]), CAST(:credit_owners AS uuid[]), CAST(:currencies AS text[]),
                    CAST(:amounts AS bigint[]), CAST(:days AS date[]), CAST(:bookings AS integer[]),
                    CAST(:created AS timestamptz[]))
             AS made (merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind, credit_owner_id,
                      currency, amount_minor, day, booking, created_at)
        """,
        {
            "slot": _slot(),
            "merchant_ids": [posting.merchant_id for posting in postings],
            "ids": [posting.id for posting in postings],
            "events": [posting.event for posting in postings],
            "seqs": [posting.seq for posting in postings],
            "debit_kinds": [posting.debit.kind.value for posting in postings],
            "debit_owners": [posting.debit.owner_id for posting in postings],
            "credit_kinds": [posting.credit.kind.value for posting in postings],
            "credit_owners": [posting.credit.owner_id for posting in postings],
            "currencies": [posting.debit.currency for posting in postings],
            "amounts": [posting.amount_minor for posting in postings],
            "days": [bookings[posting.merchant_id].day for posting in postings],
            "bookings": [bookings[posting.merchant_id].number for posting in postings],
            "created": [when[posting.merchant_id].now for posting in postings],
        },
    )
