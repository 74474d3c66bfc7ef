"""What earlier orders of one customer say about an order: is it the first, when was the first, is it one re-placed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

JsonObject = dict[str, Any]

REORDERED_WITHIN = timedelta(days=90)
"""The longest that terms may still see an order as one placed again."""

_IDENTIFYING = ("email", "phone", "id")
"""Which kind of keyed hash names a customer, the first that an order has. Guests have no id, so it comes last."""


def customer_key(customer: Iterable[tuple[str, str]]) -> str | None:
    """The one name of an order's customer, from its keyed hashes; None where none of them identifies a person."""
    known = dict(sorted(customer, reverse=True))
    return next((f"{kind}={known[kind]}" for kind in _IDENTIFYING if kind in known), None)


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """One order of a customer. name: (source, the shop's id), which tells orders placed at one moment apart.

    skus, affiliate_id, program_id: of a cancelled one only: what it held, and whom its own touches or a person credited.
    """

    order_id: UUID
    name: tuple[str, str]
    placed_at: datetime
    cancelled: bool
    skus: frozenset[str] = frozenset()
    affiliate_id: UUID | None = None
    program_id: UUID | None = None

    @property
    def place(self) -> tuple[datetime, tuple[str, str]]:
        return (self.placed_at, self.name)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A cancelled order of the same customer that somebody had brought. number: the shop's id of it."""

    number: str
    placed_at: datetime
    skus: frozenset[str]
    affiliate_id: UUID
    program_id: UUID | None


@dataclass(frozen=True, slots=True)
class History:
    """What an order's rules may know of its customer's other orders.

    first_at: when the first of the customer's orders that was not cancelled was placed, where that is before this order;
    None: this order is the first. abandoned: cancelled ones placed before it, the newest first.
    """

    first_at: datetime | None = None
    abandoned: tuple[Abandoned, ...] = ()


NO_HISTORY = History()


def histories(orders: Sequence[PlacedOrder]) -> dict[UUID, History]:
    """The history of each order of one customer, by order. What order they are given in is nothing."""
    found: dict[UUID, History] = {}
    first: datetime | None = None
    abandoned: tuple[Abandoned, ...] = ()
    for order in sorted(orders, key=lambda each: each.place):
        found[order.order_id] = History(first, abandoned)
        if order.cancelled:
            if order.affiliate_id is not None:
                gone = Abandoned(order.name[1], order.placed_at, order.skus, order.affiliate_id, order.program_id)
                abandoned = (gone, *abandoned)
        elif first is None:
            first = order.placed_at
    return found
