"""What the framework leaves out of the API's description: problems, raw routes, webhooks, which operations need no key."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.routing import APIRoute

from service.api import idempotency, problems, versions, webhook_events
from service.api.conventions import PREFIX
from service.api.deps import Allowed
from service.api.examples import add_examples
from service.api.owners import PUBLIC, Owner

Json = dict[str, Any]

_PARAMETER = "#/components/parameters/"
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
                "generic sources and as its platform does for any other. The answer comes after the commit and says what "
                "was understood; 202 means kept, but not understood. WooCommerce's unsigned ping is answered 200 without "
                "a body, and not kept."
            ),
            "operationId": "receive_webhook",
            "security": [],
            "x-owner": Owner.SOURCE.value,
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
                    "description": (
                        "Kept and understood. Without a body where the platform wants none: TikTok Shop's deliveries, "
                        "whatever became of them, and WooCommerce's ping."
                    ),
                    "x-may-be-empty": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Received"}}},
                },
                "202": {
                    "description": "Kept, but not understood; it can be replayed after a fix.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Received"}}},
                },
                **FAILURES,
            },
        },
        "get": {
            "tags": ["intake"],
            "summary": "Answer Challenge",
            "description": (
                "Answer a platform that asks, before it delivers, whether its deliveries are wanted: Haravan. The "
                "challenge comes back when the token is the `verify_token` in the source's settings."
            ),
            "operationId": "answer_challenge",
            "security": [],
            "x-owner": Owner.SOURCE.value,
            "parameters": [
                {
                    "name": "source",
                    "in": "path",
                    "required": True,
                    "description": "The source's id, src_…: unguessable, part of the address the shop is given.",
                    "schema": {"type": "string", "pattern": "^src_[0-7][0-9a-hjkmnp-tv-z]{25}$"},
                },
                {"name": "hub.verify_token", "in": "query", "schema": {"type": "string"}},
                {"name": "hub.challenge", "in": "query", "schema": {"type": "string"}},
            ],
            "responses": {
                "200": {"description": "They are.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                **FAILURES,
            },
        },
    },
    "/providers/stripe/events": {
        "post": {
            "tags": ["providers"],
            "summary": "Receive Stripe Event",
            "description": (
                "Take an event of Stripe, about the platform's own account or a connected one, thin or not. The signature "
                "is made over the raw bytes with one of the operator's signing secrets. Answered without a body once the "
                "event is kept; an event that is nothing to this service is answered alike, and not kept."
            ),
            "operationId": "receive_stripe_event",
            "security": [],
            "x-owner": Owner.SOURCE.value,
            "parameters": [],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {"200": {"description": "Kept, or nothing to us."}, **FAILURES},
        },
    },
    "/r/{code}": {
        "get": {
            "tags": ["links"],
            "summary": "Follow Link",
            "description": "Send a visitor to where a short link leads, with a signed click id appended as `koc_click`.",
            "operationId": "follow_link",
            "security": [],
            **PUBLIC,
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


_PARAMETERS: Json = {
    "IdempotencyKey": {
        "name": idempotency.HEADER,
        "in": "header",
        "required": False,
        "description": "Makes the request safe to repeat: for 24 hours the same key and request get the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    },
    "KocVersion": {
        "name": versions.VERSION_HEADER,
        "in": "header",
        "required": False,
        "description": "The version of the API to speak; the newest where it is left out. Each answer tells its own.",
        "schema": {"type": "string", "enum": list(versions.VERSIONS)},
    },
}
"""Headers that are the same for all operations of /v1, or all of one method."""


def allowed_of(route: APIRoute) -> Allowed | None:
    """Return what a route asks of a key: its scopes, and its owner rule; None where no key is asked for."""
    waiting = [route.dependant]
    while waiting:
        one = waiting.pop()
        call: object = one.call
        if isinstance(call, Allowed):
            return call
        waiting += one.dependencies
    return None


def _with_one_name_each(description: Json) -> Json:
    """Call what is read in one shape and shown in another by two names: generators of clients make a class of each title.

    AssertionError where two parts of the code share a name.
    """
    text = json.dumps(description)
    for name in description["components"]["schemas"]:
        assert "__" not in name, f"two models are called {name.rpartition('__')[2]}"
        plain, _, side = name.rpartition("-")
        if side in _SIDES:
            text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{plain}{_SIDES[side]}"')
    named: Json = json.loads(text)
    schemas = named["components"]["schemas"]
    for name in list(schemas):
        plain, _, side = name.rpartition("-")
        if side in _SIDES:
            schemas[plain + _SIDES[side]] = schemas.pop(name) | {"title": plain + _SIDES[side]}
    named["components"]["schemas"] = dict(sorted(schemas.items()))
    return named


_SIDES = {"Input": "Input", "Output": ""}


def complete(description: Json, allowed: Mapping[str, Allowed | None]) -> Json:
    """Return the description with what it lacks. allowed: by operation id.

    Operations are called by one name each: AssertionError otherwise.
    """
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    shape = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= shape.pop("$defs", {}) | {"Problem": shape, "Received": _RECEIVED}
    schemas |= webhook_events.schemas()
    description = _with_one_name_each(description)
    description["components"]["responses"] = {name: FAILURES[status] for status, name in _SHARED.items()}
    description["paths"] = dict(sorted((description["paths"] | _RAW).items()))
    description["webhooks"] = webhook_events.webhooks()
    description["components"]["parameters"] = _PARAMETERS
    seen: set[str] = set()
    for address, path in description["paths"].items():
        for method, operation in path.items():
            if address.startswith(PREFIX):
                names = ["IdempotencyKey", "KocVersion"] if method == "post" else ["KocVersion"]
                operation.setdefault("parameters", []).extend({"$ref": f"{_PARAMETER}{name}"} for name in names)
            for status, name in _SHARED.items():
                if operation["responses"].get(status) == FAILURES[status]:
                    operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
            # Said outright: a linter takes silence for forgetfulness.
            operation.setdefault("security", [])
            assert operation["operationId"] not in seen, operation["operationId"]
            seen.add(operation["operationId"])
            needed = allowed.get(operation["operationId"])
            if needed is not None:
                operation["x-owner"] = needed.owner.value
                # One of the scopes is enough, so each is a requirement of its own.
                operation["security"] = [
                    {scheme: [str(scope)] for scheme in one} for one in operation["security"] for scope in needed.scopes
                ]
                words = " or ".join(f"`{scope}`" for scope in needed.scopes)
                operation["description"] = f"{operation['description']}\n\nNeeds a key with the scope {words}."
    _say_bounds(description)
    _say_what_may_be_absent(description)
    _forget_unused(description)
    add_examples(description)
    return description


def _say_bounds(description: Json) -> None:
    """Call the bounds of whole numbers in addresses what JSON Schema calls them: our own check stands before them."""
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter.get("schema", {})
                for ours, standard in (("ge", "minimum"), ("le", "maximum")):
                    if ours in schema:
                        schema[standard] = schema.pop(ours)


def _say_what_may_be_absent(description: Json) -> None:
    """Let a body be absent where none of its fields is needed: conventions.py reads `{}` then."""
    for path in description["paths"].values():
        for operation in path.values():
            body = operation.get("requestBody", {})
            name = (
                body.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            )
            if name and not description["components"]["schemas"][name].get("required"):
                body.pop("required", None)


def _forget_unused(description: Json) -> None:
    """Leave out schemas that nothing refers to, such as the parts of a body that is read item by item."""
    schemas = description["components"]["schemas"]
    text = json.dumps(description)
    while unused := [name for name in schemas if f'"#/components/schemas/{name}"' not in text]:
        for name in unused:
            del schemas[name]
        text = json.dumps(description)
