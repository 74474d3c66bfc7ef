"""Our own JSON for shops without an adapter: order, refund, dispute and status events, described in docs/webhooks.md.

Signed by Standard Webhooks. Fields we do not know are ignored, since shops add some; an unknown type parks.
"""

from collections.abc import Callable
from datetime import datetime

from service.domain.identity import Address, IdentityKind, country_code
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
from service.domain.text import made_visible
from service.intake.adapters import standard_webhooks
from service.intake.adapters.assemble import (
    clicks_in,
    customer,
    lines_of,
    refunded_of,
    touches,
    understood_order,
    understood_refund,
)
from service.intake.adapters.model import Adapter, Delivery, NotUnderstood, Reading, Translation
from service.intake.adapters.parse import (
    TEXT_MAX,
    TOUCHES_MAX,
    URL_MAX,
    a_count,
    a_currency,
    a_flag,
    a_label,
    a_list,
    a_moment,
    a_text,
    an_id,
    an_object,
    iso,
    load,
    minor,
    moment_or_none,
    objects,
    wrong,
)

LINE_KINDS = {"goods": True, "shipping": False, "fee": False, "gift_card": False}
"""kind of a line → whether it earns commission."""
_MILESTONES = tuple((milestone, f"{milestone}_at") for milestone in Milestone)


def translate(delivery: Delivery, reading: Reading) -> Translation:
    """Return what one event says about its order. Raises NotUnderstood."""
    event = load(delivery.body)
    kind = event.get("type")
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is None:
        if kind is None or type(kind) is not str:
            raise wrong("type", "one of " + ", ".join(_READERS), kind)
        raise NotUnderstood("unknown_event", f"type: {kind[:40]!r} is none of {', '.join(_READERS)}.")
    return reader(event, reading)


def _order(event: JsonObject, reading: Reading) -> Translation:
    order_id = an_id(event, "id")
    version_at = a_moment(event, "updated_at")
    currency = a_currency(event, "currency")
    lines, shipping_minor = _lines(event, currency)
    codes = _texts(event, "coupon_codes")
    totals = an_object(event, "totals") or {}
    tax_minor = _total(totals, "tax", currency) or 0
    net_minor = sum([line.net_minor for line in lines])
    buyer = an_object(event, "customer") or {}
    address, country = _whereabouts(buyer)
    virtual = event.get("virtual_payment")
    told_shipping, told_total = _total(totals, "shipping", currency), _total(totals, "total", currency)
    snapshot = OrderSnapshot(
        placed_at=a_moment(event, "placed_at"),
        currency=currency,
        lines=lines,
        cancelled=a_flag(event, "cancelled"),
        touches=touches(reading, _click_ids(event), codes),
        customer=customer(
            buyer | {IdentityKind.PAYMENT: buyer.get("payment_fingerprint"), IdentityKind.ADDRESS: None},
            reading,
            "customer.",
            addresses=(address,),
            country=country,
        ),
        number=a_label(event, "number") or order_id,
        total_minor=net_minor + tax_minor if told_total is None else told_total,
        shipping_minor=shipping_minor if told_shipping is None else told_shipping,
        tax_minor=tax_minor,
        discount_minor=_total(totals, "discount", currency) or 0,
        country=country,
        virtual_minor=0 if virtual is None else minor(virtual, currency, "virtual_payment"),
    )
    reached = _milestones(event)
    is_test = a_flag(event, "test")
    understood = understood_order(
        order_id, snapshot, version_at=version_at, milestones=reached, coupon_codes=codes, is_test=is_test
    )
    if is_test:
        return Translation(order_id, (), understood, "test_order", "A test order earns nothing.")
    facts: list[Fact] = [order_fact(snapshot, version_at=version_at)]
    facts += [milestone_fact(milestone, at) for milestone, at in reached]
    return Translation(order_id, tuple(facts), understood)


def _lines(event: JsonObject, currency: str) -> tuple[tuple[Line, ...], int]:
    """Lines as ordered, and what those of kind shipping come to."""
    if event.get("lines") is None:
        raise wrong("lines", "a list of lines")
    lines = []
    shipping_minor = 0
    for index, one in enumerate(objects(event, "lines")):
        where = f"lines[{index}]."
        kind = a_text(one, "kind", where) or "goods"
        goods = LINE_KINDS.get(kind)
        if goods is None:
            raise wrong(where + "kind", "one of " + ", ".join(LINE_KINDS), kind)
        net_minor = minor(one.get("net"), currency, where + "net")
        if kind == "shipping":
            shipping_minor += net_minor
        lines.append(
            Line(
                id=an_id(one, "id", where),
                sku=a_label(one, "sku", where),
                net_minor=net_minor,
                quantity=a_count(one, "quantity", where),
                category=a_text(one, "category", where),
                goods=goods,
            )
        )
    return lines_of(lines, "lines"), shipping_minor


def _whereabouts(buyer: JsonObject) -> tuple[Address, str]:
    """The buyer's address, and the country: that of the customer, else that of the address. Each counts for the other."""
    told = an_object(buyer, "address", "customer.") or {}
    where = "customer.address."
    country, of_address = _country(buyer, "customer."), _country(told, where)
    address = Address(
        line1=a_text(told, "line1", where),
        line2=a_text(told, "line2", where),
        house=a_label(told, "house", where),
        postal_code=a_label(told, "postal_code", where),
        city=a_text(told, "city", where),
        country=of_address or country,
    )
    return address, country or of_address


def _country(of: JsonObject, where: str) -> str:
    value = of.get("country")
    code = country_code(value)
    if value not in (None, "") and not code:
        raise wrong(where + "country", "two letters, an ISO 3166-1 alpha-2 code", value)
    return code


def _total(totals: JsonObject, key: str, currency: str) -> int | None:
    value = totals.get(key)
    return None if value is None else minor(value, currency, "totals." + key)


def _milestones(event: JsonObject) -> list[tuple[Milestone, datetime]]:
    told = an_object(event, "milestones")
    if not told:
        return []
    reached = [(milestone, moment_or_none(told, key, "milestones.")) for milestone, key in _MILESTONES]
    return [(milestone, at) for milestone, at in reached if at is not None]


def _texts(event: JsonObject, key: str) -> list[str]:
    values = a_list(event, key, most=TOUCHES_MAX)
    for index, value in enumerate(values):
        if type(value) is not str or len(value) > TEXT_MAX:
            raise wrong(f"{key}[{index}]", f"a text of at most {TEXT_MAX} characters", value)
    return [made_visible(value) for value in values]


def _click_ids(event: JsonObject) -> list[str]:
    found = _texts(event, "click_ids")
    url = a_text(event, "landing_url", most=URL_MAX)
    return [*found, *clicks_in(url)] if url else found


def _refund(event: JsonObject, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    order_id, refund_id = an_id(event, "order_id"), an_id(event, "id")
    version_at, refunded_at = a_moment(event, "updated_at"), a_moment(event, "refunded_at")
    currency = a_currency(event, "currency")
    if event.get("lines") is None and event.get("amount") is None:
        raise wrong("amount", "the goods value given back, or lines that name it")
    named = []
    for index, one in enumerate(objects(event, "lines")):
        where = f"lines[{index}]."
        named.append((an_id(one, "line_id", where), minor(one.get("net"), currency, where + "net")))
    lines = refunded_of(named, "lines")
    on_lines = sum([amount_minor for _, amount_minor in lines])
    whole = on_lines if event.get("amount") is None else minor(event["amount"], currency, "amount")
    if whole < on_lines:
        raise NotUnderstood("amount_below_lines", "amount: is less than the lines of this refund add up to.")
    # The shop's own refund for a lost dispute takes the dispute's key, so that the two are one.
    dispute_id = an_id(event, "dispute_id") if event.get("dispute_id") is not None else None
    key = refund_id if dispute_id is None else f"dispute:{dispute_id}"
    provisional = a_flag(event, "provisional")
    refund = RefundFact(currency, refunded_at, lines, whole - on_lines)
    understood = understood_refund(order_id, key, refund, version_at=version_at, provisional=provisional)
    fact = refund_fact(key, refund, version_at=version_at, provisional=provisional)
    return Translation(order_id, (fact,), understood)


def _dispute(event: JsonObject, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    order_id, dispute_id = an_id(event, "order_id"), an_id(event, "id")
    version_at = a_moment(event, "updated_at")
    currency = a_currency(event, "currency")
    closed_at = moment_or_none(event, "closed_at")
    outcome = _outcome(event, closed_at)
    dispute = DisputeFact(
        opened_at=a_moment(event, "opened_at"),
        currency=currency,
        amount_minor=minor(event.get("amount"), currency, "amount"),
        closed_at=closed_at,
        outcome=outcome,
    )
    if closed_at is not None and closed_at < dispute.opened_at:
        raise NotUnderstood("invalid_field", "closed_at: is earlier than opened_at.")
    understood: JsonObject = {
        "kind": "dispute",
        "order_id": order_id,
        "dispute_id": dispute_id,
        "currency": currency,
        "updated_at": iso(version_at),
        "amount_minor": dispute.amount_minor,
        "opened_at": iso(dispute.opened_at),
        "closed_at": iso(closed_at),
        "outcome": outcome,
    }
    return Translation(order_id, (dispute_fact(dispute_id, dispute, version_at=version_at),), understood)


def _outcome(event: JsonObject, closed_at: datetime | None) -> DisputeOutcome | None:
    """A closed dispute says how it ended, an open one cannot."""
    told = event.get("outcome")
    if closed_at is None:
        if told is not None:
            raise NotUnderstood("missing_field", "closed_at: is missing although there is an outcome.")
        return None
    if told not in ("won", "lost"):
        raise wrong("outcome", "won or lost (the dispute is closed)", told)
    return DisputeOutcome(told)


def _status(event: JsonObject, reading: Reading) -> Translation:  # noqa: ARG001 - a reader like the others
    order_id = an_id(event, "order_id")
    told = event.get("milestone")
    if type(told) is not str or told not in set(Milestone):
        raise wrong("milestone", "one of " + ", ".join(Milestone), told)
    milestone, at = Milestone(told), a_moment(event, "at")
    understood: JsonObject = {"kind": "status", "order_id": order_id, "milestones": {f"{milestone}_at": iso(at)}}
    return Translation(order_id, (milestone_fact(milestone, at),), understood)


_READERS: dict[str, Callable[[JsonObject, Reading], Translation]] = {
    "order": _order,
    "refund": _refund,
    "dispute": _dispute,
    "status": _status,
}

ADAPTER = Adapter(
    standard_webhooks.verify, translate, standard_webhooks.new_secret, secret_flaw=standard_webhooks.secret_flaw
)
