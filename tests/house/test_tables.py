"""What every table keeps to, so that money is exact, times are instants and a merchant's rows can live on any node."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, Table, UniqueConstraint
from sqlmodel import SQLModel

import service.tables

REFERENCE_TABLES = {
    "merchant": "the root of all keys",
    "api_key": "looked up by the hash of a key, before the merchant is known",
    "source": "looked up by the id in a webhook's address, before the merchant is known",
    "source_settings": "read with its source",
    "rail_switch": "what the operator stops is stopped for all merchants; asked for before anything is sent",
    "payout_gate": "closes for all merchants at once; asked for before anything is sent",
    "database_mark": "one row about the server itself",
    "link_code": "looked up by the code of a short link, before the merchant is known",
    "provider_event": "comes before the merchant is known, and may be about none of them",
    "service_job": "work for no merchant",
}
"""Small tables that every node holds whole. All others are spread over nodes by merchant_id."""


def tables() -> list[Table]:
    assert service.tables.__all__
    return list(SQLModel.metadata.tables.values())


def columns() -> list[Column[object]]:
    return [column for table in tables() for column in table.columns]


def test_there_are_tables_and_the_reference_tables_are_among_them() -> None:
    assert set(REFERENCE_TABLES) < {table.name for table in tables()}


def test_amounts_are_bigint() -> None:
    wrong = [str(one) for one in columns() if one.name.endswith("_minor") and type(one.type) is not BigInteger]

    assert wrong == []
    assert any(one.name.endswith("_minor") for one in columns())


def test_no_column_is_inexact() -> None:
    wrong = [str(one) for one in columns() if one.type.__visit_name__.upper() in {"FLOAT", "REAL", "DOUBLE", "NUMERIC"}]

    assert wrong == []


def test_times_have_a_zone() -> None:
    times = [one for one in columns() if isinstance(one.type, DateTime)]

    assert [str(one) for one in times if not one.type.timezone] == []  # type: ignore[attr-defined] # DateTime, as just asked
    assert times


def test_no_column_is_a_native_enum_or_counts_by_itself() -> None:
    wrong = [
        str(one)
        for one in columns()
        if one.type.__visit_name__ in {"enum", "ENUM"} or one.identity is not None or one.autoincrement is True
    ]

    assert wrong == []


def test_every_key_begins_with_the_merchant() -> None:
    wrong: list[str] = []
    for table in tables():
        if table.name in REFERENCE_TABLES:
            continue
        keys = {f"{table.name} primary key": list(table.primary_key.columns)}
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint):
                keys[f"{table.name} {constraint.name}"] = list(constraint.columns)
            # Each node holds the reference tables, so a foreign key to one of them crosses nothing.
            if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table.name not in REFERENCE_TABLES:
                keys[f"{table.name} {constraint.name}"] = list(constraint.columns)
                keys[f"{table.name} {constraint.name} target"] = [one.column for one in constraint.elements]
        keys |= {f"{table.name} {index.name}": list(index.columns) for index in table.indexes if index.unique}
        wrong += [name for name, parts in keys.items() if not parts or parts[0].name != "merchant_id"]

    assert wrong == []
