"""Reconciling: what differs between two sides, what explains it, and that order and our own data change nothing."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import (
    Fact,
    Line,
    OrderFacts,
    OrderSnapshot,
    RefundFact,
    cancellation_fact,
    merge,
    order_fact,
    refund_fact,
)
from service.domain.reconciliation import (
    BANK_DAYS,
    BankLine,
    Difference,
    DifferenceKind,
    Explanation,
    Hint,
    LineKind,
    OrderFigures,
    PayoutFigures,
    Span,
    Told,
    compare_commission,
    compare_line,
    compare_order,
    compare_payout,
    figures_of,
)

K, E = DifferenceKind, Explanation
OCTOBER = Span(date(2026, 10, 1), date(2026, 10, 31), "Asia/Ho_Chi_Minh")
MIDDLE = datetime(2026, 10, 15, 12, tzinfo=UTC)
ORDER = OrderFigures(MIDDLE, MIDDLE, "USD", 10_000, 10_000, cancelled=False, refunds={})


def short(found: Sequence[Difference]) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(each.kind, each.theirs_minor, each.ours_minor, each.explained_by) for each in found]


def test_a_span_is_the_days_of_the_merchants_zone() -> None:
    assert OCTOBER.since == datetime(2026, 9, 30, 17, tzinfo=UTC)
    assert OCTOBER.before == datetime(2026, 10, 31, 17, tzinfo=UTC)
    assert [OCTOBER.holds(at) for at in (OCTOBER.since, OCTOBER.before)] == [True, False]


AT_EDGE = OCTOBER.before + timedelta(hours=13)
FAR = OCTOBER.before + timedelta(hours=15)
REFUNDED = replace(ORDER, net_minor=7_000, refunds={"r1": 3_000})
NEWER = ORDER.version_at + timedelta(minutes=1)

ORDERS: dict[
    str, tuple[OrderFigures | None, OrderFigures | None, list[tuple[str, int | None, int | None, str | None]]]
] = {
    "equal": (ORDER, ORDER, []),
    "neither": (None, None, []),
    "another version with the same figures": (replace(ORDER, version_at=NEWER), ORDER, []),
    "not here": (ORDER, None, [(K.MISSING, 10_000, None, None)]),
    "not in the file": (None, ORDER, [(K.EXTRA, None, 10_000, None)]),
    "not in the file, of another month": (None, replace(ORDER, placed_at=FAR), []),
    "not in the file, an hour before midnight": (
        None,
        replace(ORDER, placed_at=OCTOBER.before - timedelta(hours=1)),
        [(K.EXTRA, None, 10_000, E.PERIOD_BOUNDARY)],
    ),
    "not in the file, cancelled": (None, replace(ORDER, cancelled=True), [(K.EXTRA, None, 0, E.NOTHING_LEFT)]),
    "not in the file, refunded whole": (None, replace(ORDER, net_minor=0), [(K.EXTRA, None, 0, E.NOTHING_LEFT)]),
    "after our midnight": (
        ORDER,
        replace(ORDER, placed_at=AT_EDGE),
        [(K.MISSING, 10_000, None, E.PERIOD_BOUNDARY)],
    ),
    "of another month": (ORDER, replace(ORDER, placed_at=FAR), [(K.MISSING, 10_000, None, E.OUTSIDE_PERIOD)]),
    "of another month, of another amount": (
        replace(ORDER, net_minor=11_000),
        replace(ORDER, placed_at=FAR),
        [(K.MISSING, 11_000, None, None)],
    ),
    "after our midnight, in another currency": (
        replace(ORDER, currency="EUR"),
        replace(ORDER, placed_at=AT_EDGE),
        [(K.MISSING, 10_000, None, None)],
    ),
    "after our midnight, cancelled here": (
        ORDER,
        replace(ORDER, placed_at=AT_EDGE, cancelled=True),
        [(K.MISSING, 10_000, None, None)],
    ),
    "after our midnight, a refund that the file does not know": (
        ORDER,
        replace(REFUNDED, placed_at=AT_EDGE),
        [(K.MISSING, 10_000, None, E.PERIOD_BOUNDARY)],
    ),
    "of another month, a newer version here": (
        replace(ORDER, net_minor=11_000),
        replace(ORDER, placed_at=FAR, version_at=NEWER),
        [(K.MISSING, 11_000, None, E.OUTSIDE_PERIOD)],
    ),
    "more in the file": (replace(ORDER, net_minor=11_000), ORDER, [(K.AMOUNT, 11_000, 10_000, None)]),
    "a refund that the file does not know": (ORDER, REFUNDED, [(K.AMOUNT, 10_000, 7_000, E.REFUND_NOT_IN_FILE)]),
    "a refund that we do not know": (REFUNDED, ORDER, [(K.AMOUNT, 7_000, 10_000, E.REFUND_NOT_HERE)]),
    "a refund, and something else": (
        replace(ORDER, net_minor=9_999),
        REFUNDED,
        [(K.AMOUNT, 9_999, 7_000, None)],
    ),
    "one refund under two ids": (replace(REFUNDED, refunds={"other": 3_000}), REFUNDED, []),
    "a newer version here": (
        replace(ORDER, net_minor=11_000),
        replace(ORDER, version_at=NEWER),
        [(K.AMOUNT, 11_000, 10_000, E.NEWER_HERE)],
    ),
    "a newer version in the file": (
        replace(ORDER, net_minor=11_000, version_at=NEWER),
        ORDER,
        [(K.AMOUNT, 11_000, 10_000, E.NEWER_IN_FILE)],
    ),
    "another currency": (replace(ORDER, currency="EUR"), ORDER, [(K.CURRENCY, 10_000, 10_000, None)]),
    "cancelled there": (replace(ORDER, cancelled=True), ORDER, [(K.STATUS, 0, 10_000, None)]),
    "cancelled here": (ORDER, replace(ORDER, cancelled=True), [(K.STATUS, 10_000, 0, None)]),
    "both cancelled, other goods": (
        replace(ORDER, cancelled=True),
        replace(ORDER, cancelled=True, net_minor=5),
        [],
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_what_differs_of_an_order(name: str) -> None:
    theirs, ours, expected = ORDERS[name]

    assert short(compare_order(theirs, ours, OCTOBER)) == expected


@pytest.mark.parametrize(
    ("theirs_minor", "ours", "order_differs", "expected"),
    [
        pytest.param(None, ORDER, False, [], id="not told"),
        pytest.param(1_000, ORDER, False, [], id="equal"),
        pytest.param(900, ORDER, False, [("amount", 900, 1_000, None)], id="less"),
        pytest.param(0, ORDER, False, [("amount", 0, 1_000, None)], id="none"),
        pytest.param(900, ORDER, True, [("amount", 900, 1_000, "order_differs")], id="the order differs"),
        pytest.param(900, None, True, [], id="only events here"),
        pytest.param(900, replace(ORDER, placed_at=ORDER.placed_at - timedelta(days=90)), True, [], id="other days"),
    ],
)
def test_what_differs_of_a_commission(
    theirs_minor: int | None,
    ours: OrderFigures | None,
    order_differs: bool,
    expected: list[tuple[str, int | None, int | None, str | None]],
) -> None:
    found = compare_commission(
        theirs_minor, "USD", ours, {"EUR": 7, "USD": 1_000}, OCTOBER, order_differs=order_differs
    )

    assert short(found) == expected


def test_a_commission_in_another_currency_is_none_of_this_one() -> None:
    [found] = compare_commission(500, "EUR", ORDER, {"USD": 500}, OCTOBER, order_differs=True)

    assert (found.theirs_minor, found.ours_minor, found.currency) == (500, 0, "EUR")


def test_a_refund_that_explains_is_named() -> None:
    [found] = compare_order(ORDER, REFUNDED, OCTOBER)

    assert found.explained_ref == "r1"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(ORDER, None), (replace(ORDER, net_minor=1), ORDER), (replace(ORDER, cancelled=True), ORDER)],
    ids=["missing", "amount", "status"],
)
def test_a_parked_delivery_explains_what_nothing_else_does(theirs: OrderFigures, ours: OrderFigures | None) -> None:
    hint = Hint(E.PARKED_IN_INBOX, "inb_1")

    [found] = compare_order(theirs, ours, OCTOBER, hint=hint)

    assert (found.explained_by, found.explained_ref) == (E.PARKED_IN_INBOX, "inb_1")


@pytest.mark.parametrize(("is_same", "why"), [(True, E.SAME_TWICE), (False, E.NEWEST_COUNTS)])
def test_an_order_that_the_file_tells_twice(is_same: bool, why: Explanation) -> None:
    found = compare_order(ORDER, ORDER, OCTOBER, told=Told(3, is_same=is_same))

    assert short(found) == [(K.DUPLICATE, 30_000, 10_000, why)]


# Properties, over facts as a shop tells them.

MOMENTS = st.datetimes(datetime(2026, 9, 25), datetime(2026, 11, 5), timezones=st.just(UTC))  # noqa: DTZ001 - the zone comes beside it


@st.composite
def order_facts(draw: st.DrawFn) -> list[Fact]:
    """Tellings of one order: versions, refunds and perhaps a cancellation."""
    placed_at = draw(MOMENTS)
    facts = []
    for _ in range(draw(st.integers(0, 3))):
        nets = draw(st.lists(st.integers(0, 5_000), min_size=1, max_size=3))
        snapshot = OrderSnapshot(
            placed_at=placed_at,
            currency=draw(st.sampled_from(["USD", "VND"])),
            lines=tuple(Line(str(place), "S", net) for place, net in enumerate(nets)),
            cancelled=draw(st.booleans()),
        )
        facts.append(order_fact(snapshot, version_at=placed_at + timedelta(minutes=draw(st.integers(0, 3)))))
    for _ in range(draw(st.integers(0, 2))):
        refund = RefundFact(
            draw(st.sampled_from(["USD", "VND"])), placed_at, unallocated_minor=draw(st.integers(0, 3_000))
        )
        facts.append(refund_fact(draw(st.sampled_from("abc")), refund, version_at=placed_at))
    if draw(st.integers(0, 9)) == 0:
        facts.append(cancellation_fact(placed_at))
    return facts


ORDERS_TOLD = st.dictionaries(st.sampled_from([f"order-{number}" for number in range(6)]), order_facts())


def figures(facts: Sequence[Fact]) -> OrderFigures | None:
    kept: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        known = kept.get((fact.kind, fact.key))
        kept[fact.kind, fact.key] = fact if known is None else merge(known, fact)
    return figures_of(OrderFacts.of(kept.values()))


def differences(file: Sequence[tuple[str, Fact]], ours: dict[str, list[Fact]]) -> dict[str, list[Difference]]:
    """All that differs by order, where a difference is."""
    told: dict[str, list[Fact]] = defaultdict(list)
    for name, fact in file:
        told[name].append(fact)
    found = {
        name: compare_order(figures(told.get(name, [])), figures(ours.get(name, [])), OCTOBER)
        for name in {*told, *ours}
    }
    return {name: each for name, each in found.items() if each}


@given(ORDERS_TOLD, ORDERS_TOLD, st.randoms(use_true_random=False))
def test_the_order_of_a_file_changes_nothing(
    theirs: dict[str, list[Fact]], ours: dict[str, list[Fact]], chance: random.Random
) -> None:
    file = [(name, fact) for name, facts in theirs.items() for fact in facts]
    shuffled = [*file, *file]
    chance.shuffle(shuffled)

    assert differences(shuffled, ours) == differences(file, ours)


@given(ORDERS_TOLD)
def test_a_file_of_our_own_data_differs_in_nothing(ours: dict[str, list[Fact]]) -> None:
    of_period = {
        name: facts
        for name, facts in ours.items()
        if (known := figures(facts)) is not None and OCTOBER.holds(known.placed_at)
    }

    assert differences([(name, fact) for name, facts in of_period.items() for fact in facts], of_period) == {}


@given(ORDERS_TOLD, ORDERS_TOLD)
def test_what_the_sides_come_to_differs_by_what_the_differences_come_to(
    theirs: dict[str, list[Fact]], ours: dict[str, list[Fact]]
) -> None:
    found = differences([(name, fact) for name, facts in theirs.items() for fact in facts], ours)

    in_file = [known for facts in theirs.values() if (known := figures(facts))]
    here = [known for facts in ours.values() if (known := figures(facts)) and OCTOBER.holds(known.placed_at)]
    counted = [(each.theirs_minor or 0) - (each.ours_minor or 0) for several in found.values() for each in several]
    assert sum(each.counts_minor for each in in_file) - sum(each.counts_minor for each in here) == sum(counted)


# Payouts.

PAID_ON = date(2026, 10, 20)
LINE = BankLine(PAID_ON, LineKind.PAYMENT, "BANK-1", "pay_1", "USD", 5_000)
RETURN = replace(LINE, kind=LineKind.RETURNED)
FEE = replace(LINE, kind=LineKind.FEE, amount_minor=25)
SENT_ALONG = "01K4000000E00800000000000201"
PAYOUT = PayoutFigures("sent", "USD", 5_000, PAID_ON, sent_along=frozenset({"pay_1", SENT_ALONG}))
OF_AUGUST = replace(PAYOUT, accepted_on=date(2026, 8, 20))
OF_SEPTEMBER = replace(PAYOUT, accepted_on=OCTOBER.begins_on - timedelta(days=2))
CAME_BACK = replace(PAYOUT, came_back_minor=5_000, came_back_ever_minor=5_000, came_back_on=[PAID_ON])
CAME_BACK_LATE = replace(CAME_BACK, came_back_on=[OCTOBER.until - timedelta(days=BANK_DAYS)])
IN_EUROS = replace(LINE, currency="EUR")
RETURNED_IN_EUROS = replace(RETURN, currency="EUR")


def came_back_in_parts(*parts: tuple[date, int]) -> PayoutFigures:
    return replace(
        PAYOUT,
        came_back_minor=sum(amount for on, amount in parts if OCTOBER.has_day(on)),
        came_back_ever_minor=sum(amount for _, amount in parts),
        came_back_on=[on for on, _ in parts],
    )


NOVEMBER_2, DECEMBER_20 = date(2026, 11, 2), date(2026, 12, 20)

PAYOUTS: dict[str, tuple[list[BankLine], PayoutFigures, list[tuple[str, int | None, int | None, str | None]]]] = {
    "equal": ([LINE], PAYOUT, []),
    "not in the file": ([], PAYOUT, [(K.EXTRA, None, 5_000, None)]),
    "not in the file, sent on the last days": (
        [],
        replace(PAYOUT, accepted_on=OCTOBER.until - timedelta(days=BANK_DAYS - 1)),
        [(K.EXTRA, None, 5_000, E.PERIOD_BOUNDARY)],
    ),
    "not in the file, come back in another month": (
        [],
        replace(PAYOUT, came_back_ever_minor=5_000),
        [(K.EXTRA, None, 5_000, E.PAYOUT_RETURNED)],
    ),
    "not sent, says everybody": ([], replace(PAYOUT, accepted_on=None), []),
    "of another month here": ([LINE], OF_AUGUST, [(K.MISSING, 5_000, None, E.OUTSIDE_PERIOD)]),
    "of another month here, and paid twice": (
        [LINE, replace(LINE, reference="BANK-2")],
        OF_AUGUST,
        [(K.MISSING, 10_000, None, None)],
    ),
    "of another month here, and the same line twice": (
        [LINE, LINE],
        OF_AUGUST,
        [(K.MISSING, 10_000, None, E.OUTSIDE_PERIOD)],
    ),
    "booked by the bank days later": ([LINE], OF_SEPTEMBER, [(K.MISSING, 5_000, None, E.PERIOD_BOUNDARY)]),
    "booked by the bank days later, another amount": (
        [replace(LINE, amount_minor=6_000)],
        OF_SEPTEMBER,
        [(K.MISSING, 6_000, None, None)],
    ),
    "booked by the bank days later, another currency": ([IN_EUROS], OF_SEPTEMBER, [(K.MISSING, 5_000, None, None)]),
    "booked by the bank days later, less by its fee": (
        [replace(LINE, amount_minor=4_975), FEE],
        OF_SEPTEMBER,
        [(K.MISSING, 4_975, None, E.PERIOD_BOUNDARY)],
    ),
    "booked by the bank days later, in two currencies": (
        [LINE, replace(IN_EUROS, amount_minor=100)],
        OF_SEPTEMBER,
        [(K.MISSING, 100, None, None), (K.MISSING, 5_000, None, None)],
    ),
    "paid twice, and we do not know": (
        [LINE, replace(LINE, reference="BANK-2")],
        replace(PAYOUT, accepted_on=None, may_have_paid=True),
        [(K.MISSING, 10_000, None, None)],
    ),
    "paid, and we do not know": (
        [LINE],
        replace(PAYOUT, accepted_on=None, may_have_paid=True),
        [(K.MISSING, 5_000, None, E.PAYOUT_UNKNOWN)],
    ),
    "paid, and we say it was refused": (
        [LINE],
        replace(PAYOUT, state="refused", accepted_on=None),
        [(K.MISSING, 5_000, None, None)],
    ),
    "another amount": ([replace(LINE, amount_minor=4_000)], PAYOUT, [(K.AMOUNT, 4_000, 5_000, None)]),
    "less by the bank's fee": (
        [replace(LINE, amount_minor=4_975), FEE],
        PAYOUT,
        [(K.AMOUNT, 4_975, 5_000, E.BANK_FEE)],
    ),
    "less by a fee in another currency": (
        [replace(LINE, amount_minor=4_975), replace(FEE, currency="EUR")],
        PAYOUT,
        [(K.AMOUNT, 4_975, 5_000, None)],
    ),
    "a fee beside it": ([LINE, FEE], PAYOUT, []),
    "another currency": ([IN_EUROS], PAYOUT, [(K.CURRENCY, 5_000, 5_000, None)]),
    "paid twice": (
        [LINE, replace(LINE, reference="BANK-2")],
        PAYOUT,
        [(K.DUPLICATE, 10_000, 5_000, None)],
    ),
    "the same line twice": ([LINE, LINE], PAYOUT, [(K.DUPLICATE, 10_000, 5_000, E.SAME_TWICE)]),
    "the same line twice, of another amount": (
        [replace(LINE, amount_minor=4_000)] * 2,
        PAYOUT,
        [(K.DUPLICATE, 8_000, 5_000, None)],
    ),
    "the same line twice, in another currency": ([IN_EUROS] * 2, PAYOUT, [(K.DUPLICATE, 10_000, 5_000, None)]),
    "come back, say both": ([LINE, RETURN], CAME_BACK, []),
    "come back, and we do not know": ([LINE, RETURN], PAYOUT, [(K.STATUS, -5_000, 0, None)]),
    "come back, and the bank does not say so": (
        [LINE],
        CAME_BACK,
        [(K.STATUS, 0, -5_000, None)],
    ),
    "sent and come back, and the bank says of neither": (
        [],
        CAME_BACK,
        [(K.EXTRA, None, 5_000, E.PAYOUT_RETURNED), (K.STATUS, 0, -5_000, E.PAYOUT_RETURNED)],
    ),
    "come back on the last days, and the bank does not say so": (
        [LINE],
        CAME_BACK_LATE,
        [(K.STATUS, 0, -5_000, E.PERIOD_BOUNDARY)],
    ),
    "come back in parts, one on the last days, and the bank says of none": (
        [LINE],
        came_back_in_parts((PAID_ON, 2_000), (OCTOBER.until, 3_000)),
        [(K.STATUS, 0, -5_000, None)],
    ),
    "come back, say we days later": (
        [LINE, RETURN],
        came_back_in_parts((NOVEMBER_2, 5_000)),
        [(K.STATUS, -5_000, 0, E.PERIOD_BOUNDARY)],
    ),
    "come back, say we, the rest days later": (
        [LINE, RETURN],
        came_back_in_parts((PAID_ON, 2_000), (NOVEMBER_2, 3_000)),
        [(K.STATUS, -5_000, -2_000, E.PERIOD_BOUNDARY)],
    ),
    "come back, say we months later": (
        [LINE, RETURN],
        came_back_in_parts((DECEMBER_20, 5_000)),
        [(K.STATUS, -5_000, 0, None)],
    ),
    "come back in another currency": ([LINE, RETURNED_IN_EUROS], CAME_BACK, [(K.CURRENCY, -5_000, -5_000, None)]),
    "come back in another currency, and we do not know": (
        [LINE, RETURNED_IN_EUROS],
        PAYOUT,
        [(K.CURRENCY, -5_000, 0, None)],
    ),
    "come back in two currencies": (
        [LINE, RETURNED_IN_EUROS, replace(RETURN, amount_minor=100)],
        CAME_BACK,
        [(K.CURRENCY, -5_000, -5_000, None), (K.STATUS, -100, -5_000, None)],
    ),
    "come back in part": (
        [LINE, replace(RETURN, amount_minor=100)],
        CAME_BACK,
        [(K.STATUS, -100, -5_000, None)],
    ),
}


@pytest.mark.parametrize("name", PAYOUTS)
def test_what_differs_of_a_payout(name: str) -> None:
    lines, ours, expected = PAYOUTS[name]

    assert short(compare_payout(lines, ours, OCTOBER)) == expected


@pytest.mark.parametrize("reference", ["", "PAY1", "/ROC/pay_1//", SENT_ALONG, f"EREF+{SENT_ALONG.lower()}", "E2E 1"])
def test_a_reference_that_the_bank_did_not_make_does_not_tell_that_two_lines_are_one(reference: str) -> None:
    twice = [replace(LINE, end_to_end_id="E2E-1", reference=reference)] * 2

    assert short(compare_payout(twice, PAYOUT, OCTOBER)) == [(K.DUPLICATE, 10_000, 5_000, None)]


@pytest.mark.parametrize("ours", [PAYOUT, OF_SEPTEMBER, CAME_BACK], ids=["of the period", "of other days", "come back"])
@given(
    lines=st.permutations(
        [
            LINE,
            replace(LINE, reference="BANK-2"),
            IN_EUROS,
            RETURN,
            RETURNED_IN_EUROS,
            FEE,
            replace(FEE, currency="EUR"),
        ]
    )
)
def test_the_order_of_lines_changes_nothing(ours: PayoutFigures, lines: list[BankLine]) -> None:
    assert compare_payout(lines, ours, OCTOBER) == compare_payout(sorted(lines), ours, OCTOBER)


AMOUNTS = st.integers(1, 3).map(lambda tens: tens * 10)
DAYS = st.dates(date(2026, 9, 20), date(2026, 11, 10))


@given(
    paid=st.lists(AMOUNTS, max_size=1),
    back=st.lists(AMOUNTS, max_size=2),
    net=AMOUNTS,
    accepted_on=st.none() | DAYS,
    returned=st.lists(st.tuples(DAYS, AMOUNTS), max_size=2),
)
def test_what_lines_and_books_of_a_payout_come_to_differs_by_what_the_differences_come_to(
    paid: list[int], back: list[int], net: int, accepted_on: date | None, returned: list[tuple[date, int]]
) -> None:
    ours = replace(came_back_in_parts(*returned), net_minor=net, accepted_on=accepted_on)
    lines = [replace(LINE, amount_minor=each) for each in paid]
    lines += [replace(RETURN, amount_minor=each) for each in back]

    found = compare_payout(lines, ours, OCTOBER)

    here = net if accepted_on is not None and OCTOBER.has_day(accepted_on) else 0
    counted = sum((each.theirs_minor or 0) - (each.ours_minor or 0) for each in found)
    assert sum(paid) - sum(back) - (here - ours.came_back_minor) == counted


def test_a_line_that_names_no_payout_is_missing_here_unless_it_is_a_fee() -> None:
    assert short([compare_line(LINE), compare_line(FEE)]) == [
        (K.MISSING, 5_000, None, None),
        (K.MISSING, 25, None, E.BANK_FEE),
    ]
