"""Read the orders of a file that is only tried: into rows of its simulation, and nowhere else."""

import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions import simulations
from service.commissions.simulations import Simulation
from service.domain.customer import customer_key
from service.domain.errors import Invalid
from service.domain.order import Fact, OrderFacts, OrderSnapshot, merge
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit
from service.infra.ids import new_id
from service.infra.security import Security
from service.intake.adapters import ADAPTERS
from service.intake.adapters.model import Delivery, NotUnderstood, Reading
from service.intake.batch import content_id
from service.intake.cells import Event, Item, Refused
from service.intake.import_rows import items_of, measure
from service.intake.mapping import read_mapping
from service.intake.receive import reading_of
from service.tables.parties import Platform
from service.tables.simulations import Stage
from service.tracking.find import ClickSigner

EVENTS_AT_ONCE = 500
_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes of events in one unit of work, give or take one event."""
PART_BYTES = 1024 * 1024
"""Of a part, before compression, where we cut a file ourselves."""
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Of a whole file: each turn of a worker that goes on with it reads it again from its beginning."""
PARTS_MAX = 10_000

JsonObject = dict[str, Any]


def add_part(session: Session, merchant_id: UUID, simulation_id: UUID, *, number: int, body: bytes) -> None:
    """Keep a part of a simulation's file; sent again, it takes the place of the one before. The caller holds the row."""
    execute(
        session,
        """
        INSERT INTO simulation_part (merchant_id, simulation_id, number, size_bytes, body)
        VALUES (:merchant_id, :id, :number, :size, :body)
        ON CONFLICT (merchant_id, simulation_id, number) DO UPDATE
        SET size_bytes = excluded.size_bytes, body = excluded.body
        """,
        {
            "merchant_id": merchant_id,
            "id": simulation_id,
            "number": number,
            "size": len(body),
            "body": zlib.compress(body),
        },
    )


def check_last(part: int, *, parts: int) -> None:
    """Raises Invalid where the last part's number is not how many there are."""
    if parts != part:
        raise Invalid(
            f"Part {part} cannot be the last of {parts} that were sent: they are numbered from 1 without gaps."
        )


def parts_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yields a file in parts, each with its number from 1."""
    with file.open("rb") as opened:
        yield from enumerate(iter(partial(opened.read, PART_BYTES), b""), start=1)


def read_orders(
    engine: Engine,
    security: Security,
    merchant_id: UUID,
    simulation_id: UUID,
    go_on: Callable[[], bool],
    *,
    clock: Callable[[], datetime] = utc_now,
) -> None:
    """Read a simulation's file from where it was left, to its end or until `go_on` says to pause.

    A file or mapping that cannot be read fails the simulation; a row that cannot is counted and left out. Safe to repeat.
    Nothing is done where there is no file to read, or it is read.
    """
    with read_session(engine) as session:
        known = simulations.load(session, merchant_id, simulation_id)
    if known is None or known.stage is not Stage.FILE:
        return
    reading = replace(reading_of(security, ClickSigner(security), merchant_id), is_test=known.is_test)
    try:
        with tempfile.TemporaryDirectory(prefix="koc-simulation-") as folder:
            file = Path(folder) / "orders"
            _put_together(engine, known, file)
            _read(engine, known, reading, file, go_on, clock)
    except Invalid as error:
        give_up = partial(simulations.fail, merchant_id=merchant_id, simulation_id=simulation_id)
        run_unit(engine, partial(give_up, code=error.code, detail=error.detail, now=clock()))


def _put_together(engine: Engine, known: Simulation, file: Path) -> None:
    with file.open("wb") as opened, read_session(engine) as session:
        number = 1
        while part := fetch(
            session,
            """
            SELECT body FROM simulation_part
            WHERE merchant_id = :merchant_id AND simulation_id = :id AND number = :number
            """,
            {"merchant_id": known.merchant_id, "id": known.id, "number": number},
        ):
            opened.write(zlib.decompress(bytes(part[0].body)))
            number += 1


def _read(
    engine: Engine,
    known: Simulation,
    reading: Reading,
    file: Path,
    go_on: Callable[[], bool],
    clock: Callable[[], datetime],
) -> None:
    mapping = read_mapping(known.mapping or {})
    done: int = known.cursor.get("items", 0)
    if not done:
        measure(file, mapping)
    items = islice(items_of(file, mapping), done, None)
    is_read = False
    while not is_read and go_on():
        some = list(_some(items))
        is_read, done = not some, done + len(some)
        stage, cursor = (Stage.ORDERS, {}) if is_read else (Stage.FILE, {"items": done})
        heard = _heard(some, reading)
        run_unit(engine, partial(_keep, known=known, heard=heard, stage=stage, cursor=cursor, now=clock()))
        with read_session(engine) as session:
            after = simulations.load(session, known.merchant_id, known.id)
        if after is None or after.cursor != cursor:
            # It is gone, or another goes on with it.
            return
        known = after


def _some(items: Iterator[Item]) -> Iterator[Item]:
    held = 0
    for item in islice(items, EVENTS_AT_ONCE):
        yield item
        held += len(item.body) if isinstance(item, Event) else 0
        if held >= _BYTES_AT_ONCE:
            return


@dataclass(slots=True)
class _Heard:
    """What some items of a file say: facts by order, and rows of which nothing could be made."""

    facts: dict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    refused: list[JsonObject] = field(default_factory=list)


def _heard(items: Iterable[Item], reading: Reading) -> _Heard:
    heard = _Heard()
    translate = ADAPTERS[Platform.GENERIC].translate
    for item in items:
        match item:
            case Event():
                try:
                    told = translate(Delivery(content_id(item.body), "", item.body), reading)
                except NotUnderstood as error:
                    heard.refused.append(_refused(item.row, item.rows, error.reason_code, error.detail))
                else:
                    if told.facts:
                        heard.facts[told.order_id] += told.facts
            case Refused():
                heard.refused.append(_refused(item.row, item.rows, item.reason_code, item.detail))
    return heard


def _refused(row: int, rows: int, reason_code: str, detail: str) -> JsonObject:
    return {"row": row, "rows": rows, "reason_code": reason_code, "detail": detail}


def _keep(
    session: Session, known: Simulation, heard: _Heard, *, stage: Stage, cursor: JsonObject, now: datetime
) -> None:
    """Add what was heard to what is known of each order."""
    if not simulations.move_on(session, known, stage=stage, cursor=cursor, refused=heard.refused, now=now):
        return
    names = sorted(heard.facts)
    stored = {
        row.name: simulations.unpack(bytes(row.facts))
        for row in fetch(
            session,
            """
            SELECT name, facts FROM simulation_order
            WHERE merchant_id = :merchant_id AND simulation_id = :id AND name = ANY(CAST(:names AS text[]))
            """,
            {"merchant_id": known.merchant_id, "id": known.id, "names": names},
        )
    }
    merged = [joined([*stored.get(name, ()), *heard.facts[name]]) for name in names]
    snapshots = [OrderFacts.of(facts).snapshot for facts in merged]
    execute(
        session,
        """
        INSERT INTO simulation_order (merchant_id, simulation_id, name, order_id, placed_at, customer, facts)
        SELECT :merchant_id, :id, name, order_id, placed_at, customer, facts
        FROM unnest(CAST(:names AS text[]), CAST(:order_ids AS uuid[]), CAST(:placed AS timestamptz[]),
                    CAST(:customers AS text[]), CAST(:facts AS bytea[]))
             AS read (name, order_id, placed_at, customer, facts)
        ON CONFLICT (merchant_id, simulation_id, name) DO UPDATE
        SET placed_at = excluded.placed_at, customer = excluded.customer, facts = excluded.facts
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "names": names,
            "order_ids": [new_id() for _ in names],
            "placed": [snapshot.placed_at if snapshot else None for snapshot in snapshots],
            "customers": [_customer(snapshot) for snapshot in snapshots],
            "facts": [simulations.pack(facts) for facts in merged],
        },
    )


def _customer(snapshot: OrderSnapshot | None) -> str | None:
    return None if snapshot is None else customer_key(snapshot.customer)


def joined(facts: Iterable[Fact]) -> list[Fact]:
    """Of each fact the version that counts."""
    kept: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        known = kept.get((fact.kind, fact.key))
        kept[fact.kind, fact.key] = fact if known is None else merge(known, fact)
    return list(kept.values())
