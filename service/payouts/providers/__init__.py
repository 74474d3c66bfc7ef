"""The rails of this process, by name."""

from collections.abc import Mapping

from service.infra.settings import Settings
from service.payouts.providers.model import DESTINATION, Listing, Rail, RailNotAvailable, Sending, Transfer
from service.payouts.providers.sandbox import SandboxRail
from service.payouts.providers.stripe_connect import StripeConnectRail

__all__ = [
    "DESTINATION",
    "Listing",
    "Rail",
    "RailNotAvailable",
    "Rails",
    "Sending",
    "Transfer",
    "make_rails",
    "rail_for",
]

Rails = Mapping[str, Rail]


def make_rails(settings: Settings) -> Rails:
    """Return the rails the settings allow: the sandbox always, Stripe Connect when its key is set."""
    rails: dict[str, Rail] = {}
    sandbox = SandboxRail()
    rails[sandbox.name] = sandbox
    if settings.stripe_secret_key is not None:
        stripe = StripeConnectRail(settings.stripe_secret_key, api_base=settings.stripe_api_base)
        rails[stripe.name] = stripe
    return rails


def rail_for(rails: Rails, name: str, *, is_test: bool) -> Rail:
    """Return a rail that this kind of merchant may use. Raises RailNotAvailable."""
    rail = rails.get(name)
    if rail is None:
        raise RailNotAvailable(f"{name[:40]!r} is not a rail of this service; it has {', '.join(sorted(rails))}.")
    if not rail.serves(is_test=is_test):
        kind = "a test" if is_test else "a live"
        raise RailNotAvailable(f"The rail {rail.name} as it is set up does not pay for {kind} merchant.")
    return rail
