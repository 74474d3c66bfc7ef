"""When a version of terms reaches an affiliate, whether it may be a cut, and what changed."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.conditions import Situation, SkuIn
from service.domain.dated import Binding
from service.domain.marks import ContentType
from service.domain.notice import (
    Change,
    ChangeEffect,
    ChangeKind,
    differences,
    is_surely_no_cut,
    reached,
    reaches_at,
    reaches_next,
    terms_hash,
)
from service.domain.order import Line, Milestone, NetLine
from service.domain.periods import (
    Cap,
    Ladder,
    Mark,
    Milestones,
    PeriodRule,
    Scale,
    Span,
    Step,
    Stretch,
    Sum,
    Sums,
    gives,
    period_rule_json,
)
from service.domain.program import (
    AttributionTerms,
    Base,
    BindingRank,
    Model,
    Precedence,
    ProgramVersion,
    SelfPurchase,
    TechnicalFee,
    Terms,
    Window,
    versions_for,
)
from service.domain.quote import quote
from service.domain.rules import Agent, Flat, Per, Percent, Plan, Rule
from service.domain.settlement import Approval, RollingSettlement, StatementSettlement
from service.domain.written import Amounts
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    BEN,
    PROGRAM,
    a_click,
    a_shop,
    a_version,
    an_order,
    assessed,
    day,
    flat,
    percent,
    utc,
)
from tests.domain.strategies import examples

OLD_HAND, NEWCOMER = utc("2026-01-05"), utc("2026-03-10")
FIFTEEN = a_version(percent("15"), number=1, since=utc("2026-01-01"))
TWELVE = a_version(percent("12"), number=2, since=utc("2026-03-01"))
EIGHTEEN = a_version(percent("18"), number=3, since=utc("2026-05-01"))


def since(number: int, begins: str, rate: str, *, notice_days: int = 30) -> ProgramVersion:
    return a_version(percent(rate), number=number, since=utc(begins), notice_days=notice_days)


# When it reaches whom.


@pytest.mark.parametrize(
    ("versions", "enrolled", "number", "expected"),
    [
        pytest.param([FIFTEEN, TWELVE], OLD_HAND, 1, "2026-01-05", id="what was there when he joined: from then on"),
        pytest.param([FIFTEEN, TWELVE], OLD_HAND, 2, "2026-03-31", id="a cut waits for the notice"),
        pytest.param([FIFTEEN, TWELVE], NEWCOMER, 2, "2026-03-10", id="a newcomer gets it at once"),
        pytest.param([FIFTEEN, TWELVE], utc("2026-03-01"), 2, "2026-03-01", id="who joins with it is a newcomer"),
        pytest.param([FIFTEEN, TWELVE], utc("2026-02-28"), 2, "2026-03-31", id="who joined the day before is not"),
        pytest.param([FIFTEEN, TWELVE, EIGHTEEN], OLD_HAND, 3, "2026-05-01", id="a rise waits for nothing"),
        pytest.param([FIFTEEN, TWELVE, EIGHTEEN], NEWCOMER, 3, "2026-05-01", id="a rise is there for all at once"),
        pytest.param(
            [FIFTEEN, TWELVE, since(3, "2026-03-15", "18")], OLD_HAND, 3, "2026-03-15", id="a rise above what waits"
        ),
        pytest.param(
            [FIFTEEN, TWELVE, since(3, "2026-03-15", "14")], OLD_HAND, 3, "2026-03-31", id="a rise that is still a cut"
        ),
        pytest.param(
            [FIFTEEN, TWELVE, since(3, "2026-03-15", "14")], NEWCOMER, 3, "2026-03-15", id="which to others is a rise"
        ),
        pytest.param(
            [FIFTEEN, TWELVE, since(3, "2026-03-15", "10")], OLD_HAND, 3, "2026-04-14", id="the last notice counts"
        ),
        pytest.param(
            [since(1, "2026-01-01", "15", notice_days=60), since(2, "2026-03-01", "12", notice_days=0),
             since(3, "2026-03-15", "10")],
            OLD_HAND, 3, "2026-04-30", id="the notice is that of the version lost",
        ),
        pytest.param(
            [since(1, "2026-01-01", "15", notice_days=0), TWELVE], OLD_HAND, 2, "2026-03-01", id="no notice promised"
        ),
        pytest.param(
            [FIFTEEN, a_version(percent("15"), number=2, since=utc("2026-03-01"), exclude=[SkuIn(frozenset("A"))])],
            OLD_HAND, 2, "2026-03-31", id="what may be a cut waits like one",
        ),
        pytest.param(
            [FIFTEEN, a_version(percent("15"), number=2, since=utc("2026-03-01"), notice_days=0,
                                settlement=RollingSettlement(Milestone.DELIVERED, 60))],
            OLD_HAND, 2, "2026-03-01", id="what changes no amount waits for nothing",
        ),
    ],
)  # fmt: skip
def test_a_version_reaches_an_affiliate(
    versions: list[ProgramVersion], enrolled: datetime, number: int, expected: str
) -> None:
    assert reaches_at(versions, enrolled_at=enrolled, number=number) == utc(expected)


@pytest.mark.parametrize(
    ("on", "old_hand", "newcomer"),
    [
        pytest.param("2026-02-28T23:59:59", "15", None, id="before the cut"),
        pytest.param("2026-03-10", "15", "12", id="new affiliates at once"),
        pytest.param("2026-03-30T23:59:59", "15", "12", id="to 30 March"),
        pytest.param("2026-03-31", "12", "12", id="from 31 March"),
        pytest.param("2026-04-30T23:59:59", "12", "12", id="before the rise"),
        pytest.param("2026-05-01", "18", "18", id="a rise at once for both"),
    ],
)
def test_golden_rate_lock_of_thirty_days(on: str, old_hand: str, newcomer: str | None) -> None:
    """reference/domain.md §1.3 and §7: 15 % → 12 % on 1 March with 30 days' notice, then 18 %."""
    versions = [FIFTEEN, TWELVE, EIGHTEEN]

    for enrolled, rate in ((OLD_HAND, old_hand), (NEWCOMER, newcomer)):
        if rate is None:
            continue
        version = reached(versions, enrolled_at=enrolled, at=utc(on))
        assert version is not None
        assert version.terms.rules == (percent(rate),)


@pytest.mark.parametrize(
    ("versions", "on", "expected"),
    [
        pytest.param([FIFTEEN, TWELVE, EIGHTEEN], "2026-02-01", (2, "2026-03-31"), id="the cut, when it arrives"),
        pytest.param([FIFTEEN, TWELVE, EIGHTEEN], "2026-04-01", (3, "2026-05-01"), id="the rise, when it begins"),
        pytest.param([FIFTEEN, TWELVE, EIGHTEEN], "2026-05-01", None, id="nothing more is known"),
        pytest.param(
            [FIFTEEN, TWELVE, since(3, "2026-03-15", "18")], "2026-03-10", (3, "2026-03-15"), id="the cut never arrives"
        ),
        pytest.param([FIFTEEN], "2025-12-31", (1, "2026-01-05"), id="the first, before he has joined"),
        pytest.param(
            [since(1, "2026-01-01", "15", notice_days=60), since(2, "2026-03-01", "18", notice_days=0),
             since(3, "2026-03-15", "10")],
            "2026-03-02", (1, "2026-03-15"), id="an older one again, which promised more notice",
        ),
    ],
)  # fmt: skip
def test_what_reaches_an_affiliate_next(
    versions: list[ProgramVersion], on: str, expected: tuple[int, str] | None
) -> None:
    found = reaches_next(versions, enrolled_at=OLD_HAND, at=utc(on))

    assert (None if found is None else (found[0].number, found[1])) == (
        None if expected is None else (expected[0], utc(expected[1]))
    )


def test_before_the_first_version_nothing_has_reached_anybody() -> None:
    assert reached([FIFTEEN], enrolled_at=utc("2025-12-01"), at=utc("2025-12-31")) is None
    with pytest.raises(KeyError):
        reaches_at([FIFTEEN], enrolled_at=OLD_HAND, number=2)


@examples(300)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 40), st.sampled_from([0, 5, 30])),
        min_size=1,
        max_size=6,
        unique_by=lambda each: each[0],
    ),
    st.integers(-10, 60),
    st.integers(0, 120),
)
def test_the_version_that_has_reached_an_affiliate_is_the_one_that_pays_an_order_of_that_moment(
    drawn: list[tuple[int, int, int]], enrolled: int, later: int
) -> None:
    versions = [
        a_version(percent(str(rate)), number=number, since=day(start), notice_days=notice)
        for number, (start, rate, notice) in enumerate(sorted(drawn), start=1)
    ]
    at = day(enrolled + later)

    found = reached(versions, enrolled_at=day(enrolled), at=at)

    counted = versions_for(versions, placed_at=at, enrolled_at=day(enrolled))
    best = max((_rate(version) for version in counted), default=None)
    assert (None if found is None else _rate(found)) == best


def _rate(version: ProgramVersion) -> Fraction:
    [rule] = version.terms.rules
    assert isinstance(rule.pays, Percent)
    return rule.pays.rate


@examples(150)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), min_size=1, max_size=5, unique_by=lambda each: each[0]),
    st.integers(-10, 50),
)
def test_between_now_and_the_next_nothing_changes(drawn: list[tuple[int, int]], at: int) -> None:
    versions = [
        a_version(percent(str(rate)), number=number, since=day(start))
        for number, (start, rate) in enumerate(sorted(drawn), start=1)
    ]
    now = reached(versions, enrolled_at=day(-20), at=day(at))
    following = reaches_next(versions, enrolled_at=day(-20), at=day(at))
    until = day(200) if following is None else following[1]

    for hours in range(0, 24 * 100, 12):
        moment = day(at, hours=hours)
        if moment < until:
            assert reached(versions, enrolled_at=day(-20), at=moment) == now
    if following is not None:
        assert following[0] != now
        assert reached(versions, enrolled_at=day(-20), at=until) == following[0]


# Whether it may be a cut.


def terms(*rules: Rule, **more: Any) -> Terms:
    return Terms(rules=rules or (percent("10"),), **more)


ROLLING = RollingSettlement(Milestone.PAID, 14)
MONTHLY = StatementSettlement(Milestone.PAID, 7, cut_off_day=31, months_after=1, pay_day=20)
BONUS = flat({"USD": 100}, component="bonus", per=Per.ORDER)
UNBOUND = AttributionTerms(customer_binding=BindingRank.IGNORED, product_binding=BindingRank.BEFORE)
LAST_BY_CLICK = replace(UNBOUND, precedence=Precedence.CLICK)
REVIEWED = AttributionTerms(self_purchase=SelfPurchase.REVIEW)
LIVE = Window(3, frozenset({ContentType.LIVE}))
AGENT = Agent(ANN, Fraction(1, 10), utc("2026-01-01"))
FEE = TechnicalFee(ANN, Fraction(1, 10))
CAP = Cap("most", Stretch(Span.MONTH), (("USD", 500),))
LADDER = Ladder(
    "climb", Stretch(Span.MONTH), (Step((("USD", 100),), Fraction(1, 10)), Step((("USD", 300),), Fraction(1, 5)))
)
MARKS = Milestones("marks", Stretch(Span.MONTH), (Mark((("USD", 5),), orders=3), Mark((("USD", 9),), (("USD", 400),))))

NO_CUT = [
    pytest.param(terms(), terms(), id="the same"),
    pytest.param(terms(), terms(percent("10.5")), id="a higher rate"),
    pytest.param(terms(), terms(percent("10", name="Base")), id="another name"),
    pytest.param(terms(flat({"USD": 100})), terms(flat({"USD": 100, "VND": 1})), id="an amount in one more currency"),
    pytest.param(terms(percent("5"), percent("3")), terms(percent("5"), percent("4")), id="one of two rules"),
    pytest.param(terms(), terms(percent("10"), BONUS), id="a bonus of its own"),
    pytest.param(
        terms(BONUS, percent("1")),
        terms(flat({"USD": 101}, component="bonus", per=Per.ORDER), percent("1")),
        id="a bonus raised",
    ),
    pytest.param(
        terms(percent("10", caps_per_line_minor=(("USD", 5),))),
        terms(percent("10", caps_per_line_minor=(("USD", 6),))),
        id="a higher cap per line",
    ),
    pytest.param(
        terms(caps_minor=(("USD", 5), ("VND", 7))), terms(caps_minor=(("VND", 7),)), id="no cap per order any more"
    ),
    pytest.param(
        terms(payout_minimums_minor=(("USD", 5),)), terms(payout_minimums_minor=(("USD", 4),)), id="a lower minimum"
    ),
    pytest.param(terms(payout_minimums_minor=(("USD", 5),)), terms(), id="no minimum any more"),
    pytest.param(terms(), terms(notice_days=31), id="longer notice"),
    pytest.param(terms(attribution=UNBOUND), terms(attribution=replace(UNBOUND, window_days=31)), id="a longer window"),
    pytest.param(
        terms(attribution=replace(UNBOUND, windows=(LIVE,))),
        terms(attribution=replace(UNBOUND, windows=(replace(LIVE, days=4),))),
        id="a longer window of a content",
    ),
    pytest.param(
        terms(attribution=REVIEWED),
        terms(attribution=replace(REVIEWED, self_purchase=SelfPurchase.ALLOW, self_purchase_by=frozenset({"id"}))),
        id="own purchases looked at no more",
    ),
    pytest.param(
        terms(attribution=replace(REVIEWED, self_purchase=SelfPurchase.ALLOW)),
        terms(attribution=replace(REVIEWED, self_purchase=SelfPurchase.ALLOW, self_purchase_by=frozenset({"id"}))),
        id="by what nobody is looked for",
    ),
    pytest.param(terms(percent("10", priority=1)), terms(percent("10", priority=1, agent=AGENT)), id="an agent"),
    pytest.param(
        terms(percent("10", priority=1, agent=AGENT)),
        terms(percent("11", priority=1, agent=replace(AGENT, fee=Fraction(0)))),
        id="an agent's fee, and a higher rate",
    ),
    pytest.param(terms(technical_fee=FEE), terms(technical_fee=replace(FEE, rate=Fraction(1, 20))), id="a lower fee"),
    pytest.param(terms(technical_fee=FEE), terms(), id="no technical fee any more"),
    pytest.param(terms(technical_fee=FEE), terms(technical_fee=replace(FEE, payee_id=BEN)), id="a fee for another"),
    pytest.param(terms(periods=(CAP,)), terms(), id="no cap of a month any more"),
    pytest.param(
        terms(periods=(CAP,)), terms(periods=(replace(CAP, amounts_minor=(("USD", 501),)),)), id="a higher one"
    ),
    pytest.param(terms(), terms(periods=(LADDER, MARKS)), id="bonuses"),
    pytest.param(terms(periods=(LADDER, MARKS)), terms(periods=(MARKS, LADDER)), id="bonuses turned round"),
    pytest.param(
        terms(periods=(LADDER,)),
        terms(periods=(replace(LADDER, scale=Scale.RETROACTIVE),)),
        id="a ladder for everything",
    ),
    pytest.param(
        terms(periods=(LADDER,)),
        terms(periods=(replace(LADDER, steps=(Step((("USD", 50),), Fraction(1, 9)), *LADDER.steps[1:])),)),
        id="a step that begins earlier and gives more",
    ),
    pytest.param(
        terms(periods=(LADDER,)),
        terms(
            periods=(
                replace(
                    LADDER,
                    steps=(*LADDER.steps, Step((("USD", 900),), Fraction(1))),
                ),
            )
        ),
        id="one more step",
    ),
    pytest.param(
        terms(periods=(MARKS,)),
        terms(
            periods=(
                replace(MARKS, marks=(Mark((("USD", 6),), orders=2), *MARKS.marks[1:], Mark((("USD", 1),), orders=9))),
            )
        ),
        id="a mark reached earlier that pays more, and one more",
    ),
    pytest.param(
        terms(settlement=ROLLING), terms(settlement=RollingSettlement(Milestone.PAID, 13)), id="payable earlier"
    ),
    pytest.param(
        terms(settlement=replace(MONTHLY, approval=Approval.MANUAL)), terms(settlement=MONTHLY), id="no approval needed"
    ),
]
A_CUT = [
    pytest.param(terms(), terms(percent("9.999999")), id="a lower rate"),
    pytest.param(terms(), terms(flat({"USD": 10**9})), id="another kind"),
    pytest.param(terms(flat({"USD": 100})), terms(flat({"USD": 99})), id="a lower amount"),
    pytest.param(terms(flat({"USD": 100})), terms(flat({"VND": 10**9})), id="an amount in another currency"),
    pytest.param(terms(flat({"USD": 100})), terms(flat({"USD": 100}, per=Per.UNIT)), id="per another thing"),
    pytest.param(terms(percent("5"), percent("3")), terms(percent("5")), id="a rule less"),
    pytest.param(terms(percent("5")), terms(percent("5"), percent("9")), id="a rule more that competes"),
    pytest.param(
        terms(percent("5", skus=["A"]), percent("3")), terms(percent("3"), percent("5", skus=["A"])), id="turned round"
    ),
    pytest.param(terms(), terms(percent("20", skus=["A"])), id="for fewer goods"),
    pytest.param(terms(), terms(percent("20", plan=Plan.EXCLUSIVE)), id="of another plan"),
    pytest.param(terms(), terms(percent("20", funder="brand")), id="borne by another"),
    pytest.param(
        terms(BONUS, percent("1", component="bonus")),
        terms(flat({"USD": 101}, component="bonus", per=Per.ORDER), percent("1", component="bonus")),
        id="an amount per order raised that competes",
    ),
    pytest.param(terms(), terms(percent("10", caps_per_line_minor=(("USD", 5),))), id="a cap per line"),
    pytest.param(terms(), terms(percent("50"), caps_minor=(("USD", 5),)), id="a cap per order"),
    pytest.param(terms(), terms(exclude=(SkuIn(frozenset({"A"})),)), id="goods excluded"),
    pytest.param(terms(), terms(payout_minimums_minor=(("USD", 1),)), id="a minimum"),
    pytest.param(terms(), terms(notice_days=29), id="shorter notice"),
    pytest.param(
        terms(attribution=UNBOUND), terms(attribution=replace(UNBOUND, window_days=29)), id="a shorter window"
    ),
    *(
        pytest.param(
            terms(attribution=attribution),
            terms(attribution=replace(attribution, window_days=31)),
            id=f"a longer one, {why}",
        )
        for attribution, why in (
            (replace(UNBOUND, customer_binding=BindingRank.AFTER), "where bound customers come after clicks"),
            (replace(UNBOUND, product_binding=BindingRank.AFTER), "where bound products do"),
            (replace(UNBOUND, reorder_days=7), "where orders placed again do"),
            (replace(UNBOUND, model=Model.LINEAR), "where all clicks share"),
        )
    ),
    pytest.param(
        terms(attribution=replace(UNBOUND, windows=(LIVE,))),
        terms(attribution=replace(UNBOUND, windows=(replace(LIVE, days=2),))),
        id="a shorter window of a content",
    ),
    pytest.param(
        terms(attribution=UNBOUND),
        terms(attribution=replace(UNBOUND, windows=(replace(LIVE, days=60),))),
        id="a window of its own for a content",
    ),
    pytest.param(terms(), terms(attribution=AttributionTerms(customer_binding=BindingRank.BEFORE)), id="another rank"),
    pytest.param(terms(), terms(attribution=REVIEWED), id="own purchases looked at"),
    pytest.param(
        terms(attribution=REVIEWED),
        terms(attribution=replace(REVIEWED, self_purchase_by=frozenset({"id"}))),
        id="looked at by less",
    ),
    pytest.param(
        terms(BONUS, percent("1", component="bonus", priority=1)),
        terms(BONUS, percent("1", component="bonus", priority=1, agent=AGENT)),
        id="an agent where an amount per order competes",
    ),
    pytest.param(
        terms(percent("10", priority=1, agent=AGENT)), terms(percent("9", priority=1)), id="an agent less, and a rate"
    ),
    pytest.param(terms(), terms(technical_fee=FEE), id="a technical fee"),
    pytest.param(terms(technical_fee=FEE), terms(technical_fee=replace(FEE, rate=Fraction(2, 10))), id="a higher one"),
    pytest.param(terms(base=Base.CASH), terms(), id="another base"),
    pytest.param(terms(), terms(periods=(CAP,)), id="a cap of a month"),
    pytest.param(
        terms(periods=(CAP,)), terms(periods=(replace(CAP, amounts_minor=(("USD", 499),)),)), id="a lower one"
    ),
    pytest.param(
        terms(periods=(CAP,)),
        terms(periods=(replace(CAP, amounts_minor=(("USD", 500), ("VND", 5))),)),
        id="a cap in one more currency",
    ),
    pytest.param(
        terms(periods=(CAP,)), terms(periods=(replace(CAP, stretch=Stretch(Span.YEAR)),)), id="a cap of another span"
    ),
    pytest.param(terms(periods=(LADDER, MARKS)), terms(periods=(MARKS,)), id="a ladder less"),
    pytest.param(terms(periods=(LADDER,)), terms(periods=(replace(LADDER, key="new"),)), id="a ladder of another name"),
    pytest.param(
        terms(periods=(LADDER,)), terms(periods=(replace(MARKS, key=LADDER.key),)), id="marks in place of a ladder"
    ),
    pytest.param(
        terms(periods=(replace(LADDER, scale=Scale.RETROACTIVE),)), terms(periods=(LADDER,)), id="a ladder for less"
    ),
    pytest.param(terms(periods=(LADDER,)), terms(periods=(replace(LADDER, steps=LADDER.steps[:1]),)), id="a step less"),
    pytest.param(
        terms(periods=(LADDER,)),
        terms(periods=(replace(LADDER, steps=(Step((("USD", 101),), Fraction(1, 10)), *LADDER.steps[1:])),)),
        id="a step that begins later",
    ),
    pytest.param(
        terms(periods=(MARKS,)),
        terms(periods=(replace(MARKS, marks=(Mark((("USD", 5),), orders=4), *MARKS.marks[1:])),)),
        id="a mark reached later",
    ),
    pytest.param(
        terms(periods=(MARKS,)),
        terms(periods=(replace(MARKS, marks=(Mark((("USD", 4),), orders=3), *MARKS.marks[1:])),)),
        id="a mark that pays less",
    ),
    pytest.param(
        terms(periods=(MARKS,)),
        terms(periods=(replace(MARKS, marks=(Mark((("USD", 5),), (("USD", 1),)), *MARKS.marks[1:])),)),
        id="a mark of sales in place of orders",
    ),
    pytest.param(terms(periods=(MARKS,)), terms(periods=(replace(MARKS, marks=MARKS.marks[:1]),)), id="a mark less"),
    pytest.param(terms(), terms(attribution=AttributionTerms(model=Model.FIRST)), id="another model"),
    pytest.param(
        terms(attribution=LAST_BY_CLICK),
        terms(attribution=replace(LAST_BY_CLICK, window_days=31)),
        id="a longer window in which old clicks beat coupons",
    ),
    pytest.param(
        terms(attribution=replace(UNBOUND, model=Model.FIRST)),
        terms(attribution=replace(UNBOUND, model=Model.FIRST, window_days=31)),
        id="a longer window in which the first counts",
    ),
    pytest.param(
        terms(), terms(attribution=AttributionTerms(self_purchase=SelfPurchase.ALLOW)), id="others' own purchases"
    ),
    pytest.param(
        terms(settlement=ROLLING), terms(settlement=RollingSettlement(Milestone.PAID, 15)), id="payable later"
    ),
    pytest.param(
        terms(settlement=ROLLING), terms(settlement=RollingSettlement(Milestone.DELIVERED, 1)), id="another milestone"
    ),
    pytest.param(terms(settlement=ROLLING), terms(settlement=MONTHLY), id="by statements"),
    pytest.param(terms(settlement=MONTHLY), terms(settlement=replace(MONTHLY, pay_day=21)), id="another pay day"),
    pytest.param(
        terms(settlement=ROLLING), terms(settlement=replace(ROLLING, approval=Approval.MANUAL)), id="approval needed"
    ),
]


@pytest.mark.parametrize(("old", "new"), NO_CUT)
def test_this_is_surely_no_cut(old: Terms, new: Terms) -> None:
    assert is_surely_no_cut(old=old, new=new)


@pytest.mark.parametrize(("old", "new"), A_CUT)
def test_this_may_be_one(old: Terms, new: Terms) -> None:
    assert not is_surely_no_cut(old=old, new=new)


def test_an_amount_per_order_that_is_raised_can_give_less() -> None:
    """Why one that competes with other rules is not taken for a rise: it moves to lines where it replaces more."""
    old = terms(percent("20", skus=["A"], priority=0), flat({"USD": 100}, per=Per.ORDER, priority=0))
    new = terms(percent("20", skus=["A"], priority=0), flat({"USD": 125}, per=Per.ORDER, priority=0))
    lines = [NetLine(each, 0) for each in (Line("1", "A", 300), Line("2", "B", 300))]

    assert (_total(old, lines), _total(new, lines)) == (160, 125)
    assert not is_surely_no_cut(old=old, new=new)


def test_a_longer_window_can_take_an_order_from_whom_its_buyer_is_bound_to() -> None:
    """Why one is not taken for a rise where bindings come after clicks."""
    binding = Binding(day(-50), BEN, PROGRAM)

    def brought_by(window_days: int) -> Any:
        shop = replace(a_shop(window_days=window_days), customer_bindings={("email", "hash-of-cam"): (binding,)})
        order = an_order(touches=[a_click(on=day(-31))], customer=(("email", "hash-of-cam"),))
        return assessed(order, shop=shop).attribution.affiliate_id

    assert (brought_by(30), brought_by(31)) == (BEN, ANN)
    assert not is_surely_no_cut(old=terms(), new=terms(attribution=AttributionTerms(window_days=31)))


def test_what_is_surely_no_cut_of_a_period_gives_no_sums_less() -> None:
    counted: Counter[bool] = Counter()
    places = st.builds(Sum, strategies.amounts, strategies.amounts, st.integers(0, 25))

    @examples(1500)
    @given(strategies.period_rule, strategies.period_rule, st.booleans(), st.builds(Sums, places, places, places))
    def holds(old: PeriodRule, drawn: PeriodRule, is_like: bool, sums: Sums) -> None:
        new: PeriodRule = replace(drawn, stretch=old.stretch)
        # Terms drawn alone seldom compare.
        if is_like:
            match old, new:
                case Ladder(steps=before), Ladder(steps=after):
                    last = max(before[-1].rate, after[-1].rate)
                    new = replace(new, steps=tuple(Step(step.starts_minor, last) for step in before))
                case Milestones(marks=before_marks), Milestones(marks=after_marks):
                    new = replace(new, marks=(*before_marks, *after_marks))
                case _:
                    pass
        is_no_cut = is_surely_no_cut(old=terms(periods=(old,)), new=terms(periods=(new,)))
        counted[is_no_cut] += 1

        if is_no_cut:
            assert gives([new], sums, "USD").target_minor >= gives([old], sums, "USD").target_minor
            assert gives([new], sums, "USD").settled_minor >= gives([old], sums, "USD").settled_minor

    holds()

    assert counted[True] > 200
    assert counted[False] > 200


def _total(of: Terms, lines: Sequence[NetLine]) -> int:
    order = Situation.of(lines, placed_at=day(0), currency="USD")
    return quote(ProgramVersion(a_version().program_id, 1, day(-1), of), list(lines), order).total_minor


@st.composite
def _raised(draw: st.DrawFn) -> tuple[Terms, Terms]:
    """Terms, and terms in which whatever is paid may be more, and other things may be added."""
    rules = draw(st.lists(strategies.rules, min_size=1, max_size=4))
    rates, more = st.integers(0, 100).map(lambda percent: Fraction(percent, 100)), st.integers(0, 500)

    def raised(rule: Rule) -> Rule:
        pays: Percent | Flat
        if isinstance(rule.pays, Percent):
            pays = Percent(max(rule.pays.rate, draw(rates)))
        else:
            amounts = tuple((currency, amount + draw(more)) for currency, amount in rule.pays.amounts_minor)
            pays = Flat(amounts, rule.pays.per)
        caps: Amounts = tuple((currency, cap + draw(more)) for currency, cap in rule.caps_per_line_minor)
        return replace(rule, pays=pays, caps_per_line_minor=caps if draw(st.booleans()) else ())

    extra = [replace(rule, component="extra") for rule in draw(st.lists(strategies.rules, max_size=1))]
    cap: Amounts = draw(st.just(()) | strategies.some_amounts)
    higher: Amounts = tuple((currency, amount + draw(more)) for currency, amount in cap)
    return (
        Terms(rules=tuple(rules), caps_minor=cap),
        Terms(rules=(*[raised(rule) for rule in rules], *extra), caps_minor=higher),
    )


def test_what_is_surely_no_cut_gives_no_order_less() -> None:
    counted: Counter[bool] = Counter()

    @examples(800)
    @given(_raised(), st.lists(strategies.lines, min_size=1, max_size=4, unique_by=lambda line: line.id))
    def holds(drawn: tuple[Terms, Terms], ordered: list[Line]) -> None:
        old, new = drawn
        lines = [NetLine(line, 0) for line in ordered if line.goods and line.net_minor]
        is_no_cut = is_surely_no_cut(old=old, new=new)
        counted[is_no_cut] += 1

        if is_no_cut:
            # Where an amount per order meets another component, a unit may move to a line that is full already.
            slack = len(lines) if _meets(new.rules) else 0
            assert _total(new, lines) >= _total(old, lines) - slack

    holds()

    assert counted[True] > 400
    assert counted[False] > 50


def _meets(rules: Iterable[Rule]) -> bool:
    components = {rule.component for rule in rules}
    return len(components) > 1 and any(isinstance(rule.pays, Flat) and rule.pays.per is Per.ORDER for rule in rules)


# What changed.


def written(of: Terms) -> dict[str, Any]:
    return of.as_json()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(terms(), terms(), [], id="nothing"),
        pytest.param(
            terms(percent("15")), terms(percent("12")),
            [Change("/rules/0/rate", ChangeKind.CHANGED, "15", "12", ChangeEffect.WORSE)], id="a cut",
        ),
        pytest.param(
            terms(percent("9")), terms(percent("12")),
            [Change("/rules/0/rate", ChangeKind.CHANGED, "9", "12", ChangeEffect.BETTER)],
            id="a rise, by number and not by letter",
        ),
        pytest.param(
            terms(percent("9")), terms(percent("9"), percent("1", name="More")),
            [Change("/rules/1", ChangeKind.ADDED, None, written(terms(percent("1", name="More")))["rules"][0],
                    ChangeEffect.UNCLEAR)],
            id="a rule more",
        ),
        pytest.param(
            terms(percent("9"), percent("1")), terms(percent("9")),
            [Change("/rules/1", ChangeKind.REMOVED, written(terms(percent("1")))["rules"][0], None, ChangeEffect.UNCLEAR)],
            id="a rule less",
        ),
        pytest.param(
            terms(percent("9")), terms(flat({"USD": 5})),
            [Change("/rules/0", ChangeKind.CHANGED, written(terms(percent("9")))["rules"][0],
                    written(terms(flat({"USD": 5})))["rules"][0], ChangeEffect.UNCLEAR)],
            id="a rule of another kind is told whole",
        ),
        pytest.param(
            terms(percent("9", skus=["A"])), terms(percent("9", skus=["A", "B"])),
            [Change("/rules/0/match/skus", ChangeKind.CHANGED, ["A"], ["A", "B"], ChangeEffect.UNCLEAR)],
            id="a list of words is told whole",
        ),
        pytest.param(
            terms(settlement=ROLLING), terms(settlement=replace(ROLLING, hold_days=7)),
            [Change("/settlement/hold_days", ChangeKind.CHANGED, 14, 7, ChangeEffect.BETTER)], id="payable earlier",
        ),
        pytest.param(
            terms(settlement=ROLLING), terms(settlement=MONTHLY),
            [Change("/settlement", ChangeKind.CHANGED, written(terms(settlement=ROLLING))["settlement"],
                    written(terms(settlement=MONTHLY))["settlement"], ChangeEffect.UNCLEAR)],
            id="settlement of another kind",
        ),
    ],
)  # fmt: skip
def test_differences_are_told_by_pointer(old: Terms, new: Terms, expected: list[Change]) -> None:
    assert differences(written(old), written(new)) == expected


def amounts(**minor: int) -> list[dict[str, Any]]:
    return [{"amount_minor": amount, "currency": currency} for currency, amount in minor.items()]


def windows(*days: int) -> list[dict[str, Any]]:
    return [{"days": number, "content_types": ["live"], "channels": [f"c{place}"]} for place, number in enumerate(days)]


def of_period(rule: PeriodRule) -> dict[str, Any]:
    """Terms with this rule, whatever it is called."""
    return {"periods": [period_rule_json(rule) | {"key": "x"}]}


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        pytest.param({"rules": [{"kind": "flat", "amounts": amounts(USD=5)}]},
                     {"rules": [{"kind": "flat", "amounts": amounts(USD=5, VND=9)}]}, "better", id="one more currency"),
        pytest.param({"rules": [{"kind": "flat", "amounts": amounts(USD=5)}]},
                     {"rules": [{"kind": "flat", "amounts": amounts(USD=6, VND=0)}]}, "better", id="a higher amount"),
        pytest.param({"rules": [{"kind": "flat", "amounts": amounts(USD=5, VND=9)}]},
                     {"rules": [{"kind": "flat", "amounts": amounts(USD=6, VND=8)}]}, "unclear", id="more and less"),
        pytest.param({"rules": [{"kind": "flat", "amounts": amounts(USD=5)}]},
                     {"rules": [{"kind": "flat", "amounts": amounts(USD=4)}]}, "worse", id="a lower amount"),
        pytest.param({"rules": [{"kind": "flat", "amounts": amounts(USD=5)}]},
                     {"rules": [{"kind": "flat", "amounts": amounts(USD=5, VND=0)}]}, "none", id="nothing in dong"),
        pytest.param({"cap_per_order": []}, {"cap_per_order": amounts(USD=5)}, "worse", id="a cap"),
        pytest.param({"cap_per_order": amounts(USD=5)}, {"cap_per_order": amounts(USD=6)}, "better", id="a higher cap"),
        pytest.param({"rules": [{"kind": "percent", "cap_per_line": amounts(USD=5)}]},
                     {"rules": [{"kind": "percent", "cap_per_line": []}]}, "better", id="no cap per line"),
        pytest.param({"payout_minimums": []}, {"payout_minimums": amounts(USD=5)}, "worse", id="a minimum"),
        pytest.param({"payout_minimums": amounts(USD=5)}, {"payout_minimums": amounts(USD=4)}, "better", id="a lower one"),
        pytest.param({"notice_days": 30}, {"notice_days": 7}, "worse", id="shorter notice"),
        pytest.param({"notice_days": 7}, {"notice_days": 30}, "better", id="longer notice"),
        pytest.param({"attribution": {"window_days": 30}}, {"attribution": {"window_days": 7}}, "worse", id="window"),
        pytest.param({"attribution": {"model": "last"}}, {"attribution": {"model": "first"}}, "unclear", id="model"),
        pytest.param({"settlement": {"hold_days": 7}}, {"settlement": {"hold_days": 14}}, "worse", id="payable later"),
        pytest.param({"settlement": {"approval": "manual"}}, {"settlement": {"approval": "automatic"}}, "better",
                     id="no approval"),
        pytest.param({"settlement": {"approval": "automatic"}}, {"settlement": {"approval": "manual"}}, "worse",
                     id="an approval"),
        pytest.param({"rules": [{"kind": "percent", "name": "A"}]}, {"rules": [{"kind": "percent", "name": "B"}]}, "none",
                     id="a name"),
        pytest.param({"exclude": []}, {"exclude": [{"kind": "sku", "in": ["A"]}]}, "unclear", id="an exclusion"),
        pytest.param({"base": "net"}, {"base": "cash"}, "worse", id="less of a base"),
        pytest.param({"base": "cash"}, {"base": "net"}, "better", id="more of a base"),
        pytest.param({"rules": [{"kind": "percent", "agent": None}]},
                     {"rules": [{"kind": "percent", "agent": {"payee_id": "aff_1", "fee": "5"}}]}, "none", id="an agent"),
        pytest.param({"rules": [{"kind": "percent", "agent": {"fee": "4"}}]},
                     {"rules": [{"kind": "percent", "agent": {"fee": "5"}}]}, "none", id="an agent's fee"),
        pytest.param({"technical_fee": None}, {"technical_fee": {"payee_id": "aff_1", "rate": "5"}}, "worse", id="a fee"),
        pytest.param({"technical_fee": {"rate": "5"}}, {"technical_fee": None}, "better", id="no fee"),
        pytest.param({"technical_fee": {"rate": "5"}}, {"technical_fee": {"rate": "12"}}, "worse", id="a higher fee"),
        pytest.param({"technical_fee": {"rate": "12"}}, {"technical_fee": {"rate": "5"}}, "better", id="a lower fee"),
        pytest.param({"technical_fee": {"payee_id": "aff_1"}}, {"technical_fee": {"payee_id": "aff_2"}}, "none",
                     id="a fee for another"),
        pytest.param({"attribution": {"reorder_days": 0}}, {"attribution": {"reorder_days": 7}}, "better", id="re-orders"),
        pytest.param({"attribution": {"windows": windows(3)}}, {"attribution": {"windows": windows(4)}}, "better",
                     id="a longer window of a content"),
        pytest.param({"attribution": {"windows": windows(3, 3)}}, {"attribution": {"windows": windows(3, 2)}}, "worse",
                     id="a shorter one"),
        pytest.param({"attribution": {"windows": windows(3, 3)}}, {"attribution": {"windows": windows(4, 2)}}, "unclear",
                     id="one longer and one shorter"),
        pytest.param({"attribution": {"windows": []}}, {"attribution": {"windows": windows(9)}}, "unclear",
                     id="a window of its own"),
        pytest.param({"attribution": {"self_purchase": "review"}}, {"attribution": {"self_purchase": "allow"}}, "better",
                     id="own purchases without a look"),
        pytest.param({"attribution": {"self_purchase": "allow"}}, {"attribution": {"self_purchase": "review"}}, "worse",
                     id="own purchases with one"),
        pytest.param({"attribution": {"self_purchase": "reject"}}, {"attribution": {"self_purchase": "allow"}}, "unclear",
                     id="own purchases"),
        pytest.param({"attribution": {"customer_binding": "ignored"}}, {"attribution": {"customer_binding": "after"}},
                     "better", id="bound customers count"),
        pytest.param({"attribution": {"product_binding": "after"}}, {"attribution": {"product_binding": "ignored"}},
                     "worse", id="bound products count no more"),
        pytest.param({"attribution": {"product_binding": "after"}}, {"attribution": {"product_binding": "before"}},
                     "unclear", id="bound products come first"),
        pytest.param({"periods": []}, {"periods": [period_rule_json(CAP)]}, "worse", id="a cap of a month"),
        pytest.param({"periods": [period_rule_json(CAP)]}, {"periods": []}, "better", id="no cap of a month"),
        pytest.param({"periods": []}, {"periods": [period_rule_json(LADDER)]}, "better", id="a ladder"),
        pytest.param({"periods": [period_rule_json(MARKS)]}, {"periods": []}, "worse", id="no marks any more"),
        pytest.param(of_period(CAP), of_period(replace(CAP, amounts_minor=(("USD", 499),))), "worse", id="a lower cap"),
        pytest.param(of_period(CAP), of_period(replace(CAP, amounts_minor=(("USD", 501),))), "better", id="a higher one"),
        pytest.param(of_period(CAP), of_period(LADDER), "unclear", id="a ladder in place of a cap"),
        pytest.param(of_period(CAP), of_period(replace(CAP, stretch=Stretch(Span.YEAR))), "unclear", id="a longer span"),
        pytest.param(of_period(LADDER), of_period(replace(LADDER, scale=Scale.RETROACTIVE)), "better", id="a scale"),
        pytest.param(of_period(replace(LADDER, scale=Scale.RETROACTIVE)), of_period(LADDER), "worse", id="the other scale"),
        pytest.param(of_period(LADDER), of_period(replace(LADDER, steps=LADDER.steps[:1])), "worse", id="a step less"),
        pytest.param(of_period(replace(LADDER, steps=LADDER.steps[:1])), of_period(LADDER), "better", id="a step more"),
        pytest.param(of_period(LADDER), of_period(replace(LADDER, steps=(Step((("USD", 50),), Fraction(1, 8)),))),
                     "unclear", id="steps that begin earlier and give less"),
        pytest.param(of_period(MARKS), of_period(replace(MARKS, marks=MARKS.marks[:1])), "worse", id="a mark less"),
        pytest.param(of_period(replace(MARKS, marks=MARKS.marks[:1])), of_period(MARKS), "better", id="a mark more"),
        pytest.param(of_period(MARKS), of_period(replace(MARKS, marks=tuple(reversed(MARKS.marks)))), "unclear",
                     id="marks turned round"),
    ],
)  # fmt: skip
def test_each_difference_says_what_it_means_for_affiliates(
    old: dict[str, Any], new: dict[str, Any], effect: str
) -> None:
    [change] = differences(old, new)

    assert change.effect == effect


def test_pointers_are_escaped() -> None:
    [change] = differences({"a/b": {"~": 1}}, {"a/b": {"~": 2}})

    assert change.pointer == "/a~1b/~0"


some_terms = st.builds(
    Terms,
    rules=st.lists(strategies.rules, min_size=1, max_size=3).map(tuple),
    attribution=strategies.attributions,
    technical_fee=st.none() | strategies.rates.map(lambda rate: replace(FEE, rate=rate)),
    periods=strategies.periods,
)


@examples(200)
@given(some_terms, some_terms)
def test_differences_are_all_of_them(old: Terms, new: Terms) -> None:
    """Putting each change into the old terms makes the new ones."""
    before, after = written(old), written(new)

    told = differences(before, after)

    # From the end, so that places of a list that goes away stay what they are.
    for change in reversed([each for each in told if each.kind is ChangeKind.REMOVED]):
        _put(before, change)
    for change in [each for each in told if each.kind is not ChangeKind.REMOVED]:
        _put(before, change)
    assert before == after


def _put(into: Any, change: Change) -> None:
    *way, last = change.pointer.removeprefix("/").split("/")
    for step in way:
        into = into[int(step)] if isinstance(into, list) else into[step]
    place: Any = int(last) if isinstance(into, list) else last
    if change.kind is ChangeKind.REMOVED:
        del into[place]
    elif isinstance(into, list) and place == len(into):
        into.append(change.new)
    else:
        into[place] = change.new


def test_the_hash_is_of_the_canonical_form() -> None:
    stored = {"b": [1, {"z": None, "a": "12.5"}], "a": "Trà"}

    expected = hashlib.sha256('{"a":"Trà","b":[1,{"a":"12.5","z":null}]}'.encode()).hexdigest()

    assert terms_hash(stored) == terms_hash(dict(reversed(stored.items()))) == expected


def test_a_day_of_notice_is_24_hours() -> None:
    versions = [since(1, "2026-01-01", "15", notice_days=1), TWELVE]

    assert reaches_at(versions, enrolled_at=OLD_HAND, number=2) - TWELVE.valid_from == timedelta(days=1)


LATE = StatementSettlement(Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL)


@pytest.mark.parametrize(
    ("old", "new", "no_cut"),
    [
        pytest.param(LATE, replace(LATE, auto_approve_days=30), True, id="silence will do"),
        pytest.param(replace(LATE, auto_approve_days=30), replace(LATE, auto_approve_days=20), True, id="sooner"),
        pytest.param(replace(LATE, auto_approve_days=30), LATE, False, id="silence will not do any more"),
        pytest.param(replace(LATE, approval=Approval.AUTOMATIC), replace(LATE, auto_approve_days=1), False, id="a person now"),
        pytest.param(replace(LATE, auto_approve_days=30), replace(LATE, approval=Approval.AUTOMATIC), True, id="nobody now"),
        pytest.param(LATE, replace(LATE, advance=Fraction(1, 2)), True, id="an advance"),
        pytest.param(replace(LATE, advance=Fraction(1, 2)), replace(LATE, advance=Fraction(1, 3)), False, id="a smaller one"),
        pytest.param(LATE, replace(LATE, objection_days=5), False, id="other days to object: let people look"),
    ],
)  # fmt: skip
def test_when_a_settlement_is_no_worse(old: StatementSettlement, new: StatementSettlement, no_cut: bool) -> None:
    rules = (percent("10"),)

    assert is_surely_no_cut(old=Terms(rules=rules, settlement=old), new=Terms(rules=rules, settlement=new)) is no_cut
