"""What Stripe tells of its own accord: events as they are delivered, and as they are listed afterwards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import stripe

from service.domain.payout import Answer
from service.domain.provider import EventSubject
from service.payouts.providers.stripe_api import PAGE, StripeApi, asked, failed, paged
from service.payouts.providers.stripe_connect import named

if TYPE_CHECKING:
    from stripe.params import EventListParams
    from stripe.params.v2.core import EventListParams as EventListParamsV2

PROVIDER = "stripe"
_ID_MAX = 255
_ABOUT_ONE_LISTING = frozenset({400, 403, 404})
"""Statuses of a refusal that says nothing of other listings: 403 is also a key without access to one account, which was
deleted or has left the platform. Source: Stripe API reference, Errors, "HTTP Status Code Summary", read 2026-11."""

PLATFORM_TYPES = {
    "transfer.created": EventSubject.TRANSFER,
    "transfer.updated": EventSubject.TRANSFER,
    "transfer.reversed": EventSubject.TRANSFER,
}
"""Types of the platform's own events."""
ACCOUNT_TYPES = {
    "account.updated": EventSubject.ACCOUNT,
    "capability.updated": EventSubject.ACCOUNT,
    "payout.paid": EventSubject.BANK_PAYOUT,
    "payout.failed": EventSubject.BANK_PAYOUT,
}
"""Types of events that happen on connected accounts."""
PAYMENT_TYPES = {
    f"v2.money_management.outbound_payment.{what}": EventSubject.OUTBOUND_PAYMENT
    for what in ("created", "updated", "under_review", "posted", "failed", "returned", "canceled")
}
"""Types of the platform's thin events, which name their object and tell nothing else of it."""
_TYPES = PLATFORM_TYPES | ACCOUNT_TYPES | PAYMENT_TYPES

_KEPT = {
    EventSubject.TRANSFER: (
        "id",
        "amount",
        "amount_reversed",
        "currency",
        "destination",
        "transfer_group",
        "metadata",
    ),
    EventSubject.BANK_PAYOUT: ("id", "amount", "currency", "created", "failure_code"),
}
"""What is kept of an object: what is used, and nothing about persons."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event of Stripe that may be about something of ours.

    account: the connected account it happened on, empty for the platform's own. merchant_id: as its object says, None
    where it does not. payload: of its object what is used; None where that could not be read.
    """

    id: str
    type: str
    subject: EventSubject
    object_id: str
    account: str
    merchant_id: UUID | None
    happened_at: datetime
    payload: Mapping[str, Any] | None


class NoEvent(ValueError):
    """A signed body that is not one of Stripe's events."""


def heard(event: Mapping[str, Any], *, is_test: bool) -> Heard | None:
    """Read an event, thin or not; None where it is of a type, or of a mode, that is nothing to us. Raises NoEvent.

    is_test: whether our key is one for Stripe's test mode. Live endpoints of Connect are told of tests too.
    """
    event_id, kind = event.get("id"), event.get("type")
    if not (isinstance(event_id, str) and 0 < len(event_id) <= _ID_MAX and isinstance(kind, str)):
        raise NoEvent("no id or no type")
    subject = _TYPES.get(kind)
    account = event.get("account") or ""
    if subject is None or event.get("livemode", False) is is_test:
        return None
    if (subject is EventSubject.BANK_PAYOUT and not account) or (subject is EventSubject.TRANSFER and account):
        # The platform's own payouts to its own bank, and transfers that others make from accounts of theirs.
        return None
    try:
        return _read(event, event_id, kind, subject, account)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        # Kept all the same: people see from it that something changed which we could not read.
        return Heard(event_id, kind, subject, "", account, None, datetime.now(UTC), None)


def _read(event: Mapping[str, Any], event_id: str, kind: str, subject: EventSubject, account: str) -> Heard:
    if subject is EventSubject.OUTBOUND_PAYMENT:
        happened_at = datetime.fromisoformat(event["created"]).astimezone(UTC)
        return Heard(event_id, kind, subject, str(event["related_object"]["id"]), "", None, happened_at, {})
    it = event["data"]["object"]
    happened_at = datetime.fromtimestamp(event["created"], UTC)
    if subject is EventSubject.ACCOUNT:
        of = it["id"] if kind == "account.updated" else it["account"]
        account_id = of if isinstance(of, str) else of["id"]
        merchant_id = named("mer", (it.get("metadata") or {}).get("koc_merchant"))
        return Heard(event_id, kind, subject, account_id, account_id, merchant_id, happened_at, {})
    payload = {name: it.get(name) for name in _KEPT[subject]}
    payload["metadata"] = {
        name: value for name, value in (payload.get("metadata") or {}).items() if name.startswith("koc_")
    }
    if subject is EventSubject.BANK_PAYOUT:
        # As the event says: the object in a late one may be ahead of it.
        payload["status"] = kind.removeprefix("payout.")
    merchant_id = named("mer", payload["metadata"].get("koc_merchant"))
    return Heard(event_id, kind, subject, str(it["id"]), account, merchant_id, happened_at, payload)


@dataclass(frozen=True, slots=True)
class Told:
    """A listing of events. trouble: why it is not complete.

    is_away: whether any other listing would meet the same trouble now: no answer, too many requests, our key refused.
    """

    events: tuple[Heard, ...] = ()
    trouble: Answer | None = None
    is_away: bool = False


class StripeEvents:
    """Events as Stripe lists them for 30 days, whether or not their delivery reached us."""

    def __init__(self, api: StripeApi) -> None:
        self._api = api

    def of_platform(self, since: datetime) -> Told:
        """What happened on the platform's own account."""
        return self._told(lambda: self._listed(since, list(PLATFORM_TYPES), None))

    def of_account(self, account_id: str, since: datetime) -> Told:
        """What happened on a connected account."""
        return self._told(lambda: self._listed(since, list(ACCOUNT_TYPES), account_id))

    def of_payments(self, since: datetime) -> Told:
        """What happened to outbound payments."""
        written = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        params: EventListParamsV2 = {"created": {"gte": written}, "types": list(PAYMENT_TYPES), "limit": PAGE}

        def listed() -> Iterator[dict[str, Any]]:
            return paged(self._api, lambda: self._api.client.v2.core.events.list(params))

        return self._told(listed)

    def _listed(self, since: datetime, types: list[str], account_id: str | None) -> Iterator[dict[str, Any]]:
        params = cast("EventListParams", {"created": {"gte": int(since.timestamp())}, "types": types, "limit": PAGE})
        if account_id is None:
            return paged(self._api, lambda: self._api.client.v1.events.list(params))
        for_account = {"stripe_account": account_id}
        listed = paged(self._api, lambda: self._api.client.v1.events.list(params, cast("Any", for_account)))
        # Listed for the account, events do not name it.
        return ({**each, "account": account_id} for each in listed)

    def _told(self, listed: Any) -> Told:
        def read() -> Told:
            try:
                found = [heard(each, is_test=self._api.is_test) for each in listed()]
            except stripe.StripeError as error:
                return Told(trouble=failed(error), is_away=error.http_status not in _ABOUT_ONE_LISTING)
            return Told(tuple(each for each in found if each is not None))

        told = asked(read)
        # Unreadable: there was an answer, so whoever is asked next may well give a better one.
        return Told(trouble=told) if isinstance(told, Answer) else told
