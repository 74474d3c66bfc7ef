"""Closing: whatever is booked while it runs, closed days never change again, and nothing is lost."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.closing import out_of_balance
from service.domain.ledger import SLOTS, Account, AccountKind, MerchantTime, Posting
from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.ledger import post as post_module
from service.ledger.audit import check
from service.ledger.chain import chain
from service.ledger.close import BeforeTheBooks, Closed, DayNotOver, close
from service.ledger.findings import FindingCode
from service.ledger.post import post
from service.ledger.trial import trial_balance
from service.tables.books import BookCloseRow
from service.tables.parties import AffiliateRow, MerchantRow
from tests.support.races import together

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = NOON.date()
CHECKER = new_id()
ZONE = "Asia/Ho_Chi_Minh"


def days(number: int) -> timedelta:
    return timedelta(days=number)


LATER = NOON + days(30)


@dataclass
class Ledger:
    """A merchant whose postings a test dates as it likes."""

    engine: Engine
    merchant_id: UUID = field(default_factory=new_id)
    payees: tuple[UUID, ...] = field(default_factory=lambda: tuple(new_id() for _ in range(4)))

    def open(self) -> "Ledger":
        with unit_of_work(self.engine) as session:
            session.add(
                MerchantRow(id=self.merchant_id, name="Shop", is_test=True, time_zone=ZONE, created_at=NOON - days(3))
            )
            session.flush()
            for payee_id in self.payees:
                session.add(
                    AffiliateRow(
                        merchant_id=self.merchant_id,
                        id=payee_id,
                        name="Ann",
                        status="approved",
                        created_at=NOON,
                        updated_at=NOON,
                    )
                )
        return self

    def postings(self, *amounts: int, currency: str = "VND") -> list[Posting]:
        expense = Account(self.merchant_id, self.merchant_id, AccountKind.COMMISSION_EXPENSE, currency)
        event = f"test/{new_id()}"
        return [
            Posting(
                new_id(),
                event,
                seq,
                expense,
                Account(self.merchant_id, self.payees[seq % len(self.payees)], AccountKind.PENDING, currency),
                amount,
            )
            for seq, amount in enumerate(amounts)
        ]

    def book(self, *amounts: int, at: datetime = NOON, currency: str = "VND") -> None:
        run_unit(self.engine, lambda session: self.book_in(session, *amounts, at=at, currency=currency))

    def book_in(self, session: Session, *amounts: int, at: datetime = NOON, currency: str = "VND") -> None:
        post(session, self.postings(*amounts, currency=currency), when={self.merchant_id: MerchantTime(at, ZONE)})

    def close(self, until: date = DAY, *, at: datetime = LATER) -> Closed:
        return run_unit(
            self.engine,
            lambda session: close(session, self.merchant_id, until=until, when=MerchantTime(at, ZONE), by=CHECKER),
        )

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        with read_session(self.engine) as session:
            return fetch(session, statement, {"merchant_id": self.merchant_id, **values})

    def booked_on(self, until: date) -> int:
        """What postings of the days up to one come to."""
        return int(
            self.rows(
                """
                SELECT coalesce(sum(amount_minor), 0) FROM posting
                WHERE merchant_id = :merchant_id AND day <= :until
                """,
                until=until,
            )[0][0]
        )

    def findings(self) -> set[str]:
        with read_session(self.engine) as session:
            # What these postings are of is none of these tests' matter.
            codes = {finding.code for finding in check(session, self.merchant_id)}
        return codes - {FindingCode.POSTING_ENTRIES, FindingCode.EARNED}


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine).open()


def kept(closed: Closed) -> dict[str, tuple[int, int, int, int]]:
    return {
        f"{line['account']} {line['currency']}": (
            line["opening_minor"],
            line["debit_minor"],
            line["credit_minor"],
            line["closing_minor"],
        )
        for line in closed.row.totals
    }


def test_a_close_seals_every_booking_row_of_every_day_since_the_merchant_was_made(ledger: Ledger) -> None:
    ledger.book(100)

    closed = ledger.close()

    assert (closed.is_new, closed.row.begins_on, closed.row.until) == (True, DAY - days(3), DAY)
    [sealed] = ledger.rows(
        "SELECT count(*), count(sealed_at), min(day), max(day) FROM day_slot WHERE merchant_id = :merchant_id"
    )
    assert tuple(sealed) == (4 * SLOTS, 4 * SLOTS, DAY - days(3), DAY)
    assert kept(closed) == {
        "commission_expense VND": (0, 100, 0, 100),
        "pending VND": (0, 0, 100, -100),
    }
    assert ledger.findings() == set()


def test_the_next_close_begins_where_the_last_one_ended_and_opens_with_what_it_closed_with(ledger: Ledger) -> None:
    ledger.book(100)
    first = ledger.close()
    ledger.book(30, 4, at=NOON + days(5))
    ledger.book(7, at=NOON + days(5), currency="USD")
    ledger.book(1, at=NOON + days(9))

    second = ledger.close(DAY + days(7))

    assert (second.row.begins_on, second.row.until) == (DAY + days(1), DAY + days(7))
    assert second.row.previous_digest == first.row.digest
    assert kept(second) == {
        "commission_expense USD": (0, 7, 0, 7),
        "commission_expense VND": (100, 34, 0, 134),
        "pending USD": (0, 0, 7, -7),
        "pending VND": (-100, 0, 34, -134),
    }
    assert ledger.findings() == set()


def test_closing_again_changes_nothing_and_answers_with_the_close_that_holds_the_day(ledger: Ledger) -> None:
    ledger.book(100)
    first = ledger.close()
    later = ledger.close(DAY + days(5))

    again = [ledger.close(day).row.id for day in (DAY, DAY - days(2), DAY + days(1), DAY + days(5))]

    assert again == [first.row.id, first.row.id, later.row.id, later.row.id]
    assert not ledger.close().is_new
    assert len(ledger.rows("SELECT FROM book_close WHERE merchant_id = :merchant_id")) == 2


def test_a_merchant_without_a_posting_can_close_too(ledger: Ledger) -> None:
    closed = ledger.close()

    assert (closed.row.totals, ledger.findings()) == ([], set())


def test_nothing_is_closed_before_the_books_begin(ledger: Ledger) -> None:
    began_on = DAY - days(3)

    with pytest.raises(BeforeTheBooks, match=str(began_on)):
        ledger.close(began_on - days(1))
    assert ledger.close(began_on).row.begins_on == began_on


def test_a_day_can_be_closed_once_it_is_over_by_the_merchants_calendar(ledger: Ledger) -> None:
    # Midnight in Vietnam.
    over = datetime(2026, 11, 2, 17, tzinfo=UTC)

    with pytest.raises(DayNotOver):
        ledger.close(at=over - timedelta(microseconds=1))
    with pytest.raises(DayNotOver):
        ledger.close(DAY + days(1), at=over)
    assert ledger.close(at=over).is_new


def test_what_comes_for_a_closed_day_is_booked_on_the_next_open_one(ledger: Ledger) -> None:
    ledger.book(100)
    ledger.close(DAY + days(2))

    ledger.book(5)

    [late] = ledger.rows("SELECT day, created_at FROM posting WHERE merchant_id = :merchant_id AND amount_minor = 5")
    assert (late.day, late.created_at) == (DAY + days(3), NOON)
    assert ledger.findings() == set()


def test_a_close_waits_for_who_books_on_its_days_and_counts_it(ledger: Ledger) -> None:
    ledger.book(100)
    done: list[Closed] = []
    closing = threading.Thread(target=lambda: done.append(ledger.close()))
    with unit_of_work(ledger.engine) as open_unit:
        ledger.book_in(open_unit, 11)
        closing.start()
        closing.join(0.5)
        waits = closing.is_alive()
    closing.join()

    assert waits
    assert kept(done[0])["pending VND"] == (0, 0, 111, -111)
    assert ledger.findings() == set()


def test_who_waits_for_a_close_books_on_the_next_day(ledger: Ledger) -> None:
    ledger.book(100)
    when = MerchantTime(NOON + days(30), ZONE)
    with unit_of_work(ledger.engine) as session:
        close(session, ledger.merchant_id, until=DAY, when=when, by=CHECKER)
        booking = threading.Thread(target=lambda: ledger.book(11))
        booking.start()
        booking.join(0.5)
        waits = booking.is_alive()
    booking.join()

    assert waits
    assert (ledger.booked_on(DAY), ledger.booked_on(DAY + days(1))) == (100, 111)
    assert ledger.findings() == set()


def test_two_who_close_at_once_make_one_close_after_the_other(ledger: Ledger) -> None:
    ledger.book(100)

    closed = together(*[partial(ledger.close, DAY + days(number)) for number in (0, 3, 0, 3, 1)])

    rows = ledger.rows("SELECT begins_on, until FROM book_close WHERE merchant_id = :merchant_id ORDER BY until")
    assert rows[0].begins_on == DAY - days(3)
    assert [row.begins_on for row in rows[1:]] == [row.until + days(1) for row in rows[:-1]]
    assert sum(each.is_new for each in closed) == len(rows)
    assert ledger.findings() == set()


WRITERS, BATCHES = 6, 25


def test_closed_days_never_change_whoever_books_on_them_meanwhile(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers on several slots date their postings on three days while those are closed one after the other."""
    chosen = random.Random(2026)
    slots = threading.local()
    monkeypatch.setattr(post_module, "_slot", lambda: slots.number)
    plans = [
        [(chosen.randrange(3), [chosen.randint(1, 1000) for _ in range(chosen.randint(1, 4))]) for _ in range(BATCHES)]
        for _ in range(WRITERS)
    ]
    seen: list[tuple[date, int]] = []

    def write(number: int) -> None:
        slots.number = number % SLOTS
        for day, amounts in plans[number]:
            ledger.book(*amounts, at=NOON + days(day))

    def shut() -> None:
        for number in range(3):
            closed = ledger.close(DAY + days(number))
            # Seen at once, and compared when all is over.
            seen.append((closed.row.until, ledger.booked_on(closed.row.until)))
            run_unit(ledger.engine, lambda session: chain(session, ledger.merchant_id, now=NOON + days(30)))

    together(*[partial(write, number) for number in range(WRITERS)], shut)

    assert [(until, ledger.booked_on(until)) for until, _ in seen] == seen
    closes = ledger.rows("SELECT * FROM book_close WHERE merchant_id = :merchant_id ORDER BY until")
    pending = {
        close_.until: -sum(line["closing_minor"] for line in close_.totals if line["account"] == "pending")
        for close_ in closes
    }
    assert pending == dict(seen)
    total = sum(amount for plan in plans for _, amounts in plan for amount in amounts)
    assert ledger.booked_on(date(2027, 1, 1)) == total
    # The last day that is meant is closed in the end, so what was late stands on the one after it.
    assert ledger.rows("SELECT max(day) FROM posting WHERE merchant_id = :merchant_id")[0][0] <= DAY + days(3)
    assert ledger.findings() == set()


def test_a_trial_balance_of_any_days_is_that_of_the_postings(ledger: Ledger) -> None:
    for number in range(6):
        ledger.book(10**number, at=NOON + days(number))
    ledger.close(DAY + days(2))

    with read_session(ledger.engine) as session:
        some = trial_balance(session, ledger.merchant_id, begins_on=DAY + days(4), until=DAY + days(4))
        within = trial_balance(session, ledger.merchant_id, begins_on=DAY + days(1), until=DAY + days(2))
        whole = trial_balance(session, ledger.merchant_id, begins_on=None, until=None)

    assert [(line.opening_minor, line.debit_minor, line.closing_minor) for line in some if line.debit_minor] == [
        (1111, 10_000, 11_111)
    ]
    assert [(line.opening_minor, line.debit_minor) for line in within if line.debit_minor] == [(1, 110)]
    assert [(line.opening_minor, line.credit_minor) for line in whole if line.credit_minor] == [(0, 111_111)]
    assert [out_of_balance(each) for each in (some, within, whole)] == [{}, {}, {}]


TAMPERINGS = {
    "a sum of a closed day was changed": (
        "UPDATE day_sum SET debit_minor = debit_minor + 1 WHERE kind = 'pending' AND day = '2026-11-02'",
        {FindingCode.CLOSE_SUM, FindingCode.DAY_SUM},
    ),
    "a figure of a close was changed": (
        "UPDATE book_close SET totals = jsonb_set(totals, '{0,debit_minor}', '1')",
        {FindingCode.CLOSE_SUM, FindingCode.CLOSE_DIGEST},
    ),
    "a closing was changed that no digest holds": (
        "UPDATE book_close SET totals = jsonb_set(totals, '{0,closing_minor}', '1')",
        {FindingCode.CLOSE_SUM},
    ),
    "a line of a close is gone": (
        "UPDATE book_close SET totals = totals - 0",
        {FindingCode.CLOSE_SUM, FindingCode.CLOSE_DIGEST},
    ),
    "a day was opened again": (
        "UPDATE day_slot SET sealed_at = NULL WHERE day = '2026-11-01' AND slot = 3",
        {FindingCode.CLOSE_OPEN},
    ),
    "a booking row of a closed day is gone": (
        "DELETE FROM day_slot WHERE day = '2026-11-01' AND slot = 15",
        {FindingCode.CLOSE_OPEN},
    ),
    "the newest close is gone": (
        "DELETE FROM book_close WHERE until = '2026-11-04'",
        {FindingCode.CLOSE_OPEN},
    ),
    "the first close is gone": (
        "DELETE FROM book_close WHERE until = '2026-11-02'",
        {FindingCode.CLOSE_OPEN, FindingCode.CLOSE_DIGEST},
    ),
    "the digest of a close was changed": (
        "UPDATE book_close SET digest = repeat('0', 64) WHERE until = '2026-11-02'",
        {FindingCode.CLOSE_DIGEST},
    ),
    "a posting was dated back": (
        "UPDATE posting SET created_at = created_at + interval '2 days' WHERE amount_minor = 100",
        {FindingCode.POSTING_DAY},
    ),
    "a posting stepped over a day that is open": (
        "UPDATE posting SET created_at = created_at - interval '2 days' WHERE amount_minor = 9",
        {FindingCode.POSTING_DAY},
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_is_changed_in_closed_books_is_found(ledger: Ledger, name: str) -> None:
    statement, codes = TAMPERINGS[name]
    ledger.book(100)
    ledger.close()
    ledger.close(DAY + days(2))
    ledger.book(9, at=NOON + days(9))
    assert ledger.findings() == set()

    with unit_of_work(ledger.engine) as session:
        assert execute(session, statement) > 0

    assert ledger.findings() == codes


def test_a_close_is_kept_with_who_asked_and_when(ledger: Ledger) -> None:
    closed = ledger.close(at=NOON + days(4))

    with read_session(ledger.engine) as session:
        row = session.get_one(BookCloseRow, (ledger.merchant_id, closed.row.id))

    assert (row.closed_by, row.closed_at) == (CHECKER, NOON + days(4))
