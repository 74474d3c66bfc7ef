"""Amounts in minor units: every group of decimals, hostile text, and the two ways we round."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidAmount, InvariantBroken, UnknownCurrency
from service.domain.money import (
    AMOUNT_MAX_MINOR,
    EXPONENTS,
    Money,
    exponent,
    minor_of,
    round_half_away,
    spread,
    text_of,
)
from tests.domain.strategies import examples

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.integers(min_value=-AMOUNT_MAX_MINOR, max_value=AMOUNT_MAX_MINOR)


@pytest.mark.parametrize(
    ("currency", "decimals", "text", "minor"),
    [
        pytest.param("VND", 0, "250000", 250_000, id="VND has none"),
        pytest.param("JPY", 0, "500", 500, id="JPY has none"),
        pytest.param("KRW", 0, "1000", 1_000, id="KRW has none"),
        pytest.param("ISK", 0, "100", 100, id="ISK has none"),
        pytest.param("UGX", 0, "100", 100, id="UGX has none"),
        pytest.param("USD", 2, "19.99", 1_999, id="USD has two"),
        pytest.param("CNY", 2, "19.80", 1_980, id="CNY has two"),
        pytest.param("TWD", 2, "800.45", 80_045, id="TWD has two, whatever a rail pays"),
        pytest.param("HUF", 2, "1.00", 100, id="HUF has two, whatever a rail pays"),
        pytest.param("IDR", 2, "15000.00", 1_500_000, id="IDR has two, whatever a rail pays"),
        pytest.param("KWD", 3, "5.124", 5_124, id="KWD has three"),
        pytest.param("BHD", 3, "0.001", 1, id="BHD has three"),
        pytest.param("TND", 3, "12.5", 12_500, id="TND has three"),
        pytest.param("CLF", 4, "1.2345", 12_345, id="CLF has four"),
        pytest.param("UYW", 4, "0.0001", 1, id="UYW has four"),
    ],
)
def test_minor_units_follow_the_decimals_of_the_currency(currency: str, decimals: int, text: str, minor: int) -> None:
    assert exponent(currency) == decimals
    assert minor_of(text, currency) == minor
    assert minor_of("-" + text, currency) == -minor
    assert minor_of(text_of(minor, currency), currency) == minor


@examples(200)
@given(amounts, currencies)
def test_writing_an_amount_out_and_reading_it_back_changes_nothing(amount: int, currency: str) -> None:
    assert minor_of(text_of(amount, currency), currency) == amount
    assert Money.of(text_of(amount, currency), currency) == Money(amount, currency)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        pytest.param("0", "USD", 0, id="nothing"),
        pytest.param("-0.00", "USD", 0, id="less than nothing is nothing"),
        pytest.param("007.50", "USD", 750, id="leading zeros"),
        pytest.param("19.9900000000", "USD", 1_999, id="ten decimals of which eight are zeros"),
        pytest.param("250000.00", "VND", 250_000, id="a shop writes VND with two zeros"),
        pytest.param(1999, "USD", 199_900, id="a JSON integer is whole units"),
        pytest.param(-3, "KWD", -3_000, id="a negative JSON integer"),
        pytest.param(Decimal("19.99"), "USD", 1_999, id="a JSON number read as Decimal"),
        pytest.param(Decimal("1E+3"), "USD", 100_000, id="a JSON number with an exponent"),
        pytest.param(Decimal("1.5e-1"), "USD", 15, id="a JSON number with a negative exponent"),
        pytest.param("10000000000000.00", "USD", AMOUNT_MAX_MINOR, id="the largest amount"),
        pytest.param("1000000000000000", "VND", AMOUNT_MAX_MINOR, id="the largest amount without decimals"),
        pytest.param(10**15, "VND", AMOUNT_MAX_MINOR, id="the largest amount as a JSON integer"),
        pytest.param(-(10**15), "VND", -AMOUNT_MAX_MINOR, id="the smallest amount as a JSON integer"),
    ],
)
def test_plain_decimal_notation_is_read_exactly(text: str | int | Decimal, currency: str, minor: int) -> None:
    assert minor_of(text, currency) == minor


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 ", " 1", "1\n", "1\x00", "+1", "--1", "-", ".5", "5.", ".", "1..2", "1.2.3", "1,50", "1.234,56", "1,234.56",
        "1_000", "1e3", "1E+3", "0x10", "0b1", "NaN", "sNaN", "nan", "Infinity", "-inf", "null", "None", "True", "$5", "5 USD",
        "١٢٣", "１２", "½", "1\u200b", "−1", "1'000", "9" * 19, "9" * 5_000, "1." + "0" * 11, "1." + "9" * 5_000, "example string",
        "'; DROP TABLE posting; --", "{{7*7}}", "\ud800",
    ],
)  # fmt: skip
def test_anything_but_plain_decimal_notation_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        minor_of(text, "USD")
    with pytest.raises(InvalidAmount):
        minor_of(text, "USD", strict=False)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(Decimal("NaN"), id="not a number"),
        pytest.param(Decimal("sNaN"), id="signalling"),
        pytest.param(Decimal("-Infinity"), id="infinite"),
        pytest.param(Decimal("1e999999999"), id="a gigabyte when written out"),
        pytest.param(Decimal("1e-999999999"), id="a gigabyte of zeros"),
        pytest.param(Decimal("0e999999999"), id="zero with a huge exponent"),
        pytest.param(10**5_000, id="more digits than Python writes"),
        pytest.param(-(10**18), id="far below zero"),
        pytest.param(AMOUNT_MAX_MINOR, id="the largest number of cents read as dollars"),
        pytest.param("10000000000000.01", id="one cent too many"),
        pytest.param(True, id="yes is not one"),
    ],
)
def test_numbers_that_are_no_amount_are_refused_quickly(number: str | int | Decimal) -> None:
    with pytest.raises(InvalidAmount):
        minor_of(number, "USD")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("1,50", "'1,50' is not a plain decimal amount", id="notation"),
        pytest.param("1.999", "1.999 has more than the 2 decimals of USD", id="decimals"),
        pytest.param("99999999999999999", "99999999999999999 USD is beyond", id="size"),
        pytest.param(10**5_000, "beyond the largest amount", id="size of a number too long to write out"),
    ],
)
def test_a_refused_amount_says_what_is_wrong_with_it(text: str | int, says: str) -> None:
    with pytest.raises(InvalidAmount, match=says) as refused:
        minor_of(text, "USD")

    assert refused.value.detail == str(refused.value)


def test_a_refusal_does_not_repeat_a_whole_hostile_text() -> None:
    with pytest.raises(InvalidAmount) as refused:
        minor_of("x" * 100_000, "USD")

    assert len(refused.value.detail) < 100


@pytest.mark.parametrize(
    "currency", ["", "usd", "US", "USDT", "XXX", "XAU", "BTC", "DEM", "HRK", "ANG", " USD", "USD\n", "ＵＳＤ"]
)
def test_only_active_codes_in_capitals_are_currencies(currency: str) -> None:
    with pytest.raises(UnknownCurrency, match=re.escape(repr(currency))):
        minor_of("1", currency)


@pytest.mark.parametrize(
    ("text", "currency", "rounded"),
    [
        pytest.param("19.994", "USD", 1_999, id="down"),
        pytest.param("19.995", "USD", 2_000, id="a half goes up"),
        pytest.param("-19.995", "USD", -2_000, id="a negative half goes down"),
        pytest.param("0.0049999999", "USD", 0, id="just below a half"),
        pytest.param("2.675", "USD", 268, id="what binary floats get wrong"),
        pytest.param("499999.9", "VND", 500_000, id="no decimals"),
        pytest.param("0.5", "JPY", 1, id="half a yen"),
        pytest.param("5.1245", "KWD", 5_125, id="three decimals"),
        pytest.param("1.23455", "CLF", 12_346, id="four decimals"),
    ],
)
def test_digits_below_the_minor_unit_are_refused_or_rounded_half_away(text: str, currency: str, rounded: int) -> None:
    with pytest.raises(InvalidAmount, match="decimals"):
        minor_of(text, currency)

    assert minor_of(text, currency, strict=False) == rounded


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        (Fraction(0), 0), (Fraction(1, 2), 1), (Fraction(-1, 2), -1), (Fraction(3, 2), 2), (Fraction(5, 2), 3), (Fraction(-5, 2), -3),
        (Fraction(49, 100), 0), (Fraction(-49, 100), 0), (Fraction(1, 3), 0), (Fraction(2, 3), 1), (Fraction(7), 7), (Fraction(-7), -7),
        (Fraction(10**30 + 1, 2), 5 * 10**29 + 1),
    ],
)  # fmt: skip
def test_a_half_goes_away_from_zero(exact: Fraction, rounded: int) -> None:
    assert round_half_away(exact) == rounded


@examples(200)
@given(st.fractions())
def test_rounding_is_the_nearest_integer_and_knows_no_sign(exact: Fraction) -> None:
    rounded = round_half_away(exact)

    assert abs(rounded - exact) <= Fraction(1, 2)
    assert round_half_away(-exact) == -rounded
    assert abs(rounded - exact) < Fraction(1, 2) or abs(rounded) > abs(exact)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        pytest.param(30_001, [70, 30], [21_001, 9_000], id="30,001 at 70 to 30"),
        pytest.param(100, [1, 1, 1], [34, 33, 33], id="a tie goes to the earlier"),
        pytest.param(2, [1, 1, 1], [1, 1, 0], id="less than one each"),
        pytest.param(5, [0, 3, 0], [0, 5, 0], id="no weight, no part"),
        pytest.param(0, [3, 4], [0, 0], id="nothing to spread"),
        pytest.param(9, [0, 0], [0, 0], id="nobody to spread over"),
        pytest.param(9, [], [], id="nobody at all"),
        pytest.param(10, [1, 2], [3, 7], id="the larger remainder first"),
        pytest.param(3, [5, 2], [2, 1], id="the larger remainder, not the larger share"),
    ],
)
def test_parts_go_by_largest_remainder(total: int, weights: list[int], parts: list[int]) -> None:
    assert spread(total, weights) == parts


@examples(200)
@given(st.integers(0, AMOUNT_MAX_MINOR), st.lists(st.integers(0, 10**12), max_size=12))
def test_parts_add_up_and_stay_within_one_of_their_exact_share(total: int, weights: list[int]) -> None:
    parts = spread(total, weights)

    whole = sum(weights)
    assert sum(parts) == (total if whole else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert part >= 0
        assert whole == 0 or abs(part - Fraction(total * weight, whole)) < 1


@examples(200)
@given(st.data(), st.lists(st.integers(0, 1_000), min_size=1, max_size=8))
def test_no_part_of_what_is_left_exceeds_its_weight(data: st.DataObject, weights: list[int]) -> None:
    total = data.draw(st.integers(0, sum(weights)))

    parts = spread(total, weights)

    assert all(part <= weight for part, weight in zip(parts, weights, strict=True))


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [1, -1])])
def test_nothing_negative_is_spread(total: int, weights: list[int]) -> None:
    with pytest.raises(InvariantBroken, match=re.escape(f"cannot spread {total} over {weights}")):
        spread(total, weights)


def test_money_is_written_with_the_decimals_of_its_currency() -> None:
    assert str(Money(1_999, "USD")) == "19.99 USD"
    assert str(Money(250_000, "VND")) == "250000 VND"
    assert str(Money(-5, "KWD")) == "-0.005 KWD"
