"""What the API refuses before any operation sees it: JSON that can be read in two ways, texts nobody can see, odd addresses."""

import json
from collections.abc import Iterator

import pytest
from starlette.types import Message

from service.domain.text import hides_something, made_visible
from tests.support.shop import Shop

CANARY = "c4n4ry"
BODY = {"name": "Lan", "profile": {"note": "two\nlines\tand \N{GRINNING FACE} Nguyễn \N{ARABIC LETTER ALEF}"}}


def post(shop: Shop, body: bytes, **headers: str) -> tuple[int, str, list[str]]:
    """(status, code, pointers) of an answer to a body; nothing of it may be repeated."""
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = shop.client.post("/v1/affiliates", content=body, headers={**shop.key_of("admin"), **sent})
    assert CANARY not in answer.text
    told = answer.json()
    return answer.status_code, told.get("code", ""), [part["pointer"] for part in told.get("errors", [])]


def test_what_people_write_is_taken_as_it_is(shop: Shop) -> None:
    answer = shop.post("/v1/affiliates", BODY)

    assert answer.status_code == 201
    assert answer.json()["profile"] == BODY["profile"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"name": NaN}', id="NaN"),
        pytest.param(b'{"name": -Infinity}', id="infinity"),
        pytest.param(b'{"name": 1e400}', id="beyond a double"),
        pytest.param(b'{"name": 1_0}', id="an underscore"),
        pytest.param(b'{"name": ' + b"9" * 101 + b"}", id="a huge integer"),
        pytest.param(b'{"name": "c4n4ry", "name": "b"}', id="a key twice"),
        pytest.param(b'{"profile": {"c4n4ry": "a", "c4n4ry": "b"}, "name": "x"}', id="a key twice further in"),
        pytest.param(b'{"name": ' + b"[" * 40 + b"]" * 40 + b"}", id="40 levels"),
        pytest.param(b"[" * 100_000, id="100,000 levels"),
        pytest.param(b'\xef\xbb\xbf{"name": "Lan"}', id="a byte-order mark"),
        pytest.param('{"name": "Lan"}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"name": "Lan"}'.encode("utf-32-le"), id="UTF-32 without a mark"),
        pytest.param(b'{"name": "c4n4ry\xff"}', id="broken UTF-8"),
        pytest.param(b'{"name": "\xed\xa0\x80"}', id="half a surrogate pair in bytes"),
        pytest.param(b'{"name": "c4n4ry\x01"}', id="a raw control character"),
        pytest.param(b'{"name": "Lan"} x', id="something after the end"),
    ],
)
def test_json_that_could_be_read_in_two_ways_is_malformed(shop: Shop, body: bytes) -> None:
    assert post(shop, body) == (400, "malformed-json", [])


@pytest.mark.parametrize("kind", ["application/vnd.shop+json", "application/x_y+json", "application/ a!b+json"])
@pytest.mark.parametrize(
    "body", [b'{"name": "a", "name": "b"}', '{"name": "Lan"}'.encode("utf-16")], ids=["twice", "UTF-16"]
)
def test_json_under_another_name_is_read_as_strictly(shop: Shop, kind: str, body: bytes) -> None:
    assert post(shop, body, content_type=kind) == (400, "malformed-json", [])


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"name": "c4n4ry\\u0000"}', ["#/name"]),
        (b'{"name": "\\ud83d"}', ["#/name"]),
        (b'{"name": "a\\u202eb"}', ["#/name"]),
        ('{"name": "a\u2066b"}'.encode(), ["#/name"]),
        (b'{"name": "a\\b"}', ["#/name"]),
        (b'{"name": "a\x7f"}', ["#/name"]),
        (b'{"name": "Lan", "profile": {"a/b~": "\\u200f"}}', ["#/profile/a~1b~0"]),
        (b'{"name": "Lan", "profile": {"c4n4ry\\u0000": "x"}}', ["#/profile"]),
        (b'{"name": "two\\nlines"}', ["#/name"]),
    ],
)
def test_a_text_that_hides_something_is_pointed_at(shop: Shop, body: bytes, pointers: list[str]) -> None:
    assert post(shop, body) == (422, "invalid-request", pointers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json; charset=utf-8"}, 201),
        ({"content_type": 'Application/JSON; Charset="UTF-8"'}, 201),
        ({"content_type": "application/json; charset=utf-16"}, 415),
        ({"content_type": "application/json; charset=latin1"}, 415),
        ({"content_type": "application/json; version=2"}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": ""}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_encoding": "identity"}, 201),
    ],
    ids=str,
)
def test_a_body_is_json_in_utf_8_and_says_so(shop: Shop, headers: dict[str, str], status: int) -> None:
    answered, code, _ = post(shop, json.dumps(BODY).encode(), **headers)

    assert answered == status
    assert code == ("" if status == 201 else "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["", "application/json", "application/x-www-form-urlencoded"])
def test_no_body_is_an_object_without_fields(shop: Shop, content_type: str) -> None:
    headers = shop.key_of("admin") | ({"content-type": content_type} if content_type else {})
    path = f"/v1/affiliates/{shop.post('/v1/affiliates', BODY).json()['id']}"

    approved = shop.client.post(f"{path}/approve", headers=headers | {"idempotency-key": "k-1"})
    refused = shop.client.post(f"{path}/suspend", headers=headers)

    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    assert (refused.status_code, [part["pointer"] for part in refused.json()["errors"]]) == (422, ["#/reason_code"])
    assert shop.client.patch(path, headers=headers).json()["name"] == BODY["name"]


def test_a_body_that_is_no_object_is_refused_as_such(shop: Shop) -> None:
    answer = shop.client.post("/v1/affiliates", json=[BODY], headers=shop.key_of("admin"))

    assert [(part["pointer"], part["detail"]) for part in answer.json()["errors"]] == [("#", "Must be a JSON object")]


@pytest.mark.parametrize("name", ["amount_minor", "window_days"])
@pytest.mark.parametrize("value", ["100", "1_0", True, 1.0, 10**40, None, [1]], ids=str)
def test_a_whole_number_is_nothing_else(shop: Shop, name: str, value: object) -> None:
    cap = {"currency": "USD", "amount_minor": 1} | ({"amount_minor": value} if name == "amount_minor" else {})
    window = {"window_days": value} if name == "window_days" else {}
    terms = {"rules": [{"kind": "percent", "rate": "1"}], "cap_per_order": [cap], "attribution": window}

    answer = shop.post("/v1/programs", {"name": "A", "terms": terms, "allowed_domains": ["shop.example"]})

    assert answer.status_code == 422
    assert name in str([part["pointer"] for part in answer.json()["errors"]])


@pytest.mark.parametrize(
    "address",
    [
        "/v1/affiliates?limit=1_0",
        "/v1/affiliates?limit=%2B1",
        "/v1/affiliates?limit=1.0",
        "/v1/affiliates?limit=%201",
        "/v1/orders?waiting=yes",
        "/v1/orders?waiting=1",
        "/v1/orders?placed_from=1969-12-31T23:59:59Z",
        "/v1/orders?placed_before=2201-01-01T00:00:00Z",
        "/v1/orders?placed_before=٢٠٢٦-01-01T00:00:00Z",
        "/v1/orders?external_id=%00",
        "/v1/orders?external_id=%ed%a0%80",
        "/v1/orders?external_id=%e2%80%ae",
        "/v1/orders/by-external-id/%00",
        "/v1/orders/by-external-id/%ff",
        "/v1/orders/by-external-id/" + "x" * 5000,
        "/v1/ledger/postings?day_from=0",
        "/v1/ledger/postings?day_from=20261122",
        "/v1/ledger/postings?day_to=9999-12-31",
        "/v1/reports/commissions.csv?from=1700000000",
        "/v1/coupons?code=%00",
        "/v1/affiliates/aff_" + "z" * 26,
    ],
)
def test_an_address_is_read_in_one_way_only(shop: Shop, address: str) -> None:
    answer = shop.client.get(address, headers=shop.key_of("admin"))

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_letters_beyond_ascii_may_stand_in_addresses(shop: Shop) -> None:
    shop.post("/v1/affiliates", {"name": "Nguyễn", "external_id": "nguyễn"})

    assert shop.get("/v1/affiliates/by-external-id/nguy%E1%BB%85n").json()["name"] == "Nguyễn"


@pytest.mark.parametrize("day", [0, "0", 20261122, "2026-11-22T00:00:00", "1969-12-31", "2201-01-01", True])
def test_a_day_is_no_number_of_seconds(shop: Shop, day: object) -> None:
    answer = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD", "pay_on": day})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/pay_on")


def test_a_long_body_in_pieces_is_refused_at_the_limit(shop: Shop) -> None:
    pieces = (b'{"name": "' if number == 0 else b"x" * 100_000 for number in range(30))

    answer = shop.client.post(
        "/v1/affiliates", content=pieces, headers={**shop.key_of("admin"), "content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("text", "hides", "visible"),
    [
        ("plain", False, "plain"),
        ("Nguyễn Thị 蘭 \N{GRINNING FACE}", False, "Nguyễn Thị 蘭 \N{GRINNING FACE}"),
        ("no\N{NO-BREAK SPACE}break", False, "no\N{NO-BREAK SPACE}break"),
        ("\N{ZERO WIDTH JOINER}", False, "\N{ZERO WIDTH JOINER}"),
        ("a\x00b", True, "ab"),
        ("a\u202eb", True, "ab"),
        ("a\ud83d", True, "a\N{REPLACEMENT CHARACTER}"),
        ("a\nb", True, "ab"),
    ],
)
def test_what_nobody_sees_is_noticed_and_left_out(text: str, hides: bool, visible: str) -> None:
    assert hides_something(text) is hides
    assert made_visible(text) == visible
    assert not hides_something(made_visible(text))


@pytest.mark.parametrize("content_type", [b"application/json", b"application/x-ndjson", b"text/plain"])
@pytest.mark.parametrize("path", ["/v1/affiliates", "/v1/orders", "/intake/{source}"])
def test_a_client_that_leaves_before_its_body_ends_is_no_error(
    shop: Shop, caplog: pytest.LogCaptureFixture, path: str, content_type: bytes
) -> None:
    heard: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"[", "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[Message] = []
    path = path.format(source=shop.source["source"]["id"])

    async def hang_up() -> None:
        async def receive() -> Message:
            return next(heard)

        async def send(message: Message) -> None:
            sent.append(message)

        key = shop.key_of("admin")["Authorization"].encode()
        headers = [(b"content-type", content_type), (b"authorization", key), (b"idempotency-key", b"k-1")]
        await shop.client.app(
            {
                "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                "headers": headers, "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 8000),
            },
            receive,
            send,
        )  # fmt: skip

    assert shop.client.portal is not None
    shop.client.portal.call(hang_up)

    assert {message["status"] for message in sent if message["type"] == "http.response.start"} <= {499}
    assert caplog.records == []
