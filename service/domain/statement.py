"""A statement: what was owed to a payee before some days, every movement of them, and what is owed after.

Movements are taken by the day they were booked on, so a statement of sealed days can never become another. It adds up
whatever happened, since each movement counts by whether it crosses the border of what is owed, not by what it is called.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from service.domain.ledger import AccountKind

JsonObject = dict[str, Any]

FORMAT: Final = 1
"""Number of this way to write statements; another way gets another number."""
DAYS_MAX: Final = 366

OWED: Final = (
    AccountKind.PENDING,
    AccountKind.HELD,
    AccountKind.PAYABLE,
    AccountKind.RESERVED,
    AccountKind.IN_TRANSIT,
    AccountKind.TAXED_CARRY,
    AccountKind.ADVANCE,
)
"""Where what is owed to a payee stands. All other accounts of a payee hold what was sent, taken or given up."""


class Subject(StrEnum):
    """What a movement is about."""

    ORDER = "order"
    PERIOD = "period"
    """A rule over a period: a ladder, milestones, a cap."""
    BONUS = "bonus"
    """What people gave apart from any rule: a bonus, or something on an order that is credited to somebody else."""
    PAYOUT = "payout"
    ADVANCE = "advance"
    CORRECTION = "correction"
    REMITTANCE = "remittance"
    OTHER = "other"


class MovementKind(StrEnum):
    """What a movement did. In the order of the waterfall, then those that leave what is owed as it is."""

    EARNED = "earned"
    TAKEN_BACK = "taken_back"
    """Returns, cancellations, rejections."""
    PERIOD = "period"
    """A rule over a period followed its orders; it may add, take, or only move."""
    ADJUSTED = "adjusted"
    """Given, or taken, by people apart from any rule."""
    UNTAXED = "untaxed"
    """A withholding was undone."""
    WRITTEN_OFF = "written_off"
    """A debt was given up."""
    FEE = "fee"
    TAX = "tax"
    SENT = "sent"
    CAME_BACK = "came_back"
    OTHER = "other"

    SETTLED = "settled"
    FROZEN = "frozen"
    FREED = "freed"
    ADVANCED = "advanced"
    REPAID = "repaid"
    """Netted from an advance."""
    RESERVED = "reserved"
    RELEASED = "released"
    HANDED_OVER = "handed_over"
    NOT_SENT = "not_sent"
    """Refused by the rail, or proven never to have arrived."""
    REMAINDER = "remainder"
    RECOVERED = "recovered"
    """Carried money set off against a debt."""
    TAX_BORNE = "tax_borne"
    """Tax at the merchant's cost."""
    REMITTED = "remitted"


OPENING, CLOSING = "opening", "closing"
"""The first and the last line of a waterfall; those between are called as their kind of movement."""

_EXPENSE = AccountKind.COMMISSION_EXPENSE
_KINDS: Final[Mapping[tuple[AccountKind, AccountKind], MovementKind]] = {
    (AccountKind.TAX_WITHHELD, AccountKind.PAYABLE): MovementKind.UNTAXED,
    (AccountKind.WRITE_OFF, AccountKind.PAYABLE): MovementKind.WRITTEN_OFF,
    (AccountKind.IN_TRANSIT, AccountKind.PLATFORM_FEE): MovementKind.FEE,
    (AccountKind.IN_TRANSIT, AccountKind.TAX_WITHHELD): MovementKind.TAX,
    (AccountKind.IN_TRANSIT, AccountKind.PAID): MovementKind.SENT,
    (AccountKind.PAID, AccountKind.TAXED_CARRY): MovementKind.CAME_BACK,
    (AccountKind.PENDING, AccountKind.PAYABLE): MovementKind.SETTLED,
    (AccountKind.PENDING, AccountKind.HELD): MovementKind.FROZEN,
    (AccountKind.PAYABLE, AccountKind.HELD): MovementKind.FROZEN,
    (AccountKind.HELD, AccountKind.PENDING): MovementKind.FREED,
    (AccountKind.ADVANCE, AccountKind.PAYABLE): MovementKind.ADVANCED,
    (AccountKind.PAYABLE, AccountKind.ADVANCE): MovementKind.REPAID,
    (AccountKind.PAYABLE, AccountKind.RESERVED): MovementKind.RESERVED,
    (AccountKind.TAXED_CARRY, AccountKind.RESERVED): MovementKind.RESERVED,
    (AccountKind.RESERVED, AccountKind.PAYABLE): MovementKind.RELEASED,
    (AccountKind.RESERVED, AccountKind.TAXED_CARRY): MovementKind.RELEASED,
    (AccountKind.RESERVED, AccountKind.IN_TRANSIT): MovementKind.HANDED_OVER,
    (AccountKind.IN_TRANSIT, AccountKind.RESERVED): MovementKind.NOT_SENT,
    (AccountKind.IN_TRANSIT, AccountKind.TAXED_CARRY): MovementKind.REMAINDER,
    (AccountKind.TAXED_CARRY, AccountKind.PAYABLE): MovementKind.RECOVERED,
    (AccountKind.TAX_COST, AccountKind.TAX_WITHHELD): MovementKind.TAX_BORNE,
    (AccountKind.TAX_WITHHELD, AccountKind.REMITTED): MovementKind.REMITTED,
}


@dataclass(frozen=True, slots=True)
class Movement:
    """An amount above zero that moved between two accounts of a payee, or between one and somebody else.

    day: the booking day. source, destination: None for an account that is not the payee's, but for the merchant's
    commission expense.
    """

    day: date
    subject: Subject
    source: AccountKind | None
    destination: AccountKind | None
    amount_minor: int

    @property
    def kind(self) -> MovementKind:
        if self.subject is Subject.PERIOD:
            return MovementKind.PERIOD
        if _EXPENSE in (self.source, self.destination):
            if self.subject is Subject.BONUS:
                return MovementKind.ADJUSTED
            if self.subject is Subject.ORDER:
                return MovementKind.EARNED if self.source is _EXPENSE else MovementKind.TAKEN_BACK
        if self.source is None or self.destination is None:
            return MovementKind.OTHER
        return _KINDS.get((self.source, self.destination), MovementKind.OTHER)

    @property
    def effect_minor(self) -> int:
        """What it adds to what is owed; below zero where it takes."""
        return self.amount_minor * ((self.destination in OWED) - (self.source in OWED))

    def as_json(self) -> JsonObject:
        return {
            "day": self.day.isoformat(),
            "kind": self.kind.value,
            "from": None if self.source is None else self.source.value,
            "to": None if self.destination is None else self.destination.value,
            "amount_minor": self.amount_minor,
            "effect_minor": self.effect_minor,
        }


@dataclass(frozen=True, slots=True)
class Place:
    """One place of what is owed over the days."""

    kind: AccountKind
    opening_minor: int
    in_minor: int = 0
    out_minor: int = 0

    @property
    def closing_minor(self) -> int:
        return self.opening_minor + self.in_minor - self.out_minor

    def as_json(self) -> JsonObject:
        return {
            "place": self.kind.value,
            "opening_minor": self.opening_minor,
            "in_minor": self.in_minor,
            "out_minor": self.out_minor,
            "closing_minor": self.closing_minor,
        }


def places(opening: Mapping[AccountKind, int], movements: Iterable[Movement]) -> list[Place]:
    """What each place held before, got, gave and holds after. opening: in minor units; a place that is absent held 0."""
    gained: dict[AccountKind, int] = defaultdict(int)
    lost: dict[AccountKind, int] = defaultdict(int)
    for movement in movements:
        if movement.destination is not None:
            gained[movement.destination] += movement.amount_minor
        if movement.source is not None:
            lost[movement.source] += movement.amount_minor
    return [Place(kind, opening.get(kind, 0), gained[kind], lost[kind]) for kind in OWED]


def waterfall(opening_minor: int, movements: Iterable[Movement]) -> list[tuple[str, int]]:
    """From what was owed before to what is owed after: (name, minor units), opening and closing included.

    Between them a line for each kind of movement that made what is owed more or less; closing is the sum of all before it.
    """
    changes: dict[MovementKind, int] = defaultdict(int)
    for movement in movements:
        if movement.effect_minor:
            changes[movement.kind] += movement.effect_minor
    lines = [(OPENING, opening_minor)]
    lines += [(kind.value, changes[kind]) for kind in MovementKind if kind in changes]
    return [*lines, (CLOSING, opening_minor + sum(changes.values()))]


def moved_within(movements: Iterable[Movement]) -> dict[MovementKind, int]:
    """What only changed its place, or is not the payee's at all, by kind, in minor units."""
    sums: dict[MovementKind, int] = defaultdict(int)
    for movement in movements:
        if not movement.effect_minor:
            sums[movement.kind] += movement.amount_minor
    return {kind: sums[kind] for kind in MovementKind if kind in sums}


_FOR_SERVICES = frozenset(
    {MovementKind.EARNED, MovementKind.TAKEN_BACK, MovementKind.PERIOD, MovementKind.ADJUSTED, MovementKind.OTHER}
)


def for_services_minor(movements: Iterable[Movement]) -> int:
    """What the payee earned in the days less what was taken back: what an invoice of the payee would be about."""
    return sum(movement.effect_minor for movement in movements if movement.kind in _FOR_SERVICES)


def receipt_lines(receipt: JsonObject, payee_id: str) -> list[JsonObject]:
    """The order lines of a commission's receipt with the payee's own part of each; none where it is of no order.

    payee_id: as receipts write it. Of several credits the lines of all, one after the other.
    """
    lines: list[JsonObject] = []
    for credit in receipt.get("credits", (receipt,)):
        lines += [_receipt_line(line, payee_id) for line in credit.get("lines", ())]
    return lines


def _receipt_line(line: JsonObject, payee_id: str) -> JsonObject:
    # Receipts of the first release have one rule for each line, and its amount beside it.
    parts = line["parts"] if "parts" in line else [] if line["rule"] is None else [{**line, "per": "line"}]
    own_minor = line["commission_minor"]
    if "division" in line:
        own_minor = sum(cell["paid_minor"] for cell in line["division"] if cell["payee_id"] == payee_id)
    return {
        "line_id": line["line_id"],
        "sku": line["sku"],
        "quantity": line.get("quantity", "1"),
        "ordered_minor": line["ordered_minor"],
        "refunded_minor": line["refunded_minor"],
        "base_minor": line["base_minor"],
        "rates": [{"rate": each["rate"], "flat_minor": each["flat_minor"], "per": each["per"]} for each in parts],
        "commission_minor": own_minor,
    }


def receipt_told(receipt: JsonObject, payee_id: str) -> JsonObject:
    """What a statement tells of a commission's receipt: the lines, and what besides them makes the amount."""
    lines = receipt_lines(receipt, payee_id)
    is_voided = any(each.get("voided", False) for each in receipt.get("credits", (receipt,)))
    target_minor = receipt.get("target_minor", 0)
    rules_minor = receipt.get("rules_minor", target_minor)
    sums: JsonObject = receipt.get("sums", {})
    over_minor = sum(line["commission_minor"] for line in lines) - rules_minor
    return {
        "lines": lines,
        "voided": is_voided,
        # What the lines come to above the cap of one order.
        "capped_minor": over_minor if lines and not is_voided else 0,
        "adjustments": [
            {"amount_minor": each["amount_minor"], "reason_code": each["reason_code"]}
            for each in receipt.get("adjustments") or ()
            if each["counts"]
        ],
        "orders": sum(each["orders"] for each in sums.values()),
        "sales_minor": sum(each["sales_minor"] for each in sums.values()),
        "target_minor": target_minor,
    }


def subject_of(receipt: JsonObject, *, is_period: bool) -> Subject:
    """What a commission is about."""
    if is_period:
        return Subject.PERIOD
    alone = receipt.get("adjustments") and "lines" not in receipt and "credits" not in receipt
    return Subject.BONUS if alone else Subject.ORDER


def month(name: str) -> tuple[date, date]:
    """First and last day of a calendar month such as 2026-11. Raises ValueError."""
    first = date.fromisoformat(f"{name}-01")
    return first, (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def number_text(year: int, number: int) -> str:
    """How a statement is called, such as 2026-000123."""
    return f"{year}-{number:06d}"


def digest_of(document: JsonObject) -> bytes:
    """SHA-256 of a statement's document, written as JSON in UTF-8 with sorted keys and no blanks."""
    return hashlib.sha256(canonical(document)).digest()


def canonical(document: JsonObject) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sums_json(opening: Mapping[AccountKind, int], movements: Sequence[Movement]) -> dict[str, list[JsonObject]]:
    """The figures at the head of a statement."""
    opening_minor = sum(opening.get(kind, 0) for kind in OWED)
    return {
        "waterfall": [
            {"step": name, "amount_minor": amount_minor} for name, amount_minor in waterfall(opening_minor, movements)
        ],
        "places": [place.as_json() for place in places(opening, movements)],
        "within": [
            {"kind": kind.value, "amount_minor": amount_minor} for kind, amount_minor in moved_within(movements).items()
        ],
    }
