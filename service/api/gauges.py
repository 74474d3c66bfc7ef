"""What the database says of the business: how old, how many, how much. Read when metrics are asked for, not more often.

The numbers are the same whoever asks, so each server answers them, and none has to be up for another. Test merchants are
left out: their clocks and their mistakes are nobody's alarm. A further number is one more entry of GAUGES.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from service.domain.errors import Unavailable
from service.infra.db import fetch, make_engine, read_session

KEPT_S = 15
"""Seconds for which numbers are given again; scrapes come more often where there are several scrapers."""
STATEMENT_MS = 2000
"""A statement that takes longer is ended: numbers about the work must not keep the work waiting."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number per row. name and labels: as columns of the statement, the value comes last."""

    name: str
    help: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A statement, and the gauges its columns after the labels fill, in order. Rows with NULL say nothing."""

    gauges: tuple[Gauge, ...]
    statement: str


QUESTIONS = (
    Question(
        (
            Gauge("koc_inbox_open", "Deliveries that are waiting or parked.", ("state",)),
            Gauge("koc_inbox_oldest_seconds", "Age of the oldest such delivery.", ("state",)),
        ),
        """
        SELECT kind.state, count(inbox.id),
               coalesce(extract(epoch FROM now() - min(inbox.received_at)), 0)
        FROM unnest(ARRAY['waiting', 'parked']) AS kind (state)
        LEFT JOIN (inbox JOIN merchant ON merchant.id = inbox.merchant_id AND NOT merchant.is_test)
          ON inbox.state = kind.state AND inbox.state IN ('waiting', 'parked')
        GROUP BY kind.state
        """,
    ),
    Question(
        (
            Gauge("koc_commissions_unreviewed", "Commissions that wait for a demanded approval.", ()),
            Gauge("koc_commission_unreviewed_oldest_seconds", "Age of the oldest such commission.", ()),
        ),
        # Most merchants demand none, and then nothing is read.
        """
        SELECT count(*), coalesce(extract(epoch FROM now() - min(commission.created_at)), 0)
        FROM commission
        WHERE commission.merchant_id IN (
                SELECT program_version.merchant_id FROM program_version
                JOIN merchant ON merchant.id = program_version.merchant_id
                WHERE NOT merchant.is_test AND program_version.terms #>> '{settlement,approval}' = 'manual')
          AND commission.reason_code = 'awaiting_approval' AND commission.pending_minor > 0
        """,
    ),
    Question(
        (
            Gauge("koc_claims_open", "Claims of affiliates that nobody has decided.", ()),
            Gauge("koc_claims_overdue", "Those of them whose time to be decided is over.", ()),
            Gauge("koc_claim_oldest_seconds", "Age of the oldest claim that is open.", ()),
        ),
        """
        SELECT count(*), count(*) FILTER (WHERE claim.decide_by <= now()),
               coalesce(extract(epoch FROM now() - min(claim.opened_at)), 0)
        FROM claim JOIN merchant ON merchant.id = claim.merchant_id AND NOT merchant.is_test
        WHERE claim.state = 'open'
        """,
    ),
    Question(
        (
            Gauge("koc_balances_negative", "Affiliates who owe money after returns.", ("currency",)),
            Gauge("koc_balances_negative_minor", "What they owe together, in minor units.", ("currency",)),
        ),
        """
        SELECT balance.currency, count(*), -sum(balance.amount_minor)
        FROM balance JOIN merchant ON merchant.id = balance.merchant_id AND NOT merchant.is_test
        WHERE balance.kind = 'payable' AND balance.amount_minor < 0
        GROUP BY balance.currency
        """,
    ),
    Question(
        (
            Gauge("koc_payouts_open", "Payouts handed to a rail and neither sent nor given back.", ("state",)),
            Gauge("koc_payout_oldest_seconds", "Time since the oldest of them was first sent.", ("state",)),
        ),
        """
        SELECT kind.state, count(last.outcome), coalesce(extract(epoch FROM now() - min(last.first_sent_at)), 0)
        FROM unnest(ARRAY['sending', 'handed_over', 'unknown', 'refused']) AS kind (state)
        LEFT JOIN (
            SELECT attempt.outcome, attempt.first_sent_at, attempt.next_at
            FROM payout_item AS item
            JOIN merchant ON merchant.id = item.merchant_id AND NOT merchant.is_test
            CROSS JOIN LATERAL (
                SELECT outcome, first_sent_at, next_at FROM payout_attempt
                WHERE payout_attempt.merchant_id = item.merchant_id AND payout_attempt.item_id = item.id
                ORDER BY number DESC LIMIT 1) AS attempt
            WHERE item.live) AS last
          ON kind.state = CASE WHEN last.outcome IN ('planned', 'in_flight') THEN 'sending'
                               -- In a file: a bank takes its days, and nobody looks it up.
                               WHEN last.outcome = 'unknown' AND last.next_at IS NULL THEN 'handed_over'
                               WHEN last.outcome = 'unknown' THEN 'unknown'
                               WHEN last.outcome IN ('refused', 'absent') THEN 'refused' END
        GROUP BY kind.state
        """,
    ),
    Question(
        (
            Gauge("koc_payout_runs_executing", "Payout runs that are being sent.", ()),
            Gauge("koc_payout_runs_stopped", "Those of them that stopped and wait for a person.", ()),
        ),
        """
        SELECT count(*), count(run.stopped_at)
        FROM payout_run AS run JOIN merchant ON merchant.id = run.merchant_id AND NOT merchant.is_test
        WHERE run.status = 'executing'
        """,
    ),
    Question(
        (
            Gauge(
                "koc_provider_events_open",
                "Events of providers that wait, or were parked in the last days.",
                ("state",),
            ),
        ),
        """
        SELECT kind.state, count(provider_event.id)
        FROM unnest(ARRAY['waiting', 'parked']) AS kind (state)
        LEFT JOIN provider_event ON provider_event.state = kind.state
             AND (kind.state = 'waiting' OR provider_event.received_at > now() - interval '7 days')
        GROUP BY kind.state
        """,
    ),
    Question(
        (
            Gauge(
                "koc_provider_differences_unexplained",
                "Transfers that differ from the provider's books of the last days for no known reason.",
                (),
            ),
        ),
        """
        SELECT coalesce(sum(compared.unexplained), 0)
        FROM provider_reconciliation AS compared
        JOIN merchant ON merchant.id = compared.merchant_id AND NOT merchant.is_test
        WHERE compared.day >= current_date - 8
        """,
    ),
    Question(
        (Gauge("koc_ledger_bookings_unchained", "Bookings of the last days that no block covers yet.", ()),),
        """
        SELECT coalesce(sum(slot.touched - coalesce(covered.last_booking, 0)), 0)
        FROM merchant
        JOIN day_slot AS slot ON slot.merchant_id = merchant.id AND slot.day >= current_date - 2
        LEFT JOIN LATERAL (
            SELECT last_booking FROM chain_block
            WHERE chain_block.merchant_id = slot.merchant_id AND chain_block.day = slot.day
              AND chain_block.slot = slot.slot
            ORDER BY first_booking DESC LIMIT 1) AS covered ON true
        WHERE NOT merchant.is_test
        """,
    ),
    Question(
        (
            Gauge(
                "koc_books_oldest_open_days",
                "Days since the oldest booking day that is not closed, of any merchant.",
                (),
            ),
        ),
        """
        SELECT coalesce(max(current_date - open.day), 0)
        FROM merchant
        CROSS JOIN LATERAL (
            SELECT day FROM day_slot
            WHERE day_slot.merchant_id = merchant.id
              AND day > coalesce((SELECT max(until) FROM book_close WHERE book_close.merchant_id = merchant.id),
                                 DATE '-infinity')
            ORDER BY day LIMIT 1) AS open
        WHERE NOT merchant.is_test
        """,
    ),
    Question(
        (
            Gauge(
                "koc_reconciliation_differences_unexplained",
                "Differences of reconciliations that nobody has explained.",
                ("about",),
            ),
        ),
        """
        SELECT kind.about, count(difference.id)
        FROM unnest(ARRAY['order', 'commission', 'payout']) AS kind (about)
        LEFT JOIN (reconciliation_difference AS difference
                   JOIN merchant ON merchant.id = difference.merchant_id AND NOT merchant.is_test)
          ON difference.about = kind.about AND difference.explained_by IS NULL AND difference.note_at IS NULL
        GROUP BY kind.about
        """,
    ),
    Question(
        (
            Gauge("koc_jobs_overdue", "Jobs that should have begun a minute ago or longer.", ()),
            Gauge("koc_job_overdue_oldest_seconds", "How late the latest of all jobs is.", ()),
        ),
        """
        SELECT count(*) FILTER (WHERE due_at < now() - interval '1 minute'),
               coalesce(extract(epoch FROM now() - min(due_at)), 0)
        FROM job WHERE due_at <= now()
        """,
    ),
)

READ = Gauge(
    "koc_database_gauges_read", "1 if the numbers of the database could be read, else 0 and they are absent.", ()
)


class Gauges(Collector):
    """Reads the numbers on one connection of its own, so that a scrape takes none from the requests."""

    def __init__(self, database_url: str) -> None:
        self._engine: Engine = make_engine(
            database_url,
            pool_size=1,
            statement_timeout_ms=STATEMENT_MS,
            lock_timeout_ms=STATEMENT_MS,
            application_name="koc metrics",
        )
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._kept: Sequence[Metric] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield one family for each gauge, read now or some seconds ago."""
        with self._lock:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at >= KEPT_S:
                self._kept = self._read()
                self._read_at = now
            kept = self._kept
        yield from kept

    def close(self) -> None:
        self._engine.dispose()

    def _read(self) -> Sequence[Metric]:
        try:
            with read_session(self._engine) as session:
                answers = [(each.gauges, fetch(session, each.statement)) for each in QUESTIONS]
        except Unavailable as error:
            _log.warning("The numbers of the database cannot be read: %s", error)
            return [GaugeMetricFamily(READ.name, READ.help, value=0)]
        found = [GaugeMetricFamily(READ.name, READ.help, value=1)]
        for gauges, rows in answers:
            for at, gauge in enumerate(gauges):
                family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
                for row in rows:
                    *labels, value = (*row[: len(gauge.labels)], row[len(gauge.labels) + at])
                    family.add_metric([str(label) for label in labels], value)
                found.append(family)
        return found
