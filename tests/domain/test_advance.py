"""How much is lent while an approval is late, when, and how much of it goes back."""

from dataclasses import replace
from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.advance import advance_minor, repayment_minor
from service.domain.errors import InvalidTerms
from service.domain.order import Fact, Milestone
from service.domain.settlement import Approval, StatementSettlement, outlook
from tests.domain.builders import a_dispute, an_order, day, lines, reached, told, utc
from tests.domain.strategies import examples

ACCESSTRADE = StatementSettlement(
    Milestone.PAID, 0, 31, 1, 18, approval=Approval.MANUAL, audit_days=10, advance=Fraction(1, 2)
)
ORDER = an_order(*lines(100))


@pytest.mark.parametrize(
    ("pending", "rate", "given", "amount"),
    [
        pytest.param(1_000, Fraction(1, 2), 0, 500, id="half"),
        pytest.param(1_001, Fraction(1, 2), 0, 501, id="half a unit is rounded away from zero"),
        pytest.param(1_000, Fraction(4, 5), 0, 800, id="four fifths"),
        pytest.param(1_000, Fraction(4, 5), 500, 300, id="less what an earlier statement lent"),
        pytest.param(400, Fraction(1, 2), 500, 0, id="refunded below what was lent"),
        pytest.param(0, Fraction(1, 2), 0, 0, id="nothing"),
    ],
)
def test_how_much_is_lent(pending: int, rate: Fraction, given: int, amount: int) -> None:
    assert advance_minor(rate, pending_minor=pending, given_minor=given) == amount


@examples(200)
@given(st.integers(0, 10**12), st.fractions(0, 1), st.integers(0, 10**12))
def test_never_more_is_lent_than_is_pending(pending: int, rate: Fraction, given: int) -> None:
    amount = advance_minor(rate, pending_minor=pending, given_minor=given)

    assert amount >= 0
    assert amount == 0 or amount + given <= pending


@pytest.mark.parametrize(("owed", "settled", "back"), [(500, 1_000, 500), (500, 300, 300), (0, 300, 0)])
def test_how_much_goes_back(owed: int, settled: int, back: int) -> None:
    assert repayment_minor(owed_minor=owed, settled_minor=settled) == back


@pytest.mark.parametrize(
    ("changes", "events", "approved", "expected"),
    [
        pytest.param({}, [reached()], False, utc("2026-04-18T00:00"), id="on the pay day"),
        pytest.param({}, [reached()], True, None, id="approved: it settles"),
        pytest.param({}, [], False, None, id="not final"),
        pytest.param({}, [reached(), a_dispute(1, 25)], False, utc("2026-05-18T00:00"), id="final after the cut-off"),
        pytest.param({"advance": None}, [reached()], False, None, id="no advance promised"),
        # Placed at noon on 10 March; the pay day begins 38 and a half days later.
        pytest.param({"auto_approve_days": 38}, [reached()], False, None, id="silence has approved it by then"),
        pytest.param({"auto_approve_days": 39}, [reached()], False, utc("2026-04-18T00:00"), id="silence comes later"),
    ],
)
def test_when_an_advance_is_due(
    changes: dict[str, object], events: list[Fact], approved: bool, expected: datetime | None
) -> None:
    terms = replace(ACCESSTRADE, **changes)  # type: ignore[arg-type] # named by the case

    assert outlook(told(ORDER, *events), terms, approved=approved, time_zone="UTC").advance_at == expected


def test_golden_schedule_accesstrade_may_is_reconciled_on_10_june_and_paid_or_advanced_on_the_18th() -> None:
    facts = told(an_order(*lines(100), placed_at=utc("2026-05-12T09:00")), reached())
    facts.milestones[Milestone.PAID] = utc("2026-05-12T09:00")

    late = outlook(facts, ACCESSTRADE, approved=False, time_zone="UTC")
    in_time = outlook(facts, ACCESSTRADE, approved=True, time_zone="UTC")

    assert late.statement is not None
    assert late.statement.audit_by == utc("2026-06-10T00:00").date()
    assert (late.advance_at, late.settles_at) == (utc("2026-06-18T00:00"), None)
    assert (in_time.advance_at, in_time.settles_at) == (None, utc("2026-06-18T00:00"))


def test_an_advance_needs_somebody_who_can_be_late() -> None:
    with pytest.raises(InvalidTerms, match="manual approval"):
        replace(ACCESSTRADE, approval=Approval.AUTOMATIC)
    with pytest.raises(InvalidTerms, match="above 0"):
        replace(ACCESSTRADE, advance=Fraction(0))


def test_dates_of_the_builders_are_as_the_cases_say() -> None:
    assert day(0) == utc("2026-03-10T12:00")
