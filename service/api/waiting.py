"""When commissions become payable and what they wait for, as the API shows it."""

from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.api.views import Moment, MoneyView, View
from service.domain.commission import CommissionReason, Places
from service.domain.order import Milestone
from service.domain.payout import Excluded, lowest_minimum
from service.domain.settlement import Outlook, Statement
from service.domain.waiting import Owed, Wait, WaitCode, expected_at, waits_for
from service.infra.db import fetch
from service.payouts.left_out import left_out
from service.payouts.minimums import promised_minimums


class MyLeftOutView(View):
    """Why the newest payout run that looked at a balance has no payout for it. Runs count once they are submitted."""

    reason_code: Excluded
    on: date
    """The run's pay day, by the merchant's calendar."""
    looked_at: Moment
    """When the run looked; what was mended since counts for the next one."""
    payable: MoneyView
    """What the run saw and did not pay, what earlier payouts left over included. It stays payable."""
    short: MoneyView | None
    """How much the balance lacks now to be paid out: up to the programme's minimum, or of a debt up to zero. Null: nothing."""

    @classmethod
    def of(cls, owed: Owed, currency: str) -> Self | None:
        if owed.left_out is None:
            return None

        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=currency)

        return cls(
            reason_code=owed.left_out.reason,
            on=owed.left_out.on,
            looked_at=owed.left_out.at,
            payable=money(owed.left_out.owed_minor),
            short=money(owed.short_minor) if owed.short_minor else None,
        )


class WaitView(View):
    """One thing a part of the commission waits for."""

    code: WaitCode
    until: Moment | None
    """When that is over by itself; of an approval, from when on silence counts as one. Null: somebody has to act."""
    milestone: Milestone | None
    """Of code milestone: what has not been told of the order."""
    short: MoneyView | None
    """Of minimum_payout and debt: how much the balance lacks."""
    reason_code: Excluded | None
    """Of left_out: what the newest payout run found; it waits for a run that does not find it."""
    on: date | None
    """Of left_out: that run's pay day."""

    @classmethod
    def of(cls, wait: Wait, currency: str) -> Self:
        short = None if wait.short_minor is None else MoneyView(amount_minor=wait.short_minor, currency=currency)
        return cls(
            code=wait.code,
            until=wait.until,
            milestone=wait.milestone,
            short=short,
            reason_code=None if wait.left_out is None else wait.left_out.reason,
            on=None if wait.left_out is None else wait.left_out.on,
        )


class StatementDaysView(View):
    """The statement a commission is on, by the merchant's calendar."""

    cut_off_on: date
    """The statement's date."""
    audit_by: date | None
    """By when the merchant has checked it; null where the terms name no day."""
    objection_until: date | None
    """The last day to object; null where the terms name none."""
    pays_on: date
    """Its pay day."""

    @classmethod
    def of(cls, statement: Statement) -> Self:
        return cls(
            cut_off_on=statement.cut_off_on,
            audit_by=statement.audit_by,
            objection_until=statement.objection_until,
            pays_on=statement.pays_on,
        )


class Waiting:
    """What the commissions of one answer wait for, looked up together: a few statements, however many there are.

    rows: of commissions.select_commissions. now: by the merchant's clock.
    """

    def __init__(self, session: Session, merchant_id: UUID, rows: Sequence[Row[Any]], *, now: datetime) -> None:
        self._now = now
        self._owed = owed_of(session, merchant_id, {row.payee_id for row in rows if row.payable_minor > 0}, at=now)

    def expected_at(self, row: Row[Any]) -> datetime | None:
        """When what is pending becomes payable if nothing changes."""
        return expected_at(settles_at=row.settles_at, places=_places(row), approved_minor=row.approved_minor)

    def statement(self, row: Row[Any]) -> StatementDaysView | None:
        """The days of its statement; None without one, or before it is known which."""
        outlook = _outlook(row)
        return None if outlook is None or outlook.statement is None else StatementDaysView.of(outlook.statement)

    def waits(self, row: Row[Any]) -> list[WaitView]:
        """All that its parts wait for."""
        waits = waits_for(
            _outlook(row),
            now=self._now,
            reason=CommissionReason(row.reason_code),
            places=_places(row),
            approved_minor=row.approved_minor,
            settles_at=row.settles_at,
            in_payout_minor=row.in_payout_minor,
            paid_minor=row.paid_minor,
            owed=self._owed.get((row.payee_id, row.currency)),
        )
        return [WaitView.of(wait, row.currency) for wait in waits]


def _places(row: Row[Any]) -> Places:
    return Places(row.pending_minor, row.held_minor, row.settled_minor)


def _outlook(row: Row[Any]) -> Outlook | None:
    return None if row.outlook is None else Outlook.of_json(row.outlook)


def owed_of(session: Session, merchant_id: UUID, payees: Set[UUID], *, at: datetime) -> Mapping[tuple[UUID, str], Owed]:
    """Balances, minimums, and why the newest run left them out, by payee and currency. at: by the merchant's clock."""
    if not payees:
        return {}
    payee_ids = sorted(payees)
    promised = promised_minimums(session, merchant_id, payee_ids, at=at)
    told = left_out(session, merchant_id, payee_ids)
    balances = fetch(
        session,
        """
        SELECT owner_id, currency,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'payable'), 0) AS payable_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'taxed_carry'), 0) AS carried_minor
        FROM balance
        WHERE merchant_id = :merchant_id AND owner_id = ANY(CAST(:payee_ids AS uuid[]))
          AND kind IN ('payable', 'taxed_carry')
        GROUP BY owner_id, currency
        """,
        {"merchant_id": merchant_id, "payee_ids": payee_ids},
    )
    return {
        (row.owner_id, row.currency): Owed(
            row.payable_minor,
            row.carried_minor,
            lowest_minimum(promised.get(row.owner_id, ()), row.currency),
            told.get((row.owner_id, row.currency)),
        )
        for row in balances
    }
