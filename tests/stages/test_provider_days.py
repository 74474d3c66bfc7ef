"""A day of our books beside the provider's: transfer by transfer, each difference with its reason."""

from datetime import timedelta
from typing import Any

import pytest

from service.domain.provider import ProviderDifferenceKind, why_different
from service.infra.db import execute, unit_of_work
from service.payouts.days import compare_day
from service.payouts.providers.stripe_events import StripeEvents
from service.payouts.service_jobs import COMPARE, Done, ServiceJob, do_service
from tests.doubles.stripe import StripeDouble
from tests.support.payouts import Desk
from tests.support.stripe import Told


@pytest.fixture
def desk(told: Told) -> Desk:
    return told.desk()


def compared(told: Told, desk: Desk) -> list[Any]:
    """The result of today, after it was compared on every rail."""
    for rail in told.provider.rails.values():
        assert compare_day(told.provider, rail, told.now().date())
    return list(
        desk.rows(
            """
            SELECT currency, provider_minor, ledger_minor, matched, unexplained, differences, differences_total
            FROM provider_reconciliation WHERE merchant_id = :merchant_id ORDER BY rail, day, currency
            """
        )
    )


def reverse(stripe: StripeDouble, number: int, amount: int) -> None:
    with stripe.bank.lock:
        transfer = stripe.transfers[number]
        stripe.bank.act("POST", ["transfers", transfer["id"], "reversals"], {"amount": str(amount)})


@pytest.mark.parametrize("rail", ["connect", "payouts"])
def test_a_day_that_is_the_same_on_both_sides_has_no_difference(told: Told, stripe: StripeDouble, rail: str) -> None:
    desk = told.desk(rail=rail)
    for amount in (1000, 700):
        desk.payee(amount, destination=stripe.account())
    desk.work(desk.an_executing_run())

    [day] = compared(told, desk)

    assert (day.provider_minor, day.ledger_minor, day.matched, day.differences) == (1700, 1700, 2, [])


@pytest.mark.parametrize("rail", ["connect", "payouts"])
def test_what_came_back_is_on_both_sides_too(told: Told, stripe: StripeDouble, rail: str) -> None:
    desk = told.desk(rail=rail)
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    if rail == "connect":
        reverse(stripe, 0, 400)
    else:
        with stripe.bank.lock:
            for status in ("posted", "returned"):
                stripe.bank.payments.become(stripe.payments[0]["id"], status)
    told.hear()

    [day] = compared(told, desk)

    assert day.provider_minor == day.ledger_minor == (600 if rail == "connect" else 0)
    assert (day.matched, day.differences) == (1, [])


def test_each_merchant_sees_its_own_side_alone(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    other = told.desk()
    for each, amount in ((desk, 1000), (other, 70)):
        each.payee(amount, destination=stripe.account())
        each.work(each.an_executing_run())
    with stripe.bank.lock:
        form = {"amount": "5", "currency": "usd", "destination": stripe.account()}
        stripe.bank.act("POST", ["transfers"], form)

    assert [(day.provider_minor, day.ledger_minor) for day in compared(told, desk)] == [(1000, 1000)]
    assert [(day.provider_minor, day.ledger_minor) for day in compared(told, other)] == [(70, 70)]


def test_a_reversal_that_we_do_not_know_yet_is_no_known_reason(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    reverse(stripe, 0, 400)

    [day] = compared(told, desk)

    assert (day.provider_minor, day.ledger_minor, day.matched, day.unexplained) == (600, 1000, 0, 1)
    [difference] = day.differences
    assert (difference["kind"], difference["reference"]) == ("amount", stripe.transfers[0]["id"])
    assert (difference["provider_minor"], difference["ledger_minor"]) == (600, 1000)
    told.hear()
    assert [(each.unexplained, each.matched) for each in compared(told, desk)] == [(0, 1)]


def test_an_attempt_that_is_not_resolved_explains_itself(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    desk.payee(1000, destination=stripe.account())
    stripe.fault("lost")
    desk.work(desk.an_executing_run())

    [day] = compared(told, desk)

    assert (day.provider_minor, day.ledger_minor, day.unexplained) == (1000, 0, 0)
    assert [each["kind"] for each in day.differences] == ["pending"]


def test_what_we_booked_and_the_provider_does_not_know_is_for_people(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    with stripe.bank.lock:
        stripe.bank.transfers.clear()
        stripe.bank.transactions.clear()

    [day] = compared(told, desk)

    assert (day.provider_minor, day.ledger_minor, day.unexplained) == (0, 1000, 1)
    assert [each["kind"] for each in day.differences] == ["not_at_provider"]


def test_what_the_provider_moved_and_no_attempt_of_ours_made_is_for_people(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    with stripe.bank.lock:
        twin = {
            "amount": "1000",
            "currency": "usd",
            "destination": stripe.transfers[0]["destination"],
            "transfer_group": stripe.transfers[0]["transfer_group"],
            "metadata": stripe.transfers[0]["metadata"],
        }
        stripe.bank.act("POST", ["transfers"], twin)

    [day] = compared(told, desk)

    assert (day.provider_minor, day.ledger_minor, day.matched, day.unexplained) == (2000, 1000, 1, 1)
    assert [each["kind"] for each in day.differences] == ["not_in_ledger"]


def test_what_was_booked_on_another_day_is_only_late(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    with unit_of_work(told.engine) as session:
        execute(session, "UPDATE provider_fact SET told_at = told_at + interval '1 day'")

    [today] = compared(told, desk)
    told.ahead = timedelta(days=1)
    [_, tomorrow] = compared(told, desk)

    for day, provider, ledger in ((today, 1000, 0), (tomorrow, 0, 1000)):
        assert (day.provider_minor, day.ledger_minor, day.unexplained) == (provider, ledger, 0)
        assert [each["kind"] for each in day.differences] == ["timing"]


def test_the_differences_of_a_day_add_up_to_the_difference_of_its_sides(
    told: Told, desk: Desk, stripe: StripeDouble
) -> None:
    for amount in (1000, 700, 50):
        desk.payee(amount, destination=stripe.account())
    desk.work(desk.an_executing_run())
    reverse(stripe, 0, 30)
    reverse(stripe, 1, 20)

    [day] = compared(told, desk)

    apart = sum(each["provider_minor"] - each["ledger_minor"] for each in day.differences)
    assert apart == day.provider_minor - day.ledger_minor == -50
    assert (day.matched, day.differences_total) == (1, 2)


def test_a_day_the_provider_does_not_tell_is_compared_later(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    gone = Told.on(told.engine, type("Gone", (), {"url": "http://127.0.0.1:9"})())

    for rail in gone.provider.rails.values():
        assert not compare_day(gone.provider, rail, told.now().date())
    gone.close()

    assert desk.rows("SELECT FROM provider_reconciliation") == []


def test_the_last_three_days_are_compared_once_a_day(told: Told, desk: Desk, stripe: StripeDouble) -> None:
    desk.payee(1000, destination=stripe.account())
    desk.work(desk.an_executing_run())
    midnight = told.now().replace(hour=0, minute=0, second=0, microsecond=0)

    def turn(job: ServiceJob) -> Done:
        return do_service(told.provider, StripeEvents(told.connect.api), job, until=told.now())

    first = turn(ServiceJob(COMPARE, told.now(), 1, {}))
    again = turn(ServiceJob(COMPARE, told.now(), 1, first.payload))
    told.ahead = midnight + timedelta(days=1, hours=1, minutes=1) - told.now()
    second = turn(ServiceJob(COMPARE, told.now(), 1, first.payload))

    assert again.payload == first.payload
    assert second.payload == {"day": midnight.date().isoformat()}
    assert abs(second.next_at - (midnight + timedelta(days=2, hours=1))) < timedelta(minutes=1)
    [day] = desk.rows("SELECT day, matched FROM provider_reconciliation")
    assert (day.day, day.matched) == (midnight.date(), 1)


@pytest.mark.parametrize(
    ("ledger", "provider", "is_open", "known", "kind"),
    [
        pytest.param(5, 5, False, True, ProviderDifferenceKind.TIMING, id="both whole"),
        pytest.param(0, 5, True, False, ProviderDifferenceKind.PENDING, id="not resolved"),
        pytest.param(0, 5, False, False, ProviderDifferenceKind.NOT_IN_LEDGER, id="nobody's"),
        pytest.param(5, 3, False, True, ProviderDifferenceKind.AMOUNT, id="another amount"),
        pytest.param(5, None, False, True, ProviderDifferenceKind.NOT_AT_PROVIDER, id="gone"),
        pytest.param(0, 0, False, False, ProviderDifferenceKind.TIMING, id="out and back on two days"),
    ],
)
def test_each_difference_has_one_reason(
    ledger: int, provider: int | None, is_open: bool, known: bool, kind: ProviderDifferenceKind
) -> None:
    assert why_different(ledger_minor=ledger, provider_minor=provider, has_open_attempt=is_open, is_known=known) is kind
