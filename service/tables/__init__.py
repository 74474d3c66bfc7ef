"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import answers, audit, money, orders, parties, payouts, programs, scopes, webhooks

__all__ = ["answers", "audit", "money", "orders", "parties", "payouts", "programs", "scopes", "webhooks"]
