"""Compare a day of our books with the same day of the provider's own balance, transfer by transfer."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.payout import Answer
from service.domain.provider import EXPLAINED, ProviderDifferenceKind, why_different
from service.infra import ids
from service.infra.db import execute, fetch, read_session, run_unit
from service.payouts.apply import Provider
from service.payouts.hear import known_merchants
from service.payouts.providers.model import Movement, ToldRail

DAYS = 3
"""How many of the last days are compared each time: what was resolved late is explained by then."""
SHOWN_MAX = 100

_log = logging.getLogger(__name__)

_Key = tuple[UUID, str]
"""Merchant and currency."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A transfer whose sides differ on the day. Amounts: out less back, in ISO minor units."""

    kind: ProviderDifferenceKind
    reference: str
    item_id: UUID
    provider_minor: int
    ledger_minor: int

    def as_json(self) -> dict[str, object]:
        return {
            "kind": self.kind.value,
            "reference": self.reference,
            "payout_id": ids.encode("pay", self.item_id),
            "provider_minor": self.provider_minor,
            "ledger_minor": self.ledger_minor,
        }


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of the day: net amount of each transfer, and the payout it is for."""

    nets: Mapping[str, int]
    items: Mapping[str, UUID]


_NOTHING = _Side({}, {})


def compare_day(provider: Provider, rail: ToldRail, day: date) -> bool:
    """Compare one day in UTC and keep the result per merchant and currency. False when the provider did not tell all."""
    since = datetime.combine(day, time(), UTC)
    until = since + timedelta(days=1)
    told = rail.movements(since, until)
    if told.trouble is not None:
        _log.warning("The balance at %s could not be read: %s", rail.name, told.trouble.code)
        return False
    with read_session(provider.engine) as session:
        there = known_merchants(session, [each.transfer.merchant_id for each in told.movements])
        ours = _booked(session, rail.name, since, until)
    theirs = _moved(each for each in told.movements if each.transfer.merchant_id in there)
    for key in sorted(ours.keys() | theirs.keys()):
        merchant_id, currency = key
        booked, moved = ours.get(key, _NOTHING), theirs.get(key, _NOTHING)
        references = sorted(booked.nets.keys() | moved.nets.keys())
        odd = [each for each in references if booked.nets.get(each, 0) != moved.nets.get(each, 0)]
        explained = _explained(provider, rail, merchant_id, odd, booked, moved)
        if explained is None:
            return False
        work = partial(
            _store,
            merchant_id=merchant_id,
            rail=rail.name,
            day=day,
            currency=currency,
            provider_minor=sum(moved.nets.values()),
            ledger_minor=sum(booked.nets.values()),
            matched=len(references) - len(odd),
            differences=explained,
            now=provider.clock(),
        )
        run_unit(provider.engine, work)
    return True


def _moved(movements: Iterable[Movement]) -> Mapping[_Key, _Side]:
    return _sides(
        (
            (each.transfer.merchant_id, each.transfer.currency),
            each.transfer.reference,
            each.transfer.item_id,
            each.amount_minor,
        )
        for each in movements
        if each.transfer.merchant_id is not None
    )


def _booked(session: Session, rail: str, since: datetime, until: datetime) -> Mapping[_Key, _Side]:
    """What we booked into and out of `paid` for what was told on a day of our clock, of all merchants."""
    return _sides(
        ((row.merchant_id, row.currency), row.object_id, row.item_id, row.amount_minor)
        for row in fetch(session, _BOOKED + _OF_DAY, {"rail": rail, "since": since, "until": until})
    )


def _sides(parts: Iterable[tuple[_Key, str, UUID, int]]) -> Mapping[_Key, _Side]:
    nets: dict[_Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    items: dict[_Key, dict[str, UUID]] = defaultdict(dict)
    for key, reference, item_id, amount_minor in parts:
        nets[key][reference] += amount_minor
        items[key][reference] = item_id
    return {key: _Side(nets[key], items[key]) for key in nets}


_BOOKED = """
    SELECT fact.merchant_id, fact.object_id, fact.item_id, posting.currency,
           CAST(CASE WHEN posting.credit_kind = 'paid' THEN posting.amount_minor ELSE -posting.amount_minor END AS bigint)
               AS amount_minor
    FROM provider_fact AS fact
    JOIN posting ON posting.merchant_id = fact.merchant_id
         AND posting.event = 'payout/' || fact.item_id || CASE fact.kind
             WHEN 'accepted' THEN '/attempt/' || (fact.payload ->> 'attempt') || '/accept'
             ELSE '/came-back/' || fact.amount_minor END
         AND (posting.credit_kind = 'paid' OR posting.debit_kind = 'paid')
    WHERE fact.rail = :rail AND fact.kind IN ('accepted', 'reversed', 'returned')
"""
"""Each booking of a payout with the fact that it was made for; a fact that came too late to change anything has none."""
_OF_DAY = " AND fact.told_at >= :since AND fact.told_at < :until"
_OF_TRANSFERS = " AND fact.merchant_id = :merchant_id AND fact.object_id = ANY(CAST(:references AS text[]))"


def _explained(
    provider: Provider, rail: ToldRail, merchant_id: UUID, odd: Sequence[str], booked: _Side, moved: _Side
) -> list[Difference] | None:
    """Say why each of these differs, unexplained ones first. None where the provider did not tell."""
    if not odd:
        return []
    items = {reference: booked.items.get(reference) or moved.items[reference] for reference in odd}
    whole: dict[str, int | None] = {}
    for reference in odd:
        made = rail.read(reference)
        if not isinstance(made, Answer):
            whole[reference] = made.out_minor
        elif made.code in {"resource_missing", "not_found"}:
            whole[reference] = None
        else:
            return None
    with read_session(provider.engine) as session:
        asked = {"rail": rail.name, "merchant_id": merchant_id, "references": list(odd)}
        sums: dict[str, int] = defaultdict(int)
        for row in fetch(session, _BOOKED + _OF_TRANSFERS, asked):
            sums[row.object_id] += row.amount_minor
        attempts = _attempts(session, merchant_id, sorted(set(items.values())))
    found = [
        Difference(
            why_different(
                ledger_minor=sums[reference],
                provider_minor=whole[reference],
                has_open_attempt=any(
                    each.outcome in {"planned", "in_flight", "unknown"} for each in attempts.get(items[reference], [])
                ),
                is_known=any(each.reference == reference for each in attempts.get(items[reference], [])),
            ),
            reference,
            items[reference],
            moved.nets.get(reference, 0),
            booked.nets.get(reference, 0),
        )
        for reference in odd
    ]
    return sorted(found, key=lambda each: (each.kind in EXPLAINED, each.reference))


def _attempts(session: Session, merchant_id: UUID, item_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Row[Any]]]:
    rows = fetch(
        session,
        """
        SELECT item_id, outcome, reference FROM payout_attempt
        WHERE merchant_id = :merchant_id AND item_id = ANY(CAST(:item_ids AS uuid[])) ORDER BY item_id, number
        """,
        {"merchant_id": merchant_id, "item_ids": list(item_ids)},
    )
    found: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.item_id].append(row)
    return found


def _store(
    session: Session,
    *,
    merchant_id: UUID,
    rail: str,
    day: date,
    currency: str,
    provider_minor: int,
    ledger_minor: int,
    matched: int,
    differences: Sequence[Difference],
    now: datetime,
) -> None:
    unexplained = sum(1 for each in differences if each.kind not in EXPLAINED)
    if unexplained:
        _log.error(
            "Payouts of %s on %s of %s in %s: %d differ from the provider's books for no known reason",
            ids.encode("mer", merchant_id),
            rail,
            day,
            currency,
            unexplained,
        )
    execute(
        session,
        """
        INSERT INTO provider_reconciliation (merchant_id, rail, day, currency, provider_minor, ledger_minor, matched,
                                             unexplained, differences, differences_total, compared_at)
        VALUES (:merchant_id, :rail, :day, :currency, :provider_minor, :ledger_minor, :matched, :unexplained,
                CAST(:differences AS jsonb), :total, :now)
        ON CONFLICT (merchant_id, rail, day, currency) DO UPDATE
        SET provider_minor = excluded.provider_minor, ledger_minor = excluded.ledger_minor, matched = excluded.matched,
            unexplained = excluded.unexplained, differences = excluded.differences,
            differences_total = excluded.differences_total, compared_at = excluded.compared_at
        """,
        {
            "merchant_id": merchant_id,
            "rail": rail,
            "day": day,
            "currency": currency,
            "provider_minor": provider_minor,
            "ledger_minor": ledger_minor,
            "matched": matched,
            "unexplained": unexplained,
            "differences": json.dumps([each.as_json() for each in differences[:SHOWN_MAX]]),
            "total": len(differences),
            "now": now,
        },
    )
