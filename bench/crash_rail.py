"""A Stripe within this process that misbehaves on purpose and lives by a clock that is moved, behind the real adapter.

It is reached through the adapter's own HTTP session, so what is tried is what the service sends and reads, but for the socket.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import BaseAdapter

from service.infra.crash import Crashed
from service.payouts.providers.pace import Pace
from service.payouts.providers.stripe_connect import StripeConnectRail

KEY_KEPT = timedelta(hours=24)
"""A key that is older is forgotten. Source: Stripe documentation, Idempotent requests, read 2026-11."""
SOON = timedelta(seconds=2)

Json = dict[str, Any]
_Answer = tuple[int, Json]


class Behaviour(StrEnum):
    """What becomes of a request to send."""

    OK = "ok"
    LOST = "ok, answer lost"
    ERROR_DONE = "done, 500"
    ERROR_NOT_DONE = "not done, 500 kept"
    BUSY = "429"
    REFUSED_KEPT = "400 kept"
    REFUSED = "400 not kept"
    DELAYED = "delayed"
    RESET = "never arrives"


OUTCOMES = tuple(each for each in Behaviour if each is not Behaviour.RESET)
"""The eight of the matrix."""


@dataclass
class _Travelling:
    due: datetime
    form: Json
    key: str
    behaviour: Behaviour


@dataclass
class Provider:
    """script: what becomes of the sendings, in turn; of all further ones OK. delay: of what is delayed.

    dies_when_asked: our process ends when the last byte of so many sendings has left; the provider acts afterwards.
    """

    clock: Callable[[], datetime]
    script: list[Behaviour] = field(default_factory=list)
    delay: timedelta = timedelta()
    dies_when_asked: int = 0
    transfers: list[Json] = field(default_factory=list)
    sends: int = 0
    _keys: dict[str, tuple[datetime, _Answer]] = field(default_factory=dict)
    _travelling: list[_Travelling] = field(default_factory=list)

    def begin(self, script: list[Behaviour], *, delay: timedelta) -> None:
        """Forget everything, and behave so from now on."""
        self.script, self.delay, self.dies_when_asked, self.sends = script, delay, 0, 0
        self.transfers, self._keys, self._travelling = [], {}, []

    def answer(self, method: str, url: str, body: str, key: str | None) -> _Answer:
        """Answer a request of ours. Raises requests.ConnectionError, requests.ReadTimeout, Crashed."""
        self.land()
        address = urlsplit(url)
        match method, address.path:
            case "POST", "/v1/transfers":
                assert key is not None
                return self._post(_form(body), key)
            case "GET", "/v1/balance":
                available = [{"amount": 10**12, "currency": "usd"}]
                return 200, {"object": "balance", "livemode": False, "available": available, "pending": []}
            case "GET", "/v1/transfers":
                return 200, self._page(_form(address.query))
        raise AssertionError(f"nobody asked for {method} {address.path} before")

    def land(self) -> None:
        """Do what has arrived by now and what nobody waits for any more."""
        due = [each for each in self._travelling if each.due <= self.clock()]
        self._travelling = [each for each in self._travelling if each.due > self.clock()]
        for each in sorted(due, key=lambda each: each.due):
            if each.behaviour is Behaviour.DELAYED:
                self._travelling.append(_Travelling(each.due + self.delay, each.form, each.key, Behaviour.OK))
            else:
                self._act(each.form, each.key, each.behaviour)

    def take_back(self, transfer: Json, amount: int) -> None:
        """Let so much of a transfer come back."""
        transfer["amount_reversed"] = amount

    def _post(self, form: Json, key: str) -> _Answer:
        self.sends += 1
        behaviour = self.script.pop(0) if self.script else Behaviour.OK
        if self.dies_when_asked:
            self.dies_when_asked -= 1
            if not self.dies_when_asked:
                self._travelling.append(_Travelling(self.clock() + SOON, form, key, behaviour))
                raise Crashed("after the last byte")
        if behaviour is Behaviour.RESET:
            raise requests.ConnectionError("the line breaks")
        if behaviour is Behaviour.DELAYED:
            self._travelling.append(_Travelling(self.clock() + self.delay, form, key, Behaviour.OK))
            raise requests.ReadTimeout("no answer")
        answer = self._act(form, key, behaviour)
        if behaviour is Behaviour.LOST:
            raise requests.ConnectionError("the line breaks")
        return answer

    def _act(self, form: Json, key: str, behaviour: Behaviour) -> _Answer:
        """Do a request that is here, and say what is answered."""
        refused = 400, _error("invalid_request_error", "balance_insufficient")
        match behaviour:
            # These come before the key is looked at.
            case Behaviour.BUSY:
                return 429, _error("invalid_request_error", "rate_limit")
            case Behaviour.REFUSED:
                return refused
        kept_at, kept = self._keys.get(key, (None, None))
        if kept_at is not None and kept is not None and self.clock() < kept_at + KEY_KEPT:
            return kept
        match behaviour:
            case Behaviour.REFUSED_KEPT:
                answer: _Answer = refused
            case Behaviour.ERROR_NOT_DONE:
                answer = 500, _error("api_error", "")
            case Behaviour.ERROR_DONE:
                self._transfer(form)
                answer = 500, _error("api_error", "")
            case _:
                answer = 200, dict(self._transfer(form))
        self._keys[key] = self.clock(), answer
        return answer

    def _transfer(self, form: Json) -> Json:
        made = {
            "id": f"tr_{form['transfer_group']}_{len(self.transfers) + 1}",
            "object": "transfer",
            "amount": int(form["amount"]),
            "amount_reversed": 0,
            "created": int(self.clock().timestamp()),
            "currency": form["currency"],
            "destination": form["destination"],
            "metadata": {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")},
            "transfer_group": form["transfer_group"],
        }
        self.transfers.append(made)
        return made

    def _page(self, form: Json) -> Json:
        """One transfer of a list, and whether there are more. Two that were taken back long ago come first in each."""
        group = form.get("transfer_group", "")
        long_ago: Json = {
            "object": "transfer",
            "amount": 7,
            "amount_reversed": 7,
            "created": 0,
            "currency": "usd",
            "destination": "acct_long_ago",
            "metadata": {},
            "transfer_group": group,
        }
        before = [long_ago | {"id": f"tr_{group}_{name}"} for name in ("a", "b")]
        found = [*before, *(each for each in self.transfers if group in {"", each["transfer_group"]})]
        after = form.get("starting_after")
        begin = 0 if after is None else [each["id"] for each in found].index(after) + 1
        page = found[begin : begin + 1]
        return {"object": "list", "url": "/v1/transfers", "data": page, "has_more": len(found) > begin + 1}


def _error(kind: str, code: str) -> Json:
    return {"error": {"type": kind, "message": "told to", **({"code": code} if code else {})}}


def _form(text: str) -> Json:
    return dict(parse_qsl(text, keep_blank_values=True))


class RailInProcess(StripeConnectRail):
    """The adapter as it is, in front of a provider in the same process, as fast as it can be asked."""

    def __init__(self, provider: Provider) -> None:
        super().__init__("sk_test_matrix", api_base="http://provider.test")
        self.api.session.mount("http://", _Wire(provider))
        self.api.writes = self.api.reads = Pace(1_000_000)


class _Wire(BaseAdapter):
    """What `requests` sends goes to the provider, what that answers comes back."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: bool | str = True,
        cert: object = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        del stream, timeout, verify, cert, proxies
        body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
        status, content = self._provider.answer(
            request.method or "", request.url or "", body, request.headers.get("Idempotency-Key")
        )
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url or "", request
        response.headers["Content-Type"] = "application/json"
        response.raw = io.BytesIO(json.dumps(content).encode())
        return response

    def close(self) -> None:
        return
