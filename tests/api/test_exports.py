"""GET /v1/export.ndjson: a merchant's own, for its admin."""

import json

from starlette.testclient import TestClient

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
