"""Haravan: orders/create, updated, paid, cancelled, fulfilled and refunds/create, in Shopify's shape with its own amounts.

Amounts are JSON numbers with four decimals, read exactly as they are written. There are no money sets: a shop has one
currency. Discounts on the whole order are told as one sum, and what came back as articles and pieces, not as money.
Source: docs.haravan.com, Order, Fulfillment, Refund and Connect webhook, read 2026-11.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from service.domain.money import round_half_away, spread
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
    a_moment,
    a_text,
    an_id,
    load,
    moment_or_none,
    objects,
    rounded,
    wrong,
)
from service.intake.adapters.shopify_shape import addresses_of, click_ids, codes_of, customer_of, order_named, summed
from service.intake.adapters.signed_body import SignedBody, new_secret

ORDER_TOPICS = frozenset({"orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled"})
REFUND_TOPIC = "refunds/create"

_PAID = frozenset({"paid", "partially_refunded", "refunded"})
_DELIVERED = "delivered"
_NOT_SENT = frozenset({"cancelled", "cancel", "error", "failure"})
_FAILED = frozenset({"error", "failure"})
"""Values of a transaction's status that show no money will move; success comes in the shop's language, or as null."""
_SETTINGS = {"verify_token", "currency"}
_TOKEN = re.compile(r"[!-~]{16,200}")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~+/=-]{1,200}")

SIGNED = SignedBody(signature="x-haravan-hmacsha256", topic="x-haravan-topic", shop_domain="x-haravan-shop-domain")
"""Haravan gives a delivery no id, so it goes by topic and body."""


def check_settings(told: JsonObject) -> None:
    """verify_token: what Haravan has to say when it asks whether its deliveries are wanted. currency: the shop's."""
    for name in sorted(told):
        if name not in _SETTINGS:
            raise NotUnderstood("invalid_settings", f"{name[:40]!r}: is none of {', '.join(sorted(_SETTINGS))}.")
    token = told.get("verify_token")
    if token is not None and not (type(token) is str and _TOKEN.fullmatch(token)):
        raise wrong("verify_token", "a text of 16 to 200 printable ASCII characters", token)
    if told.get("currency") is not None:
        a_currency(told, "currency")


def challenged(settings: JsonObject, query: Mapping[str, str]) -> str | None:
    """Return the challenge to echo when the token is this source's own; None where it is not, or none was set.

    The challenge is echoed to whoever asks, so it may hold nothing that a browser would take for a page.
    """
    token, challenge = settings.get("verify_token"), query.get("hub.challenge", "")
    given = query.get("hub.verify_token", "").encode("utf-8", "replace")
    fits = hmac.compare_digest(token.encode(), given) if type(token) is str else False
    return challenge if fits and _CHALLENGE.fullmatch(challenge) else None


def translate(delivery: Delivery, reading: Reading) -> Translation:
    """Return what one webhook says about its order. Raises NotUnderstood."""
    topic = delivery.topic
    check_settings(reading.settings)
    if topic in ORDER_TOPICS:
        return _order(load(delivery.body), reading)
    if topic == REFUND_TOPIC:
        return _refund(load(delivery.body), reading.settings.get("currency") or "VND")
    if not topic:
        raise NotUnderstood("missing_topic", "The header X-Haravan-Topic says what the body is, and is missing.")
    order_id = order_named(load(delivery.body)) if topic.startswith("orders/") else ""
    understood: JsonObject = {"kind": "other", "topic": topic, "order_id": order_id}
    return Translation(order_id, (), understood, "topic_without_effect", f"{topic} changes no commission.")


def _order(body: JsonObject, reading: Reading) -> Translation:
    order_id = an_id(body, "id")
    currency = a_currency(body, "currency")
    version_at = a_moment(body, "updated_at")
    codes = codes_of(body)
    addresses = addresses_of(body)
    lines = _lines(body, currency)
    snapshot = OrderSnapshot(
        placed_at=a_moment(body, "created_at"),
        currency=currency,
        lines=lines,
        cancelled=moment_or_none(body, "cancelled_at") is not None or a_text(body, "cancelled_status") == "cancelled",
        touches=touches(reading, click_ids(body), codes),
        customer=customer_of(body, reading, addresses),
        number=a_label(body, "name") or order_id,
        total_minor=_minor_or_zero(body, "total_price", currency),
        shipping_minor=_shipping(body, currency),
        tax_minor=_minor_or_zero(body, "total_tax", currency),
        discount_minor=_minor_or_zero(body, "total_discounts", currency),
        country=country_of(addresses),
    )
    reached = _milestones(body, version_at)
    refunds = _embedded_refunds(body, order_id, lines, currency)
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
    # The order's version: what a piece is worth may change with an edit of the order.
    facts += [refund_fact(refund_id, refund, version_at=version_at) for refund_id, refund in refunds]
    return Translation(order_id, tuple(facts), understood)


def _lines(body: JsonObject, currency: str) -> tuple[Line, ...]:
    """Lines as ordered; what was taken off the whole order is spread over the goods by value."""
    if body.get("line_items") is None:
        raise wrong("line_items", "a list of lines")
    included = a_flag(body, "taxes_included")
    lines = []
    told_on_lines = Decimal(0)
    for index, one in enumerate(objects(body, "line_items")):
        where = f"line_items[{index}]."
        quantity = a_count(one, "quantity", where)
        off = _amount_or_zero(one, "total_discount", where)
        told_on_lines += off
        net = _amount(one, "price", where) * Decimal(quantity) - off
        if included:
            net -= summed(one, "tax_lines", "price", where, amount=_amount)
        lines.append(
            Line(
                id=an_id(one, "id", where),
                sku=a_label(one, "sku", where),
                net_minor=rounded(net, currency, where + "price"),
                quantity=quantity,
                goods=not a_flag(one, "gift_card", where),
            )
        )
    rest = _amount_or_zero(body, "total_discounts", "") - told_on_lines - _off_the_carriage(body)
    worth = [line.net_minor if line.goods else 0 for line in lines]
    off_minor = rounded(max(rest, Decimal(0)), currency, "total_discounts")
    shares = spread(min(off_minor, sum(worth)), worth)
    lowered = [
        Line(line.id, line.sku, line.net_minor - share, line.quantity, line.category, line.goods)
        for line, share in zip(lines, shares, strict=True)
    ]
    return lines_of(lowered, "line_items")


def _off_the_carriage(body: JsonObject) -> Decimal:
    """What codes for free carriage took off, which is no discount on goods."""
    off = Decimal(0)
    for index, one in enumerate(objects(body, "discount_codes")):
        if a_text(one, "type", f"discount_codes[{index}].") == "shipping":
            off += _amount_or_zero(one, "amount", f"discount_codes[{index}].")
    return off


def _amount(of: JsonObject, key: str, where: str) -> Decimal:
    return a_decimal(of.get(key), where + key)


def _amount_or_zero(of: JsonObject, key: str, where: str) -> Decimal:
    """An amount of zero or more."""
    amount = Decimal(0) if of.get(key) is None else _amount(of, key, where)
    if amount < 0:
        raise NotUnderstood("negative_amount", f"{where}{key}: {amount} is below zero.")
    return amount


def _minor_or_zero(of: JsonObject, key: str, currency: str) -> int:
    return rounded(_amount_or_zero(of, key, ""), currency, key)


def _shipping(body: JsonObject, currency: str) -> int:
    return rounded(summed(body, "shipping_lines", "price", "", amount=_amount), currency, "shipping_lines")


def _milestones(body: JsonObject, version_at: datetime) -> list[tuple[Milestone, datetime]]:
    """What the order has reached, and when at the latest.

    Cash on delivery is paid when the money is booked, often weeks after the order: only financial_status says so. The
    last capture dates it.
    """
    reached = []
    if a_text(body, "financial_status") in _PAID:
        booked = []
        for index, one in enumerate(objects(body, "transactions")):
            where = f"transactions[{index}]."
            if a_text(one, "kind", where).lower() in {"capture", "sale"}:
                booked.append(a_moment(one, "created_at", where))
        reached.append((Milestone.PAID, max(booked, default=version_at)))
    if a_text(body, "fulfillment_status") != "fulfilled":
        return reached
    sent = []
    for index, one in enumerate(objects(body, "fulfillments")):
        where = f"fulfillments[{index}]."
        if a_text(one, "status", where) not in _NOT_SENT:
            arrived_at = moment_or_none(one, "delivered_date", where)
            if a_text(one, "carrier_status_code", where) == _DELIVERED and arrived_at is None:
                arrived_at = moment_or_none(one, "updated_at", where) or version_at
            sent.append((a_moment(one, "created_at", where), arrived_at))
    reached.append((Milestone.FULFILLED, max([at for at, _ in sent], default=version_at)))
    arrivals = [at for _, at in sent if at is not None]
    if sent and len(arrivals) == len(sent):
        reached.append((Milestone.DELIVERED, max(arrivals)))
    return reached


def _embedded_refunds(
    body: JsonObject, order_id: str, lines: tuple[Line, ...], currency: str
) -> list[tuple[str, RefundFact]]:
    """Refunds inside an order, by id: pieces given back at what the buyer paid for each."""
    by_id = {line.id: line for line in lines}
    refunds = []
    for index, one in enumerate(objects(body, "refunds")):
        where = f"refunds[{index}]."
        if one.get("order_id") is not None and an_id(one, "order_id", where) != order_id:
            continue
        named = []
        for place, entry in enumerate(objects(one, "refund_line_items", where)):
            inner = f"{where}refund_line_items[{place}]."
            line_id, pieces = an_id(entry, "line_item_id", inner), Decimal(a_count(entry, "quantity", inner))
            line = by_id.get(line_id)
            ordered = Decimal(line.quantity) if line else Decimal(0)
            if line and ordered > 0:
                share = Fraction(min(pieces, ordered)) / Fraction(ordered)
                named.append((line_id, round_half_away(line.net_minor * share)))
        refunds.append((an_id(one, "id", where), _read_refund(one, named, currency, where)))
    return refunds


def _refund(body: JsonObject, currency: str) -> Translation:
    """A refund that came alone: it knows the articles' prices but not what was taken off the whole order.

    So it counts until the order shows it, which haravan sends as well.
    """
    order_id, refund_id = an_id(body, "order_id"), an_id(body, "id")
    named = []
    for index, entry in enumerate(objects(body, "refund_line_items")):
        where = f"refund_line_items[{index}]."
        article = entry.get("line_item")
        if type(article) is not dict:
            raise wrong(where + "line_item", "the article given back", article)
        price = _amount_or_zero(article, "price", where + "line_item.")
        worth = price * Decimal(a_count(entry, "quantity", where))
        named.append((an_id(entry, "line_item_id", where), rounded(worth, currency, where + "price")))
    refund = _read_refund(body, named, currency, "")
    understood = understood_refund(order_id, refund_id, refund, version_at=refund.refunded_at, provisional=True)
    fact = refund_fact(refund_id, refund, version_at=refund.refunded_at, provisional=True)
    return Translation(order_id, (fact,), understood)


def _read_refund(one: JsonObject, named: list[tuple[str, int]], currency: str, where: str) -> RefundFact:
    """Where articles came back they count; money given back for no article is goods on no line.

    Haravan books the two apart: articles restocked in one refund are paid for in another, whose amounts have a minus.
    """
    paid = Decimal(0)
    for index, entry in enumerate(objects(one, "transactions", where)):
        inner = f"{where}transactions[{index}]."
        if a_text(entry, "kind", inner).lower() == "refund" and a_text(entry, "status", inner) not in _FAILED:
            paid += abs(_amount(entry, "amount", inner))
    paid_minor = rounded(paid, currency, where + "transactions")
    lines = refunded_of(named, where + "refund_line_items")
    return RefundFact(
        currency=currency,
        refunded_at=a_moment(one, "created_at", where),
        lines=lines,
        unallocated_minor=0 if lines else paid_minor,
        owed_minor=0 if paid_minor else sum([amount for _, amount in lines]),
    )


ADAPTER = Adapter(SIGNED.verify, translate, new_secret, check_settings=check_settings, challenged=challenged)
