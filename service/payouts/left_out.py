"""Why the newest run that considered somebody did not pay them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.payout import Excluded, RunState
from service.domain.waiting import LeftOut
from service.infra.db import fetch

# A draft may be made anew once somebody has mended what it found; one that was cancelled paid nobody.
_TELLING = (RunState.SUBMITTED, RunState.APPROVED, RunState.EXECUTING, RunState.CLOSED)

_REASONS = frozenset(reason.value for reason in Excluded)


def left_out(session: Session, merchant_id: UUID, payee_ids: Sequence[UUID]) -> Mapping[tuple[UUID, str], LeftOut]:
    """Maps payee and currency to why the newest run that considered them has no payout for them; only where they have a balance.

    A payout that was dropped from its run counts as left out; one that a person released, or that never was sent because
    the rest of its run was cancelled, does not.
    """
    found: dict[tuple[UUID, str], LeftOut] = {}
    for row in _newest(session, merchant_id, payee_ids):
        # Whoever has a payout in a newer run was considered there.
        if row.left_out_of is not None and (row.paid_in is None or row.paid_in < row.left_out_of):
            found[row.payee_id, row.currency] = LeftOut(
                Excluded(row.reason_code), row.left_out_on, row.created_at, row.left_out_minor
            )
        elif row.release_reason in _REASONS:
            found[row.payee_id, row.currency] = LeftOut(
                Excluded(row.release_reason), row.dropped_on, row.released_at, row.dropped_minor
            )
    return found


def _newest(session: Session, merchant_id: UUID, payee_ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    """Those with a balance, by currency, with their newest payout and the newest run that left them out."""
    return fetch(
        session,
        """
        SELECT owed.payee_id, owed.currency, item.run_id AS paid_in, item.pay_on AS dropped_on, item.release_reason,
               item.released_at, item.gross_minor + item.carried_minor AS dropped_minor, told.run_id AS left_out_of,
               told.pay_on AS left_out_on, told.created_at, told.reason_code,
               told.payable_minor + told.carried_minor AS left_out_minor
        FROM (
            SELECT DISTINCT owner_id AS payee_id, currency FROM balance
            WHERE merchant_id = :merchant_id AND owner_id = ANY(CAST(:payee_ids AS uuid[]))
              AND kind IN ('payable', 'taxed_carry') AND amount_minor <> 0
        ) AS owed
        LEFT JOIN LATERAL (
            SELECT payout_item.*, payout_run.pay_on
            FROM payout_item
            JOIN payout_run ON payout_run.merchant_id = :merchant_id AND payout_run.id = payout_item.run_id
                 AND payout_run.status <> 'cancelled'
            WHERE payout_item.merchant_id = :merchant_id AND payout_item.payee_id = owed.payee_id
              AND payout_item.currency = owed.currency
            ORDER BY payout_item.from_version DESC LIMIT 1
        ) AS item ON true
        LEFT JOIN LATERAL (
            SELECT one.*, payout_run.pay_on, payout_run.created_at
            FROM payout_left_out AS one
            JOIN payout_run ON payout_run.merchant_id = :merchant_id AND payout_run.id = one.run_id
                 AND payout_run.currency = owed.currency AND payout_run.status = ANY(CAST(:telling AS text[]))
            WHERE one.merchant_id = :merchant_id AND one.payee_id = owed.payee_id
              -- It looked at them for their balance only; the runs of their own rail tell.
              AND one.reason_code <> :other_rail
            ORDER BY one.run_id DESC LIMIT 1
        ) AS told ON true
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": list(payee_ids),
            "telling": list(_TELLING),
            "other_rail": Excluded.OTHER_RAIL,
        },
    )
