"""What rules may ask, kind by kind: what is true, what is not, and that what nobody knows is not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

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
    Customer,
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
    holds,
    months_later,
)
from service.domain.errors import InvalidTerms
from service.domain.marks import ContentType, Grade, Label
from service.domain.order import NetLine, TouchKind
from service.domain.settlement import Weekday
from tests.domain.builders import ANN, BEN, PLACED, a_line, day, utc
from tests.domain.strategies import examples

SECOND = timedelta(seconds=1)
LINES = (NetLine(a_line(8_000, sku="MUG", category="tea"), 4_000), NetLine(a_line(2_000, id="2"), 0))
LIVE = Label(day(-9), ContentType.LIVE, "zalo", (("sub1", "spring"), ("sub3", "x")))
GOLD = Grade(day(-9), "gold", frozenset({"mums", "runners"}))
REGULAR = Customer("VN", frozenset({"staff", "press"}), first_order_at=day(-40), is_known=True)
FIRST_TIME = Customer(is_known=True)


def situation(**more: Any) -> Situation:
    """60.00 USD left of 100.00, placed on Tuesday 10 March 2026 at 12:00 UTC; nothing else is known."""
    told: dict[str, Any] = {"placed_at": PLACED, "currency": "USD"} | more
    return Situation.of(LINES, **told)


KNOWN = situation(
    touch=TouchKind.COUPON, coupon="ann10", affiliate_id=ANN, label=LIVE, grade=GOLD, customer=REGULAR
)  # fmt: skip
UNKNOWN = situation()
USD_4000, USD_6000, USD_8000 = (("USD", 4_000),), (("USD", 6_000),), (("USD", 8_000),)


def one(*names: str) -> frozenset[str]:
    return frozenset(names)


def asked(condition: Condition, order: Situation) -> bool:
    """Whether it is true of the first line: a mug of 80.00, of which 40.00 came back."""
    return holds(condition, LINES[0], order)


TRUE_OF_WHAT_IS_KNOWN: list[tuple[Condition, bool]] = [
    (SkuIn(one("MUG")), True),
    (SkuIn(one("mug")), False),
    (CategoryIn(one("tea", "food")), True),
    (CategoryIn(one("food")), False),
    (LineAmount(Between(USD_4000)), True),
    (LineAmount(Between((("USD", 4_001),))), False),
    (LineAmount(Between((), USD_4000)), False),
    (LineAmount(Between(USD_8000, (), Measure.ORDERED)), True),
    (LineAmount(Between((), USD_8000, Measure.ORDERED)), False),
    (LineAmount(Between((("VND", 1),))), False),
    (LineAmount(Between((("VND", 1),), (("USD", 4_001),))), True),
    (OrderAmount(Between(USD_6000, (("USD", 6_001),))), True),
    (OrderAmount(Between((("USD", 6_001),))), False),
    (OrderAmount(Between((("USD", 10_000),), (), Measure.ORDERED)), True),
    (OrderAmount(Between((), (("VND", 10**9),))), False),
    (Placed(since=PLACED), True),
    (Placed(since=PLACED + SECOND), False),
    (Placed(until=PLACED), False),
    (Placed(PLACED - SECOND, PLACED + SECOND), True),
    (TouchIn(frozenset({TouchKind.COUPON, TouchKind.CLICK})), True),
    (TouchIn(frozenset({TouchKind.CUSTOMER})), False),
    (CouponIn(one("ann10")), True),
    (CouponIn(one("ben10")), False),
    (AffiliateIn(frozenset({ANN, BEN})), True),
    (AffiliateIn(frozenset({BEN})), False),
    (TierIn(one("gold", "silver")), True),
    (TierIn(one("Gold")), False),
    (GroupIn(one("runners", "cats")), True),
    (GroupIn(one("cats")), False),
    (ContentIn(frozenset({ContentType.LIVE})), True),
    (ContentIn(frozenset({ContentType.POST, ContentType.VIDEO})), False),
    (ChannelIn(one("zalo")), True),
    (ChannelIn(one("web")), False),
    (SubIdIn("sub1", one("spring", "autumn")), True),
    (SubIdIn("sub3", one("spring")), False),
    (SubIdIn("sub2", one("spring")), False),
    (WeekdayIn(frozenset({Weekday.TUE})), True),
    (WeekdayIn(frozenset({Weekday.MON, Weekday.WED})), False),
    (HourBetween(12, 13), True),
    (HourBetween(0, 12), False),
    (HourBetween(22, 12), False),
    (HourBetween(22, 13), True),
    (CountryIn(one("VN", "CN")), True),
    (CountryIn(one("US")), False),
    (CustomerIs(CustomerKind.RETURNING), True),
    (CustomerIs(CustomerKind.NEW), False),
    (CustomerMonths(2), True),
    (CustomerMonths(1), False),
    (CustomerListed(one("staff")), True),
    (CustomerListed(one("vip")), False),
]


def written(part: object) -> str:
    """A name that is the same in every process, as the order of a set is not."""
    return json.dumps(condition_json(part)) if isinstance(part, Condition) else repr(part)


@pytest.mark.parametrize(("condition", "is_true"), TRUE_OF_WHAT_IS_KNOWN, ids=written)
def test_what_a_condition_asks(condition: Condition, is_true: bool) -> None:
    assert asked(condition, KNOWN) is is_true


ALWAYS_KNOWN = (SkuIn, CategoryIn, LineAmount, OrderAmount, Placed, WeekdayIn, HourBetween)
"""What every line and every order says of itself."""


@pytest.mark.parametrize(
    "condition",
    [each for each, is_true in TRUE_OF_WHAT_IS_KNOWN if is_true and not isinstance(each, ALWAYS_KNOWN)]
    + [CustomerIs(CustomerKind.NEW), CustomerMonths(1200)],
    ids=written,
)
def test_what_nobody_knows_is_not_true(condition: Condition) -> None:
    assert not asked(condition, UNKNOWN)


def test_every_kind_has_a_case_that_is_true_and_one_that_is_not() -> None:
    for expected in (True, False):
        assert {type(each) for each, is_true in TRUE_OF_WHAT_IS_KNOWN if is_true is expected} == set(Condition.__args__)


@pytest.mark.parametrize(
    "label", [None, Label(day(-9)), Label(day(-9), ContentType.OTHER, "", (("sub1", ""),))], ids=written
)
def test_a_link_that_is_not_marked_is_of_no_content_and_no_channel(label: Label | None) -> None:
    order = situation(label=label)

    assert not asked(ContentIn(frozenset(ContentType) - {ContentType.OTHER}), order)
    assert not asked(ChannelIn(one("web", "zalo")), order)
    assert not asked(SubIdIn("sub1", one("spring")), order)


@pytest.mark.parametrize(
    ("customer", "new", "returning"),
    [
        pytest.param(FIRST_TIME, True, False, id="the first order"),
        pytest.param(REGULAR, False, True, id="a later one"),
        pytest.param(Customer(first_order_at=PLACED, is_known=True), False, True, id="the second of one moment"),
        pytest.param(Customer(), False, False, id="nobody knows who"),
    ],
)
def test_a_customer_is_new_or_returning_or_unknown(customer: Customer, new: bool, returning: bool) -> None:
    order = situation(customer=customer)

    assert asked(CustomerIs(CustomerKind.NEW), order) is new
    assert asked(CustomerIs(CustomerKind.RETURNING), order) is returning


@pytest.mark.parametrize(
    ("first", "placed", "below", "is_true"),
    [
        pytest.param(None, "2026-03-10T12:00", 1, True, id="the first order itself"),
        pytest.param("2026-01-15T09:00", "2026-04-14T23:59", 3, True, id="the last day of three months"),
        pytest.param("2026-01-15T09:00", "2026-04-15T00:00", 3, False, id="days count, hours do not"),
        pytest.param("2026-01-31T09:00", "2026-02-27T23:59", 1, True, id="31 January: to 27 February"),
        pytest.param("2026-01-31T09:00", "2026-02-28T00:00", 1, False, id="31 January: not on 28 February"),
        pytest.param("2024-02-29T09:00", "2025-02-27T12:00", 12, True, id="from a leap day: to 27 February"),
        pytest.param("2024-02-29T09:00", "2025-02-28T12:00", 12, False, id="from a leap day: not on 28 February"),
        pytest.param("2025-11-30T09:00", "2026-02-27T12:00", 3, True, id="over the new year"),
    ],
)
def test_recurring_for_some_months(first: str | None, placed: str, below: int, is_true: bool) -> None:
    customer = Customer(first_order_at=utc(first) if first else None, is_known=True)

    assert asked(CustomerMonths(below), situation(placed_at=utc(placed), customer=customer)) is is_true


@pytest.mark.parametrize(
    ("zone", "placed", "weekday", "hour"),
    [
        pytest.param("UTC", "2026-03-10T17:30", Weekday.TUE, 17, id="UTC"),
        pytest.param("Asia/Ho_Chi_Minh", "2026-03-10T17:30", Weekday.WED, 0, id="already Wednesday in Vietnam"),
        pytest.param("America/New_York", "2026-03-11T03:30", Weekday.TUE, 23, id="still Tuesday in New York"),
        pytest.param("Asia/Kolkata", "2026-03-10T18:29", Weekday.TUE, 23, id="half an hour of zone"),
        # Clocks go from 2:00 to 3:00 on 8 March and from 2:00 back to 1:00 on 1 November.
        pytest.param("America/New_York", "2026-03-08T06:59", Weekday.SUN, 1, id="before the hour that is left out"),
        pytest.param("America/New_York", "2026-03-08T07:00", Weekday.SUN, 3, id="after the hour that is left out"),
        pytest.param("America/New_York", "2026-11-01T05:30", Weekday.SUN, 1, id="the hour that comes twice, at first"),
        pytest.param("America/New_York", "2026-11-01T06:30", Weekday.SUN, 1, id="the hour that comes twice, again"),
    ],
)
def test_days_and_hours_are_by_the_merchants_clock(zone: str, placed: str, weekday: Weekday, hour: int) -> None:
    order = situation(placed_at=utc(placed), time_zone=zone)

    assert [each for each in Weekday if asked(WeekdayIn(frozenset({each})), order)] == [weekday]
    assert [each for each in range(24) if asked(HourBetween(each, (each + 1) % 24), order)] == [hour]


def test_months_since_the_first_order_are_by_the_merchants_calendar() -> None:
    # The evening of 31 January in UTC is 1 February in Vietnam: a month later is 1 March, not 28 February.
    first, placed = utc("2026-01-31T18:00"), utc("2026-02-28T12:00")
    customer = Customer(first_order_at=first, is_known=True)

    def recurs(zone: str) -> bool:
        return asked(CustomerMonths(1), situation(placed_at=placed, customer=customer, time_zone=zone))

    assert not recurs("UTC")
    assert recurs("Asia/Ho_Chi_Minh")


# Properties, one for each family

moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - zone follows
zones = st.sampled_from(["UTC", "Asia/Ho_Chi_Minh", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
names = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3)
SETS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "a": (TierIn, {"grade": Grade(day(-1), "a")}),
    "b": (GroupIn, {"grade": Grade(day(-1), "", frozenset({"b", "c"}))}),
    "c": (ChannelIn, {"label": Label(day(-1), None, "a")}),
    "d": (CountryIn, {"customer": Customer("b")}),
    "e": (CustomerListed, {"customer": Customer(lists=frozenset({"a", "c"}))}),
    "f": (CouponIn, {"coupon": "c", "touch": TouchKind.COUPON}),
}


@examples(100)
@given(st.sampled_from(sorted(SETS)), names, names)
def test_one_of_two_lists_is_one_of_both(family: str, some: frozenset[str], others: frozenset[str]) -> None:
    kind, told = SETS[family]
    order = situation(**told)

    assert asked(kind(some | others), order) == (asked(kind(some), order) or asked(kind(others), order))
    assert not asked(kind(frozenset()), order)


@examples(100)
@given(st.integers(0, 10_000), st.sampled_from(Measure), st.sampled_from([LineAmount, OrderAmount]))
def test_an_amount_lies_on_one_side_of_every_bound(bound: int, measure: Measure, kind: type[Any]) -> None:
    at_least, below = Between((("USD", bound),), (), measure), Between((), (("USD", bound),), measure)

    assert asked(kind(at_least), KNOWN) is not asked(kind(below), KNOWN)


@examples(100)
@given(moments, moments)
def test_an_order_lies_on_one_side_of_every_moment(placed: datetime, moment: datetime) -> None:
    order = situation(placed_at=placed)

    assert asked(Placed(since=moment), order) is not asked(Placed(until=moment), order)


@examples(150)
@given(moments, zones, st.integers(0, 23), st.integers(0, 23))
def test_a_span_of_hours_and_the_rest_of_the_day_hold_every_order_once(
    placed: datetime, zone: str, since: int, until: int
) -> None:
    order = situation(placed_at=placed, time_zone=zone)

    if since != until:
        assert asked(HourBetween(since, until), order) is not asked(HourBetween(until, since), order)
    assert [asked(HourBetween(hour, (hour + 1) % 24), order) for hour in range(24)].count(True) == 1
    assert [asked(WeekdayIn(frozenset({each})), order) for each in Weekday].count(True) == 1


def test_hours_cover_a_day_once_whatever_the_bounds() -> None:
    for since in range(24):
        for until in range(24):
            if since != until:
                covered = [
                    asked(HourBetween(since, until), situation(placed_at=PLACED.replace(hour=hour)))
                    for hour in range(24)
                ]
                assert covered.count(True) == (until - since) % 24
                assert covered[since]
                assert not covered[until]


@examples(100)
@given(st.none() | moments, st.booleans(), moments, zones)
def test_new_and_returning_exclude_each_other_and_leave_out_nobody_known(
    first: datetime | None, is_known: bool, placed: datetime, zone: str
) -> None:
    order = situation(placed_at=placed, time_zone=zone, customer=Customer(first_order_at=first, is_known=is_known))

    assert [asked(CustomerIs(kind), order) for kind in CustomerKind].count(True) == is_known


@examples(150)
@given(moments, moments, zones, st.integers(1, 60))
def test_who_recurs_for_some_months_recurs_for_more_and_stops_for_good(
    first: datetime, placed: datetime, zone: str, below: int
) -> None:
    first, placed = min(first, placed), max(first, placed)
    customer = Customer(first_order_at=first, is_known=True)

    def recurs(months: int, at: datetime) -> bool:
        return asked(CustomerMonths(months), situation(placed_at=at, customer=customer, time_zone=zone))

    assert recurs(below, placed) <= recurs(below + 1, placed)
    assert recurs(below, placed + timedelta(days=1)) <= recurs(below, placed)
    assert recurs(below, first)


@examples(150)
@given(moments, moments, st.integers(0, 600), st.integers(0, 600))
def test_months_later_never_goes_back(one: datetime, other: datetime, months: int, more: int) -> None:
    one, other = min(one, other), max(one, other)

    assert months_later(one, months).date() <= months_later(other, months).date()
    assert months_later(one, months) <= months_later(one, months + more)
    later = months_later(one, months)
    assert (later.year * 12 + later.month) - (one.year * 12 + one.month) == months
    assert later.day == one.day or (later.day < one.day and (later + timedelta(days=1)).day == 1)
    assert months_later(one, 0) == one


@examples(100)
@given(
    st.builds(
        situation,
        placed_at=moments,
        touch=st.none() | st.sampled_from(TouchKind),
        coupon=st.sampled_from(["", "ann10"]),
        affiliate_id=st.sampled_from([None, ANN]),
        label=st.none() | st.just(LIVE),
        grade=st.none() | st.just(GOLD),
        customer=st.sampled_from([REGULAR, FIRST_TIME, Customer(), Customer("CN")]),
        time_zone=zones,
    ),
    st.sampled_from([each for each, _ in TRUE_OF_WHAT_IS_KNOWN]),
)
def test_a_receipt_holds_all_that_conditions_ask(order: Situation, condition: Condition) -> None:
    read = Situation.of_json(order.as_json(), LINES, "USD")

    assert asked(condition, read) is asked(condition, order)
    assert read.as_json() == order.as_json()


def test_an_affiliate_of_another_id_is_another() -> None:
    assert not asked(AffiliateIn(frozenset({UUID(int=99)})), KNOWN)
    assert situation(time_zone="Asia/Ho_Chi_Minh").local == PLACED.astimezone(ZoneInfo("Asia/Ho_Chi_Minh"))


def test_a_span_of_no_hours_is_refused() -> None:
    with pytest.raises(InvalidTerms, match="different hours"):
        condition_of({"kind": "hour", "from": 5, "until": 5})
