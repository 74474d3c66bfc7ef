"""Every tax example with figures that was found, by the tables here: reference/domain.md §7.

docs/golden.md lists every golden test with its source.
"""

import pytest

from service.domain.withholding.forms import in_vietnamese_list, needs_1099_nec
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
from service.domain.withholding.tables import RuleName
from tests.domain.withheld import (
    IN_CHINA,
    IN_VIETNAM,
    LABOUR,
    PLATFORM,
    US,
    VN,
    WITH_TIN,
    WITHOUT_TIN,
    decided,
    in_turn,
    somebody,
    taxes,
)

# China, ordinary payer.


@pytest.mark.parametrize(
    ("yuan", "tax_minor"),
    [
        (800, 0),
        (1_000, 40_00),
        (4_000, 640_00),
        (5_000, 800_00),
        (6_000, 960_00),
        (25_000, 4_000_00),
        (30_000, 5_200_00),
        (50_000, 10_000_00),
        (60_000, 12_400_00),
        (62_500, 13_000_00),
        (100_000, 25_000_00),
    ],
)
def test_golden_cn_labour_by_the_months_total(yuan: int, tax_minor: int) -> None:
    decision = decided(yuan * 10**2, "2026-11-20", LABOUR, IN_CHINA)

    assert (decision.rule, decision.withheld_minor) == (RuleName.CN_LABOUR_61_2018, tax_minor)


@pytest.mark.parametrize(
    ("days", "withheld"),
    [
        pytest.param(["2026-11-05", "2026-11-20"], [440_00, 520_00], id="one month: 960.00 in all"),
        pytest.param(["2026-10-20", "2026-11-05"], [440_00, 440_00], id="two months"),
    ],
)
def test_golden_cn_labour_two_payouts_of_3000(days: list[str], withheld: list[int]) -> None:
    assert taxes(in_turn([(3_000_00, day) for day in days], LABOUR, IN_CHINA)) == withheld


def test_golden_cn_labour_net_contract_of_5040_is_6000_before_tax() -> None:
    decision = decided(5_040_00, "2026-11-20", Declared(regime=Regime.CN_LABOUR, gross_up=True), IN_CHINA)

    assert (decision.gross_minor, decision.withheld_minor, decision.borne_minor) == (6_000_00, 0, 960_00)
    assert decision.parts[0].steps["taxable"] == 4_800_00


def test_golden_cn_mcn_split_70_30_each_is_taxed_for_its_own_part() -> None:
    mcn = Profile(kind=PayeeKind.COMPANY, country="CN")

    koc = decided(7_000_00, "2026-11-20", LABOUR, IN_CHINA)
    agency = decided(3_000_00, "2026-11-20", LABOUR, mcn)

    assert (koc.withheld_minor, agency.withheld_minor, agency.rule) == (1_120_00, 0, RuleName.NONE_COMPANY)
    # Not the KOC on all of it.
    assert decided(10_000_00, "2026-11-20", LABOUR, IN_CHINA).withheld_minor == 1_600_00


# China, platform.


@pytest.mark.parametrize(
    ("yuan", "withheld"),
    [
        pytest.param([12_000] * 3, [138_00] * 3, id="12,000 a month"),
        pytest.param([100_000], [4_980_00], id="100,000 in January"),
        pytest.param([50_000] * 5, [1_050_00, 3_430_00, 3_500_00, 3_500_00, 6_600_00], id="a jump of brackets"),
        pytest.param([6_250], [0], id="5,000 after a fifth"),
        pytest.param([6_000, 6_000, 1_000], [0, 0, 0], id="never negative"),
    ],
)
def test_golden_cn_platform_from_january_on(yuan: list[int], withheld: list[int]) -> None:
    payouts = [(each * 10**2, f"2026-{month:02d}-20") for month, each in enumerate(yuan, 1)]

    decisions = in_turn(payouts, PLATFORM, IN_CHINA)

    assert {each.rule for each in decisions} == {RuleName.CN_PLATFORM_16_2025}
    assert taxes(decisions) == withheld


# China, VAT.


@pytest.mark.parametrize(
    ("gross", "vat", "income", "income_tax"),
    [
        pytest.param(1_000_00, 0, 1_000_00, 40_00, id="1,000 on a day"),
        pytest.param(3_000_00, 29_70, 2_970_30, 434_06, id="3,000 on a day"),
    ],
)
def test_golden_cn_vat_where_it_is_declared(gross: int, vat: int, income: int, income_tax: int) -> None:
    decision = decided(gross, "2026-11-20", Declared(regime=Regime.CN_LABOUR, vat=True), IN_CHINA)

    value_added, on_income = decision.parts
    assert (value_added.key.duty, value_added.tax_minor) == (Duty.VAT, vat)
    assert (on_income.base_minor, on_income.tax_minor) == (income, income_tax)
    assert decision.withheld_minor == vat + income_tax


# Vietnam.

COMMITTED = somebody("VN", has_tax_code=True, resident=True, commitment_08_until=2026)
SELLER = somebody("VN", kind=PayeeKind.HOUSEHOLD, has_tax_code=True, resident=True, supplies="services")


@pytest.mark.parametrize(
    ("on", "gross", "profile", "withheld"),
    [
        pytest.param("2026-06-15", 1_999_999, IN_VIETNAM, 0, id="below 2 million in June"),
        pytest.param("2026-06-15", 2_000_000, IN_VIETNAM, 200_000, id="2 million in June"),
        pytest.param("2026-06-30", 4_999_999, IN_VIETNAM, 500_000, id="the last day of the old threshold"),
        pytest.param("2026-07-01", 4_999_999, IN_VIETNAM, 0, id="the first day of the new one"),
        pytest.param(
            "2026-07-01", 4_000_000, somebody("VN", resident=True, requests_withholding=True), 400_000, id="asked for"
        ),
        pytest.param("2026-07-01", 5_000_000, IN_VIETNAM, 500_000, id="5 million"),
        pytest.param("2026-11-20", 12_345_678, IN_VIETNAM, 1_234_568, id="rounded to the dong"),
        pytest.param("2026-11-20", 20_000_000, COMMITTED, 0, id="commitment 08 and a tax code"),
        pytest.param("2026-11-20", 20_000_000, Profile(kind=PayeeKind.COMPANY, country="VN"), 0, id="a company"),
        pytest.param("2026-11-20", 3_000_000, somebody("VN", resident=False), 600_000, id="not resident"),
    ],
)
def test_golden_vn_one_payout(on: str, gross: int, profile: Profile, withheld: int) -> None:
    decision = decided(gross, on, VN, profile)

    assert decision.withheld_minor == withheld
    assert (Caution.CERTIFICATE in decision.cautions) is (profile is COMMITTED)


def test_golden_vn_somebody_with_a_commitment_is_in_the_yearly_list_all_the_same() -> None:
    assert in_vietnamese_list(COMMITTED, paid_minor=20_000_000)


def test_golden_vn_three_payouts_below_the_threshold_look_like_splitting() -> None:
    decisions = in_turn([(4_900_000, f"2026-11-{day}") for day in (10, 15, 20)], VN, IN_VIETNAM)

    assert taxes(decisions) == [0, 0, 0]
    assert [each.cautions for each in decisions] == [(), (Caution.SPLIT_PAYOUTS,), (Caution.SPLIT_PAYOUTS,)]


def test_golden_vn_household_seller_of_services_on_a_platform() -> None:
    decision = decided(10_000_000, "2025-09-15", Declared(regime=Regime.VN_PLATFORM), SELLER)

    assert [(part.key.duty, part.tax_minor) for part in decision.parts] == [
        (Duty.VAT, 500_000),
        (Duty.INCOME_TAX, 200_000),
    ]
    assert decision.gross_minor - decision.withheld_minor == 9_300_000


# The United States.


@pytest.mark.parametrize(
    ("year", "paid", "needed"), [(2026, 1_999_99, False), (2026, 2_000_00, True), (2025, 600_00, True)]
)
def test_golden_us_form_1099_nec(year: int, paid: int, needed: bool) -> None:
    assert needs_1099_nec(WITH_TIN, year=year, paid_minor=paid, backup_minor=0) is needed


REPORTED = {Key(RuleName.US_NEC_2026, Duty.BACKUP, "2025"): Sum(600_00)}


@pytest.mark.parametrize(
    ("before", "payouts", "withheld"),
    [
        pytest.param({}, [2_500_00], [600_00], id="at once"),
        pytest.param({}, [1_500_00, 600_00], [0, 144_00], id="from the payment on that reaches the threshold"),
        pytest.param(REPORTED, [1_500_00, 600_00], [360_00, 144_00], id="a return was required for last year"),
        pytest.param({}, [1_500_00, 600_00, 333_33], [0, 144_00, 80_00], id="79.9992 is 80.00"),
    ],
)
def test_golden_us_backup_withholding_without_a_tin(
    before: dict[Key, Sum], payouts: list[int], withheld: list[int]
) -> None:
    days = ["2026-03-02", "2026-04-01", "2026-05-01"]

    decisions = in_turn(list(zip(payouts, days, strict=False)), US, WITHOUT_TIN, history=before)

    assert taxes(decisions) == withheld


@pytest.mark.parametrize(("works_in_us", "withheld"), [(False, 0), (True, 300_00)])
def test_golden_us_foreign_payee_with_w8ben(works_in_us: bool, withheld: int) -> None:
    payee = somebody("VN", form="w8ben", works_in_us=works_in_us)

    assert decided(1_000_00, "2026-11-20", US, payee).withheld_minor == withheld
