"""Making runs: whom they pay, what an item owns, and what happens to it before anything is sent."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import Engine, event

from service.domain.payout import Excluded, ItemState, RunState
from service.infra.db import execute, read_session, unit_of_work
from service.payouts.approve import RunChanged, SelfApproval
from service.payouts.find import WrongRunState
from service.payouts.left_out import left_out
from service.payouts.providers.model import RailNotAvailable
from service.payouts.release import MayHaveBeenSent, cancel, release
from service.payouts.reserve import NothingToPay, PayOnOutOfRange
from tests.support.payouts import CHECKER, MAKER, Desk, FakeRail


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


def test_a_run_takes_all_that_is_payable_and_carried(desk: Desk) -> None:
    ann = desk.payee(1000, carried=7)

    desk.reserve()

    item = desk.item(ann)
    assert (item.gross_minor, item.carried_minor, item.net_minor, item.remainder_minor) == (1000, 7, 1007, 0)
    assert desk.balances(ann) == {"reserved": 1007}
    assert desk.state(ann) is ItemState.RESERVED


def test_an_item_owns_the_versions_since_its_predecessors_reserve(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.earn(ann, 50)
    first_run = desk.an_executing_run()
    desk.work(first_run)
    desk.earn(ann, 30)
    desk.earn(ann, 20)

    desk.reserve()

    first, second = desk.items(ann)
    assert (first.from_version, first.to_version, first.reserve_version) == (0, 2, 3)
    assert (second.from_version, second.to_version, second.reserve_version) == (3, 5, 6)
    assert (first.gross_minor, second.gross_minor) == (150, 50)


def test_only_what_is_carried_can_be_paid_too_and_payable_is_touched_all_the_same(desk: Desk) -> None:
    ann = desk.payee(0, carried=500)

    desk.reserve()

    item = desk.item(ann)
    assert (item.gross_minor, item.net_minor, item.from_version, item.to_version) == (0, 500, 0, 0)
    assert desk.version(ann) == item.reserve_version == 1


@pytest.mark.parametrize(
    ("payee", "reason"),
    [
        pytest.param({"payable": -1}, "in_debt", id="in debt"),
        pytest.param({"payable": -1, "carried": 5000}, "in_debt", id="in debt, whatever is carried"),
        pytest.param({"payable": 999}, "below_minimum", id="below the minimum"),
        pytest.param({"payable": 1000, "destination": None}, "no_payout_method", id="no payout method"),
        pytest.param({"payable": 1000, "tax_rule": None}, "no_tax_rule", id="no tax rule"),
        pytest.param({"payable": 1000, "status": "suspended"}, "affiliate_suspended", id="suspended"),
        pytest.param({"payable": 1000, "status": "applied"}, "affiliate_not_approved", id="not approved"),
    ],
)
def test_who_cannot_be_paid_is_left_out_with_a_reason(engine: Engine, payee: dict[str, object], reason: str) -> None:
    desk = Desk.opened(engine, minimum=1000)
    paid, left_out = desk.payee(1000), desk.payee(**payee)  # type: ignore[arg-type] # a table of cases

    run = desk.reserve()

    assert desk.left_out(run) == [(left_out, reason)]
    assert len(desk.items(paid)) == 1
    assert desk.items(left_out) == []


def test_who_is_paid_on_another_rail_is_not_called_without_an_account(desk: Desk) -> None:
    ann, bob = desk.payee(100, destination=None), desk.payee(100, destination=None)
    desk.method(ann, "DE1", rail="sepa_file")

    desk.payee(100)

    alone = desk.reserve()
    desk.do(cancel, run_id=alone.id, when=desk.when, now=desk.now)
    beside = desk.reserve(elsewhere=("sepa_file",))

    assert sorted(desk.left_out(alone)) == sorted([(ann, "no_payout_method"), (bob, "no_payout_method")])
    assert sorted(desk.left_out(beside)) == sorted([(ann, "other_rail"), (bob, "no_payout_method")])


def test_a_payee_with_an_item_in_another_run_is_left_out(desk: Desk) -> None:
    ann, bob = desk.payee(100), desk.payee(100)
    desk.reserve(ann)
    desk.earn(ann, 100)

    run = desk.reserve()

    assert desk.left_out(run) == [(ann, "live_item")]
    assert len(desk.items(bob)) == 1


def test_less_than_one_step_of_the_rail_waits(engine: Engine) -> None:
    desk = Desk.opened(engine, rail=FakeRail(step=100))
    ann = desk.payee(99)
    desk.payee(100)

    run = desk.reserve()

    assert desk.left_out(run) == [(ann, "below_rail_step")]


def test_a_run_that_would_pay_nobody_is_not_made(desk: Desk) -> None:
    desk.payee(-5)

    with pytest.raises(NothingToPay, match="1 in_debt"):
        desk.reserve()


def test_a_currency_the_rail_does_not_pay_is_refused(engine: Engine) -> None:
    with pytest.raises(RailNotAvailable):
        Desk.opened(engine, currency="XAF").reserve()


@pytest.mark.parametrize("days", [-1, 61])
def test_the_pay_day_is_today_or_soon(desk: Desk, days: int) -> None:
    desk.payee(100)

    with pytest.raises(PayOnOutOfRange):
        desk.reserve(pay_on=desk.when.day + timedelta(days=days))


def test_releasing_an_item_gives_its_money_and_its_versions_to_the_next(desk: Desk) -> None:
    ann, bob = desk.payee(100, carried=5), desk.payee(100)
    desk.reserve()
    item = desk.item(ann)

    desk.do(release, item_id=item.id, when=desk.when, now=desk.now)

    first = desk.item(ann)
    assert desk.balances(ann) == {"payable": 100, "taxed_carry": 5}
    assert (first.live, first.release_reason, first.gave_back_version) == (False, "released_by_person", 3)
    desk.reserve(ann)
    second = desk.item(ann)
    assert (second.from_version, second.to_version) == (2, 3)
    assert second.gross_minor == 100
    assert desk.state(bob) is ItemState.RESERVED


def test_a_release_of_what_was_only_carried_is_a_version_of_payable_too(desk: Desk) -> None:
    ann = desk.payee(0, carried=500)
    desk.reserve()

    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)

    assert desk.item(ann).gave_back_version == desk.version(ann) == 2
    assert desk.balances(ann) == {"taxed_carry": 500}


def test_releasing_twice_gives_back_once(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.reserve()

    for _ in range(2):
        desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)

    assert desk.balances(ann) == {"payable": 100}


def test_a_sent_item_cannot_be_released(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.work(desk.an_executing_run())

    with pytest.raises(MayHaveBeenSent):
        desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)


@pytest.mark.parametrize("until", ["draft", "submitted", "approved", "executing"])
def test_cancelling_before_anything_was_sent_gives_everything_back(desk: Desk, until: str) -> None:
    ann = desk.payee(100, carried=1)
    run = desk.reserve()
    if until != "draft":
        desk.submit(run)
    if until in {"approved", "executing"}:
        desk.approve(run)
    if until == "executing":
        desk.execute(run)

    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)

    assert desk.run(run).status == RunState.CANCELLED
    assert desk.balances(ann) == {"payable": 100, "taxed_carry": 1}
    assert desk.item(ann).release_reason == "run_cancelled"


def test_the_submitter_cannot_approve(desk: Desk) -> None:
    desk.payee(100)
    run = desk.submit(desk.reserve(), by=CHECKER)

    with pytest.raises(SelfApproval):
        desk.approve(run, by=CHECKER)

    assert desk.run(run).status == RunState.SUBMITTED


def test_what_was_changed_after_submit_is_not_approved(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.submit(desk.reserve())
    with unit_of_work(desk.engine) as session:
        execute(
            session,
            "UPDATE payout_item SET net_minor = 99, remainder_minor = 1 WHERE id = :id",
            {"id": desk.item(ann).id},
        )

    with pytest.raises(RunChanged):
        desk.approve(run)


def test_an_approval_covers_what_is_left_after_a_release(desk: Desk) -> None:
    ann, bob = desk.payee(100), desk.payee(100)
    run = desk.submit(desk.reserve())
    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)

    desk.execute(desk.approve(run))
    desk.work(run)

    assert (desk.state(ann), desk.state(bob)) == (ItemState.RELEASED, ItemState.SENT)


def test_a_run_goes_through_its_states_only_in_order(desk: Desk) -> None:
    desk.payee(100)
    run = desk.reserve()

    for verb in (desk.approve, desk.execute):
        with pytest.raises(WrongRunState):
            verb(run)

    desk.submit(run, by=MAKER)
    with pytest.raises(WrongRunState):
        desk.submit(run, by=MAKER)
    with pytest.raises(WrongRunState):
        desk.execute(run)


def test_runs_made_at_once_take_each_payee_once(engine: Engine) -> None:
    desk = Desk.opened(engine)
    payees = [desk.payee(100) for _ in range(20)]
    together = Barrier(4)

    def make(_: int) -> None:
        together.wait()
        with contextlib.suppress(NothingToPay):
            desk.reserve()

    with ThreadPoolExecutor(4) as makers:
        list(makers.map(make, range(4)))

    assert [len(desk.items(payee)) for payee in payees] == [1] * 20
    assert {desk.balances(payee)["reserved"] for payee in payees} == {100}


def test_a_large_run_takes_as_many_statements_as_a_small_one(engine: Engine) -> None:
    desk = Desk.opened(engine)
    for _ in range(3):
        desk.payee(100)
    statements_of_three = _count_statements(desk)
    for _ in range(20):
        desk.payee(100)

    assert _count_statements(desk) == statements_of_three


def _count_statements(desk: Desk) -> int:
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(desk.engine, "before_cursor_execute", note)
    try:
        run = desk.reserve()
    finally:
        event.remove(desk.engine, "before_cursor_execute", note)
    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)
    return len(seen)


def test_a_method_that_waits_is_left_out_until_its_time_has_come(desk: Desk) -> None:
    ann, bob = desk.payee(100), desk.payee(100)
    desk.method(ann, "sandbox_new", usable_from=desk.now + timedelta(hours=72))

    desk.later(hours=71, minutes=59)
    before = desk.reserve()
    desk.later(minutes=1)
    desk.reserve(ann)

    assert desk.left_out(before) == [(ann, "method_cooling")]
    assert (len(desk.items(ann)), len(desk.items(bob))) == (1, 1)


def test_a_run_of_another_rail_does_not_hide_what_a_payees_own_one_found(desk: Desk) -> None:
    ann, bob, other = desk.payee(100), desk.payee(100), desk.payee(100, destination=None)
    desk.method(ann, "sandbox_new", usable_from=desk.now + timedelta(hours=72))
    desk.submit(desk.reserve(ann, bob))
    desk.rail.name = "wise_file"
    desk.method(other, "P1")

    run = desk.submit(desk.reserve(ann, other, elsewhere=("sandbox",)))

    assert desk.left_out(run) == [(ann, "other_rail")]
    with read_session(desk.engine) as session:
        told = left_out(session, desk.merchant_id, [ann, bob, other])
    assert {payee: each.reason for (payee, _), each in told.items()} == {ann: Excluded.METHOD_COOLING}


def test_payees_with_one_account_are_held_until_each_is_confirmed(desk: Desk) -> None:
    desk.choose(shared_accounts="hold")
    ann, bob, minh = (desk.payee(100, destination=name) for name in ("sandbox_one", "sandbox_one", "sandbox_other"))

    first = desk.reserve()
    desk.method(bob, "sandbox_one", sharing_confirmed_at=desk.now, sharing_reason="agency")
    second = desk.reserve()
    desk.method(bob, "sandbox_own")
    desk.reserve()

    held = [desk.left_out(run) for run in (first, second)]
    assert held[0] == [(each, "shared_account") for each in sorted((ann, bob))]
    # Confirmed is the one; the other is looked at too. Once nobody else has it, it is an account like any other.
    assert (ann, "shared_account") in held[1]
    assert [len(desk.items(each)) for each in (ann, bob, minh)] == [1, 1, 1]


def test_a_merchant_may_allow_accounts_of_several(desk: Desk) -> None:
    desk.choose(shared_accounts="hold")
    payees = [desk.payee(100, destination="sandbox_one") for _ in range(2)]
    with pytest.raises(NothingToPay, match="2 shared_account"):
        desk.reserve()
    desk.choose(shared_accounts="allow")

    desk.reserve()

    assert [len(desk.items(each)) for each in payees] == [1, 1]


def test_an_account_that_was_given_up_is_shared_with_nobody(desk: Desk) -> None:
    desk.choose(shared_accounts="hold")
    ann, bob = desk.payee(100, destination="sandbox_one"), desk.payee(100, destination="sandbox_one")
    desk.method(bob, "sandbox_two")

    desk.reserve()

    assert (len(desk.items(ann)), len(desk.items(bob))) == (1, 1)
