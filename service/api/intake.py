"""The door for shops: raw bytes in, verified before anything is read; answered after the commit."""

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from service.api.deps import Service, service_of, take_turn
from service.api.problems import problem_response
from service.domain.errors import Missing, ServiceError, TooLarge, Unauthenticated, Unavailable
from service.infra import metrics
from service.infra.batcher import Batcher, Observer
from service.infra.clock import utc_now
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import Admission, DatabaseAway, fetch, read_session, run_unit
from service.infra.ids import decode, encode
from service.infra.pace import Pace
from service.infra.security import Security
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import BadSignature
from service.intake.receive import KnownSource, reading_of, receive, verified
from service.intake.record import Received, Recorded, record
from service.tables.orders import InboxState
from service.tables.parties import Platform
from service.tracking.find import ClickSigner

SECRET_PURPOSE = "source-secret"  # noqa: S105 - the name of a purpose, not a secret

SOURCE_FRESH_S = 1.0
"""Seconds a source is used from memory before it is read again; so long a withdrawn one, or a secret that was dropped, may
still be heard, and a new secret not yet."""

SOURCES_KEPT_MAX = 10_000

PATIENCE_S = 10.0
"""Seconds a shop waits for the commit of what it sent, while the database is silent; shops hang up not much later."""
_SILENT = "The database did not answer in time. Send it again: it counts once."


class UnknownSource(Missing):
    """No such address, or the source was disabled."""

    code = "unknown-source"
    title = "Nobody listens at this webhook address"


class BadVerifyToken(Unauthenticated):
    """Nobody but the shop's own platform knows the token, so nobody else can subscribe this address."""

    code = "bad-verify-token"
    title = "The source was not asked with its verify token"


class BodyTooLarge(TooLarge):
    code = "body-too-large"
    title = "The body is larger than this endpoint takes"


class SourceMemory:
    """Sources by id, read again once a second at most, so that a webhook costs no look-up."""

    def __init__(self, engine: Engine, security: Security) -> None:
        self._engine = engine
        self._security = security
        self._lock = threading.Lock()
        self._known: OrderedDict[UUID, tuple[float, KnownSource | None]] = OrderedDict()

    def recall(self, source_id: UUID) -> tuple[bool, KnownSource | None]:
        """(whether memory is fresh enough to go by, what it holds)."""
        read_at, source = self._known.get(source_id, (0.0, None))
        return time.monotonic() - read_at < SOURCE_FRESH_S, source

    def look_up(self, source_id: UUID) -> KnownSource | None:
        """Read a source; with the database away, what memory holds is used on. Raises Unavailable if it holds nothing."""
        try:
            with read_session(self._engine) as session:
                source = self._read(session, source_id)
        except Unavailable:
            _, source = self.recall(source_id)
            if source is None:
                raise
        with self._lock:
            self._known[source_id] = (time.monotonic(), source)
            self._known.move_to_end(source_id)
            while len(self._known) > SOURCES_KEPT_MAX:
                self._known.popitem(last=False)
        return source

    def _read(self, session: Session, source_id: UUID) -> KnownSource | None:
        rows = fetch(
            session,
            """
            SELECT merchant_id, platform, shop_domain, secret, secret_expires_at, previous_secret,
                   previous_secret_expires_at, rate_per_s, burst,
                   coalesce(newest.settings, CAST('{}' AS jsonb)) AS settings, coalesce(newest.version, 0) AS version,
                   (SELECT is_test FROM merchant WHERE merchant.id = source.merchant_id) AS is_test
            FROM source
            LEFT JOIN LATERAL (SELECT settings, version FROM source_settings WHERE source_id = source.id
                               ORDER BY version DESC LIMIT 1) AS newest ON true
            WHERE id = :id AND disabled_at IS NULL AND secret IS NOT NULL
            """,
            {"id": source_id},
        )
        if not rows:
            return None
        [row] = rows
        return KnownSource(
            source_id,
            row.merchant_id,
            Platform(row.platform),
            self._clear(row.secret),
            row.shop_domain,
            row.settings,
            row.version,
            is_test=row.is_test,
            secret_expires_at=row.secret_expires_at,
            previous_secret=self._clear(row.previous_secret) if row.previous_secret is not None else b"",
            previous_secret_expires_at=row.previous_secret_expires_at,
            pace=None if row.rate_per_s is None else Pace(row.rate_per_s, row.burst),
        )

    def _clear(self, secret: bytes) -> bytes:
        return self._security.decrypt(bytes(secret), purpose=SECRET_PURPOSE)


class Intake:
    """What the route needs and the process shares; made at start-up, kept at `app.state.intake`."""

    def __init__(self, engine: Engine, security: Security, admission: Admission) -> None:
        self.sources = SourceMemory(engine, security)
        self._security = security
        self._admission = admission
        self._signer = ClickSigner(security)
        self._looking: dict[UUID, asyncio.Task[KnownSource | None]] = {}

    async def find(self, source_id: UUID) -> KnownSource:
        """The source behind an address. Raises UnknownSource, Unavailable."""
        fresh, source = self.sources.recall(source_id)
        # While one request reads a source again, the others go by what memory holds.
        if not fresh and (source is None or source_id not in self._looking):
            try:
                source = await self._look_up_once(source_id)
            except Unavailable:
                if source is None:
                    raise
        if source is None:
            raise UnknownSource("Check the address: it is shown with the source and ends in its id, src_….")
        return source

    async def _look_up_once(self, source_id: UUID) -> KnownSource | None:
        """Read a source, however many ask for it at once."""
        task = self._looking.get(source_id)
        if task is None:
            task = self._looking[source_id] = asyncio.create_task(self._look_up(source_id))
            task.add_done_callback(lambda done: self._looked(source_id, done))
        # Whoever leaves must not take the answer from the others.
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(task)
        except TimeoutError:
            raise DatabaseAway(_SILENT) from None

    async def _look_up(self, source_id: UUID) -> KnownSource | None:
        async with self._admission.enter():
            return await run_in_threadpool(self.sources.look_up, source_id)

    def _looked(self, source_id: UUID, done: "asyncio.Task[KnownSource | None]") -> None:
        del self._looking[source_id]
        if not done.cancelled():
            # Read here as well: if all who asked have left, nobody else would.
            done.exception()

    def read(self, source: KnownSource, request: Request, body: bytes) -> Received:
        """Verify a delivery over its raw bytes, then translate it. Raises BadSignature, RateLimited."""
        try:
            delivery = verified(source, _headers(request), body, utc_now())
        except BadSignature:
            metrics.signature_refused(source.platform.value)
            raise
        # Not before: what others send to the address must not use up what the shop may send.
        _take_turn(source, request)
        return receive(source, delivery, reading_of(self._security, self._signer, source.merchant_id))


def _take_turn(source: KnownSource, request: Request) -> None:
    """Count a delivery of a source. Raises RateLimited."""
    service = service_of(request)
    pace = source.pace or Pace(service.settings.source_rate, service.settings.source_burst)
    take_turn(service, source.id, pace, request.scope["state"])
    service.usage.delivered(source.id)


def orders_batcher(
    engine: Engine, *, batch_max: int, queue_max: int, observer: Observer | None = None
) -> Batcher[Received, Recorded]:
    """The one writer of deliveries in this process: each batch is one unit of work."""

    def work(items: Sequence[Received]) -> list[Recorded]:
        crash_point(CrashPoint.INTAKE_BATCH_TAKEN)
        recorded = run_unit(engine, lambda session: record(session, items))
        crash_point(CrashPoint.INTAKE_COMMITTED)
        return recorded

    def park(item: Received, error: Exception) -> Recorded:
        # The words of the error stay in our log: they may hold rows of other deliveries.
        parked = item.parked("internal_error", f"{type(error).__name__}; see the log of the service.")
        return run_unit(engine, lambda session: record(session, [parked]))[0]

    return Batcher("orders", work, park, batch_max=batch_max, queue_max=queue_max, observer=observer)


def refusal(scope: Scope) -> ServiceError | None:
    """Say why a webhook is not even to be begun: too many wait for their answer already. None for all other requests.

    Asked before routing, and before the signature is looked at: when three times as many come as can be done, two of
    three are refused, and what each of those costs is taken from the third.
    """
    if not scope["path"].startswith(_PATH):
        return None
    service: Service = scope["app"].state.service
    try:
        service.orders.check()
    except Unavailable as error:
        # So that it is counted under the operation it would have been.
        scope["route"] = routes[0]
        return error
    return None


async def receive_webhook(request: Request) -> Response:
    """POST /intake/{source}: verify, translate, commit, answer.

    200 with what was understood (applied, waiting or ignored), 202 when it was kept but not understood; 401, 404 and
    413 keep nothing, nor does 429 with Retry-After when the source sends faster than it may; 503 with Retry-After when
    too many wait already or the database is away. A platform's unsigned ping is answered 200 without a word, and not kept;
    so, kept, is every delivery of a platform that wants no words.
    """
    service: Service = service_of(request)
    try:
        source = await request.app.state.intake.find(_source_id(request.path_params["source"]))
        body = await _body(request, service.settings.body_bytes_max)
        if ADAPTERS[source.platform].is_ping(_headers(request), body):
            # Answered before anything is verified, so nothing is read of it and nothing is kept.
            return Response(status_code=200)
        received = request.app.state.intake.read(source, request, body)
        crash_point(CrashPoint.INTAKE_VERIFIED)
        async with asyncio.timeout(PATIENCE_S):
            recorded = await service.orders.submit(received)
    except TimeoutError:
        # What was accepted is done all the same, once the database speaks; whoever sends it again is told.
        return problem_response(request, DatabaseAway(_SILENT))
    except ServiceError as error:
        return problem_response(request, error)
    return Response() if ADAPTERS[source.platform].wants_no_words else _answer(cast("Recorded", recorded))


async def answer_challenge(request: Request) -> Response:
    """GET /intake/{source}: tell a platform that asks before it delivers whether its deliveries are wanted.

    The challenge as plain text where the source has set the token it was asked with; 401 with another token; 404 where
    no such source is, or its platform does not ask.
    """
    try:
        source = await request.app.state.intake.find(_source_id(request.path_params["source"]))
        challenged = ADAPTERS[source.platform].challenged
        if challenged is None:
            raise UnknownSource("Sources of this platform are not asked by GET.")
        challenge = challenged(source.settings, request.query_params)
        if challenge is None:
            raise BadVerifyToken("hub.verify_token is not the one in this source's settings, or nothing was asked.")
    except ServiceError as error:
        return problem_response(request, error)
    return Response(challenge, media_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})


def _headers(request: Request) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}


def _source_id(text: str) -> UUID:
    try:
        return decode("src", text)
    except ValueError:
        raise UnknownSource("A webhook address ends in the id of a source, src_….") from None


async def _body(request: Request, bytes_max: int) -> bytes:
    try:
        body = await request.body()
    except HTTPException as error:
        # The server's own limit speaks first; its answer is no problem document.
        if error.status_code == 413:
            raise BodyTooLarge(f"At most {bytes_max} bytes are read.") from None
        raise
    if len(body) > bytes_max:
        raise BodyTooLarge(f"At most {bytes_max} bytes are read.")
    return body


def _answer(recorded: Recorded) -> Response:
    told = {
        "inbox_id": encode("inb", recorded.inbox_id),
        "state": recorded.state.value,
        "reason_code": recorded.reason_code,
        "detail": recorded.detail,
        "order_id": encode("ord", recorded.order_id) if recorded.order_id else None,
        "repeated": recorded.repeated,
        "understood": recorded.understood,
    }
    return Response(
        json.dumps(told, separators=(",", ":")).encode(),
        status_code=202 if recorded.state is InboxState.PARKED else 200,
        media_type="application/json",
    )


_PATH = "/intake/"

routes = [
    Route(_PATH + "{source}", receive_webhook, methods=["POST"], name="receive_webhook"),
    Route(_PATH + "{source}", answer_challenge, methods=["GET"], name="answer_challenge"),
]
