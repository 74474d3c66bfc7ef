"""Signatures by Standard Webhooks, symmetric (`v1`). Source: standardwebhooks.com specification, read 2026-11.

Our own lines, since the library raises raw errors on hostile headers and takes fractional timestamps.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime

from service.infra import standard_webhooks as signing
from service.intake.adapters.model import BadSignature, Delivery

TOLERANCE_S = 300
"""How far the sender's clock may be from ours, either way."""
SIGNATURES_MAX = 8
"""A sender that changes its secret signs with several for a while."""

_ID = re.compile(r"[!-~]{1,255}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def verify(secret: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
    """Return the delivery when one of its signatures is ours and its time within five minutes of now.

    secret: `whsec_` and base64 of 24 to 64 bytes; with any other, also an empty one, nothing verifies.
    """
    delivery_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (_ID.fullmatch(delivery_id) and _TIMESTAMP.fullmatch(timestamp)):
        raise BadSignature("The headers webhook-id and webhook-timestamp (whole seconds) are needed.")
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE_S:
        raise BadSignature(f"webhook-timestamp is more than {TOLERANCE_S} seconds from our clock.")
    expected = b"v1," + signature(secret, delivery_id, timestamp, body)
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    if len(given) > SIGNATURES_MAX:
        raise BadSignature(f"webhook-signature holds more than {SIGNATURES_MAX} signatures.")
    # All are compared, so that the time taken tells nothing about which one fits.
    fits = [hmac.compare_digest(expected, one) for one in given]
    if not any(fits):
        raise BadSignature("No v1 signature in webhook-signature fits these bytes and this source's secret.")
    return Delivery(delivery_id, "", body)


def signature(secret: bytes, delivery_id: str, timestamp: str, body: bytes) -> bytes:
    """Return the base64 HMAC-SHA256 of id, timestamp and body. Raises BadSignature for a secret that is none."""
    try:
        return signing.signature(secret, delivery_id, timestamp, body)
    except signing.UnusableSecret:
        raise BadSignature("This source has no usable secret.") from None


def secret_flaw(secret: str) -> str:
    """Return why nothing can be signed with a secret; empty if something can."""
    try:
        signature(secret.encode(), "id", "0", b"")
    except BadSignature:
        return "Standard Webhooks sign with whsec_ and the base64 of 24 to 64 bytes."
    return ""


def new_secret() -> str:
    """Return a secret of 32 random bytes."""
    return signing.new_secret()
