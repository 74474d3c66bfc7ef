"""Draft terms tried on many orders: how many a second, and whether memory stays the same however many there are."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from bench import books, client, retail, show
from bench.serve import HOST, Database, database, environment, koc, new_secret_key, operator, service
from bench.shop import Api, Refused, Shop, check
from service.infra import ids

ORDERS = 20_000
"""Unless N= says otherwise."""
LEAST = 5_000
RSS_RATIO_CEILING = 1.15
"""How much more memory ten times the orders may take at the peak. It is the same work; the rest is noise."""
SPREAD_DAYS = 300
"""Over how many days the orders are spread, evenly: a tenth of the days holds a tenth of the orders."""
ORDERS_PER_KOC = 50

# It asks of each order about the customer's others, and of each KOC about its month: all that a draft can look at.
DRAFT = """
[[rules]]
kind = "percent"
rate = "10"
when = { all = [{ kind = "customer", is = "new" }] }

[[rules]]
kind = "percent"
rate = "6"

[[periods]]
kind = "ladder"
key = "volume"
period = "month"
steps = [{ from = [{ amount_minor = 500000, currency = "GBP" }], rate = "2" }]
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `koc simulate`, a process of its own. rss_mib: at its peak."""

    orders: int
    seconds: float
    rss_mib: float
    now_minor: int
    then_minor: int


def bench(n: int | None, ceiling: float | None) -> bool:
    """Make n orders, try a draft on a tenth of them and on all, and compare. Returns whether memory stayed the same."""
    number, most = max(n or ORDERS, LEAST), RSS_RATIO_CEILING if ceiling is None else ceiling
    secret_key = new_secret_key()
    with database() as postgres:
        shop = _real_orders(postgres, secret_key)
        show.say(f"Making {number:,} orders of them.")
        affiliates = _multiply(postgres, shop, number)
        draft = postgres.folder / "draft.toml"
        draft.write_text(DRAFT, encoding="utf-8")
        part, whole = (_run(postgres, shop, draft, secret_key, days=days) for days in (SPREAD_DAYS // 10, SPREAD_DAYS))
    ratio = whole.rss_mib / part.rss_mib
    show.table(
        f"Draft terms tried by koc simulate, {affiliates:,} KOCs",
        ("orders", "seconds", "orders/s", "MiB at the peak", "now", "then"),
        [
            (
                f"{run.orders:,}",
                f"{run.seconds:.1f}",
                f"{run.orders / run.seconds:,.0f}",
                f"{run.rss_mib:.0f}",
                show.amount(run.now_minor, retail.CURRENCY),
                show.amount(run.then_minor, retail.CURRENCY),
            )
            for run in (part, whole)
        ],
        left=0,
    )
    show.result(
        "simulate",
        orders=whole.orders,
        then_minor=whole.then_minor,
        now_minor=whole.now_minor,
        rss_ratio=f"{ratio:.2f}",
        rss_mib=round(whole.rss_mib),
        orders_per_s=round(whole.orders / whole.seconds),
    )
    if not 8 * part.orders < whole.orders < 12 * part.orders:
        show.say(f"{part.orders} is no tenth of {whole.orders} orders.")
        return False
    if ratio > most:
        show.say(f"Ten times the orders took {ratio:.2f} times the memory; at most {most:g} is good.")
    return ratio <= most


def _real_orders(postgres: Database, secret_key: str) -> Shop:
    """A shop that has received the orders of the file, by signed webhooks."""
    story = retail.story(now=datetime.now(UTC))
    before = story.begins_at - timedelta(days=SPREAD_DAYS + 1)
    with service(postgres.url, secret_key=secret_key, log=postgres.folder / "server.log") as server:
        owner = Api(server.url, operator(postgres.url, secret_key=secret_key))
        shop = Shop.opened(owner, name="Bench", terms=books.TERMS, valid_from=before, time_zone="Europe/London")
        for koc_number in range(retail.KOCS):
            code = retail.code_of(koc_number)
            shop.koc(code.lower(), f"KOC {koc_number}", code, since=before)
        events = [happening.event for happening in story.happenings if happening.kind != "unseen"]
        load = client.run(HOST, server.port, shop.signed(events), connections=8, expect=200)
        check(load, "the orders to multiply")
    return shop


def _multiply(postgres: Database, shop: Shop, number: int) -> int:
    """Copy what belongs to the shop's orders until there are so many, of so many KOCs more. Returns how many KOCs.

    Only what a simulation reads: no commission or posting is made.
    """
    affiliates = number // ORDERS_PER_KOC
    name = _name(postgres)
    with postgres.connect(name) as connection:
        connection.execute(
            """
            CREATE TEMPORARY TABLE koc AS
            SELECT number, gen_random_uuid() AS id, gen_random_uuid() AS coupon_id, gen_random_uuid() AS enrollment_id,
                   'bench' || number AS code
            FROM generate_series(1, %(affiliates)s) AS number
            """,
            {"affiliates": affiliates},
        )
        like = {"like": ids.decode("aff", shop.kocs[0].id)}
        for table, of_whom, instead in (
            ("affiliate", "id", "'id', koc.id, 'external_id', koc.code, 'name', koc.code"),
            ("affiliate_approval", "affiliate_id", "'affiliate_id', koc.id"),
            ("enrollment", "affiliate_id", "'affiliate_id', koc.id, 'id', koc.enrollment_id"),
        ):
            _copy(connection, table, instead, f"koc, {table} AS known WHERE known.{of_whom} = %(like)s", like)
        owned = "SELECT coupon_id FROM coupon_owner WHERE affiliate_id = %(like)s"
        instead = "'id', koc.coupon_id, 'code', koc.code, 'folded', koc.code"
        _copy(connection, "coupon", instead, f"koc, coupon AS known WHERE known.id IN ({owned})", like)
        instead = "'coupon_id', koc.coupon_id, 'affiliate_id', koc.id"
        _copy(connection, "coupon_owner", instead, "koc, coupon_owner AS known WHERE affiliate_id = %(like)s", like)
        connection.execute(
            """
            CREATE TEMPORARY TABLE made AS
            SELECT gen_random_uuid() AS id, original, place, place %% %(affiliates)s + 1 AS koc,
                   CAST(date_trunc('second', now() - %(days)s * interval '1 day'
                                   + %(days)s * interval '1 day' * (place - 0.5) / %(number)s) AS timestamptz) AS placed_at
            FROM (
                SELECT order_id AS original, row_number() OVER (ORDER BY again, order_id) AS place
                FROM assessment, generate_series(1, %(number)s / 100) AS again
                WHERE placed_at IS NOT NULL LIMIT %(number)s
            ) AS numbered
            """,
            {"affiliates": affiliates, "days": SPREAD_DAYS, "number": number},
        )
        # Those that were copied lie in the last days too; out of the way with them.
        connection.execute("UPDATE assessment SET placed_at = placed_at - interval '3 years'")
        instead = "'id', made.id, 'external_id', 'bench-' || made.place"
        _copy(connection, "orders", instead, "made JOIN orders AS known ON known.id = made.original")
        payload = """
            'order_id', made.id, 'payload', CASE WHEN known.kind = 'order' THEN known.payload || jsonb_build_object(
                'placed_at', to_char(made.placed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
                'touches', CASE WHEN known.payload -> 'touches' = '[]' THEN CAST('[]' AS jsonb)
                           ELSE jsonb_build_array(jsonb_build_array('coupon', 'bench' || made.koc, NULL, NULL)) END)
            ELSE known.payload END
        """
        _copy(connection, "fact", payload, "made JOIN fact AS known ON known.order_id = made.original")
        instead = """
            'order_id', made.id, 'placed_at', made.placed_at, 'candidates', CAST('[]' AS jsonb),
            'customer', known.customer || '-' || made.place / 20
        """
        _copy(connection, "assessment", instead, "made JOIN assessment AS known ON known.order_id = made.original")
        connection.execute("ANALYZE")
    return affiliates


def _name(postgres: Database) -> str:
    name = make_url(postgres.url).database
    assert name is not None
    return name


def _copy(
    connection: "psycopg.Connection[tuple[object, ...]]",
    table: str,
    instead: str,
    of: str,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Insert copies of rows of a table called `known`, with some columns otherwise."""
    statement = f"INSERT INTO {table} SELECT (jsonb_populate_record(known, jsonb_build_object({instead}))).* FROM {of}"
    connection.execute(statement.encode(), parameters)


def _run(postgres: Database, shop: Shop, draft: Path, secret_key: str, *, days: int) -> Run:
    command = koc("simulate", "--program", shop.program_id, "--terms", str(draft), "--days", str(days))
    log = postgres.folder / f"simulate-{days}.log"
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment(postgres.url, secret_key=secret_key, port=1), stdout=output, stderr=output
        )
        # What the process took at its peak, the system tells to whoever waits for it.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
    if process.returncode:
        raise Refused(f"koc simulate ended with {process.returncode}: {log.read_text()[-600:]}")
    with postgres.connect(_name(postgres)) as connection:
        [row] = connection.execute(
            """
            SELECT orders_done, orders_total, now_minor, then_minor
            FROM simulation JOIN simulation_sum AS total ON total.simulation_id = simulation.id AND dimension = 'total'
            WHERE state = 'done' ORDER BY created_at DESC LIMIT 1
            """
        ).fetchall()
    done, total, now_minor, then_minor = (int(str(each)) for each in row)
    if done != total:
        raise Refused(f"{done} of {total} orders were looked at.")
    return Run(done, seconds, usage.ru_maxrss / 1024, now_minor, then_minor)
