"""Draft terms tried on orders: what was asked for, how far it is, what it came to. No money hangs on any of it."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, text
from sqlmodel import SQLModel

from service.domain.simulation import Dimension
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    count,
    count_or_none,
    day,
    document,
    document_or_none,
    key,
    listing,
    minor,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class SimulationState(StrEnum):
    AWAITING_FILE = "awaiting_file"
    """Its file of orders has not been sent to its end yet."""
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Stage(StrEnum):
    """What a simulation does next."""

    FILE = "file"
    """Read orders from its file."""
    ORDERS = "orders"
    """Assess orders under both terms."""
    PERIODS = "periods"
    """Add what ladders, marks and caps give for whole periods."""


class SimulationRow(SQLModel, table=True):
    """One draft tried on the orders of some time, or on those of a file."""

    __tablename__ = "simulation"
    __table_args__ = (belongs_to("program", "program_id"), one_of("state", SimulationState), one_of("stage", Stage))

    merchant_id: UUID = key()
    id: UUID = key()
    program_id: UUID = ref()
    state: str = words()
    stage: str = words()
    terms: Json = document()
    """The draft, as a version's terms are written."""
    placed_from: datetime | None = moment_or_none()
    placed_before: datetime | None = moment_or_none()
    """Both null where the orders come from a file."""
    currency: str | None = words_or_none()
    """Only orders in this one."""
    mapping: Json | None = document_or_none()
    """How its file is read; null where the orders are those that are stored."""
    page: int = count()
    """One more with each unit of work that added something, so that none is added twice."""
    cursor: Json = document()
    """Where the next page of its stage begins."""
    orders_total: int | None = count_or_none()
    """Null until they are counted."""
    orders_done: int = count()
    rows_refused: int = count()
    """Rows of the file of which no order could be made."""
    refusals: list[Json] = listing()
    """The first of them, with why."""
    error_code: str | None = words_or_none()
    error_detail: str = words()
    created_at: datetime = moment()
    started_at: datetime | None = moment_or_none()
    finished_at: datetime | None = moment_or_none()


class SimulationSumRow(SQLModel, table=True):
    """What orders cost now and would then, by one dimension's key and currency."""

    __tablename__ = "simulation_sum"
    __table_args__ = (belongs_to("simulation", "simulation_id"), one_of("dimension", Dimension))

    merchant_id: UUID = key()
    simulation_id: UUID = key()
    dimension: str = words(primary_key=True)
    key: str = words(primary_key=True)
    """An affiliate's id, a category, a day; empty for the total."""
    currency: str = words(primary_key=True)
    now_minor: int = minor()
    then_minor: int = minor()
    now_orders: int = count()
    """Of how many orders something is earned."""
    then_orders: int = count()


class SimulationPeriodRow(SQLModel, table=True):
    """The sums of one payee's period, until what its rules give for them is added; then it is gone."""

    __tablename__ = "simulation_period"
    __table_args__ = (belongs_to("simulation", "simulation_id"),)

    merchant_id: UUID = key()
    simulation_id: UUID = key()
    payee_id: UUID = key()
    program_id: UUID = key()
    rule: str = words(primary_key=True)
    begins_on: date = day(primary_key=True)
    currency: str = words(primary_key=True)
    now_rules: list[Json] = listing()
    """As terms write them; none where this side has no such rule."""
    now_commission_minor: int = minor()
    now_sales_minor: int = minor()
    now_orders: int = count()
    then_rules: list[Json] = listing()
    then_commission_minor: int = minor()
    then_sales_minor: int = minor()
    then_orders: int = count()


class SimulationPartRow(SQLModel, table=True):
    """A part of the file of orders, compressed; gone when the simulation ends."""

    __tablename__ = "simulation_part"
    __table_args__ = (belongs_to("simulation", "simulation_id"),)

    merchant_id: UUID = key()
    simulation_id: UUID = key()
    number: int = count(primary_key=True)
    """From 1; the file is its parts one behind the other."""
    size_bytes: int = count()
    """Before compression."""
    body: bytes = blob()


class SimulationOrderRow(SQLModel, table=True):
    """An order of the file with all that the file tells of it; gone when the simulation ends."""

    __tablename__ = "simulation_order"
    __table_args__ = (
        belongs_to("simulation", "simulation_id"),
        Index(
            "simulation_order_customer_ix",
            "merchant_id",
            "simulation_id",
            "customer",
            postgresql_where=text("customer IS NOT NULL"),
        ),
    )

    merchant_id: UUID = key()
    simulation_id: UUID = key()
    name: str = words(primary_key=True)
    """The shop's id of the order."""
    order_id: UUID = ref()
    """Stands for it here; no order of the books has it."""
    placed_at: datetime | None = moment_or_none()
    """Null while only refunds or milestones of it have been read."""
    customer: str | None = words_or_none()
    """Who placed it, as domain.customer.customer_key names a customer."""
    facts: bytes = blob()
    """JSON, compressed."""
