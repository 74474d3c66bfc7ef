"""TikTok Shop's notices: signed without a time, thin, and waiting for their order."""

import hashlib
import json
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.order import (
    CancellationFact,
    Fact,
    FactKind,
    HoldFact,
    MilestoneFact,
    OrderFacts,
    merge,
)
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import BadSignature, Delivery, NotUnderstood, Translation
from service.tables.parties import Platform
from tests.support.payment_events import TIKTOK_SECRET, Json, a_notice, tiktok_headers
from tests.support.webhooks import READING, as_bytes, mutated, outcome

ADAPTER = ADAPTERS[Platform.TIKTOK_SHOP]
SECRET = TIKTOK_SECRET.encode()
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
ORDER = "576486316948490001"
RETURN = "4035227007538690001"
AT = datetime.fromtimestamp(1793870400, UTC)


def read(notice: object) -> Translation:
    return ADAPTER.translate(Delivery("n-1", "", as_bytes(notice)), READING)


def refusal(notice: object) -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(notice)
    return refused.value


def hold_of(notice: Json) -> HoldFact:
    (fact,) = read(notice).facts
    assert isinstance(fact.body, HoldFact)
    return fact.body


def is_held(*notices: Json) -> bool:
    merged: dict[tuple[FactKind, str], Fact] = {}
    for notice in notices:
        for fact in read(notice).facts:
            key = (fact.kind, fact.key)
            merged[key] = merge(merged[key], fact) if key in merged else fact
    return bool(OrderFacts.of(merged.values()).open_holds)


# Signatures.


def test_the_signature_of_another_hand_verifies() -> None:
    # printf '%s' 'key{"type":1}' | openssl dgst -sha256 -hmac secret
    mac = "cfaf01c9f68bb1dc102fb048b8ce09bc5dd19573fbbce648e675260f0f9f96d4"

    assert ADAPTER.verify(b"key:secret", {"authorization": mac}, b'{"type":1}', NOW).topic == "1"


def test_a_delivery_has_the_id_topic_and_shop_of_its_notice() -> None:
    body = as_bytes(a_notice())

    assert ADAPTER.verify(SECRET, tiktok_headers(body), body, NOW) == Delivery(
        "7327112393057371910", "1", body, "7494049642642441621"
    )


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"tts_notification_id": ["x"], "type": "a b"}', b"\xff"])
def test_without_a_usable_id_the_body_is_its_own_id(body: bytes) -> None:
    delivery = ADAPTER.verify(SECRET, tiktok_headers(body), body, NOW)

    assert delivery == Delivery("sha256:" + hashlib.sha256(body).hexdigest(), "", body)


@pytest.mark.parametrize("given_value", ["", "x", "äöü", "\udcff", hashlib.sha256(b"{}").hexdigest()])
def test_a_wrong_signature_is_refused(given_value: str) -> None:
    with pytest.raises(BadSignature):
        ADAPTER.verify(SECRET, {"authorization": given_value}, b"{}", NOW)


def test_the_signature_is_lower_case_and_bare() -> None:
    good = tiktok_headers(b"{}")["authorization"]

    for given_value in (good.upper(), f"Bearer {good}", f" {good}", good[:-1]):
        with pytest.raises(BadSignature):
            ADAPTER.verify(SECRET, {"authorization": given_value}, b"{}", NOW)


@pytest.mark.parametrize("secret", [b"", b":", b"key:", b":secret", b"only-a-secret"])
def test_with_half_a_secret_nothing_verifies(secret: bytes) -> None:
    with pytest.raises(BadSignature):
        ADAPTER.verify(secret, tiktok_headers(b"{}", secret=secret.decode()), b"{}", NOW)


def test_another_secret_key_or_body_is_refused() -> None:
    headers = tiktok_headers(b"{}")
    for secret, body in (
        (b"6aexampleKey:another", b"{}"),
        (b"another:" + SECRET.partition(b":")[2], b"{}"),
        (SECRET, b""),
    ):
        with pytest.raises(BadSignature):
            ADAPTER.verify(secret, headers, body, NOW)


def test_a_new_secret_is_random_and_whole() -> None:
    assert len({ADAPTER.new_secret() for _ in range(20)}) == 20
    secret = ADAPTER.new_secret()
    body = b"{}"
    assert ADAPTER.verify(secret.encode(), tiktok_headers(body, secret=secret), body, NOW).body == body


# Statuses.


@pytest.mark.parametrize(
    ("status", "reached"),
    [
        ("IN_TRANSIT", {"fulfilled"}),
        ("DELIVERED", {"fulfilled", "paid", "delivered"}),
        ("COMPLETED", {"fulfilled", "paid", "delivered", "completed"}),
    ],
)
def test_a_status_shows_what_was_reached_at_the_latest(status: str, reached: set[str]) -> None:
    translation = read(a_notice(order_status=status))

    assert translation.order_id == ORDER
    assert {fact.key for fact in translation.facts} == reached
    assert {fact.body for fact in translation.facts} == {MilestoneFact(AT)}
    assert set(translation.understood["milestones"]) == {f"{each}_at" for each in reached}


@pytest.mark.parametrize(
    "status", ["UNPAID", "ON_HOLD", "AWAITING_SHIPMENT", "PARTIALLY_SHIPPING", "AWAITING_COLLECTION"]
)
def test_a_status_before_the_parcel_left_reaches_nothing(status: str) -> None:
    translation = read(a_notice(order_status=status))

    assert (translation.order_id, translation.facts, translation.ignored) == (ORDER, (), "no_milestone")


def test_a_cancelled_order_is_cancelled_for_good() -> None:
    (fact,) = read(a_notice(order_status="CANCELLED")).facts

    assert (fact.kind, fact.key, fact.body) == (FactKind.CANCELLATION, "", CancellationFact(AT))


def test_times_may_be_texts_and_where_there_is_none_the_notices_own_counts() -> None:
    assert read(a_notice(update_time="1793870400")) == read(a_notice())
    assert read(a_notice(update_time=..., at=1793870400)) == read(a_notice())


def test_a_status_nobody_knows_parks() -> None:
    assert refusal(a_notice(order_status="LOST_AT_SEA")).reason_code == "unknown_status"


# Requests.


@pytest.mark.parametrize(
    ("status", "is_open"),
    [
        ("RETURN_OR_REFUND_REQUEST_PENDING", True),
        ("AWAITING_BUYER_SHIP", True),
        ("BUYER_SHIPPED_ITEM", True),
        ("REJECT_RECEIVE_PACKAGE", True),
        ("RETURN_OR_REFUND_REQUEST_SUCCESS", True),
        ("RETURN_OR_REFUND_REQUEST_COMPLETE", True),
        ("SOMETHING_NEW", True),
        ("REFUND_OR_RETURN_REQUEST_REJECT", False),
        ("RETURN_OR_REFUND_REQUEST_CANCEL", False),
    ],
)
def test_a_return_holds_the_order_until_its_refund_is_told_or_it_comes_to_nothing(status: str, is_open: bool) -> None:
    (fact,) = read(a_notice("return", return_status=status)).facts

    assert (fact.kind, fact.key) == (FactKind.HOLD, f"refund:{RETURN}")
    assert hold_of(a_notice("return", return_status=status)) == HoldFact(
        datetime.fromtimestamp(1793956800, UTC),
        status.lower(),
        None if is_open else datetime.fromtimestamp(1793956810, UTC),
    )


def test_a_replacement_that_is_complete_gives_no_money_back() -> None:
    complete = a_notice("return", return_type="REPLACEMENT", return_status="RETURN_OR_REFUND_REQUEST_COMPLETE")

    assert not is_held(complete)
    assert is_held(a_notice("return", return_type="REPLACEMENT"))


@pytest.mark.parametrize("status", ["CANCELLATION_REQUEST_CANCEL", "CANCELLATION_REQUEST_CANCELLED"])
def test_a_request_to_cancel_holds_until_it_is_withdrawn(status: str) -> None:
    asked = a_notice("cancellation")
    withdrawn = a_notice("cancellation", cancel_status=status, at=1793880000)

    assert is_held(asked)
    assert not is_held(asked, withdrawn)
    assert not is_held(withdrawn, asked)
    assert is_held(a_notice("cancellation", cancel_status="CANCELLATION_REQUEST_COMPLETE"))


def test_notices_of_one_return_come_to_the_same_in_any_order() -> None:
    story = [
        a_notice("return", at=1793956810),
        a_notice("return", return_status="REFUND_OR_RETURN_REQUEST_REJECT", at=1793956900),
        a_notice("return", return_status="RETURN_OR_REFUND_REQUEST_COMPLETE", at=1793957000),
    ]

    assert {is_held(*order) for order in permutations(story)} == {True}
    assert {is_held(*order) for order in permutations(story[:2])} == {False}


def test_a_released_hold_wins_within_one_second() -> None:
    ends = a_notice("return", return_status="RETURN_OR_REFUND_REQUEST_CANCEL")

    assert not is_held(ends, a_notice("return"))
    assert not is_held(a_notice("return"), ends)


# Other notices.


@pytest.mark.parametrize("kind", [2, 3, 4, 5, 6, 7, 36, 10**30, "64"])
def test_topics_that_change_no_commission_are_acknowledged_unread(kind: object) -> None:
    translation = read({"type": kind})

    assert (translation.order_id, translation.facts, translation.ignored) == ("", (), "topic_without_effect")


@pytest.mark.parametrize(
    ("notice", "reason", "path"),
    [
        ({}, "missing_field", "type"),
        ({"type": "order"}, "invalid_field", "type"),
        (a_notice() | {"type": True}, "invalid_field", "type"),
        (a_notice() | {"timestamp": None}, "missing_field", "timestamp"),
        (a_notice() | {"timestamp": 1793870405000}, "invalid_field", "timestamp"),
        (a_notice() | {"data": None}, "missing_field", "data"),
        (a_notice() | {"data": "x"}, "invalid_field", "data"),
        (a_notice(order_id=...), "missing_field", "data.order_id"),
        (a_notice(order_id={}), "invalid_field", "data.order_id"),
        (a_notice(order_status=...), "missing_field", "data.order_status"),
        (a_notice(order_status=3), "invalid_field", "data.order_status"),
        (a_notice(order_status="in transit"), "invalid_field", "data.order_status"),
        (a_notice(update_time="now"), "invalid_field", "data.update_time"),
        (a_notice("cancellation", cancel_id=...), "missing_field", "data.cancel_id"),
        (a_notice("return", return_id=...), "missing_field", "data.return_id"),
        (a_notice("return", return_type=9), "invalid_field", "data.return_type"),
    ],
)
def test_what_cannot_be_read_parks_with_the_path_of_the_field(notice: Json, reason: str, path: str) -> None:
    refused = refusal(notice)

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["order_status", "cancellation", "return"])
@settings(max_examples=40)
@given(data=st.data())
def test_no_body_raises_anything_but_not_understood(name: str, data: st.DataObject) -> None:
    sent = data.draw(mutated([a_notice(name)]))
    delivery = ADAPTER.verify(SECRET, tiktok_headers(sent), sent, NOW)

    answer = outcome(lambda: ADAPTER.translate(delivery, READING))

    if isinstance(answer, NotUnderstood):
        assert answer.reason_code
        assert 0 < len(answer.detail) < 500
    else:
        assert answer.order_id or answer.ignored
        assert json.dumps(answer.understood)
        assert all(fact.text.encode() for fact in answer.facts)
