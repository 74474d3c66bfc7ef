"""The words of withholding: who is paid, what the merchant declared, what was decided before, what is decided now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any


class Regime(StrEnum):
    """How a merchant withholds from people of one country: the family of rule tables it declares."""

    VN = "vn"
    """Any payer in Vietnam: 10 % of a payment from the threshold on (vn_2013, vn_2026_07)."""
    VN_PLATFORM = "vn_platform"
    """An e-commerce platform with a payment function that pays household sellers (vn_117_2025)."""
    CN_LABOUR = "cn_labour"
    """An ordinary merchant in China: labour remuneration by the month (cn_labour_61_2018)."""
    CN_PLATFORM = "cn_platform"
    """An internet platform enterprise in China: cumulative over the year (cn_platform_16_2025)."""
    US_NEC = "us_nec"
    """A payer in the United States: reporting, backup withholding, and foreign payees (us_nec_2026)."""
    EU_NONE = "eu_none"
    """Nothing is withheld from self-employed people in the European Union."""


class Mode(StrEnum):
    """What a merchant does with what a rule says."""

    WITHHOLD = "withhold"
    """Take it from the payout."""
    WARN = "warn"
    """Pay gross, and book what should have been withheld as owed to the authority at the merchant's cost."""
    OFF = "off"
    """Withhold nothing, and say so: an explicit choice."""


class PayeeKind(StrEnum):
    INDIVIDUAL = "individual"
    HOUSEHOLD = "household"
    """A household or sole trader that declares its own taxes."""
    COMPANY = "company"
    """Invoices and pays its own taxes."""


class Duty(StrEnum):
    """What a part of a decision is for."""

    INCOME_TAX = "income_tax"
    VAT = "vat"
    BACKUP = "backup"
    """Backup withholding in the United States."""
    NON_RESIDENT = "non_resident"
    """Tax on income of people from abroad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a merchant declared for people of one country, in force on the pay day.

    gross_up: the payee gets what the payout says, the merchant bears the tax on top. vat: withhold VAT too (China).
    """

    regime: Regime
    mode: Mode = Mode.WITHHOLD
    gross_up: bool = False
    vat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A payee for tax, as it stands when a decision is made. country: of tax residence, ISO 3166-1 alpha-2.

    details: what only one country asks for, by the names in `domain/withholding/details.py`; absent means unknown.
    """

    kind: PayeeKind
    country: str
    has_tax_code: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where decided amounts are summed: by rule table, duty, and period such as 2026, 2026-07 or 2026-07-15."""

    rule: str
    duty: Duty
    period: str


@dataclass(frozen=True, slots=True)
class Sum:
    """What accepted payouts brought to one key so far. base_minor: income the duty counts. payments: how many."""

    base_minor: int = 0
    tax_minor: int = 0
    payments: int = 0


class Refusal(StrEnum):
    """Why nothing can be decided; the payee is not paid then."""

    NO_REGIME = "no_tax_regime"
    """The merchant has declared nothing for the payee's country."""
    NO_RULE = "no_tax_rule_in_force"
    """No rule table of the regime is in force on the pay day."""
    CURRENCY = "tax_currency"
    """The rule counts in another currency than the payout's, and nothing is converted by guess."""
    DETAILS_MISSING = "tax_details_missing"
    """The rule asks for something the payee's profile does not say."""


class Caution(StrEnum):
    """What a person should look at, though the decision stands."""

    SPLIT_PAYOUTS = "possible_splitting"
    """Payouts below the threshold that together pass it within a month."""
    NOT_WITHHELD = "owed_by_merchant"
    """Paid gross; the merchant owes the tax."""
    CERTIFICATE = "paid_by_certificate"
    """Nothing withheld because of a commitment or certificate; the payee is listed in the yearly register."""


@dataclass(frozen=True, slots=True)
class Part:
    """One duty's share of a decision: what this payout adds to a key.

    base_minor: income it counts. tax_minor: what this payout causes, zero or more. steps: how it was computed, in
    figures that can be checked by hand (amounts in minor units, rates as decimal texts).
    """

    key: Key
    base_minor: int
    tax_minor: int
    steps: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is withheld from one payout.

    rule: the table, such as vn_2026_07. gross_minor: the payout's income, with what the merchant bears on top where it
    is grossed up. withheld_minor: from the payee. borne_minor: at the merchant's cost. accumulates: whether later
    payouts hang on this one, so that the payee may have only one under way.
    """

    rule: str
    gross_minor: int
    withheld_minor: int
    borne_minor: int
    parts: tuple[Part, ...] = ()
    cautions: tuple[Caution, ...] = ()
    accumulates: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """No decision. detail: what is missing and the next step, for people."""

    reason: Refusal
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payout to be decided. gross_minor: settled commission it pays, zero or more; what was taxed before is no part."""

    gross_minor: int
    currency: str
    pay_on: date
