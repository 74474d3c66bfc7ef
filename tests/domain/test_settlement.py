"""When a commission may become payable, and what freezes it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import Fact, Milestone
from service.domain.settlement import (
    Approval,
    FrozenReason,
    RollingSettlement,
    frozen_reason,
    settles_at,
    time_covered,
)
from tests.domain.builders import (
    a_dispute,
    a_hold,
    a_lost_dispute,
    a_refund,
    an_edit,
    an_order,
    day,
    lines,
    reached,
    told,
    utc,
)
from tests.domain.strategies import examples

PAID, DELIVERED = Milestone.PAID, Milestone.DELIVERED


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], None, id="not delivered yet"),
        pytest.param([reached(PAID)], None, id="paid is not delivered"),
        pytest.param([reached(DELIVERED, on=2)], day(16), id="delivered"),
        pytest.param([reached(DELIVERED, on=5), reached(DELIVERED, on=2)], day(16), id="told twice: the earliest"),
        pytest.param(
            [reached(DELIVERED, on=2), a_dispute(4)], day(16), id="an open dispute freezes, it does not count yet"
        ),
        pytest.param([reached(DELIVERED, on=2), a_dispute(4, 9)], day(21), id="time in dispute does not count"),
        pytest.param(
            [reached(DELIVERED, on=2), a_dispute(4, 9, id="a"), a_dispute(12, 13, id="b")], day(22), id="two disputes"
        ),
        pytest.param(
            [reached(DELIVERED, on=2), a_dispute(4, 9, id="a"), a_dispute(7, 12, id="b")],
            day(24),
            id="days in two disputes count once",
        ),
        pytest.param(
            [reached(DELIVERED, on=2), a_dispute(4, 12, id="a"), a_dispute(5, 6, id="b")],
            day(24),
            id="one inside another",
        ),
        pytest.param([reached(DELIVERED, on=2), a_dispute(0, 5)], day(19), id="only what lies after the start"),
        pytest.param([reached(DELIVERED, on=6), a_dispute(0, 5)], day(20), id="a dispute before the start is nothing"),
        pytest.param([reached(DELIVERED, on=2), a_dispute(9, 4)], day(16), id="closed before it was opened: nothing"),
        pytest.param(
            [reached(DELIVERED, on=2), a_dispute(4, 9), a_dispute(4, 9)], day(21), id="told twice, counted once"
        ),
        pytest.param([reached(DELIVERED, on=2), a_lost_dispute(4, 9)], day(21), id="a lost dispute took time as well"),
        pytest.param([reached(DELIVERED, on=2), a_hold(4, 9)], day(16), id="a hold does not stop the clock"),
    ],
)
def test_payable_after_the_hold_and_the_time_in_dispute(events: list[Fact], expected: datetime | None) -> None:
    assert settles_at(told(*events), RollingSettlement(DELIVERED, 14), approved=False) == expected


def test_delivered_on_1_november_is_payable_on_the_16th_after_fifteen_days() -> None:
    facts = told()
    facts.milestones[DELIVERED] = utc("2026-11-01T08:00")

    assert settles_at(facts, RollingSettlement(DELIVERED, 15), approved=False) == utc("2026-11-16T08:00")


@pytest.mark.parametrize("milestone", Milestone)
def test_every_milestone_can_start_the_clock(milestone: Milestone) -> None:
    assert settles_at(told(reached(milestone, on=1)), RollingSettlement(milestone, 0), approved=False) == day(1)


@pytest.mark.parametrize(
    ("approval", "approved", "expected"),
    [
        pytest.param(Approval.AUTOMATIC, False, day(14), id="not demanded"),
        pytest.param(Approval.AUTOMATIC, True, day(14), id="not demanded, given all the same"),
        pytest.param(Approval.MANUAL, False, None, id="demanded and missing"),
        pytest.param(Approval.MANUAL, True, day(14), id="demanded and given"),
    ],
)
def test_a_demanded_approval_is_waited_for(approval: Approval, approved: bool, expected: datetime | None) -> None:
    assert settles_at(told(reached(PAID)), RollingSettlement(PAID, 14, approval), approved=approved) == expected


spans = st.tuples(st.integers(-5, 20), st.integers(-5, 20)).map(lambda ends: (day(ends[0]), day(ends[1])))


@examples(200)
@given(st.lists(spans, max_size=6), st.integers(-3, 10))
def test_the_union_of_spans_counts_each_day_once(drawn: Sequence[tuple[datetime, datetime]], start: int) -> None:
    days = [day(number) for number in range(start, 25)]

    covered = time_covered(drawn, since=day(start))

    assert covered == timedelta(days=sum(any(begin <= one < end for begin, end in drawn) for one in days))
    assert covered == time_covered([*reversed(drawn), *drawn], since=day(start))


ORDER = an_order(*lines(100))


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        pytest.param([ORDER], None, id="nothing"),
        pytest.param([ORDER, a_dispute()], FrozenReason.DISPUTE, id="dispute open"),
        pytest.param([ORDER, a_dispute(3, 5)], None, id="dispute closed"),
        pytest.param([ORDER, a_dispute(3, 5), a_dispute(3)], None, id="dispute closed, its opening told late"),
        pytest.param(
            [ORDER, a_dispute(3, 5, id="a"), a_dispute(6, id="b")], FrozenReason.DISPUTE, id="a second dispute is open"
        ),
        pytest.param([ORDER, a_hold()], FrozenReason.HOLD, id="hold open"),
        pytest.param([ORDER, a_hold(3, 4)], None, id="hold released"),
        pytest.param([ORDER, a_hold(3, 4, id="a"), a_hold(1, id="b")], FrozenReason.HOLD, id="one of two holds open"),
        pytest.param([ORDER, a_refund(5, currency="EUR")], FrozenReason.REFUND_CURRENCY, id="refund in euros"),
        pytest.param(
            [ORDER, a_refund(5, currency="EUR", on=day(1)), a_refund(0, currency="EUR", on=day(2))],
            None,
            id="a refund in euros that was taken back",
        ),
        pytest.param(
            [ORDER, an_edit(an_order(currency="EUR"), on=day(2)), a_refund(5, currency="EUR")],
            None,
            id="refund in euros, order edited to euros",
        ),
        pytest.param([a_refund(5, currency="EUR")], None, id="refund in euros, order not here yet"),
        pytest.param(
            [ORDER, an_edit(an_order(*lines(7)), on=ORDER.placed_at)],
            FrozenReason.CONFLICTING_VERSION,
            id="two bodies of one version",
        ),
        pytest.param(
            [ORDER, an_edit(an_order(*lines(7)), on=ORDER.placed_at), an_edit(an_order(*lines(7)), on=day(1))],
            None,
            id="two bodies of one version, then the next version",
        ),
        pytest.param([a_dispute()], FrozenReason.DISPUTE, id="dispute open, order not here yet"),
    ],
)
def test_what_freezes_an_order(events: list[Fact], reason: FrozenReason | None) -> None:
    assert frozen_reason(told(*events)) is reason
