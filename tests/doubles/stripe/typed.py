"""Whether what is sent is what stripe-python's own typed parameters say: every key known, those needed there, types right."""

import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin

# As the library itself, whose typed dictionaries Python's own functions do not know for such.
from typing_extensions import get_type_hints, is_typeddict

import stripe

_OPTIONS = stripe.RequestOptions.__required_keys__ | stripe.RequestOptions.__optional_keys__
"""Keys that the typed parameters of API v1 have for the library's own sake; they are headers, and never sent."""

_NAMES = {**vars(typing), "StripeContext": stripe.StripeContext}
"""Names in annotations that were inherited from another module of the library's."""


def flaws(value: Any, takes: Any, *, at: str = "", written: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (parameter, what is wrong) of a value that is to be of a type. written: as in a form, where all is text.

    what is wrong: unknown, missing, or type.
    """
    origin = get_origin(takes)
    if takes is Any or (isinstance(takes, type) and issubclass(takes, stripe.StripeObject)):
        return
    if origin in {NotRequired, Required}:
        yield from flaws(value, get_args(takes)[0], at=at, written=written)
    elif is_typeddict(takes):
        yield from _of_object(value, takes, at, written=written)
    elif origin is Union or type(takes).__name__ == "UnionType":
        choices = [list(flaws(value, each, at=at, written=written)) for each in get_args(takes)]
        if all(choices):
            yield min(choices, key=len)[0]
    elif origin is Literal:
        if value not in get_args(takes):
            yield at, "type"
    elif origin in {list, typing.List}:  # noqa: UP006 - what the library writes
        if not isinstance(value, list):
            yield at, "type"
            return
        for number, each in enumerate(value):
            yield from flaws(each, get_args(takes)[0], at=f"{at}[{number}]", written=written)
    elif origin in {dict, typing.Dict}:  # noqa: UP006 - as above
        if not isinstance(value, dict):
            yield at, "type"
            return
        for name, each in value.items():
            yield from flaws(each, get_args(takes)[1], at=f"{at}[{name}]", written=written)
    elif not _is(value, takes, written=written):
        yield at, "type"


def _of_object(value: Any, takes: Any, at: str, *, written: bool) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield at, "type"
        return
    known = _types_of(takes)
    for name, each in value.items():
        place = f"{at}[{name}]" if at else name
        if name not in known or name in _OPTIONS:
            yield place, "unknown"
        else:
            yield from flaws(each, known[name], at=place, written=written)
    for name in sorted(takes.__required_keys__ - value.keys()):
        yield (f"{at}[{name}]" if at else name), "missing"


@cache
def _types_of(takes: Any) -> dict[str, Any]:
    return get_type_hints(takes, localns=_NAMES, include_extras=True)


def _is(value: Any, takes: Any, *, written: bool) -> bool:
    if not written:
        return type(value) is takes
    if takes is int:
        return isinstance(value, str) and value.removeprefix("-").isdecimal()
    if takes is bool:
        return value in {"true", "false"}
    return isinstance(value, str)
