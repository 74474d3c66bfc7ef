"""Bearer keys: made once, shown once, kept as a hash."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, Strict
from sqlalchemy import cast, false, func, not_, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Session, col, select

from service.api.deps import Admin, Caller, ReadSession, WriteSession
from service.api.etags import IfMatch
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import WRITTEN_FLAG, AffiliateId, Body, KeyId, Moment, Name, RateLimitBody, RateLimitView, View
from service.domain.errors import Conflict, Invalid, Missing
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.ids import new_id
from service.infra.security import hash_api_key, new_api_key, new_publishable_key
from service.tables.parties import AffiliateRow, ApiKeyRow, Scope

router = APIRouter(tags=["api keys"])

_SHOWN_FIRST, _SHOWN_LAST = 12, 4
OVERLAP_MAX_S = 30 * 86_400
"""Seconds that what was rotated may live on beside what takes its place."""


class InvalidKey(Invalid):
    """The scopes, the affiliate and the expiry of a key do not go together."""

    code = "invalid-key"
    title = "Such a key cannot be made"


class MerchantScope(StrEnum):
    """What a merchant's key may do. An admin may do all but approve payouts, and makes the other keys."""

    ADMIN = "admin"
    INGEST = "ingest"
    FINANCE_MAKER = "finance-maker"
    FINANCE_CHECKER = "finance-checker"
    READ = "read"
    AFFILIATE = "affiliate"
    PUBLISHABLE = "publishable"
    """For pages in a browser: such a key, koc_pub_…, may be read by anybody."""


_ALONE = (MerchantScope.AFFILIATE, MerchantScope.PUBLISHABLE)
"""Scopes that stand alone."""


class NotRotatable(Conflict):
    """The key is over or was rotated already: rotate the key that took its place, or make a new one."""

    code = "key-not-rotatable"
    title = "The key is revoked, has expired or was rotated"


class ApiKeyCreate(Body):
    name: Name
    scopes: Annotated[list[MerchantScope], Field(min_length=1, max_length=7)]
    affiliate_id: AffiliateId | None = None
    """Whose key it is; with the scope `affiliate` and no other."""
    expires_at: Moment | None = None
    """By the service's clock; null: never."""
    rate_limit: RateLimitBody | None = None
    """How fast it may ask; null: as the service is set up."""


class ApiKeyUpdate(Body):
    """What is left out stays."""

    name: Name | None = None
    rate_limit: RateLimitBody | None = None
    """null: as the service is set up."""


class ApiKeyRotate(Body):
    overlap_s: Annotated[int, Strict(), Field(ge=0, le=OVERLAP_MAX_S)] = 86_400
    """Seconds the old key lives on beside the new one; 0: it is revoked at once."""
    expires_at: Moment | None = None
    """When the new key expires; left out: it lives as long as the old one was meant to."""


class ApiKeyView(View):
    id: KeyId
    name: str
    scopes: list[Scope]
    affiliate_id: AffiliateId | None
    hint: str
    """Its first and last characters."""
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    """When it last let somebody in: known after at most a quarter of a minute, and noted at most once a minute."""
    rate_limit: RateLimitView | None
    """null: as the service is set up."""

    @classmethod
    def of(cls, row: ApiKeyRow) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            scopes=[Scope(scope) for scope in row.scopes],
            affiliate_id=row.affiliate_id,
            hint=row.hint,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            rate_limit=RateLimitView.of(row.rate_per_s, row.burst),
        )


class ApiKeyCreated(View):
    api_key: ApiKeyView
    key: str
    """The key itself. It is shown this once and not kept: store it now."""


class ApiKeyRotated(ApiKeyCreated):
    replaced: ApiKeyView
    """The old key, as it is from now on."""


def make_key(
    session: Session,
    *,
    merchant_id: UUID | None,
    is_test: bool,
    name: str,
    scopes: Sequence[Scope],
    at: datetime,
    affiliate_id: UUID | None = None,
    expires_at: datetime | None = None,
    rate_limit: RateLimitBody | RateLimitView | None = None,
) -> ApiKeyCreated:
    """Store a new key and return it, this once, in the clear. merchant_id: None for an operator's key."""
    key = new_publishable_key(is_test) if Scope.PUBLISHABLE in scopes else new_api_key(is_test)
    row = ApiKeyRow(
        id=new_id(),
        merchant_id=merchant_id,
        affiliate_id=affiliate_id,
        hash=hash_api_key(key),
        hint=f"{key[:_SHOWN_FIRST]}…{key[-_SHOWN_LAST:]}",
        name=name,
        scopes=sorted(set(scopes)),
        created_at=at,
        expires_at=expires_at,
        rate_per_s=None if rate_limit is None else rate_limit.per_second,
        burst=None if rate_limit is None else rate_limit.burst,
    )
    session.add(row)
    session.flush()
    return ApiKeyCreated(api_key=ApiKeyView.of(row), key=key)


@router.post("/v1/api-keys", status_code=201)
def create_api_key(asked: ApiKeyCreate, caller: Admin, session: WriteSession) -> ApiKeyCreated:
    """Make a key with some scopes. The key itself is in this answer only."""
    if len(set(asked.scopes)) > 1 and not set(_ALONE).isdisjoint(asked.scopes):
        raise InvalidKey(f"The scopes {' and '.join(_ALONE)} stand alone.")
    if (MerchantScope.AFFILIATE in asked.scopes) is not (asked.affiliate_id is not None):
        raise InvalidKey("The scope affiliate needs an affiliate_id, which goes with no other scope.")
    now = utc_now()
    _check_expiry(asked.expires_at, now)
    if asked.affiliate_id is not None and session.get(AffiliateRow, (caller.merchant_id, asked.affiliate_id)) is None:
        raise Missing("This merchant has no such affiliate.")
    return make_key(
        session,
        merchant_id=caller.merchant_id,
        is_test=caller.merchant.is_test,
        name=asked.name,
        scopes=[Scope(scope) for scope in asked.scopes],
        at=now,
        affiliate_id=asked.affiliate_id,
        expires_at=asked.expires_at,
        rate_limit=asked.rate_limit,
    )


@router.get("/v1/api-keys")
def list_api_keys(
    *,
    caller: Admin,
    session: ReadSession,
    paging: Paging,
    created: Created,
    scope: Annotated[MerchantScope | None, Query(description="Only keys with this scope.")] = None,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only keys of this affiliate.")] = None,
    active: Annotated[
        bool | None,
        WRITTEN_FLAG,
        Query(description="true: only keys that let somebody in now; false: only the others."),
    ] = None,
) -> Page[ApiKeyView]:
    """List the merchant's keys, newest first, the revoked ones too."""
    keys = select(ApiKeyRow).where(col(ApiKeyRow.merchant_id) == caller.merchant_id)
    if scope is not None:
        keys = keys.where(cast(col(ApiKeyRow.scopes), JSONB).contains([scope.value]))
    if affiliate_id is not None:
        keys = keys.where(col(ApiKeyRow.affiliate_id) == affiliate_id)
    keys = created.narrow(keys, col(ApiKeyRow.created_at))
    if active is not None:
        over = or_(
            col(ApiKeyRow.revoked_at).is_not(None), func.coalesce(col(ApiKeyRow.expires_at) <= utc_now(), false())
        )
        keys = keys.where(not_(over) if active else over)
    rows = session.exec(newest_first(keys, paging, ApiKeyRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=ApiKeyView.of)


@router.get("/v1/api-keys/{key_id}")
def get_api_key(key_id: KeyId, caller: Admin, session: ReadSession) -> ApiKeyView:
    """Return one key, without the key itself."""
    row = session.exec(
        select(ApiKeyRow).where(col(ApiKeyRow.id) == key_id, col(ApiKeyRow.merchant_id) == caller.merchant_id)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such key.")
    return ApiKeyView.of(row)


@router.patch("/v1/api-keys/{key_id}")
def update_api_key(
    key_id: KeyId, asked: ApiKeyUpdate, caller: Admin, session: WriteSession, expected: IfMatch
) -> ApiKeyView:
    """Change a key's name or how fast it may ask. What it may do is fixed: make another key for that."""
    row = _locked(session, caller, key_id)
    expected.check(ApiKeyView.of(row))
    if asked.name is not None:
        row.name = asked.name
    if "rate_limit" in asked.model_fields_set:
        row.rate_per_s = None if asked.rate_limit is None else asked.rate_limit.per_second
        row.burst = None if asked.rate_limit is None else asked.rate_limit.burst
    return ApiKeyView.of(row)


@router.post("/v1/api-keys/{key_id}/rotate", status_code=201)
def rotate_api_key(key_id: KeyId, asked: ApiKeyRotate, caller: Admin, session: WriteSession) -> ApiKeyRotated:
    """Make a key that may do the same, and let the old one live on for a while. The new key is in this answer only.

    A key is rotated once. Whoever lost the answer rotates the key that took its place, which a second try names.
    """
    old = _locked(session, caller, key_id)
    now = utc_now()
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise NotRotatable("Make a new key instead.")
    if old.replaced_by is not None:
        # Its time has been cut short, so nothing tells any more how long a follower of it was meant to live.
        raise NotRotatable(f"Key {ids.encode('key', old.replaced_by)} took its place: rotate that one.")
    _check_expiry(asked.expires_at, now)
    expires_at = asked.expires_at
    if expires_at is None and old.expires_at is not None:
        expires_at = now + (old.expires_at - old.created_at)
    made = make_key(
        session,
        merchant_id=caller.merchant_id,
        is_test=caller.merchant.is_test,
        name=old.name,
        scopes=[Scope(scope) for scope in old.scopes],
        at=now,
        affiliate_id=old.affiliate_id,
        expires_at=expires_at,
        rate_limit=RateLimitView.of(old.rate_per_s, old.burst),
    )
    old.replaced_by = made.api_key.id
    if asked.overlap_s == 0:
        old.revoked_at = now
    else:
        ends_at = now + timedelta(seconds=asked.overlap_s)
        old.expires_at = ends_at if old.expires_at is None else min(old.expires_at, ends_at)
    return ApiKeyRotated(api_key=made.api_key, key=made.key, replaced=ApiKeyView.of(old))


@router.post("/v1/api-keys/{key_id}/revoke")
def revoke_api_key(key_id: KeyId, caller: Admin, session: WriteSession) -> ApiKeyView:
    """Withdraw a key for good, at once. Repeating it changes nothing."""
    row = _locked(session, caller, key_id)
    if row.revoked_at is None:
        row.revoked_at = utc_now()
    return ApiKeyView.of(row)


def _locked(session: Session, caller: Caller, key_id: UUID) -> ApiKeyRow:
    """Return a key of the merchant as it is now. Of two who revoke or rotate it at once the second sees what the first did."""
    row = session.exec(
        select(ApiKeyRow)
        .where(col(ApiKeyRow.id) == key_id, col(ApiKeyRow.merchant_id) == caller.merchant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such key.")
    return row


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise InvalidKey("expires_at must lie ahead.")
