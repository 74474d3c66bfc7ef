"""Reports: what their rows say, to the minor unit, and that no cell can harm whoever opens them."""

import csv
import io
from datetime import date, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from service.infra.db import read_session, unit_of_work
from service.infra.ids import encode, new_id
from service.reports.define import Filter, FilterUnknown, Format, Kind, Report
from service.reports.registry import REPORTS, UnknownReport, find
from service.reports.render_csv import BLOCK_BYTES
from service.reports.stream import Asked, stream
from tests.support.full_books import Books, full_books
from tests.support.reconciled import Matched, bank_file

Row = dict[str, str]


def header(report: Report) -> list[str]:
    """The cells of a row by name, in order."""
    return [name for column in report.columns for name in column.cells]


def _rows(books: Books, name: str, **filters: date | str | UUID) -> list[Row]:
    with read_session(books.engine) as session:
        narrowed = {Filter(key.rstrip("_")): value for key, value in filters.items()}
        asked = Asked(books.merchant_id, books.time_zone, books.now, narrowed)
        content = b"".join(stream(session, find(name), Format.CSV, asked)).decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


def _by_number(rows: list[Row]) -> dict[str, Row]:
    return {row["order_external_id"]: row for row in rows}


def lay_a_file_beside(books: Books) -> None:
    """Let a reconciliation find something."""
    day = date(2026, 11, 20)
    bank = bank_file({"amount": "1.00", "reference": "=nobody's"})
    Matched.of(books.engine, books.merchant_id, begins_on=day, until=day, bank=bank).run()


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_the_columns_its_definition_names(engine: Engine, name: str) -> None:
    books = full_books(engine)
    lay_a_file_beside(books)

    rows = _rows(books, name)

    assert rows
    assert list(rows[0]) == header(find(name))
    assert all(column.description.endswith(".") for column in find(name).columns)


def test_commissions_stand_in_the_places_they_reached(engine: Engine) -> None:
    books = full_books(engine)

    rows = _by_number(_rows(books, "commissions"))

    assert {name: (row["status"], row["target"]) for name, row in rows.items()} == {
        "paid out": ("paid", "20.00"),
        "paid out too": ("paid", "7.03"),
        "part refunded": ("paid", "7.50"),
        "in transit": ("in_payout", "5.00"),
        "reserved": ("in_payout", "6.00"),
        "payable": ("payable", "4.00"),
        "pending": ("approved", "3.00"),
        "held": ("held", "8.00"),
    }
    assert rows["held"]["reason_code"] == "hold_open"
    assert rows["paid out"]["paid_minor"] == "2000"
    assert rows["payable"]["payable_minor"] == "400"


def test_the_places_of_each_commission_add_up_to_its_target(engine: Engine) -> None:
    books = full_books(engine)

    for row in _rows(books, "commissions"):
        places = ("pending", "held", "payable", "in_payout", "paid")
        assert sum(int(row[f"{place}_minor"]) for place in places) == int(row["target_minor"])


def test_payouts_tell_what_was_taken_sent_and_came_back(engine: Engine) -> None:
    books = full_books(engine)

    rows = _rows(books, "payouts")

    assert [
        (row["affiliate_external_id"], row["state"], row["gross"], row["net"], row["came_back"]) for row in rows
    ] == [
        ("ann", "released", "37.03", "37.03", "0.00"),
        ("ann", "part_reversed", "34.53", "34.50", "1.00"),
        ("ben", "sending", "5.00", "5.00", "0.00"),
        ("ann", "approved", "6.00", "7.03", "0.00"),
    ]
    assert rows[3]["carried"] == "1.03"
    assert rows[1]["remainder_minor"] == "3"


def test_balances_add_up_to_what_was_earned(engine: Engine) -> None:
    books = full_books(engine)

    rows = _rows(books, "balances")

    assert {row["affiliate_external_id"]: row["earned"] for row in rows} == {"ann": "48.53", "ben": "12.00"}
    assert {row["affiliate_external_id"]: row["held"] for row in rows} == {"ann": "8.00", "ben": "0.00"}


def test_ids_are_those_of_the_api(engine: Engine) -> None:
    books = full_books(engine)

    rows = _rows(books, "balances")

    assert {row["affiliate_id"] for row in rows} == {encode("aff", each) for each in books.affiliates.values()}


def test_any_id_is_written_as_the_api_writes_it(engine: Engine) -> None:
    books = Books(engine, affiliates={"max": UUID(int=2**128 - 1), "min": UUID(int=0), "any": new_id()}).open()
    for name in books.affiliates:
        books.order(f"of {name}", brought_by=name)

    rows = _rows(books, "commissions")

    assert {row["affiliate_external_id"]: row["affiliate_id"] for row in rows} == {
        name: encode("aff", affiliate_id) for name, affiliate_id in books.affiliates.items()
    }


@pytest.mark.parametrize(
    ("currency", "written"), [("USD", "123.45"), ("VND", "12345"), ("KWD", "12.345"), ("CLF", "1.2345")]
)
def test_amounts_have_the_decimals_of_their_currency(engine: Engine, currency: str, written: str) -> None:
    books = Books(engine).open()
    books.order("1", brought_by="ann", goods_minor=123_450, currency=currency)

    [row] = _rows(books, "commissions")

    assert (row["target_minor"], row["target"], row["currency"]) == ("12345", written, currency)


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＠SUM(A1)", '=HYPERLINK("http://x")']
)
def test_no_cell_is_read_as_a_formula(engine: Engine, name: str) -> None:
    books = full_books(engine)
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE affiliate SET name = :name WHERE external_id = 'ann'"), {"name": name})

    rows = _rows(books, "balances")

    assert {row["affiliate_name"] for row in rows} == {f"'{name}", "Ben"}


def test_an_amount_below_zero_stays_a_number(engine: Engine) -> None:
    books = Books(engine).open()
    books.order("1", brought_by="ann")
    books.settle()
    _, item_id = books.reserve("ann")
    books.hand_over(item_id)
    books.accept(item_id)
    books.refund("1", 4_000)

    [commission], [balance] = _rows(books, "commissions"), _rows(books, "balances")

    assert (commission["payable"], commission["paid"], commission["target"]) == ("-4.00", "10.00", "6.00")
    assert commission["status"] == "payable"
    assert balance["payable_minor"] == "-400"


def test_a_name_with_every_awkward_character_comes_back_whole(engine: Engine) -> None:
    books = full_books(engine)
    name = 'Ann, "the" KOC\nof 深圳 \\N \\.'
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE affiliate SET name = :name WHERE external_id = 'ann'"), {"name": name})

    assert name in {row["affiliate_name"] for row in _rows(books, "balances")}


def test_days_are_those_of_the_merchant(engine: Engine) -> None:
    books = Books(engine, time_zone="Asia/Tokyo").open()
    books.order("1", brought_by="ann", days_ago=20)
    placed_at = books.now - timedelta(days=20)
    day = (placed_at + timedelta(hours=9)).date()

    assert len(_rows(books, "commissions", from_=day, to=day)) == 1
    assert _rows(books, "commissions", from_=day + timedelta(days=1)) == []
    assert _rows(books, "commissions", to=day - timedelta(days=1)) == []


def test_reports_are_narrowed_by_currency_and_run(engine: Engine) -> None:
    books = full_books(engine)
    books.order("in dong", brought_by="ben", currency="VND")
    run_ids = {row["run_id"]: row["payout_id"] for row in _rows(books, "payouts")}
    with read_session(engine) as session:
        sent = session.execute(
            text("SELECT run_id FROM payout_item WHERE NOT live AND released_at IS NULL")
        ).scalar_one()

    assert set(_by_number(_rows(books, "commissions", currency="VND"))) == {"in dong"}
    assert {row["currency"] for row in _rows(books, "balances", currency="VND")} == {"VND"}
    assert len(run_ids) == 4
    assert [row["state"] for row in _rows(books, "payouts", run_id=sent)] == ["part_reversed"]
    # The item that was sent owns the refund; what it covers settled under the released one.
    assert set(_by_number(_rows(books, "commissions", run_id=sent))) == {"part refunded"}


def test_a_filter_that_a_report_does_not_know_is_refused(engine: Engine) -> None:
    books = Books(engine).open()

    with pytest.raises(FilterUnknown, match="balances does not know from"):
        _rows(books, "balances", from_=date(2026, 11, 1))


def test_an_unknown_report_names_those_there_are() -> None:
    with pytest.raises(UnknownReport, match="commissions, payouts, balances"):
        find("profits")


def test_another_merchant_s_rows_are_in_no_report(engine: Engine) -> None:
    full_books(engine)
    other = Books(engine).open()

    assert all(_rows(other, name) == [] for name in REPORTS)


def test_a_long_report_comes_in_blocks_and_can_be_left(engine: Engine) -> None:
    books = full_books(engine)
    with unit_of_work(engine) as session:
        session.execute(
            text(
                """
                INSERT INTO affiliate SELECT (jsonb_populate_record(affiliate, jsonb_build_object(
                    'id', md5(number::text), 'external_id', number))).*
                FROM affiliate, generate_series(1, 2000) AS number WHERE external_id = 'ann'
                """
            )
        )
        session.execute(
            text(
                """
                INSERT INTO balance SELECT merchant_id, id, 'paid', 'USD', 1, 1 FROM affiliate
                WHERE external_id NOT IN ('ann', 'ben')
                """
            )
        )

    with read_session(engine) as session:
        blocks = stream(session, find("balances"), Format.CSV, Asked(books.merchant_id, books.time_zone, books.now, {}))
        first = next(blocks)
        blocks.close()
        session.rollback()
        again = session.execute(text("SELECT 1")).scalar_one()

    assert len(first) >= BLOCK_BYTES
    assert again == 1


def test_money_columns_come_in_pairs() -> None:
    for report in REPORTS.values():
        money = [column.name for column in report.columns if column.kind is Kind.MONEY]
        assert {f"{name}_minor" for name in money} <= set(header(report))


def test_what_the_funders_bear_is_what_the_commissions_come_to(engine: Engine) -> None:
    books = full_books(engine)

    earned = sum(int(row["target_minor"]) for row in _rows(books, "commissions", currency="USD"))
    borne = _rows(books, "funders", currency="USD")

    assert {row["funder"] for row in borne} == {"merchant"}
    assert sum(int(row["earned_minor"]) for row in borne) == earned > 0
