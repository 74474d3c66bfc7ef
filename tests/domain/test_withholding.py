"""What is withheld: at the edges of every table, and what holds whatever is paid, to whom and in how many parts."""

from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvariantBroken
from service.domain.money import round_half_away
from service.domain.withholding.applied import Why
from service.domain.withholding.decide import keys_wanted
from service.domain.withholding.details import Form, Supplies, TinStatus
from service.domain.withholding.model import (
    Caution,
    Decision,
    Declared,
    Duty,
    Key,
    Mode,
    PayeeKind,
    Profile,
    Refusal,
    Refused,
    Regime,
    Sum,
)
from service.domain.withholding.tables import RuleName, in_force, table_of, tables_of
from tests.domain.strategies import examples
from tests.domain.withheld import (
    CURRENCIES,
    IN_CHINA,
    IN_VIETNAM,
    WITH_TIN,
    WITHOUT_TIN,
    added,
    answered,
    decided,
    in_turn,
    somebody,
    taxes,
)

VN, SELLERS, LABOUR, PLATFORM, US, EU = (Declared(regime=regime) for regime in Regime)
WITH_VAT = Declared(regime=Regime.CN_LABOUR, vat=True)
COMPANY = Profile(kind=PayeeKind.COMPANY, country="VN")
HOUSEHOLD = somebody("VN", kind=PayeeKind.HOUSEHOLD, has_tax_code=True)
TODAY = "2026-11-20"


# Which rule, and why none.


@pytest.mark.parametrize("declared", [None, VN, Declared(regime=Regime.CN_LABOUR, mode=Mode.WARN)])
def test_a_company_pays_its_own_taxes_whatever_is_declared(declared: Declared | None) -> None:
    assert decided(10**9, TODAY, declared, COMPANY, currency="KRW") == Decision(
        rule=RuleName.NONE_COMPANY, gross_minor=10**9, withheld_minor=0, borne_minor=0
    )


@pytest.mark.parametrize("regime", Regime)
def test_off_withholds_nothing_and_says_so(regime: Regime) -> None:
    off = Declared(regime=regime, mode=Mode.OFF, gross_up=True)

    decision = decided(10**9, "1999-01-01", off, somebody("VN"), currency="KRW")

    assert decision == Decision(rule=RuleName.OFF, gross_minor=10**9, withheld_minor=0, borne_minor=0)


def refusal(gross: int, on: str, declared: Declared | None, profile: Profile, currency: str = "") -> Refusal:
    answer = answered(gross, on, declared, profile, currency=currency)
    assert isinstance(answer, Refused), answer
    assert answer.detail.endswith(".")
    return answer.reason


def test_where_nothing_is_declared_nothing_is_decided() -> None:
    answer = answered(1, TODAY, None, IN_VIETNAM)

    assert isinstance(answer, Refused)
    assert answer.reason is Refusal.NO_REGIME
    assert "people in VN" in answer.detail


@pytest.mark.parametrize(
    ("declared", "profile", "on", "rule"),
    [
        (VN, IN_VIETNAM, "2013-09-30", None),
        (VN, IN_VIETNAM, "2013-10-01", RuleName.VN_2013),
        (VN, IN_VIETNAM, "2026-06-30", RuleName.VN_2013),
        (VN, IN_VIETNAM, "2026-07-01", RuleName.VN_2026_07),
        (VN, IN_VIETNAM, "2099-12-31", RuleName.VN_2026_07),
        (SELLERS, somebody("VN", resident=True, supplies="goods"), "2025-06-30", None),
        (SELLERS, somebody("VN", resident=True, supplies="goods"), "2025-07-01", RuleName.VN_117_2025),
        (SELLERS, somebody("VN", resident=True, supplies="goods"), "2026-06-30", RuleName.VN_117_2025),
        (SELLERS, somebody("VN", resident=True, supplies="goods"), "2026-07-01", None),
        (LABOUR, IN_CHINA, "2018-12-31", None),
        (LABOUR, IN_CHINA, "2019-01-01", RuleName.CN_LABOUR_61_2018),
        (PLATFORM, IN_CHINA, "2025-09-30", None),
        (PLATFORM, IN_CHINA, "2025-10-01", RuleName.CN_PLATFORM_16_2025),
        (WITH_VAT, IN_CHINA, "2025-12-31", None),
        (WITH_VAT, IN_CHINA, "2026-01-01", RuleName.CN_LABOUR_61_2018),
        (WITH_VAT, IN_CHINA, "2027-12-31", RuleName.CN_LABOUR_61_2018),
        (WITH_VAT, IN_CHINA, "2028-01-01", None),
        (US, WITH_TIN, "2025-12-31", None),
        (US, WITH_TIN, "2026-01-01", RuleName.US_NEC_2026),
        (US, WITH_TIN, "2026-12-31", RuleName.US_NEC_2026),
        (US, WITH_TIN, "2027-01-01", None),
        (EU, somebody("DE"), "2026-11-20", RuleName.EU_NONE),
    ],
)  # fmt: skip
def test_a_table_holds_from_its_first_day_to_its_last(
    declared: Declared, profile: Profile, on: str, rule: RuleName | None
) -> None:
    answer = answered(1_000_000, on, declared, profile)

    if rule is None:
        assert isinstance(answer, Refused)
        assert answer.reason is Refusal.NO_RULE
        table = RuleName.CN_VAT_2026 if declared.vat else declared.regime
        assert f"{table}" in answer.detail
        assert "from 20" in answer.detail
        assert "until " in answer.detail
    else:
        assert isinstance(answer, Decision)
        assert answer.rule == rule


def test_a_refusal_names_the_days_between_which_there_is_a_table() -> None:
    answer = answered(1, "2027-01-01", US, WITH_TIN)

    assert isinstance(answer, Refused)
    assert "us_nec_2026 from 2026-01-01 until 2026-12-31" in answer.detail


@pytest.mark.parametrize(
    ("declared", "profile", "refused"),
    [
        pytest.param(VN, IN_VIETNAM, True, id="a threshold in dong"),
        pytest.param(VN, somebody("VN", resident=False), False, id="a flat part"),
        pytest.param(VN, HOUSEHOLD, False, id="nothing"),
        pytest.param(LABOUR, IN_CHINA, True, id="brackets in yuan"),
        pytest.param(PLATFORM, IN_CHINA, True, id="brackets of a year in yuan"),
        pytest.param(US, WITHOUT_TIN, True, id="a threshold in dollars"),
        pytest.param(US, WITH_TIN, True, id="what is reported in dollars"),
        pytest.param(US, somebody("VN", form="w8ben", works_in_us=True), False, id="a flat part of foreign payees"),
        pytest.param(EU, somebody("FR"), False, id="nothing in the European Union"),
    ],
)
def test_an_amount_in_a_rule_is_never_converted(declared: Declared, profile: Profile, refused: bool) -> None:
    answer = answered(10_000, TODAY, declared, profile, currency="THB")

    assert isinstance(answer, Refused) is refused
    if isinstance(answer, Refused):
        assert answer.reason is Refusal.CURRENCY
        assert "THB" in answer.detail


def test_sellers_of_a_platform_are_taxed_in_any_currency() -> None:
    seller = somebody("VN", resident=True, supplies="goods")

    assert decided(1_000_00, "2026-01-15", SELLERS, seller, currency="USD").withheld_minor == 15_00


@pytest.mark.parametrize(
    ("declared", "profile", "on", "name"),
    [
        (VN, somebody("VN"), TODAY, "resident"),
        (VN, somebody("VN", kind=PayeeKind.HOUSEHOLD), TODAY, "resident"),
        (SELLERS, somebody("VN", supplies="goods"), "2026-01-15", "resident"),
        (SELLERS, somebody("VN", resident=True), "2026-01-15", "supplies"),
        (LABOUR, somebody("CN"), TODAY, "resident"),
        (PLATFORM, somebody("CN"), TODAY, "resident"),
        (US, somebody("CN", form="w8ben"), TODAY, "works_in_us"),
    ],
)
def test_what_a_rule_cannot_do_without_is_named(declared: Declared, profile: Profile, on: str, name: str) -> None:
    answer = answered(10_000_000, on, declared, profile)

    assert isinstance(answer, Refused)
    assert answer.reason is Refusal.DETAILS_MISSING
    assert repr(name) in answer.detail


@pytest.mark.parametrize(
    ("declared", "profile"),
    [
        pytest.param(LABOUR, somebody("CN", resident=False), id="in China, and not resident"),
        pytest.param(PLATFORM, somebody("VN", resident=True), id="resident elsewhere"),
        pytest.param(EU, somebody("CH"), id="not in the European Union"),
    ],
)
def test_whom_no_table_is_for_is_refused(declared: Declared, profile: Profile) -> None:
    assert refusal(1_000_00, TODAY, declared, profile) is Refusal.NO_RULE


def test_a_negative_payout_is_a_mistake_of_ours() -> None:
    with pytest.raises(InvariantBroken):
        decided(-1, TODAY, VN, IN_VIETNAM)


# Vietnam.


@pytest.mark.parametrize(
    ("profile", "gross", "withheld", "why"),
    [
        pytest.param(IN_VIETNAM, 0, 0, Why.BELOW_THRESHOLD, id="nothing"),
        pytest.param(IN_VIETNAM, 4_999_999, 0, Why.BELOW_THRESHOLD, id="below"),
        pytest.param(IN_VIETNAM, 5_000_000, 500_000, Why.THRESHOLD_REACHED, id="at the threshold all of it"),
        pytest.param(IN_VIETNAM, 5_000_004, 500_000, Why.THRESHOLD_REACHED, id="below a half"),
        pytest.param(IN_VIETNAM, 5_000_005, 500_001, Why.THRESHOLD_REACHED, id="a half is rounded up"),
        pytest.param(somebody("VN", resident=True, requests_withholding=True), 5, 1, Why.REQUESTED, id="asked for"),
        pytest.param(
            somebody("VN", resident=True, commitment_08_until=2026), 6_000_000, 600_000, Why.THRESHOLD_REACHED,
            id="a commitment without a tax code",
        ),
        pytest.param(
            somebody("VN", has_tax_code=True, resident=True, commitment_08_until=2025), 6_000_000, 600_000,
            Why.THRESHOLD_REACHED, id="a commitment that is over",
        ),
        pytest.param(
            somebody("VN", has_tax_code=True, resident=True, commitment_08_until=2027), 6_000_000, 0, Why.COMMITMENT,
            id="a commitment that goes on",
        ),
        pytest.param(
            somebody("VN", has_tax_code=True, resident=True, commitment_08_until=2026, requests_withholding=True),
            6_000_000, 600_000, Why.THRESHOLD_REACHED, id="a commitment given up",
        ),
        pytest.param(HOUSEHOLD, 6_000_000, 0, Why.DECLARES_ITSELF, id="a household"),
        pytest.param(
            somebody("VN", kind=PayeeKind.HOUSEHOLD, resident=True), 6_000_000, 600_000, Why.THRESHOLD_REACHED,
            id="a household without a tax code",
        ),
        pytest.param(
            somebody("VN", kind=PayeeKind.HOUSEHOLD, has_tax_code=True, resident=False), 100, 20, Why.NON_RESIDENT,
            id="a household that lives elsewhere",
        ),
        pytest.param(somebody("VN", resident=False), 1, 0, Why.NON_RESIDENT, id="not resident: no threshold"),
        pytest.param(somebody("VN", resident=False), 3, 1, Why.NON_RESIDENT, id="not resident: 0.6"),
        pytest.param(somebody("KR"), 3_000_000, 600_000, Why.NON_RESIDENT, id="resident in another country"),
    ],
)  # fmt: skip
def test_vietnam(profile: Profile, gross: int, withheld: int, why: Why) -> None:
    [part] = decided(gross, TODAY, VN, profile).parts

    assert (part.tax_minor, part.steps["why"], part.base_minor) == (withheld, why, gross)
    assert part.key.duty is (Duty.NON_RESIDENT if why is Why.NON_RESIDENT else Duty.INCOME_TAX)
    assert part.key.period == "2026-11"


@pytest.mark.parametrize(
    ("payouts", "cautioned"),
    [
        pytest.param([(2_000_000, "2026-11-01"), (2_999_999, "2026-11-30")], False, id="together below"),
        pytest.param([(2_000_000, "2026-11-01"), (3_000_000, "2026-11-30")], True, id="together at the threshold"),
        pytest.param([(4_900_000, "2026-10-31"), (4_900_000, "2026-11-01")], False, id="in two months"),
        pytest.param([(6_000_000, "2026-11-01"), (1_000_000, "2026-11-02")], False, id="what was taxed is not split"),
        pytest.param([(4_900_000, "2026-11-01"), (6_000_000, "2026-11-02")], False, id="nor what is taxed now"),
        pytest.param(
            [(6_000_000, "2026-11-01"), (2_500_000, "2026-11-02"), (2_500_000, "2026-11-03")], True,
            id="beside what was taxed",
        ),
        pytest.param([(4_900_000, "2026-11-01"), (0, "2026-11-02")], False, id="nothing more"),
    ],
)  # fmt: skip
def test_payouts_that_together_pass_the_threshold_of_a_month_are_pointed_out(
    payouts: list[tuple[int, str | date]], cautioned: bool
) -> None:
    last = in_turn(payouts, VN, IN_VIETNAM)[-1]

    assert (Caution.SPLIT_PAYOUTS in last.cautions) is cautioned


@pytest.mark.parametrize(
    ("supplies", "resident", "vat", "income_tax"),
    [
        ("goods", True, 10_000, 5_000),
        ("services", True, 50_000, 20_000),
        ("transport", True, 30_000, 15_000),
        ("goods", False, 10_000, 10_000),
        ("services", False, 50_000, 50_000),
        ("transport", False, 30_000, 20_000),
    ],
)
@pytest.mark.parametrize("kind", [PayeeKind.HOUSEHOLD, PayeeKind.INDIVIDUAL])
def test_what_a_vietnamese_platform_withholds_from_a_seller(
    kind: PayeeKind, supplies: str, resident: bool, vat: int, income_tax: int
) -> None:
    seller = somebody("VN", kind=kind, has_tax_code=True, resident=resident, supplies=supplies)

    parts = decided(1_000_000, "2026-01-15", SELLERS, seller).parts

    assert [(part.key.duty, part.tax_minor) for part in parts] == [
        (Duty.VAT, vat),
        (Duty.INCOME_TAX if resident else Duty.NON_RESIDENT, income_tax),
    ]


def test_each_duty_is_rounded_on_its_own() -> None:
    seller = somebody("VN", resident=True, supplies="transport")

    # 3 % of 50 is 1.5, 1.5 % is 0.75.
    assert [part.tax_minor for part in decided(50, "2026-01-15", SELLERS, seller).parts] == [2, 1]


# China.


def by_slices(taxable: Fraction, slices: list[tuple[int, int]]) -> int:
    """Tax with each rate on its own slice, without quick deductions. slices: where each starts in yuan, and its rate."""
    starts = [start * 10**2 for start, _ in slices] + [10**18]
    exact = sum(
        (
            max(Fraction(0), min(taxable, Fraction(end)) - start) * Fraction(percent, 10**2)
            for (start, end), (_, percent) in zip(pairwise(starts), slices, strict=True)
        ),
        Fraction(0),
    )
    return round_half_away(exact)


OF_A_MONTH = [(0, 20), (20_000, 30), (50_000, 40)]
OF_A_YEAR = [(0, 3), (36_000, 10), (144_000, 20), (300_000, 25), (420_000, 30), (660_000, 35), (960_000, 45)]


@examples(300)
@given(st.one_of(st.integers(0, 500_000), st.integers(0, 10**8)))
def test_a_month_in_china_is_taxed_slice_by_slice(total: int) -> None:
    deduction = Fraction(80_000) if total <= 400_000 else Fraction(total, 5)
    taxable = max(Fraction(0), total - deduction)

    assert decided(total, TODAY, LABOUR, IN_CHINA).withheld_minor == by_slices(taxable, OF_A_MONTH)


@examples(300)
@given(st.lists(st.one_of(st.integers(0, 2_000_000), st.integers(0, 5 * 10**7)), min_size=1, max_size=12))
def test_a_year_in_china_is_taxed_slice_by_slice_and_never_given_back(amounts: list[int]) -> None:
    decisions = in_turn([(gross, date(2026, month, 20)) for month, gross in enumerate(amounts, 1)], PLATFORM, IN_CHINA)

    total = months = due = taken = 0
    for gross, decision in zip(amounts, decisions, strict=True):
        total, months = total + gross, months + (gross > 0)
        due = max(due, by_slices(max(Fraction(0), total * Fraction(4, 5) - months * 500_000), OF_A_YEAR))
        taken += decision.withheld_minor
        assert taken == due


@pytest.mark.parametrize(
    ("gross", "withheld"),
    [
        (80_000, 0),
        (80_001, 0),  # 0.2
        (80_003, 1),  # 0.6
        (400_000, 64_000),
        (400_001, 64_000),  # 64,000.16
        (400_004, 64_001),  # 64,000.64
    ],
)
def test_the_edges_of_a_month_in_china(gross: int, withheld: int) -> None:
    assert decided(gross, TODAY, LABOUR, IN_CHINA).withheld_minor == withheld


@pytest.mark.parametrize(
    ("days", "months"),
    [
        pytest.param(["2026-01-10", "2026-01-20"], 1, id="one month twice"),
        pytest.param(["2026-01-10", "2026-11-20"], 2, id="months without income are not counted"),
        pytest.param(["2025-12-31", "2026-01-01"], 1, id="a new year"),
    ],
)
def test_a_platform_deducts_for_the_months_with_income(days: list[str | date], months: int) -> None:
    last = in_turn([(1_200_000, day) for day in days], PLATFORM, IN_CHINA)[-1]

    assert last.parts[0].steps["months"] == months
    assert last.parts[0].steps["of_months"] == months * 500_000


@pytest.mark.parametrize(
    ("payouts", "vat"),
    [
        pytest.param([(1_000_00, "2026-11-20")], [0], id="not more than the threshold"),
        pytest.param([(1_000_01, "2026-11-20")], [9_90], id="more: all of it"),
        pytest.param([(600_00, "2026-11-20"), (600_00, "2026-11-20")], [0, 11_88], id="a day is one time"),
        pytest.param([(600_00, "2026-11-20"), (600_00, "2026-11-21")], [0, 0], id="two days are two"),
        pytest.param([(2_000_00, "2026-11-20"), (1_00, "2026-11-20")], [19_80, 1], id="what comes after"),
    ],
)
@pytest.mark.parametrize("regime", [Regime.CN_LABOUR, Regime.CN_PLATFORM])
def test_vat_in_china_is_of_a_days_total(regime: Regime, payouts: list[tuple[int, str | date]], vat: list[int]) -> None:
    decisions = in_turn(payouts, Declared(regime=regime, vat=True), IN_CHINA)

    assert [each.parts[0].tax_minor for each in decisions] == vat
    assert all(each.parts[0].key.duty is Duty.VAT for each in decisions)
    assert [each.parts[1].base_minor for each in decisions] == [
        gross - tax for (gross, _), tax in zip(payouts, vat, strict=True)
    ]


def test_a_payout_too_small_for_what_is_due_is_taken_and_the_rest_is_left_to_the_next() -> None:
    payouts: list[tuple[int, str | date]] = [(1_000_00, TODAY), (1, TODAY), (500_00, TODAY)]

    first, second, third = in_turn(payouts, WITH_VAT, IN_CHINA)

    assert [each.parts[0].tax_minor for each in (first, second, third)] == [0, 1, 14_84]
    assert (second.withheld_minor, second.parts[0].steps["beyond"]) == (1, 9_89)
    # 14.85 of 1,500.01: as if it had been one payout.
    assert sum(each.parts[1].base_minor for each in (first, second, third)) == 1_500_01 - 14_85


# The United States.


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        pytest.param(WITH_TIN, Why.TIN_GIVEN, id="W-9 and a number"),
        pytest.param(somebody("US", has_tax_code=True, form="w9", tin_status="given"), Why.TIN_GIVEN, id="said twice"),
        pytest.param(somebody("VN", has_tax_code=True, form="w9"), Why.TIN_GIVEN, id="an American abroad"),
        pytest.param(somebody("US"), Why.BACKUP_THIS_YEAR, id="nothing known"),
        pytest.param(somebody("US", has_tax_code=True), Why.BACKUP_THIS_YEAR, id="a number and no form"),
        pytest.param(somebody("US", has_tax_code=True, form="none"), Why.BACKUP_THIS_YEAR, id="no form"),
        pytest.param(somebody("US", form="w9"), Why.BACKUP_THIS_YEAR, id="a form without a number"),
        pytest.param(
            somebody("US", form="w9", tin_status="given"), Why.BACKUP_THIS_YEAR, id="a number said, and none there"
        ),
        pytest.param(
            somebody("US", has_tax_code=True, form="w9", tin_status="incorrect"), Why.BACKUP_THIS_YEAR, id="incorrect"
        ),
        pytest.param(WITHOUT_TIN, Why.BACKUP_THIS_YEAR, id="missing"),
        pytest.param(somebody("VN", has_tax_code=True), Why.BACKUP_THIS_YEAR, id="from abroad without a form"),
        pytest.param(
            somebody("US", form="w8ben", works_in_us=False), Why.BACKUP_THIS_YEAR, id="a form of others"
        ),
        pytest.param(somebody("VN", form="w8ben", works_in_us=True), Why.WORK_IN_US, id="working there"),
        pytest.param(somebody("VN", form="w8bene", works_in_us=False), Why.WORK_ABROAD, id="working elsewhere"),
    ],
)  # fmt: skip
def test_who_is_withheld_from_in_the_united_states(profile: Profile, why: Why) -> None:
    decision = decided(2_000_00, TODAY, US, profile)

    assert decision.parts[0].steps["why"] == why
    assert decision.withheld_minor == {Why.BACKUP_THIS_YEAR: 480_00, Why.WORK_IN_US: 600_00}.get(why, 0)
    assert decision.accumulates is (why not in {Why.WORK_IN_US, Why.WORK_ABROAD})


def of_last_year(base: int = 0, tax: int = 0) -> dict[Key, Sum]:
    return {Key(RuleName.US_NEC_2026, Duty.BACKUP, "2025"): Sum(base, tax, 1)}


@pytest.mark.parametrize(
    ("more", "history", "why"),
    [
        pytest.param({}, {}, Why.BELOW_REPORTING, id="none"),
        pytest.param({}, of_last_year(599_99), Why.BELOW_REPORTING, id="last year just below"),
        pytest.param({}, of_last_year(600_00), Why.BACKUP_REPORTED, id="last year in the books"),
        pytest.param({"return_required_last_year": True}, {}, Why.BACKUP_REPORTED, id="last year by the profile"),
        pytest.param({}, of_last_year(100_00, 24_00), Why.BACKUP_WITHHELD, id="withheld in the books"),
        pytest.param({"backup_withheld_last_year": True}, {}, Why.BACKUP_WITHHELD, id="withheld by the profile"),
    ],
)
def test_the_three_triggers_of_backup_withholding(more: dict[str, Any], history: dict[Key, Sum], why: Why) -> None:
    payee = replace(WITHOUT_TIN, details={**WITHOUT_TIN.details, **more})

    below = decided(1_999_99, TODAY, US, payee, history=history)
    at = decided(2_000_00, TODAY, US, payee, history=history)

    assert below.parts[0].steps["why"] == why
    assert below.withheld_minor == (0 if why is Why.BELOW_REPORTING else 480_00)
    assert (at.parts[0].steps["why"], at.withheld_minor) == (Why.BACKUP_THIS_YEAR, 480_00)


def test_what_was_paid_with_a_number_counts_once_it_is_found_incorrect() -> None:
    known = added({}, decided(1_900_00, "2026-03-01", US, WITH_TIN))
    incorrect = somebody("US", has_tax_code=True, form="w9", tin_status="incorrect")

    assert decided(100_00, "2026-04-01", US, incorrect, history=known).withheld_minor == 24_00


# Which sums are asked for.


@pytest.mark.parametrize(
    ("declared", "profile", "on", "periods"),
    [
        (VN, IN_VIETNAM, "2026-03-15", [(RuleName.VN_2013, Duty.INCOME_TAX, "2026-03")]),
        (VN, somebody("VN", resident=False), "2026-03-15", []),
        (VN, HOUSEHOLD, "2026-03-15", []),
        (SELLERS, IN_VIETNAM, "2026-03-15", []),
        (LABOUR, IN_CHINA, "2026-03-15", [(RuleName.CN_LABOUR_61_2018, Duty.INCOME_TAX, "2026-03")]),
        (
            PLATFORM,
            IN_CHINA,
            "2026-03-31",
            [(RuleName.CN_PLATFORM_16_2025, Duty.INCOME_TAX, f"2026-{month}") for month in ("01", "02", "03")],
        ),
        (
            WITH_VAT,
            IN_CHINA,
            "2026-03-15",
            [
                (RuleName.CN_LABOUR_61_2018, Duty.INCOME_TAX, "2026-03"),
                (RuleName.CN_VAT_2026, Duty.VAT, "2026-03-15"),
            ],
        ),
        (
            US,
            WITH_TIN,
            "2026-03-15",
            [(RuleName.US_NEC_2026, Duty.BACKUP, "2026"), (RuleName.US_NEC_2026, Duty.BACKUP, "2025")],
        ),
        (US, somebody("VN", form="w8ben"), "2026-03-15", []),
        (US, WITH_TIN, "2027-03-15", []),
        (EU, somebody("DE"), "2026-03-15", []),
        (None, IN_CHINA, "2026-03-15", []),
        (replace(LABOUR, mode=Mode.OFF), IN_CHINA, "2026-03-15", []),
        (LABOUR, COMPANY, "2026-03-15", []),
    ],
)
def test_which_sums_are_wanted(
    declared: Declared | None, profile: Profile, on: str, periods: list[tuple[str, Duty, str]]
) -> None:
    assert keys_wanted(declared, profile, date.fromisoformat(on)) == tuple(Key(*each) for each in periods)


# Whatever is paid.

AMOUNTS = st.one_of(
    st.integers(0, 3_000),
    st.integers(0, 10**9),
    *(
        st.integers(edge - 3, edge + 3)
        for edge in (80_000, 100_000, 200_000, 400_000, 2_000_000, 2_500_000, 5_000_000, 6_250_000)
    ),
)
DAYS = st.sampled_from([date(2026, 1, 5), date(2026, 6, 30), date(2026, 7, 1), date(2026, 7, 1), date(2026, 11, 20)])
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "resident": st.sampled_from([True, True, True, False]),
        "requests_withholding": st.booleans(),
        "commitment_08_until": st.sampled_from([2025, 2026]),
        "supplies": st.sampled_from(Supplies),
        "form": st.sampled_from(Form),
        "tin_status": st.sampled_from(TinStatus),
        "works_in_us": st.booleans(),
        "return_required_last_year": st.booleans(),
        "backup_withheld_last_year": st.booleans(),
    },
)
HOMES = {
    Regime.VN: "VN",
    Regime.VN_PLATFORM: "VN",
    Regime.CN_LABOUR: "CN",
    Regime.CN_PLATFORM: "CN",
    Regime.US_NEC: "US",
    Regime.EU_NONE: "DE",
}


Case = tuple[Declared, Profile, date, dict[Key, Sum]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A declaration, a payee, a pay day, and what came of up to four payouts before it."""
    regime = draw(st.sampled_from(Regime))
    declared = Declared(regime=regime, vat=draw(st.booleans()))
    profile = Profile(
        kind=draw(st.sampled_from([PayeeKind.INDIVIDUAL, PayeeKind.INDIVIDUAL, PayeeKind.HOUSEHOLD])),
        country=draw(st.sampled_from([HOMES[regime], HOMES[regime], "VN"])),
        has_tax_code=draw(st.booleans()),
        details=draw(DETAILS),
    )
    history: dict[Key, Sum] = {}
    days = sorted(draw(st.lists(DAYS, min_size=1, max_size=5)))
    for day in days[:-1]:
        answer = answered(draw(AMOUNTS), day, declared, profile, history=history)
        if isinstance(answer, Decision):
            history = added(history, answer)
    return declared, profile, days[-1], history


@examples(500)
@given(cases(), AMOUNTS)
def test_the_parts_make_up_the_tax_which_is_neither_negative_nor_more_than_is_paid(case: Case, gross: int) -> None:
    declared, profile, day, history = case
    answer = answered(gross, day, declared, profile, history=history)
    if isinstance(answer, Refused):
        return

    assert all(part.tax_minor >= 0 and part.base_minor >= 0 for part in answer.parts)
    assert sum(part.tax_minor for part in answer.parts) == answer.withheld_minor <= gross
    assert (answer.gross_minor, answer.borne_minor) == (gross, 0)
    assert len({part.key for part in answer.parts}) == len(answer.parts)


@examples(500)
@given(cases(), AMOUNTS, st.one_of(st.integers(1, 5), AMOUNTS))
def test_more_gross_never_causes_less_tax(case: Case, gross: int, more: int) -> None:
    declared, profile, day, history = case
    less = answered(gross, day, declared, profile, history=history)
    larger = answered(gross + more, day, declared, profile, history=history)
    if isinstance(less, Refused) or isinstance(larger, Refused):
        assert type(less) is type(larger)
        return

    assert less.withheld_minor <= larger.withheld_minor


@examples(500)
@given(cases(), AMOUNTS)
def test_who_is_only_warned_owes_what_would_have_been_withheld(case: Case, gross: int) -> None:
    declared, profile, day, history = case
    withheld = answered(gross, day, declared, profile, history=history)
    warned = answered(gross, day, replace(declared, mode=Mode.WARN), profile, history=history)
    if isinstance(withheld, Refused) or isinstance(warned, Refused):
        assert warned == withheld
        return

    assert (warned.withheld_minor, warned.borne_minor) == (0, withheld.withheld_minor)
    assert (warned.gross_minor, warned.parts, warned.rule) == (gross, withheld.parts, withheld.rule)
    owes = (Caution.NOT_WITHHELD,) if withheld.withheld_minor else ()
    assert warned.cautions == (*withheld.cautions, *owes)


@examples(500)
@given(cases(), AMOUNTS, st.sampled_from([Mode.WITHHOLD, Mode.WARN]))
def test_what_is_grossed_up_leaves_the_net_after_its_tax(case: Case, net: int, mode: Mode) -> None:
    declared, profile, day, history = case
    grossed_up = answered(net, day, replace(declared, gross_up=True, mode=mode), profile, history=history)
    if isinstance(grossed_up, Refused):
        return

    plain = decided(grossed_up.gross_minor, day, declared, profile, history=history)
    assert grossed_up.gross_minor - plain.withheld_minor == net
    assert (grossed_up.withheld_minor, grossed_up.borne_minor) == (0, plain.withheld_minor)
    assert grossed_up.parts == plain.parts
    assert (Caution.NOT_WITHHELD in grossed_up.cautions) is (mode is Mode.WARN and plain.withheld_minor > 0)


@examples(100)
@given(cases(), st.one_of(st.integers(0, 2_000), st.integers(99_990, 101_000), st.integers(399_990, 401_000)))
def test_no_smaller_gross_would_have_left_the_net(case: Case, net: int) -> None:
    declared, profile, day, history = case
    grossed_up = answered(net, day, replace(declared, gross_up=True), profile, history=history)
    if isinstance(grossed_up, Refused):
        return

    smaller = range(net, grossed_up.gross_minor)
    # All of them where they are few, else those next to the answer and a sample of the rest.
    looked_at = smaller if len(smaller) < 200 else [*smaller[-100:], *smaller[:: len(smaller) // 100]]
    left = [gross - decided(gross, day, declared, profile, history=history).withheld_minor for gross in looked_at]
    assert net not in left


def test_below_a_threshold_the_least_gross_is_the_net_itself() -> None:
    gross_up = Declared(regime=Regime.VN, gross_up=True)

    # 4.6 million are also what is left of some 5.1 million.
    assert decided(4_600_000, TODAY, gross_up, IN_VIETNAM).gross_minor == 4_600_000
    assert decided(5_000_000, TODAY, gross_up, IN_VIETNAM).gross_minor == 5_555_556


@examples(300)
@given(st.lists(AMOUNTS, min_size=1, max_size=8), st.sampled_from([LABOUR, PLATFORM]))
def test_however_a_months_income_is_split_it_is_taxed_as_one(amounts: list[int], declared: Declared) -> None:
    parts = in_turn([(gross, TODAY) for gross in amounts], declared, IN_CHINA)
    whole = decided(sum(amounts), TODAY, declared, IN_CHINA)

    assert sum(taxes(parts)) == whole.withheld_minor
    assert sum(each.parts[0].base_minor for each in parts) == whole.parts[0].base_minor


@examples(300)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_however_a_days_income_is_split_nothing_is_taken_beyond_what_the_whole_owes(amounts: list[int]) -> None:
    parts = in_turn([(gross, TODAY) for gross in amounts], WITH_VAT, IN_CHINA)
    whole = decided(sum(amounts), TODAY, WITH_VAT, IN_CHINA)

    beyond = parts[-1].parts[0].steps.get("beyond", 0)
    assert sum(each.parts[0].tax_minor for each in parts) + beyond == whole.parts[0].tax_minor


@examples(500)
@given(cases(), AMOUNTS)
def test_the_steps_say_all_that_is_needed_to_compute_it_by_hand(case: Case, gross: int) -> None:
    declared, profile, day, history = case
    answer = answered(gross, day, declared, profile, history=history)
    if isinstance(answer, Refused):
        return

    for part in answer.parts:
        told = part.steps
        rate = Fraction(told["rate"]) / 10**2
        assert told["income"] == part.base_minor
        assert told["tax"] == part.tax_minor
        if "target" not in told:
            assert part.tax_minor == round_half_away(told["income"] * rate)
            continue
        assert told["total"] == told["before"] + told["income"]
        if part.key.duty is Duty.VAT:
            is_above = told["total"] > told["threshold"]
            target = round_half_away(told["total"] * rate / (1 + rate)) if is_above else 0
        else:
            free = Fraction(told["deduction"]) + told.get("of_months", 0)
            assert Fraction(told["taxable"]) == max(Fraction(0), told["total"] - free)
            target = round_half_away(Fraction(told["taxable"]) * rate - told["quick_deduction"])
        assert told["target"] == target
        assert told["tax"] + told.get("beyond", 0) == max(0, target - told["already"])


@examples(500)
@given(cases(), AMOUNTS)
def test_only_the_sums_that_were_asked_for_matter(case: Case, gross: int) -> None:
    declared, profile, day, history = case
    noise = {Key(name, duty, "1999"): Sum(10**9, 10**6, 9) for name, duty in product(RuleName, Duty)}
    wanted = set(keys_wanted(declared, profile, day))
    others = {key: Sum(known.base_minor + 10**9, 0, 99) for key, known in history.items() if key not in wanted}

    plain = answered(gross, day, declared, profile, history=history)
    disturbed = answered(gross, day, declared, profile, history=history | noise | others)

    assert plain == disturbed
    if isinstance(plain, Decision) and not wanted:
        assert not plain.accumulates


@pytest.mark.parametrize("regime", Regime)
def test_every_payee_has_an_answer_on_every_day(regime: Regime) -> None:
    first = date(2025, 1, 1)
    found: set[object] = set()
    for kind, mode, country, has_tax_code, resident, form, gross_up, days in product(
        PayeeKind, Mode, [HOMES[regime], "US", "KR"], [True, False], [True, False, None], [*Form, None], [True, False],
        [0, 200, 400, 800],
    ):  # fmt: skip
        details = {"resident": resident, "form": form, "supplies": "goods", "works_in_us": True}
        profile = Profile(
            kind=kind,
            country=country,
            has_tax_code=has_tax_code,
            details={name: value for name, value in details.items() if value is not None},
        )
        declared = Declared(regime=regime, mode=mode, gross_up=gross_up)
        answer = answered(3_000_000, first + timedelta(days=days), declared, profile, currency=CURRENCIES[regime])
        found.add(answer.reason if isinstance(answer, Refused) else RuleName(answer.rule))

    assert {RuleName.OFF, RuleName.NONE_COMPANY} < found
    assert found & {Refusal.NO_RULE, Refusal.DETAILS_MISSING} or regime is Regime.EU_NONE


# The tables.


def test_the_tables_of_a_regime_neither_overlap_nor_leave_a_gap_between_them() -> None:
    for regime in Regime:
        known = tables_of(regime)
        assert known
        for one, other in pairwise(known):
            assert one.until is not None
            assert one.until + timedelta(days=1) == other.since
        assert all(in_force(regime, table.since) is table for table in known)


def test_every_table_says_where_it_is_from_and_that_nobody_approved_it() -> None:
    for name in set(RuleName) - {RuleName.NONE_COMPANY, RuleName.OFF}:
        table = table_of(name)
        assert "read 2026-11" in table.source
        assert table.note.endswith(".")
        assert table.approved_by == ""
        assert (table.currency is not None) is bool(table.amounts)


@pytest.mark.parametrize("name", [RuleName.CN_LABOUR_61_2018, RuleName.CN_PLATFORM_16_2025])
def test_where_one_bracket_ends_the_next_begins_with_the_same_tax(name: RuleName) -> None:
    brackets = table_of(name).brackets

    assert brackets[-1].up_to_minor is None
    for one, other in pairwise(brackets):
        assert one.up_to_minor is not None
        at = Fraction(one.up_to_minor)
        assert (
            at * Fraction(one.rate) / 10**2 - one.quick_minor == at * Fraction(other.rate) / 10**2 - other.quick_minor
        )
