"""The door: refuses a flood of webhooks as bytes, and leaves everything it does not know to the server's own protocol."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.api.door import CHECK_ORDERS, Door
from service.infra.batcher import QueueFull

SOURCE = "/intake/src_01jd0000000000000000000000"
BODY = b'{"id": "1"}'
PLAIN = [b"Host: shop", b"Content-Type: application/json", b"Content-Length: 11"]


def webhook(
    *, first: bytes = f"POST {SOURCE} HTTP/1.1".encode(), headers: list[bytes] = PLAIN, body: bytes = BODY
) -> bytes:
    return b"\r\n".join([first, *headers, b"", body])


class Wire(asyncio.Transport):
    """What a transport would have sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Caller:
    """One connection to an application that says which bodies it was asked with."""

    def __init__(self, check: Callable[[], None] | None) -> None:
        self.reached: list[bytes] = []
        config = Config(self._answer, http=Door, interface="asgi3", lifespan="off", log_config=None)
        state = {} if check is None else {CHECK_ORDERS: check}
        self.door = Door(config=config, server_state=ServerState(), app_state=state)
        self.wire = Wire()
        self.door.connection_made(self.wire)

    async def _answer(self, _scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.reached.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def say(self, *chunks: bytes) -> bytes:
        before = len(self.wire.sent)
        for chunk in chunks:
            self.door.data_received(chunk)
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.wire.sent[before:]

    def hang_up(self) -> None:
        self.door.connection_lost(None)


def full() -> None:
    raise QueueFull("128 orders wait for their answers already.")


def free() -> None: ...


def said(check: Callable[[], None] | None, *chunks: bytes) -> tuple[bytes, list[bytes]]:
    """(what was answered, the bodies the application saw)."""

    async def talk() -> tuple[bytes, list[bytes]]:
        caller = Caller(check)
        answer = await caller.say(*chunks)
        caller.hang_up()
        return answer, caller.reached

    return asyncio.run(talk())


def test_a_webhook_too_many_is_refused_as_it_lies_there() -> None:
    answer, reached = said(full, webhook())

    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines[1:])
    problem = json.loads(body)
    assert reached == []
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert int(headers[b"content-length"]) == len(body)
    assert int(headers[b"retry-after"]) >= 1
    assert headers[b"content-type"] == b"application/problem+json"
    assert (problem["code"], problem["status"], problem["instance"]) == ("queue-full", 503, SOURCE)
    assert problem["request_id"].encode() == headers[b"x-request-id"]


def test_each_refusal_has_an_id_of_its_own() -> None:
    answer, _ = said(full, webhook(), webhook())

    ids = {line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id: ")}
    assert len(ids) == 2


def test_a_webhook_for_which_there_is_a_place_is_taken() -> None:
    answer, reached = said(free, webhook())

    assert reached == [BODY]
    assert answer.startswith(b"HTTP/1.1 200")


def test_an_application_that_leaves_no_check_is_asked_itself() -> None:
    assert said(None, webhook())[1] == [BODY]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(webhook(first=b"POST /v1/orders HTTP/1.1"), id="another-path"),
        pytest.param(webhook(first=f"POST {SOURCE}?a=1 HTTP/1.1".encode()), id="a-query"),
        pytest.param(webhook(first=f"POST {SOURCE} HTTP/1.0".encode()), id="an-old-version"),
        pytest.param(webhook(headers=[*PLAIN, b"X-Request-Id: mine"]), id="an-id-of-its-own"),
        pytest.param(webhook(headers=[*PLAIN, b"Connection: close"]), id="a-farewell"),
        pytest.param(
            webhook(headers=[b"Transfer-Encoding: chunked"], body=b"b\r\n" + BODY + b"\r\n0\r\n\r\n"), id="chunks"
        ),
    ],
)
def test_what_is_unusual_goes_the_usual_way(request_: bytes) -> None:
    answer, reached = said(full, request_)

    assert reached == [BODY]
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("at", [5, 30, len(webhook()) - 3], ids=["in-the-first-line", "in-the-head", "in-the-body"])
def test_a_webhook_that_comes_in_pieces_goes_the_usual_way(at: int) -> None:
    answer, reached = said(full, webhook()[:at], webhook()[at:])

    assert reached == [BODY]
    assert answer.count(b"HTTP/1.1") == 1


def test_a_body_that_looks_like_a_webhook_is_a_body() -> None:
    """Otherwise one caller's body could be answered to the next behind a proxy that joins their connections."""
    inner = webhook()
    outer = webhook(headers=[b"Host: shop", b"Content-Length: %d" % len(inner)], body=b"")

    answer, reached = said(full, outer, inner)

    assert reached == [inner]
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([*PLAIN, b"Content-Length: 11"], id="two-lengths"),
        pytest.param([b"Host: shop", b"Content-Length: 10"], id="a-length-too-short"),
        pytest.param([b"Host: shop\nContent-Length: 11"], id="a-bare-line-feed"),
        pytest.param([b"Host: shop", b"X: a\r\n b", b"Content-Length: 11"], id="a-folded-line"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_left_to_the_parser(headers: list[bytes]) -> None:
    answer, _ = said(full, webhook(headers=headers))

    assert b" 503 " not in answer


def test_two_requests_at_once_are_answered_in_their_order() -> None:
    answer, reached = said(full, webhook() + webhook())

    assert reached == [BODY, BODY]
    assert b" 503 " not in answer


def test_after_a_refusal_the_connection_serves_again() -> None:
    full_once = iter([True, False])

    def check() -> None:
        if next(full_once):
            full()

    answer, reached = said(check, webhook(), webhook())

    assert reached == [BODY]
    assert answer.index(b" 503 ") < answer.index(b" 200 ")


def test_a_refused_caller_who_says_nothing_more_is_let_go() -> None:
    async def talk() -> bool:
        caller = Caller(full)
        caller.door.timeout_keep_alive = 0
        await caller.say(webhook())
        await asyncio.sleep(0.01)
        caller.hang_up()
        return caller.wire.closed

    assert asyncio.run(talk())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", id="raw letters in the address"),
        pytest.param(b"GET p://\n\r\n", id="an address nobody can read, found by fuzzing"),
        pytest.param(b"CONNECT shop.example:443 HTTP/1.1\r\n\r\n", id="CONNECT, found by fuzzing"),
        pytest.param(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="a chunk without length"),
        pytest.param(b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", id="two lengths"),
    ],
)
def test_bytes_that_are_no_http_are_answered_with_a_problem(data: bytes) -> None:
    answer, _ = said(free, data)

    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert (problem["code"], problem["status"]) == ("malformed-http", 400)


def test_headers_without_end_are_cut_off() -> None:
    answer, reached = said(free, b"GET / HTTP/1.1\r\n", *[b"x-more: " + b"y" * 8000 + b"\r\n"] * 9)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "head-too-large"
    assert reached == []


def test_long_bodies_after_short_headers_are_no_long_headers() -> None:
    body = b"x" * 100_000

    answer, reached = said(free, b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n", body[:60_000], body[60_000:])

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert reached == [body]


def test_nonsense_after_a_request_is_not_taken_for_its_answer() -> None:
    answer, _ = said(free, webhook() + b"nonsense\r\n\r\n")

    assert b" 400 " not in answer
