"""The smallest balances that programmes promise to pay out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.program import Terms
from service.infra.db import fetch


def promised_minimums(
    session: Session, merchant_id: UUID, payee_ids: Sequence[UUID], *, at: datetime
) -> Mapping[UUID, Sequence[Mapping[str, int]]]:
    """What each programme that a payee takes part in promises by its terms in force, in minor units by currency."""
    programs = {
        row.program_id: dict(Terms.of_json(row.terms).payout_minimums_minor)
        for row in fetch(
            session,
            """
            SELECT DISTINCT ON (program_id) program_id, terms FROM program_version
            WHERE merchant_id = :merchant_id AND valid_from <= :at
            ORDER BY program_id, valid_from DESC
            """,
            {"merchant_id": merchant_id, "at": at},
        )
    }
    promised: dict[UUID, list[Mapping[str, int]]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT DISTINCT ON (affiliate_id, program_id) affiliate_id, program_id, enrolled FROM enrollment
        WHERE merchant_id = :merchant_id AND valid_from <= :at
          AND affiliate_id = ANY(CAST(:payee_ids AS uuid[]))
        ORDER BY affiliate_id, program_id, valid_from DESC
        """,
        {"merchant_id": merchant_id, "at": at, "payee_ids": list(payee_ids)},
    ):
        if row.enrolled and row.program_id in programs:
            promised[row.affiliate_id].append(programs[row.program_id])
    return promised
