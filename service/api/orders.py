"""Orders as understood: what came in, who brought them, and everything that followed, in order of time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import Row
from sqlmodel import Session

from service.api import trail
from service.api.deps import Admin, Reader, ReaderOrAffiliate, ReadSession, WriteSession
from service.api.filters import Created
from service.api.language import AskedLanguage
from service.api.paging import Page, Paging, page
from service.api.reasons import Because, one_of_reasons
from service.api.traceable import check_koc, kinds_of
from service.api.views import (
    WRITTEN_FLAG,
    AffiliateId,
    LinkId,
    Moment,
    MoneyView,
    OrderId,
    ProgramId,
    SourceId,
    Text,
    View,
)
from service.commissions.assess import load_intervals
from service.domain.attribution import Reason
from service.domain.commission import EntryKind, Place
from service.domain.errors import Conflict
from service.domain.money import Money
from service.domain.order import DecisionKind, FactKind, TouchKind
from service.domain.payout import Interval, holder
from service.domain.review import ATTRIBUTE_REASONS
from service.domain.settlement import FrozenReason
from service.domain.wording import reasons
from service.domain.wording.figures import Names, Speech
from service.infra import ids
from service.infra.db import fetch
from service.intake import desk
from service.intake.desk import Person, UnknownOrder
from service.tables.orders import InboxState

router = APIRouter(tags=["orders"])

TIMELINE_MAX = 1000
"""Most entries of one kind in a timeline, the newest ones."""

_CLOCKS_APART = timedelta(days=2)


class OrderAmbiguous(Conflict):
    """Two sources of the merchant use the same order id."""

    code = "order-ambiguous"
    title = "Several sources have an order with this id"


class OrderStatus(StrEnum):
    """The first of these that is true."""

    WAITING = "waiting"
    """Only events about it have come, not the order itself."""
    BONUS = "bonus"
    """No order at all: it stands for a bonus. Lists have it only where this status is asked for."""
    CANCELLED = "cancelled"
    FROZEN = "frozen"
    """Nothing moves: frozen_reason says why."""
    ATTRIBUTED = "attributed"
    UNATTRIBUTED = "unattributed"


_IS_BONUS = "orders.source_id IN (SELECT id FROM source WHERE source.merchant_id = :merchant_id AND platform = 'desk')"
_STATUS = f"""
CASE WHEN {_IS_BONUS} THEN 'bonus'
     WHEN assessment.placed_at IS NULL THEN 'waiting' WHEN assessment.cancelled THEN 'cancelled'
     WHEN assessment.frozen_reason IS NOT NULL THEN 'frozen' WHEN assessment.affiliate_id IS NULL THEN 'unattributed'
     ELSE 'attributed' END
"""


class OrderView(View):
    id: OrderId
    source_id: SourceId
    external_id: str
    """The shop's own id of the order."""
    number: str
    """As the shop shows it to its customer; may be empty."""
    status: OrderStatus
    placed_at: Moment | None
    """Null while only events about the order have come."""
    goods: MoneyView | None
    """Goods as ordered, after discounts, without tax and shipping."""
    net: MoneyView | None
    """Goods after refunds too."""
    affiliate_id: AffiliateId | None
    """Who brought it."""
    program_id: ProgramId | None
    attribution_reason: Reason | None
    frozen_reason: FrozenReason | None
    assessed_at: Moment | None
    created_at: Moment
    """When the first event about it came."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        def money(amount_minor: int | None) -> MoneyView | None:
            return None if amount_minor is None else MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            id=row.id,
            source_id=row.source_id,
            external_id=row.external_id,
            number=row.number or "",
            status=OrderStatus(row.status),
            placed_at=row.placed_at,
            goods=money(row.goods_minor),
            net=money(row.net_minor),
            affiliate_id=row.affiliate_id,
            program_id=row.program_id,
            attribution_reason=Reason(row.attribution_reason) if row.attribution_reason else None,
            frozen_reason=FrozenReason(row.frozen_reason) if row.frozen_reason else None,
            assessed_at=row.assessed_at,
            created_at=row.created_at,
        )


class CandidateView(View):
    """One touch the order carried, whom it speaks for, and how it fared."""

    kind: TouchKind
    ref: str
    """The click id, or the coupon code without case."""
    at: Moment | None
    link_id: LinkId | None
    affiliate_id: AffiliateId | None
    program_id: ProgramId | None
    chosen: bool
    weight: str | None = Field(examples=["1/3"])
    """What part of the order it has, as a fraction, where it is chosen: "1" where nobody shares it; of a bound product, its
    own lines. Null where it is not chosen."""
    reason_code: Reason
    holds_from: Moment | None
    """Where the affiliate's approval or enrolment, the programme's terms or the coupon's owner is what it lacked, and begins
    only after the order was placed: when. Null otherwise."""
    words: str
    """Why it won or lost, in the language asked for."""


class AttributionView(View):
    """Who brought an order and why, with every touch it carried."""

    order_id: OrderId
    affiliate_id: AffiliateId | None
    """Who brought it; where several share it, who has the largest part; null: nobody. An affiliate's key sees itself where it
    has a part."""
    program_id: ProgramId | None
    program_version: int | None
    """The version of the programme's terms that counts for the commission; null where there is none."""
    reason_code: Reason
    words: str
    """The outcome in the language asked for; an affiliate is told whether the order counts for it, and never for whom else."""
    candidates: list[CandidateView]
    """In the order the shop listed them, then bound customers and products. An affiliate's key sees its own alone."""


class TimelineKind(StrEnum):
    DELIVERY = "delivery"
    FACT = "fact"
    ENTRY = "entry"
    PAYOUT = "payout"


class TimelineEntry(View):
    at: Moment
    kind: TimelineKind
    text: str
    """What happened, for people."""
    data: dict[str, Any]
    """The same for machines, with the ids of what is named."""


class TimelineView(View):
    order_id: OrderId
    entries: list[TimelineEntry]
    """Oldest first."""
    complete: bool
    """False: more than a thousand of one kind, of which the oldest are left out."""


_ORDER = f"""
SELECT orders.id, orders.source_id, orders.external_id, orders.created_at, assessment.number, assessment.placed_at,
       assessment.currency, assessment.goods_minor, assessment.net_minor, assessment.affiliate_id,
       assessment.program_id, assessment.attribution_reason, assessment.frozen_reason, assessment.assessed_at,
       assessment.candidates, {_STATUS} AS status
FROM orders
LEFT JOIN assessment ON assessment.merchant_id = orders.merchant_id AND assessment.order_id = orders.id
"""  # noqa: S608 - put together from our own constants


@router.get("/v1/orders")
def list_orders(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Orders this affiliate brought.")] = None,
    program_id: Annotated[ProgramId | None, Query(description="Orders that count by this programme.")] = None,
    source_id: Annotated[SourceId | None, Query(description="Orders of this source.")] = None,
    external_id: Annotated[Text | None, Query(description="Orders with this id at their shop.")] = None,
    status: Annotated[OrderStatus | None, Query(description="Orders that stand so.")] = None,
    waiting: Annotated[
        Annotated[bool, WRITTEN_FLAG] | None, Query(description="True: only orders that have not come themselves.")
    ] = None,
    placed_from: Annotated[Moment | None, Query(description="Orders placed then or later.")] = None,
    placed_before: Annotated[Moment | None, Query(description="Orders placed before then.")] = None,
) -> Page[OrderView]:
    """List orders, those that came last first."""
    asked: dict[str, tuple[str, object]] = {
        "affiliate_id": ("assessment.affiliate_id = :affiliate_id", affiliate_id),
        "program_id": ("assessment.program_id = :program_id", program_id),
        "source_id": ("orders.source_id = :source_id", source_id),
        "external_id": ("orders.external_id = :external_id", external_id),
        "status": (f"{_STATUS} = :status", status),
        "waiting": ("(assessment.placed_at IS NULL) = :waiting", waiting),
        "placed_from": ("assessment.placed_at >= :placed_from", placed_from),
        "placed_before": ("assessment.placed_at < :placed_before", placed_before),
        "after": ("orders.id < :after", paging.after_id()),
    }
    asked |= {name: (condition, value) for name, condition, value in created.conditions("orders.created_at")}
    given = {name: each for name, each in asked.items() if each[1] is not None}
    conditions = ["orders.merchant_id = :merchant_id", *(condition for condition, _ in given.values())]
    if status is not OrderStatus.BONUS:
        conditions.append(f"NOT {_IS_BONUS}")
    rows = fetch(
        session,
        f"""
        {_ORDER}
        WHERE {" AND ".join(conditions)}
        ORDER BY orders.id DESC
        LIMIT :limit
        """,
        {
            "merchant_id": caller.merchant_id,
            "limit": paging.limit + 1,
            **{name: value for name, (_, value) in given.items()},
        },
    )
    return page(rows, paging, key=lambda row: (row.id,), view=OrderView.of)


@router.get("/v1/orders/by-external-id/{external_id:path}")
def get_order_by_external_id(
    external_id: Text,
    caller: Reader,
    session: ReadSession,
    source_id: Annotated[SourceId | None, Query(description="Needed where two sources use the same ids.")] = None,
) -> OrderView:
    """Return the order that has this id at its shop."""
    rows = fetch(
        session,
        f"""
        {_ORDER}
        WHERE orders.merchant_id = :merchant_id AND orders.external_id = :external_id
          AND orders.source_id IN (SELECT id FROM source WHERE source.merchant_id = :merchant_id)
          AND (CAST(:source_id AS uuid) IS NULL OR orders.source_id = :source_id)
        LIMIT 2
        """,  # noqa: S608 - put together from our own constants
        {"merchant_id": caller.merchant_id, "external_id": external_id, "source_id": source_id},
    )
    if not rows:
        raise UnknownOrder("No order of this merchant has this id at its shop.")
    if len(rows) > 1:
        raise OrderAmbiguous("Several sources have an order with this id; name the source_id.")
    return OrderView.of(rows[0])


@router.get("/v1/orders/{order_id}")
def get_order(order_id: OrderId, caller: Reader, session: ReadSession) -> OrderView:
    """Return one order."""
    return OrderView.of(_order(session, caller.merchant_id, order_id))


@router.get("/v1/orders/{order_id}/attribution")
def get_order_attribution(
    order_id: OrderId, caller: ReaderOrAffiliate, session: ReadSession, language: AskedLanguage
) -> AttributionView:
    """Explain who brought an order: every touch it carried and why each won or lost. An affiliate sees its own touches."""
    row = _order(session, caller.merchant_id, order_id)
    speech = Speech(language, Names(caller.merchant.time_zone))
    candidates = candidate_views(session, caller.merchant_id, row.candidates or [], row.placed_at, speech)
    sharing = {each.affiliate_id for each in candidates if each.chosen}
    winner, program_id = row.affiliate_id, row.program_id
    if caller.affiliate_id is not None:
        candidates = [each for each in candidates if each.affiliate_id == caller.affiliate_id]
        if not candidates and winner != caller.affiliate_id:
            raise _missing(order_id)
        if winner != caller.affiliate_id:
            own = next((each for each in candidates if each.chosen), None)
            winner, program_id = (None, None) if own is None else (own.affiliate_id, own.program_id)
    versions = fetch(
        session,
        """
        SELECT program_version FROM commission
        WHERE merchant_id = :merchant_id AND order_id = :order_id AND payee_id = :payee_id AND currency = :currency
        """,
        {
            "merchant_id": caller.merchant_id,
            "order_id": order_id,
            "payee_id": winner,
            "currency": row.currency,
        },
    )
    reason = Reason(row.attribution_reason or Reason.NO_TOUCH)
    is_mine = None if caller.affiliate_id is None else winner is not None
    return AttributionView(
        order_id=order_id,
        affiliate_id=winner,
        program_id=program_id,
        program_version=versions[0].program_version if versions else None,
        reason_code=reason,
        words=reasons.outcome(reason, speech, is_mine=is_mine, is_shared=len(sharing) > 1),
        candidates=candidates,
    )


class AttributionDecision(Because):
    affiliate_id: AffiliateId | None
    """Who brought the order; null: nobody did."""
    reason_code: one_of_reasons(ATTRIBUTE_REASONS)  # type: ignore[valid-type] # made of our list


@router.post("/v1/orders/{order_id}/attribution")
def decide_order_attribution(
    order_id: OrderId,
    asked: AttributionDecision,
    caller: Admin,
    session: WriteSession,
    language: AskedLanguage,
) -> AttributionView:
    """Say who brought an order, whatever touches it carries. The terms stay those of the time it was placed."""
    person = Person(caller.merchant_id, caller.key_id, caller.now)
    before = get_order_attribution(order_id, caller, session, language)
    if asked.affiliate_id is not None:
        for kind in kinds_of(session, caller.merchant_id, [asked.affiliate_id]).values():
            check_koc(kind)
    desk.attribute(
        session,
        person,
        order_id,
        affiliate_id=asked.affiliate_id,
        reason_code=asked.reason_code,
        note=asked.note,
        evidence=tuple(asked.evidence),
    )
    after = get_order_attribution(order_id, caller, session, language)
    shown = {"affiliate_id", "program_id", "program_version", "reason_code"}
    trail.note(
        session,
        merchant_id=caller.merchant_id,
        kind="orders",
        subject=ids.encode("ord", order_id),
        before=before.model_dump(mode="json", include=shown),
        after={
            **after.model_dump(mode="json", include=shown),
            "decided": asked.model_dump(mode="json", include={"affiliate_id", "reason_code"}),
        },
    )
    return after


@router.get("/v1/orders/{order_id}/timeline")
def get_order_timeline(order_id: OrderId, caller: Reader, session: ReadSession) -> TimelineView:
    """Tell all that happened to an order: deliveries, the facts that count, every amount moved, and its payouts."""
    row = _order(session, caller.merchant_id, order_id)
    scope = {"merchant_id": caller.merchant_id, "order_id": order_id, "limit": TIMELINE_MAX + 1}
    deliveries = _deliveries(session, row, scope)
    facts = _facts(session, scope)
    entries = _entries(session, scope)
    payouts = _payouts(session, caller.merchant_id, entries)
    kinds: Sequence[Sequence[Happened]] = (
        [_told_delivery(each) for each in deliveries],
        [_told_fact(each) for each in facts],
        [_told_entry(each) for each in entries],
        payouts,
    )
    # At one instant cause stands before effect: the delivery, its facts, the amounts they moved, the payout.
    happened = sorted(
        (each.at, rank, number, each)
        for rank, those in enumerate(kinds)
        for number, each in enumerate(those[-TIMELINE_MAX:])
    )
    return TimelineView(
        order_id=order_id,
        entries=[
            TimelineEntry(at=each.at, kind=each.kind, text=each.text, data=dict(each.data)) for *_, each in happened
        ],
        complete=all(len(those) <= TIMELINE_MAX for those in kinds),
    )


def _order(session: Session, merchant_id: UUID, order_id: UUID) -> Row[Any]:
    rows = fetch(
        session,
        f"{_ORDER} WHERE orders.merchant_id = :merchant_id AND orders.id = :order_id",
        {"merchant_id": merchant_id, "order_id": order_id},
    )
    if not rows:
        raise _missing(order_id)
    return rows[0]


def _missing(order_id: UUID) -> UnknownOrder:
    return UnknownOrder(f"There is no order {ids.encode('ord', order_id)} here.")


def candidate_views(
    session: Session,
    merchant_id: UUID,
    stored: Sequence[Mapping[str, Any]],
    placed_at: datetime | None,
    speech: Speech,
) -> list[CandidateView]:
    """Candidates as stored with an assessment, each with the later start that would have let it win."""
    starts = _later_starts(session, merchant_id, stored, placed_at)
    return [_candidate(each, holds_from, speech) for each, holds_from in zip(stored, starts, strict=True)]


def _later_starts(
    session: Session, merchant_id: UUID, candidates: Sequence[Mapping[str, Any]], placed_at: datetime | None
) -> list[datetime | None]:
    """For each candidate from when on, after the order, what it lacked holds; None where that is not why it lost."""
    if not candidates:
        return []
    rows = fetch(
        session,
        """
        SELECT CASE asked.reason_code
            WHEN 'affiliate_not_approved' THEN (
                SELECT min(valid_from) FROM affiliate_approval AS later
                WHERE later.merchant_id = :merchant_id AND later.affiliate_id = asked.affiliate_id
                  AND later.approved AND later.valid_from > :placed_at)
            WHEN 'affiliate_not_enrolled' THEN (
                SELECT min(valid_from) FROM enrollment AS later
                WHERE later.merchant_id = :merchant_id AND later.affiliate_id = asked.affiliate_id
                  AND later.program_id = asked.program_id AND later.enrolled AND later.valid_from > :placed_at)
            WHEN 'no_terms_in_force' THEN (
                SELECT min(valid_from) FROM program_version AS later
                WHERE later.merchant_id = :merchant_id AND later.program_id = asked.program_id
                  AND later.valid_from > :placed_at)
            WHEN 'no_owner' THEN (
                SELECT min(valid_from) FROM coupon JOIN coupon_owner AS later
                  ON later.merchant_id = coupon.merchant_id AND later.coupon_id = coupon.id
                WHERE coupon.merchant_id = :merchant_id AND coupon.folded = asked.ref AND asked.kind = 'coupon'
                  AND later.valid_from > :placed_at)
            END AS holds_from
        FROM unnest(CAST(:reasons AS text[]), CAST(:kinds AS text[]), CAST(:refs AS text[]),
                    CAST(:affiliate_ids AS uuid[]), CAST(:program_ids AS uuid[]))
             WITH ORDINALITY AS asked (reason_code, kind, ref, affiliate_id, program_id, place)
        ORDER BY asked.place
        """,
        {
            "merchant_id": merchant_id,
            "placed_at": placed_at,
            "reasons": [each["reason_code"] for each in candidates],
            "kinds": [each["kind"] for each in candidates],
            "refs": [each["ref"] for each in candidates],
            "affiliate_ids": [each["affiliate_id"] for each in candidates],
            "program_ids": [each["program_id"] for each in candidates],
        },
    )
    return [row.holds_from for row in rows]


def _candidate(stored: Mapping[str, Any], holds_from: datetime | None, speech: Speech) -> CandidateView:
    def named(name: str) -> UUID | None:
        return UUID(stored[name]) if stored[name] else None

    reason, weight = Reason(stored["reason_code"]), stored.get("weight", "1")
    return CandidateView(
        kind=TouchKind(stored["kind"]),
        ref=stored["ref"],
        at=datetime.fromisoformat(stored["at"]) if stored["at"] else None,
        link_id=named("link_id"),
        affiliate_id=named("affiliate_id"),
        program_id=named("program_id"),
        chosen=reason is Reason.WON,
        weight=weight if reason is Reason.WON else None,
        reason_code=reason,
        holds_from=holds_from,
        words=reasons.candidate(reason, speech, holds_from=holds_from, weight=Fraction(weight)),
    )


@dataclass(frozen=True, slots=True, order=True)
class Happened:
    """One line of a timeline."""

    at: datetime
    kind: TimelineKind
    text: str
    data: Mapping[str, Any]


def _deliveries(session: Session, order: Row[Any], scope: Mapping[str, object]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT * FROM (
            SELECT inbox.id, inbox.source_id, source.name AS source_name, source.platform, topic, delivery_id, state,
                   answered, reason_code, received_at, understood
            FROM inbox JOIN source ON source.id = inbox.source_id
            WHERE inbox.merchant_id = :merchant_id AND order_source_id = :source_id
              AND order_external_id = :external_id
            ORDER BY inbox.received_at DESC, inbox.id DESC LIMIT :limit
        ) AS newest ORDER BY received_at, id
        """,
        {**scope, "source_id": order.source_id, "external_id": order.external_id},
    )


def _told_delivery(row: Row[Any]) -> Happened:
    state = {
        InboxState.APPLIED: "understood and applied",
        InboxState.WAITING: "understood; its order has not come yet",
        InboxState.PARKED: "kept, but not understood",
        InboxState.IGNORED: "understood, and without effect",
    }[InboxState(row.state)]
    if row.state == InboxState.APPLIED and row.answered == InboxState.WAITING:
        state = "understood; waited until its order came, and applied"
    what = f"a {row.topic} delivery" if row.topic else "a delivery"
    reason = f" ({row.reason_code})" if row.reason_code else ""
    return Happened(
        row.received_at,
        TimelineKind.DELIVERY,
        f"{row.source_name} sent {what}: {state}{reason}.",
        {
            "inbox_id": ids.encode("inb", row.id),
            "source_id": ids.encode("src", row.source_id),
            "delivery_id": row.delivery_id,
            "topic": row.topic,
            "state": row.state,
            "reason_code": row.reason_code,
            "understood": row.understood,
        },
    )


def _facts(session: Session, scope: Mapping[str, object]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT * FROM (
            SELECT kind, key, version_at, conflicting, payload, inbox_id
            FROM fact WHERE merchant_id = :merchant_id AND order_id = :order_id
            ORDER BY version_at DESC, kind, key LIMIT :limit
        ) AS newest ORDER BY version_at, kind, key
        """,
        scope,
    )


def _told_fact(row: Row[Any]) -> Happened:
    return Happened(
        row.version_at,
        TimelineKind.FACT,
        _fact_text(FactKind(row.kind), row.key, row.payload, conflicting=row.conflicting),
        {
            "fact": row.kind,
            "key": row.key,
            "conflicting": row.conflicting,
            "inbox_id": ids.encode("inb", row.inbox_id),
            "payload": row.payload,
        },
    )


def _fact_text(kind: FactKind, key: str, payload: Mapping[str, Any], *, conflicting: bool) -> str:
    match kind:
        case FactKind.ORDER:
            goods = Money(sum(line[2] for line in payload["lines"] if line[5]), payload["currency"])
            state = "cancelled" if payload["cancelled"] else f"{len(payload['lines'])} line(s), goods of {goods}"
            doubt = "; another body came under the same version" if conflicting else ""
            return f"The order as the shop shows it: {state}{doubt}."
        case FactKind.REFUND:
            goods_minor = payload["unallocated_minor"] + sum(amount for _, amount in payload["lines"])
            gross_minor = payload.get("gross_minor", 0)
            goods, gross = (Money(amount, payload["currency"]) for amount in (goods_minor, gross_minor))
            given = [f"goods of {goods}"] if goods_minor or not gross_minor else []
            given += [f"{gross} with tax and carriage"] if gross_minor else []
            return f"Refund {key}: {' and '.join(given)} given back."
        case FactKind.DISPUTE:
            state = f"closed, {payload['outcome']}" if payload["closed_at"] else "open"
            return f"Dispute {key} over {Money(payload['amount_minor'], payload['currency'])}: {state}."
        case FactKind.HOLD:
            state = "released" if payload["released_at"] else "open"
            return f"Hold {key} ({payload['reason_code']}): {state}."
        case FactKind.MILESTONE:
            return f"The order was {key}."
        case FactKind.CANCELLATION:
            return "The whole order was cancelled."
        case FactKind.DECISION:
            word = "by" if payload["kind"] == DecisionKind.ADJUST else "up to"
            amount = (
                f" {word} {Money(payload['amount_minor'], payload['currency'])}"
                if payload["amount_minor"] is not None
                else ""
            )
            return f"{payload['decided_by']} decided: {payload['kind']}{amount} ({payload['reason_code']})."


def _entries(session: Session, scope: Mapping[str, object]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT * FROM (
            SELECT commission.id AS commission_id, commission.payee_id, commission.currency, affiliate.name, entry.seq,
                   entry.kind, entry.source, entry.destination, entry.amount_minor, entry.posting_id,
                   entry.payable_version, entry.created_at
            FROM commission
            JOIN affiliate ON affiliate.merchant_id = commission.merchant_id AND affiliate.id = commission.payee_id
            JOIN commission_entry AS entry
              ON entry.merchant_id = commission.merchant_id AND entry.commission_id = commission.id
            WHERE commission.merchant_id = :merchant_id AND commission.order_id = :order_id
            ORDER BY entry.created_at DESC, commission.id, entry.seq DESC LIMIT :limit
        ) AS newest ORDER BY created_at, commission_id, seq
        """,
        scope,
    )


_PLACES = {
    Place.EXPENSE: "not earned",
    Place.PENDING: "pending",
    Place.HELD: "held",
    Place.PAYABLE: "payable",
}


def _told_entry(row: Row[Any]) -> Happened:
    amount = Money(row.amount_minor, row.currency)
    source, destination = _PLACES[Place(row.source)], _PLACES[Place(row.destination)]
    text = {
        EntryKind.ACCRUE: f"{row.name} earned {amount}, {destination}.",
        EntryKind.REDUCE: f"{amount} of {row.name} was taken back from {source}.",
        EntryKind.FREEZE: f"{amount} of {row.name} was frozen: {source} to {destination}.",
        EntryKind.UNFREEZE: f"{amount} of {row.name} was released: {source} to {destination}.",
        EntryKind.SETTLE: f"{amount} of {row.name} was settled: {source} to {destination}.",
    }[EntryKind(row.kind)]
    return Happened(
        row.created_at,
        TimelineKind.ENTRY,
        text,
        {
            "commission_id": ids.encode("com", row.commission_id),
            "affiliate_id": ids.encode("aff", row.payee_id),
            "seq": row.seq,
            "entry": row.kind,
            "source": row.source,
            "destination": row.destination,
            "amount_minor": row.amount_minor,
            "currency": row.currency,
            "posting_id": ids.encode("pst", row.posting_id),
            "payable_version": row.payable_version,
        },
    )


def _payouts(session: Session, merchant_id: UUID, entries: Iterable[Row[Any]]) -> list[Happened]:
    """What became of the payouts that took any of the order's money, by the postings of each."""
    moved = [entry for entry in entries if entry.payable_version is not None]
    if not moved:
        return []
    intervals = load_intervals(session, {(merchant_id, entry.payee_id, entry.currency) for entry in moved})
    touched = {
        item.item_id
        for entry in moved
        for item in _held_by(entry.payable_version, intervals.get((merchant_id, entry.payee_id, entry.currency), []))
    }
    if not touched:
        return []
    return [_told_payout(row) for row in _payout_postings(session, merchant_id, sorted(touched))]


def _held_by(version: int, intervals: Sequence[Interval]) -> list[Interval]:
    """Every item that held a payable version, one after the other."""
    held: list[Interval] = []
    while True:
        owner = holder(version, [_keeping(item) for item in intervals])
        if owner is None:
            return held
        item = next(each for each in intervals if each.item_id == owner.item_id)
        if item in held:
            return held
        held.append(item)
        if item.gave_back_version is None:
            return held
        version = item.gave_back_version


def _keeping(item: Interval) -> Interval:
    return Interval(item.item_id, item.from_version, item.to_version, handed_over=item.handed_over)


def _payout_postings(session: Session, merchant_id: UUID, item_ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT item.id AS item_id, item.run_id, item.currency, posting.id AS posting_id, posting.event,
               posting.debit_kind, posting.credit_kind, posting.amount_minor, posting.created_at
        FROM payout_item AS item
        JOIN posting
          ON posting.merchant_id = item.merchant_id AND posting.debit_owner_id = item.payee_id
         AND posting.debit_owner_id <> posting.merchant_id AND posting.id >= CAST(:first_id AS uuid)
         AND posting.event LIKE 'payout/' || item.id || '/%'
        WHERE item.merchant_id = :merchant_id AND item.id = ANY(CAST(:item_ids AS uuid[]))
        ORDER BY posting.created_at, posting.event, posting.seq
        LIMIT :limit
        """,
        {
            "merchant_id": merchant_id,
            "item_ids": item_ids,
            "first_id": _days_before(min(item_ids)),
            "limit": TIMELINE_MAX + 1,
        },
    )


def _days_before(item_id: UUID) -> UUID:
    """An id older than those of an item's postings, however far apart the clocks of our machines are.

    Ids begin with the milliseconds of their making, so the payee's earlier postings need not be looked at.
    """
    return UUID(int=max(0, item_id.int - (int(_CLOCKS_APART.total_seconds()) * 1000 << 80)))


def _told_payout(row: Row[Any]) -> Happened:
    amount = Money(row.amount_minor, row.currency)
    payout = f"payout {ids.encode('pay', row.item_id)}"
    source, destination = row.debit_kind.replace("_", " "), row.credit_kind.replace("_", " ")
    what = {
        ("payable", "reserved"): f"{amount} of payable was put into {payout}",
        ("taxed_carry", "reserved"): f"{amount} carried from earlier payouts was put into {payout}",
        ("reserved", "payable"): f"{payout} was released: {amount} is payable again",
        ("reserved", "in_transit"): f"{payout} was handed to the rail: {amount}",
        ("in_transit", "reserved"): f"{payout} was not sent: {amount} is reserved again",
        ("in_transit", "paid"): f"{payout} was accepted by the rail: {amount} sent",
        ("in_transit", "taxed_carry"): f"{amount} of {payout} is below a step of the rail and is carried forward",
        ("in_transit", "tax_withheld"): f"{amount} of {payout} was withheld as tax",
        ("tax_cost", "tax_withheld"): f"{amount} of tax on {payout} is borne by the shop",
        ("in_transit", "platform_fee"): f"{amount} of {payout} was taken as a fee",
        ("paid", "taxed_carry"): f"{amount} of {payout} came back and is carried forward",
    }.get((row.debit_kind, row.credit_kind), f"{amount} of {payout} moved: {source} to {destination}")
    return Happened(
        row.created_at,
        TimelineKind.PAYOUT,
        f"{what[0].upper()}{what[1:]}.",
        {
            "payout_id": ids.encode("pay", row.item_id),
            "payout_run_id": ids.encode("run", row.run_id),
            "posting_id": ids.encode("pst", row.posting_id),
            "source": row.debit_kind,
            "destination": row.credit_kind,
            "amount_minor": row.amount_minor,
            "currency": row.currency,
        },
    )
