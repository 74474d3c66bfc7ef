"""Keep money in: limits that nobody may pass, rails that were stopped, and fees that payouts cost."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Forbidden
from service.domain.ledger import MerchantTime
from service.domain.payout_control import FundingState, LimitKind, Room, WaitsFor, largest_payout
from service.infra import ids
from service.infra.db import execute, fetch
from service.payouts.persons import heirs_of
from service.payouts.wake import EXECUTE
from service.tables.control import EVERYBODY
from service.tables.payouts import PayoutItemRow, PayoutRunRow


class RunOverLimit(Conflict):
    code = "payout-run-over-limit"
    title = "The payout run, or a payout of it, is larger than it may be"


class ApprovalOverLimit(Forbidden):
    code = "payout-run-approval-limit"
    title = "The payout run is larger than this key may approve"


SENDS_NOW = """
    NOT EXISTS (SELECT FROM payout_gate WHERE payout_gate.opened_at IS NULL)
    AND NOT EXISTS (SELECT FROM rail_switch WHERE rail_switch.rail = attempt.rail
                    AND rail_switch.merchant_id IN (attempt.merchant_id, '00000000-0000-0000-0000-000000000000'))
"""
"""Whether an `attempt` may be sent: nothing is closed that stands in its way. Part of the statement that leases it."""


def limits_of(session: Session, merchant_id: UUID, currency: str) -> Mapping[LimitKind, Mapping[UUID, int]]:
    """Active limits in a currency, in minor units, by kind and key; EVERYBODY where it is nobody's own."""
    limits: dict[LimitKind, dict[UUID, int]] = {kind: {} for kind in LimitKind}
    for row in fetch(
        session,
        """
        SELECT kind, key_id, amount_minor FROM payout_limit
        WHERE merchant_id = :merchant_id AND currency = :currency AND ended_at IS NULL
        """,
        {"merchant_id": merchant_id, "currency": currency},
    ):
        limits[LimitKind(row.kind)][row.key_id] = row.amount_minor
    return limits


def largest_of(session: Session, merchant_id: UUID, currency: str) -> int | None:
    """The largest single payout that the merchant's limits let pass, in minor units; None where nothing limits it."""
    return largest_payout(_of_all(limits_of(session, merchant_id, currency)))


def check_run(session: Session, run: PayoutRunRow, items: Sequence[PayoutItemRow]) -> None:
    """Raise RunOverLimit where a run, or one payout of it, would send more than it may."""
    limits = _of_all(limits_of(session, run.merchant_id, run.currency))
    largest_minor = largest_payout(limits)
    above = [item for item in items if largest_minor is not None and item.net_minor > largest_minor]
    if above:
        raise RunOverLimit(
            f"Payout {ids.encode('pay', above[0].id)} of payout run {ids.encode('run', run.id)} is {above[0].net_minor} "
            f"minor units of {run.currency}; your limits let {largest_minor} pass. Cancel the run and make another, which "
            "leaves such payouts out, or have an admin raise the limit."
        )
    limit_minor = limits.get(LimitKind.RUN)
    total_minor = sum(item.net_minor for item in items)
    if limit_minor is not None and total_minor > limit_minor:
        raise RunOverLimit(
            f"Payout run {ids.encode('run', run.id)} would send {total_minor} minor units of {run.currency}; a run may "
            f"send {limit_minor}. Make runs of fewer affiliates, or have an admin raise the limit."
        )


def _of_all(limits: Mapping[LimitKind, Mapping[UUID, int]]) -> Mapping[LimitKind, int]:
    return {kind: amounts[EVERYBODY] for kind, amounts in limits.items() if EVERYBODY in amounts}


def check_approval(session: Session, run: PayoutRunRow, items: Sequence[PayoutItemRow], *, approver: UUID) -> None:
    """Raise ApprovalOverLimit where a run sends more than the key may approve.

    That is its own limit, else that of the last key before it that has one, whose place it took, else that of all keys.
    """
    limits = limits_of(session, run.merchant_id, run.currency)[LimitKind.APPROVAL]
    heirs = heirs_of(session, run.merchant_id, limits.keys())
    of_holder = [key_id for key_id in limits if approver in heirs[key_id]]
    nearest = min(of_holder, key=lambda key_id: heirs[key_id].index(approver), default=EVERYBODY)
    limit_minor = limits.get(nearest)
    total_minor = sum(item.net_minor for item in items)
    if limit_minor is not None and total_minor > limit_minor:
        raise ApprovalOverLimit(
            f"Payout run {ids.encode('run', run.id)} sends {total_minor} minor units of {run.currency}; key "
            f"{ids.encode('key', approver)} may approve {limit_minor}. Ask a key that may approve more."
        )


def closed(session: Session, run: PayoutRunRow) -> WaitsFor | None:
    """Why nothing of a run may be handed to its rail now, limits apart; None where it may."""
    rows = fetch(
        session,
        """
        SELECT EXISTS (SELECT FROM payout_gate WHERE opened_at IS NULL) AS gate,
               EXISTS (SELECT FROM rail_switch WHERE rail = :rail AND merchant_id IN (:merchant_id, :everybody)) AS rail
        """,
        {"rail": run.rail, "merchant_id": run.merchant_id, "everybody": EVERYBODY},
    )
    if rows[0].gate:
        return WaitsFor.GATE_CLOSED
    if rows[0].rail:
        return WaitsFor.RAIL_STOPPED
    state = None if run.funding is None else FundingState(run.funding["state"])
    if state is FundingState.SHORT:
        return WaitsFor.FUNDS
    return WaitsFor.FUNDS_UNKNOWN if state is FundingState.UNKNOWN else None


def room_on(session: Session, run: PayoutRunRow, when: MerchantTime) -> Room:
    """What limits of days and months leave for a run today. Two runs that ask at once share one room."""
    # The oldest limit stays whatever is ended or set, so everybody waits for the same row, and reads only then.
    held = fetch(
        session,
        """
        SELECT id FROM payout_limit
        WHERE merchant_id = :merchant_id AND currency = :currency AND kind IN ('day', 'month')
        ORDER BY id LIMIT 1
        FOR UPDATE
        """,
        {"merchant_id": run.merchant_id, "currency": run.currency},
    )
    limits = _of_all(limits_of(session, run.merchant_id, run.currency)) if held else {}
    if not {LimitKind.DAY, LimitKind.MONTH} & limits.keys():
        return Room()
    used = _handed_over(session, run, when)
    return (
        Room()
        .narrowed(limits.get(LimitKind.DAY), used[LimitKind.DAY], WaitsFor.DAY_LIMIT)
        .narrowed(limits.get(LimitKind.MONTH), used[LimitKind.MONTH], WaitsFor.MONTH_LIMIT)
    )


def _handed_over(session: Session, run: PayoutRunRow, when: MerchantTime) -> Mapping[LimitKind, int]:
    """What was handed to rails on this day and in this month, less what certainly did not go."""
    rows = fetch(
        session,
        """
        SELECT CAST(coalesce(sum(net_minor) FILTER (WHERE on_day = :today), 0) AS bigint) AS day_minor,
               CAST(coalesce(sum(net_minor), 0) AS bigint) AS month_minor
        FROM (
            SELECT net_minor, CAST(handed_over_at AT TIME ZONE :time_zone AS date) AS on_day
            FROM payout_item
            WHERE merchant_id = :merchant_id AND currency = :currency AND handed_over_at IS NOT NULL
              AND released_at IS NULL AND handed_over_at >= CAST(:month AS timestamp) AT TIME ZONE :time_zone
        ) AS handed
        WHERE on_day <= :today
        """,
        {
            "merchant_id": run.merchant_id,
            "currency": run.currency,
            "time_zone": when.time_zone,
            "today": when.day,
            "month": when.day.replace(day=1),
        },
    )
    return {LimitKind.DAY: rows[0].day_minor, LimitKind.MONTH: rows[0].month_minor}


def fee_on(session: Session, merchant_id: UUID, *, rail: str, currency: str, on: date) -> int:
    """What each payout costs its payee on a pay day, in minor units."""
    rows = fetch(
        session,
        """
        SELECT amount_minor FROM payout_fee
        WHERE merchant_id = :merchant_id AND rail = :rail AND currency = :currency AND valid_from <= :on
        ORDER BY valid_from DESC, id DESC LIMIT 1
        """,
        {"merchant_id": merchant_id, "rail": rail, "currency": currency, "on": on},
    )
    return rows[0].amount_minor if rows else 0


def stop_sending(session: Session, rail: str, *, merchant_id: UUID, reason: str, by: UUID | None, at: datetime) -> None:
    """Let a rail send nothing more, for one merchant or EVERYBODY. What is under way is looked up all the same."""
    execute(
        session,
        """
        INSERT INTO rail_switch (merchant_id, rail, reason, stopped_by, stopped_at)
        VALUES (:merchant_id, :rail, :reason, :by, :at)
        ON CONFLICT (merchant_id, rail) DO NOTHING
        """,
        {"merchant_id": merchant_id, "rail": rail, "reason": reason, "by": by, "at": at},
    )


def resume_sending(session: Session, rail: str, *, merchant_id: UUID, at: datetime) -> bool:
    """Let a rail send again, and look at its runs at once. Returns whether it had been stopped there."""
    was_stopped = execute(
        session,
        "DELETE FROM rail_switch WHERE merchant_id = :merchant_id AND rail = :rail",
        {"merchant_id": merchant_id, "rail": rail},
    )
    wake_runs(session, at=at, rail=rail, merchant_id=None if merchant_id == EVERYBODY else merchant_id)
    return bool(was_stopped)


def wake_runs(session: Session, *, at: datetime, rail: str | None = None, merchant_id: UUID | None = None) -> None:
    """Look at executing runs at once: of a rail or all, of a merchant or all. at: by our clock."""
    execute(
        session,
        """
        UPDATE job SET due_at = least(job.due_at, :at)
        FROM payout_run AS run
        WHERE job.merchant_id = run.merchant_id AND job.kind = :kind AND job.subject = CAST(run.id AS text)
          AND run.status = 'executing'
          AND (CAST(:rail AS text) IS NULL OR run.rail = :rail)
          AND (CAST(:merchant_id AS uuid) IS NULL OR run.merchant_id = :merchant_id)
        """,
        {"at": at, "kind": EXECUTE, "rail": rail, "merchant_id": merchant_id},
    )
