"""Assess orders again whose answer changed though nothing new was told of them."""

from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.assess import OrderUpdate, assess_orders
from service.domain.ledger import MerchantTime
from service.infra.clock import utc_now
from service.infra.db import fetch, run_unit


def reassess_due(engine: Engine, merchant_id: UUID, *, limit: int = 200) -> int:
    """Assess a merchant's orders that wait for it. Returns how many. Safe to run twice at once and to repeat.

    limit: most orders per unit of work. One order's new answer may make others wait; these are taken too.
    """
    done = 0
    while found := run_unit(engine, partial(_reassess, merchant_id=merchant_id, limit=limit)):
        done += found
    return done


def _reassess(session: Session, *, merchant_id: UUID, limit: int) -> int:
    # Locked as intake locks them, sorted by name; what another one assessed meanwhile is gone when we have the lock.
    rows = fetch(
        session,
        """
        UPDATE orders SET seen = seen + 1
        FROM (SELECT orders.id FROM orders
              WHERE merchant_id = :merchant_id
                AND id IN (SELECT order_id FROM reassess WHERE merchant_id = :merchant_id
                           ORDER BY created_at, order_id LIMIT :limit)
              ORDER BY merchant_id, source_id, external_id COLLATE "C"
              FOR UPDATE) AS locked
        WHERE orders.merchant_id = :merchant_id AND orders.id = locked.id
        RETURNING orders.id, orders.seen
        """,
        {"merchant_id": merchant_id, "limit": limit},
    )
    if not rows:
        return 0
    taken = fetch(
        session,
        """
        DELETE FROM reassess WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
        RETURNING order_id
        """,
        {"merchant_id": merchant_id, "order_ids": [row.id for row in rows]},
    )
    merchant = fetch(session, "SELECT time_zone, clock_offset_s FROM merchant WHERE id = :id", {"id": merchant_id})[0]
    now = utc_now() + timedelta(seconds=merchant.clock_offset_s)
    waiting = {row.order_id for row in taken}
    updates = [OrderUpdate(merchant_id, row.id, row.seen) for row in rows if row.id in waiting]
    if updates:
        assess_orders(session, updates, when={merchant_id: MerchantTime(now, merchant.time_zone)})
    return len(rows)
