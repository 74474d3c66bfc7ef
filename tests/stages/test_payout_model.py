"""Every state of sending a payout, within small bounds. `make prove WHAT=payout-model` searches larger ones."""

import pytest

from bench.payout_model import HARM_MAX, MISTAKES, search
from bench.payout_steps import steps
from bench.payout_world import Attempt, Bounds, State, Variant, is_double, is_settled, is_wrong
from service.domain.payout import Outcome


def test_no_state_pays_twice_or_records_what_is_not_so_or_leads_nowhere() -> None:
    found = search(Bounds(crashes=1, faults=1, attempts=2))

    assert (found.double, found.wrong, found.stuck) == (0, 0, 0)
    assert found.states > 10_000
    assert set(found.outcomes) == {each.value for each in Outcome}


@pytest.mark.parametrize("variant", Variant)
def test_every_mistake_is_found_out(variant: Variant) -> None:
    found = search(MISTAKES, variant, harm_max=HARM_MAX)

    assert not found.holds
    assert found.trace
    if variant is Variant.WAITS_FOR_EVER:
        assert found.stuck
    else:
        assert found.double + found.wrong


def test_what_counts_as_harm() -> None:
    refused = State(attempts=(Attempt(Outcome.REFUSED), Attempt(Outcome.ACCEPTED)), done=(0, 1))

    assert not is_double(refused)
    assert not is_wrong(refused)
    assert is_settled(refused)
    assert is_double(refused._replace(done=(1, 1)))
    assert is_wrong(refused._replace(done=(1, 1)))
    assert is_wrong(refused._replace(done=(0, 0)))
    assert not is_settled(State())


def test_nobody_acts_on_what_is_settled() -> None:
    accepted = State(attempts=(Attempt(Outcome.ACCEPTED),), done=(1,))

    assert list(steps(accepted, Bounds())) == []
