"""What people decide about commissions: facts like any other, through the same inbox, from the source `desk`.

So a decision is kept for ever, takes the order's lock, merges with whatever the shop says, and survives a rebuild.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Missing
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


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides, and when by the merchant's clock."""

    merchant_id: UUID
    key_id: UUID
    now: datetime

    @property
    def name(self) -> str:
        return encode("key", self.key_id)


def approve(
    session: Session, person: Person, commission_id: UUID, *, amount_minor: int | None, reason_code: str
) -> Recorded:
    """Let up to an amount be settled; without one, what the commission comes to now. More than that waits."""
    commission = _commission(session, person, commission_id)
    limit = commission.target_minor if amount_minor is None else amount_minor
    return _verdict(session, person, commission, DecisionKind.APPROVE, reason_code, amount_minor=limit)


def reject(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    """Pay nothing, whatever the shop still says; a later approval takes it back."""
    commission = _commission(session, person, commission_id)
    return _verdict(session, person, commission, DecisionKind.REJECT, reason_code)


def hold(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    """Freeze the commission's whole order until somebody releases it."""
    commission = _commission(session, person, commission_id)
    fact = hold_fact(str(new_id()), HoldFact(person.now, reason_code), version_at=person.now)
    return _send(session, person, commission, "hold", [fact])


def release(session: Session, person: Person, commission_id: UUID, *, reason_code: str) -> Recorded:
    """End every hold that people put on the commission's order. Disputes stay: the shop closes those."""
    commission = _commission(session, person, commission_id)
    rows = fetch(
        session,
        """
        SELECT key, payload FROM fact
        WHERE merchant_id = :merchant_id AND order_id = :order_id AND kind = 'hold'
          AND payload ->> 'released_at' IS NULL
        """,
        {"merchant_id": person.merchant_id, "order_id": commission.order_id},
    )
    if not rows:
        raise NotHeld(f"Commission {encode('com', commission_id)} has no open hold to release.")
    facts = [
        hold_fact(row.key, replace(HoldFact.of_json(row.payload), released_at=person.now), version_at=person.now)
        for row in rows
    ]
    return _send(session, person, commission, f"release/{reason_code}", facts)


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
    return _send(session, person, rows[0], "attribute", [fact])


def _commission(session: Session, person: Person, commission_id: UUID) -> Any:
    rows = fetch(
        session,
        """
        SELECT orders.id AS order_id, orders.source_id, orders.external_id, target_minor, currency, payee_id
        FROM commission
        JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE commission.merchant_id = :merchant_id AND commission.id = :id
        """,
        {"merchant_id": person.merchant_id, "id": commission_id},
    )
    if not rows:
        raise UnknownCommission(f"There is no commission {encode('com', commission_id)} at this merchant.")
    return rows[0]


def _verdict(
    session: Session,
    person: Person,
    commission: Any,
    kind: DecisionKind,
    reason_code: str,
    *,
    amount_minor: int | None = None,
) -> Recorded:
    decision = DecisionFact(
        kind,
        person.now,
        person.name,
        reason_code,
        payee_id=commission.payee_id,
        currency=commission.currency,
        amount_minor=amount_minor,
    )
    return _send(session, person, commission, kind.value, [decision_fact(decision)])


def _send(session: Session, person: Person, about: Any, topic: str, facts: Sequence[Fact]) -> Recorded:
    desk = fetch(
        session,
        "SELECT id FROM source WHERE merchant_id = :merchant_id AND platform = 'desk'",
        {"merchant_id": person.merchant_id},
    )[0]
    told: JsonObject = {
        "order": {"source_id": str(about.source_id), "external_id": about.external_id},
        "facts": [_as_json(fact) for fact in facts],
    }
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    received = Received(
        person.merchant_id,
        desk.id,
        str(new_id()),
        topic,
        body,
        hashlib.sha256(body).digest(),
        order=(about.source_id, about.external_id),
        facts=tuple(facts),
        understood={"kind": "decision", "decision": topic, "order": about.external_id},
    )
    return record(session, [received])[0]


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
