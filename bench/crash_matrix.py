"""Let a payout's process die at every point, twice, whatever the provider does: it is paid once, and the books say so.

One payout per case: people make, submit, approve and execute its run, retry what is refused and confirm what never
arrived; a worker sends. A life goes on until it dies or the run is closed; the next one finds what the last one left, by
a clock that is moved, not waited for. Then a part comes back, and the case is judged by the provider's own list.
"""

import contextlib
import itertools
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
from sqlalchemy import Engine

from bench import show
from bench.crash_rail import OUTCOMES, Behaviour, Provider, RailInProcess
from bench.serve import database
from service.domain.payout import ItemState, Outcome, RunState
from service.infra import ids
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import make_engine
from service.ledger.findings import FindingCode
from service.payouts.execute import Sender, advance
from service.payouts.reconcile import compare
from service.payouts.retry import confirm_resend, retry
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import CHECKER, MAKER, NOON, Desk, FakeRail
from tests.support.races import wrong_with

AMOUNT, CAME_BACK = 10_000, 3_000
STEPS_MAX = 300
"""Steps within which a case must have come to its end, all its lives together."""
RESTART = timedelta(minutes=1)
"""How long it takes until another process goes on where one died."""
DELAYS = tuple(timedelta(seconds=each) for each in (40, 170, 1_000, 7_000, 17_400))
"""How long a delayed request travels; less than the five hours that the proof of absence leaves it."""
DOWN = 12
"""Sendings that fail in a row until a key is too old to be sent: more than there are."""
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Nobody misses the data of a proof after a power cut."""
SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Point:
    """A place where the process dies. Just one of the four is given.

    at: a crash point of the service. after: of which request of people the answer is lost. when_asked: the last byte has
    left. commit_lost: the process lives, but what came of the commit after that point it never hears.
    before: what becomes of the first sendings, where the point is on no other way.
    """

    name: str
    what: str
    at: CrashPoint | None = None
    after: str = ""
    when_asked: bool = False
    commit_lost: CrashPoint | None = None
    before: tuple[Behaviour, ...] = ()


POINTS = (
    Point("P1", "before reserve commits", at=CrashPoint.RESERVE_BEFORE_COMMIT),
    Point("P2", "reserve committed, nobody told", after="reserve"),
    Point("P3", "submit committed", after="submit"),
    Point("P4", "approve committed", after="approve"),
    Point("P5", "attempt planned", at=CrashPoint.PLANNED),
    Point("P6", "leased, before the first byte", at=CrashPoint.LEASED),
    Point("P7", "after the last byte, before it acts", when_asked=True),
    Point("P8", "it acted, its answer unread", at=CrashPoint.ASKED),
    Point("P9", "answer read, nothing recorded", at=CrashPoint.ANSWERED),
    Point("P10", "inside record, outcome stored", at=CrashPoint.RECORD_STORED),
    Point("P10b", "inside record, all stored", at=CrashPoint.RECORD_BEFORE_COMMIT),
    Point("P11", "commit sent, its answer lost", commit_lost=CrashPoint.RECORD_BEFORE_COMMIT),
    Point("P12", "recorded, nobody told", at=CrashPoint.RECORDED),
    Point("P13", "between look-up pages", at=CrashPoint.PAGE_READ, before=(Behaviour.RESET,)),
    Point("P14", "absence proven, no new plan", after="confirm", before=(Behaviour.RESET,) * DOWN),
    Point("P15", "inside fact and postings", at=CrashPoint.RECONCILE_BEFORE_COMMIT),
    # A file stored and its hand-over not recorded is on no way of a sending: tests/journeys/test_crashes.py dies there.
)
"""Of the protocol's list (docs/proof.md). P13 and P14 lie on the way of what is not found: there the provider's behaviour is
that towards the sending after it."""

OF_FILES = ("payout-file", "payout-hand-over", "payout-results", "payout-attest")
"""How the names of points begin that no sending over a network comes by; tests/journeys/test_crashes.py dies there."""

ANYWHERE = tuple(
    Point(point.value, "", at=point)
    for point in CrashPoint
    if (point.startswith(("plan", "payout")) and not point.startswith(OF_FILES))
    or point in {CrashPoint.RESERVE_BEFORE_COMMIT, CrashPoint.RECONCILE_BEFORE_COMMIT}
)
"""Where processes die in cases drawn at random, besides POINTS."""


@dataclass(frozen=True, slots=True)
class Case:
    """deaths: where one life after the other ends, as far as it gets there."""

    deaths: tuple[Point, ...]
    script: tuple[Behaviour, ...]

    @property
    def name(self) -> str:
        return f"{' then '.join(point.name for point in self.deaths)}; {', '.join(self.script)}"


def single(point: Point, outcome: Behaviour, *more: Point) -> Case:
    return Case((point, *more), (*point.before, outcome))


def singles() -> list[Case]:
    """Each point with each outcome."""
    return [single(point, outcome) for point, outcome in itertools.product(POINTS, OUTCOMES)]


def pairs() -> list[Case]:
    """Each of them with each point at which the next life dies."""
    return [single(point, outcome, second) for point, outcome, second in itertools.product(POINTS, OUTCOMES, POINTS)]


def drawn(count: int, seed: int) -> Iterator[Case]:
    """Up to four deaths anywhere and up to six misbehaviours, by chance."""
    draw = random.Random(seed)
    for _ in range(count):
        deaths = tuple(draw.choices((*POINTS, *ANYWHERE), k=draw.randrange(1, 5)))
        before = max((point.before for point in deaths), key=len) if draw.random() < 0.5 else ()
        yield Case(deaths, (*before, *draw.choices(tuple(Behaviour), k=draw.randrange(7))))


@dataclass
class Judged:
    """What came of cases. died: deaths by point. left: cases that did not come to their end."""

    cases: int = 0
    double: int = 0
    lost: int = 0
    wrong: int = 0
    left: int = 0
    sends: int = 0
    died: Counter[str] = field(default_factory=Counter)
    hours: list[float] = field(default_factory=list)
    """From the first step of a case to its end, by its own clock."""
    findings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.double or self.lost or self.wrong or self.left or self.findings)


class Matrix:
    """A merchant with one payee per case."""

    def __init__(self, engine: Engine, calls: ThreadPoolExecutor) -> None:
        self._commits = _Commits(engine)
        self._provider = Provider(lambda: self.desk.now)
        self._rail = RailInProcess(self._provider)
        # A desk only asks a rail what every rail can.
        self.desk = Desk.opened(engine, rail=cast("FakeRail", self._rail))
        self._calls = calls
        self.judged = Judged()

    def play(self, case: Case, *, number: int) -> None:
        """Let a payout go through all of a case, and judge it."""
        # Waits are lengthened by chance.
        random.seed(number)
        self.desk.now = NOON
        self._provider.begin(list(case.script), delay=DELAYS[number % len(DELAYS)])
        payee = self.desk.payee(AMOUNT, destination=f"acct_{number}")
        life = _Life(self.desk, self._provider, self._calls, payee, is_cut=lambda: self._commits.was_lost)
        deaths = list(case.deaths)
        while not life.is_over and life.steps < STEPS_MAX:
            point = deaths[0] if deaths else None
            try:
                with self._armed(point, life):
                    life.live()
            except Crashed:
                self.desk.now += RESTART
            else:
                if not self._commits.was_lost:
                    break
                self._commits.was_lost = False
            self.judged.died[deaths.pop(0).name] += 1
        self._judge(case, life, payee)

    @contextlib.contextmanager
    def _armed(self, point: Point | None, life: "_Life") -> Iterator[None]:
        """Let the process die there while the block runs."""
        life.dies_after = point.after if point else ""
        self._provider.dies_when_asked = int(point is not None and point.when_asked)
        if point is not None and point.at is not None:
            armed: contextlib.AbstractContextManager[None] = crashing_at(point.at)
        elif point is not None and point.commit_lost is not None:
            armed = crashing_at(point.commit_lost, die=self._commits.lose_next)
        else:
            armed = contextlib.nullcontext()
        with armed:
            yield

    def _judge(self, case: Case, life: "_Life", payee: UUID) -> None:
        judged, desk = self.judged, self.desk
        judged.cases += 1
        judged.sends += self._provider.sends
        judged.hours.append((desk.now - NOON) / timedelta(hours=1))
        # Whatever still travels arrives, and may change nothing.
        desk.now += timedelta(hours=6)
        self._provider.land()
        made = self._provider.transfers
        wrong = []
        if len(made) > 1:
            judged.double += 1
            wrong.append(f"{len(made)} transfers")
        if not made:
            judged.lost += 1
            wrong.append("no transfer")
        if not life.is_over:
            judged.left += 1
            wrong.append(f"not over after {life.steps} steps")
        elif not _agrees(desk, payee, made):
            judged.wrong += 1
            wrong.append(f"{desk.balances(payee)}, {[each.outcome for each in desk.attempts(payee)]}, provider {made}")
        if wrong:
            judged.findings.append(f"{case.name}: {'; '.join(wrong)}")

    def check_books(self) -> None:
        """Ask everything that check-books asks, but where earnings come from: a desk books them without orders."""
        codes = {FindingCode.POSTING_ENTRIES, FindingCode.EARNED, FindingCode.ITEM_GROSS}
        found = [each for each in wrong_with(self.desk.engine, self.desk.merchant_id) if each.code not in codes]
        self.judged.findings += [f"check-books: {each}" for each in found]

    def close(self) -> None:
        """Let go of the engine and the rail."""
        self._rail.close()
        self._commits.close()


def _agrees(desk: Desk, payee: UUID, made: Sequence[dict[str, Any]]) -> bool:
    """Whether books and records say of the one transfer what the provider says of it."""
    [item], attempts = desk.items(payee), desk.attempts(payee)
    standing = [each for each in made if each["transfer_group"] == ids.encode("pay", item.id)]
    accepted = [each for each in attempts if each.outcome == Outcome.ACCEPTED]
    if len(standing) != 1 or len(accepted) != 1:
        return False
    return (
        accepted[0].reference == standing[0]["id"]
        and str(accepted[0].number) == standing[0]["metadata"]["koc_attempt"]
        and standing[0]["amount"] == item.net_minor == AMOUNT
        and all(each.outcome in {Outcome.REFUSED, Outcome.ABSENT} for each in attempts if each is not accepted[0])
        and desk.balances(payee) == {"paid": AMOUNT - CAME_BACK, "taxed_carry": CAME_BACK}
        and desk.state(payee) is ItemState.PART_REVERSED
    )


@dataclass
class _Life:
    """What people and the worker do of one payout, step by step, each time by what they find.

    dies_after: the request of people whose answer never comes. is_cut: whether somebody has to look at it now.
    """

    desk: Desk
    provider: Provider
    calls: ThreadPoolExecutor
    payee: UUID
    is_cut: Callable[[], bool]
    dies_after: str = ""
    is_over: bool = False
    steps: int = 0

    def live(self) -> None:
        """Go on until it is over."""
        while not self.is_over and not self.is_cut() and self.steps < STEPS_MAX:
            self.steps += 1
            self._step()

    def _step(self) -> None:
        desk = self.desk
        # All that the next step hangs on, in one look.
        found = desk.rows(
            """
            SELECT item.id, item.run_id, run.status, item.retry_by IS NOT NULL AS is_asked,
                   (SELECT outcome FROM payout_attempt AS attempt
                    WHERE attempt.merchant_id = :merchant_id AND attempt.item_id = item.id
                    ORDER BY number DESC LIMIT 1) AS outcome
            FROM payout_item AS item
            JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
            WHERE item.merchant_id = :merchant_id AND item.payee_id = :payee_id
            """,
            payee_id=self.payee,
        )
        if not found:
            self._request("reserve", lambda: desk.reserve(self.payee))
            return
        [item] = found
        run = PayoutRunRow(merchant_id=desk.merchant_id, id=item.run_id)
        again = {"item_id": item.id, "now": desk.now}
        match item.status, item.outcome:
            case RunState.DRAFT, _:
                self._request("submit", lambda: desk.submit(run))
            case RunState.SUBMITTED, _:
                self._request("approve", lambda: desk.approve(run))
            case RunState.APPROVED, _:
                self._request("execute", lambda: desk.execute(run))
            case RunState.EXECUTING, Outcome.REFUSED if not item.is_asked:
                self._request("retry", lambda: desk.do(retry, by=MAKER, **again))
            case RunState.EXECUTING, Outcome.ABSENT if not item.is_asked:
                self._request("confirm", lambda: desk.do(confirm_resend, by=CHECKER, **again))
            case RunState.EXECUTING, _:
                self._work(item.run_id)
            case _:
                self._compare(item.run_id)

    def _request(self, verb: str, ask: Callable[[], object]) -> None:
        ask()
        if verb == self.dies_after:
            self.dies_after = ""
            raise Crashed(verb)

    def _work(self, run_id: UUID) -> None:
        """Let a worker do what is due; then it is later."""
        desk = self.desk
        sender = Sender(desk.engine, desk.security, desk.rail, f"worker {self.steps}", self.calls, lambda: desk.now)
        progress = advance(sender, merchant_id=desk.merchant_id, run_id=run_id, until=desk.now + timedelta(seconds=30))
        if progress.next_at is not None:
            desk.now = max(desk.now + timedelta(seconds=1), progress.next_at)

    def _compare(self, run_id: UUID) -> None:
        """Let a part come back, and compare with the provider's list."""
        desk = self.desk
        for transfer in self.provider.transfers:
            self.provider.take_back(transfer, CAME_BACK)
        desk.now += timedelta(hours=1)
        compared = compare(
            desk.engine, desk.rail, merchant_id=desk.merchant_id, run_id=run_id, since=NOON, now=desk.now
        )
        assert compared.complete
        self.is_over = True


class _Commits:
    """The commits of an engine, of which one may go through without our hearing of it."""

    def __init__(self, engine: Engine) -> None:
        self._dialect = engine.dialect
        self._loses_next = False
        self.was_lost = False
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            commit(connection)
            if self._loses_next:
                self._loses_next, self.was_lost = False, True
                connection.driver_connection.close()
                raise psycopg.OperationalError("the line breaks after the commit")

        engine.dialect.do_commit = do_commit  # type: ignore[assignment,method-assign] # the driver offers no hook between a commit and its answer; close() undoes it

    def close(self) -> None:
        """Leave the engine as it was."""
        del self._dialect.do_commit

    def lose_next(self, _: CrashPoint) -> None:
        """Let the answer to the next commit never arrive."""
        self._loses_next = True


def prove(n: int | None, seed: int | None) -> bool:
    """Play each point with each behaviour, and each pair of points with each, or n drawn cases instead of the pairs.

    Returns whether everybody was paid once, and the books agree.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    cases = singles() + (pairs() if n is None else list(drawn(n, seed)))
    show.say(f"{len(cases):,} cases" + ("." if n is None else f", {n:,} of them drawn by seed {seed}."))
    began = time.monotonic()
    with database(POSTGRES_SETTINGS) as postgres:
        engine = make_engine(postgres.url)
        try:
            judged = play_all(engine, cases)
        finally:
            engine.dispose()
    seconds = time.monotonic() - began
    _tables(judged, seconds)
    for finding in judged.findings[:SHOWN_MAX]:
        show.say(finding)
    show.result(
        "crash-matrix",
        cases=judged.cases,
        double=judged.double,
        lost=judged.lost,
        wrong=judged.wrong,
        left=judged.left,
        books=sum(each.startswith("check-books") for each in judged.findings),
        deaths=judged.died.total(),
        sends=judged.sends,
        seconds=round(seconds),
        seed=seed,
    )
    return judged.holds


def play_all(engine: Engine, cases: Sequence[Case]) -> Judged:
    """Play cases one after the other, then check the books of all."""
    with ThreadPoolExecutor(1) as calls, show.progress("Cases", len(cases)) as tell:
        matrix = Matrix(engine, calls)
        try:
            for number, case in enumerate(cases, start=1):
                matrix.play(case, number=number)
                tell(number)
            matrix.check_books()
        finally:
            matrix.close()
    return matrix.judged


def _tables(judged: Judged, seconds: float) -> None:
    what = {point.name: point.what for point in POINTS}
    rows = [
        (name, what.get(name, ""), f"{judged.died[name]:,}") for name in (*what, *sorted(judged.died.keys() - what))
    ]
    show.table("Where processes died", ("point", "what", "deaths"), rows, left=2)
    hours = sorted(judged.hours)
    figures = [
        ("cases", f"{judged.cases:,}"),
        ("sendings", f"{judged.sends:,}"),
        ("hours from the first step to the end, median", f"{hours[len(hours) // 2]:.1f}"),
        ("the longest", f"{hours[-1]:.1f}"),
        ("milliseconds a case", f"{1000 * seconds / judged.cases:.0f}"),
    ]
    show.table("Cases", ("what", "how many"), figures)
