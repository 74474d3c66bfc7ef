"""One buyer, told by each shop in its own way: the same keyed hashes, the same country; and what was paid without money."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from service.domain.identity import Address
from service.domain.order import OrderSnapshot, Touch, TouchKind
from service.infra.security import Security
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import Delivery, Reading
from service.tables.parties import Platform
from tests.support.payment_events import a_session
from tests.support.webhooks import an_order, as_bytes, body_of, shopify_body

Json = dict[str, Any]

SECURITY = Security(bytes(range(32)))
SHOP = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
READING = Reading(lambda ref: Touch(TouchKind.CLICK, ref), partial(SECURITY.identity, SHOP))

HOME = Address("12 Lê Lợi", "Bến Nghé", postal_code="700000", country="VN")
KNOWN = {
    "address": SECURITY.identity(SHOP, "address", HOME.text),
    "email": SECURITY.identity(SHOP, "email", "lan@example.com"),
    "payment": SECURITY.identity(SHOP, "payment", "Xt5EWLLDS7FJjR1c"),
    "phone": SECURITY.identity(SHOP, "phone", "+84912345678"),
}


def read(platform: Platform, body: object, topic: str = "", **settings: Any) -> OrderSnapshot:
    reading = replace(READING, settings=settings, is_test=True)
    snapshot = ADAPTERS[platform].translate(Delivery("d-1", topic, as_bytes(body)), reading).facts[0].body
    assert isinstance(snapshot, OrderSnapshot)
    return snapshot


def shopify(**changes: Any) -> OrderSnapshot:
    return read(Platform.SHOPIFY, shopify_body("orders_create_tax_on_top") | changes, "orders/updated")


def haravan(**changes: Any) -> OrderSnapshot:
    return read(Platform.HARAVAN, body_of("haravan", "orders_create_cash_on_delivery") | changes, "orders/updated")


def woocommerce(settings: Json | None = None, **changes: Any) -> OrderSnapshot:
    body = body_of("woocommerce", "order_processing_tax_on_top") | changes
    return read(Platform.WOOCOMMERCE, body, "order.updated", **(settings or {}))


def stripe(**changes: Any) -> OrderSnapshot:
    return read(Platform.STRIPE, a_session(**changes))


def generic(**changes: Any) -> OrderSnapshot:
    return read(Platform.GENERIC, an_order(**changes))


SHOPIFY_HOME = {
    "address1": "12 Lê Lợi",
    "address2": "Bến Nghé",
    "zip": "700000",
    "city": "Ho Chi Minh City",
    "country_code": "VN",
    "phone": "0912 345 678",
}
AN_OFFICE = {
    "address1": "9 Office Road",
    "zip": "049320",
    "city": "Singapore",
    "country_code": "SG",
    "phone": "9123 4567",
}
WOO_HOME = {"address_1": "12 LE LOI", "address_2": "BEN NGHE", "postcode": "700 000", "city": "HCMC", "country": "VN"}
STRIPE_HOME = {"line1": "12, Lê Lợi, Bến Nghé", "line2": None, "postal_code": "700000", "city": None, "country": "VN"}


@pytest.mark.parametrize(
    ("snapshot", "kinds"),
    [
        pytest.param(
            shopify(
                email="lan@example.com",
                phone=None,
                customer=None,
                shipping_address=SHOPIFY_HOME,
                billing_address=AN_OFFICE,
            ),
            {"address", "email", "phone"},
            id="Shopify",
        ),
        pytest.param(
            haravan(
                email="Lan@Example.com",
                phone=None,
                customer=None,
                billing_address=None,
                shipping_address=SHOPIFY_HOME | {"city": None, "province": "Hồ Chí Minh", "phone": "+84912345678"},
            ),
            {"address", "email", "phone"},
            id="Haravan",
        ),
        pytest.param(
            woocommerce(
                customer_id=0,
                billing={"email": "lan@example.com", "phone": "0912.345.678", "country": "SG"},
                shipping=WOO_HOME,
            ),
            {"address", "email", "phone"},
            id="WooCommerce",
        ),
        pytest.param(
            stripe(
                customer=None,
                customer_details={"email": "lan@example.com", "phone": "+84912345678", "address": {"country": "SG"}},
                collected_information={"shipping_details": {"address": STRIPE_HOME}},
                payment_intent={
                    "id": "pi_1",
                    "latest_charge": {
                        "payment_method_details": {"type": "card", "card": {"fingerprint": "Xt5EWLLDS7FJjR1c"}}
                    },
                },
            ),
            {"address", "email", "payment", "phone"},
            id="Stripe",
        ),
        pytest.param(
            generic(
                customer={
                    "email": "lan@example.com",
                    "phone": "912345678",
                    "country": "VN",
                    "payment_fingerprint": "Xt5EWLLDS7FJjR1c",
                    "address": {"line1": "Lê Lợi", "line2": "Bến Nghé", "house": 12, "postal_code": 700000},
                }
            ),
            {"address", "email", "payment", "phone"},
            id="generic",
        ),
    ],
)
def test_one_buyer_is_one_in_every_shops_language(snapshot: OrderSnapshot, kinds: set[str]) -> None:
    assert snapshot.customer == tuple(sorted((kind, KNOWN[kind]) for kind in kinds))
    assert snapshot.country == "VN"


def test_what_is_sent_nowhere_is_known_by_the_address_of_the_bill() -> None:
    billed = [
        shopify(shipping_address=None, billing_address=SHOPIFY_HOME),
        shopify(shipping_address={"country_code": None}, billing_address=SHOPIFY_HOME),
        woocommerce(shipping=[], billing=WOO_HOME),
        stripe(customer_details={"address": STRIPE_HOME}),
    ]

    assert [(dict(each.customer)["address"], each.country) for each in billed] == [(KNOWN["address"], "VN")] * 4


@pytest.mark.parametrize(
    "names",
    [("collected_information", "shipping_details"), ("shipping_details",), ("shipping",)],
    ids=["since 2025", "since 2022", "before"],
)
def test_stripe_has_told_where_the_goods_go_under_three_names(names: tuple[str, ...]) -> None:
    told: Json = {"address": STRIPE_HOME}
    for name in reversed(names):
        told = {name: told}

    snapshot = stripe(**told)

    assert (dict(snapshot.customer)["address"], snapshot.country) == (KNOWN["address"], "VN")


@pytest.mark.parametrize(
    ("intent", "is_known"),
    [
        pytest.param(
            {"latest_charge": {"payment_method_details": {"type": "card", "card": {"fingerprint": "fp"}}}},
            True,
            id="the latest charge",
        ),
        pytest.param(
            {
                "charges": {
                    "data": [{"payment_method_details": {"type": "sepa_debit", "sepa_debit": {"fingerprint": "fp"}}}]
                }
            },
            True,
            id="charges, as older versions show them",
        ),
        pytest.param({"payment_method": {"type": "card", "card": {"fingerprint": "fp"}}}, True, id="the method"),
        pytest.param({"payment_method": "pm_1", "latest_charge": "ch_1"}, False, id="only named"),
        pytest.param(
            {"latest_charge": {"payment_method_details": {"type": "card", "card": {"fingerprint": None}}}},
            False,
            id="no fingerprint",
        ),
        pytest.param(
            {"latest_charge": {"payment_method_details": {"type": ["card"]}}, "charges": {"data": [5]}},
            False,
            id="of any shape",
        ),
    ],
)
def test_a_card_is_known_where_stripe_shows_the_payment_whole(intent: Json, is_known: bool) -> None:
    assert ("payment" in dict(stripe(payment_intent={"id": "pi_1", **intent}).customer)) is is_known


def test_the_body_of_a_payment_at_shopify_holds_no_card_that_could_be_recognised() -> None:
    details = {"credit_card_bin": "453600", "credit_card_number": "•••• •••• •••• 4242", "credit_card_company": "Visa"}

    assert "payment" not in dict(shopify(payment_details=details).customer)


def test_what_tiktok_masks_is_not_compared() -> None:
    buyer = {
        "email": "l***@example.com",
        "phone": "(+84)912*****78",
        "country": "VN",
        "address": {"line1": "1* L** ***", "city": "Hồ Chí Minh"},
    }

    assert generic(customer=buyer).customer == ()


@pytest.mark.parametrize("nothing", [None, 5, "x", [], True, {"country_code": 5, "address1": ["x"], "phone": {}}])
def test_no_address_of_any_shape_keeps_an_order_out(nothing: object) -> None:
    told = {"shipping_address": nothing, "billing_address": nothing}

    assert [of(**told, phone=None).country for of in (shopify, haravan)] == ["", ""]
    assert woocommerce(shipping=nothing, billing=nothing).country == ""
    assert stripe(shipping=nothing, shipping_details=nothing, collected_information=nothing).country == "CA"


# What was paid without money.


@pytest.mark.parametrize(
    ("changes", "virtual"),
    [
        pytest.param({}, 0, id="by card"),
        pytest.param({"payment_gateway_names": ["gift_card"]}, 6375, id="a gift card paid for all"),
        pytest.param({"payment_gateway_names": ["shopify_store_credit", "gift_card"]}, 6375, id="card and credit"),
        pytest.param({"payment_gateway_names": ["gift_card"], "financial_status": "pending"}, 0, id="not paid yet"),
        pytest.param({"payment_gateway_names": ["gift_card", "shopify_payments"]}, 0, id="nobody says how much"),
        pytest.param({"payment_gateway_names": []}, 0, id="no gateway"),
        pytest.param({"payment_gateway_names": [5, ["gift_card"]]}, 0, id="no names"),
    ],
)
def test_shopify_names_gateways_and_only_all_of_them_together_tell(changes: Json, virtual: int) -> None:
    snapshot = shopify(**changes)

    assert (snapshot.virtual_minor, snapshot.goods_minor) == (virtual, 6375)


def a_transaction(amount: str = "13.77", **changes: Any) -> Json:
    plain = {"kind": "sale", "status": "success", "gateway": "gift_card", "amount": amount, "currency": "USD"}
    return plain | changes


@pytest.mark.parametrize(
    ("transactions", "virtual"),
    [
        # 13.77 of 63.75 goods and 5.10 tax; a gift card that was sold is no goods.
        pytest.param([a_transaction(), a_transaction("84.08", gateway="shopify_payments")], 1275, id="its goods' part"),
        pytest.param([a_transaction("90.00"), a_transaction("90.00")], 6375, id="at most all goods"),
        pytest.param([a_transaction(kind="capture", gateway="shopify_store_credit")], 1275, id="store credit"),
        pytest.param([a_transaction(kind="authorization")], 0, id="only reserved"),
        pytest.param([a_transaction(kind="refund")], 0, id="given back"),
        pytest.param([a_transaction(status="failure")], 0, id="failed"),
        pytest.param([a_transaction(currency="CAD")], 0, id="in the buyer's currency"),
        pytest.param([a_transaction(currency=["USD"])], 0, id="in no currency"),
        pytest.param([a_transaction(currency=None)], 1275, id="the shop's currency goes without saying"),
    ],
)
def test_transactions_tell_what_a_gift_card_paid(transactions: list[Json], virtual: int) -> None:
    snapshot = shopify(transactions=transactions, payment_gateway_names=["gift_card"])

    assert snapshot.virtual_minor == virtual


@pytest.mark.parametrize(
    ("changes", "settings", "virtual"),
    [
        pytest.param({}, {}, 0, id="by card"),
        # 3.30 of 30.00 goods and 3.00 tax.
        pytest.param({"gift_cards": [{"id": 1, "code": "x", "amount": 3.3}]}, {}, 300, id="WooCommerce Gift Cards"),
        pytest.param({"gift_cards": [{"amount": "2.20"}, {"amount": "1.10"}, {}, 5]}, {}, 300, id="several"),
        pytest.param({"gift_cards": {"x": 3}}, {}, 0, id="of another plugin"),
        pytest.param({"fee_lines": [{"name": "Via Wallet", "total": "-3.30"}]}, {}, 300, id="a negative fee"),
        pytest.param(
            {"fee_lines": [{"name": "Via Wallet", "total": "-3.00", "total_tax": "-0.30"}]}, {}, 300, id="and its tax"
        ),
        pytest.param({"fee_lines": [{"name": "Bulk", "total": "-3.30"}]}, {}, 0, id="a discount"),
        pytest.param(
            {"fee_lines": [{"name": "Điểm thưởng", "total": "-3.30"}]},
            {"gift_card_fee_names": ["điểm"]},
            300,
            id="points in the shop's own words",
        ),
        pytest.param(
            {"coupon_lines": [{"code": "GC", "discount": "2.00", "discount_type": "gift_card"}]},
            {},
            200,
            id="a coupon that is money",
        ),
        pytest.param(
            {"coupon_lines": [{"code": "ANN", "discount": "2.00", "discount_type": "percent"}]}, {}, 0, id="a discount"
        ),
        pytest.param({"gift_cards": [{"amount": "99.00"}]}, {}, 3000, id="at most all goods"),
    ],
)
def test_woocommerce_tells_what_gift_cards_paid_in_three_ways(changes: Json, settings: Json, virtual: int) -> None:
    assert woocommerce(settings, **changes).virtual_minor == virtual


def test_a_coupon_that_is_money_is_no_discount_but_virtual_payment() -> None:
    coupons = [{"code": "GC", "discount": "2.00", "discount_type": "gift_card"}]

    as_money = woocommerce(coupon_lines=coupons)
    as_discount = woocommerce({"gift_card_coupon_types": []}, coupon_lines=coupons)

    assert (as_money.goods_minor, as_money.virtual_minor) == (3200, 200)
    assert (as_discount.goods_minor, as_discount.virtual_minor) == (3000, 0)


def test_the_generic_format_tells_it_as_goods() -> None:
    assert generic(virtual_payment="12.50").virtual_minor == 1250
    assert generic(virtual_payment=None).virtual_minor == 0
