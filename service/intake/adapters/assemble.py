"""Parts of an order that every shop has: touches, the buyer's hashes, and what the sender is told we understood."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from service.domain.identity import Address, IdentityKind, country_code
from service.domain.money import AMOUNT_MAX_MINOR
from service.domain.order import (
    JsonObject,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    folded,
    goods_part,
)
from service.intake.adapters.model import NotUnderstood, Reading
from service.intake.adapters.parse import TEXT_MAX, a_label, iso

CLICK_PARAMETER = "koc_click"
"""The redirect appends the click id under this name; shops hand it on under the same."""
_CLICK_MAX = 64
"""Characters of a click id; a longer one was not made by us, and needs no more room than to say so."""
_IN_URL = re.compile(rf"[?&]{CLICK_PARAMETER}=([A-Za-z0-9_-]{{1,{_CLICK_MAX}}})(?![A-Za-z0-9_-])")


def lines_of(lines: Sequence[Line], where: str) -> tuple[Line, ...]:
    """Lines as they are. Raises NotUnderstood for two with one id, since refunds name lines by it, or too large a sum."""
    if len({line.id for line in lines}) != len(lines):
        seen: set[str] = set()
        for index, line in enumerate(lines):
            if line.id in seen:
                raise NotUnderstood("duplicate_line", f"{where}[{index}].id: an earlier line has the same id.")
            seen.add(line.id)
    _refuse_too_much(sum([line.net_minor for line in lines]), where)
    return tuple(lines)


def refunded_of(amounts: Iterable[tuple[str, int]], where: str) -> tuple[tuple[str, int], ...]:
    """Amounts by line id, one each, sorted: the same refund told twice is the same fact."""
    named: dict[str, int] = {}
    for line_id, amount_minor in amounts:
        named[line_id] = named.get(line_id, 0) + amount_minor
    _refuse_too_much(sum(named.values()), where)
    return tuple(sorted(named.items()))


def _refuse_too_much(sum_minor: int, where: str) -> None:
    if sum_minor > AMOUNT_MAX_MINOR:
        raise NotUnderstood("invalid_amount", f"{where}: the sum is beyond the largest amount accepted.")


def clicks_in(url: str) -> list[str]:
    """Click ids in an address: its query parameters koc_click."""
    return _IN_URL.findall(url)


def touches(reading: Reading, click_ids: list[str], codes: list[str]) -> tuple[Touch, ...]:
    """Clicks, then coupon codes without case, each once, in the order they were listed; blank ones left out."""
    clicks = dict.fromkeys([click_id.strip()[:_CLICK_MAX] for click_id in click_ids])
    coupons = dict.fromkeys([folded(code) for code in codes])
    found = [reading.read_click(ref) for ref in clicks if ref]
    return tuple(found + [Touch(TouchKind.COUPON, ref) for ref in coupons if ref])


def customer(
    of: JsonObject, reading: Reading, where: str, *, addresses: Sequence[Address] = (), country: str = ""
) -> tuple[tuple[str, str], ...]:
    """Keyed hashes of how the buyer is known, by kind, as far as it is there.

    of: e-mail, id, payment and phone by their kinds. addresses: where the goods go, then the bill; the first that is
    whole counts. country: of a phone number that does not tell its own.
    """
    values = {kind.value: a_label(of, kind, where) for kind in IdentityKind if of.get(kind) is not None}
    address = next((text for each in addresses if (text := each.text)), "")
    if address:
        values[IdentityKind.ADDRESS.value] = address
    hashes = {kind: reading.identify(kind, value, country) for kind, value in values.items()}
    return tuple(sorted((kind, hashed) for kind, hashed in hashes.items() if hashed))


def an_address(
    of: JsonObject,
    *,
    line1: str = "address1",
    line2: str = "address2",
    postal_code: str = "zip",
    city: tuple[str, ...] = ("city",),
    country: str = "country_code",
) -> Address:
    """An address under a shop's names for its parts; city: the first of them that is filled.

    What is there in another shape counts as not there: no address keeps an order out.
    """

    def text(key: str) -> str:
        value = of.get(key)
        value = str(value) if type(value) is int else value
        return value if type(value) is str and len(value) <= TEXT_MAX else ""

    return Address(
        line1=text(line1),
        line2=text(line2),
        postal_code=text(postal_code),
        city=next((told for key in city if (told := text(key))), ""),
        country=country_code(of.get(country)),
    )


def country_of(addresses: Sequence[Address]) -> str:
    """The country of the first address that tells one."""
    return next((each.country for each in addresses if each.country), "")


def paid_virtually(snapshot: OrderSnapshot, gross_minor: int) -> OrderSnapshot:
    """The order with what gift cards, points or store credit paid of it, tax and carriage among it, as their goods' part."""
    return replace(snapshot, virtual_minor=goods_part(gross_minor, snapshot)) if gross_minor else snapshot


def understood_order(
    order_id: str,
    snapshot: OrderSnapshot,
    *,
    version_at: datetime,
    milestones: Sequence[tuple[Milestone, datetime]],
    coupon_codes: Sequence[str],
    refunds: Sequence[JsonObject] = (),
    is_test: bool,
) -> JsonObject:
    """What the sender is told of an order. Of the buyer only which identities were there; nothing that names them."""
    return {
        "kind": "order",
        "order_id": order_id,
        "number": snapshot.number,
        "updated_at": iso(version_at),
        "placed_at": iso(snapshot.placed_at),
        "currency": snapshot.currency,
        "cancelled": snapshot.cancelled,
        "test": is_test,
        "goods_minor": snapshot.goods_minor,
        "tax_minor": snapshot.tax_minor,
        "shipping_minor": snapshot.shipping_minor,
        "discount_minor": snapshot.discount_minor,
        "total_minor": snapshot.total_minor,
        "virtual_minor": snapshot.virtual_minor,
        "country": snapshot.country or None,
        "lines": [
            {
                "id": line.id,
                "sku": line.sku,
                "quantity": line.quantity,
                "net_minor": line.net_minor,
                "goods": line.goods,
            }
            for line in snapshot.lines
        ],
        "customer": [kind for kind, _ in snapshot.customer],
        "click_ids": [touch.ref for touch in snapshot.touches if touch.kind is TouchKind.CLICK],
        "coupon_codes": list(coupon_codes),
        "milestones": {f"{milestone}_at": iso(at) for milestone, at in milestones},
        "refunds": list(refunds),
    }


def understood_refund(
    order_id: str, refund_id: str, refund: RefundFact, *, version_at: datetime, provisional: bool = False
) -> JsonObject:
    """What the sender is told of a refund that came alone."""
    return {
        "kind": "refund",
        "order_id": order_id,
        "updated_at": iso(version_at),
        "currency": refund.currency,
        "refunds": [refund_told(refund_id, refund, provisional=provisional)],
    }


def refund_told(refund_id: str, refund: RefundFact, *, provisional: bool = False) -> JsonObject:
    """One refund as the sender is told of it. provisional: its lines are not known yet."""
    told: JsonObject = {
        "id": refund_id,
        "refunded_at": iso(refund.refunded_at),
        "goods_minor": refund.goods_minor,
        "unallocated_minor": refund.unallocated_minor,
        "lines": [{"line_id": line_id, "net_minor": net_minor} for line_id, net_minor in refund.lines],
    }
    if refund.gross_minor:
        told["gross_minor"] = refund.gross_minor
    if refund.owed_minor:
        told["owed_minor"] = refund.owed_minor
    if provisional:
        told["provisional"] = True
    return told
