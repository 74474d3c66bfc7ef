"""Payees, and payouts decided one after the other: each is accepted before the next is decided."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from service.domain.withholding.decide import decide, keys_wanted
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


IN_VIETNAM = somebody("VN", resident=True)
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
