"""What merchants hear of payouts: the events written beside each change."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Row

from service.domain.events import EventType
from service.domain.ledger import MerchantTime, booking_day
from service.infra import ids
from service.outbox.emit import Event
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutItemRow, PayoutRunRow


def of_run(run: PayoutRunRow | Row[Any], what: str, *, at: datetime, **more: object) -> Event:
    """run: or a row with its merchant, id, rail, currency and status. what: created, submitted, approved, executing, closed, cancelled or stopped. at: by the merchant's clock."""
    payload: dict[str, Any] = {
        "payout_run_id": ids.encode("run", run.id),
        "rail": run.rail,
        "currency": run.currency,
        "status": run.status,
        **more,
    }
    return Event(run.merchant_id, EventType(f"payout_run.{what}"), run.id, payload, at)


def of_file(file: PayoutFileRow | Row[Any], type_: EventType, *, when: MerchantTime) -> Event:
    """file: or a row with its columns but for the bytes."""
    payload: dict[str, Any] = {
        "payout_file_id": ids.encode("pfl", file.id),
        "payout_run_id": ids.encode("run", file.run_id),
        "number": file.number,
        "rail": file.rail,
        "currency": file.currency,
        "status": file.state,
        "lines": file.lines,
        "control_sum_minor": file.control_sum_minor,
        "pays_on": day_of(file, when.time_zone).isoformat(),
    }
    return Event(file.merchant_id, type_, file.id, payload, when.now)


def day_of(file: PayoutFileRow | Row[Any], time_zone: str) -> date:
    """Return the day a file is for: its payments are dated by it, and it took its room in the limits of that day.

    time_zone: the merchant's, which never changes.
    """
    return booking_day(file.built_at, time_zone)


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
    return Event(item.merchant_id, EventType(f"payout.{what}"), item.id, payload, at)


def of_paid(item: PayoutItemRow, *, at: datetime) -> Event:
    """All commissions an item covers are paid: one event, for they may be many thousands; its statement lists them."""
    payload: dict[str, Any] = {
        "payout_id": ids.encode("pay", item.id),
        "payout_run_id": ids.encode("run", item.run_id),
        "affiliate_id": ids.encode("aff", item.payee_id),
        "currency": item.currency,
        "gross_minor": item.gross_minor,
        "net_minor": item.net_minor,
        "statement_path": f"/v1/payouts/{ids.encode('pay', item.id)}/statement",
    }
    return Event(item.merchant_id, EventType.COMMISSION_PAID, item.id, payload, at)
