"""Orders of one customer that have to know of each other, on PostgreSQL: first orders, later ones, those placed again."""

import random
from collections.abc import Sequence
from functools import partial
from itertools import permutations

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from service.commissions.reassess import reassess_due
from service.domain.conditions import CustomerIs, CustomerKind, CustomerMonths
from service.domain.order import Fact
from service.domain.program import Terms
from service.domain.rules import Percent, Rule, When
from service.domain.written import rate_of
from service.infra.db import unit_of_work
from service.tables.bindings import ProductBindingRow
from tests.support.books import LONG_AGO, Books, at, paid, snapshot, ten_percent
from tests.support.races import together, wrong_with

MAI, LAN = (("email", "hash-of-mai"),), (("email", "hash-of-lan"),)


def only(*conditions: CustomerIs | CustomerMonths, **changes: object) -> Terms:
    return Terms(rules=(Rule(Percent(rate_of("10")), when=When(every=conditions)),), **changes)  # type: ignore[arg-type] # named by the test


FIRST_ONLY = only(CustomerIs(CustomerKind.NEW))


def amounts(books: Books, *orders: str) -> list[int]:
    return [books.commission(order).target_minor for order in orders]


def waiting(books: Books) -> int:
    return len(books.rows("SELECT FROM reassess WHERE merchant_id = :merchant_id"))


def reassess(books: Books) -> int:
    return reassess_due(books.engine, books.merchant_id)


def an_order(day: int, *, customer: tuple[tuple[str, str], ...] = MAI, **more: object) -> tuple[Fact, Fact]:
    return snapshot(10_000, placed=at(day), customer=customer, **more), paid(day)  # type: ignore[arg-type] # named by the test


def test_c9_only_the_first_order_earns_though_it_arrives_second(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)

    books.tell("B", *an_order(5))
    assert amounts(books, "B") == [1_000]
    books.tell("A", *an_order(1))

    assert (amounts(books, "A", "B"), waiting(books)) == ([1_000, 1_000], 1)
    assert reassess(books) == 1
    assert (amounts(books, "A", "B"), waiting(books)) == ([1_000, 0], 0)
    assert books.places() == (1_000, 0, 0)
    assert wrong_with(engine, books.merchant_id) == []


def test_what_waits_to_be_assessed_again_does_not_settle_before(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    books.tell("B", *an_order(2))
    books.tell("A", *an_order(1))

    assert books.settle() == 1
    assert books.commission("B").settled_minor == 0
    reassess(books)
    books.settle()

    assert books.places() == (0, 0, 1_000)
    assert wrong_with(engine, books.merchant_id) == []


def test_cancelling_the_first_makes_the_second_the_first(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    books.tell("A", *an_order(1))
    books.tell("B", *an_order(2))
    assert amounts(books, "A", "B") == [1_000, 0]

    books.tell("A", *an_order(1, cancelled=True, version=3))
    assert (amounts(books, "A", "B"), waiting(books)) == ([0, 0], 1)
    reassess(books)

    assert amounts(books, "A", "B") == [0, 1_000]
    assert wrong_with(engine, books.merchant_id) == []


def test_an_order_that_turns_out_to_be_somebody_elses_frees_both(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    books.tell("A", *an_order(1))
    books.tell("B", *an_order(2))
    books.tell("C", *an_order(3, customer=LAN))
    assert amounts(books, "A", "B", "C") == [1_000, 0, 1_000]

    # A was Lan's all along: Mai's first is B now, and Lan's first is A.
    books.tell("A", *an_order(1, customer=LAN, version=4))
    reassess(books)

    assert amounts(books, "A", "B", "C") == [1_000, 1_000, 0]
    assert (waiting(books), wrong_with(engine, books.merchant_id)) == (0, [])


def test_an_order_of_nobody_we_know_is_neither_new_nor_returning(engine: Engine) -> None:
    books = Books.opened(engine, only(CustomerIs(CustomerKind.RETURNING)))
    books.tell("A", *an_order(1, customer=()))
    books.tell("B", *an_order(2, customer=()))

    assert amounts(books, "A", "B") == [0, 0]
    assert wrong_with(engine, books.merchant_id) == []


def test_recurring_for_three_months_counts_from_the_first_order_that_stands(engine: Engine) -> None:
    books = Books.opened(engine, only(CustomerMonths(3)))
    for order, day in (("A", 1), ("B", 32), ("C", 60), ("D", 91)):
        books.tell(order, *an_order(day))

    # 1 January, 1 February, 1 March; 1 April is three months later.
    assert amounts(books, "A", "B", "C", "D") == [1_000, 1_000, 1_000, 0]
    books.tell("A", *an_order(1, cancelled=True, version=100))
    reassess(books)

    assert amounts(books, "A", "B", "C", "D") == [0, 1_000, 1_000, 1_000]
    assert wrong_with(engine, books.merchant_id) == []


TOLD: Sequence[tuple[str, Sequence[Fact]]] = (
    ("A", an_order(1)),
    ("B", an_order(2)),
    ("A", an_order(1, cancelled=True, version=5)),
    ("C", an_order(3)),
)


@pytest.mark.parametrize("order", [*permutations(range(4))][::5], ids=str)
def test_whatever_arrives_when_one_order_earns_in_the_end(engine: Engine, order: Sequence[int]) -> None:
    books = Books.opened(engine, FIRST_ONLY)

    for place in order:
        name, facts = TOLD[place]
        books.tell(name, *facts)
    reassess(books)

    assert amounts(books, "A", "B", "C") == [0, 1_000, 0]
    assert (waiting(books), wrong_with(engine, books.merchant_id)) == (0, [])


# Orders placed again

AGAIN = ten_percent()
REORDERS = Terms.of_json(AGAIN.as_json() | {"attribution": AGAIN.as_json()["attribution"] | {"reorder_days": 7}})


def test_an_order_placed_again_after_a_cancellation_is_brought_by_whom_that_was(engine: Engine) -> None:
    books = Books.opened(engine, REORDERS)
    books.tell("A", *an_order(1, cancelled=True))

    books.tell("B", *an_order(4, coupon=None))

    assert amounts(books, "A", "B") == [0, 1_000]
    [known] = books.rows(
        "SELECT touch FROM assessment WHERE merchant_id = :merchant_id AND affiliate_id IS NOT NULL AND NOT cancelled"
    )
    assert known.touch == "reorder"
    assert wrong_with(engine, books.merchant_id) == []


@pytest.mark.parametrize("together_in_a_batch", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
def test_it_does_not_matter_when_the_cancelled_one_is_told(
    engine: Engine, backwards: bool, together_in_a_batch: bool
) -> None:
    books = Books.opened(engine, REORDERS)
    told = [books.delivery("A", *an_order(1, cancelled=True)), books.delivery("B", *an_order(4, coupon=None))]
    if backwards:
        told.reverse()

    for batch in [told] if together_in_a_batch else [[each] for each in told]:
        books.receive(*batch)
    reassess(books)

    assert amounts(books, "A", "B") == [0, 1_000]
    assert wrong_with(engine, books.merchant_id) == []


def test_what_was_carried_over_once_is_not_carried_over_again(engine: Engine) -> None:
    books = Books.opened(engine, REORDERS)
    books.tell("A", *an_order(1, cancelled=True))
    books.tell("B", *an_order(6, coupon=None, cancelled=True))

    books.tell("C", *an_order(12, coupon=None))

    assert books.rows("SELECT FROM commission JOIN orders ON orders.id = order_id WHERE external_id = 'C'") == []
    assert wrong_with(engine, books.merchant_id) == []


@pytest.mark.parametrize("together_in_a_batch", [True, False])
def test_a_bound_product_is_carried_over_by_nobody_however_orders_arrive(
    engine: Engine, together_in_a_batch: bool
) -> None:
    books = Books.opened(engine, REORDERS)
    ben = books.affiliate("BEN")
    with unit_of_work(engine) as session:
        session.add(
            ProductBindingRow(
                merchant_id=books.merchant_id, sku="SKU-1", affiliate_id=ben, program_id=books.program_id,
                valid_from=LONG_AGO, recorded_at=LONG_AGO,
            )
        )  # fmt: skip
    books.tell("A", *an_order(1, cancelled=True))
    # Placed again and cancelled again; without Ann's coupon the product would be Ben's.
    told = [
        books.delivery("B", *an_order(2, coupon=None, cancelled=True)),
        books.delivery("C", *an_order(3, coupon=None)),
    ]

    for batch in [told] if together_in_a_batch else [[each] for each in told]:
        books.receive(*batch)
    reassess(books)

    assert amounts(books, "C") == [1_000]
    assert wrong_with(engine, books.merchant_id) == []


# Many at once


def test_of_two_first_orders_told_at_once_exactly_one_earns(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    for number in range(6):
        customer = (("email", f"hash-{number}"),)

        together(
            *[
                partial(books.tell, f"{number}-{name}", *an_order(day, customer=customer))
                for name, day in (("A", 1), ("B", 2))
            ]
        )

    together(partial(reassess, books), partial(reassess, books))

    for number in range(6):
        assert amounts(books, f"{number}-A", f"{number}-B") == [1_000, 0]
    assert (waiting(books), wrong_with(engine, books.merchant_id)) == (0, [])


def test_eight_who_assess_again_at_once_leave_the_books_right(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    for number in range(20):
        customer = (("email", f"hash-{number}"),)
        books.tell(f"{number}-B", *an_order(2, customer=customer))
        books.tell(f"{number}-A", *an_order(1, customer=customer))

    together(*[partial(reassess, books)] * 8)

    assert waiting(books) == 0
    assert books.places() == (20_000, 0, 0)
    assert wrong_with(engine, books.merchant_id) == []


def test_telling_and_assessing_again_never_meet_in_a_circle(engine: Engine) -> None:
    books = Books.opened(engine, FIRST_ONLY)
    for order, day in (("A", 1), ("B", 2), ("C", 3)):
        books.tell(order, *an_order(day))

    def tell(first: int) -> None:
        for version in range(first, 40, 3):
            books.tell("A", *an_order(1, cancelled=version % 2 == 0, version=version))

    def assess_again() -> None:
        for _ in range(30):
            reassess(books)

    # Heard of here: the server's own count holds those that earlier tests made on purpose.
    deadlocks = []

    def hear(failed: ExceptionContext) -> None:
        if isinstance(failed.original_exception, DeadlockDetected):
            deadlocks.append(failed.statement)

    event.listen(engine, "handle_error", hear)
    try:
        together(*[partial(tell, first) for first in (2, 3, 4)], *[assess_again] * 3)
    finally:
        event.remove(engine, "handle_error", hear)
    reassess(books)

    assert deadlocks == []
    assert amounts(books, "A", "B", "C") == [1_000, 0, 0]
    assert (waiting(books), wrong_with(engine, books.merchant_id)) == (0, [])


@pytest.mark.parametrize("seed", range(6))
def test_of_many_orders_the_right_one_earns_whatever_is_told_and_cancelled(engine: Engine, seed: int) -> None:
    books, dice = Books.opened(engine, FIRST_ONLY), random.Random(seed)
    days = {f"order {day}": day for day in range(1, 9)}
    told = list(days)
    dice.shuffle(told)
    for name in told:
        books.tell(name, *an_order(days[name]))
        reassess(books)
    cancelled = set(dice.sample(told, 3))
    for version, name in enumerate(dice.sample(told, len(told)), start=2):
        books.tell(name, *an_order(days[name], cancelled=name in cancelled, version=version))
        reassess(books)

    first = min(set(days) - cancelled, key=lambda name: days[name])
    assert {name for name in days if amounts(books, name) != [0]} == {first}
    assert wrong_with(engine, books.merchant_id) == []


def test_a_cancelled_order_that_turns_out_to_have_held_something_else_is_not_placed_again(engine: Engine) -> None:
    books = Books.opened(engine, REORDERS)
    books.tell("A", *an_order(1, cancelled=True))
    books.tell("B", *an_order(4, coupon=None))

    books.tell("A", snapshot(placed=at(1), customer=MAI, cancelled=True, version=2))

    assert reassess(books) == 1
    assert amounts(books, "B") == [0]
    assert wrong_with(engine, books.merchant_id) == []
