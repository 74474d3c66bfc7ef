"""Stripe and TikTok Shop at the door: what their senders are answered, and what becomes of the commission."""

import json
import random
import time
from contextlib import closing
from typing import Any, cast

import pytest
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.deps import Service
from service.infra import ids
from service.infra.db import fetch, make_engine, read_session, unit_of_work
from service.intake.adapters.model import Delivery
from service.intake.receive import KnownSource, reading_of, receive
from service.intake.record import Recorded, record
from service.rebuild.books import rebuild
from service.tables.parties import Platform
from service.tracking.find import ClickSigner
from tests.support import databases
from tests.support.payment_events import (
    INTENT,
    STRIPE_SECRET,
    TIKTOK_SECRET,
    Json,
    a_dispute,
    a_notice,
    a_refunded_charge,
    a_session,
    stripe_event,
    stripe_headers,
    tiktok_headers,
)
from tests.support.shop import Shop
from tests.support.webhooks import mutated

ORDER = "576486316948490001"
SHOP_ID = "7494049642642441621"
NOW_S = int(time.time())
DAY_S = 86_400


def the_service(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application


def a_source(shop: Shop, platform: str, secret: str, **parts: Any) -> str:
    """Make a source; return its id."""
    made = shop.post("/v1/sources", {"name": platform, "platform": platform, "secret": secret, **parts})
    assert made.status_code == 201, made.text
    return str(made.json()["source"]["id"])


def by_stripe(client: TestClient, source: str, event: Json | bytes, *, secret: str = STRIPE_SECRET) -> Response:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = stripe_headers(body, at=time.time(), secret=secret)
    return client.post(f"/intake/{source}", content=body, headers=headers)


def by_tiktok(client: TestClient, source: str, notice: Json | bytes, *, secret: str = TIKTOK_SECRET) -> Response:
    body = notice if isinstance(notice, bytes) else json.dumps(notice).encode()
    return client.post(f"/intake/{source}", content=body, headers=tiktok_headers(body, secret=secret))


@pytest.fixture
def stripe(shop: Shop) -> str:
    """Return the id of a Stripe source of a merchant whose coupon LAN10 is Lan's, at ten percent."""
    shop.a_coupon(shop.an_affiliate("Lan"), "LAN10")
    return a_source(shop, "stripe", STRIPE_SECRET)


@pytest.fixture
def tiktok(shop: Shop) -> str:
    """Return the id of a TikTok Shop source of a merchant whose coupon LAN10 is Lan's, at ten percent."""
    shop.a_coupon(shop.an_affiliate("Lan"), "LAN10")
    return a_source(shop, "tiktok_shop", TIKTOK_SECRET, shop_domain=SHOP_ID)


def a_sale(intent: str) -> list[Json]:
    """Events of one sale, in the order they happened: paid later, refunded twice, disputed and won."""
    start = NOW_S - 9 * DAY_S
    of: Json = {"payment_intent": intent}
    paid_later: Json = {**of, "id": f"cs_{intent}", "created": start, "payment_status": "unpaid"}
    charge: Json = {**of, "id": f"ch_{intent}"}
    dispute: Json = {**of, "id": f"du_{intent}", "charge": f"ch_{intent}", "created": start + 5 * DAY_S}
    return [
        a_session(at=start + 60, **paid_later),
        a_session(kind="async_payment_succeeded", at=start + DAY_S, **paid_later),
        a_refunded_charge(1200, at=start + 2 * DAY_S, **charge),
        a_refunded_charge(2700, at=start + 3 * DAY_S, **charge),
        stripe_event("refund_updated", at=start + 3 * DAY_S, **of),
        a_dispute(at=start + 5 * DAY_S, **dispute),
        a_dispute("won", kind="closed", at=start + 7 * DAY_S, **dispute),
    ]


def standing(commission: Json) -> tuple[Any, ...]:
    return (
        commission["target"]["amount_minor"],
        commission["places"]["pending"]["amount_minor"],
        commission["reason_code"],
        commission["settles_at"],
    )


def test_a_sale_its_refunds_and_its_dispute_earn_the_same_in_any_order_once_or_twice(
    shop: Shop, client: TestClient, stripe: str
) -> None:
    dice = random.Random(4)
    for number in range(8):
        events = a_sale(f"pi_{number}")
        told = events if number == 0 else events[::-1] if number == 1 else dice.sample(events * 2, 14)
        assert {by_stripe(client, stripe, event).status_code for event in told} == {200}

    commissions = shop.get("/v1/commissions").json()["data"]

    # A tenth of 45.00 less 22.50: half the goods came back with their tax.
    assert {commission["order_external_id"] for commission in commissions} == {f"pi_{number}" for number in range(8)}
    assert len({standing(commission) for commission in commissions}) == 1
    assert standing(commissions[0])[:3] == (225, 225, "in_hold_period")


def test_what_comes_before_its_session_waits_for_it(shop: Shop, client: TestClient, stripe: str) -> None:
    refunded, sold = a_refunded_charge(at=NOW_S - DAY_S), a_session(at=NOW_S - 2 * DAY_S, created=NOW_S - 2 * DAY_S)

    waiting = by_stripe(client, stripe, refunded).json()
    applied = by_stripe(client, stripe, sold).json()

    assert (waiting["state"], waiting["reason_code"]) == ("waiting", "order_not_here_yet")
    assert applied["understood"]["goods_minor"] == 4500
    assert {each["state"] for each in shop.get("/v1/inbox").json()["data"]} == {"applied"}


def test_a_dispute_holds_a_failed_payment_cancels(shop: Shop, client: TestClient, stripe: str) -> None:
    sold: Json = {"at": NOW_S - 3 * DAY_S, "created": NOW_S - 3 * DAY_S}
    by_stripe(client, stripe, a_session(**sold))
    by_stripe(client, stripe, a_dispute(at=NOW_S - 2 * DAY_S, created=NOW_S - 2 * DAY_S))
    later: Json = {"payment_intent": "pi_later", "payment_status": "unpaid", "created": NOW_S - 3 * DAY_S}
    by_stripe(client, stripe, a_session(at=NOW_S - 3 * DAY_S, **later))
    by_stripe(client, stripe, a_session(kind="async_payment_failed", at=NOW_S - DAY_S, **later))

    commissions = {each["order_external_id"]: each for each in shop.get("/v1/commissions").json()["data"]}

    assert (commissions[INTENT]["status"], commissions[INTENT]["reason_code"]) == ("held", "dispute_open")
    assert commissions["pi_later"]["target"]["amount_minor"] == 0
    assert commissions["pi_later"]["reason_code"] == "order_cancelled"


def test_other_events_of_the_same_sale_pay_nothing_twice(shop: Shop, client: TestClient, stripe: str) -> None:
    by_stripe(client, stripe, a_session(at=NOW_S - DAY_S, created=NOW_S - DAY_S))
    for kind in ("payment_intent.succeeded", "charge.succeeded", "charge.captured"):
        answer = by_stripe(client, stripe, a_refunded_charge(0, kind=kind, at=NOW_S - DAY_S))
        assert (answer.status_code, answer.json()["state"]) == (200, "ignored")

    [commission] = shop.get("/v1/commissions").json()["data"]

    assert commission["target"]["amount_minor"] == 450


def test_events_with_one_placeholder_id_are_told_apart_by_their_bytes(client: TestClient, stripe: str) -> None:
    sold, refunded = a_session() | {"id": "evt_0"}, a_refunded_charge() | {"id": "evt_0"}

    first, second, again = (by_stripe(client, stripe, event).json() for event in (sold, refunded, sold))

    assert first["inbox_id"] == again["inbox_id"] != second["inbox_id"]
    assert (first["repeated"], second["repeated"], again["repeated"]) == (False, False, True)


def test_a_wrongly_signed_event_keeps_nothing(shop: Shop, client: TestClient, stripe: str) -> None:
    answer = by_stripe(client, stripe, a_session(), secret="whsec_of_somebody_else")

    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")
    assert shop.get("/v1/inbox").json()["data"] == []


def test_a_test_payment_counts_at_a_test_merchant_and_is_ignored_at_a_live_one(
    shop: Shop, client: TestClient, stripe: str
) -> None:
    live = a_source(Shop(client, is_test=False), "stripe", STRIPE_SECRET)
    tried = a_session() | {"livemode": False}

    here, there = by_stripe(client, stripe, tried).json(), by_stripe(client, live, tried).json()

    assert (here["state"], here["reason_code"]) == ("applied", None)
    assert (there["state"], there["reason_code"]) == ("ignored", "test_order")


def test_a_secret_of_another_kind_is_refused_when_the_source_is_made(shop: Shop) -> None:
    for platform, secret in (
        ("stripe", "sk_live_0123456789abcdef"),
        ("tiktok_shop", "0123456789abcdef0123456789abcdef"),
        ("tiktok_shop", ":0123456789abcdef0123456789abcdef"),
    ):
        answer = shop.post("/v1/sources", {"name": "Shop", "platform": platform, "secret": secret})
        assert (answer.status_code, answer.json()["code"]) == (422, "unusable-secret")


# TikTok Shop.


def states(shop: Shop) -> list[tuple[str, str | None]]:
    """State and reason of every delivery, newest first."""
    return [(each["state"], each["reason_code"]) for each in shop.get("/v1/inbox").json()["data"]]


def bring(client: TestClient, shop: Shop, source: str, event: Json) -> Recorded:
    """Let an order or refund in our own format come into a source, as an import does."""
    service = the_service(client)
    known = KnownSource(ids.decode("src", source), ids.decode("mer", shop.id), Platform.TIKTOK_SHOP, b"")
    reading = reading_of(service.security, ClickSigner(service.security), known.merchant_id)
    body = json.dumps(event).encode()
    received = receive(known, Delivery(f"import-{len(body)}", "", body), reading, grammar=Platform.GENERIC)
    with unit_of_work(service.engine) as session:
        return record(session, [received])[0]


def the_order(shop: Shop) -> Json:
    return shop.order(ORDER, coupon_codes=["LAN10"], milestones={})


def only(shop: Shop) -> Json:
    [commission] = shop.get("/v1/commissions").json()["data"]
    return cast("Json", commission)


def test_whatever_became_of_a_notice_the_answer_is_200_and_empty(shop: Shop, client: TestClient, tiktok: str) -> None:
    answers = [
        by_tiktok(client, tiktok, a_notice()),
        by_tiktok(client, tiktok, a_notice(order_status="UNPAID")),
        by_tiktok(client, tiktok, a_notice(order_status="LOST_AT_SEA")),
        by_tiktok(client, tiktok, b"no json"),
        by_tiktok(client, tiktok, a_notice()),
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"")}
    assert states(shop) == [
        ("parked", "invalid_json"),
        ("parked", "unknown_status"),
        ("ignored", "no_milestone"),
        ("waiting", "order_not_here_yet"),
    ]


def test_a_wrongly_signed_notice_is_a_401(shop: Shop, client: TestClient, tiktok: str) -> None:
    answer = by_tiktok(client, tiktok, a_notice(), secret="6aexampleKey:of-somebody-else")

    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")
    assert states(shop) == []


def test_a_notice_of_another_shop_parks(shop: Shop, client: TestClient, tiktok: str) -> None:
    by_tiktok(client, tiktok, a_notice() | {"shop_id": 1})

    assert states(shop) == [("parked", "other_shop_domain")]


def test_notices_wait_for_the_order_and_count_when_it_is_imported(shop: Shop, client: TestClient, tiktok: str) -> None:
    delivered_at = NOW_S - 600
    for status in ("COMPLETED", "IN_TRANSIT", "DELIVERED"):
        by_tiktok(client, tiktok, a_notice(order_status=status, at=NOW_S, update_time=delivered_at))
    waiting = states(shop)

    brought = bring(client, shop, tiktok, the_order(shop))

    assert waiting == [("waiting", "order_not_here_yet")] * 3
    assert brought.state == "applied"
    assert states(shop) == [("applied", None)] * 4
    assert (only(shop)["target"]["amount_minor"], only(shop)["reason_code"]) == (1000, "in_hold_period")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_cancelled_order_earns_nothing_whichever_comes_first(
    shop: Shop, client: TestClient, tiktok: str, is_late: bool
) -> None:
    if is_late:
        bring(client, shop, tiktok, the_order(shop))
    by_tiktok(client, tiktok, a_notice(order_status="CANCELLED", at=NOW_S, update_time=NOW_S - 60))
    if not is_late:
        bring(client, shop, tiktok, the_order(shop))

    [order] = shop.get("/v1/orders").json()["data"]

    assert order["status"] == "cancelled"
    commissions = shop.get("/v1/commissions").json()["data"]
    assert [each["target"]["amount_minor"] for each in commissions] in ([0], [])
    timeline = shop.get(f"/v1/orders/{order['id']}/timeline").text
    assert "The whole order was cancelled." in timeline


def test_a_return_holds_until_its_refund_is_imported_under_its_id(shop: Shop, client: TestClient, tiktok: str) -> None:
    order = the_order(shop)
    bring(client, shop, tiktok, order)
    complete = "RETURN_OR_REFUND_REQUEST_COMPLETE"
    by_tiktok(client, tiktok, a_notice("return", return_status=complete, at=NOW_S - 60))
    held = only(shop)

    bring(client, shop, tiktok, shop.refund(order, "40.00", "4035227007538690001"))

    assert (held["status"], held["reason_code"]) == ("held", "hold_open")
    assert (only(shop)["target"]["amount_minor"], only(shop)["places"]["held"]["amount_minor"]) == (600, 0)


# Both.


def test_books_of_both_made_again_come_out_the_same(
    shop: Shop, client: TestClient, stripe: str, database_url: str
) -> None:
    tiktok = a_source(shop, "tiktok_shop", TIKTOK_SECRET)
    for event in a_sale("pi_again"):
        by_stripe(client, stripe, event | {"livemode": False})
    by_stripe(client, stripe, a_dispute("lost", kind="closed", at=NOW_S - 60, payment_intent="pi_again"))
    by_tiktok(client, tiktok, a_notice(order_status="CANCELLED", at=NOW_S, update_time=NOW_S - 60))
    bring(client, shop, tiktok, the_order(shop))

    service = the_service(client)
    merchant_id = ids.decode("mer", shop.id)
    with databases.new_database(migrated=True) as url, closing(_Disposed(url)) as into:
        rebuilt = rebuild(service.engine, into.engine, merchant_id, service.security, tell=lambda *_: None)

    assert rebuilt.findings == []
    assert rebuilt.deliveries == 9


class _Disposed:
    """An engine that lets go of its connections when it is closed."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url, pool_size=2)

    def close(self) -> None:
        self.engine.dispose()


@pytest.fixture
def doors(shop: Shop) -> tuple[str, str]:
    return a_source(shop, "stripe", STRIPE_SECRET), a_source(shop, "tiktok_shop", TIKTOK_SECRET)


# One merchant serves all examples: nothing is asked of them that depends on the ones before.
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_rightly_signed_is_kept(
    client: TestClient, doors: tuple[str, str], shop: Shop, data: st.DataObject
) -> None:
    stripe, tiktok = doors
    event = data.draw(mutated([a_session(), a_refunded_charge(), a_dispute("lost", kind="closed")]))
    notice = data.draw(mutated([a_notice(), a_notice("return"), a_notice("cancellation")]))

    assert by_stripe(client, stripe, event).status_code in {200, 202}
    answer = by_tiktok(client, tiktok, notice)

    assert (answer.status_code, answer.content) == (200, b"")
    with read_session(the_service(client).engine) as session:
        broken = fetch(session, "SELECT detail FROM inbox WHERE reason_code = 'internal_error'")
    assert [row.detail for row in broken] == []
