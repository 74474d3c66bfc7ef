"""Assess orders again whose answer changed though nothing new was told of them."""

from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.assess import OrderUpdate, assess_orders
from service.infra.db import execute, fetch, run_unit
from service.ledger.times import merchant_times


def reassess_due(engine: Engine, merchant_id: UUID, *, at: datetime | None = None, limit: int = 200) -> int:
    """Assess a merchant's orders that wait for it. Returns how many. Safe to run twice at once and to repeat.

    at: by the merchant's clock; its present when None. limit: most orders per unit of work. One order's new answer may
    make others wait; these are taken too.
    """
    done = 0
    while found := run_unit(engine, partial(_reassess, merchant_id=merchant_id, at=at, limit=limit)):
        done += found
    return done


def _reassess(session: Session, *, merchant_id: UUID, at: datetime | None, limit: int) -> int:
    # Locked as intake locks them, sorted by name.
    locked = fetch(
        session,
        """
        SELECT id FROM orders
        WHERE merchant_id = :merchant_id
          AND id IN (SELECT order_id FROM reassess WHERE merchant_id = :merchant_id
                     ORDER BY created_at, order_id LIMIT :limit)
        ORDER BY merchant_id, source_id, external_id COLLATE "C"
        FOR UPDATE
        """,
        {"merchant_id": merchant_id, "limit": limit},
    )
    if not locked:
        return 0
    # A new statement: what another one assessed meanwhile does not wait any more, and must not be counted as seen.
    rows = fetch(
        session,
        """
        UPDATE orders SET seen = seen + 1
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:order_ids AS uuid[]))
          AND EXISTS (SELECT FROM reassess
                      WHERE reassess.merchant_id = orders.merchant_id AND reassess.order_id = orders.id)
        RETURNING id, seen
        """,
        {"merchant_id": merchant_id, "order_ids": [row.id for row in locked]},
    )
    if rows:
        updates = [OrderUpdate(merchant_id, row.id, row.seen) for row in rows]
        assess_orders(session, updates, when=merchant_times(session, [merchant_id], at=at))
        # Last, when the customers are locked: one who has a customer and leaves word for such an order would else wait
        # for us to delete it, while we wait for the customer.
        execute(
            session,
            "DELETE FROM reassess WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))",
            {"merchant_id": merchant_id, "order_ids": [row.id for row in rows]},
        )
    return len(locked)
