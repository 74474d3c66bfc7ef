"""Files of payouts: built from what is planned, frozen, handed over once however often they are fetched."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from service.domain.destination import Destination
from service.domain.payout import ItemState, Outcome, RunState
from service.domain.payout_control import LimitKind, WaitsFor
from service.domain.payout_file import FileRailName, FileState
from service.domain.withholding.model import PayeeKind
from service.infra.crash import Crashed, CrashPoint, crashing_at
from service.infra.db import execute, make_engine, run_unit, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.payouts.control import stop_sending
from service.payouts.file_settings import PayerAccountMissing, demand_payer
from service.payouts.files import FileNotBuilt, build, void
from service.payouts.find import WrongRunState, lock_run
from service.payouts.gate import notice
from service.payouts.hand_over import FileOutdated, FileVoid, RunStopped, hand_over
from service.payouts.plan import plan
from service.payouts.providers import FILE_RAILS
from service.payouts.providers.file_model import message_id_of, reference_of
from service.payouts.record import stop
from service.payouts.release import MayHaveBeenSent, cancel, release
from service.payouts.retry import NothingToRetry, retry
from service.payouts.send import expire, lease_planned, lease_unknown
from service.tables.control import EVERYBODY, PayoutLimitRow
from service.tables.parties import AffiliateKind, TaxRule
from tests.support.payout_files import FileDesk, an_account, findings
from tests.support.payouts import CHECKER, MAKER


@pytest.fixture
def files(engine: Engine) -> FileDesk:
    return FileDesk.opened(engine)


def test_a_run_on_a_rail_of_files_builds_one_and_waits(files: FileDesk) -> None:
    ann, bob = files.payee(1000), files.payee(2553, number=2)

    run, [file] = files.built()

    assert (file.state, file.lines, file.control_sum_minor, file.currency) == (FileState.BUILT, 2, 3553, "EUR")
    assert (file.number, file.message_id) == (1, message_id_of(file.id))
    assert [files.desk.state(each) for each in (ann, bob)] == [ItemState.SENDING, ItemState.SENDING]
    assert files.desk.balances(ann) == {"in_transit": 1000}
    assert sorted(line.amount_minor for line in files.lines(file)) == [1000, 2553]
    assert files.desk.run(run).status == RunState.EXECUTING
    assert findings(files.desk) == []


def test_working_again_builds_nothing_more(files: FileDesk) -> None:
    files.payee(1000)
    run, built = files.built()

    progress = files.work(run)

    assert progress.next_at == files.desk.now + timedelta(hours=1)
    assert files.files(run) == built


def test_neither_file_nor_rows_lie_open_in_the_database(files: FileDesk) -> None:
    account = an_account(FileRailName.SEPA_FILE)
    ann = files.payee(1000, account)

    _, [file] = files.built()

    assert account.account.encode() not in file.content
    assert account.account.encode() not in files.desk.attempts(ann)[0].request
    assert account.account.encode() in files.hand_over(file).content


def test_three_thousand_and_one_payees_make_two_files_at_alipay(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.ALIPAY_FILE, currency="CNY")
    _many_payees(files, 3001)

    run, built = files.built()

    assert [(each.number, each.lines) for each in built] == [(1, 3000), (2, 1)]
    assert sum(each.control_sum_minor for each in built) == sum(range(100, 3101))
    assert len({each.message_id for each in built}) == 2
    contents = [files.hand_over(each).content.decode("gb18030").splitlines() for each in built]
    assert [len(each) for each in contents] == [3003, 4]
    serials = {line.split(",")[0] for each in contents for line in each[3:]}
    assert len(serials) == 3001
    assert max(map(len, serials)) == 22
    assert files.desk.run(run).status == RunState.EXECUTING


def _many_payees(files: FileDesk, number: int) -> None:
    """So many payees with 1.00 and more, by a few statements."""
    desk = files.desk
    first = files.payee(100)
    accounts = [an_account(files.name, 2 + each) for each in range(number - 1)]
    asked = {
        "merchant_id": desk.merchant_id,
        "first": first,
        "numbers": list(range(number - 1)),
        "destinations": [
            desk.security.encrypt(each.to_text().encode(), purpose="payout-destination") for each in accounts
        ],
        "fingerprints": [desk.security.fingerprint(desk.merchant_id, files.name, each.identity) for each in accounts],
    }

    def work(session: Any) -> None:
        execute(
            session,
            """
            INSERT INTO affiliate (merchant_id, id, kind, name, profile, identities, status, tax_rule, created_at, updated_at)
            SELECT merchant_id, CAST(lpad(to_hex(number + 1), 32, '0') AS uuid), kind, name, profile, identities, status,
                   tax_rule, created_at, updated_at
            FROM affiliate CROSS JOIN unnest(CAST(:numbers AS integer[])) AS made (number)
            WHERE merchant_id = :merchant_id AND id = :first
            """,
            asked,
        )
        execute(
            session,
            """
            INSERT INTO payout_method (merchant_id, id, affiliate_id, rail, destination, destination_hint, fingerprint, created_at)
            SELECT method.merchant_id, CAST(lpad(to_hex(number + 1), 32, '0') AS uuid),
                   CAST(lpad(to_hex(number + 1), 32, '0') AS uuid), rail, made.destination, '', made.fingerprint, created_at
            FROM payout_method AS method
            CROSS JOIN unnest(CAST(:numbers AS integer[]), CAST(:destinations AS bytea[]), CAST(:fingerprints AS text[]))
                 AS made (number, destination, fingerprint)
            WHERE method.merchant_id = :merchant_id AND affiliate_id = :first
            """,
            asked,
        )
        execute(
            session,
            """
            INSERT INTO balance (merchant_id, owner_id, kind, currency, amount_minor, version)
            SELECT merchant_id, CAST(lpad(to_hex(number + 1), 32, '0') AS uuid), kind, currency, amount_minor + number + 1, version
            FROM balance CROSS JOIN unnest(CAST(:numbers AS integer[])) AS made (number)
            WHERE merchant_id = :merchant_id AND owner_id = :first
            """,
            asked,
        )

    run_unit(desk.engine, work)


def test_a_row_that_cannot_be_written_is_refused_and_the_others_go(files: FileDesk) -> None:
    ann = files.payee(1000)
    eve = files.payee(2000, an_account(FileRailName.SEPA_FILE, 2, holder="王芳"))

    run, [file] = files.built()

    assert (file.lines, file.control_sum_minor) == (1, 1000)
    assert [files.desk.state(each) for each in (ann, eve)] == [ItemState.SENDING, ItemState.REFUSED]
    assert files.desk.attempts(eve)[0].code == "holder_not_latin"
    assert files.desk.balances(eve) == {"reserved": 2000}
    assert files.desk.attempts(eve)[0].sends == 0
    assert files.work(run).next_at is not None
    assert findings(files.desk) == []


def test_a_run_whose_rows_can_none_be_written_has_no_file(files: FileDesk) -> None:
    eve = files.payee(2000, an_account(FileRailName.SEPA_FILE, holder=""))

    run, built = files.built()

    assert built == []
    assert files.desk.attempts(eve)[0].code == "holder_missing"
    files.desk.do(release, item_id=files.desk.item(eve).id, when=files.desk.when, now=files.desk.now)
    assert files.work(run).next_at is None
    assert files.desk.run(run).status == RunState.CLOSED


def test_without_a_paying_account_no_run_is_made_and_none_goes_on(engine: Engine) -> None:
    files = FileDesk.opened(engine)
    ann = files.payee(1000)
    run = files.desk.an_executing_run()
    run_unit(engine, lambda session: _forget_payers(session, files))

    with pytest.raises(PayerAccountMissing):
        files.desk.do(lambda session, merchant_id: demand_payer(session, merchant_id, FILE_RAILS[files.name]))
    files.work(run)

    assert files.desk.run(run).stop_code == "payer_account_missing"
    assert files.files(run) == []
    files.pays_from(an_account(FileRailName.SEPA_FILE, 9))
    files.desk.execute(run)
    files.work(run)
    assert [each.payer_version for each in files.files(run)] == [1]
    assert files.desk.state(ann) == ItemState.SENDING


def _forget_payers(session: Any, files: FileDesk) -> None:
    execute(session, "DELETE FROM payer_account WHERE merchant_id = :id", {"id": files.desk.merchant_id})


@pytest.mark.parametrize(
    ("title", "preamble", "stop_code"),
    [
        pytest.param("To", "{payer_holder}", "name_not_in_encoding", id="name"),
        # As one that was set before such titles were refused.
        pytest.param("付款", "{date}", "column_map_unusable", id="map"),
    ],
)
def test_a_run_whose_file_has_letters_that_its_encoding_has_not_stops_until_the_map_is_mended(
    engine: Engine, title: str, preamble: str, stop_code: str
) -> None:
    files = FileDesk.opened(engine, FileRailName.ALIPAY_FILE, currency="CNY")
    ann = files.payee(100_000, an_account(FileRailName.ALIPAY_FILE, holder="Ann"))
    run = files.desk.an_executing_run()
    template = {
        "format": "csv",
        "rows_max": 10,
        "encoding": "windows-1252",
        "columns": [
            {"title": title, "value": "{account}"},
            {"value": "{amount}"},
            {"value": "{reference}"},
        ],
        "preamble": [[preamble]],
    }
    files.writes_by(template)

    assert files.work(run).sent == 0

    assert files.desk.run(run).stop_code == stop_code
    assert files.files(run) == []
    assert files.desk.state(ann) == ItemState.SENDING
    files.work(run)
    files.writes_by(template | {"encoding": "utf-8"}, version=2)
    files.desk.execute(run)
    files.work(run)
    assert [each.template_version for each in files.files(run)] == [2]
    assert findings(files.desk) == []


def test_a_map_that_cannot_be_used_does_not_stop_a_run_whose_files_are_built(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.ALIPAY_FILE, currency="CNY")
    ann = files.payee(100_000)
    run, file = files.handed_over()
    files.writes_by({"format": "csv", "rows_max": 0, "columns": []})
    files.answer(file, f"end_to_end_id,status\n{files.reference(ann)},booked\n")

    files.work(run)

    assert (files.desk.run(run).status, files.desk.run(run).stop_code) == (RunState.CLOSED, None)


def test_nothing_is_built_before_the_pay_day(files: FileDesk) -> None:
    files.payee(1000)
    run = files.desk.reserve(pay_on=files.desk.when.day + timedelta(days=2))
    files.desk.submit(run)
    files.desk.approve(run)
    files.desk.execute(run)
    files.work(run)
    assert files.files(run) == []

    files.desk.later(days=2)
    files.work(run)

    assert len(files.files(run)) == 1


# Handing over.


def test_a_hand_over_makes_its_payouts_unknown_as_sent_once(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, [file] = files.built()
    files.desk.later(minutes=5)

    handed = files.hand_over(file)

    assert handed.is_first
    assert (handed.file.state, handed.file.handed_over_by, handed.file.downloads) == (FileState.HANDED_OVER, CHECKER, 1)
    attempt = files.desk.attempts(ann)[0]
    assert (attempt.outcome, attempt.code, attempt.sends) == (Outcome.UNKNOWN, "handed_over", 1)
    assert (attempt.first_sent_at, attempt.next_at) == (files.desk.now, None)
    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.balances(ann) == {"in_transit": 1000}
    assert files.work(run).next_at == files.desk.now + timedelta(hours=1)
    assert findings(files.desk) == []


def test_every_further_download_is_the_same_to_the_byte_whatever_has_changed(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    first = files.hand_over(file)
    files.pays_from(an_account(FileRailName.SEPA_FILE, 8), version=2)
    files.method(ann, an_account(FileRailName.SEPA_FILE, 9))
    files.desk.change(ann, status="suspended")
    files.desk.later(days=40)

    again = files.hand_over(file, by=MAKER)

    assert again.content == first.content
    assert (again.is_first, again.file.downloads, again.file.handed_over_by) == (False, 2, CHECKER)
    assert again.file.handed_over_at == first.file.handed_over_at


def test_a_hundred_people_at_once_get_the_same_bytes_of_one_hand_over(files: FileDesk, database_url: str) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    at_once, desk = 20, files.desk
    barrier = Barrier(at_once)
    crowd = make_engine(database_url, pool_size=at_once, pool_wait_s=30)

    def fetch(number: int) -> tuple[bytes, bool]:
        if number < at_once:
            barrier.wait()

        def work(session: Any) -> tuple[bytes, bool]:
            handed = hand_over(
                session,
                desk.security,
                merchant_id=desk.merchant_id,
                file_id=file.id,
                by=CHECKER,
                when=desk.when,
                now=desk.now,
            )
            return handed.content, handed.is_first

        return run_unit(crowd, work)

    try:
        with ThreadPoolExecutor(at_once) as people:
            fetched = list(people.map(fetch, range(100)))
    finally:
        crowd.dispose()

    assert len({content for content, _ in fetched}) == 1
    assert [is_first for _, is_first in fetched].count(True) == 1
    assert files.desk.attempts(ann)[0].sends == 1
    assert files.hand_over(file).file.downloads == 101


def test_the_worker_neither_leases_nor_looks_up_what_left_in_a_file(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, _ = files.handed_over()
    before = files.desk.attempts(ann)[0]

    for days in (0, 1, 2, 30, 90):
        files.desk.later(days=days)
        held = {"security": files.desk.security, "run_id": run.id, "owner": "w", "limit": 9, "now": files.desk.now}
        assert files.desk.do(lease_planned, **held) == []
        assert files.desk.do(lease_unknown, **held) == []
        assert files.desk.do(expire, run_id=run.id, now=files.desk.now) == 0
        files.work(run)

    assert files.desk.attempts(ann)[0] == before
    assert len(files.files(run)) == 1


def test_what_was_handed_over_is_in_no_other_run_file_or_attempt(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, _ = files.handed_over()
    item = files.desk.item(ann)
    files.desk.earn(ann, 500)

    with pytest.raises(MayHaveBeenSent):
        files.desk.do(release, item_id=item.id, when=files.desk.when, now=files.desk.now)
    with pytest.raises(NothingToRetry):
        files.desk.do(retry, item_id=item.id, by=MAKER, now=files.desk.now)
    with pytest.raises(Exception, match="live_item"):
        files.desk.reserve()
    files.desk.do(cancel, run_id=run.id, when=files.desk.when, now=files.desk.now)

    assert files.desk.state(ann) == ItemState.UNKNOWN
    assert files.desk.balances(ann) == {"in_transit": 1000, "payable": 500}
    assert len(files.files(run)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"status": "suspended"}, "affiliate_suspended", id="suspended"),
        pytest.param({"tax_rule": "none_company"}, "tax_rule_changed", id="tax"),
    ],
)
def test_a_file_in_which_something_changed_is_kept_here_and_built_anew_without_it(
    files: FileDesk, change: dict[str, str], reason: str
) -> None:
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run, [file] = files.built()
    files.desk.change(ann, **change)

    with pytest.raises(FileOutdated, match=reason):
        files.hand_over(file)
    assert files.files(run)[0].state == FileState.BUILT
    assert files.desk.attempts(bob)[0].outcome == Outcome.PLANNED
    files.desk.do(void, file_id=file.id, by=MAKER, when=files.desk.when, now=files.desk.now)
    files.work(run)

    old, new = files.files(run)
    assert (old.state, new.state, new.lines, new.control_sum_minor) == (FileState.VOID, FileState.BUILT, 1, 2000)
    assert new.message_id != old.message_id
    assert files.desk.state(ann) == ItemState.RELEASED
    assert [each.outcome for each in files.desk.attempts(bob)] == [Outcome.ABSENT, Outcome.PLANNED]
    with pytest.raises(FileVoid):
        files.hand_over(old)
    files.hand_over(new)
    assert files.desk.state(bob) == ItemState.UNKNOWN
    assert findings(files.desk) == []


def test_a_file_is_handed_over_on_the_merchants_day_it_is_for_alone_and_built_anew_for_the_next(engine: Engine) -> None:
    files = FileDesk.opened(engine, time_zone="Asia/Ho_Chi_Minh")
    ann = files.payee(1000)
    # 19:00 there: its day has five hours left.
    run, [old] = files.built()
    files.desk.later(hours=5)

    with pytest.raises(FileOutdated, match=r"built for 2026-11-20.*today is 2026-11-21.*/void: another is built"):
        files.hand_over(old)
    assert files.desk.state(ann) == ItemState.SENDING
    files.void(old)
    files.work(run)

    new = files.files(run)[1]
    content = files.hand_over(new).content
    assert b"<ReqdExctnDt><Dt>2026-11-21</Dt></ReqdExctnDt>" in content
    files.desk.later(days=3)
    assert files.hand_over(new).content == content
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.ABSENT, Outcome.UNKNOWN]
    assert findings(files.desk) == []


def test_a_file_goes_on_the_last_minute_of_its_day(engine: Engine) -> None:
    files = FileDesk.opened(engine, time_zone="Asia/Ho_Chi_Minh")
    files.payee(1000)
    _, [file] = files.built()
    files.desk.later(hours=4, minutes=59)

    assert files.hand_over(file).is_first


def test_a_file_built_for_another_day_takes_its_room_of_the_new_one(files: FileDesk) -> None:
    _limited(files, LimitKind.DAY, 1500)
    ann, bob = files.payee(1000), files.payee(1000, number=2)
    old_run, [old] = files.built(ann)
    files.desk.later(days=1)
    new_run, [new] = files.built(bob)

    files.void(old)
    files.work(old_run)

    assert files.desk.run(old_run).waits_for == WaitsFor.DAY_LIMIT
    assert [each.state for each in files.files(old_run)] == [FileState.VOID]
    assert files.hand_over(new).is_first
    files.desk.later(days=1)
    files.work(old_run)
    assert [each.state for each in files.files(old_run)] == [FileState.VOID, FileState.BUILT]
    assert len(files.files(new_run)) == 1
    assert findings(files.desk) == []


def _limited(files: FileDesk, kind: LimitKind, amount_minor: int) -> None:
    with unit_of_work(files.desk.engine) as session:
        session.add(
            PayoutLimitRow(
                merchant_id=files.desk.merchant_id,
                id=new_id(),
                kind=kind,
                currency=files.desk.currency,
                key_id=EVERYBODY,
                amount_minor=amount_minor,
                set_by=MAKER,
                created_at=files.desk.now,
            )
        )


def test_what_stands_in_a_file_is_not_planned_anew_however_long_it_waits(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, built = files.built()
    files.desk.later(days=9)

    files.work(run)

    assert files.files(run) == built
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.PLANNED]


def test_a_run_that_is_planned_for_longer_than_a_while_gets_its_file(files: FileDesk) -> None:
    """A turn is over before all is planned, and other runs have theirs in between."""
    payees = [files.payee(1000, number=number) for number in range(1, 5)]
    run = files.desk.an_executing_run()
    for _ in payees:
        files.desk.do(
            plan, rail=FILE_RAILS[files.name], security=files.desk.security, run_id=run.id, limit=1, now=files.desk.now
        )
        files.desk.later(minutes=4)

    files.work(run)

    assert [each.lines for each in files.files(run)] == [4]
    assert [[each.outcome for each in files.desk.attempts(payee)] for payee in payees] == [[Outcome.PLANNED]] * 4


def test_what_was_planned_and_stands_in_no_file_is_planned_anew_with_the_checks_of_its_day(files: FileDesk) -> None:
    files.desk.later(hours=11, minutes=58)
    ann, bob = files.payee(1000), files.payee(2000, number=2)
    run = files.desk.an_executing_run()
    with crashing_at(CrashPoint.FILE_BEFORE_COMMIT), pytest.raises(Crashed):
        files.work(run)
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.PLANNED]
    files.desk.change(bob, status="suspended")
    files.desk.later(minutes=3)

    files.work(run)

    [file] = files.files(run)
    assert (file.lines, file.control_sum_minor) == (1, 1000)
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.ABSENT, Outcome.PLANNED]
    assert files.desk.state(bob) == ItemState.RELEASED
    assert files.hand_over(file).is_first
    assert findings(files.desk) == []


def test_midnight_between_planning_and_building_leaves_it_to_the_next_pass(files: FileDesk) -> None:
    ann = files.payee(1000)
    run = files.desk.an_executing_run()
    with crashing_at(CrashPoint.FILE_BEFORE_COMMIT), pytest.raises(Crashed):
        files.work(run)
    files.desk.later(hours=12)

    rows = files.desk.do(
        build, security=files.desk.security, rail=FILE_RAILS[files.name], run_id=run.id, now=files.desk.now
    )

    assert (rows, files.files(run)) == (0, [])
    assert files.work(run).next_at == files.desk.now + timedelta(hours=1)
    assert [each.outcome for each in files.desk.attempts(ann)] == [Outcome.ABSENT, Outcome.PLANNED]
    assert [each.lines for each in files.files(run)] == [1]


def test_an_account_changed_after_the_file_was_built_keeps_it_here(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    files.method(ann, an_account(FileRailName.SEPA_FILE, 9))

    with pytest.raises(FileOutdated, match="method_changed"):
        files.hand_over(file)


def test_a_debt_that_came_after_the_file_was_built_keeps_it_here(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    files.desk.earn(ann, -1)

    with pytest.raises(FileOutdated, match="in_debt"):
        files.hand_over(file)


def test_a_file_that_was_handed_over_is_never_withdrawn(files: FileDesk) -> None:
    files.payee(1000)
    _, file = files.handed_over()

    with pytest.raises(FileNotBuilt):
        files.desk.do(void, file_id=file.id, by=MAKER, when=files.desk.when, now=files.desk.now)


def test_a_cancelled_run_takes_its_waiting_files_with_it(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, [file] = files.built()

    files.desk.do(cancel, run_id=run.id, when=files.desk.when, now=files.desk.now)

    assert files.files(run)[0].state == FileState.VOID
    assert files.desk.state(ann) == ItemState.RELEASED
    assert files.desk.balances(ann) == {"payable": 1000}
    with pytest.raises(FileVoid):
        files.hand_over(file)
    assert findings(files.desk) == []


def test_a_stopped_run_hands_nothing_over(files: FileDesk) -> None:
    ann = files.payee(1000)
    run, [file] = files.built()
    run_unit(files.desk.engine, lambda session: _stop(session, files, run.id))

    with pytest.raises(RunStopped):
        files.hand_over(file)
    assert files.desk.state(ann) == ItemState.SENDING
    files.desk.execute(run)
    assert files.hand_over(file).is_first


def test_a_database_that_was_restored_hands_nothing_over_before_any_worker_noticed(files: FileDesk) -> None:
    files.payee(1000)
    _, [file] = files.built()
    run_unit(files.desk.engine, lambda session: notice(session, now=files.desk.now))
    run_unit(files.desk.engine, lambda session: execute(session, "UPDATE database_mark SET timeline = timeline + 1"))

    for _ in range(2):
        with pytest.raises(RunStopped, match="gate_closed"):
            files.hand_over(file)


def test_a_stopped_rail_hands_nothing_over(files: FileDesk) -> None:
    files.payee(1000)
    run, [file] = files.built()
    desk = files.desk
    desk.do(partial(stop_sending, rail=run.rail), reason="a wrong bank", by=MAKER, at=desk.now)

    with pytest.raises(RunStopped, match="rail_stopped"):
        files.hand_over(file)


def test_a_file_with_a_frozen_payout_stays_and_the_next_one_is_without_it(files: FileDesk) -> None:
    files.payee(1000)
    ann = files.payee(2000)
    run, [file] = files.built()
    run_unit(
        files.desk.engine,
        lambda session: execute(
            session, "UPDATE payout_item SET frozen_code = 'unexpected_transfer' WHERE payee_id = :id", {"id": ann}
        ),
    )

    with pytest.raises(FileOutdated, match="unexpected_transfer"):
        files.hand_over(file)
    files.desk.do(void, file_id=file.id, by=MAKER, when=files.desk.when, now=files.desk.now)
    files.work(run)

    assert [each.lines for each in files.files(run) if each.state == "built"] == [1]


def _stop(session: Any, files: FileDesk, run_id: Any) -> None:
    stop(session, lock_run(session, files.desk.merchant_id, run_id), "answer_differs", when=files.desk.when)


def test_a_void_file_stays_void_when_it_is_withdrawn_again(files: FileDesk) -> None:
    files.payee(1000)
    run, [file] = files.built()
    told = {"file_id": file.id, "by": MAKER, "when": files.desk.when, "now": files.desk.now}
    files.desk.do(void, **told)
    files.work(run)

    files.desk.do(void, **told)

    assert [each.state for each in files.files(run)] == [FileState.VOID, FileState.BUILT]


def test_a_file_of_a_run_that_is_over_cannot_be_withdrawn(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    run_unit(files.desk.engine, lambda session: _as_draft(session, files))

    with pytest.raises(WrongRunState):
        files.desk.do(void, file_id=file.id, by=MAKER, when=files.desk.when, now=files.desk.now)
    assert files.desk.state(ann) == ItemState.SENDING


def _as_draft(session: Any, files: FileDesk) -> None:
    execute(
        session, "UPDATE payout_run SET status = 'approved' WHERE merchant_id = :id", {"id": files.desk.merchant_id}
    )


def test_a_merchants_own_column_map_counts_for_files_built_from_then_on(engine: Engine) -> None:
    files = FileDesk.opened(engine, FileRailName.PAYPAL_FILE, currency="USD")
    files.payee(1234)
    _, [plain] = files.built()
    template = {
        "format": "csv",
        "rows_max": 1,
        "columns": [
            {"title": "To", "value": "{account}"},
            {"title": "Cents", "value": "{amount}"},
            {"title": "Id", "value": "{reference}"},
        ],
        "amount": "minor",
        "reference_chars_max": 16,
    }
    files.writes_by(template)
    for number in (2, 3):
        files.payee(1000, number=number)

    _, own = files.built()

    assert plain.template_version == 0
    assert [(each.template_version, each.lines) for each in own] == [(1, 1), (1, 1)]
    first, row = files.hand_over(own[0]).content.decode().splitlines()
    assert first == "To,Cents,Id"
    assert row.split(",")[1] == "1000"
    assert len(row.split(",")[2]) == 16
    assert b"12.34,USD" in files.hand_over(plain).content


@pytest.mark.parametrize(
    ("values", "tax_kind", "word"),
    [
        pytest.param({}, None, "PERSON", id="nothing said"),
        pytest.param({"tax_rule": TaxRule.NONE_COMPANY}, None, "INSTITUTION", id="company by its rule"),
        pytest.param({}, PayeeKind.COMPANY, "INSTITUTION", id="company by its profile"),
        pytest.param({}, PayeeKind.HOUSEHOLD, "PERSON", id="household"),
        pytest.param({"kind": AffiliateKind.AGENCY}, None, "INSTITUTION", id="agency"),
        pytest.param({"kind": AffiliateKind.AGENCY}, PayeeKind.INDIVIDUAL, "PERSON", id="agency of one person"),
    ],
)
def test_a_sheet_says_what_a_payee_is_by_tax_rule_profile_and_kind(
    engine: Engine, values: dict[str, str], tax_kind: PayeeKind | None, word: str
) -> None:
    files = FileDesk.opened(engine, FileRailName.WISE_FILE, currency="USD")
    payee = files.payee(1000)
    if tax_kind is not None:
        files.desk.tax(payee, "VN", kind=tax_kind)
        values = {"tax_rule": "off"} | values
    files.desk.change(payee, **values)

    _, [file] = files.built()

    [row] = csv.DictReader(io.StringIO(files.hand_over(file).content.decode()))
    assert row["receiverType"] == word


# A process dies.


@pytest.mark.parametrize("point", [CrashPoint.FILE_BEFORE_COMMIT, CrashPoint.FILE_BUILT])
def test_a_worker_that_dies_while_it_builds_leaves_one_file(files: FileDesk, point: CrashPoint) -> None:
    files.payee(1000)
    run = files.desk.an_executing_run()
    with crashing_at(point), pytest.raises(Crashed):
        files.work(run)
    assert len(files.files(run)) == (point is CrashPoint.FILE_BUILT)

    files.work(run)

    assert [each.lines for each in files.files(run)] == [1]
    assert findings(files.desk) == []


def test_a_process_that_dies_before_the_hand_over_is_committed_has_given_nothing_away(files: FileDesk) -> None:
    ann = files.payee(1000)
    _, [file] = files.built()
    with crashing_at(CrashPoint.HAND_OVER_BEFORE_COMMIT), pytest.raises(Crashed):
        files.hand_over(file)
    assert files.desk.state(ann) == ItemState.SENDING

    handed = files.hand_over(file)

    assert (handed.is_first, handed.file.downloads) == (True, 1)
    assert files.desk.state(ann) == ItemState.UNKNOWN


def test_an_end_to_end_id_is_made_of_item_and_attempt_alone() -> None:
    item = UUID(int=0x0199 << 112 | 7 << 76 | 2 << 62 | 5)

    whole = reference_of(item, 12, chars_max=35)
    short = {reference_of(item, number, chars_max=22) for number in range(1, 50)}

    assert whole == reference_of(item, 12, chars_max=28)
    assert whole[-2:] == "12"
    assert len(short) == 49
    assert {len(each) for each in short} == {22}
    assert all(each.isalnum() and each == each.upper() for each in (whole, *short))


def test_another_key_reads_no_file(files: FileDesk) -> None:
    files.payee(1000)
    _, [file] = files.built()
    files.desk.security = Security(bytes([1]) * 32)

    with pytest.raises(Exception, match="does not fit this master key"):
        files.hand_over(file)


def test_the_presets_pay_each_their_own_kind_of_account() -> None:
    for name in FileRailName:
        rail = FILE_RAILS[name]
        other = an_account(FileRailName.WISE_FILE if name is not FileRailName.WISE_FILE else FileRailName.PAYPAL_FILE)
        assert isinstance(other, Destination)
        assert other.type not in rail.accounts
