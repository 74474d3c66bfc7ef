"""What each part of a commission still waits for, from what is kept with it and the present moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from service.domain.commission import CommissionReason, Places
from service.domain.order import Milestone
from service.domain.payout import Excluded
from service.domain.settlement import FrozenReason, Outlook


class WaitCode(StrEnum):
    """A closed list; codes are never renamed."""

    MILESTONE = "milestone"
    """That the order is paid, fulfilled, delivered or completed, as the terms say."""
    HOLD_PERIOD = "hold_period"
    """The days in which the order can be returned."""
    APPROVAL = "approval"
    """A person, or the deadline after which silence counts as approval."""
    STATEMENT = "statement"
    """The pay day of its statement."""
    DISPUTE = "dispute_open"
    HOLD = "hold_open"
    SELF_PURCHASE = "self_purchase_suspected"
    REFUND_CURRENCY = "refund_currency"
    CONFLICTING_VERSION = "conflicting_version"
    PERIOD = "period"
    """The orders of its period: it stands where they stand."""
    SETTLEMENT = "settlement"
    """Nothing: it is due, and settled within a minute."""
    DEBT = "debt"
    """The payee owes from before; what is earned next pays it off first."""
    MINIMUM = "minimum_payout"
    """The balance is too small to be paid out."""
    LEFT_OUT = "left_out"
    """That a payout run does not find the reason for which the newest one left it out."""
    PAYOUT_RUN = "payout_run"
    """Finance makes one."""
    PAYOUT = "payout"
    """It is in a payout that the rail has not accepted yet."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why the newest payout run that considered a payee has no payout for them.

    on: the run's pay day. at: when the run was made, or dropped them. owed_minor: the balance it saw, with what was carried.
    """

    reason: Excluded
    on: date
    at: datetime
    owed_minor: int


@dataclass(frozen=True, slots=True)
class Wait:
    """until: when it is over by itself. milestone: the one that is missing. short_minor: how much the balance lacks.

    left_out: of code left_out.
    """

    code: WaitCode
    until: datetime | None = None
    milestone: Milestone | None = None
    short_minor: int | None = None
    left_out: LeftOut | None = None


@dataclass(frozen=True, slots=True)
class Owed:
    """The balance a payout is made of, in the commission's currency. minimum_minor: less than that is not paid out."""

    payable_minor: int
    carried_minor: int
    minimum_minor: int
    left_out: LeftOut | None = None

    @property
    def short_minor(self) -> int:
        """How much it lacks to be paid out; 0 where it is enough. A debt first, as domain.payout.why_excluded asks."""
        if self.payable_minor < 0:
            return -self.payable_minor
        return max(0, self.minimum_minor - self.payable_minor - self.carried_minor)


def expected_at(*, settles_at: datetime | None, places: Places, approved_minor: int | None) -> datetime | None:
    """When what is pending becomes payable if nothing changes; None where that is not known, or nothing is pending."""
    limited = approved_minor is not None and approved_minor <= places.settled_minor
    return settles_at if places.pending_minor and not limited else None


def waits_for(
    outlook: Outlook | None,
    *,
    now: datetime,
    reason: CommissionReason,
    places: Places,
    approved_minor: int | None,
    settles_at: datetime | None,
    in_payout_minor: int,
    paid_minor: int,
    owed: Owed | None,
) -> list[Wait]:
    """Everything a commission waits for, in the order in which its parts move on; empty where all is paid or nothing earned.

    outlook: as assessed; None for a commission assessed before outlooks were kept, whose reason has to do. owed: needed
    where a part is payable.
    """
    waits: list[Wait] = []
    if places.pending_minor or places.held_minor:
        if outlook is None:
            waits += _by_reason(reason, settles_at, now)
        else:
            waits += _before_settlement(outlook, now)
        above = approved_minor is not None and approved_minor <= places.settled_minor
        if places.pending_minor and above and all(wait.code is not WaitCode.APPROVAL for wait in waits):
            waits.append(Wait(WaitCode.APPROVAL))
        if not waits:
            waits.append(Wait(WaitCode.SETTLEMENT))
    if places.settled_minor - in_payout_minor - paid_minor > 0 and owed is not None:
        waits.append(_before_payout(owed))
    if in_payout_minor > 0:
        waits.append(Wait(WaitCode.PAYOUT))
    return waits


def _before_settlement(outlook: Outlook, now: datetime) -> Iterator[Wait]:
    for reason in outlook.frozen:
        yield Wait(WaitCode(reason.value))
    if outlook.missing is not None:
        yield Wait(WaitCode.MILESTONE, milestone=outlook.missing)
    if outlook.final_at is not None and outlook.final_at > now:
        yield Wait(WaitCode.HOLD_PERIOD, until=outlook.final_at)
    if outlook.unapproved and (outlook.auto_approves_at is None or outlook.auto_approves_at > now):
        yield Wait(WaitCode.APPROVAL, until=outlook.auto_approves_at)
    if outlook.statement is not None and outlook.pays_at is not None and outlook.pays_at > now:
        yield Wait(WaitCode.STATEMENT, until=outlook.pays_at)


_OF_PERIODS = (CommissionReason.PERIOD_BONUS, CommissionReason.PERIOD_CAP)


def _by_reason(reason: CommissionReason, settles_at: datetime | None, now: datetime) -> Iterator[Wait]:
    if reason.value in {each.value for each in FrozenReason}:
        yield Wait(WaitCode(reason.value))
    elif reason in _OF_PERIODS:
        yield Wait(WaitCode.PERIOD)
    elif reason is CommissionReason.AWAITING_MILESTONE:
        yield Wait(WaitCode.MILESTONE)
    elif reason is CommissionReason.AWAITING_APPROVAL:
        yield Wait(WaitCode.APPROVAL, until=settles_at)
    elif settles_at is not None and settles_at > now:
        statement = reason is CommissionReason.AWAITING_STATEMENT
        yield Wait(WaitCode.STATEMENT if statement else WaitCode.HOLD_PERIOD, until=settles_at)


_OVER: Final = frozenset(
    {
        # What the balance is now has been asked already.
        Excluded.IN_DEBT,
        Excluded.BELOW_MINIMUM,
        # The other payout has the money it holds; this is what came since.
        Excluded.LIVE_ITEM,
        # That run was not theirs.
        Excluded.OTHER_RAIL,
        # Something was no longer as approved. The next run takes it as it is.
        Excluded.METHOD_CHANGED,
        Excluded.TAX_RULE_CHANGED,
        Excluded.TAX_CHANGED,
        Excluded.CONTENT_CHANGED,
    }
)
"""Reasons of a run that keep nobody out of the next one."""


def _before_payout(owed: Owed) -> Wait:
    """As domain.payout.why_excluded asks first: a debt, then the minimum; then what only a run finds out."""
    if owed.short_minor:
        return Wait(WaitCode.DEBT if owed.payable_minor < 0 else WaitCode.MINIMUM, short_minor=owed.short_minor)
    if owed.left_out is not None and owed.left_out.reason not in _OVER:
        return Wait(WaitCode.LEFT_OUT, left_out=owed.left_out)
    return Wait(WaitCode.PAYOUT_RUN)
