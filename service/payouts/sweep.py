"""Look at all that a provider did lately, told or not: events that were missed, transfers on one side only."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.payout import Answer
from service.infra.db import execute, fetch, read_session, run_unit
from service.infra.security import Security
from service.payouts.apply import Provider
from service.payouts.explain import Explained, explain
from service.payouts.find import merchant_time
from service.payouts.hear import adopt, keep, known_merchants
from service.payouts.providers.model import ToldRail, Transfer
from service.payouts.providers.stripe_events import Heard, StripeEvents, Told
from service.payouts.providers.stripe_global import NAME as GLOBAL

EVENTS_KEPT = timedelta(days=30) - timedelta(hours=1)
"""How long Stripe lists events, a little less."""
OVERLAP = timedelta(hours=1)
"""How much of what was listed is listed again: events become visible a little after they happened."""
ACCOUNT_EVERY = timedelta(days=1)
"""How often the events of each connected account are listed; Stripe lists them for each account alone."""
ACCOUNTS_AT_ONCE = 200
ACCOUNTS_FOR = timedelta(seconds=30)
"""How long one account after the other is asked in a turn: all other jobs of the worker wait for its end."""
SWEPT_BACK = timedelta(hours=48)
"""How far before the last sweep the next one begins: the slowest attempt is resolved well within it."""
SETTLED_AFTER = timedelta(minutes=15)
"""What was accepted later than this before a sweep need not be listed yet."""
_KEEP_AT_ONCE = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Missed:
    """What a listing of events brought. trouble: why it is not complete; then its span is listed again."""

    kept: int
    trouble: Answer | None = None


def back_fill(provider: Provider, events: StripeEvents, *, since: datetime | None, now: datetime) -> Missed:
    """Keep the events since the last time that no delivery brought. since: up to when they were listed, None: never."""
    begin = max(now - EVENTS_KEPT, (since or now - EVENTS_KEPT) - OVERLAP)
    listings = [events.of_platform(begin)]
    # Where Stripe is away, each further question takes as long as the network gives it, and a thread of the worker waits.
    is_there = not listings[0].is_away
    if is_there and GLOBAL in provider.rails:
        listings.append(events.of_payments(begin))
    kept = 0
    for listing in listings:
        if listing.trouble is not None:
            _log.warning("Events of Stripe could not be listed: %s", listing.trouble.code)
        kept += _keep(provider, listing)
    if is_there:
        kept += _of_accounts(provider, events, now)
    run_unit(provider.engine, partial(adopt, now=now))
    return Missed(kept, next((each.trouble for each in listings if each.trouble is not None), None))


def _of_accounts(provider: Provider, events: StripeEvents, now: datetime) -> int:
    """List the events of connected accounts that were not asked for a day, those that waited longest first.

    Trouble of one account keeps nobody else waiting: it is asked again after a day, for all since it last answered.
    """
    with read_session(provider.engine) as session:
        rows = fetch(
            session,
            """
            SELECT merchant_id, affiliate_id, account_id, events_until FROM stripe_account
            WHERE account_id IS NOT NULL AND events_until < :before
              AND (events_tried_at IS NULL OR events_tried_at < :before)
            ORDER BY events_tried_at NULLS FIRST, events_until, account_id LIMIT :limit
            """,
            {"before": now - ACCOUNT_EVERY, "limit": ACCOUNTS_AT_ONCE},
        )
    kept = 0
    # From here on, and not from the turn's beginning: however long the platform's own events take, some are asked.
    until = provider.clock() + ACCOUNTS_FOR
    for row in rows:
        if provider.clock() >= until:
            break
        # Before it is asked: an account whose answer ends this process must not be the first again.
        _note(provider, _ASKED, row, now)
        told = events.of_account(row.account_id, max(now - EVENTS_KEPT, row.events_until - OVERLAP))
        if told.trouble is not None:
            _log.warning("Events of account %s could not be listed: %s", row.account_id, told.trouble.code)
            if told.is_away:
                break
            continue
        kept += _keep(provider, told)
        _note(provider, _LISTED, row, now)
    return kept


_ASKED = """
    UPDATE stripe_account SET events_tried_at = :now
    WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id
"""
_LISTED = """
    UPDATE stripe_account SET events_until = :now
    WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id
"""


def _note(provider: Provider, statement: str, account: Row[Any], now: datetime) -> None:
    whose = {"merchant_id": account.merchant_id, "affiliate_id": account.affiliate_id, "now": now}
    run_unit(provider.engine, partial(execute, statement=statement, parameters=whose))


def _keep(provider: Provider, told: Told) -> int:
    kept = 0
    for begin in range(0, len(told.events), _KEEP_AT_ONCE):
        some: Sequence[Heard] = told.events[begin : begin + _KEEP_AT_ONCE]
        kept += run_unit(provider.engine, partial(keep, events=some, now=provider.clock()))["kept"]
    return kept


@dataclass(frozen=True, slots=True)
class Swept:
    """All transfers of a span on both sides, in four sets, and those that are still open.

    missing: references we recorded and the provider does not list. unexplained: it lists them under our name, and no
    attempt explains them. foreign: how many are not ours. complete: all of the provider's list was read.
    """

    complete: bool
    matched: int = 0
    open: int = 0
    missing: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()
    foreign: int = 0
    changed: int = 0


def sweep(provider: Provider, rail: ToldRail, *, since: datetime, now: datetime) -> Swept:
    """Explain every transfer the provider made since a moment, and look for those of ours that it does not list."""
    begin = since - SWEPT_BACK
    listing = rail.made_between(begin, now)
    if listing.trouble is not None:
        _log.warning("Transfers at %s could not be listed: %s", rail.name, listing.trouble.code)
        return Swept(complete=False)
    with read_session(provider.engine) as session:
        there = known_merchants(session, [each.merchant_id for each in listing.transfers])
        recorded = _recorded(session, rail.name, begin + OVERLAP, now - SETTLED_AFTER)
    grouped: dict[UUID, list[Transfer]] = defaultdict(list)
    for transfer in listing.transfers:
        if transfer.merchant_id in there:
            grouped[transfer.merchant_id].append(transfer)
    explained = [
        run_unit(
            provider.engine,
            partial(
                _explain,
                security=provider.security,
                merchant_id=merchant_id,
                rail=rail.name,
                transfers=theirs,
                now=now,
            ),
        )
        for merchant_id, theirs in sorted(grouped.items())
    ]
    listed = {each.reference for each in listing.transfers}
    missing = tuple(reference for reference in recorded if reference not in listed)
    for reference in missing:
        _log.error("Transfer %s, sent by us at %s, is not in the provider's list", reference, rail.name)
    return Swept(
        complete=True,
        matched=sum(len(each.matched) for each in explained),
        open=sum(len(each.open) for each in explained),
        missing=missing,
        unexplained=tuple(reference for each in explained for reference in each.unexplained),
        foreign=len(listing.transfers) - sum(len(each) for each in grouped.values()),
        changed=sum(each.changed for each in explained),
    )


def _explain(
    session: Session, *, security: Security, merchant_id: UUID, rail: str, transfers: Sequence[Transfer], now: datetime
) -> Explained:
    _, when = merchant_time(session, merchant_id, now=now)
    return explain(session, transfers, merchant_id=merchant_id, rail=rail, when=when, now=now, security=security)


def _recorded(session: Session, rail: str, since: datetime, until: datetime) -> list[str]:
    """References of all merchants whose sending began and ended between two moments of our clock."""
    rows = fetch(
        session,
        """
        SELECT fact.object_id
        FROM provider_fact AS fact
        JOIN payout_attempt AS attempt ON attempt.merchant_id = fact.merchant_id AND attempt.item_id = fact.item_id
             AND attempt.reference = fact.object_id
        WHERE fact.rail = :rail AND fact.kind = 'accepted' AND fact.told_at >= :since AND fact.told_at < :until
          AND attempt.first_sent_at >= :since
        ORDER BY fact.told_at, fact.object_id
        """,
        {"rail": rail, "since": since, "until": until},
    )
    return [row.object_id for row in rows]
