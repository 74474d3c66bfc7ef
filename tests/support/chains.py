"""Books with a chain: postings of one merchant on several days and slots, and what somebody could do to them unseen."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.infra.db import execute, fetch, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.ledger import post as post_module
from service.ledger.chain import POSTINGS_MAX, Chained, chain
from service.ledger.findings import Finding
from service.ledger.post import post
from service.ledger.verify import verify

FIRST_DAY = datetime(2026, 11, 2, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
"""When the chain is made, unless a test says another time."""


@dataclass
class ChainBooks:
    """One merchant's postings, booked by the ledger's own verb on days and slots that a test chooses."""

    engine: Engine
    patch: pytest.MonkeyPatch
    merchant_id: UUID = field(default_factory=new_id)
    payees: tuple[UUID, ...] = field(default_factory=lambda: tuple(new_id() for _ in range(5)))

    def book(self, number: int = 1, *, day: int = 0, slot: int = 0, session: Session | None = None) -> None:
        """Book so many postings in one unit of work, or within somebody's."""
        if session is None:
            with unit_of_work(self.engine) as own:
                return self.book(number, day=day, slot=slot, session=own)
        expense = Account(self.merchant_id, self.merchant_id, AccountKind.COMMISSION_EXPENSE, "USD")
        event = f"order/{new_id()}/assessment/1"
        postings = [
            Posting(
                new_id(),
                event,
                seq,
                expense,
                Account(self.merchant_id, self.payees[seq % len(self.payees)], AccountKind.PENDING, "USD"),
                100 + seq,
            )
            for seq in range(number)
        ]
        # The slot is that of the process; a test has but one.
        self.patch.setattr(post_module, "_slot", lambda: slot)
        post(session, postings, when={self.merchant_id: MerchantTime(FIRST_DAY + timedelta(days=day), "UTC")})
        return None

    def book_much(self, chosen: random.Random) -> None:
        """Book a few hundred postings on three days and four slots."""
        for _ in range(60):
            self.book(chosen.randint(1, 5), day=chosen.randrange(3), slot=chosen.randrange(4))

    def chain(self, *, postings_max: int = POSTINGS_MAX, now: datetime = NOW) -> Chained:
        """One call of the verb, in a unit of work of its own."""
        return run_unit(
            self.engine, lambda session: chain(session, self.merchant_id, now=now, postings_max=postings_max)
        )

    def chain_all(self, *, postings_max: int = POSTINGS_MAX, now: datetime = NOW) -> Chained:
        """Chain until nothing is left, as the job does. Returns the sums, and the head."""
        blocks = postings = 0
        while (done := self.chain(postings_max=postings_max, now=now)).blocks:
            blocks, postings = blocks + done.blocks, postings + done.postings
        return Chained(blocks, postings, done.head)

    def findings(self) -> list[Finding]:
        with read_session(self.engine) as session:
            return verify(session, self.merchant_id)

    def rows(self, statement: str) -> Sequence[Row[Any]]:
        with read_session(self.engine) as session:
            return fetch(session, statement, {"merchant_id": self.merchant_id})

    def change(self, statement: str, **values: object) -> int:
        """Change rows behind the ledger's back. Returns how many."""
        with unit_of_work(self.engine) as session:
            return execute(session, statement, {"merchant_id": self.merchant_id, **values})


class Tamperer:
    """Somebody with every right on the database, who changes one thing at a time and knows nothing of the digests.

    Each change is certain to leave other rows than before. The session is the caller's to roll back.
    """

    TEXTS = ("event", "debit_kind", "credit_kind", "currency")
    IDS = ("id", "merchant_id", "debit_owner_id", "credit_owner_id")
    NUMBERS = ("seq", "amount_minor", "slot", "booking")
    POSTING = (*TEXTS, *IDS, *NUMBERS, "day", "created_at")
    BLOCK = (
        "merchant_id", "number", "day", "slot", "first_booking", "last_booking", "postings",
        "previous_digest", "digest", "chained_at",
    )  # fmt: skip
    KINDS = (
        "edit a posting", "delete a posting", "swap two postings", "insert into a booking", "insert beyond",
        "insert a copy", "move a character", "edit a block", "delete a block", "swap two blocks", "insert a block",
        "edit the head", "delete the head", "edit a booking row", "delete a booking row", "delete a booking",
    )  # fmt: skip

    def __init__(self, session: Session, merchant_id: UUID, chosen: random.Random) -> None:
        self._session = session
        self._merchant_id = merchant_id
        self._chosen = chosen
        self._drop_constraints()
        self._known = {
            table: [
                row._asdict()
                for row in fetch(
                    session,
                    f"SELECT CAST(ctid AS text) AS place, * FROM {table} WHERE merchant_id = :merchant_id"
                    " ORDER BY ctid",
                    {"merchant_id": merchant_id},
                )
            ]
            for table in ("posting", "chain_block", "chain_head", "day_slot")
        }

    def do(self, kind: str) -> str:
        """Make one change of the kind. Returns what was done, to repeat it by hand."""
        match kind:
            case "edit a posting":
                return self._edit("posting", self.POSTING)
            case "delete a posting":
                return self._delete("posting")
            case "swap two postings":
                return self._swap("posting", self.POSTING)
            case "insert into a booking":
                return self._insert("posting", {"id": new_id(), "event": "forged"})
            case "insert a copy":
                return self._insert("posting", {})
            case "insert beyond":
                return self._insert_beyond()
            case "move a character":
                return self._move_character()
            case "edit a block":
                return self._edit("chain_block", self.BLOCK)
            case "delete a block":
                return self._delete("chain_block")
            case "swap two blocks":
                return self._swap("chain_block", self.BLOCK)
            case "insert a block":
                newest = self._known["chain_head"][0]["number"]
                return self._insert("chain_block", {"number": newest + 1})
            case "edit the head":
                return self._edit("chain_head", ("merchant_id", "number", "digest"))
            case "delete the head":
                return self._delete("chain_head")
            case "edit a booking row":
                return self._edit("day_slot", ("merchant_id", "day", "slot", "touched"))
            case "delete a booking row":
                return self._delete("day_slot")
            case "delete a booking":
                return self._delete_booking()
            case _:
                raise AssertionError(kind)

    def _drop_constraints(self) -> None:
        """Also keys and checks are in nobody's way who may change the tables."""
        rows = fetch(
            self._session,
            """
            SELECT CAST(conrelid AS regclass) AS name, conname FROM pg_constraint
            WHERE conrelid = ANY(CAST(:tables AS regclass[])) AND contype IN ('c', 'p', 'u')
            """,
            {"tables": ["posting", "chain_block", "chain_head", "day_slot"]},
        )
        for row in rows:
            execute(self._session, f"ALTER TABLE {row.name} DROP CONSTRAINT {row.conname} CASCADE")

    def _edit(self, table: str, columns: Sequence[str]) -> str:
        row, column = self._chosen.choice(self._known[table]), self._chosen.choice(columns)
        value = self._other(row[column])
        self._set(table, column, {row["place"]: value})
        return f"{table} {row}: {column} becomes {value}"

    def _swap(self, table: str, columns: Sequence[str]) -> str:
        while True:
            column = self._chosen.choice(columns)
            one, other = self._chosen.sample(self._known[table], 2)
            if one[column] != other[column]:
                break
        self._set(table, column, {one["place"]: other[column], other["place"]: one[column]})
        return f"{table} {one} and {other}: {column} swapped"

    def _delete(self, table: str) -> str:
        row = self._chosen.choice(self._known[table])
        execute(self._session, f"DELETE FROM {table} WHERE ctid = CAST(:place AS tid)", {"place": row["place"]})
        return f"{table} {row}: deleted"

    def _delete_booking(self) -> str:
        row = self._chosen.choice(self._known["posting"])
        where = {name: row[name] for name in ("merchant_id", "day", "slot", "booking")}
        execute(
            self._session,
            "DELETE FROM posting"
            " WHERE merchant_id = :merchant_id AND day = :day AND slot = :slot AND booking = :booking",
            where,
        )
        return f"all postings of {where}: deleted"

    def _insert(self, table: str, changes: dict[str, object]) -> str:
        row = self._chosen.choice(self._known[table])
        execute(
            self._session,
            f"INSERT INTO {table} SELECT (jsonb_populate_record(known, CAST(:changes AS jsonb))).*"
            f" FROM {table} AS known WHERE ctid = CAST(:place AS tid)",
            {"place": row["place"], "changes": json.dumps(changes, default=str)},
        )
        return f"{table}: a copy of {row} with {changes}"

    def _insert_beyond(self) -> str:
        touched = {(each["day"], each["slot"]): each["touched"] for each in self._known["day_slot"]}
        day, slot = self._chosen.choice(list(touched))
        place: dict[str, object] = self._chosen.choice(
            [
                {"day": day, "slot": slot, "booking": touched[day, slot] + self._chosen.randint(1, 3)},
                {"day": day, "slot": slot, "booking": -self._chosen.randint(0, 3)},
                {"day": day, "slot": 15, "booking": 1},
                {"day": date(2030, 1, 1), "slot": slot, "booking": 1},
            ]
        )
        return self._insert("posting", {"id": new_id(), "event": "forged", **place})

    def _move_character(self) -> str:
        row = self._chosen.choice(self._known["posting"])
        left, right = self._chosen.sample(self.TEXTS, 2)
        execute(
            self._session,
            f"UPDATE posting SET {left} = :shorter, {right} = :longer WHERE ctid = CAST(:place AS tid)",
            {"place": row["place"], "shorter": row[left][:-1], "longer": row[left][-1] + row[right]},
        )
        return f"posting {row}: the last character of {left} moved to {right}"

    def _set(self, table: str, column: str, values: dict[str, Any]) -> None:
        """Set one column of the rows at these places."""
        kind = {
            "event": "text", "debit_kind": "text", "credit_kind": "text", "currency": "text", "id": "uuid",
            "merchant_id": "uuid", "debit_owner_id": "uuid", "credit_owner_id": "uuid", "day": "date",
            "created_at": "timestamptz", "chained_at": "timestamptz", "digest": "bytea", "previous_digest": "bytea",
        }.get(column, "bigint")  # fmt: skip
        changed = execute(
            self._session,
            f"""
            UPDATE {table} SET {column} = new.value
            FROM unnest(CAST(:places AS text[]), CAST(:values AS {kind}[])) AS new (place, value)
            WHERE {table}.ctid = CAST(new.place AS tid)
            """,
            {"places": list(values), "values": list(values.values())},
        )
        assert changed == len(values)

    def _other(self, value: Any) -> Any:
        """Another value of the same kind, mostly one that lies near."""
        if isinstance(value, UUID):
            return self._chosen.choice([UUID(int=value.int ^ 1), new_id()])
        if isinstance(value, datetime):
            return value + timedelta(microseconds=self._chosen.choice([-1, 1, 10**9]))
        if isinstance(value, date):
            return value + timedelta(days=self._chosen.choice([-1, 1, 400]))
        if isinstance(value, bytes):
            place = self._chosen.randrange(len(value))
            return value[:place] + bytes([value[place] ^ 1 << self._chosen.randrange(8)]) + value[place + 1 :]
        if isinstance(value, str):
            return self._chosen.choice([value + " ", value[:-1], value.swapcase()])
        return value + self._chosen.choice([-1, 1, 7])
