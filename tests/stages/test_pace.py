"""How fast somebody may ask, by a clock that the test moves."""

from service.infra.pace import Pace, Pacer, Turn

PACE = Pace(rate_per_s=10, burst=3)


def taken(pacer: Pacer, now_s: float, asker: str = "ann", pace: Pace = PACE) -> Turn:
    return pacer.take(asker, pace, now_s=now_s)


def test_a_burst_may_come_at_once_and_then_one_at_a_time() -> None:
    pacer = Pacer()

    at_once = [taken(pacer, 100.0).allowed for _ in range(4)]
    a_step_later = [taken(pacer, 100.1).allowed for _ in range(2)]

    assert at_once == [True, True, True, False]
    assert a_step_later == [True, False]


def test_who_is_refused_is_told_when_to_come_again_and_owes_nothing_for_it() -> None:
    pacer = Pacer()
    slow = Pace(rate_per_s=1, burst=5)
    for _ in range(5):
        assert taken(pacer, 0.0, pace=slow).allowed

    refused = [taken(pacer, 0.5, pace=slow) for _ in range(100)]

    assert set(refused) == {Turn(allowed=False, remaining=0, reset_s=5, retry_after_s=1)}
    assert taken(pacer, 1.0, pace=slow).allowed


def test_what_is_left_and_when_all_is_there_again() -> None:
    pacer = Pacer()

    first, second = taken(pacer, 0.0, pace=Pace(1, 4)), taken(pacer, 0.0, pace=Pace(1, 4))

    assert (first.remaining, first.reset_s) == (3, 1)
    assert (second.remaining, second.reset_s) == (2, 2)


def test_the_rate_holds_for_long_whatever_the_fractions() -> None:
    pacer = Pacer()
    pace = Pace(rate_per_s=7, burst=1)

    allowed = sum(taken(pacer, 50 + number / 70, pace=pace).allowed for number in range(7000))

    assert 699 <= allowed <= 701


def test_askers_do_not_count_for_one_another() -> None:
    pacer = Pacer()
    for _ in range(3):
        taken(pacer, 0.0)

    assert not taken(pacer, 0.0).allowed
    assert taken(pacer, 0.0, asker="ben").allowed


def test_a_pace_that_was_narrowed_leaves_no_debt_of_the_wide_one() -> None:
    pacer = Pacer()
    for _ in range(1000):
        taken(pacer, 0.0, pace=Pace(1, 1000))

    narrowed = taken(pacer, 0.0, pace=Pace(1, 2))

    assert (narrowed.allowed, narrowed.retry_after_s) == (False, 1)


def test_memory_has_a_limit_and_forgets_first_who_owes_nothing() -> None:
    pacer = Pacer(kept_max=2)
    for _ in range(3):
        taken(pacer, 0.0)
    taken(pacer, 0.0, asker="ben")

    taken(pacer, 0.2, asker="chi")

    assert not all(taken(pacer, 0.2).allowed for _ in range(3))
    assert len(pacer._paid_off) == 2
