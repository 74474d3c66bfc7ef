"""What came in and what follows from it: inbox, orders, facts, assessments."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.order import FactKind
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    blob_key,
    count,
    document,
    key,
    listing,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)
from service.tables.parties import Platform


class InboxState(StrEnum):
    APPLIED = "applied"
    """Understood, and its facts count."""
    WAITING = "waiting"
    """Understood; its order is not here yet."""
    PARKED = "parked"
    """Signed, but not understood; replay after a fix."""
    IGNORED = "ignored"
    """Understood, and rightly without effect: a test order, a topic we do not need."""


class InboxRow(SQLModel, table=True):
    """One delivery, byte for byte. Nothing acknowledged is lost."""

    __tablename__ = "inbox"
    __table_args__ = (
        ForeignKeyConstraint(["source_id"], ["source.id"]),
        UniqueConstraint("merchant_id", "id"),
        Index("inbox_open_ix", "merchant_id", "id", postgresql_where=text("state IN ('waiting', 'parked')")),
        Index("inbox_order_ix", "merchant_id", "order_source_id", "order_external_id"),
        one_of("state", InboxState),
        one_of("grammar", Platform),
    )

    merchant_id: UUID = key()
    source_id: UUID = key()
    delivery_id: str = words(primary_key=True)
    body_hash: bytes = blob_key()
    id: UUID = ref()
    topic: str = words()
    """The shop's name for the event, from a header; empty where the body says it."""
    received_at: datetime = moment()
    """On the merchant's clock."""
    body: bytes = blob()
    state: str = words()
    answered: str = words()
    """The state its sender was told."""
    reason_code: str | None = words_or_none()
    detail: str = words()
    order_source_id: UUID | None = ref(nullable=True)
    """Where the order it speaks of comes from: its own source, or for the desk that of the order decided on."""
    order_external_id: str | None = words_or_none()
    understood: Json = document()
    """What the sender was told we read in it, told again to a repeated delivery."""
    grammar: str | None = words_or_none()
    """Whose language the body is in, where it is not its source's own: an import's rows are written in ours."""
    settings_version: int = Field(
        default=0, sa_type=BigInteger, nullable=False, sa_column_kwargs={"server_default": text("0")}
    )
    """The version of the source's settings it was read by; 0 where it had none, and where the release before wrote it."""
    shop_domain: str | None = words_or_none()
    """The shop that a header named as the sender; empty if none did, null where the release before wrote it."""


class OrderRow(SQLModel, table=True):
    """The one lock of an order; made by its first fact, be that a refund."""

    __tablename__ = "orders"
    __table_args__ = (
        ForeignKeyConstraint(["source_id"], ["source.id"]),
        UniqueConstraint("merchant_id", "source_id", "external_id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    source_id: UUID = ref()
    external_id: str = words()
    seen: int = count()
    """One more with each unit of work that touches the order; numbers its assessments."""
    created_at: datetime = moment()


class FactRow(SQLModel, table=True):
    """The version of a fact that counts."""

    __tablename__ = "fact"
    __table_args__ = (belongs_to("orders", "order_id"), one_of("kind", FactKind))

    merchant_id: UUID = key()
    order_id: UUID = key()
    kind: str = words(primary_key=True)
    key: str = words(primary_key=True)
    version_at: datetime = moment()
    """The source's time of this version."""
    version_amount: int = count()
    """Second part of a version: a refund's minor units; 1 for a closed dispute or released hold."""
    body_hash: bytes = blob()
    conflicting: bool = Field(nullable=False)
    provisional: bool = Field(
        default=False, sa_type=Boolean, nullable=False, sa_column_kwargs={"server_default": text("false")}
    )
    """A refund's total told without its lines; a version that has them counts instead, whichever is newer."""
    payload: Json = document()
    inbox_id: UUID = ref()


class AssessmentRow(SQLModel, table=True):
    """The newest answer for an order: who brought it, and why it moves or does not."""

    __tablename__ = "assessment"
    __table_args__ = (
        belongs_to("orders", "order_id"),
        Index("assessment_placed_ix", "merchant_id", "placed_at", "order_id"),
        Index("assessment_affiliate_ix", "merchant_id", "affiliate_id", "placed_at"),
        Index(
            "assessment_customer_ix",
            "merchant_id",
            "customer",
            "order_id",
            postgresql_where=text("customer IS NOT NULL"),
        ),
        # Of a claim the number is all that is known of its order.
        Index("assessment_number_ix", "merchant_id", "number", postgresql_where=text("number <> ''")),
    )

    merchant_id: UUID = key()
    order_id: UUID = key()
    seq: int = count()
    """The order's `seen` when it was computed."""
    placed_at: datetime | None = moment_or_none()
    currency: str | None = words_or_none()
    number: str = words()
    goods_minor: int | None = minor_or_none()
    net_minor: int | None = minor_or_none()
    """Goods after refunds."""
    cancelled: bool = Field(default=False, nullable=False)
    affiliate_id: UUID | None = ref(nullable=True)
    program_id: UUID | None = ref(nullable=True)
    attribution_reason: str = words()
    touch: str | None = words_or_none()
    """By what kind of touch it was won."""
    customer: str | None = words_or_none()
    """Who placed it, as domain.customer.customer_key names a customer; null where it does not say."""
    candidates: list[Json] = listing()
    """Every touch and how it fared."""
    identities: Json = document()
    """Identity matches, computed once and never again."""
    frozen_reason: str | None = words_or_none()
    assessed_at: datetime = moment()
