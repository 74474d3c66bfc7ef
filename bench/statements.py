"""Statements of a month for many KOCs: how long that takes, and whether memory stays the same however many there are."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import make_url

from bench import show
from bench.serve import Database, database
from bench.shop import Refused
from service.domain.ledger import MerchantTime, booking_day
from service.infra.clock import utc_now
from service.infra.db import make_engine, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.reports import issue
from service.reports.statement_books import Days

KOCS = 10_000
"""Unless N= says otherwise."""
LEAST = 5_000
ORDERS_PER_KOC = 20
RSS_RATIO_CEILING = 1.3
"""How much more memory ten times the KOCs may take at the peak. It is the same work; the rest is noise."""
_MASTER = bytes(32)


@dataclass(frozen=True, slots=True)
class Run:
    """Statements issued by a process of its own. rss_mib: at its peak."""

    kocs: int
    seconds: float
    rss_mib: float


def bench(n: int | None, ceiling: float | None) -> bool:
    """Book a month of two shops, one ten times the other, and issue it. Returns whether memory stayed the same."""
    number, most = max(n or KOCS, LEAST), RSS_RATIO_CEILING if ceiling is None else ceiling
    with database() as postgres:
        part, whole = (_run(postgres, kocs) for kocs in (number // 10, number))
    ratio = whole.rss_mib / part.rss_mib
    show.table(
        f"Statements of a month, {ORDERS_PER_KOC} orders each",
        ("KOCs", "order lines", "seconds", "statements/s", "MiB at the peak"),
        [
            (
                f"{run.kocs:,}",
                f"{run.kocs * ORDERS_PER_KOC:,}",
                f"{run.seconds:.1f}",
                f"{run.kocs / run.seconds:,.0f}",
                f"{run.rss_mib:.0f}",
            )
            for run in (part, whole)
        ],
        left=0,
    )
    show.result(
        "statements",
        statements=whole.kocs,
        rss_ratio=f"{ratio:.2f}",
        rss_mib=round(whole.rss_mib),
        statements_per_s=round(whole.kocs / whole.seconds),
    )
    if ratio > most:
        show.say(f"Ten times the KOCs took {ratio:.2f} times the memory; at most {most:g} is good.")
    return ratio <= most


def _run(postgres: Database, kocs: int) -> Run:
    merchant_id, month = new_id(), _last_month()
    _book(postgres, merchant_id, kocs, month)
    engine = make_engine(postgres.url)
    with unit_of_work(engine) as session:
        asked = issue.Asked(merchant_id, month, new_id())
        run = issue.ask(session, Security(_MASTER), asked, when=MerchantTime(utc_now(), "UTC"))
    engine.dispose()
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "bench.statements", postgres.url, str(merchant_id), str(run.id)])
    # What the process took at its peak, the system tells to whoever waits for it.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    with postgres.connect(_name(postgres)) as connection:
        [row] = connection.execute(
            """
            SELECT count(*), count(DISTINCT number), max(number), coalesce(sum(jsonb_array_length(document -> 'commissions')), 0),
                   coalesce(sum(closing_minor), 0)
            FROM statement WHERE merchant_id = %(merchant_id)s
            """,
            {"merchant_id": merchant_id},
        ).fetchall()
    # 10 % of 100.00 for each order.
    wanted = (kocs, kocs, kocs, kocs * ORDERS_PER_KOC, kocs * ORDERS_PER_KOC * 1_000)
    if process.returncode or tuple(int(str(each)) for each in row) != wanted:
        raise Refused(f"{row} were issued, not {wanted}.")
    return Run(kocs, seconds, usage.ru_maxrss / 1024)


def _last_month() -> Days:
    last = booking_day(utc_now(), "UTC").replace(day=1) - timedelta(days=1)
    return Days(last.replace(day=1), last)


def _name(postgres: Database) -> str:
    name = make_url(postgres.url).database
    assert name is not None
    return name


def _book(postgres: Database, merchant_id: UUID, kocs: int, month: Days) -> None:
    """Write the books of a shop straight into its tables: what intake and settlement would have left of them."""
    show.say(f"Booking {kocs * ORDERS_PER_KOC:,} orders of {kocs:,} KOCs.")
    told = {
        "merchant_id": merchant_id,
        "source_id": new_id(),
        "kocs": kocs,
        "orders": ORDERS_PER_KOC,
        "first": month.begins_on,
    }
    with postgres.connect(_name(postgres)) as connection:
        for statement in _BOOKS.split(";"):
            connection.execute(statement.encode(), told)


_BOOKS = """
INSERT INTO merchant (id, name, is_test, time_zone, clock_offset_s, created_at)
VALUES (%(merchant_id)s, 'Bench', true, 'UTC', 0, CAST(%(first)s AS date));
INSERT INTO source (id, merchant_id, platform, name, created_at)
VALUES (%(source_id)s, %(merchant_id)s, 'generic', 'shop', now());
CREATE TEMPORARY TABLE koc AS SELECT number, gen_random_uuid() AS id FROM generate_series(1, %(kocs)s) AS number;
CREATE TEMPORARY TABLE sold AS
SELECT koc.id AS payee_id, place, gen_random_uuid() AS order_id, gen_random_uuid() AS commission_id,
       gen_random_uuid() AS earned_id, gen_random_uuid() AS settled_id,
       CAST(%(first)s AS date) + place %% 28 AS day
FROM koc CROSS JOIN generate_series(1, %(orders)s) AS place;
INSERT INTO affiliate (merchant_id, id, name, status, kind, profile, identities, created_at, updated_at)
SELECT %(merchant_id)s, id, 'KOC ' || number, 'approved', 'koc', '{}', '{}', now(), now() FROM koc;
INSERT INTO orders (merchant_id, id, source_id, external_id, seen, created_at)
SELECT %(merchant_id)s, order_id, %(source_id)s, CAST(order_id AS text), 1, now() FROM sold;
INSERT INTO commission (merchant_id, id, order_id, payee_id, currency, target_minor, pending_minor, held_minor, settled_minor,
                        reason_code, entry_seq, receipt, created_at, updated_at)
SELECT %(merchant_id)s, commission_id, order_id, payee_id, 'USD', 1000, 0, 0, 1000, 'earned', 2,
       jsonb_build_object('lines', jsonb_build_array(jsonb_build_object(
           'line_id', '1', 'sku', 'TEA', 'quantity', '1', 'ordered_minor', 10000, 'refunded_minor', 0, 'base_minor', 10000,
           'parts', jsonb_build_array(jsonb_build_object('rate', '10', 'flat_minor', NULL, 'per', NULL)),
           'commission_minor', 1000)), 'voided', false, 'target_minor', 1000), now(), now()
FROM sold;
INSERT INTO posting (merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind, credit_owner_id, currency,
                     amount_minor, day, slot, booking, created_at)
SELECT %(merchant_id)s, earned_id, 'order/' || order_id, 0, 'commission_expense', %(merchant_id)s, 'pending', payee_id, 'USD',
       1000, day, 0, 1, now() FROM sold
UNION ALL
SELECT %(merchant_id)s, settled_id, 'settle/' || order_id, 0, 'pending', payee_id, 'payable', payee_id, 'USD', 1000, day, 0, 1,
       now() FROM sold;
INSERT INTO commission_entry (merchant_id, commission_id, seq, kind, source, destination, amount_minor, posting_id, payable_version, created_at)
SELECT %(merchant_id)s, commission_id, 1, 'accrue', 'commission_expense', 'pending', 1000, earned_id, NULL, now() FROM sold
UNION ALL
SELECT %(merchant_id)s, commission_id, 2, 'settle', 'pending', 'payable', 1000, settled_id, 1, now() FROM sold;
INSERT INTO balance (merchant_id, owner_id, kind, currency, amount_minor, version)
SELECT %(merchant_id)s, id, kind, 'USD', CASE kind WHEN 'payable' THEN 1000 * %(orders)s ELSE 0 END, 1
FROM koc CROSS JOIN (VALUES ('payable'), ('pending')) AS kept (kind);
DROP TABLE sold;
DROP TABLE koc;
ANALYZE
"""


def _issue(url: str, merchant_id: UUID, run_id: UUID) -> None:
    """What a worker does with the job, in a process that does nothing else."""
    engine = make_engine(url)
    while issue.advance(engine, Security(_MASTER), merchant_id=merchant_id, run_id=run_id, go_on=lambda: True):
        pass
    engine.dispose()


if __name__ == "__main__":
    _issue(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3]))
