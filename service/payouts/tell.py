"""What merchants hear of payouts: the events written beside each change."""

from datetime import datetime
from typing import Any

from service.infra import ids
from service.outbox.emit import Event
from service.tables.payouts import PayoutItemRow, PayoutRunRow


def of_run(run: PayoutRunRow, what: str, *, at: datetime, **more: object) -> Event:
    """what: submitted, approved, executing, closed, cancelled or stopped. at: by the merchant's clock."""
    payload: dict[str, Any] = {
        "payout_run_id": ids.encode("run", run.id),
        "rail": run.rail,
        "currency": run.currency,
        "status": run.status,
        **more,
    }
    return Event(run.merchant_id, f"payout_run.{what}", run.id, payload, at)


def of_item(item: PayoutItemRow, what: str, *, at: datetime, **more: object) -> Event:
    """what: sent, refused, absent, released, reversed, returned, settled or failed."""
    payload: dict[str, Any] = {
        "payout_id": ids.encode("pay", item.id),
        "payout_run_id": ids.encode("run", item.run_id),
        "affiliate_id": ids.encode("aff", item.payee_id),
        "currency": item.currency,
        "net_minor": item.net_minor,
        **more,
    }
    return Event(item.merchant_id, f"payout.{what}", item.id, payload, at)
