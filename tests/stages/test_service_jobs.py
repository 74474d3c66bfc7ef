"""Jobs of the service itself: there where Stripe is set up, done by one worker at a time, and never lost."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.infra.security import Security
from service.infra.settings import Settings
from service.payouts.hear import APPLY, wake_service
from service.payouts.service_jobs import (
    KINDS,
    Done,
    claim_service,
    finish_service,
    give_back_service,
    schedule_service,
)
from service.worker import run_once
from tests.doubles.stripe import StripeDouble
from tests.support.payouts import Desk
from tests.support.shop import SECRET_KEY
from tests.support.stripe import Told

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEASE = timedelta(minutes=15)


def jobs(engine: Engine) -> dict[str, Any]:
    with read_session(engine) as session:
        return {row.kind: row for row in fetch(session, "SELECT * FROM service_job")}


def settings(database_url: str, **changes: Any) -> Settings:
    return Settings(database_url=database_url, secret_key=SECRET_KEY, **changes)


def test_there_are_none_where_stripe_is_not_set_up(engine: Engine, database_url: str) -> None:
    run_once(engine, settings(database_url), Security(bytes(32)))

    assert jobs(engine) == {}


def test_a_worker_hears_sweeps_and_compares_by_itself(
    engine: Engine, database_url: str, told: Told, stripe: StripeDouble
) -> None:
    desk: Desk = told.desk()
    ann = told.a_payee(desk)
    desk.work(desk.an_executing_run())
    with stripe.bank.lock:
        stripe.bank.act("POST", ["transfers", stripe.transfers[0]["id"], "reversals"], {"amount": "400"})

    chosen = settings(
        database_url,
        stripe_secret_key="sk_test_double",
        stripe_api_base=stripe.url,
        stripe_financial_account="fa_double",
    )
    run_once(engine, chosen, desk.security)

    assert desk.balances(ann) == {"paid": 600, "taxed_carry": 400}
    done = jobs(engine)
    assert set(done) == set(KINDS)
    assert {row.last_error for row in done.values()} == {None}
    assert all(row.due_at > datetime.now(UTC) and row.lease_until is None for row in done.values())
    assert "since" in done["provider_back_fill"].payload
    assert "day" in done["provider_days"].payload


def test_a_job_that_fails_is_tried_again_and_keeps_the_others_from_nothing(
    engine: Engine, database_url: str, told: Told, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the sweep broke")

    monkeypatch.setattr("service.payouts.service_jobs.sweep", broken)

    run_once(
        engine,
        settings(database_url, stripe_secret_key="sk_test_double", stripe_api_base=stripe.url),
        Security(bytes(32)),
    )

    done = jobs(engine)
    assert {kind: row.last_error for kind, row in done.items() if row.last_error} == {"provider_sweep": "RuntimeError"}
    assert done["provider_sweep"].due_at > datetime.now(UTC)


def test_stripe_that_is_away_loses_no_span(engine: Engine, database_url: str) -> None:
    away = settings(database_url, stripe_secret_key="sk_test_double", stripe_api_base="http://127.0.0.1:9")

    run_once(engine, away, Security(bytes(32)))

    done = jobs(engine)
    assert {kind: row.payload for kind, row in done.items()} == {kind: {} for kind in KINDS}
    assert done["provider_back_fill"].due_at < datetime.now(UTC) + timedelta(minutes=6)


def claimed(engine: Engine, owner: str, now: datetime = NOW) -> list[str]:
    take = partial(claim_service, owner=owner, now=now, lease=LEASE)
    return [job.kind for job in run_unit(engine, take)]


def test_one_worker_has_a_job_at_a_time_until_its_lease_ends(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        wake_service(session, APPLY, at=NOW)

    assert claimed(engine, "one") == [APPLY]
    assert claimed(engine, "other") == []
    assert claimed(engine, "other", NOW + LEASE + timedelta(seconds=1)) == [APPLY]


def test_a_worker_that_lost_its_line_gives_back_what_it_claimed(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        wake_service(session, APPLY, at=NOW)
    claimed(engine, "one")

    run_unit(engine, partial(give_back_service, owner="one", now=NOW))

    assert claimed(engine, "other") == [APPLY]


def test_who_wakes_a_job_while_it_is_done_is_heard(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        wake_service(session, APPLY, at=NOW)
    [job] = run_unit(engine, partial(claim_service, owner="one", now=NOW, lease=LEASE))

    with unit_of_work(engine) as session:
        wake_service(session, APPLY, at=NOW + timedelta(seconds=1))
    later = Done(NOW + timedelta(minutes=5), {})
    run_unit(engine, partial(finish_service, job=job, owner="one", done=later))

    assert jobs(engine)[APPLY].due_at == NOW + timedelta(seconds=1)


def test_jobs_are_made_once_and_kept_as_far_as_they_came(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        assert schedule_service(session, now=NOW) == len(KINDS)
        execute(session, """UPDATE service_job SET payload = '{"since": "x"}'""")

    with unit_of_work(engine) as session:
        assert schedule_service(session, now=NOW) == 0

    assert {row.payload["since"] for row in jobs(engine).values()} == {"x"}
