"""The smallest history that breaks each simpler money rule, played through the rules we have.

The names are those of the design review that found them: C for critical, S for should.
"""

from datetime import datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest

from service.domain.commission import CommissionReason, Places, settleable
from service.domain.dated import DatedInputs, Owner, Traceable
from service.domain.errors import BackDated
from service.domain.money import spread
from service.domain.order import Fact, Milestone, OrderSnapshot
from service.domain.payout import Interval, freezable, holder, split_for_rail
from service.domain.program import check_start
from service.domain.settlement import Approval, FrozenReason, RollingSettlement
from tests.domain.books import Books
from tests.domain.builders import (
    ANN,
    BEN,
    PROGRAM,
    a_click,
    a_coupon,
    a_credit,
    a_dispute,
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
    lines,
    netted,
    reached,
    the_target,
    told,
)

ALL = a_shop(a_version(settlement=RollingSettlement(Milestone.DELIVERED, 14)))
MANUAL = a_shop(a_version(settlement=RollingSettlement(Milestone.PAID, 14, Approval.MANUAL)))
ANN_USD = (ANN, "USD")
ITEM_1, ITEM_2, ITEM_3 = (UUID(int=number) for number in (1, 2, 3))


def an_order_of(net: int, *, on: int = 0, **changes: object) -> Fact:
    """A version of the order; at 10 percent a thousand goods earn a hundred."""
    return an_edit(an_order(*lines(net), **changes), on=day(on))  # type: ignore[arg-type] # fields of an order


def delivered(on: int) -> Fact:
    return reached(Milestone.DELIVERED, on=on)


def books_after(*batches: list[Fact] | str, shop: DatedInputs = ALL) -> Books:
    """The books after these deliveries; "settle" stands for a settle run after every clock has run out."""
    books = Books(shop)
    outcome = books.receive([])
    for batch in batches:
        if isinstance(batch, str):
            books.settle(outcome)
        else:
            outcome = books.receive(batch)
    return books


# Payouts


def test_c1_a_returned_payout_is_not_paid_because_a_later_one_was() -> None:
    returned = Interval(ITEM_1, 0, 5, handed_over=True, gave_back_version=11)
    paid = Interval(ITEM_2, 6, 9, handed_over=True)
    again = Interval(ITEM_3, 10, 12, handed_over=False)

    assert [holder(version, [returned, paid]) for version in (1, 5, 7, 9)] == [None, None, paid, paid]
    assert [holder(version, [returned, paid, again]) for version in (1, 5, 7, 9)] == [again, again, paid, paid]


def test_c1_a_settled_amount_taken_back_before_the_payout_is_not_in_it() -> None:
    # X settles 1,000 at version 1, Y 2,000 at version 2, X is held at version 3; the item then pays 2,000.
    item = Interval(ITEM_1, 0, 3, handed_over=True)

    def in_item(*entries: tuple[int, int]) -> int:
        return sum(change for version, change in entries if holder(version, [item]) == item)

    assert in_item((1, 1_000), (3, -1_000)) == 0
    assert in_item((2, 2_000)) == 2_000


def test_c7_what_a_rail_cannot_pay_is_kept_apart_and_never_lost() -> None:
    pays, carries = split_for_rail(80_045, step_minor=100)
    pays_next, carries_next = split_for_rail(20_000 + carries, step_minor=100)

    assert (pays + pays_next, carries_next) == (100_000, 45)


# When and where


def test_c2_the_clock_follows_the_order_not_the_first_entry() -> None:
    def settles(*facts: Fact) -> datetime | None:
        return the_target(an_order(), *facts, shop=ALL).settles_at

    assert settles() is None
    assert settles(delivered(6)) == day(20)
    assert settles(delivered(6), a_dispute(8, 11)) == day(23)
    assert settles(delivered(-40)) == day(-26), "told late, it is due at once"


def test_c2_a_refund_before_settling_leaves_less_to_settle() -> None:
    books = books_after([an_order_of(10_000), delivered(1)], [a_refund(10_000)], "settle")

    assert books.places[ANN_USD] == Places(0, 0, 0)


def test_c3_a_second_dispute_is_not_lost_behind_the_first() -> None:
    first, second = a_dispute(1, 2, id="d1"), a_dispute(3, id="d2")

    for facts in permutations([a_dispute(1, id="d1"), first, second]):
        assert assessed(an_order(), *facts).frozen is FrozenReason.DISPUTE


def test_c3_a_cancelled_order_that_is_opened_again_earns_again() -> None:
    versions = [an_order_of(10_000), an_order_of(10_000, on=1, cancelled=True), an_order_of(10_000, on=2)]

    for facts in permutations(versions):
        assert the_target(*facts).target_minor == 1_000
    assert the_target(*versions[:2]).reason is CommissionReason.CANCELLED


def test_c4_a_refund_in_another_currency_counts_once_the_order_is_in_it_whenever_it_came() -> None:
    order, refund, edit = (
        an_order_of(10_000),
        a_refund(4_000, currency="EUR"),
        an_order_of(10_000, on=5, currency="EUR"),
    )

    before = assessed(order, refund)
    assert (before.frozen, before.net_minor) == (FrozenReason.REFUND_CURRENCY, 10_000)
    for facts in permutations([order, refund, edit]):
        after = assessed(*facts)
        assert (after.frozen, after.net_minor) == (None, 6_000)


def test_c5_more_earned_after_settling_waits_like_everything_else() -> None:
    books = books_after([an_order_of(1_000), delivered(1)], "settle", [an_order_of(10_001_000, on=40)])

    assert books.places[ANN_USD] == Places(pending_minor=1_000_000, settled_minor=100)


def test_c5_when_an_edit_arrives_does_not_decide_when_it_is_payable() -> None:
    first, edit = [an_order_of(1_000), delivered(1)], [an_order_of(1_500, on=13)]

    before_the_run = books_after(first, edit, "settle")
    after_the_run = books_after(first, "settle", edit, "settle")

    assert before_the_run.places == after_the_run.places == {ANN_USD: Places(settled_minor=150)}
    assert the_target(*first, *edit, shop=ALL).settles_at == day(15)


def test_c6_a_dispute_after_settling_freezes_what_it_would_have_frozen_before() -> None:
    order, dispute = [an_order_of(1_000), delivered(1)], [a_dispute(20)]

    before = books_after(order, dispute, "settle")
    after = books_after(order, "settle", dispute, "settle")

    assert before.places == after.places == {ANN_USD: Places(held_minor=100)}


def test_c6_a_dispute_that_is_won_gives_everything_back_to_the_clock() -> None:
    books = books_after([an_order_of(1_000), delivered(1)], "settle", [a_dispute(20)], [a_dispute(20, 30)])

    assert books.places[ANN_USD] == Places(pending_minor=100)


def test_c6_a_rejection_after_settling_is_a_difference_like_any_other() -> None:
    books = books_after([an_order_of(1_000), delivered(1)], "settle", [a_rejection(on=30)])

    assert books.places[ANN_USD] == Places()


def test_c6_money_at_a_rail_is_never_frozen() -> None:
    at_the_rail = Interval(ITEM_1, 0, 5, handed_over=True)
    reserved = Interval(ITEM_1, 0, 5, handed_over=False)

    assert freezable([(1, 100)], [at_the_rail]) == 0
    assert freezable([(1, 100)], [reserved]) == 100


def test_c8_a_refund_total_that_goes_back_to_nothing_takes_nothing() -> None:
    made, failed = a_refund(500, id="ch_1", on=day(2)), a_refund(0, id="ch_1", on=day(3))

    for facts in permutations([made, failed, made]):
        assert the_target(an_order(), *facts).target_minor == 1_000


def test_c8_a_foreign_refund_that_failed_does_not_freeze_for_ever() -> None:
    made = a_refund(500, id="ch_1", currency="EUR", on=day(2))
    failed = a_refund(0, id="ch_1", currency="EUR", on=day(3))

    assert assessed(an_order(), made).frozen is FrozenReason.REFUND_CURRENCY
    assert assessed(an_order(), made, failed).frozen is None


def test_c10_erasing_the_affiliate_does_not_turn_a_self_purchase_into_a_commission() -> None:
    order = an_edit(an_order(customer=(("email", "hash-of-ann"),)), on=day(0))
    books = Books(a_shop())
    assert books.receive([order]).targets == ()

    books.inputs.identities.clear()

    assert books.receive([a_refund(1_000)]).targets == ()


def test_c10_a_coupon_that_moved_does_not_take_old_orders_along() -> None:
    shop = a_shop()
    shop.coupons["ann10"] = Traceable(PROGRAM, PROGRAM, (Owner(day(-90), ANN), Owner(day(1), BEN)))

    assert the_target(an_order(), a_refund(1_000), shop=shop).payee_id == ANN
    assert the_target(an_order(placed_at=day(2)), shop=shop).payee_id == BEN


# Terms and approval


def test_s1_terms_recorded_now_cannot_speak_for_an_order_already_placed() -> None:
    with pytest.raises(BackDated):
        check_start(day(0), recorded_at=day(0), may_reach_back=False)

    check_start(day(0) + timedelta(minutes=5), recorded_at=day(0), may_reach_back=False)


def test_s2_an_edit_after_the_approval_does_not_pay_what_nobody_saw() -> None:
    facts = [an_order_of(1_000), reached(), an_approval(100)]
    books = books_after([*facts, an_order_of(100_000, on=5)], "settle", shop=MANUAL)

    assert books.places[ANN_USD] == Places(pending_minor=9_900, settled_minor=100)


def test_s2_whether_the_settle_run_or_the_edit_came_first_changes_nothing() -> None:
    first, edit = [an_order_of(400), reached(), an_approval(50)], [an_order_of(1_170, on=5)]

    before = books_after(first, edit, "settle", shop=MANUAL)
    after = books_after(first, "settle", edit, "settle", shop=MANUAL)

    assert before.places == after.places == {ANN_USD: Places(pending_minor=67, settled_minor=50)}


def test_s2_a_later_smaller_approval_takes_nothing_back() -> None:
    assert settleable(Places(50, 0, 60), approved_minor=40) == 0


# Net


def test_s8_an_order_has_money_in_one_currency_at_a_time() -> None:
    books = books_after([an_order_of(1_000)], [an_order_of(1_000, on=1, currency="EUR")], [an_order_of(2_000, on=2)])

    assert books.places == {ANN_USD: Places(pending_minor=200), (ANN, "EUR"): Places()}


def test_s9_each_line_stops_at_nothing_only_after_all_its_refunds_are_summed() -> None:
    order = an_order(*lines(1_000, 1_000))
    refunds = [a_refund({"1": 700}, id="a"), a_refund({"1": 700}, id="b"), a_refund(500, id="c")]

    for facts in permutations(refunds):
        assert [line.net_minor for line in netted(order, *facts)] == [0, 500]


def test_s9_a_refund_without_lines_goes_by_what_remains_and_never_to_carriage() -> None:
    order = an_order(a_line(1_000), a_line(500, id="2"), a_line(300, id="ship", goods=False))
    named, loose = a_refund({"1": 500}, id="a"), a_refund(501, id="b")

    for facts in permutations([named, loose]):
        assert [line.net_minor for line in netted(order, *facts)] == [249, 250]


def test_s10_thirty_thousand_and_one_at_seventy_to_thirty() -> None:
    assert spread(30_001, [70, 30]) == [21_001, 9_000]


def test_s11_two_bodies_of_one_version_freeze_and_the_larger_hash_counts_in_any_order() -> None:
    one, other = an_order_of(1_000), an_order_of(2_000)

    for facts in permutations([one, other, one]):
        outcome = assessed(*facts)
        assert outcome.frozen is FrozenReason.CONFLICTING_VERSION
        assert outcome.net_minor == (1_000 if one.body_hash > other.body_hash else 2_000)
    assert assessed(one, other, an_order_of(3_000, on=1)).frozen is None


def test_s13_a_lost_dispute_and_the_shops_refund_for_it_count_once() -> None:
    lost, own = a_lost_dispute(amount=4_000), a_refund({"1": 4_000}, id="dispute:d1")

    for facts in permutations([lost, own]):
        assert the_target(an_order(), *facts).target_minor == 600


# The short answers


def test_h_a_late_coupon_is_a_newer_snapshot() -> None:
    before: OrderSnapshot = an_order(touches=[a_click(on=day(-2))])
    late = an_edit(an_order(touches=[a_click(on=day(-2)), a_coupon("ben10")]), on=day(6))

    assert the_target(before).payee_id == ANN
    assert {target.payee_id: target.target_minor for target in assessed(before, late, known=[ANN_USD]).targets} == {
        ANN: 0,
        BEN: 1_000,
    }


def test_h_a_decision_wins_over_all_touches_and_keeps_the_terms_of_the_order() -> None:
    shop = a_shop(a_version(number=1), a_version(number=2, since=day(1), notice_days=0))

    target = the_target(an_order(), a_credit(BEN, on=20), shop=shop)

    assert (target.payee_id, target.program_version) == (BEN, 1)


def test_facts_about_an_order_wait_for_it_and_then_count() -> None:
    facts = [a_refund(2_500), an_order_of(10_000), delivered(1)]

    for arrival in permutations(facts):
        books = books_after(*([fact] for fact in arrival))
        assert books.places[ANN_USD] == Places(pending_minor=750)
    assert told(facts[0]).snapshot is None
