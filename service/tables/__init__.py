"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import money, orders, parties, payouts, programs, webhooks

__all__ = ["money", "orders", "parties", "payouts", "programs", "webhooks"]
