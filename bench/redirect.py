"""Redirects a second: a short link that stores each click, against a route that answers a constant 302."""

import statistics
import sys
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
from bench.webhooks import JsonObject

RATIO_FLOOR = 0.1
"""What part of the constant answer's rate the redirect has to reach, though it signs and stores each click."""
REQUESTS = 20_000
"""Requests in each round, unless N= says otherwise."""
ROUNDS = 3
CONNECTIONS = (32, 128)
WARM_UP = 1000
LINKS = 100

TERMS: JsonObject = {"rules": [{"kind": "percent", "rate": "8"}]}
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@dataclass(slots=True)
class Side:
    """One of the two that are compared."""

    name: str
    server: Server
    loads: dict[int, list[client.Load]] = field(default_factory=dict)
    server_cpu_s: dict[int, float] = field(default_factory=dict)
    database_cpu_s: dict[int, float] = field(default_factory=dict)

    def per_second(self, connections: int) -> float:
        return statistics.median(load.per_second for load in self.loads[connections])


def bench(n: int | None, floor: float | None) -> bool:
    """Run the comparison and print it. Returns whether it was fast enough and every click was stored."""
    per_round, least = n or REQUESTS, RATIO_FLOOR if floor is None else floor
    secret_key = new_secret_key()
    with database() as postgres:
        log = postgres.folder / "server.log"
        port = free_port()
        constant_app = [sys.executable, "-m", "uvicorn", "bench.baselines.redirect_constant:app", "--no-access-log"]
        constant_command = [*constant_app, "--host", HOST, "--port", str(port), "--log-level", "warning"]
        env = environment(postgres.url, secret_key=secret_key, port=port)
        with (
            running(constant_command, env=env, port=port, log=log, ready="/r/any") as constant_server,
            service(postgres.url, secret_key=secret_key, log=log) as server,
        ):
            codes = _links(Api(server.url, operator(postgres.url, secret_key=secret_key)))
            requests = [
                client.request("GET", f"/r/{codes[place % LINKS]}", host=HOST, headers=[("user-agent", _BROWSER)])
                for place in range(per_round)
            ]
            sides = (Side("constant", constant_server), Side("service", server))
            sent = _play(postgres, sides, requests)
            stored = _clicks(postgres)
    constant, ours = sides
    _table(constant, ours)
    ratios = {each: ours.per_second(each) / constant.per_second(each) for each in CONNECTIONS}
    latency = ours.loads[CONNECTIONS[-1]][-1]
    show.result(
        "redirect",
        **{f"ratio_{each}": f"{ratio:.2f}" for each, ratio in sorted(ratios.items(), reverse=True)},
        redirects_s=round(ours.per_second(CONNECTIONS[-1])),
        p99_ms=f"{latency.percentile_ms(99):.1f}",
        clicks=stored,
        differences=abs(sent - stored),
    )
    if ratios[CONNECTIONS[-1]] < least:
        show.say(f"Short of {least:g} of the constant answer's rate at {CONNECTIONS[-1]} connections.")
    return ratios[CONNECTIONS[-1]] >= least and stored == sent


def _links(api: Api) -> list[str]:
    since = datetime.now(UTC) - timedelta(days=1)
    shop = Shop.opened(api, name="Bench", terms=TERMS, valid_from=since)
    koc = shop.koc("koc", "KOC", "KOC", since=since)
    place = {"affiliate_id": koc.id, "program_id": shop.program_id}
    return [
        shop.api.post("/v1/links", {**place, "url": f"https://shop.example/products/{number}?ref=koc"})["code"]
        for number in range(LINKS)
    ]


def _play(postgres: Database, sides: tuple[Side, ...], requests: list[bytes]) -> int:
    """Send everything. Returns how many requests the service got."""
    sent = WARM_UP
    for side in sides:
        client.run(HOST, side.server.port, (requests * WARM_UP)[:WARM_UP], connections=32, expect=302)
    turns = [connections for _ in range(ROUNDS) for connections in CONNECTIONS]
    with show.progress("Redirects of each side", len(turns) * len(requests)) as tell:
        for turn, connections in enumerate(turns, start=1):
            for side in sides:
                before = side.server.cpu_seconds(), postgres.cpu_seconds()
                load = client.run(HOST, side.server.port, requests, connections=connections, expect=302)
                after = side.server.cpu_seconds(), postgres.cpu_seconds()
                check(load, f"the {side.name} side")
                side.loads.setdefault(connections, []).append(load)
                for spent, begin, end in zip((side.server_cpu_s, side.database_cpu_s), before, after, strict=True):
                    spent[connections] = spent.get(connections, 0.0) + end - begin
            sent += len(requests)
            tell(turn * len(requests))
    return sent


def _clicks(postgres: Database) -> int:
    with postgres.connect("koc") as connection:
        row = connection.execute("SELECT count(*) FROM click").fetchone()
    assert row is not None
    return int(str(row[0]))


def _table(constant: Side, ours: Side) -> None:
    rows = []
    for connections in CONNECTIONS:
        for side in (constant, ours):
            loads = side.loads[connections]
            requests = sum(len(load.latencies_s) for load in loads)
            latency = client.Load(latencies_s=sorted(s for load in loads for s in load.latencies_s))
            rows.append(
                (
                    str(connections),
                    side.name,
                    f"{side.per_second(connections):,.0f}",
                    f"{side.per_second(connections) / constant.per_second(connections):.2f}",
                    f"{latency.percentile_ms(50):.1f}",
                    f"{latency.percentile_ms(99):.1f}",
                    f"{1e6 * side.server_cpu_s[connections] / requests:,.0f}",
                    f"{1e6 * side.database_cpu_s[connections] / requests:,.0f}",
                )
            )
    columns = ("at once", "side", "per s", "ratio", "p50 ms", "p99 ms", "server µs", "db µs")
    show.table("Redirects, one server process each; CPU time per request", columns, rows, left=2)
