"""What a merchant set up when is read from the tables as it was written, as far as orders ask for it, in few statements."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from sqlalchemy import Engine, event

from service.commissions import inputs as stored_inputs
from service.domain.dated import Binding, DatedInputs, Listing, Membership, Owner, Pause, PauseEffect, Since, Traceable
from service.domain.marks import ContentType, Grade, Label
from service.domain.order import OrderFacts, OrderSnapshot
from service.infra.db import make_engine, read_session, unit_of_work
from service.rebuild.copy import take_over
from tests.domain.builders import (
    ANN,
    ANNS_LINK,
    BEN,
    OTHER_PROGRAM,
    PROGRAM,
    a_click,
    a_coupon,
    a_line,
    a_shop,
    a_version,
    an_order,
    day,
    told,
)
from tests.support.books import Books
from tests.support.shop_tables import store_inputs

NewDatabase = Callable[..., AbstractContextManager[str]]

CAT, AGENCY, OTHER_AGENCY = UUID(int=0xC), UUID(int=0xD1), UUID(int=0xD2)
MAI, HOA = ("email", "hash-of-mai"), ("phone", "hash-of-hoa")
STAFF = (Listing(day(-50), "staff", listed=True), Listing(day(-5), "staff", listed=False))


def everything() -> DatedInputs:
    """A shop that uses all there is: Cat can be reached by bindings only, in another programme."""
    shop = a_shop()
    link = shop.links[ANNS_LINK]
    labels = (
        Label(day(-90), sub_ids=(("sub1", "spring"), ("sub2", "x"))),
        Label(day(-2), ContentType.LIVE, "zalo"),
        Label(day(3), None, "web", (("sub1", "summer"),)),
    )
    return replace(
        shop,
        versions={**shop.versions, OTHER_PROGRAM: (a_version(program=OTHER_PROGRAM),)},
        links={**shop.links, ANNS_LINK: replace(link, labels=labels)},
        enrollments={**shop.enrollments, (OTHER_PROGRAM, CAT): (Since(day(-90), holds=True),)},
        approvals={**shop.approvals, CAT: (Since(day(-90), holds=True),)},
        identities={**shop.identities, CAT: ()},
        customer_bindings={
            MAI: (
                Binding(day(-30), CAT, OTHER_PROGRAM, until=day(30)),
                Binding(day(-3), None, None),
            ),
        },
        product_bindings={"tea": (Binding(day(-20), CAT, OTHER_PROGRAM),)},
        listings={MAI: STAFF, HOA: (Listing(day(-1), "testers", listed=True),)},
        roster={
            ANN: (
                Membership(day(-40), AGENCY, Fraction(1, 8), Fraction(3, 100)),
                Membership(day(-10), OTHER_AGENCY, Fraction(1), Fraction(0)),
                Membership(day(1), None),
            ),
            CAT: (Membership(day(-7), AGENCY, Fraction(333333, 1_000_000), Fraction(0)),),
        },
        grades={ANN: (Grade(day(-80), "gold", frozenset({"beauty", "tea"})), Grade(day(5)))},
        pauses={
            PROGRAM: (Pause(day(-9), PauseEffect.STOP), Pause(day(-8), PauseEffect.NONE)),
            OTHER_PROGRAM: (Pause(day(2), PauseEffect.REVIEW),),
        },
    )


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


def loaded(books: Books, *orders: OrderSnapshot, engine: Engine | None = None) -> DatedInputs:
    facts = {(books.merchant_id, UUID(int=number)): told(order) for number, order in enumerate(orders)}
    with read_session(engine or books.engine) as session:
        return stored_inputs.load(session, facts)[books.merchant_id]


def statements(books: Books, work: Callable[[], object]) -> list[str]:
    """Return the statements about dated inputs that the work made; all of them join what was asked for."""
    seen: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(books.engine, "before_cursor_execute", keep)
    try:
        work()
    finally:
        event.remove(books.engine, "before_cursor_execute", keep)
    return [each for each in seen if " JOIN " in each]


def test_all_that_orders_name_is_read_as_it_was_written(books: Books) -> None:
    shop = everything()
    store_inputs(books, shop)

    first = an_order(a_line(sku="tea"), touches=[a_click(ANNS_LINK), a_coupon("ben10")], customer=(MAI,))
    found = loaded(books, first, an_order(touches=[], customer=(HOA,)))

    assert found.links == {ANNS_LINK: shop.links[ANNS_LINK]}
    assert found.coupons == {"ben10": shop.coupons["ben10"]}
    assert found.customer_bindings == shop.customer_bindings
    assert found.product_bindings == shop.product_bindings
    assert found.listings == shop.listings
    assert found.roster == shop.roster
    assert found.grades == shop.grades
    assert found.pauses == shop.pauses
    assert found.versions == shop.versions
    assert (found.enrollments, found.approvals, found.identities) == (
        shop.enrollments,
        shop.approvals,
        shop.identities,
    )


def test_books_made_again_take_all_of_it_over(books: Books, new_database: NewDatabase) -> None:
    store_inputs(books, everything())
    order = an_order(a_line(sku="tea"), touches=[a_click(ANNS_LINK), a_coupon("ben10")], customer=(MAI, HOA))
    with new_database(migrated=True) as url:
        again = make_engine(url)
        with read_session(books.engine) as live, unit_of_work(again) as into:
            take_over(live, into, books.merchant_id)

        found = loaded(books, order, engine=again)

        again.dispose()
    assert found == loaded(books, order)
    assert found.listings == everything().listings


def test_whoever_is_reached_by_a_binding_alone_is_read_with_its_programme(books: Books) -> None:
    shop = everything()
    store_inputs(books, shop)

    found = loaded(books, an_order(a_line(sku="tea"), touches=[]))

    assert found.product_bindings == shop.product_bindings
    assert set(found.approvals) == {CAT}
    assert set(found.versions) == set(found.pauses) == {OTHER_PROGRAM}
    assert found.roster == {CAT: shop.roster[CAT]}


def test_nothing_is_read_of_agencies_and_of_what_no_order_names(books: Books) -> None:
    store_inputs(books, everything())

    found = loaded(books, an_order(a_line(sku="coffee"), touches=[a_coupon("ben10")], customer=(("email", "x"),)))

    assert set(found.approvals) == {BEN}
    assert not {AGENCY, OTHER_AGENCY} & {*found.approvals, *found.identities}
    assert (found.roster, found.grades, found.links) == ({}, {}, {})
    assert (found.customer_bindings, found.product_bindings, found.listings) == ({}, {}, {})


def test_a_customer_of_another_merchant_is_another(books: Books) -> None:
    store_inputs(books, everything())
    other = Books.opened(books.engine)

    found = loaded(other, an_order(a_line(sku="tea"), touches=[a_click(ANNS_LINK)], customer=(MAI, HOA)))

    assert found == DatedInputs()


@pytest.mark.parametrize(
    ("order", "number"),
    [
        pytest.param(an_order(touches=[]), 0, id="that nothing brought"),
        # Coupons; affiliates; programmes.
        pytest.param(an_order(touches=[a_coupon()]), 3, id="with a coupon"),
        pytest.param(an_order(a_line(sku="tea"), touches=[a_coupon()], customer=(HOA,)), 4, id="that names more"),
        pytest.param(
            an_order(a_line(sku="tea"), touches=[a_coupon(), a_click()], customer=(MAI, HOA)), 5, id="with all"
        ),
    ],
)
def test_few_statements_are_made_however_many_orders_there_are(books: Books, order: OrderSnapshot, number: int) -> None:
    store_inputs(books, everything())
    loaded(books, order)

    made = statements(books, lambda: loaded(books, *[order] * 50))

    assert len(made) == number


def test_a_link_of_the_release_before_has_no_label(books: Books) -> None:
    shop = a_shop()
    store_inputs(books, shop)

    found = loaded(books, an_order(touches=[a_click(ANNS_LINK)]))

    link = found.links[ANNS_LINK]
    assert link == Traceable(ANNS_LINK, PROGRAM, (Owner(day(-90), ANN),))
    assert link.label_at(day(0) + timedelta(days=1)) is None


def test_what_is_read_decides_nothing_yet_for_an_order_without_a_snapshot(books: Books) -> None:
    with read_session(books.engine) as session:
        found = stored_inputs.load(session, {(books.merchant_id, UUID(int=1)): OrderFacts()})

    assert found == {books.merchant_id: DatedInputs()}
