"""Which rule decides what is withheld, which sums it asks for, and what holds whatever is paid, to whom, in how many parts."""

from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvariantBroken
from service.domain.money import round_half_away
from service.domain.withholding.decide import keys_wanted
from service.domain.withholding.details import Form
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
from service.domain.withholding.tables import RuleName
from tests.domain.strategies import examples
from tests.domain.withheld import (
    AMOUNTS,
    CURRENCIES,
    EU,
    HOMES,
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
    Case,
    answered,
    cases,
    decided,
    in_turn,
    somebody,
    taxes,
)

COMPANY = Profile(kind=PayeeKind.COMPANY, country="VN")
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
