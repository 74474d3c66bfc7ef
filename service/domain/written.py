"""How rates and amounts are written in terms and receipts."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from re import compile as pattern
from typing import Any

from service.domain.errors import InvalidTerms
from service.domain.money import AMOUNT_MAX_MINOR, exponent

JsonObject = dict[str, Any]
Amounts = tuple[tuple[str, int], ...]
"""Minor units by currency, each currency once."""

_RATE = pattern(r"(100|[0-9]{1,2})(\.[0-9]{1,6})?")


def rate_of(percent: str) -> Fraction:
    """Fraction from percent in decimal notation: rate_of("12.5") is 1/8. Raises InvalidTerms outside 0 to 100."""
    if not _RATE.fullmatch(percent) or Decimal(percent) > 100:
        raise InvalidTerms(
            f"{percent[:20]!r} is not a rate: percent from 0 to 100, at most six decimals, such as 12.5."
        )
    return Fraction(percent) / Fraction(100)


@lru_cache(maxsize=4096)
def percent_of(rate: Fraction) -> str:
    """The shortest decimal notation of a rate in percent."""
    percent = rate * Fraction(100)
    written = format(Decimal(percent.numerator) / Decimal(percent.denominator), "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def amounts_json(amounts: Amounts) -> list[JsonObject]:
    return [{"amount_minor": amount, "currency": currency} for currency, amount in amounts]


def amounts_of(stored: Sequence[JsonObject]) -> Amounts:
    """Amounts by currency. Raises InvalidTerms, UnknownCurrency."""
    amounts: dict[str, int] = {}
    for entry in stored:
        currency, amount = entry["currency"], entry["amount_minor"]
        exponent(currency)
        if currency in amounts:
            raise InvalidTerms(f"{currency} is named twice in one list of amounts.")
        if not 0 <= amount <= AMOUNT_MAX_MINOR:
            raise InvalidTerms(f"{amount} is not an amount between 0 and the largest accepted.")
        amounts[currency] = amount
    return tuple(sorted(amounts.items()))
