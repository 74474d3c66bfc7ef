"""Draft terms tried on orders, in plain values: the present terms change nothing, and every dimension adds up."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from service.domain.assessment import Assessment, assess
from service.domain.commission import Target
from service.domain.dated import DatedInputs, Membership
from service.domain.order import Fact, Line, OrderFacts
from service.domain.periods import Cap, Ladder, Mark, Milestones, Scale, Span, Step, Stretch
from service.domain.program import AttributionTerms, Model, TechnicalFee, Terms
from service.domain.rules import Percent, Rule
from service.domain.simulation import Cost, Dimension, SumKey, Tally, by_category, drafted
from service.domain.written import rate_of
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    NOBODY,
    OTHER_LINK,
    PLACED,
    PROGRAM,
    a_click,
    a_coupon,
    a_rejection,
    a_shop,
    a_version,
    an_adjustment,
    an_order,
    day,
    merged,
    percent,
    reached,
    told,
)
from tests.support.fact_sets import CAM, SHOP, facts_of

AGENCY = UUID(int=0xD1)
MONTH, DAY = Stretch(Span.MONTH), Stretch(Span.DAY)
USD_20 = (("USD", 2_000),)
EVERY_PERIOD = (
    Cap("most", DAY, (("USD", 900),)),
    Ladder("volume", MONTH, (Step(USD_20, rate_of("1")), Step((("USD", 9_000),), rate_of("2.5"))), Scale.RETROACTIVE),
    Milestones("marks", MONTH, (Mark((("USD", 777),), orders=3), Mark((("USD", 50),), starts_minor=USD_20))),
)


def plain(*rules: Rule, **changes: Any) -> Terms:
    return Terms(rules=rules or (percent("10"),), **changes)


PRESENT: dict[str, Terms] = {
    "percent": plain(),
    "capped": plain(percent("30"), caps_minor=(("USD", 700), ("EUR", 5))),
    "several touches": plain(attribution=AttributionTerms(model=Model.LINEAR)),
    "first and last": plain(percent("7.77"), attribution=AttributionTerms(model=Model.POSITION)),
    "with a fee taken out": plain(percent("12.5"), technical_fee=TechnicalFee(NOBODY, rate_of("10"))),
    "periods": plain(percent("9"), periods=EVERY_PERIOD),
}


def with_terms(inputs: DatedInputs, terms: Terms) -> DatedInputs:
    """The shop with these terms alone, in force for long."""
    return replace(inputs, versions={**inputs.versions, PROGRAM: (replace(a_version(), terms=terms),)})


def tried(
    orders: Iterable[OrderFacts], inputs: DatedInputs, draft: Terms, *, time_zone: str = "UTC"
) -> dict[SumKey, Cost]:
    """What all of it comes to, periods included."""
    tally = Tally(PROGRAM, time_zone)
    then = drafted(inputs, PROGRAM, draft)
    for facts in orders:
        assert facts.snapshot is not None
        sides = [(assess(facts, each, identities={}), each) for each in (inputs, then)]
        tally.add(facts.snapshot.placed_at, sides[0], sides[1])
    for name, period in tally.periods.items():
        tally.add_period(name, period)
    return tally.sums


def total(sums: dict[SumKey, Cost], currency: str = "USD") -> Cost:
    return sums.get(SumKey(Dimension.TOTAL, "", currency), Cost())


def by(sums: dict[SumKey, Cost], dimension: Dimension) -> dict[str, tuple[int, int]]:
    return {name.key: (cost.now_minor, cost.then_minor) for name, cost in sums.items() if name.dimension is dimension}


ORDERS = [facts for facts in (OrderFacts.of(merged(facts_of(seed)).values()) for seed in range(400)) if facts.snapshot]
SPLIT = replace(SHOP, roster={ANN: (Membership(day(-80), AGENCY, Fraction(3, 10), Fraction(5, 100)),)})


@pytest.mark.parametrize("terms", PRESENT.values(), ids=PRESENT.keys())
def test_the_present_terms_as_a_draft_change_nothing(terms: Terms) -> None:
    for inputs in (SHOP, SPLIT):
        sums = tried(ORDERS, with_terms(inputs, terms), terms)

        assert total(sums).now_minor > 0
        assert [
            name
            for name, cost in sums.items()
            if (cost.now_minor, cost.now_orders) != (cost.then_minor, cost.then_orders)
        ] == []


@pytest.mark.parametrize("terms", PRESENT.values(), ids=PRESENT.keys())
def test_every_dimension_adds_up_to_the_total(terms: Terms) -> None:
    sums = tried(ORDERS, SPLIT, terms, time_zone="Asia/Ho_Chi_Minh")

    added: dict[tuple[Dimension, str], list[int]] = defaultdict(lambda: [0, 0])
    for name, cost in sums.items():
        added[name.dimension, name.currency][0] += cost.now_minor
        added[name.dimension, name.currency][1] += cost.then_minor
    for currency in ("USD", "EUR"):
        whole = added[Dimension.TOTAL, currency]
        assert whole[0] != whole[1]
        assert [added[dimension, currency] for dimension in Dimension] == [whole] * len(Dimension)


def test_now_is_what_all_payees_have_of_orders_that_the_programme_is_credited_for() -> None:
    sums = tried(ORDERS, SPLIT, PRESENT["periods"])

    expected = 0
    for facts in ORDERS:
        now = assess(facts, SPLIT, identities={})
        then = assess(facts, drafted(SPLIT, PROGRAM, PRESENT["periods"]), identities={})
        if is_credited(now) or is_credited(then):
            expected += sum(each.target_minor for each in now.targets if each.currency == "USD")
    assert total(sums).now_minor == expected > 0


def is_credited(assessment: Assessment) -> bool:
    return any(credit.program_id == PROGRAM for credit in assessment.attribution.credits)


TEA_AND_CUP = (Line("1", "tea", 6_000, category="tea"), Line("2", "cup", 3_000, category="cups"), Line("3", "x", 999))


def the_target(terms: Terms, *, payee: UUID = ANN, inputs: DatedInputs | None = None) -> Target:
    order = an_order(*TEA_AND_CUP, touches=[a_coupon()])
    result = assess(told(order, reached()), with_terms(inputs or a_shop(), terms), identities={})
    return next(target for target in result.targets if target.payee_id == payee)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param(plain(), {"tea": 600, "cups": 300, "": 100}, id="line by line"),
        pytest.param(plain(percent("10", categories=["tea"])), {"tea": 600}, id="only what earns"),
        pytest.param(
            plain(caps_minor=(("USD", 500),)), {"tea": 300, "cups": 150, "": 50}, id="a cap, by what lines earn"
        ),
        pytest.param(plain(caps_minor=(("USD", 7),)), {"tea": 4, "cups": 2, "": 1}, id="a small cap, no cent lost"),
    ],
)
def test_a_target_is_told_apart_by_category(terms: Terms, expected: dict[str, int]) -> None:
    target = the_target(terms)

    assert by_category(target) == expected
    assert sum(expected.values()) == target.target_minor


def test_what_an_agency_has_is_told_apart_by_category_too() -> None:
    inputs = replace(a_shop(), roster={ANN: (Membership(day(-80), AGENCY, Fraction(1, 4), Fraction(2, 100)),)})
    terms = plain(technical_fee=TechnicalFee(NOBODY, rate_of("10")))

    parts = [by_category(the_target(terms, payee=payee, inputs=inputs)) for payee in (ANN, AGENCY, NOBODY)]

    # Of 600, 300 and 99.9: three quarters, and a quarter with 2 % of the goods on top, each less a tenth.
    assert [each["tea"] for each in parts] == [405, 243, 72]
    assert [each["cups"] for each in parts] == [203, 121, 36]


@pytest.mark.parametrize(
    ("adjustments", "expected"),
    [
        pytest.param([an_adjustment(250)], {"tea": 600, "cups": 300, "": 350}, id="something added"),
        pytest.param([an_adjustment(-400)], {"tea": 600, "cups": 300, "": -300}, id="something taken"),
        pytest.param([an_adjustment(-4_000)], {}, id="all taken"),
        pytest.param([an_adjustment(77), a_rejection(on=1)], {"": 77}, id="added after a rejection"),
    ],
)
def test_what_people_adjusted_is_of_no_category_and_counts_on_both_sides(
    adjustments: list[Fact], expected: dict[str, int]
) -> None:
    order = told(an_order(*TEA_AND_CUP, touches=[a_coupon()]), reached(), *adjustments)

    sums = tried([order], with_terms(a_shop(), plain()), plain())

    amounts = by(sums, Dimension.CATEGORY)
    assert amounts == {category: (minor, minor) for category, minor in expected.items()}


def test_what_no_line_explains_has_no_category() -> None:
    bonus = Target(ANN, "USD", 500, reason=the_target(plain()).reason)

    assert by_category(bonus) == {"": 500}


def test_a_ladder_is_computed_on_the_whole_period() -> None:
    draft = plain(percent("5"), periods=(Ladder("volume", MONTH, (Step((("USD", 10_000),), rate_of("5")),)),))
    orders = [
        told(an_order(Line("1", "a", 10_000), touches=[a_coupon("ann10")]), reached()),
        told(an_order(Line("1", "a", 6_000), touches=[a_coupon("ann10")], placed_at=day(2)), reached()),
        told(an_order(Line("1", "a", 9_000), touches=[a_coupon("ben10")], placed_at=day(3)), reached()),
    ]

    sums = tried(orders, a_shop(), draft)

    # Ann: 5 % of 160.00, and 5 % of the 60.00 above 100.00; Ben stays below.
    assert by(sums, Dimension.AFFILIATE) == {str(ANN): (1_600, 1_100), str(BEN): (900, 450)}
    # The bonus is of no day in the month; it stands on the first of it.
    assert by(sums, Dimension.DAY) == {
        "2026-03-01": (0, 300),
        "2026-03-10": (1_000, 500),
        "2026-03-12": (600, 300),
        "2026-03-13": (900, 450),
    }
    assert total(sums) == Cost(2_500, 1_550, 3, 3)


def test_a_cap_takes_back_of_the_whole_period() -> None:
    draft = plain(periods=(Cap("most", MONTH, (("USD", 1_200),)),))
    orders = [
        told(an_order(Line("1", "a", 10_000), touches=[a_coupon()], placed_at=day(number)), reached())
        for number in range(3)
    ]

    assert total(tried(orders, a_shop(), draft)) == Cost(3_000, 1_200, 3, 3)


def test_days_are_those_of_the_merchant() -> None:
    late = datetime(2026, 3, 10, 20, tzinfo=UTC)
    order = told(an_order(Line("1", "a", 10_000), touches=[a_coupon()], placed_at=late), reached())

    sums = tried([order], a_shop(), plain(), time_zone="Asia/Ho_Chi_Minh")

    assert set(by(sums, Dimension.DAY)) == {"2026-03-11"}


def test_no_earlier_version_protects_anybody_from_a_draft() -> None:
    versions = (a_version(percent("20")), a_version(percent("10"), number=2, since=day(-1)))
    order = told(an_order(Line("1", "a", 10_000), touches=[a_coupon()]), reached())

    # Now Ann still has the terms from before the cut.
    assert total(tried([order], a_shop(*versions), plain(percent("5")))) == Cost(2_000, 500, 1, 1)


def test_a_draft_holds_for_orders_older_than_the_programme() -> None:
    shop = a_shop(a_version(since=day(1)))
    order = told(an_order(Line("1", "a", 10_000), touches=[a_coupon()]), reached())

    assert total(tried([order], shop, plain())) == Cost(0, 1_000, 0, 1)


def test_decisions_count_on_both_sides() -> None:
    order = told(an_order(Line("1", "a", 10_000), touches=[a_coupon()]), reached(), a_rejection())

    assert total(tried([order], a_shop(), plain(percent("50")))) == Cost()


def test_orders_of_another_programme_count_only_where_the_draft_changes_them() -> None:
    cams_click = a_click(OTHER_LINK, on=day(-3), ref="clk_cam")
    anns_click = a_click(ANNS_LINK, on=day(-1), ref="clk_ann")
    shop = with_terms(SHOP, plain(attribution=AttributionTerms(window_days=0)))
    cams = told(an_order(Line("1", "a", 10_000), touches=[cams_click]), reached())
    both = told(an_order(Line("1", "a", 10_000), touches=[cams_click, anns_click]), reached())

    assert tried([cams], shop, plain(percent("1"))) == {}
    # Ann's click counts only under the draft, and takes the order from Cam.
    sums = tried([cams, both], shop, plain(percent("1")))
    assert total(sums) == Cost(1_250, 100, 1, 1)
    assert by(sums, Dimension.AFFILIATE) == {str(CAM): (1_250, 0), str(ANN): (0, 100)}


def test_the_order_of_orders_is_nothing() -> None:
    draft = PRESENT["periods"]

    assert tried(ORDERS, SPLIT, draft) == tried(reversed(ORDERS), SPLIT, draft)


def test_an_order_counts_once_in_each_sum() -> None:
    sums = tried([told(an_order(*TEA_AND_CUP, touches=[a_coupon()]), reached())], SPLIT, plain())

    assert {cost.then_orders for cost in sums.values()} == {1}


def test_percent_rules_are_linear_in_the_rate() -> None:
    """The same orders at 4 and at 8 percent, each line a whole number of cents: exactly half."""
    orders = [
        told(an_order(Line("1", "a", 100 * number), touches=[a_coupon()], placed_at=PLACED), reached())
        for number in range(1, 30)
    ]
    shop = with_terms(a_shop(), Terms(rules=(Rule(Percent(rate_of("8"))),)))

    cost = total(tried(orders, shop, Terms(rules=(Rule(Percent(rate_of("4"))),))))

    assert (cost.now_minor, cost.then_minor) == (2 * cost.then_minor, 4 * sum(range(1, 30)))
