"""The present of merchants, by which what is posted is dated: a test merchant's clock may run ahead of ours."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session

from service.domain.ledger import MerchantTime
from service.infra.clock import utc_now
from service.infra.db import fetch


def merchant_times(
    session: Session, merchant_ids: Iterable[UUID], *, at: datetime | None = None
) -> dict[UUID, MerchantTime]:
    """The present of each merchant, in its time zone. at: a moment of theirs to take instead, when books are made again."""
    now = utc_now()
    rows = fetch(
        session,
        "SELECT id, time_zone, clock_offset_s FROM merchant WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": sorted(merchant_ids)},
    )
    return {row.id: MerchantTime(at or now + timedelta(seconds=row.clock_offset_s), row.time_zone) for row in rows}
