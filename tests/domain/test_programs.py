"""Rates, terms as JSON, and which versions of a programme speak for an order."""

import json
import re
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.dated import DatedInputs, Owner, Since, Traceable
from service.domain.errors import BackDated, InvalidTerms, UnknownCurrency
from service.domain.money import AMOUNT_MAX_MINOR
from service.domain.order import Milestone
from service.domain.program import (
    AttributionTerms,
    Model,
    Precedence,
    ProgramVersion,
    SelfPurchase,
    Terms,
    check_start,
    in_force,
    versions_for,
)
from service.domain.settlement import Approval, RollingSettlement
from service.domain.written import percent_of, rate_of
from tests.domain import strategies
from tests.domain.builders import ANN, BEN, PROGRAM, a_shop, a_version, day, flat, percent, utc
from tests.domain.strategies import examples


@pytest.mark.parametrize(
    ("written", "rate", "shortest"),
    [
        ("12.5", Fraction(1, 8), "12.5"),
        ("0", Fraction(0), "0"),
        ("100", Fraction(1), "100"),
        ("100.000000", Fraction(1), "100"),
        ("09.10", Fraction(91, 1000), "9.1"),
        ("0.000001", Fraction(1, 10**8), "0.000001"),
        ("33.333333", Fraction(33_333_333, 10**8), "33.333333"),
        ("10", Fraction(1, 10), "10"),
    ],
)
def test_a_rate_is_percent_in_decimal_notation(written: str, rate: Fraction, shortest: str) -> None:
    assert rate_of(written) == rate
    assert percent_of(rate) == shortest


@pytest.mark.parametrize(
    "written",
    ["", "-1", "100.1", "100.000001", "101", "999", "12,5", "12.5%", "1e1", "NaN", "Infinity", ".5", "5.", "1/8", " 5", "5\n", "١٢", "0.0000001", "+5"],
)  # fmt: skip
def test_anything_else_is_no_rate(written: str) -> None:
    with pytest.raises(InvalidTerms, match=re.escape(f"{written!r} is not a rate")):
        rate_of(written)


@examples(200)
@given(st.integers(0, 100_000_000))
def test_writing_a_rate_and_reading_it_back_changes_nothing(millionths: int) -> None:
    rate = Fraction(millionths, 100_000_000)

    assert rate_of(percent_of(rate)) == rate


def test_terms_survive_their_json() -> None:
    terms = Terms(
        rules=(percent("12.5", skus=["B", "A"]), flat({"USD": 150, "VND": 20_000}, categories=["tea"]), percent("3")),
        caps_minor=(("KWD", 5_000), ("USD", 9_900)),
        attribution=AttributionTerms(
            7, model=Model.FIRST, precedence=Precedence.LATEST, self_purchase=SelfPurchase.ALLOW
        ),
        settlement=RollingSettlement(Milestone.DELIVERED, 15, Approval.MANUAL),
        payout_minimums_minor=(("VND", 200_000),),
        notice_days=45,
    )

    stored = json.loads(json.dumps(terms.as_json()))

    assert Terms.of_json(stored) == terms
    assert stored["rules"][0]["rate"] == "12.5"
    assert stored["rules"][0]["match"]["skus"] == ["A", "B"]


def test_terms_stored_by_an_earlier_release_are_still_read() -> None:
    terms = Terms(
        rules=(percent("12.5", skus=["MUG"]), flat({"USD": 150}, categories=["tea"])),
        caps_minor=(("USD", 9_900),),
        payout_minimums_minor=(("VND", 200_000),),
    )
    stored = {
        "rules": [
            {"kind": "percent", "rate": "12.5", "match": {"skus": ["MUG"], "categories": []}},
            {
                "kind": "flat",
                "amounts": [{"amount_minor": 150, "currency": "USD"}],
                "match": {"skus": [], "categories": ["tea"]},
            },
        ],
        "base": "net",
        "cap_per_order": [{"amount_minor": 9_900, "currency": "USD"}],
        "attribution": {
            "window_days": 30,
            "model": "last",
            "precedence": "coupon",
            "self_purchase": "reject",
        },
        "settlement": {"kind": "rolling", "start": "paid", "hold_days": 14, "approval": "automatic"},
        "payout_minimums": [{"amount_minor": 200_000, "currency": "VND"}],
        "notice_days": 30,
    }

    assert Terms.of_json(stored) == terms
    assert terms.as_json() == stored


def test_the_largest_amount_is_a_possible_cap() -> None:
    terms = Terms(rules=(percent("1"),), caps_minor=(("VND", AMOUNT_MAX_MINOR),))

    assert Terms.of_json(terms.as_json()) == terms


@examples(100)
@given(st.lists(strategies.rules, min_size=1, max_size=4))
def test_any_rules_survive_their_json(rules: list[object]) -> None:
    terms = Terms(rules=tuple(rules))  # type: ignore[arg-type] # drawn rules

    assert Terms.of_json(json.loads(json.dumps(terms.as_json()))) == terms


@pytest.mark.parametrize(
    ("change", "refusal", "says"),
    [
        pytest.param({"rules": []}, InvalidTerms, "at least one rule", id="no rule"),
        pytest.param(
            {"rules": [{"kind": "ladder", "match": {"skus": [], "categories": []}}]},
            InvalidTerms,
            "'ladder' is not a rule kind",
            id="unknown kind",
        ),
        pytest.param(
            {"rules": [{"kind": "percent", "rate": "101", "match": {"skus": [], "categories": []}}]},
            InvalidTerms,
            "'101' is not a rate",
            id="rate",
        ),
        pytest.param(
            {"rules": [{"kind": "flat", "amounts": [], "match": {"skus": [], "categories": []}}]},
            InvalidTerms,
            "at least one currency",
            id="no amount",
        ),
        pytest.param(
            {"cap_per_order": [{"amount_minor": 5, "currency": "DOGE"}]}, UnknownCurrency, "'DOGE'", id="currency"
        ),
        pytest.param({"cap_per_order": [{"amount_minor": -5, "currency": "USD"}]}, InvalidTerms, "-5", id="below zero"),
        pytest.param(
            {"payout_minimums": [{"amount_minor": 10**16, "currency": "USD"}]}, InvalidTerms, str(10**16), id="too much"
        ),
        pytest.param(
            {"cap_per_order": [{"amount_minor": 5, "currency": "USD"}, {"amount_minor": 6, "currency": "USD"}]},
            InvalidTerms,
            "USD is named twice",
            id="a currency twice",
        ),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_what_is_wrong_with_them(
    change: dict[str, object], refusal: type[Exception], says: str
) -> None:
    with pytest.raises(refusal, match=says):
        Terms.of_json(a_version().terms.as_json() | change)


# Rate 15 % → 12 % on 1 March, → 18 % on 1 June, as in every KOC's nightmare.
FIRST = a_version(percent("15"), number=1, since=utc("2026-01-01"))
CUT = a_version(percent("12"), number=2, since=utc("2026-03-01"))
RISE = a_version(percent("18"), number=3, since=utc("2026-06-01"))
OLD_HAND, NEWCOMER = utc("2026-01-10"), utc("2026-03-05")


def numbers(versions: list[ProgramVersion], *, placed: str, enrolled: datetime = OLD_HAND) -> list[int]:
    return [version.number for version in versions_for(versions, placed_at=utc(placed), enrolled_at=enrolled)]


@pytest.mark.parametrize(
    ("placed", "enrolled", "expected"),
    [
        pytest.param("2025-12-31T23:59:59", OLD_HAND, [], id="before the first version"),
        pytest.param("2026-01-01", OLD_HAND, [1], id="the first second of the first"),
        pytest.param("2026-02-28T23:59:59", OLD_HAND, [1], id="before the cut"),
        pytest.param("2026-03-01", OLD_HAND, [2, 1], id="the cut waits"),
        pytest.param("2026-03-30T23:59:59.999999", OLD_HAND, [2, 1], id="30 March: still 15 percent"),
        pytest.param("2026-03-31", OLD_HAND, [2], id="31 March: 12 percent"),
        pytest.param("2026-03-10", NEWCOMER, [2], id="a newcomer gets 12 percent at once"),
        pytest.param("2026-03-10", utc("2026-02-28T23:59:59"), [2, 1], id="enrolled in the last second of 15 percent"),
        pytest.param("2026-03-10", utc("2026-03-01"), [2], id="enrolled in the first second of 12 percent"),
        pytest.param("2026-06-01", OLD_HAND, [3, 2], id="a rise counts at once"),
        pytest.param("2026-07-01", OLD_HAND, [3], id="after everything"),
    ],
)
def test_a_cut_waits_a_rise_does_not(placed: str, enrolled: datetime, expected: list[int]) -> None:
    assert numbers([FIRST, CUT, RISE], placed=placed, enrolled=enrolled) == expected


@pytest.mark.parametrize(
    ("placed", "enrolled", "expected"),
    [
        pytest.param("2026-03-20", OLD_HAND, [3, 2, 1], id="both cuts wait, the newest first"),
        pytest.param("2026-03-31", OLD_HAND, [3, 2], id="the first cut has arrived"),
        pytest.param("2026-04-13T23:59:59", OLD_HAND, [3, 2], id="the last day of the second notice"),
        pytest.param("2026-04-14", OLD_HAND, [3], id="the second cut has arrived"),
        pytest.param("2026-03-20", NEWCOMER, [3, 2], id="enrolled between the cuts"),
        pytest.param("2026-03-20", utc("2026-03-16"), [3], id="enrolled after both"),
    ],
)
def test_two_cuts_in_a_row_each_give_their_own_notice(placed: str, enrolled: datetime, expected: list[int]) -> None:
    second_cut = a_version(percent("10"), number=3, since=utc("2026-03-15"))

    assert numbers([FIRST, CUT, second_cut], placed=placed, enrolled=enrolled) == expected


def test_the_notice_is_that_of_the_version_that_was_promised() -> None:
    generous = a_version(percent("15"), number=1, since=utc("2026-01-01"), notice_days=60)
    stingy = a_version(percent("12"), number=2, since=utc("2026-03-01"), notice_days=0)
    last = a_version(percent("10"), number=3, since=utc("2026-03-15"))

    assert numbers([generous, stingy, last], placed="2026-04-20") == [3, 1]


@examples(200)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=5, unique=True), st.integers(-10, 120), st.integers(-10, 120))
def test_the_version_in_force_comes_first_and_every_other_was_promised(
    starts: list[int], placed: int, enrolled: int
) -> None:
    versions = [a_version(number=n, since=day(start)) for n, start in enumerate(sorted(starts), start=1)]

    claimed = versions_for(versions, placed_at=day(placed), enrolled_at=day(enrolled))

    assert claimed[:1] == ([in_force(versions, day(placed))] if in_force(versions, day(placed)) else [])
    for version in claimed[1:]:
        successor = versions[version.number]
        assert day(enrolled) < successor.valid_from <= day(placed) < successor.valid_from + timedelta(days=30)


@pytest.mark.parametrize(
    ("ahead", "may_reach_back", "accepted"),
    [
        pytest.param(timedelta(minutes=5), False, True, id="five minutes ahead"),
        pytest.param(timedelta(minutes=4, seconds=59), False, False, id="a second less"),
        pytest.param(timedelta(0), False, False, id="now"),
        pytest.param(timedelta(days=-1), False, False, id="yesterday"),
        pytest.param(timedelta(days=-1), True, True, id="yesterday, before the first order"),
        pytest.param(timedelta(days=90), False, True, id="next quarter"),
    ],
)
def test_a_dated_input_never_reaches_back(ahead: timedelta, may_reach_back: bool, accepted: bool) -> None:
    if accepted:
        check_start(day(0) + ahead, recorded_at=day(0), may_reach_back=may_reach_back)
    else:
        earliest = (day(0) + timedelta(minutes=5)).isoformat()
        with pytest.raises(BackDated, match=f"5 minutes.* {re.escape(earliest)}.*before the merchant's first order"):
            check_start(day(0) + ahead, recorded_at=day(0), may_reach_back=may_reach_back)


@pytest.mark.parametrize(
    ("states", "at", "since"),
    [
        pytest.param([(0, True)], -1, None, id="not yet"),
        pytest.param([(0, True)], 0, 0, id="from the very moment"),
        pytest.param([(0, True), (5, False)], 4, 0, id="before leaving"),
        pytest.param([(0, True), (5, False)], 5, None, id="left"),
        pytest.param([(0, True), (5, False), (8, True)], 9, 8, id="came back: counts anew"),
        pytest.param([(0, True), (3, True)], 9, 0, id="enrolled twice: since the first"),
        pytest.param([(0, False), (3, True)], 9, 3, id="refused, then enrolled"),
    ],
)
def test_enrolled_since_without_a_break(states: list[tuple[int, bool]], at: int, since: int | None) -> None:
    inputs = DatedInputs(enrollments={(PROGRAM, ANN): tuple(Since(day(from_), holds) for from_, holds in states)})

    assert inputs.enrolled_since(PROGRAM, ANN, day(at)) == (None if since is None else day(since))
    assert inputs.enrolled_since(PROGRAM, BEN, day(at)) is None


def test_approval_and_ownership_are_those_of_their_day() -> None:
    shop = a_shop()
    shop.approvals[ANN] = (Since(day(0), True), Since(day(5), False))
    coupon = Traceable(PROGRAM, PROGRAM, (Owner(day(0), ANN), Owner(day(5), BEN)))

    assert [shop.is_approved(ANN, day(at)) for at in (-1, 0, 4, 5, 9)] == [False, True, True, False, False]
    assert [coupon.owner_at(day(at)) for at in (-1, 0, 4, 5, 9)] == [None, ANN, ANN, BEN, BEN]
