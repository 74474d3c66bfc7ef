"""`make demo`: a shop, a dozen KOCs, a month of signed webhooks, a payout run; then the service stays up to look around.

Everything is played over real HTTP against a service of its own. DEMO_EXIT=1 ends it when the show is over.
"""

import contextlib
import csv
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from zoneinfo import ZoneInfo

import requests

from bench import show
from bench.outside import CURRENCY, DAYS, SHOPIFY_DOMAIN, Sale, World, play
from bench.serve import HOST, NotServing, Server, free_port, koc, running
from bench.shop import Api, JsonObject, Refused, Shop
from tests.doubles.stripe import StripeDouble

PORT = 8000
ZONE = "Asia/Ho_Chi_Minh"
HOLD_DAYS = 14
RUN_S = 60
"""How long a payout run of a dozen may take."""

TERMS: JsonObject = {
    "rules": [
        {"kind": "percent", "rate": "15", "match": {"categories": ["skincare"]}},
        {"kind": "percent", "rate": "10"},
    ],
    "cap_per_order": [{"amount_minor": 2000, "currency": CURRENCY}],
    "attribution": {"window_days": 30, "precedence": "coupon"},
    "settlement": {"kind": "rolling", "start": "paid", "hold_days": HOLD_DAYS},
    "payout_minimums": [{"amount_minor": 100, "currency": CURRENCY}],
}
STORY_MINOR = 1604
"""What the order told of earns: 10 % of 69.00, 18.90 and 24.50, 15 % of the 32.00 that are left of 64.00."""

NAMES = ("Linh", "Minh", "Hoa", "Tuan", "Mai", "Duc", "Lan", "Khoa", "Thu", "Bao", "Ngoc", "Vy")
STRIPE_KOC = len(NAMES) - 1
"""The one who is paid through Stripe; all others on the sandbox rail."""


class Interrupted(Exception):
    """Somebody asked the demo to end."""


@dataclass(slots=True)
class Stage:
    """Everything set up for the show, and the keys to it."""

    server: Server
    operator_key: str
    shop: Shop
    world: World
    maker: Api
    checker: Api
    reader: Api
    koc: Api
    """The first KOC's own key."""


def main() -> int:
    """Play, print, and stay until Ctrl-C unless DEMO_EXIT is set. Returns 0 only if everything held."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with StripeDouble() as stripe, _service(stripe) as server:
            stage = _set_up(server, stripe)
            held = _show(stage, stripe)
            _where(stage)
            if os.environ.get("DEMO_EXIT"):
                return 0 if held else 1
            _stay(server)
            return 0 if held else 1
    except Interrupted:
        show.say("Ended; the data stays for the next start.")
        return 0
    except (NotServing, Refused) as error:
        show.say(f"The demo cannot go on. {error}")
    except requests.RequestException as error:
        show.say(f"The demo cannot go on: the service does not answer ({error}).")
    except subprocess.CalledProcessError as error:
        show.say(f"The demo cannot go on: `{' '.join(error.cmd)}` failed.\n{error.stderr or error.stdout}")
    return 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


@contextlib.contextmanager
def _service(stripe: StripeDouble) -> Iterator[Server]:
    """Start `koc serve` with its worker and, without DATABASE_URL, with its own PostgreSQL."""
    port = _port()
    env = {
        **os.environ,
        "KOC_HOST": HOST,
        "KOC_PORT": str(port),
        "KOC_PUBLIC_URL": f"http://{HOST}:{port}",
        "KOC_STRIPE_SECRET_KEY": "sk_test_demo",
        "KOC_STRIPE_API_BASE": stripe.url,
        "KOC_LOG_FORMAT": "json",
    }
    with tempfile.TemporaryDirectory(prefix="koc-demo-") as folder:
        if os.environ.get("DATABASE_URL"):
            show.say("Migrating the database of DATABASE_URL …")
            subprocess.run(koc("migrate"), env=env, check=True, capture_output=True, text=True)
        log = Path(folder) / "service.log"
        show.say("Starting PostgreSQL and the service …")
        # In a group of its own: Ctrl-C reaches us alone, and we end it in order.
        with running(koc("serve", "--with-worker"), env=env, port=port, log=log, own_group=True) as server:
            show.say(f"The service answers at {server.url}; its data lives in {_data_dir()}.")
            yield server


def _port() -> int:
    chosen = int(os.environ.get("KOC_PORT") or PORT)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, chosen))
        except OSError:
            other = free_port()
            show.say(f"Port {chosen} is in use, so the demo takes {other}.")
            return other
    return chosen


def _data_dir() -> str:
    if os.environ.get("DATABASE_URL"):
        return "the database of DATABASE_URL"
    return str(Path(os.environ.get("KOC_DATA_DIR") or ".koc-data").absolute())


def _set_up(server: Server, stripe: StripeDouble) -> Stage:
    made = subprocess.run(koc("operator-key", "--name", "demo"), capture_output=True, text=True, check=True)
    operator_key = made.stdout.strip()
    shop = Shop.opened(Api(server.url, operator_key), name="Demo tea house", terms=TERMS, time_zone=ZONE)
    with show.progress("A dozen KOCs", len(NAMES)) as tell:
        for number, name in enumerate(NAMES):
            _koc(shop, stripe, number, name)
            tell(number + 1)
    shopify = shop.api.post(
        "/v1/sources", {"name": "Shopify shop", "platform": "shopify", "shop_domain": SHOPIFY_DOMAIN}
    )
    world = World(shop, shopify["source"]["webhook_url"], shopify["secret"])
    return Stage(
        server=server,
        operator_key=operator_key,
        shop=shop,
        world=world,
        maker=shop.key("Mai of finance", "finance-maker"),
        checker=shop.key("Chi of finance", "finance-checker"),
        reader=shop.key("Reports", "read"),
        koc=shop.key(NAMES[0], "affiliate", affiliate_id=shop.kocs[0].id),
    )


def _koc(shop: Shop, stripe: StripeDouble, number: int, name: str) -> None:
    made = shop.koc(f"koc-{number + 1}", name, f"{name.upper()}10", email=f"{name.lower()}@koc.example", country="VN")
    made.link = shop.api.post(
        "/v1/links",
        {
            "affiliate_id": made.id,
            "program_id": shop.program_id,
            "url": f"https://shop.example/new?koc={name.lower()}#tea",
            "sub1": "video",
        },
    )
    if number == STRIPE_KOC:
        method = {"rail": "stripe_connect", "destination": stripe.account()}
    else:
        method = {"rail": "sandbox", "destination": f"sandbox_ok_{number + 1}"}
    shop.api.post(f"/v1/affiliates/{made.id}/payout-methods", method)
    rule = "none_company" if number % 3 == 2 else "off"
    shop.api.put(f"/v1/affiliates/{made.id}/tax-profile", {"rule": rule})


def _show(stage: Stage, stripe: StripeDouble) -> bool:
    """Play the month, pay, print. Returns whether everything was as it should be."""
    world = stage.world
    with show.progress(f"A month: {DAYS} days", DAYS) as tell:
        story = play(world, tell)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(world.told.items()))
    show.say(f"Told by signed webhooks: {told}; {sum(world.clicks.values())} clicks.")
    _pay(stage, stripe)
    _print_kocs(stage)
    _print_payouts(stage)
    _explain(stage, story)
    _state(stage)
    books = _check_books(stage)
    for sentence in world.wrong:
        show.say(f"Not as it should be: {sentence}")
    return books and not world.wrong


def _pay(stage: Stage, stripe: StripeDouble) -> None:
    """Let the hold period pass, settle, and pay in two runs, each made by one key and approved by another."""
    world = stage.world
    world.move(days=HOLD_DAYS + 1)
    while stage.maker.post("/v1/jobs/settle")["settled"]:
        pass
    left = [each for each in stage.reader.all("/v1/balances") if each["pending"]["amount_minor"]]
    world.expect(not left, f"{len(left)} KOCs have something pending after every hold period.")
    for rail in ("sandbox", "stripe_connect"):
        run = stage.maker.post("/v1/payout-runs", {"rail": rail, "currency": CURRENCY})
        path = f"/v1/payout-runs/{run['id']}"
        stage.maker.post(f"{path}/submit")
        world.expect(_is_refused(stage.maker, f"{path}/approve"), f"The maker could approve the {rail} run.")
        stage.checker.post(f"{path}/approve")
        stage.maker.post(f"{path}/execute")
        run = _closed(stage.maker, path, rail, run["totals"]["payouts"])
        paid = sum(each["payouts"] for each in run["states"] if each["status"] in {"sent", "settled"})
        world.expect(paid == run["totals"]["payouts"] > 0, f"The {rail} run closed as {run['states']}.")
    sent = [each["amount"] for each in stripe.transfers]
    asked = [run["totals"]["net"]["amount_minor"] for run in stage.reader.all("/v1/payout-runs")]
    world.expect(sum(sent) == asked[0], f"Stripe was asked for {sent}, the run says {asked[0]}.")


def _is_refused(api: Api, path: str) -> bool:
    answer = requests.post(api.url + path, headers={"authorization": f"Bearer {api.key}"}, timeout=60)
    return answer.status_code == 403


def _closed(api: Api, path: str, rail: str, payouts: int) -> JsonObject:
    """Wait until the worker has sent a run."""
    until = time.monotonic() + RUN_S
    with show.progress(f"Paying by {rail}", payouts) as tell:
        while True:
            run: JsonObject = api.get(path)
            tell(sum(each["payouts"] for each in run["states"] if each["status"] in {"sent", "settled"}))
            if run["status"] == "closed":
                return run
            if time.monotonic() > until:
                raise Refused(f"The {rail} run is {run['status']} after {RUN_S} s: {run['states']}")
            time.sleep(0.2)


def _print_kocs(stage: Stage) -> None:
    balances = {each["affiliate_id"]: each for each in stage.reader.all("/v1/balances", currency=CURRENCY)}
    orders: dict[str, int] = {}
    for order in stage.reader.all("/v1/orders"):
        orders[order["affiliate_id"]] = orders.get(order["affiliate_id"], 0) + 1
    rows = []
    for each in stage.shop.kocs:
        balance = balances.get(each.id)
        amounts = [_money(balance[place]) if balance else "" for place in ("earned", "held", "payable", "paid")]
        rows.append((each.name, each.code, str(stage.world.clicks[each.id]), str(orders.get(each.id, 0)), *amounts))
    columns = ("KOC", "coupon", "clicks", "orders", "earned", "held", "payable", "paid")
    show.table(f"What the KOCs brought and earned ({CURRENCY})", columns, rows, left=2)


def _print_payouts(stage: Stage) -> None:
    rows = [
        (
            row["affiliate_name"],
            row["rail"],
            row["destination"],
            row["state"],
            f"{row['reference'][:14]}…",
            row["gross"],
            row["tax"],
            row["net"],
        )
        for row in csv.DictReader(io.StringIO(stage.reader.text("/v1/reports/payouts.csv")))
    ]
    columns = ("KOC", "rail", "account", "state", "reference", "gross", "tax", "net")
    show.table(f"Payout report ({CURRENCY}), as /v1/reports/payouts.csv", columns, rows, left=5)


def _explain(stage: Stage, story: Sale) -> None:
    """Print one commission's receipt and its order's timeline: the refund came before the order."""
    order = stage.reader.get(f"/v1/orders/by-external-id/{story.id}")
    commission = next(stage.reader.all("/v1/commissions", order_id=order["id"]))
    receipt = stage.reader.get(f"/v1/commissions/{commission['id']}/receipt")["receipt"]
    earned = receipt["target_minor"]
    stage.world.expect(earned == STORY_MINOR, f"Order {story.id} earned {earned} instead of {STORY_MINOR}.")
    rows = [
        (
            line["sku"],
            show.decimal(line["ordered_minor"]),
            show.decimal(line["refunded_minor"]),
            show.decimal(line["base_minor"]),
            f"{line['parts'][0]['rate']} %",
            show.decimal(line["commission_minor"]),
        )
        for line in receipt["lines"]
    ]
    rows.append(("all", "", "", "", "", show.decimal(earned)))
    name = next(each.name for each in stage.shop.kocs if each.id == commission["affiliate_id"])
    show.table(
        f"Why {name} earned {show.amount(earned, CURRENCY)} on order {story.id} (terms version "
        f"{receipt['program_version']})",
        ("article", "ordered", "came back", "counts", "rate", "commission"),
        rows,
    )
    timeline = stage.reader.get(f"/v1/orders/{order['id']}/timeline")["entries"]
    show.table(
        "What happened to it",
        ("when (shop's clock)", "what", "in words"),
        [(each["at"][:19].replace("T", " "), each["kind"], each["text"]) for each in timeline],
        left=3,
    )


_OWED = ("pending", "held", "payable", "reserved", "in_transit", "carried", "advance")


def _state(stage: Stage) -> None:
    """Issue every KOC's statement of all these days, hold it against its balance, and print one."""
    # By the shop's own calendar, as everything is booked: in the evening of UTC it is a day ahead.
    today = stage.world.now.astimezone(ZoneInfo(ZONE)).date()
    stage.world.move(days=2)
    asked = {"begins_on": (today - timedelta(days=2 * DAYS)).isoformat(), "ends_on": today.isoformat()}
    run = stage.maker.post("/v1/statements", asked)
    statements = {each["affiliate_id"]: each for each in stage.reader.all("/v1/statements", run_id=run["id"])}
    balances = {each["affiliate_id"]: each for each in stage.reader.all("/v1/balances", currency=CURRENCY)}
    wrong = [
        each["number"]
        for affiliate_id, each in statements.items()
        if each["closing"]["amount_minor"] != sum(balances[affiliate_id][place]["amount_minor"] for place in _OWED)
    ]
    stage.world.expect(
        not wrong and len(statements) == len(balances), f"Statements {wrong} do not end with the balances."
    )
    first = stage.shop.kocs[0]
    statement = stage.reader.get(f"/v1/statements/{statements[first.id]['id']}")
    show.table(
        f"Statement {statement['number']} of {first.name} ({CURRENCY})",
        ("step", "amount"),
        [(step["step"], show.decimal(step["amount_minor"])) for step in statement["document"]["waterfall"]],
    )
    show.say(f"To print: /v1/statements/{statement['id']}.html?language=vi, for {first.name} /v1/me/statements/….html")


def _money(amount: JsonObject) -> str:
    return show.decimal(amount["amount_minor"])


def _check_books(stage: Stage) -> bool:
    answer = subprocess.run(
        koc("check-books", "--merchant", stage.shop.merchant_id), capture_output=True, text=True, check=False
    )
    show.say(f"koc check-books: {answer.stdout.strip() or answer.stderr.strip()}")
    return answer.returncode == 0


def _where(stage: Stage) -> None:
    url, first = stage.server.url, stage.shop.kocs[0]
    assert first.link is not None
    show.table(
        "Look around",
        ("what", "where"),
        [
            ("API description", f"{url}/docs"),
            (f"{first.name}'s link", str(first.link["short_url"])),
            ("metrics, health", f"{url}/metrics  {url}/readyz"),
            ("operator key", stage.operator_key),
            ("admin key", stage.shop.api.key),
            ("finance maker", stage.maker.key),
            ("finance checker", stage.checker.key),
            ("reports (read)", stage.reader.key),
            (f"{first.name}'s own key", stage.koc.key),
        ],
        left=2,
    )
    show.say(f"curl -H 'Authorization: Bearer {stage.koc.key}' {url}/v1/me/earnings")


def _stay(server: Server) -> None:
    show.say("The service keeps running. Ctrl-C ends it; its data stays.")
    code = server.process.wait()
    raise NotServing(f"The service ended by itself with {code}.")


if __name__ == "__main__":
    sys.exit(main())
