"""A share of the crash matrix of payouts, and whether it sees what goes wrong. All of it: `make prove WHAT=crash-matrix`."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from bench.crash_matrix import ANYWHERE, OF_FILES, POINTS, Case, Judged, Matrix, drawn, pairs, play_all, single, singles
from bench.crash_rail import OUTCOMES, Behaviour
from service.domain.payout import Answer, Outcome, outcome_of
from service.infra.crash import CrashPoint

BY_NAME = {point.name: point for point in POINTS}

SHARE = [
    single(BY_NAME["P2"], Behaviour.LOST, BY_NAME["P10"]),
    single(BY_NAME["P6"], Behaviour.BUSY, BY_NAME["P12"]),
    single(BY_NAME["P7"], Behaviour.ERROR_DONE, BY_NAME["P13"]),
    single(BY_NAME["P7"], Behaviour.DELAYED, BY_NAME["P9"]),
    single(BY_NAME["P8"], Behaviour.REFUSED_KEPT, BY_NAME["P8"]),
    single(BY_NAME["P9"], Behaviour.REFUSED, BY_NAME["P5"]),
    single(BY_NAME["P11"], Behaviour.ERROR_NOT_DONE, BY_NAME["P14"]),
    single(BY_NAME["P13"], Behaviour.DELAYED, BY_NAME["P11"]),
    single(BY_NAME["P14"], Behaviour.LOST, BY_NAME["P15"]),
]


def test_whoever_dies_twice_on_the_way_of_a_payout_pays_it_once(engine: Engine) -> None:
    judged = play_all(engine, SHARE)

    assert judged.findings == []
    assert judged.holds
    assert judged.cases == len(SHARE)
    assert judged.died.total() == 2 * len(SHARE)


def test_cases_drawn_at_random_pay_once(engine: Engine) -> None:
    judged = play_all(engine, list(drawn(6, seed=7)))

    assert judged.findings == []
    assert judged.holds


def every_error_is_a_failure(answer: Answer, *, sends: int, found_elsewhere: bool) -> Outcome:
    outcome = outcome_of(answer, sends=sends, found_elsewhere=found_elsewhere)
    return Outcome.REFUSED if outcome is Outcome.UNKNOWN else outcome


def no_answer_is_a_success(answer: Answer, *, sends: int, found_elsewhere: bool) -> Outcome:
    outcome = outcome_of(answer, sends=sends, found_elsewhere=found_elsewhere)
    return Outcome.ACCEPTED if outcome is Outcome.UNKNOWN else outcome


@pytest.mark.parametrize(
    ("rule", "behaviour", "seen"),
    [
        pytest.param(every_error_is_a_failure, Behaviour.LOST, lambda judged: judged.double, id="paid twice"),
        pytest.param(no_answer_is_a_success, Behaviour.RESET, lambda judged: judged.lost, id="not paid"),
        pytest.param(no_answer_is_a_success, Behaviour.LOST, lambda judged: judged.wrong, id="recorded otherwise"),
    ],
)
def test_the_matrix_sees_a_broken_rule(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    rule: Callable[..., Outcome],
    behaviour: Behaviour,
    seen: Callable[[Judged], int],
) -> None:
    monkeypatch.setattr("service.payouts.execute.outcome_of", rule)

    judged = play_all(engine, [Case((), (behaviour,))])

    assert seen(judged) == 1
    assert not judged.holds


def test_it_has_every_point_of_the_protocol_with_every_behaviour() -> None:
    assert {f"P{number}" for number in range(1, 16)} <= BY_NAME.keys()
    assert len(OUTCOMES) == 8
    assert len(singles()) == 8 * len(POINTS)
    assert len(pairs()) == 8 * len(POINTS) ** 2 >= 2_048
    tried = {point.at or point.commit_lost for point in (*POINTS, *ANYWHERE)}
    met = {point for point in CrashPoint if point.startswith(("plan", "payout")) and not point.startswith(OF_FILES)}
    assert met <= tried


def test_the_engine_is_left_as_it_was(engine: Engine) -> None:
    before = engine.dialect.do_commit

    Matrix(engine, None).close()  # type: ignore[arg-type] # it asks nobody

    assert engine.dialect.do_commit == before
