"""WooCommerce: order.created, updated, restored and deleted, and refund resources, in the shape of its REST API v3.

A body may have been through any number of plugins and PHP's own habits: an empty object comes as [], a list with gaps as
an object, a number as a text or the other way round. Line totals are after coupons and without tax, whatever
`prices_include_tax` says. An order shows a refund by its total alone; the refund's own resource has its lines and counts
instead. Source: woocommerce.github.io/woocommerce-rest-api-docs, and class-wc-webhook.php, read 2026-11.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from html import unescape
from typing import Any

from service.domain.identity import Address
from service.domain.money import spread
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
    CLICK_PARAMETER,
    an_address,
    clicks_in,
    country_of,
    customer,
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
    LINES_MAX,
    TEXT_MAX,
    TOUCHES_MAX,
    URL_MAX,
    a_count,
    a_currency,
    a_decimal,
    a_label,
    a_text,
    an_id,
    load,
    moment_or_none,
    rounded,
    wrong,
)
from service.intake.adapters.signed_body import SignedBody, host_of, new_secret

ORDER_TOPICS = frozenset({"order.created", "order.updated", "order.restored"})

CANCELLED, UNPAID = "cancelled", "unpaid"
_SHOWS: dict[str, Milestone | None] = {milestone.value: milestone for milestone in Milestone} | {
    CANCELLED: None,
    UNPAID: None,
}
"""What a status can be set to show."""

DEFAULT_STATUSES: dict[str, tuple[str, ...]] = {
    "draft": (UNPAID,),
    "auto-draft": (UNPAID,),
    "checkout-draft": (UNPAID,),
    "pending": (UNPAID,),
    "on-hold": (UNPAID,),
    "processing": ("paid",),
    "completed": ("paid", "fulfilled", "completed"),
    "refunded": ("paid",),
    "cancelled": (CANCELLED,),
    "failed": (CANCELLED,),
    "trash": (CANCELLED,),
}
"""WooCommerce's own statuses, and what an order in each has reached."""

_PAID_ON_COMPLETION = ("cod",)
"""Methods whose orders WooCommerce dates as paid when they are placed: they are processing at once."""
_GIFT_CARD_COUPONS = ("smart_coupon", "store_credit", "gift_card")
_GIFT_CARD_FEES = ("gift card", "gift voucher", "gift certificate", "store credit", "wallet")
_GIFT_CARDS_SOLD = ("wc_gc_", "_wc_gc_", "pw_gift_card", "_pw_gift_card", "_ywgc_", "ywgc_")
"""How the keys begin that gift card plugins put on a line which sells one."""
_LANDING = "_wc_order_attribution_session_entry"
_SETTINGS = {"statuses", "currency", "paid_on_completion", "gift_card_coupon_types", "gift_card_fee_names"}
_LIST_MAX = 100
_SHOWN = Decimal("0.000001")
"""How exactly a quantity is shown."""
_SLUG = re.compile(r"[a-z0-9_-]{1,64}")
_PING = re.compile(rb"webhook_id=[0-9]{1,20}")
_GMT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?")
_LONG_FRACTION = re.compile(r"-?[0-9]{1,18}\.[0-9]{11,60}")
_PARENT = re.compile(r"/orders/([0-9]{1,20})/?(?:\?.*)?")

SIGNED = SignedBody(
    signature="x-wc-webhook-signature",
    topic="x-wc-webhook-topic",
    shop_domain="x-wc-webhook-source",
    delivery_id="x-wc-webhook-delivery-id",
)


def is_ping(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether this is what WooCommerce posts, unsigned, when a webhook is saved: nothing but the webhook's number."""
    return SIGNED.signature not in headers and _PING.fullmatch(body) is not None


@dataclass(frozen=True, slots=True)
class Settings:
    """How one shop's bodies are read. currency: of refunds that do not name theirs; the other texts are folded."""

    statuses: Mapping[str, tuple[str, ...]]
    currency: str | None
    paid_on_completion: tuple[str, ...]
    gift_card_coupon_types: tuple[str, ...]
    gift_card_fee_names: tuple[str, ...]


def settings_of(told: JsonObject) -> Settings:
    """Return settings as read. Raises NotUnderstood."""
    for name in sorted(told):
        if name not in _SETTINGS:
            raise NotUnderstood("invalid_settings", f"{name[:40]!r}: is none of {', '.join(sorted(_SETTINGS))}.")
    return Settings(
        statuses=DEFAULT_STATUSES | _statuses(told.get("statuses")),
        currency=None if told.get("currency") is None else a_currency(told, "currency"),
        paid_on_completion=_folded(told, "paid_on_completion", _PAID_ON_COMPLETION),
        gift_card_coupon_types=_folded(told, "gift_card_coupon_types", _GIFT_CARD_COUPONS),
        gift_card_fee_names=_folded(told, "gift_card_fee_names", _GIFT_CARD_FEES),
    )


def _statuses(told: object) -> dict[str, tuple[str, ...]]:
    if told is None:
        return {}
    if type(told) is not dict or len(told) > _LIST_MAX:
        raise wrong("statuses", f"an object of at most {_LIST_MAX} statuses", told)
    read = {}
    for name, value in told.items():
        if not _SLUG.fullmatch(_slug(name)):
            raise NotUnderstood("invalid_settings", f"statuses: {name[:40]!r} is no status.")
        shown = value if type(value) is list else [value]
        if not shown or any(type(one) is not str or one not in _SHOWS for one in shown):
            raise wrong(f"statuses.{name}", "one or a list of " + ", ".join(_SHOWS), value)
        if len(shown) > 1 and (CANCELLED in shown or UNPAID in shown):
            raise NotUnderstood("invalid_settings", f"statuses.{name}: cancelled and unpaid stand alone.")
        read[_slug(name)] = tuple(shown)
    return read


def _slug(status: str) -> str:
    """Bodies leave out the prefix that the shop's own pages show."""
    return status.strip().lower().removeprefix("wc-")


def _folded(told: JsonObject, name: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    values = told.get(name)
    if values is None:
        return otherwise
    if type(values) is not list or len(values) > _LIST_MAX:
        raise wrong(name, f"a list of at most {_LIST_MAX} texts", values)
    for index, value in enumerate(values):
        if type(value) is not str or not value.strip() or len(value) > TEXT_MAX or not value.isprintable():
            raise wrong(f"{name}[{index}]", f"a printable text of 1 to {TEXT_MAX} characters", value)
    return tuple(value.strip().casefold() for value in values)


def check_settings(told: JsonObject) -> None:
    settings_of(told)


def translate(delivery: Delivery, reading: Reading) -> Translation:
    """Return what one webhook says. Raises NotUnderstood."""
    topic = delivery.topic
    if not topic:
        raise NotUnderstood("missing_topic", "The header X-WC-Webhook-Topic says what the body is, and is missing.")
    if not topic.startswith(("order.", "action.")) and "refund" not in topic:
        return _without_effect(topic, "")
    body = load(delivery.body)
    if type(body.get("code")) is str and "message" in body and "id" not in body:
        # What the REST API answers when the user a webhook acts for may not read orders is sent all the same.
        raise NotUnderstood("shop_error", f"The shop sent an error of its own: {body['code'][:60]!r}.")
    settings = settings_of(reading.settings)
    if topic in ORDER_TOPICS or (topic.startswith("action.") and "line_items" in body and "status" in body):
        return _order(body, reading, settings)
    if "refund" in topic and "amount" in body:
        return _refund(body, settings)
    # A deleted order comes as its id alone, without a time, and a restored one as a whole: see docs/shops/woocommerce.md.
    named = body.get("id") if topic.startswith("order.") else body.get("arg")
    order_id = str(named) if type(named) is int else named if type(named) is str and len(named) <= TEXT_MAX else ""
    return _without_effect(topic, order_id)


def _without_effect(topic: str, order_id: str) -> Translation:
    understood: JsonObject = {"kind": "other", "topic": topic, "order_id": order_id}
    return Translation(order_id, (), understood, "topic_without_effect", f"{topic} changes no commission.")


def _order(body: JsonObject, reading: Reading, settings: Settings) -> Translation:
    order_id = an_id(body, "id")
    currency = a_currency(body, "currency")
    version_at = _moment(body, "date_modified_gmt")
    shown = _shown(body, settings)
    refunds = _refunds_shown(body, currency, version_at)
    coupons = list(_entries(body, "coupon_lines"))
    bought = [one for _, one in coupons if not _pays(one, settings)]
    codes = [unescape(a_label(one, "code", "coupon_lines[].")) for one in bought]
    if len(codes) > TOUCHES_MAX:
        raise NotUnderstood("too_many", f"coupon_lines: {len(codes)} codes; at most {TOUCHES_MAX} are read.")
    lines, put_back_minor = _lines(body, currency, settings)
    addresses = _addresses(body)
    snapshot = OrderSnapshot(
        placed_at=_moment(body, "date_created_gmt"),
        currency=currency,
        lines=lines,
        # A shop that sets the status without booking a refund gives back all of it.
        cancelled=CANCELLED in shown or (_status(body) == "refunded" and not refunds),
        touches=touches(reading, _click_ids(body), codes),
        customer=_customer(body, reading, addresses),
        number=_label(body, "number") or order_id,
        total_minor=_minor_or_zero(body, "total", currency),
        shipping_minor=_minor_or_zero(body, "shipping_total", currency),
        # That of the goods alone, so that it says what of money given back for no line is goods.
        tax_minor=rounded(_sum_of_lines(body, "total_tax"), currency, "line_items"),
        discount_minor=_minor_or_zero(body, "discount_total", currency),
        country=country_of(addresses),
    )
    snapshot = paid_virtually(snapshot, _paid_besides(body, currency, settings))
    if put_back_minor:
        snapshot = replace(snapshot, virtual_minor=snapshot.virtual_minor + put_back_minor)
    reached = _milestones(body, settings, shown, version_at)
    understood = understood_order(
        order_id,
        snapshot,
        version_at=version_at,
        milestones=reached,
        coupon_codes=codes,
        refunds=[refund_told(key, refund, provisional=provisional) for key, refund, provisional in refunds],
        is_test=False,
    )
    facts: list[Fact] = [order_fact(snapshot, version_at=version_at)]
    facts += [milestone_fact(milestone, at) for milestone, at in reached]
    facts += [
        refund_fact(key, refund, version_at=refund.refunded_at, provisional=provisional)
        for key, refund, provisional in refunds
    ]
    return Translation(order_id, tuple(facts), understood, shop_domain=_host(body))


def _status(body: JsonObject) -> str:
    return _slug(a_text(body, "status"))


def _shown(body: JsonObject, settings: Settings) -> tuple[str, ...]:
    """What the order's status says it has reached."""
    status = _status(body)
    if not status:
        raise wrong("status", "the order's status", body.get("status"))
    shown = settings.statuses.get(status)
    if shown is None:
        raise NotUnderstood(
            "unknown_status", f"status: {status[:64]!r} is this shop's own; say in the source's settings what it shows."
        )
    return shown


def _milestones(
    body: JsonObject, settings: Settings, shown: tuple[str, ...], version_at: datetime
) -> list[tuple[Milestone, datetime]]:
    """What the order has reached, and when at the latest: dated by the shop, else by the version that shows it."""
    paid_at, completed_at = _gmt(body, "date_paid_gmt"), _gmt(body, "date_completed_gmt")
    pays_late = _label(body, "payment_method").casefold() in settings.paid_on_completion
    reached = {milestone: version_at for name in shown if (milestone := _SHOWS[name]) is not None}
    if pays_late:
        # Processing is where such an order begins, and dates it as paid; only what follows shows that it was.
        if _status(body) in {"processing", "refunded"} and "completed" not in shown:
            reached.pop(Milestone.PAID, None)
        if Milestone.PAID in reached and completed_at is not None:
            reached[Milestone.PAID] = completed_at
    elif paid_at is not None:
        reached[Milestone.PAID] = paid_at
    if Milestone.COMPLETED in reached and completed_at is not None:
        reached[Milestone.COMPLETED] = completed_at
        if Milestone.FULFILLED in reached:
            reached[Milestone.FULFILLED] = completed_at
    return [(milestone, reached[milestone]) for milestone in Milestone if milestone in reached]


# Lines


def _lines(body: JsonObject, currency: str, settings: Settings) -> tuple[tuple[Line, ...], int]:
    """Lines as ordered: what a gift card paid put back, what was taken off the whole order spread over the goods.

    Returns them with how much was put back.
    """
    if body.get("line_items") is None:
        raise wrong("line_items", "a list of lines")
    lines: list[Line] = []
    gaps: list[int] = []
    discount = Decimal(0)
    for where, one in _entries(body, "line_items"):
        total = _exact(one, "total", where)
        if total is None:
            raise wrong(where + "total", 'a decimal amount such as "19.99"', one.get("total"))
        if total < 0:
            discount -= total
            continue
        net_minor = rounded(total, currency, where + "total")
        subtotal = _exact(one, "subtotal", where) or Decimal(0)
        before = rounded(max(subtotal, Decimal(0)), currency, where + "subtotal")
        gaps.append(max(before - net_minor, 0))
        lines.append(
            Line(
                id=an_id(one, "id", where),
                sku=_sku(one, where),
                net_minor=net_minor,
                quantity=_quantity(one, where),
                goods=not any(key.startswith(_GIFT_CARDS_SOLD) for key, _ in _meta(one)),
            )
        )
    put_back_minor = min(_paid_by_coupon(body, currency, settings), sum(gaps))
    lines = _raised(lines, gaps, put_back_minor)
    for where, one in _entries(body, "fee_lines"):
        total = _exact(one, "total", where) or Decimal(0)
        if total < 0 and not _is_payment(one, settings):
            discount -= total
    lines = _lowered(lines, rounded(discount, currency, "fee_lines"))
    return lines_of(_one_each(lines), "line_items"), put_back_minor


def _pays(coupon: JsonObject, settings: Settings) -> bool:
    """Whether a coupon is money: a gift card or credit that some plugins take off as if it were a discount."""
    kinds = [coupon.get("discount_type")]
    for key, value in _meta(coupon):
        if key in {"coupon_data", "coupon_info"} and type(value) is dict:
            kinds.append(value.get("discount_type"))
    return any(type(kind) is str and kind.casefold() in settings.gift_card_coupon_types for kind in kinds)


def _paid_by_coupon(body: JsonObject, currency: str, settings: Settings) -> int:
    paid = Decimal(0)
    for where, one in _entries(body, "coupon_lines"):
        if _pays(one, settings):
            paid += max(_exact(one, "discount", where) or Decimal(0), Decimal(0))
    return rounded(paid, currency, "coupon_lines")


def _is_payment(fee: JsonObject, settings: Settings) -> bool:
    name = fee.get("name")
    return type(name) is str and any(each in unescape(name).casefold() for each in settings.gift_card_fee_names)


def _paid_besides(body: JsonObject, currency: str, settings: Settings) -> int:
    """What gift cards paid of the whole order without a coupon: by a negative fee, or told in a list of their own.

    The list is that of WooCommerce's own Gift Cards, which lower nothing but the total. Other plugins leave no amount in
    the body, or one that may also stand in a coupon.
    """
    paid = Decimal(0)
    for where, one in _entries(body, "fee_lines"):
        total = _exact(one, "total", where) or Decimal(0)
        if total < 0 and _is_payment(one, settings):
            paid -= total + min(_exact(one, "total_tax", where) or Decimal(0), Decimal(0))
    cards = body.get("gift_cards")
    for index, one in enumerate(cards if type(cards) is list else ()):
        if type(one) is dict:
            paid += max(_exact(one, "amount", f"gift_cards[{index}].") or Decimal(0), Decimal(0))
    return rounded(paid, currency, "gift_cards")


def _raised(lines: list[Line], gaps: list[int], paid_minor: int) -> list[Line]:
    """Lines with what a gift card paid of them, at most by what coupons lowered them."""
    shares = spread(paid_minor, gaps)
    return [_with_net(line, line.net_minor + share) for line, share in zip(lines, shares, strict=True)]


def _lowered(lines: list[Line], discount_minor: int) -> list[Line]:
    """Lines with a discount on the whole order spread over the goods by value."""
    worth = [line.net_minor if line.goods else 0 for line in lines]
    shares = spread(min(discount_minor, sum(worth)), worth)
    return [_with_net(line, line.net_minor - share) for line, share in zip(lines, shares, strict=True)]


def _with_net(line: Line, net_minor: int) -> Line:
    return Line(line.id, line.sku, net_minor, line.quantity, line.category, line.goods)


def _one_each(lines: list[Line]) -> list[Line]:
    """Lines under one id made one, so that a refund which names it lands on all of it.

    Two ids alike come from plugins, never from WooCommerce. The article is the dearest of them.
    """
    merged: dict[str, Line] = {}
    for line in sorted(lines, key=lambda each: (-each.net_minor, each.sku, each.quantity)):
        known = merged.get(line.id)
        if known is None:
            merged[line.id] = line
        else:
            quantity = format(Decimal(known.quantity) + Decimal(line.quantity), "f")
            merged[line.id] = Line(
                line.id, known.sku, known.net_minor + line.net_minor, quantity, goods=known.goods and line.goods
            )
    return [merged[line_id] for line_id in dict.fromkeys(line.id for line in lines)]


def _sku(line: JsonObject, where: str) -> str:
    value = line.get("sku")
    if type(value) is Decimal:
        return format(a_decimal(value, where + "sku"), "f")
    return unescape(_label(line, "sku", where))


def _quantity(line: JsonObject, where: str) -> str:
    """Shown only, so a third of something is cut where it has to be."""
    value = line.get("quantity")
    if type(value) is Decimal or (type(value) is str and _LONG_FRACTION.fullmatch(value)):
        exact = a_decimal(value, where + "quantity") if type(value) is Decimal else Decimal(value)
        value = format(exact.quantize(_SHOWN).normalize(), "f")
    return a_count({"quantity": value}, "quantity", where)


# Refunds


def _refunds_shown(body: JsonObject, currency: str, version_at: datetime) -> list[tuple[str, RefundFact, bool]]:
    """Refunds inside an order: (id, refund, provisional), provisional as long as it shows no lines."""
    net, tax = _sum_of_lines(body, "total"), _sum_of_lines(body, "total_tax")
    found = []
    for where, one in _entries(body, "refunds"):
        refund_id = an_id(one, "id", where)
        if _has_lines(one):
            found.append((refund_id, _read_refund(one, currency, where, otherwise_at=version_at), False))
            continue
        back = _exact(one, "total", where)
        if back is None:
            back = _exact(one, "amount", where) or Decimal(0)
        # Of a bare total nobody knows what was tax: as much as of all goods together.
        goods = abs(back) * net / (net + tax) if net else abs(back)
        whole_minor = rounded(goods, currency, where + "total")
        found.append((refund_id, RefundFact(currency, version_at, unallocated_minor=whole_minor), True))
    return found


def _sum_of_lines(body: JsonObject, key: str) -> Decimal:
    amounts = [_exact(one, key, where) or Decimal(0) for where, one in _entries(body, "line_items")]
    return sum([max(amount, Decimal(0)) for amount in amounts], Decimal(0))


def _refund(body: JsonObject, settings: Settings) -> Translation:
    """A refund's own resource, as `/orders/{id}/refunds/{id}` shows it."""
    refund_id, order_id = an_id(body, "id"), _parent(body)
    if body.get("currency") is not None:
        currency = a_currency(body, "currency")
    elif settings.currency is not None:
        currency = settings.currency
    else:
        raise NotUnderstood(
            "unknown_currency", "currency: the refund does not say; say in the source's settings what the shop's is."
        )
    provisional = not _has_lines(body)
    refund = _read_refund(body, currency, "", otherwise_at=None)
    understood = understood_refund(order_id, refund_id, refund, version_at=refund.refunded_at, provisional=provisional)
    fact = refund_fact(refund_id, refund, version_at=refund.refunded_at, provisional=provisional)
    return Translation(order_id, (fact,), understood, shop_domain=_host(body))


def _has_lines(refund: JsonObject) -> bool:
    return any(refund.get(kind) for kind in ("line_items", "shipping_lines", "fee_lines"))


def _read_refund(one: JsonObject, currency: str, where: str, *, otherwise_at: datetime | None) -> RefundFact:
    """Goods given back, by line, and what was given back beyond all lines, in which there is tax.

    Amounts come with a minus or without.
    """
    named = []
    loose = accounted = Decimal(0)
    for kind in ("line_items", "shipping_lines", "fee_lines"):
        for inner, entry in _entries(one, kind, where):
            back = abs(_exact(entry, "total", inner) or Decimal(0))
            accounted += back + abs(_exact(entry, "total_tax", inner) or Decimal(0))
            if kind != "line_items":
                continue
            line_id = _refunded_item(entry, inner)
            if line_id:
                named.append((line_id, rounded(back, currency, inner + "total")))
            else:
                loose += back
    amount = _exact(one, "amount", where)
    if amount is None:
        amount = _exact(one, "total", where) or Decimal(0)
    beyond = max(abs(amount) - accounted, Decimal(0))
    refunded_at = _gmt(one, "date_created_gmt", where) or otherwise_at
    if refunded_at is None:
        raise wrong(where + "date_created_gmt", "a time such as 2026-11-22T09:30:00")
    return RefundFact(
        currency=currency,
        refunded_at=refunded_at,
        lines=refunded_of(named, where + "line_items"),
        unallocated_minor=rounded(loose, currency, where + "line_items"),
        gross_minor=rounded(beyond, currency, where + "amount"),
    )


def _refunded_item(entry: JsonObject, where: str) -> str:
    """The line given back; empty where the shop does not say."""
    told = [value for key, value in _meta(entry) if key == "_refunded_item_id"]
    for value in (*told, entry.get("line_item_id")):
        if value not in (None, "", 0, "0"):
            return an_id({"_refunded_item_id": value}, "_refunded_item_id", where)
    return ""


def _parent(body: JsonObject) -> str:
    """The order a refund belongs to: named by itself, else by the address it is found under."""
    for key in ("parent_id", "order_id"):
        if body.get(key) not in (None, 0, "0", "", False):
            return an_id(body, key)
    for address in _links(body, "up"):
        found = _PARENT.search(address)
        if found:
            return found[1]
    raise wrong("parent_id", "the id of the refunded order")


# Shapes


def _entries(of: JsonObject, key: str, where: str = "") -> Iterator[tuple[str, JsonObject]]:
    """Yield the objects of a list with their paths. PHP writes a list with gaps as an object, and nothing as null."""
    value = of.get(key)
    if type(value) is dict:
        value = list(value.values())
    if value is None or value == "" or value is False:
        return
    if type(value) is not list:
        raise wrong(where + key, "a list", value)
    if len(value) > LINES_MAX:
        raise NotUnderstood("too_many", f"{where}{key}: {len(value)} entries; at most {LINES_MAX} are read.")
    for index, one in enumerate(value):
        if type(one) is not dict:
            raise wrong(f"{where}{key}[{index}]", "an object", one)
        yield f"{where}{key}[{index}].", one


def _part(of: JsonObject, key: str) -> JsonObject:
    """An object inside; empty for whatever else plugins leave there, for nothing of it has to be there."""
    value = of.get(key)
    return value if type(value) is dict else {}


def _meta(of: JsonObject) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of meta data, which may have any shape: what has no key says nothing."""
    value = of.get("meta_data")
    if type(value) is dict:
        value = [{"key": key, "value": one} if type(one) is not dict else one for key, one in value.items()]
    for one in value if type(value) is list else ():
        if type(one) is dict and type(one.get("key")) is str:
            yield one["key"], one.get("value")


def _label(of: JsonObject, key: str, where: str = "") -> str:
    """A short text nothing hangs on; empty for what PHP and plugins leave where there is none, such as false or []."""
    return a_label(of, key, where) if type(of.get(key)) in {str, int} else ""


def _links(body: JsonObject, relation: str) -> Iterator[str]:
    found = _part(body, "_links").get(relation)
    for one in found if type(found) is list else ():
        address = one.get("href") if type(one) is dict else None
        if type(address) is str and len(address) <= URL_MAX:
            yield address


def _host(body: JsonObject) -> str:
    """The shop that says to have made the body: the host of its own address."""
    return next((host_of(address) for address in _links(body, "self")), "")


def _exact(of: JsonObject, key: str, where: str = "") -> Decimal | None:
    """An exact amount of either sign, also with the digits a float left behind it; None where there is none."""
    value = of.get(key)
    if value is None or value == "" or value is False:
        return None
    if type(value) is str:
        value = value.strip()
        if _LONG_FRACTION.fullmatch(value):
            value = Decimal(value)
    return a_decimal(value, where + key)


def _minor_or_zero(of: JsonObject, key: str, currency: str) -> int:
    return rounded(max(_exact(of, key) or Decimal(0), Decimal(0)), currency, key)


def _gmt(of: JsonObject, key: str, where: str = "") -> datetime | None:
    """A time of the *_gmt fields, which are UTC and do not say so; None for what WordPress writes where there is none."""
    value = of.get(key)
    if value is False or (type(value) is str and (not value or value.startswith("0000"))):
        return None
    if type(value) is str and _GMT.fullmatch(value):
        value = f"{value}Z"
    return moment_or_none({key: value}, key, where)


def _moment(of: JsonObject, key: str) -> datetime:
    at = _gmt(of, key)
    if at is None:
        raise wrong(key, "a time such as 2026-11-22T09:30:00")
    return at


def _click_ids(body: JsonObject) -> list[str]:
    """Click ids in the order's meta data: under our name, by their look, or in the address the visit began with."""
    by_name: list[str] = []
    by_address: list[str] = []
    for key, value in _meta(body):
        if type(value) is not str or len(value) > URL_MAX:
            continue
        if key.strip("_") == CLICK_PARAMETER or value.startswith("clk_"):
            by_name.append(value)
        elif key == _LANDING or CLICK_PARAMETER in value:
            by_address += clicks_in(unescape(value))
    found = by_name + by_address
    if len(found) > TOUCHES_MAX:
        raise NotUnderstood("too_many", f"meta_data: {len(found)} click ids; at most {TOUCHES_MAX} are read.")
    return found


def _addresses(body: JsonObject) -> tuple[Address, ...]:
    """Where the goods go, then the bill; what is sent nowhere has the second only."""
    return tuple(
        an_address(_part(body, part), line1="address_1", line2="address_2", postal_code="postcode", country="country")
        for part in ("shipping", "billing")
    )


def _customer(body: JsonObject, reading: Reading, addresses: tuple[Address, ...]) -> tuple[tuple[str, str], ...]:
    billing = _part(body, "billing")
    known: JsonObject = {kind: _label(billing, kind, "billing.") or None for kind in ("email", "phone")}
    if known["phone"] is None:
        known["phone"] = _label(_part(body, "shipping"), "phone", "shipping.") or None
    if _label(body, "customer_id") not in {"", "0"}:
        known["id"] = body["customer_id"]
    return customer(known, reading, "billing.", addresses=addresses, country=country_of(addresses))


ADAPTER = Adapter(SIGNED.verify, translate, new_secret, check_settings=check_settings, is_ping=is_ping)
