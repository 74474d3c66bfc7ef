"""Rosters: an agency is offered a share of what a KOC earns, the KOC consents or does not, and may leave at any time.

At most one agency stands behind a KOC and nobody behind an agency: offers go from an agency to a KOC only, and a KOC is
of one agency at a time. Nobody is paid for having found somebody.
"""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Strict, WithJsonSchema
from sqlalchemy import Row
from sqlmodel import Session, col, select

from service.api.affiliates import get_affiliate, locked
from service.api.dated import check_follows, start_of
from service.api.deps import (
    Admin,
    AffiliateCaller,
    AffiliateKey,
    Caller,
    Reader,
    ReadSession,
    WriteSession,
)
from service.api.paging import Page, Paging, page
from service.api.traceable import check_koc
from service.api.views import WRITTEN_FLAG, AffiliateId, Body, Moment, RosterOfferId, View
from service.domain.errors import Conflict, Missing
from service.domain.written import percent_of, rate_of
from service.infra.db import fetch
from service.infra.ids import new_id
from service.tables.parties import AffiliateKind, AffiliateRow, OfferState, RosterOfferRow, RosterRow

router = APIRouter(tags=["rosters"])


class NotAnAgency(Conflict):
    """KOCs give shares to agencies, never to each other."""

    code = "not-an-agency"
    title = "Only an agency has a roster"


class OfferDecided(Conflict):
    """An offer is answered once."""

    code = "roster-offer-decided"
    title = "The offer is not open any more"


class OnNoRoster(Conflict):
    """Whoever is of no agency can leave none."""

    code = "on-no-roster"
    title = "The KOC is of no agency"


Percent = Annotated[
    str,
    Strict(),
    WithJsonSchema({"type": "string", "pattern": r"^(100|[0-9]{1,2})(\.[0-9]{1,6})?$", "examples": ["12.5"]}),
]
"""Percent from 0 to 100 in decimal notation; checked where it is read."""


class RosterOfferCreate(Body):
    affiliate_id: AffiliateId
    """The KOC."""
    share: Percent
    """Percent of the KOC's commission that goes to the agency, "30" or "12.5". The KOC has the rest."""
    fee: Percent = "0"
    """Percent of the goods that you pay the agency on top. The KOC gives nothing of it."""


class RosterOfferView(View):
    id: RosterOfferId
    affiliate_id: AffiliateId
    """The KOC."""
    affiliate_name: str
    agency_id: AffiliateId
    agency_name: str
    share: str
    """Percent of the KOC's commission that goes to the agency."""
    fee: str
    """Percent of the goods that the merchant pays the agency on top."""
    state: OfferState
    offered_at: Moment
    decided_at: Moment | None
    """Since when it is in its state; null while it is open."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            id=row.id,
            affiliate_id=row.affiliate_id,
            affiliate_name=row.affiliate_name,
            agency_id=row.agency_id,
            agency_name=row.agency_name,
            share=row.share,
            fee=row.fee,
            state=OfferState(row.state),
            offered_at=row.offered_at,
            decided_at=row.decided_at,
        )


class MembershipView(View):
    """A KOC is of an agency from a moment on, for orders placed."""

    affiliate_id: AffiliateId
    affiliate_name: str
    agency_id: AffiliateId
    agency_name: str
    share: str
    fee: str
    valid_from: Moment
    until: Moment | None
    """From when it is no longer; null: nothing follows so far."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            affiliate_id=row.affiliate_id,
            affiliate_name=row.affiliate_name,
            agency_id=row.agency_id,
            agency_name=row.agency_name,
            share=row.share,
            fee=row.fee,
            valid_from=row.valid_from,
            until=row.until,
        )


class LeaveView(View):
    affiliate_id: AffiliateId
    valid_from: Moment
    """From when on the KOC is of no agency, for orders placed."""


Current = Annotated[
    bool | None,
    WRITTEN_FLAG,
    Query(description="True: only memberships that nothing follows; false: only those that end or have ended."),
]
State = Annotated[OfferState | None, Query(description="Only offers in this state.")]


# The merchant's side. {affiliate_id} is an agency, or a KOC where its own memberships and offers are meant.


@router.post("/v1/affiliates/{affiliate_id}/roster", status_code=201)
def create_roster_offer(
    affiliate_id: AffiliateId, asked: RosterOfferCreate, caller: Admin, session: WriteSession
) -> RosterOfferView:
    """Offer a KOC a place on an agency's roster. Nothing changes until the KOC accepts with its own key.

    It takes the place of an offer of this agency that the KOC has not answered yet.
    """
    share, fee = (percent_of(rate_of(percent)) for percent in (asked.share, asked.fee))
    koc = locked(session, caller.merchant_id, asked.affiliate_id)
    agency = session.get(AffiliateRow, (caller.merchant_id, affiliate_id))
    if agency is None:
        raise Missing("This merchant has no such agency.")
    _check_agency(agency)
    check_koc(koc.kind)
    for open_offer in session.exec(
        select(RosterOfferRow).where(
            col(RosterOfferRow.merchant_id) == caller.merchant_id,
            col(RosterOfferRow.affiliate_id) == koc.id,
            col(RosterOfferRow.agency_id) == agency.id,
            col(RosterOfferRow.state) == OfferState.OFFERED,
        )
    ):
        open_offer.state, open_offer.decided_at = OfferState.WITHDRAWN, caller.now
        session.flush()
    row = RosterOfferRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        affiliate_id=koc.id,
        agency_id=agency.id,
        share=share,
        fee=fee,
        offered_at=caller.now,
        offered_by=caller.key_id,
        state=OfferState.OFFERED,
    )
    session.add(row)
    session.flush()
    return _offer_view(session, row)


@router.get("/v1/affiliates/{affiliate_id}/roster")
def list_roster(
    affiliate_id: AffiliateId, caller: Reader, session: ReadSession, paging: Paging, current: Current = None
) -> Page[MembershipView]:
    """List an agency's members, or a KOC's agencies, past and to come; the latest first."""
    get_affiliate(affiliate_id, caller, session)
    return _memberships(session, caller.merchant_id, affiliate_id, paging, current)


@router.get("/v1/affiliates/{affiliate_id}/roster-offers")
def list_roster_offers(
    affiliate_id: AffiliateId, caller: Reader, session: ReadSession, paging: Paging, state: State = None
) -> Page[RosterOfferView]:
    """List the offers made for an agency, or to a KOC, newest first."""
    get_affiliate(affiliate_id, caller, session)
    return _offers(session, caller.merchant_id, affiliate_id, paging, state)


@router.post("/v1/affiliates/{affiliate_id}/roster-offers/{offer_id}/withdraw")
def withdraw_roster_offer(
    affiliate_id: AffiliateId, offer_id: RosterOfferId, caller: Admin, session: WriteSession
) -> RosterOfferView:
    """Take back an offer that the KOC has not answered."""
    row = _open_offer(session, caller.merchant_id, offer_id, of=affiliate_id)
    row.state, row.decided_at = OfferState.WITHDRAWN, caller.now
    session.flush()
    return _offer_view(session, row)


@router.post("/v1/affiliates/{affiliate_id}/roster/leave")
def end_roster_membership(affiliate_id: AffiliateId, caller: Admin, session: WriteSession) -> LeaveView:
    """Take a KOC off the roster it is on, five minutes from now. What was earned on orders placed before stays shared."""
    return _leave(session, caller, affiliate_id)


# What the KOC, and the agency, see and say with keys of their own.


@router.get("/v1/me/roster")
def list_my_roster(
    caller: AffiliateCaller, session: ReadSession, paging: Paging, current: Current = None
) -> Page[MembershipView]:
    """List your members if you are an agency, or the agencies you are and were of; the latest first."""
    return _memberships(session, caller.merchant_id, caller.affiliate_id, paging, current)


@router.get("/v1/me/roster-offers")
def list_my_roster_offers(
    caller: AffiliateCaller, session: ReadSession, paging: Paging, state: State = None
) -> Page[RosterOfferView]:
    """List the offers made to you, or for you if you are an agency, newest first."""
    return _offers(session, caller.merchant_id, caller.affiliate_id, paging, state)


@router.post("/v1/me/roster-offers/{offer_id}/accept")
def accept_roster_offer(offer_id: RosterOfferId, caller: AffiliateCaller, session: WriteSession) -> RosterOfferView:
    """Consent to an offer made to you: for orders placed from five minutes on, this agency and no other has its share."""
    row = _open_offer(session, caller.merchant_id, offer_id, to=caller.affiliate_id)
    _end_accepted(session, caller, caller.affiliate_id)
    row.state, row.decided_at = OfferState.ACCEPTED, caller.now
    _record(session, caller, caller.affiliate_id, agency_id=row.agency_id, share=row.share, fee=row.fee)
    return _offer_view(session, row)


@router.post("/v1/me/roster-offers/{offer_id}/decline")
def decline_roster_offer(offer_id: RosterOfferId, caller: AffiliateCaller, session: WriteSession) -> RosterOfferView:
    """Refuse an offer made to you. Nothing changes."""
    row = _open_offer(session, caller.merchant_id, offer_id, to=caller.affiliate_id)
    row.state, row.decided_at = OfferState.DECLINED, caller.now
    session.flush()
    return _offer_view(session, row)


@router.post("/v1/me/roster/leave")
def leave_roster(caller: AffiliateCaller, session: WriteSession) -> LeaveView:
    """Leave the agency you are of: for orders placed from five minutes on, all you earn is yours."""
    return _leave(session, caller, caller.affiliate_id)


def _check_agency(row: AffiliateRow) -> None:
    if row.kind != AffiliateKind.AGENCY:
        raise NotAnAgency(f"The affiliate is of kind {row.kind}; make one of kind agency.")


def _open_offer(
    session: Session, merchant_id: UUID, offer_id: UUID, *, of: UUID | None = None, to: UUID | None = None
) -> RosterOfferRow:
    """Return an open offer that concerns an affiliate (of), or was made to a KOC (to), with that KOC locked.

    The lock keeps a KOC's offers from being answered, and its roster from being written, two at a time.
    Raises Missing, OfferDecided.
    """
    row = session.get(RosterOfferRow, (merchant_id, offer_id))
    if (
        row is None
        or (of is not None and of not in {row.agency_id, row.affiliate_id})
        or to not in {None, row.affiliate_id}
    ):
        raise Missing("There is no such offer here.")
    locked(session, merchant_id, row.affiliate_id)
    session.refresh(row)
    if row.state != OfferState.OFFERED:
        raise OfferDecided(f"It is {row.state}. Another offer can be made.")
    return row


def _leave(session: Session, caller: Caller | AffiliateKey, affiliate_id: UUID) -> LeaveView:
    locked(session, caller.merchant_id, affiliate_id)
    newest = _newest(session, caller.merchant_id, affiliate_id)
    if newest is None or newest.agency_id is None:
        raise OnNoRoster("Nothing to leave: the KOC is of no agency, or has left already.")
    _end_accepted(session, caller, affiliate_id)
    valid_from = _record(session, caller, affiliate_id, agency_id=None)
    return LeaveView(affiliate_id=affiliate_id, valid_from=valid_from)


def _end_accepted(session: Session, caller: Caller | AffiliateKey, affiliate_id: UUID) -> None:
    """Let the offer by which a locked KOC is of an agency have ended, if there is one."""
    accepted = session.exec(
        select(RosterOfferRow).where(
            col(RosterOfferRow.merchant_id) == caller.merchant_id,
            col(RosterOfferRow.affiliate_id) == affiliate_id,
            col(RosterOfferRow.state) == OfferState.ACCEPTED,
        )
    ).one_or_none()
    if accepted is not None:
        accepted.state, accepted.decided_at = OfferState.ENDED, caller.now
        # Before another is accepted: there is one at a time.
        session.flush()


def _record(
    session: Session,
    caller: Caller | AffiliateKey,
    affiliate_id: UUID,
    *,
    agency_id: UUID | None,
    share: str = "0",
    fee: str = "0",
) -> datetime:
    """Write of which agency a locked KOC is from five minutes on; return from when."""
    valid_from = start_of(session, caller.merchant_id, asked=None, recorded_at=caller.now, is_first=False)
    newest = _newest(session, caller.merchant_id, affiliate_id)
    check_follows(valid_from, newest.valid_from if newest else None)
    session.add(
        RosterRow(
            merchant_id=caller.merchant_id,
            affiliate_id=affiliate_id,
            valid_from=valid_from,
            agency_id=agency_id,
            share=share,
            fee=fee,
            recorded_at=caller.now,
        )
    )
    session.flush()
    return valid_from


def _newest(session: Session, merchant_id: UUID, affiliate_id: UUID) -> RosterRow | None:
    return session.exec(
        select(RosterRow)
        .where(col(RosterRow.merchant_id) == merchant_id, col(RosterRow.affiliate_id) == affiliate_id)
        .order_by(col(RosterRow.valid_from).desc())
        .limit(1)
    ).one_or_none()


_OFFERS = """
    SELECT offer.id, offer.affiliate_id, koc.name AS affiliate_name, offer.agency_id, agency.name AS agency_name,
           offer.share, offer.fee, offer.state, offer.offered_at, offer.decided_at
    FROM roster_offer AS offer
    JOIN affiliate AS koc ON koc.merchant_id = offer.merchant_id AND koc.id = offer.affiliate_id
    JOIN affiliate AS agency ON agency.merchant_id = offer.merchant_id AND agency.id = offer.agency_id
    WHERE offer.merchant_id = :merchant_id
"""


def _offer_view(session: Session, row: RosterOfferRow) -> RosterOfferView:
    session.flush()
    [found] = fetch(session, f"{_OFFERS} AND offer.id = :id", {"merchant_id": row.merchant_id, "id": row.id})
    return RosterOfferView.of(found)


def _offers(
    session: Session, merchant_id: UUID, affiliate_id: UUID, paging: Paging, state: OfferState | None
) -> Page[RosterOfferView]:
    """Offers that concern a KOC or an agency, newest first."""
    after = paging.after_id()
    rows = fetch(
        session,
        f"""
        {_OFFERS}
          AND :affiliate_id IN (offer.affiliate_id, offer.agency_id)
          AND (CAST(:state AS text) IS NULL OR offer.state = :state)
          AND (CAST(:after AS uuid) IS NULL OR offer.id < :after)
        ORDER BY offer.id DESC LIMIT :limit
        """,
        {
            "merchant_id": merchant_id,
            "affiliate_id": affiliate_id,
            "state": state,
            "after": after,
            "limit": paging.limit + 1,
        },
    )
    return page(rows, paging, key=lambda row: (row.id,), view=RosterOfferView.of)


def _memberships(
    session: Session, merchant_id: UUID, affiliate_id: UUID, paging: Paging, current: bool | None
) -> Page[MembershipView]:
    """Memberships of a KOC or in an agency, the latest first."""
    after = paging.after_moment()
    rows = fetch(
        session,
        """
        SELECT * FROM (
            SELECT member.affiliate_id, koc.name AS affiliate_name, member.agency_id, agency.name AS agency_name,
                   member.share, member.fee, member.valid_from,
                   (SELECT min(later.valid_from) FROM roster AS later
                    WHERE later.merchant_id = member.merchant_id AND later.affiliate_id = member.affiliate_id
                      AND later.valid_from > member.valid_from) AS until
            FROM roster AS member
            JOIN affiliate AS koc ON koc.merchant_id = member.merchant_id AND koc.id = member.affiliate_id
            JOIN affiliate AS agency ON agency.merchant_id = member.merchant_id AND agency.id = member.agency_id
            WHERE member.merchant_id = :merchant_id AND :affiliate_id IN (member.affiliate_id, member.agency_id)
        ) AS membership
        WHERE (CAST(:current AS boolean) IS NULL OR (until IS NULL) = :current)
          AND (CAST(:after_moment AS timestamptz) IS NULL
               OR (valid_from, affiliate_id) < (:after_moment, CAST(:after_id AS uuid)))
        ORDER BY valid_from DESC, affiliate_id DESC LIMIT :limit
        """,
        {
            "merchant_id": merchant_id,
            "affiliate_id": affiliate_id,
            "current": current,
            "after_moment": after[0] if after else None,
            "after_id": after[1] if after else None,
            "limit": paging.limit + 1,
        },
    )
    return page(rows, paging, key=lambda row: (row.valid_from, row.affiliate_id), view=MembershipView.of)
