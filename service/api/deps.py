"""Who asks, and the one session each request has: the dependencies of every endpoint."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from threading import Semaphore
from time import monotonic
from types import TracebackType
from typing import Annotated, Any, ClassVar, Self, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlmodel import Session, col, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from service.api import idempotency, trail, versions
from service.api.owners import Owner
from service.api.usage import Usage
from service.domain.errors import Forbidden, RateLimited, Unauthenticated, Unavailable
from service.infra import security as keys
from service.infra.batcher import Batcher
from service.infra.clock import utc_now
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import Admission, read_session, unit_of_work
from service.infra.pace import Pace, Pacer, Turn
from service.infra.security import Security
from service.infra.settings import Settings
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.tables.parties import ApiKeyRow, MerchantRow, Scope
from service.tracking.links import LinkMemory

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class UnknownKey(Unauthenticated):
    """No key, or none that was ever given out."""

    code = "unknown-key"
    title = "A valid API key is needed"


class ExpiredKey(Unauthenticated):
    """The key's time is over."""

    code = "expired-key"
    title = "The API key has expired"


class RevokedKey(Unauthenticated):
    """The key was withdrawn."""

    code = "revoked-key"
    title = "The API key was revoked"


class DownloadsBusy(Unavailable):
    """A download holds a connection until its reader has all of it, and readers may be slow; others need some too."""

    code = "downloads-busy"
    title = "Too many downloads at once, try again"
    retry_after_s = 10


class ScopeMissing(Forbidden):
    """The key is good, but not for this."""

    code = "missing-scope"
    title = "The API key does not have the scope this needs"


@dataclass(frozen=True, slots=True)
class Service:
    """What one process shares among its requests; made at start-up, kept at `app.state.service`."""

    settings: Settings
    engine: Engine
    admission: Admission
    security: Security
    orders: Batcher[Any, Any]
    clicks: Batcher[Any, Any]
    links: LinkMemory
    usage: Usage
    pacer: Pacer
    paces: dict[bytes, Pace]
    """How fast keys may ask that asked before, by their hash."""
    downloads: Semaphore
    """Places for answers that are read from the database while they are sent."""
    stripe: StripeAccounts | None = None
    """Accounts of affiliates at Stripe, where that is set up."""


@dataclass(frozen=True, slots=True)
class Merchant:
    """The merchant a request is about. now: by its own clock, which only test merchants can move."""

    id: UUID
    is_test: bool
    time_zone: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """A merchant's key. affiliate_id: set where the key is one affiliate's own."""

    key_id: UUID
    merchant: Merchant
    scopes: frozenset[Scope]
    affiliate_id: UUID | None

    @property
    def merchant_id(self) -> UUID:
        return self.merchant.id

    @property
    def now(self) -> datetime:
        """The present by the merchant's clock."""
        return self.merchant.now

    @property
    def sees_holders(self) -> bool:
        """Whether the key may read whose name an account is in: those who pay, and admins."""
        return not self.scopes.isdisjoint({Scope.ADMIN, Scope.FINANCE_MAKER, Scope.FINANCE_CHECKER})


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key of those who run the service; it belongs to no merchant."""

    key_id: UUID


@dataclass(frozen=True, slots=True)
class AffiliateKey:
    """A key with which one affiliate sees what is its own."""

    key_id: UUID
    merchant: Merchant
    affiliate_id: UUID

    @property
    def merchant_id(self) -> UUID:
        return self.merchant.id

    @property
    def now(self) -> datetime:
        """The present by the merchant's clock."""
        return self.merchant.now


def service_of(asked: HTTPConnection) -> Service:
    """Return what the process shares. Raw routes use it; endpoints name `Services` as a parameter."""
    return cast("Service", asked.app.state.service)


async def _service(request: Request) -> Service:
    return service_of(request)


Services = Annotated[Service, Depends(_service)]


class _Abandoned(Exception):
    """Ends a unit of work that nobody wanted to keep."""


class _OneSession:
    """The one session of a request: opened by whoever needs it first, which is mostly the look-up of the key.

    A second session would take a second connection, and requests that hold one while they wait for another stop
    each other for good once all are in use.
    """

    def __init__(self, engine: Engine, *, writes: bool) -> None:
        self._engine = engine
        self._writes = writes
        self.author: trail.Author | None = None
        """Who asks and for what; whatever is kept is written into the audit trail under this name."""
        self._end = contextlib.ExitStack()
        self._session: Session | None = None
        self.asker: tuple[UUID | None, UUID] | None = None
        """Merchant and key of who asks, once that is known."""

    def open(self) -> Session:
        if self._session is None:
            opened = unit_of_work(self._engine) if self._writes else read_session(self._engine)
            self._session = self._end.enter_context(opened)
            if self._writes:
                trail.follow(self._session)
        return self._session

    @contextlib.contextmanager
    def kept(self) -> Iterator[Session]:
        """Commit what the block wrote when it ends; undo it when it raises."""
        if not self._writes:
            raise RuntimeError("An endpoint that answers GET must not write; it asked for a WriteSession.")
        try:
            with self._end:
                session = self.open()
                yield session
                if self.author is not None:
                    trail.write(session, self.author, at=utc_now())
            crash_point(CrashPoint.REQUEST_COMMITTED)
        finally:
            self._session = None

    def abandon(self, error: Exception | None = None) -> None:
        """Close without keeping anything. Nothing is left to close where a unit of work has ended already.

        Raises the error, if one is given, as the session calls it: the driver's own troubles have names there.
        """
        self._session = None
        with contextlib.suppress(_Abandoned), self._end:
            raise error or _Abandoned

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await run_in_threadpool(self.abandon, error if isinstance(error, Exception) else None)


async def _one_session(request: Request, service: Services) -> AsyncIterator[_OneSession]:
    async with (
        service.admission.enter(),
        _OneSession(service.engine, writes=request.method not in _READING) as held,
    ):
        yield held


_Held = Annotated[_OneSession, Depends(_one_session)]


def _write_session(held: _Held, request: Request, service: Services) -> Iterator[Session]:
    with held.kept() as session:
        keeping = idempotency.keeping_in(request)
        if keeping is not None and held.asker is not None:
            merchant_id, key_id = held.asker
            keeping.claim(session, service.security, merchant_id=merchant_id, key_id=key_id)
        yield session


async def _read_session(held: _Held) -> Session:
    return held.open()


# "function" commits before the response leaves, so a failed commit is never reported as a 2xx.
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
"""The session of an endpoint that changes something; all it wrote is committed, or nothing."""
# The session's owner lives until the response has left, so a report can stream from it.
ReadSession = Annotated[Session, Depends(_read_session)]
"""The session of an endpoint that only reads; the database refuses writes on it."""


_bearer = HTTPBearer(
    scheme_name="ApiKey",
    bearerFormat="koc_live_…, koc_test_… or koc_pub_…",
    description="An API key. Each has scopes, and each operation says which it needs.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that was found good, whatever it may do."""

    key: ApiKeyRow
    merchant: Merchant | None
    scopes: frozenset[Scope]


_PACES_KEPT_MAX = 10_000


class _Paced:
    """The key of a request, by its hash, and how fast it may ask.

    Asked before a session is opened: a key whose pace is known from an earlier request and that comes too often is
    refused without the database. What is remembered lets nobody in; that the key is good is looked up each time.
    """

    def __init__(self, request: Request, service: Service, text: str) -> None:
        self.hash = keys.hash_api_key(text)
        self.is_test = keys.is_test_key(text)
        self._state = request.scope["state"]
        self._service = service
        self._counted = False
        known = service.paces.get(self.hash)
        if known is not None:
            self.count(known)

    def count(self, pace: Pace) -> None:
        """Count the request, once. Raises RateLimited."""
        paces = self._service.paces
        if len(paces) >= _PACES_KEPT_MAX and self.hash not in paces:
            paces.clear()
        paces[self.hash] = pace
        if self._counted:
            return
        self._counted = True
        self._state["pace_headers"] = _pace_headers(pace, take_turn(self._service, self.hash, pace, self._state), "key")


def take_turn(service: Service, asker: bytes | UUID, pace: Pace, state: dict[str, Any]) -> Turn:
    """Count one request of a key, by its hash, or a source. Raises RateLimited. state: of the request's scope."""
    turn = service.pacer.take(asker, pace, now_s=monotonic())
    if turn.allowed:
        return turn
    name = "source" if isinstance(asker, UUID) else "key"
    state["pace_headers"] = _pace_headers(pace, turn, name)
    raise RateLimited(
        f"This {name} may make {pace.rate_per_s} requests per second, {pace.burst} at once. Nothing was done; "
        "try again later.",
        retry_after_s=turn.retry_after_s,
    )


def _pace_headers(pace: Pace, turn: Turn, name: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-11, read 2026-11: quota and window, what is left and until when."""
    window_s = ceil(pace.burst / pace.rate_per_s)
    return (
        (b"ratelimit-policy", f'"{name}";q={pace.burst};w={window_s}'.encode()),
        (b"ratelimit", f'"{name}";r={turn.remaining};t={turn.reset_s}'.encode()),
    )


async def _paced(
    request: Request, service: Services, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> _Paced:
    text = "" if credentials is None else credentials.credentials
    if not (keys.check_api_key(text) or keys.check_publishable_key(text)):
        raise UnknownKey("Send an API key of this service as `Authorization: Bearer koc_…`.")
    return _Paced(request, service, text)


def _known(
    # First of all: whoever comes too often is not to wait for a session, nor to take one from others.
    paced: Annotated[_Paced, Depends(_paced)],
    held: _Held,
    request: Request,
    service: Services,
) -> _Known:
    """Recognise the key that came with the request."""
    # Not narrowed by merchant: the key is what tells which merchant it is.
    found = (
        held.open()
        .exec(
            select(ApiKeyRow, MerchantRow)
            .join(MerchantRow, col(MerchantRow.id) == col(ApiKeyRow.merchant_id), isouter=True)
            .where(col(ApiKeyRow.hash) == paced.hash)
        )
        .one_or_none()
    )
    if found is None:
        raise UnknownKey("No such key was given out here.")
    key, row = cast("tuple[ApiKeyRow, MerchantRow | None]", found)
    now = utc_now()
    if key.revoked_at is not None:
        raise RevokedKey("Make a new key with an admin key of the merchant.")
    if key.expires_at is not None and key.expires_at <= now:
        raise ExpiredKey("Make a new key with an admin key of the merchant.")
    paced.count(_pace_of(key, service.settings))
    service.usage.key_used(key.id)
    held.asker = (key.merchant_id, key.id)
    held.author = _author(request, key)
    merchant = None if row is None else merchant_of(row, now)
    if merchant is not None:
        if paced.is_test != merchant.is_test:
            raise UnknownKey("This key is for test merchants and the merchant is live, or the other way round.")
        versions.say_mode(request, is_test=merchant.is_test)
    return _Known(key, merchant, frozenset(Scope(scope) for scope in key.scopes))


def _pace_of(key: ApiKeyRow, settings: Settings) -> Pace:
    if key.rate_per_s is not None and key.burst is not None:
        return Pace(key.rate_per_s, key.burst)
    if Scope.PUBLISHABLE in key.scopes:
        # All visitors of a shop ask with one such key.
        return Pace(settings.source_rate, settings.source_burst)
    return Pace(settings.key_rate, settings.key_burst)


def _author(request: Request, key: ApiKeyRow) -> trail.Author:
    # The last id of the path is what the request is about: /v1/affiliates/{affiliate_id}/enrollments/{enrollment_id}/end.
    named = [value for name, value in request.path_params.items() if name.endswith("_id")]
    return trail.Author(
        operation=getattr(request.scope.get("route"), "name", ""),
        key_id=key.id,
        merchant_id=key.merchant_id,
        request_id=request.scope["state"].get("request_id"),
        subject=named[-1] if named else "",
    )


def merchant_of(row: MerchantRow, now: datetime) -> Merchant:
    """Return a merchant with its own present. now: by our clock."""
    return Merchant(row.id, row.is_test, row.time_zone, now + timedelta(seconds=row.clock_offset_s))


_Key = Annotated[_Known, Depends(_known)]


def _own_units(held: _Held, request: Request, service: Services, known: _Key) -> Engine:
    held.abandon()
    keeping = idempotency.keeping_in(request)
    if keeping is not None:
        keeping.claim_apart(service.engine, service.security, merchant_id=known.key.merchant_id, key_id=known.key.id)
    if request.method not in _READING:
        # The trail says that it was asked for before any of it is done; each unit of work may be the last.
        with held.kept():
            pass
    return service.engine


def _download(service: Services) -> Iterator[None]:
    """Hold a place for downloads until the answer has left."""
    if not service.downloads.acquire(blocking=False):
        raise DownloadsBusy("Ask again, or let a report job write the file, which is read piece by piece.")
    try:
        yield
    finally:
        service.downloads.release()


Download = Annotated[None, Depends(_download)]
"""A place for an answer that is read from the database while it is sent. Raises DownloadsBusy."""


OwnUnits = Annotated[Engine, Depends(_own_units)]
"""The engine, for an endpoint that runs several units of work one after the other, or calls out between them. The
session in which the key was looked up is closed by then, so that it still holds one connection at a time."""


class Allowed:
    """A dependency that lets keys with any of the scopes pass. It is also what a route declares its owner by."""

    owner: ClassVar[Owner]

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

    def check(self, known: _Known) -> None:
        if known.scopes.isdisjoint(self.scopes):
            needed = " or ".join(self.scopes)
            raise ScopeMissing(f"This needs a key with the scope {needed}.")


class _MerchantKey(Allowed):
    owner = Owner.MERCHANT

    async def __call__(self, known: _Key) -> Caller:
        self.check(known)
        assert known.merchant is not None
        return Caller(known.key.id, known.merchant, known.scopes, known.key.affiliate_id)


class _MerchantOrAffiliateKey(_MerchantKey):
    owner = Owner.MERCHANT_OR_AFFILIATE


class _BrowserKey(_MerchantKey):
    owner = Owner.BROWSER


class _OperatorOnly(Allowed):
    owner = Owner.OPERATOR

    async def __call__(self, known: _Key) -> OperatorKey:
        self.check(known)
        return OperatorKey(known.key.id)


class _AffiliateOnly(Allowed):
    owner = Owner.AFFILIATE

    async def __call__(self, known: _Key) -> AffiliateKey:
        self.check(known)
        assert known.merchant is not None
        assert known.key.affiliate_id is not None
        return AffiliateKey(known.key.id, known.merchant, known.key.affiliate_id)


Operator = Annotated[OperatorKey, Depends(_OperatorOnly(Scope.OPERATOR))]
Admin = Annotated[Caller, Depends(_MerchantKey(Scope.ADMIN))]
Ingest = Annotated[Caller, Depends(_MerchantKey(Scope.INGEST, Scope.ADMIN))]
FinanceMaker = Annotated[Caller, Depends(_MerchantKey(Scope.FINANCE_MAKER, Scope.ADMIN))]
# Not admin: whoever sets terms must not release the money by the same key. It may make another; the trail shows that.
FinanceChecker = Annotated[Caller, Depends(_MerchantKey(Scope.FINANCE_CHECKER))]
Reader = Annotated[Caller, Depends(_MerchantKey(Scope.READ, Scope.ADMIN, Scope.FINANCE_MAKER, Scope.FINANCE_CHECKER))]
# Both for an affiliate too, whom `affiliate_id` then keeps to what is its own.
AdminOrAffiliate = Annotated[Caller, Depends(_MerchantOrAffiliateKey(Scope.ADMIN, Scope.AFFILIATE))]
ReaderOrAffiliate = Annotated[
    Caller,
    Depends(
        _MerchantOrAffiliateKey(Scope.READ, Scope.ADMIN, Scope.FINANCE_MAKER, Scope.FINANCE_CHECKER, Scope.AFFILIATE)
    ),
]
AnyOfMerchant = Annotated[
    Caller,
    Depends(
        _MerchantOrAffiliateKey(
            Scope.READ, Scope.ADMIN, Scope.INGEST, Scope.FINANCE_MAKER, Scope.FINANCE_CHECKER, Scope.AFFILIATE
        )
    ),
]
"""For what is the same for everybody: any key but an operator's and those that anybody may hold."""
Browser = Annotated[Caller, Depends(_BrowserKey(Scope.PUBLISHABLE))]
AffiliateCaller = Annotated[AffiliateKey, Depends(_AffiliateOnly(Scope.AFFILIATE))]


def lock_merchant(session: Session, caller: Caller) -> None:
    """Let what is numbered or counted of one merchant be written one by one; others may insert rows that name it."""
    session.exec(
        select(MerchantRow.id).where(col(MerchantRow.id) == caller.merchant_id).with_for_update(key_share=True)
    ).one()
