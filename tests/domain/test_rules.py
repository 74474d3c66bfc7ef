"""Rules one by one: what each kind gives, what each condition asks, which of several counts, who bears it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.conditions import (
    AffiliateIn,
    Between,
    CategoryIn,
    ChannelIn,
    Condition,
    ContentIn,
    CountryIn,
    CouponIn,
    CustomerIs,
    CustomerKind,
    CustomerListed,
    CustomerMonths,
    GroupIn,
    HourBetween,
    LineAmount,
    Measure,
    OrderAmount,
    Placed,
    Situation,
    SkuIn,
    SubIdIn,
    TierIn,
    TouchIn,
    WeekdayIn,
    condition_json,
    condition_of,
)
from service.domain.errors import InvalidTerms, UnknownCurrency
from service.domain.marks import ContentType
from service.domain.order import Line, NetLine, TouchKind
from service.domain.program import Terms
from service.domain.quote import LineShare, quote
from service.domain.rules import (
    Flat,
    Match,
    Per,
    Percent,
    Plan,
    Rule,
    Standing,
    When,
    by_funder,
    exact_shares,
    rule_json,
    rule_of,
)
from service.domain.settlement import Weekday
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    BEN,
    PLACED,
    a_line,
    a_refund,
    a_shop,
    a_version,
    an_order,
    flat,
    lines,
    percent,
    the_target,
)
from tests.domain.strategies import examples

SECOND = timedelta(seconds=1)
USD = (("USD", 5_000),)


def an_asked(*ordered: Line, refunded: int = 0, currency: str = "USD", **more: Any) -> tuple[list[NetLine], Situation]:
    """Net lines, of which the first came back in part, and what rules may ask about them."""
    nets = [NetLine(line, refunded if place == 0 else 0) for place, line in enumerate(ordered)]
    return nets, Situation.of(nets, placed_at=PLACED, currency=currency, **more)


def shares(rules: Sequence[Rule], *ordered: Line, refunded: int = 0, **more: Any) -> list[Fraction]:
    nets, situation = an_asked(*ordered, refunded=refunded, **more)
    return [sum((part.exact for part in parts), Fraction(0)) for parts in exact_shares(rules, nets, situation)]


# What each kind gives


@pytest.mark.parametrize(
    ("rule", "ordered", "refunded", "exact"),
    [
        pytest.param(percent("12.5"), [a_line(1_999)], 0, [Fraction(1_999, 8)], id="percent: of the line"),
        pytest.param(percent("12.5"), [a_line(1_999)], 1_000, [Fraction(999, 8)], id="percent: of what is left"),
        pytest.param(percent("100"), [a_line(7)], 7, [Fraction(0)], id="percent: of nothing left"),
        pytest.param(percent("10"), [a_line(0)], 0, [Fraction(0)], id="percent: of a free line"),
        pytest.param(
            percent("10", caps_per_line_minor=(("USD", 500),)), [*lines(9_000, 2_000)], 0, [Fraction(500), Fraction(200)],
            id="percent: capped for each line",
        ),
        pytest.param(
            percent("10", caps_per_line_minor=(("EUR", 1),)), [a_line(9_000)], 0, [Fraction(900)],
            id="percent: a cap in another currency says nothing",
        ),
        pytest.param(flat({"USD": 150}), [*lines(1_000, 2_000)], 0, [Fraction(150)] * 2, id="flat per line: each line"),
        pytest.param(flat({"USD": 150}), [a_line(1_000)], 999, [Fraction(1)], id="flat per line: at most what is left"),
        pytest.param(flat({"VND": 150}), [a_line(1_000)], 0, [Fraction(0)], id="flat per line: another currency"),
        pytest.param(
            flat({"USD": 30}, per=Per.UNIT), [a_line(1_000, quantity="3")], 0, [Fraction(90)], id="flat per unit: each piece"
        ),
        pytest.param(
            flat({"USD": 30}, per=Per.UNIT), [a_line(900, quantity="3")], 300, [Fraction(60)], id="flat per unit: a third came back"
        ),
        pytest.param(
            flat({"USD": 30}, per=Per.UNIT), [a_line(1_000, quantity="0.5")], 0, [Fraction(15)], id="flat per unit: half a kilogram"
        ),
        pytest.param(
            flat({"USD": 600}, per=Per.UNIT), [a_line(1_000, quantity="3")], 0, [Fraction(1_000)],
            id="flat per unit: at most what is left",
        ),
        pytest.param(
            flat({"USD": 600}, per=Per.UNIT, caps_per_line_minor=(("USD", 700),)), [a_line(10_000, quantity="3")], 0,
            [Fraction(700)], id="flat per unit: capped for each line",
        ),
        pytest.param(
            flat({"USD": 100}, per=Per.ORDER), [*lines(500, 500, 500)], 0, [Fraction(34), Fraction(33), Fraction(33)],
            id="flat per order: once, by value, to the last cent",
        ),
        pytest.param(
            flat({"USD": 100}, per=Per.ORDER), [*lines(500, 500)], 500, [Fraction(0), Fraction(100)],
            id="flat per order: as long as anything is left",
        ),
        pytest.param(flat({"USD": 100}, per=Per.ORDER), [*lines(30, 20)], 0, [Fraction(30), Fraction(20)], id="flat per order: at most what is left"),
        pytest.param(flat({"USD": 100}, per=Per.ORDER), [*lines(30, 20)], 30, [Fraction(0), Fraction(20)], id="flat per order: nothing on what came back"),
    ],
)  # fmt: skip
def test_what_a_rule_gives(rule: Rule, ordered: list[Line], refunded: int, exact: list[Fraction]) -> None:
    assert shares([rule], *ordered, refunded=refunded) == exact


def test_a_flat_amount_per_order_is_spread_over_the_lines_it_counts_for_only() -> None:
    rules = [percent("10", skus=["MUG"], plan=Plan.TARGET), flat({"USD": 100}, per=Per.ORDER)]

    given = shares(rules, a_line(1_000, sku="MUG"), a_line(600, id="2"), a_line(200, id="3"))

    assert given == [Fraction(100), Fraction(75), Fraction(25)]


class Counting(frozenset[str]):
    """A set that counts how often it was asked."""

    asked = 0

    def __contains__(self, sku: object) -> bool:
        Counting.asked += 1
        return super().__contains__(sku)


def test_each_rule_looks_at_each_line_once() -> None:
    Counting.asked = 0
    rule = Rule(Flat((("USD", 100),), Per.ORDER), Match(Counting({"MUG"})))

    given = shares([rule, rule], *(a_line(100, id=str(number), sku="MUG") for number in range(50)))

    assert sum(given) == 100
    assert Counting.asked == 2 * 50


# When a rule speaks for a line

ASKED = an_asked(
    a_line(8_000, sku="MUG", category="tea"),
    a_line(2_000, id="2"),
    refunded=4_000,
    touch=TouchKind.COUPON,
    coupon="ann10",
)


YES, NO = SkuIn(frozenset({"MUG"})), SkuIn(frozenset({"POT"}))


@pytest.mark.parametrize(
    ("when", "objection"),
    [
        pytest.param(When(), None, id="nothing asked"),
        pytest.param(When(every=(YES, YES)), None, id="all hold"),
        pytest.param(When(every=(YES, NO)), "all/1", id="one of all does not"),
        pytest.param(When(some=(NO, YES)), None, id="any holds"),
        pytest.param(When(some=(NO, NO)), "any", id="none of any"),
        pytest.param(When(none=(NO,)), None, id="what must not hold does not"),
        pytest.param(When(none=(NO, YES)), "not/1", id="what must not hold does"),
        pytest.param(When(every=(YES,), some=(YES,), none=(YES,)), "not/0", id="the first that objects is named"),
    ],
)
def test_conditions_together(when: When, objection: str | None) -> None:
    [line, _], order = ASKED

    assert when.objection(line, order) == objection
    assert Rule(Percent(Fraction(1, 10)), when=when).objection(line, order) == (objection and f"when/{objection}")


@pytest.mark.parametrize(
    ("match", "is_true"),
    [
        pytest.param(Match(), True, id="neither: every line"),
        pytest.param(Match(skus=frozenset({"MUG"})), True, id="its sku"),
        pytest.param(Match(skus=frozenset({"POT"})), False, id="another sku"),
        pytest.param(Match(categories=frozenset({"tea"})), True, id="its category"),
        pytest.param(Match(frozenset({"POT"}), frozenset({"tea"})), True, id="either is enough"),
        pytest.param(Match(frozenset({"mug"})), False, id="case matters"),
    ],
)
def test_a_match_is_any_of_its_skus_or_categories(match: Match, is_true: bool) -> None:
    line = a_line(sku="MUG", category="tea")

    assert match.holds(line) is is_true
    assert percent("10", skus=match.skus, categories=match.categories).objection(NetLine(line, 0), ASKED[1]) == (
        None if is_true else "match"
    )


# Which of several counts

TEN, FIVE, DEAR = percent("10"), percent("5"), flat({"USD": 150})


@pytest.mark.parametrize(
    ("rules", "standings"),
    [
        pytest.param([FIVE, TEN], [(0, Standing.COUNTS), (1, Standing.LOWER_PRIORITY)], id="without priorities the first"),
        pytest.param(
            [replace(FIVE, priority=0), replace(TEN, priority=0)], [(1, Standing.COUNTS), (0, Standing.GIVES_LESS)],
            id="of equal priorities the one that gives most",
        ),
        pytest.param(
            [replace(TEN, priority=1), replace(DEAR, priority=1)], [(1, Standing.COUNTS), (0, Standing.GIVES_LESS)],
            id="amount against amount: 150 cents are more than ten percent of ten",
        ),
        pytest.param(
            [replace(TEN, priority=1), replace(TEN, priority=1)], [(0, Standing.COUNTS), (1, Standing.LATER_IN_LIST)],
            id="of equal amounts the first in the list",
        ),
        pytest.param(
            [replace(TEN, priority=1), replace(FIVE, priority=2)], [(1, Standing.COUNTS), (0, Standing.LOWER_PRIORITY)],
            id="the higher priority, though it gives less",
        ),
        pytest.param(
            [replace(TEN, priority=9), replace(FIVE, plan=Plan.TARGET), replace(DEAR, plan=Plan.EXCLUSIVE, priority=-9)],
            [(2, Standing.COUNTS), (1, Standing.LOWER_PLAN), (0, Standing.LOWER_PLAN)],
            id="exclusive before target before open, whatever their priorities",
        ),
        pytest.param([TEN, percent("90", skus=["POT"], plan=Plan.EXCLUSIVE)], [(0, Standing.COUNTS)], id="what does not speak is no candidate"),
        pytest.param([percent("0", plan=Plan.EXCLUSIVE), TEN], [(0, Standing.COUNTS), (1, Standing.LOWER_PLAN)], id="nothing can be promised too"),
    ],
)  # fmt: skip
def test_which_rule_counts(rules: list[Rule], standings: list[tuple[int, Standing]]) -> None:
    nets, order = an_asked(a_line(1_000))

    [[part]] = exact_shares(rules, nets, order)

    assert [(candidate.index, candidate.standing) for candidate in part.candidates] == standings


def test_components_add_up_and_each_chooses_for_itself() -> None:
    rules = [
        TEN,
        percent("20", skus=["POT"], plan=Plan.TARGET),
        percent("3", component="bonus", funder="brand"),
        flat({"USD": 25}, component="subsidy", funder="platform"),
    ]
    nets, order = an_asked(a_line(1_000))

    [parts] = exact_shares(rules, nets, order)

    assert [(part.component, part.index, part.exact) for part in parts] == [
        ("base", 0, Fraction(100)),
        ("bonus", 2, Fraction(30)),
        ("subsidy", 3, Fraction(25)),
    ]


def test_components_together_never_give_more_than_is_left_of_a_line() -> None:
    rules = [percent("80"), percent("60", component="bonus", funder="brand")]

    [part_of_base, part_of_bonus] = exact_shares(rules, *an_asked(a_line(700)))[0]

    assert part_of_base.exact + part_of_bonus.exact == 700
    assert (part_of_base.exact, part_of_bonus.exact) == (Fraction(400), Fraction(300))


def test_an_excluded_line_earns_nothing_and_says_so() -> None:
    version = a_version(percent("10"), exclude=[SkuIn(frozenset({"GIFT"}))])

    receipt = the_target(an_order(a_line(1_000, sku="GIFT"), a_line(500, id="2")), shop=a_shop(version)).receipt

    assert [(line["excluded"], line["commission_minor"]) for line in receipt["lines"]] == [(True, 0), (False, 50)]


def test_a_minimum_order_is_an_exclusion_of_small_ones_and_looks_at_what_is_left() -> None:
    version = a_version(percent("10"), exclude=[OrderAmount(Between((), USD))])

    def earned(*parts: Any) -> int:
        return the_target(an_order(*lines(4_000, 2_000)), *parts, shop=a_shop(version)).target_minor

    assert earned() == 600
    assert earned(a_refund(1_000)) == 500
    assert earned(a_refund(1_001)) == 0


def test_the_cap_of_an_order_is_borne_by_all_funders_in_proportion() -> None:
    version = a_version(percent("10"), percent("5", component="bonus", funder="brand"), cap={"USD": 100})

    receipt = the_target(an_order(*lines(1_000, 1_000)), shop=a_shop(version)).receipt

    assert (receipt["sum_of_lines_minor"], receipt["target_minor"]) == (300, 100)
    assert receipt["borne_by"] == {"merchant": 67, "brand": 33}


# Figures of programmes, from their own pages


@pytest.mark.parametrize(
    ("ordered", "currency", "rate", "refunded", "earned"),
    [
        # 300,000 less 20,000 of platform coupon and 30,000 of seller discount.
        pytest.param([a_line(250_000)], "VND", "12", 0, 30_000, id="TikTok Vietnam"),
        pytest.param([a_line(250_000)], "VND", "12", 50_000, 24_000, id="TikTok Vietnam after a refund of 50,000"),
        pytest.param([a_line(1_980)], "CNY", "9.1", 0, 180, id="Taobao 19.80 at 9.10 percent"),
        pytest.param([a_line(10_000), a_line(500, id="s", goods=False)], "CNY", "5", 0, 500, id="Taobao 105 with 5 carriage"),
        pytest.param([a_line(20_000)], "CNY", "20", 0, 4_000, id="Douyin line of 200 at 20 percent"),
    ],
)  # fmt: skip
def test_golden_commissions(ordered: list[Line], currency: str, rate: str, refunded: int, earned: int) -> None:
    back = [a_refund(refunded, currency=currency)] if refunded else []

    target = the_target(an_order(*ordered, currency=currency), *back, shop=a_shop(a_version(percent(rate))))

    assert target.target_minor == earned


# What holds for all of them

orders = st.lists(
    st.builds(
        lambda net, quantity, back: (net, str(quantity), min(net, back)),
        st.integers(0, 5_000),
        st.integers(0, 5),
        st.integers(0, 5_000),
    ),
    min_size=1,
    max_size=5,
)


@examples(300)
@given(orders, st.lists(strategies.rules, min_size=1, max_size=6))
def test_no_line_earns_more_than_is_left_of_it_and_funders_bear_it_all(
    drawn: list[tuple[int, str, int]], rules: list[Rule]
) -> None:
    nets = [
        NetLine(a_line(net, id=str(place), sku="MUG" if place % 2 else "", quantity=quantity), back)
        for place, (net, quantity, back) in enumerate(drawn)
    ]
    order = Situation.of(nets, placed_at=PLACED, currency="USD")

    quoted = quote(a_version(*rules), nets, order)

    assert all(0 <= share.exact <= share.line.net_minor for share in quoted.shares)
    borne = by_funder(rules, [(share.parts, share.commission_minor) for share in quoted.shares], quoted.total_minor)
    assert sum(borne.values()) == quoted.total_minor
    assert all(_counts_once(rules, share) for share in quoted.shares)


def _counts_once(rules: Sequence[Rule], share: LineShare) -> bool:
    """One rule for each component, and no candidate that ranks before it."""
    return all(
        [each.standing for each in part.candidates].count(Standing.COUNTS) == 1
        and min(part.candidates, key=lambda each: (*rules[each.index].rank(each.index), -each.exact, each.index)).index
        == part.index
        for part in share.parts
    ) and len({part.component for part in share.parts}) == len(share.parts)


@examples(100)
@given(st.integers(1, 10_000), st.lists(st.integers(1, 5_000), min_size=1, max_size=6))
def test_a_flat_amount_per_order_is_paid_to_the_last_unit(amount: int, nets: list[int]) -> None:
    given = shares([flat({"USD": amount}, per=Per.ORDER)], *lines(*nets))

    assert sum(given) == min(amount, sum(nets))
    assert all(each.denominator == 1 for each in given)


# The written form

EVERY_CONDITION: list[Condition] = [
    SkuIn(frozenset({"B", "A"})),
    CategoryIn(frozenset({"tea"})),
    LineAmount(Between((("USD", 1),), (("USD", 9),), Measure.ORDERED)),
    OrderAmount(Between((), (("VND", 50_000),))),
    Placed(PLACED, PLACED + timedelta(days=3)),
    Placed(until=PLACED),
    TouchIn(frozenset(TouchKind)),
    CouponIn(frozenset({"ann10"})),
    AffiliateIn(frozenset({ANN, BEN})),
    TierIn(frozenset({"gold"})),
    GroupIn(frozenset({"mums", "runners"})),
    ContentIn(frozenset(ContentType)),
    ChannelIn(frozenset({"zalo"})),
    SubIdIn("sub2", frozenset({"spring"})),
    WeekdayIn(frozenset({Weekday.SAT, Weekday.SUN})),
    HourBetween(20, 2),
    CountryIn(frozenset({"VN", "CN"})),
    CustomerIs(CustomerKind.NEW),
    CustomerIs(CustomerKind.RETURNING),
    CustomerMonths(12),
    CustomerListed(frozenset({"staff"})),
]


def test_every_condition_survives_its_json() -> None:
    assert {type(each) for each in EVERY_CONDITION} == set(Condition.__args__)
    for condition in EVERY_CONDITION:
        assert condition_of(json.loads(json.dumps(condition_json(condition)))) == condition


@examples(100)
@given(strategies.rules)
def test_every_rule_survives_its_json(rule: Rule) -> None:
    assert rule_of(json.loads(json.dumps(rule_json(rule)))) == rule


def test_what_is_left_out_is_not_written() -> None:
    assert rule_json(percent("10")) == {"kind": "percent", "rate": "10", "match": {"skus": [], "categories": []}}
    assert set(
        rule_json(
            Rule(
                Flat((("USD", 1),), Per.UNIT),
                when=When(every=(YES,)),
                plan=Plan.TARGET,
                priority=0,
                component="bonus",
                funder="brand",
                caps_per_line_minor=USD,
                name="Launch",
            )
        )
    ) == {"kind", "amounts", "per", "match", "when", "plan", "priority", "component", "funder", "cap_per_line", "name"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"kind": "line_amount"}, "needs at_least or below"),
        ({"kind": "order_amount", "at_least": [], "below": []}, "needs at_least or below"),
        ({"kind": "placed"}, "needs from or until"),
        ({"kind": "placed", "from": None, "until": None}, "needs from or until"),
        ({"kind": "weather"}, "'weather' is nothing"),
    ],
)
def test_a_condition_that_asks_nothing_is_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTerms, match=message):
        condition_of(written)


def test_amounts_of_conditions_are_of_known_currencies_named_once() -> None:
    with pytest.raises(UnknownCurrency):
        condition_of({"kind": "order_amount", "at_least": [{"amount_minor": 1, "currency": "XXQ"}]})
    with pytest.raises(InvalidTerms, match="named twice"):
        condition_of({"kind": "order_amount", "below": [{"amount_minor": 1, "currency": "USD"}] * 2})


def test_a_flat_amount_per_order_has_no_cap_per_line() -> None:
    written = {"kind": "flat", "per": "order", "amounts": [{"amount_minor": 1, "currency": "USD"}]}

    with pytest.raises(InvalidTerms, match="use cap_per_order"):
        rule_of(
            written
            | {"match": {"skus": [], "categories": []}, "cap_per_line": [{"amount_minor": 1, "currency": "USD"}]}
        )


def test_terms_with_exclusions_survive_their_json() -> None:
    terms = Terms(rules=(percent("10"),), exclude=tuple(EVERY_CONDITION))

    assert Terms.of_json(json.loads(json.dumps(terms.as_json()))) == terms
