"""Where live books and books made again differ, named so that a person can look it up."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from sqlalchemy import exc as sqlalchemy_errors

from service.domain.errors import InvariantBroken
from service.ledger.findings import FINDINGS_MAX, Finding

T = TypeVar("T")


class RebuiltCode(StrEnum):
    """What can differ when the books are made again. Codes are never renamed. expected: made again; found: live."""

    DELIVERY = "rebuilt-delivery"
    """A delivery that counts is not what was signed, is not understood any more, or cannot be booked."""
    FACT = "rebuilt-fact"
    """A fact is not what the deliveries tell."""
    ORDER = "rebuilt-order"
    """An order's affiliate, programme, freeze or goods are not what its facts and the dated inputs give."""
    TARGET = "rebuilt-target"
    """What a payee earns on an order, or what is booked of it, is not what comes out again."""
    PLACE = "rebuilt-place"
    """An amount stands in another place than settle dates, freezes and what had left by then explain."""
    PERIOD = "rebuilt-period"
    """What a ladder, a mark or a cap comes to, or the sums it goes by, is not what comes out again."""
    ADVANCE = "rebuilt-advance"
    """An advance was netted that nobody had been given, or cannot be booked."""
    PAYOUT = "rebuilt-payout"
    """A payout's money cannot have gone the way its attempts and the rail's words say."""
    CORRECTION = "rebuilt-correction"
    """What a person put right, or tax that was passed on, cannot be booked after the payouts it is about."""
    BALANCE = "rebuilt-balance"
    """A payee's balance is not that of books made again."""


@dataclass(slots=True)
class Differences:
    """The first of each kind, and how many there are. Of one kind at most FINDINGS_MAX are kept."""

    merchant_id: UUID
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[RebuiltCode] = field(default_factory=Counter)

    def add(self, code: RebuiltCode, subject: str, detail: str, *, expected: str, found: str) -> None:
        """subject: public id of what it is about."""
        self.counts[code] += 1
        if self.counts[code] <= FINDINGS_MAX:
            self.findings.append(Finding(code, self.merchant_id, subject, detail, expected, found))


def apply_all(items: Sequence[T], work: Callable[[Sequence[T]], None], refused: Callable[[T, Exception], None]) -> None:
    """Do the work for items in their order, and go on without those that the books refuse.

    work: a unit of work of its own. refused: told of each item that cannot be booked even alone.
    """
    if not items:
        return
    try:
        work(items)
    except (InvariantBroken, sqlalchemy_errors.IntegrityError, sqlalchemy_errors.DataError) as error:
        if len(items) == 1:
            refused(items[0], error)
            return
        half = len(items) // 2
        apply_all(items[:half], work, refused)
        apply_all(items[half:], work, refused)
