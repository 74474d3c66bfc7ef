"""Idempotency-Key: a request sent twice under one key is done once, and answered twice with the same words.

One mechanism for every POST of /v1. The answer is written in the unit of work of the effect it tells, so neither is ever
there without the other. What makes an effect unique is a constraint of its own, never this: a key that was forgotten, or
left out, lets nobody be paid twice.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from service.api import trail
from service.api.problems import problem_response
from service.domain.errors import Conflict, Invalid, ServiceError, Unavailable
from service.infra.clock import utc_now
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import LockNotHad, Savepoint, execute, fetch, run_unit, waiting_at_most
from service.infra.kept_answers import KEPT_FOR, OPERATORS
from service.infra.security import Security

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
LEASE = timedelta(minutes=1)
"""How long the claim of a request that runs several units of work counts when its process says nothing more."""
WAIT_MS = 200
"""A request may wait this long for another of its key, which mostly ends by then; afterwards it is told to come again."""

_PURPOSE = "kept-answer"
_KEY = re.compile(r"[!-~]{1,255}")
_NOT_KEPT = frozenset({"content-length", "koc-mode", "koc-version", "deprecation", "sunset"})
"""Headers that each answer gets anew."""


class MalformedIdempotencyKey(Invalid):
    """A key has 1 to 255 visible ASCII characters; a UUID is a good one."""

    code = "malformed-idempotency-key"
    title = "The Idempotency-Key cannot be used"


class IdempotencyKeyReused(Invalid):
    """A key names one request: its method, path, query and body. Another request needs another key."""

    code = "idempotency-key-reused"
    title = "The Idempotency-Key was used for another request"


class IdempotencyKeyInFlight(Conflict):
    """The first request with this key has not been answered yet. Send it again in a moment to get its answer."""

    code = "idempotency-key-in-flight"
    title = "A request with this Idempotency-Key is being worked on"
    retry_after_s = 1


class _Replay(Exception):
    """Ends a request that was answered before. Carries the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Keeping:
    """One request with a key, from its claim to its answer."""

    def __init__(self, key: str, fingerprint: bytes) -> None:
        self._key = key
        self._fingerprint = fingerprint
        self._row: dict[str, object] = {}
        self._session: Session | None = None
        self._savepoint: Savepoint | None = None
        self._engine: Engine | None = None
        self._security: Security | None = None

    def claim(self, session: Session, security: Security, *, merchant_id: UUID | None, key_id: UUID) -> None:
        """Claim the answer in the unit of work of the effect, before anything else is written.

        Raises IdempotencyKeyReused, IdempotencyKeyInFlight, or what makes the answer of then the answer of now.
        """
        self._security = security
        self._row = self._named(merchant_id, key_id)
        try:
            with waiting_at_most(session, WAIT_MS):
                self._claim(session, now=utc_now(), lease_until=None)
        except LockNotHad:
            raise _in_flight() from None
        self._session = session
        # A refusal is an answer too. It is kept although what led to it is undone.
        self._savepoint = Savepoint(session)

    def claim_apart(self, engine: Engine, security: Security, *, merchant_id: UUID | None, key_id: UUID) -> None:
        """Claim the answer in a unit of work of its own, for a request that runs several. Raises as `claim` does.

        What such a request does must be safe to repeat: if we die before the answer is kept, another may begin anew once
        the lease is over.
        """
        self._security = security
        self._row = self._named(merchant_id, key_id)
        now = utc_now()

        def work(session: Session) -> None:
            with waiting_at_most(session, WAIT_MS):
                self._claim(session, now=now, lease_until=now + LEASE)

        try:
            run_unit(engine, work)
        except LockNotHad:
            raise _in_flight() from None
        self._engine = engine
        crash_point(CrashPoint.ANSWER_CLAIMED)

    async def answer(self, request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        """Do the request and keep its answer; or return the answer it got the first time.

        What the service decided is kept, also a refusal. What it could not read, a caller it does not know or let in, and
        failures of its own are not: they have no effect, and the same request may be sent again.
        """
        try:
            response = await handle(request)
        except _Replay as replay:
            return replay.response
        except ServiceError as error:
            if not self._is_claimed or isinstance(error, Unavailable):
                await self._give_up()
                raise
            if self._savepoint is not None:
                await run_in_threadpool(self._undo)
            response = problem_response(request, error)
        except BaseException:
            await self._give_up()
            raise
        if self._is_claimed:
            await run_in_threadpool(self._keep, response)
        return response

    def _undo(self) -> None:
        assert self._savepoint is not None
        assert self._session is not None
        self._savepoint.undo()
        trail.forget(self._session)

    @property
    def _is_claimed(self) -> bool:
        return self._session is not None or self._engine is not None

    def _named(self, merchant_id: UUID | None, key_id: UUID) -> dict[str, object]:
        return {"merchant_id": merchant_id or OPERATORS, "key_id": key_id, "key": self._key}

    def _claim(self, session: Session, *, now: datetime, lease_until: datetime | None) -> None:
        claimed = fetch(
            session,
            """
            INSERT INTO kept_answer (merchant_id, key_id, idempotency_key, fingerprint, claimed_at, lease_until, headers)
            VALUES (:merchant_id, :key_id, :key, :fingerprint, :now, :lease_until, CAST('[]' AS jsonb))
            ON CONFLICT (merchant_id, key_id, idempotency_key) DO UPDATE
            SET fingerprint = excluded.fingerprint, claimed_at = excluded.claimed_at, lease_until = excluded.lease_until,
                status = NULL, headers = excluded.headers, body = NULL
            WHERE kept_answer.claimed_at <= :forgotten
               OR kept_answer.status IS NULL AND kept_answer.fingerprint = excluded.fingerprint
                  -- Its process is dead, or the same claim was committed without our hearing of it.
                  AND (kept_answer.lease_until <= :now OR kept_answer.claimed_at = :now)
            RETURNING 1
            """,
            {
                **self._row,
                "fingerprint": self._fingerprint,
                "now": now,
                "lease_until": lease_until,
                "forgotten": now - KEPT_FOR,
            },
        )
        if not claimed:
            self._answer_as_before(session)

    def _answer_as_before(self, session: Session) -> NoReturn:
        rows = fetch(
            session,
            """
            SELECT fingerprint, status, headers, body FROM kept_answer
            WHERE merchant_id = :merchant_id AND key_id = :key_id AND idempotency_key = :key
            """,
            self._row,
        )
        if rows and bytes(rows[0].fingerprint) != self._fingerprint:
            raise IdempotencyKeyReused(
                "Method, path, query and body must be those of the first request; or take a new key."
            )
        if not rows or rows[0].status is None:
            raise _in_flight()
        assert self._security is not None
        response = Response(self._security.decrypt(bytes(rows[0].body), purpose=_PURPOSE), rows[0].status)
        for name, value in rows[0].headers:
            response.headers.append(name, value)
        response.headers[REPLAYED] = "true"
        raise _Replay(response)

    def _keep(self, response: Response) -> None:
        """Write the answer where it was claimed.

        A stream has no body to keep: its key is free again. Only what changes nothing may answer with one, which a test sees to.
        """
        step = partial(self._write, response=response) if hasattr(response, "body") else self._forget
        if self._session is not None:
            step(self._session)
        else:
            assert self._engine is not None
            run_unit(self._engine, step)

    def _write(self, session: Session, response: Response) -> None:
        assert self._security is not None
        headers = [[name, value] for name, value in response.headers.items() if name not in _NOT_KEPT]
        execute(
            session,
            """
            UPDATE kept_answer SET status = :status, headers = to_jsonb(CAST(:headers AS text[])), body = :body
            WHERE merchant_id = :merchant_id AND key_id = :key_id AND idempotency_key = :key AND status IS NULL
            """,
            {
                **self._row,
                "status": response.status_code,
                "headers": headers,
                "body": self._security.encrypt(bytes(response.body), purpose=_PURPOSE),
            },
        )
        crash_point(CrashPoint.ANSWER_KEPT)

    async def _give_up(self) -> None:
        """Free the key of a request that came to no answer. In one unit of work with its effect that happens by itself."""
        if self._engine is not None:
            # Where the database is away, the lease ends the claim.
            with suppress(Unavailable):
                await run_in_threadpool(run_unit, self._engine, self._forget)

    def _forget(self, session: Session) -> None:
        execute(
            session,
            """
            DELETE FROM kept_answer
            WHERE merchant_id = :merchant_id AND key_id = :key_id AND idempotency_key = :key AND status IS NULL
            """,
            self._row,
        )


async def keeping_of(request: Request) -> Keeping | None:
    """Return what keeps a request's answer; None where it has no key. Raises MalformedIdempotencyKey."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise MalformedIdempotencyKey("Send it once, with 1 to 255 visible ASCII characters and no blanks.")
    told = hashlib.sha256()
    body = await request.body()
    for part in (request.method.encode(), request.url.path.encode(), request.url.query.encode(), body):
        # With its length, so that no two requests are the same bytes.
        told.update(len(part).to_bytes(8) + part)
    keeping = Keeping(given[0], told.digest())
    request.state.keeping = keeping
    return keeping


def keeping_in(request: Request) -> Keeping | None:
    """Return what keeps the answer of a request that is being worked on; None where it has no key."""
    found: Keeping | None = getattr(request.state, "keeping", None)
    return found


def _in_flight() -> IdempotencyKeyInFlight:
    return IdempotencyKeyInFlight("Send the same request again in a second; you will get the answer of the first.")
