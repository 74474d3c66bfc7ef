"""What an order earns, the receipt that explains it, and the moves that get there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.assessment import Assessment
from service.domain.commission import (
    CommissionReason,
    CommissionStatus,
    EntryKind,
    Move,
    Place,
    Places,
    Target,
    difference,
    settle_move,
    settleable,
    standing_reason,
    status_of,
)
from service.domain.conditions import Situation
from service.domain.dated import Since
from service.domain.errors import InvariantBroken
from service.domain.order import DecisionKind, Fact, Line, Milestone, NetLine, OrderSnapshot
from service.domain.program import ProgramVersion
from service.domain.quote import quote
from service.domain.rules import Rule
from service.domain.settlement import Approval, RollingSettlement
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    BEN,
    NOBODY,
    PLACED,
    PROGRAM,
    a_coupon,
    a_credit,
    a_decision,
    a_dispute,
    a_hold,
    a_line,
    a_lost_dispute,
    a_refund,
    a_rejection,
    a_shop,
    a_version,
    an_approval,
    an_edit,
    an_order,
    assessed,
    day,
    flat,
    lines,
    percent,
    reached,
    the_target,
    utc,
)
from tests.domain.strategies import examples

MANUAL = RollingSettlement(Milestone.PAID, 14, Approval.MANUAL)
SILENCE = RollingSettlement(Milestone.PAID, 14, Approval.MANUAL, auto_approve_days=20)


def by_hand(receipt: Mapping[str, Any]) -> int:
    """The amount, recomputed from nothing but the receipt's own fields, in decimals as on paper."""
    total = 0
    for line in receipt["lines"]:
        base = line["ordered_minor"] - line["refunded_minor"]
        assert base == line["base_minor"]
        earned = 0
        for part in line["parts"]:
            if base > 0 and part["rate"] is not None:
                share = Decimal(base) * Decimal(part["rate"]) * Decimal("0.01")
                earned = int(share.quantize(Decimal(1), ROUND_HALF_UP))
            elif base > 0:
                earned = min(base, part["flat_minor"])
        assert earned == line["commission_minor"]
        total += earned
    assert total == receipt["sum_of_lines_minor"]
    if receipt["cap_minor"] is not None:
        total = min(total, receipt["cap_minor"])
    return 0 if receipt["voided"] else total


USD, VND, TEN = "USD", "VND", a_version(percent("10"))
MUGS = a_version(percent("20", skus=["MUG"]), flat({"USD": 150}, categories=["tea"]), percent("5"))
ONLY_MUGS = a_version(percent("20", skus=["MUG"]))


@pytest.mark.parametrize(
    ("version", "order", "events", "earned"),
    [
        pytest.param(TEN, an_order(*lines(10_000)), [], 1_000, id="10 percent of 100.00"),
        pytest.param(TEN, an_order(*lines(10_000)), [a_refund(2_500)], 750, id="a quarter came back"),
        pytest.param(TEN, an_order(*lines(10_000)), [a_refund(10_000)], 0, id="all came back"),
        pytest.param(TEN, an_order(*lines(10_000)), [a_refund(99_999)], 0, id="more than all came back"),
        pytest.param(TEN, an_order(*lines(10_000), cancelled=True), [], 0, id="cancelled"),
        pytest.param(TEN, an_order(*lines(10_000), cancelled=True), [a_refund(10_000)], 0, id="cancelled and refunded"),
        pytest.param(TEN, an_order(a_line(1_000), a_line(500, id="s", goods=False)), [], 100, id="carriage earns nothing"),
        pytest.param(TEN, an_order(*lines(0)), [], 0, id="a free order"),
        pytest.param(TEN, an_order(*lines(14)), [], 1, id="1.4 rounds down"),
        pytest.param(TEN, an_order(*lines(15)), [], 2, id="1.5 rounds up"),
        pytest.param(TEN, an_order(*lines(5, 5, 5)), [], 3, id="each line rounds once: three halves are three"),
        pytest.param(TEN, an_order(*lines(4, 4, 4)), [], 0, id="each line rounds once: three times 0.4 is nothing"),
        pytest.param(a_version(percent("50")), an_order(*lines(1)), [], 1, id="half of the smallest unit"),
        pytest.param(a_version(percent("100")), an_order(*lines(777)), [], 777, id="everything"),
        pytest.param(a_version(percent("0")), an_order(*lines(777)), [], 0, id="nothing"),
        pytest.param(MUGS, an_order(a_line(1_000, sku="MUG")), [], 200, id="the mug rule"),
        pytest.param(MUGS, an_order(a_line(1_000, category="tea")), [], 150, id="a flat amount per line"),
        pytest.param(MUGS, an_order(a_line(1_000, sku="MUG", category="tea")), [], 200, id="the first rule that matches"),
        pytest.param(MUGS, an_order(a_line(1_000, sku="HAT")), [], 50, id="the rule for the rest"),
        pytest.param(MUGS, an_order(a_line(100, category="tea")), [], 100, id="a flat amount, never more than the line"),
        pytest.param(
            MUGS, an_order(a_line(1_000, category="tea")), [a_refund(900)], 100, id="a flat amount, never more than what is left"
        ),
        pytest.param(MUGS, an_order(a_line(1_000, category="tea")), [a_refund(1_000)], 0, id="no flat amount for nothing"),
        pytest.param(MUGS, an_order(a_line(1_000, category="tea"), currency="EUR"), [], 0, id="no flat amount in euros"),
        pytest.param(ONLY_MUGS, an_order(a_line(1_000, sku="HAT")), [], 0, id="no rule matches"),
        pytest.param(
            ONLY_MUGS, an_order(a_line(1_000, sku="MUG"), a_line(9_000, id="2", sku="HAT")), [], 200, id="a rule for one line"
        ),
        pytest.param(a_version(percent("10"), cap={"USD": 500}), an_order(*lines(4_999)), [], 500, id="up to the cap"),
        pytest.param(a_version(percent("10"), cap={"USD": 500}), an_order(*lines(90_000)), [], 500, id="capped"),
        pytest.param(
            a_version(percent("10"), cap={"USD": 500}), an_order(*lines(90_000)), [a_refund(10_000)], 500, id="capped after refunds"
        ),
        pytest.param(
            a_version(percent("10"), cap={"USD": 500}), an_order(*lines(9_000), currency="EUR"), [], 900, id="a cap in dollars"
        ),
        pytest.param(a_version(percent("10"), cap={"USD": 0}), an_order(*lines(9_000)), [], 0, id="a cap of nothing"),
        pytest.param(a_version(percent("12")), an_order(*lines(250_000), currency=VND), [], 30_000, id="TikTok Vietnam"),
        pytest.param(
            a_version(percent("12")), an_order(*lines(250_000), currency=VND), [a_refund(50_000, currency=VND)], 24_000,
            id="TikTok Vietnam, 50,000 refunded",
        ),
        pytest.param(a_version(percent("9.10")), an_order(*lines(1_980), currency="CNY"), [], 180, id="Taobao 19.80 at 9.10"),
        pytest.param(
            a_version(percent("5")), an_order(a_line(10_000), a_line(500, id="s", goods=False), currency="CNY"), [], 500,
            id="Taobao 105 with 5 carriage at 5",
        ),
        pytest.param(a_version(percent("20")), an_order(*lines(20_000), currency="CNY"), [], 4_000, id="Douyin 200 at 20"),
        pytest.param(
            a_version(percent("1.5"), cap={VND: 30_000}), an_order(*lines(3_000_000), currency=VND), [], 30_000,
            id="Shopee Vietnam, capped",
        ),
        pytest.param(a_version(percent("12.345")), an_order(*lines(5_124), currency="KWD"), [], 633, id="Kuwaiti thousandths"),
    ],
)  # fmt: skip
def test_what_an_order_earns(version: ProgramVersion, order: OrderSnapshot, events: list[Fact], earned: int) -> None:
    target = the_target(order, *events, shop=a_shop(version))

    assert (target.payee_id, target.currency, target.target_minor) == (ANN, order.currency, earned)
    assert by_hand(target.receipt) == earned
    assert target.receipt["target_minor"] == earned


@examples(200)
@given(
    st.lists(strategies.plain_rules, min_size=1, max_size=3),
    strategies.snapshots,
    st.lists(strategies.refund_facts, max_size=3),
    st.one_of(st.none(), strategies.amounts),
)
def test_a_commission_lies_between_nothing_and_what_is_left_and_its_receipt_proves_it(
    rules: list[Rule], order: OrderSnapshot, refunds: list[Fact], cap: int | None
) -> None:
    shop = a_shop(a_version(*rules, cap=None if cap is None else {"USD": cap, "EUR": cap}))

    outcome = assessed(order, *refunds, shop=shop)

    for target in outcome.targets:
        assert 0 <= target.target_minor <= outcome.net_minor
        assert cap is None or target.target_minor <= cap
        assert by_hand(target.receipt) == target.receipt["target_minor"] == target.target_minor
        assert sum(line["base_minor"] for line in target.receipt["lines"]) == outcome.net_minor


@examples(150)
@given(strategies.rules, st.lists(strategies.lines, min_size=1, max_size=5))
def test_rounding_moves_a_line_by_half_a_minor_unit_at_most(rule: Rule, ordered: list[Line]) -> None:
    nets = [NetLine(line, 0) for line in ordered]

    quoted = quote(a_version(rule), nets, Situation.of(nets, placed_at=PLACED, currency=USD))

    for share in quoted.shares:
        assert abs(share.commission_minor - share.exact) * 2 <= 1


# Which version pays

FIFTEEN = a_version(percent("15"), number=1, since=utc("2026-01-01"))
TWELVE = a_version(percent("12"), number=2, since=utc("2026-03-01"))
EIGHTEEN = a_version(percent("18"), number=3, since=utc("2026-06-01"))


@pytest.mark.parametrize(
    ("placed", "new_here", "version", "earned"),
    [
        pytest.param("2026-02-28T12:00", False, 1, 1_500, id="before the cut"),
        pytest.param("2026-03-01T00:00", False, 1, 1_500, id="1 March: the old hand keeps 15"),
        pytest.param("2026-03-01T00:00", True, 2, 1_200, id="1 March: the newcomer has 12"),
        pytest.param("2026-03-30T23:59", False, 1, 1_500, id="30 March: still 15"),
        pytest.param("2026-03-31T00:00", False, 2, 1_200, id="31 March: 12"),
        pytest.param("2026-06-01T00:00", False, 3, 1_800, id="18 at once, for the old hand"),
        pytest.param("2026-06-01T00:00", True, 3, 1_800, id="18 at once, for the newcomer"),
    ],
)
def test_15_to_12_on_1_march_and_18_later(placed: str, new_here: bool, version: int, earned: int) -> None:
    shop = a_shop(FIFTEEN, TWELVE, EIGHTEEN)
    if new_here:
        shop.enrollments[PROGRAM, ANN] = (Since(utc("2026-03-01"), holds=True),)

    target = the_target(an_order(placed_at=utc(placed)), shop=shop)

    assert (target.program_version, target.target_minor) == (version, earned)
    assert target.receipt["program_version"] == version


def test_the_version_that_gives_most_for_this_very_order_counts() -> None:
    mugs = a_version(percent("20", skus=["MUG"]), percent("1"), number=1, since=day(-50))
    plain = a_version(percent("10"), number=2, since=day(-5))
    shop = a_shop(mugs, plain)

    mug, hat = (the_target(an_order(a_line(1_000, sku=sku)), shop=shop) for sku in ("MUG", "HAT"))

    assert (mug.program_version, mug.target_minor) == (1, 200)
    assert (hat.program_version, hat.target_minor) == (2, 100)
    assert hat.receipt["versions_considered"] == [
        {"version": 2, "standing": "in_force", "total_minor": 100},
        {"version": 1, "standing": "protected", "total_minor": 10},
    ]


def test_of_equals_the_version_in_force_counts() -> None:
    shop = a_shop(a_version(number=1, since=day(-50)), a_version(number=2, since=day(-5)))

    assert the_target(an_order(), shop=shop).program_version == 2


def test_the_receipt_names_everything_needed_to_recompute_it() -> None:
    version = a_version(
        percent("12.5", skus=["MUG"]), flat({"USD": 75}, categories=["tea"]), number=7, cap={"USD": 900}
    )
    order = an_order(a_line(1_999, sku="MUG"), a_line(500, id="2", category="tea"), a_line(100, id="3"))

    receipt = the_target(order, a_refund({"1": 1_000}), shop=a_shop(version)).receipt

    assert receipt == {
        "program_version": 7,
        "versions_considered": [{"version": 7, "standing": "in_force", "total_minor": 200}],
        "currency": "USD",
        "order": {
            "placed_at": order.placed_at.isoformat(), "ordered_minor": 2_599, "left_minor": 1_599, "touch": "coupon",
            "coupon": "ann10", "affiliate_id": str(ANN),
        },
        "base": "net",
        "rounding": "line_half_away_from_zero",
        "lines": [
            {
                "line_id": "1", "sku": "MUG", "category": "", "quantity": "1", "ordered_minor": 1_999,
                "refunded_minor": 1_000, "base_minor": 999, "excluded": False,
                "parts": [
                    {
                        "component": "base", "funder": "merchant", "rule": 0, "rate": "12.5", "flat_minor": None,
                        "per": None, "exact_minor": "999/8",
                        "candidates": [
                            {"rule": 0, "plan": "open", "priority": 0, "exact_minor": "999/8", "standing": "counts"}
                        ],
                    }
                ],
                "exact_minor": "999/8", "commission_minor": 125,
            },
            {
                "line_id": "2", "sku": "", "category": "tea", "quantity": "1", "ordered_minor": 500,
                "refunded_minor": 0, "base_minor": 500, "excluded": False,
                "parts": [
                    {
                        "component": "base", "funder": "merchant", "rule": 1, "rate": None, "flat_minor": 75,
                        "per": "line", "exact_minor": "75",
                        "candidates": [
                            {"rule": 1, "plan": "open", "priority": -1, "exact_minor": "75", "standing": "counts"}
                        ],
                    }
                ],
                "exact_minor": "75", "commission_minor": 75,
            },
            {
                "line_id": "3", "sku": "", "category": "", "quantity": "1", "ordered_minor": 100, "refunded_minor": 0,
                "base_minor": 100, "excluded": False, "parts": [], "exact_minor": "0", "commission_minor": 0,
            },
        ],
        "sum_of_lines_minor": 200,
        "cap_minor": 900,
        "voided": False,
        "target_minor": 200,
        "borne_by": {"merchant": 200},
    }  # fmt: skip


# Why it stands where it stands

Reason = CommissionReason


@pytest.mark.parametrize(
    ("facts", "settlement", "reason"),
    [
        pytest.param([an_order()], None, Reason.AWAITING_MILESTONE, id="not paid yet"),
        pytest.param([an_order(), reached()], None, Reason.IN_HOLD_PERIOD, id="the clock runs"),
        pytest.param([an_order(), reached(), a_dispute()], None, Reason.DISPUTE, id="dispute"),
        pytest.param([an_order(), reached(), a_hold()], None, Reason.HOLD, id="hold"),
        pytest.param([an_order(), a_hold(), a_dispute()], None, Reason.DISPUTE, id="dispute before hold"),
        pytest.param([an_order(), a_refund(5, currency="EUR")], None, Reason.REFUND_CURRENCY, id="refund in euros"),
        pytest.param(
            [an_order(), an_edit(an_order(*lines(7_000)), on=day(0))], None, Reason.CONFLICTING_VERSION, id="two bodies"
        ),
        pytest.param([an_order(), a_refund(10_000)], None, Reason.REFUNDED, id="all came back"),
        pytest.param([an_order(), a_refund(9_999)], None, Reason.REFUNDED, id="so little left that it rounds to nothing"),
        pytest.param([an_order(), a_lost_dispute()], None, Reason.REFUNDED, id="lost in a dispute"),
        pytest.param([an_order(*lines(0))], None, Reason.NO_RULE, id="a free order"),
        pytest.param([an_order(cancelled=True), a_refund(10_000)], None, Reason.CANCELLED, id="cancelled and refunded"),
        pytest.param([an_order(), a_rejection()], None, Reason.REJECTED, id="rejected"),
        pytest.param([an_order(cancelled=True), a_rejection()], None, Reason.REJECTED, id="rejected and cancelled"),
        pytest.param([an_order(), a_rejection(), a_dispute()], None, Reason.REJECTED, id="rejected and disputed"),
        pytest.param([an_order(), reached()], MANUAL, Reason.AWAITING_APPROVAL, id="nobody looked yet"),
        pytest.param([an_order(), reached(), an_approval(1_000)], MANUAL, Reason.IN_HOLD_PERIOD, id="approved"),
        pytest.param([an_order(), an_approval(1_000)], MANUAL, Reason.AWAITING_MILESTONE, id="approved, not paid"),
        pytest.param([an_order(), reached(), an_approval(400)], MANUAL, Reason.ABOVE_APPROVAL, id="approved in part"),
        pytest.param(
            [an_order(), reached(), an_approval(1_000, on=4), a_rejection(on=5)], MANUAL, Reason.REJECTED, id="approved, then not"
        ),
        pytest.param(
            [an_order(), reached(), an_approval(1_000, on=5), a_rejection(on=4)], MANUAL, Reason.IN_HOLD_PERIOD, id="rejected, then not"
        ),
        pytest.param([an_order(), reached(), an_approval(1_000), a_hold()], MANUAL, Reason.HOLD, id="approved and held"),
        pytest.param([an_order(), reached()], SILENCE, Reason.AWAITING_APPROVAL, id="silence has not counted yet"),
        pytest.param([an_order(), reached(), a_hold()], SILENCE, Reason.HOLD, id="silence and a hold"),
        pytest.param([an_order(), reached(), an_approval(1_000)], SILENCE, Reason.IN_HOLD_PERIOD, id="no silence"),
    ],
)  # fmt: skip
def test_the_first_reason_that_is_true(
    facts: list[Fact], settlement: RollingSettlement | None, reason: CommissionReason
) -> None:
    assert the_target(*facts, shop=a_shop(a_version(settlement=settlement))).reason is reason


def test_a_refund_of_a_line_without_a_rule_does_not_explain_an_empty_commission() -> None:
    order = an_order(a_line(1_000, sku="HAT"), a_line(1_000, id="2", sku="CAP"))

    assert the_target(order, a_refund({"1": 1_000}), shop=a_shop(ONLY_MUGS)).reason is Reason.NO_RULE


@pytest.mark.parametrize(
    ("approval", "facts", "approved", "settles"),
    [
        pytest.param(Approval.AUTOMATIC, [reached()], None, day(14), id="not demanded"),
        pytest.param(Approval.MANUAL, [reached()], 0, None, id="demanded, missing: nothing may settle"),
        pytest.param(Approval.MANUAL, [reached(), an_approval(400)], 400, day(14), id="demanded, given"),
        pytest.param(Approval.MANUAL, [reached(), an_approval(400, payee=BEN)], 0, None, id="given to somebody else"),
        pytest.param(Approval.MANUAL, [reached(), an_approval(400, currency="EUR")], 0, None, id="given in euros"),
    ],
)
def test_how_much_may_settle_and_when(
    approval: Approval, facts: list[Fact], approved: int | None, settles: datetime | None
) -> None:
    shop = a_shop(a_version(settlement=RollingSettlement(Milestone.PAID, 14, approval)))

    target = the_target(an_order(), *facts, shop=shop)

    assert (target.approved_minor, target.settles_at) == (approved, settles)


# Several payees and currencies over time


def amounts(outcome: Assessment) -> dict[tuple[object, str], tuple[int, CommissionReason]]:
    return {(each.payee_id, each.currency): (each.target_minor, each.reason) for each in outcome.targets}


def test_an_edit_to_another_currency_moves_the_whole_commission() -> None:
    edit = an_edit(an_order(*lines(9_000), currency="EUR"), on=day(1))

    outcome = assessed(an_order(), edit, known=[(ANN, "USD")])

    assert amounts(outcome) == {
        (ANN, "USD"): (0, Reason.CURRENCY_CHANGED),
        (ANN, "EUR"): (900, Reason.AWAITING_MILESTONE),
    }


def test_another_affiliate_takes_the_whole_commission_over() -> None:
    outcome = assessed(an_order(), a_credit(BEN), known=[(ANN, "USD")])

    assert amounts(outcome) == {
        (ANN, "USD"): (0, Reason.NOT_ATTRIBUTED),
        (BEN, "USD"): (1_000, Reason.AWAITING_MILESTONE),
    }


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param([an_order(), a_credit(None)], Reason.NOT_ATTRIBUTED, id="nobody brought it"),
        pytest.param([an_order(touches=[])], Reason.NOT_ATTRIBUTED, id="the touch was edited away"),
        pytest.param([a_refund(5)], Reason.NOT_ATTRIBUTED, id="no order any more"),
    ],
)
def test_a_commission_nobody_earns_any_more_goes_to_nothing(facts: list[Fact], reason: CommissionReason) -> None:
    assert amounts(assessed(*facts, known=[(ANN, "USD")])) == {(ANN, "USD"): (0, reason)}


def test_credit_to_somebody_without_a_programme_earns_nothing_and_says_why() -> None:
    assert amounts(assessed(an_order(), a_credit(NOBODY))) == {}
    assert amounts(assessed(an_order(), a_credit(NOBODY), known=[(NOBODY, "USD")])) == {
        (NOBODY, "USD"): (0, Reason.NO_TERMS)
    }


def test_credit_for_a_touch_of_a_programme_without_terms_earns_nothing_and_says_why() -> None:
    shop = replace(a_shop(), versions={})

    assessment = assessed(an_order(), a_credit(ANN), shop=shop, known=[(ANN, USD)])

    assert (assessment.attribution.affiliate_id, assessment.attribution.program_id) == (ANN, PROGRAM)
    (target,) = assessment.targets
    assert (target.target_minor, target.reason) == (0, Reason.NO_TERMS)


def test_a_target_names_the_programme_and_the_version_that_pay_it() -> None:
    target = the_target(an_order(), shop=a_shop(a_version(number=7)))

    assert (target.program_id, target.program_version) == (PROGRAM, 7)


def test_a_verdict_speaks_for_one_payee_only() -> None:
    assert the_target(an_order(), a_rejection(payee=BEN)).target_minor == 1_000
    assert amounts(assessed(an_order(), a_rejection(payee=BEN), a_credit(BEN))) == {(BEN, "USD"): (0, Reason.REJECTED)}


def test_an_order_not_seen_yet_earns_nothing() -> None:
    outcome = assessed(a_refund(5), reached())

    assert (outcome.targets, outcome.net_minor, outcome.frozen) == ((), 0, None)


def test_targets_come_sorted_by_payee_and_currency() -> None:
    known = [(BEN, "USD"), (ANN, "VND"), (BEN, "EUR"), (ANN, "EUR")]

    found = [
        (each.payee_id, each.currency) for each in assessed(an_order(touches=[a_coupon("ben10")]), known=known).targets
    ]

    assert found == [(ANN, "EUR"), (ANN, "VND"), (BEN, "EUR"), (BEN, "USD")]


# From what is posted to what should be

ACCRUE, REDUCE, FREEZE, UNFREEZE = EntryKind.ACCRUE, EntryKind.REDUCE, EntryKind.FREEZE, EntryKind.UNFREEZE
EXPENSE, PENDING, HELD, PAYABLE = Place.EXPENSE, Place.PENDING, Place.HELD, Place.PAYABLE


@pytest.mark.parametrize(
    ("now", "target", "frozen", "freezable", "moves", "then"),
    [
        pytest.param((0, 0, 0), 0, False, 0, [], (0, 0, 0), id="nothing to do"),
        pytest.param((70, 0, 30), 100, False, 30, [], (70, 0, 30), id="all is well"),
        pytest.param((0, 0, 0), 100, False, 0, [(ACCRUE, EXPENSE, PENDING, 100)], (100, 0, 0), id="more: to pending"),
        pytest.param((99, 0, 0), 100, False, 0, [(ACCRUE, EXPENSE, PENDING, 1)], (100, 0, 0), id="a cent more"),
        pytest.param((100, 0, 0), 99, False, 0, [(REDUCE, PENDING, EXPENSE, 1)], (99, 0, 0), id="a cent less"),
        pytest.param((0, 0, 0), 100, True, 0, [(ACCRUE, EXPENSE, HELD, 100)], (0, 100, 0), id="more, frozen: to held"),
        pytest.param((0, 0, 50), 80, False, 50, [(ACCRUE, EXPENSE, PENDING, 30)], (30, 0, 50), id="more after settling: to pending"),
        pytest.param((100, 0, 0), 60, False, 0, [(REDUCE, PENDING, EXPENSE, 40)], (60, 0, 0), id="less: out of pending"),
        pytest.param(
            (30, 0, 70), 50, False, 70, [(REDUCE, PENDING, EXPENSE, 30), (REDUCE, PAYABLE, EXPENSE, 20)], (0, 0, 50),
            id="less: pending first, then settled",
        ),
        pytest.param(
            (10, 20, 70), 50, True, 0,
            [(REDUCE, PENDING, EXPENSE, 10), (REDUCE, HELD, EXPENSE, 20), (REDUCE, PAYABLE, EXPENSE, 20)], (0, 0, 50),
            id="less: pending, held, settled",
        ),
        pytest.param((0, 0, 70), 0, False, 0, [(REDUCE, PAYABLE, EXPENSE, 70)], (0, 0, 0), id="all back after it was paid: a debt"),
        pytest.param((100, 0, 0), 100, True, 0, [(FREEZE, PENDING, HELD, 100)], (0, 100, 0), id="freeze pending"),
        pytest.param(
            (60, 0, 40), 100, True, 40, [(FREEZE, PENDING, HELD, 60), (FREEZE, PAYABLE, HELD, 40)], (0, 100, 0),
            id="freeze what was settled and is still here",
        ),
        pytest.param((0, 0, 100), 100, True, 30, [(FREEZE, PAYABLE, HELD, 30)], (0, 30, 70), id="money at a rail is not frozen"),
        pytest.param((0, 0, 100), 100, True, 0, [], (0, 0, 100), id="all of it is at a rail"),
        pytest.param((0, 100, 0), 100, True, 0, [], (0, 100, 0), id="frozen already"),
        pytest.param((0, 100, 0), 100, False, 0, [(UNFREEZE, HELD, PENDING, 100)], (100, 0, 0), id="unfreeze to pending"),
        pytest.param(
            (0, 100, 0), 130, False, 0, [(ACCRUE, EXPENSE, PENDING, 30), (UNFREEZE, HELD, PENDING, 100)], (130, 0, 0),
            id="more and unfreeze",
        ),
        pytest.param(
            (0, 100, 0), 60, False, 0, [(REDUCE, HELD, EXPENSE, 40), (UNFREEZE, HELD, PENDING, 60)], (60, 0, 0),
            id="less and unfreeze",
        ),
        pytest.param(
            (50, 0, 50), 120, True, 50,
            [(ACCRUE, EXPENSE, HELD, 20), (FREEZE, PENDING, HELD, 50), (FREEZE, PAYABLE, HELD, 50)], (0, 120, 0),
            id="more and freeze",
        ),
        pytest.param(
            (0, 0, 100), 60, True, 100, [(REDUCE, PAYABLE, EXPENSE, 40), (FREEZE, PAYABLE, HELD, 60)], (0, 60, 0),
            id="less and freeze: what was taken back cannot be frozen too",
        ),
        pytest.param(
            (0, 0, 100), 60, True, 50, [(REDUCE, PAYABLE, EXPENSE, 40), (FREEZE, PAYABLE, HELD, 10)], (0, 10, 50),
            id="less and freeze, half of it at a rail",
        ),
        pytest.param((0, 0, 100), 0, True, 100, [(REDUCE, PAYABLE, EXPENSE, 100)], (0, 0, 0), id="nothing left to freeze"),
    ],
)  # fmt: skip
def test_the_moves_from_what_is_posted_to_what_should_be(
    *,
    now: tuple[int, int, int],
    target: int,
    frozen: bool,
    freezable: int,
    moves: list[tuple[EntryKind, Place, Place, int]],
    then: tuple[int, int, int],
) -> None:
    found = difference(Places(*now), target_minor=target, frozen=frozen, freezable_minor=freezable)

    assert found == [Move(*move) for move in moves]
    assert Places(*now).after(found) == Places(*then)


@examples(200)
@given(st.lists(st.tuples(strategies.amounts, st.booleans(), strategies.amounts, strategies.amounts), max_size=12))
def test_after_any_history_posted_is_target_and_no_place_is_below_zero(
    history: Sequence[tuple[int, bool, int, int]],
) -> None:
    places = Places()
    for target, frozen, at_a_rail, settled in history:
        here = max(0, places.settled_minor - at_a_rail)
        moves = difference(places, target_minor=target, frozen=frozen, freezable_minor=here)
        before, places = places, places.after(moves)

        assert places.posted_minor == target
        assert min(places.pending_minor, places.held_minor, places.settled_minor) >= 0
        assert all(move.amount_minor > 0 and move.source is not move.destination for move in moves)
        assert not (places.pending_minor if frozen else places.held_minor)
        # Money at a rail leaves `settled` only because less was earned, never because of a freeze.
        assert places.settled_minor >= min(before.settled_minor - here, target)
        again = difference(
            places, target_minor=target, frozen=frozen, freezable_minor=max(0, here - before.settled_minor)
        )
        assert again == []
        if not frozen:
            places = places.after([settle_move(settleable(places, approved_minor=settled))])


def test_a_place_cannot_give_what_it_does_not_have() -> None:
    with pytest.raises(InvariantBroken, match="below zero"):
        Places(10, 0, 0).after([settle_move(11)])
    with pytest.raises(InvariantBroken, match="cannot fall to -1"):
        difference(Places(10, 0, 0), target_minor=-1, frozen=False, freezable_minor=0)


# Settling


@pytest.mark.parametrize(
    ("places", "approved", "amount"),
    [
        pytest.param((100, 0, 0), None, 100, id="not demanded: all"),
        pytest.param((100, 0, 0), 0, 0, id="demanded and missing: nothing"),
        pytest.param((100, 0, 0), 60, 60, id="as far as approved"),
        pytest.param((100, 0, 40), 60, 20, id="what is settled already counts"),
        pytest.param((100, 0, 60), 60, 0, id="used up"),
        pytest.param((100, 0, 90), 60, 0, id="more settled than approved later"),
        pytest.param((10, 0, 0), 60, 10, id="never more than pending"),
        pytest.param((0, 100, 0), 60, 0, id="held money does not settle"),
    ],
)
def test_how_much_a_due_settlement_moves(places: tuple[int, int, int], approved: int | None, amount: int) -> None:
    assert settleable(Places(*places), approved_minor=approved) == amount


def test_settling_moves_from_pending_to_payable_and_is_called_so() -> None:
    assert settle_move(5) == Move(EntryKind.SETTLE, Place.PENDING, Place.PAYABLE, 5)


# The status shown

Status = CommissionStatus


@pytest.mark.parametrize(
    ("target", "places", "reason", "approved", "in_item", "paid", "status"),
    [
        pytest.param(0, (0, 0, 0), Reason.REJECTED, None, 0, 0, Status.REJECTED, id="nothing, by decision"),
        pytest.param(0, (0, 0, 0), Reason.REFUNDED, None, 0, 0, Status.REVERSED, id="nothing, by facts"),
        pytest.param(0, (0, 0, 0), Reason.NOT_ATTRIBUTED, None, 0, 0, Status.REVERSED, id="nothing, it went elsewhere"),
        pytest.param(100, (0, 100, 0), Reason.DISPUTE, None, 0, 0, Status.HELD, id="held"),
        pytest.param(100, (0, 1, 99), Reason.DISPUTE, None, 0, 99, Status.HELD, id="a cent held, the rest paid"),
        pytest.param(100, (100, 0, 0), Reason.AWAITING_APPROVAL, 0, 0, 0, Status.PENDING, id="approval missing"),
        pytest.param(100, (100, 0, 0), Reason.AWAITING_APPROVAL, None, 0, 0, Status.PENDING, id="silence has not counted yet"),
        pytest.param(100, (100, 0, 0), Reason.IN_HOLD_PERIOD, None, 0, 0, Status.APPROVED, id="approval not demanded"),
        pytest.param(100, (100, 0, 0), Reason.IN_HOLD_PERIOD, 100, 0, 0, Status.APPROVED, id="approval given"),
        pytest.param(100, (40, 0, 60), Reason.ABOVE_APPROVAL, 60, 0, 60, Status.PENDING, id="the rest is above the approval"),
        pytest.param(100, (40, 0, 60), Reason.IN_HOLD_PERIOD, 90, 0, 60, Status.APPROVED, id="some of the rest is approved"),
        pytest.param(100, (0, 0, 100), Reason.EARNED, None, 0, 0, Status.PAYABLE, id="settled"),
        pytest.param(100, (0, 0, 100), Reason.EARNED, None, 60, 0, Status.PAYABLE, id="settled, a part in a payout"),
        pytest.param(100, (0, 0, 100), Reason.EARNED, None, 100, 0, Status.IN_PAYOUT, id="in a payout"),
        pytest.param(100, (0, 0, 100), Reason.EARNED, None, 40, 60, Status.IN_PAYOUT, id="in a payout, a part paid"),
        pytest.param(100, (0, 0, 100), Reason.EARNED, None, 0, 100, Status.PAID, id="paid"),
        pytest.param(60, (0, 0, 60), Reason.EARNED, None, 0, 100, Status.PAYABLE, id="paid 100, 40 came back: a debt in payable"),
    ],
)  # fmt: skip
def test_the_status_is_the_first_line_that_is_true(
    *,
    target: int,
    places: tuple[int, int, int],
    reason: CommissionReason,
    approved: int | None,
    in_item: int,
    paid: int,
    status: CommissionStatus,
) -> None:
    found = status_of(
        target_minor=target,
        places=Places(*places),
        reason=reason,
        approved_minor=approved,
        in_item_minor=in_item,
        paid_minor=paid,
    )

    assert found is status


@pytest.mark.parametrize(
    ("target", "places", "reason"),
    [
        pytest.param(100, (0, 0, 100), Reason.EARNED, id="all settled"),
        pytest.param(1, (0, 0, 1), Reason.EARNED, id="a cent settled"),
        pytest.param(100, (1, 0, 99), Reason.IN_HOLD_PERIOD, id="a cent still waits"),
        pytest.param(0, (0, 0, 0), Reason.IN_HOLD_PERIOD, id="nothing earned is not settled"),
    ],
)
def test_once_all_is_settled_nothing_is_waited_for(
    target: int, places: tuple[int, int, int], reason: CommissionReason
) -> None:
    assert standing_reason(Target(ANN, USD, target, Reason.IN_HOLD_PERIOD), Places(*places)) is reason


@pytest.mark.parametrize(
    ("facts", "approved", "settles"),
    [
        pytest.param([], None, day(20), id="silence: all of it, at the deadline"),
        pytest.param([an_approval(400)], 400, day(14), id="a person approved less"),
        pytest.param([an_approval(400, currency="EUR")], None, day(20), id="an approval in euros says nothing here"),
        pytest.param([a_hold()], None, day(20), id="held: the clock is not what keeps it"),
    ],
)
def test_what_silence_lets_through(facts: list[Fact], approved: int | None, settles: datetime) -> None:
    target = the_target(an_order(), reached(), *facts, shop=a_shop(a_version(settlement=SILENCE)))

    assert (target.target_minor, target.approved_minor, target.settles_at) == (1_000, approved, settles)


def test_silence_never_brings_back_what_was_rejected() -> None:
    shop = a_shop(a_version(settlement=SILENCE))

    assert the_target(an_order(), reached(), a_rejection(), shop=shop).target_minor == 0


def test_an_approval_without_an_amount_has_no_limit() -> None:
    target = the_target(
        an_order(), reached(), a_decision(DecisionKind.APPROVE), shop=a_shop(a_version(settlement=MANUAL))
    )

    assert (target.approved_minor, target.settles_at) == (None, day(14))
