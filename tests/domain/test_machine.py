"""Histories by the hundred through the pure domain: the oracle agrees after every step."""

from tests.support.machine import Machine, play
from tests.support.pure_world import PureWorld


class PureMachine(Machine):
    def make_world(self) -> PureWorld:
        return PureWorld()


def test_no_history_brings_the_rules_out_of_step_with_the_oracle() -> None:
    play(PureMachine, histories=200, steps=50)
