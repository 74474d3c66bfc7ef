"""What every shop adapter takes and gives: a verified delivery in, facts of one order out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.errors import Unauthenticated
from service.domain.order import Fact, JsonObject, Touch


class BadSignature(Unauthenticated):
    """Answered with 401; nothing of the delivery is kept."""

    code = "bad-signature"
    title = "The delivery is not signed by the source's secret"


class NotUnderstood(Exception):
    """Rightly signed, but the body cannot be read as an event: the delivery parks with this reason.

    reason_code: stable, snake_case. detail: names the field by its path and what was expected.
    """

    def __init__(self, reason_code: str, detail: str) -> None:
        super().__init__(f"{reason_code}: {detail}")
        self.reason_code = reason_code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook whose signature fits its bytes.

    delivery_id: the same for each retry of the sender. topic: the shop's name for the event; empty where the body
    says it. shop_domain: who says to have sent it, empty if nobody; a header no signature covers.
    """

    delivery_id: str
    topic: str
    body: bytes
    shop_domain: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a translation has to ask of the merchant it works for.

    read_click: a click id → the touch it stands for, without link and time when it was not signed by us.
    identify: (kind, value, country) → keyed hash of an `IdentityKind`; empty when nothing is left of the value. country:
    ISO alpha-2, where a phone number without its country code belongs; empty where that is not known.
    settings: the source's own, as its platform's adapter defines them; checked when they were set.
    is_test: the merchant is one for trying out, so that what a shop marks as a test counts.
    """

    read_click: Callable[[str], Touch]
    identify: Callable[[str, str, str], str]
    settings: JsonObject = field(default_factory=dict)
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """What a delivery says about one order.

    order_id: the shop's own id; empty only when `ignored` and the body names no order. understood: told to the sender,
    amounts in minor units; holds no personal data. ignored: the reason_code why it rightly has no effect; then there
    are no facts. detail: one sentence more for people. shop_domain: whose the signed body says it is, empty if it
    does not say.
    """

    order_id: str
    facts: tuple[Fact, ...]
    understood: JsonObject
    ignored: str | None = None
    detail: str = ""
    shop_domain: str = ""


def no_settings(settings: JsonObject) -> None:
    """The settings of a platform whose sources have none."""
    if settings:
        raise NotUnderstood("invalid_settings", f"{min(settings)[:40]!r}: sources of this platform have no settings.")


def any_secret(secret: str) -> str:  # noqa: ARG001 - whatever it is
    """No flaw: the platform signs with any text."""
    return ""


def never_a_ping(headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG001 - whatever they are
    return False


@dataclass(frozen=True, slots=True)
class Adapter:
    """One platform. All are pure but for `new_secret`, and safe to call from any thread.

    verify: (secret, headers by lower-case name, raw body, our now) → delivery; raises BadSignature and nothing else.
    translate: raises NotUnderstood and nothing else. new_secret: for a source that brings none of its own.
    secret_flaw: why nothing can be signed with a secret; empty if something can. check_settings: raises NotUnderstood
    for settings that `translate` could not read. is_ping: whether this is what the platform sends, unsigned, to see
    whether anybody listens; it is answered 200 and not read, so it may only be true of a body that says nothing.
    challenged: (settings, query) → what to answer a platform that asks by GET whether its deliveries are wanted; None
    refuses; absent where the platform does not ask. wants_no_words: it counts a delivery as taken only when the answer
    is 200 and empty; what became of it, the inbox says.
    """

    verify: Callable[[bytes, Mapping[str, str], bytes, datetime], Delivery]
    translate: Callable[[Delivery, Reading], Translation]
    new_secret: Callable[[], str]
    secret_flaw: Callable[[str], str] = any_secret
    check_settings: Callable[[JsonObject], None] = no_settings
    is_ping: Callable[[Mapping[str, str], bytes], bool] = never_a_ping
    challenged: Callable[[JsonObject, Mapping[str, str]], str | None] | None = None
    wants_no_words: bool = False
