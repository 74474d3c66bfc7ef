"""Settling in pieces: no unit of work takes more orders than it may, and none that is due is left out."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from service.commissions.settle import settle_due
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.infra.db import execute, fetch, unit_of_work
from service.infra.ids import new_id
from service.ledger.post import post
from tests.support.books import Books, at, paid, snapshot
from tests.support.databases import connect
from tests.support.faults import wait_for


@pytest.fixture
def books(engine: Engine) -> Books:
    """Five orders are due, a sixth is not."""
    opened = Books.opened(engine)
    for number in range(5):
        opened.tell(f"due {number}", snapshot(10_000), paid())
    opened.tell("unpaid", snapshot(10_000))
    return opened


def orders_by_unit_of_work(books: Books) -> list[int]:
    """How many commissions each unit of work settled; each books under an event of its own."""
    rows = books.rows(
        """
        SELECT posting.event FROM commission_entry AS entry
        JOIN posting ON posting.merchant_id = entry.merchant_id AND posting.id = entry.posting_id
        WHERE entry.merchant_id = :merchant_id AND entry.kind = 'settle'
        """
    )
    return sorted(Counter(row.event for row in rows).values())


@pytest.mark.parametrize(
    ("limit", "pieces"),
    [
        pytest.param(1, [1, 1, 1, 1, 1], id="one by one"),
        pytest.param(2, [1, 2, 2], id="two by two"),
        pytest.param(5, [5], id="exactly all"),
        pytest.param(6, [5], id="more than there are"),
    ],
)
def test_a_unit_of_work_settles_no_more_orders_than_its_limit_and_all_get_their_turn(
    books: Books, limit: int, pieces: list[int]
) -> None:
    moved = settle_due(books.engine, merchant_id=books.merchant_id, limit=limit)

    assert moved == 5
    assert orders_by_unit_of_work(books) == pieces
    assert books.places() == (1_000, 0, 5_000)


def test_settling_one_merchant_leaves_the_others_alone(engine: Engine, books: Books) -> None:
    other = Books.opened(engine)
    other.tell("due", snapshot(20_000), paid())

    assert settle_due(engine, merchant_id=other.merchant_id) == 1
    assert books.places() == (6_000, 0, 0)


def test_an_order_with_several_due_payees_does_not_end_settling_before_the_others_had_their_turn(books: Books) -> None:
    payees = [books.affiliate(coupon) for coupon in ("BOB", "CAT")]
    expense = Account(books.merchant_id, books.merchant_id, AccountKind.COMMISSION_EXPENSE, "USD")
    accrued = [
        Posting(new_id(), "accrued", seq, expense, Account(books.merchant_id, payee, AccountKind.PENDING, "USD"), 1_000)
        for seq, payee in enumerate(payees)
    ]
    with unit_of_work(books.engine) as session:
        post(session, accrued, when={books.merchant_id: MerchantTime(books.now, "UTC")})
        execute(
            session,
            """
            INSERT INTO commission
            SELECT (jsonb_populate_record(commission, jsonb_build_object('id', new.id, 'payee_id', new.payee_id))).*
            FROM commission JOIN orders ON orders.id = commission.order_id AND orders.external_id = 'due 0',
                 unnest(CAST(:ids AS uuid[]), CAST(:payees AS uuid[])) AS new (id, payee_id)
            WHERE commission.merchant_id = :merchant_id
            """,
            {"merchant_id": books.merchant_id, "ids": [new_id() for _ in payees], "payees": payees},
        )

    moved = settle_due(books.engine, merchant_id=books.merchant_id, limit=2)

    assert moved == 7
    assert books.places() == (1_000, 0, 5_000)


def test_settling_at_a_moment_takes_what_was_due_then(books: Books) -> None:
    before, then = (
        settle_due(books.engine, merchant_id=books.merchant_id, at=moment, limit=2) for moment in (at(14), at(15))
    )

    assert (before, then) == (0, 5)


def test_settling_waits_for_the_first_order_by_name_before_it_holds_the_second_as_intake_does(
    engine: Engine, database_url: str
) -> None:
    books = Books.opened(engine)
    for name in ("b", "a"):
        books.tell(name, snapshot(10_000), paid())
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    lock = "SELECT FROM orders WHERE merchant_id = :merchant_id AND external_id = :name FOR UPDATE NOWAIT"

    with ThreadPoolExecutor(1) as threads, connect(database_url) as looking:
        with unit_of_work(engine) as intake:
            fetch(intake, lock, {"merchant_id": books.merchant_id, "name": "a"})
            settling = threads.submit(books.settle)
            wait_for("settling waits for a lock", lambda: looking.execute(waiting).rowcount == 1)

            fetch(intake, lock, {"merchant_id": books.merchant_id, "name": "b"})

        assert settling.result() == 2
