"""Deliver events to merchants' endpoints: fan out, claim, call, record. At least once, in no promised order.

Claim → call → record, as for payouts: a claim is a conditional UPDATE that sets the time at which whoever claimed counts
as dead; an answer is recorded only under the fence of its claim. A worker that dies between call and record leaves a
delivery that is sent again; the receiver knows it by its webhook-id, the event's own id.
"""

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.delivery import DisabledReason, Health, Next, after_try, health_after
from service.domain.events import EventType, listens
from service.infra import ids, metrics
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, run_unit
from service.infra.security import CannotDecrypt, Security
from service.outbox.emit import Event, emit
from service.outbox.poster import Claimed, Poster, Tried, body_of

SECRET_PURPOSE = "webhook-endpoint-secret"  # noqa: S105 - a purpose, no secret
"""What endpoints' secrets are encrypted for."""
JOB = "deliver"
"""Kind of the job that each merchant has one of, for ever."""

LEASE = timedelta(minutes=5)
"""How long a claimed delivery is ours; a call ends far sooner."""
FAN_OUT_AT_ONCE = 500
"""Events of one unit of work of `fan_out`."""
PATIENCE_S = 0.25
"""How long a turn waits for an answer before it gives way; calls go on meanwhile, and are recorded in a later turn."""
LOOK_AGAIN = timedelta(milliseconds=250)
"""How soon there is another look where calls are under way or places were full."""
LOOK_EVERY = timedelta(minutes=5)
"""How often there is one where nothing is known to wait."""
KEPT_FOR = timedelta(days=90)
"""How long deliveries that are done stay listed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """What one worker delivers with. clock: ours, in UTC."""

    engine: Engine
    security: Security
    poster: Poster
    clock: Callable[[], datetime]


def wake_queued(session: Session, *, now: datetime) -> int:
    """Make due the jobs of merchants whose events wait in the queue. Returns how many.

    Not done by whoever tells an event: the job is one row, and every batch of orders of the merchant would wait for it.
    """
    return execute(
        session,
        """
        UPDATE job SET due_at = :now
        WHERE kind = :kind AND due_at > :now AND lease_until IS NULL
          AND EXISTS (SELECT FROM webhook_queue WHERE webhook_queue.merchant_id = job.merchant_id)
        """,
        {"kind": JOB, "now": now},
    )


def wake(session: Session, *, merchant_id: UUID, now: datetime) -> None:
    """Make the merchant's job due: a person wants something delivered."""
    execute(
        session,
        """
        INSERT INTO job AS known (merchant_id, id, kind, subject, due_at, tries, payload)
        VALUES (:merchant_id, :id, :kind, '', :now, 0, CAST('{}' AS jsonb))
        ON CONFLICT (merchant_id, kind, subject) DO UPDATE SET due_at = least(known.due_at, excluded.due_at)
        """,
        {"merchant_id": merchant_id, "id": ids.new_id(), "kind": JOB, "now": now},
    )


def turn(post: Post, *, merchant_id: UUID, until: datetime) -> datetime:
    """Deliver what is due of a merchant. until: begin nothing new after that. Returns when to look again.

    It goes on while answers come promptly. What is slow stays under way in its threads and holds up nobody else.
    """
    while True:
        now = post.clock()
        told = run_unit(post.engine, partial(fan_out, merchant_id=merchant_id, now=now))
        claimed = run_unit(post.engine, partial(claim, post=post, merchant_id=merchant_id, now=now))
        if claimed:
            crash_point(CrashPoint.WEBHOOK_CLAIMED)
        for each in claimed:
            post.poster.send(each)
        tried = record_arrived(post, wait_s=PATIENCE_S if post.poster.under_way_of(merchant_id) else 0)
        if not (told or claimed or tried):
            break
        if post.clock() >= until:
            return now
    soonest = run_unit(post.engine, partial(_next_due, merchant_id=merchant_id)) or now + LOOK_EVERY
    if post.poster.under_way_of(merchant_id):
        soonest = now
    return min(max(soonest, now + LOOK_AGAIN), now + LOOK_EVERY)


def record_arrived(post: Post, *, wait_s: float = 0) -> int:
    """Record what came of calls for any merchant, waiting so long for a first one. Returns how many there were."""
    tried = post.poster.arrived(wait_s=wait_s)
    if not tried:
        return 0
    crash_point(CrashPoint.WEBHOOK_ANSWERED)
    by_merchant: dict[UUID, list[Tried]] = defaultdict(list)
    for each in tried:
        by_merchant[each.claimed.merchant_id].append(each)
    for merchant_id, mine in by_merchant.items():
        run_unit(post.engine, partial(record, merchant_id=merchant_id, tried=mine, now=post.clock()))
    for result, number in Counter(each.result for each in tried).items():
        metrics.webhooks_tried(result.value, number=number)
    return len(tried)


def drain(post: Post, *, wait_s: float) -> None:
    """Wait for calls under way and record them. Gives up once none has ended for so long; those are sent again later."""
    while post.poster.under_way and record_arrived(post, wait_s=wait_s):
        pass


def fan_out(session: Session, *, merchant_id: UUID, now: datetime) -> int:
    """Take events out of the queue and make a delivery for each endpoint that listens. Returns how many were taken.

    In one unit of work: an event has left the queue if and only if its deliveries are there. A second worker skips what
    the first one has in hand.
    """
    taken = fetch(
        session,
        """
        DELETE FROM webhook_queue
        WHERE merchant_id = :merchant_id AND event_id IN (
            SELECT event_id FROM webhook_queue WHERE merchant_id = :merchant_id
            ORDER BY event_id LIMIT :limit FOR UPDATE SKIP LOCKED)
        RETURNING event_id
        """,
        {"merchant_id": merchant_id, "limit": FAN_OUT_AT_ONCE},
    )
    if not taken:
        return 0
    pairs = fetch(
        session,
        """
        SELECT outbox.id AS event_id, outbox.type, endpoint.id AS endpoint_id, endpoint.events
        FROM outbox
        JOIN webhook_endpoint AS endpoint ON endpoint.merchant_id = outbox.merchant_id AND endpoint.disabled_at IS NULL
        WHERE outbox.merchant_id = :merchant_id AND outbox.id = ANY(CAST(:event_ids AS uuid[])) AND outbox.type <> :ping
        ORDER BY outbox.id, endpoint.id
        """,
        {
            "merchant_id": merchant_id,
            "event_ids": [row.event_id for row in taken],
            "ping": EventType.WEBHOOK_ENDPOINT_PING.value,
        },
    )
    wanted = [(row.endpoint_id, row.event_id, row.type) for row in pairs if listens(row.events, row.type)]
    make(session, merchant_id, wanted, now=now)
    crash_point(CrashPoint.WEBHOOK_FANNED_OUT)
    return len(taken)


def make(session: Session, merchant_id: UUID, wanted: Sequence[tuple[UUID, UUID, str]], *, now: datetime) -> list[UUID]:
    """Make deliveries that are due now, of (endpoint, event, its type). Returns the ids of those that were not there yet."""
    if not wanted:
        return []
    rows = fetch(
        session,
        """
        INSERT INTO webhook_delivery (merchant_id, id, endpoint_id, event_id, event_type, state, tries, fence, next_at,
                                      replays, created_at)
        SELECT :merchant_id, id, endpoint_id, event_id, event_type, 'pending', 0, 0, :now, 0, :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:endpoint_ids AS uuid[]), CAST(:event_ids AS uuid[]),
                    CAST(:types AS text[])) AS made (id, endpoint_id, event_id, event_type)
        ON CONFLICT (merchant_id, endpoint_id, event_id) DO NOTHING
        RETURNING id
        """,
        {
            "merchant_id": merchant_id,
            "now": now,
            "ids": [ids.new_id() for _ in wanted],
            "endpoint_ids": [endpoint_id for endpoint_id, _, _ in wanted],
            "event_ids": [event_id for _, event_id, _ in wanted],
            "types": [type_ for _, _, type_ in wanted],
        },
    )
    return [row.id for row in rows]


def claim(session: Session, *, post: Post, merchant_id: UUID, now: datetime) -> list[Claimed]:
    """Take due deliveries, as many as there are places for, in turn from each endpoint: none waits behind another's."""
    chosen = _choose(session, post.poster, merchant_id, now)
    if not chosen:
        return []
    rows = fetch(
        session,
        """
        UPDATE webhook_delivery AS delivery
        SET state = 'sending', fence = delivery.fence + 1, next_at = :until
        FROM webhook_endpoint AS endpoint, outbox
        WHERE delivery.merchant_id = :merchant_id AND delivery.id = ANY(CAST(:ids AS uuid[]))
          -- Repeated, since it is looked at again once a competing claim has been waited for: only one gets each.
          AND delivery.next_at <= :now
          AND endpoint.merchant_id = :merchant_id AND endpoint.id = delivery.endpoint_id
          AND endpoint.disabled_at IS NULL
          AND outbox.merchant_id = :merchant_id AND outbox.id = delivery.event_id
        RETURNING delivery.id, delivery.endpoint_id, delivery.fence, delivery.tries, endpoint.url, endpoint.secret,
                  CASE WHEN endpoint.previous_secret_until > :now THEN endpoint.previous_secret END AS previous_secret,
                  outbox.id AS event_id, outbox.type, outbox.payload, outbox.created_at AS told_at
        """,
        {"merchant_id": merchant_id, "ids": chosen, "now": now, "until": now + LEASE},
    )
    claimed = []
    for row in rows:
        try:
            secrets = tuple(
                post.security.decrypt(bytes(secret), purpose=SECRET_PURPOSE)
                for secret in (row.secret, row.previous_secret)
                if secret is not None
            )
        except CannotDecrypt:
            # Made with another KOC_SECRET_KEY. It comes round after its lease; meanwhile all others are sent.
            _log.exception("Endpoint %s waits: its secret cannot be read", ids.encode("whk", row.endpoint_id))
            continue
        message_id = ids.encode("evt", row.event_id)
        claimed.append(
            Claimed(
                merchant_id,
                row.id,
                row.endpoint_id,
                row.fence,
                row.tries,
                row.url,
                secrets,
                message_id,
                body_of(message_id=message_id, type_=row.type, told_at=row.told_at, payload=row.payload),
                now,
            )
        )
    return claimed


def _choose(session: Session, poster: Poster, merchant_id: UUID, now: datetime) -> list[UUID]:
    places = poster.places(merchant_id)
    if not places:
        return []
    rows = fetch(
        session,
        """
        SELECT endpoint.id AS endpoint_id, endpoint.failures, due.id
        FROM webhook_endpoint AS endpoint
        CROSS JOIN LATERAL (
            SELECT delivery.id, delivery.next_at FROM webhook_delivery AS delivery
            WHERE delivery.merchant_id = endpoint.merchant_id AND delivery.endpoint_id = endpoint.id
              AND delivery.next_at <= :now
            ORDER BY delivery.next_at, delivery.id
            LIMIT :limit
        ) AS due
        WHERE endpoint.merchant_id = :merchant_id AND endpoint.disabled_at IS NULL
          AND (endpoint.rests_until IS NULL OR endpoint.rests_until <= :now)
        ORDER BY endpoint.id, due.next_at, due.id
        """,
        {"merchant_id": merchant_id, "now": now, "limit": places},
    )
    ranked: list[tuple[int, UUID]] = []
    seen: Counter[UUID] = Counter()
    for row in rows:
        if seen[row.endpoint_id] < poster.places_at(merchant_id, row.endpoint_id, is_failing=row.failures > 0):
            ranked.append((seen[row.endpoint_id], row.id))
            seen[row.endpoint_id] += 1
    # The first of each endpoint, then the second of each.
    return [delivery_id for _, delivery_id in sorted(ranked)[:places]]


def record(session: Session, *, merchant_id: UUID, tried: Sequence[Tried], now: datetime) -> int:
    """Write down what came of tries, and how their endpoints fare. Returns how many were still ours to record."""
    # The endpoints first, in the order of their keys: two workers that record at once add to what the other found.
    endpoints = {
        row.id: row
        for row in fetch(
            session,
            """
            SELECT id, failures, failing_since, rests_until, disabled_at FROM webhook_endpoint
            WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
            ORDER BY id
            FOR NO KEY UPDATE
            """,
            {"merchant_id": merchant_id, "ids": sorted({each.claimed.endpoint_id for each in tried})},
        )
    }
    mine = _store(session, merchant_id, sorted(tried, key=lambda each: each.claimed.id), now)
    health = {
        row.id: Health(row.failures, row.failing_since, row.rests_until)
        for row in endpoints.values()
        if row.disabled_at is None
    }
    before = dict(health)
    for each in tried:
        known = health.get(each.claimed.endpoint_id)
        if each.claimed.id in mine and known is not None and known.disable is None:
            health[each.claimed.endpoint_id] = health_after(known, each.result, now=now, retry_after=each.retry_after)
    _store_health(session, merchant_id, {key: found for key, found in health.items() if found != before[key]}, now)
    crash_point(CrashPoint.WEBHOOK_RECORD_BEFORE_COMMIT)
    return len(mine)


def _store(session: Session, merchant_id: UUID, tried: Sequence[Tried], now: datetime) -> set[UUID]:
    following = [_next(each, now) for each in tried]
    rows = fetch(
        session,
        """
        UPDATE webhook_delivery AS delivery
        SET state = told.state, next_at = told.next_at, tries = delivery.tries + 1, last_result = told.result,
            done_at = CASE WHEN told.next_at IS NULL THEN CAST(:now AS timestamptz) END
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[]), CAST(:states AS text[]),
                    CAST(:next_ats AS timestamptz[]), CAST(:results AS text[]))
             AS told (id, fence, state, next_at, result)
        WHERE delivery.merchant_id = :merchant_id AND delivery.id = told.id AND delivery.fence = told.fence
          AND delivery.state = 'sending'
        RETURNING delivery.id
        """,
        {
            "merchant_id": merchant_id,
            "now": now,
            "ids": [each.claimed.id for each in tried],
            "fences": [each.claimed.fence for each in tried],
            "states": [each.state.value for each in following],
            "next_ats": [each.next_at for each in following],
            "results": [each.result.value for each in tried],
        },
    )
    # Also of a try whose lease had ended: it was made, and the merchant may wonder where it came from.
    execute(
        session,
        """
        INSERT INTO webhook_attempt (merchant_id, delivery_id, number, result, http_status, detail, sent_at, took_ms)
        SELECT :merchant_id, * FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[]), CAST(:results AS text[]),
                                           CAST(:statuses AS integer[]), CAST(:details AS text[]),
                                           CAST(:sent_ats AS timestamptz[]), CAST(:took AS bigint[]))
        ON CONFLICT DO NOTHING
        """,
        {
            "merchant_id": merchant_id,
            "ids": [each.claimed.id for each in tried],
            "fences": [each.claimed.fence for each in tried],
            "results": [each.result.value for each in tried],
            "statuses": [each.http_status for each in tried],
            "details": [each.detail for each in tried],
            "sent_ats": [each.claimed.claimed_at for each in tried],
            "took": [each.took_ms for each in tried],
        },
    )
    return {row.id for row in rows}


def _next(tried: Tried, now: datetime) -> Next:
    return after_try(
        tried.result,
        tries=tried.claimed.tries + 1,
        now=now,
        retry_after=tried.retry_after,
        jitter_permille=random.randrange(1001),
    )


def _store_health(session: Session, merchant_id: UUID, health: dict[UUID, Health], now: datetime) -> None:
    if not health:
        return
    execute(
        session,
        """
        UPDATE webhook_endpoint AS endpoint
        SET failures = told.failures, failing_since = told.failing_since, rests_until = told.rests_until,
            disabled_reason = told.disabled_reason,
            disabled_at = CASE WHEN told.disabled_reason IS NOT NULL THEN CAST(:now AS timestamptz) END
        FROM unnest(CAST(:ids AS uuid[]), CAST(:failures AS bigint[]), CAST(:since AS timestamptz[]),
                    CAST(:rests AS timestamptz[]), CAST(:reasons AS text[]))
             AS told (id, failures, failing_since, rests_until, disabled_reason)
        WHERE endpoint.merchant_id = :merchant_id AND endpoint.id = told.id
        """,
        {
            "merchant_id": merchant_id,
            "now": now,
            "ids": list(health),
            "failures": [each.failures for each in health.values()],
            "since": [each.failing_since for each in health.values()],
            "rests": [each.rests_until for each in health.values()],
            "reasons": [each.disable.value if each.disable else None for each in health.values()],
        },
    )
    disabled = {endpoint_id: each.disable for endpoint_id, each in health.items() if each.disable}
    if disabled:
        [merchant] = fetch(session, "SELECT clock_offset_s FROM merchant WHERE id = :id", {"id": merchant_id})
        at = now + timedelta(seconds=merchant.clock_offset_s)
        emit(session, [disabled_event(merchant_id, each, reason, at=at) for each, reason in disabled.items()])
        for reason in disabled.values():
            metrics.webhook_endpoint_disabled(reason.value)


def disabled_event(merchant_id: UUID, endpoint_id: UUID, reason: DisabledReason, *, at: datetime) -> Event:
    """at: by the merchant's clock."""
    payload = {"webhook_endpoint_id": ids.encode("whk", endpoint_id), "reason_code": reason.value}
    return Event(merchant_id, EventType.WEBHOOK_ENDPOINT_DISABLED, endpoint_id, payload, at)


def _next_due(session: Session, *, merchant_id: UUID) -> datetime | None:
    """When the next delivery to an enabled endpoint is due, which is not while the endpoint rests."""
    [row] = fetch(
        session,
        """
        SELECT min(greatest(due.next_at, endpoint.rests_until)) AS at
        FROM webhook_endpoint AS endpoint
        CROSS JOIN LATERAL (
            SELECT next_at FROM webhook_delivery AS delivery
            WHERE delivery.merchant_id = endpoint.merchant_id AND delivery.endpoint_id = endpoint.id
              AND delivery.next_at IS NOT NULL
            ORDER BY delivery.next_at
            LIMIT 1
        ) AS due
        WHERE endpoint.merchant_id = :merchant_id AND endpoint.disabled_at IS NULL
        """,
        {"merchant_id": merchant_id},
    )
    at: datetime | None = row.at
    return at


def forget(session: Session, *, merchant_id: UUID, now: datetime, limit: int = 5000) -> int:
    """Remove deliveries that were done long ago, with their attempts. Returns how many. Their events stay.

    And those that waited as long for an endpoint to be enabled again, or for one that was deleted.
    """
    asked = {
        "merchant_id": merchant_id,
        "before": now - KEPT_FOR,
        "below": ids.lowest_id(now - KEPT_FOR),
        "limit": limit,
    }
    rows = fetch(
        session,
        """
        SELECT id FROM webhook_delivery
        WHERE merchant_id = :merchant_id AND id < :below AND (done_at < :before OR next_at < :before)
        ORDER BY id LIMIT :limit
        FOR UPDATE SKIP LOCKED
        """,
        asked,
    )
    gone = {"merchant_id": merchant_id, "ids": [row.id for row in rows]}
    if rows:
        execute(
            session,
            """
            DELETE FROM webhook_attempt
            WHERE merchant_id = :merchant_id AND delivery_id = ANY(CAST(:ids AS uuid[]))
            """,
            gone,
        )
        execute(
            session,
            "DELETE FROM webhook_delivery WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))",
            gone,
        )
    return len(rows)


def ping(session: Session, *, merchant_id: UUID, endpoint_id: UUID, at: datetime, now: datetime) -> UUID:
    """Tell one endpoint something that means nothing. Returns the delivery. at: by the merchant's clock."""
    payload = {"webhook_endpoint_id": ids.encode("whk", endpoint_id)}
    type_ = EventType.WEBHOOK_ENDPOINT_PING
    [event_id] = emit(session, [Event(merchant_id, type_, endpoint_id, payload, at)])
    [delivery_id] = make(session, merchant_id, [(endpoint_id, event_id, type_.value)], now=now)
    wake(session, merchant_id=merchant_id, now=now)
    return delivery_id
