"""How failures look: one shape, one code each, nothing of the request repeated."""

import re
from collections.abc import Iterator
from functools import lru_cache

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import Field
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import QueuePool
from starlette.testclient import TestClient

from service.api import problems
from service.api.deps import Admin, OwnUnits, ReadSession, Services, WriteSession
from service.api.views import AffiliateId, Body, Moment, MoneyBody
from service.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvariantBroken,
    Missing,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from service.infra.clock import utc_now
from service.infra.ids import new_id
from service.infra.settings import Settings
from service.main import create_app
from service.tables.parties import MerchantRow
from tests.support.shop import Shop

FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
SECRET = "s3cr3t-c4n4ry"

router = APIRouter()


class Example(Body):
    affiliate_id: AffiliateId | None = None
    amount: MoneyBody | None = None
    at: Moment | None = None
    names: list[str] = Field(default_factory=list)


KINDS: dict[str, Exception] = {
    "invalid": Invalid("detail"),
    "unauthenticated": Unauthenticated("detail"),
    "forbidden": Forbidden("detail"),
    "missing": Missing("detail"),
    "conflict": Conflict("detail"),
    "too-large": TooLarge("detail"),
    "unavailable": Unavailable("detail"),
    "broken": InvariantBroken(f"books of {SECRET}"),
    "crash": RuntimeError(SECRET),
}


@router.get("/raise/{kind}")
def raise_kind(kind: str) -> None:
    raise KINDS[kind]


@router.post("/echo")
def echo(asked: Example) -> Example:
    return asked


@router.post("/broken-commit")
def broken_commit(session: WriteSession) -> dict[str, bool]:
    # Breaks a constraint when the unit of work ends, after the endpoint has returned.
    session.add(
        MerchantRow(id=new_id(), name="No", time_zone="UTC", is_test=False, clock_offset_s=1, created_at=utc_now())
    )
    return {"done": True}


@router.get("/writing-get")
def writing_get(caller: Admin, session: WriteSession) -> None:
    session.flush()


def held(engine: Engine) -> int:
    """Return how many connections are in use."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


@router.post("/connections/session-first")
def session_first(session: WriteSession, caller: Admin, service: Services) -> int:
    session.get(MerchantRow, caller.merchant_id)
    return held(service.engine)


@router.post("/connections/caller-first")
def caller_first(caller: Admin, session: WriteSession, service: Services) -> int:
    return session_first(session, caller, service)


@router.get("/connections/reading")
def reading(caller: Admin, session: ReadSession, service: Services) -> int:
    return session_first(session, caller, service)


@router.post("/connections/own-units")
def own_units(caller: Admin, engine: OwnUnits) -> int:
    return held(engine)


@lru_cache(maxsize=1)
def application(settings: Settings) -> FastAPI:
    app = create_app(settings)
    app.include_router(router)
    return app


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Yield a client of a service with endpoints that fail; unexpected errors are answers here."""
    with TestClient(application(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid", 422, "invalid-request"),
        ("unauthenticated", 401, "unauthenticated"),
        ("forbidden", 403, "forbidden"),
        ("missing", 404, "not-found"),
        ("conflict", 409, "conflict"),
        ("too-large", 413, "too-large"),
        ("unavailable", 503, "unavailable"),
        ("broken", 500, "internal-error"),
        ("crash", 500, "internal-error"),
    ],
)
def test_each_kind_of_error_has_its_status(client: TestClient, kind: str, status: int, code: str) -> None:
    answer = client.get(f"/raise/{kind}")

    body = answer.json()
    assert answer.status_code == body["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == FIELDS
    assert body["code"] == code
    assert body["type"] == f"/problems/{code}"
    assert body["instance"] == f"/raise/{kind}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text


def test_the_unrecognised_learn_what_to_send_and_the_unlucky_when(client: TestClient) -> None:
    assert client.get("/raise/unauthenticated").headers["www-authenticate"] == 'Bearer realm="koc"'
    assert client.get("/raise/unavailable").headers["retry-after"] == "1"


def test_an_unknown_path_and_a_wrong_method_are_problems_too(client: TestClient) -> None:
    unknown, wrong = client.get("/v1/nothing"), client.delete("/v1/merchant")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-path")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"affiliate_id": SECRET}, "#/affiliate_id", "id"),
        ({"affiliate_id": "ord_01h455vb4pex5vsknk084sn02q"}, "#/affiliate_id", "id"),
        ({"amount": {"amount_minor": "1", "currency": "USD"}}, "#/amount/amount_minor", "int-type"),
        ({"amount": {"amount_minor": 1.5, "currency": "USD"}}, "#/amount/amount_minor", "int-type"),
        ({"amount": {"amount_minor": -1, "currency": "USD"}}, "#/amount/amount_minor", "greater-than-equal"),
        ({"amount": {"amount_minor": 1, "currency": SECRET}}, "#/amount/currency", "currency"),
        ({"at": SECRET}, "#/at", "moment"),
        ({"at": 1700000000}, "#/at", "moment"),
        ({"at": "2026-11-22T09:30:00"}, "#/at", "moment"),
        ({"at": "2026-13-22T09:30:00Z"}, "#/at", "datetime-from-date-parsing"),
        ({"names": ["a", 1]}, "#/names/1", "string-type"),
        ({"surplus": SECRET}, "#/surplus", "extra-forbidden"),
        ([SECRET], "#", "model-attributes-type"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_but_its_value_is_not_repeated(
    client: TestClient, body: object, pointer: str, code: str
) -> None:
    answer = client.post("/echo", json=body)

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-request"
    assert [(part["pointer"], part["code"]) for part in answer.json()["errors"]] == [(pointer, code)]
    assert SECRET not in answer.text


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe{}", b'{"a": 1,}', b"nonsense"])
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/echo", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == (422 if body == b"" else 400)
    assert answer.headers["content-type"] == "application/problem+json"


def test_json_under_another_name_is_refused(client: TestClient) -> None:
    answer = client.post("/echo", content=b"{}", headers={"content-type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: TestClient, *, chunked: bool) -> None:
    body = b'{"names": ["' + b"x" * 2_100_000 + b'"]}'

    sent = iter([body[:1_000_000], body[1_000_000:]]) if chunked else body
    answer = client.post("/echo", content=sent, headers={"content-type": "application/json"})

    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


def test_a_unit_of_work_that_cannot_be_kept_is_never_answered_as_done(client: TestClient) -> None:
    answer = client.post("/broken-commit")

    assert answer.status_code == 500
    assert "done" not in answer.text


def test_a_get_cannot_write(client: TestClient) -> None:
    shop = Shop(client)

    answer = shop.get("/writing-get")

    assert answer.status_code == 500


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/connections/session-first", 1),
        ("POST", "/connections/caller-first", 1),
        ("GET", "/connections/reading", 1),
        ("POST", "/connections/own-units", 0),
    ],
)
def test_a_request_holds_one_connection_whatever_it_names_first(
    client: TestClient, method: str, path: str, expected: int
) -> None:
    shop = Shop(client)
    # The link memory looks for changes with a connection of its own, once a second.
    seen = {shop.client.request(method, path, headers=shop.key_of("admin")).json() for _ in range(5)}

    assert min(seen) == expected


@pytest.mark.parametrize(
    ("given", "taken_over"),
    [("abc-123_4.5", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("{}", False), ("", False)],
)
def test_a_harmless_request_id_is_taken_over(client: TestClient, given: str, *, taken_over: bool) -> None:
    answer = client.get("/raise/missing", headers={"x-request-id": given})

    assert (answer.json()["request_id"] == given) is taken_over
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_broken_unique_constraint_becomes_the_refusal_of_its_name(client: TestClient) -> None:
    shop = Shop(client)
    shop.post("/v1/affiliates", {"name": "Lan", "external_id": "1"})

    answer = shop.post("/v1/affiliates", {"name": "Mai", "external_id": "1"})

    assert (answer.status_code, answer.json()["code"]) == (409, "external-id-taken")


def test_another_integrity_error_passes_as_it_is() -> None:
    refusal = Conflict("no")

    with pytest.raises(IntegrityError), problems.taken("some_key", refusal):
        raise IntegrityError("statement", {}, Exception("other"))


def test_every_code_is_explained_where_its_type_leads(client: TestClient) -> None:
    problem = client.get("/v1/merchant").json()

    explained = client.get(problem["type"]).json()
    listed = client.get("/problems").json()

    assert (explained["code"], explained["status"]) == ("unknown-key", 401)
    assert explained in listed
    assert client.get("/problems/never-heard-of").status_code == 404


def test_a_code_is_kebab_case_and_means_one_thing() -> None:
    meanings: dict[str, set[tuple[str, int]]] = {}
    waiting = [ServiceError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "code" in vars(kind):
            meanings.setdefault(kind.code, set()).add((kind.title, problems.status_of(kind)))

    assert [code for code in meanings if not re.fullmatch("[a-z]+(-[a-z]+)*", code)] == []
    assert {code: told for code, told in meanings.items() if len(told) > 1} == {}
