"""Ids: order, form, and what is refused."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.infra.ids import decode, encode, new_id

UUIDS = st.uuids() | st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))


@given(UUIDS)
def test_an_id_survives_its_public_form(value: UUID) -> None:
    text = encode("ord", value)

    assert decode("ord", text) == value
    assert len(text) == 30
    assert text == text.lower()


@given(UUIDS, UUIDS)
def test_public_forms_sort_as_the_ids_do(one: UUID, other: UUID) -> None:
    assert (encode("ord", one) < encode("ord", other)) == (one < other)


@given(st.text(max_size=40))
def test_only_what_encode_made_is_read(text: str) -> None:
    try:
        value = decode("ord", text)
    except ValueError:
        return
    assert encode("ord", value) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("com_00000000000000000000000000", id="another prefix"),
        pytest.param("00000000000000000000000000", id="no prefix"),
        pytest.param("ord_0000000000000000000000000", id="a digit short"),
        pytest.param("ord_000000000000000000000000000", id="a digit more"),
        pytest.param("ord_8zzzzzzzzzzzzzzzzzzzzzzzzz", id="more than 128 bits"),
        pytest.param("ord_0000000000000000000000000A", id="upper case"),
        pytest.param("ord_0000000000000000000000000l", id="a letter outside the alphabet"),
        pytest.param("ord_0000000000000000000000000\N{ARABIC-INDIC DIGIT ONE}", id="a digit of another script"),
        pytest.param("ord_00000000000000000000000000\n", id="a line end"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an id that begins with ord_"):
        decode("ord", text)


def test_new_ids_are_version_7_and_carry_the_time() -> None:
    value = new_id()

    assert (value.version, value.variant) == (7, RFC_4122)
    age = datetime.now(UTC) - datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    assert abs(age.total_seconds()) < 5


def test_new_ids_rise_even_when_the_clock_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)

    ids = [before, *(new_id() for _ in range(5000))]

    assert ids == sorted(set(ids))


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [one for part in pool.map(lambda _: [new_id() for _ in range(500)], range(16)) for one in part]

    assert len(set(ids)) == len(ids)
