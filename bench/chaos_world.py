"""Those who use the service while its processes die: a shop that keeps account of its orders, its visitors, finance."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from bench import webhooks
from bench.shop import Koc, Shop
from bench.webhooks import Event, JsonObject

CURRENCY = "USD"
HOLD_DAYS = 1
TERMS: JsonObject = {
    "rules": [{"kind": "percent", "rate": "10"}],
    "settlement": {"kind": "rolling", "start": "paid", "hold_days": HOLD_DAYS},
    "payout_minimums": [{"amount_minor": 1, "currency": CURRENCY}],
}
RAIL = "stripe_connect"

ANSWER_S = 30
"""Seconds after which a shop gives up waiting for an answer and sends again."""
AGAIN_S = 0.2
"""Pause before something is sent again."""
BREATH_S = 0.02
"""Pause of a sender after each answer, so that the books of a long run stay small enough to be read at its end."""
POOL = 40
"""Deliveries among which the next is drawn, so that those of an order come apart and out of order."""
CLICK_SURE_S = 0.9
"""A visitor sent on within this time has been counted; later ones are sent on without waiting for the database."""
FAULTS = ("lost", "reset", "500_done", "429", "delayed")
"""What the rail does now and then: done without an answer, not done, done with a 500, too busy, slow."""


class NoAnswer(Exception):
    """The line broke, or the process said it cannot now. Whether anything happened is unknown."""


class Doors:
    """The web processes, as a load balancer offers them: any of them may be dead."""

    def __init__(self, urls: Sequence[str], draw: random.Random) -> None:
        self._urls = list(urls)
        self._draw = draw
        self._own = threading.local()

    def ask(
        self, method: str, path: str, *, key: str = "", body: JsonObject | None = None, **more: Any
    ) -> requests.Response:
        """Send one request to one process, whichever. Raises NoAnswer."""
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        headers = {"authorization": f"Bearer {key}"} if key else more.pop("headers", {})
        url = self._draw.choice(self._urls) + path
        try:
            answer: requests.Response = self._own.session.request(
                method, url, json=body, headers=headers, timeout=ANSWER_S, allow_redirects=False, **more
            )
        except requests.RequestException as error:
            raise NoAnswer from error
        if answer.status_code in {429, 503}:
            raise NoAnswer
        return answer


@dataclass(slots=True)
class Clock:
    """The merchant's clock as the shop knows it. Whoever holds the lock knows that nobody moves it meanwhile."""

    ahead: timedelta = timedelta()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(slots=True)
class Order:
    """An order as its shop knows it. lines: net by line id in minor units, of the newest version; refunded likewise."""

    id: str
    koc: Koc
    lines: dict[str, int]
    refunded: Counter[str] = field(default_factory=Counter)
    cancelled: bool = False

    def earns(self) -> int:
        """A tenth of what is left of each line, half a cent up."""
        if self.cancelled:
            return 0
        return sum((max(0, net - self.refunded[line]) + 5) // 10 for line, net in self.lines.items())


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the shop has to say once, however often it has to say it."""

    event: Event
    kind: str


@dataclass(slots=True)
class World:
    """A shop that says everything until it is acknowledged, and what it may then expect."""

    shop: Shop
    doors: Doors
    seed: int
    clock: Clock = field(default_factory=Clock)
    orders: list[Order] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)
    """How often each delivery id was answered 200."""
    clicks: list[str] = field(default_factory=list)
    """Click ids of visitors who were sent on, and must be counted."""
    told: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that must not be; a run with any has failed."""
    unanswered: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    ending: threading.Event = field(default_factory=threading.Event)
    _pool: list[Delivery] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, number: int) -> None:
        """Be one of the shop's connections until the end, and then until all is said."""
        draw = random.Random(f"{self.seed}/{number}")
        while True:
            delivery = self._next(draw)
            if delivery is None:
                return
            for _ in range(2 if draw.random() < 0.15 else 1):
                self._say(delivery)
                time.sleep(BREATH_S * draw.random())

    def _next(self, draw: random.Random) -> Delivery | None:
        while not self.ending.is_set():
            with self._lock:
                if len(self._pool) >= POOL:
                    return self._pool.pop(draw.randrange(len(self._pool)))
            new = self._order(draw)
            with self._lock:
                self._pool += new
        with self._lock:
            return self._pool.pop() if self._pool else None

    def _say(self, delivery: Delivery) -> None:
        shop = self.shop
        while True:
            headers = webhooks.standard(shop.secret, delivery.event, at_s=int(time.time()))
            try:
                answer = self.doors.ask(
                    "POST", urlsplit(shop.webhook_url).path, headers=dict(headers), data=delivery.event.body
                )
            except NoAnswer:
                self.unanswered += 1
                time.sleep(AGAIN_S)
                continue
            with self._lock:
                if answer.status_code == 200:
                    self.acknowledged[delivery.event.id] += 1
                    self.told[delivery.kind] += 1
                else:
                    self.note(f"{delivery.event.id} was answered {answer.status_code}: {answer.text[:200]}")
            return

    def note(self, sentence: str) -> None:
        """Write down what must not be."""
        self.wrong.append(sentence)

    def _order(self, draw: random.Random) -> list[Delivery]:
        """Invent an order with all that happens to it, and write down what it comes to."""
        koc = draw.choice(self.shop.kocs)
        brought: JsonObject = {"coupon_codes": [koc.code]}
        placed_at = self.clock.now() - timedelta(hours=1)
        if draw.random() < 0.2:
            with self.clock.lock:
                clicked = self._click(koc)
                # A click comes before its order, also where two processes round differently.
                placed_at = self.clock.now() + timedelta(seconds=1)
            brought = {"click_ids": [clicked]}
        lines = {str(line): draw.randrange(500, 20000) for line in range(1, draw.choice((2, 2, 3)))}
        with self._lock:
            order = Order(f"order-{len(self.orders) + 1}", koc, lines)
            self.orders.append(order)
        said = [self._version(order, placed_at, 0, brought)]
        for number in range(1, draw.choice((1, 1, 1, 2, 3))):
            order.lines = {line: draw.randrange(500, 20000) for line in lines}
            order.cancelled = draw.random() < 0.1
            said.append(self._version(order, placed_at, number, brought))
        for number in range(draw.choice((0, 0, 0, 1, 2))):
            line, back = draw.choice(list(lines)), draw.randrange(1, 8000)
            order.refunded[line] += back
            said.append(_refund(order, placed_at, f"{order.id}-refund-{number}", line, back))
        draw.shuffle(said)
        return said

    def _version(self, order: Order, placed_at: datetime, number: int, brought: JsonObject) -> Delivery:
        event = {
            "type": "order",
            "id": order.id,
            "placed_at": placed_at.isoformat(),
            "updated_at": (placed_at + timedelta(seconds=number)).isoformat(),
            "currency": CURRENCY,
            "lines": [{"id": line, "quantity": 1, "net": _decimal(net)} for line, net in order.lines.items()],
            "milestones": {"paid_at": placed_at.isoformat()},
            "cancelled": order.cancelled,
            **brought,
        }
        return Delivery(Event.of(f"{order.id}-version-{number}", event), "edit" if number else "order")

    def _click(self, koc: Koc) -> str:
        """Visit a link as often as it takes to be sent on. Returns the click id the shop gets to see."""
        assert koc.link is not None
        while True:
            began = time.monotonic()
            try:
                answer = self.doors.ask("GET", urlsplit(koc.link["short_url"]).path)
            except NoAnswer:
                time.sleep(AGAIN_S)
                continue
            clicked = parse_qs(urlsplit(answer.headers["location"]).query)["koc_click"][0]
            if time.monotonic() - began < CLICK_SURE_S:
                with self._lock:
                    self.clicks.append(clicked)
            return clicked


def _refund(order: Order, placed_at: datetime, refund_id: str, line: str, back: int) -> Delivery:
    at = placed_at.isoformat()
    event = {
        "type": "refund",
        "id": refund_id,
        "order_id": order.id,
        "currency": CURRENCY,
        "refunded_at": at,
        "updated_at": at,
        "lines": [{"line_id": line, "net": _decimal(back)}],
    }
    return Delivery(Event.of(refund_id, event), "refund")


def _decimal(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"


@dataclass(slots=True)
class Finance:
    """Two people who make runs and approve them, and look again whenever nobody answered."""

    world: World
    maker: str
    checker: str
    disturb: Callable[[str], None]
    """Let the rail do something of FAULTS with the next sending."""
    draw: random.Random
    number: int = 1

    def work(self) -> None:
        """Make one run after the other until the end."""
        while not self.world.ending.is_set():
            try:
                if self._step(may_cancel=True) != "moved":
                    time.sleep(0.1)
            except NoAnswer:
                time.sleep(AGAIN_S)

    def finish(self, *, patience_s: float) -> bool:
        """Bring the last run to its end, let every hold run out, and pay everybody once more. Returns whether it could."""
        until = time.monotonic() + patience_s
        dry = 0
        # Empty twice: what was refused money by a run still open is asked for once more.
        while dry < 2 and time.monotonic() < until:
            try:
                step = self._step(may_cancel=False)
            except NoAnswer:
                step = "waits"
            dry = dry + 1 if step == "dry" else 0
            time.sleep(0.05)
        return dry >= 2

    def _step(self, *, may_cancel: bool) -> str:
        """Do what the state of the present run asks for. Returns waits, dry (nobody can be paid), or moved."""
        run = self._run()
        if run is None:
            return self._make()
        path = f"/v1/payout-runs/{run['id']}"
        match run["status"]:
            case "draft" | "submitted" | "approved" if may_cancel and self.draw.random() < 0.05:
                self._post(f"{path}/cancel", self.maker, expect={200})
            case "draft":
                self._post(f"{path}/submit", self.maker, expect={200})
            case "submitted":
                self._post(f"{path}/approve", self.checker, expect={200})
            case "approved":
                for kind in self.draw.choices(FAULTS, k=self.draw.randrange(1, 4)):
                    self.disturb(kind)
                self._post(f"{path}/execute", self.maker, expect={202})
            case "executing":
                if run["stopped_at"] is not None:
                    self.world.note(f"The run {run['id']} was stopped: {run['stop_code']}")
                return "waits"
            case ended:
                self.world.runs[ended] += 1
                self.number += 1
        return "moved"

    def _run(self) -> JsonObject | None:
        answer = self.world.doors.ask("GET", "/v1/payout-runs?limit=3", key=self.maker)
        runs: list[JsonObject] = answer.json()["data"]
        return next((run for run in runs if run["external_id"] == f"run-{self.number}"), None)

    def _make(self) -> str:
        self._move_clock()
        # The worker settles too; sometimes both do at once.
        if self.world.ending.is_set() or self.draw.random() < 0.3:
            self._post("/v1/jobs/settle", self.maker, expect={200})
        body = {"rail": RAIL, "currency": CURRENCY, "external_id": f"run-{self.number}"}
        answer = self._post("/v1/payout-runs", self.maker, body, expect={201, 409})
        if answer.status_code == 409 and answer.json()["code"] == "payout-run-empty":
            return "dry"
        return "moved"

    def _move_clock(self) -> None:
        """Let the holds of all orders told so far run out. Tried until it is known: the shop goes by it."""
        clock = self.world.clock
        with clock.lock:
            ahead = clock.ahead + timedelta(days=HOLD_DAYS, hours=2)
            target = datetime.now(UTC) + ahead
            while True:
                try:
                    body = {"to": target.isoformat()}
                    # It may have been moved without our hearing of it; then it cannot be moved to there again.
                    self._post("/v1/test-clock", self.world.shop.api.key, body, expect={200, 409, 422})
                    break
                except NoAnswer:
                    time.sleep(AGAIN_S)
            clock.ahead = ahead

    def _post(self, path: str, key: str, body: JsonObject | None = None, *, expect: set[int]) -> requests.Response:
        answer = self.world.doors.ask("POST", path, key=key, body=body)
        # What was done without our hearing of it cannot be done twice: that is a conflict, and the next look tells.
        if answer.status_code not in expect | {409}:
            self.world.note(f"{path} was answered {answer.status_code}: {answer.text[:200]}")
        return answer
