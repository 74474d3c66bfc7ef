"""A merchant on a running service, set up and asked over HTTP as its own developer would."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from bench import client
from bench.webhooks import Event, wire

JsonObject = dict[str, Any]

TIMEOUT_S = 60


class Refused(RuntimeError):
    """The service answered something else than was hoped for; the message holds what."""


class Api:
    """The public API with one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self.session = requests.Session()
        self.session.headers["authorization"] = f"Bearer {key}"

    def with_key(self, key: str) -> "Api":
        return Api(self.url, key)

    def get(self, path: str, **query: str | int) -> Any:
        return self._read(self.session.get(self.url + path, params=query, timeout=TIMEOUT_S))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._read(self.session.post(self.url + path, json=body, timeout=TIMEOUT_S))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._read(self.session.put(self.url + path, json=body, timeout=TIMEOUT_S))

    def text(self, path: str, **query: str | int) -> str:
        answer = self.session.get(self.url + path, params=query, timeout=TIMEOUT_S)
        if answer.status_code >= 400:
            self._read(answer)
        return answer.text

    def all(self, path: str, **query: str | int) -> Iterator[JsonObject]:
        """Yield everything of a list, page by page."""
        page = self.get(path, limit=200, **query)
        while True:
            yield from page["data"]
            if not page["has_more"]:
                return
            page = self.get(path, limit=200, cursor=page["next_cursor"], **query)

    def _read(self, answer: requests.Response) -> Any:
        if answer.status_code >= 400:
            raise Refused(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:600]}")
        return answer.json()


@dataclass(slots=True)
class Koc:
    """An approved affiliate in the shop's programme."""

    id: str
    external_id: str
    name: str
    code: str
    link: JsonObject | None = None


@dataclass(slots=True)
class Shop:
    """A test merchant with one programme, one generic source and its KOCs."""

    api: Api
    merchant_id: str
    program_id: str
    webhook_url: str
    secret: str
    kocs: list[Koc] = field(default_factory=list)

    @classmethod
    def opened(
        cls, operator: Api, *, name: str, terms: JsonObject, valid_from: datetime | None = None, time_zone: str = "UTC"
    ) -> "Shop":
        """Make a test merchant with a programme. valid_from: from when on the programme's terms hold."""
        made = operator.post("/v1/merchants", {"name": name, "time_zone": time_zone, "is_test": True})
        api = operator.with_key(made["admin_key"]["key"])
        program = api.post(
            "/v1/programs",
            {
                "name": "Friends",
                "terms": terms,
                "valid_from": _moment(valid_from),
                "allowed_domains": ["shop.example", "*.shop.example"],
                "fallback_url": "https://shop.example/",
                "disclosure": "Advertisement: I earn a commission when you buy.",
            },
        )
        source = api.post("/v1/sources", {"name": "Shop", "platform": "generic"})
        return cls(
            api=api,
            merchant_id=made["merchant"]["id"],
            program_id=program["program"]["id"],
            webhook_url=source["source"]["webhook_url"],
            secret=source["secret"],
        )

    def koc(self, external_id: str, name: str, code: str, *, since: datetime | None = None, **profile: Any) -> Koc:
        """Register, approve and enrol a KOC and give it a coupon code. since: from when on all of that counts."""
        affiliate = self.api.post("/v1/affiliates", {"external_id": external_id, "name": name, **profile})
        path, valid_from = f"/v1/affiliates/{affiliate['id']}", {"valid_from": _moment(since)}
        self.api.post(f"{path}/approve", valid_from)
        self.api.post(f"{path}/enrollments", {"program_id": self.program_id, **valid_from})
        self.api.post(
            "/v1/coupons", {"affiliate_id": affiliate["id"], "program_id": self.program_id, "code": code, **valid_from}
        )
        koc = Koc(affiliate["id"], external_id, name, code)
        self.kocs.append(koc)
        return koc

    def key(self, name: str, *scopes: str, **more: str) -> Api:
        """Make another key of the merchant, and return the API with it."""
        made = self.api.post("/v1/api-keys", {"name": name, "scopes": list(scopes), **more})
        return self.api.with_key(made["key"])

    def signed(self, events: Sequence[Event]) -> list[bytes]:
        """Return whole requests, signed now."""
        at_s = int(time.time())
        return [wire(self.webhook_url, self.secret, event, at_s=at_s) for event in events]


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def check(load: client.Load, what: str) -> None:
    """Raise Refused when any answer of a run was not the expected one, showing the first."""
    if load.failures:
        raise Refused(f"{load.failures} of {len(load.latencies_s)} answers to {what} were wrong; first: {load.failed}")
