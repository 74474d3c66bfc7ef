"""What we send to Stripe is what stripe-python's own typed parameters say, so that neither we nor the double can drift."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from stripe import params
from stripe.params.v2.core import EventListParams as EventListParamsV2
from stripe.params.v2.money_management import (
    OutboundPaymentCreateParams,
    OutboundPaymentListParams,
    TransactionListParams,
)

from service.domain.provider import ServiceAgreement
from service.infra.ids import new_id
from service.payouts.providers.model import Sending
from service.payouts.providers.stripe_accounts import StripeAccounts, Wanted, params_of
from service.payouts.providers.stripe_connect import StripeConnectRail
from service.payouts.providers.stripe_events import StripeEvents, heard
from service.payouts.providers.stripe_global import StripeGlobalPayoutsRail
from tests.doubles.stripe import FINANCIAL_ACCOUNT, StripeDouble, signed
from tests.doubles.stripe.typed import flaws

SECRET = "whsec_test_secret_of_the_endpoint"
_SENDS_NOTHING = stripe.APIConnectionError("this test sends nothing")  # type: ignore[no-untyped-call] # the library's
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)


def a_sending(currency: str = "USD") -> Sending:
    return Sending(new_id(), new_id(), new_id(), 1, "acct_ann0000000000", 1000, currency)


class Listener:
    """Stands where the library would call out, and writes down what it was about to send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

        def request(_: Any, method: str, path: str, given: Any = None, options: Any = None, **__: Any) -> Any:
            self.asked.append((method, path, dict(given or {})))
            raise _SENDS_NOTHING

        monkeypatch.setattr("stripe._api_requestor._APIRequestor.request", request)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    return Listener(monkeypatch)


@pytest.fixture
def rail() -> Iterator[StripeConnectRail]:
    rail = StripeConnectRail("sk_test_double", api_base="http://127.0.0.1:9")
    yield rail
    rail.close()


@pytest.mark.parametrize("currency", ["USD", "ISK", "VND"])
def test_a_transfer_has_the_librarys_own_parameters(rail: StripeConnectRail, currency: str) -> None:
    request = json.loads(rail.build_request(a_sending(currency)))

    assert list(flaws(request, params.TransferCreateParams)) == []


@pytest.mark.parametrize("currency", ["USD", "ISK", "VND"])
def test_an_outbound_payment_has_the_librarys_own_parameters(rail: StripeConnectRail, currency: str) -> None:
    payouts = StripeGlobalPayoutsRail(rail.api, FINANCIAL_ACCOUNT)

    request = json.loads(payouts.build_request(a_sending(currency)))

    assert list(flaws(request, OutboundPaymentCreateParams)) == []


@pytest.mark.parametrize("agreement", list(ServiceAgreement))
def test_an_account_has_the_librarys_own_parameters(agreement: ServiceAgreement) -> None:
    asked = params_of(Wanted(new_id(), new_id(), 1, "US", agreement))

    assert list(flaws(dict(asked), params.AccountCreateParams)) == []


def test_every_other_request_has_the_librarys_own_parameters(rail: StripeConnectRail, listener: Listener) -> None:
    payouts, accounts, events = (
        StripeGlobalPayoutsRail(rail.api, FINANCIAL_ACCOUNT),
        StripeAccounts(rail.api),
        StripeEvents(rail.api),
    )
    takes: dict[str, Any] = {
        "/v1/transfers": params.TransferListParams,
        "/v1/balance_transactions": params.BalanceTransactionListParams,
        "/v1/accounts": params.AccountListParams,
        "/v1/account_links": params.AccountLinkCreateParams,
        "/v1/events": params.EventListParams,
        "/v2/money_management/outbound_payments": OutboundPaymentListParams,
        "/v2/money_management/transactions": TransactionListParams,
        "/v2/core/events": EventListParamsV2,
    }

    rail.find(rail.build_request(a_sending()))
    rail.made_between(SINCE, UNTIL)
    rail.movements(SINCE, UNTIL)
    payouts.find(payouts.build_request(a_sending()))
    payouts.made_between(SINCE, UNTIL)
    with pytest.raises(stripe.APIConnectionError):
        list(payouts._transactions(SINCE, UNTIL))
    for call in (
        lambda: accounts.find(Wanted(new_id(), new_id(), 1, "US", ServiceAgreement.FULL), SINCE),
        lambda: accounts.link("acct_1", return_url="https://a.example/", refresh_url="https://b.example/"),
    ):
        with pytest.raises(Exception, match="Ask again"):
            call()
    events.of_platform(SINCE)
    events.of_account("acct_1", SINCE)
    events.of_payments(SINCE)

    assert {path for _, path, _ in listener.asked} == set(takes)
    assert [(path, flaw) for _, path, given in listener.asked for flaw in flaws(given, takes[path])] == []


@pytest.mark.parametrize(
    ("given", "takes", "flaw"),
    [
        pytest.param({"account": "a", "type": "account_onboarding", "to": 1}, params.AccountLinkCreateParams,
                     ("to", "unknown"), id="unknown"),
        pytest.param({"account": "a"}, params.AccountLinkCreateParams, ("type", "missing"), id="missing"),
        pytest.param({"amount": "1", "currency": "usd", "destination": "a"}, params.TransferCreateParams,
                     ("amount", "type"), id="another type"),
        pytest.param({"amount": True, "currency": "usd", "destination": "a"}, params.TransferCreateParams,
                     ("amount", "type"), id="a flag is no number"),
        pytest.param({"capabilities": {"transfers": {"wanted": True}}}, params.AccountCreateParams,
                     ("capabilities[transfers][wanted]", "unknown"), id="deep inside"),
        pytest.param({"types": ["a", 5]}, params.EventListParams, ("types[1]", "type"), id="in a list"),
        pytest.param({"idempotency_key": "k"}, params.EventListParams, ("idempotency_key", "unknown"), id="an option"),
        pytest.param({"from": {"financial_account": "a"}, "to": {"recipient": "a"},
                      "amount": {"value": 1, "currency": "usd"}}, OutboundPaymentCreateParams,
                     ("from[currency]", "missing"), id="of version 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_noticed(given: dict[str, Any], takes: Any, flaw: tuple[str, str]) -> None:
    assert list(flaws(given, takes)) == [flaw]


def test_events_of_the_double_are_read_by_the_library_as_we_read_them(rail: StripeConnectRail) -> None:
    with StripeDouble() as stripe_double:
        payouts = StripeGlobalPayoutsRail(
            StripeConnectRail("sk_test_x", api_base=stripe_double.url).api, FINANCIAL_ACCOUNT
        )
        account = stripe_double.account("acct_ann0000000000")
        payouts.send(payouts.build_request(a_sending()), "key")
        with stripe_double.bank.lock:
            stripe_double.bank.restrict(account)
        thin, whole = stripe_double.bank.payments.events[0], stripe_double.bank.events[0]
        payouts.api.close()

    body, headers = signed(thin, SECRET)
    notification = rail.api.client.parse_event_notification(body, headers["Stripe-Signature"], SECRET)
    ours = heard(thin, is_test=True)
    assert ours is not None
    assert (notification.id, notification.type) == (ours.id, ours.type)
    assert notification.related_object.id == ours.object_id  # type: ignore[union-attr] # of this type it has one
    body, headers = signed(whole, SECRET)
    event = rail.api.client.construct_event(body, headers["Stripe-Signature"], SECRET)
    ours = heard(whole, is_test=True)
    assert ours is not None
    assert (event.id, event.type, event.account) == (ours.id, ours.type, ours.account)
