"""Steps 5 and 6: lease attempts so that one worker holds each, then ask the rail. Nothing is open while it is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.payout import Answer, AnswerKind, may_send
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.infra.security import Security
from service.payouts.control import SENDS_NOW
from service.payouts.plan import REQUEST
from service.payouts.providers.model import Rail

LEASE = timedelta(minutes=10)
"""How long a worker may hold attempts; far longer than a wave of calls with all their time-outs."""
CALL_MAX = timedelta(minutes=3)
"""Longest one sending with its look-up may take. A lease with less left is not used any more."""


@dataclass(frozen=True, slots=True)
class Leased:
    """An attempt this worker holds. fence: rises with each lease; what is recorded must still have it.

    sends: how often it was sent, this time included. request: as it was planned, decrypted.
    """

    merchant_id: UUID
    id: UUID
    item_id: UUID
    number: int
    key: str
    request: bytes
    fence: int
    sends: int
    first_sent_at: datetime | None
    lease_until: datetime
    listed_empty: tuple[datetime, ...] = ()
    """Complete listings without it so far, once the key may have been forgotten."""

    @classmethod
    def of(
        cls,
        merchant_id: UUID,
        row: Row[Any],
        security: Security,
        *,
        first_sent_at: datetime | None,
        lease_until: datetime,
        listed_empty: tuple[datetime, ...] = (),
    ) -> Self:
        """An attempt as it is stored, its request decrypted."""
        return cls(
            merchant_id=merchant_id,
            id=row.id,
            item_id=row.item_id,
            number=row.number,
            key=row.idempotency_key,
            request=security.decrypt(row.request, purpose=REQUEST),
            fence=row.fence,
            sends=row.sends,
            first_sent_at=first_sent_at,
            lease_until=lease_until,
            listed_empty=listed_empty,
        )


_COLUMNS = """
    attempt.id, attempt.item_id, attempt.number, attempt.idempotency_key, attempt.request, attempt.fence, attempt.sends,
    attempt.first_sent_at, attempt.lease_until, attempt.proof
"""


def lease_planned(
    session: Session, security: Security, *, merchant_id: UUID, run_id: UUID, owner: str, limit: int, now: datetime
) -> list[Leased]:
    """Take planned attempts of a run to send them for the first time. now: by our clock.

    What is committed here is true before the first byte leaves: that it may have been sent, and when first.
    """
    return _leased(
        session,
        security,
        f"""
        UPDATE payout_attempt AS attempt
        SET outcome = 'in_flight', owner = :owner, fence = attempt.fence + 1, sends = attempt.sends + 1,
            first_sent_at = coalesce(attempt.first_sent_at, :now), lease_until = :until, next_at = :until
        WHERE attempt.merchant_id = :merchant_id AND attempt.outcome = 'planned'
          AND attempt.id IN (
            SELECT attempt.id FROM payout_attempt AS attempt
            JOIN payout_item AS item ON item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id
            JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
            WHERE attempt.merchant_id = :merchant_id AND run.id = :run_id AND run.status = 'executing'
              AND run.stopped_at IS NULL AND attempt.outcome = 'planned' AND item.frozen_code IS NULL
              AND {SENDS_NOW}
            ORDER BY attempt.id LIMIT :limit)
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - the columns are ours
        {
            "merchant_id": merchant_id,
            "run_id": run_id,
            "owner": owner,
            "limit": limit,
            "now": now,
            "until": now + LEASE,
        },
    )


def lease_unknown(
    session: Session, security: Security, *, merchant_id: UUID, run_id: UUID, owner: str, limit: int, now: datetime
) -> list[Leased]:
    """Take attempts whose outcome is unknown and due for a look-up. They are not sent by this. now: by our clock."""
    return _leased(
        session,
        security,
        f"""
        UPDATE payout_attempt AS attempt
        SET owner = :owner, fence = attempt.fence + 1, next_at = :until
        WHERE attempt.merchant_id = :merchant_id AND attempt.outcome = 'unknown' AND attempt.next_at <= :now
          AND attempt.id IN (
            SELECT attempt.id FROM payout_attempt AS attempt
            JOIN payout_item AS item ON item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id
            JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
            WHERE attempt.merchant_id = :merchant_id AND run.id = :run_id AND run.stopped_at IS NULL
              AND attempt.outcome = 'unknown' AND attempt.next_at <= :now
            ORDER BY attempt.next_at, attempt.id LIMIT :limit)
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - the columns are ours
        {
            "merchant_id": merchant_id,
            "run_id": run_id,
            "owner": owner,
            "limit": limit,
            "now": now,
            "until": now + LEASE,
        },
    )


def lease_again(
    session: Session, security: Security, held: Sequence[Leased], *, owner: str, now: datetime
) -> list[Leased]:
    """Take attempts that a look-up did not find to send them again, with the same bytes under the same key.

    Returns those still held, not frozen, of a run that was not stopped, and with a key young enough. What the look-up saw is only good while its lease
    lasts: an earlier sending may have arrived since, and this one only when its key is forgotten. now: by our clock.
    """
    again = [each for each in held if may_send(now=now, first_sent_at=each.first_sent_at)]
    if not again:
        return []
    return _leased(
        session,
        security,
        f"""
        UPDATE payout_attempt AS attempt
        SET outcome = 'in_flight', owner = :owner, fence = attempt.fence + 1, sends = attempt.sends + 1,
            first_sent_at = coalesce(attempt.first_sent_at, :now), lease_until = :until, next_at = :until
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS held (id, fence), payout_item AS item
        WHERE attempt.merchant_id = :merchant_id AND attempt.id = held.id AND attempt.fence = held.fence
          AND attempt.outcome = 'unknown' AND attempt.next_at > :now
          AND item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id AND item.frozen_code IS NULL
          AND EXISTS (SELECT FROM payout_run AS run
                      WHERE run.merchant_id = item.merchant_id AND run.id = item.run_id
                        AND run.status = 'executing' AND run.stopped_at IS NULL)
          AND {SENDS_NOW}
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - the columns are ours
        {
            "merchant_id": again[0].merchant_id,
            "ids": [each.id for each in again],
            "fences": [each.fence for each in again],
            "owner": owner,
            "now": now,
            "until": now + LEASE,
        },
    )


def expire(session: Session, *, merchant_id: UUID, run_id: UUID, now: datetime) -> int:
    """Call unknown what was in flight when its worker's lease ended. The old owner's answer is not recorded any more."""
    return execute(
        session,
        """
        UPDATE payout_attempt AS attempt
        SET outcome = 'unknown', code = 'lease_expired', fence = attempt.fence + 1, next_at = :now
        FROM payout_item AS item
        WHERE attempt.merchant_id = :merchant_id AND attempt.outcome = 'in_flight' AND attempt.lease_until < :now
          AND item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id AND item.run_id = :run_id
        """,
        {"merchant_id": merchant_id, "run_id": run_id, "now": now},
    )


def _leased(session: Session, security: Security, statement: str, asked: dict[str, object]) -> list[Leased]:
    merchant_id = asked["merchant_id"]
    assert isinstance(merchant_id, UUID)
    return [
        Leased.of(
            merchant_id,
            row,
            security,
            first_sent_at=row.first_sent_at,
            lease_until=row.lease_until,
            listed_empty=tuple(datetime.fromisoformat(at) for at in row.proof.get("listings", ())),
        )
        for row in sorted(fetch(session, statement, asked), key=lambda row: row.id)
    ]


def ask(rail: Rail, attempt: Leased, clock: Callable[[], datetime]) -> Answer:
    """Send one attempt and return what is known afterwards. No unit of work may be open.

    A first refusal is looked up once: a rail that refuses what it has done would else be believed.
    """
    now = clock()
    if now > attempt.lease_until - CALL_MAX or not may_send(now=now, first_sent_at=attempt.first_sent_at):
        # This process slept: another may hold the attempt by now, or the key is too old to be trusted.
        return Answer(AnswerKind.UNKNOWN, code="not_sent_in_time")
    answer = rail.send(attempt.request, attempt.key)
    crash_point(CrashPoint.ASKED)
    if answer.kind is not AnswerKind.REFUSED or attempt.sends > 1:
        return answer
    listing = rail.find(attempt.request)
    if listing.why_unknown is not None:
        return listing.why_unknown
    made = listing.made_by(attempt.number)
    if made is not None and not made.failed_code:
        return made.as_answer()
    return Answer(AnswerKind.UNKNOWN, code="another_transfer") if listing.is_strange_for(attempt.number) else answer
