"""What every test may ask for: a clean database (`database_url`, `engine`, `new_database`), a closed network, a `stripe`."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import hypothesis
import psycopg
import pytest
from sqlalchemy import Engine

from service.infra.db import make_engine
from tests.doubles.stripe import StripeDouble
from tests.support import databases, network
from tests.support.stripe import Told

DATABASE_FIXTURES = {"database_url", "engine", "new_database"}

_server = pytest.StashKey[databases.Server]()

hypothesis.settings.register_profile("koc", deadline=None)
# For `make mutants`: a failure is all it asks for, so none is made smaller, and a slow machine is not one.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("koc")


def pytest_configure(config: pytest.Config) -> None:
    network.close()
    # The settings of whoever runs the tests are not the tests'.
    for name in [name for name in os.environ if name.startswith("KOC_") and not name.startswith("KOC_TEST_")]:
        del os.environ[name]
    os.environ.pop("DATABASE_URL", None)
    # Where it is set, each process that a test starts would compile the service anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not hasattr(config, "workerinput") and not databases.is_given():
        config.stash[_server] = databases.Server()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server in config.stash:
        config.stash[_server].stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())) for item in items):
        databases.want_server()
        if _server in config.stash:
            config.stash[_server].start()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: object) -> None:
    """Start PostgreSQL in the controller, in its main thread, before the first test is handed out."""
    config: pytest.Config = node.config  # type: ignore[attr-defined] # xdist's node has no public type
    if databases.server_is_wanted():
        config.stash[_server].start()


@pytest.fixture(scope="session")
def _worker_database() -> Iterator[str]:
    with databases.new_database(migrated=True) as url:
        yield url


@pytest.fixture(scope="session")
def _broom(_worker_database: str) -> Iterator[psycopg.Connection]:
    with databases.connect(_worker_database) as connection:
        yield connection


@pytest.fixture(scope="session")
def _worker_engine(_worker_database: str) -> Iterator[Engine]:
    engine = make_engine(_worker_database, application_name="koc tests")
    yield engine
    engine.dispose()


@pytest.fixture
def database_url(_worker_database: str, _broom: psycopg.Connection) -> str:
    """Return the address of a migrated database without rows, which no other test uses meanwhile."""
    databases.wipe(_broom)
    return _worker_database


@pytest.fixture
def engine(database_url: str, _worker_engine: Engine) -> Iterator[Engine]:
    """Yield an engine on `database_url`. The test must give back every connection."""
    yield _worker_engine
    status = _worker_engine.pool.status()
    assert "Current Checked out connections: 0" in status, f"The test kept a connection: {status}"


@pytest.fixture(scope="session")
def new_database() -> Callable[..., AbstractContextManager[str]]:
    """Return a maker of further databases: `with new_database(migrated=False) as url: ...`."""
    return databases.new_database


@pytest.fixture(scope="session")
def _stripe_server() -> Iterator[StripeDouble]:
    with StripeDouble() as stripe:
        yield stripe


@pytest.fixture
def stripe(_stripe_server: StripeDouble) -> StripeDouble:
    """Return a Stripe of our own over HTTP, as on its first day."""
    _stripe_server.bank.__init__()  # type: ignore[misc] # begins anew
    return _stripe_server


@pytest.fixture
def told(engine: Engine, stripe: StripeDouble) -> Iterator[Told]:
    told = Told.on(engine, stripe)
    yield told
    told.close()
