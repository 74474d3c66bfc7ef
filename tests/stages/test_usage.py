"""When keys were last used is written aside, for all of them together, once a minute at most."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.api.api_keys import make_key
from service.api.usage import Usage
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.tables.parties import Scope

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def a_key(engine: Engine) -> UUID:
    with unit_of_work(engine) as session:
        made = make_key(session, merchant_id=None, is_test=False, name="Ann", scopes=[Scope.OPERATOR], at=NOON)
    return made.api_key.id


def last_used(engine: Engine, key_id: UUID) -> datetime | None:
    with read_session(engine) as session:
        found: datetime | None = fetch(session, "SELECT last_used_at FROM api_key WHERE id = :id", {"id": key_id})[0][0]
        return found


def test_a_use_is_written_once_a_minute_and_the_last_one_counts(engine: Engine) -> None:
    clock, key_id = Clock(), a_key(engine)
    usage = Usage(engine, clock=clock)
    seen = []

    for second in (0, 15, 30, 45, 60, 75):
        clock.now = NOON + timedelta(seconds=second)
        usage.key_used(key_id)
        usage.write()
        seen.append(last_used(engine, key_id))

    assert seen == [NOON] * 4 + [NOON + timedelta(seconds=60)] * 2


def test_nothing_is_written_of_what_was_not_used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(engine, clock=Clock())
    usage.key_used(a_key(engine))
    usage.write()

    def no_work(_: Engine) -> None:
        raise AssertionError("a unit of work for nothing")

    monkeypatch.setattr("service.api.usage.unit_of_work", no_work)
    usage.write()


def test_a_key_that_somebody_is_revoking_is_passed_over(engine: Engine) -> None:
    clock, held, free = Clock(), a_key(engine), a_key(engine)
    usage = Usage(engine, clock=clock)
    usage.key_used(held)
    usage.key_used(free)

    with unit_of_work(engine) as session:
        execute(session, "UPDATE api_key SET revoked_at = now() WHERE id = :id", {"id": held})
        # Would wait for ever otherwise: the other unit of work ends after this one only.
        usage.write()

    assert (last_used(engine, held), last_used(engine, free)) == (None, NOON)


def test_a_time_never_goes_back(engine: Engine) -> None:
    clock, key_id = Clock(), a_key(engine)
    mine, others = Usage(engine, clock=clock), Usage(engine, clock=clock)
    mine.key_used(key_id)
    clock.now = NOON + timedelta(seconds=5)
    others.key_used(key_id)

    others.write()
    mine.write()

    assert last_used(engine, key_id) == NOON + timedelta(seconds=5)
