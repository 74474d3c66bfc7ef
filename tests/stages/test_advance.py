"""Advances: lent once on the pay day, paid like other money, netted from what settles later, whatever becomes of the order."""

from datetime import UTC, datetime
from fractions import Fraction
from functools import partial

import pytest
from sqlalchemy import Engine

from service.commissions.advance import give_due
from service.commissions.settle import settle_due
from service.domain.ledger import AccountKind
from service.domain.order import Fact, Milestone, milestone_fact
from service.domain.settlement import Approval, StatementSettlement
from service.infra.db import execute, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.intake import desk
from service.intake.desk import Decision, Verb
from service.ledger.audit import check
from service.ledger.findings import FindingCode
from service.payouts.statement import movements
from tests.support.books import Books, at, dispute, paid, refund, snapshot, ten_percent
from tests.support.races import together, wrong_with
from tests.support.told_shop import ToldShop

PAYABLE, ADVANCE = AccountKind.PAYABLE, AccountKind.ADVANCE
LATE = StatementSettlement(Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL, advance=Fraction(1, 2))


@pytest.fixture
def books(engine: Engine) -> Books:
    """Return books of January 2026, whose pay day of 18 February is over: nobody has approved anything."""
    return Books.opened(engine, ten_percent(settlement=LATE))


def a_late_shop(engine: Engine, rate: Fraction = Fraction(1, 2)) -> ToldShop:
    shop = ToldShop(engine)
    late = StatementSettlement(Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL, advance=rate)
    shop.books.version(2, ten_percent(settlement=late), valid_from=datetime(2020, 6, 1, tzinfo=UTC))
    return shop


def give(books: Books) -> int:
    return give_due(books.engine, merchant_id=books.merchant_id)


def lent(books: Books) -> tuple[int, int]:
    """What stands in payable, and what is owed of advances."""
    return books.balance(PAYABLE), -books.balance(ADVANCE)


def disputed(opened: int, closed: int | None = None) -> Fact:
    return dispute("d1", opened=opened, closed=closed, outcome="won" if closed else None)


@pytest.mark.parametrize(("rate", "advance"), [("1/2", 5_000), ("4/5", 8_000)])
def test_golden_accesstrade_pays_a_part_in_advance_and_then_the_rest(engine: Engine, rate: str, advance: int) -> None:
    """domain.md, 7: May, pay day 18 June, the advertiser is late: 50–80 % then, the rest with the next run."""
    shop = a_late_shop(engine, Fraction(rate))
    may = datetime(2026, 5, 12, 9, tzinfo=UTC)
    shop.order("1", "1000.00", placed_at=may)
    books = shop.books

    too_late = books.settle()
    given = give(books)
    shop.pay()
    first = shop.payouts.item(books.ann)
    books.advance(days=20)
    shop.decide("approve", "1", amount_minor=None)
    settled = books.settle()
    shop.pay()
    [_, second] = shop.payouts.items(books.ann)

    assert (too_late, given, settled) == (0, 1, 1)
    assert (first.gross_minor, second.gross_minor) == (advance, 10_000 - advance)
    assert lent(books) == (0, 0)
    assert books.balance(AccountKind.PAID) == 10_000
    assert wrong_with(engine, books.merchant_id) == []
    with read_session(engine) as session:
        lines = [[(line.kind, line.amount_minor) for line in movements(session, item)] for item in (first, second)]
    assert lines == [[("advance", advance)], [("settle", 10_000), ("advance_repaid", -advance)]]


def test_an_advance_is_given_once_for_a_statement(books: Books) -> None:
    books.tell("1", snapshot(10_000), paid())

    given = [give(books), give(books)]
    books.tell("1", snapshot(30_000, version=2))
    given.append(give(books))

    assert given == [1, 0, 0]
    assert lent(books) == (500, 500)
    assert books.commission("1").advance_at is None


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([snapshot(10_000)], id="not final: the milestone is missing"),
        pytest.param([snapshot(10_000), paid(), disputed(2)], id="disputed"),
        pytest.param([snapshot(10_000, cancelled=True), paid()], id="cancelled"),
        pytest.param([snapshot(10_000), paid(), refund("r", 10_000)], id="refunded"),
        pytest.param([snapshot(10_000, coupon=None), paid()], id="nobody's"),
        pytest.param([snapshot(40), paid(), refund("r", 37)], id="so little that it rounds to nothing"),
    ],
)
def test_what_gets_no_advance(books: Books, told: list[Fact]) -> None:
    books.tell("1", *told)

    assert give(books) == 0
    assert lent(books) == (0, 0)


def test_nothing_is_lent_on_what_the_release_before_saw_approved(books: Books) -> None:
    books.tell("1", snapshot(10_000), paid())
    with unit_of_work(books.engine) as session:
        execute(session, "UPDATE commission SET reason_code = 'awaiting_statement', approved_minor = 1000")

    assert give(books) == 0
    assert books.commission("1").advance_at is None


def test_nothing_is_lent_before_the_pay_day(books: Books) -> None:
    now = books.now
    books.tell("1", snapshot(10_000, placed=now), milestone_fact(Milestone.PAID, now))

    assert books.commission("1").advance_at > now
    assert give(books) == 0


def test_every_due_advance_is_given_whatever_the_size_of_a_batch(books: Books) -> None:
    for number in range(5):
        books.tell(f"{number}", snapshot(10_000), paid())
    books.tell("nothing", snapshot(4), paid())

    given = give_due(books.engine, merchant_id=books.merchant_id, limit=2)

    assert given == 5
    assert lent(books) == (2_500, 2_500)


def test_an_order_that_moves_to_a_later_statement_is_not_lent_twice(books: Books) -> None:
    books.tell("1", snapshot(10_000), paid())
    give(books)
    books.tell("1", disputed(2))
    frozen = give(books)

    books.tell("1", disputed(2, 40), snapshot(16_000, version=2))
    again = give(books)

    # Half of 1,600, less the 500 of January's statement.
    assert (frozen, again) == (0, 1)
    assert lent(books) == (800, 800)
    assert len(books.rows("SELECT DISTINCT cut_off_on FROM advance WHERE merchant_id = :merchant_id")) == 2


def test_an_advance_on_an_order_that_comes_back_is_netted_from_others(books: Books) -> None:
    books.tell("1", snapshot(10_000), paid())
    give(books)
    books.tell("1", refund("r", 10_000))
    after_the_refund = lent(books)

    automatic = ten_percent()
    books.version(2, automatic, valid_from=at(5))
    netted = []
    for number, net in enumerate((3_000, 4_000), start=2):
        books.tell(f"{number}", snapshot(net, placed=at(6 + 40)), paid(6 + 40))
        books.settle()
        netted.append(lent(books))

    assert after_the_refund == (500, 500)
    # 300 of the first all go back, then 200 of the 400 of the second.
    assert netted == [(500, 200), (700, 0)]
    assert books.balance(AccountKind.PENDING) == 0
    assert wrong_with(books.engine, books.merchant_id) == []


def test_one_settlement_repays_at_most_what_it_settles(books: Books) -> None:
    for number in ("1", "2"):
        books.tell(number, snapshot(10_000), paid())
    give(books)
    _approve(books, "1", 300)

    books.settle()

    assert lent(books) == (1_000, 700)
    assert books.commission("1").reason_code == "above_approved_amount"
    assert wrong_with(books.engine, books.merchant_id) == []


def test_what_somebody_else_settles_repays_nothing_of_it(books: Books) -> None:
    bob = books.affiliate("BOB")
    books.tell("1", snapshot(10_000), paid())
    books.tell("2", snapshot(10_000, coupon="BOB", currency="EUR"), paid())
    give(books)
    _approve(books, "2", 1_000, payee=bob, currency="EUR")

    books.settle()

    assert books.balance(PAYABLE, owner=bob, currency="EUR") == 1_000
    assert books.balance(ADVANCE, owner=bob, currency="EUR") == 0
    assert lent(books) == (500, 500)


def test_asked_for_by_eight_at_once_each_advance_is_given_once(books: Books) -> None:
    for number in range(12):
        books.tell(f"{number}", snapshot(10_000), paid())

    given = together(*[partial(give_due, books.engine, merchant_id=books.merchant_id, limit=3)] * 8)

    assert sum(given) == 12
    assert lent(books) == (6_000, 6_000)
    assert wrong_with(books.engine, books.merchant_id) == []


def test_advances_and_settlements_at_once_keep_the_books_right(books: Books) -> None:
    others = [books.affiliate(coupon) for coupon in ("BOB", "CAT")]
    for number in range(10):
        for coupon in ("ANN", "BOB", "CAT"):
            books.tell(f"{coupon} {number}", snapshot(10_000, coupon=coupon), paid())
    give(books)
    for number in range(5):
        for coupon, payee in zip(("ANN", "BOB", "CAT"), (books.ann, *others), strict=True):
            _approve(books, f"{coupon} {number}", 1_000, payee=payee)
            books.tell(f"{coupon} new {number}", snapshot(20_000, coupon=coupon), paid())

    together(
        *[partial(settle_due, books.engine, merchant_id=books.merchant_id, limit=2)] * 3,
        *[partial(give_due, books.engine, merchant_id=books.merchant_id, limit=2)] * 3,
    )
    books.settle()

    for payee in (books.ann, *others):
        given = books.rows(
            "SELECT coalesce(sum(amount_minor), 0) FROM advance WHERE merchant_id = :merchant_id AND payee_id = :payee AND kind = 'given'",
            payee=payee,
        )[0][0]
        owed = -books.balance(ADVANCE, owner=payee)
        assert given == 10 * 500 + 5 * 1_000
        assert books.balance(PAYABLE, owner=payee) == 5 * 1_000 + owed
    assert wrong_with(books.engine, books.merchant_id) == []


@pytest.mark.parametrize(
    ("statement", "codes"),
    [
        pytest.param("DELETE FROM advance WHERE kind = 'given'", {FindingCode.ADVANCE}, id="its row is gone"),
        pytest.param("UPDATE advance SET amount_minor = amount_minor + 1", {FindingCode.ADVANCE}, id="it was raised"),
        pytest.param(
            "UPDATE advance SET kind = 'repaid', commission_id = NULL, cut_off_on = NULL WHERE kind = 'given'",
            {FindingCode.ADVANCE},
            id="it became a repayment",
        ),
        pytest.param(
            "UPDATE balance SET amount_minor = 1 WHERE kind = 'advance'",
            {FindingCode.BALANCE, FindingCode.BALANCE_NEGATIVE, FindingCode.EARNED},
            id="more came back than was lent",
        ),
        pytest.param(
            "DELETE FROM posting WHERE debit_kind = 'advance'",
            {FindingCode.ADVANCE, FindingCode.BALANCE, FindingCode.DAY_SUM, FindingCode.POSTING_BOOKING},
            id="its posting is gone",
        ),
    ],
)
def test_an_advance_that_was_tampered_with_is_found(books: Books, statement: str, codes: set[FindingCode]) -> None:
    for number in ("1", "2"):
        books.tell(number, snapshot(10_000), paid())
    give(books)
    _approve(books, "1", 300)
    books.settle()
    with unit_of_work(books.engine) as session:
        execute(session, "SET LOCAL session_replication_role = replica")
        execute(session, statement)

    with read_session(books.engine) as session:
        found = {finding.code for finding in check(session, books.merchant_id)}

    assert found == codes


def _approve(books: Books, order: str, amount: int, **whose: object) -> None:
    commission = books.commission(order, **whose)  # type: ignore[arg-type] # whose: payee, currency
    person = desk.Person(books.merchant_id, new_id(), books.now)
    run_unit(
        books.engine,
        lambda session: desk.decide_one(session, person, Decision(commission.id, Verb.APPROVE, "checked", amount)),
    )
