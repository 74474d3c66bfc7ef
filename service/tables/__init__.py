"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import answers, money, orders, parties, payouts, programs, webhooks

__all__ = ["answers", "money", "orders", "parties", "payouts", "programs", "webhooks"]
