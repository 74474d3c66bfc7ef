"""Ladders, marks and caps on PostgreSQL: they follow what their orders do, in whatever order that is told."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.order import DecisionFact, DecisionKind, Fact, decision_fact
from service.domain.periods import Cap, Ladder, Mark, Milestones, PeriodRule, Scale, Span, Step, Stretch
from service.domain.program import Terms
from service.domain.written import rate_of
from tests.support.books import Books, at, dispute, paid, refund, snapshot, ten_percent
from tests.support.races import Processes, processes, together, wrong_with

MONTH, DAY = Stretch(Span.MONTH), Stretch(Span.DAY)
VOLUME = Ladder(
    "volume", MONTH, (Step((("USD", 0),), rate_of("1")), Step((("USD", 30_000),), rate_of("5"))), Scale.RETROACTIVE
)
FIVE_ORDERS = Milestones("five", MONTH, (Mark((("USD", 777),), orders=5),))
DAILY_CAP = Cap("most", DAY, (("USD", 1_500),))


def terms(*rules: PeriodRule) -> Terms:
    return ten_percent(periods=rules)


def periods(books: Books, payee: Any = None) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """By (rule, first day): (target, pending, held, settled) of an affiliate."""
    rows = books.rows(
        """
        SELECT rule, begins_on, target_minor, commission.pending_minor, commission.held_minor, commission.settled_minor
        FROM rule_period
        JOIN commission ON commission.merchant_id = rule_period.merchant_id AND commission.id = rule_period.id
        WHERE rule_period.merchant_id = :merchant_id AND rule_period.payee_id = :payee
        """,
        payee=payee or books.ann,
    )
    return {
        (row.rule, row.begins_on.isoformat()): (row.target_minor, row.pending_minor, row.held_minor, row.settled_minor)
        for row in rows
    }


def order(net: int, day: int, **more: Any) -> tuple[Fact, Fact]:
    return snapshot(net, placed=at(day), **more), paid(day)


def sums_agree(books: Books) -> bool:
    """Whether the balances of the affiliate are the sums of all its commissions, those of periods too."""
    [row] = books.rows(
        """
        SELECT coalesce(sum(pending_minor), 0) AS pending, coalesce(sum(held_minor), 0) AS held,
               coalesce(sum(settled_minor), 0) AS settled
        FROM commission WHERE merchant_id = :merchant_id AND payee_id = :payee AND currency = 'USD'
        """,
        payee=books.ann,
    )
    return books.places() == (row.pending, row.held, row.settled)


JAN = "2026-01-01"
LADDER_MONTH: Sequence[tuple[str, Sequence[Fact]]] = (
    ("A", order(10_000, 1)),
    ("B", order(20_000, 10)),
    ("late", order(5_000, 31)),
    ("B", [refund("r1", 8_000, day=12)]),
    ("held", order(9_000, 15)),
    ("held", [dispute("d1", opened=16, amount=9_000)]),
    ("gone", order(7_000, 3)),
    ("gone", [snapshot(7_000, placed=at(3), cancelled=True, version=4)]),
    ("next", order(40_000, 32)),
)
"""What is left of January: 10,000 + 12,000 + 5,000, and 9,000 in dispute; together 36,000, the second step. February has its own."""


@pytest.mark.parametrize("seed", range(6))
def test_a_month_of_a_ladder_ends_the_same_however_its_orders_arrive(engine: Engine, seed: int) -> None:
    books = Books.opened(engine, terms(VOLUME))
    told = list(LADDER_MONTH)
    dice = random.Random(seed)
    if seed:
        dice.shuffle(told)

    for name, facts in told:
        books.tell(name, *facts)
        if dice.random() < 0.5:
            books.settle()
    books.settle()

    # Settled: 27,000 at 1 percent. With what is held it is 36,000 at 5: the rest waits with the dispute.
    assert periods(books) == {("volume", JAN): (1_800, 0, 1_530, 270), ("volume", "2026-02-01"): (2_000, 0, 0, 2_000)}
    assert books.places() == (0, 900 + 1_530, 2_700 + 270 + 4_000 + 2_000)
    assert wrong_with(engine, books.merchant_id) == []


def test_a_dispute_that_is_lost_takes_the_step_back_and_one_that_is_won_pays_it(engine: Engine) -> None:
    for outcome, expected in (("lost", (270, 0, 0, 270)), ("won", (1_800, 0, 0, 1_800))):
        books = Books.opened(engine, terms(VOLUME))
        for name, facts in LADDER_MONTH[:-1]:
            books.tell(name, *facts)

        books.tell("held", dispute("d1", opened=16, closed=20, outcome=outcome, amount=9_000))
        books.settle()

        assert periods(books) == {("volume", JAN): expected}
        assert wrong_with(engine, books.merchant_id) == []


def test_a_mark_is_paid_when_its_orders_settle_and_taken_back_when_one_is_refunded(engine: Engine) -> None:
    books = Books.opened(engine, terms(FIVE_ORDERS))
    for day in range(1, 6):
        books.tell(f"o{day}", *order(1_000, day))
    assert periods(books) == {("five", JAN): (777, 777, 0, 0)}
    books.settle()
    assert periods(books) == {("five", JAN): (777, 0, 0, 777)}

    books.tell("o3", refund("r1", 1_000, day=6))

    assert periods(books) == {("five", JAN): (0, 0, 0, 0)}
    assert books.places() == (0, 0, 400)
    assert wrong_with(engine, books.merchant_id) == []


def test_a_day_of_a_cap_never_pays_more_than_it(engine: Engine) -> None:
    books = Books.opened(engine, terms(DAILY_CAP))
    for number, net in enumerate((9_000, 8_000, 7_000)):
        books.tell(f"o{number}", *order(net, 1))
    books.tell("tomorrow", *order(9_000, 2))
    assert books.places() == (1_500 + 900, 0, 0)

    books.settle()
    assert books.places() == (0, 0, 1_500 + 900)
    books.tell("o0", refund("r1", 9_000, day=3))
    assert (periods(books), books.places()) == ({("most", JAN): (0, 0, 0, 0)}, (0, 0, 1_500 + 900))
    books.tell("o1", refund("r1", 8_000, day=3))

    assert books.places() == (0, 0, 700 + 900)
    assert wrong_with(engine, books.merchant_id) == []


def test_s3_what_settles_first_uses_up_a_cap_first_and_no_place_falls_below_zero(engine: Engine) -> None:
    books = Books.opened(engine, terms(DAILY_CAP))
    books.tell("disputed", *order(10_000, 1), dispute("d1", opened=2))
    books.tell("paid", *order(12_000, 1))
    books.tell("unpaid", snapshot(10_000, placed=at(1)))
    assert books.places() == (1_500, 0, 0)
    books.settle()

    # 1,200 are settled; of 1,000 pending 300 are left; of 1,000 held nothing.
    assert periods(books) == {("most", JAN): (-1_700, -700, -1_000, 0)}
    assert books.places() == (300, 0, 1_200)
    assert wrong_with(engine, books.merchant_id) == []


def test_an_order_that_turns_out_to_be_anothers_moves_to_the_periods_of_that(engine: Engine) -> None:
    books = Books.opened(engine, terms(VOLUME, DAILY_CAP))
    ben = books.affiliate("BEN")
    books.tell("A", *order(40_000, 1))
    books.tell("B", *order(5_000, 1))
    assert periods(books) == {("volume", JAN): (2_250, 2_250, 0, 0), ("most", JAN): (-3_000, -3_000, 0, 0)}

    decided = DecisionFact(DecisionKind.ATTRIBUTE, at(3), "key_1", "wrong_affiliate", ben)
    books.tell("A", decision_fact(decided))

    assert periods(books) == {("volume", JAN): (50, 50, 0, 0), ("most", JAN): (0, 0, 0, 0)}
    assert periods(books, ben) == {("volume", JAN): (2_000, 2_000, 0, 0), ("most", JAN): (-2_500, -2_500, 0, 0)}
    assert (books.places(), books.places(owner=ben)) == ((550, 0, 0), (3_500, 0, 0))
    assert wrong_with(engine, books.merchant_id) == []


def test_an_order_whose_day_is_corrected_moves_to_the_month_it_was_placed_in(engine: Engine) -> None:
    books = Books.opened(engine, terms(VOLUME))
    books.tell("A", *order(40_000, 31))
    books.settle()

    books.tell("A", snapshot(40_000, placed=at(32), version=40))

    assert periods(books) == {("volume", JAN): (0, 0, 0, 0), ("volume", "2026-02-01"): (2_000, 0, 0, 2_000)}
    assert books.places() == (0, 0, 6_000)
    assert wrong_with(engine, books.merchant_id) == []


def test_an_order_in_another_currency_has_periods_of_its_own(engine: Engine) -> None:
    books = Books.opened(engine, terms(DAILY_CAP))
    books.tell("A", *order(40_000, 1))

    books.tell("A", snapshot(40_000, placed=at(1), currency="EUR", version=2))

    assert (books.places(), books.places(currency="EUR")) == ((0, 0, 0), (4_000, 0, 0))
    assert wrong_with(engine, books.merchant_id) == []


def test_months_are_those_of_the_merchant(engine: Engine) -> None:
    books = Books.opened(engine, terms(VOLUME), time_zone="Asia/Ho_Chi_Minh")

    books.tell("A", snapshot(10_000, placed=at(31, 16)), paid(31))
    books.tell("B", snapshot(10_000, placed=at(31, 17)), paid(31))

    assert periods(books) == {("volume", JAN): (100, 100, 0, 0), ("volume", "2026-02-01"): (100, 100, 0, 0)}
    assert wrong_with(engine, books.merchant_id) == []


def test_a_change_of_terms_waits_for_the_next_month_in_whatever_order_orders_come(engine: Engine) -> None:
    dearer = Ladder("volume", MONTH, (Step((("USD", 0),), rate_of("2")),))
    for days in ((5, 20, 33), (33, 20, 5)):
        books = Books.opened(engine, terms(VOLUME))
        books.version(2, terms(dearer), valid_from=at(10))

        for day in days:
            books.tell(f"o{day}", *order(10_000, day))

        assert periods(books) == {("volume", JAN): (200, 200, 0, 0), ("volume", "2026-02-01"): (200, 200, 0, 0)}
        assert wrong_with(engine, books.merchant_id) == []


def test_a_receipt_of_a_period_says_what_it_goes_by(engine: Engine) -> None:
    books = Books.opened(engine, terms(VOLUME))
    books.tell("A", *order(40_000, 1))

    [row] = books.rows(
        "SELECT receipt, reason_code FROM commission WHERE merchant_id = :merchant_id AND order_id IS NULL"
    )

    assert row.reason_code == "period_bonus"
    assert row.receipt["sums"]["pending"] == {"commission_minor": 4_000, "sales_minor": 40_000, "orders": 1}
    assert row.receipt["target_minor"] == row.receipt["gives"]["pending_minor"] == 2_000


# Many at once


def tell_all(engine: Engine, share: tuple[Books, Sequence[tuple[str, Sequence[Fact]]]]) -> None:
    books, told = share
    for name, facts in told:
        books.tell(name, *facts)
        books.settle()


def many_orders(seed: int) -> list[tuple[str, Sequence[Fact]]]:
    told: list[tuple[str, Sequence[Fact]]] = []
    for number in range(12):
        told.append((f"o{number}", order(3_000 + number, 1 + number % 3)))
        told.append((f"o{number}", [refund("r1", 500 * (number % 4), day=5)]))
    random.Random(seed).shuffle(told)
    return told


ALL = (VOLUME, FIVE_ORDERS, DAILY_CAP)


def expected(engine: Engine) -> Books:
    books = Books.opened(engine, terms(*ALL))
    tell_all(engine, (books, many_orders(0)))
    return books


def same(one: Books, other: Books) -> bool:
    return periods(one) == periods(other) and one.places() == other.places()


def test_four_writers_on_one_affiliate_come_to_the_same_sums(engine: Engine) -> None:
    raced = Books.opened(engine, terms(*ALL))

    together(*[partial(tell_all, engine, (raced, many_orders(seed))) for seed in range(4)])

    assert same(raced, expected(engine))
    assert sums_agree(raced)
    assert wrong_with(engine, raced.merchant_id) == []


@pytest.fixture(scope="module")
def racers() -> Iterator[Processes]:
    with processes(2) as found:
        yield found


def tell_share(engine: Engine, share: tuple[tuple[UUID, ...], int]) -> None:
    (merchant_id, source_id, desk_id, program_id, ann), seed = share
    tell_all(engine, (Books(engine, merchant_id, source_id, desk_id, program_id, ann), many_orders(seed)))


def test_two_processes_on_one_affiliate_come_to_the_same_sums(
    engine: Engine, database_url: str, racers: Processes
) -> None:
    raced = Books.opened(engine, terms(*ALL))
    known = (raced.merchant_id, raced.source_id, raced.desk_id, raced.program_id, raced.ann)

    racers.race(database_url, tell_share, [(known, seed) for seed in range(2)])

    assert same(raced, expected(engine))
    assert sums_agree(raced)
    assert wrong_with(engine, raced.merchant_id) == []
