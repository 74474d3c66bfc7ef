"""Read the files of a reconciliation: into rows of its own, and nowhere else. Nothing of them is booked."""

import json
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions import reconciliations
from service.commissions.reconciliations import Reconciliation
from service.commissions.simulations import pack, unpack
from service.domain.errors import Invalid
from service.domain.order import Fact, FactKind
from service.domain.reconciliation import BankLine
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit
from service.infra.security import Security
from service.intake import bank_lines, import_rows
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import Delivery, NotUnderstood, Reading
from service.intake.adapters.parse import load, minor
from service.intake.bank_lines import BankFormat, NumberedLine, payout_named
from service.intake.batch import content_id
from service.intake.cells import Event, Refused, Skipped
from service.intake.mapping import InvalidMapping, read_mapping
from service.intake.receive import reading_of
from service.intake.try_file import joined
from service.tables.parties import Platform
from service.tables.reconciliations import FileKind, ReconciliationStage
from service.tracking.find import ClickSigner

ITEMS_AT_ONCE = 500
_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes of events in one unit of work, give or take one event."""
ROWS_KEPT = 10
"""Rows of a file that are told of one order."""

JsonObject = dict[str, Any]
Item = TypeVar("Item")
Kept_contra = TypeVar("Kept_contra", contravariant=True)


class _Keep(Protocol[Kept_contra]):
    """Adds one page of items, and takes the reconciliation to a stage and cursor."""

    def __call__(
        self,
        session: Session,
        *,
        known: Reconciliation,
        items: Sequence[Kept_contra],
        stage: ReconciliationStage,
        cursor: JsonObject,
    ) -> None: ...


def check_mapping(document: JsonObject) -> None:
    """Raises InvalidMapping where a file of orders cannot be read by it."""
    mapping = read_mapping(document)
    if mapping.order is None and not mapping.is_events:
        raise InvalidMapping("A reconciliation compares orders: the mapping needs a table [order].")


def add_part(
    session: Session, merchant_id: UUID, reconciliation_id: UUID, *, file: FileKind, number: int, body: bytes
) -> None:
    """Keep a part of a file; sent again, it takes the place of the one before. The caller holds the row."""
    execute(
        session,
        """
        INSERT INTO reconciliation_part (merchant_id, reconciliation_id, file, number, size_bytes, body)
        VALUES (:merchant_id, :id, :file, :number, :size, :body)
        ON CONFLICT (merchant_id, reconciliation_id, file, number) DO UPDATE
        SET size_bytes = excluded.size_bytes, body = excluded.body
        """,
        {
            "merchant_id": merchant_id,
            "id": reconciliation_id,
            "file": file,
            "number": number,
            "size": len(body),
            "body": zlib.compress(body),
        },
    )


def read_files(
    engine: Engine,
    security: Security,
    merchant_id: UUID,
    reconciliation_id: UUID,
    go_on: Callable[[], bool],
    *,
    clock: Callable[[], datetime] = utc_now,
) -> None:
    """Read a reconciliation's files from where that was left, to their end or until `go_on` says to pause.

    A file or mapping that cannot be read fails the reconciliation; a row that cannot is counted and left out. Safe to
    repeat. Nothing is done where there is no file to read.
    """
    reading = reading_of(security, ClickSigner(security), merchant_id)
    try:
        for stage, read in (
            (ReconciliationStage.ORDERS_FILE, partial(_read_orders, reading=reading)),
            (ReconciliationStage.BANK_FILE, _read_bank),
        ):
            with read_session(engine) as session:
                known = reconciliations.load(session, merchant_id, reconciliation_id)
            if known is not None and known.stage is stage:
                with tempfile.TemporaryDirectory(prefix="koc-reconciliation-") as folder:
                    path = Path(folder) / "file"
                    read(engine, known, path, go_on, clock)
    except Invalid as error:
        give_up = partial(reconciliations.fail, merchant_id=merchant_id, reconciliation_id=reconciliation_id)
        run_unit(engine, partial(give_up, code=error.code, detail=error.detail, now=clock()))


def _put_together(engine: Engine, known: Reconciliation, file: FileKind, path: Path) -> None:
    with path.open("wb") as opened, read_session(engine) as session:
        number = 1
        while part := fetch(
            session,
            """
            SELECT body FROM reconciliation_part
            WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND file = :file AND number = :number
            """,
            {"merchant_id": known.merchant_id, "id": known.id, "file": file, "number": number},
        ):
            opened.write(zlib.decompress(bytes(part[0].body)))
            number += 1


def _in_pages(
    engine: Engine,
    known: Reconciliation,
    items: Iterator[Item],
    keep: _Keep[Item],
    then: ReconciliationStage,
    go_on: Callable[[], bool],
) -> None:
    """Keep items page by page."""
    done: int = known.cursor.get("items", 0)
    items = islice(items, done, None)
    is_read = False
    while not is_read and go_on():
        some = list(_some(items))
        is_read, done = not some, done + len(some)
        stage: ReconciliationStage = then if is_read else known.stage
        cursor: JsonObject = {} if is_read else {"items": done}
        run_unit(engine, partial(keep, known=known, items=some, stage=stage, cursor=cursor))
        with read_session(engine) as session:
            after = reconciliations.load(session, known.merchant_id, known.id)
        if after is None or (after.stage, after.cursor) != (stage, cursor):
            # It is gone, or another goes on with it.
            return
        known = after


def _some(items: Iterator[Item]) -> Iterator[Item]:
    held = 0
    for item in islice(items, ITEMS_AT_ONCE):
        yield item
        held += len(item.body) if isinstance(item, Event) else 0
        if held >= _BYTES_AT_ONCE:
            return


def _refused(items: Iterable[object], file: FileKind) -> list[JsonObject]:
    return [
        {"file": file, "row": item.row, "rows": item.rows, "reason_code": item.reason_code, "detail": item.detail}
        for item in items
        if isinstance(item, Refused)
    ]


# The file of orders.


def _read_orders(
    engine: Engine,
    known: Reconciliation,
    path: Path,
    go_on: Callable[[], bool],
    clock: Callable[[], datetime],
    *,
    reading: Reading,
) -> None:
    _put_together(engine, known, FileKind.ORDERS, path)
    mapping = read_mapping(known.mapping or {})
    if not known.cursor:
        import_rows.measure(path, mapping)
    reading = replace(reading, is_test=known.is_test)

    def keep(
        session: Session,
        *,
        known: Reconciliation,
        items: Sequence[Event | Refused | Skipped],
        stage: ReconciliationStage,
        cursor: JsonObject,
    ) -> None:
        heard = _heard(items, reading)
        is_new = reconciliations.move_on(
            session,
            known,
            stage=stage,
            cursor=cursor,
            now=clock(),
            read=sum(order.times for order in heard.orders.values()),
            refused=[*_refused(items, FileKind.ORDERS), *heard.refused],
        )
        if is_new:
            _keep_orders(session, known, heard.orders)

    then = ReconciliationStage.BANK_FILE if known.bank_format else ReconciliationStage.ORDERS
    _in_pages(engine, known, import_rows.items_of(path, mapping), keep, then, go_on)


@dataclass(slots=True)
class _HeardOrder:
    """What some items of a file say of one order."""

    facts: list[Fact] = field(default_factory=list)
    times: int = 0
    rows: list[int] = field(default_factory=list)
    told: tuple[datetime, int] | None = None
    """The newest version with what it says that commissions come to; below zero where it does not."""

    @property
    def commission_minor(self) -> int | None:
        return None if self.told is None or self.told[1] < 0 else self.told[1]

    def hear_commission(self, commission_minor: int | None, version_at: datetime) -> None:
        """Of several versions the newest counts; of equal ones the larger amount, so that the order of rows does not."""
        heard = (version_at, -1 if commission_minor is None else commission_minor)
        self.told = heard if self.told is None else max(self.told, heard)


@dataclass(slots=True)
class _Heard:
    orders: dict[str, _HeardOrder] = field(default_factory=dict)
    refused: list[JsonObject] = field(default_factory=list)


def _heard(items: Iterable[Event | Refused | Skipped], reading: Reading) -> _Heard:
    heard = _Heard()
    translate = ADAPTERS[Platform.GENERIC].translate
    for item in items:
        if not isinstance(item, Event):
            continue
        try:
            told = translate(Delivery(content_id(item.body), "", item.body), reading)
            commission_minor = _commission(item.body) if told.facts else None
        except NotUnderstood as error:
            detail = f"Row {item.row}: {error.detail}"
            heard.refused += _refused([Refused(item.row, item.rows, error.reason_code, detail)], FileKind.ORDERS)
            continue
        if told.facts:
            order = heard.orders.setdefault(told.order_id, _HeardOrder())
            order.facts += told.facts
            order.rows.append(item.row)
            for fact in told.facts:
                if fact.kind is FactKind.ORDER:
                    order.times += 1
                    order.hear_commission(commission_minor, fact.version_at)
    return heard


def _commission(body: bytes) -> int | None:
    """What an order's event says that commissions come to, in minor units; None where it does not. Raises NotUnderstood."""
    if b'"commission"' not in body:
        return None
    event = load(body)
    told = event.get("commission")
    return None if told is None or event.get("type") != "order" else minor(told, event["currency"], "commission")


def _keep_orders(session: Session, known: Reconciliation, orders: dict[str, _HeardOrder]) -> None:
    names = sorted(orders)
    stored = {
        row.name: row
        for row in fetch(
            session,
            """
            SELECT name, facts, is_same, rows, commission_minor FROM reconciliation_order
            WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND name = ANY(CAST(:names AS text[]))
            """,
            {"merchant_id": known.merchant_id, "id": known.id, "names": names},
        )
    }
    before = {name: unpack(bytes(row.facts)) for name, row in stored.items()}
    for name, row in stored.items():
        for fact in before[name]:
            if fact.kind is FactKind.ORDER:
                orders[name].hear_commission(row.commission_minor, fact.version_at)
    all_facts = {name: [*before.get(name, ()), *orders[name].facts] for name in names}
    execute(
        session,
        """
        INSERT INTO reconciliation_order AS known (merchant_id, reconciliation_id, name, facts, times, is_same, rows,
                                                   commission_minor)
        SELECT :merchant_id, :id, name, facts, times, is_same, CAST(rows AS jsonb), commission_minor
        FROM unnest(CAST(:names AS text[]), CAST(:facts AS bytea[]), CAST(:times AS bigint[]),
                    CAST(:same AS boolean[]), CAST(:rows AS text[]), CAST(:commissions AS bigint[]))
             AS read (name, facts, times, is_same, rows, commission_minor)
        ON CONFLICT (merchant_id, reconciliation_id, name) DO UPDATE
        SET facts = excluded.facts, times = known.times + excluded.times, is_same = excluded.is_same,
            rows = excluded.rows, commission_minor = excluded.commission_minor
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "names": names,
            "facts": [pack(joined(all_facts[name])) for name in names],
            "times": [orders[name].times for name in names],
            "same": [
                _is_same(all_facts[name]) and (name not in stored or bool(stored[name].is_same)) for name in names
            ],
            "rows": [
                json.dumps(sorted({*(stored[name].rows if name in stored else ()), *orders[name].rows})[:ROWS_KEPT])
                for name in names
            ],
            "commissions": [orders[name].commission_minor for name in names],
        },
    )


def _is_same(facts: Iterable[Fact]) -> bool:
    return len({(fact.version_at, fact.body_hash) for fact in facts if fact.kind is FactKind.ORDER}) <= 1


# The bank's file.


def _read_bank(
    engine: Engine, known: Reconciliation, path: Path, go_on: Callable[[], bool], clock: Callable[[], datetime]
) -> None:
    _put_together(engine, known, FileKind.BANK, path)

    def keep(
        session: Session,
        *,
        known: Reconciliation,
        items: Sequence[NumberedLine | Refused],
        stage: ReconciliationStage,
        cursor: JsonObject,
    ) -> None:
        lines = [item for item in items if isinstance(item, NumberedLine)]
        is_new = reconciliations.move_on(
            session,
            known,
            stage=stage,
            cursor=cursor,
            now=clock(),
            read=len(lines),
            refused=_refused(items, FileKind.BANK),
        )
        if is_new:
            _keep_lines(session, known, lines)

    then = ReconciliationStage.ORDERS if known.mapping is not None else ReconciliationStage.PAYOUTS
    lines = bank_lines.read_lines(path, BankFormat(known.bank_format or BankFormat.CSV))
    _in_pages(engine, known, lines, keep, then, go_on)


def _keep_lines(session: Session, known: Reconciliation, lines: Sequence[NumberedLine]) -> None:
    execute(
        session,
        """
        INSERT INTO reconciliation_line (merchant_id, reconciliation_id, number, booked_on, kind, reference,
                                         end_to_end_id, currency, amount_minor, item_id)
        SELECT :merchant_id, :id, number, booked_on, kind, reference, end_to_end_id, currency, amount_minor, item_id
        FROM unnest(CAST(:numbers AS bigint[]), CAST(:days AS date[]), CAST(:kinds AS text[]),
                    CAST(:references AS text[]), CAST(:end_to_end_ids AS text[]), CAST(:currencies AS text[]),
                    CAST(:amounts AS bigint[]), CAST(:item_ids AS uuid[]))
             AS read (number, booked_on, kind, reference, end_to_end_id, currency, amount_minor, item_id)
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "numbers": [each.number for each in lines],
            "days": [each.line.booked_on for each in lines],
            "kinds": [each.line.kind.value for each in lines],
            "references": [each.line.reference for each in lines],
            "end_to_end_ids": [each.line.end_to_end_id for each in lines],
            "currencies": [each.line.currency for each in lines],
            "amounts": [each.line.amount_minor for each in lines],
            "item_ids": _payouts_named(session, known.merchant_id, [each.line for each in lines]),
        },
    )


def _payouts_named(session: Session, merchant_id: UUID, lines: Sequence[BankLine]) -> list[UUID | None]:
    """The payout that each line names: by its public id, or by what the rail calls the transfer."""
    by_id = [payout_named(line) for line in lines]
    here = {
        row.id
        for row in fetch(
            session,
            "SELECT id FROM payout_item WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))",
            {"merchant_id": merchant_id, "ids": [each for each in by_id if each is not None]},
        )
    }
    by_reference = {
        row.reference: row.item_id
        for row in fetch(
            session,
            """
            SELECT attempt.reference, attempt.item_id
            FROM (SELECT DISTINCT rail FROM payout_run WHERE merchant_id = :merchant_id) AS used
            JOIN payout_attempt AS attempt ON attempt.merchant_id = :merchant_id AND attempt.rail = used.rail
             AND attempt.reference = ANY(CAST(:references AS text[]))
            """,
            {
                "merchant_id": merchant_id,
                "references": [each for line in lines for each in (line.reference, line.end_to_end_id) if each],
            },
        )
    }
    return [
        named if named in here else by_reference.get(line.reference) or by_reference.get(line.end_to_end_id)
        for named, line in zip(by_id, lines, strict=True)
    ]
