"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import (
    answers,
    audit,
    bindings,
    books,
    claims,
    control,
    money,
    orders,
    parties,
    payouts,
    programs,
    reconciliations,
    scopes,
    simulations,
    taxes,
    webhooks,
)

__all__ = [
    "answers",
    "audit",
    "bindings",
    "books",
    "claims",
    "control",
    "money",
    "orders",
    "parties",
    "payouts",
    "programs",
    "reconciliations",
    "scopes",
    "simulations",
    "taxes",
    "webhooks",
]
