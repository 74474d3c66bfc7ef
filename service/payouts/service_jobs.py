"""Jobs of the service itself, for no merchant: what a provider tells, and comparing with it. One worker has each at a time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import Session

from service.domain.errors import InvariantBroken
from service.infra.db import execute, fetch
from service.payouts.apply import Provider, apply_waiting
from service.payouts.days import DAYS, compare_day
from service.payouts.hear import APPLY
from service.payouts.providers.stripe_events import StripeEvents
from service.payouts.sweep import back_fill, sweep

BACK_FILL, SWEEP, COMPARE = "provider_back_fill", "provider_sweep", "provider_days"
KINDS = (APPLY, BACK_FILL, SWEEP, COMPARE)
APPLY_EVERY = timedelta(minutes=5)
"""How often the worker looks for events unasked; whoever keeps one wakes it."""
BACK_FILL_EVERY = timedelta(minutes=15)
SWEEP_EVERY = timedelta(hours=1)
COMPARE_AFTER = timedelta(hours=1)
"""How long after a day's end it is compared."""
TRY_AGAIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """A claimed job. due_at: as the claim set it; whoever wakes the job meanwhile sets an earlier one."""

    kind: str
    due_at: datetime
    tries: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """How a turn ended. payload: up to where it has come."""

    next_at: datetime
    payload: Mapping[str, Any]


def schedule_service(session: Session, *, now: datetime) -> int:
    """Make the jobs that are not there yet. Returns how many were made."""
    return execute(
        session,
        """
        INSERT INTO service_job (kind, due_at, tries, payload)
        SELECT kind, :now, 0, CAST('{}' AS jsonb) FROM unnest(CAST(:kinds AS text[])) AS wanted (kind)
        WHERE kind NOT IN (SELECT kind FROM service_job)
        ON CONFLICT DO NOTHING
        """,
        {"kinds": list(KINDS), "now": now},
    )


def claim_service(session: Session, *, owner: str, now: datetime, lease: timedelta) -> list[ServiceJob]:
    """Take the job that is due longest, so that no other worker does it meanwhile; none where none is due."""
    rows = fetch(
        session,
        """
        UPDATE service_job SET owner = :owner, lease_until = :until, due_at = :until, tries = tries + 1
        WHERE kind = (SELECT kind FROM service_job
                      WHERE due_at <= :now AND (lease_until IS NULL OR lease_until < :now) ORDER BY due_at, kind LIMIT 1)
          AND due_at <= :now AND (lease_until IS NULL OR lease_until < :now)
        RETURNING kind, due_at, tries, payload
        """,
        {"owner": owner, "now": now, "until": now + lease},
    )
    return [ServiceJob(row.kind, row.due_at, row.tries, row.payload) for row in rows]


def finish_service(session: Session, job: ServiceJob, *, owner: str, done: Done, error: str | None = None) -> None:
    """Give a job back. Somebody who woke it meanwhile counts."""
    execute(
        session,
        """
        UPDATE service_job
        SET due_at = CASE WHEN due_at = :claimed THEN :next_at ELSE least(due_at, :next_at) END,
            lease_until = NULL, owner = NULL, last_error = :error, payload = CAST(:payload AS jsonb),
            tries = CASE WHEN CAST(:error AS text) IS NULL THEN 0 ELSE tries END
        WHERE kind = :kind AND owner = :owner
        """,
        {
            "kind": job.kind,
            "owner": owner,
            "claimed": job.due_at,
            "next_at": done.next_at,
            "error": error,
            "payload": json.dumps(dict(done.payload)),
        },
    )


def give_back_service(session: Session, *, owner: str, now: datetime) -> int:
    """Make due again what this worker claimed and does not do: a lost connection leaves such jobs."""
    return execute(
        session,
        "UPDATE service_job SET owner = NULL, lease_until = NULL, due_at = :now WHERE owner = :owner",
        {"owner": owner, "now": now},
    )


def do_service(provider: Provider, events: StripeEvents, job: ServiceJob, *, until: datetime) -> Done:
    """Do one turn of a job. until: begin nothing new after that."""
    now = provider.clock()
    match job.kind:
        case kind if kind == APPLY:
            due_at = apply_waiting(provider, until=until)
            return Done(min(due_at or now + APPLY_EVERY, now + APPLY_EVERY), job.payload)
        case kind if kind == BACK_FILL:
            missed = back_fill(provider, events, since=_since(job), now=now)
            if missed.trouble is not None:
                return Done(now + TRY_AGAIN, job.payload)
            return Done(now + BACK_FILL_EVERY, {"since": now.isoformat()})
        case kind if kind == SWEEP:
            swept = [sweep(provider, rail, since=_since(job) or now, now=now) for rail in provider.rails.values()]
            if not all(each.complete for each in swept):
                return Done(now + TRY_AGAIN, job.payload)
            return Done(now + SWEEP_EVERY, {"since": now.isoformat()})
        case kind if kind == COMPARE:
            return _compare(provider, job, now)
        case _:
            raise InvariantBroken(f"nobody does jobs of kind {job.kind!r}")


def _compare(provider: Provider, job: ServiceJob, now: datetime) -> Done:
    """Compare the last days that are over, once a day."""
    last = (now - COMPARE_AFTER).date() - timedelta(days=1)
    tomorrow = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=2) + COMPARE_AFTER
    if job.payload.get("day") == last.isoformat():
        return Done(tomorrow, job.payload)
    days = [last - timedelta(days=back) for back in range(DAYS)]
    whole = [compare_day(provider, rail, day) for rail in provider.rails.values() for day in days]
    return Done(tomorrow, {"day": last.isoformat()}) if all(whole) else Done(now + TRY_AGAIN, job.payload)


def _since(job: ServiceJob) -> datetime | None:
    since = job.payload.get("since")
    return None if since is None else datetime.fromisoformat(since)
