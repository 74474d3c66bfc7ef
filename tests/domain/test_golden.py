"""What other programmes document with figures, by our rules: reference/peers.md §4 and reference/domain.md §1 and §7.

docs/golden.md lists every golden test with its source. Splits, schedules and the rate lock are in the files of their own.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction

import pytest

from service.domain.commission import CommissionReason, EntryKind, Move, Place, Places, difference
from service.domain.conditions import (
    AffiliateIn,
    Between,
    ChannelIn,
    CountryIn,
    Customer,
    CustomerIs,
    CustomerKind,
    CustomerMonths,
    OrderAmount,
    Situation,
    TierIn,
    holds,
)
from service.domain.marks import Label
from service.domain.order import Fact, Line, Milestone, NetLine, OrderSnapshot, milestone_fact
from service.domain.rules import Per, Plan, Rule, When, exact_shares
from service.domain.settlement import Approval, RollingSettlement, StatementSettlement, outlook, settles_at
from service.domain.settlement_presets import PRESETS
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    PLACED,
    a_click,
    a_coupon,
    a_line,
    a_lost_dispute,
    a_refund,
    a_rejection,
    a_shop,
    a_version,
    an_approval,
    an_order,
    assessed,
    day,
    flat,
    percent,
    reached,
    the_target,
    told,
    utc,
)

VND, CNY = "VND", "CNY"


def of_one_line(rules: Sequence[Rule], line: Line, *, currency: str = "USD", **known: object) -> Fraction:
    nets = [NetLine(line, 0)]
    order = Situation.of(nets, placed_at=PLACED, currency=currency, **known)  # type: ignore[arg-type] # named by the test
    return sum((part.exact for part in exact_shares(rules, nets, order)[0]), Fraction(0))


# TikTok Shop: domain.md §1.2, §1.3, §7; peers.md §4.3


def test_golden_tiktok_vietnam_takes_back_6000_of_30000_for_a_refund_of_50000() -> None:
    shop = a_shop(a_version(percent("12")))
    order = an_order(a_line(250_000), currency=VND)

    before = the_target(order, shop=shop).target_minor
    after = the_target(order, a_refund(50_000, currency=VND), shop=shop).target_minor
    moves = difference(Places(before), target_minor=after, frozen=False, freezable_minor=0)

    assert (before, after) == (30_000, 24_000)
    assert moves == [Move(EntryKind.REDUCE, Place.PENDING, Place.EXPENSE, 6_000)]


FROM_ADS = When(every=(ChannelIn(frozenset({"ads"})),))
OPEN, TARGET = percent("15"), percent("10", plan=Plan.TARGET, when=When(every=(AffiliateIn(frozenset({ANN})),)))
OPEN_ADS = percent("5", priority=2, when=FROM_ADS)
TARGET_ADS = percent("8", plan=Plan.TARGET, priority=2, when=FROM_ADS)
PARTNER_ADS = percent("12", plan=Plan.EXCLUSIVE, when=FROM_ADS)


@pytest.mark.parametrize(
    ("rules", "channel", "rate"),
    [
        pytest.param([OPEN], "", 15, id="open"),
        pytest.param([OPEN, TARGET], "", 10, id="a target rate overrides the open one, though it is lower"),
        pytest.param([percent("10"), OPEN_ADS], "", 10, id="organic 10 percent"),
        pytest.param([percent("10"), OPEN_ADS], "ads", 5, id="shop ads 5 percent"),
        pytest.param([OPEN, TARGET, OPEN_ADS, TARGET_ADS, PARTNER_ADS], "ads", 12, id="ads: the partner campaign first"),
        pytest.param([OPEN, TARGET, OPEN_ADS, TARGET_ADS], "ads", 8, id="then target ads"),
        pytest.param([OPEN, OPEN_ADS], "ads", 5, id="then open ads"),
        pytest.param([OPEN, TARGET, OPEN_ADS, TARGET_ADS, PARTNER_ADS], "", 10, id="else the standard rate"),
    ],
)  # fmt: skip
def test_golden_tiktok_precedence_of_plans(rules: list[Rule], channel: str, rate: int) -> None:
    label = Label(day(-9), None, channel)

    assert of_one_line(rules, a_line(10_000), affiliate_id=ANN, label=label) == rate * 100


@pytest.mark.parametrize(
    ("preset", "days"),
    [("tiktok_shop_vn_express", 3), ("tiktok_shop_vn", 7), ("tiktok_shop_vn_extended", 15), ("tiktok_shop_us", 15)],
)
def test_golden_tiktok_settlement_periods(preset: str, days: int) -> None:
    [settlement] = [each.settlement for each in PRESETS if each.name == preset]
    delivered = reached(Milestone.DELIVERED, on=0)

    found = settles_at(told(delivered), settlement, approved=False, time_zone="Asia/Ho_Chi_Minh")
    disputed = settles_at(told(delivered, a_lost_dispute(1, 3)), settlement, approved=False, time_zone="UTC")

    assert (found, disputed) == (day(days), day(days + 2))


@pytest.mark.parametrize(
    ("facts", "earned"),
    [
        pytest.param([an_order(cancelled=True)], 0, id="cancelled before shipping"),
        pytest.param([an_order(), a_refund(10_000)], 0, id="refunded in after-sales"),
        pytest.param([an_order(), a_refund(2_500)], 750, id="a partial refund: a partial commission"),
    ],
)
def test_golden_tiktok_no_pay_for_what_came_back(facts: list[Fact | OrderSnapshot], earned: int) -> None:
    assert the_target(*facts).target_minor == earned


# Taobao, JD, Shopee: domain.md §1.3, §7; peers.md §4.3


def test_golden_taobao_a_row_is_a_line_and_each_is_rounded() -> None:
    shop = a_shop(a_version(percent("9.10")))

    rows = the_target(an_order(a_line(1_980), a_line(1_980, id="2"), currency=CNY), shop=shop)
    one = the_target(an_order(a_line(3_960), currency=CNY), shop=shop)

    assert [line["commission_minor"] for line in rows.receipt["lines"]] == [180, 180]
    assert (rows.target_minor, one.target_minor) == (360, 360)


def test_golden_shopee_sellers_of_two_campaigns_the_higher_rate_wins() -> None:
    assert of_one_line([percent("5", priority=0), percent("9", priority=0)], a_line(10_000)) == 900


# Dub: peers.md §4.1


@pytest.mark.parametrize("hold_days", [0, 7, 14, 30, 60, 90])
def test_golden_dub_hold_days(hold_days: int) -> None:
    found = settles_at(told(reached()), RollingSettlement(Milestone.PAID, hold_days), approved=False, time_zone="UTC")

    assert found == day(hold_days)


@pytest.mark.parametrize(
    ("rule", "line", "earned"),
    [
        pytest.param(flat({"USD": 500}, per=Per.UNIT), a_line(9_000, quantity="3"), 1_500, id="flat times quantity"),
        pytest.param(percent("33"), a_line(999), 330, id="percent to the nearest cent: 3.2967"),
        pytest.param(percent("12.5"), a_line(1_004), 126, id="percent to the nearest cent: a half is rounded up"),
        pytest.param(percent("10"), a_line(0), 0, id="a free sale"),
    ],
)
def test_golden_dub_a_sale_reward(rule: Rule, line: Line, earned: int) -> None:
    assert the_target(an_order(line), shop=a_shop(a_version(rule))).target_minor == earned


FIRST_SALE, YEAR, FOR_EVER = When((CustomerIs(CustomerKind.NEW),)), When((CustomerMonths(12),)), When()


@pytest.mark.parametrize(
    ("when", "first_order_at", "earns"),
    [
        pytest.param(FIRST_SALE, None, True, id="0 months: the first sale"),
        pytest.param(FIRST_SALE, day(-1), False, id="0 months: no other"),
        pytest.param(YEAR, None, True, id="12 months: the first sale"),
        pytest.param(YEAR, PLACED - timedelta(days=364), True, id="12 months: the last day"),
        pytest.param(YEAR, PLACED - timedelta(days=365), False, id="12 months: over"),
        pytest.param(FOR_EVER, datetime(2001, 1, 1, tzinfo=PLACED.tzinfo), True, id="empty: for ever"),
    ],
)
def test_golden_dub_duration_in_months(when: When, first_order_at: datetime | None, earns: bool) -> None:
    customer = Customer(first_order_at=first_order_at, is_known=True)

    earned = of_one_line([percent("10", when=when)], a_line(10_000), customer=customer)

    assert earned == (1_000 if earns else 0)


def test_golden_dub_modifiers_are_all_or_any_and_a_missing_field_is_false() -> None:
    line = a_line(10_000)
    both = When(every=(CountryIn(frozenset({"US"})), OrderAmount(Between((("USD", 5_000),)))))
    either = When(some=(CountryIn(frozenset({"US"})), OrderAmount(Between((("USD", 5_000),)))))
    rules = [percent("10", priority=0), percent("20", priority=0, when=both), percent("15", priority=0, when=either)]

    def earned(country: str) -> int:
        return int(of_one_line(rules, line, customer=Customer(country)))

    # Of the groups that hold, the one that gives most counts.
    assert (earned("US"), earned("VN"), earned("")) == (2_000, 1_500, 1_500)
    nobody = Situation.of([NetLine(line, 0)], placed_at=PLACED, currency="USD")
    assert not holds(TierIn(frozenset({"gold"})), NetLine(line, 0), nobody)


# Awin: peers.md §4.2


@pytest.mark.parametrize(
    ("facts", "earned", "may_settle", "reason"),
    [
        pytest.param([], 1_000, 0, CommissionReason.AWAITING_APPROVAL, id="pending"),
        pytest.param([an_approval(1_000)], 1_000, 1_000, CommissionReason.IN_HOLD_PERIOD, id="approved"),
        pytest.param([an_approval(600)], 1_000, 600, CommissionReason.ABOVE_APPROVAL, id="commission amended to 6.00"),
        pytest.param(
            [a_refund(2_500), an_approval(750)], 750, 750, CommissionReason.IN_HOLD_PERIOD, id="sale amended to 75.00"
        ),
        pytest.param([a_rejection()], 0, 0, CommissionReason.REJECTED, id="declined"),
    ],
)
def test_golden_awin_a_sale_is_approved_amended_or_declined(
    facts: list[Fact | OrderSnapshot], earned: int, may_settle: int, reason: CommissionReason
) -> None:
    shop = a_shop(a_version(settlement=RollingSettlement(Milestone.PAID, 14, Approval.MANUAL)))

    [target] = assessed(an_order(), reached(), *facts, shop=shop).targets

    assert (target.target_minor, target.approved_minor or 0, target.reason) == (earned, may_settle, reason)


def test_golden_awin_validates_by_itself_after_at_most_67_days() -> None:
    terms = RollingSettlement(Milestone.PAID, 0, Approval.MANUAL, auto_approve_days=67)
    facts = told(an_order(), reached())

    found = outlook(facts, terms, approved=False, reviewed=False, suspected=False, time_zone="UTC")

    assert found.settles_at == day(67)


# impact.com: peers.md §4.2


@pytest.mark.parametrize(
    ("months_after", "pay_day", "expected"),
    [
        pytest.param(1, 31, "2027-02-28", id="January's actions lock on 28 February"),
        pytest.param(2, 1, "2027-03-01", id="the statement is of 1 March"),
        pytest.param(2, 20, "2027-03-20", id="it is debited on 20 March"),
        pytest.param(2, 15, "2027-03-15", id="Net-45: 15 days after they were locked"),
    ],
)
@pytest.mark.parametrize("acted", ["2027-01-01T00:00", "2027-01-17T09:30", "2027-01-31T23:59"])
def test_golden_impact_lock_date_and_what_follows(months_after: int, pay_day: int, expected: str, acted: str) -> None:
    terms = StatementSettlement(Milestone.PAID, 0, cut_off_day=31, months_after=months_after, pay_day=pay_day)

    found = settles_at(told(milestone_fact(Milestone.PAID, utc(acted))), terms, approved=False, time_zone="UTC")

    assert found == utc(f"{expected}T00:00")


# UpPromote: peers.md §4.2


def test_golden_uppromote_a_link_and_a_coupon_of_one_koc_pay_once_and_of_two_the_coupons_owner() -> None:
    once, other = (assessed(an_order(touches=[a_click(ANNS_LINK), a_coupon(code)])) for code in ("ann10", "ben10"))

    assert [(target.payee_id, target.target_minor) for target in once.targets] == [(ANN, 1_000)]
    assert [(target.payee_id, target.target_minor) for target in other.targets] == [(BEN, 1_000)]
