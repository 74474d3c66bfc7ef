"""The whole service over HTTP on PostgreSQL as the machine's world: signed webhooks, the API, and worker passes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from httpx2 import Response
from starlette.testclient import TestClient

from service.api.deps import Service
from service.commissions.reassess import reassess_due
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session
from service.intake.receive import reading_of
from service.ledger.audit import check
from service.payouts.providers.model import Rail as AnyRail
from service.payouts.providers.sandbox import SandboxRail
from service.payouts.reconcile import compare
from service.reports.recheck import recheck
from service.tracking.find import ClickSigner
from service.worker import Worker, run_pass
from tests.support import statements
from tests.support.oracle import METHOD_WAIT_H, Standing
from tests.support.oracle_due import Key
from tests.support.payouts import Crash
from tests.support.shop import SHOP_URL, Shop
from tests.support.world import Json, Rail, Seen, SeenItem, hash_of, with_ids

# Who asked for what, and when a key or source last did, is noted of refusals too.
_TABLES = """
SELECT tablename FROM pg_tables
WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'audit', 'api_key', 'source') ORDER BY 1
"""
_KINDS = {"carried": "taxed_carry"}
_PLACES = ("pending", "held", "payable", "reserved", "in_transit", "paid", "carried", "withheld")


class ServedWorld:
    """One merchant of a running service. rail: a provider that the machine tells what to do; without, the sandbox."""

    def __init__(self, client: TestClient, rail: Rail | None = None) -> None:
        self.rail = rail
        self.time_zone = "America/New_York"
        self._shop = Shop(client, time_zone=self.time_zone)
        self._service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
        self._merchant_id = ids.decode("mer", self._shop.id)
        self._ids: dict[str, str] = {}
        self._inbox: dict[tuple[str, bytes], str] = {}
        self._commissions: dict[Key, UUID] = {}
        self._items: dict[tuple[str, str], str] = {}
        self._waited = timedelta()
        self.assessed_again = 0
        self._tables: list[str] = []
        for person in ("mia", "noa"):
            asked = {"name": person, "scopes": ["finance-maker", "finance-checker"]}
            self._shop._keys[person] = self._made(self._shop.post("/v1/api-keys", asked))["key"]
        for role in ("read", "finance-maker"):
            self._shop.key_of(role)
        self._ok(self._shop.put("/v1/payout-settings", {"method_wait_h": METHOD_WAIT_H, "shared_accounts": "hold"}))
        _ = self._shop.source
        self.now = (self._shop.now() + timedelta(hours=1)).replace(minute=30, second=0, microsecond=0)
        self._ok(self._shop.post("/v1/test-clock", {"to": _written(self.now)}))

    # Requests.

    @staticmethod
    def _ok(answer: Response) -> bool:
        """Whether it was accepted. It may be refused for what it asks, never for how, and nothing may break."""
        assert answer.is_success or answer.status_code in {403, 409}, answer.text
        return answer.is_success

    def _made(self, answer: Response) -> Json:
        assert self._ok(answer), answer.text
        body: Json = answer.json()
        return body

    def _named(self, name: str, answer: Response, *path: str) -> bool:
        """Keep the id of what was made under the machine's name for it."""
        if not self._ok(answer):
            return False
        made = answer.json()
        for step in path:
            made = made[step]
        self._ids[name] = made["id"]
        return True

    # What is set up.

    def new_terms(self, terms: Json, since: datetime) -> bool:
        terms = with_ids(terms, lambda name: self._ids[name])
        if "program" in self._ids:
            path = f"/v1/programs/{self._ids['program']}/versions"
            return self._ok(self._shop.post(path, {"terms": terms, "valid_from": _written(since)}))
        asked = {
            "name": "Friends",
            "terms": terms,
            "valid_from": _written(since),
            "allowed_domains": ["shop.example"],
            "fallback_url": f"{SHOP_URL}/",
        }
        return self._named("program", self._shop.post("/v1/programs", asked), "program")

    def _affiliate(self, name: str, path: str) -> str:
        return f"/v1/affiliates/{self._ids[name]}{path}"

    def new_affiliate(self, name: str, email: str, kind: str = "koc") -> bool:
        made = self._named(name, self._shop.post("/v1/affiliates", {"name": name, "email": email, "kind": kind}))
        return made and self._ok(self._shop.put(self._affiliate(name, "/tax-profile"), {"rule": "off"}))

    def change_email(self, name: str, email: str) -> bool:
        return self._ok(self._shop.patch(self._affiliate(name, ""), {"email": email}))

    def approve_affiliate(self, name: str, since: datetime) -> bool:
        return self._ok(self._shop.post(self._affiliate(name, "/approve"), {"valid_from": _written(since)}))

    def suspend(self, name: str, since: datetime) -> bool:
        asked = {"valid_from": _written(since), "reason_code": "fraud"}
        return self._ok(self._shop.post(self._affiliate(name, "/suspend"), asked))

    def enroll(self, name: str, since: datetime) -> bool:
        asked = {"program_id": self._ids["program"], "valid_from": _written(since)}
        return self._named(f"enrollment of {name}", self._shop.post(self._affiliate(name, "/enrollments"), asked))

    def leave(self, name: str, since: datetime) -> bool:
        joined = self._ids.get(f"enrollment of {name}")
        if joined is None:
            return False
        path = self._affiliate(name, f"/enrollments/{joined}/end")
        return self._ok(self._shop.post(path, {"valid_from": _written(since)}))

    def new_coupon(self, code: str, owner: str, since: datetime) -> bool:
        asked = {
            "affiliate_id": self._ids[owner],
            "program_id": self._ids["program"],
            "code": code.upper(),
            "valid_from": _written(since),
        }
        return self._named(code, self._shop.post("/v1/coupons", asked))

    def hand_on(self, code: str, owner: str, since: datetime) -> bool:
        asked = {"affiliate_id": self._ids[owner], "valid_from": _written(since)}
        return self._ok(self._shop.post(f"/v1/coupons/{self._ids[code]}/owners", asked))

    def new_link(self, name: str, owner: str) -> bool:
        asked = {"affiliate_id": self._ids[owner], "program_id": self._ids["program"], "url": f"{SHOP_URL}/p/1"}
        answer = self._shop.post("/v1/links", asked)
        self._ids[f"code of {name}"] = answer.json()["code"]
        return self._named(name, answer)

    def click(self, link: str) -> str:
        return self._shop.click({"code": self._ids[f"code of {link}"]})

    def pay_to(self, name: str, account: str) -> bool:
        asked = {"rail": "sandbox", "destination": account}
        return self._ok(self._shop.post(self._affiliate(name, "/payout-methods"), asked))

    def join_agency(self, name: str, agency: str, *, share: str, fee: str) -> bool:
        asked = {"affiliate_id": self._ids[name], "share": share, "fee": fee}
        offer = self._made(self._shop.post(self._affiliate(agency, "/roster"), asked))
        return self._ok(self._shop.post(f"/v1/me/roster-offers/{offer['id']}/accept", by=self._ids[name]))

    def leave_agency(self, name: str) -> bool:
        return self._ok(self._shop.post("/v1/me/roster/leave", by=self._ids[name]))

    def pause(self, effect: str, since: datetime) -> bool:
        path, asked = f"/v1/programs/{self._ids['program']}", {"valid_from": _written(since)}
        if effect == "none":
            return self._ok(self._shop.post(f"{path}/resume", asked))
        return self._ok(self._shop.post(f"{path}/pause", {**asked, "effect": effect, "reason_code": "budget_spent"}))

    def bind(self, email: str, name: str | None, since: datetime, until: datetime | None) -> bool:
        asked: Json = {"customer": {"email": email}, "affiliate_id": None, "valid_from": _written(since)}
        if name is not None:
            asked |= {"affiliate_id": self._ids[name], "program_id": self._ids["program"]}
            asked["until"] = _written(until) if until else None
        return self._ok(self._shop.post("/v1/customer-bindings", asked))

    # What is told.

    def deliver(self, name: str, body: bytes, *, signed: bool = True) -> Json | None:
        answer = self._shop.deliver(body, delivery_id=name, signed=signed)
        if answer.status_code == 401:
            return None
        told = self._made(answer)
        assert (answer.status_code == 202) is (told["state"] == "parked")
        self._inbox[name, body] = told["inbox_id"]
        return told

    def replay(self, name: str, body: bytes) -> bool:
        return self._ok(self._shop.post(f"/v1/inbox/{self._inbox[name, body]}/replay"))

    def larger(self, body: bytes) -> bytes:
        security = self._service.security
        return hash_of(body, reading_of(security, ClickSigner(security), self._merchant_id))

    def _decide(self, key: Key, verb: str, asked: Json) -> bool:
        return self._ok(self._shop.post(f"/v1/commissions/{ids.encode('com', self._commissions[key])}/{verb}", asked))

    def verdict(self, key: Key, amount: int | None, *, reject: bool = False) -> bool:
        if reject:
            return self._decide(key, "reject", {"reason_code": "terms_breach"})
        limit = {} if amount is None else {"amount": {"amount_minor": amount, "currency": key.currency}}
        return self._decide(key, "approve", limit)

    def hold(self, key: Key) -> bool:
        return self._decide(key, "hold", {"reason_code": "quality_check"})

    def release_hold(self, key: Key) -> bool:
        return self._decide(key, "release", {})

    def attribute(self, order: str, payee: str | None) -> bool:
        source = self._shop.source["source"]["id"]
        found = self._rows(
            "SELECT id FROM orders WHERE merchant_id = :merchant_id AND source_id = :source AND external_id = :order",
            source=ids.decode("src", source),
            order=order,
        )
        asked = {"affiliate_id": self._ids[payee] if payee else None, "reason_code": "missing_touch"}
        return self._ok(self._shop.post(f"/v1/orders/{ids.encode('ord', found[0].id)}/attribution", asked))

    # What moves.

    def advance(self, span: timedelta) -> None:
        self._shop.advance(seconds=span.total_seconds())
        self.now += span

    def settle(self) -> None:
        self._made(self._shop.post("/v1/jobs/settle", by="finance-maker"))

    def reserve(self, run: str, currency: str, only: Sequence[str], by: str) -> bool:
        asked = {"rail": "sandbox", "currency": currency, "affiliate_ids": [self._ids[name] for name in only]}
        return self._named(run, self._shop.post("/v1/payout-runs", {**asked, "external_id": run}, by=by))

    def _run(self, run: str, verb: str, by: str) -> bool:
        return self._ok(self._shop.post(f"/v1/payout-runs/{self._ids[run]}/{verb}", by=by))

    def submit(self, run: str, by: str) -> bool:
        return self._run(run, "submit", by)

    def approve(self, run: str, by: str) -> bool:
        return self._run(run, "approve", by)

    def execute(self, run: str) -> bool:
        return self._run(run, "execute", "mia")

    def cancel(self, run: str) -> bool:
        return self._run(run, "cancel", "noa")

    def _item(self, run: str, payee: str, verb: str) -> bool:
        return self._ok(self._shop.post(f"/v1/payouts/{self._items[run, payee]}/{verb}", by="noa"))

    def release(self, run: str, payee: str) -> bool:
        return self._item(run, payee, "release")

    def retry(self, run: str, payee: str, *, confirmed: bool) -> bool:
        return self._item(run, payee, "confirm-resend" if confirmed else "retry")

    def _clock(self) -> datetime:
        return utc_now() + self._waited

    def work(self, owner: str) -> bool:
        rail: AnyRail = self.rail or SandboxRail()
        if self.rail is not None:
            self.rail.now = self._clock()
        with ThreadPoolExecutor(2) as calls:
            worker = Worker(self._service.engine, self._service.security, {"sandbox": rail}, calls, owner, self._clock)
            with suppress(Crash):
                run_pass(worker)
                return True
        return False

    def wait(self, span: timedelta) -> None:
        self._waited += span
        if self.rail is not None:
            self.rail.now = self._clock()
            self.rail.lose_late()

    def reconcile(self) -> None:
        if self.rail is None:
            return
        for name in self._runs():
            compare(
                self._service.engine,
                self.rail,
                merchant_id=self._merchant_id,
                run_id=ids.decode("run", self._ids[name]),
                since=utc_now() - timedelta(days=1),
                now=self._clock(),
            )

    def _runs(self) -> list[str]:
        return [name for name, known in self._ids.items() if known.startswith("run_")]

    # What is seen.

    def _rows(self, statement: str, **asked: Any) -> Sequence[Any]:
        with read_session(self._service.engine) as session:
            return fetch(session, statement, {"merchant_id": self._merchant_id, **asked})

    def see(self) -> Seen:
        # As the worker does twice a minute: whose answer another order changed is assessed again.
        self.assessed_again += reassess_due(self._service.engine, self._merchant_id)
        seen = Seen()
        names = {known: name for name, known in self._ids.items()}
        for row in self._rows(_PERIODS):
            name = f"{row.rule} {row.begins_on}"
            seen.commissions[Key(name, names[ids.encode("aff", row.payee_id)], row.currency)] = Standing(
                row.target_minor, row.pending_minor, row.held_minor, row.settled_minor, row.settles_at
            )
        for row in self._rows(_COMMISSIONS):
            key = Key(row.external_id, names[ids.encode("aff", row.payee_id)], row.currency)
            self._commissions[key] = row.id
            seen.commissions[key] = Standing(
                row.target_minor, row.pending_minor, row.held_minor, row.settled_minor, row.settles_at
            )
        seen.frozen = {row.external_id for row in self._rows(_FROZEN)}
        seen.inbox = {(row.delivery_id, bytes(row.body)): row.state for row in self._rows(_INBOX)}
        for balance in self._all("/v1/balances"):
            kinds = {_KINDS.get(place, place): balance[place]["amount_minor"] for place in _PLACES}
            if any(kinds.values()):
                owner = (names[balance["affiliate_id"]], balance["currency"])
                seen.balances[owner] = {kind: each for kind, each in kinds.items() if each}
        if self._runs():
            seen.runs = {run["external_id"]: run["status"] for run in self._all("/v1/payout-runs")}
            for item in self._all("/v1/payouts"):
                place = (names[item["run_id"]], names[item["affiliate_id"]])
                self._items[place] = item["id"]
                gross, carried, net, came_back = (
                    item[name]["amount_minor"] for name in ("gross", "carried", "net", "came_back")
                )
                seen.items[place] = SeenItem(
                    ids.decode("pay", item["id"]), gross, carried, net, item["status"], came_back
                )
        return seen

    def _all(self, path: str) -> list[Json]:
        page = self._made(self._shop.get(path, by="read", limit=200))
        assert not page["has_more"]
        rows: list[Json] = page["data"]
        return rows

    def check(self) -> list[str]:
        with read_session(self._service.engine) as session:
            return [str(finding) for finding in check(session, self._merchant_id)]

    def digest(self) -> object:
        if not self._tables:
            self._tables = [row.tablename for row in self._rows(_TABLES)]
        each = [
            f"SELECT '{table}' AS name, md5(string_agg(kept, '|' ORDER BY kept)) AS digest"
            f" FROM (SELECT CAST({table} AS text) AS kept FROM {table}) AS rows"
            for table in self._tables
        ]
        return {row.name: row.digest for row in self._rows(" UNION ALL ".join(each))}

    def last_words(self) -> list[str]:
        wrong = []
        with read_session(self._service.engine) as session:
            wrong += [str(finding) for finding in recheck(session, self._merchant_id, sample=None)]
        for (run, payee), item in self._items.items():
            statement = self._made(self._shop.get(f"/v1/payouts/{item}/statement", by="read"))
            moved = sum(line["amount"]["amount_minor"] for line in statement["lines"])
            opening, gross, closing = (statement[name]["amount_minor"] for name in ("opening", "gross", "closing"))
            if opening + moved != gross + closing:
                wrong.append(f"the statement of {payee} in {run}: {opening} + {moved} is not {gross} + {closing}")
        return wrong + self._statements()

    def _statements(self) -> list[str]:
        """What is wrong with statements of all that happened, cut into a few pieces."""
        if not self._rows("SELECT FROM posting WHERE merchant_id = :merchant_id LIMIT 1"):
            return []
        first, last = statements.booked_days(self._service.engine, self._merchant_id)
        cuts = [first + (last - first) * part // 3 for part in (1, 2)]
        return statements.wrong_with(self._service.engine, self._merchant_id, time_zone=self.time_zone, cuts=cuts)


def _written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


_COMMISSIONS = """
SELECT commission.id, orders.external_id, payee_id, currency, target_minor, pending_minor, held_minor, settled_minor,
       settles_at
FROM commission JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
WHERE commission.merchant_id = :merchant_id
"""
_PERIODS = """
SELECT rule, begins_on, commission.payee_id, commission.currency, target_minor, commission.pending_minor,
       commission.held_minor, commission.settled_minor, settles_at
FROM commission JOIN rule_period ON rule_period.merchant_id = commission.merchant_id AND rule_period.id = commission.id
WHERE commission.merchant_id = :merchant_id
  AND (target_minor, commission.pending_minor, commission.held_minor, commission.settled_minor) <> (0, 0, 0, 0)
"""
_FROZEN = """
SELECT external_id FROM assessment
JOIN orders ON orders.merchant_id = assessment.merchant_id AND orders.id = assessment.order_id
WHERE assessment.merchant_id = :merchant_id AND frozen_reason IS NOT NULL AND placed_at IS NOT NULL
"""
_INBOX = """
SELECT delivery_id, body, state FROM inbox JOIN source ON source.id = inbox.source_id
WHERE inbox.merchant_id = :merchant_id AND platform <> 'desk'
"""
