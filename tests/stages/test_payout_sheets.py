"""What files look like: golden bytes of each preset, sums that hold, names that fit, accounts that are never changed."""

import csv
import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.destination import AccountType, Destination
from service.domain.money import text_of
from service.domain.payout_file import FileRailName, Recipient
from service.payouts.providers import FILE_RAILS
from service.payouts.providers.file_model import FileRail, Header, Row, UnusablePayer, frozen_row, reference_of, row_of
from service.payouts.providers.model import Sending
from service.payouts.providers.sheet_file import preset
from service.payouts.providers.sheets import SheetTemplate, UnusableTemplate, render, why_unfit
from tests.support.house import ROOT
from tests.support.payout_files import PAYERS, an_account, an_iban

GOLDEN = ROOT / "tests" / "fixtures" / "payout_files"
SEPA = FILE_RAILS[FileRailName.SEPA_FILE]
ISO = "{urn:iso:std:iso:20022:tech:xsd:pain.001.001.09}"

CURRENCIES = {
    FileRailName.SEPA_FILE: "EUR",
    FileRailName.ALIPAY_FILE: "CNY",
    FileRailName.WECHAT_FILE: "CNY",
    FileRailName.VN_BANK_FILE: "VND",
    FileRailName.PAYPAL_FILE: "USD",
    FileRailName.WISE_FILE: "KWD",
}


def a_header(name: FileRailName = FileRailName.SEPA_FILE, **parts: Any) -> Header:
    told: dict[str, Any] = {
        "message_id": "01KB0Q9V7RT4M2N5E8G3H6J1KA",
        "built_at": datetime(2026, 11, 20, 12, 30, tzinfo=UTC),
        "pays_on": date(2026, 11, 21),
        "payer": PAYERS.get(name),
        "run": "run_01kb0q9v7rt4m2n5e8g3h6j1kb",
        "merchant": "Teehaus",
        "is_test": False,
    }
    return Header(**told | parts)


def a_row(name: FileRailName, number: int = 1, amount_minor: int = 125_000, **parts: str) -> Row:
    item_id = UUID(int=0x0199 << 112 | 7 << 76 | 2 << 62 | number)
    sending = Sending(
        merchant_id=UUID(int=1),
        run_id=UUID(int=2),
        item_id=item_id,
        number=1,
        destination=an_account(name, number, **parts).to_text(),
        amount_minor=amount_minor,
        currency=CURRENCIES[name],
    )
    return row_of(frozen_row(sending), reference_chars_max=FILE_RAILS[name].reference_chars_max)


def golden_rows(name: FileRailName) -> list[Row]:
    """Three payments: an ordinary one, a large one to somebody whose name begins like a formula, a small one."""
    return [
        a_row(name),
        a_row(name, 2, 5_000_001 if name is not FileRailName.VN_BANK_FILE else 5_000_000, holder='=Đặng, Thị "Ước"'),
        a_row(name, 3, 10, bank_name="Ngân hàng Á Châu"),
    ]


@pytest.mark.parametrize("name", FileRailName)
def test_a_file_of_each_preset_is_as_it_was(name: FileRailName) -> None:
    rail, header, rows = FILE_RAILS[name], a_header(name), golden_rows(name)

    assert [rail.why_unfit(row, header) for row in rows] == [None] * 3
    rendered = rail.render(rows, header)

    golden = GOLDEN / f"{name}{Path(rendered.file_name).suffix}"
    assert parts_of(rendered.content) == parts_of(golden.read_bytes())
    assert rail.render(rows, header) == rendered


def parts_of(content: bytes) -> dict[str, bytes]:
    """The bytes; of a spreadsheet those of its parts, for how they are packed is the packer's business."""
    if not content.startswith(b"PK"):
        return {"": content}
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        return {name: book.read(name) for name in sorted(book.namelist())}


@pytest.mark.parametrize("name", FileRailName)
def test_a_test_merchants_file_says_so_in_its_name(name: FileRailName) -> None:
    rows = [a_row(name)]

    live, test = (FILE_RAILS[name].render(rows, a_header(name, is_test=is_test)).file_name for is_test in (False, True))

    assert test == f"TEST-{live}"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", live)


def test_wises_sheet_says_of_each_row_whether_it_pays_a_person_or_a_company() -> None:
    name = FileRailName.WISE_FILE
    rows = [a_row(name), replace(a_row(name, 2), recipient=Recipient.COMPANY)]

    content = FILE_RAILS[name].render(rows, a_header(name)).content.decode()

    assert [row["receiverType"] for row in csv.DictReader(io.StringIO(content))] == ["PERSON", "INSTITUTION"]


def test_a_column_says_it_in_the_banks_words_and_what_they_do_not_name_stays() -> None:
    columns = [
        {"title": "Id", "value": "{reference}"},
        {"title": "Account", "value": "{account}"},
        {"title": "Amount", "value": "{amount}"},
        {"title": "Loại", "value": "{recipient}", "words": {"company": "Doanh nghiệp"}, "letters": "upper"},
        {"title": "Both", "value": "is {recipient}", "words": {"is person": "=natural"}},
    ]
    template = SheetTemplate.of_json({"format": "csv", "rows_max": 9, "columns": columns})
    row = a_row(FileRailName.WISE_FILE)

    content = render(template, [row, replace(row, recipient=Recipient.COMPANY)], a_header()).content.decode()

    cells = [line.split(",")[3:] for line in content.splitlines()[1:]]
    assert cells == [["PERSON", "natural"], ["DOANH NGHIEP", "is company"]]


# Credit transfers.


@cache
def schema() -> xmlschema.XMLSchema:
    """The schema that the library brings with it."""
    library = find_spec("sepaxml")
    assert library is not None
    assert library.origin is not None
    return xmlschema.XMLSchema(Path(library.origin).parent / "schemas" / "pain.001.001.09.xsd")


people = st.builds(
    lambda number, amount_minor, holder, town, country, street: a_row(
        FileRailName.SEPA_FILE, number, amount_minor, holder=holder, town=town, country=country, street=street
    ),
    st.integers(1, 10**9),
    st.integers(1, 99_999_999_999),
    st.text(max_size=120),
    st.text(max_size=60),
    st.sampled_from(["DE", "FR", "", "de", "XYZ"]),
    st.text(max_size=90),
)


@settings(max_examples=150)
@given(st.lists(people, min_size=1, max_size=4))
def test_a_file_of_transfers_is_valid_whatever_people_are_called(rows: list[Row]) -> None:
    fit = [row for row in rows if SEPA.why_unfit(row, a_header()) is None]
    if not fit:
        return

    content = SEPA.render(fit, a_header()).content

    schema().validate(content.decode())
    told = ET.fromstring(content)  # noqa: S314 - we made it ourselves, a line above
    for text in told.iter():
        if text.tag in {f"{ISO}{name}" for name in ("Nm", "TwnNm", "StrtNm", "Ustrd", "PstCd")}:
            assert re.fullmatch(r"[A-Za-z0-9/?:().,'+ -]+", text.text or ""), text.text
    assert {each.text for each in told.iter(f"{ISO}NbOfTxs")} == {str(len(fit))}
    assert {each.text for each in told.iter(f"{ISO}CtrlSum")} == {text_of(sum(row.amount_minor for row in fit), "EUR")}
    assert [each.text for each in told.iter(f"{ISO}InstdAmt")] == [text_of(row.amount_minor, "EUR") for row in fit]
    assert [each.text for each in told.iter(f"{ISO}EndToEndId")] == [row.reference for row in fit]
    addresses = [{part.tag.removeprefix(ISO) for part in each} for each in told.iter(f"{ISO}PstlAdr")]
    assert all({"TwnNm", "Ctry"} <= each and "AdrLine" not in each for each in addresses)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param({"holder": ""}, "holder_missing", id="nobody"),
        pytest.param({"holder": "王芳"}, "holder_not_latin", id="chinese"),
        pytest.param({"holder": "Αλέξης"}, "holder_not_latin", id="greek"),
        pytest.param({"holder": "!!!"}, "holder_not_latin", id="only-signs"),
        pytest.param({"account": "DE00370400440532013000"}, "account_not_writable", id="wrong-check-digits"),
        pytest.param({"account": "DE89 3704 0044 0532 0130 00"}, "account_not_writable", id="blanks"),
    ],
)
def test_a_transfer_that_a_bank_would_refuse_is_not_written(parts: dict[str, Any], reason: str) -> None:
    assert SEPA.why_unfit(a_row(FileRailName.SEPA_FILE, **parts), a_header()) == reason


def test_only_euros_and_ibans_leave_by_transfer() -> None:
    row = a_row(FileRailName.SEPA_FILE)

    assert SEPA.why_unfit(replace(row, currency="CHF"), a_header()) == "currency_not_paid"
    assert SEPA.why_unfit(replace(row, amount_minor=0), a_header()) == "amount_too_large"
    other = replace(row, destination=replace(row.destination, type=AccountType.BANK))
    assert SEPA.why_unfit(other, a_header()) == "other_kind_of_account"
    assert (SEPA.step_minor("EUR"), SEPA.step_minor("USD")) == (1, None)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"account": "DE00370400440532013000"}, id="iban"),
        pytest.param({"holder": "茶"}, id="holder"),
        pytest.param({"bank_code": "X"}, id="bic"),
        pytest.param({"town": ""}, id="half-an-address"),
    ],
)
def test_a_paying_account_that_a_bank_would_refuse_is_not_taken(parts: dict[str, Any]) -> None:
    with pytest.raises(UnusablePayer):
        SEPA.check_payer(replace(PAYERS[FileRailName.SEPA_FILE], **parts))


# Sheets.


@given(st.lists(st.integers(10, 10**12), min_size=1, max_size=30))
def test_the_total_of_a_sheet_is_the_sum_of_its_rows(amounts: list[int]) -> None:
    for name, unit in ((FileRailName.ALIPAY_FILE, Decimal(100)), (FileRailName.WECHAT_FILE, Decimal(1))):
        rows = [a_row(name, number, amount) for number, amount in enumerate(amounts, start=1)]
        table = cells(name, rows)
        place = {FileRailName.ALIPAY_FILE: 4, FileRailName.WECHAT_FILE: 1}[name]

        assert Decimal(table[1][place]) * unit == sum(amounts)
        assert sum(Decimal(row[3]) for row in table[3:]) * unit == sum(amounts)
        assert len(table) == 3 + len(amounts)


def cells(name: FileRailName, rows: list[Row]) -> list[list[str]]:
    template = SheetTemplate.of_json(preset(name))
    content = render(template, rows, a_header(name)).content
    return list(csv.reader(io.StringIO(content.decode(template.encoding), newline="")))


@pytest.mark.parametrize(
    ("name", "currency", "amount_minor", "written"),
    [
        pytest.param(FileRailName.ALIPAY_FILE, "CNY", 5, "0.05", id="decimals"),
        pytest.param(FileRailName.WECHAT_FILE, "CNY", 5, "5", id="fen"),
        pytest.param(FileRailName.PAYPAL_FILE, "USD", 123456, "1234.56", id="dollars"),
        pytest.param(FileRailName.PAYPAL_FILE, "JPY", 123456, "123456", id="yen"),
        pytest.param(FileRailName.PAYPAL_FILE, "TWD", 123400, "1234", id="whole-taiwan-dollars"),
        pytest.param(FileRailName.WISE_FILE, "KWD", 1234567, "1234.567", id="three-decimals"),
        pytest.param(FileRailName.WISE_FILE, "VND", 1234567, "1234567", id="dong"),
    ],
)
def test_amounts_are_written_as_each_rail_wants_them(
    name: FileRailName, currency: str, amount_minor: int, written: str
) -> None:
    row = replace(a_row(name, amount_minor=amount_minor), currency=currency)

    assert written in cells(name, [row])[-1]


def test_a_rail_pays_only_steps_and_currencies_it_can_write() -> None:
    paypal, vn, alipay = (
        FILE_RAILS[name] for name in (FileRailName.PAYPAL_FILE, FileRailName.VN_BANK_FILE, FileRailName.ALIPAY_FILE)
    )

    assert [paypal.step_minor(code) for code in ("USD", "TWD", "JPY", "VND")] == [1, 100, 1, None]
    assert [vn.step_minor(code) for code in ("VND", "USD")] == [1, None]
    assert [alipay.step_minor(code) for code in ("CNY", "XXX")] == [1, None]
    assert FILE_RAILS[FileRailName.WISE_FILE].step_minor("XXX") is None


@pytest.mark.parametrize(
    ("name", "parts", "reason"),
    [
        pytest.param("alipay_file", {"holder": ""}, "holder_missing", id="needed"),
        pytest.param("alipay_file", {"account": "a" * 101}, "account_too_long", id="account-never-cut"),
        pytest.param("alipay_file", {"account": "=cmd|' /C calc'!A0"}, "account_not_writable", id="formula"),
        pytest.param("alipay_file", {"account": "@ann"}, "account_not_writable", id="at"),
        pytest.param("alipay_file", {"account": "+8613800000000"}, None, id="phone"),
        pytest.param("alipay_file", {"account": "-1"}, "account_not_writable", id="minus"),
        pytest.param("vn_bank_file", {"bank_code": ""}, "bank_missing", id="no-bank"),
        pytest.param("vn_bank_file", {"bank_code": "", "bank_name": "ACB"}, None, id="bank-by-its-name"),
        pytest.param("vn_bank_file", {"holder": "=+-"}, "holder_missing", id="only-signs"),
    ],
)
def test_a_row_that_cannot_be_written_whole_is_not_written(
    name: str, parts: dict[str, Any], reason: str | None
) -> None:
    rail: FileRail = FILE_RAILS[name]
    header = a_header(FileRailName(name))

    assert rail.why_unfit(a_row(FileRailName(name), **parts), header) == reason


def test_a_row_below_the_least_amount_or_with_parts_of_a_unit_is_not_written() -> None:
    alipay, vn = FileRailName.ALIPAY_FILE, FileRailName.VN_BANK_FILE

    assert FILE_RAILS[alipay].why_unfit(a_row(alipay, amount_minor=9), a_header(alipay)) == "amount_too_small"
    paypal = replace(a_row(FileRailName.PAYPAL_FILE, amount_minor=150), currency="TWD")
    assert FILE_RAILS[FileRailName.PAYPAL_FILE].why_unfit(paypal, a_header()) == "amount_not_whole"
    other = replace(a_row(vn), currency="USD")
    assert FILE_RAILS[vn].why_unfit(other, a_header()) == "currency_not_paid"
    account = replace(a_row(vn), destination=Destination(type=AccountType.PAYPAL, account="ann@example.com"))
    assert FILE_RAILS[vn].why_unfit(account, a_header()) == "other_kind_of_account"


@given(st.text(max_size=60))
@example(" =1+1")
@example("= -1")
def test_no_text_of_a_sheet_is_a_formula_or_breaks_a_row(name: str) -> None:
    row = a_row(FileRailName.WISE_FILE, holder=name)
    template = SheetTemplate.of_json(preset(FileRailName.WISE_FILE))
    if why_unfit(template, row, a_header()) is not None:
        return

    table = cells(FileRailName.WISE_FILE, [row])

    assert len(table) == 2
    assert len(table[1]) == 15
    assert not table[1][0].startswith(tuple("=+-@\t\r\n＝＋－＠"))
    assert not re.search(r"[\r\n\t]", table[1][0])


def test_a_chinese_phone_number_is_written_as_people_log_in_with_it() -> None:
    rows = [
        a_row(FileRailName.ALIPAY_FILE, number, account=account)
        for number, account in enumerate(("+8613800138000", "+84912345678", "ann+86@example.com"), start=1)
    ]

    table = cells(FileRailName.ALIPAY_FILE, rows)

    assert [row[1] for row in table[3:]] == ["13800138000", "+84912345678", "ann+86@example.com"]


def test_each_kind_of_account_has_its_column_at_wise() -> None:
    wise = FILE_RAILS[FileRailName.WISE_FILE]
    row = a_row(FileRailName.WISE_FILE)
    kinds = {AccountType.WISE: "ann@example.com", AccountType.IBAN: an_iban(1), AccountType.BANK: "0011"}
    rows = [
        replace(row, destination=Destination(type=kind, account=account, holder="Ann", bank_code="970436"))
        for kind, account in kinds.items()
    ]

    table = cells(FileRailName.WISE_FILE, rows)

    places = [table[0].index(title) for title in ("recipientEmail", "IBAN", "accountNumber")]
    assert [[each[place] for place in places] for each in table[1:]] == [
        ["ann@example.com", "", ""],
        ["", an_iban(1), ""],
        ["", "", "0011"],
    ]
    assert [wise.why_unfit(each, a_header()) for each in rows] == [None] * 3
    by_email = SheetTemplate.of_json(small() | {"columns": [{"value": "{email}"}, *small()["columns"][1:]]})
    assert [why_unfit(by_email, each, a_header()) for each in rows] == [None, "account_missing", "account_missing"]


def test_names_are_cut_at_the_length_a_bank_takes_and_kept_whole_before_it() -> None:
    template = SheetTemplate.of_json(small({"title": "Name", "value": "{holder}", "letters": "upper", "chars_max": 10}))
    row = a_row(FileRailName.VN_BANK_FILE, holder="Nguyễn Thị Đào")

    content = render(template, [row], a_header()).content.decode()

    assert content.splitlines()[1].split(",")[3] == "NGUYEN THI"


def test_a_reason_is_asked_for_from_an_amount_on() -> None:
    told = small({"title": "Why", "value": "{branch}", "needed_from_minor": 5_000_000})
    template = SheetTemplate.of_json(told)

    flaws = [
        why_unfit(template, a_row(FileRailName.ALIPAY_FILE, amount_minor=amount), a_header())
        for amount in (4_999_999, 5_000_000)
    ]

    assert flaws == [None, "branch_missing"]


@pytest.mark.parametrize(
    ("encoding", "flaw"),
    [("windows-1252", "holder_not_in_encoding"), ("gb18030", None), ("utf-16", None)],
)
def test_letters_that_an_encoding_has_not_are_not_written(encoding: str, flaw: str | None) -> None:
    template = SheetTemplate.of_json(small({"title": "Name", "value": "{holder}"}) | {"encoding": encoding})
    row = a_row(FileRailName.ALIPAY_FILE)

    assert why_unfit(template, row, a_header()) == flaw
    if flaw is None:
        assert "王芳" in render(template, [row], a_header()).content.decode(encoding)


@pytest.mark.parametrize(
    ("title", "preamble", "named"),
    [
        pytest.param("Số tài khoản", "{total}", "Column 'Số tài khoản': windows-1252 has no 'ố'", id="title"),
        pytest.param("Name", "合计 {total}", "preamble: windows-1252 has no '合计'", id="preamble"),
    ],
)
def test_a_map_says_which_of_its_own_texts_its_encoding_has_no_letters_for(
    title: str, preamble: str, named: str
) -> None:
    told = small({"title": title, "value": "{holder}"}, encoding="windows-1252", preamble=[["Total", preamble]])

    with pytest.raises(UnusableTemplate, match=re.escape(named)):
        SheetTemplate.of_json(told)
    for fits in ({"encoding": "utf-8"}, {"format": "xlsx"}):
        assert SheetTemplate.of_json(told | fits).columns[3].title == title


def test_texts_that_are_not_written_need_no_letters() -> None:
    column = {"title": "Số tài khoản", "value": "{holder}"}

    template = SheetTemplate.of_json(small(column, encoding="windows-1252", titles=False, preamble=[["＝{date}"]]))

    row = a_row(FileRailName.SEPA_FILE)
    assert render(template, [row], a_header()).content.decode("windows-1252").startswith("20261121\r\n")


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        pytest.param("{merchant}", {"merchant": "Trà Việt"}, id="merchant"),
        pytest.param("From {payer_holder}", {"payer": PAYERS[FileRailName.ALIPAY_FILE]}, id="payer"),
    ],
)
def test_a_name_that_the_preamble_cannot_write_is_a_problem_that_says_what_to_do(
    cell: str, parts: dict[str, Any]
) -> None:
    template = SheetTemplate.of_json(small(encoding="windows-1252", preamble=[[cell]]))

    with pytest.raises(UnusableTemplate, match=r"windows-1252 has no .* Choose another encoding"):
        render(template, [a_row(FileRailName.SEPA_FILE)], a_header(**parts))


def small(*columns: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A map with the columns it cannot do without, and others."""
    needed = [
        {"title": "To", "value": "{account}"},
        {"title": "Amount", "value": "{amount}"},
        {"title": "Id", "value": "{reference}"},
    ]
    return {"format": "csv", "rows_max": 10, "columns": [*needed, *columns], **parts}


def words_on(place: int) -> dict[str, Any]:
    """A map that has words for what is told exactly."""
    told = small()
    told["columns"][place] |= {"words": {"1": "2"}}
    return told


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(small({"title": "x", "value": "{nothing}"}), id="unknown-placeholder"),
        pytest.param(small({"title": "x", "value": "{holder"}), id="open-brace"),
        pytest.param(small({"title": "x", "value": "{amount} EUR"}), id="amount-in-a-text"),
        pytest.param(small({"title": "x", "value": "{reference}", "chars_max": 34}), id="id-does-not-fit"),
        pytest.param(small({"title": "x", "value": "{account}", "letters": "upper"}), id="account-in-other-letters"),
        pytest.param(small(preamble=[["{holder}"]]), id="a-row-in-the-preamble"),
        pytest.param(small(file_name="{payer_account}-{message_id}"), id="account-in-the-name"),
        pytest.param(small(file_name="payouts-{date}"), id="a-name-twice"),
        pytest.param(small(rows_max=0), id="no-rows"),
        pytest.param(small(reference_chars_max=15), id="short-ids"),
        pytest.param(small(reference_chars_max=36), id="long-ids"),
        pytest.param(small(currencies=["EURO"]), id="no-currency"),
        pytest.param(small(whole_units=["eur"]), id="no-currency-in-whole-units"),
        pytest.param(words_on(0), id="another-account"),
        pytest.param(words_on(1), id="another-amount"),
        pytest.param(words_on(2), id="another-id"),
        pytest.param(small() | {"columns": small()["columns"][1:]}, id="nobody-to-pay"),
        pytest.param(small() | {"columns": small()["columns"][:1]}, id="no-amount"),
        pytest.param(small() | {"columns": small()["columns"][:2]}, id="no-id"),
        pytest.param(small() | {"columns": small()["columns"] * 30}, id="too-many-columns"),
    ],
)
def test_a_map_by_which_a_payment_could_not_be_made_or_found_again_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(UnusableTemplate):
        SheetTemplate.of_json(told)


def test_the_shortest_id_that_fits_is_still_one_of_a_kind() -> None:
    ids = {reference_of(UUID(int=item), number, chars_max=16) for item in range(300) for number in range(1, 11)}

    assert len(ids) == 3000
