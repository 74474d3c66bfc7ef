"""Which openings a rule table counts: what was paid and withheld before this service, told by people."""

from collections.abc import Mapping
from datetime import date
from enum import IntEnum

from service.domain.withholding.model import Duty, Key
from service.domain.withholding.tables import RuleName, table_of


class Period(IntEnum):
    """How long a period is over which a table sums: the length of its name."""

    YEAR = len("2026")
    MONTH = len("2026-07")
    DAY = len("2026-07-15")


_COUNTED: Mapping[str, Mapping[Duty, Period]] = {
    RuleName.VN_2013: {Duty.INCOME_TAX: Period.MONTH, Duty.NON_RESIDENT: Period.MONTH},
    RuleName.VN_2026_07: {Duty.INCOME_TAX: Period.MONTH, Duty.NON_RESIDENT: Period.MONTH},
    RuleName.VN_117_2025: {Duty.VAT: Period.MONTH, Duty.INCOME_TAX: Period.MONTH, Duty.NON_RESIDENT: Period.MONTH},
    RuleName.CN_LABOUR_61_2018: {Duty.INCOME_TAX: Period.MONTH},
    RuleName.CN_PLATFORM_16_2025: {Duty.INCOME_TAX: Period.MONTH},
    RuleName.CN_VAT_2026: {Duty.VAT: Period.DAY},
    RuleName.US_NEC_2026: {Duty.BACKUP: Period.YEAR, Duty.NON_RESIDENT: Period.YEAR},
}
"""Tables that are not here withhold nothing: registers take what was paid as it is told."""


def why_not_counted(key: Key, currency: str) -> str | None:
    """Why no decision or register would count an opening, as a sentence; None where it is counted."""
    if not _is_period(key.period):
        return f"{key.period} is no year, month or day of the calendar."
    counted = _COUNTED.get(key.rule)
    if counted is None:
        return None
    period = counted.get(key.duty)
    if period is None:
        return f"{key.rule} has no {key.duty}; it has {', '.join(counted)}."
    if len(key.period) != period:
        return f"{key.rule} sums {key.duty} by {period.name.lower()}; {key.period} is none."
    expected = table_of(key.rule).currency
    return None if currency == expected else f"{key.rule} counts {expected}, not {currency}."


def _is_period(text: str) -> bool:
    try:
        date.fromisoformat(text + "-01-01"[len(text) - Period.YEAR :])
    except ValueError:
        return False
    return True
