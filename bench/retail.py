"""The order lines of a real shop as the webhooks it would have sent. The rules stand in docs/bench.md."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from bench.webhooks import Event, JsonObject

FILE = Path(__file__).parent / "data" / "online_retail.csv"
CURRENCY = "GBP"

CARRIAGE = frozenset({"POST", "DOT", "C2"})
FEES = frozenset({"M", "BANK CHARGES"})
DISCOUNT = "D"

RETURNED_EVERY = 9
RETURNED_AFTER = timedelta(days=12)
EDITED_EVERY = 20
EDITED_AFTER = timedelta(hours=1)
KOCS = 12
DEALT_OVER = 16
"""A customer's number modulo this names the KOC whose code the customer types; what is left over types none of ours."""
NOBODYS_CODE = "FRIENDS10"

SPECIAL_SKUS = ("22423", "22633", "85123A")
SPECIAL_RATE = "12.5"
RATE = "8"
CAP_MINOR = 6000
HOLD_DAYS = 30


@dataclass(frozen=True, slots=True)
class Sold:
    """One line of an invoice. id: its number within the invoice, as articles may come twice."""

    id: str
    sku: str
    quantity: int
    price: Decimal

    @property
    def kind(self) -> str:
        if self.sku in CARRIAGE:
            return "shipping"
        return "fee" if self.sku in FEES else "goods"

    @property
    def minor(self) -> int:
        return int(self.quantity * self.price * 100)


@dataclass(frozen=True, slots=True)
class Invoice:
    """Lines that share a number. at: the time of its first line, moved to our days."""

    number: str
    at: datetime
    customer: str
    lines: tuple[Sold, ...]

    @property
    def is_cancellation(self) -> bool:
        return self.number.startswith("C")


@dataclass(frozen=True, slots=True)
class Happening:
    """A webhook and when the shop sent it. kind: order, edit, refund or unseen (a refund of an order never seen)."""

    at: datetime
    kind: str
    event: Event


@dataclass(frozen=True, slots=True)
class Story:
    """All that the shop sent, in the order it happened."""

    begins_at: datetime
    happenings: tuple[Happening, ...]

    def count(self, *kinds: str) -> int:
        return sum(happening.kind in kinds for happening in self.happenings)


def code_of(koc: int) -> str:
    """Return the coupon code of a KOC, counted from 0."""
    return f"KOC{koc:02d}"


def story(*, now: datetime) -> Story:
    """Return what the shop sent, moved by whole days so that the last return happened the day before now."""
    invoices = _read(now)
    orders = [invoice for invoice in invoices if not invoice.is_cancellation]
    happenings = [
        *(_ordered(order) for order in orders),
        *(_edited(order) for order in orders[EDITED_EVERY - 1 :: EDITED_EVERY]),
        *_cancelled(invoices),
        *_returned(orders),
    ]
    return Story(
        begins_at=min(invoice.at for invoice in invoices),
        # Stable: what happened in the same minute keeps its order, orders first.
        happenings=tuple(sorted(happenings, key=lambda happening: happening.at)),
    )


def _read(now: datetime) -> list[Invoice]:
    lines: dict[str, list[Sold]] = defaultdict(list)
    heads: dict[str, tuple[datetime, str]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            number = row["invoice_no"]
            heads.setdefault(number, (datetime.fromisoformat(row["invoice_date"]), row["customer_id"]))
            sold = Sold(
                str(len(lines[number]) + 1),
                row["stock_code"],
                int(row["quantity"]),
                Decimal(row["unit_price_gbp"]),
            )
            lines[number].append(sold)
    last = max(at for at, _ in heads.values()) + RETURNED_AFTER
    moved = timedelta(days=(now.astimezone(UTC).date() - last.date()).days - 1)
    return [Invoice(number, at + moved, customer, tuple(lines[number])) for number, (at, customer) in heads.items()]


def _ordered(order: Invoice) -> Happening:
    return Happening(order.at, "order", Event.of(order.number, _order(order, order.lines, updated_at=order.at)))


def _edited(order: Invoice) -> Happening:
    """The first goods line's quantity is halved, rounded up; a single piece becomes two."""
    first = next((line for line in order.lines if line.kind == "goods" and line.quantity > 0), None)
    lines = tuple(
        Sold(line.id, line.sku, 2 if line.quantity == 1 else -(-line.quantity // 2), line.price)
        if line is first
        else line
        for line in order.lines
    )
    at = order.at + EDITED_AFTER
    return Happening(at, "edit", Event.of(f"{order.number}-edit", _order(order, lines, updated_at=at)))


def _order(order: Invoice, lines: Iterable[Sold], *, updated_at: datetime) -> JsonObject:
    discount = -sum(line.minor for line in lines if line.sku == DISCOUNT)
    kept = [line for line in lines if line.sku != DISCOUNT]
    off = _spread(discount, [line.minor if line.kind == "goods" else 0 for line in kept])
    return {
        "type": "order",
        "id": order.number,
        "number": order.number,
        "placed_at": order.at.isoformat(),
        "updated_at": updated_at.isoformat(),
        "currency": CURRENCY,
        "customer": {"id": order.customer} if order.customer else {},
        "coupon_codes": _codes(order.customer),
        "lines": [
            {
                "id": line.id,
                "sku": line.sku,
                # Two lines are stock written off at price zero: nothing was sold.
                "quantity": max(line.quantity, 0),
                "net": _decimal(line.minor - less),
                "kind": line.kind,
            }
            for line, less in zip(kept, off, strict=True)
        ],
        "milestones": {"paid_at": order.at.isoformat()},
    }


def _codes(customer: str) -> list[str]:
    if not customer:
        return []
    dealt = int(customer) % DEALT_OVER
    if dealt < KOCS:
        return [code_of(dealt)]
    return [NOBODYS_CODE] if dealt >= DEALT_OVER - 2 else []


def _cancelled(invoices: Iterable[Invoice]) -> list[Happening]:
    """Each cancelled line goes back to the customer's latest earlier line of that article, if there is one."""
    bought: dict[tuple[str, str], tuple[str, str]] = {}
    happenings = []
    for invoice in invoices:
        if not invoice.is_cancellation:
            if invoice.customer:
                bought |= {
                    (invoice.customer, line.sku): (invoice.number, line.id)
                    for line in invoice.lines
                    if line.quantity > 0
                }
            continue
        known: dict[str, list[JsonObject]] = defaultdict(list)
        unseen_minor: list[int] = []
        for line in invoice.lines:
            place = bought.get((invoice.customer, line.sku))
            if place is not None:
                known[place[0]].append({"line_id": place[1], "net": _decimal(-line.minor)})
            else:
                unseen_minor.append(-line.minor if line.kind == "goods" else 0)
        for order_id, lines in known.items():
            happenings.append(_refund("refund", invoice.number, order_id, invoice.at, {"lines": lines}))
        if unseen_minor:
            told = {"amount": _decimal(sum(unseen_minor))}
            happenings.append(_refund("unseen", invoice.number, f"before-{invoice.number}", invoice.at, told))
    return happenings


def _returned(orders: Iterable[Invoice]) -> list[Happening]:
    """Of every ninth goods line that cost something a third of the value comes back."""
    sold = [(order, line) for order in orders for line in order.lines if line.kind == "goods" and line.minor > 0]
    return [
        _refund(
            "refund",
            f"R{order.number}-{line.id}",
            order.number,
            order.at + RETURNED_AFTER,
            {"lines": [{"line_id": line.id, "net": _decimal(line.minor // 3)}]},
        )
        for order, line in sold[RETURNED_EVERY - 1 :: RETURNED_EVERY]
    ]


def _refund(kind: str, refund_id: str, order_id: str, at: datetime, told: JsonObject) -> Happening:
    event = {
        "type": "refund",
        "id": refund_id,
        "order_id": order_id,
        "updated_at": at.isoformat(),
        "refunded_at": at.isoformat(),
        "currency": CURRENCY,
        **told,
    }
    return Happening(at, kind, Event.of(f"{refund_id}-{order_id}", event))


def _decimal(minor: int) -> str:
    return str(Decimal(minor).scaleb(-2))


def _spread(total: int, weights: list[int]) -> list[int]:
    """Parts of a total in proportion to weights, by largest remainder, ties to the earlier one."""
    whole = sum(weights) or 1
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: -(total * weights[index] % whole))
    for index in by_remainder[: total - sum(parts) if sum(weights) else 0]:
        parts[index] += 1
    return parts
