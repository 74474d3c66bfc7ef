"""GET /r/{code}: visitors come, the database comes and goes."""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.api import redirect
from service.api.deps import Service
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import fetch, make_engine, read_session
from service.tracking.find import ClickSigner
from service.tracking.record import Click
from tests.support.shop import Json, Shop

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
NOWHERE = "postgresql+psycopg://koc:x@127.0.0.1:1/koc"


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    return service


def service_signer(client: TestClient) -> ClickSigner:
    return ClickSigner(service_of(client).security)


def visit(client: TestClient, link: Json | str, **headers: str) -> Response:
    code = link if isinstance(link, str) else link["code"]
    return client.get(f"/r/{code}", headers={"user-agent": FIREFOX} | headers, follow_redirects=False)


def click_id_of(answer: Response) -> str:
    return parse_qs(urlsplit(answer.headers["location"]).query)["koc_click"][0]


def clicks(client: TestClient) -> list[Any]:
    with read_session(service_of(client).engine) as session:
        return list(fetch(session, "SELECT * FROM click ORDER BY at, id"))


@contextmanager
def database_away(client: TestClient) -> Iterator[None]:
    """Send the click writer and the link memory of a running service to an address where no database is."""
    service = service_of(client)
    gone = make_engine(NOWHERE)
    memory_engine, work = service.links._engine, service.clicks._work
    service.links._engine = gone
    service.clicks._work = redirect.clicks_batcher(gone)._work
    try:
        yield
    finally:
        service.links._engine, service.clicks._work = memory_engine, work
        gone.dispose()


@pytest.fixture
def link(shop: Shop) -> Json:
    return shop.a_link(shop.an_affiliate(), url="https://shop.example/p/1?size=m#reviews")


def test_a_visitor_is_sent_on_with_a_signed_click_id(client: TestClient, shop: Shop, link: Json) -> None:
    before = shop.now()

    answer = visit(client, link)

    assert answer.status_code == 302
    click_id = click_id_of(answer)
    assert answer.headers["location"] == f"https://shop.example/p/1?size=m&koc_click={click_id}#reviews"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == b""
    touch = service_signer(client).read(click_id)
    assert touch.link_id == ids.decode("lnk", link["id"])
    assert touch.at is not None
    assert timedelta(milliseconds=-1) <= touch.at - before < timedelta(seconds=10)


def test_the_click_is_a_committed_row_when_the_answer_arrives(client: TestClient, shop: Shop, link: Json) -> None:
    answer = visit(client, link, referer="https://forum.example/t?secret=1", **{"cf-ipcountry": "VN"})

    (row,) = clicks(client)
    assert row.id == click_id_of(answer)
    assert row.merchant_id == ids.decode("mer", shop.id)
    assert row.link_id == ids.decode("lnk", link["id"])
    assert row.affiliate_id == ids.decode("aff", link["affiliate_id"])
    told = service_signer(client).read(row.id).at
    assert told is not None
    assert timedelta(0) <= row.at - told < timedelta(milliseconds=1)
    assert (row.is_bot, row.user_agent, row.referrer, row.country) == (False, FIREFOX, "https://forum.example/t", "VN")


def test_each_visit_is_a_click_of_its_own(client: TestClient, link: Json) -> None:
    visits = {click_id_of(visit(client, link)) for _ in range(20)}

    assert len(visits) == 20
    assert {row.id for row in clicks(client)} == visits


def test_sub_ids_of_the_link_are_copied_to_its_clicks(client: TestClient, shop: Shop) -> None:
    link = shop.a_link(shop.an_affiliate(), sub1="tiktok", sub5="video 7")

    visit(client, link)

    assert clicks(client)[0].sub_ids == {"sub1": "tiktok", "sub5": "video 7"}


def test_the_address_of_a_visitor_is_nowhere_kept(client: TestClient, link: Json) -> None:
    for address in ("203.0.113.77", "2001:db8::77"):
        visitor = TestClient(client.app, client=(address, 40000))
        visitor.get(f"/r/{link['code']}", headers={"user-agent": FIREFOX}, follow_redirects=False)

    rows = clicks(client)
    security = service_of(client).security
    assert {row.ip_hash for row in rows} == {security.ip_hash("203.0.113.77"), security.ip_hash("2001:db8::77")}
    assert "203.0.113.77" not in str([tuple(row) for row in rows])
    assert "2001:db8::77" not in str([tuple(row) for row in rows])


@pytest.mark.parametrize("user_agent", ["Mozilla/5.0 (compatible; Googlebot/2.1)", "WhatsApp/2.23 A", "curl/8.5.0", ""])
def test_a_bot_is_sent_on_too_and_its_click_is_marked(client: TestClient, link: Json, user_agent: str) -> None:
    answer = visit(client, link, **{"user-agent": user_agent})

    assert answer.status_code == 302
    (row,) = clicks(client)
    assert row.id == click_id_of(answer)
    assert row.is_bot


def test_head_answers_as_get_and_counts_as_a_program(client: TestClient, link: Json) -> None:
    answer = client.head(f"/r/{link['code']}", headers={"user-agent": FIREFOX}, follow_redirects=False)

    assert answer.status_code == 302
    (row,) = clicks(client)
    assert row.id == click_id_of(answer)
    assert row.is_bot


@pytest.mark.parametrize(
    "code", ["nobody", "a", "x" * 200, "a%20b%20c", "%00%00%00%00", "..%2f..%2fetc", "ann1'--", "%ff%fe%fd%fc"]
)
def test_an_unknown_code_is_a_404_problem(client: TestClient, code: str) -> None:
    answer = visit(client, code)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in {"unknown-link", "unknown-path"}


def test_another_method_is_refused(client: TestClient, link: Json) -> None:
    answer = client.post(f"/r/{link['code']}")

    assert answer.status_code == 405
    assert clicks(client) == []


def test_a_link_can_be_followed_at_once_after_its_making(client: TestClient, shop: Shop) -> None:
    affiliate = shop.an_affiliate()

    answers = [visit(client, shop.a_link(affiliate)).status_code for _ in range(5)]

    assert answers == [302] * 5


def test_a_paused_link_leads_to_the_fallback_without_a_click_and_on_again_later(
    client: TestClient, shop: Shop, link: Json
) -> None:
    shop.patch(f"/v1/links/{link['id']}", {"paused": True})
    paused = eventually(client, link, "https://shop.example/")
    counted = len(clicks(client))
    again = visit(client, link)
    assert len(clicks(client)) == counted

    shop.patch(f"/v1/links/{link['id']}", {"paused": False})
    resumed = eventually(client, link, "https://shop.example/p/1")

    assert (paused.status_code, again.status_code, resumed.status_code) == (302, 302, 302)
    assert again.headers["location"] == "https://shop.example/"
    assert click_id_of(resumed)


def eventually(client: TestClient, link: Json, start: str) -> Response:
    """Visit until the address, without its query, is this one: memory follows within a second or two."""
    deadline = time.monotonic() + 5
    while True:
        answer = visit(client, link)
        if answer.headers["location"].partition("?")[0] == start:
            return answer
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_with_the_database_away_visitors_are_sent_on_with_a_good_click_id(client: TestClient, link: Json) -> None:
    visit(client, link)

    with database_away(client):
        answer = visit(client, link)

    assert answer.status_code == 302
    assert service_signer(client).read(click_id_of(answer)).link_id == ids.decode("lnk", link["id"])
    assert len(clicks(client)) == 1
    assert unrecorded(client) >= 1


def test_with_the_database_away_a_link_not_in_memory_is_to_be_asked_for_again(client: TestClient, shop: Shop) -> None:
    with database_away(client):
        answer = visit(client, "never-seen")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert visit(client, "never-seen").status_code == 404


def test_a_database_that_hangs_holds_nobody_up_for_long(
    client: TestClient, link: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redirect, "PATIENCE_S", 0.2)
    visit(client, link)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = make_engine(f"postgresql+psycopg://koc:x@127.0.0.1:{silent.getsockname()[1]}/koc")
        service = service_of(client)
        work, service.clicks._work = service.clicks._work, redirect.clicks_batcher(hanging)._work

        started = time.perf_counter()
        answers = [visit(client, link) for _ in range(3)]
        seconds = time.perf_counter() - started

        service.clicks._work = work
    hanging.dispose()
    assert [answer.status_code for answer in answers] == [302] * 3
    assert seconds < 2


def test_a_full_queue_of_clicks_holds_nobody_up(client: TestClient, link: Json) -> None:
    service = service_of(client)
    visit(client, link)
    service.clicks._queue_max = 0

    answer = visit(client, link)

    assert answer.status_code == 302
    assert click_id_of(answer)
    assert unrecorded(client) >= 1


def unrecorded(client: TestClient) -> float:
    line = next(
        line for line in client.get("/metrics").text.splitlines() if line.startswith("koc_clicks_unrecorded_total")
    )
    return float(line.split()[-1])


def test_a_click_belongs_to_the_owner_of_its_own_time(client: TestClient, shop: Shop, link: Json) -> None:
    heir = shop.an_affiliate("Minh")
    shop.post(f"/v1/links/{link['id']}/owners", {"affiliate_id": heir["id"]})
    visit(client, link)

    shop.advance(minutes=6)
    deadline = time.monotonic() + 5
    while True:
        visit(client, link)
        if clicks(client)[-1].affiliate_id == ids.decode("aff", heir["id"]) or time.monotonic() > deadline:
            break
        time.sleep(0.05)

    assert clicks(client)[0].affiliate_id == ids.decode("aff", link["affiliate_id"])
    assert clicks(client)[-1].affiliate_id == ids.decode("aff", heir["id"])


def test_clicks_of_a_test_merchant_go_by_its_own_clock(client: TestClient, shop: Shop, link: Json) -> None:
    moved = shop.advance(days=40)

    answer = visit(client, link)

    at: datetime | None = service_signer(client).read(click_id_of(answer)).at
    assert at is not None
    assert abs(at - moved) < timedelta(seconds=10)
    assert abs(clicks(client)[0].at - moved) < timedelta(seconds=10)


def test_an_order_with_the_click_id_is_credited_though_no_click_row_was_ever_stored(
    client: TestClient, shop: Shop, link: Json
) -> None:
    visit(client, link)
    with database_away(client):
        click_id = click_id_of(visit(client, link))

    shop.an_order("order-1", click_ids=[click_id])

    assert click_id not in {row.id for row in clicks(client)}
    with read_session(service_of(client).engine) as session:
        (row,) = fetch(session, "SELECT payee_id, target_minor FROM commission")
    assert row.payee_id == ids.decode("aff", link["affiliate_id"])
    assert row.target_minor == 1000


def test_an_order_with_the_click_id_of_a_bot_is_credited_too(client: TestClient, shop: Shop, link: Json) -> None:
    click_id = click_id_of(visit(client, link, **{"user-agent": "curl/8.5.0"}))

    shop.an_order("order-1", click_ids=[click_id])

    assert [row.is_bot for row in clicks(client)] == [True]
    assert shop.get("/v1/orders", external_id="order-1").json()["data"][0]["attribution_reason"] == "won"


def test_clicks_that_come_together_share_units_of_work(client: TestClient, link: Json) -> None:
    service = service_of(client)
    sizes: list[int] = []
    work = service.clicks._work

    def counted(items: Sequence[Click]) -> Sequence[None]:
        sizes.append(len(items))
        time.sleep(0.02)
        return work(items)

    service.clicks._work = counted
    signer, link_id = service_signer(client), ids.decode("lnk", link["id"])

    def one() -> Click:
        return Click(
            merchant_id=ids.new_id(),
            id=signer.make(link_id, utc_now()),
            link_id=link_id,
            affiliate_id=ids.new_id(),
            at=utc_now(),
            ip_hash="",
        )

    async def crowd() -> None:
        await asyncio.gather(*[service.clicks.submit(one()) for _ in range(200)])

    asyncio.run(crowd())

    assert sum(sizes) == 200
    assert len(sizes) <= 10
    assert len(clicks(client)) == 200
