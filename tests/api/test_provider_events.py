"""The door for Stripe's events: what is let in, what is kept, what is answered; and the list of compared days."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import stripe as library
from starlette.testclient import TestClient

from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.infra.ids import decode, encode, new_id
from service.infra.settings import Settings
from tests.doubles.stripe import StripeDouble, signed
from tests.support.shop import SECRET_KEY, Json, Shop

PATH = "/providers/stripe/events"
SECRET, OLD_SECRET = "whsec_secret_of_our_endpoint", "whsec_rolled_a_while_ago"


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as stripe:
        yield stripe


@pytest.fixture
def settings(database_url: str, stripe: StripeDouble) -> Settings:
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        stripe_secret_key="sk_test_double",
        stripe_api_base=stripe.url,
        stripe_webhook_secret=f"{OLD_SECRET}, {SECRET}",
        body_bytes_max=65_536,
    )


def an_event(**changes: object) -> Json:
    return {
        "id": "evt_1",
        "object": "event",
        "type": "transfer.created",
        "created": int(time.time()),
        "livemode": False,
        "data": {
            "object": {
                "id": "tr_1",
                "amount": 1,
                "amount_reversed": 0,
                "currency": "usd",
                "destination": "acct_1",
                "transfer_group": None,
                "metadata": {},
            }
        },
        **changes,
    }


def kept(client: TestClient) -> list[tuple[str, str]]:
    service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    with read_session(service.engine) as session:
        return [(row.id, row.state) for row in fetch(session, "SELECT id, state FROM provider_event ORDER BY id")]


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_a_signed_event_is_kept_and_answered_without_words(client: TestClient, secret: str) -> None:
    body, headers = signed(an_event(), secret)

    answer = client.post(PATH, content=body, headers=headers)

    assert (answer.status_code, answer.content) == (200, b"")
    assert kept(client) == [("evt_1", "foreign")]


def test_an_event_that_comes_again_is_answered_alike(client: TestClient) -> None:
    for _ in range(3):
        body, headers = signed(an_event(), SECRET)
        assert client.post(PATH, content=body, headers=headers).status_code == 200

    assert len(kept(client)) == 1


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no signature"),
        pytest.param({"Stripe-Signature": "t=1,v1=00"}, id="old and wrong"),
        pytest.param({"Stripe-Signature": "v1=00"}, id="no time"),
        pytest.param({"Stripe-Signature": "t=x,v1="}, id="nonsense"),
        pytest.param({"Stripe-Signature": f"t={2**40},v1=ä".encode("latin-1")}, id="bytes beyond ASCII"),
    ],
)
def test_what_is_not_signed_rightly_keeps_nothing(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post(PATH, content=json.dumps(an_event()), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")
    assert kept(client) == []


def test_another_secret_an_old_time_and_a_changed_body_are_refused(client: TestClient) -> None:
    body, theirs = signed(an_event(), "whsec_of_somebody_else")
    _, ours = signed(an_event(), SECRET)
    old = library.WebhookSignature.generate_signature_header(body.decode(), SECRET, int(time.time()) - 400)

    answers = [
        client.post(PATH, content=body, headers=theirs),
        client.post(PATH, content=body, headers={"Stripe-Signature": old}),
        client.post(PATH, content=body.replace(b"evt_1", b"evt_2"), headers=ours),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert kept(client) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"id": 5, "type": "transfer.created"}', b"\xff\xfe", b'{"id": "a", "id": "b", "type": "c"}'],
)
def test_signed_nonsense_is_no_event(client: TestClient, body: bytes) -> None:
    # Signed by hand: the library signs texts only.
    at = int(time.time())
    mac = hmac.new(SECRET.encode(), b"%d.%b" % (at, body), hashlib.sha256).hexdigest()

    answer = client.post(PATH, content=body, headers={"Stripe-Signature": f"t={at},v1={mac}"})

    assert (answer.status_code, answer.json()["code"]) == (422, "not-a-provider-event")
    assert kept(client) == []


@pytest.mark.parametrize(
    "event", [an_event(type="charge.succeeded"), an_event(livemode=True), an_event(type="payout.paid")]
)
def test_what_is_nothing_to_us_is_answered_and_not_kept(client: TestClient, event: Json) -> None:
    body, headers = signed(event, SECRET)

    assert client.post(PATH, content=body, headers=headers).status_code == 200
    assert kept(client) == []


def test_a_body_that_is_too_long_is_not_read(client: TestClient) -> None:
    body, headers = signed(an_event(padding="x" * 70_000), SECRET)

    answer = client.post(PATH, content=body, headers=headers)

    assert answer.status_code == 413
    assert kept(client) == []


def test_events_wake_the_worker(client: TestClient, shop: Shop) -> None:
    event = an_event()
    event["data"]["object"]["metadata"] = {"koc_merchant": shop.id}

    body, headers = signed(event, SECRET)
    client.post(PATH, content=body, headers=headers)

    assert kept(client) == [("evt_1", "waiting")]
    with read_session(shop.engine) as session:
        [job] = fetch(session, "SELECT kind, due_at FROM service_job")
    assert job.kind == "provider_events"
    assert job.due_at <= utc_now()


def test_another_method_is_none_of_it(client: TestClient) -> None:
    assert client.get(PATH).status_code == 405


class TestWithoutSecrets:
    @pytest.fixture
    def settings(self, database_url: str) -> Settings:
        return Settings(database_url=database_url, secret_key=SECRET_KEY, db_pool_size=7, db_admission=4)

    def test_nobody_listens_where_stripe_is_not_set_up(self, client: TestClient) -> None:
        body, headers = signed(an_event(), SECRET)

        answer = client.post(PATH, content=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (404, "provider-not-set-up")
        assert kept(client) == []


def a_day(shop: Shop, days_ago: int, *, currency: str = "USD", unexplained: int = 0) -> None:
    differences = [
        {
            "kind": "not_in_ledger",
            "reference": f"tr_{number}",
            "payout_id": encode("pay", new_id()),
            "provider_minor": 5,
            "ledger_minor": 0,
        }
        for number in range(unexplained)
    ]
    with unit_of_work(shop.engine) as session:
        execute(
            session,
            """
            INSERT INTO provider_reconciliation VALUES
            (:merchant_id, 'stripe_connect', :day, :currency, :provider, 10, 2, :unexplained,
             CAST(:differences AS jsonb), :unexplained, now())
            """,
            {
                "merchant_id": decode("mer", shop.id),
                "day": (utc_now() - timedelta(days=days_ago)).date(),
                "currency": currency,
                "provider": 10 + 5 * unexplained,
                "unexplained": unexplained,
                "differences": json.dumps(differences),
            },
        )


def test_compared_days_are_listed_newest_first_and_narrowed(shop: Shop) -> None:
    for days_ago in (3, 1, 2):
        a_day(shop, days_ago, unexplained=int(days_ago == 2))
        a_day(shop, days_ago, currency="VND")
    other = Shop(shop.client, name="Other")
    a_day(other, 1)

    first = shop.get("/v1/provider-reconciliations", by="read", limit=4).json()
    rest = shop.get("/v1/provider-reconciliations", by="read", limit=4, cursor=first["next_cursor"]).json()
    odd = shop.get("/v1/provider-reconciliations", unexplained="true").json()["data"]
    dong = shop.get("/v1/provider-reconciliations", currency="VND", rail="stripe_connect").json()["data"]

    days = [(each["day"], each["provider"]["currency"]) for each in first["data"] + rest["data"]]
    assert days == sorted(days, reverse=True)
    assert len(set(days)) == 6
    assert not rest["has_more"]
    [day] = odd
    assert day["unexplained"] == day["differences_total"] == 1
    assert day["differences"][0]["kind"] == "not_in_ledger"
    assert day["provider"]["amount_minor"] - day["ledger"]["amount_minor"] == 5
    assert len(dong) == 3
    assert shop.get("/v1/provider-reconciliations", cursor="bm8").status_code == 422
