"""The reports there are. Another one is a file that defines it, and a line here."""

from service.domain.errors import Missing
from service.reports.define import BALANCES, COMMISSIONS, FUNDERS, PAYOUTS, Report
from service.reports.define_tax import TAX


class UnknownReport(Missing):
    code = "unknown-report"
    title = "There is no such report"


REPORTS = {
    report.name: report
    for report in (
        COMMISSIONS,
        PAYOUTS,
        BALANCES,
        FUNDERS,
        TAX,
    )
}


def find(name: str) -> Report:
    """Raises UnknownReport."""
    try:
        return REPORTS[name]
    except KeyError:
        raise UnknownReport(f"The reports are {', '.join(REPORTS)}.") from None
