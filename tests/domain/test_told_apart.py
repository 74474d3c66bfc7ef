"""What is told apart from the order: money in gross, cancellations, and holds that await a refund."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.commission import CommissionReason
from service.domain.order import (
    DisputeFact,
    DisputeOutcome,
    Fact,
    HoldFact,
    RefundFact,
    awaits,
    cancellation_fact,
    dispute_fact,
    goods_part,
    hold_fact,
    refund_fact,
)
from service.domain.settlement import FrozenReason, frozen_reason
from tests.domain.builders import a_hold, a_line, a_refund, an_edit, an_order, day, netted, reached, the_target, told

amounts = st.integers(0, 10**6)


def an_order_with_tax(goods: int = 10_000, tax: int = 2_000, carriage: int = 1_000) -> Fact:
    shipping = a_line(carriage, id="shipping", goods=False)
    snapshot = an_order(a_line(goods), shipping)
    return an_edit(replace(snapshot, tax_minor=tax, shipping_minor=carriage), on=day(1))


def gross(amount: int, *, id: str = "ch_1", on: int = 2, currency: str = "USD") -> Fact:  # noqa: A002 # the fact's own word
    return refund_fact(id, RefundFact(currency, day(on), gross_minor=amount), version_at=day(on))


@pytest.mark.parametrize(
    ("given_back", "left"),
    [
        (0, 10_000),
        (1, 9_999),
        (600, 9_500),
        (6_000, 5_000),
        (12_000, 0),
        (13_000, 0),
        (10**12, 0),
    ],
    ids=["nothing", "half a cent rounds away", "a part", "half", "carriage kept", "all", "more than all"],
)
def test_goods_and_their_tax_come_back_in_proportion_and_carriage_last(given_back: int, left: int) -> None:
    [line] = netted(an_order_with_tax(), gross(given_back))

    assert line.net_minor == left


@given(amounts, amounts, amounts)
def test_the_goods_part_is_within_the_goods_and_the_money_and_grows_with_it(
    goods: int, tax: int, given_back: int
) -> None:
    snapshot = replace(an_order(a_line(goods)), tax_minor=tax)

    part = goods_part(given_back, snapshot)

    assert 0 <= part <= min(goods, given_back)
    assert part <= goods_part(given_back + 1, snapshot)
    assert goods_part(goods + tax, snapshot) == goods


def test_an_order_of_carriage_alone_has_no_goods_to_give_back() -> None:
    assert netted(an_edit(an_order(a_line(500, id="s", goods=False)), on=day(1)), gross(500)) == []


def test_each_refund_in_gross_is_taken_for_itself_beside_those_that_name_goods() -> None:
    facts = [an_order_with_tax(), gross(1_200), gross(2_400, id="ch_2"), a_refund(500, id="r1")]

    assert [line.net_minor for line in netted(*facts)] == [10_000 - 1_000 - 2_000 - 500]


def test_a_lost_dispute_in_gross_takes_its_goods() -> None:
    lost = DisputeFact(day(3), "USD", 6_000, day(5), DisputeOutcome.LOST, gross=True)

    assert [line.net_minor for line in netted(an_order_with_tax(), dispute_fact("d1", lost, version_at=day(5)))] == [
        5_000
    ]


def test_money_in_gross_of_another_currency_freezes_the_order() -> None:
    assert frozen_reason(told(an_order_with_tax(), gross(100, currency="EUR"))) is FrozenReason.REFUND_CURRENCY
    assert frozen_reason(told(an_order_with_tax(), gross(0, currency="EUR"))) is None


def test_bodies_without_gross_are_written_as_they_always_were_and_those_with_it_come_back() -> None:
    plain = json.dumps([RefundFact("USD", day(1)).as_json(), DisputeFact(day(1), "USD", 5).as_json()])
    assert "gross" not in plain
    assert "owed" not in plain
    for body in (RefundFact("USD", day(1), gross_minor=7, owed_minor=3), DisputeFact(day(1), "USD", 5, gross=True)):
        assert type(body).of_json(json.loads(json.dumps(body.as_json()))) == body


def test_a_cancellation_told_apart_takes_all_back_whatever_the_snapshot_says_and_whenever() -> None:
    order, cancelled = an_order(), cancellation_fact(day(4))
    later = an_edit(order, on=day(9))

    for known in (told(order, cancelled), told(cancelled, order), told(cancelled, order, later)):
        assert known.snapshot is not None
        assert known.snapshot.cancelled
    target = the_target(order, reached(), cancelled)
    assert (target.target_minor, target.reason) == (0, CommissionReason.CANCELLED)


def test_a_cancellation_without_its_order_is_no_order() -> None:
    assert told(cancellation_fact(day(4))).snapshot is None


def test_a_hold_that_awaits_a_refund_ends_with_that_refund_and_no_other() -> None:
    waiting = hold_fact(awaits("rt-1"), HoldFact(day(3), "returned"), version_at=day(3))

    assert frozen_reason(told(an_order(), waiting)) is FrozenReason.HOLD
    assert frozen_reason(told(an_order(), waiting, a_refund(5, id="rt-2"))) is FrozenReason.HOLD
    assert frozen_reason(told(an_order(), waiting, a_refund(5, id="rt-1"))) is None
    assert frozen_reason(told(an_order(), waiting, a_refund(5, id="rt-1"), a_hold())) is FrozenReason.HOLD
    released = hold_fact(awaits("rt-1"), HoldFact(day(3), "returned", day(5)), version_at=day(5))
    assert frozen_reason(told(an_order(), released)) is None
