"""Crash points: silent unless asked, and then exactly at the time asked for."""

import pytest

from service.infra import crash
from service.infra.crash import Crashed, CrashPoint, CrashPointUnknown, crash_point, crashing_at


def test_a_crash_point_does_nothing_in_a_process_that_was_told_nothing() -> None:
    crash.arm({})

    for point in CrashPoint:
        crash_point(point)


def test_a_test_can_die_at_the_third_coming_by_and_at_no_other_point() -> None:
    with crashing_at(CrashPoint.LEASED, times=3):
        crash_point(CrashPoint.LEASED)
        crash_point(CrashPoint.PLANNED)
        crash_point(CrashPoint.LEASED)
        with pytest.raises(Crashed, match="payout-leased"):
            crash_point(CrashPoint.LEASED)
        crash_point(CrashPoint.LEASED)

    crash_point(CrashPoint.LEASED)


def test_no_error_handling_survives_the_death_of_the_process() -> None:
    assert not issubclass(Crashed, Exception)


@pytest.mark.parametrize("told", ["nowhere", "payout-leased:0", "payout-leased:-1", "payout-leased:soon", ":1"])
def test_a_process_told_to_die_nowhere_does_not_start(told: str) -> None:
    with pytest.raises(CrashPointUnknown, match="KOC_CRASH_AT"):
        crash.arm({crash.VARIABLE: told})
