"""Webhooks for every adapter: bodies to begin with, and one delivery signed as every platform signs it.

An adapter looks at its own header only, so that one set of headers serves all, and a new adapter needs nothing here
unless it signs in a way nobody had before.
"""

import base64
import binascii
import hmac
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.webhooks import Event, standard
from tests.support import webhooks

FIXTURES = Path(webhooks.__file__).parent.parent / "fixtures"

Headers = list[tuple[str, str]]


def signed(secret: str, body: bytes, *, delivery: str, topic: str) -> Headers:
    """Return the headers of a delivery, signed in every way. topic: such as orders/create."""
    key = secret.encode()
    digest = hmac.digest(key, body, "sha256")
    at_s = int(time.time())
    stripe = hmac.digest(key, b"%d.%b" % (at_s, body), "sha256").hex()
    in_base64 = base64.b64encode(digest).decode()
    headers = [
        ("content-type", "application/json"),
        ("x-shopify-topic", topic),
        ("x-shopify-shop-domain", "shop.example"),
        ("x-shopify-webhook-id", delivery),
        ("x-shopify-hmac-sha256", in_base64),
        ("x-wc-webhook-topic", topic.replace("orders/", "order.")),
        ("x-wc-webhook-source", "https://shop.example/"),
        ("x-wc-webhook-id", "1"),
        ("x-wc-webhook-delivery-id", delivery),
        ("x-wc-webhook-signature", in_base64),
        ("x-haravan-topic", topic),
        ("x-haravan-shop-domain", "shop.example"),
        ("x-haravan-hmac-sha256", in_base64),
        ("x-haravan-hmacsha256", in_base64),
        ("stripe-signature", f"t={at_s},v1={stripe}"),
        ("authorization", digest.hex()),
    ]
    app_key, colon, app_secret = secret.partition(":")
    if colon:
        headers[-1] = ("authorization", hmac.digest(app_secret.encode(), app_key.encode() + body, "sha256").hex())
    try:
        own = standard(secret, Event(delivery, body), at_s=at_s)
    except (binascii.Error, ValueError):
        own = []
    return headers + [header for header in own if header[0] != "content-type"]


def bodies(platform: str, *, coupon: str, draw: random.Random) -> list[tuple[str, Any]]:
    """(topic, body) of deliveries to begin with: those the tests have of the platform, else those of all."""
    if platform == "generic":
        return _generic(coupon, draw)
    own = sorted((FIXTURES / platform).glob("*.json")) or sorted(FIXTURES.glob("*/*.json"))
    return [(_topic(path.stem), json.loads(path.read_bytes())) for path in own]


def _topic(name: str) -> str:
    """The topic that a file is named after: orders/edited of orders_edited."""
    noun, _, rest = name.partition("_")
    return f"{noun}/{rest.partition('_')[0]}"


def _generic(coupon: str, draw: random.Random) -> list[tuple[str, Any]]:
    when, order = datetime.now(UTC).isoformat(), f"o-{draw.randrange(10**6)}"
    events = [
        webhooks.an_order(
            id=order,
            placed_at=when,
            updated_at=when,
            milestones={"paid_at": when},
            coupon_codes=[coupon],
            customer={"email": "a@b.example"},
        ),
        webhooks.a_refund(order_id=order, refunded_at=when, updated_at=when),
        webhooks.a_dispute(order_id=order, opened_at=when, updated_at=when),
        webhooks.a_status(order_id=order, at=when),
    ]
    return [("", event) for event in events]


def as_bytes(event: Any) -> bytes:
    """An event as its platform would send it."""
    return json.dumps(event, separators=(",", ":")).encode()
