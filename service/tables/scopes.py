"""What rules look at beyond one order: an affiliate's periods, a customer's orders, and what has to be assessed again."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Date, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.tables.columns import Json, belongs_to, count, day, key, listing, minor, moment, ref, words


class RulePeriodRow(SQLModel, table=True):
    """One affiliate's period of one rule: its sums, and the lock of the commission that follows from them.

    That commission has the same id.
    """

    __tablename__ = "rule_period"
    __table_args__ = (
        belongs_to("affiliate", "payee_id"),
        belongs_to("program", "program_id"),
        UniqueConstraint("merchant_id", "payee_id", "program_id", "rule", "begins_on", "currency"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    payee_id: UUID = ref()
    program_id: UUID = ref()
    rule: str = words()
    """The rule's key in the terms."""
    begins_on: date = day()
    ends_on: date | None = Field(default=None, sa_type=Date, nullable=True)
    currency: str = words()
    version: int = count()
    """One more with each unit of work that moves its sums."""
    rules: list[Json] = listing()
    """The rules it goes by, as terms write them: fixed when it begins."""
    pending_commission_minor: int = minor()
    pending_sales_minor: int = minor()
    pending_orders: int = count()
    held_commission_minor: int = minor()
    held_sales_minor: int = minor()
    held_orders: int = count()
    settled_commission_minor: int = minor()
    settled_sales_minor: int = minor()
    settled_orders: int = count()
    created_at: datetime = moment()
    updated_at: datetime = moment()


class CustomerScopeRow(SQLModel, table=True):
    """The one lock of a customer's orders, for merchants whose terms look at other orders of a customer."""

    __tablename__ = "customer_scope"
    __table_args__ = (ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),)

    merchant_id: UUID = key()
    customer: str = words(primary_key=True)
    """A keyed hash with its kind, as domain.customer.customer_key makes it."""
    version: int = count()


class ReassessRow(SQLModel, table=True):
    """An order whose answer may have changed though nothing new was told of it; gone once it was assessed again."""

    __tablename__ = "reassess"
    __table_args__ = (
        belongs_to("orders", "order_id"),
        Index("reassess_created_ix", "merchant_id", "created_at", "order_id"),
    )

    merchant_id: UUID = key()
    order_id: UUID = key()
    created_at: datetime = moment()
