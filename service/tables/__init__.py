"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import (
    answers,
    audit,
    bindings,
    books,
    claims,
    money,
    orders,
    parties,
    payouts,
    programs,
    reconciliations,
    scopes,
    simulations,
    webhooks,
)

__all__ = [
    "answers",
    "audit",
    "bindings",
    "books",
    "claims",
    "money",
    "orders",
    "parties",
    "payouts",
    "programs",
    "reconciliations",
    "scopes",
    "simulations",
    "webhooks",
]
