"""The platform's account at Stripe: one client, how fast it is asked, and what its failures mean."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import requests
import stripe
from requests.adapters import HTTPAdapter

from service.domain.payout import Answer, AnswerKind
from service.payouts.providers.pace import Pace

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60
WRITES_PER_SECOND = 20
"""Below the 25 that Stripe allows one endpoint. Source: Stripe documentation, Rate limits, read 2026-11."""
READS_PER_SECOND = 20
PAGE = 100
"""Things on a page, the most that Stripe gives."""
_CONNECTIONS = 16

DEFINITE_REFUSALS = frozenset(
    {
        "account_closed",
        "account_country_invalid_address",
        "account_invalid",
        "amount_too_large",
        "amount_too_small",
        "balance_insufficient",
        "capability_not_active",
        "country_unsupported",
        "insufficient_capabilities_for_transfer",
        "insufficient_funds",
        "invalid_currency",
        "livemode_mismatch",
        "no_account",
        "not_allowed_on_standard_account",
        "not_found",
        "parameter_invalid_empty",
        "parameter_invalid_integer",
        "parameter_invalid_string_blank",
        "parameter_invalid_string_empty",
        "parameter_missing",
        "parameter_unknown",
        "parameters_exclusive",
        "payouts_not_allowed",
        "resource_missing",
        "transfers_not_allowed",
    }
)
"""Error codes of a 400, 402 or 404 that say nothing was made. Any other code proves nothing.
Source: Stripe documentation, Error codes, read 2026-11; `not_found` is what API v2 says for resource_missing."""

_REFUSALS_V2 = (
    stripe.BlockedByStripeError,
    stripe.CapabilityNotEnabledError,
    stripe.InsufficientFundsError,
    stripe.InvalidPayoutMethodError,
    stripe.RecipientNotNotifiableError,
)
"""Types of errors of API v2 that say of one request that nothing was made."""
_STOPS_V2 = (stripe.FeatureNotEnabledError, stripe.FinancialAccountNotOpenError)
"""Types that say that no request of ours would be done."""

T = TypeVar("T")


class StripeApi:
    """May be used by several threads at once."""

    def __init__(
        self, secret_key: str, *, api_base: str, timeouts_s: tuple[int, int] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    ) -> None:
        """secret_key: of the platform's account. api_base: where Stripe's API is. timeouts_s: to connect, and to read."""
        self.is_test = secret_key.startswith(("sk_test_", "rk_test_"))
        # One session for all threads: it only ever holds connections. Retries would hide how often a key was sent.
        self._session = requests.session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS, max_retries=0))
        self.client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base},
            http_client=stripe.RequestsClient(timeout=timeouts_s, session=self._session),
            max_network_retries=0,
        )
        self.writes = Pace(WRITES_PER_SECOND)
        self.reads = Pace(READS_PER_SECOND)

    def close(self) -> None:
        """Give back connections."""
        self._session.close()


class _Page(Protocol):
    """A page of either version of the API; iterating goes on over the next ones."""

    def auto_paging_iter(self) -> Any:
        """Return all things from this page on."""


def paged(api: StripeApi, first: Callable[[], _Page]) -> Iterator[dict[str, Any]]:
    """Yield all things of a listing as Stripe writes them, no faster than the pace. Raises what the library raises."""
    api.reads.wait()
    for number, each in enumerate(first().auto_paging_iter(), start=1):
        yield each.to_dict()
        if number % PAGE == 0:
            # The library reads the next page now.
            api.reads.wait()


def asked(call: Callable[[], T]) -> T | Answer:
    """Return what a call returns, or what its failure means (docs/payouts.md)."""
    try:
        return call()
    except stripe.StripeError as error:
        return failed(error)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A 2xx whose body is not the object it should be.
        return Answer(AnswerKind.UNKNOWN, code="unreadable_answer")


def failed(error: stripe.StripeError) -> Answer:
    """Return what a failure proves of the request it answers."""
    code = error.code or ""
    match error:
        case stripe.AuthenticationError() | stripe.PermissionError():
            return Answer(AnswerKind.STOPPED, code=code or f"http_{error.http_status}")
        case stripe.IdempotencyError():
            # A key still in use is answered 409, which the library does not make this error of.
            return Answer(AnswerKind.MISMATCHED_KEY, code=code or "idempotency_error")
        case stripe.InvalidRequestError() | stripe.CardError() if code in DEFINITE_REFUSALS:
            return Answer(AnswerKind.REFUSED, code=code)
        case stripe.APIConnectionError():
            return Answer(AnswerKind.UNKNOWN, code="connection_failed")
        case _ if isinstance(error, _REFUSALS_V2):
            return Answer(AnswerKind.REFUSED, code=code or type(error).__name__)
        case _ if isinstance(error, _STOPS_V2):
            return Answer(AnswerKind.STOPPED, code=code or type(error).__name__)
        case _:
            return Answer(AnswerKind.UNKNOWN, code=code or f"http_{error.http_status}")
