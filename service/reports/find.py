"""All reports there are, by name."""

from service.domain.errors import Missing
from service.reports.define import BALANCES, COMMISSIONS, FUNDERS, PAYOUTS, Report
from service.reports.define_books import JOURNAL, LIABILITY_AGEING, RECONCILIATION_DIFFERENCES, TRIAL_BALANCE


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
        TRIAL_BALANCE,
        JOURNAL,
        LIABILITY_AGEING,
        RECONCILIATION_DIFFERENCES,
    )
}


def find(name: str) -> Report:
    """Raises UnknownReport."""
    try:
        return REPORTS[name]
    except KeyError:
        raise UnknownReport(f"The reports are {', '.join(REPORTS)}.") from None
