"""The one statement that reads a report, whatever it is written as: PostgreSQL itself makes ids and amounts of its columns."""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

from psycopg import sql

from service.domain.money import EXPONENTS
from service.infra.ids import ALPHABET
from service.reports.define import Column, Report

_PAIRS = "".join(first + second for first in ALPHABET for second in ALPHABET)

Cells = Callable[[Column], list[sql.Composed]]
"""How a format wants a column: one expression for each of its cells."""


def copy_statement(report: Report, cells: Cells, options: sql.SQL) -> sql.Composed:
    """COPY … TO STDOUT of a report; takes the parameters of the report's query. options: of COPY."""
    named = [
        sql.SQL("{} AS {}").format(cell, sql.Identifier(name))
        for column in report.columns
        for name, cell in zip(column.cells, cells(column), strict=True)
    ]
    return sql.SQL(
        "COPY (SELECT {cells} FROM ({query}) AS report CROSS JOIN (SELECT CAST({pairs} AS bytea) AS pairs) AS digits"
        " ORDER BY {order}) TO STDOUT ({options})"
    ).format(
        cells=sql.SQL(", ").join(named),
        query=sql.SQL(report.query),
        pairs=sql.Literal(_PAIRS),
        order=sql.SQL(", ").join(sql.Identifier("report", name.strip()) for name in report.order.split(",")),
        options=options,
    )


def source(column: Column) -> sql.Composed:
    """What the report's query has for a column."""
    return sql.SQL("{}").format(sql.Identifier("report", column.source))


def amount(column: Column) -> sql.Composed:
    """The decimal amount of a column of money, with as many decimals as the row's currency has."""
    # Exact: an integer times 1, 0.1, 0.01 … in decimal arithmetic. Not a join: to keep the order, the server would
    # compare every row with every currency.
    return sql.SQL("{} * {}").format(source(column), _ONE_MINOR)


def public_id(column: Column) -> sql.Composed:
    """The text of `ids.encode` in SQL, null where there is none: thirteen pairs of digits of five bits each."""
    pairs = [
        sql.SQL("substring(digits.pairs, 1 + 2 * {}, 2)").format(_ten_bits(place, source(column)))
        for place in range(13)
    ]
    return sql.SQL("{} || convert_from({}, 'UTF8')").format(
        sql.Literal(column.prefix + "_"), sql.SQL(" || ").join(pairs)
    )


def _ten_bits(place: int, value: sql.Composed) -> sql.Composed:
    """The place-th ten of the 128 bits of an id, of which the first has only eight."""
    first_bit = 10 * place - 2
    if first_bit < 0:
        return sql.SQL("get_byte(uuid_send({}), 0)").format(value)
    byte, offset = divmod(first_bit, 8)
    both = sql.SQL("((get_byte(uuid_send({0}), {1}) << 8) | get_byte(uuid_send({0}), {2}))").format(
        value, sql.Literal(byte), sql.Literal(byte + 1)
    )
    return sql.SQL("(({} >> {}) & 1023)").format(both, sql.Literal(6 - offset))


def _one_minor() -> sql.Composed:
    """One minor unit of the row's currency."""
    codes: dict[int, list[str]] = defaultdict(list)
    for code, exponent in EXPONENTS.items():
        codes[exponent].append(code)
    cases = [
        sql.SQL("WHEN report.currency = ANY (CAST({} AS text[])) THEN {}").format(
            sql.Literal("{" + ",".join(known) + "}"), sql.Literal(Decimal(1).scaleb(-exponent))
        )
        for exponent, known in codes.items()
    ]
    return sql.SQL("CASE {} END").format(sql.SQL(" ").join(cases))


_ONE_MINOR = _one_minor()
