"""Reports as jobs: one moment's figures in pieces, begun anew by whoever takes a job up, forgotten after a week."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.infra.db import DatabaseAway, execute, fetch, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.infra.settings import Settings
from service.payouts.providers import make_rails
from service.reports import jobs
from service.reports.define import Format
from service.reports.jobs import KEPT_FOR, REPORT, make
from service.tables.reports import ReportJobRow
from service.worker import FORGET, LEASE, REPORT_TRIES, Lane, Worker, claim, run_pass, run_worker
from tests.support.full_books import Books, full_books
from tests.support.shop import SECRET_KEY

SMALL = 256
"""Bytes in a piece, so that the smallest report has many."""


@pytest.fixture
def books(engine: Engine) -> Books:
    return full_books(engine)


@pytest.fixture
def worker(books: Books) -> Iterator[Worker]:
    settings = Settings(secret_key=SECRET_KEY)
    with ThreadPoolExecutor(1) as calls:
        yield Worker(books.engine, Security(bytes(32)), make_rails(settings), calls, "me", lambda: books.now)


def asked(books: Books, *, report: str = "commissions", form: str = Format.CSV) -> UUID:
    row = ReportJobRow(
        merchant_id=books.merchant_id,
        id=new_id(),
        report=report,
        format=form,
        filters={},
        status="queued",
        created_by=new_id(),
        created_at=books.now,
    )
    with unit_of_work(books.engine) as session:
        session.add(row)
        session.flush()
        jobs.ask_worker(session, books.merchant_id, row.id, at=books.now)
    return row.id


def rows(books: Books, statement: str, **given: Any) -> Any:
    with read_session(books.engine) as session:
        return fetch(session, statement, {"merchant_id": books.merchant_id, **given})


def job_of(books: Books, job_id: UUID) -> Any:
    [row] = rows(books, "SELECT * FROM report_job WHERE merchant_id = :merchant_id AND id = :id", id=job_id)
    return row


def pieces(books: Books, job_id: UUID) -> list[bytes]:
    found = rows(
        books,
        "SELECT number, body FROM report_chunk WHERE merchant_id = :merchant_id AND report_job_id = :id ORDER BY number",
        id=job_id,
    )
    assert [row.number for row in found] == list(range(len(found)))
    return [bytes(row.body) for row in found]


def made(books: Books, job_id: UUID, keep: Callable[[Session], bool] = lambda _: True) -> bool:
    return make(books.engine, books.merchant_id, job_id, keep, clock=lambda: books.now, chunk_bytes=SMALL)


class After:
    """Says yes; after so many times it does something else once."""

    def __init__(self, times: int, then: Callable[[], bool]) -> None:
        self.left, self.then = times, then

    def __call__(self, _session: Session) -> bool:
        self.left -= 1
        return self.then() if self.left == -1 else True


@pytest.mark.parametrize("form", Format)
def test_a_file_is_in_pieces_with_its_length_and_digest(books: Books, form: Format) -> None:
    job_id = asked(books, form=form)

    assert made(books, job_id)

    job, stored = job_of(books, job_id), pieces(books, job_id)
    whole = b"".join(stored)
    assert len(stored) > 3
    assert {len(piece) for piece in stored[:-1]} == {SMALL}
    assert (job.status, job.rows, job.size_bytes) == ("done", 8, len(whole))
    assert job.sha256 == hashlib.sha256(whole).hexdigest()
    assert job.expires_at == job.finished_at + KEPT_FOR
    assert job.snapshot_at is not None


def test_what_is_committed_while_it_is_written_is_not_in_it(books: Books) -> None:
    job_id = asked(books)

    def another_order() -> bool:
        books.order("late", brought_by="ann")
        return True

    assert made(books, job_id, After(0, another_order))

    assert job_of(books, job_id).rows == 8
    assert rows(books, "SELECT count(*) AS number FROM commission")[0].number == 9
    assert b"late" not in b"".join(pieces(books, job_id))


def test_after_a_crash_it_is_written_anew_and_nothing_of_before_is_left(books: Books) -> None:
    job_id = asked(books)

    class Died(BaseException):
        pass

    def die() -> bool:
        raise Died

    with pytest.raises(Died):
        made(books, job_id, After(4, die))
    half = pieces(books, job_id)
    books.order("meanwhile", brought_by="ann")
    assert (job_of(books, job_id).status, len(half)) == ("running", 4)

    assert made(books, job_id)

    job, whole = job_of(books, job_id), b"".join(pieces(books, job_id))
    assert (job.status, job.rows, job.size_bytes, job.attempt) == ("done", 9, len(whole), 2)
    assert job.sha256 == hashlib.sha256(whole).hexdigest()
    assert b"meanwhile" in whole


def test_of_two_that_write_the_same_the_later_counts(books: Books) -> None:
    job_id = asked(books)

    def overtaken() -> bool:
        # The first is in the middle of a unit of work, so the other waits for it in a thread of its own.
        other.start()
        return True

    other = threading.Thread(target=made, args=(books, job_id))
    first = made(books, job_id, After(3, overtaken))
    other.join()

    job, whole = job_of(books, job_id), b"".join(pieces(books, job_id))
    assert not first
    assert (job.status, job.attempt, job.size_bytes) == ("done", 2, len(whole))
    assert job.sha256 == hashlib.sha256(whole).hexdigest()


def test_a_piece_that_had_to_be_stored_again_is_there_once(books: Books) -> None:
    job_id = asked(books)

    def lose_the_line() -> bool:
        raise DatabaseAway("The line broke.")

    assert made(books, job_id, After(2, lose_the_line))

    job, whole = job_of(books, job_id), b"".join(pieces(books, job_id))
    assert (job.status, job.size_bytes) == ("done", len(whole))
    assert job.sha256 == hashlib.sha256(whole).hexdigest()


def test_one_that_is_over_or_gone_is_left_alone(books: Books) -> None:
    job_id = asked(books)
    made(books, job_id)
    before = job_of(books, job_id)

    assert made(books, job_id)
    assert made(books, new_id())

    assert job_of(books, job_id) == before


def test_what_cannot_be_written_fails_with_the_reason(books: Books) -> None:
    job_id = asked(books, report="profits")

    assert made(books, job_id)

    job = job_of(books, job_id)
    assert (job.status, job.error_code) == ("failed", "unknown-report")
    assert job.error_detail.startswith("The reports are")
    assert job.expires_at == job.finished_at + KEPT_FOR


def test_deleting_it_stops_whoever_writes_it(books: Books) -> None:
    job_id = asked(books)

    def delete() -> bool:
        deletion.start()
        return True

    def work() -> None:
        with unit_of_work(books.engine) as session:
            row = session.get(ReportJobRow, (books.merchant_id, job_id), with_for_update=True)
            jobs.delete_all_of(session, books.merchant_id, [job_id])
            session.delete(row)

    deletion = threading.Thread(target=work)
    is_over = made(books, job_id, After(2, delete))
    deletion.join()

    assert not is_over
    assert pieces(books, job_id) == []
    assert rows(books, "SELECT FROM report_job") == rows(books, "SELECT FROM job WHERE kind = 'report'") == []


def test_a_worker_writes_what_was_asked_for(books: Books, worker: Worker) -> None:
    job_id = asked(books)

    run_pass(worker)

    assert job_of(books, job_id).status == "done"
    assert rows(books, "SELECT FROM job WHERE kind = :kind", kind=REPORT) == []


def test_it_holds_on_to_its_job_as_long_as_it_writes(books: Books, worker: Worker) -> None:
    job_id = asked(books)
    later = books.now + timedelta(minutes=10)
    with unit_of_work(books.engine) as session:
        [job] = claim(session, owner="me", now=books.now, limit=1, lane=Lane.LONG)
    books.now = later

    run = worker_report(worker, job)

    assert run is None
    assert job_of(books, job_id).status == "done"
    assert rows(books, "SELECT lease_until FROM job WHERE kind = :kind", kind=REPORT)[0].lease_until == later + LEASE


def worker_report(worker: Worker, job: Any) -> datetime | None:
    from service import worker as module

    return module._report(worker, job, UUID(job.subject), worker.clock())


def test_one_whose_lease_was_lost_breaks_off(books: Books, worker: Worker) -> None:
    job_id = asked(books)
    with unit_of_work(books.engine) as session:
        [job] = claim(session, owner="me", now=books.now, limit=1, lane=Lane.LONG)
        execute(session, "UPDATE job SET owner = 'another' WHERE kind = 'report'")

    assert worker_report(worker, job) == books.now

    assert job_of(books, job_id).status == "running"
    assert pieces(books, job_id) == []


def test_a_worker_that_ends_gives_a_report_back_at_once(books: Books, worker: Worker) -> None:
    job_id = asked(books)
    worker.stop.set()

    run_pass(worker)

    [job] = rows(books, "SELECT due_at, owner FROM job WHERE kind = :kind", kind=REPORT)
    assert (job.due_at, job.owner) == (books.now, None)
    assert job_of(books, job_id).status == "running"


def test_what_fails_again_and_again_is_given_up(books: Books, worker: Worker) -> None:
    job_id = asked(books)
    with unit_of_work(books.engine) as session:
        execute(session, "UPDATE job SET tries = :tries WHERE kind = 'report'", {"tries": REPORT_TRIES})

    run_pass(worker)

    job = job_of(books, job_id)
    assert (job.status, job.error_code) == ("failed", "internal-error")
    assert rows(books, "SELECT FROM job WHERE kind = :kind", kind=REPORT) == []


@pytest.mark.parametrize("form", [Format.CSV, Format.XLSX])
def test_it_is_forgotten_after_a_week(books: Books, worker: Worker, form: Format) -> None:
    job_id, failed_id = asked(books, form=form), asked(books, report="profits")
    run_pass(worker)
    waiting_id = asked(books)
    # Nobody takes this one up.
    with unit_of_work(books.engine) as session:
        execute(session, "DELETE FROM job WHERE kind = 'report'")

    books.now += KEPT_FOR - timedelta(seconds=1)
    forget(books)
    assert pieces(books, job_id)
    books.now += timedelta(seconds=1)
    forget(books)

    assert pieces(books, job_id) == pieces(books, failed_id) == []
    assert {row.id for row in rows(books, "SELECT id FROM report_job")} == {waiting_id}


def forget(books: Books) -> None:
    while run_unit(books.engine, partial(jobs.forget, merchant_id=books.merchant_id, now=books.now)):
        pass


def test_the_worker_forgets_them_by_itself(books: Books, worker: Worker) -> None:
    asked(books)
    run_pass(worker)

    books.now += KEPT_FOR
    run_pass(worker)

    assert rows(books, "SELECT FROM report_job") == rows(books, "SELECT FROM report_chunk") == []
    assert rows(books, "SELECT FROM job WHERE kind = :kind", kind=FORGET)


def test_short_and_long_jobs_are_claimed_by_threads_of_their_own(books: Books) -> None:
    asked(books)
    with unit_of_work(books.engine) as session:
        execute(
            session,
            """
            INSERT INTO job SELECT merchant_id, :id, 'settle', '', due_at, NULL, NULL, 0, NULL, payload FROM job
            WHERE kind = 'report'
            """,
            {"id": new_id()},
        )

    def kinds(lane: Lane | None) -> list[str]:
        with unit_of_work(books.engine) as session:
            found = [job.kind for job in claim(session, owner="me", now=books.now, limit=5, lane=lane)]
            session.rollback()
            return found

    assert kinds(Lane.SHORT) == ["settle"]
    assert kinds(Lane.LONG) == ["report"]
    assert sorted(kinds(None)) == ["report", "settle"]


def test_money_moves_while_a_long_report_is_written(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker as it runs: the report waits in the middle until a payment has settled."""
    job_id, settled, stop = asked(books), threading.Event(), threading.Event()
    write = jobs._write

    def slowly(*given: Any) -> None:
        assert settled.wait(20)
        write(*given)

    monkeypatch.setattr(jobs, "_write", slowly)
    # Else a settlement that came by before the order lets it wait for half a minute.
    monkeypatch.setattr("service.worker.SETTLE_EVERY", timedelta(milliseconds=100))
    running = threading.Thread(
        target=run_worker,
        args=(books.engine, Settings(secret_key=SECRET_KEY), Security(bytes(32)), stop),
        kwargs={"poll_s": 0.01},
    )
    running.start()
    try:
        eventually(lambda: job_of(books, job_id).status == "running")
        books.order("due", brought_by="ann", days_ago=30)
        eventually(lambda: books.payable("ann") > 0)
        settled.set()
        eventually(lambda: job_of(books, job_id).status == "done")
    finally:
        settled.set()
        stop.set()
        running.join()


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("It did not come to that within 30 s.")
