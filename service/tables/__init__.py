"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import answers, audit, claims, money, orders, parties, payouts, programs, webhooks

__all__ = ["answers", "audit", "claims", "money", "orders", "parties", "payouts", "programs", "webhooks"]
