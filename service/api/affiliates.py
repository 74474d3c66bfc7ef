"""KOCs, agencies and the operator: registration, approval from a day on, enrolment in programmes, how they are paid and taxed."""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, SkipValidation, Strict
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select

from service.api import trail
from service.api.acceptances import current_accepted
from service.api.bulk import ITEMS_MAX, Batch, BulkView, insert_new
from service.api.dated import check_follows, start_of
from service.api.deps import Admin, Caller, Reader, ReadSession, Services, WriteSession
from service.api.etags import IfMatch
from service.api.filters import Created, ExternalIdFilter
from service.api.merchants import ExternalIdTaken, FixedOnceMade
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.traceable import check_koc
from service.api.views import (
    AffiliateId,
    Body,
    EnrollmentId,
    ExternalId,
    Moment,
    Name,
    ProgramId,
    ReasonCode,
    Text,
    View,
)
from service.domain.errors import Conflict, Missing
from service.domain.events import EventType
from service.domain.identity import Address, Identified, IdentityKind, identified, stored
from service.infra.ids import encode, new_id
from service.infra.security import Security
from service.outbox.emit import Event, emit
from service.tables.parties import (
    AffiliateApprovalRow,
    AffiliateKind,
    AffiliateRow,
    AffiliateStatus,
    TaxRule,
)
from service.tables.programs import EnrollmentRow, ProgramRow

router = APIRouter(tags=["affiliates"])

IDENTITIES_MAX = 20
"""Identities of one kind that an affiliate can be given at a time."""


class StatusUnchanged(Conflict):
    """The affiliate is there already, or cannot get there from where it is."""

    code = "affiliate-status"
    title = "The affiliate's status does not allow this"


class EnrollmentUnchanged(Conflict):
    """Whoever is in a programme cannot join it, whoever is not cannot leave it."""

    code = "enrollment-unchanged"
    title = "The affiliate's enrolment is in this state already"


Country = Annotated[str, Strict(), Field(pattern="^[A-Z]{2}$", examples=["VN"])]
_OwnEmail = Annotated[str, Strict(), Field(min_length=3, max_length=320)]
_OwnPhone = Annotated[str, Strict(), Field(min_length=3, max_length=40, examples=["+84912345678"])]
_OwnId = Annotated[str, Strict(), Field(min_length=1, max_length=200)]
_AddressPart = Annotated[str, Strict(), Field(max_length=200)]


class PostalAddress(Body):
    """An address as a shop would write it. Accents, letter case, blanks and punctuation do not matter."""

    line1: _AddressPart = ""
    """Street, with the house unless `house` tells it."""
    line2: _AddressPart = ""
    house: _AddressPart = ""
    postal_code: _AddressPart = ""
    city: _AddressPart = ""
    """Compared only where there is no postal code."""
    country: Country | None = None
    """ISO 3166-1 alpha-2; null: the affiliate's own."""


_Addresses = Annotated[list[PostalAddress], Field(max_length=IDENTITIES_MAX)]
_Emails = Annotated[list[_OwnEmail], Field(max_length=IDENTITIES_MAX)]
_Phones = Annotated[list[_OwnPhone], Field(max_length=IDENTITIES_MAX)]
_Ids = Annotated[list[_OwnId], Field(max_length=IDENTITIES_MAX)]


class Identities(Body):
    """How the affiliate is known when it buys something itself. Kept as keyed hashes; the values cannot be read back.

    What is given of a kind replaces all that was known of that kind; an empty list forgets it. One of a kind is told
    alone or in the list, whichever is handier.
    """

    email: _OwnEmail | None = None
    emails: _Emails | None = None
    """The profile's own address counts too and need not be told again."""
    phone: _OwnPhone | None = None
    """With its country code, or as it is written in the affiliate's `country`."""
    phones: _Phones | None = None
    customer_id: _OwnId | None = None
    """The shop's own id of the customer."""
    customer_ids: _Ids | None = None
    addresses: _Addresses | None = None
    """An address counts only with country, street, and postal code or city: less would fit many houses."""
    payment_fingerprints: _Ids | None = None
    """Of cards or accounts, as the one who takes the shop's payments makes them; Stripe's `fingerprint` is one."""


Email = Annotated[str, Strict(), Field(min_length=3, max_length=320, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Profile = Annotated[dict[Name, Text], Field(max_length=50)]


class AffiliateProfile(Body):
    kind: AffiliateKind | None = None
    """What it is to you, for good; null: a KOC, or what it is already. Agencies and the operator are paid like KOCs, but
    bring no orders."""
    name: Name
    email: Email | None = None
    country: Country | None = None
    """ISO 3166-1 alpha-2."""
    profile: Profile = Field(default_factory=dict)
    """Whatever else the merchant wants to keep."""
    identities: Identities = Identities()
    """What is given replaces what was known of its kind; the e-mail address counts as an identity too."""


class AffiliateCreate(AffiliateProfile):
    external_id: ExternalId | None = None


class AffiliateBulk(Body):
    items: Annotated[list[SkipValidation[AffiliateCreate]], Field(min_length=1, max_length=ITEMS_MAX)]


class AffiliateUpdate(Body):
    """What is left out stays; null empties."""

    name: Name | None = None
    email: Email | None = None
    country: Country | None = None
    profile: Profile | None = None
    identities: Identities | None = None


class AffiliateView(View):
    id: AffiliateId
    external_id: str | None
    kind: AffiliateKind
    name: str
    email: str | None
    country: str | None
    profile: dict[str, str]
    identity_kinds: list[str]
    """Of which kinds we hold a keyed hash: address, email, id, payment, phone."""
    status: AffiliateStatus
    reason_code: str | None
    status_from: Moment | None
    """From when on the status counts for orders placed; null before the first decision."""
    tax_rule: TaxRule | None
    """Null: nothing chosen, so nothing is paid out."""
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: AffiliateRow, status_from: datetime | None) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            kind=AffiliateKind(row.kind),
            name=row.name,
            email=row.email,
            country=row.country,
            profile=row.profile,
            identity_kinds=sorted(row.identities),
            status=AffiliateStatus(row.status),
            reason_code=row.reason_code,
            status_from=status_from,
            tax_rule=None if row.tax_rule is None else TaxRule(row.tax_rule),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class Decision(Body):
    reason_code: ReasonCode | None = None
    valid_from: Moment | None = None
    """From when on it counts for orders placed: at least five minutes ahead, but the first decision may lie in the past
    until the merchant's first order. Null: as early as allowed."""


class Refusal(Body):
    reason_code: ReasonCode
    valid_from: Moment | None = None
    """As with an approval."""


class EnrollmentCreate(Body):
    program_id: ProgramId
    valid_from: Moment | None = None
    """At least five minutes ahead, but the first may lie in the past until the merchant's first order. Null: as early as
    allowed."""


class EnrollmentEnd(Body):
    valid_from: Moment | None = None
    """At least five minutes ahead; null: five minutes ahead."""


class EnrollmentView(View):
    """From valid_from on the affiliate is in the programme, or is not."""

    id: EnrollmentId
    affiliate_id: AffiliateId
    program_id: ProgramId
    enrolled: bool
    valid_from: Moment
    recorded_at: Moment
    terms_accepted: bool
    """Whether the affiliate has accepted the version of the programme's terms that is in force now."""

    @classmethod
    def of(cls, row: EnrollmentRow, accepted: Set[UUID]) -> Self:
        return cls(
            id=row.id,
            affiliate_id=row.affiliate_id,
            program_id=row.program_id,
            enrolled=row.enrolled,
            valid_from=row.valid_from,
            recorded_at=row.recorded_at,
            terms_accepted=row.program_id in accepted,
        )


@router.post("/v1/affiliates", status_code=201)
def create_affiliate(asked: AffiliateCreate, caller: Admin, session: WriteSession, service: Services) -> AffiliateView:
    """Register an affiliate. It earns from the day it is approved and enrolled in a programme."""
    row = _new(caller, asked.external_id, asked.kind)
    _write_profile(row, asked, caller, service.security)
    session.add(row)
    with taken("affiliate_merchant_id_external_id_key", ExternalIdTaken("An affiliate with this external_id exists.")):
        session.flush()
    emit(session, [_applied(caller, row)])
    return AffiliateView.of(row, None)


@router.post("/v1/affiliates/bulk")
def create_affiliates(asked: AffiliateBulk, caller: Admin, session: WriteSession, service: Services) -> BulkView:
    """Register up to 500 affiliates. Each gets a result of its own; those that cannot be registered spoil no other."""
    batch = Batch(asked.items, AffiliateCreate)
    refusal = ExternalIdTaken("An affiliate with this external_id exists.")
    batch.refuse_repeated(lambda item: item.external_id, refusal)

    def row_of(item: AffiliateCreate) -> AffiliateRow:
        row = _new(caller, item.external_id, item.kind)
        _write_profile(row, item, caller, service.security)
        return row

    rows = batch.each(row_of)
    inserted = insert_new(session, rows, key="external_id")
    trail.note_new(session, [rows[place] for place in sorted(inserted)])
    applied: list[Event] = []
    for place, row in rows.items():
        if place in inserted:
            batch.done(place, status=201, public_id=encode("aff", row.id))
            applied.append(_applied(caller, row))
        else:
            batch.refuse(place, refusal)
    emit(session, applied)
    return batch.view()


@router.put("/v1/affiliates/by-external-id/{external_id:path}", responses={201: {"model": AffiliateView}})
def put_affiliate_by_external_id(
    external_id: ExternalId,
    asked: AffiliateProfile,
    caller: Admin,
    session: WriteSession,
    service: Services,
    response: Response,
    expected: IfMatch,
) -> AffiliateView:
    """Register an affiliate under your own id (201), or replace the profile of the one you registered before (200)."""
    row = session.exec(
        select(AffiliateRow)
        .where(col(AffiliateRow.merchant_id) == caller.merchant_id, col(AffiliateRow.external_id) == external_id)
        .with_for_update()
    ).one_or_none()
    if expected.is_asked:
        expected.check(None if row is None else _view(session, row))
    if row is None:
        row = _new(caller, external_id, asked.kind)
        session.add(row)
        response.status_code = 201
    elif asked.kind not in {None, row.kind}:
        raise FixedOnceMade(f"It is of kind {row.kind}; make another affiliate for another kind.")
    _write_profile(row, asked, caller, service.security)
    # Two that register the same one at a time: the later is told to try again, and then replaces.
    with taken("affiliate_merchant_id_external_id_key", ExternalIdTaken("It was registered this moment; try again.")):
        session.flush()
    if response.status_code == 201:
        emit(session, [_applied(caller, row)])
    return _view(session, row)


@router.get("/v1/affiliates/by-external-id/{external_id:path}")
def get_affiliate_by_external_id(external_id: ExternalId, caller: Reader, session: ReadSession) -> AffiliateView:
    """Return the affiliate you registered under your own id."""
    row = session.exec(
        select(AffiliateRow).where(
            col(AffiliateRow.merchant_id) == caller.merchant_id, col(AffiliateRow.external_id) == external_id
        )
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no affiliate with this external_id.")
    return _view(session, row)


@router.get("/v1/affiliates")
def list_affiliates(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    kind: Annotated[AffiliateKind | None, Query(description="Only affiliates of this kind.")] = None,
    status: Annotated[AffiliateStatus | None, Query(description="Only affiliates of this status.")] = None,
    external_id: ExternalIdFilter = None,
    email: Annotated[Text | None, Query(description="Only affiliates with exactly this address.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Only affiliates that ever joined this one.")] = None,
) -> Page[AffiliateView]:
    """List the merchant's affiliates, newest first."""
    affiliates = select(AffiliateRow).where(col(AffiliateRow.merchant_id) == caller.merchant_id)
    if kind is not None:
        affiliates = affiliates.where(col(AffiliateRow.kind) == kind)
    if status is not None:
        affiliates = affiliates.where(col(AffiliateRow.status) == status)
    if external_id is not None:
        affiliates = affiliates.where(col(AffiliateRow.external_id) == external_id)
    if email is not None:
        affiliates = affiliates.where(col(AffiliateRow.email) == email)
    if program_id is not None:
        joined = select(EnrollmentRow.affiliate_id).where(
            col(EnrollmentRow.merchant_id) == caller.merchant_id, col(EnrollmentRow.program_id) == program_id
        )
        affiliates = affiliates.where(col(AffiliateRow.id).in_(joined))
    affiliates = created.narrow(affiliates, col(AffiliateRow.created_at))
    rows = session.exec(newest_first(affiliates, paging, AffiliateRow.id)).all()
    since = _status_from(session, caller.merchant_id, [row.id for row in rows])
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: AffiliateView.of(row, since.get(row.id)))


@router.get("/v1/affiliates/{affiliate_id}")
def get_affiliate(affiliate_id: AffiliateId, caller: Reader, session: ReadSession) -> AffiliateView:
    """Return one affiliate."""
    row = session.get(AffiliateRow, (caller.merchant_id, affiliate_id))
    if row is None:
        raise Missing(NONE_SUCH)
    return _view(session, row)


@router.patch("/v1/affiliates/{affiliate_id}")
def update_affiliate(
    *,
    affiliate_id: AffiliateId,
    asked: AffiliateUpdate,
    caller: Admin,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> AffiliateView:
    """Change parts of a profile. New identities count for orders that come from now on."""
    row = locked(session, caller.merchant_id, affiliate_id)
    if expected.is_asked:
        expected.check(_view(session, row))
    given = asked.model_fields_set
    if asked.name is not None:
        row.name = asked.name
    if "country" in given:
        row.country = asked.country
    if "profile" in given:
        row.profile = asked.profile or {}
    if "email" in given or "identities" in given:
        email_before = row.email
        if "email" in given:
            row.email = asked.email
        _write_identities(row, asked.identities or Identities(), service.security, email_before=email_before)
    row.updated_at = caller.now
    session.flush()
    return _view(session, row)


@router.post("/v1/affiliates/{affiliate_id}/approve")
def approve_affiliate(
    affiliate_id: AffiliateId, asked: Decision, caller: Admin, session: WriteSession
) -> AffiliateView:
    """Let an affiliate earn from a moment on."""
    others = frozenset(AffiliateStatus) - {AffiliateStatus.APPROVED}
    return _decide(session, caller, affiliate_id, asked, to=AffiliateStatus.APPROVED, allowed_from=others)


@router.post("/v1/affiliates/{affiliate_id}/reject")
def reject_affiliate(affiliate_id: AffiliateId, asked: Refusal, caller: Admin, session: WriteSession) -> AffiliateView:
    """Turn an application down. It can be approved later."""
    applied = frozenset({AffiliateStatus.APPLIED})
    return _decide(session, caller, affiliate_id, asked, to=AffiliateStatus.REJECTED, allowed_from=applied)


@router.post("/v1/affiliates/{affiliate_id}/suspend")
def suspend_affiliate(affiliate_id: AffiliateId, asked: Refusal, caller: Admin, session: WriteSession) -> AffiliateView:
    """Let an approved affiliate earn nothing on orders placed from a moment on. What it earned before stays."""
    approved = frozenset({AffiliateStatus.APPROVED})
    return _decide(session, caller, affiliate_id, asked, to=AffiliateStatus.SUSPENDED, allowed_from=approved)


@router.post("/v1/affiliates/{affiliate_id}/enrollments", status_code=201)
def create_enrollment(
    affiliate_id: AffiliateId, asked: EnrollmentCreate, caller: Admin, session: WriteSession
) -> EnrollmentView:
    """Let an affiliate join a programme from a moment on."""
    affiliate = locked(session, caller.merchant_id, affiliate_id)
    if session.get(ProgramRow, (caller.merchant_id, asked.program_id)) is None:
        raise Missing("This merchant has no such programme.")
    check_koc(affiliate.kind)
    return _enroll(session, caller, affiliate_id, asked.program_id, asked=asked.valid_from, enrolled=True)


@router.get("/v1/affiliates/{affiliate_id}/enrollments")
def list_enrollments(
    affiliate_id: AffiliateId,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    program_id: Annotated[ProgramId | None, Query(description="Only enrolments in this programme.")] = None,
) -> Page[EnrollmentView]:
    """List when an affiliate joined and left programmes, what was recorded last first."""
    enrollments = select(EnrollmentRow).where(
        col(EnrollmentRow.merchant_id) == caller.merchant_id, col(EnrollmentRow.affiliate_id) == affiliate_id
    )
    if program_id is not None:
        enrollments = enrollments.where(col(EnrollmentRow.program_id) == program_id)
    rows = session.exec(newest_first(enrollments, paging, EnrollmentRow.id)).all()
    if not rows:
        get_affiliate(affiliate_id, caller, session)
    accepted = current_accepted(
        session, caller.merchant_id, affiliate_id, [row.program_id for row in rows], now=caller.now
    )
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: EnrollmentView.of(row, accepted))


@router.post("/v1/affiliates/{affiliate_id}/enrollments/{enrollment_id}/end", status_code=201)
def end_enrollment(
    affiliate_id: AffiliateId, enrollment_id: EnrollmentId, asked: EnrollmentEnd, caller: Admin, session: WriteSession
) -> EnrollmentView:
    """Let an affiliate leave the programme of this enrolment from a moment on. Orders placed before stay its own."""
    locked(session, caller.merchant_id, affiliate_id)
    joined = session.get(EnrollmentRow, (caller.merchant_id, enrollment_id))
    if joined is None or joined.affiliate_id != affiliate_id:
        raise Missing("This affiliate has no such enrolment.")
    return _enroll(session, caller, affiliate_id, joined.program_id, asked=asked.valid_from, enrolled=False)


NONE_SUCH = "This merchant has no such affiliate."


def _new(caller: Caller, external_id: str | None, kind: AffiliateKind | None) -> AffiliateRow:
    return AffiliateRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        external_id=external_id,
        kind=kind or AffiliateKind.KOC,
        status=AffiliateStatus.APPLIED,
        created_at=caller.now,
        updated_at=caller.now,
    )


def _applied(caller: Caller, row: AffiliateRow) -> Event:
    told = {"affiliate_id": encode("aff", row.id), "external_id": row.external_id}
    return Event(caller.merchant_id, EventType.AFFILIATE_APPLIED, row.id, told, caller.now)


def _write_profile(row: AffiliateRow, asked: AffiliateProfile, caller: Caller, security: Security) -> None:
    email_before = row.email
    row.name = asked.name
    row.email = asked.email
    row.country = asked.country
    row.profile = dict(asked.profile)
    _write_identities(row, asked.identities, security, email_before=email_before)
    row.updated_at = caller.now


def _write_identities(row: AffiliateRow, given: Identities, security: Security, *, email_before: str | None) -> None:
    """Keep keyed hashes of what is given, and of the kinds that are not given, what was known.

    The profile's e-mail address is among them; a new one takes the place of the one before it.
    """
    country = row.country or ""

    def hashed(kind: IdentityKind, values: Iterable[str]) -> Identified:
        hashes = [security.identity(row.merchant_id, kind, value, country) for value in values]
        # A phone number of "n/a" leaves nothing to hash, and is no identity.
        return tuple((kind.value, each) for each in hashes if each)

    known = set(identified(row.identities))
    for kind, values in _told(given, country).items():
        if values is not None:
            known = {pair for pair in known if pair[0] != kind} | set(hashed(kind, values))
    if row.email is not None:
        if email_before is not None and given.email is None and given.emails is None:
            known -= set(hashed(IdentityKind.EMAIL, [email_before]))
        known |= set(hashed(IdentityKind.EMAIL, [row.email]))
    row.identities = stored(known)


def _told(given: Identities, country: str) -> dict[IdentityKind, list[str] | None]:
    """The values given of each kind; None where the kind is not given at all."""

    def both(one: str | None, several: list[str] | None) -> list[str] | None:
        return None if one is None and several is None else [*([] if one is None else [one]), *(several or [])]

    addresses = given.addresses
    return {
        IdentityKind.EMAIL: both(given.email, given.emails),
        IdentityKind.PHONE: both(given.phone, given.phones),
        IdentityKind.ID: both(given.customer_id, given.customer_ids),
        IdentityKind.PAYMENT: given.payment_fingerprints,
        IdentityKind.ADDRESS: None if addresses is None else [_as_address(each, country).text for each in addresses],
    }


def _as_address(given: PostalAddress, country: str) -> Address:
    return Address(
        given.line1, given.line2, given.house, given.postal_code, given.city, country=given.country or country
    )


def locked(session: Session, merchant_id: UUID, affiliate_id: UUID) -> AffiliateRow:
    """Return the affiliate, locked: what is dated or replaced of one affiliate is written one by one. Raises Missing."""
    row = session.exec(
        select(AffiliateRow)
        .where(col(AffiliateRow.merchant_id) == merchant_id, col(AffiliateRow.id) == affiliate_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise Missing(NONE_SUCH)
    return row


def _decide(
    session: Session,
    caller: Caller,
    affiliate_id: UUID,
    asked: Decision | Refusal,
    *,
    to: AffiliateStatus,
    allowed_from: frozenset[AffiliateStatus],
) -> AffiliateView:
    row = locked(session, caller.merchant_id, affiliate_id)
    if AffiliateStatus(row.status) not in allowed_from:
        raise StatusUnchanged(f"The affiliate is {row.status}; it cannot become {to} from there.")
    decided = _status_from(session, caller.merchant_id, [affiliate_id])
    valid_from = start_of(
        session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=not decided
    )
    check_follows(valid_from, decided.get(affiliate_id))
    session.add(
        AffiliateApprovalRow(
            merchant_id=caller.merchant_id,
            affiliate_id=affiliate_id,
            valid_from=valid_from,
            approved=to is AffiliateStatus.APPROVED,
            reason_code=asked.reason_code,
            recorded_at=caller.now,
        )
    )
    row.status = to
    row.reason_code = asked.reason_code
    row.updated_at = caller.now
    session.flush()
    told = {
        "affiliate_id": encode("aff", affiliate_id),
        "reason_code": asked.reason_code,
        "valid_from": valid_from.isoformat(),
    }
    emit(session, [Event(caller.merchant_id, EventType(f"affiliate.{to}"), affiliate_id, told, caller.now)])
    return AffiliateView.of(row, valid_from)


def _enroll(
    session: Session,
    caller: Caller,
    affiliate_id: UUID,
    program_id: UUID,
    *,
    asked: datetime | None,
    enrolled: bool,
) -> EnrollmentView:
    newest = session.exec(
        select(EnrollmentRow)
        .where(
            col(EnrollmentRow.merchant_id) == caller.merchant_id,
            col(EnrollmentRow.affiliate_id) == affiliate_id,
            col(EnrollmentRow.program_id) == program_id,
        )
        .order_by(col(EnrollmentRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    if (newest is not None and newest.enrolled) is enrolled:
        raise EnrollmentUnchanged("The affiliate is in the programme." if enrolled else "It is not in the programme.")
    valid_from = start_of(session, caller.merchant_id, asked=asked, recorded_at=caller.now, is_first=newest is None)
    check_follows(valid_from, newest.valid_from if newest else None)
    row = EnrollmentRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        program_id=program_id,
        affiliate_id=affiliate_id,
        valid_from=valid_from,
        enrolled=enrolled,
        recorded_at=caller.now,
    )
    session.add(row)
    session.flush()
    told = {
        "affiliate_id": encode("aff", affiliate_id),
        "program_id": encode("prg", program_id),
        "enrollment_id": encode("enr", row.id),
        "valid_from": valid_from.isoformat(),
    }
    happened = EventType.AFFILIATE_ENROLLED if enrolled else EventType.AFFILIATE_UNENROLLED
    emit(session, [Event(caller.merchant_id, happened, affiliate_id, told, caller.now)])
    accepted = current_accepted(session, caller.merchant_id, affiliate_id, [program_id], now=caller.now)
    return EnrollmentView.of(row, accepted)


def _status_from(session: Session, merchant_id: UUID, affiliate_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Map affiliate id to when its newest decision begins; those without one are left out."""
    rows = session.exec(
        select(AffiliateApprovalRow.affiliate_id, AffiliateApprovalRow.valid_from)
        .where(
            col(AffiliateApprovalRow.merchant_id) == merchant_id,
            col(AffiliateApprovalRow.affiliate_id).in_(affiliate_ids),
        )
        .ext(distinct_on(col(AffiliateApprovalRow.affiliate_id)))
        .order_by(col(AffiliateApprovalRow.affiliate_id), col(AffiliateApprovalRow.recorded_at).desc())
    )
    return dict(rows.all())


def _view(session: Session, row: AffiliateRow) -> AffiliateView:
    return AffiliateView.of(row, _status_from(session, row.merchant_id, [row.id]).get(row.id))
