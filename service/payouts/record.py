"""Step 7: write down what became of attempts, with the postings, in one unit of work and only under their fences."""

import json
import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session

from service.domain.destination import Destination
from service.domain.ledger import MerchantTime, Posting
from service.domain.payout import Answer, AnswerKind, FactKind, Outcome, next_look
from service.infra import ids, metrics
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.infra.security import Security
from service.ledger.post import post
from service.outbox.emit import Event, emit
from service.payouts import book, tell
from service.payouts.account import fingerprint
from service.payouts.find import items_of, lock_run
from service.payouts.send import Leased
from service.payouts.withhold import add_accepted, hold_bases_of
from service.tables.payouts import PayoutItemRow, PayoutRunRow

ANSWER_DIFFERS = "answer_differs"
"""The rail accepted another amount, currency or destination than was asked for."""
OTHER_PARAMETERS = "key_with_other_parameters"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer, or a look-up, proves of an attempt.

    listed_empty: all complete listings without it so far. stop_code: why the run must stop, None when it need not.
    """

    attempt: Leased
    outcome: Outcome
    answer: Answer
    listed_empty: tuple[datetime, ...] = ()
    stop_code: str | None = None


def record(
    session: Session,
    security: Security,
    verdicts: Sequence[Verdict],
    *,
    run_id: UUID,
    when: MerchantTime,
    now: datetime,
) -> int:
    """Record verdicts on attempts of one run. Returns how many were still ours to record. now: by our clock."""
    if not verdicts:
        return 0
    merchant_id = verdicts[0].attempt.merchant_id
    run = lock_run(session, merchant_id, run_id)
    ours = _store_outcomes(session, merchant_id, verdicts, now)
    crash_point(CrashPoint.RECORD_STORED)
    counted = [verdict for verdict in verdicts if verdict.attempt.id in ours]
    items = {item.id: item for item in items_of(session, merchant_id, [each.attempt.item_id for each in counted])}
    accepted = [items[each.attempt.item_id] for each in counted if each.outcome is Outcome.ACCEPTED]
    hold_bases_of(session, merchant_id, accepted)
    postings: list[Posting] = []
    events: list[Event] = []
    stops = [verdict.stop_code for verdict in counted if verdict.stop_code is not None]
    for verdict in counted:
        item, number = items[verdict.attempt.item_id], verdict.attempt.number
        match verdict.outcome:
            case Outcome.ACCEPTED:
                postings += book.accepted(item, number=number)
                events.append(tell.of_item(item, "sent", at=when.now, reference=verdict.answer.reference))
                events.append(tell.of_paid(item, at=when.now))
                if differs(security, item, verdict.answer, rail=run.rail):
                    stops.append(ANSWER_DIFFERS)
            case Outcome.REFUSED:
                postings += book.not_sent(item, number=number)
                events.append(tell.of_item(item, "refused", at=when.now, reason_code=verdict.answer.code))
            case Outcome.ABSENT:
                postings += book.not_sent(item, number=number)
                events.append(tell.of_item(item, "absent", at=when.now, reason_code="never_arrived"))
            case _:
                pass
    post(session, postings, when={merchant_id: when})
    add_accepted(session, accepted, when=when)
    _store_facts(session, run, counted, now)
    _store_items(session, merchant_id, counted)
    if stops:
        events += stop(session, run, stops[0], when=when)
    emit(session, events)
    for outcome, number in Counter(verdict.outcome for verdict in counted).items():
        metrics.payout_attempted(run.rail, outcome=outcome.value, number=number)
    crash_point(CrashPoint.RECORD_BEFORE_COMMIT)
    return len(counted)


def differs(security: Security, item: PayoutItemRow, answer: Answer, *, rail: str) -> bool:
    """Whether a rail sent something else than was asked for."""
    paid_to = fingerprint(security, item.merchant_id, rail, Destination.of_text(answer.destination))
    return (answer.amount_minor, answer.currency, paid_to) != (item.net_minor, item.currency, item.fingerprint)


def stop(session: Session, run: PayoutRunRow, code: str, *, when: MerchantTime) -> list[Event]:
    """Send nothing more of a locked run until a person executes it again. Returns what to tell."""
    if run.stopped_at is not None:
        return []
    run.stopped_at, run.stop_code = when.now, code
    session.add(run)
    _log.error("Payout run %s on rail %s stopped: %s", ids.encode("run", run.id), run.rail, code)
    metrics.payout_run_stopped(run.rail)
    return [tell.of_run(run, "stopped", at=when.now, reason_code=code)]


def stop_rail(session: Session, rail: str, code: str, *, at: datetime) -> int:
    """Stop every executing run of a rail, of all merchants: they share the credentials that were refused."""
    rows = fetch(
        session,
        """
        UPDATE payout_run SET stopped_at = :at, stop_code = :code
        FROM merchant
        WHERE payout_run.rail = :rail AND payout_run.status = 'executing' AND payout_run.stopped_at IS NULL
          AND merchant.id = payout_run.merchant_id
        RETURNING payout_run.merchant_id, payout_run.id, payout_run.rail, payout_run.currency, payout_run.status,
                  merchant.clock_offset_s
        """,
        {"rail": rail, "code": code, "at": at},
    )
    emit(
        session,
        [
            tell.of_run(row, "stopped", at=at + timedelta(seconds=row.clock_offset_s), reason_code=code)
            for row in sorted(rows, key=lambda row: (row.merchant_id, row.id))
        ],
    )
    return len(rows)


def _store_outcomes(session: Session, merchant_id: UUID, verdicts: Sequence[Verdict], now: datetime) -> set[UUID]:
    rows = fetch(
        session,
        """
        UPDATE payout_attempt AS attempt
        SET outcome = told.outcome, reference = coalesce(told.reference, attempt.reference), code = told.code,
            next_at = told.next_at, proof = CAST(told.proof AS jsonb), owner = NULL
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:outcomes AS text[]),
                    CAST(:refs AS text[]), CAST(:codes AS text[]), CAST(:next_ats AS timestamptz[]),
                    CAST(:proofs AS text[]))
             AS told (id, fence, outcome, reference, code, next_at, proof)
        WHERE attempt.merchant_id = :merchant_id AND attempt.id = told.id AND attempt.fence = told.fence
          AND attempt.outcome IN ('in_flight', 'unknown')
        RETURNING attempt.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": [verdict.attempt.id for verdict in verdicts],
            "fences": [verdict.attempt.fence for verdict in verdicts],
            "outcomes": [verdict.outcome.value for verdict in verdicts],
            "refs": [verdict.answer.reference if verdict.outcome is Outcome.ACCEPTED else None for verdict in verdicts],
            "codes": [verdict.answer.code for verdict in verdicts],
            "next_ats": [_next_at(verdict, now) for verdict in verdicts],
            "proofs": [
                json.dumps({"listings": [at.isoformat() for at in verdict.listed_empty]}) for verdict in verdicts
            ],
        },
    )
    return {row.id for row in rows}


def _next_at(verdict: Verdict, now: datetime) -> datetime | None:
    if verdict.outcome is not Outcome.UNKNOWN:
        return None
    at = next_look(now=now, first_sent_at=verdict.attempt.first_sent_at or now, sends=max(1, verdict.attempt.sends))
    # Later by up to a fifth, never earlier: after an outage not all come back in the same second.
    return at + (at - now) // 1000 * random.randrange(200)


def _store_facts(session: Session, run: PayoutRunRow, verdicts: Sequence[Verdict], now: datetime) -> None:
    accepted = [verdict for verdict in verdicts if verdict.outcome is Outcome.ACCEPTED]
    if not accepted:
        return
    execute(
        session,
        """
        INSERT INTO provider_fact (merchant_id, rail, object_id, kind, version, item_id, amount_minor, told_at, payload)
        SELECT :merchant_id, :rail, object_id, :kind, CAST(amount_minor AS text), item_id, amount_minor, :now,
               CAST(payload AS jsonb)
        FROM unnest(CAST(:object_ids AS text[]), CAST(:item_ids AS uuid[]), CAST(:amounts AS bigint[]),
                    CAST(:payloads AS text[])) AS told (object_id, item_id, amount_minor, payload)
        ON CONFLICT DO NOTHING
        """,
        {
            "merchant_id": run.merchant_id,
            "rail": run.rail,
            "kind": FactKind.ACCEPTED.value,
            "now": now,
            "object_ids": [verdict.answer.reference for verdict in accepted],
            "item_ids": [verdict.attempt.item_id for verdict in accepted],
            "amounts": [verdict.answer.amount_minor or 0 for verdict in accepted],
            "payloads": [
                json.dumps({"attempt": verdict.attempt.number, "currency": verdict.answer.currency})
                for verdict in accepted
            ],
        },
    )


def _store_items(session: Session, merchant_id: UUID, verdicts: Sequence[Verdict]) -> None:
    """Bring what is stored of items in step: who is live, what is here again, what is frozen."""
    execute(
        session,
        """
        UPDATE payout_item
        SET live = told.live, frozen_code = coalesce(told.frozen_code, payout_item.frozen_code),
            handed_over_at = CASE WHEN told.here_again THEN NULL ELSE payout_item.handed_over_at END
        FROM unnest(CAST(:ids AS uuid[]), CAST(:live AS boolean[]), CAST(:here_again AS boolean[]),
                    CAST(:frozen AS text[])) AS told (id, live, here_again, frozen_code)
        WHERE payout_item.merchant_id = :merchant_id AND payout_item.id = told.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": [verdict.attempt.item_id for verdict in verdicts],
            "live": [verdict.outcome is not Outcome.ACCEPTED for verdict in verdicts],
            "here_again": [verdict.outcome in {Outcome.REFUSED, Outcome.ABSENT} for verdict in verdicts],
            "frozen": [
                OTHER_PARAMETERS if verdict.answer.kind is AnswerKind.MISMATCHED_KEY else None for verdict in verdicts
            ],
        },
    )
