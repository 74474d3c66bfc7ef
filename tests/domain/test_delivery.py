"""When a delivery is tried again, when it is given up, and when its endpoint is."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.delivery import (
    GIVE_UP_AFTER,
    JITTER,
    REST_MAX,
    RETRY_AFTER_MAX,
    TRIES_MAX,
    WAITS,
    DeliveryState,
    DisabledReason,
    Health,
    Result,
    after_try,
    health_after,
    result_of,
)
from service.domain.events import EventType, chosen, listens

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FAILURES = [each for each in Result if each not in {Result.DELIVERED, Result.GONE}]


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.DELIVERED),
        (204, Result.DELIVERED),
        (299, Result.DELIVERED),
        (101, Result.REFUSED),
        (301, Result.REDIRECTED),
        (308, Result.REDIRECTED),
        (400, Result.REFUSED),
        (404, Result.REFUSED),
        (410, Result.GONE),
        (429, Result.BUSY),
        (500, Result.REFUSED),
        (503, Result.BUSY),
    ],
)
def test_a_status_says(status: int, result: Result) -> None:
    assert result_of(status) is result


def test_eight_tries_fill_three_days() -> None:
    at, made = NOON, [NOON]
    for tries in range(1, TRIES_MAX):
        following = after_try(Result.REFUSED, tries=tries, now=at)
        assert following.state is DeliveryState.PENDING
        assert following.next_at is not None
        at = following.next_at
        made.append(at)

    assert [later - earlier for earlier, later in pairwise(made)] == list(WAITS)
    assert len(made) == 8
    assert made[-1] - NOON == timedelta(hours=71, minutes=35, seconds=5)
    assert after_try(Result.REFUSED, tries=TRIES_MAX, now=at) == after_try(Result.GONE, tries=1, now=at)
    assert after_try(Result.REFUSED, tries=TRIES_MAX, now=at).state is DeliveryState.FAILED


@given(st.sampled_from(FAILURES), st.integers(1, TRIES_MAX - 1), st.integers(0, 1000))
def test_jitter_makes_a_wait_longer_by_a_twentieth_at_most(result: Result, tries: int, jitter: int) -> None:
    next_at = after_try(result, tries=tries, now=NOON, jitter_permille=jitter).next_at

    assert next_at is not None
    assert WAITS[tries - 1] <= next_at - NOON <= WAITS[tries - 1] + WAITS[tries - 1] / JITTER


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (timedelta(seconds=1), WAITS[0]),
        (timedelta(minutes=2), timedelta(minutes=2)),
        (timedelta(days=365), RETRY_AFTER_MAX),
    ],
)
def test_a_receiver_may_ask_for_more_time_within_bounds(asked: timedelta, waited: timedelta) -> None:
    assert after_try(Result.BUSY, tries=1, now=NOON, retry_after=asked).next_at == NOON + waited


def test_an_endpoint_that_cannot_be_reached_rests_longer_each_time_and_a_success_forgives_all() -> None:
    health, rests = Health(), []
    for _ in range(12):
        health = health_after(health, Result.TIMEOUT, now=NOON)
        assert health.rests_until is not None
        rests.append(health.rests_until - NOON)

    assert rests[:4] == [timedelta(seconds=each) for each in (5, 10, 20, 40)]
    assert rests[-1] == REST_MAX
    assert (health.failures, health.failing_since) == (12, NOON)
    assert health_after(health, Result.DELIVERED, now=NOON) == Health()


@pytest.mark.parametrize("result", FAILURES)
def test_a_lone_delivery_is_never_later_for_its_endpoints_rest(result: Result) -> None:
    health, at = Health(), NOON
    for tries in range(1, TRIES_MAX):
        health = health_after(health, result, now=at)
        following = after_try(result, tries=tries, now=at)
        assert following.next_at is not None
        assert health.rests_until is None or health.rests_until <= following.next_at
        at = following.next_at


def test_an_event_that_is_refused_gives_the_endpoint_no_rest() -> None:
    assert health_after(Health(), Result.REFUSED, now=NOON) == Health(1, NOON)


def test_a_busy_endpoint_rests_as_long_as_it_asks_for() -> None:
    asked = health_after(Health(), Result.BUSY, now=NOON, retry_after=timedelta(minutes=3))

    assert asked.rests_until == NOON + timedelta(minutes=3)


def test_an_endpoint_is_given_up_when_it_says_so_or_fails_for_five_days() -> None:
    since = NOON - GIVE_UP_AFTER

    assert health_after(Health(), Result.GONE, now=NOON).disable is DisabledReason.GONE
    assert health_after(Health(9, since), Result.TIMEOUT, now=NOON).disable is DisabledReason.FAILING
    assert health_after(Health(9, since + timedelta(seconds=1)), Result.TIMEOUT, now=NOON).disable is None
    assert health_after(Health(9, since), Result.DELIVERED, now=NOON).disable is None


def test_patterns_choose_types() -> None:
    assert chosen("*") == frozenset(EventType)
    assert chosen("payout.*") == {each for each in EventType if each.startswith("payout.")}
    assert chosen("commission.paid") == {EventType.COMMISSION_PAID}
    assert [chosen(each) for each in ("", "*.*", "payout", "pay*", "commission.p*", "order.shipped", ".*")] == [
        frozenset()
    ] * 7


@given(st.lists(st.sampled_from(["*", "payout.*", "payout_run.*", "commission.paid", "order.*"])))
def test_an_endpoint_listens_to_what_its_patterns_choose(patterns: list[str]) -> None:
    named = frozenset().union(*(chosen(each) for each in patterns))

    assert {each for each in EventType if listens(patterns, each)} == named
