"""What people and their programs changed, for ever."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from service.tables.columns import Json, document_or_none, key, moment, ref, words, words_or_none


class AuditRow(SQLModel, table=True):
    """One thing that a request changed: written in the unit of work of the change, never updated or deleted."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_subject_ix", "merchant_id", "subject", "id"),
        Index("audit_key_ix", "merchant_id", "key_id", "id"),
    )

    merchant_id: UUID = key()
    """All zeros: of no merchant, such as an operator's key."""
    id: UUID = key()
    """Made in the order of changes."""
    key_id: UUID | None = ref(nullable=True)
    """Who: None for somebody at the command line."""
    by_operator: bool = Field(nullable=False)
    operation: str = words()
    """Operation id of the API, or the command."""
    kind: str = words()
    """What was changed: the name of its table, or another noun."""
    subject: str = words()
    """The public id of the thing that was changed; empty where it has none."""
    before: Json | None = document_or_none()
    """Of the columns that changed; None for a new one, or where nothing was compared."""
    after: Json | None = document_or_none()
    request_id: str | None = words_or_none()
    at: datetime = moment()
    """By the service's clock."""
