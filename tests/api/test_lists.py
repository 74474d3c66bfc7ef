"""Lists: where the next page is, filters that narrow, and parameters that nobody knows."""

from datetime import timedelta

import pytest

from tests.support.shop import Json, Shop


def test_the_link_to_the_next_page_leads_through_the_list(shop: Shop) -> None:
    made = [shop.post("/v1/affiliates", {"name": f"{number}"}).json()["id"] for number in range(5)]
    headers, seen, path = shop.key_of("admin"), [], "/v1/affiliates?status=applied&limit=2"

    for _ in range(3):
        answer = shop.client.get(path, headers=headers)
        seen += [each["id"] for each in answer.json()["data"]]
        link = answer.headers.get("link")
        assert (link is None) == (answer.json()["next_cursor"] is None)
        if link is None:
            break
        assert link.endswith('; rel="next"')
        path = link[1 : link.index(">")]
        assert "status=applied" in path

    assert seen == made[::-1]


def test_the_link_to_the_next_page_keeps_an_empty_filter(shop: Shop) -> None:
    for _ in range(2):
        shop.post("/v1/jobs/settle")

    answer = shop.get("/v1/audit", subject="", limit=1)

    assert answer.json()["has_more"]
    assert answer.headers["link"].startswith("</v1/audit?subject=&limit=1&cursor=")


@pytest.mark.parametrize("query", ["stauts=applied", "limit=1&Status=applied", "=", "created_from%5B%5D=1"])
def test_a_misspelt_filter_lists_nothing(shop: Shop, query: str) -> None:
    answer = shop.client.get(f"/v1/affiliates?{query}", headers=shop.key_of("admin"))

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-parameter")
    assert "created_before" in answer.json()["detail"]
    assert "stauts" not in answer.text


@pytest.mark.parametrize("query", ["status=applied&status=approved", "limit=1&limit=1", "cursor=&cursor="])
def test_a_filter_that_is_given_twice_lists_nothing(shop: Shop, query: str) -> None:
    answer = shop.client.get(f"/v1/affiliates?{query}", headers=shop.key_of("admin"))

    assert (answer.status_code, answer.json()["code"]) == (422, "repeated-parameter")


def test_what_was_made_in_a_time_is_found_by_it(shop: Shop) -> None:
    first = shop.a_link(shop.an_affiliate("Lan"))
    shop.an_order("order-1")
    between = shop.advance(days=1)
    shop.a_link(shop.an_affiliate("Minh"))
    shop.an_order("order-2")
    after = shop.advance(days=1) + timedelta(seconds=1)
    moment = between.isoformat()

    for noun in ("affiliates", "links", "orders", "inbox", "events"):
        everything = shop.get(f"/v1/{noun}").json()["data"]
        before = shop.get(f"/v1/{noun}", created_before=moment).json()["data"]
        since = shop.get(f"/v1/{noun}", created_from=moment, created_before=after.isoformat()).json()["data"]

        assert [*since, *before] == everything, noun
        assert before, noun
        assert since, noun
    assert [each["id"] for each in shop.get("/v1/links", created_before=moment).json()["data"]] == [first["id"]]
    assert shop.get("/v1/links", created_before="yesterday").status_code == 422


def test_filters_narrow_lists_to_what_was_asked_for(shop: Shop) -> None:
    lan, minh = shop.an_affiliate("Lan", email="lan@example.com"), shop.an_affiliate("Minh", enrolled=False)
    other = shop.a_program()
    link, coupon = shop.a_link(lan), shop.a_coupon(lan, "LAN")
    shop.a_link(lan, program=other)
    shop.a_coupon(lan, "OTHER", program=other)
    shop.patch(f"/v1/links/{link['id']}", {"paused": True})
    shop.key_of(lan["id"])
    key = shop.post("/v1/api-keys", {"name": "gone", "scopes": ["read"]}).json()["api_key"]
    shop.post(f"/v1/api-keys/{key['id']}/revoke")
    assert shop.source
    shop.an_order("order-1", coupon_codes=["LAN"])
    shop.an_order("order-2")
    program_id = shop.program["id"]
    asked: list[tuple[str, Json, list[str]]] = [
        ("/v1/affiliates", {"email": "lan@example.com"}, [lan["id"]]),
        ("/v1/affiliates", {"program_id": program_id}, [lan["id"]]),
        ("/v1/affiliates", {"status": "applied"}, []),
        ("/v1/links", {"paused": True}, [link["id"]]),
        ("/v1/links", {"code": link["code"]}, [link["id"]]),
        ("/v1/links", {"paused": False, "program_id": program_id}, []),
        ("/v1/coupons", {"program_id": program_id}, [coupon["id"]]),
        ("/v1/api-keys", {"active": False}, [key["id"]]),
        ("/v1/sources", {"platform": "generic", "disabled": False}, [shop.source["source"]["id"]]),
        ("/v1/sources", {"disabled": True}, []),
        ("/v1/payout-runs", {"currency": "USD", "rail": "sandbox", "external_id": "x"}, []),
        ("/v1/payouts", {"currency": "USD"}, []),
        (f"/v1/affiliates/{lan['id']}/payout-methods", {"rail": "stripe_connect"}, []),
        (f"/v1/affiliates/{lan['id']}/enrollments", {"program_id": other["id"]}, []),
        (f"/v1/affiliates/{minh['id']}/enrollments", {"program_id": program_id}, []),
    ]

    for path, query, expected in asked:
        answer = shop.get(path, **query)
        assert answer.status_code == 200, answer.text
        assert [each["id"] for each in answer.json()["data"]] == expected, (path, query)
    assert len(shop.get("/v1/api-keys", affiliate_id=lan["id"]).json()["data"]) == 1
    by_program = shop.get("/v1/orders", program_id=program_id).json()["data"]
    assert [each["external_id"] for each in by_program] == ["order-1"]
