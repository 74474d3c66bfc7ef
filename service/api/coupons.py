"""Coupons: codes typed at checkout, and whom they belong to from when on."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.dated import start_of
from service.api.deps import Admin, Caller, ReaderOrAffiliate, ReadSession, WriteSession
from service.api.merchants import ExternalIdTaken
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.traceable import (
    OwnerCreate,
    OwnerStartTaken,
    OwnerView,
    affiliate_of,
    disclosures_of,
    owned_by,
    owner_at,
    program_of,
)
from service.api.views import AffiliateId, Body, CouponId, ExternalId, Moment, Name, ProgramId, Text, View
from service.domain.errors import Conflict, Missing
from service.domain.order import folded
from service.infra import ids
from service.tables.programs import CouponOwnerRow, CouponRow

router = APIRouter(tags=["coupons"])


class CouponTaken(Conflict):
    """A code means one coupon of a merchant, however it is typed."""

    code = "coupon-code-taken"
    title = "Another coupon of this merchant has this code"


def _plain(code: str) -> str:
    if not code.isprintable():
        raise PydanticCustomError("coupon_code", "Must hold no line breaks or control characters")
    return code.strip()


CouponCode = Annotated[Name, Field(max_length=64), AfterValidator(_plain)]


class CouponCreate(Body):
    affiliate_id: AffiliateId
    """Whose coupon it is at first."""
    program_id: ProgramId
    code: CouponCode
    """As buyers type it; letter case does not matter."""
    external_id: ExternalId | None = None
    valid_from: Moment | None = None
    """From when on it counts. Until the merchant's first order that may lie in the past, and left out it reaches back to the
    merchant's making; after it at least, and left out exactly, five minutes ahead."""


class CouponView(View):
    id: CouponId
    external_id: str | None
    program_id: ProgramId
    affiliate_id: AffiliateId
    """Whose coupon it is now, or first will be."""
    owners: list[OwnerView]
    """All owners, past and to come, oldest first."""
    code: str
    disclosure: str
    """What has to be said beside the code, as the programme words it."""
    created_at: Moment

    @classmethod
    def of(cls, row: CouponRow, owners: Sequence[CouponOwnerRow], disclosure: str, *, now: datetime) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            program_id=row.program_id,
            affiliate_id=owner_at(owners, now),
            owners=[OwnerView.of(owner) for owner in owners],
            code=row.code,
            disclosure=disclosure,
            created_at=row.created_at,
        )


@router.post("/v1/coupons", status_code=201)
def create_coupon(asked: CouponCreate, caller: Admin, session: WriteSession) -> CouponView:
    """Give a coupon code to an affiliate. A code is unique among the merchant's coupons, without letter case."""
    program = program_of(session, caller.merchant_id, asked.program_id)
    affiliate_of(session, caller.merchant_id, asked.affiliate_id)
    row = CouponRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        program_id=program.id,
        code=asked.code,
        folded=folded(asked.code),
        created_at=caller.now,
    )
    session.add(row)
    with (
        taken("coupon_merchant_id_folded_key", CouponTaken("Choose another code, or hand the coupon over.")),
        taken("coupon_merchant_id_external_id_key", ExternalIdTaken("A coupon with this external_id exists.")),
    ):
        session.flush()
    owner = CouponOwnerRow(
        merchant_id=row.merchant_id,
        coupon_id=row.id,
        valid_from=start_of(session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=True),
        affiliate_id=asked.affiliate_id,
        recorded_at=caller.now,
    )
    session.add(owner)
    session.flush()
    return CouponView.of(row, [owner], program.disclosure, now=caller.now)


@router.get("/v1/coupons")
def list_coupons(
    caller: ReaderOrAffiliate,
    session: ReadSession,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only coupons this affiliate owns now.")] = None,
    code: Annotated[Text | None, Query(max_length=64, description="Only the coupon with this code.")] = None,
) -> Page[CouponView]:
    """List coupons, newest first. An affiliate's key sees its own."""
    statement = select(CouponRow).where(col(CouponRow.merchant_id) == caller.merchant_id)
    for owner_id in {affiliate_id, caller.affiliate_id} - {None}:
        assert owner_id is not None
        statement = statement.where(
            owned_by(CouponRow.id, CouponOwnerRow, "coupon_id", owner_id, caller.merchant_id, at=caller.now)
        )
    if code is not None:
        statement = statement.where(col(CouponRow.folded) == folded(code.replace("\x00", "")))
    rows = session.exec(newest_first(statement, paging, col(CouponRow.id))).all()
    owners = _owners(session, caller.merchant_id, [row.id for row in rows])
    disclosures = disclosures_of(session, caller.merchant_id, [row.program_id for row in rows])

    def view(row: CouponRow) -> CouponView:
        return CouponView.of(row, owners[row.id], disclosures[row.program_id], now=caller.now)

    return page(rows, paging, key=lambda row: (row.id,), view=view)


@router.get("/v1/coupons/{coupon_id}")
def get_coupon(coupon_id: CouponId, caller: ReaderOrAffiliate, session: ReadSession) -> CouponView:
    """Return one coupon."""
    return _shown(session, _coupon(session, caller, coupon_id), caller)


@router.post("/v1/coupons/{coupon_id}/owners", status_code=201)
def transfer_coupon(coupon_id: CouponId, asked: OwnerCreate, caller: Admin, session: WriteSession) -> CouponView:
    """Hand a coupon over from a time on. Never back-dated: orders placed before count for the owner before."""
    row = _coupon(session, caller, coupon_id)
    affiliate_of(session, caller.merchant_id, asked.affiliate_id)
    session.add(
        CouponOwnerRow(
            merchant_id=row.merchant_id,
            coupon_id=row.id,
            valid_from=start_of(
                session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=False
            ),
            affiliate_id=asked.affiliate_id,
            recorded_at=caller.now,
        )
    )
    with taken("coupon_owner_pk", OwnerStartTaken("Choose another valid_from.")):
        session.flush()
    return _shown(session, row, caller)


def _coupon(session: Session, caller: Caller, coupon_id: UUID) -> CouponRow:
    """Return a coupon the caller may see. Raises Missing."""
    statement = select(CouponRow).where(
        col(CouponRow.merchant_id) == caller.merchant_id, col(CouponRow.id) == coupon_id
    )
    if caller.affiliate_id is not None:
        statement = statement.where(
            owned_by(CouponRow.id, CouponOwnerRow, "coupon_id", caller.affiliate_id, caller.merchant_id, at=caller.now)
        )
    row = session.exec(statement).one_or_none()
    if row is None:
        raise Missing("No coupon of yours has this id.")
    return row


def _owners(session: Session, merchant_id: UUID, coupon_ids: Sequence[UUID]) -> dict[UUID, list[CouponOwnerRow]]:
    """Maps coupon to owners, oldest first."""
    owners: dict[UUID, list[CouponOwnerRow]] = defaultdict(list)
    for row in session.exec(
        select(CouponOwnerRow)
        .where(col(CouponOwnerRow.merchant_id) == merchant_id, col(CouponOwnerRow.coupon_id).in_(coupon_ids))
        .order_by(col(CouponOwnerRow.valid_from))
    ):
        owners[row.coupon_id].append(row)
    return owners


def _shown(session: Session, row: CouponRow, caller: Caller) -> CouponView:
    program = program_of(session, caller.merchant_id, row.program_id)
    return CouponView.of(
        row, _owners(session, caller.merchant_id, [row.id])[row.id], program.disclosure, now=caller.now
    )
