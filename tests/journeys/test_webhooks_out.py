"""A merchant's system hears of everything, as its developer would see it: delivered, tried again, replayed, verified."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.testclient import TestClient

from service.api.deps import Service
from service.api.webhook_events import DATA
from service.domain.events import EventType
from service.infra.db import execute, unit_of_work
from service.infra.settings import Settings
from service.worker import run_once
from tests.doubles.receiver import Message, Receiver
from tests.support.shop import SECRET_KEY, Shop

Json = dict[str, Any]

ONLY_RAILS_TELL = {
    EventType.PAYOUT_SETTLED,
    EventType.PAYOUT_ABSENT,
    EventType.PAYOUT_REVERSED,
    EventType.PAYOUT_RETURNED,
    EventType.PAYOUT_FAILED,
    EventType.PAYOUT_RUN_STOPPED,
}
"""What needs a rail that does more than the sandbox: tests/stages/test_event_payloads.py."""
TOLD_ELSEWHERE = frozenset(
    each
    for each in EventType
    if each.partition(".")[0] in {"correction", "payout_file", "payout_method", "statement", "stripe_account"}
    and each is not EventType.PAYOUT_METHOD_ADDED
)
"""What has tests of its own: of corrections, files of payouts, payees' accounts, statements, and accounts at Stripe."""


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return settings with which the receiver, on this machine, may be called."""
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        webhook_allow_networks="127.0.0.0/8",
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def work(client: TestClient) -> None:
    """Let a worker do all that is due."""
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def wait(client: TestClient) -> None:
    """Let the time pass until the next tries."""
    service = cast("Service", client.app.state.service)  # type: ignore[attr-defined] # as above
    with unit_of_work(service.engine) as session:
        execute(session, "UPDATE webhook_delivery SET next_at = now() WHERE next_at IS NOT NULL")
        execute(session, "UPDATE webhook_endpoint SET rests_until = NULL")
        execute(session, "UPDATE job SET due_at = now()")


def verified(secret: str, message: Message) -> Json:
    opened: Json = Webhook(secret).verify(message.body, dict(message.headers))
    return opened


def test_a_webhook_is_delivered_tried_again_and_replayed(shop: Shop, client: TestClient, receiver: Receiver) -> None:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    made = shop.post("/v1/webhook-endpoints", {"url": receiver.url, "events": ["commission.*"]}).json()
    path = f"/v1/webhook-endpoints/{made['webhook_endpoint']['id']}"
    since = shop.time(minutes=1)

    receiver.does("500", "429 1", "reset")
    shop.an_order("1001", coupon_codes=["LAN"])
    for _ in range(4):
        work(client)
        wait(client)
    [delivery] = shop.get(f"{path}/deliveries").json()["data"]
    shop.post(f"{path}/deliveries/{delivery['id']}/replay")
    work(client)
    shop.post(f"{path}/replay", {"since": since, "until": shop.time(minutes=-1)})
    work(client)
    old = made["secret"]
    new = shop.post(f"{path}/rotate-secret", {"overlap_s": 3600}).json()["secret"]
    shop.post(f"{path}/deliveries/{delivery['id']}/replay")
    work(client)

    told = shop.get(f"{path}/deliveries/{delivery['id']}").json()
    print(f"\n{told['delivery']['event_type']} {told['delivery']['event_id']} as {delivery['id']}")
    for attempt, message in zip(reversed(told["attempts"]), receiver.messages, strict=True):
        opened = verified(old, message)
        print(
            f"  try {attempt['number']}: HTTP {attempt['http_status']} {attempt['result']:<11} "
            f"webhook-id {message.headers['webhook-id'][:12]}… "
            f"{len(message.headers['webhook-signature'].split())} signature(s), verified: {opened['type']} "
            f"{opened['data']['target_minor']} {opened['data']['currency']}"
        )
    print(f"  {told['delivery']['status']}, replayed {told['delivery']['replays']} times")

    assert [each["result"] for each in reversed(told["attempts"])] == [
        "refused",
        "busy",
        "unreachable",
        "delivered",
        "delivered",
        "delivered",
        "delivered",
    ]
    assert {each.headers["webhook-id"] for each in receiver.messages} == {delivery["event_id"]}
    assert len({each.body for each in receiver.messages}) == 1
    assert verified(new, receiver.messages[-1])["data"]["affiliate_id"] == lan["id"]
    with pytest.raises(WebhookVerificationError):
        verified(new, receiver.messages[0])


def _spend(shop: Shop) -> None:
    """Let a budget be nearly taken, taken, and raised."""
    asked = {"limit": {"amount_minor": 10**9, "currency": "USD"}, "starts_at": shop.time(days=1)}
    budget = shop.post(f"/v1/programs/{shop.program['id']}/budgets", asked).json()
    used = budget["used"]["amount_minor"]
    for limit in (used + used // 9, used, used * 100):
        changed = shop.post(f"/v1/budgets/{budget['id']}/limit", {"limit": {"amount_minor": limit, "currency": "USD"}})
        assert changed.status_code == 200, changed.text
        shop.post("/v1/jobs/settle", by="finance-maker")


def test_the_whole_life_cycle_is_told_as_described_and_names_nobody(
    shop: Shop, client: TestClient, receiver: Receiver
) -> None:
    made = shop.post("/v1/webhook-endpoints", {"url": receiver.url}).json()
    other = shop.post("/v1/webhook-endpoints", {"url": receiver.url, "events": ["inbox.parked"]}).json()
    manual = shop.a_program(settlement={"kind": "rolling", "start": "paid", "hold_days": 14, "approval": "manual"})
    lan = shop.an_affiliate("Lan Nguyen", email="lan@example.com")
    minh = shop.an_affiliate("Minh", program=manual, paid_to="sandbox_refuse")
    hoa = shop.an_affiliate("Hoa", approved=False, enrolled=False)
    shop.post(f"/v1/affiliates/{hoa['id']}/reject", {"reason_code": "no_followers"})
    shop.a_coupon(lan, "LAN")
    shop.a_coupon(minh, "MINH", program=manual)

    order = shop.order("1001", coupon_codes=["LAN"], customer={"email": "buyer@example.com"})
    shop.deliver(order)
    shop.deliver(shop.refund(order, "25.00"))
    shop.an_order("1002", coupon_codes=["NOBODYS"])
    _spend(shop)
    lost = shop.an_order("1003", coupon_codes=["LAN"])
    shop.post(f"/v1/orders/{lost['order_id']}/attribution", {"affiliate_id": None, "reason_code": "decided_by_mistake"})
    shop.an_order("1004", coupon_codes=["MINH"])
    shop.an_order("1005", coupon_codes=["MINH"])
    shop.deliver(b'{"type": "order", "id": "1006", "email": "buyer@example.com"}')
    first, second = (one for one in shop.get("/v1/commissions").json()["data"] if one["affiliate_id"] == minh["id"])
    shop.post(f"/v1/commissions/{first['id']}/approve", {"reason_code": "checked"})
    shop.post(f"/v1/commissions/{second['id']}/hold", {"reason_code": "fraud_suspected"})
    shop.post(f"/v1/commissions/{second['id']}/release", {"reason_code": "checked"})
    shop.post(f"/v1/commissions/{second['id']}/reject", {"reason_code": "terms_breach"})
    claimed = {"kind": "missing_order", "note": "Mrs Nguyen bought"}
    shop.post("/v1/me/claims", {**claimed, "order_number": "2001"}, by=lan["id"])
    lost_claim = shop.post("/v1/me/claims", {**claimed, "order_number": "2002"}, by=lan["id"]).json()
    shop.post(f"/v1/claims/{lost_claim['id']}/decide", {"outcome": "reject", "reason_code": "not_our_order"})
    shop.advance(days=15)
    shop.post("/v1/jobs/settle", by="finance-maker")
    for steps in (("cancel",), ("submit", "approve", "execute")):
        asked = {"rail": "sandbox", "currency": "USD"}
        run = shop.post("/v1/payout-runs", asked, by="finance-maker").json()
        for step in steps:
            by = "finance-checker" if step == "approve" else "finance-maker"
            assert shop.post(f"/v1/payout-runs/{run['id']}/{step}", by=by).is_success
    work(client)
    refused = [one for one in shop.get("/v1/payouts", by="read").json()["data"] if one["status"] == "refused"]
    for payout in refused:
        assert shop.post(f"/v1/payouts/{payout['id']}/release", by="finance-maker").is_success
    work(client)
    [joined] = shop.get(f"/v1/affiliates/{lan['id']}/enrollments").json()["data"]
    shop.post(f"/v1/affiliates/{lan['id']}/enrollments/{joined['id']}/end")
    shop.post(f"/v1/affiliates/{lan['id']}/suspend", {"reason_code": "fraud"})
    shop.post(f"/v1/programs/{manual['id']}/versions", {"terms": {"rules": [{"kind": "percent", "rate": "9"}]}})
    shop.post(f"/v1/webhook-endpoints/{made['webhook_endpoint']['id']}/ping")
    shop.post(f"/v1/webhook-endpoints/{other['webhook_endpoint']['id']}/disable")
    for _ in range(2):
        work(client)
        wait(client)

    told = {}
    for message in receiver.messages:
        body = json.loads(message.body)
        told[body["id"]] = body["type"]
        DATA[EventType(body["type"])].model_validate(body["data"])
        for secret in ("lan@", "buyer@", "Lan", "Nguyen", "NOBODYS", "sandbox_"):
            assert secret not in message.body.decode()
    assert set(EventType) - {EventType(each) for each in told.values()} == ONLY_RAILS_TELL | TOLD_ELSEWHERE
    events = shop.get("/v1/events", limit=200).json()
    assert {each["id"]: each["type"] for each in events["data"]} == told
    assert list(told.values()).count("commission.accrued") == 4
    assert list(told.values()).count("order.attributed") == 4
