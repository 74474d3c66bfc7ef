"""Haravan's webhooks: Shopify's shape with amounts as JSON numbers, cash on delivery, and pieces given back."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
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
from tests.domain.strategies import examples
from tests.support.webhooks import READING, RUBBISH, as_bytes, body_of, mutated, outcome, raw_body

ADAPTER = ADAPTERS[Platform.HARAVAN]
SECRET = b"0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TOKEN = "a-token-of-ours-0123"  # no secret of anybody

PLACED = "orders_create_cash_on_delivery"
DONE = "orders_updated_paid_delivered_refunded"
ALONE = "refunds_create_pieces"


def read(body: object, topic: str = "orders/updated", **settings: Any) -> Translation:
    return ADAPTER.translate(Delivery("d-1", topic, as_bytes(body)), replace(READING, settings=settings))


def read_file(name: str, **changes: Any) -> Translation:
    topic = "refunds/create" if name.startswith("refunds") else "orders/updated"
    return read(body_of("haravan", name) | changes, topic)


def snapshot_of(name: str, **changes: Any) -> OrderSnapshot:
    body = read_file(name, **changes).facts[0].body
    assert isinstance(body, OrderSnapshot)
    return body


def refusal(body: object, topic: str = "orders/updated") -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(body, topic)
    return refused.value


def milestones_of(translation: Translation) -> dict[str, datetime]:
    return {fact.key: fact.body.at for fact in translation.facts if isinstance(fact.body, MilestoneFact)}


def refund_in(translation: Translation) -> Fact:
    (fact,) = (fact for fact in translation.facts if fact.kind is FactKind.REFUND)
    return fact


def headers_of(body: bytes, secret: bytes = SECRET, topic: str = "orders/create") -> dict[str, str]:
    return {
        "x-haravan-hmacsha256": base64.b64encode(hmac.new(secret, body, "sha256").digest()).decode(),
        "x-haravan-topic": topic,
        "x-haravan-shop-domain": "tra.myharavan.com",
        "x-haravan-org-id": "200000421849",
    }


def test_a_delivery_has_no_id_of_its_own_so_it_goes_by_topic_and_body() -> None:
    delivery = ADAPTER.verify(SECRET, headers_of(b"{}"), b"{}", NOW)

    assert delivery == Delivery(
        "sha256:" + hashlib.sha256(b"orders/create.{}").hexdigest(), "orders/create", b"{}", "tra.myharavan.com"
    )
    other = ADAPTER.verify(SECRET, headers_of(b"{}", topic="orders/updated"), b"{}", NOW)
    assert other.delivery_id != delivery.delivery_id


def test_another_secret_or_body_or_none_at_all_is_refused() -> None:
    for secret, headers, body in (
        (SECRET, headers_of(b"{}", b"another"), b"{}"),
        (SECRET, headers_of(b"{}"), b"{} "),
        (SECRET, {}, b"{}"),
        (b"", headers_of(b"{}", b""), b"{}"),
    ):
        with pytest.raises(BadSignature):
            ADAPTER.verify(secret, headers, body, NOW)


def test_amounts_are_read_as_they_are_written() -> None:
    assert b"150000.0000" in raw_body("haravan", PLACED)

    # 400,000 less 10,000 on a line and 30,000 on all, spread by value.
    assert snapshot_of(PLACED).lines == (
        Line("1324848821", "TRA-XANH", 276923, "2"),
        Line("1324848822", "", 83077, "1"),
    )
    assert (snapshot_of(PLACED).total_minor, snapshot_of(PLACED).shipping_minor) == (385000, 25000)


def test_an_amount_no_float_could_hold_is_exact() -> None:
    line = body_of("haravan", PLACED)["line_items"][0] | {"quantity": 1, "price": Decimal("1.0050")}

    snapshot = snapshot_of(PLACED, currency="USD", line_items=[line], total_discounts=0)

    # As a float it is a little less, and would be rounded down.
    assert snapshot.lines[0].net_minor == 101


def test_free_carriage_is_no_discount_on_goods() -> None:
    codes = [{"amount": Decimal("30000.0000"), "code": "SHIP", "type": "shipping"}]

    assert sum(line.net_minor for line in snapshot_of(PLACED, discount_codes=codes).lines) == 390000


def test_touches_are_where_shopify_has_them() -> None:
    assert snapshot_of(PLACED).touches == (
        Touch(TouchKind.CLICK, "clk_fromTheCart"),
        Touch(TouchKind.CLICK, "clk_fromTheLandingPage"),
        Touch(TouchKind.COUPON, "lan10"),
    )


def test_cash_on_delivery_is_paid_when_the_money_is_booked() -> None:
    assert milestones_of(read_file(PLACED)) == {}
    assert milestones_of(read_file(DONE)) == {
        "paid": datetime(2026, 11, 9, 2, 0, 0, 50_000, tzinfo=UTC),
        "fulfilled": datetime(2026, 11, 3, 2, tzinfo=UTC),
        "delivered": datetime(2026, 11, 6, 9, 30, tzinfo=UTC),
    }


def test_delivered_and_not_paid_is_not_paid() -> None:
    assert set(milestones_of(read_file(DONE, financial_status="pending"))) == {"fulfilled", "delivered"}


def test_paid_without_a_capture_is_so_at_the_latest_now() -> None:
    assert milestones_of(read_file(DONE, transactions=[]))["paid"] == datetime(2026, 11, 15, 7, 36, 33, tzinfo=UTC)


def test_a_parcel_that_was_not_sent_and_one_on_its_way() -> None:
    one = body_of("haravan", DONE)["fulfillments"][0]
    cancelled, under_way = (
        one | {"status": "cancelled"},
        one | {"carrier_status_code": "delivering", "delivered_date": None},
    )

    assert "delivered" in milestones_of(read_file(DONE, fulfillments=[one, cancelled]))
    assert "delivered" not in milestones_of(read_file(DONE, fulfillments=[one, under_way]))


def test_cancelled_is_told_by_a_time_or_a_status() -> None:
    assert snapshot_of("orders_cancelled").cancelled
    assert snapshot_of(PLACED, cancelled_status="cancelled").cancelled
    assert not snapshot_of(PLACED).cancelled


def test_pieces_given_back_inside_an_order_are_worth_what_was_paid_for_each() -> None:
    fact = refund_in(read_file(DONE))

    assert (fact.key, fact.provisional) == ("1011637849", False)
    assert fact.body == RefundFact(
        "VND", datetime(2026, 11, 15, 7, 36, 32, 377_000, tzinfo=UTC), (("1324848821", 138462),), owed_minor=138462
    )


def test_a_refund_alone_counts_at_the_article_price_until_the_order_shows_it() -> None:
    alone, inside = refund_in(read_file(ALONE)), refund_in(read_file(DONE))

    assert isinstance(alone.body, RefundFact)
    assert alone.body.lines == (("1324848821", 150000),)
    assert merge(alone, inside) == merge(inside, alone) == inside


def test_money_given_back_for_no_article_is_goods_on_no_line() -> None:
    body = refund_in(read_file("refunds_create_amount_only")).body

    assert isinstance(body, RefundFact)
    assert (body.lines, body.unallocated_minor) == ((), 50000)


@pytest.mark.parametrize(
    ("status", "back"),
    [("Thành công", 50000), ("success", 50000), (None, 50000), ("pending", 50000), ("failure", 0), ("error", 0)],
)
def test_money_given_back_has_a_minus_and_counts_unless_that_failed(status: str | None, back: int) -> None:
    money = {"amount": Decimal("-50000.0000"), "kind": "refund", "status": status}
    alone = body_of("haravan", "refunds_create_amount_only") | {"transactions": [money]}
    inside = read_file(PLACED, refunds=[alone])

    assert refund_in(read(alone, "refunds/create")).body == refund_in(inside).body
    assert inside.understood["refunds"][0]["unallocated_minor"] == back


@pytest.mark.parametrize("money_back", [-138462, -158462])
def test_articles_restocked_and_paid_for_in_two_refunds_count_once(money_back: int) -> None:
    restocked = body_of("haravan", ALONE)
    paid = {"id": 1011638030, "order_id": restocked["order_id"], "created_at": "2026-11-15T07:43:05.12Z"}
    paid["transactions"] = [{"amount": money_back, "kind": "refund", "status": "Thành công"}]

    known = OrderFacts.of(read_file(PLACED, refunds=[restocked, paid]).facts)

    assert known.snapshot is not None
    left = sum(line.net_minor for line in net_lines(known.snapshot, known.all_refunds()))
    assert left == 360000 + money_back


@pytest.mark.parametrize(
    "topic", ["orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled"]
)
def test_each_order_topic_carries_the_whole_order(topic: str) -> None:
    assert read(body_of("haravan", PLACED), topic) == read_file(PLACED)


def test_other_topics_are_acknowledged_and_none_parks() -> None:
    assert read({"id": 5}, "orders/delete").order_id == "5"
    assert ADAPTER.translate(Delivery("d", "app/uninstalled", b"\xff"), READING).ignored == "topic_without_effect"
    assert refusal(body_of("haravan", PLACED), "").reason_code == "missing_topic"


@pytest.mark.parametrize(
    ("settings", "query", "answer"),
    [
        ({"verify_token": TOKEN}, {"hub.verify_token": TOKEN, "hub.challenge": "12345"}, "12345"),
        ({"verify_token": TOKEN}, {"hub.verify_token": TOKEN}, None),
        ({"verify_token": TOKEN}, {"hub.verify_token": TOKEN, "hub.challenge": "<script>"}, None),
        ({"verify_token": TOKEN}, {"hub.verify_token": TOKEN, "hub.challenge": "x" * 201}, None),
        ({"verify_token": TOKEN}, {"hub.verify_token": "another", "hub.challenge": "12345"}, None),
        ({"verify_token": TOKEN}, {"hub.verify_token": "\udcff", "hub.challenge": "12345"}, None),
        ({"verify_token": TOKEN}, {"hub.challenge": "12345"}, None),
        ({}, {"hub.verify_token": "", "hub.challenge": "12345"}, None),
        ({}, {"hub.challenge": "12345"}, None),
    ],
)
def test_a_challenge_comes_back_only_with_the_sources_own_token(
    settings: dict[str, Any], query: dict[str, str], answer: str | None
) -> None:
    assert ADAPTER.challenged is not None
    assert ADAPTER.challenged(settings, query) == answer


@pytest.mark.parametrize("settings", [{"colour": 1}, {"verify_token": "short"}, {"verify_token": 5}, {"currency": "x"}])
def test_settings_no_delivery_could_be_read_by_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        ADAPTER.check_settings(settings)


@examples(60)
@given(st.dictionaries(st.sampled_from(["verify_token", "currency"]), RUBBISH))
def test_settings_are_taken_or_refused_and_nothing_else(settings: dict[str, Any]) -> None:
    try:
        ADAPTER.check_settings(settings)
    except NotUnderstood:
        return
    assert read(body_of("haravan", PLACED), **settings).facts


BODIES = [body_of("haravan", name) for name in (PLACED, DONE, ALONE, "refunds_create_amount_only")]


@examples(250)
@given(mutated(BODIES), st.sampled_from(["orders/updated", "refunds/create", "orders/delete"]))
def test_whatever_comes_is_understood_or_parked(body: bytes, topic: str) -> None:
    made = outcome(lambda: ADAPTER.translate(Delivery("d-1", topic, body), READING))

    if isinstance(made, Translation):
        json.dumps(made.understood)
        assert bool(made.facts) != bool(made.ignored)
