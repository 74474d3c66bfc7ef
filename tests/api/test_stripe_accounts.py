"""Accounts at Stripe over HTTP: for merchants and for KOCs, what they show, and what happens when Stripe is not there."""

import pytest
from sqlalchemy import Engine

from service.api import stripe_accounts
from service.infra.db import fetch, read_session
from service.infra.security import Security
from service.infra.settings import Settings
from service.worker import run_once
from tests.doubles.stripe import StripeDouble, deliver
from tests.support.shop import SECRET_KEY, Json, Shop

SECRET = "whsec_secret_of_our_endpoint"
URLS = {"return_url": "https://tea.example/paid", "refresh_url": "https://tea.example/again"}


@pytest.fixture
def settings(database_url: str, stripe: StripeDouble) -> Settings:
    return Settings(
        database_url=database_url,
        secret_key=SECRET_KEY,
        db_pool_size=7,
        db_admission=4,
        stripe_secret_key="sk_test_double",
        stripe_api_base=stripe.url,
        stripe_webhook_secret=f"whsec_rolled_a_while_ago,{SECRET}",
    )


@pytest.fixture
def ann(shop: Shop) -> Json:
    return shop.an_affiliate("Ann", country="US", paid_to=None)


def path_of(affiliate: Json, more: str = "") -> str:
    return f"/v1/affiliates/{affiliate['id']}/stripe-account{more}"


def hear(shop: Shop, stripe: StripeDouble, settings: Settings) -> None:
    """Let Stripe tell all it has, out of order and twice, and the worker apply it."""

    def post(body: bytes, headers: dict[str, str]) -> int:
        return shop.client.post("/providers/stripe/events", content=body, headers=headers).status_code

    assert deliver(stripe.bank, post, SECRET, seed=7) >= len(stripe.events)
    run_once(shop.engine, settings, Security(b"secret-of-tests-" * 2))


def test_an_affiliate_is_onboarded_and_paid(shop: Shop, ann: Json, stripe: StripeDouble, settings: Settings) -> None:
    made = shop.post(path_of(ann))
    link = shop.post(path_of(ann, "/link"), URLS)
    with stripe.bank.lock:
        stripe.bank.onboard(made.json()["account_id"])
    hear(shop, stripe, settings)
    account = shop.get(path_of(ann), by="read").json()
    method = shop.post(
        f"/v1/affiliates/{ann['id']}/payout-methods",
        {"rail": "stripe_connect", "destination": account["account_id"]},
    )

    assert (made.status_code, link.status_code, method.status_code) == (200, 201, 201)
    assert not made.json()["ready"]
    assert made.json()["requirements"]["currently_due"]
    assert link.json()["url"].startswith("https://connect.stripe.test/setup/")
    assert account["ready"]
    assert account["capabilities"] == {"transfers": "active"}
    assert account["requirements"]["currently_due"] == []
    assert account["told_at"] is not None
    assert account["last_bank_payout"] is None


def test_the_link_is_kept_nowhere(shop: Shop, ann: Json) -> None:
    shop.post(path_of(ann))

    url = shop.post(path_of(ann, "/link"), URLS).json()["url"]

    with read_session(shop.engine) as session:
        tables = fetch(session, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        found = [
            table
            for (table,) in tables
            if fetch(session, f'SELECT FROM "{table}" AS one WHERE CAST(one AS text) LIKE :url', {"url": f"%{url}%"})
        ]
    assert found == []


def test_a_koc_does_the_same_for_itself(shop: Shop, ann: Json, stripe: StripeDouble) -> None:
    made = shop.post("/v1/me/stripe-account", by=ann["id"])
    link = shop.post("/v1/me/stripe-account/link", URLS, by=ann["id"])
    with stripe.bank.lock:
        stripe.bank.onboard(made.json()["account_id"])
    refreshed = shop.post("/v1/me/stripe-account/refresh", by=ann["id"])

    assert link.status_code == 201
    assert refreshed.json()["ready"]
    assert shop.get("/v1/me/stripe-account", by=ann["id"]).json() == shop.get(path_of(ann)).json()


def test_asking_twice_returns_the_one_account(shop: Shop, ann: Json, stripe: StripeDouble) -> None:
    answers = [shop.post(path_of(ann)), shop.post("/v1/me/stripe-account", by=ann["id"])]

    assert {answer.json()["account_id"] for answer in answers} == set(stripe.bank.accounts)
    assert len(stripe.bank.accounts) == 1


def test_a_failed_payout_to_the_bank_is_shown_and_keeps_the_account_from_being_ready(
    shop: Shop, ann: Json, stripe: StripeDouble, settings: Settings
) -> None:
    account_id = shop.post(path_of(ann)).json()["account_id"]
    with stripe.bank.lock:
        stripe.bank.onboard(account_id)
        payout = stripe.bank.pay_bank(account_id, 700)
        stripe.bank.bank_says(account_id, payout, "failed")
    hear(shop, stripe, settings)

    account = shop.get(path_of(ann)).json()

    assert not account["ready"]
    assert account["payouts_enabled"]
    assert account["last_bank_payout"]["status"] == "failed"
    assert account["last_bank_payout"]["failure_code"] == "account_closed"
    assert account["last_bank_payout"]["amount"] == {"amount_minor": 700, "currency": "USD"}
    told = [each["type"] for each in shop.get("/v1/events", limit=200).json()["data"]]
    assert told.count("stripe_account.payout_failed") == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("lost", 503, "stripe-away"), ("401", 409, "stripe-refused"), ("insufficient_funds", 409, "stripe-refused")],
)
def test_what_stripe_did_not_do_is_said_and_can_be_asked_for_again(
    shop: Shop, ann: Json, stripe: StripeDouble, fault: str, status: int, code: str
) -> None:
    stripe.fault(fault)

    refused = shop.post(path_of(ann))
    again = shop.post(path_of(ann))

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert ("retry-after" in refused.headers) is (status == 503)
    assert again.status_code == 200
    assert list(stripe.bank.accounts) == [again.json()["account_id"]]


def test_a_country_that_stripe_refuses_can_be_corrected_whatever_came_before(
    shop: Shop, ann: Json, stripe: StripeDouble
) -> None:
    stripe.fault("429")
    stripe.fault("insufficient_funds")

    answers = [shop.post(path_of(ann), {"country": country}) for country in ("KP", "KP", "US")]

    assert [answer.status_code for answer in answers] == [503, 409, 200]
    assert answers[1].json()["code"] == "stripe-refused"
    assert list(stripe.bank.accounts) == [answers[2].json()["account_id"]]


def test_what_is_missing_is_said(shop: Shop, stripe: StripeDouble) -> None:
    bob = shop.an_affiliate("Bob", paid_to=None)

    assert shop.post(path_of(bob)).json()["code"] == "stripe-account-country"
    assert shop.get(path_of(bob)).json()["code"] == "stripe-account-not-found"
    assert shop.post(path_of(bob, "/link"), URLS).json()["code"] == "stripe-account-not-made"
    assert shop.post(path_of(bob, "/refresh")).json()["code"] == "stripe-account-not-made"
    assert shop.get("/v1/affiliates/aff_01h455vb4pex5vsknk084sn02q/stripe-account").status_code == 404
    assert shop.post("/v1/affiliates/aff_01h455vb4pex5vsknk084sn02q/stripe-account").status_code == 404
    assert stripe.bank.requests == []


def test_country_and_agreement_cannot_be_asked_for_otherwise(shop: Shop, ann: Json) -> None:
    shop.post(path_of(ann))

    answer = shop.post(path_of(ann), {"country": "DE"})

    assert (answer.status_code, answer.json()["code"]) == (409, "stripe-account-fixed")


def test_a_live_merchant_is_not_served_by_a_test_key(shop: Shop, stripe: StripeDouble) -> None:
    live = Shop(shop.client, is_test=False, name="Live")
    bob = live.an_affiliate("Bob", country="US", paid_to=None)

    answer = live.post(path_of(bob))

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-rail-not-available")
    assert stripe.bank.requests == []


def test_a_slow_stripe_takes_few_places(
    shop: Shop, ann: Json, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(stripe_accounts.CALLS_AT_ONCE):
        assert stripe_accounts._calls.acquire(blocking=False)
    try:
        answer = shop.post(path_of(ann))
    finally:
        for _ in range(stripe_accounts.CALLS_AT_ONCE):
            stripe_accounts._calls.release()

    assert (answer.status_code, answer.json()["code"]) == (503, "stripe-busy")
    assert stripe.bank.requests == []
    assert shop.post(path_of(ann)).status_code == 200


def test_global_payouts_want_a_financial_account(shop: Shop, ann: Json) -> None:
    answer = shop.post(
        f"/v1/affiliates/{ann['id']}/payout-methods",
        {"rail": "stripe_global_payouts", "destination": "acct_ann0000000000"},
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "payout-rail-not-available")
    assert "KOC_STRIPE_FINANCIAL_ACCOUNT" in answer.json()["detail"]


def test_the_trail_says_who_had_an_account_made(shop: Shop, ann: Json, engine: Engine) -> None:
    shop.post(path_of(ann))

    trail = shop.get("/v1/audit", operation="create_stripe_account").json()["data"]

    assert len(trail) == 1
