"""Connected accounts of payees at Stripe: made, shown the way to onboarding, and read (API v1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import stripe

from service.domain.errors import Conflict, Unavailable
from service.domain.provider import TRANSFERS, AccountState, ServiceAgreement
from service.infra import ids
from service.payouts.providers.stripe_api import PAGE, StripeApi, failed, paged

if TYPE_CHECKING:
    from stripe.params import AccountCreateParams, AccountLinkCreateParams, AccountListParams

CLOCKS_APART = timedelta(hours=1)
_SAID_MAX = 300
"""Characters of what Stripe says that are passed on."""
_REQUIREMENTS = (
    "currently_due",
    "past_due",
    "eventually_due",
    "pending_verification",
    "disabled_reason",
    "current_deadline",
)

T = TypeVar("T")


class StripeAway(Unavailable):
    """Whether Stripe did what it was asked is not known; asking again does it once."""

    code = "stripe-away"
    title = "Stripe did not answer, try again"
    retry_after_s = 5


class StripeRefused(Conflict):
    code = "stripe-refused"
    title = "Stripe refused the request"


class KeyRefused(StripeRefused):
    """The operator's key may not ask for this: nothing is said of the request itself."""


class KeyMismatched(Exception):
    """The same key was used with other parameters: the account is there already, or our code changed in between."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to be made. number: of the request, part of its key."""

    merchant_id: UUID
    affiliate_id: UUID
    number: int
    country: str
    agreement: ServiceAgreement

    def key(self, *, is_test: bool) -> str:
        """The idempotency key: made of whose account it is, so that no crash can lose or double it."""
        mode = "test" if is_test else "live"
        whose = f"{ids.encode('mer', self.merchant_id)}:{ids.encode('aff', self.affiliate_id)}"
        return f"{mode}:account:{whose}:{self.number}"


@dataclass(frozen=True, slots=True)
class OnboardingLink:
    """Where a payee tells Stripe what it wants to know. It opens once."""

    url: str
    expires_at: datetime


class StripeAccounts:
    """Calls raise StripeAway where it is not known what was done, StripeRefused where nothing was."""

    def __init__(self, api: StripeApi) -> None:
        self._api = api

    @property
    def is_test(self) -> bool:
        """Whether our key is one for Stripe's test mode, which serves test merchants only."""
        return self._api.is_test

    def create(self, wanted: Wanted) -> AccountState:
        """Make an account, once per key. Raises KeyMismatched too."""
        self._api.writes.wait()
        options: Any = {"idempotency_key": wanted.key(is_test=self.is_test)}
        return _told(lambda: state_of(self._api.client.v1.accounts.create(params_of(wanted), options).to_dict()))

    def find(self, wanted: Wanted, since: datetime) -> AccountState | None:
        """Return the account that was made for an affiliate since a moment, None where there is none."""
        params = cast("AccountListParams", {"created": {"gte": int((since - CLOCKS_APART).timestamp())}, "limit": PAGE})
        theirs = metadata_of(wanted)

        def read() -> list[AccountState]:
            listed = paged(self._api, lambda: self._api.client.v1.accounts.list(params))
            return [state_of(each) for each in listed if theirs.items() <= (each.get("metadata") or {}).items()]

        # The oldest: there is a second one only where somebody else made it.
        found = _told(read)
        return found[-1] if found else None

    def link(self, account_id: str, *, return_url: str, refresh_url: str) -> OnboardingLink:
        """Return a link to Stripe's own onboarding."""
        params: AccountLinkCreateParams = {
            "account": account_id,
            "type": "account_onboarding",
            "return_url": return_url,
            "refresh_url": refresh_url,
        }
        self._api.writes.wait()
        return _told(lambda: _link_of(self._api.client.v1.account_links.create(params)))

    def read(self, account_id: str) -> AccountState:
        """Return an account as it is now."""
        self._api.reads.wait()
        return _told(lambda: state_of(self._api.client.v1.accounts.retrieve(account_id).to_dict()))

    def close(self) -> None:
        self._api.close()


def params_of(wanted: Wanted) -> "AccountCreateParams":
    """Return the parameters of an account that takes transfers and is onboarded, and served, by Stripe itself.

    They are what `type=express` stood for. Source: Stripe documentation, Connect, "Migrate to controller properties",
    read 2026-11.
    """
    params: AccountCreateParams = {
        "controller": {
            "fees": {"payer": "application"},
            "losses": {"payments": "application"},
            "requirement_collection": "stripe",
            "stripe_dashboard": {"type": "express"},
        },
        "capabilities": {"transfers": {"requested": True}},
        "country": wanted.country,
        "metadata": metadata_of(wanted),
    }
    if wanted.agreement is ServiceAgreement.RECIPIENT:
        params["tos_acceptance"] = {"service_agreement": "recipient"}
    return params


def metadata_of(wanted: Wanted) -> dict[str, str]:
    """Return what names whose account it is."""
    return {
        "koc_merchant": ids.encode("mer", wanted.merchant_id),
        "koc_affiliate": ids.encode("aff", wanted.affiliate_id),
    }


def state_of(made: Mapping[str, Any]) -> AccountState:
    """Read an account as Stripe writes it."""
    told = made.get("requirements") or {}
    requirements: dict[str, Any] = {name: told.get(name) for name in _REQUIREMENTS}
    if requirements["current_deadline"] is not None:
        requirements["current_deadline"] = datetime.fromtimestamp(requirements["current_deadline"], UTC).isoformat()
    return AccountState(
        account_id=made["id"],
        charges_enabled=bool(made.get("charges_enabled")),
        payouts_enabled=bool(made.get("payouts_enabled")),
        details_submitted=bool(made.get("details_submitted")),
        capabilities={TRANSFERS: "unrequested"} | dict(made.get("capabilities") or {}),
        requirements=requirements,
    )


def _link_of(made: stripe.AccountLink) -> OnboardingLink:
    return OnboardingLink(made.url, datetime.fromtimestamp(made.expires_at, UTC))


def _told(ask: Callable[[], T]) -> T:
    """Return what a call returns. Raises StripeAway, StripeRefused, KeyRefused, KeyMismatched."""
    try:
        return ask()
    except stripe.IdempotencyError:
        raise KeyMismatched from None
    except stripe.InvalidRequestError as error:
        raise StripeRefused(f"Stripe says: {(error.user_message or error.code or 'no reason')[:_SAID_MAX]}") from None
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise KeyRefused(f"Stripe does not accept the operator's key (HTTP {error.http_status}).") from None
    except stripe.StripeError as error:
        raise StripeAway(f"Stripe's answer: {failed(error).code}. Ask again: nothing is done twice.") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise StripeAway("Stripe's answer could not be read. Ask again: nothing is done twice.") from None
