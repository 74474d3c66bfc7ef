"""The reports there are. Another one is a file that defines it, and a line here."""

from service.domain.errors import Missing
from service.reports.define import Report
from service.reports.define_balances import BALANCES
from service.reports.define_books import JOURNAL, LIABILITY_AGEING, RECONCILIATION_DIFFERENCES, TRIAL_BALANCE
from service.reports.define_commissions import COMMISSIONS, FUNDERS
from service.reports.define_payouts import PAYOUTS
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
        TRIAL_BALANCE,
        JOURNAL,
        LIABILITY_AGEING,
        RECONCILIATION_DIFFERENCES,
        TAX,
    )
}


def find(name: str) -> Report:
    """Raises UnknownReport."""
    try:
        return REPORTS[name]
    except KeyError:
        raise UnknownReport(f"The reports are {', '.join(REPORTS)}.") from None
