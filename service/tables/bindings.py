"""Customers and products bound to an affiliate, and lists of customers; all append-only and never back-dated.

Customers are known by keyed hashes, as orders carry them. What they were made of is kept nowhere.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import Field, SQLModel

from service.tables.columns import belongs_to, key, moment, moment_or_none, ref, words


def _paid_by_a_program() -> CheckConstraint:
    """Whoever is bound to an affiliate is bound in a programme, which says what that earns."""
    return CheckConstraint("affiliate_id IS NULL OR program_id IS NOT NULL", name="program")


class CustomerBindingRow(SQLModel, table=True):
    """To whom a customer's orders belong from when on."""

    __tablename__ = "customer_binding"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("program", "program_id"),
        _paid_by_a_program(),
        Index("customer_binding_affiliate_ix", "merchant_id", "affiliate_id"),
    )

    merchant_id: UUID = key()
    kind: str = words(primary_key=True)
    """email, phone or id."""
    hash: str = words(primary_key=True)
    """Keyed, as in an order's snapshot."""
    valid_from: datetime = moment(primary_key=True)
    affiliate_id: UUID | None = ref(nullable=True)
    """None: to nobody."""
    program_id: UUID | None = ref(nullable=True)
    until: datetime | None = moment_or_none()
    """From when it no longer holds; None: for as long as nothing follows it."""
    recorded_at: datetime = moment()


class ProductBindingRow(SQLModel, table=True):
    """To whom the sales of a product belong from when on."""

    __tablename__ = "product_binding"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("program", "program_id"),
        _paid_by_a_program(),
        Index("product_binding_affiliate_ix", "merchant_id", "affiliate_id"),
    )

    merchant_id: UUID = key()
    sku: str = words(primary_key=True)
    valid_from: datetime = moment(primary_key=True)
    affiliate_id: UUID | None = ref(nullable=True)
    """None: to nobody."""
    program_id: UUID | None = ref(nullable=True)
    until: datetime | None = moment_or_none()
    """As with a customer."""
    recorded_at: datetime = moment()


class CustomerListingRow(SQLModel, table=True):
    """Whether a customer is on one of the merchant's lists, such as "staff", from when on."""

    __tablename__ = "customer_listing"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),)

    # The key is in the order in which orders ask: by customer.
    merchant_id: UUID = key()
    kind: str = words(primary_key=True)
    hash: str = words(primary_key=True)
    name: str = words(primary_key=True)
    valid_from: datetime = moment(primary_key=True)
    listed: bool = Field(nullable=False)
    recorded_at: datetime = moment()
