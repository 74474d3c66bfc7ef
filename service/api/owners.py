"""Whose the things are that a route shows and changes; declared on each route."""

from enum import StrEnum
from typing import Any


class Owner(StrEnum):
    """Whose the things are that a route shows and changes, and so how its caller is kept to its own."""

    PUBLIC = "public"
    """Nobody's: no key is asked for, and nothing of a merchant is shown but what it published."""
    OPERATOR = "operator"
    """Those who run the service: keys of no merchant, and no others."""
    MERCHANT = "merchant"
    """The merchant of the key."""
    AFFILIATE = "affiliate"
    """The affiliate of the key."""
    MERCHANT_OR_AFFILIATE = "merchant or affiliate"
    """The merchant of the key; of that only what is the affiliate's own, if the key is an affiliate's."""
    SOURCE = "source"
    """The merchant of the source in the address; proven by a signature over the body."""
    BROWSER = "browser"
    """The merchant of a publishable key, which anybody may hold: what the merchant published."""


PUBLIC: dict[str, Any] = {"x-owner": Owner.PUBLIC.value}
"""`openapi_extra` of a route that asks for no key: it has to say so."""
