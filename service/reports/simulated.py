"""What a simulation came to: totals, and whom or what it costs more or less for."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.domain.simulation import Dimension
from service.infra.db import fetch


class Ranking(StrEnum):
    """In what order results come; currencies one after the other."""

    WINNERS = "winners"
    """What would cost more, the biggest difference first."""
    LOSERS = "losers"
    """What would cost less, the biggest difference first."""
    KEY = "key"
    """All, by name of a category, by day, by affiliate's id."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One key's cost in one currency, in minor units, and of how many orders something is earned.

    key: an affiliate's id, a category, a day; empty for the total. name, kind: of the affiliate.
    """

    key: str
    currency: str
    now_minor: int
    then_minor: int
    now_orders: int
    then_orders: int
    name: str | None = None
    kind: str | None = None

    @property
    def difference_minor(self) -> int:
        return self.then_minor - self.now_minor


def totals(session: Session, merchant_id: UUID, simulation_ids: Sequence[UUID]) -> dict[UUID, list[Outcome]]:
    """Maps simulation to its totals, one for each currency."""
    found: dict[UUID, list[Outcome]] = {simulation_id: [] for simulation_id in simulation_ids}
    for row in fetch(
        session,
        """
        SELECT simulation_id, key, currency, now_minor, then_minor, now_orders, then_orders, NULL AS name, NULL AS kind
        FROM simulation_sum
        WHERE merchant_id = :merchant_id AND simulation_id = ANY(CAST(:ids AS uuid[])) AND dimension = :dimension
        ORDER BY simulation_id, currency
        """,
        {"merchant_id": merchant_id, "ids": list(simulation_ids), "dimension": Dimension.TOTAL},
    ):
        found[row.simulation_id].append(_outcome(row))
    return found


_NARROWED = {
    Ranking.WINNERS: ("AND then_minor > now_minor", 'currency, then_minor - now_minor DESC, key COLLATE "C"'),
    Ranking.LOSERS: ("AND then_minor < now_minor", 'currency, now_minor - then_minor DESC, key COLLATE "C"'),
    Ranking.KEY: ("", 'currency, key COLLATE "C"'),
}


def ranked(
    session: Session,
    merchant_id: UUID,
    simulation_id: UUID,
    *,
    dimension: Dimension,
    ranking: Ranking,
    currency: str | None,
    skip: int,
    limit: int,
) -> list[Outcome]:
    """Results of one dimension from the one after `skip` on. What has ended changes no more, so places stay."""
    condition, order = _NARROWED[ranking]
    rows = fetch(
        session,
        f"""
        SELECT found.*, affiliate.name, affiliate.kind
        FROM (
            SELECT merchant_id, key, currency, now_minor, then_minor, now_orders, then_orders,
                   row_number() OVER (ORDER BY {order}) AS place
            FROM simulation_sum
            WHERE merchant_id = :merchant_id AND simulation_id = :id AND dimension = :dimension
              AND (CAST(:currency AS text) IS NULL OR currency = :currency) {condition}
            ORDER BY {order} OFFSET :skip LIMIT :limit
        ) AS found
        LEFT JOIN affiliate ON affiliate.merchant_id = found.merchant_id AND affiliate.id =
            CASE WHEN :dimension = 'affiliate' THEN CAST(found.key AS uuid) END
        ORDER BY place
        """,  # noqa: S608 - put together from our own constants
        {
            "merchant_id": merchant_id,
            "id": simulation_id,
            "dimension": dimension.value,
            "currency": currency,
            "skip": skip,
            "limit": limit,
        },
    )
    return [_outcome(row) for row in rows]


def _outcome(row: Any) -> Outcome:
    return Outcome(
        row.key,
        row.currency,
        row.now_minor,
        row.then_minor,
        row.now_orders,
        row.then_orders,
        row.name,
        row.kind,
    )
