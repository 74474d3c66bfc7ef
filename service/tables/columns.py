"""Column kinds shared by all tables, and the naming of constraints."""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, ForeignKeyConstraint, LargeBinary, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pk",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fk",
    "ix": "%(table_name)s_%(column_0_N_name)s_ix",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}

Json = dict[str, Any]


def key() -> Any:
    """A UUID that is part of the primary key; made in Python."""
    return Field(sa_type=Uuid, primary_key=True)


def ref(*, nullable: bool = False, index: bool = False) -> Any:
    """A UUID that names another row."""
    return Field(default=None, sa_type=Uuid, nullable=nullable, index=index)


def minor(*, primary_key: bool = False) -> Any:
    """An amount in minor units."""
    return Field(default=0, sa_type=BigInteger, nullable=False, primary_key=primary_key)


def minor_or_none() -> Any:
    return Field(default=None, sa_type=BigInteger, nullable=True)


def count(*, primary_key: bool = False) -> Any:
    """A version, sequence or number of times."""
    return Field(default=0, sa_type=BigInteger, nullable=False, primary_key=primary_key)


def count_or_none() -> Any:
    return Field(default=None, sa_type=BigInteger, nullable=True)


def moment(*, primary_key: bool = False) -> Any:
    """A point in time with its zone; aware UTC in Python."""
    return Field(sa_type=DateTime(timezone=True), nullable=False, primary_key=primary_key)


def moment_or_none() -> Any:
    return Field(default=None, sa_type=DateTime(timezone=True), nullable=True)


def day(*, primary_key: bool = False) -> Any:
    """A calendar day in the merchant's time zone."""
    return Field(sa_type=Date, nullable=False, primary_key=primary_key)


def words(*, primary_key: bool = False) -> Any:
    return Field(default="", sa_type=Text, nullable=False, primary_key=primary_key)


def words_or_none() -> Any:
    return Field(default=None, sa_type=Text, nullable=True)


def blob() -> Any:
    return Field(sa_type=LargeBinary, nullable=False)


def blob_or_none() -> Any:
    return Field(default=None, sa_type=LargeBinary, nullable=True)


def blob_key() -> Any:
    return Field(sa_type=LargeBinary, nullable=False, primary_key=True)


def document() -> Any:
    return Field(default_factory=dict, sa_type=JSONB, nullable=False)


def document_or_none() -> Any:
    # None is SQL's NULL, not the JSON value null.
    return Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)


def listing() -> Any:
    return Field(default_factory=list, sa_type=JSONB, nullable=False)


def one_of(column: str, members: type[StrEnum]) -> CheckConstraint:
    """A closed list kept as text: a native enum type would survive a downgrade and cannot be narrowed."""
    values = ", ".join(f"'{member.value}'" for member in members)
    return CheckConstraint(f"{column} IN ({values})", name=column)


def belongs_to(table: str, *columns: str) -> ForeignKeyConstraint:
    """A foreign key of the same merchant: (merchant_id, columns…) → table(merchant_id, id)."""
    return ForeignKeyConstraint(["merchant_id", *columns], [f"{table}.merchant_id", f"{table}.id"])
