"""Who brought an order, and why not the others."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.attribution import Attribution, Candidate, Reason, attribute, identity_key
from service.domain.dated import DatedInputs, Owner, Since, Traceable
from service.domain.order import Fact, OrderSnapshot, Touch
from service.domain.program import AttributionTerms, Model, Precedence, SelfPurchase
from tests.domain import strategies
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    BENS_LINK,
    NOBODY,
    OTHER_LINK,
    OTHER_PROGRAM,
    PROGRAM,
    a_click,
    a_coupon,
    a_credit,
    a_shop,
    a_version,
    an_edit,
    an_order,
    day,
    told,
)
from tests.domain.strategies import examples

ANNS_CUSTOMER = (("email", "hash-of-ann"),)


def attributed(
    *touches: Touch,
    shop: DatedInputs | None = None,
    customer: tuple[tuple[str, str], ...] = (),
    facts: Sequence[Fact] = (),
) -> Attribution:
    return attribute(told(an_order(touches=touches, customer=customer), *facts), shop or a_shop(), {})


def reasons(outcome: Attribution) -> list[Reason]:
    return [candidate.reason for candidate in outcome.candidates]


def shop_where(**change: object) -> DatedInputs:
    """A shop with one thing otherwise."""
    return replace(a_shop(), **change)  # type: ignore[arg-type] # fields of DatedInputs


@pytest.mark.parametrize(
    ("touch", "shop", "reason"),
    [
        pytest.param(a_click(), a_shop(), Reason.WON, id="a click"),
        pytest.param(a_coupon(), a_shop(), Reason.WON, id="a coupon"),
        pytest.param(a_click(None), a_shop(), Reason.BAD_SIGNATURE, id="a click id that is not ours"),
        pytest.param(a_click(OTHER_LINK), a_shop(), Reason.UNKNOWN_LINK, id="a link we do not know"),
        pytest.param(a_coupon("nope"), a_shop(), Reason.UNKNOWN_COUPON, id="a coupon we do not know"),
        pytest.param(
            a_coupon(),
            shop_where(coupons={"ann10": Traceable(UUID(int=1), PROGRAM, (Owner(day(1), ANN),))}),
            Reason.NO_OWNER,
            id="a coupon nobody owned yet",
        ),
        pytest.param(
            a_click(on=day(-2)),
            shop_where(links={ANNS_LINK: Traceable(ANNS_LINK, PROGRAM, (Owner(day(-1), ANN),))}),
            Reason.NO_OWNER,
            id="a click before the link had an owner",
        ),
        pytest.param(a_click(), shop_where(approvals={}), Reason.NOT_APPROVED, id="never approved"),
        pytest.param(
            a_click(),
            shop_where(approvals={ANN: (Since(day(-50), True), Since(day(0), False))}),
            Reason.NOT_APPROVED,
            id="approval withdrawn at that moment",
        ),
        pytest.param(a_click(), shop_where(enrollments={}), Reason.NOT_ENROLLED, id="not in the programme"),
        pytest.param(
            a_coupon(),
            shop_where(enrollments={(PROGRAM, ANN): (Since(day(-50), True), Since(day(-1), False))}),
            Reason.NOT_ENROLLED,
            id="left the programme the day before",
        ),
        pytest.param(a_click(), shop_where(versions={}), Reason.NO_TERMS, id="no version at all"),
        pytest.param(a_click(), a_shop(a_version(since=day(1))), Reason.NO_TERMS, id="the first version begins later"),
        pytest.param(a_click(on=day(0)), a_shop(), Reason.WON, id="a click in the very moment"),
        pytest.param(a_click(on=day(0, seconds=1)), a_shop(), Reason.AFTER_ORDER, id="a click one second late"),
        pytest.param(a_click(on=day(-30)), a_shop(), Reason.WON, id="a click at the edge of the window"),
        pytest.param(
            a_click(on=day(-30, seconds=-1)), a_shop(), Reason.OUTSIDE_WINDOW, id="a click a second before it"
        ),
        pytest.param(a_click(on=day(-8)), a_shop(window_days=7), Reason.OUTSIDE_WINDOW, id="a shorter window"),
        pytest.param(a_click(on=day(0)), a_shop(window_days=0), Reason.WON, id="no window, the very moment"),
    ],
)
def test_one_touch_alone(touch: Touch, shop: DatedInputs, reason: Reason) -> None:
    outcome = attributed(touch, shop=shop)

    assert reasons(outcome) == [reason]
    assert outcome.reason is (Reason.WON if reason is Reason.WON else Reason.NO_CANDIDATE)
    assert outcome.affiliate_id == (ANN if reason is Reason.WON else None)
    assert outcome.program_id == (PROGRAM if reason is Reason.WON else None)


NOBODYS = (Owner(day(1), ANN),)


@pytest.mark.parametrize(
    ("touch", "shop", "candidate"),
    [
        pytest.param(a_click(None), a_shop(), Candidate(a_click(None), Reason.BAD_SIGNATURE), id="an unreadable click"),
        pytest.param(
            replace(a_click(), at=None),
            a_shop(),
            Candidate(replace(a_click(), at=None), Reason.BAD_SIGNATURE),
            id="a click without its time",
        ),
        pytest.param(
            replace(a_click(), link_id=None),
            a_shop(),
            Candidate(replace(a_click(), link_id=None), Reason.BAD_SIGNATURE),
            id="a click without its link",
        ),
        pytest.param(
            a_click(OTHER_LINK),
            a_shop(),
            Candidate(a_click(OTHER_LINK), Reason.UNKNOWN_LINK, day(-1)),
            id="an unknown link: when it was clicked",
        ),
        pytest.param(
            a_coupon("nope"),
            a_shop(),
            Candidate(a_coupon("nope"), Reason.UNKNOWN_COUPON, day(0)),
            id="an unknown coupon: when it was used",
        ),
        pytest.param(
            a_click(),
            shop_where(links={ANNS_LINK: Traceable(ANNS_LINK, PROGRAM, NOBODYS)}),
            Candidate(a_click(), Reason.NO_OWNER, day(-1), program_id=PROGRAM),
            id="nobody's link: when and in which programme",
        ),
        pytest.param(
            a_coupon(),
            shop_where(coupons={"ann10": Traceable(UUID(int=1), PROGRAM, NOBODYS)}),
            Candidate(a_coupon(), Reason.NO_OWNER, day(0), program_id=PROGRAM),
            id="nobody's coupon: when and in which programme",
        ),
        pytest.param(
            a_click(),
            shop_where(approvals={}),
            Candidate(a_click(), Reason.NOT_APPROVED, day(-1), ANN, PROGRAM),
            id="a known owner: all of it",
        ),
    ],
)
def test_a_touch_that_lost_says_as_much_as_could_be_read_of_it(
    touch: Touch, shop: DatedInputs, candidate: Candidate
) -> None:
    assert attributed(touch, shop=shop).candidates == (candidate,)


def test_an_order_without_touches_says_so() -> None:
    assert attributed().reason is Reason.NO_TOUCH
    assert attribute(told(), a_shop(), {}).reason is Reason.NO_TOUCH


EARLY_CLICK, LATE_CLICK, COUPON = (
    a_click(ANNS_LINK, on=day(-5)),
    a_click(BENS_LINK, on=day(-1), ref="clk_2"),
    a_coupon("ann10"),
)
COUPON_FIRST, CLICK_FIRST = Precedence.COUPON, Precedence.CLICK
LATEST = Precedence.LATEST
LAST, FIRST = Model.LAST, Model.FIRST


@pytest.mark.parametrize(
    ("precedence", "model", "winner", "why"),
    [
        pytest.param(
            COUPON_FIRST, LAST, 2, {0: Reason.OTHER_KIND_FIRST, 1: Reason.OTHER_KIND_FIRST}, id="coupon first, last"
        ),
        pytest.param(
            COUPON_FIRST, FIRST, 2, {0: Reason.OTHER_KIND_FIRST, 1: Reason.OTHER_KIND_FIRST}, id="coupon first, first"
        ),
        pytest.param(CLICK_FIRST, LAST, 1, {0: Reason.NOT_LAST, 2: Reason.OTHER_KIND_FIRST}, id="click first, last"),
        pytest.param(CLICK_FIRST, FIRST, 0, {1: Reason.NOT_FIRST, 2: Reason.OTHER_KIND_FIRST}, id="click first, first"),
        pytest.param(LATEST, LAST, 2, {0: Reason.NOT_LAST, 1: Reason.NOT_LAST}, id="only time, last"),
        pytest.param(LATEST, FIRST, 0, {1: Reason.NOT_FIRST, 2: Reason.NOT_FIRST}, id="only time, first"),
    ],
)
def test_precedence_decides_the_kind_and_the_model_which_end_of_time(
    precedence: Precedence, model: Model, winner: int, why: dict[int, Reason]
) -> None:
    shop = a_shop(precedence=precedence, model=model)

    outcome = attributed(EARLY_CLICK, LATE_CLICK, COUPON, shop=shop)

    assert dict(enumerate(reasons(outcome))) == why | {winner: Reason.WON}
    assert outcome.affiliate_id == [ANN, BEN, ANN][winner]


@pytest.mark.parametrize("precedence", Precedence)
@pytest.mark.parametrize("model", [LAST, FIRST])
def test_a_kind_that_is_absent_leaves_the_choice_to_the_other(precedence: Precedence, model: Model) -> None:
    shop = a_shop(precedence=precedence, model=model)

    assert attributed(EARLY_CLICK, LATE_CLICK, shop=shop).affiliate_id == (BEN if model is LAST else ANN)
    assert attributed(a_coupon("ben10"), shop=shop).affiliate_id == BEN


@pytest.mark.parametrize(("model", "winner"), [(LAST, BEN), (FIRST, ANN)])
def test_a_shop_that_lists_the_latest_touch_first_gets_the_same_answer(model: Model, winner: UUID) -> None:
    shop = a_shop(precedence=LATEST, model=model)

    assert attributed(EARLY_CLICK, LATE_CLICK, shop=shop).affiliate_id == winner
    assert attributed(LATE_CLICK, EARLY_CLICK, shop=shop).affiliate_id == winner


def test_a_touch_that_may_not_earn_does_not_stand_in_anybodys_way() -> None:
    shop = shop_where(approvals={ANN: (Since(day(-90), True),)})

    outcome = attributed(EARLY_CLICK, LATE_CLICK, a_coupon("nope"), shop=shop)

    assert reasons(outcome) == [Reason.WON, Reason.NOT_APPROVED, Reason.UNKNOWN_COUPON]


def test_the_latest_touchs_programme_says_how_to_choose() -> None:
    shop = a_shop(precedence=LATEST, model=FIRST)
    shop.versions[OTHER_PROGRAM] = (
        a_version(program=OTHER_PROGRAM, attribution=AttributionTerms(precedence=LATEST, model=LAST)),
    )
    shop.links[OTHER_LINK] = Traceable(OTHER_LINK, OTHER_PROGRAM, (Owner(day(-90), BEN),))
    shop.enrollments[OTHER_PROGRAM, BEN] = (Since(day(-90), True),)

    latest_in_the_other = attributed(EARLY_CLICK, a_click(OTHER_LINK, on=day(-1), ref="clk_9"), shop=shop)
    latest_in_the_first = attributed(EARLY_CLICK, a_click(OTHER_LINK, on=day(-9), ref="clk_9"), shop=shop)

    assert (latest_in_the_other.affiliate_id, latest_in_the_other.program_id) == (BEN, OTHER_PROGRAM)
    assert (latest_in_the_first.affiliate_id, latest_in_the_first.program_id) == (BEN, OTHER_PROGRAM)
    assert reasons(latest_in_the_first) == [Reason.NOT_FIRST, Reason.WON]


def test_the_terms_are_those_in_force_when_the_order_was_placed() -> None:
    wide, narrow = AttributionTerms(window_days=30), AttributionTerms(window_days=1)
    touch = a_click(on=day(-5))

    before = a_shop(
        a_version(number=1, attribution=wide), a_version(number=2, since=day(0, seconds=1), attribution=narrow)
    )
    after = a_shop(a_version(number=1, attribution=wide), a_version(number=2, since=day(0), attribution=narrow))

    assert reasons(attributed(touch, shop=before)) == [Reason.WON]
    assert reasons(attributed(touch, shop=after)) == [Reason.OUTSIDE_WINDOW]


def test_a_coupon_belongs_to_its_owner_when_the_order_was_placed_and_a_link_when_it_was_clicked() -> None:
    moved = (Owner(day(-90), ANN), Owner(day(-1), BEN))
    shop = a_shop()
    shop.coupons["ann10"] = Traceable(UUID(int=1), PROGRAM, moved)
    shop.links[ANNS_LINK] = Traceable(ANNS_LINK, PROGRAM, moved)

    assert attributed(a_coupon(), shop=shop).affiliate_id == BEN
    assert attributed(a_click(on=day(-2)), shop=shop).affiliate_id == ANN
    assert attributed(a_click(on=day(-1)), shop=shop).affiliate_id == BEN


def test_an_owner_recorded_later_changes_no_order_placed_before() -> None:
    shop = a_shop()
    today = attributed(a_coupon(), a_click(), shop=shop)
    shop.coupons["ann10"] = replace(shop.coupons["ann10"], owners=(*shop.coupons["ann10"].owners, Owner(day(1), BEN)))
    shop.links[ANNS_LINK] = replace(shop.links[ANNS_LINK], owners=(*shop.links[ANNS_LINK].owners, Owner(day(1), BEN)))

    assert attributed(a_coupon(), a_click(), shop=shop) == today


# Self-purchase


@pytest.mark.parametrize(
    ("rule", "customer", "reason"),
    [
        pytest.param(SelfPurchase.REJECT, ANNS_CUSTOMER, Reason.SELF_PURCHASE, id="the same e-mail"),
        pytest.param(
            SelfPurchase.REJECT,
            (("email", "x"), ("phone", "hash-of-ann")),
            Reason.WON,
            id="the same hash as another kind",
        ),
        pytest.param(SelfPurchase.REJECT, (("email", "x"),), Reason.WON, id="another person"),
        pytest.param(SelfPurchase.REJECT, (), Reason.WON, id="a guest without e-mail"),
        pytest.param(SelfPurchase.ALLOW, ANNS_CUSTOMER, Reason.WON, id="allowed"),
    ],
)
def test_buying_from_oneself(rule: SelfPurchase, customer: tuple[tuple[str, str], ...], reason: Reason) -> None:
    assert reasons(attributed(a_coupon(), shop=a_shop(self_purchase=rule), customer=customer)) == [reason]


@pytest.mark.parametrize(
    ("customer", "reason"),
    [
        pytest.param((("address", "office"), ("email", "x")), Reason.SELF_PURCHASE, id="the second address"),
        pytest.param((("address", "elsewhere"), ("payment", "card")), Reason.SELF_PURCHASE, id="her card"),
        pytest.param((("address", "card"), ("payment", "home")), Reason.WON, id="each as the other kind"),
        pytest.param((("address", "elsewhere"),), Reason.WON, id="another address"),
    ],
)
def test_of_several_identities_of_a_kind_one_is_enough(customer: tuple[tuple[str, str], ...], reason: Reason) -> None:
    known = (("address", "home"), ("address", "office"), ("payment", "card"))

    assert reasons(attributed(a_coupon(), shop=shop_where(identities={ANN: known}), customer=customer)) == [reason]


def test_an_affiliate_of_whom_nothing_is_known_is_not_the_customer() -> None:
    outcome = attributed(a_coupon(), shop=shop_where(identities={}), customer=ANNS_CUSTOMER)

    assert reasons(outcome) == [Reason.WON]
    assert list(outcome.identities.values()) == [False]


def test_ones_own_purchase_leaves_the_order_to_somebody_else() -> None:
    outcome = attributed(a_coupon("ann10"), LATE_CLICK, customer=ANNS_CUSTOMER)

    assert outcome.affiliate_id == BEN
    assert reasons(outcome) == [Reason.SELF_PURCHASE, Reason.WON]


@pytest.mark.parametrize("matched", [True, False])
def test_an_identity_is_compared_once_and_then_only_read(matched: bool) -> None:
    customer = ANNS_CUSTOMER if matched else (("email", "x"),)
    first = attributed(a_coupon(), customer=customer)
    # Ann is erased, or takes the customer's address as her own: neither changes what was found.
    later = shop_where(identities={} if matched else {ANN: customer})

    again = attribute(told(an_order(customer=customer)), later, first.identities)

    assert first.identities == {identity_key(ANN, customer): matched}
    assert again == first


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([], id="only events about it have come"),
        pytest.param([an_order(touches=[])], id="it has no touch"),
        pytest.param([an_order(touches=[a_coupon("nope")])], id="nobody may earn it"),
        pytest.param([an_order()], id="somebody earned it"),
        pytest.param([an_order(), a_credit(BEN)], id="a person decided"),
    ],
)
def test_a_comparison_once_stored_is_never_lost(facts: list[Fact | OrderSnapshot]) -> None:
    stored = {identity_key(ANN, ANNS_CUSTOMER): True}

    assert attribute(told(*facts), a_shop(), stored).identities == stored


def test_another_customer_is_another_comparison() -> None:
    first = attributed(a_coupon(), customer=(("email", "x"),))

    edited = attribute(told(an_order(customer=ANNS_CUSTOMER)), a_shop(), first.identities)

    assert reasons(edited) == [Reason.SELF_PURCHASE]
    assert len(edited.identities) == 2


def test_a_stored_comparison_is_found_whatever_order_the_hashes_come_in() -> None:
    one, other = (("email", "x"), ("phone", "y")), (("phone", "y"), ("email", "x"))

    assert identity_key(ANN, one) == identity_key(ANN, other)


def test_a_comparison_stored_by_an_earlier_release_is_still_found() -> None:
    key = identity_key(ANN, (("phone", "y"), ("email", "x")))

    assert key == "00000000-0000-0000-0000-00000000000a:email=x,phone=y"


# Decisions


def test_a_persons_decision_wins_over_every_touch() -> None:
    outcome = attributed(a_coupon("ann10"), a_click(None), facts=[a_credit(BEN)])

    assert (outcome.reason, outcome.affiliate_id, outcome.program_id) == (Reason.DECIDED, BEN, PROGRAM)
    assert reasons(outcome) == [Reason.OVERRULED, Reason.BAD_SIGNATURE]


def test_a_person_may_decide_that_nobody_brought_it() -> None:
    outcome = attributed(a_coupon("ann10"), facts=[a_credit(None)])

    assert (outcome.reason, outcome.affiliate_id, outcome.program_id) == (Reason.DECIDED, None, None)


def test_a_late_touch_does_not_undo_a_decision_and_a_newer_decision_does() -> None:
    decided = attribute(
        told(an_order(), a_credit(BEN, on=2), an_edit(an_order(touches=[COUPON, LATE_CLICK]), on=day(9))), a_shop(), {}
    )
    decided_anew = attribute(told(an_order(), a_credit(ANN, on=5), a_credit(BEN, on=2)), a_shop(), {})

    assert decided.affiliate_id == BEN
    assert decided_anew.affiliate_id == ANN


def test_the_programme_of_a_decided_affiliate_is_that_of_its_own_touch_else_the_first_it_joined() -> None:
    shop = a_shop()
    shop.versions[OTHER_PROGRAM] = (a_version(program=OTHER_PROGRAM),)
    shop.enrollments[OTHER_PROGRAM, ANN] = (Since(day(-95), True),)

    assert attributed(facts=[a_credit(ANN)], shop=shop).program_id == OTHER_PROGRAM
    assert attributed(a_coupon("ann10"), facts=[a_credit(ANN)], shop=shop).program_id == PROGRAM


def test_a_programme_without_terms_in_force_pays_nobody() -> None:
    shop = a_shop()
    shop.enrollments[OTHER_PROGRAM, ANN] = (Since(day(-95), True),)

    assert attributed(facts=[a_credit(ANN)], shop=shop).program_id == PROGRAM
    assert attributed(facts=[a_credit(NOBODY)], shop=shop).program_id is None


# Properties


@examples(200)
@given(strategies.snapshots, st.sampled_from(Precedence), st.sampled_from(Model), st.randoms(use_true_random=False))
def test_what_is_credited_makes_one_and_how_the_shop_lists_touches_decides_nothing(
    order: OrderSnapshot, precedence: Precedence, model: Model, dice: random.Random
) -> None:
    shop = a_shop(precedence=precedence, model=model)
    shuffled = list(order.touches)
    dice.shuffle(shuffled)

    outcome = attribute(told(order), shop, {})
    other: OrderSnapshot = replace(order, touches=tuple(shuffled))

    won = [candidate for candidate in outcome.candidates if candidate.reason is Reason.WON]
    assert sum(each.weight for each in won) == sum(each.weight for each in outcome.credits) == bool(outcome.credits)
    assert len(won) <= 1 or model in {Model.LINEAR, Model.POSITION}
    assert {(each.affiliate_id, each.program_id) for each in won} == {
        (each.affiliate_id, each.program_id) for each in outcome.credits
    }
    assert [candidate.touch for candidate in outcome.candidates] == list(order.touches)
    again = attribute(told(other), shop, {})
    assert [(each.affiliate_id, each.weight) for each in again.credits] == [
        (each.affiliate_id, each.weight) for each in outcome.credits
    ]


def test_a_candidate_says_all_an_affiliate_may_ask() -> None:
    (shown,) = [candidate.as_json() for candidate in attributed(a_click(on=day(-31))).candidates]

    assert shown == {
        "kind": "click",
        "ref": "clk_1",
        "at": (day(0) - timedelta(days=31)).isoformat(),
        "link_id": str(ANNS_LINK),
        "affiliate_id": str(ANN),
        "program_id": str(PROGRAM),
        "reason_code": "outside_window",
    }


def test_what_could_not_be_read_is_shown_as_absent() -> None:
    (shown,) = [candidate.as_json() for candidate in attributed(a_click(None)).candidates]

    assert shown == {
        "kind": "click",
        "ref": "clk_1",
        "at": None,
        "link_id": None,
        "affiliate_id": None,
        "program_id": None,
        "reason_code": "bad_signature",
    }
