"""Facts of orders in the database: merged as `domain.order.merge` does, and read back."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session

from service.domain.order import Fact, FactKind, OrderFacts, merge
from service.infra.db import execute, fetch

OrderKey = tuple[UUID, UUID]
"""(merchant id, order id)."""


@dataclass(frozen=True, slots=True)
class Told:
    """A fact and the inbox row that told it."""

    fact: Fact
    inbox_id: UUID


def merged(told: Iterable[Told]) -> dict[tuple[FactKind, str], Told]:
    """The facts of one order by kind and key, each the version that counts.

    A statement may not touch a row twice, so a batch is merged in memory before it is stored.
    """
    kept: dict[tuple[FactKind, str], Told] = {}
    for each in told:
        key = (each.fact.kind, each.fact.key)
        known = kept.get(key)
        if known is None:
            kept[key] = each
            continue
        winner = merge(known.fact, each.fact)
        teller = each if winner.body_hash == each.fact.body_hash and winner.version == each.fact.version else known
        kept[key] = Told(winner, teller.inbox_id)
    return kept


def store(session: Session, told: Mapping[OrderKey, Sequence[Told]]) -> None:
    """Merge facts into what is stored; at most one per order, kind and key. The orders are locked by the caller."""
    rows = [(order, each) for order in sorted(told) for each in told[order]]
    if not rows:
        return
    # The rule of domain.order.merge in SQL: milestones earliest; else what is not provisional before what is, then the
    # newest version, under one version the larger hash, which marks an order snapshot as conflicting.
    execute(
        session,
        """
        INSERT INTO fact AS known (merchant_id, order_id, kind, key, version_at, version_amount, body_hash,
                                   conflicting, provisional, payload, inbox_id)
        SELECT merchant_id, order_id, kind, key, version_at, version_amount, body_hash, conflicting, provisional,
               CAST(payload AS jsonb), inbox_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[]), CAST(:kinds AS text[]),
                    CAST(:keys AS text[]), CAST(:versions AS timestamptz[]), CAST(:amounts AS bigint[]),
                    CAST(:hashes AS bytea[]), CAST(:conflicts AS boolean[]), CAST(:provisionals AS boolean[]),
                    CAST(:payloads AS text[]), CAST(:inbox_ids AS uuid[]))
             AS told (merchant_id, order_id, kind, key, version_at, version_amount, body_hash, conflicting, provisional,
                      payload, inbox_id)
        ON CONFLICT (merchant_id, order_id, kind, key) DO UPDATE
        SET version_at = excluded.version_at, version_amount = excluded.version_amount,
            provisional = excluded.provisional,
            conflicting = excluded.conflicting
                OR (known.kind = 'order' AND known.version_at = excluded.version_at
                    AND (known.conflicting OR known.body_hash <> excluded.body_hash)),
            body_hash = CASE WHEN known.version_at = excluded.version_at
                                  AND known.version_amount = excluded.version_amount
                                  AND known.provisional = excluded.provisional
                             THEN greatest(known.body_hash, excluded.body_hash) ELSE excluded.body_hash END,
            payload = CASE WHEN known.version_at = excluded.version_at
                                AND known.version_amount = excluded.version_amount
                                AND known.provisional = excluded.provisional
                                AND known.body_hash > excluded.body_hash
                           THEN known.payload ELSE excluded.payload END,
            inbox_id = CASE WHEN known.version_at = excluded.version_at
                                 AND known.version_amount = excluded.version_amount
                                 AND known.provisional = excluded.provisional
                                 AND known.body_hash > excluded.body_hash
                            THEN known.inbox_id ELSE excluded.inbox_id END
        WHERE CASE WHEN known.kind = 'milestone'
                   THEN (excluded.version_at, excluded.body_hash) < (known.version_at, known.body_hash)
                   ELSE (NOT excluded.provisional, excluded.version_at, excluded.version_amount)
                            > (NOT known.provisional, known.version_at, known.version_amount)
                        OR ((excluded.provisional, excluded.version_at, excluded.version_amount)
                                = (known.provisional, known.version_at, known.version_amount)
                            AND (excluded.body_hash <> known.body_hash
                                 OR (excluded.conflicting AND NOT known.conflicting)))
              END
        """,
        {
            "merchant_ids": [merchant_id for (merchant_id, _), _ in rows],
            "order_ids": [order_id for (_, order_id), _ in rows],
            "kinds": [each.fact.kind.value for _, each in rows],
            "keys": [each.fact.key for _, each in rows],
            "versions": [each.fact.version_at for _, each in rows],
            "amounts": [each.fact.version_amount for _, each in rows],
            "hashes": [each.fact.body_hash for _, each in rows],
            "conflicts": [each.fact.conflicting for _, each in rows],
            "provisionals": [each.fact.provisional for _, each in rows],
            "payloads": [each.fact.text for _, each in rows],
            "inbox_ids": [each.inbox_id for _, each in rows],
        },
    )


def load(session: Session, orders: Sequence[OrderKey]) -> dict[OrderKey, OrderFacts]:
    """Everything known about orders; an order without facts is absent."""
    if not orders:
        return {}
    rows = fetch(
        session,
        """
        SELECT fact.merchant_id, fact.order_id, kind, key, version_at, version_amount, payload, body_hash, conflicting,
               provisional
        FROM fact
        JOIN unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[])) AS asked (merchant_id, order_id)
          ON fact.merchant_id = asked.merchant_id AND fact.order_id = asked.order_id
        """,
        {"merchant_ids": [each for each, _ in orders], "order_ids": [each for _, each in orders]},
    )
    facts: dict[OrderKey, list[Fact]] = defaultdict(list)
    for row in rows:
        facts[row.merchant_id, row.order_id].append(
            Fact.stored(
                kind=row.kind,
                key=row.key,
                version_at=row.version_at,
                version_amount=row.version_amount,
                payload=row.payload,
                body_hash=row.body_hash,
                conflicting=row.conflicting,
                provisional=row.provisional,
            )
        )
    return {order: OrderFacts.of(each) for order, each in facts.items()}
