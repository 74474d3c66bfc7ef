"""A second opinion on the money, written from docs/money.md and docs/payouts.md alone, without a line of the service.

It keeps raw facts: every body that was told, every dated input, and, because where money stands depends on them, the
settle runs and what payout runs took and gave back. Whatever must follow it works out from these anew each time.
Times of one order lie on whole hours where they are subtracted, so time in dispute can be counted in hours.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

Json = dict[str, Any]
T = TypeVar("T")
History = list[tuple[datetime, T]]
"""What was set up, and from when on it holds; in any order."""

DIGITS = {"USD": 2, "EUR": 2, "VND": 0}
TOLERANCE = timedelta(minutes=5)
HERE = frozenset({"reserved", "approved", "refused"})
AWAY = frozenset({"sending", "unknown"})
"""Where an item's money is: with us, or at a rail that has not answered; else it was sent, or the item is released."""


class Key(NamedTuple):
    order: str
    payee: str
    currency: str


class Standing(NamedTuple):
    """One commission: what it should be, where its parts are, and when it is due."""

    target: int
    pending: int
    held: int
    settled: int
    settles_at: datetime | None


class Due(NamedTuple):
    """What an order owes now. limit: the most an approval lets through; None while none is needed."""

    target: int
    limit: int | None = None
    settles_at: datetime | None = None


@dataclass
class Item:
    """One payee in one payout run. shares: how much of which commission it took out of payable."""

    run: str
    payee: str
    currency: str
    account: str
    gross: int
    carried: int
    net: int
    shares: dict[Key, int]
    state: str = "reserved"
    came_back: int = 0

    @property
    def remainder(self) -> int:
        return self.gross + self.carried - self.net


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def minor(text: str, currency: str) -> int:
    return int(Decimal(text).scaleb(DIGITS[currency]))


def as_of(history: Iterable[tuple[datetime, T]], at: datetime) -> T | None:
    """What holds at a moment."""
    begun = [(since, what) for since, what in history if since <= at]
    return max(begun, key=lambda each: each[0])[1] if begun else None


class Refund(NamedTuple):
    currency: str
    lines: dict[str, int]
    loose: int


@dataclass
class Oracle:
    """larger: a number that orders bodies of one version as the service does; a tie-break nobody can derive."""

    larger: Callable[[bytes], Any]
    terms: History[Json] = field(default_factory=list)
    approved: dict[str, History[bool]] = field(default_factory=lambda: defaultdict(list))
    enrolled: dict[str, History[bool]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[str, History[str]] = field(default_factory=dict)
    """Of coupons by code and of links by name."""
    clicks: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    same_person: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    """By order, affiliate and customer, as it was when first asked."""
    status: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[tuple[bytes, Json]]] = field(default_factory=lambda: defaultdict(list))
    inbox: dict[tuple[str, bytes], bool] = field(default_factory=dict)
    """Deliveries, and whether they were understood."""
    settled: dict[Key, int] = field(default_factory=dict)
    moved: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    """What each commission moved in payable since the last item took it."""
    items: list[Item] = field(default_factory=list)

    # What is told.

    def deliver(self, name: str, body: bytes, now: datetime) -> str:
        """A delivery of a shop. Returns what has to be answered the first time it comes."""
        if (name, body) not in self.inbox:
            self.inbox[name, body] = self._count(body, now)
        return self.states()[name, body]

    def replay(self, name: str, body: bytes, now: datetime) -> str:
        """Read a parked delivery again."""
        self.inbox[name, body] = self._count(body, now)
        return self.states()[name, body]

    def decide(self, order: str, decision: Json) -> None:
        """A decision of a person; the last of its kind counts."""
        self.told[order].append((b"", decision))
        self._book(order)

    def states(self) -> dict[tuple[str, bytes], str]:
        """Where every delivery stands: parked, waiting for its order, or applied."""
        return {
            (name, body): "parked" if not understood else "applied" if self._has_order(order_of(body)) else "waiting"
            for (name, body), understood in self.inbox.items()
        }

    def _count(self, body: bytes, now: datetime) -> bool:
        event = json.loads(body)
        times = [
            event.get("updated_at"),
            event.get("placed_at"),
            event.get("at"),
            *event.get("milestones", {}).values(),
        ]
        known = event["type"] in {"order", "refund", "dispute", "status"} and event.get("currency", "USD") in DIGITS
        if not known or any(moment(at) > now + TOLERANCE for at in times if at):
            return False
        self.told[order_of(body)].append((body, event))
        self._book(order_of(body))
        return True

    def _has_order(self, order: str) -> bool:
        return any(event["type"] == "order" for _, event in self.told[order])

    # What follows from it.

    def commissions(self) -> dict[Key, Standing]:
        """Where every commission stands."""
        found = {}
        for order in {key.order for key in self.settled}:
            due, frozen = self.due(order)
            for key in [key for key in self.settled if key.order == order]:
                target, _, settles_at = due.get(key, Due(0))
                rest = target - self.settled[key]
                found[key] = Standing(target, 0 if frozen else rest, rest if frozen else 0, target - rest, settles_at)
        return found

    def due(self, order: str) -> tuple[dict[Key, Due], bool]:
        """What an order owes to whom, and whether its money is frozen."""
        told = self.told[order]
        bodies = self._newest(told, "order", lambda _: "", lambda event: event["updated_at"]).get("", [])
        if not bodies:
            return {}, False
        shown = bodies[0]
        disputes = [
            versions[0]
            for versions in self._newest(
                told, "dispute", lambda event: event["id"], lambda event: (event["updated_at"], "closed_at" in event)
            ).values()
        ]
        refunds = self._refunds(told, disputes)
        holds = [event["type"] for _, event in told if event["type"] in {"hold", "release"}]
        frozen = (
            len(bodies) > 1
            or holds[-1:] == ["hold"]
            or any("closed_at" not in dispute for dispute in disputes)
            or any(sum(back.lines.values()) + back.loose and back.currency != shown["currency"] for back in refunds)
        )
        payee = self._brought_by(order, shown)
        if payee is None:
            return {}, frozen
        nets = net_lines(shown, [back for back in refunds if back.currency == shown["currency"]])
        choices = [(earned(each, nets, shown["currency"]), each) for each in self._terms_for(payee, shown)]
        if not choices:
            return {}, frozen
        target, best = max(choices, key=lambda choice: choice[0])
        verdicts = [event for _, event in told if event["type"] == "verdict" and event["payee"] == payee]
        verdict = verdicts[-1] if verdicts else None
        if shown.get("cancelled") or (verdict and verdict["amount"] is None):
            target = 0
        approved = verdict and verdict["amount"] is not None and verdict["currency"] == shown["currency"]
        manual = best["settlement"]["approval"] == "manual"
        limit = verdict["amount"] if verdict and approved else 0 if manual else None
        start = min(milestones(told, best["settlement"]["start"]), default=None)
        settles_at = None
        if start is not None and (approved or not manual):
            stopped = {hour for each in disputes if "closed_at" in each for hour in hours(each, since=start)}
            settles_at = start + timedelta(days=best["settlement"]["hold_days"], hours=len(stopped))
        return {Key(order, payee, shown["currency"]): Due(target, limit, settles_at)}, frozen

    def _newest(
        self, told: list[tuple[bytes, Json]], kind: str, name: Callable[[Json], str], version: Callable[[Json], Any]
    ) -> dict[str, list[Json]]:
        """By name the newest version of each thing; several where bodies disagree, the one that counts first."""
        found: dict[str, dict[bytes, Json]] = defaultdict(dict)
        for body, event in told:
            if event["type"] == kind:
                found[name(event)][body] = event
        result = {}
        for key, bodies in found.items():
            newest = max(version(event) for event in bodies.values())
            of_it = {body: event for body, event in bodies.items() if version(event) == newest}
            if len(of_it) > 1:
                # Bytes that mean the same are one body.
                meant = {self.larger(body): event for body, event in of_it.items()}
                result[key] = [meant[each] for each in sorted(meant, reverse=True)]
            else:
                result[key] = list(of_it.values())
        return result

    def _refunds(self, told: list[tuple[bytes, Json]], disputes: list[Json]) -> list[Refund]:
        back = {
            f"dispute:{each['id']}": Refund(each["currency"], {}, minor(each["amount"], each["currency"]))
            for each in disputes
            if each.get("outcome") == "lost"
        }

        def name(event: Json) -> str:
            return f"dispute:{event['dispute_id']}" if "dispute_id" in event else event["id"]

        def version(event: Json) -> Any:
            return event["updated_at"], sum(refund_of(event).lines.values()) + refund_of(event).loose

        own = self._newest(told, "refund", name, version)
        return list((back | {key: refund_of(versions[0]) for key, versions in own.items()}).values())

    def _brought_by(self, order: str, shown: Json) -> str | None:
        placed_at = moment(shown["placed_at"])
        terms = as_of(self.terms, placed_at)
        owned = [
            (at, ref, ref in self.clicks, owner)
            for ref, name, at in [
                *((ref, *self.clicks[ref]) for ref in shown.get("click_ids", []) if ref in self.clicks),
                *((code, code, placed_at) for code in shown.get("coupon_codes", []) if code in self.owners),
            ]
            if (owner := as_of(self.owners[name], at))
        ]
        rules = terms["attribution"] if terms else {}
        eligible = [each for each in owned if terms and self._may_earn(order, shown, each, rules)]
        decided = [event["payee"] for _, event in self.told[order] if event["type"] == "attribute"]
        if decided:
            payee: str | None = decided[-1]
            touched = any(owner == payee for *_, owner in owned)
            return payee if touched or (payee and self._member_since(payee, placed_at)) else None
        if not eligible:
            return None
        first = [each for each in eligible if rules["precedence"] == ("click" if each[2] else "coupon")]
        return (max if rules["model"] == "last" else min)(first or eligible)[3]

    def _may_earn(self, order: str, shown: Json, touch: tuple[datetime, str, bool, str], rules: Json) -> bool:
        at, _, is_click, owner = touch
        placed_at = moment(shown["placed_at"])
        if not (as_of(self.approved[owner], placed_at) and self._member_since(owner, placed_at)):
            return False
        if is_click and not timedelta() <= placed_at - at <= timedelta(days=rules["window_days"]):
            return False
        customer = shown.get("customer", {}).get("email")
        if rules["self_purchase"] == "allow" or not customer:
            return True
        return not self.same_person.setdefault((order, owner, customer), self.emails.get(owner) == customer)

    def _member_since(self, affiliate: str, at: datetime) -> datetime | None:
        since = None
        for begins, member in sorted(self.enrolled[affiliate]):
            if begins <= at:
                since = (since or begins) if member else None
        return since

    def _terms_for(self, payee: str, shown: Json) -> list[Json]:
        """The terms in force, then those protected by notice, lost last first."""
        placed_at = moment(shown["placed_at"])
        joined = self._member_since(payee, placed_at) or placed_at
        begun = sorted(((since, each) for since, each in self.terms if since <= placed_at), key=lambda each: each[0])
        protected = [
            old
            for (_, old), (lost, _) in pairwise(begun)
            if joined < lost and placed_at - lost < timedelta(days=old["notice_days"])
        ]
        return [each for _, each in begun[-1:]] + protected[::-1]

    # Where money stands: settle runs and payouts are history.

    def _book(self, order: str) -> None:
        """Something new was told of an order: what was settled may have to come back."""
        due, frozen = self.due(order)
        for key in {*due, *(key for key in self.settled if key.order == order)}:
            before = self.settled.get(key, 0)
            after = min(before, due.get(key, Due(0)).target)
            if frozen:
                after -= min(after, max(0, self._still_here(key) - (before - after)))
            self.settled[key] = after
            self.moved[key] += after - before

    def _still_here(self, key: Key) -> int:
        return self.moved[key] + sum(item.shares.get(key, 0) for item in self.items if item.state in HERE)

    def settle(self, now: datetime) -> None:
        """Everything due becomes payable, as far as an approval allows."""
        for key, standing in self.commissions().items():
            due = self.due(key.order)[0].get(key, Due(0))
            if standing.pending and due.settles_at and due.settles_at <= now:
                room = standing.pending if due.limit is None else due.limit - standing.settled
                amount = max(0, min(standing.pending, room))
                self.settled[key] += amount
                self.moved[key] += amount

    def balances(self) -> dict[tuple[str, str], dict[str, int]]:
        """Every balance that is not 0, by payee and currency."""
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for key, standing in self.commissions().items():
            found[key.payee, key.currency].update(
                {"pending": standing.pending, "held": standing.held, "payable": standing.settled}
            )
        for item in self.items:
            if item.state != "released":
                of = found[item.payee, item.currency]
                of.update({"payable": -item.gross, "taxed_carry": -item.carried})
                if item.state in HERE | AWAY:
                    of["reserved" if item.state in HERE else "in_transit"] += item.gross + item.carried
                else:
                    of.update({"paid": item.net - item.came_back, "taxed_carry": item.remainder + item.came_back})
        return {
            owner: {kind: each for kind, each in of.items() if each} for owner, of in found.items() if any(of.values())
        }

    def payable_to(self, currency: str, now: datetime, *, step: int) -> dict[str, tuple[int, int]]:
        """Whom a run made now pays, with what of payable and of carried money."""
        busy = {item.payee for item in self.items if item.currency == currency and item.state in HERE | AWAY}
        found = {}
        for (payee, each), kinds in self.balances().items():
            payable, carried = kinds.get("payable", 0), kinds.get("taxed_carry", 0)
            least = max(1, step, self._minimum(payee, currency, now))
            able = payee not in busy and self.status[payee] == "approved" and payee in self.accounts
            if each == currency and able and payable >= 0 and payable + carried >= least:
                found[payee] = (payable, carried)
        return found

    def _minimum(self, payee: str, currency: str, now: datetime) -> int:
        terms = as_of(self.terms, now) if self._member_since(payee, now) else None
        promised = {each["currency"]: each["amount_minor"] for each in terms["payout_minimums"]} if terms else {}
        return int(promised.get(currency, 1))

    def reserve(self, run: str, currency: str, now: datetime, *, step: int, only: Collection[str] = ()) -> list[Item]:
        """Make a run of everybody who can be paid, or of those named."""
        made = []
        for payee, (gross, carried) in self.payable_to(currency, now, step=step).items():
            if not only or payee in only:
                keys = [key for key in self.moved if (key.payee, key.currency) == (payee, currency)]
                shares = {key: self.moved.pop(key) for key in keys}
                net = (gross + carried) // step * step
                made.append(Item(run, payee, currency, self.accounts[payee], gross, carried, net, shares))
        self.items += made
        return made

    def is_as_approved(self, item: Item) -> bool:
        """Whether an item may still be handed to a rail."""
        payable = self.balances().get((item.payee, item.currency), {}).get("payable", 0)
        return payable >= 0 and self.status[item.payee] == "approved" and self.accounts[item.payee] == item.account

    def release(self, item: Item) -> None:
        """Its money is back where it came from."""
        item.state = "released"
        for key, amount in item.shares.items():
            self.moved[key] += amount


def order_of(body: bytes) -> str:
    event = json.loads(body)
    return str(event["id"] if event["type"] == "order" else event["order_id"])


def milestones(told: list[tuple[bytes, Json]], wanted: str) -> Iterator[datetime]:
    for _, event in told:
        if event["type"] == "status" and event["milestone"] == wanted:
            yield moment(event["at"])
        if event["type"] == "order" and f"{wanted}_at" in event.get("milestones", {}):
            yield moment(event["milestones"][f"{wanted}_at"])


def hours(dispute: Json, *, since: datetime) -> Iterator[datetime]:
    """The hours of a closed dispute after a moment."""
    at, end = max(moment(dispute["opened_at"]), since), moment(dispute["closed_at"])
    while at < end:
        yield at
        at += timedelta(hours=1)


def refund_of(event: Json) -> Refund:
    named: Counter[str] = Counter()
    for line in event.get("lines", []):
        named[line["line_id"]] += minor(line["net"], event["currency"])
    whole = minor(event["amount"], event["currency"]) if "amount" in event else sum(named.values())
    return Refund(event["currency"], dict(named), whole - sum(named.values()))


def net_lines(shown: Json, refunds: list[Refund]) -> list[tuple[Json, int]]:
    """Goods lines and what is left of each."""
    goods = [line for line in shown["lines"] if line.get("kind", "goods") == "goods"]
    known = {line["id"] for line in shown["lines"]}
    back: Counter[str] = Counter()
    for refund in refunds:
        back.update(refund.lines)
    loose = sum(refund.loose for refund in refunds) + sum(each for line, each in back.items() if line not in known)
    left = [max(0, minor(line["net"], shown["currency"]) - back[line["id"]]) for line in goods]
    loose = min(loose, sum(left))
    exact = [Fraction(loose * each, sum(left) or 1) for each in left]
    taken = [int(each) for each in exact]
    for index in sorted(range(len(left)), key=lambda place: taken[place] - exact[place])[: loose - sum(taken)]:
        taken[index] += 1
    return [(line, rest - gone) for line, rest, gone in zip(goods, left, taken, strict=True)]


def earned(terms: Json, nets: list[tuple[Json, int]], currency: str) -> int:
    """What one version of the terms gives: each line rounded once, half up, then the cap."""
    total = 0
    for line, net in nets:
        for rule in terms["rules"]:
            match = rule["match"]
            everything = not match["skus"] and not match["categories"]
            if everything or line["sku"] in match["skus"] or line.get("category") in match["categories"]:
                if rule["kind"] == "percent":
                    total += int(net * Fraction(rule["rate"]) / 100 + Fraction(1, 2))
                else:
                    flat = {each["currency"]: each["amount_minor"] for each in rule["amounts"]}
                    total += min(net, flat.get(currency, 0))
                break
    caps = {each["currency"]: each["amount_minor"] for each in terms["cap_per_order"]}
    return int(min(total, caps.get(currency, total)))
