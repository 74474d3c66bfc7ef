"""Signatures of shops that sign the raw body and nothing else: base64 of HMAC-SHA256, in a header of their own.

No header is signed, so a caught delivery can be sent again under another id or topic: it then says the same once more,
or parks.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from service.intake.adapters.model import BadSignature, Delivery

_HEADER = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class SignedBody:
    """The headers in which one platform says what it says, by their names in lower case.

    delivery_id: empty where the platform names no delivery; the topic and the body are then their own id.
    """

    signature: str
    topic: str
    shop_domain: str
    delivery_id: str = ""

    def verify(self, secret: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:  # noqa: ARG002 - no time is signed
        """Return the delivery when its HMAC fits. Raises BadSignature; an empty secret verifies nothing."""
        if not secret:
            raise BadSignature("This source has no secret.")
        expected = base64.b64encode(hmac.digest(secret, body, "sha256"))
        given = headers.get(self.signature, "").encode("utf-8", "replace")
        if not hmac.compare_digest(expected, given):
            raise BadSignature(f"{self.signature} does not fit these bytes and this source's secret.")
        topic = header(headers, self.topic)
        return Delivery(
            # The topic too: one body under two topics is two deliveries, of which we may know only the second.
            header(headers, self.delivery_id) or f"sha256:{hashlib.sha256(topic.encode() + b'.' + body).hexdigest()}",
            topic,
            body,
            shop_domain=host_of(header(headers, self.shop_domain)),
        )


def header(headers: Mapping[str, str], name: str) -> str:
    """Return a header's value; empty where there is none that could be an id, a topic or an address."""
    value = headers.get(name, "")
    return value if _HEADER.fullmatch(value) else ""


def host_of(address: str) -> str:
    """Return the host an address or a bare host name names, in lower case; empty where there is none."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def new_secret() -> str:
    """Return a random secret, to be given to the shop or replaced by the one the shop shows."""
    return secrets.token_hex(32)
