"""Closed books, and how accounting calls our accounts."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint
from sqlmodel import SQLModel

from service.tables.columns import Json, day, document, key, listing, moment, ref, words


class BookCloseRow(SQLModel, table=True):
    """Booking days that were sealed together, and what every account came to; never updated or deleted."""

    __tablename__ = "book_close"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "begins_on"),
        UniqueConstraint("merchant_id", "until"),
        CheckConstraint("until >= begins_on", name="days"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    begins_on: date = day()
    """The day after the close before."""
    until: date = day()
    """The last day, included."""
    totals: list[Json] = listing()
    """As domain.closing.TrialLine, one for each account and currency."""
    previous_digest: str = words()
    """Of the close before; empty before the first."""
    digest: str = words()
    """As domain.closing.close_digest."""
    closed_by: UUID = ref()
    """The key that asked."""
    closed_at: datetime = moment()
    """By the merchant's clock."""


class AccountingChartRow(SQLModel, table=True):
    """What accounting calls our accounts, as far as the merchant has said so."""

    __tablename__ = "accounting_chart"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),)

    merchant_id: UUID = key()
    accounts: Json = document()
    """Kind of account → {code, name}."""
    updated_at: datetime = moment()
