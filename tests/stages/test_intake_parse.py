"""Strict JSON, and fields read one at a time."""

import contextlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money import EXPONENTS, minor_of
from service.infra.strict_json import DEPTH_MAX
from service.intake.adapters.model import NotUnderstood
from service.intake.adapters.parse import a_count, a_decimal, a_moment, a_text, an_id, load, minor
from tests.support.webhooks import as_bytes


def refusal(body: bytes) -> str:
    with pytest.raises(NotUnderstood) as refused:
        load(body)
    assert refused.value.reason_code == "invalid_json"
    return refused.value.detail


def test_decimal_numbers_stay_exact_and_integers_of_any_size_too() -> None:
    read = load(b'{"a": 0.1, "b": 1234567890123456789012345678901234567890, "c": 10.00}')

    assert read == {"a": Decimal("0.1"), "b": 1234567890123456789012345678901234567890, "c": Decimal("10.00")}
    assert str(read["c"]) == "10.00"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "Expecting value", id="nothing"),
        pytest.param(b"[]", "not an object", id="a list"),
        pytest.param(b'"text"', "not an object", id="a text"),
        pytest.param(b'{"a": 1', "delimiter", id="cut short"),
        pytest.param(b'{"a": 1} {}', "Extra data", id="two values"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', "byte-order mark", id="a byte-order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(b'{"a": "\xff"}', "not UTF-8", id="broken UTF-8"),
        pytest.param(b'{"a": NaN}', "NaN", id="NaN"),
        pytest.param(b'{"a": -Infinity}', "-Infinity", id="infinity"),
        pytest.param(b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' comes twice", id="a key twice"),
        pytest.param(b'{"a": ' + b"9" * 101 + b"}", "more than 100", id="a huge integer"),
        pytest.param(b'{"a": 0.' + b"9" * 100 + b"}", "more than 100", id="a long decimal"),
        pytest.param(b'{"a": 1e99999999999999999999}', "too large", id="a huge exponent"),
        pytest.param(b'{"a": "\x01"}', "control character", id="a raw control character"),
        pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, "levels", id="33 objects deep"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "levels", id="100,000 lists deep"),
    ],
)
def test_anything_but_strict_json_is_refused_with_a_reason(body: bytes, says: str) -> None:
    assert says in refusal(body)


@pytest.mark.parametrize(
    ("body", "mended"),
    [
        pytest.param(b'{"a": "x\\u0000y"}', {"a": "xy"}, id="NUL in a text"),
        pytest.param(b'{"a\\u0000": 1}', {"a": 1}, id="NUL in a key"),
        pytest.param(b'{"a": ["An \\ud83d"]}', {"a": ["An \N{REPLACEMENT CHARACTER}"]}, id="half a surrogate pair"),
        pytest.param(b'{"a": {"b": "\\uDE00"}}', {"a": {"b": "\N{REPLACEMENT CHARACTER}"}}, id="the other half"),
        pytest.param(b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}, id="a whole pair stays"),
    ],
)
def test_what_a_shop_cut_from_a_name_does_not_keep_the_order_out(body: bytes, mended: object) -> None:
    assert load(body) == mended


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\x07", "\x9f", "\u2028"])
def test_marks_that_nobody_sees_are_left_out_of_texts_and_ids(mark: str) -> None:
    assert a_text({"name": f"An{mark} Nguyễn"}, "name") == "An Nguyễn"
    assert an_id({"id": f"10{mark}01"}, "id") == "1001"
    with pytest.raises(NotUnderstood):
        an_id({"id": mark}, "id")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\\u0000", id="a backslash and u0000 as letters"),
        pytest.param("\N{GRINNING FACE}", id="a surrogate pair"),
        pytest.param("[[[[" * 20, id="brackets in a text"),
    ],
)
def test_texts_that_only_look_odd_are_read(text: str) -> None:
    assert load(as_bytes({"a": text})) == {"a": text}


def test_exactly_32_levels_are_read() -> None:
    assert load(b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX)
    assert load(b'{"a": [' + b"{}," * 50 + b"{}]}")


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(), st.lists, max_leaves=20))
def test_json_comes_back_as_it_was(value: object) -> None:
    if "\0" not in repr(value) and "\\x00" not in repr(value):
        assert load(as_bytes({"a": value})) == {"a": value}


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(NotUnderstood):
        load(body)


@given(
    st.decimals(min_value=0, max_value=10**12, places=4, allow_nan=False) | st.integers(0, 10**14),
    st.sampled_from(sorted(EXPONENTS)),
    st.booleans(),
)
def test_amounts_as_text_number_and_by_the_domain_are_one(amount: Decimal | int, currency: str, strict: bool) -> None:
    def outcome(value: object) -> int | str:
        try:
            return minor(value, currency, "net", strict=strict)
        except NotUnderstood as refused:
            return refused.reason_code

    written = format(amount, "f") if isinstance(amount, Decimal) else str(amount)
    short = written.rstrip("0").rstrip(".") if "." in written else written
    answers = {outcome(amount), outcome(written), outcome(short)}

    assert len(answers) == 1
    if answers != {"invalid_amount"}:
        assert answers == {minor_of(written, currency, strict=strict)}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing_field"),
        (True, "invalid_field"),
        ([], "invalid_field"),
        ({}, "invalid_field"),
        ("", "invalid_amount"),
        ("1,5", "invalid_amount"),
        (" 1", "invalid_amount"),
        ("1e3", "invalid_amount"),
        ("٣", "invalid_amount"),
        ("+1", "invalid_amount"),
        (".5", "invalid_amount"),
        ("1.001", "invalid_amount"),
        ("1" * 19, "invalid_amount"),
        ("10000000000000.01", "invalid_amount"),
        (Decimal("1E+999999999"), "invalid_amount"),
        (Decimal("1E-999999999"), "invalid_amount"),
        (Decimal("0E+999999999"), "invalid_amount"),
        ("-0.01", "negative_amount"),
        (-1, "negative_amount"),
    ],
)
def test_what_is_no_amount_is_refused(value: object, reason: str) -> None:
    with pytest.raises(NotUnderstood) as refused:
        minor(value, "USD", "lines[0].net")

    assert refused.value.reason_code == reason
    assert refused.value.detail.startswith("lines[0].net: ")


def test_more_digits_than_the_currency_has_are_rounded_half_away_only_where_asked() -> None:
    assert minor("16.486", "USD", "price", strict=False) == 1649
    assert minor("16.485", "USD", "price", strict=False) == 1649
    assert minor("0.5", "VND", "price", strict=False) == 1


def test_a_decimal_is_read_without_a_float() -> None:
    assert a_decimal("0.10", "x") == Decimal("0.10")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T17:00:00.250+07:00", datetime(2026, 11, 20, 10, 0, 0, 250000, tzinfo=UTC)),
        ("2026-11-20 05:00:00-05:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
    ],
)
def test_times_with_an_offset_are_read_as_utc(text: str, at: datetime) -> None:
    read = a_moment({"at": text}, "at")

    assert read == at
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-20T10:00:00",
        "2026-11-20",
        "20261120T100000Z",
        "2026-02-30T10:00:00Z",
        "2026-11-20T25:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
        "2026-11-20T10:00:00+99:99",
        "",
        1763632800,
        True,
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(NotUnderstood, match="at: expected a time"):
        a_moment({"at": value}, "at")


def test_a_time_that_is_not_there_is_missing() -> None:
    with pytest.raises(NotUnderstood) as refused:
        a_moment({"at": None}, "at", "order.")

    assert refused.value.reason_code == "missing_field"
    assert refused.value.detail.startswith("order.at: is missing")


def test_ids_are_texts_or_integers_digit_for_digit() -> None:
    read = load(b'{"a": 9007199254740993, "b": "9007199254740993", "c": "x y"}')

    assert [an_id(read, key) for key in "abc"] == ["9007199254740993", "9007199254740993", "x y"]


@pytest.mark.parametrize("value", ["", "  ", "x" * 256, True, Decimal("1.0"), [], {}])
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(NotUnderstood, match=r"invalid_field: id: expected an id"):
        an_id({"id": value}, "id")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "1"), (3, "3"), ("2.5", "2.5"), (Decimal("0.125"), "0.125"), (0, "0")]
)
def test_quantities_are_decimal_texts(value: object, text: str) -> None:
    assert a_count({"quantity": value}, "quantity") == text


@pytest.mark.parametrize("value", [-1, "x", "-1", True, [], "1e3", 10**13, Decimal("1E+15")])
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(NotUnderstood):
        a_count({"quantity": value}, "quantity")
