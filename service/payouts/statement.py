"""Explain an item: every movement of payable it drained, from an opening balance of 0 to a closing one of 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.infra.db import fetch
from service.tables.payouts import PayoutItemRow

LINES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Movement:
    """One change of payable inside an item's interval. amount_minor: with its sign.

    kind: a commission entry's kind; advance, or advance_repaid for what was netted; untax, recover, write_off or
    paid_outside for what people put right; or given_back for an earlier payout that was released before it was sent. What a rail gave
    back is carried with its deductions done and moves no payable. version: payable's own number of the change; several movements of one unit of work share it. order_number: as the shop writes it.
    """

    version: int
    kind: str
    amount_minor: int
    at: datetime
    commission_id: UUID | None
    order_id: UUID | None
    order_number: str | None
    payout_id: UUID | None


def movements(session: Session, item: PayoutItemRow, *, limit: int = LINES_MAX) -> Sequence[Movement]:
    """Return the movements an item owns, oldest first; their sum is what it drained, unless there are more than `limit`."""
    rows = fetch(
        session,
        """
        SELECT entry.payable_version AS version, entry.kind,
               CASE WHEN entry.destination = 'payable' THEN entry.amount_minor ELSE -entry.amount_minor END
                   AS amount_minor,
               entry.created_at AS at, commission.id AS commission_id, commission.order_id,
               coalesce(nullif(fact.payload ->> 'number', ''), orders.external_id) AS order_number, CAST(NULL AS uuid) AS payout_id, entry.seq
        FROM commission
        JOIN commission_entry AS entry
          ON entry.merchant_id = commission.merchant_id AND entry.commission_id = commission.id
        LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        LEFT JOIN fact ON fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id AND fact.kind = 'order'
        WHERE commission.merchant_id = :merchant_id AND commission.payee_id = :payee_id
          AND commission.currency = :currency
          AND entry.payable_version > :from_version AND entry.payable_version <= :to_version
        UNION ALL
        SELECT payable_version, CASE advance.kind WHEN 'given' THEN 'advance' ELSE 'advance_repaid' END,
               CASE advance.kind WHEN 'given' THEN advance.amount_minor ELSE -advance.amount_minor END, advance.created_at,
               commission_id, commission.order_id,
               coalesce(nullif(fact.payload ->> 'number', ''), orders.external_id), NULL, 0
        FROM advance
        LEFT JOIN commission
          ON commission.merchant_id = advance.merchant_id AND commission.id = advance.commission_id
        LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        LEFT JOIN fact ON fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id AND fact.kind = 'order'
        WHERE advance.merchant_id = :merchant_id AND advance.payee_id = :payee_id AND advance.currency = :currency
          AND payable_version > :from_version AND payable_version <= :to_version
        UNION ALL
        SELECT payable_version, kind, CASE kind WHEN 'paid_outside' THEN -amount_minor ELSE amount_minor END, decided_at,
               NULL, NULL, NULL, NULL, 0
        FROM correction
        WHERE merchant_id = :merchant_id AND payee_id = :payee_id AND currency = :currency AND state = 'booked'
          AND payable_version > :from_version AND payable_version <= :to_version
        UNION ALL
        SELECT gave_back_version, 'given_back', gross_minor, released_at, NULL, NULL, NULL, id, 0
        FROM payout_item
        WHERE merchant_id = :merchant_id AND payee_id = :payee_id AND currency = :currency
          AND gave_back_version > :from_version AND gave_back_version <= :to_version AND gross_minor > 0
          AND released_at IS NOT NULL
        ORDER BY version, commission_id, seq
        LIMIT :limit
        """,
        {
            "merchant_id": item.merchant_id,
            "payee_id": item.payee_id,
            "currency": item.currency,
            "from_version": item.from_version,
            "to_version": item.to_version,
            "limit": limit,
        },
    )
    return [
        Movement(
            version=row.version,
            kind=row.kind,
            amount_minor=row.amount_minor,
            at=row.at,
            commission_id=row.commission_id,
            order_id=row.order_id,
            order_number=row.order_number,
            payout_id=row.payout_id,
        )
        for row in rows
    ]
