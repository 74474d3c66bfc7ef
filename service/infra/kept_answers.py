"""How long answers are kept under Idempotency-Keys, and how they are forgotten."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute

KEPT_FOR = timedelta(hours=24)
OPERATORS = UUID(int=0)
"""Stands for the merchant in rows of operators' requests."""
_AT_ONCE = 5_000
"""Most rows that one unit of work deletes."""


def forget(session: Session, merchant_id: UUID, *, now: datetime) -> int:
    """Delete the oldest of what has been kept long enough. Returns how many; there may be more unless it is 0."""
    return execute(
        session,
        """
        DELETE FROM kept_answer
        WHERE merchant_id = :merchant_id AND (key_id, idempotency_key) IN (
            SELECT key_id, idempotency_key FROM kept_answer
            WHERE merchant_id = :merchant_id AND claimed_at <= :forgotten
            ORDER BY claimed_at LIMIT :limit FOR UPDATE SKIP LOCKED)
        """,
        {"merchant_id": merchant_id, "forgotten": now - KEPT_FOR, "limit": _AT_ONCE},
    )
