"""Requests made from the API's own description, so that a new operation is asked like all others.

A request has slots: places where an id stands, in its path, its query or its body. Whoever sends it says what goes in.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

from service.infra import ids

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")

_ID = re.compile(r"\^([a-z]{3})_\[0-7\]")
ANY_ID = re.compile(r"\b[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}\b")

BODIES: dict[str, Json] = {
    # What one field may be depends on another here, which no schema says.
    "create_api_key": {"name": "Reports", "scopes": ["affiliate"], "affiliate_id": "<aff>"},
    "move_test_clock": {"advance_s": 0},
    "create_webhook_endpoint": {"url": "https://hooks.example/koc"},
    "create_payout_method": {"rail": "sandbox", "destination": "sandbox_ok"},
    "create_my_payout_method": {"rail": "sandbox", "destination": "sandbox_ok"},
    "create_correction": {
        "kind": "write_off",
        "affiliate_id": "<aff>",
        "amount": {"amount_minor": 1, "currency": "USD"},
        "reason": "agreed",
    },
    "create_payout_limit": {
        "kind": "approval",
        "limit": {"amount_minor": 1_000_000_000, "currency": "USD"},
        "key_id": "<key>",
    },
    "close_books": {"until": "2026-01-31"},
    "create_reconciliation": {
        "begins_on": "2026-11-01",
        "until": "2026-11-30",
        "orders": {
            "source_id": "<src>",
            "mapping": {
                "order": {"id": "id", "updated_at": "at", "placed_at": "at", "currency": {"value": "USD"}},
                "line": {"net": "net"},
            },
        },
    },
    "create_tax_opening": {
        "rule": "us_nec_2026",
        "duty": "backup",
        "period": "2026",
        "currency": "USD",
        "base_minor": 1,
        "tax_minor": 0,
        "note": "told",
    },
    "decide_claim": {"outcome": "reject", "reason_code": "no_evidence"},
    "issue_statements": {"month": "2026-01"},
    "record_self_billing_agreement": {"agreed_on": "2026-01-31"},
    "replay_webhook_events": {"since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"},
}
"""Bodies that cannot be made from their schema. "<aff>" is a slot."""

SHEETS = {"import_payout_results": "end_to_end_id,status\nNOTPROVIDED,booked"}
"""Sheets that have to have certain columns."""


@dataclass(frozen=True)
class Slot:
    """place: path, query or body. kind: the prefix of an id, or `external` for an id of the merchant's own."""

    place: str
    name: str
    kind: str


@dataclass(frozen=True)
class Sent:
    method: str
    url: str
    body: Any

    @property
    def text(self) -> str:
        return f"{self.url} {json.dumps(self.body)}"


@dataclass(frozen=True)
class Operation:
    """One operation as the description has it."""

    id: str
    method: str
    path: str
    owner: str
    described: Json
    schemas: Json

    def slots(self) -> list[Slot]:
        """All places for an id, those of the path first."""
        found: list[Slot] = []

        def fill(slot: Slot) -> str:
            found.append(slot)
            return "?"

        self.made(fill)
        return found

    def made(self, fill: Callable[[Slot], str | None], *, words: Iterator[int] | None = None) -> Sent:
        """Return the smallest request that the schema allows, with every slot filled. fill: None leaves out what may be."""
        builder = _Builder(self.schemas, fill, words or count())
        url, query = self.path, []
        for parameter in self.described.get("parameters", []):
            if "$ref" in parameter:
                # Headers that all operations have, and none needs.
                continue
            name, place = parameter["name"], parameter["in"]
            if place not in {"path", "query"}:
                continue
            if place == "path" and name == "external_id":
                value: Any = fill(Slot(place, name, "external"))
            elif parameter.get("required") or builder.holds_id(parameter["schema"]):
                value = builder.value(parameter["schema"], place, name)
            else:
                continue
            if place == "path":
                url = url.replace(f"{{{name}}}", str(value))
            elif value is not None:
                query.append(f"{name}={value}")
        content = self.described.get("requestBody", {}).get("content", {})
        body: Any = None
        if self.id in BODIES:
            body = builder.filled(BODIES[self.id])
        elif "application/json" in content:
            body = builder.value(content["application/json"]["schema"], "body", "body")
        elif "text/csv" in content:
            # A text in JSON is read as the bytes it stands for.
            body = SHEETS.get(self.id, "id,net")
        return Sent(self.method, url + ("?" + "&".join(query) if query else ""), body)

    @property
    def is_list(self) -> bool:
        return self.method == "get" and "{" not in self.path


class _Builder:
    def __init__(self, schemas: Json, fill: Callable[[Slot], str | None], words: Iterator[int]) -> None:
        self._schemas = schemas
        self._fill = fill
        self._words = words

    def filled(self, body: Json) -> Json:
        filled: Json = {}
        for name, value in body.items():
            if isinstance(value, dict):
                filled[name] = self.filled(value)
            elif isinstance(value, str) and value[0] == "<":
                filled[name] = self._fill(Slot("body", name, value[1:-1]))
            else:
                filled[name] = value
        return filled

    def holds_id(self, schema: Json) -> bool:
        schema = self._plain(schema)
        return "pattern" in schema and _ID.match(schema["pattern"]) is not None

    def value(self, schema: Json, place: str, name: str) -> Any:
        schema = self._plain(schema)
        if self.holds_id(schema):
            prefix = _ID.match(schema["pattern"])
            assert prefix is not None
            return self._fill(Slot(place, name, prefix[1]))
        if schema.get("examples"):
            return schema["examples"][0]
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object":
                return self._object(schema, place)
            case "array":
                item = schema["items"]
                wanted = schema.get("minItems", 0) or self.holds_id(item)
                return [self.value(item, place, name)] if wanted else []
            case "integer" | "number":
                return max(schema.get("minimum", 1), 1)
            case "boolean":
                return False
            case "null":
                return None
        match schema.get("format"):
            case "date-time":
                return "2026-11-22T09:30:00Z"
            case "date":
                return "2026-11-22"
        return f"word {next(self._words)}"

    def _object(self, schema: Json, place: str) -> Json:
        required = schema.get("required", [])
        made: Json = {}
        for name, part in schema.get("properties", {}).items():
            inner = self._plain(part)
            is_id = self.holds_id(inner) or (inner.get("type") == "array" and self.holds_id(inner["items"]))
            if name in required or is_id:
                value = self.value(inner, place, name)
                if name in required or (value is not None and value != [None]):
                    made[name] = value
        return made

    def _plain(self, schema: Json) -> Json:
        """Follow references, and take the first that is possible where there is a choice."""
        while True:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            elif "anyOf" in schema or "oneOf" in schema:
                schema = (schema.get("anyOf") or schema["oneOf"])[0]
            elif "allOf" in schema:
                schema = schema["allOf"][0]
            else:
                return schema


def operations(document: Json) -> list[Operation]:
    """Return every operation that the document describes."""
    schemas = document["components"]["schemas"]
    return [
        Operation(described["operationId"], method, path, described.get("x-owner", ""), described, schemas)
        for path, item in document["paths"].items()
        for method, described in item.items()
        if method in METHODS
    ]


def random_id(prefix: str, number: int) -> str:
    """Return an id as the service makes them, of nothing."""
    return ids.encode(prefix, UUID(int=(0x0199 << 112) | (0x7 << 76) | (0b10 << 62) | number))
