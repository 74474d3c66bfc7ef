"""Apply what a provider told: ask what the events are about, then change our books, one merchant at a time."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.domain.errors import InvariantBroken, ServiceError
from service.domain.payout import Answer
from service.domain.provider import AccountState, BankPayoutStatus, EventState, EventSubject
from service.infra import metrics
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, read_session, run_unit
from service.infra.security import Security
from service.payouts.accounts import BankPayout, store_bank_payouts, store_states
from service.payouts.explain import explain
from service.payouts.find import merchant_time
from service.payouts.hear import NOT_UNDERSTOOD, known_merchants
from service.payouts.providers.model import ToldRail, Transfer
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.payouts.providers.stripe_amounts import iso_amount
from service.payouts.providers.stripe_connect import NAME as CONNECT
from service.payouts.providers.stripe_connect import transfer_of
from service.payouts.providers.stripe_global import NAME as GLOBAL

APPLY_AT_ONCE = 200
AGAIN_MIN, AGAIN_MAX = timedelta(minutes=1), timedelta(hours=1)
TRIES_MAX = 60
"""After so many an event is parked: more than two days, in which every attempt is resolved one way or the other."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the service's own jobs ask it. rails: of it, by name. clock: ours, in UTC."""

    engine: Engine
    security: Security
    accounts: StripeAccounts
    rails: Mapping[str, ToldRail]
    clock: Callable[[], datetime]


@dataclass(slots=True)
class _Read:
    """What events are about, as it is now. asked_at: when we began to ask."""

    asked_at: datetime
    accounts: dict[str, AccountState]
    payments: dict[str, Transfer]


_Verdict = tuple[EventState, str | None]
_AGAIN: _Verdict = (EventState.WAITING, None)


def apply_waiting(provider: Provider, *, until: datetime) -> datetime | None:
    """Apply the events that are due. until: begin no further batch after that. Returns when more are due, None if never."""
    while True:
        now = provider.clock()
        with read_session(provider.engine) as session:
            events = _due(session, now)
        if not events:
            break
        read = _ask(provider, events)
        crash_point(CrashPoint.PROVIDER_EVENTS_READ)
        for merchant_id, theirs in _by_merchant(provider, events, read).items():
            work = partial(_apply, merchant_id=merchant_id, events=theirs, read=read, now=provider.clock())
            try:
                run_unit(provider.engine, work)
            except InvariantBroken:
                # The others go on; these come round again until somebody has mended what they stumble over.
                _log.exception("Events of merchant %s contradict the books", merchant_id)
                again: dict[str, _Verdict] = dict.fromkeys((each.id for each in theirs), _AGAIN)
                later = partial(_mark, merchant_id=None, events=theirs, verdicts=again, now=provider.clock())
                run_unit(provider.engine, later)
        if provider.clock() >= until:
            break
    with read_session(provider.engine) as session:
        rows = fetch(session, "SELECT min(due_at) AS due_at FROM provider_event WHERE state = 'waiting'")
    due_at: datetime | None = rows[0].due_at
    return due_at


def _due(session: Session, now: datetime) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT id, subject, object_id, account, merchant_id, payload, tries FROM provider_event
        WHERE state = 'waiting' AND due_at <= :now ORDER BY due_at, id LIMIT :limit
        """,
        {"now": now, "limit": APPLY_AT_ONCE},
    )


def _ask(provider: Provider, events: Sequence[Row[Any]]) -> _Read:
    """Ask the provider once about each thing that changed. No unit of work is open."""
    read = _Read(provider.clock(), {}, {})
    for account_id in sorted({each.object_id for each in events if each.subject == EventSubject.ACCOUNT}):
        try:
            read.accounts[account_id] = provider.accounts.read(account_id)
        except ServiceError as error:
            _log.warning("Account %s could not be read: %s", account_id, error)
    rail = provider.rails.get(GLOBAL)
    if rail is not None:
        for reference in sorted({each.object_id for each in events if each.subject == EventSubject.OUTBOUND_PAYMENT}):
            made = rail.read(reference)
            if isinstance(made, Answer):
                _log.warning("Outbound payment %s could not be read: %s", reference, made.code)
            else:
                read.payments[reference] = made
    return read


def _by_merchant(
    provider: Provider, events: Sequence[Row[Any]], read: _Read
) -> Mapping[UUID | None, Sequence[Row[Any]]]:
    """Group events by whom they are about; under None those of which that is not known, or that are nobody's here."""
    with read_session(provider.engine) as session:
        there = known_merchants(session, [each.merchant_id for each in read.payments.values()])
    grouped: dict[UUID | None, list[Row[Any]]] = defaultdict(list)
    for event in events:
        merchant_id = event.merchant_id
        if event.subject == EventSubject.OUTBOUND_PAYMENT and event.object_id in read.payments:
            of = read.payments[event.object_id].merchant_id
            merchant_id = of if of in there else None
        grouped[merchant_id].append(event)
    return grouped


def _apply(
    session: Session, *, merchant_id: UUID | None, events: Sequence[Row[Any]], read: _Read, now: datetime
) -> None:
    still = {
        row.id
        for row in fetch(
            session,
            """
            SELECT id FROM provider_event WHERE id = ANY(CAST(:ids AS text[])) AND state = 'waiting'
            ORDER BY id FOR UPDATE
            """,
            {"ids": [each.id for each in events]},
        )
    }
    waiting = [each for each in events if each.id in still]
    verdicts: dict[str, _Verdict] = {}
    if merchant_id is None:
        for each in waiting:
            verdicts[each.id] = (EventState.FOREIGN, None) if each.object_id in read.payments else _AGAIN
    else:
        verdicts |= _transfers(session, merchant_id, waiting, read, now)
        verdicts |= _accounts(session, merchant_id, waiting, read, now)
        verdicts |= _bank_payouts(session, merchant_id, waiting, now)
    _mark(session, merchant_id, waiting, verdicts, now)
    crash_point(CrashPoint.PROVIDER_EVENTS_BEFORE_COMMIT)


def _transfers(
    session: Session, merchant_id: UUID, events: Sequence[Row[Any]], read: _Read, now: datetime
) -> dict[str, _Verdict]:
    verdicts: dict[str, _Verdict] = {}
    told: dict[str, dict[str, tuple[Row[Any], Transfer]]] = {CONNECT: {}, GLOBAL: {}}
    for each in events:
        if each.subject == EventSubject.OUTBOUND_PAYMENT:
            made = read.payments.get(each.object_id)
            if made is None:
                verdicts[each.id] = _AGAIN
            else:
                told[GLOBAL][each.id] = (each, made)
        elif each.subject == EventSubject.TRANSFER:
            try:
                told[CONNECT][each.id] = (each, transfer_of(each.payload))
            except (AttributeError, KeyError, TypeError, ValueError):
                verdicts[each.id] = (EventState.PARKED, NOT_UNDERSTOOD)
    _, when = merchant_time(session, merchant_id, now=now)
    for rail, theirs in told.items():
        if not theirs:
            continue
        transfers = _newest([transfer for _, transfer in theirs.values()])
        explained = explain(session, transfers, merchant_id=merchant_id, rail=rail, when=when, now=now)
        for event, transfer in theirs.values():
            verdicts[event.id] = explained.state_of(transfer.reference)
    return verdicts


def _newest(transfers: Sequence[Transfer]) -> list[Transfer]:
    """One of each reference, with the most that came back: that is what all tellings of it come to."""
    newest: dict[str, Transfer] = {}
    for each in transfers:
        known = newest.get(each.reference)
        if known is None or each.reversed_minor > known.reversed_minor:
            newest[each.reference] = each
    return list(newest.values())


def _accounts(
    session: Session, merchant_id: UUID, events: Sequence[Row[Any]], read: _Read, now: datetime
) -> dict[str, _Verdict]:
    theirs = [each for each in events if each.subject == EventSubject.ACCOUNT]
    states = [state for account_id, state in read.accounts.items() if account_id in {each.object_id for each in theirs}]
    store_states(session, states, merchant_id=merchant_id, asked_at=read.asked_at, now=now)
    return {each.id: (EventState.APPLIED, None) if each.object_id in read.accounts else _AGAIN for each in theirs}


def _bank_payouts(
    session: Session, merchant_id: UUID, events: Sequence[Row[Any]], now: datetime
) -> dict[str, _Verdict]:
    verdicts: dict[str, _Verdict] = {}
    told: list[BankPayout] = []
    for each in events:
        if each.subject != EventSubject.BANK_PAYOUT:
            continue
        try:
            told.append(_bank_payout(each))
            verdicts[each.id] = (EventState.APPLIED, None)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            verdicts[each.id] = (EventState.PARKED, NOT_UNDERSTOOD)
    store_bank_payouts(session, told, merchant_id=merchant_id, now=now)
    return verdicts


def _bank_payout(event: Row[Any]) -> BankPayout:
    it = event.payload
    currency = it["currency"].upper()
    return BankPayout(
        id=it["id"],
        account_id=event.account,
        status=BankPayoutStatus(it["status"]),
        amount_minor=iso_amount(it["amount"], currency),
        currency=currency,
        failure_code=it["failure_code"],
        made_at=datetime.fromtimestamp(it["created"], UTC),
    )


def _mark(
    session: Session,
    merchant_id: UUID | None,
    events: Sequence[Row[Any]],
    verdicts: Mapping[str, _Verdict],
    now: datetime,
) -> None:
    marked = []
    for each in events:
        state, reason = verdicts[each.id]
        if state is EventState.WAITING and each.tries + 1 >= TRIES_MAX:
            state, reason = EventState.PARKED, "never_resolved"
        if state is EventState.PARKED:
            _log.error("Event %s about %s is parked: %s", each.id, each.object_id, reason)
        if state is not EventState.WAITING:
            metrics.provider_events(state.value, number=1)
        marked.append((each, state, reason))
    if not marked:
        return
    execute(
        session,
        """
        UPDATE provider_event
        SET state = told.state, reason_code = told.reason_code, due_at = told.due_at, tries = provider_event.tries + 1,
            merchant_id = coalesce(provider_event.merchant_id, CAST(:merchant_id AS uuid))
        FROM unnest(CAST(:ids AS text[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
                    CAST(:due AS timestamptz[])) AS told (id, state, reason_code, due_at)
        WHERE provider_event.id = told.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": [each.id for each, _, _ in marked],
            "states": [state.value for _, state, _ in marked],
            "reasons": [reason for _, _, reason in marked],
            "due": [
                now + min(AGAIN_MAX, AGAIN_MIN * 2 ** min(each.tries, 10)) if state is EventState.WAITING else None
                for each, state, _ in marked
            ],
        },
    )
