"""Stripe Connect: transfers from the platform's balance to connected accounts (API v1)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from service.domain.payout import Answer
from service.infra import ids
from service.payouts.providers.model import Listing, Movement, Movements, Sending, Transfer
from service.payouts.providers.stripe_amounts import iso_amount, step_minor, stripe_amount
from service.payouts.providers.stripe_api import CONNECT_TIMEOUT_S, PAGE, READ_TIMEOUT_S, StripeApi, asked, paged

if TYPE_CHECKING:
    from stripe.params import BalanceTransactionListParams, TransferCreateParams, TransferListParams

NAME = "stripe_connect"
NOBODYS = UUID(int=0)
"""Stands for the item of a transfer that is not ours."""
_SENT, _TAKEN_BACK = "transfer", "transfer_refund"
"""Types of balance transactions. Source: Stripe documentation, Balance transaction types, read 2026-11."""


class StripeConnectRail:
    """One attempt is one transfer; the transfer group is the item, so a look-up finds every attempt of it."""

    name = NAME
    keeps_transfers = True
    at_once = 16

    def __init__(
        self, secret_key: str, *, api_base: str, timeouts_s: tuple[int, int] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    ) -> None:
        """As for StripeApi."""
        self.api = StripeApi(secret_key, api_base=api_base, timeouts_s=timeouts_s)

    def serves(self, *, is_test: bool) -> bool:
        """A test key pays test merchants only, a live key live ones only."""
        return is_test == self.api.is_test

    def step_minor(self, currency: str) -> int | None:
        return step_minor(currency)

    def available_minor(self, currency: str) -> int | Answer | None:
        def read() -> int:
            self.api.reads.wait()
            available = self.api.client.v1.balance.retrieve().available
            return sum(iso_amount(each.amount, currency) for each in available if each.currency == currency.lower())

        return asked(read)

    def build_request(self, sending: Sending) -> bytes:
        params: TransferCreateParams = {
            "amount": stripe_amount(sending.amount_minor, sending.currency),
            "currency": sending.currency.lower(),
            "destination": sending.destination,
            "transfer_group": ids.encode("pay", sending.item_id),
            "metadata": metadata_of(sending),
        }
        return json.dumps(params, sort_keys=True).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        params = cast("TransferCreateParams", json.loads(request))
        self.api.writes.wait()
        return asked(
            lambda: transfer_of(
                self.api.client.v1.transfers.create(params, {"idempotency_key": idempotency_key}).to_dict()
            ).as_answer()
        )

    def find(self, request: bytes) -> Listing:
        group = json.loads(request)["transfer_group"]
        return self._listing({"transfer_group": group, "limit": PAGE})

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        return self.made_between(since, until).of_run(run_id)

    def made_between(self, since: datetime, until: datetime) -> Listing:
        created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        return self._listing(cast("TransferListParams", {"created": created, "limit": PAGE}))

    def read(self, reference: str) -> Transfer | Answer:
        def read() -> Transfer:
            self.api.reads.wait()
            return transfer_of(self.api.client.v1.transfers.retrieve(reference).to_dict())

        return asked(read)

    def movements(self, since: datetime, until: datetime) -> Movements:
        created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}

        def params(kind: str) -> "BalanceTransactionListParams":
            return cast(
                "BalanceTransactionListParams",
                {"created": created, "type": kind, "limit": PAGE, "expand": ["data.source"]},
            )

        def read() -> list[Movement]:
            moved: list[Movement] = []
            for kind in (_SENT, _TAKEN_BACK):
                first = partial(self.api.client.v1.balance_transactions.list, params(kind))
                moved += [self._movement(each) for each in paged(self.api, first)]
            return moved

        moved = asked(read)
        return Movements(trouble=moved) if isinstance(moved, Answer) else Movements(tuple(moved))

    def close(self) -> None:
        self.api.close()

    def _movement(self, told: Mapping[str, Any]) -> Movement:
        source = told["source"]
        if source["object"] != "transfer":
            # A reversal names its transfer, which alone says whose it is.
            self.api.reads.wait()
            source = self.api.client.v1.transfers.retrieve(source["transfer"]).to_dict()
        transfer = transfer_of(source)
        currency = told["currency"].upper()
        return Movement(transfer, -iso_amount(told["amount"], currency), datetime.fromtimestamp(told["created"], UTC))

    def _listing(self, params: "TransferListParams") -> Listing:
        def read() -> list[Transfer]:
            return [transfer_of(each) for each in paged(self.api, lambda: self.api.client.v1.transfers.list(params))]

        found = asked(read)
        return Listing(trouble=found) if isinstance(found, Answer) else Listing(tuple(found))


def metadata_of(sending: Sending) -> dict[str, str]:
    """Return what names an attempt on the provider's own object."""
    return {
        "koc_merchant": ids.encode("mer", sending.merchant_id),
        "koc_run": ids.encode("run", sending.run_id),
        "koc_item": ids.encode("pay", sending.item_id),
        "koc_attempt": str(sending.number),
    }


def transfer_of(made: Mapping[str, Any]) -> Transfer:
    """Read a transfer as Stripe writes it. Raises what a body that is no transfer raises."""
    currency = made["currency"].upper()
    destination = made["destination"]
    metadata = made["metadata"] or {}
    return Transfer(
        item_id=named("pay", made["transfer_group"]) or NOBODYS,
        number=number_of(metadata),
        reference=made["id"],
        amount_minor=iso_amount(made["amount"], currency),
        reversed_minor=iso_amount(made["amount_reversed"], currency),
        currency=currency,
        destination=destination if isinstance(destination, str) else "" if destination is None else destination["id"],
        merchant_id=named("mer", metadata.get("koc_merchant")),
        run_id=named("run", metadata.get("koc_run")),
    )


def named(prefix: str, text: object) -> UUID | None:
    """Return the id that a text names, None for one that is not of ours."""
    try:
        return ids.decode(prefix, text if isinstance(text, str) else "")
    except ValueError:
        return None


def number_of(metadata: Mapping[str, Any]) -> int:
    """The number of the attempt, 0 where it does not say."""
    number = metadata.get("koc_attempt", "")
    return int(number) if number.isdecimal() else 0
