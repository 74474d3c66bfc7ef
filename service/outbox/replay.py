"""Deliver again: one delivery, or every event of a span of time, also those an endpoint missed while it was disabled."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session

from service.domain.events import EventType, listens
from service.infra import ids
from service.infra.db import fetch
from service.outbox.deliver import make, wake

EVENTS_MAX = 5000
"""Events of one call. More than that take several, each from where the one before ended."""
CLOCKS_APART = timedelta(minutes=10)
"""How far an event's id, made by the clock of some process, may lie from the time it bears."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which events of those the endpoint listens to.

    since, until: by the merchant's clock, until itself not included. patterns: only these, as endpoints have them.
    after: the last event of the call before, None at first.
    """

    since: datetime
    until: datetime
    patterns: tuple[str, ...] = ("*",)
    after: UUID | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the events of a span. last: id of the last one looked at, None when there was none."""

    events: int
    made: int
    again: int
    under_way: int
    last: UUID | None
    has_more: bool


def replay_span(
    session: Session,
    span: Span,
    *,
    merchant_id: UUID,
    endpoint_id: UUID,
    listens_to: Collection[str],
    clock_offset: timedelta,
    now: datetime,
) -> Replayed:
    """Make every event of a span that the endpoint listens to due for it now, up to EVENTS_MAX of them.

    clock_offset: how far the merchant's clock runs ahead of ours, by which ids are made.
    """
    types = [each.value for each in EventType if listens(span.patterns, each) and listens(listens_to, each)]
    rows = fetch(
        session,
        """
        SELECT id, type FROM outbox
        WHERE merchant_id = :merchant_id AND id >= :lowest AND id < :highest
          AND (CAST(:after AS uuid) IS NULL OR id > :after)
          AND created_at >= :since AND created_at < :until AND type = ANY(CAST(:types AS text[])) AND type <> :ping
        ORDER BY id LIMIT :limit
        """,
        {
            "merchant_id": merchant_id,
            # The ids only narrow down where to look. A test clock is never set back, so by ours nothing lies further away.
            "lowest": ids.lowest_id(_earlier(span.since, clock_offset + CLOCKS_APART)),
            "highest": ids.lowest_id(_later(span.until, CLOCKS_APART)),
            "after": span.after,
            "since": span.since,
            "until": span.until,
            "types": types,
            "ping": EventType.WEBHOOK_ENDPOINT_PING.value,
            "limit": EVENTS_MAX + 1,
        },
    )
    chosen = rows[:EVENTS_MAX]
    made = make(session, merchant_id, [(endpoint_id, row.id, row.type) for row in chosen], now=now)
    again = _again(
        session,
        """
        SELECT id FROM webhook_delivery
        WHERE merchant_id = :merchant_id AND endpoint_id = :endpoint_id AND event_id = ANY(CAST(:event_ids AS uuid[]))
          AND id <> ALL(CAST(:made AS uuid[])) AND state <> 'sending'
        ORDER BY id FOR NO KEY UPDATE
        """,
        {
            "merchant_id": merchant_id,
            "endpoint_id": endpoint_id,
            "event_ids": [row.id for row in chosen],
            "made": made,
        },
        now=now,
    )
    wake(session, merchant_id=merchant_id, now=now)
    return Replayed(
        events=len(chosen),
        made=len(made),
        again=again,
        under_way=len(chosen) - len(made) - again,
        last=chosen[-1].id if chosen else None,
        has_more=len(rows) > EVENTS_MAX,
    )


def replay_one(session: Session, *, merchant_id: UUID, delivery_id: UUID, now: datetime) -> bool:
    """Make a delivery due now, with all its tries before it. Returns whether it was; not while somebody sends it."""
    again = _again(
        session,
        """
        SELECT id FROM webhook_delivery
        WHERE merchant_id = :merchant_id AND id = :id AND state <> 'sending'
        FOR NO KEY UPDATE
        """,
        {"merchant_id": merchant_id, "id": delivery_id},
        now=now,
    )
    wake(session, merchant_id=merchant_id, now=now)
    return again == 1


def _again(session: Session, chosen: str, asked: dict[str, object], *, now: datetime) -> int:
    """chosen: a SELECT of ids, which locks them in their order; what is being sent is left to whoever sends it."""
    rows = fetch(
        session,
        f"""
        WITH chosen AS ({chosen})
        UPDATE webhook_delivery AS delivery
        SET state = 'pending', next_at = :now, tries = 0, done_at = NULL, replays = delivery.replays + 1
        FROM chosen
        WHERE delivery.merchant_id = :merchant_id AND delivery.id = chosen.id
        RETURNING delivery.id
        """,  # noqa: S608 - both parts are ours
        asked | {"now": now},
    )
    return len(rows)


def _earlier(at: datetime, by: timedelta) -> datetime:
    try:
        return at - by
    except OverflowError:
        return datetime.min.replace(tzinfo=at.tzinfo)


def _later(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:
        return datetime.max.replace(tzinfo=at.tzinfo)
