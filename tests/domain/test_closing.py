"""Closing: lines that balance, and a digest that tells any change."""

from dataclasses import replace
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.closing import FIRST, TrialLine, close_digest, out_of_balance

SHOP = UUID(int=1)
DAYS = {"begins_on": date(2026, 10, 1), "until": date(2026, 10, 31)}
LINES = [TrialLine("commission_expense", "USD", 500, 300, 20), TrialLine("pending", "USD", -500, 20, 300)]
AMOUNTS = st.integers(0, 10**12)
ACCOUNTS = st.sampled_from(["commission_expense", "pending", "payable", "paid"])


def digest(lines: list[TrialLine], previous: str = FIRST) -> str:
    return close_digest(previous, merchant_id=SHOP, **DAYS, lines=lines)


def test_a_line_closes_with_what_it_opened_with_and_what_moved() -> None:
    assert [line.closing_minor for line in LINES] == [780, -780]


def test_a_line_comes_back_from_its_json() -> None:
    assert [TrialLine.of_json(line.as_json()) for line in LINES] == LINES


@given(st.lists(st.tuples(ACCOUNTS, ACCOUNTS, AMOUNTS), max_size=30))
def test_whatever_was_posted_balances(moves: list[tuple[str, str, int]]) -> None:
    lines = [
        line
        for debit, credit, amount in moves
        for line in (TrialLine(debit, "VND", 0, amount, 0), TrialLine(credit, "VND", 0, 0, amount))
    ]

    assert out_of_balance(lines) == {}


def test_what_does_not_balance_is_told_by_currency() -> None:
    assert out_of_balance([*LINES, TrialLine("paid", "VND", 0, 7, 0)]) == {"VND": 7}


@given(st.permutations(LINES))
def test_the_order_of_lines_does_not_change_the_digest(lines: list[TrialLine]) -> None:
    assert digest(lines) == digest(LINES)


@pytest.mark.parametrize(
    "other",
    [
        replace(LINES[0], account="held"),
        replace(LINES[0], currency="EUR"),
        replace(LINES[0], opening_minor=501),
        replace(LINES[0], debit_minor=301),
        replace(LINES[0], credit_minor=21),
    ],
    ids=["account", "currency", "opening", "debits", "credits"],
)
def test_any_other_line_has_another_digest(other: TrialLine) -> None:
    assert digest([other, LINES[1]]) != digest(LINES)


def test_another_merchant_other_days_and_another_past_have_another_digest() -> None:
    others = [
        close_digest(FIRST, merchant_id=UUID(int=2), **DAYS, lines=LINES),
        close_digest(FIRST, merchant_id=SHOP, **DAYS | {"until": date(2026, 11, 1)}, lines=LINES),
        close_digest(FIRST, merchant_id=SHOP, **DAYS | {"begins_on": date(2026, 10, 2)}, lines=LINES),
        digest(LINES, previous=digest([])),
    ]

    assert len({digest(LINES), *others}) == 5
