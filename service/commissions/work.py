"""Ask a worker for a piece of work of one merchant, and take it back."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute
from service.infra.ids import new_id
from service.tables.payouts import JobRow


def ask_for(session: Session, merchant_id: UUID, kind: str, subject_id: UUID, *, at: datetime) -> None:
    """Let a worker take a subject up from a moment on, by our clock."""
    session.add(
        JobRow(merchant_id=merchant_id, id=new_id(), kind=kind, subject=str(subject_id), due_at=at, tries=0, payload={})
    )


def forget_all_of(session: Session, merchant_id: UUID, kind: str, subject_ids: Sequence[UUID]) -> None:
    """Delete what workers were asked about subjects that go."""
    execute(
        session,
        "DELETE FROM job WHERE merchant_id = :merchant_id AND kind = :kind AND subject = ANY(CAST(:subjects AS text[]))",
        {"merchant_id": merchant_id, "kind": kind, "subjects": [str(each) for each in subject_ids]},
    )
