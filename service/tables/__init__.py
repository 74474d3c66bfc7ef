"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import (
    answers,
    audit,
    bindings,
    claims,
    money,
    orders,
    parties,
    payout_files,
    payouts,
    programs,
    scopes,
    simulations,
    webhooks,
)

__all__ = [
    "answers",
    "audit",
    "bindings",
    "claims",
    "money",
    "orders",
    "parties",
    "payout_files",
    "payouts",
    "programs",
    "scopes",
    "simulations",
    "webhooks",
]
