"""Orders that several brought, bound customers and products, windows for channels, orders placed again, own purchases."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.attribution import Attribution, Reason, attribute
from service.domain.commission import CommissionReason
from service.domain.customer import History, PlacedOrder, customer_key, histories
from service.domain.dated import Binding, DatedInputs, Since
from service.domain.marks import ContentType, Label
from service.domain.order import OrderSnapshot, Touch, TouchKind
from service.domain.program import (
    IDENTITY_KINDS,
    AttributionTerms,
    BindingRank,
    Model,
    Precedence,
    SelfPurchase,
    Window,
)
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    BENS_LINK,
    PROGRAM,
    a_click,
    a_coupon,
    a_line,
    a_rejection,
    a_shop,
    an_approval,
    an_order,
    assessed,
    day,
    told,
)
from tests.domain.strategies import examples

CAM = UUID(int=0xC)


def attributed(
    *touches: Touch, shop: DatedInputs, history: History | None = None, order: OrderSnapshot | None = None
) -> Attribution:
    facts = told(replace(order or an_order(), touches=touches))
    return attribute(facts, shop, {}, history or History())


def parts(outcome: Attribution) -> dict[UUID, Fraction]:
    return {credit.affiliate_id: credit.weight for credit in outcome.credits}


def reasons(outcome: Attribution) -> list[Reason]:
    return [candidate.reason for candidate in outcome.candidates]


def clicks(*who: UUID) -> list[Touch]:
    """Clicks on the links of these, a day apart, the last a day before the order."""
    links = {ANN: ANNS_LINK, BEN: BENS_LINK}
    return [a_click(links[each], on=day(place - len(who)), ref=f"clk_{place}") for place, each in enumerate(who)]


# Models that share

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


@pytest.mark.parametrize(
    ("terms", "who", "expected"),
    [
        pytest.param({"model": Model.LINEAR}, [ANN], {ANN: Fraction(1)}, id="linear: one"),
        pytest.param({"model": Model.LINEAR}, [ANN, BEN], {ANN: HALF, BEN: HALF}, id="linear: two"),
        pytest.param({"model": Model.LINEAR}, [ANN, BEN, ANN], {ANN: 2 * THIRD, BEN: THIRD}, id="linear: one of them twice"),
        pytest.param({"model": Model.POSITION}, [BEN], {BEN: Fraction(1)}, id="position: one"),
        pytest.param({"model": Model.POSITION}, [ANN, BEN], {ANN: HALF, BEN: HALF}, id="position: two, nothing between"),
        pytest.param(
            {"model": Model.POSITION, "position_first": Fraction(3, 5), "position_last": Fraction(1, 5)}, [ANN, BEN],
            {ANN: Fraction(3, 4), BEN: Fraction(1, 4)}, id="position: two, in the proportion of first and last",
        ),
        pytest.param(
            {"model": Model.POSITION}, [ANN, BEN, BEN], {ANN: Fraction(2, 5), BEN: Fraction(3, 5)}, id="position: three"
        ),
        pytest.param(
            {"model": Model.POSITION}, [ANN, BEN, BEN, BEN, ANN], {ANN: Fraction(4, 5), BEN: Fraction(1, 5)},
            id="position: five, the three between share a fifth",
        ),
        pytest.param(
            {"model": Model.POSITION, "position_first": Fraction(1), "position_last": Fraction(0)}, [ANN, BEN, BEN],
            {ANN: Fraction(1)}, id="position: all to the first",
        ),
        pytest.param(
            {"model": Model.POSITION, "position_first": HALF, "position_last": HALF}, [ANN, BEN, ANN], {ANN: Fraction(1)},
            id="position: nothing to those between",
        ),
    ],
)  # fmt: skip
def test_how_several_touches_share(
    terms: Mapping[str, object], who: list[UUID], expected: dict[UUID, Fraction]
) -> None:
    assert parts(attributed(*clicks(*who), shop=a_shop(**terms))) == expected


def test_only_the_kind_that_has_precedence_shares() -> None:
    touches = [*clicks(ANN, BEN), a_coupon("ben10")]

    by_coupon = attributed(*touches, shop=a_shop(model=Model.LINEAR))
    by_time = attributed(*touches, shop=a_shop(model=Model.LINEAR, precedence=Precedence.LATEST))

    assert (parts(by_coupon), reasons(by_coupon)) == (
        {BEN: Fraction(1)},
        [Reason.OTHER_KIND_FIRST, Reason.OTHER_KIND_FIRST, Reason.WON],
    )
    assert parts(by_time) == {ANN: THIRD, BEN: 2 * THIRD}


def test_who_may_not_earn_has_no_part() -> None:
    shop = a_shop(model=Model.LINEAR)
    shop.approvals[BEN] = (Since(day(-90), holds=False),)

    outcome = attributed(*clicks(ANN, BEN), shop=shop)

    assert (parts(outcome), reasons(outcome)) == ({ANN: Fraction(1)}, [Reason.WON, Reason.NOT_APPROVED])


def test_a_shared_order_leads_with_the_largest_part_and_of_equals_the_latest() -> None:
    equal = attributed(*clicks(ANN, BEN), shop=a_shop(model=Model.LINEAR))
    larger = attributed(*clicks(ANN, BEN, ANN), shop=a_shop(model=Model.LINEAR))

    assert (equal.affiliate_id, larger.affiliate_id) == (BEN, ANN)
    assert larger.touch == clicks(ANN, BEN, ANN)[2]


parts_of_one = st.integers(0, 10).flatmap(
    lambda first: st.tuples(st.just(first), st.integers(0 if first else 1, 10 - first))
)


@examples(150)
@given(st.lists(st.sampled_from([ANN, BEN]), min_size=1, max_size=7), st.sampled_from(Model), parts_of_one)
def test_the_parts_of_an_order_make_one_whatever_the_model(
    who: list[UUID], model: Model, shares: tuple[int, int]
) -> None:
    first, last = (Fraction(each, 10) for each in shares)
    outcome = attributed(*clicks(*who), shop=a_shop(model=model, position_first=first, position_last=last))

    assert sum(parts(outcome).values()) == 1
    assert all(part > 0 for part in parts(outcome).values())
    assert sum(each.weight for each in outcome.candidates if each.reason is Reason.WON) == 1


# Windows

LIVE = Label(day(-90), ContentType.LIVE, "zalo")
WINDOWS = (
    Window(1, content_types=frozenset({ContentType.LIVE})),
    Window(60, channels=frozenset({"web"})),
    Window(3, frozenset({ContentType.POST}), frozenset({"zalo"})),
)


@pytest.mark.parametrize(
    ("label", "clicked", "counts"),
    [
        pytest.param(None, -7, True, id="a link without marks has the usual seven days"),
        pytest.param(None, -8, False, id="and no more"),
        pytest.param(Label(day(-90), ContentType.VIDEO), -7, True, id="no window speaks for videos"),
        pytest.param(Label(day(-90), ContentType.LIVE), -1, True, id="live: one day"),
        pytest.param(Label(day(-90), ContentType.LIVE), -2, False, id="live: not two"),
        pytest.param(Label(day(-90), None, "web"), -60, True, id="web: sixty days"),
        pytest.param(Label(day(-90), None, "web"), -61, False, id="web: not sixty-one"),
        pytest.param(Label(day(-90), ContentType.LIVE, "web"), -2, False, id="the first window that speaks counts"),
        pytest.param(Label(day(-90), None, "zalo"), -3, True, id="either content or channel is enough"),
        pytest.param(Label(day(-90), None, "zalo"), -4, False, id="and bounds it"),
    ],
)
def test_windows_for_content_and_channels(label: Label | None, clicked: int, counts: bool) -> None:
    shop = a_shop(window_days=7, windows=WINDOWS)
    shop.links[ANNS_LINK] = replace(shop.links[ANNS_LINK], labels=(label,) if label else ())

    outcome = attributed(a_click(on=day(clicked)), shop=shop)

    assert reasons(outcome) == [Reason.WON if counts else Reason.OUTSIDE_WINDOW]


def test_a_link_is_marked_as_it_was_when_it_was_clicked() -> None:
    shop = a_shop(window_days=7, windows=WINDOWS)
    shop.links[ANNS_LINK] = replace(shop.links[ANNS_LINK], labels=(Label(day(-90)), replace(LIVE, valid_from=day(-3))))

    assert reasons(attributed(a_click(on=day(-4)), shop=shop)) == [Reason.WON]
    assert reasons(attributed(a_click(on=day(-3)), shop=shop)) == [Reason.OUTSIDE_WINDOW]


# Bound customers

MAI = (("email", "hash-of-mai"),)
BEFORE, AFTER, IGNORED = BindingRank.BEFORE, BindingRank.AFTER, BindingRank.IGNORED


def a_binding(who: UUID | None = BEN, *, since: int = -20, until: int | None = None) -> Binding:
    return Binding(day(since), who, PROGRAM if who else None, None if until is None else day(until))


@pytest.mark.parametrize(
    ("rank", "touches", "winner", "why"),
    [
        pytest.param(BEFORE, [a_click()], BEN, [Reason.OTHER_KIND_FIRST, Reason.WON], id="before: beats a click"),
        pytest.param(BEFORE, [a_coupon()], BEN, [Reason.OTHER_KIND_FIRST, Reason.WON], id="before: beats a coupon"),
        pytest.param(AFTER, [a_click()], ANN, [Reason.WON, Reason.OTHER_KIND_FIRST], id="after: a click beats it"),
        pytest.param(AFTER, [], BEN, [Reason.WON], id="after: counts where nothing else does"),
        pytest.param(AFTER, [a_click(None)], BEN, [Reason.BAD_SIGNATURE, Reason.WON], id="after: or may not"),
        pytest.param(IGNORED, [], None, [Reason.BINDING_IGNORED], id="ignored"),
        pytest.param(IGNORED, [a_click()], ANN, [Reason.WON, Reason.BINDING_IGNORED], id="ignored beside a click"),
    ],
)
def test_a_bound_customer(rank: BindingRank, touches: list[Touch], winner: UUID | None, why: list[Reason]) -> None:
    shop = a_shop(customer_binding=rank)
    shop.customer_bindings[MAI[0]] = (a_binding(),)

    outcome = attributed(*touches, shop=shop, order=an_order(customer=MAI))

    assert (outcome.affiliate_id, reasons(outcome)) == (winner, why)


@pytest.mark.parametrize(
    ("bindings", "winner"),
    [
        pytest.param((a_binding(since=1),), None, id="bound later"),
        pytest.param((a_binding(since=0),), BEN, id="bound in the very moment"),
        pytest.param((a_binding(until=0),), None, id="over in the very moment"),
        pytest.param((a_binding(until=1),), BEN, id="over the day after"),
        pytest.param((a_binding(ANN), a_binding(BEN, since=-2)), BEN, id="bound anew"),
        pytest.param((a_binding(ANN), a_binding(None, since=-2)), None, id="let go"),
        pytest.param((a_binding(ANN), a_binding(BEN, since=-2, until=-1)), None, id="the older does not come back"),
        pytest.param((a_binding(CAM),), None, id="to somebody who is in no programme"),
    ],
)
def test_who_a_customer_is_bound_to(bindings: tuple[Binding, ...], winner: UUID | None) -> None:
    shop = a_shop()
    shop.customer_bindings[MAI[0]] = bindings

    assert attributed(shop=shop, order=an_order(customer=MAI)).affiliate_id == winner


# Bound products

MUG, POT = a_line(8_000, sku="MUG"), a_line(2_000, id="2", sku="POT")


def with_product(rank: BindingRank, *, sku: str = "MUG", who: UUID = BEN, **more: object) -> DatedInputs:
    shop = a_shop(product_binding=rank, **more)
    shop.product_bindings[sku] = (a_binding(who),)
    return shop


def earned(shop: DatedInputs, *touches: Touch) -> dict[UUID, int]:
    outcome = assessed(an_order(MUG, POT, touches=touches), shop=shop)
    return {target.payee_id: target.target_minor for target in outcome.targets}


@pytest.mark.parametrize(
    ("rank", "touches", "expected"),
    [
        pytest.param(BEFORE, [a_coupon()], {ANN: 200, BEN: 800}, id="before: its own lines, the rest is the coupon's"),
        pytest.param(BEFORE, [], {BEN: 800}, id="before: the rest is nobody's"),
        pytest.param(AFTER, [a_coupon()], {ANN: 1_000}, id="after: the coupon has all"),
        pytest.param(AFTER, [], {BEN: 800}, id="after: its own lines where nobody else came"),
        pytest.param(IGNORED, [], {}, id="ignored"),
        pytest.param(BEFORE, [a_coupon("ben10")], {BEN: 1_000}, id="both of one affiliate make one commission"),
    ],
)
def test_a_bound_product_has_its_own_lines(rank: BindingRank, touches: list[Touch], expected: dict[UUID, int]) -> None:
    assert earned(with_product(rank), *touches) == expected


def test_two_bound_products_of_two_affiliates_divide_an_order_between_them() -> None:
    shop = with_product(BEFORE)
    shop.product_bindings["POT"] = (a_binding(ANN),)

    assert earned(shop, a_coupon("ben10")) == {ANN: 200, BEN: 800}


def test_a_bound_customer_comes_before_a_bound_product_that_comes_after() -> None:
    shop = with_product(AFTER)
    shop.customer_bindings[MAI[0]] = (a_binding(ANN),)

    outcome = attributed(shop=shop, order=an_order(MUG, customer=MAI))

    assert (outcome.affiliate_id, reasons(outcome)) == (ANN, [Reason.WON, Reason.OTHER_KIND_FIRST])


def test_who_brought_the_order_leads_and_not_whose_product_is_in_it() -> None:
    outcome = attributed(a_coupon(), shop=with_product(BEFORE), order=an_order(MUG, POT))

    assert outcome.affiliate_id == ANN
    assert [(each.affiliate_id, each.skus) for each in outcome.credits] == [(ANN, None), (BEN, frozenset({"MUG"}))]


# Orders placed again


def before(
    days_ago: int, *, sku: str = "MUG", who: UUID | None = ANN, cancelled: bool = True, number: str = "1001"
) -> PlacedOrder:
    """An order of the same customer."""
    skus = frozenset({sku}) if cancelled else frozenset[str]()
    program_id = PROGRAM if cancelled and who else None
    return PlacedOrder(
        UUID(int=days_ago), ("shop", number), day(-days_ago), cancelled, skus, who if cancelled else None, program_id
    )


def again(*earlier: PlacedOrder) -> History:
    this = PlacedOrder(UUID(int=0), ("shop", "1009"), day(0), cancelled=False)
    return histories([*earlier, this])[this.order_id]


SEVEN = {"reorder_days": 7}


@pytest.mark.parametrize(
    ("terms", "history", "winner"),
    [
        pytest.param(SEVEN, again(before(3)), ANN, id="the same product, three days later"),
        pytest.param(SEVEN, again(before(7)), ANN, id="at the last moment"),
        pytest.param(SEVEN, again(before(8)), None, id="a day too late"),
        pytest.param(SEVEN, again(before(3, sku="HAT")), None, id="another product"),
        pytest.param(SEVEN, again(before(3, cancelled=False)), None, id="that order stands"),
        pytest.param(SEVEN, again(before(3, who=None)), None, id="nobody had brought it"),
        pytest.param(SEVEN, again(before(3), before(2, who=BEN, number="1002")), BEN, id="the newest cancelled one"),
        pytest.param(SEVEN, again(before(3), before(2, who=BEN, sku="HAT", number="1002")), ANN, id="with one of its products"),
        pytest.param(SEVEN, again(before(3, who=CAM)), None, id="by somebody who may not earn now"),
        pytest.param({}, again(before(3)), None, id="the terms do not ask"),
        pytest.param({}, again(before(0)), None, id="the terms do not ask, not even in the very moment"),
    ],
)  # fmt: skip
def test_an_order_placed_again(terms: Mapping[str, object], history: History, winner: UUID | None) -> None:
    outcome = attributed(shop=a_shop(**terms), history=history, order=an_order(MUG))

    assert outcome.affiliate_id == winner
    assert winner is None or outcome.touch == Touch(
        TouchKind.REORDER, history.abandoned[0 if winner == BEN else -1].number
    )


def test_another_customers_cancelled_order_is_none_of_its_business() -> None:
    # A history is of one customer; of another nothing is in it.
    assert attributed(shop=a_shop(**SEVEN), history=History(), order=an_order(MUG)).affiliate_id is None
    assert customer_key(MAI) != customer_key((("email", "hash-of-lan"),))


def test_whatever_the_order_carries_itself_comes_before_what_it_places_again() -> None:
    shop = a_shop(**SEVEN)
    shop.customer_bindings[MAI[0]] = (a_binding(BEN),)
    history = again(before(3))

    touched = attributed(a_coupon("ben10"), shop=a_shop(**SEVEN), history=history, order=an_order(MUG))
    bound = attributed(shop=shop, history=history, order=an_order(MUG, customer=MAI))

    assert (touched.affiliate_id, reasons(touched)) == (BEN, [Reason.WON, Reason.OTHER_KIND_FIRST])
    assert (bound.affiliate_id, reasons(bound)) == (BEN, [Reason.WON, Reason.OTHER_KIND_FIRST])


orders_of_one = st.lists(
    st.builds(
        PlacedOrder,
        order_id=st.uuids(),
        name=st.tuples(st.just("shop"), st.text("ab", max_size=2)),
        placed_at=st.integers(-5, 0).map(day),
        cancelled=st.booleans(),
        skus=st.just(frozenset({"MUG"})),
        affiliate_id=st.sampled_from([None, ANN, BEN]),
        program_id=st.just(PROGRAM),
    ),
    unique_by=(lambda each: each.order_id, lambda each: each.place),
    max_size=6,
)


@examples(200)
@given(orders_of_one, st.randoms(use_true_random=False))
def test_one_order_that_stands_is_the_first_however_they_are_listed(
    orders: list[PlacedOrder], dice: random.Random
) -> None:
    found = histories(orders)
    shuffled = list(orders)
    dice.shuffle(shuffled)

    assert histories(shuffled) == found
    standing = [each for each in orders if not each.cancelled]
    assert [found[each.order_id].first_at for each in standing].count(None) == bool(standing)
    for each in orders:
        first_at = found[each.order_id].first_at
        assert first_at is None or first_at == min(other.placed_at for other in standing)
        placed = [gone.placed_at for gone in found[each.order_id].abandoned]
        assert placed == sorted(placed, reverse=True)
        assert all(at <= each.placed_at for at in placed)


@pytest.mark.parametrize(
    ("customer", "key"),
    [
        pytest.param((("email", "a"), ("phone", "b"), ("id", "c")), "email=a", id="the e-mail first"),
        pytest.param((("id", "c"), ("phone", "b")), "phone=b", id="else the phone"),
        pytest.param((("id", "c"), ("address", "d")), "id=c", id="else the shop's id"),
        pytest.param((("address", "d"), ("payment", "e")), None, id="an address is no person"),
        pytest.param((), None, id="nobody"),
    ],
)
def test_who_a_customer_is(customer: tuple[tuple[str, str], ...], key: str | None) -> None:
    assert customer_key(customer) == key


# Own purchases


@pytest.mark.parametrize("kind", sorted(IDENTITY_KINDS))
def test_a_buyer_is_recognised_by_what_the_terms_name_and_by_nothing_else(kind: str) -> None:
    customer = ((kind, "hash-of-ann"),)

    def found(*kinds: str) -> list[Reason]:
        shop = a_shop(self_purchase_by=frozenset(kinds))
        shop.identities[ANN] = customer
        return reasons(attributed(a_coupon(), shop=shop, order=an_order(customer=customer)))

    assert found(kind) == [Reason.SELF_PURCHASE]
    assert found(*(IDENTITY_KINDS - {kind})) == [Reason.WON]
    assert found() == [Reason.WON]


def test_an_own_purchase_under_review_earns_and_is_held_until_a_person_says_something() -> None:
    shop = a_shop(self_purchase=SelfPurchase.REVIEW)
    order = an_order(customer=(("email", "hash-of-ann"),))

    held, approved, rejected = (
        assessed(order, *facts, shop=shop) for facts in ([], [an_approval(1_000)], [a_rejection()])
    )

    assert held.frozen == CommissionReason.SELF_PURCHASE.value
    assert [(each.target_minor, each.reason) for each in held.targets] == [(1_000, CommissionReason.SELF_PURCHASE)]
    assert (approved.frozen, approved.targets[0].target_minor) == (None, 1_000)
    assert (rejected.frozen, rejected.targets[0].target_minor) == (None, 0)


def test_an_own_purchase_under_review_does_not_hold_an_order_that_somebody_else_brought() -> None:
    shop = a_shop(self_purchase=SelfPurchase.REVIEW)

    outcome = assessed(
        an_order(touches=[*clicks(ANN), a_coupon("ben10")], customer=(("email", "hash-of-ann"),)), shop=shop
    )

    assert outcome.frozen is None
    assert [each.payee_id for each in outcome.targets] == [BEN]


def test_an_own_purchase_that_is_shared_holds_the_whole_order() -> None:
    shop = a_shop(self_purchase=SelfPurchase.REVIEW, model=Model.LINEAR)
    order = an_order(touches=clicks(ANN, BEN), customer=(("email", "hash-of-ann"),))

    assert assessed(order, shop=shop).frozen is not None
    assert assessed(order, an_approval(1_000, payee=BEN), shop=shop).frozen is not None
    assert assessed(order, an_approval(1_000, payee=ANN), shop=shop).frozen is None


def test_terms_without_these_words_have_the_usual_ones() -> None:
    usual = AttributionTerms()

    assert (usual.customer_binding, usual.product_binding, usual.reorder_days) == (AFTER, AFTER, 0)
    assert usual.window_for(None) == timedelta(days=30)
