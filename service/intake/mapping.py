"""A mapping file: which columns of a shop's table are which fields of our generic events, and how they are written.

Pure but for the one function that reads the file. What is wrong with the mapping itself is found when it is read, before any row is.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from service.domain.errors import Invalid
from service.domain.money import EXPONENTS
from service.domain.order import JsonObject, Milestone

ISO = "iso"
"""A date format of its own: RFC 3339, the offset left out where the mapping names a time zone."""

# Python knows codecs that are no character encodings, and some that guess.
ENCODINGS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "ascii"),
        *("gb18030", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "tis-620", "koi8-r", "macroman"),
        *(f"cp{number}" for number in (874, 932, 949, 950, *range(1250, 1259))),
        *(f"iso-8859-{number}" for number in range(1, 17) if number != 12),
    )
)
"""Encodings a file may be in, by Python's name."""

THOUSANDS = ("", ",", ".", " ", "'", "_")
REVISION_MAX = 900
"""Below the millisecond by which `yields` makes a version older."""
_FILE_MAX = 1024 * 1024
_SKIPPED_MAX = 100
_SIGNS_MAX = 10
_COLUMN_MAX = 200
_OFFSET = re.compile(r"%z|%:z")


class InvalidMapping(Invalid):
    """A key of the mapping file is missing or wrong, or names a column that the file does not have."""

    code = "invalid-mapping"
    title = "The mapping does not fit"


@dataclass(frozen=True, slots=True)
class Spec:
    """Where the value of one field comes from.

    columns: the first that is filled counts; all of them for `sum` and `latest`. value: a constant instead. words:
    another text for each text; others: for a text or blank that is none of them, if there is one. filled: true where
    the cell is. times, less: an amount is multiplied by the cell of one column, then reduced by those of others.
    """

    where: str
    columns: tuple[str, ...] = ()
    value: Any = None
    words: Mapping[str, Any] | None = None
    others: Any = None
    prefix: str = ""
    split: str = ""
    filled: bool = False
    sum: bool = False
    latest: bool = False
    times: str = ""
    less: tuple[str, ...] = ()

    @property
    def named(self) -> Iterator[str]:
        yield from self.columns
        yield from self.less
        if self.times:
            yield self.times


Specs = Mapping[str, Spec]

_TEXT, _MOMENT, _AMOUNT, _FLAG, _LIST = "text", "moment", "amount", "flag", "list"

_ORDER: dict[str, str] = {
    "id": _TEXT,
    "number": _TEXT,
    "updated_at": _MOMENT,
    "placed_at": _MOMENT,
    "currency": _TEXT,
    "cancelled": _FLAG,
    "test": _FLAG,
    "landing_url": _TEXT,
    "click_ids": _LIST,
    "coupon_codes": _LIST,
    "lines_less": _AMOUNT,
    "lines_come_to": _AMOUNT,
    "virtual_payment": _AMOUNT,
    "commission": _AMOUNT,
}
_CUSTOMER = dict.fromkeys(("email", "id", "phone", "country", "payment_fingerprint"), _TEXT)
_ADDRESS = dict.fromkeys(("line1", "line2", "house", "postal_code", "city", "country"), _TEXT)
_TOTALS = dict.fromkeys(("total", "tax", "shipping", "discount"), _AMOUNT)
_MILESTONES = {f"{milestone}_at": _MOMENT for milestone in Milestone}
_LINE = {"id": _TEXT, "sku": _TEXT, "category": _TEXT, "quantity": _AMOUNT, "kind": _TEXT, "net": _AMOUNT}
_REFUND = {
    "id": _TEXT,
    "order_id": _TEXT,
    "updated_at": _MOMENT,
    "refunded_at": _MOMENT,
    "currency": _TEXT,
    "amount": _AMOUNT,
    "dispute_id": _TEXT,
}
_STATUS = {"order_id": _TEXT} | _MILESTONES

_BOTH = "[order] and [refund] of one row speak of one order"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the file is written. A format of dates without an offset is in time_zone."""

    format: str = "csv"
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    skip_after_header: int = 0
    decimal: str = "."
    thousands: str = ""
    currency_signs: tuple[str, ...] = ()
    dates: tuple[str, ...] = (ISO,)
    time_zone: ZoneInfo | None = None


@dataclass(frozen=True, slots=True)
class ImportMapping:
    """A mapping that was read and makes sense by itself. Without order, refund and status, each line is an event already.

    group: the column that is equal in all rows of one order or refund; empty where each row stands alone. skip: rows
    whose cell of a column is one of these are left out. yields: an order's version is a millisecond older than the file
    says, so that at an equal time the shop's own webhook counts. revision: microseconds by which all versions are newer,
    so that what is read by a mended mapping replaces what was read before instead of contradicting it.
    """

    layout: Layout
    group: str = ""
    skip: Mapping[str, frozenset[str]] = field(default_factory=dict)
    yields: bool = False
    revision: int = 0
    order: Specs | None = None
    customer: Specs = field(default_factory=dict)
    address: Specs = field(default_factory=dict)
    totals: Specs = field(default_factory=dict)
    milestones: Specs = field(default_factory=dict)
    line: Specs = field(default_factory=dict)
    refund: Specs | None = None
    status: Specs | None = None

    @property
    def is_events(self) -> bool:
        """Whether the lines of the file are events of ours, and nothing is mapped."""
        return self.order is None and self.refund is None and self.status is None

    @property
    def columns(self) -> dict[str, str]:
        """Each column that is used, and one place in the mapping that names it."""
        found = {column: f"[skip] {column!r}" for column in self.skip}
        if self.group:
            found[self.group] = "group"
        of_order = (self.order, self.customer, self.address, self.totals, self.milestones)
        for specs in (*of_order, self.line, self.refund, self.status):
            for spec in (specs or {}).values():
                for column in spec.named:
                    found.setdefault(column, spec.where)
        return found


def read_mapping(document: JsonObject) -> ImportMapping:
    """Return the mapping that a TOML or JSON document describes. Raises InvalidMapping, naming the key and what to do."""
    _only(document, "", _TOP)
    layout = _layout(document)
    order, refund, status = (_table(document, name) for name in ("order", "refund", "status"))
    if order is None and refund is None and status is None:
        if layout.format != "ndjson" or set(document) - {"format", "encoding"}:
            raise InvalidMapping(
                'The mapping needs a table [order], [refund] or [status]. Only with format = "ndjson" may all be left '
                "out: then each line of the file is an event as in docs/webhooks.md, and nothing but encoding is told."
            )
        return ImportMapping(layout)
    line = _table(document, "line")
    customer = _table(order or {}, "customer") or {}
    mapping = ImportMapping(
        layout,
        group=_group(document),
        skip=_skip(document),
        yields=_flag(document, "yields"),
        revision=_number(document, "revision", REVISION_MAX),
        order=None if order is None else _specs(order, "order", _ORDER, inner=("customer", "totals", "milestones")),
        customer=_specs(customer, "order.customer", _CUSTOMER, inner=("address",)),
        address=_specs(_table(customer, "address") or {}, "order.customer.address", _ADDRESS),
        totals=_specs(_table(order or {}, "totals") or {}, "order.totals", _TOTALS),
        milestones=_specs(_table(order or {}, "milestones") or {}, "order.milestones", _MILESTONES),
        line=_specs(line or {}, "line", _LINE),
        refund=None if refund is None else _specs(refund, "refund", _REFUND),
        status=None if status is None else _specs(status, "status", _STATUS),
    )
    _check_whole(mapping)
    return mapping


_TOP = {
    *(one.name for one in fields(Layout)),
    *("rows", "group", "skip", "yields", "revision", "order", "line", "refund", "status"),
}


def load_mapping(path: Path) -> ImportMapping:
    """Read a mapping file, .toml or .json. Raises InvalidMapping."""
    return read_mapping(load_document(path))


def load_document(path: Path) -> JsonObject:
    """Return the table that a file holds, .toml or .json: a mapping or whatever else. Raises InvalidMapping."""
    try:
        written = path.read_bytes()
        if len(written) > _FILE_MAX:
            raise InvalidMapping(f"{path.name}: has more than {_FILE_MAX} bytes.")
        text = written.decode("utf-8-sig")
        document = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidMapping(f"{path.name}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        form = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        raise InvalidMapping(f"{path.name}: is not {form} in UTF-8: {error}.") from None
    if type(document) is not dict:
        raise InvalidMapping(f"{path.name}: holds no table of keys.")
    return document


def _check_whole(mapping: ImportMapping) -> None:
    """See that each event gets what it cannot be without."""
    if mapping.order is not None:
        _needs(mapping.order, "order", "id", "updated_at", "placed_at", "currency")
        _needs(mapping.line, "line", "net")
        if {"lines_less", "lines_come_to"} <= set(mapping.order):
            raise InvalidMapping("[order] lines_less, lines_come_to: one of them says it all.")
        if mapping.status is not None:
            raise InvalidMapping("[status] beside [order]: put the milestones into [order.milestones].")
    elif mapping.yields:
        raise InvalidMapping("yields: is about the versions of orders, and there is no [order].")
    if mapping.refund is not None:
        if mapping.order is None:
            _needs(mapping.refund, "refund", "id", "order_id", "currency", "refunded_at")
            if mapping.line:
                _needs(mapping.line, "line", "id", "net")
            else:
                _needs(mapping.refund, "refund", "amount")
        else:
            _needs(mapping.refund, "refund", "id", "amount", "refunded_at")
            if set(mapping.refund) & {"order_id", "currency"}:
                raise InvalidMapping(f"[refund] order_id, currency: leave them out; {_BOTH}.")
    if mapping.status is not None:
        _needs(mapping.status, "status", "order_id")
        if len(mapping.status) == 1:
            raise InvalidMapping(f"[status] needs at least one of {', '.join(_MILESTONES)}.")
        if mapping.refund is not None or mapping.line or mapping.group:
            raise InvalidMapping("[status] stands alone: one row, one order's milestones.")
    if mapping.group and not mapping.line:
        raise InvalidMapping('rows = "line" needs a table [line]: what each row says of its line.')


def _needs(specs: Specs, table: str, *names: str) -> None:
    missing = [name for name in names if name not in specs]
    if missing:
        raise InvalidMapping(f"[{table}] lacks {', '.join(missing)}: name the column, or give {{ value = … }}.")


def _layout(document: JsonObject) -> Layout:
    form = _word(document, "format", "csv", one_of=("csv", "ndjson"))
    encoding = _word(document, "encoding", "utf-8")
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        known = ""
    if known not in ENCODINGS:
        raise InvalidMapping(
            f"encoding: {encoding[:40]!r} is not one we read. Often right: utf-8, utf-16, gb18030, windows-1258."
        )
    delimiter = _character(document, "delimiter", ",")
    quote = _character(document, "quote", '"')
    if delimiter == quote:
        raise InvalidMapping("delimiter, quote: cannot be the same character.")
    decimal = _word(document, "decimal", ".", one_of=(".", ","))
    thousands = _word(document, "thousands", "", one_of=THOUSANDS)
    if decimal == thousands:
        raise InvalidMapping("decimal, thousands: cannot be the same sign.")
    skipped = _number(document, "skip_after_header", _SKIPPED_MAX)
    dates = _texts(document.get("dates", ISO), "dates")
    zone = _zone(_word(document, "time_zone", ""))
    _check_dates(dates, zone)
    signs = _texts(document.get("currency_signs", []), "currency_signs")
    if len(signs) > _SIGNS_MAX or any(any(character.isdigit() for character in sign) for sign in signs):
        raise InvalidMapping(f"currency_signs: takes at most {_SIGNS_MAX} signs or words without digits.")
    return Layout(form, known, delimiter, quote, skipped, decimal, thousands, signs, dates, zone)


def _check_dates(formats: Sequence[str], zone: ZoneInfo | None) -> None:
    if not formats:
        raise InvalidMapping('dates: takes "iso" or a format such as "%d/%m/%Y %H:%M", or several.')
    for one in formats:
        if one == ISO:
            continue
        if not {"%Y", "%m", "%d"} <= set(re.findall(r"%.", one)) and not re.search(r"%y|%b|%B|%s", one):
            raise InvalidMapping(f"dates: {one!r} does not say year, month and day (%Y %m %d).")
        try:
            # A sample written and read: shows letters that mean nothing.
            datetime.strptime(datetime(2026, 11, 22, 9, 30, tzinfo=ZoneInfo("UTC")).strftime(one), one)  # noqa: DTZ007 - thrown away
        except ValueError:
            raise InvalidMapping(f"dates: {one!r} is not a format; %d/%m/%Y %H:%M:%S is one.") from None
        if zone is None and not _OFFSET.search(one):
            raise InvalidMapping(
                f'time_zone: is needed, since {one!r} has no offset (%z); for example time_zone = "Asia/Ho_Chi_Minh".'
            )


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidMapping(f"time_zone: {name[:40]!r} is no IANA name such as Asia/Ho_Chi_Minh.") from None


def _group(document: JsonObject) -> str:
    rows = _word(document, "rows", "order", one_of=("order", "line"))
    group = document.get("group")
    if (rows == "line") != (group is not None):
        raise InvalidMapping('group: goes with rows = "line" and names the column that all rows of one order share.')
    return "" if group is None else _column(group, "group")


def _skip(document: JsonObject) -> dict[str, frozenset[str]]:
    table = _table(document, "skip") or {}
    return {_column(column, "[skip]"): frozenset(_texts(words, f"[skip] {column}")) for column, words in table.items()}


def _specs(table: JsonObject, name: str, known: Mapping[str, str], *, inner: Sequence[str] = ()) -> dict[str, Spec]:
    _only(table, f"[{name}] ", {*known, *inner})
    return {key: _spec(table[key], f"[{name}] {key}", kind) for key, kind in known.items() if key in table}


_KEYS = {
    _TEXT: {"column", "first", "value", "map", "others", "prefix"},
    _LIST: {"column", "value", "split"},
    _MOMENT: {"column", "first", "value", "latest"},
    _FLAG: {"column", "value", "map", "others", "filled"},
    _AMOUNT: {"column", "value", "sum", "times", "less"},
}
_FROM = ("column", "first", "value", "sum", "latest", "filled")


def _spec(told: object, where: str, kind: str) -> Spec:
    """Read what is told of one field: the name of a column, or a table."""
    if type(told) is str:
        told = {"column": told}
    if type(told) is not dict:
        raise InvalidMapping(f"{where}: takes the name of a column in quotes, or a table such as {{ value = … }}.")
    _only(told, f"{where}: ", _KEYS[kind])
    ways = [way for way in _FROM if way in told]
    if len(ways) != 1:
        raise InvalidMapping(f"{where}: needs exactly one of {', '.join(way for way in _FROM if way in _KEYS[kind])}.")
    way = ways[0]
    if way == "value":
        return Spec(where, value=_constant(told["value"], where, kind))
    several = way in {"first", "sum", "latest"}
    columns = _columns(told[way], where) if several else (_column(told[way], where),)
    words = told.get("map")
    if words is not None and (type(words) is not dict or not all(_fits(word, kind) for word in words.values())):
        expected = "true or false" if kind == _FLAG else "a text"
        raise InvalidMapping(f"{where}: map is a table from each text of the column to {expected}.")
    if "others" in told and not _fits(told["others"], kind):
        raise InvalidMapping(f"{where}: others is what any other text of the column means.")
    if kind == _FLAG and way == "column" and words is None:
        words = {"true": True, "false": False, "TRUE": True, "FALSE": False, "True": True, "False": False}
    return Spec(
        where,
        columns,
        words=words,
        others=told.get("others"),
        prefix=_text(told.get("prefix", ""), f"{where}: prefix"),
        split=_text(told.get("split", ""), f"{where}: split"),
        filled=way == "filled",
        sum=way == "sum",
        latest=way == "latest",
        times=_column(told["times"], f"{where}: times") if "times" in told else "",
        less=_columns(told["less"], f"{where}: less") if "less" in told else (),
    )


def _fits(value: object, kind: str) -> bool:
    return type(value) is (bool if kind == _FLAG else str)


def _constant(value: object, where: str, kind: str) -> Any:
    if kind == _FLAG and type(value) is bool:
        return value
    if kind == _LIST and type(value) is list and all(type(each) is str for each in value):
        return tuple(value)
    if kind in {_TEXT, _MOMENT, _AMOUNT} and type(value) is str and value:
        if where.endswith("currency") and value not in EXPONENTS:
            raise InvalidMapping(f"{where}: {value[:10]!r} is not an active ISO 4217 code.")
        return value
    expected = {_FLAG: "true or false", _LIST: "a list of texts"}.get(kind, "a text in quotes, as a cell would hold it")
    raise InvalidMapping(f"{where}: value takes {expected}.")


def _only(table: JsonObject, where: str, known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidMapping(f"{where}{unknown[0][:60]}: is no key here. Known are {', '.join(sorted(known))}.")


def _table(document: JsonObject, name: str) -> JsonObject | None:
    table = document.get(name)
    if table is not None and type(table) is not dict:
        raise InvalidMapping(f"{name}: is a table, [{name}].")
    return table


def _flag(document: JsonObject, name: str) -> bool:
    value = document.get(name, False)
    if type(value) is not bool:
        raise InvalidMapping(f"{name}: takes true or false.")
    return value


def _number(document: JsonObject, name: str, most: int) -> int:
    value = document.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidMapping(f"{name}: takes a whole number from 0 to {most}.")
    return value


def _word(document: JsonObject, name: str, usual: str, *, one_of: Sequence[str] = ()) -> str:
    value = _text(document.get(name, usual), name)
    if one_of and value not in one_of:
        raise InvalidMapping(f"{name}: takes one of {', '.join(repr(each) for each in one_of)}.")
    return value


def _character(document: JsonObject, name: str, usual: str) -> str:
    value = _text(document.get(name, usual), name)
    if len(value) != 1 or value in "\r\n\0" or not value.isascii():
        raise InvalidMapping(f"{name}: takes one ASCII character, such as {usual!r}.")
    return value


def _text(value: object, where: str) -> str:
    if type(value) is not str or len(value) > _COLUMN_MAX:
        raise InvalidMapping(f"{where}: takes a text of at most {_COLUMN_MAX} characters.")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    listed = [value] if type(value) is str else value
    if type(listed) is not list:
        raise InvalidMapping(f"{where}: takes a text, or a list of texts.")
    return tuple(_text(each, where) for each in listed)


def _column(value: object, where: str) -> str:
    name = _text(value, where).strip()
    if not name:
        raise InvalidMapping(f"{where}: takes the name of a column.")
    return name


def _columns(value: object, where: str) -> tuple[str, ...]:
    columns = tuple(_column(each, where) for each in _texts(value, where))
    if not columns:
        raise InvalidMapping(f"{where}: takes the names of columns.")
    return columns
