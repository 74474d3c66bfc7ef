"""GET /t.js: what a shop's page gets. What it does there is tested in a browser: `make browser`."""

from starlette.testclient import TestClient

from tests.support.squeezed import SERVED, SOURCE, squeezed

BYTES_MAX = 2000


def test_it_is_its_readable_source_made_small() -> None:
    made = squeezed(SOURCE.read_text(encoding="utf-8"))

    assert SERVED.read_text(encoding="utf-8") == made, "write it anew: python -m tests.support.squeezed"


def test_pages_of_any_shop_may_load_it(client: TestClient) -> None:
    answer = client.get("/t.js", headers={"origin": "https://shop.example", "accept-encoding": "identity"})

    assert answer.content == SERVED.read_bytes()
    assert len(answer.content) < BYTES_MAX
    assert answer.content.isascii()
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["cache-control"].startswith("public, max-age=3600")
    assert "set-cookie" not in answer.headers


def test_who_has_it_already_gets_no_second_copy(client: TestClient) -> None:
    first = client.get("/t.js")

    for known in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}', "*"):
        again = client.get("/t.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/t.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_it_speaks_to_no_other_place() -> None:
    script = SERVED.read_text(encoding="utf-8")

    assert script.count("//") == 1, "the one address in it is what payment links are told by"
    assert '"//buy.stripe.com/"' in script
    assert script.count("fetch(") == 2
    for other in ("XMLHttpRequest", "sendBeacon", "Image(", "WebSocket", "import(", "localStorage", "sessionStorage"):
        assert other not in script
