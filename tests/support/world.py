"""What the machine can do to a world and see of it; worlds are the pure domain, and the service over HTTP.

Things have names that the machine chose: orders o1…, affiliates ann…, runs r1…; a world keeps its own ids to itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from service.domain.payout import Answer, AnswerKind
from service.intake.adapters.generic import translate
from service.intake.adapters.model import Delivery, Reading
from service.payouts.providers.model import Listing, Sending
from tests.support.oracle import Standing
from tests.support.oracle_due import Key
from tests.support.payouts import FakeRail

Json = dict[str, Any]

PROGRAM = "friends"
STEPS = {"USD": 1, "EUR": 7, "VND": 100}
"""The smallest amount the machine's rail pays; uneven ones leave remainders."""
KEY_KEPT = timedelta(hours=24)
"""How long the provider remembers an idempotency key."""
TRAVELS_MAX = timedelta(hours=5)
"""A request still on its way after this long is never going to arrive."""


@dataclass(frozen=True, slots=True)
class SeenItem:
    id: UUID
    gross: int
    carried: int
    net: int
    state: str
    came_back: int


@dataclass(slots=True)
class Seen:
    """Everything the oracle has an opinion on. balances: only those that are not 0.

    commissions: those of orders, then those of periods that are not nothing, named by the rule's key and the first day.
    """

    commissions: dict[Key, Standing] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    balances: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    inbox: dict[tuple[str, bytes], str] = field(default_factory=dict)
    items: dict[tuple[str, str], SeenItem] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)


class Rail(FakeRail):
    """A provider that misbehaves as told, forgets keys when they are old, and does late requests within hours."""

    def __init__(self) -> None:
        super().__init__(at_once=4)
        self.now: datetime
        self._first_used: dict[str, datetime] = {}
        self._came: dict[str, datetime] = {}
        self._run_of: dict[UUID, UUID] = {}

    def step_minor(self, currency: str) -> int | None:
        return STEPS.get(currency)

    def build_request(self, sending: Sending) -> bytes:
        self._run_of[sending.item_id] = sending.run_id
        return super().build_request(sending)

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        if self.listing_fails:
            return Listing(trouble=Answer(AnswerKind.UNKNOWN, code="timeout"))
        return Listing(tuple(made for made in self.transfers if self._run_of[made.item_id] == run_id))

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        for key, at in list(self._first_used.items()):
            if self.now - at > KEY_KEPT:
                self.by_key.pop(key, None)
        self._first_used.setdefault(idempotency_key, self.now)
        self._came[idempotency_key] = self.now
        return super().send(request, idempotency_key)

    def lose_late(self) -> None:
        """Give up what has travelled for too long."""
        self.late = [(request, key) for request, key in self.late if self.now - self._came[key] <= TRAVELS_MAX]


def with_ids(told: Any, ids: Callable[[str], str]) -> Any:
    """Terms in which payees have ids, from such in which they have the machine's names."""
    if isinstance(told, list):
        return [with_ids(each, ids) for each in told]
    if not isinstance(told, dict):
        return told
    return {name: ids(each) if name == "payee_id" else with_ids(each, ids) for name, each in told.items()}


class World(Protocol):
    """Verbs return whether they were accepted; one that was not has changed nothing."""

    time_zone: str
    """The merchant's."""
    now: datetime
    """The merchant's present, on the half hour; the service's own clock may be some minutes ahead of it."""

    @property
    def rail(self) -> Rail | None:
        """The provider, if the machine may tell it what to do."""

    # What is set up.

    def new_terms(self, terms: Json, since: datetime) -> bool: ...
    def new_affiliate(self, name: str, email: str, kind: str = "koc") -> bool: ...
    def change_email(self, name: str, email: str) -> bool: ...
    def approve_affiliate(self, name: str, since: datetime) -> bool: ...
    def suspend(self, name: str, since: datetime) -> bool: ...
    def enroll(self, name: str, since: datetime) -> bool: ...
    def leave(self, name: str, since: datetime) -> bool: ...
    def new_coupon(self, code: str, owner: str, since: datetime) -> bool: ...
    def hand_on(self, code: str, owner: str, since: datetime) -> bool: ...
    def new_link(self, name: str, owner: str) -> bool: ...
    def click(self, link: str) -> str: ...
    def pay_to(self, name: str, account: str) -> bool: ...
    def join_agency(self, name: str, agency: str, *, share: str, fee: str) -> bool:
        """A KOC accepts an agency's offer; from five minutes later on."""

    def leave_agency(self, name: str) -> bool: ...
    def pause(self, effect: str, since: datetime) -> bool:
        """Let the programme run otherwise; none: as always."""

    def bind(self, email: str, name: str | None, since: datetime, until: datetime | None) -> bool: ...

    # What is told.

    def deliver(self, name: str, body: bytes, *, signed: bool = True) -> Json | None:
        """The answer, or None when the signature was refused."""

    def replay(self, name: str, body: bytes) -> bool: ...
    def larger(self, body: bytes) -> bytes:
        """What decides between two bodies of one version: the hash of what is understood of it."""

    def verdict(self, key: Key, amount: int | None, *, reject: bool = False) -> bool:
        """Approve up to an amount, or what it comes to now; or reject."""

    def hold(self, key: Key) -> bool: ...
    def release_hold(self, key: Key) -> bool: ...
    def attribute(self, order: str, payee: str | None) -> bool: ...

    # What moves.

    def advance(self, span: timedelta) -> None: ...
    def settle(self) -> None: ...
    def reserve(self, run: str, currency: str, only: Sequence[str], by: str) -> bool: ...
    def submit(self, run: str, by: str) -> bool: ...
    def approve(self, run: str, by: str) -> bool: ...
    def execute(self, run: str) -> bool: ...
    def cancel(self, run: str) -> bool: ...
    def release(self, run: str, payee: str) -> bool: ...
    def retry(self, run: str, payee: str, *, confirmed: bool) -> bool: ...
    def work(self, owner: str) -> bool:
        """Let a worker do all that is due now. False when it died on the way."""

    def wait(self, span: timedelta) -> None:
        """Let time pass for workers and the provider alone."""

    def reconcile(self) -> None: ...

    # What is seen.

    def see(self) -> Seen: ...
    def check(self) -> list[str]:
        """What the world itself finds wrong with its books."""

    def digest(self) -> object:
        """Equal when nothing was stored in between."""

    def last_words(self) -> list[str]:
        """What only the end is worth checking for."""


def hash_of(body: bytes, reading: Reading) -> bytes:
    """The hash of what is understood of a body."""
    return translate(Delivery("", "", body), reading).facts[0].body_hash
