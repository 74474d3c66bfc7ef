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
from pydantic import Field, Strict
from sqlmodel import Session, col, select
from starlette.responses import Response

from service.api.dated import start_of
from service.api.deps import (
    Admin,
    AdminOrAffiliate,
    Caller,
    ReaderOrAffiliate,
    ReadSession,
    Services,
    WriteSession,
)
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
from service.api.views import (
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
from service.infra.db import fetch
from service.tables.parties import AffiliateStatus
from service.tables.programs import EnrollmentRow, LinkCodeRow, LinkOwnerRow, LinkRow
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


Url = Annotated[str, Strict(), Field(min_length=1, max_length=URL_CHARACTERS_MAX)]
Sub = Annotated[Text, Field(max_length=200)]
Code = Annotated[str, Strict(), Field(pattern=f"^{CODE.pattern}$")]


class LinkCreate(Body):
    affiliate_id: AffiliateId | None = None
    """Whose link it is. An affiliate's own key may leave it out."""
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
    external_id: ExternalId | None = None


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
    """Make a tracked link. An affiliate's key makes them for itself, in programmes it takes part in."""
    affiliate_id = _maker(asked, caller)
    program = program_of(session, caller.merchant_id, asked.program_id)
    affiliate = affiliate_of(session, caller.merchant_id, affiliate_id)
    if caller.affiliate_id is not None:
        if affiliate.status != AffiliateStatus.APPROVED:
            raise NotApproved("The merchant has to approve the affiliate first.")
        if not _is_enrolled(session, caller.merchant_id, affiliate_id=affiliate_id, program_id=program.id):
            raise NotEnrolled("The merchant has to enrol the affiliate in the programme first.")
    # To the millisecond, as click ids tell the time: the first click must not seem older than its link.
    made_at = caller.now.replace(microsecond=caller.now.microsecond // 1000 * 1000)
    given = {name: value for name in _SUBS if (value := getattr(asked, name)) is not None}
    row = LinkRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        program_id=program.id,
        affiliate_id=affiliate_id,
        code=asked.code or _free_code(session),
        url=allowed_url(asked.url, program.allowed_domains),
        sub_ids=given,
        created_at=made_at,
        updated_at=_database_now(session),
    )
    session.add(row)
    with taken("link_merchant_id_external_id_key", ExternalIdTaken("A link with this external_id exists.")):
        session.flush()
    owner = LinkOwnerRow(
        merchant_id=row.merchant_id,
        link_id=row.id,
        valid_from=made_at,
        affiliate_id=affiliate_id,
        recorded_at=caller.now,
    )
    session.add(LinkCodeRow(code=row.code, merchant_id=row.merchant_id, link_id=row.id))
    session.add(owner)
    with taken("link_code_pk", CodeTaken("Choose another code; they are one for the whole service.")):
        session.flush()
    return LinkView.of(row, [owner], program.disclosure, now=caller.now, public_url=services.settings.public_url)


@router.get("/v1/links")
def list_links(
    *,
    caller: ReaderOrAffiliate,
    session: ReadSession,
    services: Services,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Only links this affiliate owns now.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Only links of this programme.")] = None,
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
    link_id: LinkId, asked: LinkUpdate, caller: Admin, session: WriteSession, services: Services
) -> LinkView:
    """Pause a link, let it go on, or point it elsewhere. The redirect follows within a second or two."""
    row = _link(session, caller, link_id)
    if asked.url is not None:
        row.url = allowed_url(asked.url, program_of(session, caller.merchant_id, row.program_id).allowed_domains)
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


def _maker(asked: LinkCreate, caller: Caller) -> UUID:
    """For whom the link is."""
    if caller.affiliate_id is None:
        if asked.affiliate_id is None:
            raise Invalid("affiliate_id says whose link it is; only an affiliate's own key may leave it out.")
        return asked.affiliate_id
    if asked.affiliate_id not in {None, caller.affiliate_id}:
        raise Missing("No affiliate that this key may speak for has this id.")
    return caller.affiliate_id


def _link(session: Session, caller: Caller, link_id: UUID) -> LinkRow:
    """Return a link the caller may see. Raises Missing."""
    statement = select(LinkRow).where(col(LinkRow.merchant_id) == caller.merchant_id, col(LinkRow.id) == link_id)
    if caller.affiliate_id is not None:
        statement = statement.where(
            owned_by(LinkRow.id, LinkOwnerRow, "link_id", caller.affiliate_id, caller.merchant_id, at=caller.now)
        )
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


def _free_code(session: Session) -> str:
    candidates = ["".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH)) for _ in range(_CANDIDATES)]
    used = set(session.exec(select(LinkCodeRow.code).where(col(LinkCodeRow.code).in_(candidates))))
    return next(code for code in candidates if code not in used)


def _database_now(session: Session) -> datetime:
    """The clock that says which links changed, the same for all processes."""
    now: datetime = fetch(session, "SELECT clock_timestamp() AS now")[0].now
    return now


def _qr(text: str, kind: Literal["svg", "png"], *, scale: int, border: int) -> bytes:
    image = io.BytesIO()
    # A quarter of the code may be dirty or torn and it is still read: it will be printed on parcels.
    segno.make(text, error="q", micro=False).save(image, kind=kind, scale=scale, border=border)
    return image.getvalue()
