"""Importing a file: the same books as by webhook, once however often, and nothing at all in a dry run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from service.domain.errors import InvariantBroken, Unavailable
from service.domain.ledger import AccountKind
from service.infra.db import DatabaseAway, fetch, read_session, unit_of_work
from service.intake import batch
from service.intake.adapters.model import Delivery
from service.intake.find_source import NoSuchSource, SourceClosed, find_source
from service.intake.import_file import (
    Credit,
    Identity,
    Importer,
    ResultFile,
    ResultsNotUsable,
    ResultsUnknown,
    State,
)
from service.intake.import_rows import items_of
from service.intake.mapping import read_mapping
from service.intake.receive import receive
from service.intake.record import Received, record
from service.tables.parties import Platform, SourceRow
from tests.support.books import LONG_AGO, Books
from tests.support.imports import FILES, ORDER, a_mapping, imported, preset, written
from tests.support.webhooks import READING

AT = "2026-01-01T12:00:00Z"

EVENTS = read_mapping({"format": "ndjson"})


def dumped(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table."""
    with read_session(engine) as session:
        return {
            name: sorted(repr(tuple(row)) for row in fetch(session, f"SELECT * FROM {name}"))
            for name in SQLModel.metadata.tables
        }


def targets(books: Books) -> list[Any]:
    """What is earned on each order, and what of it stands where."""
    return [
        tuple(row)
        for row in books.rows(
            """
            SELECT orders.external_id, currency, target_minor, pending_minor, held_minor, settles_at, commission.receipt
            FROM commission
            JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
            WHERE commission.merchant_id = :merchant_id ORDER BY 1, 2
            """
        )
    ]


def some_orders(folder: Path, number: int = 7) -> Path:
    rows = [f"o{each},{AT},{each}.00" for each in range(1, number + 1)]
    return written(folder, "\n".join(["id,at,net", *rows]) + "\n")


def another_source(books: Books, platform: Platform, **changes: Any) -> SourceRow:
    row = SourceRow(
        id=uuid4(), merchant_id=books.merchant_id, platform=platform, name="x", created_at=LONG_AGO, **changes
    )
    with unit_of_work(books.engine) as session:
        session.add(row)
    return row


def test_a_file_imported_twice_counts_once(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)

    first = imported(engine, books.source_id, FILES / "generic.csv", preset("generic"))
    before = dumped(engine)
    again = imported(engine, books.source_id, FILES / "generic.csv", preset("generic"))

    assert [(each.row, each.rows, each.kind, each.state, each.effect) for each in first] == [
        (2, 3, "order", State.APPLIED, "new"),
        (2, 3, "refund", State.APPLIED, "new"),
        (3, 1, "order", State.APPLIED, "new"),
    ]
    assert [each.effect for each in again] == ["same"] * 3
    assert dumped(engine) == before
    assert books.balance(AccountKind.PENDING) == 325 + 100


def test_an_imported_order_earns_what_it_earns_by_webhook(engine: Engine) -> None:
    by_file, by_webhook = Books.opened(engine), Books.opened(engine)
    with read_session(engine) as session:
        source = find_source(session, by_webhook.source_id)
    bodies = [item.body for item in items_of(FILES / "generic.csv", preset("generic"))]  # type: ignore[union-attr] # no row is unfit

    imported(engine, by_file.source_id, FILES / "generic.csv", preset("generic"))
    for number, body in enumerate(reversed(bodies)):
        by_webhook.receive(receive(source, Delivery(str(number), "", body), READING))

    found = [[(*row[:-1], row[-1]["lines"]) for row in targets(each)] for each in (by_file, by_webhook)]
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_a_dry_run_says_what_would_happen_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    imported(engine, books.source_id, some_orders(tmp_path, 2), a_mapping())
    newer = written(
        tmp_path,
        "\n".join(
            [
                "id,at,net,currency",
                f"o1,{AT},1.00,USD",
                "o2,2026-01-02T00:00:00Z,5.00,USD",
                f"o3,{AT},3.00,USD",
                f"o4,{AT},x,USD",
                "o5,2099-01-01T00:00:00Z,1.00,USD",
                f"o6,{AT},1.00,ZZZ",
            ]
        ),
    )
    mapping = a_mapping(order=ORDER | {"currency": "currency"})
    before = dumped(engine)

    foretold = imported(engine, books.source_id, newer, mapping, dry=True)
    after = dumped(engine)
    done = imported(engine, books.source_id, newer, mapping)

    assert after == before
    said = [(each.order_id, each.state, each.effect, each.reason_code) for each in foretold]
    assert said == [
        ("o1", "applied", "same", ""),
        ("o2", "applied", "changed", ""),
        ("o3", "applied", "new", ""),
        ("o4", "refused", None, "invalid_number"),
        ("o5", "parked", None, "version_ahead"),
        ("o6", "refused", None, "unknown_currency"),
    ]
    assert said == [(each.order_id, each.state, each.effect, each.reason_code) for each in done]


def test_a_dry_run_knows_the_orders_that_come_before_in_the_file(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    refund = {"type": "refund", "id": "r", "updated_at": AT, "refunded_at": AT, "currency": "USD", "amount": "1.00"}
    order = {"type": "order", "id": "1", "updated_at": AT, "placed_at": AT, "currency": "USD", "lines": []}
    told = [refund | {"order_id": "2"}, order, refund | {"order_id": "1"}, order]
    path = written(tmp_path, "".join(json.dumps(each) + "\n" for each in told), "events.ndjson")

    foretold = imported(engine, books.source_id, path, EVENTS, dry=True, at_once=1)
    done = imported(engine, books.source_id, path, EVENTS, at_once=1)

    said = [(each.state, each.effect) for each in foretold]
    assert said == [("waiting", "new"), ("applied", "new"), ("applied", "new"), ("applied", "same")]
    assert said == [(each.state, each.effect) for each in done]


def test_refunds_that_came_by_webhook_wait_for_the_order_that_an_import_brings(engine: Engine) -> None:
    books = Books.opened(engine)
    shopify = another_source(books, Platform.SHOPIFY)
    with read_session(engine) as session:
        source = find_source(session, shopify.id)
    body = {
        "id": 1,
        "order_id": 5551001,
        "processed_at": "2026-01-03T00:00:00Z",
        "transactions": [{"currency": "USD"}],
        "refund_line_items": [{"line_item_id": 77, "subtotal": "45.00"}],
    }
    refund = receive(source, Delivery("d-1", "refunds/create", json.dumps(body).encode()), READING)

    waiting = books.receive(refund)
    results = imported(engine, shopify.id, FILES / "shopify.csv", preset("shopify"))

    assert waiting[0].state == "waiting"
    assert [each.state for each in results] == [State.APPLIED, State.APPLIED]
    assert books.balance(AccountKind.PENDING) == 450
    assert [
        tuple(row)
        for row in books.rows(
            "SELECT state, grammar, count(*) FROM inbox WHERE merchant_id = :merchant_id GROUP BY 1, 2 ORDER BY 2"
        )
    ] == [("applied", "generic", 2), ("applied", None, 1)]


def test_an_import_that_yields_does_not_contradict_what_a_webhook_said_at_the_same_time(
    engine: Engine, tmp_path: Path
) -> None:
    books = Books.opened(engine)
    path = some_orders(tmp_path, 1)
    imported(engine, books.source_id, path, a_mapping())

    [yielded] = imported(engine, books.source_id, path, a_mapping(line={"net": "net", "sku": "id"}, yields=True))
    unchanged = targets(books)
    [revised] = imported(engine, books.source_id, path, a_mapping(line={"net": "net", "sku": "id"}, revision=1))

    assert (yielded.effect, revised.effect) == ("same", "changed")
    assert [row[2:5] for row in unchanged] == [(10, 10, 0)]
    assert [row[2:5] for row in targets(books)] == [(10, 10, 0)]


def test_refunds_and_milestones_have_files_of_their_own(engine: Engine) -> None:
    books = Books.opened(engine)
    imported(engine, books.source_id, FILES / "generic.csv", preset("generic"))

    refunds = imported(engine, books.source_id, FILES / "generic-refunds.csv", preset("generic-refunds"))
    statuses = imported(engine, books.source_id, FILES / "generic-milestones.csv", preset("generic-milestones"))

    assert [(each.order_id, each.goods_minor, each.rows) for each in refunds] == [("1001", 3249, 2), ("1002", 400, 1)]
    assert [(each.kind, each.state) for each in statuses] == [("status", State.APPLIED)] * 3


def test_the_poisonous_event_of_a_batch_parks_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books.opened(engine)

    def poisoned(session: Any, received: Any) -> Any:
        if any(each.order and each.order[1] == "o3" and each.state != "parked" for each in received):
            raise InvariantBroken("a fault of ours")
        return record(session, received)

    monkeypatch.setattr(batch, "record", poisoned)

    results = imported(engine, books.source_id, some_orders(tmp_path), a_mapping())

    assert {each.order_id: each.reason_code for each in results if each.state is not State.APPLIED} == {
        "o3": "internal_error"
    }


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
@pytest.mark.parametrize("lost", ["the answer", "the line"])
def test_a_run_that_was_killed_goes_on_where_its_results_end(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, lost: str
) -> None:
    books, whole = Books.opened(engine), Books.opened(engine)
    path, mapping, out = some_orders(tmp_path), a_mapping(), tmp_path / f"out.{ending}"
    identity = Identity("file", "mapping", books.source_id, dry=False)
    calls = iter(range(9))
    record_all = batch.record_all

    def dying(engine: Engine, received: list[Received]) -> Any:
        answers = record_all(engine, received)
        # Killed after the second commit, before its results are written.
        if next(calls) == 1:
            raise DatabaseAway("killed")
        return answers

    monkeypatch.setattr("service.intake.import_file.record_all", dying)
    with pytest.raises(Unavailable):
        list(run(books, path, mapping, ResultFile(out, identity, resume=False)))
    if lost == "the line":
        out.write_bytes(out.read_bytes()[:-3])
    left = list(run(books, path, mapping, ResultFile(out, identity, resume=True)))
    imported(engine, whole.source_id, path, mapping)

    lines = out.read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 7 + (ending == "csv")
    assert [line.count("o5") for line in lines] == [int("o5" in line) for line in lines]
    assert left[0].effect == "same"
    assert [row[:5] for row in targets(books)] == [row[:5] for row in targets(whole)]


def run(books: Books, path: Path, mapping: Any, results: ResultFile) -> Iterator[Any]:
    """Import in batches of three with a result file; yields the results written now."""
    with read_session(books.engine) as session:
        source = find_source(session, books.source_id)
    found: list[Any] = []

    def write(some: Any) -> None:
        results.write(some)
        found.extend(some)

    try:
        Importer(books.engine, source, READING).run(results.left(items_of(path, mapping)), write, at_once=3)
    finally:
        results.close()
    yield from found


def test_a_run_ends_between_two_units_of_work_when_it_is_asked_to(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    with read_session(engine) as session:
        source = find_source(session, books.source_id)

    tally = Importer(engine, source, READING).run(
        items_of(some_orders(tmp_path), a_mapping()), lambda _: None, lambda _: False, at_once=3
    )

    assert (tally.rows, tally.stopped, tally.states[State.APPLIED]) == (3, True, 3)


def test_a_run_says_how_many_orders_somebody_earns_from_and_a_dry_run_cannot(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    path = written(
        tmp_path,
        f"id,at,net,code\no1,{AT},1.00,ANN\no2,{AT},2.00,\no3,{AT},3.00,NOBODYS\n"
        f"o4,{AT},4.00,\no4,2026-01-02T12:00:00Z,4.00,ANN\n",
    )
    mapping = a_mapping(order=ORDER | {"coupon_codes": "code", "placed_at": {"value": AT}})
    with read_session(engine) as session:
        source = find_source(session, books.source_id)

    dry, done, again = (
        Importer(engine, source, READING, dry=dry).run(items_of(path, mapping), lambda _: None, at_once=2)
        for dry in (True, False, False)
    )

    assert dry.credits == {}
    assert done.credits == {Credit.AFFILIATE: 2, Credit.NOBODY: 1, Credit.IN_VAIN: 1}
    assert again.credits == done.credits


def test_a_result_that_a_spreadsheet_would_run_is_text(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    path = written(tmp_path, f'id,at,net\n=cmd(),{AT},1.00\n"@a\nb",{AT},x\n')
    out = tmp_path / "out.csv"

    list(run(books, path, a_mapping(), ResultFile(out, Identity("f", "m", books.source_id, dry=False), resume=False)))

    text = out.read_text(encoding="utf-8-sig")
    assert "\n2,1,order,'=cmd(),applied,new," in text
    assert "\n3,1,,'@a b,refused,,invalid_number," in text
    assert len(text.splitlines()) == 3


def test_a_result_file_of_another_run_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    identity = Identity("f", "m", uuid4(), dry=False)
    ResultFile(tmp_path / "a.csv", identity, resume=True).close()

    with pytest.raises(ResultsNotUsable, match="--resume"):
        ResultFile(tmp_path / "a.csv", identity, resume=False)
    with pytest.raises(ResultsNotUsable, match="another file_sha256"):
        ResultFile(tmp_path / "a.csv", Identity("g", "m", identity.source_id, dry=False), resume=True)
    (tmp_path / "a.csv.state").unlink()
    with pytest.raises(ResultsNotUsable, match="missing or spoilt"):
        ResultFile(tmp_path / "a.csv", identity, resume=True)
    with pytest.raises(ResultsUnknown):
        ResultFile(tmp_path / "a.xlsx", identity, resume=False)


def test_orders_go_into_open_sources_of_shops_only(engine: Engine) -> None:
    books, other = Books.opened(engine), Books.opened(engine)
    closed = another_source(books, Platform.GENERIC, disabled_at=LONG_AGO)

    with read_session(engine) as session:
        with pytest.raises(SourceClosed):
            find_source(session, books.desk_id)
        with pytest.raises(SourceClosed):
            find_source(session, closed.id)
        with pytest.raises(NoSuchSource):
            find_source(session, books.source_id, merchant_id=other.merchant_id)
