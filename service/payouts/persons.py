"""Who is the same person: a key and the keys that took its place, one after the other."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlmodel import Session

from service.infra.db import fetch


def heirs_of(session: Session, merchant_id: UUID, key_ids: Collection[UUID]) -> Mapping[UUID, Sequence[UUID]]:
    """Each key's followers by rotation, the nearest first, with the key itself before them."""
    rows = fetch(
        session,
        """
        WITH RECURSIVE heir AS (
            SELECT each.id AS first_id, each.id, 0 AS step FROM unnest(CAST(:key_ids AS uuid[])) AS each (id)
            UNION ALL
            SELECT heir.first_id, api_key.replaced_by, heir.step + 1
            FROM heir JOIN api_key ON api_key.id = heir.id
            WHERE api_key.merchant_id = :merchant_id AND api_key.replaced_by IS NOT NULL
        )
        SELECT first_id, id FROM heir ORDER BY first_id, step
        """,
        {"merchant_id": merchant_id, "key_ids": sorted(set(key_ids))},
    )
    heirs: dict[UUID, list[UUID]] = defaultdict(list)
    for row in rows:
        heirs[row.first_id].append(row.id)
    return heirs


def is_same_person(session: Session, merchant_id: UUID, one: UUID, other: UUID) -> bool:
    """Whether two keys are one, or one took the other's place."""
    heirs = heirs_of(session, merchant_id, [one, other])
    return other in heirs[one] or one in heirs[other]
