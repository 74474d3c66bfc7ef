"""What is told of payouts by rails that do more than the sandbox is what the description of the webhooks says."""

import pytest
from sqlalchemy import Engine

from service.api.webhook_events import DATA
from service.domain.events import EventType
from service.domain.payout import FactKind
from service.payouts import tell
from service.payouts.reconcile import Told, reconcile
from service.payouts.release import cancel
from tests.support.payout_files import FileDesk
from tests.support.payouts import Desk, FakeRail


def told(desk: Desk) -> set[EventType]:
    """Types of all events, each of which was found to be as described."""
    rows = desk.rows("SELECT type, payload FROM outbox WHERE merchant_id = :merchant_id")
    for row in rows:
        DATA[EventType(row.type)].model_validate(row.payload)
    return {EventType(row.type) for row in rows}


def test_each_type_has_a_payload() -> None:
    assert set(DATA) == set(EventType)


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        (FactKind.PAID, EventType.PAYOUT_SETTLED),
        (FactKind.REVERSED, EventType.PAYOUT_REVERSED),
        (FactKind.RETURNED, EventType.PAYOUT_RETURNED),
        (FactKind.FAILED, EventType.PAYOUT_FAILED),
    ],
)
def test_what_a_rail_says_afterwards_is_told_once(engine: Engine, kind: FactKind, type_: EventType) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(100)
    desk.work(desk.an_executing_run())
    fact = Told(desk.item(ann).id, desk.rail.transfers[0].reference, kind, "1", 100, {})

    for _ in range(2):
        desk.do(reconcile, told=[fact], rail="sandbox", when=desk.when, now=desk.now)

    assert type_ in told(desk)
    assert desk.events().count(type_) == 1
    assert desk.events().count("commission.paid") == 1


def test_every_run_of_a_rail_whose_credentials_were_refused_is_told_to_have_stopped(engine: Engine) -> None:
    desk, other = Desk.opened(engine, rail=FakeRail(at_once=1)), Desk.opened(engine)
    waiting = other.an_executing_run(other.payee(100))
    desk.rail.does["sandbox_ok"] = ["stopped"]

    desk.work(desk.an_executing_run(desk.payee(100)))

    assert other.run(waiting).stop_code == "api_key_expired"
    assert EventType.PAYOUT_RUN_STOPPED in told(desk) & told(other)
    assert [each.events().count("payout_run.stopped") for each in (desk, other)] == [1, 1]


def test_a_file_of_payouts_is_told_when_it_is_built_withdrawn_and_first_handed_over(engine: Engine) -> None:
    files = FileDesk.opened(engine)
    files.payee(1000)
    run, [file] = files.built()
    files.void(file)
    files.work(run)
    for _ in range(2):
        files.hand_over(files.files(run)[1])

    assert EventType.PAYOUT_FILE_HANDED_OVER in told(files.desk)
    rows = files.desk.rows(
        "SELECT type, subject_id, payload FROM outbox WHERE merchant_id = :merchant_id AND type LIKE 'payout_file.%' ORDER BY id"
    )
    assert [(row.type.partition(".")[2], row.payload["number"], row.payload["status"]) for row in rows] == [
        ("built", 1, "built"),
        ("voided", 1, "void"),
        ("built", 2, "built"),
        ("handed_over", 2, "handed_over"),
    ]
    assert {(row.payload["lines"], row.payload["control_sum_minor"]) for row in rows} == {(1, 1000)}
    assert {row.payload["pays_on"] for row in rows} == {files.desk.when.day.isoformat()}


def test_a_cancelled_run_tells_of_its_files_that_nobody_had(engine: Engine) -> None:
    files = FileDesk.opened(engine)
    files.payee(1000)
    run, _ = files.built()

    files.desk.do(cancel, run_id=run.id, when=files.desk.when, now=files.desk.now)

    assert files.desk.events().count("payout_file.voided") == 1


def test_what_never_reached_the_rail_is_told_as_described(engine: Engine) -> None:
    desk = Desk.opened(engine)
    ann = desk.payee(100)
    desk.work(desk.an_executing_run())

    event = tell.of_item(desk.item(ann), "absent", at=desk.now, reason_code="never_arrived")

    DATA[event.type].model_validate(event.payload)
    assert event.type is EventType.PAYOUT_ABSENT
