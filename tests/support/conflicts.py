"""Conflicts by force: what PostgreSQL raises when units of work are in each other's way, raised far more often than it does."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlmodel import Session

from service.domain.errors import Unavailable
from service.domain.order import Fact
from service.infra.db import make_engine, read_session, run_unit
from service.intake.record import record
from service.ledger.audit import check
from service.reports.recheck import recheck
from tests.support.books import Books, dispute, paid, refund, snapshot
from tests.support.faults import in_use

ORDERS = 12
"""So few that every unit of work meets others on its order."""
THREADS = 8
SHARE = 0.02
"""Share of statements that fail; of commits four times as many, as there is one for some twenty statements."""


class Conflicts:
    """Raises, on an engine, what PostgreSQL raises for conflicts: at any statement, and at commit, in a share of cases."""

    def __init__(self, engine: Engine, *, share: float, seed: int) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self.forced: Counter[str] = Counter()
        event.listen(engine, "before_cursor_execute", self._statement)
        event.listen(engine, "connect", self._watch_commits)

    def _statement(self, _connection: Connection, cursor: psycopg.Cursor[Any], *_: object) -> None:
        self._force(cursor, "statement", self._share)

    def _watch_commits(self, connection: psycopg.Connection[Any], _record: object) -> None:
        commit = connection.commit

        def watched() -> None:
            try:
                with connection.cursor() as cursor:
                    # One commit for some twenty statements of a unit.
                    self._force(cursor, "commit", 4 * self._share)
            except psycopg.Error:
                # A commit that fails leaves nothing open: the server has rolled back by then.
                connection.rollback()
                raise
            commit()

        connection.commit = watched  # type: ignore[method-assign] # the very call that the pool's owner makes

    def _force(self, cursor: psycopg.Cursor[Any], at: str, share: float) -> None:
        with self._lock:
            if self._random.random() >= share:
                return
            state = self._random.choice(("40001", "40P01"))
            self.forced[f"{state} at {at}"] += 1
        # The server itself raises it, so that the unit of work is as lost as after a real one.
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")


def happenings(seed: int, count: int) -> list[tuple[str, tuple[Fact, ...]]]:
    """What shops tell of a few orders, over and over: edits, refunds, disputes. The same for the same seed."""
    draw = random.Random(seed)
    told: list[tuple[str, tuple[Fact, ...]]] = []
    for number in range(count):
        order = str(draw.randrange(ORDERS))
        match draw.randrange(4):
            case 0:
                facts: tuple[Fact, ...] = (snapshot(draw.randrange(1_000, 50_000), version=1 + number % 28), paid())
            case 1:
                facts = (refund(f"r-{draw.randrange(5)}", draw.randrange(1, 2_000), day=2 + number % 20),)
            case 2:
                facts = (dispute("d-1", opened=3, closed=4 + number % 20, outcome="won"),)
            case _:
                facts = (snapshot(draw.randrange(1_000, 50_000), version=1 + number % 28, coupon="BEA"), paid())
        told.append((order, facts))
    return told


def dump(books: Books, names: dict[UUID, str]) -> list[tuple[Any, ...]]:
    """Return what the books say at the end, without ids and times of this database."""
    commissions = books.rows(
        """
        SELECT orders.external_id, commission.payee_id, commission.currency, commission.target_minor,
               commission.pending_minor, commission.held_minor, commission.settled_minor
        FROM commission
        JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE commission.merchant_id = :merchant_id AND commission.target_minor <> 0
        """
    )
    balances = books.rows(
        "SELECT owner_id, kind, currency, amount_minor FROM balance WHERE merchant_id = :merchant_id AND amount_minor <> 0"
    )
    return sorted(("commission", row[0], names[row[1]], *row[2:]) for row in commissions) + sorted(
        ("balance", names[row[0]], *row[1:]) for row in balances
    )


def findings(books: Books) -> list[Any]:
    with read_session(books.engine) as session:
        found = check(session, books.merchant_id)
    with read_session(books.engine) as session:
        return found + recheck(session, books.merchant_id, sample=None)


def a_shop(engine: Engine) -> tuple[Books, dict[UUID, str]]:
    books = Books.opened(engine)
    return books, {books.ann: "ANN", books.affiliate("BEA"): "BEA"}


def until_done(engine: Engine, work: Callable[[Session], object], refused: list[str]) -> None:
    """Do a unit of work, and do it again whenever it was refused as a request would be, with 503."""
    while True:
        try:
            run_unit(engine, work)
        except Unavailable as error:
            refused.append(error.code)
        else:
            return


@dataclass(frozen=True, slots=True)
class Outcome:
    """forced: conflicts by kind. refused: codes of units that were given up and came again, as a request would.

    kept: deliveries in the inbox. same: whether the books equal those of a merchant nobody disturbed.
    findings: of the audit. leaked: connections not given back.
    """

    forced: Counter[str]
    refused: Counter[str]
    kept: int
    same: bool
    findings: int
    leaked: int


def disturb(url: str, *, units: int, seed: int) -> Outcome:
    """Tell two merchants the same: one in peace, the other in many units of work that are made to conflict."""
    calm_engine, engine = make_engine(url), make_engine(url, pool_size=THREADS)
    try:
        told = happenings(seed, units)
        calm, calm_names = a_shop(calm_engine)
        for start in range(0, units, 100):
            calm.receive(*(calm.delivery(order, *facts) for order, facts in told[start : start + 100]))
        disturbed, names = a_shop(calm_engine)
        refused: list[str] = []
        work = [
            partial(record, received=[disturbed.delivery(order, *facts, delivery_id=f"d-{number}")])
            for number, (order, facts) in enumerate(told)
        ]
        random.Random(seed).shuffle(work)
        conflicts = Conflicts(engine, share=SHARE, seed=seed)
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda unit: until_done(engine, unit, refused), work))
        return Outcome(
            forced=conflicts.forced,
            refused=Counter(refused),
            kept=int(disturbed.rows("SELECT count(*) FROM inbox WHERE merchant_id = :merchant_id")[0][0]),
            same=dump(disturbed, names) == dump(calm, calm_names),
            findings=len(findings(disturbed)),
            leaked=in_use(engine),
        )
    finally:
        engine.dispose()
        calm_engine.dispose()
