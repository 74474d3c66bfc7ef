"""Where orders come from: a platform, a secret, and an address that nobody can guess."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from pydantic import Field, Strict
from sqlmodel import Session, col, select

from service.api.deps import Admin, Reader, ReadSession, Services, WriteSession
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import Body, Moment, Name, SourceId, View
from service.domain.errors import Invalid, Missing
from service.infra import ids
from service.infra.clock import utc_now
from service.intake.adapters import ADAPTERS, standard_webhooks
from service.intake.adapters.model import BadSignature
from service.tables.parties import Platform, SourceRow

router = APIRouter(tags=["sources"])

SECRET_PURPOSE = "source-secret"  # noqa: S105 - a purpose, no secret
"""What webhook secrets are encrypted for."""


class UnusableSecret(Invalid):
    """Nothing could ever verify with this secret."""

    code = "unusable-secret"
    title = "The platform does not sign with such a secret"


class SourceCreate(Body):
    name: Name
    platform: Literal[Platform.GENERIC, Platform.SHOPIFY]
    shop_domain: Annotated[str, Strict(), Field(max_length=253, pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")] | None = None
    """The shop's own host name, such as my-shop.myshopify.com; a delivery that names another is parked."""
    secret: Annotated[str, Strict(), Field(min_length=16, max_length=200, pattern=r"^[!-~]+$")] | None = None
    """The secret the platform signs with, where it makes its own; null: one is made and shown in the answer."""


class SourceView(View):
    id: SourceId
    platform: Platform
    name: str
    shop_domain: str | None
    webhook_url: str | None
    """Where the platform has to deliver; null for the desk."""
    created_at: Moment
    disabled_at: Moment | None
    """Since when deliveries are refused."""

    @classmethod
    def of(cls, row: SourceRow, public_url: str) -> Self:
        is_desk = row.platform == Platform.DESK
        return cls(
            id=row.id,
            platform=Platform(row.platform),
            name=row.name,
            shop_domain=row.shop_domain,
            webhook_url=None if is_desk else f"{public_url}/intake/{ids.encode('src', row.id)}",
            created_at=row.created_at,
            disabled_at=row.disabled_at,
        )


class SourceCreated(View):
    source: SourceView
    secret: str | None
    """The secret that was made; shown this once. Null when you gave your own."""


def make_desk(session: Session, merchant_id: UUID, *, at: datetime) -> None:
    """Make the source through which people's decisions enter."""
    session.add(SourceRow(id=uuid4(), merchant_id=merchant_id, platform=Platform.DESK, name="Desk", created_at=at))
    session.flush()


@router.post("/v1/sources", status_code=201)
def create_source(asked: SourceCreate, caller: Admin, session: WriteSession, service: Services) -> SourceCreated:
    """Make a source. Its `webhook_url` is where the platform delivers; its secret is in this answer only."""
    if asked.platform is Platform.GENERIC and asked.secret is not None:
        _check_standard_webhooks(asked.secret)
    made = ADAPTERS[asked.platform].new_secret() if asked.secret is None else None
    secret = asked.secret or made or ""
    row = SourceRow(
        # Not ordered by time like other ids: the address has to be unguessable.
        id=uuid4(),
        merchant_id=caller.merchant_id,
        platform=asked.platform,
        name=asked.name,
        shop_domain=asked.shop_domain,
        secret=service.security.encrypt(secret.encode(), purpose=SECRET_PURPOSE),
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return SourceCreated(source=SourceView.of(row, service.settings.public_url), secret=made)


@router.get("/v1/sources")
def list_sources(
    *,
    caller: Reader,
    session: ReadSession,
    service: Services,
    paging: Paging,
    platform: Annotated[Platform | None, Query(description="Only sources of this platform.")] = None,
    disabled: Annotated[bool | None, Query(description="True: only disabled ones; false: only the others.")] = None,
) -> Page[SourceView]:
    """List the merchant's sources, the disabled ones and the desk too."""
    sources = select(SourceRow).where(col(SourceRow.merchant_id) == caller.merchant_id)
    if platform is not None:
        sources = sources.where(col(SourceRow.platform) == platform)
    if disabled is not None:
        sources = sources.where(col(SourceRow.disabled_at).is_not(None) == disabled)
    rows = session.exec(newest_first(sources, paging, SourceRow.id)).all()
    return page(
        rows, paging, key=lambda row: (row.id,), view=lambda row: SourceView.of(row, service.settings.public_url)
    )


@router.post("/v1/sources/{source_id}/disable")
def disable_source(source_id: SourceId, caller: Admin, session: WriteSession, service: Services) -> SourceView:
    """Refuse deliveries from now on. What was delivered stays. Repeating it changes nothing."""
    row = session.exec(
        select(SourceRow)
        .where(
            col(SourceRow.merchant_id) == caller.merchant_id,
            col(SourceRow.id) == source_id,
            col(SourceRow.platform) != Platform.DESK,
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such source.")
    if row.disabled_at is None:
        row.disabled_at = utc_now()
    return SourceView.of(row, service.settings.public_url)


def _check_standard_webhooks(secret: str) -> None:
    try:
        standard_webhooks.signature(secret.encode(), "id", "0", b"")
    except BadSignature:
        raise UnusableSecret("A generic source signs with whsec_ and the base64 of 24 to 64 bytes.") from None
