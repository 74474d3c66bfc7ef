"""A merchant under test, built and used over HTTP as its users would: `shop = Shop(client)`.

Everything is made with defaults that a test overrides by name. Methods that begin with `a_` make something and return
the answer's JSON; `post`, `get`, … send a request with the key of a role and return the raw answer.
"""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from httpx2 import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.api.api_keys import make_key
from service.api.deps import Service
from service.infra.clock import utc_now
from service.infra.db import unit_of_work
from service.tables.parties import Scope

Json = dict[str, Any]
Headers = dict[str, str]

SECRET_KEY = base64.b64encode(b"secret-of-tests-" * 2).decode()
"""KOC_SECRET_KEY of services under test."""
SHOP_URL = "https://shop.example"
HOLD_DAYS = 14


class Shop:
    """A merchant in UTC with keys for every role, and builders for what it has.

    client: of a running service. operator_key: of a service in another process, whose database we do not reach into.
    is_test: with a clock that `advance` moves. opened: how long ago programmes, enrolments and approvals made before the
    first order begin, so that orders of the days before count.
    """

    def __init__(
        self,
        client: TestClient,
        *,
        operator_key: str | None = None,
        is_test: bool = True,
        time_zone: str = "UTC",
        opened: timedelta = timedelta(days=60),
        name: str = "Shop",
    ) -> None:
        self.client = client
        self._keys: dict[str, str] = {"operator": operator_key or _operator_key(client)}
        self._numbers = count(1)
        self._programs: dict[str, Json] = {}
        self._source: Json | None = None
        made = self.post(
            "/v1/merchants",
            {"name": name, "time_zone": time_zone, "is_test": is_test},
            by="operator",
        ).json()
        self.id: str = made["merchant"]["id"]
        self.opened_at = _moment(made["merchant"]["created_at"]) - opened
        self._keys["admin"] = made["admin_key"]["key"]

    @property
    def engine(self) -> Engine:
        """The database of the running service, where it runs in this process."""
        service: Service = self.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
        return service.engine

    # Who asks.

    def key_of(self, role: str) -> Headers:
        """Return the headers of a role, making its key when it is first asked for.

        role: operator, admin, ingest, finance-maker, finance-checker, read, or a role and a name, such as
        "finance-maker ann", for one of several keys with one scope; or an affiliate's id, for that affiliate's own key.
        """
        if role not in self._keys and role.startswith("operator "):
            self._keys[role] = _operator_key(self.client)
        if role not in self._keys:
            scope = "affiliate" if role.startswith("aff_") else role.partition(" ")[0]
            asked: Json = {"name": role, "scopes": [scope]}
            if scope == "affiliate":
                asked["affiliate_id"] = role
            self._keys[role] = _made(self.post("/v1/api-keys", asked))["key"]
        return {"Authorization": f"Bearer {self._keys[role]}"}

    def get(self, path: str, *, by: str = "admin", **query: Any) -> Response:
        return self.client.get(path, params=query, headers=self.key_of(by))

    def post(self, path: str, body: Json | None = None, *, by: str = "admin") -> Response:
        return self.client.post(path, json={} if body is None else body, headers=self.key_of(by))

    def put(self, path: str, body: Json, *, by: str = "admin") -> Response:
        return self.client.put(path, json=body, headers=self.key_of(by))

    def patch(self, path: str, body: Json, *, by: str = "admin") -> Response:
        return self.client.patch(path, json=body, headers=self.key_of(by))

    def let_out(self, run: Json) -> None:
        """Have a draft run submitted, approved by another person, and executed; a worker sends it then."""
        for verb, by in (("submit", "finance-maker"), ("approve", "finance-checker"), ("execute", "finance-maker")):
            answer = self.post(f"/v1/payout-runs/{run['id']}/{verb}", by=by)
            assert answer.is_success, answer.text

    # Time.

    def now(self) -> datetime:
        """Return the merchant's present by its own clock."""
        return _moment(_made(self.get("/v1/merchant"))["now"])

    def advance(self, **delta: float) -> datetime:
        """Move the merchant's clock forward, `advance(days=15)`; return its present."""
        seconds = int(timedelta(**delta).total_seconds())
        return _moment(_made(self.post("/v1/test-clock", {"advance_s": seconds}))["now"])

    def time(self, **ago: float) -> str:
        """Return a time on the merchant's clock as the API writes it: `time(days=3)` is three days ago."""
        return (self.now() - timedelta(**ago)).isoformat().replace("+00:00", "Z")

    # What the merchant has.

    def a_program(self, *, rate: str = "10", valid_from: datetime | None = None, **terms: Any) -> Json:
        """Make a programme: `rate` percent of everything, 14 days after payment. terms: parts of the terms instead."""
        asked = {
            "name": f"Programme {next(self._numbers)}",
            "terms": {"rules": [{"kind": "percent", "rate": rate}], **terms},
            "valid_from": (valid_from or self.opened_at).isoformat(),
            "allowed_domains": ["shop.example", "*.shop.example"],
            "fallback_url": f"{SHOP_URL}/",
            "disclosure": "I earn from this.",
        }
        program: Json = _made(self.post("/v1/programs", asked))["program"]
        return program

    @property
    def program(self) -> Json:
        """The programme that builders use unless they are told another; made when first asked for."""
        if "default" not in self._programs:
            self._programs["default"] = self.a_program()
        return self._programs["default"]

    def an_affiliate(
        self,
        name: str = "Lan",
        *,
        program: Json | None = None,
        approved: bool = True,
        enrolled: bool = True,
        paid_to: str | None = "sandbox_ok",
        tax: str | None = "off",
        **profile: Any,
    ) -> Json:
        """Register an affiliate, approved, enrolled and with a sandbox account unless told otherwise.

        Before the merchant's first order approval and enrolment begin long ago, after it in five minutes.
        """
        affiliate: Json = _made(self.post("/v1/affiliates", {"name": name, **profile}))
        path = f"/v1/affiliates/{affiliate['id']}"
        valid_from = self._start()
        if approved:
            affiliate = _made(self.post(f"{path}/approve", {"valid_from": valid_from}))
        if enrolled:
            asked = {"program_id": (program or self.program)["id"], "valid_from": valid_from}
            _made(self.post(f"{path}/enrollments", asked))
        if paid_to is not None:
            _made(self.post(f"{path}/payout-methods", {"rail": "sandbox", "destination": paid_to}))
        if tax is not None:
            _made(self.put(f"{path}/tax-profile", {"rule": tax}))
        return affiliate

    def a_link(
        self, affiliate: Json, *, program: Json | None = None, url: str = f"{SHOP_URL}/p/1", **more: Any
    ) -> Json:
        """Make a link of an affiliate."""
        asked = {"affiliate_id": affiliate["id"], "program_id": (program or self.program)["id"], "url": url, **more}
        return _made(self.post("/v1/links", asked))

    def a_coupon(self, affiliate: Json, code: str | None = None, *, program: Json | None = None, **more: Any) -> Json:
        """Make a coupon of an affiliate."""
        asked = {
            "affiliate_id": affiliate["id"],
            "program_id": (program or self.program)["id"],
            "code": code or f"CODE{next(self._numbers)}",
            "valid_from": self._start(),
            **more,
        }
        return _made(self.post("/v1/coupons", asked))

    # What happens.

    def click(self, link: Json) -> str:
        """Follow a link as a visitor; return the signed click id that the shop gets to see."""
        answer = self.client.get(f"/r/{link['code']}", follow_redirects=False)
        assert answer.status_code == 302, answer.text
        return parse_qs(urlsplit(answer.headers["location"]).query)["koc_click"][0]

    def order(self, number: str | None = None, **parts: Any) -> Json:
        """Return a generic order event: one line of 100.00 USD, placed and paid an hour ago. parts: fields instead.

        coupon_codes=[…], click_ids=[…], customer={"email": …} say who brought it. With click_ids it is placed now, for
        a click comes before its order.
        """
        number = number or f"order-{next(self._numbers)}"
        placed_at = parts.pop("placed_at", None) or self.time(hours=0 if "click_ids" in parts else 1)
        return {
            "type": "order",
            "id": number,
            "updated_at": placed_at,
            "placed_at": placed_at,
            "currency": "USD",
            "lines": [{"id": "1", "sku": "sku-1", "quantity": 1, "net": "100.00"}],
            "milestones": {"paid_at": placed_at},
            **parts,
        }

    def refund(self, order: Json, amount: str, refund_id: str | None = None, **parts: Any) -> Json:
        """Return a generic refund event over an amount of an order's goods."""
        at = parts.pop("at", None) or self.time()
        return {
            "type": "refund",
            "id": refund_id or f"refund-{next(self._numbers)}",
            "order_id": order["id"],
            "currency": order["currency"],
            "refunded_at": at,
            "updated_at": at,
            "amount": amount,
            **parts,
        }

    def deliver(self, event: Json | bytes, *, delivery_id: str | None = None, signed: bool = True) -> Response:
        """Post an event to the merchant's generic source as its shop would; signed wrongly if asked."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        source = self.source
        delivery_id = delivery_id or f"msg-{next(self._numbers)}"
        secret = source["secret"] if signed else "whsec_" + base64.b64encode(bytes(32)).decode()
        headers = sign(secret, body, delivery_id=delivery_id, at=time.time())
        return self.client.post(f"/intake/{source['source']['id']}", content=body, headers=headers)

    def an_order(self, number: str | None = None, **parts: Any) -> Json:
        """Deliver an order and return what the service understood."""
        return _made(self.deliver(self.order(number, **parts)))

    @property
    def source(self) -> Json:
        """The generic source, as `{"source": …, "secret": …}`; made when first asked for."""
        if self._source is None:
            self._source = _made(self.post("/v1/sources", {"name": "Shop", "platform": "generic"}))
        return self._source

    def _start(self) -> str | None:
        """When dated inputs begin: long ago while that is allowed, else as early as it is."""
        has_orders = _made(self.get("/v1/merchant"))["first_order_at"] is not None
        return None if has_orders else self.opened_at.isoformat()


def sign(secret: str, body: bytes, *, delivery_id: str, at: float) -> Headers:
    """Return the headers of Standard Webhooks for a body, written here anew so that it checks the service's own."""
    timestamp = str(int(at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, b".".join([delivery_id.encode(), timestamp.encode(), body]), hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


def _operator_key(client: TestClient) -> str:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    with unit_of_work(service.engine) as session:
        return make_key(
            session, merchant_id=None, is_test=False, name="Tests", scopes=[Scope.OPERATOR], at=utc_now()
        ).key


def _made(answer: Response) -> Json:
    assert answer.is_success, answer.text
    body: Json = answer.json()
    return body


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
