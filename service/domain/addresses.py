"""Which internet addresses a server of ours may call when somebody else says where: public ones, and no detour to others."""

from collections.abc import Collection
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Refusal(StrEnum):
    """Why an address is not called."""

    SPECIAL = "special"
    """Private, loopback, link-local (the clouds' metadata services live there), shared, reserved or multicast."""
    TUNNEL = "tunnel"
    """An IPv6 address that stands for an IPv4 one in a way no public server needs: 6to4, Teredo, ISATAP, NAT64 of a site."""


# Written out, not left to the library's `is_global`, whose meaning changes between versions of Python.
# Source: the IANA special-purpose address registries, read 2026-11.
_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # Reachable from every machine of the cloud by that name, though the address looks public: Azure's own services.
        "168.63.129.16/32",
        "::/128",
        "::1/128",
        "100::/64",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_TUNNELS: tuple[Network, ...] = tuple(
    ip_network(each)
    for each in (
        # IPv4-compatible, IPv4-translated, NAT64 within a site, Teredo and the other protocol assignments, 6to4.
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
    )
)
_THIS_MACHINE = IPv4Network("127.0.0.0/8")
_NAT64 = IPv6Network("64:ff9b::/96")
_PUBLIC_V6 = IPv6Network("2000::/3")
_ISATAP = {0x00005EFE, 0x02005EFE}


def why_refused(address: Address, *, allowed: Collection[Network] = ()) -> Refusal | None:
    """Why an address must not be called, None if it may.

    allowed: networks that may be called all the same. An IPv4 address inside of an IPv6 one (mapped, or by the well-known
    prefix of NAT64, through which hosts without IPv4 reach the public net) is judged as what it is.
    """
    address = _unwrapped(address)
    if any(address in network for network in allowed):
        return None
    if any(address in network for network in _SPECIAL):
        return Refusal.SPECIAL
    if isinstance(address, IPv6Address):
        if any(address in network for network in _TUNNELS) or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return Refusal.TUNNEL
        # What no registry has given out yet is no public server's.
        if address not in _PUBLIC_V6:
            return Refusal.SPECIAL
    return None


def leave_for(address: Address) -> Network:
    """The network that has to be allowed for an address to be called: no more than that, but this machine as a whole."""
    plain = _unwrapped(address)
    return _THIS_MACHINE if plain in _THIS_MACHINE else ip_network(plain)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.scope_id is not None:
            # Compared by number only: with a zone an address equals none of its network.
            return IPv6Address(int(address))
    return address


def is_numeric(host: str) -> bool:
    """Whether a host in a URL is an address in some spelling (decimal, octal, hexadecimal, short) rather than a name.

    By the rule of browsers: a name whose last part is a number is no name. Source: WHATWG URL standard, "ends in a number".
    """
    last = host.rstrip(".").rpartition(".")[2].lower()
    return (last.isascii() and last.isdigit()) or (
        last.startswith("0x") and all(digit in "0123456789abcdef" for digit in last[2:])
    )


def as_address(host: str) -> Address | None:
    """The address that a host in a URL is, if it is one written in the one plain way; else None."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
