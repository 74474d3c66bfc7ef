"""Events of Stripe and notices of TikTok Shop: our own bodies, changed as a test needs them, and signed."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FIXTURES = Path(__file__).parent.parent / "fixtures"
STRIPE_SECRET = "whsec_0123456789abcdef0123456789abcdef"
TIKTOK_SECRET = "6aexampleKey:0123456789abcdef0123456789abcdef01234567"
INTENT = "pi_3SexampleIntent0001"
CHARGE = "ch_3SexampleCharge0001"


def stripe_event(name: str, *, kind: str | None = None, at: int | None = None, **changes: Any) -> Json:
    """One of our Stripe events. kind, at: its type and time; changes: fields of its object, … takes one out."""
    event: Json = json.loads((FIXTURES / "stripe" / f"{name}.json").read_bytes())
    event["type"] = kind or event["type"]
    event["created"] = event["created"] if at is None else at
    event["data"]["object"] = changed(event["data"]["object"], changes)
    return event


def a_session(*, kind: str = "completed", **changes: Any) -> Json:
    """A paid checkout: goods 45.00 after 5.00 off, their tax 9.00, carriage 6.00 and its tax 1.20; 61.20 USD in all."""
    return stripe_event("checkout_session_completed", kind=f"checkout.session.{kind}", **changes)


def a_refunded_charge(total: int | None = 2700, **changes: Any) -> Json:
    """The charge of that checkout with so much refunded in all."""
    return stripe_event("charge_refunded", amount_refunded=total, **changes)


def a_dispute(status: str = "needs_response", *, kind: str = "created", **changes: Any) -> Json:
    """A dispute over 32.40 of that charge."""
    return stripe_event("charge_dispute_created", kind=f"charge.dispute.{kind}", status=status, **changes)


def a_notice(name: str = "order_status", *, at: int | None = None, **changes: Any) -> Json:
    """One of our TikTok notices. at: when it was made; changes: fields of its data, … takes one out."""
    notice: Json = json.loads((FIXTURES / "tiktok_shop" / f"{name}.json").read_bytes())
    notice["timestamp"] = notice["timestamp"] if at is None else at
    notice["data"] = changed(notice["data"], changes)
    return notice


def changed(of: Json, changes: Json) -> Json:
    return {key: value for key, value in (of | changes).items() if value is not ...}


def stripe_headers(body: bytes, *, at: float, secret: str = STRIPE_SECRET) -> dict[str, str]:
    """Headers as Stripe signs a body, written here anew so that they check the service's own."""
    mac = hmac.new(secret.encode(), f"{int(at)}.".encode() + body, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "stripe-signature": f"t={int(at)},v1={mac}"}


def tiktok_headers(body: bytes, *, secret: str = TIKTOK_SECRET) -> dict[str, str]:
    """Headers as TikTok Shop signs a body, written here anew."""
    app_key, _, app_secret = secret.partition(":")
    mac = hmac.new(app_secret.encode(), app_key.encode() + body, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "authorization": mac}
