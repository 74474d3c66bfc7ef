"""What the framework leaves out of the API's description: problems, the raw routes, and which operations need no key."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.routing import APIRoute

from service.api import problems
from service.api.deps import Allowed
from service.tables.parties import Scope

Json = dict[str, Any]

_PROBLEM: Json = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

FAILURES: dict[int | str, Json] = {
    "4XX": {"description": "The request cannot be done as it is; `code` says why.", "content": _PROBLEM},
    "500": {"description": "The service is at fault.", "content": _PROBLEM},
    "503": {
        "description": "The service is busy; the same request may succeed later.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
        "content": _PROBLEM,
    },
}
"""Answers every operation may give. Which codes there are, and which status each has, `/problems` lists."""
_SHARED: dict[str, str] = {"4XX": "Refused", "500": "Failed", "503": "Busy"}
"""Under which names the description has them once, for all operations."""

_RECEIVED: Json = {
    "title": "Received",
    "type": "object",
    "required": ["inbox_id", "state", "reason_code", "detail", "order_id", "repeated", "understood"],
    "properties": {
        "inbox_id": {"type": "string", "description": "Under which the delivery is kept."},
        "state": {"type": "string", "enum": ["applied", "waiting", "parked", "ignored"]},
        "reason_code": {"type": ["string", "null"]},
        "detail": {"type": "string"},
        "order_id": {"type": ["string", "null"]},
        "repeated": {"type": "boolean", "description": "It came before; this is the answer of then."},
        "understood": {"type": "object", "description": "What was read in it, amounts in minor units."},
    },
}

_RAW: Json = {
    "/intake/{source}": {
        "post": {
            "tags": ["intake"],
            "summary": "Receive Webhook",
            "description": (
                "Take a signed delivery of a shop. The signature is made over the raw bytes, by Standard Webhooks for "
                "generic sources and as Shopify does for Shopify's. The answer comes after the commit and says what was "
                "understood; 202 means kept, but not understood."
            ),
            "operationId": "receive_webhook",
            "security": [],
            "parameters": [
                {
                    "name": "source",
                    "in": "path",
                    "required": True,
                    "description": "The source's id, src_…: unguessable, part of the address the shop is given.",
                    "schema": {"type": "string", "pattern": "^src_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
                }
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {
                "200": {
                    "description": "Kept and understood.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Received"}}},
                },
                "202": {
                    "description": "Kept, but not understood; it can be replayed after a fix.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Received"}}},
                },
                **FAILURES,
            },
        }
    },
    "/r/{code}": {
        "get": {
            "tags": ["links"],
            "summary": "Follow Link",
            "description": "Send a visitor to where a short link leads, with a signed click id appended as `koc_click`.",
            "operationId": "follow_link",
            "security": [],
            "parameters": [
                {
                    "name": "code",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{4,32}$"},
                }
            ],
            "responses": {
                "302": {
                    "description": "On the way.",
                    "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
                },
                **FAILURES,
            },
        }
    },
}


def scopes_of(route: APIRoute) -> tuple[Scope, ...]:
    """Return the scopes of which a key needs one to be let in; none where no key is asked for."""
    waiting = [route.dependant]
    while waiting:
        one = waiting.pop()
        call: object = one.call
        if isinstance(call, Allowed):
            return call.scopes
        waiting += one.dependencies
    return ()


def complete(description: Json, scopes: Mapping[str, Sequence[Scope]]) -> Json:
    """Return the description with what it lacks. scopes: by operation id.

    Operations are called by one name each: AssertionError otherwise.
    """
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    shape = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= shape.pop("$defs", {}) | {"Problem": shape, "Received": _RECEIVED}
    description["components"]["schemas"] = dict(sorted(schemas.items()))
    description["components"]["responses"] = {name: FAILURES[status] for status, name in _SHARED.items()}
    description["paths"] = dict(sorted((description["paths"] | _RAW).items()))
    seen: set[str] = set()
    for path in description["paths"].values():
        for operation in path.values():
            for status, name in _SHARED.items():
                if operation["responses"].get(status) == FAILURES[status]:
                    operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
            # Said outright: a linter takes silence for forgetfulness.
            operation.setdefault("security", [])
            assert operation["operationId"] not in seen, operation["operationId"]
            seen.add(operation["operationId"])
            needed = scopes.get(operation["operationId"], ())
            if needed:
                # One of the scopes is enough, so each is a requirement of its own.
                operation["security"] = [
                    {scheme: [str(scope)] for scheme in one} for one in operation["security"] for scope in needed
                ]
                words = " or ".join(f"`{scope}`" for scope in needed)
                operation["description"] = f"{operation['description']}\n\nNeeds a key with the scope {words}."
    return description
