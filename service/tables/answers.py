"""Answers kept under the keys that callers gave their requests, so that a request sent twice is answered once."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, SmallInteger
from sqlmodel import Field, SQLModel

from service.tables.columns import blob, blob_or_none, key, listing, moment, moment_or_none, words


class KeptAnswerRow(SQLModel, table=True):
    """One request with an Idempotency-Key, and its answer. Forgotten after a day; no effect hangs on it.

    No foreign key: an operator's rows belong to no merchant, and a key may be gone before its answers are.
    """

    __tablename__ = "kept_answer"
    __table_args__ = (Index("kept_answer_claimed_ix", "merchant_id", "claimed_at"),)

    merchant_id: UUID = key()
    """The nil UUID for an operator's request."""
    key_id: UUID = key()
    """The API key that asked: what one caller keeps says nothing to another."""
    idempotency_key: str = words(primary_key=True)
    fingerprint: bytes = blob()
    """SHA-256 of method, path, query and body."""
    claimed_at: datetime = moment()
    """By our own clock, which no test merchant moves."""
    lease_until: datetime | None = moment_or_none()
    """Until when the claim of a request that runs several units of work counts, while it has no answer."""
    status: int | None = Field(default=None, sa_type=SmallInteger, nullable=True)
    """None while the request runs."""
    headers: list[list[str]] = listing()
    """Names and values, in order."""
    body: bytes | None = blob_or_none()
    """Encrypted: an answer may hold a key or a secret that is shown once."""
