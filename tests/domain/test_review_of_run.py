"""What is shown before a payout run is approved: the rules for what stands out."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.payout import Excluded
from service.domain.review_of_run import (
    BUCKETS_MAX,
    FIRST_TIMES,
    TIMES,
    Figures,
    RunCaution,
    Unusual,
    bounds,
    cautions,
    change,
    needs_somebody,
    percent,
    why_unusual,
)

CALM = Figures(
    payees=10,
    net_minor=1000,
    largest_minor=200,
    unusual=0,
    changed_destinations=0,
    shared_destinations=0,
    first_payouts=0,
    split_payouts=0,
    not_withheld=0,
    left_out=0,
    earlier_net_minor=1000,
)


@pytest.mark.parametrize(
    ("net_minor", "earlier", "run", "expected"),
    [
        (TIMES * 100, 100, 1, Unusual.ABOVE_EARLIER),
        (TIMES * 100 - 1, 100, 1, None),
        (TIMES, 0, 1, Unusual.ABOVE_EARLIER),
        (TIMES - 1, 0, 1, None),
        (FIRST_TIMES * 100, None, 100, Unusual.LARGE_FIRST),
        (FIRST_TIMES * 100 - 1, None, 100, None),
        (0, None, 0, None),
    ],
)
def test_what_stands_out(net_minor: int, earlier: int | None, run: int, expected: Unusual | None) -> None:
    assert why_unusual(net_minor, earlier_median_minor=earlier, run_median_minor=run) is expected


def test_a_calm_run_asks_for_no_caution() -> None:
    assert cautions(CALM) == []


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"unusual": 1}, RunCaution.UNUSUAL_AMOUNTS),
        ({"changed_destinations": 1}, RunCaution.DESTINATION_CHANGED),
        ({"shared_destinations": 1}, RunCaution.DESTINATION_SHARED),
        ({"first_payouts": 1}, RunCaution.FIRST_PAYOUTS),
        ({"largest_minor": 250}, RunCaution.CONCENTRATED),
        ({"earlier_net_minor": 500}, RunCaution.SUM_JUMPED),
        ({"earlier_net_minor": 2000}, RunCaution.SUM_JUMPED),
        ({"earlier_net_minor": None}, RunCaution.NO_EARLIER_RUN),
        ({"split_payouts": 1}, RunCaution.SPLIT_PAYOUTS),
        ({"not_withheld": 1}, RunCaution.NOT_WITHHELD),
        ({"left_out": 1}, RunCaution.LEFT_OUT),
    ],
)
def test_each_caution_has_its_cause(figures: dict[str, Any], expected: RunCaution) -> None:
    assert cautions(replace(CALM, **figures)) == [expected]


@pytest.mark.parametrize(
    "figures",
    [
        {"largest_minor": 249},
        {"earlier_net_minor": 501},
        {"earlier_net_minor": 1999},
        {"payees": 4, "largest_minor": 1000},
    ],
)
def test_below_the_bounds_nothing_is_said(figures: dict[str, int]) -> None:
    assert cautions(replace(CALM, **figures)) == []


@pytest.mark.parametrize("reason", list(Excluded))
def test_of_every_reason_to_be_left_out_it_is_said_whether_somebody_is_needed(reason: Excluded) -> None:
    by_themselves = {
        Excluded.IN_DEBT,
        Excluded.BELOW_MINIMUM,
        Excluded.BELOW_RAIL_STEP,
        Excluded.METHOD_COOLING,
        Excluded.LIVE_ITEM,
        Excluded.OTHER_RAIL,
        Excluded.AFFILIATE_SUSPENDED,
        Excluded.METHOD_CHANGED,
        Excluded.TAX_RULE_CHANGED,
        Excluded.TAX_CHANGED,
        Excluded.CONTENT_CHANGED,
    }

    assert needs_somebody(reason) is (reason not in by_themselves)


@pytest.mark.parametrize(
    ("smallest", "largest", "expected"),
    [
        (0, 0, [0]),
        (7, 7, [5]),
        (150, 900, [100, 200, 500]),
        (0, 30, [0, 1, 2, 5, 10, 20]),
        (100, 1000, [100, 200, 500, 1000]),
        (1, 99_999_999, [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000]),
    ],
)
def test_amounts_are_parted_at_round_numbers(smallest: int, largest: int, expected: list[int]) -> None:
    assert bounds(smallest, largest) == expected


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_every_amount_is_in_one_group(one: int, other: int) -> None:
    smallest, largest = sorted((one, other))

    found = bounds(smallest, largest)

    assert found == sorted(set(found))
    assert found[0] <= smallest
    assert found[-1] <= largest
    assert len(found) <= max(BUCKETS_MAX, 17)
    assert len(found) < 2 or found[1] > smallest


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (1, 8, "12.5"),
        (1, 3, "33.3"),
        (2, 3, "66.7"),
        (-1, 3, "-33.3"),
        (0, 5, "0.0"),
        (1, 2000, "0.1"),
        (1, 0, None),
        (3, 1, "300.0"),
    ],
)
def test_parts_are_told_in_percent(part: int, whole: int, expected: str | None) -> None:
    assert percent(part, whole) == expected


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [(9, 8, "+12.5"), (7, 8, "-12.5"), (8, 8, "0.0"), (100_001, 100_000, "0.0"), (8, 0, None), (0, 8, "-100.0")],
)
def test_a_change_has_its_sign(now: int, before: int, expected: str | None) -> None:
    assert change(now, before) == expected
