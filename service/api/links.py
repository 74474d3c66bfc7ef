"""Tracked links: made for an affiliate, paused, pointed elsewhere, handed over; with QR codes."""

import io
import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import segno
from fastapi import APIRouter, Query
from pydantic import Field, SkipValidation, Strict
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar
from starlette.responses import Response

from service.api import trail
from service.api.acceptances import check_accepted
from service.api.bulk import ITEMS_MAX, Batch, BulkView, insert_new
from service.api.dated import start_of
from service.api.deps import (
    Admin,
    AdminOrAffiliate,
    Caller,
    Reader,
    ReaderOrAffiliate,
    ReadSession,
    Services,
    WriteSession,
)
from service.api.etags import IfMatch
from service.api.filters import Created, ExternalIdFilter
from service.api.merchants import ExternalIdTaken, FixedOnceMade
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.traceable import (
    OwnerCreate,
    OwnerStartTaken,
    OwnerView,
    affiliate_of,
    affiliates_there,
    disclosures_of,
    owned_by,
    owner_at,
    program_of,
    programs_of,
)
from service.api.views import (
    WRITTEN_FLAG,
    WRITTEN_INTEGER,
    AffiliateId,
    Body,
    ExternalId,
    LinkId,
    Moment,
    ProgramId,
    Text,
    View,
)
from service.domain.errors import Conflict, Invalid, Missing
from service.infra import ids
from service.infra.db import execute, fetch
from service.tables.parties import AffiliateStatus
from service.tables.programs import EnrollmentRow, LinkCodeRow, LinkOwnerRow, LinkRow, ProgramRow
from service.tracking.redirect import CODE, URL_CHARACTERS_MAX, allowed_url

router = APIRouter(tags=["links"])

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Digits and letters that cannot be taken for one another when a code is read out or typed."""
_CODE_LENGTH = 8
_CANDIDATES = 4
"""Codes looked up together; that all of them are taken would need most of the 8 * 10^11 to be in use."""
_SUBS = ("sub1", "sub2", "sub3", "sub4", "sub5")


class CodeTaken(Conflict):
    """Short codes are one for the whole service."""

    code = "link-code-taken"
    title = "Another link has this code"


class NotEnrolled(Conflict):
    """A link by which nothing can be earned is a trap for the one who shares it."""

    code = "not-enrolled"
    title = "The affiliate takes no part in this programme"


class NotApproved(Conflict):
    """The merchant has not approved this affiliate, or does no longer."""

    code = "affiliate-not-approved"
    title = "The affiliate is not approved"


Url = Annotated[
    str, Strict(), Field(min_length=1, max_length=URL_CHARACTERS_MAX, examples=["https://shop.example/p/1"])
]
Sub = Annotated[Text, Field(max_length=200)]
Code = Annotated[str, Strict(), Field(pattern=f"^{CODE.pattern}$")]


class _LinkParts(Body):
    program_id: ProgramId
    url: Url
    """Where it leads: https, on one of the programme's allowed domains."""
    sub1: Sub | None = None
    """Free text of the affiliate, such as the channel; copied to each click. So are sub2 to sub5."""
    sub2: Sub | None = None
    sub3: Sub | None = None
    sub4: Sub | None = None
    sub5: Sub | None = None
    code: Code | None = None
    """A short code of one's own choice; left out, one is made."""

    def sub_ids(self) -> dict[str, str]:
        return {name: value for name in _SUBS if (value := getattr(self, name)) is not None}


class LinkCreate(_LinkParts):
    affiliate_id: AffiliateId | None = None
    """Whose link it is. An affiliate's own key may leave it out."""
    external_id: ExternalId | None = None
    """The merchant's own id of the link; an affiliate's key has to leave it out."""


class LinkPut(_LinkParts):
    affiliate_id: AffiliateId
    """Whose link it is now."""
    paused: Annotated[bool, Strict()] = False
    """True: the short link leads to the programme's fallback, without a click id."""


class LinkBulk(Body):
    items: Annotated[list[SkipValidation[LinkCreate]], Field(min_length=1, max_length=ITEMS_MAX)]


class LinkUpdate(Body):
    paused: Annotated[bool, Strict()] | None = None
    """True: the short link leads to the programme's fallback, without a click id. False: it leads on again."""
    url: Url | None = None
    """Where it leads from now on."""


class LinkView(View):
    id: LinkId
    external_id: str | None
    program_id: ProgramId
    affiliate_id: AffiliateId
    """Whose link it is now."""
    owners: list[OwnerView]
    """All owners, past and to come, oldest first."""
    code: str
    short_url: str
    """What is shared."""
    url: str
    """Where it leads."""
    disclosure: str
    """What has to be said beside the link, as the programme words it."""
    qr_svg_url: str
    """The short URL as a QR code; asked for with an API key like everything else."""
    qr_png_url: str
    sub1: str | None
    sub2: str | None
    sub3: str | None
    sub4: str | None
    sub5: str | None
    paused_at: Moment | None
    created_at: Moment

    @classmethod
    def of(
        cls, row: LinkRow, owners: Sequence[LinkOwnerRow], disclosure: str, *, now: datetime, public_url: str
    ) -> Self:
        public_id = ids.encode("lnk", row.id)
        return cls(
            id=row.id,
            external_id=row.external_id,
            program_id=row.program_id,
            affiliate_id=owner_at(owners, now),
            owners=[OwnerView.of(owner) for owner in owners],
            code=row.code,
            short_url=f"{public_url}/r/{row.code}",
            url=row.url,
            disclosure=disclosure,
            qr_svg_url=f"{public_url}/v1/links/{public_id}/qr.svg",
            qr_png_url=f"{public_url}/v1/links/{public_id}/qr.png",
            **{name: row.sub_ids.get(name) for name in _SUBS},
            paused_at=row.paused_at,
            created_at=row.created_at,
        )


@router.post("/v1/links", status_code=201)
def create_link(asked: LinkCreate, caller: AdminOrAffiliate, session: WriteSession, services: Services) -> LinkView:
    """Make a tracked link. An affiliate's key makes them for itself, in programmes it takes part in.

    Where the programme asks for it, the affiliate has to accept the terms before its first: 409 `terms-not-accepted`.
    """
    affiliate_id = _maker(asked, caller)
    affiliate = affiliate_of(session, caller.merchant_id, affiliate_id)
    if caller.affiliate_id is not None:
        if affiliate.status != AffiliateStatus.APPROVED:
            raise NotApproved("The merchant has to approve the affiliate first.")
        program = program_of(session, caller.merchant_id, asked.program_id)
        if not _is_enrolled(session, caller.merchant_id, affiliate_id=affiliate_id, program_id=program.id):
            raise NotEnrolled("The merchant has to enrol the affiliate in the programme first.")
        check_accepted(session, caller, program)
    row = _create(session, caller, asked, affiliate_id, asked.external_id)
    return _shown(session, row, caller, services.settings.public_url)


@router.post("/v1/links/bulk")
def create_links(asked: LinkBulk, caller: Admin, session: WriteSession) -> BulkView:
    """Make up to 500 tracked links. Each gets a result of its own; those that cannot be made spoil no other."""
    batch = Batch(asked.items, LinkCreate)
    batch.refuse_repeated(lambda item: item.external_id, _ID_TAKEN)
    batch.refuse_repeated(lambda item: item.code, _CODE_TAKEN)
    items = list(batch.open.values())
    programs = programs_of(session, caller.merchant_id, [item.program_id for item in items])
    affiliates = affiliates_there(
        session, caller.merchant_id, [item.affiliate_id for item in items if item.affiliate_id]
    )
    used = _used(session, [item.code for item in items if item.code])
    free = iter(_free_codes(session, len(items)))
    changed_at = _database_now(session)

    def row_of(item: LinkCreate) -> LinkRow:
        affiliate_id = _maker(item, caller)
        if item.program_id not in programs:
            raise Missing("No programme of this merchant has this id.")
        if affiliate_id not in affiliates:
            raise Missing("No affiliate of this merchant has this id.")
        if item.code in used:
            raise _CODE_TAKEN
        code = item.code or next(free)
        return _row(caller, item, programs[item.program_id], affiliate_id, item.external_id, code, changed_at)

    rows = batch.each(row_of)
    inserted = insert_new(session, rows, key="external_id")
    coded = _take_codes(session, [rows[place] for place in inserted])
    trail.note_new(session, [row for row in rows.values() if row.id in coded])
    for place, row in rows.items():
        if place not in inserted:
            batch.refuse(place, _ID_TAKEN)
        elif row.id not in coded:
            batch.refuse(place, _CODE_TAKEN)
        else:
            session.add(_first_owner(row, caller))
            batch.done(place, status=201, public_id=ids.encode("lnk", row.id))
    session.flush()
    return batch.view()


@router.put("/v1/links/by-external-id/{external_id:path}", responses={201: {"model": LinkView}})
def put_link_by_external_id(
    *,
    external_id: ExternalId,
    asked: LinkPut,
    caller: Admin,
    session: WriteSession,
    services: Services,
    response: Response,
    expected: IfMatch,
) -> LinkView:
    """Make a link under your own id (201), or set where it leads, its sub ids and whether it is paused (200).

    Its code and programme never change, and owners follow one another by POST /v1/links/{link_id}/owners.
    """
    row = session.exec(_by_external_id(caller, external_id).with_for_update(key_share=True)).one_or_none()
    present = None if row is None else _shown(session, row, caller, services.settings.public_url)
    expected.check(present)
    if row is None or present is None:
        response.status_code = 201
        affiliate_of(session, caller.merchant_id, asked.affiliate_id)
        row = _create(session, caller, asked, asked.affiliate_id, external_id)
    elif present.program_id != asked.program_id or asked.code not in {None, present.code}:
        raise FixedOnceMade("Make another link for another code or programme.")
    elif present.affiliate_id != asked.affiliate_id:
        raise FixedOnceMade("Hand it over by POST /v1/links/{link_id}/owners.")
    else:
        _point(session, row, asked.url)
        row.sub_ids = asked.sub_ids()
    row.paused_at = (row.paused_at or caller.now) if asked.paused else None
    row.updated_at = _database_now(session)
    session.flush()
    return _shown(session, row, caller, services.settings.public_url)


@router.get("/v1/links/by-external-id/{external_id:path}")
def get_link_by_external_id(
    external_id: ExternalId, caller: Reader, session: ReadSession, services: Services
) -> LinkView:
    """Return the link you made under your own id."""
    row = session.exec(_by_external_id(caller, external_id)).one_or_none()
    if row is None:
        raise Missing("This merchant has no link with this external_id.")
    return _shown(session, row, caller, services.settings.public_url)


@router.get("/v1/links")
def list_links(
    *,
    caller: ReaderOrAffiliate,
    session: ReadSession,
    services: Services,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only links this affiliate owns now.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Only links of this programme.")] = None,
    external_id: ExternalIdFilter = None,
    code: Annotated[Code | None, Query(description="Only the link with this short code.")] = None,
    paused: Annotated[
        bool | None, WRITTEN_FLAG, Query(description="True: only paused ones; false: only those that lead on.")
    ] = None,
) -> Page[LinkView]:
    """List links, newest first. An affiliate's key sees its own."""
    statement = select(LinkRow).where(col(LinkRow.merchant_id) == caller.merchant_id)
    for owner_id in {affiliate_id, caller.affiliate_id} - {None}:
        assert owner_id is not None
        statement = statement.where(
            owned_by(LinkRow.id, LinkOwnerRow, "link_id", owner_id, caller.merchant_id, at=caller.now)
        )
    if program_id is not None:
        statement = statement.where(col(LinkRow.program_id) == program_id)
    if external_id is not None:
        statement = statement.where(col(LinkRow.external_id) == external_id)
    if code is not None:
        statement = statement.where(col(LinkRow.code) == code)
    if paused is not None:
        statement = statement.where(col(LinkRow.paused_at).is_not(None) == paused)
    statement = created.narrow(statement, col(LinkRow.created_at))
    rows = session.exec(newest_first(statement, paging, col(LinkRow.id))).all()
    owners = _owners(session, caller.merchant_id, [row.id for row in rows])
    disclosures = disclosures_of(session, caller.merchant_id, [row.program_id for row in rows])

    def view(row: LinkRow) -> LinkView:
        return LinkView.of(
            row, owners[row.id], disclosures[row.program_id], now=caller.now, public_url=services.settings.public_url
        )

    return page(rows, paging, key=lambda row: (row.id,), view=view)


@router.get("/v1/links/{link_id}")
def get_link(link_id: LinkId, caller: ReaderOrAffiliate, session: ReadSession, services: Services) -> LinkView:
    """Return one link."""
    return _shown(session, _link(session, caller, link_id), caller, services.settings.public_url)


@router.patch("/v1/links/{link_id}")
def update_link(
    *,
    link_id: LinkId,
    asked: LinkUpdate,
    caller: Admin,
    session: WriteSession,
    services: Services,
    expected: IfMatch,
) -> LinkView:
    """Pause a link, let it go on, or point it elsewhere. The redirect follows within a second or two."""
    row = _link(session, caller, link_id, locked=True)
    if expected.is_asked:
        expected.check(_shown(session, row, caller, services.settings.public_url))
    if asked.url is not None:
        _point(session, row, asked.url)
    if asked.paused is not None:
        row.paused_at = (row.paused_at or caller.now) if asked.paused else None
    row.updated_at = _database_now(session)
    session.flush()
    return _shown(session, row, caller, services.settings.public_url)


@router.post("/v1/links/{link_id}/owners", status_code=201)
def transfer_link(
    link_id: LinkId, asked: OwnerCreate, caller: Admin, session: WriteSession, services: Services
) -> LinkView:
    """Hand a link over from a time on. Never back-dated: clicks before count for the owner before."""
    row = _link(session, caller, link_id)
    affiliate_of(session, caller.merchant_id, asked.affiliate_id)
    session.add(
        LinkOwnerRow(
            merchant_id=row.merchant_id,
            link_id=row.id,
            valid_from=start_of(
                session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=False
            ),
            affiliate_id=asked.affiliate_id,
            recorded_at=caller.now,
        )
    )
    # So that the redirect's memory reads the owners again.
    row.updated_at = _database_now(session)
    with taken("link_owner_pk", OwnerStartTaken("Choose another valid_from.")):
        session.flush()
    return _shown(session, row, caller, services.settings.public_url)


Scale = Annotated[
    int, WRITTEN_INTEGER, Query(ge=1, le=40, description="Pixels per module, the smallest square of the code.")
]
Border = Annotated[int, WRITTEN_INTEGER, Query(ge=0, le=10, description="Modules of white around it; scanners want 4.")]


@router.get(
    "/v1/links/{link_id}/qr.svg",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}},
)
def get_link_qr_svg(
    *,
    link_id: LinkId,
    caller: ReaderOrAffiliate,
    session: ReadSession,
    services: Services,
    scale: Scale = 8,
    border: Border = 4,
) -> Response:
    """Return the short URL as a QR code in SVG."""
    row = _link(session, caller, link_id)
    image = _qr(f"{services.settings.public_url}/r/{row.code}", "svg", scale=scale, border=border)
    return Response(image, media_type="image/svg+xml")


@router.get(
    "/v1/links/{link_id}/qr.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_link_qr_png(
    *,
    link_id: LinkId,
    caller: ReaderOrAffiliate,
    session: ReadSession,
    services: Services,
    scale: Scale = 8,
    border: Border = 4,
) -> Response:
    """Return the short URL as a QR code in PNG."""
    row = _link(session, caller, link_id)
    image = _qr(f"{services.settings.public_url}/r/{row.code}", "png", scale=scale, border=border)
    return Response(image, media_type="image/png")


_ID_TAKEN = ExternalIdTaken("A link with this external_id exists.")
_CODE_TAKEN = CodeTaken("Choose another code; they are one for the whole service.")


def _create(
    session: Session, caller: Caller, asked: _LinkParts, affiliate_id: UUID, external_id: str | None
) -> LinkRow:
    """Make a link of an affiliate that is there."""
    program = program_of(session, caller.merchant_id, asked.program_id)
    code = asked.code or _free_codes(session, 1)[0]
    row = _row(caller, asked, program, affiliate_id, external_id, code, _database_now(session))
    session.add(row)
    with taken("link_merchant_id_external_id_key", _ID_TAKEN):
        session.flush()
    session.add(LinkCodeRow(code=row.code, merchant_id=row.merchant_id, link_id=row.id))
    session.add(_first_owner(row, caller))
    with taken("link_code_pk", _CODE_TAKEN):
        session.flush()
    return row


def _row(
    caller: Caller,
    asked: _LinkParts,
    program: ProgramRow,
    affiliate_id: UUID,
    external_id: str | None,
    code: str,
    changed_at: datetime,
) -> LinkRow:
    """changed_at: by the database's clock."""
    return LinkRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        external_id=external_id,
        program_id=program.id,
        affiliate_id=affiliate_id,
        code=code,
        url=allowed_url(asked.url, program.allowed_domains),
        sub_ids=asked.sub_ids(),
        # To the millisecond, as click ids tell the time: the first click must not seem older than its link.
        created_at=caller.now.replace(microsecond=caller.now.microsecond // 1000 * 1000),
        updated_at=changed_at,
    )


def _first_owner(row: LinkRow, caller: Caller) -> LinkOwnerRow:
    return LinkOwnerRow(
        merchant_id=row.merchant_id,
        link_id=row.id,
        valid_from=row.created_at,
        affiliate_id=row.affiliate_id,
        recorded_at=caller.now,
    )


def _point(session: Session, row: LinkRow, url: str) -> None:
    """Let a link lead elsewhere."""
    row.url = allowed_url(url, program_of(session, row.merchant_id, row.program_id).allowed_domains)


def _by_external_id(caller: Caller, external_id: str) -> SelectOfScalar[LinkRow]:
    return select(LinkRow).where(
        col(LinkRow.merchant_id) == caller.merchant_id, col(LinkRow.external_id) == external_id
    )


def _maker(asked: LinkCreate, caller: Caller) -> UUID:
    """For whom the link is."""
    if caller.affiliate_id is None:
        if asked.affiliate_id is None:
            raise Invalid("affiliate_id says whose link it is; only an affiliate's own key may leave it out.")
        return asked.affiliate_id
    if asked.affiliate_id not in {None, caller.affiliate_id}:
        raise Missing("No affiliate that this key may speak for has this id.")
    if asked.external_id is not None:
        # Whoever takes it first has it: the merchant could not put a link of its own under it any more.
        raise Invalid("external_id is the merchant's own id of a link; an affiliate's own key has to leave it out.")
    return caller.affiliate_id


def _link(session: Session, caller: Caller, link_id: UUID, *, locked: bool = False) -> LinkRow:
    """Return a link the caller may see. Raises Missing."""
    statement = select(LinkRow).where(col(LinkRow.merchant_id) == caller.merchant_id, col(LinkRow.id) == link_id)
    if caller.affiliate_id is not None:
        statement = statement.where(
            owned_by(LinkRow.id, LinkOwnerRow, "link_id", caller.affiliate_id, caller.merchant_id, at=caller.now)
        )
    if locked:
        statement = statement.with_for_update(key_share=True)
    row = session.exec(statement).one_or_none()
    if row is None:
        raise Missing("No link of yours has this id.")
    return row


def _owners(session: Session, merchant_id: UUID, link_ids: Sequence[UUID]) -> dict[UUID, list[LinkOwnerRow]]:
    """Maps link to owners, oldest first."""
    owners: dict[UUID, list[LinkOwnerRow]] = defaultdict(list)
    for row in session.exec(
        select(LinkOwnerRow)
        .where(col(LinkOwnerRow.merchant_id) == merchant_id, col(LinkOwnerRow.link_id).in_(link_ids))
        .order_by(col(LinkOwnerRow.valid_from))
    ):
        owners[row.link_id].append(row)
    return owners


def _shown(session: Session, row: LinkRow, caller: Caller, public_url: str) -> LinkView:
    program = program_of(session, caller.merchant_id, row.program_id)
    owners = _owners(session, caller.merchant_id, [row.id])[row.id]
    return LinkView.of(row, owners, program.disclosure, now=caller.now, public_url=public_url)


def _is_enrolled(session: Session, merchant_id: UUID, *, affiliate_id: UUID, program_id: UUID) -> bool:
    """Whether the last word on the matter, be it about the future, is yes."""
    enrolled = session.exec(
        select(EnrollmentRow.enrolled)
        .where(
            col(EnrollmentRow.merchant_id) == merchant_id,
            col(EnrollmentRow.affiliate_id) == affiliate_id,
            col(EnrollmentRow.program_id) == program_id,
        )
        .order_by(col(EnrollmentRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    return bool(enrolled)


def _used(session: Session, codes: Sequence[str]) -> set[str]:
    """Which of these codes links of the service have."""
    return set(session.exec(select(LinkCodeRow.code).where(col(LinkCodeRow.code).in_(codes))))


def _free_codes(session: Session, number: int) -> list[str]:
    """Return so many codes that nobody has yet."""
    made = {"".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH)) for _ in range(number + _CANDIDATES)}
    return sorted(made - _used(session, list(made)))[:number]


def _take_codes(session: Session, rows: Sequence[LinkRow]) -> set[UUID]:
    """Take the codes of new links, in the order of codes, and return which links got theirs; the others are deleted."""
    ordered = sorted(rows, key=lambda row: row.code)
    got = fetch(
        session,
        """
        INSERT INTO link_code (code, merchant_id, link_id)
        SELECT code, merchant_id, link_id
        FROM unnest(CAST(:codes AS text[]), CAST(:merchant_ids AS uuid[]), CAST(:link_ids AS uuid[]))
             AS made (code, merchant_id, link_id)
        ON CONFLICT (code) DO NOTHING
        RETURNING link_id
        """,
        {
            "codes": [row.code for row in ordered],
            "merchant_ids": [row.merchant_id for row in ordered],
            "link_ids": [row.id for row in ordered],
        },
    )
    coded = {row.link_id for row in got}
    lost = [row for row in rows if row.id not in coded]
    if lost:
        # Somebody took the code since we looked.
        execute(
            session,
            "DELETE FROM link WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))",
            {"merchant_id": lost[0].merchant_id, "ids": [row.id for row in lost]},
        )
    return coded


def _database_now(session: Session) -> datetime:
    """The clock that says which links changed, the same for all processes."""
    now: datetime = fetch(session, "SELECT clock_timestamp() AS now")[0].now
    return now


def _qr(text: str, kind: Literal["svg", "png"], *, scale: int, border: int) -> bytes:
    image = io.BytesIO()
    # A quarter of the code may be dirty or torn and it is still read: it will be printed on parcels.
    segno.make(text, error="q", micro=False).save(image, kind=kind, scale=scale, border=border)
    return image.getvalue()
