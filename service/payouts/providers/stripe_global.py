"""Stripe Global Payouts: outbound payments from a FinancialAccount to recipients' own banks (API v2)."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from service.domain.payout import Answer
from service.payouts.providers.model import Listing, Movement, Movements, Sending, Transfer
from service.payouts.providers.stripe_amounts import iso_amount, step_minor, stripe_amount
from service.payouts.providers.stripe_api import PAGE, StripeApi, asked, paged
from service.payouts.providers.stripe_connect import NOBODYS, metadata_of, named, number_of

if TYPE_CHECKING:
    from stripe.params.v2.money_management import (
        OutboundPaymentCreateParams,
        OutboundPaymentListParams,
        TransactionListParams,
    )

NAME = "stripe_global_payouts"
CLOCKS_APART = timedelta(hours=1)
"""How much earlier than a payout was made we look for what was sent of it."""

_NEVER_LEFT = frozenset({"failed", "canceled"})
_MOVES = frozenset({"outbound_payment", "outbound_payment_reversal"})
"""Categories of a FinancialAccount's transactions. Source: stripe-python 16.1, v2.money_management.Transaction."""


class StripeGlobalPayoutsRail:
    """One attempt is one outbound payment. Stripe lists them by recipient and time, and our metadata tells them apart.

    Keys are kept for 30 days and failed work is done anew under the same key, so what is safe with the shorter memory of
    API v1 (`domain.payout.SEND_WINDOW`, `ABSENCE_AFTER`) is safe here too. Source: Stripe documentation, API v2
    overview, "Idempotency", read 2026-11.
    """

    name = NAME
    keeps_transfers = True
    at_once = 16

    def __init__(self, api: StripeApi, financial_account: str) -> None:
        """financial_account: `fa_…`, from which the money leaves; it needs a balance in each currency that is paid."""
        self.api = api
        self._financial_account = financial_account

    def serves(self, *, is_test: bool) -> bool:
        """A test key pays test merchants only, a live key live ones only."""
        return is_test == self.api.is_test

    def step_minor(self, currency: str) -> int | None:
        return step_minor(currency)

    def available_minor(self, currency: str) -> int | Answer | None:
        def read() -> int:
            self.api.reads.wait()
            account = self.api.client.v2.money_management.financial_accounts.retrieve(self._financial_account)
            available = account.to_dict()["balance"]["available"].get(currency.lower())
            return 0 if available is None else iso_amount(available["value"], currency)

        return asked(read)

    def build_request(self, sending: Sending) -> bytes:
        currency = sending.currency.lower()
        params: OutboundPaymentCreateParams = {
            "from": {"financial_account": self._financial_account, "currency": currency},
            "to": {"recipient": sending.destination, "currency": currency},
            "amount": {"value": stripe_amount(sending.amount_minor, sending.currency), "currency": currency},
            "metadata": metadata_of(sending),
        }
        return json.dumps(params, sort_keys=True).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        params = cast("OutboundPaymentCreateParams", json.loads(request))
        self.api.writes.wait()
        return asked(
            lambda: payment_of(
                self.api.client.v2.money_management.outbound_payments.create(
                    params, {"idempotency_key": idempotency_key}
                ).to_dict()
            ).as_answer()
        )

    def find(self, request: bytes) -> Listing:
        params = json.loads(request)
        item_id = named("pay", params["metadata"]["koc_item"]) or NOBODYS
        # The id tells when the payout was made, by our clock: nothing of it was sent before.
        made_at = datetime.fromtimestamp((item_id.int >> 80) / 1000, UTC) - CLOCKS_APART
        found = self._listing({"recipient": params["to"]["recipient"], "created": {"gte": _written(made_at)}})
        return Listing(tuple(each for each in found.transfers if each.item_id == item_id), found.trouble)

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        return self.made_between(since, until).of_run(run_id)

    def made_between(self, since: datetime, until: datetime) -> Listing:
        return self._listing({"created": {"gte": _written(since), "lte": _written(until)}})

    def read(self, reference: str) -> Transfer | Answer:
        def read() -> Transfer:
            self.api.reads.wait()
            return payment_of(self.api.client.v2.money_management.outbound_payments.retrieve(reference).to_dict())

        return asked(read)

    def movements(self, since: datetime, until: datetime) -> Movements:
        # One listing tells most of the payments that a day's transactions are about.
        listed = self.made_between(since - CLOCKS_APART, until)
        if listed.trouble is not None:
            return Movements(trouble=listed.trouble)
        known = {each.reference: each for each in listed.transfers}
        moved = asked(lambda: [self._movement(each, known) for each in self._transactions(since, until)])
        return Movements(trouble=moved) if isinstance(moved, Answer) else Movements(tuple(moved))

    def close(self) -> None:
        """The connections are the API's, which others share."""

    def _transactions(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        params: TransactionListParams = {
            "financial_account": self._financial_account,
            "created": {"gte": _written(since), "lt": _written(until)},
            "limit": PAGE,
        }
        told = paged(self.api, lambda: self.api.client.v2.money_management.transactions.list(params))
        return (each for each in told if each["category"] in _MOVES)

    def _movement(self, told: Mapping[str, Any], known: dict[str, Transfer]) -> Movement:
        reference = told["flow"]["outbound_payment"]
        if reference not in known:
            self.api.reads.wait()
            payment = self.api.client.v2.money_management.outbound_payments.retrieve(reference)
            known[reference] = payment_of(payment.to_dict())
        currency = told["amount"]["currency"].upper()
        return Movement(
            known[reference],
            -iso_amount(told["amount"]["value"], currency),
            datetime.fromisoformat(told["created"]),
        )

    def _listing(self, params: "OutboundPaymentListParams") -> Listing:
        asked_for: OutboundPaymentListParams = {**params, "limit": PAGE}

        def read() -> list[Transfer]:
            return [
                payment_of(each)
                for each in paged(
                    self.api, lambda: self.api.client.v2.money_management.outbound_payments.list(asked_for)
                )
            ]

        found = asked(read)
        return Listing(trouble=found) if isinstance(found, Answer) else Listing(tuple(found))


def payment_of(made: Mapping[str, Any]) -> Transfer:
    """Read an outbound payment as Stripe writes it. Raises what a body that is none raises.

    `processing` is accepted, `posted` arrived; what failed or was cancelled never left, what was returned came back.
    """
    status = made["status"]
    currency = made["amount"]["currency"].upper()
    amount_minor = iso_amount(made["amount"]["value"], currency)
    metadata = made.get("metadata") or {}
    never_left = status in _NEVER_LEFT
    # A payment that was returned had been posted before; its transitions say so, whenever we look.
    posted = status == "posted" or bool((made.get("status_transitions") or {}).get("posted_at"))
    return Transfer(
        item_id=named("pay", metadata.get("koc_item")) or NOBODYS,
        number=number_of(metadata),
        reference=made["id"],
        amount_minor=amount_minor,
        reversed_minor=0,
        currency=currency,
        destination=made["to"]["recipient"],
        returned_minor=amount_minor if never_left or status == "returned" else 0,
        booked=posted and not never_left,
        failed_code=_reason(made, status) if never_left else "",
        merchant_id=named("mer", metadata.get("koc_merchant")),
        run_id=named("run", metadata.get("koc_run")),
    )


def _reason(made: Mapping[str, Any], status: str) -> str:
    details = (made.get("status_details") or {}).get(status) or {}
    return str(details.get("reason") or status)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
