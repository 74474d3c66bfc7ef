"""Vietnam: one part of a payment from the threshold on, and what platforms withhold from sellers."""

from collections.abc import Mapping
from datetime import date
from fractions import Fraction

from service.domain.withholding.applied import Applied, Why, flat, flat_part, missing, month_of, wrong_currency
from service.domain.withholding.details import is_resident
from service.domain.withholding.model import (
    Caution,
    Duty,
    Key,
    Part,
    PayeeKind,
    Payment,
    Profile,
    Refused,
    Sum,
)
from service.domain.withholding.tables import RuleTable

HOME = "VN"


def payer_wants(table: RuleTable, profile: Profile, pay_on: date) -> tuple[Key, ...]:
    """The month, of which only the warning about split payouts is made."""
    if is_resident(profile, HOME) is False or declares_itself(profile):
        return ()
    return (Key(table.name, Duty.INCOME_TAX, month_of(pay_on)),)


def payer(table: RuleTable, payment: Payment, profile: Profile, history: Mapping[Key, Sum]) -> Applied | Refused:
    """What any payer withholds from somebody it does not employ."""
    day, month = payment.pay_on, month_of(payment.pay_on)
    if declares_itself(profile):
        return flat(table, Duty.INCOME_TAX, month, Fraction(0), Why.DECLARES_ITSELF)
    resident = is_resident(profile, HOME)
    if resident is None:
        return missing("resident", "nobody can tell which rate holds in Vietnam")
    if not resident:
        return flat(table, Duty.NON_RESIDENT, month, table.rate("non_resident"), Why.NON_RESIDENT)
    if payment.currency != table.currency:
        return wrong_currency(table, payment)
    # Who asks to be withheld from has given the commitment up.
    requested = profile.details.get("requests_withholding") is True
    until = profile.details.get("commitment_08_until")
    if until is not None and day.year <= until and profile.has_tax_code and not requested:
        return Applied(
            rule=table.name,
            parts=flat(table, Duty.INCOME_TAX, month, Fraction(0), Why.COMMITMENT, year=until).parts,
            cautions=lambda _: (Caution.CERTIFICATE,),
        )
    rate, threshold = table.rate("resident"), table.amounts["payment"]
    before = history.get(Key(table.name, Duty.INCOME_TAX, month), Sum())
    # Sums do not say which payments were taxed. What was has paid its rate, to within a rounding each: enough to warn by.
    untaxed = max(Fraction(0), before.base_minor - before.tax_minor / rate)

    def parts(gross: int) -> tuple[Part, ...]:
        if gross >= threshold:
            why, taken = Why.THRESHOLD_REACHED, rate
        else:
            why, taken = (Why.REQUESTED, rate) if requested else (Why.BELOW_THRESHOLD, Fraction(0))
        told = {"threshold": threshold, "before": before.base_minor, "payments": before.payments}
        return (flat_part(table, Duty.INCOME_TAX, month, taken, why, gross, **told),)

    def cautions(gross: int) -> tuple[Caution, ...]:
        is_split = not requested and gross < threshold <= untaxed + gross
        return (Caution.SPLIT_PAYOUTS,) if is_split else ()

    return Applied(rule=table.name, parts=parts, cautions=cautions)


def platform(table: RuleTable, payment: Payment, profile: Profile) -> Applied | Refused:
    """What a platform with a payment function withholds from a household or individual that sells on it."""
    resident = is_resident(profile, HOME)
    if resident is None:
        return missing("resident", "nobody can tell which rates hold in Vietnam")
    supplies = profile.details.get("supplies")
    if supplies is None:
        return missing("supplies", "nobody can tell which rates hold: those of goods, services or transport")
    month = month_of(payment.pay_on)
    duty, income_tax = (Duty.INCOME_TAX, "resident") if resident else (Duty.NON_RESIDENT, "non_resident")
    rates = ((Duty.VAT, table.rate(f"{supplies}_vat")), (duty, table.rate(f"{supplies}_{income_tax}")))

    def parts(gross: int) -> tuple[Part, ...]:
        return tuple(flat_part(table, each, month, rate, Why.SALE, gross, supplies=supplies) for each, rate in rates)

    return Applied(rule=table.name, parts=parts)


def declares_itself(profile: Profile) -> bool:
    """Whether a payee is a household that declares its own taxes: one with a tax code, and not known to live elsewhere."""
    is_household = profile.kind is PayeeKind.HOUSEHOLD and profile.has_tax_code
    return is_household and is_resident(profile, HOME) is not False
