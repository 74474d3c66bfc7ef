"""Advances: what a payee is lent on the pay day while the merchant's approval is late, and how it comes back."""

from enum import StrEnum
from fractions import Fraction

from service.domain.money import round_half_away


class AdvanceKind(StrEnum):
    GIVEN = "given"
    """advance → payable: the payee owes it."""
    REPAID = "repaid"
    """payable → advance: netted from what was settled in the same unit of work."""


def advance_minor(rate: Fraction, *, pending_minor: int, given_minor: int) -> int:
    """What to lend on a commission: its share of what is pending, less what earlier statements lent on it.

    rate: above 0, at most 1. Rounded half away from zero; zero or more, and with given_minor never more than pending.
    """
    return max(0, round_half_away(rate * pending_minor) - given_minor)


def repayment_minor(*, owed_minor: int, settled_minor: int) -> int:
    """How much of what a settlement made payable goes back. owed_minor: lent and not repaid, zero or more."""
    return min(owed_minor, settled_minor)
