"""What must hold however the facts of an order are told, and whether it does.

In any order, again and again, in any batches, with settle runs and changes of the shop's terms in between:

**At once**, whatever has been settled on the way: the same attribution with all its candidates, the same targets with
their receipts, the same amounts posted; and a frozen order has everything in held.

**Once every clock has run out and settle has run**, nothing having left through a payout, each commission stands thus:

- frozen: all of it held;
- otherwise nothing is held, and settled is at least what it would be had everything been told at once: the target as far
  as it is approved, and nothing while a milestone or a demanded approval is missing. The rest is pending.
- It is *exactly* that wherever that is the whole target, and wherever no settle run came before the last fact.

So places may differ in one case only: part of the target is still waiting for a person or a milestone, and an earlier
settle run moved more of it, when the facts known then allowed it. Such money is not taken back: a fact that only moves
the clock or lowers what may be settled works forward. What it was is known all the same from the history of a telling:
settled rises to the approved part of the target at a settle run that is due, falls to the target when that falls below
it, and to 0 when the order is frozen. In memory, where the history is known, places are compared with this exactly.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from service.domain.assessment import Assessment
from service.domain.attribution import Candidate, Reason
from service.domain.commission import CommissionReason, Places, Target
from service.domain.errors import InvariantBroken
from service.domain.order import Fact, FactKind
from service.domain.settlement import FrozenReason
from tests.domain.books import Books
from tests.support.fact_sets import SHOP, SHOP_BEFORE, Feature, features_of

TELLINGS = 3
"""How often each set is told, each time in another order."""

LEFT_OVER = frozenset({
    CommissionReason.NOT_ATTRIBUTED,
    CommissionReason.CURRENCY_CHANGED,
    CommissionReason.NO_TERMS,
})  # fmt: skip
"""Reasons of commissions at 0 that exist only where something was earned on the way."""


class Telling(StrEnum):
    """What happened on the way, besides the features of the sets themselves."""

    REFUND_FIRST = "refund before its order"
    CLOSING_FIRST = "closing told before opening"
    OLD_EDIT = "edit told after a newer one"
    SETTLED = "settle run before the last fact"
    TERMS_BETWEEN = "terms changed between two deliveries"
    FROZEN = "frozen at the end"
    WAITING = "part of it waiting at the end"
    EXACT = "places the same as told at once"
    SETTLED_MORE = "settled before less was allowed"


@dataclass(slots=True)
class Seen:
    """What a proof has met. sets, by what was in them; commissions, by why they stand where they do; tellings."""

    sets: Counter[Feature] = field(default_factory=Counter)
    reasons: Counter[CommissionReason] = field(default_factory=Counter)
    tellings: Counter[Telling] = field(default_factory=Counter)
    deliveries: int = 0

    def add(self, other: "Seen") -> None:
        self.sets.update(other.sets)
        self.reasons.update(other.reasons)
        self.tellings.update(other.tellings)
        self.deliveries += other.deliveries


@dataclass(frozen=True, slots=True)
class Answer:
    """What a set comes to, without what only the way there left behind."""

    targets: tuple[Target, ...]
    frozen: FrozenReason | None
    net_minor: int
    reason: Reason
    affiliate_id: UUID | None
    candidates: tuple[Candidate, ...]

    @classmethod
    def of(cls, outcome: Assessment) -> "Answer":
        return cls(
            tuple(target for target in outcome.targets if target.target_minor or target.reason not in LEFT_OVER),
            outcome.frozen,
            outcome.net_minor,
            outcome.attribution.reason,
            outcome.attribution.affiliate_id,
            outcome.attribution.candidates,
        )

    def difference_to(self, expected: "Answer") -> str:
        """The first field that differs, in words."""
        return next(
            f"{each.name}: {getattr(self, each.name)} instead of {getattr(expected, each.name)}"
            for each in fields(self)
            if getattr(self, each.name) != getattr(expected, each.name)
        )


def in_another_order(facts: Sequence[Fact], dice: random.Random) -> list[list[Fact]]:
    """The facts shuffled, up to half as many told again, in batches of one to six."""
    told = [*facts, *dice.choices(facts, k=dice.randrange(len(facts) // 2 + 2))]
    dice.shuffle(told)
    batches = []
    start = 0
    while start < len(told):
        size = dice.choice((1, 1, 2, 3, 4, 6))
        batches.append(told[start : start + size])
        start += size
    return batches


def base_minor(target: Target, *, frozen: bool) -> int:
    """What is settled of a target told at once, when every clock has run out."""
    if frozen or target.settles_at is None:
        return 0
    return target.target_minor if target.approved_minor is None else min(target.target_minor, target.approved_minor)


def difference_in_memory(facts: Sequence[Fact], seed: int, seen: Seen | None = None) -> str:
    """Tell a set at once and then TELLINGS times in other orders. Returns the first difference in words; empty for none.

    seed: of the orders it is told in.
    """
    try:
        return _difference(facts, random.Random(seed), Seen() if seen is None else seen)
    except (AssertionError, InvariantBroken) as broken:
        return f"{type(broken).__name__}: {broken}"


def _difference(facts: Sequence[Fact], dice: random.Random, seen: Seen) -> str:
    at_once = Books(SHOP)
    outcome = at_once.receive(facts)
    expected = Answer.of(outcome)
    at_once.settle(outcome)
    _count(facts, expected, seen)
    for number in range(TELLINGS):
        difference = _tell(facts, expected, at_once, dice, seen, settles=number > 0)
        if difference:
            return f"telling {number + 1}: {difference}"
    return ""


def _tell(
    facts: Sequence[Fact], expected: Answer, at_once: Books, dice: random.Random, seen: Seen, *, settles: bool
) -> str:
    """Tell the set in one other order. settles: with settle runs in between, each with every clock run out."""
    batches = in_another_order(facts, dice)
    _count_telling(batches, seen)
    books = Books(SHOP_BEFORE)
    change = dice.randrange(len(batches))
    outcome: Assessment | None = None
    settled: dict[tuple[UUID, str], int] = {}
    for number, batch in enumerate(batches):
        if number == change:
            books.inputs = SHOP
        outcome = books.receive(batch)
        for target in outcome.targets:
            key = (target.payee_id, target.currency)
            settled[key] = 0 if outcome.frozen else min(settled.get(key, 0), target.target_minor)
        if settles and number < len(batches) - 1 and dice.random() < 0.4:
            _settle(books, outcome, settled)
            seen.tellings[Telling.SETTLED] += 1
    assert outcome is not None
    if Answer.of(outcome) != expected:
        return Answer.of(outcome).difference_to(expected)
    seen.reasons.update(target.reason for target in outcome.targets if target.reason in LEFT_OVER)
    if not settles and _posted(books) != _posted(at_once):
        return f"posted differs: {_posted(books)} instead of {_posted(at_once)}"
    _settle(books, outcome, settled)
    return _misplaced(books, at_once, outcome, settled, seen, settles=settles)


def _settle(books: Books, outcome: Assessment, settled: dict[tuple[UUID, str], int]) -> None:
    books.settle(outcome)
    for target in outcome.targets:
        key = (target.payee_id, target.currency)
        settled[key] = max(settled[key], base_minor(target, frozen=outcome.frozen is not None))


def _misplaced(
    books: Books,
    at_once: Books,
    outcome: Assessment,
    settled: dict[tuple[UUID, str], int],
    seen: Seen,
    *,
    settles: bool,
) -> str:
    """Which commission does not stand where it must, once every clock has run out."""
    for target in outcome.targets:
        key = (target.payee_id, target.currency)
        places, total, base = books.places[key], target.target_minor, base_minor(target, frozen=bool(outcome.frozen))
        must = Places(0, total, 0) if outcome.frozen else Places(total - settled[key], 0, settled[key])
        if places != must:
            return f"places of {key}: {places} instead of {must} by its history"
        if not total:
            continue
        if outcome.frozen or base == total or not settles:
            if places != at_once.places[key]:
                return f"places of {key}: {places} instead of {at_once.places[key]} as told at once"
        elif not base <= places.settled_minor <= total:
            return f"places of {key}: {places}, where told at once {base} are settled"
        seen.tellings[Telling.EXACT if places == at_once.places[key] else Telling.SETTLED_MORE] += 1
    return ""


def _posted(books: Books) -> dict[tuple[UUID, str], int]:
    return {key: places.posted_minor for key, places in books.places.items() if places.posted_minor}


def _count(facts: Sequence[Fact], expected: Answer, seen: Seen) -> None:
    seen.sets.update(features_of(facts))
    seen.reasons.update(target.reason for target in expected.targets)
    for target in expected.targets:
        if expected.frozen:
            seen.tellings[Telling.FROZEN] += 1
        elif base_minor(target, frozen=False) < target.target_minor:
            seen.tellings[Telling.WAITING] += 1


def _count_telling(batches: Sequence[Sequence[Fact]], seen: Seen) -> None:
    seen.deliveries += sum(map(len, batches))
    seen.tellings[Telling.TERMS_BETWEEN] += len(batches) > 1
    refund_told, order_told = False, False
    newest: datetime | None = None
    ended = set[tuple[FactKind, str]]()
    happened = set[Telling]()
    for batch in batches:
        for fact in batch:
            if fact.kind is FactKind.REFUND:
                refund_told = True
            elif fact.kind is FactKind.ORDER:
                if refund_told and not order_told:
                    happened.add(Telling.REFUND_FIRST)
                order_told = True
                if newest is not None and fact.version_at < newest:
                    happened.add(Telling.OLD_EDIT)
                newest = fact.version_at if newest is None else max(newest, fact.version_at)
            elif fact.kind in (FactKind.DISPUTE, FactKind.HOLD):
                if fact.version_amount:
                    ended.add((fact.kind, fact.key))
                elif (fact.kind, fact.key) in ended:
                    happened.add(Telling.CLOSING_FIRST)
    seen.tellings.update(happened)
