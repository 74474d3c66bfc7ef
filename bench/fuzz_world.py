"""A merchant with a key of every scope, things of every kind, and a source of every platform; made anew when it breaks."""

import random
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from bench import fuzz_shops
from bench.fuzz_contract import Contract, JsonObject, Operation
from bench.shop import Api, Refused, Shop

ID = re.compile(r"([a-z]{2,5})_[0-7][0-9a-hjkmnp-tv-z]{25}")
KEPT_MAX = 30
"""Ids of a kind that are remembered: the newest."""
TERMS: JsonObject = {
    "rules": [{"kind": "percent", "rate": "10"}],
    "settlement": {"kind": "rolling", "start": "paid", "hold_days": 1},
    "payout_minimums": [{"amount_minor": 1, "currency": "USD"}],
}
COUPON = "LAN10"
RAIL = "sandbox"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a platform delivers. secret: what it signs with."""

    platform: str
    path: str
    secret: str


@dataclass(slots=True)
class World:
    """What requests are made with. keys: by scope."""

    url: str
    contract: Contract
    make_operator: Callable[[], str]
    draw: random.Random
    keys: dict[str, str] = field(default_factory=dict)
    pool: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT_MAX)))
    sources: dict[str, Source] = field(default_factory=dict)
    given: Callable[[requests.PreparedRequest], None] = lambda _: None
    """Told each request that the making of a merchant takes: they are good ones."""
    made: int = 0
    """How many merchants it took."""
    _named: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        names = {name for each in self.contract.operations for name in re.findall(r"\{(\w+)\}", each.path)}
        plain = "|".join(sorted(name for name in names if not name.endswith("_id") or name == "external_id"))
        self._named = re.compile(rf'"({plain})": ?"?([A-Za-z0-9_-]{{1,60}})')

    def renew(self) -> None:
        """Make a merchant with all that belongs to it, and forget the one before. Raises Refused."""
        if not self._works(self.keys.get("operator", "")):
            self.keys["operator"] = self.make_operator()
        self.made += 1
        operator = Api(self.url, self.keys["operator"])
        self._listen(operator)
        shop = Shop.opened(operator, name=f"Fuzz {self.made}", terms=TERMS)
        self._listen(shop.api)
        self.pool.clear()
        self.keys = {"operator": self.keys["operator"], "admin": shop.api.key}
        koc = shop.koc("lan", "Lan", COUPON)
        path = f"/v1/affiliates/{koc.id}"
        shop.api.put(f"{path}/tax-profile", {"rule": "off"})
        shop.api.post(f"{path}/payout-methods", {"rail": RAIL, "destination": "sandbox_ok"})
        shop.api.post(
            "/v1/links", {"affiliate_id": koc.id, "program_id": shop.program_id, "url": "https://shop.example/"}
        )
        for scope in sorted({scope for each in self.contract.operations for scope in each.scopes} - set(self.keys)):
            self.keys[scope] = self._key(shop, scope, koc.id)
        for platform in self._platforms():
            self._source(shop, platform)
        self._business(shop)
        self.harvest()

    def key_for(self, operation: Operation | None) -> str:
        """A key that the operation takes, mostly; sometimes one it does not, or none."""
        chance = self.draw.random()
        if chance < 0.04:
            return ""
        if operation is not None and operation.scopes and chance < 0.92:
            return self.keys.get(self.draw.choice(operation.scopes), "")
        return self.draw.choice(list(self.keys.values()))

    def learn(self, body: bytes) -> None:
        """Remember the ids and names an answer holds, so that later requests are about things that are there."""
        for named in self._named.finditer(body[:200_000].decode("utf-8", "replace")):
            self.pool[named[1]].append(named[2])
        for found in ID.finditer(body[:200_000].decode("utf-8", "replace")):
            kept = self.pool[found[1]]
            if found[0] not in kept:
                kept.append(found[0])

    def an_id_like(self, text: str) -> str:
        """A known id of the kind the text is an id of; the text where it is none or none is known."""
        found = ID.fullmatch(text)
        known = self.pool.get(found[1]) if found else None
        return self.draw.choice(list(known)) if known else text

    def a_place(self, name: str, text: str) -> str:
        """What to put in the place of a path's parameter: an id or name that is known, or the text."""
        known = self.pool.get(name)
        return self.draw.choice(list(known)) if known and self.draw.random() < 0.6 else self.an_id_like(text)

    def _listen(self, api: Api) -> None:
        api.session.hooks["response"].append(lambda answer, **_: self.given(answer.request) if answer.ok else None)

    def harvest(self) -> None:
        """Learn from everything that can be listed."""
        for operation in self.contract.operations:
            if operation.method == "GET" and "{" not in operation.path:
                for scope in operation.scopes:
                    headers = {"authorization": f"Bearer {self.keys[scope]}"}
                    self.learn(requests.get(self.url + operation.path, headers=headers, timeout=60).content)

    def alive(self) -> bool:
        """Whether all keys are still good; the fuzzing revokes some."""
        return all(self._works(key) for key in self.keys.values())

    def _works(self, key: str) -> bool:
        if not key:
            return False
        answer = requests.get(f"{self.url}/v1/merchant", headers={"authorization": f"Bearer {key}"}, timeout=60)
        return answer.status_code != 401

    def _key(self, shop: Shop, scope: str, affiliate_id: str) -> str:
        asked = {"name": scope, "scopes": [scope]}
        try:
            made = shop.api.post("/v1/api-keys", asked)
        except Refused:
            made = shop.api.post("/v1/api-keys", {**asked, "affiliate_id": affiliate_id})
        return str(made["key"])

    def _platforms(self) -> list[str]:
        return sorted(_words(self.contract.document, "SourceCreate", "platform"))

    def _source(self, shop: Shop, platform: str) -> None:
        asked = {"name": platform, "platform": platform}
        given = "fuzz-secret-0123456789abcdef"
        try:
            made = shop.api.post("/v1/sources", asked)
        except Refused:
            made = shop.api.post("/v1/sources", {**asked, "secret": given, "shop_domain": "shop.example"})
        path = made["source"]["webhook_url"].removeprefix(self.url)
        self.sources[platform] = Source(platform, path, made["secret"] or given)

    def _business(self, shop: Shop) -> None:
        """Orders, commissions, a payout run: something of everything that can be asked for."""
        source = self.sources["generic"]
        for number in range(3):
            for _, event in fuzz_shops.bodies("generic", coupon=COUPON, draw=self.draw)[: 1 + number]:
                body = fuzz_shops.as_bytes(event)
                headers = dict(fuzz_shops.signed(source.secret, body, delivery=f"first-{self.draw.random()}", topic=""))
                answer = requests.post(self.url + source.path, data=body, headers=headers, timeout=60)
                if answer.status_code != 200:
                    raise Refused(f"A good delivery: {answer.status_code} {answer.text[:600]}")
        shop.api.post("/v1/test-clock", {"advance_s": 3 * 86400})
        shop.api.post("/v1/jobs/settle")
        shop.api.post("/v1/payout-runs", {"rail": RAIL, "currency": "USD"})


def _words(document: JsonObject, schema: str, name: str) -> set[str]:
    """The words a property may be, wherever in its schema they stand."""
    found: set[str] = set()
    waiting: list[Any] = [document["components"]["schemas"][schema]["properties"][name]]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found |= set(part.get("enum", [])) | ({part["const"]} if "const" in part else set())
            if "$ref" in part:
                waiting.append(document["components"]["schemas"][part["$ref"].rpartition("/")[2]])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def texts_replaced(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text inside changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: texts_replaced(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [texts_replaced(inner, change) for inner in value]
    return value


def chunks(total: int, size: int) -> Iterator[int]:
    """Yield the sizes of the rounds a total is done in."""
    while total > 0:
        yield min(size, total)
        total -= size
