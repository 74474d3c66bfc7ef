"""Shopify's webhooks, on bodies of our own with every trap we know of."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import (
    Fact,
    FactKind,
    Line,
    MilestoneFact,
    OrderFacts,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    merge,
    net_lines,
)
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import BadSignature, Delivery, NotUnderstood, Translation
from service.tables.parties import Platform
from tests.support.webhooks import READING, as_bytes, mutated, outcome, shopify_body

ADAPTER = ADAPTERS[Platform.SHOPIFY]
SECRET = b"shpss_0123456789abcdef"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

ORDER = "orders_create_tax_on_top"
TAX_INSIDE = "orders_updated_taxes_included"
COD = "orders_fulfilled_cash_on_delivery"


def read(body: object, topic: str = "orders/updated") -> Translation:
    return ADAPTER.translate(Delivery("w-1", topic, as_bytes(body)), READING)


def read_file(name: str, **changes: Any) -> Translation:
    topic = "refunds/create" if name.startswith("refunds") else "orders/updated"
    return read(shopify_body(name) | changes, topic)


def refusal(body: object, topic: str = "orders/updated") -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(body, topic)
    return refused.value


def snapshot_of(name: str, **changes: Any) -> OrderSnapshot:
    body = read_file(name, **changes).facts[0].body
    assert isinstance(body, OrderSnapshot)
    return body


def refund_of(name: str, **changes: Any) -> RefundFact:
    (fact,) = read_file(name, **changes).facts
    assert isinstance(fact.body, RefundFact)
    return fact.body


def milestones_of(translation: Translation) -> dict[str, datetime]:
    return {fact.key: fact.body.at for fact in translation.facts if isinstance(fact.body, MilestoneFact)}


def headers_of(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {
        "x-shopify-hmac-sha256": base64.b64encode(hmac.new(secret, body, "sha256").digest()).decode(),
        "x-shopify-topic": "orders/create",
        "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        "x-shopify-shop-domain": "example.myshopify.com",
    }


def test_a_rightly_signed_body_is_a_delivery() -> None:
    body = as_bytes(shopify_body(ORDER))

    assert ADAPTER.verify(SECRET, headers_of(body), body, NOW) == Delivery(
        "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043", "orders/create", body, "example.myshopify.com"
    )


@pytest.mark.parametrize(
    "given_value",
    ["", "x", "äöü", "\udcff", base64.b64encode(bytes(32)).decode(), hashlib.sha256(b"{}").hexdigest()],
)
def test_a_wrong_signature_is_refused(given_value: str) -> None:
    with pytest.raises(BadSignature):
        ADAPTER.verify(SECRET, headers_of(b"{}") | {"x-shopify-hmac-sha256": given_value}, b"{}", NOW)


def test_another_secret_or_body_or_none_at_all_is_refused() -> None:
    for secret, headers, body in (
        (SECRET, headers_of(b"{}", b"another"), b"{}"),
        (SECRET, headers_of(b"{}"), b"{} "),
        (SECRET, {}, b"{}"),
        (b"", headers_of(b"{}", b""), b"{}"),
    ):
        with pytest.raises(BadSignature):
            ADAPTER.verify(secret, headers, body, NOW)


@pytest.mark.parametrize("webhook_id", [None, "", "a\nb", "x" * 300])
def test_without_a_usable_webhook_id_topic_and_body_are_the_id(webhook_id: str | None) -> None:
    headers = headers_of(b"{}")
    del headers["x-shopify-webhook-id"]

    delivery = ADAPTER.verify(
        SECRET, headers | ({} if webhook_id is None else {"x-shopify-webhook-id": webhook_id}), b"{}", NOW
    )

    assert delivery.delivery_id == "sha256:" + hashlib.sha256(b"orders/create.{}").hexdigest()


def test_a_new_secret_is_random() -> None:
    assert len({ADAPTER.new_secret() for _ in range(20)}) == 20


def test_lines_are_as_ordered_after_discounts_before_tax_and_gift_cards_are_no_goods() -> None:
    snapshot = snapshot_of(ORDER)

    assert snapshot.lines == (
        Line("14500000000000001", "SERUM-30", 5250, "2"),
        Line("14500000000000002", "MASK-5", 1125, "1"),
        Line("14500000000000003", "GIFT-25", 2500, "1", goods=False),
    )
    assert snapshot.goods_minor == 6375
    assert (snapshot.total_minor, snapshot.tax_minor, snapshot.shipping_minor, snapshot.discount_minor) == (
        9785,
        510,
        400,
        975,
    )


def test_ids_beyond_2_to_the_53_are_exact() -> None:
    assert read_file(ORDER).order_id == "5600000000000000123"
    assert ("id", "id(7009912345678901234)") in snapshot_of(ORDER).customer


def test_the_shops_currency_counts_and_not_the_buyers() -> None:
    body = shopify_body(ORDER)
    assert body["subtotal_price_set"]["shop_money"]["currency_code"] == "CAD"

    snapshot = snapshot_of(ORDER)

    assert (snapshot.currency, snapshot.total_minor) == ("USD", 9785)


def test_a_money_set_is_asked_only_where_the_plain_field_is_absent_and_in_the_orders_currency() -> None:
    body = shopify_body(ORDER)
    del body["line_items"][0]["price"]
    assert read(body).understood["lines"][0]["net_minor"] == 5250

    body["line_items"][0]["price_set"]["shop_money"]["currency_code"] = "CAD"
    assert refusal(body).detail.startswith("line_items[0].price: is missing")


def test_clicks_come_from_the_cart_by_name_or_look_then_from_the_landing_address_then_codes() -> None:
    assert snapshot_of(ORDER).touches == (
        Touch(TouchKind.CLICK, "clk_fromTheCart"),
        Touch(TouchKind.CLICK, "clk_underAnotherName"),
        Touch(TouchKind.CLICK, "clk_fromTheLandingPage"),
        Touch(TouchKind.COUPON, "ann10"),
    )
    assert read_file(ORDER).understood["coupon_codes"] == ["Ann10"]


@pytest.mark.parametrize("value", [None, 5, ["clk_x"], {"clk_x": 1}, True, "no click"])
def test_attributes_of_any_shape_are_no_clicks(value: object) -> None:
    assert snapshot_of(ORDER, note_attributes=[{"name": "colour", "value": value}], landing_site=None).touches == (
        Touch(TouchKind.COUPON, "ann10"),
    )


def test_a_guest_is_known_by_what_the_order_says() -> None:
    assert snapshot_of(COD).customer == (
        ("address", "address(US|00000|1|aeeeelmprsttx)"),
        ("phone", "phone(+84 912 345 678)"),
    )


def test_a_phone_number_may_stand_in_an_address_only() -> None:
    sent_to = {"country_code": "VN", "phone": "0912 345 678"}

    assert snapshot_of(COD, phone=None, shipping_address=sent_to).customer[-1] == ("phone", "phone(0912 345 678)")
    assert snapshot_of(COD, phone="", billing_address=sent_to).customer[-1] == ("phone", "phone(0912 345 678)")
    assert snapshot_of(COD, shipping_address=sent_to).customer[-1] == ("phone", "phone(+84 912 345 678)")


def test_taxes_inside_the_price_are_taken_off_the_line_and_rounded_once() -> None:
    lines = snapshot_of(TAX_INSIDE).lines

    # 2 x 119.00 - 23.80 - 34.20, and 10.70 - 0.7005 = 9.9995.
    assert [line.net_minor for line in lines] == [18000, 1000]


def test_versions_are_the_shops_own_and_the_date_is_that_of_processing() -> None:
    (order, *_) = read_file(ORDER).facts

    assert order.version_at == datetime(2026, 11, 2, 3, 15, 33, tzinfo=UTC)
    assert snapshot_of(ORDER).placed_at == datetime(2026, 11, 2, 3, 15, 30, tzinfo=UTC)
    assert snapshot_of(ORDER, processed_at=None).placed_at == datetime(2026, 11, 2, 3, 15, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "is_paid"),
    [
        ("paid", True),
        ("partially_refunded", True),
        ("refunded", True),
        ("pending", False),
        ("authorized", False),
        ("partially_paid", False),
        ("voided", False),
        (None, False),
    ],
)
def test_paid_at_the_latest_when_a_version_shows_it(status: str | None, is_paid: bool) -> None:
    reached = milestones_of(read_file(ORDER, financial_status=status))

    assert reached == ({"paid": datetime(2026, 11, 2, 3, 15, 33, tzinfo=UTC)} if is_paid else {})


def test_the_first_version_that_shows_an_order_paid_gives_the_time() -> None:
    early, late = (
        next(fact for fact in read_file(ORDER, updated_at=at).facts if fact.kind is FactKind.MILESTONE)
        for at in ("2026-11-05T00:00:00Z", "2026-11-09T00:00:00Z")
    )

    assert merge(late, early) == merge(early, late) == early


def test_cash_on_delivery_is_fulfilled_by_the_last_parcel_sent_and_delivered_by_the_last_arrived() -> None:
    assert milestones_of(read_file(COD)) == {
        "paid": datetime(2026, 11, 8, 4, 6, tzinfo=UTC),
        "fulfilled": datetime(2026, 11, 4, 1, tzinfo=UTC),
        "delivered": datetime(2026, 11, 8, 4, 5, tzinfo=UTC),
    }


def test_one_parcel_on_its_way_is_not_delivered() -> None:
    fulfillments = shopify_body(COD)["fulfillments"]
    fulfillments[1]["shipment_status"] = "in_transit"

    assert set(milestones_of(read_file(COD, fulfillments=fulfillments))) == {"paid", "fulfilled"}


def test_a_part_of_an_order_delivered_is_not_the_order_fulfilled() -> None:
    assert set(milestones_of(read_file(COD, fulfillment_status="partial"))) == {"paid"}


def test_fulfilled_without_fulfillments_is_so_at_the_latest_now() -> None:
    assert milestones_of(read_file(COD, fulfillments=[]))["fulfilled"] == datetime(2026, 11, 8, 4, 6, tzinfo=UTC)


def test_a_currency_without_cents_and_a_tip() -> None:
    assert snapshot_of(COD).lines == (
        Line("14500000000000021", "TRA-XANH", 375000, "3"),
        Line("14500000000000022", "TIP", 20000, "1", goods=False),
    )


def test_a_cancelled_order_is_a_snapshot_that_says_so() -> None:
    assert snapshot_of("orders_cancelled").cancelled
    assert not snapshot_of(ORDER, cancel_reason="customer").cancelled


def test_a_test_order_is_understood_and_ignored() -> None:
    translation = read_file(ORDER, test=True)

    assert (translation.ignored, translation.facts) == ("test_order", ())
    assert translation.understood["goods_minor"] == 6375


def test_refunds_inside_an_order_are_facts_but_those_of_another_order_are_not() -> None:
    refunds = [fact for fact in read_file(TAX_INSIDE).facts if fact.kind is FactKind.REFUND]

    assert [fact.key for fact in refunds] == ["940000000000000001"]
    assert refunds[0].body == RefundFact("EUR", datetime(2026, 11, 10, 2, tzinfo=UTC), (("14500000000000011", 9000),))
    assert [refund["id"] for refund in read_file(TAX_INSIDE).understood["refunds"]] == ["940000000000000001"]


def test_a_refund_alone_is_the_same_fact_as_inside_its_order_also_where_taxes_are_in_the_price() -> None:
    (alone,) = read_file("refunds_create_taxes_included").facts
    (inside,) = (fact for fact in read_file(TAX_INSIDE).facts if fact.kind is FactKind.REFUND)

    assert alone == inside


def test_the_lines_of_a_refund_count_and_a_fee_kept_back_does_not_make_them_sold() -> None:
    refund = refund_of("refunds_create_lines_and_fee")

    assert refund.currency == "USD"
    assert refund.lines == (("14500000000000001", 2625), ("14500000000000002", 1125))
    assert refund.unallocated_minor == 0


def test_money_given_back_for_no_line_is_goods_on_no_line() -> None:
    refund = refund_of("refunds_create_amount_only")

    assert (refund.lines, refund.unallocated_minor) == ((), 1000)


@pytest.mark.parametrize(
    ("owed", "payment", "paid_for_no_line", "left"),
    [
        pytest.param("0.00", "success", "0.00", [0, 5000], id="restocked and paid at once"),
        pytest.param("50.00", None, "-50.00", [0, 5000], id="restocked first, paid in another refund"),
        pytest.param(
            "50.00", "failure", "-50.00", [0, 5000], id="paid in another refund since the first payment failed"
        ),
        pytest.param("50.00", None, "-60.00", [0, 4000], id="paid later, and ten more"),
        pytest.param("50.00", None, "0.00", [0, 5000], id="never paid"),
        pytest.param("5.00", "success", "-10.00", [0, 4000], id="a fee kept back, and ten for no line"),
        # As long as its payment is pending, a refund of lines shows all of them as a discrepancy.
        pytest.param("50.00", "pending", "-10.00", [0, 4000], id="payment pending, and ten for no line"),
    ],
)
def test_goods_and_money_of_one_return_count_once(
    owed: str, payment: str | None, paid_for_no_line: str, left: list[int]
) -> None:
    line: dict[str, Any] = {"quantity": 1, "price": "50.00"}
    times = {"created_at": "2026-11-10T09:00:00Z", "updated_at": "2026-11-10T09:00:00Z"}
    order = {"id": 1, "currency": "USD", "line_items": [line | {"id": 11}, line | {"id": 12}]} | times
    returned = {"line_item_id": 11, "subtotal": "50.00", "subtotal_set": {"shop_money": {"currency_code": "USD"}}}
    restocked = {"id": 91, "order_id": 1, "refund_line_items": [returned], **_adjusted(owed)} | times
    restocked["transactions"] = [{"kind": "refund", "status": payment}] if payment else []
    paid = {"id": 92, "order_id": 1, **_adjusted(paid_for_no_line)} | times
    told = [(order, "orders/create"), (restocked, "refunds/create"), (paid, "refunds/create")]

    known = OrderFacts.of([fact for body, topic in told for fact in read(body, topic).facts])

    assert known.snapshot is not None
    assert [each.net_minor for each in net_lines(known.snapshot, known.all_refunds())] == left


def _adjusted(amount: str) -> dict[str, Any]:
    shop_money = {"shop_money": {"amount": amount, "currency_code": "USD"}}
    return {"order_adjustments": [{"kind": "refund_discrepancy", "amount": amount, "amount_set": shop_money}]}


def test_an_adjustment_says_by_its_reason_what_its_kind_no_longer_says() -> None:
    body = shopify_body("refunds_create_amount_only")
    [adjustment] = body["order_adjustments"]
    for deprecated in ("kind", "amount", "tax_amount"):
        del adjustment[deprecated]
    carriage = adjustment | {"reason": "Shipping refund"}

    translation = read(body | {"order_adjustments": [adjustment, carriage]}, "refunds/create")

    assert translation.understood["refunds"][0]["unallocated_minor"] == 1000


def test_a_refund_of_carriage_alone_is_ignored() -> None:
    translation = read_file("refunds_create_shipping_only")

    assert (translation.ignored, translation.facts) == ("refund_without_goods", ())
    assert translation.order_id == "5600000000000000123"


def test_one_line_refunded_in_two_entries_is_added_up() -> None:
    entry = shopify_body("refunds_create_lines_and_fee")["refund_line_items"][0]

    refund = refund_of("refunds_create_lines_and_fee", refund_line_items=[entry, entry])

    assert refund.lines == (("14500000000000001", 5250),)


def test_a_refund_whose_tax_fits_neither_way_takes_nothing_off() -> None:
    body = shopify_body("refunds_create_taxes_included")
    body["refund_line_items"][0]["total_tax"] = 3.98

    assert read(body, "refunds/create").understood["refunds"][0]["goods_minor"] == 10710


def test_a_refund_in_two_currencies_parks() -> None:
    body = shopify_body("refunds_create_lines_and_fee")
    body["refund_line_items"][0]["subtotal_set"]["shop_money"]["currency_code"] = "CAD"

    assert refusal(body, "refunds/create").reason_code == "mixed_currency"


def test_a_refund_without_money_sets_takes_the_currency_of_a_transaction_that_names_a_real_one() -> None:
    body = shopify_body("refunds_create_lines_and_fee")
    for entry in body["refund_line_items"]:
        del entry["subtotal_set"]
    del body["order_adjustments"], body["total_duties_set"]
    body["transactions"] = [{"currency": None}, {"currency": "XXX"}, {"currency": "USD"}]
    assert read(body, "refunds/create").understood["currency"] == "USD"

    del body["transactions"]
    assert refusal(body, "refunds/create").reason_code == "unknown_currency"


def test_amounts_may_be_numbers() -> None:
    body = shopify_body(ORDER)
    body["line_items"][0]["price"] = 30
    body["line_items"][1]["price"] = 12.5

    assert [line["net_minor"] for line in read(body).understood["lines"]] == [5250, 1125, 2500]


@pytest.mark.parametrize(
    "topic", ["orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled"]
)
def test_each_order_topic_carries_the_whole_order(topic: str) -> None:
    assert read(shopify_body(ORDER), topic) == read(shopify_body(ORDER), "orders/updated")


@pytest.mark.parametrize(("name", "topic"), [("orders_edited", "orders/edited"), ("orders_delete", "orders/delete")])
def test_events_that_show_no_order_are_acknowledged_and_name_it(name: str, topic: str) -> None:
    translation = read(shopify_body(name), topic)

    assert (translation.order_id, translation.facts) == ("5600000000000000123", ())
    assert translation.ignored == "topic_without_effect"


@pytest.mark.parametrize("topic", ["app/uninstalled", "customers/redact", "shop/redact", "products/update"])
def test_topics_that_are_no_orders_are_acknowledged_unread(topic: str) -> None:
    translation = ADAPTER.translate(Delivery("w-1", topic, b"\xff"), READING)

    assert (translation.order_id, translation.ignored) == ("", "topic_without_effect")


def test_a_delivery_without_topic_parks() -> None:
    assert refusal(shopify_body(ORDER), "").reason_code == "missing_topic"


def set_in(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        holder: Any = body
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "reason", "path"),
    [
        (set_in("id", to=None), "missing_field", "id"),
        (set_in("currency", to="example string"), "unknown_currency", "currency"),
        (set_in("updated_at", to=None), "missing_field", "updated_at"),
        (set_in("updated_at", to="now"), "invalid_field", "updated_at"),
        (set_in("processed_at", to=5), "invalid_field", "processed_at"),
        (set_in("line_items", to=None), "missing_field", "line_items"),
        (set_in("line_items", to={}), "invalid_field", "line_items"),
        (set_in("line_items", 0, to="x"), "invalid_field", "line_items[0]"),
        (set_in("line_items", 0, "price", to="example string"), "invalid_amount", "line_items[0].price"),
        (set_in("line_items", 0, "price", to={}), "invalid_field", "line_items[0].price"),
        (set_in("line_items", 0, "price", to="1.00"), "negative_amount", "line_items[0].price"),
        (set_in("line_items", 0, "quantity", to="two"), "invalid_field", "line_items[0].quantity"),
        (set_in("line_items", 1, "id", to=14500000000000001), "duplicate_line", "line_items[1].id"),
        (set_in("line_items", 0, "gift_card", to="no"), "invalid_field", "line_items[0].gift_card"),
        (
            set_in("line_items", 0, "discount_allocations", 1, "amount", to="-1.50"),
            "negative_amount",
            "line_items[0].discount_allocations[1].amount",
        ),
        (set_in("taxes_included", to="no"), "invalid_field", "taxes_included"),
        (set_in("cancelled_at", to=True), "invalid_field", "cancelled_at"),
        (set_in("total_price", to=[]), "invalid_field", "total_price"),
        (
            set_in("shipping_lines", 0, "discounted_price", to="x"),
            "invalid_amount",
            "shipping_lines[0].discounted_price",
        ),
        (set_in("note_attributes", to="x"), "invalid_field", "note_attributes"),
        (set_in("note_attributes", to=[{"value": f"clk_{n}"} for n in range(60)]), "too_many", "note_attributes"),
        (set_in("landing_site", to=[]), "invalid_field", "landing_site"),
        (set_in("discount_codes", 0, "code", to={}), "invalid_field", "discount_codes[0].code"),
        (set_in("customer", to="x"), "invalid_field", "customer"),
        (set_in("customer", "email", to=["x"]), "invalid_field", "customer.email"),
        (set_in("financial_status", to=1), "invalid_field", "financial_status"),
        (set_in("refunds", to=[1]), "invalid_field", "refunds[0]"),
    ],
)
def test_what_cannot_be_read_parks_with_the_path_of_the_field(
    change: Callable[[dict[str, Any]], None], reason: str, path: str
) -> None:
    body = shopify_body(ORDER)
    change(body)

    refused = refusal(body)

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")


def test_an_anonymised_body_of_placeholders_parks() -> None:
    def blank(value: object) -> object:
        match value:
            case str():
                return "example string"
            case list():
                return [blank(one) for one in value]
            case dict():
                return {key: blank(one) for key, one in value.items()}
            case _:
                return value

    assert refusal(blank(shopify_body(ORDER))).reason_code == "unknown_currency"


def test_refunds_in_any_order_with_their_order_come_to_the_same_goods() -> None:
    facts = [*read_file(TAX_INSIDE).facts, *read_file("refunds_create_taxes_included").facts]

    def left(some: list[Fact]) -> list[int]:
        merged: dict[tuple[str, str], Fact] = {}
        for fact in some:
            key = (fact.kind, fact.key)
            merged[key] = merge(merged[key], fact) if key in merged else fact
        known = OrderFacts.of(merged.values())
        assert known.snapshot is not None
        return [line.net_minor for line in net_lines(known.snapshot, known.refunds)]

    assert left(facts) == left(facts[::-1]) == left(facts + facts) == [9000, 1000]


BODIES = [
    ("orders/updated", ORDER),
    ("orders/updated", TAX_INSIDE),
    ("orders/fulfilled", COD),
    ("refunds/create", "refunds_create_lines_and_fee"),
    ("refunds/create", "refunds_create_taxes_included"),
    ("refunds/create", "refunds_create_amount_only"),
    ("orders/edited", "orders_edited"),
]


@pytest.mark.parametrize(("topic", "name"), BODIES, ids=[name for _, name in BODIES])
@given(data=st.data())
def test_no_body_raises_anything_but_not_understood(topic: str, name: str, data: st.DataObject) -> None:
    body = data.draw(mutated([shopify_body(name)]))

    answer = outcome(lambda: ADAPTER.translate(Delivery("w-1", topic, body), READING))

    if isinstance(answer, NotUnderstood):
        assert answer.reason_code
        assert 0 < len(answer.detail) < 500
    else:
        assert answer.order_id or answer.ignored
        assert json.dumps(answer.understood)
        assert all(fact.text.encode() for fact in answer.facts)
