"""Rules over many orders of one affiliate: caps, ladders and milestones of a day, a month or a campaign.

What such a rule comes to is one commission per affiliate, rule and period, and like every commission a target that
follows from what is known. f is the rule's function of a sum over the period's orders. The sum stands partly settled (S),
partly pending (P), partly held (H), and so does what the rule gives: f(S), f(S+P) − f(S), f(S+P+H) − f(S+P). So nothing
is settled for orders that may still come back.
"""

from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any, assert_never
from zoneinfo import ZoneInfo

from service.domain.errors import InvalidTerms
from service.domain.money import round_half_away
from service.domain.written import Amounts, amounts_json, amounts_of, percent_of, rate_of

JsonObject = dict[str, Any]


class Span(StrEnum):
    """How long a period is, in the merchant's time zone."""

    DAY = "day"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    CAMPAIGN = "campaign"
    """From the rule's first day to its last."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The periods of a rule. first_day, last_day: outside of them no order counts; a campaign is all between them."""

    span: Span
    first_day: date | None = None
    last_day: date | None = None

    def begin_of(self, placed_at: datetime, time_zone: str) -> date | None:
        """The first day of the period that an order placed at a moment is in; None where it is in none."""
        day = placed_at.astimezone(ZoneInfo(time_zone)).date()
        if (self.first_day is not None and day < self.first_day) or (self.last_day is not None and day > self.last_day):
            return None
        match self.span:
            case Span.DAY:
                return day
            case Span.MONTH:
                return day.replace(day=1)
            case Span.QUARTER:
                return day.replace(month=day.month - (day.month - 1) % 3, day=1)
            case Span.YEAR:
                return day.replace(month=1, day=1)
            case Span.CAMPAIGN:
                return self.first_day
            case _:
                assert_never(self.span)

    def end_of(self, begin: date) -> date | None:
        """The last day of the period that begins on a day; None for a campaign without an end."""
        match self.span:
            case Span.DAY:
                return begin
            case Span.MONTH:
                return begin.replace(day=monthrange(begin.year, begin.month)[1])
            case Span.QUARTER:
                month = begin.month + 2
                return begin.replace(month=month, day=monthrange(begin.year, month)[1])
            case Span.YEAR:
                return begin.replace(month=12, day=31)
            case Span.CAMPAIGN:
                return self.last_day
            case _:
                assert_never(self.span)


class Scale(StrEnum):
    MARGINAL = "marginal"
    """Each step's rate holds for what is above its start."""
    RETROACTIVE = "retroactive"
    """The highest step reached holds for everything."""


@dataclass(frozen=True, slots=True)
class Step:
    """From sales of so much on, a rate. By currency; a currency without a start has no step."""

    starts_minor: Amounts
    rate: Fraction


class Count(StrEnum):
    SALES = "sales"
    """Goods, after refunds, that earn a commission."""
    ORDERS = "orders"
    """Orders that earn one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A bonus, once sales or the number of orders reach something. starts_minor: of sales; orders: of orders."""

    pays_minor: Amounts
    starts_minor: Amounts = ()
    orders: int | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """The affiliate's commissions of a period come to so much at most; a currency not named has no cap."""

    key: str
    stretch: Stretch
    amounts_minor: Amounts


@dataclass(frozen=True, slots=True)
class Ladder:
    """A bonus that is a rate of a period's sales, the rate by how much they are."""

    key: str
    stretch: Stretch
    steps: tuple[Step, ...]
    scale: Scale = Scale.MARGINAL


@dataclass(frozen=True, slots=True)
class Milestones:
    """Bonuses for what a period's sales or orders reach, each once."""

    key: str
    stretch: Stretch
    marks: tuple[Mark, ...]


PeriodRule = Cap | Ladder | Milestones


@dataclass(frozen=True, slots=True)
class Sum:
    """What a period's orders come to at one place. orders: how many have something there."""

    commission_minor: int = 0
    sales_minor: int = 0
    orders: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(
            self.commission_minor + other.commission_minor,
            self.sales_minor + other.sales_minor,
            self.orders + other.orders,
        )

    def __sub__(self, other: "Sum") -> "Sum":
        return Sum(
            self.commission_minor - other.commission_minor,
            self.sales_minor - other.sales_minor,
            self.orders - other.orders,
        )


NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class Sums:
    """A period's sums by place. An order stands as a whole at its least advanced one: held, pending, then settled."""

    pending: Sum = NOTHING
    held: Sum = NOTHING
    settled: Sum = NOTHING

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.pending + other.pending, self.held + other.held, self.settled + other.settled)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(self.pending - other.pending, self.held - other.held, self.settled - other.settled)


def contribution(*, pending_minor: int, held_minor: int, settled_minor: int, sales_minor: int) -> Sums:
    """What one commission adds to its periods. Its money stands where it stands; its sales and itself at one place."""
    whole = Sum(0, sales_minor, 1) if pending_minor + held_minor + settled_minor else NOTHING
    held = whole if held_minor else NOTHING
    pending = whole if pending_minor and not held_minor else NOTHING
    settled = whole if not held_minor and not pending_minor else NOTHING
    return Sums(pending + Sum(pending_minor), held + Sum(held_minor), settled + Sum(settled_minor))


@dataclass(frozen=True, slots=True)
class Gives:
    """What a period's rule gives at each place, in minor units; below zero for a cap, which takes back."""

    pending_minor: int
    held_minor: int
    settled_minor: int

    @property
    def target_minor(self) -> int:
        return self.pending_minor + self.held_minor + self.settled_minor


def gives(rules: Sequence[PeriodRule], sums: Sums, currency: str) -> Gives:
    """What rules of one key give for a period's sums; where several are given, at each sum the one that gives most."""
    settled = sums.settled
    pending = settled + sums.pending
    held = pending + sums.held
    by_settled, by_pending, by_held = (_most(rules, each, currency) for each in (settled, pending, held))
    return Gives(by_pending - by_settled, by_held - by_pending, by_settled)


def _most(rules: Sequence[PeriodRule], total: Sum, currency: str) -> int:
    return max(_value(rule, total, currency) for rule in rules)


def _value(rule: PeriodRule, total: Sum, currency: str) -> int:
    """What a rule adds to what the orders earn by themselves."""
    match rule:
        case Cap(amounts_minor=amounts):
            cap = dict(amounts).get(currency)
            return 0 if cap is None else min(total.commission_minor, cap) - total.commission_minor
        case Ladder(steps=steps, scale=scale):
            return round_half_away(_climbed(steps, scale, total.sales_minor, currency))
        case Milestones(marks=marks):
            return sum(dict(mark.pays_minor).get(currency, 0) for mark in marks if _reached(mark, total, currency))
        case _:
            assert_never(rule)


def _climbed(steps: Sequence[Step], scale: Scale, sales_minor: int, currency: str) -> Fraction:
    reached = [
        (start, step.rate)
        for step in steps
        if (start := dict(step.starts_minor).get(currency)) is not None and sales_minor >= start
    ]
    if not reached:
        return Fraction(0)
    if scale is Scale.RETROACTIVE:
        return sales_minor * reached[-1][1]
    ends = [start for start, _ in reached[1:]] + [sales_minor]
    return sum(((end - start) * rate for (start, rate), end in zip(reached, ends, strict=True)), Fraction(0))


def _reached(mark: Mark, total: Sum, currency: str) -> bool:
    if mark.orders is not None:
        return total.orders >= mark.orders
    start = dict(mark.starts_minor).get(currency)
    return start is not None and total.sales_minor >= start


# The written form.


def period_rule_json(rule: PeriodRule) -> JsonObject:
    """A period rule as it is written in terms."""
    stretch = rule.stretch
    common: JsonObject = {
        "key": rule.key,
        "period": stretch.span.value,
        "first_day": stretch.first_day.isoformat() if stretch.first_day else None,
        "last_day": stretch.last_day.isoformat() if stretch.last_day else None,
    }
    match rule:
        case Cap(amounts_minor=amounts):
            return {"kind": "cap", **common, "amounts": amounts_json(amounts)}
        case Ladder(steps=steps, scale=scale):
            written = [{"from": amounts_json(each.starts_minor), "rate": percent_of(each.rate)} for each in steps]
            return {"kind": "ladder", **common, "scale": scale.value, "steps": written}
        case Milestones(marks=marks):
            return {
                "kind": "milestones",
                **common,
                "marks": [
                    {
                        "orders": mark.orders,
                        "sales": amounts_json(mark.starts_minor),
                        "pays": amounts_json(mark.pays_minor),
                    }
                    for mark in marks
                ],
            }
        case _:
            assert_never(rule)


def period_receipt(rules: Sequence[PeriodRule], sums: Sums, currency: str) -> JsonObject:
    """Everything needed to recompute a period's commission by hand."""
    given = gives(rules, sums, currency)
    return {
        "currency": currency,
        "rules": [period_rule_json(rule) for rule in rules],
        "sums": {
            place: {"commission_minor": each.commission_minor, "sales_minor": each.sales_minor, "orders": each.orders}
            for place, each in (("pending", sums.pending), ("held", sums.held), ("settled", sums.settled))
        },
        "gives": {
            "pending_minor": given.pending_minor,
            "held_minor": given.held_minor,
            "settled_minor": given.settled_minor,
        },
        "target_minor": given.target_minor,
    }


def period_rule_of(stored: JsonObject) -> PeriodRule:
    """A period rule from its written form. Raises InvalidTerms, UnknownCurrency."""
    span = Span(stored["period"])
    first_day, last_day = (
        date.fromisoformat(stored[name]) if stored.get(name) else None for name in ("first_day", "last_day")
    )
    if span is Span.CAMPAIGN and first_day is None:
        raise InvalidTerms("A campaign needs its first_day.")
    if first_day is not None and last_day is not None and last_day < first_day:
        raise InvalidTerms("A period rule ends on or after its first_day.")
    stretch = Stretch(span, first_day, last_day)
    match stored["kind"]:
        case "cap":
            return Cap(stored["key"], stretch, amounts_of(stored["amounts"]))
        case "ladder":
            steps = tuple(Step(amounts_of(each["from"]), rate_of(each["rate"])) for each in stored["steps"])
            _check_steps(steps)
            return Ladder(stored["key"], stretch, steps, Scale(stored.get("scale", Scale.MARGINAL)))
        case "milestones":
            marks = tuple(
                Mark(amounts_of(each["pays"]), amounts_of(each.get("sales", ())), each.get("orders"))
                for each in stored["marks"]
            )
            if any((mark.orders is None) == (not mark.starts_minor) for mark in marks):
                raise InvalidTerms("Each mark names either orders or sales.")
            return Milestones(stored["key"], stretch, marks)
        case other:
            raise InvalidTerms(f"{other!r} is no kind of period rule; use cap, ladder or milestones.")


def _check_steps(steps: Sequence[Step]) -> None:
    """Starts rise, and rates never fall: else more sales would earn less, or refunds more."""
    starts: dict[str, int] = {}
    rate = Fraction(0)
    for step in steps:
        if step.rate < rate:
            raise InvalidTerms("The rates of a ladder never fall from one step to the next.")
        rate = step.rate
        for currency, start in step.starts_minor:
            if start <= starts.get(currency, -1):
                raise InvalidTerms("The steps of a ladder start higher one after the other, in each currency.")
            starts[currency] = start


def check_follows(known: Iterable[PeriodRule], rules: Sequence[PeriodRule]) -> None:
    """Refuse rules that would not get on with those of a programme's other versions, or with one another.

    A period is found by its key and first day and keeps the rules it began with, so a key stays of one kind and stretch.
    Two caps would each take back what the other took already. Raises InvalidTerms.
    """
    named = {rule.key: rule for rule in known}
    for rule in rules:
        other = named.setdefault(rule.key, rule)
        if type(other) is not type(rule) or other.stretch != rule.stretch:
            raise InvalidTerms(
                f"{rule.key!r} is the key of a rule of another kind, period, first_day or last_day; give this one a key "
                "of its own."
            )
    caps = sorted(key for key, rule in named.items() if isinstance(rule, Cap))
    if len(caps) > 1:
        raise InvalidTerms(
            f"A programme has one cap over periods, under one key in all its versions; here are {' and '.join(caps)}."
        )


def check_keys_stay(versions: Iterable[Sequence[PeriodRule]]) -> None:
    """Refuse a key that comes back after a version without it: whoever was protected meanwhile would have two rules.

    versions: the rules of each, in the order in which they begin. Raises InvalidTerms.
    """
    gone: set[str] = set()
    before: set[str] = set()
    for rules in versions:
        now = {rule.key for rule in rules}
        if now & gone:
            raise InvalidTerms(
                f"{min(now & gone)!r} is the key of a rule that was dropped; give the new one another key."
            )
        gone |= before - now
        before = now


# Which rules a period goes by.


@dataclass(frozen=True, slots=True)
class PeriodKey:
    """One period of one rule, by the rule's key and the period's first day."""

    rule: str
    begins_on: date


@dataclass(frozen=True, slots=True)
class DatedRules:
    """Period rules in force from a moment on, as a programme's versions have them, oldest first."""

    valid_from: datetime
    rules: tuple[PeriodRule, ...]
    notice: timedelta = timedelta(0)
    ends_at: datetime | None = None
    """When the next version began; None where it is the newest."""

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(rule.key for rule in self.rules)

    def protects(self, enrolled_at: datetime | None, at: datetime) -> bool:
        """Whether it was superseded less than its notice before a moment, after an affiliate enrolled."""
        if enrolled_at is None or self.ends_at is None:
            return False
        return enrolled_at < self.ends_at <= at < self.ends_at + self.notice


def periods_of(
    versions: Sequence[DatedRules],
    *,
    placed_at: datetime,
    enrolled_since: Callable[[datetime], datetime | None],
    time_zone: str,
) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
    """The periods an order counts in, each with the rules it goes by.

    A period keeps the rules it began with: of each key that of the version in force when it began, or of the first
    version after that which has the key; and, for an affiliate enrolled before a version was superseded less than its
    notice period earlier, that version's too. An order counts from the moment on at which a version with the key began; in
    a cap, once no version without it protects the affiliate any more; in a bonus that was dropped, as long as one does.
    """
    begun = [version for version in versions if version.valid_from <= placed_at]
    enrolled_at = enrolled_since(placed_at)
    kept = [version for version in begun if version.protects(enrolled_at, placed_at)]
    found: dict[PeriodKey, tuple[PeriodRule, ...]] = {}
    seen: set[str] = set()

    def began(rule: PeriodRule) -> tuple[date, datetime] | None:
        begins_on = rule.stretch.begin_of(placed_at, time_zone)
        if begins_on is None or rule.key in seen:
            return None
        return begins_on, datetime.combine(begins_on, time(), ZoneInfo(time_zone))

    for version in begun:
        for rule in version.rules:
            begins = began(rule)
            if begins is None or (version.ends_at is not None and version.ends_at <= begins[1]):
                continue
            seen.add(rule.key)
            if not (isinstance(rule, Cap) and any(rule.key not in each.keys for each in kept)):
                protected = _protected(rule, begins[1], begun, enrolled_since(begins[1]))
                found[PeriodKey(rule.key, begins[0])] = (rule, *protected)
    # Dropped before the period began: a bonus goes on for its notice. A cap that is gone is gone.
    for rule in (rule for version in kept for rule in version.rules if not isinstance(rule, Cap)):
        begins = began(rule)
        if begins is not None and (rules := tuple(_protected(rule, begins[1], begun, enrolled_since(begins[1])))):
            seen.add(rule.key)
            found[PeriodKey(rule.key, begins[0])] = rules
    return found


def _protected(
    rule: PeriodRule, began: datetime, versions: Sequence[DatedRules], enrolled_at: datetime | None
) -> Iterator[PeriodRule]:
    """Rules of the same key that an affiliate still may claim for a period, though they were superseded before it."""
    for version in versions:
        if version.protects(enrolled_at, began):
            yield from (old for old in version.rules if old.key == rule.key and old.stretch == rule.stretch)
