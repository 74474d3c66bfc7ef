"""Keep what a provider tells of its own accord, once, before it is acknowledged; the worker applies it."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.provider import EventState, EventSubject
from service.infra import metrics
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.payouts.providers.stripe_events import PROVIDER, Heard

APPLY = "provider_events"
"""Kind of the service's job that applies events."""
NOT_UNDERSTOOD = "not_understood"


def keep(session: Session, events: Sequence[Heard], *, now: datetime) -> Counter[str]:
    """Store events that were not told before, and wake the worker. Returns how many were kept, known, or foreign.

    Any number of times: an event counts once. now: by our clock.
    """
    by_id = {each.id: each for each in events}
    merchants = _merchants(session, list(by_id.values()))
    rows = [(each, *_first_state(each, merchants[each.id])) for each in by_id.values()]
    stored = {
        row.id
        for row in fetch(
            session,
            """
            INSERT INTO provider_event (id, provider, type, subject, object_id, account, merchant_id, state,
                                        reason_code, payload, happened_at, received_at, due_at, tries)
            SELECT id, :provider, type, subject, object_id, account, merchant_id, state, reason_code,
                   CAST(payload AS jsonb), happened_at, :now, CASE WHEN state = 'waiting' THEN :now END, 0
            FROM unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:subjects AS text[]),
                        CAST(:objects AS text[]), CAST(:accounts AS text[]), CAST(:merchants AS uuid[]),
                        CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:payloads AS text[]),
                        CAST(:happened AS timestamptz[]))
                 AS told (id, type, subject, object_id, account, merchant_id, state, reason_code, payload, happened_at)
            ORDER BY id
            ON CONFLICT DO NOTHING
            RETURNING id
            """,
            {
                "provider": PROVIDER,
                "now": now,
                "ids": list(by_id),
                "types": [each.type for each, _, _ in rows],
                "subjects": [each.subject.value for each, _, _ in rows],
                "objects": [each.object_id for each, _, _ in rows],
                "accounts": [each.account for each, _, _ in rows],
                "merchants": [merchants[each.id] for each, _, _ in rows],
                "states": [state.value for _, state, _ in rows],
                "reasons": [reason for _, _, reason in rows],
                "payloads": [json.dumps(dict(each.payload or {})) for each, _, _ in rows],
                "happened": [each.happened_at for each, _, _ in rows],
            },
        )
    }
    counted = Counter[str]()
    for each, state, _ in rows:
        result = "kept" if state is EventState.WAITING else state.value
        counted["known" if each.id not in stored else result] += 1
    if counted["kept"]:
        wake_service(session, APPLY, at=now)
    for result, number in counted.items():
        metrics.provider_events(result, number=number)
    crash_point(CrashPoint.PROVIDER_EVENT_BEFORE_COMMIT)
    return counted


def wake_service(session: Session, kind: str, *, at: datetime) -> None:
    """Make a job of the service due at the latest then. at: by our clock."""
    execute(
        session,
        """
        INSERT INTO service_job AS known (kind, due_at, tries, payload) VALUES (:kind, :at, 0, '{}')
        ON CONFLICT (kind) DO UPDATE SET due_at = excluded.due_at WHERE known.due_at > excluded.due_at
        """,
        {"kind": kind, "at": at},
    )


def _first_state(event: Heard, merchant_id: UUID | None) -> tuple[EventState, str | None]:
    if event.payload is None:
        return EventState.PARKED, NOT_UNDERSTOOD
    # Whose an outbound payment is, it says itself when it is asked for.
    if merchant_id is None and event.subject is not EventSubject.OUTBOUND_PAYMENT:
        return EventState.FOREIGN, None
    return EventState.WAITING, None


def _merchants(session: Session, events: Sequence[Heard]) -> dict[str, UUID | None]:
    """Maps event to the merchant it is about: as the object says, if there is such a merchant, or as the account is ours."""
    accounts = sorted({each.account for each in events if each.account})
    there = known_merchants(session, [each.merchant_id for each in events])
    # Not narrowed by merchant: that is what is asked.
    of_account = {
        row.account_id: row.merchant_id
        for row in fetch(
            session,
            "SELECT account_id, merchant_id FROM stripe_account WHERE account_id = ANY(CAST(:accounts AS text[]))",
            {"accounts": accounts},
        )
    }
    return {
        each.id: of_account.get(each.account)
        if each.account
        else each.merchant_id
        if each.merchant_id in there
        else None
        for each in events
    }


def known_merchants(session: Session, told: Sequence[UUID | None]) -> frozenset[UUID]:
    """Return those that are merchants of this service: others may use the same account at the provider."""
    asked = sorted({each for each in told if each is not None})
    rows = fetch(session, "SELECT id FROM merchant WHERE id = ANY(CAST(:ids AS uuid[]))", {"ids": asked})
    return frozenset(row.id for row in rows)


def adopt(session: Session, *, now: datetime) -> int:
    """Let events of accounts that nobody knew when they came count, once the account is ours. Returns how many."""
    adopted = execute(
        session,
        """
        UPDATE provider_event SET merchant_id = account.merchant_id, state = 'waiting', due_at = :now
        FROM stripe_account AS account
        WHERE provider_event.state = 'foreign' AND provider_event.account <> ''
          AND account.account_id = provider_event.account
        """,
        {"now": now},
    )
    if adopted:
        wake_service(session, APPLY, at=now)
    return adopted
