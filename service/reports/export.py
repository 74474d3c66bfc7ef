"""Everything a merchant owns as JSON lines, driven by the tables themselves: what is added to them later is exported too.

One moment, one line for each row, constant memory. Secrets stay behind: bytes are only written where it is said how.
"""

import hashlib
import json
from collections.abc import Generator
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Column, Engine, LargeBinary, Table
from sqlmodel import Session, SQLModel

import service.tables
from service.domain.errors import Missing
from service.infra.db import execute, fetch, let_statements_take, read_session
from service.ledger.audit import take_snapshot

FORMAT = 1
"""Raised when a reader of the lines would have to change. New kinds and new keys do not raise it."""
BLOCK_BYTES = 64 * 1024
TABLE_TIMEOUT_MS = 60 * 60 * 1000
"""Longest one table may take, however slowly it is read."""

NOT_EXPORTED: dict[str, str] = {
    "job": "what our own workers have yet to do; it follows from the rest and is made anew",
    "kept_answer": "answers repeated for a day, encrypted; what they tell stands in the rows they speak of",
    "webhook_queue": "events that become deliveries within seconds",
    "simulation_period": "sums of a simulation that is under way",
    "simulation_part": "a file that is only tried, gone when its simulation ends; whoever sent it has it",
    "simulation_order": "read from a file that is only tried, gone when its simulation ends",
    "reconciliation_part": "a file laid beside our books, gone when its reconciliation ends; whoever sent it has it",
    "reconciliation_order": "read from a file laid beside our books, gone when its reconciliation ends",
    "reconciliation_line": "read from a file laid beside our books, gone when its reconciliation ends",
    "report_job": "files made of the rest, kept for a week",
    "report_chunk": "files made of the rest, kept for a week",
}
"""Tables with a merchant's rows that stay behind, and why."""

OWNED_BY: dict[str, str] = {
    "merchant": "id = %(merchant_id)s",
    "source_settings": "source_id IN (SELECT id FROM source WHERE merchant_id = %(merchant_id)s)",
}
"""Tables without a column merchant_id → which rows are a merchant's."""

WITHHELD: dict[str, str] = {
    "source.secret": "the webhook secret",
    "source.previous_secret": "the webhook secret before it",
    "webhook_endpoint.secret": "what events are signed with",
    "webhook_endpoint.previous_secret": "what events were signed with before",
    "api_key.hash": "whoever has it can look for the key",
    "payout_method.destination": "the account at the rail; destination_hint shows its end",
    "tax_profile.person": "name, tax code and address of a payee; the registers for filing show them",
    "statement.supplier": "name and address of a payee; the statement itself shows them to whoever may read it",
    "payout_attempt.request": "what was sent to the rail, which names the account",
    "payer_account.account": "the account that pays; hint shows its end",
    "payout_file.content": "the file, which names accounts; sha256 is its digest",
    "payout_result.content": "what a bank answered, which names accounts; sha256 is its digest",
}
"""Columns that are never written, and why."""

AS_BASE64 = frozenset({"inbox.body"})
"""Bytes written in base64: what a shop sent, to the byte."""
AS_HEX = frozenset(
    {
        "inbox.body_hash",
        "fact.body_hash",
        "chain_block.previous_digest",
        "chain_block.digest",
        "chain_head.digest",
        "statement.digest",
    }
)
"""Digests, written as hexadecimal digits."""


class NoSuchMerchant(Missing):
    code = "no-such-merchant"
    title = "There is no such merchant"


def exported_tables() -> list[Table]:
    """The tables a merchant has rows in, each after those its rows point to."""
    assert service.tables.__all__
    owned = [
        table for table in SQLModel.metadata.sorted_tables if "merchant_id" in table.columns or table.name in OWNED_BY
    ]
    return [table for table in owned if table.name not in NOT_EXPORTED]


def is_withheld(column: "Column[Any]") -> bool:
    """Whether a column is left out. Bytes are, unless it is said how they are written: they may be somebody's secret."""
    name = f"{column.table.name}.{column.name}"
    return name in WITHHELD or (isinstance(column.type, LargeBinary) and name not in AS_BASE64 | AS_HEX)


def export(engine: Engine, merchant_id: UUID, *, at: datetime) -> Generator[bytes]:
    """Yields all of a merchant's rows as JSON lines, in blocks of about 64 KiB; the last line counts and signs them.

    at: now, told in the first line. Raises NoSuchMerchant, before the first block. Close the generator when it is left
    before its end.
    """
    with read_session(engine) as session:
        take_snapshot(session)
        let_statements_take(session, TABLE_TIMEOUT_MS)
        # A reader may take its time between two tables.
        execute(session, f"SET LOCAL idle_in_transaction_session_timeout = {TABLE_TIMEOUT_MS}")
        if not fetch(session, "SELECT FROM merchant WHERE id = :id", {"id": merchant_id}):
            raise NoSuchMerchant("There is no such merchant.")
        digest, counts = hashlib.sha256(), dict.fromkeys([table.name for table in exported_tables()], 0)
        begins = {"kind": "export", "format": FORMAT, "merchant_id": str(merchant_id), "exported_at": at.isoformat()}
        block = bytearray(_line(begins))
        for table in exported_tables():
            for line in _lines(session, table, merchant_id):
                block += line.encode() + b"\n"
                counts[table.name] += 1
                if len(block) >= BLOCK_BYTES:
                    digest.update(block)
                    yield bytes(block)
                    block.clear()
        digest.update(block)
        lines = 1 + sum(counts.values())
        yield bytes(block) + _line({"kind": "end", "lines": lines, "rows": counts, "sha256": digest.hexdigest()})


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _lines(session: Session, table: Table, merchant_id: UUID) -> Generator[str]:
    connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
    # COPY takes no parameters of the server's own; the driver writes them into the statement as literals.
    with connection.cursor() as cursor, cursor.copy(_copy(table), {"merchant_id": merchant_id}) as copy:
        copy.set_types(["text"])
        for (line,) in copy.rows():
            yield line


def _copy(table: Table) -> sql.Composed:
    written = [sql.SQL("{} AS kind").format(sql.Literal(table.name))]
    # A table of the outbox or the postings has a kind of its own; its line says so under another name.
    written += [
        sql.SQL("{} AS {}").format(_value(column), sql.Identifier(told_as(column)))
        for column in table.columns
        if not is_withheld(column)
    ]
    # With its star: a table may have a column of that name.
    return sql.SQL(
        "COPY (SELECT row_to_json(line.*)::text FROM (SELECT {written} FROM {table} WHERE {owned} ORDER BY {key}) AS line)"
        " TO STDOUT (ENCODING 'UTF8')"
    ).format(
        written=sql.SQL(", ").join(written),
        table=sql.Identifier(table.name),
        owned=sql.SQL(OWNED_BY.get(table.name, "merchant_id = %(merchant_id)s")),
        key=sql.SQL(", ").join(sql.Identifier(column.name) for column in table.primary_key.columns),
    )


def told_as(column: "Column[Any]") -> str:
    """The key under which a line tells a column: its name, but `kind` is the line's own."""
    return f"{column.table.name}_kind" if column.name == "kind" else column.name


def _value(column: "Column[Any]") -> sql.Composable:
    name = f"{column.table.name}.{column.name}"
    if name in AS_BASE64:
        # The server breaks its lines as e-mail wants it.
        return sql.SQL("translate(encode({}, 'base64'), E'\\n', '')").format(sql.Identifier(column.name))
    if name in AS_HEX:
        return sql.SQL("encode({}, 'hex')").format(sql.Identifier(column.name))
    return sql.Identifier(column.name)
