"""What shops and people told us about an order: facts, how two versions of a fact merge, and what they add up to.

Every fact may come twice, late and in any order. Merging is a join: commutative, associative, idempotent.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self, assert_never
from uuid import UUID

from service.domain.money import round_half_away, spread

JsonObject = dict[str, Any]

# Made once: json.dumps would make it anew for each fact.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _moment(at: datetime) -> str:
    """One notation for one instant: a shop that changes its UTC offset has not changed the body."""
    return at.astimezone(UTC).isoformat()


def _moment_or_none(at: datetime | None) -> str | None:
    return None if at is None else _moment(at)


def _given(fields: JsonObject) -> JsonObject:
    """Fields without the empty ones: a fact that lacks them keeps the text and hash it had before they existed."""
    return {name: value for name, value in fields.items() if value}


class FactKind(StrEnum):
    ORDER = "order"
    """The newest snapshot of the order as the shop shows it."""
    REFUND = "refund"
    DISPUTE = "dispute"
    HOLD = "hold"
    MILESTONE = "milestone"
    """paid, fulfilled, delivered or completed; the earliest time counts."""
    CANCELLATION = "cancellation"
    """The whole order was cancelled for good, told apart from its snapshot by a shop that shows none."""
    DECISION = "decision"
    """What a person at the merchant's desk decided."""


class Milestone(StrEnum):
    PAID = "paid"
    FULFILLED = "fulfilled"
    DELIVERED = "delivered"
    COMPLETED = "completed"


class DecisionKind(StrEnum):
    APPROVE = "approve"
    """Pay up to an amount; anything above waits for another approval."""
    REJECT = "reject"
    """Pay nothing."""
    ATTRIBUTE = "attribute"
    """This affiliate, or nobody, brought the order; wins over every touch."""
    ADJUST = "adjust"
    """Add to what an affiliate earns, or take from it; also a bonus, which has no order."""


class TouchKind(StrEnum):
    CLICK = "click"
    COUPON = "coupon"
    # What no order carries, but the merchant's books know about its buyer, its goods or an order before it.
    CUSTOMER = "customer"
    """The buyer is bound to an affiliate."""
    PRODUCT = "product"
    """The product is."""
    REORDER = "reorder"
    """The buyer cancelled an order that an affiliate had brought, and placed it again."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as ordered, before any refund.

    id: unique within its order. net_minor: what the buyer pays for it after every discount, without tax and shipping.
    goods: False for carriage, fees, tips and gift cards, which earn nothing. quantity: a decimal string, shown only.
    """

    id: str
    sku: str
    net_minor: int
    quantity: str = "1"
    category: str = ""
    goods: bool = True


@dataclass(frozen=True, slots=True)
class Touch:
    """Something the order carries that may earn it.

    ref: the click id or the coupon code without case. link_id, at: read from a click id whose signature is ours;
    both None where it is not. at of a coupon is None: it was used when the order was placed.
    """

    kind: TouchKind
    ref: str
    link_id: UUID | None = None
    at: datetime | None = None


def folded(code: str) -> str:
    """A coupon code as it is stored and compared: without case and surrounding blanks."""
    return code.strip().casefold()


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    """The order as the shop showed it at `version_at`.

    touches: in the order the shop listed them. customer: keyed hashes by kind (`IdentityKind`), one each, never the
    values. shipping_minor, discount_minor, total_minor: shown to people, no commission depends on them; tax_minor only
    says what part of a refund told in gross is goods. country: where the buyer is, ISO alpha-2, by the goods' way or
    else the bill's; empty where the shop does not tell. virtual_minor: what of the goods was paid with gift cards, points
    or store credit.
    """

    placed_at: datetime
    currency: str
    lines: tuple[Line, ...]
    cancelled: bool = False
    touches: tuple[Touch, ...] = ()
    customer: tuple[tuple[str, str], ...] = ()
    number: str = ""
    total_minor: int = 0
    shipping_minor: int = 0
    tax_minor: int = 0
    discount_minor: int = 0
    country: str = ""
    virtual_minor: int = 0

    @property
    def goods_minor(self) -> int:
        """Goods as ordered, after discounts, before tax, shipping and refunds."""
        return sum(line.net_minor for line in self.lines if line.goods)

    def as_json(self) -> JsonObject:
        told: JsonObject = {
            "placed_at": _moment(self.placed_at),
            "currency": self.currency,
            "lines": [
                [line.id, line.sku, line.net_minor, line.quantity, line.category, line.goods] for line in self.lines
            ],
            "cancelled": self.cancelled,
            "touches": [
                [
                    touch.kind,
                    touch.ref,
                    str(touch.link_id) if touch.link_id else None,
                    _moment_or_none(touch.at),
                ]
                for touch in self.touches
            ],
            "customer": dict(self.customer),
            "number": self.number,
            "total_minor": self.total_minor,
            "shipping_minor": self.shipping_minor,
            "tax_minor": self.tax_minor,
            "discount_minor": self.discount_minor,
        }
        # Left out where there is none, so that every other order keeps the text and hash it has always had.
        if self.country:
            told["country"] = self.country
        if self.virtual_minor:
            told["virtual_minor"] = self.virtual_minor
        return told

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(
            placed_at=datetime.fromisoformat(stored["placed_at"]),
            currency=stored["currency"],
            lines=tuple(Line(*line) for line in stored["lines"]),
            cancelled=stored["cancelled"],
            touches=tuple(
                Touch(
                    TouchKind(kind),
                    ref,
                    UUID(link_id) if link_id else None,
                    datetime.fromisoformat(at) if at else None,
                )
                for kind, ref, link_id, at in stored["touches"]
            ),
            customer=tuple(sorted(stored["customer"].items())),
            number=stored["number"],
            total_minor=stored["total_minor"],
            shipping_minor=stored["shipping_minor"],
            tax_minor=stored["tax_minor"],
            discount_minor=stored["discount_minor"],
            country=stored.get("country", ""),
            virtual_minor=stored.get("virtual_minor", 0),
        )


@dataclass(frozen=True, slots=True)
class RefundFact:
    """Goods given back. The id is the fact's key.

    lines: (line id, goods value in minor units) as far as the shop named lines. unallocated_minor: goods value it did
    not put on a line; spread over the goods lines by what remains of them. Both zero or more, without tax and shipping.
    gross_minor: money given back by somebody who does not know what of it is goods, such as a card processor: the
    snapshot tells how much that is (`goods_part`); the rest as unallocated_minor.
    owed_minor: what the buyer should have had for the lines, of a refund that paid nothing. They count all the same; but
    money that other refunds of the order give back for no line is first that of these lines.
    """

    currency: str
    refunded_at: datetime
    lines: tuple[tuple[str, int], ...] = ()
    unallocated_minor: int = 0
    gross_minor: int = 0
    owed_minor: int = 0

    @property
    def goods_minor(self) -> int:
        """What is known to be goods; without the goods' part of gross_minor, which depends on the order."""
        return sum(amount for _, amount in self.lines) + self.unallocated_minor

    @property
    def given_back_minor(self) -> int:
        """Everything that was given back, as far as it may be goods; 0 when no goods can be among it."""
        return self.goods_minor + self.gross_minor

    def as_json(self) -> JsonObject:
        told: JsonObject = {
            "currency": self.currency,
            "refunded_at": _moment(self.refunded_at),
            "lines": [list(line) for line in self.lines],
            "unallocated_minor": self.unallocated_minor,
        }
        # Left out where there is none, so that every other refund keeps the text and hash it has always had.
        if self.gross_minor:
            told["gross_minor"] = self.gross_minor
        if self.owed_minor:
            told["owed_minor"] = self.owed_minor
        return told

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(
            currency=stored["currency"],
            refunded_at=datetime.fromisoformat(stored["refunded_at"]),
            lines=tuple((line_id, amount) for line_id, amount in stored["lines"]),
            unallocated_minor=stored["unallocated_minor"],
            gross_minor=stored.get("gross_minor", 0),
            owed_minor=stored.get("owed_minor", 0),
        )


class DisputeOutcome(StrEnum):
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class DisputeFact:
    """A chargeback or complaint. Open until closed_at; lost, it counts as a refund of amount_minor.

    gross: amount_minor holds tax and carriage too, so that only its goods' part counts, as with a refund's gross_minor.
    """

    opened_at: datetime
    currency: str
    amount_minor: int
    closed_at: datetime | None = None
    outcome: DisputeOutcome | None = None
    gross: bool = False

    def as_json(self) -> JsonObject:
        told: JsonObject = {
            "opened_at": _moment(self.opened_at),
            "currency": self.currency,
            "amount_minor": self.amount_minor,
            "closed_at": _moment_or_none(self.closed_at),
            "outcome": self.outcome,
        }
        return told | {"gross": True} if self.gross else told

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(
            opened_at=datetime.fromisoformat(stored["opened_at"]),
            currency=stored["currency"],
            amount_minor=stored["amount_minor"],
            closed_at=datetime.fromisoformat(stored["closed_at"]) if stored["closed_at"] else None,
            outcome=DisputeOutcome(stored["outcome"]) if stored["outcome"] else None,
            gross=stored.get("gross", False),
        )


@dataclass(frozen=True, slots=True)
class HoldFact:
    """Somebody asked us to wait. Open until released_at; one that awaits a refund (`awaits`) also ends with that.

    note, evidence: what a person said of its opening and its release, and addresses of what they rest on.
    """

    opened_at: datetime
    reason_code: str
    released_at: datetime | None = None
    note: str = ""
    release_note: str = ""
    evidence: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        said = {"note": self.note, "release_note": self.release_note, "evidence": list(self.evidence)}
        return {
            "opened_at": _moment(self.opened_at),
            "reason_code": self.reason_code,
            "released_at": _moment_or_none(self.released_at),
            **_given(said),
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(
            opened_at=datetime.fromisoformat(stored["opened_at"]),
            reason_code=stored["reason_code"],
            released_at=datetime.fromisoformat(stored["released_at"]) if stored["released_at"] else None,
            note=stored.get("note", ""),
            release_note=stored.get("release_note", ""),
            evidence=tuple(stored.get("evidence", ())),
        )


@dataclass(frozen=True, slots=True)
class MilestoneFact:
    """The order reached a milestone; the key names which."""

    at: datetime

    def as_json(self) -> JsonObject:
        return {"at": _moment(self.at)}

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(at=datetime.fromisoformat(stored["at"]))


@dataclass(frozen=True, slots=True)
class CancellationFact:
    """The whole order was cancelled, for good. Only for shops where no order comes back from that."""

    at: datetime

    def as_json(self) -> JsonObject:
        return {"at": _moment(self.at)}

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(at=datetime.fromisoformat(stored["at"]))


ADJUSTS = "adjust:"
"""What the keys of adjustments begin with."""


@dataclass(frozen=True, slots=True)
class DecisionFact:
    """What a person decided. The newest per kind and payee counts; a new verdict replaces the earlier one.

    payee_id: the affiliate approved, rejected, credited or adjusted; None with ATTRIBUTE means nobody.
    amount_minor: the most an approval pays, or what an adjustment adds (below zero: takes away), in `currency`; None with
    other kinds. decided_by: the key that sent it. id: of an adjustment; each adds to the others, and one told again
    replaces itself. note, evidence: in a person's words, and addresses of what it rests on.
    """

    kind: DecisionKind
    decided_at: datetime
    decided_by: str
    reason_code: str
    payee_id: UUID | None = None
    currency: str = ""
    amount_minor: int | None = None
    id: str = ""
    note: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Approve and reject are one register per payee, since the newer verdict replaces the other.

        Not per currency: an order rejected in one currency and edited to another stays rejected.
        """
        match self.kind:
            case DecisionKind.ATTRIBUTE:
                return "attribute"
            case DecisionKind.ADJUST:
                return f"{ADJUSTS}{self.id}"
            case DecisionKind.APPROVE | DecisionKind.REJECT:
                return f"verdict:{self.payee_id}"
            case _:
                assert_never(self.kind)

    def as_json(self) -> JsonObject:
        return {
            "kind": self.kind,
            "decided_at": _moment(self.decided_at),
            "decided_by": self.decided_by,
            "reason_code": self.reason_code,
            "payee_id": str(self.payee_id) if self.payee_id else None,
            "currency": self.currency,
            "amount_minor": self.amount_minor,
            **_given({"id": self.id, "note": self.note, "evidence": list(self.evidence)}),
        }

    @classmethod
    def of_json(cls, stored: JsonObject) -> Self:
        return cls(
            kind=DecisionKind(stored["kind"]),
            decided_at=datetime.fromisoformat(stored["decided_at"]),
            decided_by=stored["decided_by"],
            reason_code=stored["reason_code"],
            payee_id=UUID(stored["payee_id"]) if stored["payee_id"] else None,
            currency=stored["currency"],
            amount_minor=stored["amount_minor"],
            id=stored.get("id", ""),
            note=stored.get("note", ""),
            evidence=tuple(stored.get("evidence", ())),
        )


FactBody = OrderSnapshot | RefundFact | DisputeFact | HoldFact | MilestoneFact | CancellationFact | DecisionFact

_BODY: dict[FactKind, type[FactBody]] = {
    FactKind.ORDER: OrderSnapshot,
    FactKind.REFUND: RefundFact,
    FactKind.DISPUTE: DisputeFact,
    FactKind.HOLD: HoldFact,
    FactKind.MILESTONE: MilestoneFact,
    FactKind.CANCELLATION: CancellationFact,
    FactKind.DECISION: DecisionFact,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact with its key and version.

    key: tells facts of one kind apart: the refund's, dispute's or hold's id, the milestone, the decision's register;
    empty for the order. version_at: the source's own time of this version, never our time of receipt.
    text: the translated body as canonical JSON; body_hash: its SHA-256, so a harmless re-serialisation by the shop is
    the same body. conflicting: another body came under the same version. provisional: a refund told by its total alone,
    until its lines are known; the same refund with its lines counts instead, whichever is newer.
    """

    kind: FactKind
    key: str
    version_at: datetime
    version_amount: int
    body: FactBody
    text: str
    body_hash: bytes
    conflicting: bool = False
    provisional: bool = False

    @classmethod
    def of(
        cls,
        kind: FactKind,
        body: FactBody,
        *,
        key: str = "",
        version_at: datetime,
        version_amount: int = 0,
        provisional: bool = False,
    ) -> Self:
        """A fact as an adapter or the desk makes it."""
        text = _CANONICAL.encode(body.as_json())
        body_hash = hashlib.sha256(text.encode()).digest()
        return cls(kind, key, version_at, version_amount, body, text, body_hash, provisional=provisional)

    @classmethod
    def stored(
        cls,
        *,
        kind: str,
        key: str,
        version_at: datetime,
        version_amount: int,
        payload: JsonObject,
        body_hash: bytes,
        conflicting: bool,
        provisional: bool = False,
    ) -> Self:
        """A fact as read back from its row."""
        body = _BODY[FactKind(kind)].of_json(payload)
        return cls(FactKind(kind), key, version_at, version_amount, body, "", body_hash, conflicting, provisional)

    @property
    def version(self) -> tuple[bool, datetime, int]:
        """What is compared first, second, third: the larger counts."""
        return (not self.provisional, self.version_at, self.version_amount)


def order_fact(snapshot: OrderSnapshot, *, version_at: datetime) -> Fact:
    return Fact.of(FactKind.ORDER, snapshot, version_at=version_at)


def refund_fact(refund_id: str, refund: RefundFact, *, version_at: datetime, provisional: bool = False) -> Fact:
    """The version is the event's time, then the amount: of two totals told at one time the larger counts.

    provisional: only a total is known so far. That is no matter of time: an order told again later still shows the
    bare total of a refund whose lines came long ago.
    """
    return Fact.of(
        FactKind.REFUND,
        refund,
        key=refund_id,
        version_at=version_at,
        version_amount=refund.given_back_minor,
        provisional=provisional,
    )


def dispute_fact(dispute_id: str, dispute: DisputeFact, *, version_at: datetime) -> Fact:
    """Of two states told at one time the closed one counts: what is closed was open before."""
    closed = int(dispute.closed_at is not None)
    return Fact.of(FactKind.DISPUTE, dispute, key=dispute_id, version_at=version_at, version_amount=closed)


def hold_fact(hold_id: str, hold: HoldFact, *, version_at: datetime) -> Fact:
    """Of two states told at one time the released one counts."""
    released = int(hold.released_at is not None)
    return Fact.of(FactKind.HOLD, hold, key=hold_id, version_at=version_at, version_amount=released)


def milestone_fact(milestone: Milestone, at: datetime) -> Fact:
    return Fact.of(FactKind.MILESTONE, MilestoneFact(at), key=milestone, version_at=at)


def cancellation_fact(at: datetime) -> Fact:
    return Fact.of(FactKind.CANCELLATION, CancellationFact(at), version_at=at)


AWAITS_REFUND = "refund:"


def awaits(refund_id: str) -> str:
    """The key of a hold that waits for what a refund gave back, and ends when the refund itself is told."""
    return AWAITS_REFUND + refund_id


def decision_fact(decision: DecisionFact) -> Fact:
    return Fact.of(FactKind.DECISION, decision, key=decision.key, version_at=decision.decided_at)


def merge(old: Fact, new: Fact) -> Fact:
    """The one of two facts under one key that counts. Argument order does not matter.

    Milestones: the earliest. Everything else: what is not provisional, then the newest version; under one version the
    larger body hash, and for order snapshots the mark that two bodies disagree. `ledger` facts in SQL follow the same rule (`commissions/facts`).
    """
    if old.kind is FactKind.MILESTONE:
        return min(old, new, key=lambda fact: (fact.version_at, fact.body_hash))
    if old.version != new.version:
        return max(old, new, key=lambda fact: fact.version)
    if old.body_hash == new.body_hash:
        return old if old.conflicting else new
    winner = max(old, new, key=lambda fact: fact.body_hash)
    return replace(winner, conflicting=True) if winner.kind is FactKind.ORDER else winner


@dataclass(slots=True)
class OrderFacts:
    """Everything known about one order, each set by key. snapshot is None while only events about it have come."""

    snapshot: OrderSnapshot | None = None
    version_at: datetime | None = None
    conflicting: bool = False
    refunds: dict[str, RefundFact] = field(default_factory=dict)
    disputes: dict[str, DisputeFact] = field(default_factory=dict)
    holds: dict[str, HoldFact] = field(default_factory=dict)
    milestones: dict[Milestone, datetime] = field(default_factory=dict)
    decisions: dict[str, DecisionFact] = field(default_factory=dict)
    cancelled_at: datetime | None = None

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Self:
        """Collect facts already merged by key."""
        known = cls()
        for fact in facts:
            match fact.body:
                case OrderSnapshot() as snapshot:
                    known.snapshot, known.version_at = snapshot, fact.version_at
                    known.conflicting = fact.conflicting
                case RefundFact() as refund:
                    known.refunds[fact.key] = refund
                case DisputeFact() as dispute:
                    known.disputes[fact.key] = dispute
                case HoldFact() as hold:
                    known.holds[fact.key] = hold
                case MilestoneFact() as milestone:
                    known.milestones[Milestone(fact.key)] = milestone.at
                case DecisionFact() as decision:
                    known.decisions[fact.key] = decision
                case CancellationFact() as cancellation:
                    known.cancelled_at = cancellation.at
        if known.snapshot is not None and known.cancelled_at is not None:
            # Whichever came first: a shop that tells this apart has orders that do not come back.
            known.snapshot = replace(known.snapshot, cancelled=True)
        return known

    @property
    def stands_alone(self) -> bool:
        """A bonus: there is no order to wait for, and adjustments alone say what is earned."""
        return self.snapshot is None and any(key.startswith(ADJUSTS) for key in self.decisions)

    @property
    def open_holds(self) -> list[HoldFact]:
        """Holds that nobody released and that do not wait for a refund which is here."""
        return [
            hold
            for key, hold in self.holds.items()
            if hold.released_at is None
            and not (key.startswith(AWAITS_REFUND) and key.removeprefix(AWAITS_REFUND) in self.refunds)
        ]

    def all_refunds(self) -> dict[str, RefundFact]:
        """Refunds by id, a lost dispute being one called `dispute:<id>`.

        A refund the shop itself books for that dispute comes under the same id and takes its place: it is linked,
        not added.
        """
        lost = {
            f"dispute:{dispute_id}": RefundFact(
                currency=dispute.currency,
                refunded_at=dispute.closed_at or dispute.opened_at,
                unallocated_minor=0 if dispute.gross else dispute.amount_minor,
                gross_minor=dispute.amount_minor if dispute.gross else 0,
            )
            for dispute_id, dispute in self.disputes.items()
            if dispute.outcome is DisputeOutcome.LOST
        }
        return lost | self.refunds


@dataclass(frozen=True, slots=True)
class NetLine:
    """A goods line with what came back of it, and what of the rest is left out because no money paid for it.

    refunded_minor: at most the line; virtual_minor: at most what is left of it; net_minor: the rest, zero or more.
    """

    line: Line
    refunded_minor: int
    virtual_minor: int = 0

    @property
    def net_minor(self) -> int:
        return self.line.net_minor - self.refunded_minor - self.virtual_minor


def goods_part(gross_minor: int, snapshot: OrderSnapshot) -> int:
    """How much of money given back is goods: goods and tax in their proportion, carriage last.

    So a full return of which carriage is kept takes all goods back, and half the goods with their tax takes half. At
    most all goods. Depends on nothing but the snapshot, each refund for itself: order of arrival is nothing.
    Rounded half away from zero.
    """
    goods_minor = sum([max(line.net_minor, 0) for line in snapshot.lines if line.goods])
    taxed_minor = goods_minor + max(snapshot.tax_minor, 0)
    if taxed_minor == 0:
        return 0
    return min(goods_minor, round_half_away(Fraction(gross_minor * goods_minor, taxed_minor)))


def net_lines(snapshot: OrderSnapshot, refunds: dict[str, RefundFact]) -> list[NetLine]:
    """Goods lines after all refunds in the snapshot's currency, in the order's line order.

    Named lines are summed first and each stops at its own value; what no line was named for, beyond what is owed for the
    named ones, and what was named for a line this snapshot does not have, is spread over the goods lines by remaining
    value. Order of refunds is nothing.
    """
    goods = [line for line in snapshot.lines if line.goods]
    place = {line.id: index for index, line in enumerate(goods)}
    other = {line.id for line in snapshot.lines if not line.goods}
    back = [0] * len(goods)
    loose = unallocated = owed = 0
    for refund in refunds.values():
        if refund.currency != snapshot.currency:
            continue
        unallocated += refund.unallocated_minor
        owed += refund.owed_minor
        loose += goods_part(refund.gross_minor, snapshot) if refund.gross_minor else 0
        for line_id, amount in refund.lines:
            if line_id in place:
                back[place[line_id]] += amount
            elif line_id not in other:
                loose += amount
    # Taken back first and paid later, or the other way round: goods and money of one return must not count twice.
    loose += max(unallocated - owed, 0)
    back = [min(came, max(line.net_minor, 0)) for came, line in zip(back, goods, strict=True)]
    if loose:
        rest = [max(line.net_minor, 0) - came for came, line in zip(back, goods, strict=True)]
        shares = spread(min(loose, sum(rest)), rest)
        back = [came + share for came, share in zip(back, shares, strict=True)]
    return [NetLine(line, came) for came, line in zip(back, goods, strict=True)]


def cash_lines(snapshot: OrderSnapshot, lines: Sequence[NetLine]) -> list[NetLine]:
    """Lines of `net_lines` without what gift cards, points and store credit paid of them.

    Each goods line bears its share of the virtual part by its value as ordered (largest remainder), whatever came back
    since; of a line given back in part that share falls in proportion to what is left of it, rounded half away from zero.
    So all lines together, none given back, lose the virtual part or all goods, whichever is less, and no line goes below 0.
    """
    goods = [line for line in snapshot.lines if line.goods]
    worth = [max(line.net_minor, 0) for line in goods]
    shares = spread(min(max(snapshot.virtual_minor, 0), sum(worth)), worth)
    share_of = {line.id: share for line, share in zip(goods, shares, strict=True)}
    return [replace(each, virtual_minor=_still_virtual(share_of.get(each.line.id, 0), each)) for each in lines]


def _still_virtual(share_minor: int, of: NetLine) -> int:
    if not share_minor:
        return 0
    left_minor = of.line.net_minor - of.refunded_minor
    return round_half_away(Fraction(share_minor * left_minor, of.line.net_minor))
