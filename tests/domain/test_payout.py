"""Where settled money stands, what a payout item's state is, and what a rail's answer proves."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvariantBroken
from service.domain.payout import (
    MAY_HAVE_PAID,
    SEND_WINDOW,
    Answer,
    AnswerKind,
    Excluded,
    Interval,
    ItemState,
    Outcome,
    Payee,
    ProviderSays,
    RunState,
    freezable,
    holder,
    item_hash,
    item_state,
    lowest_minimum,
    may_send,
    next_look,
    outcome_of,
    proves_absence,
    run_hash,
    split_for_rail,
    why_dropped,
    why_excluded,
)
from service.domain.withholding.model import Caution, Decision, Duty, Key, Part, Refusal
from service.domain.withholding.stored import of_json, to_json
from tests.domain.builders import ANN, BEN, day
from tests.domain.strategies import amounts, examples


def an_item(number: int, after: int, to: int, *, sent: bool = True, gave_back: int | None = None) -> Interval:
    """Item `number` owns the versions (after, to]; gave_back: the version at which all of it came back."""
    return Interval(UUID(int=number), after, to, sent, gave_back)


PAID_TWICE = [an_item(1, 0, 5), an_item(2, 6, 9)]


@pytest.mark.parametrize(
    ("version", "items", "item"),
    [
        pytest.param(3, [], None, id="no payout yet"),
        pytest.param(3, PAID_TWICE, 1, id="in the first"),
        pytest.param(5, PAID_TWICE, 1, id="its last version"),
        pytest.param(6, PAID_TWICE, None, id="the first one's own reserve settles nothing"),
        pytest.param(7, PAID_TWICE, 2, id="the first version of the second"),
        pytest.param(10, PAID_TWICE, None, id="settled since"),
        pytest.param(3, [an_item(1, 0, 5, gave_back=7)], None, id="came back, nobody has it yet"),
        pytest.param(3, [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9)], 2, id="came back into the next"),
        pytest.param(
            3, [an_item(1, 0, 5, gave_back=12), an_item(2, 6, 9)], None, id="came back after the next was made"
        ),
        pytest.param(
            3,
            [an_item(1, 0, 5, gave_back=12), an_item(2, 6, 9), an_item(3, 10, 14)],
            3,
            id="came back into the one after",
        ),
        pytest.param(
            8, [an_item(1, 0, 5, gave_back=12), an_item(2, 6, 9), an_item(3, 10, 14)], 2, id="the other kept its own"
        ),
        pytest.param(
            3,
            [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9, gave_back=11), an_item(3, 10, 14)],
            3,
            id="handed on twice",
        ),
        pytest.param(
            3,
            [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9, gave_back=11)],
            None,
            id="handed on twice, nobody has it",
        ),
        pytest.param(
            4, [an_item(1, 0, 3), an_item(2, 4, 4), an_item(3, 5, 9)], None, id="an empty interval owns nothing"
        ),
    ],
)
def test_where_an_amount_settled_at_a_version_stands(version: int, items: list[Interval], item: int | None) -> None:
    found = holder(version, items)

    assert (found.item_id.int if found else None) == item
    assert holder(version, [*reversed(items)]) == found


def test_an_item_cannot_hand_its_versions_to_itself() -> None:
    with pytest.raises(InvariantBroken, match=str(UUID(int=1))):
        holder(3, [an_item(1, 0, 5, gave_back=4)])
    with pytest.raises(InvariantBroken):
        holder(3, [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9, gave_back=2)])


@pytest.mark.parametrize(
    ("entries", "items", "amount"),
    [
        pytest.param([], [], 0, id="nothing settled"),
        pytest.param([(1, 100)], [], 100, id="in payable"),
        pytest.param([(1, 100)], [an_item(1, 0, 5, sent=False)], 100, id="reserved: still here"),
        pytest.param([(1, 100)], [an_item(1, 0, 5)], 0, id="at a rail"),
        pytest.param([(1, 100), (7, 30)], [an_item(1, 0, 5)], 30, id="a part at a rail, a part settled since"),
        pytest.param([(1, 100), (3, -40)], [an_item(1, 0, 5, sent=False)], 60, id="a part taken back before"),
        pytest.param([(1, 100), (7, -40)], [an_item(1, 0, 5)], 0, id="a debt is nothing to freeze"),
        pytest.param([(1, 100), (7, -40), (8, 50)], [an_item(1, 0, 5)], 10, id="a debt is met first"),
        pytest.param([(1, 100)], [an_item(1, 0, 5, sent=False, gave_back=7)], 100, id="released unsent"),
        pytest.param(
            [(1, 100)], [an_item(1, 0, 5, gave_back=7)], 0, id="came back from the rail: carried, not payable"
        ),
        pytest.param(
            [(1, 100)], [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9)], 0, id="came back and went out again"
        ),
        pytest.param(
            [(1, 100)],
            [an_item(1, 0, 5, sent=False, gave_back=7), an_item(2, 6, 9, sent=False)],
            100,
            id="released and reserved again",
        ),
        pytest.param(
            [(1, 100)],
            [an_item(1, 0, 5, gave_back=7), an_item(2, 6, 9, sent=False)],
            0,
            id="came back and is reserved again",
        ),
    ],
)
def test_only_money_not_handed_to_a_rail_can_be_frozen(
    entries: list[tuple[int, int]], items: list[Interval], amount: int
) -> None:
    assert freezable(entries, items) == amount


@st.composite
def payouts(draw: st.DrawFn) -> list[Interval]:
    """Items of one payee as the protocol makes them: no overlap, each giving-back after its own reserve."""
    items, reached = [], 0
    for number in range(draw(st.integers(0, 6))):
        to = reached + draw(st.integers(0, 4))
        items.append((number, reached, to))
        reached = to + 1
    return [
        an_item(
            number, after, to, sent=draw(st.booleans()), gave_back=draw(st.none() | st.integers(to + 2, reached + 6))
        )
        for number, after, to in items
    ]


@examples(200)
@given(payouts(), st.lists(st.tuples(st.integers(1, 40), st.integers(-500, 500)), max_size=8))
def test_every_amount_stands_in_one_item_that_kept_its_money_or_in_payable(
    items: list[Interval], entries: list[tuple[int, int]]
) -> None:
    for version, _ in entries:
        found = holder(version, items)
        assert found is None or found.gave_back_version is None
        covering = [item for item in items if item.from_version < version <= item.to_version]
        assert len(covering) <= 1
        assert not covering or covering[0].gave_back_version is not None or found == covering[0]
    assert freezable(entries, items) == freezable([*reversed(entries)], [*reversed(items)]) >= 0


# Item states: the table of docs/payouts.md, line by line

DRAFT, SUBMITTED, APPROVED, EXECUTING = RunState.DRAFT, RunState.SUBMITTED, RunState.APPROVED, RunState.EXECUTING
ACCEPTED, REFUSED, UNKNOWN, ABSENT = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.ABSENT
SENT = ProviderSays(sent_minor=1_000)


@pytest.mark.parametrize(
    ("released", "run", "outcomes", "says", "state"),
    [
        pytest.param(False, DRAFT, [], SENT, ItemState.RESERVED, id="draft"),
        pytest.param(False, SUBMITTED, [], SENT, ItemState.RESERVED, id="submitted"),
        pytest.param(False, APPROVED, [], SENT, ItemState.APPROVED, id="approved"),
        pytest.param(False, EXECUTING, [], SENT, ItemState.APPROVED, id="executing, not its turn yet"),
        pytest.param(False, EXECUTING, [Outcome.PLANNED], SENT, ItemState.SENDING, id="planned"),
        pytest.param(False, EXECUTING, [Outcome.IN_FLIGHT], SENT, ItemState.SENDING, id="in flight"),
        pytest.param(False, EXECUTING, [UNKNOWN], SENT, ItemState.UNKNOWN, id="no answer"),
        pytest.param(False, EXECUTING, [REFUSED], SENT, ItemState.REFUSED, id="refused"),
        pytest.param(False, EXECUTING, [ABSENT], SENT, ItemState.REFUSED, id="proven absent"),
        pytest.param(False, EXECUTING, [REFUSED, Outcome.PLANNED], SENT, ItemState.SENDING, id="a second attempt"),
        pytest.param(False, EXECUTING, [ABSENT, REFUSED], SENT, ItemState.REFUSED, id="a second refusal"),
        pytest.param(False, EXECUTING, [REFUSED, ACCEPTED], SENT, ItemState.SENT, id="the second attempt worked"),
        pytest.param(False, EXECUTING, [ACCEPTED], SENT, ItemState.SENT, id="accepted"),
        pytest.param(False, EXECUTING, [ACCEPTED], ProviderSays(1_000, booked=True), ItemState.SETTLED, id="booked"),
        pytest.param(False, EXECUTING, [ACCEPTED], ProviderSays(1_000, 1), ItemState.PART_REVERSED, id="a cent came back"),
        pytest.param(False, EXECUTING, [ACCEPTED], ProviderSays(1_000, 999), ItemState.PART_REVERSED, id="all but a cent"),
        pytest.param(
            False, EXECUTING, [ACCEPTED], ProviderSays(1_000, 400, booked=True), ItemState.PART_REVERSED, id="booked, then a part"
        ),
        pytest.param(False, EXECUTING, [ACCEPTED], ProviderSays(1_000, 1_000), ItemState.REVERSED, id="all of it reversed"),
        pytest.param(
            False, EXECUTING, [ACCEPTED], ProviderSays(1_000, booked=True, returned=True), ItemState.RETURNED, id="booked, then returned"
        ),
        pytest.param(True, RunState.CANCELLED, [], SENT, ItemState.RELEASED, id="the run was cancelled"),
        pytest.param(True, EXECUTING, [REFUSED], SENT, ItemState.RELEASED, id="refused and dropped"),
        pytest.param(False, RunState.CLOSED, [ACCEPTED], SENT, ItemState.SENT, id="a closed run keeps its items"),
    ],
)  # fmt: skip
def test_the_state_of_an_item(
    released: bool, run: RunState, outcomes: list[Outcome], says: ProviderSays, state: ItemState
) -> None:
    assert item_state(released=released, run=run, outcomes=outcomes, says=says) is state


# Reading the answer


@pytest.mark.parametrize(
    ("kind", "sends", "found_elsewhere", "outcome"),
    [
        pytest.param(AnswerKind.ACCEPTED, 1, False, ACCEPTED, id="accepted"),
        pytest.param(AnswerKind.ACCEPTED, 3, True, ACCEPTED, id="accepted at the third sending"),
        pytest.param(AnswerKind.REFUSED, 1, False, REFUSED, id="refused at the only sending"),
        pytest.param(AnswerKind.REFUSED, 2, False, UNKNOWN, id="refused while the first may still travel"),
        pytest.param(AnswerKind.REFUSED, 1, True, UNKNOWN, id="refused, yet found by the look-up"),
        pytest.param(AnswerKind.MISMATCHED_KEY, 1, False, UNKNOWN, id="our bug"),
        pytest.param(AnswerKind.STOPPED, 1, False, UNKNOWN, id="our key was refused: that refuses no item"),
        pytest.param(AnswerKind.UNKNOWN, 1, False, UNKNOWN, id="time-out"),
        pytest.param(AnswerKind.UNKNOWN, 7, True, UNKNOWN, id="time-out again"),
    ],
)
def test_what_one_answer_proves(kind: AnswerKind, sends: int, found_elsewhere: bool, outcome: Outcome) -> None:
    assert outcome_of(Answer(kind), sends=sends, found_elsewhere=found_elsewhere) is outcome


def test_only_a_definite_refusal_allows_a_second_attempt() -> None:
    assert set(Outcome) - MAY_HAVE_PAID == {REFUSED, ABSENT}


@pytest.mark.parametrize(
    ("after", "may"),
    [
        pytest.param(None, True, id="never sent"),
        pytest.param(timedelta(hours=19, minutes=59, seconds=59), True, id="a second before 20 h"),
        pytest.param(timedelta(hours=20), False, id="at 20 h"),
        pytest.param(timedelta(hours=26), False, id="a machine woken a day later"),
    ],
)
def test_a_key_is_sent_for_twenty_hours_only(after: timedelta | None, may: bool) -> None:
    assert timedelta(hours=20) == SEND_WINDOW
    assert may_send(now=day(3), first_sent_at=None if after is None else day(3) - after) is may


# Looking again, and proving that nothing happened


@pytest.mark.parametrize(
    ("after", "sends", "wait"),
    [
        pytest.param(timedelta(0), 1, timedelta(minutes=1), id="after the first sending"),
        pytest.param(timedelta(minutes=1), 2, timedelta(minutes=5), id="after the second"),
        pytest.param(timedelta(minutes=6), 3, timedelta(minutes=15), id="after the third"),
        pytest.param(timedelta(minutes=21), 4, timedelta(hours=1), id="after the fourth"),
        pytest.param(timedelta(hours=2), 5, timedelta(hours=4), id="after the fifth"),
        pytest.param(timedelta(hours=6), 6, timedelta(hours=12), id="after the sixth"),
        pytest.param(timedelta(hours=17, minutes=21), 7, timedelta(hours=2, minutes=39), id="to the end of the window"),
        pytest.param(timedelta(hours=20), 7, timedelta(hours=1), id="too old to send: look every hour"),
        pytest.param(
            timedelta(hours=24, minutes=30), 7, timedelta(minutes=30), id="never past the first possible proof"
        ),
        pytest.param(timedelta(hours=25), 7, timedelta(minutes=15), id="old enough to prove absence"),
        pytest.param(timedelta(days=9), 7, timedelta(minutes=15), id="for as long as it takes"),
    ],
)
def test_when_an_unknown_attempt_is_looked_up_next(after: timedelta, sends: int, wait: timedelta) -> None:
    now = day(0) + after

    assert next_look(now=now, first_sent_at=day(0), sends=sends) == now + wait


@pytest.mark.parametrize(
    ("listed_after_minutes", "now_hours", "proven"),
    [
        pytest.param([], 60, False, id="nobody looked"),
        pytest.param([1_500], 60, False, id="looked once"),
        pytest.param([1_500, 1_515], 60, True, id="looked twice, fifteen minutes apart"),
        pytest.param([1_515, 1_500], 60, True, id="told in the other order"),
        pytest.param([1_500, 1_514], 60, False, id="looked twice too soon after each other"),
        pytest.param([1_499, 1_515], 60, False, id="looked once too early"),
        pytest.param([10, 700, 1_400], 60, False, id="looked often, always too early"),
        pytest.param([1_500, 1_507, 1_515], 60, True, id="looked three times"),
        pytest.param([1_500, 1_515], 26, True, id="whoever sent is gone for an hour"),
        pytest.param([1_500, 1_515], 25, False, id="whoever sent may still be there"),
    ],
)
def test_only_two_late_empty_listings_prove_that_nothing_was_sent(
    listed_after_minutes: list[int], now_hours: int, proven: bool
) -> None:
    found = proves_absence(
        [day(0) + timedelta(minutes=minutes) for minutes in listed_after_minutes],
        first_sent_at=day(0),
        last_lease_until=day(1, hours=1),
        now=day(0, hours=now_hours),
    )

    assert found is proven


# Who is paid

WELL = Payee(ANN, "approved", "off", UUID(int=9), "f1", payable_minor=5_000, carried_minor=0)


@pytest.mark.parametrize(
    ("payee", "why"),
    [
        pytest.param(WELL, None, id="all is well"),
        pytest.param(replace(WELL, has_live_item=True), Excluded.LIVE_ITEM, id="in another run"),
        pytest.param(replace(WELL, status="suspended"), Excluded.AFFILIATE_SUSPENDED, id="suspended"),
        pytest.param(replace(WELL, status="pending"), Excluded.AFFILIATE_NOT_APPROVED, id="not approved yet"),
        pytest.param(
            replace(WELL, payable_minor=-1, carried_minor=9_000), Excluded.IN_DEBT, id="owes, whatever is carried"
        ),
        pytest.param(replace(WELL, payable_minor=2_999), Excluded.BELOW_MINIMUM, id="a cent below the minimum"),
        pytest.param(replace(WELL, payable_minor=3_000), None, id="exactly the minimum"),
        pytest.param(
            replace(WELL, payable_minor=2_000, carried_minor=1_000), None, id="the minimum with what is carried"
        ),
        pytest.param(replace(WELL, payable_minor=0, carried_minor=3_000), None, id="only what is carried"),
        pytest.param(replace(WELL, payout_method_id=None), Excluded.NO_PAYOUT_METHOD, id="no payout method"),
        pytest.param(replace(WELL, tax_rule=None), Excluded.NO_TAX_RULE, id="no tax rule"),
        *[
            pytest.param(replace(WELL, tax_refusal=refusal), Excluded(refusal), id=f"refused: {refusal}")
            for refusal in Refusal
        ],
        pytest.param(replace(WELL, deducted_minor=4_901), Excluded.BELOW_RAIL_STEP, id="tax leaves less than a step"),
        pytest.param(replace(WELL, deducted_minor=4_900), None, id="tax leaves one step"),
        pytest.param(replace(WELL, has_live_elsewhere=True), None, id="a run in another currency is no obstacle"),
        pytest.param(replace(WELL, method_waits=True), Excluded.METHOD_COOLING, id="a changed account waits"),
        pytest.param(replace(WELL, account_shared=True), Excluded.SHARED_ACCOUNT, id="an account of several"),
        pytest.param(replace(WELL, account_ready=False), Excluded.ACCOUNT_NOT_READY, id="account cannot take it"),
        pytest.param(
            replace(WELL, account_ready=False, payout_method_id=None), Excluded.NO_PAYOUT_METHOD, id="no account at all"
        ),
    ],
)
def test_who_is_left_out_of_a_run(payee: Payee, why: Excluded | None) -> None:
    assert why_excluded(payee, minimum_minor=3_000, step_minor=100) is why


@pytest.mark.parametrize(
    ("payable", "step", "why"),
    [
        pytest.param(0, 1, Excluded.BELOW_MINIMUM, id="nothing"),
        pytest.param(1, 1, None, id="a cent"),
        pytest.param(99, 100, Excluded.BELOW_RAIL_STEP, id="less than the rail pays"),
        pytest.param(100, 100, None, id="exactly what the rail pays"),
    ],
)
def test_without_a_minimum_the_rail_decides(payable: int, step: int, why: Excluded | None) -> None:
    assert why_excluded(replace(WELL, payable_minor=payable), minimum_minor=0, step_minor=step) is why


IN_JULY = Key("cn_labour_61_2018", Duty.INCOME_TAX, "2026-07")
TAXED = Decision(
    rule="cn_labour_61_2018",
    gross_minor=5_000,
    withheld_minor=640,
    borne_minor=0,
    parts=(Part(IN_JULY, base_minor=5_000, tax_minor=640),),
    accumulates=True,
)
UNTAXED = Decision(rule="off", gross_minor=5_000, withheld_minor=0, borne_minor=0)


def dropped(payee: Payee, tax: Decision, tax_now: Decision | None, **changes: Any) -> Excluded | None:
    """Why an item of 50.00 that was approved with a tax is not sent."""
    as_approved: dict[str, Any] = {
        "net_minor": 5_000,
        "limit_minor": None,
        "fingerprint": "f1",
        "approved_hash": "h1",
        "content": "h1",
    }
    return why_dropped(payee, tax=tax, tax_now=tax_now, **(as_approved | changes))


@pytest.mark.parametrize(
    ("payee", "content", "why"),
    [
        pytest.param(WELL, "h1", None, id="as approved"),
        pytest.param(WELL, "h2", Excluded.CONTENT_CHANGED, id="something in it changed"),
        pytest.param(replace(WELL, status="suspended"), "h1", Excluded.AFFILIATE_SUSPENDED, id="suspended since"),
        pytest.param(replace(WELL, payable_minor=-1), "h1", Excluded.IN_DEBT, id="a refund since: owes now"),
        pytest.param(replace(WELL, payable_minor=0), "h1", None, id="payable is empty, for the item holds it"),
        pytest.param(replace(WELL, fingerprint="f2"), "h1", Excluded.METHOD_CHANGED, id="another account since"),
        pytest.param(replace(WELL, fingerprint=None), "h1", Excluded.METHOD_CHANGED, id="no account any more"),
        pytest.param(replace(WELL, method_waits=True), "h1", Excluded.METHOD_COOLING, id="changed and changed back"),
        pytest.param(replace(WELL, account_shared=True), "h1", None, id="somebody else came to the account"),
        pytest.param(replace(WELL, has_live_item=True), "h1", None, id="its own item is no obstacle"),
        pytest.param(
            replace(WELL, account_ready=False), "h1", Excluded.ACCOUNT_NOT_READY, id="account cannot take it any more"
        ),
        pytest.param(
            replace(WELL, account_ready=False, fingerprint="f2"), "h1", Excluded.METHOD_CHANGED, id="another account"
        ),
    ],
)
def test_what_drops_an_approved_item_before_it_is_sent(payee: Payee, content: str, why: Excluded | None) -> None:
    assert dropped(payee, UNTAXED, UNTAXED, content=content) is why


@pytest.mark.parametrize(
    ("now", "why"),
    [
        pytest.param(TAXED, None, id="as approved"),
        pytest.param(replace(TAXED, cautions=(Caution.SPLIT_PAYOUTS,)), None, id="only a caution is new"),
        pytest.param(None, Excluded.NO_TAX_RULE_IN_FORCE, id="no rule holds any more"),
        pytest.param(replace(TAXED, rule="off", parts=()), Excluded.TAX_RULE_CHANGED, id="another rule since"),
        pytest.param(
            replace(TAXED, parts=(Part(replace(IN_JULY, period="2026-08"), 5_000, 640),)),
            Excluded.TAX_RULE_CHANGED,
            id="the month is over",
        ),
        pytest.param(
            replace(TAXED, withheld_minor=700, parts=(Part(IN_JULY, 5_000, 700),)),
            Excluded.TAX_CHANGED,
            id="something was added to the month",
        ),
        pytest.param(
            replace(TAXED, withheld_minor=0, borne_minor=640), Excluded.TAX_CHANGED, id="the shop bears it now"
        ),
    ],
)
def test_tax_that_is_not_what_was_approved_drops_an_item(now: Decision | None, why: Excluded | None) -> None:
    payee = WELL if now is not None else replace(WELL, tax_refusal=Refusal.NO_RULE)

    assert dropped(payee, TAXED, now) is why


def test_tax_that_cannot_be_compared_drops_an_item_though_nothing_refuses_it() -> None:
    """A rule set between the read of taxes and that of payees."""
    assert dropped(WELL, TAXED, None) is Excluded.TAX_CHANGED


@pytest.mark.parametrize(("limit", "why"), [(None, None), (5_000, None), (4_999, Excluded.OVER_LIMIT)])
def test_a_limit_set_since_the_approval_drops_what_it_would_never_let_pass(
    limit: int | None, why: Excluded | None
) -> None:
    assert dropped(WELL, TAXED, TAXED, limit_minor=limit) is why


def test_a_decision_is_read_as_it_was_written() -> None:
    told = replace(TAXED, cautions=(Caution.SPLIT_PAYOUTS,), parts=(Part(IN_JULY, 5_000, 640, {"rate": "20"}),))

    assert of_json(json.loads(json.dumps(to_json(told)))) == told


# Amounts


@pytest.mark.parametrize(
    ("amount", "step", "pays", "carries"),
    [
        pytest.param(80_045, 100, 80_000, 45, id="TWD 800.45 pays 800.00"),
        pytest.param(5_124, 10, 5_120, 4, id="KWD 5.124 pays 5.120"),
        pytest.param(500, 1, 500, 0, id="JPY 500 pays 500"),
        pytest.param(99, 100, 0, 99, id="less than a step"),
        pytest.param(100, 100, 100, 0, id="exactly a step"),
        pytest.param(0, 100, 0, 0, id="nothing"),
    ],
)
def test_what_a_rail_cannot_pay_is_carried(amount: int, step: int, pays: int, carries: int) -> None:
    assert split_for_rail(amount, step_minor=step) == (pays, carries)


@examples(150)
@given(st.integers(0, 10**15), st.sampled_from([1, 5, 10, 100, 1_000]))
def test_both_parts_add_up_and_the_first_is_whole_steps(amount: int, step: int) -> None:
    pays, carries = split_for_rail(amount, step_minor=step)

    assert pays + carries == amount
    assert pays % step == 0
    assert 0 <= carries < step


@pytest.mark.parametrize(
    ("minimums", "lowest"),
    [
        pytest.param([], 1, id="no programme"),
        pytest.param([{"USD": 5_000}], 5_000, id="one promise"),
        pytest.param([{"USD": 5_000}, {"USD": 2_000}], 2_000, id="the lowest of two"),
        pytest.param([{"VND": 200_000}], 1, id="a promise in another currency"),
        pytest.param([{"USD": 0}], 1, id="nothing is never paid out"),
    ],
)
def test_the_smallest_balance_that_is_paid_out(minimums: list[Mapping[str, int]], lowest: int) -> None:
    assert lowest_minimum(minimums, "USD") == lowest


# What a second person approves

ITEM: dict[str, object] = {
    "item_id": UUID(int=1),
    "payee_id": ANN,
    "currency": "USD",
    "gross_minor": 1_000,
    "carried_minor": 50,
    "net_minor": 1_000,
    "tax_minor": 50,
    "tax": Decision(rule="off", gross_minor=1_000, withheld_minor=50, borne_minor=0),
    "tax_borne_minor": 0,
    "fee_minor": 0,
    "rail": "sandbox",
    "destination_fingerprint": "f1",
    "pay_on": date(2026, 3, 31),
    "from_version": 3,
    "to_version": 7,
}
OTHERWISE: dict[str, object] = {
    "item_id": UUID(int=2),
    "payee_id": BEN,
    "currency": "EUR",
    "gross_minor": 1_001,
    "carried_minor": 51,
    "net_minor": 1_001,
    "tax_minor": 49,
    "tax": Decision(rule="none_company", gross_minor=1_000, withheld_minor=50, borne_minor=0),
    "tax_borne_minor": 1,
    "fee_minor": 1,
    "rail": "stripe_connect",
    "destination_fingerprint": "f2",
    "pay_on": date(2026, 4, 1),
    "from_version": 2,
    "to_version": 8,
}


@pytest.mark.parametrize("field", ITEM)
def test_every_field_of_an_item_changes_its_hash(field: str) -> None:
    changed = ITEM | {field: OTHERWISE[field]}

    assert item_hash(**ITEM) == item_hash(**ITEM)  # type: ignore[arg-type] # its own fields
    assert item_hash(**changed) != item_hash(**ITEM)  # type: ignore[arg-type] # its own fields


def test_what_was_approved_before_an_update_is_still_what_is_sent_after_it() -> None:
    # The stored hashes of approved items: were they computed otherwise from now on, every approval would be void.
    approved_hash = "c05bddc2477badb2578824bc795dd6c03209fde02f7f22232e7f1509c593d370"

    assert item_hash(**ITEM) == approved_hash  # type: ignore[arg-type] # its own fields
    assert run_hash(["b", "a"]) == "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"


@pytest.mark.parametrize(
    "part",
    [
        Part(replace(IN_JULY, rule="other"), 5_000, 640),
        Part(replace(IN_JULY, duty=Duty.VAT), 5_000, 640),
        Part(replace(IN_JULY, period="2026-08"), 5_000, 640),
        Part(IN_JULY, 5_001, 640),
        Part(IN_JULY, 5_000, 641),
    ],
    ids=["rule", "duty", "period", "base", "tax"],
)
def test_every_figure_of_a_tax_decision_changes_the_hash(part: Part) -> None:
    approved, changed = ITEM | {"tax": TAXED}, ITEM | {"tax": replace(TAXED, parts=(part,))}

    assert item_hash(**approved) != item_hash(**changed)  # type: ignore[arg-type] # its own fields


def test_amounts_that_trade_places_change_the_hash() -> None:
    swapped = ITEM | {"gross_minor": 50, "carried_minor": 1_000}

    assert item_hash(**swapped) != item_hash(**ITEM)  # type: ignore[arg-type] # its own fields


@examples(60)
@given(st.lists(amounts.map(str), unique=True, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_hash_of_a_run_is_that_of_its_items_in_any_order(hashes: list[str], dice: random.Random) -> None:
    shuffled = list(hashes)
    dice.shuffle(shuffled)

    assert run_hash(shuffled) == run_hash(hashes)
    assert run_hash([*hashes, "another"]) != run_hash(hashes)
    assert run_hash(hashes[1:]) != run_hash(hashes)
