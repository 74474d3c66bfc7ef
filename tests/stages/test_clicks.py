"""Click ids: who makes them, who may, and what a change does to them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.order import Touch, TouchKind
from service.infra import ids
from service.infra.security import Security
from service.tracking.find import ClickSigner

SECURITY = Security(b"k" * 32)
SIGNER = ClickSigner(SECURITY)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - the zone is set beside it
    lambda naive: naive.replace(tzinfo=UTC)
)


@given(link_id=st.uuids(), at=MOMENTS)
def test_what_was_made_is_read_back_to_the_millisecond(link_id: UUID, at: datetime) -> None:
    click_id = SIGNER.make(link_id, at)

    touch = SIGNER.read(click_id)

    assert touch.kind is TouchKind.CLICK
    assert touch.ref == click_id
    assert touch.link_id == link_id
    assert touch.at is not None
    assert timedelta(0) <= at - touch.at < timedelta(milliseconds=1)


@given(link_id=st.uuids(), at=MOMENTS)
def test_an_id_is_short_and_survives_every_url(link_id: UUID, at: datetime) -> None:
    click_id = SIGNER.make(link_id, at)

    assert click_id.startswith("clk_")
    assert len(click_id) <= 64
    assert set(click_id) <= set(ALPHABET)


@given(link_id=st.uuids(), place=st.integers(0, 59), other=st.sampled_from(ALPHABET + "+/=.é "))
def test_any_changed_character_is_refused(link_id: UUID, place: int, other: str) -> None:
    click_id = SIGNER.make(link_id, NOON)
    changed = click_id[:place] + other + click_id[place + 1 :]

    touch = SIGNER.read(changed)

    assert touch.ref == changed
    if changed != click_id:
        assert touch == Touch(TouchKind.CLICK, changed)


def test_every_changed_character_at_every_place_is_refused() -> None:
    click_id = SIGNER.make(ids.new_id(), NOON)

    forged = [
        changed
        for place in range(len(click_id))
        for other in ALPHABET
        if (changed := click_id[:place] + other + click_id[place + 1 :]) != click_id
        and SIGNER.read(changed).link_id is not None
    ]

    assert forged == []


@given(text=st.text(max_size=80))
def test_any_text_can_be_read_and_means_nothing(text: str) -> None:
    assert SIGNER.read(text) == Touch(TouchKind.CLICK, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("clk_", id="no body"),
        pytest.param("clk_" + "A" * 56, id="another version"),
        pytest.param("clk_AQ" + "A" * 54, id="our version, no MAC"),
        pytest.param("clk_" + "A" * 55, id="too short"),
        pytest.param("clk_" + "A" * 57, id="too long"),
        pytest.param("clk_" + "=" * 56, id="padding only"),
    ],
)
def test_what_is_no_id_of_ours_has_no_link(text: str) -> None:
    assert SIGNER.read(text).link_id is None


def test_surrounding_blanks_are_not_forgiven() -> None:
    click_id = SIGNER.make(ids.new_id(), NOON)

    assert SIGNER.read(click_id + "\n").link_id is None
    assert SIGNER.read(" " + click_id).link_id is None


def test_another_installations_ids_are_not_ours() -> None:
    click_id = ClickSigner(Security(b"o" * 32)).make(ids.new_id(), NOON)

    assert SIGNER.read(click_id).link_id is None


def test_another_process_of_this_installation_reads_them() -> None:
    link_id = ids.new_id()

    touch = ClickSigner(Security(b"k" * 32)).read(SIGNER.make(link_id, NOON))

    assert touch.link_id == link_id
    assert touch.at == NOON


def test_ids_of_one_link_and_one_instant_differ_within_and_across_processes() -> None:
    link_id, other = ids.new_id(), ClickSigner(SECURITY)

    made = [signer.make(link_id, NOON) for _ in range(1000) for signer in (SIGNER, other)]

    assert len(set(made)) == 2000
