"""Workers at the same runs at once, some of whom sleep or die: one transfer each, and nothing recorded under a lost lease.

`make prove WHAT=payout-races` plays many more rounds.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from sqlalchemy import Engine

from bench.payout_races import RUNNERS, SleepyRail, Tally, check_books, open_desk, play
from service.domain.payout import Answer, ItemState, RunState
from service.infra.crash import CrashPoint, crashing_at
from service.payouts.execute import advance
from tests.support.payouts import Desk, FakeRail


@pytest.mark.parametrize("runners", RUNNERS)
def test_runners_at_once_on_a_rail_that_misbehaves_pay_each_once(engine: Engine, runners: int) -> None:
    desk, tally = open_desk(engine, seed=runners), Tally()

    for number in range(2):
        play(desk, tally, random.Random(f"{runners}/{number}"), runners=runners)
    check_books(desk, tally)

    assert tally.wrong == []
    assert tally.holds
    assert tally.items == 24
    assert tally.sends > tally.items
    assert tally.turns > runners


class SlowRail(FakeRail):
    """Its first answer is held back until `told`. asked: it has acted."""

    def __init__(self, *does: str) -> None:
        super().__init__()
        self.does["sandbox_ok"] = list(does)
        self.asked, self.told = Event(), Event()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        answer = super().send(request, idempotency_key)
        if not self.asked.is_set():
            self.asked.set()
            assert self.told.wait(60)
        return answer


@pytest.mark.parametrize(
    ("does", "sends", "meanwhile"),
    [
        pytest.param(["accept"], 1, ItemState.SENT, id="found done by another"),
        pytest.param(["refuse"], 2, ItemState.SENT, id="refused, and done by another"),
        pytest.param(["refuse", "late"], 2, ItemState.UNKNOWN, id="refused, and still travelling for another"),
    ],
)
def test_a_worker_whose_lease_is_over_records_nothing(
    engine: Engine, does: list[str], sends: int, meanwhile: ItemState
) -> None:
    rail = SlowRail(*does)
    desk = Desk.opened(engine, rail=rail)
    ann = desk.payee(100)
    run = desk.an_executing_run()

    with ThreadPoolExecutor(1) as calls, ThreadPoolExecutor(1) as threads:
        sleeper = threads.submit(
            advance,
            desk.sender(calls, owner="sleeper"),
            merchant_id=desk.merchant_id,
            run_id=run.id,
            until=desk.now + timedelta(seconds=30),
        )
        assert rail.asked.wait(60)
        desk.later(minutes=11)
        # Another worker looks it up, and sends it again where it is not found.
        desk.work(run, owner="other")
        before = desk.attempts(ann)[0]
        rail.told.set()
        sleeper.result()

    assert desk.attempts(ann) == [before]
    assert before.sends == sends
    assert desk.state(ann) is meanwhile
    rail.land()
    desk.later(minutes=20)
    desk.work(run)
    assert desk.state(ann) is ItemState.SENT
    assert len(rail.transfers) == 1
    assert desk.balances(ann) == {"paid": 100}
    assert desk.events().count("payout.sent") == 1
    assert "payout.refused" not in desk.events()
    assert desk.run(run).status == RunState.CLOSED


@pytest.mark.parametrize(
    ("slept", "later"),
    [
        pytest.param(timedelta(minutes=8), ItemState.SENT, id="most of its lease"),
        pytest.param(timedelta(hours=19), ItemState.SENT, id="hours"),
        pytest.param(timedelta(hours=30), ItemState.UNKNOWN, id="until its key is too old, so only listings can tell"),
    ],
)
def test_a_worker_that_sleeps_between_its_lease_and_its_call_does_not_send(
    engine: Engine, slept: timedelta, later: ItemState
) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(100)
    run = desk.an_executing_run()

    with crashing_at(CrashPoint.LEASED, die=lambda _: desk.later(seconds=int(slept.total_seconds()))):
        desk.work(run)

    assert desk.rail.sends == []
    assert desk.attempts(ann)[0].code == "not_sent_in_time"
    assert desk.state(ann) is ItemState.UNKNOWN
    desk.later(minutes=25)
    desk.work(run)
    assert desk.state(ann) is later


def test_who_sleeps_at_the_rail_is_counted_and_woken() -> None:
    rail = SleepyRail(sleeps=1.0)
    request = b'{"item": "00000000-0000-0000-0000-000000000001", "number": 1, "destination": "d", "amount": 1, "currency": "USD"}'

    with ThreadPoolExecutor(1) as threads:
        sleeper = threads.submit(rail.send, request, "key")
        while not rail.asleep:
            assert not sleeper.done()
        rail.wake()
        assert sleeper.result().reference == "tr_1"

    assert (rail.asleep, rail.slept) == (0, 1)
