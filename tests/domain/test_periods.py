"""Rules over a period: which period an order is in, what a rule gives, and how that stands where the orders stand."""

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.commission import Move, Place, Places, shift
from service.domain.errors import InvalidTerms
from service.domain.periods import (
    Cap,
    DatedRules,
    Gives,
    Ladder,
    Mark,
    Milestones,
    PeriodKey,
    PeriodRule,
    Scale,
    Span,
    Step,
    Stretch,
    Sum,
    Sums,
    check_follows,
    check_keys_stay,
    contribution,
    gives,
    period_rule_json,
    period_rule_of,
    periods_of,
)
from service.domain.written import rate_of
from tests.domain.builders import utc
from tests.domain.strategies import examples

MONTH, DAY = Stretch(Span.MONTH), Stretch(Span.DAY)
TET = Stretch(Span.CAMPAIGN, date(2026, 1, 20), date(2026, 2, 10))


def usd(amount: int) -> tuple[tuple[str, int], ...]:
    return (("USD", amount),)


def a_cap(amount: int, *, key: str = "most", stretch: Stretch = MONTH) -> Cap:
    return Cap(key, stretch, usd(amount))


def a_ladder(
    *steps: tuple[int, str], scale: Scale = Scale.MARGINAL, key: str = "volume", stretch: Stretch = MONTH
) -> Ladder:
    return Ladder(key, stretch, tuple(Step(usd(start), rate_of(rate)) for start, rate in steps), scale)


def marks(*found: tuple[str, int, int], key: str = "bonus", stretch: Stretch = MONTH) -> Milestones:
    """(what, how much of it, what it pays)."""
    return Milestones(
        key,
        stretch,
        tuple(
            Mark(usd(pays), orders=start) if what == "orders" else Mark(usd(pays), usd(start))
            for what, start, pays in found
        ),
    )


# Which period an order is in

HANOI, NEW_YORK = "Asia/Ho_Chi_Minh", "America/New_York"


@pytest.mark.parametrize(
    ("stretch", "placed", "zone", "begins", "ends"),
    [
        pytest.param(DAY, "2026-03-31T16:59", HANOI, "2026-03-31", "2026-03-31", id="a day, a minute before midnight"),
        pytest.param(DAY, "2026-03-31T17:00", HANOI, "2026-04-01", "2026-04-01", id="a day, at midnight in Hanoi"),
        pytest.param(MONTH, "2026-03-31T16:59", HANOI, "2026-03-01", "2026-03-31", id="a month, its last minute"),
        pytest.param(MONTH, "2026-03-31T17:00", HANOI, "2026-04-01", "2026-04-30", id="the next month, its first"),
        pytest.param(MONTH, "2026-04-01T03:59", NEW_YORK, "2026-03-01", "2026-03-31", id="still March in New York"),
        pytest.param(MONTH, "2024-02-29T12:00", "UTC", "2024-02-01", "2024-02-29", id="a leap February"),
        pytest.param(
            Stretch(Span.QUARTER), "2026-06-30T17:00", HANOI, "2026-07-01", "2026-09-30", id="the third quarter"
        ),
        pytest.param(
            Stretch(Span.QUARTER), "2026-12-31T23:59", "UTC", "2026-10-01", "2026-12-31", id="the last of the quarters"
        ),
        pytest.param(Stretch(Span.YEAR), "2025-12-31T17:00", HANOI, "2026-01-01", "2026-12-31", id="a year"),
        pytest.param(TET, "2026-01-19T17:00", HANOI, "2026-01-20", "2026-02-10", id="a campaign, its first minute"),
        pytest.param(TET, "2026-02-10T16:59", HANOI, "2026-01-20", "2026-02-10", id="a campaign, its last minute"),
        pytest.param(
            Stretch(Span.CAMPAIGN, date(2026, 1, 20)), "2030-01-01T00:00", "UTC", "2026-01-20", None, id="without an end"
        ),
        pytest.param(
            Stretch(Span.MONTH, date(2026, 3, 10)), "2026-03-10T00:00", "UTC", "2026-03-01", "2026-03-31",
            id="a month of which the rule is for a part",
        ),
    ],
)  # fmt: skip
def test_the_period_of_an_order(stretch: Stretch, placed: str, zone: str, begins: str, ends: str | None) -> None:
    begin = stretch.begin_of(utc(placed), zone)

    assert begin == date.fromisoformat(begins)
    assert stretch.end_of(begin) == (None if ends is None else date.fromisoformat(ends))


@pytest.mark.parametrize(
    ("stretch", "placed"),
    [
        pytest.param(TET, "2026-01-19T16:59", id="before a campaign"),
        pytest.param(TET, "2026-02-10T17:00", id="after it"),
        pytest.param(Stretch(Span.DAY, last_day=date(2026, 1, 1)), "2026-01-02T00:00", id="after the last day"),
        pytest.param(
            Stretch(Span.MONTH, date(2026, 3, 10)), "2026-03-09T12:00", id="before the first day of a month's"
        ),
    ],
)
def test_an_order_outside_of_the_days_of_a_rule_is_in_no_period(stretch: Stretch, placed: str) -> None:
    assert stretch.begin_of(utc(placed), HANOI) is None


# What rules give

STEPS = ((0, "1"), (10_000, "2"), (50_000, "5"))


@pytest.mark.parametrize(
    ("rule", "total", "given"),
    [
        pytest.param(a_cap(500), Sum(499), 0, id="cap: below it"),
        pytest.param(a_cap(500), Sum(500), 0, id="cap: at it"),
        pytest.param(a_cap(500), Sum(720), -220, id="cap: above it"),
        pytest.param(a_cap(0), Sum(7), -7, id="cap: of nothing"),
        pytest.param(Cap("most", MONTH, (("VND", 5),)), Sum(720), 0, id="cap: none in this currency"),
        pytest.param(a_ladder(*STEPS), Sum(0, 10_000, 1), 100, id="ladder: the first step only"),
        pytest.param(a_ladder(*STEPS), Sum(0, 60_000, 1), 100 + 800 + 500, id="ladder: each rate above its start"),
        pytest.param(a_ladder(*STEPS), Sum(0, 149, 1), 1, id="ladder: 1.49 is 1"),
        pytest.param(a_ladder(*STEPS), Sum(0, 150, 1), 2, id="ladder: 1.5 is 2"),
        pytest.param(a_ladder((10_000, "2")), Sum(0, 9_999, 9), 0, id="ladder: below the first step"),
        pytest.param(
            a_ladder(*STEPS, scale=Scale.RETROACTIVE), Sum(0, 60_000, 1), 3_000, id="retroactive: the highest for all"
        ),
        pytest.param(
            a_ladder(*STEPS, scale=Scale.RETROACTIVE), Sum(0, 49_999, 1), 1_000, id="retroactive: one short of it"
        ),
        pytest.param(
            Ladder("volume", MONTH, (Step((("VND", 1),), Fraction(1, 2)),)), Sum(0, 500, 1), 0,
            id="ladder: no step in this currency",
        ),
        pytest.param(marks(("orders", 10, 500)), Sum(0, 1, 9), 0, id="mark: one order short"),
        pytest.param(marks(("orders", 10, 500)), Sum(0, 1, 10), 500, id="mark: reached"),
        pytest.param(marks(("orders", 10, 500), ("sales", 100, 70)), Sum(0, 100, 10), 570, id="marks: each once"),
        pytest.param(marks(("sales", 101, 70)), Sum(0, 100, 10), 0, id="mark: sales short"),
        pytest.param(Milestones("bonus", MONTH, (Mark((("VND", 9),), orders=1),)), Sum(0, 1, 1), 0, id="mark: pays dong"),
    ],
)  # fmt: skip
def test_what_a_rule_gives_for_a_sum(rule: PeriodRule, total: Sum, given: int) -> None:
    assert gives([rule], Sums(settled=total), "USD") == Gives(0, 0, given)


@pytest.mark.parametrize(
    ("rule", "sums", "given"),
    [
        # As DESIGN §5 has it: f(S), f(S+P) − f(S), f(S+P+H) − f(S+P).
        pytest.param(
            a_cap(500), Sums(pending=Sum(300), held=Sum(100), settled=Sum(400)), Gives(-200, -100, 0),
            id="a cap takes from what settles last",
        ),
        pytest.param(
            a_cap(500), Sums(pending=Sum(300), settled=Sum(700)), Gives(-300, 0, -200), id="settled alone is too much"
        ),
        pytest.param(
            a_ladder(*STEPS), Sums(pending=Sum(0, 30_000, 1), held=Sum(0, 30_000, 1), settled=Sum(0, 5_000, 1)),
            Gives(550, 1_050, 50), id="a ladder climbs on",
        ),
        pytest.param(
            a_ladder(*STEPS, scale=Scale.RETROACTIVE), Sums(pending=Sum(0, 6_000, 1), settled=Sum(0, 5_000, 1)),
            Gives(170, 0, 50), id="what a step adds for what is settled waits with the order that reached it",
        ),
        pytest.param(
            marks(("orders", 2, 900)), Sums(pending=Sum(0, 1, 1), held=Sum(0, 1, 1)), Gives(0, 900, 0),
            id="a mark stands where the order stands that reached it",
        ),
    ],
)  # fmt: skip
def test_what_a_rule_gives_stands_where_the_orders_stand(rule: PeriodRule, sums: Sums, given: Gives) -> None:
    assert gives([rule], sums, "USD") == given


def test_of_several_rules_of_one_key_the_one_that_gives_most_counts_at_each_sum() -> None:
    steep, flat = a_ladder((20_000, "10")), a_ladder((0, "1"))
    sums = Sums(pending=Sum(0, 90_000, 1), settled=Sum(0, 10_000, 1))

    assert gives([flat, steep], sums, "USD") == Gives(8_000 - 100, 0, 100)
    assert gives([a_cap(500), a_cap(800)], Sums(settled=Sum(900)), "USD") == Gives(0, 0, -100)


@pytest.mark.parametrize(
    ("places", "sums"),
    [
        pytest.param((0, 0, 0), Sums(), id="nothing earned: no sales, no order"),
        pytest.param((7, 0, 0), Sums(pending=Sum(7, 90, 1)), id="pending"),
        pytest.param((0, 7, 0), Sums(held=Sum(7, 90, 1)), id="held"),
        pytest.param((0, 0, 7), Sums(settled=Sum(7, 90, 1)), id="settled"),
        pytest.param((3, 0, 4), Sums(pending=Sum(3, 90, 1), settled=Sum(4)), id="in part settled: not yet"),
        pytest.param((3, 2, 4), Sums(pending=Sum(3), held=Sum(2, 90, 1), settled=Sum(4)), id="in part held: held"),
    ],
)
def test_an_order_counts_as_a_whole_where_its_least_advanced_part_is(places: tuple[int, int, int], sums: Sums) -> None:
    pending, held, settled = places

    assert contribution(pending_minor=pending, held_minor=held, settled_minor=settled, sales_minor=90) == sums


# Which rules a period goes by

V1, V2, V3 = utc("2026-01-01"), utc("2026-02-10"), utc("2026-04-01")


def dated(*versions: tuple[datetime, list[PeriodRule]], notice_days: int = 0) -> list[DatedRules]:
    ends: list[datetime | None] = [since for since, _ in versions[1:]]
    return [
        DatedRules(since, tuple(rules), timedelta(days=notice_days), until)
        for (since, rules), until in zip(versions, [*ends, None], strict=True)
    ]


def found(
    versions: list[DatedRules], placed: str, *, enrolled: str | None = None, zone: str = "UTC"
) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
    def enrolled_since(at: datetime) -> datetime | None:
        return utc(enrolled) if enrolled is not None and utc(enrolled) <= at else None

    return periods_of(versions, placed_at=utc(placed), enrolled_since=enrolled_since, time_zone=zone)


def month_of(number: int) -> PeriodKey:
    return PeriodKey("volume", date(2026, number, 1))


LOW, HIGH = a_ladder((0, "1")), a_ladder((0, "3"))


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        pytest.param("2026-02-09T12:00", {month_of(2): (LOW,)}, id="before the change"),
        pytest.param("2026-02-10T00:00", {month_of(2): (LOW,)}, id="after it, in the month that had begun"),
        pytest.param("2026-02-28T23:59", {month_of(2): (LOW,)}, id="to the end of that month"),
        pytest.param("2026-03-01T00:00", {month_of(3): (HIGH,)}, id="from the next month on"),
        pytest.param("2025-12-31T23:59", {}, id="before the first version"),
    ],
)
def test_a_change_waits_for_the_next_period(placed: str, expected: Mapping[PeriodKey, tuple[PeriodRule, ...]]) -> None:
    assert found(dated((V1, [LOW]), (V2, [HIGH])), placed) == expected


def test_a_version_that_begins_with_a_period_counts_from_its_first_moment_by_the_merchants_clock() -> None:
    versions = dated((V1, [LOW]), (utc("2026-02-28T17:00"), [HIGH]))

    assert found(versions, "2026-02-28T17:00", zone=HANOI) == {month_of(3): (HIGH,)}
    assert found(versions, "2026-02-28T17:00", zone="UTC") == {month_of(2): (LOW,)}


def test_a_new_key_counts_at_once_for_what_is_placed_from_then_on() -> None:
    versions = dated((V1, []), (V2, [LOW]), (utc("2026-02-20"), [HIGH]))

    assert found(versions, "2026-02-09T12:00") == {}
    assert found(versions, "2026-02-15T12:00") == {month_of(2): (LOW,)}
    # The month began without any; it keeps the first it had.
    assert found(versions, "2026-02-25T12:00") == {month_of(2): (LOW,)}
    assert found(versions, "2026-03-01T12:00") == {month_of(3): (HIGH,)}


def test_a_key_that_is_dropped_counts_until_its_period_ends() -> None:
    versions = dated((V1, [LOW]), (V2, []))

    assert found(versions, "2026-02-28T12:00") == {month_of(2): (LOW,)}
    assert found(versions, "2026-03-01T00:00") == {}


@pytest.mark.parametrize(
    ("enrolled", "placed", "rules"),
    [
        pytest.param("2026-01-15", "2026-03-05T12:00", (LOW, HIGH), id="March began within 30 days of the cut"),
        pytest.param("2026-01-15", "2026-03-31T12:00", (LOW, HIGH), id="so all of March is protected"),
        pytest.param("2026-01-15", "2026-04-01T00:00", (LOW,), id="April is not"),
        pytest.param("2026-02-10", "2026-03-05T12:00", (LOW,), id="who joined with the new terms has those"),
        pytest.param("2026-03-02", "2026-03-05T12:00", (LOW,), id="who joined after the month began"),
        pytest.param(None, "2026-03-05T12:00", (LOW,), id="who is in no programme"),
    ],
)
def test_a_cut_reaches_who_was_enrolled_after_the_notice_period(
    enrolled: str | None, placed: str, rules: tuple[PeriodRule, ...]
) -> None:
    versions = dated((V1, [HIGH]), (V2, [LOW]), notice_days=30)

    assert list(found(versions, placed, enrolled=enrolled).values()) == [rules]


@pytest.mark.parametrize(
    ("enrolled", "placed", "periods"),
    [
        pytest.param("2026-01-15", "2026-02-15T12:00", [], id="who was enrolled is not capped at once"),
        pytest.param("2026-01-15", "2026-03-11T12:00", [], id="up to the end of the notice"),
        pytest.param("2026-01-15", "2026-03-12T00:00", [date(2026, 3, 12)], id="then he is"),
        pytest.param("2026-02-11", "2026-02-15T12:00", [date(2026, 2, 15)], id="who joined with the cap is"),
    ],
)
def test_a_new_cap_is_a_cut_and_waits_for_its_notice(enrolled: str, placed: str, periods: list[date]) -> None:
    versions = dated((V1, []), (V2, [a_cap(5, key="most", stretch=DAY)]), notice_days=30)

    assert [key.begins_on for key in found(versions, placed, enrolled=enrolled)] == periods


@pytest.mark.parametrize(
    ("enrolled", "placed", "rules"),
    [
        pytest.param("2026-01-15", "2026-03-05T12:00", [(HIGH,)], id="March began within the notice"),
        pytest.param("2026-01-15", "2026-03-12T00:00", [], id="but nothing counts once the notice is over"),
        pytest.param("2026-02-11", "2026-03-05T12:00", [], id="who joined without it never had it"),
        pytest.param("2026-01-15", "2026-02-28T12:00", [(HIGH,)], id="its own month goes on for all"),
    ],
)
def test_a_dropped_bonus_goes_on_for_its_notice(
    enrolled: str, placed: str, rules: list[tuple[PeriodRule, ...]]
) -> None:
    versions = dated((V1, [HIGH]), (V2, []), notice_days=30)

    assert list(found(versions, placed, enrolled=enrolled).values()) == rules


def test_a_cap_that_is_dropped_is_gone_with_its_period() -> None:
    versions = dated((V1, [a_cap(5, key="most", stretch=DAY)]), (V2, []), notice_days=30)

    assert found(versions, "2026-02-11T12:00", enrolled="2026-01-15") == {}


def test_a_key_does_not_come_back() -> None:
    check_keys_stay([[LOW], [HIGH], []])
    with pytest.raises(InvalidTerms, match="'volume'"):
        check_keys_stay([[LOW], [], [HIGH]])


def test_each_rule_has_its_own_periods() -> None:
    cap, tet = a_cap(5, key="most", stretch=DAY), marks(("orders", 1, 1), key="tet", stretch=TET)

    assert found(dated((V1, [LOW, cap, tet])), "2026-02-10T12:00") == {
        month_of(2): (LOW,),
        PeriodKey("most", date(2026, 2, 10)): (cap,),
        PeriodKey("tet", date(2026, 1, 20)): (tet,),
    }


def test_a_campaign_keeps_its_rules_to_its_end() -> None:
    one, other = (marks(("orders", 1, pays), key="tet", stretch=TET) for pays in (1, 2))

    assert list(found(dated((V1, [one]), (utc("2026-01-25"), [other])), "2026-02-05T12:00").values()) == [(one,)]
    assert list(found(dated((V1, []), (utc("2026-01-25"), [other])), "2026-02-05T12:00").values()) == [(other,)]


moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 6, 30)).map(  # noqa: DTZ001 - the zone follows
    lambda at: at.replace(tzinfo=ZoneInfo("UTC"))
)
lists_of_rules = st.lists(
    st.sampled_from([LOW, HIGH, a_cap(5, stretch=DAY), a_cap(9, stretch=DAY), marks(("orders", 1, 1), stretch=TET)]),
    unique_by=lambda rule: rule.key,  # type: ignore[attr-defined] # each is a PeriodRule
    max_size=3,
)


def keys_stay(versions: list[DatedRules]) -> bool:
    try:
        check_keys_stay([version.rules for version in versions])
    except InvalidTerms:
        return False
    return True


@examples(200)
@given(
    st.lists(st.tuples(moments, lists_of_rules), min_size=1, max_size=4, unique_by=lambda each: each[0]),
    st.lists(moments, min_size=2, max_size=6),
    st.sampled_from(["UTC", HANOI, NEW_YORK]),
    st.none() | moments,
    st.integers(0, 60),
)
def test_all_orders_of_a_period_go_by_the_same_rules(
    versions: list[tuple[datetime, list[PeriodRule]]],
    placed: list[datetime],
    zone: str,
    enrolled: datetime | None,
    notice_days: int,
) -> None:
    in_force = dated(*sorted(versions, key=lambda each: each[0]), notice_days=notice_days)
    assume(keys_stay(in_force))
    rules: dict[PeriodKey, tuple[PeriodRule, ...]] = {}

    for at in placed:
        by_key = periods_of(
            in_force,
            placed_at=at,
            enrolled_since=lambda moment: enrolled if enrolled is not None and enrolled <= moment else None,
            time_zone=zone,
        )
        assert len({key.rule for key in by_key}) == len(by_key)
        for key, own in by_key.items():
            assert rules.setdefault(key, own) == own


# The written form, and what terms refuse

EVERY_RULE: list[PeriodRule] = [
    a_cap(5),
    Cap("most", TET, (("USD", 5), ("VND", 120_000))),
    a_ladder(*STEPS),
    a_ladder((0, "0.5"), scale=Scale.RETROACTIVE, stretch=Stretch(Span.QUARTER, date(2026, 1, 1))),
    marks(("orders", 10, 500), ("sales", 100, 70), stretch=Stretch(Span.YEAR, last_day=date(2030, 1, 1))),
]


def test_every_period_rule_survives_its_json() -> None:
    assert {type(each) for each in EVERY_RULE} == set(PeriodRule.__args__)
    for rule in EVERY_RULE:
        assert period_rule_of(json.loads(json.dumps(period_rule_json(rule)))) == rule


def written(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "key": "a", "period": "month"} | more


ONE_USD = [{"amount_minor": 1, "currency": "USD"}]
TWO_USD = [{"amount_minor": 2, "currency": "USD"}]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (written("cap", period="campaign", amounts=ONE_USD), "needs its first_day"),
        (written("cap", first_day="2026-02-01", last_day="2026-01-31", amounts=ONE_USD), "on or after its first_day"),
        (written("ladder", steps=[{"from": ONE_USD, "rate": "2"}, {"from": TWO_USD, "rate": "1"}]), "never fall"),
        (written("ladder", steps=[{"from": TWO_USD, "rate": "1"}, {"from": TWO_USD, "rate": "2"}]), "start higher"),
        (written("milestones", marks=[{"pays": ONE_USD}]), "either orders or sales"),
        (written("milestones", marks=[{"pays": ONE_USD, "orders": 1, "sales": ONE_USD}]), "either orders or sales"),
        (written("raffle"), "no kind of period rule"),
    ],
)
def test_a_period_rule_that_makes_no_sense_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTerms, match=message):
        period_rule_of(rule)


@pytest.mark.parametrize(
    ("known", "rules", "message"),
    [
        pytest.param([LOW], [HIGH, a_cap(5)], None, id="other rates, and one more"),
        pytest.param([LOW, a_cap(5)], [a_cap(6)], None, id="another amount, and one less"),
        pytest.param([LOW], [a_ladder((0, "1"), stretch=DAY)], "another kind, period", id="month to day"),
        pytest.param([a_cap(5, stretch=TET)], [a_cap(5, stretch=Stretch(Span.CAMPAIGN, TET.first_day))], "last_day", id="longer"),
        pytest.param([a_cap(5)], [marks(("orders", 1, 1), key="most")], "another kind", id="cap to marks"),
        pytest.param([a_cap(5)], [a_cap(5, key="new")], "one cap", id="a cap of another name"),
        pytest.param([], [a_cap(5), a_cap(5, key="daily", stretch=DAY)], "here are daily and most", id="two at once"),
    ],
)  # fmt: skip
def test_rules_have_to_get_on_with_those_before(
    known: list[PeriodRule], rules: list[PeriodRule], message: str | None
) -> None:
    if message is None:
        check_follows(known, rules)
    else:
        with pytest.raises(InvalidTerms, match=message):
            check_follows(known, rules)


# Properties

caps = st.integers(0, 400).map(a_cap)
starts = st.lists(st.integers(0, 2_000), min_size=1, max_size=3, unique=True).map(sorted)


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    found_starts = draw(starts)
    climbing = sorted(
        draw(st.lists(st.sampled_from(["0", "0.5", "1", "2.5", "10", "100"]), min_size=3, max_size=3)), key=Fraction
    )
    return a_ladder(*zip(found_starts, climbing, strict=False), scale=draw(st.sampled_from(Scale)))


bonuses = st.lists(
    st.tuples(st.sampled_from(["orders", "sales"]), st.integers(1, 20), st.integers(0, 900)), min_size=1, max_size=3
).map(lambda each: marks(*each))
rules_of_one_key = st.one_of(
    st.lists(caps, min_size=1, max_size=2), st.lists(ladders(), min_size=1, max_size=2), st.lists(bonuses, min_size=1, max_size=2)
)  # fmt: skip
sum_strategy = st.builds(Sum, st.integers(0, 500), st.integers(0, 2_500), st.integers(0, 12))
sums_strategy = st.builds(Sums, sum_strategy, sum_strategy, sum_strategy)


@examples(300)
@given(rules_of_one_key, sums_strategy)
def test_what_a_rule_gives_adds_up_to_what_it_gives_for_everything(rules: list[PeriodRule], sums: Sums) -> None:
    given_now = gives(rules, sums, "USD")

    everything = Sums(settled=sums.pending + sums.held + sums.settled)
    assert given_now.target_minor == gives(rules, everything, "USD").settled_minor
    # What is settled does not look at what may still come back.
    assert given_now.settled_minor == gives(rules, Sums(settled=sums.settled), "USD").settled_minor


@examples(300)
@given(st.lists(caps, min_size=1, max_size=2), sums_strategy)
def test_a_cap_takes_no_place_below_zero_and_lets_no_more_than_itself_through(rules: list[Cap], sums: Sums) -> None:
    given_now = gives(rules, sums, "USD")

    for place, taken in (
        (sums.pending, given_now.pending_minor),
        (sums.held, given_now.held_minor),
        (sums.settled, given_now.settled_minor),
    ):
        assert -place.commission_minor <= taken <= 0
    whole = sums.pending.commission_minor + sums.held.commission_minor + sums.settled.commission_minor
    assert whole + given_now.target_minor == min(whole, max(dict(rule.amounts_minor)["USD"] for rule in rules))


@examples(300)
@given(st.one_of(st.lists(ladders(), min_size=1, max_size=2), st.lists(bonuses, min_size=1, max_size=2)), sums_strategy)
def test_a_bonus_is_never_below_zero_at_any_place(rules: list[PeriodRule], sums: Sums) -> None:
    given_now = gives(rules, sums, "USD")

    assert min(given_now.pending_minor, given_now.held_minor, given_now.settled_minor) >= 0


@examples(300)
@given(rules_of_one_key, sum_strategy, sum_strategy)
def test_more_never_gives_less(rules: list[PeriodRule], total: Sum, more: Sum) -> None:
    less_given, more_given = (gives(rules, Sums(settled=each), "USD").settled_minor for each in (total, total + more))

    # With its orders' own commissions: a cap takes back part of what comes on top, never more.
    assert total.commission_minor + less_given <= (total + more).commission_minor + more_given


@examples(200)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 500)), max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_orders_come_and_go_is_nothing(orders: list[tuple[int, int, int, int]], dice: Any) -> None:
    counted = [
        contribution(pending_minor=pending, held_minor=held, settled_minor=settled, sales_minor=sales)
        for pending, held, settled, sales in orders
    ]
    total = sum(counted, Sums())
    dice.shuffle(counted)

    assert sum(counted, Sums()) == total
    for each in counted:
        total -= each
    assert total == Sums()


# From one standing to another

amounts = st.integers(-40, 40)
places = st.builds(Places, amounts, amounts, amounts)


def fewest(now: Places, want: Places) -> int:
    """How many moves it takes at least: one less than there are places, but for each group that is even by itself."""
    gains = [
        want.pending_minor - now.pending_minor,
        want.held_minor - now.held_minor,
        want.settled_minor - now.settled_minor,
    ]
    gains = [gain for gain in (*gains, -sum(gains)) if gain]
    even_pairs = len(gains) == 4 and any(one + other == 0 for one, other in combinations(gains, 2))
    return max(0, len(gains) - 1 - even_pairs)


@examples(500)
@given(places, places)
def test_a_periods_commission_gets_anywhere_from_anywhere_by_the_fewest_moves(now: Places, want: Places) -> None:
    moves = shift(now, want)

    assert now.shifted(moves) == want
    assert all(move.amount_minor > 0 and move.source is not move.destination for move in moves)
    assert {move.source for move in moves}.isdisjoint(move.destination for move in moves)
    assert len(moves) == fewest(now, want)


@pytest.mark.parametrize(
    ("now", "want", "moves"),
    [
        pytest.param(Places(), Places(5), [(Place.EXPENSE, Place.PENDING, 5)], id="a first bonus"),
        pytest.param(Places(5), Places(settled_minor=5), [(Place.PENDING, Place.PAYABLE, 5)], id="it settles"),
        pytest.param(Places(), Places(-5), [(Place.PENDING, Place.EXPENSE, 5)], id="a cap takes"),
        pytest.param(Places(-5), Places(settled_minor=-5), [(Place.PAYABLE, Place.PENDING, 5)], id="and settles"),
        pytest.param(
            Places(3, 2, 0), Places(0, 0, 2), [(Place.PENDING, Place.EXPENSE, 3), (Place.HELD, Place.PAYABLE, 2)],
            id="two that are even by themselves",
        ),
        pytest.param(Places(3, 2, 1), Places(3, 2, 1), [], id="nothing moved"),
    ],
)  # fmt: skip
def test_moves_of_a_period(now: Places, want: Places, moves: list[tuple[Place, Place, int]]) -> None:
    found_moves: list[Move] = shift(now, want)

    assert [(move.source, move.destination, move.amount_minor) for move in found_moves] == moves


def test_the_periods_of_a_year_follow_one_another_without_a_gap() -> None:
    for span in (Span.DAY, Span.MONTH, Span.QUARTER, Span.YEAR):
        stretch = Stretch(span)
        days = [utc("2024-01-01T12:00") + timedelta(days=number) for number in range(366 + 365)]
        begins = sorted({begin for at in days if (begin := stretch.begin_of(at, "UTC")) is not None})
        for begin, following in pairwise(begins):
            assert stretch.end_of(begin) == following - timedelta(days=1)
