"""A shop's web server with TLS on this machine, for tests in a browser: pages as they are given, and what was sent to it."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.infra.clock import utc_now

HOSTS = ("shop.example", "checkout.shop.example", "elsewhere.example", "buy.stripe.com")


class Site:
    """What the shop shows and what it was sent. Pages by path; `sent`: (host and path, fields) of each form."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pages: dict[str, str] = {}
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.asked: list[str] = []
        self.cart: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def forget(self) -> None:
        """Begin anew: no pages, nothing sent."""
        self.__init__(self.port)  # type: ignore[misc] # as new, for the server that holds this one


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Yield a running shop. folder: where its certificate is put, which nobody vouches for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    site = Site(server.server_address[1])
    server.site = site  # type: ignore[attr-defined] # the handler finds it there
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _site(self) -> Site:
        site: Site = self.server.site  # type: ignore[attr-defined] # put there by `serve`
        return site

    def do_GET(self) -> None:
        self._site.asked.append(f"https://{self.headers['host']}{self.path}")
        path = urlsplit(self.path).path
        if path == "/cart.js":
            self._answer(json.dumps({"attributes": self._site.cart}), "application/json")
        else:
            self._answer(self._site.pages.get(path, "<!doctype html>"), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        fields = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
        if self.path == "/cart/update.js":
            # As the shop system does it: attributes[name]=value, an empty value takes it out.
            for name, value in fields.items():
                self._site.cart[name.removeprefix("attributes[").removesuffix("]")] = value
            self._answer(json.dumps({"attributes": self._site.cart}), "application/json")
        else:
            self._site.sent.append((f"{self.headers['host']}{self.path}", fields))
            self._answer("<!doctype html><title>Thanks</title>", "text/html; charset=utf-8")

    def _answer(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(200)
        for name, value in {"content-type": kind, "content-length": str(len(content)), **self._site.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name for it
        pass


def _certificate(folder: Path) -> Path:
    """One file with a key and a certificate of our own making for all hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    now = utc_now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "shop.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
