"""Accounts, postings and booking days."""

from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.accounting import USUAL
from service.domain.commission import Move, Place, Places, difference, settle_move
from service.domain.errors import InvariantBroken
from service.domain.ledger import (
    Account,
    AccountKind,
    MerchantTime,
    Posting,
    account_of,
    booking_day,
    next_day,
    touches_payable,
)
from tests.domain import strategies
from tests.domain.builders import ANN, BEN, MERCHANT, utc
from tests.domain.strategies import examples

PENDING = account_of(Place.PENDING, merchant_id=MERCHANT, payee_id=ANN, currency="USD")
EXPENSE = account_of(Place.EXPENSE, merchant_id=MERCHANT, payee_id=ANN, currency="USD")
POSTING = Posting(UUID(int=1), "order/1/assessment/1", 0, debit=EXPENSE, credit=PENDING, amount_minor=1)


@pytest.mark.parametrize(
    ("place", "kind", "owner"),
    [
        (Place.EXPENSE, AccountKind.COMMISSION_EXPENSE, MERCHANT),
        (Place.PENDING, AccountKind.PENDING, ANN),
        (Place.HELD, AccountKind.HELD, ANN),
        (Place.PAYABLE, AccountKind.PAYABLE, ANN),
    ],
)
def test_a_place_stands_on_the_account_of_its_owner(place: Place, kind: AccountKind, owner: UUID) -> None:
    account = account_of(place, merchant_id=MERCHANT, payee_id=ANN, currency="VND")

    assert account == Account(MERCHANT, owner, kind, "VND")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"amount_minor": 0}, id="nothing"),
        pytest.param({"amount_minor": -1}, id="less than nothing"),
        pytest.param({"credit": EXPENSE}, id="from an account to itself"),
        pytest.param({"credit": replace(PENDING, currency="EUR")}, id="into another currency"),
        pytest.param({"credit": replace(PENDING, merchant_id=BEN)}, id="to another merchant"),
    ],
)
def test_a_posting_that_makes_no_sense_cannot_be_written(change: dict[str, object]) -> None:
    with pytest.raises(InvariantBroken, match="not a posting"):
        replace(POSTING, **change)  # type: ignore[arg-type] # fields of Posting


def test_a_posting_belongs_to_the_merchant_of_its_accounts() -> None:
    assert POSTING.merchant_id == MERCHANT


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        pytest.param(
            "2026-02-28T16:59:59", "Asia/Ho_Chi_Minh", date(2026, 2, 28), id="a second before midnight in Vietnam"
        ),
        pytest.param(
            "2026-02-28T17:00:00", "Asia/Ho_Chi_Minh", date(2026, 3, 1), id="midnight in Vietnam: another month"
        ),
        pytest.param(
            "2026-12-31T15:59:59", "Asia/Shanghai", date(2026, 12, 31), id="a second before midnight in China"
        ),
        pytest.param("2026-12-31T16:00:00", "Asia/Shanghai", date(2027, 1, 1), id="midnight in China: another year"),
        pytest.param("2028-02-28T17:00:00", "Asia/Ho_Chi_Minh", date(2028, 2, 29), id="a leap day"),
        pytest.param("2026-03-29T21:59:59", "Europe/Berlin", date(2026, 3, 29), id="the short day in Berlin"),
        pytest.param("2026-10-25T22:59:59", "Europe/Berlin", date(2026, 10, 25), id="the long day in Berlin"),
        pytest.param("2026-01-01T07:59:59", "America/Los_Angeles", date(2025, 12, 31), id="west of Greenwich"),
        pytest.param("2026-01-01T00:00:00", "UTC", date(2026, 1, 1), id="UTC"),
    ],
)
def test_the_booking_day_is_the_merchants_calendar_day(at: str, zone: str, expected: date) -> None:
    assert booking_day(utc(at), zone) == expected
    assert MerchantTime(utc(at), zone).day == expected


@examples(150)
@given(st.integers(0, 20 * 366 * 86_400), st.sampled_from(["Asia/Ho_Chi_Minh", "Asia/Shanghai"]))
def test_a_day_in_vietnam_or_china_is_24_hours_and_the_next_day_follows(second: int, zone: str) -> None:
    moment = utc("2020-01-01") + timedelta(seconds=second)

    assert booking_day(moment + timedelta(days=1), zone) == next_day(booking_day(moment, zone))
    assert booking_day(moment + timedelta(hours=1), zone) >= booking_day(moment, zone)


@pytest.mark.parametrize(
    ("move", "change"),
    [
        pytest.param(settle_move(70), 70, id="settle"),
        *(
            pytest.param(move, change, id=name)
            for name, now, target, frozen, change in [
                ("less earned", Places(0, 0, 70), 0, False, -70),
                ("freeze", Places(0, 0, 70), 70, True, -70),
                ("more earned", Places(0, 0, 0), 70, False, 0),
                ("unfreeze", Places(0, 70, 0), 70, False, 0),
            ]
            for move in difference(now, target_minor=target, frozen=frozen, freezable_minor=70)
        ),
    ],
)
def test_which_moves_touch_payable(move: Move, change: int) -> None:
    assert touches_payable(move) is (change != 0)


@examples(150)
@given(strategies.amounts, strategies.amounts, strategies.amounts, strategies.amounts, st.booleans())
def test_accounts_move_as_the_places_do(pending: int, held: int, settled: int, target: int, frozen: bool) -> None:
    now = Places(pending, held, settled)
    moves = difference(now, target_minor=target, frozen=frozen, freezable_minor=settled)

    sums = dict.fromkeys(AccountKind, 0)
    for seq, move in enumerate(moves):
        debit, credit = (
            account_of(place, merchant_id=MERCHANT, payee_id=ANN, currency="USD")
            for place in (move.source, move.destination)
        )
        posting = Posting(UUID(int=seq), "e", seq, debit, credit, move.amount_minor)
        sums[posting.debit.kind] -= posting.amount_minor
        sums[posting.credit.kind] += posting.amount_minor

    then = now.after(moves)
    assert sum(sums.values()) == 0
    assert sums[AccountKind.COMMISSION_EXPENSE] == now.posted_minor - target
    assert sums[AccountKind.PENDING] == then.pending_minor - pending
    assert sums[AccountKind.HELD] == then.held_minor - held
    assert sums[AccountKind.PAYABLE] == then.settled_minor - settled


def test_accounts_sort_by_merchant_owner_kind_and_currency() -> None:
    accounts = [
        Account(MERCHANT, BEN, AccountKind.HELD, "USD"),
        Account(MERCHANT, ANN, AccountKind.PENDING, "USD"),
        Account(MERCHANT, ANN, AccountKind.HELD, "VND"),
        Account(MERCHANT, ANN, AccountKind.HELD, "USD"),
    ]

    assert sorted(accounts) == [accounts[3], accounts[2], accounts[1], accounts[0]]


def test_accounting_has_a_name_for_every_account() -> None:
    assert USUAL.keys() == {kind.value for kind in AccountKind}
    assert len({name.code for name in USUAL.values()}) == len(USUAL)
