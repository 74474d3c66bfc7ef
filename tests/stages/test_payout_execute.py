"""Sending: what each answer of a rail proves, and that nobody is paid twice whatever happens in between."""

import contextlib
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.payout import Answer, AnswerKind, FactKind, ItemState, Outcome, RunState
from service.infra.db import read_session, run_unit
from service.payouts.execute import advance
from service.payouts.find import states_in
from service.payouts.plan import plan
from service.payouts.reconcile import Told, compare, reconcile
from service.payouts.record import Verdict, record
from service.payouts.release import cancel, release
from service.payouts.retry import NothingToRetry, confirm_resend, retry
from service.payouts.send import ask, expire, lease_planned
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import CHECKER, MAKER, Crash, Desk, FakeRail


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


def test_an_accepted_item_is_sent_and_the_run_closes(desk: Desk) -> None:
    ann, bob = desk.payee(100), desk.payee(200, carried=3)
    run = desk.an_executing_run()

    progress = desk.work(run)

    assert progress.next_at is None
    assert desk.run(run).status == RunState.CLOSED
    assert [desk.state(each) for each in (ann, bob)] == [ItemState.SENT, ItemState.SENT]
    assert desk.balances(ann) == {"paid": 100}
    assert desk.balances(bob) == {"paid": 203}
    assert sorted(each.amount_minor for each in desk.rail.transfers) == [100, 203]
    assert desk.events() == [
        "payout_run.created",
        "payout_run.submitted",
        "payout_run.approved",
        "payout_run.executing",
        "payout.sent",
        "commission.paid",
        "payout.sent",
        "commission.paid",
        "payout_run.closed",
    ]


def test_an_attempt_is_written_down_before_the_first_byte_leaves(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["lost"]

    desk.work(desk.an_executing_run())

    attempt = desk.attempts(ann)[0]
    assert attempt.idempotency_key == desk.rail.sends[0]
    assert attempt.idempotency_key.startswith("test:pay_")
    assert attempt.idempotency_key.endswith(":1")
    assert (attempt.sends, attempt.first_sent_at) == (1, desk.now)
    assert b"sandbox_ok" not in attempt.request


def test_a_run_larger_than_a_wave_is_sent_whole(engine: Engine) -> None:
    desk = Desk.opened(engine, rail=FakeRail(at_once=3))
    payees = [desk.payee(100 + number) for number in range(10)]

    desk.work(desk.an_executing_run())

    assert {desk.state(each) for each in payees} == {ItemState.SENT}
    assert len(desk.rail.sends) == len(set(desk.rail.sends)) == 10


def test_a_remainder_below_the_rails_step_is_carried_and_sent_next_time(engine: Engine) -> None:
    desk = Desk.opened(engine, rail=FakeRail(step=100))
    ann = desk.payee(1230)

    desk.work(desk.an_executing_run())

    assert desk.balances(ann) == {"paid": 1200, "taxed_carry": 30}
    desk.earn(ann, 70)
    desk.work(desk.an_executing_run())
    second = desk.item(ann)
    assert (second.gross_minor, second.carried_minor, second.net_minor, second.remainder_minor) == (70, 30, 100, 0)
    assert desk.balances(ann) == {"paid": 1300}


def test_a_definite_refusal_frees_the_money_for_a_person_to_decide(desk: Desk) -> None:
    ann, bob = desk.payee(100, destination="sandbox_bad"), desk.payee(100)
    desk.rail.does["sandbox_bad"] = ["refuse"]
    run = desk.an_executing_run()

    desk.work(run)

    assert (desk.state(ann), desk.state(bob)) == (ItemState.REFUSED, ItemState.SENT)
    assert desk.balances(ann) == {"reserved": 100}
    assert desk.item(ann).handed_over_at is None
    assert desk.run(run).status == RunState.EXECUTING
    assert "payout.refused" in desk.events()
    desk.later(hours=9)
    desk.work(run)
    assert len(desk.attempts(ann)) == 1


def test_a_refused_item_is_sent_again_under_a_new_key_when_a_person_asks(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["refuse"]
    run = desk.an_executing_run()
    desk.work(run)

    desk.do(retry, item_id=desk.item(ann).id, by=MAKER, now=desk.now)
    desk.work(run)

    assert [each.outcome for each in desk.attempts(ann)] == ["refused", "accepted"]
    assert [key[-2:] for key in desk.rail.sends] == [":1", ":2"]
    assert desk.attempts(ann)[1].asked_by == MAKER
    assert desk.run(run).status == RunState.CLOSED


def test_a_refused_item_can_be_released_and_the_run_closes(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["refuse"]
    run = desk.an_executing_run()
    desk.work(run)

    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)
    desk.work(run)

    assert desk.balances(ann) == {"payable": 100}
    assert desk.run(run).status == RunState.CLOSED


def test_a_refusal_of_what_was_done_is_not_believed(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan_of(desk, run))
    [leased] = desk.do(lease_of(desk, run))
    desk.rail._do(leased.request, leased.key)
    desk.rail.does["sandbox_ok"] = ["refuse"]

    answer = ask(desk.rail, leased, lambda: desk.now)

    assert answer.reference == desk.rail.transfers[0].reference
    assert desk.state(ann) is ItemState.SENDING


def test_silence_keeps_the_money_in_transit_until_a_look_up_finds_the_transfer(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["lost"]
    run = desk.an_executing_run()

    progress = desk.work(run)

    assert desk.state(ann) is ItemState.UNKNOWN
    assert desk.balances(ann) == {"in_transit": 100}
    assert progress.next_at is not None
    assert timedelta(minutes=1) <= progress.next_at - desk.now <= timedelta(minutes=1.2)
    desk.later(minutes=2)
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT
    assert len(desk.rail.sends) == len(desk.rail.transfers) == 1


def test_what_is_not_found_is_sent_again_with_the_same_key(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down", "down"]
    run = desk.an_executing_run()
    desk.work(run)

    for minutes in (2, 7):
        desk.later(minutes=minutes)
        desk.work(run)

    assert desk.rail.sends == [desk.attempts(ann)[0].idempotency_key] * 3
    assert desk.attempts(ann)[0].sends == 3
    assert desk.state(ann) is ItemState.SENT


def test_the_refusal_of_a_second_sending_proves_nothing(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["late", "refuse"]
    run = desk.an_executing_run()
    desk.work(run)

    desk.later(minutes=2)
    desk.work(run)

    assert desk.state(ann) is ItemState.UNKNOWN
    assert desk.balances(ann) == {"in_transit": 100}
    desk.rail.land()
    desk.later(minutes=7)
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT
    assert len(desk.rail.transfers) == 1


def test_an_old_key_is_only_looked_up_and_absence_is_proven_by_two_listings(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down"] * 99
    run = desk.an_executing_run()
    desk.work(run)
    for _ in range(21):
        desk.later(hours=1)
        desk.work(run)
    sends = len(desk.rail.sends)
    desk.rail.forget_keys()

    for _ in range(4):
        desk.later(hours=1)
        desk.work(run)
        assert desk.state(ann) is ItemState.UNKNOWN
    for _ in range(3):
        desk.later(minutes=20)
        desk.work(run)

    assert len(desk.rail.sends) == sends
    assert desk.state(ann) is ItemState.REFUSED
    assert desk.attempts(ann)[0].outcome == "absent"
    assert len(desk.attempts(ann)[0].proof["listings"]) >= 2
    assert desk.balances(ann) == {"reserved": 100}


def test_after_a_proof_of_absence_only_a_persons_word_sends_again(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.later(hours=26)
    desk.work(run)
    desk.later(minutes=20)
    desk.work(run)
    item_id = desk.item(ann).id
    desk.later(hours=5)
    desk.work(run)
    assert len(desk.rail.sends) == 1
    with pytest.raises(NothingToRetry):
        desk.do(retry, item_id=item_id, by=CHECKER, now=desk.now)

    desk.do(confirm_resend, item_id=item_id, by=CHECKER, now=desk.now)
    desk.work(run)

    assert [each.outcome for each in desk.attempts(ann)] == ["absent", "accepted"]
    assert desk.balances(ann) == {"paid": 100}


def test_an_incomplete_listing_proves_nothing(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.rail.listing_fails = True

    for _ in range(5):
        desk.later(hours=26)
        desk.work(run)

    assert desk.state(ann) is ItemState.UNKNOWN
    assert len(desk.rail.sends) == 1


def test_a_refusal_that_cannot_be_looked_up_proves_nothing(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["refuse"]
    desk.rail.listing_fails = True

    desk.work(desk.an_executing_run())

    assert desk.state(ann) is ItemState.UNKNOWN


def test_a_look_up_that_is_itself_refused_says_nothing_of_what_was_sent(desk: Desk) -> None:
    ann, bob = desk.payee(100), desk.payee(100, destination="sandbox_bob")
    desk.rail.does |= {"sandbox_ok": ["lost"], "sandbox_bob": ["refuse"]}
    desk.rail.listing_fails, desk.rail.listing_trouble = True, Answer(AnswerKind.REFUSED, code="resource_missing")
    run = desk.an_executing_run()
    desk.work(run)

    desk.later(minutes=2)
    desk.work(run)

    assert [desk.state(each) for each in (ann, bob)] == [ItemState.UNKNOWN, ItemState.UNKNOWN]
    assert desk.balances(ann) == desk.balances(bob) == {"in_transit": 100}
    desk.rail.listing_fails = False
    desk.later(minutes=7)
    desk.work(run)
    assert [desk.state(each) for each in (ann, bob)] == [ItemState.SENT, ItemState.SENT]
    assert len(desk.rail.transfers) == 2


def test_a_look_up_that_took_longer_than_its_lease_sends_nothing_again(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["late"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.later(minutes=2)

    def sleep() -> None:
        # Meanwhile the first sending arrives. Were another sent now, it could arrive when its key is forgotten.
        desk.rail.land()
        desk.later(hours=19)

    desk.rail.slow_listing = sleep
    desk.work(run)
    desk.rail.slow_listing = None

    assert len(desk.rail.sends) == 1
    assert desk.state(ann) is ItemState.UNKNOWN
    desk.later(hours=1)
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT


def test_a_listing_is_as_old_as_the_question(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.later(hours=24, minutes=50)
    # Our process sleeps between asking and reading what was listed.
    desk.rail.slow_listing = lambda: desk.later(minutes=20)
    desk.work(run)
    desk.rail.slow_listing = None

    desk.later(minutes=20)
    desk.work(run)

    assert desk.state(ann) is ItemState.UNKNOWN
    desk.later(minutes=20)
    desk.work(run)
    assert desk.attempts(ann)[0].outcome == "absent"


def test_refused_credentials_stop_the_rail_and_refuse_nobody(engine: Engine) -> None:
    desk = Desk.opened(engine, rail=FakeRail(at_once=1))
    payees = [desk.payee(100, destination=f"sandbox_{number}") for number in range(3)]
    other_payee = desk.payee(100)
    other = desk.an_executing_run(other_payee)
    desk.rail.does["sandbox_0"] = ["stopped"]
    run = desk.an_executing_run(*payees)

    desk.work(run)

    assert desk.run(run).stop_code == desk.run(other).stop_code == "api_key_expired"
    assert [desk.state(each) for each in payees] == [ItemState.UNKNOWN, ItemState.SENDING, ItemState.SENDING]
    assert len(desk.rail.sends) == 1
    assert "payout_run.stopped" in desk.events()
    desk.later(minutes=2)
    desk.execute(run)
    desk.work(run)
    assert {desk.state(each) for each in payees} == {ItemState.SENT}
    assert len(desk.rail.transfers) == 3


def test_a_key_used_with_other_parameters_freezes_the_item(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["mismatch"]
    run = desk.an_executing_run()

    desk.work(run)
    for _ in range(3):
        desk.later(hours=1)
        desk.work(run)

    assert desk.item(ann).frozen_code == "key_with_other_parameters"
    assert desk.state(ann) is ItemState.UNKNOWN
    assert len(desk.rail.sends) == 1


def test_another_amount_than_asked_for_is_recorded_as_sent_and_stops_the_run(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["other"]
    run = desk.an_executing_run()

    desk.work(run)

    assert desk.state(ann) is ItemState.SENT
    assert desk.run(run).stop_code == "answer_differs"


def test_a_transfer_that_its_attempt_does_not_explain_stops_the_run(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["late"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.later(hours=26)
    desk.work(run)
    desk.later(minutes=20)
    desk.work(run)
    desk.do(confirm_resend, item_id=desk.item(ann).id, by=CHECKER, now=desk.now)
    desk.rail.does["sandbox_ok"] = ["down"]
    desk.work(run)
    desk.rail.land()

    desk.later(minutes=5)
    desk.work(run)

    assert desk.run(run).stop_code == "unexpected_transfer"
    assert desk.state(ann) is ItemState.UNKNOWN
    assert len(desk.rail.transfers) == 1


@pytest.mark.parametrize(
    ("came_back", "recorded", "is_stopped"),
    [
        pytest.param([0, 100], "old", False, id="the younger was taken back"),
        pytest.param([100, 0], "young", False, id="the older was taken back"),
        pytest.param([0, 40], "old", True, id="both stand, the younger in part"),
        pytest.param([0, 0], "old", True, id="both stand"),
        pytest.param([100, 100], "young", False, id="both were taken back"),
    ],
)
def test_of_two_transfers_of_one_attempt_the_one_that_stands_is_recorded(
    desk: Desk, came_back: list[int], recorded: str, is_stopped: bool
) -> None:
    ann, run = desk.payee(100), desk.an_executing_run()
    desk.rail.does["sandbox_ok"] = ["lost"]
    desk.work(run)
    [made] = desk.rail.transfers
    # As providers list them: the youngest first.
    desk.rail.transfers[:] = [replace(made, reference="young"), replace(made, reference="old")]
    for reference, amount in zip(("old", "young"), came_back, strict=True):
        desk.rail.reverse(reference, amount)

    desk.later(minutes=2)
    desk.work(run)
    compare(desk.engine, desk.rail, merchant_id=desk.merchant_id, run_id=run.id, since=desk.now, now=desk.now)

    assert desk.attempts(ann)[0].reference == recorded
    assert (desk.run(run).stop_code == "unexpected_transfer") is is_stopped
    # What is owed again is what came back of the one that is recorded, and so nothing while it stands.
    back = dict(zip(("old", "young"), came_back, strict=True))[recorded]
    assert desk.balances(ann).get("taxed_carry", 0) == back


def test_a_transfer_that_was_taken_back_whole_is_recorded_where_it_is_the_only_one(desk: Desk) -> None:
    ann, run = desk.payee(100), desk.an_executing_run()
    desk.rail.does["sandbox_ok"] = ["lost"]
    desk.work(run)
    desk.rail.reverse(desk.rail.transfers[0].reference, 100)

    desk.later(minutes=2)
    desk.work(run)

    assert desk.attempts(ann)[0].reference == desk.rail.transfers[0].reference
    assert desk.run(run).stop_code is None


def test_a_worker_that_dies_leaves_an_unknown_and_its_late_answer_is_not_recorded(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan_of(desk, run))
    [leased] = desk.do(lease_of(desk, run))
    desk.later(minutes=11)

    desk.work(run, owner="another")

    assert desk.state(ann) is ItemState.SENT
    assert desk.attempts(ann)[0].sends == 2
    assert ask(desk.rail, leased, lambda: desk.now).code == "not_sent_in_time"
    assert desk.do(expire, run_id=run.id, now=desk.now) == 0
    assert len(desk.rail.transfers) == 1


def test_what_is_recorded_under_an_old_fence_does_not_count(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan_of(desk, run))
    [leased] = desk.do(lease_of(desk, run))
    desk.later(minutes=11)
    assert desk.do(expire, run_id=run.id, now=desk.now) == 1
    late = Verdict(leased, Outcome.REFUSED, Answer(AnswerKind.REFUSED, code="account_closed"))

    counted = run_unit(
        desk.engine,
        lambda session: record(session, desk.security, [late], run_id=run.id, when=desk.when, now=desk.now),
    )

    assert counted == 0
    assert desk.state(ann) is ItemState.UNKNOWN
    assert desk.balances(ann) == {"in_transit": 100}


def test_each_planned_attempt_is_leased_by_one_worker(desk: Desk) -> None:
    for _ in range(60):
        desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan_of(desk, run))
    together = Barrier(6)

    def lease_all(_: int) -> list[UUID]:
        together.wait()
        mine: list[UUID] = []
        while held := desk.do(lease_of(desk, run, limit=5)):
            mine += [attempt.id for attempt in held]
        return mine

    with ThreadPoolExecutor(6) as workers:
        leased = [attempt for mine in workers.map(lease_all, range(6)) for attempt in mine]

    assert len(leased) == len(set(leased)) == 60


def test_two_runners_at_once_send_each_item_once(engine: Engine) -> None:
    desk = Desk.opened(engine, rail=FakeRail(at_once=4))
    for number in range(40):
        desk.payee(100 + number)
    run = desk.an_executing_run()
    together = Barrier(4)

    def runner(name: str) -> None:
        with ThreadPoolExecutor(2) as calls:
            together.wait()
            advance(
                desk.sender(calls, owner=name),
                merchant_id=desk.merchant_id,
                run_id=run.id,
                until=desk.now + timedelta(seconds=30),
            )

    with ThreadPoolExecutor(4) as runners:
        list(runners.map(runner, ["a", "b", "c", "d"]))
    desk.work(run)

    assert len(desk.rail.sends) == len(desk.rail.transfers) == 40
    assert desk.run(run).status == RunState.CLOSED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda desk, ann: desk.earn(ann, -1), "in_debt", id="fell into debt"),
        pytest.param(lambda desk, ann: desk.method(ann, "sandbox_new"), "method_changed", id="another account"),
        pytest.param(
            lambda desk, ann: desk.method(ann, "sandbox_ok", usable_from=desk.now + timedelta(hours=72)),
            "method_cooling",
            id="an account changed and changed back",
        ),
        pytest.param(lambda desk, ann: desk.change(ann, status="suspended"), "affiliate_suspended", id="suspended"),
        pytest.param(lambda desk, ann: desk.change(ann, tax_rule="none_company"), "tax_rule_changed", id="tax rule"),
    ],
)
def test_what_changed_since_the_approval_drops_the_item_and_the_run_goes_on(
    desk: Desk, change: object, reason: str
) -> None:
    ann, bob = desk.payee(100, carried=1), desk.payee(100)
    run = desk.an_executing_run()
    change(desk, ann)  # type: ignore[operator] # a table of cases

    desk.work(run)

    assert desk.item(ann).release_reason == reason
    assert desk.balances(ann)["taxed_carry"] == 1
    assert "reserved" not in desk.balances(ann)
    assert (desk.state(ann), desk.state(bob)) == (ItemState.RELEASED, ItemState.SENT)
    assert desk.run(run).status == RunState.CLOSED
    assert [each.destination for each in desk.rail.transfers] == ["sandbox_ok"]


def test_a_change_after_the_first_sending_does_not_drop_what_may_have_gone(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    desk.earn(ann, -500)

    desk.later(minutes=2)
    desk.work(run)

    assert desk.state(ann) is ItemState.SENT


def test_the_same_account_entered_again_is_no_change(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.method(ann, "sandbox_ok")

    desk.work(run)

    assert desk.state(ann) is ItemState.SENT


def test_nothing_is_sent_before_the_pay_day(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.reserve(pay_on=desk.when.day + timedelta(days=2))
    desk.submit(run)
    desk.approve(run)
    desk.execute(run)

    desk.work(run)

    assert desk.state(ann) is ItemState.APPROVED
    desk.later(days=2)
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT


def test_cancelling_an_executing_run_leaves_only_what_may_have_been_sent(desk: Desk) -> None:
    sent, unknown, refused = (desk.payee(100, destination=f"sandbox_{each}") for each in ("a", "b", "c"))
    desk.rail.does |= {"sandbox_b": ["lost"], "sandbox_c": ["refuse"]}
    run = desk.an_executing_run()
    desk.work(run)

    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)

    assert [desk.state(each) for each in (sent, unknown, refused)] == ["sent", "unknown", "released"]
    desk.later(minutes=2)
    desk.work(run)
    assert desk.state(unknown) is ItemState.SENT
    assert desk.run(run).status == RunState.CLOSED


def test_a_planned_attempt_that_nobody_leased_can_be_withdrawn(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan_of(desk, run))
    assert desk.balances(ann) == {"in_transit": 100}

    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)

    assert desk.balances(ann) == {"payable": 100}
    assert desk.run(run).status == RunState.CANCELLED
    assert desk.do(lease_of(desk, run)) == []
    desk.reserve()
    assert desk.item(ann).gross_minor == 100


def test_money_that_a_rail_gave_back_is_carried_to_the_next_item(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.work(run)
    reference = desk.rail.transfers[0].reference
    began = desk.now

    for amount, state in ((30, ItemState.PART_REVERSED), (30, ItemState.PART_REVERSED), (100, ItemState.REVERSED)):
        desk.rail.reverse(reference, amount)
        found = compare(desk.engine, desk.rail, merchant_id=desk.merchant_id, run_id=run.id, since=began, now=desk.now)
        assert found.complete
        assert found.missing == ()
        assert desk.state(ann) is state
        assert desk.balances(ann).get("taxed_carry") == amount

    assert desk.balances(ann) == {"taxed_carry": 100}
    first = desk.item(ann)
    desk.work(desk.an_executing_run())
    second = desk.item(ann)
    assert first.gave_back_version is not None
    assert second.from_version < first.gave_back_version <= second.to_version
    assert (second.gross_minor, second.carried_minor) == (0, 100)
    assert desk.balances(ann) == {"paid": 100}


def test_what_a_provider_tells_counts_once_in_any_order(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.work(desk.an_executing_run())
    item, reference = desk.item(ann), desk.rail.transfers[0].reference
    told = [
        Told(item.id, reference, FactKind.REVERSED, "60", 60, {}),
        Told(item.id, reference, FactKind.PAID, "1", 100, {}),
        Told(item.id, reference, FactKind.REVERSED, "20", 20, {}),
        Told(item.id, reference, FactKind.FAILED, "1", 0, {}),
    ]

    for facts in (told[:1], told, told[::-1]):
        desk.do(reconcile, told=facts, rail="sandbox", when=desk.when, now=desk.now)

    assert desk.balances(ann) == {"paid": 40, "taxed_carry": 60}
    assert desk.state(ann) is ItemState.PART_REVERSED


def test_a_runs_states_are_counted_as_each_payouts_state_is_told(desk: Desk) -> None:
    facts: list[list[tuple[FactKind, int]]] = [
        [],
        [(FactKind.REVERSED, 40)],
        [(FactKind.REVERSED, 100)],
        [(FactKind.RETURNED, 100)],
        [(FactKind.PAID, 100)],
        [(FactKind.PAID, 100), (FactKind.REVERSED, 40)],
        [(FactKind.FAILED, 0)],
    ]
    told_of_each = {desk.payee(100): told for told in facts}
    refused, unknown, gone = (desk.payee(700, destination=each) for each in ("refused", "unknown", "gone"))
    desk.rail.does |= {"refused": ["refuse"], "unknown": ["down"]}
    run = desk.an_executing_run()
    desk.change(gone, status="suspended")
    desk.work(run)
    references = {each.item_id: each.reference for each in desk.rail.transfers}
    told = [
        Told(desk.item(payee).id, references[desk.item(payee).id], kind, str(amount), amount, {})
        for payee, each in told_of_each.items()
        for kind, amount in each
    ]
    desk.do(reconcile, told=told, rail="sandbox", when=desk.when, now=desk.now)

    with read_session(desk.engine) as session:
        counted = states_in(session, session.get_one(PayoutRunRow, (run.merchant_id, run.id)))

    payees = [*told_of_each, refused, unknown, gone]
    assert {each.state: each.items for each in counted} == Counter(map(desk.state, payees))
    assert len(counted) == len({*map(desk.state, payees)}) == 8
    assert sum(each.net_minor for each in counted) == 2_800


def test_a_difference_between_the_books_and_the_rail_is_named(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()
    desk.work(run)
    made = desk.rail.transfers.pop()
    desk.rail.transfers.append(type(made)(made.item_id, 9, "tr_strange", 5, 0, "USD", "sandbox_ok"))

    found = compare(desk.engine, desk.rail, merchant_id=desk.merchant_id, run_id=run.id, since=desk.now, now=desk.now)

    assert found.missing == (desk.item(ann).id,)
    assert found.unexplained == ("tr_strange",)


FAULTS = ["accept", "refuse", "down", "lost", "late", "crash", "crash_done", "stopped"]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_rail_and_our_crashes_do_nobody_is_paid_twice_and_no_money_is_lost(
    engine: Engine, seed: int
) -> None:
    chance = random.Random(seed)
    desk = Desk.opened(engine, rail=FakeRail(at_once=2))
    payees = {desk.payee(100 + number, destination=f"sandbox_{number}"): 100 + number for number in range(6)}
    for number in range(6):
        desk.rail.does[f"sandbox_{number}"] = chance.choices(FAULTS, k=chance.randrange(5))
    run = desk.an_executing_run()

    for _ in range(60):
        with contextlib.suppress(Crash):
            desk.work(run, owner=str(chance.random()))
        never_more_than_once(desk, payees)
        passed = chance.choice([2, 11, 70, 300])
        # No request travels for hours: the proof of absence rests on that.
        if passed == 300 or chance.random() < 0.3:
            desk.rail.land()
        desk.later(minutes=passed)
        if desk.run(run).stopped_at is not None:
            desk.execute(run)
        for payee in payees:
            # A person retries what was refused, confirms what never arrived.
            last = desk.attempts(payee)[-1:]
            if last and last[0].outcome == "refused":
                desk.do(retry, item_id=desk.item(payee).id, by=MAKER, now=desk.now)
            if last and last[0].outcome == "absent":
                desk.do(confirm_resend, item_id=desk.item(payee).id, by=CHECKER, now=desk.now)
        if desk.run(run).status == RunState.CLOSED:
            break

    assert desk.run(run).status == RunState.CLOSED
    assert {desk.state(payee) for payee in payees} == {ItemState.SENT}
    assert sorted(made.amount_minor for made in desk.rail.transfers) == sorted(payees.values())


def never_more_than_once(desk: Desk, payees: dict[UUID, int]) -> None:
    """Each item was done at most once, and all of its money is in one place, that of its state."""
    done = Counter(made.item_id for made in desk.rail.transfers)
    assert max(done.values(), default=0) <= 1
    for payee, amount in payees.items():
        [(place, held)] = desk.balances(payee).items()
        assert held == amount
        match desk.state(payee):
            case ItemState.SENT:
                assert place == "paid"
                assert done[desk.item(payee).id] == 1
            case ItemState.UNKNOWN | ItemState.SENDING:
                assert place == "in_transit"
            case _:
                assert place == "reserved"
                assert done[desk.item(payee).id] == 0


def plan_of(desk: Desk, run: object):  # type: ignore[no-untyped-def] # a verb bound to its arguments
    return lambda session, merchant_id: plan(
        session,
        desk.rail,
        desk.security,
        merchant_id=merchant_id,
        run_id=run.id,  # type: ignore[attr-defined] # a run
        limit=100,
        now=desk.now,
    )


def lease_of(desk: Desk, run: object, *, limit: int = 100):  # type: ignore[no-untyped-def] # a verb bound to its arguments
    return lambda session, merchant_id: lease_planned(
        session,
        desk.security,
        merchant_id=merchant_id,
        run_id=run.id,  # type: ignore[attr-defined] # a run
        owner="first",
        limit=limit,
        now=desk.now,
    )
