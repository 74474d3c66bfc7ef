"""The worker: jobs are claimed once, come round again, and one that fails does not keep the others waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.payout import ItemState, RunState
from service.infra.clock import utc_now
from service.infra.db import execute, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.infra.kept_answers import OPERATORS
from service.infra.settings import Settings
from service.ledger.chain import height
from service.ledger.post import post
from service.payouts.approve import execute_run
from service.payouts.retry import retry
from service.payouts.wake import EXECUTE, RECONCILE, wake
from service.tables.answers import KeptAnswerRow
from service.worker import (
    CHAIN,
    CHAIN_EVERY,
    CLAIMS,
    DELIVER,
    EVERY_MERCHANT,
    FORGET,
    FORGET_EVERY,
    LEASE,
    RECONCILE_FOR,
    SETTLE,
    Worker,
    claim,
    finish,
    run_pass,
    run_worker,
    schedule,
)
from tests.support.payouts import MAKER, Desk
from tests.support.shop import SECRET_KEY


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


@pytest.fixture
def worker(desk: Desk) -> Iterator[Worker]:
    with ThreadPoolExecutor(4) as calls:
        yield Worker(desk.engine, desk.security, {"sandbox": desk.rail}, calls, "me", lambda: desk.now)


def jobs(desk: Desk) -> dict[str, datetime]:
    """When each kind of job is due."""
    return {row.kind: row.due_at for row in desk.rows("SELECT kind, due_at FROM job WHERE merchant_id = :merchant_id")}


def in_unit(desk: Desk, verb: Callable[..., object], **arguments: object) -> object:
    return run_unit(desk.engine, lambda session: verb(session, **arguments))


def test_executing_a_run_is_all_a_person_has_to_do(desk: Desk, worker: Worker) -> None:
    ann = desk.payee(100)
    run = desk.an_executing_run()

    run_pass(worker)

    assert desk.state(ann) is ItemState.SENT
    assert desk.run(run).status == RunState.CLOSED
    assert set(jobs(desk)) == {*EVERY_MERCHANT, RECONCILE}


def test_an_unknown_attempt_comes_round_again_when_it_is_due(desk: Desk, worker: Worker) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["lost"]
    desk.an_executing_run()
    run_pass(worker)
    due = jobs(desk)[EXECUTE]

    desk.now = due - timedelta(seconds=1)
    run_pass(worker)
    assert desk.state(ann) is ItemState.UNKNOWN
    desk.now = due
    run_pass(worker)

    assert desk.state(ann) is ItemState.SENT


def test_a_persons_retry_wakes_the_run(desk: Desk, worker: Worker) -> None:
    ann = desk.payee(100)
    desk.rail.does["sandbox_ok"] = ["refuse"]
    desk.an_executing_run()
    run_pass(worker)

    desk.do(retry, item_id=desk.item(ann).id, by=MAKER, now=desk.now)
    run_pass(worker)

    assert desk.state(ann) is ItemState.SENT


def test_a_job_is_claimed_by_one_of_many_workers(desk: Desk) -> None:
    for _ in range(20):
        in_unit(desk, wake, merchant_id=desk.merchant_id, run_id=desk.payee(), at=desk.now)
    together = threading.Barrier(4)

    def all_jobs(owner: str) -> list[str]:
        together.wait()
        mine: list[str] = []
        while taken := run_unit(desk.engine, partial(claim, owner=owner, now=desk.now, limit=3)):
            mine += [job.subject for job in taken]
        return mine

    with ThreadPoolExecutor(4) as workers:
        claimed = [subject for mine in workers.map(all_jobs, "abcd") for subject in mine]

    assert len(claimed) == len(set(claimed)) == 20


def test_the_job_of_a_dead_worker_is_taken_over_after_its_lease(desk: Desk) -> None:
    in_unit(desk, wake, merchant_id=desk.merchant_id, run_id=desk.program_id, at=desk.now)
    [first] = run_unit(desk.engine, partial(claim, owner="dead", now=desk.now, limit=1))
    assert run_unit(desk.engine, partial(claim, owner="me", now=desk.now, limit=1)) == []

    desk.now += LEASE + timedelta(seconds=1)
    [again] = run_unit(desk.engine, partial(claim, owner="me", now=desk.now, limit=1))

    assert (again.id, again.tries) == (first.id, 2)
    # What the dead one still says does not count.
    in_unit(desk, finish, job=first, owner="dead", next_at=None)
    assert EXECUTE in jobs(desk)


@pytest.mark.parametrize("over", [True, False])
def test_who_is_woken_while_it_works_is_looked_at_again(desk: Desk, over: bool) -> None:
    in_unit(desk, wake, merchant_id=desk.merchant_id, run_id=desk.program_id, at=desk.now)
    [job] = run_unit(desk.engine, partial(claim, owner="me", now=desk.now, limit=1))
    in_unit(desk, wake, merchant_id=desk.merchant_id, run_id=desk.program_id, at=desk.now)

    in_unit(desk, finish, job=job, owner="me", next_at=None if over else desk.now + timedelta(hours=1))

    assert jobs(desk)[EXECUTE] == desk.now


def test_each_merchant_gets_one_job_of_each_kind_that_never_ends(desk: Desk) -> None:
    Desk.opened(desk.engine)

    assert in_unit(desk, schedule, now=desk.now) == 2 * len(EVERY_MERCHANT)
    assert set(jobs(desk)) == set(EVERY_MERCHANT) == {SETTLE, CHAIN, DELIVER, FORGET, CLAIMS}

    assert in_unit(desk, schedule, now=desk.now) == 0


def test_kept_answers_are_forgotten_after_a_day_also_those_of_operators(desk: Desk, worker: Worker) -> None:
    run_pass(worker)
    for merchant_id in (desk.merchant_id, OPERATORS):
        for age in (timedelta(hours=23), timedelta(hours=24)):
            in_unit(desk, keep_answer, merchant_id=merchant_id, claimed_at=desk.now + FORGET_EVERY - age)

    desk.now += FORGET_EVERY
    run_pass(worker)

    left = desk.rows("SELECT merchant_id, claimed_at FROM kept_answer ORDER BY merchant_id")
    assert [(row.merchant_id, row.claimed_at) for row in left] == [
        (merchant_id, desk.now - timedelta(hours=23)) for merchant_id in sorted((desk.merchant_id, OPERATORS))
    ]
    assert jobs(desk)[FORGET] == desk.now + FORGET_EVERY


def keep_answer(session: Session, *, merchant_id: UUID, claimed_at: datetime) -> None:
    row = KeptAnswerRow(
        merchant_id=merchant_id,
        key_id=MAKER,
        idempotency_key=claimed_at.isoformat(),
        fingerprint=b"",
        claimed_at=claimed_at,
        status=200,
        body=b"",
    )
    session.add(row)


def test_what_was_booked_is_chained_and_the_head_is_logged(
    desk: Desk, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    desk.payee(100)

    with caplog.at_level("INFO"):
        run_pass(worker)

    [block] = desk.rows("SELECT number, digest FROM chain_block WHERE merchant_id = :merchant_id")
    with read_session(desk.engine) as session:
        reached = height(session, desk.merchant_id)
    assert (reached.head.number, reached.head.digest, reached.behind) == (1, block.digest, 0)
    assert reached.postings == desk.rows("SELECT count(*) FROM posting WHERE merchant_id = :merchant_id")[0][0] > 0
    assert f"block 1, digest {block.digest.hex()}" in caplog.text
    assert jobs(desk)[CHAIN] == desk.now + CHAIN_EVERY


def test_days_long_past_are_looked_at_once_a_day_also_while_nothing_is_booked(desk: Desk, worker: Worker) -> None:
    expense = Account(desk.merchant_id, desk.merchant_id, AccountKind.COMMISSION_EXPENSE, "USD")
    pending = Account(desk.merchant_id, new_id(), AccountKind.PENDING, "USD")
    desk.now = desk.now.replace(hour=12)

    def chained_after(pause: timedelta, *, booked_on: datetime | None = None) -> int:
        """How many blocks there are when the job came round again."""
        if booked_on is not None:
            when = {desk.merchant_id: MerchantTime(booked_on, "UTC")}
            booked = Posting(new_id(), f"order/{new_id()}/assessment/1", 0, expense, pending, 100)
            in_unit(desk, post, postings=[booked], when=when)
        desk.now += pause
        run_pass(worker)
        return len(desk.rows("SELECT FROM chain_block WHERE merchant_id = :merchant_id"))

    assert chained_after(timedelta(0)) == 0
    assert chained_after(CHAIN_EVERY, booked_on=desk.now - timedelta(days=30)) == 0
    assert chained_after(CHAIN_EVERY, booked_on=desk.now) == 1
    assert chained_after(timedelta(days=1)) == 2


def test_a_job_that_fails_waits_longer_each_time_and_the_others_go_on(desk: Desk, worker: Worker) -> None:
    ann = desk.payee(100)
    with unit_of_work(desk.engine) as session:
        wake(session, merchant_id=desk.merchant_id, run_id=desk.program_id, at=desk.now, kind="nonsense")
        execute(session, "UPDATE job SET due_at = due_at - interval '1 hour'")
    desk.an_executing_run()

    run_pass(worker)

    assert desk.state(ann) is ItemState.SENT
    [failed] = desk.rows("SELECT * FROM job WHERE merchant_id = :merchant_id AND kind = 'nonsense'")
    assert failed.last_error == "InvariantBroken"
    assert failed.due_at > desk.now


def test_a_run_whose_rail_is_gone_waits(desk: Desk) -> None:
    ann = desk.payee(100)
    desk.an_executing_run()
    with ThreadPoolExecutor(1) as calls:
        run_pass(Worker(desk.engine, desk.security, {}, calls, "me", lambda: desk.now))

    assert desk.state(ann) is ItemState.APPROVED
    assert jobs(desk)[EXECUTE] > desk.now


def test_a_closed_run_is_compared_with_its_rail_for_a_while(desk: Desk, worker: Worker) -> None:
    ann = desk.payee(100)
    desk.an_executing_run()
    run_pass(worker)
    desk.rail.reverse(desk.rail.transfers[0].reference, 40)

    desk.now = jobs(desk)[RECONCILE]
    run_pass(worker)

    assert desk.balances(ann) == {"paid": 60, "taxed_carry": 40}
    assert jobs(desk)[RECONCILE] == desk.now + timedelta(days=1)
    desk.now += RECONCILE_FOR + timedelta(days=1)
    run_pass(worker)
    assert RECONCILE not in jobs(desk)


def test_a_merchants_clock_that_runs_ahead_does_not_hide_transfers_from_the_comparison(
    desk: Desk, worker: Worker
) -> None:
    desk.payee(100)
    run = desk.an_approved_run()
    ahead = "UPDATE merchant SET clock_offset_s = 30 * 86400 WHERE id = :id"
    run_unit(desk.engine, lambda session: execute(session, ahead, {"id": desk.merchant_id}))
    when = replace(desk.when, now=desk.now + timedelta(days=30))

    desk.do(execute_run, run_id=run.id, when=when, now=desk.now)
    run_pass(worker)

    [job] = desk.rows("SELECT payload FROM job WHERE merchant_id = :merchant_id AND kind = 'payout_reconcile'")
    # By the rail's own clock: from a day still to come it would list nothing, and each transfer would seem missing.
    assert datetime.fromisoformat(job.payload["since"]) == desk.now


def test_the_loop_runs_beside_the_service_and_stops_when_told(desk: Desk, database_url: str) -> None:
    desk.now = utc_now()
    ann = desk.payee(100)
    settings = Settings(database_url=database_url, secret_key=SECRET_KEY)
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(desk.engine, settings, desk.security, stop), kwargs={"poll_s": 0.05}
    )
    thread.start()
    try:
        run = desk.an_executing_run()
        until = time.monotonic() + 10
        while desk.run(run).status != RunState.CLOSED and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(5)

    assert desk.state(ann) is ItemState.SENT
    assert not thread.is_alive()
