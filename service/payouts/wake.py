"""Ask the worker to look at a run: a job row, written with the change that makes it worth looking."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute
from service.infra.ids import new_id

EXECUTE, RECONCILE = "payout_run", "payout_reconcile"
"""Kinds of jobs; their subject is the run."""


def wake(
    session: Session,
    *,
    merchant_id: UUID,
    run_id: UUID,
    at: datetime,
    kind: str = EXECUTE,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Make the run's job due at the latest then. at: by our clock."""
    execute(
        session,
        """
        INSERT INTO job AS known (merchant_id, id, kind, subject, due_at, tries, payload)
        VALUES (:merchant_id, :id, :kind, :subject, :due_at, 0, CAST(:payload AS jsonb))
        ON CONFLICT (merchant_id, kind, subject) DO UPDATE SET due_at = least(known.due_at, excluded.due_at)
        """,
        {
            "merchant_id": merchant_id,
            "id": new_id(),
            "kind": kind,
            "subject": str(run_id),
            "due_at": at,
            "payload": json.dumps(dict(payload or {})),
        },
    )
