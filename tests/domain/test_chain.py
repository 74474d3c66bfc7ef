"""The digest of a block: the same for the same postings, another for any other."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.chain import GENESIS, Block, BookedPosting, block_digest, posting_bytes

MERCHANT, ANN = UUID(int=1), UUID(int=2)
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
BLOCK = Block(MERCHANT, 1, date(2026, 11, 1), 3, 1, 2, 2, AT)
POSTING = BookedPosting(1, "order/1/assessment/1", 0, UUID(int=7), "expense", MERCHANT, "pending", ANN, "USD", 1999, AT)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
ids = st.integers(0, 3).map(lambda number: UUID(int=number))
moments = st.integers(-3, 3).map(lambda number: AT + number * timedelta(microseconds=1))
small = st.integers(-2, 3)
postings = st.builds(BookedPosting, small, texts, small, ids, texts, ids, texts, ids, texts, small, moments)


def test_a_digest_is_sha_256_over_bytes_that_anybody_can_write_down() -> None:
    whole = bytes.fromhex(
        # The digest before the first block.
        "00" * 32
        # Format 1, the merchant, block 1, 2026-11-01 as a day since year 1, slot 3, bookings 1 to 2, one posting, chained at.
        + "00000001" + f"{1:032x}" + f"{1:016x}" + f"{739921:016x}" + f"{3:016x}" + f"{1:016x}" + f"{2:016x}"
        + f"{1:016x}" + f"{1793534400_000000:016x}"
        # Booking, seq, amount, the three ids, made at, four lengths and the four texts.
        + f"{1:016x}" + f"{0:016x}" + f"{1999:016x}" + f"{7:032x}" + f"{1:032x}" + f"{2:032x}"
        + f"{1793534400_000000:016x}" + "00000014" + "00000007" + "00000007" + "00000003"
        + b"order/1/assessment/1expensependingUSD".hex()
    )  # fmt: skip

    digest = block_digest(GENESIS, replace(BLOCK, postings=1), [POSTING])

    assert digest == sha256(whole).digest()


def test_postings_count_by_booking_event_and_number_however_they_are_given() -> None:
    later = POSTING._replace(booking=2, event="a")
    second = POSTING._replace(seq=1)

    assert (
        len({block_digest(GENESIS, BLOCK, order) for order in ([POSTING, second, later], [later, second, POSTING])})
        == 1
    )


@pytest.mark.parametrize("field", BookedPosting._fields)
def test_every_field_of_a_posting_counts(field: str) -> None:
    changed = POSTING._replace(**{field: _other(getattr(POSTING, field))})

    assert block_digest(GENESIS, BLOCK, [changed]) != block_digest(GENESIS, BLOCK, [POSTING])


@pytest.mark.parametrize("field", Block.__slots__)
def test_every_field_of_a_block_counts(field: str) -> None:
    changed = replace(BLOCK, **{field: _other(getattr(BLOCK, field))})

    assert block_digest(GENESIS, changed, [POSTING]) != block_digest(GENESIS, BLOCK, [POSTING])


def test_the_block_before_counts() -> None:
    assert block_digest(bytes(31) + b"\1", BLOCK, [POSTING]) != block_digest(GENESIS, BLOCK, [POSTING])


@pytest.mark.parametrize(
    "shifted",
    [
        POSTING._replace(debit_kind="expens", credit_kind="epending"),
        POSTING._replace(event="order/1/assessment/1e", debit_kind="xpense"),
        POSTING._replace(credit_kind="pendingU", currency="SD"),
        POSTING._replace(debit_kind="expensepending", credit_kind=""),
    ],
    ids=["kinds", "event", "currency", "all of a text"],
)
def test_a_character_moved_to_the_next_field_changes_the_bytes(shifted: BookedPosting) -> None:
    assert posting_bytes(shifted) != posting_bytes(POSTING)


@given(postings, postings)
def test_different_postings_never_have_the_same_bytes(one: BookedPosting, other: BookedPosting) -> None:
    assert (posting_bytes(one) == posting_bytes(other)) == (one == other)


@given(st.lists(postings, max_size=3), st.lists(postings, max_size=3))
def test_the_bytes_of_different_lists_never_join_to_the_same(
    one: list[BookedPosting], other: list[BookedPosting]
) -> None:
    assert (_joined(one) == _joined(other)) == (one == other)


def _joined(some: list[BookedPosting]) -> bytes:
    return b"".join(posting_bytes(each) for each in some)


def _other(value: Any) -> Any:
    """A value of the same type that lies as close as it can."""
    if isinstance(value, UUID):
        return UUID(int=value.int ^ 1)
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, date):
        return value + timedelta(days=1)
    return value + ("x" if isinstance(value, str) else 1)
