"""What an operator sets: environment variables, read once. Each field's name with KOC_ in front is its variable."""

import base64
import binascii
import contextlib
import logging
import os
import re
import secrets
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.infra import logs

BATCHERS = 3
"""Units of work that run beside the admitted requests: of orders, of clicks, and the reading of links into memory."""

_SIGNING_SECRET = re.compile(r"whsec_[!-~]{10,}")

_log = logging.getLogger(__name__)


class SettingsError(RuntimeError):
    """A variable is missing or makes no sense; the message names it and never holds its value."""


def _driver(url: str) -> str:
    """Return the address with our driver named, however the operator wrote the scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError("must begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def _key(text: str) -> str:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ValueError("must be 32 random bytes in base64, as `openssl rand -base64 32` prints them")
    return text


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_address)]


def _networks(text: str) -> str:
    try:
        _read_networks(text)
    except ValueError:
        raise ValueError("must be networks with commas between them, such as 10.1.0.0/16,fd00:1::/64") from None
    return text


def _signing_secrets(text: str) -> str:
    if not all(_SIGNING_SECRET.fullmatch(each.strip()) for each in text.split(",")):
        raise ValueError("must be signing secrets as Stripe shows them, whsec_…, with commas between them")
    return text


def _split(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _read_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


class Settings(BaseSettings):
    """All settings of one process. Made by `load`; a test may make one directly."""

    model_config = SettingsConfigDict(
        env_prefix="KOC_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True, populate_by_name=True
    )

    database_url: Annotated[str, AfterValidator(_driver)] | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "database_url"), repr=False
    )
    """DATABASE_URL (without KOC_): any PostgreSQL from version 15. Unset: the embedded one is started in data_dir."""
    data_dir: Path = Path(".koc-data")
    """Where the embedded database and its secrets live; relative to the folder a command is run in."""
    secret_key: Annotated[str, AfterValidator(_key)] = Field(repr=False)
    """32 random bytes in base64, the root of every other key. Losing it loses merchants' stored secrets."""
    public_url: HttpUrl = "http://127.0.0.1:8000"
    """How the world reaches the service; short links and QR codes begin with it."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """The TCP port to listen on."""
    stripe_secret_key: str | None = Field(default=None, repr=False)
    """Key of the platform's Stripe account. Unset: the rail stripe_connect cannot be chosen."""
    stripe_api_base: HttpUrl = "https://api.stripe.com"
    """Where Stripe's API is; a test double has another address."""
    stripe_webhook_secret: Annotated[str, AfterValidator(_signing_secrets)] | None = Field(default=None, repr=False)
    """Signing secrets of Stripe's endpoints for /providers/stripe/events, with commas between them: one for each
    endpoint, two of one while it is rolled. Unset: the address takes nothing."""
    stripe_financial_account: Annotated[str, Field(pattern="^fa_[A-Za-z0-9_]{4,100}$")] | None = None
    """The FinancialAccount that Global Payouts leave from. Unset: the rail stripe_global_payouts cannot be chosen."""
    db_pool_size: Annotated[int, Field(ge=BATCHERS + 2, le=200)] = 16
    """Connections each process may hold."""
    db_admission: Annotated[int, Field(ge=1)] = 12
    """Requests that may use the database at once, per process; the batchers' connections must be left over."""
    batch_max: Annotated[int, Field(ge=1, le=4096)] = 256
    """Most orders, or clicks, in one unit of work."""
    orders_at_once: Annotated[int, Field(ge=1)] = 128
    """Most order webhooks of a process that wait for their answer; one more is answered 503, with Retry-After."""
    queue_max: Annotated[int, Field(ge=1)] = 2048
    """Most clicks of a process that wait to be stored; the visitor of one more is sent on all the same."""
    body_bytes_max: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    """Most bytes of a request's body; a longer one is answered 413."""
    webhook_allow_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks that webhooks may go to though they are not public, with commas between them; by default none."""
    claim_days: Annotated[int, Field(ge=1, le=365)] = 14
    """Days a merchant has to decide about a KOC's claim; after them it is overdue, and still open."""
    key_rate: Annotated[int, Field(ge=1)] = 100
    """Requests per second an API key may make for long, per process; a key may have a limit of its own."""
    key_burst: Annotated[int, Field(ge=1)] = 400
    """Requests an API key may make at once, per process."""
    source_rate: Annotated[int, Field(ge=1)] = 500
    """As key_rate, for the deliveries of a source, and for a publishable key, which all visitors of a shop share."""
    source_burst: Annotated[int, Field(ge=1)] = 2000
    """As key_burst, for the deliveries of a source, and for a publishable key."""
    log_format: Literal["auto", "json", "pretty"] = "auto"
    """How log lines look; auto is pretty on a terminal, else JSON."""

    @model_validator(mode="after")
    def _leave_connections_to_batchers(self) -> Self:
        if self.db_admission > self.db_pool_size - BATCHERS:
            raise ValueError(f"KOC_DB_ADMISSION must be at least {BATCHERS} less than KOC_DB_POOL_SIZE")
        return self

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks that webhooks may go to though they are not public."""
        return _read_networks(self.webhook_allow_networks)

    @property
    def stripe_webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets one by one."""
        return _split(self.stripe_webhook_secret or "")

    def secrets(self) -> list[str]:
        """Return the texts that must not be told to anybody."""
        given = [self.secret_key, self.stripe_secret_key or "", *self.stripe_webhook_secrets]
        return [each for each in given if each] + logs.secrets_of(self.database_url)

    def environment(self) -> dict[str, str]:
        """Return variables from which another process loads the same settings. They hold secrets."""
        given = self.model_dump(mode="json", exclude_none=True)
        given["data_dir"] = str(self.data_dir.absolute())
        url = given.pop("database_url", None)
        return {f"KOC_{name.upper()}": str(value) for name, value in given.items()} | (
            {} if url is None else {"DATABASE_URL": url}
        )


def load() -> Settings:
    """Return the settings of the environment.

    Without DATABASE_URL a missing secret key is made once, in a file of data_dir that only we can read, and said so.
    Raises SettingsError naming each variable that is missing or wrong.
    """
    data_dir = embedded_data_dir()
    try:
        if data_dir is None or os.environ.get("KOC_SECRET_KEY"):
            return Settings()
        return Settings(secret_key=_own_secret_key(data_dir))
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(one["loc"], one["msg"]) for one in error.errors())) from None


def embedded_data_dir() -> Path | None:
    """Return where the embedded database lives or would live; None where DATABASE_URL names another. Makes nothing."""
    if os.environ.get("DATABASE_URL"):
        return None
    return Path(os.environ.get("KOC_DATA_DIR") or Settings.model_fields["data_dir"].default)


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = str(location[0])
    variable = "DATABASE_URL" if name.lower() == "database_url" else f"KOC_{name.upper()}"
    if message == "Field required":
        return f"{variable} is not set; with DATABASE_URL it must be (make one with `openssl rand -base64 32`)"
    return f"{variable} {message.removeprefix('Value error, ')}"


def _own_secret_key(data_dir: Path) -> str:
    """Return the key kept beside the embedded data, made now if it is absent."""
    path = data_dir / "secret_key"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    if not data_dir.is_dir():
        # Passable when root starts the server as someone else; what lies in it is closed by its own mode.
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    # Written aside and linked into place: of two processes that start together one makes the key, and both read it whole.
    aside = data_dir / f"secret_key.{secrets.token_hex(4)}"
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(base64.b64encode(secrets.token_bytes(32)).decode())
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(aside)
        _log.info("Made a secret key in %s. Keep it with every copy of the data.", path.absolute())
    aside.unlink()
    return path.read_text().strip()
