"""When a commission may become payable, and what freezes it."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.errors import InvalidTerms
from service.domain.order import Fact, Milestone, milestone_fact
from service.domain.program import Terms
from service.domain.settlement import (
    ROLL_DAYS_MAX,
    Approval,
    FrozenReason,
    Roll,
    RollingSettlement,
    Statement,
    StatementSettlement,
    Weekday,
    frozen_reason,
    frozen_reasons,
    settles_at,
    time_covered,
)
from service.domain.settlement_presets import PRESETS, Preset
from tests.domain.builders import (
    a_dispute,
    a_hold,
    a_lost_dispute,
    a_refund,
    an_edit,
    an_order,
    day,
    lines,
    percent,
    reached,
    told,
    utc,
)
from tests.domain.strategies import examples

PAID, DELIVERED = Milestone.PAID, Milestone.DELIVERED
ORDER = an_order(*lines(100))


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
    assert settles_at(told(*events), RollingSettlement(DELIVERED, 14), approved=False, time_zone="UTC") == expected


def test_golden_schedule_delivered_on_1_november_is_payable_on_the_16th_after_fifteen_days() -> None:
    facts = told()
    facts.milestones[DELIVERED] = utc("2026-11-01T08:00")

    assert settles_at(facts, RollingSettlement(DELIVERED, 15), approved=False, time_zone="UTC") == utc(
        "2026-11-16T08:00"
    )


@pytest.mark.parametrize("milestone", Milestone)
def test_every_milestone_can_start_the_clock(milestone: Milestone) -> None:
    assert settles_at(
        told(reached(milestone, on=1)), RollingSettlement(milestone, 0), approved=False, time_zone="UTC"
    ) == day(1)


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
    assert (
        settles_at(told(reached(PAID)), RollingSettlement(PAID, 14, approval), approved=approved, time_zone="UTC")
        == expected
    )


@pytest.mark.parametrize(
    ("events", "approved", "expected"),
    [
        pytest.param([reached(PAID)], False, day(20), id="silence, after the hold period"),
        pytest.param([reached(PAID, on=10)], False, day(24), id="silence, the hold period ends later"),
        pytest.param([reached(PAID)], True, day(14), id="a person was faster"),
        pytest.param([], False, None, id="silence says nothing of a missing milestone"),
        pytest.param([reached(PAID), a_dispute(1, 9)], False, day(22), id="time in dispute counts as ever"),
    ],
)
def test_silence_counts_as_approval_after_its_days(
    events: list[Fact], approved: bool, expected: datetime | None
) -> None:
    terms = RollingSettlement(PAID, 14, Approval.MANUAL, auto_approve_days=20)

    assert settles_at(told(ORDER, *events), terms, approved=approved, time_zone="UTC") == expected


def test_silence_approves_a_statement_on_its_pay_day_or_later() -> None:
    def paid_at(days: int) -> datetime | None:
        terms = StatementSettlement(PAID, 0, 31, 1, 20, approval=Approval.MANUAL, auto_approve_days=days)
        return settles_at(told(ORDER, reached(PAID)), terms, approved=False, time_zone="UTC")

    # Placed at noon on 10 March: on the statement of March, paid on 20 April, 41 days later.
    assert paid_at(40) == utc("2026-04-20T00:00")
    assert paid_at(41) == day(41) == utc("2026-04-20T12:00")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RollingSettlement(PAID, 14, auto_approve_days=3),
        lambda: StatementSettlement(PAID, 0, 31, 1, 20, auto_approve_days=3),
    ],
    ids=["rolling", "statement"],
)
def test_without_a_manual_approval_silence_means_nothing(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidTerms, match="manual"):
        make()


# Statements


def test_a_statement_has_its_days() -> None:
    terms = StatementSettlement(PAID, 0, 31, 1, 18, audit_days=10, objection_days=15)

    found = terms.statement_of(utc("2026-05-12T09:00"), ZoneInfo("UTC"))

    assert found == Statement(
        cut_off_on=date(2026, 5, 31),
        audit_by=date(2026, 6, 10),
        objection_until=date(2026, 6, 15),
        pays_on=date(2026, 6, 18),
    )


def test_nobody_is_told_of_days_that_the_terms_do_not_have() -> None:
    found = StatementSettlement(PAID, 0, 31, 1, 18).statement_of(utc("2026-05-12T09:00"), ZoneInfo("UTC"))

    assert (found.audit_by, found.objection_until) == (None, None)


def test_a_statement_belongs_to_the_merchants_month() -> None:
    terms, late = StatementSettlement(PAID, 0, 15, 0, 20), utc("2026-10-15T17:30")

    assert terms.statement_of(late, ZoneInfo("UTC")).cut_off_on == date(2026, 10, 15)
    assert terms.statement_of(late, ZoneInfo("Asia/Ho_Chi_Minh")).cut_off_on == date(2026, 11, 15)


@pytest.mark.parametrize(
    ("calendar", "most"),
    [
        pytest.param((15, 0, 20), 4, id="within a month"),
        pytest.param((31, 1, 18), 17, id="after the end of a month"),
        pytest.param((1, 1, 31), 57, id="to the end of February"),
        pytest.param((30, 1, 1), 0, id="the day before"),
    ],
)
def test_objections_end_before_the_pay_day(calendar: tuple[int, int, int], most: int) -> None:
    cut_off_day, months_after, pay_day = calendar
    terms = StatementSettlement(PAID, 0, cut_off_day, months_after, pay_day, objection_days=most)

    assert terms.objection_days == most
    with pytest.raises(InvalidTerms, match=f"at most {most} here"):
        StatementSettlement(PAID, 0, cut_off_day, months_after, pay_day, objection_days=most + 1)


def test_a_pay_day_that_rolls_back_shortens_the_time_to_object() -> None:
    # 18 April 2026 is a Saturday.
    terms = StatementSettlement(
        PAID, 0, 31, 1, 18, Roll.PREVIOUS, frozenset({Weekday.SAT, Weekday.SUN}), objection_days=17
    )

    found = terms.statement_of(utc("2026-03-02T00:00"), ZoneInfo("UTC"))

    assert (found.objection_until, found.pays_on) == (date(2026, 4, 16), date(2026, 4, 17))


def final(cut_off_day: int, months_after: int, pay_day: int, at: str, *, zone: str = "UTC", **more: Any) -> datetime:
    """The pay day of what became final at a moment."""
    terms = StatementSettlement(PAID, 0, cut_off_day=cut_off_day, months_after=months_after, pay_day=pay_day, **more)
    facts = told(milestone_fact(PAID, utc(at)))
    found = settles_at(facts, terms, approved=False, time_zone=zone)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("calendar", "final_at", "pays_on"),
    [
        pytest.param((15, 0, 20), "2026-10-13T09:00", "2026-10-20", id="Pinduoduo: passed on 13 October"),
        pytest.param((15, 0, 20), "2026-10-18T09:00", "2026-11-20", id="Pinduoduo: passed on 18 October"),
        pytest.param((31, 1, 20), "2026-06-30T23:59", "2026-07-20", id="Taobao: received on 30 June"),
        pytest.param((31, 1, 20), "2026-07-01T00:00", "2026-08-20", id="Taobao: received on 1 July"),
        pytest.param((31, 1, 18), "2026-05-12T00:00", "2026-06-18", id="AccessTrade: May"),
        pytest.param((31, 2, 1), "2026-03-09T00:00", "2026-05-01", id="JD: March is billed on 1 May"),
        pytest.param((31, 1, 31), "2027-01-31T12:00", "2027-02-28", id="a pay day beyond the month is its last"),
        pytest.param((31, 1, 10), "2026-12-31T12:00", "2027-01-10", id="over the new year"),
        pytest.param((30, 1, 5), "2027-02-28T12:00", "2027-03-05", id="a cut-off beyond the month is its last"),
        pytest.param((15, 0, 20), "2026-12-16T00:00", "2027-01-20", id="after December's cut-off"),
    ],
)  # fmt: skip
def test_golden_schedules(calendar: tuple[int, int, int], final_at: str, pays_on: str) -> None:
    assert final(*calendar, final_at) == utc(f"{pays_on}T00:00")


def test_days_are_those_of_the_merchant() -> None:
    # Half past eleven at night in Vietnam is still the 15th, though it is 16:30 in UTC; an hour later it is the 16th.
    assert final(15, 0, 20, "2026-10-15T16:30", zone="Asia/Ho_Chi_Minh") == utc("2026-10-19T17:00")
    assert final(15, 0, 20, "2026-10-15T17:30", zone="Asia/Ho_Chi_Minh") == utc("2026-11-19T17:00")


@pytest.mark.parametrize(
    ("roll", "pays_on"), [(Roll.NEXT, "2026-06-23"), (Roll.PREVIOUS, "2026-06-19"), (Roll.NONE, "2026-06-20")]
)
def test_a_pay_day_on_a_day_off_rolls(roll: Roll, pays_on: str) -> None:
    # 20 June 2026 is a Saturday; Monday the 22nd is a holiday here.
    weekend, holidays = frozenset({Weekday.SAT, Weekday.SUN}), frozenset({date(2026, 6, 22)})

    found = final(31, 1, 20, "2026-05-12T00:00", roll=roll, off_days=weekend, holidays=holidays)

    assert found == utc(f"{pays_on}T00:00")


def test_where_no_day_is_a_business_day_the_pay_day_stays() -> None:
    assert final(31, 1, 20, "2026-05-12T00:00", off_days=frozenset(Weekday)) == utc("2026-06-20T00:00")


def test_a_pay_day_that_rolls_back_never_lies_before_the_money_is_final() -> None:
    found = final(19, 0, 20, "2026-06-19T18:00", roll=Roll.PREVIOUS, off_days=frozenset({Weekday.SAT}))

    assert found == utc("2026-06-19T18:00")


def test_time_in_dispute_moves_an_order_to_a_later_statement() -> None:
    terms = StatementSettlement(PAID, 5, cut_off_day=15, months_after=0, pay_day=20)
    undisturbed, disputed = [reached(PAID, on=0)], [reached(PAID, on=0), a_dispute(1, 3)]

    # Paid on 10 March: final on the 15th, or two days later.
    assert settles_at(told(*undisturbed), terms, approved=False, time_zone="UTC") == utc("2026-03-20T00:00")
    assert settles_at(told(*disputed), terms, approved=False, time_zone="UTC") == utc("2026-04-20T00:00")


@pytest.mark.parametrize("pay_day", [1, 15])
def test_a_statement_is_paid_after_its_cut_off(pay_day: int) -> None:
    with pytest.raises(InvalidTerms, match="after its cut-off"):
        StatementSettlement(PAID, 0, cut_off_day=15, months_after=0, pay_day=pay_day)


@examples(200)
@given(
    st.integers(1, 31), st.integers(0, 3), st.integers(1, 31), st.sampled_from(Roll), st.frozensets(st.sampled_from(Weekday)),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 # bounds of the strategy
    st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Kiritimati"]),
)  # fmt: skip
def test_a_pay_day_comes_after_and_not_much_later_than_its_months(
    cut_off: int, months: int, pay_day: int, roll: Roll, off: frozenset[Weekday], at: datetime, zone: str
) -> None:
    assume(months > 0 or pay_day > cut_off)
    terms = StatementSettlement(PAID, 0, cut_off, months, pay_day, roll, off)

    found = terms.pays_at(at, ZoneInfo(zone))

    statement = terms.statement_of(at, ZoneInfo(zone))
    assert at <= found <= at + timedelta(days=31 * (months + 2) + ROLL_DAYS_MAX)
    assert at.astimezone(ZoneInfo(zone)).date() <= statement.cut_off_on
    assert found == max(at, datetime.combine(statement.pays_on, time(), ZoneInfo(zone)))
    assert terms.pays_at(at, ZoneInfo(zone)) <= terms.pays_at(at + timedelta(days=1), ZoneInfo(zone))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_can_be_promised(preset: Preset) -> None:
    terms = Terms(
        rules=(percent("10"),),
        settlement=preset.settlement,
        payout_minimums_minor=preset.payout_minimums_minor,
    )

    assert Terms.of_json(json.loads(json.dumps(terms.as_json()))) == terms


spans = st.tuples(st.integers(-5, 20), st.integers(-5, 20)).map(lambda ends: (day(ends[0]), day(ends[1])))


@examples(200)
@given(st.lists(spans, max_size=6), st.integers(-3, 10))
def test_the_union_of_spans_counts_each_day_once(drawn: Sequence[tuple[datetime, datetime]], start: int) -> None:
    days = [day(number) for number in range(start, 25)]

    covered = time_covered(drawn, since=day(start))

    assert covered == timedelta(days=sum(any(begin <= one < end for begin, end in drawn) for one in days))
    assert covered == time_covered([*reversed(drawn), *drawn], since=day(start))


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


def test_all_that_freezes_an_order_is_told() -> None:
    facts = told(ORDER, a_hold(), a_dispute(), a_refund(5, currency="EUR"))

    assert frozen_reasons(facts) == (FrozenReason.DISPUTE, FrozenReason.HOLD, FrozenReason.REFUND_CURRENCY)
