"""Deliveries that nobody waits in line for: lists that an import or a caller brings, each a unit of work of its own."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy import exc as sqlalchemy_errors
from sqlmodel import Session

from service.domain.errors import InvariantBroken
from service.domain.order import Fact, FactKind, merge
from service.infra.db import fetch, run_unit
from service.infra.ids import encode
from service.intake.record import Received, Recorded, record

_log = logging.getLogger(__name__)


def record_all(engine: Engine, received: Sequence[Received]) -> list[Recorded]:
    """Record a list in one unit of work and return its answers in order; what the books refuse parks alone.

    Never to be called by who holds a session. Raises Unavailable: then nothing of the list may have been kept, and
    recording it again does no harm.
    """
    if not received:
        return []
    try:
        return run_unit(engine, lambda session: record(session, received))
    except (InvariantBroken, sqlalchemy_errors.IntegrityError, sqlalchemy_errors.DataError) as error:
        if len(received) > 1:
            half = len(received) // 2
            return record_all(engine, received[:half]) + record_all(engine, received[half:])
        _log.exception("A delivery of source %s failed alone and is parked.", encode("src", received[0].source_id))
        # The words of the error stay in our log: they may hold rows of other deliveries.
        parked = received[0].parked("internal_error", f"{type(error).__name__}; see the log of the service.")
        return run_unit(engine, lambda session: record(session, [parked]))


def content_id(body: bytes) -> str:
    """The id of a delivery that brings none: the same bytes are the same delivery, however often they come."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


class Effect(StrEnum):
    """What an event adds to what is known."""

    NEW = "new"
    """The order, refund or dispute was not known."""
    CHANGED = "changed"
    """It was, and this is another version of it, or more about it."""
    SAME = "same"
    """Nothing that is not known already, or a version older than the one that counts."""


def foresee(session: Session, merchant_id: UUID, received: Sequence[Received]) -> tuple[list[Effect], set[str]]:
    """What deliveries of one source would add, in their order, and which of their orders are here.

    Looks only at what is stored, not from one delivery to the next.
    """
    if not received:
        return [], set()
    delivered = _delivered(session, merchant_id, received)
    known = _known(session, merchant_id, received)
    here = {name for name, facts in known.items() if (FactKind.ORDER, "") in facts}
    effects = [
        Effect.SAME if (each.delivery_id, each.body_hash) in delivered else _effect(each, known) for each in received
    ]
    return effects, here


_Facts = dict[tuple[FactKind, str], Fact]


def _effect(received: Received, known: dict[str, _Facts]) -> Effect:
    facts = known.get(received.order[1], {}) if received.order else {}
    stored = [(facts.get((fact.kind, fact.key)), fact) for fact in received.facts]
    if all(old is not None and _counts_already(old, new) for old, new in stored):
        return Effect.SAME
    # The first fact is what the event is about; milestones of an order come after it.
    return Effect.NEW if stored[0][0] is None else Effect.CHANGED


def _counts_already(old: Fact, new: Fact) -> bool:
    winner = merge(old, new)
    return (winner.version, winner.body_hash, winner.conflicting) == (old.version, old.body_hash, old.conflicting)


def _delivered(session: Session, merchant_id: UUID, received: Sequence[Received]) -> set[tuple[str, bytes]]:
    rows = fetch(
        session,
        """
        SELECT inbox.delivery_id, inbox.body_hash
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:delivery_ids AS text[]), CAST(:hashes AS bytea[]))
             AS asked (source_id, delivery_id, body_hash)
        JOIN inbox ON inbox.merchant_id = :merchant_id AND inbox.source_id = asked.source_id
                  AND inbox.delivery_id = asked.delivery_id AND inbox.body_hash = asked.body_hash
        """,
        {
            "merchant_id": merchant_id,
            "source_ids": [each.source_id for each in received],
            "delivery_ids": [each.delivery_id for each in received],
            "hashes": [each.body_hash for each in received],
        },
    )
    return {(row.delivery_id, bytes(row.body_hash)) for row in rows}


def _known(session: Session, merchant_id: UUID, received: Sequence[Received]) -> dict[str, _Facts]:
    """Facts that are stored of the orders spoken of, by the shop's id of the order."""
    orders = sorted({each.order for each in received if each.order is not None})
    rows = fetch(
        session,
        """
        SELECT orders.external_id, kind, key, version_at, version_amount, payload, body_hash, conflicting
        FROM unnest(CAST(:source_ids AS uuid[]), CAST(:names AS text[])) AS asked (source_id, external_id)
        JOIN orders ON orders.merchant_id = :merchant_id AND orders.source_id = asked.source_id
                   AND orders.external_id = asked.external_id
        JOIN fact ON fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id
        """,
        {
            "merchant_id": merchant_id,
            "source_ids": [source_id for source_id, _ in orders],
            "names": [name for _, name in orders],
        },
    )
    known: dict[str, _Facts] = defaultdict(dict)
    for row in rows:
        fact = Fact.stored(
            kind=row.kind,
            key=row.key,
            version_at=row.version_at,
            version_amount=row.version_amount,
            payload=row.payload,
            body_hash=bytes(row.body_hash),
            conflicting=row.conflicting,
        )
        known[row.external_id][fact.kind, fact.key] = fact
    return known
