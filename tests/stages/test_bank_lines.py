"""A bank's lines, from CSV and from camt: every payment once, and nothing that could harm whoever reads it."""

from datetime import date
from pathlib import Path

import pytest

from service.domain.reconciliation import BankLine, LineKind
from service.infra.ids import encode, new_id
from service.intake.bank_lines import BankFormat, NumberedLine, payout_named, read_lines
from service.intake.cells import Refused
from service.intake.import_rows import InvalidImportFile

DAY = date(2026, 11, 20)


def lines(folder: Path, content: str | bytes, form: BankFormat) -> list[BankLine | str]:
    """Lines as they are read; of what is refused, the reason."""
    path = folder / "bank"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [item.line if isinstance(item, NumberedLine) else item.reason_code for item in read_lines(path, form)]


def csv_lines(
    folder: Path, *rows: str, header: str = "date,reference,end_to_end_id,amount,currency,kind"
) -> list[BankLine | str]:
    return lines(folder, "\n".join([header, *rows]), BankFormat.CSV)


def statement(*entries: str, message: str = "BkToCstmrStmt/Stmt", version: str = "053.001.08") -> str:
    outer, inner = message.split("/")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.{version}">'
        f"<{outer}><GrpHdr><MsgId>m</MsgId></GrpHdr><{inner}><Id>1</Id>{''.join(entries)}</{inner}></{outer}></Document>"
    )


def entry(
    *payments: str,
    amount: str = "50.00",
    direction: str = "DBIT",
    status: str = "<Sts><Cd>BOOK</Cd></Sts>",
    more: str = "",
    named: str = "<AcctSvcrRef>REF-E</AcctSvcrRef>",
) -> str:
    details = f"<NtryDtls>{''.join(payments)}</NtryDtls>" if payments else ""
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd>{more}{status}'
        f"<BookgDt><Dt>2026-11-20</Dt></BookgDt>{named}{details}</Ntry>"
    )


def payment(
    end_to_end_id: str = "E2E-1",
    *,
    amount: str | None = None,
    more: str = "",
    named: str = "<AcctSvcrRef>REF-T</AcctSvcrRef>",
) -> str:
    priced = "" if amount is None else f'<Amt Ccy="EUR">{amount}</Amt>'
    return f"<TxDtls><Refs>{named}<EndToEndId>{end_to_end_id}</EndToEndId></Refs>{priced}{more}</TxDtls>"


def line(
    amount_minor: int = 5_000,
    *,
    kind: LineKind = LineKind.PAYMENT,
    reference: str = "REF-T",
    end_to_end_id: str = "E2E-1",
    currency: str = "EUR",
) -> BankLine:
    return BankLine(DAY, kind, reference, end_to_end_id, currency, amount_minor)


def test_a_row_is_a_line_and_its_sign_is_its_direction(tmp_path: Path) -> None:
    found = csv_lines(
        tmp_path,
        "2026-11-20,R1,E1,50.00,EUR,",
        "2026-11-20,R2,,-12000,VND,",
        "2026-11-20,,E3,0.25,EUR,fee",
    )

    assert found == [
        line(reference="R1", end_to_end_id="E1"),
        line(12_000, kind=LineKind.RETURNED, reference="R2", end_to_end_id="", currency="VND"),
        line(25, kind=LineKind.FEE, reference="", end_to_end_id="E3"),
    ]


def test_columns_may_stand_in_any_order_among_others_and_with_a_mark(tmp_path: Path) -> None:
    found = lines(tmp_path, "\ufeffnote,currency,amount,date,reference\nx,EUR,50.00,2026-11-20,R1\n\n", BankFormat.CSV)

    assert found == [line(reference="R1", end_to_end_id="")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("20.11.2026,R,E,1.00,EUR,", "invalid_date"),
        ("2026-02-30,R,E,1.00,EUR,", "invalid_date"),
        ("2026-11-20,R,E,1.001,EUR,", "invalid_amount"),
        ('2026-11-20,R,E,"1,00",EUR,', "invalid_amount"),
        ("2026-11-20,R,E,0,EUR,", "invalid_amount"),
        ("2026-11-20,R,E,1.00,EURO,", "unknown_currency"),
        ("2026-11-20,R,E,1.00,EUR,gift", "unknown_word"),
        ("2026-11-20,R,E,1.00,EUR", "row_shape"),
        ("2026-11-20,R\0,E,1.00,EUR,", "unreadable_row"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_alone(tmp_path: Path, row: str, reason: str) -> None:
    assert csv_lines(tmp_path, row, "2026-11-20,R1,E1,50.00,EUR,") == [reason, line(reference="R1", end_to_end_id="E1")]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "amount,currency,reference\n",
        "date,amount,currency\n",
        "date,amount,amount,currency,reference\n",
        b"date,\xff",
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(InvalidImportFile):
        lines(tmp_path, content, BankFormat.CSV)


def test_each_payment_of_a_statement_is_a_line(tmp_path: Path) -> None:
    content = statement(
        entry(payment("E2E-1", amount="20.00"), payment("E2E-2", amount="30.00")),
        entry(payment("E2E-3")),
        entry(),
        entry(payment("NOTPROVIDED")),
    )

    assert lines(tmp_path, content, BankFormat.CAMT) == [
        line(2_000),
        line(3_000, reference="REF-T/2", end_to_end_id="E2E-2"),
        line(end_to_end_id="E2E-3"),
        line(reference="REF-E", end_to_end_id=""),
        line(end_to_end_id=""),
    ]


INSTRUCTED = "<InstrId>INSTR-1</InstrId>"


@pytest.mark.parametrize(
    ("named", "entry_named", "reference"),
    [
        ("<AcctSvcrRef>R</AcctSvcrRef><TxId>TX</TxId>", "<AcctSvcrRef>E</AcctSvcrRef>", "R"),
        (INSTRUCTED + "<TxId>TX</TxId>", "<AcctSvcrRef>E</AcctSvcrRef>", "TX"),
        (INSTRUCTED + "<TxId>INSTR-1</TxId>", "<AcctSvcrRef>E</AcctSvcrRef>", "E"),
        ("<AcctSvcrRef>NONREF</AcctSvcrRef>", "<AcctSvcrRef>E</AcctSvcrRef>", "E"),
        ("", "<NtryRef>7</NtryRef>", "STMT-1/7"),
        (INSTRUCTED, "", ""),
    ],
    ids=["payment's", "bank's on the way", "payer's, repeated", "none, in words", "entry's number", "payer's alone"],
)
def test_a_reference_is_what_the_bank_calls_a_payment(
    tmp_path: Path, named: str, entry_named: str, reference: str
) -> None:
    content = statement(entry(payment(named=named), named=entry_named)).replace("<Id>1</Id>", "<Id>STMT-1</Id>")

    assert lines(tmp_path, content, BankFormat.CAMT) == [line(reference=reference)]


@pytest.mark.parametrize("named", ["", "<AcctSvcrRef>REF-E</AcctSvcrRef>", "<TxId>T</TxId>"])
def test_payments_of_one_entry_are_never_the_same_and_those_of_an_entry_told_twice_are(
    tmp_path: Path, named: str
) -> None:
    told = entry(*[payment(amount="20.00", named=named)] * 3, amount="60.00")

    found = lines(tmp_path, statement(told, told), BankFormat.CAMT)

    assert (len(found), len(set(found)), found[:3] == found[3:]) == (6, 3, True)


def test_entries_that_two_statements_number_alike_are_not_the_same(tmp_path: Path) -> None:
    told = entry(payment(named=""), named="<NtryRef>1</NtryRef>")
    content = statement(told).replace("</Stmt>", f"</Stmt><Stmt><Id>2</Id>{told}</Stmt>")

    assert lines(tmp_path, content, BankFormat.CAMT) == [line(reference="1/1"), line(reference="2/1")]


@pytest.mark.parametrize("end_to_end_id", ["", "NOTPROVIDED", "E2E-1"])
def test_a_payout_is_found_by_the_payers_own_id_too(tmp_path: Path, end_to_end_id: str) -> None:
    payout_id = new_id()
    named = f"<AcctSvcrRef>REF-T</AcctSvcrRef><InstrId>{encode('pay', payout_id).upper()}</InstrId>"

    [found] = lines(tmp_path, statement(entry(payment(end_to_end_id, named=named))), BankFormat.CAMT)

    assert isinstance(found, BankLine)
    assert (payout_named(found), found.reference) == (payout_id, "REF-T")


def test_a_notification_is_read_like_a_statement_and_so_is_an_old_version(tmp_path: Path) -> None:
    old = payment(more='<AmtDtls><TxAmt><Amt Ccy="EUR">50.00</Amt></TxAmt></AmtDtls>')
    notification = statement(entry(payment()), message="BkToCstmrDbtCdtNtfctn/Ntfctn", version="054.001.08")
    of_2009 = statement(entry(old, amount="70.00", status="<Sts>BOOK</Sts>"), version="053.001.02")

    assert lines(tmp_path, notification, BankFormat.CAMT) == [line()]
    assert lines(tmp_path, of_2009, BankFormat.CAMT) == [line()]


def test_what_is_not_booked_yet_does_not_count(tmp_path: Path) -> None:
    content = statement(entry(payment(), status="<Sts>PDNG</Sts>"), entry(payment(), status="<Sts><Cd>INFO</Cd></Sts>"))

    assert lines(tmp_path, content, BankFormat.CAMT) == []


def test_returns_and_fees_are_told_apart_and_customers_money_is_left_out(tmp_path: Path) -> None:
    payout = encode("pay", new_id())
    returned = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>"
    fee = "<BkTxCd><Domn><Cd>ACMT</Cd><Fmly><Cd>MDOP</Cd><SubFmlyCd>CHRG</SubFmlyCd></Fmly></Domn></BkTxCd>"
    content = statement(
        entry(payment(more=returned), direction="CRDT"),
        entry(payment(), direction="CRDT", more="<RvslInd>true</RvslInd>"),
        entry(payment(payout.upper().replace("_", "")), direction="CRDT"),
        entry(payment("a customer"), direction="CRDT"),
        entry(payment(more=fee)),
    )

    assert [each.kind for each in lines(tmp_path, content, BankFormat.CAMT) if isinstance(each, BankLine)] == [
        LineKind.RETURNED,
        LineKind.RETURNED,
        LineKind.RETURNED,
        LineKind.FEE,
    ]


def test_several_payments_of_which_one_has_no_amount_are_refused(tmp_path: Path) -> None:
    content = statement(
        entry(payment(), payment()), entry(payment(), payment(amount="1.00")), entry(payment(amount="1.00"), payment())
    )

    assert lines(tmp_path, content, BankFormat.CAMT) == [
        "no_amount",
        "no_amount",
        line(100),
        "no_amount",
        line(100),
        "no_amount",
    ]


def test_numbers_go_on_through_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    path.write_text(statement(entry(payment(amount="x")), entry(payment())))

    found = list(read_lines(path, BankFormat.CAMT))

    assert [item.row if isinstance(item, Refused) else item.number for item in found] == [1, 2]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Document>&c;</Document>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]><Document>&f;</Document>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        OUTSIDE,
        '<!DOCTYPE d SYSTEM "http://127.0.0.1/d.dtd"><Document/>',
        BOMB.encode("utf-16"),
        b'<?xml version="1.0" encoding="cp037"?>' + "<!DOCTYPE d><Document/>".encode("cp037"),
        "<Document>&undefined;</Document>",
        "<Document><Ntry>",
        "<a>" * 50 + "</a>" * 50,
        "<Document/>",
        "not XML",
        "",
    ],
    ids=[
        "bomb",
        "file",
        "other server",
        "utf-16",
        "ebcdic",
        "entity",
        "cut",
        "deep",
        "another document",
        "text",
        "empty",
    ],
)
def test_what_is_no_statement_is_refused_whole(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(InvalidImportFile):
        lines(tmp_path, content, BankFormat.CAMT)


def test_a_long_text_is_cut_and_costs_no_memory(tmp_path: Path) -> None:
    [found] = lines(tmp_path, statement(entry(payment("E" * 1_000_000))), BankFormat.CAMT)

    assert isinstance(found, BankLine)
    assert 400 <= len(found.end_to_end_id) <= 500


@pytest.mark.parametrize("write", [str, str.upper, lambda text: text.replace("_", ""), lambda text: f"/ROC/{text}//"])
def test_a_payout_is_known_however_a_bank_writes_its_id(write) -> None:  # type: ignore[no-untyped-def] # a function of a text
    payout_id = new_id()
    written = write(encode("pay", payout_id))

    assert payout_named(line(end_to_end_id=written)) == payout_id
    assert payout_named(line(reference=written, end_to_end_id="")) == payout_id
    assert payout_named(line()) is None
