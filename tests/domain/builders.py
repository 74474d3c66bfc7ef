"""Things with defaults, in words: an order, a coupon use, a shop with one programme and two affiliates.

Days count from the day the order was placed: `day(3)` is three days later, `day(-1)` the day before. All times are UTC.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from service.domain.assessment import Assessment, assess
from service.domain.attribution import Identities
from service.domain.commission import Target
from service.domain.conditions import Condition
from service.domain.dated import DatedInputs, Owner, Since, Traceable
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    DisputeFact,
    DisputeOutcome,
    Fact,
    FactKind,
    HoldFact,
    Line,
    Milestone,
    NetLine,
    OrderFacts,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    decision_fact,
    dispute_fact,
    hold_fact,
    merge,
    milestone_fact,
    net_lines,
    order_fact,
    refund_fact,
)
from service.domain.program import AttributionTerms, ProgramVersion, Terms
from service.domain.rules import Flat, Match, Per, Percent, Rule
from service.domain.settlement import RollingSettlement, Settlement
from service.domain.written import rate_of

MERCHANT = UUID(int=0xE)
PROGRAM, OTHER_PROGRAM = UUID(int=0x11), UUID(int=0x12)
ANN, BEN, NOBODY = UUID(int=0xA), UUID(int=0xB), UUID(int=0xF)
ANNS_LINK, BENS_LINK, OTHER_LINK = UUID(int=0x1A), UUID(int=0x1B), UUID(int=0x1C)
PLACED = datetime(2026, 3, 10, 12, tzinfo=UTC)


def day(number: int, *, hours: int = 0, seconds: int = 0) -> datetime:
    return PLACED + timedelta(days=number, hours=hours, seconds=seconds)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Terms


def percent(rate: str = "10", *, skus: Iterable[str] = (), categories: Iterable[str] = (), **more: Any) -> Rule:
    return Rule(Percent(rate_of(rate)), Match(frozenset(skus), frozenset(categories)), **more)


def flat(
    amounts_minor: Mapping[str, int],
    *,
    skus: Iterable[str] = (),
    categories: Iterable[str] = (),
    per: Per = Per.LINE,
    **more: Any,
) -> Rule:
    return Rule(Flat(tuple(sorted(amounts_minor.items())), per), Match(frozenset(skus), frozenset(categories)), **more)


def a_version(
    *rules: Rule,
    number: int = 1,
    since: datetime | None = None,
    program: UUID = PROGRAM,
    cap: Mapping[str, int] | None = None,
    exclude: Iterable[Condition] = (),
    attribution: AttributionTerms | None = None,
    settlement: Settlement | None = None,
    notice_days: int = 30,
) -> ProgramVersion:
    """A version of 10 percent, in force for a hundred days, payable 14 days after payment."""
    terms = Terms(
        rules=rules or (percent("10"),),
        exclude=tuple(exclude),
        caps_minor=tuple(sorted((cap or {}).items())),
        attribution=attribution or AttributionTerms(),
        settlement=settlement or RollingSettlement(Milestone.PAID, 14),
        notice_days=notice_days,
    )
    return ProgramVersion(program, number, since or day(-100), terms)


def a_shop(*versions: ProgramVersion, **attribution: object) -> DatedInputs:
    """A shop with one programme, in which Ann and Ben are approved and enrolled, each with a link and a coupon.

    attribution: fields of the terms' AttributionTerms, where no version is given.
    """
    long_ago = day(-90)
    return DatedInputs(
        versions={PROGRAM: versions or (a_version(attribution=AttributionTerms(**attribution)),)},  # type: ignore[arg-type] # named by the test
        links={
            ANNS_LINK: Traceable(ANNS_LINK, PROGRAM, (Owner(long_ago, ANN),)),
            BENS_LINK: Traceable(BENS_LINK, PROGRAM, (Owner(long_ago, BEN),)),
        },
        coupons={
            "ann10": Traceable(UUID(int=0x2A), PROGRAM, (Owner(long_ago, ANN),)),
            "ben10": Traceable(UUID(int=0x2B), PROGRAM, (Owner(long_ago, BEN),)),
        },
        enrollments={(PROGRAM, ANN): (Since(long_ago, True),), (PROGRAM, BEN): (Since(long_ago, True),)},
        approvals={ANN: (Since(long_ago, True),), BEN: (Since(long_ago, True),)},
        identities={ANN: (("email", "hash-of-ann"),), BEN: (("email", "hash-of-ben"),)},
    )


# Orders


def a_line(
    net: int = 10_000,
    *,
    id: str = "1",  # noqa: A002 # the field's name
    sku: str = "",
    quantity: str = "1",
    category: str = "",
    goods: bool = True,
) -> Line:
    return Line(id, sku, net, quantity, category, goods)


def lines(*nets: int) -> tuple[Line, ...]:
    """Goods lines called "1", "2", … with these values."""
    return tuple(a_line(net, id=str(number)) for number, net in enumerate(nets, start=1))


def a_click(link: UUID | None = ANNS_LINK, *, on: datetime | None = None, ref: str = "clk_1") -> Touch:
    """A click, a day before the order unless told; link None is one whose signature is not ours."""
    return Touch(TouchKind.CLICK, ref, link, None if link is None else on or day(-1))


def a_coupon(code: str = "ann10") -> Touch:
    return Touch(TouchKind.COUPON, code)


def an_order(
    *ordered: Line,
    currency: str = "USD",
    touches: Iterable[Touch] | None = None,
    placed_at: datetime | None = None,
    cancelled: bool = False,
    customer: tuple[tuple[str, str], ...] = (),
) -> OrderSnapshot:
    """One line of 100.00 USD with Ann's coupon."""
    return OrderSnapshot(
        placed_at=placed_at or PLACED,
        currency=currency,
        lines=ordered or (a_line(),),
        cancelled=cancelled,
        touches=(a_coupon(),) if touches is None else tuple(touches),
        customer=customer,
    )


def an_edit(snapshot: OrderSnapshot, *, on: datetime) -> Fact:
    return order_fact(snapshot, version_at=on)


# Events about an order


def a_refund(
    back: int | Mapping[str, int] = 0,
    *,
    id: str = "r1",  # noqa: A002 # the fact's own word
    currency: str = "USD",
    on: datetime | None = None,
) -> Fact:
    """Goods worth `back` came back: on no line in particular, or by line id."""
    at = on or day(3)
    refund = (
        RefundFact(currency, at, unallocated_minor=back)
        if isinstance(back, int)
        else RefundFact(currency, at, lines=tuple(back.items()))
    )
    return refund_fact(id, refund, version_at=at)


def a_dispute(
    opened: int = 3,
    closed: int | None = None,
    *,
    id: str = "d1",  # noqa: A002 # the fact's own word
    outcome: DisputeOutcome | None = None,
    amount: int = 10_000,
    currency: str = "USD",
) -> Fact:
    """A dispute opened and perhaps closed on these days."""
    ending = None if closed is None else day(closed)
    won = DisputeOutcome.WON if ending else None
    dispute = DisputeFact(day(opened), currency, amount, ending, outcome or won)
    return dispute_fact(id, dispute, version_at=ending or day(opened))


def a_lost_dispute(opened: int = 3, closed: int = 5, *, id: str = "d1", amount: int = 10_000) -> Fact:  # noqa: A002 # as above
    return a_dispute(opened, closed, id=id, amount=amount, outcome=DisputeOutcome.LOST)


def a_hold(opened: int = 3, released: int | None = None, *, id: str = "h1") -> Fact:  # noqa: A002 # the fact's own word
    ending = None if released is None else day(released)
    return hold_fact(id, HoldFact(day(opened), "review", ending), version_at=ending or day(opened))


def reached(milestone: Milestone = Milestone.PAID, *, on: int = 0) -> Fact:
    return milestone_fact(milestone, day(on))


def a_decision(
    kind: DecisionKind, *, payee: UUID | None = ANN, on: int = 4, amount: int | None = None, currency: str = "USD"
) -> Fact:
    return decision_fact(
        DecisionFact(kind, day(on), "key_desk", "decided", payee, currency, amount_minor=amount),
    )


def an_approval(amount: int, *, on: int = 4, payee: UUID = ANN, currency: str = "USD") -> Fact:
    return a_decision(DecisionKind.APPROVE, payee=payee, on=on, amount=amount, currency=currency)


def a_rejection(*, on: int = 4, payee: UUID = ANN) -> Fact:
    return a_decision(DecisionKind.REJECT, payee=payee, on=on)


def a_credit(payee: UUID | None, *, on: int = 4) -> Fact:
    """A person says who brought the order; None is nobody."""
    return a_decision(DecisionKind.ATTRIBUTE, payee=payee, on=on, currency="")


def an_adjustment(
    amount: int,
    *,
    id: str = "a1",  # noqa: A002 # the fact's own word
    payee: UUID = ANN,
    on: int = 4,
    currency: str = "USD",
) -> Fact:
    """A person adds to what somebody earns; below zero takes from it."""
    return decision_fact(
        DecisionFact(DecisionKind.ADJUST, day(on), "key_desk", "goodwill", payee, currency, amount, id=id)
    )


# What follows


def merged(facts: Iterable[Fact]) -> dict[tuple[FactKind, str], Fact]:
    known: dict[tuple[FactKind, str], Fact] = {}
    for fact in facts:
        place = (fact.kind, fact.key)
        known[place] = merge(known[place], fact) if place in known else fact
    return known


def told(*parts: Fact | OrderSnapshot) -> OrderFacts:
    """All that was told, merged; a bare snapshot is the version of when it was placed."""
    facts = [part if isinstance(part, Fact) else order_fact(part, version_at=part.placed_at) for part in parts]
    return OrderFacts.of(merged(facts).values())


def netted(*parts: Fact | OrderSnapshot) -> list[NetLine]:
    facts = told(*parts)
    assert facts.snapshot is not None
    return net_lines(facts.snapshot, facts.all_refunds())


def assessed(
    *parts: Fact | OrderSnapshot,
    shop: DatedInputs | None = None,
    identities: Identities | None = None,
    known: Iterable[tuple[UUID, str]] = (),
) -> Assessment:
    return assess(told(*parts), shop or a_shop(), identities=identities or {}, known=known)


def the_target(
    *parts: Fact | OrderSnapshot, shop: DatedInputs | None = None, known: Iterable[tuple[UUID, str]] = ()
) -> Target:
    """The only target of an order."""
    (target,) = assessed(*parts, shop=shop, known=known).targets
    return target
