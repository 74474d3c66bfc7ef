"""WooCommerce's webhooks, on bodies of our own with the habits of PHP and of plugins."""

import base64
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from itertools import permutations
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
from service.intake.adapters.woocommerce import DEFAULT_STATUSES
from service.tables.parties import Platform
from tests.domain.strategies import examples
from tests.support.webhooks import READING, RUBBISH, as_bytes, body_of, mutated, outcome

ADAPTER = ADAPTERS[Platform.WOOCOMMERCE]
SECRET = b"a secret <of> & the shop's"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

ORDER = "order_processing_tax_on_top"
TOTALS = "order_completed_refund_totals"
COD = "order_cash_on_delivery"
PLUGINS = "order_through_plugins"
LINES = "refund_created_lines"


def read(body: object, topic: str = "order.updated", **settings: Any) -> Translation:
    reading = replace(READING, settings=settings)
    return ADAPTER.translate(Delivery("d-1", topic, as_bytes(body)), reading)


def read_file(name: str, settings: dict[str, Any] | None = None, **changes: Any) -> Translation:
    topic = "refund.created" if name.startswith("refund") else "order.updated"
    return read(body_of("woocommerce", name) | changes, topic, **(settings or {}))


def refusal(body: object, topic: str = "order.updated", **settings: Any) -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(body, topic, **settings)
    return refused.value


def snapshot_of(name: str, settings: dict[str, Any] | None = None, **changes: Any) -> OrderSnapshot:
    body = read_file(name, settings, **changes).facts[0].body
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
        "x-wc-webhook-source": "https://Tea.example/shop/",
        "x-wc-webhook-topic": "order.created",
        "x-wc-webhook-resource": "order",
        "x-wc-webhook-event": "created",
        "x-wc-webhook-signature": base64.b64encode(hmac.new(secret, body, "sha256").digest()).decode(),
        "x-wc-webhook-id": "7",
        "x-wc-webhook-delivery-id": "1f2e3d4c5b6a79881f2e3d4c5b6a7988",
    }


def test_a_rightly_signed_body_is_a_delivery_of_the_shop_its_address_names() -> None:
    assert ADAPTER.verify(SECRET, headers_of(b"{}"), b"{}", NOW) == Delivery(
        "1f2e3d4c5b6a79881f2e3d4c5b6a7988", "order.created", b"{}", "tea.example"
    )


@pytest.mark.parametrize("signature", ["", "x", "äöü", "\udcff", base64.b64encode(bytes(32)).decode()])
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with pytest.raises(BadSignature):
        ADAPTER.verify(SECRET, headers_of(b"{}") | {"x-wc-webhook-signature": signature}, b"{}", NOW)


def test_another_secret_or_body_or_none_at_all_is_refused() -> None:
    for secret, headers, body in (
        (SECRET, headers_of(b"{}", b"another"), b"{}"),
        (SECRET, headers_of(b"{}"), b"{} "),
        (SECRET, {}, b"{}"),
        (b"", headers_of(b"{}", b""), b"{}"),
    ):
        with pytest.raises(BadSignature):
            ADAPTER.verify(secret, headers, body, NOW)


@pytest.mark.parametrize(
    ("headers", "body", "is_ping"),
    [
        ({}, b"webhook_id=7", True),
        ({"content-type": "application/x-www-form-urlencoded"}, b"webhook_id=12345678901234567890", True),
        ({}, b"webhook_id=7&id=1", False),
        ({}, b"webhook_id=", False),
        ({}, b"webhook_id=7\n", False),
        ({}, b'{"id": 7}', False),
        ({}, b"", False),
        ({"x-wc-webhook-signature": ""}, b"webhook_id=7", False),
    ],
)
def test_a_ping_says_nothing_but_the_number_of_a_webhook(headers: dict[str, str], body: bytes, is_ping: bool) -> None:
    assert ADAPTER.is_ping(headers, body) is is_ping


# Orders


def test_line_totals_are_after_coupons_and_without_tax() -> None:
    snapshot = snapshot_of(ORDER)

    assert snapshot.lines == (Line("311", "SERUM-30", 1800, "2"), Line("313", "MASK-5", 1200, "1"))
    assert (snapshot.total_minor, snapshot.tax_minor, snapshot.shipping_minor, snapshot.discount_minor) == (
        3700,
        300,
        400,
        200,
    )


def test_whether_prices_hold_tax_changes_no_line() -> None:
    assert snapshot_of(ORDER, prices_include_tax=True) == snapshot_of(ORDER)


def test_times_are_utc_though_they_do_not_say_so() -> None:
    (order, *_) = read_file(ORDER).facts

    assert order.version_at == datetime(2026, 11, 2, 3, 15, 45, tzinfo=UTC)
    assert snapshot_of(ORDER).placed_at == datetime(2026, 11, 2, 3, 15, 30, tzinfo=UTC)
    assert refusal(body_of("woocommerce", ORDER) | {"date_modified_gmt": None}).detail.startswith("date_modified_gmt")


def test_clicks_come_from_meta_data_by_name_then_from_the_address_the_visit_began_with_then_codes() -> None:
    assert snapshot_of(ORDER).touches == (
        Touch(TouchKind.CLICK, "clk_fromTheCart"),
        Touch(TouchKind.CLICK, "clk_fromTheLandingPage"),
        Touch(TouchKind.COUPON, "ann10"),
    )


@pytest.mark.parametrize("meta", [None, [], {}, "", "x", 5, [None, 1, "x", {}, {"key": 5}, {"key": "a", "value": {}}]])
def test_meta_data_of_any_shape_is_no_click(meta: object) -> None:
    assert snapshot_of(ORDER, meta_data=meta).touches == (Touch(TouchKind.COUPON, "ann10"),)


def test_a_code_written_with_entities_is_the_code() -> None:
    coupons = [{"id": 1, "code": "tea&amp;cup", "discount": "1.00"}]

    assert read_file(ORDER, coupon_lines=coupons).understood["coupon_codes"] == ["tea&cup"]


def test_a_guest_has_no_account() -> None:
    assert [kind for kind, _ in snapshot_of(ORDER).customer] == ["email", "id", "phone"]
    for nobody in (0, "0", None, False):
        assert [kind for kind, _ in snapshot_of(ORDER, customer_id=nobody).customer] == ["email", "phone"]


def test_what_php_and_plugins_do_to_a_body_is_read_through() -> None:
    snapshot = snapshot_of(PLUGINS)

    # 17.99 and 10.51 under one id, and a toy of 28.00 of which a gift card paid 10.00; less 4.65 by value.
    assert snapshot.lines == (
        Line("331", "104215", 2615, "1.833333"),
        Line("332", "CARD-25", 2500, "1", goods=False),
        Line("333", "TOY", 2570, "1"),
    )
    assert snapshot.touches == (Touch(TouchKind.CLICK, "clk_underAnUnderscore"),)
    assert snapshot.total_minor == 6150


@pytest.mark.parametrize("nothing", [False, None, [], {}])
def test_what_nothing_hangs_on_keeps_no_order_out(nothing: object) -> None:
    body = body_of("woocommerce", ORDER)
    body["billing"] |= {"email": nothing, "phone": nothing}
    body["line_items"][0]["sku"] = nothing

    translation = read(body | {"number": nothing, "customer_id": nothing, "payment_method": nothing})

    assert (translation.understood["customer"], translation.understood["number"]) == ([], translation.order_id)
    assert translation.understood["goods_minor"] == read_file(ORDER).understood["goods_minor"]


def test_a_refund_that_names_a_repeated_line_lands_on_all_of_it() -> None:
    snapshot = snapshot_of(PLUGINS)

    left = net_lines(snapshot, {"r": RefundFact("USD", NOW, (("331", 2000),))})

    assert [line.net_minor for line in left] == [615, 2570]


def test_lines_under_one_id_are_one_line_in_whatever_order_they_come() -> None:
    lines = list(body_of("woocommerce", PLUGINS)["line_items"].values())

    made = {snapshot_of(PLUGINS, line_items=list(some)).lines for some in permutations(lines)}

    assert len({frozenset(lines) for lines in made}) == 1


@pytest.mark.parametrize(
    ("changes", "settings", "net"),
    [
        pytest.param({}, {}, [1800, 1200], id="nothing taken off"),
        pytest.param({"fee_lines": [{"name": "Bulk", "total": "-3.00"}]}, {}, [1620, 1080], id="a discount"),
        pytest.param({"fee_lines": [{"name": "Via Wallet", "total": "-3.00"}]}, {}, [1800, 1200], id="a wallet pays"),
        pytest.param(
            {"fee_lines": [{"name": "Thẻ quà tặng", "total": "-3.00"}]},
            {"gift_card_fee_names": ["Thẻ quà"]},
            [1800, 1200],
            id="a gift card in the shop's own words",
        ),
        pytest.param({"fee_lines": [{"name": "x", "total": "-99.00"}]}, {}, [0, 0], id="more than there is"),
        pytest.param(
            {"fee_lines": [{"name": "Wrapping", "total": "3.00"}]}, {}, [1800, 1200], id="a fee earns nothing"
        ),
        pytest.param(
            {"gift_cards": [{"code": "x", "amount": 9}], "total": "28.00"}, {}, [1800, 1200], id="paid by card"
        ),
        pytest.param(
            {"coupon_lines": [{"code": "GC", "discount": "2.00", "discount_type": "gift_card"}]},
            {},
            [2000, 1200],
            id="a card that looks like a coupon",
        ),
        pytest.param(
            {"coupon_lines": [{"code": "GC", "discount": "2.00", "discount_type": "own_credit"}]},
            {"gift_card_coupon_types": ["OWN_credit"]},
            [2000, 1200],
            id="a kind the shop names",
        ),
        pytest.param(
            {
                "coupon_lines": [
                    {
                        "code": "GC",
                        "discount": "50.00",
                        "meta_data": [{"key": "coupon_data", "value": {"discount_type": "smart_coupon"}}],
                    }
                ]
            },
            {},
            [2000, 1200],
            id="no more than coupons took off",
        ),
    ],
)
def test_what_lowers_the_goods_and_what_only_pays_for_them(
    changes: dict[str, Any], settings: dict[str, Any], net: list[int]
) -> None:
    assert [line.net_minor for line in snapshot_of(ORDER, settings, **changes).lines] == net


def test_the_number_of_a_gift_card_is_no_coupon_code() -> None:
    assert read_file(PLUGINS).understood["coupon_codes"] == []


# Statuses


@pytest.mark.parametrize(
    ("status", "reached", "cancelled"),
    [
        ("pending", [], False),
        ("on-hold", [], False),
        ("checkout-draft", [], False),
        ("processing", ["paid"], False),
        ("wc-processing", ["paid"], False),
        ("completed", ["paid", "fulfilled", "completed"], False),
        ("cancelled", [], True),
        ("failed", [], True),
        ("trash", [], True),
        ("refunded", ["paid"], True),
    ],
)
def test_a_status_shows_what_the_order_has_reached(status: str, reached: list[str], cancelled: bool) -> None:
    translation = read_file(ORDER, status=status, date_paid_gmt=None)

    assert list(milestones_of(translation)) == reached
    assert translation.understood["cancelled"] is cancelled


def test_every_status_of_woocommerce_has_a_case_above_or_is_a_draft() -> None:
    assert set(DEFAULT_STATUSES) - {"draft", "auto-draft"} == {
        "pending", "on-hold", "checkout-draft", "processing", "completed", "cancelled", "failed", "trash", "refunded"
    }  # fmt: skip


def test_milestones_are_dated_by_the_shop_or_by_the_first_version_that_shows_them() -> None:
    assert milestones_of(read_file(TOTALS)) == {
        "paid": datetime(2026, 11, 2, 3, 15, 44, tzinfo=UTC),
        "fulfilled": datetime(2026, 11, 6, 5, tzinfo=UTC),
        "completed": datetime(2026, 11, 6, 5, tzinfo=UTC),
    }
    assert milestones_of(read_file(ORDER, date_paid_gmt=""))["paid"] == datetime(2026, 11, 2, 3, 15, 45, tzinfo=UTC)


def test_a_refunded_order_whose_refunds_are_listed_is_explained_by_them() -> None:
    assert not snapshot_of(TOTALS, status="refunded").cancelled


def test_cash_on_delivery_is_paid_when_it_is_completed_and_not_when_it_is_placed() -> None:
    assert milestones_of(read_file(COD)) == {}
    done = milestones_of(read_file(COD, status="completed", date_completed_gmt="2026-11-09T04:00:00"))
    assert done == dict.fromkeys(("paid", "fulfilled", "completed"), datetime(2026, 11, 9, 4, tzinfo=UTC))
    assert set(milestones_of(read_file(COD, {"paid_on_completion": []}))) == {"paid"}


def test_the_shops_own_statuses_are_set_per_source_and_park_until_they_are() -> None:
    body = body_of("woocommerce", COD) | {"status": "shipped"}

    assert refusal(body).reason_code == "unknown_status"
    assert set(milestones_of(read(body, statuses={"wc-shipped": "fulfilled"}))) == {"fulfilled"}
    assert set(milestones_of(read(body, statuses={"shipped": ["paid", "fulfilled"]}))) == {"paid", "fulfilled"}
    assert read(body, statuses={"shipped": "cancelled"}).understood["cancelled"]
    assert milestones_of(read_file(ORDER, {"statuses": {"processing": "unpaid"}}, date_paid_gmt=None)) == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"colour": "blue"},
        {"statuses": []},
        {"statuses": {"shipped": "sent"}},
        {"statuses": {"shipped": []}},
        {"statuses": {"shipped": ["paid", "cancelled"]}},
        {"statuses": {"no status": "paid"}},
        {"statuses": {"shipped": [1]}},
        {"currency": "dong"},
        {"currency": 5},
        {"paid_on_completion": "cod"},
        {"gift_card_fee_names": [""]},
        {"gift_card_fee_names": ["a\0b"]},
        {"gift_card_coupon_types": [5]},
    ],
)
def test_settings_no_body_could_be_read_by_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        ADAPTER.check_settings(settings)


@examples(100)
@given(st.dictionaries(st.sampled_from(["statuses", "currency", "paid_on_completion", "gift_card_fee_names"]), RUBBISH))
def test_settings_are_taken_or_refused_and_nothing_else(settings: dict[str, Any]) -> None:
    try:
        ADAPTER.check_settings(settings)
    except NotUnderstood:
        return
    assert read_file(ORDER, settings).facts


# Refunds


def test_an_order_shows_refunds_by_their_totals_which_count_for_now() -> None:
    refunds = {fact.key: fact for fact in read_file(TOTALS).facts if fact.kind is FactKind.REFUND}

    # 9.90 with the tax the goods bear is 9.00 of goods; of 4.00 nobody knows yet that it was carriage.
    assert {key: fact.body for key, fact in refunds.items()} == {
        "5101": RefundFact("USD", datetime(2026, 11, 20, 8, tzinfo=UTC), unallocated_minor=900),
        "5102": RefundFact("USD", datetime(2026, 11, 20, 8, tzinfo=UTC), unallocated_minor=364),
    }
    assert all(fact.provisional for fact in refunds.values())
    assert [refund["provisional"] for refund in read_file(TOTALS).understood["refunds"]] == [True, True]


def test_the_refunds_own_resource_names_the_line_by_the_article_it_gave_back() -> None:
    (fact,) = read_file(LINES).facts

    assert (fact.key, fact.provisional) == ("5101", False)
    assert fact.body == RefundFact("USD", datetime(2026, 11, 10, 5, tzinfo=UTC), (("311", 900),))
    assert read_file(LINES).order_id == "5001"


def test_a_refund_of_carriage_alone_is_a_fact_since_it_takes_the_place_of_its_total() -> None:
    (fact,) = read_file("refund_created_shipping_only").facts

    assert isinstance(fact.body, RefundFact)
    assert (fact.body.goods_minor, fact.provisional) == (0, False)


def test_an_amount_without_any_line_is_goods_with_their_tax_on_no_line() -> None:
    (fact,) = read_file("refund_created_amount_only").facts

    assert fact.provisional
    assert fact.body == RefundFact("USD", datetime(2026, 11, 10, 5, tzinfo=UTC), gross_minor=500)


@pytest.mark.parametrize("modified_at", ["2026-11-10T04:59:59", "2026-11-10T05:00:00", "2026-11-10T05:00:01"])
def test_an_amount_without_any_line_takes_the_same_goods_alone_and_inside_its_order(modified_at: str) -> None:
    alone = body_of("woocommerce", "refund_created_amount_only")
    order = body_of("woocommerce", ORDER) | {
        "date_modified_gmt": modified_at,
        "refunds": [{"id": alone["id"], "total": "-5.00"}],
        "total_tax": "4.00",
        "shipping_tax": "1.00",
    }
    of_order, inside = (fact for fact in read(order).facts if fact.kind is not FactKind.MILESTONE)
    (of_refund,) = read(alone, "refund.created").facts
    assert isinstance(of_order.body, OrderSnapshot)

    left = set()
    for told in (inside, of_refund, merge(inside, of_refund)):
        assert isinstance(told.body, RefundFact)
        left.add(sum(line.net_minor for line in net_lines(of_order.body, {told.key: told.body})))

    assert left == {of_order.body.goods_minor - 455}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_in_whatever_order_they_come_the_lines_count_and_not_the_totals(order: tuple[int, ...]) -> None:
    told = [read_file(TOTALS), read_file(LINES), read_file("refund_created_shipping_only")]
    known: dict[tuple[FactKind, str], Fact] = {}
    for place in (*order, 0):
        for fact in told[place].facts:
            key = (fact.kind, fact.key)
            known[key] = reduce(merge, [known[key], fact]) if key in known else fact

    facts = OrderFacts.of(known.values())

    assert facts.snapshot is not None
    assert [line.net_minor for line in net_lines(facts.snapshot, facts.refunds)] == [900, 1200]


@pytest.mark.parametrize(
    ("changes", "order_id"),
    [
        pytest.param({}, "5001", id="parent_id"),
        pytest.param({"parent_id": 0, "order_id": "77"}, "77", id="order_id"),
        pytest.param({"parent_id": None}, "5001", id="the address it is found under"),
    ],
)
def test_a_refund_says_in_several_ways_whose_it_is(changes: dict[str, Any], order_id: str) -> None:
    assert read_file(LINES, **changes).order_id == order_id


def test_a_refund_of_nobodys_order_parks() -> None:
    assert refusal(body_of("woocommerce", LINES) | {"parent_id": 0, "_links": []}, "refund.created").reason_code == (
        "missing_field"
    )


def test_a_refund_without_currency_takes_that_of_the_settings_or_parks() -> None:
    body = body_of("woocommerce", LINES)
    del body["currency"]

    assert refusal(body, "refund.created").reason_code == "unknown_currency"
    assert read(body, "refund.created", currency="USD") == read_file(LINES)


def test_amounts_of_a_refund_come_with_a_minus_or_without() -> None:
    body = body_of("woocommerce", LINES)
    body["line_items"][0] |= {"total": 9, "total_tax": Decimal("0.90"), "quantity": 1}

    assert read(body | {"amount": -9.9}, "refund.created") == read_file(LINES)


def test_an_article_that_names_no_line_and_money_beyond_all_lines_are_on_no_line() -> None:
    body = body_of("woocommerce", LINES)
    body["line_items"][0]["meta_data"] = []

    refund = read(body | {"amount": "12.90"}, "refund.created").understood["refunds"][0]

    assert (refund["lines"], refund["unallocated_minor"], refund["gross_minor"]) == ([], 900, 300)


# Topics


@pytest.mark.parametrize("topic", ["order.created", "order.updated", "order.restored", "action.my_plugin_order"])
def test_each_order_topic_carries_the_whole_order(topic: str) -> None:
    assert read(body_of("woocommerce", ORDER), topic) == read_file(ORDER)


def test_a_deleted_order_is_acknowledged_and_changes_nothing() -> None:
    translation = read(body_of("woocommerce", "order_deleted"), "order.deleted")

    assert (translation.order_id, translation.ignored) == ("5001", "topic_without_effect")


def test_an_action_that_names_an_order_alone_is_acknowledged() -> None:
    translation = read({"action": "woocommerce_order_refunded", "arg": 5001}, "action.woocommerce_order_refunded")

    assert (translation.order_id, translation.ignored) == ("5001", "topic_without_effect")


@pytest.mark.parametrize("topic", ["product.updated", "customer.created", "coupon.deleted"])
def test_topics_that_are_no_orders_are_acknowledged_unread(topic: str) -> None:
    assert ADAPTER.translate(Delivery("d-1", topic, b"\xff"), READING).ignored == "topic_without_effect"


def test_a_delivery_without_topic_parks_and_so_does_an_error_of_the_shops_own() -> None:
    assert refusal(body_of("woocommerce", ORDER), "").reason_code == "missing_topic"
    error = {"code": "woocommerce_rest_cannot_view", "message": "Sorry", "data": {"status": 401}}
    assert refusal(error).reason_code == "shop_error"


def test_the_body_names_its_shop() -> None:
    assert read_file(ORDER).shop_domain == read_file(LINES).shop_domain == "tea.example"
    assert read_file(ORDER, _links={"self": [{"href": "http://[::1"}]}).shop_domain == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "missing_field"),
        ({"currency": "dong"}, "unknown_currency"),
        ({"status": None}, "missing_field"),
        ({"status": "nobody-knows"}, "unknown_status"),
        ({"line_items": None}, "missing_field"),
        ({"line_items": "x"}, "invalid_field"),
        ({"line_items": [{"id": 1, "total": "much"}]}, "invalid_amount"),
        ({"line_items": [{"id": 1}]}, "missing_field"),
        ({"line_items": [{"total": "1.00"}]}, "missing_field"),
        ({"line_items": [{"id": 1, "total": "1.00", "quantity": "two"}]}, "invalid_field"),
        ({"line_items": [{"id": 1, "total": "999999999999999999"}]}, "invalid_amount"),
        ({"refunds": [{"total": "-1.00"}]}, "missing_field"),
        ({"date_created_gmt": "yesterday"}, "invalid_field"),
        ({"coupon_lines": [{"code": f"c{n}"} for n in range(60)]}, "too_many"),
        ({"meta_data": [{"key": "koc_click", "value": f"clk_{n}"} for n in range(60)]}, "too_many"),
    ],
)
def test_what_cannot_be_read_parks_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    assert refusal(body_of("woocommerce", ORDER) | changes).reason_code == reason


BODIES = [body_of("woocommerce", name) for name in (ORDER, TOTALS, COD, PLUGINS, LINES)]


@examples(300)
@given(mutated(BODIES), st.sampled_from(["order.updated", "refund.created", "action.x", "order.deleted"]))
def test_whatever_comes_is_understood_or_parked(body: bytes, topic: str) -> None:
    made = outcome(lambda: ADAPTER.translate(Delivery("d-1", topic, body), READING))

    if isinstance(made, Translation):
        json.dumps(made.understood)
        assert bool(made.facts) != bool(made.ignored)
