"""Orders by key instead of by signed webhook: one event or a list, each with its own result."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query, Request

from service.api.deps import Ingest, OwnUnits, Services
from service.api.problems import MalformedJson
from service.api.views import InboxId, OrderId, SourceId, View
from service.domain.errors import Invalid, TooLarge
from service.infra.db import read_session
from service.intake.adapters.model import Delivery, NotUnderstood
from service.intake.adapters.parse import load
from service.intake.batch import content_id, record_all
from service.intake.find_source import find_source, our_grammar
from service.intake.receive import reading_of, receive
from service.intake.record import Recorded
from service.tables.orders import InboxState
from service.tracking.find import ClickSigner

router = APIRouter(tags=["orders"])

EVENTS_MAX = 500
_ID_MAX = 255


class TooManyEvents(TooLarge):
    code = "too-many-events"
    title = "The list is longer than one request may be"


class NoEvents(Invalid):
    code = "no-events"
    title = "The body holds no events"


class OrderEventResult(View):
    """What became of one event, as a webhook would have been answered."""

    index: int
    """Its place in the list that was sent, from 0."""
    delivery_id: str
    inbox_id: InboxId
    state: InboxState
    reason_code: str | None
    """Why it waits, is parked or ignored."""
    detail: str
    order_id: OrderId | None
    repeated: bool
    """It came before; this is the answer of then."""
    understood: dict[str, Any]
    """What was read in it, amounts in minor units."""

    @classmethod
    def of(cls, index: int, delivery_id: str, recorded: Recorded) -> Self:
        return cls(
            index=index,
            delivery_id=delivery_id,
            inbox_id=recorded.inbox_id,
            state=recorded.state,
            reason_code=recorded.reason_code,
            detail=recorded.detail,
            order_id=recorded.order_id,
            repeated=recorded.repeated,
            understood=recorded.understood,
        )


class OrderEventResults(View):
    data: list[OrderEventResult]


async def _raw_body(request: Request) -> bytes:
    return await request.body()


_EVENT = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "enum": ["order", "refund", "dispute", "status"]},
        "delivery_id": {
            "type": "string",
            "maxLength": _ID_MAX,
            "description": "Your own id of this event, to find it in the inbox by. Without one it is made of the bytes.",
        },
    },
    "additionalProperties": True,
    "description": "An event in the generic format, as webhooks bring it.",
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_EVENT, {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": _EVENT}]}
            }
        },
    }
}


@router.post("/v1/orders", openapi_extra=_BODY)
def post_order_events(
    # First, so that a slow sender holds no connection to the database while it sends.
    body: Annotated[bytes, Depends(_raw_body)],
    caller: Ingest,
    engine: OwnUnits,
    services: Services,
    source_id: Annotated[SourceId, Query(description="The source the orders belong to.")],
) -> OrderEventResults:
    """Take one event of the generic format (order, refund, dispute, status) or a list of up to 500.

    All are recorded in one commit, each has a result: what is not understood is parked, and the others count. Sending
    the same bytes again changes nothing and brings the first answers. Events for a source of another platform are read
    in the generic format too.
    """
    events = list(_events(body))
    with read_session(engine) as session:
        source = find_source(session, source_id, merchant_id=caller.merchant_id)
    reading = reading_of(services.security, ClickSigner(services.security), caller.merchant_id)
    deliveries = [Delivery(_delivery_id(index, event), "", event) for index, event in enumerate(events)]
    received = [receive(source, delivery, reading, our_grammar(source)) for delivery in deliveries]
    recorded = record_all(engine, received)
    return OrderEventResults(
        data=[
            OrderEventResult.of(index, delivery.delivery_id, each)
            for index, (delivery, each) in enumerate(zip(deliveries, recorded, strict=True))
        ]
    )


# Numbers stay as they are written: here it only matters where an event begins and ends.
_PARTS = json.JSONDecoder(parse_int=str, parse_float=str)
_BLANKS = " \t\r\n"


def _events(body: bytes) -> Iterator[bytes]:
    """Yields the bytes of each event as they were sent: they are what the inbox keeps. Raises MalformedJson, NoEvents."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise MalformedJson("The body could not be read as JSON in UTF-8.") from None
    at = _after_blanks(text, 0)
    if text[at : at + 1] != "[":
        end = _end_of_value(text, at)
        if _after_blanks(text, end) != len(text):
            raise MalformedJson(f"There is more after the event, at character {end}. Several events go into one list.")
        yield text[at:end].encode()
        return
    at = _after_blanks(text, at + 1)
    if text[at : at + 1] == "]":
        raise NoEvents("The list is empty.")
    for number in range(1, EVENTS_MAX + 2):
        if number > EVENTS_MAX:
            raise TooManyEvents(f"At most {EVENTS_MAX} events are taken at once; send the rest in another request.")
        end = _end_of_value(text, at)
        yield text[at:end].encode()
        at = _after_blanks(text, end)
        if text[at : at + 1] == "]" and _after_blanks(text, at + 1) == len(text):
            return
        if text[at : at + 1] != ",":
            raise MalformedJson(f"Expected a comma or the end of the list at character {at}.")
        at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _end_of_value(text: str, at: int) -> int:
    try:
        return _PARTS.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise MalformedJson("There are too many levels in it.") from None


def _delivery_id(index: int, event: bytes) -> str:
    """The caller's own id of an event; else one made of its bytes. What is no id is left to the grammar to refuse."""
    try:
        given = load(event).get("delivery_id")
    except NotUnderstood:
        given = None
    if given is None:
        return content_id(event)
    if type(given) is not str or not 0 < len(given) <= _ID_MAX or not given.isprintable() or not given.isascii():
        raise Invalid(f"Event {index}, delivery_id: takes a text of 1 to {_ID_MAX} printable ASCII characters.")
    return given
