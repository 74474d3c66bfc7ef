"""Stripe's events: what is signed, what is read, and that no order of arrival changes what is left of a sale."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe import WebhookSignature

from service.domain.order import (
    DisputeFact,
    DisputeOutcome,
    Fact,
    FactKind,
    Line,
    Milestone,
    MilestoneFact,
    OrderFacts,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    merge,
    net_lines,
)
from service.domain.settlement import frozen_reason
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import BadSignature, Delivery, NotUnderstood, Translation
from service.tables.parties import Platform
from tests.support.payment_events import (
    CHARGE,
    FIXTURES,
    INTENT,
    STRIPE_SECRET,
    Json,
    a_dispute,
    a_refunded_charge,
    a_session,
    stripe_event,
    stripe_headers,
)
from tests.support.webhooks import READING, as_bytes, mutated, outcome

ADAPTER = ADAPTERS[Platform.STRIPE]
SECRET = STRIPE_SECRET.encode()
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
COMPLETED_AT = datetime.fromtimestamp(1793870400, UTC)
TESTING = replace(READING, is_test=True)


def read(event: object, reading: Any = READING) -> Translation:
    return ADAPTER.translate(Delivery("evt_1", "", as_bytes(event)), reading)


def refusal(event: object) -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(event)
    return refused.value


def snapshot_of(event: Json) -> OrderSnapshot:
    body = read(event).facts[0].body
    assert isinstance(body, OrderSnapshot)
    return body


def refund_of(event: Json) -> RefundFact:
    (fact,) = read(event).facts
    assert isinstance(fact.body, RefundFact)
    return fact.body


def dispute_of(event: Json) -> DisputeFact:
    (fact,) = read(event).facts
    assert isinstance(fact.body, DisputeFact)
    return fact.body


def paid_at(event: Json) -> list[datetime]:
    return [fact.body.at for fact in read(event).facts if isinstance(fact.body, MilestoneFact)]


def known_from(told: Iterable[Fact]) -> OrderFacts:
    """What is known when facts came in this order."""
    merged: dict[tuple[FactKind, str], Fact] = {}
    for fact in told:
        key = (fact.kind, fact.key)
        merged[key] = merge(merged[key], fact) if key in merged else fact
    return OrderFacts.of(merged.values())


def goods_left(known: OrderFacts) -> int:
    assert known.snapshot is not None
    return sum(line.net_minor for line in net_lines(known.snapshot, known.all_refunds()))


def left_of(*events: Json) -> int:
    return goods_left(known_from(fact for event in events for fact in read(event).facts))


# Signatures.


def refused(header: str, *, body: bytes = b"{}", secret: bytes = SECRET, now: datetime = NOW) -> bool:
    try:
        ADAPTER.verify(secret, {"stripe-signature": header}, body, now)
    except BadSignature:
        return True
    return False


@settings(max_examples=25)
@given(st.text(max_size=80), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10, max_size=60))
def test_what_stripes_library_signs_verifies(text: str, secret: str) -> None:
    header = WebhookSignature.generate_signature_header(text, secret, NOW_S)

    assert not refused(header, body=text.encode(), secret=secret.encode())


def test_what_verifies_here_verifies_by_stripes_library() -> None:
    body = as_bytes(a_session())
    header = stripe_headers(body, at=datetime.now(UTC).timestamp())["stripe-signature"]

    assert not refused(header, body=body, now=datetime.now(UTC))
    assert WebhookSignature.verify_header(body.decode(), header, STRIPE_SECRET, 300)


def test_a_delivery_has_the_id_and_the_type_of_its_event() -> None:
    body = as_bytes(a_session())

    assert ADAPTER.verify(SECRET, stripe_headers(body, at=NOW_S), body, NOW) == Delivery(
        "evt_1SexampleCompleted0001", "checkout.session.completed", body
    )


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"id": 5}', b'{"id": "a b", "type": ["x"]}', b"\xff"])
def test_without_a_usable_event_id_the_body_is_its_own_id(body: bytes) -> None:
    delivery = ADAPTER.verify(SECRET, stripe_headers(body, at=NOW_S), body, NOW)

    assert delivery == Delivery("sha256:" + hashlib.sha256(body).hexdigest(), "", body)


def test_while_a_secret_is_rolled_either_signature_fits() -> None:
    ours = stripe_headers(b"{}", at=NOW_S)["stripe-signature"]
    other = stripe_headers(b"{}", at=NOW_S, secret="whsec_another_secret")["stripe-signature"].partition(",")[2]

    assert not refused(f"{ours},{other}")
    assert not refused(f"{ours.partition(',')[0]},{other},{ours.partition(',')[2]},v0=abc")
    assert refused(f"{ours.partition(',')[0]},{other}")


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clocks_may_differ_by_five_minutes(seconds: int) -> None:
    assert not refused(stripe_headers(b"{}", at=NOW_S + seconds)["stripe-signature"])
    assert refused(stripe_headers(b"{}", at=NOW_S + (seconds or 1) * 2)["stripe-signature"]) is bool(seconds)


GOOD = stripe_headers(b"{}", at=NOW_S)["stripe-signature"]
MAC = GOOD.partition("v1=")[2]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=",
        f"t={NOW_S}",
        f"v1={MAC}",
        f"t={NOW_S},v1=",
        f"t={NOW_S},v1",
        f"t={NOW_S},v0={MAC}",
        f"t={NOW_S},t={NOW_S},v1={MAC}",
        f"t={NOW_S + 1},v1={MAC}",
        f"t=0{NOW_S},v1={MAC}",
        f"t=+{NOW_S},v1={MAC}",
        f"t={NOW_S}.0,v1={MAC}",
        f"t={NOW_S} ,v1={MAC}",
        f"t={'9' * 400},v1={MAC}",
        f"t={NOW_S},v1={MAC.upper()}",
        f"t={NOW_S}, v1={MAC}",
        f"t={NOW_S},v1={MAC} ",
        f"t={NOW_S},v1=äöü",
        f"t={NOW_S},v1=\udcff",
        f"t={NOW_S}" + ",v1=x" * 8 + f",v1={MAC}",
        f"t={NOW_S},v1={MAC}" + ",v0=x" * 5000,
    ],
)
def test_any_other_header_is_refused(header: str) -> None:
    assert refused(header)


def test_another_secret_or_body_or_none_at_all_is_refused() -> None:
    assert not refused(GOOD)
    assert refused(GOOD, body=b"{} ")
    assert refused(GOOD, secret=b"whsec_another_secret")
    assert refused(stripe_headers(b"{}", at=NOW_S, secret="")["stripe-signature"], secret=b"")
    with pytest.raises(BadSignature):
        ADAPTER.verify(SECRET, {}, b"{}", NOW)


def test_a_new_secret_is_random_and_of_stripes_shape() -> None:
    assert len({ADAPTER.new_secret() for _ in range(20)}) == 20
    assert ADAPTER.new_secret().startswith("whsec_")


# Sessions.


def test_a_paid_session_is_an_order_named_by_its_payment_intent() -> None:
    translation = read(a_session())
    order, paid = translation.facts

    assert translation.order_id == INTENT
    assert (order.kind, order.version_at) == (FactKind.ORDER, COMPLETED_AT)
    assert (paid.key, paid.version_at) == (Milestone.PAID, COMPLETED_AT)
    assert order.body == OrderSnapshot(
        placed_at=datetime.fromtimestamp(1793870100, UTC),
        currency="USD",
        lines=(Line("goods", "", 4500), Line("shipping", "", 600, goods=False)),
        touches=(
            Touch(TouchKind.CLICK, "clk_fromTheMetadata"),
            Touch(TouchKind.CLICK, "clk_fromTheReference"),
            Touch(TouchKind.COUPON, "lan10"),
            Touch(TouchKind.COUPON, "promo_1sexamplelan"),
        ),
        customer=(
            ("address", "address(CA|x0x0x0|1|aeeeelmprsttx)"),
            ("email", "email(buyer@example.com)"),
            ("id", "id(cus_example0001)"),
            ("phone", "phone(+15550100)"),
        ),
        number=INTENT,
        total_minor=6120,
        shipping_minor=720,
        tax_minor=900,
        discount_minor=500,
        country="CA",
    )
    assert "buyer@" not in json.dumps(translation.understood)


def test_what_the_buyer_saw_in_another_currency_is_never_the_amount() -> None:
    shown = {"presentment_amount": 1, "presentment_currency": "jpy"}

    assert read(a_session(presentment_details=shown)) == read(a_session(presentment_details=...))
    assert refund_of(a_refunded_charge(presentment_details=shown)) == refund_of(a_refunded_charge())


def test_prices_that_hold_their_tax_give_the_goods_without_it() -> None:
    # 60.00 with 20 % inside, carriage 6.00 with 1.00 inside.
    inside = a_session(
        amount_subtotal=6000,
        amount_total=6600,
        shipping_cost={"amount_subtotal": 600, "amount_tax": 100, "amount_total": 600},
        total_details={"amount_discount": 0, "amount_shipping": 600, "amount_tax": 1100},
    )

    snapshot = snapshot_of(inside)

    assert (snapshot.goods_minor, snapshot.tax_minor, snapshot.shipping_minor) == (5000, 1000, 600)


def test_without_a_shipping_cost_carriage_is_as_the_totals_say() -> None:
    snapshot = snapshot_of(a_session(shipping_cost=..., amount_total=6000, total_details={"amount_shipping": 600}))

    assert (snapshot.goods_minor, snapshot.shipping_minor, snapshot.tax_minor) == (5400, 600, 0)


def test_expanded_lines_are_taken_where_they_are_whole_and_add_up() -> None:
    lines = [
        {"id": "li_1", "amount_total": 4200, "amount_tax": 700, "quantity": 2, "price": {"product": "prod_serum"}},
        {
            "id": "li_2",
            "amount_total": 1200,
            "amount_tax": 200,
            "quantity": 1,
            "price": {"product": {"id": "prod_mask"}},
        },
    ]

    assert snapshot_of(a_session(line_items={"data": lines, "has_more": False})).lines == (
        Line("li_1", "prod_serum", 3500, "2"),
        Line("li_2", "prod_mask", 1000, "1"),
        Line("shipping", "", 600, goods=False),
    )
    others: list[Any] = [{"data": lines, "has_more": True}, {"data": lines[:1]}, {"data": []}, None]
    for partly in others:
        assert snapshot_of(a_session(line_items=partly)).lines[0] == Line("goods", "", 4500)


def test_a_promotion_code_shown_whole_gives_what_the_buyer_typed() -> None:
    shown = [{"promotion_code": {"id": "promo_1", "code": "LAN10"}, "coupon": "SUMMER"}, {"coupon": {"id": "c_2"}}]

    translation = read(a_session(discounts=shown, metadata={}))

    assert translation.understood["coupon_codes"] == ["LAN10", "SUMMER", "c_2"]


def test_without_payment_the_session_names_the_order() -> None:
    free = a_session(payment_intent=None, payment_status="no_payment_required", amount_total=720)
    free["data"]["object"]["total_details"] = {"amount_tax": 120, "amount_shipping": 600, "amount_discount": 5000}

    assert read(free).order_id == "cs_live_a1example0001"


@pytest.mark.parametrize(
    ("status", "kind", "is_paid"),
    [
        ("paid", "completed", True),
        ("unpaid", "completed", False),
        ("no_payment_required", "completed", False),
        (None, "completed", False),
        ("paid", "async_payment_succeeded", True),
        ("unpaid", "async_payment_succeeded", True),
        ("unpaid", "async_payment_failed", False),
        ("paid", "async_payment_failed", False),
    ],
)
def test_paid_when_stripe_says_so(status: str | None, kind: str, is_paid: bool) -> None:
    assert paid_at(a_session(kind=kind, payment_status=status)) == ([COMPLETED_AT] if is_paid else [])


def test_nothing_to_pay_is_paid() -> None:
    free: Json = {
        "amount_total": 0,
        "shipping_cost": None,
        "total_details": None,
        "payment_status": "no_payment_required",
    }

    assert paid_at(a_session(**free)) == [COMPLETED_AT]


def test_a_payment_that_failed_later_cancels_the_order_also_within_the_same_second() -> None:
    completed = read(a_session(payment_status="unpaid")).facts
    failed = read(a_session(kind="async_payment_failed", payment_status="unpaid")).facts

    for told in permutations([*completed, *failed]):
        known = known_from(told)
        assert known.snapshot is not None
        assert known.snapshot.cancelled
        assert not known.conflicting


def test_a_payment_that_came_later_starts_the_clock_when_it_came() -> None:
    later = a_session(kind="async_payment_succeeded", at=1794000000)

    known = known_from([*read(later).facts, *read(a_session(payment_status="unpaid")).facts])

    assert known.milestones == {Milestone.PAID: datetime.fromtimestamp(1794000000, UTC)}
    assert known.snapshot is not None
    assert known.snapshot.placed_at == datetime.fromtimestamp(1793870100, UTC)


def test_an_old_session_without_a_time_was_placed_when_it_was_completed() -> None:
    assert snapshot_of(a_session(created=...)).placed_at == COMPLETED_AT


@pytest.mark.parametrize("value", [None, 5, True, ["clk_x"], {"clk_x": 1}, "cart-77"])
def test_references_of_any_shape_are_no_clicks(value: object) -> None:
    assert snapshot_of(a_session(client_reference_id=value, metadata={"a": value}, discounts=None)).touches == ()


def test_setup_mode_sells_nothing() -> None:
    translation = read(a_session(mode="setup", amount_total=None, currency=None, payment_intent=None))

    assert (translation.order_id, translation.facts, translation.ignored) == ("", (), "no_sale")


def test_a_subscription_parks_since_its_refunds_would_never_find_it() -> None:
    assert refusal(a_session(mode="subscription", payment_intent=None)).reason_code == "subscription"


def test_a_test_payment_counts_only_at_a_merchant_for_tests() -> None:
    tried = a_session() | {"livemode": False}

    ignored, counted = read(tried), read(tried, TESTING)

    assert (ignored.facts, ignored.ignored) == ((), "test_order")
    assert ignored.understood == counted.understood
    assert counted.ignored is None
    assert counted.facts
    assert read(a_refunded_charge() | {"livemode": False}).ignored == "test_order"


# Refunds.


def test_a_charge_tells_one_total_under_its_own_id() -> None:
    (fact,) = read(a_refunded_charge()).facts

    assert (fact.kind, fact.key) == (FactKind.REFUND, CHARGE)
    assert fact.body == RefundFact("USD", datetime.fromtimestamp(1793956800, UTC), gross_minor=2700)
    assert fact.version == (True, datetime.fromtimestamp(1793956800, UTC), 2700)


@pytest.mark.parametrize(
    ("total", "left"),
    [(0, 4500), (1, 4499), (2700, 2250), (5400, 0), (6120, 0), (10**15, 0)],
    ids=["nothing", "a cent", "half the goods with their tax", "all but carriage", "all", "more than there was"],
)
def test_goods_and_their_tax_come_back_in_proportion_and_carriage_last(total: int, left: int) -> None:
    assert left_of(a_session(), a_refunded_charge(total)) == left


def test_of_several_totals_the_newest_counts_and_of_one_second_the_largest() -> None:
    totals = [
        a_refunded_charge(1200, at=1793956800),
        a_refunded_charge(2400, at=1793956800),
        a_refunded_charge(2400, at=1793956900),
    ]

    assert {left_of(a_session(), *order) for order in permutations(totals)} == {2500}


def test_a_total_that_a_failed_refund_lowered_is_read_from_the_charge() -> None:
    lowered = a_refunded_charge(0, kind="charge.updated", at=1794000000)
    lowered["data"]["previous_attributes"] = {"amount_refunded": 2700}

    assert left_of(a_session(), lowered, a_refunded_charge()) == 4500


def test_another_change_of_a_charge_changes_nothing() -> None:
    updated = a_refunded_charge(kind="charge.updated")
    updated["data"]["previous_attributes"] = {"description": "x"}

    assert read(updated).ignored == "topic_without_effect"


@pytest.mark.parametrize("kind", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"])
@pytest.mark.parametrize("status", ["pending", "requires_action", "succeeded", None])
def test_single_refunds_are_not_counted_a_second_time(kind: str, status: str | None) -> None:
    translation = read(stripe_event("refund_updated", kind=kind, status=status))

    assert (translation.order_id, translation.facts) == (INTENT, ())
    assert translation.ignored == "topic_without_effect"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_failed_parks_for_a_person(status: str) -> None:
    assert refusal(stripe_event("refund_updated", status=status)).reason_code == "refund_failed"


def test_a_charge_without_payment_intent_names_its_own_order() -> None:
    assert read(a_refunded_charge(payment_intent=None)).order_id == CHARGE
    assert read(a_refunded_charge(payment_intent={"id": INTENT})).order_id == INTENT


# Disputes.


@pytest.mark.parametrize(
    "status",
    [
        "warning_needs_response",
        "warning_under_review",
        "needs_response",
        "under_review",
        "appeal_needs_response",
        "appeal_under_review",
    ],
)
def test_an_open_dispute_or_inquiry_holds_the_order(status: str) -> None:
    dispute = dispute_of(a_dispute(status))

    assert (dispute.opened_at, dispute.closed_at) == (datetime.fromtimestamp(1794129600, UTC), None)
    assert (dispute.amount_minor, dispute.gross) == (3240, True)


@pytest.mark.parametrize("status", ["won", "warning_closed", "prevented", "charge_refunded"])
def test_what_closed_without_taking_money_is_won(status: str) -> None:
    closed = a_dispute(status, kind="closed", at=1795000000)

    assert dispute_of(closed).outcome is DisputeOutcome.WON
    assert left_of(a_session(), closed) == 4500


def test_a_lost_dispute_is_a_refund_of_its_goods() -> None:
    lost = a_dispute("lost", kind="closed", at=1795000000)
    known = known_from([*read(a_session()).facts, *read(lost).facts])

    assert dispute_of(lost).closed_at == datetime.fromtimestamp(1795000000, UTC)
    assert list(known.all_refunds()) == ["dispute:du_3SexampleDispute0001"]
    # 32.40 of goods with their tax are 27.00 of goods.
    assert goods_left(known) == 1800


def test_closing_is_not_before_opening_and_a_dispute_of_old_is_named_by_its_charge() -> None:
    old = a_dispute("won", kind="closed", at=1326853478, id=...)

    assert dispute_of(old).closed_at == dispute_of(old).opened_at
    assert read(old).facts[0].key == CHARGE


def test_an_unknown_status_of_a_dispute_parks() -> None:
    assert refusal(a_dispute("considered")).reason_code == "unknown_status"


# Other events.


@pytest.mark.parametrize(
    "kind",
    [
        "payment_intent.succeeded",
        "charge.succeeded",
        "checkout.session.expired",
        "charge.dispute.funds_withdrawn",
        "transfer.failed",
        "invoice.paid",
        "x" * 5000,
    ],
)
def test_events_that_say_nothing_of_an_order_are_acknowledged_unread(kind: str) -> None:
    translation = read({"type": kind})

    assert (translation.order_id, translation.facts, translation.ignored) == ("", (), "topic_without_effect")
    assert len(json.dumps(translation.understood)) < 300


def test_an_event_that_only_names_its_object_parks_where_it_matters() -> None:
    thin: Json = json.loads((FIXTURES / "stripe" / "thin_event.json").read_bytes())

    assert refusal(thin).reason_code == "thin_event"
    assert read(thin | {"type": "v2.core.account.created"}).ignored == "topic_without_effect"


# Money.


@pytest.mark.parametrize(
    ("currency", "theirs", "ours"),
    [
        ("usd", 1999, 1999),
        ("vnd", 250_000, 250_000),
        ("jpy", 500, 500),
        ("kwd", 1230, 1230),
        ("isk", 50_000, 500),
        ("ugx", 500_000, 5000),
        ("mga", 500, 50_000),
        ("huf", 100_050, 100_050),
        ("TWD", 100_050, 100_050),
    ],
)
def test_stripes_decimals_become_those_of_iso(currency: str, theirs: int, ours: int) -> None:
    refund = refund_of(a_refunded_charge(theirs, currency=currency))

    assert (refund.currency, refund.gross_minor) == (currency.upper(), ours)


@pytest.mark.parametrize(("currency", "amount"), [("isk", 50_050), ("ugx", 1)])
def test_an_amount_that_is_no_whole_number_of_its_currency_parks(currency: str, amount: int) -> None:
    assert refusal(a_refunded_charge(amount, currency=currency)).reason_code == "invalid_amount"


@pytest.mark.parametrize(
    ("event", "reason", "path"),
    [
        (a_session(mode="gift"), "invalid_field", "data.object.mode"),
        (a_session(mode=None), "missing_field", "data.object.mode"),
        (a_session(id=[], payment_intent=None), "invalid_field", "data.object.id"),
        (a_session(payment_intent={}), "missing_field", "data.object.payment_intent.id"),
        (a_session(currency=None), "missing_field", "data.object.currency"),
        (a_session(currency="xxx"), "unknown_currency", "data.object.currency"),
        (a_session(amount_total="6120"), "invalid_field", "data.object.amount_total"),
        (a_session(amount_total=61.2), "invalid_field", "data.object.amount_total"),
        (a_session(amount_total=True), "invalid_field", "data.object.amount_total"),
        (a_session(amount_total=-1), "negative_amount", "data.object.amount_total"),
        (a_session(amount_total=10), "negative_amount", "data.object.amount_total"),
        (a_session(amount_total=10**16), "invalid_amount", "data.object.amount_total"),
        (a_session(total_details=[]), "invalid_field", "data.object.total_details"),
        (a_session(created="soon"), "invalid_field", "data.object.created"),
        (a_session(metadata="x"), "invalid_field", "data.object.metadata"),
        (a_session(metadata={str(n): f"clk_{n}" for n in range(60)}), "too_many", "data.object.metadata"),
        (a_session(discounts=[1]), "invalid_field", "data.object.discounts[0]"),
        (a_session(customer_details={"email": ["x"]}), "invalid_field", "data.object.customer_details.email"),
        (a_session(payment_status=1), "invalid_field", "data.object.payment_status"),
        (a_refunded_charge(id=None), "missing_field", "data.object.id"),
        (a_refunded_charge(None), "missing_field", "data.object.amount_refunded"),
        (a_dispute(payment_intent=None, charge=None), "missing_field", "data.object.charge"),
        (a_dispute(created=0), "invalid_field", "data.object.created"),
        (a_session() | {"created": 10**20}, "invalid_field", "created"),
        (a_session() | {"livemode": None}, "missing_field", "livemode"),
        (a_session() | {"data": {}}, "missing_field", "data.object"),
        (a_session() | {"type": 7}, "invalid_field", "type"),
        ({}, "missing_field", "type"),
    ],
)
def test_what_cannot_be_read_parks_with_the_path_of_the_field(event: Json, reason: str, path: str) -> None:
    refused = refusal(event)

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")


# The whole story.

STORY: list[Json] = [
    a_session(payment_status="unpaid"),
    a_session(kind="async_payment_succeeded", at=1793880000),
    a_refunded_charge(1200, at=1793956800),
    a_refunded_charge(2700, at=1793990000),
    a_dispute(),
    a_dispute("lost", kind="closed", at=1795000000),
]


def test_a_sale_its_refunds_and_disputes_come_to_the_same_in_any_order() -> None:
    told = [read(event) for event in STORY]
    assert {translation.order_id for translation in told} == {INTENT}

    ends = set()
    for order in permutations(told):
        known = known_from(fact for translation in order for fact in translation.facts)
        ends.add((goods_left(known), frozen_reason(known), known.milestones[Milestone.PAID], known.conflicting))

    # 45.00 less 22.50 refunded less 27.00 disputed is nothing left, not less than that.
    assert ends == {(0, None, datetime.fromtimestamp(1793880000, UTC), False)}


@settings(max_examples=50)
@given(st.lists(st.sampled_from(STORY), min_size=6, max_size=14))
def test_repetitions_and_gaps_never_depend_on_the_order(some: list[Json]) -> None:
    facts = [fact for event in [STORY[0], *some] for fact in read(event).facts]

    there, back = known_from(facts), known_from(reversed(facts))

    assert there == back
    assert goods_left(there) == goods_left(back) >= 0


BODIES = {
    "session": a_session(),
    "session with lines": a_session(
        line_items={"data": [{"id": "li_1", "amount_total": 5400, "amount_tax": 900, "price": {"product": "prod_1"}}]}
    ),
    "failed": a_session(kind="async_payment_failed"),
    "refunded": a_refunded_charge(),
    "refund": stripe_event("refund_updated"),
    "dispute": a_dispute(),
    "closed": a_dispute("lost", kind="closed", at=1795000000),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@settings(max_examples=40)
@given(data=st.data())
def test_no_body_raises_anything_but_not_understood(body: Json, data: st.DataObject) -> None:
    sent = data.draw(mutated([body]))
    delivery = ADAPTER.verify(SECRET, stripe_headers(sent, at=NOW_S), sent, NOW)

    answer = outcome(lambda: ADAPTER.translate(delivery, READING))

    if isinstance(answer, NotUnderstood):
        assert answer.reason_code
        assert 0 < len(answer.detail) < 500
    else:
        assert answer.order_id or answer.ignored
        assert json.dumps(answer.understood)
        assert all(fact.text.encode() for fact in answer.facts)
