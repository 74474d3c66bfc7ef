"""Claims of KOCs: answered at once, decided by people, and silent about everybody else."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.infra import ids
from service.infra.db import execute, unit_of_work
from service.intake.claims import OPEN_MAX
from service.worker import run_once
from tests.support.shop import Shop

Json = dict[str, Any]


@pytest.fixture
def lan(shop: Shop) -> Json:
    lan = shop.an_affiliate("Lan")
    shop.a_coupon(lan, "LAN")
    return lan


@pytest.fixture
def minh(shop: Shop, lan: Json) -> Json:
    """Return another KOC; both are there before the first order."""
    del lan
    minh = shop.an_affiliate("Minh")
    shop.a_coupon(minh, "MINH")
    return minh


def usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


def claim(shop: Shop, who: Json, number: str = "1001", kind: str = "missing_order", **more: Any) -> Json:
    answer = shop.post("/v1/me/claims", {"kind": kind, "order_number": number, **more}, by=who["id"])
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def decide(shop: Shop, claimed: Json, **asked: Any) -> Any:
    return shop.post(f"/v1/claims/{claimed['id']}/decide", asked)


ACCEPTED = {"outcome": "accept", "attribute": True, "reason_code": "missing_touch", "note": "The chat shows it."}


def test_an_order_that_is_not_here_is_said_so_and_the_claim_stays_open(shop: Shop, lan: Json) -> None:
    made = claim(shop, lan, "#1001", note="My cousin bought", evidence=["https://files.example/1"], coupon="lan")

    assert made["answer"] == {
        "code": "unknown_order",
        "order_id": None,
        "commissions": [],
        "candidates": [],
        "touch": {"kind": "coupon", "yours": True, "carried": None},
    }
    assert (made["state"], made["order_number"], made["decision"]) == ("open", "#1001", None)
    assert made["decide_by"][:10] == shop.time(days=-14)[:10]


def test_the_answer_follows_what_comes_later(shop: Shop, lan: Json) -> None:
    made = claim(shop, lan)
    path = f"/v1/me/claims/{made['id']}"

    shop.deliver(shop.refund({"id": "1001", "currency": "USD"}, "5.00"))
    early = shop.get(path, by=lan["id"]).json()
    shop.an_order("1001", coupon_codes=["LAN"])
    late = shop.get(path, by=lan["id"]).json()

    assert early["answer"]["code"] == "too_early"
    assert late["answer"]["code"] == "credited_to_you"
    [commission] = late["answer"]["commissions"]
    assert (commission["target"], commission["status"]) == (usd(950), "approved")
    assert late["state"] == "open"


def test_what_is_credited_already_is_answered_and_nobody_has_to_decide(shop: Shop, lan: Json) -> None:
    shop.deliver({**shop.order("A-1", coupon_codes=["LAN"]), "number": "#1001"})

    missing = claim(shop, lan, "1001")
    wrong = claim(shop, lan, "A-1", kind="wrong_amount", claimed_amount=usd(2_000))

    assert (missing["state"], missing["answer"]["code"]) == ("answered", "credited_to_you")
    assert missing["answer"]["candidates"][0]["chosen"] is True
    assert missing["closed_at"] is not None
    assert (wrong["state"], wrong["claimed_amount"]) == ("open", usd(2_000))


def test_whoever_lost_sees_their_own_touches_and_nobody_elses(shop: Shop, lan: Json, minh: Json) -> None:
    click = shop.click(shop.a_link(lan))
    shop.an_order("1001", click_ids=[click], coupon_codes=["MINH"])

    answer = shop.post("/v1/me/claims", {"kind": "wrong_koc", "order_number": "1001", "click_id": click}, by=lan["id"])

    made = answer.json()
    assert (made["state"], made["answer"]["code"]) == ("open", "credited_to_another")
    [candidate] = made["answer"]["candidates"]
    assert (candidate["ref"], candidate["reason_code"]) == (click, "other_kind_has_precedence")
    assert made["answer"]["touch"] == {"kind": "click", "yours": True, "carried": True}
    assert minh["id"] not in answer.text
    assert "minh" not in answer.text.lower()


def test_whoever_has_nothing_to_do_with_an_order_learns_no_more_than_that(shop: Shop, lan: Json, minh: Json) -> None:
    shop.an_order("1001", coupon_codes=["MINH"])
    shop.an_order("1002")

    other = claim(shop, lan, "1001", coupon="MINH")
    nobody = claim(shop, lan, "1002")

    assert other["answer"] == {
        "code": "credited_to_another",
        "order_id": None,
        "commissions": [],
        "candidates": [],
        "touch": {"kind": "coupon", "yours": False, "carried": None},
    }
    assert nobody["answer"]["code"] == "credited_to_nobody"
    assert minh["status"] == "approved"


def test_an_orders_id_is_taken_only_from_those_whom_the_order_concerns(shop: Shop, lan: Json, minh: Json) -> None:
    shop.an_order("1001", coupon_codes=["MINH"])
    order_id = shop.get("/v1/orders/by-external-id/1001").json()["id"]
    asked = {"kind": "wrong_amount", "order_id": order_id}

    own, others = (shop.post("/v1/me/claims", asked, by=who["id"]) for who in (minh, lan))

    assert (own.status_code, own.json()["answer"]["order_id"]) == (201, order_id)
    assert (others.status_code, others.json()["code"]) == (404, "unknown-order")


def test_a_click_id_that_is_not_ours_is_nobodys(shop: Shop, lan: Json) -> None:
    made = claim(shop, lan, click_id="clk_made_up")

    assert made["answer"]["touch"] == {"kind": "click", "yours": False, "carried": None}


def test_one_claim_about_an_order_is_open_at_a_time_also_by_another_name(shop: Shop, lan: Json, minh: Json) -> None:
    first = claim(shop, lan)
    again = shop.post("/v1/me/claims", {"kind": "missing_order", "order_number": " #1001"}, by=lan["id"])
    shop.deliver({**shop.order("1001", coupon_codes=["MINH"]), "number": "T-77"})
    renamed = shop.post("/v1/me/claims", {"kind": "wrong_koc", "order_number": "T-77"}, by=lan["id"])
    claim(shop, minh)
    shop.post(f"/v1/me/claims/{first['id']}/withdraw", by=lan["id"])
    after = claim(shop, lan, "T-77")

    assert (again.status_code, again.json()["code"]) == (409, "claim-is-open")
    assert (renamed.status_code, renamed.json()["code"]) == (409, "claim-is-open")
    assert after["state"] == "open"
    assert [each["state"] for each in shop.get("/v1/me/claims", by=lan["id"]).json()["data"]] == ["open", "withdrawn"]


def test_accepting_credits_the_claimant_and_it_stays_through_what_the_shop_says(
    shop: Shop, lan: Json, minh: Json
) -> None:
    order = shop.order("1001", coupon_codes=["MINH"])
    shop.deliver(order)
    made = claim(shop, lan, kind="wrong_koc")

    decided = decide(shop, made, **{**ACCEPTED, "reason_code": "wrong_affiliate"}).json()
    shop.deliver(
        {**order, "updated_at": shop.time(), "lines": [{"id": "1", "sku": "s", "quantity": 1, "net": "50.00"}]}
    )

    assert (decided["state"], decided["decision"]["outcome"]) == ("accepted", "accept")
    mine = shop.get(f"/v1/me/claims/{made['id']}", by=lan["id"]).json()
    assert mine["decision"]["note"] == "The chat shows it."
    assert mine["answer"]["code"] == "credited_to_you"
    [commission] = mine["answer"]["commissions"]
    assert (commission["commission_id"], commission["target"]) == (decided["decision"]["commission_id"], usd(500))
    assert shop.get("/v1/commissions", affiliate_id=minh["id"]).json()["data"][0]["target"] == usd(0)


def test_accepting_with_an_amount_adds_it_or_gives_a_bonus(shop: Shop, lan: Json) -> None:
    shop.an_order("1001", coupon_codes=["LAN"])
    wrong = claim(shop, lan, kind="wrong_amount")
    unknown = claim(shop, lan, "never")

    added = decide(shop, wrong, outcome="accept", amount=usd(300), reason_code="wrong_amount").json()
    bonus = decide(shop, unknown, outcome="accept", amount=usd(800), reason_code="missing_order").json()

    targets = {
        each["id"]: each["target"] for each in shop.get("/v1/commissions", affiliate_id=lan["id"]).json()["data"]
    }
    assert targets == {added["decision"]["commission_id"]: usd(1_300), bonus["decision"]["commission_id"]: usd(800)}


def test_an_order_that_has_not_come_cannot_be_credited(shop: Shop, lan: Json) -> None:
    made = claim(shop, lan)

    early = decide(shop, made, **ACCEPTED)
    shop.an_order("1001")
    late = decide(shop, made, **ACCEPTED)
    twice = decide(shop, made, outcome="reject", reason_code="no_evidence")

    assert (early.status_code, early.json()["code"]) == (409, "order-not-here")
    assert late.json()["order_id"] == shop.get("/v1/orders/by-external-id/1001").json()["id"]
    assert (twice.status_code, twice.json()["code"]) == (409, "claim-closed")


def test_whoever_was_in_no_programme_cannot_be_credited_but_given_an_amount(shop: Shop, lan: Json) -> None:
    stranger = shop.an_affiliate("Huy", enrolled=False)
    shop.an_order("1001", coupon_codes=["LAN"])
    made = claim(shop, stranger, kind="wrong_koc")

    credit = decide(shop, made, **ACCEPTED)
    still = shop.get("/v1/commissions", affiliate_id=lan["id"]).json()["data"][0]["target"]
    amount = decide(shop, made, outcome="accept", amount=usd(5), reason_code="goodwill")

    assert (credit.status_code, credit.json()["code"]) == (409, "claim-earns-nothing")
    assert still == usd(1_000)
    assert amount.json()["state"] == "accepted"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"outcome": "accept", "reason_code": "goodwill"}, id="accepting what"),
        pytest.param({**ACCEPTED, "amount": usd(1)}, id="both"),
        pytest.param({"outcome": "reject", "reason_code": "no_evidence", "amount": usd(1)}, id="rejecting with money"),
        pytest.param({"outcome": "reject", "reason_code": "goodwill"}, id="a reason of amounts"),
        pytest.param({**ACCEPTED, "reason_code": "fixed_fee"}, id="a reason of amounts for a credit"),
        pytest.param({"outcome": "accept", "amount": usd(0), "reason_code": "goodwill"}, id="nothing"),
        pytest.param({"outcome": "reject", "reason_code": "other"}, id="other without a note"),
    ],
)
def test_what_is_no_decision_is_refused(shop: Shop, lan: Json, asked: Json) -> None:
    made = claim(shop, lan)

    answer = decide(shop, made, **asked)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert shop.get(f"/v1/claims/{made['id']}").json()["state"] == "open"


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "missing_order"},
        {"kind": "missing_order", "order_number": "1", "order_id": "ord_01h455vb4pex5vsknk084sn02q"},
        {"kind": "missing_order", "order_number": "1", "click_id": "clk_1", "coupon": "LAN"},
        {"kind": "lost", "order_number": "1"},
    ],
)
def test_what_is_no_claim_is_refused(shop: Shop, lan: Json, asked: Json) -> None:
    assert shop.post("/v1/me/claims", asked, by=lan["id"]).status_code == 422


def test_claims_are_listed_filtered_and_kept_apart(shop: Shop, client: TestClient, lan: Json, minh: Json) -> None:
    late, new = claim(shop, lan, "1"), claim(shop, minh, "2", kind="wrong_koc")
    shop.advance(days=15)
    newer = claim(shop, lan, "3")
    decide(shop, new, outcome="reject", reason_code="not_our_order")

    def listed(**query: Any) -> list[str]:
        return [each["id"] for each in shop.get("/v1/claims", by="read", **query).json()["data"]]

    assert listed() == [newer["id"], new["id"], late["id"]]
    assert listed(overdue="true") == [late["id"]]
    assert listed(overdue="false") == [newer["id"], new["id"]]
    assert (listed(state="rejected"), listed(kind="wrong_koc")) == ([new["id"]], [new["id"]])
    assert listed(affiliate_id=lan["id"]) == [newer["id"], late["id"]]
    assert shop.get(f"/v1/me/claims/{late['id']}", by=minh["id"]).status_code == 404
    assert shop.post(f"/v1/me/claims/{late['id']}/withdraw", by=minh["id"]).status_code == 404
    other = Shop(client)
    assert other.get(f"/v1/claims/{late['id']}").status_code == 404
    assert (
        other.post(f"/v1/claims/{late['id']}/decide", {"outcome": "reject", "reason_code": "no_evidence"}).status_code
        == 404
    )
    assert (
        shop.post(
            f"/v1/claims/{late['id']}/decide", {"outcome": "reject", "reason_code": "no_evidence"}, by="finance-maker"
        ).status_code
        == 403
    )


def test_claims_are_told_opened_decided_and_overdue_once_each(shop: Shop, client: TestClient, lan: Json) -> None:
    service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    first, second = claim(shop, lan, "1"), claim(shop, lan, "2")
    decide(shop, first, outcome="reject", reason_code="not_our_order")
    shop.advance(days=15)
    for _ in (1, 2):
        run_once(service.engine, service.settings, service.security)
        with unit_of_work(service.engine) as session:
            execute(session, "UPDATE job SET due_at = now() WHERE kind = 'claims'")

    events = [each for each in shop.get("/v1/events").json()["data"] if each["type"].startswith("claim.")]

    assert [(each["type"], each["data"]["claim_id"]) for each in events] == [
        ("claim.overdue", second["id"]),
        ("claim.decided", first["id"]),
        ("claim.opened", second["id"]),
        ("claim.opened", first["id"]),
    ]
    assert shop.get(f"/v1/claims/{second['id']}").json()["state"] == "open"


def test_nobody_has_more_open_claims_than_people_can_read(shop: Shop, client: TestClient, lan: Json) -> None:
    service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    made = claim(shop, lan, "0")
    with unit_of_work(service.engine) as session:
        execute(
            session,
            """
            INSERT INTO claim SELECT (jsonb_populate_record(claim, jsonb_build_object(
                'id', gen_random_uuid(), 'subject', concat('number:', number), 'order_number', number))).*
            FROM claim CROSS JOIN generate_series(1, :more) AS number WHERE claim.id = :id
            """,
            {"more": OPEN_MAX - 1, "id": ids.decode("clm", made["id"])},
        )

    answer = shop.post("/v1/me/claims", {"kind": "missing_order", "order_number": "1000"}, by=lan["id"])

    assert (answer.status_code, answer.json()["code"]) == (409, "too-many-claims")


def test_the_trail_tells_of_a_claim_without_its_words(shop: Shop, lan: Json) -> None:
    made = claim(shop, lan, note="My cousin Hoa", evidence=["https://files.example/hoa"])
    decide(shop, made, outcome="reject", reason_code="other", note="Hoa bought elsewhere")

    answer = shop.get("/v1/audit", subject=made["id"])

    assert [each["operation"] for each in answer.json()["data"]] == ["decide_claim", "create_my_claim"]
    assert answer.json()["data"][0]["after"]["state"] == "rejected"
    assert "Hoa" not in answer.text
    assert "hoa" not in answer.text
