"""What becomes of a budget, and how its programme is to run then."""

from datetime import UTC, datetime

import pytest

from service.domain.budget import AtLimit, Running, Turn, effect_once_raised, effect_once_taken, turn
from service.domain.dated import PauseEffect

STOP, REVIEW, RUNS = PauseEffect.STOP, PauseEffect.REVIEW, PauseEffect.NONE
THEN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("used", "limit", "reached", "warned", "became"),
    [
        pytest.param(79, 100, None, False, None, id="below four fifths"),
        pytest.param(80, 100, None, False, Turn.NEAR, id="four fifths"),
        pytest.param(99, 100, None, True, None, id="near is told once"),
        pytest.param(100, 100, None, False, Turn.REACHED, id="taken, though never near"),
        pytest.param(150, 100, None, True, Turn.REACHED, id="more than taken"),
        pytest.param(150, 100, 100, True, None, id="taken is told once"),
        pytest.param(50, 100, 100, True, None, id="refunds alone do not reopen it"),
        pytest.param(150, 200, 100, True, Turn.REOPENED, id="raised above what is taken"),
        pytest.param(150, 150, 100, True, None, id="raised to what is taken"),
        pytest.param(50, 90, 100, True, None, id="lowered"),
    ],
)
def test_what_becomes_of_a_budget(
    used: int, limit: int, reached: int | None, warned: bool, became: Turn | None
) -> None:
    assert turn(used_minor=used, limit_minor=limit, reached_limit_minor=reached, warned=warned) is became


@pytest.mark.parametrize(
    ("at_limit", "runs", "effect"),
    [
        (AtLimit.STOP, RUNS, STOP),
        (AtLimit.STOP, REVIEW, STOP),
        (AtLimit.STOP, STOP, None),
        (AtLimit.REVIEW, RUNS, REVIEW),
        (AtLimit.REVIEW, REVIEW, None),
        (AtLimit.REVIEW, STOP, None),
        (AtLimit.TELL, RUNS, None),
        (AtLimit.TELL, STOP, None),
    ],
)
def test_a_budget_that_is_taken_never_loosens_how_its_programme_runs(
    at_limit: AtLimit, runs: PauseEffect, effect: PauseEffect | None
) -> None:
    assert effect_once_taken(at_limit, Running(THEN, runs, by_budget=True)) is effect


@pytest.mark.parametrize(
    ("others", "running", "effect"),
    [
        pytest.param([], Running(THEN, STOP, by_budget=True), RUNS, id="it runs again"),
        pytest.param([AtLimit.TELL], Running(THEN, STOP, by_budget=True), RUNS, id="one that only tells holds nothing"),
        pytest.param([AtLimit.REVIEW], Running(THEN, STOP, by_budget=True), REVIEW, id="the review of another stays"),
        pytest.param([AtLimit.STOP], Running(THEN, STOP, by_budget=True), None, id="the stop of another stays"),
        pytest.param(
            [AtLimit.REVIEW, AtLimit.STOP], Running(THEN, STOP, by_budget=True), None, id="the strictest counts"
        ),
        pytest.param([], Running(THEN, STOP), None, id="a person stopped it"),
        pytest.param([AtLimit.STOP], Running(THEN, RUNS), None, id="a person let it run"),
        pytest.param([], Running(), None, id="nobody ever said"),
    ],
)
def test_a_budget_that_is_raised_undoes_only_what_budgets_did(
    others: list[AtLimit], running: Running, effect: PauseEffect | None
) -> None:
    assert effect_once_raised(others, running) is effect
