"""What a provider of payments tells of its own accord: about payees' accounts there, and about money that has left."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class EventSubject(StrEnum):
    """What an event of a provider is about."""

    ACCOUNT = "account"
    """A payee's account there changed. The event says that it did; what it is now is asked for."""
    TRANSFER = "transfer"
    BANK_PAYOUT = "bank_payout"
    """From a payee's account at the provider to the payee's own bank."""
    OUTBOUND_PAYMENT = "outbound_payment"
    """From our account at the provider to a payee's bank. What became of it is asked for."""


class EventState(StrEnum):
    WAITING = "waiting"
    """Kept, and not applied yet: the worker does it, or what it is about is not known to have been sent."""
    APPLIED = "applied"
    FOREIGN = "foreign"
    """About nothing of ours: the account at the provider is used by others too."""
    PARKED = "parked"
    """Nothing of ours explains it, or it could not be read: people look."""


class BankPayoutStatus(StrEnum):
    PAID = "paid"
    FAILED = "failed"
    """For good, also where it was told as paid before or is told so afterwards."""


class ServiceAgreement(StrEnum):
    """What a payee agrees to with the provider; it cannot change afterwards."""

    FULL = "full"
    RECIPIENT = "recipient"
    """Takes transfers only; for payees in countries the platform cannot serve otherwise."""


class ProviderDifferenceKind(StrEnum):
    """Why a day of our books and a day at the provider differ."""

    TIMING = "timing"
    """Both have it whole, on different days."""
    PENDING = "pending"
    """The provider has it, and our attempt is not resolved yet."""
    NOT_IN_LEDGER = "not_in_ledger"
    NOT_AT_PROVIDER = "not_at_provider"
    AMOUNT = "amount"


EXPLAINED = frozenset({ProviderDifferenceKind.TIMING, ProviderDifferenceKind.PENDING})
"""Differences that go away by themselves."""


def why_different(
    *, ledger_minor: int, provider_minor: int | None, has_open_attempt: bool, is_known: bool
) -> ProviderDifferenceKind:
    """Say why a transfer's two sides differ on one day. ledger_minor, provider_minor: of all days, out less back.

    provider_minor: None where the provider does not know it. is_known: an attempt of ours was accepted with it.
    """
    if provider_minor is None:
        return ProviderDifferenceKind.NOT_AT_PROVIDER
    if ledger_minor == provider_minor:
        return ProviderDifferenceKind.TIMING
    if is_known:
        return ProviderDifferenceKind.AMOUNT
    return ProviderDifferenceKind.PENDING if has_open_attempt else ProviderDifferenceKind.NOT_IN_LEDGER


TRANSFERS = "transfers"
"""The capability an account needs to be paid."""
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class AccountState:
    """A payee's account as the provider has it.

    capabilities: name to active, inactive, pending or unrequested. requirements: what is still wanted of the payee.
    """

    account_id: str
    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    capabilities: Mapping[str, str]
    requirements: Mapping[str, object]

    @property
    def can_be_paid(self) -> bool:
        """Whether a transfer to it would be taken, and go on to the payee's bank."""
        return self.payouts_enabled and self.capabilities.get(TRANSFERS) == ACTIVE
