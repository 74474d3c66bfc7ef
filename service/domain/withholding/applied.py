"""What the rules of all countries are made of: a rule laid upon one payee and day, how it computes, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from service.domain.money import round_half_away
from service.domain.withholding.model import Caution, Duty, Key, Part, Payment, Refusal, Refused
from service.domain.withholding.tables import RuleTable
from service.domain.written import percent_of


class Why(StrEnum):
    """Why a part is what it is: the first of its steps, and the sentence people read."""

    THRESHOLD_REACHED = "threshold_reached"
    """Vietnam: the payout reaches the threshold, so all of it is taxed."""
    BELOW_THRESHOLD = "below_threshold"
    """Vietnam: it does not."""
    REQUESTED = "requested"
    """Vietnam: below the threshold, and the payee asked for it."""
    COMMITMENT = "commitment"
    """Vietnam: a commitment 08/CK-TNCN is valid."""
    DECLARES_ITSELF = "declares_itself"
    """Vietnam: a household with a tax code."""
    NON_RESIDENT = "non_resident"
    """Vietnam: a flat part of what people who are not resident get."""
    SALE = "sale"
    """Vietnam: a platform withholds from its seller by what is sold."""
    MONTH_FIXED = "month_fixed"
    """China: the month's income so far, less 800 yuan."""
    MONTH_SHARE = "month_share"
    """China: the month's income so far, less a fifth."""
    YEAR = "year"
    """China: the year's income so far."""
    DAY_BELOW = "day_below"
    """China: the day's income does not pass the threshold of VAT."""
    DAY_ABOVE = "day_above"
    """China: it does."""
    TIN_GIVEN = "tin_given"
    """United States: form W-9 with a taxpayer number."""
    BELOW_REPORTING = "below_reporting"
    """United States: no taxpayer number, and nothing reportable yet."""
    BACKUP_THIS_YEAR = "backup_this_year"
    """United States, 26 USC 3406(b)(6)(A): with this payment the year reaches the threshold."""
    BACKUP_REPORTED = "backup_reported"
    """(B): a return was required for last year."""
    BACKUP_WITHHELD = "backup_withheld"
    """(C): the payee was subject to backup withholding last year."""
    WORK_ABROAD = "work_abroad"
    """United States: a foreign payee whose work is done outside."""
    WORK_IN_US = "work_in_us"
    """United States: a foreign payee who works there."""


def no_cautions(gross_minor: int) -> tuple[Caution, ...]:
    del gross_minor
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A rule laid upon one payee and pay day.

    parts: what any gross causes, in minor units, each tax zero or more; more gross never causes less. cautions: of a
    gross. accumulates: whether later payouts hang on this one.
    """

    rule: str
    parts: Callable[[int], tuple[Part, ...]]
    cautions: Callable[[int], tuple[Caution, ...]] = no_cautions
    accumulates: bool = False


def flat(table: RuleTable, duty: Duty, period: str, rate: Fraction, why: Why, **told: int | str) -> Applied:
    """A rule that takes one part of every gross, whatever was paid before. told: more that belongs to its steps."""

    def parts(gross_minor: int) -> tuple[Part, ...]:
        return (flat_part(table, duty, period, rate, why, gross_minor, **told),)

    return Applied(rule=table.name, parts=parts)


def flat_part(
    table: RuleTable, duty: Duty, period: str, rate: Fraction, why: Why, income_minor: int, **told: int | str
) -> Part:
    tax = round_half_away(income_minor * rate)
    steps = {"why": why.value, **told, "income": income_minor, "rate": percent_of(rate), "tax": tax}
    return Part(Key(table.name, duty, period), income_minor, tax, steps)


def month_of(day: date) -> str:
    return f"{day:%Y-%m}"


def figure(exact: Fraction) -> int | str:
    """An amount in minor units as it stands in steps: an integer, or its decimals where a fifth of one is left."""
    if exact.denominator == 1:
        return exact.numerator
    return format(Decimal(exact.numerator) / Decimal(exact.denominator), "f")


def missing(detail: str, why: str) -> Refused:
    """why: a clause that says what cannot be decided without it."""
    return Refused(
        Refusal.DETAILS_MISSING,
        f"The payee's tax profile does not say {detail!r}, without which {why}. Ask the payee and complete the profile.",
    )


def wrong_currency(table: RuleTable, payment: Payment) -> Refused:
    return Refused(
        Refusal.CURRENCY,
        f"{table.name} counts in {table.currency}, and the payout is in {payment.currency}. Pay this payee in {table.currency}, or "
        f"declare mode off for the payee's country and settle the tax outside.",
    )
