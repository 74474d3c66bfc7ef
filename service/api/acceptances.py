"""Terms as they reach an affiliate, and which versions it accepted."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, Strict
from sqlmodel import Session, col, select

from service.api.deps import AffiliateCaller, AffiliateKey, Caller, Reader, ReadSession, WriteSession
from service.api.paging import Page, Paging, newest_first, page
from service.api.programs import NUMBER_MAX, find_program, in_force, read_versions, versions_of
from service.api.term_changes import ChangeView, changes_between
from service.api.terms import TermsDocument
from service.api.views import (
    WRITTEN_INTEGER,
    AcceptanceId,
    AffiliateId,
    Body,
    KeyId,
    Moment,
    ProgramId,
    View,
)
from service.domain.dated import DatedInputs, Since
from service.domain.errors import Conflict, Missing
from service.domain.notice import reached, reaches_at, reaches_next, terms_hash
from service.domain.program import versions_for
from service.infra.ids import encode, new_id
from service.tables.parties import AffiliateRow
from service.tables.programs import (
    EnrollmentRow,
    LinkOwnerRow,
    LinkRow,
    ProgramRow,
    ProgramVersionRow,
    TermsAcceptanceRow,
)

router = APIRouter()


class VersionSuperseded(Conflict):
    """Nobody can accept terms that will never count for it again."""

    code = "version-superseded"
    title = "The version of the terms counts no more"


class TermsNotAccepted(Conflict):
    """The merchant wants the terms accepted before the first link; only the affiliate itself can do that."""

    code = "terms-not-accepted"
    title = "The affiliate has not accepted the programme's terms"


LanguageTag = Annotated[
    str, Strict(), Field(max_length=35, pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", examples=["vi", "en", "zh"])
]
"""A language as BCP 47 names it."""


class AcceptanceCreate(Body):
    version: Annotated[int, Strict(), Field(ge=1, le=NUMBER_MAX, examples=[1])]
    """Number of the version that was read."""
    language: LanguageTag
    """In which it was shown."""


class AcceptanceView(View):
    """An affiliate accepted a version of terms. Kept for good."""

    id: AcceptanceId
    program_id: ProgramId
    version: int
    affiliate_id: AffiliateId
    accepted_at: Moment
    """By the merchant's clock."""
    language: str
    """In which the terms were shown."""
    terms_hash: str
    """SHA-256 of the version's terms."""
    disclosure: str
    """What the programme asked to be said beside links, at that moment."""
    key_id: KeyId
    """The affiliate's key that accepted."""

    @classmethod
    def of(cls, row: TermsAcceptanceRow) -> Self:
        return cls(
            id=row.id,
            program_id=row.program_id,
            version=row.version,
            affiliate_id=row.affiliate_id,
            accepted_at=row.accepted_at,
            language=row.language,
            terms_hash=row.terms_hash,
            disclosure=row.disclosure,
            key_id=row.key_id,
        )


class VersionStanding(StrEnum):
    """Where a version stands for an affiliate."""

    PROTECTED = "protected"
    """Replaced, and still good for orders of affiliates enrolled before, where it gives more."""
    IN_FORCE = "in_force"
    COMING = "coming"


class MyVersionView(View):
    """A version of terms that counts for you, or will."""

    number: int
    standing: VersionStanding
    valid_from: Moment
    """When it begins for those who join then."""
    reaches_you_at: Moment
    """From then on no terms before it that may give more count for you. A rise and a newcomer wait for nothing, a cut waits for
    the notice period."""
    accepted_at: Moment | None
    """When you accepted it; null while you have not."""
    terms: TermsDocument
    terms_hash: str
    """SHA-256 of the terms, as in what you accept."""
    changes: list[ChangeView]
    """What is other than in your version; empty for that itself."""


class MyProgramTermsView(View):
    id: ProgramId
    name: str
    disclosure: str
    """What has to be said beside its links and coupons."""
    enrolled_since: Moment
    """From when on orders count for you; it may lie ahead."""
    requires_acceptance: bool
    """Whether you make no first link before you have accepted its terms."""
    must_accept: int | None
    """The version that you have to accept before you can make your first link; null when nothing is missing."""
    your_version: int | None
    """The newest version that has reached you; null before the first begins. Where an older one that is protected gives more
    for an order, that one counts."""
    next_version: int | None
    """The version that will take its place; null while none is known."""
    next_from: Moment | None
    """When it does."""
    versions: list[MyVersionView]
    """All that count for you or will, in the order in which they begin."""


@router.get("/v1/me/programs", tags=["me"])
def list_my_programs(caller: AffiliateCaller, session: ReadSession, paging: Paging) -> Page[MyProgramTermsView]:
    """List the programmes you are in or will be in, newest first: which terms count for you, and what is coming when."""
    since = _taking_part(session, caller)
    statement = select(ProgramRow).where(
        col(ProgramRow.merchant_id) == caller.merchant_id, col(ProgramRow.id).in_(since)
    )
    rows = session.exec(newest_first(statement, paging, ProgramRow.id)).all()
    program_ids = [row.id for row in rows]
    versions = versions_of(session, caller.merchant_id, program_ids)
    accepted = _accepted(session, caller.merchant_id, caller.affiliate_id, program_ids)
    linked = _linked(session, caller.merchant_id, caller.affiliate_id, program_ids)

    def view(row: ProgramRow) -> MyProgramTermsView:
        return _my_terms(
            row,
            versions[row.id],
            since=since[row.id],
            accepted=accepted[row.id],
            has_link=row.id in linked,
            now=caller.now,
        )

    return page(rows, paging, key=lambda row: (row.id,), view=view)


@router.post(
    "/v1/me/programs/{program_id}/accept", tags=["me"], status_code=201, responses={200: {"model": AcceptanceView}}
)
def accept_my_terms(
    program_id: ProgramId, asked: AcceptanceCreate, caller: AffiliateCaller, session: WriteSession, response: Response
) -> AcceptanceView:
    """Accept a version of a programme's terms that counts for you, or will (201). Again, the first time stands (200)."""
    # What one affiliate accepts is recorded one by one.
    session.get(AffiliateRow, (caller.merchant_id, caller.affiliate_id), with_for_update={"key_share": True})
    since = _taking_part(session, caller).get(program_id)
    if since is None:
        raise Missing("You take part in no such programme.")
    rows = versions_of(session, caller.merchant_id, [program_id])[program_id]
    row = next((each for each in rows if each.number == asked.version), None)
    if row is None:
        raise Missing("This programme has no such version.")
    known = session.exec(
        select(TermsAcceptanceRow).where(
            col(TermsAcceptanceRow.merchant_id) == caller.merchant_id,
            col(TermsAcceptanceRow.affiliate_id) == caller.affiliate_id,
            col(TermsAcceptanceRow.program_id) == program_id,
            col(TermsAcceptanceRow.version) == asked.version,
        )
    ).one_or_none()
    if known is not None:
        response.status_code = 200
        return AcceptanceView.of(known)
    standings = _standings(rows, since=since, now=caller.now)
    if row.number not in standings:
        numbers = ", ".join(str(number) for number in standings)
        raise VersionSuperseded(f"Read and accept one that counts for you or will: {numbers}.")
    made = TermsAcceptanceRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        program_id=program_id,
        version=row.number,
        affiliate_id=caller.affiliate_id,
        accepted_at=caller.now,
        language=asked.language,
        terms_hash=terms_hash(row.terms),
        disclosure=find_program(session, caller.merchant_id, program_id).disclosure,
        key_id=caller.key_id,
    )
    session.add(made)
    session.flush()
    return AcceptanceView.of(made)


@router.get("/v1/programs/{program_id}/acceptances", tags=["programs"])
def list_acceptances(
    *,
    program_id: ProgramId,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    version: Annotated[
        int | None, WRITTEN_INTEGER, Query(ge=1, le=NUMBER_MAX, description="Only of this version.")
    ] = None,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only by this affiliate.")] = None,
) -> Page[AcceptanceView]:
    """List who accepted which version of a programme's terms, newest first."""
    find_program(session, caller.merchant_id, program_id)
    statement = select(TermsAcceptanceRow).where(
        col(TermsAcceptanceRow.merchant_id) == caller.merchant_id, col(TermsAcceptanceRow.program_id) == program_id
    )
    if version is not None:
        statement = statement.where(col(TermsAcceptanceRow.version) == version)
    if affiliate_id is not None:
        statement = statement.where(col(TermsAcceptanceRow.affiliate_id) == affiliate_id)
    rows = session.exec(newest_first(statement, paging, TermsAcceptanceRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=AcceptanceView.of)


def check_accepted(session: Session, caller: Caller, program: ProgramRow) -> None:
    """Refuse an affiliate's own key that has yet to accept the terms. Raises TermsNotAccepted.

    Who accepted an earlier version and has a link goes on: new terms must not stop what is running.
    """
    if not program.requires_acceptance or caller.affiliate_id is None:
        return
    asked = (session, caller.merchant_id, caller.affiliate_id, [program.id])
    version = _missing(
        versions_of(session, caller.merchant_id, [program.id])[program.id],
        _accepted(*asked)[program.id],
        has_link=program.id in _linked(*asked),
        now=caller.now,
    )
    if version is not None:
        raise TermsNotAccepted(
            f"Show version {version} of the terms (GET /v1/me/programs), then let the affiliate's key accept it: "
            f'POST /v1/me/programs/{encode("prg", program.id)}/accept with {{"version": {version}, "language": "…"}}.'
        )


def current_accepted(
    session: Session, merchant_id: UUID, affiliate_id: UUID, program_ids: Iterable[UUID], *, now: datetime
) -> set[UUID]:
    """Those of the programmes whose version in force the affiliate has accepted."""
    asked = list(set(program_ids))
    accepted = _accepted(session, merchant_id, affiliate_id, asked)
    return {
        program_id
        for program_id, version in in_force(session, merchant_id, asked, now).items()
        if version.number in accepted[program_id]
    }


def _taking_part(session: Session, caller: AffiliateKey) -> dict[UUID, datetime]:
    """Map programme id to since when the affiliate is in it without a break, or from when on it will be."""
    rows = session.exec(
        select(EnrollmentRow)
        .where(
            col(EnrollmentRow.merchant_id) == caller.merchant_id, col(EnrollmentRow.affiliate_id) == caller.affiliate_id
        )
        .order_by(col(EnrollmentRow.valid_from))
    ).all()
    states: dict[tuple[UUID, UUID], tuple[Since, ...]] = defaultdict(tuple)
    for row in rows:
        states[row.program_id, row.affiliate_id] += (Since(row.valid_from, row.enrolled),)
    inputs = DatedInputs(enrollments=dict(states))
    found = {}
    for (program_id, affiliate_id), each in states.items():
        # Who is not in it now may join later: then the last word counts.
        at = max(caller.now, each[-1].valid_from)
        since = inputs.enrolled_since(program_id, affiliate_id, caller.now) or inputs.enrolled_since(
            program_id, affiliate_id, at
        )
        if since is not None:
            found[program_id] = since
    return found


def _accepted(
    session: Session, merchant_id: UUID, affiliate_id: UUID, program_ids: Sequence[UUID]
) -> dict[UUID, dict[int, datetime]]:
    """Map programme id to the numbers of the versions that an affiliate accepted, with when."""
    accepted: dict[UUID, dict[int, datetime]] = {program_id: {} for program_id in program_ids}
    for row in session.exec(
        select(TermsAcceptanceRow).where(
            col(TermsAcceptanceRow.merchant_id) == merchant_id,
            col(TermsAcceptanceRow.affiliate_id) == affiliate_id,
            col(TermsAcceptanceRow.program_id).in_(program_ids),
        )
    ):
        accepted[row.program_id][row.version] = row.accepted_at
    return accepted


def _linked(session: Session, merchant_id: UUID, affiliate_id: UUID, program_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the programmes in which the affiliate owns, or once owned, a link."""
    return set(
        session.exec(
            select(LinkRow.program_id)
            .join(
                LinkOwnerRow,
                (col(LinkOwnerRow.merchant_id) == col(LinkRow.merchant_id))
                & (col(LinkOwnerRow.link_id) == col(LinkRow.id)),
            )
            .where(
                col(LinkRow.merchant_id) == merchant_id,
                col(LinkOwnerRow.affiliate_id) == affiliate_id,
                col(LinkRow.program_id).in_(program_ids),
            )
            .distinct()
        )
    )


def _missing(
    versions: Sequence[ProgramVersionRow], accepted: Mapping[int, datetime], *, has_link: bool, now: datetime
) -> int | None:
    """The version to be accepted before a link can be made: that in force, or else the first to come; None if none."""
    if has_link and accepted:
        return None
    begun = [version for version in versions if version.valid_from <= now]
    due = begun[-1] if begun else versions[0]
    return None if due.number in accepted else due.number


def _standings(rows: Sequence[ProgramVersionRow], *, since: datetime, now: datetime) -> dict[int, VersionStanding]:
    """The versions that count for an affiliate now, or will, in the order in which they begin."""
    versions = read_versions(rows)
    counted = versions_for(versions, placed_at=now, enrolled_at=since)
    standings = {version.number: VersionStanding.PROTECTED for version in reversed(counted[1:])}
    standings |= {version.number: VersionStanding.IN_FORCE for version in counted[:1]}
    return standings | {version.number: VersionStanding.COMING for version in versions if version.valid_from > now}


def _my_terms(
    program: ProgramRow,
    rows: Sequence[ProgramVersionRow],
    *,
    since: datetime,
    accepted: Mapping[int, datetime],
    has_link: bool,
    now: datetime,
) -> MyProgramTermsView:
    versions, standings = read_versions(rows), _standings(rows, since=since, now=now)
    # Who joins later is reached by nothing before.
    at = max(now, since)
    yours = reached(versions, enrolled_at=since, at=at)
    coming = reaches_next(versions, enrolled_at=since, at=at)
    stored = {row.number: row.terms for row in rows}
    return MyProgramTermsView(
        id=program.id,
        name=program.name,
        disclosure=program.disclosure,
        enrolled_since=since,
        requires_acceptance=program.requires_acceptance,
        must_accept=_missing(rows, accepted, has_link=has_link, now=now) if program.requires_acceptance else None,
        your_version=None if yours is None else yours.number,
        next_version=None if coming is None else coming[0].number,
        next_from=None if coming is None else coming[1],
        versions=[
            MyVersionView(
                number=row.number,
                standing=standings[row.number],
                valid_from=row.valid_from,
                reaches_you_at=reaches_at(versions, enrolled_at=since, number=row.number),
                accepted_at=accepted.get(row.number),
                terms=TermsDocument.of(row.terms),
                terms_hash=terms_hash(row.terms),
                changes=[] if yours is None else changes_between(stored[yours.number], row.terms),
            )
            for row in rows
            if row.number in standings
        ],
    )
