"""Click ids: who makes them, who may, and what a change does to them. And the rows that count clicks."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from service.api.redirect import clicks_batcher
from service.domain.errors import Unavailable
from service.domain.order import Touch, TouchKind
from service.infra import ids
from service.infra.db import fetch, make_engine, read_session
from service.infra.security import Security
from service.tracking.find import ClickSigner
from service.tracking.record import Click, is_bot, write

SECURITY = Security(b"k" * 32)
SIGNER = ClickSigner(SECURITY)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MERCHANT = ids.new_id()
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
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


# Rows.


def a_click(*, click_id: str | None = None, **parts: Any) -> Click:
    link_id = ids.new_id()
    return Click(
        **{
            "merchant_id": MERCHANT,
            "id": click_id or SIGNER.make(link_id, NOON),
            "link_id": link_id,
            "affiliate_id": ids.new_id(),
            "at": NOON,
            "ip_hash": SECURITY.ip_hash("203.0.113.9"),
            "user_agent": FIREFOX,
            **parts,
        }
    )


def stored(engine: Engine) -> dict[str, Any]:
    with read_session(engine) as session:
        return {row.id: row for row in fetch(session, "SELECT * FROM click")}


def test_all_clicks_of_a_batch_are_rows_with_what_they_brought(engine: Engine) -> None:
    plain = a_click()
    rich = a_click(referrer="https://forum.example/t", country="VN", sub_ids={"sub1": "tiktok", "sub2": "đỏ\t\n\\N"})

    answer = write(engine, [plain, rich])

    assert answer == [None, None]
    rows = stored(engine)
    assert rows.keys() == {plain.id, rich.id}
    row = rows[rich.id]
    assert (row.merchant_id, row.link_id, row.affiliate_id) == (MERCHANT, rich.link_id, rich.affiliate_id)
    assert (row.at, row.is_bot, row.user_agent) == (NOON, False, FIREFOX)
    assert (row.referrer, row.country) == ("https://forum.example/t", "VN")
    assert row.sub_ids == {"sub1": "tiktok", "sub2": "đỏ\t\n\\N"}
    assert row.ip_hash == SECURITY.ip_hash("203.0.113.9")
    assert rows[plain.id].sub_ids == {}


def test_a_click_id_that_comes_twice_costs_the_others_nothing(engine: Engine) -> None:
    first, second, third = a_click(), a_click(user_agent="x\ty\\\n"), a_click()
    write(engine, [first])

    write(engine, [second, first, third, second])

    assert stored(engine).keys() == {first.id, second.id, third.id}
    assert stored(engine)[second.id].user_agent == "x\ty\\\n"


def test_a_batch_done_again_after_an_unknown_outcome_changes_nothing(engine: Engine) -> None:
    clicks = [a_click() for _ in range(100)]
    write(engine, clicks)
    before = stored(engine)

    write(engine, clicks)

    assert stored(engine) == before


def test_a_click_that_cannot_be_stored_does_not_take_the_others_with_it(engine: Engine) -> None:
    good, bad = [a_click() for _ in range(7)], a_click(user_agent="\x00")
    batcher = clicks_batcher(engine)

    async def scene() -> list[None]:
        batcher.start()
        try:
            return await asyncio.gather(*[batcher.submit(click) for click in [*good[:3], bad, *good[3:]]])
        finally:
            await asyncio.to_thread(batcher.stop)

    asyncio.run(scene())

    assert stored(engine).keys() == {click.id for click in good}


def test_with_the_database_away_the_writer_says_so() -> None:
    with pytest.raises(Unavailable):
        write(make_engine("postgresql+psycopg://koc:x@127.0.0.1:1/koc"), [a_click()])


@pytest.mark.parametrize(
    ("user_agent", "bot"),
    [
        pytest.param(FIREFOX, False, id="a browser"),
        pytest.param(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            False,
            id="a phone",
        ),
        pytest.param("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True, id="a crawler"),
        pytest.param("facebookexternalhit/1.1", True, id="a preview"),
        pytest.param("curl/8.5.0", True, id="a tool"),
        pytest.param("python-requests/2.32", True, id="a library"),
        pytest.param("", True, id="nothing"),
        pytest.param("  ", True, id="blanks"),
    ],
)
def test_bots_are_marked_and_kept(engine: Engine, user_agent: str, bot: bool) -> None:
    click = a_click(user_agent=user_agent)

    write(engine, [click])

    assert stored(engine)[click.id].is_bot is bot


def test_a_visitor_who_asks_for_the_headers_alone_is_a_program(engine: Engine) -> None:
    click = a_click(only_looked=True)

    write(engine, [click])

    assert stored(engine)[click.id].is_bot


def test_what_was_found_out_about_user_agents_is_remembered_within_bounds() -> None:
    assert is_bot.cache_info().maxsize is not None
    assert is_bot("curl/8.5.0")
    before = is_bot.cache_info().hits

    assert is_bot("curl/8.5.0")

    assert is_bot.cache_info().hits == before + 1
