"""The fuzzing proof notices what it is there to notice: shown on a tiny service that misbehaves in known ways."""

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench import fuzz_mutate, fuzz_wire
from bench.fuzz_contract import Contract
from bench.fuzz_wire import Request

PROBLEM = {"code": "broken", "status": 400}
DOCUMENT: dict[str, Any] = {
    "paths": {
        f"/{name}": {
            "get": {
                "operationId": name,
                "security": [],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "4XX": {"$ref": "#/components/responses/Refused"},
                    "503": {"$ref": "#/components/responses/Refused"},
                },
            }
        }
        for name in (
            "good",
            "crash",
            "teapot",
            "type",
            "shape",
            "busy",
            "waiting",
            "code",
            "lying",
            "nameless",
            "{id}/x",
        )
    },
    "components": {
        "schemas": {
            "Thing": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
            "Problem": {"type": "object", "required": ["code", "status"]},
        },
        "responses": {
            "Refused": {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        },
    },
}
KINDS = {"broken": 400, "unavailable": 503, "unknown-path": 404}
JSON, TOLD = "application/json", "application/problem+json"

ANSWERS: dict[str, tuple[int, dict[str, str], str]] = {
    "/good": (200, {"content-type": JSON}, '{"id": 1}'),
    "/crash": (500, {"content-type": TOLD}, '{"code": "broken", "status": 500}'),
    "/teapot": (302, {}, ""),
    "/type": (200, {"content-type": "text/html"}, "<p>"),
    "/shape": (200, {"content-type": JSON}, '{"id": "1"}'),
    "/busy": (503, {"content-type": TOLD}, '{"code": "unavailable", "status": 503}'),
    "/waiting": (503, {"content-type": TOLD, "retry-after": "1"}, '{"code": "unavailable", "status": 503}'),
    "/code": (400, {"content-type": TOLD}, '{"code": "unheard-of", "status": 400}'),
    "/lying": (404, {"content-type": TOLD}, '{"code": "broken", "status": 400}'),
    "/7/x": (400, {"content-type": TOLD}, json.dumps(PROBLEM)),
    "/none": (404, {"content-type": TOLD}, '{"code": "unknown-path", "status": 404}'),
    "/hidden": (200, {"content-type": JSON}, "{}"),
}


class Misbehaving(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/silent":
            released.wait()
            return
        status, headers, body = ANSWERS.get(self.path, ANSWERS["/none"])
        self.send_response(status)
        for name, value in ({"x-request-id": "r"} | headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the library's name


released = threading.Event()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    released.set()
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/good", None),
        ("/waiting", None),
        ("/7/x", None),
        ("/none", None),
        ("/crash", "answered 500"),
        ("/teapot", "undescribed status 302"),
        ("/type", "undescribed media type text/html of status 200"),
        ("/shape", "a body unlike its schema at /id"),
        ("/busy", "answered 503 without Retry-After"),
        ("/code", "problem with the unknown code unheard-of"),
        ("/lying", "problem broken with status 404"),
        ("/hidden", "undescribed path: 200"),
    ],
)
def test_an_answer_outside_the_description_is_noticed(port: int, path: str, complaint: str | None) -> None:
    outcome = fuzz_wire.exchange("127.0.0.1", port, Request("GET", path, ()).wire())

    [answer] = outcome.answers
    said = Contract(DOCUMENT, KINDS).complaint("GET", path, answer)
    assert said == complaint if complaint is None or said is None else said.startswith(complaint)


def test_a_connection_that_hangs_is_noticed(port: int) -> None:
    outcome = fuzz_wire.exchange("127.0.0.1", port, Request("GET", "/silent", ()).wire(), patience_s=0.1)

    assert outcome.silent


def test_requests_at_once_are_answered_one_by_one(port: int) -> None:
    data = Request("GET", "/good", ()).wire() + Request("GET", "/crash", ()).wire()

    outcome = fuzz_wire.exchange("127.0.0.1", port, data)

    assert [answer.status for answer in outcome.answers] == [200, 500]
    assert not outcome.lost


@pytest.mark.parametrize(
    ("data", "expected", "malformed"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 1, False),
        (b"GET / HTTP/1.1\r\n", 0, False),
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1, False),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab", 0, False),
        (b"GET / HTTP/1.1\r\n\r\n\x00", 1, True),
    ],
)
def test_what_must_be_answered_is_known_from_the_bytes(data: bytes, expected: int, malformed: bool) -> None:
    told = fuzz_wire.told(data)

    assert (told.expected, told.malformed) == (expected, malformed)


def test_a_failure_is_told_as_small_as_it_can_be() -> None:
    request = Request(
        "POST", "/a?x=1&bad=2&y=3", (("x-bad", "1"), ("x-good", "2"), ("authorization", "Bearer secret")), b"aaaaXbbbb"
    )

    small = fuzz_wire.smallest_request(
        request, lambda one: "bad=2" in one.target and b"X" in one.body and ("x-bad", "1") in one.headers
    )

    assert small == Request("POST", "/a?bad=2", (("x-bad", "1"),), b"X")
    assert "secret" not in request.curl("http://h")
    assert small.curl("http://h") == "curl -X POST -H 'x-bad: 1' --data-binary X 'http://h/a?bad=2'"


def test_mutations_come_again_from_their_seed_and_leave_the_original_alone() -> None:
    value = {"name": "Lan", "lines": [{"net": 1, "sku": "A"}]}
    request = Request("POST", "/v1/a", (("content-type", JSON),), json.dumps(value).encode())

    def drawn() -> list[object]:
        draw = random.Random(7)
        made: list[object] = [fuzz_mutate.mutated_json(value, draw) for _ in range(200)]
        made += [fuzz_mutate.mutated_request(request, draw).wire() for _ in range(200)]
        return [*made, *(fuzz_mutate.mutated_wire(request, request, draw) for _ in range(200))]

    assert drawn() == drawn()
    assert value == {"name": "Lan", "lines": [{"net": 1, "sku": "A"}]}
