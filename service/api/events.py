"""Events: what happened at a merchant, told once."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from sqlmodel import col, select

from service.api.deps import Reader, ReadSession
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import EventId, Moment, Text, View
from service.domain.errors import Invalid, Missing
from service.domain.events import chosen
from service.infra import ids
from service.tables.money import OutboxRow

router = APIRouter(tags=["events"])

_SUBJECTS = ("com", "ord", "run", "pay", "aff", "prg", "bud", "inb", "whk")
"""Prefixes of what events can be about."""


class EventMissing(Missing):
    code = "unknown-event"
    title = "There is no such event"


class EventView(View):
    id: EventId
    type: str
    """Noun and verb, such as commission.accrued."""
    data: dict[str, Any]
    """What it is about, with public ids and amounts in minor units."""
    created_at: Moment

    @classmethod
    def of(cls, row: OutboxRow) -> Self:
        return cls(id=row.id, type=row.type, data=row.payload, created_at=row.created_at)


@router.get("/v1/events")
def list_events(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    type: Annotated[Text | None, Query(description="Events of this type, or such as commission.*.")] = None,  # noqa: A002 - the API's word
    subject: Annotated[
        Text | None,
        Query(description="Events about this: com_…, ord_…, run_…, pay_…, aff_…, prg_…, bud_…, inb_… or whk_…."),
    ] = None,
    created: Created,
) -> Page[EventView]:
    """List what happened, newest first."""
    statement = select(OutboxRow).where(col(OutboxRow.merchant_id) == caller.merchant_id)
    if type is not None:
        types = chosen(type)
        if not types:
            raise Invalid("type is neither a type of event, as the description of the webhooks lists them, nor noun.*.")
        statement = statement.where(col(OutboxRow.type).in_(sorted(types)))
    statement = created.narrow(statement, col(OutboxRow.created_at))
    if subject is not None:
        prefix = subject.partition("_")[0]
        if prefix not in _SUBJECTS:
            raise Invalid(f"Events are about things whose ids begin with {', '.join(_SUBJECTS)}.")
        try:
            statement = statement.where(col(OutboxRow.subject_id) == ids.decode(prefix, subject))
        except ValueError:
            raise Invalid(f"subject is no id of the form {prefix}_ and 26 letters and digits.") from None
    rows = session.exec(newest_first(statement, paging, col(OutboxRow.id))).all()
    return page(rows, paging, key=lambda row: (row.id,), view=EventView.of)


@router.get("/v1/events/{event_id}")
def get_event(event_id: EventId, caller: Reader, session: ReadSession) -> EventView:
    """Return one event."""
    row = session.get(OutboxRow, (caller.merchant_id, event_id))
    if row is None:
        raise EventMissing(f"There is no event {ids.encode('evt', event_id)} here.")
    return EventView.of(row)
