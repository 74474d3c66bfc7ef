"""Merging facts: whatever came first, twice or late, the same one counts."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import (
    CancellationFact,
    DecisionFact,
    DisputeFact,
    DisputeOutcome,
    Fact,
    FactKind,
    HoldFact,
    Milestone,
    MilestoneFact,
    OrderSnapshot,
    RefundFact,
    cancellation_fact,
    dispute_fact,
    hold_fact,
    merge,
    milestone_fact,
    order_fact,
    refund_fact,
)
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    a_coupon,
    a_credit,
    a_dispute,
    a_hold,
    a_line,
    a_lost_dispute,
    a_refund,
    a_rejection,
    an_approval,
    an_edit,
    an_order,
    day,
    lines,
    reached,
    told,
)
from tests.domain.strategies import examples

FACTS = {
    FactKind.ORDER: strategies.order_facts,
    FactKind.REFUND: strategies.refund_facts,
    FactKind.DISPUTE: strategies.dispute_facts,
    FactKind.HOLD: strategies.hold_facts,
    FactKind.MILESTONE: strategies.milestone_facts,
    FactKind.CANCELLATION: st.builds(cancellation_fact, strategies.times),
    FactKind.DECISION: strategies.decision_facts,
}
BODIES: dict[FactKind, st.SearchStrategy[object]] = {
    FactKind.ORDER: strategies.snapshots,
    FactKind.REFUND: strategies.refunds,
    FactKind.DISPUTE: strategies.disputes,
    FactKind.HOLD: strategies.holds,
    FactKind.MILESTONE: st.builds(MilestoneFact, strategies.times),
    FactKind.CANCELLATION: st.builds(CancellationFact, strategies.times),
    FactKind.DECISION: strategies.decisions,
}


def under_one_key(kind: FactKind) -> st.SearchStrategy[list[Fact]]:
    """Three facts of a kind that concern the same thing; often of one version."""
    return st.lists(FACTS[kind], min_size=3, max_size=12).map(lambda drawn: _same_key(drawn)[:3]).filter(bool)


def _same_key(drawn: list[Fact]) -> list[Fact]:
    first = [fact for fact in drawn if fact.key == drawn[0].key]
    return [*first, *first, *first]


@pytest.mark.parametrize("kind", FactKind)
def test_merging_does_not_mind_order_grouping_or_repetition(kind: FactKind) -> None:
    @examples(60)
    @given(under_one_key(kind))
    def holds(facts: list[Fact]) -> None:
        a, b, c = facts
        assert merge(a, b) == merge(b, a)
        assert merge(merge(a, b), c) == merge(a, merge(b, c))
        assert merge(a, a) == a
        assert merge(merge(a, b), b) == merge(a, b)

    holds()


def test_three_bodies_of_one_version_end_the_same_in_every_order() -> None:
    bodies = [order_fact(an_order(*lines(net)), version_at=day(1)) for net in (100, 200, 300)]

    ends = {reduce(merge, order) for order in permutations([*bodies, bodies[0]])}

    (end,) = ends
    assert end.conflicting
    assert end.body_hash == max(body.body_hash for body in bodies)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(an_edit(an_order(), on=day(0)), an_edit(an_order(*lines(50)), on=day(1)), id="order"),
        pytest.param(a_refund(900, on=day(1)), a_refund(100, on=day(2)), id="refund, also when it shrinks"),
        pytest.param(a_refund(100, on=day(1)), a_refund(900, on=day(1)), id="refund, of one time the larger"),
        pytest.param(a_dispute(1), a_dispute(1, 4), id="dispute"),
        pytest.param(a_hold(1), a_hold(1, 4), id="hold"),
        pytest.param(an_approval(100, on=1), a_rejection(on=2), id="a verdict replaces the other"),
        pytest.param(reached(on=5), reached(on=2), id="milestone: the earliest counts"),
    ],
)
def test_the_newest_version_counts_whenever_it_comes(earlier: Fact, later: Fact) -> None:
    assert merge(earlier, later) == later
    assert merge(later, earlier) == later


@pytest.mark.parametrize("hashed_as", [b"\x00", b"\xff"], ids=["the smaller hash", "the larger hash"])
def test_of_two_states_told_at_one_time_the_later_one_counts_whatever_their_hashes(hashed_as: bytes) -> None:
    open_dispute, open_hold = DisputeFact(day(4), "USD", 5), HoldFact(day(4), "review")
    closed = replace(open_dispute, closed_at=day(4), outcome=DisputeOutcome.WON)
    pairs = [
        (a_refund(100, on=day(4)), a_refund(900, on=day(4))),
        (dispute_fact("d1", open_dispute, version_at=day(4)), dispute_fact("d1", closed, version_at=day(4))),
        (
            hold_fact("h1", open_hold, version_at=day(4)),
            hold_fact("h1", replace(open_hold, released_at=day(4)), version_at=day(4)),
        ),
    ]

    for other, counts in pairs:
        # Hashes decide only between equal versions, and must not happen to decide this.
        rehashed = replace(other, body_hash=hashed_as)
        assert merge(rehashed, counts) == merge(counts, rehashed) == counts


def test_a_fact_is_told_apart_by_kind_and_key_and_ordered_by_its_version() -> None:
    facts = [
        an_edit(an_order(), on=day(2)),
        a_refund(700, on=day(3)),
        a_dispute(3),
        a_dispute(3, 5),
        a_hold(3),
        a_hold(3, 5),
        reached(on=2),
        an_approval(5, on=4),
        a_credit(ANN, on=4),
    ]

    assert [(fact.kind, fact.key, fact.version) for fact in facts] == [
        (FactKind.ORDER, "", (True, day(2), 0)),
        (FactKind.REFUND, "r1", (True, day(3), 700)),
        (FactKind.DISPUTE, "d1", (True, day(3), 0)),
        (FactKind.DISPUTE, "d1", (True, day(5), 1)),
        (FactKind.HOLD, "h1", (True, day(3), 0)),
        (FactKind.HOLD, "h1", (True, day(5), 1)),
        (FactKind.MILESTONE, "paid", (True, day(2), 0)),
        (FactKind.DECISION, f"verdict:{ANN}", (True, day(4), 0)),
        (FactKind.DECISION, "attribute", (True, day(4), 0)),
    ]


def test_a_refund_with_lines_beats_one_by_its_total_alone_whichever_is_newer() -> None:
    body = a_refund({"1": 700}).body
    assert isinstance(body, RefundFact)
    total = RefundFact(body.currency, body.refunded_at, unallocated_minor=900)
    nothing_of_it_goods = RefundFact(body.currency, body.refunded_at)

    for known in (body, nothing_of_it_goods):
        with_lines = refund_fact("r1", known, version_at=day(3))
        for at in (day(1), day(3), day(9)):
            by_total = refund_fact("r1", total, version_at=at, provisional=True)
            assert merge(with_lines, by_total) == merge(by_total, with_lines) == with_lines


def test_of_totals_alone_the_newest_counts_and_so_it_is_of_refunds_with_lines() -> None:
    def told(amount: int, on: int, *, provisional: bool) -> Fact:
        return refund_fact("r1", RefundFact("USD", day(1), (), amount), version_at=day(on), provisional=provisional)

    for provisional in (True, False):
        old, new = told(900, 2, provisional=provisional), told(0, 3, provisional=provisional)
        assert merge(old, new) == merge(new, old) == new


@examples(200)
@given(st.permutations(range(4)), st.lists(st.sampled_from(range(4)), max_size=4))
def test_told_in_any_order_and_often_a_refunds_lines_stay(order: list[int], again: list[int]) -> None:
    lines = refund_fact("r1", RefundFact("USD", day(1), (("1", 700),)), version_at=day(2))
    told = [
        lines,
        *(
            refund_fact("r1", RefundFact("USD", day(on), (), 900), version_at=day(on), provisional=True)
            for on in (1, 2, 5)
        ),
    ]

    assert reduce(merge, [told[each] for each in [*order, *again]]) == lines


def test_two_bodies_of_one_order_version_are_marked_until_the_next_version() -> None:
    one, other = an_edit(an_order(*lines(100)), on=day(1)), an_edit(an_order(*lines(200)), on=day(1))
    next_version = an_edit(an_order(*lines(300)), on=day(2))

    both = merge(one, other)

    assert both == replace(max(one, other, key=lambda fact: fact.body_hash), conflicting=True)
    assert merge(both, one).conflicting
    assert merge(other, both).conflicting
    assert merge(both, next_version) == next_version


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(a_refund({"1": 500}), a_refund({"2": 500}), id="refund"),
        pytest.param(a_dispute(1, 4), a_dispute(2, 4), id="dispute"),
        pytest.param(a_hold(1, 4), a_hold(2, 4), id="hold"),
        pytest.param(an_approval(100), an_approval(200), id="decision"),
    ],
)
def test_elsewhere_the_body_is_the_last_part_of_the_version(one: Fact, other: Fact) -> None:
    assert merge(one, other) == max(one, other, key=lambda fact: fact.body_hash)


@pytest.mark.parametrize("kind", FactKind)
def test_every_body_survives_its_row(kind: FactKind) -> None:
    @examples(60)
    @given(BODIES[kind], strategies.times)
    def holds(body: object, at: object) -> None:
        fact = Fact.of(kind, body, key=Milestone.PAID, version_at=at, version_amount=7)  # type: ignore[arg-type] # of this kind

        stored = Fact.stored(
            kind=str(kind),
            key=fact.key,
            version_at=fact.version_at,
            version_amount=fact.version_amount,
            payload=json.loads(fact.text),
            body_hash=fact.body_hash,
            conflicting=False,
        )

        # Its text is only for writing; a row that was read is not written again.
        assert stored == replace(fact, text="")
        assert Fact.of(kind, stored.body, key=fact.key, version_at=day(0)).body_hash == fact.body_hash

    holds()


def test_a_stored_fact_merges_as_a_fresh_one() -> None:
    fresh = an_edit(an_order(), on=day(1))
    stored = Fact.stored(
        kind="order",
        key="",
        version_at=fresh.version_at,
        version_amount=0,
        payload=json.loads(fresh.text),
        body_hash=fresh.body_hash,
        conflicting=True,
    )

    assert merge(stored, fresh).conflicting
    assert merge(fresh, stored).conflicting


def test_the_same_body_written_otherwise_is_no_conflict() -> None:
    body = an_order(a_line(sku="Trà sữa"), touches=[a_coupon()], customer=(("email", "x"), ("phone", "y"))).as_json()
    written = json.dumps(body)
    rewritten = json.dumps(dict(reversed(body.items())), indent=3, ensure_ascii=False)

    one, other = (
        order_fact(OrderSnapshot.of_json(json.loads(text)), version_at=day(1)) for text in (written, rewritten)
    )

    assert written != rewritten
    assert not merge(one, other).conflicting


def test_the_same_instant_under_another_utc_offset_is_no_conflict() -> None:
    hanoi = timezone(timedelta(hours=7))

    there = order_fact(an_order(placed_at=day(0).astimezone(hanoi)), version_at=day(1).astimezone(hanoi))

    assert not merge(an_edit(an_order(), on=day(1)), there).conflicting


def test_a_machine_in_another_time_zone_writes_the_same_body(monkeypatch: pytest.MonkeyPatch) -> None:
    here = an_edit(an_order(), on=day(1)).text

    with monkeypatch.context() as machine:
        machine.setenv("TZ", "Asia/Ho_Chi_Minh")
        time.tzset()
        there = an_edit(an_order(), on=day(1)).text
    time.tzset()

    assert there == here


def test_customer_hashes_in_another_order_are_no_conflict() -> None:
    one = an_edit(an_order(customer=(("email", "x"), ("id", "y"))), on=day(1))
    other = an_edit(an_order(customer=(("id", "y"), ("email", "x"))), on=day(1))

    assert not merge(one, other).conflicting


def test_a_milestone_keeps_its_earliest_time_per_kind() -> None:
    facts = told(
        milestone_fact(Milestone.PAID, day(3)),
        milestone_fact(Milestone.DELIVERED, day(9)),
        milestone_fact(Milestone.PAID, day(2)),
        milestone_fact(Milestone.PAID, day(5)),
    )

    assert facts.milestones == {Milestone.PAID: day(2), Milestone.DELIVERED: day(9)}


def test_facts_about_an_order_never_seen_are_kept_by_key() -> None:
    facts = told(a_refund(100, id="a"), a_refund(200, id="b"), a_hold(id="h"), a_dispute(id="d"), an_approval(5))

    assert facts.snapshot is None
    assert sorted(facts.refunds) == ["a", "b"]
    assert (list(facts.holds), list(facts.disputes), len(facts.decisions)) == (["h"], ["d"], 1)


@pytest.mark.parametrize(
    ("dispute", "refunded"),
    [
        pytest.param(a_dispute(), {}, id="open"),
        pytest.param(a_dispute(3, 5), {}, id="won"),
        pytest.param(a_lost_dispute(amount=700), {"dispute:d1": 700}, id="lost"),
    ],
)
def test_only_a_lost_dispute_is_a_refund(dispute: Fact, refunded: dict[str, int]) -> None:
    refunds = told(dispute).all_refunds()

    assert {key: refund.goods_minor for key, refund in refunds.items()} == refunded


def test_a_lost_dispute_is_refunded_when_it_was_closed_else_when_it_was_opened() -> None:
    unclosed = dispute_fact("d2", DisputeFact(day(4), "EUR", 50, None, DisputeOutcome.LOST), version_at=day(4))

    refunds = told(a_lost_dispute(3, 5, amount=700), unclosed).all_refunds()

    assert refunds == {
        "dispute:d1": RefundFact("USD", day(5), unallocated_minor=700),
        "dispute:d2": RefundFact("EUR", day(4), unallocated_minor=50),
    }


def test_a_shops_own_refund_for_a_lost_dispute_takes_its_place() -> None:
    facts = told(a_lost_dispute(amount=700), a_refund({"1": 650}, id="dispute:d1"), a_refund(50, id="r1"))

    assert {key: refund.goods_minor for key, refund in facts.all_refunds().items()} == {"dispute:d1": 650, "r1": 50}


def test_every_optional_part_of_a_body_may_be_absent() -> None:
    bodies: list[tuple[object, Callable[[dict[str, object]], object]]] = [
        (RefundFact("USD", day(1)), RefundFact.of_json),
        (DisputeFact(day(1), "USD", 5), DisputeFact.of_json),
        (DisputeFact(day(1), "USD", 5, day(2), DisputeOutcome.LOST), DisputeFact.of_json),
        (HoldFact(day(1), "review"), HoldFact.of_json),
        (an_order(touches=[]), OrderSnapshot.of_json),
        (replace(an_order(), country="VN", virtual_minor=500), OrderSnapshot.of_json),
        (told(a_rejection()).decisions.popitem()[1], DecisionFact.of_json),
    ]

    for body, of_json in bodies:
        assert of_json(json.loads(json.dumps(body.as_json()))) == body  # type: ignore[attr-defined] # every body has it


def test_an_order_that_tells_neither_country_nor_virtual_payment_keeps_the_text_it_has_always_had() -> None:
    told_before = {
        *("placed_at", "currency", "lines", "cancelled", "touches", "customer", "number"),
        *("total_minor", "shipping_minor", "tax_minor", "discount_minor"),
    }

    assert an_order().as_json().keys() == told_before
    assert replace(an_order(), country="VN", virtual_minor=1).as_json().keys() - told_before == {
        "country",
        "virtual_minor",
    }
