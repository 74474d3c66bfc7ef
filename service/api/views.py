"""What requests and responses are made of: ids, moments, amounts, texts, and the two base models."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.types import Strict
from pydantic_core import PydanticCustomError

from service.domain.errors import UnknownCurrency
from service.domain.money import AMOUNT_MAX_MINOR, exponent
from service.domain.text import BREAKS, hides_something
from service.infra import ids


class View(BaseModel):
    """A response, or a part of one. Fields have no defaults, so that clients see them as always present."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True)


class Body(BaseModel):
    """A request, or a part of one. What it does not name is refused, so that a typo is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True)


def _parser(prefix: str) -> Callable[[object], UUID]:
    def parse(given: object) -> UUID:
        if isinstance(given, UUID):
            return given
        try:
            return ids.decode(prefix, given if isinstance(given, str) else "")
        except ValueError:
            # Not the library's own message: it would repeat what was sent.
            raise PydanticCustomError(
                "id", "Must be an id of the form {prefix}_ and 26 letters and digits", {"prefix": prefix}
            ) from None

    return parse


def _printer(prefix: str) -> Callable[[UUID], str]:
    return lambda value: ids.encode(prefix, value)


def _schema(prefix: str) -> dict[str, Any]:
    return {
        "type": "string",
        "pattern": f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$",
        "examples": [f"{prefix}_01h455vb4pex5vsknk084sn02q"],
    }


MerchantId = Annotated[
    UUID, BeforeValidator(_parser("mer")), PlainSerializer(_printer("mer")), WithJsonSchema(_schema("mer"))
]
KeyId = Annotated[
    UUID, BeforeValidator(_parser("key")), PlainSerializer(_printer("key")), WithJsonSchema(_schema("key"))
]
SourceId = Annotated[
    UUID, BeforeValidator(_parser("src")), PlainSerializer(_printer("src")), WithJsonSchema(_schema("src"))
]
AffiliateId = Annotated[
    UUID, BeforeValidator(_parser("aff")), PlainSerializer(_printer("aff")), WithJsonSchema(_schema("aff"))
]
EnrollmentId = Annotated[
    UUID, BeforeValidator(_parser("enr")), PlainSerializer(_printer("enr")), WithJsonSchema(_schema("enr"))
]
ProgramId = Annotated[
    UUID, BeforeValidator(_parser("prg")), PlainSerializer(_printer("prg")), WithJsonSchema(_schema("prg"))
]
AcceptanceId = Annotated[
    UUID, BeforeValidator(_parser("acc")), PlainSerializer(_printer("acc")), WithJsonSchema(_schema("acc"))
]
BudgetId = Annotated[
    UUID, BeforeValidator(_parser("bud")), PlainSerializer(_printer("bud")), WithJsonSchema(_schema("bud"))
]
LinkId = Annotated[
    UUID, BeforeValidator(_parser("lnk")), PlainSerializer(_printer("lnk")), WithJsonSchema(_schema("lnk"))
]
CouponId = Annotated[
    UUID, BeforeValidator(_parser("cpn")), PlainSerializer(_printer("cpn")), WithJsonSchema(_schema("cpn"))
]
RosterOfferId = Annotated[
    UUID, BeforeValidator(_parser("rof")), PlainSerializer(_printer("rof")), WithJsonSchema(_schema("rof"))
]
OrderId = Annotated[
    UUID, BeforeValidator(_parser("ord")), PlainSerializer(_printer("ord")), WithJsonSchema(_schema("ord"))
]
InboxId = Annotated[
    UUID, BeforeValidator(_parser("inb")), PlainSerializer(_printer("inb")), WithJsonSchema(_schema("inb"))
]
CommissionId = Annotated[
    UUID, BeforeValidator(_parser("com")), PlainSerializer(_printer("com")), WithJsonSchema(_schema("com"))
]
PostingId = Annotated[
    UUID, BeforeValidator(_parser("pst")), PlainSerializer(_printer("pst")), WithJsonSchema(_schema("pst"))
]
RunId = Annotated[
    UUID, BeforeValidator(_parser("run")), PlainSerializer(_printer("run")), WithJsonSchema(_schema("run"))
]
PayoutId = Annotated[
    UUID, BeforeValidator(_parser("pay")), PlainSerializer(_printer("pay")), WithJsonSchema(_schema("pay"))
]
PayoutMethodId = Annotated[
    UUID, BeforeValidator(_parser("pmt")), PlainSerializer(_printer("pmt")), WithJsonSchema(_schema("pmt"))
]
EventId = Annotated[
    UUID, BeforeValidator(_parser("evt")), PlainSerializer(_printer("evt")), WithJsonSchema(_schema("evt"))
]
WebhookEndpointId = Annotated[
    UUID, BeforeValidator(_parser("whk")), PlainSerializer(_printer("whk")), WithJsonSchema(_schema("whk"))
]
WebhookDeliveryId = Annotated[
    UUID, BeforeValidator(_parser("whd")), PlainSerializer(_printer("whd")), WithJsonSchema(_schema("whd"))
]
SimulationId = Annotated[
    UUID, BeforeValidator(_parser("sim")), PlainSerializer(_printer("sim")), WithJsonSchema(_schema("sim"))
]
BookCloseId = Annotated[
    UUID, BeforeValidator(_parser("bcl")), PlainSerializer(_printer("bcl")), WithJsonSchema(_schema("bcl"))
]
ReconciliationId = Annotated[
    UUID, BeforeValidator(_parser("rec")), PlainSerializer(_printer("rec")), WithJsonSchema(_schema("rec"))
]
DifferenceId = Annotated[
    UUID, BeforeValidator(_parser("rdf")), PlainSerializer(_printer("rdf")), WithJsonSchema(_schema("rdf"))
]
ReportJobId = Annotated[
    UUID, BeforeValidator(_parser("job")), PlainSerializer(_printer("job")), WithJsonSchema(_schema("job"))
]
ClaimId = Annotated[
    UUID, BeforeValidator(_parser("clm")), PlainSerializer(_printer("clm")), WithJsonSchema(_schema("clm"))
]
TaxRegimeId = Annotated[
    UUID, BeforeValidator(_parser("trg")), PlainSerializer(_printer("trg")), WithJsonSchema(_schema("trg"))
]
TaxProfileId = Annotated[
    UUID, BeforeValidator(_parser("tax")), PlainSerializer(_printer("tax")), WithJsonSchema(_schema("tax"))
]
TaxEntryId = Annotated[
    UUID, BeforeValidator(_parser("txe")), PlainSerializer(_printer("txe")), WithJsonSchema(_schema("txe"))
]
TaxRemittanceId = Annotated[
    UUID, BeforeValidator(_parser("txr")), PlainSerializer(_printer("txr")), WithJsonSchema(_schema("txr"))
]
CorrectionId = Annotated[
    UUID, BeforeValidator(_parser("cor")), PlainSerializer(_printer("cor")), WithJsonSchema(_schema("cor"))
]
StatementId = Annotated[
    UUID, BeforeValidator(_parser("stm")), PlainSerializer(_printer("stm")), WithJsonSchema(_schema("stm"))
]
StatementRunId = Annotated[
    UUID, BeforeValidator(_parser("srn")), PlainSerializer(_printer("srn")), WithJsonSchema(_schema("srn"))
]
SelfBillingAgreementId = Annotated[
    UUID, BeforeValidator(_parser("sba")), PlainSerializer(_printer("sba")), WithJsonSchema(_schema("sba"))
]
PayoutLimitId = Annotated[
    UUID, BeforeValidator(_parser("lim")), PlainSerializer(_printer("lim")), WithJsonSchema(_schema("lim"))
]
PayoutFeeId = Annotated[
    UUID, BeforeValidator(_parser("fee")), PlainSerializer(_printer("fee")), WithJsonSchema(_schema("fee"))
]
PayoutGateId = Annotated[
    UUID, BeforeValidator(_parser("gat")), PlainSerializer(_printer("gat")), WithJsonSchema(_schema("gat"))
]
AuditId = Annotated[
    UUID, BeforeValidator(_parser("aud")), PlainSerializer(_printer("aud")), WithJsonSchema(_schema("aud"))
]
PayoutFileId = Annotated[
    UUID, BeforeValidator(_parser("pfl")), PlainSerializer(_printer("pfl")), WithJsonSchema(_schema("pfl"))
]

# RFC 3339, section 5.6: a date, a time, and a zone that must not be left out.
_MOMENT = re.compile(
    r"([0-9]{4})-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DAY = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}")
YEAR_MIN, YEAR_MAX = 1970, 2200
"""Years that may be named from outside, as in the webhooks of shops; periods added to them stay within what a date holds."""


def _check_year(written: re.Match[str]) -> None:
    if not YEAR_MIN <= int(written[1]) <= YEAR_MAX:
        raise PydanticCustomError(
            "year", "Must lie in the years {first} to {last}", {"first": YEAR_MIN, "last": YEAR_MAX}
        )


def _written_moment(given: object) -> object:
    if isinstance(given, datetime):
        return given
    written = _MOMENT.fullmatch(given) if isinstance(given, str) else None
    if written is not None:
        _check_year(written)
        return given
    raise PydanticCustomError("moment", "Must be a time with its zone as in RFC 3339, such as 2026-11-22T09:30:00Z")


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise PydanticCustomError("moment", "Must name its zone")
    return moment.astimezone(UTC)


def _print_moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Moment = Annotated[
    datetime,
    BeforeValidator(_written_moment),
    AfterValidator(_in_utc),
    PlainSerializer(_print_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T09:30:00Z"]}),
]
"""An instant. Read with any zone, aware UTC inside, written with Z."""


def _written_day(given: object) -> object:
    if isinstance(given, date):
        return given
    written = _DAY.fullmatch(given) if isinstance(given, str) else None
    if written is None:
        raise PydanticCustomError("day", "Must be a day such as 2026-11-22")
    _check_year(written)
    return given


Day = Annotated[
    date,
    BeforeValidator(_written_day),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-22"]}),
]
"""A calendar day. A number of seconds, which the library would take, is refused."""


def _known_month(written: str) -> str:
    parts = _MONTH.fullmatch(written)
    assert parts is not None
    _check_year(parts)
    return written


_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
Month = Annotated[
    str, Strict(), Field(pattern=rf"^{_MONTH.pattern}$", examples=["2026-10"]), AfterValidator(_known_month)
]
"""A calendar month."""


def _written_integer(given: object) -> object:
    if isinstance(given, str) and not _INTEGER.fullmatch(given):
        raise PydanticCustomError("integer", "Must be a whole number, in digits only")
    return given


def _written_flag(given: object) -> object:
    if isinstance(given, str) and given not in {"true", "false"}:
        raise PydanticCustomError("flag", "Must be true or false")
    return given


_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
WRITTEN_INTEGER = BeforeValidator(_written_integer)
"""For whole numbers in queries and paths: "1_0", "+1" and "1.0", which the library would take, are refused."""
WRITTEN_FLAG = BeforeValidator(_written_flag)
"""For flags in queries: "yes", "on" and "1", which the library would take, are refused."""


def _plain(text: str) -> str:
    # Bodies and addresses have been looked through before; what is left are sentences of several lines.
    if hides_something(text, but=BREAKS):
        raise PydanticCustomError("text", "Must hold no control character and no mark of direction")
    return text


def _one_line(text: str) -> str:
    if hides_something(text):
        raise PydanticCustomError("text", "Must be one line without control characters and marks of direction")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("text", "Must not be blank")
    return text


Text = Annotated[str, Strict(), Field(max_length=4000), AfterValidator(_plain)]
"""Words of people; may be empty."""
Why = Annotated[str, Strict(), Field(min_length=1, max_length=4000), AfterValidator(_plain), AfterValidator(_not_blank)]
"""Words of people that have to say something."""
Name = Annotated[
    str,
    Strict(),
    Field(min_length=1, max_length=200),
    AfterValidator(_one_line),
    AfterValidator(_not_blank),
]
"""What something is called."""
ExternalId = Annotated[
    str,
    Strict(),
    Field(min_length=1, max_length=200),
    AfterValidator(_one_line),
    AfterValidator(_not_blank),
]
"""The merchant's own id of a thing; unique per merchant and kind of thing."""
ReasonCode = Annotated[
    str, Strict(), Field(min_length=1, max_length=60, pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$", examples=["reviewed"])
]
"""Why, as a word for machines; the merchant's own vocabulary."""


def _known_currency(code: str) -> str:
    try:
        exponent(code)
    except UnknownCurrency:
        raise PydanticCustomError("currency", "Must be an active ISO 4217 code in capital letters") from None
    return code


Currency = Annotated[
    str,
    Strict(),
    AfterValidator(_known_currency),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["USD"]}),
]


class RateLimitView(View):
    """How fast somebody may ask, at each process of the service."""

    per_second: int
    """Requests per second, for long."""
    burst: int
    """Requests at once."""

    @classmethod
    def of(cls, rate_per_s: int | None, burst: int | None) -> "RateLimitView | None":
        return None if rate_per_s is None or burst is None else cls(per_second=rate_per_s, burst=burst)


class RateLimitBody(Body):
    """How fast somebody may ask, at each process of the service."""

    per_second: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    """Requests per second, for long."""
    burst: Annotated[int, Strict(), Field(ge=1, le=1_000_000)]
    """Requests at once."""


class MoneyView(View):
    """An amount as an integer in minor units: 1999 USD is 19.99 dollars, 1999 VND is 1999 dong."""

    amount_minor: Annotated[int, Strict()]
    currency: str


class MoneyBody(Body):
    """An amount of zero or more in minor units of its currency."""

    amount_minor: Annotated[int, Strict(), Field(ge=0, le=AMOUNT_MAX_MINOR)]
    currency: Currency


class SignedMoneyBody(Body):
    """An amount in minor units of its currency; it may lie below zero."""

    amount_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    currency: Currency
