"""Histories through the whole service, with a provider that keeps its word and with one that does not."""

from collections.abc import Iterator

import psycopg
import pytest
from starlette.testclient import TestClient

from service.api import payout_runs
from service.infra.settings import Settings
from tests.support import databases
from tests.support.machine import Machine, play
from tests.support.served_world import ServedWorld
from tests.support.world import Rail


@pytest.fixture
def broom(settings: Settings) -> Iterator[psycopg.Connection]:
    """Yield a connection that wipes the database between two histories."""
    assert settings.database_url is not None
    with databases.connect(settings.database_url) as connection:
        yield connection


def test_no_history_brings_the_service_out_of_step_with_the_oracle(
    client: TestClient, broom: psycopg.Connection
) -> None:
    class ServedMachine(Machine):
        def make_world(self) -> ServedWorld:
            databases.wipe(broom)
            return ServedWorld(client)

    play(ServedMachine, histories=8, steps=30)


def test_no_provider_makes_the_service_pay_twice_or_lose_count(
    client: TestClient, broom: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rails: dict[str, Rail] = {}
    # The API asks its rails only whom they can pay, and in which steps.
    monkeypatch.setattr(payout_runs, "_rails", lambda _: rails)

    class MisledMachine(Machine):
        def make_world(self) -> ServedWorld:
            databases.wipe(broom)
            rails["sandbox"] = Rail()
            return ServedWorld(client, rails["sandbox"])

    play(MisledMachine, histories=8, steps=30)
