"""What all parts of the double are made with: refusals, faults, checked parameters, pages."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tests.doubles.stripe.typed import flaws

Json = dict[str, Any]

LIST_LIMIT, LIST_LIMIT_MAX = 10, 100


class Fault(StrEnum):
    """What goes wrong with the next matching POST, or, where a path is named, with any request to it."""

    LOST = "lost"
    """Done and stored, then the line breaks without an answer."""
    TIMEOUT = "timeout"
    """Done and stored; the answer comes only after `seconds`."""
    RESET = "reset"
    """The line breaks before anything is done."""
    ERROR_DONE = "500_done"
    ERROR_NOT_DONE = "500_not_done"
    """Under API v1 stored all the same: the key gives this 500 for ever. Under v2 the next try does it."""
    BUSY = "429"
    """Not stored."""
    NO_FUNDS = "insufficient_funds"
    RESTRICTED = "account_restricted"
    DELAYED = "delayed"
    """Done after `seconds`, in which the key is in use."""
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"


@dataclass
class Planned:
    """A fault and how often it still happens.

    destination: only to money for this account, or to what is asked on its behalf. path: only there, and to GETs too.
    """

    kind: Fault
    times: int = 1
    destination: str | None = None
    seconds: float = 1
    path: str | None = None


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


class NoAnswer(Exception):
    """The line breaks."""


def checked(form: Json, takes: Any, *, written: bool = True) -> Json:
    """Return parameters that stripe-python knows, and as it types them. Raises Refusal as Stripe words it."""
    for at, flaw in flaws(form, takes, written=written):
        match flaw:
            case "unknown":
                raise Refusal(400, f"Received unknown parameter: {at}", code="parameter_unknown", param=at)
            case "missing":
                raise Refusal(400, f"Missing required param: {at}.", code="parameter_missing", param=at)
            case _:
                raise Refusal(400, f"Invalid value: {at}", code="parameter_invalid_integer", param=at)
    return form


def positive(form: Json, name: str) -> int:
    number = int(form[name])
    if number <= 0:
        raise Refusal(400, f"Invalid integer: {number}", code="parameter_invalid_integer", param=name)
    return number


def listed(things: Sequence[Json], form: Json, url: str) -> Json:
    """A page of API v1 over things, newest first. `created` and `starting_after` narrow it."""
    limit = int(form.get("limit", LIST_LIMIT))
    if not 1 <= limit <= LIST_LIMIT_MAX:
        raise Refusal(400, "Limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
    within = _bounds(form.get("created", {}), int)
    found = [each for each in things if within(each["created"])]
    after = form.get("starting_after")
    if after is not None:
        found = found[[each["id"] for each in found].index(after) + 1 :]
    return {"object": "list", "url": url, "has_more": len(found) > limit, "data": found[:limit]}


def listed_v2(things: Sequence[Json], form: Json, url: str, query: Mapping[str, str]) -> Json:
    """A page of API v2 over things, newest first. query: what the address of the next page repeats."""
    limit, begin = int(form.get("limit", LIST_LIMIT)), int(form.get("page", 0))
    within = _bounds(form.get("created", {}), datetime.fromisoformat)
    found = [each for each in things if within(datetime.fromisoformat(each["created"]))]
    more = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
    is_last = begin + limit >= len(found)
    return {
        "data": found[begin : begin + limit],
        "next_page_url": None if is_last else f"{url}?{more}&page={begin + limit}",
        "previous_page_url": None,
    }


def _bounds(created: Json, read: Callable[[str], Any]) -> Callable[[Any], bool]:
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "gte": lambda one, other: one >= other,
        "gt": lambda one, other: one > other,
        "lte": lambda one, other: one <= other,
        "lt": lambda one, other: one < other,
    }
    asked = [(compare[name], read(value)) for name, value in created.items()]
    return lambda at: all(holds(at, bound) for holds, bound in asked)


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(8)}"


def now() -> int:
    return int(time.time())


def written(at: datetime) -> str:
    """A time as API v2 writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
