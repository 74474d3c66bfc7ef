"""Files laid beside our books: what differs is found once, whatever the order of rows and however it is broken off."""

import csv
import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from service.commissions import reconciliations
from service.domain.payout import FactKind
from service.domain.reconciliation import DifferenceKind, Explanation
from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.infra.ids import encode
from service.infra.security import Security
from service.intake import reconcile_file
from service.intake.mapping import InvalidMapping, load_document, read_mapping
from service.intake.reconcile_file import check_mapping
from service.intake.record import Received
from service.payouts.reconcile import Told, reconcile
from service.reports import reconcile as stage
from service.tables.payouts import PayoutItemRow
from service.tables.reconciliations import ReconciliationState
from service.worker import Worker, run_pass
from tests.support.books import Books, at, paid, refund, snapshot
from tests.support.imports import FILES, ORDER, PRESETS, imported, preset, written
from tests.support.payout_files import FileDesk, neutral
from tests.support.payouts import Desk
from tests.support.reconciled import Json, Matched, bank_file

K, E = DifferenceKind, Explanation
MAPPING: Json = {"order": ORDER, "line": {"net": "net"}}
JANUARY: Json = {"begins_on": date(2026, 1, 1), "until": date(2026, 1, 31)}
WORKING = ("reconciliation_part", "reconciliation_order", "reconciliation_line")


def file_of(*rows: tuple[str, str, str]) -> bytes:
    """Orders as (id, time, net)."""
    return "\n".join(["id,at,net", *(",".join(row) for row in rows)]).encode()


def matched(books: Books, orders: bytes, **changes: Any) -> Matched:
    return Matched.of(
        books.engine,
        books.merchant_id,
        **(JANUARY | {"source_id": books.source_id, "mapping": MAPPING, "orders": orders} | changes),
    )


def row(name: str, net: str = "100.00", *, day: int = 5, version: int | None = None) -> tuple[str, str, str]:
    return (name, at(version or day).isoformat(), net)


def told(books: Books, name: str, net_minor: int = 10_000, *, day: int = 5) -> None:
    books.tell(name, snapshot(net_minor, version=day, placed=at(day)), paid(day))


def forget_differences(books: Books | Desk) -> None:
    """What an earlier reconciliation found would explain what the next one finds."""
    with unit_of_work(books.engine) as session:
        execute(session, "DELETE FROM reconciliation_difference")


def test_a_shops_own_export_differs_in_nothing_once_it_was_imported(engine: Engine) -> None:
    books = Books.opened(engine, time_zone="Asia/Ho_Chi_Minh")
    imported(engine, books.source_id, FILES / "shopify.csv", preset("shopify"))
    content = (FILES / "shopify.csv").read_bytes()

    done = matched(books, content, mapping=load_document(PRESETS / "shopify.toml")).run()

    assert (done.row.state, done.row.read, done.row.compared, done.row.rows_refused) == ("done", 2, 4, 0)
    assert done.told == []


def test_a_shops_own_export_beside_what_webhooks_told(engine: Engine, tmp_path: Path) -> None:
    """Of the export's two orders one came, with a refund since; the other did not; and one came that the export lacks."""
    books = Books.opened(engine, time_zone="Asia/Ho_Chi_Minh")
    content = (FILES / "shopify.csv").read_bytes()
    records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    out = io.StringIO(newline="")
    csv.writer(out).writerows(record for record in records if record[0] in {"Name", "#1001"})
    imported(engine, books.source_id, written(tmp_path, out.getvalue()), preset("shopify"))
    books.tell("5551001", refund("r-1", 4_500, day=3))
    told(books, "5551003", day=9)

    done = matched(books, content, mapping=load_document(PRESETS / "shopify.toml")).run()

    assert done.told == [
        ("5551001", K.AMOUNT, 9_000, 4_500, E.REFUND_NOT_IN_FILE),
        ("5551002", K.MISSING, 0, None, None),
        ("5551003", K.EXTRA, None, 10_000, None),
    ]
    refunded = done.differences[0]
    assert (refunded.explained_ref, refunded.rows) == ("r-1", [2])
    assert refunded.theirs is not None
    assert refunded.ours is not None
    assert (refunded.theirs["net_minor"], refunded.ours["commissions"]) == (9_000, {"USD": 450})


def test_each_kind_of_difference_is_told_with_both_sides(engine: Engine) -> None:
    books = Books.opened(engine)
    for name in ("equal", "less", "twice"):
        told(books, name)
    books.tell("euro", snapshot(10_000, version=5, placed=at(5), currency="EUR"), paid(5))
    books.tell("cancelled", snapshot(10_000, version=5, placed=at(5), cancelled=True))
    told(books, "extra")
    told(books, "boundary", day=31)
    told(books, "february", day=40)
    books.tell("waits", refund("r", 100, day=6))
    names = ("equal", "euro", "cancelled", "missing", "waits", "february")
    file = file_of(*map(row, names), row("less", "90.00"), row("twice"), row("twice"))

    done = matched(books, file).run()

    assert done.told == [
        ("boundary", K.EXTRA, None, 10_000, E.PERIOD_BOUNDARY),
        ("cancelled", K.STATUS, 10_000, 0, None),
        ("euro", K.CURRENCY, 10_000, 10_000, None),
        ("extra", K.EXTRA, None, 10_000, None),
        ("february", K.MISSING, 10_000, None, E.OUTSIDE_PERIOD),
        ("less", K.AMOUNT, 9_000, 10_000, None),
        ("missing", K.MISSING, 10_000, None, None),
        ("twice", K.DUPLICATE, 20_000, 10_000, E.SAME_TWICE),
        ("waits", K.MISSING, 10_000, None, E.WAITING_IN_INBOX),
    ]
    by_name = {each.external_id: each for each in done.differences}
    assert by_name["twice"].rows == [9, 10]
    assert by_name["missing"].order_id is None
    assert all(by_name[name].order_id for name in ("less", "extra", "euro", "waits"))
    assert by_name["waits"].explained_ref.startswith("inb_")


COMMISSIONS: Json = MAPPING | {"order": ORDER | {"commission": "commission"}}


def with_commissions(*rows: tuple[str, str, str, str]) -> bytes:
    """Orders as (id, time, net, commission)."""
    return "\n".join(["id,at,net,commission", *(",".join(row) for row in rows)]).encode()


def test_the_commission_that_a_file_tells_is_compared_with_what_was_computed(engine: Engine) -> None:
    books = Books.opened(engine)
    for name in ("equal", "less", "untold", "other-order"):
        told(books, name)
    file = with_commissions(
        (*row("equal"), "10.00"),
        (*row("less"), "9.50"),
        (*row("untold"), ""),
        (*row("other-order", "90.00"), "9.00"),
        (*row("missing"), "10.00"),
        (*row("below"), "-1.00"),
    )

    done = matched(books, file, mapping=COMMISSIONS).run()

    assert [(each.about, *short) for each, short in zip(done.differences, done.told, strict=True)] == [
        ("commission", "less", K.AMOUNT, 950, 1_000, None),
        ("commission", "other-order", K.AMOUNT, 900, 1_000, E.ORDER_DIFFERS),
        ("order", "missing", K.MISSING, 10_000, None, None),
        ("order", "other-order", K.AMOUNT, 9_000, 10_000, None),
    ]
    assert [each["reason_code"] for each in done.row.refusals] == ["negative_amount"]
    less = done.differences[0]
    assert less.theirs is not None
    assert less.ours is not None
    assert (less.theirs["commission_minor"], less.ours["commissions"], less.rows) == (950, {"USD": 1_000}, [3])
    assert less.order_id is not None


@pytest.mark.parametrize("at_once", [1, 500])
@pytest.mark.parametrize("is_turned", [False, True])
def test_of_several_versions_the_newest_ones_commission_counts_in_any_order_and_page(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, at_once: int, is_turned: bool
) -> None:
    monkeypatch.setattr(reconcile_file, "ITEMS_AT_ONCE", at_once)
    books = Books.opened(engine)
    told(books, "two")
    rows = [(*row("two", version=5), "10.00"), (*row("two", version=6), "9.00")]

    done = matched(books, with_commissions(*(reversed(rows) if is_turned else rows)), mapping=COMMISSIONS).run()

    assert [
        (each.theirs_minor, each.ours_minor, each.explained_by)
        for each in done.differences
        if each.about == "commission"
    ] == [(900, 1_000, None)]


@pytest.mark.parametrize(
    ("commission", "expected"),
    [
        pytest.param('"9.50"', [(950, 1_000)], id="text"),
        pytest.param("9.5", [(950, 1_000)], id="number"),
        pytest.param("null", [], id="null"),
        pytest.param("[]", None, id="no amount"),
    ],
)
def test_a_file_of_events_may_tell_commissions_too(
    engine: Engine, commission: str, expected: list[tuple[int, int]] | None
) -> None:
    books = Books.opened(engine)
    told(books, "o")
    event = (
        f'{{"type": "order", "id": "o", "updated_at": "{at(5).isoformat()}", "placed_at": "{at(5).isoformat()}", '
        f'"currency": "USD", "lines": [{{"id": "1", "net": "100.00"}}], "commission": {commission}}}'
    )

    done = matched(books, event.encode(), mapping={"format": "ndjson"}).run()

    if expected is None:
        assert done.row.rows_refused == 1
    else:
        found = [(each.theirs_minor, each.ours_minor) for each in done.differences if each.about == "commission"]
        assert found == expected


def test_a_commission_in_a_file_that_is_imported_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    books = Books.opened(engine)
    file = with_commissions((*row("o"), "99.00"))

    imported(engine, books.source_id, written(tmp_path, file), read_mapping(COMMISSIONS))

    with read_session(engine) as session:
        facts = fetch(session, "SELECT payload FROM fact WHERE merchant_id = :id", {"id": books.merchant_id})
    assert ["commission" in str(fact.payload) for fact in facts] == [False]


def test_a_parked_delivery_that_names_the_order_explains_it(engine: Engine) -> None:
    books = Books.opened(engine)
    body = b'{"id": "shop-77", "lines": []}'
    delivery = Received(books.merchant_id, books.source_id, "d-1", "order", body, hashlib.sha256(body).digest())
    books.receive(delivery.parked("missing_field", "currency is missing"))

    done = matched(books, file_of(row("shop-77"), row("shop-7"))).run()

    assert [(name, why) for name, _, _, _, why in done.told] == [("shop-7", None), ("shop-77", E.PARKED_IN_INBOX)]


def test_the_order_of_rows_changes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_file, "ITEMS_AT_ONCE", 7)
    monkeypatch.setattr(stage, "ORDERS_AT_ONCE", 5)
    chosen = random.Random(7)
    books = Books.opened(engine)
    rows = [row(f"o-{number}", f"{number}.00", version=5 + number % 3) for number in range(40)]
    for name, _, _ in rows[::2]:
        told(books, name, chosen.choice([100, 1_000]))
    rows += [row("o-1", "5.00", version=9), row("o-2", "2.00", version=5)]
    shuffled = chosen.sample(rows, len(rows))

    first = matched(books, file_of(*shuffled)).run().told
    forget_differences(books)

    assert len(first) > 20
    assert matched(books, file_of(*rows)).run().told == first


def test_rows_that_cannot_be_read_are_counted_and_on_no_side(engine: Engine) -> None:
    books = Books.opened(engine)
    told(books, "good")

    done = matched(books, file_of(row("good"), ("bad", "yesterday", "1.00"), row("free", "x"))).run()

    assert (done.row.rows_refused, [each["row"] for each in done.row.refusals]) == (2, [3, 4])
    assert done.told == []


@pytest.mark.parametrize("content", [b"", b"id,at\n1,2", "id,at,net\n\u00e9".encode("utf-16")])
def test_a_file_that_cannot_be_read_fails_it_and_leaves_no_difference(engine: Engine, content: bytes) -> None:
    books = Books.opened(engine)
    told(books, "extra")

    done = matched(books, content).run()

    assert (done.row.state, done.row.error_code) == (
        "failed",
        "invalid-mapping" if content.startswith(b"id") and b"net" not in content else "invalid-import-file",
    )
    assert done.told == []


def test_a_mapping_without_orders_is_refused() -> None:
    check_mapping(MAPPING)
    check_mapping({"format": "ndjson"})
    with pytest.raises(InvalidMapping):
        check_mapping(load_document(PRESETS / "generic-refunds.toml"))


def test_nothing_else_is_touched_and_what_it_worked_with_is_gone(engine: Engine) -> None:
    books = Books.opened(engine)
    told(books, "extra")

    def dumped() -> dict[str, list[str]]:
        with read_session(engine) as session:
            return {
                name: sorted(repr(tuple(each)) for each in fetch(session, f"SELECT * FROM {name}"))
                for name in SQLModel.metadata.tables
                if name not in {"reconciliation", "reconciliation_difference"}
            }

    before = dumped()
    done = matched(books, file_of(row("missing")), bank=bank_file({"amount": "1.00", "reference": "x"})).run()

    assert len(done.told) == 3
    assert dumped() == before
    assert all(not before[table] for table in WORKING)


class Broken(Exception):
    """A process dies here."""


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_broken_off_is_gone_on_with_and_told_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(reconcile_file, "ITEMS_AT_ONCE", 3)
    for name in ("ORDERS_AT_ONCE", "PAYOUTS_AT_ONCE"):
        monkeypatch.setattr(stage, name, 2)
    chosen = random.Random(seed)
    books = Books.opened(engine)
    for number in range(6):
        told(books, f"extra-{number}")
    orders = file_of(*(row(f"o-{number}") for number in range(7)))
    bank = bank_file(*({"amount": "1.00", "reference": f"r-{number}"} for number in range(5)))
    whole = matched(books, orders, bank=bank).run().told
    forget_differences(books)
    broken = matched(books, orders, bank=bank)

    def now_and_then() -> bool:
        if chosen.random() < 0.4:
            raise Broken
        return chosen.random() < 0.7

    for _ in count():
        try:
            if not broken.turn(now_and_then):
                break
        except Broken:
            continue

    assert broken.told == whole
    assert (broken.row.state, broken.row.read) == ("done", 12)


def test_two_workers_at_once_tell_each_difference_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_file, "ITEMS_AT_ONCE", 2)
    monkeypatch.setattr(stage, "ORDERS_AT_ONCE", 2)
    books = Books.opened(engine)
    both = matched(books, file_of(*(row(f"o-{number}") for number in range(20))))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: both.turn(), range(2)))

    assert both.row.state == ReconciliationState.DONE
    assert [name for name, *_ in both.told] == sorted(f"o-{number}" for number in range(20))


def test_what_an_earlier_reconciliation_found_and_nobody_explained_is_named(engine: Engine) -> None:
    books = Books.opened(engine)
    first = matched(books, file_of(row("missing"), row("explained"))).run()
    with unit_of_work(engine) as session:
        execute(
            session,
            "UPDATE reconciliation_difference SET note = 'known', note_at = now() WHERE external_id = 'explained'",
        )

    second = matched(books, file_of(row("missing"), row("explained"))).run()

    assert [(name, why) for name, _, _, _, why in second.told] == [
        ("explained", None),
        ("missing", E.EARLIER_DIFFERENCE),
    ]
    earlier = next(each for each in first.differences if each.external_id == "missing")
    assert second.differences[1].explained_ref == encode("rdf", earlier.id)


@pytest.mark.parametrize(
    ("net", "currency"), [("100.00", "EUR"), ("100.01", "USD")], ids=["another currency", "another amount"]
)
def test_an_earlier_difference_explains_none_of_another_amount(engine: Engine, net: str, currency: str) -> None:
    books = Books.opened(engine)
    matched(books, file_of(row("missing"))).run()
    mapping = MAPPING | {"order": ORDER | {"currency": {"value": currency}}}

    second = matched(books, file_of(row("missing", net)), mapping=mapping).run()

    assert [(name, kind, why) for name, kind, _, _, why in second.told] == [("missing", K.MISSING, None)]


def test_an_earlier_difference_of_an_order_that_changed_here_since_explains_nothing(engine: Engine) -> None:
    books = Books.opened(engine)
    told(books, "more")
    matched(books, file_of(row("more", "120.00"))).run()
    books.tell("more", snapshot(11_000, version=6, placed=at(5)))

    second = matched(books, file_of(row("more", "120.00", version=6))).run()

    assert second.told == [("more", K.AMOUNT, 12_000, 11_000, None)]


def test_the_worker_does_it(engine: Engine) -> None:
    books = Books.opened(engine)
    from_file = matched(books, file_of(row("missing")))
    with unit_of_work(engine) as session:
        reconciliations.ask_worker(session, books.merchant_id, from_file.id, at=books.now)
    with ThreadPoolExecutor(1) as calls:
        run_pass(Worker(engine, Security(bytes(32)), {}, calls, "worker"))

    assert (from_file.row.state, len(from_file.told)) == ("done", 1)
    assert books.rows("SELECT FROM job WHERE merchant_id = :merchant_id AND kind = 'match_files'") == []


# Payouts.


def paid_out(desk: Desk, *amounts: int) -> list[PayoutItemRow]:
    """Payouts of these amounts, sent and accepted."""
    payees = [desk.payee(amount) for amount in amounts]
    desk.work(desk.an_executing_run(*payees))
    return [desk.item(payee_id) for payee_id in payees]


def references(desk: Desk) -> dict[UUID, str]:
    """What the rail calls each payout's transfer."""
    rows = desk.rows("SELECT item_id, reference FROM payout_attempt WHERE merchant_id = :merchant_id")
    return {each.item_id: each.reference for each in rows}


def bank_of(desk: Desk, bank: bytes, **changes: Any) -> Matched:
    month: Json = {"begins_on": date(2026, 11, 1), "until": date(2026, 11, 30)}
    return Matched.of(desk.engine, desk.merchant_id, **(month | {"bank": bank} | changes))


def public(item: PayoutItemRow) -> str:
    return encode("pay", item.id)


def test_lines_that_are_our_payouts_differ_in_nothing(engine: Engine) -> None:
    desk = Desk.opened(engine)
    first, second, third = paid_out(desk, 1_000, 2_000, 3_000)

    done = bank_of(
        desk,
        bank_file(
            {"amount": "10.00", "end_to_end_id": public(first)},
            {"amount": "20.00", "end_to_end_id": public(second).upper().replace("_", ""), "reference": "B-2"},
            {"amount": "30.00", "reference": references(desk)[third.id]},
        ),
    ).run()

    assert (done.row.state, done.row.read, done.told) == ("done", 3, [])


def test_what_differs_of_payouts_is_told_with_their_ids(engine: Engine) -> None:
    desk = Desk.opened(engine)
    less, twice, extra = paid_out(desk, 1_000, 2_000, 3_000)

    done = bank_of(
        desk,
        bank_file(
            {"amount": "9.00", "end_to_end_id": public(less)},
            {"amount": "20.00", "end_to_end_id": public(twice), "reference": "B-1"},
            {"amount": "20.00", "end_to_end_id": public(twice), "reference": "B-2"},
            {"amount": "7.00", "reference": "nobody's"},
            {"amount": "0.50", "reference": "charges", "kind": "fee"},
        ),
    ).run()

    assert {
        (each.kind, each.item_id, each.theirs_minor, each.ours_minor, each.explained_by) for each in done.differences
    } == {
        (K.AMOUNT, less.id, 900, 1_000, None),
        (K.DUPLICATE, twice.id, 4_000, 2_000, None),
        (K.EXTRA, extra.id, None, 3_000, None),
        (K.MISSING, None, 700, None, None),
        (K.MISSING, None, 50, None, E.BANK_FEE),
    }
    assert {each.external_id for each in done.differences} == {
        public(less),
        public(twice),
        public(extra),
        "nobody's",
        "charges",
    }


def test_lines_of_an_account_that_pays_other_things_too_are_left_out(engine: Engine) -> None:
    desk = Desk.opened(engine)
    [item] = paid_out(desk, 1_000)
    bank = bank_file({"amount": "10.00", "end_to_end_id": public(item)}, {"amount": "999.00", "reference": "rent"})

    done = bank_of(desk, bank, only_payouts=False).run()

    assert (done.told, done.row.left_out) == ([], 1)


def test_what_came_back_on_one_side_only_is_told(engine: Engine) -> None:
    desk = Desk.opened(engine)
    here, there = paid_out(desk, 1_000, 2_000)
    fact = Told(here.id, references(desk)[here.id], FactKind.REVERSED, "1000", 1_000, {})
    run_unit(
        engine,
        lambda session: reconcile(
            session, [fact], merchant_id=desk.merchant_id, rail=desk.rail.name, when=desk.when, now=desk.now
        ),
    )

    done = bank_of(
        desk,
        bank_file(
            {"amount": "10.00", "end_to_end_id": public(here)},
            {"amount": "20.00", "end_to_end_id": public(there)},
            {"amount": "-20.00", "end_to_end_id": public(there)},
        ),
    ).run()

    assert {(each.kind, each.item_id, each.theirs_minor, each.ours_minor) for each in done.differences} == {
        (K.STATUS, here.id, 0, -1_000),
        (K.STATUS, there.id, -2_000, 0),
    }


@pytest.mark.parametrize(("until", "why"), [(date(2026, 11, 25), E.PERIOD_BOUNDARY), (date(2026, 11, 26), None)])
def test_what_came_back_on_one_of_the_last_days_may_be_told_by_the_bank_later(
    engine: Engine, until: date, why: Explanation | None
) -> None:
    desk = Desk.opened(engine)
    [item] = paid_out(desk, 1_000)
    fact = Told(item.id, references(desk)[item.id], FactKind.REVERSED, "1000", 1_000, {})
    run_unit(
        engine,
        lambda session: reconcile(
            session, [fact], merchant_id=desk.merchant_id, rail=desk.rail.name, when=desk.when, now=desk.now
        ),
    )

    done = bank_of(desk, bank_file({"amount": "10.00", "end_to_end_id": public(item)}), until=until).run()

    assert done.told == [(public(item), K.STATUS, 0, -1_000, why)]
    assert done.differences[0].ours is not None
    assert done.differences[0].ours["came_back_on"] == ["2026-11-20"]


def test_only_payouts_of_the_files_own_rail_and_currency_are_sought_in_it(engine: Engine) -> None:
    desk = Desk.opened(engine)
    extra, elsewhere, named = paid_out(desk, 1_000), paid_out(desk, 2_000), paid_out(desk, 3_000)
    with unit_of_work(engine) as session:
        execute(
            session,
            "UPDATE payout_run SET rail = 'stripe_connect' WHERE id = ANY(CAST(:ids AS uuid[]))",
            {"ids": [elsewhere[0].run_id, named[0].run_id]},
        )
    bank = bank_file({"amount": "31.00", "end_to_end_id": public(named[0])})

    def told_of(**narrowed: str) -> set[tuple[str, str]]:
        forget_differences(desk)
        return {(name, kind) for name, kind, *_ in bank_of(desk, bank, **narrowed).run().told}

    differs = {(public(named[0]), K.AMOUNT)}
    both = {(public(extra[0]), K.EXTRA), (public(elsewhere[0]), K.EXTRA)}
    assert told_of() == told_of(currency="USD") == differs | both
    assert told_of(rail="sandbox") == told_of(rail="sandbox", currency="USD") == differs | {(public(extra[0]), K.EXTRA)}
    assert told_of(rail="stripe_connect") == differs | {(public(elsewhere[0]), K.EXTRA)}
    assert told_of(rail="sepa_file") == told_of(rail="sandbox", currency="EUR") == differs


def test_a_payout_of_a_file_that_left_twice_is_told_though_the_bank_repeats_what_we_sent_along(engine: Engine) -> None:
    files = FileDesk.opened(engine)
    ann, bob = files.payee(1_000), files.payee(2_000, number=2)
    _, file = files.handed_over()
    files.answer(file, neutral((files.reference(ann), "booked"), (files.reference(bob), "booked")))
    twice: Json = {"amount": "10.00", "currency": "EUR", "reference": files.reference(ann)}
    once: Json = {"amount": "20.00", "currency": "EUR", "reference": "B-2", "end_to_end_id": files.reference(bob)}

    done = bank_of(files.desk, bank_file(twice, twice, once, once)).run()

    assert {(each.item_id, each.kind, each.theirs_minor, each.explained_by) for each in done.differences} == {
        (files.desk.item(ann).id, K.DUPLICATE, 2_000, None),
        (files.desk.item(bob).id, K.DUPLICATE, 4_000, E.SAME_TWICE),
    }


def test_a_row_of_the_bank_with_what_no_text_may_hold_is_refused_alone(engine: Engine) -> None:
    desk = Desk.opened(engine)
    [item] = paid_out(desk, 1_000)
    bank = bank_file(
        {"amount": "10.00", "end_to_end_id": public(item)}, {"amount": "1.00", "reference": "B\0"}, {"amount": "x"}
    )

    done = bank_of(desk, bank).run()

    assert (done.row.state, done.told) == ("done", [])
    assert [(each["row"], each["reason_code"]) for each in done.row.refusals] == [
        (3, "unreadable_row"),
        (4, "invalid_amount"),
    ]


def test_a_payout_of_which_nobody_knows_is_explained_when_the_bank_says_it_was_paid(engine: Engine) -> None:
    desk = Desk.opened(engine)
    payee_id = desk.payee(1_000, destination="sandbox_down")
    desk.rail.does["sandbox_down"] = ["down"] * 9
    desk.work(desk.an_executing_run(payee_id))
    item = desk.item(payee_id)

    done = bank_of(desk, bank_file({"amount": "10.00", "end_to_end_id": public(item)})).run()

    assert [(kind, why) for _, kind, _, _, why in done.told] == [(K.MISSING, E.PAYOUT_UNKNOWN)]


def test_a_statement_in_xml_is_compared_too(engine: Engine) -> None:
    desk = Desk.opened(engine)
    [item] = paid_out(desk, 1_000)
    content = (Path(__file__).parent.parent / "fixtures" / "bank" / "camt053.xml").read_text()

    done = bank_of(desk, content.replace("PAYOUT-ID", public(item)).encode(), bank_format="camt").run()

    assert done.row.state == "done", done.row.error_detail
    assert [(each.kind, each.theirs_minor, each.explained_by) for each in done.differences] == [
        (K.MISSING, 35, E.BANK_FEE),
        (K.MISSING, 125_000, None),
    ]
