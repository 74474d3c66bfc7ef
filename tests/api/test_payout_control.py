"""What stops money, through the API: limits, fees, stopped rails, and the gate that two operators open."""

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Json, Shop

LIMIT: Json = {"kind": "approval", "limit": {"amount_minor": 5_000, "currency": "VND"}}


@pytest.fixture
def draft(shop: Shop) -> str:
    """Return a draft run that pays one KOC 10,000 VND."""
    ann = shop.an_affiliate("Ann")
    code = shop.a_coupon(ann)["code"]
    shop.an_order(
        currency="VND", coupon_codes=[code], lines=[{"id": "1", "sku": "sku-1", "quantity": 1, "net": "100000"}]
    )
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle").json()["settled"] == 1
    return str(shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "VND"}, by="finance-maker").json()["id"])


def taken(shop: Shop, run: str, *verbs: str, checker: str = "finance-checker") -> list[tuple[int, str]]:
    """What a run's verbs are answered, one after the other."""
    answers = [
        shop.post(f"/v1/payout-runs/{run}/{verb}", by=checker if verb == "approve" else "finance-maker")
        for verb in verbs
    ]
    return [(each.status_code, each.json().get("code", "")) for each in answers]


def bearer(made: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['key']}"}


def vnd(amount: int) -> Json:
    return {"amount_minor": amount, "currency": "VND"}


def work(client: TestClient) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)


def sends(shop: Shop) -> tuple[bool, str | None, bool]:
    [rail] = [each for each in shop.get("/v1/rails").json()["data"] if each["name"] == "sandbox"]
    return rail["sends"], rail["reason"], rail["stopped_for_all"]


def test_a_key_approves_no_more_than_its_own_limit(shop: Shop, draft: str) -> None:
    shop.key_of("finance-checker chi")
    [chi] = [each["id"] for each in shop.get("/v1/api-keys").json()["data"] if each["name"] == "finance-checker chi"]
    shop.post("/v1/payout-limits", LIMIT | {"key_id": chi})

    assert taken(shop, draft, "submit") == [(200, "")]
    assert taken(shop, draft, "approve", checker="finance-checker chi") == [(403, "payout-run-approval-limit")]
    assert taken(shop, draft, "approve") == [(200, "")]


def test_a_key_that_took_anothers_place_has_its_limit_and_is_no_second_person(shop: Shop, draft: str) -> None:
    both = shop.post("/v1/api-keys", {"name": "Chi", "scopes": ["finance-maker", "finance-checker"]}).json()
    limited = shop.post("/v1/payout-limits", LIMIT | {"key_id": both["api_key"]["id"]})
    assert limited.status_code == 201
    path = f"/v1/payout-runs/{draft}"
    assert shop.client.post(f"{path}/submit", json={}, headers=bearer(both)).status_code == 200
    again = shop.post(f"/v1/api-keys/{both['api_key']['id']}/rotate", {"overlap_s": 3_600}).json()
    third = shop.post(f"/v1/api-keys/{again['api_key']['id']}/rotate", {"overlap_s": 3_600}).json()

    by_herself = shop.client.post(f"{path}/approve", json={}, headers=bearer(third))

    assert (by_herself.status_code, by_herself.json()["code"]) == (403, "payout-run-self-approval")
    # Submitted by another, it is the limit of the first of her keys that keeps the third from approving.
    assert shop.post(f"{path}/cancel", by="finance-maker").status_code == 200
    other = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "VND"}, by="finance-maker").json()["id"]
    assert shop.post(f"/v1/payout-runs/{other}/submit", by="finance-maker").status_code == 200
    above = shop.client.post(f"/v1/payout-runs/{other}/approve", json={}, headers=bearer(third))
    assert (above.status_code, above.json()["code"]) == (403, "payout-run-approval-limit")
    shop.post("/v1/payout-limits", {**LIMIT, "limit": vnd(10_000), "key_id": third["api_key"]["id"]})
    assert shop.client.post(f"/v1/payout-runs/{other}/approve", json={}, headers=bearer(third)).status_code == 200


def test_a_limit_takes_the_place_of_another_in_one_moment(shop: Shop) -> None:
    first = shop.post("/v1/payout-limits", LIMIT).json()
    assert shop.post("/v1/payout-limits", LIMIT).json()["code"] == "payout-limit-exists"
    of_a_day = shop.post("/v1/payout-limits", LIMIT | {"kind": "day", "replaces": first["id"]})
    assert (of_a_day.status_code, of_a_day.json()["code"]) == (422, "invalid-request")

    second = shop.post("/v1/payout-limits", LIMIT | {"replaces": first["id"]}).json()

    found = shop.get("/v1/payout-limits").json()["data"]
    assert [(each["id"], each["ended_at"]) for each in found] == [
        (second["id"], None),
        (first["id"], second["created_at"]),
    ]


def test_a_limit_that_was_ended_leaves_its_place(shop: Shop) -> None:
    first = shop.post("/v1/payout-limits", LIMIT).json()

    ended = shop.post(f"/v1/payout-limits/{first['id']}/end").json()

    assert ended["ended_at"] is not None
    assert shop.post(f"/v1/payout-limits/{first['id']}/end").json() == ended
    assert shop.post("/v1/payout-limits", LIMIT).status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("payout-limits", LIMIT | {"limit": {"amount_minor": 0, "currency": "VND"}}, 422, "invalid-request"),
        ("payout-limits", LIMIT | {"replaces": "lim_01h455vb4pex5vsknk084sn02q"}, 404, "not-found"),
        ("payout-limits", LIMIT | {"key_id": "key_01h455vb4pex5vsknk084sn02q"}, 404, "not-found"),
        ("payout-limits", LIMIT | {"kind": "day", "key_id": "key_01h455vb4pex5vsknk084sn02q"}, 422, "invalid-request"),
        (
            "payout-fees",
            {"rail": "sandbox", "fee": {"amount_minor": 5, "currency": "VND"}, "valid_from": "2020-01-01"},
            422,
            "payout-fee-back-dated",
        ),
        ("payout-fees", {"rail": "sandbox", "fee": {"amount_minor": -5, "currency": "VND"}}, 422, "invalid-request"),
        ("rails/none/stop", {"reason": "x"}, 404, "not-found"),
        ("rails/sandbox/resume", {}, 409, "payout-rail-not-stopped"),
    ],
)
def test_what_makes_no_sense_is_refused(shop: Shop, path: str, body: Json, status: int, code: str) -> None:
    by = {"rails/none/stop": "finance-maker", "rails/sandbox/resume": "finance-checker"}.get(path, "admin")

    answer = shop.post(f"/v1/{path}", body, by=by)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_fee_is_taken_of_each_payout_from_its_day_on(shop: Shop, draft: str) -> None:
    taken(shop, draft, "cancel")
    shop.post("/v1/payout-fees", {"rail": "sandbox", "fee": {"amount_minor": 300, "currency": "VND"}})

    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "VND"}, by="finance-maker").json()

    [payout] = shop.get("/v1/payouts", run_id=run["id"]).json()["data"]
    assert (payout["fee"]["amount_minor"], payout["net"]["amount_minor"]) == (300, 9_700)


def test_a_maker_stops_a_rail_a_checker_resumes_it_and_the_trail_says_so(
    shop: Shop, client: TestClient, draft: str
) -> None:
    taken(shop, draft, "submit", "approve", "execute")
    assert shop.post("/v1/rails/sandbox/stop", {"reason": "keys leaked"}, by="finance-maker").is_success
    work(client)
    assert sends(shop) == (False, "keys leaked", False)
    assert shop.get(f"/v1/payout-runs/{draft}").json()["waits_for"] == "rail_stopped"
    assert shop.post("/v1/rails/sandbox/resume", by="finance-maker").status_code == 403

    assert shop.post("/v1/rails/sandbox/resume", by="finance-checker").is_success
    work(client)

    assert sends(shop) == (True, None, False)
    assert shop.get(f"/v1/payout-runs/{draft}").json()["status"] == "closed"
    trail = [each for each in shop.get("/v1/audit").json()["data"] if each["kind"] == "rail_switch"]
    assert [each["subject"] for each in trail] == ["sandbox", "sandbox"]


def test_what_the_operator_stops_for_all_no_merchant_resumes(shop: Shop) -> None:
    assert shop.post("/v1/operator/rails/sandbox/stop", {"reason": "outage"}, by="operator").status_code == 204

    assert shop.post("/v1/rails/sandbox/resume", by="finance-checker").json()["code"] == "payout-rail-not-stopped"
    assert sends(shop) == (False, "outage", True)
    assert shop.post("/v1/operator/rails/sandbox/stop", {"reason": "x"}, by="admin").status_code == 403
    assert shop.post("/v1/operator/rails/sandbox/resume", by="operator").status_code == 204
    assert sends(shop) == (True, None, False)


def test_the_gate_holds_all_payouts_until_two_operators_open_it(shop: Shop, client: TestClient, draft: str) -> None:
    """Here no rail keeps a list, as where all pay by files."""
    taken(shop, draft, "submit", "approve", "execute")
    since = (shop.opened_at - timedelta(days=1)).isoformat()
    assert shop.post("/v1/operator/payout-gate/close", {"detail": "a drill", "since": since}, by="operator").is_success
    asked = {"note": "all compared"}
    unchecked = shop.post("/v1/operator/payout-gate/open", asked, by="operator")
    assert (unchecked.status_code, unchecked.json()["code"]) == (409, "payout-gate-unchecked")
    work(client)
    assert shop.get("/v1/rails").json()["gate_closed"]
    assert shop.get(f"/v1/payout-runs/{draft}").json()["waits_for"] == "gate_closed"

    assert shop.post("/v1/operator/payout-gate/open", asked, by="operator").json()["opened_at"] is None
    second = shop.post("/v1/operator/payout-gate/open", asked, by="operator")
    assert (second.status_code, second.json()["code"]) == (403, "payout-gate-second-person")
    assert shop.post("/v1/operator/payout-gate/open", asked, by="operator ben").json()["opened_at"] is not None
    work(client)

    assert not shop.get("/v1/operator/payout-gate", by="operator").json()["closed"]
    assert shop.get(f"/v1/payout-runs/{draft}").json()["status"] == "closed"
    again = shop.post("/v1/operator/payout-gate/open", asked, by="operator")
    assert (again.status_code, again.json()["code"]) == (409, "payout-gate-open")
