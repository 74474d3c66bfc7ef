"""Draft terms tried on stored orders and on files: the sums are right however a run is broken off, and nothing live moves."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from service.commissions import simulations
from service.domain.conditions import CustomerIs, CustomerKind
from service.domain.order import DecisionFact, DecisionKind, Fact, decision_fact
from service.domain.periods import Cap, Ladder, Mark, Milestones, Span, Step, Stretch
from service.domain.program import AttributionTerms, Terms
from service.domain.rules import Percent, Rule, When
from service.domain.simulation import Dimension
from service.domain.written import rate_of
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.intake import try_file
from service.intake.mapping import read_mapping
from service.reports import simulate
from service.reports.simulated import Outcome, Ranking, ranked, totals
from service.tables.simulations import SimulationRow, SimulationState, Stage
from service.worker import Worker, run_pass
from tests.support.books import Books, at, paid, refund, snapshot, ten_percent
from tests.support.imports import imported, written

WORKING = {"simulation", "simulation_sum", "simulation_period", "simulation_part", "simulation_order", "job"}
"""Tables that a simulation may touch."""
JANUARY = (at(1, 0), at(31, 0))
MONTH = Stretch(Span.MONTH)
LADDER = Ladder("volume", MONTH, (Step((("USD", 10_000),), rate_of("5")), Step((("USD", 30_000),), rate_of("10"))))
PERIODS = (
    LADDER,
    Cap("most", Stretch(Span.DAY), (("USD", 1_500),)),
    Milestones("three", MONTH, (Mark((("USD", 777),), orders=3),)),
)


class Broken(Exception):
    """A process dies here."""


@dataclass
class Trial:
    """A simulation of one programme's draft."""

    books: Books
    id: UUID

    @classmethod
    def of(
        cls,
        books: Books,
        draft: Terms,
        *,
        since: datetime = JANUARY[0],
        until: datetime = JANUARY[1],
        currency: str | None = None,
        mapping: dict[str, Any] | None = None,
        content: bytes | None = None,
    ) -> "Trial":
        trial = cls(books, new_id())
        with unit_of_work(books.engine) as session:
            session.add(
                SimulationRow(
                    merchant_id=books.merchant_id,
                    id=trial.id,
                    program_id=books.program_id,
                    state=SimulationState.QUEUED,
                    stage=Stage.ORDERS if mapping is None else Stage.FILE,
                    terms=draft.as_json(),
                    placed_from=since if mapping is None else None,
                    placed_before=until if mapping is None else None,
                    currency=currency,
                    mapping=mapping,
                    created_at=books.now,
                )
            )
            session.flush()
            if content is not None:
                half = len(content) // 2
                for number, part in ((1, content[:half]), (2, content[half:])):
                    try_file.add_part(session, books.merchant_id, trial.id, number=number, body=part)
        return trial

    def run(self) -> "Trial":
        self.read()
        assert not simulate.advance(self.books.engine, self.books.merchant_id, self.id, lambda _done, _of: True)
        return self

    def read(self) -> None:
        security = Security(bytes(32))
        try_file.read_orders(self.books.engine, security, self.books.merchant_id, self.id, lambda: True)

    @property
    def row(self) -> Any:
        return self.books.rows("SELECT * FROM simulation WHERE merchant_id = :merchant_id AND id = :id", id=self.id)[0]

    def by(self, dimension: Dimension = Dimension.TOTAL, ranking: Ranking = Ranking.KEY) -> list[Outcome]:
        with read_session(self.books.engine) as session:
            return ranked(
                session,
                self.books.merchant_id,
                self.id,
                dimension=dimension,
                ranking=ranking,
                currency=None,
                skip=0,
                limit=100,
            )

    @property
    def costs(self) -> dict[str, tuple[int, int]]:
        with read_session(self.books.engine) as session:
            found = totals(session, self.books.merchant_id, [self.id])[self.id]
        return {each.currency: (each.now_minor, each.then_minor) for each in found}

    @property
    def sums(self) -> list[tuple[Any, ...]]:
        rows = self.books.rows(
            """
            SELECT dimension, key, currency, now_minor, then_minor, now_orders, then_orders FROM simulation_sum
            WHERE merchant_id = :merchant_id AND simulation_id = :id ORDER BY 1, 2, 3
            """,
            id=self.id,
        )
        return [tuple(row) for row in rows]


def dumped(engine: Engine) -> dict[str, list[str]]:
    """Every row of every live table."""
    with read_session(engine) as session:
        return {
            name: sorted(repr(tuple(row)) for row in fetch(session, f"SELECT * FROM {name}"))
            for name in SQLModel.metadata.tables
            if name not in WORKING
        }


def rejected(payee: UUID) -> Fact:
    return decision_fact(DecisionFact(DecisionKind.REJECT, at(20), "key_x", "fraud", payee_id=payee))


@pytest.fixture
def books(engine: Engine) -> Books:
    """A month of orders with all that may befall them, two KOCs, two currencies."""
    books = Books.opened(engine, time_zone="Asia/Ho_Chi_Minh")
    ben = books.affiliate("BEN")
    for number in range(1, 21):
        coupon = ("ANN", "BEN", None)[number % 3]
        currency = "EUR" if number % 7 == 0 else "USD"
        placed = at(number, 20)
        order = snapshot(1_000 * number, 499, coupon=coupon, currency=currency, placed=placed, cancelled=number == 6)
        books.tell(f"o-{number}", order, paid(number))
        if number % 4 == 0:
            books.tell(f"o-{number}", refund(f"r-{number}", 333 * number, day=number + 1))
    books.tell("o-9", rejected(books.ann))
    books.tell("o-10", rejected(ben))
    books.tell("waits", refund("r-0", 100))
    return books


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "ORDERS_AT_ONCE", 3)
    monkeypatch.setattr(simulate, "PERIODS_AT_ONCE", 2)
    monkeypatch.setattr(try_file, "EVENTS_AT_ONCE", 3)


def booked(books: Books) -> dict[str, int]:
    """What the books say all commissions come to, those of periods included."""
    rows = books.rows(
        "SELECT currency, sum(target_minor) AS minor FROM commission WHERE merchant_id = :merchant_id GROUP BY 1"
    )
    return {row.currency: int(row.minor) for row in rows}


def test_now_is_what_the_books_say_and_the_present_terms_change_nothing(books: Books) -> None:
    trial = Trial.of(books, ten_percent()).run()

    assert {currency: now for currency, (now, _) in trial.costs.items()} == booked(books)
    assert [row for row in trial.sums if (row[3], row[5]) != (row[4], row[6])] == []
    assert (trial.row.state, trial.row.orders_done, trial.row.orders_total) == ("done", 20, 20)


def test_now_is_what_the_books_say_of_periods_too(engine: Engine) -> None:
    terms = ten_percent(periods=PERIODS)
    books = Books.opened(engine, terms, time_zone="America/New_York")
    books.affiliate("BEN")
    for number in range(1, 25):
        order = snapshot(700 * number, coupon=("ANN", "BEN")[number % 2], placed=at(1 + number // 3, number % 24))
        books.tell(f"o-{number}", order, paid(20))
    books.settle()

    trial = Trial.of(books, terms, since=at(-1)).run()

    assert trial.costs == {"USD": (booked(books)["USD"], booked(books)["USD"])}
    assert books.rows("SELECT FROM commission WHERE period_id IS NOT NULL AND target_minor <> 0")
    assert [row for row in trial.sums if row[3] != row[4]] == []
    assert books.rows("SELECT FROM simulation_period") == []


def test_each_dimension_adds_up(books: Books) -> None:
    trial = Trial.of(books, ten_percent(periods=PERIODS)).run()

    for dimension in (Dimension.AFFILIATE, Dimension.CATEGORY, Dimension.DAY):
        for currency, (now, then) in trial.costs.items():
            found = [each for each in trial.by(dimension) if each.currency == currency]
            assert (sum(each.now_minor for each in found), sum(each.then_minor for each in found)) == (now, then)
    assert trial.costs["USD"][0] != trial.costs["USD"][1]


def test_nothing_live_is_touched(books: Books) -> None:
    before = dumped(books.engine)

    Trial.of(books, ten_percent(periods=PERIODS)).run()

    after = dumped(books.engine)
    assert {name for name in before if before[name] != after[name]} == set()
    assert before["commission"]


def test_a_run_that_is_broken_off_anywhere_comes_to_the_same(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = ten_percent(periods=PERIODS)
    whole = Trial.of(books, draft).run()
    broken = Trial.of(books, draft)
    real, calls = simulate._add_periods, 0

    def dies_half_the_time(*arguments: Any) -> None:
        nonlocal calls
        real(*arguments)
        calls += 1
        if calls % 2:
            raise Broken

    monkeypatch.setattr(simulate, "_add_periods", dies_half_the_time)
    deaths = 0
    while True:
        try:
            # Paused after each page, too.
            if not simulate.advance(books.engine, books.merchant_id, broken.id, lambda _done, _of: False):
                break
        except Broken:
            deaths += 1

    assert deaths > 3
    assert broken.sums == whole.sums
    assert broken.row.orders_done == whole.row.orders_done


def test_two_workers_at_one_simulation_add_each_page_once(books: Books) -> None:
    draft = ten_percent(periods=PERIODS)
    whole = Trial.of(books, draft).run()
    shared = Trial.of(books, draft)

    with ThreadPoolExecutor(3) as threads:
        runs = [
            threads.submit(simulate.advance, books.engine, books.merchant_id, shared.id, lambda _done, _of: True)
            for _ in range(3)
        ]
        ended = [run.result() for run in runs]

    assert ended == [False] * 3
    assert shared.sums == whole.sums


def test_only_orders_of_the_span_and_currency_count(books: Books) -> None:
    euros = Trial.of(books, ten_percent(), currency="EUR").run()
    two_days = Trial.of(books, ten_percent(), since=at(4, 20), until=at(8, 20)).run()

    assert euros.costs == {"EUR": (booked(books)["EUR"],) * 2}
    assert euros.row.orders_total == 2
    # From is included, before is not; the days are those of the merchant, where 20:00 UTC is the next day.
    assert two_days.row.orders_total == 4
    assert [each.key for each in two_days.by(Dimension.DAY)] == ["2026-01-08", "2026-01-05"]


def test_winners_and_losers_come_biggest_first(books: Books) -> None:
    trial = Trial.of(books, ten_percent(periods=(LADDER,)), currency="USD").run()

    winners = trial.by(Dimension.AFFILIATE, Ranking.WINNERS)
    differences = [each.difference_minor for each in winners]

    assert {each.name for each in winners} <= {"Ann", "Ben"}
    assert differences == sorted(differences, reverse=True) != []
    assert trial.by(Dimension.AFFILIATE, Ranking.LOSERS) == []


def first_orders_only() -> Terms:
    return Terms(rules=(Rule(Percent(rate_of("10")), when=When(every=(CustomerIs(CustomerKind.NEW),))),))


def test_a_draft_may_ask_about_customers_although_the_terms_do_not(engine: Engine) -> None:
    books = Books.opened(engine)
    mai, hoa = (("email", "mai"),), (("email", "hoa"),)
    for number, customer in enumerate((mai, mai, hoa, mai, ()), start=1):
        books.tell(f"o-{number}", snapshot(10_000, placed=at(number), customer=customer), paid(number))
    draft = first_orders_only()
    assert draft.asks_about_customers

    # Mai's first order lies outside of what is tried, and is known all the same.
    everything = Trial.of(books, draft).run()
    later = Trial.of(books, draft, since=at(2, 0)).run()

    assert everything.costs == {"USD": (5_000, 2_000)}
    assert later.costs == {"USD": (4_000, 1_000)}


MAPPING = {
    "order": {
        "id": "id",
        "updated_at": "at",
        "placed_at": "at",
        "currency": {"value": "USD"},
        "coupon_codes": "coupon",
        "customer": {"email": "mail"},
    },
    "line": {"net": "net", "category": "category"},
}
HEADER = "id,at,coupon,mail,net,category\n"


def rows_of_a_file(number: int) -> str:
    return "".join(
        f"f-{each},2026-01-{each % 27 + 1:02}T12:00:00Z,{('ANN', 'BEN')[each % 2]},{each % 4}@example.com,{each}.50,c{each % 3}\n"
        for each in range(number)
    )


def test_orders_of_a_file_cost_what_they_would_once_imported(books: Books, tmp_path: Path) -> None:
    content = (HEADER + rows_of_a_file(40)).encode()
    draft = ten_percent(periods=PERIODS)
    before = dumped(books.engine)

    trial = Trial.of(books, draft, mapping=MAPPING, content=content).run()

    assert dumped(books.engine) == before
    fresh = Books.opened(books.engine, draft, time_zone="Asia/Ho_Chi_Minh")
    fresh.affiliate("BEN")
    imported(books.engine, fresh.source_id, written(tmp_path, content), read_mapping(MAPPING))
    assert trial.costs["USD"][1] == booked(fresh)["USD"]
    assert {each.key for each in trial.by(Dimension.CATEGORY)} == {"", "c0", "c1", "c2"}
    assert (trial.row.orders_done, trial.row.orders_total, trial.row.rows_refused) == (40, 40, 0)
    assert books.rows("SELECT FROM simulation_order UNION ALL SELECT FROM simulation_part") == []


def test_rows_that_cannot_be_read_are_counted_and_the_first_of_them_shown(books: Books) -> None:
    content = HEADER + rows_of_a_file(2) + "x,2026-01-01T12:00:00Z,ANN,,much,c\n" * 25

    trial = Trial.of(books, ten_percent(), mapping=MAPPING, content=content.encode()).run()

    assert (trial.row.state, trial.row.rows_refused, len(trial.row.refusals)) == ("done", 25, 20)
    assert trial.row.refusals[0]["row"] == 4
    assert trial.row.refusals[0]["reason_code"] == "invalid_number"


def test_a_file_that_does_not_fit_its_mapping_fails_with_the_reason(books: Books) -> None:
    trial = Trial.of(books, ten_percent(), mapping=MAPPING, content=b"number,at\n1,2\n").run()

    assert (trial.row.state, trial.row.error_code) == ("failed", "invalid-mapping")
    assert "column" in trial.row.error_detail
    assert books.rows("SELECT FROM simulation_part") == []


def test_what_a_file_tells_of_one_order_comes_together(books: Books) -> None:
    events: list[dict[str, Any]] = [
        {"type": "refund", "id": "r-1", "order_id": "A", "updated_at": "2026-01-03T12:00:00Z", "amount": "40.00",
         "refunded_at": "2026-01-03T12:00:00Z", "currency": "USD"},
        *({"type": "refund", "id": f"r-{number}", "order_id": "gone", "updated_at": "2026-01-03T12:00:00Z",
           "refunded_at": "2026-01-03T12:00:00Z", "amount": "1.00", "currency": "USD"} for number in range(4)),
        {"type": "order", "id": "A", "updated_at": "2026-01-02T12:00:00Z", "placed_at": "2026-01-02T12:00:00Z",
         "currency": "USD", "coupon_codes": ["ANN"], "lines": [{"id": "1", "net": "100.00"}]},
        {"type": "order", "id": "A", "updated_at": "2026-01-01T12:00:00Z", "placed_at": "2026-01-02T12:00:00Z",
         "currency": "USD", "coupon_codes": ["BEN"], "lines": [{"id": "1", "net": "900.00"}]},
        {"type": "order", "id": "T", "updated_at": "2026-01-01T12:00:00Z", "placed_at": "2026-01-02T12:00:00Z",
         "currency": "EUR", "coupon_codes": ["BEN"], "lines": [{"id": "1", "net": "10.00"}]},
    ]  # fmt: skip
    content = "\n".join(json.dumps(event) for event in events).encode()

    trial = Trial.of(books, ten_percent(), mapping={"format": "ndjson"}, content=content).run()
    dollars = Trial.of(books, ten_percent(), mapping={"format": "ndjson"}, content=content, currency="USD").run()

    assert trial.costs == {"USD": (600, 600), "EUR": (100, 100)}
    assert dollars.costs == {"USD": (600, 600)}


def test_reading_a_file_goes_on_where_it_was_left(books: Books) -> None:
    content = (HEADER + rows_of_a_file(20)).encode()
    whole = Trial.of(books, ten_percent(), mapping=MAPPING, content=content).run()
    paused = Trial.of(books, ten_percent(), mapping=MAPPING, content=content)
    security = Security(bytes(32))
    turns = 0
    while paused.row.stage == Stage.FILE:
        once = iter((True,))
        try_file.read_orders(books.engine, security, books.merchant_id, paused.id, lambda: next(once, False))  # noqa: B023 - used up before the next turn
        turns += 1

    assert turns == 8
    assert paused.run().sums == whole.sums


def test_a_file_tells_of_its_customers_other_orders(books: Books) -> None:
    content = (HEADER + rows_of_a_file(8)).encode()

    trial = Trial.of(books, first_orders_only(), mapping=MAPPING, content=content).run()

    # Four customers; the first order of each counts: 0.50, 1.50, 2.50 and 3.50.
    assert trial.costs["USD"][1] == 5 + 15 + 25 + 35


def test_a_file_knows_what_was_ordered_again(books: Books) -> None:
    common = {"type": "order", "currency": "USD", "customer": {"email": "mai@example.com"},
              "lines": [{"id": "1", "sku": "tea", "net": "100.00"}]}  # fmt: skip
    gone = {"id": "A", "updated_at": "2026-01-02T12:00:00Z", "placed_at": "2026-01-02T12:00:00Z", "cancelled": True,
            "coupon_codes": ["ANN"]}  # fmt: skip
    again = {"id": "B", "updated_at": "2026-01-03T12:00:00Z", "placed_at": "2026-01-03T12:00:00Z"}
    content = "\n".join(json.dumps(common | each) for each in (gone, again)).encode()
    draft = ten_percent(attribution=AttributionTerms(reorder_days=3))

    trial = Trial.of(books, draft, mapping={"format": "ndjson"}, content=content).run()

    assert trial.costs == {"USD": (0, 1_000)}


def test_a_simulation_that_was_deleted_adds_nothing_more(books: Books) -> None:
    trial = Trial.of(books, ten_percent())
    simulate.advance(books.engine, books.merchant_id, trial.id, lambda _done, _of: False)
    with unit_of_work(books.engine) as session:
        simulations.delete_all_of(session, books.merchant_id, [trial.id])
        session.delete(session.get_one(SimulationRow, (books.merchant_id, trial.id)))

    assert not simulate.advance(books.engine, books.merchant_id, trial.id, lambda _done, _of: True)
    assert trial.sums == []


def test_old_simulations_are_forgotten(books: Books) -> None:
    old = Trial.of(books, ten_percent()).run()
    books.advance(days=91)
    new = Trial.of(books, ten_percent()).run()

    with unit_of_work(books.engine) as session:
        gone = simulations.forget(session, merchant_id=books.merchant_id, now=utc_now())

    assert gone == 1
    assert (old.sums, bool(new.sums)) == ([], True)


# By the worker.


@pytest.fixture
def worker(books: Books) -> Iterator[Worker]:
    with ThreadPoolExecutor(1) as calls:
        yield Worker(books.engine, Security(bytes(32)), {}, calls, "me")


def asked(trial: Trial) -> Trial:
    with unit_of_work(trial.books.engine) as session:
        simulations.ask_worker(session, trial.books.merchant_id, trial.id, at=utc_now())
    return trial


def hours_from_now(hours: int) -> datetime:
    return utc_now() + timedelta(hours=hours)


def jobs(books: Books) -> list[Any]:
    return list(books.rows("SELECT * FROM job WHERE merchant_id = :merchant_id AND kind = 'simulate'"))


def test_the_worker_does_it_and_its_job_is_over(books: Books, worker: Worker) -> None:
    stored = asked(Trial.of(books, ten_percent()))
    of_file = asked(Trial.of(books, ten_percent(), mapping=MAPPING, content=(HEADER + rows_of_a_file(9)).encode()))

    run_pass(worker)

    assert (stored.row.state, of_file.row.state, jobs(books)) == ("done", "done", [])


def test_a_long_simulation_gives_way_and_comes_round_again(
    books: Books, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.worker.SIMULATE_TURN", timedelta(0))
    monkeypatch.setattr("service.worker.SIMULATE_PAUSE", timedelta(seconds=2))
    trial = asked(Trial.of(books, ten_percent()))

    run_pass(worker)

    [job] = jobs(books)
    assert trial.row.state == "running"
    assert job.due_at > utc_now()
    later = replace(worker, clock=lambda: utc_now() + timedelta(seconds=3))
    run_pass(later)
    assert trial.row.orders_done > 0


def test_one_that_fails_again_and_again_is_given_up(
    books: Books, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = asked(Trial.of(books, ten_percent()))

    def breaks(*_: Any, **__: Any) -> bool:
        raise Broken

    monkeypatch.setattr(simulate, "advance", breaks)
    for hours in range(8):
        run_pass(replace(worker, clock=partial(hours_from_now, hours)))

    assert (trial.row.state, trial.row.error_code) == ("failed", "internal-error")
    assert jobs(books) == []
