"""What the double does of API v2: outbound payments from a FinancialAccount, its transactions, thin events."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stripe.params.v2.core import EventListParams
from stripe.params.v2.money_management import (
    OutboundPaymentCreateParams,
    OutboundPaymentListParams,
    TransactionListParams,
)
from tests.doubles.stripe.parts import Json, Refusal, checked, listed_v2, new_id, written

FINANCIAL_ACCOUNT = "fa_double"
_PAYMENT = "v2.money_management.outbound_payment"
_ACCOUNTS = "/v2/money_management/financial_accounts"
_PAYMENTS, _TRANSACTIONS = "/v2/money_management/outbound_payments", "/v2/money_management/transactions"
_EVENTS = "/v2/core/events"
_ENDS = {"posted", "failed", "canceled", "returned"}


@dataclass
class Payments:
    balance_minor: int = 10**12
    """What the FinancialAccount has in each currency, in Stripe's minor units."""
    made: dict[str, Json] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    transactions: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    recipients: set[str] = field(default_factory=set)

    def act(self, method: str, path: str, form: Json, query: Mapping[str, str]) -> Json:
        """Do a request of API v2. query: as it was written. Raises Refusal."""
        if method == "POST" and path == _PAYMENTS:
            return self._pay(checked(form, OutboundPaymentCreateParams, written=False))
        if method == "GET" and path == _PAYMENTS:
            asked = checked(_without_page(form), OutboundPaymentListParams)
            found = [
                each
                for each in reversed(self.made.values())
                if asked.get("recipient", each["to"]["recipient"]) == each["to"]["recipient"]
                and each["status"] in asked.get("status", [each["status"]])
            ]
            return listed_v2(found, form, path, query)
        if method == "GET" and path.startswith(_PAYMENTS + "/"):
            return self._known(path.removeprefix(_PAYMENTS + "/"))
        if method == "GET" and path == f"{_ACCOUNTS}/{FINANCIAL_ACCOUNT}":
            return self._account()
        if method == "GET" and path == _TRANSACTIONS:
            asked = checked(_without_page(form), TransactionListParams)
            account = asked.get("financial_account", FINANCIAL_ACCOUNT)
            found = [each for each in reversed(self.transactions) if each["financial_account"] == account]
            return listed_v2(found, form, path, query)
        if method == "GET" and path == _EVENTS:
            asked = checked(_without_page(form), EventListParams)
            found = [each for each in reversed(self.events) if each["type"] in asked.get("types", [each["type"]])]
            return listed_v2(found, form, path, query)
        raise _missing(f"Unrecognized request URL ({method}: {path}).")

    def become(self, payment_id: str, status: str, *, reason: str = "unknown_failure") -> Json:
        """Let a payment end, or come back after it was posted; tell so."""
        payment = self._known(payment_id)
        assert status in _ENDS
        before, payment["status"] = payment["status"], status
        payment["status_transitions"] = {**payment["status_transitions"], f"{status}_at": _now()}
        if status in {"failed", "returned"}:
            payment["status_details"] = {status: {"reason": reason}}
        if status != "posted":
            assert (before == "posted") == (status == "returned"), f"{before} does not become {status}"
            self._move("outbound_payment_reversal", payment, payment["amount"]["value"])
        self._tell(status, payment)
        return payment

    def _account(self) -> Json:
        """The account payments leave, with a balance in each currency it was asked to pay, and in dollars."""
        left = {each: self.balance_minor - self.spent.get(each, 0) for each in {"usd", "eur", *self.spent}}
        balance = {each: {"value": value, "currency": each} for each, value in sorted(left.items())}
        return {
            "id": FINANCIAL_ACCOUNT,
            "object": "v2.money_management.financial_account",
            "balance": {"available": balance, "inbound_pending": {}, "outbound_pending": {}},
            "status": "open",
        }

    def _pay(self, form: Json) -> Json:
        amount, recipient = form["amount"], form["to"]["recipient"]
        if form["from"]["financial_account"] != FINANCIAL_ACCOUNT:
            raise _missing("No such FinancialAccount.")
        if recipient not in self.recipients:
            raise _missing(f"No such recipient: '{recipient}'")
        if self.spent.get(amount["currency"], 0) + amount["value"] > self.balance_minor:
            raise Refusal(
                400,
                "The FinancialAccount has not enough funds.",
                kind="insufficient_funds",
                code="outbound_payment_insufficient_funds",
            )
        payment_id = new_id("obp")
        self.made[payment_id] = {
            "id": payment_id,
            "object": _PAYMENT,
            "amount": amount,
            "cancelable": True,
            "created": _now(),
            "description": form.get("description"),
            "expected_arrival_date": written(datetime.now(UTC) + timedelta(days=2)),
            "from": {"debited": amount, "financial_account": FINANCIAL_ACCOUNT},
            "livemode": False,
            "metadata": form.get("metadata", {}),
            "payout_intent": None,
            "recipient_notification": {"setting": "configured"},
            "recipient_verification": None,
            "statement_descriptor": form.get("statement_descriptor", "STRIPE"),
            "status": "processing",
            "status_details": None,
            "status_transitions": {"canceled_at": None, "failed_at": None, "posted_at": None, "returned_at": None},
            "to": {"credited": amount, "payout_method": "usba_test_1", "recipient": recipient},
            "tracking_details": None,
        }
        made = self.made[payment_id]
        self._move("outbound_payment", made, -amount["value"])
        self._tell("created", made)
        return made

    def _known(self, payment_id: str) -> Json:
        if payment_id not in self.made:
            raise _missing(f"No such outbound payment: '{payment_id}'")
        return self.made[payment_id]

    def _move(self, category: str, payment: Json, value: int) -> None:
        currency = payment["amount"]["currency"]
        self.spent[currency] = self.spent.get(currency, 0) - value
        self.transactions.append(
            {
                "id": new_id("trxn"),
                "object": "v2.money_management.transaction",
                "amount": {"value": value, "currency": currency},
                "category": category,
                "created": _now(),
                "financial_account": FINANCIAL_ACCOUNT,
                "flow": {"type": "outbound_payment", "outbound_payment": payment["id"]},
                "livemode": False,
                "status": "posted",
            }
        )

    def _tell(self, what: str, payment: Json) -> None:
        self.events.append(
            {
                "id": new_id("evt"),
                "object": "v2.core.event",
                "type": f"{_PAYMENT}.{what}",
                "created": _now(),
                "livemode": False,
                "related_object": {
                    "id": payment["id"],
                    "type": _PAYMENT,
                    "url": f"{_PAYMENTS}/{payment['id']}",
                },
            }
        )


def _without_page(form: Json) -> Json:
    """The typed parameters leave out `page`: only the address of a next page has it."""
    return {name: value for name, value in form.items() if name != "page"}


def _missing(message: str) -> Refusal:
    return Refusal(404, message, code="not_found")


def _now() -> str:
    return written(datetime.fromtimestamp(time.time(), UTC))
