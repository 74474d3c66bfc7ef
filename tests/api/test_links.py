"""Links over HTTP: who may make them, where they may lead, whose they are."""

import struct
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.shop import Json, Shop


@pytest.fixture
def lan(shop: Shop) -> Json:
    return shop.an_affiliate("Lan")


def asked(shop: Shop, affiliate: Json, **parts: Any) -> Json:
    return {
        "affiliate_id": affiliate["id"],
        "program_id": shop.program["id"],
        "url": "https://shop.example/p/1",
        **parts,
    }


def test_a_link_says_what_to_share_what_to_disclose_and_where_its_codes_are(shop: Shop, lan: Json) -> None:
    answer = shop.post(
        "/v1/links", asked(shop, lan, url="https://Shop.example/áo?x=1#top", sub1="tiktok", external_id="l-1")
    )

    assert answer.status_code == 201
    link = answer.json()
    public = "http://127.0.0.1:8000"
    assert link["short_url"] == f"{public}/r/{link['code']}"
    assert link["url"] == "https://shop.example/%C3%A1o?x=1#top"
    assert link["disclosure"] == "I earn from this."
    assert link["qr_svg_url"] == f"{public}/v1/links/{link['id']}/qr.svg"
    assert link["qr_png_url"] == f"{public}/v1/links/{link['id']}/qr.png"
    assert (link["sub1"], link["sub2"], link["external_id"]) == ("tiktok", None, "l-1")
    assert link["affiliate_id"] == lan["id"]
    assert [owner["affiliate_id"] for owner in link["owners"]] == [lan["id"]]
    assert link["paused_at"] is None
    assert shop.get(f"/v1/links/{link['id']}").json() == link


def test_the_first_owner_counts_from_the_making_of_the_link_even_after_the_first_order(shop: Shop, lan: Json) -> None:
    shop.an_order("order-1")

    link = shop.a_link(lan)

    assert link["owners"][0]["valid_from"] == link["created_at"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://evil.example/", "domain-not-allowed"),
        ("https://shop.example.evil.example/", "domain-not-allowed"),
        ("http://shop.example/", "invalid-url"),
        ("//shop.example/", "invalid-url"),
        ("https://shop.example@evil.example/", "invalid-url"),
        ("https://shop.example\\@evil.example/", "invalid-url"),
        ("javascript:alert(1)", "invalid-url"),
        ("https://shop.example/\r\nset-cookie:x", "invalid-url"),
    ],
)
def test_a_link_leads_nowhere_but_to_the_programmes_domains(shop: Shop, lan: Json, url: str, code: str) -> None:
    link = shop.a_link(lan)

    made = shop.post("/v1/links", asked(shop, lan, url=url))
    moved = shop.patch(f"/v1/links/{link['id']}", {"url": url})

    assert (made.status_code, made.json()["code"]) == (422, code)
    assert (moved.status_code, moved.json()["code"]) == (422, code)
    assert shop.get(f"/v1/links/{link['id']}").json()["url"] == link["url"]


@pytest.mark.parametrize("code", ["lan-tiktok", "Lan_2026", "a" * 32, "1234"])
def test_a_code_of_ones_own_choice(shop: Shop, lan: Json, code: str) -> None:
    assert shop.a_link(lan, code=code)["code"] == code


@pytest.mark.parametrize("code", ["abc", "a" * 33, "a b c", "lan/x", "läñ1", "lan1\n", ""])
def test_a_code_that_does_not_fit_into_a_short_url_is_refused(shop: Shop, lan: Json, code: str) -> None:
    assert shop.post("/v1/links", asked(shop, lan, code=code)).status_code == 422


def test_a_code_is_one_for_the_whole_service(client: TestClient, shop: Shop, lan: Json) -> None:
    shop.a_link(lan, code="lan-tiktok")
    other = Shop(client)

    same = shop.post("/v1/links", asked(shop, lan, code="lan-tiktok"))
    foreign = other.post("/v1/links", asked(other, other.an_affiliate(), code="lan-tiktok"))

    assert (same.status_code, same.json()["code"]) == (409, "link-code-taken")
    assert (foreign.status_code, foreign.json()["code"]) == (409, "link-code-taken")


def test_an_external_id_is_one_per_merchant(client: TestClient, shop: Shop, lan: Json) -> None:
    shop.a_link(lan, external_id="l-1")
    other = Shop(client)

    again = shop.post("/v1/links", asked(shop, lan, external_id="l-1"))
    elsewhere = other.post("/v1/links", asked(other, other.an_affiliate(), external_id="l-1"))

    assert (again.status_code, again.json()["code"]) == (409, "external-id-taken")
    assert elsewhere.status_code == 201


def test_what_is_missing_or_somebody_elses_is_not_found(client: TestClient, shop: Shop, lan: Json) -> None:
    other = Shop(client)
    link = shop.a_link(lan)

    answers = [
        shop.post("/v1/links", asked(shop, other.an_affiliate())),
        shop.post("/v1/links", asked(shop, lan, program_id=other.program["id"])),
        other.get(f"/v1/links/{link['id']}"),
        other.get(f"/v1/links/{link['id']}/qr.svg"),
        other.patch(f"/v1/links/{link['id']}", {"paused": True}),
        other.post(f"/v1/links/{link['id']}/owners", {"affiliate_id": other.an_affiliate()["id"]}),
        shop.get(f"/v1/links/{link['id'][:-1]}{'0' if link['id'][-1] != '0' else '1'}"),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert other.get("/v1/links").json()["data"] == []


def test_a_merchants_key_has_to_say_whose_link_it_is(shop: Shop) -> None:
    answer = shop.post("/v1/links", {"program_id": shop.program["id"], "url": "https://shop.example/"})

    assert answer.status_code == 422


def test_an_affiliate_takes_no_id_of_its_merchants(shop: Shop, lan: Json) -> None:
    own = {"program_id": shop.program["id"], "url": "https://shop.example/", "external_id": "summer"}

    refused = shop.post("/v1/links", own, by=lan["id"])
    put = shop.put("/v1/links/by-external-id/summer", asked(shop, shop.an_affiliate("Minh")))

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert put.status_code == 201


def test_an_affiliate_makes_and_lists_its_own_links_and_no_others(shop: Shop, lan: Json) -> None:
    minh = shop.an_affiliate("Minh")
    foreign = shop.a_link(minh)

    made = shop.post("/v1/links", {"program_id": shop.program["id"], "url": "https://shop.example/"}, by=lan["id"])
    for_another = shop.post("/v1/links", asked(shop, minh), by=lan["id"])

    assert made.status_code == 201
    assert made.json()["affiliate_id"] == lan["id"]
    assert for_another.status_code == 404
    assert [link["id"] for link in shop.get("/v1/links", by=lan["id"]).json()["data"]] == [made.json()["id"]]
    assert shop.get("/v1/links", by=lan["id"], affiliate_id=minh["id"]).json()["data"] == []
    assert shop.get(f"/v1/links/{made.json()['id']}/qr.svg", by=lan["id"]).status_code == 200
    assert shop.get(f"/v1/links/{foreign['id']}", by=lan["id"]).status_code == 404
    assert shop.get(f"/v1/links/{foreign['id']}/qr.png", by=lan["id"]).status_code == 404
    assert shop.patch(f"/v1/links/{made.json()['id']}", {"paused": True}, by=lan["id"]).status_code == 403


def test_an_affiliate_makes_no_link_by_which_it_could_not_earn(shop: Shop) -> None:
    stranger = shop.an_affiliate("Hoa", enrolled=False)
    applicant = shop.an_affiliate("Thu", approved=False)

    not_enrolled = shop.post("/v1/links", asked(shop, stranger), by=stranger["id"])
    not_approved = shop.post("/v1/links", asked(shop, applicant), by=applicant["id"])

    assert (not_enrolled.status_code, not_enrolled.json()["code"]) == (409, "not-enrolled")
    assert (not_approved.status_code, not_approved.json()["code"]) == (409, "affiliate-not-approved")


@pytest.mark.parametrize("role", ["ingest", "read", "finance-maker", "finance-checker"])
def test_only_admins_and_affiliates_make_links(shop: Shop, lan: Json, role: str) -> None:
    assert shop.post("/v1/links", asked(shop, lan), by=role).status_code == 403


def test_lists_come_in_pages_newest_first_and_by_programme(shop: Shop, lan: Json) -> None:
    other_program = shop.a_program()
    made = [shop.a_link(lan)["id"] for _ in range(5)]
    elsewhere = shop.a_link(lan, program=other_program)["id"]

    seen, cursor = [], None
    while True:
        page = shop.get("/v1/links", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [link["id"] for link in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == [elsewhere, *reversed(made)]
    assert [row["id"] for row in shop.get("/v1/links", program_id=other_program["id"]).json()["data"]] == [elsewhere]


def test_a_link_can_be_paused_resumed_and_pointed_elsewhere(shop: Shop, lan: Json) -> None:
    path = f"/v1/links/{shop.a_link(lan)['id']}"

    paused = shop.patch(path, {"paused": True}).json()
    twice = shop.patch(path, {"paused": True}).json()
    moved = shop.patch(path, {"url": "https://a.shop.example/new"}).json()
    resumed = shop.patch(path, {"paused": False}).json()

    assert paused["paused_at"] is not None
    assert twice["paused_at"] == paused["paused_at"]
    assert (moved["url"], moved["paused_at"]) == ("https://a.shop.example/new", paused["paused_at"])
    assert resumed["paused_at"] is None


def test_a_link_is_handed_over_from_a_time_on(shop: Shop, lan: Json) -> None:
    minh, link = shop.an_affiliate("Minh"), shop.a_link(lan)

    handed = shop.post(f"/v1/links/{link['id']}/owners", {"affiliate_id": minh["id"]})

    assert handed.status_code == 201
    assert handed.json()["affiliate_id"] == lan["id"]
    assert [owner["affiliate_id"] for owner in handed.json()["owners"]] == [lan["id"], minh["id"]]
    shop.advance(minutes=6)
    assert shop.get(f"/v1/links/{link['id']}").json()["affiliate_id"] == minh["id"]
    assert shop.get("/v1/links", affiliate_id=lan["id"]).json()["data"] == []
    assert [row["id"] for row in shop.get("/v1/links", by=minh["id"]).json()["data"]] == [link["id"]]
    assert shop.get(f"/v1/links/{link['id']}", by=lan["id"]).status_code == 404


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(minutes=4)])
def test_a_link_is_never_handed_over_in_the_past(shop: Shop, lan: Json, ahead: timedelta) -> None:
    minh, link = shop.an_affiliate("Minh"), shop.a_link(lan)
    body = {"affiliate_id": minh["id"], "valid_from": (shop.now() + ahead).isoformat()}

    answer = shop.post(f"/v1/links/{link['id']}/owners", body)

    assert (answer.status_code, answer.json()["code"]) == (409, "back-dated")
    assert shop.get(f"/v1/links/{link['id']}").json()["owners"] == link["owners"]


def test_two_owners_cannot_begin_at_one_instant(shop: Shop, lan: Json) -> None:
    minh, link = shop.an_affiliate("Minh"), shop.a_link(lan)
    body = {"affiliate_id": minh["id"], "valid_from": (shop.now() + timedelta(days=1)).isoformat()}

    first = shop.post(f"/v1/links/{link['id']}/owners", body)
    second = shop.post(f"/v1/links/{link['id']}/owners", body | {"affiliate_id": lan["id"]})

    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "owner-start-taken")


def test_qr_codes_come_as_svg_and_png_in_the_size_asked_for(shop: Shop, lan: Json) -> None:
    link = shop.a_link(lan, code="lan-tiktok")

    svg = shop.get(f"/v1/links/{link['id']}/qr.svg")
    small = shop.get(f"/v1/links/{link['id']}/qr.png", scale=2, border=0)
    large = shop.get(f"/v1/links/{link['id']}/qr.png", scale=20, border=0)

    assert svg.status_code == 200
    assert svg.headers["content-type"] == "image/svg+xml"
    assert b"<svg" in svg.content
    assert small.headers["content-type"] == "image/png"
    assert width(large.content) == 10 * width(small.content)


def width(png: bytes) -> int:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    (pixels,) = struct.unpack(">I", png[16:20])
    return int(pixels)


@pytest.mark.parametrize("query", [{"scale": 0}, {"scale": 41}, {"scale": "x"}, {"border": 11}, {"border": -1}])
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_qr_code_of_absurd_size_is_refused(shop: Shop, lan: Json, kind: str, query: dict[str, Any]) -> None:
    link = shop.a_link(lan)

    assert shop.get(f"/v1/links/{link['id']}/qr.{kind}", **query).status_code == 422


def test_clicks_are_listed_by_link_and_affiliate_newest_first(client: TestClient, shop: Shop, lan: Json) -> None:
    first, second = shop.a_link(lan, sub1="a"), shop.a_link(lan)
    minhs = shop.a_link(shop.an_affiliate("Minh"))
    made = [shop.click(link) for link in (first, second, first, minhs, first)]

    page = shop.get("/v1/clicks", link_id=first["id"], limit=2).json()
    rest = shop.get("/v1/clicks", link_id=first["id"], limit=2, cursor=page["next_cursor"]).json()
    lans = shop.get("/v1/clicks", affiliate_id=lan["id"]).json()

    assert [click["id"] for click in page["data"]] == [made[4], made[2]]
    assert page["has_more"]
    assert [click["id"] for click in rest["data"]] == [made[0]]
    assert not rest["has_more"]
    assert [click["id"] for click in lans["data"]] == [made[4], made[2], made[1], made[0]]
    click = rest["data"][0]
    assert (click["link_id"], click["affiliate_id"], click["sub1"]) == (first["id"], lan["id"], "a")
    assert "ip" not in " ".join(click)
    assert shop.get("/v1/clicks").status_code == 422
    assert Shop(client).get("/v1/clicks", link_id=first["id"]).json()["data"] == []
    assert shop.get("/v1/clicks", by=lan["id"], link_id=first["id"]).status_code == 403
