"""Delivering events: none missed, each handed to an endpoint once, tried again by the clock, by one worker at a time."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import Session
from standardwebhooks import Webhook

from service.domain.delivery import GIVE_UP_AFTER, TRIES_MAX, WAITS, DeliveryState
from service.domain.events import EventType
from service.infra.clock import utc_now
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.infra.ids import encode, new_id
from service.infra.outgoing import Caller, Limits
from service.infra.security import Security
from service.infra.standard_webhooks import new_secret
from service.outbox.deliver import (
    FAN_OUT_AT_ONCE,
    KEPT_FOR,
    LEASE,
    SECRET_PURPOSE,
    Post,
    claim,
    drain,
    fan_out,
    forget,
    ping,
    record,
    turn,
    wake,
    wake_queued,
)
from service.outbox.emit import Event, emit
from service.outbox.poster import PER_ENDPOINT, Poster
from service.tables.parties import MerchantRow
from service.tables.webhooks import WebhookEndpointRow
from tests.doubles.receiver import Receiver
from tests.support.shop import SECRET_KEY

LOOPBACK = [ip_network("127.0.0.0/8")]


@dataclass
class House:
    """A merchant, a worker with a clock that the test moves, and endpoints at receivers of the test."""

    engine: Engine
    security: Security
    poster: Poster
    now: datetime = field(default_factory=utc_now)
    merchant_id: UUID = field(default_factory=new_id)
    secrets: dict[UUID, str] = field(default_factory=dict)

    @property
    def post(self) -> Post:
        return Post(self.engine, self.security, self.poster, lambda: self.now)

    def another_worker(self, stack: ExitStack) -> Post:
        return Post(self.engine, self.security, stack.enter_context(posting()), lambda: self.now)

    def endpoint(self, url: str, *events: str, **parts: Any) -> UUID:
        """Make an endpoint that listens to everything unless it is told to what."""
        row = WebhookEndpointRow(
            merchant_id=self.merchant_id,
            id=new_id(),
            url=url,
            events=list(events or ["*"]),
            created_at=self.now,
            updated_at=self.now,
            **parts,
        )
        self.secrets[row.id] = new_secret()
        row.secret = self.security.encrypt(self.secrets[row.id].encode(), purpose=SECRET_PURPOSE)
        with unit_of_work(self.engine) as session:
            session.add(row)
        return row.id

    def event(self, type_: EventType = EventType.PAYOUT_SENT, **payload: Any) -> Event:
        return Event(self.merchant_id, type_, new_id(), payload, self.now)

    def tell(self, *events: Event) -> list[UUID]:
        with unit_of_work(self.engine) as session:
            return emit(session, list(events) or [self.event()])

    def work(self, post: Post | None = None) -> datetime:
        """One turn, and whatever it left under way. Returns when the next is due."""
        chosen = post or self.post
        next_at = turn(chosen, merchant_id=self.merchant_id, until=self.now + timedelta(days=1))
        drain(chosen, wait_s=20)
        return next_at

    def claim(self, post: Post) -> list[Any]:
        return run_unit(self.engine, partial(claim, post=post, merchant_id=self.merchant_id, now=self.now))

    def rows(self, statement: str) -> Any:
        with read_session(self.engine) as session:
            return fetch(session, statement)

    def delivery(self) -> Any:
        [row] = self.rows("SELECT * FROM webhook_delivery")
        return row

    def results(self) -> list[str]:
        return [row.result for row in self.rows("SELECT result FROM webhook_attempt ORDER BY delivery_id, number")]


def posting() -> Any:
    """A poster for loopback that is closed when the test is over. Nothing of ours is slow, so time is short."""

    class Closing(Poster):
        def __enter__(self) -> "Closing":
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return Closing(Caller(allowed=LOOPBACK, limits=Limits(connect_s=5, total_s=5)))


@pytest.fixture
def house(engine: Engine) -> Iterator[House]:
    with posting() as poster:
        made = House(engine, Security(base64.b64decode(SECRET_KEY)), poster)
        with unit_of_work(engine) as session:
            session.add(
                MerchantRow(id=made.merchant_id, name="Shop", is_test=True, time_zone="UTC", created_at=made.now)
            )
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def test_an_event_arrives_as_standard_webhooks_wants_it(house: House, receiver: Receiver) -> None:
    endpoint = house.endpoint(receiver.url)
    [event_id] = house.tell(house.event(EventType.COMMISSION_ACCRUED, currency="VND", target_minor=31_250))

    house.work()

    [message] = receiver.messages
    opened = Webhook(house.secrets[endpoint]).verify(message.body, dict(message.headers))
    assert opened == {
        "id": encode("evt", event_id),
        "type": "commission.accrued",
        "timestamp": house.now.isoformat().replace("+00:00", "Z"),
        "data": {"currency": "VND", "target_minor": 31_250},
    }
    assert message.headers["webhook-id"] == encode("evt", event_id)
    assert message.headers["content-type"] == "application/json"
    row = house.delivery()
    assert (row.state, row.tries, row.next_at, row.last_result) == ("delivered", 1, None, "delivered")


def test_a_merchant_nobody_listens_for_queues_nothing(house: House, receiver: Receiver) -> None:
    house.tell()
    house.endpoint(receiver.url, disabled_at=house.now, disabled_reason="by_person")
    house.tell()

    house.work()

    assert house.rows("SELECT FROM webhook_queue") == []
    assert (len(house.rows("SELECT FROM outbox")), receiver.messages) == (2, [])


def test_each_endpoint_gets_what_it_listens_to_once(house: House) -> None:
    with Receiver() as everything, Receiver() as money, Receiver() as one:
        house.endpoint(everything.url)
        house.endpoint(money.url, "payout.*", "commission.paid")
        house.endpoint(one.url, "inbox.parked")
        house.tell(*[house.event(each) for each in EventType if each is not EventType.WEBHOOK_ENDPOINT_PING])

        house.work()
        house.work()

    def types(receiver: Receiver) -> list[str]:
        return sorted(json.loads(each.body)["type"] for each in receiver.messages)

    told = [each.value for each in EventType if each is not EventType.WEBHOOK_ENDPOINT_PING]
    assert types(everything) == sorted(told)
    assert types(money) == sorted(each for each in told if each.startswith("payout.") or each == "commission.paid")
    assert types(one) == ["inbox.parked"]


def test_an_event_that_commits_late_is_not_missed(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    with unit_of_work(house.engine) as slow:
        # Its id is made first, and it commits last: whoever goes by ids has passed it by then.
        [late] = emit(slow, [house.event()])
        [early] = house.tell()
        house.work()
        assert [each.headers["webhook-id"] for each in receiver.messages] == [encode("evt", early)]
        assert late < early

    house.work()

    assert [each.headers["webhook-id"] for each in receiver.messages[1:]] == [encode("evt", late)]


def test_an_event_that_is_rolled_back_is_told_to_nobody(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)

    def fail(session: Session) -> None:
        emit(session, [house.event()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_unit(house.engine, fail)
    house.work()

    assert receiver.messages == []


def test_two_that_fan_out_at_once_share_the_queue(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell(*[house.event() for _ in range(FAN_OUT_AT_ONCE + 20)])

    with unit_of_work(house.engine) as one, unit_of_work(house.engine) as other:
        first = fan_out(one, merchant_id=house.merchant_id, now=house.now)
        second = fan_out(other, merchant_id=house.merchant_id, now=house.now)

    assert (first, second) == (FAN_OUT_AT_ONCE, 20)
    assert len(house.rows("SELECT FROM webhook_delivery")) == FAN_OUT_AT_ONCE + 20


def test_it_is_tried_eight_times_by_the_clock_and_given_up(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell()
    receiver.does(*["500"] * TRIES_MAX)
    tried = []

    for number in range(TRIES_MAX):
        tried.append(house.now)
        house.work()
        assert len(receiver.messages) == number + 1
        due = house.delivery().next_at
        if due is not None:
            house.now = due - timedelta(milliseconds=1)
            house.work()
            house.now = due

    assert len(receiver.messages) == TRIES_MAX
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert all(wait <= waited <= wait * 1.06 for wait, waited in zip(WAITS, waits, strict=True))
    assert (house.delivery().state, house.delivery().last_result) == ("failed", "refused")
    assert {each.headers["webhook-id"] for each in receiver.messages} == {receiver.messages[0].headers["webhook-id"]}
    assert {each.body for each in receiver.messages} == {receiver.messages[0].body}
    [detail] = {row.detail for row in house.rows("SELECT detail FROM webhook_attempt")}
    assert detail == "no \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"


@pytest.mark.parametrize(
    ("does", "result"),
    [
        ("500", "refused"),
        ("404", "refused"),
        ("302 http://169.254.169.254/", "redirected"),
        ("reset", "unreachable"),
        ("silent", "unreachable"),
        ("garbage", "protocol"),
    ],
)
def test_what_came_of_a_try_is_kept_and_it_is_tried_again(
    house: House, receiver: Receiver, does: str, result: str
) -> None:
    house.endpoint(receiver.url)
    house.tell()
    receiver.does(does)

    next_at = house.work()
    row = house.delivery()
    assert (row.state, row.last_result, house.results()) == ("pending", result, [result])
    # The worker looks again when it is due, not before and not much later.
    house.now = max(next_at, row.next_at)
    house.work()

    assert (house.delivery().state, house.results()) == ("delivered", [result, "delivered"])


def test_a_receiver_that_asks_for_time_gets_it_with_all_its_events(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell()
    receiver.does("429 120")
    house.work()
    house.tell()

    house.now += timedelta(seconds=119)
    house.work()
    assert len(receiver.messages) == 1
    house.now += timedelta(seconds=1)
    house.work()

    assert len(receiver.messages) == 3
    assert [row.state for row in house.rows("SELECT state FROM webhook_delivery")] == ["delivered"] * 2


def test_an_endpoint_that_is_gone_is_disabled_and_the_others_hear_of_it(house: House, receiver: Receiver) -> None:
    gone = house.endpoint(receiver.url, "payout.*")
    with Receiver() as other:
        house.endpoint(other.url, "webhook_endpoint.*")
        house.tell()
        receiver.does("410")
        house.work()
        house.tell()
        house.work()

    assert len(receiver.messages) == 1
    [message] = other.messages
    assert json.loads(message.body)["data"] == {
        "webhook_endpoint_id": encode("whk", gone),
        "reason_code": "gone",
    }
    [row] = house.rows(f"SELECT disabled_reason FROM webhook_endpoint WHERE id = '{gone}'")
    assert row.disabled_reason == "gone"


def test_an_endpoint_that_fails_for_five_days_is_disabled(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    receiver.does("500")
    house.tell()
    house.work()
    [row] = house.rows("SELECT failing_since, disabled_at FROM webhook_endpoint")
    assert (row.failing_since, row.disabled_at) == (house.now, None)

    house.now += GIVE_UP_AFTER
    receiver.does("500")
    house.work()

    [row] = house.rows("SELECT disabled_reason, disabled_at FROM webhook_endpoint")
    assert (row.disabled_reason, row.disabled_at) == ("failing", house.now)
    assert [row.type for row in house.rows("SELECT type FROM outbox ORDER BY id")][-1] == "webhook_endpoint.disabled"


def test_a_success_in_between_lets_an_endpoint_live(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    receiver.does("500")
    house.tell()
    house.work()
    house.now += GIVE_UP_AFTER
    house.work()
    receiver.does("500")
    house.tell()
    house.work()

    [row] = house.rows("SELECT failures, failing_since, disabled_at FROM webhook_endpoint")
    assert (row.failures, row.failing_since, row.disabled_at) == (1, house.now, None)


@pytest.mark.parametrize(
    "point", [CrashPoint.WEBHOOK_CLAIMED, CrashPoint.WEBHOOK_ANSWERED, CrashPoint.WEBHOOK_RECORD_BEFORE_COMMIT]
)
def test_after_a_workers_death_another_delivers_again(house: House, receiver: Receiver, point: CrashPoint) -> None:
    house.endpoint(receiver.url)
    house.tell()
    with ExitStack() as stack:
        dead, alive = (house.another_worker(stack) for _ in range(2))
        with crashing_at(point), pytest.raises(Crashed):
            house.work(dead)
        arrived = len(receiver.messages)

        house.work(alive)
        assert len(receiver.messages) == arrived
        house.now += LEASE
        house.work(alive)

    assert len(receiver.messages) == arrived + 1
    assert len({each.headers["webhook-id"] for each in receiver.messages}) == 1
    assert (house.delivery().state, house.delivery().tries, house.delivery().fence) == ("delivered", 1, 2)


def test_one_of_two_workers_sends_each_try(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell(*[house.event() for _ in range(PER_ENDPOINT)])
    run_unit(house.engine, partial(fan_out, merchant_id=house.merchant_id, now=house.now))

    with ExitStack() as stack:
        one, other = (house.another_worker(stack) for _ in range(2))
        first, second = house.claim(one), house.claim(other)

    assert len({each.id for each in first}) == PER_ENDPOINT
    assert second == []


def test_what_is_said_after_the_lease_has_ended_does_not_count(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell()
    run_unit(house.engine, partial(fan_out, merchant_id=house.merchant_id, now=house.now))
    [slow] = house.claim(house.post)
    house.now += LEASE
    [again] = house.claim(house.post)
    for each in (slow, again):
        house.poster.send(each)
    arrived: dict[int, Any] = {}
    while len(arrived) < 2:
        arrived |= {each.claimed.fence: each for each in house.poster.arrived(wait_s=5)}

    def recorded(fence: int) -> int:
        keep = partial(record, merchant_id=house.merchant_id, tried=[arrived[fence]], now=house.now)
        return run_unit(house.engine, keep)

    assert [recorded(1), house.delivery().state] == [0, DeliveryState.SENDING]
    assert [recorded(2), house.delivery().state] == [1, DeliveryState.DELIVERED]
    # Told again, as after a commit that nobody heard of.
    assert [recorded(2), house.delivery().tries] == [0, 1]
    assert house.results() == ["delivered", "delivered"]


def test_a_slow_endpoint_holds_up_nobody_else_and_few_threads(house: House, receiver: Receiver) -> None:
    with Receiver() as slow:
        slow.does(*["slow"] * 20)
        house.endpoint(slow.url)
        house.endpoint(receiver.url)
        house.tell(*[house.event() for _ in range(20)])

        next_at = turn(house.post, merchant_id=house.merchant_id, until=house.now + timedelta(days=1))

        assert len(receiver.messages) == 20
        assert house.poster.under_way == PER_ENDPOINT
        assert house.now < next_at <= house.now + timedelta(seconds=1)
        slow.release()
        drain(house.post, wait_s=20)
        house.work()

    assert len(slow.messages) == 20
    assert {row.state for row in house.rows("SELECT state FROM webhook_delivery")} == {"delivered"}


def test_an_endpoint_that_cannot_be_reached_is_asked_one_thing_at_a_time(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    house.tell(*[house.event() for _ in range(10)])
    receiver.does(*["reset"] * PER_ENDPOINT)
    house.work()
    assert len(receiver.messages) == PER_ENDPOINT

    [row] = house.rows("SELECT rests_until FROM webhook_endpoint")
    house.now = row.rests_until
    receiver.does("reset")
    house.work()

    assert len(receiver.messages) == PER_ENDPOINT + 1


def test_while_a_secret_is_replaced_both_verify_and_afterwards_only_the_new_one(
    house: House, receiver: Receiver
) -> None:
    old = new_secret()
    endpoint = house.endpoint(
        receiver.url,
        previous_secret=house.security.encrypt(old.encode(), purpose=SECRET_PURPOSE),
        previous_secret_until=house.now + timedelta(hours=1),
    )
    house.tell()
    house.work()
    house.now += timedelta(hours=1)
    house.tell()
    house.work()

    during, after = receiver.messages
    for message, signed_by in ((during, [house.secrets[endpoint], old]), (after, [house.secrets[endpoint]])):
        assert len(message.headers["webhook-signature"].split(" ")) == len(signed_by)
        for secret in signed_by:
            Webhook(secret).verify(message.body, dict(message.headers))


def test_a_secret_that_cannot_be_read_any_more_stops_nothing_else(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    broken = house.endpoint(receiver.url)
    with unit_of_work(house.engine) as session:
        execute(session, r"UPDATE webhook_endpoint SET secret = '\x00' WHERE id = :id", {"id": broken})
    house.tell()

    house.work()

    assert len(receiver.messages) == 1
    assert sorted(row.state for row in house.rows("SELECT state FROM webhook_delivery")) == ["delivered", "sending"]


def test_a_ping_goes_to_its_endpoint_only(house: House, receiver: Receiver) -> None:
    endpoint = house.endpoint(receiver.url, "payout.*")
    with Receiver() as other:
        house.endpoint(other.url)
        run_unit(
            house.engine,
            partial(ping, merchant_id=house.merchant_id, endpoint_id=endpoint, at=house.now, now=house.now),
        )
        house.work()

    assert other.messages == []
    [message] = receiver.messages
    assert json.loads(message.body)["type"] == "webhook_endpoint.ping"


def test_the_job_is_woken_when_events_wait_and_when_a_person_wants_something(house: House, receiver: Receiver) -> None:
    def due() -> datetime:
        found: datetime = house.rows("SELECT due_at FROM job")[0].due_at
        return found

    def sleep_on() -> None:
        later = house.now + timedelta(minutes=5)
        run_unit(house.engine, lambda session: execute(session, "UPDATE job SET due_at = :at", {"at": later}))

    run_unit(house.engine, partial(wake, merchant_id=house.merchant_id, now=house.now))
    assert due() == house.now
    house.endpoint(receiver.url)
    sleep_on()
    assert run_unit(house.engine, partial(wake_queued, now=house.now)) == 0
    house.tell()
    assert run_unit(house.engine, partial(wake_queued, now=house.now)) == 1
    assert due() == house.now
    sleep_on()
    run_unit(house.engine, partial(wake, merchant_id=house.merchant_id, now=house.now))
    assert due() == house.now


def test_what_was_done_long_ago_is_forgotten_and_its_event_is_not(house: House, receiver: Receiver) -> None:
    house.endpoint(receiver.url)
    receiver.does("500")
    house.tell()
    house.work()
    at = partial(forget, merchant_id=house.merchant_id)

    assert run_unit(house.engine, partial(at, now=house.now + KEPT_FOR + timedelta(seconds=2))) == 0
    assert run_unit(house.engine, partial(at, now=house.now + KEPT_FOR + timedelta(hours=1))) == 1

    assert [len(house.rows(f"SELECT FROM {table}")) for table in ("webhook_attempt", "webhook_delivery", "outbox")] == [
        0,
        0,
        1,
    ]
