"""Webhooks out: who is told what happens, what came of telling, and telling it again."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import func
from sqlmodel import Session, col, select

from service.api.deps import Admin, Caller, Reader, ReadSession, Services, WriteSession, lock_merchant
from service.api.etags import IfMatch
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import Body, EventId, Moment, Text, View, WebhookDeliveryId, WebhookEndpointId
from service.domain.addresses import as_address, is_numeric, leave_for, why_refused
from service.domain.delivery import DeliveryState, DisabledReason, Result
from service.domain.errors import Conflict, Invalid, Missing
from service.domain.events import EventType, chosen
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.security import Security
from service.infra.settings import Settings
from service.infra.standard_webhooks import new_secret
from service.outbox.deliver import SECRET_PURPOSE, disabled_event, ping, wake
from service.outbox.emit import emit
from service.outbox.replay import Span, replay_one, replay_span
from service.tables.webhooks import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

router = APIRouter(tags=["webhook endpoints"])

ENDPOINTS_MAX = 16
OVERLAP_MAX_S = 7 * 24 * 3600
OVERLAP_S = 24 * 3600
SPAN_MAX = timedelta(days=366)
_PORT_MIN = 1024
"""Below this only the two ports of HTTP itself: what else listens there was never meant to be spoken to in HTTP."""
_ATTEMPTS_MAX = 100

_HOST = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?")
_REST = re.compile(r"[!-~]*")
_BLANK = re.compile(r"[\x00-\x20\x7f]")


class UnusableUrl(Invalid):
    """It is no address that this merchant's events can be sent to."""

    code = "unusable-webhook-url"
    title = "Webhooks cannot be sent to this address"


class TooManyEndpoints(Conflict):
    code = "too-many-webhook-endpoints"
    title = "The merchant has as many webhook endpoints as it may"


class EndpointMissing(Missing):
    code = "unknown-webhook-endpoint"
    title = "There is no such webhook endpoint"


class EndpointDisabled(Conflict):
    """Nothing is sent to a disabled endpoint, so nothing can be asked to be."""

    code = "webhook-endpoint-disabled"
    title = "The webhook endpoint is disabled"


class WebhookDeliveryMissing(Missing):
    code = "unknown-webhook-delivery"
    title = "There is no such delivery to this endpoint"


class DeliveryUnderWay(Conflict):
    """It is being sent this moment; look at what comes of it first."""

    code = "webhook-delivery-under-way"
    title = "The delivery is being sent just now"


def _known_pattern(pattern: str) -> str:
    if not chosen(pattern):
        raise PydanticCustomError(
            "event_pattern",
            "Must be * for everything, all of a noun ({nouns}), or a type such as commission.accrued; the types are listed "
            "under webhooks in /openapi.json",
            {"nouns": ", ".join(sorted({f"{each.partition('.')[0]}.*" for each in EventType}))},
        )
    return pattern


EventPattern = Annotated[str, Strict(), Field(max_length=60), AfterValidator(_known_pattern)]
EventPatterns = Annotated[list[EventPattern], Field(min_length=1, max_length=60)]
Url = Annotated[str, Strict(), Field(min_length=8, max_length=2000)]


class WebhookEndpointCreate(Body):
    url: Url
    """Where events are posted: https, or http for a test merchant. Redirects are not followed."""
    events: EventPatterns = Field(default=["*"])
    """What it is told: types (commission.accrued), all of one noun (payout.*), or everything (*)."""
    description: Text = ""


class WebhookEndpointUpdate(Body):
    """What is left out stays as it is."""

    url: Url | None = None
    events: EventPatterns | None = None
    description: Text | None = None
    enabled: Annotated[bool, Strict()] | None = None
    """true and false do the same as enable and disable."""


class SecretRotation(Body):
    overlap_s: Annotated[int, Strict(), Field(ge=0, le=OVERLAP_MAX_S)] = OVERLAP_S
    """How long messages are signed with the old secret too; 0 for one that became known to others."""


class WebhookEndpointView(View):
    id: WebhookEndpointId
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_at: Moment | None
    disabled_reason: DisabledReason | None
    """Who or what disabled it."""
    failing_since: Moment | None
    """Since when no try has succeeded; null while they do. After five days it is disabled."""
    previous_secret_until: Moment | None
    """How long messages are signed with the secret before, too."""
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: WebhookEndpointRow) -> Self:
        reason = row.disabled_reason
        until = row.previous_secret_until
        return cls(
            id=row.id,
            url=row.url,
            description=row.description,
            events=row.events,
            enabled=row.disabled_at is None,
            disabled_at=row.disabled_at,
            disabled_reason=DisabledReason(reason) if reason is not None else None,
            failing_since=row.failing_since,
            previous_secret_until=until if until is not None and until > utc_now() else None,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class WebhookEndpointSecret(View):
    webhook_endpoint: WebhookEndpointView
    secret: str
    """What messages are signed with, by Standard Webhooks. It is shown this once: store it now."""


class WebhookDeliveryView(View):
    id: WebhookDeliveryId
    webhook_endpoint_id: WebhookEndpointId
    event_id: EventId
    """Sent as webhook-id."""
    event_type: str
    status: DeliveryState
    tries: int
    """Since it was made or replayed; it is given up after eight."""
    last_result: Result | None
    next_try_at: Moment | None
    replays: int
    created_at: Moment
    done_at: Moment | None
    """When it was delivered or given up."""

    @classmethod
    def of(cls, row: WebhookDeliveryRow) -> Self:
        status = DeliveryState(row.state)
        return cls(
            id=row.id,
            webhook_endpoint_id=row.endpoint_id,
            event_id=row.event_id,
            event_type=row.event_type,
            status=status,
            tries=row.tries,
            last_result=Result(row.last_result) if row.last_result is not None else None,
            next_try_at=row.next_at if status is DeliveryState.PENDING else None,
            replays=row.replays,
            created_at=row.created_at,
            done_at=row.done_at,
        )


class WebhookAttemptView(View):
    number: int
    """One that is missing was begun by a worker that died; it may have arrived."""
    result: Result
    http_status: int | None
    detail: str
    """The beginning of the answer, or why there was none."""
    sent_at: Moment
    took_ms: int

    @classmethod
    def of(cls, row: WebhookAttemptRow) -> Self:
        return cls(
            number=row.number,
            result=Result(row.result),
            http_status=row.http_status,
            detail=row.detail,
            sent_at=row.sent_at,
            took_ms=row.took_ms,
        )


class WebhookDeliveryWithAttempts(View):
    delivery: WebhookDeliveryView
    attempts: list[WebhookAttemptView]
    """The newest first, a hundred at most."""


class WebhookReplay(Body):
    since: Moment
    """Events from this time on, by the merchant's clock …"""
    until: Moment
    """… and before this one."""
    events: EventPatterns = Field(default=["*"])
    """Only these, of those the endpoint listens to."""
    after_event_id: EventId | None = None
    """`last_event_id` of the call before, to go on from there."""

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if not timedelta(0) < self.until - self.since <= SPAN_MAX:
            raise PydanticCustomError("span", "until must lie after since, by at most 366 days")
        return self


class WebhookReplayed(View):
    """What became of the events; each of them is in one of the three counts."""

    events: int
    delivered_first: int
    """They had not been handed to this endpoint, and are now."""
    delivered_again: int
    """They are sent once more, under the same webhook-id."""
    under_way: int
    """They are being sent this moment, and were left alone."""
    last_event_id: EventId | None
    has_more: bool
    """There are more than one call takes: ask again with `after_event_id`."""


@router.post("/v1/webhook-endpoints", status_code=201)
def create_webhook_endpoint(
    asked: WebhookEndpointCreate, caller: Admin, session: WriteSession, service: Services
) -> WebhookEndpointSecret:
    """Let an address be told what happens from now on. The secret is in this answer only."""
    check_url(asked.url, service.settings, is_test=caller.merchant.is_test)
    # Of several that make one at a time, each sees those before it.
    lock_merchant(session, caller)
    there = session.exec(
        select(func.count())
        .select_from(WebhookEndpointRow)
        .where(col(WebhookEndpointRow.merchant_id) == caller.merchant_id, col(WebhookEndpointRow.deleted_at).is_(None))
    ).one()
    if there >= ENDPOINTS_MAX:
        raise TooManyEndpoints(f"There are {ENDPOINTS_MAX}; delete one first.")
    now, secret = utc_now(), new_secret()
    row = WebhookEndpointRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        url=asked.url,
        description=asked.description,
        events=_each_once(asked.events),
        secret=_encrypted(service.security, secret),
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    return WebhookEndpointSecret(webhook_endpoint=WebhookEndpointView.of(row), secret=secret)


@router.get("/v1/webhook-endpoints")
def list_webhook_endpoints(caller: Reader, session: ReadSession, paging: Paging) -> Page[WebhookEndpointView]:
    """List the merchant's endpoints, newest first, the disabled ones too."""
    endpoints = select(WebhookEndpointRow).where(
        col(WebhookEndpointRow.merchant_id) == caller.merchant_id, col(WebhookEndpointRow.deleted_at).is_(None)
    )
    rows = session.exec(newest_first(endpoints, paging, col(WebhookEndpointRow.id))).all()
    return page(rows, paging, key=lambda row: (row.id,), view=WebhookEndpointView.of)


@router.get("/v1/webhook-endpoints/{endpoint_id}")
def get_webhook_endpoint(endpoint_id: WebhookEndpointId, caller: Reader, session: ReadSession) -> WebhookEndpointView:
    """Return one endpoint."""
    return WebhookEndpointView.of(_found(session, caller.merchant_id, endpoint_id))


@router.patch("/v1/webhook-endpoints/{endpoint_id}")
def update_webhook_endpoint(
    endpoint_id: WebhookEndpointId,
    asked: WebhookEndpointUpdate,
    caller: Admin,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> WebhookEndpointView:
    """Change where an endpoint is, what it is told, what it is called, or whether it is told anything."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    expected.check(WebhookEndpointView.of(row))
    if asked.url is not None:
        check_url(asked.url, service.settings, is_test=caller.merchant.is_test)
        if asked.url != row.url:
            # The rest was earned by the address before.
            row.url, row.rests_until = asked.url, None
    if asked.events is not None:
        row.events = _each_once(asked.events)
    if asked.description is not None:
        row.description = asked.description
    if asked.enabled is not None:
        _enable(session, row) if asked.enabled else _disable(session, caller, row)
    row.updated_at = utc_now()
    session.flush()
    return WebhookEndpointView.of(row)


@router.delete("/v1/webhook-endpoints/{endpoint_id}", status_code=204)
def delete_webhook_endpoint(endpoint_id: WebhookEndpointId, caller: Admin, session: WriteSession) -> None:
    """Tell an endpoint nothing any more, and forget its secrets and its address's description for good."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    _disable(session, caller, row)
    row.deleted_at = row.updated_at = utc_now()
    row.secret, row.previous_secret, row.previous_secret_until, row.description = b"", None, None, ""
    session.flush()


@router.post("/v1/webhook-endpoints/{endpoint_id}/disable")
def disable_webhook_endpoint(
    endpoint_id: WebhookEndpointId, caller: Admin, session: WriteSession
) -> WebhookEndpointView:
    """Tell an endpoint nothing from now on. What waits for it is kept; what happens meanwhile has to be replayed."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    _disable(session, caller, row)
    session.flush()
    return WebhookEndpointView.of(row)


@router.post("/v1/webhook-endpoints/{endpoint_id}/enable")
def enable_webhook_endpoint(
    endpoint_id: WebhookEndpointId, caller: Admin, session: WriteSession
) -> WebhookEndpointView:
    """Tell an endpoint again what happens, beginning with what was waiting for it when it was disabled."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    _enable(session, row)
    session.flush()
    return WebhookEndpointView.of(row)


@router.post("/v1/webhook-endpoints/{endpoint_id}/rotate-secret")
def rotate_webhook_secret(
    endpoint_id: WebhookEndpointId, asked: SecretRotation, caller: Admin, session: WriteSession, service: Services
) -> WebhookEndpointSecret:
    """Make a new secret, which is in this answer only. For a while messages are signed with the old one too."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    now, secret = utc_now(), new_secret()
    if asked.overlap_s:
        row.previous_secret, row.previous_secret_until = row.secret, now + timedelta(seconds=asked.overlap_s)
    else:
        row.previous_secret = row.previous_secret_until = None
    row.secret = _encrypted(service.security, secret)
    row.updated_at = now
    session.flush()
    return WebhookEndpointSecret(webhook_endpoint=WebhookEndpointView.of(row), secret=secret)


@router.post("/v1/webhook-endpoints/{endpoint_id}/ping", status_code=202)
def ping_webhook_endpoint(endpoint_id: WebhookEndpointId, caller: Admin, session: WriteSession) -> WebhookDeliveryView:
    """Send a webhook_endpoint.ping to try an endpoint; the delivery that is returned tells what came of it."""
    row = _locked(session, caller.merchant_id, endpoint_id)
    _demand_enabled(row)
    delivery_id = ping(session, merchant_id=caller.merchant_id, endpoint_id=endpoint_id, at=caller.now, now=utc_now())
    return WebhookDeliveryView.of(_delivery(session, caller.merchant_id, endpoint_id, delivery_id))


@router.get("/v1/webhook-endpoints/{endpoint_id}/deliveries")
def list_webhook_deliveries(
    endpoint_id: WebhookEndpointId,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    status: Annotated[DeliveryState | None, Query(description="Deliveries with this status.")] = None,
    type: Annotated[Text | None, Query(description="Of events of this type, or such as commission.*.")] = None,  # noqa: A002 - the API's word
) -> Page[WebhookDeliveryView]:
    """List an endpoint's deliveries of the last ninety days, newest first."""
    _found(session, caller.merchant_id, endpoint_id)
    statement = select(WebhookDeliveryRow).where(
        col(WebhookDeliveryRow.merchant_id) == caller.merchant_id, col(WebhookDeliveryRow.endpoint_id) == endpoint_id
    )
    if status is not None:
        statement = statement.where(col(WebhookDeliveryRow.state) == status.value)
    if type is not None:
        types = chosen(type)
        if not types:
            raise Invalid("type is neither a type of event nor noun.*.")
        statement = statement.where(col(WebhookDeliveryRow.event_type).in_(sorted(types)))
    rows = session.exec(newest_first(statement, paging, col(WebhookDeliveryRow.id))).all()
    return page(rows, paging, key=lambda row: (row.id,), view=WebhookDeliveryView.of)


@router.get("/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}")
def get_webhook_delivery(
    endpoint_id: WebhookEndpointId, delivery_id: WebhookDeliveryId, caller: Reader, session: ReadSession
) -> WebhookDeliveryWithAttempts:
    """Return one delivery with what came of each try."""
    row = _delivery(session, caller.merchant_id, endpoint_id, delivery_id)
    attempts = session.exec(
        select(WebhookAttemptRow)
        .where(
            col(WebhookAttemptRow.merchant_id) == caller.merchant_id, col(WebhookAttemptRow.delivery_id) == delivery_id
        )
        .order_by(col(WebhookAttemptRow.number).desc())
        .limit(_ATTEMPTS_MAX)
    ).all()
    return WebhookDeliveryWithAttempts(
        delivery=WebhookDeliveryView.of(row), attempts=[WebhookAttemptView.of(each) for each in attempts]
    )


@router.post("/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202)
def replay_webhook_delivery(
    endpoint_id: WebhookEndpointId, delivery_id: WebhookDeliveryId, caller: Admin, session: WriteSession
) -> WebhookDeliveryView:
    """Send one delivery again, under the same webhook-id, with all its tries before it."""
    _demand_enabled(_found(session, caller.merchant_id, endpoint_id))
    row = _delivery(session, caller.merchant_id, endpoint_id, delivery_id)
    if not replay_one(session, merchant_id=caller.merchant_id, delivery_id=delivery_id, now=utc_now()):
        raise DeliveryUnderWay("It is being sent this moment; look at it again in a minute.")
    session.refresh(row)
    return WebhookDeliveryView.of(row)


@router.post("/v1/webhook-endpoints/{endpoint_id}/replay", status_code=202)
def replay_webhook_events(
    endpoint_id: WebhookEndpointId, asked: WebhookReplay, caller: Admin, session: WriteSession
) -> WebhookReplayed:
    """Send what happened in a span of time, also what the endpoint was never sent. At most 5,000 events per call."""
    row = _found(session, caller.merchant_id, endpoint_id)
    _demand_enabled(row)
    now = utc_now()
    done = replay_span(
        session,
        Span(asked.since, asked.until, tuple(asked.events), asked.after_event_id),
        merchant_id=caller.merchant_id,
        endpoint_id=endpoint_id,
        listens_to=row.events,
        clock_offset=caller.now - now,
        now=now,
    )
    return WebhookReplayed(
        events=done.events,
        delivered_first=done.made,
        delivered_again=done.again,
        under_way=done.under_way,
        last_event_id=done.last,
        has_more=done.has_more,
    )


def check_url(url: str, settings: Settings, *, is_test: bool) -> None:
    """Refuse what could never be sent to. Where its name leads is looked at each time it is called, not here.

    Raises UnusableUrl.
    """
    # Line breaks, tabs and blanks around it are dropped unseen where a URL is taken apart: what is called would be another.
    if _BLANK.search(url):
        raise UnusableUrl("It must not hold blanks or line breaks.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnusableUrl("It is not a URL.") from None
    wrong = _what_is_wrong(parts, port, settings, is_test=is_test)
    if wrong is not None:
        raise UnusableUrl(wrong)


def _what_is_wrong(parts: SplitResult, port: int | None, settings: Settings, *, is_test: bool) -> str | None:
    host = parts.hostname or ""
    address = as_address(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_test):
        return "It must begin with https://." if not is_test else "It must begin with https:// or http://."
    if "@" in parts.netloc:
        return "It must not hold a user or a password."
    if parts.fragment:
        return "It must not hold a fragment."
    if not (_REST.fullmatch(parts.path) and _REST.fullmatch(parts.query)):
        return "Path and query must be written in ASCII, all else percent-encoded."
    if port is not None and port not in {80, 443} and port < _PORT_MIN:
        return f"Its port must be 80, 443, or {_PORT_MIN} and higher."
    if address is None:
        if is_numeric(host) or not _HOST.fullmatch(host):
            return "Its host must be a name in ASCII (punycode), or an address in its plain form."
    elif why_refused(address, allowed=settings.webhook_networks) is not None:
        allowed = f"KOC_WEBHOOK_ALLOW_NETWORKS={leave_for(address)}"
        return f"Its address is not a public one; who runs the service may allow it by {allowed}."
    return None


def _each_once(patterns: Sequence[str]) -> list[str]:
    return sorted(set(patterns))


def _encrypted(security: Security, secret: str) -> bytes:
    return security.encrypt(secret.encode(), purpose=SECRET_PURPOSE)


def _found(session: Session, merchant_id: UUID, endpoint_id: UUID) -> WebhookEndpointRow:
    row = session.get(WebhookEndpointRow, (merchant_id, endpoint_id))
    if row is None or row.deleted_at is not None:
        raise EndpointMissing(f"There is no endpoint {ids.encode('whk', endpoint_id)} here.")
    return row


def _locked(session: Session, merchant_id: UUID, endpoint_id: UUID) -> WebhookEndpointRow:
    """The endpoint, held: what a worker finds out about it meanwhile must not be lost, nor lose what a person wants."""
    row = session.exec(
        select(WebhookEndpointRow)
        .where(
            col(WebhookEndpointRow.merchant_id) == merchant_id,
            col(WebhookEndpointRow.id) == endpoint_id,
            col(WebhookEndpointRow.deleted_at).is_(None),
        )
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise EndpointMissing(f"There is no endpoint {ids.encode('whk', endpoint_id)} here.")
    return row


def _demand_enabled(row: WebhookEndpointRow) -> None:
    if row.disabled_at is not None:
        raise EndpointDisabled(f"Endpoint {ids.encode('whk', row.id)} is disabled; enable it first.")


def _disable(session: Session, caller: Caller, row: WebhookEndpointRow) -> None:
    if row.disabled_at is None:
        row.disabled_at, row.disabled_reason = utc_now(), DisabledReason.BY_PERSON
        # Before the event is queued, so that it is for the others only.
        session.flush()
        emit(session, [disabled_event(caller.merchant_id, row.id, DisabledReason.BY_PERSON, at=caller.now)])


def _enable(session: Session, row: WebhookEndpointRow) -> None:
    """Begin anew: what was held against it is forgotten."""
    if row.disabled_at is not None:
        row.disabled_at = row.disabled_reason = row.failing_since = row.rests_until = None
        row.failures = 0
        wake(session, merchant_id=row.merchant_id, now=utc_now())


def _delivery(session: Session, merchant_id: UUID, endpoint_id: UUID, delivery_id: UUID) -> WebhookDeliveryRow:
    _found(session, merchant_id, endpoint_id)
    row = session.get(WebhookDeliveryRow, (merchant_id, delivery_id))
    if row is None or row.endpoint_id != endpoint_id:
        raise WebhookDeliveryMissing(f"There is no delivery {ids.encode('whd', delivery_id)} to this endpoint.")
    return row
