"""What is left of each goods line after everything that came back."""

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import Fact, OrderSnapshot, RefundFact, net_lines
from tests.domain import strategies
from tests.domain.builders import a_dispute, a_line, a_lost_dispute, a_refund, an_order, lines, netted
from tests.domain.strategies import examples

CARRIAGE = a_line(800, id="ship", goods=False)


@pytest.mark.parametrize(
    ("order", "events", "left"),
    [
        pytest.param(an_order(*lines(100, 200)), [], [100, 200], id="nothing came back"),
        pytest.param(an_order(*lines(100, 200)), [a_refund({"2": 50})], [100, 150], id="a part of a line"),
        pytest.param(an_order(*lines(100, 200)), [a_refund({"1": 100})], [0, 200], id="a whole line"),
        pytest.param(
            an_order(*lines(100, 200)),
            [a_refund({"1": 60}, id="a"), a_refund({"1": 60}, id="b")],
            [0, 200],
            id="two that exceed a line stop at 0",
        ),
        pytest.param(
            an_order(*lines(100, 200)), [a_refund({"1": 999})], [0, 200], id="too much for a line is not spread"
        ),
        pytest.param(an_order(*lines(100, 200)), [a_refund(30)], [90, 180], id="no line named: by value"),
        pytest.param(an_order(*lines(100, 200)), [a_refund(1)], [100, 199], id="one cent: by largest remainder"),
        pytest.param(an_order(*lines(100, 100)), [a_refund(1)], [99, 100], id="one cent, a tie: the earlier line"),
        pytest.param(an_order(*lines(100, 200)), [a_refund(900)], [0, 0], id="no line named: too much stops at 0"),
        pytest.param(
            an_order(*lines(100, 200)),
            [a_refund({"2": 100}, id="a"), a_refund(50, id="b")],
            [75, 75],
            id="no line named: by what remains, not by what was ordered",
        ),
        pytest.param(
            an_order(*lines(100, 200)),
            [a_refund({"1": 100}, id="a"), a_refund(50, id="b")],
            [0, 150],
            id="a line with nothing left gets no share",
        ),
        pytest.param(an_order(a_line(100), CARRIAGE), [], [100], id="carriage earns nothing"),
        pytest.param(
            an_order(a_line(100), CARRIAGE), [a_refund({"ship": 800})], [100], id="carriage back takes nothing"
        ),
        pytest.param(an_order(a_line(100), CARRIAGE), [a_refund(10)], [90], id="no line named: goods only"),
        pytest.param(
            an_order(*lines(100, 100)), [a_refund({"gone": 50})], [75, 75], id="a line we do not know is spread"
        ),
        pytest.param(an_order(*lines(0, 100)), [a_refund(40)], [0, 60], id="a free line"),
        pytest.param(an_order(CARRIAGE), [a_refund(40)], [], id="no goods at all"),
        pytest.param(an_order(*lines(100)), [a_refund(40, currency="EUR")], [100], id="another currency is not netted"),
        pytest.param(an_order(*lines(100)), [a_dispute(amount=40)], [100], id="an open dispute takes nothing"),
        pytest.param(an_order(*lines(100)), [a_dispute(3, 5, amount=40)], [100], id="a won dispute takes nothing"),
        pytest.param(an_order(*lines(100)), [a_lost_dispute(amount=40)], [60], id="a lost dispute is a refund"),
        pytest.param(
            an_order(*lines(100)),
            [a_lost_dispute(amount=40), a_refund(40, id="dispute:d1")],
            [60],
            id="a lost dispute and the shop's own refund for it count once",
        ),
        pytest.param(
            an_order(*lines(100)),
            [a_lost_dispute(amount=40), a_refund(40, id="another")],
            [20],
            id="a lost dispute and another refund both count",
        ),
    ],
)
def test_what_is_left_of_each_line(order: OrderSnapshot, events: list[Fact], left: list[int]) -> None:
    for told_in_this_order in permutations(events):
        assert [line.net_minor for line in netted(order, *told_in_this_order)] == left


refund_sets = st.dictionaries(st.text("abc", min_size=1, max_size=2), strategies.refunds, max_size=5)


@examples(120)
@given(strategies.snapshots, refund_sets, st.randoms(use_true_random=False))
def test_no_line_goes_below_zero_and_the_order_of_refunds_is_nothing(
    order: OrderSnapshot, refunds: dict[str, RefundFact], dice: random.Random
) -> None:
    keys = list(refunds)
    dice.shuffle(keys)

    left = net_lines(order, refunds)

    assert left == net_lines(order, {key: refunds[key] for key in keys})
    assert [line.line for line in left] == [line for line in order.lines if line.goods]
    assert all(0 <= line.refunded_minor <= line.line.net_minor for line in left)


@examples(120)
@given(strategies.snapshots, refund_sets)
def test_exactly_what_can_come_back_does(order: OrderSnapshot, refunds: dict[str, RefundFact]) -> None:
    netted_here = [refund for refund in refunds.values() if refund.currency == order.currency]
    goods = {line.id: line.net_minor for line in order.lines if line.goods}
    carriage = {line.id for line in order.lines if not line.goods}
    named = {
        line_id: min(value, sum(amount for refund in netted_here for id_, amount in refund.lines if id_ == line_id))
        for line_id, value in goods.items()
    }
    owed = sum(refund.owed_minor for refund in netted_here)
    loose = max(sum(refund.unallocated_minor for refund in netted_here) - owed, 0) + sum(
        amount for refund in netted_here for id_, amount in refund.lines if id_ not in goods and id_ not in carriage
    )

    left = net_lines(order, refunds)

    assert sum(line.refunded_minor for line in left) == min(sum(goods.values()), sum(named.values()) + loose)
    assert all(line.refunded_minor >= named[line.line.id] for line in left)
