"""When an order's commission may become payable, and what keeps it from moving."""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum, StrEnum
from zoneinfo import ZoneInfo

from service.domain.errors import InvalidTerms
from service.domain.order import Milestone, OrderFacts


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    """Nobody needs to look: the clock alone decides."""
    MANUAL = "manual"
    """A person approves an amount first; more than that waits."""


@dataclass(frozen=True, slots=True)
class RollingSettlement:
    """Payable `hold_days` after a milestone; time in dispute does not count."""

    start: Milestone
    hold_days: int
    approval: Approval = Approval.AUTOMATIC


class Weekday(IntEnum):
    """As `date.isoweekday` numbers them."""

    MON = 1
    TUE = 2
    WED = 3
    THU = 4
    FRI = 5
    SAT = 6
    SUN = 7


class Roll(StrEnum):
    """Where a pay day goes that is no business day."""

    NEXT = "next"
    PREVIOUS = "previous"
    NONE = "none"
    """It stays."""


ROLL_DAYS_MAX = 31
"""Further than this no pay day rolls: a calendar that closes a whole month is a mistake."""


@dataclass(frozen=True, slots=True)
class StatementSettlement:
    """Payable on the pay day of the statement that an order falls into.

    What became final (milestone, `hold_days`, disputes) by the end of the cut-off day, in the merchant's time zone, is on
    that statement, everything later on the next. cut_off_day, pay_day: of a month, its last where it is shorter. The pay
    day is in the `months_after`-th month after that of the cut-off. off_days: weekly; holidays: single days.
    Raises InvalidTerms where the pay day may not lie after the cut-off.
    """

    start: Milestone
    hold_days: int
    cut_off_day: int
    months_after: int
    pay_day: int
    roll: Roll = Roll.NEXT
    off_days: frozenset[Weekday] = frozenset()
    holidays: frozenset[date] = frozenset()
    approval: Approval = Approval.AUTOMATIC

    def __post_init__(self) -> None:
        if self.months_after == 0 and self.pay_day <= self.cut_off_day:
            raise InvalidTerms("A statement is paid after its cut-off: a later pay_day, or months_after of at least 1.")

    def pays_at(self, final_at: datetime, zone: ZoneInfo) -> datetime:
        """The beginning of the pay day, for what became final at a moment; never before that moment."""
        final_on = final_at.astimezone(zone).date()
        months = final_on.year * 12 + final_on.month - 1 + self.months_after
        if final_on.day > self.cut_off_day:
            months += 1
        pays_on = self._rolled(_day_of(months, self.pay_day))
        return max(final_at, datetime.combine(pays_on, time(), zone).astimezone(UTC))

    def _rolled(self, day: date) -> date:
        step = timedelta(days={Roll.NEXT: 1, Roll.PREVIOUS: -1, Roll.NONE: 0}[self.roll])
        rolled = day
        for _ in range(ROLL_DAYS_MAX):
            if rolled.isoweekday() not in self.off_days and rolled not in self.holidays:
                return rolled
            rolled += step
        return day


def _day_of(months: int, day: int) -> date:
    """A day of the month that is so many months after January of the year 0; the last where it is shorter."""
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day, monthrange(year, month + 1)[1]))


Settlement = RollingSettlement | StatementSettlement


class FrozenReason(StrEnum):
    DISPUTE = "dispute_open"
    HOLD = "hold_open"
    SELF_PURCHASE = "self_purchase_suspected"
    """The buyer may be the affiliate, and the terms want a person to look."""
    REFUND_CURRENCY = "refund_currency"
    """A refund came in another currency than the order's newest snapshot; we never convert by guess."""
    CONFLICTING_VERSION = "conflicting_version"
    """The shop sent two different bodies under one version; the next version resolves it."""


def frozen_reason(facts: OrderFacts) -> FrozenReason | None:
    """Why the order's money must not move on now, or None."""
    if any(dispute.closed_at is None for dispute in facts.disputes.values()):
        return FrozenReason.DISPUTE
    if facts.open_holds:
        return FrozenReason.HOLD
    if facts.snapshot is not None:
        currency = facts.snapshot.currency
        # A refund taken back, or of carriage alone, takes nothing from goods and so leaves nothing to convert.
        if any(refund.given_back_minor and refund.currency != currency for refund in facts.all_refunds().values()):
            return FrozenReason.REFUND_CURRENCY
    return FrozenReason.CONFLICTING_VERSION if facts.conflicting else None


def settles_at(facts: OrderFacts, terms: Settlement, *, approved: bool, time_zone: str) -> datetime | None:
    """When the order's commission may become payable; None while something is missing.

    Final it is at start milestone + hold + the time closed disputes took after the start; rolling settlement pays at once
    then, a statement on its pay day. approved: a demanded approval is there.
    """
    start = facts.milestones.get(terms.start)
    if start is None or (terms.approval is Approval.MANUAL and not approved):
        return None
    disputed = (
        (dispute.opened_at, dispute.closed_at) for dispute in facts.disputes.values() if dispute.closed_at is not None
    )
    final_at = start + timedelta(days=terms.hold_days) + time_covered(disputed, since=start)
    return terms.pays_at(final_at, ZoneInfo(time_zone)) if isinstance(terms, StatementSettlement) else final_at


def time_covered(spans: Iterable[tuple[datetime, datetime]], *, since: datetime) -> timedelta:
    """Length of the union of spans after `since`; overlaps count once, a span that ends before it starts not at all."""
    covered = timedelta()
    reached = since
    for begin, end in sorted(spans):
        # A shop may tell a closing before the opening; such a span covers nothing.
        if end > max(begin, reached):
            covered += end - max(begin, reached)
            reached = end
    return covered
