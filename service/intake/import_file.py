"""Import a file of orders: the same way as webhooks, many in a unit of work, with one result for each event or row.

Safe to repeat and to break off: an event's delivery id is made of its bytes, so what was imported counts once.
"""

import contextlib
import csv
import io
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import Engine

from service.domain.attribution import Reason
from service.domain.errors import Conflict, Invalid
from service.domain.order import JsonObject
from service.infra.db import fetch, read_session
from service.infra.ids import encode
from service.intake.adapters.model import Delivery, Reading
from service.intake.batch import Effect, content_id, foresee, record_all
from service.intake.cells import Event, Item, Refused, Skipped
from service.intake.find_source import our_grammar
from service.intake.receive import KnownSource, receive
from service.intake.record import WAITING_REASON, Received, Recorded, unless_ahead
from service.ledger.times import merchant_times
from service.tables.orders import InboxState

EVENTS_AT_ONCE = 500
"""Events in one unit of work."""
_BYTES_AT_ONCE = 16 * 1024 * 1024
"""Bytes of bodies in one unit of work, give or take one event."""
_ORDERS_ASKED_AT_ONCE = 5000

_FORMULA = re.compile(r"^[-=+@\t\r\n]")
"""How a cell begins that a spreadsheet would run instead of show; the same as in reports."""


class State(StrEnum):
    """What became of an event, or of a row that is none."""

    APPLIED = "applied"
    WAITING = "waiting"
    IGNORED = "ignored"
    PARKED = "parked"
    REFUSED = "refused"
    """No event could be made of the row; nothing is kept."""
    SKIPPED = "skipped"
    """The mapping leaves it out."""


TROUBLE = (State.PARKED, State.REFUSED)


class Credit(StrEnum):
    """Whom the orders of a run are credited to when it has ended."""

    AFFILIATE = "an affiliate"
    NOBODY = "nobody"
    IN_VAIN = "nobody, though they name a click or coupon"
    """Each of these lost for a reason of its own, such as a start after the order was placed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the result file. row, rows: the first row it was made of, and how many; amounts in minor units."""

    row: int
    rows: int
    kind: str
    order_id: str
    state: State
    effect: Effect | None
    reason_code: str
    detail: str
    currency: str
    goods_minor: int | None
    total_minor: int | None
    inbox_id: str

    def cells(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RESULT_COLUMNS}


RESULT_COLUMNS = (
    "row",
    "rows",
    "kind",
    "order_id",
    "state",
    "effect",
    "reason_code",
    "detail",
    "currency",
    "goods_minor",
    "total_minor",
    "inbox_id",
)


@dataclass(slots=True)
class Tally:
    """What a run came to. rows: of the file, done so far; stopped: somebody asked it to end.

    credits: of orders, each counted once; empty after a dry run, which books nothing and cannot know.
    """

    states: Counter[State] = field(default_factory=Counter)
    effects: Counter[Effect] = field(default_factory=Counter)
    credits: Counter[Credit] = field(default_factory=Counter)
    rows: int = 0
    stopped: bool = False

    def add(self, result: Result) -> None:
        self.states[result.state] += 1
        if result.effect is not None:
            self.effects[result.effect] += 1


@dataclass(frozen=True, slots=True)
class Importer:
    """Into which source, and how its merchant's events are read. dry: only say what would happen."""

    engine: Engine
    source: KnownSource
    reading: Reading
    dry: bool = False

    def run(
        self,
        items: Iterable[Item],
        write: Callable[[Sequence[Result]], None],
        tell: Callable[[int], bool] = lambda _rows: True,
        *,
        at_once: int = EVENTS_AT_ONCE,
    ) -> Tally:
        """Import items in their order.

        write: is given the results of each unit of work after its commit. tell: is given the rows done since it was told
        last; when it answers False the run ends there.
        """
        tally = Tally()
        with contextlib.closing(_Seen()) as seen:
            for items_at_once in _batches(items, at_once):
                results = self._done(items_at_once, seen)
                write(results)
                for result in results:
                    tally.add(result)
                # Several events of one row stand one after the other and count once.
                rows = sum({each.row: each.rows for each in items_at_once}.values())
                tally.rows += rows
                if not tell(rows):
                    tally.stopped = True
                    break
            if not self.dry:
                tally.credits = self._credits(seen)
        return tally

    def _done(self, items: Sequence[Item], seen: "_Seen") -> list[Result]:
        received = [self._receive(item.body) for item in items if isinstance(item, Event)]
        with read_session(self.engine) as session:
            effects, here = foresee(session, self.source.merchant_id, received)
            now = merchant_times(session, [self.source.merchant_id])[self.source.merchant_id].now
        if self.dry:
            received = [unless_ahead(each, now) for each in received]
            answers = self._foretold(received, effects, here, seen)
        else:
            recorded_all = record_all(self.engine, received)
            answers = [
                _result_of(each, recorded.state, recorded, Effect.SAME if recorded.repeated else effect)
                for each, recorded, effect in zip(received, recorded_all, effects, strict=True)
            ]
            for recorded in recorded_all:
                if recorded.order_id is not None and recorded.understood.get("kind") == "order":
                    seen.add(str(recorded.order_id))
        rest = iter(answers)
        return [self._result(item, rest) for item in items]

    def _receive(self, body: bytes) -> Received:
        return receive(self.source, Delivery(content_id(body), "", body), self.reading, our_grammar(self.source))

    def _foretold(
        self, received: Sequence[Received], effects: Sequence[Effect], here: set[str], seen: "_Seen"
    ) -> list["_Answer"]:
        """What would happen, the events before in this file included."""
        answers = []
        for each, effect in zip(received, effects, strict=True):
            order = each.order[1] if each.order else ""
            is_order = (each.understood or {}).get("kind") == "order"
            again = not seen.add(each.delivery_id)
            state = each.state
            if state is InboxState.APPLIED:
                if is_order:
                    seen.add(f"order {order}")
                elif order not in here and not seen.has(f"order {order}"):
                    state = InboxState.WAITING
            answers.append(_result_of(each, state, None, Effect.SAME if again else effect))
        return answers

    def _credits(self, seen: "_Seen") -> Counter[Credit]:
        """Whom the orders that were imported are credited to. Asked in the end: an order may come in several versions."""
        found: Counter[Credit] = Counter()
        for order_ids in seen.names(_ORDERS_ASKED_AT_ONCE):
            with read_session(self.engine) as session:
                rows = fetch(
                    session,
                    """
                    SELECT affiliate_id IS NOT NULL AS credited, attribution_reason, count(*) AS orders
                    FROM assessment
                    WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
                    GROUP BY 1, 2
                    """,
                    {"merchant_id": self.source.merchant_id, "order_ids": order_ids},
                )
            for row in rows:
                in_vain = row.attribution_reason == Reason.NO_CANDIDATE
                credit = Credit.AFFILIATE if row.credited else Credit.IN_VAIN if in_vain else Credit.NOBODY
                found[credit] += row.orders
        return found

    def _result(self, item: Item, answers: Iterator["_Answer"]) -> Result:
        match item:
            case Event():
                answer = next(answers)
                return Result(item.row, item.rows, **answer)
            case Refused():
                return _without_event(item, State.REFUSED, item.order_id, item.reason_code, item.detail)
            case Skipped():
                return _without_event(item, State.SKIPPED, "", "skipped_by_mapping", "")


_Answer = dict[str, Any]
"""A result but for its rows."""


def _result_of(received: Received, state: InboxState, recorded: Recorded | None, effect: Effect) -> _Answer:
    told: JsonObject = (recorded.understood if recorded else received.understood) or {}
    refunds = told.get("refunds") or []
    goods_minor = told.get("goods_minor")
    if goods_minor is None and refunds:
        goods_minor = sum(refund["goods_minor"] for refund in refunds)
    counts = state in {InboxState.APPLIED, InboxState.WAITING}
    return {
        "kind": told.get("kind", ""),
        "order_id": told.get("order_id", ""),
        "state": State(state.value),
        "effect": effect if counts else None,
        "reason_code": (recorded or received).reason_code or (WAITING_REASON if state is InboxState.WAITING else ""),
        "detail": (recorded or received).detail,
        "currency": told.get("currency", ""),
        "goods_minor": goods_minor,
        "total_minor": told.get("total_minor"),
        "inbox_id": encode("inb", recorded.inbox_id) if recorded else "",
    }


def _without_event(item: Refused | Skipped, state: State, order_id: str, reason_code: str, detail: str) -> Result:
    return Result(item.row, item.rows, "", order_id, state, None, reason_code, detail, "", None, None, "")


def _batches(items: Iterable[Item], at_once: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    held = 0
    for item in items:
        # What one row says stays together.
        if (len(batch) >= at_once or held >= _BYTES_AT_ONCE) and item.row != batch[-1].row:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += len(item.body) if isinstance(item, Event) else 0
    if batch:
        yield batch


class _Seen:
    """Names a run has met, on disk: a file may have more orders than memory has room.

    A dry run keeps deliveries and the shop's ids of orders here, any other run our ids of orders.
    """

    def __init__(self) -> None:
        self._disk = sqlite3.connect("")
        self._disk.execute("PRAGMA synchronous = OFF")
        self._disk.execute("CREATE TABLE seen (name TEXT PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        self._disk.close()

    def add(self, name: str) -> bool:
        """Whether it is met for the first time."""
        return self._disk.execute("INSERT INTO seen VALUES (?) ON CONFLICT DO NOTHING", (name,)).rowcount > 0

    def has(self, name: str) -> bool:
        return self._disk.execute("SELECT 1 FROM seen WHERE name = ?", (name,)).fetchone() is not None

    def names(self, at_once: int) -> Iterator[list[str]]:
        """Yield all names, as many at once as asked for."""
        met = self._disk.execute("SELECT name FROM seen")
        while some := met.fetchmany(at_once):
            yield [name for (name,) in some]


class ResultsNotUsable(Conflict):
    code = "results-not-usable"
    title = "The result file belongs to something else"


class ResultsUnknown(Invalid):
    code = "results-unknown"
    title = "The result file has no known ending"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run is about: the digests of the file and of its mapping, and the source."""

    file: str
    mapping: str
    source_id: UUID
    dry: bool

    def as_json(self) -> JsonObject:
        return {
            "file_sha256": self.file,
            "mapping_sha256": self.mapping,
            "source": encode("src", self.source_id),
            "dry_run": self.dry,
        }


class ResultFile:
    """The results of a run, written batch by batch, and from there on where a run that was broken off goes on.

    Beside `<name>` lies `<name>.state`, which says what it is about. Each result is one line.
    """

    def __init__(self, path: Path, identity: Identity, *, resume: bool) -> None:
        """Raises ResultsUnknown, and ResultsNotUsable where a file is there that this run must not write on."""
        self._is_csv = path.suffix.lower() == ".csv"
        if not self._is_csv and path.suffix.lower() not in {".ndjson", ".jsonl"}:
            raise ResultsUnknown(f"{path.name}: results are written as .csv or .ndjson.")
        self._path = path
        self._state = path.with_name(path.name + ".state")
        self.done = self._begin(identity, resume=resume)
        """How many items have their result already."""
        self._file: BinaryIO = path.open("ab")

    def _begin(self, identity: Identity, *, resume: bool) -> int:
        known = self._path.exists()
        if known and not resume:
            raise ResultsNotUsable(f"{self._path.name} is there already: go on with --resume, or name another file.")
        if known:
            self._compare(identity)
            return self._cut()
        self._state.write_text(json.dumps(identity.as_json(), indent=2) + "\n", encoding="utf-8")
        # With a byte-order mark, as spreadsheets want it.
        self._path.write_bytes(b"\xef\xbb\xbf" + _csv_line(RESULT_COLUMNS) if self._is_csv else b"")
        return 0

    def _compare(self, identity: Identity) -> None:
        try:
            begun = json.loads(self._state.read_bytes())
        except (OSError, ValueError):
            raise ResultsNotUsable(
                f"{self._state.name} is missing or spoilt, so nothing can be gone on with."
            ) from None
        for name, value in identity.as_json().items():
            if not isinstance(begun, dict) or begun.get(name) != value:
                raise ResultsNotUsable(
                    f"{self._path.name} was begun with another {name}. What was imported counts once in any case: "
                    "run again with another result file."
                )

    def _cut(self) -> int:
        """Take off a line that was not written to its end. Returns how many items are done."""
        lines, whole = 0, 0
        with self._path.open("rb+") as file:
            for line in file:
                if line.endswith(b"\n"):
                    lines += 1
                    whole += len(line)
            file.truncate(whole)
            if self._is_csv and not lines:
                file.seek(0)
                file.write(b"\xef\xbb\xbf" + _csv_line(RESULT_COLUMNS))
        return max(0, lines - 1) if self._is_csv else lines

    def write(self, results: Sequence[Result]) -> None:
        self._file.write(b"".join(self._line(result.cells()) for result in results))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _line(self, cells: dict[str, Any]) -> bytes:
        if self._is_csv:
            return _csv_line(["" if cell is None else cell for cell in cells.values()])
        return json.dumps(cells, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def left(self, items: Iterable[Item]) -> Iterator[Item]:
        """Items without those that have their result."""
        return islice(iter(items), self.done, None)


def _csv_line(cells: Sequence[object]) -> bytes:
    """One line, whatever is in the cells; what a spreadsheet would run begins with a quote, so that it is text."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_guarded(cell) for cell in cells])
    return line.getvalue().encode("utf-8", "backslashreplace")


def _guarded(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    guarded = "'" + cell if _FORMULA.match(cell) else cell
    return (
        " ".join(guarded.splitlines())
        if any(end in guarded for end in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        else guarded
    )
