"""Merchants: made by the operator, seen by themselves; and the clock of those that are only a test."""

from datetime import timedelta
from functools import cache
from typing import Annotated, Self
from zoneinfo import available_timezones

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.api_keys import ApiKeyCreated, make_key
from service.api.deps import Admin, Operator, Reader, ReadSession, Services, WriteSession, merchant_of
from service.api.etags import IfMatch
from service.api.filters import Created, ExternalIdFilter
from service.api.paging import Page, Paging, newest_first, page
from service.api.problems import taken
from service.api.sources import make_desk
from service.api.views import WRITTEN_FLAG, YEAR_MAX, Body, ExternalId, MerchantId, Moment, Name, View
from service.domain.errors import Conflict, Forbidden, Missing
from service.infra.clock import utc_now
from service.infra.ids import new_id
from service.tables.parties import MerchantRow, Scope

router = APIRouter(tags=["merchants"])

_STEP_MAX = timedelta(days=3653)


class ExternalIdTaken(Conflict):
    """Each of the merchant's own ids names one thing of a kind."""

    code = "external-id-taken"
    title = "Another one has this external_id"


class FixedOnceMade(Conflict):
    """What has been recorded under it cannot be rewritten by the way."""

    code = "fixed-once-made"
    title = "This part cannot be changed once it is made"


class LiveClock(Forbidden):
    """A live merchant's books go by the real time."""

    code = "live-clock"
    title = "The clock of a live merchant cannot be moved"


class ClockBackwards(Conflict):
    """What has happened stays in the past."""

    code = "clock-backwards"
    title = "A test clock only moves forward"


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def known_time_zone(name: str) -> str:
    if name not in _time_zones():
        raise PydanticCustomError("time_zone", "Must be an IANA time zone, such as Asia/Ho_Chi_Minh or UTC")
    return name


TimeZone = Annotated[str, Strict(), Field(examples=["Asia/Ho_Chi_Minh"]), AfterValidator(known_time_zone)]


class MerchantCreate(Body):
    name: Name
    time_zone: TimeZone
    """IANA name. Booking days, periods and cut-offs go by it, so it is fixed for good."""
    is_test: Annotated[bool, Strict()] = False
    """A test merchant has a clock that can be moved and is paid on the sandbox rail only."""
    external_id: ExternalId | None = None


class MerchantView(View):
    id: MerchantId
    external_id: str | None
    name: str
    is_test: bool
    time_zone: str
    now: Moment
    """The merchant's present; a test merchant's own clock may run ahead."""
    first_order_at: Moment | None
    """Until the first order, first terms, enrolments and coupons may begin in the past."""
    created_at: Moment

    @classmethod
    def of(cls, row: MerchantRow) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            name=row.name,
            is_test=row.is_test,
            time_zone=row.time_zone,
            now=merchant_of(row, utc_now()).now,
            first_order_at=row.first_order_at,
            created_at=row.created_at,
        )


class MerchantCreated(View):
    merchant: MerchantView
    admin_key: ApiKeyCreated
    """The first key; with it the merchant makes all others."""


class MerchantPut(Body):
    name: Name
    time_zone: TimeZone
    """IANA name; fixed for good, like is_test."""
    is_test: Annotated[bool, Strict()] = False


class MerchantSettingsView(View):
    """A merchant without what changes by itself, so that its ETag says whether somebody changed it."""

    id: MerchantId
    external_id: str | None
    name: str
    is_test: bool
    time_zone: str
    created_at: Moment

    @classmethod
    def of(cls, row: MerchantRow) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            name=row.name,
            is_test=row.is_test,
            time_zone=row.time_zone,
            created_at=row.created_at,
        )


class TestClockMove(Body):
    """How far, or until when; one of the two."""

    advance_s: Annotated[int, Strict(), Field(ge=0, le=int(_STEP_MAX.total_seconds()))] | None = None
    to: Moment | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.advance_s is None) == (self.to is None):
            raise PydanticCustomError("test_clock", "Name either advance_s or to")
        return self


class TestClockView(View):
    now: Moment
    """The merchant's present from now on."""


@router.post("/v1/merchants", status_code=201)
def create_merchant(asked: MerchantCreate, caller: Operator, session: WriteSession) -> MerchantCreated:  # noqa: ARG001 - the caller is checked by being there
    """Make a merchant, its desk (the source of people's decisions) and its first admin key, which is shown this once."""
    row = _create(session, asked)
    return MerchantCreated(merchant=MerchantView.of(row), admin_key=_admin_key(session, row, "First admin key"))


@router.put("/v1/merchants/by-external-id/{external_id:path}", responses={201: {"model": MerchantSettingsView}})
def put_merchant_by_external_id(
    *,
    external_id: ExternalId,
    asked: MerchantPut,
    caller: Operator,  # noqa: ARG001 - as above
    session: WriteSession,
    response: Response,
    expected: IfMatch,
) -> MerchantSettingsView:
    """Make a merchant under your own id (201), or name the one you made before (200).

    Its first admin key is made by POST /v1/merchants/{merchant_id}/admin-keys, since this may be repeated.
    """
    row = session.exec(
        select(MerchantRow).where(col(MerchantRow.external_id) == external_id).with_for_update(key_share=True)
    ).one_or_none()
    expected.check(None if row is None else MerchantSettingsView.of(row))
    if row is None:
        response.status_code = 201
        row = _create(session, MerchantCreate(**dict(asked), external_id=external_id))
    elif (row.time_zone, row.is_test) != (asked.time_zone, asked.is_test):
        raise FixedOnceMade("time_zone and is_test are fixed when the merchant is made.")
    row.name = asked.name
    session.flush()
    return MerchantSettingsView.of(row)


@router.get("/v1/merchants/by-external-id/{external_id:path}")
def get_merchant_by_external_id(
    external_id: ExternalId,
    caller: Operator,  # noqa: ARG001 - as above
    session: ReadSession,
) -> MerchantSettingsView:
    """Return the merchant you made under your own id."""
    row = session.exec(select(MerchantRow).where(col(MerchantRow.external_id) == external_id)).one_or_none()
    if row is None:
        raise Missing("There is no merchant with this external_id.")
    return MerchantSettingsView.of(row)


def _create(session: Session, asked: MerchantCreate) -> MerchantRow:
    now = utc_now()
    row = MerchantRow(
        id=new_id(),
        external_id=asked.external_id,
        name=asked.name,
        is_test=asked.is_test,
        time_zone=asked.time_zone,
        created_at=now,
    )
    session.add(row)
    with taken("merchant_external_id_key", ExternalIdTaken("A merchant with this external_id exists.")):
        session.flush()
    make_desk(session, row.id, at=now)
    return row


@router.get("/v1/merchants")
def list_merchants(
    *,
    caller: Operator,  # noqa: ARG001 - as above
    session: ReadSession,
    paging: Paging,
    created: Created,
    is_test: Annotated[
        bool | None, WRITTEN_FLAG, Query(description="True: only test merchants; false: only live ones.")
    ] = None,
    external_id: ExternalIdFilter = None,
) -> Page[MerchantView]:
    """List all merchants, newest first."""
    merchants = created.narrow(select(MerchantRow), col(MerchantRow.created_at))
    if is_test is not None:
        merchants = merchants.where(col(MerchantRow.is_test) == is_test)
    if external_id is not None:
        merchants = merchants.where(col(MerchantRow.external_id) == external_id)
    rows = session.exec(newest_first(merchants, paging, MerchantRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=MerchantView.of)


@router.get("/v1/merchants/{merchant_id}")
def get_merchant(merchant_id: MerchantId, caller: Operator, session: ReadSession) -> MerchantView:  # noqa: ARG001 - as above
    """Return one merchant."""
    return MerchantView.of(_found(session, merchant_id))


@router.post("/v1/merchants/{merchant_id}/admin-keys", status_code=201)
def create_admin_key(merchant_id: MerchantId, caller: Operator, session: WriteSession) -> ApiKeyCreated:  # noqa: ARG001 - as above
    """Make another admin key for a merchant that has lost its own. It is shown this once."""
    return _admin_key(session, _found(session, merchant_id), "Admin key made by the operator")


@router.get("/v1/merchant")
def get_own_merchant(caller: Reader, session: ReadSession) -> MerchantView:
    """Return the merchant the key belongs to."""
    return MerchantView.of(_found(session, caller.merchant_id))


@router.post("/v1/test-clock")
def move_test_clock(asked: TestClockMove, caller: Admin, session: WriteSession, service: Services) -> TestClockView:
    """Move a test merchant's clock forward. What waits for a time (settlement, expiry of a notice) is due by it.

    It never goes back. From then on take the times of orders from `now` of `GET /v1/merchant`: an order dated by the real
    clock was placed before all approvals, enrolments and coupons made since, and earns nothing from them. Signatures of
    webhooks are checked by the real clock always.
    """
    row = session.exec(
        select(MerchantRow)
        .where(col(MerchantRow.id) == caller.merchant_id)
        # Two movers at once must add up; the row read for the key may be old by now.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    if not row.is_test:
        raise LiveClock("Only merchants made with is_test have a clock of their own.")
    now = utc_now()
    present = merchant_of(row, now).now
    target = asked.to if asked.to is not None else present + timedelta(seconds=asked.advance_s or 0)
    if target < present:
        raise ClockBackwards(f"This merchant's clock already shows {present.isoformat()}.")
    if target.year > YEAR_MAX:
        raise ClockBackwards(f"A test clock ends with the year {YEAR_MAX}.")
    if target - present > _STEP_MAX:
        raise ClockBackwards("A test clock moves at most ten years at a time.")
    # Whole seconds, rounded up, so that the clock has reached the time asked for.
    row.clock_offset_s = -((now - target) // timedelta(seconds=1))
    service.links.set_clock(row.id, row.clock_offset_s)
    return TestClockView(now=merchant_of(row, now).now)


def _found(session: Session, merchant_id: MerchantId) -> MerchantRow:
    row = session.get(MerchantRow, merchant_id)
    if row is None:
        raise Missing("There is no such merchant.")
    return row


def _admin_key(session: Session, row: MerchantRow, name: str) -> ApiKeyCreated:
    return make_key(
        session,
        merchant_id=row.id,
        is_test=row.is_test,
        name=name,
        scopes=[Scope.ADMIN],
        at=utc_now(),
    )
