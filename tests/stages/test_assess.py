"""From deliveries to booked differences, on PostgreSQL: every row of the money table up to payable."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from service.commissions.settle import settle_due
from service.domain.ledger import AccountKind
from service.domain.order import Milestone
from service.domain.settlement import Approval, RollingSettlement
from service.infra.db import run_unit
from service.infra.ids import new_id
from service.intake import desk
from service.intake.desk import Decision, Verb
from service.tables.orders import InboxState
from tests.support.books import Books, at, dispute, paid, refund, snapshot, ten_percent


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


def person(books: Books) -> desk.Person:
    return desk.Person(books.merchant_id, new_id(), books.now)


def test_an_order_earns_its_coupons_owner_a_pending_commission(books: Books) -> None:
    answer = books.tell("1001", snapshot(10_000, 5_555), paid())

    assert answer.state is InboxState.APPLIED
    assert books.places() == (1_556, 0, 0)
    commission = books.commission("1001")
    assert (commission.target_minor, commission.reason_code) == (1_556, "in_hold_period")
    assert commission.settles_at == at(1) + timedelta(days=14)
    assert (commission.program_id, commission.program_version) == (books.program_id, 1)
    assert [line["commission_minor"] for line in commission.receipt["lines"]] == [1_000, 556]


def test_the_same_delivery_again_has_no_effect_and_gets_its_first_answer(books: Books) -> None:
    delivery = books.delivery("1001", snapshot(10_000), paid())
    [first] = books.receive(delivery)

    again, twin = books.receive(delivery, delivery)

    assert again == twin
    assert (again.inbox_id, again.state, again.order_id) == (first.inbox_id, first.state, first.order_id)
    assert (first.repeated, again.repeated) == (False, True)
    assert books.places() == (1_000, 0, 0)
    assert len(books.rows("SELECT FROM posting WHERE merchant_id = :merchant_id")) == 1


def test_another_body_under_the_same_delivery_id_is_one_more_fact(books: Books) -> None:
    books.receive(books.delivery("1001", snapshot(10_000), delivery_id="d1"))

    [answer] = books.receive(books.delivery("1001", snapshot(20_000, version=2), delivery_id="d1"))

    assert not answer.repeated
    assert books.places() == (2_000, 0, 0)


def test_a_refund_before_its_order_waits_and_counts_when_the_order_comes(books: Books) -> None:
    waiting = books.tell("1001", refund("r1", 4_000))
    states = "SELECT state, answered FROM inbox WHERE merchant_id = :merchant_id ORDER BY id"
    before = books.rows(states)

    books.tell("1001", snapshot(10_000))

    assert (waiting.state, waiting.reason_code) == (InboxState.WAITING, "order_not_here_yet")
    assert [tuple(row) for row in before] == [("waiting", "waiting")]
    assert [tuple(row) for row in books.rows(states)] == [("applied", "waiting"), ("applied", "applied")]
    assert books.places() == (600, 0, 0)


def test_one_batch_may_hold_an_order_its_edit_and_its_refund(books: Books) -> None:
    books.receive(
        books.delivery("1001", refund("r1", 1_000)),
        books.delivery("1001", snapshot(20_000, version=3)),
        books.delivery("1001", snapshot(10_000, version=2)),
        books.delivery("1002", snapshot(5_000)),
    )

    assert books.commission("1001").target_minor == 1_900
    assert books.commission("1002").target_minor == 500
    assert books.places() == (2_400, 0, 0)


def test_an_order_without_touch_earns_nobody_anything(books: Books) -> None:
    books.tell("1001", snapshot(10_000, coupon=None))

    assert books.places() == (0, 0, 0)
    [row] = books.rows("SELECT attribution_reason, net_minor FROM assessment WHERE merchant_id = :merchant_id")
    assert tuple(row) == ("no_touch", 10_000)


def test_settling_moves_what_is_due_in_one_posting_per_payee(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.tell("1002", snapshot(20_000), paid())
    books.tell("1003", snapshot(40_000))

    moved = books.settle()

    assert moved == 2
    assert books.places() == (4_000, 0, 3_000)
    settled = books.rows("SELECT amount_minor FROM posting WHERE merchant_id = :merchant_id AND event LIKE 'settle/%'")
    assert [row.amount_minor for row in settled] == [3_000]
    assert books.settle() == 0
    assert books.commission("1001").reason_code == "earned"


def test_a_refund_after_settling_makes_payable_smaller_and_a_larger_one_a_debt(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.settle()

    books.tell("1001", refund("r1", 3_000))

    assert books.places() == (0, 0, 700)
    assert books.commission("1001").settled_minor == 700


def test_an_edit_upwards_after_settling_waits_as_pending_with_the_orders_clock(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.settle()

    books.tell("1001", snapshot(30_000, version=2))

    assert books.places() == (2_000, 0, 1_000)
    assert books.settle() == 1
    assert books.places() == (0, 0, 3_000)


def test_an_open_dispute_holds_pending_and_settled_money_and_a_won_one_lets_it_go_on(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.settle()
    books.tell("1001", snapshot(15_000, version=2))

    books.tell("1001", dispute("d1", opened=20))
    frozen = books.places()
    books.tell("1001", dispute("d1", opened=20, closed=30, outcome="won"))

    assert frozen == (0, 1_500, 0)
    assert books.places() == (1_500, 0, 0)
    books.settle()
    assert books.places() == (0, 0, 1_500)


def test_a_lost_dispute_takes_the_commission_back(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    books.settle()

    books.tell("1001", dispute("d1", opened=20, closed=30, outcome="lost", amount=10_000))

    assert books.places() == (0, 0, 0)
    assert books.commission("1001").reason_code == "fully_refunded"


def test_two_bodies_under_one_version_hold_the_order_until_the_next_version(books: Books) -> None:
    one, other = snapshot(10_000), snapshot(20_000)
    books.tell("1001", one)
    books.tell("1001", other)
    larger = max((one, other), key=lambda fact: fact.body_hash)
    expected = larger.body.goods_minor // 10  # type: ignore[union-attr] # a snapshot

    held = books.places()
    books.tell("1001", snapshot(30_000, version=2))

    assert held == (0, expected, 0)
    assert books.places() == (3_000, 0, 0)


def test_a_cancelled_order_earns_nothing_and_a_reopened_one_earns_again(books: Books) -> None:
    books.tell("1001", snapshot(10_000))
    books.tell("1001", snapshot(10_000, cancelled=True, version=2))
    cancelled = books.places()

    books.tell("1001", snapshot(10_000, version=3))

    assert cancelled == (0, 0, 0)
    assert books.places() == (1_000, 0, 0)


def test_a_changed_currency_moves_the_target_to_the_new_one(books: Books) -> None:
    books.tell("1001", snapshot(10_000))

    books.tell("1001", snapshot(9_000, currency="EUR", version=2))

    assert books.places() == (0, 0, 0)
    assert books.places(currency="EUR") == (900, 0, 0)
    assert books.commission("1001").reason_code == "order_currency_changed"


def test_people_hold_and_release_a_commission(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    commission_id = books.commission("1001").id

    run_unit(
        books.engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission_id, Verb.HOLD, "suspicious")),
    )
    held = books.places()
    run_unit(
        books.engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission_id, Verb.RELEASE, "fine")),
    )

    assert held == (0, 1_000, 0)
    assert books.places() == (1_000, 0, 0)


def test_a_rejected_commission_is_zero_until_it_is_approved_again(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    commission_id = books.commission("1001").id

    run_unit(
        books.engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission_id, Verb.REJECT, "fraud")),
    )
    rejected = (books.places(), books.commission("1001").reason_code)
    run_unit(
        books.engine,
        lambda session: desk.decide_one(
            session, person(books), Decision(commission_id, Verb.APPROVE, "mistake", 1_000)
        ),
    )

    assert rejected == ((0, 0, 0), "rejected_by_merchant")
    assert books.places() == (1_000, 0, 0)


def test_a_rejected_order_stays_rejected_in_another_currency(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    commission_id = books.commission("1001").id
    run_unit(
        books.engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission_id, Verb.REJECT, "fraud")),
    )

    books.tell("1001", snapshot(9_000, currency="EUR", version=2))

    assert books.places(currency="EUR") == (0, 0, 0)
    assert books.commission("1001", currency="EUR").reason_code == "rejected_by_merchant"


def test_a_dispute_opened_and_closed_in_one_second_is_closed(books: Books) -> None:
    opened, closed = dispute("d1", opened=20), dispute("d1", opened=20, closed=20, outcome="won")

    books.tell("1001", snapshot(10_000), paid(), closed)
    books.tell("1001", opened)

    assert books.places() == (1_000, 0, 0)


def test_an_approval_lets_only_its_amount_be_settled(engine: Engine) -> None:
    manual = ten_percent(settlement=RollingSettlement(Milestone.PAID, 14, Approval.MANUAL))
    books = Books.opened(engine, manual)
    books.tell("1001", snapshot(10_000), paid())
    unapproved = books.settle()
    commission_id = books.commission("1001").id

    run_unit(
        engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission_id, Verb.APPROVE, "checked")),
    )
    books.tell("1001", snapshot(100_000, version=2))
    books.settle()

    assert unapproved == 0
    assert books.places() == (9_000, 0, 1_000)
    assert books.commission("1001").reason_code == "above_approved_amount"


def _with_silence(engine: Engine) -> Books:
    """An order of which 1,000 are pending; silence approves them on the 20th day."""
    books = Books.opened(
        engine, ten_percent(settlement=RollingSettlement(Milestone.PAID, 14, Approval.MANUAL, auto_approve_days=20))
    )
    books.tell("1001", snapshot(10_000), paid())
    return books


def test_silence_settles_all_of_it_at_the_deadline_and_not_before(engine: Engine) -> None:
    books = _with_silence(engine)
    commission = books.commission("1001")
    too_early = settle_due(engine, merchant_id=books.merchant_id, at=commission.settles_at - timedelta(seconds=1))

    at_the_deadline = settle_due(engine, merchant_id=books.merchant_id, at=commission.settles_at)

    assert commission.reason_code == "awaiting_approval"
    assert (too_early, at_the_deadline) == (0, 1)
    assert books.places() == (0, 0, 1_000)
    assert books.commission("1001").reason_code == "earned"


def test_silence_releases_nothing_that_is_held(engine: Engine) -> None:
    books = _with_silence(engine)
    commission = books.commission("1001")
    run_unit(
        engine, lambda session: desk.decide_one(session, person(books), Decision(commission.id, Verb.HOLD, "risk"))
    )

    settled = settle_due(engine, merchant_id=books.merchant_id, at=commission.settles_at + timedelta(days=365))

    assert settled == 0
    assert books.places() == (0, 1_000, 0)


def test_a_person_who_approves_less_before_the_deadline_is_heard(engine: Engine) -> None:
    books = _with_silence(engine)
    commission = books.commission("1001")

    run_unit(
        engine,
        lambda session: desk.decide_one(session, person(books), Decision(commission.id, Verb.APPROVE, "checked", 400)),
    )
    settle_due(engine, merchant_id=books.merchant_id, at=commission.settles_at)

    assert books.places() == (600, 0, 400)


def test_a_person_credits_another_affiliate(books: Books) -> None:
    bob = books.affiliate("BOB")
    answer = books.tell("1001", snapshot(10_000), paid())
    books.settle()
    assert answer.order_id is not None
    order_id = answer.order_id

    run_unit(
        books.engine,
        lambda session: desk.attribute(session, person(books), order_id, affiliate_id=bob, reason_code="chat shows it"),
    )

    assert books.places() == (0, 0, 0)
    assert books.places(owner=bob) == (1_000, 0, 0)


def test_an_affiliate_is_recognised_by_any_of_several_addresses(books: Books) -> None:
    cara = books.affiliate("CARA", identities={"address": ["home", "office"], "email": "cara"})

    books.tell("1001", snapshot(10_000, coupon="CARA", customer=(("address", "office"), ("email", "x"))))
    books.tell("1002", snapshot(10_000, coupon="CARA", customer=(("address", "cara"), ("email", "home"))))

    reasons = books.rows(
        "SELECT attribution_reason FROM assessment WHERE merchant_id = :merchant_id ORDER BY placed_at, 1"
    )
    assert sorted(row.attribution_reason for row in reasons) == ["no_eligible_touch", "won"]
    assert books.places(owner=cara) == (1_000, 0, 0)


def test_an_identity_match_is_computed_once(books: Books) -> None:
    customer = (("email", "hash-of-ann"),)
    cara = books.affiliate("CARA", identities={"email": "hash-of-ann"})
    books.tell("1001", snapshot(10_000, coupon="CARA", customer=customer))
    self_purchase = books.places(owner=cara)

    books.engine.dispose()
    run_unit(
        books.engine, lambda session: session.connection().exec_driver_sql("UPDATE affiliate SET identities = '{}'")
    )
    books.tell("1001", refund("r1", 1_000))

    assert self_purchase == (0, 0, 0)
    assert books.places(owner=cara) == (0, 0, 0)


def test_what_lies_ahead_of_our_clock_parks(books: Books) -> None:
    ahead = books.now + timedelta(minutes=6)

    [answer] = books.receive(books.delivery("1001", snapshot(10_000, placed=ahead)))

    assert (answer.state, answer.reason_code) == (InboxState.PARKED, "placed_ahead")
    assert books.rows("SELECT FROM orders WHERE merchant_id = :merchant_id") == []


def test_what_was_parked_gets_its_first_answer_also_when_its_order_has_come_since(books: Books) -> None:
    parked = books.delivery("1001", snapshot(10_000, placed=books.now + timedelta(hours=1)))
    [first] = books.receive(parked)
    books.tell("1001", snapshot(10_000))

    [again] = books.receive(parked)

    assert (first.state, first.order_id) == (InboxState.PARKED, None)
    assert (again.state, again.order_id, again.repeated) == (InboxState.PARKED, None, True)


def test_a_sealed_day_sends_the_booking_to_the_next_open_one(books: Books) -> None:
    books.tell("1001", snapshot(10_000))
    run_unit(
        books.engine, lambda session: session.connection().exec_driver_sql("UPDATE day_slot SET sealed_at = now()")
    )

    books.tell("1002", snapshot(10_000))

    days = [row.day for row in books.rows("SELECT day FROM posting WHERE merchant_id = :merchant_id ORDER BY id")]
    assert days[1] == days[0] + timedelta(days=1)
    assert books.balance(AccountKind.PENDING) == 2_000
