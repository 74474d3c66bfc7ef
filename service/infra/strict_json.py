"""JSON from bytes, read in one way only: what two parsers could take for two things is refused.

Shops' webhooks and the API's bodies are read by the same rules. They differ in odd texts: a client of the API is told
where one stands; a shop that passes on what a buyer typed gets it mended.
"""

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from typing import Any

from service.domain.text import BREAKS, hides_something, made_visible

DEPTH_MAX = 32
"""Objects and lists inside one another."""
NUMBER_MAX = 100
"""Characters of a JSON number."""
ODD_TEXTS_TOLD_MAX = 10
_DOUBLE_MAX = Decimal("1.7976931348623157e308")


class NotStrict(ValueError):
    """The bytes are no strict JSON. The message says why and repeats nothing of them."""


class KeyTwice(NotStrict):
    """key: the name, which is the sender's own word."""

    def __init__(self, key: str) -> None:
        super().__init__("a key comes twice in one object")
        self.key = key


class OddTexts(NotStrict):
    """Texts hold what nobody sees. pointers: where, as JSON pointers; the first few."""

    def __init__(self, pointers: list[str]) -> None:
        super().__init__("a text holds a control character, half a surrogate pair or a mark of direction")
        self.pointers = pointers


def load(body: bytes) -> Any:
    """Return the value in the bytes, numbers with a point or exponent as Decimal.

    Raises OddTexts, and NotStrict for anything but one UTF-8 value: a byte-order mark, NaN, a key twice, a number of
    more than 100 characters or too large for a double, more than 32 levels.
    """
    value = _parsed(body, _DECODER)
    if _may_hide(body):
        odd = [path for path, text in _texts(value) if hides_something(text, but=BREAKS)]
        if odd:
            raise OddTexts(odd[:ODD_TEXTS_TOLD_MAX])
    return value


def load_mended(body: bytes) -> Any:
    """Return the value in the bytes as `load` does, but with NUL and half surrogate pairs mended in its texts.

    A number may have any exponent: whoever reads it as an amount says what is too large.
    """
    value = _parsed(body, _WIDE_DECODER)
    # Only an escape can bring these in: raw ones are no JSON, or no UTF-8.
    return _mended(value) if b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body else value


def _parsed(body: bytes, decoder: json.JSONDecoder) -> Any:
    if body.startswith(b"\xef\xbb\xbf"):
        raise NotStrict("it begins with a byte-order mark")
    try:
        # Decoded here, since `json` would take UTF-16 and UTF-32 as well.
        value = decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise NotStrict("the body is not UTF-8") from None
    except RecursionError:
        raise NotStrict(f"more than {DEPTH_MAX} levels") from None
    except json.JSONDecodeError as error:
        raise NotStrict(f"{error.msg} at character {error.pos}") from None
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        _refuse_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        times = Counter(key for key, _ in pairs)
        raise KeyTwice(next(key for key in times if times[key] > 1))
    return value


def _whole(text: str) -> int:
    if len(text) > NUMBER_MAX:
        raise NotStrict(f"a number of more than {NUMBER_MAX} characters")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > NUMBER_MAX:
        raise NotStrict(f"a number of more than {NUMBER_MAX} characters")
    try:
        return Decimal(text)
    except DecimalException:
        raise NotStrict("a number that is too large") from None


def _double(text: str) -> Decimal:
    number = _decimal(text)
    # Others would read 1e400 as infinity.
    if abs(number) > _DOUBLE_MAX:
        raise NotStrict("a number that is too large")
    return number


def _constant(text: str) -> None:
    raise NotStrict(f"{text} is not a number")


_WIDE_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_decimal, parse_constant=_constant
)
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_double, parse_constant=_constant)


def _refuse_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            if type(outer) is dict or type(outer) is list
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise NotStrict(f"more than {DEPTH_MAX} levels")


def _may_hide(body: bytes) -> bool:
    """Whether a text may hold what nobody sees: raw controls are no JSON, so it takes an escape or a letter beyond ASCII."""
    return b"\\u" in body or b"\\b" in body or b"\\f" in body or b"\x7f" in body or not body.isascii()


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """(JSON pointer, text) of each text inside; a key is told by the object that holds it."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        path, one = rest.pop()
        if type(one) is str:
            yield path, one
        elif type(one) is dict:
            yield from ((path, key) for key in one)
            rest.extend((f"{path}/{_step(key)}", inner) for key, inner in one.items())
        elif type(one) is list:
            rest.extend((f"{path}/{index}", inner) for index, inner in enumerate(one))


def _step(key: str) -> str:
    return made_visible(key).replace("~", "~0").replace("/", "~1")


def _mended(value: Any) -> Any:
    """Recursive: the depth has been checked."""
    if type(value) is str:
        return value if value.isprintable() else _storable(value)
    if type(value) is dict:
        return {_storable(key): _mended(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_mended(inner) for inner in value]
    return value


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
