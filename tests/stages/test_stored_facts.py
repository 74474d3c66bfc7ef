"""What is kept of what was told: where it came from, what an order said of itself, and where it was booked."""

import pytest
from sqlalchemy import Engine

from service.domain.ledger import SLOTS
from tests.support.books import Books, at, refund, snapshot


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_a_batch_the_fact_names_the_delivery_that_told_what_counts(books: Books, newest_first: bool) -> None:
    older = books.delivery("1001", snapshot(10_000, version=2))
    newer = books.delivery("1001", snapshot(20_000, version=3))

    recorded = books.receive(*((newer, older) if newest_first else (older, newer)))

    told_by = recorded[0 if newest_first else 1].inbox_id
    [fact] = books.rows("SELECT inbox_id, version_at FROM fact WHERE merchant_id = :merchant_id")
    assert (fact.inbox_id, fact.version_at) == (told_by, at(3))


def test_an_assessment_keeps_what_the_order_says_and_what_came_back(books: Books) -> None:
    books.tell("1001", snapshot(10_000, 5_000, currency="EUR", number="#1001", version=2, cancelled=True))
    books.tell("1001", refund("r1", 4_000, currency="EUR"))

    [kept] = books.rows(
        """
        SELECT seq, placed_at, currency, number, goods_minor, net_minor, cancelled
        FROM assessment WHERE merchant_id = :merchant_id
        """
    )

    assert tuple(kept) == (2, at(1), "EUR", "#1001", 15_000, 11_000, True)


def test_of_an_order_not_seen_yet_nothing_is_made_up(books: Books) -> None:
    books.tell("1001", refund("r1", 4_000))

    [kept] = books.rows(
        """
        SELECT placed_at, currency, number, goods_minor, net_minor, cancelled
        FROM assessment WHERE merchant_id = :merchant_id
        """
    )

    assert tuple(kept) == (None, None, "", None, None, False)


def test_a_booking_stands_on_one_of_the_rows_of_its_day(books: Books) -> None:
    books.tell("1001", snapshot(10_000))

    [booked] = books.rows("SELECT slot FROM posting WHERE merchant_id = :merchant_id")
    assert booked.slot in range(SLOTS)
