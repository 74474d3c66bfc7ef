"""Step 4: make attempts of items that are still what was approved, and drop the others. Nothing leaves here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.ledger import AccountKind, MerchantTime, Posting
from service.domain.payout import Excluded, Outcome, Payee, RunState, why_dropped
from service.domain.payout_control import fitting
from service.domain.withholding.model import Decision, Refused
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.infra.security import Security
from service.ledger.balance import lock
from service.ledger.post import post
from service.outbox.emit import emit
from service.payouts import book
from service.payouts.accounts import not_ready
from service.payouts.approve import hashes_of
from service.payouts.control import closed, largest_of, room_on
from service.payouts.find import items_of, lock_run, merchant_time
from service.payouts.providers.model import DESTINATION, Payable, Sending
from service.payouts.release import store_released
from service.payouts.withhold import decided, taxed
from service.tables.payouts import PayoutItemRow, PayoutRunRow

REQUEST = "payout-request"
"""What stored requests are encrypted for: they name the destination."""


@dataclass(frozen=True, slots=True)
class Planned:
    """How many attempts were made, and how many items dropped."""

    attempts: int
    dropped: int


@dataclass(frozen=True, slots=True)
class _Payee:
    """A payee and the account its active payout method names, encrypted."""

    payee: Payee
    destination: bytes


def plan(
    session: Session, rail: Payable, security: Security, *, merchant_id: UUID, run_id: UUID, limit: int, now: datetime
) -> Planned:
    """Plan up to `limit` items of an executing run; none before its pay day. now: by our clock.

    Under the locks of the run and of both balances of each payee: whatever changed since the approval drops the item.
    """
    run = lock_run(session, merchant_id, run_id)
    merchant, when = merchant_time(session, merchant_id, now=now)
    if run.status != RunState.EXECUTING or run.stopped_at is not None or when.day < run.pay_on:
        return Planned(0, 0)
    numbers = _to_plan(session, run, limit)
    run.waits_for = closed(session, run)
    session.add(run)
    if not numbers or run.waits_for is not None:
        return Planned(0, 0)
    # A freeze marks items it takes back; whoever of us comes second sees what the other did.
    items = items_of(session, merchant_id, numbers, hold=True)
    payees, dropped = check(session, run, items, when=when)
    room = room_on(session, run, when)
    fit = fitting(((item.id, item.net_minor) for item in items if item.id not in dropped), room)
    sent = [item for item in items if item.id in fit]
    if len(sent) + len(dropped) < len(items):
        run.waits_for = room.binds
    given_back = [item for item in items if item.id in dropped]
    postings: list[Posting] = [posting for item in given_back for posting in book.released(item)]
    for item in sent:
        postings += book.planned(item, number=numbers[item.id])
    after = post(session, postings, when={merchant_id: when}, touched=[book.payable(item) for item in given_back])
    emit(session, store_released(session, dropped, given_back, after, at=when.now))
    attempts = []
    for item in sent:
        sending = Sending(
            merchant_id=merchant_id,
            run_id=run_id,
            item_id=item.id,
            number=numbers[item.id],
            destination=security.decrypt(payees[item.payee_id].destination, purpose=DESTINATION).decode(),
            amount_minor=item.net_minor,
            currency=item.currency,
        )
        request = security.encrypt(rail.build_request(sending), purpose=REQUEST)
        attempts.append(_Attempt(item, numbers[item.id], _key(sending, is_test=merchant.is_test), request))
    _store(session, run, attempts, now=now, when=when)
    crash_point(CrashPoint.PLAN_BEFORE_COMMIT)
    return Planned(len(sent), len(given_back))


def check(
    session: Session, run: PayoutRunRow, items: Sequence[PayoutItemRow], *, when: MerchantTime
) -> tuple[Mapping[UUID, _Payee], Mapping[UUID, Excluded]]:
    """Compare locked items with the payees as they are now, under the locks of both their balances.

    Returns payees by id, and by item id why those are not sent that are not what was approved any more.
    """
    # Decided as of today: in another period, or after a change of what is summed, it is not what was approved.
    taxes = taxed(session, run.merchant_id, [item.payee_id for item in items], pay_on=when.day, hold=True)
    kept = lock(
        session,
        run.merchant_id,
        owner_ids=sorted(item.payee_id for item in items),
        kinds=(AccountKind.PAYABLE, AccountKind.TAXED_CARRY),
        currency=run.currency,
    )
    payable = {each.owner_id: kept[each].amount_minor for each in kept if each.kind is AccountKind.PAYABLE}
    payees = _payees(session, run, [item.payee_id for item in items], payable, when)
    hashes = hashes_of(run, items)
    limit_minor = largest_of(session, run.merchant_id, run.currency)
    dropped: dict[UUID, Excluded] = {}
    for item in items:
        tax_now = taxes[item.payee_id].decide(item.gross_minor, item.currency)
        refusal = tax_now.reason if isinstance(tax_now, Refused) else None
        reason = why_dropped(
            replace(payees[item.payee_id].payee, tax_refusal=refusal),
            net_minor=item.net_minor,
            limit_minor=limit_minor,
            fingerprint=item.fingerprint,
            tax=decided(item),
            tax_now=tax_now if isinstance(tax_now, Decision) else None,
            approved_hash=item.content_hash or "",
            content=hashes[item.id],
        )
        if reason is not None:
            dropped[item.id] = reason
    return payees, dropped


def _to_plan(session: Session, run: PayoutRunRow, limit: int) -> Mapping[UUID, int]:
    """Items without an attempt, or whose last did nothing and a person asked again. Maps id to the next number."""
    rows = fetch(
        session,
        """
        SELECT item.id, coalesce(max(attempt.number), 0) + 1 AS number
        FROM payout_item AS item
        LEFT JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id AND item.live AND item.frozen_code IS NULL
        GROUP BY item.merchant_id, item.id
        HAVING count(attempt.id) = 0
            OR (item.retry_by IS NOT NULL AND bool_and(attempt.outcome IN ('refused', 'absent')))
        ORDER BY item.id
        LIMIT :limit
        """,
        {"merchant_id": run.merchant_id, "run_id": run.id, "limit": limit},
    )
    return {row.id: row.number for row in rows}


def _payees(
    session: Session,
    run: PayoutRunRow,
    payee_ids: Sequence[UUID],
    payable: Mapping[UUID, int],
    when: MerchantTime,
) -> Mapping[UUID, _Payee]:
    rows = fetch(
        session,
        """
        SELECT affiliate.id, affiliate.status, affiliate.tax_rule, payout_method.id AS payout_method_id,
               payout_method.fingerprint, payout_method.destination,
               coalesce(payout_method.usable_from > :now, false) AS method_waits
        FROM affiliate
        LEFT JOIN payout_method ON payout_method.merchant_id = :merchant_id
             AND payout_method.affiliate_id = affiliate.id AND payout_method.rail = :rail
             AND payout_method.replaced_at IS NULL
        WHERE affiliate.merchant_id = :merchant_id AND affiliate.id = ANY(CAST(:payee_ids AS uuid[]))
        """,
        {"merchant_id": run.merchant_id, "rail": run.rail, "now": when.now, "payee_ids": list(payee_ids)},
    )
    unready = not_ready(session, rail=run.rail, merchant_id=run.merchant_id, payee_ids=payee_ids)
    return {
        row.id: _Payee(
            Payee(
                id=row.id,
                status=row.status,
                tax_rule=row.tax_rule,
                payout_method_id=row.payout_method_id,
                fingerprint=row.fingerprint,
                payable_minor=payable.get(row.id, 0),
                carried_minor=0,
                method_waits=row.method_waits,
                account_ready=row.id not in unready,
            ),
            row.destination or b"",
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A first or further try of an item. request: encrypted."""

    item: PayoutItemRow
    number: int
    key: str
    request: bytes


def _key(sending: Sending, *, is_test: bool) -> str:
    """The idempotency key: made from what it pays, so that no crash can lose or double it."""
    return f"{'test' if is_test else 'live'}:{ids.encode('pay', sending.item_id)}:{sending.number}"


def _store(
    session: Session, run: PayoutRunRow, attempts: Sequence[_Attempt], *, now: datetime, when: MerchantTime
) -> None:
    if not attempts:
        return
    execute(
        session,
        """
        INSERT INTO payout_attempt (merchant_id, id, item_id, number, rail, idempotency_key, request, outcome, code,
                                    fence, sends, next_at, proof, asked_by, created_at)
        SELECT :merchant_id, id, item_id, number, :rail, idempotency_key, request, :planned, '',
               0, 0, :now, CAST('{}' AS jsonb), asked_by, :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:item_ids AS uuid[]), CAST(:numbers AS integer[]),
                    CAST(:keys AS text[]), CAST(:requests AS bytea[]), CAST(:asked_by AS uuid[]))
             AS made (id, item_id, number, idempotency_key, request, asked_by)
        """,
        {
            "merchant_id": run.merchant_id,
            "rail": run.rail,
            "planned": Outcome.PLANNED.value,
            "now": now,
            "ids": [ids.new_id() for _ in attempts],
            "item_ids": [each.item.id for each in attempts],
            "numbers": [each.number for each in attempts],
            "keys": [each.key for each in attempts],
            "requests": [each.request for each in attempts],
            "asked_by": [each.item.retry_by for each in attempts],
        },
    )
    execute(
        session,
        """
        UPDATE payout_item SET handed_over_at = :at, retry_by = NULL
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": run.merchant_id, "at": when.now, "ids": [each.item.id for each in attempts]},
    )
