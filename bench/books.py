"""Real orders through the whole service, twice and in two orders, against a calculation that shares nothing with it."""

import random
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench import client, independent, retail, show
from bench.independent import Expected
from bench.retail import Happening, Story
from bench.serve import HOST, Database, Server, database, environment, koc, new_secret_key, operator, service
from bench.shop import Api, Shop, check
from bench.webhooks import Event, JsonObject

SEED = 20101201
CONNECTIONS = 8
"""Of each of the two server processes in the replays that are out of order."""
REPEATED = 0.5
"""What part of the deliveries comes again under its id, in those replays."""
RENAMED = 0.1
"""What part comes again under another id, as from a shop that lost count."""

TERMS: JsonObject = {
    "rules": [
        {"kind": "percent", "rate": retail.SPECIAL_RATE, "match": {"skus": list(retail.SPECIAL_SKUS)}},
        {"kind": "percent", "rate": retail.RATE},
    ],
    "cap_per_order": [{"amount_minor": retail.CAP_MINOR, "currency": retail.CURRENCY}],
    "settlement": {"kind": "rolling", "start": "paid", "hold_days": retail.HOLD_DAYS},
}

SHOWN_MAX = 40
"""How many differences are printed; all are counted."""

PLACES = ("pending", "held", "payable", "reserved", "in_transit", "paid", "carried", "withheld")


@dataclass(slots=True)
class Books:
    """What one merchant's books say. by_order: the shop's order id → (coupon code, commission in minor units)."""

    by_order: dict[str, tuple[str, int]] = field(default_factory=dict)
    pending: dict[str, JsonObject] = field(default_factory=dict)
    """Code → places before the clock was moved."""
    settled: dict[str, JsonObject] = field(default_factory=dict)
    """Code → places after."""
    waiting: set[str] = field(default_factory=set)


def prove(n: int | None, seed: int | None) -> bool:
    """Replay the file in its own order, then n times (1) in others, and compare. Returns whether nothing differs."""
    seed = SEED if seed is None else seed
    story = retail.story(now=datetime.now(UTC))
    expected = independent.calculate(retail.FILE)
    secret_key = new_secret_key()
    with database() as postgres:
        log = postgres.folder / "server.log"
        with (
            service(postgres.url, secret_key=secret_key, log=log) as first,
            service(postgres.url, secret_key=secret_key, log=log) as second,
        ):
            owner = Api(first.url, operator(postgres.url, secret_key=secret_key))
            shops = [_shop(owner, "In order", story)]
            _in_order(first, shops[0], story)
            for number in range(n or 1):
                shops.append(_shop(owner, f"Out of order {number + 1}", story))
                _out_of_order((first, second), shops[-1], story, seed=seed + number)
            books = [_settled(shop) for shop in shops]
        differences = _compare(expected, story, books)
        differences += _check_books(postgres, secret_key)
    _table(expected, story, books)
    show.result(
        "books",
        orders=story.count("order"),
        edits=story.count("edit"),
        refunds=story.count("refund", "unseen"),
        waiting=len(books[0].waiting),
        commission_minor=sum(minor for _, minor in books[0].by_order.values()),
        replays=len(books),
        differences=differences,
    )
    return differences == 0


def _shop(owner: Api, name: str, story: Story) -> Shop:
    before = story.begins_at - timedelta(days=1)
    shop = Shop.opened(owner, name=name, terms=TERMS, valid_from=before, time_zone="Europe/London")
    for number in range(retail.KOCS):
        code = retail.code_of(number)
        shop.koc(code.lower(), f"KOC {number}", code, since=before)
    return shop


def _in_order(server: Server, shop: Shop, story: Story) -> None:
    """One after the other, each once, as it happened."""
    events = [happening.event for happening in story.happenings]
    with show.progress("In the file's order", len(events)) as tell:
        load = client.run(HOST, server.port, shop.signed(events), connections=1, expect=200, on_answers=tell)
    check(load, "the replay in order")


def _out_of_order(servers: Sequence[Server], shop: Shop, story: Story, *, seed: int) -> None:
    """Shuffled, with duplicates, by several processes at once."""
    draw = random.Random(seed)
    events = [happening.event for happening in story.happenings]
    events += draw.sample(events, int(REPEATED * len(events)))
    events += [Event(f"again-{event.id}", event.body) for event in draw.sample(events, int(RENAMED * len(events)))]
    draw.shuffle(events)
    shares = [shop.signed(events[place :: len(servers)]) for place in range(len(servers))]
    loads: list[client.Load | BaseException] = []

    def send(server: Server, requests: Sequence[bytes]) -> None:
        try:
            loads.append(client.run(HOST, server.port, requests, connections=CONNECTIONS, expect=200))
        except (OSError, client.Stalled) as error:
            loads.append(error)

    with show.progress("In another, with duplicates", len(events)) as tell:
        threads = [
            threading.Thread(target=send, args=(server, requests))
            for server, requests in zip(servers, shares, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tell(len(events))
    for load in loads:
        if isinstance(load, BaseException):
            raise load
        check(load, "the replay out of order")


def _settled(shop: Shop) -> Books:
    """Read the books, move the clock past every hold, settle, and read them again."""
    books = Books(pending=_places(shop))
    books.waiting = {each["order_external_id"] for each in shop.api.all("/v1/inbox", state="waiting")}
    shop.api.post("/v1/test-clock", {"advance_s": int(timedelta(days=retail.HOLD_DAYS + 1).total_seconds())})
    while shop.api.post("/v1/jobs/settle")["settled"]:
        pass
    books.settled = _places(shop)
    codes = {koc.id: koc.code for koc in shop.kocs}
    books.by_order = {
        each["order_external_id"]: (codes[each["affiliate_id"]], each["target"]["amount_minor"])
        for each in shop.api.all("/v1/commissions")
    }
    return books


def _places(shop: Shop) -> dict[str, JsonObject]:
    codes = {koc.id: koc.code for koc in shop.kocs}
    return {
        codes[each["affiliate_id"]]: {place: each[place]["amount_minor"] for place in PLACES}
        for each in shop.api.all("/v1/balances")
    }


def _compare(expected: Expected, story: Story, books: Sequence[Books]) -> int:
    """Print every difference to what was calculated. Returns how many there are."""
    calculated = {
        "orders": expected.orders,
        "edits": expected.edits,
        "refunds of orders seen": expected.refunds,
        "refunds of orders never seen": expected.waiting,
    }
    sent = dict(zip(calculated, (story.count(kind) for kind in ("order", "edit", "refund", "unseen")), strict=True))
    rows = [
        ("sent", what, str(calculated[what]), str(sent[what])) for what in calculated if calculated[what] != sent[what]
    ]
    unseen = {_order_of(happening) for happening in story.happenings if happening.kind == "unseen"}
    for number, each in enumerate(books):
        name = f"replay {number + 1}"
        rows += _differing(name, "commission on", expected.by_order, each.by_order, absent=("", 0))
        rows += _differing(name, "pending of", _only(expected, "pending"), each.pending, absent=None)
        rows += _differing(name, "settled of", _only(expected, "payable"), each.settled, absent=None)
        rows += [(name, f"waiting {order_id}", "", "") for order_id in sorted(each.waiting ^ unseen)]
    if rows:
        show.table("Differences, the first of them", ("where", "what", "calculated", "found"), rows[:SHOWN_MAX], left=2)
    return len(rows)


def _order_of(happening: Happening) -> str:
    return happening.event.id.partition("-")[2]


def _only(expected: Expected, place: str) -> dict[str, JsonObject]:
    """Everything each KOC earned in one place, nothing in the others."""
    return {code: {each: minor if each == place else 0 for each in PLACES} for code, minor in expected.by_code.items()}


def _differing(
    name: str, what: str, calculated: Mapping[str, object], found: Mapping[str, object], *, absent: object
) -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{what} {key}", str(calculated.get(key)), str(found.get(key)))
        for key in sorted(calculated.keys() | found.keys())
        # What earns nothing may or may not have a row.
        if calculated.get(key, absent) != found.get(key, absent)
    ]


def _check_books(postgres: Database, secret_key: str) -> int:
    env = environment(postgres.url, secret_key=secret_key, port=1)
    # Also made again in an empty database: what came out of order has to come out the same in order.
    began = time.monotonic()
    answer = subprocess.run(koc("check-books", "--rebuild"), env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    show.say(f"koc check-books --rebuild, {seconds:.0f} s: {answer.stdout.strip() or answer.stderr.strip()}")
    return int(answer.returncode != 0)


def _table(expected: Expected, story: Story, books: Sequence[Books]) -> None:
    rows = []
    for code in sorted(expected.by_code):
        found = [show.amount(each.settled.get(code, {}).get("payable", 0), retail.CURRENCY) for each in books]
        rows.append((code, show.amount(expected.by_code[code], retail.CURRENCY), *found))
    totals = [sum(places["payable"] for places in each.settled.values()) for each in books]
    amounts = [show.amount(minor, retail.CURRENCY) for minor in (expected.commission_minor, *totals)]
    rows.append(("all", *amounts))
    names = [f"replay {number + 1}" for number in range(len(books))]
    show.table(
        f"Payable after every hold, {len(story.happenings)} webhooks",
        ("KOC", "calculated", *names),
        rows,
    )
