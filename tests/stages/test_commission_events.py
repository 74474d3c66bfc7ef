"""What merchants are told of commissions and orders: each change once, by its name, with how things stand after it."""

from typing import Any

import pytest
from sqlalchemy import Engine

from service.infra.ids import encode
from tests.support.books import Books, dispute, paid, refund, snapshot


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


def told(books: Books, since: int = 0) -> list[str]:
    """Types of all events but the first `since`, in the order in which they were told."""
    rows = books.rows("SELECT type FROM outbox WHERE merchant_id = :merchant_id ORDER BY id")
    return [row.type for row in rows][since:]


def newest(books: Books) -> Any:
    return books.rows("SELECT * FROM outbox WHERE merchant_id = :merchant_id ORDER BY id DESC LIMIT 1")[0]


def test_each_change_of_a_commission_is_told_once_by_its_name(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid(20))
    books.tell("1001", refund("r1", 4_000))
    books.tell("1001", dispute("d1", opened=3))
    books.tell("1001", dispute("d1", opened=3, closed=5, outcome="won"))
    books.tell("1001", snapshot(20_000, version=6))
    books.tell("1001", snapshot(20_000, version=7, cancelled=True))

    assert told(books) == [
        "order.attributed",
        "commission.accrued",
        "commission.adjusted",
        "commission.held",
        "commission.released",
        "commission.adjusted",
        "commission.reversed",
    ]


def test_a_change_that_also_freezes_is_told_by_both_names(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid(20))

    books.tell("1001", refund("r1", 4_000), dispute("d1", opened=3))

    assert told(books, since=2) == ["commission.adjusted", "commission.held"]


def test_what_changes_no_amount_is_not_told(books: Books) -> None:
    books.tell("1001", snapshot(10_000))

    books.tell("1001", paid())
    books.tell("1001", snapshot(10_000, version=2, number="#1001"))

    assert told(books) == ["order.attributed", "commission.accrued"]


def test_an_event_says_how_the_commission_stands_afterwards(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.settle()
    books.tell("1001", snapshot(15_000, version=2))

    event, commission = newest(books), books.commission("1001")
    assert (event.type, event.subject_id) == ("commission.adjusted", commission.id)
    assert event.payload == {
        "commission_id": encode("com", commission.id),
        "order_id": encode("ord", commission.order_id),
        "affiliate_id": encode("aff", books.ann),
        "currency": "USD",
        "target_minor": 1_500,
        "pending_minor": 500,
        "held_minor": 0,
        "settled_minor": 1_000,
        "approved_minor": None,
        "reason_code": "in_hold_period",
    }


def test_settled_money_is_told_as_payable_for_each_commission(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.tell("1002", snapshot(20_000), paid())

    books.settle()

    assert told(books, since=4) == ["commission.payable", "commission.payable"]
    event, order = newest(books), {books.commission(name).id: name for name in ("1001", "1002")}
    commission = books.commission(order[event.subject_id])
    assert event.payload == {
        "commission_id": encode("com", commission.id),
        "order_id": encode("ord", commission.order_id),
        "affiliate_id": encode("aff", books.ann),
        "currency": "USD",
        "settled_minor": commission.settled_minor,
        "pending_minor": 0,
    }


def test_an_order_with_touches_that_earned_nobody_anything_is_told_once(books: Books) -> None:
    books.tell("1001", snapshot(10_000, coupon="GONE"))
    books.tell("1001", snapshot(12_000, coupon="GONE", version=2))
    books.tell("1002", snapshot(10_000, coupon=None))

    assert told(books) == ["order.unattributed"]
    assert newest(books).payload["reason_code"] == "no_eligible_touch"
