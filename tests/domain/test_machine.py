"""Histories by the hundred through the pure domain: the oracle agrees after every step."""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.machine import MULTIPLIER, Machine
from tests.support.pure_world import PureWorld


class PureMachine(Machine):
    def make_world(self) -> PureWorld:
        return PureWorld()


def test_no_history_brings_the_rules_out_of_step_with_the_oracle() -> None:
    PureMachine.played.clear()
    run_state_machine_as_test(
        PureMachine,
        settings=settings(max_examples=300 * MULTIPLIER, stateful_step_count=50, deadline=None, database=None),
    )
    print(PureMachine.said())
