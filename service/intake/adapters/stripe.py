"""Stripe: checkout sessions are orders; their charges tell what was given back, disputes what is contested.

**Which order an event is about.** Charges and disputes name the payment intent and never the session, so a session's
order is named by its payment intent too, and by its own id only where nothing had to be paid: whatever comes first, all
of it is about one order. Nothing is taken from payment_intent.* or charge.succeeded, which speak of the same sale.

**Money.** In the currency of the integration (`amount_total`, `currency`); what the buyer was shown in another currency
(`presentment_details`) is never an amount of ours. Stripe's minor units are not ISO's for a few currencies. A charge
tells its refunds as one total, tax and carriage included (`domain.order.goods_part`); its events are the only ones
refunds are read from, since refund.* say the same again. Source: docs.stripe.com, API of 2026-10, read 2026-11.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service.domain.identity import Address
from service.domain.money import AMOUNT_MAX_MINOR, EXPONENTS
from service.domain.order import (
    DisputeFact,
    DisputeOutcome,
    Fact,
    JsonObject,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    dispute_fact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.intake.adapters.assemble import (
    CLICK_PARAMETER,
    an_address,
    country_of,
    customer,
    lines_of,
    touches,
    understood_order,
)
from service.intake.adapters.model import Adapter, BadSignature, Delivery, NotUnderstood, Reading, Translation
from service.intake.adapters.parse import (
    TEXT_MAX,
    TOUCHES_MAX,
    a_count,
    a_flag,
    a_second,
    a_text,
    an_id,
    an_object,
    iso,
    load,
    objects,
    wrong,
)

TOLERANCE_S = 300
"""How far Stripe's clock may be from ours, either way."""
SIGNATURES_MAX = 8
"""While a secret is rolled Stripe signs with both."""
COUPON_KEY = "koc_coupon"
"""The metadata of a session under which the shop hands on a code typed at its own checkout."""

COMPLETED = "checkout.session.completed"
PAID_LATER = "checkout.session.async_payment_succeeded"
NEVER_PAID = "checkout.session.async_payment_failed"

_OBJECT = "data.object."
_ELEMENTS_MAX = 2 * SIGNATURES_MAX
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")
_NAME = re.compile(r"[!-~]{1,255}")
_SECRET = re.compile(r"whsec_[!-~]{10,}")

# Where Stripe's decimals are not ISO's. Amounts in ISK and UGX keep two for old times' sake, always 00; MGA has none.
# Source: docs.stripe.com/currencies, "Special cases" and "Zero-decimal currencies", read 2026-11.
_EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}

# Stripe tells whole seconds. What became of a payment comes after the session was completed, also within one second.
_STEP = {COMPLETED: 0, NEVER_PAID: 1, PAID_LATER: 2}

_OPEN = frozenset(
    {
        "warning_needs_response",
        "warning_under_review",
        "needs_response",
        "under_review",
        "appeal_needs_response",
        "appeal_under_review",
    }
)
# An inquiry that closed, and a dispute that was prevented by giving the money back, take nothing by themselves: what was
# given back, the charge tells.
_CLOSED = {
    "lost": DisputeOutcome.LOST,
    "won": DisputeOutcome.WON,
    "warning_closed": DisputeOutcome.WON,
    "prevented": DisputeOutcome.WON,
    "charge_refunded": DisputeOutcome.WON,
}
_GAVE_UP = frozenset({"failed", "canceled"})
"""Statuses of a refund whose money did not reach the buyer."""


def verify(secret: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
    """Return the delivery when one of its v1 signatures is ours and its time within five minutes of now.

    secret: the endpoint's, used as it is written, `whsec_` included; an empty one verifies nothing. Source:
    docs.stripe.com/webhooks, "Verify webhook signatures manually", read 2026-11.
    """
    if not secret.strip():
        raise BadSignature("This source has no secret.")
    timestamp, given = _signed(headers.get("stripe-signature", ""))
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE_S:
        raise BadSignature(f"The time in Stripe-Signature is more than {TOLERANCE_S} seconds from our clock.")
    expected = hmac.digest(secret, b".".join((timestamp.encode(), body)), "sha256").hex().encode()
    # All are compared, so that the time taken tells nothing about which one fits.
    fits = [hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in given]
    if not any(fits):
        raise BadSignature("No v1 signature in Stripe-Signature fits these bytes and this source's secret.")
    return _delivery(body)


def _signed(header: str) -> tuple[str, list[str]]:
    """The timestamp and the v1 signatures of a header `t=…,v1=…[,v1=…]`; other schemes are left out."""
    elements = [element.partition("=") for element in header.split(",", _ELEMENTS_MAX)]
    if len(elements) > _ELEMENTS_MAX:
        raise BadSignature(f"Stripe-Signature holds more than {_ELEMENTS_MAX} elements.")
    times = [value for key, _, value in elements if key == "t"]
    given = [value for key, _, value in elements if key == "v1"]
    if len(times) != 1 or not _TIMESTAMP.fullmatch(times[0]) or not given:
        raise BadSignature("The header Stripe-Signature (t=seconds,v1=signature) is needed.")
    if len(given) > SIGNATURES_MAX:
        raise BadSignature(f"Stripe-Signature holds more than {SIGNATURES_MAX} signatures.")
    return times[0], given


def _delivery(body: bytes) -> Delivery:
    """A verified body under its event's id and type, or under its own hash where it has none."""
    try:
        event = load(body)
    except NotUnderstood:
        event = {}
    named = event.get("id"), event.get("type")
    event_id, kind = [name if type(name) is str and _NAME.fullmatch(name) else "" for name in named]
    return Delivery(event_id or f"sha256:{hashlib.sha256(body).hexdigest()}", kind, body)


def new_secret() -> str:
    """Return a random secret of Stripe's shape, to be replaced by the one that Stripe shows for the endpoint."""
    return "whsec_" + secrets.token_hex(32)


def secret_flaw(secret: str) -> str:
    """Why Stripe signs nothing with such a secret; empty if it may."""
    return (
        ""
        if _SECRET.fullmatch(secret)
        else "Stripe signs with the endpoint's signing secret, whsec_…; an API key is none."
    )


@dataclass(frozen=True, slots=True)
class _Event:
    """What an event says: its kind, when it happened, its object, and the values that object had before."""

    kind: str
    at: datetime
    object: JsonObject
    before: JsonObject
    is_test: bool


def translate(delivery: Delivery, reading: Reading) -> Translation:
    """Return what one event says about its order. Raises NotUnderstood."""
    told = load(delivery.body)
    kind = told.get("type")
    if type(kind) is not str or not kind:
        raise wrong("type", "the type of an event", kind)
    is_thin = told.get("object") == "v2.core.event"
    reader = _READERS.get(kind.removeprefix("v1.") if is_thin else kind)
    if reader is None:
        return _without_effect("", kind)
    if is_thin:
        raise NotUnderstood(
            "thin_event", "The event only names its object: choose the payload style Snapshot at Stripe."
        )
    if type(told.get("livemode")) is not bool:
        raise wrong("livemode", "true or false", told.get("livemode"))
    data = an_object(told, "data") or {}
    thing = an_object(data, "object", "data.")
    if thing is None:
        raise wrong("data.object", "an object")
    event = _Event(
        kind,
        a_second(told, "created"),
        thing,
        an_object(data, "previous_attributes", "data.") or {},
        is_test=not told["livemode"],
    )
    read = reader(event, reading)
    if event.is_test and not reading.is_test and read.ignored is None:
        return replace(read, facts=(), ignored="test_order", detail="A test payment earns nothing at a live merchant.")
    return read


def _without_effect(order_id: str, kind: str) -> Translation:
    understood: JsonObject = {"kind": "other", "topic": kind[:80], "order_id": order_id}
    return Translation(order_id, (), understood, "topic_without_effect", f"{kind[:80]} changes no commission.")


def _session(event: _Event, reading: Reading) -> Translation:
    session = event.object
    mode = session.get("mode")
    if mode == "setup":
        understood: JsonObject = {"kind": "other", "topic": event.kind, "order_id": ""}
        return Translation("", (), understood, "no_sale", "A checkout in setup mode sells nothing.")
    if mode == "subscription":
        raise NotUnderstood(
            "subscription",
            f"{_OBJECT}mode: what a subscription earns comes by invoices, which are not read; tell them as orders.",
        )
    if mode != "payment":
        raise wrong(_OBJECT + "mode", "payment, setup or subscription", mode)
    order_id = _id_of(session, "payment_intent") or an_id(session, "id", _OBJECT)
    snapshot, codes = _snapshot(event, order_id, reading)
    version_at = event.at + timedelta(microseconds=_STEP[event.kind])
    status = a_text(session, "payment_status", _OBJECT)
    nothing_due = status == "no_payment_required" and snapshot.total_minor == 0
    is_paid = not snapshot.cancelled and (event.kind == PAID_LATER or status == "paid" or nothing_due)
    reached = [(Milestone.PAID, event.at)] if is_paid else []
    facts: list[Fact] = [order_fact(snapshot, version_at=version_at)]
    facts += [milestone_fact(milestone, at) for milestone, at in reached]
    told = understood_order(
        order_id, snapshot, version_at=version_at, milestones=reached, coupon_codes=codes, is_test=event.is_test
    )
    return Translation(order_id, tuple(facts), told)


def _snapshot(event: _Event, order_id: str, reading: Reading) -> tuple[OrderSnapshot, list[str]]:
    """The order, and the coupon codes as they were told."""
    session = event.object
    currency = _currency(session)
    total_minor = _minor(session, "amount_total", currency)
    details = an_object(session, "total_details", _OBJECT) or {}
    within = _OBJECT + "total_details."
    all_tax_minor = _minor_or_zero(details, "amount_tax", currency, within)
    carriage = an_object(session, "shipping_cost", _OBJECT)
    if carriage is None:
        shipping_minor, shipping_tax_minor = _minor_or_zero(details, "amount_shipping", currency, within), 0
    else:
        shipping_minor = _minor(carriage, "amount_total", currency, _OBJECT + "shipping_cost.")
        shipping_tax_minor = _minor_or_zero(carriage, "amount_tax", currency, _OBJECT + "shipping_cost.")
    # From the total down: amount_subtotal holds the tax where prices do.
    tax_minor = all_tax_minor - shipping_tax_minor
    goods_minor = total_minor - shipping_minor - tax_minor
    if min(goods_minor, tax_minor, shipping_minor - shipping_tax_minor) < 0:
        raise NotUnderstood("negative_amount", f"{_OBJECT}amount_total: tax and carriage are more than there is.")
    codes = _codes(session)
    addresses = _addresses(session)
    snapshot = OrderSnapshot(
        # When the buyer came to the checkout. Stripe tells it since 2022, and no event of a session tells another.
        placed_at=event.at if session.get("created") is None else a_second(session, "created", _OBJECT),
        currency=currency,
        lines=_lines(session, currency, goods_minor, shipping_minor - shipping_tax_minor),
        cancelled=event.kind == NEVER_PAID,
        touches=touches(reading, _click_ids(session), codes),
        customer=_customer(session, reading, addresses),
        number=order_id,
        total_minor=total_minor,
        shipping_minor=shipping_minor,
        tax_minor=tax_minor,
        discount_minor=_minor_or_zero(details, "amount_discount", currency, within),
        country=country_of(addresses),
    )
    return snapshot, codes


def _lines(session: JsonObject, currency: str, goods_minor: int, shipping_minor: int) -> tuple[Line, ...]:
    """The lines where they are there and whole, else one for all goods; events are sent without lines."""
    expanded = an_object(session, "line_items", _OBJECT) or {}
    lines = []
    where = _OBJECT + "line_items."
    for index, one in enumerate(objects(expanded, "data", where)):
        inner = f"{where}data[{index}]."
        net_minor = _minor(one, "amount_total", currency, inner) - _minor_or_zero(one, "amount_tax", currency, inner)
        if net_minor < 0:
            raise NotUnderstood("negative_amount", f"{inner}amount_total: is less than its tax.")
        sku = _id_of(an_object(one, "price", inner) or {}, "product", inner + "price.")
        lines.append(Line(an_id(one, "id", inner), sku, net_minor, a_count(one, "quantity", inner)))
    if not lines or a_flag(expanded, "has_more", where) or sum([line.net_minor for line in lines]) != goods_minor:
        lines = [Line("goods", "", goods_minor)]
    if shipping_minor:
        lines.append(Line("shipping", "", shipping_minor, goods=False))
    return lines_of(lines, where + "data")


def _click_ids(session: JsonObject) -> list[str]:
    """Click ids in the reference and in the metadata, by name or by look; both hold whatever the shop writes there."""
    metadata = an_object(session, "metadata", _OBJECT) or {}
    named = metadata.get(CLICK_PARAMETER)
    values = [session.get("client_reference_id"), *metadata.values()]
    found = [named] if type(named) is str else []
    found += [value for value in values if type(value) is str and value.startswith("clk_")]
    if len(found) > TOUCHES_MAX:
        raise NotUnderstood("too_many", f"{_OBJECT}metadata: {len(found)} click ids; at most {TOUCHES_MAX} are read.")
    return found


def _codes(session: JsonObject) -> list[str]:
    """Codes from the metadata, then of each discount: what the buyer typed, or as events name it, the ids.

    A merchant's coupon with us may have Stripe's id of a promotion code or of a coupon as its code.
    """
    codes = []
    metadata = an_object(session, "metadata", _OBJECT) or {}
    if type(metadata.get(COUPON_KEY)) is str:
        codes.append(a_text(metadata, COUPON_KEY, _OBJECT + "metadata."))
    for index, one in enumerate(objects(session, "discounts", _OBJECT, most=TOUCHES_MAX)):
        where = f"{_OBJECT}discounts[{index}]."
        promotion = one.get("promotion_code")
        typed = a_text(promotion, "code", where + "promotion_code.") if type(promotion) is dict else ""
        codes += [typed or _id_of(one, "promotion_code", where), _id_of(one, "coupon", where)]
    return [code for code in codes if code]


def _inside(of: object, *path: str) -> JsonObject:
    """An object inside an object; empty where one of them is not there, or is only named."""
    for key in path:
        of = of.get(key) if type(of) is dict else None
    return of if type(of) is dict else {}


def _addresses(session: JsonObject) -> tuple[Address, ...]:
    """Where the goods go, under the names it has had since 2025, since 2022 and before; then the bill."""
    paths = (("collected_information", "shipping_details"), ("shipping_details",), ("shipping",), ("customer_details",))
    return tuple(
        an_address(
            _inside(session, *path, "address"),
            line1="line1",
            line2="line2",
            postal_code="postal_code",
            country="country",
        )
        for path in paths
    )


def _fingerprint(session: JsonObject) -> str | None:
    """That of the card or account that paid, where the payment is shown whole. Stripe's own events only name it."""
    intent = _inside(session, "payment_intent")
    charges = _inside(intent, "charges").get("data")
    last = charges[-1] if type(charges) is list and charges else None
    for method in (
        _inside(intent, "latest_charge", "payment_method_details"),
        _inside(last, "payment_method_details"),
        _inside(intent, "payment_method"),
    ):
        kind = method.get("type")
        fingerprint = _inside(method, kind).get("fingerprint") if type(kind) is str else None
        if type(fingerprint) is str and len(fingerprint) <= TEXT_MAX:
            return fingerprint
    return None


def _customer(session: JsonObject, reading: Reading, addresses: tuple[Address, ...]) -> tuple[tuple[str, str], ...]:
    details = an_object(session, "customer_details", _OBJECT) or {}
    known = {
        "email": details.get("email") or session.get("customer_email"),
        "id": _id_of(session, "customer") or None,
        "payment": _fingerprint(session),
        "phone": details.get("phone"),
    }
    return customer(known, reading, _OBJECT + "customer_details.", addresses=addresses, country=country_of(addresses))


def _charge(event: _Event, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    """The charge's refunds as one total, which a later event may lower again when a refund failed."""
    charge = event.object
    charge_id = an_id(charge, "id", _OBJECT)
    order_id = _id_of(charge, "payment_intent") or charge_id
    if event.kind == "charge.updated" and "amount_refunded" not in event.before:
        return _without_effect(order_id, event.kind)
    currency = _currency(charge)
    refund = RefundFact(currency, event.at, gross_minor=_minor(charge, "amount_refunded", currency))
    understood: JsonObject = {
        "kind": "refund",
        "order_id": order_id,
        "updated_at": iso(event.at),
        "currency": currency,
        "refunds": [{"id": charge_id, "refunded_at": iso(event.at), "gross_minor": refund.gross_minor}],
    }
    return Translation(order_id, (refund_fact(charge_id, refund, version_at=event.at),), understood)


def _refund(event: _Event, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    """One refund of its charge, which tells the total; only that one failed, the charge may never tell."""
    refund = event.object
    if a_text(refund, "status", _OBJECT) in _GAVE_UP:
        raise NotUnderstood(
            "refund_failed",
            f"{_OBJECT}status: the buyer did not get this refund, and the event does not tell what of the charge is "
            "still refunded. Look at Stripe.",
        )
    return _without_effect(_id_of(refund, "payment_intent") or _id_of(refund, "charge"), event.kind)


def _dispute(event: _Event, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    dispute = event.object
    charge_id = _id_of(dispute, "charge")
    order_id = _id_of(dispute, "payment_intent") or charge_id
    if not order_id:
        raise wrong(_OBJECT + "charge", "the id of a charge")
    # Before 2014 a dispute had no id, and a charge at most one dispute.
    dispute_id = charge_id if charge_id and dispute.get("id") is None else an_id(dispute, "id", _OBJECT)
    currency = _currency(dispute)
    status = a_text(dispute, "status", _OBJECT)
    outcome = _CLOSED.get(status)
    if outcome is None and status not in _OPEN:
        raise NotUnderstood("unknown_status", f"{_OBJECT}status: {status[:40]!r} is no status of a dispute we know.")
    opened_at = a_second(dispute, "created", _OBJECT)
    fact = DisputeFact(
        opened_at=opened_at,
        currency=currency,
        amount_minor=_minor(dispute, "amount", currency),
        closed_at=None if outcome is None else max(event.at, opened_at),
        outcome=outcome,
        gross=True,
    )
    understood: JsonObject = {
        "kind": "dispute",
        "order_id": order_id,
        "dispute_id": dispute_id,
        "currency": currency,
        "updated_at": iso(event.at),
        "amount_minor": fact.amount_minor,
        "opened_at": iso(fact.opened_at),
        "closed_at": iso(fact.closed_at),
        "outcome": outcome,
    }
    return Translation(order_id, (dispute_fact(dispute_id, fact, version_at=event.at),), understood)


def _id_of(of: JsonObject, key: str, where: str = _OBJECT) -> str:
    """The id of something named or shown whole; empty where it is absent or null."""
    value = of.get(key)
    if value is None:
        return ""
    return an_id(value, "id", f"{where}{key}.") if type(value) is dict else an_id(of, key, where)


def _currency(of: JsonObject) -> str:
    value = of.get("currency")
    code = value.upper() if type(value) is str else ""
    if code in EXPONENTS:
        return code
    if type(value) is str and len(value) <= 40:
        raise NotUnderstood("unknown_currency", f"{_OBJECT}currency: {value!r} is no active ISO 4217 code.")
    raise wrong(_OBJECT + "currency", "an ISO 4217 code", value)


def _minor_or_zero(of: JsonObject, key: str, currency: str, where: str) -> int:
    return 0 if of.get(key) is None else _minor(of, key, currency, where)


def _minor(of: JsonObject, key: str, currency: str, where: str = _OBJECT) -> int:
    """ISO minor units, zero or more, of an amount in Stripe's. Raises NotUnderstood for one that is not exact."""
    value = of.get(key)
    if type(value) is not int:
        raise wrong(where + key, "an integer amount", value)
    if value < 0:
        raise NotUnderstood("negative_amount", f"{where}{key}: is below zero.")
    if value > AMOUNT_MAX_MINOR:
        raise NotUnderstood("invalid_amount", f"{where}{key}: is beyond the largest amount accepted.")
    ours, theirs = EXPONENTS[currency], _EXPONENTS.get(currency, EXPONENTS[currency])
    amount_minor: int = value * 10**ours // 10**theirs
    if amount_minor * 10**theirs != value * 10**ours:
        raise NotUnderstood("invalid_amount", f"{where}{key}: {value} is no whole number of {currency}.")
    if amount_minor > AMOUNT_MAX_MINOR:
        raise NotUnderstood("invalid_amount", f"{where}{key}: is beyond the largest amount accepted.")
    return amount_minor


_READERS: dict[str, Callable[[_Event, Reading], Translation]] = {
    COMPLETED: _session,
    PAID_LATER: _session,
    NEVER_PAID: _session,
    "charge.refunded": _charge,
    "charge.updated": _charge,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
}
"""Type of an event → how it is read. All others are kept and change nothing."""

ADAPTER = Adapter(verify, translate, new_secret, secret_flaw=secret_flaw)
