"""What the books must say after the replay, computed from the file alone: csv and decimal, nothing of the service.

Written on purpose without the code that makes the webhooks, from the rules in docs/bench.md, so that a mistake in either
shows as a difference.
"""

import csv
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

PENNY = Decimal("0.01")
ZERO = Decimal(0)


@dataclass
class Expected:
    """Amounts in pence. by_order: invoice → (coupon code, commission); only where somebody's code was used."""

    by_order: dict[str, tuple[str, int]] = field(default_factory=dict)
    orders: int = 0
    edits: int = 0
    refunds: int = 0
    waiting: int = 0

    @property
    def by_code(self) -> dict[str, int]:
        totals: dict[str, int] = defaultdict(int)
        for code, minor in self.by_order.values():
            totals[code] += minor
        return dict(totals)

    @property
    def commission_minor(self) -> int:
        return sum(minor for _, minor in self.by_order.values())


def calculate(file: Path) -> Expected:
    """Return what every order must have earned once every hold is over."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    invoices: OrderedDict[str, list[dict[str, str]]] = OrderedDict()
    for row in rows:
        invoices.setdefault(row["invoice_no"], []).append(row)

    expected = Expected()
    value: dict[tuple[str, int], Decimal] = {}
    back: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    newest_purchase: dict[tuple[str, str], tuple[str, int]] = {}
    priced_goods_lines = 0
    for number, lines in invoices.items():
        if number[0] == "C":
            targets = []
            for row in lines:
                target = newest_purchase.get((row["customer_id"], row["stock_code"]))
                targets.append(target)
                if target:
                    back[target] += -int(row["quantity"]) * Decimal(row["unit_price_gbp"])
            expected.refunds += len({target[0] for target in targets if target})
            expected.waiting += any(target is None for target in targets)
            continue
        expected.orders += 1
        edit = expected.orders % 20 == 0
        expected.edits += edit
        for position, row in enumerate(lines, start=1):
            quantity, price = int(row["quantity"]), Decimal(row["unit_price_gbp"])
            if row["customer_id"] and quantity > 0:
                newest_purchase[row["customer_id"], row["stock_code"]] = (number, position)
            if row["stock_code"] in ("POST", "DOT", "C2", "M", "BANK CHARGES", "D"):
                continue
            if quantity * price > 0:
                priced_goods_lines += 1
                if priced_goods_lines % 9 == 0:
                    expected.refunds += 1
                    back[number, position] += (quantity * price / 3).quantize(PENNY, rounding="ROUND_FLOOR")
            if edit and quantity > 0:
                quantity = 2 if quantity == 1 else (quantity + 1) // 2
                edit = False
            value[number, position] = quantity * price
        discounts = [row for row in lines if row["stock_code"] == "D"]
        if discounts:
            raise ValueError(f"Invoice {number} has a discount line; the file has none on an ordinary invoice.")

    for number, lines in invoices.items():
        customer = lines[0]["customer_id"]
        if number[0] == "C" or not customer or int(customer) % 16 > 11:
            continue
        pence = 0
        for position, row in enumerate(lines, start=1):
            left = value.get((number, position), ZERO) - back.get((number, position), ZERO)
            rate = Decimal("0.125") if row["stock_code"] in ("22423", "22633", "85123A") else Decimal("0.08")
            earned = (max(left, ZERO) * rate).quantize(PENNY, rounding=ROUND_HALF_UP)
            pence += int(earned * 100)
        expected.by_order[number] = (f"KOC{int(customer) % 16:02d}", min(pence, 6000))
    return expected
