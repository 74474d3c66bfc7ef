"""Webhook endpoints over HTTP: who may make them, where they may be, what they are told, and telling it again."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.api.webhook_endpoints import ENDPOINTS_MAX, UnusableUrl, check_url
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.infra.settings import Settings
from service.worker import run_once
from tests.doubles.receiver import Receiver
from tests.support.shop import SECRET_KEY, Shop

Json = dict[str, Any]
PATH = "/v1/webhook-endpoints"


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return settings with which the receivers of a test, on this machine, may be called."""
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


def service_of(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined] # typed as any ASGI application


def an_endpoint(shop: Shop, url: str = "https://erp.example/koc", **parts: Any) -> Json:
    answer = shop.post(PATH, {"url": url, **parts})
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


def deliver(shop: Shop) -> None:
    """Let a worker do all that is due."""
    service = service_of(shop.client)
    run_once(service.engine, service.settings, service.security)


def deliveries(shop: Shop, endpoint: Json, **query: Any) -> list[Json]:
    found: list[Json] = shop.get(f"{PATH}/{endpoint['id']}/deliveries", **query).json()["data"]
    return found


def test_an_endpoint_is_made_shown_changed_and_deleted(shop: Shop) -> None:
    made = an_endpoint(shop, events=["payout.*", "commission.paid", "payout.*"], description="ERP")
    endpoint = made["webhook_endpoint"]
    path = f"{PATH}/{endpoint['id']}"

    assert made["secret"].startswith("whsec_")
    assert (endpoint["events"], endpoint["enabled"]) == (["commission.paid", "payout.*"], True)
    assert shop.get(path).json() == endpoint == shop.get(PATH).json()["data"][0]

    changed = shop.patch(path, {"url": "https://new.example/", "events": ["*"], "description": "New"}).json()
    assert (changed["url"], changed["events"], changed["description"]) == ("https://new.example/", ["*"], "New")
    assert shop.patch(path, {}).json()["url"] == "https://new.example/"

    assert shop.client.delete(path, headers=shop.key_of("admin")).status_code == 204
    assert (shop.get(path).status_code, shop.get(PATH).json()["data"]) == (404, [])
    assert shop.client.delete(path, headers=shop.key_of("admin")).status_code == 404


def test_a_secret_is_shown_once_and_kept_encrypted(shop: Shop) -> None:
    made = an_endpoint(shop)
    endpoint = made["webhook_endpoint"]

    with read_session(service_of(shop.client).engine) as session:
        [row] = fetch(session, "SELECT secret FROM webhook_endpoint")
    assert made["secret"].encode() not in bytes(row.secret)
    assert made["secret"] not in shop.get(f"{PATH}/{endpoint['id']}").text

    rotated = shop.post(f"{PATH}/{endpoint['id']}/rotate-secret", {"overlap_s": 60}).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["webhook_endpoint"]["previous_secret_until"] is not None
    at_once = shop.post(f"{PATH}/{endpoint['id']}/rotate-secret", {"overlap_s": 0}).json()
    assert at_once["webhook_endpoint"]["previous_secret_until"] is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://erp.example/",
        "//erp.example/",
        "https:///koc",
        "https://user@erp.example/",
        "https://user:word@erp.example/",
        "https://erp.example/#part",
        "https://erp.example/caf\u00e9",
        "https://b\u00fccher.example/",
        "https://erp.example/a b",
        "https://erp.example/a\nb",
        "https://erp.example/\tkoc",
        " https://erp.example/",
        "https://erp.example:22/",
        "https://erp.example:6553600/",
        "https://erp.example:0/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://128.1/",
        "https://-erp.example/",
        "https://erp..example/",
        "https://erp.example\\@evil.example/",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(UnusableUrl):
        check_url(url, Settings(secret_key=SECRET_KEY), is_test=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://erp.example",
        "https://erp.example:8443/koc?shop=1",
        "http://erp.example/koc",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:443/",
        "https://xn--bcher-kva.example/%C3%A9",
        "http://10.1.2.3:9000/",
        "http://localhost:9000/",
    ],
)
def test_an_address_that_can_be_used_is_taken(url: str) -> None:
    settings = Settings(secret_key=SECRET_KEY, webhook_allow_networks="10.1.0.0/16, fd00:1::/64")

    check_url(url, settings, is_test=True)
    if url.startswith("http://"):
        with pytest.raises(UnusableUrl):
            check_url(url, settings, is_test=False)


def test_a_live_merchant_is_told_over_tls_only(client: TestClient) -> None:
    live = Shop(client, is_test=False)

    assert live.post(PATH, {"url": "http://erp.example/"}).json()["code"] == "unusable-webhook-url"
    endpoint = an_endpoint(live)["webhook_endpoint"]
    assert live.patch(f"{PATH}/{endpoint['id']}", {"url": "http://erp.example/"}).status_code == 422


@pytest.mark.parametrize("events", [[], ["order.shipped"], ["payout"], ["*.*"], ["payout.s*"], "*", [1]])
def test_only_types_that_exist_can_be_listened_to(shop: Shop, events: Any) -> None:
    answer = shop.post(PATH, {"url": "https://erp.example/", "events": events})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text


def test_who_names_a_type_that_does_not_exist_is_told_what_there_is(shop: Shop) -> None:
    answer = shop.post(PATH, {"url": "https://erp.example/", "events": ["order.shipped"]})

    [part] = answer.json()["errors"]
    assert part["pointer"] == "#/events/0"
    assert (
        "commission.*, correction.*, inbox.*, order.*, payout.*, payout_file.*, payout_method.*, payout_run.*"
        in part["detail"]
    )
    assert "/openapi.json" in part["detail"]


def test_there_are_only_so_many(shop: Shop) -> None:
    for _ in range(ENDPOINTS_MAX):
        an_endpoint(shop)

    answer = shop.post(PATH, {"url": "https://erp.example/"})

    assert (answer.status_code, answer.json()["code"]) == (409, "too-many-webhook-endpoints")


def test_readers_look_and_admins_change(shop: Shop, client: TestClient) -> None:
    endpoint = an_endpoint(shop)["webhook_endpoint"]
    path = f"{PATH}/{endpoint['id']}"
    other = Shop(client)

    assert shop.get(path, by="read").status_code == 200
    for verb in ("disable", "enable", "ping", "rotate-secret"):
        assert shop.post(f"{path}/{verb}", by="read").status_code == 403
        assert other.post(f"{path}/{verb}").status_code == 404
    assert other.get(path).status_code == 404
    assert other.get(f"{path}/deliveries").status_code == 404
    assert other.get(PATH).json()["data"] == []


def test_a_ping_tells_what_came_of_it(shop: Shop, receiver: Receiver) -> None:
    endpoint = an_endpoint(shop, receiver.url, events=["payout.*"])["webhook_endpoint"]
    receiver.does("500")

    asked = shop.post(f"{PATH}/{endpoint['id']}/ping")
    deliver(shop)

    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    told = shop.get(f"{PATH}/{endpoint['id']}/deliveries/{asked.json()['id']}").json()
    assert (told["delivery"]["status"], told["delivery"]["last_result"]) == ("pending", "refused")
    [attempt] = told["attempts"]
    assert (attempt["number"], attempt["result"], attempt["http_status"]) == (1, "refused", 500)
    assert told["delivery"]["event_type"] == "webhook_endpoint.ping"
    assert shop.get("/v1/events", subject=endpoint["id"]).json()["data"][0]["type"] == "webhook_endpoint.ping"


def test_deliveries_are_listed_by_status_and_type_in_pages(shop: Shop, receiver: Receiver) -> None:
    endpoint = an_endpoint(shop, receiver.url, events=["affiliate.*"])["webhook_endpoint"]
    receiver.does("500")
    shop.an_affiliate("Lan")
    deliver(shop)

    listed = deliveries(shop, endpoint)
    assert sorted(each["event_type"] for each in listed) == [
        "affiliate.applied",
        "affiliate.approved",
        "affiliate.enrolled",
    ]
    assert [len(deliveries(shop, endpoint, status=each)) for each in ("pending", "delivered", "failed")] == [1, 2, 0]
    assert len(deliveries(shop, endpoint, type="affiliate.applied")) == 1
    assert len(deliveries(shop, endpoint, type="affiliate.*")) == 3
    assert shop.get(f"{PATH}/{endpoint['id']}/deliveries", type="nonsense").status_code == 422
    first = shop.get(f"{PATH}/{endpoint['id']}/deliveries", limit=2).json()
    rest = shop.get(f"{PATH}/{endpoint['id']}/deliveries", limit=2, cursor=first["next_cursor"]).json()
    assert first["data"] + rest["data"] == listed


def test_a_delivery_is_replayed_under_its_id(shop: Shop, receiver: Receiver) -> None:
    endpoint = an_endpoint(shop, receiver.url)["webhook_endpoint"]
    shop.post("/v1/affiliates", {"name": "Lan"})
    deliver(shop)
    [delivery] = deliveries(shop, endpoint)
    path = f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}"

    answer = shop.post(f"{path}/replay")
    deliver(shop)

    assert (answer.status_code, answer.json()["status"], answer.json()["tries"]) == (202, "pending", 0)
    assert [each.headers["webhook-id"] for each in receiver.messages] == [delivery["event_id"]] * 2
    again = shop.get(path).json()
    assert (again["delivery"]["status"], again["delivery"]["replays"]) == ("delivered", 1)
    assert [each["number"] for each in again["attempts"]] == [2, 1]


def test_what_is_being_sent_is_not_replayed(shop: Shop) -> None:
    endpoint = an_endpoint(shop)["webhook_endpoint"]
    delivery = shop.post(f"{PATH}/{endpoint['id']}/ping").json()
    with unit_of_work(service_of(shop.client).engine) as session:
        execute(session, "UPDATE webhook_delivery SET state = 'sending'")

    answer = shop.post(f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}/replay")

    assert (answer.status_code, answer.json()["code"]) == (409, "webhook-delivery-under-way")


def test_a_span_is_replayed_with_what_was_missed_while_disabled(shop: Shop, receiver: Receiver) -> None:
    endpoint = an_endpoint(shop, receiver.url, events=["affiliate.*"])["webhook_endpoint"]
    path = f"{PATH}/{endpoint['id']}"
    since = shop.time(minutes=1)
    shop.post("/v1/affiliates", {"name": "Lan"})
    deliver(shop)
    shop.post(f"{path}/disable")
    shop.advance(days=20)
    shop.post("/v1/affiliates", {"name": "Minh"})
    deliver(shop)
    span = {"since": since, "until": shop.time(minutes=-1)}

    assert shop.post(f"{path}/replay", span).json()["code"] == "webhook-endpoint-disabled"
    shop.post(f"{path}/enable")
    answer = shop.post(f"{path}/replay", span)
    deliver(shop)

    assert answer.status_code == 202
    told = answer.json()
    counts = {each: told[each] for each in ("events", "delivered_first", "delivered_again", "under_way", "has_more")}
    assert counts == {"events": 2, "delivered_first": 1, "delivered_again": 1, "under_way": 0, "has_more": False}
    seen = [each.headers["webhook-id"] for each in receiver.messages]
    # In which order two are delivered is promised to nobody.
    assert (len(seen), len(set(seen)), seen.count(seen[0])) == (3, 2, 2)
    assert shop.post(f"{path}/replay", span | {"after_event_id": told["last_event_id"]}).json()["events"] == 0
    assert shop.post(f"{path}/replay", span | {"events": ["payout.*"]}).json()["events"] == 0
    assert shop.post(f"{path}/replay", {"since": since, "until": shop.time(days=19)}).json()["events"] == 1
    assert shop.post(f"{path}/replay", {"since": since, "until": since}).status_code == 422
    assert shop.post(f"{path}/replay", {"since": "2020-01-01T00:00:00Z", "until": since}).status_code == 422


def test_an_endpoint_can_be_disabled_and_enabled_and_keeps_what_waited(shop: Shop, receiver: Receiver) -> None:
    endpoint = an_endpoint(shop, receiver.url, events=["affiliate.*"])["webhook_endpoint"]
    path = f"{PATH}/{endpoint['id']}"
    receiver.does("500")
    shop.post("/v1/affiliates", {"name": "Lan"})
    deliver(shop)

    off = shop.patch(path, {"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "by_person")
    assert shop.post(f"{path}/ping").json()["code"] == "webhook-endpoint-disabled"
    assert shop.post(f"{path}/disable").json()["disabled_at"] == off["disabled_at"]
    with unit_of_work(service_of(shop.client).engine) as session:
        execute(session, "UPDATE webhook_delivery SET next_at = now() - interval '1 s'")
    deliver(shop)
    assert len(receiver.messages) == 1

    on = shop.post(f"{path}/enable").json()
    deliver(shop)

    assert (on["enabled"], on["disabled_reason"], on["failing_since"]) == (True, None, None)
    assert len(receiver.messages) == 2
    events = shop.get("/v1/events", type="webhook_endpoint.*").json()["data"]
    assert [each["data"]["reason_code"] for each in events] == ["by_person"]


def test_a_name_that_leads_inside_is_not_called(shop: Shop, receiver: Receiver) -> None:
    service = service_of(shop.client)
    endpoint = an_endpoint(shop, f"http://localhost:{receiver.port}/")["webhook_endpoint"]
    delivery = shop.post(f"{PATH}/{endpoint['id']}/ping").json()

    run_once(service.engine, service.settings.model_copy(update={"webhook_allow_networks": ""}), service.security)

    told = shop.get(f"{PATH}/{endpoint['id']}/deliveries/{delivery['id']}").json()
    [attempt] = told["attempts"]
    assert attempt["result"] == "address_refused"
    assert "KOC_WEBHOOK_ALLOW_NETWORKS" in attempt["detail"]
    # What names of the inside lead to is nothing that a merchant needs to learn.
    assert "127.0.0.1" not in attempt["detail"]
    assert receiver.messages == []
