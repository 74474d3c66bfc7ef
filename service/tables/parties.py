"""Merchants and who acts for them: keys, sources, affiliates and how those are paid."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKeyConstraint, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from service.domain.destination import AccountType
from service.tables.columns import (
    Json,
    belongs_to,
    blob,
    blob_or_none,
    count,
    count_or_none,
    document,
    key,
    listing,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)

_PACE = "(rate_per_s IS NULL) = (burst IS NULL) AND (rate_per_s IS NULL OR (rate_per_s > 0 AND burst > 0))"


METHOD_WAIT_H = 72
"""Hours before a changed payout method is paid to, unless a merchant chose another time."""


class SharedAccounts(StrEnum):
    """What becomes of payees that are paid to one and the same account."""

    HOLD = "hold"
    """Each is left out of runs until a person has confirmed its method."""
    ALLOW = "allow"


class MerchantRow(SQLModel, table=True):
    """A shop. A reference table: read everywhere, written rarely."""

    __tablename__ = "merchant"
    __table_args__ = (
        UniqueConstraint("external_id"),
        CheckConstraint("is_test OR clock_offset_s = 0", name="live_clock"),
        CheckConstraint("method_wait_h >= 0", name="method_wait_h"),
        one_of("shared_accounts", SharedAccounts),
    )

    id: UUID = key()
    external_id: str | None = words_or_none()
    name: str = words()
    is_test: bool = Field(nullable=False)
    """Test merchants have a clock of their own and use the sandbox rail; live ones neither."""
    time_zone: str = words()
    """IANA name; fixed when the merchant is created, since booking days and periods hang on it."""
    clock_offset_s: int = count()
    """Seconds a test merchant's clock runs ahead of ours; only ever raised."""
    first_order_at: datetime | None = moment_or_none()
    """When the first order or event of one was recorded. Until then first dated inputs may reach back."""
    created_at: datetime = moment()
    method_wait_h: int = Field(
        default=METHOD_WAIT_H,
        sa_type=BigInteger,
        nullable=False,
        sa_column_kwargs={"server_default": text(str(METHOD_WAIT_H))},
    )
    """Hours before a changed payout method is paid to."""
    shared_accounts: str = Field(
        default=SharedAccounts.HOLD, sa_type=Text, nullable=False, sa_column_kwargs={"server_default": text("'hold'")}
    )


class Scope(StrEnum):
    OPERATOR = "operator"
    """Runs the service: creates merchants and their first admin keys."""
    ADMIN = "admin"
    """Everything of one merchant but approving its payouts."""
    INGEST = "ingest"
    FINANCE_MAKER = "finance-maker"
    FINANCE_CHECKER = "finance-checker"
    READ = "read"
    AFFILIATE = "affiliate"
    """One affiliate's own view."""
    PUBLISHABLE = "publishable"
    """What a page in a browser may know; such a key is no secret."""


class ApiKeyRow(SQLModel, table=True):
    """A bearer key. A reference table: looked up by hash before the merchant is known."""

    __tablename__ = "api_key"
    __table_args__ = (
        UniqueConstraint("hash"),
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        CheckConstraint("merchant_id IS NOT NULL OR scopes = '[\"operator\"]'", name="merchant"),
        CheckConstraint(_PACE, name="pace"),
    )

    id: UUID = key()
    merchant_id: UUID | None = ref(nullable=True)
    """None for an operator's key."""
    affiliate_id: UUID | None = ref(nullable=True)
    """No foreign key: on a cluster a reference table cannot point at a distributed one."""
    hash: bytes = blob()
    """SHA-256 of the whole key; the key itself is shown once and not kept."""
    hint: str = words()
    """First and last characters, to recognise a key in a list."""
    name: str = words()
    scopes: list[str] = listing()
    created_at: datetime = moment()
    expires_at: datetime | None = moment_or_none()
    revoked_at: datetime | None = moment_or_none()
    replaced_by: UUID | None = ref(nullable=True)
    """The key that a rotation made to take its place; a key is rotated once."""
    last_used_at: datetime | None = moment_or_none()
    """To the minute or so: written aside, never by the request that used the key."""
    rate_per_s: int | None = count_or_none()
    """Requests per second it may make for long, and at once; None: as the settings say. Both or neither."""
    burst: int | None = count_or_none()


class Platform(StrEnum):
    GENERIC = "generic"
    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"
    HARAVAN = "haravan"
    STRIPE = "stripe"
    TIKTOK_SHOP = "tiktok_shop"
    DESK = "desk"
    """People's decisions; made with the merchant, has no secret and no address."""


class SourceRow(SQLModel, table=True):
    """Where orders come from. A reference table: its unguessable id is the webhook's address."""

    __tablename__ = "source"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        Index("source_one_desk_ix", "merchant_id", unique=True, postgresql_where=text("platform = 'desk'")),
        one_of("platform", Platform),
        CheckConstraint("(previous_secret IS NULL) = (previous_secret_expires_at IS NULL)", name="previous_secret"),
        CheckConstraint(_PACE, name="pace"),
    )

    id: UUID = key()
    """Version 4: it has to be unguessable, not ordered."""
    merchant_id: UUID = ref(index=True)
    platform: str = words()
    name: str = words()
    shop_domain: str | None = words_or_none()
    secret: bytes | None = blob_or_none()
    """The webhook secret, encrypted; None only for the desk."""
    secret_expires_at: datetime | None = moment_or_none()
    previous_secret: bytes | None = blob_or_none()
    """The secret before, encrypted; it verifies too until its time is over."""
    previous_secret_expires_at: datetime | None = moment_or_none()
    created_at: datetime = moment()
    disabled_at: datetime | None = moment_or_none()
    last_delivery_at: datetime | None = moment_or_none()
    """To the minute or so: written aside, never by the delivery itself."""
    rate_per_s: int | None = count_or_none()
    """As for a key."""
    burst: int | None = count_or_none()


class SourceSettingsRow(SQLModel, table=True):
    """How a source's bodies are to be read, such as what its order statuses mean. A reference table, append-only.

    Each delivery names the version it was read by, so that reading it again gives the same facts.
    """

    __tablename__ = "source_settings"
    __table_args__ = (
        ForeignKeyConstraint(["source_id"], ["source.id"]),
        CheckConstraint("version > 0", name="version"),
    )

    source_id: UUID = key()
    version: int = count(primary_key=True)
    settings: Json = document()
    created_at: datetime = moment()


class AffiliateKind(StrEnum):
    """What a payee is to the merchant; chosen when it is made, for good."""

    KOC = "koc"
    """Brings orders: by links, coupons and bindings, in programmes it takes part in."""
    AGENCY = "agency"
    """Has a share of what the KOCs on its roster earn, and brings no orders itself."""
    OPERATOR = "operator"
    """Who runs the platform and takes a fee for it."""


class AffiliateStatus(StrEnum):
    APPLIED = "applied"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUSPENDED = "suspended"


class TaxRule(StrEnum):
    """What is withheld; a payee with none of these chosen is not paid."""

    NONE_COMPANY = "none_company"
    """A company that invoices and pays its own taxes."""
    OFF = "off"
    """The merchant withholds nothing and has said so."""
    REGIME = "regime"
    """As the merchant's regime for the payee's country says, by the payee's tax profile."""


class AffiliateRow(SQLModel, table=True):
    """A payee: a KOC, an agency or the operator. What may change an order's result is not here but in the dated tables."""

    __tablename__ = "affiliate"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "external_id"),
        one_of("kind", AffiliateKind),
        one_of("status", AffiliateStatus),
        one_of("tax_rule", TaxRule),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    kind: str = Field(
        default=AffiliateKind.KOC, sa_type=Text, nullable=False, sa_column_kwargs={"server_default": text("'koc'")}
    )
    name: str = words()
    email: str | None = words_or_none()
    country: str | None = words_or_none()
    """ISO 3166-1 alpha-2."""
    profile: Json = document()
    identities: Json = document()
    """Keyed hashes by kind (`IdentityKind`), one as a text and several as a list, compared once with each order's customer."""
    status: str = words()
    reason_code: str | None = words_or_none()
    tax_rule: str | None = words_or_none()
    tax_profile_id: UUID | None = ref(nullable=True)
    """The newest of its tax profiles. No foreign key: the two would point at each other."""
    created_at: datetime = moment()
    updated_at: datetime = moment()


class AffiliateApprovalRow(SQLModel, table=True):
    """From when an affiliate may earn, or may not; append-only and never back-dated."""

    __tablename__ = "affiliate_approval"
    __table_args__ = (belongs_to("affiliate", "affiliate_id"),)

    merchant_id: UUID = key()
    affiliate_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    approved: bool = Field(nullable=False)
    reason_code: str | None = words_or_none()
    recorded_at: datetime = moment()


class AffiliateGradeRow(SQLModel, table=True):
    """Which tier an affiliate has, and which groups it is in, from when on; append-only and never back-dated."""

    __tablename__ = "affiliate_grade"
    __table_args__ = (belongs_to("affiliate", "affiliate_id"),)

    merchant_id: UUID = key()
    affiliate_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    tier: str = words()
    groups: list[str] = listing()
    recorded_at: datetime = moment()


class OfferState(StrEnum):
    OFFERED = "offered"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    """The merchant took it back, or made another in its place, before it was answered."""
    ENDED = "ended"
    """It was accepted, and the KOC has left since or went to another agency."""


class RosterOfferRow(SQLModel, table=True):
    """What a KOC is asked to give an agency. Nothing follows from it until the KOC accepts."""

    __tablename__ = "roster_offer"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("affiliate", "agency_id"),
        one_of("state", OfferState),
        Index("roster_offer_affiliate_ix", "merchant_id", "affiliate_id"),
        Index(
            "roster_offer_open_ix",
            "merchant_id",
            "affiliate_id",
            "agency_id",
            unique=True,
            postgresql_where=text("state = 'offered'"),
        ),
        # A KOC has given itself to one agency at most.
        Index(
            "roster_offer_accepted_ix",
            "merchant_id",
            "affiliate_id",
            unique=True,
            postgresql_where=text("state = 'accepted'"),
        ),
        Index("roster_offer_agency_ix", "merchant_id", "agency_id"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    agency_id: UUID = ref()
    share: str = words()
    """Percent of the KOC's commission that goes to the agency, in decimal notation."""
    fee: str = words()
    """Percent of the goods that the agency gets on top, in decimal notation."""
    offered_at: datetime = moment()
    offered_by: UUID = ref()
    """The key."""
    state: str = words()
    decided_at: datetime | None = moment_or_none()
    """Since when it is in its state; None while it is open."""


class RosterRow(SQLModel, table=True):
    """Of which agency a KOC is from when on, of one at most; written by the KOC's consent only, never back-dated."""

    __tablename__ = "roster"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        belongs_to("affiliate", "agency_id"),
        Index("roster_agency_ix", "merchant_id", "agency_id"),
    )

    merchant_id: UUID = key()
    affiliate_id: UUID = key()
    valid_from: datetime = moment(primary_key=True)
    agency_id: UUID | None = ref(nullable=True)
    """None: of no agency any more."""
    share: str = words()
    """As in the offer; "0" where it left."""
    fee: str = words()
    recorded_at: datetime = moment()


class PayoutMethodRow(SQLModel, table=True):
    """Where an affiliate's money goes on one rail."""

    __tablename__ = "payout_method"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        Index(
            "payout_method_active_ix",
            "merchant_id",
            "affiliate_id",
            "rail",
            unique=True,
            postgresql_where=text("replaced_at IS NULL"),
        ),
        Index("payout_method_affiliate_ix", "merchant_id", "affiliate_id", "id"),
        # Who else is paid to an account.
        Index("payout_method_account_ix", "merchant_id", "fingerprint", postgresql_where=text("replaced_at IS NULL")),
        belongs_to("payout_method", "replaces"),
        one_of("account_type", AccountType),
        CheckConstraint("cancelled_at IS NULL OR replaced_at IS NOT NULL", name="cancelled"),
        CheckConstraint("(sharing_confirmed_at IS NULL) = (sharing_reason IS NULL)", name="sharing_confirmed"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    rail: str = words()
    destination: bytes = blob()
    """The account at the rail with its holder, encrypted."""
    destination_hint: str = words()
    """The last characters, for people."""
    fingerprint: str = words()
    """Keyed hash of the account: equal accounts are recognised without being read."""
    created_at: datetime = moment()
    replaced_at: datetime | None = moment_or_none()
    """Since when it is not paid to: another took its place, or it was cancelled."""
    account_type: str = Field(
        default=AccountType.PROVIDER,
        sa_type=Text,
        nullable=False,
        sa_column_kwargs={"server_default": text("'provider'")},
    )
    usable_from: datetime | None = moment_or_none()
    """Before then it is not paid to; None: never a wait, as of the first of a payee."""
    replaces: UUID | None = ref(nullable=True)
    """The method whose place it took; it is active again where this one is cancelled."""
    created_by: UUID | None = ref(nullable=True)
    """The key; None of methods made before it was noted."""
    by_affiliate: bool = Field(
        default=False, sa_type=Boolean, nullable=False, sa_column_kwargs={"server_default": text("false")}
    )
    """Whether the key was the affiliate's own."""
    cancelled_at: datetime | None = moment_or_none()
    sharing_confirmed_at: datetime | None = moment_or_none()
    """Since when a person vouches for its being the account of others too."""
    sharing_confirmed_by: UUID | None = ref(nullable=True)
    sharing_reason: str | None = words_or_none()
