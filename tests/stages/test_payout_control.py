"""What keeps money in: limits that hold under way, rails that are stopped, balances that are too small, and fees."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.payout import Answer, AnswerKind, ItemState, RunState
from service.domain.payout_control import LimitKind
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import execute, unit_of_work
from service.infra.ids import new_id
from service.payouts.control import ApprovalOverLimit, RunOverLimit, resume_sending, stop_sending
from service.payouts.release import cancel, release
from service.payouts.reserve import NothingToPay
from service.tables.control import EVERYBODY, PayoutFeeRow, PayoutLimitRow
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import CHECKER, MAKER, Desk


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


def limited(desk: Desk, kind: LimitKind, amount: int, *, key_id: UUID = EVERYBODY) -> None:
    with unit_of_work(desk.engine) as session:
        session.add(
            PayoutLimitRow(
                merchant_id=desk.merchant_id,
                id=new_id(),
                kind=kind,
                currency=desk.currency,
                key_id=key_id,
                amount_minor=amount,
                set_by=MAKER,
                created_at=desk.now,
            )
        )


def charged(desk: Desk, amount: int) -> None:
    with unit_of_work(desk.engine) as session:
        session.add(
            PayoutFeeRow(
                merchant_id=desk.merchant_id,
                id=new_id(),
                rail=desk.rail.name,
                currency=desk.currency,
                amount_minor=amount,
                valid_from=desk.when.day,
                set_by=MAKER,
                created_at=desk.now,
            )
        )


def waits_for(desk: Desk, run: PayoutRunRow) -> str | None:
    return desk.run(run).waits_for


def sent(desk: Desk) -> int:
    return sum(each.amount_minor for each in desk.rail.transfers)


@pytest.mark.parametrize("kind", [LimitKind.PAYOUT, LimitKind.DAY, LimitKind.MONTH])
def test_who_is_owed_more_than_one_payout_may_be_is_left_out(desk: Desk, kind: LimitKind) -> None:
    limited(desk, kind, 1_000)
    ann = desk.payee(1_001)
    ben = desk.payee(1_000)

    run = desk.reserve()

    assert desk.left_out(run) == [(ann, "over_limit")]
    assert desk.state(ben) is ItemState.RESERVED


def test_a_run_larger_than_a_run_may_be_is_not_submitted(desk: Desk) -> None:
    limited(desk, LimitKind.RUN, 1_999)
    desk.payee(1_000)
    desk.payee(1_000)

    with pytest.raises(RunOverLimit):
        desk.submit(desk.reserve())


def test_a_limit_set_after_submission_keeps_the_run_from_approval(desk: Desk) -> None:
    desk.payee(1_000)
    run = desk.submit(desk.reserve())
    limited(desk, LimitKind.RUN, 999)

    with pytest.raises(RunOverLimit):
        desk.approve(run)


def test_a_payout_larger_than_a_day_since_it_was_made_is_not_submitted(desk: Desk) -> None:
    desk.payee(1_000)
    run = desk.reserve()
    limited(desk, LimitKind.DAY, 999)

    with pytest.raises(RunOverLimit, match="let 999 pass"):
        desk.submit(run)


@pytest.mark.parametrize(
    ("own", "of_all", "allowed"),
    [(None, 1_000, True), (None, 999, False), (1_000, 1, True), (999, 5_000, False), (None, None, True)],
)
def test_a_key_approves_as_much_as_its_own_limit_or_that_of_all_lets_it(
    desk: Desk, own: int | None, of_all: int | None, allowed: bool
) -> None:
    if own is not None:
        limited(desk, LimitKind.APPROVAL, own, key_id=CHECKER)
    if of_all is not None:
        limited(desk, LimitKind.APPROVAL, of_all)
    desk.payee(1_000)
    run = desk.submit(desk.reserve())

    if allowed:
        assert desk.approve(run).status == RunState.APPROVED
    else:
        with pytest.raises(ApprovalOverLimit):
            desk.approve(run)


def test_a_day_hands_over_no_more_than_its_limit_and_the_rest_goes_the_next_day(desk: Desk) -> None:
    limited(desk, LimitKind.DAY, 2_500)
    for _ in range(4):
        desk.payee(1_000)
    run = desk.an_executing_run()

    desk.work(run)
    assert (sent(desk), waits_for(desk, run)) == (2_000, "day_limit")
    desk.work(run)
    assert sent(desk) == 2_000
    desk.later(days=1)
    desk.work(run)

    assert (sent(desk), desk.run(run).status, waits_for(desk, run)) == (4_000, RunState.CLOSED, None)


def test_what_a_limit_set_since_would_never_let_pass_is_released(desk: Desk) -> None:
    ann, ben = desk.payee(1_000), desk.payee(500)
    run = desk.an_executing_run()
    limited(desk, LimitKind.DAY, 999)

    desk.work(run)

    assert (desk.state(ann), desk.item(ann).release_reason) == (ItemState.RELEASED, "over_limit")
    assert (desk.state(ben), desk.run(run).status) == (ItemState.SENT, RunState.CLOSED)


def test_a_month_is_a_budget_of_all_runs(desk: Desk) -> None:
    limited(desk, LimitKind.MONTH, 1_500)
    ann, ben = desk.payee(1_000), desk.payee(1_000)
    desk.work(desk.an_executing_run(ann))
    run = desk.an_executing_run(ben)

    desk.work(run)
    assert (sent(desk), waits_for(desk, run)) == (1_000, "month_limit")
    desk.later(days=15)
    desk.work(run)

    assert sent(desk) == 2_000


def test_what_a_rail_refused_leaves_its_room_to_others(desk: Desk) -> None:
    limited(desk, LimitKind.DAY, 1_000)
    ann, ben = desk.payee(1_000, destination="ann"), desk.payee(1_000)
    desk.rail.does["ann"] = ["refuse"]
    desk.work(desk.an_executing_run(ann))
    run = desk.an_executing_run(ben)

    desk.work(run)

    assert (desk.state(ann), desk.state(ben)) == (ItemState.REFUSED, ItemState.SENT)


def test_a_rail_needs_the_money_of_what_is_asked_for_only(desk: Desk) -> None:
    """Not of what it refused, until somebody asks again, nor of what is frozen."""
    for amount, destination in ((1_000, "ann"), (500, "ben"), (700, "chi")):
        desk.payee(amount, destination=destination)
    desk.rail.does["ann"] = ["refuse"]
    run = desk.an_executing_run()
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_item SET frozen_code = 'unexpected_transfer' WHERE net_minor = 500")
    desk.rail.has = 1_700
    desk.work(run)
    assert sent(desk) == 700
    desk.rail.has = 0

    desk.work(run)

    assert waits_for(desk, run) is None


def _at_once(desk: Desk, runs: list[PayoutRunRow]) -> None:
    barrier = Barrier(len(runs))

    def work(run: PayoutRunRow) -> None:
        barrier.wait()
        desk.work(run, owner=str(run.id))

    with ThreadPoolExecutor(len(runs)) as threads:
        list(threads.map(work, runs))


def test_two_runs_at_once_share_one_days_room(desk: Desk) -> None:
    limited(desk, LimitKind.DAY, 5_000)
    runs = [desk.an_executing_run(*(desk.payee(1_000) for _ in range(4))) for _ in range(2)]
    _at_once(desk, runs)

    assert sent(desk) == 5_000


def test_two_runs_at_once_share_the_room_of_a_limit_that_took_anothers_place(desk: Desk) -> None:
    limited(desk, LimitKind.DAY, 9_000)
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_limit SET ended_at = :now, ended_by = set_by", {"now": desk.now})
    limited(desk, LimitKind.DAY, 5_000)
    runs = [desk.an_executing_run(*(desk.payee(1_000) for _ in range(4))) for _ in range(2)]

    _at_once(desk, runs)

    assert sent(desk) == 5_000


def test_a_stopped_rail_sends_nothing_and_goes_on_where_it_was(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    for merchant_id in (desk.merchant_id, EVERYBODY):
        with unit_of_work(desk.engine) as session:
            stop_sending(session, "sandbox", merchant_id=merchant_id, reason="keys leaked", by=MAKER, at=desk.now)

    assert desk.work(run).next_at == desk.now.replace(hour=13)
    assert (desk.rail.calls, waits_for(desk, run), desk.state(ann)) == ([], "rail_stopped", ItemState.APPROVED)
    with unit_of_work(desk.engine) as session:
        assert resume_sending(session, "sandbox", merchant_id=desk.merchant_id, at=desk.now)
    desk.work(run)
    assert desk.rail.calls == []
    with unit_of_work(desk.engine) as session:
        resume_sending(session, "sandbox", merchant_id=EVERYBODY, at=desk.now)
    desk.work(run)

    assert (sent(desk), waits_for(desk, run)) == (1_000, None)


def test_a_rail_stopped_with_attempts_planned_and_unknown_sends_none_of_them(desk: Desk) -> None:
    ann = desk.payee(1_000, destination="ann")
    desk.rail.does["ann"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    with unit_of_work(desk.engine) as session:
        stop_sending(session, "sandbox", merchant_id=desk.merchant_id, reason="keys leaked", by=MAKER, at=desk.now)
    desk.later(minutes=10)

    desk.work(run)

    # Looked up, and not sent again.
    assert [kind for kind, _ in desk.rail.calls] == ["send", "find"]
    assert desk.state(ann) is ItemState.UNKNOWN
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_attempt SET outcome = 'planned', sends = 0, first_sent_at = NULL")
    desk.work(run)
    assert [kind for kind, _ in desk.rail.calls] == ["send", "find"]


def planned(desk: Desk, run: PayoutRunRow) -> None:
    """Let a worker die between planning and sending."""
    with crashing_at(CrashPoint.PLANNED), pytest.raises(Crashed):
        desk.work(run)


def test_what_was_planned_and_waited_is_checked_again_before_it_is_sent(desk: Desk) -> None:
    ann, ben = desk.payee(1_000), desk.payee(2_000)
    run = desk.an_executing_run()
    planned(desk, run)
    desk.change(ann, status="suspended")
    desk.later(minutes=6)

    desk.work(run)

    assert (desk.state(ann), desk.state(ben), sent(desk)) == (ItemState.RELEASED, ItemState.SENT, 2_000)
    withdrawn, accepted = desk.attempts(ben)
    assert (withdrawn.outcome, withdrawn.code, accepted.outcome) == ("absent", "withdrawn", "accepted")
    assert desk.balances(ann) == {"payable": 1_000}
    assert desk.balances(ben) == {"paid": 2_000}


def test_what_waited_for_less_than_that_is_sent_as_it_was_planned(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    planned(desk, run)
    desk.later(minutes=4)

    desk.work(run)

    assert [(each.number, each.outcome) for each in desk.attempts(ann)] == [(1, "accepted")]


def test_a_cancelled_run_keeps_a_frozen_payout_until_somebody_releases_it(desk: Desk) -> None:
    ann, ben = desk.payee(1_000), desk.payee(2_000)
    run = desk.an_executing_run()
    planned(desk, run)
    with unit_of_work(desk.engine) as session:
        execute(
            session, "UPDATE payout_item SET frozen_code = 'unexpected_transfer' WHERE payee_id = :ann", {"ann": ann}
        )

    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)

    assert desk.balances(ben) == {"payable": 2_000}
    assert desk.balances(ann) == {"reserved": 1_000}
    assert desk.run(run).status == RunState.EXECUTING
    desk.work(run)
    assert desk.rail.calls == []
    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)
    desk.work(run)
    assert desk.balances(ann) == {"payable": 1_000}
    assert desk.run(run).status == RunState.CLOSED


@pytest.mark.parametrize(
    ("has", "reason", "minutes"),
    [
        pytest.param(1_999, "funds", 60, id="less than the run needs"),
        pytest.param(Answer(AnswerKind.UNKNOWN, code="timeout"), "funds_unknown", 5, id="it did not say"),
    ],
)
def test_a_run_waits_for_the_rails_money(desk: Desk, has: int | Answer, reason: str, minutes: int) -> None:
    for _ in range(2):
        desk.payee(1_000)
    run = desk.an_executing_run()
    desk.rail.has = has

    progress = desk.work(run)

    assert (sent(desk), waits_for(desk, run)) == (0, reason)
    assert progress.next_at is not None
    assert (progress.next_at - desk.now).total_seconds() == minutes * 60
    desk.rail.has = 2_000
    desk.work(run)
    assert (sent(desk), desk.run(run).status) == (2_000, RunState.CLOSED)
    funding = desk.run(run).funding
    assert funding is not None
    assert (funding["state"], funding["needed_minor"], funding["available_minor"]) == ("enough", 2_000, 2_000)


def test_a_run_of_which_nothing_is_left_to_send_waits_for_no_money(desk: Desk) -> None:
    """Of two, one is frozen and one waited for money until somebody released it."""
    _, ben = desk.payee(1_000), desk.payee(700)
    run = desk.an_executing_run()
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_item SET frozen_code = 'unexpected_transfer' WHERE net_minor = 1000")
    desk.rail.has = 0
    desk.work(run)
    assert waits_for(desk, run) == "funds"

    desk.do(release, item_id=desk.item(ben).id, when=desk.when, now=desk.now)
    desk.work(run)

    assert (waits_for(desk, run), desk.run(run).funding, desk.run(run).status) == (None, None, RunState.EXECUTING)


def test_a_fee_is_taken_from_what_was_settled_and_kept_apart(desk: Desk) -> None:
    charged(desk, 150)
    ann, ben = desk.payee(1_000, carried=5), desk.payee(0, carried=70)

    desk.work(desk.an_executing_run())

    assert desk.balances(ann) == {"paid": 855, "platform_fee": 150}
    assert desk.balances(ben) == {"paid": 70}


def test_a_fee_that_leaves_nothing_leaves_its_payee_out(desk: Desk) -> None:
    charged(desk, 150)
    desk.payee(150)

    with pytest.raises(NothingToPay, match="1 below_rail_step"):
        desk.reserve()


def test_a_fee_set_after_the_draft_is_taken_when_it_is_submitted(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.reserve()
    charged(desk, 150)

    desk.submit(run)

    assert (desk.item(ann).fee_minor, desk.item(ann).net_minor) == (150, 850)
