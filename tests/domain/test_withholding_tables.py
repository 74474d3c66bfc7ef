"""What is withheld at the edges of every table, country by country."""

from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money import round_half_away
from service.domain.withholding.applied import Why
from service.domain.withholding.model import (
    Caution,
    Declared,
    Duty,
    Key,
    PayeeKind,
    Profile,
    Regime,
    Sum,
)
from service.domain.withholding.tables import RuleName, in_force, table_of, tables_of
from tests.domain.strategies import examples
from tests.domain.withheld import (
    EU,
    HOUSEHOLD,
    IN_CHINA,
    IN_VIETNAM,
    LABOUR,
    PLATFORM,
    SELLERS,
    US,
    VN,
    WITH_TIN,
    WITH_VAT,
    WITHOUT_TIN,
    added,
    decided,
    in_turn,
    somebody,
)

TODAY = "2026-11-20"


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
        pytest.param([(4_900_000, "2026-11-01"), (5_000_000, "2026-11-02")], False, id="nor what is taxed now"),
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
    decision = decided(gross, TODAY, LABOUR, IN_CHINA)

    assert decision.withheld_minor == withheld
    assert decision.parts[0].steps["why"] == (Why.MONTH_FIXED if gross <= 400_000 else Why.MONTH_SHARE)


@pytest.mark.parametrize(
    ("declared", "profile", "accumulates"),
    [
        (VN, IN_VIETNAM, False),
        (VN, somebody("VN", resident=False), False),
        (LABOUR, IN_CHINA, True),
        (PLATFORM, IN_CHINA, True),
        (US, WITH_TIN, True),
        (EU, somebody("FR"), False),
    ],
)
def test_where_later_payouts_hang_on_this_one_it_says_so(
    declared: Declared, profile: Profile, accumulates: bool
) -> None:
    assert decided(1_000, TODAY, declared, profile).accumulates is accumulates


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
