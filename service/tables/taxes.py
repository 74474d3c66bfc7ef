"""Withholding: what merchants declared, who payees are for tax, and what was decided; and what people put right."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.domain.correction import CorrectionKind, CorrectionState
from service.domain.withholding.model import Duty, Mode, PayeeKind, Regime
from service.tables.columns import (
    Json,
    belongs_to,
    blob_or_none,
    count,
    day,
    document,
    key,
    minor,
    minor_or_none,
    moment,
    moment_or_none,
    one_of,
    ref,
    words,
    words_or_none,
)


class TaxRegimeRow(SQLModel, table=True):
    """What a merchant declared for payees of one country, from a day on; append-only and never back-dated.

    Of several for one day the one recorded last counts.
    """

    __tablename__ = "tax_regime"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        Index("tax_regime_country_ix", "merchant_id", "country", "valid_from", "id"),
        one_of("regime", Regime),
        one_of("mode", Mode),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    country: str = words()
    """ISO 3166-1 alpha-2, of the payee's tax residence."""
    valid_from: date = day()
    """By the merchant's calendar; compared with the day a run pays on."""
    regime: str = words()
    mode: str = words()
    gross_up: bool = Field(nullable=False)
    vat: bool = Field(nullable=False)
    declared_by: UUID = ref()
    recorded_at: datetime = moment()


class TaxProfileRow(SQLModel, table=True):
    """Who a payee is for tax; append-only, the newest counts when a payout is decided."""

    __tablename__ = "tax_profile"
    __table_args__ = (
        belongs_to("affiliate", "affiliate_id"),
        Index("tax_profile_affiliate_ix", "merchant_id", "affiliate_id", "id"),
        one_of("kind", PayeeKind),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    affiliate_id: UUID = ref()
    kind: str = words()
    country: str = words()
    details: Json = document()
    """What only one country asks for; nothing that names the person."""
    person: bytes | None = blob_or_none()
    """Legal name, tax code, address and the like for the registers, encrypted."""
    tax_code_hint: str | None = words_or_none()
    """The last characters of the tax code, None where none was given."""
    recorded_by: UUID = ref()
    recorded_at: datetime = moment()


class TaxBaseRow(SQLModel, table=True):
    """A payee under one rule: whoever decides on it, or adds to it, holds this row."""

    __tablename__ = "tax_base"
    __table_args__ = (belongs_to("affiliate", "payee_id"),)

    merchant_id: UUID = key()
    payee_id: UUID = key()
    rule: str = words(primary_key=True)
    version: int = count()
    """One more with each unit of work that adds an entry."""


class TaxEntryKind(StrEnum):
    ACCEPTED = "accepted"
    """By a payout that the rail accepted."""
    OPENING = "opening"
    """Of the time before this service; told by a person."""
    CORRECTED = "corrected"
    """Undone or added by a person, with a reason."""


class TaxEntryRow(SQLModel, table=True):
    """One dated difference to what was counted and decided for a payee; append-only. Decisions and registers sum these."""

    __tablename__ = "tax_entry"
    __table_args__ = (
        ForeignKeyConstraint(
            ["merchant_id", "payee_id", "rule"], ["tax_base.merchant_id", "tax_base.payee_id", "tax_base.rule"]
        ),
        belongs_to("payout_item", "item_id"),
        belongs_to("correction", "correction_id"),
        UniqueConstraint("merchant_id", "item_id", "duty", "period"),
        Index("tax_entry_sums_ix", "merchant_id", "payee_id", "rule", "duty", "period"),
        one_of("kind", TaxEntryKind),
        one_of("duty", Duty),
        CheckConstraint("(kind = 'accepted') = (item_id IS NOT NULL)", name="item"),
        CheckConstraint("(kind = 'corrected') = (correction_id IS NOT NULL)", name="correction"),
        CheckConstraint("kind = 'corrected' OR least(base_minor, tax_minor, borne_minor) >= 0", name="amount"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    kind: str = words()
    payee_id: UUID = ref()
    rule: str = words()
    """The table that decided, such as vn_2026_07."""
    duty: str = words()
    period: str = words()
    """2026, 2026-07 or 2026-07-15, by the merchant's calendar."""
    currency: str = words()
    base_minor: int = minor()
    """Income the duty counts; below zero where it is taken back."""
    tax_minor: int = minor()
    """What is owed for it, whoever bears it; below zero where it is undone."""
    borne_minor: int = minor()
    """The part of it at the merchant's cost."""
    booked_on: date = day()
    item_id: UUID | None = ref(nullable=True)
    correction_id: UUID | None = ref(nullable=True)
    note: str | None = words_or_none()
    recorded_by: UUID | None = ref(nullable=True)
    created_at: datetime = moment()


class CorrectionRow(SQLModel, table=True):
    """Money put right by people, with a reason and evidence; booked once, never edited."""

    __tablename__ = "correction"
    __table_args__ = (
        belongs_to("affiliate", "payee_id"),
        belongs_to("posting", "posting_id"),
        UniqueConstraint("merchant_id", "external_id"),
        Index("correction_payee_ix", "merchant_id", "payee_id", "currency", "payable_version"),
        one_of("kind", CorrectionKind),
        one_of("state", CorrectionState),
        CheckConstraint("amount_minor > 0 AND base_minor >= 0", name="amount"),
        CheckConstraint(
            "(kind = 'untax') = (rule IS NOT NULL AND duty IS NOT NULL AND period IS NOT NULL)", name="untax"
        ),
        CheckConstraint("(state = 'booked') = (posting_id IS NOT NULL)", name="booked"),
        CheckConstraint("decided_by IS NULL OR decided_by <> asked_by OR state = 'withdrawn'", name="two_persons"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    kind: str = words()
    state: str = words()
    payee_id: UUID = ref()
    currency: str = words()
    amount_minor: int = minor()
    rule: str | None = words_or_none()
    """Of a withholding that is undone: the rule table, with its duty and period."""
    duty: str | None = words_or_none()
    period: str | None = words_or_none()
    base_minor: int = minor()
    """Income that is no longer counted with it."""
    reason: str = words()
    evidence: str | None = words_or_none()
    """Number of a corrected return, of a receipt of the authority, of a ticket."""
    asked_by: UUID = ref()
    decided_by: UUID | None = ref(nullable=True)
    posting_id: UUID | None = ref(nullable=True)
    payable_version: int | None = minor_or_none()
    """Version of the payee's payable account after it; None where payable did not move."""
    created_at: datetime = moment()
    decided_at: datetime | None = moment_or_none()


class TaxRemittanceRow(SQLModel, table=True):
    """What was withheld under one rule, duty and period, passed on to the authority at once."""

    __tablename__ = "tax_remittance"
    __table_args__ = (
        ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        UniqueConstraint("merchant_id", "external_id"),
        Index("tax_remittance_period_ix", "merchant_id", "rule", "duty", "period"),
        one_of("duty", Duty),
        CheckConstraint("amount_minor > 0 AND payees > 0", name="amount"),
    )

    merchant_id: UUID = key()
    id: UUID = key()
    external_id: str | None = words_or_none()
    rule: str = words()
    duty: str = words()
    period: str = words()
    currency: str = words()
    amount_minor: int = minor()
    payees: int = count()
    reference: str = words()
    """The authority's or bank's own number of the payment."""
    paid_on: date = day()
    recorded_by: UUID = ref()
    created_at: datetime = moment()


class TaxRemittanceLineRow(SQLModel, table=True):
    """One payee's share of a remittance."""

    __tablename__ = "tax_remittance_line"
    __table_args__ = (
        belongs_to("tax_remittance", "remittance_id"),
        belongs_to("affiliate", "payee_id"),
        belongs_to("posting", "posting_id"),
        Index("tax_remittance_line_payee_ix", "merchant_id", "payee_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    merchant_id: UUID = key()
    remittance_id: UUID = key()
    payee_id: UUID = key()
    amount_minor: int = minor()
    posting_id: UUID = ref()
