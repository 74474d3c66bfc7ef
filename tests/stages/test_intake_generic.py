"""The generic format: what a shop may send, and what becomes of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import (
    DisputeFact,
    DisputeOutcome,
    FactKind,
    Line,
    Milestone,
    MilestoneFact,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
)
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import Delivery, NotUnderstood, Translation
from service.tables.parties import Platform
from tests.support.webhooks import READING, a_dispute, a_refund, a_status, an_order, as_bytes, mutated, outcome

ADAPTER = ADAPTERS[Platform.GENERIC]


def read(event: object) -> Translation:
    return ADAPTER.translate(Delivery("msg_1", "", as_bytes(event)), READING)


def refusal(event: object) -> NotUnderstood:
    with pytest.raises(NotUnderstood) as refused:
        read(event)
    return refused.value


def snapshot_of(**changes: Any) -> OrderSnapshot:
    body = read(an_order(**changes)).facts[0].body
    assert isinstance(body, OrderSnapshot)
    return body


def refund_of(**changes: Any) -> RefundFact:
    body = read(a_refund(**changes)).facts[0].body
    assert isinstance(body, RefundFact)
    return body


def test_an_order_becomes_a_snapshot_with_its_own_version() -> None:
    (fact,) = read(an_order()).facts

    assert (fact.kind, fact.key, fact.version_at) == (FactKind.ORDER, "", datetime(2026, 11, 20, 10, 0, 5, tzinfo=UTC))
    assert fact.body == OrderSnapshot(
        placed_at=datetime(2026, 11, 20, 10, tzinfo=UTC),
        currency="USD",
        lines=(
            Line("1", "SERUM-30", 3998, "2", "skincare"),
            Line("2", "MASK-5", 1250),
            Line("s", "", 490, goods=False),
        ),
        number="1001",
        total_minor=5738,
        shipping_minor=490,
    )


def test_the_sender_is_told_what_was_understood() -> None:
    told = read(
        an_order(
            customer={"id": 7, "email": "ann@example.com", "country": "vn"},
            virtual_payment="12.00",
            click_ids=["clk_a"],
            coupon_codes=["Ann10"],
            totals={"tax": "5.25", "discount": "5.00"},
            milestones={"paid_at": "2026-11-20T10:00:01+00:00"},
        )
    ).understood

    assert told == {
        "kind": "order",
        "order_id": "1001",
        "number": "1001",
        "updated_at": "2026-11-20T10:00:05Z",
        "placed_at": "2026-11-20T10:00:00Z",
        "currency": "USD",
        "cancelled": False,
        "test": False,
        "goods_minor": 5248,
        "tax_minor": 525,
        "shipping_minor": 490,
        "discount_minor": 500,
        "total_minor": 6263,
        "virtual_minor": 1200,
        "country": "VN",
        "lines": [
            {"id": "1", "sku": "SERUM-30", "quantity": "2", "net_minor": 3998, "goods": True},
            {"id": "2", "sku": "MASK-5", "quantity": "1", "net_minor": 1250, "goods": True},
            {"id": "s", "sku": "", "quantity": "1", "net_minor": 490, "goods": False},
        ],
        "customer": ["email", "id"],
        "click_ids": ["clk_a"],
        "coupon_codes": ["Ann10"],
        "milestones": {"paid_at": "2026-11-20T10:00:01Z"},
        "refunds": [],
    }
    assert json.dumps(told)


def test_nothing_told_names_the_buyer() -> None:
    told = json.dumps(read(an_order(customer={"id": "c-77", "email": "ann@example.com", "phone": "+84912"})).understood)

    assert "ann@" not in told
    assert "c-77" not in told
    assert "84912" not in told


def test_touches_are_clicks_then_coupons_each_once_without_case() -> None:
    touches = snapshot_of(
        click_ids=["clk_a", " clk_b ", "clk_a", ""],
        landing_url="https://shop.example/p?x=1&koc_click=clk_c#koc_click=clk_d",
        coupon_codes=["Ann10", "ANN10 ", "Straße", "  "],
    ).touches

    assert touches == (
        Touch(TouchKind.CLICK, "clk_a"),
        Touch(TouchKind.CLICK, "clk_b"),
        Touch(TouchKind.CLICK, "clk_c"),
        Touch(TouchKind.COUPON, "ann10"),
        Touch(TouchKind.COUPON, "strasse"),
    )


@pytest.mark.parametrize(
    ("url", "refs"),
    [
        ("/?koc_click=clk_a", ["clk_a"]),
        ("https://shop.example/?koc_click=clk_a&koc_click=clk_b", ["clk_a", "clk_b"]),
        ("https://shop.example/?akoc_click=clk_a", []),
        ("https://shop.example/koc_click=clk_a", []),
        ("http://[::1/?koc_click=clk_a", ["clk_a"]),
        ("https://shop.example/?koc_click=", []),
        ("https://shop.example/?koc_click=" + "x" * 65, []),
        ("", []),
    ],
)
def test_a_landing_address_gives_its_click_ids(url: str, refs: list[str]) -> None:
    assert [touch.ref for touch in snapshot_of(landing_url=url).touches] == refs


def test_a_click_id_longer_than_any_of_ours_is_cut() -> None:
    assert snapshot_of(click_ids=["clk_" + "x" * 200]).touches == (Touch(TouchKind.CLICK, "clk_" + "x" * 60),)


def test_the_buyer_is_kept_as_keyed_hashes_only() -> None:
    customer = {"id": 9007199254740993, "email": "ann@example.com", "phone": "", "name": "Ann"}

    assert snapshot_of(customer=customer).customer == (
        ("email", "email(ann@example.com)"),
        ("id", "id(9007199254740993)"),
    )


@pytest.mark.parametrize(
    ("customer", "address", "country"),
    [
        pytest.param({"country": "VN"}, None, "VN", id="a country alone"),
        pytest.param({"address": {"country": "VN"}}, None, "VN", id="that of the address"),
        pytest.param({"country": "SG", "address": {"country": "VN"}}, None, "SG", id="the buyer's own goes first"),
        pytest.param(
            {"country": "VN", "address": {"line1": "12 Lê Lợi", "city": "Huế"}},
            "address(VN|hue|12|eillo)",
            "VN",
            id="an address takes the buyer's",
        ),
        pytest.param(
            {"country": "SG", "address": {"line1": "12 Lê Lợi", "city": "Huế", "country": "VN"}},
            "address(VN|hue|12|eillo)",
            "SG",
            id="unless it has its own",
        ),
        pytest.param({"address": {"line1": "12 Lê Lợi", "city": "Huế"}}, None, "", id="no country at all"),
        pytest.param({"address": "12 Lê Lợi, Huế, VN"}, "customer.address", "", id="a text is no address"),
        pytest.param({"country": "Vietnam"}, "customer.country", "", id="a name is no code"),
        pytest.param({"address": {"country": 84}}, "customer.address.country", "", id="a number is no code"),
        pytest.param({"country": "", "address": {"country": None}}, None, "", id="blank is nothing"),
    ],
)
def test_country_and_address_of_the_buyer(customer: dict[str, Any], address: str | None, country: str) -> None:
    if address is not None and address.startswith("customer"):
        assert refusal(an_order(customer=customer)).detail.startswith(f"{address}: expected")
        return

    snapshot = snapshot_of(customer=customer)

    assert (dict(snapshot.customer).get("address"), snapshot.country) == (address, country)


def test_the_fingerprint_of_a_card_has_a_name_of_its_own() -> None:
    customer = {"payment_fingerprint": "Xt5E", "payment": "ignored", "address": None}

    assert snapshot_of(customer=customer).customer == (("payment", "payment(Xt5E)"),)


@pytest.mark.parametrize("amount", ["-1.00", "12.345", [], "a"])
def test_a_virtual_payment_is_an_amount(amount: object) -> None:
    assert refusal(an_order(virtual_payment=amount)).detail.startswith("virtual_payment: ")


def test_ids_beyond_2_to_the_53_are_exact() -> None:
    translation = read(an_order(id=9007199254740993, lines=[{"id": 18446744073709551617, "net": "1.00"}]))

    assert translation.order_id == "9007199254740993"
    assert translation.understood["lines"][0]["id"] == "18446744073709551617"


def test_the_same_id_as_text_and_number_is_one_order() -> None:
    assert read(an_order(id=1001)).facts[0].body_hash == read(an_order(id="1001")).facts[0].body_hash


@pytest.mark.parametrize(
    ("currency", "net", "minor"),
    [
        ("USD", "19.99", 1999),
        ("USD", 19.99, 1999),
        ("USD", 20, 2000),
        ("USD", "20", 2000),
        ("USD", "19.9", 1990),
        ("USD", "19.990", 1999),
        ("VND", "250000", 250000),
        ("VND", "250000.00", 250000),
        ("JPY", 1, 1),
        ("KWD", "1.234", 1234),
        ("USD", "0", 0),
    ],
)
def test_amounts_are_exact_in_the_minor_units_of_the_currency(currency: str, net: object, minor: int) -> None:
    assert snapshot_of(currency=currency, lines=[{"id": 1, "net": net}]).goods_minor == minor


def test_re_serialised_the_order_is_the_same_fact() -> None:
    order = an_order(customer={"id": "7", "email": "a@b.example"}, milestones={"paid_at": "2026-11-20T10:00:01Z"})
    other = {key: order[key] for key in reversed(order)} | {
        "new_field": [1, {"x": None}],
        "placed_at": "2026-11-20T17:00:00+07:00",
    }

    assert [fact.body_hash for fact in read(order).facts] == [fact.body_hash for fact in read(other).facts]


def test_milestones_of_an_order_are_facts_of_their_own() -> None:
    facts = read(
        an_order(
            milestones={"paid_at": "2026-11-20T10:00:01Z", "delivered_at": "2026-11-23T10:00:00Z", "completed_at": None}
        )
    ).facts

    assert [(fact.key, fact.body) for fact in facts[1:]] == [
        (Milestone.PAID, MilestoneFact(datetime(2026, 11, 20, 10, 0, 1, tzinfo=UTC))),
        (Milestone.DELIVERED, MilestoneFact(datetime(2026, 11, 23, 10, tzinfo=UTC))),
    ]


def test_a_test_order_is_understood_and_ignored() -> None:
    translation = read(an_order(test=True))

    assert translation.ignored == "test_order"
    assert translation.facts == ()
    assert translation.understood["goods_minor"] == 5248


def test_a_cancelled_order_says_so() -> None:
    assert snapshot_of(cancelled=True).cancelled


def test_an_order_without_lines_is_an_order_of_nothing() -> None:
    assert snapshot_of(lines=[]).goods_minor == 0


def test_an_order_of_592_lines_is_read() -> None:
    assert len(snapshot_of(lines=[{"id": index, "net": "1.00"} for index in range(592)]).lines) == 592


GOOD_LINE = {"id": "1", "net": "1.00"}


@pytest.mark.parametrize(
    ("changes", "reason", "path"),
    [
        pytest.param({"type": None}, "missing_field", "type", id="no type"),
        pytest.param({"type": "invoice"}, "unknown_event", "type", id="an unknown type"),
        pytest.param({"type": ["order"]}, "invalid_field", "type", id="a type that is no text"),
        pytest.param({"id": None}, "missing_field", "id", id="no id"),
        pytest.param({"updated_at": None}, "missing_field", "updated_at", id="no version"),
        pytest.param({"updated_at": "yesterday"}, "invalid_field", "updated_at", id="a version that is no time"),
        pytest.param({"placed_at": None}, "missing_field", "placed_at", id="no date"),
        pytest.param({"currency": None}, "missing_field", "currency", id="no currency"),
        pytest.param({"currency": "usd"}, "unknown_currency", "currency", id="a currency in small letters"),
        pytest.param({"currency": "XXX"}, "unknown_currency", "currency", id="no money"),
        pytest.param({"currency": "x" * 10_000}, "invalid_field", "currency", id="a currency of 10,000 letters"),
        pytest.param({"currency": {}}, "invalid_field", "currency", id="a currency that is an object"),
        pytest.param({"lines": None}, "missing_field", "lines", id="no lines"),
        pytest.param({"lines": {}}, "invalid_field", "lines", id="lines that are no list"),
        pytest.param({"lines": [GOOD_LINE, 1]}, "invalid_field", "lines[1]", id="a line that is no object"),
        pytest.param({"lines": [None]}, "missing_field", "lines[0]", id="a line that is null"),
        pytest.param({"lines": [{"net": "1.00"}]}, "missing_field", "lines[0].id", id="a line without id"),
        pytest.param({"lines": [{"id": 1}]}, "missing_field", "lines[0].net", id="a line without amount"),
        pytest.param({"lines": [{"id": 1, "net": "-1.00"}]}, "negative_amount", "lines[0].net", id="a negative line"),
        pytest.param({"lines": [{"id": 1, "net": "1.001"}]}, "invalid_amount", "lines[0].net", id="too many digits"),
        pytest.param(
            {"currency": "VND", "lines": [{"id": 1, "net": "1.5"}]}, "invalid_amount", "lines[0].net", id="half a dong"
        ),
        pytest.param({"lines": [{"id": 1, "net": "1,00"}]}, "invalid_amount", "lines[0].net", id="a comma"),
        pytest.param({"lines": [{"id": 1, "net": True}]}, "invalid_field", "lines[0].net", id="a boolean amount"),
        pytest.param({"lines": [GOOD_LINE, GOOD_LINE]}, "duplicate_line", "lines[1].id", id="two lines with one id"),
        pytest.param(
            {"lines": [{"id": 1, "net": "1"}, {"id": "1", "net": "1"}]}, "duplicate_line", "lines[1].id", id="1 and '1'"
        ),
        pytest.param({"lines": [GOOD_LINE | {"kind": "tip"}]}, "invalid_field", "lines[0].kind", id="an unknown kind"),
        pytest.param(
            {"lines": [GOOD_LINE | {"kind": 1}]}, "invalid_field", "lines[0].kind", id="a kind that is no text"
        ),
        pytest.param(
            {"lines": [GOOD_LINE | {"quantity": -1}]},
            "invalid_field",
            "lines[0].quantity",
            id="less than none",
        ),
        pytest.param({"lines": [GOOD_LINE | {"sku": []}]}, "invalid_field", "lines[0].sku", id="a sku that is a list"),
        pytest.param(
            {"lines": [{"id": index, "net": "1.00"} for index in range(5001)]}, "too_many", "lines", id="5,001 lines"
        ),
        pytest.param(
            {"lines": [{"id": 1, "net": "9999999999999.99"}, {"id": 2, "net": "9999999999999.99"}]},
            "invalid_amount",
            "lines",
            id="a sum beyond the largest amount",
        ),
        pytest.param({"cancelled": "yes"}, "invalid_field", "cancelled", id="cancelled that is no boolean"),
        pytest.param({"test": 1}, "invalid_field", "test", id="test that is no boolean"),
        pytest.param({"customer": "ann"}, "invalid_field", "customer", id="a customer that is no object"),
        pytest.param({"customer": {"email": []}}, "invalid_field", "customer.email", id="an e-mail that is a list"),
        pytest.param({"click_ids": "clk_a"}, "invalid_field", "click_ids", id="click ids that are no list"),
        pytest.param({"click_ids": [1]}, "invalid_field", "click_ids[0]", id="a click id that is no text"),
        pytest.param({"click_ids": ["c"] * 51}, "too_many", "click_ids", id="51 click ids"),
        pytest.param({"coupon_codes": [None]}, "missing_field", "coupon_codes[0]", id="a code that is null"),
        pytest.param({"landing_url": 5}, "invalid_field", "landing_url", id="an address that is no text"),
        pytest.param({"totals": {"tax": "x"}}, "invalid_amount", "totals.tax", id="tax that is no amount"),
        pytest.param({"totals": []}, "invalid_field", "totals", id="totals that are a list"),
        pytest.param(
            {"milestones": {"paid_at": 5}}, "invalid_field", "milestones.paid_at", id="a milestone that is no time"
        ),
        pytest.param({"milestones": ["paid"]}, "invalid_field", "milestones", id="milestones that are a list"),
        pytest.param({"number": {}}, "invalid_field", "number", id="a number that is an object"),
    ],
)
def test_what_cannot_be_read_parks_with_the_path_of_the_field(changes: dict[str, Any], reason: str, path: str) -> None:
    event = {key: value for key, value in (an_order() | changes).items() if value is not None}

    refused = refusal(event)

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")
    assert len(refused.detail) < 300


def test_a_refund_names_lines() -> None:
    (fact,) = read(a_refund(lines=[{"line_id": 2, "net": "5.00"}, {"line_id": "1", "net": "19.99"}])).facts

    assert (fact.kind, fact.key) == (FactKind.REFUND, "r-1")
    assert fact.body == RefundFact("USD", datetime(2026, 11, 25, 9, tzinfo=UTC), (("1", 1999), ("2", 500)))
    assert fact.version == (True, datetime(2026, 11, 25, 9, tzinfo=UTC), 2499)


def test_a_refund_without_lines_is_an_amount_of_goods() -> None:
    refund = refund_of(lines=None, amount="10.00")

    assert (refund.lines, refund.unallocated_minor) == ((), 1000)


def test_what_an_amount_holds_beyond_its_lines_is_on_no_line() -> None:
    assert refund_of(amount="25.00").unallocated_minor == 501
    assert refund_of(amount="19.99").unallocated_minor == 0


def test_one_line_given_back_twice_in_a_refund_is_added_up() -> None:
    assert refund_of(lines=[{"line_id": "1", "net": "1.00"}, {"line_id": 1, "net": "2.00"}]).lines == (("1", 300),)


def test_a_refund_taken_back_is_a_newer_version_of_nothing() -> None:
    refund = refund_of(lines=None, amount="0", updated_at="2026-11-26T09:00:00Z")

    assert refund.goods_minor == 0


def test_the_refund_of_a_lost_dispute_has_the_key_of_the_dispute() -> None:
    (fact,) = read(a_refund(dispute_id="dp-1")).facts

    assert fact.key == "dispute:dp-1"


def test_the_sender_is_told_the_refund_as_understood() -> None:
    assert read(a_refund(amount="20.00")).understood == {
        "kind": "refund",
        "order_id": "1001",
        "updated_at": "2026-11-25T09:00:00Z",
        "currency": "USD",
        "refunds": [
            {
                "id": "r-1",
                "refunded_at": "2026-11-25T09:00:00Z",
                "goods_minor": 2000,
                "unallocated_minor": 1,
                "lines": [{"line_id": "1", "net_minor": 1999}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("changes", "reason", "path"),
    [
        ({"lines": None}, "missing_field", "amount"),
        ({"amount": "19.98"}, "amount_below_lines", "amount"),
        ({"amount": "-1"}, "negative_amount", "amount"),
        ({"order_id": None}, "missing_field", "order_id"),
        ({"id": None}, "missing_field", "id"),
        ({"updated_at": None}, "missing_field", "updated_at"),
        ({"refunded_at": None}, "missing_field", "refunded_at"),
        ({"currency": None}, "missing_field", "currency"),
        ({"lines": [{"net": "1.00"}]}, "missing_field", "lines[0].line_id"),
        ({"lines": [{"line_id": 1, "net": "-1.00"}]}, "negative_amount", "lines[0].net"),
        ({"dispute_id": []}, "invalid_field", "dispute_id"),
    ],
)
def test_a_refund_that_cannot_be_read_parks(changes: dict[str, Any], reason: str, path: str) -> None:
    refused = refusal(a_refund(**changes))

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")


def test_a_dispute_is_open_until_it_is_closed_with_an_outcome() -> None:
    (opened,) = read(a_dispute()).facts
    (closed,) = read(
        a_dispute(closed_at="2026-12-20T09:00:00Z", outcome="lost", updated_at="2026-12-20T09:00:00Z")
    ).facts

    assert (opened.kind, opened.key) == (FactKind.DISPUTE, "dp-1")
    assert opened.body == DisputeFact(datetime(2026, 11, 28, 9, tzinfo=UTC), "USD", 5248)
    assert closed.body == DisputeFact(
        datetime(2026, 11, 28, 9, tzinfo=UTC),
        "USD",
        5248,
        datetime(2026, 12, 20, 9, tzinfo=UTC),
        DisputeOutcome.LOST,
    )
    assert closed.version > opened.version


@pytest.mark.parametrize(
    ("changes", "reason", "path"),
    [
        ({"closed_at": "2026-12-20T09:00:00Z"}, "missing_field", "outcome"),
        ({"outcome": "won"}, "missing_field", "closed_at"),
        ({"closed_at": "2026-12-20T09:00:00Z", "outcome": "draw"}, "invalid_field", "outcome"),
        ({"closed_at": "2026-12-20T09:00:00Z", "outcome": ["won"]}, "invalid_field", "outcome"),
        ({"closed_at": "2026-11-20T09:00:00Z", "outcome": "won"}, "invalid_field", "closed_at"),
        ({"opened_at": None}, "missing_field", "opened_at"),
        ({"amount": None}, "missing_field", "amount"),
        ({"updated_at": None}, "missing_field", "updated_at"),
    ],
)
def test_a_dispute_that_cannot_be_read_parks(changes: dict[str, Any], reason: str, path: str) -> None:
    refused = refusal(a_dispute(**changes))

    assert refused.reason_code == reason
    assert refused.detail.startswith(f"{path}: ")


@pytest.mark.parametrize("milestone", list(Milestone))
def test_a_status_is_one_milestone(milestone: Milestone) -> None:
    translation = read(a_status(milestone=milestone))

    (fact,) = translation.facts
    assert (fact.kind, fact.key) == (FactKind.MILESTONE, milestone)
    assert fact.body == MilestoneFact(datetime(2026, 11, 23, 16, tzinfo=UTC))
    assert translation.understood == {
        "kind": "status",
        "order_id": "1001",
        "milestones": {f"{milestone}_at": "2026-11-23T16:00:00Z"},
    }


@pytest.mark.parametrize(
    ("changes", "path"),
    [({"milestone": "cancelled"}, "milestone"), ({"milestone": {}}, "milestone"), ({"at": None}, "at")],
)
def test_a_status_that_cannot_be_read_parks(changes: dict[str, Any], path: str) -> None:
    assert refusal(a_status(**changes)).detail.startswith(f"{path}: ")


@given(
    st.lists(st.tuples(st.integers(0, 10**10), st.sampled_from(["goods", "shipping", "fee", "gift_card"])), max_size=20)
)
def test_the_goods_of_an_order_are_the_sum_of_its_goods_lines(lines: list[tuple[int, str]]) -> None:
    event = an_order(
        lines=[
            {"id": index, "kind": kind, "net": f"{minor // 100}.{minor % 100:02d}"}
            for index, (minor, kind) in enumerate(lines)
        ]
    )

    assert read(event).understood["goods_minor"] == sum(minor for minor, kind in lines if kind == "goods")


FULL = an_order(
    number="A-1",
    customer={"id": 7, "email": "a@b.example", "phone": "+1 555 0100"},
    click_ids=["clk_a"],
    landing_url="/?koc_click=clk_b",
    coupon_codes=["ANN10"],
    totals={"total": "60.00", "tax": "2.62", "shipping": "4.90", "discount": "1.00"},
    milestones={"paid_at": "2026-11-20T10:00:01Z"},
    cancelled=False,
    test=False,
)
DISPUTE = a_dispute(closed_at="2026-12-20T09:00:00Z", outcome="won")


@given(mutated([FULL, a_refund(amount="30.00", dispute_id="x"), DISPUTE, a_status()]))
def test_no_body_raises_anything_but_not_understood(body: bytes) -> None:
    answer = outcome(lambda: ADAPTER.translate(Delivery("msg_1", "", body), READING))

    if isinstance(answer, NotUnderstood):
        assert answer.reason_code
        assert 0 < len(answer.detail) < 500
    else:
        assert answer.order_id
        assert json.dumps(answer.understood)
        assert all(fact.text.encode() for fact in answer.facts)


def test_a_refund_may_be_told_by_its_total_until_its_lines_are_known() -> None:
    total = read(a_refund(provisional=True, lines=None, amount="25.00"))
    lines = read(a_refund())

    assert [fact.provisional for fact in (*total.facts, *lines.facts)] == [True, False]
    assert total.understood["refunds"][0]["provisional"] is True
    assert "provisional" not in lines.understood["refunds"][0]
    assert refusal(a_refund(provisional="yes")).reason_code == "invalid_field"
