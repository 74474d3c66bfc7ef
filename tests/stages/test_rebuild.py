"""Books made again from deliveries, dated inputs and settle dates: equal where they are honest, named where not."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions import inputs
from service.commissions.advance import give_due
from service.domain.ledger import AccountKind, MerchantTime
from service.domain.order import Milestone
from service.domain.settlement import Approval, StatementSettlement
from service.infra.db import execute, fetch, make_engine, read_session, unit_of_work
from service.intake import record
from service.intake.record import Received
from service.ledger.audit import check
from service.rebuild import orders
from service.rebuild.books import Rebuilt, rebuild
from service.rebuild.differences import RebuiltCode
from service.rebuild.snapshot import stream
from tests.support import databases
from tests.support.books import ten_percent
from tests.support.told_shop import ToldShop, a_shop_with_everything

C = RebuiltCode


@contextmanager
def engine_on(url: str) -> Iterator[Engine]:
    engine = make_engine(url, pool_size=2)
    try:
        yield engine
    finally:
        engine.dispose()


@dataclass(frozen=True)
class Kept:
    """A shop in which everything happened, in a database of its own to copy from."""

    url: str
    shop: ToldShop


@pytest.fixture(scope="module")
def everything() -> Iterator[Kept]:
    with databases.new_database(migrated=True) as url, engine_on(url) as engine:
        shop = a_shop_with_everything(engine)
        engine.dispose()
        yield Kept(url, shop)


def made_again(shop: ToldShop, live: Engine) -> Rebuilt:
    # Terms are remembered because nobody may change them; here somebody does.
    inputs._terms.clear()
    with databases.new_database(migrated=True) as url, engine_on(url) as into:
        return rebuild(live, into, shop.merchant_id, shop.security, tell=lambda *_: None)


# Honest books.


def test_books_in_which_everything_happened_come_out_the_same(everything: Kept, engine: Engine) -> None:
    with databases.new_database(like=everything.url) as url, engine_on(url) as live:
        with read_session(live) as session:
            findings = check(session, everything.shop.merchant_id)

        rebuilt = made_again(everything.shop, live)

    assert findings == []
    assert rebuilt.findings == []
    assert rebuilt.payouts == 6
    assert rebuilt.deliveries > 40


def test_a_merchant_without_orders_comes_out_the_same(engine: Engine) -> None:
    rebuilt = made_again(ToldShop(engine), engine)

    assert (rebuilt.findings, rebuilt.deliveries, rebuilt.payouts) == ([], 0, 0)


def test_erasing_a_person_changes_nothing_that_is_made_again(engine: Engine) -> None:
    shop = ToldShop(engine)
    ben = shop.a_koc("BEN", email="ben@mail.example")
    shop.order("own", coupon="BEN", customer={"email": "ben@mail.example"})
    shop.order("sold", coupon="BEN", customer={"email": "cat@mail.example"})
    shop.erase(ben)

    rebuilt = made_again(shop, engine)

    assert rebuilt.findings == []


def test_the_books_of_another_merchant_do_not_matter(engine: Engine) -> None:
    shop, other = ToldShop(engine), ToldShop(engine)
    shop.order("ours")
    other.order("theirs")
    with unit_of_work(engine) as session:
        execute(session, "DELETE FROM inbox WHERE merchant_id = :id", {"id": other.merchant_id})

    assert made_again(shop, engine).findings == []
    assert made_again(other, engine).counts[C.FACT] == 2


def test_a_dispute_that_was_closed_before_it_could_freeze_anything_is_booked_as_it_was(engine: Engine) -> None:
    """Told in one batch it never froze what was settled; told apart it did, and the clock has to run out again."""
    shop = ToldShop(engine)
    for number in ("together", "apart"):
        shop.order(number)
    shop.books.settle()
    opened = shop.ago(days=20)
    shop.dispute("apart", "d-1", opened=opened)
    shop.dispute("apart", "d-1", opened=opened, outcome="won")
    shop.books.receive(
        shop.read(shop.a_dispute("together", "d-2", opened=opened)),
        shop.read(shop.a_dispute("together", "d-2", opened=opened, outcome="won")),
    )
    apart, together = (shop.books.commission(number) for number in ("apart", "together"))

    rebuilt = made_again(shop, engine)

    assert (apart.pending_minor, together.settled_minor) == (1000, 1000)
    assert rebuilt.findings == []


def test_what_fell_due_just_before_the_last_settle_run_may_still_be_pending(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.order("settled")
    shop.books.settle()
    shop.order("raised", "50.00", updated_at=shop.ago(hours=1))
    shop.books.settle()
    shop.order("raised", "80.00")

    rebuilt = made_again(shop, engine)

    assert shop.books.commission("raised").pending_minor == 300
    assert rebuilt.findings == []


def test_advances_come_out_the_same_and_a_changed_one_does_not(engine: Engine) -> None:
    shop = ToldShop(engine)
    late = StatementSettlement(Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL, advance=Fraction(1, 2))
    shop.books.version(2, ten_percent(settlement=late), valid_from=datetime(2020, 6, 1, tzinfo=UTC))
    for number in ("paid", "refunded"):
        shop.order(number, placed_at=datetime(2026, 5, 12, tzinfo=UTC))
    given = give_due(engine, merchant_id=shop.merchant_id)
    shop.pay()
    shop.refund("refunded", "100.00", "r-1")
    shop.books.advance(days=1)
    shop.decide("approve", "paid", amount_minor=700)
    shop.books.settle()
    honest = made_again(shop, engine)
    with unit_of_work(engine) as session:
        execute(session, "UPDATE advance SET amount_minor = amount_minor - 1 WHERE kind = 'repaid'")

    tampered = made_again(shop, engine)

    assert given == 2
    assert (shop.books.balance(AccountKind.PAYABLE), shop.books.balance(AccountKind.ADVANCE)) == (0, -300)
    assert honest.findings == []
    assert [(one.code, one.detail, one.found) for one in tampered.findings] == [
        (C.BALANCE, "advance USD", "-300"),
        (C.BALANCE, "payable USD", "0"),
    ]


def test_what_has_long_been_due_may_not_still_be_pending(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.order("forgotten")
    shop.order("settled")
    with unit_of_work(engine) as session:
        execute(
            session,
            "UPDATE commission SET settles_at = NULL WHERE order_id = (SELECT id FROM orders WHERE external_id = 'forgotten')",
        )
    shop.books.advance(days=2)
    shop.books.settle()
    with unit_of_work(engine) as session:
        execute(
            session,
            "UPDATE commission SET settles_at = (SELECT settles_at FROM commission WHERE settles_at IS NOT NULL)"
            " WHERE settles_at IS NULL",
        )

    rebuilt = made_again(shop, engine)

    assert [(one.code, "forgotten" in one.detail) for one in rebuilt.findings if one.code != C.TARGET] == [
        (C.PLACE, True)
    ]


def test_money_that_had_left_before_the_freeze_may_stay_settled(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.order("paid out")
    shop.books.settle()
    shop.pay()
    shop.dispute("paid out", "d-1", opened=shop.ago(days=1))

    rebuilt = made_again(shop, engine)

    assert shop.books.commission("paid out").settled_minor == 1000
    assert shop.books.balance(AccountKind.PAID) == 1000
    assert rebuilt.findings == []


def test_money_taken_back_from_a_run_by_a_freeze_comes_out_the_same(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.order("kept")
    shop.order("frozen", "50.00")
    shop.books.settle()
    shop.payouts.now = shop.books.now
    run = shop.payouts.an_approved_run()
    shop.dispute("frozen", "d-1", opened=shop.ago(days=1))
    before = shop.books.places()
    shop.payouts.work(shop.payouts.execute(run))

    rebuilt = made_again(shop, engine)

    assert (before, shop.books.places()) == ((0, 500, -500), (0, 500, 1000))
    assert rebuilt.findings == []


def test_money_on_its_way_when_the_freeze_came_may_stay_settled_also_after_the_rail_refused_it(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.order("refused")
    shop.books.settle()
    shop.payouts.rail.does["sandbox_ann"] += ["late"]
    run = shop.pay()
    shop.dispute("refused", "d-1", opened=shop.ago(days=1))
    shop.payouts.rail.late.clear()
    for _ in range(4):
        shop.payouts.later(hours=30)
        shop.payouts.work(run)

    rebuilt = made_again(shop, engine)

    assert [attempt.outcome for attempt in shop.payouts.attempts(shop.books.ann)] == ["absent"]
    assert shop.books.commission("refused").settled_minor == 1000
    assert rebuilt.findings == []


def test_parked_deliveries_that_would_be_understood_today_are_counted(engine: Engine) -> None:
    shop = ToldShop(engine)
    shop.deliver(shop.an_order("ahead", updated_at=shop.books.now + timedelta(hours=1)))

    rebuilt = made_again(shop, engine)

    assert rebuilt.parked_but_readable == 1
    assert rebuilt.findings == []


def test_memory_is_bounded_by_few_bodies_however_many_deliveries_wait_to_be_booked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = ToldShop(engine)
    for number in range(3):
        shop.deliver(shop.an_order(f"order {number}"))
    bodies: list[bytes] = []

    def apply(session: Session, filed: Sequence[tuple[Received, UUID]], when: Mapping[UUID, MerchantTime]) -> object:
        bodies.extend(received.body for received, _ in filed)
        return record.apply(session, filed, when)

    monkeypatch.setattr(orders, "apply", apply)
    rebuilt = made_again(shop, engine)

    assert rebuilt.findings == []
    assert bodies == [b"", b"", b""]


def test_a_list_is_read_no_further_than_the_rows_fetched_in_one_go(engine: Engine) -> None:
    with Session(engine) as session:
        execute(session, "CREATE TEMPORARY SEQUENCE read")
        rows = stream(session, "SELECT nextval('read') FROM generate_series(1, 100)", {}, rows_at_once=16)
        ahead = [fetch(session, "SELECT last_value FROM read")[0][0] - taken for taken, _ in enumerate(rows, start=1)]

    assert len(ahead) == 100
    assert max(ahead) < 16


# Books that were tampered with.


@dataclass(frozen=True)
class Tampering:
    """Statements that change the live books, the kinds of differences they make, and what all of these must name."""

    statements: tuple[str, ...]
    codes: frozenset[RebuiltCode]
    names: tuple[str, ...]


def tampering(*statements: str, codes: set[RebuiltCode], names: str | tuple[str, ...]) -> Tampering:
    return Tampering(statements, frozenset(codes), (names,) if isinstance(names, str) else names)


def order_of(number: str) -> str:
    return f"(SELECT id FROM orders WHERE external_id = '{number}')"


def commission_of(number: str) -> str:
    return f"(SELECT id FROM commission WHERE order_id = {order_of(number)} AND currency = 'USD')"


def affiliate(coupon: str) -> str:
    return f"(SELECT id FROM affiliate WHERE name = '{coupon.title()}')"


def balance(coupon: str, kind: str) -> str:
    return f"owner_id = {affiliate(coupon)} AND kind = '{kind}' AND currency = 'USD'"


def delivery_of(number: str) -> str:
    return f"order_external_id = '{number}'"


TAMPERINGS = {
    "a commission was raised together with its entry, posting and balance": tampering(
        f"UPDATE commission SET target_minor = 2001, pending_minor = 2001 WHERE id = {commission_of('new terms')}",
        f"UPDATE commission_entry SET amount_minor = 2001 WHERE commission_id = {commission_of('new terms')}",
        "UPDATE posting SET amount_minor = 2001 WHERE id IN"
        f" (SELECT posting_id FROM commission_entry WHERE commission_id = {commission_of('new terms')})",
        f"UPDATE balance SET amount_minor = amount_minor + 1 WHERE {balance('ANN', 'pending')}",
        codes={C.TARGET},
        names="new terms",
    ),
    "a receipt was rewritten": tampering(
        "UPDATE commission SET receipt = jsonb_set(receipt, '{lines,0,rate}', '\"90\"')"
        f" WHERE id = {commission_of('clicked')}",
        codes={C.TARGET},
        names="clicked",
    ),
    "a reason was rewritten": tampering(
        f"UPDATE commission SET reason_code = 'earned' WHERE id = {commission_of('held')}",
        codes={C.TARGET},
        names="held",
    ),
    "a fact was edited under its old hash": tampering(
        "UPDATE fact SET payload = jsonb_set(payload, '{lines,0,2}', '999')"
        f" WHERE kind = 'order' AND order_id = {order_of('clicked')}",
        codes={C.FACT},
        names="clicked",
    ),
    "a fact was taken away": tampering(
        f"DELETE FROM fact WHERE kind = 'milestone' AND order_id = {order_of('last')}", codes={C.FACT}, names="last"
    ),
    "what is not due was settled, with entry and balances": tampering(
        f"UPDATE commission SET pending_minor = 0, settled_minor = 2000, entry_seq = 2, reason_code = 'earned'"
        f" WHERE id = {commission_of('new terms')}",
        "INSERT INTO commission_entry SELECT merchant_id, commission_id, 2, 'settle', 'pending', 'payable', 2000,"
        " posting_id, 99, (SELECT max(created_at) FROM commission_entry)"
        f" FROM commission_entry WHERE commission_id = {commission_of('new terms')}",
        f"UPDATE balance SET amount_minor = amount_minor - 2000 WHERE {balance('ANN', 'pending')}",
        f"UPDATE balance SET amount_minor = amount_minor + 2000 WHERE {balance('ANN', 'payable')}",
        codes={C.PLACE},
        names="new terms",
    ),
    "what is held was let go, though none of it had left": tampering(
        f"UPDATE commission SET held_minor = 0, settled_minor = 1000 WHERE id = {commission_of('held')}",
        f"UPDATE balance SET amount_minor = amount_minor - 1000 WHERE {balance('CAT', 'held')}",
        f"UPDATE balance SET amount_minor = amount_minor + 1000 WHERE {balance('CAT', 'payable')}",
        codes={C.PLACE},
        names="held",
    ),
    "a delivery was taken away": tampering(
        f"DELETE FROM inbox WHERE {delivery_of('clicked')}", codes={C.FACT, C.ORDER, C.TARGET}, names="clicked"
    ),
    "a refund was taken away": tampering(
        f"DELETE FROM inbox WHERE {delivery_of('later')} AND understood ->> 'kind' = 'refund'",
        codes={C.FACT, C.ORDER, C.TARGET},
        names="later",
    ),
    "a decision was taken away": tampering(
        f"DELETE FROM inbox WHERE {delivery_of('rejected')} AND topic = 'reject'",
        codes={C.FACT, C.TARGET},
        names="rejected",
    ),
    "a delivery was set aside": tampering(
        f"UPDATE inbox SET state = 'parked', reason_code = 'no_currency' WHERE {delivery_of('last')}",
        codes={C.FACT, C.ORDER, C.TARGET},
        names="last",
    ),
    "a delivery was rewritten": tampering(
        "UPDATE inbox SET body = convert_to(replace(convert_from(body, 'UTF8'), '123.45', '923.45'), 'UTF8')"
        f" WHERE {delivery_of('last')}",
        codes={C.DELIVERY, C.FACT, C.ORDER, C.TARGET},
        names="last",
    ),
    "a delivery cannot be read any more": tampering(
        f"UPDATE inbox SET body = '\\x7b7d' WHERE {delivery_of('last')}",
        codes={C.DELIVERY, C.FACT, C.ORDER, C.TARGET},
        names="last",
    ),
    "a decision cannot be read any more": tampering(
        f"UPDATE inbox SET body = '\\x7b7d' WHERE {delivery_of('taken over')} AND topic = 'attribute'",
        codes={C.DELIVERY, C.FACT, C.ORDER, C.TARGET},
        names="taken over",
    ),
    "a decision speaks of an order of nobody's": tampering(
        'UPDATE inbox SET body = convert_to(regexp_replace(convert_from(body, \'UTF8\'), \'"source_id":"[^"]*"\','
        " '\"source_id\":\"00000000-0000-4000-8000-000000000000\"'), 'UTF8')"
        f" WHERE {delivery_of('taken over')} AND topic = 'attribute'",
        codes={C.DELIVERY, C.FACT, C.ORDER, C.TARGET},
        names="taken over",
    ),
    "a delivery is filed under another order": tampering(
        f"UPDATE inbox SET order_external_id = 'last' WHERE {delivery_of('too late')}",
        codes={C.DELIVERY},
        names="order last",
    ),
    "a delivery was put in": tampering(
        "INSERT INTO inbox SELECT merchant_id, source_id, 'forged', sha256(made.body), gen_random_uuid(), topic,"
        " received_at, made.body, state, answered, reason_code, detail, order_source_id, order_external_id, understood"
        " FROM inbox CROSS JOIN LATERAL (SELECT convert_to(replace(replace(convert_from(inbox.body, 'UTF8'), 'r-4',"
        " 'r-9'), 'paid and refunded', 'last'), 'UTF8') AS body) AS made"
        f" WHERE {delivery_of('paid and refunded')} AND inbox.understood ->> 'kind' = 'refund'",
        codes={C.DELIVERY, C.FACT, C.ORDER, C.TARGET},
        names=("last", "paid and refunded"),
    ),
    "old terms were edited": tampering(
        "UPDATE program_version SET terms = jsonb_set(terms, '{rules,0,rate}', '\"20\"') WHERE number = 1",
        codes={C.TARGET},
        names="order",
    ),
    "a coupon was given to somebody else": tampering(
        f"UPDATE coupon_owner SET affiliate_id = {affiliate('BEN')}"
        " WHERE coupon_id = (SELECT id FROM coupon WHERE code = 'DAN')",
        codes={C.ORDER, C.TARGET},
        names="last",
    ),
    "an approval was taken away": tampering(
        f"DELETE FROM affiliate_approval WHERE affiliate_id = {affiliate('DAN')}",
        codes={C.ORDER, C.TARGET},
        names="last",
    ),
    "an order was given to somebody else": tampering(
        f"UPDATE assessment SET affiliate_id = {affiliate('BEN')} WHERE order_id = {order_of('last')}",
        codes={C.ORDER},
        names="last",
    ),
    "a posting was edited together with its balance": tampering(
        "UPDATE posting SET amount_minor = amount_minor + 1 WHERE event LIKE 'payout/%/accept'"
        f" AND credit_owner_id = {affiliate('BEN')}",
        f"UPDATE balance SET amount_minor = amount_minor + 1 WHERE {balance('BEN', 'payable')}",
        codes={C.BALANCE},
        names="payable USD",
    ),
    "a balance is gone": tampering(
        f"DELETE FROM balance WHERE {balance('CAT', 'in_transit')}", codes={C.BALANCE}, names="in_transit USD"
    ),
    "the rail's word that it paid was taken away": tampering(
        "DELETE FROM provider_fact WHERE kind = 'accepted' AND item_id ="
        " (SELECT id FROM payout_item WHERE gross_minor = 9600)",
        codes={C.PAYOUT, C.BALANCE},
        names=("attempt 1 of 9900 USD", "paid USD", "in_transit USD"),
    ),
    "the rail's word that money came back was taken away": tampering(
        "DELETE FROM provider_fact WHERE kind = 'reversed' AND item_id ="
        " (SELECT id FROM payout_item WHERE gross_minor = 6500)",
        codes={C.BALANCE},
        names=("paid USD", "taxed_carry USD"),
    ),
    "more was carried than ever came back": tampering(
        "DELETE FROM provider_fact WHERE kind = 'reversed' AND amount_minor = 300",
        codes={C.PAYOUT, C.BALANCE},
        names=("9600 + 300 USD", "USD"),
    ),
    "a released payout was taken for one underway": tampering(
        "UPDATE payout_item SET released_at = NULL WHERE gross_minor = 1500",
        codes={C.BALANCE},
        names=("payable USD", "reserved USD"),
    ),
    "an unknown attempt was called refused": tampering(
        "UPDATE payout_attempt SET outcome = 'refused' WHERE outcome = 'unknown'",
        codes={C.BALANCE},
        names=("in_transit USD", "reserved USD"),
    ),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_books_that_were_tampered_with_are_told_apart(everything: Kept, engine: Engine, what: str) -> None:
    tampered = TAMPERINGS[what]
    with databases.new_database(like=everything.url) as url, engine_on(url) as live:
        with unit_of_work(live) as session:
            execute(session, "SET LOCAL session_replication_role = replica")
            for statement in tampered.statements:
                assert execute(session, statement.replace(":", "\\:")) > 0, statement

        rebuilt = made_again(everything.shop, live)

    assert {one.code for one in rebuilt.findings} == tampered.codes
    strange = [one for one in rebuilt.findings if not any(name in one.detail for name in tampered.names)]
    assert strange == []
