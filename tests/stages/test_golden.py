"""What other programmes document with figures, from deliveries to balances: reference/peers.md §4, domain.md §7.

docs/golden.md lists every golden test with its source.
"""

from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.commissions.reassess import reassess_due
from service.domain.conditions import CustomerIs, CustomerKind
from service.domain.ledger import AccountKind
from service.domain.order import Milestone, milestone_fact
from service.domain.periods import Cap, Span, Stretch
from service.domain.program import TechnicalFee, Terms
from service.domain.rules import Percent, Rule, When
from service.domain.settlement import Approval, RollingSettlement, StatementSettlement
from service.domain.written import rate_of
from tests.support.books import LONG_AGO, Books, at, paid, refund, snapshot, ten_percent
from tests.support.races import wrong_with
from tests.support.told_shop import ToldShop


@pytest.fixture
def shop(engine: Engine) -> ToldShop:
    """A shop that pays: Ann earns ten percent, payable fourteen days after an order was paid."""
    return ToldShop(engine)


def owed(shop: ToldShop) -> dict[str, int]:
    kinds = (AccountKind.PENDING, AccountKind.PAYABLE, AccountKind.PAID)
    return {kind.value: amount for kind in kinds if (amount := shop.books.balance(kind))}


# Tolt: peers.md §4.2


def test_golden_tolt_a_refund_before_it_is_paid_makes_it_nothing(shop: ToldShop) -> None:
    shop.order("1")

    shop.refund("1", "100.00", "r-1")

    assert (shop.books.commission("1").target_minor, owed(shop)) == (0, {})


def test_golden_tolt_a_refund_after_it_was_paid_is_a_new_negative_entry_netted_by_the_next_payout(
    shop: ToldShop,
) -> None:
    shop.order("1")
    shop.books.settle()
    shop.pay()
    [paid_out] = shop.payouts.items(shop.books.ann)
    entries = "SELECT seq, amount_minor, destination FROM commission_entry WHERE commission_id = :id ORDER BY seq"
    before = shop.books.rows(entries, id=shop.books.commission("1").id)

    shop.refund("1", "100.00", "r-1")
    after_refund = owed(shop)
    shop.order("2", "250.00")
    shop.books.settle()
    shop.pay()

    assert after_refund == {"paid": 1_000, "payable": -1_000}
    [first, second] = shop.payouts.items(shop.books.ann)
    assert (first.net_minor, second.net_minor) == (paid_out.net_minor, 2_500 - 1_000)
    # What was booked stays as it was; one more is behind it.
    now = shop.books.rows(entries, id=shop.books.commission("1").id)
    assert list(now[: len(before)]) == list(before)
    assert [tuple(each) for each in now[len(before) :]] == [(3, 1_000, "commission_expense")]
    assert owed(shop) == {"paid": 2_500}
    assert wrong_with(shop.engine, shop.merchant_id) == []


def test_golden_tolt_the_same_refund_again_takes_nothing_more(shop: ToldShop) -> None:
    shop.order("1")
    shop.refund("1", "40.00", "r-1")

    shop.refund("1", "40.00", "r-1")

    assert shop.books.commission("1").target_minor == 600
    assert wrong_with(shop.engine, shop.merchant_id) == []


# Dub: peers.md §4.1


def test_golden_dub_one_invoice_pays_once_however_often_it_is_told(shop: ToldShop) -> None:
    for _ in range(3):
        shop.order("INV-1", updated_at=shop.ago(days=1))

    assert len(shop.books.rows("SELECT FROM commission WHERE merchant_id = :merchant_id")) == 1
    assert owed(shop) == {"pending": 1_000}


def test_golden_dub_only_a_buyers_first_sale(engine: Engine) -> None:
    first_sale = Rule(Percent(rate_of("10")), when=When((CustomerIs(CustomerKind.NEW),)))
    books = Books.opened(engine, Terms(rules=(first_sale,)))
    mai = (("email", "hash-of-mai"),)

    for day in (1, 2, 3):
        books.tell(f"o{day}", snapshot(10_000, placed=at(day), customer=mai), paid(day))
    earned = [books.commission(f"o{day}").target_minor for day in (1, 2, 3)]
    # Dub forgets a first sale that was cancelled only while it is unpaid; here the next one always takes its place.
    books.tell("o1", snapshot(10_000, placed=at(1), customer=mai, cancelled=True, version=5))
    reassess_due(engine, books.merchant_id)

    assert earned == [1_000, 0, 0]
    assert [books.commission(f"o{day}").target_minor for day in (1, 2, 3)] == [0, 1_000, 0]
    assert wrong_with(engine, books.merchant_id) == []


@pytest.mark.parametrize(
    ("span", "first_day"), [(Span.DAY, None), (Span.MONTH, None), (Span.CAMPAIGN, at(1).date())], ids=str
)
def test_golden_dub_a_spend_limit_cuts_the_last_one_down(engine: Engine, span: Span, first_day: date | None) -> None:
    limit = Cap("limit", Stretch(span, first_day), (("USD", 5_000),))
    books = Books.opened(engine, ten_percent(periods=(limit,)))

    amounts = []
    for number in range(3):
        books.tell(f"o{number}", snapshot(20_000, placed=at(1)), paid(1))
        amounts.append(books.places()[0])
    books.settle()

    # 20.00, 20.00, and of the third 10.00.
    assert amounts == [2_000, 4_000, 5_000]
    assert books.places() == (0, 0, 5_000)
    assert wrong_with(engine, books.merchant_id) == []


# Awin: peers.md §4.2


@pytest.mark.parametrize(
    ("verdict", "approved", "settled"),
    [
        pytest.param("approve", 1_000, 1_000, id="approved"),
        pytest.param("approve", 600, 600, id="amended"),
        pytest.param("reject", None, 0, id="declined"),
        pytest.param(None, None, 0, id="not validated yet"),
    ],
)
def test_golden_awin_only_what_was_validated_is_payable(
    shop: ToldShop, verdict: str | None, approved: int | None, settled: int
) -> None:
    manual = RollingSettlement(Milestone.PAID, 0, Approval.MANUAL)
    shop.books.version(2, ten_percent(settlement=manual), valid_from=LONG_AGO + timedelta(days=1))
    shop.order("1")

    if verdict is not None:
        more: dict[str, Any] = {"amount_minor": approved} if approved else {}
        shop.decide(verdict, "1", **more)
    shop.books.settle()

    assert shop.books.balance(AccountKind.PAYABLE) == settled
    assert wrong_with(shop.engine, shop.merchant_id) == []


def test_golden_awin_validates_by_itself_after_67_days(shop: ToldShop) -> None:
    silent = RollingSettlement(Milestone.PAID, 0, Approval.MANUAL, auto_approve_days=67)
    shop.books.version(2, ten_percent(settlement=silent), valid_from=LONG_AGO + timedelta(days=1))
    shop.order("1", placed_at=shop.ago(days=66))

    early = shop.books.settle()
    shop.books.advance(days=1, seconds=1)

    assert (early, shop.books.settle()) == (0, 1)
    assert owed(shop) == {"payable": 1_000}


# impact.com: peers.md §4.2


def test_golden_impact_what_is_locked_is_never_changed_but_followed_by_an_adjustment(shop: ToldShop) -> None:
    locked = StatementSettlement(Milestone.PAID, 0, cut_off_day=31, months_after=1, pay_day=31)
    shop.books.version(2, ten_percent(settlement=locked), valid_from=LONG_AGO + timedelta(days=1))
    january = datetime(2026, 1, 17, tzinfo=at(1).tzinfo)
    shop.order("1", placed_at=january)
    commission = shop.books.commission("1")
    assert commission.settles_at.date().isoformat() == "2026-02-28"

    shop.refund("1", "25.00", "before it is locked")
    shop.books.settle()
    shop.refund("1", "25.00", "after it was locked")

    entries = shop.books.rows(
        "SELECT kind, amount_minor FROM commission_entry WHERE commission_id = :id ORDER BY seq", id=commission.id
    )
    assert [tuple(each) for each in entries] == [("accrue", 1_000), ("reduce", 250), ("settle", 750), ("reduce", 250)]
    assert owed(shop) == {"payable": 500}
    assert wrong_with(shop.engine, shop.merchant_id) == []


# Taobao: domain.md §1.2, §7; peers.md §4.3


def taobao(platform: UUID) -> Terms:
    return Terms(
        rules=(Rule(Percent(rate_of("9.10"))),),
        technical_fee=TechnicalFee(platform, rate_of("10")),
        settlement=StatementSettlement(Milestone.COMPLETED, 0, cut_off_day=31, months_after=1, pay_day=20),
    )


def test_golden_taobao_after_sales_after_settlement_are_deducted_from_koc_and_technical_fee(engine: Engine) -> None:
    books = Books.opened(engine)
    platform = books.affiliate("PLATFORM")
    books.version(2, taobao(platform), valid_from=LONG_AGO + timedelta(days=1))

    books.tell("1", snapshot(1_980, 10_000, currency="CNY", placed=at(3)), milestone_fact(Milestone.COMPLETED, at(30)))
    assert books.commission("1", currency="CNY").settles_at.date().isoformat() == "2026-02-20"
    assert (books.places(currency="CNY"), books.places(owner=platform, currency="CNY")) == (
        (162 + 819, 0, 0),
        (18 + 91, 0, 0),
    )
    books.settle()

    books.tell("1", refund("after-sales", 1_980, day=60, line="1", currency="CNY"))

    assert books.places(currency="CNY") == (0, 0, 819)
    assert books.places(owner=platform, currency="CNY") == (0, 0, 91)
    assert wrong_with(engine, books.merchant_id) == []
