"""Stripe Connect: transfers from the platform's balance to connected accounts (API v1)."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import UUID

import requests
import stripe
from requests.adapters import HTTPAdapter

from service.domain.money import EXPONENTS
from service.domain.payout import Answer, AnswerKind
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.payouts.providers.model import Listing, Sending, Transfer
from service.payouts.providers.pace import Pace

if TYPE_CHECKING:
    from stripe.params import TransferCreateParams, TransferListParams

NAME = "stripe_connect"
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60
WRITES_PER_SECOND = 20
"""Below the 25 that Stripe allows one endpoint. Source: Stripe documentation, Rate limits, read 2026-11."""
READS_PER_SECOND = 20

_STRIPE_EXPONENTS = {"ISK": 2, "UGX": 2, "MGA": 0}
"""Where Stripe's minor unit is not ISO's. Source: Stripe documentation, Currencies, "Zero-decimal currencies" and
"Special cases", read 2026-11; all others are as in ISO 4217."""
_WHOLE_UNITS_ONLY = frozenset({"HUF", "TWD"})
"""Two decimals in requests, but only whole units are paid out. Source: as above."""
_LAST_DIGIT_ZERO = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
"""Three decimals of which the last must be 0. Source: as above; other three-decimal currencies are not offered."""

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
"""Error codes of a 400, 402 or 404 that say the transfer was not made. Any other code proves nothing.
Source: Stripe documentation, Error codes, read 2026-11."""


class StripeConnectRail:
    """One attempt is one transfer; the transfer group is the item, so a look-up finds every attempt of it."""

    name = NAME
    keeps_transfers = True
    at_once = 16

    def __init__(
        self, secret_key: str, *, api_base: str, timeouts_s: tuple[int, int] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    ) -> None:
        """secret_key: of the platform's account. api_base: where Stripe's API is. timeouts_s: to connect, and to read."""
        self._is_test = secret_key.startswith(("sk_test_", "rk_test_"))
        # One session for all threads: it only ever holds connections. Retries would hide how often a key was sent.
        self._session = requests.session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=self.at_once, max_retries=0))
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base},
            http_client=stripe.RequestsClient(timeout=timeouts_s, session=self._session),
            max_network_retries=0,
        )
        self._writes = Pace(WRITES_PER_SECOND)
        self._reads = Pace(READS_PER_SECOND)

    def serves(self, *, is_test: bool) -> bool:
        """A test key pays test merchants only, a live key live ones only."""
        return is_test == self._is_test

    def step_minor(self, currency: str) -> int | None:
        return step_minor(currency)

    def build_request(self, sending: Sending) -> bytes:
        params: TransferCreateParams = {
            "amount": stripe_amount(sending.amount_minor, sending.currency),
            "currency": sending.currency.lower(),
            "destination": sending.destination,
            "transfer_group": ids.encode("pay", sending.item_id),
            "metadata": {
                "koc_merchant": ids.encode("mer", sending.merchant_id),
                "koc_run": ids.encode("run", sending.run_id),
                "koc_item": ids.encode("pay", sending.item_id),
                "koc_attempt": str(sending.number),
            },
        }
        return json.dumps(params, sort_keys=True).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        params = cast("TransferCreateParams", json.loads(request))
        self._writes.wait()
        return _asked(
            lambda: _transfer(
                self._client.v1.transfers.create(params, {"idempotency_key": idempotency_key})
            ).as_answer()
        )

    def find(self, request: bytes) -> Listing:
        group = json.loads(request)["transfer_group"]
        return self._listing({"transfer_group": group, "limit": 100}, lambda _: True)

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        run = ids.encode("run", run_id)
        created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        return self._listing(
            cast("TransferListParams", {"created": created, "limit": 100}),
            lambda transfer: transfer.metadata.to_dict().get("koc_run") == run,
        )

    def close(self) -> None:
        self._session.close()

    def _listing(self, params: "TransferListParams", ours: Callable[[stripe.Transfer], bool]) -> Listing:
        found: list[Transfer] = []

        def read() -> Answer | None:
            self._reads.wait()
            page = self._client.v1.transfers.list(params)
            while True:
                found.extend(_transfer(each) for each in page.data if ours(each))
                if not page.has_more:
                    return None
                if not page.data:
                    raise ValueError("a page without transfers that says there are more")
                crash_point(CrashPoint.PAGE_READ)
                self._reads.wait()
                page = page.next_page()

        trouble = _asked(read)
        return Listing(tuple(found)) if trouble is None else Listing(trouble=trouble)


def step_minor(currency: str) -> int | None:
    """Return the smallest amount Stripe pays in ISO minor units, None for currencies it does not offer."""
    iso = EXPONENTS.get(currency)
    if iso is None or iso > 3 or (iso == 3 and currency not in _LAST_DIGIT_ZERO):
        return None
    if currency in _LAST_DIGIT_ZERO:
        return 10
    whole_unit: int = 10**iso
    return whole_unit if currency in _WHOLE_UNITS_ONLY or _STRIPE_EXPONENTS.get(currency, iso) < iso else 1


def stripe_amount(amount_minor: int, currency: str) -> int:
    """Return ISO minor units as Stripe counts them; the amount must be a multiple of the step."""
    up, down = _factors(currency)
    whole, rest = divmod(amount_minor * up, down)
    assert rest == 0, f"{amount_minor} {currency} is below a step"
    return whole


def iso_amount(stripe_minor: int, currency: str) -> int:
    """Return what Stripe counts as ISO minor units; digits ISO does not have are cut off, which no transfer of ours has."""
    up, down = _factors(currency)
    return stripe_minor * down // up


def _factors(currency: str) -> tuple[int, int]:
    """(by what to multiply, by what to divide) ISO minor units to get Stripe's."""
    # A transfer that is not ours may be in a currency we do not know; two decimals are what Stripe then means.
    iso = EXPONENTS.get(currency, 2)
    theirs = _STRIPE_EXPONENTS.get(currency, iso)
    up: int = 10 ** max(0, theirs - iso)
    down: int = 10 ** max(0, iso - theirs)
    return up, down


def _transfer(made: stripe.Transfer) -> Transfer:
    """Read a transfer. Raises what a body that is no transfer raises."""
    currency = made.currency.upper()
    destination = made.destination
    metadata = made.metadata.to_dict()
    number = metadata.get("koc_attempt", "")
    return Transfer(
        item_id=_item(made.transfer_group or ""),
        number=int(number) if number.isdecimal() else 0,
        reference=made.id,
        amount_minor=iso_amount(made.amount, currency),
        reversed_minor=iso_amount(made.amount_reversed, currency),
        currency=currency,
        destination=destination if isinstance(destination, str) else "" if destination is None else destination.id,
    )


def _item(group: str) -> UUID:
    """Return the item a transfer group names, the zero id for a group that is not ours."""
    try:
        return ids.decode("pay", group)
    except ValueError:
        return UUID(int=0)


T = TypeVar("T")


def _asked(call: Callable[[], T]) -> T | Answer:
    """Return what a call returns, or what its failure means (docs/payouts.md)."""
    try:
        return call()
    except stripe.StripeError as error:
        return _failed(error)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A 2xx whose body is not the transfer it should be.
        return Answer(AnswerKind.UNKNOWN, code="unreadable_answer")


def _failed(error: stripe.StripeError) -> Answer:
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
        case _:
            return Answer(AnswerKind.UNKNOWN, code=code or f"http_{error.http_status}")
