"""No test talks to the outside: whoever tries learns it at once, by name."""

import ipaddress
import sys


class NetworkClosed(AssertionError):
    """A test reached for an address that is not this machine."""


def close() -> None:
    """Refuse, from now on in this process, every connection and name look-up beyond loopback."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        _refuse(arguments[0])
    elif event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        # A tuple is an internet address; a path is a socket on this machine.
        if isinstance(address, tuple):
            _refuse(address[0])


def _refuse(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in {"", "localhost"}:
        return
    try:
        if isinstance(name, str) and ipaddress.ip_address(name).is_loopback:
            return
    except ValueError:
        pass
    raise NetworkClosed(f"Tests may not reach {name}.")
