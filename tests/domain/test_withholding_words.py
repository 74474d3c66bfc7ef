"""Whatever is decided about tax can be read in every language, with its figures."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given

from service.domain.withholding.applied import Why
from service.domain.withholding.details import Supplies
from service.domain.withholding.model import (
    Caution,
    Decision,
    Declared,
    Duty,
    Key,
    Mode,
    Part,
    PayeeKind,
    Profile,
    Refusal,
    Regime,
    Sum,
)
from service.domain.withholding.tables import RuleName
from service.domain.wording import withholding
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Language
from tests.domain.strategies import examples
from tests.domain.withheld import (
    AMOUNTS,
    CURRENCIES,
    IN_CHINA,
    IN_VIETNAM,
    LABOUR,
    PLATFORM,
    WITHOUT_TIN,
    Case,
    answered,
    cases,
    decided,
    in_turn,
)

EN, VI, ZH = (Speech(language) for language in Language)


def read(decision: Decision, speech: Speech, *, paid: int, currency: str) -> list[str]:
    return withholding.told(decision, paid_minor=paid, currency=currency, speech=speech)


def test_every_code_has_words() -> None:
    assert set(withholding.RULES) == set(RuleName)
    assert set(withholding.WHYS) == set(Why)
    assert set(withholding.DUTIES) == set(Duty)
    assert set(withholding.CAUTIONS) == set(Caution)
    assert set(withholding.REFUSALS) == set(Refusal)
    assert set(withholding.REGIMES) == set(Regime)
    assert set(withholding.MODES) == set(Mode)
    assert set(withholding.SUPPLIES) == set(Supplies)


def test_a_second_payout_of_a_month_in_china_step_by_step() -> None:
    _, second = in_turn([(3_000_00, "2026-11-05"), (3_000_01, "2026-11-20")], LABOUR, IN_CHINA)

    assert read(second, EN, paid=3_000_01, currency="CNY") == [
        "China: Announcement 61/2018, labour remuneration by the month.",
        "Income tax: 520.00 CNY.",
        "The month's income is 3,000.00 CNY before and 3,000.01 CNY now, 6,000.01 CNY in all; a fifth of it, 1,200.002 CNY, is deducted.",
        "On 4,800.008 CNY the rate is 20%, less 0.00 CNY: 960.00 CNY in all.",
        "Of this 440.00 CNY was counted before, so this payout adds 520.00 CNY.",
    ]
    assert read(second, ZH, paid=3_000_01, currency="CNY")[1:] == [
        "个人所得税：520.00 CNY。",
        "当月收入：此前3,000.00 CNY，本次3,000.01 CNY，合计6,000.01 CNY，减除五分之一的费用1,200.002 CNY。",
        "应纳税所得额4,800.008 CNY，税率20%，速算扣除数0.00 CNY，累计税额960.00 CNY。",
        "此前已计440.00 CNY，本次新增520.00 CNY。",
    ]


def test_a_payout_in_vietnam_in_its_own_language() -> None:
    decision = decided(12_345_678, "2026-11-20", Declared(regime=Regime.VN, mode=Mode.WARN), IN_VIETNAM)

    assert read(decision, VI, paid=12_345_678, currency="VND") == [
        "Việt Nam: Nghị định 253/2026/NĐ-CP, các khoản trả từ ngày 01/07/2026.",
        "Thuế thu nhập cá nhân: 1.234.568 VND.",
        "Khoản chi trả 12.345.678 VND đạt ngưỡng 5.000.000 VND nên toàn bộ phải chịu thuế.",
        "10% của 12.345.678 VND là 1.234.568 VND.",
        "Không trừ vào khoản chi trả; cửa hàng nợ khoản thuế này.",
    ]


def test_what_is_grossed_up_is_said_with_both_amounts() -> None:
    decision = decided(5_040_00, "2026-11-20", replace(LABOUR, gross_up=True), IN_CHINA)

    assert read(decision, EN, paid=5_040_00, currency="CNY")[1] == (
        "So that 5,040.00 CNY is left, 6,000.00 CNY counts as the income, and the shop bears 960.00 CNY of tax on top."
    )


def test_a_year_that_owes_less_than_was_taken_says_where_the_rest_comes_back() -> None:
    decision = in_turn([(12_000_00, "2026-01-20"), (100_00, "2026-02-20")], PLATFORM, IN_CHINA)[-1]

    last = read(decision, EN, paid=100_00, currency="CNY")[-1]
    assert last.startswith("138.00 CNY was counted before, which is more, so this payout adds nothing")


def test_what_a_payout_is_too_small_for_is_said() -> None:
    vat = replace(LABOUR, vat=True)
    decision = in_turn([(1_000_00, "2026-11-20"), (1, "2026-11-20")], vat, IN_CHINA)[-1]

    assert "9.89 CNY more is due, which this payout is too small for." in read(decision, EN, paid=1, currency="CNY")


@pytest.mark.parametrize("on", ["2026-11-20"])
@pytest.mark.parametrize("gross", [1_999_99, 2_000_00])
def test_backup_withholding_names_the_threshold(on: str, gross: int) -> None:
    decision = decided(gross, on, Declared(regime=Regime.US_NEC), WITHOUT_TIN)

    sentences = read(decision, EN, paid=gross, currency="USD")
    assert any("2,000.00 USD" in sentence for sentence in sentences)
    assert ("24% of 2,000.00 USD is 480.00 USD." in sentences) is (gross == 2_000_00)


@examples(300)
@given(cases(), AMOUNTS)
def test_every_decision_can_be_read_in_every_language(case: Case, gross: int) -> None:
    declared, profile, day, history = case
    for mode, gross_up in product([Mode.WITHHOLD, Mode.WARN], [True, False]):
        asked = replace(declared, mode=mode, gross_up=gross_up)
        answer = answered(gross, day, asked, profile, history=history)
        if not isinstance(answer, Decision):
            continue
        currency = CURRENCIES[declared.regime]
        for speech in (EN, VI, ZH):
            sentences = read(answer, speech, paid=gross, currency=currency)
            assert all(sentence.endswith((".", "。")) for sentence in sentences)
            assert "{" not in "".join(sentences)
            for part in answer.parts:
                amount = speech.money(part.tax_minor, currency)
                assert any(amount in sentence for sentence in sentences)


def test_every_reason_is_reached_by_some_decision() -> None:
    def of(**details: object) -> Profile:
        return replace(IN_VIETNAM, has_tax_code=True, details={"resident": True, **details})

    vn, us = Declared(regime=Regime.VN), Declared(regime=Regime.US_NEC)
    day, sellers = "2026-11-20", Declared(regime=Regime.VN_PLATFORM)
    last_year = Key(RuleName.US_NEC_2026, Duty.BACKUP, "2025")
    made = [
        *(decided(gross, day, vn, IN_VIETNAM) for gross in (1, 5_000_000)),
        decided(1, day, vn, of(requests_withholding=True)),
        decided(1, day, vn, of(commitment_08_until=2026)),
        decided(1, day, vn, replace(of(), kind=PayeeKind.HOUSEHOLD)),
        decided(1, day, vn, of(resident=False)),
        decided(1, "2026-01-15", sellers, of(supplies="goods")),
        *(decided(gross, day, replace(LABOUR, vat=True), IN_CHINA) for gross in (100_000, 500_000)),
        decided(1, day, PLATFORM, IN_CHINA),
        *(decided(gross, day, us, WITHOUT_TIN) for gross in (1, 200_000)),
        decided(1, day, us, WITHOUT_TIN, history={last_year: Sum(60_000)}),
        decided(1, day, us, WITHOUT_TIN, history={last_year: Sum(1, 1)}),
        decided(1, day, us, replace(WITHOUT_TIN, has_tax_code=True, details={"form": "w9"})),
        *(decided(1, day, us, of(form="w8ben", works_in_us=there)) for there in (True, False)),
    ]

    parts: list[Part] = [part for decision in made for part in decision.parts]
    assert {part.steps["why"] for part in parts} == set(Why)
