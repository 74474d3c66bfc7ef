"""A report as CSV: which cells a row has, and how PostgreSQL writes each of them."""

from decimal import Decimal

from psycopg import sql

from service.domain.money import EXPONENTS
from service.infra.ids import ALPHABET
from service.reports.define import Column, Kind, Report

FORMULA = "^[-=+@\t\r\n＝＋－＠]"
"""How a cell begins that a spreadsheet would run instead of show, wide signs included; a quote before it makes it text.
NUL, which some skip, cannot be stored. Source: OWASP, CSV Injection; ASVS 5.0, 1.2.10."""


def copy_statement(report: Report) -> sql.Composed:
    """COPY … TO STDOUT of a report with its header, in UTF-8; takes the parameters of the report's query."""
    cells = [cell for column in report.columns for cell in _cells(column)]
    return sql.SQL(
        "COPY (SELECT {cells} FROM ({query}) AS report LEFT JOIN {units} ON unit.code = report.currency"
        " ORDER BY {order}) TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')"
    ).format(
        cells=sql.SQL(", ").join(cells),
        query=sql.SQL(report.query),
        units=_units(),
        order=sql.SQL(", ").join(sql.Identifier("report", name.strip()) for name in report.order.split(",")),
    )


def _cells(column: Column) -> list[sql.Composable]:
    source = sql.Identifier("report", column.source)
    name = sql.Identifier(column.name)
    match column.kind:
        case Kind.MONEY:
            minor = sql.SQL("{} AS {}").format(source, sql.Identifier(column.source))
            # Exact: an integer times 1, 0.1, 0.01 … in decimal arithmetic, with as many decimals as the currency has.
            return [minor, sql.SQL("{} * unit.one_minor AS {}").format(source, name)]
        case Kind.ID:
            return [sql.SQL("{} AS {}").format(_public_id(column.prefix, source), name)]
        case Kind.TEXT:
            guarded = sql.SQL("CASE WHEN {0} ~ {1} THEN '''' || {0} ELSE {0} END AS {2}")
            return [guarded.format(source, sql.Literal(FORMULA), name)]
        case Kind.MOMENT:
            written = sql.SQL("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS {}")
            return [written.format(source, name)]
        case Kind.COUNT | Kind.DAY:
            return [sql.SQL("{} AS {}").format(source, name)]


def _units() -> sql.Composed:
    rows = [
        sql.SQL("({}, {})").format(sql.Literal(code), sql.Literal(Decimal(1).scaleb(-exponent)))
        for code, exponent in EXPONENTS.items()
    ]
    return sql.SQL("(VALUES {}) AS unit (code, one_minor)").format(sql.SQL(", ").join(rows))


def _public_id(prefix: str, source: sql.Identifier) -> sql.Composed:
    """The text of `ids.encode` in SQL: 26 digits of five bits, the first of which has only three."""
    digits = [
        sql.SQL("substr({}, 1 + {}, 1)").format(sql.Literal(ALPHABET), _digit(place, source)) for place in range(26)
    ]
    return sql.SQL("CASE WHEN {} IS NOT NULL THEN concat({}, {}) END").format(
        source, sql.Literal(prefix + "_"), sql.SQL(", ").join(digits)
    )


def _digit(place: int, source: sql.Identifier) -> sql.Composed:
    first_bit = 5 * place - 2
    if first_bit < 0:
        return sql.SQL("(get_byte(uuid_send({}), 0) >> 5)").format(source)
    byte, offset = divmod(first_bit, 8)
    if offset <= 3:
        taken = sql.SQL("get_byte(uuid_send({}), {}) >> {}")
        bits = taken.format(source, sql.Literal(byte), sql.Literal(3 - offset))
    else:
        both = sql.SQL("((get_byte(uuid_send({0}), {1}) << 8) | get_byte(uuid_send({0}), {2})) >> {3}")
        bits = both.format(source, sql.Literal(byte), sql.Literal(byte + 1), sql.Literal(11 - offset))
    return sql.SQL("(({}) & 31)").format(bits)
