"""Write events beside the change they tell of, in the same unit of work."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute
from service.infra.ids import new_id


@dataclass(frozen=True, slots=True)
class Event:
    """Something merchants may want to hear of.

    type: noun.verb in the past, such as commission.accrued. subject_id: what it happened to. at: the merchant's clock.
    """

    merchant_id: UUID
    type: str
    subject_id: UUID
    payload: dict[str, Any]
    at: datetime


def emit(session: Session, events: Sequence[Event]) -> None:
    """Store events; their ids sort in the order given."""
    if not events:
        return
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
            "ids": [new_id() for _ in events],
            "types": [event.type for event in events],
            "subject_ids": [event.subject_id for event in events],
            "payloads": [json.dumps(event.payload, separators=(",", ":")) for event in events],
            "created": [event.at for event in events],
        },
    )
