"""Programmes: what can be changed at any time, and terms in numbered versions that never change."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, Strict
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.api.conditions import Amounts
from service.api.dated import start_of
from service.api.deps import Admin, Caller, Reader, ReadSession, WriteSession
from service.api.etags import IfMatch
from service.api.filters import Created, ExternalIdFilter
from service.api.merchants import ExternalIdTaken
from service.api.paging import InvalidCursor, Page, PageQuery, Paging, newest_first, page
from service.api.pauses import RunningView, pauses_of
from service.api.problems import taken
from service.api.term_changes import ChangeView, changes_between
from service.api.terms import SettlementDocument, TermsDocument
from service.api.views import WRITTEN_INTEGER, Body, ExternalId, Moment, Name, ProgramId, Text, View
from service.domain.errors import Conflict, InvalidTerms, Missing
from service.domain.events import EventType
from service.domain.notice import NoticeTooShort, is_surely_no_cut, reaches_at
from service.domain.periods import check_follows, check_keys_stay
from service.domain.program import ProgramVersion, Terms
from service.domain.settlement_presets import PRESETS, Preset
from service.infra.ids import encode, new_id
from service.outbox.emit import Event, emit
from service.tables.parties import AffiliateKind, AffiliateRow
from service.tables.programs import ProgramPauseRow, ProgramRow, ProgramVersionRow
from service.tracking.redirect import canonical_domain, canonical_url

router = APIRouter(tags=["programs"])


class VersionTaken(Conflict):
    """Two versions cannot begin at one moment."""

    code = "version-taken"
    title = "Another version of the programme begins then"


class TermsDiffer(Conflict):
    """Terms never change where they stand: what a KOC was promised stays readable, and nothing is changed by the way."""

    code = "program-terms-differ"
    title = "The programme has other terms"


Domains = Annotated[
    list[Annotated[str, Strict(), Field(min_length=1, max_length=260, examples=["*.shop.example"])]],
    Field(min_length=1, max_length=100),
]
NUMBER_MAX = 2**31 - 1
"""The largest number a version may have."""
MinNoticeHours = Annotated[int, Strict(), Field(ge=0, le=366 * 24)]
Address = Annotated[str, Strict(), Field(max_length=2048, examples=["https://shop.example/"])]


class ProgramCreate(Body):
    name: Name
    terms: TermsDocument
    valid_from: Moment | None = None
    """From when on the first version holds. Until the merchant's first order it may lie in the past; null: as early as
    allowed."""
    allowed_domains: Domains
    """Host names that links may lead to; a leading "*." allows all below one."""
    fallback_url: Address
    """Where a paused link leads: https, with a named host."""
    disclosure: Text = ""
    """What a KOC has to say beside a link."""
    requires_acceptance: Annotated[bool, Strict()] = False
    """True: an affiliate's own key makes no first link before it has accepted the terms. What orders earn never depends
    on it."""
    min_notice_hours: MinNoticeHours = 0
    """How long before they begin terms have to be published that may take something away."""
    external_id: ExternalId | None = None


class ProgramPut(Body):
    name: Name
    terms: TermsDocument | None = None
    """Needed for a new programme. Of one that is there they must be the newest version's; publish a version to change them."""
    valid_from: Moment | None = None
    """As with a new programme; of one that is there it says nothing."""
    allowed_domains: Domains
    fallback_url: Address
    disclosure: Text = ""
    requires_acceptance: Annotated[bool, Strict()] | None = None
    """Null: as it is; false for a new programme."""
    min_notice_hours: MinNoticeHours | None = None
    """Null: as it is; 0 for a new programme."""


class ProgramUpdate(Body):
    """What is left out stays. Terms change by a new version only."""

    name: Name | None = None
    allowed_domains: Domains | None = None
    fallback_url: Address | None = None
    disclosure: Text | None = None
    requires_acceptance: Annotated[bool, Strict()] | None = None
    min_notice_hours: MinNoticeHours | None = None


class ProgramVersionCreate(Body):
    terms: TermsDocument
    valid_from: Moment | None = None
    """At least five minutes ahead of now, and where it may be a cut, the programme's `min_notice_hours`; null: as early as
    that allows."""


class ProgramVersionView(View):
    """Terms that never change. They hold until a version with a later valid_from begins."""

    program_id: ProgramId
    number: int
    valid_from: Moment
    terms: TermsDocument
    recorded_at: Moment

    @classmethod
    def of(cls, row: ProgramVersionRow) -> Self:
        return cls(
            program_id=row.program_id,
            number=row.number,
            valid_from=row.valid_from,
            terms=TermsDocument.of(row.terms),
            recorded_at=row.recorded_at,
        )


class ProgramView(View):
    id: ProgramId
    external_id: str | None
    name: str
    allowed_domains: list[str]
    fallback_url: str
    disclosure: str
    requires_acceptance: bool
    """Whether an affiliate's own key makes no first link before it has accepted the terms."""
    min_notice_hours: int
    """How long before they begin terms have to be published that may take something away."""
    version_in_force: ProgramVersionView | None
    """The terms of this moment; null before the first version begins."""
    running: RunningView
    """Whether it is paused, or will be: POST /v1/programs/{program_id}/pause and …/resume."""
    created_at: Moment

    @classmethod
    def of(
        cls, row: ProgramRow, in_force: ProgramVersionRow | None, pauses: Sequence[ProgramPauseRow], *, now: datetime
    ) -> Self:
        """pauses: of the programme, oldest first."""
        return cls(
            id=row.id,
            external_id=row.external_id,
            name=row.name,
            allowed_domains=row.allowed_domains,
            fallback_url=row.fallback_url,
            disclosure=row.disclosure,
            requires_acceptance=row.requires_acceptance,
            min_notice_hours=row.min_notice_hours,
            version_in_force=None if in_force is None else ProgramVersionView.of(in_force),
            running=RunningView.of(row.id, pauses, now),
            created_at=row.created_at,
        )


class ProgramCreated(View):
    program: ProgramView
    version: ProgramVersionView


@router.post("/v1/programs", status_code=201)
def create_program(asked: ProgramCreate, caller: Admin, session: WriteSession) -> ProgramCreated:
    """Make a programme with its first version of terms."""
    row, version = _create(session, caller, asked)
    in_force = version if version.valid_from <= caller.now else None
    return ProgramCreated(
        program=ProgramView.of(row, in_force, [], now=caller.now), version=ProgramVersionView.of(version)
    )


@router.put("/v1/programs/by-external-id/{external_id:path}", responses={201: {"model": ProgramView}})
def put_program_by_external_id(
    *,
    external_id: ExternalId,
    asked: ProgramPut,
    caller: Admin,
    session: WriteSession,
    response: Response,
    expected: IfMatch,
) -> ProgramView:
    """Make a programme under your own id (201), or set what can be changed of the one you made before (200)."""
    row = session.exec(_by_external_id(caller.merchant_id, external_id).with_for_update(key_share=True)).one_or_none()
    if expected.is_asked:
        expected.check(None if row is None else _view(session, row, caller))
    if row is not None:
        _check_same_terms(session, row, asked.terms)
        row.name = asked.name
        row.allowed_domains = _canonical(asked.allowed_domains)
        row.fallback_url = canonical_url(asked.fallback_url)
        row.disclosure = asked.disclosure
        _set_promises(row, asked)
        session.flush()
    elif asked.terms is None:
        raise InvalidTerms("A new programme needs terms.")
    else:
        response.status_code = 201
        new = ProgramCreate(
            name=asked.name,
            terms=asked.terms,
            valid_from=asked.valid_from,
            allowed_domains=asked.allowed_domains,
            fallback_url=asked.fallback_url,
            disclosure=asked.disclosure,
            requires_acceptance=asked.requires_acceptance or False,
            min_notice_hours=asked.min_notice_hours or 0,
            external_id=external_id,
        )
        row, _ = _create(session, caller, new)
    return _view(session, row, caller)


@router.get("/v1/programs/by-external-id/{external_id:path}")
def get_program_by_external_id(external_id: ExternalId, caller: Reader, session: ReadSession) -> ProgramView:
    """Return the programme you made under your own id."""
    row = session.exec(_by_external_id(caller.merchant_id, external_id)).one_or_none()
    if row is None:
        raise Missing("This merchant has no programme with this external_id.")
    return _view(session, row, caller)


def _create(session: Session, caller: Caller, asked: ProgramCreate) -> tuple[ProgramRow, ProgramVersionRow]:
    terms = asked.terms.terms()
    check_payees(session, caller.merchant_id, terms)
    valid_from = start_of(session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=True)
    row = ProgramRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        external_id=asked.external_id,
        name=asked.name,
        allowed_domains=_canonical(asked.allowed_domains),
        fallback_url=canonical_url(asked.fallback_url),
        disclosure=asked.disclosure,
        requires_acceptance=asked.requires_acceptance,
        min_notice_hours=asked.min_notice_hours,
        created_at=caller.now,
    )
    session.add(row)
    with taken("program_merchant_id_external_id_key", ExternalIdTaken("A programme with this external_id exists.")):
        session.flush()
    version = ProgramVersionRow(
        merchant_id=caller.merchant_id,
        program_id=row.id,
        number=1,
        valid_from=valid_from,
        terms=terms.as_json(),
        asks_about_customers=terms.asks_about_customers,
        recorded_at=caller.now,
    )
    session.add(version)
    session.flush()
    return row, version


def check_payees(session: Session, merchant_id: UUID, terms: Terms) -> None:
    """Raise InvalidTerms where they pay somebody beside the KOCs who is no agency or operator of this merchant."""
    there = session.exec(
        select(AffiliateRow.id).where(
            col(AffiliateRow.merchant_id) == merchant_id,
            col(AffiliateRow.id).in_(terms.payees),
            col(AffiliateRow.kind) != AffiliateKind.KOC,
        )
    ).all()
    unknown = sorted(terms.payees - set(there))
    if unknown:
        raise InvalidTerms(
            f"{encode('aff', unknown[0])} is no agency or operator of this merchant. Make one with POST /v1/affiliates "
            "and its kind first: service and technical fees are never paid to KOCs."
        )


@router.get("/v1/programs")
def list_programs(
    caller: Reader, session: ReadSession, paging: Paging, created: Created, external_id: ExternalIdFilter = None
) -> Page[ProgramView]:
    """List the merchant's programmes, newest first."""
    programs = select(ProgramRow).where(col(ProgramRow.merchant_id) == caller.merchant_id)
    if external_id is not None:
        programs = programs.where(col(ProgramRow.external_id) == external_id)
    programs = created.narrow(programs, col(ProgramRow.created_at))
    rows = session.exec(newest_first(programs, paging, ProgramRow.id)).all()
    versions = in_force(session, caller.merchant_id, [row.id for row in rows], caller.now)
    pauses = pauses_of(session, caller.merchant_id, [row.id for row in rows])

    def view(row: ProgramRow) -> ProgramView:
        return ProgramView.of(row, versions.get(row.id), pauses[row.id], now=caller.now)

    return page(rows, paging, key=lambda row: (row.id,), view=view)


class PresetView(View):
    name: str
    like: str
    """Whose habit it is. Check that programme's own rules: this is a starting point, no claim about it."""
    settlement: SettlementDocument
    payout_minimums: Amounts
    """The smallest balance that is paid out, by currency; empty where that is not part of the habit."""

    @classmethod
    def of(cls, preset: Preset) -> Self:
        terms = Terms(
            rules=(), settlement=preset.settlement, payout_minimums_minor=preset.payout_minimums_minor
        ).as_json()
        parts = {name: terms[name] for name in ("settlement", "payout_minimums")}
        return cls.model_validate({"name": preset.name, "like": preset.like, **parts})


class PresetList(View):
    data: list[PresetView]


@router.get("/v1/settlement-presets")
def list_settlement_presets(caller: Reader) -> PresetList:
    """List settlement as well-known programmes do it. Take one, change it, and put it into your terms."""
    del caller
    return PresetList(data=[PresetView.of(preset) for preset in PRESETS])


@router.get("/v1/programs/{program_id}")
def get_program(program_id: ProgramId, caller: Reader, session: ReadSession) -> ProgramView:
    """Return one programme with the terms of this moment."""
    return _view(session, find_program(session, caller.merchant_id, program_id), caller)


@router.patch("/v1/programs/{program_id}")
def update_program(
    program_id: ProgramId, asked: ProgramUpdate, caller: Admin, session: WriteSession, expected: IfMatch
) -> ProgramView:
    """Change what no order's commission depends on. Links made before stay as they are."""
    row = session.get(ProgramRow, (caller.merchant_id, program_id), with_for_update={"key_share": True})
    if row is None:
        raise Missing(_NONE_SUCH)
    if expected.is_asked:
        expected.check(_view(session, row, caller))
    if asked.name is not None:
        row.name = asked.name
    if asked.allowed_domains is not None:
        row.allowed_domains = _canonical(asked.allowed_domains)
    if asked.fallback_url is not None:
        row.fallback_url = canonical_url(asked.fallback_url)
    if asked.disclosure is not None:
        row.disclosure = asked.disclosure
    _set_promises(row, asked)
    session.flush()
    return _view(session, row, caller)


@router.post("/v1/programs/{program_id}/versions", status_code=201)
def create_program_version(
    program_id: ProgramId, asked: ProgramVersionCreate, caller: Admin, session: WriteSession
) -> ProgramVersionView:
    """Add a version of terms. Versions are numbered and never change; none begins in the past.

    Affiliates enrolled before keep better terms for the notice period of the version they lose.
    """
    terms = asked.terms.terms()
    check_payees(session, caller.merchant_id, terms)
    program = find_program(session, caller.merchant_id, program_id)
    # Also keeps two versions from taking one number.
    valid_from = start_of(session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=False)
    before = versions_of(session, caller.merchant_id, [program_id])[program_id]
    known = read_versions(before)
    check_follows((rule for each in known for rule in each.terms.periods), terms.periods)
    check_keys_stay(
        [
            *(each.terms.periods for each in known if each.valid_from <= valid_from),
            terms.periods,
            *(each.terms.periods for each in known if each.valid_from > valid_from),
        ]
    )
    announced_at = caller.now + timedelta(hours=program.min_notice_hours)
    if valid_from < announced_at and _may_be_cut(_followed(before, valid_from), terms):
        if asked.valid_from is not None:
            raise NoticeTooShort(
                f"They may be a cut, and this programme tells of cuts {program.min_notice_hours} hours ahead: give a "
                f"valid_from at or after {announced_at.isoformat()}, or only raise what the rules pay."
            )
        valid_from = announced_at
    row = ProgramVersionRow(
        merchant_id=caller.merchant_id,
        program_id=program_id,
        number=1 + max(version.number for version in before),
        valid_from=valid_from,
        terms=terms.as_json(),
        asks_about_customers=terms.asks_about_customers,
        recorded_at=caller.now,
    )
    session.add(row)
    with taken(
        "program_version_merchant_id_program_id_valid_from_key",
        VersionTaken(f"A version of this programme begins at {valid_from.isoformat()} already."),
    ):
        session.flush()
    emit(session, [_published(before, row)])
    return ProgramVersionView.of(row)


@router.get("/v1/programs/{program_id}/versions")
def list_program_versions(
    program_id: ProgramId, caller: Reader, session: ReadSession, paging: Paging
) -> Page[ProgramVersionView]:
    """List a programme's versions, newest number first."""
    find_program(session, caller.merchant_id, program_id)
    versions = select(ProgramVersionRow).where(
        col(ProgramVersionRow.merchant_id) == caller.merchant_id, col(ProgramVersionRow.program_id) == program_id
    )
    before = _number_before(paging)
    if before is not None:
        versions = versions.where(col(ProgramVersionRow.number) < before)
    rows = session.exec(versions.order_by(col(ProgramVersionRow.number).desc()).limit(paging.limit + 1)).all()
    return page(rows, paging, key=lambda row: (str(row.number),), view=ProgramVersionView.of)


@router.get("/v1/programs/{program_id}/versions/{number}")
def get_program_version(
    program_id: ProgramId,
    number: Annotated[int, WRITTEN_INTEGER, Path(ge=1, le=NUMBER_MAX)],
    caller: Reader,
    session: ReadSession,
) -> ProgramVersionView:
    """Return one version of a programme's terms."""
    return ProgramVersionView.of(find_version(session, caller.merchant_id, program_id, number))


class VersionDiffView(View):
    """What is other in a version than in another one."""

    program_id: ProgramId
    number: int
    against: int
    may_be_cut: bool
    """False: the version surely gives every affiliate at least as much as the other, no later. True: it may not."""
    changes: list[ChangeView]
    """In the order in which terms are written; empty where they are the same."""


@router.get("/v1/programs/{program_id}/versions/{number}/diff")
def get_program_version_diff(
    program_id: ProgramId,
    number: Annotated[int, WRITTEN_INTEGER, Path(ge=1, le=NUMBER_MAX)],
    caller: Reader,
    session: ReadSession,
    against: Annotated[
        int | None,
        WRITTEN_INTEGER,
        Query(ge=1, le=NUMBER_MAX, description="The version to compare with. Left out: the one whose place it takes."),
    ] = None,
) -> VersionDiffView:
    """Return what is other in a version than in the one before it, or than in one you name."""
    row = find_version(session, caller.merchant_id, program_id, number)
    if against is not None:
        other = find_version(session, caller.merchant_id, program_id, against)
    else:
        followed = _followed(versions_of(session, caller.merchant_id, [program_id])[program_id], row.valid_from)
        if followed is None:
            raise Missing("No version begins before this one; name another as `against`.")
        other = followed
    return VersionDiffView(
        program_id=program_id,
        number=number,
        against=other.number,
        may_be_cut=_may_be_cut(other, Terms.of_json(row.terms)),
        changes=changes_between(other.terms, row.terms),
    )


_NONE_SUCH = "This merchant has no such programme."
_CHANGES_CHARACTERS_MAX = 16_000
"""Longer than this, changes are left out of an event."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def find_program(session: Session, merchant_id: UUID, program_id: UUID) -> ProgramRow:
    """Return a merchant's programme. Raises Missing."""
    row = session.get(ProgramRow, (merchant_id, program_id))
    if row is None:
        raise Missing(_NONE_SUCH)
    return row


def find_version(session: Session, merchant_id: UUID, program_id: UUID, number: int) -> ProgramVersionRow:
    """Return a version of a merchant's programme. Raises Missing."""
    row = session.get(ProgramVersionRow, (merchant_id, program_id, number))
    if row is None:
        raise Missing("This programme has no such version.")
    return row


def versions_of(
    session: Session, merchant_id: UUID, program_ids: Sequence[UUID]
) -> dict[UUID, list[ProgramVersionRow]]:
    """Map programme id to its versions in the order in which they begin."""
    versions: dict[UUID, list[ProgramVersionRow]] = {program_id: [] for program_id in program_ids}
    for row in session.exec(
        select(ProgramVersionRow)
        .where(col(ProgramVersionRow.merchant_id) == merchant_id, col(ProgramVersionRow.program_id).in_(program_ids))
        .order_by(col(ProgramVersionRow.valid_from))
    ):
        versions[row.program_id].append(row)
    return versions


def read_versions(rows: Sequence[ProgramVersionRow]) -> list[ProgramVersion]:
    """Versions as the domain knows them, in the order given."""
    return [ProgramVersion(row.program_id, row.number, row.valid_from, Terms.of_json(row.terms)) for row in rows]


def _followed(versions: Sequence[ProgramVersionRow], valid_from: datetime) -> ProgramVersionRow | None:
    """The version whose place is taken by one that begins at valid_from, of versions in the order in which they begin."""
    begun = [version for version in versions if version.valid_from < valid_from]
    return begun[-1] if begun else None


def _may_be_cut(followed: ProgramVersionRow | None, terms: Terms) -> bool:
    return followed is not None and not is_surely_no_cut(old=Terms.of_json(followed.terms), new=terms)


def _published(before: Sequence[ProgramVersionRow], row: ProgramVersionRow) -> Event:
    """Tell of a version. before: those that were there, in the order in which they begin."""
    followed = _followed(before, row.valid_from)
    versions = read_versions(sorted([*before, row], key=lambda each: each.valid_from))
    changes = None if followed is None else changes_between(followed.terms, row.terms)
    told = None if changes is None else [change.model_dump(mode="json") for change in changes]
    if told is not None and len(json.dumps(told)) > _CHANGES_CHARACTERS_MAX:
        told = None
    program_id = encode("prg", row.program_id)
    payload = {
        "program_id": program_id,
        "number": row.number,
        "valid_from": row.valid_from.isoformat(),
        "follows": None if followed is None else followed.number,
        "notice_days": 0 if followed is None else followed.terms["notice_days"],
        "reaches_all_at": reaches_at(versions, enrolled_at=_LONG_AGO, number=row.number).isoformat(),
        "may_be_cut": _may_be_cut(followed, Terms.of_json(row.terms)),
        "changes": told,
        "diff_path": None
        if followed is None
        else f"/v1/programs/{program_id}/versions/{row.number}/diff?against={followed.number}",
    }
    return Event(row.merchant_id, EventType.PROGRAM_VERSION_PUBLISHED, row.program_id, payload, row.recorded_at)


def _set_promises(row: ProgramRow, asked: ProgramPut | ProgramUpdate) -> None:
    if asked.requires_acceptance is not None:
        row.requires_acceptance = asked.requires_acceptance
    if asked.min_notice_hours is not None:
        row.min_notice_hours = asked.min_notice_hours


def _by_external_id(merchant_id: UUID, external_id: str) -> SelectOfScalar[ProgramRow]:
    return select(ProgramRow).where(
        col(ProgramRow.merchant_id) == merchant_id, col(ProgramRow.external_id) == external_id
    )


def _view(session: Session, row: ProgramRow, caller: Caller) -> ProgramView:
    version = in_force(session, row.merchant_id, [row.id], caller.now).get(row.id)
    pauses = pauses_of(session, row.merchant_id, [row.id])[row.id]
    return ProgramView.of(row, version, pauses, now=caller.now)


def _check_same_terms(session: Session, row: ProgramRow, asked: TermsDocument | None) -> None:
    """Raise TermsDiffer unless terms, if any are given, are those of the programme's newest version."""
    if asked is None:
        return
    newest = session.exec(
        select(ProgramVersionRow.terms)
        .where(col(ProgramVersionRow.merchant_id) == row.merchant_id, col(ProgramVersionRow.program_id) == row.id)
        .order_by(col(ProgramVersionRow.number).desc())
        .limit(1)
    ).one()
    if asked.terms().as_json() != newest:
        raise TermsDiffer(f"Publish these by POST /v1/programs/{encode('prg', row.id)}/versions.")


def _canonical(domains: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(canonical_domain(domain) for domain in domains))


def in_force(
    session: Session, merchant_id: UUID, program_ids: Sequence[UUID], at: datetime
) -> dict[UUID, ProgramVersionRow]:
    """Map programme id to the version of that moment; programmes without one are left out."""
    rows = session.exec(
        select(ProgramVersionRow)
        .where(
            col(ProgramVersionRow.merchant_id) == merchant_id,
            col(ProgramVersionRow.program_id).in_(program_ids),
            col(ProgramVersionRow.valid_from) <= at,
        )
        .ext(distinct_on(col(ProgramVersionRow.program_id)))
        .order_by(col(ProgramVersionRow.program_id), col(ProgramVersionRow.valid_from).desc())
    )
    return {row.program_id: row for row in rows}


def _number_before(paging: PageQuery) -> int | None:
    after = paging.after_text()
    if after is not None and not (after.isdecimal() and len(after) < 10):
        raise InvalidCursor("Use next_cursor of a page of the same list.")
    return None if after is None else int(after)
