"""What is asked of a payee, and who stands in which yearly or quarterly register."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidTaxDetail, InvariantBroken
from service.domain.withholding.details import BY_COUNTRY, OF_US_PAYERS, Form, Kind, asked, check_details
from service.domain.withholding.forms import (
    Activity,
    Dac7Field,
    chinese_quarter,
    in_dac7_report,
    in_vietnamese_list,
    missing_of,
    needs_1042_s,
    needs_1099_nec,
)
from service.domain.withholding.model import PayeeKind, Profile, Regime
from tests.domain.strategies import examples
from tests.domain.withheld import IN_VIETNAM, WITH_TIN, WITHOUT_TIN, somebody

PERSON, HOUSEHOLD, COMPANY = PayeeKind.INDIVIDUAL, PayeeKind.HOUSEHOLD, PayeeKind.COMPANY


# Details.


@pytest.mark.parametrize(
    ("country", "kind", "names"),
    [
        ("VN", PERSON, ["resident", "requests_withholding", "commitment_08_until", "supplies"]),
        ("VN", HOUSEHOLD, ["resident", "requests_withholding", "commitment_08_until", "supplies"]),
        ("VN", COMPANY, []),
        ("CN", PERSON, ["resident"]),
        ("DE", PERSON, []),
    ],
)
def test_what_is_asked_of_a_payee(country: str, kind: PayeeKind, names: list[str]) -> None:
    of_us = [each.name for each in OF_US_PAYERS] if kind is not COMPANY else ["form"]

    assert [each.name for each in asked(country, kind)] == names + of_us


@pytest.mark.parametrize(
    ("country", "kind", "details"),
    [
        ("VN", PERSON, {}),
        (
            "VN",
            HOUSEHOLD,
            {"resident": True, "requests_withholding": False, "commitment_08_until": 2026, "supplies": "goods"},
        ),
        ("CN", PERSON, {"resident": False}),
        ("US", PERSON, {"form": "w9", "tin_status": "incorrect", "return_required_last_year": True}),
        ("US", COMPANY, {"form": "w9"}),
        ("VN", PERSON, {"form": "w8ben", "works_in_us": False, "backup_withheld_last_year": False}),
        ("VN", COMPANY, {"form": "w8bene"}),
    ],
)
def test_details_that_fit_are_kept_as_they_are(country: str, kind: PayeeKind, details: Mapping[str, Any]) -> None:
    assert check_details(country, kind, details) == details


def test_what_is_null_is_unknown() -> None:
    assert check_details("VN", PERSON, {"resident": None, "supplies": "goods"}) == {"supplies": "goods"}


@pytest.mark.parametrize(
    ("country", "kind", "details", "named"),
    [
        ("CN", PERSON, {"supplies": "goods"}, "supplies"),
        ("DE", PERSON, {"resident": True}, "resident"),
        ("VN", COMPANY, {"resident": None}, "resident"),
        ("VN", PERSON, {"residant": True}, "residant"),
        ("VN", PERSON, {"resident": 1}, "resident"),
        ("VN", PERSON, {"resident": "true"}, "resident"),
        ("VN", PERSON, {"commitment_08_until": "2026"}, "commitment_08_until"),
        ("VN", PERSON, {"commitment_08_until": True}, "commitment_08_until"),
        ("VN", PERSON, {"commitment_08_until": 2026.0}, "commitment_08_until"),
        ("VN", PERSON, {"commitment_08_until": 1999}, "commitment_08_until"),
        ("VN", PERSON, {"commitment_08_until": 2101}, "commitment_08_until"),
        ("VN", PERSON, {"supplies": "advice"}, "supplies"),
        ("VN", PERSON, {"supplies": ["goods"]}, "supplies"),
        ("US", PERSON, {"form": "W9"}, "form"),
        ("US", PERSON, {"form": "w8ben"}, "form"),
        ("US", COMPANY, {"form": "w8bene"}, "form"),
        ("VN", COMPANY, {"form": "w8ben"}, "form"),
        ("VN", PERSON, {"form": "w8bene"}, "form"),
        ("US", COMPANY, {"tin_status": "given"}, "tin_status"),
    ],
)
def test_a_detail_that_does_not_fit_is_named(
    country: str, kind: PayeeKind, details: Mapping[str, Any], named: str
) -> None:
    with pytest.raises(InvalidTaxDetail) as raised:
        check_details(country, kind, details)

    assert named in raised.value.detail


@examples(300)
@given(
    st.sampled_from(["VN", "CN", "US", "DE"]),
    st.sampled_from(PayeeKind),
    st.dictionaries(
        st.one_of(st.sampled_from([each.name for each in (*BY_COUNTRY["VN"], *OF_US_PAYERS)]), st.text(max_size=5)),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.sampled_from(Form), st.lists(st.none())
        ),
        max_size=3,
    ),
)
def test_whatever_is_told_it_is_kept_or_refused(country: str, kind: PayeeKind, details: dict[str, Any]) -> None:
    try:
        kept = check_details(country, kind, details)
    except InvalidTaxDetail:
        return

    assert check_details(country, kind, kept) == kept
    assert kept.keys() <= {each.name for each in asked(country, kind)}


def test_only_a_choice_has_choices_and_every_detail_says_what_it_means() -> None:
    every = [each for details in (*BY_COUNTRY.values(), OF_US_PAYERS) for each in details]

    assert all(bool(each.choices) is (each.kind is Kind.CHOICE) for each in every)
    assert all(each.meaning.endswith(".") for each in every)


# The United States.


@pytest.mark.parametrize(
    ("profile", "year", "paid", "backup", "needed"),
    [
        pytest.param(WITH_TIN, 2025, 599_99, 0, False, id="2025 below"),
        pytest.param(WITHOUT_TIN, 2026, 2_000_00, 480_00, True, id="at the threshold"),
        pytest.param(WITHOUT_TIN, 2026, 100_00, 24_00, True, id="withheld, however little was paid"),
        pytest.param(WITH_TIN, 2027, 10_000_00, 0, None, id="a year nobody knows yet"),
        pytest.param(WITHOUT_TIN, 2027, 100_00, 24_00, True, id="withheld in a year nobody knows yet"),
        pytest.param(somebody("VN", form="w8ben"), 2026, 10_000_00, 0, False, id="from abroad"),
        pytest.param(somebody("VN"), 2026, 10_000_00, 0, True, id="from abroad without a form"),
        pytest.param(Profile(kind=COMPANY, country="US"), 2026, 10_000_00, 0, False, id="a company"),
    ],
)
def test_form_1099_nec(profile: Profile, year: int, paid: int, backup: int, needed: bool | None) -> None:
    assert needs_1099_nec(profile, year=year, paid_minor=paid, backup_minor=backup) is needed


@pytest.mark.parametrize(
    ("profile", "paid", "needed"),
    [
        pytest.param(somebody("VN", form="w8ben", works_in_us=True), 1, True, id="works there"),
        pytest.param(somebody("VN", form="w8ben"), 1, True, id="may work there"),
        pytest.param(somebody("VN", form="w8ben", works_in_us=False), 1, False, id="works abroad"),
        pytest.param(somebody("VN", form="w8ben", works_in_us=True), 0, False, id="nothing paid"),
        pytest.param(WITH_TIN, 1, False, id="not foreign"),
        pytest.param(Profile(kind=COMPANY, country="VN", details={"form": "w8bene"}), 1, False, id="a company"),
    ],
)
def test_form_1042_s(profile: Profile, paid: int, needed: bool) -> None:
    assert needs_1042_s(profile, paid_minor=paid) is needed


# Vietnam.


@pytest.mark.parametrize(
    ("profile", "paid", "listed"),
    [
        pytest.param(IN_VIETNAM, 1, True, id="below the threshold too"),
        pytest.param(IN_VIETNAM, 0, False, id="nothing paid"),
        pytest.param(somebody("VN", resident=False), 1, True, id="not resident"),
        pytest.param(somebody("VN", kind=HOUSEHOLD, has_tax_code=True), 1, False, id="a household declares itself"),
        pytest.param(somebody("VN", kind=HOUSEHOLD), 1, True, id="a household without a tax code"),
        pytest.param(Profile(kind=COMPANY, country="VN"), 1, False, id="a company"),
    ],
)
def test_the_yearly_list_of_vietnam(profile: Profile, paid: int, listed: bool) -> None:
    assert in_vietnamese_list(profile, paid_minor=paid) is listed


# China.


def test_a_platform_in_china_reports_what_a_participant_earned_and_gave_back() -> None:
    row = chinese_quarter(Regime.CN_PLATFORM, gross_minor=12_000_00, refunds_minor=500_00)

    assert row is not None
    assert (row.item, row.gross_minor, row.refunds_minor, row.net_minor) == (
        "commission",
        12_000_00,
        500_00,
        11_500_00,
    )


def test_a_quarter_in_which_only_was_taken_back_is_reported_too() -> None:
    row = chinese_quarter(Regime.CN_PLATFORM, gross_minor=0, refunds_minor=1)

    assert row is not None
    assert row.net_minor == -1


@pytest.mark.parametrize("regime", [each for each in Regime if each is not Regime.CN_PLATFORM])
def test_only_a_platform_in_china_reports_by_the_quarter(regime: Regime) -> None:
    assert chinese_quarter(regime, gross_minor=1, refunds_minor=0) is None


def test_a_quarter_without_anything_has_no_row() -> None:
    assert chinese_quarter(Regime.CN_PLATFORM, gross_minor=0, refunds_minor=0) is None


def test_a_quarter_below_zero_is_a_mistake_of_ours() -> None:
    with pytest.raises(InvariantBroken):
        chinese_quarter(Regime.CN_PLATFORM, gross_minor=1, refunds_minor=-1)


# The European Union.


@pytest.mark.parametrize(
    ("country", "activity", "times", "paid", "reported"),
    [
        pytest.param("DE", Activity.PERSONAL_SERVICES, 1, 1, True, id="services are never small"),
        pytest.param("DE", Activity.PROPERTY_RENTAL, 1, 1, True, id="nor is rent"),
        pytest.param("DE", Activity.TRANSPORT_RENTAL, 1, 1, True, id="nor is rent of a car"),
        pytest.param("DE", Activity.GOODS, 29, 2_000_00, False, id="a small seller of goods"),
        pytest.param("DE", Activity.GOODS, 30, 2_000_00, True, id="too many sales"),
        pytest.param("DE", Activity.GOODS, 29, 2_000_01, True, id="too much money"),
        pytest.param("DE", Activity.PERSONAL_SERVICES, 0, 0, False, id="nothing done"),
        pytest.param("VN", Activity.PERSONAL_SERVICES, 99, 10**9, False, id="elsewhere"),
    ],
)
def test_who_is_in_a_dac7_report(country: str, activity: Activity, times: int, paid: int, reported: bool) -> None:
    assert in_dac7_report(somebody(country), activity, times=times, paid_minor=paid) is reported


def test_what_dac7_still_asks_for() -> None:
    known = {Dac7Field.NAME, Dac7Field.ACCOUNT}

    person = missing_of(tuple(Dac7Field), PERSON, known)
    company = missing_of(tuple(Dac7Field), COMPANY, known)

    assert person == (Dac7Field.ADDRESS, Dac7Field.TIN, Dac7Field.BORN_ON)
    assert company == (Dac7Field.ADDRESS, Dac7Field.TIN, Dac7Field.VAT_ID)
    assert missing_of(tuple(Dac7Field), HOUSEHOLD, set(Dac7Field)) == ()
