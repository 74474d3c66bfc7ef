"""Orders that matter to each other, told in any order: what their histories and periods come to stays the same."""

from collections import Counter

from tests.support.crowd import Crowd, orders_of, pairs, written
from tests.support.crowd_books import CrowdSeen, crowd_of, difference_in_crowd, told_at_once

SETS = 60


def test_told_in_other_orders_with_settle_runs_and_new_terms_in_between_no_crowd_differs() -> None:
    seen = CrowdSeen()

    found = {seed: difference_in_crowd(orders_of(seed), seed, seen) for seed in range(SETS)}

    assert {seed: difference for seed, difference in found.items() if difference} == {}
    assert min(seen.again, seen.settled) > 0


def test_among_two_hundred_crowds_everything_that_may_follow_occurs() -> None:
    counted = Counter(each for seed in range(200) for each in crowd_of(told_at_once(orders_of(seed))))

    assert [each for each in Crowd if not counted[each]] == []


def test_a_seed_gives_the_same_crowd_for_ever() -> None:
    assert orders_of(17) == orders_of(17)
    assert orders_of(17) != orders_of(18)
    assert len(pairs(orders_of(17))) == written(orders_of(17)).count("_fact(")
