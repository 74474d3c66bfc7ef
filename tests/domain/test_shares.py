"""How a commission is divided: agencies, agents, the technical fee, several credits; to the last minor unit."""

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.assessment import Assessment
from service.domain.attribution import Credit
from service.domain.commission import CommissionReason
from service.domain.conditions import Situation
from service.domain.dated import DatedInputs, Membership, Owner, Pause, PauseEffect, Since, Traceable
from service.domain.order import Fact, Line, NetLine, OrderSnapshot
from service.domain.program import AttributionTerms, Model, Precedence, ProgramVersion, TechnicalFee
from service.domain.quote import quote
from service.domain.receipt import differences
from service.domain.rules import Agent, Plan, Rule
from service.domain.shares import Cell, Claim, Division, divide
from service.domain.written import rate_of
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    BEN,
    OTHER_LINK,
    OTHER_PROGRAM,
    PLACED,
    PROGRAM,
    a_click,
    a_coupon,
    a_line,
    a_refund,
    a_rejection,
    a_shop,
    a_version,
    an_approval,
    an_edit,
    an_order,
    assessed,
    day,
    lines,
    percent,
    utc,
)
from tests.domain.strategies import examples

STAR, MOON, AGENT_A, AGENT_B, PLATFORM = (UUID(int=each) for each in (0x51, 0x52, 0x61, 0x62, 0x71))


def commission_of(division: Division) -> int:
    """What a credit's commission comes to, with what others have of it, without fees on top."""
    return sum(
        amount
        for line, amounts in zip(division.lines, division.paid, strict=True)
        for cell, amount in zip(line.cells, amounts, strict=True)
        if not cell.is_on_top
    )


def a_technical_fee(version: ProgramVersion, rate: str = "10", *, payee: UUID = PLATFORM) -> ProgramVersion:
    return replace(version, terms=replace(version.terms, technical_fee=TechnicalFee(payee, rate_of(rate))))


def an_agent(payee: UUID, fee: str, approved: str = "2026-01-01T09:00") -> Agent:
    return Agent(payee, rate_of(fee), utc(approved))


def offered(rate: str, agent: Agent | None = None, **more: Any) -> Rule:
    """An offer of one plan that competes by amount."""
    return percent(rate, agent=agent, priority=0, **more)


def on_the_roster(shop: DatedInputs, share: str, fee: str = "0", *, of: UUID = STAR, who: UUID = ANN) -> DatedInputs:
    shop.roster[who] = (*shop.roster.get(who, ()), Membership(day(-50), of, rate_of(share), rate_of(fee)))
    return shop


def by_payee(outcome: Assessment) -> dict[UUID, int]:
    return {target.payee_id: target.target_minor for target in outcome.targets}


def cost(outcome: Assessment) -> int:
    """What the merchant pays altogether."""
    return sum(target.target_minor for target in outcome.targets)


# Figures from outside: reference/domain.md §1.4 and §7

VND, CNY = "VND", "CNY"


@pytest.mark.parametrize(
    ("whole", "currency", "koc", "agency"),
    [
        pytest.param(30_001, VND, 21_001, 9_000, id="30,001 VND: 21,000.7 and 9,000.3"),
        pytest.param(1_000_000, CNY, 700_000, 300_000, id="MCN: 10,000 yuan"),
    ],
)
def test_golden_an_agency_has_30_percent_of_what_the_koc_earns(
    whole: int, currency: str, koc: int, agency: int
) -> None:
    shop = on_the_roster(a_shop(a_version(percent("100"))), "30")

    outcome = assessed(an_order(a_line(whole), currency=currency), shop=shop)

    assert by_payee(outcome) == {ANN: koc, STAR: agency}


def test_golden_douyin_line_of_200_with_agent_and_technical_fee() -> None:
    version = a_technical_fee(a_version(offered("20", an_agent(AGENT_A, "5"))))

    outcome = assessed(an_order(a_line(20_000), currency=CNY), shop=a_shop(version))

    assert by_payee(outcome) == {ANN: 3_600, AGENT_A: 900, PLATFORM: 500}
    assert cost(outcome) == 5_000


@pytest.mark.parametrize(
    ("rate", "ordered", "koc", "technical"),
    [
        pytest.param("9.10", [a_line(1_980)], 162, 18, id="19.80 at 9.10 percent: 1.80, of which 0.18"),
        pytest.param(
            "5", [a_line(10_000), a_line(500, id="2", goods=False)], 450, 50, id="105 with 5 of carriage at 5 percent"
        ),
    ],
)
def test_golden_taobao_technical_fee(rate: str, ordered: list[Line], koc: int, technical: int) -> None:
    shop = a_shop(a_technical_fee(a_version(percent(rate))))

    outcome = assessed(an_order(*ordered, currency=CNY), shop=shop)

    assert by_payee(outcome) == {ANN: koc, PLATFORM: technical}


def test_a_technical_fee_that_is_new_waits_as_long_as_any_cut() -> None:
    """The machine found it: the version with the fee gives no less before the fee, so it counted at once."""
    before = a_version(percent("10"), since=day(-100))
    with_fee = a_technical_fee(a_version(percent("10"), number=2, since=day(-10)), "50")

    within_notice = assessed(an_order(), shop=a_shop(before, with_fee))
    after_notice = assessed(an_order(placed_at=day(25)), shop=a_shop(before, with_fee))

    assert by_payee(within_notice) == {ANN: 1_000}
    assert by_payee(after_notice) == {ANN: 500, PLATFORM: 500}


def test_a_receipt_with_a_technical_fee_says_what_each_version_leaves() -> None:
    before = a_version(percent("8"), since=day(-100))
    with_fee = a_technical_fee(a_version(percent("10"), number=2, since=day(-10)))

    [ann, _] = assessed(an_order(), shop=a_shop(before, with_fee)).targets

    assert [each["total_minor"] for each in ann.receipt["versions_considered"]] == [900, 800]
    assert differences(ann.receipt, with_fee.terms) == []


A_20, B_22 = offered("20", an_agent(AGENT_A, "5")), offered("22", an_agent(AGENT_B, "3", "2026-01-01T10:00"))
B_20 = offered("20", an_agent(AGENT_B, "3", "2026-01-01T10:00"))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([A_20, B_22], {ANN: 2_200, AGENT_B: 300}, id="the higher rate, and the whole fee to its agent"),
        pytest.param([B_22, A_20], {ANN: 2_200, AGENT_B: 300}, id="in whatever order they are listed"),
        pytest.param([A_20, B_20], {ANN: 2_000, AGENT_A: 500}, id="equal rates: who approved first"),
        pytest.param([B_20, A_20], {ANN: 2_000, AGENT_A: 500}, id="equal rates, listed the other way round"),
        pytest.param(
            [percent("30", plan=Plan.TARGET), A_20, B_22],
            {ANN: 3_000, AGENT_B: 300},
            id="a target plan pays the KOC, the best open agent has the fee",
        ),
        pytest.param(
            [offered("15", an_agent(MOON, "1"), plan=Plan.EXCLUSIVE), A_20, B_22],
            {ANN: 1_500, MOON: 100},
            id="an exclusive plan has its own agent",
        ),
        pytest.param(
            [offered("15", plan=Plan.EXCLUSIVE), A_20], {ANN: 1_500}, id="an exclusive plan without one: no fee"
        ),
        pytest.param([percent("20"), percent("30", plan=Plan.TARGET)], {ANN: 3_000}, id="nobody arranged it"),
    ],
)
def test_golden_agents_compete_for_a_line_of_100(rules: list[Rule], expected: dict[UUID, int]) -> None:
    assert by_payee(assessed(an_order(), shop=a_shop(a_version(*rules)))) == expected


def test_golden_shopee_vietnam_capped_base_and_uncapped_extra() -> None:
    version = a_version(
        percent("1.5", caps_per_line_minor=((VND, 30_000),)), percent("5", component="xtra", funder="brand")
    )

    outcome = assessed(an_order(a_line(3_000_000), currency=VND), shop=a_shop(version))

    [target] = outcome.targets
    assert target.target_minor == 30_000 + 150_000
    assert target.receipt["borne_by"] == {"merchant": 30_000, "brand": 150_000}


def test_s14_a_refund_shrinks_what_everybody_has_of_a_line() -> None:
    shop = on_the_roster(a_shop(a_technical_fee(a_version(percent("20")))), "30", "5")

    whole, half = (by_payee(assessed(an_order(), *back, shop=shop)) for back in ([], [a_refund(5_000)]))

    assert whole == {ANN: 1_260, STAR: 540 + 450, PLATFORM: 250}
    assert half == {payee: amount // 2 for payee, amount in whole.items()}


# One agency a line


def test_the_fee_of_the_own_agency_is_on_top() -> None:
    outcome = assessed(an_order(), shop=on_the_roster(a_shop(), "30", "2.5"))

    assert by_payee(outcome) == {ANN: 700, STAR: 300 + 250}


def test_where_the_own_agency_has_a_share_another_agent_has_nothing() -> None:
    shop = on_the_roster(a_shop(a_version(A_20)), "30")

    assert by_payee(assessed(an_order(), shop=shop)) == {ANN: 1_400, STAR: 600}


def test_an_agency_that_arranged_the_offer_itself_has_its_fee_too() -> None:
    shop = on_the_roster(a_shop(a_version(offered("20", an_agent(STAR, "5")))), "30", "1")

    assert by_payee(assessed(an_order(), shop=shop)) == {ANN: 1_400, STAR: 600 + 100 + 500}


def test_who_left_the_agency_before_the_order_shares_with_nobody() -> None:
    shop = on_the_roster(a_shop(), "30")
    shop.roster[ANN] = (*shop.roster[ANN], Membership(PLACED, None))

    assert by_payee(assessed(an_order(), shop=shop)) == {ANN: 1_000}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(percent("100"), {ANN: 7_000, STAR: 3_000}, id="nothing is left for a fee"),
        pytest.param(percent("99"), {ANN: 6_930, STAR: 2_970 + 100}, id="only one percent is left of five"),
    ],
)
def test_on_top_is_never_more_than_the_goods_leave(rule: Rule, expected: dict[UUID, int]) -> None:
    assert by_payee(assessed(an_order(), shop=on_the_roster(a_shop(a_version(rule)), "30", "5"))) == expected


def test_a_line_that_earns_nothing_pays_no_fees() -> None:
    shop = on_the_roster(a_shop(a_version(offered("10", an_agent(STAR, "5"), skus=["MUG"]))), "30", "5")

    outcome = assessed(an_order(a_line(10_000, sku="MUG"), a_line(10_000, id="2")), shop=shop)

    assert by_payee(outcome) == {ANN: 700, STAR: 300 + 500 + 500}


def test_a_cap_holds_for_the_commission_and_not_for_what_is_on_top() -> None:
    shop = on_the_roster(a_shop(a_version(percent("10"), cap={"USD": 100})), "30", "5")

    assert by_payee(assessed(an_order(), shop=shop)) == {ANN: 70, STAR: 30 + 500}


# Why the others stand where they stand

Reason = CommissionReason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param([an_order(), a_refund(10_000)], Reason.REFUNDED, id="all came back"),
        pytest.param([an_order(cancelled=True)], Reason.CANCELLED, id="cancelled"),
        pytest.param([an_order(), a_rejection()], Reason.REJECTED, id="the affiliate's was rejected"),
        pytest.param(
            [an_order(), an_edit(an_order(touches=[a_coupon("ben10")]), on=day(1))], Reason.NOT_ATTRIBUTED, id="Ben's now"
        ),
        pytest.param(
            [an_order(), an_edit(an_order(currency="EUR"), on=day(1))], Reason.CURRENCY_CHANGED, id="euros now"
        ),
    ],
)  # fmt: skip
def test_whoever_shares_reads_the_reason_the_affiliate_reads(
    facts: list[Fact | OrderSnapshot], reason: CommissionReason
) -> None:
    shop = on_the_roster(a_shop(a_technical_fee(a_version())), "30", "2")
    known = [(payee, "USD") for payee in (ANN, STAR, PLATFORM)]
    if reason is Reason.NOT_ATTRIBUTED:
        # Of Ben's order the platform still has its fee.
        known.pop()

    outcome = assessed(*facts, shop=shop, known=known)

    stands = {(each.payee_id, each.currency): (each.target_minor, each.reason) for each in outcome.targets}
    assert {stands[payee] for payee in known} == {(0, reason)}


def test_an_approval_of_a_part_lets_the_same_part_of_the_others_be_settled() -> None:
    outcome = assessed(an_order(), an_approval(350), shop=on_the_roster(a_shop(), "30"))

    assert {each.payee_id: each.approved_minor for each in outcome.targets} == {ANN: 350, STAR: 150}


def test_an_agencys_commission_can_be_rejected_by_itself() -> None:
    outcome = assessed(an_order(), a_rejection(payee=STAR), shop=on_the_roster(a_shop(), "30"))

    assert {each.payee_id: (each.target_minor, each.reason) for each in outcome.targets} == {
        ANN: (700, Reason.AWAITING_MILESTONE),
        STAR: (0, Reason.REJECTED),
    }


# Several credits

BOTH = (a_coupon("ann10"), a_coupon("ben10"))


def shared(*rules: Rule, **more: Any) -> DatedInputs:
    return a_shop(a_version(*rules, attribution=AttributionTerms(model=Model.LINEAR), **more))


def test_two_who_brought_an_order_share_each_line_to_the_last_unit() -> None:
    outcome = assessed(an_order(*lines(10_010, 10_010), touches=BOTH), shop=shared())

    # 1,001 a line: the odd one goes to the earlier touch, by time and then by code.
    assert by_payee(outcome) == {ANN: 1_002, BEN: 1_000}


def test_each_of_two_has_its_part_of_a_cap() -> None:
    outcome = assessed(an_order(touches=BOTH), shop=shared(percent("10"), cap={"USD": 101}))

    assert by_payee(outcome) == {ANN: 50, BEN: 50}


def test_sales_are_divided_as_the_order_is() -> None:
    outcome = assessed(an_order(touches=BOTH), shop=shared())

    assert [(each.volume_minor, each.is_affiliate) for each in outcome.targets] == [(5_000, True), (5_000, True)]


def test_sales_are_the_affiliates_alone() -> None:
    outcome = assessed(an_order(), shop=on_the_roster(a_shop(), "30"))

    assert {each.payee_id: (each.volume_minor, each.is_affiliate) for each in outcome.targets} == {
        ANN: (10_000, True),
        STAR: (0, False),
    }


def test_the_same_agency_of_both_has_one_commission_with_both_receipts() -> None:
    shop = on_the_roster(on_the_roster(shared(), "30"), "50", who=BEN)

    outcome = assessed(an_order(touches=BOTH), shop=shop)

    assert by_payee(outcome) == {ANN: 350, BEN: 250, STAR: 150 + 250}
    [star] = [each for each in outcome.targets if each.payee_id == STAR]
    assert [each["target_minor"] for each in star.receipt["credits"]] == [150, 250]


@pytest.mark.parametrize("stopped", [PROGRAM, OTHER_PROGRAM])
def test_of_two_programmes_the_one_that_pays_has_the_sales(stopped: UUID) -> None:
    linear = AttributionTerms(model=Model.LINEAR, precedence=Precedence.LATEST)
    shop = a_shop(a_version(attribution=linear))
    shop.versions[OTHER_PROGRAM] = (a_version(program=OTHER_PROGRAM, attribution=linear),)
    shop.enrollments[OTHER_PROGRAM, ANN] = (Since(day(-90), holds=True),)
    shop.links[OTHER_LINK] = Traceable(OTHER_LINK, OTHER_PROGRAM, (Owner(day(-90), ANN),))
    shop.pauses[stopped] = (Pause(day(-1), PauseEffect.STOP),)

    [target] = assessed(an_order(touches=[a_click(), a_click(OTHER_LINK, ref="clk_2")]), shop=shop).targets

    assert (target.target_minor, target.volume_minor) == (500, 5_000)
    assert target.program_id == ({PROGRAM, OTHER_PROGRAM} - {stopped}).pop()


# What holds for all of them

rates = st.sampled_from(["0", "1", "2.5", "9.1", "10", "33.333333", "50", "70", "100"])
memberships = st.none() | st.builds(
    lambda share, fee: Membership(day(-50), STAR, rate_of(share), rate_of(fee)), rates, rates
)
agents = st.none() | st.builds(an_agent, st.sampled_from([AGENT_A, STAR]), rates)
ordered_lines = st.lists(st.integers(0, 5_000), min_size=1, max_size=4).map(lambda nets: lines(*nets))
weights = st.sampled_from([(1,), (1, 1), (2, 1, 2), (1, 1, 1)]).map(
    lambda parts: [Fraction(part, sum(parts)) for part in parts]
)


@st.composite
def claims_of(draw: st.DrawFn) -> list[Claim]:
    """An order credited to one or several, each with its own terms, agency, agent and technical fee."""
    nets = [NetLine(line, draw(st.integers(0, line.net_minor))) for line in draw(ordered_lines)]
    order = Situation.of(nets, placed_at=PLACED, currency="USD")
    found = []
    for number, weight in enumerate(draw(weights)):
        version = a_version(
            percent(draw(rates), agent=draw(agents), priority=0),
            *draw(st.lists(strategies.plain_rules, max_size=1)),
            cap=draw(st.none() | st.integers(0, 3_000).map(lambda most: {"USD": most})),
        )
        if draw(st.booleans()):
            version = a_technical_fee(version, draw(rates))
        credit = Credit(UUID(int=0xA + number), PROGRAM, weight=weight)
        found.append(Claim(credit, (quote(version, nets, order),), draw(memberships)))
    return found


def totals(divisions: Sequence[Division]) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    for division in divisions:
        for payee_id, amount in division.by_payee().items():
            found[payee_id] = found.get(payee_id, 0) + amount
    return found


def cells_by_line(divisions: Sequence[Division]) -> list[list[tuple[Cell, int, int]]]:
    """For each line: (cell, rounded, paid) of everybody."""
    return [
        [
            each
            for division in divisions
            for each in zip(division.lines[place].cells, division.lines[place].minor, division.paid[place], strict=True)
        ]
        for place in range(len(divisions[0].lines))
    ]


@examples(150)
@given(claims_of())
def test_what_payees_have_of_a_line_adds_up_to_the_rounded_whole(claims: list[Claim]) -> None:
    divisions = divide(claims)

    for place, cells in enumerate(cells_by_line(divisions)):
        exact = sum((cell.exact for cell, _, _ in cells), Fraction(0))
        rounded = sum(minor for _, minor, _ in cells)
        # I5: within half a minor unit a line, whoever shares it; and nobody is a whole one away from the exact part.
        assert abs(rounded - exact) * 2 <= 1
        assert all(abs(minor - cell.exact) < 1 for cell, minor, _ in cells)
        assert all(0 <= paid <= minor for _, minor, paid in cells)
        assert exact <= max(claims[0].best.shares[place].line.net_minor, 0)
    assert all(amount >= 0 for amount in totals(divisions).values())


@examples(150)
@given(claims_of())
def test_caps_hold_for_commissions_and_leave_alone_what_is_on_top(claims: list[Claim]) -> None:
    for claim, division in zip(claims, divide(claims), strict=True):
        cap = claim.best.cap_minor
        uncapped = sum(line.commission_minor for line in division.lines)
        if cap is None:
            assert commission_of(division) == uncapped
        else:
            assert commission_of(division) == min(uncapped, int(cap * claim.credit.weight))
        on_top = [
            (minor, paid)
            for line, amounts in zip(division.lines, division.paid, strict=True)
            for cell, minor, paid in zip(line.cells, line.minor, amounts, strict=True)
            if cell.is_on_top
        ]
        assert all(minor == paid for minor, paid in on_top)


@examples(100)
@given(claims_of(), st.randoms(use_true_random=False))
def test_the_order_of_credits_does_not_change_what_the_merchant_pays(claims: list[Claim], dice: random.Random) -> None:
    shuffled = list(claims)
    dice.shuffle(shuffled)
    lines_of = [sum(minor for _, minor, _ in cells) for cells in cells_by_line(divide(claims))]

    again = divide(shuffled)

    assert [sum(minor for _, minor, _ in cells) for cells in cells_by_line(again)] == lines_of
    before = totals(divide(claims))
    # Which of several who are owed a half has the odd unit is a matter of whose touch came first; more than that is not.
    spare = len(claims) * len(lines_of) * 4
    assert all(abs(amount - before[payee_id]) <= spare for payee_id, amount in totals(again).items())


@examples(150)
@given(claims_of())
def test_every_receipt_of_a_division_recomputes(claims: list[Claim]) -> None:
    for division in divide(claims):
        terms = division.claim.best.version.terms
        for payee_id in division.by_payee():
            receipt = division.receipt(payee_id, voided=False)
            # A receipt names its affiliate by the order.
            receipt["order"] |= {"affiliate_id": str(division.claim.credit.affiliate_id)}
            assert [each for each in differences(receipt, terms) if each.pointer != "/order/affiliate_id"] == []


@examples(120)
@given(claims_of(), st.data())
def test_a_refund_raises_no_line_and_no_payees_amount_by_more_than_a_unit_a_line(
    claims: list[Claim], data: st.DataObject
) -> None:
    nets = [share.line for share in claims[0].best.shares]
    back = [replace(net, refunded_minor=data.draw(st.integers(net.refunded_minor, net.line.net_minor))) for net in nets]
    order = Situation.of(back, placed_at=PLACED, currency="USD")
    after = [replace(claim, quotes=(quote(claim.best.version, back, order),)) for claim in claims]

    then, now = divide(claims), divide(after)

    for cells, left in zip(cells_by_line(then), cells_by_line(now), strict=True):
        assert sum(minor for _, minor, _ in left) <= sum(minor for _, minor, _ in cells)
        assert all(minor <= before + 1 for (_, before, _), (_, minor, _) in zip(cells, left, strict=True))
    assert sum(commission_of(division) for division in now) <= sum(commission_of(division) for division in then)
    if all(net.net_minor == 0 for net in back):
        assert set(totals(now).values()) <= {0}


def test_of_three_who_share_a_line_one_may_gain_the_unit_that_another_loses_by_a_refund() -> None:
    # The price of shares that add up to the rounded line (largest remainder), wherever three or more divide it.
    shop = on_the_roster(a_shop(a_technical_fee(a_version(percent("20")))), "30")

    whole, less = (assessed(an_order(a_line(28)), *back, shop=shop) for back in ([], [a_refund(1)]))

    assert by_payee(whole) == {ANN: 4, STAR: 2, PLATFORM: 0}
    assert by_payee(less) == {ANN: 3, STAR: 1, PLATFORM: 1}
