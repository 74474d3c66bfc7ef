"""What Stripe tells of its own accord: kept once, applied in any order to the same end, and looked for when it did not come."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from service.domain.payout import ItemState
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import read_session, run_unit
from service.ledger.audit import check
from service.ledger.findings import FindingCode
from service.payouts.hear import keep
from service.payouts.providers.stripe_events import NoEvent, StripeEvents, heard
from service.payouts.sweep import Missed, back_fill, sweep
from tests.doubles.stripe import StripeDouble
from tests.support.payouts import Desk
from tests.support.stripe import Json, Told

ORDERS = list(permutations(range(4)))


@pytest.fixture
def desk(told: Told) -> Desk:
    return told.desk()


def reverse(stripe: StripeDouble, transfer: Json, amount: int) -> None:
    with stripe.bank.lock:
        stripe.bank.act("POST", ["transfers", transfer["id"], "reversals"], {"amount": str(amount)})


def test_an_event_is_kept_once_however_often_it_comes(told: Told, desk: Desk) -> None:
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())

    for _ in range(3):
        told.hear()

    assert desk.state(ann) is ItemState.SENT
    assert told.states() == {"applied": len(told.stripe.events)}


def test_a_reversal_is_booked_by_its_increase_alone(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())
    reverse(stripe, stripe.transfers[0], 300)
    reverse(stripe, stripe.transfers[0], 200)

    told.hear()

    assert desk.balances(ann) == {"paid": 500, "taxed_carry": 500}
    assert desk.state(ann) is ItemState.PART_REVERSED
    assert desk.events().count("payout.reversed") == 1


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_transfer_events_in_any_order_lead_to_one_state(
    told: Told, desk: Desk, stripe: StripeDouble, order: tuple[int, ...]
) -> None:
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())
    reverse(stripe, stripe.transfers[0], 100)
    reverse(stripe, stripe.transfers[0], 250)
    created, first, second = [each for each in stripe.events if each["type"].startswith("transfer.")]
    events = [created, first, second, first]

    for index in order:
        told.hear([events[index]])

    assert desk.balances(ann) == {"paid": 650, "taxed_carry": 350}
    assert desk.state(ann) is ItemState.PART_REVERSED
    assert told.states() == {"applied": len(told.events())}


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_facts_of_an_outbound_payment_in_any_order_lead_to_one_state(
    told: Told, stripe: StripeDouble, order: tuple[int, ...]
) -> None:
    desk = told.desk(rail="payouts")
    ann = desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    with stripe.bank.lock:
        for status in ("posted", "returned"):
            stripe.bank.payments.become(stripe.payments[0]["id"], status, reason="payout_method_closed")
    created, posted, returned = stripe.bank.payments.events
    events = [created, posted, returned, posted]

    for index in order:
        told.hear([events[index]])

    assert desk.balances(ann) == {"taxed_carry": 1000}
    assert desk.state(ann) is ItemState.RETURNED
    assert sorted(each for each in desk.events() if each.startswith("payout.")) == [
        "payout.returned",
        "payout.sent",
        "payout.settled",
    ]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_bank_payouts_told_in_any_order_pause_a_payee_or_not(
    told: Told, desk: Desk, stripe: StripeDouble, order: tuple[int, ...]
) -> None:
    """paid, then failed, told twice; and an older one that was paid. What failed is the newest, so nothing new is made."""
    ann = told.a_payee(desk)
    account_id = str(told.account(desk, ann).account_id)
    with stripe.bank.lock:
        older = stripe.bank.pay_bank(account_id, 5)
        stripe.bank.events[-1]["data"]["object"]["created"] -= 100
        newest = stripe.bank.pay_bank(account_id, 700)
        stripe.bank.bank_says(account_id, newest, "failed")
    old, paid, failed = stripe.bank.events[-3:]
    assert older["id"] == old["data"]["object"]["id"]
    events = [old, paid, failed, paid]

    for index in order:
        told.hear([events[index]])

    desk.payee(5, destination="acct_made0elsewhere")
    assert desk.left_out(desk.reserve()) == [(ann, "account_not_ready")]
    assert desk.events().count("stripe_account.payout_failed") == 1
    assert desk.balances(ann) == {"payable": 1000}


def test_a_later_payout_that_is_paid_lets_runs_pay_again(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    account_id = str(told.account(desk, ann).account_id)
    with stripe.bank.lock:
        stripe.bank.pay_bank(account_id, 700, status="failed")
        stripe.bank.pay_bank(account_id, 700)
        stripe.bank.events[-1]["data"]["object"]["created"] += 100

    told.hear()

    assert desk.left_out(desk.reserve()) == []


def test_money_a_bank_gave_back_to_stripe_is_never_paid_again_by_us(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())
    with stripe.bank.lock:
        stripe.bank.pay_bank(str(told.account(desk, ann).account_id), 1000, status="failed")

    told.hear()

    assert desk.state(ann) is ItemState.SENT
    assert desk.balances(ann) == {"paid": 1000}
    assert len(stripe.transfers) == 1


def test_what_is_told_of_an_open_attempt_waits_and_wakes_its_look_up(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = told.a_payee(desk)
    stripe.fault("lost")
    run = desk.an_executing_run()
    desk.work(run)
    reverse(stripe, stripe.transfers[0], 400)

    told.hear()

    assert desk.state(ann) is ItemState.UNKNOWN
    assert desk.balances(ann) == {"in_transit": 1000}
    desk.now = told.now()
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT
    told.ahead = timedelta(minutes=2)
    told.work()
    assert desk.state(ann) is ItemState.PART_REVERSED
    assert desk.balances(ann) == {"paid": 600, "taxed_carry": 400}
    assert told.states() == {"applied": len(told.events())}


def test_a_transfer_nobody_asked_for_stops_its_run(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann, bob = told.a_payee(desk), told.a_payee(desk)
    stripe.fault("account_restricted", destination=str(told.account(desk, bob).account_id))
    run = desk.an_executing_run()
    desk.work(run)
    assert desk.state(bob) is ItemState.REFUSED
    sent = stripe.transfers[0]
    strange = {**sent, "id": "tr_strange"}
    with stripe.bank.lock:
        stripe.bank.tell("transfer.created", strange)

    told.hear()

    assert desk.run(run).stop_code == "unexpected_transfer"
    assert [each["reason_code"] for each in told.events() if each["state"] == "parked"] == ["unexpected_transfer"]
    assert desk.state(ann) is ItemState.SENT


def test_a_strange_transfer_that_was_taken_back_is_nothing(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    told.a_payee(desk)
    run = desk.an_executing_run()
    desk.work(run)
    with stripe.bank.lock:
        stripe.bank.tell("transfer.reversed", {**stripe.transfers[0], "id": "tr_x", "amount_reversed": 1000})

    told.hear()

    assert told.states() == {"applied": len(told.events())}


def test_what_is_about_others_is_kept_and_changes_nothing(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    theirs = stripe.account("acct_somebodyelse00")
    with stripe.bank.lock:
        form = {"amount": "5", "currency": "usd", "destination": theirs, "metadata": {"order": "7"}}
        stripe.bank.act("POST", ["transfers"], form)
        stripe.bank.restrict(theirs)

    told.hear()

    assert told.states() == {"foreign": 3}
    assert desk.events() == []


@pytest.mark.parametrize(
    ("event", "reads"),
    [
        pytest.param({"id": "evt_1", "type": "charge.succeeded", "livemode": False}, False, id="another type"),
        pytest.param(
            {"id": "evt_1", "type": "transfer.created", "livemode": True, "data": {"object": {"id": "tr_1"}}},
            False,
            id="of the other mode",
        ),
        pytest.param({"id": "evt_1", "type": "payout.paid", "livemode": False}, False, id="the platform's own payout"),
        pytest.param(
            {"id": "evt_1", "type": "transfer.created", "livemode": False, "account": "acct_1"},
            False,
            id="a transfer of a connected account",
        ),
        pytest.param({"id": "evt_1", "type": "transfer.created", "livemode": False}, True, id="without its object"),
    ],
)
def test_only_what_may_be_ours_is_read(event: Json, reads: bool) -> None:
    assert (heard(event, is_test=True) is not None) is reads


@pytest.mark.parametrize("event", [{}, {"id": 5, "type": "a"}, {"id": "evt_1"}, {"id": "", "type": "a"}])
def test_what_is_no_event_is_refused(event: Json) -> None:
    with pytest.raises(NoEvent):
        heard(event, is_test=True)


def test_an_event_whose_object_cannot_be_read_is_parked_for_people(told: Told) -> None:
    told.hear([{"id": "evt_1", "type": "transfer.created", "livemode": False, "data": {"object": 5}, "created": "x"}])

    assert [(each["state"], each["reason_code"]) for each in told.events()] == [("parked", "not_understood")]


def test_nothing_about_persons_is_kept_of_an_event(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    with stripe.bank.lock:
        stripe.bank.change_account(str(told.account(desk, ann).account_id), email="ann@example.com")
    desk.work(desk.an_executing_run())

    told.hear()

    assert "ann@example.com" not in str(desk.rows("SELECT payload FROM provider_event"))


@pytest.mark.parametrize("point", [CrashPoint.PROVIDER_EVENTS_READ, CrashPoint.PROVIDER_EVENTS_BEFORE_COMMIT])
def test_a_worker_that_dies_while_it_applies_loses_nothing(
    told: Told, desk: Desk, stripe: StripeDouble, point: CrashPoint
) -> None:
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())
    reverse(stripe, stripe.transfers[0], 400)
    told.tell(stripe.events)

    with crashing_at(point), pytest.raises(Crashed):
        told.work()
    told.work()

    assert desk.balances(ann) == {"paid": 600, "taxed_carry": 400}
    assert told.states() == {"applied": len(told.events())}


def test_a_door_that_dies_before_its_commit_has_acknowledged_nothing(told: Told, stripe: StripeDouble) -> None:
    with stripe.bank.lock:
        event = heard(stripe.bank.tell("transfer.created", {"id": "tr_1", "metadata": {}}), is_test=True)
    assert event is not None
    store: Any = partial(keep, events=[event], now=told.now())

    with crashing_at(CrashPoint.PROVIDER_EVENT_BEFORE_COMMIT), pytest.raises(Crashed):
        run_unit(told.engine, store)

    assert told.events() == []
    assert run_unit(told.engine, store)["foreign"] == 1


def test_events_that_were_never_delivered_are_listed_and_applied(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann = told.a_payee(desk)
    global_desk = told.desk(rail="payouts")
    bob = global_desk.payee(700, destination=stripe.account())
    desk.work(desk.an_executing_run())
    global_desk.work(global_desk.an_executing_run())
    reverse(stripe, stripe.transfers[0], 400)
    with stripe.bank.lock:
        stripe.bank.restrict(str(told.account(desk, ann).account_id))
        stripe.bank.payments.become(stripe.payments[0]["id"], "posted")
    told.ahead = timedelta(days=1, minutes=1)

    missed = back_fill(told.provider, StripeEvents(told.connect.api), since=None, now=told.now())
    told.work()

    assert missed.trouble is None
    assert desk.balances(ann) == {"paid": 600, "taxed_carry": 400}
    assert not told.account(desk, ann).ready
    assert global_desk.state(bob) is ItemState.SETTLED
    again = back_fill(told.provider, StripeEvents(told.connect.api), since=None, now=told.now())
    assert again.kept == 0


def test_a_listing_without_an_answer_is_no_listing(told: Told, desk: Desk) -> None:
    told.a_payee(desk)
    away = Told.on(told.engine, told.stripe)
    away.connect.api.client = Told.on(told.engine, type("Gone", (), {"url": "http://127.0.0.1:9"})()).connect.api.client

    missed = back_fill(away.provider, StripeEvents(away.connect.api), since=told.now(), now=told.now())
    away.close()

    assert missed.trouble is not None


DAY = timedelta(days=1, minutes=1)


def look_back(told: Told) -> Missed:
    """Let what was not delivered for the last hour be listed, and forget what was asked before."""
    with told.stripe.bank.lock:
        told.stripe.bank.requests.clear()
    return back_fill(told.provider, StripeEvents(told.connect.api), since=told.now(), now=told.now())


def asked_for_events(told: Told) -> int:
    return sum(path.endswith("/events") for _, path, _ in told.stripe.bank.requests)


@pytest.mark.parametrize("fault", ["reset", "timeout", "429", "500_not_done", "401"])
def test_where_stripe_is_away_the_worker_asks_once_and_goes_on(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    payees = [told.a_payee(desk, onboarded=False) for _ in range(3)]
    stripe.fault(fault, times=99, seconds=3, path="/v1/events")
    told.ahead = DAY

    missed = look_back(told)

    assert missed.trouble is not None
    assert asked_for_events(told) == 1
    assert {told.account(desk, each).events_tried_at for each in payees} == {None}


@pytest.mark.parametrize("fault", ["reset", "429", "500_not_done", "401"])
def test_where_stripe_goes_away_in_between_no_further_account_is_asked(
    told: Told, desk: Desk, stripe: StripeDouble, fault: str
) -> None:
    first, *others = [told.a_payee(desk, onboarded=False) for _ in range(3)]
    stripe.fault(fault, times=99, path="/v1/events", destination=told.account(desk, first).account_id)
    told.ahead = DAY

    missed = look_back(told)

    assert missed.trouble is None
    assert asked_for_events(told) == len(["platform", "payments", "first"])
    assert {told.account(desk, each).events_tried_at for each in others} == {None}
    look_back(told)
    assert all(told.account(desk, each).events_until > told.now() - DAY / 2 for each in others)  # type: ignore[operator] # set


def test_a_platform_that_may_not_list_its_own_events_still_lists_those_of_accounts(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = told.a_payee(desk, onboarded=False)
    stripe.fault("403", path="/v1/events")
    told.ahead = DAY

    missed = look_back(told)

    assert missed.trouble is not None
    assert told.account(desk, ann).events_tried_at is not None


def test_an_account_that_is_gone_keeps_no_other_waiting(
    told: Told, desk: Desk, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, there = told.a_payee(desk, onboarded=False), told.a_payee(desk, onboarded=False)
    with stripe.bank.lock:
        del stripe.bank.accounts[str(told.account(desk, gone).account_id)]
    monkeypatch.setattr("service.payouts.sweep.ACCOUNTS_AT_ONCE", 1)
    before = told.account(desk, gone).events_until
    told.ahead = DAY

    look_back(told)
    assert told.account(desk, gone).events_tried_at is not None
    assert told.account(desk, there).events_tried_at is None
    look_back(told)
    assert told.account(desk, there).events_tried_at is not None
    look_back(told)

    assert asked_for_events(told) == len(["platform", "payments"])
    assert told.account(desk, gone).events_until == before
    assert told.account(desk, there).events_until == told.account(desk, there).events_tried_at


def test_an_account_that_answers_again_is_listed_from_where_it_last_did(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    ann = told.a_payee(desk)
    account_id = str(told.account(desk, ann).account_id)
    with stripe.bank.lock:
        stripe.bank.pay_bank(account_id, 300, status="failed")
        away = stripe.bank.accounts.pop(account_id)
    for days in range(1, 5):
        told.ahead = DAY * days
        look_back(told)
        assert asked_for_events(told) == len(["platform", "payments", "account"])
    with stripe.bank.lock:
        stripe.bank.accounts[account_id] = away
    told.ahead = DAY * 5

    missed = look_back(told)
    told.work()

    assert missed.kept == 1
    assert "stripe_account.payout_failed" in desk.events()


def test_an_account_whose_answer_ends_the_worker_is_not_the_first_again(
    told: Told, desk: Desk, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = told.a_payee(desk, onboarded=False), told.a_payee(desk, onboarded=False)
    with stripe.bank.lock:
        stripe.bank.pay_bank(str(told.account(desk, first).account_id), 300)
    monkeypatch.setattr("service.payouts.sweep.ACCOUNTS_AT_ONCE", 1)
    told.ahead = DAY
    with crashing_at(CrashPoint.PROVIDER_EVENT_BEFORE_COMMIT), pytest.raises(Crashed):
        look_back(told)

    look_back(told)

    assert told.account(desk, second).events_until == told.account(desk, second).events_tried_at
    told.ahead = DAY * 2
    assert look_back(told).kept == 1


def test_accounts_are_asked_for_a_while_and_the_rest_in_the_next_turn(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    payees = [told.a_payee(desk, onboarded=False) for _ in range(3)]
    told.ahead = DAY
    now = told.now()

    def slow() -> datetime:
        told.ahead += timedelta(seconds=20)
        return told.now()

    back_fill(replace(told.provider, clock=slow), StripeEvents(told.connect.api), since=now, now=now)

    assert [told.account(desk, each).events_tried_at for each in payees] == [now, None, None]
    look_back(told)
    assert all(told.account(desk, each).events_tried_at is not None for each in payees)


def test_a_sweep_tells_four_sets_apart(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann, bob = told.a_payee(desk), told.a_payee(desk, 700)
    desk.work(desk.an_executing_run())
    gone = next(each for each in stripe.transfers if each["amount"] == 700)
    with stripe.bank.lock:
        form = {"amount": "5", "currency": "usd", "destination": stripe.account()}
        stripe.bank.act("POST", ["transfers"], form)
        stripe.bank.transfers["tr_strange"] = {**stripe.transfers[0], "id": "tr_strange"}
        del stripe.bank.transfers[gone["id"]]
    told.ahead = timedelta(hours=1)

    swept = sweep(told.provider, told.connect, since=told.now(), now=told.now())

    assert swept.complete
    assert (swept.matched, swept.foreign, swept.open) == (1, 1, 0)
    assert swept.missing == (gone["id"],)
    assert swept.unexplained == ("tr_strange",)
    assert [desk.state(each) for each in (ann, bob)] == [ItemState.SENT, ItemState.SENT]


def test_a_sweep_books_what_came_back_and_wakes_what_is_open(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    ann, bob = told.a_payee(desk), told.a_payee(desk, 700)
    stripe.fault("lost", destination=str(told.account(desk, bob).account_id))
    run = desk.an_executing_run()
    desk.work(run)
    reverse(stripe, next(each for each in stripe.transfers if each["amount"] == 1000), 1000)

    swept = sweep(told.provider, told.connect, since=told.now(), now=told.now())

    assert (swept.matched, swept.open, swept.changed) == (1, 1, 1)
    assert desk.balances(ann) == {"taxed_carry": 1000}
    desk.now = told.now()
    desk.work(run)
    assert desk.state(bob) is ItemState.SENT


def test_the_books_add_up_after_all_of_it(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    told.a_payee(desk)
    told.a_payee(desk, 700)
    desk.work(desk.an_executing_run())
    for transfer in stripe.transfers:
        reverse(stripe, transfer, 100)
    told.hear()

    with read_session(told.engine) as session:
        found = check(session, desk.merchant_id)
    # What the desk's payees earned was booked without orders; nothing else is odd.
    assert {each.code for each in found} == {FindingCode.POSTING_ENTRIES, FindingCode.ITEM_GROSS, FindingCode.EARNED}
