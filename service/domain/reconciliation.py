"""Reconciling: a merchant's file of orders and a bank's lines beside our books, what differs, and what explains it.

Pure. Both sides of an order are read by the same functions, so a file made of our own data differs in nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from service.domain.ledger import next_day
from service.domain.order import JsonObject, OrderFacts, goods_part, net_lines

ZONES_APART = timedelta(hours=14)
"""How far from a period's edge another zone's midnight can lie: UTC+14 is the furthest there is."""

BANK_DAYS = 5
"""Days after which a bank has booked what was sent: a weekend, a holiday and a day of its own."""

_NOT_LETTERS = re.compile(r"[^0-9a-z]+")


class About(StrEnum):
    """What is compared with what."""

    ORDER = "order"
    """The merchant's file of orders with what commissions are computed from."""
    COMMISSION = "commission"
    """What the merchant's file says that commissions on an order come to, with what was computed."""
    PAYOUT = "payout"
    """A bank's or provider's lines with what we booked as paid."""


class DifferenceKind(StrEnum):
    MISSING = "missing"
    """In the file, not here."""
    EXTRA = "extra"
    """Here, not in the file."""
    AMOUNT = "amount"
    CURRENCY = "currency"
    STATUS = "status"
    """Cancelled, or come back, on one side only."""
    DUPLICATE = "duplicate"
    """More than once in the file."""


class Explanation(StrEnum):
    """Why a difference is none to worry about, or where to look. Codes are never renamed."""

    PARKED_IN_INBOX = "parked_in_inbox"
    """A delivery that names it was not understood."""
    WAITING_IN_INBOX = "waiting_in_inbox"
    """Something of it came, and the order itself did not."""
    IGNORED_IN_INBOX = "ignored_in_inbox"
    """It came and is not to count: a test order."""
    PERIOD_BOUNDARY = "period_boundary"
    """So near to the period's edge that their calendar, or the bank's next days, put it on the other side."""
    OUTSIDE_PERIOD = "outside_period"
    """Of other days: it is here, and not of this period."""
    REFUND_NOT_IN_FILE = "refund_not_in_file"
    REFUND_NOT_HERE = "refund_not_here"
    ORDER_DIFFERS = "order_differs"
    """The commission is of another amount because the order is."""
    NEWER_HERE = "newer_here"
    """We know a newer version of the order than the file shows."""
    NEWER_IN_FILE = "newer_in_file"
    """The file shows a newer version than we were told of."""
    NOTHING_LEFT = "nothing_left"
    """Cancelled, or refunded whole: their export may leave it out."""
    SAME_TWICE = "same_twice"
    """The file says the same thing twice."""
    NEWEST_COUNTS = "newest_counts"
    """The file shows several versions of one order; the newest was compared."""
    PAYOUT_UNKNOWN = "payout_unknown"
    """We do not know yet whether it was paid: the line says it was."""
    PAYOUT_RETURNED = "payout_returned"
    """It came back."""
    BANK_FEE = "bank_fee"
    EARLIER_DIFFERENCE = "earlier_difference"
    """An earlier reconciliation found it, and nobody has explained it yet."""


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both included, in the merchant's time zone."""

    begins_on: date
    until: date
    time_zone: str

    @property
    def since(self) -> datetime:
        return datetime.combine(self.begins_on, time(), ZoneInfo(self.time_zone))

    @property
    def before(self) -> datetime:
        return datetime.combine(next_day(self.until), time(), ZoneInfo(self.time_zone))

    def holds(self, at: datetime) -> bool:
        return self.since <= at < self.before

    def is_near_edge(self, at: datetime) -> bool:
        """Whether another calendar may put a moment on the other side of an edge."""
        return min(abs(at - self.since), abs(at - self.before)) <= ZONES_APART

    def has_day(self, on: date) -> bool:
        return self.begins_on <= on <= self.until

    def is_within_bank_days(self, on: date) -> bool:
        """Whether a bank may book what we booked on a day, or have booked it, on the other side of an edge."""
        return min(abs((on - edge).days) for edge in (self.begins_on, self.until)) <= BANK_DAYS


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What one side says of an order. refunds: by id, what is goods of each; amounts in minor units."""

    placed_at: datetime
    version_at: datetime
    currency: str
    goods_minor: int
    net_minor: int
    cancelled: bool
    refunds: Mapping[str, int]

    @property
    def counts_minor(self) -> int:
        """What commissions are computed from: goods after refunds, nothing of a cancelled order."""
        return 0 if self.cancelled else self.net_minor

    def as_json(self) -> JsonObject:
        return {
            "placed_at": self.placed_at.isoformat(),
            "version_at": self.version_at.isoformat(),
            "currency": self.currency,
            "goods_minor": self.goods_minor,
            "net_minor": self.net_minor,
            "cancelled": self.cancelled,
            "refunds": dict(sorted(self.refunds.items())),
        }


def figures_of(known: OrderFacts) -> OrderFigures | None:
    """What facts say of an order; None while only events about it are known."""
    snapshot, version_at = known.snapshot, known.version_at
    if snapshot is None or version_at is None:
        return None
    refunds = known.all_refunds()
    return OrderFigures(
        placed_at=snapshot.placed_at,
        version_at=version_at,
        currency=snapshot.currency,
        goods_minor=snapshot.goods_minor,
        net_minor=sum(line.net_minor for line in net_lines(snapshot, refunds)),
        cancelled=snapshot.cancelled,
        refunds={
            refund_id: refund.goods_minor + goods_part(refund.gross_minor, snapshot)
            for refund_id, refund in refunds.items()
            if refund.currency == snapshot.currency
        },
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. Amounts in minor units of currency; None where a side has nothing of the period.

    explained_ref: the thing that explains it, by its public id or the shop's.
    """

    kind: DifferenceKind
    currency: str
    theirs_minor: int | None
    ours_minor: int | None
    explained_by: Explanation | None = None
    explained_ref: str = ""

    def unless_explained(self, by: Explanation | None, ref: str = "") -> "Difference":
        """The same with an explanation, where it has none yet."""
        return self if self.explained_by or by is None else replace(self, explained_by=by, explained_ref=ref)


@dataclass(frozen=True, slots=True)
class Hint:
    """What else is known of an order: deliveries about it that do not count."""

    explained_by: Explanation
    ref: str


@dataclass(frozen=True, slots=True)
class Told:
    """How often the file told an order, and whether it said the same each time."""

    times: int = 1
    is_same: bool = True


def compare_order(
    theirs: OrderFigures | None,
    ours: OrderFigures | None,
    span: Span,
    *,
    told: Told | None = None,
    hint: Hint | None = None,
) -> list[Difference]:
    """What differs between a file's order and ours. Nothing where neither side has it in the period.

    So what the file comes to, less what we have of the period, is what the differences come to: of MISSING, EXTRA,
    AMOUNT and STATUS theirs less ours.
    """
    found: list[Difference] = []
    if theirs is None:
        if ours is not None and span.holds(ours.placed_at):
            found.append(_extra_order(ours, span))
        return found
    if told is not None and told.times > 1:
        why = Explanation.SAME_TWICE if told.is_same else Explanation.NEWEST_COUNTS
        counts = theirs.counts_minor
        found.append(Difference(DifferenceKind.DUPLICATE, theirs.currency, counts * told.times, counts, why))
    if ours is None:
        missing = Difference(DifferenceKind.MISSING, theirs.currency, theirs.counts_minor, None)
        found.append(missing.unless_explained(hint.explained_by, hint.ref) if hint else missing)
        return found
    differences = _compared(theirs, ours, hint)
    if span.holds(ours.placed_at):
        return found + differences
    why = Explanation.PERIOD_BOUNDARY if span.is_near_edge(ours.placed_at) else Explanation.OUTSIDE_PERIOD
    return [*found, _not_of_period(theirs.currency, theirs.counts_minor, differences, why)]


def compare_commission(
    theirs_minor: int | None,
    currency: str,
    ours: OrderFigures | None,
    commissions: Mapping[str, int],
    span: Span,
    *,
    order_differs: bool,
) -> list[Difference]:
    """What differs between the commission that a file tells of an order and ours; nothing where it tells none.

    commissions: what those of all its payees come to, by currency. An order that is not here, or of other days, is told as
    such and has none to compare.
    """
    if theirs_minor is None or ours is None or not span.holds(ours.placed_at):
        return []
    ours_minor = commissions.get(currency, 0)
    if theirs_minor == ours_minor:
        return []
    why = Explanation.ORDER_DIFFERS if order_differs else None
    return [Difference(DifferenceKind.AMOUNT, currency, theirs_minor, ours_minor, why)]


def _not_of_period(
    currency: str, theirs_minor: int, differences: Sequence[Difference], why: Explanation | None
) -> Difference:
    """What the file has of the period and we do not. differences: between the two sides, whatever the days.

    Other days explain that it is not of the period here, never that it says something else.
    """
    is_explained = all(each.explained_by for each in differences)
    return Difference(DifferenceKind.MISSING, currency, theirs_minor, None, why if is_explained else None)


def _extra_order(ours: OrderFigures, span: Span) -> Difference:
    extra = Difference(DifferenceKind.EXTRA, ours.currency, None, ours.counts_minor)
    if ours.counts_minor == 0:
        return extra.unless_explained(Explanation.NOTHING_LEFT)
    return extra.unless_explained(Explanation.PERIOD_BOUNDARY if span.is_near_edge(ours.placed_at) else None)


def _compared(theirs: OrderFigures, ours: OrderFigures, hint: Hint | None) -> list[Difference]:
    kind: DifferenceKind
    if theirs.currency != ours.currency:
        kind = DifferenceKind.CURRENCY
    elif theirs.cancelled != ours.cancelled:
        kind = DifferenceKind.STATUS
    elif theirs.counts_minor != ours.counts_minor:
        kind = DifferenceKind.AMOUNT
    else:
        return []
    difference = Difference(kind, theirs.currency, theirs.counts_minor, ours.counts_minor)
    if kind is DifferenceKind.AMOUNT:
        difference = _by_refunds(difference, theirs, ours)
    if hint is not None:
        difference = difference.unless_explained(hint.explained_by, hint.ref)
    if theirs.version_at != ours.version_at:
        is_newer_here = ours.version_at > theirs.version_at
        difference = difference.unless_explained(
            Explanation.NEWER_HERE if is_newer_here else Explanation.NEWER_IN_FILE, ours.version_at.isoformat()
        )
    return [difference]


def _by_refunds(difference: Difference, theirs: OrderFigures, ours: OrderFigures) -> Difference:
    """Explain a difference by refunds that one side does not know, where they are all of it."""
    only_here = {each: amount for each, amount in ours.refunds.items() if each not in theirs.refunds}
    only_there = {each: amount for each, amount in theirs.refunds.items() if each not in ours.refunds}
    if max(0, theirs.net_minor - sum(only_here.values())) != max(0, ours.net_minor - sum(only_there.values())):
        return difference
    if only_here:
        return difference.unless_explained(Explanation.REFUND_NOT_IN_FILE, ", ".join(sorted(only_here)))
    return difference.unless_explained(Explanation.REFUND_NOT_HERE, ", ".join(sorted(only_there)))


class LineKind(StrEnum):
    PAYMENT = "payment"
    """Money that left."""
    RETURNED = "returned"
    """Money that came back."""
    FEE = "fee"
    """What the bank took for it."""


@dataclass(frozen=True, slots=True, order=True)
class BankLine:
    """One line of a bank or provider. amount_minor: above zero, whatever its direction; kind says which."""

    booked_on: date
    kind: LineKind
    reference: str
    end_to_end_id: str
    currency: str
    amount_minor: int

    def as_json(self) -> JsonObject:
        return {
            "booked_on": self.booked_on.isoformat(),
            "kind": self.kind.value,
            "reference": self.reference,
            "end_to_end_id": self.end_to_end_id,
            "currency": self.currency,
            "amount_minor": self.amount_minor,
        }


@dataclass(frozen=True, slots=True)
class PayoutFigures:
    """What we know of a payout. accepted_on: booking day on which it counts as paid; None: it does not.

    came_back_minor: booked as come back in the period; came_back_ever_minor: at any time, on the days came_back_on.
    may_have_paid: nobody can say. sent_along: what we called it where the bank may repeat it: ids of ours.
    """

    state: str
    currency: str
    net_minor: int
    accepted_on: date | None
    came_back_minor: int = 0
    came_back_ever_minor: int = 0
    came_back_on: Sequence[date] = ()
    may_have_paid: bool = False
    sent_along: frozenset[str] = frozenset()

    def as_json(self) -> JsonObject:
        return {
            "state": self.state,
            "currency": self.currency,
            "net_minor": self.net_minor,
            "accepted_on": self.accepted_on.isoformat() if self.accepted_on else None,
            "came_back_minor": self.came_back_minor,
            "came_back_on": [day.isoformat() for day in self.came_back_on],
        }


def letters_of(text: str) -> str:
    """A reference without what banks change of it: small letters and digits alone."""
    return _NOT_LETTERS.sub("", text.lower())


def compare_line(line: BankLine) -> Difference:
    """A line that names no payout of ours."""
    missing = Difference(DifferenceKind.MISSING, line.currency, line.amount_minor, None)
    return missing.unless_explained(Explanation.BANK_FEE if line.kind is LineKind.FEE else None)


def compare_payout(lines: Sequence[BankLine], ours: PayoutFigures, span: Span) -> list[Difference]:
    """What differs between the lines that name a payout and what we booked of it. lines: in any order, maybe none."""
    paid = [line for line in lines if line.kind is LineKind.PAYMENT]
    back = [line for line in lines if line.kind is LineKind.RETURNED]
    fees = [line for line in lines if line.kind is LineKind.FEE]
    is_of_period = ours.accepted_on is not None and span.has_day(ours.accepted_on)
    found: list[Difference] = []
    if paid:
        found += _compared_payments(paid, dict(_totals(fees)).get(ours.currency, 0), ours)
        if not is_of_period:
            why = _why_not_of_period(ours, span)
            found = [_not_of_period(currency, total, found, why) for currency, total in _totals(paid)]
    elif is_of_period:
        found.append(_extra_payout(ours, span))
    returns = _compared_returns(back, ours, span)
    if not lines and is_of_period and ours.came_back_minor >= ours.net_minor:
        # In the bank's file it neither left nor came back, which comes to the same.
        returns = [each.unless_explained(Explanation.PAYOUT_RETURNED) for each in returns]
    return found + returns


def _totals(lines: Iterable[BankLine]) -> list[tuple[str, int]]:
    """What lines come to, currencies kept apart."""
    totals: dict[str, int] = defaultdict(int)
    for line in lines:
        totals[line.currency] += line.amount_minor
    return sorted(totals.items())


def _why_not_of_period(ours: PayoutFigures, span: Span) -> Explanation | None:
    if ours.accepted_on is None:
        return Explanation.PAYOUT_UNKNOWN if ours.may_have_paid else None
    near = span.is_within_bank_days(ours.accepted_on)
    return Explanation.PERIOD_BOUNDARY if near else Explanation.OUTSIDE_PERIOD


def _compared_payments(paid: Sequence[BankLine], fees_minor: int, ours: PayoutFigures) -> list[Difference]:
    """What differs between payments and the payout they name, on whatever days. fees_minor: in the payout's currency."""
    if len(paid) > 1:
        once = _compared_payments(paid[:1], fees_minor, ours)
        is_same = len(set(paid)) == 1 and _is_of_bank(paid[0], ours) and all(each.explained_by for each in once)
        why_twice = Explanation.SAME_TWICE if is_same else None
        return [
            Difference(DifferenceKind.DUPLICATE, currency, total, ours.net_minor, why_twice)
            for currency, total in _totals(paid)
        ]
    [line] = paid
    if line.currency != ours.currency:
        return [Difference(DifferenceKind.CURRENCY, line.currency, line.amount_minor, ours.net_minor)]
    if line.amount_minor != ours.net_minor:
        is_fee = fees_minor > 0 and abs(line.amount_minor - ours.net_minor) == fees_minor
        why_fee = Explanation.BANK_FEE if is_fee else None
        return [Difference(DifferenceKind.AMOUNT, line.currency, line.amount_minor, ours.net_minor, why_fee)]
    return []


def _is_of_bank(line: BankLine, ours: PayoutFigures) -> bool:
    """Whether the bank made a line's reference for this payment alone, so that two lines of it are one.

    What we, or whoever pays, sent along stands in both lines of a payment that was made twice.
    """
    reference = letters_of(line.reference)
    if not reference or reference == letters_of(line.end_to_end_id):
        return False
    return not any(letters_of(each) in reference for each in ours.sent_along)


def _compared_returns(back: Sequence[BankLine], ours: PayoutFigures, span: Span) -> list[Difference]:
    totals = dict(_totals(back))
    total = totals.pop(ours.currency, 0)
    found = [
        Difference(DifferenceKind.CURRENCY, currency, -other, -ours.came_back_minor)
        for currency, other in totals.items()
    ]
    # What came back in another currency only is told by that, as a payment is.
    if total == ours.came_back_minor or (found and not total):
        return found
    status = Difference(DifferenceKind.STATUS, ours.currency, -total, -ours.came_back_minor)
    why = Explanation.PERIOD_BOUNDARY if _is_told_across_edge(total, ours, span) else None
    return [*found, status.unless_explained(why)]


def _is_told_across_edge(back_minor: int, ours: PayoutFigures, span: Span) -> bool:
    """Whether bank and books know the same returns, so near to an edge that it lies between them."""
    if back_minor == 0:
        days = [day for day in ours.came_back_on if span.has_day(day)]
    elif back_minor == ours.came_back_ever_minor:
        days = [day for day in ours.came_back_on if not span.has_day(day)]
    else:
        return False
    return bool(days) and all(span.is_within_bank_days(day) for day in days)


def _extra_payout(ours: PayoutFigures, span: Span) -> Difference:
    extra = Difference(DifferenceKind.EXTRA, ours.currency, None, ours.net_minor)
    if ours.came_back_ever_minor >= ours.net_minor:
        return extra.unless_explained(Explanation.PAYOUT_RETURNED)
    assert ours.accepted_on is not None
    is_late = (span.until - ours.accepted_on).days < BANK_DAYS
    return extra.unless_explained(Explanation.PERIOD_BOUNDARY if is_late else None)
