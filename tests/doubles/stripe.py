"""A Stripe that lives on this machine and speaks real HTTP: what Connect payouts need of API v1, and its faults.

    with StripeDouble() as stripe:        # stripe.url, stripe.fault("lost"), stripe.transfers
    python -m tests.doubles.stripe --port 12111

What it promises is what Stripe's documentation promises (Idempotent requests; Advanced error handling; read 2026-11): the
first answer under a key is stored and given again, 500s too; another request under a stored key is a 400 of type
idempotency_error; a key that is in use is a 409; 401, 429 and unreadable parameters come before that layer and are not
stored. Parameters are checked against stripe-python's own typed dictionaries, so the double cannot drift from the library.

Faults are asked for at POST /_control/faults as JSON {"kind": …, "times": 1, "destination": …, "seconds": …}; kinds are
the members of `Fault`. GET /_control/state shows what it has; DELETE /_control/keys forgets all keys.
"""

import argparse
import json
import secrets
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from stripe import RequestOptions, params

LIST_LIMIT, LIST_LIMIT_MAX = 10, 100


class Fault(StrEnum):
    """What goes wrong with the next matching POST."""

    LOST = "lost"
    """Done and stored, then the line breaks without an answer."""
    TIMEOUT = "timeout"
    """Done and stored; the answer comes only after `seconds`."""
    RESET = "reset"
    """The line breaks before anything is done."""
    ERROR_DONE = "500_done"
    ERROR_NOT_DONE = "500_not_done"
    """Stored all the same: the key gives this 500 for ever."""
    BUSY = "429"
    """Not stored."""
    NO_FUNDS = "insufficient_funds"
    RESTRICTED = "account_restricted"
    DELAYED = "delayed"
    """Done after `seconds`, in which the key is in use."""
    UNAUTHORIZED = "401"


@dataclass
class Planned:
    """A fault and how often it still happens. destination: only to transfers to this account."""

    kind: Fault
    times: int = 1
    destination: str | None = None
    seconds: float = 1


Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


@dataclass
class Stored:
    """A key: what was asked under it, and what was answered; None while that is not known yet."""

    request: tuple[str, str]
    answer: tuple[int, Json] | None = None


_OPTIONS = RequestOptions.__required_keys__ | RequestOptions.__optional_keys__
_TAKES: Mapping[str, Any] = {
    "accounts": params.AccountCreateParams,
    "account_links": params.AccountLinkCreateParams,
    "transfers": params.TransferCreateParams,
    "transfers/list": params.TransferListParams,
    "reversals": params.TransferReversalCreateParams,
}


@dataclass
class Bank:
    """All that the double has; one lock around each request's work."""

    balance_minor: int = 10**12
    """What the platform has in each currency, in Stripe's minor units."""
    accounts: dict[str, Json] = field(default_factory=dict)
    transfers: dict[str, Json] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    keys: dict[str, Stored] = field(default_factory=dict)
    faults: list[Planned] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, idempotency key) as they came."""
    page_max: int = LIST_LIMIT_MAX
    """Most transfers on one page, whatever was asked for."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fault_for(self, form: Json) -> Planned | None:
        for fault in self.faults:
            if fault.times > 0 and fault.destination in {None, form.get("destination")}:
                fault.times -= 1
                return fault
        return None

    def act(self, method: str, path: list[str], form: Json) -> Json:
        """Do a request. Raises Refusal."""
        match method, path:
            case "POST", ["accounts"]:
                return self._open_account(_checked(form, "accounts"))
            case "GET", ["accounts", account_id]:
                return self._known(self.accounts, account_id, "account")
            case "POST", ["account_links"]:
                _checked(form, "account_links")
                self._known(self.accounts, form["account"], "account")
                now = int(time.time())
                url = f"https://connect.stripe.test/setup/{secrets.token_hex(8)}"
                return {"object": "account_link", "created": now, "expires_at": now + 300, "url": url}
            case "POST", ["transfers"]:
                return self._transfer(_checked(form, "transfers"))
            case "GET", ["transfers"]:
                return self._list(_checked(form, "transfers/list"))
            case "GET", ["transfers", transfer_id]:
                return self._known(self.transfers, transfer_id, "transfer")
            case "POST", ["transfers", transfer_id, "reversals"]:
                return self._reverse(transfer_id, _checked(form, "reversals"))
            case "GET", ["balance"]:
                currencies = sorted({"usd", *self.spent})
                available = [
                    {"amount": self.balance_minor - self.spent.get(each, 0), "currency": each} for each in currencies
                ]
                return {"object": "balance", "livemode": False, "available": available, "pending": []}
            case _:
                raise Refusal(404, f"Unrecognized request URL ({method}: /v1/{'/'.join(path)}).")

    def _known(self, things: dict[str, Json], name: str, what: str) -> Json:
        if name not in things:
            raise Refusal(404, f"No such {what}: '{name}'", code="resource_missing", param="id")
        return things[name]

    def _open_account(self, form: Json) -> Json:
        account_id = "acct_" + secrets.token_hex(8)
        self.accounts[account_id] = {
            "id": account_id,
            "object": "account",
            "type": form.get("type", "none"),
            "country": form.get("country", "US"),
            "email": form.get("email"),
            "capabilities": {"transfers": "active"},
            "charges_enabled": False,
            "payouts_enabled": True,
            "details_submitted": True,
            "metadata": form.get("metadata", {}),
            "created": int(time.time()),
        }
        return self.accounts[account_id]

    def _transfer(self, form: Json) -> Json:
        amount, currency, destination = _integer(form, "amount"), form["currency"], form["destination"]
        if destination not in self.accounts:
            raise Refusal(400, f"No such destination: '{destination}'", code="resource_missing", param="destination")
        if self.accounts[destination]["capabilities"]["transfers"] != "active":
            message = (
                "Your destination account needs to have at least one of the following capabilities enabled: transfers"
            )
            raise Refusal(400, message, code="insufficient_capabilities_for_transfer")
        if self.spent.get(currency, 0) + amount > self.balance_minor:
            message = "You have insufficient available funds in your Stripe account."
            raise Refusal(400, message, code="balance_insufficient")
        transfer_id = f"tr_{len(self.transfers) + 1:08d}{secrets.token_hex(8)}"
        self.spent[currency] = self.spent.get(currency, 0) + amount
        self.transfers[transfer_id] = {
            "id": transfer_id,
            "object": "transfer",
            "amount": amount,
            "amount_reversed": 0,
            "balance_transaction": "txn_" + secrets.token_hex(8),
            "created": int(time.time()),
            "currency": currency,
            "description": form.get("description"),
            "destination": destination,
            "destination_payment": "py_" + secrets.token_hex(8),
            "livemode": False,
            "metadata": form.get("metadata", {}),
            "reversals": {
                "object": "list",
                "data": [],
                "has_more": False,
                "total_count": 0,
                "url": f"/v1/transfers/{transfer_id}/reversals",
            },
            "reversed": False,
            "source_transaction": None,
            "source_type": "card",
            "transfer_group": form.get("transfer_group"),
        }
        return self.transfers[transfer_id]

    def _list(self, form: Json) -> Json:
        limit = int(form.get("limit", LIST_LIMIT))
        if not 1 <= limit <= LIST_LIMIT_MAX:
            raise Refusal(400, "Limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
        limit = min(limit, self.page_max)
        created = form.get("created", {})
        bounds = {name: int(value) for name, value in created.items()} if isinstance(created, dict) else {}
        found = [
            transfer
            for transfer in reversed(self.transfers.values())
            if form.get("transfer_group", transfer["transfer_group"]) == transfer["transfer_group"]
            and form.get("destination", transfer["destination"]) == transfer["destination"]
            and bounds.get("gte", 0) <= transfer["created"] <= bounds.get("lte", transfer["created"])
        ]
        after = form.get("starting_after")
        if after is not None:
            place = [transfer["id"] for transfer in found].index(after)
            found = found[place + 1 :]
        return {"object": "list", "url": "/v1/transfers", "has_more": len(found) > limit, "data": found[:limit]}

    def _reverse(self, transfer_id: str, form: Json) -> Json:
        transfer = self._known(self.transfers, transfer_id, "transfer")
        left = transfer["amount"] - transfer["amount_reversed"]
        amount = _integer(form, "amount") if "amount" in form else left
        if amount > left:
            raise Refusal(400, f"Reversal amount is greater than unreversed amount on transfer ({left})")
        transfer["amount_reversed"] += amount
        transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
        self.spent[transfer["currency"]] -= amount
        made = {
            "id": "trr_" + secrets.token_hex(8),
            "object": "transfer_reversal",
            "amount": amount,
            "currency": transfer["currency"],
            "transfer": transfer_id,
            "metadata": form.get("metadata", {}),
            "created": int(time.time()),
        }
        transfer["reversals"]["data"].insert(0, made)
        transfer["reversals"]["total_count"] += 1
        return made


def _checked(form: Json, what: str) -> Json:
    """Return a form whose parameters stripe-python knows. Raises Refusal as Stripe words it."""
    takes = _TAKES[what]
    for name in form:
        if name not in (takes.__required_keys__ | takes.__optional_keys__) - _OPTIONS:
            raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    for name in sorted(takes.__required_keys__):
        if name not in form:
            raise Refusal(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    return form


def _integer(form: Json, name: str) -> int:
    text = form.get(name, "")
    if not (isinstance(text, str) and text.isdecimal() and int(text) > 0):
        raise Refusal(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=name)
    return int(text)


def _read_form(text: str) -> Json:
    """Read `metadata[koc_item]=…&created[gte]=…` as nested dictionaries."""
    form: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        outer, bracket, rest = name.partition("[")
        if bracket:
            form.setdefault(outer, {})[rest.rstrip("]").replace("][", ".")] = value
        else:
            form[outer] = value
    return form


class _NoAnswer(Exception):
    """The line breaks."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together; the library's reader would else wait for the acknowledgement of the first.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        return

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        address = urlsplit(self.path)
        try:
            if address.path.startswith("/_control/"):
                status, answer = self._control(method, address.path.removeprefix("/_control/"), body)
            else:
                status, answer = self._stripe(method, address.path, body if method == "POST" else address.query)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        except _NoAnswer:
            # Closing with unread or unsent data and no linger makes the peer see a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Request-Id", "req_" + secrets.token_hex(7))
        self.end_headers()
        self.wfile.write(content)

    def _control(self, method: str, what: str, body: str) -> tuple[int, Json]:
        bank = self.server.bank
        with bank.lock:
            match method, what:
                case "POST", "faults":
                    asked = json.loads(body)
                    bank.faults.append(Planned(**(asked | {"kind": Fault(asked["kind"])})))
                    return 200, {"faults": len(bank.faults)}
                case "DELETE", "keys":
                    bank.keys.clear()
                    return 200, {}
                case "GET", "state":
                    return 200, {"transfers": list(bank.transfers.values()), "accounts": list(bank.accounts.values())}
                case _:
                    raise Refusal(404, "No such control.")

    def _stripe(self, method: str, path: str, text: str) -> tuple[int, Json]:
        bank = self.server.bank
        key = self.headers.get("Idempotency-Key")
        with bank.lock:
            bank.requests.append((method, path, key))
        if not (self.headers.get("Authorization") or "").startswith("Bearer sk_test_"):
            raise Refusal(401, "Invalid API Key provided.", code="api_key_invalid")
        parts = path.removeprefix("/v1/").strip("/").split("/")
        form = _read_form(text)
        if method != "POST":
            with bank.lock:
                return 200, bank.act(method, parts, form)
        return self._post(parts, form, key, (path, text))

    def _post(self, parts: list[str], form: Json, key: str | None, request: tuple[str, str]) -> tuple[int, Json]:
        bank = self.server.bank
        with bank.lock:
            known = bank.keys.get(key) if key is not None else None
            if known is not None:
                if known.answer is None:
                    message = "There is currently another in-progress request using this Idempotent Key."
                    raise Refusal(409, message, kind="idempotency_error", code="idempotency_key_in_use")
                if known.request != request:
                    message = "Keys for idempotent requests can only be used with the same parameters."
                    raise Refusal(400, message, kind="idempotency_error")
            fault = bank.fault_for(form)
            kind = fault.kind if fault else None
            if kind is Fault.RESET:
                raise _NoAnswer
            if kind is Fault.BUSY:
                raise Refusal(429, "Too many requests hit the API too quickly.", code="rate_limit")
            if kind is Fault.UNAUTHORIZED:
                raise Refusal(401, "Expired API Key provided.", code="api_key_expired")
            if known is not None and known.answer is not None:
                answer = known.answer
            else:
                entry = Stored(request)
                if key is not None:
                    bank.keys[key] = entry
                if fault is not None and kind is Fault.DELAYED:
                    # Others get in meanwhile and find the key in use.
                    bank.lock.release()
                    time.sleep(fault.seconds)
                    bank.lock.acquire()
                answer = entry.answer = self._answer(parts, form, kind)
        if kind is Fault.LOST:
            raise _NoAnswer
        if fault is not None and kind is Fault.TIMEOUT:
            time.sleep(fault.seconds)
        return answer

    def _answer(self, parts: list[str], form: Json, kind: Fault | None) -> tuple[int, Json]:
        """Do a request once and say what is answered to it from then on."""
        failed = Refusal(500, "An error occurred on our end.", kind="api_error")
        try:
            match kind:
                case Fault.ERROR_NOT_DONE:
                    raise failed
                case Fault.NO_FUNDS:
                    raise Refusal(400, "You have insufficient available funds.", code="balance_insufficient")
                case Fault.RESTRICTED:
                    message = "Your destination account needs at least one of these capabilities: transfers"
                    raise Refusal(400, message, code="insufficient_capabilities_for_transfer")
                case _:
                    done = self.server.bank.act("POST", parts, form)
                    if kind is Fault.ERROR_DONE:
                        raise failed
                    return 200, json.loads(json.dumps(done))
        except Refusal as refusal:
            return refusal.status, refusal.body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.bank = Bank()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away: that is what the faults are about."""


class StripeDouble:
    """The double for the length of a `with` block."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = _Server((host, port))
        self.url = f"http://{host}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bank(self) -> Bank:
        return self._server.bank

    @property
    def transfers(self) -> list[Json]:
        """What it did, oldest first."""
        with self.bank.lock:
            return list(self.bank.transfers.values())

    def account(self, account_id: str = "") -> str:
        """Open a connected account, under an id of the caller's choice if one is given."""
        with self.bank.lock:
            made = self.bank.act("POST", ["accounts"], {"type": "express"})
            if account_id:
                self.bank.accounts[account_id] = self.bank.accounts.pop(made["id"]) | {"id": account_id}
            return account_id or str(made["id"])

    def fault(self, kind: str, *, times: int = 1, destination: str | None = None, seconds: float = 1) -> None:
        """Let something go wrong with the next POSTs."""
        with self.bank.lock:
            self.bank.faults.append(Planned(Fault(kind), times, destination, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description="A Stripe double for trying payouts on one machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    chosen = parser.parse_args()
    server = _Server((chosen.host, chosen.port))
    print(
        f"Stripe double at http://{chosen.host}:{server.server_port}; any key that begins with sk_test_ will do.",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
