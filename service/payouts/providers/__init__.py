"""The rails of this process, by name."""

from collections.abc import Mapping

from service.domain.payout_file import FileRailName
from service.infra.settings import Settings
from service.payouts.providers.file_model import FileRail
from service.payouts.providers.model import (
    DESTINATION,
    Listing,
    Payable,
    Rail,
    RailNotAvailable,
    Sending,
    ToldRail,
    Transfer,
)
from service.payouts.providers.sandbox import SandboxRail
from service.payouts.providers.sepa_file import SepaFileRail
from service.payouts.providers.sheet_file import ACCOUNTS, SheetFileRail
from service.payouts.providers.stripe_api import StripeApi
from service.payouts.providers.stripe_connect import StripeConnectRail
from service.payouts.providers.stripe_global import StripeGlobalPayoutsRail

__all__ = [
    "DESTINATION",
    "FILE_RAILS",
    "FileRail",
    "Listing",
    "Payable",
    "Rail",
    "RailNotAvailable",
    "Rails",
    "Sending",
    "StripeApi",
    "ToldRail",
    "Transfer",
    "api_of",
    "make_rails",
    "rail_for",
    "told_rails",
]

Rails = Mapping[str, Rail]

FILE_RAILS: Mapping[str, FileRail] = {
    FileRailName.SEPA_FILE.value: SepaFileRail(),
    **{name.value: SheetFileRail.of_preset(name) for name in ACCOUNTS},
}
"""The rails without a network; every process has them all."""


def make_rails(settings: Settings) -> Rails:
    """Return the rails the settings allow: the sandbox always, Stripe's when its key is set."""
    rails: dict[str, Rail] = {}
    sandbox = SandboxRail()
    rails[sandbox.name] = sandbox
    if settings.stripe_secret_key is not None:
        stripe = StripeConnectRail(settings.stripe_secret_key, api_base=settings.stripe_api_base)
        rails[stripe.name] = stripe
        if settings.stripe_financial_account is not None:
            payouts = StripeGlobalPayoutsRail(stripe.api, settings.stripe_financial_account)
            rails[payouts.name] = payouts
    return rails


def told_rails(rails: Rails) -> Mapping[str, ToldRail]:
    """Return those rails whose provider can be asked about everything it did."""
    return {name: rail for name, rail in rails.items() if isinstance(rail, StripeConnectRail | StripeGlobalPayoutsRail)}


def api_of(rails: Rails) -> StripeApi | None:
    """Return the platform's account at Stripe, None where it is not set up."""
    rail = rails.get(StripeConnectRail.name)
    return rail.api if isinstance(rail, StripeConnectRail) else None


def rail_for(rails: Rails, name: str, *, is_test: bool) -> Payable:
    """Return a rail that this kind of merchant may use. Raises RailNotAvailable."""
    rail: Payable | None = rails.get(name) or FILE_RAILS.get(name)
    if rail is None:
        known = ", ".join(sorted([*rails, *FILE_RAILS]))
        raise RailNotAvailable(f"{name[:40]!r} is not a rail of this service; it has {known}.")
    if not rail.serves(is_test=is_test):
        kind = "a test" if is_test else "a live"
        raise RailNotAvailable(f"The rail {rail.name} as it is set up does not pay for {kind} merchant.")
    return rail


def other_rails(rails: Rails, rail: Payable, currency: str, *, is_test: bool) -> list[str]:
    """Names of the other rails, files among them, that pay a currency for this kind of merchant."""
    known: dict[str, Payable] = {**FILE_RAILS, **rails}
    return [
        name
        for name, each in known.items()
        if name != rail.name and each.serves(is_test=is_test) and each.step_minor(currency) is not None
    ]
