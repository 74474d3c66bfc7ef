"""Receipts computed again by anybody, and terms tried on an order that nobody has placed."""

from typing import Any

import pytest

from tests.support.shop import Shop

Json = dict[str, Any]

SKU = {"kind": "sku", "in": ["MUG"]}
RULES: list[Json] = [
    {"kind": "percent", "rate": "5", "name": "Everything"},
    {"kind": "percent", "rate": "20", "plan": "target", "when": {"all": [SKU]}, "cap_per_line": [{"amount_minor": 900, "currency": "USD"}]},
    {"kind": "flat", "amounts": [{"amount_minor": 150, "currency": "USD"}], "per": "order", "component": "bonus", "funder": "brand"},
]  # fmt: skip
ORDER: Json = {
    "currency": "USD",
    "lines": [
        {"id": "1", "sku": "MUG", "ordered_minor": 6_000},
        {"id": "2", "sku": "HAT", "ordered_minor": 4_000, "refunded_minor": 1_000},
    ],
}


def preview(shop: Shop, program: Json, **asked: Any) -> Json:
    answer = shop.post(f"/v1/programs/{program['id']}/preview", {"order": ORDER, **asked}, by="read")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def earned(shop: Shop) -> Json:
    """Return the receipt of an order that Lan brought with a coupon, after a refund, as the API shows it."""
    program = shop.a_program(rules=RULES)
    lan = shop.an_affiliate("Lan", program=program)
    shop.a_coupon(lan, "LAN", program=program)
    lines = [{"id": "1", "sku": "MUG", "net": "60.00"}, {"id": "2", "sku": "HAT", "quantity": 2, "net": "40.00"}]
    order = shop.order(coupon_codes=["LAN"], lines=lines)
    shop.deliver(order)
    shop.deliver(shop.refund(order, "10.00", lines=[{"line_id": "2", "net": "10.00"}]))
    [commission] = shop.get("/v1/commissions").json()["data"]
    return dict(shop.get(f"/v1/commissions/{commission['id']}/receipt").json())


def verified(shop: Shop, receipt: Json, terms: Json, *, by: str = "read") -> Json:
    answer = shop.post("/v1/receipts/verify", {"receipt": receipt, "terms": terms}, by=by)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_receipt_recomputes_from_what_it_says(shop: Shop, earned: Json) -> None:
    assert earned["receipt"]["borne_by"] == {"merchant": 1_050, "brand": 150}
    assert earned["receipt"]["target_minor"] == 1_200
    assert verified(shop, earned["receipt"], earned["terms"]) == {"holds": True, "differences": []}


def test_a_koc_may_verify_too(shop: Shop, earned: Json) -> None:
    lan = shop.get("/v1/affiliates").json()["data"][0]

    assert verified(shop, earned["receipt"], earned["terms"], by=lan["id"])["holds"]


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (["target_minor"], 1_201, "/target_minor"),
        (["lines", 0, "ordered_minor"], 6_001, "/lines/0/base_minor"),
        (["lines", 0, "parts", 0, "rate"], "21", "/lines/0/parts/0/rate"),
        (["lines", 1, "parts", 0, "candidates"], [], "/lines/1/parts/0/candidates"),
        (["order", "left_minor"], 1, "/order/left_minor"),
        (["borne_by", "brand"], 0, "/borne_by/brand"),
        (["versions_considered", 0, "total_minor"], 7, "/versions_considered/0/total_minor"),
        (["program_version"], 9, "/versions_considered"),
    ],
)
def test_where_it_does_not_the_place_is_named(
    shop: Shop, earned: Json, path: list[str | int], value: Any, pointer: str
) -> None:
    changed: Any = earned["receipt"]
    for step in path[:-1]:
        changed = changed[step]
    changed[path[-1]] = value

    found = verified(shop, earned["receipt"], earned["terms"])

    assert not found["holds"]
    assert pointer in [difference["pointer"] for difference in found["differences"]]


def test_other_terms_come_to_something_else(shop: Shop, earned: Json) -> None:
    terms = earned["terms"] | {"cap_per_order": [{"amount_minor": 1_000, "currency": "USD"}]}

    found = verified(shop, earned["receipt"], terms)

    assert {difference["pointer"]: difference["computed"] for difference in found["differences"]} == {
        "/cap_minor": 1_000,
        "/target_minor": 1_000,
        "/borne_by/merchant": 875,
        "/borne_by/brand": 125,
        "/versions_considered/0/total_minor": 1_000,
    }


def test_what_is_no_receipt_is_refused(shop: Shop, earned: Json) -> None:
    del earned["receipt"]["lines"][0]["quantity"]

    answer = shop.post("/v1/receipts/verify", {"receipt": earned["receipt"], "terms": earned["terms"]})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/receipt/lines/0/quantity")


def test_a_preview_shows_which_rule_counts_and_why_the_others_do_not(shop: Shop) -> None:
    program = shop.a_program(rules=RULES)

    shown = preview(shop, program)

    assert shown["program_version"] == 1
    mug, hat = shown["receipt"]["lines"]
    assert [(each["rule"], each["standing"]) for each in mug["parts"][0]["candidates"]] == [
        (1, "counts"),
        (0, "lower_plan"),
    ]
    assert (mug["parts"][0]["exact_minor"], hat["parts"][0]["exact_minor"]) == ("900", "150")
    assert [each["parts"][1]["exact_minor"] for each in (mug, hat)] == ["100", "50"]
    assert shown["silent"] == [{"line_id": "2", "rule": 1, "because": "when/all/0"}]
    assert shown["receipt"]["target_minor"] == 1_200


def test_terms_can_be_tried_before_they_are_a_version(shop: Shop) -> None:
    program = shop.a_program(rate="10")
    draft = {"rules": [{"kind": "percent", "rate": "7"}], "exclude": [{"kind": "coupon", "in": ["STAFF"]}]}

    tried = preview(shop, program, terms=draft)
    staff = preview(shop, program, terms=draft, order=ORDER | {"touch": "coupon", "coupon": "staff"})

    assert (tried["program_version"], tried["receipt"]["target_minor"]) == (None, 630)
    assert staff["receipt"]["target_minor"] == 0
    assert all(line["excluded"] for line in staff["receipt"]["lines"])
    assert preview(shop, program)["receipt"]["target_minor"] == 900


@pytest.mark.parametrize(
    ("order", "status"),
    [
        pytest.param(ORDER | {"currency": "XXQ"}, 422, id="no such currency"),
        pytest.param(ORDER | {"lines": []}, 422, id="no lines"),
        pytest.param(
            ORDER | {"lines": [{"id": "1", "ordered_minor": 1, "refunded_minor": 2}]}, 422, id="more back than ordered"
        ),
        pytest.param(ORDER | {"placed_at": "2001-01-01T00:00:00Z"}, 404, id="before there were terms"),
    ],
)
def test_what_cannot_be_previewed_is_refused(shop: Shop, order: Json, status: int) -> None:
    program = shop.a_program()

    assert shop.post(f"/v1/programs/{program['id']}/preview", {"order": order}).status_code == status


def test_terms_of_another_merchant_cannot_be_tried(shop: Shop) -> None:
    program = shop.a_program()
    other = Shop(shop.client, operator_key=shop.key_of("operator")["Authorization"].removeprefix("Bearer "))

    assert other.post(f"/v1/programs/{program['id']}/preview", {"order": ORDER}).status_code == 404
