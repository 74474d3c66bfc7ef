"""Requests that schemathesis makes of the OpenAPI document, for every operation, as described and against it."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from bench.fuzz_contract import Answer, JsonObject
from bench.fuzz_wire import HANGS_S, Request
from bench.fuzz_world import texts_replaced

HOSTILE = 0.4
"""What part of an operation's requests break its description on purpose."""
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""What schemathesis itself says of an answer, beside our own judgement."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One request of schemathesis. is_hostile: it breaks the description."""

    case: Case[Any]
    request: Request
    is_hostile: bool


class Generator:
    """Makes requests and sends them the library's way."""

    def __init__(self, document: JsonObject, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        schema = schemathesis.openapi.from_dict(document)
        self._operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
        logging.getLogger("schemathesis").setLevel(logging.ERROR)

    def generate(
        self, count: int, *, seed: int, change: Callable[[str], str], place: Callable[[str, str], str]
    ) -> Iterator[Generated]:
        """Yield so many requests, spread over all operations. change: told each id in them, gives one to use instead; place: likewise of a path's parameters, with the name."""
        total = len(self._operations)
        for index, operation in enumerate(self._operations):
            share = count * (index + 1) // total - count * index // total
            hostile = round(share * HOSTILE)
            made = [
                *((case, False) for case in self._cases(operation, share - hostile, GenerationMode.POSITIVE, seed)),
                *((case, True) for case in self._cases(operation, hostile, GenerationMode.NEGATIVE, seed)),
            ]
            for case, is_hostile in made:
                case.path_parameters = {
                    name: place(name, value) if isinstance(value, str) and not is_hostile else value
                    for name, value in dict(case.path_parameters or {}).items()
                }
                for name in ("query", "body"):
                    setattr(case, name, texts_replaced(getattr(case, name), change))
                yield Generated(case, self._request(case, ""), is_hostile)

    def send(self, generated: Generated, key: str) -> tuple[Generated, Answer, str | None]:
        """Send a request with a key. Returns it as it was sent, the answer, and what the library's checks have to say."""
        request = self._request(generated.case, key)
        response = self._session.send(
            self._prepared(generated.case, key), timeout=HANGS_S, allow_redirects=False, verify=False
        )
        headers = tuple((name.lower(), value) for name, value in response.headers.items())
        answer = Answer(response.status_code, headers, response.content)
        complaint = None
        try:
            generated.case.validate_response(response, checks=list(CHECKS))
        except FailureGroup as group:
            complaint = f"schemathesis: {_said(group.exceptions[0])}"
        except Failure as failure:
            complaint = f"schemathesis: {_said(failure)}"
        return replace(generated, request=request), answer, complaint

    def _cases(self, operation: Any, count: int, mode: GenerationMode, seed: int) -> list[Case[Any]]:
        made: list[Case[Any]] = []
        if not count:
            return made

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(operation.as_strategy(generation_mode=mode))
        def gather(case: Case[Any]) -> None:
            made.append(case)

        # An operation without parameters and body cannot be asked wrongly.
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            gather()
        return made[:count]

    def _prepared(self, case: Case[Any], key: str) -> requests.PreparedRequest:
        arguments = case.as_transport_kwargs(base_url=self._url)
        headers = {
            name: value
            for name, value in dict(arguments.pop("headers", {})).items()
            if name.lower() not in {"x-schemathesis-testcaseid", "accept-encoding", "authorization", "user-agent"}
        }
        if key:
            headers["authorization"] = f"Bearer {key}"
        known = {"method", "url", "params", "json", "data", "files", "cookies"}
        return requests.Request(
            headers=headers, **{name: value for name, value in arguments.items() if name in known}
        ).prepare()

    def _request(self, case: Case[Any], key: str) -> Request:
        return plain(self._prepared(case, key))


def plain(prepared: requests.PreparedRequest) -> Request:
    """A request as we send it ourselves."""
    body = prepared.body or b""
    headers = tuple(
        (name, value)
        for name, value in prepared.headers.items()
        if name.lower() not in {"content-length", "transfer-encoding", "connection", "accept"}
    )
    return Request(
        prepared.method or "GET",
        prepared.path_url,
        headers,
        body.encode() if isinstance(body, str) else bytes(body),
    )


def _said(failure: BaseException) -> str:
    title = getattr(failure, "title", type(failure).__name__)
    return f"{title}: {getattr(failure, 'message', failure)}"[:300]
