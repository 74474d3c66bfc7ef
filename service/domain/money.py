"""Amounts: integers in minor units with an ISO 4217 code, and the two ways we round."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Self

from service.domain.errors import InvalidAmount, InvariantBroken, UnknownCurrency

AMOUNT_MAX_MINOR = 10**15
"""Largest amount accepted from outside, in minor units; sums of many stay far inside a 64-bit integer."""

# Active codes by number of decimals. Source: ISO 4217 list one, as published by SIX, read 2026-11.
_TWO = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU
CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES
KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR
NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"
EXPONENTS: dict[str, int] = {
    code: exponent for codes, exponent in ((_TWO, 2), (_ZERO, 0), (_THREE, 3), (_FOUR, 4)) for code in codes.split()
}
"""ISO code → decimals. Rails keep tables of their own: what a provider calls minor differs."""

_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,10})?")
# Writing out 1e999999999 takes a gigabyte, so an exponent this large is refused before it is written.
_EXPONENT_MAX = 40


def exponent(currency: str) -> int:
    """Decimals of a currency. Raises UnknownCurrency."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(
            f"{currency!r} is not an active ISO 4217 code; codes are three capital letters."
        ) from None


def minor_of(text: str | int | Decimal, currency: str, *, strict: bool = True) -> int:
    """Minor units of a decimal amount: minor_of("19.99", "USD") is 1999, minor_of("250000", "VND") is 250000.

    text: plain decimal notation; a Decimal or int as parsed from JSON is fine, a float never reaches here.
    strict: refuse digits below the minor unit unless they are zeros; otherwise round half away from zero.
    Raises UnknownCurrency, InvalidAmount.
    """
    digits = exponent(currency)
    written = _plain(text)
    if not _DECIMAL.fullmatch(written):
        raise InvalidAmount(f"{written[:40]!r} is not a plain decimal amount.")
    scaled = Decimal(written).scaleb(digits)
    whole = int(scaled)
    if scaled != whole:
        if strict:
            raise InvalidAmount(f"{written} has more than the {digits} decimals of {currency}.")
        whole = round_half_away(Fraction(scaled))
    if abs(whole) > AMOUNT_MAX_MINOR:
        raise InvalidAmount(f"{written} {currency} is beyond the largest amount accepted.")
    return whole


def _plain(text: str | int | Decimal) -> str:
    match text:
        case Decimal() if text.is_finite() and abs(text.adjusted()) < _EXPONENT_MAX:
            return format(text, "f")
        case int() if abs(text) > AMOUNT_MAX_MINOR:
            raise InvalidAmount("The amount is beyond the largest amount accepted.")
        case _:
            return str(text)


def text_of(amount_minor: int, currency: str) -> str:
    """Decimal notation of minor units: text_of(1999, "USD") is "19.99"."""
    return format(Decimal(amount_minor).scaleb(-exponent(currency)), "f")


def round_half_away(exact: Fraction) -> int:
    """Nearest integer; a half goes away from zero."""
    doubled = 2 * abs(exact.numerator) + exact.denominator
    nearest = doubled // (2 * exact.denominator)
    return nearest if exact >= 0 else -nearest


def spread(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Parts of a total in proportion to weights, by largest remainder, ties to the earlier one.

    total_minor, weights: zero or more. The parts add up to the total, unless all weights are 0: then all parts are 0.
    """
    if total_minor < 0 or any(weight < 0 for weight in weights):
        raise InvariantBroken(f"cannot spread {total_minor} over {list(weights)}")
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    parts = [total_minor * weight // whole for weight in weights]
    remainders = [total_minor * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: total_minor - sum(parts)]:
        parts[index] += 1
    return parts


@dataclass(frozen=True, slots=True)
class Money:
    """An amount at an edge or in a message. Inside, batches of plain integers beside one currency are enough."""

    amount_minor: int
    currency: str

    @classmethod
    def of(cls, text: str | int | Decimal, currency: str) -> Self:
        """Money from decimal notation. Raises UnknownCurrency, InvalidAmount."""
        return cls(minor_of(text, currency), currency)

    def __str__(self) -> str:
        return f"{text_of(self.amount_minor, self.currency)} {self.currency}"
