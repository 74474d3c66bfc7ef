"""Kill web processes and workers while orders come in and payouts go out; then count what was lost and what is doubled.

The seed decides what happens in which order, as far as the machine's own timing lets it.
"""

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import requests

from bench import show
from bench.chaos_verdict import SHOWN_MAX, Books, Verdict, judge
from bench.chaos_world import RAIL, TERMS, Doors, Finance, World
from bench.serve import (
    HOST,
    Database,
    NotServing,
    database,
    environment,
    free_port,
    koc,
    new_secret_key,
    operator,
    running,
    stop,
)
from bench.shop import Api, Shop
from service.infra.crash import VARIABLE, CrashPoint

KILLS = 50
KOCS = 20
SENDERS = 6
WEBS, WORKERS = 2, 2
LOAD_BETWEEN = 15
"""Deliveries acknowledged between two kills: a service that never gets to its feet would prove nothing."""
CALM_MAX_S = 20.0
"""But the next kill comes after so long in any case."""
ARMED = 0.4
"""What part of the restarted processes is told to die at a crash point."""
ARMED_LIVES = 3.0
"""How many times as long as a start such a process may take to get there, before it is killed like any other."""
START_S = 300.0
"""How long all processes together may take to start, on a machine that has more to do."""
HOURS_EVERY_S = 0.3
WAYS = ("web, at random", "web, at random", "worker, at random", "two at once", *(2 * ("in the middle of a payout",)))
FINISH_S = 600.0

WEB_POINTS = tuple(
    point for point in CrashPoint if point.startswith(("intake", "reserve", "request", "submit", "appro"))
)
WORKER_POINTS = tuple(point for point in CrashPoint if point.startswith(("settle", "plan", "payout")))


@dataclass(slots=True)
class Victim:
    """One of the service's processes, in its present life. armed_at: the crash point it was told of, if any."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log: Path
    points: tuple[CrashPoint, ...]
    process: "subprocess.Popen[bytes] | None" = None
    began: float = 0.0
    armed_at: CrashPoint | None = None

    def start(self, point: CrashPoint | None = None, times: int = 1) -> None:
        told = {} if point is None else {VARIABLE: f"{point.value}:{times}"}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env={**self.env, **told}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.began = time.monotonic()
        self.armed_at = point

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.began


@dataclass(slots=True)
class Killer:
    """Ends processes, at random moments and at random points, and starts them again."""

    victims: list[Victim]
    world: World
    draw: random.Random
    postgres: Database
    grown_s: float
    """How old a process is when it does something else than start."""
    dead: list[int] = field(default_factory=list)
    """Process ids of those that are no more: what they held is held for nobody."""
    kills: Counter[str] = field(default_factory=Counter)
    ways: list[str] = field(default_factory=list)
    """Those still to come before all are drawn again."""

    @property
    def count(self) -> int:
        return self.kills.total()

    def work(self, kills: int, tell: Callable[[int], None]) -> None:
        """Kill so many times."""
        calm_since, acknowledged = time.monotonic(), 0
        with self.postgres.connect("koc") as books:
            while self.count < kills and not self.world.wrong:
                time.sleep(0.02)
                before = self.count
                self._bury()
                calm_s = time.monotonic() - calm_since
                said = self.world.acknowledged.total() - acknowledged
                if self.count == before and (said >= LOAD_BETWEEN or calm_s > CALM_MAX_S):
                    self._strike(books, is_late=calm_s > CALM_MAX_S)
                if self.count > before:
                    calm_since, acknowledged = time.monotonic(), self.world.acknowledged.total()
                    tell(min(self.count, kills))

    def _bury(self) -> None:
        """Start again whoever has died by itself, and end whoever was told to and did not get there."""
        for victim in self.victims:
            assert victim.process is not None
            code = victim.process.poll()
            if code is None:
                if victim.armed_at is not None and victim.age_s > ARMED_LIVES * self.grown_s:
                    self._kill(victim, "before its crash point")
            elif code == -signal.SIGKILL and victim.armed_at is not None:
                self._mourn(victim, f"at {victim.armed_at.value}")
            else:
                self.world.note(f"{victim.name} ended by itself with {code}: {_end_of(victim.log)}")
                return

    def _strike(self, books: Books, *, is_late: bool) -> None:
        """Kill in the next of all the ways, if those it is meant for are old enough; in any way at all when it is late."""
        if not self.ways:
            self.ways = self.draw.sample(WAYS, len(WAYS))
        grown = [each for each in self.victims if each.age_s > self.grown_s and each.armed_at is None]
        webs = [each for each in grown if each.points is WEB_POINTS]
        workers = [each for each in grown if each.points is WORKER_POINTS]
        match self.ways[-1]:
            case "web, at random" if webs:
                chosen = [self.draw.choice(webs)]
            case "worker, at random" if workers:
                chosen = [self.draw.choice(workers)]
            case "two at once" if len(grown) > 1:
                chosen = self.draw.sample(grown, 2)
            case "in the middle of a payout":
                sending = _who_sends(books)
                chosen = [each for each in workers if each.process is not None and each.process.pid in sending][:1]
            case _:
                chosen = []
        if not chosen and is_late and grown:
            self._kill(self.draw.choice(grown), "late")
        for victim in chosen:
            self._kill(victim, self.ways[-1])
        if chosen or is_late:
            self.ways.pop()

    def _kill(self, victim: Victim, how: str) -> None:
        assert victim.process is not None
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        self._mourn(victim, how)

    def _mourn(self, victim: Victim, how: str) -> None:
        assert victim.process is not None
        self.kills[how] += 1
        self.dead.append(victim.process.pid)
        if self.draw.random() < ARMED:
            point = self.draw.choice(victim.points)
            victim.start(point, self.draw.randrange(1, 12 if point.startswith("intake") else 3))
        else:
            victim.start()

    def let_live(self) -> None:
        """Start everybody anew, told nothing. Whoever was told to die is ended in order, as at a release."""
        for victim in self.victims:
            assert victim.process is not None
            if victim.armed_at is not None:
                stop(victim.process)
                self.dead.append(victim.process.pid)
                victim.start()


def prove(n: int | None, seed: int | None) -> bool:
    """Kill n times (50). Returns whether nothing acknowledged was lost and nothing doubled."""
    kills = KILLS if n is None else n
    seed = secrets.randbelow(2**31) if seed is None else seed
    show.say(f"Seed {seed}; {kills} kills of {WEBS} web processes and {WORKERS} workers.")
    began = time.monotonic()
    secret_key = new_secret_key()
    with database() as postgres, _rail(postgres.folder) as rail:
        with _processes(postgres, rail, secret_key) as (victims, urls):
            grown_s = time.monotonic() - victims[0].began
            shop, accounts = _shop(urls[0], rail, operator(postgres.url, secret_key=secret_key))
            world = World(shop, Doors(urls, random.Random(seed + 1)), seed)
            killer = Killer(victims, world, random.Random(seed), postgres, grown_s)
            finance = Finance(
                world,
                maker=shop.key("Mai", "finance-maker").key,
                checker=shop.key("Chi", "finance-checker").key,
                disturb=lambda kind: _disturb(rail, kind),
                draw=random.Random(seed + 2),
            )
            finished = _play(killer, finance, kills)
        with postgres.connect("koc") as books:
            verdict = judge(books, world, _state(rail)["transfers"], accounts)
        if not finished:
            verdict.left.insert(0, "Not all runs came to their end.")
        held = _show(postgres, killer, world, verdict, seconds=time.monotonic() - began)
    if not held:
        show.say(f"Repeat it with SEED={seed}.")
    return held


def _play(killer: Killer, finance: Finance, kills: int) -> bool:
    """Kill while everybody works, then let them finish. Returns whether finance could pay all that was to be paid."""
    world = killer.world
    ended = threading.Event()
    senders = [threading.Thread(target=world.send, args=(number,), daemon=True) for number in range(SENDERS)]
    people = threading.Thread(target=finance.work, daemon=True)
    hours = threading.Thread(target=_hours, args=(killer, ended), daemon=True)
    for thread in (*senders, people, hours):
        thread.start()
    try:
        with show.progress("Kills", kills) as tell:
            killer.work(kills, tell)
        killer.let_live()
        world.ending.set()
        show.say("All live again; the shop says what is left, finance pays what is left.")
        for thread in (*senders, people):
            thread.join(FINISH_S)
            if thread.is_alive():
                world.note("Somebody still waits for an answer although every process lives.")
        return not world.wrong and finance.finish(patience_s=FINISH_S)
    finally:
        ended.set()
        hours.join()


@contextlib.contextmanager
def _rail(folder: Path) -> Iterator[str]:
    """A provider in a process of its own, which nobody kills: what it was told to pay, it knows for ever."""
    port = free_port()
    command = [sys.executable, "-m", "tests.doubles.stripe", "--port", str(port)]
    with running(command, env=os.environ, port=port, log=folder / "rail.log", ready="/_control/state") as server:
        yield server.url


def _state(rail: str) -> dict[str, Any]:
    state: dict[str, Any] = requests.get(f"{rail}/_control/state", timeout=30).json()
    return state


@contextlib.contextmanager
def _processes(postgres: Database, rail: str, secret_key: str) -> Iterator[tuple[list[Victim], list[str]]]:
    """Start every process of the service; whatever lives at the end is ended. Yields them, and where the webs listen."""
    more = {"KOC_STRIPE_SECRET_KEY": "sk_test_chaos", "KOC_STRIPE_API_BASE": rail}
    ports = [free_port() for _ in range(WEBS)]
    victims = [
        Victim(
            f"web {port}",
            koc("serve", "--without-worker"),
            environment(postgres.url, secret_key=secret_key, port=port, **more),
            postgres.folder / f"web-{port}.log",
            WEB_POINTS,
        )
        for port in ports
    ]
    victims += [
        Victim(
            f"worker {number}",
            koc("worker"),
            environment(postgres.url, secret_key=secret_key, port=1, **more),
            postgres.folder / f"worker-{number}.log",
            WORKER_POINTS,
        )
        for number in range(WORKERS)
    ]
    urls = [f"http://{HOST}:{port}" for port in ports]
    try:
        for victim in victims:
            victim.start()
        for url in urls:
            _wait_for(url)
        yield victims, urls
    finally:
        for victim in victims:
            if victim.process is not None:
                stop(victim.process)


def _shop(url: str, rail: str, operator_key: str) -> tuple[Shop, dict[str, str]]:
    """Open a shop with its KOCs. Returns it, and whose each account at the rail is."""
    since = datetime.now(UTC) - timedelta(days=1)
    shop = Shop.opened(Api(url, operator_key), name="Chaos", terms=TERMS, valid_from=since)
    accounts: dict[str, str] = {}
    with show.progress("KOCs", KOCS) as tell:
        for number in range(KOCS):
            account = _koc(shop, rail, number, since)
            accounts[account] = shop.kocs[-1].id
            tell(number + 1)
    return shop, accounts


def _koc(shop: Shop, rail: str, number: int, since: datetime) -> str:
    """Enrol a KOC with a link and an account at the rail; return the account."""
    koc_made = shop.koc(f"koc-{number}", f"KOC {number}", f"KOC{number}", since=since)
    koc_made.link = shop.api.post(
        "/v1/links", {"affiliate_id": koc_made.id, "program_id": shop.program_id, "url": "https://shop.example/p"}
    )
    answer = requests.post(
        f"{rail}/v1/accounts", data={"type": "express"}, headers={"authorization": "Bearer sk_test_chaos"}, timeout=30
    )
    account = str(answer.json()["id"])
    path = f"/v1/affiliates/{koc_made.id}"
    shop.api.post(f"{path}/payout-methods", {"rail": RAIL, "destination": account})
    shop.api.put(f"{path}/tax-profile", {"rule": "off"})
    return account


def _disturb(rail: str, kind: str) -> None:
    requests.post(f"{rail}/_control/faults", json={"kind": kind, "seconds": 0.4}, timeout=30)


def _wait_for(url: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise NotServing(f"{url} did not answer within {START_S:.0f} s.")


def _hours(killer: Killer, ended: threading.Event) -> None:
    """Let the minutes pass that nobody can wait for: leases of the dead end, and unknown payouts are looked up."""
    with killer.postgres.connect("koc") as books:
        while not ended.wait(HOURS_EVERY_S):
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                # A system gives the number of a dead process to a new one after a while.
                alive = {each.process.pid for each in killer.victims if each.process is not None}
                _pass_time(books, [pid for pid in killer.dead if pid not in alive])


def _who_sends(books: Books) -> set[int]:
    """Process ids of workers that have attempts in flight."""
    rows = books.execute("SELECT DISTINCT split_part(owner, ':', 2) FROM payout_attempt WHERE outcome = 'in_flight'")
    return {int(pid) for (pid,) in rows}


def _pass_time(books: Books, dead: list[int]) -> None:
    books.execute(
        """
        UPDATE payout_attempt SET lease_until = now() - interval '1 s', next_at = now()
        WHERE outcome IN ('in_flight', 'unknown') AND CAST(split_part(owner, ':', 2) AS integer) = ANY(%s)
        """,
        [dead],
    )
    books.execute("UPDATE payout_attempt SET next_at = now() WHERE outcome = 'unknown' AND owner IS NULL")
    books.execute(
        """
        UPDATE job SET lease_until = now() - interval '1 s', due_at = now()
        WHERE CAST(split_part(owner, ':', 2) AS integer) = ANY(%s)
        """,
        [dead],
    )
    books.execute(
        "UPDATE job SET due_at = now() WHERE kind IN ('payout_run', 'settle') AND owner IS NULL AND due_at > now()"
    )


def _show(postgres: Database, killer: Killer, world: World, verdict: Verdict, *, seconds: float) -> bool:
    env = killer.victims[-1].env
    # Every order is computed anew.
    checked = subprocess.run(koc("check-books", "--every"), env=dict(env), capture_output=True, text=True, check=False)
    with postgres.connect("koc") as books:
        [(paid, attempts)] = books.execute(
            "SELECT (SELECT count(*) FROM payout_attempt WHERE outcome = 'accepted'), (SELECT sum(sends) FROM payout_attempt)"
        ).fetchall()
    show.table("Killed", ("how", "times"), [(how, str(times)) for how, times in sorted(killer.kills.items())])
    rows = [(f"{kind}s acknowledged", str(count)) for kind, count in sorted(world.told.items())]
    rows += [
        ("requests without an answer, sent again", str(world.unanswered)),
        ("visitors sent on and counted", str(len(world.clicks))),
        *((f"runs {status}", str(count)) for status, count in sorted(world.runs.items())),
        ("payouts sent", str(paid)),
        ("sendings that took", str(attempts)),
        ("seconds", f"{seconds:.0f}"),
    ]
    show.table("Meanwhile", ("what", "how many"), rows)
    show.say(f"koc check-books --every: {checked.stdout.strip() or checked.stderr.strip()}")
    for name, sentences in (
        ("Lost", verdict.lost),
        ("Doubled", verdict.doubled),
        ("Left over", verdict.left),
        ("Not as it should be", world.wrong),
    ):
        for sentence in sentences[:SHOWN_MAX]:
            show.say(f"{name}: {sentence}")
    show.result(
        "chaos",
        kills=killer.count,
        acknowledged=world.acknowledged.total(),
        payouts=paid,
        lost=len(verdict.lost),
        doubled=len(verdict.doubled),
    )
    return checked.returncode == 0 and not (verdict.lost or verdict.doubled or verdict.left or world.wrong)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]
