"""Statements: they add up for any books, are numbered without gaps, never change, and are issued once."""

import ast
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.commissions.advance import give_due
from service.domain.correction import CorrectionKind
from service.domain.errors import Invalid
from service.domain.ledger import SLOTS, MerchantTime
from service.domain.order import Milestone
from service.domain.settlement import Approval, StatementSettlement
from service.domain.withholding.model import Duty, Key, Regime
from service.infra.db import execute, run_unit, unit_of_work
from service.infra.ids import encode, new_id
from service.payouts import correct, remit
from service.reports import issue as issuing
from service.reports.answer import ObjectionLate, StatementAccepted, StatementReplaced, answer
from service.reports.issue import PeriodNotOver, document_of
from service.reports.statement_books import Days
from service.tables.statements import (
    SelfBillingAgreementRow,
    StatementMark,
    StatementRow,
    StatementRunState,
    StatementSettingsRow,
)
from service.tables.taxes import TaxProfileRow
from tests.support.books import ten_percent
from tests.support.full_books import full_books
from tests.support.house import nodes, place, python_files
from tests.support.payouts import CHECKER, MAKER, Desk
from tests.support.statements import BY, SECURITY, Json, booked_days, issue, statements, wrong_with
from tests.support.told_shop import ToldShop, a_shop_with_everything

JULY = datetime(2026, 7, 10, 12, tzinfo=UTC)
NEXT_MONTH = MerchantTime(datetime(2026, 8, 3, 9, tzinfo=UTC), "UTC")
IN_JULY = Days(date(2026, 7, 1), date(2026, 7, 31))
LABOUR = "cn_labour_61_2018"


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Return a desk of July 2026."""
    return Desk.opened(engine, now=JULY)


def seal(desk: Desk, days: Days) -> None:
    """Close the books of days, as far as statements ask for it."""
    with unit_of_work(desk.engine) as session:
        execute(
            session,
            """
            INSERT INTO day_slot (merchant_id, day, slot, touched, sealed_at)
            SELECT :merchant_id, CAST(day AS date), slot, 0, now()
            FROM generate_series(CAST(:begins_on AS timestamp), CAST(:ends_on AS timestamp), interval '1 day') AS day
            CROSS JOIN generate_series(0, :slots - 1) AS slot
            ON CONFLICT (merchant_id, day, slot) DO UPDATE SET sealed_at = now()
            """,
            {"merchant_id": desk.merchant_id, "slots": SLOTS, **days.as_parameters()},
        )


def of_july(desk: Desk) -> list[StatementRow]:
    issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)
    return statements(desk.engine, desk.merchant_id)


def steps(row: StatementRow) -> dict[str, int]:
    return {step["step"]: step["amount_minor"] for step in row.document["waterfall"]}


# They add up.


def test_statements_of_books_with_something_of_everything_add_up(engine: Engine) -> None:
    books = full_books(engine)

    assert wrong_with(engine, books.merchant_id, time_zone=books.time_zone) == []


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_statements_of_a_whole_shop_add_up_wherever_it_is_cut(engine: Engine, cut: int) -> None:
    shop = a_shop_with_everything(engine)
    first, _ = booked_days(engine, shop.merchant_id)

    wrong = wrong_with(engine, shop.merchant_id, time_zone="UTC", cuts=[first + timedelta(days=cut - 1)] if cut else [])

    assert wrong == []
    told = {kind for row in statements(engine, shop.merchant_id) for kind in steps(row)}
    assert {"earned", "taken_back", "adjusted", "sent", "came_back"} < told


def test_advances_are_told_where_they_were_lent_and_netted(engine: Engine) -> None:
    shop = ToldShop(engine)
    late = StatementSettlement(Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL, advance=Fraction(1, 2))
    shop.books.version(2, ten_percent(settlement=late), valid_from=datetime(2020, 6, 1, tzinfo=UTC))
    shop.order("1", "1000.00", placed_at=datetime(2026, 5, 12, 9, tzinfo=UTC))
    shop.books.settle()
    give_due(engine, merchant_id=shop.merchant_id)
    lent_on = MerchantTime(shop.books.now, "UTC").day
    shop.books.advance(days=20)
    shop.decide("approve", "1", amount_minor=None)
    shop.books.settle()

    wrong = wrong_with(engine, shop.merchant_id, time_zone="UTC", cuts=[lent_on])

    lent, netted = statements(engine, shop.merchant_id)
    assert wrong == []
    assert [(other["kind"], other["amount_minor"], other.get("order_number")) for other in lent.document["others"]] == [
        ("advanced", 5_000, "1")
    ]
    assert [(other["kind"], other["amount_minor"]) for other in netted.document["others"]] == [("repaid", 5_000)]
    assert (lent.closing_minor, netted.opening_minor, netted.closing_minor) == (10_000, 10_000, 10_000)


def test_taxes_corrections_and_what_was_passed_on_are_told(engine: Engine) -> None:
    desk = Desk.opened(engine, currency="CNY", now=JULY)
    desk.declare("CN", Regime.CN_LABOUR)
    ann = desk.payee(600_000)
    desk.tax(ann, "CN")
    desk.work(desk.an_executing_run())
    key = Key(LABOUR, Duty.INCOME_TAX, "2026-07")
    asked = correct.Asked(
        merchant_id=desk.merchant_id,
        kind=CorrectionKind.UNTAX,
        payee_id=ann,
        currency="CNY",
        amount_minor=16_000,
        reason="too much",
        by=MAKER,
        key=key,
    )
    with unit_of_work(engine) as session:
        correction = correct.ask(session, asked, when=desk.when)
        correct.book(session, merchant_id=desk.merchant_id, correction_id=correction.id, by=CHECKER, when=desk.when)
        remit.remit(session, remit.Asked(desk.merchant_id, key, "CNY", "R-77", desk.when.day, MAKER), when=desk.when)

    [row] = of_july(desk)

    assert steps(row) == {
        "opening": 0,
        "untaxed": 16_000,
        "tax": -96_000,
        "sent": -504_000,
        # What the test's desk books without an order.
        "other": 600_000,
        "closing": 16_000,
    }
    [payout] = row.document["payouts"]
    assert payout["split"]["net_minor"] == 504_000
    assert payout["split"]["tax"]["parts"][0]["steps"]["target"] == 96_000
    told = {other["kind"]: other for other in row.document["others"]}
    assert (told["untaxed"]["correction"], told["untaxed"]["period"]) == ("untax", "2026-07")
    assert (told["remitted"]["reference"], told["remitted"]["amount_minor"]) == ("R-77", 80_000)
    assert wrong_with(engine, desk.merchant_id, time_zone="UTC") == []


def test_an_order_is_told_line_by_line_and_says_where_it_changed_after_the_period(engine: Engine) -> None:
    shop = ToldShop(engine)
    lines = [
        {"id": "1", "sku": "TEA", "quantity": 2, "net": "80.00"},
        {"id": "2", "sku": "MUG", "quantity": 1, "net": "20.00"},
    ]
    shop.order("1", lines=lines)
    shop.order("2", "50.00")
    shop.books.settle()
    first = Days(*booked_days(engine, shop.merchant_id))
    shop.books.advance(days=3)
    shop.refund("2", "50.00", "r-1")
    when = MerchantTime(shop.books.now, "UTC")

    issue(engine, shop.merchant_id, first, when=when)

    [row] = statements(engine, shop.merchant_id)
    told = {each["order_number"]: each for each in row.document["commissions"]}
    assert [(line["sku"], line["base_minor"], line["commission_minor"]) for line in told["1"]["receipt"]["lines"]] == [
        ("TEA", 8_000, 800),
        ("MUG", 2_000, 200),
    ]
    assert (told["1"]["effect_minor"], told["1"]["settled_minor"], told["1"]["explained"]) == (1_000, 1_000, True)
    assert (told["2"]["total_minor"], told["2"]["receipt"]["target_minor"], told["2"]["explained"]) == (500, 0, False)
    assert steps(row) == {"opening": 0, "earned": 1_500, "closing": 1_500}


# Once, and for ever.


def test_numbers_follow_one_another_and_begin_anew_with_the_year(desk: Desk) -> None:
    for _ in range(3):
        desk.payee(100)

    of_july(desk)
    desk.earn(desk.payee(), 50)
    new_year = MerchantTime(datetime(2027, 1, 2, tzinfo=UTC), "UTC")
    issue(desk.engine, desk.merchant_id, Days(date(2026, 7, 1), date(2026, 7, 30)), when=new_year)

    numbers = [row.document["number"] for row in statements(desk.engine, desk.merchant_id)]
    assert numbers == [f"2026-00000{n}" for n in (1, 2, 3)] + [f"2027-00000{n}" for n in (1, 2, 3, 4)]


def test_a_clock_that_is_behind_at_the_turn_of_the_year_goes_on_in_the_new_one(desk: Desk) -> None:
    desk.payee(100)
    issue(desk.engine, desk.merchant_id, IN_JULY, when=MerchantTime(datetime(2027, 1, 1, 0, 1, tzinfo=UTC), "UTC"))
    behind = MerchantTime(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "UTC")

    issue(desk.engine, desk.merchant_id, Days(date(2026, 7, 2), date(2026, 7, 31)), when=behind)

    assert [row.document["number"] for row in statements(desk.engine, desk.merchant_id)] == [
        "2027-000001",
        "2027-000002",
    ]


def test_the_same_days_are_told_once(desk: Desk) -> None:
    desk.payee(100)
    before = [row.digest for row in of_july(desk)]

    again = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)

    assert (again.state, again.issued, again.kept) == (StatementRunState.DONE, 0, 1)
    assert [row.digest for row in statements(desk.engine, desk.merchant_id)] == before


def test_what_was_booked_before_the_days_is_no_reason_for_another_one(desk: Desk) -> None:
    desk.payee(100)
    in_late_july = Days(date(2026, 7, 20), date(2026, 7, 31))
    ann = desk.rows("SELECT id FROM affiliate WHERE merchant_id = :merchant_id")[0].id
    desk.later(days=12)
    desk.earn(ann, 5)
    issue(desk.engine, desk.merchant_id, in_late_july, when=NEXT_MONTH)

    again = issue(desk.engine, desk.merchant_id, in_late_july, when=NEXT_MONTH)

    [row] = statements(desk.engine, desk.merchant_id)
    assert (again.issued, again.kept) == (0, 1)
    assert steps(row) == {"opening": 100, "other": 5, "closing": 105}


def test_something_booked_before_the_days_is_one(desk: Desk) -> None:
    ann = desk.payee(100)
    last_days = Days(date(2026, 7, 20), date(2026, 7, 31))
    issue(desk.engine, desk.merchant_id, last_days, when=NEXT_MONTH, affiliate_ids=[ann])
    desk.earn(ann, -1)

    again = issue(desk.engine, desk.merchant_id, last_days, when=NEXT_MONTH, affiliate_ids=[ann])

    assert (again.issued, again.kept) == (1, 0)
    assert [row.opening_minor for row in statements(desk.engine, desk.merchant_id)] == [100, 99]


@pytest.mark.parametrize(
    ("sealed", "is_final"),
    [
        pytest.param(Days(date(2026, 7, 10), date(2026, 7, 31)), True, id="from the merchant's first day on"),
        pytest.param(Days(date(2026, 7, 1), date(2026, 8, 2)), True, id="and more"),
        pytest.param(Days(date(2026, 7, 11), date(2026, 7, 31)), False, id="without its first day"),
        pytest.param(Days(date(2026, 7, 1), date(2026, 7, 30)), False, id="without the last day"),
    ],
)
def test_a_statement_is_final_where_every_day_is_sealed(desk: Desk, sealed: Days, *, is_final: bool) -> None:
    desk.payee(100)
    seal(desk, sealed)

    [row] = of_july(desk)

    assert (row.provisional, row.document["provisional"]) == (not is_final, not is_final)


def test_one_row_of_a_day_that_is_open_leaves_it_provisional(desk: Desk) -> None:
    desk.payee(100)
    seal(desk, IN_JULY)
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE day_slot SET sealed_at = NULL WHERE day = '2026-07-31' AND slot = 15")

    assert [row.provisional for row in of_july(desk)] == [True]


def test_two_who_issue_at_once_number_each_statement_once(desk: Desk) -> None:
    for _ in range(8):
        desk.payee(100)

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH), range(4)))

    issued = statements(desk.engine, desk.merchant_id)
    assert sorted(run.issued for run in runs) == [0, 0, 0, 8]
    assert [row.number for row in issued] == list(range(1, 9))
    assert len({row.affiliate_id for row in issued}) == 8


def test_a_statement_of_sealed_days_is_final_and_what_comes_late_stands_in_the_next(desk: Desk) -> None:
    ann = desk.payee(100)
    seal(desk, IN_JULY)
    [july] = of_july(desk)
    # Told for July after it was closed: booked on the first open day.
    desk.earn(ann, -30)
    again = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)
    august = MerchantTime(datetime(2026, 9, 1, tzinfo=UTC), "UTC")
    issue(desk.engine, desk.merchant_id, Days(date(2026, 8, 1), date(2026, 8, 31)), when=august)

    [kept, following] = statements(desk.engine, desk.merchant_id)
    assert not july.provisional
    assert (again.issued, again.kept) == (0, 1)
    assert kept.digest == july.digest
    assert steps(following) == {"opening": 100, "other": -30, "closing": 70}


def test_a_provisional_statement_is_confirmed_when_its_days_are_sealed_and_nothing_came(desk: Desk) -> None:
    desk.payee(100)
    [row] = of_july(desk)
    seal(desk, IN_JULY)

    again = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)
    issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)

    marks = desk.rows("SELECT statement_id, kind FROM statement_mark WHERE merchant_id = :merchant_id")
    assert row.provisional
    assert (again.issued, again.kept) == (0, 1)
    assert [(mark.statement_id, mark.kind) for mark in marks] == [(row.id, "confirmed")]


def test_a_provisional_statement_is_replaced_where_something_was_booked_since(desk: Desk) -> None:
    ann = desk.payee(100)
    [first] = of_july(desk)
    desk.earn(ann, -30)

    again = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)

    [kept, second] = statements(desk.engine, desk.merchant_id)
    assert (again.issued, again.kept) == (1, 0)
    assert (kept.digest, kept.document) == (first.digest, first.document)
    assert (second.revision, second.replaces_id, second.document["replaces"]) == (2, first.id, "2026-000001")
    assert (first.closing_minor, second.closing_minor) == (100, 70)


def test_days_that_are_not_over_are_refused(desk: Desk) -> None:
    desk.payee(100)
    last_day = MerchantTime(datetime(2026, 7, 31, 23, 59, tzinfo=UTC), "UTC")

    with pytest.raises(PeriodNotOver, match="2026-07-31"):
        issue(desk.engine, desk.merchant_id, IN_JULY, when=last_day)
    with pytest.raises(Invalid):
        issue(desk.engine, desk.merchant_id, Days(date(2026, 7, 2), date(2026, 7, 1)), when=NEXT_MONTH)
    with pytest.raises(Invalid):
        issue(desk.engine, desk.merchant_id, Days(date(2025, 7, 1), date(2026, 7, 2)), when=NEXT_MONTH)

    # In Shanghai the day is over already.
    issue(desk.engine, desk.merchant_id, IN_JULY, when=MerchantTime(last_day.now, "Asia/Shanghai"))
    assert len(statements(desk.engine, desk.merchant_id)) == 1


def test_who_is_asked_for_gets_one_also_where_nothing_moved(desk: Desk) -> None:
    ann, ben = desk.payee(100), desk.payee(200)
    nobody = desk.payee()
    in_august, when = Days(date(2026, 8, 1), date(2026, 8, 2)), NEXT_MONTH

    of_all = issue(desk.engine, desk.merchant_id, in_august, when=when)
    of_some = issue(desk.engine, desk.merchant_id, in_august, when=when, affiliate_ids=[ann, nobody])
    in_euro = issue(desk.engine, desk.merchant_id, IN_JULY, when=when, currency="EUR")

    assert (of_all.issued, of_some.issued, in_euro.issued) == (0, 1, 0)
    [row] = statements(desk.engine, desk.merchant_id)
    assert (row.affiliate_id, row.opening_minor, row.closing_minor) == (ann, 100, 100)
    assert row.document["commissions"] == row.document["payouts"] == row.document["others"] == []
    assert row.affiliate_id != ben


def test_many_are_issued_page_by_page_by_a_worker_that_may_die(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(7):
        desk.payee(100)
    monkeypatch.setattr(issuing, "AT_ONCE_MAX", 3)
    monkeypatch.setattr(issuing, "ACCOUNTS_AT_ONCE", 3)
    asked = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)
    jobs = desk.rows("SELECT kind, subject FROM job WHERE merchant_id = :merchant_id")
    assert (asked.state, asked.accounts_total, asked.issued) == (StatementRunState.QUEUED, 7, 0)
    assert [(job.kind, job.subject) for job in jobs] == [("statements", str(asked.id))]
    move_clock(desk, NEXT_MONTH.now)

    def go_on(*, pages: int = 99) -> bool:
        left = iter([True] * (pages - 1))
        return issuing.advance(
            desk.engine, SECURITY, merchant_id=desk.merchant_id, run_id=asked.id, go_on=lambda: next(left, False)
        )

    class Died(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    assert go_on(pages=1)
    with monkeypatch.context() as patched:
        patched.setattr(issuing, "emit", die)
        with pytest.raises(Died):
            go_on()
    assert [row.number for row in statements(desk.engine, desk.merchant_id)] == [1, 2, 3]
    assert not go_on()
    assert not go_on()

    [run] = desk.rows("SELECT state, accounts_done, issued FROM statement_run WHERE merchant_id = :merchant_id")
    assert (run.state, run.accounts_done, run.issued) == ("done", 7, 7)
    assert [row.number for row in statements(desk.engine, desk.merchant_id)] == list(range(1, 8))
    assert desk.events().count("statement.issued") == 7


def move_clock(desk: Desk, to: datetime) -> None:
    with unit_of_work(desk.engine) as session:
        execute(
            session,
            "UPDATE merchant SET clock_offset_s = greatest(0, CAST(extract(epoch FROM CAST(:to AS timestamptz) - now()) AS bigint))"
            " WHERE id = :id",
            {"to": to, "id": desk.merchant_id},
        )


def test_a_page_ends_early_where_accounts_moved_often_and_none_is_divided(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        payee = desk.payee(100)
        for _ in range(number):
            desk.earn(payee, 1)
    monkeypatch.setattr(issuing, "LEGS_AT_ONCE", 2)

    run = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)

    assert (run.state, run.issued, run.accounts_done) == (StatementRunState.DONE, 3, 3)
    assert [len(row.document["others"]) for row in statements(desk.engine, desk.merchant_id)] == [1, 2, 3]


def test_a_run_that_cannot_be_finished_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.payee(100)
    monkeypatch.setattr(issuing, "AT_ONCE_MAX", 0)
    asked = issue(desk.engine, desk.merchant_id, IN_JULY, when=NEXT_MONTH)

    run_unit(
        desk.engine,
        lambda session: issuing.fail(
            session, merchant_id=desk.merchant_id, run_id=asked.id, detail="no luck", now=NEXT_MONTH.now
        ),
    )

    assert not issuing.advance(desk.engine, SECURITY, merchant_id=desk.merchant_id, run_id=asked.id, go_on=lambda: True)
    [run] = desk.rows("SELECT state, error_detail FROM statement_run WHERE merchant_id = :merchant_id")
    assert (run.state, run.error_detail) == ("failed", "no luck")


# What is invoiced.


def bill(desk: Desk, payee_id: UUID, *, agreed: bool = True, on: date = date(2026, 7, 1)) -> None:
    """Let the merchant invoice for itself, and a payee agree to it."""
    person = {"legal_name": "Trần Thị An", "vat_id": "DE123456789", "street": "Hauptstr. 1", "postcode": "10115"}
    profile = TaxProfileRow(
        merchant_id=desk.merchant_id,
        id=new_id(),
        affiliate_id=payee_id,
        kind="individual",
        country="DE",
        person=SECURITY.encrypt(json.dumps(person).encode(), purpose="tax-person"),
        recorded_by=MAKER,
        recorded_at=desk.now,
    )
    with unit_of_work(desk.engine) as session:
        session.merge(
            StatementSettingsRow(
                merchant_id=desk.merchant_id,
                legal_name="Shop GmbH",
                address="Weg 2\n20095 Hamburg",
                vat_id="DE999",
                self_billing=True,
                vat_note="Reverse charge",
                answer_days=10,
                updated_at=desk.now,
            )
        )
        session.add(profile)
        session.add(
            SelfBillingAgreementRow(
                merchant_id=desk.merchant_id,
                id=new_id(),
                affiliate_id=payee_id,
                agreed=agreed,
                agreed_on=on,
                reference="contract 7",
                recorded_by=MAKER,
                recorded_at=desk.now,
            )
        )
        session.flush()
        execute(
            session,
            "UPDATE affiliate SET tax_profile_id = :profile WHERE merchant_id = :merchant_id AND id = :id",
            {"profile": profile.id, "merchant_id": desk.merchant_id, "id": payee_id},
        )


def billing(row: StatementRow) -> Json | None:
    told: Json | None = document_of(row, SECURITY)["self_billing"]
    return told


def test_who_agreed_is_invoiced_with_its_name_and_vat_id_kept_encrypted(desk: Desk) -> None:
    ann, ben = desk.payee(100), desk.payee(200)
    bill(desk, ann)

    first, second = of_july(desk)

    assert billing(first) == {
        "agreed_on": "2026-07-01",
        "reference": "contract 7",
        "amount_minor": 100,
        "vat_note": "Reverse charge",
        "supplier": {
            "name": "Trần Thị An",
            "vat_id": "DE123456789",
            "street": "Hauptstr. 1",
            "postcode": "10115",
            "town": None,
            "country": None,
        },
    }
    assert (first.affiliate_id, first.self_billed, first.answer_by) == (ann, True, date(2026, 8, 13))
    assert (second.affiliate_id, second.self_billed, billing(second)) == (ben, False, None)
    assert first.document["merchant"]["name"] == "Shop GmbH"
    stored = desk.rows("SELECT CAST(statement AS text) AS row FROM statement WHERE merchant_id = :merchant_id")
    assert not [row for row in stored if "DE123456789" in row.row or "Trần" in row.row]


def test_who_agrees_no_more_or_only_later_is_not_invoiced(desk: Desk) -> None:
    ann, ben = desk.payee(100), desk.payee(100)
    bill(desk, ann)
    bill(desk, ann, agreed=False)
    bill(desk, ben, on=date(2026, 8, 4))

    assert [row.self_billed for row in of_july(desk)] == [False, False]


def test_no_day_is_invoiced_twice(desk: Desk) -> None:
    ann, ben = desk.payee(100), desk.payee(100)
    bill(desk, ann)
    of_july(desk)
    first_half = Days(date(2026, 7, 1), date(2026, 7, 15))

    run = issue(desk.engine, desk.merchant_id, first_half, when=NEXT_MONTH)

    assert (run.issued, run.left_out_total) == (1, 1)
    assert run.left_out == [{"affiliate_id": encode("aff", ann), "currency": "USD", "reason_code": "billed_already"}]
    assert statements(desk.engine, desk.merchant_id)[-1].affiliate_id == ben


# What is said to them.


def say(desk: Desk, row: StatementRow, kind: StatementMark, *, on: date = date(2026, 8, 10), note: str = "") -> None:
    when = MerchantTime(datetime(on.year, on.month, on.day, 12, tzinfo=UTC), "UTC")
    with unit_of_work(desk.engine) as session:
        found = session.get_one(StatementRow, (row.merchant_id, row.id))
        answer(session, found, kind, note=note, by=BY, when=when)


def said(desk: Desk) -> list[tuple[str, str]]:
    rows = desk.rows("SELECT kind, note FROM statement_mark WHERE merchant_id = :merchant_id ORDER BY marked_at, kind")
    return [(row.kind, row.note) for row in rows]


def test_an_objection_and_an_acceptance_are_kept_once_and_told(desk: Desk) -> None:
    desk.payee(100)
    [row] = of_july(desk)

    say(desk, row, StatementMark.OBJECTED, note="order 7 is missing")
    say(desk, row, StatementMark.OBJECTED, note="and order 8")
    say(desk, row, StatementMark.ACCEPTED, on=date(2026, 10, 1))
    say(desk, row, StatementMark.ACCEPTED, on=date(2026, 10, 2))

    assert said(desk) == [("objected", "order 7 is missing"), ("accepted", "")]
    assert desk.events()[-3:] == ["statement.issued", "statement.objected", "statement.accepted"]
    payloads = desk.rows("SELECT payload FROM outbox WHERE merchant_id = :merchant_id AND type LIKE 'statement.%'")
    assert not [each for each in payloads if "missing" in json.dumps(each.payload)]


def test_an_objection_comes_in_time_and_before_an_acceptance(desk: Desk) -> None:
    desk.payee(100)
    desk.payee(100)
    first, second = of_july(desk)
    say(desk, first, StatementMark.OBJECTED, on=first.answer_by)
    say(desk, second, StatementMark.ACCEPTED)

    with pytest.raises(StatementAccepted):
        say(desk, second, StatementMark.OBJECTED)
    assert first.answer_by == date(2026, 8, 17)


def test_an_objection_is_refused_when_it_is_late(desk: Desk) -> None:
    desk.payee(100)
    [row] = of_july(desk)

    with pytest.raises(ObjectionLate, match="2026-08-17"):
        say(desk, row, StatementMark.OBJECTED, on=date(2026, 8, 18))
    assert said(desk) == []


def test_a_replaced_statement_is_answered_no_more(desk: Desk) -> None:
    ann = desk.payee(100)
    [row] = of_july(desk)
    desk.earn(ann, 1)
    of_july(desk)

    with pytest.raises(StatementReplaced, match="2026-000002"):
        say(desk, row, StatementMark.ACCEPTED)


def test_statements_are_only_ever_added_to() -> None:
    changed = [
        place(path, node)
        for path in python_files("service")
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"\b(UPDATE|DELETE FROM|TRUNCATE)\s+(statement|statement_mark)\b", node.value)
    ]

    assert changed == []
