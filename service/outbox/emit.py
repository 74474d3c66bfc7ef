"""Write events beside the change they tell of, in the same unit of work."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.domain.events import EventType
from service.infra.db import execute
from service.infra.ids import new_id


@dataclass(frozen=True, slots=True)
class Event:
    """Something merchants may want to hear of.

    subject_id: what it happened to. payload: public ids, amounts in minor units with their currency, and nothing about a
    person: it leaves the house. at: the merchant's clock.
    """

    merchant_id: UUID
    type: EventType
    subject_id: UUID
    payload: dict[str, Any]
    at: datetime


def emit(session: Session, events: Sequence[Event]) -> list[UUID]:
    """Store events, and queue them where somebody listens. Returns their ids, which sort in the order given.

    Whoever delivers cannot go by the ids: they are made before the commit, so an event may appear below one that was
    delivered already, and a cursor would pass it by. So each event brings a row of its own into a queue, in the same unit
    of work: the row is there if and only if the event is, whenever that commits, and is taken out once, by `fan_out`. It
    is two ids wide, and a merchant without an enabled endpoint gets none; intake pays for no more than that.
    """
    if not events:
        return []
    ids = [new_id() for _ in events]
    execute(
        session,
        """
        INSERT INTO outbox (merchant_id, id, type, subject_id, payload, created_at)
        SELECT merchant_id, id, type, subject_id, CAST(payload AS jsonb), created_at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:types AS text[]),
                    CAST(:subject_ids AS uuid[]), CAST(:payloads AS text[]), CAST(:created AS timestamptz[]))
             AS told (merchant_id, id, type, subject_id, payload, created_at)
        """,
        {
            "merchant_ids": [event.merchant_id for event in events],
            "ids": ids,
            "types": [event.type for event in events],
            "subject_ids": [event.subject_id for event in events],
            "payloads": [json.dumps(event.payload, separators=(",", ":")) for event in events],
            "created": [event.at for event in events],
        },
    )
    execute(
        session,
        """
        INSERT INTO webhook_queue (merchant_id, event_id)
        SELECT told.merchant_id, told.id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS told (merchant_id, id)
        JOIN (SELECT DISTINCT merchant_id FROM webhook_endpoint
              WHERE merchant_id = ANY(CAST(:merchants AS uuid[])) AND disabled_at IS NULL) AS listening
          ON listening.merchant_id = told.merchant_id
        """,
        {
            "merchant_ids": [event.merchant_id for event in events],
            "ids": ids,
            "merchants": sorted({event.merchant_id for event in events}),
        },
    )
    return ids
