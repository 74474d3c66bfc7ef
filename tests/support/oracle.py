"""A second opinion on the money, written from docs/money.md and docs/payouts.md alone, without a line of the service.

It keeps raw facts: every body that was told, every dated input, and, because where money stands depends on them, the
settle runs and what payout runs took and gave back. Whatever must follow it works out from these anew each time.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from tests.support.oracle_due import NOTHING, Due, Key, Told
from tests.support.oracle_reads import DIGITS, Json, as_of, moment, of, order_of
from tests.support.oracle_terms import Total, asks_about_customers, gives, periods

TOLERANCE = timedelta(minutes=5)
HERE = frozenset({"reserved", "approved", "refused"})
AWAY = frozenset({"sending", "unknown"})
"""Where an item's money is: with us, or at a rail that has not answered; else it was sent, or the item is released."""


class Standing(NamedTuple):
    """One commission: what it should be, where its parts are, and when it is due."""

    target: int
    pending: int
    held: int
    settled: int
    settles_at: datetime | None


METHOD_WAIT_H = 71
"""How long a changed account waits here: time passes by hours, days and more, so no history ends the wait to the second,
when a world whose clock runs on may be a moment before or behind it."""


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
class Oracle(Told):
    status: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    waits: dict[str, datetime] = field(default_factory=dict)
    """Until when an account that took another's place is not paid to."""
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
                self._tell(order_of(event), body, event)
        return self.states()[name, body]

    def decide(self, order: str, decision: Json) -> None:
        """A decision of a person; the last of its kind counts."""
        self._tell(order, b"", decision)

    def states(self) -> dict[tuple[str, bytes], str]:
        """Where every delivery stands: parked, waiting for its order, or applied."""
        here = {order for order, told in self.told.items() if any(event["type"] == "order" for _, event in told)}
        return {
            given: "parked" if not read else "applied" if order_of(json.loads(given[1])) in here else "waiting"
            for given, read in self.inbox.items()
        }

    # What follows from it.

    def commissions(self) -> dict[Key, Standing]:
        """Where every commission stands: those of orders, then those of periods that are not nothing."""
        found, due = {}, {order: self.due(order) for order in {key.order for key in self.settled}}
        for key, settled in self.settled.items():
            owed = due[key.order].owed.get(key, NOTHING)
            places = (0, owed.target - settled) if due[key.order].frozen else (owed.target - settled, 0)
            found[key] = Standing(owed.target, *places, settled, owed.settles_at)
        return found | self._of_periods(found, due)

    def _of_periods(self, found: dict[Key, Standing], due: dict[str, Due]) -> dict[Key, Standing]:
        sums: dict[Key, list[Total]] = defaultdict(lambda: [Total()] * 3)
        by: dict[Key, list[Json]] = {}
        for key, standing in found.items():
            owed = due[key.order].owed.get(key, NOTHING)
            if owed.placed_at is None:
                continue
            joined = partial(self.member_since, key.payee)
            for rule, begins_on, rules in periods(self.begun(owed.placed_at), owed.placed_at, joined, self.zone):
                period = Key(f"{rule} {begins_on}", key.payee, key.currency)
                by[period] = rules
                money = (standing.settled, standing.pending, standing.held)
                least = 2 if standing.held else 1 if standing.pending else 0
                whole = (owed.sales, 1) if standing.target else (0, 0)
                sums[period] = [
                    Total(
                        each.money + amount,
                        *((each.sales + whole[0], each.orders + whole[1]) if n == least else each[1:]),
                    )
                    for n, (each, amount) in enumerate(zip(sums[period], money, strict=True))
                ]
        result = {}
        for period, totals in sums.items():
            reached = [Total(*map(sum, zip(*totals[: n + 1], strict=True))) for n in range(3)]
            settled, pending, held = (gives(by[period], each, period.currency) for each in reached)
            standing = Standing(held, pending - settled, held - pending, settled, None)
            if any(standing[:4]):
                result[period] = standing
        return result

    # Where money stands: settle runs and payouts are history.

    def _tell(self, order: str, body: bytes, event: Json) -> None:
        """Take over what was told of an order; whoever's answer it changes has to be booked anew."""
        others = [
            each for each in self.told if each != order and any(map(asks_about_customers, (t for _, t in self.terms)))
        ]
        before = {each: self.past(each) for each in others}
        self.told[order].append((body, event))
        self.forget()
        for each in (order, *(each for each in others if self.past(each) != before[each])):
            self._book(each)

    def _book(self, order: str) -> None:
        """What was settled may have to come back."""
        due = self.due(order)
        for key in {*due.owed, *(key for key in self.settled if key.order == order)}:
            before = self.settled.get(key, 0)
            after = min(before, due.owed.get(key, NOTHING).target)
            if due.frozen:
                after -= min(after, max(0, self._still_here(key) - (before - after)))
            self.settled[key] = after
            self.moved[key] += after - before

    def _still_here(self, key: Key) -> int:
        return self.moved[key] + sum(item.shares.get(key, 0) for item in self.items if item.state in HERE)

    def settle(self, now: datetime) -> None:
        """Everything due becomes payable, as far as an approval allows."""
        due = {order: self.due(order) for order in {key.order for key in self.settled}}
        for key, standing in self.commissions().items():
            limit = due[key.order].owed.get(key, NOTHING).limit if key in self.settled else None
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
            able = self.status[payee] == "approved" and self._has_account(payee, now) and not busy
            promised = terms["payout_minimums"] if terms and self.member_since(payee, now) else []
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

    def pay_to(self, payee: str, account: str, now: datetime) -> None:
        """A payee's first account counts at once, all others after a wait."""
        if payee in self.accounts:
            self.waits[payee] = now + timedelta(hours=METHOD_WAIT_H)
        self.accounts[payee] = account

    def _has_account(self, payee: str, now: datetime) -> bool:
        return payee in self.accounts and self.waits.get(payee, now) <= now

    def is_as_approved(self, item: Item) -> bool:
        """Whether an item may still be handed to a rail. No account is ever given twice."""
        payable = self.balances().get((item.payee, item.currency), {}).get("payable", 0)
        return payable >= 0 and self.status[item.payee] == "approved" and self.accounts[item.payee] == item.account

    def release(self, item: Item) -> None:
        """Its money is back where it came from."""
        item.state = "released"
        self.moved.update(item.shares)
