"""Sources: an address nobody can guess and a secret shown once."""

import base64

import pytest
from sqlalchemy import Engine

from service.infra.db import fetch, unit_of_work
from tests.support.shop import Json, Shop

GOOD = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_a_generated_secret_is_shown_once_and_kept_encrypted(shop: Shop, engine: Engine) -> None:
    made = shop.post("/v1/sources", {"name": "Shop", "platform": "generic"}).json()

    with unit_of_work(engine) as session:
        (stored,) = fetch(session, "SELECT secret FROM source WHERE platform = 'generic'")
    assert made["secret"].startswith("whsec_")
    assert made["secret"].encode() not in bytes(stored.secret)
    assert made["secret"] not in shop.get("/v1/sources").text
    assert made["source"]["webhook_url"] == f"http://127.0.0.1:8000/intake/{made['source']['id']}"


def test_a_secret_of_the_platform_is_taken_and_not_shown(shop: Shop) -> None:
    asked = {
        "name": "Shop",
        "platform": "shopify",
        "secret": "shpss_0123456789abcdef",
        "shop_domain": "a.myshopify.com",
    }

    made = shop.post("/v1/sources", asked)

    assert made.status_code == 201
    assert made.json()["secret"] is None
    assert "shpss" not in made.text
    assert made.json()["source"]["shop_domain"] == "a.myshopify.com"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"platform": "desk"}, 422, "invalid-request"),
        ({"platform": "magento"}, 422, "invalid-request"),
        ({"platform": "generic", "secret": "short"}, 422, "invalid-request"),
        ({"platform": "generic", "secret": "whsec_this-is-no-base64!"}, 422, "unusable-secret"),
        ({"platform": "generic", "secret": "0123456789abcdef0123456789abcdef"}, 422, "unusable-secret"),
        ({"platform": "generic", "secret": GOOD}, 201, None),
        ({"platform": "shopify", "secret": "0123456789abcdef", "shop_domain": "https://a.b"}, 422, "invalid-request"),
    ],
)
def test_a_source_can_only_be_made_so_that_something_verifies(
    shop: Shop, asked: Json, status: int, code: str | None
) -> None:
    answer = shop.post("/v1/sources", {"name": "Shop", **asked})

    assert (answer.status_code, answer.json().get("code")) == (status, code)


@pytest.mark.parametrize("domain", ["https://lantern.example", "lantern.example/shop", "Lantern.example", "lantern"])
def test_a_shop_domain_is_a_host_alone(shop: Shop, domain: str) -> None:
    answer = shop.post("/v1/sources", {"name": "Shop", "platform": "woocommerce", "shop_domain": domain})

    [part] = answer.json()["errors"]
    assert (part["pointer"], part["code"]) == ("#/shop_domain", "shop-domain")
    assert part["detail"] == "The host alone, such as shop.example, in small letters, without https:// or path"


@pytest.mark.parametrize("platform", ["woo", "desk", 1, ["shopify"]], ids=str)
def test_a_platform_that_does_not_deliver_is_answered_with_those_that_do(shop: Shop, platform: object) -> None:
    answer = shop.post("/v1/sources", {"name": "Shop", "platform": platform})

    assert [(part["pointer"], part["detail"]) for part in answer.json()["errors"]] == [
        ("#/platform", "Must be one of generic, shopify, woocommerce, haravan, stripe, tiktok_shop")
    ]


def test_a_delivery_to_the_shown_address_is_taken_until_the_source_is_disabled(shop: Shop) -> None:
    shop.an_order()

    disabled = shop.post(f"/v1/sources/{shop.source['source']['id']}/disable").json()
    again = shop.post(f"/v1/sources/{shop.source['source']['id']}/disable").json()

    assert disabled["disabled_at"] == again["disabled_at"] is not None


def test_the_desk_cannot_be_disabled(shop: Shop) -> None:
    desk = shop.get("/v1/sources").json()["data"][0]

    answer = shop.post(f"/v1/sources/{desk['id']}/disable")

    assert desk["platform"] == "desk"
    assert answer.status_code == 404
