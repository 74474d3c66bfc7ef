"""The door for providers of payments: signed events in, kept before they are acknowledged."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.deps import service_of
from service.api.problems import problem_response
from service.domain.errors import Invalid, Missing, ServiceError, TooLarge
from service.infra import metrics
from service.infra.clock import utc_now
from service.infra.db import DatabaseAway, run_unit
from service.intake.adapters import stripe as signatures
from service.intake.adapters.model import BadSignature, NotUnderstood
from service.intake.adapters.parse import load
from service.payouts.hear import keep
from service.payouts.providers.stripe_events import NoEvent, heard

PATH = "/providers/stripe/events"
PATIENCE_S = 10.0
"""Seconds Stripe waits for the commit of what it sent, while the database is silent."""
PLATFORM = "stripe_events"
"""How refused signatures are counted."""

_log = logging.getLogger(__name__)


class NotSetUp(Missing):
    code = "provider-not-set-up"
    title = "Nobody listens to this provider here"


class NotAnEvent(Invalid):
    code = "not-a-provider-event"
    title = "The body is signed, but it is no event"


async def receive_stripe_event(request: Request) -> Response:
    """POST /providers/stripe/events: verify over the raw bytes, keep, commit, answer 200 without words.

    401, 404, 413 and 422 keep nothing; 503 with Retry-After when the database is away. What is nothing to us is
    answered 200 and not kept, or Stripe would send it again for days.
    """
    service = service_of(request)
    try:
        secrets = service.settings.stripe_webhook_secrets
        key = service.settings.stripe_secret_key
        if not secrets or key is None or service.stripe is None:
            raise NotSetUp("The operator has to set KOC_STRIPE_SECRET_KEY and KOC_STRIPE_WEBHOOK_SECRET.")
        body = await _body(request, service.settings.body_bytes_max)
        headers = {"stripe-signature": request.headers.get("stripe-signature", "")}
        check_signature(secrets, headers, body, utc_now())
        try:
            event = heard(load(body), is_test=service.stripe.is_test)
        except (NoEvent, NotUnderstood) as error:
            _log.error("A signed event of Stripe could not be read: %s", error)
            raise NotAnEvent("Nothing of it was kept. See which version of its API Stripe sends events in.") from None
        if event is None:
            metrics.provider_events("nothing", number=1)
            return Response()
        async with asyncio.timeout(PATIENCE_S), service.admission.enter():
            await run_in_threadpool(run_unit, service.engine, lambda session: keep(session, [event], now=utc_now()))
    except TimeoutError:
        # What was begun is done all the same, once the database speaks; the event counts once however often it comes.
        return problem_response(request, DatabaseAway("The database did not answer in time. Send it again."))
    except ServiceError as error:
        return problem_response(request, error)
    return Response()


def check_signature(secrets: Sequence[str], headers: dict[str, str], body: bytes, now: datetime) -> None:
    """Raise BadSignature unless one of the secrets signed the body within five minutes of now.

    All are tried, so that the time taken tells nothing about which one fits.
    """
    refused: list[BadSignature] = []
    for secret in secrets:
        try:
            signatures.verify(secret.encode(), headers, body, now)
        except BadSignature as error:
            refused.append(error)
    if len(refused) == len(secrets):
        metrics.signature_refused(PLATFORM)
        raise refused[0]


async def _body(request: Request, bytes_max: int) -> bytes:
    try:
        return await request.body()
    except HTTPException as error:
        # The server's own limit speaks first; its answer is no problem document.
        if error.status_code == 413:
            raise TooLarge(f"At most {bytes_max} bytes are read.") from None
        raise


routes = [Route(PATH, receive_stripe_event, methods=["POST"], name="receive_stripe_event")]
