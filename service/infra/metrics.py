"""Every number the service counts about itself, for Prometheus. Labels are few, and each has a closed list of values.

With PROMETHEUS_MULTIPROC_DIR set before this module is first imported, the processes of one server count together: each
writes files into that folder, and a scrape of any of them sums them up. The process that starts the others empties the
folder. What a killed process counted stays counted; its gauges go with it, at the next scrape.
"""

import contextlib
import os
import re
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder."""
_NUMBERS_OF = re.compile(r".*_([0-9]+)\.db")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_requests = Counter("koc_http_requests", "Answered requests by operation and status class.", ["operation", "status"])
_request_seconds = Histogram(
    "koc_http_request_seconds",
    "Time from the request's head to the end of its answer.",
    ["operation"],
    buckets=_SECONDS,
)
_batch_items = Histogram("koc_batch_items", "Items in one unit of work of a batcher.", ["batcher"], buckets=_SIZES)
_batch_seconds = Histogram("koc_batch_seconds", "Time of one unit of work of a batcher.", ["batcher"], buckets=_SECONDS)
_batch_waiting = Gauge(
    "koc_batch_waiting",
    "Items that waited for their unit of work when the last one ended, of all living processes.",
    ["batcher"],
    multiprocess_mode="livesum",
)
_batch_refused = Counter("koc_batch_refused", "Items refused because the batcher's queue was full.", ["batcher"])
_batch_parked = Counter("koc_batch_parked", "Items that failed alone and were put away.", ["batcher"])
_batch_restarts = Counter(
    "koc_batch_restarts", "Crashes of a batcher's thread, after each of which it went on.", ["batcher"]
)
_bad_signatures = Counter("koc_intake_bad_signatures", "Deliveries refused for their signature.", ["platform"])
_clicks_unrecorded = Counter(
    "koc_clicks_unrecorded", "Visitors sent on before their click was stored, or without it ever being."
)
_payout_attempts = Counter(
    "koc_payout_attempts", "Verdicts recorded on attempts to send a payout.", ["rail", "outcome"]
)
_payout_gate_closings = Counter(
    "koc_payout_gate_closings", "Times that nothing was sent by anybody any more.", ["reason"]
)
_payout_run_stops = Counter("koc_payout_run_stops", "Payout runs that stopped and wait for a person.", ["rail"])
_transfers_unexplained = Counter(
    "koc_transfers_unexplained",
    "Transfers told by a provider that no attempt of ours explains, each time they are told.",
    ["rail"],
)
_provider_events = Counter(
    "koc_provider_events", "Events of providers that were told or listed, by what became of them.", ["result"]
)
_postings_chained = Counter("koc_postings_chained", "Postings the worker has covered with blocks of the chain.")
_webhook_tries = Counter("koc_webhook_tries", "Tries to deliver an event to a merchant's endpoint.", ["result"])
_webhook_endpoints_disabled = Counter(
    "koc_webhook_endpoints_disabled",
    "Endpoints that were disabled because they were gone or failed for long.",
    ["reason"],
)
_jobs = Counter("koc_jobs", "Jobs the worker finished, by how they ended: done or failed.", ["kind", "result"])
_job_seconds = Histogram("koc_job_seconds", "Time of one turn of a job.", ["kind"], buckets=_SECONDS)


def request_answered(operation: str, *, status: int, seconds: float) -> None:
    """Count one answered request. operation: the operation id, never the path, which holds ids without end."""
    answered, took = _of_operation(operation, f"{str(status)[0]}xx")
    answered.inc()
    took.observe(seconds)


@cache
def _of_operation(operation: str, status: str) -> tuple[Counter, Histogram]:
    """The numbers of an operation, found once: looking them up costs more than counting."""
    return _requests.labels(operation, status), _request_seconds.labels(operation)


def signature_refused(platform: str) -> None:
    """Count a delivery whose signature was wrong; nothing else is kept of it."""
    _bad_signatures.labels(platform).inc()


def click_unrecorded() -> None:
    """Count a visitor who was sent on although the click's commit was not heard of in time."""
    _clicks_unrecorded.inc()


def payout_attempted(rail: str, *, outcome: str, number: int) -> None:
    """Count verdicts on attempts: accepted, refused, absent, or unknown, of which each look-up counts again."""
    _payout_attempts.labels(rail, outcome).inc(number)


def payout_run_stopped(rail: str) -> None:
    """Count a run that sends nothing more until a person has looked."""
    _payout_run_stops.labels(rail).inc()


def transfers_unexplained(rail: str, *, number: int) -> None:
    """Count transfers that no attempt explains; people have to look."""
    _transfers_unexplained.labels(rail).inc(number)


def provider_events(result: str, *, number: int) -> None:
    """Count events of providers. result: kept, known, foreign or nothing when they come; applied or parked later."""
    _provider_events.labels(result).inc(number)


def payout_gate_closed(reason: str) -> None:
    """Count a closing of the gate: nothing is sent by anybody until two persons open it."""
    _payout_gate_closings.labels(reason).inc()


def postings_chained(number: int) -> None:
    """Count postings that a committed block covers from now on."""
    _postings_chained.inc(number)


def webhooks_tried(result: str, *, number: int) -> None:
    """Count recorded tries. result: a member of domain.delivery.Result."""
    _webhook_tries.labels(result).inc(number)


def webhook_endpoint_disabled(reason: str) -> None:
    """Count an endpoint that nobody disabled but its own answers. reason: gone or failing."""
    _webhook_endpoints_disabled.labels(reason).inc()


def job_done(kind: str, *, result: str, seconds: float) -> None:
    """Count one turn of a job. result: done or failed."""
    _jobs.labels(kind, result).inc()
    _job_seconds.labels(kind).observe(seconds)


class BatcherMetrics:
    """What batchers tell: an Observer of `infra.batcher`."""

    def batch(self, name: str, *, size: int, seconds: float, waiting: int) -> None:
        _batch_items.labels(name).observe(size)
        _batch_seconds.labels(name).observe(seconds)
        _batch_waiting.labels(name).set(waiting)

    def refused(self, name: str) -> None:
        _batch_refused.labels(name).inc()

    def parked(self, name: str, error: Exception) -> None:  # noqa: ARG002 - the batcher logs the error
        _batch_parked.labels(name).inc()

    def restarted(self, name: str) -> None:
        _batch_restarts.labels(name).inc()


def exposition(*more: Collector) -> bytes:
    """Return all numbers in Prometheus' text format, of all processes of this server where they count together.

    more: what is not counted but asked for, by this process alone.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest(REGISTRY) + _of(more)
    forget_dead(Path(folder))
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call] # the library leaves this class untyped
    return generate_latest(together) + _of(more)


def forget_dead(folder: Path) -> None:
    """Take the gauges of processes that are gone out of the folder; their counters stay.

    The server library has no word for a worker that was killed, so whoever asks for the numbers looks.
    """
    for number in {
        int(match[1]) for file in folder.glob("gauge_live*.db") if (match := _NUMBERS_OF.fullmatch(file.name))
    }:
        if not _lives(number):
            # Another process may have been asked at the same time.
            with contextlib.suppress(FileNotFoundError):
                mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call] # the library leaves it untyped


def make_room(folder: Path) -> None:
    """Make the folder, or take out of it what processes left that are gone: an earlier server's numbers are not ours.

    A worker that counts into it already keeps its numbers. Before this process counts anything itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        match = _NUMBERS_OF.fullmatch(file.name)
        if match is None or int(match[1]) == os.getpid() or not _lives(int(match[1])):
            file.unlink(missing_ok=True)


def _of(collectors: tuple[Collector, ...]) -> bytes:
    asked = CollectorRegistry()
    for each in collectors:
        asked.register(each)
    return generate_latest(asked)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
