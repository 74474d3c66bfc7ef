"""When an order's commission may become payable, and what keeps it from moving."""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any, Self
from zoneinfo import ZoneInfo

from service.domain.errors import InvalidTerms
from service.domain.order import Milestone, OrderFacts

JsonObject = dict[str, Any]


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    """Nobody needs to look: the clock alone decides."""
    MANUAL = "manual"
    """A person approves an amount first; more than that waits."""


@dataclass(frozen=True, slots=True)
class RollingSettlement:
    """Payable `hold_days` after a milestone; time in dispute does not count.

    auto_approve_days: with a manual approval, so many days after the order was placed silence counts as approval of all
    of it; None: never. Raises InvalidTerms where no approval is demanded.
    """

    start: Milestone
    hold_days: int
    approval: Approval = Approval.AUTOMATIC
    auto_approve_days: int | None = None

    def __post_init__(self) -> None:
        _check_auto_approve(self.approval, self.auto_approve_days)


def _check_auto_approve(approval: Approval, auto_approve_days: int | None) -> None:
    if auto_approve_days is not None and approval is not Approval.MANUAL:
        raise InvalidTerms("auto_approve_days needs a manual approval: without one nothing waits for a person.")


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
class Statement:
    """A monthly statement, by the merchant's calendar.

    cut_off_on: its date, the last day of what is on it. audit_by: by when the merchant has to have checked it.
    objection_until: the last day on which the payee may object. pays_on: its pay day, rolled.
    """

    cut_off_on: date
    audit_by: date | None
    objection_until: date | None
    pays_on: date

    def as_json(self) -> JsonObject:
        return {
            "cut_off_on": self.cut_off_on.isoformat(),
            "audit_by": None if self.audit_by is None else self.audit_by.isoformat(),
            "objection_until": None if self.objection_until is None else self.objection_until.isoformat(),
            "pays_on": self.pays_on.isoformat(),
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        audit_by, objection_until = stored["audit_by"], stored["objection_until"]
        return cls(
            date.fromisoformat(stored["cut_off_on"]),
            None if audit_by is None else date.fromisoformat(audit_by),
            None if objection_until is None else date.fromisoformat(objection_until),
            date.fromisoformat(stored["pays_on"]),
        )


@dataclass(frozen=True, slots=True)
class StatementSettlement:
    """Payable on the pay day of the statement that an order falls into.

    What became final (milestone, `hold_days`, disputes) by the end of the cut-off day, in the merchant's time zone, is on
    that statement, everything later on the next. cut_off_day, pay_day: of a month, its last where it is shorter. The pay
    day is in the `months_after`-th month after that of the cut-off. off_days: weekly; holidays: single days.
    audit_days, objection_days: days after the cut-off by which the merchant has to have checked the statement, and
    within which the payee may object; neither moves money. auto_approve_days: as in RollingSettlement. advance: the part
    of what still waits for approval on its pay day that is lent then, above 0 and at most 1; None: nothing is.
    Raises InvalidTerms where the pay day may not lie after the cut-off, or not after the last day to object, or where
    there is an advance and no approval to wait for.
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
    auto_approve_days: int | None = None
    audit_days: int | None = None
    objection_days: int | None = None
    advance: Fraction | None = None

    def __post_init__(self) -> None:
        _check_auto_approve(self.approval, self.auto_approve_days)
        if self.months_after == 0 and self.pay_day <= self.cut_off_day:
            raise InvalidTerms("A statement is paid after its cut-off: a later pay_day, or months_after of at least 1.")
        if self.advance is not None and (self.approval is not Approval.MANUAL or not self.advance):
            raise InvalidTerms("An advance needs a manual approval that can be late, and a rate above 0.")
        if self.objection_days is not None and self.objection_days >= self._days_to_pay_at_least():
            raise InvalidTerms(
                f"objection_days has to end before the pay day: at most {self._days_to_pay_at_least() - 1} here, "
                "since that many days lie between cut-off and pay day in the shortest month."
            )

    def statement_of(self, final_at: datetime, zone: ZoneInfo) -> Statement:
        """The statement that is to show what became final at a moment."""
        final_on = final_at.astimezone(zone).date()
        months = final_on.year * 12 + final_on.month - 1
        if final_on.day > self.cut_off_day:
            months += 1
        cut_off_on = _day_of(months, self.cut_off_day)
        pays_on = self._rolled(_day_of(months + self.months_after, self.pay_day))
        return Statement(
            cut_off_on,
            audit_by=None if self.audit_days is None else cut_off_on + timedelta(days=self.audit_days),
            objection_until=None
            if self.objection_days is None
            # A pay day that rolls back takes the last days to object with it.
            else max(cut_off_on, min(cut_off_on + timedelta(days=self.objection_days), pays_on - timedelta(days=1))),
            pays_on=pays_on,
        )

    def pays_at(self, final_at: datetime, zone: ZoneInfo) -> datetime:
        """The beginning of the pay day, for what became final at a moment; never before that moment."""
        pays_on = self.statement_of(final_at, zone).pays_on
        return max(final_at, datetime.combine(pays_on, time(), zone).astimezone(UTC))

    def _days_to_pay_at_least(self) -> int:
        """Fewest days from a cut-off to its pay day, before it rolls."""
        # Four years hold every length of month and of February.
        return min(
            (_day_of(months + self.months_after, self.pay_day) - _day_of(months, self.cut_off_day)).days
            for months in range(2024 * 12, 2028 * 12)
        )

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


def frozen_reasons(facts: OrderFacts) -> tuple[FrozenReason, ...]:
    """All that keeps the order's money from moving on now, what a reader would ask for first in front."""
    reasons = []
    if any(dispute.closed_at is None for dispute in facts.disputes.values()):
        reasons.append(FrozenReason.DISPUTE)
    if facts.open_holds:
        reasons.append(FrozenReason.HOLD)
    if facts.snapshot is not None:
        currency = facts.snapshot.currency
        # A refund taken back, or of carriage alone, takes nothing from goods and so leaves nothing to convert.
        if any(refund.given_back_minor and refund.currency != currency for refund in facts.all_refunds().values()):
            reasons.append(FrozenReason.REFUND_CURRENCY)
    if facts.conflicting:
        reasons.append(FrozenReason.CONFLICTING_VERSION)
    return tuple(reasons)


def frozen_reason(facts: OrderFacts) -> FrozenReason | None:
    """Why the order's money must not move on now, or None."""
    reasons = frozen_reasons(facts)
    return reasons[0] if reasons else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """When an order's commission becomes payable if nothing changes, and all it waits for until then.

    missing: the start milestone, while nobody told of it. final_at: start + hold + the time closed disputes took.
    pays_at: when it is paid by the calendar alone. unapproved: a demanded approval is missing. auto_approves_at: from
    when on silence counts as that approval. frozen: what keeps the money from moving, whatever the clock says.
    """

    missing: Milestone | None
    final_at: datetime | None
    statement: Statement | None
    pays_at: datetime | None
    unapproved: bool
    auto_approves_at: datetime | None
    frozen: tuple[FrozenReason, ...]
    advance: Fraction | None = None
    """The part that is lent on the pay day, if the approval is late by then."""

    @property
    def advance_at(self) -> datetime | None:
        """When an advance is due if nothing changes: on the pay day, unless silence counts as approval by then."""
        if self.advance is None or not self.unapproved or self.pays_at is None:
            return None
        silent_by_then = self.auto_approves_at is not None and self.auto_approves_at <= self.pays_at
        return None if silent_by_then else self.pays_at

    @property
    def settles_at(self) -> datetime | None:
        """When it may become payable once nothing is frozen; None while something is missing."""
        if self.pays_at is None or not self.unapproved:
            return self.pays_at
        return None if self.auto_approves_at is None else max(self.pays_at, self.auto_approves_at)

    def as_json(self) -> JsonObject:
        """As it is kept with the commission; what says nothing is left out."""
        told = {
            "missing": self.missing and self.missing.value,
            "final_at": self.final_at and self.final_at.isoformat(),
            "statement": self.statement and self.statement.as_json(),
            "pays_at": self.pays_at and self.pays_at.isoformat(),
            "unapproved": self.unapproved,
            "auto_approves_at": self.auto_approves_at and self.auto_approves_at.isoformat(),
            "frozen": [reason.value for reason in self.frozen],
            "advance": self.advance and str(self.advance),
        }
        return {name: value for name, value in told.items() if value}

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        """From `as_json`."""

        def moment(name: str) -> datetime | None:
            return datetime.fromisoformat(stored[name]) if name in stored else None

        return cls(
            missing=Milestone(stored["missing"]) if "missing" in stored else None,
            final_at=moment("final_at"),
            statement=Statement.of_json(stored["statement"]) if "statement" in stored else None,
            pays_at=moment("pays_at"),
            unapproved=stored.get("unapproved", False),
            auto_approves_at=moment("auto_approves_at"),
            frozen=tuple(FrozenReason(reason) for reason in stored.get("frozen", ())),
            advance=Fraction(stored["advance"]) if "advance" in stored else None,
        )


def outlook(
    facts: OrderFacts,
    terms: Settlement,
    *,
    approved: bool,
    time_zone: str,
    reviewed: bool = False,
    suspected: bool = False,
) -> Outlook:
    """What an order's commission waits for. approved: a person's approval is there.

    reviewed: the programme is paused so that a person has to approve, whatever the terms say; silence does not count then.
    suspected: the order is held because the buyer may be the affiliate.

    Final it is at start milestone + hold + the time closed disputes took after the start; rolling settlement pays at once
    then, a statement on its pay day. Where the start is missing nothing is guessed: no later milestone says when it was.
    """
    unapproved = (terms.approval is Approval.MANUAL or reviewed) and not approved
    auto_approves_at = None
    if unapproved and not reviewed and terms.auto_approve_days is not None and facts.snapshot is not None:
        auto_approves_at = facts.snapshot.placed_at + timedelta(days=terms.auto_approve_days)
    start = facts.milestones.get(terms.start)
    frozen = (*frozen_reasons(facts), *((FrozenReason.SELF_PURCHASE,) if suspected else ()))
    if start is None:
        return Outlook(terms.start, None, None, None, unapproved, auto_approves_at, frozen)
    disputed = (
        (dispute.opened_at, dispute.closed_at) for dispute in facts.disputes.values() if dispute.closed_at is not None
    )
    final_at = start + timedelta(days=terms.hold_days) + time_covered(disputed, since=start)
    if isinstance(terms, RollingSettlement):
        return Outlook(None, final_at, None, final_at, unapproved, auto_approves_at, frozen)
    zone = ZoneInfo(time_zone)
    statement, pays_at = terms.statement_of(final_at, zone), terms.pays_at(final_at, zone)
    return Outlook(None, final_at, statement, pays_at, unapproved, auto_approves_at, frozen, terms.advance)


def together(outlooks: Sequence[Outlook]) -> Outlook:
    """The outlook of a commission made of several credits: it waits for all that any of them waits for, at least one.

    Nothing is lent on it: what is late of one credit says nothing of the others.
    """
    first, *others = outlooks
    if not others:
        return first
    pay_days = [each.pays_at for each in outlooks]
    finals = [each.final_at for each in outlooks]
    silences = [each.auto_approves_at for each in outlooks if each.unapproved]
    dated = [each for each in outlooks if each.pays_at is not None]
    last = max(dated, key=lambda each: each.pays_at or datetime.min.replace(tzinfo=UTC), default=first)
    known = None not in pay_days
    return Outlook(
        missing=next((each.missing for each in outlooks if each.missing is not None), None),
        final_at=max((at for at in finals if at is not None), default=None) if known else None,
        statement=last.statement if known else None,
        pays_at=last.pays_at if known else None,
        unapproved=bool(silences),
        auto_approves_at=None if None in silences else max((at for at in silences if at is not None), default=None),
        frozen=first.frozen,
    )


def settles_at(facts: OrderFacts, terms: Settlement, *, approved: bool, time_zone: str) -> datetime | None:
    """When the order's commission may become payable; None while something is missing. approved: as in `outlook`."""
    return outlook(facts, terms, approved=approved, time_zone=time_zone).settles_at


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
