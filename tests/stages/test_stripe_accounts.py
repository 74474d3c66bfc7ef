"""Accounts of payees at Stripe: made once whatever happens in between, kept as told last, and who is not paid meanwhile."""

from datetime import timedelta

import pytest

from service.domain.errors import Missing
from service.domain.payout import Excluded, ItemState
from service.domain.provider import ServiceAgreement
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.ids import encode, new_id
from service.payouts.accounts import AccountFixed
from service.payouts.providers.stripe_accounts import StripeAway, StripeRefused
from tests.doubles.stripe import StripeDouble
from tests.support.payouts import Desk
from tests.support.stripe import Told


@pytest.fixture
def desk(told: Told) -> Desk:
    return told.desk()


def test_an_account_takes_transfers_and_is_onboarded_by_stripe(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()

    account_id = told.an_account(desk, ann)

    [(path, sent)] = stripe.bank.bodies
    assert path == "/v1/accounts"
    assert sent["controller"] == {
        "fees": {"payer": "application"},
        "losses": {"payments": "application"},
        "requirement_collection": "stripe",
        "stripe_dashboard": {"type": "express"},
    }
    assert sent["capabilities"] == {"transfers": {"requested": "true"}}
    assert stripe.bank.accounts[account_id]["metadata"] == {
        "koc_merchant": encode("mer", desk.merchant_id),
        "koc_affiliate": encode("aff", ann),
    }
    kept = told.account(desk, ann)
    assert not kept.ready
    assert kept.requirements["currently_due"]
    assert kept.told_at is not None


def test_an_account_is_made_once_however_often_it_is_asked_for(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()

    ids = {told.an_account(desk, ann) for _ in range(3)}

    assert len(ids) == len(stripe.bank.accounts) == 1
    assert [method for method, _, _ in stripe.bank.requests] == ["POST"]


def test_the_key_is_made_of_whose_account_it_is(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()

    told.an_account(desk, ann)

    key = f"test:account:{encode('mer', desk.merchant_id)}:{encode('aff', ann)}:1"
    assert stripe.bank.requests == [("POST", "/v1/accounts", key)]


@pytest.mark.parametrize("fault", ["lost", "timeout", "reset", "429"])
def test_an_account_whose_answer_was_lost_is_the_one_made_then(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    ann = desk.payee()
    stripe.fault(fault, seconds=3)
    with pytest.raises(StripeAway):
        told.an_account(desk, ann)

    account_id = told.an_account(desk, ann)

    assert list(stripe.bank.accounts) == [account_id]


@pytest.mark.parametrize("point", [CrashPoint.ACCOUNT_CLAIMED, CrashPoint.ACCOUNT_MADE])
def test_a_process_that_dies_on_the_way_leaves_one_account(
    told: Told, desk: Desk, stripe: StripeDouble, point: CrashPoint
) -> None:
    ann = desk.payee()
    with crashing_at(point), pytest.raises(Crashed):
        told.an_account(desk, ann)

    account_id = told.an_account(desk, ann)

    assert list(stripe.bank.accounts) == [account_id]


def test_after_a_day_an_account_is_looked_for_before_it_is_asked_for_again(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = desk.payee()
    with crashing_at(CrashPoint.ACCOUNT_MADE), pytest.raises(Crashed):
        told.an_account(desk, ann)
    stripe.bank.keys.clear()
    told.ahead = timedelta(days=2)

    account_id = told.an_account(desk, ann)

    assert list(stripe.bank.accounts) == [account_id]


def test_an_account_asked_for_otherwise_by_an_older_release_is_found(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = desk.payee()
    with crashing_at(CrashPoint.ACCOUNT_MADE), pytest.raises(Crashed):
        told.an_account(desk, ann)
    [key] = stripe.bank.keys
    stripe.bank.keys[key].request = ("/v1/accounts", "other=parameters")

    account_id = told.an_account(desk, ann)

    assert list(stripe.bank.accounts) == [account_id]


def test_a_refusal_lets_the_account_be_asked_for_anew(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()
    stripe.fault("insufficient_funds")
    with pytest.raises(StripeRefused):
        told.an_account(desk, ann, country="XX")

    account_id = told.an_account(desk, ann, country="US")

    assert list(stripe.bank.accounts) == [account_id]
    assert [key[-2:] for _, _, key in stripe.bank.requests if key] == [":1", ":2"]


@pytest.mark.parametrize("fault", ["429", "reset", "crash"])
def test_a_refusal_after_a_request_that_did_nothing_lets_the_account_be_asked_for_otherwise(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    ann = desk.payee()
    if fault == "crash":
        with crashing_at(CrashPoint.ACCOUNT_CLAIMED), pytest.raises(Crashed):
            told.an_account(desk, ann, country="XX")
    else:
        stripe.fault(fault)
        with pytest.raises(StripeAway):
            told.an_account(desk, ann, country="XX")
    stripe.fault("insufficient_funds")
    with pytest.raises(StripeRefused):
        told.an_account(desk, ann, country="XX")

    account_id = told.an_account(desk, ann, country="US")

    assert list(stripe.bank.accounts) == [account_id]
    assert [key[-2:] for _, _, key in stripe.bank.requests if key][-2:] == [":1", ":2"]


def test_an_account_that_was_made_before_the_refusal_is_the_one(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()
    with crashing_at(CrashPoint.ACCOUNT_MADE), pytest.raises(Crashed):
        told.an_account(desk, ann)
    stripe.bank.keys.clear()
    stripe.fault("insufficient_funds")

    account_id = told.an_account(desk, ann)

    assert list(stripe.bank.accounts) == [account_id]
    assert told.account(desk, ann).number == 1


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_refused_key_says_nothing_of_what_was_asked_for_before(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    ann = desk.payee()
    stripe.fault("429")
    with pytest.raises(StripeAway):
        told.an_account(desk, ann)
    stripe.fault(fault)
    with pytest.raises(StripeRefused):
        told.an_account(desk, ann)

    with pytest.raises(AccountFixed):
        told.an_account(desk, ann, country="DE")

    assert told.an_account(desk, ann) in stripe.bank.accounts
    assert {key[-2:] for _, _, key in stripe.bank.requests if key} == {":1"}


def test_a_look_up_without_an_answer_leaves_the_claim_to_the_next_one(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = desk.payee()
    with crashing_at(CrashPoint.ACCOUNT_CLAIMED), pytest.raises(Crashed):
        told.an_account(desk, ann, country="XX")
    stripe.fault("insufficient_funds", times=2)
    stripe.fault("500_not_done", path="/v1/accounts")
    with pytest.raises(StripeAway):
        told.an_account(desk, ann, country="XX")
    with pytest.raises(StripeRefused):
        told.an_account(desk, ann, country="XX")

    assert told.an_account(desk, ann, country="US") in stripe.bank.accounts


def test_country_and_agreement_of_an_account_never_change(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee()
    told.an_account(desk, ann, country="US", agreement=ServiceAgreement.RECIPIENT)

    with pytest.raises(AccountFixed):
        told.an_account(desk, ann, country="DE", agreement=ServiceAgreement.RECIPIENT)
    with pytest.raises(AccountFixed):
        told.an_account(desk, ann, country="US")

    assert stripe.bank.bodies[0][1]["tos_acceptance"] == {"service_agreement": "recipient"}


def test_nobody_has_an_account_made_for_a_stranger(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    with pytest.raises(Missing):
        told.an_account(desk, new_id())
    with pytest.raises(Missing):
        told.an_account(told.desk(), desk.payee())

    assert stripe.bank.requests == []


def test_what_was_told_before_the_account_was_known_counts_afterwards(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = desk.payee()
    with crashing_at(CrashPoint.ACCOUNT_MADE), pytest.raises(Crashed):
        told.an_account(desk, ann)
    [account_id] = stripe.bank.accounts
    with stripe.bank.lock:
        stripe.bank.pay_bank(account_id, 300, status="failed")
    told.hear()
    assert told.states() == {"foreign": 1}

    told.an_account(desk, ann)
    told.work()

    assert told.states() == {"applied": 1}
    assert desk.events() == ["stripe_account.payout_failed"]


def test_an_account_becomes_ready_and_stops_being_so(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    account_id = str(told.account(desk, ann).account_id)
    with stripe.bank.lock:
        stripe.bank.restrict(account_id)

    told.hear()

    kept = told.account(desk, ann)
    assert not kept.ready
    assert kept.capabilities == {"transfers": "inactive"}
    assert kept.requirements["past_due"] == ["individual.verification.document"]
    assert kept.requirements["disabled_reason"] == "requirements.past_due"
    assert desk.events() == ["stripe_account.ready", "stripe_account.not_ready"]


def test_what_was_asked_for_last_is_what_counts(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    onboarded = list(stripe.events)
    with stripe.bank.lock:
        stripe.bank.restrict(str(told.account(desk, ann).account_id))
    restricted = stripe.events[len(onboarded) :]

    told.hear([*restricted, *onboarded])

    # The older events came last, and what they are about was asked for: it is as Stripe has it now.
    assert not told.account(desk, ann).ready


def test_an_account_that_is_not_ready_is_left_out_and_dropped_before_sending(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann, bob, eve = told.a_payee(desk), told.a_payee(desk), told.a_payee(desk, onboarded=False)
    run = desk.reserve()
    desk.submit(run)
    desk.approve(run)
    with stripe.bank.lock:
        stripe.bank.restrict(str(told.account(desk, bob).account_id))
    told.hear()

    desk.work(desk.execute(run))

    assert desk.left_out(run) == [(eve, Excluded.ACCOUNT_NOT_READY)]
    assert desk.state(ann) is ItemState.SENT
    assert desk.item(bob).release_reason == "account_not_ready"
    assert desk.balances(bob) == {"payable": 1000}
    assert len(stripe.transfers) == 1


def test_an_account_made_elsewhere_is_paid_as_before(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = desk.payee(1000, destination=stripe.account())

    desk.work(desk.an_executing_run())

    assert desk.state(ann) is ItemState.SENT


def test_the_account_of_another_rail_keeps_nobody_out(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    other = told.desk(rail="payouts")
    ann = told.a_payee(other, onboarded=False)

    run = other.an_executing_run()
    other.work(run)

    assert other.state(ann) is ItemState.SENT
    assert stripe.payments[0]["to"]["recipient"] == told.account(other, ann).account_id
