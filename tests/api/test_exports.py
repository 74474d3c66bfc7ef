"""GET /v1/export.ndjson: a merchant's own, for its admin."""

import json

from starlette.testclient import TestClient

from service.api.deps import Service
from tests.support.shop import Shop


def test_an_admin_takes_everything_away(shop: Shop, client: TestClient) -> None:
    other = Shop(client)
    other.an_order("foreign")
    shop.an_order("1001", coupon_codes=[shop.a_coupon(shop.an_affiliate())["code"]])

    answer = shop.get("/v1/export.ndjson")

    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert f"{shop.id}-" in answer.headers["content-disposition"]
    assert [line["external_id"] for line in lines if line["kind"] == "orders"] == ["1001"]
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("export", "end")
    assert shop.source["secret"] not in answer.text
    assert "foreign" not in answer.text


def test_only_an_admin_may(shop: Shop) -> None:
    answers = [shop.get("/v1/export.ndjson", by=role) for role in ("read", "ingest", "finance-maker", "operator")]

    assert [answer.status_code for answer in answers] == [403] * 4


def test_slow_readers_leave_room_for_others(shop: Shop, client: TestClient) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    # Each download gives its place back.
    assert [shop.get("/v1/export.ndjson").status_code for _ in range(3)] == [200] * 3
    assert [shop.get("/v1/reports/payouts.csv").status_code for _ in range(3)] == [200] * 3
    assert service.downloads.acquire(blocking=False)
    try:
        refused = [shop.get(path) for path in ("/v1/export.ndjson", "/v1/reports/payouts.csv")]
        other = shop.get("/v1/merchant")
    finally:
        service.downloads.release()

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "downloads-busy")] * 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert other.status_code == 200
    assert shop.get("/v1/reports/payouts.csv").status_code == 200
