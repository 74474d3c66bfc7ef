"""Pages: every row once, whatever comes in meanwhile, and cursors that nobody can misuse."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.paging import InvalidCursor, Page, PageQuery, page, page_query
from service.infra.clock import utc_now
from service.infra.ids import new_id
from tests.support.shop import Shop


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def test_rows_that_come_in_between_two_pages_shift_nothing(shop: Shop) -> None:
    before = [shop.post("/v1/affiliates", {"name": f"{number}"}).json()["id"] for number in range(4)]
    first = shop.get("/v1/affiliates", limit=2).json()
    shop.post("/v1/affiliates", {"name": "new"})

    second = shop.get("/v1/affiliates", limit=2, cursor=first["next_cursor"]).json()

    assert [one["id"] for one in first["data"] + second["data"]] == before[::-1]
    assert second["has_more"] is False


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "====",
        encoded([]),
        encoded({}),
        encoded("a"),
        encoded([1]),
        encoded(["no id"]),
        encoded(["a", "b"]),
        encoded(["\x00"]),
    ],
    ids=str,
)
def test_a_cursor_that_no_page_returned_is_refused(shop: Shop, cursor: str) -> None:
    answer = shop.get("/v1/affiliates", cursor=cursor)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor")


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\x01"], ids=ascii)
def test_a_cursor_with_a_text_that_no_row_has_is_refused(shop: Shop, text: str) -> None:
    link = shop.a_link(shop.an_affiliate())

    answer = shop.get("/v1/clicks", link_id=link["id"], cursor=encoded(["2026-11-20T12:00:00+00:00", text]))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor")


@pytest.mark.parametrize("limit", ["0", "201", "-1", "1.5", "many", ""])
def test_a_page_has_a_limit(shop: Shop, limit: str) -> None:
    assert shop.get("/v1/affiliates", limit=limit).status_code == 422


@given(st.integers(0, 30), st.integers(1, 10))
def test_pages_show_each_row_once_and_in_order(rows: int, limit: int) -> None:
    ids = sorted((new_id() for _ in range(rows)), reverse=True)
    seen = []

    asked, turns = PageQuery(limit, ()), 0
    while True:
        after = asked.after_id()
        found = [one for one in ids if after is None or one < after][: limit + 1]
        one_page: Page[str] = page(found, asked, key=lambda row: (row,), view=str)
        seen += one_page.data
        turns += 1
        if one_page.next_cursor is None:
            break
        asked = page_query(limit, one_page.next_cursor)

    assert seen == [str(one) for one in ids]
    assert turns == max(1, -(-rows // limit))


def test_a_cursor_by_time_keeps_its_microseconds() -> None:
    at, row_id = utc_now(), new_id()

    told = page([0, 1], PageQuery(1, ()), key=lambda _: (at, row_id), view=str)

    assert told.next_cursor is not None
    assert page_query(1, told.next_cursor).after_moment() == (at, row_id)


def test_a_cursor_by_number_keeps_its_number() -> None:
    told = page([0, 1], PageQuery(1, ()), key=lambda _: ("12",), view=str)

    assert told.next_cursor is not None
    assert page_query(1, told.next_cursor).after_number() == 12


@pytest.mark.parametrize("number", ["", "-1", "1.5", "\u0661", "1" * 19])
def test_a_cursor_that_is_no_count_is_none_of_ours(number: str) -> None:
    asked = page_query(1, encoded([number]))

    with pytest.raises(InvalidCursor):
        asked.after_number()


def test_a_cursor_without_a_zone_is_none_of_ours() -> None:
    asked = page_query(1, encoded(["2026-11-22T00:00:00", new_id().hex]))

    with pytest.raises(InvalidCursor):
        asked.after_moment()
