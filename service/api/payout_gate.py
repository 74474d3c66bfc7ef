"""The gate for operators: closed after a restore, opened by two of them."""

from typing import Self

from fastapi import APIRouter
from sqlmodel import col, select

from service.api.deps import Operator, ReadSession, WriteSession
from service.api.views import Body, KeyId, Moment, PayoutGateId, Text, View, Why
from service.infra.clock import utc_now
from service.payouts import gate
from service.tables.control import PayoutGateRow

router = APIRouter(tags=["payout control"])

_SHOWN_MAX = 200


class RailCheckView(View):
    """One rail's list beside ours, since the gate's moment."""

    rail: str
    complete: bool
    """False: it could not be read to its end; it is read again."""
    matched: int
    open: int
    """Transfers whose attempts are looked up now."""
    missing: list[str]
    """Recorded here and not listed there, the first 200."""
    unexplained: list[str]
    """Listed there under our name, and no attempt knows them, the first 200: their payouts are frozen."""
    foreign: int


class PayoutGateView(View):
    id: PayoutGateId
    reason: str
    """restored: found out by the service; by_hand: closed by an operator."""
    detail: str
    since: Moment
    """From when on the rails are compared."""
    closed_at: Moment
    checked_at: Moment | None
    rails: list[RailCheckView]
    asked_by: KeyId | None
    asked_at: Moment | None
    opened_by: KeyId | None
    opened_at: Moment | None
    note: str | None

    @classmethod
    def of(cls, row: PayoutGateRow) -> Self:
        return cls(
            id=row.id,
            reason=row.reason,
            detail=row.detail,
            since=row.since,
            closed_at=row.closed_at,
            checked_at=row.checked_at,
            rails=[
                RailCheckView(
                    rail=name,
                    complete=told["complete"],
                    matched=told["matched"],
                    open=told["open"],
                    missing=told["missing"][:_SHOWN_MAX],
                    unexplained=told["unexplained"][:_SHOWN_MAX],
                    foreign=told["foreign"],
                )
                for name, told in sorted(row.report.items())
            ],
            asked_by=row.asked_by,
            asked_at=row.asked_at,
            opened_by=row.opened_by,
            opened_at=row.opened_at,
            note=row.note,
        )


class PayoutGateStateView(View):
    closed: bool
    gates: list[PayoutGateView]
    """Those that are closed, and the last that was opened."""


class PayoutGateClose(Body):
    detail: Text
    """Why."""
    since: Moment | None = None
    """To which moment the database was restored, or earlier; null: 35 days ago."""


class PayoutGateOpen(Body):
    note: Why
    """What was found and done."""


@router.get("/v1/operator/payout-gate")
def get_payout_gate(caller: Operator, session: ReadSession) -> PayoutGateStateView:  # noqa: ARG001 - whoever asks has to show a key
    """Return whether anything is sent at all, and how far the comparison with the rails is."""
    newest = select(PayoutGateRow).order_by(col(PayoutGateRow.id).desc())
    closed = session.exec(newest.where(col(PayoutGateRow.opened_at).is_(None))).all()
    opened = session.exec(newest.where(col(PayoutGateRow.opened_at).is_not(None)).limit(1)).all()
    return PayoutGateStateView(closed=bool(closed), gates=[PayoutGateView.of(row) for row in (*closed, *opened)])


@router.post("/v1/operator/payout-gate/close", status_code=201)
def close_payout_gate(asked: PayoutGateClose, caller: Operator, session: WriteSession) -> PayoutGateView:  # noqa: ARG001 - as above
    """Let nobody's payouts be sent until the rails were compared and two operators open the gate."""
    now = utc_now()
    since = asked.since or now - gate.LOOK_BACK
    return PayoutGateView.of(gate.close(session, reason="by_hand", detail=asked.detail, since=since, now=now))


@router.post("/v1/operator/payout-gate/open")
def open_payout_gate(asked: PayoutGateOpen, caller: Operator, session: WriteSession) -> PayoutGateView:
    """Ask for the gate to be opened; asked by another operator's key, it opens."""
    return PayoutGateView.of(gate.open_gate(session, by=caller.key_id, note=asked.note, now=utc_now()))
