"""What people add and take: adjustments add up with what the rules give, and stop at zero."""

from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.adjustment import adjustments
from service.domain.commission import CommissionReason, Target
from service.domain.order import (
    DecisionFact,
    DecisionKind,
    Fact,
    HoldFact,
    Milestone,
    OrderSnapshot,
    decision_fact,
    hold_fact,
)
from service.domain.receipt import differences
from service.domain.settlement import Approval, RollingSettlement
from tests.domain.builders import (
    ANN,
    BEN,
    a_credit,
    a_hold,
    a_refund,
    a_rejection,
    a_shop,
    a_version,
    an_adjustment,
    an_approval,
    an_order,
    assessed,
    day,
    reached,
    the_target,
    told,
)
from tests.domain.strategies import adjustment_facts, examples, facts

MANUAL = a_shop(a_version(settlement=RollingSettlement(Milestone.PAID, 14, Approval.MANUAL)))
PAID_ON = reached()


def of(payee: UUID, *parts: Fact | OrderSnapshot, currency: str = "USD") -> Target:
    """The target of one payee; the order earns Ann 10.00 USD by the rules."""
    found = [each for each in assessed(*parts).targets if (each.payee_id, each.currency) == (payee, currency)]
    (target,) = found
    return target


@pytest.mark.parametrize(
    ("parts", "target_minor", "reason"),
    [
        pytest.param([an_adjustment(500)], 1_500, "in_hold_period", id="added"),
        pytest.param([an_adjustment(-300)], 700, "in_hold_period", id="taken"),
        pytest.param([an_adjustment(500), an_adjustment(200, id="a2")], 1_700, "in_hold_period", id="add up"),
        pytest.param([an_adjustment(500), an_adjustment(200, on=5)], 1_200, "in_hold_period", id="told again replaces"),
        pytest.param([an_adjustment(-4_000)], 0, "adjusted_by_merchant", id="stops at zero"),
        pytest.param([an_adjustment(-4_000), an_adjustment(3_500, id="a2")], 500, "in_hold_period", id="summed first"),
        pytest.param([an_adjustment(500), a_rejection(on=5)], 0, "rejected_by_merchant", id="rejected after"),
        pytest.param([a_rejection(on=3), an_adjustment(500)], 500, "adjusted_by_merchant", id="given after rejection"),
        pytest.param([a_rejection(on=4), an_adjustment(500)], 0, "rejected_by_merchant", id="of one moment"),
        pytest.param(
            [a_rejection(on=5), an_adjustment(500), an_approval(1_500, on=6)],
            1_500,
            "in_hold_period",
            id="approved again",
        ),
        pytest.param([a_refund(10_000), an_adjustment(500)], 500, "adjusted_by_merchant", id="all came back"),
        pytest.param([an_adjustment(500), an_approval(1_200)], 1_500, "above_approved_amount", id="more than approved"),
        pytest.param([an_adjustment(-300), an_approval(800)], 700, "adjusted_by_merchant", id="less than approved"),
        pytest.param([an_adjustment(500), a_hold()], 1_500, "hold_open", id="held"),
    ],
)
def test_what_an_adjusted_order_earns(parts: list[Fact], target_minor: int, reason: str) -> None:
    target = the_target(an_order(), PAID_ON, *parts)

    assert (target.target_minor, target.reason) == (target_minor, reason)


def test_on_an_order_the_clock_stays_the_orders() -> None:
    added = the_target(an_order(), PAID_ON, an_adjustment(500))
    waiting = the_target(an_order(), an_adjustment(500))

    assert added.settles_at == day(14)
    assert (waiting.settles_at, waiting.reason) == (None, CommissionReason.AWAITING_MILESTONE)


def test_on_a_cancelled_order_an_adjustment_waits_for_nothing() -> None:
    target = the_target(an_order(cancelled=True), an_adjustment(500))

    assert (target.target_minor, target.reason, target.settles_at) == (500, CommissionReason.ADJUSTED, day(4))


def test_a_demanded_approval_is_demanded_of_an_adjusted_order_and_not_after_a_rejection() -> None:
    unapproved = the_target(an_order(), PAID_ON, an_adjustment(500), shop=MANUAL)
    rejected = the_target(an_order(), PAID_ON, a_rejection(on=3), an_adjustment(500), shop=MANUAL)

    assert (unapproved.target_minor, unapproved.reason) == (1_500, CommissionReason.AWAITING_APPROVAL)
    assert (rejected.target_minor, rejected.approved_minor, rejected.settles_at) == (500, None, day(4))


def test_a_bonus_stands_alone_and_is_payable_when_it_was_decided() -> None:
    target = the_target(an_adjustment(2_500, on=7))

    assert (target.payee_id, target.target_minor, target.settles_at) == (ANN, 2_500, day(7))
    assert (target.reason, target.program_id, target.approved_minor) == (CommissionReason.ADJUSTED, None, None)
    assert told(an_adjustment(1)).stands_alone
    assert not told(an_order(), an_adjustment(1)).stands_alone
    assert not told(a_refund(1)).stands_alone


def test_a_rejected_bonus_is_nothing_and_says_why() -> None:
    target = the_target(an_adjustment(2_500), a_rejection(on=5), known=[(ANN, "USD")])

    assert (target.target_minor, target.reason) == (0, CommissionReason.REJECTED)
    assert [each["counts"] for each in target.receipt["adjustments"]] == [False]


def test_a_held_bonus_is_frozen() -> None:
    result = assessed(an_adjustment(2_500), hold_fact("h", HoldFact(day(5), "quality_check"), version_at=day(5)))

    assert (result.frozen, result.targets[0].reason) == ("hold_open", "hold_open")


def test_whom_the_order_is_not_credited_to_may_be_given_something_by_the_orders_clock() -> None:
    parts: list[Fact | OrderSnapshot] = [an_order(), PAID_ON, an_adjustment(300, payee=BEN)]

    assert of(ANN, *parts).target_minor == 1_000
    bens = of(BEN, *parts)
    assert (bens.target_minor, bens.reason, bens.settles_at) == (300, CommissionReason.ADJUSTED, day(14))


def test_an_unapproved_order_keeps_what_another_was_given_by_its_clock_alone() -> None:
    found = assessed(an_order(), PAID_ON, an_adjustment(300, payee=BEN), shop=MANUAL).targets

    assert {each.payee_id: each.settles_at for each in found} == {ANN: None, BEN: day(14)}


def test_an_order_credited_to_nobody_has_no_clock() -> None:
    target = of(BEN, an_order(), a_credit(None), an_adjustment(300, payee=BEN, on=6))

    assert (target.target_minor, target.settles_at) == (300, day(6))


def test_another_currency_makes_a_target_of_its_own() -> None:
    parts: list[Fact | OrderSnapshot] = [an_order(), PAID_ON, an_adjustment(300, currency="EUR")]

    assert of(ANN, *parts).target_minor == 1_000
    assert of(ANN, *parts, currency="EUR").target_minor == 300


def test_the_receipt_lists_adjustments_without_the_note_and_recomputes() -> None:
    decision = DecisionFact(
        DecisionKind.ADJUST,
        day(4),
        "key_desk",
        "goodwill",
        ANN,
        "USD",
        500,
        id="adj_1",
        note="she asked twice",
        evidence=("https://files.example/1",),
    )
    version = a_version()

    receipt = the_target(an_order(), PAID_ON, decision_fact(decision), shop=a_shop(version)).receipt

    assert receipt["adjustments"] == [
        {
            "id": "adj_1",
            "amount_minor": 500,
            "reason_code": "goodwill",
            "decided_at": day(4).isoformat(),
            "counts": True,
        }
    ]
    assert (receipt["rules_minor"], receipt["target_minor"], receipt["borne_by"]) == (1_000, 1_500, {"merchant": 1_500})
    assert differences(receipt, version.terms) == []
    forged = receipt | {"target_minor": 1_600}
    assert [each.pointer for each in differences(forged, version.terms)] == ["/target_minor"]


def test_the_receipt_of_a_bonus_recomputes_without_terms() -> None:
    receipt = the_target(an_adjustment(500), an_adjustment(-100, id="a2")).receipt

    assert (receipt["target_minor"], receipt["borne_by"]) == (400, {"merchant": 400})
    assert differences(receipt, None) == []
    assert [each.pointer for each in differences(receipt | {"target_minor": 1}, None)] == ["/target_minor"]


def test_a_fact_without_the_new_words_reads_and_hashes_as_before() -> None:
    body = {
        "kind": "reject",
        "decided_at": day(1).isoformat(),
        "decided_by": "key_1",
        "reason_code": "because_of_him",
        "payee_id": str(ANN),
        "currency": "USD",
        "amount_minor": None,
    }
    hold = {"opened_at": day(1).isoformat(), "reason_code": "looks_odd", "released_at": None}

    assert DecisionFact.of_json(body).as_json() == body
    assert HoldFact.of_json(hold).as_json() == hold


orders = st.sampled_from([an_order(), an_order(cancelled=True)])


@given(st.lists(st.one_of(adjustment_facts, adjustment_facts, facts), max_size=8), st.randoms(use_true_random=False))
@examples(200)
def test_no_order_of_telling_changes_a_target_and_none_falls_below_zero(given_facts: list[Fact], dice: Random) -> None:
    shuffled = list(given_facts)
    dice.shuffle(shuffled)

    one, other = assessed(*given_facts).targets, assessed(*shuffled, *shuffled[:3]).targets

    assert one == other
    assert all(target.target_minor >= 0 for target in one)
    assert all(target.receipt["target_minor"] == target.target_minor for target in one if target.receipt)
    assert all(sum(target.receipt["borne_by"].values()) == target.target_minor for target in one if target.receipt)


@given(st.lists(adjustment_facts, max_size=6), orders, st.sampled_from([None, 2, 5]))
@examples(200)
def test_a_target_is_what_the_rules_give_and_what_counts_added(
    given_facts: list[Fact], order: OrderSnapshot, rejected_on: int | None
) -> None:
    verdicts = [] if rejected_on is None else [a_rejection(on=rejected_on)]
    alone = {(each.payee_id, each.currency): each.target_minor for each in assessed(order, PAID_ON, *verdicts).targets}

    found = assessed(order, PAID_ON, *verdicts, *given_facts).targets

    for target in found:
        key = (target.payee_id, target.currency)
        counting = [
            each.amount_minor or 0
            for each in adjustments(told(*given_facts)).get(key, [])
            if rejected_on is None or key[0] != ANN or each.decided_at - day(rejected_on) > timedelta()
        ]
        assert target.target_minor == max(0, alone.get(key, 0) + sum(counting))
