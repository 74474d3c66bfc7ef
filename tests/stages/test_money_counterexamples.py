"""Counterexamples to simpler money rules that need a database to be seen; the pure ones are beside the domain's tests.

The names are those of the design review that found them: C for critical, S for should.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from service.domain.ledger import SLOTS, AccountKind
from service.domain.payout import ItemState
from service.infra.db import read_session, unit_of_work
from service.infra.ids import new_id
from service.ledger.audit import check
from service.ledger.findings import FindingCode
from service.payouts.reconcile import compare
from service.tables.orders import InboxState
from tests.support.books import Books, at, paid, refund, snapshot
from tests.support.payouts import Desk


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


def version_of(books: Books, kind: AccountKind) -> int:
    """How often a balance of Ann's was moved, by units of work."""
    rows = books.rows(
        "SELECT version FROM balance WHERE merchant_id = :merchant_id AND owner_id = :owner AND kind = :kind",
        owner=books.ann,
        kind=kind.value,
    )
    return int(rows[0].version)


def findings(engine: Engine, merchant_id: UUID) -> list[str]:
    with read_session(engine) as session:
        return [finding.code for finding in check(session, merchant_id)]


@pytest.mark.parametrize("attempt", range(8))
def test_c2_a_refund_that_meets_the_settle_run_is_taken_from_where_the_money_is(books: Books, attempt: int) -> None:
    books.tell("1001", snapshot(10_000), paid())
    start = Barrier(2)

    def settles() -> None:
        start.wait()
        books.settle()

    def refunds() -> None:
        start.wait()
        books.tell("1001", refund("r1", 10_000))

    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda each: each(), (settles, refunds) if attempt % 2 else (refunds, settles)))

    assert books.places() == (0, 0, 0)
    assert books.commission("1001").target_minor == 0
    assert findings(books.engine, books.merchant_id) == []


def test_c7_what_a_rail_gave_back_is_sent_again_whole_and_is_no_new_earning(engine: Engine) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    desk.work(run)
    desk.rail.reverse(desk.attempts(ann)[-1].reference or "", 1_000)
    compare(engine, desk.rail, merchant_id=desk.merchant_id, run_id=run.id, since=desk.now, now=desk.now)

    again = desk.an_executing_run()
    desk.work(again)

    item = desk.item(ann)
    assert (item.gross_minor, item.carried_minor, item.net_minor) == (0, 1_000, 1_000)
    assert desk.balances(ann) == {"paid": 1_000}


def test_c11_a_batch_that_meets_a_sealed_slot_books_on_the_next_open_day(books: Books) -> None:
    books.tell("1001", snapshot(10_000))
    seal(books, slot=os.getpid() % SLOTS)

    books.tell("1002", snapshot(20_000), paid())

    before, after = books.rows(
        "SELECT day, amount_minor FROM posting WHERE merchant_id = :merchant_id ORDER BY day, amount_minor"
    )
    assert (before.amount_minor, after.amount_minor, (after.day - before.day).days) == (1_000, 2_000, 1)
    # One slot alone is sealed by nobody but this test, and that is found.
    assert set(findings(books.engine, books.merchant_id)) == {FindingCode.CLOSE_OPEN}


def test_c11_a_sealed_slot_of_another_process_is_in_nobodys_way(books: Books) -> None:
    books.tell("1001", snapshot(10_000))
    seal(books, slot=(os.getpid() + 1) % SLOTS)

    books.tell("1002", snapshot(20_000))

    days = books.rows("SELECT DISTINCT day FROM posting WHERE merchant_id = :merchant_id")
    assert len(days) == 1


def seal(books: Books, *, slot: int) -> None:
    """Close a slot of every day there is, as closing a month does."""
    with unit_of_work(books.engine) as session:
        session.connection().exec_driver_sql(
            "UPDATE day_slot SET sealed_at = now() WHERE slot = %(slot)s", {"slot": slot}
        )


def test_s4_the_database_itself_refuses_a_second_live_item(engine: Engine) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(1_000)
    desk.reserve()

    with pytest.raises(IntegrityError, match="live"), unit_of_work(engine) as session:
        session.connection().exec_driver_sql(
            """
            INSERT INTO payout_item SELECT (jsonb_populate_record(item, jsonb_build_object(
                'id', CAST(%(id)s AS text), 'from_version', 77, 'to_version', 78, 'reserve_version', 79))).* FROM payout_item AS item
            """,
            {"id": str(new_id())},
        )

    assert len(desk.items(ann)) == 1


def test_s4_an_item_that_was_sent_keeps_nobody_from_the_next_run(engine: Engine) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(1_000)
    desk.work(desk.an_executing_run())
    desk.earn(ann, 500)

    desk.reserve()

    assert [item.live for item in desk.items(ann)] == [False, True]
    assert desk.state(ann) is ItemState.RESERVED


def test_s6_a_balance_rises_by_one_version_for_each_unit_of_work_not_for_each_posting(books: Books) -> None:
    books.receive(*(books.delivery(f"100{number}", snapshot(10_000), paid()) for number in range(3)))
    assert version_of(books, AccountKind.PENDING) == 1

    books.settle()

    assert version_of(books, AccountKind.PENDING) == 2
    assert version_of(books, AccountKind.PAYABLE) == 1


def test_s7_two_processes_book_one_day_on_rows_of_their_own(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, process in enumerate((16, 17, 32)):
        monkeypatch.setattr("service.ledger.post.os.getpid", lambda process=process: process)
        books.tell(f"100{number}", snapshot(10_000))

    sums = books.rows(
        "SELECT slot, credit_minor FROM day_sum WHERE merchant_id = :merchant_id AND kind = 'pending' ORDER BY slot"
    )
    assert [(row.slot, row.credit_minor) for row in sums] == [(0, 2_000), (1, 1_000)]
    assert findings(books.engine, books.merchant_id) == []


def test_s12_a_version_from_the_future_keeps_no_later_edit_from_counting(books: Books) -> None:
    books.tell("1001", snapshot(10_000))

    [answer] = books.receive(books.delivery("1001", snapshot(99_000, version=40_000)))
    books.tell("1001", snapshot(20_000, version=2))

    assert (answer.state, answer.reason_code) == (InboxState.PARKED, "version_ahead")
    assert books.commission("1001").target_minor == 2_000
    assert at(40_000) > books.now


def test_s15_one_batch_may_tell_one_fact_often_in_any_order(books: Books) -> None:
    told = [snapshot(10_000), refund("r1", 5_000), paid(3)]
    newer = [snapshot(30_000, version=3), refund("r1", 1_000, day=4), paid(2)]

    books.receive(*(books.delivery("1001", fact) for fact in [*newer, *told, *newer]))

    commission = books.commission("1001")
    assert commission.target_minor == 2_900
    assert books.rows("SELECT kind FROM fact WHERE merchant_id = :merchant_id ORDER BY kind") == [
        ("milestone",),
        ("order",),
        ("refund",),
    ]
