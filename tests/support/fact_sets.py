"""Sets of facts about one order, by seed: everything that may be told of it, from few ids and times, so that they collide.

`facts_of(7)` is the same set for ever; `features_of` says what a set has in it, `in_code` writes it so that it can be pasted
into a test. All sets belong to orders of one shop, `SHOP`; `SHOP_BEFORE` is the same shop before its last changes, none of
which may matter to any of these orders.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, TypeVar
from uuid import UUID

from service.domain.conditions import Between, OrderAmount, TouchIn
from service.domain.dated import DatedInputs, Owner, Since, Traceable
from service.domain.order import (
    ADJUSTS,
    DecisionFact,
    DecisionKind,
    DisputeFact,
    DisputeOutcome,
    Fact,
    FactKind,
    HoldFact,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    decision_fact,
    dispute_fact,
    hold_fact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.domain.program import AttributionTerms, Model, Precedence, SelfPurchase
from service.domain.rules import Per, Plan, When
from service.domain.settlement import Approval, RollingSettlement, StatementSettlement
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    BENS_LINK,
    OTHER_LINK,
    OTHER_PROGRAM,
    PROGRAM,
    a_version,
    day,
    flat,
    percent,
)

T = TypeVar("T")

CAM, DEE = UUID(int=0xC), UUID(int=0xD)
"""Cam joined between two versions of the terms; Dee has a coupon but was never approved."""

PLACED = (day(0), day(0, hours=2), day(45))
"""Before and after a version of the terms began, and when the versions before it protect nobody any more."""

LONGEST_WAIT = timedelta(days=1000)
"""After the last fact, every hold period of the shop is over by then."""


def _shop(*, before: bool) -> DatedInputs:
    long_ago, later = day(-90), day(60)

    def owned(link_or_coupon: int, program_id: UUID, *owners: Owner) -> Traceable:
        known = tuple(owner for owner in owners if not (before and owner.valid_from >= later))
        return Traceable(UUID(int=link_or_coupon), program_id, known)

    def since(*states: Since) -> tuple[Since, ...]:
        return tuple(state for state in states if not (before and state.valid_from >= later))

    friends = (
        a_version(
            percent("15", skus=["MUG"]),
            percent("7.5"),
            percent(
                "11",
                plan=Plan.TARGET,
                when=When(
                    every=(OrderAmount(Between((("USD", 9_000),))),), none=(TouchIn(frozenset({TouchKind.CLICK})),)
                ),
                caps_per_line_minor=(("USD", 700),),
            ),
            flat({"USD": 100, "EUR": 90}, per=Per.ORDER, component="bonus", funder="brand"),
            number=1,
            exclude=(OrderAmount(Between((), (("USD", 40),))),),
            cap={"USD": 1_500, "EUR": 1_200},
            settlement=RollingSettlement(Milestone.PAID, 14),
        ),
        a_version(
            flat({"USD": 333}, per=Per.UNIT, categories=["tea"], priority=1),
            percent("9.99", priority=1),
            number=2,
            since=day(-20),
            settlement=RollingSettlement(Milestone.DELIVERED, 400),
        ),
        a_version(
            percent("6"),
            number=3,
            since=day(0, hours=1),
            settlement=RollingSettlement(Milestone.PAID, 30, Approval.MANUAL),
            attribution=AttributionTerms(precedence=Precedence.CLICK),
        ),
        a_version(percent("99"), number=4, since=later),
    )
    partners = (
        a_version(
            percent("12.5"),
            number=1,
            program=OTHER_PROGRAM,
            settlement=StatementSettlement(
                Milestone.FULFILLED,
                0,
                cut_off_day=15,
                months_after=1,
                pay_day=20,
                approval=Approval.MANUAL,
                auto_approve_days=90,
            ),
            attribution=AttributionTerms(
                model=Model.FIRST, precedence=Precedence.LATEST, self_purchase=SelfPurchase.ALLOW
            ),
        ),
        a_version(percent("1"), number=2, program=OTHER_PROGRAM, since=later),
    )
    return DatedInputs(
        versions={PROGRAM: friends[:3] if before else friends, OTHER_PROGRAM: partners[:1] if before else partners},
        links={
            ANNS_LINK: owned(ANNS_LINK.int, PROGRAM, Owner(long_ago, ANN)),
            BENS_LINK: owned(BENS_LINK.int, PROGRAM, Owner(long_ago, BEN), Owner(later, CAM)),
            OTHER_LINK: owned(OTHER_LINK.int, OTHER_PROGRAM, Owner(long_ago, CAM)),
        },
        coupons={
            "ann10": owned(0x2A, PROGRAM, Owner(long_ago, ANN), Owner(later, BEN)),
            "ben10": owned(0x2B, PROGRAM, Owner(long_ago, BEN)),
            # Changes hands between two moments at which orders are placed.
            "cam10": owned(0x2C, OTHER_PROGRAM, Owner(long_ago, CAM), Owner(day(0, hours=1), BEN)),
            "dee10": owned(0x2D, PROGRAM, Owner(long_ago, DEE)),
        },
        enrollments={
            (PROGRAM, ANN): since(Since(long_ago, True), Since(later, False)),
            (PROGRAM, BEN): since(Since(long_ago, True)),
            (PROGRAM, CAM): since(Since(day(-10), True)),
            (PROGRAM, DEE): since(Since(long_ago, True)),
            (OTHER_PROGRAM, BEN): since(Since(long_ago, True)),
            (OTHER_PROGRAM, CAM): since(Since(long_ago, True)),
        },
        approvals={
            ANN: since(Since(long_ago, True)),
            BEN: since(Since(long_ago, True), Since(later, False)),
            CAM: since(Since(long_ago, True)),
            DEE: since(Since(long_ago, False), Since(later, True)),
        },
        identities={ANN: (("email", "hash-of-ann"),), BEN: (("email", "hash-of-ben"),), CAM: (), DEE: ()},
    )


SHOP, SHOP_BEFORE = _shop(before=False), _shop(before=True)


# Making a set

_TOUCHES = (
    Touch(TouchKind.CLICK, "clk_ann", ANNS_LINK, day(-2)),
    Touch(TouchKind.CLICK, "clk_ann_old", ANNS_LINK, day(-33)),
    Touch(TouchKind.CLICK, "clk_ben", BENS_LINK, day(-1)),
    Touch(TouchKind.CLICK, "clk_cam", OTHER_LINK, day(-3)),
    Touch(TouchKind.CLICK, "clk_forged"),
    *[Touch(TouchKind.COUPON, "ann10")] * 6,
    *[Touch(TouchKind.COUPON, "ben10")] * 4,
    Touch(TouchKind.COUPON, "cam10"),
    Touch(TouchKind.COUPON, "dee10"),
    Touch(TouchKind.COUPON, "gone"),
)
_CUSTOMERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (),
    (),
    (("email", "hash-of-ann"),),
    (("email", "hash-of-eve"),),
)
_AMOUNTS = (1, 99, 333, 1_000, 4_999, 10_000, 19_999)


def facts_of(seed: int) -> tuple[Fact, ...]:
    """The set of facts of this seed, oldest first as they happened; one to about fifteen."""
    dice = random.Random(seed)
    snapshots = _snapshots(dice)
    goods = snapshots[-1].body.goods_minor if snapshots and isinstance(snapshots[-1].body, OrderSnapshot) else 5_000
    currency = snapshots[-1].body.currency if snapshots and isinstance(snapshots[-1].body, OrderSnapshot) else "USD"
    # Without an order there is at least an event that waits for it.
    facts = snapshots or [milestone_fact(Milestone.COMPLETED, day(1))]
    facts += _milestones(dice)
    refunds = _refunds(dice, goods, currency)
    facts += refunds + _totals_without_lines(random.Random(f"totals {seed}"), refunds)
    facts += _disputes(dice, goods, currency)
    facts += _holds(dice)
    # Nobody adjusts an order that is not here.
    facts += [fact for fact in _decisions(dice, goods, currency) if snapshots or not fact.key.startswith(ADJUSTS)]
    # The same may come out twice; told twice it comes by other means.
    return tuple(dict.fromkeys(facts))


def _snapshots(dice: random.Random) -> list[Fact]:
    snapshot = _an_order(dice)
    facts, version = [], 0
    for number in range(dice.choice((1, 1, 1, 2, 2, 2, 3, 3, 4)) if dice.random() < 0.96 else 0):
        if number:
            snapshot = _edited(dice, snapshot)
            # Now and then an edit comes under the version of the one before.
            version += dice.random() < 0.85
        facts.append(order_fact(snapshot, version_at=day(version)))
    return facts


def _an_order(dice: random.Random) -> OrderSnapshot:
    return OrderSnapshot(
        placed_at=dice.choice(PLACED),
        currency="USD" if dice.random() < 0.9 else "EUR",
        lines=tuple(_a_line(dice, str(number)) for number in range(1, dice.choice((2, 2, 3, 4)))),
        cancelled=dice.random() < 0.03,
        touches=_some_touches(dice),
        customer=dice.choice(_CUSTOMERS),
    )


def _a_line(dice: random.Random, line_id: str) -> Line:
    return Line(
        line_id,
        dice.choice(("", "MUG")),
        dice.choice(_AMOUNTS),
        category=dice.choice(("", "tea")),
        goods=dice.random() < 0.9,
    )


def _some_touches(dice: random.Random) -> tuple[Touch, ...]:
    return tuple(dict.fromkeys(dice.choices(_TOUCHES, k=dice.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 3)))))


_EDITS = (
    "up",
    "up",
    "down",
    "down",
    "zero",
    "add",
    "drop",
    "cancel",
    "currency",
    "coupon",
    "coupon",
    "touches",
    "placed",
)


def _edited(dice: random.Random, snapshot: OrderSnapshot) -> OrderSnapshot:
    lines = snapshot.lines
    changed = lines[dice.randrange(len(lines))] if lines else _a_line(dice, "1")
    match dice.choice(_EDITS):
        case "up":
            return _with_line(snapshot, changed, changed.net_minor + dice.choice(_AMOUNTS))
        case "down":
            return _with_line(snapshot, changed, changed.net_minor // 2)
        case "zero":
            return replace(snapshot, lines=tuple(replace(line, net_minor=0) for line in lines))
        case "add":
            return replace(snapshot, lines=(*lines, _a_line(dice, str(len(lines) + 1))))
        case "drop":
            return replace(snapshot, lines=lines[:-1] or lines)
        case "cancel":
            return replace(snapshot, cancelled=not snapshot.cancelled)
        case "currency":
            return replace(snapshot, currency="EUR" if snapshot.currency == "USD" else "USD")
        case "coupon":
            coupon = Touch(TouchKind.COUPON, dice.choice(("ann10", "ben10", "cam10")))
            return replace(snapshot, touches=tuple(dict.fromkeys((*snapshot.touches, coupon))))
        case "touches":
            return replace(snapshot, touches=_some_touches(dice), customer=dice.choice(_CUSTOMERS))
        case _:
            return replace(snapshot, placed_at=dice.choice(PLACED))


def _with_line(snapshot: OrderSnapshot, changed: Line, net_minor: int) -> OrderSnapshot:
    lines = (replace(line, net_minor=net_minor) if line is changed else line for line in snapshot.lines)
    return replace(snapshot, lines=tuple(lines))


def _milestones(dice: random.Random) -> list[Fact]:
    facts = []
    for milestone, likely in ((Milestone.PAID, 0.85), (Milestone.FULFILLED, 0.5), (Milestone.DELIVERED, 0.6)):
        if dice.random() < likely:
            facts.append(milestone_fact(milestone, day(dice.randrange(4))))
            if dice.random() < 0.2:
                facts.append(milestone_fact(milestone, day(dice.randrange(4))))
    return facts


def _refunds(dice: random.Random, goods: int, currency: str) -> list[Fact]:
    facts = []
    for refund_id in ("r1", "r2", "dispute:d1")[: dice.choice((0, 0, 0, 1, 1, 2, 3))]:
        for _ in range(dice.choice((1, 1, 1, 2))):
            back = dice.choice(
                (
                    goods // 9,
                    goods // 5,
                    goods // 4,
                    goods // 3,
                    goods // 2,
                    goods,
                    goods + 1_000,
                    0,
                    0,
                    dice.choice(_AMOUNTS),
                )
            )
            line = dice.choice(("", "", "1", "2", "9"))
            at = day(dice.randrange(2, 5))
            body = RefundFact(
                currency if dice.random() < 0.94 else "EUR" if currency == "USD" else "USD",
                at,
                lines=((line, back),) if line else (),
                unallocated_minor=0 if line else back,
            )
            facts.append(refund_fact(refund_id, body, version_at=at))
    return facts


def _totals_without_lines(dice: random.Random, refunds: Sequence[Fact]) -> list[Fact]:
    """Refunds as a shop's order shows them: a total alone, before or after their lines are told, seldom the same amount.

    With dice of their own, so that the rest of a set is what it was before there were such refunds.
    """
    return [
        refund_fact(
            refund.key,
            replace(refund.body, lines=(), unallocated_minor=refund.body.goods_minor + dice.choice((0, 120, 800))),
            version_at=day(dice.randrange(1, 7)),
            provisional=True,
        )
        for refund in refunds
        if isinstance(refund.body, RefundFact) and dice.random() < 0.3
    ]


def _disputes(dice: random.Random, goods: int, currency: str) -> list[Fact]:
    facts = []
    for dispute_id in ("d1", "d2")[: dice.choice((0, 0, 0, 1, 1, 2))]:
        opened = dice.randrange(1, 8)
        told = DisputeFact(day(opened), currency, dice.choice((goods // 5, goods // 2, goods, 500)))
        facts.append(dispute_fact(dispute_id, told, version_at=day(opened)))
        if dice.random() < 0.85:
            # Also on the day it was opened: then the version alone does not say which came last.
            closed = day(opened + dice.randrange(4))
            outcome = dice.choice((DisputeOutcome.WON, DisputeOutcome.LOST))
            ended = replace(told, closed_at=closed, outcome=outcome)
            facts.append(dispute_fact(dispute_id, ended, version_at=closed))
    return facts


def _holds(dice: random.Random) -> list[Fact]:
    facts = []
    for hold_id in ("h1", "h2")[: dice.choice((0, 0, 0, 0, 1, 2))]:
        opened = dice.randrange(1, 8)
        told = HoldFact(day(opened), "review")
        facts.append(hold_fact(hold_id, told, version_at=day(opened)))
        if dice.random() < 0.8:
            released = day(opened + dice.randrange(3))
            facts.append(hold_fact(hold_id, replace(told, released_at=released), version_at=released))
    return facts


def _decisions(dice: random.Random, goods: int, currency: str) -> list[Fact]:
    facts = []
    for _ in range(dice.choice((0, 0, 1, 1, 2, 2))):
        kind = dice.choice((DecisionKind.APPROVE,) * 4 + (DecisionKind.REJECT, DecisionKind.ATTRIBUTE))
        decided_at = day(dice.randrange(2, 6))
        payee = dice.choice((ANN, ANN, BEN, CAM))
        if kind is DecisionKind.ATTRIBUTE:
            credited = payee if dice.random() < 0.75 else None
            facts.append(decision_fact(DecisionFact(kind, decided_at, "key_desk", "decided", credited)))
        else:
            limit = dice.choice((goods, goods // 20, goods // 20, 50)) if kind is DecisionKind.APPROVE else None
            facts.append(
                decision_fact(DecisionFact(kind, decided_at, "key_desk", "decided", payee, currency, limit)),
            )
    for number in range(dice.choice((0, 0, 0, 1, 2))):
        amount = dice.choice((50, 300, -50, -goods))
        adjusted = DecisionFact(
            DecisionKind.ADJUST,
            day(dice.randrange(2, 6)),
            "key_desk",
            "goodwill",
            dice.choice((ANN, ANN, BEN)),
            dice.choice((currency, currency, "JPY")),
            amount or 50,
            id=f"adj_{number}",
        )
        facts.append(decision_fact(adjusted))
    return facts


# What is in a set


class Feature(StrEnum):
    """Something a set can have; a proof over many sets must meet every one of them."""

    NO_ORDER = "only events, no order"
    EDIT_UP = "edit up"
    EDIT_DOWN = "edit down"
    EDIT_TO_ZERO = "edit to zero"
    CANCELLED = "cancelled"
    REOPENED = "re-opened"
    CURRENCY_EDIT = "edit to another currency"
    PLACED_MOVED = "edit of when it was placed"
    LATE_COUPON = "coupon in an edit only"
    TWO_BODIES = "two bodies under one version"
    COUPON_AND_CLICK = "coupon and click"
    SEVERAL_AFFILIATES = "touches of several affiliates"
    MILESTONE_TWICE = "milestone told with two times"
    PARTIAL_REFUND = "partial refund"
    FULL_REFUND = "full refund"
    OVER_REFUND = "refund above the order"
    REFUND_TAKEN_BACK = "refund taken back"
    REFUND_TIED = "two amounts under one refund version"
    REFUND_TOTAL_AFTER_LINES = "refund told by a total alone, newer than its lines"
    REFUND_OF_UNKNOWN_LINE = "refund of a line the order lacks"
    FOREIGN_REFUND = "refund in another currency"
    TWO_DISPUTES = "disputed twice"
    DISPUTE_WON = "dispute won"
    DISPUTE_LOST = "dispute lost"
    DISPUTE_REFUNDED = "dispute lost and refunded under its id"
    DISPUTE_OPEN = "dispute left open"
    HOLD_OPEN = "hold left open"
    HOLD_RELEASED = "hold released"
    APPROVED = "approved"
    APPROVED_FOR_LESS = "approved for more, later for less"
    REJECTED = "rejected"
    REJECTION_REPLACED = "rejected, then approved"
    ADJUSTED_UP = "adjusted: something added"
    ADJUSTED_DOWN = "adjusted: something taken"
    CREDITED = "credited by a person"
    CREDITED_NOBODY = "credited to nobody"


def features_of(facts: Sequence[Fact]) -> set[Feature]:
    """What a set has in it, read from its facts and not from how they were made."""
    found = set[Feature]()
    by_kind: dict[FactKind, list[Fact]] = {kind: [] for kind in FactKind}
    for fact in facts:
        by_kind[fact.kind].append(fact)
    orders = sorted(by_kind[FactKind.ORDER], key=lambda fact: (fact.version_at, fact.body_hash))
    snapshots = [fact.body for fact in orders if isinstance(fact.body, OrderSnapshot)]
    if snapshots:
        found |= _of_snapshots(snapshots)
    else:
        found.add(Feature.NO_ORDER)
    if len({fact.version for fact in orders}) < len(orders):
        found.add(Feature.TWO_BODIES)
    milestones = [fact.key for fact in by_kind[FactKind.MILESTONE]]
    if len(set(milestones)) < len(milestones):
        found.add(Feature.MILESTONE_TWICE)
    found |= _of_refunds(by_kind[FactKind.REFUND], snapshots[-1] if snapshots else None)
    found |= _of_disputes(by_kind[FactKind.DISPUTE], {fact.key for fact in by_kind[FactKind.REFUND]})
    released = {fact.key for fact in by_kind[FactKind.HOLD] if fact.version_amount}
    if by_kind[FactKind.HOLD]:
        found |= {Feature.HOLD_RELEASED} if released else set()
        found |= {Feature.HOLD_OPEN} if {fact.key for fact in by_kind[FactKind.HOLD]} - released else set()
    found |= _of_decisions([fact.body for fact in by_kind[FactKind.DECISION] if isinstance(fact.body, DecisionFact)])
    return found


def _of_snapshots(snapshots: Sequence[OrderSnapshot]) -> set[Feature]:
    found = set[Feature]()
    for before, after in itertools.pairwise(snapshots):
        if after.goods_minor > before.goods_minor:
            found.add(Feature.EDIT_UP)
        elif after.goods_minor < before.goods_minor:
            found.add(Feature.EDIT_DOWN if after.goods_minor else Feature.EDIT_TO_ZERO)
        if before.cancelled and not after.cancelled:
            found.add(Feature.REOPENED)
        if before.currency != after.currency:
            found.add(Feature.CURRENCY_EDIT)
        if before.placed_at != after.placed_at:
            found.add(Feature.PLACED_MOVED)
    if any(snapshot.cancelled for snapshot in snapshots):
        found.add(Feature.CANCELLED)
    coupons = [{touch.ref for touch in each.touches if touch.kind is TouchKind.COUPON} for each in snapshots]
    if coupons[-1] - coupons[0]:
        found.add(Feature.LATE_COUPON)
    touches = snapshots[-1].touches
    if len({touch.kind for touch in touches}) > 1:
        found.add(Feature.COUPON_AND_CLICK)
    speaks_for = (SHOP.links.get(touch.link_id) if touch.link_id else SHOP.coupons.get(touch.ref) for touch in touches)
    if len({traceable.owners[0].affiliate_id for traceable in speaks_for if traceable}) > 1:
        found.add(Feature.SEVERAL_AFFILIATES)
    return found


def _of_refunds(refunds: Sequence[Fact], snapshot: OrderSnapshot | None) -> set[Feature]:
    found = set[Feature]()
    newest: dict[str, Fact] = {}
    for fact in sorted(refunds, key=lambda fact: (fact.version, fact.body_hash)):
        before = newest.get(fact.key)
        if before is not None and before.provisional and not fact.provisional and before.version_at > fact.version_at:
            found.add(Feature.REFUND_TOTAL_AFTER_LINES)
        if before is not None and before.version_at == fact.version_at and before.version != fact.version:
            found.add(Feature.REFUND_TIED)
        if before is not None and before.version_amount and not fact.version_amount:
            found.add(Feature.REFUND_TAKEN_BACK)
        newest[fact.key] = fact
    bodies = [fact.body for fact in newest.values() if isinstance(fact.body, RefundFact) and fact.version_amount]
    if snapshot is None or not bodies:
        return found
    back = sum(body.goods_minor for body in bodies if body.currency == snapshot.currency)
    if 0 < back < snapshot.goods_minor:
        found.add(Feature.PARTIAL_REFUND)
    elif back:
        found.add(Feature.FULL_REFUND if back == snapshot.goods_minor else Feature.OVER_REFUND)
    if any(body.currency != snapshot.currency for body in bodies):
        found.add(Feature.FOREIGN_REFUND)
    lines = {line.id for line in snapshot.lines}
    if any(line_id not in lines for body in bodies for line_id, _ in body.lines):
        found.add(Feature.REFUND_OF_UNKNOWN_LINE)
    return found


def _of_disputes(disputes: Sequence[Fact], refunded: set[str]) -> set[Feature]:
    found = set[Feature]()
    closed = {fact.key: fact.body for fact in disputes if fact.version_amount and isinstance(fact.body, DisputeFact)}
    outcomes = {body.outcome for body in closed.values()}
    if len({fact.key for fact in disputes}) > 1:
        found.add(Feature.TWO_DISPUTES)
    if {fact.key for fact in disputes} - closed.keys():
        found.add(Feature.DISPUTE_OPEN)
    if DisputeOutcome.WON in outcomes:
        found.add(Feature.DISPUTE_WON)
    if DisputeOutcome.LOST in outcomes:
        found.add(Feature.DISPUTE_LOST)
    if any(body.outcome is DisputeOutcome.LOST and f"dispute:{key}" in refunded for key, body in closed.items()):
        found.add(Feature.DISPUTE_REFUNDED)
    return found


def _of_decisions(decisions: Sequence[DecisionFact]) -> set[Feature]:
    found = set[Feature]()
    verdicts: dict[str, DecisionFact] = {}
    for decision in sorted(decisions, key=lambda each: each.decided_at):
        before = verdicts.get(decision.key)
        if decision.kind is DecisionKind.ATTRIBUTE:
            found.add(Feature.CREDITED if decision.payee_id else Feature.CREDITED_NOBODY)
        elif decision.kind is DecisionKind.ADJUST:
            found.add(Feature.ADJUSTED_UP if (decision.amount_minor or 0) > 0 else Feature.ADJUSTED_DOWN)
        elif decision.kind is DecisionKind.REJECT:
            found.add(Feature.REJECTED)
        else:
            found.add(Feature.APPROVED)
            if before is not None and before.kind is DecisionKind.REJECT:
                found.add(Feature.REJECTION_REPLACED)
            elif before is not None and (before.amount_minor or 0) > (decision.amount_minor or 0):
                found.add(Feature.APPROVED_FOR_LESS)
        verdicts[decision.key] = decision
    return found


# Making a set smaller, and writing it down


def smallest(facts: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> tuple[T, ...]:
    """Drop facts one after the other as long as what is left still fails. No single fact of the answer can go."""
    kept = list(facts)
    index = 0
    while index < len(kept):
        fewer = kept[:index] + kept[index + 1 :]
        if fewer and fails(fewer):
            kept, index = fewer, 0
        else:
            index += 1
    return tuple(kept)


def in_code(facts: Iterable[Fact]) -> str:
    """The facts as Python, for a test; the names are those of `service.domain.order`, datetime and uuid."""
    return "[\n" + "".join(f"    {_fact_in_code(fact)},\n" for fact in facts) + "]"


def _fact_in_code(fact: Fact) -> str:
    body, version = _value_in_code(fact.body), f"version_at={_value_in_code(fact.version_at)}"
    match fact.kind:
        case FactKind.ORDER:
            return f"order_fact({body}, {version})"
        case FactKind.MILESTONE:
            return f"milestone_fact({_value_in_code(Milestone(fact.key))}, {_value_in_code(fact.version_at)})"
        case FactKind.DECISION:
            return f"decision_fact({body})"
        case _:
            provisional = ", provisional=True" if fact.provisional else ""
            return f"{fact.kind.value}_fact({fact.key!r}, {body}, {version}{provisional})"


def _value_in_code(value: Any) -> str:
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case datetime():
            moment = value.astimezone(UTC)
            return f"datetime({moment.year}, {moment.month}, {moment.day}, {moment.hour}, {moment.minute}, tzinfo=UTC)"
        case UUID():
            return f"UUID(int={value.int:#x})"
        case tuple():
            return "(" + "".join(f"{_value_in_code(each)}, " for each in value).rstrip(" ") + ")"
        case _ if dataclasses.is_dataclass(value):
            told = [
                f"{each.name}={_value_in_code(getattr(value, each.name))}"
                for each in dataclasses.fields(value)
                if getattr(value, each.name) != each.default
            ]
            return f"{type(value).__name__}({', '.join(told)})"
        case _:
            return repr(value)
