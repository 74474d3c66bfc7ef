"""The command `koc`: start the service, migrate, make the first key, check the books, import and export."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer
import uvicorn
from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table
from sqlalchemy import Engine
from sqlmodel import Session, col, select
from uvicorn.config import STARTUP_FAILURE

from service import sdk
from service.api import trail
from service.commissions import simulations
from service.domain.errors import Conflict, Invalid, Missing, Unavailable
from service.domain.money import exponent, text_of
from service.domain.program import Terms
from service.domain.review_of_run import change
from service.domain.simulation import Dimension
from service.infra import crash, embedded_postgres, garbage, ids, logs, metrics, migrate
from service.infra.clock import utc_now
from service.infra.db import make_engine, read_session, unit_of_work
from service.infra.processes import Processes
from service.infra.security import Security
from service.infra.settings import Settings, SettingsError, embedded_data_dir, load
from service.intake.batch import Effect
from service.intake.find_source import NoSuchSource, find_source
from service.intake.import_file import TROUBLE, Credit, Identity, Importer, Result, ResultFile, State, Tally
from service.intake.import_rows import items_of, measure
from service.intake.mapping import load_document, load_mapping, read_mapping
from service.intake.receive import reading_of
from service.intake.try_file import add_part, parts_of, read_orders
from service.ledger.audit import check
from service.ledger.chain import Height, height
from service.ledger.findings import Finding
from service.ledger.verify import NotedHead, through
from service.rebuild import database
from service.rebuild.books import Rebuilt, rebuild
from service.reports import run_review, simulate
from service.reports.export import export
from service.reports.recheck import SAMPLE, recheck
from service.reports.recheck_statements import recheck_statements
from service.reports.run_review import TOP
from service.reports.simulated import Ranking, ranked, totals
from service.tables.parties import ApiKeyRow, MerchantRow, Scope
from service.tables.payouts import PayoutRunRow
from service.tables.programs import ProgramRow
from service.tables.simulations import SimulationRow, SimulationState, Stage
from service.tracking.find import ClickSigner
from service.worker import LEASE, run_worker

_at_the_command_line = partial(trail.Author, key_id=None, merchant_id=None, request_id=None)
_COUNTING, _OWN_FOLDER = "KOC_COUNTING_PROCESS", "KOC_COUNTING_FOLDER"
"""Variables between a server's first start and its second: the process they are for, and the folder it has to take away."""
_DOCUMENT = Path(__file__).resolve().parents[1] / "openapi" / "openapi.json"
ACCEPTED_IN_A_TURN = 16
"""New connections per turn of a server's event loop; each costs every connection a few microseconds."""
_WORKER_ENDS_S = 60
"""Seconds the worker has to finish what it is at."""

_out = Console()
_err = Console(stderr=True)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # Locals of a crash may be secrets.
    pretty_exceptions_show_locals=False,
    help="""
    Commissions for key opinion consumers: orders in, explained earnings and payouts out.

    **First steps**, with nothing but this package installed:

    1. `koc serve` starts a PostgreSQL of its own below `.koc-data`, makes the tables, and serves <http://127.0.0.1:8000>.
    2. `koc operator-key --name me`, in another terminal and the same folder, prints the first key.
    3. With it `POST /v1/merchants` makes a merchant and its admin key. <http://127.0.0.1:8000/docs> shows the rest.

    **In production** set `DATABASE_URL` and `KOC_SECRET_KEY`, run `koc migrate` at each release, then any number of
    `koc serve` and `koc worker`. Every setting is an environment variable that begins with `KOC_`.
    """,
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; KOC_HOST otherwise.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; KOC_PORT otherwise.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Server processes.")] = 1,
    with_worker: Annotated[
        bool | None,
        typer.Option(
            "--with-worker/--without-worker",
            help="Also settle and pay out from here; by default only with the embedded PostgreSQL.",
        ),
    ] = None,
) -> None:
    """Serve the API, the webhooks and the short links.

    Without DATABASE_URL a PostgreSQL of our own is started, migrated, and ended with us.
    """
    with garbage.at_rest():
        from service.api.door import Door  # noqa: PLC0415 # the API takes longer to import than most commands take to run

    _count_together_from_the_start(workers)
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    running = _running(embedded_is_migrated=True, serves=given)
    with _folder_taken_away(), running as (settings, embedded), _stopped_by_signals() as stop:
        # Server processes are spawned, and so is their application: only the environment reaches them.
        os.environ.update(settings.environment())
        with (
            _worker_beside(settings, stop)
            if (embedded if with_worker is None else with_worker)
            else contextlib.nullcontext()
        ):
            config = uvicorn.Config(
                "service.start:serve_app",
                factory=True,
                host=settings.host,
                port=settings.port,
                workers=workers,
                loop="uvloop" if os.name == "posix" else "auto",
                http=Door,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=30,
                # A process that starts on a busy machine is not a dead one.
                timeout_worker_healthcheck=60,
            )
            _serve(config, _listen(config))


@app.command()
def worker() -> None:
    """Settle what is due, chain what was booked, send outgoing webhooks and payouts, ask rails what became of payouts.

    Any number may run beside the servers.
    """
    with _running() as (settings, _), _stopped_by_signals() as stop:
        _work(settings, stop)


@app.command("migrate")
def migrate_tables() -> None:
    """Bring the database's tables to this release. Safe to repeat; run it before the new release starts."""
    with _running() as (settings, _):
        assert settings.database_url is not None
        migrate.upgrade(settings.database_url)
        _err.print(f"The tables are at revision {migrate.revisions()[-1]}.")


@app.command()
def operator_key(name: Annotated[str, typer.Option(help="Whose key it is, to find it again in a list.")]) -> None:
    """Make an operator's key, which makes merchants, and print it. It is shown this once."""
    from service.api.api_keys import make_key  # noqa: PLC0415 # as in `serve`

    with _running(embedded_is_migrated=True) as (settings, _), _sessions(settings) as session:
        trail.follow(session)
        made = make_key(session, merchant_id=None, is_test=False, name=name, scopes=[Scope.OPERATOR], at=utc_now())
        trail.write(session, _at_the_command_line("koc operator-key"), at=utc_now())
    # Alone on the standard output, so that a script can take it from there.
    typer.echo(made.key)
    _err.print("Keep it: it is not stored. It makes merchants by `POST /v1/merchants`.")


@app.command()
def operator_keys() -> None:
    """List the operators' keys: id, name, first and last characters, and when each was made, last used and is over."""
    with _running(embedded_is_migrated=True) as (settings, _), _sessions(settings) as session:
        keys = session.exec(
            select(ApiKeyRow).where(col(ApiKeyRow.merchant_id).is_(None)).order_by(col(ApiKeyRow.id))
        ).all()
    table = Table("id", "name", "key", "made", "last used", "revoked")
    for key in keys:
        times = (key.created_at, key.last_used_at, key.revoked_at)
        shown = ["" if at is None else at.isoformat(timespec="seconds") for at in times]
        table.add_row(ids.encode("key", key.id), key.name, key.hint, *shown)
    # As wide as it needs to be where nobody looks at it: an id that is cut cannot be given to another command.
    Console(width=None if _out.is_terminal else 200).print(table)


@app.command()
def revoke_operator_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, as `koc operator-keys` shows it.")],
) -> None:
    """Withdraw an operator's key for good, at once. Repeating it changes nothing."""
    try:
        chosen = ids.decode("key", key_id)
    except ValueError:
        _stop("KEY_ID is the id of a key: key_ and 26 letters and digits. `koc operator-keys` lists them.")
    with _running(embedded_is_migrated=True) as (settings, _), _sessions(settings) as session:
        trail.follow(session)
        key = session.exec(
            select(ApiKeyRow).where(col(ApiKeyRow.id) == chosen, col(ApiKeyRow.merchant_id).is_(None)).with_for_update()
        ).one_or_none()
        if key is None:
            _stop("No operator has such a key. `koc operator-keys` lists them.")
        if key.revoked_at is None:
            key.revoked_at = utc_now()
        name = key.name
        trail.write(session, _at_the_command_line("koc revoke-operator-key", subject=key_id), at=utc_now())
    _err.print(f"The key {name!r} lets nobody in any more.", highlight=False, markup=False)


@app.command()
def check_books(
    merchant: Annotated[str | None, typer.Option(help="Only this merchant, mer_…; all otherwise.")] = None,
    every: Annotated[
        bool, typer.Option("--every", help="Compute every order anew, not a sample of each merchant.")
    ] = False,
    head: Annotated[
        list[str] | None,
        typer.Option(help="Head of --merchant's chain noted earlier, as block:digest; may be given several times."),
    ] = None,
    make_again: Annotated[
        bool, typer.Option("--rebuild", help="Also make the books again in an empty database, and compare.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --rebuild: an empty database to use and keep. Otherwise one is made beside the live one and dropped.",
        ),
    ] = None,
) -> None:
    """Prove that postings, balances, entries and payouts agree, and that orders computed anew come out the same.

    Statements that were issued must be as they were then, without a number missing.

    Prints the head of each chain. Noted elsewhere and given again later as `--head`, it proves that not even somebody
    who rewrote postings and chain alike has changed what was chained by then.

    `--rebuild` goes further: it reads every delivery and decision again, in the order received, with the terms, coupons
    and affiliates of then, settles on the days it was settled, pays out what the rails say was paid, and compares facts,
    targets, receipts, places and balances. The service may run meanwhile: the live books are only read, as of one moment.

    Exits with 1 when something does not agree.
    """
    chosen = None if merchant is None else _merchant_id(merchant)
    noted = [_noted_head(each) for each in head or ()]
    if noted and chosen is None:
        _stop("--head is about one chain: say whose with --merchant.")
    if into is not None and not make_again:
        _stop("--into names where --rebuild makes the books again: give both.")
    with _running() as (settings, _):
        findings = _findings(settings, chosen, noted=noted, sample=None if every else SAMPLE)
        if make_again:
            findings += _differences(settings, chosen, into)
    if not findings:
        _out.print("[green]The books agree.[/green]")
        return
    table = Table("merchant", "code", "subject", "detail", "expected", "found", title=f"{len(findings)} findings")
    for one in findings:
        table.add_row(ids.encode("mer", one.merchant_id), one.code, one.subject, one.detail, one.expected, one.found)
    _out.print(table)
    raise typer.Exit(1)


@app.command("import")
def import_orders(
    file: Annotated[
        Path, typer.Argument(help="The orders: CSV or NDJSON.", exists=True, dir_okay=False, readable=True)
    ],
    source: Annotated[str, typer.Option(help="The source they belong to, src_….")],
    mapping: Annotated[Path, typer.Option(help="Which column is which field: .toml or .json; see docs/imports.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="File to write one result to for each event: .csv or .ndjson.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run that was broken off left --results.")
    ] = False,
) -> None:
    """Import orders, refunds and milestones from a file, on the same way as webhooks.

    A row that cannot be read is a result with its reason and keeps nothing else from being imported. Importing a file
    twice changes nothing. Exits with 1 when a row was refused or an event parked, with 2 when the file or its mapping
    does not fit: then nothing was imported.
    """
    if resume and results is None:
        _stop("--resume goes on from a result file: name it with --results.")
    with _running() as (settings, embedded), _explained():
        read = load_mapping(mapping)
        measured = measure(file, read)
        assert settings.database_url is not None
        engine = make_engine(settings.database_url, pool_size=1, application_name="koc import")
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(_stopped_by_signals())
            stack.callback(engine.dispose)
            with read_session(engine) as session:
                try:
                    known = find_source(session, _source_id(source))
                except NoSuchSource as error:
                    looked_in = f"below {settings.data_dir.absolute()}" if embedded else "of DATABASE_URL"
                    _stop(f"{error.detail} It was looked for in the database {looked_in}.")
            security = Security(base64.b64decode(settings.secret_key))
            reading = reading_of(security, ClickSigner(security), known.merchant_id)
            items, done = items_of(file, read, pause=partial(_leave_if, stop)), 0
            write: Callable[[Sequence[Result]], None] = _nowhere
            if results is not None:
                digest = hashlib.sha256(mapping.read_bytes()).hexdigest()
                identity = Identity(measured.digest, digest, known.id, dry_run)
                kept = stack.enter_context(contextlib.closing(ResultFile(results, identity, resume=resume)))
                items, write, done = kept.left(items), kept.write, kept.done
            progress = stack.enter_context(Progress(console=_err, transient=True, disable=not _err.is_terminal))
            task = progress.add_task("Looking through" if dry_run else "Importing", total=measured.rows)

            def tell(rows: int) -> bool:
                progress.advance(task, rows)
                return not stop.is_set()

            tally = Importer(engine, known, reading, dry=dry_run).run(items, write, tell)
    _say_imported(tally, measured.rows, dry_run=dry_run, before=done)
    if tally.stopped:
        _stop(
            "Stopped when asked to. Run it again"
            + (" with --resume." if results else ": what is imported counts once.")
        )
    if any(tally.states[state] for state in TROUBLE):
        raise typer.Exit(1)


@app.command("simulate")
def simulate_terms(
    program: Annotated[str, typer.Option(help="The programme whose terms they may become, prg_….")],
    terms: Annotated[
        Path, typer.Option(help="The draft: .toml or .json, as the API takes terms.", exists=True, dir_okay=False)
    ],
    days: Annotated[int, typer.Option(min=1, max=400, help="Orders placed in so many days up to now.")] = 90,
    file: Annotated[
        Path | None,
        typer.Option(help="Orders of this CSV or NDJSON instead of stored ones.", exists=True, dir_okay=False),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="How --file is read: .toml or .json, as for `koc import`; see docs/imports.md.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Only orders in this one.")] = None,
    top: Annotated[int, typer.Option(min=0, max=100, help="How many winners and losers are shown.")] = 10,
) -> None:
    """Try draft terms on orders that were placed already: what they cost now, and what they would cost then.

    Nothing is booked, and of a file nothing is kept. What it comes to can be read for 90 days by
    `GET /v1/simulations/{simulation_id}/results`, by KOC, category and day. Exits with 2 when the terms, the file or its
    mapping do not fit.
    """
    if (file is None) != (mapping is None):
        _stop("--file and --mapping go together: the mapping says which column is which field.")
    with _running() as (settings, _), _explained(), contextlib.ExitStack() as stack:
        draft = _draft(terms)
        document = None if mapping is None else load_document(mapping)
        if file is not None and document is not None:
            measure(file, read_mapping(document))
        assert settings.database_url is not None
        engine = make_engine(settings.database_url, pool_size=1, application_name="koc simulate")
        stack.callback(engine.dispose)
        stop = stack.enter_context(_stopped_by_signals())
        with unit_of_work(engine) as session:
            row = _new_simulation(session, program, draft, days=days, currency=currency, mapping=document)
        merchant_id, simulation_id = row.merchant_id, row.id
        try:
            if file is not None:
                _send(engine, row, file)
            security = Security(base64.b64decode(settings.secret_key))
            with Progress(console=_err, transient=True, disable=not _err.is_terminal) as progress:
                task = progress.add_task("Reading the file" if file else "Simulating", total=None)

                def go_on() -> bool:
                    return not stop.is_set()

                def tell(done: int, total: int) -> bool:
                    progress.update(task, description="Simulating", completed=done, total=total)
                    return go_on()

                read_orders(engine, security, merchant_id, simulation_id, go_on)
                is_left = simulate.advance(engine, merchant_id, simulation_id, tell)
        except BaseException:
            _forget(engine, row)
            raise
        if is_left:
            _forget(engine, row)
            _stop("Stopped when asked to. Nothing is left of it.")
        _say_simulated(engine, row, top=top)


def _draft(file: Path) -> Terms:
    """The terms that a file holds."""
    # As in `serve`: what a document may hold is described with the API.
    from pydantic import ValidationError  # noqa: PLC0415 # as in `serve`

    from service.api.terms import TermsDocument  # noqa: PLC0415 # as in `serve`

    try:
        return TermsDocument.model_validate(load_document(file)).terms()
    except ValidationError as error:
        first = error.errors()[0]
        _stop(f"{file.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}.")


def _new_simulation(
    session: Session, program: str, terms: Terms, *, days: int, currency: str | None, mapping: dict[str, Any] | None
) -> SimulationRow:
    """Ask for a simulation, as the API does; a worker takes it up should this process die."""
    try:
        program_id = ids.decode("prg", program)
    except ValueError:
        _stop("--program takes the id of a programme: prg_ and 26 letters and digits.")
    found = session.exec(
        select(MerchantRow.id, MerchantRow.clock_offset_s)
        .join(ProgramRow, col(ProgramRow.merchant_id) == col(MerchantRow.id))
        .where(col(ProgramRow.id) == program_id)
    ).one_or_none()
    if found is None:
        _stop("There is no such programme here.")
    if currency is not None:
        exponent(currency)
    merchant_id, clock_offset_s = found
    trail.follow(session)
    now = utc_now() + timedelta(seconds=clock_offset_s)
    row = SimulationRow(
        merchant_id=merchant_id,
        id=ids.new_id(),
        program_id=program_id,
        state=SimulationState.QUEUED if mapping is None else SimulationState.AWAITING_FILE,
        stage=Stage.ORDERS if mapping is None else Stage.FILE,
        terms=terms.as_json(),
        placed_from=None if mapping is not None else now - timedelta(days=days),
        placed_before=None if mapping is not None else now,
        currency=currency,
        mapping=mapping,
        created_at=now,
    )
    session.add(row)
    session.flush()
    if mapping is None:
        simulations.ask_worker(session, merchant_id, row.id, at=utc_now() + LEASE)
    author = _at_the_command_line("koc simulate", subject=ids.encode("sim", row.id))
    trail.write(session, author, at=utc_now())
    return row


def _send(engine: Engine, row: SimulationRow, file: Path) -> None:
    """Store the file with its simulation, which begins then."""
    for number, part in parts_of(file):
        with unit_of_work(engine) as session:
            add_part(session, row.merchant_id, row.id, number=number, body=part)
    with unit_of_work(engine) as session:
        kept = session.get_one(SimulationRow, (row.merchant_id, row.id), with_for_update=True)
        kept.state = SimulationState.QUEUED
        simulations.ask_worker(session, row.merchant_id, row.id, at=utc_now() + LEASE)


def _forget(engine: Engine, row: SimulationRow) -> None:
    with unit_of_work(engine) as session:
        kept = session.get(SimulationRow, (row.merchant_id, row.id), with_for_update=True)
        if kept is not None:
            simulations.delete_all_of(session, row.merchant_id, [row.id])
            session.delete(kept)


def _say_simulated(engine: Engine, row: SimulationRow, *, top: int) -> None:
    with read_session(engine) as session:
        kept = session.get_one(SimulationRow, (row.merchant_id, row.id))
        if kept.state == SimulationState.FAILED:
            _stop(kept.error_detail)
        shown = {"Totals": totals(session, row.merchant_id, [row.id])[row.id]}
        for ranking in (Ranking.WINNERS, Ranking.LOSERS):
            shown[f"Biggest {ranking.value}"] = ranked(
                session,
                row.merchant_id,
                row.id,
                dimension=Dimension.AFFILIATE,
                ranking=ranking,
                currency=None,
                skip=0,
                limit=top,
            )
    for title, outcomes in shown.items():
        if not outcomes:
            continue
        table = Table("" if title == "Totals" else "who", "currency", title=title)
        for name in ("now", "then", "difference", "orders now", "then"):
            table.add_column(name, justify="right")
        for each in outcomes:
            amounts = (each.now_minor, each.then_minor, each.difference_minor)
            table.add_row(
                escape(each.name or ""),
                each.currency,
                *(text_of(amount, each.currency) for amount in amounts),
                f"{each.now_orders:,}",
                f"{each.then_orders:,}",
            )
        _out.print(table)
    if kept.rows_refused:
        first = kept.refusals[0]
        _out.print(
            f"{kept.rows_refused:,} rows could not be read and are left out. Row {first['row']}: {first['detail']}",
            markup=False,
            soft_wrap=True,
        )
    _out.print(f"{kept.orders_done:,} orders, as {ids.encode('sim', row.id)}.", highlight=False, soft_wrap=True)


@app.command()
def review(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="run_…, as the API and its events name it.")],
    top: Annotated[int, typer.Option(min=0, max=TOP, help="How many of the largest payouts are shown.")] = 10,
) -> None:
    """Show what to look at before a payout run is approved: sums, largest and unusual payouts, changes since the last run."""
    try:
        run_id = ids.decode("run", run)
    except ValueError:
        _stop("RUN_ID is the id of a payout run: run_ and 26 letters and digits.")
    with _running() as (settings, _):
        assert settings.database_url is not None
        engine = make_engine(settings.database_url, pool_size=1, application_name="koc review")
        try:
            with read_session(engine) as session:
                row = session.exec(select(PayoutRunRow).where(col(PayoutRunRow.id) == run_id)).one_or_none()
                if row is None:
                    _stop(f"There is no payout run {run}.")
                _say_reviewed(row, run_review.review(session, row), top=top)
        finally:
            engine.dispose()


def _say_reviewed(run: PayoutRunRow, found: run_review.Review, *, top: int) -> None:
    def money(amount_minor: int) -> str:
        return text_of(amount_minor, run.currency)

    totals = found.totals
    _out.print(
        f"Payout run {ids.encode('run', run.id)}: {run.status}, {run.rail}, {run.currency}, to leave on {run.pay_on}",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    sums = Table(
        "payees", "gross", "carried", "tax", "fee", "net", "tax borne", "smallest", "median", "largest", title="Totals"
    )
    taken = (totals.gross_minor, totals.carried_minor, totals.tax_minor, totals.fee_minor, totals.net_minor)
    borne = totals.tax_borne_minor
    spread = (totals.smallest_minor, totals.median_minor, totals.largest_minor)
    sums.add_row(f"{totals.payees:,}", *(money(each) for each in (*taken, borne, *spread)))
    _out.print(sums)
    for series in run_review.chart(found, run.currency):
        points = series.points[:top] if series.name == "top" else series.points
        if points and series.name != "distribution_net":
            _say_drawn(series.title, points, money if series.unit == "minor" else "{:,}".format)
    if found.unusual:
        table = Table("who", "net", "median before", "why", title=f"{found.unusual_total:,} unusual payouts")
        for each in found.unusual:
            median = "" if each.earlier_median_minor is None else money(each.earlier_median_minor)
            table.add_row(escape(each.payout.name), money(each.payout.net_minor), median, each.reason.value)
        _out.print(table)
    table = Table("what", "payees", "net", title="Changes")
    if found.earlier is not None:
        by = change(totals.net_minor, found.earlier.net_minor)
        table.add_row(
            f"last run, of {found.earlier.pay_on}: {'' if by is None else f'{by} % since'}",
            f"{found.earlier.payees:,}",
            money(found.earlier.net_minor),
        )
    for name, listed in (
        ("new since the last run", found.new),
        ("gone since the last run", found.gone),
        ("paid for the first time", found.first),
        ("to another account than the last time", found.moved),
        ("to an account of several payees", found.shared),
        ("possible splitting", found.split),
        ("tax owed by the merchant", found.not_withheld),
    ):
        table.add_row(name, f"{listed.payees:,}", money(listed.net_minor))
    _out.print(table)
    cautions = ", ".join(caution.value for caution in found.cautions)
    _out.print(f"Worth a look: {cautions}" if cautions else "Nothing stands out.", highlight=False, soft_wrap=True)


def _say_drawn(title: str, points: Sequence[tuple[str, int]], written: Callable[[int], str]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    largest = max(1, *(value for _, value in points))
    for label, value in points:
        table.add_row(escape(label), written(value), Bar(largest, 0, max(0, value), width=30))
    _out.print(table)


@app.command("export")
def export_merchant(
    merchant: Annotated[str, typer.Option(help="Whose, mer_….")],
    out: Annotated[Path, typer.Option(help="File to write, or a folder to write it into.")],
) -> None:
    """Write everything a merchant owns to one file of JSON lines, as of one moment; see docs/exports.md."""
    merchant_id = _merchant_id(merchant)
    if out.is_dir():
        out /= f"{merchant}-{utc_now():%Y-%m-%d}.ndjson"
    if out.exists():
        _stop(f"{out} is there already.")
    part = out.with_name(out.name + ".part")
    with _running() as (settings, _), _explained(), _stopped_by_signals() as stop:
        assert settings.database_url is not None
        engine = make_engine(settings.database_url, pool_size=1, application_name="koc export")
        with contextlib.ExitStack() as stack:
            stack.callback(engine.dispose)
            try:
                written = stack.enter_context(part.open("wb"))
            except OSError as error:
                _stop(f"{part} cannot be written: {error.strerror}.")
            progress = stack.enter_context(Progress(console=_err, transient=True, disable=not _err.is_terminal))
            task = progress.add_task("Exporting", total=None)
            blocks = stack.enter_context(contextlib.closing(export(engine, merchant_id, at=utc_now())))
            for block in blocks:
                written.write(block)
                progress.update(task, description=f"Exporting, {written.tell() / 1e6:,.0f} MB")
                if stop.is_set():
                    _stop(f"Stopped when asked to. {part} is not whole.")
    part.replace(out)
    # Alone on the standard output, so that a script can take it from there.
    typer.echo(str(out))


@app.command()
def openapi(
    write: Annotated[bool, typer.Option("--write", help="Write openapi/openapi.json instead of printing it.")] = False,
) -> None:
    """Print the description of the API as OpenAPI 3.1. Needs no database."""
    text = json.dumps(_description(), indent=2, ensure_ascii=False) + "\n"
    if write:
        _DOCUMENT.parent.mkdir(exist_ok=True)
        _DOCUMENT.write_text(text, encoding="utf-8")
        _err.print(f"Wrote {_DOCUMENT}.")
    else:
        typer.echo(text, nl=False)


@app.command("sdk")
def make_sdk(
    out: Annotated[Path, typer.Option(help="A new folder outside this one, or one with an earlier client.")],
    generator: Annotated[
        Path | None, typer.Option(help=f"The program {sdk.GENERATOR}; looked for on PATH otherwise.")
    ] = None,
) -> None:
    """Generate a typed Python client of the API. Needs no database; in a checkout, `make sdk OUT=…` brings what it needs."""
    try:
        made = sdk.generate(_description(), out, generator=generator)
    except sdk.CannotGenerate as error:
        _stop(str(error))
    _err.print(f"A client with {made.operations} operations is in {made.folder}. Install it: pip install {made.folder}")


def _description() -> dict[str, Any]:
    from service.main import create_app  # noqa: PLC0415 # as in `serve`

    # It says nothing about settings, so any will do.
    return create_app(Settings(secret_key=base64.b64encode(bytes(32)).decode())).openapi()


@contextlib.contextmanager
def _running(
    *, embedded_is_migrated: bool = False, serves: Mapping[str, object] | None = None
) -> Iterator[tuple[Settings, bool]]:
    """Yield settings that name a running database, and whether it is the embedded one; explain what goes wrong.

    serves: this is a server, with these settings instead of the environment's. It alone may make data where there is none:
    in a wrong folder other commands would work on a database that nobody serves.
    """
    data_dir = embedded_data_dir()
    if serves is None and data_dir is not None and not embedded_postgres.made(data_dir):
        _stop(
            f"There is no data in {data_dir.absolute()}. Run this in the folder where `koc serve` runs, or set "
            "KOC_DATA_DIR (or DATABASE_URL) as it is set there."
        )
    try:
        settings = load().model_copy(update=serves)
        logs.configure(settings.log_format, secrets=settings.secrets())
        crash.arm(os.environ)
        if serves is not None:
            _see_that_it_can_listen(settings)
        if settings.database_url is not None:
            yield settings, False
            return
        with embedded_postgres.start(settings.data_dir, say=_say) as server:
            if embedded_is_migrated:
                migrate.upgrade(server.url)
            yield settings.model_copy(update={"database_url": server.url}), True
    except (SettingsError, crash.CrashPointUnknown, embedded_postgres.EmbeddedPostgresError) as error:
        _stop(str(error))
    except Unavailable as error:
        _stop(
            f"{error} Nothing more was done. See that the database answers at DATABASE_URL, then run the command again."
        )


def _see_that_it_can_listen(settings: Settings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        # As the server does: connections of one that has just ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            _stop(
                f"Port {settings.port} of {settings.host} cannot be listened on: {error.strerror}. Choose another with "
                f"--port or KOC_PORT, and let KOC_PUBLIC_URL name it too: links begin with it, now {settings.public_url}."
            )


def _say(sentence: str) -> None:
    # Not wrapped: it may hold a command to copy.
    _err.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _stop(sentence: str) -> NoReturn:
    _err.print(sentence, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(2)


@contextlib.contextmanager
def _sessions(settings: Settings) -> Iterator[Session]:
    """Yield the session of one unit of work."""
    assert settings.database_url is not None
    engine = make_engine(settings.database_url, pool_size=1, application_name="koc cli")
    try:
        with unit_of_work(engine) as session:
            yield session
    finally:
        engine.dispose()


def _count_together_from_the_start(workers: int) -> None:
    """Start this process anew with a folder in which it and its server processes count; not where one counts alone.

    Where numbers go is decided when the library is first imported, and it has been. An operator may name the folder.
    """
    if os.environ.get(_COUNTING) == str(os.getpid()):
        return
    named = os.environ.get(metrics.FOLDER)
    if not named and workers == 1:
        return
    folder = named or tempfile.mkdtemp(prefix="koc-metrics-")
    metrics.make_room(Path(folder))
    os.environ |= {metrics.FOLDER: folder, _COUNTING: str(os.getpid()), _OWN_FOLDER: "" if named else folder}
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, with our own arguments


@contextlib.contextmanager
def _folder_taken_away() -> Iterator[None]:
    """Remove the folder of numbers in the end, if it is our own."""
    try:
        yield
    finally:
        if own := os.environ.get(_OWN_FOLDER):
            shutil.rmtree(own, ignore_errors=True)


def _listen(config: uvicorn.Config) -> list[socket.socket]:
    """Open the address under several descriptors.

    The event loop accepts one connection of each descriptor in a turn. With one descriptor, a server that has more to do
    than it can, whose turns are long, leaves new callers waiting for seconds beside old ones that are refused at once.
    """
    first = config.bind_socket()
    return [first, *(first.dup() for _ in range(ACCEPTED_IN_A_TURN - 1))]


def _serve(config: uvicorn.Config, sockets: list[socket.socket]) -> None:
    if config.workers > 1:
        Processes(config, sockets=sockets).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=sockets)
    if not server.started:
        raise typer.Exit(STARTUP_FAILURE)


@contextlib.contextmanager
def _worker_beside(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Run the worker in a thread of this process for as long as the block lasts."""
    thread = threading.Thread(target=_work, args=(settings, stop), name="koc-worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_WORKER_ENDS_S)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that is set when somebody asks this process to end, so that it ends what it began.

    The web server takes the signals over while it runs, and raises them again when it has shut down.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(settings: Settings, stop: threading.Event) -> None:
    assert settings.database_url is not None
    engine = make_engine(settings.database_url, pool_size=settings.db_pool_size, application_name="koc worker")
    try:
        run_worker(engine, settings, Security(base64.b64decode(settings.secret_key)), stop)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say what was wrong with what the caller brought, and end."""
    try:
        yield
    except (Invalid, Missing, Conflict) as error:
        _stop(error.detail)
    except OSError as error:
        _stop(f"{error.filename or 'A file'}: {error.strerror}.")
    except sqlite3.Error as error:
        _stop(
            f"Files for the time of the work cannot be written: {error}. Set SQLITE_TMPDIR to a folder with more room."
        )


def _leave_if(stop: threading.Event) -> None:
    """End here if somebody asked for it, where nothing is begun that would have to be ended."""
    if stop.is_set():
        raise KeyboardInterrupt


def _nowhere(_results: Sequence[Result]) -> None:
    pass


def _say_imported(tally: Tally, rows: int, *, dry_run: bool, before: int) -> None:
    table = Table("state", "events", title="What would happen" if dry_run else "What was imported")
    for state in State:
        if tally.states[state]:
            table.add_row(state.value, f"{tally.states[state]:,}")
    for effect in Effect:
        if tally.effects[effect]:
            table.add_row(f"of what counts: {effect.value}", f"{tally.effects[effect]:,}")
    for credit in Credit:
        if tally.credits[credit]:
            table.add_row(f"orders credited to {credit.value}", f"{tally.credits[credit]:,}")
    _out.print(table)
    if dry_run:
        _out.print("Whom orders are credited to is decided when they are imported.")
    elif tally.credits[Credit.IN_VAIN]:
        _out.print(
            "Why a click or coupon does not count: GET /v1/orders/{order_id}/attribution. What begins only after an old "
            "order was placed earns nothing from it; see docs/imports.md.",
            highlight=False,
            soft_wrap=True,
        )
    _out.print(f"{tally.rows:,} of {rows:,} rows" + (f"; {before:,} results were there before." if before else "."))


def _source_id(text: str) -> UUID:
    try:
        return ids.decode("src", text)
    except ValueError:
        _stop("--source takes the id of a source: src_ and 26 letters and digits.")


def _merchant_id(text: str) -> UUID:
    try:
        return ids.decode("mer", text)
    except ValueError:
        _stop("--merchant takes the id of a merchant: mer_ and 26 letters and digits.")


def _noted_head(text: str) -> NotedHead:
    parts = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{16,64})", text)
    if parts is None:
        _stop("--head takes the number of a block, a colon, and its digest or at least the first 16 digits of it.")
    return NotedHead(int(parts[1]), parts[2])


def _say_height(merchant_id: UUID, reached: Height) -> None:
    if not reached.head.number:
        return
    sentence = (
        f"Chain of {ids.encode('mer', merchant_id)}: block {reached.head.number}, {reached.postings:,} postings, "
        f"digest {reached.head.digest.hex()}"
    )
    # Not wrapped: a digest is to be copied.
    _out.print(
        sentence + (f", {reached.behind:,} not chained yet" if reached.behind else ""), highlight=False, soft_wrap=True
    )


def _findings(
    settings: Settings, merchant_id: UUID | None, *, noted: Sequence[NotedHead], sample: int | None
) -> list[Finding]:
    """Check merchant after merchant, showing how far it is, and say how far each chain goes."""
    assert settings.database_url is not None
    security = Security(base64.b64decode(settings.secret_key))
    engine = make_engine(settings.database_url, pool_size=1, application_name="koc check-books")
    try:
        chosen = _merchants(engine, merchant_id)
        findings: list[Finding] = []
        with Progress(console=_err, transient=True) as progress:
            task = progress.add_task("Checking the books", total=len(chosen))
            for each, name in chosen:
                progress.update(task, description=f"Checking {name}")
                with read_session(engine) as session:
                    findings += check(session, each) + through(session, each, noted)
                    findings += recheck(session, each, sample=sample)
                    findings += recheck_statements(session, security, each)
                    _say_height(each, height(session, each))
                progress.advance(task)
        return findings
    finally:
        engine.dispose()


def _merchants(engine: Engine, merchant_id: UUID | None) -> Sequence[tuple[UUID, str]]:
    """Id and name of the one asked for, or of all."""
    merchants = select(MerchantRow.id, MerchantRow.name).order_by(col(MerchantRow.id))
    if merchant_id is not None:
        merchants = merchants.where(col(MerchantRow.id) == merchant_id)
    with read_session(engine) as session:
        chosen = session.exec(merchants).all()
    if merchant_id is not None and not chosen:
        _stop("There is no such merchant.")
    return chosen


def _differences(settings: Settings, merchant_id: UUID | None, into: str | None) -> list[Finding]:
    """Make the books of merchant after merchant again, showing how far it is, and say what was made."""
    assert settings.database_url is not None
    security = Security(base64.b64decode(settings.secret_key))
    findings: list[Finding] = []
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stopped_by_signals())
        url = stack.enter_context(_empty_database(settings.database_url, into))
        live = make_engine(settings.database_url, pool_size=1, application_name="koc check-books")
        stack.callback(live.dispose)
        made = make_engine(url, pool_size=1, statement_timeout_ms=0, application_name="koc rebuild")
        stack.callback(made.dispose)
        progress = stack.enter_context(Progress(console=_err, transient=True))
        for each, name in _merchants(live, merchant_id):
            task = progress.add_task(f"Making {name} again", total=None)
            rebuilt = rebuild(live, made, each, security, tell=partial(_show, progress, task, stop))
            progress.remove_task(task)
            findings += rebuilt.findings
            _say_rebuilt(each, rebuilt)
    return findings


@contextlib.contextmanager
def _empty_database(live_url: str, into: str | None) -> Iterator[str]:
    """Yield the address of the database that books are made again in; explain what is wrong with the one named."""
    try:
        if into is None:
            with database.beside(live_url) as url:
                yield url
        else:
            yield database.elsewhere(live_url, into)
    except (database.MayNotCreate, database.NotUsable) as error:
        _stop(str(error))


def _show(progress: Progress, task: TaskID, stop: threading.Event, done: int, to_do: int) -> None:
    """Show how far it is; end here if somebody asked for it, and not in the middle of a conversation with the database."""
    if stop.is_set():
        raise KeyboardInterrupt
    progress.update(task, completed=done, total=to_do)


def _say_rebuilt(merchant_id: UUID, rebuilt: Rebuilt) -> None:
    differ = ", ".join(f"{number:,} {code.value}" for code, number in rebuilt.counts.items())
    sentence = (
        f"Made {ids.encode('mer', merchant_id)} again: {rebuilt.deliveries:,} deliveries, {rebuilt.payouts:,} payouts, "
        + (differ or "no difference")
    )
    _out.print(sentence, highlight=False, soft_wrap=True)
    if rebuilt.parked_but_readable:
        _out.print(
            f"{rebuilt.parked_but_readable:,} parked deliveries would be understood today: replay them.",
            highlight=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    app()
