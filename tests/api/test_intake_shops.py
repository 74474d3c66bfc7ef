"""WooCommerce and Haravan over HTTP: signatures, pings, challenges, whose shop it is, and settings of a source."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra.db import fetch, read_session
from tests.domain.strategies import examples
from tests.support.shop import Shop
from tests.support.webhooks import a_dispute, a_refund, a_status, an_order, as_bytes, body_of, mutated, raw_body

Json = dict[str, Any]
SECRET = "0123456789abcdef-secret"  # of a shop that exists in tests only
TOKEN = "a-token-of-ours-0123"  # no secret of anybody


def mac(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def a_source(shop: Shop, platform: str, **more: Any) -> Json:
    made = shop.post("/v1/sources", {"name": "Tea", "platform": platform, "secret": SECRET, **more})
    assert made.status_code == 201, made.text
    source: Json = made.json()["source"]
    return source


def post_woo(
    client: TestClient,
    source: Json,
    body: bytes,
    topic: str = "order.updated",
    *,
    delivery: str = "",
    domain: str = "tea.example",
    secret: str = SECRET,
) -> Response:
    headers = {
        "content-type": "application/json",
        "x-wc-webhook-source": f"https://{domain}/",
        "x-wc-webhook-topic": topic,
        "x-wc-webhook-signature": mac(body, secret),
        "x-wc-webhook-delivery-id": delivery or hashlib.sha256(topic.encode() + body).hexdigest()[:32],
    }
    return client.post(f"/intake/{source['id']}", content=body, headers=headers)


def post_haravan(
    client: TestClient, source: Json, body: bytes, topic: str = "orders/updated", *, secret: str = SECRET
) -> Response:
    headers = {
        "content-type": "application/json",
        "x-haravan-shop-domain": "tra.myharavan.com",
        "x-haravan-topic": topic,
        "x-haravan-hmacsha256": mac(body, secret),
    }
    return client.post(f"/intake/{source['id']}", content=body, headers=headers)


def post_shopify(client: TestClient, source: Json, body: bytes, topic: str = "orders/updated") -> Response:
    headers = {"x-shopify-topic": topic, "x-shopify-hmac-sha256": mac(body)}
    return client.post(f"/intake/{source['id']}", content=body, headers=headers)


POSTS: dict[str, Callable[..., Response]] = {"woocommerce": post_woo, "haravan": post_haravan}
GOOD = {"woocommerce": "order_processing_tax_on_top", "haravan": "orders_create_cash_on_delivery"}


def kept(client: TestClient) -> int:
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        return int(fetch(session, "SELECT count(*) AS number FROM inbox")[0].number)


@pytest.mark.parametrize("platform", POSTS)
def test_a_rightly_signed_order_counts_and_a_wrongly_signed_one_is_a_401(
    shop: Shop, client: TestClient, platform: str
) -> None:
    source, body = a_source(shop, platform), raw_body(platform, GOOD[platform])

    wrong = POSTS[platform](client, source, body, secret="another secret of somebody")
    unkept = kept(client)
    right = POSTS[platform](client, source, body)
    again = POSTS[platform](client, source, body)

    assert (wrong.status_code, wrong.json()["code"], unkept) == (401, "bad-signature", 0)
    assert (right.status_code, right.json()["state"], right.json()["repeated"]) == (200, "applied", False)
    assert (again.status_code, again.json()["repeated"]) == (200, True)


def test_the_ping_of_woocommerce_is_answered_200_and_not_kept(shop: Shop, client: TestClient) -> None:
    source = a_source(shop, "woocommerce")
    form = {"content-type": "application/x-www-form-urlencoded"}

    ping = client.post(f"/intake/{source['id']}", content=b"webhook_id=7", headers=form)

    assert (ping.status_code, ping.content, kept(client)) == (200, b"", 0)


@pytest.mark.parametrize(
    ("platform", "headers", "content"),
    [
        pytest.param("woocommerce", {}, raw_body("woocommerce", GOOD["woocommerce"]), id="an order without signature"),
        pytest.param("woocommerce", {}, b"webhook_id=7&order=1", id="more than a ping"),
        pytest.param(
            "woocommerce", {"x-wc-webhook-signature": "x"}, b"webhook_id=7", id="a ping that is signed wrongly"
        ),
        pytest.param("generic", {}, b"webhook_id=7", id="a ping to another platform's source"),
        pytest.param("haravan", {}, b"webhook_id=7", id="a ping to haravan"),
    ],
)
def test_nothing_unsigned_comes_in_as_a_ping(
    shop: Shop, client: TestClient, platform: str, headers: dict[str, str], content: bytes
) -> None:
    source = shop.source["source"] if platform == "generic" else a_source(shop, platform)

    answer = client.post(f"/intake/{source['id']}", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"], kept(client)) == (401, "bad-signature", 0)


def test_a_ping_to_an_address_nobody_listens_at_is_a_404(client: TestClient) -> None:
    assert client.post("/intake/src_01h455vb4pex5vsknk084sn02q", content=b"webhook_id=7").status_code == 404


def test_haravan_gets_its_challenge_back_only_with_the_sources_own_token(shop: Shop, client: TestClient) -> None:
    address = f"/intake/{a_source(shop, 'haravan', settings={'verify_token': TOKEN})['id']}"

    right = client.get(address, params={"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "4711"})
    wrong = client.get(address, params={"hub.verify_token": TOKEN + "x", "hub.challenge": "4711"})
    page = client.get(address, params={"hub.verify_token": TOKEN, "hub.challenge": "<b>hello</b>"})

    assert (right.status_code, right.text) == (200, "4711")
    assert right.headers["content-type"].startswith("text/plain")
    assert [(each.status_code, each.json()["code"]) for each in (wrong, page)] == [(401, "bad-verify-token")] * 2
    assert kept(client) == 0


def test_where_no_token_was_set_or_the_platform_does_not_ask_nothing_is_echoed(shop: Shop, client: TestClient) -> None:
    asked = {"hub.verify_token": "", "hub.challenge": "4711"}
    without, woo = a_source(shop, "haravan"), a_source(shop, "woocommerce")
    generic = shop.source["source"]

    answers = [
        client.get(f"/intake/{each}", params=asked)
        for each in (without["id"], woo["id"], generic["id"], "src_01h455vb4pex5vsknk084sn02q", "nonsense")
    ]

    assert [answer.status_code for answer in answers] == [401, 404, 404, 404, 404]
    assert all("4711" not in answer.text for answer in answers)


# Whose shop it is


def test_a_header_or_a_body_of_another_shop_parks_and_stays_parked_when_it_is_replayed(
    shop: Shop, client: TestClient
) -> None:
    source = a_source(shop, "woocommerce", shop_domain="tea.example")
    body = body_of("woocommerce", GOOD["woocommerce"])
    theirs = body | {"_links": {"self": [{"href": "https://coffee.example/wp-json/wc/v3/orders/5001"}]}}

    by_header = post_woo(client, source, as_bytes(body), domain="coffee.example")
    by_body = post_woo(client, source, as_bytes(theirs))
    replayed = [shop.post(f"/v1/inbox/{each.json()['inbox_id']}/replay") for each in (by_header, by_body)]
    own = post_woo(client, source, as_bytes(body), delivery="own")

    assert [(each.status_code, each.json()["reason_code"]) for each in (by_header, by_body)] == [
        (202, "other_shop_domain")
    ] * 2
    assert [(each.json()["state"], each.json()["reason_code"]) for each in replayed] == [
        ("parked", "other_shop_domain")
    ] * 2
    assert {each.json()["detail"] for each in (by_header, by_body)} == {
        "This source is tea.example's; this names coffee.example."
    }
    assert own.json()["state"] == "applied"


def test_of_a_long_name_of_another_shop_the_beginning_is_told(shop: Shop, client: TestClient) -> None:
    source = a_source(shop, "woocommerce", shop_domain="tea.example")
    theirs = {"_links": {"self": [{"href": f"https://\u202e{'a' * 500}.example/wp-json/wc/v3/orders/5001"}]}}

    parked = post_woo(client, source, as_bytes(body_of("woocommerce", GOOD["woocommerce"]) | theirs)).json()

    assert parked["detail"] == f"This source is tea.example's; this names {'a' * 100}."


def test_what_the_release_before_parked_as_another_shops_stays_so(shop: Shop, client: TestClient) -> None:
    source = a_source(shop, "woocommerce", shop_domain="tea.example")
    body = as_bytes(body_of("woocommerce", GOOD["woocommerce"]) | {"_links": {}})
    parked = post_woo(client, source, body, domain="coffee.example").json()
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    with service.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inbox SET shop_domain = NULL")

    replayed = shop.post(f"/v1/inbox/{parked['inbox_id']}/replay").json()

    assert (replayed["state"], replayed["reason_code"]) == ("parked", "other_shop_domain")


# Settings


def test_settings_are_checked_by_the_platform_and_shown_with_their_version(shop: Shop) -> None:
    settings = {"statuses": {"wc-shipped": "fulfilled"}}
    source = a_source(shop, "woocommerce", settings=settings)
    plain = a_source(shop, "woocommerce")

    assert (source["settings"], source["settings_version"]) == (settings, 1)
    assert (plain["settings"], plain["settings_version"]) == ({}, 0)
    assert shop.get(f"/v1/sources/{source['id']}").json() == source
    assert source in shop.get("/v1/sources").json()["data"]


def test_a_put_adds_a_version_and_the_same_again_adds_none(shop: Shop) -> None:
    source = a_source(shop, "woocommerce")
    address = f"/v1/sources/{source['id']}/settings"

    made = [
        shop.put(address, {"settings": settings}).json()
        for settings in ({"currency": "VND"}, {"currency": "VND"}, {}, {"currency": "USD"})
    ]

    assert [each["settings_version"] for each in made] == [1, 1, 2, 3]
    assert [each["settings"] for each in made] == [{"currency": "VND"}, {"currency": "VND"}, {}, {"currency": "USD"}]


@pytest.mark.parametrize(
    ("platform", "unknown"),
    [
        ("generic", {"statuses": {}}),
        ("shopify", {"currency": "USD"}),
        ("woocommerce", {"verify_token": TOKEN}),
        ("woocommerce", {"statuses": {"shipped": "sent"}}),
        ("haravan", {"statuses": {}}),
        ("haravan", {"verify_token": "short"}),
    ],
)
def test_settings_a_platform_does_not_know_are_a_problem_and_change_nothing(
    shop: Shop, platform: str, unknown: Json
) -> None:
    asked: Json = {"name": "Tea", "platform": platform}

    made = shop.post("/v1/sources", asked | {"settings": unknown})
    source = shop.post("/v1/sources", asked).json()["source"]
    put = shop.put(f"/v1/sources/{source['id']}/settings", {"settings": unknown})

    assert [(each.status_code, each.json()["code"]) for each in (made, put)] == [(422, "unusable-settings")] * 2
    assert shop.get(f"/v1/sources/{source['id']}").json()["settings_version"] == 0


def test_settings_of_nobodys_source_or_of_the_desk_are_a_404_and_readers_may_not_set_them(shop: Shop) -> None:
    desk = next(each for each in shop.get("/v1/sources").json()["data"] if each["platform"] == "desk")
    source = a_source(shop, "woocommerce")

    def put(source_id: str, by: str = "admin") -> int:
        return shop.client.put(
            f"/v1/sources/{source_id}/settings", json={"settings": {}}, headers=shop.key_of(by)
        ).status_code

    assert put(desk["id"]) == put("src_01h455vb4pex5vsknk084sn02q") == 404
    assert put(source["id"], by="read") == 403
    assert shop.get("/v1/sources/src_01h455vb4pex5vsknk084sn02q").status_code == 404


def test_a_status_nobody_explained_parks_until_it_is_and_a_replay_reads_by_the_newest_settings(
    shop: Shop, client: TestClient
) -> None:
    source = a_source(shop, "woocommerce")
    body = as_bytes(body_of("woocommerce", GOOD["woocommerce"]) | {"status": "shipped"})
    parked = post_woo(client, source, body)

    shop.put(f"/v1/sources/{source['id']}/settings", {"settings": {"statuses": {"shipped": ["paid", "fulfilled"]}}})
    replayed = shop.post(f"/v1/inbox/{parked.json()['inbox_id']}/replay").json()

    assert (parked.status_code, parked.json()["reason_code"]) == (202, "unknown_status")
    assert (replayed["state"], replayed["settings_version"], replayed["grammar"]) == ("applied", 1, None)
    assert "fulfilled_at" in replayed["understood"]["milestones"]


def test_a_deliverys_view_names_the_settings_it_was_read_by(shop: Shop, client: TestClient) -> None:
    source = a_source(shop, "woocommerce", settings={"currency": "USD"})
    delivered = post_woo(client, source, raw_body("woocommerce", GOOD["woocommerce"])).json()

    view = shop.get(f"/v1/inbox/{delivered['inbox_id']}").json()["delivery"]

    assert view["settings_version"] == 1


# Money


def test_an_order_paid_by_click_earns_and_its_refund_takes_back_what_the_lines_say(
    shop: Shop, client: TestClient
) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "ann10")
    source = a_source(shop, "woocommerce")
    at = shop.time(hours=1).split(".")[0].removesuffix("Z")
    order = body_of("woocommerce", GOOD["woocommerce"]) | {
        "date_created_gmt": at, "date_modified_gmt": at, "date_paid_gmt": at, "meta_data": []
    }  # fmt: skip
    shown = order | {"date_modified_gmt": shop.time().split(".")[0].removesuffix("Z")}
    refund = body_of("woocommerce", "refund_created_lines") | {"date_created_gmt": at}
    earnings = partial(shop.get, "/v1/me/earnings", by=lan["id"])

    post_woo(client, source, as_bytes(order))
    earned = earnings().json()["data"][0]["pending"]["amount_minor"]
    early = post_woo(client, source, as_bytes(refund), "refund.created")
    by_lines = earnings().json()["data"][0]["pending"]["amount_minor"]
    post_woo(client, source, as_bytes(shown | {"refunds": [{"id": 5101, "reason": "", "total": "-19.90"}]}))
    by_total_later = earnings().json()["data"][0]["pending"]["amount_minor"]

    assert early.json()["state"] == "applied"
    # 10 % of 30.00, then of 21.00; the bare total that the order shows afterwards changes nothing.
    assert (earned, by_lines, by_total_later) == (300, 210, 210)


def test_a_refund_before_its_order_waits(shop: Shop, client: TestClient) -> None:
    source = a_source(shop, "woocommerce")

    refund = post_woo(client, source, raw_body("woocommerce", "refund_created_lines"), "refund.created")
    post_woo(client, source, raw_body("woocommerce", GOOD["woocommerce"]))

    assert refund.json()["state"] == "waiting"
    assert shop.get(f"/v1/inbox/{refund.json()['inbox_id']}").json()["delivery"]["state"] == "applied"


# A shop that is answered 4xx a few times disables its webhook.

TOPICS = {
    "woocommerce": ["order.created", "order.updated", "order.deleted", "refund.created", "action.x", "product.updated"],
    "haravan": ["orders/create", "orders/updated", "orders/delete", "refunds/create", "app/uninstalled"],
    "shopify": ["orders/create", "orders/updated", "orders/edited", "refunds/create", "customers/redact"],
}
NAMES = {
    "woocommerce": [
        "order_processing_tax_on_top",
        "order_completed_refund_totals",
        "order_through_plugins",
        "refund_created_lines",
        "order_deleted",
    ],
    "haravan": ["orders_create_cash_on_delivery", "orders_updated_paid_delivered_refunded", "refunds_create_pieces"],
    "shopify": ["orders_create_tax_on_top", "orders_updated_taxes_included", "refunds_create_lines_and_fee"],
}


@pytest.mark.parametrize("platform", TOPICS)
def test_whatever_is_rightly_signed_is_answered_200_or_202(shop: Shop, client: TestClient, platform: str) -> None:
    source, post = a_source(shop, platform), (POSTS | {"shopify": post_shopify})[platform]
    bodies = st.one_of(
        mutated([body_of(platform, name) for name in NAMES[platform]]),
        st.binary(max_size=40),
        st.sampled_from([b"", b"[]", b"{}", b"null", b"\xff", b'{"id":1e400}', b'{"id":"\\ud800"}', b'{"id":NaN}']),
    )

    @examples(60)
    @given(bodies, st.sampled_from(TOPICS[platform]))
    def holds(body: bytes, topic: str) -> None:
        answer = post(client, source, body, topic)

        assert answer.status_code in {200, 202}, answer.text
        assert answer.json()["state"] in {"applied", "waiting", "ignored", "parked"}

    holds()


def test_whatever_is_rightly_signed_in_our_own_language_is_answered_200_or_202(shop: Shop) -> None:
    @examples(40)
    @given(mutated([an_order(), a_refund(), a_refund(provisional=True), a_dispute(), a_status()]))
    def holds(body: bytes) -> None:
        assert shop.deliver(body).status_code in {200, 202}

    holds()


@pytest.mark.parametrize("platform", POSTS)
def test_bodies_in_any_order_and_twice_are_never_refused(shop: Shop, client: TestClient, platform: str) -> None:
    source = a_source(shop, platform)
    told = [
        (raw_body(platform, name), "refund.created" if "refund_" in name else "order.updated")
        if platform == "woocommerce"
        else (raw_body(platform, name), "refunds/create" if name.startswith("refunds") else "orders/updated")
        for name in NAMES[platform]
    ]

    answers = [POSTS[platform](client, source, *each) for each in (*reversed(told), *told)]

    assert {answer.status_code for answer in answers} <= {200, 202}
