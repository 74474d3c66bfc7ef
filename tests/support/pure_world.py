"""The service's decisions without its database: every rule of `service.domain`, joined by plain dictionaries.

Many orders, one programme, payees, runs and a provider; what the stages do in SQL is done here in a few lines each, so
that thousands of histories can be played in a minute.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from service.domain.assessment import assess
from service.domain.attribution import attribute
from service.domain.commission import Move, Place, Places, Target, difference, settle_move, settleable, shift
from service.domain.customer import History, PlacedOrder, customer_key, histories
from service.domain.dated import Binding, DatedInputs, Membership, Owner, Pause, PauseEffect, Since, Traceable
from service.domain.errors import BackDated, InvariantBroken
from service.domain.ledger import (
    MAY_BE_NEGATIVE,
    MERCHANT_ACCOUNTS,
    Account,
    AccountKind,
    Posting,
    account_of,
    touches_payable,
)
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    Fact,
    FactKind,
    HoldFact,
    OrderFacts,
    OrderSnapshot,
    Touch,
    TouchKind,
    decision_fact,
    hold_fact,
    merge,
)
from service.domain.payout import (
    MAY_HAVE_PAID,
    Answer,
    AnswerKind,
    Interval,
    ItemState,
    Outcome,
    Payee,
    ProviderSays,
    RunState,
    freezable,
    holder,
    item_hash,
    item_state,
    lowest_minimum,
    may_send,
    next_look,
    outcome_of,
    proves_absence,
    run_hash,
    split_for_rail,
    why_dropped,
    why_excluded,
)
from service.domain.periods import PeriodKey, PeriodRule, Sums, contribution, gives, periods_of
from service.domain.program import CLOCK_TOLERANCE, ProgramVersion, Terms, check_start, in_force, period_rules
from service.domain.withholding.model import Decision
from service.domain.written import rate_of
from service.intake.adapters.generic import translate
from service.intake.adapters.model import Delivery, NotUnderstood, Reading
from service.payouts.providers.model import Listing, Sending
from tests.support.oracle import METHOD_WAIT_H, Standing
from tests.support.oracle_due import Key
from tests.support.payouts import Crash
from tests.support.world import Json, Rail, Seen, SeenItem, hash_of, with_ids

MERCHANT, PROGRAM_ID = UUID(int=1), UUID(int=2)
LEASE = timedelta(minutes=10)
UNTAXED = Decision(rule="off", gross_minor=0, withheld_minor=0, borne_minor=0)
"""Nobody is taxed here; the decision's own figures are not looked at then."""


@dataclass
class Commission:
    places: Places = field(default_factory=Places)
    target: int = 0
    approved: int | None = None
    settles_at: datetime | None = None
    moves: list[tuple[int, int]] = field(default_factory=list)
    """(payable version, signed change) of what touched payable."""
    volume: int = 0
    periods: Mapping[PeriodKey, tuple[PeriodRule, ...]] = field(default_factory=dict)


@dataclass
class Order:
    facts: dict[tuple[FactKind, str], Fact] = field(default_factory=dict)
    commissions: dict[tuple[UUID, str], Commission] = field(default_factory=dict)
    identities: dict[str, bool] = field(default_factory=dict)
    frozen: bool = False

    @property
    def has_come(self) -> bool:
        return (FactKind.ORDER, "") in self.facts

    @property
    def known(self) -> OrderFacts:
        return OrderFacts.of(self.facts.values())


@dataclass
class Attempt:
    number: int
    key: str
    request: bytes
    outcome: Outcome = Outcome.PLANNED
    sends: int = 0
    first_sent_at: datetime | None = None
    lease_until: datetime | None = None
    next_at: datetime | None = None
    listed_empty: tuple[datetime, ...] = ()
    reference: str = ""


@dataclass
class Item:
    id: UUID
    payee: str
    fingerprint: str
    gross: int
    carried: int
    net: int
    interval: tuple[int, int]
    attempts: list[Attempt] = field(default_factory=list)
    content: str = ""
    live: bool = True
    released: bool = False
    gave_back: int | None = None
    handed_over: bool = False
    came_back: int = 0
    retry: bool = False

    @property
    def outcomes(self) -> list[Outcome]:
        return [attempt.outcome for attempt in self.attempts]

    @property
    def may_have_paid(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].outcome in MAY_HAVE_PAID


@dataclass
class Run:
    id: UUID
    currency: str
    items: dict[str, Item]
    state: RunState = RunState.DRAFT
    hash: str = ""
    submitted_by: str = ""
    executed: bool = False


@dataclass
class PureWorld:
    time_zone: str = "Asia/Ho_Chi_Minh"
    now: datetime = datetime(2027, 1, 29, 12, 30, tzinfo=UTC)
    rail: Rail = field(default_factory=Rail)
    ids: dict[str, UUID] = field(default_factory=dict)
    inputs: DatedInputs = field(default_factory=lambda: DatedInputs(time_zone=PureWorld.time_zone))
    status: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    waits: dict[str, datetime] = field(default_factory=dict)
    clicks: dict[str, tuple[UUID, datetime]] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=lambda: defaultdict(Order))
    periods: dict[tuple[UUID, str, PeriodKey], Commission] = field(default_factory=lambda: defaultdict(Commission))
    """By payee, currency and period."""
    inbox: dict[tuple[str, bytes], Json] = field(default_factory=dict)
    balances: dict[Account, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    """Amount and version."""
    postings: list[Posting] = field(default_factory=list)
    payable_moves: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By payee and currency, every (version, change) of payable but the reserves themselves."""
    runs: dict[str, Run] = field(default_factory=dict)
    holds: int = 0
    waited: timedelta = timedelta()

    # What is set up.

    def _id(self, name: str) -> UUID:
        return self.ids.setdefault(name, UUID(int=100 + len(self.ids)))

    def _name(self, known: UUID) -> str:
        return next(name for name, each in self.ids.items() if each == known)

    def _may_begin(self, since: datetime, *, first: bool) -> bool:
        try:
            check_start(since, recorded_at=self.now, may_reach_back=first and not self.orders)
        except BackDated:
            return False
        return True

    def new_terms(self, terms: Json, since: datetime) -> bool:
        known = self.inputs.versions.get(PROGRAM_ID, ())
        if not self._may_begin(since, first=not known) or any(each.valid_from == since for each in known):
            return False
        read = Terms.of_json(with_ids(terms, lambda name: str(self._id(name))))
        made = ProgramVersion(PROGRAM_ID, len(known) + 1, since, read)
        self.inputs.versions[PROGRAM_ID] = tuple(sorted((*known, made), key=lambda each: each.valid_from))
        return True

    def new_affiliate(self, name: str, email: str, kind: str = "koc") -> bool:
        self.status[name] = "applied"
        return self.change_email(name, email)

    def change_email(self, name: str, email: str) -> bool:
        self.inputs.identities[self._id(name)] = (("email", f"email({email})"),)
        return True

    def approve_affiliate(self, name: str, since: datetime) -> bool:
        return self.status[name] != "approved" and self._decide(name, since, "approved")

    def suspend(self, name: str, since: datetime) -> bool:
        return self.status[name] == "approved" and self._decide(name, since, "suspended")

    def _decide(self, name: str, since: datetime, status: str) -> bool:
        known = self.inputs.approvals.get(self._id(name), ())
        if not self._follows(known, since):
            return False
        self.inputs.approvals[self._id(name)] = (*known, Since(since, status == "approved"))
        self.status[name] = status
        return True

    def _follows(self, known: Sequence[Since], since: datetime) -> bool:
        return self._may_begin(since, first=not known) and not (known and since <= known[-1].valid_from)

    def enroll(self, name: str, since: datetime) -> bool:
        return self._enroll(name, since, joins=True)

    def leave(self, name: str, since: datetime) -> bool:
        return self._enroll(name, since, joins=False)

    def _enroll(self, name: str, since: datetime, *, joins: bool) -> bool:
        pair = (PROGRAM_ID, self._id(name))
        known = self.inputs.enrollments.get(pair, ())
        if (bool(known) and known[-1].holds) is joins or not self._follows(known, since):
            return False
        self.inputs.enrollments[pair] = (*known, Since(since, joins))
        return True

    def new_coupon(self, code: str, owner: str, since: datetime) -> bool:
        if code in self.inputs.coupons or not self._may_begin(since, first=True):
            return False
        self.inputs.coupons[code] = Traceable(self._id(code), PROGRAM_ID, (Owner(since, self._id(owner)),))
        return True

    def hand_on(self, code: str, owner: str, since: datetime) -> bool:
        known = self.inputs.coupons[code]
        if not self._may_begin(since, first=False) or any(each.valid_from == since for each in known.owners):
            return False
        owners = sorted((*known.owners, Owner(since, self._id(owner))), key=lambda each: each.valid_from)
        self.inputs.coupons[code] = Traceable(known.id, PROGRAM_ID, tuple(owners))
        return True

    def new_link(self, name: str, owner: str) -> bool:
        self.inputs.links[self._id(name)] = Traceable(self._id(name), PROGRAM_ID, (Owner(self.now, self._id(owner)),))
        return True

    def click(self, link: str) -> str:
        ref = f"clk{len(self.clicks):03}"
        self.clicks[ref] = (self._id(link), self.now)
        return ref

    def pay_to(self, name: str, account: str) -> bool:
        if name in self.accounts:
            self.waits[name] = self.now + timedelta(hours=METHOD_WAIT_H)
        self.accounts[name] = account
        return True

    def join_agency(self, name: str, agency: str, *, share: str, fee: str) -> bool:
        return self._member(name, Membership(self._soon(), self._id(agency), rate_of(share), rate_of(fee)))

    def leave_agency(self, name: str) -> bool:
        known = self.inputs.roster.get(self._id(name), ())
        return bool(known and known[-1].agency_id) and self._member(name, Membership(self._soon(), None))

    def _member(self, name: str, state: Membership) -> bool:
        self.inputs.roster[self._id(name)] = (*self.inputs.roster.get(self._id(name), ()), state)
        return True

    def _soon(self) -> datetime:
        return self._tick() + CLOCK_TOLERANCE

    def pause(self, effect: str, since: datetime) -> bool:
        known = self.inputs.pauses.get(PROGRAM_ID, ())
        if effect == (known[-1].effect if known else PauseEffect.NONE):
            return False
        self.inputs.pauses[PROGRAM_ID] = (*known, Pause(since, PauseEffect(effect)))
        return True

    def bind(self, email: str, name: str | None, since: datetime, until: datetime | None) -> bool:
        known = self.inputs.customer_bindings.get(("email", f"email({email})"), ())
        if name is None and not (known and known[-1].affiliate_id):
            return False
        made = Binding(since, self._id(name) if name else None, PROGRAM_ID if name else None, until)
        self.inputs.customer_bindings["email", f"email({email})"] = (*known, made)
        return True

    # What is told.

    @property
    def _reading(self) -> Reading:
        return Reading(
            read_click=lambda ref: Touch(TouchKind.CLICK, ref, *self.clicks.get(ref, (None, None))),
            identify=lambda kind, value, _: f"{kind}({value})",
        )

    def larger(self, body: bytes) -> bytes:
        return hash_of(body, self._reading)

    def deliver(self, name: str, body: bytes, *, signed: bool = True) -> Json | None:
        if not signed:
            return None
        if (name, body) in self.inbox:
            return {**self.inbox[name, body], "repeated": True}
        self.inbox[name, body] = {"state": self._take(body)}
        return {**self.inbox[name, body], "repeated": False}

    def replay(self, name: str, body: bytes) -> bool:
        if self.inbox[name, body]["state"] != "parked":
            return False
        self.inbox[name, body] = {"state": self._take(body)}
        return True

    def _take(self, body: bytes) -> str:
        try:
            told = translate(Delivery("", "", body), self._reading)
        except NotUnderstood:
            return "parked"
        latest = self.now + CLOCK_TOLERANCE
        for fact in told.facts:
            if fact.version_at > latest or (isinstance(fact.body, OrderSnapshot) and fact.body.placed_at > latest):
                return "parked"
        self._tell(told.order_id, told.facts)
        return "applied" if self.orders[told.order_id].has_come else "waiting"

    def verdict(self, key: Key, amount: int | None, *, reject: bool = False) -> bool:
        payee_id = self._id(key.payee)
        kind = DecisionKind.REJECT if reject else DecisionKind.APPROVE
        if amount is None and not reject:
            amount = self.orders[key.order].commissions[payee_id, key.currency].target
        fact = DecisionFact(kind, self._tick(), "key", "decided", payee_id, key.currency, amount)
        self._tell(key.order, [decision_fact(fact)])
        return True

    def attribute(self, order: str, payee: str | None) -> bool:
        payee_id = self._id(payee) if payee else None
        fact = DecisionFact(DecisionKind.ATTRIBUTE, self._tick(), "key", "decided", payee_id)
        self._tell(order, [decision_fact(fact)])
        return True

    def hold(self, key: Key) -> bool:
        self.holds += 1
        at = self._tick()
        self._tell(key.order, [hold_fact(f"h{self.holds}", HoldFact(at, "review"), version_at=at)])
        return True

    def release_hold(self, key: Key) -> bool:
        at = self._tick()
        holds = {key: fact.body for (kind, key), fact in self.orders[key.order].facts.items() if kind is FactKind.HOLD}
        opened = {name: hold for name, hold in holds.items() if isinstance(hold, HoldFact) and hold.released_at is None}
        if not opened:
            return False
        facts = [
            hold_fact(name, HoldFact(hold.opened_at, hold.reason_code, at), version_at=at)
            for name, hold in opened.items()
        ]
        self._tell(key.order, facts)
        return True

    def _tick(self) -> datetime:
        """A moment of its own for each decision."""
        self.holds += 1
        return self.now + timedelta(microseconds=self.holds)

    def _tell(self, name: str, facts: Iterable[Fact]) -> None:
        """Merge, assess, move the difference; then again for orders whose answer that changed."""
        before = self._histories()
        order = self.orders[name]
        for fact in facts:
            place = (fact.kind, fact.key)
            order.facts[place] = merge(order.facts[place], fact) if place in order.facts else fact
        now = self._histories()
        for each in (name, *(other for other in now if other != name and now[other] != before.get(other))):
            self._assess(each, now.get(each))

    def _histories(self) -> dict[str, History]:
        """What orders know of each other, if any terms ask."""
        if not any(version.terms.asks_about_customers for version in self.inputs.versions[PROGRAM_ID]):
            return {}
        by_customer: dict[str, list[PlacedOrder]] = defaultdict(list)
        for name, order in self.orders.items():
            snapshot = order.known.snapshot
            customer = customer_key(snapshot.customer) if snapshot else None
            if snapshot is None or customer is None:
                continue
            placed = PlacedOrder(self._id(f"order {name}"), ("shop", name), snapshot.placed_at, snapshot.cancelled)
            if snapshot.cancelled:
                found = attribute(order.known, self.inputs, order.identities)
                skus = frozenset(line.sku for line in snapshot.lines if line.goods and line.sku)
                placed = replace(placed, skus=skus, affiliate_id=found.affiliate_id, program_id=found.program_id)
            by_customer[customer].append(placed)
        return {
            self._name(order_id).removeprefix("order "): history
            for placed_orders in by_customer.values()
            for order_id, history in histories(placed_orders).items()
        }

    def _assess(self, name: str, history: History | None) -> None:
        """One unit of work."""
        order = self.orders[name]
        facts = order.known
        outcome = assess(
            facts, self.inputs, identities=order.identities, known=list(order.commissions), history=history
        )
        order.identities = dict(outcome.attribution.identities)
        order.frozen = outcome.frozen is not None
        moved: list[tuple[UUID, str, Commission, Sequence[Move]]] = []
        for target in outcome.targets:
            commission = order.commissions.setdefault((target.payee_id, target.currency), Commission())
            here = freezable(commission.moves, self._intervals(self._name(target.payee_id), target.currency))
            moves = difference(
                commission.places, target_minor=target.target_minor, frozen=order.frozen, freezable_minor=here
            )
            commission.places = commission.places.after(moves)
            commission.target, commission.approved = target.target_minor, target.approved_minor
            commission.settles_at = target.settles_at
            commission.volume = target.volume_minor
            commission.periods = self._periods_of(target, facts)
            moved.append((target.payee_id, target.currency, commission, moves))
        self._book([*moved, *self._follow()])

    def _periods_of(self, target: Target, facts: OrderFacts) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
        if not target.is_affiliate or facts.snapshot is None:
            return {}
        return periods_of(
            period_rules(self.inputs.versions[PROGRAM_ID]),
            placed_at=facts.snapshot.placed_at,
            enrolled_since=lambda at: self.inputs.enrolled_since(PROGRAM_ID, target.payee_id, at),
            time_zone=self.time_zone,
        )

    def _follow(self) -> list[tuple[UUID, str, Commission, Sequence[Move]]]:
        """Let periods be what their orders come to now."""
        sums: dict[tuple[UUID, str, PeriodKey], Sums] = defaultdict(Sums, dict.fromkeys(self.periods, Sums()))
        rules: dict[tuple[UUID, str, PeriodKey], tuple[PeriodRule, ...]] = {}
        for order in self.orders.values():
            for (payee_id, currency), commission in order.commissions.items():
                for key, goes_by in commission.periods.items():
                    place = (payee_id, currency, key)
                    assert rules.setdefault(place, goes_by) == goes_by, "orders of one period have one set of rules"
                    sums[place] += contribution(
                        pending_minor=commission.places.pending_minor,
                        held_minor=commission.places.held_minor,
                        settled_minor=commission.places.settled_minor,
                        sales_minor=commission.volume,
                    )
        moved: list[tuple[UUID, str, Commission, Sequence[Move]]] = []
        for (payee_id, currency, key), each in sums.items():
            period = self.periods[payee_id, currency, key]
            period.periods = {key: rules.get((payee_id, currency, key), period.periods.get(key, ()))}
            given = gives(period.periods[key], each, currency)
            want = Places(given.pending_minor, given.held_minor, given.settled_minor)
            moved.append((payee_id, currency, period, shift(period.places, want)))
            period.places, period.target = want, given.target_minor
        return moved

    def _book(self, moved: Iterable[tuple[UUID, str, Commission, Sequence[Move]]]) -> None:
        legs: list[tuple[Account, Account, int]] = []
        entries: list[tuple[Commission, Account, int]] = []
        for payee_id, currency, commission, moves in moved:
            for move in moves:
                ends = [
                    account_of(place, merchant_id=MERCHANT, payee_id=payee_id, currency=currency)
                    for place in (move.source, move.destination)
                ]
                legs.append((ends[0], ends[1], move.amount_minor))
                if touches_payable(move):
                    gains = move.destination is Place.PAYABLE
                    entries.append((commission, ends[int(gains)], move.amount_minor if gains else -move.amount_minor))
        self._post(legs)
        self._enter(entries)

    def _enter(self, entries: Iterable[tuple[Commission, Account, int]]) -> None:
        for commission, payable, change in entries:
            version = self.balances[payable][1]
            commission.moves.append((version, change))
            self.payable_moves[self._name(payable.owner_id), payable.currency].append((version, change))

    def _post(self, legs: Iterable[tuple[Account, Account, int]], touched: Collection[Account] = ()) -> None:
        changed: dict[Account, int] = defaultdict(int, dict.fromkeys(touched, 0))
        for debit, credit, amount in legs:
            if amount:
                made = Posting(UUID(int=len(self.postings)), "test", len(self.postings), debit, credit, amount)
                self.postings.append(made)
                changed[debit] -= amount
                changed[credit] += amount
        for account, change in changed.items():
            if account.kind not in MERCHANT_ACCOUNTS:
                kept = self.balances[account]
                kept[0] += change
                kept[1] += 1
                if kept[0] < 0 and account.kind not in MAY_BE_NEGATIVE:
                    raise InvariantBroken(f"{account} would fall to {kept[0]}")

    # What moves.

    def advance(self, span: timedelta) -> None:
        self.now += span
        self._provider_follows()

    def wait(self, span: timedelta) -> None:
        self.waited += span
        self._provider_follows()

    def _provider_follows(self) -> None:
        self.rail.now = self._clock()
        self.rail.lose_late()

    def _clock(self) -> datetime:
        return self.now + self.waited

    def settle(self) -> None:
        moved: list[tuple[UUID, str, Commission, Sequence[Move]]] = []
        for order in self.orders.values():
            for (payee_id, currency), commission in order.commissions.items():
                if commission.settles_at is not None and commission.settles_at <= self.now:
                    amount = settleable(commission.places, approved_minor=commission.approved)
                    if amount:
                        moves = [settle_move(amount)]
                        commission.places = commission.places.after(moves)
                        moved.append((payee_id, currency, commission, moves))
        if moved:
            self._book([*moved, *self._follow()])

    # Payouts.

    def _account(self, payee: str, kind: AccountKind, currency: str) -> Account:
        return Account(MERCHANT, self._id(payee), kind, currency)

    def _items(self, payee: str, currency: str) -> list[Item]:
        runs = [run for run in self.runs.values() if run.currency == currency]
        return [run.items[payee] for run in runs if payee in run.items]

    def _intervals(self, payee: str, currency: str) -> list[Interval]:
        return [
            Interval(item.id, *item.interval, handed_over=item.handed_over, gave_back_version=item.gave_back)
            for item in self._items(payee, currency)
        ]

    def _payee(self, name: str, currency: str, *, carried: int = 0) -> Payee:
        return Payee(
            id=self._id(name),
            status=self.status[name],
            tax_rule="off",
            payout_method_id=self._id(f"method {name}") if name in self.accounts else None,
            fingerprint=self.accounts.get(name),
            payable_minor=self.balances[self._account(name, AccountKind.PAYABLE, currency)][0],
            carried_minor=carried,
            has_live_item=any(item.live for item in self._items(name, currency)),
            method_waits=self.waits.get(name, self.now) > self.now,
        )

    def reserve(self, run: str, currency: str, only: Sequence[str], by: str) -> bool:
        step = self.rail.step_minor(currency) or 1
        terms = in_force(self.inputs.versions[PROGRAM_ID], self.now)
        assert terms is not None
        made = Run(self._id(run), currency, {})
        legs = []
        for name in only or list(self.status):
            carried = self.balances[self._account(name, AccountKind.TAXED_CARRY, currency)][0]
            payee = self._payee(name, currency, carried=carried)
            is_in = self.inputs.enrolled_since(PROGRAM_ID, payee.id, self.now)
            minimum = lowest_minimum([dict(terms.terms.payout_minimums_minor)] if is_in else [], currency)
            if why_excluded(payee, minimum_minor=minimum, step_minor=step) is not None:
                continue
            version = self.balances[self._account(name, AccountKind.PAYABLE, currency)][1]
            before = max((item.interval[1] + 1 for item in self._items(name, currency)), default=0)
            net, _ = split_for_rail(payee.payable_minor + carried, step_minor=step)
            made.items[name] = Item(
                self._id(f"{run}/{name}"),
                name,
                self.accounts[name],
                payee.payable_minor,
                carried,
                net,
                (before, version),
            )
            legs += self._legs(made, made.items[name], reserves=True)
        if not made.items:
            return False
        self._post(legs, [self._account(name, AccountKind.PAYABLE, currency) for name in made.items])
        self.runs[run] = made
        return True

    def _legs(self, run: Run, item: Item, *, reserves: bool) -> list[tuple[Account, Account, int]]:
        reserved = self._account(item.payee, AccountKind.RESERVED, run.currency)
        others = [
            (self._account(item.payee, AccountKind.PAYABLE, run.currency), item.gross),
            (self._account(item.payee, AccountKind.TAXED_CARRY, run.currency), item.carried),
        ]
        return [(other, reserved, each) if reserves else (reserved, other, each) for other, each in others]

    def _hash(self, run: Run, item: Item) -> str:
        return item_hash(
            item_id=item.id,
            payee_id=self._id(item.payee),
            currency=run.currency,
            gross_minor=item.gross,
            carried_minor=item.carried,
            net_minor=item.net,
            tax_minor=0,
            tax_borne_minor=0,
            fee_minor=0,
            tax=UNTAXED,
            rail="sandbox",
            destination_fingerprint=item.fingerprint,
            pay_on=date(2027, 1, 1),
            from_version=item.interval[0],
            to_version=item.interval[1],
        )

    def submit(self, run: str, by: str) -> bool:
        each = self.runs[run]
        live = [item for item in each.items.values() if item.live]
        if each.state is not RunState.DRAFT or not live:
            return False
        for item in live:
            item.content = self._hash(each, item)
        each.state, each.submitted_by, each.hash = RunState.SUBMITTED, by, run_hash(item.content for item in live)
        return True

    def approve(self, run: str, by: str) -> bool:
        each = self.runs[run]
        live = [item for item in each.items.values() if item.live]
        if each.state is not RunState.SUBMITTED or by == each.submitted_by or not live:
            return False
        each.state = RunState.APPROVED
        return True

    def execute(self, run: str) -> bool:
        each = self.runs[run]
        if each.state not in {RunState.APPROVED, RunState.EXECUTING}:
            return False
        each.state, each.executed = RunState.EXECUTING, True
        return True

    def cancel(self, run: str) -> bool:
        each = self.runs[run]
        if each.state in {RunState.CLOSED, RunState.CANCELLED}:
            return False
        for item in each.items.values():
            if item.live and item.attempts and item.attempts[-1].outcome is Outcome.PLANNED:
                item.attempts[-1].outcome = Outcome.ABSENT
                self._not_sent(each, item)
            if item.live and not item.may_have_paid:
                self._release(each, item)
        if all(item.released for item in each.items.values()):
            each.state = RunState.CANCELLED
        return True

    def release(self, run: str, payee: str) -> bool:
        each = self.runs[run]
        item = each.items[payee]
        if item.released:
            return True
        if not item.live or item.may_have_paid:
            return False
        self._release(each, item)
        return True

    def _release(self, run: Run, item: Item) -> None:
        payable = self._account(item.payee, AccountKind.PAYABLE, run.currency)
        self._post(self._legs(run, item, reserves=False), [payable])
        item.live, item.released, item.handed_over, item.retry = False, True, False, False
        item.gave_back = self.balances[payable][1]
        self.payable_moves[item.payee, run.currency].append((item.gave_back, item.gross))

    def retry(self, run: str, payee: str, *, confirmed: bool) -> bool:
        each = self.runs[run]
        item = each.items[payee]
        wanted = Outcome.ABSENT if confirmed else Outcome.REFUSED
        if each.state is not RunState.EXECUTING or not item.live or item.outcomes[-1:] != [wanted]:
            return False
        item.retry = True
        return True

    def work(self, owner: str) -> bool:
        self.rail.now = self._clock()
        try:
            for run in self.runs.values():
                if run.state is RunState.EXECUTING:
                    self._advance(run)
        except Crash:
            return False
        return True

    def _advance(self, run: Run) -> None:
        for item in run.items.values():
            for attempt in item.attempts:
                if attempt.outcome is Outcome.IN_FLIGHT and attempt.lease_until and attempt.lease_until < self._clock():
                    attempt.outcome, attempt.next_at = Outcome.UNKNOWN, self._clock()
            if item.live and (not item.attempts or (item.retry and not item.may_have_paid)):
                self._plan(run, item)
        for item in run.items.values():
            for attempt in item.attempts[-1:]:
                if attempt.outcome is Outcome.PLANNED:
                    self._send(run, item, attempt)
                elif attempt.outcome is Outcome.UNKNOWN:
                    self._look(run, item, attempt)
        if not any(item.live for item in run.items.values()):
            run.state = RunState.CLOSED

    def _plan(self, run: Run, item: Item) -> None:
        reason = why_dropped(
            self._payee(item.payee, run.currency),
            net_minor=item.net,
            limit_minor=None,
            fingerprint=item.fingerprint,
            tax=UNTAXED,
            tax_now=UNTAXED,
            approved_hash=item.content,
            content=self._hash(run, item),
        )
        if reason is not None:
            self._release(run, item)
            return
        number = len(item.attempts) + 1
        sending = Sending(MERCHANT, run.id, item.id, number, item.fingerprint, item.net, run.currency)
        item.attempts.append(Attempt(number, f"{item.id}:{number}", self.rail.build_request(sending)))
        item.handed_over, item.retry = True, False
        self._transfer(run, item, AccountKind.RESERVED, AccountKind.IN_TRANSIT, item.gross + item.carried)

    def _transfer(self, run: Run, item: Item, source: AccountKind, destination: AccountKind, amount: int) -> None:
        ends = [self._account(item.payee, kind, run.currency) for kind in (source, destination)]
        self._post([(ends[0], ends[1], amount)])

    def _not_sent(self, run: Run, item: Item) -> None:
        item.handed_over = False
        self._transfer(run, item, AccountKind.IN_TRANSIT, AccountKind.RESERVED, item.gross + item.carried)

    def _send(self, run: Run, item: Item, attempt: Attempt) -> None:
        now = self._clock()
        attempt.outcome, attempt.lease_until = Outcome.IN_FLIGHT, now + LEASE
        attempt.sends, attempt.first_sent_at = attempt.sends + 1, attempt.first_sent_at or now
        answer = self.rail.send(attempt.request, attempt.key)
        elsewhere = False
        if answer.kind is AnswerKind.REFUSED and attempt.sends == 1:
            listing = self.rail.find(attempt.request)
            elsewhere = listing.trouble is not None or bool(listing.transfers)
        self._record(run, item, attempt, outcome_of(answer, sends=attempt.sends, found_elsewhere=elsewhere), answer)

    def _look(self, run: Run, item: Item, attempt: Attempt) -> None:
        now = self._clock()
        if attempt.next_at is not None and attempt.next_at > now:
            return
        listing: Listing = self.rail.find(attempt.request)
        made = listing.made_by(attempt.number)
        unknown = Answer(AnswerKind.UNKNOWN)
        if made is not None:
            self._record(run, item, attempt, Outcome.ACCEPTED, made.as_answer())
        elif listing.is_empty_for(attempt.number) and may_send(now=now, first_sent_at=attempt.first_sent_at):
            self._send(run, item, attempt)
        elif listing.trouble is None and attempt.first_sent_at and attempt.lease_until:
            attempt.listed_empty += (now,)
            absent = proves_absence(
                attempt.listed_empty,
                first_sent_at=attempt.first_sent_at,
                last_lease_until=attempt.lease_until,
                now=now,
            )
            self._record(run, item, attempt, Outcome.ABSENT if absent else Outcome.UNKNOWN, unknown)
        else:
            self._record(run, item, attempt, Outcome.UNKNOWN, unknown)

    def _record(self, run: Run, item: Item, attempt: Attempt, outcome: Outcome, answer: Answer) -> None:
        attempt.outcome, attempt.next_at = outcome, None
        match outcome:
            case Outcome.ACCEPTED:
                item.live, attempt.reference = False, answer.reference
                self._transfer(run, item, AccountKind.IN_TRANSIT, AccountKind.PAID, item.net)
                rest = item.gross + item.carried - item.net
                self._transfer(run, item, AccountKind.IN_TRANSIT, AccountKind.TAXED_CARRY, rest)
            case Outcome.REFUSED | Outcome.ABSENT:
                self._not_sent(run, item)
            case _:
                first = attempt.first_sent_at or self._clock()
                attempt.next_at = next_look(now=self._clock(), first_sent_at=first, sends=max(1, attempt.sends))

    def reconcile(self) -> None:
        for run in self.runs.values():
            for item in run.items.values():
                for transfer in self.rail.transfers:
                    if item.attempts and transfer.reference == item.attempts[-1].reference:
                        increase = transfer.reversed_minor - item.came_back
                        if increase > 0:
                            item.came_back = transfer.reversed_minor
                            payable = self._account(item.payee, AccountKind.PAYABLE, run.currency)
                            ends = [
                                self._account(item.payee, kind, run.currency)
                                for kind in (AccountKind.PAID, AccountKind.TAXED_CARRY)
                            ]
                            self._post([(ends[0], ends[1], increase)], [payable])
                            if item.came_back == item.net:
                                item.gave_back = self.balances[payable][1]

    # What is seen.

    def see(self) -> Seen:
        seen = Seen()
        for name, order in self.orders.items():
            if order.frozen and order.has_come:
                seen.frozen.add(name)
            for (payee_id, currency), commission in order.commissions.items():
                places = commission.places
                seen.commissions[Key(name, self._name(payee_id), currency)] = Standing(
                    commission.target,
                    places.pending_minor,
                    places.held_minor,
                    places.settled_minor,
                    commission.settles_at,
                )
        for (payee_id, currency, key), period in self.periods.items():
            places = period.places
            if places != Places():
                standing = Standing(period.target, places.pending_minor, places.held_minor, places.settled_minor, None)
                seen.commissions[Key(f"{key.rule} {key.begins_on}", self._name(payee_id), currency)] = standing
        for account, (amount, _) in self.balances.items():
            if amount:
                of = seen.balances.setdefault((self._name(account.owner_id), account.currency), {})
                of[account.kind.value] = amount
        for (name, body), answered in self.inbox.items():
            waits = answered["state"] == "waiting"
            seen.inbox[name, body] = self._now_of(body) if waits else answered["state"]
        for run_name, run in self.runs.items():
            seen.runs[run_name] = run.state.value
            for payee, item in run.items.items():
                says = ProviderSays(sent_minor=item.net, reversed_minor=item.came_back)
                state: ItemState = item_state(released=item.released, run=run.state, outcomes=item.outcomes, says=says)
                seen.items[run_name, payee] = SeenItem(
                    item.id, item.gross, item.carried, item.net, state.value, item.came_back
                )
        return seen

    def _now_of(self, body: bytes) -> str:
        order_id = translate(Delivery("", "", body), self._reading).order_id
        return "applied" if self.orders[order_id].has_come else "waiting"

    def check(self) -> list[str]:
        wrong = []
        for run_name, run in self.runs.items():
            for payee, item in run.items.items():
                alone = [Interval(item.id, *item.interval, handed_over=False)]
                moved = [
                    change
                    for version, change in self.payable_moves[payee, run.currency]
                    if holder(version, alone) is not None
                ]
                if sum(moved) != item.gross:
                    wrong.append(f"{run_name} pays {payee} {item.gross}, {sum(moved)} moved in its interval")
        return wrong

    def digest(self) -> object:
        return (len(self.postings), len(self.inbox), repr(self.inputs), repr(self.runs), dict(self.status))

    def last_words(self) -> list[str]:
        sums: dict[Account, int] = defaultdict(int)
        for posting in self.postings:
            sums[posting.debit] -= posting.amount_minor
            sums[posting.credit] += posting.amount_minor
        return [
            f"{account} is {kept[0]}, its postings say {sums[account]}"
            for account, kept in self.balances.items()
            if kept[0] != sums[account]
        ]
