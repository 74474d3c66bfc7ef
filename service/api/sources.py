"""Where orders come from: a platform, a secret, and an address that nobody can guess."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.api_keys import OVERLAP_MAX_S
from service.api.deps import Admin, Reader, ReadSession, Services, WriteSession
from service.api.etags import IfMatch
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import WRITTEN_FLAG, Body, Moment, Name, RateLimitBody, RateLimitView, SourceId, View
from service.domain.errors import Conflict, Invalid, Missing
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import NotUnderstood
from service.tables.parties import Platform, SourceRow, SourceSettingsRow

router = APIRouter(tags=["sources"])

SECRET_PURPOSE = "source-secret"  # noqa: S105 - a purpose, no secret
"""What webhook secrets are encrypted for."""


class UnusableSecret(Invalid):
    """Nothing could ever verify with this secret."""

    code = "unusable-secret"
    title = "The platform does not sign with such a secret"


class UnusableSettings(Invalid):
    """No delivery could be read by them."""

    code = "unusable-settings"
    title = "The platform's sources have no such settings"


class RotationUnderWay(Conflict):
    """At most two secrets are valid: the one before the last still is."""

    code = "secret-rotation-under-way"
    title = "The secret before still verifies"


class InvalidExpiry(Invalid):
    """A secret that has expired verifies nothing."""

    code = "invalid-expiry"
    title = "The time of expiry does not lie ahead"


def _delivers(given: object) -> object:
    if not isinstance(given, str) or given not in ADAPTERS:
        raise PydanticCustomError("platform", "Must be one of {platforms}", {"platforms": ", ".join(ADAPTERS)})
    return given


DeliveringPlatform = Annotated[
    # Before the library looks, whose list would name the desk too.
    Platform, BeforeValidator(_delivers), WithJsonSchema({"type": "string", "enum": [each.value for each in ADAPTERS]})
]
Settings = Annotated[dict[str, Any], Field(max_length=50)]
"""What they may be is said by the platform's adapter alone, see docs/shops."""


Secret = Annotated[str, Strict(), Field(min_length=16, max_length=200, pattern=r"^[!-~]+$")]
_SHOP = r"^([a-z0-9-]+(\.[a-z0-9-]+)+|[0-9]{1,32})$"


def _host_alone(given: str) -> str:
    if not re.fullmatch(_SHOP, given):
        raise PydanticCustomError(
            "shop_domain", "The host alone, such as shop.example, in small letters, without https:// or path"
        )
    return given


ShopDomain = Annotated[
    str,
    Strict(),
    Field(max_length=253),
    AfterValidator(_host_alone),
    WithJsonSchema({"type": "string", "maxLength": 253, "pattern": _SHOP}),
]


class SourceCreate(Body):
    name: Name
    platform: DeliveringPlatform
    shop_domain: ShopDomain | None = None
    """The shop's own host name, such as my-shop.myshopify.com, or at TikTok Shop its shop_id; a delivery that names
    another is parked. www.shop.example and shop.example are two."""
    secret: Secret | None = None
    """The secret the platform signs with, where it makes its own; null: one is made and shown in the answer. For TikTok
    Shop app key and app secret with a colon between."""
    secret_expires_at: Moment | None = None
    """From when on the secret verifies nothing any more, by the service's clock; null: never."""
    rate_limit: RateLimitBody | None = None
    """How fast the platform may deliver; null: as the service is set up."""
    settings: Settings = Field(default_factory=dict)
    """How this shop's deliveries are read, such as what its order statuses mean; the guide of each platform lists them."""


class SourceSettingsPut(Body):
    settings: Settings
    """All of them; what is left out has its default again."""


class SourceUpdate(Body):
    """What is left out stays."""

    name: Name | None = None
    rate_limit: RateLimitBody | None = None
    """null: as the service is set up."""


class SecretRotate(Body):
    secret: Secret | None = None
    """The new secret, where the platform makes its own; null: one is made and shown in the answer."""
    overlap_s: Annotated[int, Strict(), Field(ge=0, le=OVERLAP_MAX_S)] = 86_400
    """Seconds the old secret verifies too; 0: all others are dropped at once."""
    expires_at: Moment | None = None
    """From when on the new secret verifies nothing any more; null: never."""


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
    settings: dict[str, Any]
    """How deliveries are read from now on."""
    settings_version: int
    """Which version of the settings that is; 0 where none were ever given."""
    secret_expires_at: Moment | None
    previous_secret_expires_at: Moment | None
    """Until when the secret before the last rotation verifies too; null if there is none."""
    last_delivery_at: Moment | None
    """When something rightly signed last came: known after at most a quarter of a minute, and noted at most once a
    minute."""
    rate_limit: RateLimitView | None
    """null: as the service is set up."""

    @classmethod
    def of(cls, row: SourceRow, public_url: str, settings: tuple[dict[str, Any], int]) -> Self:
        is_desk = row.platform == Platform.DESK
        return cls(
            id=row.id,
            platform=Platform(row.platform),
            name=row.name,
            shop_domain=row.shop_domain,
            webhook_url=None if is_desk else f"{public_url}/intake/{ids.encode('src', row.id)}",
            created_at=row.created_at,
            disabled_at=row.disabled_at,
            settings=settings[0],
            settings_version=settings[1],
            secret_expires_at=row.secret_expires_at,
            previous_secret_expires_at=row.previous_secret_expires_at,
            last_delivery_at=row.last_delivery_at,
            rate_limit=RateLimitView.of(row.rate_per_s, row.burst),
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
    now = utc_now()
    _check_expiry(asked.secret_expires_at, now)
    _check_settings(asked.platform, asked.settings)
    secret, made = _secret_of(asked.platform, asked.secret)
    row = SourceRow(
        # Not ordered by time like other ids: the address has to be unguessable.
        id=uuid4(),
        merchant_id=caller.merchant_id,
        platform=asked.platform,
        name=asked.name,
        shop_domain=asked.shop_domain,
        secret=service.security.encrypt(secret.encode(), purpose=SECRET_PURPOSE),
        secret_expires_at=asked.secret_expires_at,
        created_at=now,
        rate_per_s=None if asked.rate_limit is None else asked.rate_limit.per_second,
        burst=None if asked.rate_limit is None else asked.rate_limit.burst,
    )
    session.add(row)
    session.flush()
    version = 0
    if asked.settings:
        version = 1
        session.add(SourceSettingsRow(source_id=row.id, version=1, settings=asked.settings, created_at=now))
        session.flush()
    view = SourceView.of(row, service.settings.public_url, (asked.settings, version))
    return SourceCreated(source=view, secret=made)


@router.get("/v1/sources")
def list_sources(
    *,
    caller: Reader,
    session: ReadSession,
    service: Services,
    paging: Paging,
    platform: Annotated[Platform | None, Query(description="Only sources of this platform.")] = None,
    disabled: Annotated[
        bool | None, WRITTEN_FLAG, Query(description="True: only disabled ones; false: only the others.")
    ] = None,
) -> Page[SourceView]:
    """List the merchant's sources, the disabled ones and the desk too."""
    sources = select(SourceRow).where(col(SourceRow.merchant_id) == caller.merchant_id)
    if platform is not None:
        sources = sources.where(col(SourceRow.platform) == platform)
    if disabled is not None:
        sources = sources.where(col(SourceRow.disabled_at).is_not(None) == disabled)
    rows = session.exec(newest_first(sources, paging, SourceRow.id)).all()
    known = _settings(session, [row.id for row in rows])
    return page(
        rows,
        paging,
        key=lambda row: (row.id,),
        view=lambda row: SourceView.of(row, service.settings.public_url, known.get(row.id, ({}, 0))),
    )


@router.get("/v1/sources/{source_id}")
def get_source(source_id: SourceId, caller: Reader, session: ReadSession, service: Services) -> SourceView:
    """Return one source with the settings its deliveries are read by."""
    row = session.exec(
        select(SourceRow).where(col(SourceRow.merchant_id) == caller.merchant_id, col(SourceRow.id) == source_id)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such source.")
    return _view(session, row, service)


@router.put("/v1/sources/{source_id}/settings")
def set_source_settings(
    source_id: SourceId,
    asked: SourceSettingsPut,
    caller: Admin,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> SourceView:
    """Read deliveries by these settings from now on, and parked ones when they are replayed.

    What was read before stays as it was read. The same settings again make no new version.
    """
    row = _locked(session, caller.merchant_id, source_id)
    expected.check(_view(session, row, service))
    _check_settings(Platform(row.platform), asked.settings)
    known, version = _settings(session, [source_id]).get(source_id, ({}, 0))
    if asked.settings != known:
        session.add(
            SourceSettingsRow(source_id=source_id, version=version + 1, settings=asked.settings, created_at=utc_now())
        )
        session.flush()
    return _view(session, row, service)


@router.post("/v1/sources/{source_id}/disable")
def disable_source(source_id: SourceId, caller: Admin, session: WriteSession, service: Services) -> SourceView:
    """Refuse deliveries from now on. What was delivered stays. Repeating it changes nothing."""
    row = _locked(session, caller.merchant_id, source_id)
    if row.disabled_at is None:
        row.disabled_at = utc_now()
    return _view(session, row, service)


@router.post("/v1/sources/{source_id}/enable")
def enable_source(source_id: SourceId, caller: Admin, session: WriteSession, service: Services) -> SourceView:
    """Take deliveries again, at the same address, with the secret of before. Repeating it changes nothing."""
    row = _locked(session, caller.merchant_id, source_id)
    row.disabled_at = None
    return _view(session, row, service)


@router.patch("/v1/sources/{source_id}")
def update_source(
    source_id: SourceId,
    asked: SourceUpdate,
    caller: Admin,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> SourceView:
    """Change a source's name or how fast its platform may deliver."""
    row = _locked(session, caller.merchant_id, source_id)
    expected.check(_view(session, row, service))
    if asked.name is not None:
        row.name = asked.name
    if "rate_limit" in asked.model_fields_set:
        row.rate_per_s = None if asked.rate_limit is None else asked.rate_limit.per_second
        row.burst = None if asked.rate_limit is None else asked.rate_limit.burst
    return _view(session, row, service)


@router.post("/v1/sources/{source_id}/rotate-secret")
def rotate_source_secret(
    source_id: SourceId, asked: SecretRotate, caller: Admin, session: WriteSession, service: Services
) -> SourceCreated:
    """Give a source a new secret, and let the old one verify too for a while. A secret that was made is shown this once.

    At most two are valid: while one before the last still is, only a rotation without overlap is possible.
    """
    row = _locked(session, caller.merchant_id, source_id)
    now = utc_now()
    _check_expiry(asked.expires_at, now)
    if asked.overlap_s and row.previous_secret_expires_at is not None and row.previous_secret_expires_at > now:
        raise RotationUnderWay(
            f"The secret before the last verifies until {row.previous_secret_expires_at.isoformat()}; wait until then, "
            "or rotate with overlap_s 0, which drops it and the last at once."
        )
    secret, made = _secret_of(Platform(row.platform), asked.secret)
    if asked.overlap_s:
        ends_at = now + timedelta(seconds=asked.overlap_s)
        row.previous_secret = row.secret
        row.previous_secret_expires_at = min(ends_at, row.secret_expires_at or ends_at)
    else:
        row.previous_secret = row.previous_secret_expires_at = None
    row.secret = service.security.encrypt(secret.encode(), purpose=SECRET_PURPOSE)
    row.secret_expires_at = asked.expires_at
    return SourceCreated(source=_view(session, row, service), secret=made)


def _locked(session: Session, merchant_id: UUID, source_id: UUID) -> SourceRow:
    """A source that a shop delivers to. Whoever else changes it waits, so that versions are numbered one by one."""
    row = session.exec(
        select(SourceRow)
        .where(
            col(SourceRow.merchant_id) == merchant_id,
            col(SourceRow.id) == source_id,
            col(SourceRow.platform) != Platform.DESK,
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise Missing("This merchant has no such source.")
    return row


def _secret_of(platform: Platform, given: str | None) -> tuple[str, str | None]:
    """(the secret to keep, what to show of it: nothing where it was given). Raises UnusableSecret."""
    if given is None:
        made = ADAPTERS[platform].new_secret()
        return made, made
    flaw = ADAPTERS[platform].secret_flaw(given)
    if flaw:
        raise UnusableSecret(flaw)
    return given, None


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise InvalidExpiry("It must lie ahead, by the service's clock.")


def _check_settings(platform: Platform, settings: dict[str, Any]) -> None:
    try:
        ADAPTERS[platform].check_settings(settings)
    except NotUnderstood as error:
        raise UnusableSettings(error.detail) from None


def _view(session: Session, row: SourceRow, service: Services) -> SourceView:
    return SourceView.of(row, service.settings.public_url, _settings(session, [row.id]).get(row.id, ({}, 0)))


def _settings(session: Session, source_ids: list[UUID]) -> dict[UUID, tuple[dict[str, Any], int]]:
    """The newest settings of sources, with their version; a source that never had any is absent."""
    rows = fetch(
        session,
        """
        SELECT DISTINCT ON (source_id) source_id, settings, version
        FROM source_settings WHERE source_id = ANY(CAST(:ids AS uuid[]))
        ORDER BY source_id, version DESC
        """,
        {"ids": source_ids},
    )
    return {row.source_id: (row.settings, row.version) for row in rows}
