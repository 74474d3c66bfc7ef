"""The document of a statement with something of everything in it, made without a database: for its pages."""

from datetime import date
from typing import Any

from service.domain.ledger import AccountKind
from service.domain.money import round_half_away
from service.domain.statement import FORMAT, Movement, Subject, digest_of, receipt_told, sums_json
from service.domain.withholding.decide import decide
from service.domain.withholding.model import Decision, Declared, PayeeKind, Payment, Profile, Regime
from service.domain.withholding.stored import to_json
from service.domain.written import rate_of

Json = dict[str, Any]
A = AccountKind
FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)
SUPPLIER: Json = {
    "name": "Nguyễn Thị Lan",
    "vat_id": "DE123456789",
    "street": "Hauptstr. 1",
    "postcode": "10115",
    "town": "Berlin",
    "country": "DE",
}


def a_statement(*, orders: int = 3, billed: bool = False, provisional: bool = False, name: str = "Lan Nguyễn") -> Json:
    """orders: how many, with two lines each. Besides them a ladder, a bonus, a payout taxed in Vietnam, and an advance."""
    moved: list[Movement] = []

    def of(subject: Subject, day: int, *ways: tuple[A, A, int]) -> list[Movement]:
        made = [
            Movement(FIRST.replace(day=day), subject, source, destination, amount)
            for source, destination, amount in ways
        ]
        moved.extend(made)
        return made

    commissions = [_order(number, of) for number in range(1, orders + 1)]
    ladder = {"commission_minor": 900_000, "sales_minor": 9_000_000, "orders": orders}
    nothing = {"commission_minor": 0, "sales_minor": 0, "orders": 0}
    sums = {"settled": ladder, "pending": nothing, "held": nothing}
    commissions.append(
        _commission(
            99,
            Subject.PERIOD,
            {"sums": sums, "target_minor": 45_000},
            of(Subject.PERIOD, 30, (A.COMMISSION_EXPENSE, A.PAYABLE, 45_000)),
            rule="thang-10",
        )
    )
    given = [{"amount_minor": 20_000, "reason_code": "goodwill", "counts": True}]
    commissions.append(
        _commission(
            98,
            Subject.BONUS,
            {"adjustments": given, "target_minor": 20_000},
            of(Subject.BONUS, 30, (A.COMMISSION_EXPENSE, A.PENDING, 20_000), (A.PENDING, A.PAYABLE, 20_000)),
        )
    )
    paid = of(
        Subject.PAYOUT,
        15,
        (A.PAYABLE, A.RESERVED, 6_000_000),
        (A.RESERVED, A.IN_TRANSIT, 6_000_000),
        (A.IN_TRANSIT, A.PAID, 5_400_000),
        (A.IN_TRANSIT, A.TAX_WITHHELD, 600_000),
    )
    lent = of(Subject.ADVANCE, 20, (A.ADVANCE, A.PAYABLE, 100_000))
    document: Json = {
        "format": FORMAT,
        "number": "2026-000123",
        "replaces": "2026-000099" if provisional else None,
        "provisional": provisional,
        "issued_at": "2026-11-03T02:15:00Z",
        "issued_on": "2026-11-03",
        "answer_by": "2026-11-17",
        "merchant": {
            "id": "mer_1",
            "name": "Trà Xanh Co.",
            "address": "12 Lý Thường Kiệt\nHà Nội",
            "vat_id": "0101234567",
        },
        "affiliate": {"id": "aff_1", "external_id": "lan", "name": name, "country": "VN"},
        "period": {"begins_on": FIRST.isoformat(), "ends_on": LAST.isoformat(), "time_zone": "Asia/Ho_Chi_Minh"},
        "currency": "VND",
        "self_billing": None,
        **sums_json({A.PENDING: 50_000, A.PAYABLE: 6_000_000}, moved),
        "commissions": commissions,
        "payouts": [_payout(paid)],
        "others": [{"subject": "advance", **lent[0].as_json(), "order_id": None, "order_number": "#1001"}],
    }
    if billed:
        document["self_billing"] = {
            "agreed_on": "2026-01-31",
            "reference": "contract 7",
            "amount_minor": 110_000,
            "vat_note": "Reverse charge",
            "supplier": SUPPLIER,
        }
    return document


def digest(document: Json) -> bytes:
    return digest_of(document)


def _order(number: int, of: Any) -> Json:
    refunded = 60_000 if number % 5 == 0 else 0
    lines = [
        _line("1", f"TEA-{number:04d}", 300_000, refunded, "10"),
        _line("2", "MUG-WITH-A-LONG-STOCK-KEEPING-NUMBER-0001", 100_000, 0, "12.5"),
    ]
    earned = 42_500 - refunded // 10
    day = 1 + number % 28
    movements = of(
        Subject.ORDER,
        day,
        (A.COMMISSION_EXPENSE, A.PENDING, 42_500),
        *([(A.PENDING, A.COMMISSION_EXPENSE, refunded // 10)] if refunded else []),
        (A.PENDING, A.PAYABLE, earned),
    )
    receipt = {"lines": lines, "voided": False, "target_minor": earned if number % 7 else earned - 500}
    return _commission(number, Subject.ORDER, receipt, movements, total=earned)


def _line(line_id: str, sku: str, ordered: int, refunded: int, rate: str) -> Json:
    base = ordered - refunded
    return {
        "line_id": line_id,
        "sku": sku,
        "quantity": "1",
        "ordered_minor": ordered,
        "refunded_minor": refunded,
        "base_minor": base,
        "parts": [{"rate": rate, "flat_minor": None, "per": None}],
        "commission_minor": round_half_away(base * rate_of(rate)),
    }


def _commission(
    number: int,
    subject: Subject,
    receipt: Json,
    movements: list[Movement],
    *,
    total: int | None = None,
    rule: str | None = None,
) -> Json:
    told = receipt_told(receipt, "lan")
    total_minor = told["target_minor"] if total is None else total
    return {
        "id": f"com_{number}",
        "subject": subject.value,
        "order_id": f"ord_{number}" if subject is Subject.ORDER else None,
        "order_number": f"#{1000 + number}" if subject is Subject.ORDER else None,
        "rule": rule,
        "program": "Bạn bè",
        "placed_on": "2026-09-28",
        "movements": [movement.as_json() for movement in movements],
        "effect_minor": sum(movement.effect_minor for movement in movements),
        "settled_minor": sum(each.amount_minor for each in movements if each.kind.value == "settled"),
        "total_minor": total_minor,
        "explained": told["target_minor"] == total_minor,
        "receipt": told,
    }


def _payout(movements: list[Movement]) -> Json:
    decision = decide(
        Payment(gross_minor=6_000_000, currency="VND", pay_on=date(2026, 10, 15)),
        declared=Declared(regime=Regime.VN),
        profile=Profile(kind=PayeeKind.INDIVIDUAL, country="VN", details={"resident": True}),
        history={},
    )
    assert isinstance(decision, Decision)
    return {
        "id": "pay_01h455vb4pex5vsknk084sn02q",
        "run_id": "run_1",
        "pay_on": "2026-10-15",
        "accepted_on": "2026-10-15",
        "gross_minor": 6_000_000,
        "carried_minor": 0,
        "split": {
            "fee_minor": 0,
            "tax_minor": decision.withheld_minor,
            "tax_borne_minor": 0,
            "remainder_minor": 0,
            "net_minor": 5_400_000,
            "tax_rule": decision.rule,
            "tax": to_json(decision),
        },
        "came_back_minor": 0,
        "movements": [movement.as_json() for movement in movements],
    }
