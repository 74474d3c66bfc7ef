"""What a restored database has forgotten: the rail's list shows it, and it is written down again, tax and all, or left to people."""

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.payout import ItemState, Outcome, RunState, may_adopt
from service.domain.withholding.model import Regime
from service.infra.db import execute, make_engine, read_session, run_unit, unit_of_work
from service.ledger.audit import check
from service.payouts.explain import Explained, explain
from service.payouts.gate import check as compare
from service.payouts.gate import notice, open_gate
from service.payouts.providers.model import Listing
from service.payouts.retry import retry
from service.payouts.sweep import sweep
from service.tables.payouts import PayoutRunRow
from tests.stages.test_payout_gate import provider
from tests.support import databases
from tests.support.payouts import CHECKER, MAKER, Desk

JULY = datetime(2026, 7, 10, 12, tzinfo=UTC)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    desk = Desk.opened(engine, currency="CNY", now=JULY)
    desk.declare("CN", Regime.CN_LABOUR)
    return desk


@dataclass
class Backup:
    """A dump of the desk's database, and what was restored of it, to be closed in the end."""

    file: Path
    new_database: Callable[..., AbstractContextManager[str]]
    ending: ExitStack

    def restored(self, desk: Desk) -> Desk:
        """The desk on a database that knows nothing of what came after the dump; its rail knows everything."""
        url = self.ending.enter_context(self.new_database(migrated=False))
        told: list[str | Path] = [databases.program("pg_restore"), "--dbname", databases.conninfo(url), self.file]
        subprocess.run(told, check=True)
        engine = make_engine(url, pool_size=8, application_name="the test")
        self.ending.callback(engine.dispose)
        return dataclasses.replace(desk, engine=engine)


@pytest.fixture
def dump(
    database_url: str, new_database: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> Iterator[Callable[[], Backup]]:
    with contextlib.ExitStack() as ending:

        def dump() -> Backup:
            file = tmp_path / "dump"
            told: list[str | Path] = [databases.program("pg_dump"), "--format", "custom", "--file", file]
            subprocess.run([*told, databases.conninfo(database_url)], check=True)
            return Backup(file, new_database, ending)

        yield dump


def listed(desk: Desk, *, is_list: bool = True) -> Explained:
    """Compare with all that the rail did."""
    return run_unit(
        desk.engine,
        lambda session: explain(
            session,
            desk.rail.transfers,
            merchant_id=desk.merchant_id,
            rail="sandbox",
            when=desk.when,
            now=desk.now,
            security=desk.security if is_list else None,
        ),
    )


class ListedSince:
    """A rail that made nothing in the span it is asked for."""

    name = "sandbox"

    def made_between(self, since: datetime, until: datetime) -> Listing:
        return Listing()


def taxed(desk: Desk, payee_id: UUID) -> list[tuple[str, int, int]]:
    rows = desk.rows(
        "SELECT period, base_minor, tax_minor FROM tax_entry WHERE payee_id = :payee_id ORDER BY id", payee_id=payee_id
    )
    return [tuple(row) for row in rows]


def agrees(desk: Desk) -> bool:
    with read_session(desk.engine) as session:
        codes = {finding.code for finding in check(session, desk.merchant_id)}
    # What is earned here comes from no order, which others would find.
    assert not codes - {"earned", "item-gross", "posting-entries"}, codes
    return True


def closes(desk: Desk, run: PayoutRunRow) -> bool:
    desk.work(run)
    return desk.run(run).status == RunState.CLOSED


@pytest.mark.parametrize("executed", [True, False], ids=["executing", "approved"])
def test_forgotten_payouts_are_accepted_with_their_tax_and_never_sent_again(
    desk: Desk, dump: Callable[[], Backup], executed: bool
) -> None:
    ann, ben = desk.payee(600_000), desk.payee(50_000)
    desk.tax(ann, "CN")
    run = desk.an_executing_run() if executed else desk.an_approved_run()
    backup = dump()
    if not executed:
        desk.execute(run)
    desk.work(run)
    desk.rail.reverse(desk.rail.transfers[0].reference, 10)
    before = desk
    desk = backup.restored(desk)
    assert desk.balances(ann) == {"reserved": 600_000}

    found = listed(desk)

    assert (len(found.matched), found.unexplained) == (2, {})
    assert taxed(desk, ann) == taxed(before, ann) == [("2026-07", 600_000, 96_000)]
    sent = {UUID(str(each.item_id)): each.reversed_minor for each in desk.rail.transfers}
    back = sent[desk.item(ann).id]
    assert desk.balances(ann)["tax_withheld"] == 96_000
    assert desk.balances(ann)["paid"] == 504_000 - back
    assert {desk.state(each) for each in (ann, ben)} == {ItemState.SENT, ItemState.PART_REVERSED}
    assert listed(desk).changed == 0
    if not executed:
        desk.execute(run)
    assert closes(desk, run)
    assert len(desk.rail.sends) == 2
    assert agrees(desk)


def test_after_a_restore_the_gate_closes_by_itself_and_what_it_compares_is_adopted(
    desk: Desk, dump: Callable[[], Backup]
) -> None:
    ann = desk.payee(50_000)
    run = desk.an_executing_run()
    assert run_unit(desk.engine, lambda session: notice(session, now=desk.now)) is None
    backup = dump()
    desk.work(run)
    desk = backup.restored(desk)

    gate = run_unit(desk.engine, lambda session: notice(session, now=desk.now))
    assert gate is not None
    compared = compare(desk.engine, provider(desk), now=desk.now)

    assert compared is not None
    assert (compared.report["sandbox"]["matched"], compared.report["sandbox"]["unexplained"]) == (1, ())
    assert desk.balances(ann) == {"paid": 50_000}
    for person in (MAKER, CHECKER):
        run_unit(desk.engine, partial(open_gate, by=person, note="as the rail's list", now=desk.now))
    assert closes(desk, run)
    assert len(desk.rail.sends) == 1
    assert agrees(desk)


def test_a_second_attempt_that_was_forgotten_is_written_down_as_such(desk: Desk, dump: Callable[[], Backup]) -> None:
    ann = desk.payee(50_000, destination="ann")
    desk.rail.does["ann"] = ["refuse"]
    run = desk.an_executing_run()
    desk.work(run)
    backup = dump()
    desk.do(retry, item_id=desk.item(ann).id, by=MAKER, now=desk.now)
    desk.work(run)
    desk = backup.restored(desk)
    assert desk.state(ann) is ItemState.REFUSED

    listed(desk)

    first, second = desk.attempts(ann)
    assert [(each.number, each.outcome) for each in (first, second)] == [(1, "refused"), (2, "accepted")]
    assert (second.code, second.reference) == ("found_in_list", "tr_1")
    assert desk.balances(ann) == {"paid": 50_000}
    assert agrees(desk)


def test_an_attempt_that_was_called_absent_is_accepted_and_its_run_stopped(desk: Desk) -> None:
    ann, _ = desk.payee(50_000), desk.payee(50_000, destination="ben")
    desk.rail.does["ben"] = ["down"]
    run = desk.an_executing_run()
    desk.work(run)
    with unit_of_work(desk.engine) as session:
        for statement in (
            "UPDATE payout_attempt SET outcome = 'absent', reference = NULL WHERE item_id = :item",
            "UPDATE payout_item SET live = true, handed_over_at = NULL WHERE id = :item",
            "DELETE FROM provider_fact WHERE item_id = :item",
            """
            UPDATE posting
            SET debit_kind = 'in_transit', credit_kind = 'reserved', event = replace(event, 'accept', 'back')
            WHERE event LIKE '%' || CAST(:item AS text) || '%accept'
            """,
            "UPDATE balance SET amount_minor = CASE kind WHEN 'reserved' THEN 50000 ELSE 0 END WHERE owner_id = :ann",
        ):
            execute(session, statement, {"item": desk.item(ann).id, "ann": ann})

    listed(desk)

    assert [(each.number, each.outcome) for each in desk.attempts(ann)] == [(1, "accepted")]
    assert desk.balances(ann) == {"paid": 50_000}
    assert desk.run(run).stop_code == "unexpected_transfer"


def twice(desk: Desk) -> None:
    [made] = desk.rail.transfers
    desk.rail.transfers.append(dataclasses.replace(made, reference="tr_again"))


def of_another_amount(desk: Desk) -> None:
    desk.rail.transfers[0] = dataclasses.replace(desk.rail.transfers[0], amount_minor=49_999)


def to_somebody_else(desk: Desk) -> None:
    desk.rail.transfers[0] = dataclasses.replace(desk.rail.transfers[0], destination="sandbox_other")


def without_a_number(desk: Desk) -> None:
    desk.rail.transfers[0] = dataclasses.replace(desk.rail.transfers[0], number=0)


@pytest.mark.parametrize("tamper", [twice, of_another_amount, to_somebody_else, without_a_number])
def test_what_is_not_just_what_was_decided_is_left_to_people(
    desk: Desk, dump: Callable[[], Backup], tamper: Callable[[Desk], None]
) -> None:
    ann = desk.payee(50_000)
    run = desk.an_executing_run()
    backup = dump()
    desk.work(run)
    tamper(desk)
    desk = backup.restored(desk)

    found = listed(desk)

    assert set(found.unexplained.values()) == {"unexpected_transfer"}
    assert (desk.item(ann).frozen_code, desk.balances(ann)) == ("unexpected_transfer", {"reserved": 50_000})
    assert desk.run(run).stop_code == "unexpected_transfer"


def test_an_event_alone_adopts_nothing_and_the_list_does_later(desk: Desk, dump: Callable[[], Backup]) -> None:
    ann = desk.payee(50_000)
    run = desk.an_executing_run()
    backup = dump()
    desk.work(run)
    desk = backup.restored(desk)
    listed(desk, is_list=False)
    assert desk.item(ann).frozen_code == "unexpected_transfer"

    listed(desk)

    assert (desk.item(ann).frozen_code, desk.balances(ann)) == (None, {"paid": 50_000})
    # A later list does not reach back to when it was sent.
    desk.later(hours=2)
    later = sweep(provider(desk), cast("Any", ListedSince()), since=desk.now - timedelta(hours=1), now=desk.now)
    assert (later.complete, later.missing) == (True, ())


REFUSED, ABSENT, UNKNOWN = Outcome.REFUSED, Outcome.ABSENT, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("number", "known", "run", "may"),
    [
        pytest.param(1, {}, RunState.EXECUTING, True, id="forgotten"),
        pytest.param(1, {}, RunState.APPROVED, True, id="forgotten with the execution"),
        pytest.param(1, {}, RunState.SUBMITTED, False, id="forgotten with the approval"),
        pytest.param(1, {}, RunState.CLOSED, False, id="closed"),
        pytest.param(0, {}, RunState.EXECUTING, False, id="no number"),
        pytest.param(3, {1: REFUSED}, RunState.EXECUTING, True, id="two forgotten"),
        pytest.param(1, {1: ABSENT}, RunState.EXECUTING, True, id="called absent"),
        pytest.param(1, {1: ABSENT, 2: REFUSED}, RunState.EXECUTING, False, id="an earlier one"),
        pytest.param(2, {1: ABSENT, 2: UNKNOWN}, RunState.EXECUTING, False, id="not decided"),
    ],
)
def test_what_may_be_adopted(number: int, known: dict[int, Any], run: RunState, may: bool) -> None:
    assert may_adopt(number, known, run=run) is may
