"""Bearer keys: made once, shown once, kept as a hash."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import Session, col, select

from service.api.deps import Admin, ReadSession, WriteSession
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import AffiliateId, Body, KeyId, Moment, Name, View
from service.domain.errors import Invalid, Missing
from service.infra.clock import utc_now
from service.infra.ids import new_id
from service.infra.security import hash_api_key, new_api_key
from service.tables.parties import AffiliateRow, ApiKeyRow, Scope

router = APIRouter(tags=["api keys"])

_SHOWN_FIRST, _SHOWN_LAST = 12, 4


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


class ApiKeyCreate(Body):
    name: Name
    scopes: Annotated[list[MerchantScope], Field(min_length=1, max_length=6)]
    affiliate_id: AffiliateId | None = None
    """Whose key it is; with the scope `affiliate` and no other."""
    expires_at: Moment | None = None
    """By the service's clock; null: never."""


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
        )


class ApiKeyCreated(View):
    api_key: ApiKeyView
    key: str
    """The key itself. It is shown this once and not kept: store it now."""


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
) -> ApiKeyCreated:
    """Store a new key and return it, this once, in the clear. merchant_id: None for an operator's key."""
    key = new_api_key(is_test)
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
    )
    session.add(row)
    session.flush()
    return ApiKeyCreated(api_key=ApiKeyView.of(row), key=key)


@router.post("/v1/api-keys", status_code=201)
def create_api_key(asked: ApiKeyCreate, caller: Admin, session: WriteSession) -> ApiKeyCreated:
    """Make a key with some scopes. The key itself is in this answer only."""
    is_affiliates = MerchantScope.AFFILIATE in asked.scopes
    if is_affiliates and (len(set(asked.scopes)) > 1 or asked.affiliate_id is None):
        raise InvalidKey("The scope affiliate stands alone and needs an affiliate_id.")
    if not is_affiliates and asked.affiliate_id is not None:
        raise InvalidKey("An affiliate_id goes with the scope affiliate only.")
    now = utc_now()
    if asked.expires_at is not None and asked.expires_at <= now:
        raise InvalidKey("expires_at must lie ahead.")
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
    )


@router.get("/v1/api-keys")
def list_api_keys(
    *,
    caller: Admin,
    session: ReadSession,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only keys of this affiliate.")] = None,
    revoked: Annotated[bool | None, Query(description="True: only revoked ones; false: only the others.")] = None,
) -> Page[ApiKeyView]:
    """List the merchant's keys, newest first, the revoked ones too."""
    keys = select(ApiKeyRow).where(col(ApiKeyRow.merchant_id) == caller.merchant_id)
    if affiliate_id is not None:
        keys = keys.where(col(ApiKeyRow.affiliate_id) == affiliate_id)
    if revoked is not None:
        keys = keys.where(col(ApiKeyRow.revoked_at).is_not(None) == revoked)
    keys = created.narrow(keys, col(ApiKeyRow.created_at))
    rows = session.exec(newest_first(keys, paging, ApiKeyRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=ApiKeyView.of)


@router.post("/v1/api-keys/{key_id}/revoke")
def revoke_api_key(key_id: KeyId, caller: Admin, session: WriteSession) -> ApiKeyView:
    """Withdraw a key for good, at once. Repeating it changes nothing."""
    row = session.exec(
        select(ApiKeyRow)
        .where(col(ApiKeyRow.id) == key_id, col(ApiKeyRow.merchant_id) == caller.merchant_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such key.")
    if row.revoked_at is None:
        row.revoked_at = utc_now()
    return ApiKeyView.of(row)
