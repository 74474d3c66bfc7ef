"""The double on the network: requests read, keys kept, faults done, events signed and delivered."""

import json
import random
import secrets
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import stripe
from tests.doubles.stripe.bank import Bank, Stored
from tests.doubles.stripe.parts import Fault, Json, NoAnswer, Planned, Refusal

Sender = Callable[[bytes, dict[str, str]], int]
"""Delivers a body with headers; returns the status it was answered."""

_V2 = "/v2/"
_FAILED = Refusal(500, "An error occurred on our end.", kind="api_error")


def read_form(text: str) -> Json:
    """Read `metadata[koc_item]=…&types[0]=…` as nested dictionaries and lists."""
    form: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        *outer, last = name.replace("]", "").split("[")
        place = form
        for each in outer:
            place = place.setdefault(each, {})
        place[last] = value
    return {name: _lists(value) for name, value in form.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_lists(value[name]) for name in sorted(value, key=int)]
    return {name: _lists(each) for name, each in value.items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together; the library's reader would else wait for the acknowledgement of the first.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "Server"

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
                status, answer = self._control(method, address.path.removeprefix("/_control/").split("/"), body)
            else:
                status, answer = self._stripe(method, address.path, body if method == "POST" else address.query)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        except NoAnswer:
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

    def _control(self, method: str, what: Sequence[str], body: str) -> tuple[int, Json]:
        bank = self.server.bank
        asked = json.loads(body) if body else {}
        if (method, *what) == ("POST", "deliver"):
            # Without the lock: whoever is told may ask us about it at once.
            sent = deliver(bank, to(asked["url"]), asked["secret"], seed=asked.get("seed"))
            return 200, {"delivered": sent}
        with bank.lock:
            match method, *what:
                case "POST", "faults":
                    bank.faults.append(Planned(**(asked | {"kind": Fault(asked["kind"])})))
                    return 200, {"faults": len(bank.faults)}
                case "DELETE", "keys":
                    bank.keys.clear()
                    return 200, {}
                case "GET", "state":
                    return 200, {
                        "transfers": list(bank.transfers.values()),
                        "accounts": list(bank.accounts.values()),
                        "payments": list(bank.payments.made.values()),
                        "events": [*bank.events, *bank.payments.events],
                    }
                case "POST", "accounts", account_id, "onboard":
                    return 200, bank.onboard(account_id)
                case "POST", "accounts", account_id, "restrict":
                    return 200, bank.restrict(account_id)
                case "POST", "accounts", account_id, "payout":
                    return 200, bank.pay_bank(account_id, asked["amount"], status=asked["status"])
                case "POST", "transfers", transfer_id, "reverse":
                    return 200, bank.act("POST", ["transfers", transfer_id, "reversals"], asked)
                case "POST", "payments", payment_id, status:
                    return 200, bank.payments.become(payment_id, status)
                case _:
                    raise Refusal(404, "No such control.")

    def _stripe(self, method: str, path: str, text: str) -> tuple[int, Json]:
        bank = self.server.bank
        key = self.headers.get("Idempotency-Key")
        with bank.lock:
            bank.requests.append((method, path, key))
        if not (self.headers.get("Authorization") or "").startswith("Bearer sk_test_"):
            raise Refusal(401, "Invalid API Key provided.", code="api_key_invalid")
        is_json = path.startswith(_V2) and method == "POST"
        form: Json = json.loads(text) if is_json else read_form(text)
        if method != "POST":
            return self._read(method, path, form, text)
        with bank.lock:
            bank.bodies.append((path, form))
        return self._post(path, form, key, (path, text))

    def _read(self, method: str, path: str, form: Json, text: str) -> tuple[int, Json]:
        bank = self.server.bank
        with bank.lock:
            fault = bank.fault_for(method, path, form, self.headers.get("Stripe-Account"))
            answer = 200, self._act(method, path, form, text)
        match fault.kind if fault else None:
            case Fault.LOST | Fault.RESET:
                raise NoAnswer
            case Fault.ERROR_DONE | Fault.ERROR_NOT_DONE:
                raise _FAILED
            case Fault.TIMEOUT | Fault.DELAYED if fault is not None:
                time.sleep(fault.seconds)
            case kind:
                _turn_away(kind)
        return answer

    def _act(self, method: str, path: str, form: Json, text: str) -> Json:
        bank = self.server.bank
        if path.startswith(_V2):
            # Whoever has an account is a recipient too; API v2 made them one kind of thing.
            bank.payments.recipients |= bank.accounts.keys()
            return bank.payments.act(method, path, form, dict(parse_qsl(text)) if method == "GET" else {})
        parts = path.removeprefix("/v1/").strip("/").split("/")
        return bank.act(method, parts, form, self.headers.get("Stripe-Account"))

    def _post(self, path: str, form: Json, key: str | None, request: tuple[str, str]) -> tuple[int, Json]:
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
            fault = bank.fault_for("POST", path, form)
            kind = fault.kind if fault else None
            if kind is Fault.RESET:
                raise NoAnswer
            _turn_away(kind)
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
                answer = entry.answer = self._answer(path, form, kind)
                if path.startswith(_V2) and answer[0] >= 400 and key is not None:
                    # API v2 does failed work anew; what was done all the same is what the next try is answered.
                    self._forget(key, entry, done=kind is Fault.ERROR_DONE)
        if kind is Fault.LOST:
            raise NoAnswer
        if fault is not None and kind is Fault.TIMEOUT:
            time.sleep(fault.seconds)
        return answer

    def _forget(self, key: str, entry: Stored, *, done: bool) -> None:
        if done:
            entry.answer = (200, json.loads(json.dumps(list(self.server.bank.payments.made.values())[-1])))
        else:
            del self.server.bank.keys[key]

    def _answer(self, path: str, form: Json, kind: Fault | None) -> tuple[int, Json]:
        """Do a request once and say what is answered to it."""
        is_v2 = path.startswith(_V2)
        try:
            match kind:
                case Fault.ERROR_NOT_DONE:
                    raise _FAILED
                case Fault.NO_FUNDS:
                    raise _no_funds(is_v2=is_v2)
                case Fault.RESTRICTED:
                    raise _restricted(is_v2=is_v2)
                case _:
                    done = self._act("POST", path, form, "")
                    if kind is Fault.ERROR_DONE:
                        raise _FAILED
                    return 200, json.loads(json.dumps(done))
        except Refusal as refusal:
            return refusal.status, refusal.body


def _turn_away(kind: Fault | None) -> None:
    """Refuse what is not even looked at."""
    if kind is Fault.BUSY:
        raise Refusal(429, "Too many requests hit the API too quickly.", kind="rate_limit", code="rate_limit")
    if kind is Fault.UNAUTHORIZED:
        raise Refusal(401, "Expired API Key provided.", code="api_key_expired")
    if kind is Fault.FORBIDDEN:
        raise Refusal(403, "The provided key does not have the required permissions for this endpoint.")


def _no_funds(*, is_v2: bool) -> Refusal:
    message = "You have insufficient available funds."
    if is_v2:
        return Refusal(400, message, kind="insufficient_funds", code="outbound_payment_insufficient_funds")
    return Refusal(400, message, code="balance_insufficient")


def _restricted(*, is_v2: bool) -> Refusal:
    if is_v2:
        return Refusal(400, "The payout method is invalid.", kind="invalid_payout_method", code="invalid_payout_method")
    message = "Your destination account needs at least one of these capabilities: transfers"
    return Refusal(400, message, code="insufficient_capabilities_for_transfer")


def signed(event: Json, secret: str) -> tuple[bytes, dict[str, str]]:
    """Return an event as it is delivered: its bytes and headers, signed by the library's own hand."""
    body = json.dumps(event).encode()
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret)
    return body, {"Content-Type": "application/json", "Stripe-Signature": header}


def deliver(bank: Bank, send: Sender, secret: str, *, seed: int | None = None) -> int:
    """Deliver every event so far. seed: in an order of its own, and some of them twice. Returns how many were taken."""
    with bank.lock:
        events = [*bank.events, *bank.payments.events]
    if seed is not None:
        chance = random.Random(seed)
        events += chance.sample(events, len(events) // 2)
        chance.shuffle(events)
    return sum(1 for event in events if send(*signed(event, secret)) == 200)


def to(url: str) -> Sender:
    """Return a sender to an address."""

    def send(body: bytes, headers: dict[str, str]) -> int:
        request = urllib.request.Request(url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return send


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.bank = Bank()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away: that is what the faults are about."""


class StripeDouble:
    """The double for the length of a `with` block."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = Server((host, port))
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

    @property
    def payments(self) -> list[Json]:
        """Outbound payments it made, oldest first."""
        with self.bank.lock:
            return list(self.bank.payments.made.values())

    @property
    def events(self) -> list[Json]:
        """All that it would tell, oldest first of each version of the API."""
        with self.bank.lock:
            return [*self.bank.events, *self.bank.payments.events]

    def account(self, account_id: str = "") -> str:
        """Open a connected account that is onboarded, under an id of the caller's choice if one is given."""
        with self.bank.lock:
            made = self.bank.act("POST", ["accounts"], {"type": "express"})
            if account_id:
                self.bank.accounts[account_id] = self.bank.accounts.pop(made["id"]) | {"id": account_id}
            return account_id or str(made["id"])

    def fault(
        self,
        kind: str,
        *,
        times: int = 1,
        destination: str | None = None,
        seconds: float = 1,
        path: str | None = None,
    ) -> None:
        """Let something go wrong with the next POSTs, or with whatever is asked at a path."""
        with self.bank.lock:
            self.bank.faults.append(Planned(Fault(kind), times, destination, seconds, path))

    def signed(self, secret: str) -> Iterator[tuple[bytes, dict[str, str]]]:
        """Yield every event as it is delivered."""
        return (signed(event, secret) for event in self.events)
