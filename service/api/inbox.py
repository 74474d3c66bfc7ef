"""The inbox: every delivery byte for byte, why it waits or is parked, and another try after a fix or an end to it."""

from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import Row
from sqlmodel import Session

from service.api import trail
from service.api.deps import Admin, Reader, ReadSession, Services, WriteSession
from service.api.filters import Created
from service.api.paging import Page, Paging, page
from service.api.views import InboxId, Moment, OrderId, SourceId, View
from service.domain.errors import Conflict, Missing
from service.infra import ids
from service.infra.db import fetch
from service.intake.receive import reading_of
from service.intake.replay import DISMISSED, dismiss, replay
from service.tables.orders import InboxState
from service.tables.parties import Platform
from service.tracking.find import ClickSigner

router = APIRouter(tags=["inbox"])


class DeliveryMissing(Missing):
    code = "unknown-delivery"
    title = "There is no such delivery"


class NotParked(Conflict):
    """What was understood counts already; a second time would change nothing."""

    code = "delivery-not-parked"
    title = "Only parked deliveries can be replayed or dismissed"


class DeliveryView(View):
    id: InboxId
    source_id: SourceId
    delivery_id: str
    """The sender's id of the delivery."""
    topic: str
    """The shop's name for the event; empty where the body says it."""
    state: InboxState
    reason_code: str | None
    """Why it waits, is parked or ignored."""
    detail: str
    order_id: OrderId | None
    order_external_id: str | None
    """The shop's id of the order it speaks of, also before that order has come."""
    understood: dict[str, Any]
    """What the sender was told we read in it."""
    received_at: Moment
    grammar: Platform | None
    """In whose language it was read, where that is not the source's own: an import's rows are in ours."""
    settings_version: int
    """By which version of the source's settings it was read; 0 where the source had none."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            id=row.id,
            source_id=row.source_id,
            delivery_id=row.delivery_id,
            topic=row.topic,
            state=InboxState(row.state),
            reason_code=row.reason_code,
            detail=row.detail,
            order_id=row.order_id,
            order_external_id=row.order_external_id,
            understood=row.understood,
            received_at=row.received_at,
            grammar=Platform(row.grammar) if row.grammar else None,
            settings_version=row.settings_version,
        )


class DeliveryBodyView(View):
    delivery: DeliveryView
    body: str
    """As it came, read as UTF-8. It may name customers."""
    body_sha256: str


_DELIVERY = """
SELECT inbox.id, inbox.source_id, delivery_id, topic, state, reason_code, detail, order_external_id, understood,
       received_at, body_hash, grammar, settings_version, orders.id AS order_id
FROM inbox
LEFT JOIN orders ON orders.merchant_id = inbox.merchant_id AND orders.source_id = inbox.order_source_id
                AND orders.external_id = inbox.order_external_id
"""


@router.get("/v1/inbox")
def list_inbox(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    state: Annotated[InboxState | None, Query(description="Deliveries in this state.")] = None,
    source_id: Annotated[SourceId | None, Query(description="Deliveries of this source.")] = None,
    order_id: Annotated[OrderId | None, Query(description="Deliveries about this order.")] = None,
) -> Page[DeliveryView]:
    """List deliveries, newest first: `state=parked` are those that need a fix, `state=waiting` those whose order is due."""
    asked: dict[str, tuple[str, object]] = {
        "state": ("inbox.state = :state", state),
        "source_id": ("inbox.source_id = :source_id", source_id),
        "order_id": ("orders.id = :order_id", order_id),
        "after": ("inbox.id < :after", paging.after_id()),
    }
    asked |= {name: (condition, value) for name, condition, value in created.conditions("inbox.received_at")}
    given = {name: each for name, each in asked.items() if each[1] is not None}
    conditions = ["inbox.merchant_id = :merchant_id", *(condition for condition, _ in given.values())]
    if state in {InboxState.WAITING, InboxState.PARKED}:
        # What the index of open deliveries says, in its own words, so that it is used.
        conditions.append("inbox.state IN ('waiting', 'parked')")
    rows = fetch(
        session,
        f"""
        {_DELIVERY}
        WHERE {" AND ".join(conditions)}
        ORDER BY inbox.id DESC
        LIMIT :limit
        """,
        {
            "merchant_id": caller.merchant_id,
            "limit": paging.limit + 1,
            **{name: value for name, (_, value) in given.items()},
        },
    )
    return page(rows, paging, key=lambda row: (row.id,), view=DeliveryView.of)


@router.get("/v1/inbox/{inbox_id}")
def get_inbox_delivery(inbox_id: InboxId, caller: Admin, session: ReadSession) -> DeliveryBodyView:
    """Return one delivery with its body. Only for admin keys: a body may name customers."""
    row = _delivery(session, caller.merchant_id, inbox_id)
    [stored] = fetch(
        session,
        "SELECT body FROM inbox WHERE merchant_id = :merchant_id AND id = :id",
        {"merchant_id": caller.merchant_id, "id": inbox_id},
    )
    return DeliveryBodyView(
        delivery=DeliveryView.of(row),
        body=bytes(stored.body).decode(errors="replace"),
        body_sha256=bytes(row.body_hash).hex(),
    )


@router.post("/v1/inbox/{inbox_id}/replay")
def replay_inbox_delivery(inbox_id: InboxId, caller: Admin, session: WriteSession, services: Services) -> DeliveryView:
    """Read a parked delivery again, after a fix on our side or the shop's, and let what is understood now count."""
    before = _delivery(session, caller.merchant_id, inbox_id)
    reading = partial(reading_of, services.security, ClickSigner(services.security))
    if not replay(session, caller.merchant_id, [inbox_id], reading):
        raise NotParked(f"Delivery {ids.encode('inb', inbox_id)} is not parked.")
    return _after(session, caller.merchant_id, inbox_id, before)


@router.post("/v1/inbox/{inbox_id}/dismiss")
def dismiss_inbox_delivery(inbox_id: InboxId, caller: Admin, session: WriteSession) -> DeliveryView:
    """Put a parked delivery away, because a corrected one has come or it never mattered. Nothing is deleted.

    It becomes `ignored` for the reason `dismissed`, leaves list and gauge of what needs somebody, and can be replayed
    later. Repeating it changes nothing.
    """
    before = _delivery(session, caller.merchant_id, inbox_id)
    if not dismiss(session, caller.merchant_id, [inbox_id]):
        if before.reason_code != DISMISSED:
            raise NotParked(f"Delivery {ids.encode('inb', inbox_id)} is not parked.")
        return DeliveryView.of(before)
    return _after(session, caller.merchant_id, inbox_id, before)


def _after(session: Session, merchant_id: UUID, inbox_id: UUID, before: Row[Any]) -> DeliveryView:
    row = _delivery(session, merchant_id, inbox_id)
    trail.note(
        session,
        merchant_id=merchant_id,
        kind="inbox",
        subject=ids.encode("inb", inbox_id),
        before={"state": before.state, "reason_code": before.reason_code},
        after={"state": row.state, "reason_code": row.reason_code},
    )
    return DeliveryView.of(row)


def _delivery(session: Session, merchant_id: UUID, inbox_id: UUID) -> Row[Any]:
    rows = fetch(
        session,
        f"{_DELIVERY} WHERE inbox.merchant_id = :merchant_id AND inbox.id = :id",
        {"merchant_id": merchant_id, "id": inbox_id},
    )
    if not rows:
        raise DeliveryMissing(f"There is no delivery {ids.encode('inb', inbox_id)} here.")
    return rows[0]
