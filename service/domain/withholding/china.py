"""China: labour remuneration by the month, platforms by the year, and VAT by the day where it is declared."""

from collections.abc import Callable, Mapping
from datetime import date
from fractions import Fraction

from service.domain.money import round_half_away
from service.domain.withholding.applied import Applied, Why, figure, missing, month_of, wrong_currency
from service.domain.withholding.details import is_resident
from service.domain.withholding.model import Duty, Key, Part, Payment, Profile, Refusal, Refused, Regime, Sum
from service.domain.withholding.tables import RuleName, RuleTable, table_of
from service.domain.written import rate_of

HOME = "CN"
VAT = table_of(RuleName.CN_VAT_2026)


def wants(table: RuleTable, pay_on: date, *, vat: bool) -> tuple[Key, ...]:
    """The month, or each month of the year so far; and the day, where VAT is declared."""
    first = 1 if table.regime is Regime.CN_PLATFORM else pay_on.month
    months = tuple(_income_tax(table, pay_on.replace(month=each, day=1)) for each in range(first, pay_on.month + 1))
    return (*months, _vat_day(pay_on)) if vat else months


def payer(
    table: RuleTable, payment: Payment, profile: Profile, history: Mapping[Key, Sum], *, vat: bool
) -> Applied | Refused:
    """What is withheld from labour remuneration: the difference this payout makes to what was withheld before."""
    day = payment.pay_on
    resident = is_resident(profile, HOME)
    if resident is None:
        return missing("resident", "nobody can tell whether this table holds in China")
    if not resident:
        return Refused(
            Refusal.NO_RULE,
            f"{table.name} holds for people resident in China, and there is no table for others. Have a professional say what is to "
            f"be withheld, and declare mode off for the payee's country if it is settled outside.",
        )
    if payment.currency != table.currency:
        return wrong_currency(table, payment)
    if vat and not VAT.holds_on(day):
        return Refused(
            Refusal.NO_RULE,
            f"VAT is declared, and {VAT.name} holds from {VAT.since} until {VAT.until}, not on {day}. Declare the regime without VAT, "
            f"or have the table of that day added.",
        )
    found = {key: history.get(key, Sum()) for key in wants(table, day, vat=vat)}
    income_tax = _by_year(table, day, found) if table.regime is Regime.CN_PLATFORM else _by_month(table, day, found)

    def parts(gross: int) -> tuple[Part, ...]:
        if not vat:
            return (income_tax(gross),)
        value_added = _vat(day, found, gross)
        # What is taxed as income is what was paid without its VAT.
        return value_added, income_tax(max(0, gross - value_added.tax_minor))

    return Applied(rule=table.name, parts=parts, accumulates=True)


def _income_tax(table: RuleTable, day: date) -> Key:
    return Key(table.name, Duty.INCOME_TAX, month_of(day))


def _vat_day(day: date) -> Key:
    return Key(VAT.name, Duty.VAT, day.isoformat())


def _vat(day: date, found: Mapping[Key, Sum], gross: int) -> Part:
    key = _vat_day(day)
    before, rate, threshold = found[key], VAT.rate("vat"), VAT.amounts["day"]
    total = before.base_minor + gross
    is_above = total > threshold
    target = round_half_away(total * rate / (1 + rate)) if is_above else 0
    tax = max(0, target - before.tax_minor)
    steps = {
        "why": (Why.DAY_ABOVE if is_above else Why.DAY_BELOW).value,
        "before": before.base_minor,
        "income": gross,
        "total": total,
        "threshold": threshold,
        "rate": VAT.rates["vat"],
        "target": target,
        "already": before.tax_minor,
        "tax": tax,
    }
    return Part(key, gross, tax, steps)


def _by_month(table: RuleTable, day: date, found: Mapping[Key, Sum]) -> Callable[[int], Part]:
    key = _income_tax(table, day)
    before = found[key]

    def part(income: int) -> Part:
        total = before.base_minor + income
        if total <= table.amounts["fixed_up_to"]:
            why, deduction = Why.MONTH_FIXED, Fraction(min(total, table.amounts["fixed_deduction"]))
        else:
            why, deduction = Why.MONTH_SHARE, total * table.rate("deduction")
        return _difference(
            table,
            key,
            {"why": why.value, "before": before.base_minor, "income": income, "total": total, "deduction": figure(deduction)},
            income=income,
            taxable=total - deduction,
            already=before.tax_minor,
        )  # fmt: skip

    return part


def _by_year(table: RuleTable, day: date, found: Mapping[Key, Sum]) -> Callable[[int], Part]:
    key = _income_tax(table, day)
    months = {each: known for each, known in found.items() if each.duty is Duty.INCOME_TAX}
    before = sum(known.base_minor for known in months.values())
    already = sum(known.tax_minor for known in months.values())

    def part(income: int) -> Part:
        counted = sum(known.base_minor + (income if each == key else 0) > 0 for each, known in months.items())
        total = before + income
        deduction = total * table.rate("deduction")
        of_months = table.amounts["each_month"] * counted
        steps: dict[str, int | str] = {
            "why": Why.YEAR.value,
            "before": before,
            "income": income,
            "total": total,
            "deduction": figure(deduction),
            "months": counted,
            "of_months": of_months,
        }
        taxable = max(Fraction(0), total - deduction - of_months)
        return _difference(table, key, steps, income=income, taxable=taxable, already=already)

    return part


def _difference(
    table: RuleTable, key: Key, steps: Mapping[str, int | str], *, income: int, taxable: Fraction, already: int
) -> Part:
    bracket = table.bracket_of(taxable)
    target = round_half_away(taxable * rate_of(bracket.rate) - bracket.quick_minor)
    tax = max(0, target - already)
    more = {
        "taxable": figure(taxable),
        "rate": bracket.rate,
        "quick_deduction": bracket.quick_minor,
        "target": target,
        "already": already,
        "tax": tax,
    }
    return Part(key, income, tax, {**steps, **more})
