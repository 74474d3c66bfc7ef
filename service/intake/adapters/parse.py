"""Strict JSON from bytes, and readers that take one field each or say, by its path, why they cannot.

A path is put together only when something is wrong: this is the hot path of every order.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from service.domain.errors import InvalidAmount
from service.domain.money import AMOUNT_MAX_MINOR, EXPONENTS, minor_of, round_half_away
from service.domain.order import JsonObject
from service.domain.text import made_visible
from service.infra import strict_json
from service.intake.adapters.model import NotUnderstood

TEXT_MAX = 255
"""Characters of an id, code, name or other short text."""
URL_MAX = 65536
"""Characters of an address; browsers and shops cut theirs far earlier."""
LINES_MAX = 5000
"""Lines of one order or refund."""
TOUCHES_MAX = 50
"""Click ids and coupon codes of one order."""
_YEAR_MIN, _YEAR_MAX = 1970, 2200

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_SECONDS = re.compile(r"[1-9][0-9]{0,11}")
_SECONDS_END = int(datetime(_YEAR_MAX, 1, 1, tzinfo=UTC).timestamp())
_COUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
# Most amounts look exactly like this; the rest take the slower way through `minor_of`, which gives the same.
_USUAL = {
    0: re.compile(r"[0-9]{1,12}"),
    2: re.compile(r"[0-9]{1,10}\.[0-9]{2}"),
    3: re.compile(r"[0-9]{1,9}\.[0-9]{3}"),
}
_PLAIN = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,10})?")
_MAGNITUDE_MAX = len(str(AMOUNT_MAX_MINOR)) + 4


def load(body: bytes) -> JsonObject:
    """Return the JSON object in the bytes, decimal numbers as Decimal.

    Raises NotUnderstood("invalid_json", …) for anything but one strict UTF-8 object (`strict_json.load_mended`). A NUL or
    half a surrogate pair, which a shop cuts from what a buyer typed, is mended: it must not keep an order out.
    """
    try:
        value = strict_json.load_mended(body)
    except strict_json.KeyTwice as error:
        raise _invalid(f"the key {error.key[:40]!r} comes twice in one object") from None
    except strict_json.NotStrict as error:
        raise _invalid(str(error)) from None
    if type(value) is not dict:
        raise _invalid("the body is not an object")
    return value


def _invalid(detail: str) -> NotUnderstood:
    return NotUnderstood("invalid_json", f"The body is not strict JSON: {detail}.")


def wrong(where: str, expected: str, value: object = None) -> NotUnderstood:
    """Return the refusal of one field: missing when there is nothing, else of another shape than expected."""
    if value is None:
        return NotUnderstood("missing_field", f"{where}: is missing or null; expected {expected}.")
    return NotUnderstood("invalid_field", f"{where}: expected {expected}, got {_shape(value)}.")


def _shape(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | Decimal():
            return "a number"
        case str():
            return "an empty text" if not value else f"a text of {len(value)} characters"
        case list():
            return "a list"
        case _:
            return "an object"


def an_object(of: JsonObject, key: str, where: str = "") -> JsonObject | None:
    """Return an object, or None where it is absent or null."""
    value = of.get(key)
    if value is None or type(value) is dict:
        return value
    raise wrong(where + key, "an object", value)


def a_list(of: JsonObject, key: str, where: str = "", *, most: int = LINES_MAX) -> list[Any]:
    """Return a list of at most `most`; empty where it is absent or null."""
    value = of.get(key)
    if value is None:
        return []
    if type(value) is not list:
        raise wrong(where + key, "a list", value)
    if len(value) > most:
        raise NotUnderstood("too_many", f"{where}{key}: {len(value)} entries; at most {most} are read.")
    return value


def objects(of: JsonObject, key: str, where: str = "", *, most: int = LINES_MAX) -> list[JsonObject]:
    """Return a list of objects; empty where it is absent or null."""
    value = a_list(of, key, where, most=most)
    for index, one in enumerate(value):
        if type(one) is not dict:
            raise wrong(f"{where}{key}[{index}]", "an object", one)
    return value


def an_id(of: JsonObject, key: str, where: str = "") -> str:
    """Return an id as text: a text of 1 to 255 characters, or an integer of any size, digit for digit."""
    value = of.get(key)
    if type(value) is int:
        return str(value)
    if type(value) is str and len(value) <= TEXT_MAX:
        shown = made_visible(value)
        if shown and not shown.isspace():
            return shown
    raise wrong(where + key, f"an id (an integer, or a text of 1 to {TEXT_MAX} characters)", value)


def a_text(of: JsonObject, key: str, where: str = "", *, most: int = TEXT_MAX) -> str:
    """Return a text of at most `most` characters, without any nobody sees; empty where it is absent or null."""
    value = of.get(key)
    if value is None:
        return ""
    if type(value) is str and len(value) <= most:
        return made_visible(value)
    raise wrong(where + key, f"a text of at most {most} characters", value)


def a_label(of: JsonObject, key: str, where: str = "") -> str:
    """Return a short text that some shops send as a number, digit for digit; empty where it is absent or null."""
    value = of.get(key)
    if type(value) is str and len(value) <= TEXT_MAX:
        return made_visible(value)
    return str(value) if type(value) is int else a_text(of, key, where)


def a_flag(of: JsonObject, key: str, where: str = "") -> bool:
    """Return a boolean; False where it is absent or null."""
    value = of.get(key)
    if value is None:
        return False
    if type(value) is bool:
        return value
    raise wrong(where + key, "true or false", value)


def a_moment(of: JsonObject, key: str, where: str = "") -> datetime:
    """Return a time in UTC, which has to be there."""
    at = moment_or_none(of, key, where)
    if at is None:
        raise wrong(where + key, "a time such as 2026-11-22T09:30:00Z")
    return at


def moment_or_none(of: JsonObject, key: str, where: str = "") -> datetime | None:
    """Return a time in UTC from RFC 3339 with its offset; None where it is absent or null."""
    value = of.get(key)
    if value is None:
        return None
    if type(value) is str and _TIME.fullmatch(value):
        try:
            at = datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            at = None
        if at is not None and _YEAR_MIN <= at.year <= _YEAR_MAX:
            return at
    raise wrong(where + key, "a time such as 2026-11-22T09:30:00Z", value)


def a_currency(of: JsonObject, key: str, where: str = "") -> str:
    """Return an active ISO 4217 code."""
    value = of.get(key)
    if type(value) is str and value in EXPONENTS:
        return value
    if type(value) is str and len(value) <= 40:
        raise NotUnderstood("unknown_currency", f"{where}{key}: {value!r} is not an active ISO 4217 code.")
    raise wrong(where + key, "an ISO 4217 code", value)


def minor(value: object, currency: str, where: str, *, strict: bool = True) -> int:
    """Return minor units, zero or more, of a decimal text or number.

    strict: refuse digits below the minor unit; otherwise round half away from zero.
    """
    if type(value) is str:
        usual = _USUAL.get(EXPONENTS[currency])
        if usual is not None and usual.fullmatch(value):
            return int(value.replace(".", ""))
    exact = a_decimal(value, where)
    if exact < 0:
        raise NotUnderstood("negative_amount", f"{where}: {exact} is below zero.")
    try:
        return minor_of(exact, currency, strict=strict)
    except InvalidAmount as error:
        raise NotUnderstood("invalid_amount", f"{where}: {error}") from None


def rounded(exact: Decimal, currency: str, where: str) -> int:
    """Return minor units, zero or more, of an exact number however many digits it has, rounded half away from zero."""
    if exact < 0:
        raise NotUnderstood("negative_amount", f"{where}: {exact} is below zero.")
    amount_minor = round_half_away(Fraction(exact) * 10 ** EXPONENTS[currency])
    if amount_minor > AMOUNT_MAX_MINOR:
        raise NotUnderstood("invalid_amount", f"{where}: the amount is beyond the largest amount accepted.")
    return amount_minor


def a_decimal(value: object, where: str) -> Decimal:
    """Return the exact number of a plain decimal text, or of a JSON number, which never was a float."""
    if type(value) is str:
        if not _PLAIN.fullmatch(value):
            raise NotUnderstood("invalid_amount", f"{where}: expected a plain decimal amount, got {_shape(value)}.")
        return Decimal(value)
    if type(value) is int:
        exact = Decimal(value)
    elif type(value) is Decimal:
        exact = value
    else:
        raise wrong(where, 'a decimal amount such as "19.99"', value)
    # Before anybody writes it out: 1e999999999 has a billion digits.
    if not -_MAGNITUDE_MAX < exact.adjusted() < _MAGNITUDE_MAX:
        raise NotUnderstood("invalid_amount", f"{where}: the number is too large or too small to be an amount.")
    return exact


def a_count(of: JsonObject, key: str, where: str = "") -> str:
    """Return a quantity as a decimal text, zero or more; "1" where it is absent or null."""
    value = of.get(key)
    if value is None:
        return "1"
    if type(value) is int:
        value = str(value)
    elif type(value) is not str:
        value = format(a_decimal(value, where + key), "f")
    if _COUNT.fullmatch(value):
        return value
    raise wrong(where + key, "a quantity of zero or more", value)


def iso(at: datetime | None) -> str | None:
    """Return a time, which is in UTC, as it is told to the sender."""
    return None if at is None else f"{at.isoformat()[:-6]}Z"


def a_second(of: JsonObject, key: str, where: str = "") -> datetime:
    """Return a time in UTC from whole seconds since 1970, which some send as a text; it has to be there."""
    value = of.get(key)
    if type(value) is str and _SECONDS.fullmatch(value):
        value = int(value)
    if type(value) is int and 0 < value < _SECONDS_END:
        return datetime.fromtimestamp(value, UTC)
    raise wrong(where + key, "whole seconds since 1970", value)
