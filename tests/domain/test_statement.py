"""What a statement's figures are made of, and that they add up whatever happened."""

import json
from datetime import date
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.ledger import AccountKind
from service.domain.statement import (
    CLOSING,
    OPENING,
    OWED,
    Movement,
    MovementKind,
    Subject,
    digest_of,
    for_services_minor,
    month,
    moved_within,
    number_text,
    places,
    receipt_told,
    subject_of,
    waterfall,
)
from tests.domain.strategies import examples

TODAY = date(2026, 11, 20)
ANN, BEN = "ann", "ben"
A = AccountKind

kinds = st.sampled_from([*AccountKind, None])
movements = st.lists(
    st.builds(Movement, st.just(TODAY), st.sampled_from(Subject), kinds, kinds, st.integers(1, 10**15)), max_size=12
)
openings = st.dictionaries(st.sampled_from(AccountKind), st.integers(-(10**15), 10**15))


def moved(subject: Subject, source: A | None, destination: A | None, amount: int = 100) -> Movement:
    return Movement(TODAY, subject, source, destination, amount)


@examples(300)
@given(openings, movements)
def test_the_steps_lead_from_what_was_owed_to_what_is_owed(
    opening: dict[AccountKind, int], moves: list[Movement]
) -> None:
    stands = places(opening, moves)
    before, after = sum(place.opening_minor for place in stands), sum(place.closing_minor for place in stands)
    steps = waterfall(before, moves)

    assert steps[0] == (OPENING, before)
    assert steps[-1] == (CLOSING, after)
    assert sum(amount for _, amount in steps[:-1]) == after
    assert after - before == sum(movement.effect_minor for movement in moves)


@examples(300)
@given(openings, movements)
def test_each_place_holds_what_it_held_and_got_less_what_it_gave(
    opening: dict[AccountKind, int], moves: list[Movement]
) -> None:
    for place in places(opening, moves):
        held = opening.get(place.kind, 0)
        for movement in moves:
            held += movement.amount_minor * ((movement.destination is place.kind) - (movement.source is place.kind))
        assert place.closing_minor == held


@examples(300)
@given(movements)
def test_every_movement_is_told_once(moves: list[Movement]) -> None:
    """By its effect in the waterfall, or else among what moved within."""
    crossing = [movement for movement in moves if movement.effect_minor]
    steps = dict(waterfall(0, moves)[1:-1])
    within = moved_within(moves)

    assert set(steps) == {movement.kind.value for movement in crossing}
    assert sum(within.values()) == sum(movement.amount_minor for movement in moves if not movement.effect_minor)


@pytest.mark.parametrize(
    ("subject", "source", "destination", "kind", "effect"),
    [
        pytest.param(Subject.ORDER, A.COMMISSION_EXPENSE, A.PENDING, MovementKind.EARNED, 100, id="earned"),
        pytest.param(Subject.ORDER, A.COMMISSION_EXPENSE, A.HELD, MovementKind.EARNED, 100, id="earned while frozen"),
        pytest.param(Subject.ORDER, A.PAYABLE, A.COMMISSION_EXPENSE, MovementKind.TAKEN_BACK, -100, id="taken back"),
        pytest.param(Subject.BONUS, A.COMMISSION_EXPENSE, A.PENDING, MovementKind.ADJUSTED, 100, id="a bonus"),
        pytest.param(Subject.BONUS, A.PENDING, A.COMMISSION_EXPENSE, MovementKind.ADJUSTED, -100, id="a bonus less"),
        pytest.param(Subject.BONUS, A.PENDING, A.PAYABLE, MovementKind.SETTLED, 0, id="a bonus settled"),
        pytest.param(Subject.PERIOD, A.PENDING, A.COMMISSION_EXPENSE, MovementKind.PERIOD, -100, id="a cap"),
        pytest.param(Subject.PERIOD, A.PENDING, A.PAYABLE, MovementKind.PERIOD, 0, id="a ladder settles"),
        pytest.param(Subject.ORDER, A.PENDING, A.PAYABLE, MovementKind.SETTLED, 0, id="settled"),
        pytest.param(Subject.ADVANCE, A.ADVANCE, A.PAYABLE, MovementKind.ADVANCED, 0, id="lent"),
        pytest.param(Subject.ADVANCE, A.PAYABLE, A.ADVANCE, MovementKind.REPAID, 0, id="netted"),
        pytest.param(Subject.PAYOUT, A.TAXED_CARRY, A.RESERVED, MovementKind.RESERVED, 0, id="reserved"),
        pytest.param(Subject.PAYOUT, A.IN_TRANSIT, A.PAID, MovementKind.SENT, -100, id="sent"),
        pytest.param(Subject.PAYOUT, A.IN_TRANSIT, A.TAX_WITHHELD, MovementKind.TAX, -100, id="tax"),
        pytest.param(Subject.PAYOUT, A.IN_TRANSIT, A.PLATFORM_FEE, MovementKind.FEE, -100, id="fee"),
        pytest.param(Subject.PAYOUT, A.IN_TRANSIT, A.TAXED_CARRY, MovementKind.REMAINDER, 0, id="remainder"),
        pytest.param(Subject.PAYOUT, A.PAID, A.TAXED_CARRY, MovementKind.CAME_BACK, 100, id="came back"),
        pytest.param(Subject.PAYOUT, A.TAX_COST, A.TAX_WITHHELD, MovementKind.TAX_BORNE, 0, id="tax at our cost"),
        pytest.param(Subject.REMITTANCE, A.TAX_WITHHELD, A.REMITTED, MovementKind.REMITTED, 0, id="passed on"),
        pytest.param(Subject.CORRECTION, A.TAX_WITHHELD, A.PAYABLE, MovementKind.UNTAXED, 100, id="untaxed"),
        pytest.param(Subject.CORRECTION, A.WRITE_OFF, A.PAYABLE, MovementKind.WRITTEN_OFF, 100, id="written off"),
        pytest.param(Subject.CORRECTION, A.TAXED_CARRY, A.PAYABLE, MovementKind.RECOVERED, 0, id="set off"),
        pytest.param(Subject.OTHER, None, A.PAYABLE, MovementKind.OTHER, 100, id="from somebody else"),
        pytest.param(Subject.OTHER, A.PAYABLE, None, MovementKind.OTHER, -100, id="to somebody else"),
    ],
)
def test_a_movement_is_called_by_its_way_and_counts_by_what_it_crosses(
    subject: Subject, source: A | None, destination: A | None, kind: MovementKind, effect: int
) -> None:
    movement = moved(subject, source, destination)

    assert (movement.kind, movement.effect_minor) == (kind, effect)


def test_a_month_step_by_step() -> None:
    """Opening 50; 300 earned, 40 come back, a cap takes 10; 250 sent of which 20 tax and 5 fee; 30 come back."""
    moves = [
        moved(Subject.ORDER, A.COMMISSION_EXPENSE, A.PENDING, 300),
        moved(Subject.ORDER, A.PENDING, A.PAYABLE, 250),
        moved(Subject.ORDER, A.PENDING, A.COMMISSION_EXPENSE, 40),
        moved(Subject.PERIOD, A.PENDING, A.COMMISSION_EXPENSE, 10),
        moved(Subject.PAYOUT, A.PAYABLE, A.RESERVED, 250),
        moved(Subject.PAYOUT, A.RESERVED, A.IN_TRANSIT, 250),
        moved(Subject.PAYOUT, A.IN_TRANSIT, A.PLATFORM_FEE, 5),
        moved(Subject.PAYOUT, A.IN_TRANSIT, A.TAX_WITHHELD, 20),
        moved(Subject.PAYOUT, A.IN_TRANSIT, A.PAID, 225),
        moved(Subject.PAYOUT, A.PAID, A.TAXED_CARRY, 30),
    ]

    assert waterfall(50, moves) == [
        ("opening", 50),
        ("earned", 300),
        ("taken_back", -40),
        ("period", -10),
        ("fee", -5),
        ("tax", -20),
        ("sent", -225),
        ("came_back", 30),
        ("closing", 80),
    ]
    closing = {place.kind: place.closing_minor for place in places({A.PENDING: 50}, moves)}
    assert {kind: amount for kind, amount in closing.items() if amount} == {A.PENDING: 50, A.TAXED_CARRY: 30}
    assert for_services_minor(moves) == 250
    assert set(closing) == set(OWED)


def a_line(**changes: object) -> dict[str, object]:
    parts = [{"rate": "10", "flat_minor": None, "per": None, "rule": 0}]
    return {
        "line_id": "1",
        "sku": "TEA",
        "quantity": "2",
        "ordered_minor": 1_000,
        "refunded_minor": 200,
        "base_minor": 800,
        "parts": parts,
        "commission_minor": 80,
    } | changes


def test_a_line_of_a_receipt_is_told_with_the_payees_own_part() -> None:
    division = [
        {"payee_id": ANN, "paid_minor": 50},
        {"payee_id": BEN, "paid_minor": 20},
        {"payee_id": ANN, "paid_minor": 3},
    ]
    receipt = {"lines": [a_line(), a_line(division=division)], "voided": False, "target_minor": 133}

    told = receipt_told(receipt, ANN)

    assert [line["commission_minor"] for line in told["lines"]] == [80, 53]
    assert told["lines"][0] == {
        "line_id": "1",
        "sku": "TEA",
        "quantity": "2",
        "ordered_minor": 1_000,
        "refunded_minor": 200,
        "base_minor": 800,
        "rates": [{"rate": "10", "flat_minor": None, "per": None}],
        "commission_minor": 80,
    }
    assert told["capped_minor"] == 0


def test_what_makes_the_amount_besides_the_lines_is_told() -> None:
    capped = receipt_told({"lines": [a_line()], "voided": False, "target_minor": 60}, ANN)
    voided = receipt_told({"lines": [a_line()], "voided": True, "target_minor": 0}, ANN)
    given = [
        {"amount_minor": 5, "reason_code": "goodwill", "counts": True},
        {"amount_minor": 9, "reason_code": "late", "counts": False},
    ]
    adjusted = receipt_told(
        {"lines": [a_line()], "voided": False, "rules_minor": 80, "adjustments": given, "target_minor": 85}, ANN
    )

    assert (capped["capped_minor"], voided["capped_minor"], adjusted["capped_minor"]) == (20, 0, 0)
    assert voided["voided"]
    assert adjusted["adjustments"] == [{"amount_minor": 5, "reason_code": "goodwill"}]


def test_receipts_of_several_credits_and_of_the_first_release_have_their_lines() -> None:
    first = {"line_id": "1", "sku": "", "ordered_minor": 100, "refunded_minor": 0, "base_minor": 100}
    by_rule = {**first, "rule": 0, "rate": "5", "flat_minor": None, "commission_minor": 5}
    by_none = {**first, "rule": None, "rate": None, "flat_minor": None, "commission_minor": 0}
    shared = {"credits": [{"lines": [a_line()], "voided": False}, {"lines": [by_rule, by_none]}], "target_minor": 85}

    told = receipt_told(shared, ANN)

    assert [line["commission_minor"] for line in told["lines"]] == [80, 5, 0]
    assert [len(line["rates"]) for line in told["lines"]] == [1, 1, 0]
    assert receipt_told({}, ANN)["lines"] == []


def test_a_period_tells_the_orders_it_counts() -> None:
    def sums(sales: int, orders: int) -> dict[str, int]:
        return {"commission_minor": 1, "sales_minor": sales, "orders": orders}

    receipt = {"sums": {"settled": sums(500, 2), "pending": sums(70, 1), "held": sums(0, 0)}, "target_minor": 9}

    told = receipt_told(receipt, ANN)

    assert (told["orders"], told["sales_minor"], told["lines"]) == (3, 570, [])


def test_what_people_gave_apart_from_rules_is_a_bonus() -> None:
    given = [{"amount_minor": 5, "reason_code": "gift", "counts": True}]

    assert subject_of({"adjustments": given}, is_period=False) is Subject.BONUS
    assert subject_of({"adjustments": given, "lines": []}, is_period=False) is Subject.ORDER
    assert subject_of({"adjustments": given, "credits": []}, is_period=False) is Subject.ORDER
    assert subject_of({}, is_period=False) is Subject.ORDER
    assert subject_of({}, is_period=True) is Subject.PERIOD


@pytest.mark.parametrize(
    ("name", "last"), [("2026-10", 31), ("2026-02", 28), ("2028-02", 29), ("2026-12", 31), ("2026-04", 30)]
)
def test_a_month_has_its_days(name: str, last: int) -> None:
    first, end = month(name)

    assert (first.isoformat(), end.isoformat()) == (f"{name}-01", f"{name}-{last}")


def test_a_number_says_its_year() -> None:
    assert number_text(2026, 123) == "2026-000123"
    assert number_text(2026, 1_234_567) == "2026-1234567"


def test_a_digest_is_that_of_the_document_as_anybody_writes_it() -> None:
    document = {"b": ["Trà", 1], "a": {"z": None, "y": True}}

    assert digest_of(document) == sha256('{"a":{"y":true,"z":null},"b":["Trà",1]}'.encode()).digest()
    assert digest_of(json.loads(json.dumps(document))) == digest_of(dict(reversed(document.items())))
