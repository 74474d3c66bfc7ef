"""What banks answer to files: line by line, in every order, any number of times, one final state."""

import csv
import io
from collections.abc import Sequence
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.payout import FactKind, ItemState, Outcome, RunState
from service.domain.payout_file import Attested, FileRailName
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import read_session, unit_of_work
from service.payouts.attest import AttestationMissing, NothingToAttest, SelfAttestation, attest, confirm
from service.payouts.files import FileNotBuilt
from service.payouts.find import states_in
from service.payouts.providers.file_model import UnreadableResult
from service.payouts.providers.sheet_file import preset
from service.payouts.reconcile import Told as ToldOfItem
from service.payouts.reconcile import reconcile
from service.payouts.release import release
from service.payouts.results import LineResult, ResultOfAnotherFile
from service.payouts.retry import NothingToRetry, confirm_resend, retry
from service.reports.define import Filter, Format
from service.reports.define_payouts import PAYOUTS
from service.reports.stream import Asked, stream
from service.tables.payouts import PayoutRunRow
from tests.support.payout_files import FileDesk, findings, neutral
from tests.support.payouts import CHECKER, MAKER


@pytest.fixture
def files(engine: Engine) -> FileDesk:
    return FileDesk.opened(engine)


def results(imported: Any) -> list[LineResult]:
    return [line.result for line in imported.lines]


def test_a_booked_line_is_settled_and_closes_the_run(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()

    imported = files.answer(file, neutral((files.reference(ann), "booked", "10.00", "EUR", "", "2026-11-21")))

    assert results(imported) == [LineResult.APPLIED]
    assert (imported.format, imported.was_known, imported.stop_code) == ("csv", False, None)
    assert files.desk.state(ann) == ItemState.SETTLED
    assert files.desk.balances(ann) == {"paid": 1000}
    files.work(run)
    assert files.desk.run(run).status == RunState.CLOSED
    assert findings(files.desk) == []
    told = [event for event in files.desk.events() if event.startswith(("payout.", "commission."))]
    assert told == ["payout.sent", "commission.paid", "payout.settled"]
    assert files.desk.rows("SELECT 1 FROM job WHERE kind = 'payout_reconcile'") == []


def test_a_line_the_bank_only_took_stays_unknown(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()

    files.answer(file, neutral((files.reference(ann), "accepted")))

    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.attempts(ann)[0].code == "accepted_by_bank"
    assert files.desk.balances(ann) == {"in_transit": 1000}


def test_a_rejected_line_brings_its_money_back_and_may_be_tried_again(files: FileDesk) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, file = files.handed_over()

    files.answer(file, neutral((files.reference(ann), "rejected", "", "", "AC04"), (files.reference(bob), "booked")))

    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.REFUSED, ItemState.SETTLED]
    assert files.desk.attempts(ann)[0].code == "AC04"
    assert files.desk.balances(ann) == {"reserved": 1000}
    first = files.reference(ann)
    files.desk.do(retry, item_id=files.desk.item(ann).id, by=MAKER, now=files.desk.now)
    files.work(run)
    second = files.files(run)[1]
    assert (second.lines, second.message_id == file.message_id) == (1, False)
    assert files.reference(ann) != first
    files.hand_over(second)
    files.answer(second, neutral((files.reference(ann), "booked")))
    files.work(run)
    assert files.desk.balances(ann) == {"paid": 1000}
    assert files.desk.run(run).status == RunState.CLOSED
    assert findings(files.desk) == []


def test_what_comes_back_weeks_later_is_carried_into_the_next_run(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    files.answer(file, neutral((files.reference(ann), "booked")))
    files.work(run)
    files.desk.later(days=40)

    imported = files.answer(file, neutral((files.reference(ann), "returned", "10.00", "EUR", "AC04")))

    assert results(imported) == [LineResult.APPLIED]
    assert files.desk.state(ann) == ItemState.RETURNED
    assert files.desk.balances(ann) == {"taxed_carry": 1000}
    assert files.desk.run(run).status == RunState.CLOSED
    assert findings(files.desk) == []
    _, [second] = files.built()
    assert second.control_sum_minor == 1000


def test_of_a_part_that_came_back_only_the_increase_is_carried(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    reference = files.reference(ann)

    for amount in ("3.00", "10.00", "3.00", "7.00"):
        files.answer(file, neutral((reference, "returned", amount, "EUR")))

    assert files.desk.state(ann) == ItemState.RETURNED
    assert files.desk.balances(ann) == {"taxed_carry": 1000}
    assert findings(files.desk) == []


def reported(files: FileDesk, run: PayoutRunRow) -> list[str]:
    """What the report of payouts calls the states of a run's payouts."""
    asked = Asked(files.desk.merchant_id, "UTC", files.desk.now, {Filter.RUN_ID: run.id})
    with read_session(files.desk.engine) as session:
        content = b"".join(stream(session, PAYOUTS, Format.CSV, asked)).decode()
    return [row["state"] for row in csv.DictReader(io.StringIO(content, newline=""))]


def test_a_payout_of_which_a_part_came_back_says_so_alone_and_in_its_run(files: FileDesk) -> None:
    payees = ann, bob, _, lan = [files.payee(1000 * number, number=number) for number in (1, 2, 3, 4)]
    run, file = files.handed_over()
    files.answer(file, neutral(*((files.reference(each), "booked") for each in payees)))
    took_back = ToldOfItem(files.desk.item(lan).id, files.reference(lan), FactKind.REVERSED, "1", 2500, {})
    files.desk.do(reconcile, told=[took_back], rail=files.name, when=files.desk.when, now=files.desk.now)

    files.answer(
        file,
        neutral(
            (files.reference(ann), "returned", "3.00", "EUR"),
            (files.reference(bob), "returned", "20.00", "EUR"),
            (files.reference(lan), "returned", "15.00", "EUR"),
        ),
    )

    states = [files.desk.state(each) for each in payees]
    assert states == [ItemState.PART_REVERSED, ItemState.RETURNED, ItemState.SETTLED, ItemState.REVERSED]
    with read_session(files.desk.engine) as session:
        counted = states_in(session, session.get_one(PayoutRunRow, (run.merchant_id, run.id)))
    assert {each.state: (each.items, each.net_minor) for each in counted} == {
        ItemState.PART_REVERSED: (1, 1000),
        ItemState.RETURNED: (1, 2000),
        ItemState.SETTLED: (1, 3000),
        ItemState.REVERSED: (1, 4000),
    }
    assert sorted(reported(files, run)) == sorted(states)
    assert files.desk.balances(ann) == {"paid": 700, "taxed_carry": 300}
    assert findings(files.desk) == []


SAID: Sequence[tuple[str, ...]] = (
    ("accepted",),
    ("accepted", "rejected"),
    ("accepted", "booked"),
    ("accepted", "booked", "returned"),
    ("returned",),
    ("rejected", "booked"),
    ("rejected", "booked", "returned"),
)


@pytest.mark.parametrize("said", SAID, ids="-".join)
def test_every_order_of_what_a_bank_says_comes_to_one_state(engine: Engine, said: tuple[str, ...]) -> None:
    reached = set()
    for order in sorted(set(permutations(said))):
        files = FileDesk.opened(engine)
        ann, bob = files.payee(1000), files.payee(500, number=2)
        run, file = files.handed_over()
        reference = files.reference(ann)
        for word in (*order, *order):
            files.answer(file, neutral((reference, word, "10.00", "EUR")))
        files.work(run)
        reached.add(
            (
                files.desk.state(ann),
                tuple(sorted(files.desk.balances(ann).items())),
                files.desk.attempts(ann)[0].outcome,
                files.desk.attempts(ann)[0].code,
                files.desk.run(run).stop_code,
            )
        )
        assert files.desk.state(bob) == ItemState.UNKNOWN
        assert findings(files.desk) == []

    assert len(reached) == 1, reached


def test_the_same_answer_again_changes_nothing_and_says_so(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    content = neutral((files.reference(ann), "booked"), (files.reference(ann), "booked"))
    first = files.answer(file, content)
    before = (files.desk.balances(ann), files.desk.events(), files.desk.attempts(ann))

    again = files.answer(file, content)

    assert results(first) == [LineResult.APPLIED, LineResult.ALREADY_KNOWN]
    assert results(again) == [LineResult.ALREADY_KNOWN] * 2
    assert (first.was_known, again.was_known) == (False, True)
    assert again.result_id == first.result_id
    assert (files.desk.balances(ann), files.desk.events(), files.desk.attempts(ann)) == before
    assert len(files.desk.rows("SELECT 1 FROM payout_result WHERE merchant_id = :merchant_id")) == 1


def test_ids_of_other_payments_are_told_and_change_nothing(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()

    imported = files.answer(
        file, neutral(("NOTPROVIDED", "booked"), ("", "rejected"), (files.reference(ann), "accepted"))
    )

    assert results(imported) == [LineResult.UNKNOWN_ID, LineResult.UNKNOWN_ID, LineResult.APPLIED]
    assert imported.stop_code is None


@pytest.mark.parametrize(
    ("status", "amount", "currency"),
    [
        pytest.param("booked", "9.99", "EUR", id="less"),
        pytest.param("booked", "10.00", "CHF", id="other-currency"),
        pytest.param("rejected", "10.01", "EUR", id="rejected-more"),
        pytest.param("returned", "10.01", "EUR", id="more-came-back-than-went"),
        pytest.param("returned", "0", "EUR", id="nothing-came-back"),
    ],
)
def test_another_amount_than_was_asked_for_books_nothing_and_stops_the_run(
    files: FileDesk, status: str, amount: str, currency: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, file = files.handed_over()

    imported = files.answer(
        file, neutral((files.reference(ann), status, amount, currency), (files.reference(bob), "booked"))
    )

    assert results(imported) == [LineResult.DIFFERS, LineResult.APPLIED]
    assert files.desk.run(run).stop_code == imported.stop_code == "answer_differs"
    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.balances(ann) == {"in_transit": 1000}
    assert files.desk.balances(bob) == {"paid": 2000}


def test_a_payment_to_another_account_books_nothing_and_stops_the_run(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()

    imported = files.answer(file, camt(entry(files.reference(ann), "10.00", account="DE02120300000000202051")))

    assert results(imported) == [LineResult.DIFFERS]
    assert files.desk.run(run).stop_code == "answer_differs"
    assert files.desk.state(ann) == ItemState.UNKNOWN


def test_a_booking_of_what_was_rejected_and_released_since_is_for_people(files: FileDesk) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, file = files.handed_over()
    reference = files.reference(ann)
    files.answer(file, neutral((reference, "rejected")))
    files.desk.do(release, item_id=files.desk.item(ann).id, when=files.desk.when, now=files.desk.now)

    imported = files.answer(file, neutral((reference, "booked")))

    assert results(imported) == [LineResult.CONTRADICTS]
    assert files.desk.run(run).stop_code == "result_contradicts"
    assert files.desk.balances(ann) == {"payable": 1000}
    assert files.desk.state(bob) == ItemState.UNKNOWN
    assert findings(files.desk) == []


def test_a_booking_of_what_was_rejected_and_sent_again_since_is_for_people(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    reference = files.reference(ann)
    files.answer(file, neutral((reference, "rejected")))
    files.desk.do(retry, item_id=files.desk.item(ann).id, by=MAKER, now=files.desk.now)
    files.work(run)
    second = files.files(run)[1]

    imported = files.answer(file, neutral((reference, "booked")))

    assert results(imported) == [LineResult.CONTRADICTS]
    assert files.desk.run(run).stop_code == "result_contradicts"
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.REFUSED, Outcome.PLANNED]
    with pytest.raises(Exception, match="result_contradicts"):
        files.hand_over(second)


def test_a_file_nobody_has_had_can_have_no_answer(files: FileDesk) -> None:
    files.payee(1000)
    _, [file] = files.built()

    with pytest.raises(FileNotBuilt):
        files.answer(file, neutral())


def test_a_process_that_dies_while_it_books_an_answer_has_booked_none_of_it(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    content = neutral((files.reference(ann), "booked"))
    with crashing_at(CrashPoint.RESULTS_BEFORE_COMMIT), pytest.raises(Crashed):
        files.answer(file, content)
    assert files.desk.state(ann) == ItemState.UNKNOWN

    again = files.answer(file, content)

    assert (results(again), again.was_known) == ([LineResult.APPLIED], False)
    assert files.desk.balances(ann) == {"paid": 1000}


# XML.


def pain(
    message_id: str, *transactions: str, group: str = "", payment: str = "", version: str = "pain.002.001.10"
) -> str:
    """A status report. group, payment: a status, and its reason after a blank."""
    status, part = (
        f"<{name}>{told.split()[0]}</{name}>{''.join(map(because, told.split()[1:]))}" if told else ""
        for name, told in (("GrpSts", group), ("PmtInfSts", payment))
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:{version}"><CstmrPmtStsRpt>'
        f"<GrpHdr><MsgId>B1</MsgId></GrpHdr><OrgnlGrpInfAndSts><OrgnlMsgId>{message_id}</OrgnlMsgId>{status}"
        f"</OrgnlGrpInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>x</OrgnlPmtInfId>{part}{''.join(transactions)}"
        "</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"
    )


def because(reason: str) -> str:
    return f"<StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>"


def transaction(reference: str, status: str, reason: str = "", amount: str = "") -> str:
    told = "".join(map(because, reason.split()))
    money = f'<OrgnlTxRef><Amt><InstdAmt Ccy="EUR">{amount}</InstdAmt></Amt></OrgnlTxRef>' if amount else ""
    return (
        f"<TxInfAndSts><OrgnlEndToEndId>{reference}</OrgnlEndToEndId><TxSts>{status}</TxSts>{told}{money}</TxInfAndSts>"
    )


def camt(*entries: str, kind: str = "BkToCstmrStmt", part: str = "Stmt", version: str = "camt.053.001.08") -> str:
    return (
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:{version}"><{kind}><{part}>{"".join(entries)}</{part}></{kind}>'
        "</Document>"
    )


def entry(
    reference: str, amount: str, *, sign: str = "DBIT", status: str = "BOOK", reason: str = "", account: str = ""
) -> str:
    told = f"<RtrInf><Rsn><Cd>{reason}</Cd></Rsn></RtrInf>" if reason else ""
    to = f"<RltdPties><CdtrAcct><Id><IBAN>{account}</IBAN></Id></CdtrAcct></RltdPties>" if account else ""
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts>'
        "<BookgDt><Dt>2026-11-22</Dt></BookgDt><NtryDtls><TxDtls><Refs>"
        f"<EndToEndId>{reference}</EndToEndId></Refs>{to}{told}</TxDtls></NtryDtls></Ntry>"
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        pytest.param("ACCP", ItemState.UNKNOWN, id="accepted"),
        pytest.param("ACSP", ItemState.UNKNOWN, id="in-process"),
        pytest.param("PDNG", ItemState.UNKNOWN, id="pending"),
        pytest.param("ACSC", ItemState.SETTLED, id="settled"),
        pytest.param("RJCT", ItemState.REFUSED, id="rejected"),
        pytest.param("CANC", ItemState.REFUSED, id="cancelled"),
    ],
)
@pytest.mark.parametrize("version", ["pain.002.001.03", "pain.002.001.10"])
def test_a_status_report_is_read_by_the_status_of_each_transaction(
    files: FileDesk, status: str, state: ItemState, version: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    _, file = files.handed_over()

    imported = files.answer(
        file,
        pain(
            file.message_id, transaction(files.reference(ann), status, "AC04", "10.00"), group="PART", version=version
        ),
    )

    assert imported.format == "pain.002"
    assert files.desk.state(ann) == state
    assert files.desk.state(bob) == ItemState.UNKNOWN


@pytest.mark.parametrize("level", ["group", "payment"])
def test_a_status_of_the_whole_file_counts_for_every_line(files: FileDesk, level: str) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    _, file = files.handed_over()

    imported = files.answer(file, pain(file.message_id, **{level: "RJCT"}))

    assert results(imported) == [LineResult.APPLIED] * 2
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.REFUSED] * 2
    assert {files.desk.attempts(each)[0].code for each in (ann, bob)} == {"RJCT"}
    assert findings(files.desk) == []


def test_a_report_on_another_file_is_refused(files: FileDesk) -> None:
    files.payee(1000)
    _, file = files.handed_over()

    with pytest.raises(ResultOfAnotherFile):
        files.answer(file, pain("01AAAAAAAAAAAAAAAAAAAAAAAA", group="RJCT"))


# Copies.


@pytest.mark.parametrize("reason", ["AM05", "DU01", "DU02", "DU03", "DU04", "DU05", "DUPL"])
@pytest.mark.parametrize("level", ["group", "payment"])
def test_the_answer_to_a_file_that_was_uploaded_twice_refuses_nothing_and_stops_the_run(
    files: FileDesk, level: str, reason: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, file = files.handed_over()
    files.answer(file, neutral((files.reference(bob), "booked")))
    before = [(files.desk.balances(each), files.desk.attempts(each)) for each in (ann, bob)]

    imported = files.answer(file, pain(file.message_id, **{level: f"RJCT {reason}"}))

    assert results(imported) == [LineResult.DUPLICATE] * 2
    assert files.desk.run(run).stop_code == imported.stop_code == "result_duplicate"
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.UNKNOWN, ItemState.SETTLED]
    assert [(files.desk.balances(each), files.desk.attempts(each)) for each in (ann, bob)] == before
    assert files.desk.rows("SELECT 1 FROM payout_line_fact WHERE said = 'rejected'") == []
    with pytest.raises(NothingToRetry):
        files.desk.do(retry, item_id=files.desk.item(ann).id, by=MAKER, now=files.desk.now)
    assert findings(files.desk) == []


def test_what_the_bank_booked_of_the_first_upload_counts_after_it_refused_the_second(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    files.answer(file, pain(file.message_id, group="RJCT DU01"))

    files.answer(file, camt(entry(files.reference(ann), "10.00")))

    assert files.desk.balances(ann) == {"paid": 1000}
    files.desk.execute(run)
    files.work(run)
    assert files.desk.run(run).status == RunState.CLOSED


@pytest.mark.parametrize("status", ["RJCT", "CANC"])
@pytest.mark.parametrize("reason", ["AM05", "DU03", "DU04", "NARR AM05"])
def test_a_transaction_that_a_bank_calls_a_copy_is_not_refused_and_the_others_are(
    files: FileDesk, status: str, reason: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, file = files.handed_over()
    told = [
        transaction(files.reference(ann), status, reason, "10.00"),
        transaction(files.reference(bob), "RJCT", "AC04"),
    ]

    imported = files.answer(file, pain(file.message_id, *told, group="PART"))

    assert results(imported) == [LineResult.DUPLICATE, LineResult.APPLIED]
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.UNKNOWN, ItemState.REFUSED]
    assert files.desk.balances(ann) == {"in_transit": 1000}
    assert files.desk.run(run).stop_code == "result_duplicate"


@pytest.mark.parametrize(
    ("group", "payment", "reason"),
    [
        pytest.param("RJCT DU01", "RJCT", "", id="reason-at-the-group"),
        pytest.param("RJCT", "RJCT DU02", "", id="reason-at-the-payment"),
        pytest.param("RJCT", "", "AM05", id="reason-at-a-transaction"),
        pytest.param("RJCT DU01", "", "MS03", id="another-reason-below"),
    ],
)
def test_a_file_rejected_whole_is_a_copy_whichever_level_says_so(
    files: FileDesk, group: str, payment: str, reason: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    _, file = files.handed_over()
    told = transaction(files.reference(ann), "RJCT", reason)

    imported = files.answer(file, pain(file.message_id, told, group=group, payment=payment))

    assert set(results(imported)) == {LineResult.DUPLICATE}
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.UNKNOWN] * 2


@pytest.mark.parametrize(
    "told",
    [
        pytest.param("<Rsn><Prtry>DU01</Prtry></Rsn>", id="the-banks-own-code"),
        pytest.param(
            "<Rsn><Cd>NARR</Cd></Rsn><AddtlInf>File is a dup</AddtlInf><AddtlInf>licate</AddtlInf>", id="words"
        ),
    ],
)
def test_a_copy_is_known_by_a_banks_own_code_and_by_words(files: FileDesk, told: str) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    content = pain(file.message_id, group="RJCT XXXX").replace("<Rsn><Cd>XXXX</Cd></Rsn>", told)

    assert results(files.answer(file, content)) == [LineResult.DUPLICATE]
    assert files.desk.state(ann) == ItemState.UNKNOWN


def test_the_copy_that_comes_back_does_not_take_back_what_was_paid(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    reference = files.reference(ann)

    imported = files.answer(
        file,
        camt(
            entry(reference, "10.00"), entry(reference, "10.00"), entry(reference, "10.00", sign="CRDT", reason="AM05")
        ),
    )

    assert results(imported) == [LineResult.APPLIED, LineResult.ALREADY_KNOWN, LineResult.DUPLICATE]
    assert files.desk.state(ann) == ItemState.SETTLED
    assert files.desk.balances(ann) == {"paid": 1000}
    assert files.desk.run(run).stop_code == imported.stop_code == "result_duplicate"
    assert findings(files.desk) == []


def test_a_row_of_a_neutral_sheet_that_tells_of_a_copy_refuses_nothing(files: FileDesk) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    _, file = files.handed_over()

    imported = files.answer(
        file, neutral((files.reference(ann), "rejected", "", "", "AM05"), (files.reference(bob), "rejected"))
    )

    assert results(imported) == [LineResult.DUPLICATE, LineResult.APPLIED]
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.UNKNOWN, ItemState.REFUSED]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param("失败", "商户流水号重复", id="by-the-reason"),
        pytest.param("失败", f"{'很' * 200}重复", id="by-a-long-reason"),
        pytest.param("重复付款", "", id="by-a-word-that-the-map-calls-rejected"),
    ],
)
def test_a_row_of_a_wallets_sheet_that_tells_of_a_copy_refuses_nothing(
    engine: Engine, status: str, reason: str
) -> None:
    files = FileDesk.opened(engine, FileRailName.ALIPAY_FILE, currency="CNY")
    template = preset(FileRailName.ALIPAY_FILE)
    template["results"]["words"]["重复付款"] = "rejected"
    files.writes_by(template)
    ann = files.payee(100_000)
    run, file = files.handed_over()
    rows = ["商户流水号,付款金额（元）,状态,失败原因", f"{files.reference(ann)},1000.00,{status},{reason}"]

    imported = files.answer(file, "\r\n".join(rows))

    assert results(imported) == [LineResult.DUPLICATE]
    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.run(run).stop_code == "result_duplicate"


@pytest.mark.parametrize(
    ("rows", "stop_code"),
    [
        pytest.param([("rejected", "AM05"), ("booked", "9.99")], "answer_differs", id="another-amount"),
        pytest.param(
            [("rejected", "AM05"), ("rejected", ""), ("booked", "")], "result_contradicts", id="contradiction"
        ),
    ],
)
def test_a_run_stops_with_what_is_worse_than_a_copy(
    files: FileDesk, rows: list[tuple[str, str]], stop_code: str
) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    reference = files.reference(ann)
    told = [
        (reference, status, more if status == "booked" else "", "EUR", more if status == "rejected" else "")
        for status, more in rows
    ]

    imported = files.answer(file, neutral(*told))

    assert results(imported)[0] is LineResult.DUPLICATE
    assert files.desk.run(run).stop_code == imported.stop_code == stop_code


@pytest.mark.parametrize(
    ("kind", "part", "version"),
    [
        pytest.param("BkToCstmrStmt", "Stmt", "camt.053.001.02", id="053-02"),
        pytest.param("BkToCstmrStmt", "Stmt", "camt.053.001.08", id="053-08"),
        pytest.param("BkToCstmrDbtCdtNtfctn", "Ntfctn", "camt.054.001.08", id="054"),
        pytest.param("BkToCstmrAcctRpt", "Rpt", "camt.052.001.08", id="052"),
    ],
)
def test_a_statement_books_what_went_out_and_returns_what_came_in(
    files: FileDesk, kind: str, part: str, version: str
) -> None:
    ann, bob, eve = files.payee(1000), files.payee(2000, number=2), files.payee(3000, number=3)
    _, file = files.handed_over()

    imported = files.answer(
        file,
        camt(
            entry(files.reference(ann), "10.00"),
            entry(files.reference(bob), "20.00", sign="CRDT", reason="AC04"),
            entry(files.reference(eve), "30.00", status="PDNG"),
            entry("NOTPROVIDED", "77.00"),
            kind=kind,
            part=part,
            version=version,
        ),
    )

    assert results(imported) == [LineResult.APPLIED, LineResult.APPLIED, LineResult.UNKNOWN_ID]
    assert [files.desk.state(each) for each in (ann, bob, eve)] == [
        ItemState.SETTLED,
        ItemState.RETURNED,
        ItemState.UNKNOWN,
    ]
    [fact] = files.desk.rows("SELECT booked_on, reason FROM payout_line_fact WHERE said = 'returned'")
    assert (str(fact.booked_on), fact.reason) == ("2026-11-22", "AC04")


def test_an_old_statement_has_its_status_as_plain_text(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    content = camt(entry(files.reference(ann), "10.00")).replace("<Sts><Cd>BOOK</Cd></Sts>", "<Sts>BOOK</Sts>")

    files.answer(file, content)

    assert files.desk.state(ann) == ItemState.SETTLED


_BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<Document><CstmrPmtStsRpt>&b;</CstmrPmtStsRpt></Document>"
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_BOMB, id="entities"),
        pytest.param('<!DOCTYPE x SYSTEM "file:///etc/passwd"><Document/>', id="outside"),
        pytest.param("<!DOCTYPE x><Document/>", id="document-type"),
        pytest.param("<a>" * 60 + "</a>" * 60, id="deep"),
        pytest.param("<Document><CstmrPmtStsRpt>", id="cut-off"),
        pytest.param('<?xml version="1.0" encoding="shift_jis"?><Document/>', id="encoding-of-several-bytes"),
        pytest.param('<?xml version="1.0" encoding="of-nobody"?><Document/>', id="encoding-of-nobody"),
        pytest.param("<Document><Else/></Document>", id="another-message"),
        pytest.param("<CstmrPmtStsRpt/>", id="no-document"),
        pytest.param(f"<Document>{'x' * 20_000}</Document>", id="long-text"),
        pytest.param(camt(entry("X", "ten")), id="no-amount"),
        pytest.param(camt(entry("X", "NaN")), id="not-a-number"),
        pytest.param(camt(entry("X", "1.00").replace("EUR", "XXX")), id="no-currency"),
        pytest.param(camt(entry("X", "1.00").replace("2026-11-22", "2026-13-22")), id="no-day"),
        pytest.param("", id="empty"),
        pytest.param("id,net\n1,2", id="other-columns"),
        pytest.param("end_to_end_id,status\nX,done", id="unknown-status"),
        pytest.param("end_to_end_id,status,amount\nX,booked,1.234", id="too-many-decimals"),
        pytest.param("end_to_end_id,status,booked_on\nX,booked,yesterday", id="booked-on-no-day"),
        pytest.param('end_to_end_id,status\n"X,booked', id="open-quote"),
        pytest.param(b"\xff\xfe\xfa", id="no-text"),
    ],
)
def test_what_cannot_be_read_is_refused_whole(files: FileDesk, content: str | bytes) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()

    with pytest.raises(UnreadableResult):
        files.answer(file, content)

    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.rows("SELECT 1 FROM payout_result") == []


def test_what_a_bank_writes_is_kept_without_what_nobody_sees(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()

    imported = files.answer(
        file,
        neutral(("\u202eX\x00" + "Y" * 99, "booked"), (files.reference(ann), "rejected", "", "", "A\x00C" + "x" * 200)),
    )

    assert imported.lines[0].end_to_end_id == "X" + "Y" * 34
    assert files.desk.attempts(ann)[0].code == "AC" + "x" * 98


def test_a_neutral_sheet_may_come_from_a_spreadsheet(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, file = files.handed_over()
    content = f"\ufeffstatus;end_to_end_id;amount\r\n\r\nbooked; {files.reference(ann).lower()} ;10,00\r\n".replace(
        ",", "."
    )

    files.answer(file, content)

    assert files.desk.state(ann) == ItemState.SETTLED


def test_the_sheet_of_a_wallet_is_read_by_the_rails_column_map(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.ALIPAY_FILE, currency="CNY")
    ann, bob, eve = files.payee(100_000), files.payee(2000, number=2), files.payee(3000, number=3)
    _, file = files.handed_over()
    rows = [
        ["批次号", "x"],
        ["商户流水号", "收款人姓名", "付款金额（元）", "状态", "失败原因"],
        [files.reference(ann), "王芳", '"1,000.00"', "成功", ""],
        [files.reference(bob), "王芳", "20.00", "失败", "账户不存在"],
        [files.reference(eve), "王芳", "30.00", "处理中", ""],
    ]

    imported = files.answer(file, "\r\n".join(",".join(row) for row in rows).encode("gb18030"))

    assert imported.format == "sheet"
    assert [files.desk.state(each) for each in (ann, bob, eve)] == [
        ItemState.SETTLED,
        ItemState.REFUSED,
        ItemState.UNKNOWN,
    ]
    assert files.desk.attempts(bob)[0].code == "账户不存在"


def test_the_id_may_stand_at_the_end_of_a_remark(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.VN_BANK_FILE, currency="VND")
    ann = files.payee(1_250_000)
    _, file = files.handed_over()

    files.answer(file, f"Nội dung,Số tiền,Trạng thái\nHOA HONG {files.reference(ann)},1250000,Thành công\n")

    assert files.desk.state(ann) == ItemState.SETTLED


def test_fen_in_a_sheet_of_results_are_read_as_fen(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.WECHAT_FILE, currency="CNY")
    ann = files.payee(1250)
    _, file = files.handed_over()
    titles = "商家明细单号,转账金额（分）,明细状态"

    for amount in ("12.50", "9" * 19, "1" * 5000):
        with pytest.raises(UnreadableResult):
            files.answer(file, f"{titles}\n{files.reference(ann)},{amount},转账成功\n")
    files.answer(file, f"{titles}\n{files.reference(ann)},1250,转账成功\n")

    assert files.desk.state(ann) == ItemState.SETTLED


# Two persons.


def attested(files: FileDesk, payee: UUID, outcome: Attested, *, by: UUID = MAKER) -> None:
    files.desk.do(
        attest,
        item_id=files.desk.item(payee).id,
        outcome=outcome,
        evidence="statement 12, line 3",
        by=by,
        when=files.desk.when,
    )


def confirmed(files: FileDesk, payee: UUID, outcome: Attested, *, by: UUID = CHECKER) -> None:
    with unit_of_work(files.desk.engine) as session:
        confirm(
            session,
            files.desk.security,
            merchant_id=files.desk.merchant_id,
            item_id=files.desk.item(payee).id,
            outcome=outcome,
            note="seen",
            by=by,
            when=files.desk.when,
            now=files.desk.now,
        )


def test_nothing_follows_from_what_one_person_attests(files: FileDesk) -> None:
    ann = files.payee(1000)
    files.handed_over()

    attested(files, ann, Attested.PAID)

    assert files.desk.state(ann) == ItemState.UNKNOWN
    with pytest.raises(SelfAttestation):
        confirmed(files, ann, Attested.PAID, by=MAKER)
    assert files.desk.state(ann) == ItemState.UNKNOWN


def test_two_persons_may_say_that_it_was_paid(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    attested(files, ann, Attested.PAID)

    confirmed(files, ann, Attested.PAID)

    assert files.desk.state(ann) == ItemState.SENT
    assert files.desk.balances(ann) == {"paid": 1000}
    files.work(run)
    assert files.desk.run(run).status == RunState.CLOSED
    assert findings(files.desk) == []
    assert results(files.answer(file, neutral((files.reference(ann), "booked")))) == [LineResult.APPLIED]
    assert files.desk.state(ann) == ItemState.SETTLED
    with pytest.raises(NothingToAttest):
        attested(files, ann, Attested.NOT_SENT)


def test_two_persons_may_say_that_it_was_never_sent_and_a_third_step_sends_it_anew(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, _ = files.handed_over()
    attested(files, ann, Attested.NOT_SENT)
    confirmed(files, ann, Attested.NOT_SENT)
    assert files.desk.state(ann) == ItemState.REFUSED
    assert files.desk.balances(ann) == {"reserved": 1000}
    files.work(run)
    assert len(files.files(run)) == 1

    files.desk.do(confirm_resend, item_id=files.desk.item(ann).id, by=MAKER, now=files.desk.now)
    files.work(run)

    assert [each.code for each in files.desk.attempts(ann)] == ["attested_not_sent", ""]
    assert len(files.files(run)) == 2
    assert findings(files.desk) == []


def test_a_booking_of_what_two_persons_called_not_sent_is_booked_and_stops_the_run(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, file = files.handed_over()
    attested(files, ann, Attested.NOT_SENT)
    confirmed(files, ann, Attested.NOT_SENT)

    imported = files.answer(file, neutral((files.reference(ann), "booked")))

    assert results(imported) == [LineResult.CONTRADICTS]
    assert files.desk.balances(ann) == {"paid": 1000}
    assert files.desk.run(run).stop_code == "result_contradicts"
    assert findings(files.desk) == []


def test_a_rejection_of_what_two_persons_called_paid_is_for_people(files: FileDesk) -> None:
    ann, _ = files.payee(1000), files.payee(500, number=2)
    run, file = files.handed_over()
    attested(files, ann, Attested.PAID)
    confirmed(files, ann, Attested.PAID)

    imported = files.answer(file, neutral((files.reference(ann), "rejected")))

    assert results(imported) == [LineResult.CONTRADICTS]
    assert files.desk.balances(ann) == {"paid": 1000}
    assert files.desk.run(run).stop_code == "result_contradicts"


def test_what_is_attested_anew_takes_the_place_of_what_was_not_confirmed(files: FileDesk) -> None:
    ann = files.payee(1000)
    files.handed_over()
    attested(files, ann, Attested.PAID)
    attested(files, ann, Attested.NOT_SENT, by=CHECKER)

    with pytest.raises(AttestationMissing):
        confirmed(files, ann, Attested.PAID)
    with pytest.raises(SelfAttestation):
        confirmed(files, ann, Attested.NOT_SENT)
    confirmed(files, ann, Attested.NOT_SENT, by=MAKER)

    assert files.desk.state(ann) == ItemState.REFUSED
    rows = files.desk.rows("SELECT outcome, withdrawn_at IS NULL AS counts FROM payout_attestation ORDER BY id")
    assert [(row.outcome, row.counts) for row in rows] == [("paid", False), ("not_sent", True)]


def test_only_what_was_handed_over_and_is_unknown_can_be_attested(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    with pytest.raises(NothingToAttest):
        attested(files, ann, Attested.PAID)
    files.hand_over(file)
    with pytest.raises(AttestationMissing):
        confirmed(files, ann, Attested.PAID)


def test_a_process_that_dies_while_an_attestation_is_confirmed_has_booked_nothing(files: FileDesk) -> None:
    ann = files.payee(1000)
    files.handed_over()
    attested(files, ann, Attested.PAID)
    with crashing_at(CrashPoint.ATTEST_BEFORE_COMMIT), pytest.raises(Crashed):
        confirmed(files, ann, Attested.PAID)
    assert files.desk.state(ann) == ItemState.UNKNOWN

    confirmed(files, ann, Attested.PAID)

    assert files.desk.balances(ann) == {"paid": 1000}
