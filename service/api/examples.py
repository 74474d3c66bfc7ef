"""An example of every request and answer in the API's description, made of its schema so that none goes out of date."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_DEPTH_MAX = 12

_BY_NAME: Mapping[str, object] = {
    "amount_minor": 31250,
    "allowed_domains": ["tea.example"],
    "body_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "click_id": "AZrBv0pdAAHZkQ8p0Xq1mQ3v6c7yT2uK",
    "code": "ANN10",
    "country": "VN",
    "currency": "VND",
    "description": "What it is for",
    "detail": "Send an API key of this service as `Authorization: Bearer koc_…`.",
    "email": "ann@example.com",
    "external_id": "1001",
    "fallback_url": "https://tea.example/",
    "hint": "koc_live_ab3…9f2c",
    "hold_days": 14,
    "key": "koc_live_…",
    "name": "Ann",
    "next_cursor": "WyJvcmRfMDFoNDU1dmI0cGV4NXZza25rMDg0c24wMnEiXQ",
    "number": "1001",
    "rail": "sandbox",
    "rate": "12.5",
    "reason_code": "checked",
    "secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "shop_domain": "tea.example",
    "status": "active",
    "time_zone": "Asia/Ho_Chi_Minh",
    "title": "A valid API key is needed",
    "type": "commission.accrued",
    "url": "https://tea.example/oolong",
    "webhook_url": "https://koc.example/intake/src_01h455vb4pex5vsknk084sn02q",
}
"""What fields are like, by name, where their schema does not say."""

_BY_FORMAT = {
    "date-time": "2026-11-22T09:30:00Z",
    "date": "2026-11-22",
    "uri": "https://tea.example/",
    "email": "ann@example.com",
    "binary": "",
}


def add_examples(description: Json) -> None:
    """Put an example beside each JSON body that has none, in place."""
    schemas = description["components"]["schemas"]
    for path in description["paths"].values():
        for operation in path.values():
            _illustrate(operation.get("requestBody", {}).get("content", {}), schemas, asked=True)
            for status, answer in operation.get("responses", {}).items():
                if status.startswith("2"):
                    _illustrate(answer.get("content", {}), schemas, asked=False)


def _illustrate(content: Json, schemas: Mapping[str, Json], *, asked: bool) -> None:
    for media_type, media in content.items():
        if media_type == "application/json" and "example" not in media and "examples" not in media:
            media["example"] = example_of(media.get("schema", {}), schemas, asked=asked)


def example_of(
    schema: Mapping[str, Any], schemas: Mapping[str, Json], *, asked: bool, name: str = "", depth: int = 0
) -> object:
    """Return a value that a schema allows.

    schemas: what its references name. asked: of a request only what is needed is shown, of an answer everything.
    name: of the field it is for.
    """
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if schema.get("examples"):
        return schema["examples"][0]
    for word in ("example", "const"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            first = next((one for one in schema[word] if one.get("type") != "null"), {"type": "null"})
            return example_of(first, schemas, asked=asked, name=name, depth=depth)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if kind == "object" or "properties" in schema:
        return _object(schema, schemas, asked=asked, depth=depth)
    if kind == "array":
        return _array(schema, schemas, asked=asked, name=name, depth=depth)
    return _plain(schema, kind, name)


def _object(schema: Mapping[str, Any], schemas: Mapping[str, Json], *, asked: bool, depth: int) -> Json:
    fields = schema.get("properties", {})
    required = schema.get("required", [])
    # Of a request in which nothing is needed, one field shows what it is about.
    shown = (required or list(fields)[:1]) if asked else list(fields)
    return {
        field: example_of(fields[field], schemas, asked=asked, name=field, depth=depth + 1)
        for field in shown
        if field in fields
    }


def _array(
    schema: Mapping[str, Any], schemas: Mapping[str, Json], *, asked: bool, name: str, depth: int
) -> list[object]:
    items = schema.get("items")
    if items is None or depth > _DEPTH_MAX:
        return []
    named = _BY_NAME.get(name)
    if isinstance(named, list):
        return named
    return [example_of(items, schemas, asked=asked, name=name.removesuffix("s"), depth=depth + 1)] * max(
        1, schema.get("minItems", 1)
    )


def _plain(schema: Mapping[str, Any], kind: str | None, name: str) -> object:
    named = _BY_NAME.get(name)
    match kind:
        case "string":
            if schema.get("format") in _BY_FORMAT:
                return _BY_FORMAT[schema["format"]]
            text = named if isinstance(named, str) else "text"
            return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")
        case "integer":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            most = schema.get("maximum", named if isinstance(named, int) else least + 1)
            return max(least, min(most, named if isinstance(named, int) else 1))
        case "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return {}
