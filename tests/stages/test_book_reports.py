"""Reports of the books: they balance, they are the postings, and what is owed is as old as it is."""

import csv
import io
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from service.domain.ledger import MerchantTime
from service.infra.db import execute, read_session, run_unit, unit_of_work
from service.ledger.close import close
from service.reports.define import Filter, Format
from service.reports.registry import find
from service.reports.stream import Asked, stream
from service.tables.books import AccountingChartRow
from tests.support.full_books import Books, full_books

Row = dict[str, str]
BUCKETS = ("days_0_30", "days_31_60", "days_61_90", "over_90")


def rows_of(books: Books, name: str, **filters: Any) -> list[Row]:
    with read_session(books.engine) as session:
        narrowed = {Filter(key.rstrip("_")): value for key, value in filters.items()}
        asked = Asked(books.merchant_id, books.time_zone, books.now, narrowed)
        blocks = stream(session, find(name), Format.CSV, asked)
        return list(csv.DictReader(io.StringIO(b"".join(blocks).decode(), newline="")))


def change(books: Books, statement: str) -> None:
    with unit_of_work(books.engine) as session:
        assert execute(session, statement) > 0


def minor(text: str) -> int:
    return int(text or 0)


def test_the_trial_balance_adds_up_to_nothing_in_every_currency(engine: Engine) -> None:
    books = full_books(engine)
    books.order("in dong", brought_by="ben", currency="VND")

    rows = rows_of(books, "trial-balance")

    sums: Counter[str] = Counter()
    for row in rows:
        sums[row["currency"]] += minor(row["closing_minor"])
    assert sums == {"USD": 0, "VND": 0}
    assert {row["currency"] for row in rows_of(books, "trial-balance", currency="VND")} == {"VND"}


def test_the_journal_is_the_postings_and_closes_with_the_trial_balance(engine: Engine) -> None:
    books = full_books(engine)

    journal, trial = rows_of(books, "journal"), rows_of(books, "trial-balance")

    moved: dict[str, int] = defaultdict(int)
    sides: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in journal:
        moved[row["account"]] += minor(row["debit_minor"]) - minor(row["credit_minor"])
        sides[row["number"]][0] += minor(row["debit_minor"])
        sides[row["number"]][1] += minor(row["credit_minor"])
    assert moved == {row["account"]: minor(row["closing_minor"]) for row in trial}
    assert all(debit == credit > 0 for debit, credit in sides.values())
    assert Counter(row["line"] for row in journal) == {"1": len(journal) / 2, "2": len(journal) / 2}


def test_the_journal_says_what_each_line_is_about(engine: Engine) -> None:
    books = full_books(engine)

    rows = rows_of(books, "journal")

    orders = {row["reference"] for row in rows if row["description"] == "Commission of an order"}
    assert orders == {
        "paid out",
        "paid out too",
        "part refunded",
        "in transit",
        "reserved",
        "payable",
        "pending",
        "held",
    }
    [sent] = [row for row in rows if row["description"] == "Payout sent" and row["account"] == "paid"]
    assert (sent["credit"], sent["account_code"], sent["account_name"]) == ("34.50", "1010", "Bank: payouts sent")
    assert sent["reference"].startswith("tr_")
    assert sent["affiliate_name"] == "Ann"
    assert all(row["account_code"] and row["affiliate_id"] for row in rows)
    assert {row["description"] for row in rows} == {
        "Commission of an order",
        "Commissions settled",
        "Put into a payout run",
        "Taken out of a payout run",
        "Payout handed to the rail",
        "Payout sent",
        "Payout carried forward",
        # An event that nobody has put into words.
        "paid to taxed_carry",
    }


def test_accounts_are_called_as_the_merchant_says(engine: Engine) -> None:
    books = full_books(engine)
    with unit_of_work(engine) as session:
        accounts = {"pending": {"code": "3351", "name": "Phải trả 100% 'KOC'"}}
        session.add(AccountingChartRow(merchant_id=books.merchant_id, accounts=accounts, updated_at=books.now))

    for name in ("journal", "trial-balance"):
        named = {row["account"]: (row["account_code"], row["account_name"]) for row in rows_of(books, name)}
        assert named["pending"] == ("3351", "Phải trả 100% 'KOC'")
        assert named["payable"] == ("2130", "Commissions payable")


def test_a_late_posting_names_the_closed_day_in_the_journal(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("in time", brought_by="ann")
    when = MerchantTime(books.now + timedelta(days=3), books.time_zone)
    today = books.when[books.merchant_id].day
    run_unit(engine, lambda session: close(session, books.merchant_id, until=today, when=when, by=books.merchant_id))

    books.order("late", brought_by="ann")

    told = {row["reference"]: (row["date"], row["meant_for"]) for row in rows_of(books, "journal")}
    assert told == {
        "in time": (today.isoformat(), ""),
        "late": ((today + timedelta(days=1)).isoformat(), today.isoformat()),
    }
    assert {row["reference"] for row in rows_of(books, "journal", to=today)} == {"in time"}


def ages(books: Books) -> dict[str, list[int]]:
    return {
        row["place"]: [minor(row[f"{bucket}_minor"]) for bucket in BUCKETS]
        for row in rows_of(books, "liability-ageing")
    }


def test_what_is_owed_by_age_is_what_the_balances_come_to(engine: Engine) -> None:
    books = full_books(engine)

    aged, balances = rows_of(books, "liability-ageing"), rows_of(books, "balances")

    total = {row["place"]: minor(row["total_minor"]) for row in aged}
    for place, account in {
        "pending": "pending",
        "held": "held",
        "payable": "payable",
        "reserved": "reserved",
        "in_transit": "in_transit",
        "carry": "carried",
    }.items():
        assert total.get(place, 0) == sum(minor(row[f"{account}_minor"]) for row in balances), place
    assert all(minor(row["total_minor"]) == sum(minor(row[f"{each}_minor"]) for each in BUCKETS) for row in aged)


def test_what_is_pending_is_as_old_as_its_order(engine: Engine) -> None:
    books = Books(engine).open()
    for days_ago, goods_minor in ((30, 10_000), (31, 200_000), (60, 30_000), (90, 4_000_000), (91, 50_000)):
        books.order(f"{days_ago}", brought_by="ann", days_ago=days_ago, goods_minor=goods_minor, paid=False)

    assert ages(books) == {"pending": [1_000, 23_000, 400_000, 5_000]}


def test_what_is_payable_is_as_old_as_its_settlement_and_the_oldest_leaves_first(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("old", brought_by="ann", goods_minor=10_000)
    books.settle()
    change(books, "UPDATE posting SET day = day - 100 WHERE event LIKE 'settle/%'")
    books.order("new", brought_by="ann", goods_minor=5_000)
    books.settle()

    before = ages(books)
    books.refund("new", 3_000)

    assert before == {"payable": [500, 0, 0, 1_000]}
    assert ages(books) == {"payable": [500, 0, 0, 700]}


@pytest.mark.parametrize("handed_over", [False, True], ids=["reserved", "in_transit"])
def test_what_is_in_a_run_was_owed_before_what_was_settled_since(engine: Engine, handed_over: bool) -> None:
    books = Books(engine).open()
    books.order("old", brought_by="ann", goods_minor=10_000)
    books.settle()
    change(books, "UPDATE posting SET day = day - 70 WHERE event LIKE 'settle/%'")
    _, item_id = books.reserve("ann")
    if handed_over:
        books.hand_over(item_id)
    books.order("new", brought_by="ann", goods_minor=5_000)
    books.settle()

    assert ages(books) == {
        "payable": [500, 0, 0, 0],
        "in_transit" if handed_over else "reserved": [0, 0, 1_000, 0],
    }


def test_a_release_makes_nothing_younger(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("old", brought_by="ann", goods_minor=10_000)
    books.settle()
    change(books, "UPDATE posting SET day = day - 40 WHERE event LIKE 'settle/%'")
    _, item_id = books.reserve("ann")

    books.release(item_id)

    assert ages(books) == {"payable": [0, 1_000, 0, 0]}


def test_what_came_back_is_as_old_as_its_coming_back(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("old", brought_by="ann", goods_minor=10_000)
    books.settle()
    _, item_id = books.reserve("ann")
    books.hand_over(item_id)
    books.accept(item_id)
    change(books, "UPDATE posting SET day = day - 100")
    books.give_back(item_id, 400)

    assert ages(books) == {"carry": [400, 0, 0, 0]}


def test_what_affiliates_owe_stands_apart_and_is_below_zero(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("1", brought_by="ann")
    books.settle()
    _, item_id = books.reserve("ann")
    books.hand_over(item_id)
    books.accept(item_id)
    books.refund("1", 4_000)
    books.order("2", brought_by="ben", goods_minor=6_000)
    books.settle()

    assert ages(books) == {"debt": [-400, 0, 0, 0], "payable": [600, 0, 0, 0]}


def test_days_are_given_both_included(engine: Engine) -> None:
    books = full_books(engine)
    today = books.when[books.merchant_id].day

    [one] = {row["date"] for row in rows_of(books, "journal", from_=today, to=today)}

    assert one == today.isoformat()
    assert rows_of(books, "journal", from_=date(2100, 1, 1)) == []
