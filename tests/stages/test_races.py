"""Many workers on the same thing at once: exactly as many win as may, and the books are right afterwards."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.settle import settle_due
from service.domain.errors import Conflict
from service.domain.ledger import AccountKind
from service.domain.order import Fact
from service.domain.payout import ItemState, RunState
from service.infra.db import run_unit, unit_of_work
from service.infra.ids import new_id
from service.intake import desk as people
from service.intake.desk import Decision, NotHeld, Person, Verb
from service.intake.record import Received, Recorded, record
from service.intake.replay import replay
from service.ledger.findings import FindingCode
from service.ledger.post import post
from service.payouts.execute import advance
from service.payouts.find import WrongRunState
from service.payouts.plan import plan
from service.payouts.providers.model import Transfer
from service.payouts.reconcile import compare
from service.payouts.release import MayHaveBeenSent, cancel, release
from service.payouts.reserve import NothingToPay
from service.payouts.send import lease_planned
from service.tables.payouts import PayoutRunRow
from tests.support.books import Books, dispute, paid, refund, snapshot
from tests.support.payouts import CHECKER, Desk, FakeRail
from tests.support.races import Processes, processes, together, won, wrong_with
from tests.support.webhooks import READING
from tests.support.webhooks import an_order as an_order_body

PROCESSES = 4


@pytest.fixture(scope="module")
def racers() -> Iterator[Processes]:
    with processes(PROCESSES) as made:
        yield made


# Orders.


def test_one_delivery_over_sixteen_connections_has_one_effect_and_one_answer(engine: Engine) -> None:
    books = Books.opened(engine)
    delivery = books.delivery("o", snapshot(10_000), paid(), delivery_id="one")

    told = together(*[partial(deliver_often, engine, (delivery, 32))] * 16)

    answers = [answer for each in told for answer in each]
    assert len(answers) == 512
    assert sum(not answer.repeated for answer in answers) == 1
    assert_one_effect(books, answers)


def test_one_delivery_to_four_processes_has_one_effect_and_one_answer(
    engine: Engine, database_url: str, racers: Processes
) -> None:
    books = Books.opened(engine)
    delivery = books.delivery("o", snapshot(10_000), paid(), delivery_id="one")

    told = racers.race(database_url, deliver_often, [(delivery, 32)] * PROCESSES)

    answers = [answer for each in told for answer in each]
    assert len(answers) == 128
    assert sum(not answer.repeated for answer in answers) == 1
    assert_one_effect(books, answers)


def test_of_one_delivery_that_comes_twice_within_a_batch_one_is_the_first(engine: Engine) -> None:
    books = Books.opened(engine)
    delivery, other = books.delivery("o", snapshot(10_000)), books.delivery("o", paid())

    answers = books.receive(delivery, other, delivery, delivery)

    assert [answer.repeated for answer in answers] == [False, False, True, True]
    assert len({answer.inbox_id for answer in answers}) == 2


def deliver_often(engine: Engine, share: tuple[Received, int]) -> list[Recorded]:
    delivery, times = share
    return [run_unit(engine, lambda session: record(session, [delivery]))[0] for _ in range(times)]


def assert_one_effect(books: Books, answers: Sequence[Recorded]) -> None:
    assert all(replace(answer, repeated=True) == replace(answers[0], repeated=True) for answer in answers)
    # Two events: the order has a KOC, and she earned something.
    assert counts(books, "inbox", "orders", "posting", "commission_entry", "outbox") == [1, 1, 1, 1, 2]
    assert [row.seen for row in books.rows("SELECT seen FROM orders WHERE merchant_id = :merchant_id")] == [1]
    assert books.places() == (1_000, 0, 0)
    assert wrong_with(books.engine, books.merchant_id) == []


def test_of_different_edits_told_by_eight_writers_the_newest_counts(engine: Engine) -> None:
    books = Books.opened(engine)
    for round_number in range(4):
        order, draw = f"o{round_number}", random.Random(round_number)
        edits = [books.delivery(order, snapshot(1_000 * version, version=version)) for version in range(1, 33)]
        draw.shuffle(edits)

        together(*[partial(record_each, engine, edits[writer::8]) for writer in range(8)])

        commission = books.commission(order)
        assert (commission.target_minor, commission.pending_minor) == (3_200, 3_200)
        [known] = books.rows("SELECT seen FROM orders WHERE external_id = :order", order=order)
        assert known.seen == 32
    assert counts(books, "orders", "inbox") == [4, 128]
    assert books.places() == (4 * 3_200, 0, 0)
    assert wrong_with(engine, books.merchant_id) == []


def record_each(engine: Engine, deliveries: Sequence[Received]) -> None:
    for delivery in deliveries:
        run_unit(engine, lambda session, told=delivery: record(session, [told]))  # type: ignore[misc] # bound at once


def test_writers_with_the_same_orders_in_batches_never_meet_in_a_circle(engine: Engine) -> None:
    straight, raced = Books.opened(engine), Books.opened(engine)
    facts = facts_of_orders(12)
    for order, fact in facts:
        straight.tell(order, fact)

    # No second try: a deadlock would reach the caller, and the test.
    together(*[partial(write_batches, engine, (batches_of(raced, facts, seed=writer), False)) for writer in range(8)])

    assert places_by_order(raced) == places_by_order(straight)
    assert counts(raced, "orders", "inbox") == [12, 8 * len(facts)]
    assert wrong_with(engine, raced.merchant_id) == []


def test_processes_with_the_same_orders_in_batches_and_settling_between_end_with_the_same_books(
    engine: Engine, database_url: str, racers: Processes
) -> None:
    straight, raced = Books.opened(engine), Books.opened(engine)
    facts = facts_of_orders(12)
    for order, fact in facts:
        straight.tell(order, fact)
    straight.settle()

    racers.race(database_url, write_batches, [(batches_of(raced, facts, seed=seed), True) for seed in range(PROCESSES)])
    raced.settle()

    assert places_by_order(raced) == places_by_order(straight)
    assert counts(raced, "orders", "inbox") == [12, PROCESSES * len(facts)]
    assert wrong_with(engine, raced.merchant_id) == []


def facts_of_orders(count: int) -> list[tuple[str, Fact]]:
    """Of each order two versions, its payment, and a refund."""
    return [
        (f"o{number}", fact)
        for number in range(count)
        for fact in (
            snapshot(10_000 + 100 * number, version=1),
            snapshot(20_000 + 100 * number, version=2),
            paid(),
            refund(f"r{number}", 1_000 + 10 * number, day=3),
        )
    ]


def batches_of(books: Books, facts: Sequence[tuple[str, Fact]], *, seed: int) -> list[list[Received]]:
    """Deliveries of a writer's own, in its own order, up to twelve at a time."""
    mine = [books.delivery(order, fact) for order, fact in facts]
    random.Random(seed).shuffle(mine)
    return [mine[start : start + 12] for start in range(0, len(mine), 12)]


def write_batches(engine: Engine, share: tuple[list[list[Received]], bool]) -> None:
    batches, settles = share
    for batch in batches:
        with unit_of_work(engine) as session:
            record(session, batch)
        if settles:
            settle_due(engine, merchant_id=batch[0].merchant_id)


def places_by_order(books: Books) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in books.rows(
            """
            SELECT external_id, currency, target_minor, pending_minor, held_minor, settled_minor
            FROM commission JOIN orders ON orders.id = commission.order_id
            WHERE commission.merchant_id = :merchant_id ORDER BY external_id
            """
        )
    ]


def counts(books: Books | Desk, *tables: str) -> list[int]:
    """Rows of the merchant in each table."""
    return [
        int(books.rows(f"SELECT count(*) AS number FROM {table} WHERE merchant_id = :merchant_id")[0].number)
        for table in tables
    ]


def test_parked_deliveries_replayed_by_eight_at_once_count_once_each(engine: Engine) -> None:
    books = Books.opened(engine)
    parked = [
        replace(
            books.delivery(f"o{number}"),
            body=json.dumps(an_order_body(id=f"o{number}", coupon_codes=["ANN"])).encode(),
            body_hash=bytes([number]) * 32,
        ).parked("internal_error", "a fault of ours")
        for number in range(20)
    ]
    inbox_ids = [answer.inbox_id for answer in books.receive(*parked)]

    def replay_all() -> int:
        return len(run_unit(engine, lambda session: replay(session, books.merchant_id, inbox_ids, lambda _: READING)))

    replayed = together(*[replay_all] * 8)

    assert sum(replayed) == 20
    assert counts(books, "orders", "commission_entry", "posting") == [20, 20, 20]
    assert {row.state for row in books.rows("SELECT state FROM inbox WHERE merchant_id = :merchant_id")} == {"applied"}


# Commissions.


def test_verdicts_by_many_keys_at_once_are_all_kept_and_the_newest_counts(engine: Engine) -> None:
    books = Books.opened(engine)
    for round_number in range(4):
        order = f"o{round_number}"
        books.tell(order, snapshot(10_000))
        commission_id, now = books.commission(order).id, books.now
        persons = [Person(books.merchant_id, new_id(), now - timedelta(seconds=number)) for number in range(12)]
        last_rejects = round_number % 2 == 0

        def verdict(number: int, person: Person, commission_id: UUID, rejects: bool) -> Recorded:
            def decide(session: Any) -> Recorded:
                if rejects:
                    return people.decide_one(session, person, Decision(commission_id, Verb.REJECT, "no"))
                return people.decide_one(session, person, Decision(commission_id, Verb.APPROVE, "yes", 100 + number))

            return run_unit(engine, decide)

        calls = [
            partial(verdict, number, person, commission_id, (number % 2 == 0) == last_rejects)
            for number, person in enumerate(persons)
        ]
        random.Random(round_number).shuffle(calls)
        answers = together(*calls)

        assert len({answer.inbox_id for answer in answers}) == 12
        commission = books.commission(order)
        assert commission.target_minor == (0 if last_rejects else 1_000)
        assert last_rejects or commission.approved_minor == 100
    assert counts(books, "inbox") == [4 * (1 + 12)]
    assert wrong_with(engine, books.merchant_id) == []


def test_holds_by_many_keys_at_once_are_all_kept_and_one_release_ends_them(engine: Engine) -> None:
    books = Books.opened(engine)
    books.tell("o", snapshot(10_000), paid())
    commission_id, now = books.commission("o").id, books.now

    def hold(number: int) -> Recorded:
        person = Person(books.merchant_id, new_id(), now + timedelta(seconds=number))
        return run_unit(
            engine, lambda session: people.decide_one(session, person, Decision(commission_id, Verb.HOLD, "looks odd"))
        )

    def let_go(number: int) -> Recorded:
        person = Person(books.merchant_id, new_id(), now + timedelta(seconds=60 + number))
        return run_unit(
            engine,
            lambda session: people.decide_one(session, person, Decision(commission_id, Verb.RELEASE, "looked at")),
        )

    together(*[partial(hold, number) for number in range(12)])

    open_holds = "SELECT key FROM fact WHERE merchant_id = :merchant_id AND kind = 'hold'"
    still_open = f"{open_holds} AND payload ->> 'released_at' IS NULL"
    assert len(books.rows(still_open)) == 12
    assert books.places() == (0, 1_000, 0)
    books.settle()
    assert books.places() == (0, 1_000, 0)

    answers = together(*[partial(let_go, number) for number in range(12)], refused=NotHeld)

    assert len(won(answers)) >= 1
    assert len(books.rows(open_holds)) == 12
    assert books.rows(still_open) == []
    assert books.places() == (1_000, 0, 0)
    assert wrong_with(engine, books.merchant_id) == []


def test_eight_who_settle_at_once_settle_each_commission_once(engine: Engine) -> None:
    books = Books.opened(engine)
    books.receive(*(books.delivery(f"o{number}", snapshot(1_000 + number), paid()) for number in range(60)))

    settled = together(*[partial(settle_in_steps, engine, books.merchant_id)] * 8)

    assert sum(settled) == 60
    assert_all_settled(books)


def test_four_processes_that_settle_at_once_settle_each_commission_once(
    engine: Engine, database_url: str, racers: Processes
) -> None:
    books = Books.opened(engine)
    books.receive(*(books.delivery(f"o{number}", snapshot(1_000 + number), paid()) for number in range(60)))

    settled = racers.race(database_url, settle_in_steps, [books.merchant_id] * PROCESSES)

    assert sum(settled) == 60
    assert_all_settled(books)


def settle_in_steps(engine: Engine, merchant_id: UUID) -> int:
    return settle_due(engine, merchant_id=merchant_id, limit=7)


def assert_all_settled(books: Books) -> None:
    by_kind = books.rows(
        "SELECT kind, count(*) AS number FROM commission_entry WHERE merchant_id = :merchant_id GROUP BY kind"
    )
    assert {row.kind: row.number for row in by_kind} == {"accrue": 60, "settle": 60}
    [total] = books.rows("SELECT sum(target_minor) AS minor FROM commission WHERE merchant_id = :merchant_id")
    assert books.places() == (0, 0, total.minor)
    assert wrong_with(books.engine, books.merchant_id) == []


@pytest.mark.parametrize("part", [3_000, 10_000, 12_000])
def test_settling_against_a_refund_never_loses_or_doubles_a_cent(engine: Engine, part: int) -> None:
    books = Books.opened(engine)
    left = max(0, 10_000 - part) // 10
    settled_first = 0
    for round_number in range(10):
        orders = [f"o{round_number}-{number}" for number in range(3)]
        books.receive(*(books.delivery(order, snapshot(10_000), paid()) for order in orders))

        settled, *_ = together(
            books.settle, *[partial(books.tell, order, refund(f"r-{order}", part)) for order in orders]
        )

        settled_first += settled
        for order in orders:
            commission = books.commission(order)
            places = (commission.pending_minor, commission.held_minor, commission.settled_minor)
            assert sum(places) == commission.target_minor == left
            assert min(places) >= 0
    later = books.settle()

    # Each was settled whole before its refund, or what was left of it after.
    assert settled_first <= 30
    assert later == (30 - settled_first if left else 0)
    assert books.places() == (0, 0, 30 * left)
    assert wrong_with(engine, books.merchant_id) == []


def test_settling_against_a_dispute_leaves_everything_held(engine: Engine) -> None:
    books = Books.opened(engine)
    for round_number in range(10):
        orders = [f"o{round_number}-{number}" for number in range(3)]
        books.receive(*(books.delivery(order, snapshot(10_000), paid()) for order in orders))

        together(books.settle, *[partial(books.tell, order, dispute(f"d-{order}", opened=2)) for order in orders])

        assert books.places() == (0, 3_000 * (round_number + 1), 0)
    assert books.settle() == 0
    assert wrong_with(engine, books.merchant_id) == []


# Payouts.


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


def wrong_with_payouts(desk: Desk) -> list[Any]:
    """What check-books finds, but for what a desk does itself: it books earnings that no commission explains."""
    return [
        each
        for each in wrong_with(desk.engine, desk.merchant_id)
        if each.code not in {FindingCode.POSTING_ENTRIES, FindingCode.EARNED, FindingCode.ITEM_GROSS}
    ]


def owed_to(desk: Desk, kind: str) -> int:
    rows = desk.rows(
        "SELECT coalesce(sum(amount_minor), 0) AS minor FROM balance WHERE merchant_id = :merchant_id AND kind = :kind",
        kind=kind,
    )
    return int(rows[0].minor)


def test_sixteen_who_reserve_the_same_payees_make_one_item_of_each(desk: Desk) -> None:
    payees = [desk.payee(100 + number) for number in range(12)]

    answers = together(*[desk.reserve] * 16, refused=NothingToPay)

    runs = won(answers)
    assert_reserved_once(desk, payees, runs=len(runs))
    assert len(runs) + sum(isinstance(answer, NothingToPay) for answer in answers) == 16


def test_four_processes_that_reserve_the_same_payees_make_one_item_of_each(
    desk: Desk, database_url: str, racers: Processes
) -> None:
    payees = [desk.payee(100 + number) for number in range(12)]

    made = racers.race(database_url, reserve_often, [identity(desk)] * PROCESSES)

    assert_reserved_once(desk, payees, runs=sum(made))


def assert_reserved_once(desk: Desk, payees: Sequence[UUID], *, runs: int) -> None:
    total = sum(100 + number for number in range(len(payees)))
    assert counts(desk, "payout_run", "payout_item") == [runs, len(payees)]
    assert [len(desk.items(payee)) for payee in payees] == [1] * len(payees)
    assert sum(desk.item(payee).gross_minor for payee in payees) == total
    assert (owed_to(desk, "payable"), owed_to(desk, "reserved")) == (0, total)


Identity = tuple[UUID, UUID, datetime]
"""What another process makes the same desk of: merchant, programme, time."""


def identity(desk: Desk) -> Identity:
    return desk.merchant_id, desk.program_id, desk.now


def desk_of(engine: Engine, known: Identity, rail: FakeRail | None = None) -> Desk:
    merchant_id, program_id, now = known
    return Desk(engine, rail=rail or FakeRail(), merchant_id=merchant_id, program_id=program_id, now=now)


def reserve_often(engine: Engine, known: Identity) -> int:
    desk, made = desk_of(engine, known), 0
    for _ in range(8):
        try:
            desk.reserve()
        except NothingToPay:
            continue
        made += 1
    return made


@pytest.mark.parametrize("verb", ["submit", "approve", "cancel"])
def test_of_sixteen_who_take_a_run_one_step_on_one_does(desk: Desk, verb: str) -> None:
    desk.payee(100)
    for _ in range(3):
        run = desk.reserve()
        if verb == "approve":
            desk.submit(run)
        steps = {
            "submit": lambda run=run: desk.submit(run),
            "approve": lambda run=run: desk.approve(run),
            "cancel": lambda run=run: cancel_now(desk, run),
        }

        answers = together(*[steps[verb]] * 16, refused=Conflict)

        assert len(won(answers)) == 1
        assert sum(isinstance(answer, WrongRunState) for answer in answers) == 15
        assert desk.run(run).status == {"submit": "submitted", "approve": "approved", "cancel": "cancelled"}[verb]
        if verb != "cancel":
            cancel_now(desk, run)
    told = {"submit": "payout_run.submitted", "approve": "payout_run.approved", "cancel": "payout_run.cancelled"}
    assert desk.events().count(told[verb]) == 3
    assert owed_to(desk, "payable") == 100


def cancel_now(desk: Desk, run: PayoutRunRow) -> PayoutRunRow:
    cancelled: PayoutRunRow = desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)
    return cancelled


def test_a_run_executed_by_sixteen_at_once_begins_once(desk: Desk) -> None:
    ann = desk.payee(100)
    run = desk.an_approved_run()

    answers = together(*[partial(desk.execute, run)] * 16)

    # Executing what executes already is how a stopped run goes on, so nobody is refused.
    assert len(won(answers)) == 16
    assert desk.events().count("payout_run.executing") == 1
    assert counts(desk, "job") == [1]
    desk.work(run)
    assert len(desk.rail.sends) == 1
    assert desk.balances(ann) == {"paid": 100}


def test_cancelling_against_executing_and_sending_pays_each_or_gives_it_back(desk: Desk) -> None:
    rounds, payees, sent, given_back = 8, 5, 0, 0
    for _ in range(rounds):
        ids = [desk.payee(100) for _ in range(payees)]
        run = desk.an_approved_run(*ids)

        executed, cancelled, *_ = together(
            partial(desk.execute, run),
            partial(cancel_now, desk, run),
            partial(desk.work, run),
            partial(desk.work, run),
            refused=WrongRunState,
        )

        # Whoever comes second meets a run that is over, or one that only its worker may end.
        assert won([executed, cancelled])
        desk.work(run)
        if desk.run(run).status == RunState.EXECUTING:
            desk.work(run)
        assert desk.run(run).status in {RunState.CANCELLED, RunState.CLOSED}
        balances = [desk.balances(payee) for payee in ids]
        assert all(each in ({"paid": 100}, {"payable": 100}) for each in balances)
        sent += balances.count({"paid": 100})
        given_back += balances.count({"payable": 100})
    assert sent + given_back == rounds * payees
    assert len(desk.rail.sends) == len(set(desk.rail.sends)) == sent
    assert wrong_with_payouts(desk) == []


def test_releasing_against_planning_and_sending_never_does_both(desk: Desk) -> None:
    rounds, payees, refused, released = 6, 6, 0, 0
    for _ in range(rounds):
        ids = [desk.payee(100) for _ in range(payees)]
        run = desk.an_executing_run(*ids)
        items = [desk.item(payee).id for payee in ids]

        _, *answers = together(
            partial(desk.work, run),
            *[partial(desk.do, release, item_id=item, when=desk.when, now=desk.now) for item in items],
            refused=MayHaveBeenSent,
        )

        desk.work(run)
        for payee, answer in zip(ids, answers, strict=True):
            was_sent = isinstance(answer, MayHaveBeenSent)
            assert desk.balances(payee) == ({"paid": 100} if was_sent else {"payable": 100})
            assert desk.state(payee) is (ItemState.SENT if was_sent else ItemState.RELEASED)
            refused += was_sent
            released += not was_sent
    assert refused + released == rounds * payees
    assert len(desk.rail.sends) == len(desk.rail.transfers) == refused
    assert wrong_with_payouts(desk) == []


@dataclass
class CountingRail(FakeRail):
    """A rail that several processes share: it writes each sending into a file."""

    file: Path = Path()

    def _do(self, request: bytes, key: str, *, amount_minor: int | None = None) -> Transfer:
        with self.file.open("a") as sends:
            sends.write(f"{key}\n")
        return replace(super()._do(request, key, amount_minor=amount_minor), reference=f"tr {key}")


def test_four_processes_that_execute_one_run_send_each_payout_once(
    desk: Desk, database_url: str, racers: Processes, tmp_path: Path
) -> None:
    payees = [desk.payee(100 + number) for number in range(40)]
    run = desk.an_executing_run()
    sends = tmp_path / "sends"
    sends.touch()

    racers.race(database_url, work_on, [(identity(desk), run.id, sends, f"w{n}") for n in range(PROCESSES)])
    desk.work(run)

    keys = sends.read_text().splitlines()
    assert len(keys) == len(set(keys)) == 40
    assert desk.run(run).status == RunState.CLOSED
    assert {desk.state(payee) for payee in payees} == {ItemState.SENT}
    assert (owed_to(desk, "paid"), owed_to(desk, "reserved"), owed_to(desk, "in_transit")) == (
        sum(100 + number for number in range(40)),
        0,
        0,
    )
    assert wrong_with_payouts(desk) == []


def work_on(engine: Engine, share: tuple[Identity, UUID, Path, str]) -> None:
    known, run_id, sends, owner = share
    # One at a time, so that all reach for the same payout again and again.
    rail = CountingRail(file=sends, at_once=1)
    desk = desk_of(engine, known, rail)
    with ThreadPoolExecutor(2) as calls:
        advance(
            desk.sender(calls, owner=owner),
            merchant_id=desk.merchant_id,
            run_id=run_id,
            until=desk.now + timedelta(seconds=30),
        )


def test_an_attempt_leased_while_another_waited_for_it_is_not_leased_again(desk: Desk) -> None:
    for _ in range(4):
        desk.payee(100)
    run = desk.an_executing_run()
    desk.do(plan, rail=desk.rail, security=desk.security, run_id=run.id, limit=10, now=desk.now)

    def lease(session: Session, owner: str) -> list[UUID]:
        leased = lease_planned(
            session,
            desk.security,
            merchant_id=desk.merchant_id,
            run_id=run.id,
            owner=owner,
            limit=2,
            now=desk.now,
        )
        return [attempt.id for attempt in leased]

    with ThreadPoolExecutor(3) as others:
        with unit_of_work(desk.engine) as session:
            first = lease(session, "first")
            later = [
                others.submit(run_unit, desk.engine, partial(lease, owner=f"later {number}")) for number in range(3)
            ]
            wait_until_waiting(desk, 3)
        took = [attempt for each in later for attempt in each.result()]

    took += first + run_unit(desk.engine, partial(lease, owner="last"))
    assert len(first) == 2
    assert len(took) == len(set(took)) == 4


def wait_until_waiting(desk: Desk, number: int) -> None:
    """Return when so many units of work wait for a lock."""
    deadline = time.monotonic() + 60
    waiting = "SELECT count(*) AS number FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while desk.rows(waiting)[0].number < number:
        assert time.monotonic() < deadline, "nobody waits for the lock"
        time.sleep(0.01)


def test_told_twice_at_once_what_came_back_is_booked_once(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    desk.work(run)
    reference = desk.rail.transfers[0].reference

    for came_back in (1, 300, 1_000):
        desk.rail.reverse(reference, came_back)
        told = together(
            *[
                partial(
                    compare,
                    desk.engine,
                    desk.rail,
                    merchant_id=desk.merchant_id,
                    run_id=run.id,
                    since=desk.now,
                    now=desk.now,
                )
            ]
            * 8
        )

        assert sum(each.changed for each in told) == 1
        left = {"paid": 1_000 - came_back, "taxed_carry": came_back}
        assert desk.balances(ann) == {kind: amount for kind, amount in left.items() if amount}
    assert counts(desk, "provider_fact") == [1 + 3]
    assert wrong_with_payouts(desk) == []


# Orders against payouts.


@dataclass
class Market:
    """A merchant whose affiliates earn by orders and are paid by runs."""

    books: Books
    desk: Desk

    @classmethod
    def opened(cls, engine: Engine) -> "Market":
        books = Books.opened(engine)
        desk = Desk(engine, merchant_id=books.merchant_id, program_id=books.program_id, now=books.now)
        return cls(books, desk)

    def earners(self, count: int) -> dict[str, UUID]:
        """Maps an order of 100.00, settled, to whoever earned 10.00 by it; each earned by one order only."""
        made = {}
        for _ in range(count):
            name = uuid4().hex
            payee = self.books.affiliate(name)
            self.desk.method(payee, f"sandbox_{name}")
            made[name] = payee
        self.books.receive(*(self.books.delivery(name, snapshot(10_000, coupon=name), paid()) for name in made))
        assert self.books.settle() == count
        return made

    def balances(self, payee: UUID) -> dict[str, int]:
        return self.desk.balances(payee)


def test_reserving_against_refunds_and_disputes_takes_what_its_interval_holds(engine: Engine) -> None:
    market = Market.opened(engine)
    rounds, taken_whole, taken_less, left_out = 6, 0, 0, 0
    for _ in range(rounds):
        earners = market.earners(6)
        refunded, disputed = [*earners][:3], [*earners][3:]

        run, *_ = together(
            partial(market.desk.reserve, *earners.values()),
            *[partial(market.books.tell, order, refund(f"r-{order}", 4_000)) for order in refunded],
            *[partial(market.books.tell, order, dispute(f"d-{order}", opened=3)) for order in disputed],
            refused=NothingToPay,
        )

        for order, payee in earners.items():
            items = market.desk.items(payee)
            gross = items[0].gross_minor if items else 0
            is_disputed = order in disputed
            target, held = (1_000, 1_000) if is_disputed else (600, 0)
            # What was taken back after the reserving is owed by the payee until the run is planned or earns it back.
            expected = {"reserved": gross, "held": held, "payable": target - held - gross}
            assert market.balances(payee) == {kind: amount for kind, amount in expected.items() if amount}
            assert gross in ({1_000, 0} if is_disputed else {1_000, 600})
            taken_whole += gross == 1_000
            taken_less += gross == 600
            left_out += gross == 0
        if not isinstance(run, Exception):
            # The plan meets those in debt and leaves them their money.
            market.desk.execute(market.desk.approve(market.desk.submit(run), by=CHECKER))
            market.desk.work(run)
        for order, payee in earners.items():
            paid_minor = market.balances(payee).get("paid", 0)
            assert paid_minor in ({0} if order in disputed else {0, 600})
            assert sum(market.balances(payee).values()) == (1_000 if order in disputed else 600)
    assert taken_whole + taken_less + left_out == rounds * 6
    assert wrong_with(engine, market.books.merchant_id) == []


def test_freezing_against_planning_hands_over_or_holds_but_never_both(engine: Engine) -> None:
    market = Market.opened(engine)
    rounds, each_round, sent, held = 8, 5, 0, 0
    for _ in range(rounds):
        earners = market.earners(each_round)
        run = market.desk.an_executing_run(*earners.values())

        together(
            partial(market.desk.work, run),
            *[partial(market.books.tell, order, dispute(f"d-{order}", opened=3)) for order in earners],
        )

        market.desk.work(run)
        for payee in earners.values():
            balances = market.balances(payee)
            assert balances in ({"paid": 1_000}, {"held": 1_000})
            sent += balances == {"paid": 1_000}
            held += balances == {"held": 1_000}
    assert sent + held == rounds * each_round
    assert len(market.desk.rail.sends) == len(set(market.desk.rail.sends)) == sent
    assert market.books.balance(AccountKind.PAYABLE) == 0
    assert wrong_with(engine, market.books.merchant_id) == []


def test_money_handed_to_a_rail_while_its_order_was_being_frozen_is_not_frozen(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market.opened(engine)
    [(order, payee)] = market.earners(1).items()
    run = market.desk.an_executing_run(payee)
    tries = 0

    def book_late(*arguments: Any, **more: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            # The worker plans and sends between what the freeze has read and what it books.
            market.desk.work(run)
        return post(*arguments, **more)

    monkeypatch.setattr("service.commissions.assess.post", book_late)

    market.books.tell(order, dispute("d", opened=3))

    assert tries == 2
    assert market.balances(payee) == {"paid": 1_000}
    assert wrong_with(engine, market.books.merchant_id) == []


def test_what_is_taken_back_after_it_was_paid_is_carried_against_what_is_earned_next(engine: Engine) -> None:
    market = Market.opened(engine)
    earners = market.earners(4)
    run = market.desk.an_executing_run(*earners.values())

    together(
        partial(market.desk.work, run),
        *[partial(market.books.tell, order, refund(f"r-{order}", 10_000)) for order in earners],
    )

    market.desk.work(run)
    for order, payee in earners.items():
        in_debt = market.balances(payee)
        # Paid and taken back: a debt. Taken back first: the item was dropped, and nothing is left.
        assert in_debt in ({"paid": 1_000, "payable": -1_000}, {})
        market.books.tell(f"next-{order}", snapshot(25_000, coupon=order), paid())
    market.books.settle()
    later = market.desk.reserve(*earners.values())
    for payee in earners.values():
        item = market.desk.item(payee)
        assert item.run_id == later.id
        assert item.gross_minor in {1_500, 2_500}
    assert wrong_with(engine, market.books.merchant_id) == []
