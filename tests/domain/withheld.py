"""Declarations, payees and what was paid before, by name or at random; payouts that are decided one after the other."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from hypothesis import strategies as st

from service.domain.withholding.decide import decide, keys_wanted
from service.domain.withholding.details import Form, Supplies, TinStatus
from service.domain.withholding.model import (
    Decision,
    Declared,
    Key,
    PayeeKind,
    Payment,
    Profile,
    Refused,
    Regime,
    Sum,
)

CURRENCIES: Mapping[Regime, str] = {
    Regime.VN: "VND",
    Regime.VN_PLATFORM: "VND",
    Regime.CN_LABOUR: "CNY",
    Regime.CN_PLATFORM: "CNY",
    Regime.US_NEC: "USD",
    Regime.EU_NONE: "EUR",
}


def somebody(
    country: str, *, kind: PayeeKind = PayeeKind.INDIVIDUAL, has_tax_code: bool = False, **details: Any
) -> Profile:
    return Profile(kind=kind, country=country, has_tax_code=has_tax_code, details=details)


VN, SELLERS, LABOUR, PLATFORM, US, EU = (Declared(regime=regime) for regime in Regime)
WITH_VAT = Declared(regime=Regime.CN_LABOUR, vat=True)
IN_VIETNAM = somebody("VN", resident=True)
HOUSEHOLD = somebody("VN", kind=PayeeKind.HOUSEHOLD, has_tax_code=True)
IN_CHINA = somebody("CN", resident=True)
WITH_TIN = somebody("US", has_tax_code=True, form="w9")
WITHOUT_TIN = somebody("US", form="w9", tin_status="missing")


def added(history: Mapping[Key, Sum], decision: Decision) -> dict[Key, Sum]:
    """The history once a payout was accepted."""
    sums = dict(history)
    for part in decision.parts:
        known = sums.get(part.key, Sum())
        sums[part.key] = Sum(known.base_minor + part.base_minor, known.tax_minor + part.tax_minor, known.payments + 1)
    return sums


def answered(
    gross_minor: int,
    on: str | date,
    declared: Declared | None,
    profile: Profile,
    *,
    currency: str = "",
    history: Mapping[Key, Sum] | None = None,
) -> Decision | Refused:
    """What is decided, of nothing but the sums that were asked for. currency: left out, that of the regime."""
    day = on if isinstance(on, date) else date.fromisoformat(on)
    known = history or {}
    return decide(
        Payment(
            gross_minor=gross_minor,
            currency=currency or ("USD" if declared is None else CURRENCIES[declared.regime]),
            pay_on=day,
        ),
        declared=declared,
        profile=profile,
        history={key: known[key] for key in keys_wanted(declared, profile, day) if key in known},
    )


def decided(
    gross_minor: int,
    on: str | date,
    declared: Declared | None,
    profile: Profile,
    *,
    currency: str = "",
    history: Mapping[Key, Sum] | None = None,
) -> Decision:
    """What is decided where something is."""
    decision = answered(gross_minor, on, declared, profile, currency=currency, history=history)
    assert isinstance(decision, Decision), decision
    return decision


def in_turn(
    payouts: Iterable[tuple[int, str | date]],
    declared: Declared,
    profile: Profile,
    *,
    history: Mapping[Key, Sum] | None = None,
) -> list[Decision]:
    """Decisions about payouts of one payee, each a gross amount and a pay day."""
    known, decisions = dict(history or {}), []
    for gross_minor, on in payouts:
        decisions.append(decided(gross_minor, on, declared, profile, history=known))
        known = added(known, decisions[-1])
    return decisions


def taxes(decisions: Iterable[Decision]) -> list[int]:
    return [each.withheld_minor for each in decisions]


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
