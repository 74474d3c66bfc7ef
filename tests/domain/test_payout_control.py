"""Room under limits, what fits into it, and what a rail's word about its balance means."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.payout_control import FundingState, LimitKind, Room, WaitsFor, fitting, funding_of, largest_payout
from tests.domain.strategies import examples

DAY, MONTH = WaitsFor.DAY_LIMIT, WaitsFor.MONTH_LIMIT


@pytest.mark.parametrize(
    ("limits", "room"),
    [
        pytest.param([], Room(), id="no limit"),
        pytest.param([(None, 5, DAY)], Room(), id="none of this kind"),
        pytest.param([(100, 40, DAY)], Room(60, DAY), id="what a day leaves"),
        pytest.param([(100, 140, DAY)], Room(0, DAY), id="more was handed over than is allowed now"),
        pytest.param([(100, 40, DAY), (1_000, 980, MONTH)], Room(20, MONTH), id="the narrower of two binds"),
        pytest.param([(100, 40, DAY), (1_000, 40, MONTH)], Room(60, DAY), id="whichever comes first"),
    ],
)
def test_room_is_what_the_narrowest_limit_leaves(limits: list[tuple[int | None, int, WaitsFor]], room: Room) -> None:
    found = Room()
    for limit, used, binds in limits:
        found = found.narrowed(limit, used, binds)

    assert found == room


def test_one_that_is_too_large_lets_smaller_ones_pass() -> None:
    first, large, last = (UUID(int=number) for number in (1, 2, 3))

    assert fitting([(first, 40), (large, 70), (last, 60)], Room(100, DAY)) == {first, last}


@pytest.mark.parametrize(
    ("limits", "largest"),
    [
        pytest.param({}, None, id="no limit"),
        pytest.param({LimitKind.RUN: 5, LimitKind.APPROVAL: 6}, None, id="of runs only"),
        pytest.param({LimitKind.PAYOUT: 7, LimitKind.DAY: 9}, 7, id="its own"),
        pytest.param({LimitKind.PAYOUT: 7, LimitKind.DAY: 6, LimitKind.MONTH: 5}, 5, id="what a month never lets pass"),
    ],
)
def test_a_payout_is_no_larger_than_any_limit_that_it_would_wait_for_in_vain(
    limits: dict[LimitKind, int], largest: int | None
) -> None:
    assert largest_payout(limits) == largest


@examples(60)
@given(st.lists(st.integers(1, 1_000), max_size=12), st.none() | st.integers(0, 3_000))
def test_what_fits_never_passes_the_limit_and_nothing_that_fits_is_left(amounts: list[int], room: int | None) -> None:
    named = [(UUID(int=number), amount) for number, amount in enumerate(amounts)]

    fit = fitting(named, Room(room, None if room is None else DAY))

    total = sum(amount for each, amount in named if each in fit)
    assert room is None or total <= room
    assert all(each in fit or (room is not None and total + amount > room) for each, amount in named)


@pytest.mark.parametrize(
    ("available", "is_known", "state"),
    [
        (None, True, FundingState.NOT_KEPT),
        (100, True, FundingState.ENOUGH),
        (99, True, FundingState.SHORT),
        (None, False, FundingState.UNKNOWN),
    ],
)
def test_a_rail_has_enough_from_the_needed_amount_on(
    available: int | None, is_known: bool, state: FundingState
) -> None:
    assert funding_of(needed_minor=100, available_minor=available, is_known=is_known) is state
