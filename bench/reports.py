"""Reports of many commissions, in every format, streamed and by a worker: how many rows a second, and how much memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from bench import show
from bench.reports_books import fill
from bench.serve import Database, database
from service.infra.db import make_engine

ROWS = 1_000_000
"""Unless N= says otherwise."""
LEAST = 20_000
SMALL = 10_000
"""With what the memory is compared."""
RSS_RATIO_CEILING = 1.25
"""How much more memory the long report may take at the peak than the small one. It is the same work; the rest is noise."""
FORMATS = ("csv", "xlsx", "parquet")
WAYS = ("stream", "job")


@dataclass(frozen=True, slots=True)
class Run:
    """One report, written in a process of its own. rss_mib: of that process at its peak."""

    rows: int
    size_bytes: int
    seconds: float
    rss_mib: float


def bench(n: int | None, ceiling: float | None) -> bool:
    """Make n commissions, write them every way there is, and compare. Returns whether memory stayed the same."""
    number, most = max(n or ROWS, LEAST), RSS_RATIO_CEILING if ceiling is None else ceiling
    small: dict[tuple[str, str], Run] = {}
    large: dict[tuple[str, str], Run] = {}
    with database() as postgres:
        engine = make_engine(postgres.url, pool_size=2, application_name="koc bench")
        now = datetime.now(UTC)
        few, many = (fill(engine, commissions, now=now) for commissions in (SMALL, number))
        engine.dispose()
        for way in WAYS:
            for form in FORMATS:
                small[way, form] = _run(postgres, way, form, few)
                large[way, form] = _run(postgres, way, form, many)
                show.say(f"{form}, {way}: {large[way, form].seconds:.1f} s")
        baseline_small, baseline = (_run(postgres, "orm", "csv", merchant_id) for merchant_id in (few, many))
    wrong = [run for run in (*large.values(), baseline) if run.rows != number]
    ratios = {key: large[key].rss_mib / small[key].rss_mib for key in large}
    show.table(
        f"The commissions report of {number:,} rows; MiB at the peak, beside those of {SMALL:,} rows",
        ("way", "format", "seconds", "rows/s", "MiB", "peak", "few", "ratio"),
        [
            *((way, form, *_figures(large[way, form], small[way, form])) for way in WAYS for form in FORMATS),
            ("ORM", "csv", *_figures(baseline, baseline_small)),
        ],
        left=2,
    )
    show.result(
        "reports",
        rows=number,
        **{f"{form}_rss_ratio": f"{max(ratios[way, form] for way in WAYS):.2f}" for form in FORMATS},
        **{f"{form}_rows_s": round(number / large["stream", form].seconds) for form in FORMATS},
        **{f"{form}_job_rows_s": round(number / large["job", form].seconds) for form in FORMATS},
        **{f"{form}_rss_mib": round(max(large[way, form].rss_mib for way in WAYS)) for form in FORMATS},
        orm_rows_s=round(number / baseline.seconds),
        orm_rss_ratio=f"{baseline.rss_mib / baseline_small.rss_mib:.2f}",
        orm_rss_mib=round(baseline.rss_mib),
    )
    for run in wrong:
        show.say(f"{run.rows} rows were written, not {number}.")
    for key, ratio in ratios.items():
        if ratio > most:
            show.say(f"{' '.join(key)} took {ratio:.2f} times the memory of {SMALL:,} rows; at most {most:g} is good.")
    return not wrong and max(ratios.values()) <= most


def _figures(large: Run, small: Run) -> tuple[str, ...]:
    return (
        f"{large.seconds:.1f}",
        f"{large.rows / large.seconds:,.0f}",
        f"{large.size_bytes / 2**20:,.0f}",
        f"{large.rss_mib:.0f}",
        f"{small.rss_mib:.0f}",
        f"{large.rss_mib / small.rss_mib:.2f}",
    )


def _run(postgres: Database, way: str, form: str, merchant_id: UUID) -> Run:
    """Write one in a child process, so that what it takes at its peak is its own."""
    command = [sys.executable, "-m", "bench.reports_child", postgres.url, way, form, str(merchant_id)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ConnectionError(f"The child ended with {process.returncode}: {said}")
    rows, size_bytes, seconds = said.split()
    assert float(seconds) <= time.monotonic() - began
    return Run(int(rows), int(size_bytes), float(seconds), usage.ru_maxrss / 1024)
