"""The service as its users meet it: over HTTP, on the database of the test."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from service.infra.settings import Settings
from service.main import create_app
from tests.support.shop import SECRET_KEY


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return the settings the service under test runs with."""
    return Settings(database_url=database_url, secret_key=SECRET_KEY, db_pool_size=6, db_admission=4)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Yield a client of a running service; what the service raises unexpectedly is its answer, not the test's error."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
