"""What is left of each goods line when what gift cards, points and store credit paid is left out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import Fact, OrderSnapshot, RefundFact, cash_lines, net_lines
from tests.domain import strategies
from tests.domain.builders import a_line, a_refund, an_order, lines, told
from tests.domain.strategies import examples

CARRIAGE = a_line(800, id="ship", goods=False)


@pytest.mark.parametrize(
    ("order", "virtual", "events", "left"),
    [
        pytest.param(an_order(*lines(100, 200)), 0, [], [100, 200], id="all was paid with money"),
        pytest.param(an_order(*lines(100, 200)), 30, [], [90, 180], id="by value as ordered"),
        pytest.param(an_order(*lines(100, 200)), 1, [], [100, 199], id="one cent: by largest remainder"),
        pytest.param(an_order(*lines(100, 100)), 1, [], [99, 100], id="one cent, a tie: the earlier line"),
        pytest.param(an_order(*lines(100, 200)), 900, [], [0, 0], id="no more than there are goods"),
        pytest.param(an_order(a_line(100), CARRIAGE), 40, [], [60], id="carriage bears nothing"),
        pytest.param(an_order(CARRIAGE), 40, [], [], id="no goods at all"),
        pytest.param(an_order(*lines(0, 100)), 40, [], [0, 60], id="a free line"),
        pytest.param(an_order(*lines(100, 200)), 30, [a_refund({"1": 100})], [0, 180], id="a whole line came back"),
        pytest.param(an_order(*lines(100, 200)), 30, [a_refund({"1": 50})], [45, 180], id="half a line came back"),
        pytest.param(an_order(*lines(100)), 5, [a_refund({"1": 50})], [47], id="2.5 of 5 rounded away from zero"),
        pytest.param(an_order(*lines(100, 200)), 300, [a_refund({"1": 99})], [0, 0], id="a card paid for all"),
        pytest.param(an_order(*lines(100, 200)), 30, [a_refund(900)], [0, 0], id="all came back"),
    ],
)
def test_what_money_paid_of_each_line(order: OrderSnapshot, virtual: int, events: list[Fact], left: list[int]) -> None:
    facts = told(replace(order, virtual_minor=virtual), *events)
    assert facts.snapshot is not None

    found = cash_lines(facts.snapshot, net_lines(facts.snapshot, facts.all_refunds()))

    assert [line.net_minor for line in found] == left
    assert [(line.line, line.refunded_minor) for line in found] == [
        (line.line, line.refunded_minor) for line in net_lines(facts.snapshot, facts.all_refunds())
    ]


refund_sets = st.dictionaries(st.text("abc", min_size=1, max_size=2), strategies.refunds, max_size=5)
paid_otherwise = st.integers(0, 10**7)


@examples(120)
@given(strategies.snapshots, refund_sets, paid_otherwise)
def test_no_line_goes_below_zero_nor_above_what_is_left_of_it(
    order: OrderSnapshot, refunds: dict[str, RefundFact], virtual: int
) -> None:
    paid = replace(order, virtual_minor=virtual)
    net = net_lines(paid, refunds)

    found = cash_lines(paid, net)

    assert all(0 <= cash.net_minor <= line.net_minor for cash, line in zip(found, net, strict=True))
    assert all(cash.net_minor == 0 for cash, line in zip(found, net, strict=True) if line.net_minor == 0)


@examples(120)
@given(strategies.snapshots, paid_otherwise)
def test_while_nothing_came_back_the_lines_bear_all_of_it_or_all_there_is(order: OrderSnapshot, virtual: int) -> None:
    paid = replace(order, virtual_minor=virtual)

    found = cash_lines(paid, net_lines(paid, {}))

    assert sum(line.virtual_minor for line in found) == min(virtual, paid.goods_minor)


@examples(120)
@given(strategies.snapshots, paid_otherwise)
def test_once_all_came_back_nothing_is_left(order: OrderSnapshot, virtual: int) -> None:
    paid = replace(order, virtual_minor=virtual)
    everything = RefundFact(paid.currency, paid.placed_at, unallocated_minor=paid.goods_minor)

    found = cash_lines(paid, net_lines(paid, {"r": everything}))

    assert [(line.net_minor, line.virtual_minor) for line in found] == [(0, 0)] * len(found)


@examples(120)
@given(strategies.snapshots, refund_sets, paid_otherwise)
def test_each_line_alone_is_what_it_is_among_the_others(
    order: OrderSnapshot, refunds: dict[str, RefundFact], virtual: int
) -> None:
    paid = replace(order, virtual_minor=virtual)
    net = net_lines(paid, refunds)

    assert cash_lines(paid, net) == [cash for line in net for cash in cash_lines(paid, [line])]


@examples(120)
@given(strategies.snapshots, strategies.refunds, paid_otherwise)
def test_a_refund_never_makes_a_line_worth_more(order: OrderSnapshot, refund: RefundFact, virtual: int) -> None:
    paid = replace(order, virtual_minor=virtual)

    before, after = (cash_lines(paid, net_lines(paid, refunds)) for refunds in ({}, {"r": refund}))

    assert all(late.net_minor <= early.net_minor for early, late in zip(before, after, strict=True))
