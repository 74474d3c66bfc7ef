"""What people decide about commissions: facts like any other, through the same inbox, from the source `desk`.

So a decision is kept for ever, takes the order's lock, merges with whatever the shop says, and survives a rebuild.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Invalid, Missing, ServiceError
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    Fact,
    HoldFact,
    JsonObject,
    decision_fact,
    hold_fact,
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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says of one commission.

    amount_minor: the most that an approval lets be settled; None: what the commission comes to now. currency: of the
    amount, which must be the commission's; None: it is.
    """

    commission_id: UUID
    verb: Verb
    reason_code: str
    amount_minor: int | None = None
    currency: str | None = None


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


def approve(
    session: Session, person: Person, commission_id: UUID, *, amount_minor: int | None, reason_code: str
) -> Recorded:
    """Decide about one commission; so do the next three. Raises what `decide` returns."""
    return _one(session, person, Decision(commission_id, Verb.APPROVE, reason_code, amount_minor))


def reject(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    return _one(session, person, Decision(commission_id, Verb.REJECT, reason_code))


def hold(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    return _one(session, person, Decision(commission_id, Verb.HOLD, reason_code))


def release(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    return _one(session, person, Decision(commission_id, Verb.RELEASE, reason_code))


def attribute(
    session: Session, person: Person, order_id: UUID, *, affiliate_id: UUID | None, reason_code: str
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
        DecisionFact(DecisionKind.ATTRIBUTE, person.now, person.name, reason_code, payee_id=affiliate_id)
    )
    return record(session, [_received(person, _desk(session, person), rows[0], "attribute", [fact])])[0]


def _one(session: Session, person: Person, decision: Decision) -> Recorded:
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
            return _verdict(person, commission, DecisionKind.APPROVE, decision.reason_code, amount_minor=limit)
        case Verb.REJECT:
            return _verdict(person, commission, DecisionKind.REJECT, decision.reason_code)
        case Verb.HOLD:
            body = HoldFact(person.now, decision.reason_code)
            return "hold", [hold_fact(str(new_id()), body, version_at=person.now)]
        case Verb.RELEASE:
            if not holds:
                raise NotHeld(f"Commission {encode('com', decision.commission_id)} has no open hold to release.")
            return f"release/{decision.reason_code}", [
                hold_fact(
                    row.key, replace(HoldFact.of_json(row.payload), released_at=person.now), version_at=person.now
                )
                for row in holds
            ]
        case _:
            assert_never(decision.verb)


def _verdict(
    person: Person, commission: Any, kind: DecisionKind, reason_code: str, *, amount_minor: int | None = None
) -> tuple[str, list[Fact]]:
    decision = DecisionFact(
        kind,
        person.now,
        person.name,
        reason_code,
        payee_id=commission.payee_id,
        currency=commission.currency,
        amount_minor=amount_minor,
    )
    return kind.value, [decision_fact(decision)]


def _received(person: Person, desk_id: UUID, about: Any, topic: str, facts: Sequence[Fact]) -> Received:
    told: JsonObject = {
        "order": {"source_id": str(about.source_id), "external_id": about.external_id},
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
        order=(about.source_id, about.external_id),
        facts=tuple(facts),
        understood={"kind": "decision", "decision": topic, "order": about.external_id},
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
