"""What the API accepts as a body and an address, whatever the operation: one place, met before any of them.

Plain ASGI around the whole application, so that a new endpoint cannot forget it. What the types of an endpoint say is
checked after this.
"""

import re
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.domain.errors import Invalid, ServiceError, TooLarge
from service.domain.text import hides_something
from service.infra import strict_json

API = "/v1/"
"""Below this all bodies and addresses are ours to define; elsewhere strangers add to them (`/r/…?utm_source=…`)."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
_JSON = re.compile(r"application/(?:json|[^/]*\+json)")
"""No narrower than the framework reads it: what it takes for JSON and we do not would pass by us."""
_CHARSET = re.compile(r"""charset *= *"?utf-?8"?""")


class UnreadableAddress(Invalid):
    """The path or query is no text in UTF-8, or holds a character nobody sees."""

    code = "unreadable-address"
    title = "The address holds what is no plain text"


class Strict:
    """Lets a request through whose address is plain text and whose JSON body is strict; answers all others itself."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        try:
            _check_address(scope)
            if scope["method"] not in _BODILESS and _says_json(scope):
                body = await self._body(receive)
                if body is None:
                    return
                if body:
                    _check_json(body)
                receive = told_again(body, receive)
        except strict_json.OddTexts as error:
            parts = [
                {"pointer": f"#{pointer}", "code": "hidden-character", "detail": f"Here {error}"}
                for pointer in error.pointers
            ]
            await problems.invalid_response(scope, parts)(scope, receive, send)
        except ServiceError as error:
            await problems.problem_response(scope, error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None where the client left before its end. Raises TooLarge."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._body_bytes_max:
                raise TooLarge(f"A body may have at most {self._body_bytes_max} bytes.")
            if not message.get("more_body", False):
                return b"".join(parts)


def _check_address(scope: Scope) -> None:
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    # Nearly every address is plain ASCII without escapes, and that the parser of HTTP has checked.
    if b"%" in path or not path.isascii():
        _check_text(path, "path")
    if b"%" in scope["query_string"]:
        _check_text(scope["query_string"], "query")


def _check_text(escaped: bytes, where: str) -> None:
    try:
        text = unquote_to_bytes(escaped).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableAddress(f"The {where}, once its escapes are read, is not UTF-8.") from None
    if hides_something(text):
        raise UnreadableAddress(f"The {where} holds a control character or a mark of direction.")


def _says_json(scope: Scope) -> bool:
    """Whether the body is declared to be JSON. Raises UnsupportedMediaType for what could be read in two ways."""
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if not types:
        return False
    # As text, for the framework takes off blanks beyond ASCII too.
    kind, *parameters = types[0].decode("latin-1").lower().split(";")
    if _JSON.fullmatch(kind.strip()) is None:
        return False
    if len(types) > 1:
        raise problems.UnsupportedMediaType("Name the content type once.")
    if any(each.strip() and _CHARSET.fullmatch(each.strip()) is None for each in parameters):
        raise problems.UnsupportedMediaType("JSON is read in UTF-8 only: send `application/json`.")
    encodings = [value for name, value in scope["headers"] if name == b"content-encoding"]
    if any(value.strip().lower() not in {b"", b"identity"} for value in encodings):
        raise problems.UnsupportedMediaType("Bodies are read as they are: send no Content-Encoding.")
    return True


def _check_json(body: bytes) -> None:
    try:
        strict_json.load(body)
    except strict_json.OddTexts:
        raise
    except strict_json.NotStrict as error:
        raise problems.MalformedJson(f"The body is not strict JSON: {error}.") from None


def told_again(body: bytes, receive: Receive) -> Receive:
    """A channel that tells the body once more, and then what the old one has to tell."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
