"""A second opinion on the money, written from docs/money.md and docs/payouts.md alone, without a line of the service.

It keeps raw facts: every body that was told, every dated input, and, because where money stands depends on them, the
settle runs and what payout runs took and gave back. Whatever must follow it works out from these anew each time.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, NamedTuple

from tests.support.oracle_reads import (
    DIGITS,
    History,
    Json,
    as_of,
    clock,
    earned,
    moment,
    net_lines,
    newest,
    of,
    order_of,
    refund_of,
)

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
    """What an order owes now, to one payee at most. limit: the most an approval lets through; None without one."""

    key: Key | None
    frozen: bool
    target: int = 0
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


@dataclass
class Oracle:
    """larger: a number that orders bodies of one version as the service does; a tie-break nobody can derive. zone: the shop's."""

    larger: Callable[[bytes], Any]
    zone: tzinfo
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
    moved: Counter[Key] = field(default_factory=Counter)
    """What each commission moved in payable since the last item took it."""
    items: list[Item] = field(default_factory=list)

    # What is told.

    def deliver(self, name: str, body: bytes, now: datetime, *, replay: bool = False) -> str:
        """A delivery of a shop, or one that was parked read again. Returns what is to be answered when it is new."""
        if replay or (name, body) not in self.inbox:
            event, self.inbox[name, body] = json.loads(body), False
            said = [event.get(each) for each in ("updated_at", "placed_at", "at")]
            times = [moment(at) for at in (*said, *event.get("milestones", {}).values()) if at]
            known = event["type"] in {"order", "refund", "dispute", "status"} and event.get("currency", "USD") in DIGITS
            if known and all(at <= now + TOLERANCE for at in times):
                self.inbox[name, body] = True
                self.told[order_of(event)].append((body, event))
                self._book(order_of(event))
        return self.states()[name, body]

    def decide(self, order: str, decision: Json) -> None:
        """A decision of a person; the last of its kind counts."""
        self.told[order].append((b"", decision))
        self._book(order)

    def states(self) -> dict[tuple[str, bytes], str]:
        """Where every delivery stands: parked, waiting for its order, or applied."""
        here = {order for order, told in self.told.items() if any(event["type"] == "order" for _, event in told)}
        return {
            given: "parked" if not read else "applied" if order_of(json.loads(given[1])) in here else "waiting"
            for given, read in self.inbox.items()
        }

    # What follows from it.

    def commissions(self) -> dict[Key, Standing]:
        """Where every commission stands."""
        found, due = {}, {order: self.due(order) for order in {key.order for key in self.settled}}
        for key, settled in self.settled.items():
            owed = due[key.order]
            target, settles_at = (owed.target, owed.settles_at) if owed.key == key else (0, None)
            pending, held = (0, target - settled) if owed.frozen else (target - settled, 0)
            found[key] = Standing(target, pending, held, settled, settles_at)
        return found

    def due(self, order: str) -> Due:
        """What an order owes to whom, and whether its money is frozen."""
        told = self.told[order]
        bodies = newest(told, "order", self.larger).get(order, [])
        if not bodies:
            return Due(None, frozen=False)
        shown, currency = bodies[0], bodies[0]["currency"]
        disputes = [versions[0] for versions in newest(told, "dispute", self.larger).values()]
        lost = {f"dispute:{each['id']}": refund_of(each) for each in disputes if each.get("outcome") == "lost"}
        refunds = lost | {key: refund_of(versions[0]) for key, versions in newest(told, "refund", self.larger).items()}
        holds = [event["type"] for _, event in told if event["type"] in {"hold", "release"}]
        frozen = (
            len(bodies) > 1
            or holds[-1:] == ["hold"]
            or any("closed_at" not in dispute for dispute in disputes)
            or any(back.whole and back.currency != currency for back in refunds.values())
        )
        payee = self._brought_by(order, shown)
        nets = net_lines(shown, [back for back in refunds.values() if back.currency == currency])
        choices = [(earned(each, nets, shown), each) for each in self._terms_for(payee, shown)] if payee else []
        if payee is None or not choices:
            return Due(None, frozen)
        target, best = max(choices, key=lambda choice: choice[0])
        verdicts = [event for _, event in told if event["type"] == "verdict" and event["payee"] == payee]
        verdict = verdicts[-1] if verdicts else {"currency": None, "amount": 0}
        if shown["cancelled"] or verdict["amount"] is None:
            target = 0
        approved = verdict["amount"] is not None and verdict["currency"] == currency
        closed, settles_at = clock(best["settlement"], told, shown, disputes, self.zone, approved=approved)
        limit = verdict["amount"] if approved else 0 if closed else None
        return Due(Key(order, payee, currency), frozen, target, limit, settles_at)

    def _brought_by(self, order: str, shown: Json) -> str | None:
        placed_at = moment(shown["placed_at"])
        terms = as_of(self.terms, placed_at)
        touches = {ref: self.clicks[ref] for ref in shown["click_ids"]}
        touches |= {code: (code, placed_at) for code in shown["coupon_codes"]}
        owned = [
            (at, ref, ref in self.clicks, owner)
            for ref, (name, at) in touches.items()
            if (owner := as_of(self.owners.get(name, []), at))
        ]
        rules = terms["attribution"] if terms else {}
        eligible = [each for each in owned if terms and self._may_earn(order, shown, each, rules)]
        decided = [event["payee"] for _, event in self.told[order] if event["type"] == "attribute"]
        if decided:
            payee: str | None = decided[-1]
            touched = any(owner == payee for *_, owner in owned)
            return payee if touched or (payee and self._member_since(payee, placed_at)) else None
        first = [each for each in eligible if rules["precedence"] == ("click" if each[2] else "coupon")] or eligible
        return (max if rules["model"] == "last" else min)(first)[3] if first else None

    def _may_earn(self, order: str, shown: Json, touch: tuple[datetime, str, bool, str], rules: Json) -> bool:
        (at, _, is_click, owner), placed_at = touch, moment(shown["placed_at"])
        late = is_click and not timedelta() <= placed_at - at <= timedelta(days=rules["window_days"])
        if late or not (as_of(self.approved[owner], placed_at) and self._member_since(owner, placed_at)):
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
        due = self.due(order)
        for key in {*([due.key] if due.key else []), *(key for key in self.settled if key.order == order)}:
            before = self.settled.get(key, 0)
            after = min(before, due.target if key == due.key else 0)
            if due.frozen:
                after -= min(after, max(0, self._still_here(key) - (before - after)))
            self.settled[key] = after
            self.moved[key] += after - before

    def _still_here(self, key: Key) -> int:
        return self.moved[key] + sum(item.shares.get(key, 0) for item in self.items if item.state in HERE)

    def settle(self, now: datetime) -> None:
        """Everything due becomes payable, as far as an approval allows."""
        for key, standing in self.commissions().items():
            limit = self.due(key.order).limit
            if standing.pending and standing.settles_at and standing.settles_at <= now:
                amount = max(0, standing.pending if limit is None else min(standing.pending, limit - standing.settled))
                self.settled[key] += amount
                self.moved[key] += amount

    def balances(self) -> dict[tuple[str, str], dict[str, int]]:
        """Every balance that is not 0, by payee and currency."""
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for key, standing in self.commissions().items():
            places = {"pending": standing.pending, "held": standing.held, "payable": standing.settled}
            found[key.payee, key.currency].update(places)
        for item in self.items:
            if item.state != "released":
                kinds = found[item.payee, item.currency]
                kinds.update({"payable": -item.gross, "taxed_carry": -item.carried})
                if item.state in HERE | AWAY:
                    kinds["reserved" if item.state in HERE else "in_transit"] += item.gross + item.carried
                else:
                    paid = item.net - item.came_back
                    kinds.update({"paid": paid, "taxed_carry": item.gross + item.carried - paid})
        filled = {owner: {kind: each for kind, each in kinds.items() if each} for owner, kinds in found.items()}
        return {owner: kinds for owner, kinds in filled.items() if kinds}

    def payable_to(self, currency: str, now: datetime, *, step: int) -> dict[str, tuple[int, int]]:
        """Whom a run made now pays, with what of payable and of carried money."""
        found, terms = {}, as_of(self.terms, now)
        for (payee, each), kinds in self.balances().items():
            gross, carried = kinds.get("payable", 0), kinds.get("taxed_carry", 0)
            busy = kinds.keys() & {"reserved", "in_transit"}
            able = self.status[payee] == "approved" and payee in self.accounts and not busy
            promised = terms["payout_minimums"] if terms and self._member_since(payee, now) else []
            if each == currency and able and gross >= 0 and gross + carried >= max(step, of(promised, currency, 1)):
                found[payee] = (gross, carried)
        return found

    def reserve(self, run: str, currency: str, whom: dict[str, tuple[int, int]], *, step: int) -> None:
        """Make a run of those who can be paid, or of some of them."""
        for payee, (gross, carried) in whom.items():
            keys = [key for key in self.moved if (key.payee, key.currency) == (payee, currency)]
            shares = {key: self.moved.pop(key) for key in keys}
            net = (gross + carried) // step * step
            self.items.append(Item(run, payee, currency, self.accounts[payee], gross, carried, net, shares))

    def is_as_approved(self, item: Item) -> bool:
        """Whether an item may still be handed to a rail."""
        payable = self.balances().get((item.payee, item.currency), {}).get("payable", 0)
        return payable >= 0 and self.status[item.payee] == "approved" and self.accounts[item.payee] == item.account

    def release(self, item: Item) -> None:
        """Its money is back where it came from."""
        item.state = "released"
        self.moved.update(item.shares)
