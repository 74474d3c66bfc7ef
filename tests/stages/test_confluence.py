"""Any order, duplication and batching of the same facts gives the same books, also from two writers at once."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from service.domain.order import Fact, Milestone, milestone_fact
from tests.support.books import Books, at, dispute, paid, refund, snapshot

ORDERS = 12


def facts_of_an_order(rng: random.Random) -> list[Fact]:
    """Everything that may be told of one order: edits, currencies, refunds, disputes, two bodies under one version."""
    told: list[Fact] = [paid(rng.randint(1, 5))]
    for version in range(1, rng.randint(2, 4)):
        told.append(
            snapshot(
                *(rng.randint(0, 20_000) for _ in range(rng.randint(1, 3))),
                coupon=rng.choice(["ANN", "ANN", "BOB", None]),
                version=version,
                currency="EUR" if rng.random() < 0.1 else "USD",
                cancelled=rng.random() < 0.15,
            )
        )
    for number in range(rng.randint(0, 3)):
        currency = "EUR" if rng.random() < 0.1 else "USD"
        line = rng.choice([None, "1", "2"])
        for day in sorted(rng.sample(range(2, 9), rng.randint(1, 2))):
            told.append(refund(f"r{number}", rng.randint(1, 15_000), day=day, line=line, currency=currency))
    if rng.random() < 0.4:
        told.append(dispute("d", opened=10))
        if rng.random() < 0.8:
            outcome = rng.choice(["won", "lost"])
            told.append(dispute("d", opened=10, closed=12, outcome=outcome, amount=rng.randint(1, 9_000)))
    if rng.random() < 0.2:
        told.append(snapshot(rng.randint(1, 9_000), version=1))
    if rng.random() < 0.3:
        told.append(milestone_fact(Milestone.PAID, at(rng.randint(1, 20))))
    return told


def dump(books: Books) -> list[tuple[object, ...]]:
    """Targets and places by order, coupon and currency, then balances: the books without ids and times of arrival."""
    names = {books.ann: "ANN"} | {
        row.id: row.name for row in books.rows("SELECT id, name FROM affiliate WHERE merchant_id = :merchant_id")
    }
    commissions = books.rows(
        """
        SELECT external_id, payee_id, currency, target_minor, pending_minor, held_minor, settled_minor
        FROM commission
        JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE commission.merchant_id = :merchant_id AND target_minor <> 0
        """
    )
    balances = books.rows(
        """
        SELECT owner_id, kind, currency, amount_minor FROM balance
        WHERE merchant_id = :merchant_id AND amount_minor <> 0
        """
    )
    return sorted((row[0], names[row[1]], *row[2:]) for row in commissions) + sorted(
        (names[row[0]], *row[1:]) for row in balances
    )


def in_batches(told: Sequence[tuple[str, Fact]], rng: random.Random) -> list[list[tuple[str, Fact]]]:
    batches, rest = [], list(told)
    while rest:
        size = rng.randint(1, 9)
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


@pytest.mark.parametrize("seed", range(6))
def test_shuffled_duplicated_and_split_over_two_writers_the_books_are_the_same(engine: Engine, seed: int) -> None:
    rng = random.Random(seed)
    told = [(f"o{number}", fact) for number in range(ORDERS) for fact in facts_of_an_order(rng)]
    straight, shuffled = Books.opened(engine), Books.opened(engine)
    for books in (straight, shuffled):
        books.affiliate("BOB")

    for order, fact in told:
        straight.tell(order, fact)
    straight.settle()

    again = told + rng.sample(told, len(told) // 3)
    rng.shuffle(again)
    batches = in_batches(again, rng)

    def write(share: int) -> None:
        for number, batch in enumerate(batches[share::2]):
            shuffled.receive(*(shuffled.delivery(order, fact) for order, fact in batch))
            if number % 4 == 3:
                shuffled.settle()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    shuffled.settle()

    assert dump(shuffled) == dump(straight)


def test_a_merged_batch_equals_its_facts_one_by_one(engine: Engine) -> None:
    one_by_one, at_once = Books.opened(engine), Books.opened(engine)
    facts = [snapshot(5_000), replace(snapshot(7_000)), refund("r", 100), refund("r", 300, day=3), paid(4), paid(2)]

    for fact in facts:
        one_by_one.tell("o", fact)
    at_once.receive(*(at_once.delivery("o", fact) for fact in reversed(facts)))

    assert dump(at_once) == dump(one_by_one)
