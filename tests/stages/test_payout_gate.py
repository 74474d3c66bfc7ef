"""The gate: it closes when the database is not where it was, nothing passes it, and two persons open it once all is compared."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.payout import Answer, AnswerKind, ItemState
from service.infra.db import execute, make_engine, run_unit, unit_of_work
from service.payouts.apply import Provider
from service.payouts.gate import (
    CHECK_EVERY,
    GateOpen,
    GateSecondPerson,
    GateUnchecked,
    check,
    close,
    closed_gate,
    notice,
    open_gate,
)
from service.payouts.providers.model import Listing, Transfer
from service.payouts.release import cancel
from tests.support import databases
from tests.support.payouts import CHECKER, MAKER, Desk


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


@dataclass
class Told:
    """The desk's rail as one that can be asked about everything it did."""

    desk: Desk
    name: str = "sandbox"
    trouble: Any = None

    def made_between(self, since: Any, until: Any) -> Listing:
        assert since < until
        named = tuple(_named(each, self.desk.merchant_id) for each in self.desk.rail.transfers)
        return Listing(named, self.trouble)


def _named(transfer: Transfer, merchant_id: UUID) -> Transfer:
    return Transfer(
        transfer.item_id,
        transfer.number,
        transfer.reference,
        transfer.amount_minor,
        transfer.reversed_minor,
        transfer.currency,
        transfer.destination,
        merchant_id=merchant_id,
    )


def provider(desk: Desk) -> Provider:
    rails = cast("Any", {"sandbox": Told(desk)})
    return Provider(desk.engine, desk.security, cast("Any", None), rails, lambda: desk.now)


def noticed(desk: Desk) -> bool:
    return run_unit(desk.engine, lambda session: notice(session, now=desk.now) is not None)


def is_closed(desk: Desk) -> bool:
    return run_unit(desk.engine, lambda session: closed_gate(session) is not None)


def shut(desk: Desk) -> None:
    with unit_of_work(desk.engine) as session:
        close(session, reason="by_hand", detail="a drill", since=desk.now - timedelta(days=2), now=desk.now)


def opened(desk: Desk, by: UUID) -> None:
    with unit_of_work(desk.engine) as session:
        open_gate(session, by=by, note="looked at", now=desk.now)


@pytest.mark.parametrize(
    "changed",
    [
        "system_identifier = 'another'",
        "timeline = timeline + 1",
        # A dump that was read back on this server, and a database that was made from another.
        "table_oid = table_oid + 1",
        "database_oid = database_oid + 1",
    ],
)
def test_another_server_or_another_history_closes_the_gate(desk: Desk, changed: str) -> None:
    assert not noticed(desk)
    assert not noticed(desk)
    with unit_of_work(desk.engine) as session:
        execute(session, f"UPDATE database_mark SET {changed}")

    assert noticed(desk)
    assert is_closed(desk)
    assert not noticed(desk)


def test_a_dump_that_is_read_back_on_the_same_server_closes_the_gate(
    desk: Desk, database_url: str, new_database: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    noticed(desk)
    dump = tmp_path / "dump"
    told: list[Path | str] = [
        databases.program("pg_dump"),
        "--format",
        "custom",
        "--file",
        dump,
        databases.conninfo(database_url),
    ]
    subprocess.run(told, check=True)

    with new_database(migrated=False) as url:
        read: list[Path | str] = [databases.program("pg_restore"), "--dbname", databases.conninfo(url), dump]
        subprocess.run(read, check=True)
        engine = make_engine(url, pool_size=1, application_name="the test")
        try:
            gate = run_unit(engine, lambda session: notice(session, now=desk.now))
        finally:
            engine.dispose()

    assert gate is not None
    assert not noticed(desk)


def test_nothing_is_sent_while_it_is_closed_and_all_goes_on_after_two_persons_opened_it(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    shut(desk)
    desk.work(run)
    assert (desk.rail.calls, desk.run(run).waits_for) == ([], "gate_closed")
    with pytest.raises(GateUnchecked):
        opened(desk, MAKER)
    check(desk.engine, provider(desk), now=desk.now)

    opened(desk, MAKER)
    with pytest.raises(GateSecondPerson):
        opened(desk, MAKER)
    desk.work(run)
    assert desk.rail.calls == []
    opened(desk, CHECKER)
    desk.work(run)

    assert desk.state(ann) is ItemState.SENT
    with pytest.raises(GateOpen):
        opened(desk, MAKER)


def test_a_list_that_could_not_be_read_keeps_it_closed(desk: Desk) -> None:
    shut(desk)
    asked = provider(desk)
    cast("Any", asked.rails["sandbox"]).trouble = Answer(AnswerKind.UNKNOWN, code="timeout")
    check(desk.engine, asked, now=desk.now)

    with pytest.raises(GateUnchecked):
        opened(desk, MAKER)


def test_where_no_rail_keeps_a_list_two_persons_can_open_it(desk: Desk) -> None:
    """Or a service that pays by files alone would never pay again."""
    shut(desk)

    check(desk.engine, None, now=desk.now)
    opened(desk, MAKER)
    opened(desk, CHECKER)

    assert not is_closed(desk)


def test_it_is_compared_anew_every_few_minutes(desk: Desk) -> None:
    shut(desk)

    assert check(desk.engine, provider(desk), now=desk.now) is not None
    assert check(desk.engine, provider(desk), now=desk.now) is None
    desk.later(seconds=int(CHECK_EVERY.total_seconds()))
    assert check(desk.engine, provider(desk), now=desk.now) is not None


def test_money_that_nobody_here_decided_freezes_its_payout_until_people_have_released_it(desk: Desk) -> None:
    ann = desk.payee(1_000)
    run = desk.an_executing_run()
    desk.work(run)
    # Restored to the moment before it was planned, and the rail tells another amount than was decided.
    with unit_of_work(desk.engine) as session:
        for statement in (
            "DELETE FROM provider_fact",
            "DELETE FROM payout_attempt",
            "UPDATE payout_item SET live = true, handed_over_at = NULL",
            "UPDATE payout_run SET status = 'executing', closed_at = NULL",
            "UPDATE balance SET amount_minor = CASE kind WHEN 'reserved' THEN 1000 ELSE 0 END",
        ):
            execute(session, statement)
    desk.rail.transfers[0] = replace(desk.rail.transfers[0], amount_minor=999)
    shut(desk)

    check(desk.engine, provider(desk), now=desk.now)

    item = desk.item(ann)
    assert item.frozen_code == "unexpected_transfer"
    desk.do(cancel, run_id=run.id, when=desk.when, now=desk.now)
    assert desk.item(ann).live, "given back with the others, and what is out would be paid again"
    opened(desk, MAKER)
    opened(desk, CHECKER)
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_run SET stopped_at = NULL")
    desk.work(run)
    assert len(desk.rail.sends) == 1
