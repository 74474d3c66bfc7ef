"""Real processes, killed where Stripe is asked for accounts and where it tells: one account each, nothing told is lost."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import Connection

from service.infra.crash import VARIABLE, CrashPoint
from service.infra.settings import Settings
from tests.doubles.stripe import StripeDouble, deliver
from tests.support import databases
from tests.support.running import DIES_S, Mortal, mortal_web, mortal_worker
from tests.support.shop import SECRET_KEY, Json, Shop

ACCOUNTS = (CrashPoint.ACCOUNT_CLAIMED, CrashPoint.ACCOUNT_MADE)
DOOR = (CrashPoint.PROVIDER_EVENT_BEFORE_COMMIT,)
APPLIED = (CrashPoint.PROVIDER_EVENTS_READ, CrashPoint.PROVIDER_EVENTS_BEFORE_COMMIT)
SECRET = "whsec_secret_of_our_endpoint"


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as double:
        yield double


@pytest.fixture
def told(stripe: StripeDouble) -> dict[str, str]:
    """The variables of a service that Stripe's double serves and tells."""
    return {
        "KOC_STRIPE_SECRET_KEY": "sk_test_crash",
        "KOC_STRIPE_API_BASE": stripe.url,
        "KOC_STRIPE_WEBHOOK_SECRET": SECRET,
    }


@pytest.fixture
def settings(database_url: str, stripe: StripeDouble) -> Settings:
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        stripe_secret_key="sk_test_crash",
        stripe_api_base=stripe.url,
    )


def test_an_account_is_made_once_and_what_is_told_of_it_is_applied_through_every_death(
    shop: Shop, database_url: str, stripe: StripeDouble, told: dict[str, str], tmp_path: Path
) -> None:
    ann = shop.an_affiliate("Ann", country="US", paid_to=None)
    path = f"/v1/affiliates/{ann['id']}/stripe-account"
    for point in ACCOUNTS:
        with mortal_web(database_url, log=tmp_path / "web.log", **{VARIABLE: point.value}, **told) as web:
            assert _asked(web, shop, path) is None, point
            assert web.death() == -signal.SIGKILL, point
    account = shop.post(path).json()
    assert list(stripe.bank.accounts) == [account["account_id"]]
    with stripe.bank.lock:
        stripe.bank.onboard(account["account_id"])

    for point in DOOR:
        with mortal_web(database_url, log=tmp_path / "web.log", **{VARIABLE: point.value}, **told) as web:
            assert _delivered(web, stripe) == 0, point
            assert web.death() == -signal.SIGKILL, point
    with databases.connect(database_url) as table:
        assert _states(table) == []
        with mortal_web(database_url, log=tmp_path / "web.log", **told) as web:
            assert _delivered(web, stripe) == len(stripe.events)

        for point in APPLIED:
            with mortal_worker(database_url, log=tmp_path / "worker.log", **{VARIABLE: point.value}, **told) as worker:
                assert worker.death() == -signal.SIGKILL, point
            assert set(_states(table)) == {"waiting"}, point
            table.execute("UPDATE service_job SET lease_until = NULL, owner = NULL, due_at = now()")
        with mortal_worker(database_url, log=tmp_path / "worker.log", **told) as worker:
            _until_applied(table, worker)

    assert shop.get(path).json()["ready"]
    assert [each["type"] for each in shop.get("/v1/events").json()["data"]].count("stripe_account.ready") == 1


def _asked(web: Mortal, shop: Shop, path: str) -> Json | None:
    """What a process answers to a POST; None when it died instead."""
    headers = {"content-type": "application/json", **shop.key_of("admin")}
    asked = urllib.request.Request(web.url + path, b"{}", headers)
    try:
        with urllib.request.urlopen(asked, timeout=DIES_S) as answer:
            answered: Json = json.load(answer)
            return answered
    except urllib.error.HTTPError:
        raise
    except OSError:
        return None


def _delivered(web: Mortal, stripe: StripeDouble) -> int:
    """How many of the double's events a process acknowledges."""

    def post(body: bytes, headers: dict[str, str]) -> int:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{web.url}/providers/stripe/events", body, headers), timeout=DIES_S
            ) as answer:
                return int(answer.status)
        except OSError:
            return 0

    return deliver(stripe.bank, post, SECRET)


def _states(table: Connection) -> list[str]:
    return [state for (state,) in table.execute("SELECT state FROM provider_event ORDER BY id").fetchall()]


def _until_applied(table: Connection, worker: Mortal) -> None:
    deadline = time.monotonic() + DIES_S
    while set(_states(table)) != {"applied"}:
        assert worker.process.poll() is None, worker.log.read_text()[-4000:]
        assert time.monotonic() < deadline, f"it did not get there:\n{worker.log.read_text()[-4000:]}"
        time.sleep(0.1)
