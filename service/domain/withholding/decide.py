"""What is withheld from one payout: the one decision, made of a rule table, the payee's profile and what was decided before."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import assert_never

from service.domain.errors import InvariantBroken
from service.domain.withholding import china, united_states, vietnam
from service.domain.withholding.applied import Applied
from service.domain.withholding.model import (
    Caution,
    Decision,
    Declared,
    Key,
    Mode,
    Part,
    PayeeKind,
    Payment,
    Profile,
    Refusal,
    Refused,
    Regime,
    Sum,
)
from service.domain.withholding.tables import EU_MEMBERS, RuleName, RuleTable, in_force, tables_of


def keys_wanted(declared: Declared | None, profile: Profile, pay_on: date) -> tuple[Key, ...]:
    """Which sums of the payee's accepted payouts `decide` needs on that day; none for rules that look at nothing else."""
    if profile.kind is PayeeKind.COMPANY or declared is None or declared.mode is Mode.OFF:
        return ()
    table = in_force(declared.regime, pay_on)
    if table is None:
        return ()
    match declared.regime:
        case Regime.VN:
            return vietnam.payer_wants(table, profile, pay_on)
        case Regime.CN_LABOUR | Regime.CN_PLATFORM:
            return china.wants(table, pay_on, vat=declared.vat)
        case Regime.US_NEC:
            return united_states.wants(table, profile, pay_on)
        case Regime.VN_PLATFORM | Regime.EU_NONE:
            return ()
        case _:
            assert_never(declared.regime)


def decide(
    payment: Payment, *, declared: Declared | None, profile: Profile, history: Mapping[Key, Sum]
) -> Decision | Refused:
    """What is withheld from a payout, or why nothing can be decided.

    declared: for the profile's country, on the pay day. history: the sums of `keys_wanted`; one that is absent is zero.
    """
    if payment.gross_minor < 0:
        raise InvariantBroken(f"a payout of {payment.gross_minor} {payment.currency} cannot be taxed")
    if profile.kind is PayeeKind.COMPANY:
        return _nothing(RuleName.NONE_COMPANY, payment)
    if declared is None:
        return Refused(
            Refusal.NO_REGIME,
            f"Nothing is declared about tax of people in {profile.country}. Declare a regime for that country, or mode off if nothing is "
            f"to be withheld.",
        )
    if declared.mode is Mode.OFF:
        return _nothing(RuleName.OFF, payment)
    table = in_force(declared.regime, payment.pay_on)
    if table is None:
        return _none_in_force(declared.regime, payment.pay_on)
    applied = _applied(table, payment, declared, profile, history)
    return applied if isinstance(applied, Refused) else _decided(applied, payment, declared)


def _nothing(rule: RuleName, payment: Payment) -> Decision:
    return Decision(rule=rule, gross_minor=payment.gross_minor, withheld_minor=0, borne_minor=0)


def _none_in_force(regime: Regime, day: date) -> Refused:
    known = "; ".join(f"{each.name} from {each.since} until {each.until or 'now'}" for each in tables_of(regime))
    return Refused(
        Refusal.NO_RULE,
        f"No table of {regime} is in force on {day} (there are: {known}). Have the table of that day added, or declare mode off if nothing "
        f"is to be withheld.",
    )


def _applied(
    table: RuleTable, payment: Payment, declared: Declared, profile: Profile, history: Mapping[Key, Sum]
) -> Applied | Refused:
    match declared.regime:
        case Regime.VN:
            return vietnam.payer(table, payment, profile, history)
        case Regime.VN_PLATFORM:
            return vietnam.platform(table, payment, profile)
        case Regime.CN_LABOUR | Regime.CN_PLATFORM:
            return china.payer(table, payment, profile, history, vat=declared.vat)
        case Regime.US_NEC:
            return united_states.payer(table, payment, profile, history)
        case Regime.EU_NONE:
            if profile.country not in EU_MEMBERS:
                return Refused(
                    Refusal.NO_RULE,
                    f"{table.name} is for people in the European Union, and this one is in {profile.country}. Declare another regime for "
                    f"that country, or mode off if nothing is to be withheld.",
                )
            return Applied(rule=table.name, parts=lambda _: ())
        case _:
            assert_never(declared.regime)


def _decided(applied: Applied, payment: Payment, declared: Declared) -> Decision:
    if declared.gross_up:
        gross = _grossed_up(applied, payment.gross_minor)
        parts = applied.parts(gross)
    else:
        gross = payment.gross_minor
        parts = _within(applied.parts(gross), gross)
    tax = _tax(parts)
    is_withheld = declared.mode is Mode.WITHHOLD and not declared.gross_up
    is_owed = declared.mode is Mode.WARN and tax > 0
    return Decision(
        rule=applied.rule,
        gross_minor=gross,
        withheld_minor=tax if is_withheld else 0,
        borne_minor=0 if is_withheld else tax,
        parts=parts,
        cautions=(*applied.cautions(gross), *((Caution.NOT_WITHHELD,) if is_owed else ())),
        accumulates=applied.accumulates,
    )


def _tax(parts: tuple[Part, ...]) -> int:
    return sum(part.tax_minor for part in parts)


def _grossed_up(applied: Applied, net_minor: int) -> int:
    """The least gross that leaves the net after its tax.

    Tax never falls as gross rises, so going up from the net meets the least solution first. It is met soon: but for the one jump
    at a threshold no rule takes half of what is added, so each step closes more than half of what is left.
    """
    if net_minor == 0:
        return 0
    gross = net_minor
    while (needed := net_minor + _tax(applied.parts(gross))) != gross:
        gross = needed
    return gross


def _within(parts: tuple[Part, ...], gross_minor: int) -> tuple[Part, ...]:
    """Parts that take no more than there is, the first ones first: what earlier payouts left to catch up can be more."""
    left, kept = gross_minor, []
    for part in parts:
        tax = min(part.tax_minor, left)
        left -= tax
        kept.append(part if tax == part.tax_minor else _cut(part, tax))
    return tuple(kept)


def _cut(part: Part, tax_minor: int) -> Part:
    beyond = part.tax_minor - tax_minor
    return replace(part, tax_minor=tax_minor, steps={**part.steps, "tax": tax_minor, "beyond": beyond})
