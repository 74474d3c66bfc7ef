"""Fixtures: the service as its users meet it, over HTTP, on the database of the test."""

from collections.abc import Iterator
from functools import lru_cache

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.infra.settings import Settings
from service.main import create_app
from tests.support.shop import SECRET_KEY, Shop


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return the settings the service under test runs with."""
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        # Tests ask faster than people; those of the limits set their own.
        key_rate=100_000,
        key_burst=100_000,
        source_rate=100_000,
        source_burst=100_000,
    )


@lru_cache(maxsize=4)
def _application(settings: Settings) -> FastAPI:
    # The framework takes a third of a second to make its routes; their start and end are per test all the same.
    return create_app(settings)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Yield a client of a running service. An unexpected error of the service is raised in the test."""
    with TestClient(_application(settings)) as client:
        yield client


@pytest.fixture
def shop(client: TestClient) -> Shop:
    """Return a test merchant to build on."""
    return Shop(client)
