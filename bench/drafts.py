"""Draft terms tried on real orders: what they would cost, checked against sums made here by another way."""

import contextlib
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from bench import books, client, independent, retail, show
from bench.serve import HOST, database, environment, koc, new_secret_key, operator, service, stop
from bench.shop import Api, Refused, Shop, check
from bench.webhooks import JsonObject

DAYS = 400
PATIENCE_S = 300
ZONE = "Europe/London"
STEPS = ((50_000, 2), (250_000, 6))
"""Sales of a month, in pence, from which on so many percent are added to the rate."""

LOWER: JsonObject = {**books.TERMS, "rules": [{"kind": "percent", "rate": "5"}]}
LADDER: JsonObject = {
    **LOWER,
    "periods": [
        {
            "kind": "ladder",
            "key": "volume",
            "period": "month",
            "steps": [
                {"from": [{"amount_minor": start, "currency": retail.CURRENCY}], "rate": str(percent)}
                for start, percent in STEPS
            ],
        }
    ],
}


def prove(n: int | None, seed: int | None) -> bool:
    """Try the present terms, a lower rate, and that with a ladder, on the real orders. Returns whether all sums fit."""
    del n, seed
    story = retail.story(now=datetime.now(UTC))
    before = story.begins_at - timedelta(days=1)
    secret_key = new_secret_key()
    with database() as postgres, contextlib.ExitStack() as stack:
        log = postgres.folder / "server.log"
        server = stack.enter_context(service(postgres.url, secret_key=secret_key, log=log))
        owner = Api(server.url, operator(postgres.url, secret_key=secret_key))
        shop = Shop.opened(owner, name="Drafts", terms=books.TERMS, valid_from=before, time_zone=ZONE)
        for number in range(retail.KOCS):
            code = retail.code_of(number)
            shop.koc(code.lower(), f"KOC {number}", code, since=before)
        events = [happening.event for happening in story.happenings]
        with show.progress("Real orders", len(events)) as tell:
            load = client.run(HOST, server.port, shop.signed(events), connections=8, expect=200, on_answers=tell)
        check(load, "the real orders")
        commissions = list(shop.api.all("/v1/commissions"))
        env = environment(postgres.url, secret_key=secret_key, port=1)
        said = stack.enter_context((postgres.folder / "worker.log").open("wb"))
        worker = subprocess.Popen(koc("worker"), env=env, stdout=said, stderr=said)
        stack.callback(stop, worker)
        present, lower, ladder = (Tried.of(shop, terms) for terms in (books.TERMS, LOWER, LADDER))
        sales = _sales(shop)
        untouched = [each["id"] for each in commissions] == [each["id"] for each in shop.api.all("/v1/commissions")]
    wrong = _differences(present, lower, ladder, sales)
    if not untouched:
        wrong.append(("commissions", "as before", "others"))
    _tables(shop, ladder)
    if wrong:
        show.table("Differences", ("what", "expected", "found"), wrong)
    show.result(
        "simulate",
        orders=ladder.orders,
        now_minor=ladder.total["now"],
        then_minor=ladder.total["then"],
        difference_minor=ladder.total["difference"],
        ladder_minor=ladder.total["then"] - lower.total["then"],
        winners=sum(each["difference"] > 0 for each in ladder.by_koc.values()),
        losers=sum(each["difference"] < 0 for each in ladder.by_koc.values()),
        differences=len(wrong),
    )
    return not wrong


Amounts = dict[str, int]
"""now, then and difference, in pence."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a draft came to. by_koc: by the affiliate's id; by_day: by day."""

    orders: int
    total: Amounts
    by_koc: dict[str, Amounts]
    by_day: dict[str, Amounts]

    @classmethod
    def of(cls, shop: Shop, terms: JsonObject) -> "Tried":
        """Ask for a simulation and wait until the worker has done it."""
        asked = shop.api.post(f"/v1/programs/{shop.program_id}/simulate", {"terms": terms, "days": DAYS})
        path, until = f"/v1/simulations/{asked['id']}", time.monotonic() + PATIENCE_S
        while (found := shop.api.get(path))["state"] != "done":
            if found["state"] == "failed" or time.monotonic() > until:
                raise Refused(f"The simulation is {found['state']}: {found['error_detail']}")
            time.sleep(0.2)
        [total] = found["totals"]
        by_koc, by_day = (
            {each["key"]: _amounts(each) for each in shop.api.all(f"{path}/results", dimension=dimension)}
            for dimension in ("affiliate", "day")
        )
        return cls(found["progress"]["orders_done"], _amounts(total), by_koc, by_day)


def _amounts(told: JsonObject) -> Amounts:
    return {name: told[name]["amount_minor"] for name in ("now", "then", "difference")}


def _sales(shop: Shop) -> dict[str, dict[str, int]]:
    """Goods after refunds, in pence, by affiliate and by month of the merchant's time zone."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for order in shop.api.all("/v1/orders"):
        if order["affiliate_id"] is not None and order["placed_at"] is not None:
            month = datetime.fromisoformat(order["placed_at"]).astimezone(ZoneInfo(ZONE)).strftime("%Y-%m")
            found[order["affiliate_id"]][month] += order["net"]["amount_minor"]
    return found


def bonus(sales_minor: int) -> int:
    """What the ladder adds for a month, each step's rate for what is above its start; rounded once, half away from zero."""
    ends = [start for start, _ in STEPS[1:]] + [max(sales_minor, STEPS[-1][0])]
    exact = sum(
        Decimal(percent) * max(0, min(sales_minor, end) - start) / 100
        for (start, percent), end in zip(STEPS, ends, strict=True)
    )
    return int(Decimal(exact).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _differences(
    present: Tried, lower: Tried, ladder: Tried, sales: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, str, str]]:
    """What is not as it has to be: (what, expected, found)."""
    earned = independent.calculate(retail.FILE).commission_minor
    wanted: list[tuple[str, int, int]] = [
        ("now, as calculated from the file", earned, present.total["now"]),
        ("the present terms as a draft", earned, present.total["then"]),
    ]
    for name, tried in (("present", present), ("lower", lower), ("ladder", ladder)):
        wanted.append((f"now of the draft {name}", earned, tried.total["now"]))
        for by, parts in (("KOC", tried.by_koc), ("day", tried.by_day)):
            for side in ("now", "then", "difference"):
                found = sum(each[side] for each in parts.values())
                wanted.append((f"{side} of {name} by {by}", tried.total[side], found))
    for who, each in present.by_koc.items():
        wanted.append((f"{who} by the present terms", each["now"], each["then"]))
    for who in ladder.by_koc:
        added = ladder.by_koc[who]["then"] - lower.by_koc[who]["then"]
        wanted.append((f"bonuses of {who}", sum(map(bonus, sales[who].values())), added))
    return [(what, str(expected), str(found)) for what, expected, found in wanted if expected != found]


def _tables(shop: Shop, tried: Tried) -> None:
    names = {koc.id: koc.name for koc in shop.kocs}
    ranked = sorted(tried.by_koc.items(), key=lambda each: -each[1]["difference"])
    rows = [(names[who], *_shown(each)) for who, each in ranked]
    steps = ", ".join(f"{percent} % more from {show.amount(start, retail.CURRENCY)}" for start, percent in STEPS)
    show.table(
        f"5 % with a ladder ({steps} a month) instead of 8 %, {tried.orders} orders",
        ("KOC", "now", "then", "difference"),
        [*rows, ("all", *_shown(tried.total))],
    )


def _shown(amounts: Amounts) -> list[str]:
    return [show.amount(amounts[name], retail.CURRENCY) for name in ("now", "then", "difference")]
