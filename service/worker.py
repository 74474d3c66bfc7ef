"""The worker: settles, chains, delivers, tells of claims, executes payout runs, compares them with their rail, simulates, reconciles, issues statements.

One job at a time, and beside it, on a thread of its own, one report that takes minutes; any number of workers may run on one database. A job is claimed by a conditional UPDATE and held by a lease; what it does
is safe to repeat, so a worker that dies costs time and nothing else.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions import reconciliations, simulations
from service.commissions.due import do_due
from service.commissions.reconciliations import MATCH_FILES
from service.commissions.simulations import SIMULATE
from service.domain.errors import InvariantBroken, Unavailable
from service.infra import metrics
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit
from service.infra.ids import encode, new_id
from service.infra.kept_answers import OPERATORS, forget
from service.infra.outgoing import Caller
from service.infra.security import Security
from service.infra.settings import Settings
from service.intake.claims import TOLD_MAX, tell_overdue
from service.intake.reconcile_file import read_files
from service.intake.try_file import read_orders
from service.ledger.chain import chain
from service.outbox import deliver
from service.outbox.deliver import Post
from service.outbox.poster import Poster
from service.payouts import files, gate, service_jobs
from service.payouts.apply import Provider
from service.payouts.execute import Sender, advance
from service.payouts.providers import FILE_RAILS, Rail, Rails, api_of, make_rails, told_rails
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.payouts.providers.stripe_api import StripeApi
from service.payouts.providers.stripe_events import StripeEvents
from service.payouts.reconcile import compare
from service.payouts.service_jobs import give_back_service
from service.payouts.wake import EXECUTE, RECONCILE
from service.reports import issue, reconcile, simulate
from service.reports import jobs as report_jobs
from service.reports.jobs import REPORT

SETTLE = "settle"
SETTLE_EVERY = timedelta(seconds=30)
CHAIN = "chain"
CHAIN_EVERY = timedelta(minutes=1)
DELIVER = deliver.JOB
DELIVER_TURN = timedelta(seconds=2)
"""Short: a job that settles or pays waits meanwhile."""
DELIVER_LAST_S = 5
"""How long a worker that ends waits for the answer to a delivery under way."""
SIMULATE_TURN, SIMULATE_PAUSE = timedelta(seconds=5), timedelta(seconds=1)
"""Short, and with a pause in which everything else that is due comes first: nobody's money waits for a simulation."""
SIMULATE_TRIES = 6
"""So often a turn of a simulation, or of issuing statements, may end in an error, one after the other, before it counts as failed."""
STATEMENTS_TURN = timedelta(seconds=5)
REPORT_TRIES = 5
"""So often the writing of a report may end in an error, or with its worker, before it counts as failed."""
REPORT_ENDS_S = 10
"""How long a worker that ends waits for the report under way to notice; another then begins it anew."""
FORGET = "forget"
FORGET_EVERY = timedelta(hours=1)
CLAIMS = "claims"
CLAIMS_EVERY = timedelta(minutes=10)
EVERY_MERCHANT = (SETTLE, CHAIN, DELIVER, FORGET, CLAIMS)
"""Kinds of jobs that each merchant has one of, for ever."""
RECONCILE_EVERY = timedelta(days=1)
RECONCILE_FOR = timedelta(days=90)
"""Transfers are reversed within this time of a run; later ones are found by people."""

LEASE = timedelta(minutes=15)
"""How long a job may be held; its turn is far shorter."""
TURN = timedelta(seconds=30)
"""After this long a job gives way to others and comes round again."""
RETRY_MIN, RETRY_MAX = timedelta(seconds=5), timedelta(minutes=30)
CALLS_AT_ONCE = 8
"""Threads that ask rails; they hold no connection to the database."""
JOBS_AT_ONCE_MAX = 1000
"""Most turns of one pass of `run_once`."""
SERVICE_TURNS_MAX = 10
"""Most turns of jobs of the service itself in one pass."""

_log = logging.getLogger(__name__)


class Lane(StrEnum):
    """What a thread of a worker does, so that nobody's money waits for a long report."""

    SHORT = "short"
    """All that comes in short turns."""
    LONG = "long"
    """Reports, which are written in one go."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker works with. clock: ours, in UTC; a merchant's own comes from its row.

    lane: None does everything, one after the other. stop: is set when it has to end.
    """

    engine: Engine
    security: Security
    rails: Rails
    calls: Executor
    owner: str
    clock: Callable[[], datetime] = utc_now
    poster: Poster = field(default_factory=Poster)
    lane: Lane | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def post(self) -> Post:
        """What it delivers events with."""
        return Post(self.engine, self.security, self.poster, self.clock)


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. due_at: as the claim set it; whoever wakes the job meanwhile sets an earlier one."""

    merchant_id: UUID
    id: UUID
    kind: str
    subject: str
    due_at: datetime
    tries: int
    payload: dict[str, Any]


def run_worker(
    engine: Engine, settings: Settings, security: Security, stop: threading.Event, *, poll_s: float = 1
) -> None:
    """Work until told to stop. poll_s: seconds between looks for jobs when there was none.

    An error that is nobody's job ends a pass, is logged, and the loop goes on.
    """
    rails = make_rails(settings)
    poster = _poster(settings)
    try:
        with ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="koc-rail") as calls:
            worker = Worker(engine, security, rails, calls, _owner(), poster=poster, lane=Lane.SHORT, stop=stop)
            with _long_lane(worker, poll_s):
                _loop(worker, partial(run_pass, stop=stop), poll_s)
            _drain(worker)
    finally:
        poster.close()
        for rail in rails.values():
            rail.close()


def _loop(worker: Worker, do_pass: Callable[[Worker], int], poll_s: float) -> None:
    """Do passes until told to stop."""
    broke_off = False
    while not worker.stop.is_set():
        try:
            if broke_off:
                run_unit(worker.engine, partial(give_back, owner=worker.owner, now=worker.clock()))
                run_unit(worker.engine, partial(give_back_service, owner=worker.owner, now=worker.clock()))
            broke_off = True
            done = do_pass(worker)
            broke_off = False
        except Unavailable as error:
            _log.warning("The worker waits: %s", error)
            done = 0
        except Exception:  # noqa: BLE001 - the job loop: nothing may end it but its owner
            _log.exception("A pass of the worker failed")
            done = 0
        if not done:
            worker.stop.wait(poll_s)


@contextlib.contextmanager
def _long_lane(worker: Worker, poll_s: float) -> Iterator[None]:
    """Write reports on a thread beside the block, and end with it."""
    # An owner of its own: what it has at hand is not given back when a pass of the other lane breaks off.
    beside = replace(worker, owner=_owner(), lane=Lane.LONG)
    thread = threading.Thread(
        target=_loop, args=(beside, partial(_turns, stop=beside.stop), poll_s), name="koc-reports", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        thread.join(REPORT_ENDS_S)
        if thread.is_alive():
            # It waits for the database. Whoever takes its job up now begins anew, and it can add nothing to that.
            with contextlib.suppress(Unavailable):
                run_unit(worker.engine, partial(give_back, owner=beside.owner, now=worker.clock()))


def run_once(engine: Engine, settings: Settings, security: Security) -> int:
    """Do all jobs that are due now, then return how many turns that took. For tests and for cron-like use."""
    rails = make_rails(settings)
    poster = _poster(settings)
    try:
        with ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="koc-rail") as calls:
            worker = Worker(engine, security, rails, calls, _owner(), poster=poster)
            done = run_pass(worker)
            _drain(worker)
            return done
    finally:
        poster.close()
        for rail in rails.values():
            rail.close()


def run_pass(worker: Worker, *, stop: threading.Event | None = None) -> int:
    """Claim and do due jobs until there is none. Returns how many turns were done."""
    run_unit(worker.engine, partial(schedule, now=worker.clock()))
    run_unit(worker.engine, partial(deliver.wake_queued, now=worker.clock()))
    # Also where another worker has the merchant's job now: only we know what came of our own calls.
    deliver.record_arrived(worker.post)
    # Before anything is sent: a database that was restored does not know what was.
    run_unit(worker.engine, partial(gate.notice, now=worker.clock()))
    served = _service_turns(worker)
    _check_gate(worker)
    return served + _turns(worker, stop=stop)


def _turns(worker: Worker, *, stop: threading.Event | None) -> int:
    """Claim and do jobs of the worker's lane until none is due. Returns how many turns were done."""
    for done in range(JOBS_AT_ONCE_MAX):
        if stop is not None and stop.is_set():
            return done
        jobs = _claim_one(worker)
        if not jobs:
            return done
        _turn(worker, jobs[0])
    return JOBS_AT_ONCE_MAX


def _check_gate(worker: Worker) -> None:
    api = api_of(worker.rails)
    gate.check(worker.engine, None if api is None else _provider(worker, api), now=worker.clock())


def _provider(worker: Worker, api: StripeApi) -> Provider:
    return Provider(worker.engine, worker.security, StripeAccounts(api), told_rails(worker.rails), worker.clock)


def _service_turns(worker: Worker) -> int:
    """Do the jobs of the service itself that are due; one may wake another. Returns how many turns were done."""
    api = api_of(worker.rails)
    if api is None:
        return 0
    provider = _provider(worker, api)
    run_unit(worker.engine, partial(service_jobs.schedule_service, now=worker.clock()))
    for done in range(SERVICE_TURNS_MAX):
        take = partial(service_jobs.claim_service, owner=worker.owner, now=worker.clock(), lease=LEASE)
        jobs = run_unit(worker.engine, take)
        if not jobs:
            return done
        _service_turn(worker, provider, StripeEvents(api), jobs[0])
    return SERVICE_TURNS_MAX


def _service_turn(worker: Worker, provider: Provider, events: StripeEvents, job: service_jobs.ServiceJob) -> None:
    began = time.monotonic()
    error: str | None = None
    try:
        turn = service_jobs.do_service(provider, events, job, until=worker.clock() + TURN)
    except Exception as failure:  # noqa: BLE001 - the job loop: one job's failure must not keep the others waiting
        _log.exception("Job %s of the service failed, try %d", job.kind, job.tries)
        error = type(failure).__name__
        turn = service_jobs.Done(worker.clock() + _pause(job.tries), job.payload)
    run_unit(worker.engine, partial(service_jobs.finish_service, job=job, owner=worker.owner, done=turn, error=error))
    metrics.job_done(job.kind, result="done" if error is None else "failed", seconds=time.monotonic() - began)


def schedule(session: Session, *, now: datetime) -> int:
    """Give each merchant the jobs of EVERY_MERCHANT that it has not. Returns how many were added."""
    rows = fetch(
        session,
        """
        SELECT merchant.id, wanted.kind FROM merchant CROSS JOIN unnest(CAST(:kinds AS text[])) AS wanted (kind)
        WHERE NOT EXISTS (SELECT FROM job WHERE job.merchant_id = merchant.id AND job.kind = wanted.kind)
        ORDER BY merchant.id, wanted.kind
        """,
        {"kinds": list(EVERY_MERCHANT)},
    )
    if not rows:
        return 0
    return execute(
        session,
        """
        INSERT INTO job (merchant_id, id, kind, subject, due_at, tries, payload)
        SELECT merchant_id, id, kind, '', :now, 0, CAST('{}' AS jsonb)
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:kinds AS text[]))
             AS added (merchant_id, id, kind)
        ON CONFLICT DO NOTHING
        """,
        {
            "now": now,
            "merchant_ids": [row.id for row in rows],
            "ids": [new_id() for _ in rows],
            "kinds": [row.kind for row in rows],
        },
    )


def claim(session: Session, *, owner: str, now: datetime, limit: int, lane: Lane | None = None) -> list[Job]:
    """Take due jobs, so that no other worker does them meanwhile. The repeated condition is what makes it safe."""
    rows = fetch(
        session,
        """
        UPDATE job SET owner = :owner, lease_until = :until, due_at = :until, tries = tries + 1
        WHERE (merchant_id, id) IN (
            SELECT merchant_id, id FROM job
            WHERE due_at <= :now AND (lease_until IS NULL OR lease_until < :now)
              AND (CAST(:is_long AS boolean) IS NULL OR (kind = :long) = :is_long)
            ORDER BY due_at LIMIT :limit)
          AND due_at <= :now AND (lease_until IS NULL OR lease_until < :now)
        RETURNING merchant_id, id, kind, subject, due_at, tries, payload
        """,
        {
            "owner": owner,
            "now": now,
            "until": now + LEASE,
            "limit": limit,
            "is_long": None if lane is None else lane is Lane.LONG,
            "long": REPORT,
        },
    )
    return [Job(row.merchant_id, row.id, row.kind, row.subject, row.due_at, row.tries, row.payload) for row in rows]


def give_back(session: Session, *, owner: str, now: datetime) -> int:
    """Make due again what this worker claimed and does not do: without it nobody would until the lease ends.

    A lost connection leaves such jobs: the claim was committed and not heard of, or giving the job back failed.
    """
    return execute(
        session,
        "UPDATE job SET owner = NULL, lease_until = NULL, due_at = :now WHERE owner = :owner",
        {"owner": owner, "now": now},
    )


def keep(session: Session, job: Job, *, owner: str, now: datetime) -> bool:
    """Hold on to a job for another lease. Returns whether it is still this worker's."""
    touched = execute(
        session,
        "UPDATE job SET lease_until = :until WHERE merchant_id = :merchant_id AND id = :id AND owner = :owner",
        {"merchant_id": job.merchant_id, "id": job.id, "owner": owner, "until": now + LEASE},
    )
    return touched == 1


def finish(session: Session, job: Job, *, owner: str, next_at: datetime | None, error: str | None = None) -> None:
    """Give a job back. next_at: when it is due again, None when it is over. Somebody who woke it meanwhile counts."""
    asked = {"merchant_id": job.merchant_id, "id": job.id, "owner": owner, "claimed": job.due_at}
    if next_at is None:
        execute(
            session,
            "DELETE FROM job WHERE merchant_id = :merchant_id AND id = :id AND owner = :owner AND due_at = :claimed",
            asked,
        )
    execute(
        session,
        """
        UPDATE job
        SET due_at = CASE WHEN due_at = :claimed THEN coalesce(:next_at, due_at) ELSE least(due_at, :next_at) END,
            lease_until = NULL, owner = NULL, last_error = :error,
            tries = CASE WHEN CAST(:error AS text) IS NULL THEN 0 ELSE tries END
        WHERE merchant_id = :merchant_id AND id = :id AND owner = :owner
        """,
        asked | {"next_at": next_at, "error": error},
    )


def _claim_one(worker: Worker) -> list[Job]:
    """Claim one job. A claim that was committed without our hearing of it is given back first."""
    tried = False

    def work(session: Session) -> list[Job]:
        nonlocal tried
        now = worker.clock()
        if tried:
            give_back(session, owner=worker.owner, now=now)
        tried = True
        return claim(session, owner=worker.owner, now=now, limit=1, lane=worker.lane)

    return run_unit(worker.engine, work)


def _turn(worker: Worker, job: Job) -> None:
    began = time.monotonic()
    error: str | None = None
    try:
        next_at = _do(worker, job)
    except InvariantBroken:
        _log.exception("The books contradict themselves in job %s of %s", job.kind, job.merchant_id)
        error, next_at = "InvariantBroken", worker.clock() + RETRY_MAX
    except Exception as failure:  # noqa: BLE001 - the job loop: one job's failure must not keep the others waiting
        _log.exception("Job %s of merchant %s failed, try %d", job.kind, job.merchant_id, job.tries)
        error, next_at = type(failure).__name__, worker.clock() + _pause(job.tries)
    run_unit(worker.engine, partial(finish, job=job, owner=worker.owner, next_at=next_at, error=error))
    metrics.job_done(job.kind, result="done" if error is None else "failed", seconds=time.monotonic() - began)


def _do(worker: Worker, job: Job) -> datetime | None:
    """Do one turn of a job. Returns when it is due again, None when it is over."""
    now = worker.clock()
    if job.kind == SETTLE:
        do_due(worker.engine, job.merchant_id)
        return now + SETTLE_EVERY
    if job.kind == CHAIN:
        return _chain(worker, job, now)
    if job.kind == DELIVER:
        return _deliver(worker, job, now)
    if job.kind == FORGET:
        return _forget(worker, job, now)
    if job.kind == CLAIMS:
        told = run_unit(worker.engine, partial(tell_overdue, merchant_id=job.merchant_id, now=now))
        return now if told == TOLD_MAX else now + CLAIMS_EVERY
    if job.kind == EXECUTE:
        return _execute(worker, job, UUID(job.subject), now)
    if job.kind == RECONCILE:
        return _reconcile(worker, job, UUID(job.subject), now)
    if job.kind == SIMULATE:
        return _simulate(worker, job, UUID(job.subject), now)
    if job.kind == issue.STATEMENTS:
        return _issue(worker, job, UUID(job.subject), now)
    if job.kind == MATCH_FILES:
        return _match_files(worker, job, UUID(job.subject), now)
    if job.kind == REPORT:
        return _report(worker, job, UUID(job.subject), now)
    raise InvariantBroken(f"nobody does jobs of kind {job.kind!r}")


def _chain(worker: Worker, job: Job, now: datetime) -> datetime:
    head, postings, is_done = None, 0, False
    looked_on = date.fromisoformat(job.payload["looked_on"]) if "looked_on" in job.payload else None
    at = now
    while not is_done and at < now + TURN:
        once = partial(chain, merchant_id=job.merchant_id, now=at, looked_on=looked_on)
        chained = run_unit(worker.engine, once)
        is_done = not chained.blocks
        postings += chained.postings
        head = head if is_done else chained.head
        if is_done and looked_on != at.date():
            run_unit(worker.engine, partial(_note_look, job=job, on=at.date()))
        at = worker.clock()
    metrics.postings_chained(postings)
    if head is not None:
        # Who keeps log lines elsewhere keeps with them what a rewritten chain can be told by.
        merchant = encode("mer", job.merchant_id)
        _log.info("Head of the chain of %s: block %d, digest %s", merchant, head.number, head.digest.hex())
    return now + CHAIN_EVERY if is_done else now


def _forget(worker: Worker, job: Job, now: datetime) -> datetime:
    """Delete what has been kept long enough: simulations, reports, answers, also those of operators, who have no jobs."""
    forgotten = 0
    for merchant_id in (job.merchant_id, OPERATORS):
        forgotten += run_unit(worker.engine, partial(forget, merchant_id=merchant_id, now=now))
    for verb in (simulations.forget, report_jobs.forget):
        forgotten += run_unit(worker.engine, partial(verb, merchant_id=job.merchant_id, now=now))
    return now if forgotten else now + FORGET_EVERY


def _note_look(session: Session, job: Job, on: date) -> None:
    """Keep with the job on which day it last did what it does once a day."""
    execute(
        session,
        """
        UPDATE job SET payload = jsonb_build_object('looked_on', CAST(:on AS date))
        WHERE merchant_id = :merchant_id AND id = :id
        """,
        {"merchant_id": job.merchant_id, "id": job.id, "on": on},
    )


def _deliver(worker: Worker, job: Job, now: datetime) -> datetime:
    next_at = deliver.turn(worker.post, merchant_id=job.merchant_id, until=now + DELIVER_TURN)
    if job.payload.get("looked_on") != now.date().isoformat():
        while run_unit(worker.engine, partial(deliver.forget, merchant_id=job.merchant_id, now=now)):
            if worker.clock() >= now + TURN:
                return next_at
        run_unit(worker.engine, partial(_note_look, job=job, on=now.date()))
    return next_at


def _execute(worker: Worker, job: Job, run_id: UUID, now: datetime) -> datetime | None:
    file_rail = FILE_RAILS.get(_rail_name(worker, job.merchant_id, run_id))
    if file_rail is not None:
        builder = files.Builder(worker.engine, worker.security, file_rail, worker.clock)
        return files.advance(builder, merchant_id=job.merchant_id, run_id=run_id, until=now + TURN).next_at
    rail = _rail(worker, job.merchant_id, run_id)
    if rail is None:
        return now + RETRY_MAX
    sender = Sender(worker.engine, worker.security, rail, worker.owner, worker.calls, worker.clock)
    return advance(sender, merchant_id=job.merchant_id, run_id=run_id, until=now + TURN).next_at


def _reconcile(worker: Worker, job: Job, run_id: UUID, now: datetime) -> datetime | None:
    rail = _rail(worker, job.merchant_id, run_id)
    since = datetime.fromisoformat(job.payload["since"])
    if rail is None or not rail.keeps_transfers or now > since + RECONCILE_FOR:
        return None
    compared = compare(worker.engine, rail, merchant_id=job.merchant_id, run_id=run_id, since=since, now=now)
    return now + (RECONCILE_EVERY if compared.complete else RETRY_MAX)


def _give_up(worker: Worker, fail: Callable[..., None], now: datetime) -> None:
    """fail: ends what cannot go on, told why."""
    detail = "It failed again and again; the log of the service says why."
    run_unit(worker.engine, partial(fail, code="internal-error", detail=detail, now=now))


def _simulate(worker: Worker, job: Job, simulation_id: UUID, now: datetime) -> datetime | None:
    if job.tries > SIMULATE_TRIES:
        _give_up(worker, partial(simulations.fail, merchant_id=job.merchant_id, simulation_id=simulation_id), now)
        return None

    def go_on() -> bool:
        return worker.clock() < now + SIMULATE_TURN

    read_orders(worker.engine, worker.security, job.merchant_id, simulation_id, go_on, clock=worker.clock)
    has_more = simulate.advance(
        worker.engine, job.merchant_id, simulation_id, lambda _done, _of: go_on(), clock=worker.clock
    )
    return worker.clock() + SIMULATE_PAUSE if has_more else None


def _issue(worker: Worker, job: Job, run_id: UUID, now: datetime) -> datetime | None:
    if job.tries > SIMULATE_TRIES:
        failure = (
            "It failed again and again; the log of the service says why. What was issued stays: ask again for the rest."
        )
        give_up = partial(issue.fail, merchant_id=job.merchant_id, run_id=run_id, detail=failure, now=now)
        run_unit(worker.engine, give_up)
        return None
    has_more = issue.advance(
        worker.engine,
        worker.security,
        merchant_id=job.merchant_id,
        run_id=run_id,
        go_on=lambda: worker.clock() < now + STATEMENTS_TURN,
    )
    return worker.clock() if has_more else None


def _match_files(worker: Worker, job: Job, reconciliation_id: UUID, now: datetime) -> datetime | None:
    if job.tries > SIMULATE_TRIES:
        _give_up(
            worker, partial(reconciliations.fail, merchant_id=job.merchant_id, reconciliation_id=reconciliation_id), now
        )
        return None

    def go_on() -> bool:
        return worker.clock() < now + SIMULATE_TURN

    read_files(worker.engine, worker.security, job.merchant_id, reconciliation_id, go_on, clock=worker.clock)
    has_more = reconcile.advance(worker.engine, job.merchant_id, reconciliation_id, go_on, clock=worker.clock)
    return worker.clock() + SIMULATE_PAUSE if has_more else None


def _report(worker: Worker, job: Job, report_job_id: UUID, now: datetime) -> datetime | None:
    if job.tries > REPORT_TRIES:
        _give_up(worker, partial(report_jobs.fail, merchant_id=job.merchant_id, report_job_id=report_job_id), now)
        return None

    def go_on(session: Session) -> bool:
        return not worker.stop.is_set() and keep(session, job, owner=worker.owner, now=worker.clock())

    is_over = report_jobs.make(worker.engine, job.merchant_id, report_job_id, go_on, clock=worker.clock)
    return None if is_over else worker.clock()


def _rail(worker: Worker, merchant_id: UUID, run_id: UUID) -> Rail | None:
    """The rail of a run; None, logged, when this process is not set up for it any more."""
    rail = worker.rails.get(_rail_name(worker, merchant_id, run_id))
    if rail is None:
        _log.error("Payout run %s waits: its rail is not set up in this process", encode("run", run_id))
    return rail


def _rail_name(worker: Worker, merchant_id: UUID, run_id: UUID) -> str:
    with read_session(worker.engine) as session:
        rows = fetch(
            session,
            "SELECT rail FROM payout_run WHERE merchant_id = :merchant_id AND id = :id",
            {"merchant_id": merchant_id, "id": run_id},
        )
    return rows[0].rail if rows else ""


def _poster(settings: Settings) -> Poster:
    return Poster(Caller(allowed=settings.webhook_networks))


def _drain(worker: Worker) -> None:
    """Record what is still answered; what is not is sent again by whoever comes next."""
    try:
        deliver.drain(worker.post, wait_s=DELIVER_LAST_S)
    except Unavailable as error:
        _log.warning("What came of the last deliveries is not recorded: %s", error)


def _pause(tries: int) -> timedelta:
    doubled: int = 2 ** min(tries, 10)
    return min(RETRY_MAX, RETRY_MIN * doubled)


def _owner() -> str:
    # In containers two workers may bear one name and one number; what another worker of ours does is not ours to give back.
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
