"""Closing the books: what a range of booking days came to, by account, and the digest it can be told by for ever."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from service.domain.order import JsonObject

FIRST = ""
"""What stands in the place of the digest before the first close."""

_FORMAT = 1
"""Number of this way to make digests; another way gets another number."""


@dataclass(frozen=True, slots=True, order=True)
class TrialLine:
    """One account in one currency over some days, in minor units.

    opening, closing: debits less credits, so a cost stands above zero and what is owed below it.
    """

    account: str
    currency: str
    opening_minor: int
    debit_minor: int
    credit_minor: int

    @property
    def closing_minor(self) -> int:
        return self.opening_minor + self.debit_minor - self.credit_minor

    def as_json(self) -> JsonObject:
        return {
            "account": self.account,
            "currency": self.currency,
            "opening_minor": self.opening_minor,
            "debit_minor": self.debit_minor,
            "credit_minor": self.credit_minor,
            "closing_minor": self.closing_minor,
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> "TrialLine":
        return cls(
            stored["account"],
            stored["currency"],
            stored["opening_minor"],
            stored["debit_minor"],
            stored["credit_minor"],
        )


def out_of_balance(lines: Iterable[TrialLine]) -> Mapping[str, int]:
    """What closings come to by currency, where that is not nothing. Empty for any books made of postings."""
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.currency] += line.closing_minor
    return {currency: amount for currency, amount in sums.items() if amount}


def close_digest(previous: str, *, merchant_id: UUID, begins_on: date, until: date, lines: Iterable[TrialLine]) -> str:
    """SHA-256 over the digest of the close before, the days, and every line; hexadecimal.

    lines: in any order. So whoever noted the newest digest can tell later that no close was changed since.
    """
    told = [
        _FORMAT,
        previous,
        str(merchant_id),
        begins_on.isoformat(),
        until.isoformat(),
        [
            [line.account, line.currency, line.opening_minor, line.debit_minor, line.credit_minor]
            for line in sorted(lines)
        ],
    ]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()
