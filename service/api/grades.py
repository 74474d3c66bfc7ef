"""Grades: which tier a KOC has and which groups it is in, from a moment on, as conditions of terms ask."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, SkipValidation
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select

from service.api.affiliates import get_affiliate, locked
from service.api.bulk import ITEMS_MAX, Batch, BulkView
from service.api.dated import check_follows, has_no_order, starts_of
from service.api.deps import Admin, Caller, Reader, ReadSession, WriteSession
from service.api.paging import Page, Paging, latest_first, page
from service.api.terms import Label
from service.api.traceable import check_koc, kinds_of
from service.api.views import AffiliateId, Body, Moment, View
from service.infra.ids import encode
from service.intake.desk import DecidedTwice
from service.tables.parties import AffiliateGradeRow

router = APIRouter(tags=["affiliates"])


class GradeCreate(Body):
    tier: Label | None = None
    """As your terms name it, such as gold; null: none."""
    groups: Annotated[tuple[Label, ...], Field(max_length=50)] = ()
    """All groups it is in from then on, such as beauty."""
    valid_from: Moment | None = None
    """At least five minutes ahead, but the first may lie in the past until the merchant's first order. Null: as early as
    allowed."""


class GradeItem(GradeCreate):
    affiliate_id: AffiliateId


class GradeBulk(Body):
    items: Annotated[list[SkipValidation[GradeItem]], Field(min_length=1, max_length=ITEMS_MAX)]


class GradeView(View):
    """It counts for orders placed from valid_from on, until a later one begins."""

    affiliate_id: AffiliateId
    tier: str | None
    groups: list[str]
    valid_from: Moment
    recorded_at: Moment

    @classmethod
    def of(cls, row: AffiliateGradeRow) -> Self:
        return cls(
            affiliate_id=row.affiliate_id,
            tier=row.tier or None,
            groups=row.groups,
            valid_from=row.valid_from,
            recorded_at=row.recorded_at,
        )


@router.post("/v1/affiliates/grades")
def create_grades(asked: GradeBulk, caller: Admin, session: WriteSession) -> BulkView:
    """Grade up to 500 KOCs. Each gets a result of its own; those that cannot be graded spoil no other."""
    batch = Batch(asked.items, GradeItem)
    batch.refuse_repeated(lambda item: item.affiliate_id, DecidedTwice("Grade a KOC once in a request."))
    wanted = [item.affiliate_id for item in batch.open.values()]
    kinds = kinds_of(session, caller.merchant_id, wanted)
    # The lock on the merchant also keeps two requests from grading one KOC at a time.
    has_no_order(session, caller.merchant_id)
    newest = _newest(session, caller.merchant_id, wanted)
    first = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=True)
    later = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=False)

    def row_of(item: GradeItem) -> AffiliateGradeRow:
        check_koc(kinds.get(item.affiliate_id))
        before = newest.get(item.affiliate_id)
        valid_from = (first if before is None else later)(item.valid_from)
        check_follows(valid_from, before)
        return _row(caller, item.affiliate_id, item, valid_from)

    rows = batch.each(row_of)
    session.add_all(rows.values())
    session.flush()
    for place, row in rows.items():
        batch.done(place, status=201, public_id=encode("aff", row.affiliate_id))
    return batch.view()


@router.post("/v1/affiliates/{affiliate_id}/grades", status_code=201)
def create_grade(affiliate_id: AffiliateId, asked: GradeCreate, caller: Admin, session: WriteSession) -> GradeView:
    """Say which tier a KOC has and which groups it is in, from a moment on. What was before stays true of before."""
    check_koc(locked(session, caller.merchant_id, affiliate_id).kind)
    has_no_order(session, caller.merchant_id)
    before = _newest(session, caller.merchant_id, [affiliate_id]).get(affiliate_id)
    start = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=before is None)
    valid_from = start(asked.valid_from)
    check_follows(valid_from, before)
    row = _row(caller, affiliate_id, asked, valid_from)
    session.add(row)
    session.flush()
    return GradeView.of(row)


@router.get("/v1/affiliates/{affiliate_id}/grades")
def list_grades(affiliate_id: AffiliateId, caller: Reader, session: ReadSession, paging: Paging) -> Page[GradeView]:
    """List how a KOC was graded and will be, the latest first."""
    get_affiliate(affiliate_id, caller, session)
    grades = select(AffiliateGradeRow).where(
        col(AffiliateGradeRow.merchant_id) == caller.merchant_id, col(AffiliateGradeRow.affiliate_id) == affiliate_id
    )
    rows = session.exec(
        latest_first(grades, paging, col(AffiliateGradeRow.valid_from), col(AffiliateGradeRow.affiliate_id))
    ).all()
    return page(rows, paging, key=lambda row: (row.valid_from, row.affiliate_id), view=GradeView.of)


def _row(caller: Caller, affiliate_id: UUID, asked: GradeCreate, valid_from: datetime) -> AffiliateGradeRow:
    return AffiliateGradeRow(
        merchant_id=caller.merchant_id,
        affiliate_id=affiliate_id,
        valid_from=valid_from,
        tier=asked.tier or "",
        groups=sorted(set(asked.groups)),
        recorded_at=caller.now,
    )


def _newest(session: Session, merchant_id: UUID, affiliate_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Maps KOC to when its newest grade begins; those without one are left out."""
    rows = session.exec(
        select(AffiliateGradeRow.affiliate_id, AffiliateGradeRow.valid_from)
        .where(
            col(AffiliateGradeRow.merchant_id) == merchant_id, col(AffiliateGradeRow.affiliate_id).in_(affiliate_ids)
        )
        .ext(distinct_on(col(AffiliateGradeRow.affiliate_id)))
        .order_by(col(AffiliateGradeRow.affiliate_id), col(AffiliateGradeRow.valid_from).desc())
    )
    return dict(rows.all())
