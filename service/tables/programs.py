"""Programmes, their immutable versions, who is enrolled, and the links and coupons that carry touches."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, ForeignKeyConstraint, Index, Integer, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.budget import AtLimit
from service.domain.dated import PauseEffect
from service.domain.marks import ContentType
from service.tables.columns import (
    Json,
    belongs_to,
    document,
    key,
    listing,
    minor,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class ProgramRow(SQLModel, table=True):
    """A programme: what can be changed at any time without changing what an order earns."""

    __tablename__ = "program"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "external_id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    name: str = words()
    allowed_domains: list[str] = listing()
    """Hosts that links may lead to, lower case; a leading "*." allows all below."""
    fallback_url: str = words()
    """Where a paused link leads."""
    disclosure: str = words()
    """What a KOC has to say beside a link, as the merchant words it."""
    requires_acceptance: bool = Field(
        default=False, sa_type=Boolean, nullable=False, sa_column_kwargs={"server_default": text("false")}
    )
    """Whether an affiliate's own key has to accept the terms before it makes its first link."""
    min_notice_hours: int = Field(
        default=0, sa_type=Integer, nullable=False, sa_column_kwargs={"server_default": text("0")}
    )
    """How long before they begin terms have to be recorded that may be a cut."""
    created_at: datetime = moment()


class ProgramVersionRow(SQLModel, table=True):
    """Terms that never change once recorded."""

    __tablename__ = "program_version"
    __table_args__ = (
        belongs_to("program", "program_id"),
        UniqueConstraint("merchant_id", "program_id", "valid_from"),
        Index("program_version_customers_ix", "merchant_id", postgresql_where=text("asks_about_customers")),
    )

    merchant_id: UUID = key()
    program_id: UUID = key()
    number: int = Field(sa_type=Integer, primary_key=True)
    valid_from: datetime = moment()
    terms: Json = document()
    asks_about_customers: bool = Field(
        default=False, sa_type=Boolean, nullable=False, sa_column_kwargs={"server_default": text("false")}
    )
    """Whether they look at other orders of a customer, so that orders have to wait for each other."""
    recorded_at: datetime = moment()


class TermsAcceptanceRow(SQLModel, table=True):
    """An affiliate accepted a version of terms; append-only, once for each version."""

    __tablename__ = "terms_acceptance"
    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "program_id", "version"],
            ["program_version.merchant_id", "program_version.program_id", "program_version.number"],
        ),
        belongs_to("affiliate", "affiliate_id"),
        # The name that would be made is longer than PostgreSQL allows.
        UniqueConstraint("merchant_id", "affiliate_id", "program_id", "version", name="terms_acceptance_once_key"),
        Index("terms_acceptance_program_ix", "merchant_id", "program_id", "id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    program_id: UUID = ref()
    version: int = Field(sa_type=Integer, nullable=False)
    affiliate_id: UUID = ref()
    accepted_at: datetime = moment()
    """By the merchant's clock."""
    language: str = words()
    """In which the terms were shown, as a tag of BCP 47."""
    terms_hash: str = words()
    """SHA-256 of the version's stored terms, in hexadecimal digits."""
    disclosure: str = words()
    """What the programme asked KOCs to say beside links, at that moment."""
    key_id: UUID = ref()
    """The affiliate's key that accepted."""


class ProgramPauseRow(SQLModel, table=True):
    """How a programme runs from when on; append-only, never back-dated."""

    __tablename__ = "program_pause"
    __table_args__ = (belongs_to("program", "program_id"), one_of("effect", PauseEffect))

    merchant_id: UUID = key()
    program_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    effect: str = words()
    reason_code: str | None = words_or_none()
    recorded_at: datetime = moment()


class BudgetRow(SQLModel, table=True):
    """The most a programme is to cost for orders of a time, and what happens when it does."""

    __tablename__ = "budget"
    __table_args__ = (
        belongs_to("program", "program_id"),
        UniqueConstraint("merchant_id", "external_id"),
        Index("budget_open_ix", "merchant_id", postgresql_where=text("closed_at IS NULL")),
        one_of("at_limit", AtLimit),
        CheckConstraint("limit_minor > 0 AND (ends_at IS NULL OR ends_at > starts_at)", name="limit"),
        CheckConstraint("(reached_at IS NULL) = (reached_limit_minor IS NULL)", name="reached"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    program_id: UUID = ref()
    name: str = words()
    currency: str = words()
    limit_minor: int = minor()
    starts_at: datetime = moment()
    """Orders placed then or later count; before ends_at, if there is one."""
    ends_at: datetime | None = moment_or_none()
    at_limit: str = words()
    warned_at: datetime | None = moment_or_none()
    """When most of it was taken and its merchant was told."""
    reached_at: datetime | None = moment_or_none()
    """When all of it was taken; null again once it was raised above that."""
    reached_limit_minor: int | None = minor_or_none()
    """The limit that was reached then."""
    closed_at: datetime | None = moment_or_none()
    """When somebody ended it; it is watched no more."""
    created_at: datetime = moment()
    updated_at: datetime = moment()


class EnrollmentRow(SQLModel, table=True):
    """An affiliate joined or left a programme; append-only, never back-dated."""

    __tablename__ = "enrollment"
    __table_args__ = (
        belongs_to("program", "program_id"),
        belongs_to("affiliate", "affiliate_id"),
        UniqueConstraint("merchant_id", "affiliate_id", "program_id", "valid_from"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    program_id: UUID = ref()
    affiliate_id: UUID = ref()
    valid_from: datetime = moment()
    enrolled: bool = Field(nullable=False)
    recorded_at: datetime = moment()


class LinkCodeRow(SQLModel, table=True):
    """Which link a short code means. A reference table: the code is all a visitor brings.

    No foreign key to the link: on a cluster a reference table cannot point at a distributed one.
    """

    __tablename__ = "link_code"

    code: str = words(primary_key=True)
    merchant_id: UUID = ref()
    link_id: UUID = ref()


class LinkRow(SQLModel, table=True):
    """A tracked URL."""

    __tablename__ = "link"
    __table_args__ = (
        belongs_to("program", "program_id"),
        belongs_to("affiliate", "affiliate_id"),
        UniqueConstraint("merchant_id", "external_id"),
        one_of("content_type", ContentType),
        Index("link_changed_ix", "updated_at"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    program_id: UUID = ref()
    affiliate_id: UUID = ref()
    """Its first owner; `link_owner` says who owns it when."""
    code: str = words()
    url: str = words()
    """Where it leads, https, on one of the programme's allowed domains."""
    sub_ids: Json = document()
    """sub1 … sub5, free text of the KOC, copied to each click."""
    content_type: str | None = words_or_none()
    """What it is shown in; `link_label` says what it was when. So with channel and sub_ids."""
    channel: str = Field(default="", sa_type=Text, nullable=False, sa_column_kwargs={"server_default": text("''")})
    """A word of the merchant's own, such as "zalo"; may be empty."""
    paused_at: datetime | None = moment_or_none()
    created_at: datetime = moment()
    updated_at: datetime = moment()
    """Set by the database's clock at each change; the redirect's memory is refreshed by it."""


class LinkOwnerRow(SQLModel, table=True):
    """Whom a link belongs to from when on; the first owner counts from the link's making."""

    __tablename__ = "link_owner"
    __table_args__ = (
        belongs_to("link", "link_id"),
        belongs_to("affiliate", "affiliate_id"),
        Index("link_owner_affiliate_ix", "merchant_id", "affiliate_id", "link_id"),
    )

    merchant_id: UUID = key()
    link_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    affiliate_id: UUID = ref()
    recorded_at: datetime = moment()


class LinkLabelRow(SQLModel, table=True):
    """How a link was marked from when on; the first label counts from the link's making. Append-only."""

    __tablename__ = "link_label"
    __table_args__ = (belongs_to("link", "link_id"), one_of("content_type", ContentType))

    merchant_id: UUID = key()
    link_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    content_type: str | None = words_or_none()
    channel: str = words()
    sub_ids: Json = document()


class CouponRow(SQLModel, table=True):
    """A code typed at checkout."""

    __tablename__ = "coupon"
    __table_args__ = (
        belongs_to("program", "program_id"),
        UniqueConstraint("merchant_id", "folded"),
        UniqueConstraint("merchant_id", "external_id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    program_id: UUID = ref()
    code: str = words()
    folded: str = words()
    """The code without case, as orders are compared with it."""
    created_at: datetime = moment()


class CouponOwnerRow(SQLModel, table=True):
    """Whom a coupon belongs to from when on; never back-dated."""

    __tablename__ = "coupon_owner"
    __table_args__ = (
        belongs_to("coupon", "coupon_id"),
        belongs_to("affiliate", "affiliate_id"),
        Index("coupon_owner_affiliate_ix", "merchant_id", "affiliate_id", "coupon_id"),
    )

    merchant_id: UUID = key()
    coupon_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    affiliate_id: UUID = ref()
    recorded_at: datetime = moment()


class ClickRow(SQLModel, table=True):
    """One visit through a link, kept for counting; attribution needs only the signed click id itself."""

    __tablename__ = "click"
    __table_args__ = (Index("click_link_ix", "merchant_id", "link_id", "at"),)

    merchant_id: UUID = key()
    id: str = words(primary_key=True)
    """The signed click id."""
    link_id: UUID = ref()
    affiliate_id: UUID = ref()
    at: datetime = moment()
    is_bot: bool = Field(nullable=False)
    """Marked, never dropped, so that rules can be replayed."""
    ip_hash: str = words()
    """Keyed hash; the address itself is not kept."""
    user_agent: str = words()
    referrer: str = words()
    country: str = words()
    sub_ids: Json = document()
