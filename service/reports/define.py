"""What a report is: its columns with units and meanings, its filters, and the one query behind it, whatever it is written as."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from uuid import UUID

from service.domain.errors import Invalid


class FilterUnknown(Invalid):
    code = "report-filter"
    title = "The report cannot be narrowed like this"


class Format(StrEnum):
    """What a report is written as. The columns, their order and the rows are the same in all of them."""

    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    """Words, also of people outside: guarded where a spreadsheet would read them as a formula."""
    ID = "id"
    """A public id of this service, as the API shows it."""
    MONEY = "money"
    """Two columns: minor units as an integer, and the decimal amount; the currency is in the row's column `currency`."""
    COUNT = "count"
    DAY = "day"
    """A calendar day in the merchant's time zone."""
    MOMENT = "moment"
    """An instant, in UTC."""


UNITS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TEXT: ("text",),
    Kind.ID: ("id",),
    Kind.MONEY: ("minor units", "amount"),
    Kind.COUNT: ("number",),
    Kind.DAY: ("day",),
    Kind.MOMENT: ("time, UTC",),
}
"""In what each cell of a column is counted, as `Column.cells` names them."""


class Filter(StrEnum):
    """What a report can be narrowed by."""

    FROM = "from"
    TO = "to"
    CURRENCY = "currency"
    RUN_ID = "run_id"


Filters = Mapping[Filter, date | str | UUID]
"""Those asked for. from and to are days in the merchant's time zone, both included."""


def filters_json(filters: Filters) -> dict[str, str]:
    """Filters as they are stored; `filters_of` reads them."""
    return {name.value: str(value) for name, value in filters.items()}


def filters_of(stored: Mapping[str, str]) -> Filters:
    """The filters that `filters_json` was given."""
    return {Filter(name): _read(Filter(name), value) for name, value in stored.items()}


def _read(name: Filter, value: str) -> date | str | UUID:
    match name:
        case Filter.FROM | Filter.TO:
            return date.fromisoformat(value)
        case Filter.RUN_ID:
            return UUID(value)
        case Filter.CURRENCY:
            return value


@dataclass(frozen=True, slots=True)
class Column:
    """prefix: of public ids, where kind is ID. Amounts of kind MONEY are named without the unit: `target`."""

    name: str
    kind: Kind
    description: str
    prefix: str = ""

    @property
    def source(self) -> str:
        """The column of the report's query that it is made of."""
        return f"{self.name}_minor" if self.kind is Kind.MONEY else self.name

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells it fills in a row."""
        return (self.source, self.name) if self.kind is Kind.MONEY else (self.name,)

    @property
    def units(self) -> tuple[str, ...]:
        """In what each of the cells is counted."""
        return UNITS[self.kind]


@dataclass(frozen=True, slots=True)
class Report:
    """query: one SELECT with a result column for each `Column.source`, narrowed by %(merchant_id)s and the filters.

    It may name %(from)s and %(to)s (days, both included), %(time_zone)s (the merchant's), %(currency)s, %(run_id)s;
    each is null where it is not asked for. order: how rows come, in the query's columns.
    """

    name: str
    title: str
    description: str
    filters: frozenset[Filter]
    columns: tuple[Column, ...]
    query: str
    order: str

    def check(self, filters: Filters) -> None:
        """Raise FilterUnknown where it cannot be narrowed like this."""
        unknown = sorted(set(filters) - self.filters)
        if unknown:
            raise FilterUnknown(f"The report {self.name} does not know {', '.join(unknown)}.")


AFFILIATE = (
    Column("affiliate_id", Kind.ID, "Who earns it.", prefix="aff"),
    Column("affiliate_external_id", Kind.TEXT, "The merchant's own id of the affiliate."),
    Column("affiliate_name", Kind.TEXT, "What the affiliate is called."),
)
CURRENCY = Column("currency", Kind.TEXT, "ISO 4217 code of all amounts in the row.")
