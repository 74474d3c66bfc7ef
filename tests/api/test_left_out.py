"""A KOC reads why the newest payout run left it out, and for which day; and nothing once a run pays."""

from datetime import datetime, timedelta

from service.api.deps import Service
from service.worker import run_once
from tests.support.shop import Json, Shop


def _earned(shop: Shop, **people: Json) -> list[Json]:
    """KOCs with 10.00 USD payable each, by code; all join before the first order."""
    made = {code: shop.an_affiliate(code, **how) for code, how in people.items()}
    for code, how in people.items():
        shop.a_coupon(made[code], code, program=how.get("program"))
    _ordered(shop, *people)
    return list(made.values())


def _ordered(shop: Shop, *codes: str) -> None:
    for code in codes:
        shop.an_order(coupon_codes=[code])
    shop.advance(days=15)
    assert shop.post("/v1/jobs/settle", by="finance-maker").is_success


def _made(shop: Shop, **asked: object) -> Json:
    answer = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD", **asked}, by="finance-maker")
    assert answer.status_code == 201, answer.text
    run: Json = answer.json()
    return run


def _submitted(shop: Shop, **asked: object) -> Json:
    run = _made(shop, **asked)
    _done(shop, f"payout-runs/{run['id']}/submit")
    return run


def _done(shop: Shop, path: str, *, by: str = "finance-maker") -> None:
    answer = shop.post(f"/v1/{path}", by=by)
    assert answer.is_success, answer.text


def _told(shop: Shop, who: Json) -> Json | None:
    [earned] = shop.get("/v1/me/earnings", by=who["id"]).json()["data"]
    told: Json | None = earned["left_out"]
    return told


def _wait(shop: Shop, who: Json) -> Json:
    [wait] = shop.get("/v1/me/commissions", by=who["id"]).json()["data"][0]["waits_for"]
    return dict(wait)


def _usd(amount_minor: int) -> Json:
    return {"amount_minor": amount_minor, "currency": "USD"}


def test_below_the_minimum_or_without_an_account_a_koc_hears_why_until_a_run_pays(shop: Shop) -> None:
    program = shop.a_program(payout_minimums=[_usd(1500)])
    poor, homeless, paid = _earned(
        shop, POOR={"program": program}, HOMELESS={"paid_to": None}, PAID={"paid_to": "sandbox_paid"}
    )
    before = [_told(shop, who) for who in (poor, homeless)]
    pay_on = (shop.now().date() + timedelta(days=3)).isoformat()

    _submitted(shop, pay_on=pay_on)

    told = [_told(shop, who) for who in (poor, homeless, paid)]
    looked_at = [datetime.fromisoformat(each.pop("looked_at")).date() for each in told if each is not None]
    assert before == [None, None]
    assert looked_at == [shop.now().date()] * 2
    assert told == [
        {"reason_code": "below_minimum", "on": pay_on, "payable": _usd(1000), "short": _usd(500)},
        {"reason_code": "no_payout_method", "on": pay_on, "payable": _usd(1000), "short": None},
        None,
    ]
    minimum, account = _wait(shop, poor), _wait(shop, homeless)
    assert (minimum["code"], minimum["short"], minimum["reason_code"]) == ("minimum_payout", _usd(500), None)
    assert (account["code"], account["reason_code"], account["on"]) == ("left_out", "no_payout_method", pay_on)

    shop.post(f"/v1/affiliates/{homeless['id']}/payout-methods", {"rail": "sandbox", "destination": "sandbox_home"})
    _ordered(shop, "POOR")
    enough = _told(shop, poor)
    _submitted(shop)

    assert enough is not None
    assert (enough["reason_code"], enough["payable"], enough["short"]) == ("below_minimum", _usd(1000), None)
    assert [_told(shop, who) for who in (poor, homeless)] == [None, None]
    assert [each["net"] for each in shop.get("/v1/me/payouts", by=poor["id"]).json()["data"]] == [_usd(2000)]


def test_what_came_after_a_payout_has_not_been_looked_at(shop: Shop) -> None:
    homeless, _ = _earned(shop, HOMELESS={"paid_to": None}, PAID={"paid_to": "sandbox_paid"})
    _submitted(shop)
    shop.post(f"/v1/affiliates/{homeless['id']}/payout-methods", {"rail": "sandbox", "destination": "sandbox_home"})
    shop.advance(days=5)
    _submitted(shop)

    _ordered(shop, "HOMELESS")

    assert _told(shop, homeless) is None
    assert _wait(shop, homeless)["code"] == "payout_run"


def test_a_draft_tells_nothing_and_neither_does_a_run_that_was_cancelled(shop: Shop) -> None:
    homeless, _ = _earned(shop, HOMELESS={"paid_to": None}, PAID={"paid_to": "sandbox_paid"})
    run = _made(shop)
    draft = _told(shop, homeless)
    _done(shop, f"payout-runs/{run['id']}/submit")
    submitted = _told(shop, homeless)
    _done(shop, f"payout-runs/{run['id']}/cancel")

    assert draft is None
    assert submitted is not None
    assert _told(shop, homeless) is None


def test_a_later_run_for_others_does_not_hide_what_was_told(shop: Shop) -> None:
    homeless, paid, other = _earned(
        shop, HOMELESS={"paid_to": None}, PAID={"paid_to": "sandbox_paid"}, OTHER={"paid_to": "sandbox_other"}
    )
    first = _submitted(shop, affiliate_ids=[homeless["id"], paid["id"]])
    shop.advance(days=1)

    second = _submitted(shop, affiliate_ids=[other["id"]])

    told = _told(shop, homeless)
    assert told is not None
    assert told["on"] == first["pay_on"] < second["pay_on"]


def test_a_payout_dropped_from_its_run_says_why_and_one_that_a_person_released_does_not(shop: Shop) -> None:
    dropped, released, _ = _earned(
        shop, DROPPED={}, RELEASED={"paid_to": "sandbox_other"}, PAID={"paid_to": "sandbox_paid"}
    )
    run = _made(shop)
    [item] = [each for each in run["payouts"] if each["affiliate_id"] == released["id"]]
    # Nothing is declared for Vietnam.
    profile = {"rule": "regime", "kind": "individual", "country": "VN", "details": {"resident": True}}
    shop.put(f"/v1/affiliates/{dropped['id']}/tax-profile", profile)
    _done(shop, f"payouts/{item['id']}/release")

    _done(shop, f"payout-runs/{run['id']}/submit")

    told, wait = _told(shop, dropped), _wait(shop, dropped)
    assert told is not None
    assert (told["reason_code"], told["on"], told["payable"]) == ("no_tax_regime", run["pay_on"], _usd(1000))
    assert (wait["code"], wait["reason_code"]) == ("left_out", "no_tax_regime")
    assert (_told(shop, released), _wait(shop, released)["code"]) == (None, "payout_run")


def test_a_debt_is_told_with_what_it_comes_to_now(shop: Shop) -> None:
    order = shop.order("first", coupon_codes=["OWES"])
    owes, paid = shop.an_affiliate("OWES"), shop.an_affiliate("PAID", paid_to="sandbox_paid")
    shop.a_coupon(owes, "OWES")
    shop.a_coupon(paid, "PAID")
    shop.deliver(order)
    _ordered(shop, "PAID")
    first = _submitted(shop, affiliate_ids=[owes["id"]])
    _done(shop, f"payout-runs/{first['id']}/approve", by="finance-checker")
    _done(shop, f"payout-runs/{first['id']}/execute")
    service: Service = shop.client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)
    shop.deliver(shop.refund(order, "40.00"))

    _submitted(shop)

    told = _told(shop, owes)
    assert told is not None
    assert (told["reason_code"], told["payable"], told["short"]) == ("in_debt", _usd(-400), _usd(400))


def test_a_run_of_another_rail_tells_nobody_that_they_have_no_account(shop: Shop) -> None:
    """Of a rail whose payouts leave in files, too."""
    away, homeless, _ = _earned(
        shop, AWAY={"paid_to": None}, HOMELESS={"paid_to": None}, PAID={"paid_to": "sandbox_paid"}
    )
    method = {"rail": "paypal_file", "account": {"kind": "paypal", "account": "away@example.com", "holder": "Away"}}
    answer = shop.post(f"/v1/affiliates/{away['id']}/payout-methods", method)
    assert answer.is_success, answer.text

    run = _made(shop)
    _done(shop, f"payout-runs/{run['id']}/submit")

    assert {each["affiliate_id"]: each["reason_code"] for each in run["excluded"]} == {
        away["id"]: "other_rail",
        homeless["id"]: "no_payout_method",
    }
    assert (_told(shop, away), _wait(shop, away)["code"]) == (None, "payout_run")
