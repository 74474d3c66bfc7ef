"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import (
    answers,
    audit,
    bindings,
    claims,
    control,
    money,
    orders,
    parties,
    payouts,
    programs,
    scopes,
    simulations,
    taxes,
    webhooks,
)

__all__ = [
    "answers",
    "audit",
    "bindings",
    "claims",
    "control",
    "money",
    "orders",
    "parties",
    "payouts",
    "programs",
    "scopes",
    "simulations",
    "taxes",
    "webhooks",
]
