"""Which addresses may be called on behalf of others, in every spelling an attacker has."""

from ipaddress import ip_address, ip_network

import pytest

from service.domain.addresses import Refusal, as_address, is_numeric, leave_for, why_refused

REFUSED = [
    "0.0.0.0",  # noqa: S104 - refused, not listened on
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:a00:1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a00:1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
CALLED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
]


@pytest.mark.parametrize("written", REFUSED)
def test_what_is_not_public_is_refused(written: str) -> None:
    assert why_refused(ip_address(written)) is not None


@pytest.mark.parametrize("written", CALLED)
def test_what_is_public_is_called(written: str) -> None:
    assert why_refused(ip_address(written)) is None


def test_a_detour_is_told_from_a_place() -> None:
    assert why_refused(ip_address("2002:808:808::1")) is Refusal.TUNNEL
    assert why_refused(ip_address("::ffff:10.0.0.1")) is Refusal.SPECIAL


def test_only_the_networks_that_are_allowed_are_excepted_and_in_every_spelling() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")]

    assert why_refused(ip_address("10.1.2.3"), allowed=allowed) is None
    assert why_refused(ip_address("::ffff:10.1.2.3"), allowed=allowed) is None
    assert why_refused(ip_address("fd00:1::5"), allowed=allowed) is None
    assert why_refused(ip_address("10.2.0.1"), allowed=allowed) is Refusal.SPECIAL
    assert why_refused(ip_address("fd00:2::5"), allowed=allowed) is Refusal.SPECIAL


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "0", "0x", "127.0.0.1.", "1.2.3.0x4", "example.1"],
)
def test_a_number_is_no_name_however_it_is_written(host: str) -> None:
    assert is_numeric(host)


@pytest.mark.parametrize("host", ["shop.example", "1and1.example", "0x7f.example", "xn--bcher-kva.example", ""])
def test_a_name_is_no_number(host: str) -> None:
    assert not is_numeric(host)


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "017700000001", "shop.example", ""])
def test_only_the_plain_spelling_is_read_as_an_address(host: str) -> None:
    assert as_address(host) is None
    assert as_address("[::1]") == as_address("::1") == ip_address("::1")


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("::ffff:127.1.2.3", "127.0.0.0/8"),
        ("::1", "::1/128"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("64:ff9b::a01:203", "10.1.2.3/32"),
        ("fe80::1%eth0", "fe80::1/128"),
    ],
)
def test_the_leave_that_is_named_is_enough(written: str, network: str) -> None:
    address = ip_address(written)

    assert str(leave_for(address)) == network
    assert why_refused(address, allowed=[leave_for(address)]) is None
