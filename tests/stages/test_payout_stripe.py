"""The Stripe rail against our double over real HTTP: what is sent, and what each answer is taken for."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.money import EXPONENTS
from service.domain.payout import AnswerKind, ItemState
from service.infra.ids import encode, new_id
from service.payouts.providers.model import Sending
from service.payouts.providers.stripe_amounts import iso_amount, step_minor, stripe_amount
from service.payouts.providers.stripe_connect import StripeConnectRail
from service.payouts.reconcile import compare
from tests.doubles.stripe import StripeDouble
from tests.support.payouts import Desk

ANN = "acct_ann0000000000"


@pytest.fixture
def stripe(stripe: StripeDouble) -> StripeDouble:
    stripe.account(ANN)
    return stripe


@pytest.fixture
def rail(stripe: StripeDouble) -> Iterator[StripeConnectRail]:
    rail = StripeConnectRail("sk_test_double", api_base=stripe.url, timeouts_s=(1, 1))
    yield rail
    rail.close()


def a_sending(
    amount: int = 1999, currency: str = "USD", *, item_id: UUID | None = None, number: int = 1, to: str = ANN
) -> Sending:
    return Sending(new_id(), UUID(int=5), item_id or new_id(), number, to, amount, currency)


def test_a_transfer_names_its_item_and_goes_out_under_our_key(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    sending = a_sending()

    answer = rail.send(rail.build_request(sending), "live:pay_x:1")

    [made] = stripe.transfers
    assert (answer.kind, answer.reference) == (AnswerKind.ACCEPTED, made["id"])
    assert (answer.amount_minor, answer.currency, answer.destination) == (1999, "USD", ANN)
    assert made["transfer_group"] == made["metadata"]["koc_item"] == encode("pay", sending.item_id)
    assert made["metadata"]["koc_attempt"] == "1"
    assert stripe.bank.requests == [("POST", "/v1/transfers", "live:pay_x:1")]


@pytest.mark.parametrize(
    ("fault", "kind", "code", "transfers"),
    [
        pytest.param("lost", AnswerKind.UNKNOWN, "connection_failed", 1, id="done, the line broke"),
        pytest.param("timeout", AnswerKind.UNKNOWN, "connection_failed", 1, id="done, answered too late"),
        pytest.param("reset", AnswerKind.UNKNOWN, "connection_failed", 0, id="the line broke first"),
        pytest.param("500_done", AnswerKind.UNKNOWN, "http_500", 1, id="500, done"),
        pytest.param("500_not_done", AnswerKind.UNKNOWN, "http_500", 0, id="500, not done"),
        pytest.param("429", AnswerKind.UNKNOWN, "http_429", 0, id="too many requests"),
        pytest.param("insufficient_funds", AnswerKind.REFUSED, "balance_insufficient", 0, id="no funds"),
        pytest.param(
            "account_restricted", AnswerKind.REFUSED, "insufficient_capabilities_for_transfer", 0, id="restricted"
        ),
        pytest.param("401", AnswerKind.STOPPED, "http_401", 0, id="key refused"),
    ],
)
def test_each_answer_is_taken_for_what_it_proves(
    rail: StripeConnectRail, stripe: StripeDouble, fault: str, kind: AnswerKind, code: str, transfers: int
) -> None:
    stripe.fault(fault, seconds=2)

    answer = rail.send(rail.build_request(a_sending()), "key")

    assert (answer.kind, answer.code) == (kind, code)
    assert len(stripe.transfers) == transfers
    assert len(stripe.bank.requests) == 1


@pytest.mark.parametrize("fault", ["lost", "timeout", "reset", "429"])
def test_the_same_key_again_pays_once(rail: StripeConnectRail, stripe: StripeDouble, fault: str) -> None:
    request = rail.build_request(a_sending())
    stripe.fault(fault, seconds=2)
    rail.send(request, "key")

    answer = rail.send(request, "key")

    assert answer.kind is AnswerKind.ACCEPTED
    assert [made["id"] for made in stripe.transfers] == [answer.reference]


def test_a_stored_500_stays_unknown_and_a_look_up_tells(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    request = rail.build_request(a_sending())
    stripe.fault("500_done")

    answers = [rail.send(request, "key") for _ in range(2)]

    assert {answer.kind for answer in answers} == {AnswerKind.UNKNOWN}
    assert [each.reference for each in rail.find(request).transfers] == [stripe.transfers[0]["id"]]


def test_a_key_in_use_is_unknown(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    request = rail.build_request(a_sending())
    stripe.fault("delayed", seconds=0.6)
    first = threading.Thread(target=rail.send, args=(request, "key"))
    first.start()
    while not stripe.bank.keys:
        time.sleep(0.01)

    answer = rail.send(request, "key")
    first.join()

    assert (answer.kind, answer.code) == (AnswerKind.UNKNOWN, "http_409")
    assert len(stripe.transfers) == 1


def test_the_same_key_with_other_parameters_is_our_mistake(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    rail.send(rail.build_request(a_sending(100)), "key")

    answer = rail.send(rail.build_request(a_sending(200)), "key")

    assert answer.kind is AnswerKind.MISMATCHED_KEY
    assert len(stripe.transfers) == 1


def test_an_account_that_does_not_exist_is_a_refusal(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    answer = rail.send(rail.build_request(a_sending(to="acct_nobody")), "key")

    assert (answer.kind, answer.code) == (AnswerKind.REFUSED, "resource_missing")
    assert stripe.transfers == []


def test_a_look_up_reads_all_pages(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    item_id = new_id()
    request = rail.build_request(a_sending(item_id=item_id))
    rail.send(request, "first")
    stripe.bank.transfers |= {f"tr_{number}": stripe.transfers[0] | {"id": f"tr_{number}"} for number in range(250)}

    listing = rail.find(request)

    assert listing.trouble is None
    assert len(listing.transfers) == 251
    assert {each.item_id for each in listing.transfers} == {item_id}


def test_a_look_up_without_an_answer_is_not_complete(stripe: StripeDouble) -> None:
    rail = StripeConnectRail("sk_test_double", api_base="http://127.0.0.1:9", timeouts_s=(1, 1))

    listing = rail.find(rail.build_request(a_sending()))
    rail.close()

    assert listing.trouble is not None
    assert listing.trouble.kind is AnswerKind.UNKNOWN


def test_a_look_up_with_refused_credentials_stops_the_rail(stripe: StripeDouble) -> None:
    rail = StripeConnectRail("sk_live_wrong", api_base=stripe.url, timeouts_s=(1, 1))

    listing = rail.find(rail.build_request(a_sending()))
    rail.close()

    assert listing.trouble is not None
    assert listing.trouble.kind is AnswerKind.STOPPED


def test_the_transfers_of_a_run_are_told_from_all_others(rail: StripeConnectRail, stripe: StripeDouble) -> None:
    ours, other = a_sending(), a_sending()
    rail.send(rail.build_request(ours), "a")
    rail.send(rail.build_request(Sending(other.merchant_id, UUID(int=6), other.item_id, 1, ANN, 5, "USD")), "b")
    now = datetime.now(UTC)

    listing = rail.made_for(ours.run_id, since=now - timedelta(days=2), until=now + timedelta(minutes=1))

    assert [each.item_id for each in listing.transfers] == [ours.item_id]


@pytest.mark.parametrize(
    ("currency", "step", "iso", "theirs"),
    [
        pytest.param("USD", 1, 1999, 1999, id="two decimals"),
        pytest.param("JPY", 1, 1999, 1999, id="none"),
        pytest.param("VND", 1, 250_000, 250_000, id="none, large"),
        pytest.param("ISK", 1, 5, 500, id="none in ISO, two at Stripe"),
        pytest.param("UGX", 1, 5, 500, id="likewise"),
        pytest.param("MGA", 100, 500, 5, id="two in ISO, none at Stripe"),
        pytest.param("HUF", 100, 1200, 1200, id="whole units only"),
        pytest.param("TWD", 100, 80_000, 80_000, id="likewise whole units"),
        pytest.param("KWD", 10, 1230, 1230, id="three, the last 0"),
        pytest.param("LYD", None, 0, 0, id="not offered"),
        pytest.param("CLF", None, 0, 0, id="four"),
    ],
)
def test_stripe_counts_in_units_of_its_own(currency: str, step: int | None, iso: int, theirs: int) -> None:
    assert step_minor(currency) == step
    if step is not None:
        assert stripe_amount(iso, currency) == theirs
        assert iso_amount(theirs, currency) == iso


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
def test_every_multiple_of_the_step_can_be_said_and_read_back(currency: str) -> None:
    step = step_minor(currency)
    for steps in (1, 7, 12_345):
        if step is not None:
            assert iso_amount(stripe_amount(steps * step, currency), currency) == steps * step


def test_a_test_key_pays_only_test_merchants() -> None:
    for key, is_test in (("sk_test_x", True), ("rk_test_x", True), ("sk_live_x", False), ("rk_live_x", False)):
        rail = StripeConnectRail(key, api_base="http://127.0.0.1:9")
        assert rail.serves(is_test=is_test)
        assert not rail.serves(is_test=not is_test)
        rail.close()


@pytest.mark.parametrize("fault", ["lost", "timeout", "reset", "500_done", "500_not_done", "429"])
def test_a_run_reaches_its_end_through_a_fault_and_pays_once(
    engine: Engine, rail: StripeConnectRail, stripe: StripeDouble, fault: str
) -> None:
    desk = Desk.opened(engine, rail=rail)
    ann = desk.payee(1999, destination=ANN)
    stripe.fault(fault, seconds=2)
    run = desk.an_executing_run()
    desk.work(run)
    assert desk.state(ann) is ItemState.UNKNOWN

    desk.later(minutes=2)
    desk.work(run)

    if fault == "500_not_done":
        # Its key gives this 500 for ever: the money waits for the proof of absence and a person.
        assert desk.state(ann) is ItemState.UNKNOWN
        assert stripe.transfers == []
    else:
        assert desk.state(ann) is ItemState.SENT
        assert [made["amount"] for made in stripe.transfers] == [1999]


def test_a_reversal_at_stripe_comes_back_as_carry(
    engine: Engine, rail: StripeConnectRail, stripe: StripeDouble
) -> None:
    desk = Desk.opened(engine, rail=rail, now=datetime.now(UTC))
    ann = desk.payee(1000, destination=ANN)
    run = desk.an_executing_run()
    desk.work(run)
    stripe.bank.act("POST", ["transfers", stripe.transfers[0]["id"], "reversals"], {"amount": "400"})

    compare(
        engine,
        rail,
        merchant_id=desk.merchant_id,
        run_id=run.id,
        since=desk.now,
        now=desk.now + timedelta(minutes=1),
    )

    assert desk.balances(ann) == {"paid": 600, "taxed_carry": 400}
    assert desk.state(ann) is ItemState.PART_REVERSED


def test_the_double_refuses_parameters_the_library_does_not_know(stripe: StripeDouble) -> None:
    import requests

    def post(path: str, **form: object) -> tuple[int, str]:
        answer = requests.post(
            f"{stripe.url}/v1/{path}", data=form, headers={"Authorization": "Bearer sk_test_x"}, timeout=5
        )
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    assert post("transfers", amount=1, currency="usd", destination=ANN, to="x") == (400, "parameter_unknown")
    assert post("transfers", amount=1, currency="usd") == (400, "parameter_missing")
    assert post("transfers", amount="1.5", currency="usd", destination=ANN) == (400, "parameter_invalid_integer")
    assert post("accounts", type="express", country="US") == (200, "")
