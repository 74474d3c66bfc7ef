"""Good requests made bad: in their JSON, in their headers, in their bytes. All by chance, from one seed."""

import copy
import json
import random
from dataclasses import replace
from typing import Any

from bench.fuzz_wire import Request

RAW = (
    "NaN",
    "-Infinity",
    "1e400",
    "1_0",
    "0x10",
    "01",
    "1.0",
    "-0",
    "9" * 40,
    "9" * 400,
    "-9223372036854775809",
    "1E+2",
    '"\\ud800"',
    '"\\u0000"',
    '"\\u202e"',
    '"a\\nb"',
    '{"a":1,"a":2}',
    "[" * 40 + "]" * 40,
    "[" * 20_000,
    "{",
    "",
    "'a'",
    "tru",
)
"""What is put in the place of a value as it is; much of it is no JSON."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**53,
    2**63,
    10**15 + 1,
    1.5,
    "",
    " ",
    "1_0",
    "100",
    "true",
    "=1+1",
    "x" * 300,
    "x" * 5000,
    "\u202eabc",
    "\ufeffa",
    "\ud83d",
    "a\x00b",
    "a\tb",
    "\U0001f600",
    "1969-12-31T23:59:59Z",
    "2200-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+14:00",
    "2026-02-30T00:00:00Z",
    "2026-11-22",
    "٢٠٢٦-١١-٢٢",
    "javascript:alert(1)",
    "https://user@shop.example/",
    "https://shop.example\\@evil.example/",
    "//evil.example",
    "https://shop.example/\r\nx: y",
    "XTS",
    "VND",
    "KWD",
    "aff_7zzzzzzzzzzzzzzzzzzzzzzzzz",
    "aff_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    [],
    {},
    [[]],
    {"kind": "percent"},
)

TYPES = (
    "application/json; charset=utf-16",
    "application/json; charset=utf-8",
    "application/json;;;",
    "application/problem+json",
    "text/plain",
    "text/csv",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "*/*",
    "é",
    "",
)
QUERY = (
    "%00",
    "%ed%a0%80",
    "%ff",
    "1_0",
    "+1",
    "1e3",
    "%e2%80%ae",
    "-1",
    "9" * 30,
    "",
    "a" * 5000,
    "%",
    "null",
    "[]",
    "yes",
)
HEADERS = (
    ("x-request-id", "a b"),
    ("x-request-id", "ok-1"),
    ("content-encoding", "gzip"),
    ("expect", "100-continue"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"),
    ("content-length", "0"),
    ("content-length", "1"),
    ("content-length", "99999999999"),
    ("content-length", "-1"),
    ("content-length", "1_0"),
    ("connection", "close"),
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("host", ""),
    ("host", "a, b"),
    ("accept", "text/html;q=é"),
    ("cookie", "a=" + "b" * 9000),
    ("range", "bytes=0-0,5-"),
    ("x-forwarded-for", "1.2.3.4\t"),
    ("idempotency-key", "x" * 300),
    ("idempotency-key", "k1"),
    ("if-match", '"1"'),
    ("if-match", "*"),
    ("if-none-match", "W/é"),
    ("authorization", "Bearer"),
    ("authorization", "Basic YTpi"),
    ("authorization", "Bearer é"),
    ("referer", "https://a.example/\x7f"),
    ("user-agent", ""),
    ("cf-ipcountry", "\x85\x85"),
)
_MARK = "\u2603raw"


def mutated_json(value: Any, draw: random.Random) -> bytes:
    """Return a value as JSON with up to four places changed; sometimes it is none then."""
    whole = copy.deepcopy(value)
    raw: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 3, 4))):
        whole = _changed(whole, draw, raw)
    text = json.dumps(whole)
    for token in raw:
        text = text.replace(json.dumps(_MARK), token, 1)
    # Texts beyond ASCII as they are, now and then; half a surrogate pair can only be written as an escape.
    if draw.random() < 0.2:
        text = text.replace("\\u202e", "\u202e").replace("\\ufeff", "\ufeff")
    return text.encode()


def _changed(whole: Any, draw: random.Random, raw: list[str]) -> Any:
    places = [*_places(whole)]
    if not places or draw.random() < 0.03:
        return _odd(draw, raw)
    holder, key = draw.choice(places)
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draw.choice(("surplus", "__proto__", "", "a\u0000", "id", "x" * 300))] = holder[key]
        case 1:
            holder.extend([holder[key]] * draw.choice((1, 2, 60)))
        case 2 if isinstance(holder[key], str) and holder[key]:
            text = holder[key]
            at = draw.randrange(len(text))
            holder[key] = (
                text[:at] + draw.choice(("\x00", "\u202e", "\ud800", "\n", "é", "", "'", '"', "%00")) + text[at:]
            )
        case 3 if isinstance(holder[key], int):
            holder[key] = draw.choice(
                (-holder[key], holder[key] * 10**6, str(holder[key]), float(holder[key] % 10**9), 2**63)
            )
        case _:
            holder[key] = _odd(draw, raw)
    return whole


def _odd(draw: random.Random, raw: list[str]) -> Any:
    if draw.random() < 0.3:
        raw.append(draw.choice(RAW))
        return _MARK
    return copy.deepcopy(draw.choice(VALUES))


def _places(value: Any) -> Any:
    """Yield (holder, key) of every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner):
        yield value, key
        yield from _places(one)


def mutated_request(request: Request, draw: random.Random) -> Request:
    """Return a request with its body, query, path or headers changed."""
    for _ in range(draw.choice((1, 1, 2))):
        match draw.randrange(10):
            case 0 | 1 | 2 | 3 | 4 if request.body:
                request = replace(request, body=_mutated_body(request.body, draw))
            case 5 if request.body:
                others = tuple(header for header in request.headers if header[0].lower() != "content-type")
                request = replace(request, headers=(*others, ("content-type", draw.choice(TYPES))))
            case 6:
                joint = "&" if "?" in request.target else "?"
                name = draw.choice(("limit", "cursor", "from", "days", "waiting", "status", "code", "a", "limit"))
                request = replace(request, target=f"{request.target}{joint}{name}={draw.choice(QUERY)}")
            case 7:
                steps = request.target.partition("?")[0].split("/")
                steps[draw.randrange(1, len(steps))] = draw.choice((*QUERY, "..", ".", "%2f", "é", "aff_1"))
                request = replace(request, target="/".join(steps))
            case 8:
                method = draw.choice(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"))
                request = replace(request, method=method)
            case _:
                request = replace(request, headers=(*request.headers, draw.choice(HEADERS)))
    return request


def _mutated_body(body: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.8:
        try:
            return mutated_json(json.loads(body), draw)
        except (ValueError, RecursionError):
            pass
    return mutated_bytes(body, draw)


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with some changed, cut off, doubled, or in another encoding."""
    match draw.randrange(7):
        case 0:
            return data[: draw.randrange(len(data) + 1)]
        case 1:
            return b"\xef\xbb\xbf" + data
        case 2:
            return data.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-32", "utf-16-le")))
        case 3:
            return data + data
        case 4 if data:
            at = draw.randrange(len(data))
            return data[:at] + draw.choice((b"\xff", b"\x00", b"\xc0\x80", b"\xed\xa0\x80", b"\r\n", b"}")) + data[at:]
        case 5 if draw.random() < 0.02:
            return b'{"a":"' + b"x" * 2_200_000 + b'"}'
        case _:
            changed = bytearray(data)
            for _ in range(draw.choice((1, 2, 8))):
                if changed:
                    changed[draw.randrange(len(changed))] = draw.randrange(256)
            return bytes(changed)


def mutated_wire(request: Request, other: Request, draw: random.Random) -> bytes:
    """Return bytes that are hardly a request any more: HTTP broken, cut short, chunked, or two requests at once."""
    data = request.wire()
    head, _, body = data.partition(b"\r\n\r\n")
    match draw.randrange(12):
        case 0:
            return data[: draw.randrange(len(data))]
        case 1:
            return data + other.wire()
        case 2:
            return data + other.wire()[: draw.randrange(40)] + draw.choice((b"", b"\x00\r\n\r\n"))
        case 3:
            return b"\r\n".join(_without_length(head)) + b"\r\ntransfer-encoding: chunked\r\n\r\n" + _chunks(body, draw)
        case 4:
            return head.replace(
                b"HTTP/1.1", draw.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"HTTP", b"", b"http/1.1"))
            ) + (b"\r\n\r\n" + body)
        case 5:
            return data.replace(b"\r\n", b"\n", draw.choice((1, 2, -1)))
        case 6:
            lines = head.split(b"\r\n")
            lines.insert(draw.randrange(1, len(lines) + 1), draw.choice(_LINES))
            return b"\r\n".join(lines) + b"\r\n\r\n" + body
        case 7:
            first, _, rest = data.partition(b"\r\n")
            return draw.choice(_FIRST) + b"\r\n" + rest if rest else first
        case 8 if draw.random() < 0.1:
            return head + b"\r\nx-long: " + b"y" * draw.choice((60_000, 70_000, 300_000)) + b"\r\n\r\n" + body
        case 9:
            return bytes(draw.randrange(256) for _ in range(draw.choice((1, 16, 400))))
        case _:
            return mutated_bytes(data, draw)


_LINES = (
    b"content-length: 5",
    b"content-length: 5, 6",
    b"transfer-encoding: chunked",
    b"transfer-encoding: identity",
    b" folded",
    b": nameless",
    b"bad name: x",
    b"x\x00y: z",
    b"x: a\x00b",
    b"x: a\rb",
    b"host: other.example",
    b"connection: keep-alive, close",
    b"\xff\xfe: \xff",
    b"expect: 200-ok",
    b"upgrade: h2c",
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13",
)
_FIRST = (
    b"GET /v1/affiliates?limit=1 HTTP/1.1",
    b"GET http://other.example/v1/merchant HTTP/1.1",
    b"GET //v1/merchant HTTP/1.1",
    b"GET /v1/../v1/merchant HTTP/1.1",
    b"GET /v1/merchant#x HTTP/1.1",
    b"GET * HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT shop.example:443 HTTP/1.1",
    b"GET v1 HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /%zz HTTP/1.1",
    b"GET /v1/merchant?\xff HTTP/1.1",
    b"GET  /v1/merchant  HTTP/1.1",
    b"get /v1/merchant HTTP/1.1",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1",
    b"GET http:// HTTP/1.1",
    b"GET http://[::1 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


def _without_length(head: bytes) -> list[bytes]:
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]


def _chunks(body: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return draw.choice(
            (
                b"zz\r\n",
                b"-1\r\n\r\n",
                b"ffffffffffffffffff\r\n",
                b"5\r\nab",
                b"0\r\nx: y\r\n\r\n",
                b"5;ext=\x00\r\nabcde\r\n0\r\n\r\n",
            )
        )
    size = draw.choice((1, 7, 4096))
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
