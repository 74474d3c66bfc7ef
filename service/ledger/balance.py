"""Kept balances: locked for those who decide on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session

from service.domain.ledger import Account, AccountKind
from service.infra.db import fetch


@dataclass(frozen=True, slots=True)
class Kept:
    """A balance and its version: one more per unit of work that moved it."""

    amount_minor: int
    version: int


def lock(
    session: Session, merchant_id: UUID, *, owner_ids: Sequence[UUID], kinds: Sequence[AccountKind], currency: str
) -> dict[Account, Kept]:
    """Lock the balances of one merchant's payees, in key order, until the unit of work ends.

    The order is that of `post`, so neither waits for the other in a circle. Accounts never used are absent.
    """
    rows = fetch(
        session,
        """
        SELECT owner_id, kind, amount_minor, version FROM balance
        WHERE merchant_id = :merchant_id AND owner_id = ANY(CAST(:owner_ids AS uuid[]))
          AND kind = ANY(CAST(:kinds AS text[])) AND currency = :currency
        ORDER BY merchant_id, owner_id, kind COLLATE "C", currency COLLATE "C"
        FOR UPDATE
        """,
        {
            "merchant_id": merchant_id,
            "owner_ids": list(owner_ids),
            "kinds": [kind.value for kind in kinds],
            "currency": currency,
        },
    )
    return {
        Account(merchant_id, row.owner_id, AccountKind(row.kind), currency): Kept(row.amount_minor, row.version)
        for row in rows
    }


def lock_accounts(session: Session, accounts: Iterable[Account]) -> dict[Account, Kept]:
    """Lock balances of any payees and currencies, in the order of `post`. Accounts never used are absent."""
    asked = sorted(set(accounts))
    rows = fetch(
        session,
        """
        SELECT balance.merchant_id, balance.owner_id, balance.kind, balance.currency, amount_minor, version
        FROM balance
        JOIN unnest(CAST(:merchant_ids AS uuid[]), CAST(:owner_ids AS uuid[]), CAST(:kinds AS text[]),
                    CAST(:currencies AS text[])) AS asked (merchant_id, owner_id, kind, currency)
          ON asked.merchant_id = balance.merchant_id AND asked.owner_id = balance.owner_id
         AND asked.kind = balance.kind AND asked.currency = balance.currency
        ORDER BY balance.merchant_id, balance.owner_id, balance.kind COLLATE "C", balance.currency COLLATE "C"
        FOR UPDATE OF balance
        """,
        {
            "merchant_ids": [account.merchant_id for account in asked],
            "owner_ids": [account.owner_id for account in asked],
            "kinds": [account.kind.value for account in asked],
            "currencies": [account.currency for account in asked],
        },
    )
    return {
        Account(row.merchant_id, row.owner_id, AccountKind(row.kind), row.currency): Kept(row.amount_minor, row.version)
        for row in rows
    }
