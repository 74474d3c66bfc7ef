"""What the oracle makes of a merchant's dated inputs: who brought an order, and by which terms; no line of the service."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from tests.support.oracle_reads import History, Json, as_of, moment


class Touch(NamedTuple):
    """kind: click, coupon, customer (one that is bound) or again (an order placed again)."""

    at: datetime
    ref: str
    kind: str
    owner: str


class Credit(NamedTuple):
    """weight: part of each line. own: the buyer may be the affiliate."""

    affiliate: str
    weight: Fraction
    own: bool


class Gone(NamedTuple):
    """A cancelled order that somebody had brought."""

    order: str
    placed_at: datetime
    skus: frozenset[str]
    owner: str


class Past(NamedTuple):
    """What a customer's other orders say of an order. first: when the first was placed, if before it; gone: newest first."""

    first: datetime | None = None
    gone: tuple[Gone, ...] = ()


def buyer_of(shown: Json) -> str | None:
    email: str | None = shown.get("customer", {}).get("email")
    return email


def skus_of(shown: Json) -> frozenset[str]:
    return frozenset(line["sku"] for line in shown["lines"] if line.get("kind", "goods") == "goods" and line["sku"])


@dataclass
class Inputs:
    """zone: the shop's. What is dated holds for orders placed from a moment on."""

    zone: tzinfo
    terms: History[Json] = field(default_factory=list)
    pauses: History[str] = field(default_factory=list)
    approved: dict[str, History[bool]] = field(default_factory=lambda: defaultdict(list))
    enrolled: dict[str, History[bool]] = field(default_factory=lambda: defaultdict(list))
    roster: dict[str, History[Json | None]] = field(default_factory=lambda: defaultdict(list))
    """By affiliate: of which agency, with what share and fee."""
    bound: dict[str, History[tuple[str | None, datetime | None]]] = field(default_factory=lambda: defaultdict(list))
    """By customer: to whom, and until when."""
    owners: dict[str, History[str]] = field(default_factory=dict)
    """Of coupons by code and of links by name."""
    clicks: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    same_person: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    """By order, affiliate and customer, as it was when first asked."""

    def brought(self, order: str, shown: Json, decided: list[str | None], past: Past) -> list[Credit]:
        """Whom an order is credited to, in the order of their touches. decided: what people said of it, the last counts."""
        placed_at = moment(shown["placed_at"])
        terms = as_of(self.terms, placed_at)
        rules = terms["attribution"] if terms else {}
        touches = self._touches(shown, placed_at) + self._again(shown, placed_at, past, rules)
        judged = [(touch, self._judge(order, shown, touch, rules)) for touch in sorted(touches)] if terms else []
        if decided:
            payee = decided[-1]
            known = any(touch.owner == payee for touch in touches) or (payee and self.member_since(payee, placed_at))
            return [Credit(payee, Fraction(1), own=False)] if payee and known else []
        own = {touch: each == "own" for touch, each in judged if each != "lost"}
        bound, again = ([touch for touch in own if touch.kind == kind] for kind in ("customer", "again"))
        rank = rules.get("customer_binding", "after")
        touched = [touch for touch in own if touch.kind in {"click", "coupon"}]
        first = [touch for touch in touched if touch.kind == rules["precedence"]] or touched
        counting = (bound if rank == "before" else []) or first or bound or again
        found: dict[str, Credit] = {}
        for touch, weight in zip(counting, weights(rules, len(counting)), strict=True):
            known_weight, suspected = found[touch.owner][1:] if touch.owner in found else (Fraction(0), False)
            if weight:
                found[touch.owner] = Credit(touch.owner, known_weight + weight, suspected or own[touch])
        return list(found.values())

    def _touches(self, shown: Json, placed_at: datetime) -> list[Touch]:
        touches = [(at, ref, name, "click") for ref in shown["click_ids"] for name, at in [self.clicks[ref]]]
        touches += [(placed_at, code, code, "coupon") for code in dict.fromkeys(shown["coupon_codes"])]
        found = [
            Touch(at, ref, kind, owner)
            for at, ref, name, kind in dict.fromkeys(touches)
            if (owner := as_of(self.owners.get(name, []), at))
        ]
        states = self.bound.get(buyer_of(shown) or "", [])
        to, until = as_of(states, placed_at) or (None, None)
        if to and (until is None or placed_at < until):
            since = max(since for since, _ in states if since <= placed_at)
            found.append(Touch(since, "", "customer", to))
        return found

    def _again(self, shown: Json, placed_at: datetime, past: Past, rules: Json) -> list[Touch]:
        """By the newest cancelled order of which this one has a product, as far back as the terms say."""
        days = timedelta(days=rules.get("reorder_days", 0))
        for gone in past.gone:
            if days and placed_at - gone.placed_at <= days and gone.skus & skus_of(shown):
                return [Touch(gone.placed_at, gone.order, "again", gone.owner)]
        return []

    def _judge(self, order: str, shown: Json, touch: Touch, rules: Json) -> str:
        """lost, own where the buyer may be the affiliate, or fine."""
        placed_at, owner, customer = moment(shown["placed_at"]), touch.owner, buyer_of(shown)
        if not (as_of(self.approved[owner], placed_at) and self.member_since(owner, placed_at)):
            return "lost"
        if touch.kind == "customer" and rules.get("customer_binding") == "ignored":
            return "lost"
        if touch.kind == "click" and not timedelta() <= placed_at - touch.at <= timedelta(days=rules["window_days"]):
            return "lost"
        if rules["self_purchase"] == "allow" or not customer:
            return "fine"
        if not self.same_person.setdefault((order, owner, customer), self.emails.get(owner) == customer):
            return "fine"
        return "own" if rules["self_purchase"] == "review" else "lost"

    def member_since(self, affiliate: str, at: datetime) -> datetime | None:
        since = None
        for begins, member in sorted(self.enrolled[affiliate]):
            if begins <= at:
                since = (since or begins) if member else None
        return since

    def begun(self, at: datetime) -> History[Json]:
        """Versions of the terms begun by a moment, oldest first."""
        return sorted(((since, each) for since, each in self.terms if since <= at), key=lambda each: each[0])

    def terms_for(self, payee: str, placed_at: datetime) -> list[Json]:
        """The terms in force, then those protected by notice, lost last first."""
        joined = self.member_since(payee, placed_at) or placed_at
        begun = self.begun(placed_at)
        protected = [
            old
            for (_, old), (lost, _) in pairwise(begun)
            if joined < lost and placed_at - lost < timedelta(days=old["notice_days"])
        ]
        return [each for _, each in begun[-1:]] + protected[::-1]


def weights(rules: Json, count: int) -> list[Fraction]:
    """What part each of so many touches has, in the order of time; together 1."""
    one = Fraction(1)
    match rules.get("model"):
        case "linear":
            return [one / (count or 1)] * count
        case "position" if count > 1:
            ends = rules.get("position", {"first": "40", "last": "40"})
            first, last = Fraction(ends["first"]) / 100, Fraction(ends["last"]) / 100
            if count == 2:
                return [first / (first + last), last / (first + last)]
            return [first, *[(1 - first - last) / (count - 2)] * (count - 2), last]
    winner = 0 if rules.get("model") == "first" else count - 1
    return [one if place == winner else 0 * one for place in range(count)]
