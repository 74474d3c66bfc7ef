"""What a commission waits for, part by part."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from service.domain.commission import CommissionReason, Places
from service.domain.order import Fact, Milestone
from service.domain.payout import Excluded
from service.domain.settlement import (
    Approval,
    Outlook,
    RollingSettlement,
    Settlement,
    StatementSettlement,
    outlook,
    together,
)
from service.domain.waiting import LeftOut, Owed, Wait, WaitCode, expected_at, waits_for
from tests.domain.builders import a_dispute, a_hold, an_order, day, lines, reached, told, utc

PAID = Milestone.PAID
ORDER = an_order(*lines(100))
ROLLING = RollingSettlement(PAID, 14)
MONTHLY = StatementSettlement(PAID, 7, 31, 1, 20, audit_days=10, objection_days=15)
MANUAL = replace(MONTHLY, approval=Approval.MANUAL)
SILENCE = replace(MONTHLY, approval=Approval.MANUAL, auto_approve_days=60)
PENDING, HELD = Places(100), Places(0, 100)
PAY_DAY = utc("2026-04-20T00:00")
"""Of what is final in March: every order here is placed on the 10th."""


def seen(terms: Settlement, *facts: Fact, approved: bool = False) -> Outlook:
    return outlook(told(ORDER, *facts), terms, approved=approved, time_zone="UTC")


def waits(ahead: Outlook | None, places: Places = PENDING, *, now: datetime | None = None, **more: Any) -> list[Wait]:
    known: dict[str, Any] = {
        "reason": CommissionReason.IN_HOLD_PERIOD,
        "approved_minor": None,
        "settles_at": None if ahead is None else ahead.settles_at,
        "in_payout_minor": 0,
        "paid_minor": 0,
        "owed": None,
        **more,
    }
    return waits_for(ahead, now=now or day(1), places=places, **known)


@pytest.mark.parametrize(
    ("ahead", "places", "now", "expected"),
    [
        pytest.param(seen(ROLLING), PENDING, day(1), [Wait(WaitCode.MILESTONE, milestone=PAID)], id="not paid"),
        pytest.param(seen(ROLLING, reached(PAID)), PENDING, day(1), [Wait(WaitCode.HOLD_PERIOD, day(14))], id="in the hold period"),
        pytest.param(seen(ROLLING, reached(PAID)), PENDING, day(14), [Wait(WaitCode.SETTLEMENT)], id="due"),
        pytest.param(
            seen(MONTHLY, reached(PAID)), PENDING, day(1),
            [Wait(WaitCode.HOLD_PERIOD, day(7)), Wait(WaitCode.STATEMENT, PAY_DAY)], id="on a statement, not final yet",
        ),
        pytest.param(seen(MONTHLY, reached(PAID)), PENDING, day(8), [Wait(WaitCode.STATEMENT, PAY_DAY)], id="final"),
        pytest.param(
            seen(MANUAL, reached(PAID)), PENDING, day(8), [Wait(WaitCode.APPROVAL), Wait(WaitCode.STATEMENT, PAY_DAY)], id="nobody looked",
        ),
        pytest.param(seen(MANUAL, reached(PAID), approved=True), PENDING, day(8), [Wait(WaitCode.STATEMENT, PAY_DAY)], id="approved"),
        pytest.param(seen(SILENCE, reached(PAID)), PENDING, day(50), [Wait(WaitCode.APPROVAL, day(60))], id="silence will do"),
        pytest.param(seen(SILENCE, reached(PAID)), PENDING, day(60), [Wait(WaitCode.SETTLEMENT)], id="silence has done"),
        pytest.param(
            seen(SILENCE), PENDING, day(1), [Wait(WaitCode.MILESTONE, milestone=PAID), Wait(WaitCode.APPROVAL, day(60))],
            id="not paid and nobody looked",
        ),
        pytest.param(
            seen(ROLLING, reached(PAID), a_hold(), a_dispute()), HELD, day(20), [Wait(WaitCode.DISPUTE), Wait(WaitCode.HOLD)], id="frozen twice",
        ),
        pytest.param(
            seen(ROLLING, reached(PAID), a_hold()), HELD, day(4), [Wait(WaitCode.HOLD), Wait(WaitCode.HOLD_PERIOD, day(14))],
            id="held within the hold period",
        ),
    ],
)  # fmt: skip
def test_what_earned_money_waits_for(ahead: Outlook, places: Places, now: datetime, expected: list[Wait]) -> None:
    assert waits(ahead, places, now=now) == expected


@pytest.mark.parametrize(
    ("owed", "expected"),
    [
        pytest.param(Owed(100, 0, 1), Wait(WaitCode.PAYOUT_RUN), id="a run"),
        pytest.param(Owed(100, 50, 150), Wait(WaitCode.PAYOUT_RUN), id="just enough with what was carried"),
        pytest.param(Owed(100, 49, 150), Wait(WaitCode.MINIMUM, short_minor=1), id="below the minimum"),
        pytest.param(Owed(-30, 500, 1), Wait(WaitCode.DEBT, short_minor=30), id="a debt, whatever is carried"),
    ],
)
def test_what_settled_money_waits_for(owed: Owed, expected: Wait) -> None:
    assert waits(seen(ROLLING, reached(PAID)), Places(0, 0, 100), now=day(15), owed=owed) == [expected]


def left_out(reason: Excluded) -> LeftOut:
    return LeftOut(reason, date(2026, 3, 20), day(9), 100)


@pytest.mark.parametrize("reason", Excluded)
def test_what_a_run_left_out_waits_for_the_reason_while_it_may_still_stand(reason: Excluded) -> None:
    over = {
        "in_debt",
        "below_minimum",
        "live_item",
        "other_rail",
        "method_changed",
        "tax_rule_changed",
        "tax_changed",
        "content_changed",
    }
    told = left_out(reason)

    found = waits(seen(ROLLING, reached(PAID)), Places(0, 0, 100), now=day(15), owed=Owed(100, 0, 1, told))

    assert found == [Wait(WaitCode.PAYOUT_RUN) if reason in over else Wait(WaitCode.LEFT_OUT, left_out=told)]


@pytest.mark.parametrize(
    ("payable", "expected"),
    [(-30, Wait(WaitCode.DEBT, short_minor=30)), (90, Wait(WaitCode.MINIMUM, short_minor=60))],
)
def test_what_the_balance_lacks_now_comes_before_what_a_run_found(payable: int, expected: Wait) -> None:
    owed = Owed(payable, 0, 150, left_out(Excluded.NO_PAYOUT_METHOD))

    assert waits(seen(ROLLING, reached(PAID)), Places(0, 0, 100), now=day(15), owed=owed) == [expected]


def test_each_part_waits_for_its_own() -> None:
    found = waits(
        seen(ROLLING, reached(PAID), approved=True),
        Places(40, 0, 60),
        now=day(15),
        approved_minor=60,
        in_payout_minor=50,
        owed=Owed(10, 0, 1),
    )

    assert found == [Wait(WaitCode.APPROVAL), Wait(WaitCode.PAYOUT_RUN), Wait(WaitCode.PAYOUT)]


def test_what_is_paid_or_not_earned_waits_for_nothing() -> None:
    assert waits(seen(ROLLING, reached(PAID)), Places(0, 0, 100), paid_minor=100) == []
    assert waits(None, Places(), reason=CommissionReason.REFUNDED) == []


@pytest.mark.parametrize(
    ("reason", "settles", "expected"),
    [
        (CommissionReason.DISPUTE, day(5), Wait(WaitCode.DISPUTE)),
        (CommissionReason.AWAITING_MILESTONE, None, Wait(WaitCode.MILESTONE)),
        (CommissionReason.AWAITING_APPROVAL, None, Wait(WaitCode.APPROVAL)),
        (CommissionReason.AWAITING_STATEMENT, day(5), Wait(WaitCode.STATEMENT, day(5))),
        (CommissionReason.IN_HOLD_PERIOD, day(5), Wait(WaitCode.HOLD_PERIOD, day(5))),
        (CommissionReason.IN_HOLD_PERIOD, day(0), Wait(WaitCode.SETTLEMENT)),
    ],
)
def test_without_an_outlook_the_reason_has_to_do(
    reason: CommissionReason, settles: datetime | None, expected: Wait
) -> None:
    assert waits(None, reason=reason, settles_at=settles) == [expected]


@pytest.mark.parametrize(
    ("places", "approved", "expected"),
    [
        pytest.param(PENDING, None, day(14), id="pending"),
        pytest.param(PENDING, 0, None, id="nothing is approved"),
        pytest.param(Places(40, 0, 60), 60, None, id="only what is above the approval is left"),
        pytest.param(HELD, None, None, id="held: nobody knows"),
        pytest.param(Places(0, 0, 100), None, None, id="settled"),
    ],
)
def test_when_it_is_expected(places: Places, approved: int | None, expected: datetime | None) -> None:
    assert expected_at(settles_at=day(14), places=places, approved_minor=approved) == expected


@pytest.mark.parametrize(
    "ahead",
    [
        seen(ROLLING),
        seen(SILENCE, reached(PAID), a_hold(), a_dispute()),
        seen(MONTHLY, reached(PAID)),
        seen(replace(MONTHLY, audit_days=None), reached(PAID)),
        seen(MANUAL, reached(PAID), approved=True),
    ],
)
def test_an_outlook_comes_back_as_it_was_kept(ahead: Outlook) -> None:
    assert Outlook.of_json(ahead.as_json()) == ahead


def test_a_pause_that_wants_a_review_is_not_ended_by_silence() -> None:
    terms = RollingSettlement(PAID, 14, Approval.MANUAL, auto_approve_days=20)

    found = outlook(told(ORDER, reached(PAID)), terms, approved=False, reviewed=True, time_zone="UTC")

    assert (found.unapproved, found.auto_approves_at, found.settles_at) == (True, None, None)


def test_a_suspected_buyer_is_waited_for_by_name() -> None:
    found = outlook(told(ORDER, reached(PAID)), ROLLING, approved=False, suspected=True, time_zone="UTC")

    assert waits(found, HELD, now=day(15)) == [Wait(WaitCode.SELF_PURCHASE)]


def test_what_is_of_a_period_stands_where_its_orders_stand() -> None:
    assert waits(None, reason=CommissionReason.PERIOD_BONUS) == [Wait(WaitCode.PERIOD)]


@pytest.mark.parametrize(
    ("parts", "settles", "unapproved"),
    [
        pytest.param([seen(ROLLING, reached(PAID)), seen(MONTHLY, reached(PAID))], PAY_DAY, False, id="the later of two"),
        pytest.param([seen(ROLLING, reached(PAID)), seen(MONTHLY)], None, False, id="a milestone of one is missing"),
        pytest.param([seen(ROLLING, reached(PAID)), seen(SILENCE, reached(PAID))], day(60), True, id="silence of one"),
        pytest.param([seen(SILENCE, reached(PAID)), seen(MANUAL, reached(PAID))], None, True, id="silence of one is not enough"),
    ],
)  # fmt: skip
def test_a_commission_of_several_credits_waits_for_all_of_them(
    parts: list[Outlook], settles: datetime | None, unapproved: bool
) -> None:
    for order in (parts, parts[::-1]):
        found = together(order)
        assert (found.settles_at, found.unapproved) == (settles, unapproved)
        assert Outlook.of_json(found.as_json()) == found
