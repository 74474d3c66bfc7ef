"""Claims below HTTP: closed once, told once, and what was decided for them told once whatever comes at a time."""

from datetime import date, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row
from sqlalchemy.exc import IntegrityError

from service.domain.claim import (
    AnswerCode,
    ClaimKind,
    ClaimOutcome,
    ClaimState,
    answer_code,
    bare_number,
    settles_itself,
)
from service.infra.db import run_unit
from service.infra.ids import new_id
from service.intake import claims, desk
from service.intake.claims import ClaimClosed, Claimed, Ruling, may_still_object, tell_overdue
from service.intake.desk import AdjustedOtherwise, Adjustment, Person
from tests.support.books import Books, paid, snapshot
from tests.support.races import together, won, wrong_with


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


def opened(books: Books, number: str = "1001", kind: ClaimKind = ClaimKind.MISSING_ORDER, *, days: int = 14) -> UUID:
    claimed = Claimed(books.ann, kind, None, number)

    def work(session: Any) -> UUID:
        return claims.open_claim(session, books.merchant_id, claimed, now=books.now, days=days).id

    return run_unit(books.engine, work)


def a_person(books: Books) -> Person:
    return Person(books.merchant_id, new_id(), books.now)


GIVE = Ruling(ClaimOutcome.ACCEPT, "missing_order", amount=(500, "USD"))
REFUSE = Ruling(ClaimOutcome.REJECT, "no_evidence")


def test_of_many_decisions_at_once_one_counts_and_is_booked_once(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())
    claim_id = opened(books, kind=ClaimKind.WRONG_AMOUNT)

    def decide(ruling: Ruling) -> ClaimState:
        person = a_person(books)
        return ClaimState(
            run_unit(books.engine, lambda session: claims.decide(session, person, claim_id, ruling).state)
        )

    answers = together(*[partial(decide, ruling) for ruling in (GIVE, REFUSE) * 5], refused=ClaimClosed)

    [state] = won(answers)
    assert books.commission("1001").target_minor == (1_500 if state is ClaimState.ACCEPTED else 1_000)
    assert wrong_with(books.engine, books.merchant_id) == []


def test_of_many_claims_about_an_order_at_once_one_is_open(books: Books) -> None:
    answers = together(*[partial(opened, books) for _ in range(8)], refused=IntegrityError)

    assert len(won(answers)) == 1
    assert {str(each).count("claim_open_key") > 0 for each in answers if isinstance(each, Exception)} == {True}


def test_one_named_bonus_told_by_many_at_once_is_given_once(books: Books) -> None:
    def give(amount_minor: int) -> bool:
        asked = Adjustment(books.ann, amount_minor, "USD", "goodwill", external_id="tet")
        person = a_person(books)
        return run_unit(books.engine, lambda session: desk.adjust(session, person, asked).repeated)

    answers = together(*[partial(give, 100 + number % 2) for number in range(10)], refused=AdjustedOtherwise)

    assert sorted(won(answers)) == [False, True, True, True, True]
    [row] = books.rows("SELECT target_minor FROM commission WHERE merchant_id = :merchant_id")
    assert row.target_minor in {100, 101}
    assert wrong_with(books.engine, books.merchant_id) == []


def test_what_is_overdue_is_told_once_by_many_workers(books: Books) -> None:
    late = [opened(books, str(number), days=1) for number in range(6)]
    opened(books, "in time", days=30)
    books.advance(days=2)

    def tell() -> int:
        return run_unit(
            books.engine,
            lambda session: tell_overdue(
                session, merchant_id=books.merchant_id, now=books.now - timedelta(seconds=books.offset_s)
            ),
        )

    told = [*together(*[tell] * 4), tell()]

    rows = books.rows("SELECT subject_id FROM outbox WHERE merchant_id = :merchant_id AND type = 'claim.overdue'")
    assert sum(told) == 6
    assert sorted(row.subject_id for row in rows) == late
    assert {row.state for row in books.rows("SELECT state FROM claim WHERE merchant_id = :merchant_id")} == {"open"}


def test_a_claim_by_number_is_bound_to_its_order_before_the_next(books: Books) -> None:
    opened(books, "1001")
    books.tell("1001", snapshot(10_000, coupon=None))
    opened(books, "1002")

    rows = books.rows("SELECT subject FROM claim WHERE merchant_id = :merchant_id ORDER BY id")
    assert rows[0].subject.startswith("ord_")
    assert rows[1].subject == "number:1002"


@pytest.mark.parametrize(
    ("ends", "may"), [(None, True), (timedelta(days=1), True), (timedelta(0), True), (timedelta(days=-1), False)]
)
def test_a_statement_is_open_to_objections_until_it_says(ends: timedelta | None, may: bool) -> None:
    today = date(2026, 11, 29)
    until = None if ends is None else (today + ends).isoformat()
    row = cast("Row[Any]", SimpleNamespace(outlook={"statement": {"objection_until": until}}))

    assert may_still_object(row, today) is may


def test_a_commission_without_statement_is_always_open_to_objections(books: Books) -> None:
    books.tell("1001", snapshot(10_000), paid())

    assert may_still_object(books.commission("1001"), books.now.date())


@pytest.mark.parametrize(
    ("known", "arrived", "yours", "credited", "code"),
    [
        (False, False, False, False, AnswerCode.UNKNOWN_ORDER),
        (True, False, False, False, AnswerCode.TOO_EARLY),
        (True, True, True, True, AnswerCode.CREDITED_TO_YOU),
        (True, True, True, False, AnswerCode.CREDITED_TO_YOU),
        (True, True, False, True, AnswerCode.CREDITED_TO_ANOTHER),
        (True, True, False, False, AnswerCode.CREDITED_TO_NOBODY),
    ],
)
def test_what_the_books_say(known: bool, arrived: bool, yours: bool, credited: bool, code: AnswerCode) -> None:
    assert answer_code(known=known, arrived=arrived, yours=yours, credited=credited) is code


def test_only_a_wrong_amount_leaves_something_to_decide_about_an_own_order() -> None:
    settled = {kind for kind in ClaimKind if settles_itself(kind, AnswerCode.CREDITED_TO_YOU)}

    assert settled == {ClaimKind.MISSING_ORDER, ClaimKind.WRONG_KOC}
    assert not any(
        settles_itself(kind, code) for kind in ClaimKind for code in set(AnswerCode) - {AnswerCode.CREDITED_TO_YOU}
    )


@pytest.mark.parametrize("told", ["1001", "#1001", "  #1001 ", "# 1001"])
def test_a_number_is_read_with_or_without_its_sign(told: str) -> None:
    assert bare_number(told) == "1001"
