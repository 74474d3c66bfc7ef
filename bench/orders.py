"""Signed order webhooks a second: the service against the plain handler, alternately, ending with the same books."""

import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench import client, show
from bench.serve import (
    HOST,
    Database,
    Server,
    database,
    environment,
    free_port,
    new_secret_key,
    operator,
    running,
    service,
)
from bench.shop import Api, Shop, check
from bench.webhooks import Event, JsonObject

RATIO_FLOOR = 12.0
"""How many times the plain handler's orders the service has to take at 128 connections."""
ORDERS = 2000
"""Orders in each round, unless N= says otherwise."""
ROUNDS = ((32, 2), (128, 3))
"""(connections, rounds of each side)."""
WARM_UP = 300
KOCS = 200

TERMS: JsonObject = {
    "rules": [{"kind": "percent", "rate": "15", "match": {"skus": ["SKU-7"]}}, {"kind": "percent", "rate": "8.5"}],
    "settlement": {"kind": "rolling", "hold_days": 30},
}

COUNTED = ("inbox", "orders", "fact", "assessment", "commission", "commission_entry", "posting", "outbox")
"""Tables that must hold as many rows on both sides."""


@dataclass(slots=True)
class Side:
    """One of the two that are compared."""

    name: str
    server: Server
    loads: dict[int, list[client.Load]] = field(default_factory=dict)
    server_cpu_s: dict[int, float] = field(default_factory=dict)
    database_cpu_s: dict[int, float] = field(default_factory=dict)

    def orders(self, connections: int) -> int:
        return sum(len(load.latencies_s) for load in self.loads[connections])

    def per_second(self, connections: int) -> float:
        return self.orders(connections) / sum(load.seconds for load in self.loads[connections])

    def latency(self, connections: int) -> client.Load:
        """All rounds as one, for percentiles."""
        return client.Load(latencies_s=sorted(s for load in self.loads[connections] for s in load.latencies_s))

    def cpu(self, connections: int) -> float:
        """CPU microseconds of server and database together, per order."""
        spent_s = self.server_cpu_s[connections] + self.database_cpu_s[connections]
        return 1e6 * spent_s / self.orders(connections)

    def microseconds(self, spent_s: dict[int, float], connections: int) -> int:
        return round(1e6 * spent_s[connections] / self.orders(connections))


def bench(n: int | None, floor: float | None) -> bool:
    """Run the comparison and print it. Returns whether the service was fast enough and the books were the same."""
    per_round, least = n or ORDERS, RATIO_FLOOR if floor is None else floor
    with database() as postgres, _both(postgres) as (shop, plain, ours):
        draw = random.Random(2)
        total = sum(rounds for _, rounds in ROUNDS) * per_round + WARM_UP
        events = [an_order(shop, number, draw) for number in range(total)]
        with show.progress("Orders to each side", total) as tell:
            done = _round(postgres, (plain, ours), shop, events[:WARM_UP], 32, kept=False)
            tell(done)
            # Mixed, so that neither number of connections gets only the small tables of the beginning.
            turns = [connections for connections, rounds in ROUNDS for _ in range(rounds)]
            draw.shuffle(turns)
            for connections in turns:
                done += _round(postgres, (plain, ours), shop, events[done : done + per_round], connections)
                tell(done)
        _table(plain, ours)
        differences = _differences(postgres)
    ratios = {each: ours.per_second(each) / plain.per_second(each) for each, _ in ROUNDS}
    show.result(
        "orders",
        **{f"ratio_{each}": f"{ratio:.1f}" for each, ratio in sorted(ratios.items(), reverse=True)},
        orders_s=round(ours.per_second(128)),
        plain_orders_s=round(plain.per_second(128)),
        p99_ms=f"{ours.latency(128).percentile_ms(99):.1f}",
        cpu_ratio_128=f"{plain.cpu(128) / ours.cpu(128):.1f}",
        differences=differences,
    )
    if ratios[128] < least:
        show.say(f"Short of {least:g} times the plain handler at 128 connections.")
    return ratios[128] >= least and differences == 0


@contextlib.contextmanager
def _both(postgres: Database) -> Iterator[tuple[Shop, Side, Side]]:
    """Set one merchant up, copy the database, and start one process in front of each copy."""
    secret_key = new_secret_key()
    log = postgres.folder / "server.log"
    with service(postgres.url, secret_key=secret_key, log=log) as server:
        shop = a_shop(Api(server.url, operator(postgres.url, secret_key=secret_key)))
    copies = {name: postgres.clone(name) for name in ("service", "plain")}
    _make_shared_rows(postgres, "plain")
    port = free_port()
    plain_app = [sys.executable, "-m", "uvicorn", "bench.baselines.orders_plain:app", "--no-access-log"]
    plain_command = [*plain_app, "--host", HOST, "--port", str(port), "--log-level", "warning"]
    plain_env = environment(copies["plain"], secret_key=secret_key, port=port)
    with (
        running(plain_command, env=plain_env, port=port, log=log, ready="/openapi.json") as plain,
        service(copies["service"], secret_key=secret_key, log=log) as ours,
    ):
        yield shop, Side("plain", plain), Side("service", ours)


def a_shop(api: Api) -> Shop:
    """Make a merchant with so many KOCs that few orders share one."""
    shop = Shop.opened(api, name="Bench", terms=TERMS, valid_from=datetime.now(UTC) - timedelta(days=60))
    with show.progress("KOCs", KOCS) as tell:
        for number in range(KOCS):
            shop.koc(f"koc-{number}", f"KOC {number}", f"KOC{number:03d}", since=datetime.now(UTC) - timedelta(days=50))
            tell(number + 1)
    return shop


def _round(
    postgres: Database, sides: tuple[Side, ...], shop: Shop, events: list[Event], connections: int, *, kept: bool = True
) -> int:
    """Send the same orders to each side in turn. Returns how many there were."""
    for side in sides:
        requests = shop.signed(events)
        before = side.server.cpu_seconds(), postgres.cpu_seconds()
        load = client.run(HOST, side.server.port, requests, connections=connections, expect=200)
        after = side.server.cpu_seconds(), postgres.cpu_seconds()
        check(load, f"the {side.name} side")
        if kept:
            side.loads.setdefault(connections, []).append(load)
            for spent, begin, end in zip((side.server_cpu_s, side.database_cpu_s), before, after, strict=True):
                spent[connections] = spent.get(connections, 0.0) + end - begin
    return len(events)


def an_order(shop: Shop, number: int, draw: random.Random) -> Event:
    """Return the event of an order that some KOC brought. number: which makes it one of its own."""
    koc = draw.choice(shop.kocs)
    lines = [
        {
            "id": str(index + 1),
            "sku": f"SKU-{draw.randrange(20)}",
            "quantity": draw.randrange(1, 4),
            "net": f"{draw.randrange(3, 200)}.{draw.randrange(100):02d}",
        }
        for index in range(draw.randrange(1, 5))
    ]
    at = (datetime.now(UTC) - timedelta(seconds=draw.randrange(86_400))).isoformat()
    order = {
        "type": "order",
        "id": f"order-{number}",
        "number": f"#{number}",
        "placed_at": at,
        "updated_at": at,
        "currency": "USD",
        "customer": {"id": str(100_000 + number), "email": f"buyer{number}@example.com"},
        "coupon_codes": [koc.code],
        "lines": [*lines, {"id": "ship", "kind": "shipping", "net": "4.90"}],
        "totals": {"tax": "0.00", "shipping": "4.90", "discount": "0.00", "total": "99.00"},
        "milestones": {"paid_at": at},
    }
    return Event.of(f"delivery-{number}", order)


def _make_shared_rows(postgres: Database, name: str) -> None:
    """Make the rows that many orders share, so that the plain handler need not cope with two making one at a time."""
    with postgres.connect(name) as connection:
        connection.execute(
            """
            INSERT INTO balance (merchant_id, owner_id, kind, currency, amount_minor, version)
            SELECT merchant_id, id, 'pending', 'USD', 0, 0 FROM affiliate
            """
        )
        # Tomorrow too, in case it is about to begin.
        connection.execute(
            """
            INSERT INTO day_slot (merchant_id, day, slot, touched)
            SELECT id, current_date + ahead, slot, 0
            FROM merchant, generate_series(0, 1) AS ahead, generate_series(0, 15) AS slot
            """
        )
        connection.execute(
            """
            INSERT INTO day_sum (merchant_id, day, slot, kind, currency, debit_minor, credit_minor)
            SELECT merchant_id, day, slot, kind, 'USD', 0, 0
            FROM day_slot, (VALUES ('commission_expense'), ('pending')) AS kinds (kind)
            """
        )


def _table(plain: Side, service: Side) -> None:
    rows = []
    for connections, _ in ROUNDS:
        for side in (plain, service):
            latency = side.latency(connections)
            rows.append(
                (
                    str(connections),
                    side.name,
                    f"{side.per_second(connections):,.0f}",
                    f"{side.per_second(connections) / plain.per_second(connections):.1f}",
                    f"{latency.percentile_ms(50):.1f}",
                    f"{latency.percentile_ms(99):.1f}",
                    f"{side.microseconds(side.server_cpu_s, connections):,}",
                    f"{side.microseconds(side.database_cpu_s, connections):,}",
                )
            )
    columns = ("at once", "side", "per s", "ratio", "p50 ms", "p99 ms", "server µs", "db µs")
    show.table("Signed orders, one server process each; CPU time per order", columns, rows, left=2)


def _differences(postgres: Database) -> int:
    """Compare the two databases: rows, sums, and what each KOC has earned. Prints what differs, returns how much."""
    found = {}
    for name in ("plain", "service"):
        with postgres.connect(name) as connection:
            values: dict[str, object] = {}
            for table in COUNTED:
                values[f"rows of {table}"] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            values["commission"] = connection.execute("SELECT sum(target_minor) FROM commission").fetchone()
            for payee, amount in connection.execute(
                "SELECT owner_id::text, amount_minor FROM balance WHERE amount_minor <> 0"
            ):
                values[f"balance of {payee}"] = amount
            for kind, debit, credit in connection.execute(
                "SELECT kind, sum(debit_minor), sum(credit_minor) FROM day_sum GROUP BY kind"
            ):
                values[f"booked on {kind}"] = (debit, credit)
            found[name] = values
    differing = [
        (what, str(found["plain"].get(what)), str(found["service"].get(what)))
        for what in sorted(found["plain"].keys() | found["service"].keys())
        if found["plain"].get(what) != found["service"].get(what)
    ]
    if differing:
        show.table("Not the same on both sides", ("what", "plain", "service"), differing)
    return len(differing)
