"""The report of tax: one row for each entry, and what of it was passed on."""

import csv
import io
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.withholding.model import Duty, Key, Mode, Regime
from service.infra.db import read_session, unit_of_work
from service.infra.ids import encode
from service.payouts import remit
from service.reports.define import Filter, Format
from service.reports.registry import find
from service.reports.stream import Asked, stream
from tests.stages.test_registers import opening, paid, payee, untaxed
from tests.support.payouts import MAKER, Desk

JULY = Key("vn_2026_07", Duty.INCOME_TAX, "2026-07")


@pytest.fixture
def desk(engine: Engine) -> Desk:
    desk = Desk.opened(engine, currency="VND", now=datetime(2026, 7, 10, 12, tzinfo=UTC))
    desk.declare("VN", Regime.VN)
    return desk


def rows(desk: Desk, name: str = "tax", **filters: Any) -> list[dict[str, str]]:
    with read_session(desk.engine) as session:
        narrowed = {Filter(key.rstrip("_")): value for key, value in filters.items()}
        blocks = stream(session, find(name), Format.CSV, Asked(desk.merchant_id, "UTC", desk.now, narrowed))
        return list(csv.DictReader(io.StringIO(b"".join(blocks).decode(), newline="")))


def passed_on(desk: Desk) -> None:
    with unit_of_work(desk.engine) as session:
        asked = remit.Asked(
            merchant_id=desk.merchant_id, key=JULY, currency="VND", reference="KB-1", paid_on=desk.when.day, by=MAKER
        )
        remit.remit(session, asked, when=desk.when)


def remitted(desk: Desk) -> list[tuple[str, str, str]]:
    return [(row["kind"], row["tax"], row["remitted"]) for row in rows(desk)]


def test_a_row_names_the_payout_the_rule_and_the_day(desk: Desk) -> None:
    lan = payee(desk, "lan", "VN", resident=True)
    paid(desk, lan, 6_000_000)

    [row] = rows(desk)

    item = desk.item(lan)
    assert (row["payout_id"], row["run_id"], row["affiliate_id"]) == (
        encode("pay", item.id),
        encode("run", item.run_id),
        encode("aff", lan),
    )
    assert (row["rule"], row["duty"], row["period"], row["booked_on"]) == (*_text(JULY), "2026-07-10")
    assert (row["base"], row["tax_minor"], row["borne"], row["currency"]) == ("6000000", "600000", "0", "VND")


def _text(key: Key) -> tuple[str, str, str]:
    return key.rule, key.duty.value, key.period


def test_what_was_booked_after_a_remittance_is_still_to_be_passed_on(desk: Desk) -> None:
    lan = payee(desk, "lan", "VN", resident=True)
    opening(desk, lan, JULY, base=5_000_000, tax=500_000)
    paid(desk, lan, 6_000_000, 1_000_000)
    untaxed(desk, lan, JULY, 100_000)
    assert remitted(desk) == [
        ("opening", "500000", ""),
        ("accepted", "600000", "no"),
        ("accepted", "0", ""),
        ("corrected", "-100000", "no"),
    ]

    passed_on(desk)
    assert {told for _, _, told in remitted(desk)} == {"", "yes"}

    paid(desk, lan, 8_000_000)
    untaxed(desk, lan, JULY, 200_000)
    assert [told for _, _, told in remitted(desk)] == ["", "yes", "", "yes", "no", "no"]


def test_what_was_undone_before_it_was_passed_on_is_not_waited_for(desk: Desk) -> None:
    lan = payee(desk, "lan", "VN", resident=True)
    paid(desk, lan, 6_000_000)
    untaxed(desk, lan, JULY, 600_000)

    assert [told for _, _, told in remitted(desk)] == ["yes", "yes"]


def test_what_the_merchant_bears_is_passed_on_too(desk: Desk) -> None:
    desk.declare("VN", Regime.VN, mode=Mode.WARN)
    lan = payee(desk, "lan", "VN", resident=True)
    paid(desk, lan, 6_000_000)

    assert [(row["tax"], row["borne"], row["remitted"]) for row in rows(desk)] == [("600000", "600000", "no")]
    assert [(row["tax"], row["tax_borne_minor"], row["tax_borne"], row["net"]) for row in rows(desk, "payouts")] == [
        ("0", "600000", "600000", "6000000")
    ]


def test_the_report_is_narrowed_by_day_currency_and_run(desk: Desk) -> None:
    lan, ben = payee(desk, "lan", "VN", resident=True), payee(desk, "ben", "VN", resident=True)
    paid(desk, lan, 6_000_000)
    desk.later(days=2)
    paid(desk, ben, 7_000_000)

    def told(**filters: Any) -> list[str]:
        return [row["affiliate_external_id"] for row in rows(desk, **filters)]

    run_id: UUID = desk.item(ben).run_id
    assert told() == ["lan", "ben"]
    assert told(from_=date(2026, 7, 11)) == told(run_id=run_id) == ["ben"]
    assert told(to=date(2026, 7, 11)) == ["lan"]
    assert told(currency="USD") == []
