"""SQLModel rows: columns, keys, constraints. No queries, no behaviour, no relationships."""

from service.tables import audit, money, orders, parties, payouts, programs

__all__ = ["audit", "money", "orders", "parties", "payouts", "programs"]
