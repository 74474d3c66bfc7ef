"""Coupons: codes typed at checkout, and whom they belong to from when on."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, Field, SkipValidation
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.api import trail
from service.api.bulk import ITEMS_MAX, Batch, BulkView, insert_new
from service.api.dated import start_of, starts_of
from service.api.deps import Admin, Caller, Reader, ReaderOrAffiliate, ReadSession, WriteSession
from service.api.etags import IfMatch
from service.api.filters import Created, ExternalIdFilter
from service.api.merchants import ExternalIdTaken, FixedOnceMade
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.traceable import (
    OwnerCreate,
    OwnerStartTaken,
    OwnerView,
    check_koc,
    disclosures_of,
    kinds_of,
    koc_of,
    owned_by,
    owner_at,
    program_of,
    programs_of,
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


class CouponPut(Body):
    affiliate_id: AffiliateId
    """Whose coupon it is at first."""
    program_id: ProgramId
    code: CouponCode
    """As buyers type it; letter case does not matter."""
    valid_from: Moment | None = None
    """From when on it counts. Until the merchant's first order that may lie in the past, and left out it reaches back to the
    merchant's making; after it at least, and left out exactly, five minutes ahead."""


class CouponCreate(CouponPut):
    external_id: ExternalId | None = None


class CouponBulk(Body):
    items: Annotated[list[SkipValidation[CouponCreate]], Field(min_length=1, max_length=ITEMS_MAX)]


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
    return _create(session, caller, asked)


@router.post("/v1/coupons/bulk")
def create_coupons(asked: CouponBulk, caller: Admin, session: WriteSession) -> BulkView:
    """Give up to 500 coupon codes to affiliates. Each gets a result of its own; those that cannot be made spoil no other."""
    batch = Batch(asked.items, CouponCreate)
    batch.refuse_repeated(lambda item: item.external_id, _ID_TAKEN)
    batch.refuse_repeated(lambda item: folded(item.code), _CODE_TAKEN)
    items = list(batch.open.values())
    programs = programs_of(session, caller.merchant_id, [item.program_id for item in items])
    kinds = kinds_of(session, caller.merchant_id, [item.affiliate_id for item in items])
    start = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=True)

    def rows_of(item: CouponCreate) -> tuple[CouponRow, CouponOwnerRow]:
        if item.program_id not in programs:
            raise Missing("No programme of this merchant has this id.")
        check_koc(kinds.get(item.affiliate_id))
        return _rows(caller, item, start(item.valid_from))

    rows = batch.each(rows_of)
    inserted = insert_new(session, {place: row for place, (row, _) in rows.items()}, key="folded")
    trail.note_new(session, [rows[place][0] for place in sorted(inserted)])
    session.add_all([owner for place, (_, owner) in rows.items() if place in inserted])
    session.flush()
    refused = [row.folded for place, (row, _) in rows.items() if place not in inserted]
    taken_codes = set(
        session.exec(
            select(CouponRow.folded).where(
                col(CouponRow.merchant_id) == caller.merchant_id, col(CouponRow.folded).in_(refused)
            )
        )
    )
    for place, (row, _) in rows.items():
        if place in inserted:
            batch.done(place, status=201, public_id=ids.encode("cpn", row.id))
        else:
            batch.refuse(place, _CODE_TAKEN if row.folded in taken_codes else _ID_TAKEN)
    return batch.view()


@router.put("/v1/coupons/by-external-id/{external_id:path}", responses={201: {"model": CouponView}})
def put_coupon_by_external_id(
    *,
    external_id: ExternalId,
    asked: CouponPut,
    caller: Admin,
    session: WriteSession,
    response: Response,
    expected: IfMatch,
) -> CouponView:
    """Make a coupon under your own id (201); of one that is there (200), say that it is as you think it is.

    Its code and programme never change, and owners follow one another by POST /v1/coupons/{coupon_id}/owners.
    """
    row = session.exec(_by_external_id(caller, external_id).with_for_update(key_share=True)).one_or_none()
    present = None if row is None else _shown(session, row, caller)
    expected.check(present)
    if present is None:
        response.status_code = 201
        return _create(session, caller, CouponCreate(**dict(asked), external_id=external_id))
    if (present.program_id, folded(present.code)) != (asked.program_id, folded(asked.code)):
        raise FixedOnceMade("Make another coupon for another code or programme.")
    if present.affiliate_id != asked.affiliate_id:
        raise FixedOnceMade("Hand it over by POST /v1/coupons/{coupon_id}/owners.")
    return present


@router.get("/v1/coupons/by-external-id/{external_id:path}")
def get_coupon_by_external_id(external_id: ExternalId, caller: Reader, session: ReadSession) -> CouponView:
    """Return the coupon you made under your own id."""
    row = session.exec(_by_external_id(caller, external_id)).one_or_none()
    if row is None:
        raise Missing("This merchant has no coupon with this external_id.")
    return _shown(session, row, caller)


@router.get("/v1/coupons")
def list_coupons(
    *,
    caller: ReaderOrAffiliate,
    session: ReadSession,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only coupons this affiliate owns now.")] = None,
    code: Annotated[Text | None, Query(max_length=64, description="Only the coupon with this code.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Only coupons of this programme.")] = None,
    external_id: ExternalIdFilter = None,
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
    if program_id is not None:
        statement = statement.where(col(CouponRow.program_id) == program_id)
    if external_id is not None:
        statement = statement.where(col(CouponRow.external_id) == external_id)
    statement = created.narrow(statement, col(CouponRow.created_at))
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
    koc_of(session, caller.merchant_id, asked.affiliate_id)
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


_CODE_TAKEN = CouponTaken("Choose another code, or hand the coupon over.")
_ID_TAKEN = ExternalIdTaken("A coupon with this external_id exists.")


def _create(session: Session, caller: Caller, asked: CouponCreate) -> CouponView:
    program = program_of(session, caller.merchant_id, asked.program_id)
    koc_of(session, caller.merchant_id, asked.affiliate_id)
    # Before the coupon is inserted: whoever makes many locks the merchant first too.
    valid_from = start_of(session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=True)
    row, owner = _rows(caller, asked, valid_from)
    session.add(row)
    with (
        taken("coupon_merchant_id_folded_key", _CODE_TAKEN),
        taken("coupon_merchant_id_external_id_key", _ID_TAKEN),
    ):
        session.flush()
    session.add(owner)
    session.flush()
    return CouponView.of(row, [owner], program.disclosure, now=caller.now)


def _rows(caller: Caller, asked: CouponCreate, valid_from: datetime) -> tuple[CouponRow, CouponOwnerRow]:
    row = CouponRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        program_id=asked.program_id,
        code=asked.code,
        folded=folded(asked.code),
        created_at=caller.now,
    )
    owner = CouponOwnerRow(
        merchant_id=row.merchant_id,
        coupon_id=row.id,
        valid_from=valid_from,
        affiliate_id=asked.affiliate_id,
        recorded_at=caller.now,
    )
    return row, owner


def _by_external_id(caller: Caller, external_id: str) -> SelectOfScalar[CouponRow]:
    return select(CouponRow).where(
        col(CouponRow.merchant_id) == caller.merchant_id, col(CouponRow.external_id) == external_id
    )


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
