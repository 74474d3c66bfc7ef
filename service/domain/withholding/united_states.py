"""The United States: backup withholding from those without a taxpayer number, and payees from abroad."""

from collections.abc import Mapping
from datetime import date
from fractions import Fraction

from service.domain.withholding.applied import Applied, Why, flat, flat_part, missing, wrong_currency
from service.domain.withholding.details import Form, TinStatus
from service.domain.withholding.model import Duty, Key, Part, Payment, Profile, Refused, Regime, Sum
from service.domain.withholding.tables import RuleTable, in_force

HOME = "US"


def wants(table: RuleTable, profile: Profile, pay_on: date) -> tuple[Key, ...]:
    """This year and the last, for the triggers of backup withholding."""
    return () if is_foreign(profile) else (_this_year(table, pay_on), _last_year(table, pay_on))


def payer(table: RuleTable, payment: Payment, profile: Profile, history: Mapping[Key, Sum]) -> Applied | Refused:
    """What is withheld from somebody who is paid for services."""
    if is_foreign(profile):
        works_there = profile.details.get("works_in_us")
        if works_there is None:
            return missing("works_in_us", "nobody can tell whether the income is from the United States")
        rate, why = (table.rate("foreign"), Why.WORK_IN_US) if works_there else (Fraction(0), Why.WORK_ABROAD)
        return flat(table, Duty.NON_RESIDENT, f"{payment.pay_on.year}", rate, why)
    if payment.currency != table.currency:
        return wrong_currency(table, payment)
    key = _this_year(table, payment.pay_on)
    before = history.get(key, Sum())
    last = history.get(_last_year(table, payment.pay_on), Sum())
    is_exempt = _has_tin(profile)
    reporting, reporting_before = table.amounts["reporting"], table.amounts["reporting_last_year"]
    was_reported = last.base_minor >= reporting_before or profile.details.get("return_required_last_year") is True
    was_withheld = last.tax_minor > 0 or profile.details.get("backup_withheld_last_year") is True

    def reason(gross: int) -> Why:
        if is_exempt:
            return Why.TIN_GIVEN
        if before.base_minor + gross >= reporting:
            return Why.BACKUP_THIS_YEAR
        if was_reported:
            return Why.BACKUP_REPORTED
        return Why.BACKUP_WITHHELD if was_withheld else Why.BELOW_REPORTING

    def parts(gross: int) -> tuple[Part, ...]:
        why = reason(gross)
        rate = Fraction(0) if why in {Why.TIN_GIVEN, Why.BELOW_REPORTING} else table.rate("backup")
        told = {
            "before": before.base_minor,
            "threshold": reporting,
            "last_year": last.base_minor,
            "last_year_threshold": reporting_before,
            "last_year_tax": last.tax_minor,
        }
        return (flat_part(table, Duty.BACKUP, key.period, rate, why, gross, **told),)

    return Applied(rule=table.name, parts=parts, accumulates=True)


def is_foreign(profile: Profile) -> bool:
    """Whether a form W-8 says so; one of somebody resident in the United States says nothing."""
    return profile.country != HOME and profile.details.get("form") in {Form.W8BEN, Form.W8BENE}


def _has_tin(profile: Profile) -> bool:
    given = profile.details.get("tin_status", TinStatus.GIVEN) == TinStatus.GIVEN
    return profile.details.get("form") == Form.W9 and profile.has_tax_code and given


def _this_year(table: RuleTable, pay_on: date) -> Key:
    return Key(table.name, Duty.BACKUP, f"{pay_on.year}")


def _last_year(table: RuleTable, pay_on: date) -> Key:
    """Last year's payouts were summed by last year's table; before there was one, opening figures stand under this."""
    year = pay_on.year - 1
    used = in_force(Regime.US_NEC, date(year, 12, 31)) or table
    return Key(used.name, Duty.BACKUP, f"{year}")
