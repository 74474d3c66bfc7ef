"""Shopify: orders/create, updated, paid, cancelled, fulfilled and refunds/create, in the shape of its REST Admin API.

Money: the plain fields are in the shop's currency, which is the order's `currency`; a `*_set` is asked only where the
plain field is absent and its shop_money is in that currency. Lines are taken as ordered (`quantity`, not
`current_quantity`): what was removed by an edit comes as a refund. Source: shopify.dev, REST Admin API, Order and
Refund, read 2026-11.
"""

from datetime import datetime
from decimal import Decimal
from functools import partial

from service.domain.money import EXPONENTS
from service.domain.order import (
    Fact,
    JsonObject,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.intake.adapters.assemble import (
    country_of,
    lines_of,
    paid_virtually,
    refund_told,
    refunded_of,
    touches,
    understood_order,
    understood_refund,
)
from service.intake.adapters.model import Adapter, Delivery, NotUnderstood, Reading, Translation
from service.intake.adapters.parse import (
    a_count,
    a_currency,
    a_decimal,
    a_flag,
    a_label,
    a_list,
    a_moment,
    a_text,
    an_id,
    an_object,
    load,
    minor,
    moment_or_none,
    objects,
    wrong,
)
from service.intake.adapters.shopify_shape import addresses_of, click_ids, codes_of, customer_of, order_named, summed
from service.intake.adapters.signed_body import SignedBody, new_secret

ORDER_TOPICS = frozenset({"orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled"})
REFUND_TOPIC = "refunds/create"

_PAID = frozenset({"paid", "partially_refunded", "refunded"})
"""Values of financial_status that show the whole order was paid once."""
_VIRTUAL = frozenset({"gift_card", "shopify_store_credit"})
"""Gateways by which no money comes in: the buyer's own gift card or credit pays."""
_NOT_SHIPPED = frozenset({"cancelled", "error", "failure"})
"""Values of a fulfillment's status that count as if it were not there."""
_FAILED = frozenset({"error", "failure"})
"""Values of a transaction's status that show no money will move."""
_SHIPPING = "shipping_refund"
"""An order adjustment that is carriage given back, by its kind or its reason."""
SIGNED = SignedBody(
    signature="x-shopify-hmac-sha256",
    topic="x-shopify-topic",
    shop_domain="x-shopify-shop-domain",
    delivery_id="x-shopify-webhook-id",
)
"""Source: shopify.dev, "Verify webhook deliveries", read 2026-11."""


def translate(delivery: Delivery, reading: Reading) -> Translation:
    """Return what one webhook says about its order. Raises NotUnderstood."""
    topic = delivery.topic
    if topic in ORDER_TOPICS:
        return _order(load(delivery.body), reading)
    if topic == REFUND_TOPIC:
        return _refund(load(delivery.body))
    if not topic:
        raise NotUnderstood("missing_topic", "The header X-Shopify-Topic says what the body is, and is missing.")
    # An orders/updated with the whole order follows an edit, and an order once paid is not undone by its deletion.
    order_id = order_named(load(delivery.body)) if topic.startswith("orders/") else ""
    understood: JsonObject = {"kind": "other", "topic": topic, "order_id": order_id}
    return Translation(order_id, (), understood, "topic_without_effect", f"{topic} changes no commission.")


def _order(body: JsonObject, reading: Reading) -> Translation:
    order_id = an_id(body, "id")
    currency = a_currency(body, "currency")
    version_at = a_moment(body, "updated_at")
    placed_at = moment_or_none(body, "processed_at")
    taxes_included = a_flag(body, "taxes_included")
    codes = codes_of(body)
    addresses = addresses_of(body)
    snapshot = OrderSnapshot(
        # processed_at is the order's own date also where an order was brought over from another system.
        placed_at=placed_at if placed_at is not None else a_moment(body, "created_at"),
        currency=currency,
        lines=_lines(body, currency, taxes_included=taxes_included),
        cancelled=moment_or_none(body, "cancelled_at") is not None,
        touches=touches(reading, click_ids(body), codes),
        customer=customer_of(body, reading, addresses),
        number=a_label(body, "name") or order_id,
        total_minor=_minor_or_zero(body, "total_price", currency),
        shipping_minor=_shipping(body, currency),
        tax_minor=_minor_or_zero(body, "total_tax", currency),
        discount_minor=_minor_or_zero(body, "total_discounts", currency),
        country=country_of(addresses),
    )
    snapshot = paid_virtually(snapshot, _virtual(body, currency))
    reached = _milestones(body, version_at)
    refunds = _embedded_refunds(body, order_id, currency, taxes_included=taxes_included)
    is_test = a_flag(body, "test")
    understood = understood_order(
        order_id,
        snapshot,
        version_at=version_at,
        milestones=reached,
        coupon_codes=codes,
        refunds=[refund_told(refund_id, refund) for refund_id, refund in refunds],
        is_test=is_test,
    )
    if is_test:
        return Translation(order_id, (), understood, "test_order", "A test order earns nothing.")
    facts: list[Fact] = [order_fact(snapshot, version_at=version_at)]
    facts += [milestone_fact(milestone, at) for milestone, at in reached]
    facts += [refund_fact(refund_id, refund, version_at=refund.refunded_at) for refund_id, refund in refunds]
    return Translation(order_id, tuple(facts), understood)


def _lines(body: JsonObject, currency: str, *, taxes_included: bool) -> tuple[Line, ...]:
    if body.get("line_items") is None:
        raise wrong("line_items", "a list of lines")
    lines = []
    for index, one in enumerate(objects(body, "line_items")):
        where = f"line_items[{index}]."
        quantity = a_count(one, "quantity", where)
        net = _amount(one, "price", where, currency=currency) * Decimal(quantity)
        net -= summed(one, "discount_allocations", "amount", where, amount=partial(_amount, currency=currency))
        if taxes_included:
            net -= summed(one, "tax_lines", "price", where, amount=partial(_amount, currency=currency))
        lines.append(
            Line(
                id=an_id(one, "id", where),
                sku=a_label(one, "sku", where),
                net_minor=minor(net, currency, where + "price", strict=False),
                quantity=quantity,
                # A tip is a line that says through which gateway it was given.
                goods=not a_flag(one, "gift_card", where) and one.get("tip_payment_gateway") is None,
            )
        )
    return lines_of(lines, "line_items")


def _amount(of: JsonObject, key: str, where: str, *, currency: str) -> Decimal:
    """The plain amount; where there is none, that of its set in the same currency."""
    value = of.get(key)
    if value is None:
        shop_money = an_object(an_object(of, f"{key}_set", where) or {}, "shop_money", f"{where}{key}_set.") or {}
        if shop_money.get("currency_code") == currency:
            value = shop_money.get("amount")
    return a_decimal(value, where + key)


def _minor_or_zero(of: JsonObject, key: str, currency: str) -> int:
    return 0 if of.get(key) is None else minor(of[key], currency, key, strict=False)


def _virtual(body: JsonObject, currency: str) -> int:
    """What gift cards and store credit paid of the total, as far as the body tells for sure.

    Webhooks name the gateways only: where all of them are such, it is the whole of an order that is paid. Bodies with
    transactions, which apps and exports add, tell amounts.
    """
    transactions = objects(body, "transactions")
    if transactions:
        paid = Decimal(0)
        for index, one in enumerate(transactions):
            where = f"transactions[{index}]."
            virtual = a_text(one, "gateway", where) in _VIRTUAL and a_text(one, "kind", where) in {"sale", "capture"}
            # In the buyer's currency an amount says nothing of the shop's.
            if virtual and a_text(one, "status", where) == "success" and one.get("currency") in (None, currency):
                paid += max(_amount(one, "amount", where, currency=currency), Decimal(0))
        return minor(paid, currency, "transactions", strict=False)
    gateways = a_list(body, "payment_gateway_names")
    if (
        not gateways
        or a_text(body, "financial_status") not in _PAID
        or not all(type(each) is str and each in _VIRTUAL for each in gateways)
    ):
        return 0
    return _minor_or_zero(body, "total_price", currency)


def _shipping(body: JsonObject, currency: str) -> int:
    """What carriage costs after its discounts; shown to people only."""
    shipping = Decimal(0)
    for index, one in enumerate(objects(body, "shipping_lines")):
        key = "price" if one.get("discounted_price") is None else "discounted_price"
        shipping += _amount(one, key, f"shipping_lines[{index}].", currency=currency)
    return minor(shipping, currency, "shipping_lines", strict=False)


def _milestones(body: JsonObject, version_at: datetime) -> list[tuple[Milestone, datetime]]:
    """What the order has reached, and when at the latest.

    Shopify gives no time of payment: the earliest version that shows it counts, since facts keep the earliest.
    processed_at would be wrong for cash on delivery: it is when the order was placed.
    """
    reached = []
    if a_text(body, "financial_status") in _PAID:
        reached.append((Milestone.PAID, version_at))
    if a_text(body, "fulfillment_status") != "fulfilled":
        return reached
    shipped = []
    for index, one in enumerate(objects(body, "fulfillments")):
        where = f"fulfillments[{index}]."
        if a_text(one, "status", where) not in _NOT_SHIPPED:
            arrived = a_text(one, "shipment_status", where) == "delivered"
            shipped.append(
                (a_moment(one, "created_at", where), a_moment(one, "updated_at", where) if arrived else None)
            )
    reached.append((Milestone.FULFILLED, max([at for at, _ in shipped], default=version_at)))
    arrivals = [at for _, at in shipped if at is not None]
    if shipped and len(arrivals) == len(shipped):
        reached.append((Milestone.DELIVERED, max(arrivals)))
    return reached


def _embedded_refunds(
    body: JsonObject, order_id: str, currency: str, *, taxes_included: bool
) -> list[tuple[str, RefundFact]]:
    """Refunds inside an order, by id; the same facts as their own refunds/create makes."""
    refunds = []
    for index, one in enumerate(objects(body, "refunds")):
        where = f"refunds[{index}]."
        if one.get("order_id") is not None and an_id(one, "order_id", where) != order_id:
            # Seen in Shopify's own sample order: a refund of another one.
            continue
        refund = _read_refund(one, currency, where, taxes_included=taxes_included)
        if refund.goods_minor:
            refunds.append((an_id(one, "id", where), refund))
    return refunds


def _refund(body: JsonObject) -> Translation:
    order_id, refund_id = an_id(body, "order_id"), an_id(body, "id")
    currency = _refund_currency(body)
    refund = _read_refund(body, currency, "", taxes_included=_taxes_included(body, currency))
    understood = understood_refund(order_id, refund_id, refund, version_at=refund.refunded_at)
    if not refund.goods_minor:
        return Translation(
            order_id, (), understood, "refund_without_goods", "Only carriage, tax or nothing was given back."
        )
    return Translation(order_id, (refund_fact(refund_id, refund, version_at=refund.refunded_at),), understood)


def _read_refund(one: JsonObject, currency: str, where: str, *, taxes_included: bool) -> RefundFact:
    """Goods given back: the refunded lines, and what was paid back beyond them.

    Where lines and money differ the lines count: a restocking fee (a positive discrepancy) does not make a returned
    article a sold one. A negative discrepancy is money given back for no line, unless it is what another refund, one
    without a payment, still owed for its lines: a shop may restock today and pay tomorrow. While a payment is pending its
    lines show a positive discrepancy as well, and nothing is owed. Carriage is not goods.
    """
    named = []
    for index, entry in enumerate(objects(one, "refund_line_items", where)):
        inner = f"{where}refund_line_items[{index}]."
        subtotal = _amount(entry, "subtotal", inner, currency=currency)
        if taxes_included and entry.get("total_tax") is not None:
            subtotal = max(subtotal - _amount(entry, "total_tax", inner, currency=currency), Decimal(0))
        named.append((an_id(entry, "line_item_id", inner), minor(subtotal, currency, inner + "subtotal", strict=False)))
    discrepancy = Decimal(0)
    for index, entry in enumerate(objects(one, "order_adjustments", where)):
        inner = f"{where}order_adjustments[{index}]."
        # A kind is told no more by newer versions of the API, nor carriage among these.
        if _SHIPPING not in {a_text(entry, "kind", inner), a_text(entry, "reason", inner).lower().replace(" ", "_")}:
            discrepancy += _amount(entry, "amount", inner, currency=currency)
    pays = any(
        a_text(entry, "kind", f"{where}transactions[{index}].") == "refund"
        and a_text(entry, "status", f"{where}transactions[{index}].") not in _FAILED
        for index, entry in enumerate(objects(one, "transactions", where))
    )
    owed = Decimal(0) if pays else max(discrepancy, Decimal(0))
    refunded_at = moment_or_none(one, "processed_at", where)
    return RefundFact(
        currency=currency,
        refunded_at=refunded_at if refunded_at is not None else a_moment(one, "created_at", where),
        lines=refunded_of(named, where + "refund_line_items"),
        unallocated_minor=minor(max(-discrepancy, Decimal(0)), currency, where + "order_adjustments", strict=False),
        owed_minor=minor(owed, currency, where + "order_adjustments", strict=False),
    )


def _refund_currency(body: JsonObject) -> str:
    """The shop's currency, which a refund says only inside its money sets.

    The transactions' currency is the buyer's where the shop sells in several, so it is asked last.
    """
    told = []
    for entries, key in (
        ("refund_line_items", "subtotal_set"),
        ("order_adjustments", "amount_set"),
        ("refund_shipping_lines", "subtotal_amount_set"),
    ):
        for index, one in enumerate(objects(body, entries)):
            where = f"{entries}[{index}]."
            shop_money = an_object(an_object(one, key, where) or {}, "shop_money", f"{where}{key}.")
            if shop_money is not None:
                told.append(a_currency(shop_money, "currency_code", f"{where}{key}.shop_money."))
    if len(set(told)) > 1:
        raise NotUnderstood("mixed_currency", f"The refund's amounts are in {', '.join(sorted(set(told)))}.")
    if told:
        return told[0]
    duties = an_object(an_object(body, "total_duties_set") or {}, "shop_money", "total_duties_set.")
    for one in (duties or {}, *objects(body, "transactions")):
        code = one.get("currency_code") or one.get("currency")
        if type(code) is str and code in EXPONENTS:
            return code
    raise NotUnderstood("unknown_currency", "refund_line_items: no amount says its currency.")


def _taxes_included(body: JsonObject, currency: str) -> bool:
    """Whether the refunded subtotals hold their tax, which a refund alone does not say.

    The rates of its lines tell: tax is either a share of the subtotal or comes on top of it. Only when the first
    fits to the rounding, and better than the second, is it taken off: else a refund would be made too small.
    """
    tax = inside = on_top = Decimal(0)
    roundings = 0
    for index, one in enumerate(objects(body, "refund_line_items")):
        where = f"refund_line_items[{index}]."
        if one.get("total_tax") is None:
            continue
        line = an_object(one, "line_item", where) or {}
        subtotal, line_tax = (
            _amount(one, "subtotal", where, currency=currency),
            _amount(one, "total_tax", where, currency=currency),
        )
        rates = [
            a_decimal(entry["rate"], f"{where}line_item.tax_lines[{place}].rate")
            for place, entry in enumerate(objects(line, "tax_lines", where + "line_item."))
            if entry.get("rate") is not None
        ]
        rate = sum(rates, Decimal(0))
        if line_tax > 0 and rate > 0:
            tax += line_tax
            inside += subtotal * rate / (1 + rate)
            on_top += subtotal * rate
            roundings += len(rates)
    miss = abs(tax - inside)
    return roundings > 0 and miss <= roundings * Decimal(1).scaleb(-EXPONENTS[currency]) and miss < abs(tax - on_top)


ADAPTER = Adapter(SIGNED.verify, translate, new_secret)
