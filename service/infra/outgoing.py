"""POST to an address that somebody else chose, without becoming their tool: to public addresses only, once, in bounds.

The name is resolved here, once; every address it leads to is checked, and the connection goes to one that was checked,
while Host and TLS keep the name. So a name that answers differently the second time gains nothing. Nothing is followed,
no proxy of the environment is used, and time, size and number of tries have a limit.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore2

from service.domain.addresses import Network, as_address, why_refused

ADDRESSES_MAX = 4
"""Addresses of one name that are tried before it counts as unreachable."""
_READ_AT_ONCE = 16 * 1024

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""What `socket.getaddrinfo` does with a host and a port."""


class AddressRefused(Exception):
    """The name leads to an address that is not called."""


class OutOfTime(Exception):
    """The whole of it took too long."""


class Unreachable(Exception):
    """No connection, or a broken one."""


class TlsFailed(Exception):
    """The certificate was not accepted, or the handshake failed."""


class NoHttp(Exception):
    """What came was not HTTP, or too large a head."""


@dataclass(frozen=True, slots=True)
class Limits:
    """connect_s: for one connection and its handshake. total_s: from the look-up to the last byte read."""

    connect_s: float = 5
    total_s: float = 15
    body_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answered:
    """headers: names in lower case. body: its beginning, as far as the limit allows."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Ask the system for all addresses of a name."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def retry_after(told: str | None, *, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for: seconds or a date, RFC 9110 section 10.2.3. None where it says nothing usable."""
    told = (told or "").strip()
    if told.isascii() and told.isdecimal():
        return timedelta(seconds=min(int(told[:9]), 10**8))
    try:
        until = parsedate_to_datetime(told)
    # With every other error: a number in it may be beyond all dates.
    except (ValueError, OverflowError):
        return None
    # A date in the header is in GMT by definition, also where it fails to say so.
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(until - now, timedelta(0))


class Caller:
    """Calls addresses that others chose. Safe to share among threads; keeps no connection.

    allowed: networks that may be called though they are not public.
    """

    def __init__(
        self, *, allowed: Collection[Network] = (), limits: Limits = Limits(), resolve: Resolve = look_up
    ) -> None:
        self._allowed = tuple(allowed)
        self._limits = limits
        self._resolve = resolve
        # Reading the system's certificates takes longer than a call; ours never changes it afterwards.
        self._tls = httpcore2.default_ssl_context()

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answered:
        """Send once and read the answer. Raises AddressRefused, OutOfTime, Unreachable, TlsFailed or NoHttp.

        Once the status is here it counts, even if the rest of the answer never comes.
        """
        network = _Checked(self._resolve, self._allowed, until=time.monotonic() + self._limits.total_s)
        times = {"connect": self._limits.connect_s, "read": self._limits.total_s, "write": self._limits.total_s}
        with (
            _named(),
            httpcore2.ConnectionPool(
                ssl_context=self._tls, max_connections=1, max_keepalive_connections=0, network_backend=network
            ) as pool,
            pool.stream(
                "POST",
                url,
                headers=[(name, value) for name, value in headers.items()],
                content=body,
                extensions={"timeout": times},
            ) as answer,
        ):
            told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            return Answered(answer.status, told, self._beginning(answer))

    def _beginning(self, answer: httpcore2.Response) -> bytes:
        read = bytearray()
        # An answer that breaks off has still said its status, which is all that counts.
        with contextlib.suppress(
            httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OutOfTime
        ):
            for part in answer.iter_stream():
                read += part[: self._limits.body_bytes - len(read)]
                if len(read) >= self._limits.body_bytes:
                    break
        return bytes(read)


class _Checked(httpcore2.NetworkBackend):
    """Connects to addresses it has checked itself. One for each call, since it holds the call's deadline."""

    def __init__(self, resolve: Resolve, allowed: Collection[Network], *, until: float) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._until = until

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - the library's signature; nobody asks for one
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002 - as above
    ) -> httpcore2.NetworkStream:
        try:
            # With every other error of a look-up: a label of a name may be too long to be asked for.
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"The name {host} is not known.") from error
        # All of them before any is called: one that may not be called is a reason to call none.
        for *_, place in found:
            self._check(host, str(place[0]))
        failure: OSError | None = None
        for family, kind, protocol, _, place in list(found)[:ADDRESSES_MAX]:
            line = socket.socket(family, kind, protocol)
            try:
                line.settimeout(self._left(timeout))
                line.connect(place)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                line.close()
                failure = error
            except BaseException:
                line.close()
                raise
            else:
                return _Timed(line, self._left)
        if isinstance(failure, TimeoutError):
            raise OutOfTime("No connection in time.") from failure
        raise Unreachable("No connection could be made.") from failure

    def _check(self, host: str, written: str) -> None:
        address = as_address(written)
        if address is None or why_refused(address, allowed=self._allowed) is not None:
            # Without the address: who chose the name is not to learn by it what names lead to inside our network.
            raise AddressRefused(
                f"{host} leads to an address that is not public; who runs the service may allow its network by"
                " KOC_WEBHOOK_ALLOW_NETWORKS, such as 127.0.0.0/8 for this machine."
            )

    def _left(self, timeout: float | None) -> float:
        """Seconds that one step may take: what is asked for, or what is left of the whole. Raises OutOfTime."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise OutOfTime("The whole took too long.")
        return left if timeout is None else min(left, timeout)


class _Timed(httpcore2.NetworkStream):
    """A connection each of whose steps fits into the time that is left. A trickle of bytes holds nobody for ever."""

    def __init__(self, line: socket.socket, left: Callable[[float | None], float]) -> None:
        self._line = line
        self._left = left
        self._heard = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._line.settimeout(self._left(timeout))
        try:
            data = self._line.recv(min(max_bytes, _READ_AT_ONCE))
        except TimeoutError as error:
            raise OutOfTime("No answer in time.") from error
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        if not data and not self._heard:
            # The library would call it a breach of HTTP; nothing was said at all.
            raise httpcore2.ReadError("closed without an answer")
        self._heard = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._line.settimeout(self._left(timeout))
            try:
                rest = rest[self._line.send(rest) :]
            except TimeoutError as error:
                raise OutOfTime("The receiver took nothing in time.") from error
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._line.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            self._line.settimeout(self._left(timeout))
            return _Timed(ssl_context.wrap_socket(self._line, server_hostname=server_hostname), self._left)
        except ssl.SSLError as error:
            self.close()
            raise TlsFailed(error.reason or "handshake failed") from error
        except TimeoutError as error:
            self.close()
            raise OutOfTime("No TLS handshake in time.") from error
        except OSError as error:
            self.close()
            raise Unreachable("The connection broke in the TLS handshake.") from error
        except OutOfTime:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        # The library asks whether a rested connection still lives, and for TLS's choice of protocol: 1.1 is all we speak.
        return True if info == "is_readable" else None


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Call the library's own errors by our names."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise OutOfTime("No answer in time.") from error
    except httpcore2.NetworkError as error:
        raise Unreachable("The connection broke before an answer came.") from error
    except httpcore2.ProtocolError as error:
        raise NoHttp("No answer in HTTP came.") from error
