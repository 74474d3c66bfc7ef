"""The command koc, as a person or a script calls it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from service.infra import embedded_postgres, ids
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.ledger.chain import chain
from tests.support import forked
from tests.support.imports import FILES, PRESETS
from tests.support.shop import SECRET_KEY, Shop

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


def environment(database_url: str, **more: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "KOC_SECRET_KEY": SECRET_KEY, "COLUMNS": "200", **more}


def koc(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return forked.koc(*arguments, env=env, patience_s=PATIENCE_S)


@dataclass
class Running:
    """A command that runs until the block ends. returncode, told: how it ended and what it said, afterwards."""

    returncode: int | None = None
    told: str = ""


@contextlib.contextmanager
def running(*arguments: str, database_url: str) -> Iterator[Running]:
    """Start a command, ask it to end when the block ends, and end it when it does not."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(database_url), stderr=said)
        running = Running()
        try:
            yield running
            process.send_signal(signal.SIGTERM)
            running.returncode = process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            said.seek(0)
            running.told = said.read()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def fetched(url: str) -> str:
    """Return what a starting server answers, once it does."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < ends, f"{url} did not answer"
            time.sleep(0.1)


def test_help_teaches_the_first_steps(database_url: str) -> None:
    answer = koc("--help", env=environment(database_url))

    assert answer.returncode == 0
    assert "koc operator-key" in answer.stdout
    assert all(verb in answer.stdout for verb in ("serve", "worker", "migrate", "check-books", "openapi"))


def test_an_operators_key_is_alone_on_the_output_and_opens_the_door(shop: Shop, database_url: str) -> None:
    answer = koc("operator-key", "--name", "Ann", env=environment(database_url))

    key = answer.stdout.strip()
    made = shop.client.get("/v1/merchants", headers={"Authorization": f"Bearer {key}"})
    assert answer.returncode == 0, answer.stderr
    assert key.startswith("koc_live_")
    assert made.status_code == 200
    assert key not in answer.stderr


def test_operators_keys_are_listed_and_withdrawn_and_the_trail_has_both(shop: Shop, database_url: str) -> None:
    key = koc("operator-key", "--name", "Ann", env=environment(database_url)).stdout.strip()

    listed = koc("operator-keys", env=environment(database_url))
    [line] = [line for line in listed.stdout.splitlines() if "Ann" in line]
    key_id = next(word for word in line.split() if word.startswith("key_"))
    revoked = koc("revoke-operator-key", key_id, env=environment(database_url))
    unknown = koc("revoke-operator-key", "key_" + "0" * 26, env=environment(database_url))

    assert key not in listed.stdout
    assert (revoked.returncode, unknown.returncode) == (0, 2)
    answer = shop.client.get("/v1/merchants", headers={"Authorization": f"Bearer {key}"})
    assert answer.json()["code"] == "revoked-key"
    rows = shop.get("/v1/operator/audit", by="operator").json()["data"]
    assert [(row["operation"], row["subject"]) for row in rows[:2]] == [
        ("koc revoke-operator-key", key_id),
        ("koc operator-key", key_id),
    ]


def test_books_that_agree_are_said_to(shop: Shop, database_url: str) -> None:
    affiliate = shop.an_affiliate()
    shop.an_order(coupon_codes=[shop.a_coupon(affiliate)["code"]])

    answer = koc("check-books", env=environment(database_url))

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "The books agree." in answer.stdout


def test_books_that_do_not_agree_are_shown_and_fail(shop: Shop, engine: Engine, database_url: str) -> None:
    affiliate = shop.an_affiliate()
    shop.an_order(coupon_codes=[shop.a_coupon(affiliate)["code"]])
    with unit_of_work(engine) as session:
        execute(session, "UPDATE balance SET amount_minor = amount_minor + 1")

    answer = koc("check-books", "--merchant", shop.id, env=environment(database_url))

    assert answer.returncode == 1
    assert "balance" in answer.stdout
    assert affiliate["id"] in answer.stdout


def test_the_head_of_the_chain_is_said_and_proves_later_that_nothing_was_rewritten(
    shop: Shop, engine: Engine, database_url: str
) -> None:
    env = environment(database_url)
    code = shop.a_coupon(shop.an_affiliate())["code"]
    shop.an_order(coupon_codes=[code])
    head = run_unit(engine, lambda session: chain(session, ids.decode("mer", shop.id), now=utc_now())).head
    shop.an_order(coupon_codes=[code])

    said = koc("check-books", env=env)
    same = koc("check-books", "--merchant", shop.id, "--head", f"1:{head.digest.hex()[:16]}", env=env)
    other = koc("check-books", "--merchant", shop.id, "--head", "1:" + "ab" * 32, env=env)

    assert f"{shop.id}: block 1, 1 postings, digest {head.digest.hex()}, 1 not chained yet" in said.stdout
    assert (said.returncode, same.returncode, other.returncode) == (0, 0, 1)
    assert "chain-head" in other.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--head", "1:" + "ab" * 32), ("--merchant", "mer_" + "0" * 26, "--head", "1:ab")],
    ids=["nobody's", "too short"],
)
def test_a_head_that_cannot_be_looked_up_is_a_mistake_of_the_caller(
    database_url: str, arguments: tuple[str, ...]
) -> None:
    answer = koc("check-books", *arguments, env=environment(database_url))

    assert answer.returncode == 2
    assert "--head" in answer.stderr


@pytest.mark.parametrize("arguments", [["check-books"], ["operator-key", "--name", "Ann"]], ids=lambda each: each[0])
def test_a_database_that_is_away_is_not_mistaken_for_books_that_do_not_agree(arguments: list[str]) -> None:
    answer = koc(*arguments, env=environment(f"postgresql+psycopg://koc@127.0.0.1:{free_port()}/koc"))

    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "run the command again" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("merchant", ["nonsense", "mer_" + "0" * 26])
def test_books_of_nobody_are_a_mistake_of_the_caller(database_url: str, merchant: str) -> None:
    answer = koc("check-books", "--merchant", merchant, env=environment(database_url))

    assert answer.returncode == 2
    assert "merchant" in answer.stderr


def test_the_description_is_printed_without_a_database() -> None:
    answer = koc("openapi", env={**os.environ})

    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["openapi"].startswith("3.1")


def test_migrating_again_is_harmless(database_url: str) -> None:
    answer = koc("migrate", env=environment(database_url))

    assert answer.returncode == 0, answer.stderr
    assert "revision" in answer.stderr


NEEDS_DATA = [
    ["operator-key", "--name", "Ann"],
    ["operator-keys"],
    ["revoke-operator-key", "key_" + "0" * 26],
    ["check-books"],
    ["import", "--source", "src_" + "0" * 26, "--mapping", str(PRESETS / "generic.toml"), str(FILES / "generic.csv")],
    ["export", "--merchant", "mer_" + "0" * 26, "--out", "/nowhere"],
    ["worker"],
    ["migrate"],
]


@pytest.mark.parametrize("arguments", NEEDS_DATA, ids=lambda each: each[0])
def test_where_nobody_has_served_yet_other_commands_make_no_database(arguments: list[str], tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    answer = koc(*arguments, env={**os.environ, "KOC_DATA_DIR": str(nowhere)})

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"There is no data in {nowhere}. Run this in the folder where `koc serve` runs")
    assert not nowhere.exists()


def test_commands_find_the_database_that_was_made_in_their_folder() -> None:
    # Not in a folder of pytest's, which is closed to the account that PostgreSQL runs as when we are root.
    with tempfile.TemporaryDirectory(prefix="koc-cli-", dir="/tmp") as folder:
        data_dir = Path(folder) / "data"
        env = {**os.environ, "KOC_DATA_DIR": str(data_dir)}
        Path(folder).chmod(0o755)
        with embedded_postgres.start(data_dir, settings={"fsync": "off"}):
            beside = koc("operator-key", "--name", "Ann", env=env)
        later = koc("operator-keys", env=env)
        strange = koc(*NEEDS_DATA[4], env=env)

    assert (beside.returncode, later.returncode) == (0, 0), beside.stderr + later.stderr
    assert "Ann" in later.stdout
    assert strange.returncode == 2
    assert f"It was looked for in the database below {data_dir}." in strange.stderr


def test_a_port_that_is_taken_is_named_before_a_database_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        answer = koc("serve", "--port", str(port), env={**os.environ, "KOC_DATA_DIR": str(tmp_path)})

    assert answer.returncode == 2
    assert answer.stderr.startswith(f"Port {port} of 127.0.0.1 cannot be listened on")
    assert all(way in answer.stderr for way in ("--port", "KOC_PORT", "KOC_PUBLIC_URL"))
    assert not (tmp_path / "database").exists()


def test_a_missing_secret_is_named(database_url: str) -> None:
    answer = koc("serve", env=environment(database_url, KOC_SECRET_KEY=""))

    assert answer.returncode == 2
    assert "KOC_SECRET_KEY" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_server_with_its_worker_answers_and_ends_when_asked(database_url: str) -> None:
    port = free_port()
    with running("serve", "--port", str(port), "--with-worker", database_url=database_url) as server:
        ready = json.loads(fetched(f"http://127.0.0.1:{port}/readyz"))

    assert ready["status"] == "ready"
    assert server.returncode == 0, server.told
    assert "GET /readyz" not in server.told


def test_two_server_processes_count_together(database_url: str) -> None:
    port = free_port()
    counter = 'koc_http_requests_total{operation="get_health",status="2xx"} '
    with running("serve", "--port", str(port), "--workers", "2", database_url=database_url) as server:
        for _ in range(20):
            fetched(f"http://127.0.0.1:{port}/healthz")
        scrapes = [fetched(f"http://127.0.0.1:{port}/metrics") for _ in range(6)]

    counted = {float(scrape.split(counter)[1].split()[0]) for scrape in scrapes}
    assert len(counted) == 1
    assert counted.pop() >= 20
    assert server.returncode == 0


def test_a_worker_ends_when_asked(engine: Engine, database_url: str) -> None:
    at_work = "SELECT pid FROM pg_stat_activity WHERE application_name = 'koc worker' AND datname = current_database()"
    ends = time.monotonic() + PATIENCE_S
    with running("worker", database_url=database_url) as worker:
        while time.monotonic() < ends:
            with read_session(engine) as session:
                if fetch(session, at_work):
                    break
            time.sleep(0.1)

    assert worker.returncode == 0, worker.told
    assert "Traceback" not in worker.told
