"""Posting to an address somebody else chose: against a real receiver that misbehaves, and names that lie."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from service.infra.outgoing import (
    AddressRefused,
    Caller,
    Limits,
    NoHttp,
    OutOfTime,
    TlsFailed,
    Unreachable,
    retry_after,
)
from tests.domain.test_addresses import CALLED, REFUSED
from tests.doubles.receiver import HUGE, Receiver

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LOOPBACK = [ip_network("127.0.0.0/8")]
SHORT = Limits(connect_s=5, total_s=0.3)


@pytest.fixture(scope="module")
def _one() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(_one: Receiver) -> Iterator[Receiver]:
    yield _one
    _one.release()
    _one.messages.clear()
    _one.released.clear()


def leads_to(*addresses: str) -> Any:
    """A look-up that leads every name to these addresses, at the port that was asked for."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    return resolve


def post(url: str, **parts: Any) -> Any:
    return Caller(**{"allowed": LOOPBACK, **parts}).post(url, headers={"x-test": "1"}, body=b"{}")


def test_a_message_arrives_once_with_its_headers_and_the_name_of_the_host(receiver: Receiver) -> None:
    url = f"http://shop.example:{receiver.port}/hook?a=b"

    answer = post(url, resolve=leads_to("127.0.0.1"))

    assert (answer.status, answer.body) == (200, b"thanks")
    [message] = receiver.messages
    assert (message.path, message.body, message.headers["x-test"]) == ("/hook", b"{}", "1")
    assert message.headers["host"] == f"shop.example:{receiver.port}"


def test_this_machine_is_not_called_unless_it_is_allowed(receiver: Receiver) -> None:
    with pytest.raises(AddressRefused):
        post(receiver.url, allowed=[])

    assert receiver.messages == []


@pytest.mark.parametrize("address", REFUSED)
def test_a_name_that_leads_to_what_is_not_public_is_not_called(address: str) -> None:
    with pytest.raises(AddressRefused):
        post("http://shop.example/", allowed=[], resolve=leads_to(address))


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "017700000001", "127.1", "0"])
def test_numbers_are_judged_by_what_the_system_makes_of_them(host: str) -> None:
    with pytest.raises(AddressRefused):
        # As the system's look-up answers for them; of 0 it makes 0.0.0.0, a neighbour here.
        post(f"http://{host}/", allowed=[], resolve=leads_to("0.0.0.1" if host == "0" else "127.0.0.1"))


def test_one_address_that_may_not_be_called_is_a_reason_to_call_none(receiver: Receiver) -> None:
    for order in (("127.0.0.1", "10.0.0.1"), ("10.0.0.1", "127.0.0.1")):
        with pytest.raises(AddressRefused):
            post(receiver.url, resolve=leads_to(*order))

    assert receiver.messages == []


def test_a_name_is_looked_up_once_and_the_connection_goes_where_that_led(receiver: Receiver) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[tuple[Any, ...]]:
        """A public-looking answer first, and another one for whoever asks again."""
        asked.append(host)
        return leads_to("127.0.0.1" if len(asked) == 1 else "127.0.0.2")(host, port)  # type: ignore[no-any-return] # as leads_to makes it

    # 127.0.0.1 stands for the public address; 127.0.0.2, which the second answer leads to, is not allowed.
    answer = post(f"http://shop.example:{receiver.port}/", allowed=[ip_network("127.0.0.1/32")], resolve=rebinding)

    assert (answer.status, asked) == (200, ["shop.example"])
    with pytest.raises(AddressRefused):
        post(f"http://shop.example:{receiver.port}/", allowed=[ip_network("127.0.0.1/32")], resolve=rebinding)


def test_a_redirect_is_told_and_not_followed(receiver: Receiver) -> None:
    with Receiver() as elsewhere:
        receiver.does(f"302 {elsewhere.url}", "307 http://169.254.169.254/latest/meta-data/")

        assert [post(receiver.url).status for _ in range(2)] == [302, 307]
        assert (len(receiver.messages), elsewhere.messages) == (2, [])


def test_only_the_beginning_of_a_huge_answer_is_read(receiver: Receiver) -> None:
    receiver.does("huge")

    assert len(post(receiver.url).body) == Limits().body_bytes < HUGE


def test_an_answer_that_breaks_off_has_still_said_its_status(receiver: Receiver) -> None:
    receiver.does("half")

    assert (post(receiver.url).status, post(receiver.url).body) == (200, b"thanks")


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("slow", OutOfTime),
        ("trickle", OutOfTime),
        ("reset", Unreachable),
        ("silent", Unreachable),
        ("garbage", NoHttp),
    ],
)
def test_what_goes_wrong_has_a_name(receiver: Receiver, what: str, error: type[Exception]) -> None:
    receiver.does(what)

    with pytest.raises(error):
        post(receiver.url, limits=SHORT if error is OutOfTime else Limits())


def test_a_port_where_nobody_listens_and_a_name_nobody_knows_are_unreachable() -> None:
    def unknown(host: str, port: int) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            post(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    with pytest.raises(Unreachable):
        post("http://shop.example/", resolve=unknown)
    with pytest.raises(Unreachable):
        post("http://shop.example/", resolve=leads_to())


def test_the_next_address_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    # Nobody listens at the first.
    assert post(f"http://shop.example:{receiver.port}/", resolve=leads_to("127.0.0.2", "127.0.0.1")).status == 200


def test_what_speaks_no_tls_is_not_spoken_to(receiver: Receiver) -> None:
    with pytest.raises((TlsFailed, Unreachable)):
        post(f"https://shop.example:{receiver.port}/", resolve=leads_to("127.0.0.1"))

    assert receiver.messages == []


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        assert post(receiver.url).status == 200
        assert (len(receiver.messages), proxy.messages) == (1, [])


def test_there_are_public_addresses_that_would_be_called() -> None:
    # The other tests could not fail for a caller that refuses all. The network is closed, which names itself.
    with pytest.raises(AssertionError, match="Tests may not reach"):
        post("http://shop.example/", allowed=[], resolve=leads_to(CALLED[0]))


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        (" 120 ", timedelta(minutes=2)),
        ("9" * 400, timedelta(seconds=10**8)),
        ("Fri, 20 Nov 2026 12:10:00 GMT", timedelta(minutes=10)),
        ("Fri, 20 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("Fri, 20 Nov 2026 12:10:00", timedelta(minutes=10)),
        ("Fri, 20 Nov 99999999999999999999 12:10:00 GMT", None),
        ("Fri, 20 Nov 2026 12:10:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(told: str | None, asked: timedelta | None) -> None:
    assert retry_after(told, now=NOON) == asked
