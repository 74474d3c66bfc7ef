"""What links and coupons have in common: a programme, its disclosure, and owners that follow one another."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased
from sqlmodel import Session, SQLModel, col, select

from service.api.views import AffiliateId, Body, Moment, View
from service.domain.errors import Conflict, Missing
from service.tables.parties import AffiliateKind, AffiliateRow
from service.tables.programs import CouponOwnerRow, LinkOwnerRow, ProgramRow


class NotAKoc(Conflict):
    """Agencies and the operator have a part of what others bring. Nobody is paid for having found somebody."""

    code = "not-a-koc"
    title = "Only a KOC can bring orders"


class OwnerStartTaken(Conflict):
    """Two owners would begin at one instant."""

    code = "owner-start-taken"
    title = "Another owner begins at this very time"


class OwnerCreate(Body):
    """A new owner from a time on."""

    affiliate_id: AffiliateId
    valid_from: Moment | None = None
    """When it begins, at least five minutes ahead; left out, in five minutes. Touches before count for the owner before."""


class OwnerView(View):
    """Whom it belongs to from when on."""

    affiliate_id: AffiliateId
    valid_from: Moment
    recorded_at: Moment

    @classmethod
    def of(cls, row: LinkOwnerRow | CouponOwnerRow) -> "OwnerView":
        return cls(affiliate_id=row.affiliate_id, valid_from=row.valid_from, recorded_at=row.recorded_at)


_NO_AFFILIATE = "No affiliate of this merchant has this id."


def owner_at(owners: Sequence[LinkOwnerRow] | Sequence[CouponOwnerRow], at: datetime) -> UUID:
    """Return the owner at a moment, of owners oldest first; before the first begins, the first."""
    begun = [row.affiliate_id for row in owners if row.valid_from <= at]
    return begun[-1] if begun else owners[0].affiliate_id


def owned_by(
    thing: UUID, rows: type[SQLModel], name: str, affiliate_id: UUID, merchant_id: UUID, *, at: datetime
) -> ColumnElement[bool]:
    """Narrow a SELECT of links or coupons to those an affiliate owns at a moment.

    thing: the column with their id; rows: the table of their owners, whose column `name` names them.
    """
    owner: Any
    later: Any
    owner, later = aliased(rows), aliased(rows)
    replaced = (
        select(getattr(later, name))
        .where(
            later.merchant_id == merchant_id,
            getattr(later, name) == getattr(owner, name),
            later.valid_from > owner.valid_from,
            later.valid_from <= at,
        )
        .exists()
    )
    return col(thing).in_(
        select(getattr(owner, name)).where(
            owner.merchant_id == merchant_id,
            owner.affiliate_id == affiliate_id,
            owner.valid_from <= at,
            ~replaced,
        )
    )


def program_of(session: Session, merchant_id: UUID, program_id: UUID) -> ProgramRow:
    """Return a programme of the merchant. Raises Missing."""
    row = session.get(ProgramRow, (merchant_id, program_id))
    if row is None:
        raise Missing("No programme of this merchant has this id.")
    return row


def programs_of(session: Session, merchant_id: UUID, program_ids: Iterable[UUID]) -> dict[UUID, ProgramRow]:
    """Maps id to programme; those the merchant does not have are left out."""
    rows = session.exec(
        select(ProgramRow).where(col(ProgramRow.merchant_id) == merchant_id, col(ProgramRow.id).in_(set(program_ids)))
    )
    return {row.id: row for row in rows}


def kinds_of(session: Session, merchant_id: UUID, affiliate_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Maps affiliate to its kind; those the merchant does not have are left out."""
    rows = session.exec(
        select(AffiliateRow.id, AffiliateRow.kind).where(
            col(AffiliateRow.merchant_id) == merchant_id, col(AffiliateRow.id).in_(set(affiliate_ids))
        )
    )
    return dict(rows.all())


def disclosures_of(session: Session, merchant_id: UUID, program_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Maps programme to what has to be said beside its links and coupons."""
    rows = session.exec(
        select(ProgramRow.id, ProgramRow.disclosure).where(
            col(ProgramRow.merchant_id) == merchant_id, col(ProgramRow.id).in_(set(program_ids))
        )
    )
    return dict(rows.all())


def check_koc(kind: str | None) -> None:
    """Let pass who can bring orders. kind: None for an affiliate that is not there. Raises Missing, NotAKoc."""
    if kind is None:
        raise Missing(_NO_AFFILIATE)
    if kind != AffiliateKind.KOC:
        raise NotAKoc(
            f"The affiliate is of kind {kind}: it is paid a part of what KOCs bring, and has no links, coupons, "
            "bindings or enrolments of its own."
        )


def koc_of(session: Session, merchant_id: UUID, affiliate_id: UUID) -> AffiliateRow:
    """Return a KOC of the merchant. Raises Missing, NotAKoc."""
    row = affiliate_of(session, merchant_id, affiliate_id)
    check_koc(row.kind)
    return row


def affiliate_of(session: Session, merchant_id: UUID, affiliate_id: UUID) -> AffiliateRow:
    """Return an affiliate of the merchant. Raises Missing."""
    row = session.exec(
        select(AffiliateRow).where(col(AffiliateRow.merchant_id) == merchant_id, col(AffiliateRow.id) == affiliate_id)
    ).one_or_none()
    if row is None:
        raise Missing(_NO_AFFILIATE)
    return row
