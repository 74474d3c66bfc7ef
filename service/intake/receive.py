"""From a verified delivery to what we read in it; pure but for the keys it is handed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from service.domain.order import JsonObject
from service.domain.text import made_visible
from service.infra.pace import Pace
from service.infra.security import Security
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import BadSignature, Delivery, NotUnderstood, Reading
from service.intake.record import Received
from service.tables.orders import InboxState
from service.tables.parties import Platform
from service.tracking.find import ClickSigner

_NAMED_MAX = 100
"""Characters of a shop's name that are told: whoever sent it chose them."""


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source as the intake needs it: the secrets in the clear, never logged. shop_domain: the only one, if named.

    secret: empty where nothing has to be verified. previous_secret: the one before it, which verifies too until its time
    is over; empty if there is none. settings, settings_version: how its bodies are to be read, and by which version of
    that; 0 where it has none. is_test: its merchant is one for trying out. pace: of its own; None as the service is set up.
    """

    id: UUID
    merchant_id: UUID
    platform: Platform
    secret: bytes = field(repr=False)
    shop_domain: str | None = None
    settings: JsonObject = field(default_factory=dict)
    settings_version: int = 0
    is_test: bool = False
    secret_expires_at: datetime | None = None
    previous_secret: bytes = field(default=b"", repr=False)
    previous_secret_expires_at: datetime | None = None
    pace: Pace | None = None

    def secrets(self, now: datetime) -> tuple[bytes, ...]:
        """Those that verify now, the newest first; never more than two."""
        dated = ((self.secret, self.secret_expires_at), (self.previous_secret, self.previous_secret_expires_at))
        return tuple(secret for secret, until in dated if secret and (until is None or now < until))


def verified(source: KnownSource, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
    """Return the delivery when it is signed with a secret that is valid now. Raises BadSignature.

    All of them are tried, whichever fits: the time taken tells nothing about which one the sender has.
    """
    delivery: Delivery | None = None
    refusal = BadSignature("No secret of this source is valid any more; rotate it.")
    verify = ADAPTERS[source.platform].verify
    for number, secret in enumerate(source.secrets(now)):
        try:
            fits = verify(secret, headers, body, now)
        except BadSignature as error:
            refusal = error if number == 0 else refusal
        else:
            delivery = delivery or fits
    if delivery is None:
        raise refusal
    return delivery


def reading_of(security: Security, signer: ClickSigner, merchant_id: UUID) -> Reading:
    """What a translation may ask of one merchant."""
    return Reading(read_click=signer.read, identify=partial(security.identity, merchant_id))


def receive(source: KnownSource, delivery: Delivery, reading: Reading, grammar: Platform | None = None) -> Received:
    """Read a delivery in its source's language, or in another. What is not understood is kept parked, with the reason.

    grammar: the platform in whose language the body is, where that is not the source's own.
    """
    received = Received(
        source.merchant_id,
        source.id,
        delivery.delivery_id,
        delivery.topic,
        delivery.body,
        hashlib.sha256(delivery.body).digest(),
        grammar=grammar,
        settings_version=source.settings_version,
        shop_domain=delivery.shop_domain,
    )
    if source.shop_domain and delivery.shop_domain and source.shop_domain != delivery.shop_domain.lower():
        return _another_shops(received, source.shop_domain, delivery.shop_domain)
    try:
        translation = ADAPTERS[grammar or source.platform].translate(
            delivery, replace(reading, settings=source.settings, is_test=source.is_test)
        )
    except NotUnderstood as error:
        return received.parked(error.reason_code, error.detail)
    if source.shop_domain and translation.shop_domain and source.shop_domain != translation.shop_domain.lower():
        return _another_shops(received, source.shop_domain, translation.shop_domain)
    return replace(
        received,
        order=(source.id, translation.order_id) if translation.order_id else None,
        facts=translation.facts,
        understood=translation.understood,
        state=InboxState.IGNORED if translation.ignored else InboxState.APPLIED,
        reason_code=translation.ignored,
        detail=translation.detail,
    )


def _another_shops(received: Received, shop_domain: str, named: str) -> Received:
    """Signed by this source's secret, and yet not from its shop: two shops share a secret, or one was copied."""
    shown = made_visible(named)[:_NAMED_MAX]
    return received.parked("other_shop_domain", f"This source is {shop_domain}'s; this names {shown}.")
