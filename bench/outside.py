"""The outside world of the demo: visitors who click, shops that send webhooks, a month long, by a seeded draw."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from bench import webhooks
from bench.shop import TIMEOUT_S, JsonObject, Koc, Refused, Shop
from bench.webhooks import Event

SEED = 28
DAYS = 28
ORDERS_A_DAY = 5
CURRENCY = "USD"
SHOPIFY_DOMAIN = "demo-tea.myshopify.com"

CATALOGUE = (
    ("OOLONG-100", "tea", 1890),
    ("LOTUS-50", "tea", 2450),
    ("GLAZED-CUP", "ware", 1200),
    ("CLAY-POT", "ware", 6900),
    ("SERUM-30", "skincare", 3200),
    ("MASK-5", "skincare", 1475),
)
"""(SKU, category, price in cents)."""

_BROWSER = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
)
_BOT = "Googlebot/2.1 (+http://www.google.com/bot.html)"


@dataclass(slots=True)
class Sale:
    """An order at one of the two shops. shop: generic or shopify."""

    id: str
    shop: str
    koc: Koc | None
    placed_at: datetime
    lines: list[tuple[str, str, int, int]]
    """(SKU, category, quantity, cents for the whole line)."""
    click_id: str | None
    code: str | None
    versions: int = 0

    @property
    def cents(self) -> int:
        return sum(line[3] for line in self.lines)


@dataclass(slots=True)
class World:
    """What happened so far, and the shop's two ways to tell of it."""

    shop: Shop
    shopify_url: str
    shopify_secret: str
    offset: timedelta = timedelta()
    """How far the merchant's clock runs ahead of ours."""
    draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    clicks: Counter[str] = field(default_factory=Counter)
    """By the KOC's id."""
    told: Counter[str] = field(default_factory=Counter)
    """What was sent, by kind."""
    sales: list[Sale] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What did not come out as it should have."""
    _http: requests.Session = field(default_factory=requests.Session)
    _sent: int = 0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def move(self, **span: float) -> None:
        """Move the merchant's clock forward."""
        seconds = int(timedelta(**span).total_seconds())
        now = self.shop.api.post("/v1/test-clock", {"advance_s": seconds})["now"]
        self.offset = datetime.fromisoformat(now) - datetime.now(UTC)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note what did not hold; the demo goes on and fails at its end."""
        if not holds:
            self.wrong.append(otherwise)

    def click(self, koc: Koc, *, user_agent: str = _BROWSER) -> str:
        """Follow a KOC's short link as a visitor does. Returns the click id the shop's page is given."""
        assert koc.link is not None
        answer = self._http.get(
            koc.link["short_url"], allow_redirects=False, timeout=TIMEOUT_S, headers={"user-agent": user_agent}
        )
        location = urlsplit(answer.headers.get("location", ""))
        ids = parse_qs(location.query).get("koc_click", [])
        if answer.status_code != 302 or location.hostname != "shop.example" or len(ids) != 1:
            raise Refused(f"A click on {koc.link['short_url']} was answered {answer.status_code} {answer.text[:200]}")
        self.clicks[koc.id] += 1
        return ids[0]

    def play_day(self) -> None:
        """One more day: visitors, orders, and what becomes of earlier orders."""
        self.move(days=1)
        for koc in self.draw.sample(self.shop.kocs, 3):
            for _ in range(self.draw.randrange(1, 5)):
                self.click(koc)
        for _ in range(ORDERS_A_DAY):
            self._order()
        # The first sale has a story of its own.
        earlier = self.sales[1:-ORDERS_A_DAY]
        for sale in self.draw.sample(earlier, min(2, len(earlier))):
            self.draw.choice((self._edit, self._refund, self._repeat))(sale)

    def _order(self) -> Sale:
        koc = self.draw.choice(self.shop.kocs)
        how = self.draw.choices(("click", "coupon", "both", "nobody"), weights=(55, 25, 12, 8))[0]
        click_id = self.click(koc) if how in {"click", "both"} else None
        lines = []
        for sku, category, cents in self.draw.sample(CATALOGUE, self.draw.randrange(1, 4)):
            quantity = self.draw.randrange(1, 4)
            lines.append((sku, category, quantity, quantity * cents))
        sale = Sale(
            id=str(1000 + len(self.sales)),
            shop="shopify" if len(self.sales) % 4 == 3 else "generic",
            koc=None if how == "nobody" else koc,
            # A second later, as clocks are told to the second.
            placed_at=self.now + timedelta(seconds=1),
            lines=lines,
            click_id=click_id,
            code=koc.code if how in {"coupon", "both"} else None,
        )
        self.sales.append(sale)
        answer = self.tell(sale)
        self.expect(answer["state"] == "applied", f"Order {sale.id} was answered {answer}.")
        return sale

    def _edit(self, sale: Sale) -> None:
        """Another piece of the first article."""
        sku, category, quantity, cents = sale.lines[0]
        sale.lines[0] = (sku, category, quantity + 1, cents + cents // quantity)
        self.tell(sale, kind="edit")

    def _refund(self, sale: Sale) -> None:
        self.refund(sale, cents=sale.lines[0][3] // 2)

    def _repeat(self, sale: Sale) -> None:
        """The same bytes under the same id again, as when an answer was lost."""
        event = order_event(sale) if sale.shop == "generic" else shopify_event(sale)
        answer = self._send(sale.shop, event, "duplicate", topic="orders/create")
        self.expect(answer["repeated"], f"The repeated delivery {event.id} was not recognised.")

    def tell(self, sale: Sale, *, kind: str = "order") -> JsonObject:
        """Send the order as it is now."""
        sale.versions += 1
        if sale.shop == "generic":
            return self._send("generic", order_event(sale), kind)
        topic = "orders/create" if sale.versions == 1 else "orders/updated"
        return self._send("shopify", shopify_event(sale), kind, topic=topic)

    def refund(self, sale: Sale, *, cents: int, line: int = 1) -> JsonObject:
        """Send that a part of one line came back."""
        number = self.told["refund"] + 1
        if sale.shop == "generic":
            event = refund_event(sale, f"r-{number}", line=line, cents=cents, at=self.now)
            return self._send("generic", event, "refund")
        event = shopify_refund_event(sale, 5000 + number, line=line, cents=cents, at=self.now)
        return self._send("shopify", event, "refund", topic="refunds/create")

    def dispute(self, sale: Sale, *, opened_at: datetime, outcome: str | None = None) -> None:
        """Send that the buyer's bank opened a dispute over the whole order, or how it ended."""
        at = self.now
        event = {
            "type": "dispute",
            "id": f"dp-{sale.id}",
            "order_id": sale.id,
            "updated_at": at.isoformat(),
            "opened_at": opened_at.isoformat(),
            "currency": CURRENCY,
            "amount": _decimal(sale.cents),
        }
        if outcome is not None:
            event |= {"closed_at": at.isoformat(), "outcome": outcome}
        self._send("generic", Event.of(f"dispute-{sale.id}-{outcome or 'opened'}", event), "dispute")

    def refund_before_its_order(self) -> Sale:
        """A return that is told before the order it belongs to; the order follows, is repeated and edited."""
        koc = self.shop.kocs[0]
        sale = Sale(
            id="900",
            shop="generic",
            koc=koc,
            placed_at=self.now + timedelta(seconds=1),
            lines=[("CLAY-POT", "ware", 1, 6900), ("SERUM-30", "skincare", 2, 6400), ("OOLONG-100", "tea", 1, 1890)],
            click_id=self.click(koc),
            code=None,
        )
        early = self.refund(sale, cents=3200, line=2)
        self.expect(early["state"] == "waiting", f"A refund before its order was answered {early}.")
        late = self.tell(sale)
        self.expect(late["state"] == "applied", f"The order after its refund was answered {late}.")
        self.sales.append(sale)
        self._repeat(sale)
        sale.lines.append(("LOTUS-50", "tea", 1, 2450))
        self.tell(sale, kind="edit")
        return sale

    def forge(self) -> None:
        """Send an order signed by somebody else. It has to be refused."""
        event = order_event(replace(self.sales[-1], id="forged", versions=1))
        headers = webhooks.standard("whsec_" + "A" * 43 + "=", event, at_s=int(time.time()))
        answer = self._http.post(self.shop.webhook_url, data=event.body, headers=dict(headers), timeout=TIMEOUT_S)
        self.told["forged"] += 1
        self.expect(answer.status_code == 401, f"A forged delivery was answered {answer.status_code}.")

    def crawl(self) -> None:
        """A search engine follows a link: counted as a bot."""
        self.click(self.shop.kocs[0], user_agent=_BOT)

    def _send(self, shop: str, event: Event, kind: str, *, topic: str = "") -> JsonObject:
        if shop == "generic":
            url, headers = self.shop.webhook_url, webhooks.standard(self.shop.secret, event, at_s=int(time.time()))
        else:
            url = self.shopify_url
            headers = webhooks.shopify(self.shopify_secret, event, topic=topic, shop_domain=SHOPIFY_DOMAIN)
        answer = self._http.post(url, data=event.body, headers=dict(headers), timeout=TIMEOUT_S)
        if answer.status_code != 200:
            raise Refused(f"{kind} {event.id} was answered {answer.status_code} {answer.text[:300]}")
        self.told[kind] += 1
        told: JsonObject = answer.json()
        return told


def play(world: World, tell: Callable[[int], None]) -> Sale:
    """Let the month pass. Returns the sale whose story is worth telling."""
    told = world.refund_before_its_order()
    disputed: list[tuple[Sale, datetime]] = []
    for day in range(DAYS):
        world.play_day()
        if day in {4, DAYS - 2}:
            sale = next(each for each in reversed(world.sales) if each.shop == "generic" and each.koc)
            disputed.append((sale, world.now))
            world.dispute(sale, opened_at=world.now)
        if day == 15:
            sale, opened_at = disputed[0]
            world.dispute(sale, opened_at=opened_at, outcome="lost")
        if day == DAYS // 2:
            world.crawl()
            world.forge()
        tell(day + 1)
    return told


def order_event(sale: Sale) -> Event:
    """The order in the generic format, as of its present version."""
    order = {
        "type": "order",
        "id": sale.id,
        "number": f"#{sale.id}",
        "placed_at": sale.placed_at.isoformat(),
        "updated_at": _updated_at(sale),
        "currency": CURRENCY,
        "customer": {"id": f"c-{sale.id}", "email": f"buyer{sale.id}@example.com"},
        "click_ids": [sale.click_id] if sale.click_id else [],
        "coupon_codes": [sale.code] if sale.code else [],
        "lines": [
            *(
                {"id": str(number), "sku": sku, "category": category, "quantity": quantity, "net": _decimal(cents)}
                for number, (sku, category, quantity, cents) in enumerate(sale.lines, start=1)
            ),
            {"id": "shipping", "kind": "shipping", "net": "4.90"},
        ],
        "milestones": {"paid_at": sale.placed_at.isoformat()},
    }
    return Event.of(f"order-{sale.id}-{sale.versions}", order)


def refund_event(sale: Sale, refund_id: str, *, line: int, cents: int, at: datetime) -> Event:
    """A partial return in the generic format."""
    refund = {
        "type": "refund",
        "id": refund_id,
        "order_id": sale.id,
        "updated_at": at.isoformat(),
        "refunded_at": at.isoformat(),
        "currency": CURRENCY,
        "lines": [{"line_id": str(line), "net": _decimal(cents)}],
    }
    return Event.of(f"refund-{refund_id}", refund)


def shopify_event(sale: Sale) -> Event:
    """The order as Shopify shows it."""
    order: dict[str, Any] = {
        "id": 820982911000000000 + int(sale.id),
        "name": f"#S{sale.id}",
        "created_at": sale.placed_at.isoformat(),
        "processed_at": sale.placed_at.isoformat(),
        "updated_at": _updated_at(sale),
        "currency": CURRENCY,
        "financial_status": "paid",
        "fulfillment_status": None,
        "taxes_included": False,
        "test": False,
        "total_price": _decimal(sale.cents + 490),
        "total_tax": "0.00",
        "total_discounts": "0.00",
        "email": f"buyer{sale.id}@example.com",
        "customer": {"id": 207119000000 + int(sale.id), "email": f"buyer{sale.id}@example.com"},
        "discount_codes": [{"code": sale.code, "amount": "0.00", "type": "fixed_amount"}] if sale.code else [],
        "note_attributes": [{"name": "koc_click", "value": sale.click_id}] if sale.click_id else [],
        "landing_site": "/",
        "shipping_lines": [{"price": "4.90"}],
        "line_items": [
            {
                "id": _shopify_line(sale, number),
                "sku": sku,
                "quantity": quantity,
                "price": _decimal(cents // quantity),
                "discount_allocations": [],
                "tax_lines": [],
                "gift_card": False,
            }
            for number, (sku, _, quantity, cents) in enumerate(sale.lines, start=1)
        ],
        "refunds": [],
    }
    return Event.of(f"shopify-{sale.id}-{sale.versions}", order)


def shopify_refund_event(sale: Sale, refund_id: int, *, line: int, cents: int, at: datetime) -> Event:
    """A partial return as Shopify tells it."""
    money = {"amount": _decimal(cents), "currency_code": CURRENCY}
    refund = {
        "id": refund_id,
        "order_id": 820982911000000000 + int(sale.id),
        "created_at": at.isoformat(),
        "processed_at": at.isoformat(),
        "refund_line_items": [
            {
                "line_item_id": _shopify_line(sale, line),
                "quantity": 1,
                "subtotal": _decimal(cents),
                "subtotal_set": {"shop_money": money, "presentment_money": money},
                "total_tax": "0.00",
            }
        ],
        "order_adjustments": [],
        "transactions": [{"amount": _decimal(cents), "currency": CURRENCY, "kind": "refund", "status": "success"}],
    }
    return Event.of(f"shopify-refund-{refund_id}", refund)


def _updated_at(sale: Sale) -> str:
    return (sale.placed_at + timedelta(seconds=sale.versions)).isoformat()


def _shopify_line(sale: Sale, number: int) -> int:
    return 466157049000000 + 100 * int(sale.id) + number


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
