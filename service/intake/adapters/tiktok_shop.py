"""TikTok Shop: order status, cancellation and return notices, which name an order and never show it.

The order itself comes another way, as an import into the same source in our own format; until then its notices wait.
What a notice says for sure becomes a fact: a milestone reached, the whole order cancelled. What it leaves open, how
much of an order a return or part cancellation took, holds the order until the refund is told under the id of that
return or cancellation, or a person releases it. Source: partner.tiktokshop.com, Webhooks, topics 1, 11 and 12, read
2026-11 in copies.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime

from service.domain.order import (
    Fact,
    HoldFact,
    JsonObject,
    Milestone,
    awaits,
    cancellation_fact,
    hold_fact,
    milestone_fact,
)
from service.intake.adapters.model import Adapter, BadSignature, Delivery, NotUnderstood, Reading, Translation
from service.intake.adapters.parse import a_second, a_text, an_id, an_object, iso, load, wrong

ORDER_STATUS, CANCELLATION, RETURN = 1, 11, 12
"""Types of a notice that are read."""

_DATA = "data."
_NAME = re.compile(r"[!-~]{1,255}")
_SECRET = re.compile(r"([!-9;-~]+):([!-~]+)")
_STATUS = re.compile(r"[A-Z0-9_]{1,64}")

# Each status shows what was reached at the latest: the earliest time told counts. Buyers who pay at the door have paid
# when it was delivered, and no notice says who does; an order's own paid_at, when it is imported, is earlier.
_MILESTONES: dict[str, tuple[Milestone, ...]] = {
    "UNPAID": (),
    "ON_HOLD": (),
    "AWAITING_SHIPMENT": (),
    "PARTIALLY_SHIPPING": (),
    "AWAITING_COLLECTION": (),
    "IN_TRANSIT": (Milestone.FULFILLED,),
    "DELIVERED": (Milestone.FULFILLED, Milestone.PAID, Milestone.DELIVERED),
    "COMPLETED": (Milestone.FULFILLED, Milestone.PAID, Milestone.DELIVERED, Milestone.COMPLETED),
}
_CANCELLED = "CANCELLED"
_WITHDRAWN = ("_REJECT", "_REJECTED", "_CANCEL", "_CANCELLED")
"""How the statuses of a request end by which nothing is given back."""
_COMPLETE = "_COMPLETE"
_REPLACEMENT = "REPLACEMENT"
"""A return for which the buyer gets the same goods again, and no money."""


def verify(secret: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:  # noqa: ARG001 - TikTok signs no time
    """Return the delivery when its HMAC fits. Raises BadSignature.

    secret: `app_key:app_secret`; with any other nothing verifies. No time is signed, so a caught notice can be sent
    again: it is known by its bytes, and says nothing new.
    """
    app_key, colon, app_secret = secret.partition(b":")
    if not (app_key and colon and app_secret):
        raise BadSignature("This source has no usable secret.")
    expected = hmac.digest(app_secret, app_key + body, "sha256").hex().encode()
    given = headers.get("authorization", "").encode("utf-8", "replace")
    if not hmac.compare_digest(expected, given):
        raise BadSignature("Authorization does not fit these bytes and this source's app key and secret.")
    return _delivery(body)


def _delivery(body: bytes) -> Delivery:
    """A verified body under its notification's id, with its type and its shop."""
    try:
        notice = load(body)
    except NotUnderstood:
        notice = {}
    named = notice.get("tts_notification_id"), notice.get("type"), notice.get("shop_id")
    texts = [str(name) if type(name) is int else name if type(name) is str else "" for name in named]
    notification_id, kind, shop_id = [text if _NAME.fullmatch(text) else "" for text in texts]
    return Delivery(notification_id or f"sha256:{hashlib.sha256(body).hexdigest()}", kind, body, shop_domain=shop_id)


def new_secret() -> str:
    """Return a random app key and secret, to be replaced by those of the app at TikTok."""
    return f"{secrets.token_hex(8)}:{secrets.token_hex(32)}"


def secret_flaw(secret: str) -> str:
    """Why TikTok Shop signs nothing with such a secret; empty if it may."""
    return (
        ""
        if _SECRET.fullmatch(secret)
        else "TikTok Shop signs with app key and app secret: give both, as app_key:app_secret."
    )


def translate(delivery: Delivery, reading: Reading) -> Translation:  # noqa: ARG001 - an adapter like the others
    """Return what one notice says about its order. Raises NotUnderstood."""
    notice = load(delivery.body)
    kind = notice.get("type")
    if type(kind) is str and kind.isdecimal() and len(kind) < 10:
        kind = int(kind)
    if type(kind) is not int:
        raise wrong("type", "the number of a topic", kind)
    reader = _READERS.get(kind)
    if reader is None:
        told: JsonObject = {"kind": "other", "topic": str(kind)[:80], "order_id": ""}
        return Translation("", (), told, "topic_without_effect", f"Topic {str(kind)[:80]} changes no commission.")
    told_at = a_second(notice, "timestamp")
    data = an_object(notice, "data")
    if data is None:
        raise wrong("data", "an object")
    return reader(an_id(data, "order_id", _DATA), data, told_at)


def _order_status(order_id: str, data: JsonObject, told_at: datetime) -> Translation:
    status = _status(data, "order_status")
    at = _at(data, "update_time", told_at)
    understood: JsonObject = {"kind": "status", "order_id": order_id, "status": status}
    if status == _CANCELLED:
        return Translation(order_id, (cancellation_fact(at),), understood | {"cancelled_at": iso(at)})
    milestones = _MILESTONES.get(status)
    if milestones is None:
        raise NotUnderstood("unknown_status", f"{_DATA}order_status: {status} is no status of an order we know.")
    if not milestones:
        return Translation(order_id, (), understood, "no_milestone", f"At {status} nothing is reached that counts.")
    facts: tuple[Fact, ...] = tuple(milestone_fact(milestone, at) for milestone in milestones)
    return Translation(
        order_id, facts, understood | {"milestones": {f"{milestone}_at": iso(at) for milestone in milestones}}
    )


def _cancellation(order_id: str, data: JsonObject, told_at: datetime) -> Translation:
    """A request to cancel, maybe only a part: if the whole order is, its status says so."""
    status = _status(data, "cancel_status")
    return _request(order_id, data, told_at, request_id=an_id(data, "cancel_id", _DATA), status=status)


def _return(order_id: str, data: JsonObject, told_at: datetime) -> Translation:
    status = _status(data, "return_status")
    is_swap = a_text(data, "return_type", _DATA) == _REPLACEMENT and status.endswith(_COMPLETE)
    return _request(order_id, data, told_at, request_id=an_id(data, "return_id", _DATA), status=status, is_swap=is_swap)


def _request(
    order_id: str, data: JsonObject, told_at: datetime, *, request_id: str, status: str, is_swap: bool = False
) -> Translation:
    """A hold for as long as something may be given back and nobody has told how much."""
    is_over = is_swap or status.endswith(_WITHDRAWN)
    hold = HoldFact(_at(data, "create_time", told_at), status.lower(), released_at=told_at if is_over else None)
    understood: JsonObject = {
        "kind": "hold",
        "order_id": order_id,
        "status": status,
        "awaits_refund": None if is_over else request_id,
        "opened_at": iso(hold.opened_at),
        "released_at": iso(hold.released_at),
    }
    return Translation(order_id, (hold_fact(awaits(request_id), hold, version_at=told_at),), understood)


def _status(data: JsonObject, key: str) -> str:
    status = a_text(data, key, _DATA)
    if not _STATUS.fullmatch(status):
        raise wrong(_DATA + key, "a status in capital letters", data.get(key))
    return status


def _at(data: JsonObject, key: str, told_at: datetime) -> datetime:
    """When it happened; where that is not told, when the notice was made."""
    return told_at if data.get(key) is None else a_second(data, key, _DATA)


_READERS: dict[int, Callable[[str, JsonObject, datetime], Translation]] = {
    ORDER_STATUS: _order_status,
    CANCELLATION: _cancellation,
    RETURN: _return,
}
"""Topic → how it is read. All others are kept and change nothing."""

ADAPTER = Adapter(verify, translate, new_secret, secret_flaw=secret_flaw, wants_no_words=True)
