"""Many at once on the same payouts: some reserve the same payees, some take the same runs on, on a rail that misbehaves.

Workers die and sleep through their leases, answers get lost, come late, or come to somebody who has lost the attempt.
Each payee must end in one payout, each payout in one transfer.
"""

import contextlib
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine

from bench import show
from bench.serve import database
from service.domain.payout import Answer, ItemState, Outcome, RunState
from service.infra.db import make_engine
from service.ledger.findings import FindingCode
from service.payouts.execute import advance
from service.payouts.reserve import NothingToPay
from service.payouts.retry import confirm_resend, retry
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import CHECKER, MAKER, Crash, Desk, FakeRail
from tests.support.races import together, won, wrong_with

ROUNDS = 200
RESERVERS, PAYEES = 16, 12
RUNNERS = (2, 4)
"""By turns."""
FAULTS = ("accept", "refuse", "down", "lost", "late", "crash", "crash_done")
SLEEPS = 0.1
"""Part of the sendings after which the worker sleeps until its lease is long over."""
MOMENTS_MAX = 120
"""Times at which workers look within which all runs of a round must be closed."""
PATIENCE_S = 120
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Nobody misses the data of a proof after a power cut."""
SHOWN_MAX = 10


@dataclass
class SleepyRail(FakeRail):
    """A rail at which workers fall asleep with an answer in hand. asleep: how many do at this moment."""

    draw: random.Random = field(default_factory=random.Random)
    sleeps: float = SLEEPS
    asleep: int = 0
    slept: int = 0
    _bed: threading.Condition = field(default_factory=threading.Condition)
    _nights: int = 0

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        answer = super().send(request, idempotency_key)
        with self._bed:
            if self.draw.random() < self.sleeps:
                night = self._nights
                self.asleep += 1
                self.slept += 1
                self._bed.wait_for(lambda: self._nights > night, PATIENCE_S)
        return answer

    def wake(self) -> None:
        """Wake all who sleep now."""
        with self._bed:
            # They count as awake at once, before they stir.
            self.asleep = 0
            self._nights += 1
            self._bed.notify_all()


@dataclass
class Tally:
    """What happened in rounds, and what must not: wrong says it in words."""

    rounds: int = 0
    runs: int = 0
    left_out: int = 0
    """Reservers who found nobody left."""
    items: int = 0
    sends: int = 0
    turns: int = 0
    died: int = 0
    slept: int = 0
    twice_reserved: int = 0
    double: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.twice_reserved or self.double or self.lost or self.wrong)


def play(desk: Desk, tally: Tally, draw: random.Random, *, runners: int, reservers: int = RESERVERS) -> None:
    """Reserve the same new payees from many sides at once, then let some runners send all that came of it."""
    rail = desk.rail
    assert isinstance(rail, SleepyRail)
    names = [f"{tally.rounds}-{number}" for number in range(PAYEES)]
    payees = {
        desk.payee(100 + number, destination=f"sandbox_{name}"): 100 + number for number, name in enumerate(names)
    }
    for name in names:
        rail.does[f"sandbox_{name}"] = draw.choices(FAULTS, k=draw.randrange(4))
    sends_before, slept_before = len(rail.calls), rail.slept
    runs = reserve_from_many_sides(desk, list(payees), tally, draw, reservers=reservers)
    for run in runs:
        desk.execute(desk.approve(desk.submit(run)))
    _send_all(desk, rail, runs, tally, draw, runners=runners)
    tally.rounds += 1
    tally.runs += len(runs)
    tally.items += len(payees)
    tally.sends += sum(kind == "send" for kind, _ in rail.calls[sends_before:])
    tally.slept += rail.slept - slept_before
    _judge(desk, rail, payees, tally)


def reserve_from_many_sides(
    desk: Desk, payees: Sequence[UUID], tally: Tally, draw: random.Random, *, reservers: int
) -> list[PayoutRunRow]:
    """Reserve at one moment: half of them everybody, half a part drawn at random. Returns the runs that were made."""
    wanted = [
        payees if number % 2 else draw.sample(payees, draw.randrange(1, len(payees))) for number in range(reservers)
    ]
    answers = together(*[partial(desk.reserve, *each) for each in wanted], refused=NothingToPay)
    runs: list[PayoutRunRow] = won(answers)
    tally.left_out += len(answers) - len(runs)
    taken = Counter(
        row.payee_id for row in desk.rows("SELECT payee_id FROM payout_item WHERE merchant_id = :merchant_id")
    )
    for payee in payees:
        if taken[payee] != 1:
            tally.twice_reserved += taken[payee] > 1
            tally.wrong.append(f"a payee is in {taken[payee]} payouts")
    return runs


def _send_all(
    desk: Desk, rail: SleepyRail, runs: Sequence[PayoutRunRow], tally: Tally, draw: random.Random, *, runners: int
) -> None:
    """Let runners take the runs on at one moment after the other, until all are closed or it takes too long."""
    busy: set[Future[bool]] = set()
    with ThreadPoolExecutor(3 * runners) as threads:
        try:
            for moment in range(MOMENTS_MAX):
                start = threading.Barrier(runners)
                busy |= {
                    threads.submit(_take_on, desk, draw.sample(runs, len(runs)), f"{moment}-{number}", start.wait)
                    for number in range(runners)
                }
                tally.turns += runners
                # Those who have slept since an earlier moment come back in the middle of this one.
                rail.wake()
                tally.died += _until_done_or_asleep(busy, rail)
                open_runs = [run for run in runs if desk.run(run).status != RunState.CLOSED]
                if not open_runs:
                    return
                _people(desk, open_runs)
                passed = draw.choice((2, 11, 70, 300))
                if passed == 300 or draw.random() < 0.3:
                    rail.land()
                desk.later(minutes=passed)
        finally:
            rail.wake()
    tally.wrong.append(f"not all runs were closed after {MOMENTS_MAX} moments")


def _take_on(desk: Desk, runs: Sequence[PayoutRunRow], owner: str, start: Callable[[], object]) -> bool:
    """Be a worker for one turn. Returns whether it died."""
    # One call at a time: who sleeps, sleeps whole.
    with ThreadPoolExecutor(1) as calls, contextlib.suppress(Crash):
        start()
        for run in runs:
            until = desk.now + timedelta(seconds=30)
            advance(desk.sender(calls, owner=owner), merchant_id=desk.merchant_id, run_id=run.id, until=until)
        return False
    return True


def _until_done_or_asleep(working: set[Future[bool]], rail: SleepyRail) -> int:
    """Take out of a set who is done, until the others all sleep. Returns how many died; raises what else befell them."""
    died, deadline = 0, time.monotonic() + PATIENCE_S
    while len(working) > rail.asleep:
        done, _ = wait(working, timeout=0.02, return_when=FIRST_COMPLETED)
        working -= done
        died += sum(each.result() for each in done)
        if time.monotonic() > deadline:
            raise TimeoutError("a worker neither ends nor sleeps")
    return died


def _people(desk: Desk, runs: Sequence[PayoutRunRow]) -> None:
    """Retry what was refused, confirm what never arrived, and go on with what was stopped."""
    for run in runs:
        if desk.run(run).stopped_at is not None:
            desk.execute(run)
    for item in desk.rows(
        """
        SELECT DISTINCT ON (attempt.item_id) attempt.item_id, attempt.outcome
        FROM payout_attempt AS attempt
        JOIN payout_item AS item ON item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id
        WHERE attempt.merchant_id = :merchant_id AND item.run_id = ANY(CAST(:run_ids AS uuid[]))
        ORDER BY attempt.item_id, attempt.number DESC
        """,
        run_ids=[run.id for run in runs],
    ):
        if item.outcome == Outcome.REFUSED:
            desk.do(retry, item_id=item.item_id, by=MAKER, now=desk.now)
        elif item.outcome == Outcome.ABSENT:
            desk.do(confirm_resend, item_id=item.item_id, by=CHECKER, now=desk.now)


def _judge(desk: Desk, rail: FakeRail, payees: dict[UUID, int], tally: Tally) -> None:
    # Whatever still travels arrives, and may change nothing.
    rail.land()
    made = Counter(transfer.item_id for transfer in rail.transfers)
    amounts = {transfer.item_id: transfer.amount_minor for transfer in rail.transfers}
    for payee, amount in payees.items():
        item = desk.item(payee)
        tally.double += made[item.id] > 1
        tally.lost += made[item.id] == 0
        if made[item.id] != 1 or amounts[item.id] != amount:
            tally.wrong.append(f"{made[item.id]} transfers of a payout of {amount}")
        elif desk.state(payee) is not ItemState.SENT or desk.balances(payee) != {"paid": amount}:
            tally.wrong.append(f"a payout of {amount} is {desk.state(payee)}, its money {desk.balances(payee)}")


def check_books(desk: Desk, tally: Tally) -> None:
    """Ask everything that check-books asks, but where earnings come from: a desk books them without orders."""
    told = desk.events()
    if told.count("payout.sent") != tally.items or told.count("payout_run.closed") != tally.runs:
        tally.wrong.append(f"{told.count('payout.sent')} payouts were told as sent, {tally.items} were")
    codes = {FindingCode.POSTING_ENTRIES, FindingCode.EARNED, FindingCode.ITEM_GROSS}
    found = [each for each in wrong_with(desk.engine, desk.merchant_id) if each.code not in codes]
    tally.wrong += [f"check-books: {each}" for each in found]


def prove(n: int | None, seed: int | None) -> bool:
    """Play n rounds (200). Returns whether everybody was reserved once and paid once."""
    rounds = ROUNDS if n is None else n
    seed = secrets.randbelow(2**31) if seed is None else seed
    show.say(f"Seed {seed}; {rounds} rounds, {RESERVERS} reserve at once, {RUNNERS[0]} or {RUNNERS[1]} send at once.")
    began, tally = time.monotonic(), Tally()
    with database(POSTGRES_SETTINGS) as postgres:
        engine = make_engine(postgres.url, pool_size=RESERVERS + 8)
        try:
            desk = open_desk(engine, seed)
            with show.progress("Rounds", rounds) as tell:
                for number in range(rounds):
                    play(desk, tally, random.Random(f"{seed}/{number}"), runners=RUNNERS[number % len(RUNNERS)])
                    tell(number + 1)
            check_books(desk, tally)
        finally:
            engine.dispose()
    figures = [
        ("payouts", tally.items),
        ("runs they were reserved in", tally.runs),
        ("reservers who found nobody left", tally.left_out),
        ("turns of workers", tally.turns),
        ("of them ended by a death", tally.died),
        ("sendings", tally.sends),
        ("answers that came to a worker who had slept", tally.slept),
    ]
    show.table("Races", ("what", "how many"), [(what, f"{number:,}") for what, number in figures])
    for wrong in tally.wrong[:SHOWN_MAX]:
        show.say(wrong)
    show.result(
        "payout-races",
        rounds=tally.rounds,
        payouts=tally.items,
        twice_reserved=tally.twice_reserved,
        double=tally.double,
        lost=tally.lost,
        wrong=len(tally.wrong),
        sends=tally.sends,
        died=tally.died,
        slept=tally.slept,
        seconds=round(time.monotonic() - began),
        seed=seed,
    )
    return tally.holds


def open_desk(engine: Engine, seed: int) -> Desk:
    """A merchant whose rail makes workers sleep."""
    return Desk.opened(engine, rail=SleepyRail(at_once=3, draw=random.Random(seed)))
