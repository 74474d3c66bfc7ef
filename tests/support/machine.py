"""The machine that tries to bring the books out of balance, in plain words: one rule for everything that can happen.

Hypothesis chooses what happens; a world does it, the oracle is told of it, and after every step the two must agree.
Names, amounts and times are few, so that things collide. Every time that is subtracted lies on a whole hour, the
present on the half hour: so nothing hangs on how fast the test runs.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.oracle import AWAY, HERE, Item, Oracle
from tests.support.oracle_brought import Past
from tests.support.oracle_due import Key
from tests.support.world import STEPS, Json, Seen, SeenItem, World

TIMES = os.environ.get("KOC_TEST_MACHINE")
"""How many times as many histories to play. If set, they are others in each run, unless pytest is given a seed."""

AFFILIATES = ("ann", "ben", "cat")
AGENCIES = ("mcn", "hub")
OPERATOR = "ops"
PAYEES = (*AFFILIATES, *AGENCIES, OPERATOR)
ORDERS = ("o1", "o2", "o3", "o4")
COUPONS = ("annten", "benten")
LINKS = ("l1", "l2")
LATER = {"coupon": "catten", "link": "l3"}
"""Made while orders are already there; some of those have used the code before it meant anything."""
PEOPLE = ("mia", "noa")
"""Each may make runs and approve runs, but not the same one."""
EMAILS = ("ann@x.example", "ben@x.example", "buyer@x.example")
BUYER = EMAILS[2]
LONG_AGO = timedelta(days=40)

orders = st.sampled_from(ORDERS[:1] * 3 + ORDERS[:2] + ORDERS)
"""Most of all the first, so that much happens to one."""
affiliates = st.sampled_from(AFFILIATES)
payees = st.sampled_from(PAYEES)
currencies = st.sampled_from(["USD", "USD", "USD", "USD", "EUR", "VND"])
other_currencies = st.sampled_from([None] * 7 + ["EUR"])
"""Another currency than the order's, now and then."""
cents = st.sampled_from([10_000, 30_001, 333, 2_500, 100_000, 1, 0])
versions = st.sampled_from(["new"] * 8 + ["same", "same", "old", "ahead"])
hours_ago = st.sampled_from([0, 1, 30, 400])
people = st.sampled_from(PEOPLE)
misdeeds = st.one_of(
    st.sampled_from([[], [], ["refuse"], ["late", "refuse"], ["down", "late"], ["lost"], ["crash"], ["crash_done"]]),
    st.lists(st.sampled_from(["lost", "down", "refuse", "late", "crash", "crash_done", "accept"]), max_size=3),
)
"""What the provider does with one sending after the other; afterwards it accepts."""


def amount(value: int, currency: str) -> str:
    """Write minor units as a shop does."""
    return str(value) if currency == "VND" else f"{value // 100}.{value % 100:02d}"


def a_rule(kind: str, rate: str, sku: str | None, more: Json) -> Json:
    match: Json = {"skus": [sku] if sku else [], "categories": []}
    if kind == "percent":
        return {"kind": "percent", "rate": rate, "match": match, **more}
    flat = [{"currency": each, "amount_minor": 333} for each in ("USD", "VND")]
    once = {"per": "order"} if kind == "once" else {}
    return {"kind": "flat", "amounts": flat, "match": match, **once, **more}


dear = [{"amount_minor": 9_000, "currency": "USD"}]
standings = st.sampled_from(
    [
        *[{}] * 4,
        {"plan": "target", "when": {"all": [{"kind": "order_amount", "at_least": dear}]}},
        {"priority": 5, "when": {"any": [{"kind": "sku", "in": ["MUG"]}, {"kind": "line_amount", "below": dear}]}},
        {"priority": 5},
        {"component": "bonus", "funder": "brand", "when": {"not": [{"kind": "order_amount", "at_least": dear}]}},
        {"plan": "exclusive", "when": {"all": [{"kind": "placed", "from": "2027-01-01T00:00:00+00:00"}]}},
        {"plan": "target", "when": {"all": [{"kind": "customer", "is": "new"}]}},
        {"priority": 5, "when": {"any": [{"kind": "customer", "is": "returning"}]}},
        {"when": {"not": [{"kind": "customer_months", "below": 1}]}, "component": "bonus", "funder": "brand"},
        {"priority": 5, "agent": {"payee_id": "mcn", "fee": "4", "approved_at": "2026-01-01T00:00:00+00:00"}},
        {"priority": 5, "agent": {"payee_id": "hub", "fee": "2.5", "approved_at": "2025-01-01T00:00:00+00:00"}},
    ]
)
"""What else a rule says, in most rules nothing."""


def some_terms(
    rules: list[Json],
    exclude: list[Json],
    cap: int | None,
    start: str,
    hold_days: int,
    calendar: Json,
    approval: Json,
    attribution: Json,
    minimum: int,
    notice: int,
    fee: str | None,
    periods: list[Json],
) -> Json:
    return {
        **({"technical_fee": {"payee_id": OPERATOR, "rate": fee}} if fee else {}),
        **({"periods": periods} if periods else {}),
        "rules": rules,
        "base": "net",
        "exclude": exclude,
        "cap_per_order": [] if cap is None else [{"currency": "USD", "amount_minor": cap}],
        "attribution": attribution,
        "settlement": {**calendar, "start": start, "hold_days": hold_days, **approval},
        "payout_minimums": [{"currency": "USD", "amount_minor": minimum}] if minimum else [],
        "notice_days": notice,
    }


MONTHLY: Json = {
    "kind": "statement", "cut_off_day": 15, "months_after": 0, "pay_day": 20, "roll": "none", "off_days": [], "holidays": [],
}  # fmt: skip

SILENCE: Json = {"approval": "manual", "auto_approve_days": 9}


def a_period(key: str, span: str, **more: Any) -> Json:
    """Under one key always the same span. A campaign's days are the machine's."""
    return {"key": key, "period": span, "first_day": None, "last_day": None, **more}


def usd(minor: int) -> list[Json]:
    return [{"currency": "USD", "amount_minor": minor}]


def steps(*rates: str) -> list[Json]:
    return [{"from": usd(start), "rate": rate} for start, rate in zip((0, 12_000, 50_000), rates, strict=False)]


orders_mark: Json = {"orders": 2, "sales": [], "pays": usd(500)}
sales_mark: Json = {"orders": None, "sales": usd(30_000), "pays": usd(77)}
caps = st.sampled_from([1_000, 2_999]).map(lambda cap: a_period("cap", "month", kind="cap", amounts=usd(cap)))
ladders = st.builds(
    lambda scale, rates: a_period("ladder", "month", kind="ladder", scale=scale, steps=steps(*rates)),
    st.sampled_from(["marginal", "retroactive"]),
    st.sampled_from([("1", "2.5"), ("0.5", "0.5", "3.333333")]),
)
daily = st.just(a_period("daily", "day", kind="ladder", scale="retroactive", steps=steps("1", "2")))
marks = st.sampled_from([[orders_mark], [orders_mark, sales_mark]]).map(
    lambda marks: a_period("marks", "campaign", kind="milestones", marks=marks)
)
"""One cap at most: two of them take the same money back twice (see docs/money.md)."""
some_periods: st.SearchStrategy[list[Json]] = st.one_of(
    st.just([]),
    st.tuples(st.one_of(caps, ladders)).map(list),
    st.tuples(st.one_of(caps, ladders), st.one_of(daily, marks)).map(list),
)

terms = st.builds(
    some_terms,
    st.lists(
        st.builds(
            a_rule,
            st.sampled_from(["percent", "percent", "percent", "flat", "once"]),
            st.sampled_from(["10", "12.5", "33.333333"]),
            st.sampled_from([None, "MUG"]),
            standings,
        ),
        min_size=1,
        max_size=3,
    ),
    exclude=st.sampled_from(
        [[], [], [], [{"kind": "order_amount", "below": [{"amount_minor": 400, "currency": "USD"}]}]]
    ),
    cap=st.sampled_from([None, None, 2_500]),
    start=st.sampled_from(["paid", "paid", "paid", "delivered"]),
    hold_days=st.sampled_from([0, 0, 14]),
    calendar=st.sampled_from([{"kind": "rolling"}] * 4 + [MONTHLY]),
    approval=st.sampled_from([{"approval": "automatic"}] * 5 + [{"approval": "manual"}, SILENCE]),
    attribution=st.fixed_dictionaries(
        {
            "window_days": st.sampled_from([30, 1]),
            "model": st.sampled_from(["last", "first", "linear", "linear", "position", "position"]),
            "precedence": st.sampled_from(["coupon", "click", "time", "time"]),
            "self_purchase": st.sampled_from(["reject", "allow", "review"]),
            "customer_binding": st.sampled_from(["after", "before", "ignored"]),
            "reorder_days": st.sampled_from([0, 3, 30]),
        }
    ),
    minimum=st.sampled_from([0, 0, 400]),
    notice=st.sampled_from([30, 0]),
    fee=st.sampled_from([None, None, "10", "33.333333"]),
    periods=some_periods,
)


class Delivered(NamedTuple):
    name: str
    body: bytes


class Machine(RuleBasedStateMachine):
    """The rules. A subclass says how the world of a history is made."""

    played: ClassVar[Counter[str]] = Counter()
    """What all histories of this process were made of."""

    deliveries: Bundle[Delivered] = Bundle("deliveries")
    runs: Bundle[str] = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.oracle = Oracle(larger=self.world.larger, zone=ZoneInfo(self.world.time_zone))
        self.ticks = 0
        self.answers: dict[Delivered, Json] = {}
        self.clicks: list[str] = []
        self.told_at: dict[tuple[str, ...], list[datetime]] = {}
        self.placed: dict[str, datetime] = {}
        self.touches: dict[str, Json] = {}
        self.currencies: dict[str, str] = {}
        """Of each order as it was last told."""
        self.submitters: dict[str, str] = {}
        self.seen = Seen()
        self.working = False
        """A worker is at it: only then may items leave."""

    def make_world(self) -> World:
        raise NotImplementedError

    # Times.

    @property
    def hour(self) -> datetime:
        return self.world.now.replace(minute=0)

    def past(self) -> datetime:
        """A moment before now, later than all that were given out before."""
        self.ticks += 1
        return self.hour + timedelta(seconds=self.ticks)

    def soon(self) -> datetime:
        """A moment after the next full hour."""
        return self.past() + timedelta(hours=1)

    def version(self, which: str, *thing: str) -> str:
        """The shop's time of a version of something."""
        known = self.told_at.setdefault(thing, [])
        at = self.past()
        if which == "ahead":
            at += timedelta(hours=3)
        elif which == "same" and known:
            at = known[-1]
        elif which == "old" and known:
            at = known[0] - timedelta(days=1)
        if which != "ahead":
            known.append(at)
        return written(at)

    # What is set up.

    @initialize(first=terms)
    def open(self, first: Json) -> None:
        since = self.hour - LONG_AGO
        self.campaign = [(self.hour + timedelta(days=days)).date().isoformat() for days in (-3, 20)]
        for name, kind in (*((name, "agency") for name in AGENCIES), (OPERATOR, "operator")):
            self.set_up(self.world.new_affiliate(name, f"{name}@y.example", kind))
            self.set_up(self.world.approve_affiliate(name, since))
            self.oracle.status[name] = "approved"
            self.pay(name, "ok")
        first = self.dated(first)
        self.set_up(self.world.new_terms(first, since))
        self.oracle.terms.append((since, first))
        for number, name in enumerate(AFFILIATES):
            email = EMAILS[number % 2]
            self.set_up(self.world.new_affiliate(name, email))
            self.oracle.status[name], self.oracle.emails[name] = "applied", email
            if name != "cat":
                self.set_up(self.world.approve_affiliate(name, since))
                self.oracle.approved[name].append((since, True))
                self.oracle.status[name] = "approved"
                self.set_up(self.world.enroll(name, since))
                self.oracle.enrolled[name].append((since, True))
                self.pay(name, "ok")
        for code, owner in zip(COUPONS, AFFILIATES, strict=False):
            self.set_up(self.world.new_coupon(code, owner, since))
            self.oracle.owners[code] = [(since, owner)]
        for link, owner in zip(LINKS, AFFILIATES, strict=False):
            self.set_up(self.world.new_link(link, owner))
            self.oracle.owners[link] = [(self.world.now - timedelta(minutes=1), owner)]

    def set_up(self, done: bool) -> None:
        assert done

    def ask(self, verb: Callable[[], bool], *, must: bool | None = None) -> bool:
        """Do something that may be refused. What is refused leaves everything as it was."""
        before = None if must else self.world.digest()
        done = verb()
        assert must is None or done is must, f"{'refused' if must else 'accepted'} against expectation"
        assert done or self.world.digest() == before, "a refusal changed something"
        return done

    def since(self, back_dated: bool) -> datetime:
        return self.hour - timedelta(hours=1) if back_dated else self.soon()

    def may_begin(self, back_dated: bool) -> bool | None:
        """Nothing may be dated back once there are orders; otherwise other rules decide."""
        return False if back_dated and self.seen.inbox and any(self.oracle.told.values()) else None

    def dated(self, terms: Json) -> Json:
        """Terms with the days of this history's campaign."""
        first_day, last_day = self.campaign
        days = {"first_day": first_day, "last_day": last_day}
        named = [{each["key"] for each in known.get("periods", [])} for _, known in self.oracle.terms]
        # A key that was dropped does not come back.
        gone = set[str]().union(*named) - (named[-1] if named else set())
        periods = [
            {**each, **(days if each["period"] == "campaign" else {})}
            for each in terms.get("periods", [])
            if each["key"] not in gone
        ]
        terms = {name: each for name, each in terms.items() if name != "periods"}
        return {**terms, "periods": periods} if periods else terms

    @rule(changed=terms, back_dated=st.sampled_from([False, False, False, True]))
    def terms_change(self, changed: Json, back_dated: bool) -> None:
        since, changed = self.since(back_dated), self.dated(changed)
        if self.ask(lambda: self.world.new_terms(changed, since), must=not back_dated):
            self.oracle.terms.append((since, changed))

    @rule(
        name=affiliates,
        what=st.sampled_from(
            ["approve", "suspend", "enroll", "leave", "email", "account", "account", "hand on", "make"]
        ),
        email=st.sampled_from(EMAILS),
        manner=st.sampled_from(["ok", "ok", "refuse", "unknown_once"]),
        code=st.sampled_from(COUPONS),
        back_dated=st.sampled_from([False, False, True]),
    )
    def affiliate_changes(self, name: str, what: str, email: str, manner: str, code: str, back_dated: bool) -> None:
        since, oracle, world = self.since(back_dated), self.oracle, self.world
        match what:
            case "email":
                self.ask(lambda: world.change_email(name, email), must=True)
                oracle.emails[name] = email
            case "account":
                self.pay(name, manner)
            case "make" if LATER["link"] not in oracle.owners:
                self.ask(lambda: world.new_link(LATER["link"], name), must=True)
                oracle.owners[LATER["link"]] = [(world.now - timedelta(minutes=1), name)]
            case "make":
                new = LATER["coupon"] not in oracle.owners
                if self.ask(lambda: world.new_coupon(LATER["coupon"], name, since), must=None if new else False):
                    oracle.owners[LATER["coupon"]] = [(since, name)]
            case "hand on":
                if self.ask(lambda: world.hand_on(code, name, since), must=not back_dated):
                    oracle.owners[code].append((since, name))
            case "approve" | "suspend":
                verb = world.approve_affiliate if what == "approve" else world.suspend
                if self.ask(lambda: verb(name, since), must=self.may_begin(back_dated)):
                    oracle.approved[name].append((since, what == "approve"))
                    oracle.status[name] = "approved" if what == "approve" else "suspended"
            case _:
                verb = world.enroll if what == "enroll" else world.leave
                if self.ask(lambda: verb(name, since), must=self.may_begin(back_dated)):
                    oracle.enrolled[name].append((since, what == "enroll"))

    @rule(
        name=affiliates,
        agency=st.sampled_from([*AGENCIES, None]),
        share=st.sampled_from(["30", "33.333333", "100"]),
        fee=st.sampled_from(["0", "2.5", "90"]),
    )
    def roster_changes(self, name: str, agency: str | None, share: str, fee: str) -> None:
        """A KOC accepts an agency's offer, or leaves; from five minutes later on, which is before the next full hour."""
        states = self.oracle.roster[name]
        if agency is None:
            self.ask(lambda: self.world.leave_agency(name), must=bool(states and states[-1][1]))
        else:
            self.ask(lambda: self.world.join_agency(name, agency, share=share, fee=fee), must=True)
        if agency is not None or (states and states[-1][1]):
            self.ticks += 1
            since = self.world.now + timedelta(minutes=10, microseconds=self.ticks)
            states.append((since, {"payee": agency, "share": share, "fee": fee} if agency else None))

    @rule(effect=st.sampled_from(["stop", "review", "none", "none"]))
    def program_is_paused(self, effect: str) -> None:
        since, states = self.soon(), self.oracle.pauses
        if self.ask(lambda: self.world.pause(effect, since), must=effect != (states[-1][1] if states else "none")):
            states.append((since, effect))

    @rule(email=st.sampled_from(EMAILS), name=st.sampled_from([*AFFILIATES, *AFFILIATES, None]), ends=st.booleans())
    def customer_is_bound(self, email: str, name: str | None, ends: bool) -> None:
        since, states = self.soon(), self.oracle.bound[email]
        until = since + timedelta(days=1) if ends and name else None
        must = name is not None or bool(states and states[-1][1][0])
        if self.ask(lambda: self.world.bind(email, name, since, until), must=must):
            states.append((since, (name, until)))

    def pay(self, name: str, manner: str) -> None:
        self.ticks += 1
        account = f"sandbox_{manner}_{name}_{self.ticks}"
        self.ask(lambda: self.world.pay_to(name, account), must=True)
        self.oracle.pay_to(name, account, self.world.now)

    @rule(link=st.sampled_from([*LINKS, LATER["link"]]))
    def click(self, link: str) -> None:
        link = link if link in self.oracle.owners else LINKS[0]
        self.ticks += 1
        ref = self.world.click(link)
        self.oracle.clicks[ref] = (link, self.world.now + timedelta(seconds=self.ticks))
        self.clicks.append(ref)

    # What shops tell.

    @rule(
        target=deliveries,
        again=st.one_of(st.none(), st.none(), deliveries),
        name=orders,
        currency=st.one_of(st.none(), st.none(), st.none(), currencies),
        nets=st.lists(st.tuples(cents, st.sampled_from(["MUG", "TEA"])), min_size=1, max_size=3),
        carriage=st.booleans(),
        coupons=st.sampled_from([None, None, None, ["annten"], ["benten"], ["benten", "annten"], ["catten"], []]),
        clicked=st.lists(st.integers(0, 3), max_size=2),
        customer=st.sampled_from([None] * 3 + [*EMAILS, BUYER, BUYER]),
        cancelled=st.sampled_from([False] * 7 + [True]),
        paid=st.sampled_from([True, True, False]),
        which=versions,
        placed=st.sampled_from([0, 0, 2, 50]),
    )
    def order(
        self,
        *,
        again: Delivered | None,
        name: str,
        currency: str | None,
        nets: list[tuple[int, str]],
        carriage: bool,
        coupons: list[str] | None,
        clicked: list[int],
        customer: str | None,
        cancelled: bool,
        paid: bool,
        which: str,
        placed: int,
    ) -> Any:
        """An order, an edit of it, its cancelling or opening again; sometimes placed at another time than before."""
        currency = self.currencies[name] = currency or self.currencies.get(name, "USD")
        if coupons is not None or name not in self.touches:
            clicks = [self.clicks[-1 - number] for number in clicked if number < len(self.clicks)]
            self.touches[name] = {"coupon_codes": coupons or [], "click_ids": clicks}
        if name not in self.placed or placed == 50:
            self.placed[name] = self.past() - timedelta(hours=placed)
        lines = [
            {"id": str(number), "sku": sku, "net": amount(net, currency)}
            for number, (net, sku) in enumerate(nets, start=1)
        ]
        if carriage:
            lines.append({"id": "c", "sku": "", "kind": "shipping", "net": amount(700, currency)})
        event: Json = {
            "type": "order",
            "id": name,
            "updated_at": self.version(which, name),
            "placed_at": written(self.placed[name]),
            "currency": currency,
            "cancelled": cancelled,
            "lines": lines,
            **self.touches[name],
        }
        if customer:
            event["customer"] = {"email": customer}
        if paid:
            at = written(self.hour - timedelta(hours=placed))
            # What needs no carriage is delivered at once.
            event["milestones"] = {"paid_at": at} if carriage else {"paid_at": at, "delivered_at": at}
        return self.tell(event, again)

    def an_order_that_earns(
        self, name: str, net: int, code: str, currency: str | None, customer: str | None = None
    ) -> Any:
        """Chance alone seldom makes one of which nothing is wrong."""
        return self.order(
            again=None,
            name=name,
            currency=currency,
            nets=[(net, "MUG")],
            carriage=False,
            coupons=[code],
            clicked=[],
            customer=customer,
            cancelled=False,
            paid=True,
            which="new",
            placed=2,
        )

    earns = rule(
        target=deliveries,
        name=orders,
        net=st.sampled_from([10_000, 30_001, 2_500]),
        code=st.sampled_from(COUPONS),
        currency=st.one_of(st.none(), st.none(), currencies),
        customer=st.sampled_from([None, BUYER]),
    )
    one_earns, another_earns = earns(an_order_that_earns), earns(an_order_that_earns)

    def several_orders(
        self,
        told: list[str],
        placed: list[int],
        coupons: list[list[str]],
        net: int,
        customer: str | None,
        cancelled: str,
    ) -> Any:
        """Orders of one customer, as they are told; one may be cancelled, another place it again, several share one."""
        given = []
        for number, (name, hours, codes) in enumerate(zip(told, placed, coupons, strict=False)):
            self.placed.pop(name, None)
            given.append(
                self.order(
                    again=None,
                    name=name,
                    currency="USD",
                    nets=[(net, "MUG"), (333 * number, "TEA")],
                    carriage=False,
                    coupons=codes,
                    clicked=[0, 1] if not codes and number % 2 else [],
                    customer=customer,
                    cancelled=name == cancelled,
                    paid=True,
                    which="new",
                    placed=hours,
                )
            )
            self.agrees()
        return multiple(*(each for each in given if isinstance(each, Delivered)))

    come_together = rule(
        target=deliveries,
        told=st.permutations(ORDERS[:3]),
        placed=st.permutations([830, 50, 4, 3]),
        coupons=st.lists(
            st.sampled_from([["annten"], ["benten"], ["annten", "benten"], ["benten", "annten", "catten"], []]),
            min_size=2,
            max_size=3,
        ),
        net=st.sampled_from([10_000, 30_001]),
        customer=st.sampled_from([BUYER, BUYER, BUYER, EMAILS[0], None]),
        cancelled=st.sampled_from([*ORDERS[:3], ""]),
    )
    some_come, others_come, more_come = (
        come_together(several_orders),
        come_together(several_orders),
        come_together(several_orders),
    )

    @rule(
        target=deliveries,
        again=st.one_of(st.none(), st.none(), deliveries),
        name=orders,
        refund=st.sampled_from(["f1", "f2", "dispute d1"]),
        other=other_currencies,
        back=cents,
        named=st.lists(st.tuples(st.sampled_from(["1", "2", "9", "c"]), cents), max_size=2),
        provisional=st.sampled_from([False, False, True]),
        which=versions,
    )
    def refund(
        self,
        *,
        again: Delivered | None,
        name: str,
        refund: str,
        other: str | None,
        back: int,
        named: list[tuple[str, int]],
        provisional: bool,
        which: str,
    ) -> Any:
        """Goods come back: part, all or more; on lines or not, or not yet; or the refund is taken back."""
        at = self.version(which, name, refund)
        currency = other or self.currencies.get(name, "USD")
        event: Json = {
            "type": "refund",
            "id": refund,
            "order_id": name,
            "currency": currency,
            "refunded_at": at,
            "updated_at": at,
            "amount": amount(back + sum(each for _, each in named), currency),
            "lines": [{"line_id": line, "net": amount(each, currency)} for line, each in named],
        }
        if provisional:
            event["provisional"] = True
        if refund.startswith("dispute "):
            event["dispute_id"] = refund.removeprefix("dispute ")
        return self.tell(event, again)

    @rule(
        target=deliveries,
        name=orders,
        milestone=st.sampled_from(["paid", "delivered", "delivered"]),
        ago=hours_ago,
        ahead=st.sampled_from([False, False, False, False, True]),
    )
    def milestone(self, name: str, milestone: str, ago: int, ahead: bool) -> Any:
        at = self.hour + timedelta(hours=3) if ahead else self.hour - timedelta(hours=ago)
        return self.tell({"type": "status", "order_id": name, "milestone": milestone, "at": written(at)})

    @rule(
        target=deliveries,
        again=st.one_of(st.none(), st.none(), deliveries),
        name=orders,
        dispute=st.sampled_from(["d1", "d2"]),
        other=other_currencies,
        worth=cents,
        opened=st.sampled_from([30, 100, 1]),
        closed=st.sampled_from([None, 0, 0, 0, 20]),
        outcome=st.sampled_from(["won", "lost"]),
        which=versions,
    )
    def dispute(
        self,
        *,
        again: Delivered | None,
        name: str,
        dispute: str,
        other: str | None,
        worth: int,
        opened: int,
        closed: int | None,
        outcome: str,
        which: str,
    ) -> Any:
        currency = other or self.currencies.get(name, "USD")
        event: Json = {
            "type": "dispute",
            "id": dispute,
            "order_id": name,
            "currency": currency,
            "amount": amount(worth, currency),
            "opened_at": written(self.hour - timedelta(hours=opened)),
            "updated_at": self.version(which, name, dispute),
        }
        if closed is not None and closed <= opened:
            event |= {"closed_at": written(self.hour - timedelta(hours=closed)), "outcome": outcome}
        return self.tell(event, again)

    def tell(self, event: Json, again: Delivered | None = None) -> Any:
        """Deliver an event; under an earlier delivery's name, if one is given."""
        body = json.dumps(event).encode()
        return self.deliver(Delivered(again.name if again else f"m{len(self.answers)}", body))

    def deliver(self, given: Delivered) -> Any:
        known = given in self.answers
        answer = self.world.deliver(given.name, given.body)
        assert answer is not None
        expected = self.oracle.deliver(given.name, given.body, self.world.now)
        assert answer.pop("repeated") is known
        assert self.answers.setdefault(given, answer) == answer, "a repeated delivery got another answer"
        if known:
            return multiple()
        assert answer["state"] == expected
        return given

    @rule(
        target=deliveries,
        given=deliveries,
        name=orders,
        what=st.sampled_from(["the same again", "the same again", "replay", "forged", "no currency", "no event"]),
    )
    def noise(self, given: Delivered, name: str, what: str) -> Any:
        match what:
            case "the same again":
                return self.deliver(given)
            case "replay":
                return self.replay(given)
            case "forged":
                before = self.world.digest()
                assert self.world.deliver(f"{given.name} forged", given.body, signed=False) is None
                assert self.world.digest() == before, "a forgery was kept"
                return multiple()
        event: Json = {"type": "parcel", "order_id": name}
        if what == "no currency":
            at = written(self.past())
            lines = [{"id": "1", "sku": "MUG", "net": "1"}]
            event = {"type": "order", "id": name, "updated_at": at, "placed_at": at, "currency": "XXX", "lines": lines}
        return self.tell(event)

    @precondition(lambda self: "parked" in self.seen.inbox.values())
    @rule(pick=st.integers(0, 9))
    def what_was_parked_is_read_again(self, pick: int) -> None:
        parked = [Delivered(*each) for each, state in self.seen.inbox.items() if state == "parked"]
        self.replay(parked[pick % len(parked)])

    def replay(self, given: Delivered) -> Any:
        parked = self.seen.inbox[given] == "parked"
        if self.ask(lambda: self.world.replay(*given), must=parked):
            self.oracle.deliver(*given, self.world.now, replay=True)
            answer = self.world.deliver(*given)
            assert answer is not None
            assert answer.pop("repeated")
            self.answers[given] = answer
        return multiple()

    # What people decide.

    def a_commission(self, pick: int) -> Key:
        """One of an order: nobody decides on a period's."""
        known = sorted(key for key in self.seen.commissions if key in self.oracle.settled)
        return known[pick % len(known)]

    @precondition(lambda self: self.oracle.settled)
    @rule(
        pick=st.integers(0, 9),
        limit=st.sampled_from([None, None, None, 1_000, 1_000_000, 33, 0]),
        reject=st.sampled_from([False] * 5 + [True]),
    )
    def verdict(self, pick: int, limit: int | None, reject: bool) -> None:
        key = self.a_commission(pick)
        up_to = None if reject else self.oracle.commissions()[key].target if limit is None else limit
        self.ask(lambda: self.world.verdict(key, None if reject else limit, reject=reject), must=True)
        self.oracle.decide(
            key.order, {"type": "verdict", "payee": key.payee, "currency": key.currency, "amount": up_to}
        )

    @precondition(lambda self: self.oracle.settled)
    @rule(pick=st.integers(0, 9), what=st.sampled_from(["hold", "release", "release"]))
    def hold(self, pick: int, what: str) -> None:
        key = self.a_commission(pick)
        held = [event["type"] for _, event in self.oracle.told[key.order] if event["type"] in {"hold", "release"}]
        verb = self.world.hold if what == "hold" else self.world.release_hold
        if self.ask(lambda: verb(key), must=what == "hold" or held[-1:] == ["hold"]):
            self.oracle.decide(key.order, {"type": what})

    @precondition(lambda self: any(self.oracle.told.values()))
    @rule(pick=st.integers(0, 9), payee=st.sampled_from([None, *AFFILIATES, *AFFILIATES]))
    def attribute(self, pick: int, payee: str | None) -> None:
        known = sorted(order for order, told in self.oracle.told.items() if told)
        order = known[pick % len(known)]
        self.ask(lambda: self.world.attribute(order, payee), must=True)
        self.oracle.decide(order, {"type": "attribute", "payee": payee})

    # Time and settling.

    @rule(span=st.sampled_from(["hour", "day", "hold", "month end"]), settles=st.booleans())
    def time_passes(self, span: str, settles: bool) -> None:
        match span:
            case "hour" | "day":
                self.world.advance(timedelta(**{f"{span}s": 1}))
            case "hold":
                self.world.advance(timedelta(days=15))
            case _:
                at = self.hour
                while (at + timedelta(days=1)).month == self.hour.month:
                    at += timedelta(days=1)
                self.world.advance(at.replace(hour=23) - self.hour)
        if settles:
            self.settle()

    @rule()
    def everything_is_settled(self) -> None:
        self.world.advance(timedelta(days=15))
        self.settle()

    def settle(self) -> None:
        self.world.settle()
        self.oracle.settle(self.world.now)

    # Payouts.

    @rule(target=runs, currency=currencies, only=st.lists(payees, max_size=1), by=people)
    def make_run(self, currency: str, only: list[str], by: str) -> Any:
        run = f"r{len(self.seen.runs) + 1}"
        step = STEPS[currency] if self.world.rail else 1
        able = self.oracle.payable_to(currency, self.world.now, step=step)
        whom = {name: owed for name, owed in able.items() if not only or name in only}
        if not self.ask(lambda: self.world.reserve(run, currency, only, by), must=bool(whom)):
            return multiple()
        self.oracle.reserve(run, currency, whom, step=step)
        return run

    def in_run(self, run: str) -> list[Item]:
        return [item for item in self.oracle.items if item.run == run]

    def is_live(self, run: str) -> bool:
        return any(item.state in HERE | AWAY for item in self.in_run(run))

    @rule(
        target=runs,
        name=orders,
        net=st.sampled_from([10_000, 30_001, 2_500]),
        code=st.sampled_from(COUPONS),
        does=misdeeds,
        waits=st.sampled_from([[], [], [2], [2, 20], [1_150, 60], [1_150, 60, 300, 20], [1_300]]),
    )
    def a_month(self, name: str, net: int, code: str, does: list[str], waits: list[int]) -> Any:
        """An order is placed, settled and paid, as far as nothing else and no provider is in the way."""
        self.an_order_that_earns(name, net, code, None)
        self.everything_is_settled()
        for each in (*AFFILIATES[:2], AGENCIES[0]):
            self.provider_will(each, list(does))
        run = self.pay_everybody(self.currencies[name])
        for owner, minutes in (("w1", 0), *(("w2", minutes) for minutes in waits)):
            self.agrees()
            self.worker_works(owner, minutes)
        return run

    @rule(target=runs, currency=currencies)
    def pay_everybody(self, currency: str) -> Any:
        """All steps of a run at once, since chance alone seldom gets that far."""
        self.settle()
        run = self.make_run(currency, [], PEOPLE[0])
        if isinstance(run, str):
            self.seen = self.world.see()
            self.take_on(run)
        return run

    @rule(
        run=runs,
        verb=st.sampled_from(["submit", "submit", "approve", "approve", "execute", "execute", "cancel"]),
        by=people,
    )
    def step(self, run: str, verb: str, by: str) -> None:
        """A person takes a run one step on, rightly or not."""
        state, world = self.seen.runs[run], self.world
        match verb:
            case "submit":
                if self.ask(lambda: world.submit(run, by), must=state == "draft" and self.is_live(run)):
                    self.submitters[run] = by
            case "approve":
                must = state == "submitted" and self.is_live(run) and self.submitters[run] != by
                self.ask(lambda: world.approve(run, by), must=must)
            case "execute":
                self.ask(lambda: world.execute(run), must=state in {"approved", "executing"})
            case _:
                self.ask(lambda: world.cancel(run), must=state not in {"closed", "cancelled"})

    @rule(run=runs, pick=st.integers(0, 2), what=st.sampled_from(["release", "retry", "confirm"]))
    def item(self, run: str, pick: int, what: str) -> None:
        """A person takes an item out of its run, or asks to send it again."""
        items = self.in_run(run)
        item = items[pick % len(items)]
        if what == "release":
            self.ask(lambda: self.world.release(run, item.payee), must=item.state in HERE | {"released"})
        else:
            may = item.state == "refused" and self.seen.runs[run] == "executing"
            confirmed = what == "confirm"
            self.ask(lambda: self.world.retry(run, item.payee, confirmed=confirmed), must=None if may else False)

    @rule(owner=st.sampled_from(["w1", "w2"]), waits=st.sampled_from([0, 0, 0, 2, 20, 300, 1_300]))
    def worker_works(self, owner: str, waits: int) -> None:
        """After so many minutes of our clock and the provider's, in which look-ups and leases become due."""
        if waits:
            self.world.wait(timedelta(minutes=waits))
        # A worker settles too, before or after it sends; so that both come to the same, all is settled before.
        self.settle()
        self.working = True
        self.world.work(owner)

    # The provider.

    @precondition(lambda self: self.world.rail)
    @rule(name=payees, does=misdeeds)
    def provider_will(self, name: str, does: list[str]) -> None:
        """What the provider does with the next sendings to somebody's account."""
        if name in self.oracle.accounts and self.world.rail:
            self.world.rail.does[self.oracle.accounts[name]] = does

    @precondition(lambda self: self.world.rail)
    @rule(
        what=st.sampled_from(["late ones arrive", "listings fail", "listings work", "part back", "all back"]),
        pick=st.integers(0, 5),
    )
    def provider_does(self, what: str, pick: int) -> None:
        rail = self.world.rail
        assert rail
        match what:
            case "late ones arrive":
                rail.land()
            case "listings fail" | "listings work":
                rail.listing_fails = what == "listings fail"
            case _ if rail.transfers:
                made = rail.transfers[pick % len(rail.transfers)]
                back = made.amount_minor if what == "all back" else made.amount_minor // 2
                rail.reverse(made.reference, max(back, made.reversed_minor))
            case _:
                pass

    @precondition(lambda self: self.world.rail and self.world.rail.transfers)
    @rule()
    def reconcile(self) -> None:
        self.working = True
        self.world.reconcile()

    # What must hold.

    @invariant()
    def agrees(self) -> None:
        """The oracle and the world say the same, and nobody was paid twice."""
        self.played["steps"] += 1
        self.seen = self.world.see()
        self.oracle.forget()
        for item in self.oracle.items:
            self.follow(item, self.seen.items[item.run, item.payee])
        self.working = False
        oracle, seen = self.oracle, self.seen
        assert not (apart := differing(seen.commissions, oracle.commissions())), apart
        assert seen.frozen == {order for order in oracle.told if oracle.due(order).frozen}
        assert not (apart := differing(seen.balances, oracle.balances())), apart
        assert seen.inbox == oracle.states()
        assert all(each >= 0 for of in seen.balances.values() for kind, each in of.items() if kind != "payable")
        self.provider_agrees()
        assert not (wrong := self.world.check()), wrong

    def follow(self, item: Item, seen: SeenItem) -> None:
        """Take over what became of an item, if that was right."""
        assert (item.gross, item.carried, item.net) == (seen.gross, seen.carried, seen.net)
        if (item.state, item.came_back) == (seen.state, seen.came_back):
            return
        assert item.state not in {"released", "reversed"}, f"{item.state} is the end"
        if seen.state == "released":
            assert item.state in HERE or item.state == "sending"
            assert not (self.working and self.oracle.is_as_approved(item)), "dropped without a reason"
            self.oracle.release(item)
            return
        if item.state in HERE and seen.state not in HERE:
            assert self.working, "left without a worker"
            assert self.seen.runs[item.run] in {"executing", "closed"}, "left without an approval"
            assert self.oracle.is_as_approved(item), "left although it is not what was approved"
        assert item.state in HERE | AWAY or seen.state not in HERE | AWAY, "came back from what is final"
        item.state, item.came_back = seen.state, seen.came_back

    def provider_agrees(self) -> None:
        """What the provider did is what our books say, and never twice."""
        rail = self.world.rail
        if rail is None:
            return
        for item in self.oracle.items:
            seen = self.seen.items[item.run, item.payee]
            made = [transfer for transfer in rail.transfers if transfer.item_id == seen.id]
            assert len(made) <= 1, f"{item.payee} was paid twice"
            travelling = [request for request, _ in rail.late if str(seen.id).encode() in request]
            if item.state in HERE | {"released"}:
                assert not made, f"{item.payee} was paid by a payout that is {item.state}"
            if item.state in HERE | {"released"}:
                assert not travelling, f"{item.payee} may still be paid by a payout that is {item.state}"
            if item.state not in HERE | AWAY | {"released"}:
                [transfer] = made
                assert (transfer.amount_minor, transfer.currency) == (item.net, item.currency)
                assert transfer.destination == item.account
                assert transfer.reversed_minor >= item.came_back

    # The end.

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.drain()

    def drain(self) -> None:
        """Let everything go that may go; then nothing may be left that could."""
        rail = self.world.rail
        if rail is not None:
            rail.does.clear()
            rail.listing_fails = False
            rail.land()
        self.world.advance(timedelta(days=400))
        for run in list(self.seen.runs):
            self.take_on(run)
        # By then every key is too old to be sent, every lease over, and absence proven.
        for hours in (1, 30, 2, 2, 2):
            self.worker_works("w2", hours * 60)
            self.agrees()
        for currency in STEPS:
            if isinstance(self.pay_everybody(currency), str):
                self.worker_works("w1", 0)
            self.agrees()
            step = STEPS[currency] if self.world.rail else 1
            assert not self.oracle.payable_to(currency, self.world.now, step=step), "somebody could still be paid"
        self.reconcile()
        self.agrees()
        self.nothing_waits()
        assert not (wrong := self.world.last_words()), wrong
        self.count()

    @classmethod
    def said(cls) -> str:
        """Return what was played, as `make prove WHAT=machine` reads it."""
        return "played " + ", ".join(f"{count} {what}" for what, count in sorted(cls.played.items()))

    def count(self) -> None:
        """Note what a history was made of, so that nobody is content with histories in which nothing happened."""
        self.played["histories"] += 1
        self.played.update(f"deliveries {state}" for state in self.seen.inbox.values())
        self.played.update(f"runs {state}" for state in self.seen.runs.values())
        self.played.update(f"items {item.state}" for item in self.oracle.items)
        for standing in self.seen.commissions.values():
            self.played.update(
                f"commissions {place}" for place in ("pending", "held", "settled") if getattr(standing, place)
            )
        for order in self.oracle.told:
            due = self.oracle.due(order)
            self.played["orders of several"] += sum(owed.placed_at is not None for owed in due.owed.values()) > 1
            self.played["orders that others bear on"] += self.oracle.past(order) != Past()
        for key in self.seen.commissions:
            self.played["commissions of periods"] += key not in self.oracle.settled
            self.played["commissions of agencies and operators"] += key.payee not in AFFILIATES

    def take_on(self, run: str) -> None:
        """Take a run through all steps that are left of it."""
        for verb, after in (
            ("submit", "draft"),
            ("approve", "submitted"),
            ("execute", "approved"),
            ("execute", "executing"),
        ):
            if self.seen.runs[run] == after and self.is_live(run):
                by = PEOPLE[self.submitters.get(run) == PEOPLE[0]]
                self.step(run, verb, by)
                self.seen = self.world.see()

    def nothing_waits(self) -> None:
        for key, standing in self.seen.commissions.items():
            if standing.pending and key in self.oracle.settled:
                due = self.oracle.due(key.order).owed[key]
                limited = due.limit is not None and due.limit <= standing.settled
                assert due.settles_at is None or limited, f"{key} is due and still pending"
        for item in self.oracle.items:
            assert item.state not in AWAY, f"nobody knows what became of {item}"
            if self.seen.runs[item.run] != "executing":
                assert item.state not in HERE | AWAY, "the run was taken through"
            if self.seen.runs[item.run] == "executing":
                assert item.state not in {"reserved", "approved"}, f"nobody sent {item}"
                assert any(each.state == "refused" for each in self.in_run(item.run)), "the run waits for nobody"


def differing(seen: Mapping[Any, Any], expected: Mapping[Any, Any]) -> dict[Any, Any]:
    """What is seen and what the oracle says, where they differ."""
    keys = seen.keys() | expected.keys()
    return {key: (seen.get(key), expected.get(key)) for key in keys if seen.get(key) != expected.get(key)}


def play(machine: type[Machine], *, histories: int, steps: int) -> None:
    """Play histories, the same ones in every run of the tests; print what they were made of."""
    machine.played.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories * int(TIMES or 1),
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=TIMES is None,
        ),
    )
    print(machine.said())


def written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
