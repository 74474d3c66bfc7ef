"""Adopt transfers that a rail's list shows and our attempts do not: a restored database has forgotten that it sent them.

A transfer names its payout and the number of its attempt. Where the payout still holds its money and was to be sent just
so, the attempt is written down again and accepted, with the tax that was decided; nothing is left for a person to book.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.ledger import MerchantTime, Posting
from service.domain.payout import UNEXPECTED_TRANSFER, Outcome, RunState, may_adopt
from service.infra import ids
from service.infra.db import execute
from service.infra.security import Security
from service.ledger.post import post
from service.outbox.emit import emit
from service.payouts import book
from service.payouts.find import items_of
from service.payouts.plan import REQUEST
from service.payouts.providers.model import Transfer
from service.payouts.record import Verdict, differs, record, stop
from service.payouts.send import Leased
from service.payouts.withhold import hold_bases_of
from service.tables.payouts import PayoutItemRow, PayoutRunRow

FORGOTTEN = "found_in_list"
"""Code of an attempt that was written down, or set back, because the rail's list shows its transfer."""


def adopt_forgotten(
    session: Session,
    security: Security,
    strays: Sequence[Transfer],
    attempts: Mapping[UUID, Sequence[Row[Any]]],
    runs: Mapping[UUID, PayoutRunRow],
    *,
    merchant_id: UUID,
    rail: str,
    when: MerchantTime,
    now: datetime,
) -> set[str]:
    """Accept those of the transfers that are what their payout was to be. Returns their references. now: by our clock.

    strays: out, and explained by no attempt. attempts: of their payouts, oldest first, one without any as a row that says
    so. runs: theirs, locked. Two transfers of one payout are left to people, and a run whose attempt was said to have done
    nothing is stopped.
    """
    told = Counter(each.item_id for each in strays)
    alone = {each.item_id: each for each in strays if told[each.item_id] == 1 and each.item_id in attempts}
    adopted: dict[UUID, list[tuple[PayoutItemRow, Transfer]]] = defaultdict(list)
    for item in items_of(session, merchant_id, alone.keys(), hold=True):
        transfer, run = alone[item.id], runs[item.run_id]
        is_as_decided = run.rail == rail and not differs(security, item, transfer.as_answer(), rail=rail)
        if (
            is_as_decided
            and item.live
            and item.frozen_code in {None, UNEXPECTED_TRANSFER}
            and may_adopt(transfer.number, _known(attempts[item.id]), run=RunState(run.status))
        ):
            adopted[run.id].append((item, transfer))
    # Bases of tax before balances, as everybody locks them.
    hold_bases_of(session, merchant_id, [item for theirs in adopted.values() for item, _ in theirs])
    for run_id, theirs in sorted(adopted.items()):
        _accept(session, security, runs[run_id], theirs, attempts, when=when, now=now)
    return {transfer.reference for theirs in adopted.values() for _, transfer in theirs}


def _known(attempts: Sequence[Row[Any]]) -> Mapping[int, Outcome]:
    return {each.number: Outcome(each.outcome) for each in attempts if each.number is not None}


def _accept(
    session: Session,
    security: Security,
    run: PayoutRunRow,
    adopted: Sequence[tuple[PayoutItemRow, Transfer]],
    attempts: Mapping[UUID, Sequence[Row[Any]]],
    *,
    when: MerchantTime,
    now: datetime,
) -> None:
    verdicts: list[Verdict] = []
    postings: list[Posting] = []
    again: list[UUID] = []
    for item, transfer in adopted:
        known = next((each for each in attempts[item.id] if each.number == transfer.number), None)
        attempt = Leased(
            merchant_id=run.merchant_id,
            id=ids.new_id() if known is None else known.attempt_id,
            item_id=item.id,
            number=transfer.number,
            key=f"adopted/{transfer.reference}",
            request=transfer.reference.encode(),
            fence=0 if known is None else known.fence,
            sends=1,
            first_sent_at=None,
            lease_until=now,
        )
        verdicts.append(Verdict(attempt, Outcome.ACCEPTED, replace(transfer.as_answer(), code=FORGOTTEN)))
        if known is None:
            postings += book.planned(item, number=transfer.number)
        else:
            postings += book.adopted(item, number=transfer.number)
            again.append(attempt.id)
    post(session, postings, when={run.merchant_id: when})
    _write_down(session, security, run, [each.attempt for each in verdicts if each.attempt.id not in again], now)
    set_back(session, run.merchant_id, again, code=FORGOTTEN)
    execute(
        session,
        """
        UPDATE payout_item SET handed_over_at = :at, retry_by = NULL, frozen_code = NULL
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": run.merchant_id, "at": when.now, "ids": [item.id for item, _ in adopted]},
    )
    record(session, security, verdicts, run_id=run.id, when=when, now=now)
    if again and run.status == RunState.EXECUTING:
        # Somebody was sure that it had done nothing.
        emit(session, stop(session, run, UNEXPECTED_TRANSFER, when=when))


def _write_down(
    session: Session, security: Security, run: PayoutRunRow, forgotten: Sequence[Leased], now: datetime
) -> None:
    execute(
        session,
        """
        INSERT INTO payout_attempt (merchant_id, id, item_id, number, rail, idempotency_key, request, outcome, code,
                                    fence, sends, proof, created_at)
        -- When it was sent is not known: a later list, which need not reach so far back, is not to be held against it.
        SELECT :merchant_id, id, item_id, number, :rail, idempotency_key, request, 'unknown', :code,
               0, 1, CAST('{}' AS jsonb), :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:item_ids AS uuid[]), CAST(:numbers AS integer[]),
                    CAST(:keys AS text[]), CAST(:requests AS bytea[]))
             AS made (id, item_id, number, idempotency_key, request)
        """,
        {
            "merchant_id": run.merchant_id,
            "rail": run.rail,
            "code": FORGOTTEN,
            "now": now,
            "ids": [each.id for each in forgotten],
            "item_ids": [each.item_id for each in forgotten],
            "numbers": [each.number for each in forgotten],
            "keys": [each.key for each in forgotten],
            "requests": [security.encrypt(each.request, purpose=REQUEST) for each in forgotten],
        },
    )


def set_back(session: Session, merchant_id: UUID, attempt_ids: Sequence[UUID], *, code: str) -> None:
    """Make attempts that seemed to have done nothing unknown again, so that an answer to them can be recorded."""
    execute(
        session,
        """
        UPDATE payout_attempt SET outcome = 'unknown', code = :code
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[])) AND outcome IN ('refused', 'absent')
        """,
        {"merchant_id": merchant_id, "code": code, "ids": list(attempt_ids)},
    )
