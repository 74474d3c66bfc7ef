"""What an answer may be: as the OpenAPI document of the running service says, and its list of problems."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

JsonObject = dict[str, Any]

PROBLEM = "application/problem+json"
METHODS = ("get", "post", "put", "patch", "delete")
_OUTSIDE = re.compile(r"/(?:docs|openapi\.json|static/.*)")
"""Paths that are no operations: pages and files for people."""
_HOST = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. headers: names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document. scopes: a key with any of them may call it; empty: no key is asked for."""

    id: str
    method: str
    path: str
    scopes: tuple[str, ...]
    responses: Mapping[str, JsonObject]
    matches: re.Pattern[str]


class Contract:
    """Judges answers. kinds: maps each code a problem may have to its status."""

    def __init__(self, document: JsonObject, kinds: Mapping[str, int]) -> None:
        self.document = document
        self.operations = [
            _operation(method, path, item[method])
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item
        ]
        # The path with the fewest parameters comes first, as the service itself has them.
        self._by_precision = sorted(self.operations, key=lambda one: one.path.count("{"))
        self._kinds = kinds
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def find(self, method: str, target: str) -> Operation | None:
        """The operation that a request is for, if any."""
        # A proxy's form of an address names the host as well.
        path = unquote(_HOST.sub("", target).partition("?")[0].partition("#")[0])
        wanted = "GET" if method == "HEAD" else method
        return next((one for one in self._by_precision if one.method == wanted and one.matches.fullmatch(path)), None)

    def complaint(self, method: str, target: str, answer: Answer) -> str | None:
        """Say what is wrong with an answer; None where it is as described. method: empty where none could be read."""
        if answer.status >= 500 and answer.status != 503:
            return f"answered {answer.status}"
        if answer.status == 503 and not (answer.header("retry-after") or "").isdigit():
            return "answered 503 without Retry-After"
        if answer.header("x-request-id") is None:
            return "no x-request-id"
        kind = (answer.header("content-type") or "").partition(";")[0]
        if kind == PROBLEM and method != "HEAD":
            wrong = self._problem(answer)
            if wrong:
                return wrong
        operation = self.find(method, target)
        if operation is None:
            is_page = _OUTSIDE.fullmatch(target.partition("?")[0]) is not None
            return (
                None if is_page or (kind == PROBLEM and answer.status >= 400) else f"undescribed path: {answer.status}"
            )
        if kind == PROBLEM and answer.status == 405 and method == "HEAD":
            return None
        return self._described(operation, method, kind, answer)

    def _problem(self, answer: Answer) -> str | None:
        shape = {"$ref": "#/components/schemas/Problem"}
        wrong = self._schema("Problem", shape, answer.body)
        if wrong:
            return wrong
        code = json.loads(answer.body)["code"]
        if code not in self._kinds:
            return f"problem with the unknown code {code}"
        if self._kinds[code] != answer.status:
            return f"problem {code} with status {answer.status}"
        return None

    def _described(self, operation: Operation, method: str, kind: str, answer: Answer) -> str | None:
        told = operation.responses.get(str(answer.status)) or operation.responses.get(f"{answer.status // 100}XX")
        if told is None:
            return f"undescribed status {answer.status}"
        told = self._resolved(told)
        media = told.get("content", {})
        if not media:
            return None if not answer.body else f"a body where status {answer.status} has none"
        if told.get("x-may-be-empty") and not answer.body:
            # The format has no word for it.
            return None
        if kind not in media:
            return f"undescribed media type {kind or 'none'} of status {answer.status}"
        # Lines of JSON are no JSON.
        if "schema" not in media[kind] or not kind.endswith(("/json", "+json")) or method == "HEAD":
            return None
        return self._schema(f"{operation.id} {answer.status} {kind}", media[kind]["schema"], answer.body)

    def _resolved(self, part: JsonObject) -> JsonObject:
        while "$ref" in part:
            found: Any = self.document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def _schema(self, name: str, schema: JsonObject, body: bytes) -> str | None:
        if name not in self._validators:
            whole = {**schema, "components": {"schemas": self.document["components"]["schemas"]}}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole)
        try:
            value = json.loads(body)
        except ValueError:
            return f"a body that is no JSON, of {len(body)} bytes: {body[:40]!r}"
        error = next(self._validators[name].iter_errors(value), None)
        if error is None:
            return None
        place = "/".join(str(step) for step in error.instance_path)
        return f"a body unlike its schema at /{place}: {error.message[:200]}"


def _operation(method: str, path: str, operation: JsonObject) -> Operation:
    needed: Sequence[Mapping[str, Sequence[str]]] = operation.get("security", [])
    scopes = tuple(scope for one in needed for named in one.values() for scope in named)
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", path))
    return Operation(
        operation["operationId"], method.upper(), path, scopes, operation["responses"], re.compile(pattern, re.DOTALL)
    )
