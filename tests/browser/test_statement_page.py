"""A statement's page in a real browser: within its own policy, in three languages, on A4 with a head on each page."""

import re
import zlib
from typing import Any

import pytest

from service.domain.wording.languages import Language
from service.reports.render_statement import PAGE_POLICY, render_html
from tests.support.statement_pages import a_statement, digest

ADDRESS = "https://shop.example/statement"
A4_PRINTED_PX = 695
"""What the margins leave of the width of A4, at 96 px to the inch."""
HEAD = rb"\.1882 \.2 \.2118 (?:rg|RG)"
"""The colour of the line below a table's head, in which nothing else is drawn: #303336."""


@pytest.fixture
def shown(visitor: Any) -> Any:
    """Return a page that shows statements as the service answers them, and collects what its policy refused."""
    visitor.refused = []
    visitor.on("console", lambda message: visitor.refused.append(message.text))

    def show(language: Language, *, orders: int = 3) -> Any:
        document = a_statement(orders=orders, billed=True, provisional=True)
        body = render_html(document, digest=digest(document), language=language)
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": PAGE_POLICY}
        visitor.unroute(ADDRESS)
        visitor.route(ADDRESS, lambda route: route.fulfill(headers=headers, body=body))
        visitor.goto(ADDRESS)
        return visitor

    return show


def overflowing(page: Any) -> list[str]:
    """What is wider than its place: the page itself, or a table that would have to be moved to be read."""
    found: list[str] = page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll('.scroll, section, table')]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => `${one.tagName} ${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
    )
    return found


@pytest.mark.parametrize("language", Language)
def test_a_statement_is_shown_and_asks_nobody_for_anything(shown: Any, language: Language) -> None:
    page = shown(language)

    assert page.evaluate("document.documentElement.lang") == language.value
    assert "2026-000123" in page.title()
    assert page.evaluate("getComputedStyle(document.querySelector('.number')).textAlign") == "right", "styles count"
    assert page.evaluate("[...document.querySelectorAll('rect')].every(one => one.getBBox().width >= 0)")
    assert page.refused == []
    assert page.requests == [ADDRESS]


@pytest.mark.parametrize("language", Language)
def test_nothing_is_wider_than_a_printed_page_or_a_phone(shown: Any, language: Language) -> None:
    page = shown(language, orders=12)

    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4_PRINTED_PX, "height": 1000})
    assert overflowing(page) == []
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("language", Language)
def test_its_print_is_a4_and_repeats_the_head_of_its_table(shown: Any, language: Language) -> None:
    page = shown(language, orders=60)

    printed = page.pdf(prefer_css_page_size=True, print_background=True)

    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert len(sizes) >= 4
    assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}
    drawn = contents(printed)
    assert len(drawn) == len(sizes)
    # All but the last, which may hold nothing but the notes.
    assert [number for number, each in enumerate(drawn[:-1], 1) if not re.search(HEAD, each)] == []


@pytest.mark.parametrize("language", Language)
def test_a_short_one_has_a_page(shown: Any, language: Language) -> None:
    printed = shown(language, orders=1).pdf(prefer_css_page_size=True)

    assert printed.startswith(b"%PDF-")
    assert len(contents(printed)) >= 1


def test_a_reader_finds_its_tables_by_their_heads(shown: Any) -> None:
    page = shown(Language.EN)

    headed = page.evaluate(
        "() => [...document.querySelectorAll('table')].map(one => one.querySelectorAll('thead th[scope=col]').length)"
    )
    assert headed == [3, 5, 9, 8, 4]
    assert page.get_by_role("heading", level=1).inner_text() == "Self-billed invoice for commission"
    assert page.get_by_role("rowheader", name="Sent to you").count() == 1


def contents(printed: bytes) -> list[bytes]:
    """What is drawn on each page of a PDF, in its own order."""
    objects = dict(re.findall(rb"\n(\d+) 0 obj\r?\n(.*?)\nendobj", printed, re.DOTALL))
    pages = [body for body in objects.values() if re.search(rb"/Type /Page\b", body)]
    drawn = []
    for page in pages:
        [number] = re.findall(rb"/Contents (\d+) 0 R", page)
        packed = objects[number].partition(b"stream")[2].lstrip(b"\r\n").rpartition(b"endstream")[0]
        drawn.append(zlib.decompress(packed))
    return drawn
