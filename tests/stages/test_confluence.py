"""Any order, duplication and batching of the same facts gives the same books, also from two processes at once.

`make prove WHAT=confluence` asks this of many more sets of facts; here is a small share of them.
"""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from service.domain.order import Fact
from tests.support.books import Books, paid, refund, snapshot
from tests.support.confluence_books import differences, one_process, two_processes
from tests.support.confluence_crowd import CROWD
from tests.support.crowd import orders_of
from tests.support.fact_sets import facts_of


def sets(first: int, count: int) -> dict[str, tuple[Fact, ...]]:
    return {f"order-{seed}": facts_of(seed) for seed in range(first, first + count)}


def test_shuffled_duplicated_and_split_over_two_processes_the_books_are_the_same(
    engine: Engine, database_url: str
) -> None:
    with two_processes(database_url) as write:
        found = differences(engine, write, sets(0, 40), seed=0)

    assert found.orders == {}
    assert found.others == []
    assert len(found.by_process) == 2
    assert found.settled > 0


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_and_duplicated_the_books_are_the_same(engine: Engine, seed: int) -> None:
    found = differences(engine, one_process(engine), sets(1000 * seed, 20), seed=seed)

    assert found.orders == {}
    assert found.others == []


def crowds(first: int, count: int) -> dict[str, tuple[Fact, ...]]:
    return {name: facts for seed in range(first, first + count) for name, facts in orders_of(seed).items()}


def test_orders_of_one_customer_and_of_one_month_come_to_the_same_from_two_processes(
    engine: Engine, database_url: str
) -> None:
    with two_processes(database_url) as write:
        found = differences(engine, write, crowds(0, 10), seed=0, stage=CROWD)

    assert found.orders == {}
    assert found.others == []
    assert min(found.again, found.periods, found.settled) > 0


@pytest.mark.parametrize("seed", range(3))
def test_orders_of_one_customer_and_of_one_month_come_to_the_same(engine: Engine, seed: int) -> None:
    found = differences(engine, one_process(engine), crowds(1000 * seed, 4), seed=seed, stage=CROWD)

    assert found.orders == {}
    assert found.others == []


def test_a_merged_batch_equals_its_facts_one_by_one(engine: Engine) -> None:
    facts = [snapshot(5_000), replace(snapshot(7_000)), refund("r", 100), refund("r", 300, day=3), paid(4), paid(2)]
    one_by_one, at_once = Books.opened(engine), Books.opened(engine)

    for fact in facts:
        one_by_one.tell("o", fact)
    at_once.receive(*(at_once.delivery("o", fact) for fact in reversed(facts)))

    assert at_once.places(owner=at_once.ann) == one_by_one.places(owner=one_by_one.ann) == (0, 470, 0)
