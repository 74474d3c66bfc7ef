"""What people decide about commissions: facts like any other, through the same inbox, from the source `desk`.

So a decision is kept for ever, takes the order's lock, merges with whatever the shop says, and survives a rebuild.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Invalid, Missing, ServiceError
from service.domain.order import (
    ADJUSTS,
    DecisionFact,
    DecisionKind,
    Fact,
    HoldFact,
    JsonObject,
    decision_fact,
    hold_fact,
)
from service.domain.review import (
    ADJUST_REASONS,
    APPROVE_REASONS,
    HOLD_REASONS,
    REJECT_REASONS,
    RELEASE_REASONS,
    ReviewReason,
)
from service.infra.db import fetch
from service.infra.ids import encode, new_id
from service.intake.adapters.model import NotUnderstood
from service.intake.record import OrderName, Received, Recorded, record


class UnknownCommission(Missing):
    code = "unknown-commission"
    title = "There is no such commission"


class UnknownOrder(Missing):
    code = "unknown-order"
    title = "There is no such order"


class NotHeld(Conflict):
    code = "commission-not-held"
    title = "Nobody holds this commission"


class OfPeriod(Conflict):
    """A period's commission is only ever what its orders come to."""

    code = "commission-of-period"
    title = "This commission follows the orders of a period"


class DecidedTwice(Conflict):
    """One request says two things of one commission, or of what one payee earns on one order."""

    code = "decided-twice"
    title = "Two decisions of one request contradict each other"


class OrderNotHere(Conflict):
    """Only events about the order have come, such as a refund: what it is worth, and in which currency, is not known."""

    code = "order-not-here"
    title = "The order itself has not come yet"


class AdjustedOtherwise(Conflict):
    """An adjustment is never changed: another one sets it right, under another external_id."""

    code = "adjusted-otherwise"
    title = "The adjustment with this external_id says something else"


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides, and when by the merchant's clock."""

    merchant_id: UUID
    key_id: UUID
    now: datetime

    @property
    def name(self) -> str:
        return encode("key", self.key_id)


class Verb(StrEnum):
    """What people may say of a commission."""

    APPROVE = "approve"
    """Let up to an amount be settled. More than that waits."""
    REJECT = "reject"
    """Pay nothing, whatever the shop still says; a later approval takes it back."""
    HOLD = "hold"
    """Freeze the commission's whole order until somebody releases it."""
    RELEASE = "release"
    """End every hold that people put on the commission's order. Disputes stay: the shop closes those."""
    ADJUST = "adjust"
    """Add to the commission, or take from it; it stops at zero. A later rejection takes what was added."""


REASONS: Mapping[Verb, tuple[ReviewReason, ...]] = {
    Verb.APPROVE: APPROVE_REASONS,
    Verb.REJECT: REJECT_REASONS,
    Verb.HOLD: HOLD_REASONS,
    Verb.RELEASE: RELEASE_REASONS,
    Verb.ADJUST: ADJUST_REASONS,
}
"""The words that each may be given for."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says of one commission.

    amount_minor: the most that an approval lets be settled (None: what the commission comes to now), or what an
    adjustment adds, below zero to take. currency: of the amount, which must be the commission's; None: it is.
    note, evidence: in the person's words, and addresses of what it rests on.
    """

    commission_id: UUID
    verb: Verb
    reason_code: str
    amount_minor: int | None = None
    currency: str | None = None
    note: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a person adds to an affiliate's earnings, or takes from them.

    amount_minor: not zero; below zero only on an order. order_id: None makes a bonus, which stands alone. external_id:
    the merchant's own id of it, by which it is told again without effect; unique on its order, and among bonuses.
    """

    affiliate_id: UUID
    amount_minor: int
    currency: str
    reason_code: str
    order_id: UUID | None = None
    external_id: str | None = None
    note: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The commission that an adjustment went into. repeated: it was there already, and nothing changed."""

    commission_id: UUID
    adjustment_id: str
    repeated: bool


def decide(session: Session, person: Person, decisions: Sequence[Decision]) -> list[Recorded | ServiceError]:
    """Book what a person decided, in one batch. Returns for each, in order, how it was recorded or why it cannot be."""
    commissions = _commissions(session, person, [each.commission_id for each in decisions])
    releases = [each.commission_id for each in decisions if each.verb is Verb.RELEASE]
    holds = _open_holds(session, person, {commissions[each].order_id for each in releases if each in commissions})
    said: set[tuple[object, ...]] = set()
    received: dict[int, Received] = {}
    answers: dict[int, Recorded | ServiceError] = {}
    desk_id = _desk(session, person)
    for place, each in enumerate(decisions):
        try:
            commission = commissions.get(each.commission_id)
            if commission is None:
                told = encode("com", each.commission_id)
                raise UnknownCommission(f"There is no commission {told} at this merchant.")
            if commission.order_id is None:
                raise OfPeriod("Decide about the orders of the period; this follows what they do.")
            if not said.isdisjoint(about := _about(each, commission)):
                raise DecidedTwice("Say one thing of a commission at a time, and of one payee's share in an order.")
            topic, facts = _facts(person, each, commission, holds.get(commission.order_id, ()))
            said |= about
            received[place] = _received(person, desk_id, commission, topic, facts)
        except ServiceError as refusal:
            answers[place] = refusal
    answers |= zip(received, record(session, list(received.values())) if received else (), strict=True)
    return [answers[place] for place in range(len(decisions))]


def attribute(
    session: Session,
    person: Person,
    order_id: UUID,
    *,
    affiliate_id: UUID | None,
    reason_code: str,
    note: str = "",
    evidence: tuple[str, ...] = (),
) -> Recorded:
    """Say who brought an order, or that nobody did; wins over every touch it carries."""
    rows = fetch(
        session,
        """
        SELECT orders.id AS order_id, orders.source_id, orders.external_id, 0 AS target_minor, '' AS currency,
               CAST(:affiliate_id AS uuid) AS payee_id
        FROM orders
        WHERE merchant_id = :merchant_id AND id = :order_id
          AND (CAST(:affiliate_id AS uuid) IS NULL
               OR EXISTS (SELECT FROM affiliate WHERE merchant_id = :merchant_id AND id = :affiliate_id))
        """,
        {"merchant_id": person.merchant_id, "order_id": order_id, "affiliate_id": affiliate_id},
    )
    if not rows:
        raise UnknownOrder(f"There is no order {encode('ord', order_id)}, or no such affiliate, at this merchant.")
    fact = decision_fact(
        DecisionFact(
            DecisionKind.ATTRIBUTE,
            person.now,
            person.name,
            reason_code,
            payee_id=affiliate_id,
            note=note,
            evidence=evidence,
        )
    )
    return record(session, [_received(person, _desk(session, person), rows[0], "attribute", [fact])])[0]


def adjust(session: Session, person: Person, asked: Adjustment) -> Adjusted:
    """Add to what an affiliate earns on an order, or give a bonus. Told again under its external_id it changes nothing.

    Raises Missing, UnknownOrder, OrderNotHere, AdjustedOtherwise; Invalid where a bonus would take money.
    """
    if asked.order_id is None and asked.amount_minor <= 0:
        raise Invalid("Without an order there is nothing to take from: name the order_id.")
    known = {"merchant_id": person.merchant_id, "affiliate_id": asked.affiliate_id}
    if not fetch(session, "SELECT FROM affiliate WHERE merchant_id = :merchant_id AND id = :affiliate_id", known):
        raise Missing("There is no such affiliate at this merchant.")
    desk_id = _desk(session, person)
    adjustment_id = encode("adj", _adjustment_id(person, asked))
    if asked.order_id is not None:
        order = _locked_order(session, person, asked.order_id)
    elif asked.external_id is not None:
        order = _locked_bonus(session, person, desk_id, adjustment_id)
    else:
        order = None
    decision = DecisionFact(
        DecisionKind.ADJUST,
        person.now,
        person.name,
        asked.reason_code,
        payee_id=asked.affiliate_id,
        currency=asked.currency,
        amount_minor=asked.amount_minor,
        id=adjustment_id,
        note=asked.note,
        evidence=asked.evidence,
    )
    fact = decision_fact(decision)
    if order is not None and asked.external_id is not None:
        before = _told_before(session, person, order.order_id, fact.key)
        if before is not None:
            if (before.payee_id, before.currency, before.amount_minor) != (
                decision.payee_id,
                decision.currency,
                decision.amount_minor,
            ):
                raise AdjustedOtherwise("It is of another affiliate or another amount; it was not changed.")
            return Adjusted(_commission_of(session, person, order.order_id, asked), adjustment_id, repeated=True)
    name = (desk_id, adjustment_id) if order is None else (order.source_id, order.external_id)
    [recorded] = record(session, [_told(person, desk_id, name, "adjust", [fact])])
    assert recorded.order_id is not None
    return Adjusted(_commission_of(session, person, recorded.order_id, asked), adjustment_id, repeated=False)


def _adjustment_id(person: Person, asked: Adjustment) -> UUID:
    """A new id, or of an adjustment with a name of the merchant's own always the same."""
    if asked.external_id is None:
        return new_id()
    named = json.dumps([str(person.merchant_id), str(asked.order_id), asked.external_id])
    return UUID(bytes=hashlib.sha256(named.encode()).digest()[:16])


def _locked_order(session: Session, person: Person, order_id: UUID) -> Any:
    """An order that may be adjusted, locked: two that tell one adjustment at a time come one after the other."""
    rows = fetch(
        session,
        """
        SELECT orders.id AS order_id, source_id, external_id,
               EXISTS (SELECT FROM fact
                       WHERE fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id
                         AND (fact.kind = 'order'
                              OR (fact.kind = 'decision' AND starts_with(fact.key, CAST(:adjusts AS text)))))
                   AS is_here
        FROM orders WHERE merchant_id = :merchant_id AND id = :order_id
        FOR UPDATE OF orders
        """,
        {"merchant_id": person.merchant_id, "order_id": order_id, "adjusts": ADJUSTS},
    )
    if not rows:
        raise UnknownOrder(f"There is no order {encode('ord', order_id)} at this merchant.")
    if not rows[0].is_here:
        raise OrderNotHere("Only events about it have come. Wait for the order, or give a bonus without one.")
    return rows[0]


def _locked_bonus(session: Session, person: Person, desk_id: UUID, adjustment_id: str) -> Any:
    """The row that stands for the order of a named bonus, made now if it is not there, and locked."""
    [row] = fetch(
        session,
        """
        INSERT INTO orders AS known (merchant_id, source_id, external_id, id, seen, created_at)
        VALUES (:merchant_id, :source_id, :external_id, :id, 0, :now)
        ON CONFLICT (merchant_id, source_id, external_id) DO UPDATE SET seen = known.seen
        RETURNING id AS order_id, source_id, external_id
        """,
        {
            "merchant_id": person.merchant_id,
            "source_id": desk_id,
            "external_id": adjustment_id,
            "id": new_id(),
            "now": person.now,
        },
    )
    return row


def _told_before(session: Session, person: Person, order_id: UUID, key: str) -> DecisionFact | None:
    rows = fetch(
        session,
        """
        SELECT payload FROM fact
        WHERE merchant_id = :merchant_id AND order_id = :order_id AND kind = 'decision' AND key = :key
        """,
        {"merchant_id": person.merchant_id, "order_id": order_id, "key": key},
    )
    return DecisionFact.of_json(rows[0].payload) if rows else None


def _commission_of(session: Session, person: Person, order_id: UUID, asked: Adjustment) -> UUID:
    [row] = fetch(
        session,
        """
        SELECT id FROM commission
        WHERE merchant_id = :merchant_id AND order_id = :order_id AND payee_id = :payee_id AND currency = :currency
        """,
        {
            "merchant_id": person.merchant_id,
            "order_id": order_id,
            "payee_id": asked.affiliate_id,
            "currency": asked.currency,
        },
    )
    found: UUID = row.id
    return found


def decide_one(session: Session, person: Person, decision: Decision) -> Recorded:
    """Book what a person decided of one commission. Raises what `decide` returns."""
    [answer] = decide(session, person, [decision])
    if isinstance(answer, ServiceError):
        raise answer
    return answer


def _desk(session: Session, person: Person) -> UUID:
    """The source that people's decisions come from."""
    [desk] = fetch(
        session,
        "SELECT id FROM source WHERE merchant_id = :merchant_id AND platform = 'desk'",
        {"merchant_id": person.merchant_id},
    )
    found: UUID = desk.id
    return found


def _commissions(session: Session, person: Person, commission_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """Commissions by id, each with its order; those that are not there are left out."""
    rows = fetch(
        session,
        """
        SELECT commission.id, orders.id AS order_id, orders.source_id, orders.external_id, target_minor, currency,
               payee_id
        FROM commission
        LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE commission.merchant_id = :merchant_id AND commission.id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": person.merchant_id, "ids": list(commission_ids)},
    )
    return {row.id: row for row in rows}


def _open_holds(session: Session, person: Person, order_ids: Iterable[UUID]) -> dict[UUID, list[Any]]:
    """Holds that people put on orders and nobody released, by order."""
    wanted = list(order_ids)
    if not wanted:
        return {}
    holds: dict[UUID, list[Any]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT order_id, key, payload FROM fact
        WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[])) AND kind = 'hold'
          AND payload ->> 'released_at' IS NULL
        """,
        {"merchant_id": person.merchant_id, "order_ids": wanted},
    ):
        holds[row.order_id].append(row)
    return holds


def _about(decision: Decision, commission: Any) -> set[tuple[object, ...]]:
    """What a decision speaks of. Two of one moment that speak of the same contradict each other."""
    about: set[tuple[object, ...]] = {(decision.commission_id,)}
    if decision.verb in {Verb.APPROVE, Verb.REJECT}:
        # A verdict holds for all a payee earns on an order, in whatever currency.
        about.add((commission.order_id, commission.payee_id))
    return about


def _facts(person: Person, decision: Decision, commission: Any, holds: Sequence[Any]) -> tuple[str, list[Fact]]:
    """The topic and the facts of a decision. holds: on the commission's order. Raises Invalid, NotHeld."""
    match decision.verb:
        case Verb.APPROVE:
            if decision.currency not in {None, commission.currency}:
                raise Invalid(f"This commission is in {commission.currency}; approve an amount in that currency.")
            given = decision.amount_minor
            limit = commission.target_minor if given is None else given
            return _verdict(person, decision, commission, DecisionKind.APPROVE, amount_minor=limit)
        case Verb.REJECT:
            return _verdict(person, decision, commission, DecisionKind.REJECT)
        case Verb.ADJUST:
            if decision.currency not in {None, commission.currency}:
                raise Invalid(f"This commission is in {commission.currency}; adjust it by an amount in that currency.")
            if not decision.amount_minor:
                raise Invalid("An adjustment needs an amount that is not zero.")
            adjustment_id = encode("adj", new_id())
            return _verdict(
                person,
                decision,
                commission,
                DecisionKind.ADJUST,
                amount_minor=decision.amount_minor,
                adjustment_id=adjustment_id,
            )
        case Verb.HOLD:
            body = HoldFact(person.now, decision.reason_code, note=decision.note, evidence=decision.evidence)
            return "hold", [hold_fact(str(new_id()), body, version_at=person.now)]
        case Verb.RELEASE:
            if not holds:
                raise NotHeld(f"Commission {encode('com', decision.commission_id)} has no open hold to release.")
            return f"release/{decision.reason_code}", [
                hold_fact(row.key, _released(person, decision, HoldFact.of_json(row.payload)), version_at=person.now)
                for row in holds
            ]
        case _:
            assert_never(decision.verb)


def _released(person: Person, decision: Decision, hold: HoldFact) -> HoldFact:
    return replace(
        hold, released_at=person.now, release_note=decision.note, evidence=(*hold.evidence, *decision.evidence)
    )


def _verdict(
    person: Person,
    decision: Decision,
    commission: Any,
    kind: DecisionKind,
    *,
    amount_minor: int | None = None,
    adjustment_id: str = "",
) -> tuple[str, list[Fact]]:
    fact = DecisionFact(
        kind,
        person.now,
        person.name,
        decision.reason_code,
        payee_id=commission.payee_id,
        currency=commission.currency,
        amount_minor=amount_minor,
        id=adjustment_id,
        note=decision.note,
        evidence=decision.evidence,
    )
    return kind.value, [decision_fact(fact)]


def _received(person: Person, desk_id: UUID, about: Any, topic: str, facts: Sequence[Fact]) -> Received:
    return _told(person, desk_id, (about.source_id, about.external_id), topic, facts)


def _told(person: Person, desk_id: UUID, order: OrderName, topic: str, facts: Sequence[Fact]) -> Received:
    source_id, external_id = order
    told: JsonObject = {
        "order": {"source_id": str(source_id), "external_id": external_id},
        "facts": [_as_json(fact) for fact in facts],
    }
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Received(
        person.merchant_id,
        desk_id,
        str(new_id()),
        topic,
        body,
        hashlib.sha256(body).digest(),
        order=order,
        facts=tuple(facts),
        understood={"kind": "decision", "decision": topic, "order": external_id},
    )


def read_again(body: bytes) -> tuple[OrderName, tuple[Fact, ...]]:
    """The order and the facts that a kept decision told. Raises NotUnderstood when the body is not one of ours."""
    try:
        told = json.loads(body)
        order = (UUID(told["order"]["source_id"]), told["order"]["external_id"])
        return order, tuple(_of_json(each) for each in told["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise NotUnderstood("not_a_decision", f"{type(error).__name__}: {error}") from None


def _of_json(told: JsonObject) -> Fact:
    key, version_at = told["key"], datetime.fromisoformat(told["version_at"])
    known = Fact.stored(
        kind=told["kind"],
        key=key,
        version_at=version_at,
        version_amount=told["version_amount"],
        payload=told["body"],
        body_hash=b"",
        conflicting=False,
    )
    # Made as it was made at first, so that its text and hash are its own.
    return Fact.of(known.kind, known.body, key=key, version_at=version_at, version_amount=known.version_amount)


def _as_json(fact: Fact) -> JsonObject:
    return {
        "kind": fact.kind.value,
        "key": fact.key,
        "version_at": fact.version_at.isoformat(),
        "version_amount": fact.version_amount,
        "body": fact.body.as_json(),
    }
