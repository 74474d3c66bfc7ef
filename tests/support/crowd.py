"""Sets of several orders that matter to each other, by seed: of one customer, of one affiliate in one month.

Each order of a set is a set of `tests.support.fact_sets`, placed and named anew, told to a shop whose terms look at other
orders: who is new, caps, ladders, marks, an agency's share, fees. `CROWDED_BEFORE` is the same shop before its last changes.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from service.domain.conditions import CustomerIs, CustomerKind, CustomerMonths
from service.domain.dated import Binding, DatedInputs, Membership, Pause, PauseEffect
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    Fact,
    Milestone,
    OrderSnapshot,
    TouchKind,
    decision_fact,
    order_fact,
)
from service.domain.periods import Cap, Ladder, Mark, Milestones, PeriodRule, Scale, Span, Step, Stretch
from service.domain.program import (
    AttributionTerms,
    BindingRank,
    Model,
    Precedence,
    ProgramVersion,
    SelfPurchase,
    TechnicalFee,
)
from service.domain.rules import Agent, Plan, When
from service.domain.settlement import Approval, RollingSettlement, StatementSettlement
from service.domain.written import rate_of
from tests.domain.builders import ANN, BEN, OTHER_PROGRAM, PROGRAM, a_version, day, percent
from tests.support.fact_sets import CAM, PLACED, SHOP, SHOP_BEFORE, facts_of, in_code

STAR, MOON, PLATFORM = UUID(int=0x51), UUID(int=0x52), UUID(int=0x71)
"""Two agencies, and who has the technical fee."""

MOMENTS = tuple(day(number) for number in (0, 0, 3, 3, 8, 13, 16, 21, 23, 30, 36))
"""When orders are placed: some at one moment, some on both ends of a month, of terms, of a pause."""

Orders = Mapping[str, tuple[Fact, ...]]
"""Facts of orders, by the order's name."""

_BEFORE_PERIODS, _WHILE = day(-100), day(10)


def _month(key: str, span: Span = Span.MONTH) -> tuple[str, Stretch]:
    return key, Stretch(span)


def _with(version: ProgramVersion, *periods: PeriodRule, fee: str | None = None) -> ProgramVersion:
    technical = None if fee is None else TechnicalFee(PLATFORM, rate_of(fee))
    return replace(version, terms=replace(version.terms, periods=periods, technical_fee=technical))


def _steps(*rates: str) -> tuple[Step, ...]:
    starts = (0, 9_000, 40_000)
    return tuple(
        Step((("EUR", start), ("USD", start)), rate_of(rate)) for start, rate in zip(starts, rates, strict=False)
    )


_NEW, _BACK = CustomerIs(CustomerKind.NEW), CustomerIs(CustomerKind.RETURNING)
_CAMPAIGN = Stretch(Span.CAMPAIGN, date(2026, 3, 12), date(2026, 4, 6))

_FRIENDS = (
    _with(
        a_version(
            percent("20", plan=Plan.TARGET, when=When(every=(_NEW,))),
            percent("10", priority=1, agent=Agent(MOON, rate_of("2.5"), day(-90))),
            percent("3", component="bonus", when=When(every=(CustomerMonths(1),), none=(_NEW,))),
            number=1,
            attribution=AttributionTerms(
                model=Model.LINEAR,
                precedence=Precedence.LATEST,
                self_purchase=SelfPurchase.REVIEW,
                reorder_days=10,
            ),
        ),
        Cap(*_month("cap"), (("EUR", 2_000), ("USD", 2_500))),
        Ladder(*_month("ladder"), _steps("1", "2.5", "5"), Scale.RETROACTIVE),
        Ladder(*_month("daily", Span.DAY), _steps("0.5", "1")),
        fee="10",
    ),
    _with(
        a_version(
            percent("8", when=When(some=(_BACK, CustomerMonths(2)))),
            percent("6"),
            number=2,
            since=_WHILE,
            cap={"USD": 1_200},
            attribution=AttributionTerms(
                model=Model.POSITION,
                precedence=Precedence.LATEST,
                customer_binding=BindingRank.BEFORE,
                self_purchase=SelfPurchase.REVIEW,
                reorder_days=20,
            ),
            notice_days=5,
        ),
        Cap(*_month("cap"), (("USD", 2_000),)),
        Milestones(
            "marks", _CAMPAIGN, (Mark((("USD", 500),), orders=2), Mark((("USD", 77),), starts_minor=(("USD", 20_000),)))
        ),
    ),
    _with(a_version(percent("99"), number=3, since=day(60))),
)
_PARTNERS = (
    _with(
        a_version(
            percent("12.5"),
            number=1,
            program=OTHER_PROGRAM,
            settlement=StatementSettlement(
                Milestone.FULFILLED,
                0,
                cut_off_day=15,
                months_after=1,
                pay_day=20,
                approval=Approval.MANUAL,
                auto_approve_days=90,
            ),
            attribution=AttributionTerms(model=Model.LINEAR, precedence=Precedence.LATEST),
        ),
        Ladder(*_month("ladder"), _steps("2", "4"), Scale.MARGINAL),
        Cap(*_month("quarterly", Span.QUARTER), (("USD", 3_000),)),
    ),
    _with(
        a_version(
            percent("5"),
            number=2,
            program=OTHER_PROGRAM,
            since=day(20),
            settlement=RollingSettlement(Milestone.PAID, 30, Approval.MANUAL),
        ),
        Ladder(*_month("ladder"), _steps("1"), Scale.MARGINAL),
    ),
)


def _crowded(shop: DatedInputs, *, before: bool) -> DatedInputs:
    """The shop of single orders, with terms that look at other orders, and with more set up."""

    def roster(*states: Membership) -> tuple[Membership, ...]:
        return tuple(state for state in states if not (before and state.valid_from >= day(60)))

    return replace(
        shop,
        versions={PROGRAM: _FRIENDS[:2] if before else _FRIENDS, OTHER_PROGRAM: _PARTNERS},
        enrollments={**shop.enrollments, (OTHER_PROGRAM, ANN): shop.enrollments[OTHER_PROGRAM, BEN]},
        roster={
            ANN: roster(
                Membership(day(-50), STAR, rate_of("30"), rate_of("2")),
                Membership(day(15), MOON, rate_of("33.333333")),
                Membership(day(60), None),
            ),
            CAM: roster(Membership(day(-50), STAR, rate_of("100"))),
        },
        customer_bindings={
            ("email", "hash-of-eve"): (Binding(day(-5), BEN, PROGRAM, until=day(22)), Binding(day(25), ANN, PROGRAM)),
        },
        pauses={
            PROGRAM: (
                Pause(day(12), PauseEffect.REVIEW),
                Pause(day(14), PauseEffect.NONE),
                Pause(day(21), PauseEffect.STOP),
                Pause(day(22), PauseEffect.NONE),
            )
        },
        time_zone="Asia/Ho_Chi_Minh",
    )


CROWDED, CROWDED_BEFORE = _crowded(SHOP, before=False), _crowded(SHOP_BEFORE, before=True)


# Making a set.

SIZE = 5
"""Orders of a set."""


def orders_of(seed: int) -> dict[str, tuple[Fact, ...]]:
    """The set of this seed: orders by name, each with its facts."""
    dice = random.Random(f"crowd {seed}")
    customers = [(), (("email", f"hash-of-{seed}"),), (("email", "hash-of-eve"),), (("email", "hash-of-ann"),)]
    made: dict[str, tuple[Fact, ...]] = {}
    for number in range(SIZE):
        facts = facts_of(dice.randrange(1 << 40))
        customer = dice.choices(customers, weights=(2, 8, 3, 2))[0]
        moments = dice.choices(MOMENTS, k=len(PLACED))
        bare = dice.random() < 0.25
        told = [_placed(fact, moments, customer, dice, bare=bare) for fact in facts]
        if dice.random() < 0.1:
            kind = dice.choice((DecisionKind.APPROVE, DecisionKind.REJECT))
            limit = dice.choice((10, 100_000)) if kind is DecisionKind.APPROVE else None
            told.append(decision_fact(DecisionFact(kind, day(5), "key_desk", "decided", STAR, "USD", limit)))
        made[f"{seed}-{number}"] = tuple(dict.fromkeys(told))
    return made


def _placed(
    fact: Fact, moments: Sequence[datetime], customer: tuple[tuple[str, str], ...], dice: random.Random, *, bare: bool
) -> Fact:
    """A snapshot at another moment, of another customer; its clicks as long before it as they were. bare: it carries nothing."""
    body = fact.body
    if not isinstance(body, OrderSnapshot):
        return fact
    placed_at = moments[PLACED.index(body.placed_at)]
    later = placed_at - day(0)
    touches = tuple(
        replace(touch, at=touch.at + later) if touch.kind is TouchKind.CLICK and touch.at else touch
        for touch in ([] if bare else body.touches)
    )
    # Now and then an edit says that it is nobody's, or cancels it.
    buyer = () if dice.random() < 0.05 else customer
    lines = tuple(replace(line, sku=line.sku or "TEA") for line in body.lines)
    cancelled = body.cancelled or dice.random() < 0.12
    moved = replace(body, placed_at=placed_at, touches=touches, customer=buyer, lines=lines, cancelled=cancelled)
    return order_fact(moved, version_at=fact.version_at)


# What is in a set.


class Crowd(StrEnum):
    """Something sets of several orders have to be; read from what follows from them."""

    NEW = "first order of a customer"
    RETURNING = "later order of a customer"
    FIRST_CANCELLED = "cancelled order before the first that counts"
    AT_ONE_MOMENT = "orders of one customer placed at one moment"
    PLACED_AGAIN = "credited for an order placed again"
    SEVERAL = "credited to several"
    BOUND = "credited for a bound customer"
    SUSPECTED = "held because the buyer may be the affiliate"
    SHARED = "agency with a share"
    SHARED_BY_TWO = "agency of two who share an order"
    FEE = "technical fee"
    PAUSED = "placed while the programme was stopped"
    CAPPED = "period's cap took back"
    CLIMBED = "ladder gave"
    MARKED = "mark gave"
    TWO_RULES = "period with a protected rule"
    OWN_DECISION = "decision on an agency's commission"


def written(orders: Mapping[str, Iterable[Fact]]) -> str:
    """The facts as Python, by order, for a test."""
    return "{\n" + "".join(f"{name!r}: {in_code(facts)},\n" for name, facts in orders.items()) + "}"


def pairs(orders: Orders) -> list[tuple[str, Fact]]:
    return [(name, fact) for name, facts in orders.items() for fact in facts]


def by_order(told: Iterable[tuple[str, Fact]]) -> dict[str, tuple[Fact, ...]]:
    found: dict[str, list[Fact]] = {}
    for name, fact in told:
        found.setdefault(name, []).append(fact)
    return {name: tuple(facts) for name, facts in found.items()}
