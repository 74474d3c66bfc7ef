"""What keeps money in: limits, fees, rails that were stopped, and the gate that closes after a database was restored."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import SQLModel

from service.domain.payout_control import LimitKind
from service.tables.columns import (
    Json,
    count,
    count_or_none,
    day,
    document,
    key,
    minor,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)

EVERYBODY = UUID(int=0)
"""Stands for the merchant where a rail is stopped for all, and for the key where a limit is nobody's own."""


class PayoutLimitRow(SQLModel, table=True):
    """The most that may be paid in one currency, by kind; set anew rather than changed."""

    __tablename__ = "payout_limit"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        Index(
            "payout_limit_active_ix",
            "merchant_id",
            "kind",
            "currency",
            "key_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        one_of("kind", LimitKind),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("(kind = 'approval') OR key_id = '00000000-0000-0000-0000-000000000000'", name="key"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    kind: str = words()
    currency: str = words()
    key_id: UUID = ref()
    """Whose approvals it limits; EVERYBODY for all keys, and for all other kinds."""
    amount_minor: int = minor()
    set_by: UUID = ref()
    created_at: datetime = moment()
    ended_at: datetime | None = moment_or_none()
    ended_by: UUID | None = ref(nullable=True)


class PayoutFeeRow(SQLModel, table=True):
    """What each payout on a rail costs its payee, from a pay day on; append-only and never back-dated."""

    __tablename__ = "payout_fee"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        Index("payout_fee_rail_ix", "merchant_id", "rail", "currency", "valid_from", "id"),
        CheckConstraint("amount_minor >= 0", name="amount"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    rail: str = words()
    currency: str = words()
    amount_minor: int = minor()
    """0: none from then on."""
    valid_from: date = day()
    set_by: UUID = ref()
    created_at: datetime = moment()


class RailSwitchRow(SQLModel, table=True):
    """A rail that sends nothing, for one merchant or for all; the row is there while it is stopped."""

    __tablename__ = "rail_switch"

    merchant_id: UUID = key()
    """EVERYBODY: for all merchants, so there is no foreign key."""
    rail: str = words(primary_key=True)
    reason: str = words()
    stopped_by: UUID | None = ref(nullable=True)
    """None: by the service itself."""
    stopped_at: datetime = moment()


class PayoutGateRow(SQLModel, table=True):
    """A time in which nothing is sent by anybody, because the database may have forgotten what was."""

    __tablename__ = "payout_gate"
    __table_args__ = (
        CheckConstraint("opened_by IS NULL OR opened_by <> asked_by", name="two_persons"),
        CheckConstraint("opened_at IS NULL OR checked_at IS NOT NULL", name="checked"),
    )

    id: UUID = key()
    reason: str = words()
    detail: str = words()
    since: datetime = moment()
    """From when on the rails' lists are to be compared with ours."""
    closed_at: datetime = moment()
    checked_at: datetime | None = moment_or_none()
    report: Json = document()
    """By rail, what the comparison found."""
    asked_by: UUID | None = ref(nullable=True)
    """The operator's key that asked for it to be opened."""
    asked_at: datetime | None = moment_or_none()
    opened_by: UUID | None = ref(nullable=True)
    opened_at: datetime | None = moment_or_none()
    note: str | None = words_or_none()


class DatabaseMarkRow(SQLModel, table=True):
    """Which server, and which of its histories, we last knew to be on: another one is a restore or a failover."""

    __tablename__ = "database_mark"

    id: UUID = key()
    """EVERYBODY: there is one row."""
    system_identifier: str = words()
    timeline: int = count()
    database_oid: int | None = count_or_none()
    """PostgreSQL's number of the database; None where a server of an earlier release noted the rest."""
    table_oid: int | None = count_or_none()
    """Its number of this table: a dump that is read back, into whatever server, makes another."""
    seen_at: datetime = moment()
