"""The sender's side of webhooks: events of shops as bytes, signed as their platforms sign them."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench import client

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One delivery of the generic format, not yet signed. id: the same for each time it is sent."""

    id: str
    body: bytes

    @classmethod
    def of(cls, event_id: str, event: Mapping[str, Any]) -> "Event":
        return cls(event_id, json.dumps(event, separators=(",", ":")).encode())


def standard(secret: str, event: Event, *, at_s: int) -> list[tuple[str, str]]:
    """Return the headers of a delivery signed by Standard Webhooks. at_s: seconds since 1970."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b"%s.%d.%s" % (event.id.encode(), at_s, event.body)
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return [
        ("content-type", "application/json"),
        ("webhook-id", event.id),
        ("webhook-timestamp", str(at_s)),
        ("webhook-signature", f"v1,{signature}"),
    ]


def shopify(secret: str, event: Event, *, topic: str, shop_domain: str) -> list[tuple[str, str]]:
    """Return the headers of a delivery as Shopify signs it."""
    signature = base64.b64encode(hmac.new(secret.encode(), event.body, hashlib.sha256).digest()).decode()
    return [
        ("content-type", "application/json"),
        ("x-shopify-topic", topic),
        ("x-shopify-shop-domain", shop_domain),
        ("x-shopify-webhook-id", event.id),
        ("x-shopify-hmac-sha256", signature),
    ]


def wire(url: str, secret: str, event: Event, *, at_s: int) -> bytes:
    """Return a signed delivery of the generic format as the bytes of a whole request."""
    parts = urlsplit(url)
    return client.request(
        "POST", parts.path, host=parts.netloc, headers=standard(secret, event, at_s=at_s), body=event.body
    )
