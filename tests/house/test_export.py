"""Whatever a merchant has rows of can be taken away, and no secret goes with it."""

import re

import pytest
from sqlalchemy import Column, LargeBinary, MetaData, Table, Text
from sqlmodel import SQLModel

import service.tables
from service.reports.export import AS_BASE64, AS_HEX, NOT_EXPORTED, OWNED_BY, WITHHELD, exported_tables, is_withheld

OF_NOBODY: dict[str, str] = {
    "payout_gate": "about the server, closed for all merchants at once",
    "database_mark": "about the server",
    "service_job": "work of the service itself, for no merchant",
}
"""Tables in which no merchant owns a row, and why."""

SOUNDS_SECRET = re.compile(r"secret|password|hash|token|(^|_)key($|_)|destination|cipher|request$|response$")
HARMLESS = {
    "inbox.body_hash": "of what the shop sent, which is in the same line",
    "fact.body_hash": "of the payload in the same line",
    "fact.key": "the fact's own name: a refund's id, a milestone",
    "payout_run.content_hash": "binds what was approved, in the lines of its items",
    "payout_item.content_hash": "binds what was approved, in the same line",
    "payout_attempt.idempotency_key": "made of the item's id; worth nothing without the rail's own key",
    "payout_method.destination_hint": "the last characters, for people",
    "commission_entry.destination": "the place money moved to: pending, held, payable",
    "source.secret_expires_at": "a time",
    "source.previous_secret_expires_at": "a time",
    "webhook_endpoint.previous_secret_until": "a time",
    "payout_limit.key_id": "which key, not the key",
    "audit.key_id": "which key, not the key",
    "terms_acceptance.key_id": "which key, not the key",
    "terms_acceptance.terms_hash": "of the terms in the line of their version",
    "click.ip_hash": "keyed; the address itself is not kept",
    "customer_binding.hash": "keyed; who the customer is is not kept",
    "customer_listing.hash": "keyed; who the customer is is not kept",
    "simulation_sum.key": "what a sum is of: an affiliate, a category, a day",
}
"""Columns that sound like secrets and are none, and why."""


def columns() -> dict[str, "Column[object]"]:
    assert service.tables.__all__
    return {
        f"{table.name}.{column.name}": column for table in SQLModel.metadata.tables.values() for column in table.columns
    }


def test_every_table_is_exported_or_it_is_said_why_not() -> None:
    exported = {table.name for table in exported_tables()}

    forgotten = set(SQLModel.metadata.tables) - exported - set(NOT_EXPORTED) - set(OF_NOBODY)

    assert forgotten == set(), "say in service/reports/export.py which rows are a merchant's, or why it has none"
    assert not exported & set(NOT_EXPORTED)


def test_nothing_is_said_of_tables_and_columns_that_are_gone() -> None:
    known = columns()

    assert (set(NOT_EXPORTED) | set(OWNED_BY) | set(OF_NOBODY)) <= set(SQLModel.metadata.tables)
    assert (set(WITHHELD) | AS_BASE64 | AS_HEX | set(HARMLESS)) <= set(known)


def test_of_every_column_of_bytes_it_is_said_how_it_is_written_or_why_it_is_not() -> None:
    of_bytes = {
        name
        for name, column in columns().items()
        if isinstance(column.type, LargeBinary) and column.table.name not in NOT_EXPORTED
    }

    assert of_bytes - set(WITHHELD) - AS_BASE64 - AS_HEX == set()


def test_what_sounds_like_a_secret_is_withheld_or_it_is_said_why_not() -> None:
    left_behind = set(NOT_EXPORTED) | set(OF_NOBODY)
    doubtful = {
        name
        for name, column in columns().items()
        if SOUNDS_SECRET.search(column.name) and column.table.name not in left_behind and not is_withheld(column)
    }

    assert doubtful - set(HARMLESS) == set()


@pytest.mark.parametrize("column", [Column("sealed", LargeBinary), Column("secret_hash", Text)])
def test_this_test_would_see_them(column: "Column[object]") -> None:
    Table("new", MetaData(), column)

    assert is_withheld(column) or SOUNDS_SECRET.search(column.name)
