"""Corrections: money that people put right, between which accounts, and who has to agree."""

from enum import StrEnum

from service.domain.ledger import AccountKind
from service.domain.money import AMOUNT_MAX_MINOR


class CorrectionKind(StrEnum):
    UNTAX = "untax"
    """Gives a withholding back to the payee: before it was filed, or naming the corrected return."""
    RECOVER = "recover"
    """Sets money a rail gave back against the payee's debt."""
    WRITE_OFF = "write_off"
    """Gives a payee's debt up."""
    PAID_OUTSIDE = "paid_outside"
    """Books that a payee was paid without us, or in a time that a restored database has forgotten."""


class CorrectionState(StrEnum):
    ASKED = "asked"
    BOOKED = "booked"
    WITHDRAWN = "withdrawn"


MOVES = {
    CorrectionKind.UNTAX: (AccountKind.TAX_WITHHELD, AccountKind.PAYABLE),
    CorrectionKind.RECOVER: (AccountKind.TAXED_CARRY, AccountKind.PAYABLE),
    CorrectionKind.WRITE_OFF: (AccountKind.WRITE_OFF, AccountKind.PAYABLE),
    CorrectionKind.PAID_OUTSIDE: (AccountKind.PAYABLE, AccountKind.PAID),
}
"""Debit and credit of each kind; both accounts are the payee's."""


def most_minor(kind: CorrectionKind, *, source_minor: int, payable_minor: int) -> int:
    """The largest amount a correction may move now, zero or more.

    source_minor: what stands on the account it is taken from. payable_minor: below zero is a debt. What sets a debt off
    stops where the debt is gone.
    """
    debt_minor = max(0, -payable_minor)
    match kind:
        case CorrectionKind.UNTAX:
            return max(0, source_minor)
        case CorrectionKind.RECOVER:
            return min(max(0, source_minor), debt_minor)
        case CorrectionKind.WRITE_OFF:
            return debt_minor
        case CorrectionKind.PAID_OUTSIDE:
            # What is gone is gone, also where it was more than is owed: then it is a debt.
            return AMOUNT_MAX_MINOR
