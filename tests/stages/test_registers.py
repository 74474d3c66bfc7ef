"""Registers for filing: who stands in each, with which figures, and that they add up to what the books say."""

import csv
import io
import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.correction import CorrectionKind
from service.domain.ledger import AccountKind
from service.domain.withholding.forms import PERSON
from service.domain.withholding.model import Duty, Key, Mode, PayeeKind, Regime
from service.domain.wording.languages import Language
from service.domain.wording.withholding import TO_BE_CONFIRMED
from service.infra.db import execute, read_session, unit_of_work
from service.infra.ids import encode, new_id
from service.payouts import correct, remit
from service.payouts.withhold import lock_bases
from service.reports.registers import (
    CN_QUARTERLY,
    DAC7,
    REGISTERS,
    US_1042_S,
    US_1099_NEC,
    VN_YEARLY,
    PeriodUnfit,
    Register,
    UnknownRegister,
    find,
)
from service.reports.render_register import render
from service.tables.taxes import TaxEntryKind, TaxEntryRow, TaxProfileRow
from tests.support.payouts import CHECKER, MAKER, Desk

JULY = datetime(2026, 7, 10, 12, tzinfo=UTC)
INDIVIDUAL, HOUSEHOLD, COMPANY = PayeeKind.INDIVIDUAL, PayeeKind.HOUSEHOLD, PayeeKind.COMPANY
SOMEBODY = {
    "legal_name": "NGUYEN THI LAN",
    "tax_code": "8012345678",
    "born_on": "1999-01-02",
    "street": "1 Hang Bac",
    "town": "Hanoi",
    "country": "VN",
}

Row = dict[str, str]


def opened(engine: Engine, currency: str) -> Desk:
    return Desk.opened(engine, currency=currency, now=JULY)


def payee(
    desk: Desk,
    name: str,
    country: str,
    *,
    kind: PayeeKind = INDIVIDUAL,
    tax_code: bool = True,
    person: dict[str, str] | None = SOMEBODY,
    **details: Any,
) -> UUID:
    """A payee with an external id and a tax profile; the regime of its country decides what is withheld."""
    payee_id = desk.payee()
    desk.change(payee_id, external_id=name, name=name.capitalize())
    profile(desk, payee_id, country, kind=kind, tax_code=tax_code, person=person, **details)
    return payee_id


def profile(
    desk: Desk,
    payee_id: UUID,
    country: str,
    *,
    kind: PayeeKind = INDIVIDUAL,
    tax_code: bool = True,
    person: dict[str, str] | None = SOMEBODY,
    **details: Any,
) -> None:
    row = TaxProfileRow(
        merchant_id=desk.merchant_id,
        id=new_id(),
        affiliate_id=payee_id,
        kind=kind,
        country=country,
        details=details,
        person=None if person is None else desk.security.encrypt(json.dumps(person).encode(), purpose=PERSON),
        tax_code_hint="…678" if tax_code else None,
        recorded_by=MAKER,
        recorded_at=desk.now,
    )
    with unit_of_work(desk.engine) as session:
        session.add(row)
    desk.change(payee_id, tax_rule="regime", tax_profile_id=row.id)


def paid(desk: Desk, payee_id: UUID, *amounts: int) -> None:
    for amount in amounts:
        desk.earn(payee_id, amount)
        desk.work(desk.an_executing_run(payee_id))


def opening(desk: Desk, payee_id: UUID, key: Key, *, base: int, tax: int = 0) -> None:
    with unit_of_work(desk.engine) as session:
        lock_bases(session, desk.merchant_id, [(payee_id, key.rule)])
        session.add(
            TaxEntryRow(
                merchant_id=desk.merchant_id,
                id=new_id(),
                kind=TaxEntryKind.OPENING,
                payee_id=payee_id,
                rule=key.rule,
                duty=key.duty,
                period=key.period,
                currency=desk.currency,
                base_minor=base,
                tax_minor=tax,
                booked_on=desk.when.day,
                note="told",
                recorded_by=MAKER,
                created_at=desk.now,
            )
        )


def untaxed(desk: Desk, payee_id: UUID, key: Key, amount: int, *, base: int = 0) -> None:
    """Let one person ask for a withholding to be undone, and another book it."""
    asked = correct.Asked(
        merchant_id=desk.merchant_id,
        kind=CorrectionKind.UNTAX,
        payee_id=payee_id,
        currency=desk.currency,
        amount_minor=amount,
        reason="by mistake",
        by=MAKER,
        key=key,
        base_minor=base,
    )
    with unit_of_work(desk.engine) as session:
        row = correct.ask(session, asked, when=desk.when)
    desk.do(correct.book, correction_id=row.id, by=CHECKER, when=desk.when)


def text_of(desk: Desk, register: Register, quarter: int | None = None, year: int = 2026, **changes: Any) -> str:
    today = changes.get("today", desk.when.day)
    with read_session(desk.engine) as session:
        blocks = render(
            session,
            register,
            register.period(year, quarter, today=today),
            merchant_id=desk.merchant_id,
            today=today,
            language=changes.get("language", Language.EN),
            security=desk.security,
        )
        return b"".join(blocks).decode()


def rows_of(desk: Desk, register: Register, quarter: int | None = None, year: int = 2026, **changes: Any) -> list[Row]:
    written = text_of(desk, register, quarter, year, **changes)
    return list(csv.DictReader(io.StringIO(written, newline="")))


def told(rows: list[Row], *names: str) -> dict[str, tuple[str, ...]]:
    """The cells of these names, by who the row is about."""
    found = {row["affiliate_external_id"]: tuple(row[name] for name in names) for row in rows}
    assert len(found) == len(rows)
    return found


# Vietnam.


def test_vietnam_lists_everybody_who_was_paid_but_not_who_declares_itself(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    paid(desk, payee(desk, "lan", "VN", resident=True), 6_000_000, 1_000_000)
    paid(desk, payee(desk, "low", "VN", resident=True), 1_000_000)
    paid(desk, payee(desk, "bound", "VN", resident=True, commitment_08_until=2026), 20_000_000)
    paid(desk, payee(desk, "abroad", "VN", resident=False), 3_000_000)
    paid(desk, payee(desk, "shop", "VN", kind=HOUSEHOLD, resident=True), 10_000_000)
    paid(desk, payee(desk, "stall", "VN", kind=HOUSEHOLD, tax_code=False, person=None, resident=True), 5_000_000)
    paid(desk, payee(desk, "company", "VN", kind=COMPANY), 9_000_000)
    payee(desk, "unpaid", "VN", resident=True)

    rows = rows_of(desk, VN_YEARLY)

    assert told(rows, "income_minor", "tax", "check", "missing", "legal_name", "tax_code") == {
        "lan": ("7000000", "600000", "", "", "NGUYEN THI LAN", "8012345678"),
        "low": ("1000000", "0", "", "", "NGUYEN THI LAN", "8012345678"),
        "bound": ("20000000", "0", "", "", "NGUYEN THI LAN", "8012345678"),
        "abroad": ("3000000", "600000", "", "", "NGUYEN THI LAN", "8012345678"),
        "stall": ("5000000", "500000", "", "name tin", "", ""),
    }
    assert {row["rules"] for row in rows} == {"vn_2026_07"}


def test_a_register_is_written_as_a_spreadsheet_reads_it(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    lan = payee(desk, "lan", "VN", resident=True)
    paid(desk, lan, 6_000_000)

    header = (
        "period,provisional,check,missing,affiliate_id,affiliate_external_id,affiliate_name,kind,country,legal_name,tax_code,"
        "currency,income_minor,income,tax_minor,tax,vat_minor,vat,borne_minor,borne,rules,notice"
    )
    row = (
        f"2026,yes,,,{encode('aff', lan)},lan,Lan,individual,VN,NGUYEN THI LAN,8012345678,VND,6000000,6000000,600000,600000,0,0,0,0,"
        "vn_2026_07,To be confirmed by a tax professional before it is filed."
    )
    assert text_of(desk, VN_YEARLY).split("\r\n") == [header, row, ""]


def test_opening_figures_count_and_corrections_lower_them(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    lan, new = (payee(desk, name, "VN", resident=True) for name in ("lan", "new"))
    key = Key("vn_2026_07", Duty.INCOME_TAX, "2026-07")
    paid(desk, lan, 6_000_000)
    untaxed(desk, lan, key, 400_000, base=4_000_000)
    opening(desk, new, Key("vn_2013", Duty.INCOME_TAX, "2026-05"), base=5_000_000, tax=500_000)
    opening(desk, new, Key("vn_2013", Duty.INCOME_TAX, "2025-12"), base=7_000_000, tax=700_000)

    assert told(rows_of(desk, VN_YEARLY), "income_minor", "tax_minor", "rules") == {
        "lan": ("2000000", "200000", "vn_2026_07"),
        "new": ("5000000", "500000", "vn_2013"),
    }
    assert told(rows_of(desk, VN_YEARLY, year=2025), "income_minor", "provisional") == {"new": ("7000000", "no")}


def test_a_platform_in_vietnam_lists_vat_beside_the_same_income(engine: Engine) -> None:
    desk = Desk.opened(engine, currency="VND", now=datetime(2026, 6, 10, 12, tzinfo=UTC))
    desk.declare("VN", Regime.VN_PLATFORM)
    paid(desk, payee(desk, "lan", "VN", resident=True, supplies="services"), 10_000_000)

    assert told(rows_of(desk, VN_YEARLY), "income_minor", "vat_minor", "tax_minor") == {
        "lan": ("10000000", "500000", "200000")
    }


def test_who_was_withheld_from_stands_there_whatever_the_profile_says_by_now(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    lan, low = (payee(desk, name, "VN", resident=True) for name in ("lan", "low"))
    paid(desk, lan, 6_000_000)
    paid(desk, low, 1_000_000)
    for each in (lan, low):
        profile(desk, each, "VN", kind=HOUSEHOLD, resident=True)

    assert told(rows_of(desk, VN_YEARLY), "check", "tax_minor") == {"lan": ("profile_changed", "600000")}


# The United States.


def us(desk: Desk, name: str, form: str = "w9", *, country: str = "US", **more: Any) -> UUID:
    return payee(desk, name, country, form=form, **more)


def test_the_two_forms_of_the_united_states(engine: Engine) -> None:
    desk = opened(engine, "USD")
    for country in ("US", "DE"):
        desk.declare(country, Regime.US_NEC)
    paid(desk, us(desk, "below"), 199_999)
    paid(desk, us(desk, "at"), 150_000, 50_000)
    paid(desk, us(desk, "no tin", "none", tax_code=False, return_required_last_year=True), 10_000)
    paid(desk, us(desk, "works here", "w8ben", country="DE", works_in_us=True, person=None), 100_000)
    paid(desk, us(desk, "works abroad", "w8ben", country="DE", works_in_us=False), 900_000)
    paid(desk, payee(desk, "company", "US", kind=COMPANY, form="w9"), 900_000)

    assert told(rows_of(desk, US_1099_NEC), "paid", "tax", "check", "missing") == {
        "at": ("2000.00", "0.00", "", ""),
        "no tin": ("100.00", "24.00", "", ""),
    }
    assert told(rows_of(desk, US_1042_S), "income", "tax", "missing", "country") == {
        "works here": ("1000.00", "300.00", "name address tin born_on", "DE")
    }


def test_each_currency_of_a_flat_rule_has_a_row_of_its_own(engine: Engine) -> None:
    desk = opened(engine, "USD")
    desk.declare("DE", Regime.US_NEC)
    anna = us(desk, "anna", "w8ben", country="DE", works_in_us=True)
    paid(desk, anna, 10_000)
    desk.currency = "JPY"
    paid(desk, anna, 10_000)

    assert [(row["currency"], row["income"], row["tax"]) for row in rows_of(desk, US_1042_S)] == [
        ("JPY", "10000", "3000"),
        ("USD", "100.00", "30.00"),
    ]


def test_a_year_whose_threshold_is_not_known_says_so(engine: Engine) -> None:
    desk = opened(engine, "USD")
    ann, backup, small = us(desk, "ann"), us(desk, "backup"), us(desk, "small")
    for who, base, tax in ((ann, 100, 0), (backup, 100, 24)):
        opening(desk, who, Key("us_nec_2026", Duty.BACKUP, "2024"), base=base, tax=tax)
    opening(desk, ann, Key("us_nec_2026", Duty.BACKUP, "2025"), base=60_000)
    opening(desk, small, Key("us_nec_2026", Duty.BACKUP, "2025"), base=59_999)

    assert told(rows_of(desk, US_1099_NEC, year=2024), "check") == {"ann": ("threshold_unknown",), "backup": ("",)}
    assert told(rows_of(desk, US_1099_NEC, year=2025), "paid", "check") == {"ann": ("600.00", "")}


def test_who_gave_another_form_within_the_year_is_to_be_looked_at(engine: Engine) -> None:
    desk = opened(engine, "USD")
    for country in ("US", "DE"):
        desk.declare(country, Regime.US_NEC)
    anna = payee(desk, "anna", "DE", tax_code=False)
    paid(desk, anna, 300_000)
    profile(desk, anna, "DE", form="w8ben", works_in_us=True)
    paid(desk, anna, 100_000)

    assert told(rows_of(desk, US_1099_NEC), "paid", "tax", "check") == {
        "anna": ("3000.00", "720.00", "profile_changed")
    }
    assert told(rows_of(desk, US_1042_S), "income", "tax", "check") == {"anna": ("1000.00", "300.00", "")}


def test_openings_of_somebody_without_a_profile_are_not_lost(engine: Engine) -> None:
    desk = opened(engine, "USD")
    nobody = desk.payee()
    desk.change(nobody, external_id="nobody")
    opening(desk, nobody, Key("us_nec_2026", Duty.BACKUP, "2026"), base=500_000)
    opening(desk, nobody, Key("us_nec_2026", Duty.NON_RESIDENT, "2026"), base=5_000)
    opening(desk, nobody, Key("vn_2026_07", Duty.INCOME_TAX, "2026-07"), base=5_000)

    for register, missing in (
        (US_1099_NEC, "name address tin"),
        (US_1042_S, "name address tin born_on"),
        (VN_YEARLY, "name tin"),
    ):
        rows = rows_of(desk, register)
        assert told(rows, "check", "kind", "country", "legal_name") == {"nobody": ("no_profile", "", "", "")}
        assert rows[0]["missing"] == missing


# China.


def test_a_platform_in_china_tells_what_was_earned_and_taken_back_in_a_quarter(engine: Engine) -> None:
    desk = opened(engine, "CNY")
    desk.declare("CN", Regime.CN_PLATFORM)
    li, mcn, foreign = (
        payee(desk, "li", "CN", resident=True, person=SOMEBODY | {"street": ""}),
        payee(desk, "mcn", "CN", kind=COMPANY),
        payee(desk, "foreign", "VN", resident=True),
    )
    nobody = desk.payee()
    desk.change(nobody, external_id="nobody")
    payee(desk, "idle", "CN", resident=True)
    for who in (li, mcn, foreign, nobody):
        desk.earn(who, 30_000)
    desk.earn(li, -5_000)
    desk.later(days=90)
    desk.earn(li, -20_000)

    third, fourth = rows_of(desk, CN_QUARTERLY, 3), rows_of(desk, CN_QUARTERLY, 4)
    assert told(third, "gross", "refunds", "net", "check", "missing", "provisional") == {
        "li": ("300.00", "50.00", "250.00", "", "address", "no"),
        "mcn": ("300.00", "0.00", "300.00", "", "", "no"),
        "nobody": ("300.00", "0.00", "300.00", "no_profile", "name address tin", "no"),
    }
    assert {row["item"] for row in third} == {"commission"}
    assert told(fourth, "gross", "refunds", "net", "period", "provisional") == {
        "li": ("0.00", "200.00", "-200.00", "2026-Q4", "yes")
    }
    assert rows_of(desk, CN_QUARTERLY, 2) == []


@pytest.mark.parametrize(
    ("declared", "is_made"),
    [
        ([], False),
        ([(Regime.CN_LABOUR, 0)], False),
        ([(Regime.CN_PLATFORM, 0)], True),
        ([(Regime.CN_PLATFORM, 0), (Regime.CN_LABOUR, 0)], False),
        ([(Regime.CN_PLATFORM, 0), (Regime.CN_LABOUR, 30)], True),
        ([(Regime.CN_LABOUR, 0), (Regime.CN_PLATFORM, 82)], True),
        ([(Regime.CN_LABOUR, 0), (Regime.CN_PLATFORM, 83)], False),
    ],
    ids=[
        "nothing",
        "labour",
        "platform",
        "changed the same day",
        "until August",
        "on the last day",
        "after the quarter",
    ],
)
def test_only_who_was_a_platform_in_the_quarter_reports(
    engine: Engine, declared: list[tuple[Regime, int]], is_made: bool
) -> None:
    desk = opened(engine, "CNY")
    li = payee(desk, "li", "CN", resident=True)
    for regime, days in declared:
        desk.declare("CN", regime, days=days)
    desk.earn(li, 30_000)

    assert bool(rows_of(desk, CN_QUARTERLY, 3)) == is_made


# The European Union.


def test_dac7_tells_each_quarter_of_those_who_were_paid(engine: Engine) -> None:
    desk = opened(engine, "EUR")
    desk.declare("DE", Regime.EU_NONE)
    jan = payee(desk, "jan", "DE")
    paid(desk, jan, 10_000, 5_000)
    firm = payee(desk, "firm", "FR", kind=COMPANY, person={"legal_name": "Firm SARL", "tax_code": "FR1"})
    paid(desk, firm, 7_000)
    paid(desk, payee(desk, "lan", "VN", kind=COMPANY), 9_000)
    payee(desk, "unpaid", "DE")
    old = payee(desk, "old", "DE", person=None)
    opening(desk, old, Key("eu_none", Duty.INCOME_TAX, "2026-05"), base=4_000)
    opening(desk, old, Key("eu_none", Duty.INCOME_TAX, "2026"), base=1_000)
    desk.later(days=90)
    paid(desk, jan, 2_500)

    rows = rows_of(desk, DAC7)

    assert [(row["affiliate_external_id"], row["quarter"], row["payouts"], row["paid"]) for row in rows] == [
        ("jan", "3", "2", "150.00"),
        ("jan", "4", "1", "25.00"),
        ("firm", "3", "1", "70.00"),
        ("old", "2", "1", "40.00"),
        ("old", "", "1", "10.00"),
    ]
    assert [row["missing"] for row in rows] == [
        "",
        "",
        "address vat_id",
        "name address tin born_on",
        "name address tin born_on",
    ]
    assert (rows[0]["born_on"], rows[0]["account_rail"], rows[0]["account"]) == ("1999-01-02", "sandbox", "x_ok")
    assert (rows[0]["address_country"], rows[0]["country"]) == ("VN", "DE")


def test_dac7_tells_what_other_rules_withheld_and_gave_back(engine: Engine) -> None:
    desk = opened(engine, "USD")
    desk.declare("DE", Regime.US_NEC)
    anna = us(desk, "anna", "w8ben", country="DE", works_in_us=True)
    paid(desk, anna, 100_000)
    desk.later(days=90)
    untaxed(desk, anna, Key("us_nec_2026", Duty.NON_RESIDENT, "2026"), 10_000)

    assert [(row["quarter"], row["paid"], row["tax"]) for row in rows_of(desk, DAC7)] == [
        ("3", "1000.00", "300.00"),
        ("4", "0.00", "-100.00"),
    ]


def test_money_that_came_back_and_is_sent_again_is_paid_once(engine: Engine) -> None:
    desk = opened(engine, "EUR")
    desk.declare("DE", Regime.EU_NONE)
    jan = payee(desk, "jan", "DE")
    desk.earn(jan, 5_000)
    desk.rail.does["sandbox_ok"] = ["refuse"]
    desk.work(desk.an_executing_run(jan))
    assert rows_of(desk, DAC7) == []
    desk.earn(jan, 300, kind=AccountKind.TAXED_CARRY)
    other = payee(desk, "other", "DE")
    desk.earn(other, 700, kind=AccountKind.TAXED_CARRY)
    desk.work(desk.an_executing_run(other))

    # Only what is carried went out: it was paid before, and came back.
    assert rows_of(desk, DAC7) == []


# All of them.


def test_a_register_adds_up_to_the_entries_and_to_what_is_kept_and_passed_on(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    people = [payee(desk, f"payee {number}", "VN", resident=number % 3 > 0) for number in range(7)]
    for number, who in enumerate(people):
        paid(desk, who, 1_234_567 * (number + 1), 5_000_001 + number)
    desk.declare("VN", Regime.VN, mode=Mode.WARN)
    paid(desk, people[0], 7_777_777)
    profile(desk, people[1], "VN", kind=HOUSEHOLD, resident=True)
    profile(desk, people[2], "VN", kind=COMPANY)
    key = Key("vn_2026_07", Duty.INCOME_TAX, "2026-07")
    untaxed(desk, people[4], key, 123_456, base=100)
    with unit_of_work(engine) as session:
        asked = remit.Asked(
            merchant_id=desk.merchant_id, key=key, currency="VND", reference="KB-1", paid_on=desk.when.day, by=MAKER
        )
        remit.remit(session, asked, when=desk.when)
    paid(desk, people[5], 9_000_000)

    rows = rows_of(desk, VN_YEARLY)
    [entries] = desk.rows(
        "SELECT sum(base_minor) AS base, sum(tax_minor) AS tax, sum(borne_minor) AS borne FROM tax_entry"
        " WHERE merchant_id = :merchant_id"
    )
    [kept] = desk.rows(
        "SELECT sum(amount_minor) AS tax FROM balance"
        " WHERE merchant_id = :merchant_id AND kind IN ('tax_withheld', 'remitted')"
    )
    [passed_on] = desk.rows("SELECT sum(amount_minor) AS tax FROM tax_remittance WHERE merchant_id = :merchant_id")

    assert len(rows) == len(people)
    assert sum(int(row["income_minor"]) for row in rows) == entries.base
    assert sum(int(row["borne_minor"]) for row in rows) == entries.borne > 0
    assert sum(int(row["tax_minor"]) for row in rows) == entries.tax == kept.tax > passed_on.tax > 0


@pytest.mark.parametrize("register", REGISTERS.values(), ids=lambda each: each.name)
def test_every_row_says_in_the_reader_s_language_that_a_professional_must_confirm_it(
    engine: Engine, register: Register
) -> None:
    desk = opened(engine, "USD")
    desk.declare("CN", Regime.CN_PLATFORM)
    for country in ("US", "DE"):
        desk.declare(country, Regime.US_NEC)
    payees = {
        "vn_yearly": desk.payee(),
        "cn_quarterly": payee(desk, "li", "CN", resident=True),
        "us_1099_nec": us(desk, "ann"),
        "us_1042_s": us(desk, "anna", "w8ben", country="DE", works_in_us=True),
    }
    opening(desk, payees["vn_yearly"], Key("vn_2026_07", Duty.INCOME_TAX, "2026-07"), base=5_000)
    desk.earn(payees["cn_quarterly"], 5_000)
    paid(desk, payees["us_1099_nec"], 300_000)
    paid(desk, payees["us_1042_s"], 300_000)

    quarter = 3 if register is CN_QUARTERLY else None
    for language in Language:
        [row] = rows_of(desk, register, quarter, language=language)
        assert list(row) == [cell for column in register.columns for cell in column.cells]
        assert list(row.items())[-1] == ("notice", TO_BE_CONFIRMED.to(language))
    assert all(column.description.endswith(".") for column in register.columns)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", '=HYPERLINK("http://x")', "a\r\nb", 'a"b,c'])
def test_no_name_is_read_as_a_formula_or_breaks_a_row(engine: Engine, name: str) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    lan = payee(desk, name, "VN", resident=True, person=SOMEBODY | {"legal_name": name})
    paid(desk, lan, 6_000_000)

    [row] = rows_of(desk, VN_YEARLY)

    shown = f"'{name}" if name[0] in "=+-@＝" else name
    assert (row["affiliate_external_id"], row["legal_name"]) == (shown, shown)


@pytest.mark.parametrize("register", REGISTERS.values(), ids=lambda each: each.name)
def test_nobody_of_another_merchant_is_ever_there(engine: Engine, register: Register) -> None:
    ours, theirs = opened(engine, "USD"), opened(engine, "USD")
    for desk in (ours, theirs):
        desk.declare("CN", Regime.CN_PLATFORM)
        desk.declare("DE", Regime.US_NEC)
        anna = us(desk, "anna", "w8ben", country="DE", works_in_us=True)
        li = payee(desk, "li", "CN", resident=True)
        if desk is theirs:
            for duty in (Duty.BACKUP, Duty.NON_RESIDENT, Duty.INCOME_TAX):
                for rule in ("us_nec_2026", "vn_2026_07"):
                    opening(desk, anna, Key(rule, duty, "2026"), base=500_000, tax=1)
            desk.earn(li, 1_000)
            paid(desk, anna, 1_000)

    quarter = 3 if register is CN_QUARTERLY else None
    assert rows_of(ours, register, quarter) == []
    assert rows_of(theirs, register, quarter)


def test_a_long_register_comes_in_blocks(engine: Engine) -> None:
    desk = opened(engine, "VND")
    with unit_of_work(engine) as session:
        execute(
            session,
            """
            WITH made AS (
                INSERT INTO affiliate (merchant_id, id, name, status, profile, identities, created_at, updated_at)
                SELECT :merchant_id, gen_random_uuid(), 'Payee ' || number, 'approved', '{}', '{}', :now, :now
                FROM generate_series(1, 1500) AS number RETURNING id
            ), held AS (
                INSERT INTO tax_base (merchant_id, payee_id, rule, version)
                SELECT :merchant_id, id, 'vn_2026_07', 1 FROM made
            )
            INSERT INTO tax_entry (merchant_id, id, kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
                                   borne_minor, booked_on, created_at)
            SELECT :merchant_id, gen_random_uuid(), 'opening', id, 'vn_2026_07', 'income_tax', '2026-07', 'VND', 10, 1, 0,
                   CAST(:now AS date), :now
            FROM made
            """,
            {"merchant_id": desk.merchant_id, "now": desk.now},
        )

    with read_session(engine) as session:
        blocks = list(
            render(
                session,
                VN_YEARLY,
                VN_YEARLY.period(2026, None, today=desk.when.day),
                merchant_id=desk.merchant_id,
                today=desk.when.day,
                language=Language.EN,
                security=desk.security,
            )
        )

    assert len(blocks) > 3
    assert all(len(block) < 2 * 64 * 1024 for block in blocks)
    assert b"".join(blocks).count(b"\r\n") == 1501


# Periods.


def test_a_register_is_of_a_period_that_has_begun() -> None:
    assert str(VN_YEARLY.period(2026, None, today=date(2026, 1, 1))) == "2026"
    quarter = CN_QUARTERLY.period(2026, 2, today=date(2026, 4, 1))
    assert (str(quarter), quarter.first, quarter.last) == ("2026-Q2", date(2026, 4, 1), date(2026, 6, 30))
    assert [CN_QUARTERLY.period(2025, each, today=date(2026, 1, 1)).last.day for each in (1, 2, 3, 4)] == [
        31,
        30,
        30,
        31,
    ]
    for register, year, each in (
        (VN_YEARLY, 2027, None),
        (CN_QUARTERLY, 2026, 2),
        (CN_QUARTERLY, 2026, None),
        (DAC7, 2026, 1),
    ):
        with pytest.raises(PeriodUnfit):
            register.period(year, each, today=date(2026, 3, 31))


def test_a_register_that_is_not_there_is_not_found() -> None:
    assert find("dac7") is DAC7
    with pytest.raises(UnknownRegister, match="vn_yearly, cn_quarterly, us_1099_nec, us_1042_s, dac7"):
        find("w2")


def test_a_period_is_provisional_until_it_has_ended(engine: Engine) -> None:
    desk = opened(engine, "VND")
    desk.declare("VN", Regime.VN)
    paid(desk, payee(desk, "lan", "VN", resident=True), 6_000_000)

    for today, provisional in ((date(2026, 12, 31), "yes"), (date(2027, 1, 1), "no")):
        assert told(rows_of(desk, VN_YEARLY, today=today), "provisional") == {"lan": (provisional,)}
