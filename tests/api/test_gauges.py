"""Numbers of the business in /metrics: read from the database, kept for some seconds, absent where it is away."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from service.api import gauges
from service.infra import ids
from service.infra.db import execute, unit_of_work
from service.infra.settings import Settings
from service.main import create_app
from service.worker import run_once
from tests.support.shop import SECRET_KEY, Shop


@pytest.fixture(autouse=True)
def always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "KEPT_S", 0)


@pytest.fixture
def live(client: TestClient) -> Shop:
    """Return a merchant whose numbers count."""
    return Shop(client, is_test=False)


def went_live(shop: Shop, engine: Engine, *, is_test: bool) -> None:
    """Let the numbers of a merchant count that pays by the rail that moves no money; its keys are refused meanwhile."""
    with unit_of_work(engine) as session:
        asked = {"id": ids.decode("mer", shop.id), "is_test": is_test}
        execute(session, "UPDATE merchant SET is_test = :is_test WHERE id = :id", asked)


def numbers(client: TestClient) -> dict[str, float]:
    """The gauges of the database by sample, as a scrape finds them."""
    names = "|".join(gauge.name for question in gauges.QUESTIONS for gauge in question.gauges)
    found = re.findall(
        rf"^((?:{names}|{gauges.READ.name})(?:{{.*}})?) (\S+)$", client.get("/metrics").text, re.MULTILINE
    )
    return {sample: float(value) for sample, value in found}


def test_a_quiet_service_says_zero_to_all_that_has_no_currency(client: TestClient) -> None:
    found = numbers(client)

    assert found.pop(gauges.READ.name) == 1
    assert set(found.values()) == {0}
    assert len(found) == 2 + 2 + 2 + 4 + 4 + 3 + 2 + 1 + 2 + 1 + 3 + 2 + 1


def test_what_waits_or_is_parked_is_counted_with_its_age(client: TestClient, live: Shop, engine: Engine) -> None:
    live.deliver(live.refund(live.order("never"), "5.00"))
    live.deliver({"type": "nonsense"})
    live.deliver({"type": "nonsense", "again": True})
    with unit_of_work(engine) as session:
        execute(session, "UPDATE inbox SET received_at = now() - interval '1 hour' WHERE state = 'waiting'")

    found = numbers(client)

    assert found['koc_inbox_open{state="waiting"}'] == 1
    assert found['koc_inbox_open{state="parked"}'] == 2
    assert 3600 <= found['koc_inbox_oldest_seconds{state="waiting"}'] < 3700
    assert found['koc_inbox_oldest_seconds{state="parked"}'] < 60


def test_debts_are_summed_by_currency_and_test_merchants_left_out(
    client: TestClient, live: Shop, engine: Engine
) -> None:
    for shop, name in ((live, "Lan"), (live, "Mai"), (Shop(client), "Test")):
        shop.an_affiliate(name, paid_to=None)
    with unit_of_work(engine) as session:
        # Two who owe, one of them in two currencies, one who is owed, and all of it again for the test merchant.
        execute(
            session,
            """
            INSERT INTO balance (merchant_id, owner_id, kind, currency, amount_minor, version)
            SELECT affiliate.merchant_id, affiliate.id, 'payable', owed.currency, owed.amount, 1
            FROM affiliate JOIN (VALUES ('Lan', 'USD', -500), ('Lan', 'VND', -7), ('Mai', 'USD', -1), ('Mai', 'EUR', 9),
                                        ('Test', 'USD', -99)) AS owed (name, currency, amount) USING (name)
            """,
        )

    found = numbers(client)

    assert found['koc_balances_negative{currency="USD"}'] == 2
    assert found['koc_balances_negative_minor{currency="USD"}'] == 501
    assert found['koc_balances_negative_minor{currency="VND"}'] == 7
    assert 'koc_balances_negative{currency="EUR"}' not in found


def test_commissions_that_wait_for_a_person_are_counted(client: TestClient, live: Shop) -> None:
    program = live.a_program(settlement={"kind": "rolling", "start": "paid", "hold_days": 14, "approval": "manual"})
    lan = live.an_affiliate("Lan", program=program, paid_to=None)
    live.a_coupon(lan, "LAN", program=program)
    live.an_order("1001", coupon_codes=["LAN"])

    found = numbers(client)

    assert found["koc_commissions_unreviewed"] == 1
    assert found["koc_commission_unreviewed_oldest_seconds"] < 60


def test_payouts_that_a_rail_refused_and_bookings_to_be_chained_are_counted(
    client: TestClient, shop: Shop, engine: Engine
) -> None:
    shop.a_coupon(shop.an_affiliate("Lan", paid_to="sandbox_refuse"), "LAN")
    shop.an_order("1001", coupon_codes=["LAN"], placed_at=shop.time(days=20))
    went_live(shop, engine, is_test=False)
    unchained = numbers(client)["koc_ledger_bookings_unchained"]
    went_live(shop, engine, is_test=True)
    shop.post("/v1/jobs/settle", by="finance-maker")
    run = shop.post("/v1/payout-runs", {"rail": "sandbox", "currency": "USD"}, by="finance-maker").json()
    shop.let_out(run)
    service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)
    went_live(shop, engine, is_test=False)

    found = numbers(client)

    assert unchained > 0
    assert found["koc_ledger_bookings_unchained"] == 0
    assert found['koc_payouts_open{state="refused"}'] == 1
    assert found['koc_payouts_open{state="unknown"}'] == 0


def test_jobs_that_nobody_begins_are_overdue(client: TestClient, live: Shop, engine: Engine) -> None:
    service = client.app.state.service  # type: ignore[attr-defined] # typed as any ASGI application
    run_once(service.engine, service.settings, service.security)
    with unit_of_work(engine) as session:
        execute(session, "UPDATE job SET due_at = now() - interval '10 minutes' WHERE kind = 'chain'")

    found = numbers(client)

    assert found["koc_jobs_overdue"] == 1
    assert 600 <= found["koc_job_overdue_oldest_seconds"] < 700


def test_they_are_asked_for_once_in_some_seconds(
    client: TestClient, live: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "KEPT_S", timedelta(hours=1).total_seconds())
    numbers(client)
    live.deliver({"type": "nonsense"})

    assert numbers(client)['koc_inbox_open{state="parked"}'] == 0


def test_with_the_database_away_the_rest_is_still_told() -> None:
    nowhere = Settings(secret_key=SECRET_KEY, database_url="postgresql://koc@127.0.0.1:1/koc")

    with TestClient(create_app(nowhere)) as client:
        answer = client.get("/metrics")

    assert answer.status_code == 200
    assert "koc_database_gauges_read 0.0" in answer.text
    assert "koc_http_requests_total" in answer.text
    assert "koc_jobs_overdue" not in answer.text


def test_the_oldest_day_that_is_not_closed_is_told(client: TestClient, live: Shop, engine: Engine) -> None:
    live.a_coupon(live.an_affiliate(paid_to=None), "LAN")
    live.an_order(coupon_codes=["LAN"])
    live.an_order(coupon_codes=["LAN"])
    with unit_of_work(engine) as session:
        execute(session, "UPDATE day_slot SET day = day - 9")
    before = numbers(client)["koc_books_oldest_open_days"]
    until = (live.now() - timedelta(days=9)).date().isoformat()
    assert live.post("/v1/book-closes", {"until": until}, by="finance-checker").status_code == 201

    assert (before, numbers(client)["koc_books_oldest_open_days"]) == (9, 0)


def test_differences_that_nobody_has_explained_are_counted(client: TestClient, live: Shop, engine: Engine) -> None:
    asked = {"begins_on": "2026-11-01", "until": "2026-11-30", "bank": {"format": "csv"}}
    made = live.post("/v1/reconciliations", asked, by="finance-maker").json()
    row = {"merchant_id": ids.decode("mer", live.id), "of": ids.decode("rec", made["id"])}
    with unit_of_work(engine) as session:
        for explained_by in (None, None, "bank_fee"):
            execute(
                session,
                """
                INSERT INTO reconciliation_difference (merchant_id, id, reconciliation_id, about, kind, external_id,
                                                       currency, rows, explained_by, explained_ref, note)
                VALUES (:merchant_id, :id, :of, 'payout', 'missing', '', 'USD', '[]', :explained_by, '', '')
                """,
                row | {"id": ids.new_id(), "explained_by": explained_by},
            )

    found = numbers(client)

    assert found['koc_reconciliation_differences_unexplained{about="payout"}'] == 2
    assert found['koc_reconciliation_differences_unexplained{about="order"}'] == 0
