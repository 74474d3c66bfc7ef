"""ETag, If-Match and If-None-Match: changes that do not overwrite what their maker has not seen.

A tag is made of what the answer says, not of a counter: it changes whenever the answer does, whoever changed it.
"""

import hashlib
import json
import re
from typing import Annotated, Any

from fastapi import Depends, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.domain.errors import Invalid, PreconditionFailed

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_LIST = re.compile(rf"\s*{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*\s*")


class MalformedPrecondition(Invalid):
    """If-Match and If-None-Match take `*`, or tags as ETag gives them, with their quotes."""

    code = "malformed-precondition"
    title = "The condition cannot be read"


class Precondition:
    """What a caller expects of the thing it changes."""

    def __init__(self, if_match: str | None, if_none_match: str | None) -> None:
        self._wanted = None if if_match is None else _tags(if_match)
        self._unwanted = None if if_none_match is None else _tags(if_none_match)

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to check: without it, nobody need look."""
        return self._wanted is not None or self._unwanted is not None

    def check(self, present: BaseModel | None) -> None:
        """Raise PreconditionFailed unless the thing is as expected.

        present: its view, read under the lock that the change holds too; None where it does not exist yet.
        """
        if not self.is_asked:
            return
        tag = None if present is None else tag_of(present.model_dump(mode="json"))
        # `*` is any that exists. A weak tag never fits If-Match, and fits If-None-Match as a strong one does (RFC 9110, 13.1).
        if self._wanted is not None and (tag is None or not ("*" in self._wanted or tag in self._wanted)):
            raise PreconditionFailed("The ETag of now is another; read it again.")
        if self._unwanted is not None and tag is not None and not self._unwanted.isdisjoint({"*", tag, f"W/{tag}"}):
            raise PreconditionFailed("It is there already.")


async def _precondition(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(
            max_length=2000, description="Change it only if its ETag is this; `*`: only if it exists. Otherwise 412."
        ),
    ] = None,
    if_none_match: Annotated[
        str | None, Header(max_length=2000, description="`*`: only if it does not exist yet. Otherwise 412.")
    ] = None,
) -> Precondition:
    # Of a header that stands on several lines the framework hands over one; together they are one list.
    given = request.headers.getlist
    return Precondition(
        None if if_match is None else ", ".join(given("If-Match")),
        None if if_none_match is None else ", ".join(given("If-None-Match")),
    )


IfMatch = Annotated[Precondition, Depends(_precondition)]
"""Parameter of every PUT and PATCH, which calls its `check` on the row it has locked."""


def tag_of(view: Any) -> str:
    """Return the strong tag of a view as JSON. The order of fields does not count: the database keeps none in documents."""
    text = json.dumps(view, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def tagged(request: Request, response: Response) -> Response:
    """Return the response with its ETag, or 304 where the caller has it already."""
    if response.status_code not in {200, 201}:
        return response
    tag = tag_of(json.loads(bytes(response.body)))
    response.headers["ETag"] = tag
    known = request.headers.get("If-None-Match") if request.method == "GET" else None
    if known is not None and not _tags(known).isdisjoint({"*", tag, f"W/{tag}"}):
        return Response(status_code=304, headers={"ETag": tag})
    return response


def _tags(header: str) -> frozenset[str]:
    if header.strip() == "*":
        return frozenset({"*"})
    if not _LIST.fullmatch(header):
        raise MalformedPrecondition('Send `*`, or tags in quotes such as "0a1b2c", apart by commas.')
    return frozenset(_TAG.findall(header))
