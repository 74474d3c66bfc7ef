"""What orders would have cost under other terms: now and then, order by order, in sums that say for whom and for what.

"Now" is what the terms in force give, "then" what a draft gives that is taken to have been in force since ever. All
is taken as settled. Costs are what all payees have: affiliates, agencies, whoever has a fee.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from service.domain.assessment import Assessment
from service.domain.commission import Target
from service.domain.dated import DatedInputs
from service.domain.money import spread
from service.domain.periods import NOTHING, PeriodKey, PeriodRule, Sum, Sums, contribution, gives, periods_of
from service.domain.program import ProgramVersion, Terms, period_rules

JsonObject = dict[str, Any]

_SINCE_EVER = datetime(1, 1, 2, tzinfo=UTC)
DRAFT = 0
"""The number of a version that is none yet."""


class Side(StrEnum):
    NOW = "now"
    THEN = "then"


class Dimension(StrEnum):
    """By what costs are told apart. Each dimension adds up to the total."""

    TOTAL = "total"
    AFFILIATE = "affiliate"
    """Whoever is paid, by id."""
    CATEGORY = "category"
    """Of the order's line; empty for lines without one, and for what is of no line, such as a period's bonus."""
    DAY = "day"
    """On which an order was placed, or a period began, in the merchant's time zone."""


class SumKey(NamedTuple):
    dimension: Dimension
    key: str
    currency: str


@dataclass(slots=True)
class Cost:
    """Minor units, and of how many orders something is earned, on each side."""

    now_minor: int = 0
    then_minor: int = 0
    now_orders: int = 0
    then_orders: int = 0

    def add(self, side: Side, amount_minor: int, *, orders: int = 0) -> None:
        if side is Side.NOW:
            self.now_minor += amount_minor
            self.now_orders += orders
        else:
            self.then_minor += amount_minor
            self.then_orders += orders


class PeriodName(NamedTuple):
    """One period of one payee. In the order of its fields."""

    payee_id: UUID
    program_id: UUID
    rule: str
    begins_on: date
    currency: str


@dataclass(slots=True)
class PeriodSums:
    """What a period's orders come to on each side, and the rules that it goes by there; none: the side has no such rule."""

    now: Sum = NOTHING
    then: Sum = NOTHING
    now_rules: tuple[PeriodRule, ...] = ()
    then_rules: tuple[PeriodRule, ...] = ()

    def gives_minor(self, side: Side, currency: str) -> int:
        """What the period's rules add on a side, in minor units; below zero for a cap."""
        total, rules = (self.now, self.now_rules) if side is Side.NOW else (self.then, self.then_rules)
        return gives(rules, Sums(settled=total), currency).target_minor if rules else 0


@dataclass(slots=True)
class Tally:
    """What some orders add to a simulation's sums."""

    program_id: UUID
    time_zone: str
    sums: dict[SumKey, Cost] = field(default_factory=dict)
    periods: dict[PeriodName, PeriodSums] = field(default_factory=dict)

    def add(
        self,
        placed_at: datetime,
        now: tuple[Assessment, DatedInputs],
        then: tuple[Assessment, DatedInputs],
    ) -> None:
        """Take in one order, as both sides assess it and with what each went by.

        An order counts where the programme is credited on either side, or where the sides differ otherwise. Periods
        are summed of every order: whether those of another programme differ shows only in the end.
        """
        day = placed_at.astimezone(ZoneInfo(self.time_zone)).date().isoformat()
        counts = _is_about(self.program_id, now[0], then[0])
        for side, (assessment, inputs) in ((Side.NOW, now), (Side.THEN, then)):
            if counts:
                self._add_targets(side, assessment.targets, day)
            for target in assessment.targets:
                self._add_to_periods(side, target, placed_at, inputs)

    def add_period(self, name: PeriodName, period: PeriodSums) -> None:
        """Take in what a period gives, once all of its orders are summed."""
        now, then = (period.gives_minor(side, name.currency) for side in Side)
        if name.program_id != self.program_id and now == then:
            return
        for side, amount in ((Side.NOW, now), (Side.THEN, then)):
            for dimension, key in _places(str(name.payee_id), "", name.begins_on.isoformat()):
                if amount:
                    self._cost(dimension, key, name.currency).add(side, amount)

    def _add_targets(self, side: Side, targets: Sequence[Target], day: str) -> None:
        # An order counts once in each sum, of however many payees and lines it is made.
        amounts: dict[SumKey, int] = {}
        for target in targets:
            if not target.target_minor:
                continue
            for category, amount in by_category(target).items():
                for dimension, key in _places(str(target.payee_id), category, day):
                    name = SumKey(dimension, key, target.currency)
                    amounts[name] = amounts.get(name, 0) + amount
        for name, amount in amounts.items():
            self._cost(*name).add(side, amount, orders=1)

    def _add_to_periods(self, side: Side, target: Target, placed_at: datetime, inputs: DatedInputs) -> None:
        program_id = target.program_id
        if not target.is_affiliate or program_id is None or not target.target_minor:
            return
        counted = contribution(
            pending_minor=0, held_minor=0, settled_minor=target.target_minor, sales_minor=target.volume_minor
        ).settled
        for key, rules in _periods(target.payee_id, program_id, placed_at, inputs).items():
            name = PeriodName(target.payee_id, program_id, key.rule, key.begins_on, target.currency)
            period = self.periods.setdefault(name, PeriodSums())
            if side is Side.NOW:
                period.now, period.now_rules = period.now + counted, tuple(rules)
            else:
                period.then, period.then_rules = period.then + counted, tuple(rules)

    def _cost(self, dimension: Dimension, key: str, currency: str) -> Cost:
        return self.sums.setdefault(SumKey(dimension, key, currency), Cost())


def drafted(inputs: DatedInputs, program_id: UUID, terms: Terms) -> DatedInputs:
    """The same inputs, as if a programme had had these terms since ever. So no earlier version protects anybody."""
    version = ProgramVersion(program_id, DRAFT, _SINCE_EVER, terms)
    return replace(inputs, versions={**inputs.versions, program_id: (version,)})


def by_category(target: Target) -> dict[str, int]:
    """What a payee earns on an order by category of its lines, in minor units, from the receipt; adds up to the target.

    What no line explains, such as what people adjusted, is under ""; below zero where they took something.
    """
    found: dict[str, int] = {}
    receipts: list[JsonObject] = target.receipt.get("credits", [target.receipt])
    for receipt in receipts:
        if receipt.get("lines"):
            for line, amount in _by_line(receipt, target.payee_id):
                if amount:
                    found[line["category"]] = found.get(line["category"], 0) + amount
    rest = target.target_minor - sum(found.values())
    if rest:
        found[""] = found.get("", 0) + rest
    return found


def _by_line(receipt: JsonObject, payee_id: UUID) -> Iterator[tuple[JsonObject, int]]:
    """Each line with what the rules give the payee of it, after the order's cap."""
    lines: list[JsonObject] = receipt["lines"]
    # What people added or took is of no line.
    rules_minor: int = receipt["rules_minor"] if "rules_minor" in receipt else receipt["target_minor"]
    if not rules_minor:
        return
    if "division" in lines[0]:
        for line in lines:
            yield line, sum(cell["paid_minor"] for cell in line["division"] if cell["payee_id"] == str(payee_id))
    else:
        # As `shares.divide` does with a cap; without one each line has what it comes to.
        yield from zip(lines, spread(rules_minor, [line["commission_minor"] for line in lines]), strict=True)


def _is_about(program_id: UUID, now: Assessment, then: Assessment) -> bool:
    if any(credit.program_id == program_id for each in (now, then) for credit in each.attribution.credits):
        return True
    return _amounts(now) != _amounts(then)


def _amounts(assessment: Assessment) -> dict[tuple[UUID, str], int]:
    return {(each.payee_id, each.currency): each.target_minor for each in assessment.targets if each.target_minor}


def _periods(
    payee_id: UUID, program_id: UUID, placed_at: datetime, inputs: DatedInputs
) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
    return periods_of(
        period_rules(inputs.versions.get(program_id, ())),
        placed_at=placed_at,
        enrolled_since=lambda at: inputs.enrolled_since(program_id, payee_id, at),
        time_zone=inputs.time_zone,
    )


def _places(payee: str, category: str, day: str) -> tuple[tuple[Dimension, str], ...]:
    return (
        (Dimension.TOTAL, ""),
        (Dimension.AFFILIATE, payee),
        (Dimension.CATEGORY, category),
        (Dimension.DAY, day),
    )
