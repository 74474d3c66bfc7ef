"""Webhooks out: who wants to be told, what waits to be told to whom, and what came of each try."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.delivery import DeliveryState, DisabledReason, Result
from service.tables.columns import (
    belongs_to,
    blob,
    blob_or_none,
    count,
    key,
    listing,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class WebhookEndpointRow(SQLModel, table=True):
    """An address that is told what happens. Times by our clock: a test merchant's own does not move the internet's."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        one_of("disabled_reason", DisabledReason),
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled"),
        CheckConstraint("deleted_at IS NULL OR disabled_at IS NOT NULL", name="deleted"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    url: str = words()
    description: str = words()
    events: list[str] = listing()
    """Patterns: `*`, `payout.*`, `commission.accrued`."""
    secret: bytes = blob()
    """Encrypted."""
    previous_secret: bytes | None = blob_or_none()
    """Encrypted; what is sent is signed with it too until its time is over."""
    previous_secret_until: datetime | None = moment_or_none()
    failures: int = count()
    """Tries that failed since the last success."""
    failing_since: datetime | None = moment_or_none()
    rests_until: datetime | None = moment_or_none()
    """Nothing is sent to it before: it could not be reached, or asked for a pause."""
    disabled_at: datetime | None = moment_or_none()
    disabled_reason: str | None = words_or_none()
    deleted_at: datetime | None = moment_or_none()
    """Deleted ones stay, disabled and unlisted, since their deliveries name them."""
    created_at: datetime = moment()
    updated_at: datetime = moment()


class WebhookQueueRow(SQLModel, table=True):
    """An event that was told and waits to be handed to its merchant's endpoints. Gone once deliveries are made of it."""

    __tablename__ = "webhook_queue"

    merchant_id: UUID = key()
    event_id: UUID = key()


class WebhookDeliveryRow(SQLModel, table=True):
    """One event for one endpoint, with its tries."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        belongs_to("webhook_endpoint", "endpoint_id"),
        belongs_to("outbox", "event_id"),
        # An event is handed to an endpoint once, whoever does it, however often. Replays use the same row.
        UniqueConstraint("merchant_id", "endpoint_id", "event_id"),
        one_of("state", DeliveryState),
        one_of("last_result", Result),
        CheckConstraint("(next_at IS NULL) = (state IN ('delivered', 'failed'))", name="next"),
        Index(
            "webhook_delivery_due_ix",
            "merchant_id",
            "endpoint_id",
            "next_at",
            postgresql_where=text("next_at IS NOT NULL"),
        ),
        Index("webhook_delivery_endpoint_ix", "merchant_id", "endpoint_id", "id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    endpoint_id: UUID = ref()
    event_id: UUID = ref()
    event_type: str = words()
    state: str = words()
    tries: int = Field(default=0, sa_type=Integer, nullable=False)
    """Recorded tries since it was made or replayed."""
    fence: int = Field(default=0, sa_type=Integer, nullable=False)
    """One more with each claim and each replay; an answer under an old fence is not recorded. Numbers the attempts."""
    next_at: datetime | None = moment_or_none()
    """When it is tried next; while somebody tries, when that one counts as dead. None when nothing more is to be done."""
    last_result: str | None = words_or_none()
    replays: int = Field(default=0, sa_type=Integer, nullable=False)
    created_at: datetime = moment()
    done_at: datetime | None = moment_or_none()


class WebhookAttemptRow(SQLModel, table=True):
    """What came of one try. A number that is missing belongs to a worker that died: that try may have arrived."""

    __tablename__ = "webhook_attempt"
    __table_args__ = (
        belongs_to("webhook_delivery", "delivery_id"),
        one_of("result", Result),
    )

    merchant_id: UUID = key()
    delivery_id: UUID = key()
    number: int = Field(sa_type=Integer, primary_key=True)
    """The fence it was tried under."""
    result: str = words()
    http_status: int | None = Field(default=None, sa_type=Integer, nullable=True)
    detail: str = words()
    """The beginning of the answer, or why there was none; for people."""
    sent_at: datetime = moment()
    took_ms: int = count()
