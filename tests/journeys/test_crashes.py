"""Real processes, killed with SIGKILL at every crash point, and started again: nothing acknowledged is lost, nothing doubled.

Each test sends one process after the other through the points of its part. The next process is the restart after the
last one's death: it first finishes what was left, and then dies at the next point.
"""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from psycopg import Connection
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra import ids
from service.infra.crash import VARIABLE, CrashPoint
from service.infra.db import read_session
from service.infra.settings import Settings
from service.ledger.audit import check
from service.payouts.wake import RECONCILE
from service.reports.recheck import recheck
from tests.doubles.receiver import Receiver
from tests.doubles.stripe import StripeDouble
from tests.journeys.test_crashes_stripe import ACCOUNTS, APPLIED, DOOR
from tests.support import databases
from tests.support.running import DIES_S, Mortal, mortal_web, mortal_worker
from tests.support.shop import SECRET_KEY, Shop, sign

Json = dict[str, Any]

INTAKE = (
    CrashPoint.INTAKE_VERIFIED,
    CrashPoint.INTAKE_BATCH_TAKEN,
    CrashPoint.INTAKE_FILED,
    CrashPoint.INTAKE_LOCKED,
    CrashPoint.INTAKE_FACTS,
    CrashPoint.INTAKE_POSTED,
    CrashPoint.INTAKE_BEFORE_COMMIT,
    CrashPoint.INTAKE_COMMITTED,
)
SETTLE = (
    CrashPoint.SETTLE_BEGUN,
    CrashPoint.SETTLE_LOCKED,
    CrashPoint.SETTLE_STORED,
    CrashPoint.SETTLE_BEFORE_COMMIT,
    CrashPoint.SETTLE_COMMITTED,
)
REQUESTS: tuple[tuple[CrashPoint, tuple[str, ...], list[str]], ...] = (
    (CrashPoint.RESERVE_BEFORE_COMMIT, ("make",), []),
    (CrashPoint.REQUEST_COMMITTED, ("make",), ["draft"]),
    (CrashPoint.SUBMIT_BEFORE_COMMIT, ("submit",), ["draft"]),
    (CrashPoint.APPROVE_BEFORE_COMMIT, ("submit", "approve"), ["submitted"]),
    (CrashPoint.EXECUTE_BEFORE_COMMIT, ("approve", "execute"), ["approved"]),
    (CrashPoint.RELEASE_BEFORE_COMMIT, ("execute", "cancel"), ["executing"]),
)
"""Where a process dies, what it is asked until then, and the status of all runs that is left."""
SENDING = (
    CrashPoint.PLAN_BEFORE_COMMIT,
    CrashPoint.PLANNED,
    CrashPoint.LEASED,
    CrashPoint.LOOKED_UP,
    CrashPoint.ASKED,
    CrashPoint.ANSWERED,
    CrashPoint.RECORD_STORED,
    CrashPoint.RECORD_BEFORE_COMMIT,
    CrashPoint.RECORDED,
    CrashPoint.CLOSE_BEFORE_COMMIT,
    CrashPoint.ADVANCED,
)
BACK = (CrashPoint.RECONCILE_BEFORE_COMMIT,)
WEBHOOKS = (
    CrashPoint.WEBHOOK_FANNED_OUT,
    CrashPoint.WEBHOOK_CLAIMED,
    CrashPoint.WEBHOOK_ANSWERED,
    CrashPoint.WEBHOOK_RECORD_BEFORE_COMMIT,
)
LOOPBACK = "127.0.0.0/8"
"""Where the receiver of webhooks is."""
ANSWERS = (CrashPoint.ANSWER_KEPT, CrashPoint.ANSWER_CLAIMED)

SENDERS = 3
ROUND_MAX = 400
"""Most orders of one sender while a process is about to die; it dies at the first few."""


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as double:
        yield double


@pytest.fixture
def settings(database_url: str, stripe: StripeDouble) -> Settings:
    """Return settings with which the surviving process of each test can pay by Stripe's double."""
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        stripe_secret_key="sk_test_crash",
        stripe_api_base=stripe.url,
        webhook_allow_networks=LOOPBACK,
    )


@pytest.fixture
def table(database_url: str) -> Iterator[Connection]:
    """Yield a connection for what only a test can do: let hours pass."""
    with databases.connect(database_url) as connection:
        yield connection


def test_every_crash_point_has_its_death_here() -> None:
    tried = [*INTAKE, *SETTLE, *(point for point, _, _ in REQUESTS), *SENDING, *BACK, *WEBHOOKS, *ANSWERS]
    tried += [*ACCOUNTS, *DOOR, *APPLIED]

    assert sorted(tried) == sorted(CrashPoint)


# Orders come in.


@dataclass
class Sender:
    """A shop that keeps what it has to say until it was answered, and then says it again under the same id."""

    shop: Shop
    acknowledged: list[str] = field(default_factory=list)
    """Orders, as they were answered 200."""
    unanswered: dict[str, bytes] = field(default_factory=dict)
    """Bodies by delivery id, which is the order's too."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, url: str, number: str, body: bytes) -> bool:
        """Deliver once; say whether it was acknowledged."""
        source = self.shop.source
        headers = sign(source["secret"], body, delivery_id=number, at=time.time())
        address = f"{url}/intake/{source['source']['id']}"
        with self.lock:
            self.unanswered[number] = body
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=DIES_S) as answer:
                assert answer.status == 200
        except urllib.error.HTTPError:
            # No death answers; a refusal is a mistake of ours or the service's.
            raise
        except OSError:
            return False
        with self.lock:
            del self.unanswered[number]
            self.acknowledged.append(number)
        return True

    def repeat(self, url: str) -> None:
        """Deliver again what nobody answered."""
        for number, body in list(self.unanswered.items()):
            assert self.send(url, number, body), f"{number} was not answered by a process that should live"

    def until_it_dies(self, url: str, orders: Callable[[], tuple[str, bytes]]) -> None:
        """Deliver one new order after the other, over several connections, until the process answers no more."""

        def one_after_the_other() -> None:
            for _ in range(ROUND_MAX):
                with self.lock:
                    number, body = orders()
                if not self.send(url, number, body):
                    return

        threads = [threading.Thread(target=one_after_the_other) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_a_web_process_may_die_anywhere_on_the_way_of_an_order(
    shop: Shop, client: TestClient, database_url: str, tmp_path: Path
) -> None:
    shop.a_coupon(shop.an_affiliate("Lan"), "LAN")
    sender = Sender(shop)
    placed_at = shop.time(hours=1)
    sent = 0

    def an_order() -> tuple[str, bytes]:
        nonlocal sent
        sent += 1
        body = shop.order(f"order-{sent}", coupon_codes=["LAN"], placed_at=placed_at)
        return body["id"], json.dumps(body).encode()

    for point in INTAKE:
        # What is repeated comes by first, each alone; the process dies among the new ones.
        told = f"{point.value}:{len(sender.unanswered) + 2}"
        with mortal_web(database_url, log=tmp_path / "web.log", **{VARIABLE: told}) as web:
            sender.repeat(web.url)
            assert _exactly_once(shop, sender.acknowledged), f"after the restart before {point}"
            sender.until_it_dies(web.url, an_order)
            assert web.death() == -signal.SIGKILL, point
        assert sender.unanswered, f"{point} was not reached while somebody waited for an answer"
        assert _findings(shop, client) == [], f"right after the death at {point}"

    with mortal_web(database_url, log=tmp_path / "web.log") as web:
        sender.repeat(web.url)

    assert len(sender.acknowledged) == sent
    assert _exactly_once(shop, sender.acknowledged)
    assert _findings(shop, client) == []


def _exactly_once(shop: Shop, orders: list[str]) -> bool:
    """Whether just these orders are known, each earned ten dollars, and its postings come to just that."""
    known = _all(shop, "/v1/commissions")
    earned = sum(each["target"]["amount_minor"] for each in known)
    balance = shop.get("/v1/balances").json()["data"]
    posted = sum(each["pending"]["amount_minor"] for each in balance)
    return (
        sorted(each["order_external_id"] for each in known) == sorted(orders) == sorted(set(orders))
        and all(each["target"]["amount_minor"] == 1000 for each in known)
        and earned == posted
    )


def _all(shop: Shop, path: str) -> list[Json]:
    found: list[Json] = []
    query: Json = {"limit": 200}
    while True:
        page = shop.get(path, **query).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        query["cursor"] = page["next_cursor"]


# Money becomes payable.


def test_a_worker_may_die_anywhere_in_a_settlement(
    shop: Shop, client: TestClient, database_url: str, table: Connection, tmp_path: Path
) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    delivered = 0
    for point in SETTLE:
        for _ in range(3):
            shop.an_order(coupon_codes=["LAN"])
            delivered += 1
        shop.advance(days=15)
        before = _place(shop, lan, "payable")
        with mortal_worker(database_url, log=tmp_path / "worker.log", **{VARIABLE: point.value}) as worker:
            assert worker.death() == -signal.SIGKILL, point
        settled = delivered * 1000 if point is CrashPoint.SETTLE_COMMITTED else before
        assert _place(shop, lan, "payable") == settled, point
        assert _place(shop, lan, "pending") == delivered * 1000 - settled, point
        assert _findings(shop, client) == [], point
        _let_leases_end(table)

    shop.an_order(coupon_codes=["LAN"])
    shop.advance(days=15)
    with mortal_worker(database_url, log=tmp_path / "worker.log") as worker:
        _until(lambda: _place(shop, lan, "pending") == 0, worker)

    assert _place(shop, lan, "payable") == (delivered + 1) * 1000
    assert _findings(shop, client) == []


def _place(shop: Shop, affiliate: Json, place: str) -> int:
    [balance] = [each for each in _all(shop, "/v1/balances") if each["affiliate_id"] == affiliate["id"]]
    return int(balance[place]["amount_minor"])


def _let_leases_end(table: Connection) -> None:
    """Let the quarter of an hour pass in which a dead worker's job is kept for it, and the ten minutes of an attempt."""
    table.execute("UPDATE job SET lease_until = now() - interval '1 s', due_at = now() WHERE owner IS NOT NULL")
    table.execute("UPDATE payout_attempt SET lease_until = now() - interval '1 s' WHERE outcome = 'in_flight'")
    table.execute("UPDATE payout_attempt SET next_at = now() WHERE outcome IN ('in_flight', 'unknown')")


# People make a run.


def test_a_web_process_may_die_at_every_step_of_a_payout_run(
    shop: Shop, client: TestClient, database_url: str, stripe: StripeDouble, tmp_path: Path
) -> None:
    payees = _payees(shop, stripe)

    for point, steps, left in REQUESTS:
        told = {VARIABLE: point.value, **_rail(stripe)}
        with mortal_web(database_url, log=tmp_path / "web.log", **told) as web:
            # The last of them is where it dies; those before were left undone by the death before.
            assert [_ask(shop, step, web) for step in steps][-1] is None, point
            assert web.death() == -signal.SIGKILL, point
        assert [run["status"] for run in _all(shop, "/v1/payout-runs")] == left, point
        assert _findings(shop, client) == [], point
    with mortal_web(database_url, log=tmp_path / "web.log", **_rail(stripe)) as web:
        assert _ask(shop, "make", web) == 409
        assert _ask(shop, "cancel", web) == 200

    assert [run["status"] for run in _all(shop, "/v1/payout-runs")] == ["cancelled"]
    assert {_place(shop, payee, "payable") for payee in payees} == {1000}
    assert _findings(shop, client) == []


# A caller repeats a request under its key.


def test_a_request_repeated_under_its_key_after_a_death_is_done_once(
    shop: Shop, client: TestClient, database_url: str, table: Connection, tmp_path: Path
) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    shop.an_order(coupon_codes=["LAN"])
    shop.advance(days=15)
    register = ("/v1/affiliates", {"name": "Minh"}, "admin")
    settle: tuple[str, Json, str] = ("/v1/jobs/settle", {}, "finance-maker")

    def again(path: str, body: Json, by: str) -> Any:
        headers = {"content-type": "application/json", "Idempotency-Key": "once", **shop.key_of(by)}
        return client.post(path, content=json.dumps(body).encode(), headers=headers)

    def die(point: CrashPoint, path: str, body: Json, by: str) -> None:
        with mortal_web(database_url, log=tmp_path / "web.log", **{VARIABLE: point.value}) as web:
            headers = {"content-type": "application/json", "Idempotency-Key": "once", **shop.key_of(by)}
            asked = urllib.request.Request(web.url + path, json.dumps(body).encode(), headers)
            with pytest.raises(OSError):  # noqa: PT011 - a connection may end in many ways; none of them is an answer
                urllib.request.urlopen(asked, timeout=DIES_S)
            assert web.death() == -signal.SIGKILL, point

    # Neither the effect nor the claim is left of what was not committed.
    die(CrashPoint.ANSWER_KEPT, *register)
    assert [each["name"] for each in _all(shop, "/v1/affiliates")] == ["Lan"]
    assert table.execute("SELECT 1 FROM kept_answer").fetchall() == []

    # Of what was committed both are there.
    die(CrashPoint.REQUEST_COMMITTED, *register)
    told = again(*register)
    assert (told.status_code, told.headers.get("idempotency-replayed")) == (201, "true")
    assert [each["name"] for each in _all(shop, "/v1/affiliates")] == ["Minh", "Lan"]

    # A request that runs several units of work has its claim until the lease ends.
    die(CrashPoint.ANSWER_CLAIMED, *settle)
    assert again(*settle).json()["code"] == "idempotency-key-in-flight"
    table.execute("UPDATE kept_answer SET lease_until = now() - interval '1 s'")
    assert again(*settle).json()["settled"] == 1
    assert again(*settle).headers["idempotency-replayed"] == "true"
    assert _place(shop, lan, "payable") == 1000
    assert _findings(shop, client) == []


# A worker sends it.


def test_a_worker_may_die_anywhere_in_a_payout_run_and_everybody_is_paid_once(
    shop: Shop, client: TestClient, database_url: str, stripe: StripeDouble, table: Connection, tmp_path: Path
) -> None:
    payees = _payees(shop, stripe)
    for step in ("make", "submit", "approve", "execute"):
        assert _ask(shop, step) in {200, 201, 202}, step
    paid_before = len(stripe.transfers)

    # One run goes through all of these deaths.
    for point in SENDING:
        told = {VARIABLE: point.value, **_rail(stripe)}
        with mortal_worker(database_url, log=tmp_path / "worker.log", **told) as worker:
            assert worker.death() == -signal.SIGKILL, point
        assert _findings(shop, client) == [], point
        _let_leases_end(table)
    with mortal_worker(database_url, log=tmp_path / "worker.log", **_rail(stripe)) as worker:
        _until(lambda: not _jobs(table, "payout_run"), worker)

    [run] = _all(shop, "/v1/payout-runs")
    assert run["status"] == "closed"
    made = stripe.transfers[paid_before:]
    assert sorted(each["amount"] for each in made) == [1000] * len(payees)
    assert len({each["destination"] for each in made}) == len(payees)
    assert {_place(shop, payee, "paid") for payee in payees} == {1000}
    assert _findings(shop, client) == []

    _take_back(stripe, made[0]["id"], 400)
    for point in BACK:
        _ask_rail_now(table)
        with mortal_worker(database_url, log=tmp_path / "worker.log", **{VARIABLE: point.value}, **_rail(stripe)) as it:
            assert it.death() == -signal.SIGKILL, point
        assert sum(_place(shop, payee, "carried") for payee in payees) == 0, point
        assert _findings(shop, client) == [], point
    _ask_rail_now(table)
    with mortal_worker(database_url, log=tmp_path / "worker.log", **_rail(stripe)) as worker:
        _until(lambda: sum(_place(shop, payee, "carried") for payee in payees) > 0, worker)

    assert sorted(_place(shop, payee, "carried") for payee in payees) == [0, 0, 400]
    assert _findings(shop, client) == []


# A worker tells the merchant's own system.


def test_a_worker_may_die_anywhere_in_a_delivery_and_every_event_arrives(
    shop: Shop, database_url: str, table: Connection, tmp_path: Path
) -> None:
    variables = {"KOC_WEBHOOK_ALLOW_NETWORKS": LOOPBACK}
    with Receiver() as receiver:
        endpoint = {"url": receiver.url, "events": ["affiliate.applied"]}
        assert shop.post("/v1/webhook-endpoints", endpoint).status_code == 201
        for point in WEBHOOKS:
            for name in ("Lan", "Minh"):
                assert shop.post("/v1/affiliates", {"name": name}).status_code == 201
            told = {VARIABLE: point.value, **variables}
            with mortal_worker(database_url, log=tmp_path / "worker.log", **told) as worker:
                assert worker.death() == -signal.SIGKILL, point
            _let_leases_end(table)
            table.execute("UPDATE webhook_delivery SET next_at = now() WHERE state = 'sending'")
        with mortal_worker(database_url, log=tmp_path / "worker.log", **variables) as worker:
            _until(lambda: _undelivered(table) == 0, worker)

    events = [each["id"] for each in _all(shop, "/v1/events") if each["type"] == "affiliate.applied"]
    arrived = [each.headers["webhook-id"] for each in receiver.messages]
    assert len(events) == 2 * len(WEBHOOKS)
    assert set(arrived) == set(events)
    # Those of the deaths after the answer arrived twice, and are known by their id.
    assert len(arrived) > len(events)


def _undelivered(table: Connection) -> int:
    [(waiting,)] = table.execute(
        "SELECT (SELECT count(*) FROM webhook_queue) + (SELECT count(*) FROM webhook_delivery WHERE state <> 'delivered')"
    ).fetchall()
    return int(waiting)


def _payees(shop: Shop, stripe: StripeDouble) -> list[Json]:
    """Three affiliates with an account at Stripe and ten dollars payable each."""
    payees = []
    for name in ("Lan", "Minh", "Hoa"):
        affiliate = shop.an_affiliate(name, paid_to=None)
        method = {"rail": "stripe_connect", "destination": stripe.account()}
        assert shop.post(f"/v1/affiliates/{affiliate['id']}/payout-methods", method).is_success
        shop.a_coupon(affiliate, name.upper())
        payees.append(affiliate)
    for affiliate in payees:
        shop.an_order(coupon_codes=[affiliate["name"].upper()])
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle", by="finance-maker").json()["settled"] == len(payees)
    return payees


def _rail(stripe: StripeDouble) -> dict[str, str]:
    return {"KOC_STRIPE_SECRET_KEY": "sk_test_crash", "KOC_STRIPE_API_BASE": stripe.url}


def _ask(shop: Shop, step: str, web: Mortal | None = None) -> int | None:
    """Take a step of the run as finance does. Returns the status answered, None when the process died instead.

    web: the process that is asked; the one of the test itself if it is None.
    """
    by = "finance-checker" if step == "approve" else "finance-maker"
    if step == "make":
        path, body = "/v1/payout-runs", {"rail": "stripe_connect", "currency": "USD", "external_id": "november"}
    else:
        [run] = _all(shop, "/v1/payout-runs")
        path, body = f"/v1/payout-runs/{run['id']}/{step}", {}
    if web is None:
        return int(shop.post(path, body, by=by).status_code)
    headers = {"content-type": "application/json", **shop.key_of(by)}
    asked = urllib.request.Request(web.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=DIES_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
    except OSError:
        return None


def _take_back(stripe: StripeDouble, transfer_id: str, amount: int) -> None:
    with stripe.bank.lock:
        stripe.bank.act("POST", ["transfers", transfer_id, "reversals"], {"amount": str(amount)})


def _ask_rail_now(table: Connection) -> None:
    """Let the hour pass after which a worker compares a closed run with the rail's own list."""
    table.execute("UPDATE job SET lease_until = NULL, owner = NULL, due_at = now() WHERE kind = %s", [RECONCILE])


def _jobs(table: Connection, kind: str) -> int:
    [(waiting,)] = table.execute("SELECT count(*) FROM job WHERE kind = %s", [kind]).fetchall()
    return int(waiting)


def _until(done: Callable[[], bool], worker: Mortal) -> None:
    """Wait until a living worker has done something."""
    deadline = time.monotonic() + DIES_S
    while not done():
        assert worker.process.poll() is None, worker.log.read_text()[-4000:]
        assert time.monotonic() < deadline, f"the worker did not get there:\n{worker.log.read_text()[-4000:]}"
        time.sleep(0.1)


def _findings(shop: Shop, client: TestClient) -> list[object]:
    """What `koc check-books --every` would find."""
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        merchant_id = ids.decode("mer", shop.id)
        return [*check(session, merchant_id), *recheck(session, merchant_id, sample=None)]
