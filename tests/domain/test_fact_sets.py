"""The sets of facts that confluence is proved with: that they have everything in them, and that they can be told."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import pytest

from service.domain import order
from service.domain.order import Fact, FactKind
from tests.support.confluence import Seen, Telling, difference_in_memory
from tests.support.fact_sets import Feature, facts_of, features_of, in_code, smallest

NAMES = {**vars(order), "datetime": datetime, "UUID": UUID}


def test_among_two_thousand_sets_everything_that_may_be_told_occurs_often() -> None:
    counted = Counter(feature for seed in range(2_000) for feature in features_of(facts_of(seed)))

    assert [feature for feature in Feature if counted[feature] < 10] == []


def test_a_seed_gives_the_same_set_for_ever() -> None:
    assert facts_of(17) == facts_of(17)
    assert facts_of(17) != facts_of(18)


@pytest.mark.parametrize("seed", range(20))
def test_a_set_written_down_is_the_set(seed: int) -> None:
    assert eval(in_code(facts_of(seed)), dict(NAMES)) == list(facts_of(seed))  # noqa: S307 # our own text


def test_told_in_other_orders_with_settle_runs_and_new_terms_in_between_no_set_differs() -> None:
    seen = Seen()

    found = {seed: difference_in_memory(facts_of(seed), seed, seen) for seed in range(1_000)}

    assert {seed: difference for seed, difference in found.items() if difference} == {}
    assert [telling for telling in Telling if not seen.tellings[telling]] == []


def test_a_diverging_set_is_made_as_small_as_it_goes() -> None:
    facts = next(facts for facts in map(facts_of, range(100)) if len(facts) > 10)

    def diverges(some: Sequence[Fact]) -> bool:
        return {FactKind.ORDER, FactKind.MILESTONE} <= {fact.kind for fact in some}

    assert sorted(fact.kind for fact in smallest(facts, diverges)) == [FactKind.MILESTONE, FactKind.ORDER]
