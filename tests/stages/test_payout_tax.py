"""Tax on its way: decided at submit for the pay day, looked at again before sending, posted when the rail accepts."""

import dataclasses
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.correction import CorrectionKind
from service.domain.payout import ItemState
from service.domain.withholding.model import Duty, Key, Mode, Regime
from service.infra.db import execute, read_session, unit_of_work
from service.ledger.audit import check
from service.payouts import correct, remit
from service.payouts.correct import CorrectionTooLarge, SelfDecision
from service.payouts.release import cancel
from service.payouts.remit import NothingToRemit
from service.payouts.reserve import NothingToPay
from service.tables.taxes import CorrectionRow
from tests.support.payouts import CHECKER, MAKER, Desk

JULY = datetime(2026, 7, 10, 12, tzinfo=UTC)
LABOUR = "cn_labour_61_2018"


@pytest.fixture
def desk(engine: Engine) -> Desk:
    desk = Desk.opened(engine, currency="CNY", now=JULY)
    desk.declare("CN", Regime.CN_LABOUR)
    return desk


def paid(desk: Desk, payee_id: UUID, amount: int) -> None:
    """Let somebody earn and be paid at once."""
    desk.earn(payee_id, amount)
    desk.work(desk.an_executing_run(payee_id))


def entries(desk: Desk, payee_id: UUID) -> list[tuple[str, str, int, int]]:
    rows = desk.rows(
        "SELECT rule, period, base_minor, tax_minor FROM tax_entry WHERE payee_id = :payee_id ORDER BY id",
        payee_id=payee_id,
    )
    return [(row.rule, row.period, row.base_minor, row.tax_minor) for row in rows]


def agrees(desk: Desk) -> bool:
    """Whether the checks of money out find nothing; what is earned here comes from no order, which others would find."""
    with read_session(desk.engine) as session:
        codes = {finding.code for finding in check(session, desk.merchant_id)}
    assert not codes - {"earned", "item-gross", "posting-entries"}, codes
    return True


def test_tax_is_taken_when_the_rail_accepts_and_kept_for_the_authority(desk: Desk) -> None:
    ann = desk.payee(600_000)
    desk.tax(ann, "CN")
    run = desk.an_executing_run()
    item = desk.item(ann)
    assert (item.tax_rule, item.gross_minor, item.tax_minor, item.net_minor) == (LABOUR, 600_000, 96_000, 504_000)
    assert desk.balances(ann) == {"reserved": 600_000}

    desk.work(run)

    assert desk.balances(ann) == {"paid": 504_000, "tax_withheld": 96_000}
    assert entries(desk, ann) == [(LABOUR, "2026-07", 600_000, 96_000)]
    assert [sent.amount_minor for sent in desk.rail.transfers] == [504_000]
    assert agrees(desk)


def test_a_second_payout_of_the_month_bears_the_difference_it_makes(desk: Desk) -> None:
    ann = desk.payee()
    desk.tax(ann, "CN")
    paid(desk, ann, 300_000)
    paid(desk, ann, 300_000)
    desk.later(days=30)
    paid(desk, ann, 300_000)

    assert [item.tax_minor for item in desk.items(ann)] == [44_000, 52_000, 44_000]
    assert [period for _, period, _, _ in entries(desk, ann)] == ["2026-07", "2026-07", "2026-08"]
    assert agrees(desk)


def test_what_is_refused_or_released_leaves_no_tax_behind(desk: Desk) -> None:
    ann = desk.payee(600_000, destination="ann")
    desk.tax(ann, "CN")
    desk.rail.does["ann"] = ["refuse"]
    desk.work(desk.an_executing_run())

    assert desk.state(ann) is ItemState.REFUSED
    assert (desk.balances(ann), entries(desk, ann)) == ({"reserved": 600_000}, [])
    assert agrees(desk)


def test_money_that_comes_back_is_not_taxed_again(desk: Desk) -> None:
    ann = desk.payee(0, carried=10_000)
    desk.tax(ann, "CN")
    paid(desk, ann, 80_000)

    item = desk.item(ann)
    assert (item.gross_minor, item.carried_minor, item.tax_minor, item.net_minor) == (80_000, 10_000, 0, 90_000)


def test_tax_is_decided_for_the_pay_day_when_the_run_is_submitted(engine: Engine) -> None:
    desk = Desk.opened(engine, currency="VND", now=datetime(2026, 6, 20, 12, tzinfo=UTC))
    desk.declare("VN", Regime.VN)
    ann = desk.payee(4_000_000)
    desk.tax(ann, "VN")

    in_june = desk.reserve(pay_on=date(2026, 6, 30))
    assert desk.item(ann).tax_minor == 400_000
    desk.do(cancel, run_id=in_june.id, when=desk.when, now=desk.now)
    desk.submit(desk.reserve(pay_on=date(2026, 7, 1)))

    assert (desk.item(ann).tax_rule, desk.item(ann).tax_minor) == ("vn_2026_07", 0)


def test_a_draft_is_decided_again_at_submit(desk: Desk) -> None:
    ann = desk.payee(600_000)
    desk.tax(ann, "CN")
    run = desk.reserve()
    desk.declare("CN", Regime.CN_LABOUR, mode=Mode.OFF)

    desk.submit(run)

    item = desk.item(ann)
    assert (item.tax_rule, item.tax_minor, item.net_minor, item.tax_decision) == ("off", 0, 600_000, None)


def test_who_cannot_be_decided_any_more_leaves_the_run_at_submit(desk: Desk) -> None:
    ann, ben = desk.payee(600_000), desk.payee(700_000)
    desk.tax(ann, "CN")
    run = desk.reserve()
    desk.tax(ann, "TH")

    desk.submit(run)

    assert (desk.state(ann), desk.item(ann).release_reason) == (ItemState.RELEASED, "no_tax_regime")
    assert desk.balances(ann) == {"payable": 600_000}
    assert desk.state(ben) is ItemState.RESERVED
    assert agrees(desk)


def test_a_run_sent_in_another_month_drops_who_is_taxed_by_the_month(desk: Desk) -> None:
    ann, ben = desk.payee(600_000), desk.payee(700_000)
    desk.tax(ann, "CN")
    run = desk.an_executing_run()
    desk.later(days=30)

    desk.work(run)

    assert (desk.state(ann), desk.item(ann).release_reason) == (ItemState.RELEASED, "tax_rule_changed")
    assert desk.state(ben) is ItemState.SENT
    assert desk.balances(ann) == {"payable": 600_000}


def test_a_payee_whose_month_grew_since_the_approval_is_dropped(desk: Desk) -> None:
    ann = desk.payee(300_000)
    desk.tax(ann, "CN")
    run = desk.an_executing_run()
    opening(desk, ann, base=300_000, tax=44_000)

    desk.work(run)

    assert (desk.state(ann), desk.item(ann).release_reason) == (ItemState.RELEASED, "tax_changed")
    again = desk.reserve()
    desk.submit(again)
    assert desk.item(ann).tax_minor == 52_000


def test_who_is_taxed_by_sums_has_one_payout_at_a_time_whatever_the_currency(desk: Desk) -> None:
    ann = desk.payee(300_000)
    desk.tax(ann, "US", form="w9")
    desk.declare("US", Regime.US_NEC)
    desk.currency = "USD"
    desk.earn(ann, 10_000)
    desk.reserve(ann)
    assert desk.item(ann).tax_accumulates
    desk.currency = "CNY"

    with pytest.raises(NothingToPay, match=r"1 (live_item|tax_currency)"):
        desk.reserve(ann)


def test_the_merchant_bears_what_it_only_warns_of(desk: Desk) -> None:
    desk.declare("CN", Regime.CN_LABOUR, mode=Mode.WARN)
    ann = desk.payee(600_000)
    desk.tax(ann, "CN")

    desk.work(desk.an_executing_run())

    assert desk.balances(ann) == {"paid": 600_000, "tax_withheld": 96_000, "tax_cost": -96_000}
    assert agrees(desk)


def test_a_net_contract_is_grossed_up_at_the_merchants_cost(desk: Desk) -> None:
    desk.declare("CN", Regime.CN_LABOUR, gross_up=True)
    ann = desk.payee(504_000)
    desk.tax(ann, "CN")

    desk.work(desk.an_executing_run())

    assert desk.balances(ann) == {"paid": 504_000, "tax_withheld": 96_000, "tax_cost": -96_000}
    assert entries(desk, ann) == [(LABOUR, "2026-07", 600_000, 96_000)]
    assert agrees(desk)


# What people put right


def opening(desk: Desk, payee_id: UUID, *, base: int, tax: int) -> None:
    with unit_of_work(desk.engine) as session:
        execute(
            session,
            """
            WITH base AS (
                INSERT INTO tax_base (merchant_id, payee_id, rule, version) VALUES (:merchant_id, :payee_id, :rule, 1)
                ON CONFLICT DO NOTHING
            )
            INSERT INTO tax_entry (merchant_id, id, kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
                                   borne_minor, booked_on, created_at)
            VALUES (:merchant_id, gen_random_uuid(), 'opening', :payee_id, :rule, 'income_tax', '2026-07', 'CNY',
                    :base, :tax, 0, '2026-07-01', :now)
            """,
            {
                "merchant_id": desk.merchant_id,
                "payee_id": payee_id,
                "rule": LABOUR,
                "base": base,
                "tax": tax,
                "now": desk.now,
            },
        )


def asked(desk: Desk, kind: CorrectionKind, payee_id: UUID, amount: int, **more: Any) -> CorrectionRow:
    wanted = correct.Asked(
        desk.merchant_id,
        kind,
        payee_id,
        desk.currency,
        amount,
        reason="agreed",
        by=MAKER,
        **more,
    )
    with unit_of_work(desk.engine) as session:
        return correct.ask(session, wanted, when=desk.when)


def booked(desk: Desk, row: CorrectionRow, *, by: UUID = CHECKER) -> CorrectionRow:
    known: CorrectionRow = desk.do(correct.book, correction_id=row.id, by=by, when=desk.when)
    return known


IN_JULY = Key(LABOUR, Duty.INCOME_TAX, "2026-07")


def test_a_withholding_is_undone_by_two_persons_and_counts_no_more(desk: Desk) -> None:
    ann = desk.payee()
    desk.tax(ann, "CN")
    paid(desk, ann, 300_000)
    row = asked(desk, CorrectionKind.UNTAX, ann, 44_000, key=IN_JULY, base_minor=300_000)
    with pytest.raises(SelfDecision):
        booked(desk, row, by=MAKER)

    booked(desk, row)

    assert desk.balances(ann) == {"payable": 44_000, "paid": 256_000}
    assert entries(desk, ann)[-1] == (LABOUR, "2026-07", -300_000, -44_000)
    paid(desk, ann, 300_000)
    # 3,440.00 in a month that counts nothing else: 0.2 x (3,440 - 800).
    assert desk.item(ann).tax_minor == 52_800
    assert agrees(desk)


def test_no_more_is_undone_than_was_withheld_there(desk: Desk) -> None:
    ann = desk.payee()
    desk.tax(ann, "CN")
    paid(desk, ann, 300_000)

    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.UNTAX, ann, 44_001, key=IN_JULY)
    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.UNTAX, ann, 44_000, key=IN_JULY, base_minor=300_001)
    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.UNTAX, ann, 1, key=Key(LABOUR, Duty.INCOME_TAX, "2026-06"))


def test_a_debt_is_set_off_against_what_a_rail_gave_back_and_the_rest_is_written_off(desk: Desk) -> None:
    ann = desk.payee(-5_000, carried=2_000)
    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.RECOVER, ann, 2_001)
    booked(desk, asked(desk, CorrectionKind.RECOVER, ann, 2_000))
    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.WRITE_OFF, ann, 3_001)
    first, second = (asked(desk, CorrectionKind.WRITE_OFF, ann, 3_000) for _ in range(2))

    booked(desk, first)

    assert desk.balances(ann) == {"write_off": -3_000}
    with pytest.raises(CorrectionTooLarge):
        booked(desk, second)


def test_who_was_paid_outside_is_paid_that_much_less(desk: Desk) -> None:
    ann = desk.payee(1_000)

    booked(desk, asked(desk, CorrectionKind.PAID_OUTSIDE, ann, 1_400))

    # What was more than was owed is a debt.
    assert desk.balances(ann) == {"payable": -400, "paid": 1_400}
    desk.earn(ann, 1_000)
    desk.work(desk.an_executing_run())
    assert desk.balances(ann) == {"paid": 2_000}
    assert agrees(desk)


def test_what_people_put_right_is_part_of_the_next_payouts_interval(desk: Desk) -> None:
    ann = desk.payee()
    desk.tax(ann, "CN")
    paid(desk, ann, 300_000)
    row = booked(desk, asked(desk, CorrectionKind.UNTAX, ann, 44_000, key=IN_JULY, base_minor=300_000))

    desk.reserve()

    item = desk.item(ann)
    assert item.from_version < (row.payable_version or 0) <= item.to_version


def test_withheld_tax_is_passed_on_once(desk: Desk) -> None:
    ann, ben = desk.payee(), desk.payee()
    for each in (ann, ben):
        desk.tax(each, "CN")
        paid(desk, each, 300_000)
    wanted = remit.Asked(desk.merchant_id, IN_JULY, "CNY", "T-1", date(2026, 8, 15), by=MAKER)

    with unit_of_work(desk.engine) as session:
        row = remit.remit(session, wanted, when=desk.when)

    assert (row.amount_minor, row.payees) == (88_000, 2)
    assert desk.balances(ann) == {"paid": 256_000, "remitted": 44_000}
    with pytest.raises(NothingToRemit), unit_of_work(desk.engine) as session:
        remit.remit(session, wanted, when=desk.when)
    paid(desk, ann, 300_000)
    with unit_of_work(desk.engine) as session:
        assert remit.remit(session, wanted, when=desk.when).amount_minor == 52_000
    assert agrees(desk)


def passed_on(desk: Desk) -> UUID:
    """A payee of whom 440 was withheld in July and passed on."""
    ann = desk.payee()
    desk.tax(ann, "CN")
    paid(desk, ann, 300_000)
    wanted = remit.Asked(desk.merchant_id, IN_JULY, "CNY", "T-1", date(2026, 8, 15), by=MAKER)
    with unit_of_work(desk.engine) as session:
        remit.remit(session, wanted, when=desk.when)
    return ann


def test_what_was_passed_on_cannot_be_given_back(desk: Desk) -> None:
    ann = passed_on(desk)

    with pytest.raises(CorrectionTooLarge):
        asked(desk, CorrectionKind.UNTAX, ann, 44_000, key=IN_JULY)


def test_what_another_period_withheld_does_not_make_up_for_what_was_passed_on(desk: Desk) -> None:
    ann = passed_on(desk)
    desk.later(days=30)
    paid(desk, ann, 300_000)
    in_august = dataclasses.replace(IN_JULY, period="2026-08")

    with pytest.raises(CorrectionTooLarge, match=r"^0 minor units"):
        asked(desk, CorrectionKind.UNTAX, ann, 1, key=IN_JULY)

    with unit_of_work(desk.engine) as session:
        wanted = remit.Asked(desk.merchant_id, in_august, "CNY", "T-2", date(2026, 9, 15), by=MAKER)
        assert remit.remit(session, wanted, when=desk.when).amount_minor == 44_000


def test_an_opening_is_no_money_that_could_be_given_back(desk: Desk) -> None:
    ann = desk.payee()
    desk.tax(ann, "CN")
    opening(desk, ann, base=300_000, tax=44_000)
    desk.later(days=30)
    paid(desk, ann, 300_000)

    with pytest.raises(CorrectionTooLarge, match=r"^0 minor units"):
        asked(desk, CorrectionKind.UNTAX, ann, 1, key=IN_JULY)
