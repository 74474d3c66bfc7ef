"""Where links may lead, what their Location looks like, and the memory that serves them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.domain.dated import Owner
from service.domain.errors import Unavailable
from service.infra.db import execute, make_engine, unit_of_work
from service.infra.ids import new_id
from service.tables.programs import LinkOwnerRow
from service.tracking import links
from service.tracking.links import LinkMemory
from service.tracking.redirect import (
    DomainNotAllowed,
    InvalidDomain,
    InvalidUrl,
    Link,
    allowed_url,
    canonical_domain,
    canonical_url,
    destination,
    ready,
)
from tests.support.books import LONG_AGO, Books
from tests.support.links import a_link, add_link, change

NOWHERE = "postgresql+psycopg://koc:x@127.0.0.1:1/koc"
CLICK = "clk_" + "A" * 56
ALLOWED = ["shop.example", "*.brand.example", "dev.example:8443"]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        pytest.param("https://shop.example/", "https://shop.example/?koc_click=@", id="bare"),
        pytest.param("https://shop.example/p?x=1", "https://shop.example/p?x=1&koc_click=@", id="query"),
        pytest.param("https://shop.example/p?", "https://shop.example/p?koc_click=@", id="empty query"),
        pytest.param("https://shop.example/p?x", "https://shop.example/p?x&koc_click=@", id="a name alone"),
        pytest.param("https://shop.example/p?x=1&", "https://shop.example/p?x=1&koc_click=@", id="trailing &"),
        pytest.param("https://shop.example/p#top", "https://shop.example/p?koc_click=@#top", id="fragment"),
        pytest.param("https://shop.example/p?x=1#t?a=b", "https://shop.example/p?x=1&koc_click=@#t?a=b", id="both"),
        pytest.param("https://shop.example/#/route?x=1", "https://shop.example/?koc_click=@#/route?x=1", id="hash route"),
        pytest.param("https://shop.example/p#", "https://shop.example/p?koc_click=@#", id="empty fragment"),
        pytest.param("https://shop.example/a%20b?q=%26%3D+c", "https://shop.example/a%20b?q=%26%3D+c&koc_click=@", id="escapes stay"),
        pytest.param("https://shop.example/?x=1&x=2&x=1", "https://shop.example/?x=1&x=2&x=1&koc_click=@", id="repeated names stay"),
        pytest.param("https://shop.example/?a=?b", "https://shop.example/?a=?b&koc_click=@", id="second question mark"),
        pytest.param("https://shop.example/?koc_click=old&x=1", "https://shop.example/?x=1&koc_click=@", id="an older click goes"),
        pytest.param("https://shop.example/?koc%5Fclick=old", "https://shop.example/?koc_click=@", id="an escaped one too"),
        pytest.param("https://shop.example/?koc_clicks=1", "https://shop.example/?koc_clicks=1&koc_click=@", id="a longer name stays"),
        pytest.param("https://shop.example/?u=https://a.example/?b=c", "https://shop.example/?u=https://a.example/?b=c&koc_click=@", id="an address as value"),
    ],
)  # fmt: skip
def test_the_click_id_is_the_last_parameter_and_nothing_else_changes(url: str, location: str) -> None:
    assert destination(url, CLICK) == location.replace("@", CLICK)


@pytest.mark.parametrize(
    "stored",
    [
        "http://shop.example/",
        "https://shop.example/\r\nset-cookie: a=b",
        "https://shop.example/\n",
        "https://shop.example/ x",
        "https://shop.example/ü",
        "https://shop.example/\\x",
        "javascript:alert(1)",
        "//shop.example/",
        "",
    ],
)
def test_what_could_not_stand_in_a_header_is_never_sent(stored: str) -> None:
    with pytest.raises(InvalidUrl):
        destination(stored, CLICK)
    with pytest.raises(InvalidUrl):
        ready(stored)


@given(
    path=st.text(max_size=30),
    query=st.text(max_size=30),
    fragment=st.text(max_size=30),
)
def test_every_accepted_address_leads_to_its_host_with_the_click_in_its_query(
    path: str, query: str, fragment: str
) -> None:
    try:
        url = allowed_url(f"https://shop.example/{path}?{query}#{fragment}", ALLOWED)
    except InvalidUrl:
        return

    location = destination(url, CLICK)

    assert location.isascii()
    assert location.isprintable()
    assert " " not in location
    parsed = urlsplit(location)
    assert (parsed.scheme, parsed.netloc) == ("https", "shop.example")
    assert parse_qsl(parsed.query, keep_blank_values=True)[-1] == ("koc_click", CLICK)
    # What is canonical stays as it is when it is read once more.
    assert allowed_url(url, ALLOWED) == url


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        pytest.param("https://shop.example", "https://shop.example/", id="no path"),
        pytest.param("HTTPS://Shop.Example/Path", "https://shop.example/Path", id="case of scheme and host"),
        pytest.param("https://shop.example:443/", "https://shop.example/", id="the usual port"),
        pytest.param("https://shop.example?x=1", "https://shop.example/?x=1", id="query without path"),
        pytest.param("https://shop.example#a", "https://shop.example/#a", id="fragment without path"),
        pytest.param("https://shop.example/áo?màu=đỏ#cỡ", "https://shop.example/%C3%A1o?m%C3%A0u=%C4%91%E1%BB%8F#c%E1%BB%A1", id="letters"),
        pytest.param("https://shop.example/a%20b%2Fc?q=100%25", "https://shop.example/a%20b%2Fc?q=100%25", id="escapes stay"),
        pytest.param('https://shop.example/<"{|}`^', "https://shop.example/%3C%22%7B%7C%7D%60%5E", id="what has to be escaped"),
        pytest.param("https://a.brand.example/", "https://a.brand.example/", id="below a wildcard"),
        pytest.param("https://a.b.brand.example/", "https://a.b.brand.example/", id="far below a wildcard"),
        pytest.param("https://dev.example:8443/x", "https://dev.example:8443/x", id="a listed port"),
        pytest.param("https://shop.example//evil.example/", "https://shop.example//evil.example/", id="slashes in the path"),
        pytest.param("https://shop.example/@evil.example", "https://shop.example/@evil.example", id="an at sign in the path"),
        pytest.param("https://shop.example/?next=//evil.example", "https://shop.example/?next=//evil.example", id="the shop's own parameter"),
    ],
)  # fmt: skip
def test_an_allowed_address_is_stored_in_one_spelling(given: str, canonical: str) -> None:
    assert allowed_url(given, ALLOWED) == canonical


HOSTS = [
    "evil.example",
    "shop.example.evil.example",
    "notshop.example",
    "shop-example.evil.example",
    "brand.example",  # the wildcard speaks for what is below
    "notbrand.example",
    "brand.example.evil.example",
    "a.shop.example",
    "dev.example",  # only its port is listed
    "dev.example:8444",
    "shop.example:8443",
    "shop.example:80",
    "xn--shp-6na.example",
]


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_or_port_is_not_allowed(host: str) -> None:
    with pytest.raises(DomainNotAllowed):
        allowed_url(f"https://{host}/", ALLOWED)


# Each is read by some browser, library or proxy as leading elsewhere than it seems to.
TRICKS = [
    # no https, no host, no scheme at all
    "http://shop.example/", "HTTP://shop.example/", "ftp://shop.example/", "javascript:alert(1)", "JaVaScRiPt:alert(1)",
    "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:https://shop.example/x", "about:blank", "mailto:a@b.example",
    "//shop.example/", "///shop.example/", "////evil.example", "/", "/evil", "shop.example/", "shop.example", "", "https",
    "https:", "https:/", "https://", "https:///", "https:///evil.example/", "https:////evil.example/", "https:/shop.example/",
    "https:shop.example/", "https:evil.example", "https:\\\\evil.example", "https:/\\evil.example", "https:\\/evil.example",
    "https//shop.example/", "https;//shop.example/", "https:://shop.example/", "hhttps://shop.example/", "ht\ttps://shop.example/",
    "https\n://shop.example/", "view-source:https://shop.example/", "https+x://shop.example/", "https ://shop.example/",
    # user information
    "https://shop.example@evil.example/", "https://evil.example@shop.example/", "https://a:b@shop.example/", "https://@shop.example/",
    "https://:@shop.example/", "https://shop.example:443@evil.example/", "https://shop.example%40evil.example/",
    "https://shop.example%2540evil.example/", "https://a@b@shop.example/", "https://shop.example&@evil.example/",
    "https://shop.example;@evil.example/", "https://shop.example%00@evil.example/", "https://user%40x@shop.example/",
    # backslashes and blanks
    "https://shop.example\\@evil.example/", "https://evil.example\\@shop.example/", "https://evil.example\\.shop.example/",
    "https://shop.example\\evil.example/", "https://shop.example/\\evil.example", "https://shop.example\\", "\\\\shop.example/",
    "https:\\\\shop.example/", "https://shop.example/a\\b", "https://shop.example/?a=\\", "https://shop.example/#\\",
    " https://shop.example/", "https://shop.example/ ", "https:// shop.example/", "https://shop .example/", "https://shop.example /",
    "https://shop.example/a b", "\thttps://shop.example/", "https://shop.example/\t", "https://shop.ex\tample/",
    # controls, splitting of headers
    "https://shop.example/\r\nLocation: https://evil.example/", "https://shop.example/\nx", "https://shop.example/\rx",
    "https://shop.example/\x00", "https://shop.example\x00.evil.example/", "https://shop.example/\x0b", "https://shop.example/\x1f",
    "https://shop.example/\x7f", "https://shop.example/\x85", "https://shop.example\r\n/", "https://shop.example/?a=\r\nb",
    "https://shop.example/#\r\n\r\n<script>", "https://shop.example/\x9f", "https://shop.example/\ud800", "https://shop.example\n@evil.example/",
    # hosts that are no plain names
    "https://shop.example./", "https://.shop.example/", "https://shop..example/", "https://shop.example../", "https://-shop.example/",
    "https://shop-.example/", "https://shop_x.example/", "https://*.shop.example/", "https://shop.example%2eevil.example/",
    "https://shop%2Eexample/", "https://%73hop.example/", "https://shop.example%00/", "https://shop.example%0d%0a/", "https://shop.example%/",
    "https://shop.example%23.evil.example/", "https://shop.example%2f.evil.example/", "https://shop.example%5c.evil.example/",
    "https://shop.example%3f.evil.example/", "https://shop.example,evil.example/", "https://shop.example;evil.example/",
    "https://shop.example|evil.example/", "https://(shop.example)/", "https://'shop.example'/", 'https://"shop.example"/',
    "https://<shop.example>/", "https://{shop}.example/", "https://shop.example$evil.example/", "https://shop.example!/",
    "https://shop.example=evil.example/", "https://shop.example+evil.example/", "https://shop.example~/", "https://localhost/",
    "https://shop/", "https://example/", "https://" + "a" * 64 + ".shop.example/", "https://" + "a." * 130 + "example/",
    # numbers in place of names
    "https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/latest/", "https://2130706433/", "https://0x7f000001/",
    "https://0x7f.0.0.1/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.0.1.", "https://0/", "https://1.2.3/",
    "https://shop.example.1/", "https://shop.0x7f/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[shop.example]/",
    "https://[::1%25eth0]/", "https://[v1.x]/", "https://shop.example]/", "https://[shop.example/", "https://::1/",
    # names beyond ASCII, and characters that become ASCII when folded
    "https://ѕhop.example/", "https://shоp.example/", "https://shop.exаmple/", "https://ｓｈｏｐ.example/", "https://shop．example/",
    "https://shop。example/", "https://shop｡example/", "https://shop.example．evil.example/", "https://shop.example／evil.example/",
    "https://shop.example＠evil.example/", "https://shop.example＃.evil.example/", "https://shop.example？.evil.example/",
    "https://shop.example℀.evil.example/", "https://shop.example⁄evil.example/", "https://shop.example∕evil.example/",
    "https://shop.example․evil.example/", "https://shop.example\u200b/", "https://sh\u00adop.example/", "https://shop\u2060.example/",
    "https://shop.example\u202e/", "https://\ufeffshop.example/", "https://shop.example\u3000/", "https://shop.example\u00a0/",
    "https://ßhop.example/", "https://ſhop.example/", "https://\u212aoc.brand.example/", "https://ⓢⓗⓞⓟ.example/", "https://бренд.example/",
    "https://a.ｂrand.example/", "https://shop.example\uff0fevil/", "https://shop.example％2eevil.example/", "httpſ://shop.example/",
    # ports
    "https://shop.example:/", "https://shop.example:0/", "https://shop.example:00443/", "https://shop.example:+443/",
    "https://shop.example:-1/", "https://shop.example:65536/", "https://shop.example:99999999999/", "https://shop.example:4 43/",
    "https://shop.example:443:443/", "https://shop.example:https/", "https://shop.example:４４３/", "https://shop.example:0x1bb/",
    "https://shop.example:443.evil.example/", "https://shop.example:443%40evil.example/", "https://:443/", "https://:/",
    # length
    "https://shop.example/" + "a" * 2048,
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_no_trick_is_understood_as_an_address(trick: str) -> None:
    with pytest.raises(InvalidUrl):
        allowed_url(trick, [*ALLOWED, "*.example", "*.evil.example"])
    with pytest.raises(InvalidUrl):
        canonical_url(trick)


@given(st.text(alphabet="htps:/\\@#?.%shop.examplevi\t\n 0123456789[]*_-éK。", max_size=40))
def test_whatever_is_accepted_every_parser_reads_the_same_allowed_host(rest: str) -> None:
    try:
        url = allowed_url("https://" + rest, ["*.example", "shop.example"])
    except (InvalidUrl, DomainNotAllowed):
        return

    host = urlsplit(url).hostname
    assert host is not None
    assert host.endswith(".example")
    assert urlsplit(url).username is None
    # As a browser reads it, which takes a backslash for a slash and drops tabs and line feeds.
    assert not set("\\\t\r\n ") & set(url)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("Shop.Example", "shop.example"),
        ("*.Shop.Example", "*.shop.example"),
        ("shop.example:8443", "shop.example:8443"),
        ("shop.example:443", "shop.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_domain_is_kept_in_lower_case(given: str, canonical: str) -> None:
    assert canonical_domain(given) == canonical


@pytest.mark.parametrize(
    "domain",
    [
        "", "*", "*.", "*.*.shop.example", "a.*.example", "shop", "https://shop.example", "shop.example/", "shop.example.",
        "127.0.0.1", "[::1]", "shop.example:0", "shop.example:", "shop.example:99999", "bücher.example", "a@shop.example",
        "shop.example\n", " shop.example", "\u212aoc.example", "localhost", "*.com:x",
    ],
)  # fmt: skip
def test_a_domain_that_says_more_or_less_than_a_host_is_refused(domain: str) -> None:
    with pytest.raises(InvalidDomain):
        canonical_domain(domain)


def test_a_link_belongs_to_whoever_owned_it_at_that_time() -> None:
    ann, bob = new_id(), new_id()
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    link = Link(
        merchant_id=new_id(),
        id=new_id(),
        program_id=new_id(),
        code="ann1",
        url="https://shop.example/",
        paused=False,
        owners=(Owner(noon, ann), Owner(noon + timedelta(days=1), bob)),
        updated_at=noon,
    )

    assert link.owner_at(noon - timedelta(seconds=1)) == ann
    assert link.owner_at(noon + timedelta(hours=23)) == ann
    assert link.owner_at(noon + timedelta(days=1)) == bob


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[LinkMemory]:
    memory = LinkMemory(engine)
    await memory.start()
    try:
        yield memory
    finally:
        await memory.stop()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110 - what is awaited is the next look at the database
            await asyncio.sleep(0.01)


@pytest.fixture
def books(engine: Engine) -> Books:
    return Books.opened(engine)


@pytest.fixture
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only looks that a test asks for."""
    monkeypatch.setattr(links, "REFRESH_S", 3600)


def test_all_links_are_there_from_the_start(books: Books) -> None:
    link_id = a_link(books, "ann1", url="https://shop.example/p", sub_ids={"sub1": "tiktok"})

    async def scene() -> Link | None:
        async with started(books.engine) as memory:
            return memory.get("ann1")

    link = asyncio.run(scene())

    assert link is not None
    assert (link.id, link.merchant_id, link.url) == (link_id, books.merchant_id, "https://shop.example/p")
    assert link.owner_at(books.now) == books.ann
    assert link.sub_ids == {"sub1": "tiktok"}
    assert not link.paused


def test_all_pages_are_read(books: Books, monkeypatch: pytest.MonkeyPatch, no_ticks: None) -> None:
    monkeypatch.setattr(links, "_PAGE", 3)
    with unit_of_work(books.engine) as session:
        for number in range(10):
            add_link(session, books, f"code{number}")
        execute(session, "UPDATE link SET updated_at = :at WHERE code < 'code7'", {"at": LONG_AGO})

    async def scene() -> list[bool]:
        async with started(books.engine) as memory:
            return [memory.get(f"code{number}") is not None for number in range(10)]

    assert asyncio.run(scene()) == [True] * 10


def test_a_change_is_seen_within_a_second_or_two(books: Books) -> None:
    a_link(books, "ann1")

    async def scene() -> None:
        async with started(books.engine) as memory:
            change(books, "ann1", "paused_at = clock_timestamp()")

            async def paused() -> bool:
                link = memory.get("ann1")
                return link is not None and link.paused

            await asyncio.wait_for(until(paused), 5)

    asyncio.run(scene())


def test_a_change_that_commits_late_is_not_missed(books: Books, no_ticks: None) -> None:
    a_link(books, "early")
    a_link(books, "late")

    async def scene() -> tuple[str, str]:
        async with started(books.engine) as memory:
            with unit_of_work(books.engine) as session:
                execute(
                    session,
                    "UPDATE link SET url = 'https://shop.example/late', updated_at = clock_timestamp() WHERE code = 'late'",
                )
                await asyncio.sleep(0.05)
                await asyncio.to_thread(change, books, "early", "url = 'https://shop.example/early'")
                # This look sees a later change than the one that is still to be committed.
                await memory.refresh()
            await memory.refresh()
            early, late = memory.get("early"), memory.get("late")
            assert early is not None
            assert late is not None
            return early.url, late.url

    assert asyncio.run(scene()) == ("https://shop.example/early", "https://shop.example/late")


def test_now_and_then_a_look_reaches_back_for_what_committed_very_late(
    books: Books, no_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_DEEP_EVERY", 3)
    a_link(books, "ann1")

    async def scene() -> list[str]:
        async with started(books.engine) as memory:
            with unit_of_work(books.engine) as session:
                execute(
                    session,
                    "UPDATE link SET url = 'https://shop.example/new', updated_at = clock_timestamp() - interval '2 minutes'",
                )
            urls = []
            for _ in range(3):
                await memory.refresh()
                link = memory.get("ann1")
                assert link is not None
                urls.append(link.url)
            return urls

    old, new = "https://shop.example/", "https://shop.example/new"
    assert asyncio.run(scene()) == [old, old, new]


def questions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Write down which codes the database is asked for from now on."""
    asked: list[list[str]] = []
    read = links._read_by_code

    def noted(session: Session, codes: Sequence[str]) -> Sequence[Row[Any]]:
        asked.append(list(codes))
        return read(session, codes)

    monkeypatch.setattr(links, "_read_by_code", noted)
    return asked


def test_a_code_not_in_memory_is_asked_of_the_database_once_however_many_come(
    books: Books, no_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(monkeypatch)

    async def scene() -> list[Link | None]:
        async with started(books.engine) as memory:
            a_link(books, "new1")
            found = await asyncio.gather(*[memory.find("new1") for _ in range(50)])
            found.append(await memory.find("new1"))
            return found

    found = asyncio.run(scene())

    assert all(link is not None and link.code == "new1" for link in found)
    assert asked == [["new1"]]


def test_a_miss_is_remembered_for_a_moment_and_no_longer(
    books: Books, no_ticks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(monkeypatch)
    monkeypatch.setattr(links, "MISS_S", 1.0)

    async def scene() -> list[bool]:
        async with started(books.engine) as memory:
            first = await asyncio.gather(*[memory.find("nobody") for _ in range(20)])
            again = await memory.find("nobody")
            a_link(books, "nobody")
            still = await memory.find("nobody")
            await asyncio.sleep(1.05)
            return [link is not None for link in (*first, again, still, await memory.find("nobody"))]

    assert asyncio.run(scene()) == [False] * 22 + [True]
    assert asked == [["nobody"], ["nobody"]]


def test_misses_do_not_fill_memory(books: Books, no_ticks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_MISSES_MAX", 100)

    async def scene() -> int:
        async with started(books.engine) as memory:
            for start in range(0, 1000, 50):
                await asyncio.gather(*[memory.find(f"guess{number}") for number in range(start, start + 50)])
            return len(memory._misses)

    assert asyncio.run(scene()) <= 100


@pytest.mark.parametrize("code", ["", "abc", "a" * 33, "a b c d", "ann1\x00", "ann'--", "äöüß"])
def test_what_is_no_code_is_not_even_asked(code: str) -> None:
    memory = LinkMemory(make_engine(NOWHERE))

    assert asyncio.run(memory.find(code)) is None


def test_with_the_database_away_memory_goes_on_and_unknown_codes_are_unavailable(
    books: Books, database_url: str
) -> None:
    a_link(books, "ann1")
    engine = make_engine(database_url, pool_size=2)

    async def scene() -> tuple[Link | None, Link | None]:
        async with started(engine) as memory:
            memory._engine = make_engine(NOWHERE)
            with pytest.raises(Unavailable):
                await memory.refresh()
            with pytest.raises(Unavailable):
                await memory.find("other")
            before = await memory.find("ann1")
            memory._engine = engine
            a_link(books, "new1")
            return before, await memory.find("new1")

    before, after = asyncio.run(scene())
    engine.dispose()

    assert before is not None
    assert after is not None


def test_a_start_without_the_database_catches_up_when_it_is_there(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "REFRESH_S", 0.05)
    a_link(books, "ann1")

    async def scene() -> None:
        async with started(make_engine(NOWHERE)) as memory:
            assert memory.get("ann1") is None
            memory._engine = books.engine

            async def is_there() -> bool:
                return memory.get("ann1") is not None

            await until(is_there)

    asyncio.run(scene())


def test_a_paused_link_knows_its_fallback_and_follows_a_change_of_it(books: Books, no_ticks: None) -> None:
    def fall_back_to(url: str) -> None:
        with unit_of_work(books.engine) as session:
            execute(session, "UPDATE program SET fallback_url = :url", {"url": url})

    fall_back_to("https://shop.example/sorry")
    a_link(books, "ann1")
    change(books, "ann1", "paused_at = clock_timestamp()")

    async def scene() -> list[str]:
        async with started(books.engine) as memory:
            link = memory.get("ann1")
            assert link is not None
            before = memory.fallback_url(link)
            fall_back_to("https://shop.example/closed")
            await memory.refresh()
            return [before, memory.fallback_url(link)]

    assert asyncio.run(scene()) == ["https://shop.example/sorry", "https://shop.example/closed"]


def test_a_test_merchants_clock_is_followed(books: Books, no_ticks: None) -> None:
    a_link(books, "ann1")
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)

    async def scene() -> list[datetime]:
        async with started(books.engine) as memory:
            before = memory.now(books.merchant_id, noon)
            books.advance(days=3)
            await memory.refresh()
            after = memory.now(books.merchant_id, noon)
            memory.set_clock(books.merchant_id, 5 * 86400)
            await memory.refresh()
            return [before, after, memory.now(books.merchant_id, noon), memory.now(new_id(), noon)]

    assert asyncio.run(scene()) == [noon, noon + timedelta(days=3), noon + timedelta(days=5), noon]


def test_a_handed_over_link_knows_both_owners(books: Books, no_ticks: None) -> None:
    link_id, bob = a_link(books, "ann1"), books.affiliate("BOB")
    later = datetime(2030, 1, 1, tzinfo=UTC)

    async def scene() -> list[UUID]:
        async with started(books.engine) as memory:
            with unit_of_work(books.engine) as session:
                session.add(
                    LinkOwnerRow(
                        merchant_id=books.merchant_id,
                        link_id=link_id,
                        valid_from=later,
                        affiliate_id=bob,
                        recorded_at=LONG_AGO,
                    )
                )
            change(books, "ann1", "url = url")
            await memory.refresh()
            link = memory.get("ann1")
            assert link is not None
            return [link.owner_at(later - timedelta(seconds=1)), link.owner_at(later)]

    assert asyncio.run(scene()) == [books.ann, bob]
