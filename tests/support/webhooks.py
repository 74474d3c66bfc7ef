"""Bodies of webhooks, and a merchant whose identities and click ids can be read with the eye."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from service.domain.order import Touch, TouchKind
from service.intake.adapters.model import NotUnderstood, Reading, Translation

Json = dict[str, Any]

FIXTURES = Path(__file__).parent.parent / "fixtures"
SHOPIFY = FIXTURES / "shopify"

READING = Reading(
    read_click=lambda text: Touch(TouchKind.CLICK, text),
    identify=lambda kind, value, _: f"{kind}({value})" if value.strip() else "",
)


def an_order(**changes: Any) -> Json:
    """A generic order of two goods lines and carriage; a change of None takes the field out."""
    return _changed(
        {
            "type": "order",
            "id": "1001",
            "updated_at": "2026-11-20T10:00:05Z",
            "placed_at": "2026-11-20T10:00:00Z",
            "currency": "USD",
            "lines": [
                {"id": "1", "sku": "SERUM-30", "category": "skincare", "quantity": 2, "net": "39.98"},
                {"id": "2", "sku": "MASK-5", "net": "12.50"},
                {"id": "s", "kind": "shipping", "net": "4.90"},
            ],
        },
        changes,
    )


def a_refund(**changes: Any) -> Json:
    """A generic refund of one line."""
    return _changed(
        {
            "type": "refund",
            "id": "r-1",
            "order_id": "1001",
            "updated_at": "2026-11-25T09:00:00Z",
            "refunded_at": "2026-11-25T09:00:00Z",
            "currency": "USD",
            "lines": [{"line_id": "1", "net": "19.99"}],
        },
        changes,
    )


def a_dispute(**changes: Any) -> Json:
    """A generic dispute, open."""
    return _changed(
        {
            "type": "dispute",
            "id": "dp-1",
            "order_id": "1001",
            "updated_at": "2026-11-28T09:00:00Z",
            "opened_at": "2026-11-28T09:00:00Z",
            "currency": "USD",
            "amount": "52.48",
        },
        changes,
    )


def a_status(**changes: Any) -> Json:
    """A generic status event: delivered."""
    return _changed(
        {"type": "status", "order_id": "1001", "milestone": "delivered", "at": "2026-11-23T16:00:00Z"}, changes
    )


def _changed(event: Json, changes: Json) -> Json:
    return {key: value for key, value in (event | changes).items() if value is not None}


def shopify_body(name: str) -> Json:
    """One of our own anonymised Shopify bodies."""
    body: Json = json.loads((SHOPIFY / f"{name}.json").read_bytes())
    return body


def raw_body(shop: str, name: str) -> bytes:
    """One of our own bodies in a shop's language, byte for byte."""
    return (FIXTURES / shop / f"{name}.json").read_bytes()


def body_of(shop: str, name: str) -> Json:
    """One of our own bodies, with its decimal numbers exact."""
    body: Json = json.loads(raw_body(shop, name), parse_float=Decimal)
    return body


def outcome(translate: Callable[[], Translation]) -> Translation | NotUnderstood:
    """What was understood, or why not. Any other error goes through."""
    try:
        return translate()
    except NotUnderstood as refused:
        return refused


def as_bytes(value: object) -> bytes:
    """JSON of a value; a Decimal is written as the number it was read from."""
    return re.sub(
        r'"\\u0000([0-9.+-]+(?:E[0-9+-]+)?)"', r"\1", json.dumps(value, default=lambda each: f"\0{each}")
    ).encode()


RUBBISH = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "-1",
            "1e9",
            "0.001",
            "NaN",
            "USD",
            "VND",
            "XXX",
            "9" * 40,
            "clk_x",
            "2026-13-01T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "2026-11-20T10:00:00",
            "http://[::1?koc_click=clk_y",
            10**40,
            -(10**18),
        ]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["id", "amount", "shop_money", "rate"]), st.text(max_size=5), max_size=2),
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, bodies: list[Json]) -> bytes:
    """A good body with up to four values replaced by rubbish, taken out, or repeated."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from([*places(body)] or [()]))
        if not path:
            break
        *way, last = path
        holder: Any = body
        for key in way:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "remove", "repeat"])):
            case "remove":
                del holder[last]
            case "repeat" if isinstance(holder, list):
                holder.append(holder[last])
            case _:
                holder[last] = draw(RUBBISH)
    return as_bytes(body)
