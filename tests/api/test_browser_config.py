"""What a page may ask with a key that everybody can read, and where it may be read."""

import pytest
from starlette.testclient import TestClient

from tests.support.shop import Shop


def a_publishable_key(shop: Shop) -> str:
    key: str = shop.post("/v1/api-keys", {"name": "Shop pages", "scopes": ["publishable"]}).json()["key"]
    return key


@pytest.fixture
def key(shop: Shop) -> str:
    return a_publishable_key(shop)


def test_a_page_learns_what_its_script_needs_and_no_more(shop: Shop, key: str) -> None:
    program = shop.a_program(attribution={"window_days": 45})

    answer = shop.client.get(
        "/v1/browser-config", params={"program_id": program["id"]}, headers={"Authorization": f"Bearer {key}"}
    )

    assert answer.json() == {
        "program_id": program["id"],
        "allowed_domains": ["shop.example", "*.shop.example"],
        "cookie_days": 45,
        "click_parameter": "koc_click",
    }
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://shop.example", 200),
        ("https://www.shop.example", 200),
        ("https://shop.example:8443", 403),
        ("http://shop.example", 403),
        ("https://shop.example.evil.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_only_pages_of_the_allowed_domains_may_read_it(shop: Shop, key: str, origin: str, status: int) -> None:
    answer = shop.client.get(
        "/v1/browser-config",
        params={"program_id": shop.program["id"]},
        headers={"Authorization": f"Bearer {key}", "Origin": origin},
    )

    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


def test_a_browser_may_ask_whether_it_may_send_the_key(client: TestClient) -> None:
    answer = client.options(
        "/v1/browser-config",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        },
    )

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-headers"] == "Authorization"
    assert "access-control-allow-credentials" not in answer.headers


def test_no_other_operation_answers_browsers_of_other_hosts(shop: Shop) -> None:
    answer = shop.client.get("/v1/merchant", headers={**shop.key_of("admin"), "Origin": "https://shop.example"})

    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_publishable_key_says_what_it_is_and_opens_nothing_else(shop: Shop, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}

    assert key.startswith("koc_pub_test_")
    for path in ("/v1/merchant", "/v1/api-keys", "/v1/me", "/v1/links", "/v1/audit", "/v1/merchants"):
        assert shop.client.get(path, headers=headers).json()["code"] == "missing-scope"
    assert shop.client.post("/v1/links", json={}, headers=headers).status_code == 403


def test_a_secret_key_is_not_taken_where_pages_ask(shop: Shop) -> None:
    answer = shop.get("/v1/browser-config", program_id=shop.program["id"])

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


def test_a_key_tells_of_its_own_merchants_programmes_only(client: TestClient) -> None:
    ours, theirs = Shop(client), Shop(client)
    key = a_publishable_key(ours)

    answer = client.get(
        "/v1/browser-config",
        params={"program_id": theirs.program["id"]},
        headers={"Authorization": f"Bearer {key}", "Origin": "https://shop.example"},
    )

    assert answer.status_code == 404


def test_a_publishable_scope_stands_alone(shop: Shop) -> None:
    answer = shop.post("/v1/api-keys", {"name": "Both", "scopes": ["publishable", "read"]})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-key")


def test_a_revoked_publishable_key_is_refused(shop: Shop, key: str) -> None:
    row = next(one for one in shop.get("/v1/api-keys", scope="publishable").json()["data"])
    shop.post(f"/v1/api-keys/{row['id']}/revoke")

    answer = shop.client.get(
        "/v1/browser-config",
        params={"program_id": shop.program["id"]},
        headers={"Authorization": f"Bearer {key}"},
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "revoked-key")
