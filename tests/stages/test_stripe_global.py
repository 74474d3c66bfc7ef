"""Global Payouts against our double over real HTTP: what is sent, what each status means, and how it ends."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from service.domain.payout import AnswerKind, ItemState, RunState
from service.infra.ids import new_id
from service.payouts.providers.model import Sending
from service.payouts.providers.stripe_global import StripeGlobalPayoutsRail
from service.payouts.reconcile import compare
from tests.doubles.stripe import FINANCIAL_ACCOUNT, StripeDouble
from tests.support.payouts import Desk
from tests.support.stripe import Told

ANN = "acct_ann0000000000"


@pytest.fixture
def stripe(stripe: StripeDouble) -> StripeDouble:
    stripe.account(ANN)
    return stripe


@pytest.fixture
def rail(told: Told) -> StripeGlobalPayoutsRail:
    return told.payouts


@pytest.fixture
def desk(told: Told) -> Desk:
    return told.desk(rail="payouts")


def a_sending(amount: int = 1999, currency: str = "USD", *, item_id: UUID | None = None, number: int = 1) -> Sending:
    return Sending(new_id(), UUID(int=5), item_id or new_id(), number, ANN, amount, currency)


def become(stripe: StripeDouble, status: str, *, number: int = 0, reason: str = "unknown_failure") -> None:
    with stripe.bank.lock:
        stripe.bank.payments.become(stripe.payments[number]["id"], status, reason=reason)


def test_a_payment_leaves_our_financial_account_for_the_recipient(
    rail: StripeGlobalPayoutsRail, stripe: StripeDouble
) -> None:
    answer = rail.send(rail.build_request(a_sending()), "live:pay_x:1")

    [made] = stripe.payments
    assert (answer.kind, answer.reference) == (AnswerKind.ACCEPTED, made["id"])
    assert (answer.amount_minor, answer.currency, answer.destination) == (1999, "USD", ANN)
    assert made["from"] == {"debited": {"value": 1999, "currency": "usd"}, "financial_account": FINANCIAL_ACCOUNT}
    assert made["metadata"]["koc_attempt"] == "1"
    assert stripe.bank.requests[-1] == ("POST", "/v2/money_management/outbound_payments", "live:pay_x:1")


def test_currencies_are_counted_as_stripe_counts_them(rail: StripeGlobalPayoutsRail, stripe: StripeDouble) -> None:
    answer = rail.send(rail.build_request(a_sending(5, "ISK")), "key")

    assert stripe.payments[0]["amount"] == {"value": 500, "currency": "isk"}
    assert answer.amount_minor == 5


@pytest.mark.parametrize(
    ("fault", "kind", "payments"),
    [
        pytest.param("lost", AnswerKind.UNKNOWN, 1, id="done, the line broke"),
        pytest.param("timeout", AnswerKind.UNKNOWN, 1, id="done, answered too late"),
        pytest.param("reset", AnswerKind.UNKNOWN, 0, id="the line broke first"),
        pytest.param("500_done", AnswerKind.UNKNOWN, 1, id="500, done"),
        pytest.param("500_not_done", AnswerKind.UNKNOWN, 0, id="500, not done"),
        pytest.param("429", AnswerKind.UNKNOWN, 0, id="too many requests"),
        pytest.param("insufficient_funds", AnswerKind.REFUSED, 0, id="no funds"),
        pytest.param("account_restricted", AnswerKind.REFUSED, 0, id="restricted"),
        pytest.param("401", AnswerKind.STOPPED, 0, id="key refused"),
    ],
)
def test_each_answer_is_taken_for_what_it_proves(
    rail: StripeGlobalPayoutsRail, stripe: StripeDouble, fault: str, kind: AnswerKind, payments: int
) -> None:
    stripe.fault(fault, seconds=3)

    answer = rail.send(rail.build_request(a_sending()), "key")

    assert answer.kind is kind
    assert len(stripe.payments) == payments


@pytest.mark.parametrize("fault", ["lost", "timeout", "reset", "500_done", "500_not_done", "429"])
def test_the_same_key_again_pays_once(rail: StripeGlobalPayoutsRail, stripe: StripeDouble, fault: str) -> None:
    """Under API v2 also after a 500: failed work is done anew, and done work is told."""
    request = rail.build_request(a_sending())
    stripe.fault(fault, seconds=3)
    rail.send(request, "key")

    answer = rail.send(request, "key")

    assert answer.kind is AnswerKind.ACCEPTED
    assert [made["id"] for made in stripe.payments] == [answer.reference]


def test_the_same_key_with_other_parameters_is_our_mistake(rail: StripeGlobalPayoutsRail, stripe: StripeDouble) -> None:
    rail.send(rail.build_request(a_sending(100)), "key")

    answer = rail.send(rail.build_request(a_sending(200)), "key")

    assert answer.kind is AnswerKind.MISMATCHED_KEY
    assert len(stripe.payments) == 1


def test_a_recipient_that_does_not_exist_is_a_refusal(rail: StripeGlobalPayoutsRail, stripe: StripeDouble) -> None:
    sending = Sending(new_id(), UUID(int=5), new_id(), 1, "acct_nobody00000", 5, "USD")

    answer = rail.send(rail.build_request(sending), "key")

    assert (answer.kind, answer.code) == (AnswerKind.REFUSED, "not_found")


def test_a_look_up_tells_our_payouts_to_one_recipient_apart(
    rail: StripeGlobalPayoutsRail, stripe: StripeDouble
) -> None:
    item_id = new_id()
    request = rail.build_request(a_sending(item_id=item_id))
    rail.send(request, "ours")
    rail.send(rail.build_request(a_sending()), "another payout")
    ours, other = stripe.payments
    for number in range(125):
        stripe.bank.payments.made |= {f"obp_a{number}": {**ours, "id": f"obp_a{number}"}}
        stripe.bank.payments.made |= {f"obp_b{number}": {**other, "id": f"obp_b{number}"}}

    listing = rail.find(request)

    assert listing.trouble is None
    assert len(listing.transfers) == 126
    assert {each.item_id for each in listing.transfers} == {item_id}


def test_of_two_payments_of_one_attempt_the_one_that_left_is_told(desk: Desk, stripe: StripeDouble) -> None:
    """Under API v2 a key does failed work anew, so one attempt may have made several."""
    ann, run = desk.payee(1000, destination=ANN), desk.an_executing_run()
    stripe.fault("lost")
    desk.work(run)
    with stripe.bank.lock:
        [made] = stripe.bank.payments.made.values()
        stripe.bank.payments.made["obp_young"] = {**made, "id": "obp_young", "status": "failed"}

    desk.now += timedelta(minutes=2)
    desk.work(run)

    assert desk.state(ann) is ItemState.SENT
    assert desk.attempts(ann)[0].reference == made["id"]


def test_a_look_up_without_an_answer_is_not_complete(stripe: StripeDouble, told: Told) -> None:
    gone = Told.on(told.engine, type("Gone", (), {"url": "http://127.0.0.1:9"})())

    listing = gone.payouts.find(told.payouts.build_request(a_sending()))
    gone.close()

    assert listing.trouble is not None
    assert listing.trouble.kind is AnswerKind.UNKNOWN


@pytest.mark.parametrize(
    ("statuses", "state", "balances"),
    [
        pytest.param([], ItemState.SENT, {"paid": 1000}, id="processing is accepted"),
        pytest.param(["posted"], ItemState.SETTLED, {"paid": 1000}, id="posted is booked"),
        pytest.param(["posted", "returned"], ItemState.RETURNED, {"taxed_carry": 1000}, id="returned after posted"),
        pytest.param(["failed"], ItemState.RETURNED, {"taxed_carry": 1000}, id="failed after it was accepted"),
        pytest.param(["canceled"], ItemState.RETURNED, {"taxed_carry": 1000}, id="cancelled"),
    ],
)
@pytest.mark.parametrize("by", ["events", "comparison"])
def test_each_status_ends_in_one_state_however_it_is_learnt(
    told: Told,
    desk: Desk,
    stripe: StripeDouble,
    by: str,
    statuses: list[str],
    state: ItemState,
    balances: dict[str, int],
) -> None:
    ann = desk.payee(1000, destination=ANN)
    run = desk.an_executing_run()
    desk.work(run)
    for status in statuses:
        become(stripe, status)

    if by == "events":
        told.hear()
    else:
        compare(told.engine, told.payouts, merchant_id=desk.merchant_id, run_id=run.id, since=desk.now, now=told.now())

    assert desk.state(ann) is state
    assert desk.balances(ann) == balances


def test_money_that_came_back_is_sent_by_the_next_payout(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee(1000, destination=ANN)
    desk.work(desk.an_executing_run())
    become(stripe, "posted")
    become(stripe, "returned", reason="payout_method_closed")
    told.hear()

    desk.work(desk.an_executing_run())

    assert [(item.gross_minor, item.carried_minor) for item in desk.items(ann)] == [(1000, 0), (0, 1000)]
    assert desk.balances(ann) == {"paid": 1000}
    assert len(stripe.payments) == 2


def test_a_payment_that_failed_before_we_heard_of_it_is_refused(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee(1000, destination=ANN)
    stripe.fault("lost")
    run = desk.an_executing_run()
    desk.work(run)
    become(stripe, "failed", reason="payout_method_expired")
    told.hear()

    desk.now = told.now()
    desk.work(run)

    assert desk.state(ann) is ItemState.REFUSED
    assert desk.attempts(ann)[0].code == "payout_method_expired"
    assert desk.balances(ann) == {"reserved": 1000}
    told.ahead = timedelta(minutes=2)
    told.work()
    assert told.states() == {"applied": len(told.events())}


def test_a_thin_event_of_a_payment_we_never_heard_of_finds_its_merchant(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = desk.payee(1000, destination=ANN)
    stripe.fault("lost")
    run = desk.an_executing_run()
    desk.work(run)

    told.hear()
    desk.now = told.now()
    desk.work(run)

    assert desk.state(ann) is ItemState.SENT
    assert [each["merchant_id"] for each in told.events()] == [desk.merchant_id]


def test_a_payment_of_somebody_else_is_foreign(told: Told, rail: StripeGlobalPayoutsRail, stripe: StripeDouble) -> None:
    rail.send(rail.build_request(a_sending()), "not in our books")

    told.hear()

    assert told.states() == {"foreign": 1}


@pytest.mark.parametrize("fault", ["lost", "timeout", "reset", "500_done", "500_not_done", "429"])
def test_a_run_reaches_its_end_through_a_fault_and_pays_once(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    ann = desk.payee(1999, destination=ANN)
    stripe.fault(fault, seconds=3)
    run = desk.an_executing_run()
    desk.work(run)
    assert desk.state(ann) is ItemState.UNKNOWN

    desk.later(minutes=2)
    desk.work(run)

    assert desk.state(ann) is ItemState.SENT
    assert [made["amount"]["value"] for made in stripe.payments] == [1999]
    assert desk.run(run).status == RunState.CLOSED


def test_the_payments_of_a_run_are_told_from_all_others(rail: StripeGlobalPayoutsRail, stripe: StripeDouble) -> None:
    ours, other = a_sending(), a_sending()
    rail.send(rail.build_request(ours), "a")
    rail.send(rail.build_request(Sending(other.merchant_id, UUID(int=6), other.item_id, 1, ANN, 5, "USD")), "b")
    now = datetime.now(UTC)

    listing = rail.made_for(ours.run_id, since=now - timedelta(days=2), until=now + timedelta(minutes=1))

    assert [each.item_id for each in listing.transfers] == [ours.item_id]
