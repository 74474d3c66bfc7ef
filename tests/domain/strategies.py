"""Random facts about one order, drawn from few times and ids so that they collide often."""

from dataclasses import replace
from datetime import date
from fractions import Fraction

from hypothesis import settings
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
    SkuIn,
    SubIdIn,
    TierIn,
    TouchIn,
    WeekdayIn,
)
from service.domain.identity import IdentityKind
from service.domain.marks import ContentType
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    DisputeFact,
    DisputeOutcome,
    Fact,
    HoldFact,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    decision_fact,
    dispute_fact,
    hold_fact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.domain.periods import Cap, Ladder, Mark, Milestones, PeriodRule, Scale, Span, Step, Stretch
from service.domain.program import AttributionTerms, BindingRank, Model, Precedence, SelfPurchase, Window
from service.domain.rules import Flat, Match, Per, Percent, Plan, Rule, When
from service.domain.settlement import Weekday
from tests.domain.builders import ANN, ANNS_LINK, BEN, BENS_LINK, NOBODY, a_click, a_coupon, day


def examples(count: int) -> settings:
    """The same `count` examples in every run, so that CI answers the same."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


amounts = st.integers(min_value=0, max_value=20_000)
times = st.integers(min_value=0, max_value=8).map(day)
currencies = st.sampled_from(["USD", "USD", "USD", "EUR"])
ids = st.sampled_from(["a", "b"])
lines = st.builds(
    Line,
    id=st.sampled_from(["1", "2", "3", "4"]),
    sku=st.sampled_from(["", "MUG", "TEA"]),
    net_minor=amounts,
    quantity=st.sampled_from(["1", "2.5"]),
    category=st.sampled_from(["", "tea"]),
    goods=st.sampled_from([True, True, True, False]),
)
touches = st.sampled_from([
    a_click(ANNS_LINK, on=day(-2), ref="clk_a"),
    a_click(BENS_LINK, on=day(-1), ref="clk_b"),
    a_click(None, ref="clk_bad"),
    a_coupon("ann10"),
    a_coupon("ben10"),
    a_coupon("gone"),
])  # fmt: skip
customers = st.dictionaries(
    st.sampled_from([kind.value for kind in IdentityKind]), st.sampled_from(["hash-of-ann", "hash-of-cam"])
).map(lambda hashes: tuple(sorted(hashes.items())))
snapshots = st.builds(
    OrderSnapshot,
    placed_at=st.sampled_from([day(0), day(0, hours=1)]),
    currency=currencies,
    lines=st.lists(lines, max_size=4, unique_by=lambda line: line.id).map(tuple),
    cancelled=st.sampled_from([False, False, False, True]),
    touches=st.lists(touches, max_size=3).map(tuple[Touch, ...]),
    customer=customers,
    number=st.sampled_from(["", "#1001", "đơn 1"]),
    total_minor=amounts,
    shipping_minor=amounts,
    tax_minor=amounts,
    discount_minor=amounts,
    country=st.sampled_from(["", "VN"]),
    virtual_minor=st.one_of(st.just(0), amounts),
)
refunds = st.builds(
    RefundFact,
    currency=currencies,
    refunded_at=times,
    lines=st.lists(st.tuples(st.sampled_from(["1", "2", "3", "9"]), amounts), max_size=3).map(tuple),
    unallocated_minor=st.one_of(st.just(0), amounts),
    owed_minor=st.one_of(st.just(0), amounts),
)
disputes = st.builds(
    DisputeFact,
    opened_at=times,
    currency=currencies,
    amount_minor=amounts,
    closed_at=st.one_of(st.none(), times),
    outcome=st.sampled_from([None, *DisputeOutcome]),
)
holds = st.builds(
    HoldFact, opened_at=times, reason_code=st.sampled_from(["review", "fraud"]), released_at=st.one_of(st.none(), times)
)
decisions = st.builds(
    DecisionFact,
    kind=st.sampled_from([DecisionKind.APPROVE, DecisionKind.REJECT, DecisionKind.ATTRIBUTE]),
    decided_at=times,
    decided_by=st.sampled_from(["key_1", "key_2"]),
    reason_code=st.just("decided"),
    payee_id=st.sampled_from([ANN, BEN, NOBODY, None]),
    currency=currencies,
    amount_minor=st.one_of(st.none(), amounts),
)

adjustments = st.builds(
    DecisionFact,
    kind=st.just(DecisionKind.ADJUST),
    decided_at=times,
    decided_by=st.just("key_1"),
    reason_code=st.sampled_from(["goodwill", "wrong_amount"]),
    payee_id=st.sampled_from([ANN, BEN, NOBODY]),
    currency=currencies,
    amount_minor=st.integers(min_value=-20_000, max_value=20_000),
    id=st.sampled_from(["adj_1", "adj_2", "adj_3"]),
    note=st.sampled_from(["", "as agreed"]),
    evidence=st.sampled_from([(), ("https://files.example/1",)]),
)

order_facts = st.builds(lambda snapshot, at: order_fact(snapshot, version_at=at), snapshots, times)
refund_facts = st.builds(
    lambda key, refund, at, provisional: refund_fact(key, refund, version_at=at, provisional=provisional),
    ids,
    refunds,
    times,
    st.booleans(),
)
dispute_facts = st.builds(lambda key, dispute, at: dispute_fact(key, dispute, version_at=at), ids, disputes, times)
hold_facts = st.builds(lambda key, hold, at: hold_fact(key, hold, version_at=at), ids, holds, times)
milestone_facts = st.builds(milestone_fact, st.sampled_from(Milestone), times)
adjustment_facts = adjustments.map(decision_fact)
decision_facts = st.one_of(decisions, decisions, adjustments).map(decision_fact)
facts: st.SearchStrategy[Fact] = st.one_of(
    order_facts, order_facts, refund_facts, dispute_facts, hold_facts, milestone_facts, decision_facts
)

rates = st.decimals(min_value=0, max_value=100, places=4).map(lambda rate: Fraction(rate) / Fraction(100))
matches = st.builds(
    Match,
    skus=st.frozensets(st.sampled_from(["MUG", "TEA"])),
    categories=st.frozensets(st.sampled_from(["tea"])),
)
plain_rules: st.SearchStrategy[Rule] = st.one_of(
    st.builds(lambda rate, match: Rule(Percent(rate), match), rates, matches),
    st.builds(lambda amount, match: Rule(Flat((("USD", amount),)), match), amounts, matches),
)
"""Percent or a flat amount for each line, and nothing else."""

some_amounts = amounts.map(lambda amount: (("USD", amount),))
conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(SkuIn, st.frozensets(st.sampled_from(["MUG", "TEA"]), min_size=1)),
    st.builds(CategoryIn, st.just(frozenset({"tea"}))),
    st.builds(LineAmount, st.builds(Between, some_amounts, st.just(()), st.sampled_from(Measure))),
    st.builds(OrderAmount, st.builds(Between, st.just(()), some_amounts, st.sampled_from(Measure))),
    st.builds(Placed, times),
    st.builds(TouchIn, st.just(frozenset({TouchKind.COUPON}))),
    st.builds(CouponIn, st.just(frozenset({"ann10"}))),
)


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    pays = draw(st.one_of(st.builds(Percent, rates), st.builds(Flat, some_amounts, st.sampled_from(Per))))
    can_be_capped = isinstance(pays, Percent) or pays.per is not Per.ORDER
    return Rule(
        pays,
        draw(matches),
        When(*(tuple(draw(st.lists(conditions, max_size=1))) for _ in range(3))),
        draw(st.sampled_from(Plan)),
        draw(st.none() | st.integers(-2, 2)),
        draw(st.sampled_from(["base", "bonus"])),
        draw(st.sampled_from(["merchant", "brand"])),
        draw(some_amounts) if can_be_capped and draw(st.booleans()) else (),
    )


rules = _rules()
"""What a rule can be that asks about nothing but the order."""


# Terms of every kind, for words and notice: not for orders that know no affiliate and no customer.

_words = st.frozensets(st.sampled_from(["gold", "vip"]), min_size=1)
_contents = st.frozensets(st.sampled_from(ContentType), min_size=1)
every_condition: st.SearchStrategy[Condition] = st.one_of(
    conditions,
    st.builds(TouchIn, st.frozensets(st.sampled_from(TouchKind), min_size=1)),
    st.builds(AffiliateIn, st.frozensets(st.sampled_from([ANN, BEN, NOBODY]), min_size=1)),
    st.builds(TierIn, _words),
    st.builds(GroupIn, _words),
    st.builds(ContentIn, _contents),
    st.builds(ChannelIn, _words),
    st.builds(SubIdIn, st.sampled_from(["sub1", "sub5"]), _words),
    st.builds(WeekdayIn, st.frozensets(st.sampled_from(Weekday), min_size=1)),
    st.builds(HourBetween, st.integers(0, 11), st.integers(12, 24)),
    st.builds(HourBetween, st.integers(12, 23), st.integers(0, 11)),
    st.builds(CountryIn, st.frozensets(st.sampled_from(["VN", "TH"]), min_size=1)),
    st.builds(CustomerIs, st.sampled_from(CustomerKind)),
    st.builds(CustomerMonths, st.integers(1, 24)),
    st.builds(CustomerListed, _words),
)
_days = st.none() | st.dates(date(2026, 1, 1), date(2026, 6, 30))
_last_days = st.none() | st.dates(date(2026, 7, 1), date(2026, 12, 31))
_stretches = st.one_of(
    st.builds(Stretch, st.sampled_from([span for span in Span if span is not Span.CAMPAIGN]), _days, _last_days),
    st.builds(Stretch, st.just(Span.CAMPAIGN), st.just(date(2026, 3, 1)), _last_days),
)


@st.composite
def _steps(draw: st.DrawFn) -> tuple[Step, ...]:
    starts = sorted(draw(st.sets(amounts, min_size=1, max_size=3)))
    by_rate = sorted(draw(st.lists(rates, min_size=len(starts), max_size=len(starts))))
    return tuple(Step((("USD", start),), rate) for start, rate in zip(starts, by_rate, strict=True))


marks = st.one_of(
    st.builds(Mark, some_amounts, orders=st.integers(1, 20)),
    st.builds(Mark, some_amounts, some_amounts),
)
steps = _steps()
_keys = st.just("x")
period_rule: st.SearchStrategy[PeriodRule] = st.one_of(
    st.builds(Cap, _keys, _stretches, some_amounts),
    st.builds(Ladder, _keys, _stretches, steps, st.sampled_from(Scale)),
    st.builds(Milestones, _keys, _stretches, st.lists(marks, min_size=1, max_size=3).map(tuple)),
)
periods = st.lists(period_rule, max_size=3).map(
    lambda found: tuple(replace(each, key=f"rule-{number}") for number, each in enumerate(found))
)
attributions = st.builds(
    AttributionTerms,
    window_days=st.integers(0, 60),
    windows=st.lists(st.builds(Window, st.integers(0, 60), _contents, _words), max_size=2).map(tuple),
    model=st.sampled_from(Model),
    precedence=st.sampled_from(Precedence),
    customer_binding=st.sampled_from(BindingRank),
    product_binding=st.sampled_from(BindingRank),
    self_purchase=st.sampled_from(SelfPurchase),
    self_purchase_by=st.frozensets(st.sampled_from([kind.value for kind in IdentityKind]), min_size=1),
    reorder_days=st.sampled_from([0, 30]),
)
