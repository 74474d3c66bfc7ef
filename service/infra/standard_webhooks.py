"""Signing by Standard Webhooks, symmetric (`v1`), for what comes in and what goes out.

Source: standardwebhooks.com specification, read 2026-11.
"""

import base64
import binascii
import hmac
import secrets

_PREFIX = b"whsec_"


class UnusableSecret(ValueError):
    """Not `whsec_` and base64 of 24 to 64 bytes."""


def signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    """Return the base64 HMAC-SHA256 of id, timestamp (whole seconds) and body. Raises UnusableSecret."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise UnusableSecret
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return binascii.b2a_base64(hmac.digest(key, signed, "sha256"), newline=False)


def new_secret() -> str:
    """Return a secret of 32 random bytes."""
    return _PREFIX.decode() + base64.b64encode(secrets.token_bytes(32)).decode()
