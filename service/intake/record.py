"""Record deliveries and let their facts count, in one unit of work, whoever brings them: a shop, an import, the desk."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.commissions.assess import OrderUpdate, assess_orders
from service.commissions.facts import OrderKey, Told
from service.domain.events import EventType
from service.domain.ledger import MerchantTime
from service.domain.order import ADJUSTS, Fact, FactKind, OrderFacts, OrderSnapshot
from service.domain.program import CLOCK_TOLERANCE
from service.infra.clock import utc_now
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.infra.ids import encode, new_id
from service.ledger.times import merchant_times
from service.outbox.emit import Event, emit
from service.tables.orders import InboxState
from service.tables.parties import Platform

JsonObject = dict[str, Any]

OrderName = tuple[UUID, str]
"""(source id, the shop's own id of the order)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A verified delivery and what we read in it.

    order: whose facts these are; None where nothing was understood. state: APPLIED, IGNORED or PARKED as far as can be
    said without looking; reason_code and detail say why it is not applied. understood: what the sender is told.
    grammar, settings_version: how the body was read, so that it can be read again (see `tables.orders.InboxRow`).
    shop_domain: who said, beside the body, to have sent it; empty if nobody.
    """

    merchant_id: UUID
    source_id: UUID
    delivery_id: str
    topic: str
    body: bytes
    body_hash: bytes
    order: OrderName | None = None
    facts: tuple[Fact, ...] = ()
    understood: JsonObject | None = None
    state: InboxState = InboxState.APPLIED
    reason_code: str | None = None
    detail: str = ""
    grammar: Platform | None = None
    settings_version: int = 0
    shop_domain: str = ""

    @property
    def key(self) -> tuple[UUID, UUID, str, bytes]:
        return (self.merchant_id, self.source_id, self.delivery_id, self.body_hash)

    @property
    def understood_text(self) -> str:
        return json.dumps(self.understood or {}, separators=(",", ":"))

    def parked(self, reason_code: str, detail: str) -> "Received":
        """The same delivery, kept for replay without effect."""
        return replace(self, state=InboxState.PARKED, reason_code=reason_code, detail=detail)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to a delivery. repeated: this is what was answered when it first came. order_id: if it has effect."""

    inbox_id: UUID
    state: InboxState
    reason_code: str | None
    detail: str
    understood: JsonObject
    repeated: bool = False
    order_id: UUID | None = None


_Key = tuple[UUID, UUID, str, bytes]


def record(session: Session, received: Sequence[Received]) -> list[Recorded]:
    """Keep deliveries for ever and book what follows from them. Returns their answers in the order given.

    May be run again after any failure, also after a commit whose answer was lost: a delivery known already has no
    second effect and gets its first answer.
    """
    when = merchant_times(session, {each.merchant_id for each in received})
    by_key = {each.key: unless_ahead(each, when[each.merchant_id].now) for each in received}
    filed = _file(session, [by_key[key] for key in sorted(by_key)], when)
    crash_point(CrashPoint.INTAKE_FILED)
    new = [(each, filed[key]) for key, each in by_key.items() if key in filed]
    _tell_parked(session, [pair for pair in new if pair[0].state is InboxState.PARKED], when)
    answers = _earlier(session, [key for key in by_key if key not in filed])
    waiting, order_ids = apply(session, [pair for pair in new if pair[0].state is InboxState.APPLIED], when)
    for each, inbox_id in new:
        waits = inbox_id in waiting
        answers[each.key] = Recorded(
            inbox_id,
            InboxState.WAITING if waits else each.state,
            WAITING_REASON if waits else each.reason_code,
            each.detail,
            each.understood or {},
            order_id=order_ids.get((each.merchant_id, each.order))
            if each.order and each.state is InboxState.APPLIED
            else None,
        )
    crash_point(CrashPoint.INTAKE_BEFORE_COMMIT)
    # Of a delivery that came twice within one batch, one was the first.
    first = {each.key: place for place, each in reversed(list(enumerate(received)))}
    return [
        answers[each.key] if first[each.key] == place else replace(answers[each.key], repeated=True)
        for place, each in enumerate(received)
    ]


WAITING_REASON = "order_not_here_yet"


def apply(
    session: Session, filed: Sequence[tuple[Received, UUID]], when: Mapping[UUID, MerchantTime]
) -> tuple[set[UUID], dict[tuple[UUID, OrderName], UUID]]:
    """Let the facts of filed deliveries, each with its inbox id, count.

    Returns the inbox ids that wait for their order, and the id of each order by (merchant, name).
    """
    told: dict[tuple[UUID, OrderName], list[Told]] = defaultdict(list)
    tellers: dict[tuple[UUID, OrderName], list[UUID]] = defaultdict(list)
    for each, inbox_id in filed:
        if each.order is not None and each.facts:
            told[each.merchant_id, each.order] += [Told(fact, inbox_id) for fact in each.facts]
            tellers[each.merchant_id, each.order].append(inbox_id)
    if not told:
        return set(), {}
    _note_first_orders(session, {merchant_id for (merchant_id, _), facts in told.items() if not _is_bonus(facts)})
    updates = _lock_orders(session, told, when)
    crash_point(CrashPoint.INTAKE_LOCKED)
    known = assess_orders(session, list(updates.values()), when=when)
    waiting = _sort_out_waiting(session, updates, tellers, known)
    return waiting, {name: update.order_id for name, update in updates.items()}


def unless_ahead(received: Received, now: datetime) -> Received:
    """Park what comes from the future: a version of 2099 would keep every later edit from counting."""
    latest = now + CLOCK_TOLERANCE
    for fact in received.facts:
        if fact.version_at > latest:
            return received.parked("version_ahead", f"Version {fact.version_at.isoformat()} lies ahead of our clock.")
        if isinstance(fact.body, OrderSnapshot) and fact.body.placed_at > latest:
            placed_at = fact.body.placed_at.isoformat()
            return received.parked("placed_ahead", f"The order was placed at {placed_at}, ahead of our clock.")
    return received


def _file(session: Session, received: Sequence[Received], when: Mapping[UUID, MerchantTime]) -> dict[_Key, UUID]:
    """Insert inbox rows, sorted by key. Returns the ids of those not known before, by key."""
    rows = fetch(
        session,
        """
        INSERT INTO inbox (merchant_id, source_id, delivery_id, body_hash, id, topic, received_at, body, state, answered,
                           reason_code, detail, order_source_id, order_external_id, understood, grammar,
                           settings_version, shop_domain)
        SELECT merchant_id, source_id, delivery_id, body_hash, id, topic, received_at, body, state, state,
               reason_code, detail, order_source_id, order_external_id, CAST(understood AS jsonb), grammar,
               settings_version, shop_domain
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:delivery_ids AS text[]),
                    CAST(:hashes AS bytea[]), CAST(:ids AS uuid[]), CAST(:topics AS text[]),
                    CAST(:moments AS timestamptz[]), CAST(:bodies AS bytea[]), CAST(:states AS text[]),
                    CAST(:reasons AS text[]), CAST(:details AS text[]), CAST(:order_sources AS uuid[]),
                    CAST(:order_names AS text[]), CAST(:understood AS text[]), CAST(:grammars AS text[]),
                    CAST(:settings_versions AS bigint[]), CAST(:shop_domains AS text[]))
             AS came (merchant_id, source_id, delivery_id, body_hash, id, topic, received_at, body, state, reason_code,
                      detail, order_source_id, order_external_id, understood, grammar, settings_version,
                      shop_domain)
        ON CONFLICT (merchant_id, source_id, delivery_id, body_hash) DO NOTHING
        RETURNING merchant_id, source_id, delivery_id, body_hash, id
        """,
        {
            "merchant_ids": [each.merchant_id for each in received],
            "source_ids": [each.source_id for each in received],
            "delivery_ids": [each.delivery_id for each in received],
            "hashes": [each.body_hash for each in received],
            "ids": [new_id() for _ in received],
            "topics": [each.topic for each in received],
            "moments": [when[each.merchant_id].now for each in received],
            "bodies": [each.body for each in received],
            "states": [each.state.value for each in received],
            "reasons": [each.reason_code for each in received],
            "details": [each.detail for each in received],
            "order_sources": [each.order[0] if each.order else None for each in received],
            "order_names": [each.order[1] if each.order else None for each in received],
            "understood": [each.understood_text for each in received],
            "grammars": [each.grammar for each in received],
            "settings_versions": [each.settings_version for each in received],
            "shop_domains": [each.shop_domain for each in received],
        },
    )
    return {(row.merchant_id, row.source_id, row.delivery_id, bytes(row.body_hash)): row.id for row in rows}


def _tell_parked(session: Session, parked: Sequence[tuple[Received, UUID]], when: Mapping[UUID, MerchantTime]) -> None:
    """Say that somebody has to look. Not what the delivery says: that may name customers, and was not understood."""
    events = []
    for each, inbox_id in parked:
        payload = {
            "inbox_id": encode("inb", inbox_id),
            "source_id": encode("src", each.source_id),
            "reason_code": each.reason_code,
        }
        events.append(Event(each.merchant_id, EventType.INBOX_PARKED, inbox_id, payload, when[each.merchant_id].now))
    emit(session, events)


def _earlier(session: Session, keys: Sequence[_Key]) -> dict[_Key, Recorded]:
    """What was answered to deliveries that came before."""
    if not keys:
        return {}
    rows = fetch(
        session,
        """
        SELECT inbox.merchant_id, inbox.source_id, inbox.delivery_id, inbox.body_hash, inbox.id, answered, reason_code,
               detail, understood, orders.id AS order_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:delivery_ids AS text[]),
                    CAST(:hashes AS bytea[])) AS asked (merchant_id, source_id, delivery_id, body_hash)
        JOIN inbox ON inbox.merchant_id = asked.merchant_id AND inbox.source_id = asked.source_id
                  AND inbox.delivery_id = asked.delivery_id AND inbox.body_hash = asked.body_hash
        LEFT JOIN orders ON orders.merchant_id = inbox.merchant_id AND orders.source_id = inbox.order_source_id
                        AND orders.external_id = inbox.order_external_id
                        -- What had no effect named no order, and does not when that order has come since.
                        AND answered IN ('applied', 'waiting')
        """,
        {
            "merchant_ids": [key[0] for key in keys],
            "source_ids": [key[1] for key in keys],
            "delivery_ids": [key[2] for key in keys],
            "hashes": [key[3] for key in keys],
        },
    )
    return {
        (row.merchant_id, row.source_id, row.delivery_id, bytes(row.body_hash)): Recorded(
            row.id,
            InboxState(row.answered),
            WAITING_REASON if row.answered == InboxState.WAITING else row.reason_code,
            row.detail,
            row.understood,
            repeated=True,
            order_id=row.order_id,
        )
        for row in rows
    }


def _is_bonus(told: Sequence[Told]) -> bool:
    """Whether there is nothing that a dated input could bear on; whoever adjusts an order adjusts one that is here."""
    return all(each.fact.key.startswith(ADJUSTS) for each in told)


def _note_first_orders(session: Session, merchant_ids: set[UUID]) -> None:
    """From the first order on, no dated input may reach back.

    Whoever adds one holds this row: they see our order, or we wait and then see what they added.
    """
    execute(
        session,
        """
        UPDATE merchant SET first_order_at = :now
        WHERE id = ANY(CAST(:ids AS uuid[])) AND first_order_at IS NULL
        """,
        {"now": utc_now(), "ids": sorted(merchant_ids)},
    )


def _lock_orders(
    session: Session, told: Mapping[tuple[UUID, OrderName], Sequence[Told]], when: Mapping[UUID, MerchantTime]
) -> dict[tuple[UUID, OrderName], OrderUpdate]:
    names = sorted(told)
    # Also a refund without an order makes the row: the row is the lock, and its counter numbers what follows.
    rows = fetch(
        session,
        """
        INSERT INTO orders AS known (merchant_id, source_id, external_id, id, seen, created_at)
        SELECT merchant_id, source_id, external_id, id, 1, created_at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:names AS text[]),
                    CAST(:ids AS uuid[]), CAST(:created AS timestamptz[]))
             AS named (merchant_id, source_id, external_id, id, created_at)
        ON CONFLICT (merchant_id, source_id, external_id) DO UPDATE SET seen = known.seen + 1
        RETURNING merchant_id, source_id, external_id, id, seen
        """,
        {
            "merchant_ids": [merchant_id for merchant_id, _ in names],
            "source_ids": [source_id for _, (source_id, _) in names],
            "names": [external_id for _, (_, external_id) in names],
            "ids": [new_id() for _ in names],
            "created": [when[merchant_id].now for merchant_id, _ in names],
        },
    )
    return {
        (row.merchant_id, (row.source_id, row.external_id)): OrderUpdate(
            row.merchant_id, row.id, row.seen, told[row.merchant_id, (row.source_id, row.external_id)]
        )
        for row in rows
    }


def _sort_out_waiting(
    session: Session,
    updates: Mapping[tuple[UUID, OrderName], OrderUpdate],
    tellers: Mapping[tuple[UUID, OrderName], Sequence[UUID]],
    known: Mapping[OrderKey, OrderFacts],
) -> set[UUID]:
    """Mark deliveries whose order has not come as waiting, and those whose order came now as applied."""
    waiting: list[tuple[UUID, UUID]] = []
    arrived: list[tuple[UUID, OrderName]] = []
    for name, update in updates.items():
        facts = known[update.key]
        if facts.stands_alone:
            continue
        if facts.snapshot is None:
            waiting += [(update.merchant_id, inbox_id) for inbox_id in tellers[name]]
        elif update.seen > 1 and any(each.fact.kind is FactKind.ORDER for each in update.told):
            arrived.append(name)
    if waiting:
        execute(
            session,
            """
            UPDATE inbox SET state = 'waiting', answered = 'waiting', reason_code = :reason
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS told (merchant_id, id)
            WHERE inbox.merchant_id = told.merchant_id AND inbox.id = told.id
            """,
            {
                "reason": WAITING_REASON,
                "merchant_ids": [each for each, _ in waiting],
                "ids": [each for _, each in waiting],
            },
        )
    if arrived:
        execute(
            session,
            """
            UPDATE inbox SET state = 'applied', reason_code = NULL
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:names AS text[]))
                 AS came (merchant_id, source_id, external_id)
            WHERE inbox.merchant_id = came.merchant_id AND inbox.order_source_id = came.source_id
              AND inbox.order_external_id = came.external_id AND inbox.state = 'waiting'
            """,
            {
                "merchant_ids": [merchant_id for merchant_id, _ in arrived],
                "source_ids": [source_id for _, (source_id, _) in arrived],
                "names": [external_id for _, (_, external_id) in arrived],
            },
        )
    return {inbox_id for _, inbox_id in waiting}
